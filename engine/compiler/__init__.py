"""`engine.compile`: from the tape of one run to native kernels.

`trace` records launches (`recorders` hand them over, `waiting` says which of them wait, `deferral` keeps those) as a `graph`,
`passes` improve it, `schedule` decides what shares a kernel, `nest` and `straight` write kernels, `launching` those of single
operators, `program` strings them together, `native` makes one call of several; `function` is what users call, `quick` the
shortest way through such a call; `autodiff` splits off the backward pass.
"""
from .function import CacheInfo, CompiledFunction, compile

__all__ = ["CacheInfo", "CompiledFunction", "compile"]
