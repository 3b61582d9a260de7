"""The same elements in other places: flip, roll, rot90, repeat, tile, repeat_interleave, tril, triu, vander.

Arguments are checked here; the moving is done by records in `kernels/ops/layout.py`.
"""
from __future__ import annotations

from collections.abc import Sequence
from operator import index as as_int
from typing import Any

import numpy as np

from kernels.book import BOOK

from .. import dispatch, dtypes
from ..tensor import KIND, Tensor, wrap, wrap_dim, wrap_dims
from . import shape as shapes
from .memory_format import FORMATS
from .registry import public

ROW_MAJOR = FORMATS["contiguous_format"]


@public()
def flip(input: Tensor, *order: Any, dims: int | Sequence[int] | None = None) -> Tensor:
    """A copy with the order of elements reversed along dimensions."""
    order = shapes.sizes_of(order, dims, "flip", "dims")
    return BOOK["flip"](input, dims=wrap_dims(order, input._array.ndim) if input._array.ndim else ())


@public()
def fliplr(input: Tensor) -> Tensor:
    """A copy with columns in reverse order."""
    if input._array.ndim < 2:
        raise RuntimeError("Input must be >= 2-d.")
    return flip(input, (1,))


@public()
def flipud(input: Tensor) -> Tensor:
    """A copy with rows in reverse order."""
    if input._array.ndim < 1:
        raise RuntimeError("Input must be >= 1-d.")
    return flip(input, (0,))


def _ints(value) -> tuple[int, ...]:
    return (as_int(value),) if hasattr(value, "__index__") else tuple(map(as_int, value))


@public()
def roll(input: Tensor, shifts: Any, dims: int | Sequence[int] | None = None) -> Tensor:
    """A copy with elements moved along dimensions, those that leave coming in at the other end; without dims, of all
    elements in a row.
    """
    moves, along = _ints(shifts), () if dims is None else _ints(dims)
    if not along and len(moves) == 1:
        return BOOK["roll"](input, shifts=moves, dims=())
    if len(moves) != len(along):
        raise RuntimeError(f"shifts and dimensions must align. shifts: {len(moves)}, dims:{len(along)}")
    if not moves:
        raise RuntimeError("`shifts` required")
    return BOOK["roll"](input, shifts=moves, dims=tuple(wrap_dim(d, input._array.ndim) for d in along))


@public()
def rot90(input: Tensor, k: int = 1, dims: int | Sequence[int] | None = (0, 1)) -> Tensor:
    """A copy turned by k quarter turns in the plane of two dimensions, from the first towards the second."""
    n = input._array.ndim
    if len(dims) != 2:
        raise RuntimeError(f"expected total rotation dims == 2, but got dims = {len(dims)}")
    if n < 2:
        raise RuntimeError(f"expected total dims >= 2, but got total dims = {n}")
    a, b = (wrap_dim(d, n) for d in dims)
    if a == b:
        raise RuntimeError(f"expected rotation dims to be different, but got dim0 = {dims[0]} and dim1 = {dims[1]}")
    return BOOK["rot90"](input, k=as_int(k), dims=(a, b))


# --- repeating --------------------------------------------------------------------------------------------------------

