"""Layers that pool: MaxPool, MaxUnpool, AvgPool, LPPool, AdaptiveAvgPool and AdaptiveMaxPool in one to three dimensions.

They keep arguments and show them; what they compute is in `engine.nn.functional.pooling`.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..tensor import Tensor
from . import functional
from .functional.sizes import IntOrInts
from .module import Module

OutputSize = int | None | Sequence[int | None]


def _each(value: Any, dims: int) -> tuple[int, ...]:
    return (value,) * dims if isinstance(value, int) else tuple(value)


class _MaxPool(Module):
    """Largest elements of windows; `stride` is the kernel's size unless given."""

    dims = 0

    def __init__(self, kernel_size: IntOrInts, stride: IntOrInts | None = None, padding: IntOrInts = 0, dilation: IntOrInts = 1,
                 return_indices: bool = False, ceil_mode: bool = False):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation, self.return_indices, self.ceil_mode = padding, dilation, return_indices, ceil_mode

    def forward(self, input: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        pool = getattr(functional, f"max_pool{self.dims}d")
        return pool(input, self.kernel_size, self.stride, self.padding, self.dilation, ceil_mode=self.ceil_mode,
                    return_indices=self.return_indices)

    def extra_repr(self) -> str:
        return (f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
                f"ceil_mode={self.ceil_mode}")


class _MaxUnpool(Module):
    """Puts elements back at the indices of a max pool."""

    dims = 0

    def __init__(self, kernel_size: IntOrInts, stride: IntOrInts | None = None, padding: IntOrInts = 0):
        super().__init__()
        self.kernel_size = _each(kernel_size, self.dims)
        self.stride = self.kernel_size if stride is None else _each(stride, self.dims)
        self.padding = _each(padding, self.dims)

    def forward(self, input: Tensor, indices: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        unpool = getattr(functional, f"max_unpool{self.dims}d")
        return unpool(input, indices, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(Module):
    """Means of windows of signals ([n], c, l)."""

    def __init__(self, kernel_size: IntOrInts, stride: IntOrInts | None = None, padding: IntOrInts = 0, ceil_mode: bool = False,
                 count_include_pad: bool = True):
        super().__init__()
        self.kernel_size = _each(kernel_size, 1)
        self.stride = self.kernel_size if stride is None else _each(stride, 1)
        self.padding, self.ceil_mode, self.count_include_pad = _each(padding, 1), ceil_mode, count_include_pad

    def forward(self, input: Tensor) -> Tensor:
        return functional.avg_pool1d(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _AvgPool(Module):
    """Means of windows of images or volumes."""

    dims = 0

    def __init__(self, kernel_size: IntOrInts, stride: IntOrInts | None = None, padding: IntOrInts = 0, ceil_mode: bool = False,
                 count_include_pad: bool = True, divisor_override: int | None = None):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode, self.count_include_pad = padding, ceil_mode, count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input: Tensor) -> Tensor:
        pool = getattr(functional, f"avg_pool{self.dims}d")
        return pool(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
                    self.divisor_override)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _LPPool(Module):
    """Power averages of windows: (sum of x^p)^(1/p)."""

    dims = 0

    def __init__(self, norm_type: float, kernel_size: IntOrInts, stride: IntOrInts | None = None, ceil_mode: bool = False):
        super().__init__()
        self.norm_type, self.kernel_size, self.stride, self.ceil_mode = norm_type, kernel_size, stride, ceil_mode

    def forward(self, input: Tensor) -> Tensor:
        pool = getattr(functional, f"lp_pool{self.dims}d")
        return pool(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)

    def extra_repr(self) -> str:
        return f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, ceil_mode={self.ceil_mode}"


class _AdaptiveAvgPool(Module):
    """Means of windows that cover the input evenly; None keeps a size."""

    dims = 0

    def __init__(self, output_size: OutputSize):
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        return getattr(functional, f"adaptive_avg_pool{self.dims}d")(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class _AdaptiveMaxPool(Module):
    """Largest elements of windows that cover the input evenly; None keeps a size."""

    dims = 0

    def __init__(self, output_size: OutputSize, return_indices: bool = False):
        super().__init__()
        self.output_size, self.return_indices = output_size, return_indices

    def forward(self, input: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return getattr(functional, f"adaptive_max_pool{self.dims}d")(input, self.output_size, self.return_indices)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class MaxPool1d(_MaxPool):
    """The largest element of each window of signals ([n], c, l)."""

    dims = 1


class MaxPool2d(_MaxPool):
    """The largest element of each window of images ([n], c, h, w)."""

    dims = 2


class MaxPool3d(_MaxPool):
    """The largest element of each window of volumes ([n], c, d, h, w)."""

    dims = 3


class MaxUnpool1d(_MaxUnpool):
    """Elements of a MaxPool1d put back at its indices, zeros elsewhere."""

    dims = 1


class MaxUnpool2d(_MaxUnpool):
    """Elements of a MaxPool2d put back at its indices, zeros elsewhere."""

    dims = 2


class MaxUnpool3d(_MaxUnpool):
    """Elements of a MaxPool3d put back at its indices, zeros elsewhere."""

    dims = 3


class AvgPool2d(_AvgPool):
    """The mean of each window of images ([n], c, h, w)."""

    dims = 2


class AvgPool3d(_AvgPool):
    """The mean of each window of volumes ([n], c, d, h, w)."""

    dims = 3


class LPPool1d(_LPPool):
    """(sum of x^p)^(1/p) over each window of signals ([n], c, l)."""

    dims = 1


class LPPool2d(_LPPool):
    """(sum of x^p)^(1/p) over each window of images ([n], c, h, w)."""

    dims = 2


class LPPool3d(_LPPool):
    """(sum of x^p)^(1/p) over each window of volumes ([n], c, d, h, w)."""

    dims = 3


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """The means of windows that cover signals ([n], c, l) evenly."""

    dims = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """The means of windows that cover images ([n], c, h, w) evenly."""

    dims = 2


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """The means of windows that cover volumes ([n], c, d, h, w) evenly."""

    dims = 3


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """The largest elements of windows that cover signals ([n], c, l) evenly."""

    dims = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """The largest elements of windows that cover images ([n], c, h, w) evenly."""

    dims = 2


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """The largest elements of windows that cover volumes ([n], c, d, h, w) evenly."""

    dims = 3


__all__ = [
    "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d", "AdaptiveMaxPool3d",
    "AvgPool1d", "AvgPool2d", "AvgPool3d", "LPPool1d", "LPPool2d", "LPPool3d",
    "MaxPool1d", "MaxPool2d", "MaxPool3d", "MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d",
]
