"""Pools in one to three dimensions: max (with indices and its inverse), average, power average, and their adaptive forms.

Here arguments become one number for each dimension and are checked in PyTorch's words; the records are in `kernels.ops.pooling`.
One dimension is computed as two. Modules are in `engine.nn.pooling`.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kernels.book import BOOK
from kernels.cpu import gathers

from ...errors import DTypeError, ShapeError
from ...functions.reduce import mean
from ...tensor import Tensor
from .sizes import IntOrInts, ints, tensors, worded

Pooled = Tensor | tuple[Tensor, Tensor]
_COUNTS = ("", "one", "two", "three")


# --- arguments --------------------------------------------------------------------------------------------------------

def _numbers(name: str, argument: str, position: int, value: Any, dims: int) -> tuple[int, ...]:
    found = ints(name, argument, position, value)
    if len(found) == 1:
        return found * dims
    if len(found) != dims:
        words = {"stride": "must either be omitted, a single int,", "dilation": "must be either a single int,"}.get(
            argument, "must either be a single int,")
        raise ShapeError(f"{name}: {argument} {words} or a tuple of {_COUNTS[dims]} ints")
    return found


def _strides(name: str, stride: Any, kernel: tuple, dims: int) -> tuple[int, ...]:
    """The stride, or the kernel's size where there is none (None or an empty sequence)."""
    if stride is None or (isinstance(stride, (list, tuple)) and not stride):
        return kernel
    return _numbers(name, "stride", 3, stride, dims)


def _check_windows(kernel: tuple, stride: tuple, padding: tuple, dilation: tuple) -> None:
    if any(s == 0 for s in stride):
        raise ShapeError("stride should not be zero")
    if any(k <= 0 for k in kernel):
        raise ShapeError(f"kernel size should be greater than zero, but got {worded('kernel', kernel)}")
    if any(s < 0 for s in stride):
        raise ShapeError(f"stride should be greater than zero, but got {worded('stride', stride)}")
    if any(d <= 0 for d in dilation):
        letters = "THW"[3 - len(dilation):]
        raise ShapeError("dilation should be greater than zero, but got "
                         + " ".join(f"dilation{c}: {d}" for c, d in zip(letters, dilation, strict=True)))
    for k, p, d in zip(kernel, padding, dilation, strict=True):
        if p < 0:
            raise ShapeError(f"pad must be non-negative, but got pad: {p}")
        if p > ((k - 1) * d + 1) // 2:
            raise ShapeError(f"pad should be at most half of effective kernel size, but got pad={p}, kernel_size={k} and "
                             f"dilation={d}")


def _check_input(input: Tensor, dims: int) -> None:
    if input.ndim not in (dims + 1, dims + 2):
        raise ShapeError(f"non-empty {dims + 1}D or {dims + 2}D (batch mode) tensor expected for input, but got {input.ndim}D")
    if 0 in input.shape[input.ndim - dims - 1:]:
        raise ShapeError(f"Expected {dims + 1}D or {dims + 2}D (batch mode) tensor with optional 0 dim batch size for input, but "
                         f"got:{list(input.shape)}")


