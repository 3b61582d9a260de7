"""Views of a part: select, slice, diagonal, sliding windows, strided looks, and several parts at once (unbind, split).

Their adjoints put the gradient into zeros; each such adjoint is an operator of its own, so that it differentiates again.
Options are canonical (dimensions from the front, bounds checked by `engine.functions.split` and `.shape`).
"""
from __future__ import annotations

import math

import numpy as np

from ..book import BOOK, structural
from ..cpu import buffers, copies
from .views import as_strided_array


def zeros(shape, dtype) -> np.ndarray:
    """A new array of zeros; large ones are pooled memory."""
    if not isinstance(dtype, buffers.Elsewhere) and dtype.itemsize * math.prod(shape) < buffers.LARGE:
        return np.zeros(shape, dtype)
    out = buffers.empty(shape, dtype)
    repeat(out, 0)
    return out


def repeat(out, number) -> None:
    """A number in every element."""
    if isinstance(out, np.ndarray):
        number = np.array(number).astype(out.dtype)
        copies.into(out, np.broadcast_to(number, out.shape))
    else:
        out[...] = number


def placed(x, shape, place) -> np.ndarray:
    """Zeros of a shape with `x` in the part that `place` (a view function) shows."""
    out = zeros(shape, x.dtype)
    if x.size:
        copies.into(place(out), x)
    return out


# --- one index, one slice ---------------------------------------------------------------------------------------------

def _at(dim: int, index) -> tuple:
    return (slice(None),) * dim + (index, ...)


@structural(["x"], view=True, linear=True, function=False,
            adjoint=lambda g, x_shape, dim, index: BOOK["select_backward"](g, shape=x_shape, dim=dim, index=index))
def select(x, dim, index):
    """One index of one dimension, which goes away."""
    return x[index, ...] if dim == 0 else x[_at(dim, index)]


@structural(["x"], anywhere=True, linear=True, function=False, method=False, node="SelectBackwardBackward0",
            adjoint=lambda g, dim, index: BOOK["select"](g, dim=dim, index=index))
def select_backward(x, shape, dim, index):
    """Zeros with `x` at one index of one dimension: the adjoint of select."""
    return placed(x, shape, lambda out: out[_at(dim, index)])


@structural(["x"], view=True, linear=True, function=False,
            adjoint=lambda g, x_shape, dim, start, stop, step: BOOK["slice_backward"](
                g, shape=x_shape, dim=dim, start=start, stop=stop, step=step))
def slice_(x, dim, start, stop, step):
    """Every step-th index from start to stop of one dimension; start, stop, step as `slice.indices` gives them."""
    return x[_at(dim, slice(start, stop, step))]


@structural(["x"], anywhere=True, linear=True, function=False, method=False, node="SliceBackwardBackward0",
            adjoint=lambda g, dim, start, stop, step: BOOK["slice"](g, dim=dim, start=start, stop=stop, step=step))
def slice_backward(x, shape, dim, start, stop, step):
    """Zeros with `x` in the slice of one dimension: the adjoint of slice."""
    return placed(x, shape, lambda out: out[_at(dim, slice(start, stop, step))])


# --- diagonals --------------------------------------------------------------------------------------------------------

def _diagonal(x, offset, dim0, dim1):
    found = x.diagonal(offset, dim0, dim1)
    if x.flags.writeable:
        found.flags.writeable = True        # NumPy returns a read-only view
    return found


@structural(["x"], view=True, linear=True, function=False, like=np.diagonal,
            adjoint=lambda g, x_shape, offset, dim0, dim1: BOOK["diagonal_backward"](
                g, shape=x_shape, offset=offset, dim0=dim0, dim1=dim1))
def diagonal(x, offset, dim0, dim1):
    """A diagonal of two dimensions, as a new last dimension."""
    return _diagonal(x, offset, dim0, dim1)


@structural(["x"], anywhere=True, linear=True, function=False, method=False, node="DiagonalBackwardBackward0",
            adjoint=lambda g, offset, dim0, dim1: BOOK["diagonal"](g, offset=offset, dim0=dim0, dim1=dim1))
def diagonal_backward(x, shape, offset, dim0, dim1):
    """Zeros with `x` on a diagonal: the adjoint of diagonal."""
    return placed(x, shape, lambda out: _diagonal(out, offset, dim0, dim1))


# --- sliding windows --------------------------------------------------------------------------------------------------

@structural(["x"], view=True, linear=True, function=False,
            adjoint=lambda g, x_shape, dim, size, step: BOOK["unfold_backward"](
                g, shape=x_shape, dim=dim, size=size, step=step))
