"""Layers that convolve: Conv1d to Conv3d and ConvTranspose1d to ConvTranspose3d.

The functions that they call are in `engine.nn.functional.conv`; padding that is not zeros is `functional.pad`.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..dtypes import dtype as Dtype
from ..functions.factories import empty
from ..tensor import Tensor
from . import functional, init
from .functional.sizes import IntOrInts
from .linear import Lazy
from .module import Module
from .parameter import Parameter, UninitializedParameter

MODES = ("zeros", "reflect", "replicate", "circular")


def _each(value: Any, dims: int) -> tuple:
    """A number for every dimension; a sequence is taken as it is."""
    return (value,) * dims if isinstance(value, (int, float)) else tuple(value)


class _Convolution(Module):
    """What all six share. `weight` (out, in / groups, kernel...) or, transposed, (in, out / groups, kernel...); `bias` (out).

    Both start uniform in +-1/sqrt(fan_in), which for the weight is kaiming_uniform with a = sqrt(5). Source: He et al., Delving
    deep into rectifiers (2015), with PyTorch's constants.
    """

    dims = 0

    def __init__(self, in_channels: int, out_channels: int, kernel_size: tuple, stride: tuple, padding: tuple | str,
                 dilation: tuple, transposed: bool, output_padding: tuple, groups: int, bias: bool, padding_mode: str,
                 device: Any, dtype: Dtype | None):
        super().__init__()
        if groups <= 0:
            raise ValueError("groups must be a positive integer")
        if in_channels % groups:
            raise ValueError("in_channels must be divisible by groups")
        if out_channels % groups:
            raise ValueError("out_channels must be divisible by groups")
        if isinstance(padding, str):
            if padding not in ("valid", "same"):
                raise ValueError(f"Invalid padding string {padding!r}, should be one of {{'valid', 'same'}}")
            if padding == "same" and any(s != 1 for s in stride):
                raise ValueError("padding='same' is not supported for strided convolutions")
        if padding_mode not in MODES:
            raise ValueError(f"padding_mode must be one of {{{', '.join(map(repr, MODES))}}}, but got "
                             f"padding_mode={padding_mode!r}")
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.transposed, self.output_padding, self.groups, self.padding_mode = transposed, output_padding, groups, padding_mode
        shape = ((in_channels, out_channels // groups) if transposed else (out_channels, in_channels // groups)) + kernel_size
        self.weight = Parameter(empty(shape, device=device, dtype=dtype))
        if bias:
            self.bias = Parameter(empty(out_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    @property
    def _reversed_padding_repeated_twice(self) -> tuple[int, ...]:
        """The padding as `functional.pad` takes it: the last dimension first, before and after."""
        found: list[int] = []
        for k in range(self.dims - 1, -1, -1):
            if self.padding == "same":
                total = self.dilation[k] * (self.kernel_size[k] - 1)
                found += [total // 2, total - total // 2]
            else:
                found += [0 if self.padding == "valid" else self.padding[k]] * 2
        return tuple(found)

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init._calculate_fan_in_and_fan_out(self.weight)
            if fan_in != 0:
                bound = 1 / math.sqrt(fan_in)
                init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0,) * len(self.kernel_size):
            text += f", padding={self.padding}"
        if self.dilation != (1,) * len(self.kernel_size):
            text += f", dilation={self.dilation}"
        if self.output_padding != (0,) * len(self.kernel_size):
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        return text if self.padding_mode == "zeros" else text + f", padding_mode={self.padding_mode}"


class _Conv(_Convolution):
    """A convolution of images with `dims` spatial dimensions."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: IntOrInts, stride: IntOrInts = 1,
                 padding: IntOrInts | str = 0, dilation: IntOrInts = 1, groups: int = 1, bias: bool = True,
                 padding_mode: str = "zeros", device: Any = None, dtype: Dtype | None = None):
        n = self.dims
        super().__init__(in_channels, out_channels, _each(kernel_size, n), _each(stride, n),
                         padding if isinstance(padding, str) else _each(padding, n), _each(dilation, n), False, (0,) * n, groups,
                         bias, padding_mode, device, dtype)

    def forward(self, input: Tensor) -> Tensor:
        convolve = getattr(functional, f"conv{self.dims}d")
        if self.padding_mode == "zeros":
            return convolve(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        padded = functional.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
        return convolve(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class Conv1d(_Conv):
    """Cross-correlation of signals ([n], in_channels, l) with `out_channels` kernels; see `functional.conv1d` for sizes."""

    dims = 1


class Conv2d(_Conv):
    """Cross-correlation of images ([n], in_channels, h, w) with `out_channels` kernels; see `functional.conv2d` for sizes."""

    dims = 2


class Conv3d(_Conv):
    """Cross-correlation of volumes ([n], in_channels, d, h, w) with `out_channels` kernels; see `functional.conv3d` for sizes."""

    dims = 3


class _ConvTranspose(_Convolution):
    """The transpose of a convolution of images with `dims` spatial dimensions."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: IntOrInts, stride: IntOrInts = 1, padding: IntOrInts = 0,
                 output_padding: IntOrInts = 0, groups: int = 1, bias: bool = True, dilation: IntOrInts = 1,
                 padding_mode: str = "zeros", device: Any = None, dtype: Dtype | None = None):
        if padding_mode != "zeros":
            raise ValueError(f'Only "zeros" padding mode is supported for {type(self).__name__}')
        n = self.dims
        super().__init__(in_channels, out_channels, _each(kernel_size, n), _each(stride, n), _each(padding, n), _each(dilation, n),
                         True, _each(output_padding, n), groups, bias, padding_mode, device, dtype)

    def _output_padding(self, input: Tensor, output_size: Sequence[int] | None) -> tuple[int, ...]:
        """The output padding that gives a wanted size; ValueError where none does."""
        if output_size is None:
            return self.output_padding
        n, batched = self.dims, input.ndim == self.dims + 2
        wanted = tuple(output_size)
        if len(wanted) == input.ndim:
            wanted = wanted[input.ndim - n:]
        if len(wanted) != n:
            raise ValueError(f"ConvTranspose{n}D: for {input.ndim}D input, output_size must have {n} or {n + 1 + batched} elements "
                             f"(got {len(output_size)})")
        smallest = [(size - 1) * s - 2 * p + d * (k - 1) + 1 for size, s, p, d, k in zip(
            input.shape[input.ndim - n:], self.stride, self.padding, self.dilation, self.kernel_size, strict=True)]
        largest = [low + s - 1 for low, s in zip(smallest, self.stride, strict=True)]
        if any(not low <= w <= high for low, w, high in zip(smallest, wanted, largest, strict=True)):
            raise ValueError(f"requested an output size of {tuple(output_size)}, but valid sizes range from {smallest} to "
                             f"{largest} (for an input of {input.shape[input.ndim - n:]})")
        return tuple(w - low for w, low in zip(wanted, smallest, strict=True))

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        transpose = getattr(functional, f"conv_transpose{self.dims}d")
        return transpose(input, self.weight, self.bias, self.stride, self.padding, self._output_padding(input, output_size),
                         self.groups, self.dilation)


class ConvTranspose1d(_ConvTranspose):
    """The transpose of a convolution of signals; `forward(input, output_size)` chooses among the sizes that a stride allows."""

    dims = 1


class ConvTranspose2d(_ConvTranspose):
    """The transpose of a convolution of images; `forward(input, output_size)` chooses among the sizes that a stride allows."""

    dims = 2


class ConvTranspose3d(_ConvTranspose):
    """The transpose of a convolution of volumes; `forward(input, output_size)` chooses among the sizes that a stride allows."""

    dims = 3


# --- channels from the first input ------------------------------------------------------------------------------------

class _LazyConvolution(Lazy):
    """A convolution whose `in_channels` come from its first input."""

    def _leave_open(self, out_channels: int, bias: bool, device: Any, dtype: Dtype | None) -> None:
        self.out_channels = out_channels
        self.weight = UninitializedParameter(device=device, dtype=dtype)
        if bias:
            self.bias = UninitializedParameter(device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """Draw weight and bias anew, once they have a shape."""
        if not self.has_uninitialized_params() and self.in_channels:
            super().reset_parameters()

    def initialize_parameters(self, input: Tensor, *args: Any, **kwargs: Any) -> None:
        """Take `in_channels` from an input ([n], in_channels, spatial...)."""
        if not self.has_uninitialized_params():
            return
        if input.ndim not in (self.dims + 1, self.dims + 2):
            raise RuntimeError(f"Expected {self.dims + 1}D (unbatched) or {self.dims + 2}D (batched) input to "
                               f"{type(self).__name__}, but got input of size: {tuple(input.shape)}")
        self.in_channels = input.shape[input.ndim - self.dims - 1]
        if self.in_channels % self.groups:
            raise ValueError("in_channels must be divisible by groups")
        one, other = self.in_channels, self.out_channels
        sizes = (one, other // self.groups) if self.transposed else (other, one // self.groups)
        self.weight.materialize(sizes + self.kernel_size)
        if self.bias is not None:
            self.bias.materialize((other,))
        self.reset_parameters()


class _LazyConv(_LazyConvolution):
    def __init__(self, out_channels: int, kernel_size: IntOrInts, stride: IntOrInts = 1, padding: IntOrInts | str = 0,
                 dilation: IntOrInts = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros", device: Any = None,
                 dtype: Dtype | None = None):
        super().__init__(0, 0, kernel_size, stride, padding, dilation, groups, False, padding_mode, device, dtype)
        self._leave_open(out_channels, bias, device, dtype)


class _LazyConvTranspose(_LazyConvolution):
    def __init__(self, out_channels: int, kernel_size: IntOrInts, stride: IntOrInts = 1, padding: IntOrInts = 0,
                 output_padding: IntOrInts = 0, groups: int = 1, bias: bool = True, dilation: IntOrInts = 1,
                 padding_mode: str = "zeros", device: Any = None, dtype: Dtype | None = None):
        super().__init__(0, 0, kernel_size, stride, padding, output_padding, groups, False, dilation, padding_mode, device, dtype)
        self._leave_open(out_channels, bias, device, dtype)


class LazyConv1d(_LazyConv, Conv1d):
    """A Conv1d whose `in_channels` come from its first input."""

    cls_to_become = Conv1d


class LazyConv2d(_LazyConv, Conv2d):
    """A Conv2d whose `in_channels` come from its first input."""

    cls_to_become = Conv2d


class LazyConv3d(_LazyConv, Conv3d):
    """A Conv3d whose `in_channels` come from its first input."""

    cls_to_become = Conv3d


class LazyConvTranspose1d(_LazyConvTranspose, ConvTranspose1d):
    """A ConvTranspose1d whose `in_channels` come from its first input."""

    cls_to_become = ConvTranspose1d


class LazyConvTranspose2d(_LazyConvTranspose, ConvTranspose2d):
    """A ConvTranspose2d whose `in_channels` come from its first input."""

    cls_to_become = ConvTranspose2d


class LazyConvTranspose3d(_LazyConvTranspose, ConvTranspose3d):
    """A ConvTranspose3d whose `in_channels` come from its first input."""

    cls_to_become = ConvTranspose3d


__all__ = [
    "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d",
    "LazyConv1d", "LazyConv2d", "LazyConv3d",
    "LazyConvTranspose1d", "LazyConvTranspose2d", "LazyConvTranspose3d",
]
