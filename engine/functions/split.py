"""Parts of a tensor as views (select, narrow, unbind, split and its kin, diagonals, windows, as_strided) or replaced in a copy.

Arguments are checked here; the views are records in `kernels/ops/windows.py`. Indexing with brackets is in `indexing.py`.
"""
from __future__ import annotations

from collections.abc import Sequence
from operator import index as as_int
from typing import Any

import numpy as np

from kernels.book import BOOK

from ..dispatch import cast
from ..tape import modes
from ..tensor import Tensor, address_of, storage_of, wrap_dim
from . import shape as shapes
from .registry import public

SELECT, SLICE, DIAGONAL, AS_STRIDED = BOOK["select"], BOOK["slice"], BOOK["diagonal"], BOOK["as_strided"]


# --- one index, one range ---------------------------------------------------------------------------------------------

def _checked_select(shape, dim: int, index: int) -> dict:
    if not shape:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    d, k = wrap_dim(dim, len(shape)), as_int(index)
    if not -shape[d] <= k < shape[d]:
        raise IndexError(f"select(): index {k} out of range for tensor of size {list(shape)} at dimension {d}")
    return {"dim": d, "index": k + shape[d] if k < 0 else k}


@public()
def select(input: Tensor, dim: int, index: int) -> Tensor:
    """One index of a dimension, which goes away; a view."""
    return SELECT(input, **_checked_select(input._array.shape, dim, index))


@public()
def narrow(input: Tensor, dim: int, start: Tensor | complex, length: int) -> Tensor:
    """`length` elements of a dimension from `start` on; a view."""
    shape = input._array.shape
    if not shape:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    d, begin, length = wrap_dim(dim, len(shape)), as_int(start), as_int(length)
    n = shape[d]
    if length < 0:
        raise RuntimeError("narrow(): length must be non-negative.")
    if not -n <= begin <= n:
        raise IndexError(f"start out of range (expected to be in range of [{-n}, {n}], but got {begin})")
    begin += n if begin < 0 else 0
    if begin + length > n:
        raise RuntimeError(f"start ({begin}) + length ({length}) exceeds dimension size ({n}).")
    return SLICE(input, dim=d, start=begin, stop=begin + length, step=1)


def _checked_slice(shape, dim: int, start, end, step) -> dict:
    if not shape:
        raise RuntimeError("slice() cannot be applied to a 0-dim tensor.")
    d = wrap_dim(dim, len(shape))
    if as_int(step) <= 0:
        raise RuntimeError("slice step must be positive")
    begin, stop, step = slice(start, end, as_int(step)).indices(shape[d])
    return {"dim": d, "start": begin, "stop": max(begin, stop), "step": step}


# --- several parts ----------------------------------------------------------------------------------------------------

@public()
def unbind(input: Tensor, dim: int = 0, *, axis: int | None = None) -> tuple[Tensor, ...]:
    """One view for each index of a dimension."""
    x = shapes.check_tensor("unbind", input)
    if not x._array.ndim:
        raise IndexError("Dimension specified as 0 but tensor has no dimensions")
    return BOOK["unbind"](x, dim=wrap_dim(dim if axis is None else axis, x._array.ndim))


def _dim_of(name: str, x: Tensor, dim: int) -> int:
    if not x._array.ndim:
        raise RuntimeError(f"{name} expects at least a 1-dimensional tensor")
    return wrap_dim(dim, x._array.ndim)


