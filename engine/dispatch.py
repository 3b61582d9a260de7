"""From a call on tensors to a kernel of the table: the table as users see it, and a caller for every record of the book.

`Pointwise` records get a `PointwiseCaller` (the hot path), views a `ViewCaller`, folds and other structural operators a
`GeneralCaller`. Callers promote dtypes, check devices, run the kernel, wrap the result, and record. What a call means
(argument names, dims, out=) is settled above, in `engine.functions`, which finds here the pieces that it shares. Users extend
the table with `register`.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kernels import table as kernel_table
from kernels.book import BOOK, Operator, Pointwise

from .casts import cast, cast_array
from .general import GeneralCaller
from .large import LARGE
from .pointwise import PointwiseCaller, sum_to_shape
from .promotion import broadcast_error, common_device, constant, item_of, operand
from .saved import FREED, FREED_TEXT, alias, overwritten
from .writes import inplace, into, store, write, write_by, writeable


def table() -> kernel_table.Table:
    """The dispatch table: a mapping from (operator, device) to kernel. Print it to see every operator and where it runs."""
    return kernel_table.TABLE


def register(operator: str, device: str = "cpu", kernel: Callable | None = None, *, host: bool = False) -> Any:
    """Replace or add the kernel of an operator on a device; usable as a decorator.

    `kernel` is a callable of arrays (NumPy's on "cpu") in the operator's order, with its options as keywords, returning
    an array (or a tuple). It decides values only: promotion, shapes of gradients and recording stay the engine's.
    `host=True` marks an entry whose numbers are computed on the CPU. `table().unregister(operator, device)` goes back.
    Errors: KeyError for an unknown operator, ValueError for an unknown device, TypeError for what is not callable.
    """
    if kernel is None:
        return lambda function: register(operator, device, function, host=host) or function
    kernel_table.TABLE.register(operator, device, kernel, host)
    return None


def _entry_changed(name: str, device: str) -> None:
    apply = getattr(BOOK[name], "apply", None)
    if apply is not None and hasattr(apply, "loops"):
        apply.loops.clear()
        apply.gradients.clear()
        if hasattr(apply, "whole"):
            apply.whole.clear()


kernel_table.TABLE.listeners.append(_entry_changed)


def attach(op: Operator) -> None:
    """Give a record its caller."""
    if getattr(op, "view", False):
        from .views import ViewCaller
        op.apply = ViewCaller(op)
    else:
        op.apply = PointwiseCaller(op) if isinstance(op, Pointwise) else GeneralCaller(op)


def attach_all() -> None:
    """Give every record of the book that has none its caller."""
    for op in BOOK.values():
        if op.apply is None:
            attach(op)


__all__ = [
    "FREED", "FREED_TEXT", "GeneralCaller", "LARGE", "PointwiseCaller", "alias", "attach", "attach_all",
    "broadcast_error", "cast", "cast_array", "common_device", "constant", "inplace", "into", "item_of", "operand",
    "overwritten", "register", "store", "sum_to_shape", "table", "write", "write_by", "writeable",
]
