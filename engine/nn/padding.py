"""Padding layers for one, two and three spatial dimensions. `padding` is a number for all ends, or pairs (before, after), of the
last dimension first. The function is `functional.pad`.
"""
from __future__ import annotations

from ..tensor import Tensor
from . import functional as F
from .module import Module

_Padding = int | tuple[int, ...]


class _Pad(Module):
    """What all share: so many spatial dimensions, and a mode of `functional.pad`."""

    dims: int
    mode: str

    def __init__(self, padding: _Padding) -> None:
        super().__init__()
        self.padding = tuple(padding) if hasattr(padding, "__iter__") else (padding,) * (2 * self.dims)

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _Circular(_Pad):
    mode = "circular"

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() not in (self.dims + 1, self.dims + 2):
            raise ValueError(f"expected {self.dims + 1}D or {self.dims + 2}D input (got {input.dim()}D input)")
        return super().forward(input)


class CircularPad1d(_Circular):
    """The last dimension continued periodically."""

    dims = 1


class CircularPad2d(_Circular):
    """The last two dimensions continued periodically."""

    dims = 2


class CircularPad3d(_Circular):
    """The last three dimensions continued periodically."""

    dims = 3


class _Constant(_Pad):
    mode = "constant"

    def __init__(self, padding: _Padding, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_Constant):
    """A number at the ends of the last dimension."""

    dims = 1


class ConstantPad2d(_Constant):
    """A number at the ends of the last two dimensions."""

    dims = 2


class ConstantPad3d(_Constant):
    """A number at the ends of the last three dimensions."""

    dims = 3


class _Zero(_Constant):
    def __init__(self, padding: _Padding) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ZeroPad1d(_Zero, ConstantPad1d):
    """Zeros at the ends of the last dimension."""


class ZeroPad2d(_Zero, ConstantPad2d):
    """Zeros at the ends of the last two dimensions."""


class ZeroPad3d(_Zero, ConstantPad3d):
    """Zeros at the ends of the last three dimensions."""


class ReflectionPad1d(_Pad):
    """The last dimension mirrored at its ends."""

    dims, mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """The last two dimensions mirrored at their ends."""

    dims, mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """The last three dimensions mirrored at their ends."""

    dims, mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """The last dimension with its end elements repeated."""

    dims, mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """The last two dimensions with their end elements repeated."""

    dims, mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """The last three dimensions with their end elements repeated."""

    dims, mode = 3, "replicate"


__all__ = ["CircularPad1d", "CircularPad2d", "CircularPad3d", "ConstantPad1d", "ConstantPad2d", "ConstantPad3d", "ReflectionPad1d",
           "ReflectionPad2d", "ReflectionPad3d", "ReplicationPad1d", "ReplicationPad2d", "ReplicationPad3d", "ZeroPad1d",
           "ZeroPad2d", "ZeroPad3d"]
