"""Convolutions and transposed convolutions in one to three dimensions, and sliding blocks: unfold and fold.

Here arguments become one number for each dimension and are checked in PyTorch's words; the records are in
`kernels.ops.convolution`. Modules are in `engine.nn.conv` and `engine.nn.fold`; `engine.conv2d` and its kin are these too.
"""
from __future__ import annotations

from typing import Any

from kernels.book import BOOK

from ...dispatch import common_device
from ...errors import DTypeError, ShapeError
from ...functions.matmul import c_name
from ...tensor import Tensor
from .sizes import IntOrInts, ints, tensors, worded

# --- arguments of convolutions ----------------------------------------------------------------------------------------

def _spatial(function: str, argument: str, position: int, value: Any, dims: int) -> tuple[int, ...]:
    found = ints(function, argument, position, value)
    if len(found) == 1:
        return found * dims
    if len(found) != dims:
        raise ShapeError(f"expected {argument} to be a single integer value or a list of {dims} values to match the convolution "
                         f"dimensions, but got {argument}={list(found)}")
    return found


def _batched(function: str, input: Tensor, dims: int) -> tuple[Tensor, bool]:
    """The input with a batch dimension, and whether it had one."""
    if input.ndim == dims + 2:
        return input, True
    if input.ndim != dims + 1:
        raise ShapeError(f"Expected {dims + 1}D (unbatched) or {dims + 2}D (batched) input to {function}, but got input of size: "
                         f"{list(input.shape)}")
    return BOOK["unsqueeze"](input, dim=0), False


def _check_numbers(padding: tuple, stride: tuple, dilation: tuple, groups: int, output_padding: tuple = ()) -> None:
    if any(p < 0 for p in padding):
        raise ShapeError("negative padding is not supported")
    if any(p < 0 for p in output_padding):
        raise ShapeError("negative output_padding is not supported")
    if any(s <= 0 for s in stride):
        raise ShapeError("non-positive stride is not supported")
    if any(d <= 0 for d in dilation):
        raise ShapeError(f"dilation should be greater than zero, but got {list(dilation)}")
    if groups <= 0:
        raise ShapeError("non-positive groups is not supported")


def _check_weight(weight: Tensor, groups: int) -> None:
    shape = list(weight.shape)
    if weight.shape[0] < groups:
        raise ShapeError(f"Given groups={groups}, expected weight to be at least {groups} at dimension 0, but got weight of size "
                         f"{shape} instead")
    if weight.shape[0] % groups:
        raise ShapeError(f"Given groups={groups}, expected weight to be divisible by {groups} at dimension 0, but got weight of "
                         f"size [{shape}] instead")
    if 0 in shape[2:]:
        raise ShapeError("kernel size should be greater than zero, but got "
                         f"{worded('kernel', shape[2:] if len(shape) > 3 else [1, *shape[2:]])}")


