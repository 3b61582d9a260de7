"""Views: operators that look at the same memory in another shape, with the adjoints that scatter gradients back.

Options are canonical here: dimensions counted from the front, sizes complete. What users may write instead (negative dimensions, -1, several
dims) is settled in `engine.functions.shape`.
"""
from __future__ import annotations

import numpy as np

from ..book import BOOK, structural


def _reshape_view(x, shape):
    """A view of the array in another shape, or None where strides do not allow one."""
    view = x.view()
    try:
        view.shape = shape
    except AttributeError:
        return None
    return view


@structural(["x"], view=True, linear=True, adjoint=lambda g, x_shape: BOOK["reshape"](g, shape=x_shape), like=np.reshape,
            function=False, node="ViewBackward0")
def view(x, shape):
    """The same elements in row-major order in another shape, without a copy. `shape` is complete and has as many elements."""
    if x.flags.c_contiguous:
        return x.reshape(shape)
    found = _reshape_view(x, shape)
    if found is None:
        raise RuntimeError("view size is not compatible with input tensor's size and stride (at least one dimension spans across two "
                           "contiguous subspaces). Use .reshape(...) instead.")
    return found


@structural(["x"], linear=True, adjoint=lambda g, x_shape: BOOK["reshape"](g, shape=x_shape), like=np.reshape, function=False,
            node="ViewBackward0")
def reshape(x, shape):
    """The same elements in another shape; the engine uses it where a copy is needed."""
    return x.reshape(shape)


@structural(["x"], view=True, linear=True, like=np.broadcast_to, function=False,
            adjoint=lambda g, x_shape: BOOK["sum_to"](g, shape=x_shape))
def expand(x, shape):
    """Dimensions of size 1 (and new leading ones) repeated without a copy."""
    return np.broadcast_to(x, shape) if isinstance(x, np.ndarray) else x.expand(shape)


def _sum_to(g, shape):
    lead = g.ndim - len(shape)
    dims = (*range(lead), *(lead + d for d, n in enumerate(shape) if n == 1 and g.shape[lead + d] != 1))
    if not dims:
        return g
    return BOOK["sum"].on_arrays(g, dims, True).reshape(shape)


@structural(["x"], linear=True, function=False, method=False, node="SumBackward1",
            adjoint=lambda g, x_shape: BOOK["expand"](g, shape=x_shape))
def sum_to(x, shape):
    """Sum over the dimensions that broadcasting from `shape` would add or repeat: the adjoint of expand."""
    return _sum_to(x, shape)


@structural(["x"], view=True, linear=True, like=np.transpose, function=False,
            adjoint=lambda g, dims: BOOK["permute"](g, dims=tuple(int(d) for d in np.argsort(dims))))
def permute(x, dims):
    """Dimensions in another order."""
    return x.transpose(dims)


@structural(["x"], view=True, linear=True, function=False, adjoint=lambda g, dim0, dim1: BOOK["transpose"](g, dim0=dim0, dim1=dim1))
def transpose(x, dim0, dim1):
    """Two dimensions exchanged."""
    dims = list(range(x.ndim))
    if dims:
        dims[dim0], dims[dim1] = dims[dim1], dims[dim0]
    return x.transpose(dims)


@structural(["x"], view=True, linear=True, function=False, adjoint=lambda g: BOOK["t"](g))
def t(x):
    """A matrix transposed; fewer dimensions stay."""
    return x.T


@structural(["x"], view=True, linear=True, function=False,
            adjoint=lambda g, x_shape, dim, index: BOOK["select_backward"](g, shape=x_shape, dim=dim, index=index))
def select(x, dim, index):
    """One index of one dimension, which goes away."""
    return x[index, ...] if dim == 0 else x[(slice(None),) * dim + (index, ...)]


@structural(["x"], linear=True, function=False, method=False, adjoint=lambda g, dim, index: BOOK["select"](g, dim=dim, index=index))
def select_backward(x, shape, dim, index):
    """Zeros with `x` at one index of one dimension: the adjoint of select."""
    out = np.zeros(shape, x.dtype)
    out[(slice(None),) * dim + (index,)] = x
    return out


@structural(["x"], view=True, linear=True, function=False,
            adjoint=lambda g, x_shape, dim, start, stop, step: BOOK["slice_backward"](
                g, shape=x_shape, dim=dim, start=start, stop=stop, step=step))
def slice_(x, dim, start, stop, step):
    """Every step-th index from start to stop of one dimension; start, stop, step as `slice.indices` gives them."""
    return x[(slice(None),) * dim + (slice(start, stop, step),)]


@structural(["x"], linear=True, function=False, method=False,
            adjoint=lambda g, dim, start, stop, step: BOOK["slice"](g, dim=dim, start=start, stop=stop, step=step))
def slice_backward(x, shape, dim, start, stop, step):
    """Zeros with `x` in the slice of one dimension: the adjoint of slice."""
    out = np.zeros(shape, x.dtype)
    out[(slice(None),) * dim + (slice(start, stop, step),)] = x
    return out


@structural(["x"], view=True, linear=True, like=np.expand_dims, function=False, adjoint=lambda g, x_shape: BOOK["view_as_shape"](g, shape=x_shape))
def unsqueeze(x, dim):
    """A new dimension of size 1."""
    return x.reshape(*x.shape[:dim], 1, *x.shape[dim:]) if x.flags.c_contiguous else np.expand_dims(x, dim)


@structural(["x"], view=True, linear=True, like=np.squeeze, function=False, adjoint=lambda g, x_shape: BOOK["view_as_shape"](g, shape=x_shape))
def squeeze(x, dims):
    """Dimensions of size 1 among `dims` go away."""
    return x.squeeze(tuple(d for d in dims if x.shape[d] == 1))


@structural(["x"], linear=True, function=False, method=False, adjoint=lambda g, x_shape: BOOK["view_as_shape"](g, shape=x_shape))
def view_as_shape(x, shape):
    """Reshape without saying whether it copies: the adjoint of squeeze and unsqueeze."""
    return x.reshape(shape)


@structural(["x"], linear=True, function=False, like=np.copy, adjoint=lambda g: g)
def clone(x):
    """A copy in memory of its own; dense layouts keep their strides."""
    from ..cpu.copies import copy
    return copy(x, "K")


@structural(["x"], view=True, linear=True, function=False, method=False, adjoint=lambda g: g)
def alias(x):
    """The same memory as another tensor."""
    return x.view()


@structural(["x"], linear=True, function=False, method=False, adjoint=lambda g: BOOK["mul"](g, 0))
def zero_history(x):
    """The values, with a gradient of zero: what remains of a value that was overwritten by one without history."""
    return x