def _length(n: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """How many windows fit; with `ceil_mode` one more may begin inside and end outside."""
    out = (n + 2 * padding - dilation * (kernel - 1) - 1 + (stride - 1 if ceil_mode else 0)) // stride + 1
    return out - 1 if ceil_mode and (out - 1) * stride >= n + padding else out


def _lengths(input: Tensor, kernel: tuple, stride: tuple, padding: tuple, dilation: tuple, ceil_mode: bool) -> tuple[int, ...]:
    dims = len(kernel)
    size = tuple(_length(n, k, s, p, d, ceil_mode) for n, k, s, p, d in zip(
        input.shape[-dims:], kernel, stride, padding, dilation, strict=True))
    if any(n < 1 for n in size):
        channels = input.shape[input.ndim - dims - 1]
        raise ShapeError(f"Given input size: ({'x'.join(map(str, (channels, *input.shape[-dims:])))}). Calculated output size: "
                         f"({'x'.join(map(str, (channels, *size)))}). Output size is too small")
    return size


def _need(input: Tensor, allowed: tuple[str, ...], kernel: str) -> None:
    if not input.is_floating_point() and input.dtype.name not in allowed:
        raise NotImplementedError(f'"{kernel}" not implemented for \'{input.dtype.scalar}\'')


def _row(input: Tensor) -> Tensor:
    """A signal as an image of one row."""
    return BOOK["unsqueeze"](input, dim=input.ndim - 1)


def _chosen(found: tuple[Tensor, Tensor], return_indices: bool, row: bool = False) -> Pooled:
    if row:
        found = tuple(t.squeeze(-2) for t in found) if return_indices else (found[0].squeeze(-2),)
    return (found[0], found[1]) if return_indices else found[0]


# --- max --------------------------------------------------------------------------------------------------------------

_INTEGERS = ("uint8", "int8", "int16", "int32", "int64")


def _max_pool(name: str, dims: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool,
              return_indices: bool) -> Pooled:
    tensors(name, input=input)
    kernel = _numbers(name, "kernel_size", 2, kernel_size, dims)
    stride = _strides(name, stride, kernel, dims)
    padding = _numbers(name, "padding", 4, padding, dims)
    dilation = _numbers(name, "dilation", 5, dilation, dims)
    _check_windows(kernel, stride, padding, dilation)
    _check_input(input, dims)
    size = _lengths(input, kernel, stride, padding, dilation, ceil_mode)
    _need(input, _INTEGERS, name)
    found = BOOK[name](input, size=size, kernel=kernel, stride=stride, padding=padding, dilation=dilation)
    return _chosen(found, return_indices)


def max_pool1d(input: Tensor, kernel_size: IntOrInts, stride: IntOrInts | None = None, padding: IntOrInts = 0,
               dilation: IntOrInts = 1, ceil_mode: bool = False, return_indices: bool = False) -> Pooled:
    """The largest element of each window of signals ([n], c, l), and its index where asked for. NaN is larger than any number.

    `stride` is the kernel's size unless given; padding counts as minus infinity. Floating dtypes.
    """
    tensors("max_pool1d", input=input)

    def one(argument: str, value: Any) -> int:
        found = ints("max_pool1d", argument, 2, value)
        if len(found) != 1:
            raise ShapeError(f"max_pool1d() {argument} must be an int, list of ints or tuple of ints of size 1 but got size "
                             f"{len(found)}")
        return found[0]
    if input.ndim not in (2, 3):
        raise ShapeError("max_pool1d: Expected 2D or 3D (batch mode) tensor with optional 0 dim batch size for input, but got:"
                         f"{list(input.shape)}")
    kernel = one("kernel_size", kernel_size)
    step = kernel if stride is None or stride == [] or stride == () else one("stride", stride)
    pad, spread = one("padding", padding), one("dilation", dilation)
    for argument, value in (("kernel_size", kernel), ("stride", step)):
        if value <= 0:
            raise ShapeError(f"max_pool1d() {argument} must be greater than zero, but got {value}")
    if pad < 0:
        raise ShapeError(f"max_pool1d() padding must be non-negative, but got {pad}")
    if pad > kernel // 2:
        raise ShapeError(f"max_pool1d() padding should be at most half of kernel size, but got padding={pad} and "
                         f"kernel_size={kernel}")
    if spread <= 0:
        raise ShapeError(f"max_pool1d() dilation must be greater than zero, but got {spread}")
    length = _length(input.shape[-1], kernel, step, pad, spread, ceil_mode)
    if length <= 0:
        raise ShapeError(f"max_pool1d() Invalid computed output size: {length}")
    _check_input(input, 1)
    _need(input, _INTEGERS if return_indices else (), "max_pool1d_impl")
    found = BOOK["max_pool2d"](_row(input), size=(1, length), kernel=(1, kernel), stride=(1, step), padding=(0, pad),
                               dilation=(1, spread))
    return _chosen(found, return_indices, row=True)


def max_pool2d(input: Tensor, kernel_size: IntOrInts, stride: IntOrInts | None = None, padding: IntOrInts = 0,
               dilation: IntOrInts = 1, ceil_mode: bool = False, return_indices: bool = False) -> Pooled:
    """The largest element of each window of images ([n], c, h, w), and its index in the plane where asked for.

    `stride` is the kernel's size unless given; padding counts as minus infinity. The first of equals wins, NaN is larger than any
    number. Real dtypes.
    """
    return _max_pool("max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(input: Tensor, kernel_size: IntOrInts, stride: IntOrInts | None = None, padding: IntOrInts = 0,
               dilation: IntOrInts = 1, ceil_mode: bool = False, return_indices: bool = False) -> Pooled:
    """The largest element of each window of volumes ([n], c, d, h, w); as `max_pool2d`."""
    return _max_pool("max_pool3d", 3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool1d_with_indices(input: Tensor, kernel_size: IntOrInts, stride: IntOrInts | None = None, padding: IntOrInts = 0,
                            dilation: IntOrInts = 1, ceil_mode: bool = False,
                            return_indices: bool = False) -> tuple[Tensor, Tensor]:
    """`max_pool1d` with its indices."""
    return max_pool1d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool2d_with_indices(input: Tensor, kernel_size: IntOrInts, stride: IntOrInts | None = None, padding: IntOrInts = 0,
                            dilation: IntOrInts = 1, ceil_mode: bool = False,
                            return_indices: bool = False) -> tuple[Tensor, Tensor]:
    """`max_pool2d` with its indices."""
    return max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool3d_with_indices(input: Tensor, kernel_size: IntOrInts, stride: IntOrInts | None = None, padding: IntOrInts = 0,
                            dilation: IntOrInts = 1, ceil_mode: bool = False,
                            return_indices: bool = False) -> tuple[Tensor, Tensor]:
    """`max_pool3d` with its indices."""
    return max_pool3d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


# --- back to where the largest elements were --------------------------------------------------------------------------

def _unpooled_size(input: Tensor, kernel: tuple, stride: tuple, padding: tuple,
                   output_size: Sequence[int] | None) -> tuple[int, ...]:
    dims = len(kernel)
    default = tuple((n - 1) * s + k - 2 * p for n, s, k, p in zip(input.shape[-dims:], stride, kernel, padding, strict=True))
    if output_size is None:
        return default
    wanted = tuple(output_size)
    if len(wanted) == dims + 2:
        wanted = wanted[2:]
    if len(wanted) != dims:
        raise ValueError(f"output_size should be a sequence containing {dims} or {dims + 2} elements, but it has a length of "
                         f"'{len(wanted)}'")
    for d, (w, n, s) in enumerate(zip(wanted, default, stride, strict=True)):
        if not n - s < w < n + s:
            raise ValueError(f'invalid output_size "{wanted}" (dim {d} must be between {n - s} and {n + s})')
    return wanted


def _max_unpool(name: str, dims: int, input: Tensor, indices: Tensor, kernel_size: Any, stride: Any, padding: Any,
                output_size: Sequence[int] | None) -> Tensor:
    tensors(name, input=input, indices=indices)
    kernel = _numbers(name, "kernel_size", 3, kernel_size, dims)
    stride = _strides(name, stride, kernel, dims)
    padding = _numbers(name, "padding", 5, padding, dims)
    if any(s <= 0 for s in stride):
        raise ShapeError(f"strides should be greater than zero, but got stride: {list(stride)}")
    if input.ndim not in (dims + 1, dims + 2):
        raise ShapeError(f"Input to max_unpooling{dims}d should be a {dims + 1}d or {dims + 2}d Tensor, but got a tensor with "
                         f"{input.ndim} dimensions.")
    size = _unpooled_size(input, kernel, stride, padding, output_size)
    if indices.dtype.name != "int64":
        raise DTypeError(f"elements in indices should be type int64 but got: {indices.dtype.scalar}")
    if indices.shape != input.shape:
        raise ShapeError(f"Expected shape of indices to be same as that of the input tensor ({list(input.shape)}) but got indices "
                         f"tensor with shape: {list(indices.shape)}")
    if 0 in input.shape[input.ndim - dims - 1:]:
        raise ShapeError(f"{name}(): Expected input to have non-zero size for non-batch dimensions, but input has sizes "
                         f"{list(input.shape)}")
    _need(input, _INTEGERS, name)
    if dims == 1:
        return BOOK["max_unpool2d"](_row(input), _checked(_row(indices), (1, *size)), size=(1, *size)).squeeze(-2)
    return BOOK[name](input, _checked(indices, size), size=size)


def _checked(indices: Tensor, size: tuple[int, ...]) -> Tensor:
    """Indices that lie in planes of a size; RuntimeError for others."""
    space = 1
    for n in size:
        space *= n
    if indices.numel():
        for found in gathers.extremes(indices._array):
            if not 0 <= found < space:
                raise ShapeError(f"Found an invalid max index: {found} (output volumes are of size "
                                 f"{'x'.join(map(str, size[-2:] if size[0] == 1 and len(size) == 2 else size))})")
    return indices


def max_unpool1d(input: Tensor, indices: Tensor, kernel_size: IntOrInts, stride: IntOrInts | None = None, padding: IntOrInts = 0,
                 output_size: Sequence[int] | None = None) -> Tensor:
    """Signals of zeros with the elements of a `max_pool1d` put back at its indices; `output_size` chooses among possible sizes."""
    return _max_unpool("max_unpool1d", 1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(input: Tensor, indices: Tensor, kernel_size: IntOrInts, stride: IntOrInts | None = None, padding: IntOrInts = 0,
                 output_size: Sequence[int] | None = None) -> Tensor:
    """Images of zeros with the elements of a `max_pool2d` put back at its indices; `output_size` chooses among possible sizes."""
    return _max_unpool("max_unpool2d", 2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(input: Tensor, indices: Tensor, kernel_size: IntOrInts, stride: IntOrInts | None = None, padding: IntOrInts = 0,
                 output_size: Sequence[int] | None = None) -> Tensor:
    """Volumes of zeros with the elements of a `max_pool3d` put back at its indices; `output_size` chooses among possible sizes."""
    return _max_unpool("max_unpool3d", 3, input, indices, kernel_size, stride, padding, output_size)


# --- average ----------------------------------------------------------------------------------------------------------

def _avg_pool(name: str, dims: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool,
              count_include_pad: bool, divisor_override: int | None) -> Tensor:
    tensors(name, input=input)
    kernel = _numbers(name, "kernel_size", 2, kernel_size, dims)
    stride = _strides(name, stride, kernel, dims)
    padding = _numbers(name, "padding", 4, padding, dims)
    if divisor_override == 0:
        raise ShapeError("divisor must be not zero")
    _check_windows(kernel, stride, padding, (1,) * dims)
    if input.ndim < 3 and dims == 2:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-input.ndim}, {input.ndim - 1}], but got -3)")
    _check_input(input, dims)
    if dims == 3 and any(n < k for n, k in zip(input.shape[-3:], kernel, strict=True)):
        of, k = input.shape[-3:], kernel
        raise ShapeError(f"input image (T: {of[0]} H: {of[1]} W: {of[2]}) smaller than kernel size "
                         f"(kT: {k[0]} kH: {k[1]} kW: {k[2]})")
    size = _lengths(input, kernel, stride, padding, (1,) * dims, ceil_mode)
    _need(input, ("int64",), name if dims == 2 else "avg_pool3d_out_frame")
    return BOOK[name](input, size=size, kernel=kernel, stride=stride, padding=padding, count_pad=bool(count_include_pad),
                      divisor=divisor_override or 0)


def avg_pool1d(input: Tensor, kernel_size: IntOrInts, stride: IntOrInts | None = None, padding: IntOrInts = 0,
               ceil_mode: bool = False, count_include_pad: bool = True) -> Tensor:
    """The mean of each window of signals ([n], c, l). Zeros of the padding count unless `count_include_pad` is False.

    `stride` is the kernel's size unless given. Floating dtypes and int64 (rounded towards zero).
    """
    tensors("avg_pool1d", input=input)

    def one(argument: str, value: Any) -> int:
        found = ints("avg_pool1d", argument, 2, value)
        if len(found) != 1:
            raise ShapeError(f"avg_pool1d() argument '{argument}' should contain one int (got {len(found)})")
        return found[0]
    if input.ndim not in (2, 3):
        raise ShapeError(f"Expected 2 to 3 dimensions, but got {input.ndim}-dimensional tensor for argument #1 'self' "
                         "(while checking arguments for avg_pool1d)")
    kernel = one("kernel_size", kernel_size)
    step = kernel if stride is None or stride == [] or stride == () else one("stride", stride)
    found = _avg_pool("avg_pool2d", 2, _row(input), (1, kernel), (1, step), (0, one("padding", padding)), ceil_mode,
                      count_include_pad, None)
    return found.squeeze(-2)


def avg_pool2d(input: Tensor, kernel_size: IntOrInts, stride: IntOrInts | None = None, padding: IntOrInts = 0,
               ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None) -> Tensor:
    """The mean of each window of images ([n], c, h, w); as `avg_pool1d`. `divisor_override` divides instead of the count."""
    return _avg_pool("avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool3d(input: Tensor, kernel_size: IntOrInts, stride: IntOrInts | None = None, padding: IntOrInts = 0,
               ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None) -> Tensor:
    """The mean of each window of volumes ([n], c, d, h, w); as `avg_pool2d`."""
    return _avg_pool("avg_pool3d", 3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def _power_average(out: Tensor, norm_type: float, count: int) -> Tensor:
    return (out.sign() * out.abs().relu()).mul(count).pow(1.0 / norm_type)


def lp_pool1d(input: Tensor, norm_type: float, kernel_size: int, stride: IntOrInts | None = None,
              ceil_mode: bool = False) -> Tensor:
    """(sum of x^p over each window)^(1/p) of signals ([n], c, l), p = `norm_type`."""
    found = avg_pool1d(input.pow(norm_type), kernel_size, stride, 0, ceil_mode)
    return _power_average(found, norm_type, ints("lp_pool1d", "kernel_size", 3, kernel_size)[0])


def lp_pool2d(input: Tensor, norm_type: float, kernel_size: IntOrInts, stride: IntOrInts | None = None,
              ceil_mode: bool = False) -> Tensor:
    """(sum of x^p over each window)^(1/p) of images ([n], c, h, w), p = `norm_type`."""
    h, w = _numbers("lp_pool2d", "kernel_size", 3, kernel_size, 2)
    return _power_average(avg_pool2d(input.pow(norm_type), (h, w), stride, 0, ceil_mode), norm_type, h * w)


def lp_pool3d(input: Tensor, norm_type: float, kernel_size: IntOrInts, stride: IntOrInts | None = None,
              ceil_mode: bool = False) -> Tensor:
    """(sum of x^p over each window)^(1/p) of volumes ([n], c, d, h, w), p = `norm_type`."""
    d, h, w = _numbers("lp_pool3d", "kernel_size", 3, kernel_size, 3)
    return _power_average(avg_pool3d(input.pow(norm_type), (d, h, w), stride, 0, ceil_mode), norm_type, d * h * w)


# --- adaptive ---------------------------------------------------------------------------------------------------------

def _wanted(name: str, input: Tensor, output_size: Any, dims: int, words: str) -> tuple[int, ...]:
    """The output's size; None keeps that of the input."""
    if not isinstance(output_size, (list, tuple)):
        output_size = (output_size,) * dims
    if len(output_size) != dims:
        raise ShapeError(f"{name}{words}{dims}")
    return ints(name, "output_size", 2, [n if o is None else o for o, n in zip(
        output_size, input.shape[input.ndim - dims:], strict=True)])


def _one_wanted(name: str, input: Tensor, output_size: Any) -> int:
    found = ints(name, "output_size", 2, input.shape[-1:] if output_size is None else output_size)
    if len(found) != 1:
        raise ShapeError(f"{name}() argument 'output_size' should contain one int (got {len(found)})")
    if input.ndim not in (2, 3):
        raise ShapeError(f"Expected 2 to 3 dimensions, but got {input.ndim}-dimensional tensor for argument #1 'self' "
                         f"(while checking arguments for {name})")
    return found[0]


def _windows_of(size: tuple[int, ...]) -> dict[str, Any]:
    return {"size": size, "kernel": None, "stride": (1,) * len(size), "padding": (0,) * len(size)}


def _adaptive_mean(input: Tensor, size: tuple[int, ...]) -> Tensor:
    dims = len(size)
    name = f"adaptive_avg_pool{dims}d"
    if any(n < 0 for n in size):
        raise ShapeError(f"{name}: elements of output_size must be greater than or equal to 0 but received "
                         f"{{{', '.join(map(str, size))}}}")
    if all(n == 1 for n in size):
        return mean(input, tuple(range(-dims, 0)), True)
    if 0 in input.shape[input.ndim - dims:]:
        raise ShapeError(f"{name}(): Expected input to have non-zero size for non-batch dimensions, but input has sizes "
                         f"{list(input.shape)}")
    _need(input, (), name if dims == 2 else f"{name}_cpu")
    return BOOK[name](input, **_windows_of(size), count_pad=False, divisor=0)


def adaptive_avg_pool1d(input: Tensor, output_size: IntOrInts | None) -> Tensor:
    """The means of `output_size` windows that cover signals ([n], c, l) evenly. Floating dtypes."""
    tensors("adaptive_avg_pool1d", input=input)
    return _adaptive_mean(_row(input), (1, _one_wanted("adaptive_avg_pool1d", input, output_size))).squeeze(-2)


def _adaptive_avg_pool(name: str, dims: int, input: Tensor, output_size: Any) -> Tensor:
    tensors(name, input=input)
    if input.ndim not in (dims + 1, dims + 2):
        raise ShapeError(f"{name}(): Expected {dims + 1}D or {dims + 2}D tensor, but got {list(input.shape)}")
    return _adaptive_mean(input, _wanted(name, input, output_size, dims, ": output_size must be "))


def adaptive_avg_pool2d(input: Tensor, output_size: int | Sequence[int | None] | None) -> Tensor:
    """The means of windows that cover images ([n], c, h, w) evenly; None keeps a size. Floating dtypes."""
    return _adaptive_avg_pool("adaptive_avg_pool2d", 2, input, output_size)


def adaptive_avg_pool3d(input: Tensor, output_size: int | Sequence[int | None] | None) -> Tensor:
    """The means of windows that cover volumes ([n], c, d, h, w) evenly; None keeps a size. Floating dtypes."""
    return _adaptive_avg_pool("adaptive_avg_pool3d", 3, input, output_size)


def _adaptive_largest(input: Tensor, size: tuple[int, ...], name: str = "") -> tuple[Tensor, Tensor]:
    dims = len(size)
    name = name or f"adaptive_max_pool{dims}d"
    if any(n < 0 for n in size):
        shape = [*input.shape[:-dims], *size]
        raise ShapeError(f"Trying to create tensor with negative dimension {min(size)}: {shape}")
    for d in range(input.ndim - dims - 1, input.ndim):
        if not input.shape[d]:
            raise ShapeError(f"{name}(): Expected input to have non-zero size for non-batch dimensions, but input has sizes "
                             f"{list(input.shape)} with dimension {d} being empty")
    _need(input, (), f"adaptive_max_pool{dims}d" + ("" if dims == 2 else "_cpu"))
    return BOOK[f"adaptive_max_pool{dims}d"](input, **_windows_of(size), dilation=(1,) * dims)


def adaptive_max_pool1d(input: Tensor, output_size: IntOrInts | None, return_indices: bool = False) -> Pooled:
    """The largest elements of `output_size` windows that cover signals ([n], c, l) evenly, and their indices where asked for."""
    tensors("adaptive_max_pool1d", input=input)
    size = (1, _one_wanted("adaptive_max_pool1d", input, output_size))
    return _chosen(_adaptive_largest(_row(input), size, "adaptive_max_pool1d"), return_indices, row=True)


def _adaptive_max_pool(name: str, dims: int, input: Tensor, output_size: Any, return_indices: bool) -> Pooled:
    tensors(name, input=input)
    if input.ndim not in (dims + 1, dims + 2):
        raise ShapeError(f"{name}(): Expected {dims + 1}D or {dims + 2}D tensor, but got: {list(input.shape)}")
    size = _wanted(name, input, output_size, dims, "(): internal error: output_size.size() must be ")
    return _chosen(_adaptive_largest(input, size), return_indices)


def adaptive_max_pool2d(input: Tensor, output_size: int | Sequence[int | None] | None, return_indices: bool = False) -> Pooled:
    """The largest elements of windows that cover images ([n], c, h, w) evenly, and their indices where asked for."""
    return _adaptive_max_pool("adaptive_max_pool2d", 2, input, output_size, return_indices)


def adaptive_max_pool3d(input: Tensor, output_size: int | Sequence[int | None] | None, return_indices: bool = False) -> Pooled:
    """The largest elements of windows that cover volumes ([n], c, d, h, w) evenly, and their indices where asked for."""
    return _adaptive_max_pool("adaptive_max_pool3d", 3, input, output_size, return_indices)


__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d",
    "adaptive_max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "lp_pool1d", "lp_pool2d", "lp_pool3d", "max_pool1d",
    "max_pool1d_with_indices", "max_pool2d", "max_pool2d_with_indices", "max_pool3d", "max_pool3d_with_indices", "max_unpool1d",
    "max_unpool2d", "max_unpool3d",
]