def _check_dtypes(function: str, input: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    common_device(function, [t for t in (input, weight, bias) if t is not None])
    if input.dtype is not weight.dtype:
        raise DTypeError(f"expected scalar type {input.dtype.scalar} but found {weight.dtype.scalar}; "
                         f"{function} takes input and weight of one dtype")
    if bias is not None and bias.dtype is not input.dtype:
        raise DTypeError(f"Input type ({c_name(input.dtype)}) and bias type ({c_name(bias.dtype)}) should be the same")


def _check_bias(weight: Tensor, bias: Tensor | None, channels: int, transposed: bool) -> None:
    if bias is not None and tuple(bias.shape) != (channels,):
        given = "Given transposed=1, weight" if transposed else "Given weight"
        raise ShapeError(f"{given} of size {list(weight.shape)}, expected bias to be 1-dimensional with {channels} elements, but "
                         f"got bias of size {list(bias.shape)} instead")


def _check_not_empty(input: Tensor) -> None:
    if not input.numel() and input.shape[0] and input.shape[1]:
        raise ShapeError(f"Only zero batch or zero channel inputs are supported, but got input shape: {list(input.shape)}")


# --- convolution ------------------------------------------------------------------------------------------------------

def _apply(name: str, input: Tensor, weight: Tensor, bias: Tensor | None, **options: Any) -> Tensor:
    """A record on real tensors; on complex ones the four real products."""
    if input.is_complex():
        (a, b), (c, d) = ((BOOK["real"](t), BOOK["imag"](t)) for t in (input, weight))
        real = BOOK[name](a, c, **options) - BOOK[name](b, d, **options)
        imaginary = BOOK[name](a, d, **options) + BOOK[name](b, c, **options)
        found = BOOK["complex"](real, imaginary)
        return found if bias is None else found + bias.reshape(-1, *[1] * (input.ndim - 2))
    if bias is None:
        return BOOK[name](input, weight, **options)
    return BOOK[name + "_affine"](input, weight, bias, **options)


def _same_padding(input: Tensor, kernel: tuple, stride: tuple, dilation: tuple) -> tuple[Tensor, tuple[int, ...]]:
    """Padding that keeps sizes; where it is odd, the input gets the one that is too many at its end."""
    if any(s != 1 for s in stride):
        raise ShapeError("padding='same' is not supported for strided convolutions")
    totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    for d, total in enumerate(totals, 2):
        if total % 2:
            shape = (*input.shape[:d], input.shape[d] + 1, *input.shape[d + 1:])
            input = BOOK["slice_backward"](input, shape=shape, dim=d, start=0, stop=input.shape[d], step=1)
    return input, tuple(t // 2 for t in totals)


def _convolution(function: str, dims: int, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any,
                 dilation: Any, groups: int) -> Tensor:
    tensors(function, input=input, weight=weight, **({} if bias is None else {"bias": bias}))
    x, batched = _batched(function, input, dims)
    across = weight.ndim - 2
    stride = _spatial(function, "stride", 4, stride, across)
    dilation = _spatial(function, "dilation", 6, dilation, across)
    if weight.ndim != x.ndim:
        raise ShapeError(f"Expected {x.ndim}-dimensional weight for {function}, but got weight of size "
                         f"{list(weight.shape)} instead")
    same = False
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise ShapeError(f"Invalid padding string: '{padding}'")
        same, padding = padding == "same", (0,) * across
    else:
        padding = _spatial(function, "padding", 5, padding, across)
    _check_numbers(padding, stride, dilation, groups)
    kernel = tuple(weight.shape[2:])
    _check_weight(weight, groups)
    if x.shape[1] != weight.shape[1] * groups:
        raise ShapeError(f"Given groups={groups}, weight of size {list(weight.shape)}, expected input{list(x.shape)} to have "
                         f"{weight.shape[1] * groups} channels, but got {x.shape[1]} channels instead")
    _check_bias(weight, bias, weight.shape[0], False)
    if same:
        x, padding = _same_padding(x, kernel, stride, dilation)
    padded = [n + 2 * p for n, p in zip(x.shape[2:], padding, strict=True)]
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    if any(n < r for n, r in zip(padded, reach, strict=True)):
        raise ShapeError(f"Calculated padded input size per channel: ({' x '.join(map(str, padded))}). Kernel size: "
                         f"({' x '.join(map(str, reach))}). Kernel size can't be greater than actual input size")
    _check_not_empty(x)
    _check_dtypes(function, x, weight, bias)
    if x.dtype.name == "bool":
        kind = "compute_columns3d" if dims == 3 else "slow_conv2d_cpu"
        raise NotImplementedError(f"\"{kind}\" not implemented for 'Bool'")
    out = _apply("convolution", x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups)
    return out if batched else out.squeeze(0)


def conv1d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: IntOrInts = 1, padding: IntOrInts | str = 0,
           dilation: IntOrInts = 1, groups: int = 1) -> Tensor:
    """Cross-correlation of signals ([n], c, l) with weights (m, c / groups, k): ([n], m, l'), plus `bias` (m).

    l' = (l + 2 padding - dilation (k - 1) - 1) // stride + 1; `padding` may be "valid" or "same". One dtype.
    """
    return _convolution("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: IntOrInts = 1, padding: IntOrInts | str = 0,
           dilation: IntOrInts = 1, groups: int = 1) -> Tensor:
    """Cross-correlation of images ([n], c, h, w) with weights (m, c / groups, kh, kw): ([n], m, h', w'), plus `bias` (m).

    Sizes as those of `conv1d`, in each dimension; `padding` may be "valid" or "same". One dtype.
    """
    return _convolution("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: IntOrInts = 1, padding: IntOrInts | str = 0,
           dilation: IntOrInts = 1, groups: int = 1) -> Tensor:
    """Cross-correlation of volumes ([n], c, d, h, w) with weights (m, c / groups, kd, kh, kw), plus `bias` (m).

    Sizes as those of `conv1d`, in each dimension; `padding` may be "valid" or "same". One dtype.
    """
    return _convolution("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


# --- transposed -------------------------------------------------------------------------------------------------------

def _check_output_padding(output_padding: tuple, stride: tuple, dilation: tuple) -> None:
    if all(o < max(s, d) for o, s, d in zip(output_padding, stride, dilation, strict=True)):
        return
    if len(stride) == 1:        # PyTorch computes one dimension as two
        output_padding, stride, dilation = (0, *output_padding), (1, *stride), (1, *dilation)
    raise ShapeError("output padding must be smaller than either stride or dilation, but got "
                     f"{worded('output_padding', output_padding)} {worded('stride', stride)} {worded('dilation', dilation)}")


def _transposed(function: str, dims: int, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any,
                output_padding: Any, groups: int, dilation: Any) -> Tensor:
    tensors(function, input=input, weight=weight, **({} if bias is None else {"bias": bias}))
    x, batched = _batched(function, input, dims)
    across = weight.ndim - 2
    stride = _spatial(function, "stride", 4, stride, across)
    padding = _spatial(function, "padding", 5, padding, across)
    output_padding = _spatial(function, "output_padding", 6, output_padding, across)
    dilation = _spatial(function, "dilation", 8, dilation, across)
    if weight.ndim != x.ndim:
        raise ShapeError(f"Expected {x.ndim}-dimensional weight for {function}, but got weight of size "
                         f"{list(weight.shape)} instead")
    _check_numbers(padding, stride, dilation, groups, output_padding)
    _check_weight(weight, groups)
    if x.shape[1] != weight.shape[0]:
        raise ShapeError(f"Given transposed=1, weight of size {list(weight.shape)}, expected input{list(x.shape)} to have "
                         f"{weight.shape[0]} channels, but got {x.shape[1]} channels instead")
    _check_bias(weight, bias, weight.shape[1] * groups, True)
    if not weight.shape[1]:
        raise ShapeError(f"non-empty {'' if dims == 3 else '2D or '}{max(weight.ndim, 4)}D weight tensor expected, but "
                         f"got: {list(weight.shape)}")
    _check_not_empty(x)
    _check_output_padding(output_padding, stride, dilation)
    size = tuple((n - 1) * s - 2 * p + d * (k - 1) + o + 1 for n, s, p, d, k, o in zip(
        x.shape[2:], stride, padding, dilation, weight.shape[2:], output_padding, strict=True))
    if any(n < 1 for n in size):
        raise ShapeError(f"Given input size per channel: ({' x '.join(map(str, x.shape[2:]))}). Calculated output size per "
                         f"channel: ({' x '.join(map(str, size))}). Output size is too small")
    _check_dtypes(function, x, weight, bias)
    if not (x.is_floating_point() or x.is_complex() or x.dtype.name == "int64"):
        raise NotImplementedError(f'"slow_conv_transpose{max(dims, 2)}d_out_cpu" not implemented for \'{x.dtype.scalar}\'')
    out = _apply("convolution_back", x, weight, bias, size=size, stride=stride, padding=padding, dilation=dilation, groups=groups)
    return out if batched else out.squeeze(0)


def conv_transpose1d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: IntOrInts = 1, padding: IntOrInts = 0,
                     output_padding: IntOrInts = 0, groups: int = 1, dilation: IntOrInts = 1) -> Tensor:
    """The transpose of a convolution: ([n], c, l) with weights (c, m / groups, k) gives ([n], m, l'), plus `bias` (m).

    l' = (l - 1) stride - 2 padding + dilation (k - 1) + output_padding + 1. One dtype.
    """
    return _transposed("conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: IntOrInts = 1, padding: IntOrInts = 0,
                     output_padding: IntOrInts = 0, groups: int = 1, dilation: IntOrInts = 1) -> Tensor:
    """The transpose of a convolution: ([n], c, h, w) with weights (c, m / groups, kh, kw); sizes as `conv_transpose1d`'s."""
    return _transposed("conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: IntOrInts = 1, padding: IntOrInts = 0,
                     output_padding: IntOrInts = 0, groups: int = 1, dilation: IntOrInts = 1) -> Tensor:
    """The transpose of a convolution: ([n], c, d, h, w) with weights (c, m / groups, kd, kh, kw); sizes as `conv_transpose1d`'s."""
    return _transposed("conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding, groups, dilation)


# --- sliding blocks ---------------------------------------------------------------------------------------------------

def _pair(function: str, argument: str, position: int, value: Any) -> tuple[int, int]:
    if not isinstance(value, (list, tuple)):
        return ints(function, argument, position, value) * 2
    found = ints(function, argument, position, value)
    if len(found) != 2:
        raise ShapeError(f"It is expected {argument} equals to 2, but got size {len(found)}")
    return found


def _block_arguments(function: str, kernel_size: Any, dilation: Any, padding: Any, stride: Any, first: int) -> tuple:
    kernel = _pair(function, "kernel_size", first, kernel_size)
    dilation = _pair(function, "dilation", first + 1, dilation)
    padding = _pair(function, "padding", first + 2, padding)
    stride = _pair(function, "stride", first + 3, stride)
    for name, word, values in (("kernel size", "kernel", kernel), ("dilation", "dilation", dilation), ("stride", "stride", stride)):
        if min(values) <= 0:
            raise ShapeError(f"{name} should be greater than zero, but got {worded(word, values)}")
    if min(padding) < 0:
        raise ShapeError(f"padding should be non-negative, but got {worded('pad', padding)}")
    return kernel, dilation, padding, stride


def _counts(size: tuple, kernel: tuple, dilation: tuple, padding: tuple, stride: tuple) -> tuple[int, ...]:
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1
                 for n, k, d, p, s in zip(size, kernel, dilation, padding, stride, strict=True))


def _no_integers(name: str, input: Tensor) -> None:
    if not (input.is_floating_point() or input.is_complex() or input.dtype.name == "bool"):
        raise NotImplementedError(f'"{name}" not implemented for \'{input.dtype.scalar}\'')


def unfold(input: Tensor, kernel_size: IntOrInts, dilation: IntOrInts = 1, padding: IntOrInts = 0,
           stride: IntOrInts = 1) -> Tensor:
    """Sliding blocks of images ([n], c, h, w) as columns ([n], c * kh * kw, blocks). Floating, complex or bool."""
    tensors("im2col", input=input)
    kernel, dilation, padding, stride = _block_arguments("im2col", kernel_size, dilation, padding, stride, 2)
    if input.ndim not in (3, 4) or 0 in input.shape[input.ndim - 3:]:
        if input.ndim < 3:
            raise IndexError(f"Dimension out of range (expected to be in range of [{-input.ndim}, {input.ndim - 1}], but got 2)")
        raise ShapeError("Expected 3D or 4D (batch mode) tensor with possibly 0 batch size and other non-zero dimensions for "
                         f"input, but got: {list(input.shape)}")
    size = tuple(input.shape[-2:])
    counts = _counts(size, kernel, dilation, padding, stride)
    if min(counts) < 1:
        raise ShapeError(f"Given input with spatial size {size}, kernel_size={kernel}, dilation={dilation}, padding={padding}, "
                         f"calculated shape of the array of sliding blocks as {counts}, but its "
                         "components must be at least one.")
    _no_integers("im2col_out_cpu", input)
    x = input if input.ndim == 4 else BOOK["unsqueeze"](input, dim=0)
    found = BOOK["im2col"](x, kernel=kernel, stride=stride, padding=padding, dilation=dilation)
    return found if input.ndim == 4 else found.squeeze(0)


def fold(input: Tensor, output_size: IntOrInts, kernel_size: IntOrInts, dilation: IntOrInts = 1, padding: IntOrInts = 0,
         stride: IntOrInts = 1) -> Tensor:
    """Columns ([n], c * kh * kw, blocks) added back to images ([n], c, h, w) of `output_size`: the transpose of `unfold`."""
    tensors("col2im", input=input)
    size = _pair("col2im", "output_size", 2, output_size)
    kernel, dilation, padding, stride = _block_arguments("col2im", kernel_size, dilation, padding, stride, 3)
    if input.ndim not in (2, 3) or 0 in input.shape[input.ndim - 2:]:
        raise ShapeError("Expected 2D or 3D (batch mode) tensor for input with possibly 0 batch size and non-zero dimensions for "
                         f"input, but got: {list(input.shape)}")
    rows, blocks = input.shape[-2:]
    if rows % (kernel[0] * kernel[1]):
        raise ShapeError("Expected size of input's dimension 1 to be divisible by the product of kernel_size, but got "
                         f"input.size(1)={rows} and kernel_size={kernel}.")
    down, across = _counts(size, kernel, dilation, padding, stride)
    if blocks != down * across:
        raise ShapeError(f"Given output_size={size}, kernel_size={kernel}, dilation={dilation}, padding={padding}, "
                         f"stride={stride}, expected size of input's dimension 2 to match the calculated number of sliding blocks "
                         f"{down} * {across} = {down * across}, but got input.size(2)={blocks}.")
    _no_integers("col2im_out_cpu", input)
    x = input if input.ndim == 3 else BOOK["unsqueeze"](input, dim=0)
    found = BOOK["col2im"](x, size=size, kernel=kernel, stride=stride, padding=padding, dilation=dilation)
    return found if input.ndim == 3 else found.squeeze(0)


__all__ = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "fold", "unfold"]