@public(function=False)
def repeat(input: Tensor, *counts: Any, repeats: Any = None) -> Tensor:
    """The tensor side by side with itself, so many times along each dimension; more counts than dimensions add leading ones."""
    counts = tuple(map(as_int, shapes.sizes_of(counts, repeats, "repeat", "repeats")))
    shape = input._array.shape
    if len(counts) < len(shape):
        raise RuntimeError("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
    sizes = [r * n for r, n in zip(counts, (1,) * (len(counts) - len(shape)) + shape, strict=True)]
    negative = next((n for r, n in zip(counts, sizes, strict=True) if r < 0), None)
    if negative is not None:
        raise RuntimeError(f"Trying to create tensor with negative dimension {negative}: {sizes}")
    return BOOK["repeat"](input, repeats=counts)


@public()
def tile(input: Tensor, *counts: Any, dims: int | Sequence[int] | None = None) -> Tensor:
    """As `repeat`, but counts for the last dimensions may be given alone."""
    counts = tuple(map(as_int, shapes.sizes_of(counts, dims, "tile", "dims")))
    return repeat(input, (1,) * (input._array.ndim - len(counts)) + counts)


@public()
def repeat_interleave(input: Tensor, repeats: Any = None, dim: int | None = None, *, output_size: int | None = None) -> Tensor:
    """Each element (or index of `dim`) repeated in place: by one number, or by an int tensor with a count for each.

    Without `dim` the input is taken flat. `repeat_interleave(counts)` alone gives the indices repeated.
    """
    if repeats is None:
        return _positions(input, output_size)
    if not isinstance(repeats, Tensor):
        count = as_int(repeats)
        if count < 0:
            raise RuntimeError("Repeats must be non-negative")
        x = shapes.flatten(input) if dim is None or not input._array.ndim else input
        d = 0 if dim is None else wrap_dim(dim, x._array.ndim)
        if output_size is not None and output_size != x._array.shape[d] * count:
            raise RuntimeError(f"repeat_interleave: Invalid output_size, expected {x._array.shape[d] * count} but got "
                               f"{output_size}")
        shape = x._array.shape
        wide = shapes.expand(shapes.unsqueeze(x, d + 1), (*shape[:d + 1], count, *shape[d + 1:]))
        copied = shapes.clone(wide, memory_format=ROW_MAJOR)
        return shapes.view(copied, (*shape[:d], shape[d] * count, *shape[d + 1:]))
    x = shapes.flatten(input) if dim is None or not input._array.ndim else input
    d = 0 if dim is None else wrap_dim(dim, x._array.ndim)
    n = x._array.shape[d]
    if repeats._array.ndim > 1:
        raise RuntimeError("repeats must be 0-dim or 1-dim tensor")
    if repeats._array.size == 1:
        repeats = shapes.expand(shapes.reshape(repeats, 1), (n,))
    elif repeats._array.size != n:
        raise RuntimeError("repeats must have the same size as input along dim, but got repeats.size(0) = "
                           f"{repeats._array.size} and input.size({d}) = {n}")
    from .scattering import index_select
    return index_select(x, d, _positions(repeats, output_size))


def _positions(counts: Tensor, output_size: int | None) -> Tensor:
    if counts._array.ndim != 1:
        raise RuntimeError("repeat_interleave only accept 1D vector as repeat")
    name = counts._kind.dtype.name
    if name not in ("int32", "int64"):
        raise NotImplementedError(f"\"repeat_interleave_cpu\" not implemented for '{counts._kind.dtype.scalar}'")
    wide = counts if name == "int64" else dispatch.cast(counts, KIND[dtypes.int64])
    return BOOK["positions_of_counts"](wide, output_size=None if output_size is None else as_int(output_size))


# --- triangles, powers ------------------------------------------------------------------------------------------------

def _triangle(name: str, x: Tensor, diagonal: int, out: Tensor | None) -> Tensor:
    if shapes.check_tensor(name, x)._array.ndim < 2:
        raise RuntimeError(f"{name}: input tensor must have at least 2 dimensions")
    if not hasattr(diagonal, "__index__"):
        raise TypeError(f"{name}(): argument 'diagonal' (position 1) must be int, not {type(diagonal).__name__}")
    result = BOOK[name](x, diagonal=as_int(diagonal))
    return result if out is None else dispatch.into(out, result)


@public(in_place=True)
def tril(input: Tensor, diagonal: int = 0, *, out: Tensor | None = None) -> Tensor:
    """Elements on and below a diagonal of the last two dimensions, zeros above."""
    return _triangle("tril", input, diagonal, out)


@public(in_place=True)
def triu(input: Tensor, diagonal: int = 0, *, out: Tensor | None = None) -> Tensor:
    """Elements on and above a diagonal of the last two dimensions, zeros below."""
    return _triangle("triu", input, diagonal, out)


@public(method=False)
def vander(x: Tensor, N: int | None = None, increasing: bool = False) -> Tensor:
    """The Vandermonde matrix of a vector: a row of N powers for each element, from the highest unless `increasing`."""
    if x._array.ndim != 1:
        raise RuntimeError("x must be a one-dimensional tensor.")
    n = x._array.size
    columns = n if N is None else as_int(N)
    if columns < 0:
        raise RuntimeError("N must be non-negative.")
    whole = x._kind if x._kind.dtype.category >= 2 else KIND[dtypes.int64]
    if not columns:
        return wrap(np.empty((n, 0), whole.numpy), whole)
    powers = [wrap(np.ones((n,), whole.numpy), whole)]
    for _ in range(columns - 1):
        powers.append(powers[-1] * x)
    from .join import stack
    return stack(powers if increasing else powers[::-1], 1)