def _in_steps(x: Tensor, size: int, dim: int) -> tuple[Tensor, ...]:
    n = x._array.shape[dim]
    count = max(-(-n // size), 1) if size else 1
    sizes = (size,) * (count - 1) + (n - size * (count - 1),)
    return BOOK["split"](x, sizes=sizes, dim=dim)


@public()
def split(tensor: Tensor, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Consecutive parts of a dimension as views: of one size (the last may be smaller), or of the sizes given."""
    if not hasattr(split_size_or_sections, "__index__"):
        return split_with_sizes(tensor, split_size_or_sections, dim)
    x, size = tensor, as_int(split_size_or_sections)
    d = _dim_of("split", x, dim)
    if size < 0:
        raise RuntimeError(f"split expects split_size be non-negative, but got split_size={size}")
    if size == 0 and x._array.shape[d]:
        raise RuntimeError(f"split_size can only be 0 if dimension size is 0, but got dimension size of {x._array.shape[d]}")
    return _in_steps(x, size, d)


@public()
def split_with_sizes(input: Tensor, split_sizes: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Consecutive parts of a dimension of the sizes given, as views."""
    d = _dim_of("split_with_sizes", input, dim)
    if not isinstance(split_sizes, (Sequence, Tensor)):
        raise TypeError(f"split_with_sizes(): argument 'split_sizes' (position 2) must be tuple of ints, not "
                        f"{type(split_sizes).__name__}")
    sizes = tuple(map(as_int, split_sizes))
    if any(n < 0 for n in sizes):
        raise RuntimeError(f"split_with_sizes expects split_sizes have only non-negative entries, but got "
                           f"split_sizes={list(sizes)}")
    if sum(sizes) != input._array.shape[d]:
        raise RuntimeError(f"split_with_sizes expects split_sizes to sum exactly to {input._array.shape[d]} (input "
                           f"tensor's size at "
                           f"dimension {d}), but got split_sizes={list(sizes)}")
    return BOOK["split_with_sizes"](input, sizes=sizes, dim=d)


@public()
def chunk(input: Tensor, chunks: int, dim: int = 0, *, axis: int | None = None) -> tuple[Tensor, ...]:
    """At most `chunks` consecutive parts of equal size (the last may be smaller), as views."""
    if not input._array.ndim:
        raise RuntimeError("chunk expects at least a 1-dimensional tensor")
    d, chunks = wrap_dim(dim if axis is None else axis, input._array.ndim), as_int(chunks)
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    n = input._array.shape[d]
    if not n:
        return BOOK["split_with_sizes"](input, sizes=(0,) * chunks, dim=d)
    return _in_steps(input, -(-n // chunks), d)


@public()
def tensor_split(input: Tensor, indices_or_sections: Any = None, dim: int = 0, *, sections: Any = None,
                 indices: Any = None) -> tuple[Tensor, ...]:
    """Parts of a dimension as views: a number of nearly equal ones, or between the indices given."""
    where = next((a for a in (indices_or_sections, sections, indices) if a is not None), None)
    if not input._array.ndim:
        raise RuntimeError("tensor_split expected at least a 1-dimensional tensor, but got a tensor with 0 dims")
    d = wrap_dim(dim, input._array.ndim)
    n = input._array.shape[d]
    if isinstance(where, Tensor):
        if where._array.ndim > 1:
            raise RuntimeError("tensor_split expected tensor_indices_or_sections to be a zero-dimensional or "
                               "one-dimensional tensor, "
                               f"but got a tensor with {where._array.ndim} dims")
        where = where.tolist()
    if hasattr(where, "__index__"):
        count = as_int(where)
        if count <= 0:
            raise RuntimeError(f"number of sections must be larger than 0, got {count}")
        small, extra = divmod(n, count)
        bounds, start = [], 0
        for k in range(count):
            bounds.append((start, start + small + (k < extra)))
            start = bounds[-1][1]
    else:
        ends = [*map(as_int, where)]
        bounds = list(zip([0, *ends], [*ends, n], strict=True))
    return tuple(SLICE(input, **_checked_slice(input._array.shape, d, a, b, 1)) for a, b in bounds)


def _numbered_split(name: str, least: int, dim_of):
    def function(input: Tensor, indices_or_sections: Any = None, *, sections: Any = None,
                 indices: Any = None) -> tuple[Tensor, ...]:
        where = next((a for a in (indices_or_sections, sections, indices) if a is not None), None)
        n = input._array.ndim
        if n < least:
            raise RuntimeError(f"torch.{name} requires a tensor with at least {least} dimension, but got a tensor with {n} "
                               f"dimensions!")
        d = dim_of(n)
        if hasattr(where, "__index__") and not isinstance(where, Tensor):
            count, size = as_int(where), input._array.shape[d]
            if count <= 0 or size % count:
                raise RuntimeError(f"torch.{name} attempted to split along dimension {d}, but the size of the dimension "
                                   f"{size} is not "
                                   f"divisible by the split_size {count}!")
        return tensor_split(input, where, d)
    function.__name__ = function.__qualname__ = name
    which = "1 (0 of a vector)" if least == 1 else dim_of(3)
    function.__doc__ = f"Parts of dimension {which} as views: equal ones, or between the indices given."
    return public()(function)


hsplit = _numbered_split("hsplit", 1, lambda n: 0 if n == 1 else 1)
vsplit = _numbered_split("vsplit", 2, lambda n: 0)
dsplit = _numbered_split("dsplit", 3, lambda n: 2)


# --- diagonals and windows --------------------------------------------------------------------------------------------

def _two_dims(name: str, dim1: int, dim2: int, n: int) -> tuple[int, int]:
    a, b = wrap_dim(dim1, n), wrap_dim(dim2, n)
    if a == b:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    return a, b


@public()
def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A diagonal of two dimensions as a new last dimension; a view."""
    a, b = _two_dims("diagonal", dim1, dim2, input._array.ndim)
    return DIAGONAL(input, offset=as_int(offset), dim0=a, dim1=b)


@public()
def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The last dimension on a diagonal of two new ones, zeros elsewhere."""
    n = input._array.ndim + 1
    a, b = _two_dims("diag_embed", dim1, dim2, n)
    if n == 1:
        raise IndexError("diag_embed() cannot be applied to a 0-dim tensor.")
    offset = as_int(offset)
    if a > b:
        a, b, offset = b, a, -offset
    return BOOK["diag_embed"](input, offset=offset, dim1=a, dim2=b)


@public()
def diag(input: Tensor, diagonal: int = 0, *, out: Tensor | None = None) -> Tensor:
    """The diagonal of a matrix (a copy), or the matrix with a vector on its diagonal."""
    x, n = input, input._array.ndim
    if n not in (1, 2):
        raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {n}D")
    if n == 1:
        result = BOOK["diag_embed"](x, offset=as_int(diagonal), dim1=0, dim2=1)
    else:
        result = BOOK["diagonal_copy"](x, offset=as_int(diagonal), dim0=0, dim1=1)
    if out is None:
        return result
    from .. import dispatch
    return dispatch.into(out, result)


@public()
def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """All elements on the diagonal of a matrix."""
    return diag_embed(shapes.reshape(input, -1), offset)


@public(function=False)
def unfold(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Windows of `size` elements every `step` along a dimension, as a new last dimension; a view."""
    array = input._array
    d, size, step = wrap_dim(dimension, array.ndim), as_int(size), as_int(step)
    n = array.shape[d] if array.ndim else 1
    if size < 0:
        raise RuntimeError(f"size is {size} but must be >= 0")
    if size > n:
        raise RuntimeError(f"maximum size for tensor at dimension {d} is {n} but size is {size}")
    if step <= 0:
        raise RuntimeError(f"step is {step} but must be > 0")
    return BOOK["unfold"](input, dim=d, size=size, step=step)


# --- any sizes and strides --------------------------------------------------------------------------------------------

def _dense(x: Tensor) -> Tensor | None:
    """The tensor with its dimensions in memory order if it fills its memory without gaps, else None."""
    array = x._array
    if array.flags.c_contiguous:
        return x
    order = tuple(sorted(range(array.ndim), key=lambda d: -array.strides[d]))
    return shapes.permute(x, order) if array.transpose(order).flags.c_contiguous else None


def _window(x: Tensor, first: int, last: int) -> tuple[Tensor, int] | None:
    """(a contiguous tensor that contains the storage's elements first to last, where `first` is in it): `x`, or what it is
    a view of.
    """
    while x is not None:
        root = _dense(x)
        if root is not None:
            start = first - (address_of(root._array) - address_of(storage_of(root._array))) // root._array.itemsize
            if start >= 0 and start + last - first < root._array.size:
                return root, start
        if x._needs and x._node is None and modes.enabled:     # a leaf that looks at other memory: its gradient would be lost
            return None
        x = x._view.parent if x._view is not None else None
    return None


@public()
def as_strided(input: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
    """Any sizes and strides (in elements) over the memory of a tensor, which must contain them all; a view."""
    x = input
    size, stride = (shapes.sizes_of((), s, "as_strided") for s in (size, stride))
    size, stride = tuple(map(as_int, size)), tuple(map(as_int, stride))
    if len(size) != len(stride):
        raise RuntimeError("mismatch in length of strides and shape")
    if any(s < 0 for s in stride):
        raise RuntimeError(f"as_strided: Negative strides are not supported at the moment, got strides: {list(stride)}")
    if any(n < 0 for n in size):
        raise RuntimeError(f"Storage size calculation overflowed with sizes={list(size)} and strides={list(stride)}")
    offset = x.storage_offset() if storage_offset is None else as_int(storage_offset)
    if offset < 0:
        raise RuntimeError(f"Tensor: invalid storage offset {offset}")
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if all(size) else offset - 1
    found = _window(x, offset, last)
    if found is None:
        storage, item = storage_of(x._array), x._array.itemsize
        if (last + 1) * item > storage.nbytes:
            raise RuntimeError(f"setStorage: sizes {list(size)}, strides {list(stride)}, storage offset {offset}, and "
                               f"itemsize {item} "
                               f"requiring a storage size of {(last + 1) * item} are out of bounds for storage of size "
                               f"{storage.nbytes}")
        raise RuntimeError("as_strided needs a tensor whose base fills its memory without gaps; call .contiguous() first")
    root, start = found
    return AS_STRIDED(root, size=size, stride=stride, offset=start)


# --- a copy with one part replaced ------------------------------------------------------------------------------------

def _same_size(part: Tensor, shape) -> None:
    if part._array.shape != tuple(shape):
        raise RuntimeError("expected src to have a size equal to the slice of self. src size = "
                           f"{list(part._array.shape)}, slice size = {list(shape)}")


def _replaced(name: str, input: Tensor, src: Tensor, view: np.ndarray, options: dict) -> Tensor:
    shapes.check_tensor(name, src, "src", 2)
    _same_size(src, view.shape)
    return BOOK[name](input, src if src._kind is input._kind else cast(src, input._kind), **options)


@public()
def select_scatter(input: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """A copy with one index of a dimension replaced by `src`."""
    options = _checked_select(input._array.shape, dim, index)
    return _replaced("select_scatter", input, src, SELECT.forward(input._array, **options), options)


@public()
def slice_scatter(input: Tensor, src: Tensor, dim: int = 0, start: int | None = None, end: int | None = None,
                  step: int = 1) -> Tensor:
    """A copy with a slice of a dimension replaced by `src`."""
    options = _checked_slice(input._array.shape, dim, start, end, step)
    return _replaced("slice_scatter", input, src, SLICE.forward(input._array, **options), options)


@public()
def diagonal_scatter(input: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A copy with a diagonal replaced by `src`."""
    a, b = _two_dims("diagonal_scatter", dim1, dim2, input._array.ndim)
    options = {"offset": as_int(offset), "dim0": a, "dim1": b}
    return _replaced("diagonal_scatter", input, src, DIAGONAL.forward(input._array, **options), options)


