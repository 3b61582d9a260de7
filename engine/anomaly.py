"""Anomaly mode: remembers the forward line of every node, and checks what each node's backward returns.

Off, it costs nothing: nodes take their order from `clock`, and turning the mode on puts a clock there that also notes where it
was asked. `engine.walk` hands nodes to `run` while the mode is on; `engine.autograd` holds the switches.
"""
from __future__ import annotations

import sys
import warnings

from .errors import GradError

MOST = 200_000                  # forward lines kept at most; the oldest are forgotten first


class _State:
    """The switch; one for all threads, as in PyTorch."""

    enabled = False
    check_nan = True


state = _State()
_lines: dict[int, str] = {}     # order of a node -> traceback of the line that made it


class _Clock:
    """Gives nodes their order, as `tape.clock`, and notes the traceback."""

    def __init__(self, clock):
        self.clock = clock

    def __next__(self) -> int:
        order = next(self.clock)
        frame = sys._getframe(1)
        while frame is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] in ("engine", "kernels"):
            frame = frame.f_back
        if frame is not None:
            import traceback
            _lines[order] = "".join(traceback.format_stack(frame))
            if len(_lines) > MOST:
                del _lines[next(iter(_lines))]
        return order


def switch(enabled: bool, check_nan: bool = True) -> None:
    """Turn the mode on or off."""
    from . import tape
    plain = tape.clock.clock if isinstance(tape.clock, _Clock) else tape.clock
    clock = _Clock(plain) if enabled else plain
    for module in list(sys.modules.values()):       # every room of the engine that makes nodes has taken `clock` by name
        name = getattr(module, "__name__", "")
        if isinstance(name, str) and name.startswith("engine.") and "clock" in vars(module):
            module.clock = clock
    state.enabled, state.check_nan = bool(enabled), bool(check_nan)


def run(node, g):
    """`node.backward(g)`; an error, or NaN where asked to look, is reported with the forward line."""
    try:
        results = node.backward(g)
        if state.check_nan:
            for k, result in enumerate(results):
                if result is not None and result._kind.dtype.category >= 2 and bool((result != result).any().item()):
                    raise GradError(f"Function '{type(node).__name__}' returned nan values in its {k}th output.")
    except Exception:
        line = _lines.get(node.order)
        told = f" Traceback of forward call that caused the error:\n{line}" if line else (
            " No forward pass information available. Enable detect anomaly during forward pass for more information.")
        warnings.warn(f"Error detected in {type(node).__name__}.{told}", UserWarning, stacklevel=2)
        raise
    return results