def unfold(x, dim, size, step):
    """Windows of `size` elements every `step` along a dimension; the window is a new last dimension."""
    if not x.ndim:
        return x.reshape(1)[:size]
    windows = np.lib.stride_tricks.sliding_window_view(x, size, axis=dim, writeable=x.flags.writeable)
    return windows[_at(dim, slice(None, None, step))]


@structural(["x"], anywhere=True, linear=True, function=False, method=False, node="UnfoldBackwardBackward0",
            adjoint=lambda g, dim, size, step: BOOK["unfold"](g, dim=dim, size=size, step=step))
def unfold_backward(x, shape, dim, size, step):
    """Windows added back where they came from: the adjoint of unfold."""
    out = zeros(shape, x.dtype)
    target = out if out.ndim else out.reshape(1)
    add = BOOK["add"].on_arrays
    count = x.shape[dim] if shape else 1
    for k in range(size):
        part = target[_at(dim, slice(k, k + (count - 1) * step + 1, step))] if shape else target
        piece = x[..., k] if shape else x
        add(part, piece, out=part)
    return out


@structural(["x"], view=True, linear=True, function=False,
            adjoint=lambda g, x_shape, size, stride, offset: BOOK["as_strided_backward"](
                g, shape=x_shape, size=size, stride=stride, offset=offset))
def as_strided(x, size, stride, offset):
    """Any sizes and strides (in elements) over the memory of a contiguous array, which contains them all."""
    return as_strided_array(x, size, tuple(s * x.itemsize for s in stride), offset * x.itemsize)


@structural(["x"], anywhere=True, linear=True, function=False, method=False, node="AsStridedBackwardBackward0",
            adjoint=lambda g, size, stride, offset: BOOK["as_strided"](
                BOOK["contiguous"](g), size=size, stride=stride, offset=offset))
def as_strided_backward(x, shape, size, stride, offset):
    """Elements added back to the places that as_strided showed: its adjoint."""
    out = zeros(shape, x.dtype)
    add = BOOK["add"].on_arrays
    order = sorted(range(len(size)), key=lambda d: stride[d])
    apart, reach = [], 1                    # dimensions whose elements cannot meet, smallest strides first
    for d in order:
        if size[d] == 1 or stride[d] >= reach:
            apart.append(d)
            reach += (size[d] - 1) * stride[d]
    apart.sort()
    together = [d for d in range(len(size)) if d not in apart]
    inner = tuple(size[d] for d in apart), tuple(stride[d] * x.itemsize for d in apart)
    for index in np.ndindex(*(size[d] for d in together)):
        at = offset + sum(i * stride[d] for i, d in zip(index, together, strict=True))
        part = as_strided_array(out, *inner, at * x.itemsize)
        piece = x[tuple(index[together.index(d)] if d in together else slice(None) for d in range(len(size)))]
        add(part, piece, out=part)
    return out


# --- several parts ----------------------------------------------------------------------------------------------------

def _joined(gs, shapes, like, join, dim):
    """The parts' gradients as one, zeros where a part has none."""
    return BOOK[join]([like.new_zeros(s) if g is None else g for g, s in zip(gs, shapes, strict=True)], dim=dim)


def _unbind_adjoint(gs, x_shape, dim):
    known = next(g for g in gs if g is not None)
    count = x_shape[dim]
    if sum(g is not None for g in gs) == 1:
        index = next(k for k, g in enumerate(gs) if g is not None)
        return BOOK["select_backward"](known, shape=x_shape, dim=dim, index=index)
    return _joined([*gs, *[None] * (count - len(gs))], [known.shape] * count, known, "stack", dim)


@structural(["x"], view=True, linear=True, function=False, adjoint=_unbind_adjoint)
def unbind(x, dim):
    """One view for each index of a dimension."""
    return tuple(x.swapaxes(0, dim)) if dim == 1 and x.ndim == 2 else tuple(x[_at(dim, k)] for k in range(x.shape[dim]))


def _split_adjoint(gs, x_shape, sizes, dim):
    known = next(g for g in gs if g is not None)
    shapes = [(*x_shape[:dim], n, *x_shape[dim + 1:]) for n in sizes]
    return _joined([*gs, *[None] * (len(sizes) - len(gs))], shapes, known, "cat", dim)


def _parts(x, sizes, dim):
    parts, start = [], 0
    for n in sizes:
        parts.append(x[_at(dim, slice(start, start + n))])
        start += n
    return tuple(parts)


@structural(["x"], view=True, linear=True, function=False, method=False, adjoint=_split_adjoint)
def split(x, sizes, dim):
    """Consecutive parts of a dimension, of equal size but for the last."""
    return _parts(x, sizes, dim)


@structural(["x"], view=True, linear=True, function=False, method=False, adjoint=_split_adjoint)
def split_with_sizes(x, sizes, dim):
    """Consecutive parts of a dimension, of the given sizes."""
    return _parts(x, sizes, dim)
