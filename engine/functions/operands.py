"""What the fronts of pointwise operators share: callers by name, checks of operands, the end of `out=`. Publishes nothing."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kernels.book import BOOK

from .. import dispatch, dtypes
from ..dispatch import PointwiseCaller
from ..tensor import Kind, Tensor

NUMBERS = (bool, int, float, complex)


def caller(name: str, node: str = "") -> PointwiseCaller:
    """The caller of a record; with `node` its nodes have that name."""
    found = BOOK[name].apply
    return found.named(node) if node else found


def unary(name: str) -> Callable[[Tensor], Tensor]:
    """A record of one input as a function of tensors."""
    return caller(name).unary()


def binary(name: str, node: str = "") -> Callable[[Tensor, Tensor], Tensor]:
    """A record of two inputs as a function of tensors and numbers."""
    return caller(name, node).binary()


def applied(hot: Callable[..., Tensor], name: str, *operands: Tensor | complex, out: Tensor | None) -> Tensor:
    """A record's result by its hot path, or computed in the memory of `out`."""
    return hot(*operands) if out is None else caller(name)(*operands, out=out)


def into(out: Tensor | None, result: Tensor) -> Tensor:
    """The result, or `out` holding it."""
    return result if out is None else dispatch.into(out, result)


def need_tensor(function: str, argument: str, position: int, value) -> None:
    """TypeError in PyTorch's words unless a value is a tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{function}(): argument '{argument}' (position {position}) must be Tensor, not {type(value).__name__}")


def is_number(value) -> bool:
    """Whether a value is a number of Python's or NumPy's."""
    return isinstance(value, (*NUMBERS, np.number, np.bool_))


def plain(value):
    """A NumPy number as Python's; anything else as it is."""
    return value.item() if not isinstance(value, (Tensor, *NUMBERS)) and is_number(value) else value


def must_fit(value, kind: Kind) -> None:
    """Refuse a number that a tensor's dtype cannot hold, in PyTorch's words; negative ones wrap around in unsigned types."""
    dtype = kind.dtype
    if isinstance(value, complex) and not dtype.is_complex:
        fits = False
    elif dtype.category == dtypes.INTEGER and not isinstance(value, complex):
        limits = dtypes.iinfo(dtype)
        lowest = limits.min if dtype.is_signed else -limits.max
        fits = value == value and lowest <= value <= limits.max
    else:
        fits = True
    if not fits:
        raise RuntimeError(f"value cannot be converted to type {C_NAMES.get(dtype.name, dtype.name)} without overflow")


C_NAMES = {"uint8": "uint8_t", "int8": "int8_t", "int16": "int16_t", "int32": "int", "int64": "int64_t", "float32": "float",
           "float64": "double", "float16": "c10::Half"}


def in_place(name: str, call: Callable, record: str = "", aliases: tuple[str, ...] = (), operator: str = "") -> None:
    """Publish the in-place form of a front: Tensor.name_, of its aliases, and a Python operator such as __iadd__.

    With `record` the kernel writes straight into memory where nothing is recorded.
    """
    method = dispatch.inplace(call, BOOK[record] if record else None)
    method.__name__, method.__doc__ = name + "_", f"In-place version of `{name}`: writes into this tensor and returns it."
    for n in (name, *aliases):
        setattr(Tensor, n + "_", method)
    if operator:
        setattr(Tensor, operator, method)
