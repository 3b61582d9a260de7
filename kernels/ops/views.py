"""Views: operators that look at the same memory in another shape, with the adjoints that bring gradients back.

Options are canonical here: dimensions counted from the front, sizes complete, checked by `engine.functions.shape`. Views that
take pieces (select, slice, diagonal, unfold, split, ...) are in `windows.py`, operators that move data in `layout.py`.
"""
from __future__ import annotations

import math

import numpy as np

from ..book import BOOK, structural


def as_strided_array(x: np.ndarray, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> np.ndarray:
    """An array over the memory of a C-contiguous one with any shape and strides (bytes) that stay inside it.

    NumPy's own `as_strided` takes ten times as long. Errors: ValueError or TypeError where elements would lie outside.
    """
    if not isinstance(x, np.ndarray):
        return x.over(as_strided_array(x.shadow, shape, strides, offset))
    if not x.size:
        return np.empty(shape, x.dtype)
    made = np.ndarray(shape, x.dtype, x, offset, strides)
    if not x.flags.writeable:
        made.flags.writeable = False
    return made


def _same_elements(g, x_shape):
    return BOOK["reshape"](g, shape=x_shape)


@structural(["x"], view=True, linear=True, adjoint=_same_elements, like=np.reshape, function=False, node="ViewBackward0")
def view(x, shape):
    """The same elements in row-major order in another shape, without a copy. `shape` is complete and has as many elements."""
    if x.flags.c_contiguous:
        return x.reshape(shape)
    try:
        return x.reshape(shape, copy=False)
    except ValueError:
        raise RuntimeError("view size is not compatible with input tensor's size and stride (at least one dimension spans "
                           "across "
                           "two contiguous subspaces). Use .reshape(...) instead.") from None


@structural(["x"], linear=True, adjoint=_same_elements, like=np.reshape, function=False, node="UnsafeViewBackward0")
def reshape(x, shape):
    """The same elements in another shape, shared where strides allow and copied where they do not; says nothing of which."""
    if x.flags.c_contiguous:
        return x.reshape(shape)
    try:
        return x.reshape(shape, copy=False)
    except ValueError:
        from ..cpu.copies import copy
        return copy(x).reshape(shape)


@structural(["x"], view=True, linear=True, like=np.broadcast_to, function=False,
            adjoint=lambda g, x_shape: BOOK["sum_to"](g, shape=x_shape))
def expand(x, shape):
    """Dimensions of size 1 (and new leading ones) repeated without a copy; read-only where elements repeat."""
    if not isinstance(x, np.ndarray):
        return x.expand(shape)
    have = x.shape
    lead = len(shape) - len(have)
    if have == shape:
        return x.view()
    if not x.flags.c_contiguous:
        made = np.broadcast_to(x, shape)
        return x[(None,) * lead] if made.shape == (1,) * lead + have else made
    if not x.size:
        return np.empty(shape, x.dtype)
    strides = (0,) * lead
    if have:
        strides += tuple([s if n == m else 0 for n, m, s in zip(have, shape[lead:], x.strides, strict=True)])
    made = np.ndarray(shape, x.dtype, x, 0, strides)
    if made.size != x.size or not x.flags.writeable:
        made.flags.writeable = False
    return made


def _sum_to(g, shape):
    lead = g.ndim - len(shape)
    dims = (*range(lead), *(lead + d for d, n in enumerate(shape) if n == 1 and g.shape[lead + d] != 1))
    if not dims:
        return g
    return BOOK["sum"].on_arrays(g, dims, True).reshape(shape)


@structural(["x"], anywhere=True, linear=True, function=False, method=False, node="SumBackward1",
            adjoint=lambda g, x_shape: BOOK["expand"](g, shape=x_shape))
def sum_to(x, shape):
    """Sum over the dimensions that broadcasting from `shape` would add or repeat: the adjoint of expand."""
    return _sum_to(x, shape)


@structural(["x"], view=True, linear=True, like=np.transpose, function=False,
            adjoint=lambda g, dims: BOOK["permute"](g, dims=tuple(sorted(range(len(dims)), key=dims.__getitem__))))
def permute(x, dims):
    """Dimensions in another order."""
    return x.transpose(dims)


@structural(["x"], view=True, linear=True, function=False,
            adjoint=lambda g, dim0, dim1: BOOK["transpose"](g, dim0=dim0, dim1=dim1))
def transpose(x, dim0, dim1):
    """Two dimensions exchanged."""
    return x.swapaxes(dim0, dim1) if x.ndim else x.view()


@structural(["x"], view=True, linear=True, function=False, adjoint=lambda g: BOOK["t"](g))
def t(x):
    """A matrix transposed; fewer dimensions stay."""
    return x.T


@structural(["x"], view=True, linear=True, like=np.expand_dims, function=False, adjoint=_same_elements)
def unsqueeze(x, dim):
    """A new dimension of size 1."""
    return x[(slice(None),) * dim + (None,)]


def _squeezed(x, dims):
    keep = tuple(0 if n == 1 and d in dims else slice(None) for d, n in enumerate(x.shape))
    return x[(*keep, ...)]


@structural(["x"], view=True, linear=True, like=np.squeeze, function=False, adjoint=_same_elements, node="SqueezeBackward2")
def squeeze(x, dims):
    """Dimensions of size 1 among `dims` go away."""
    return _squeezed(x, dims)


@structural(["x"], view=True, linear=True, function=False, method=False, adjoint=_same_elements, node="SqueezeBackward0")
def squeeze_all(x):
    """All dimensions of size 1 go away."""
    return _squeezed(x, range(x.ndim))


@structural(["x"], view=True, linear=True, function=False, method=False, adjoint=_same_elements, node="SqueezeBackward1")
def squeeze_one(x, dim):
    """One dimension goes away if its size is 1."""
    return x[(slice(None),) * dim + (0, ...)] if x.ndim and x.shape[dim] == 1 else x.view()


@structural(["x"], view=True, linear=True, function=False, method=False, adjoint=lambda g: g)
def alias(x):
    """The same memory as another tensor."""
    return x.view()


@structural(["x"], view=True, linear=True, function=False, method=False,
            adjoint=lambda g: BOOK["view_as_complex"](BOOK["contiguous"](g)))
def view_as_real(x):
    """Complex numbers as pairs of real ones in a new last dimension of size 2."""
    return x[..., None].view(x.real.dtype)


@structural(["x"], view=True, linear=True, function=False, method=False, adjoint=lambda g: BOOK["view_as_real"](g))
def view_as_complex(x):
    """Pairs of real numbers in the last dimension as complex numbers; its stride is 1, the others and the offset even."""
    number = np.dtype("complex64" if x.itemsize == 4 else "complex128")
    return x.view(number)[..., 0] if x.size else np.empty(x.shape[:-1], number)


@structural(["x"], view=True, function=False, method=False)
def view_dtype(x, dtype):
    """The same bytes read as another dtype (a NumPy one); the last dimension shrinks or grows where element sizes differ."""
    if x.itemsize == np.dtype(dtype).itemsize or x.ndim == 0:
        return x.view(dtype)
    if x.itemsize > np.dtype(dtype).itemsize:
        return x.view(dtype) if x.strides[-1] == x.itemsize or x.shape[-1] == 1 else x[..., None].view(dtype).reshape(
            *x.shape[:-1], -1, copy=False)
    return x.view(dtype)


@structural(["x"], linear=True, function=False, method=False, adjoint=lambda g: BOOK["mul"](g, 0))
def zero_history(x):
    """The values, with a gradient of zero: what remains of a value that was overwritten by one without history."""
    return x


def numel(shape) -> int:
    """Number of elements of a shape."""
    return math.prod(shape)
