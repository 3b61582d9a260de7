"""`engine.compile`: from the tape of one run to native kernels.

`trace` records launches as a `graph`, `passes` improve it, `schedule` decides what shares a kernel, `nest` and `straight`
write kernels, `program` strings them together, `function` is what users call; `autodiff` splits off the backward pass.
"""
from .function import CacheInfo, CompiledFunction, compile

__all__ = ["CacheInfo", "CompiledFunction", "compile"]
