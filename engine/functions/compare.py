"""Comparing: isclose, allclose, equal, is_same_size, is_nonzero, dist; `~` and the other names of comparisons.

The comparisons themselves (eq, lt, ...) are records, published by engine.functions.derived.
"""
from __future__ import annotations

from kernels.book import BOOK

from ..dispatch import common_device
from ..errors import DTypeError
from ..tensor import Tensor
from .operands import need_tensor, unary
from .registry import public

_not = unary("bitwise_not")


def _invert(self: Tensor) -> Tensor:
    """Every bit changed; `not` for bool. TypeError for other dtypes."""
    if self._kind.dtype.category >= 2:
        raise TypeError("~ (operator.invert) is only implemented on integer and Boolean-type tensors")
    return _not(self)


_invert.__name__ = "__invert__"
Tensor.__invert__ = _invert


@public()
def isclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> Tensor:
    """Whether |input - other| <= atol + rtol |other|, element by element; NaN is close to NaN where `equal_nan`.

    RuntimeError for different dtypes and for negative tolerances.
    """
    need_tensor("isclose", "input", 1, input)
    need_tensor("isclose", "other", 2, other)
    if input._kind.dtype is not other._kind.dtype:
        raise DTypeError(f"{input._kind.dtype.scalar} did not match {other._kind.dtype.scalar}")
    for name, value in (("rtol", rtol), ("atol", atol)):
        if not value >= 0:
            raise RuntimeError(f"{name} must be greater than or equal to zero, but got {value}")
    return BOOK["is_close"](input, other, float(rtol), float(atol), 1.0 if equal_nan else 0.0)


@public()
def allclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
    """Whether all elements are close (see isclose)."""
    return bool(isclose(input, other, rtol, atol, equal_nan).all().item())


@public()
def equal(input: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape and equal elements; dtypes may differ."""
    need_tensor("equal", "input", 1, input)
    need_tensor("equal", "other", 2, other)
    common_device("equal", (input, other))
    return input._array.shape == other._array.shape and bool(BOOK["eq"](input, other).all().item())


@public()
def is_same_size(input: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape."""
    return input._array.shape == other._array.shape


@public()
def is_nonzero(input: Tensor) -> bool:
    """Whether the only element is not zero. RuntimeError for none or several."""
    return bool(input)


@public()
def dist(input: Tensor, other: Tensor, p: float = 2) -> Tensor:
    """The p-norm of input - other, broadcast."""
    return (input - other).norm(p)
