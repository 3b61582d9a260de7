"""Operators that read and write by index: index, gather, index_put, scatter and its reductions, and what finds positions.

Three families: rows at positions over a run of dimensions (index, take, index_select, masked_select and their writing
counterparts), elements along one dimension (gather, scatter, scatter_reduce), and functions of indices and masks that have no
derivative. Forward functions check every index before a kernel runs. The kernels are in `kernels.cpu.gathers`; what users
may write is settled in `engine.functions.indexing` and `engine.functions.scattering`, which call these records with
canonical options.
"""
from __future__ import annotations

import math

import numpy as np

from ..book import BOOK, INTS, structural
from ..cpu import gathers
from ..cpu.copies import copy
from ..table import cast_ufunc, forward_ufunc

INT64 = gathers.INT64
TAKEN = "out of range: tried to access index {index} on a tensor of {size} elements."
SELECTED = "index out of range in self (index_select: index {index}, dimension {dim} of size {size})"

# --- checks -----------------------------------------------------------------------------------------------------------

def check(index: np.ndarray, size: int, dim: int, wraps: bool = True, error: type = IndexError, text: str = "") -> np.ndarray:
    """An index array as int64, every element in range for a dimension; `error` otherwise, in PyTorch's words."""
    if index.dtype is not INT64:
        index = gathers.as_int64(index)
    count = index.size
    if count:
        if count <= gathers.FEW:
            values = (index if index.ndim == 1 else index.ravel()).tolist()
            low, high = min(values), max(values)
        else:
            low, high = gathers.extremes(index)
        if high >= size or low < (-size if wraps else 0):
            bad = high if high >= size else low
            raise error((text or "index {index} is out of bounds for dimension {dim} with size {size}").format(
                index=bad, dim=dim, size=size))
    return index


def zeros(shape, like: np.ndarray) -> np.ndarray:
    return np.zeros(shape, like.dtype)


def in_float32(function, *arrays):
    """Run an accumulation on float16 arrays in float32."""
    if arrays[0].dtype != np.float16:
        return function(*arrays)
    wide = function(*(cast_ufunc("float16", "float32")(a, out=...) for a in arrays))
    return cast_ufunc("float32", "float16")(wide, out=...)


# --- rows at positions ------------------------------------------------------------------------------------------------

@structural(["indices"], many=True, function=False, method=False, like=np.ravel_multi_index)
def ravel_index(indices, sizes, dims, wraps=True, text=""):
    """Broadcast index arrays, one for each of `sizes`, as row-major positions (int64); `dims` are the dimensions to name
    in errors."""
    total, checked, step = gathers.ZERO, [], 1
    for index, size, dim in zip(indices, sizes, dims, strict=True):
        checked.append(check(index, size, dim, wraps, IndexError, text))
    for index, size in zip(reversed(checked), reversed(sizes), strict=True):
        total = gathers.advance(total, index, size, step)
        step *= size
    return total


# `named` of the records below: where the positions are a user's own index (int64, negative ones count from the end), the
# dimension to name in errors, checked at each use; -1 where they were made here and are in range.

def _checked(positions, x_shape, first, last, named, text=""):
    return positions if named < 0 else check(positions, math.prod(x_shape[first:last]), named, text=text)


def _index_gradient(g, positions, x_shape, first, last, named):
    return BOOK["index_backward"](g, positions, shape=x_shape, first=first, last=last, named=named), None


def _reading(name: str, node: str, doc: str, text: str = ""):
    """A record that picks rows; several names, because each has its node in PyTorch."""
    @structural(["x", "positions"], name=name, node=node, linear=True, function=False, method=False, adjoint=_index_gradient,
                doc=doc)
    def forward(x, positions, first, last, named=-1):
        if named >= 0:
            positions = check(positions, x.shape[first] if last - first == 1 else math.prod(x.shape[first:last]), named, True,
                              IndexError, text)
        return gathers.pick(x, positions, first, last)
    return forward


_reading("index", "IndexBackward0", "Rows at positions over dimensions first..last-1, which the positions' shape replaces.")
_reading("index_select", "IndexSelectBackward0", "Rows at indices of one dimension.", SELECTED)
_reading("take", "TakeBackward0", "Elements at positions over all dimensions.", TAKEN)
_reading("masked_select", "MaskedSelectBackward0", "Elements where a mask is set.")


@structural(["x", "positions"], linear=True, function=False, method=False,
            adjoint=lambda g, positions, first, last, named: (
                BOOK["index"](g, positions, first=first, last=last, named=named), None))
def index_backward(x, positions, shape, first, last, named=-1):
    """Zeros with the rows of `x` added at positions: the adjoint of index."""
    positions = _checked(positions, shape, first, last, named)

    def accumulate(values):
        out = zeros(shape, values)
        gathers.put(out, positions, values, first, last, "sum")
        return out
    return in_float32(accumulate, x)


def _put_gradient(g, needs, positions, first, last, accumulate, named):
    where = {"first": first, "last": last, "named": named}
    g_x = g if accumulate or not needs[0] else BOOK["index_clear"](g, positions, **where)
    g_values = BOOK["index"](g, positions, **where) if needs[1] else None
    return g_x, g_values, None


def _writing(name: str, node: str, doc: str):
    @structural(["x", "values", "positions"], name=name, node=node, linear=True, function=False, method=False,
                adjoint=_put_gradient, doc=doc)
    def forward(x, values, positions, first, last, accumulate=False, named=-1):
        positions = _checked(positions, x.shape, first, last, named)

        def run(x, values):
            out = copy(x)
            gathers.put(out, positions, values, first, last, "sum" if accumulate else "set")
            return out
        return in_float32(run, x, values) if accumulate else run(x, values)
    return forward


_writing("index_put", "IndexPutBackward0", "A copy with rows at positions replaced by values, or with values added to them.")
_writing("put", "PutBackward0", "A copy with the elements at flat positions replaced or added to.")
_writing("index_add", "IndexAddBackward0", "A copy with rows of another tensor added at indices of one dimension.")
_writing("index_copy", "IndexCopyBackward0", "A copy with rows of another tensor at indices of one dimension.")
_writing("index_fill", "IndexFillBackward0", "A copy with a number in the rows at indices of one dimension.")
_writing("index_fill_value", "IndexFillBackward1", "A copy with a tensor's only element in the rows at indices of one "
                                                   "dimension.")
_writing("masked_scatter", "MaskedScatterBackward0", "A copy with the elements under a mask taken from another tensor in "
                                                     "order.")


@structural(["x", "positions"], linear=True, function=False, method=False,
            adjoint=lambda g, positions, first, last, named: (
                BOOK["index_clear"](g, positions, first=first, last=last, named=named), None))
def index_clear(x, positions, first, last, named=-1):
    """A copy with zeros in the rows at positions: the adjoint of index_put for the tensor written to, and of itself."""
    positions = _checked(positions, x.shape, first, last, named)
    out = copy(x)
    gathers.put(out, positions, np.zeros((), x.dtype), first, last)
    return out


# --- elements along a dimension ---------------------------------------------------------------------------------------

def _lane(index, x, dim, error=RuntimeError):
    return check(index, x.shape[dim] if x.ndim else 1, dim, False, error)


def _gather_gradient(g, index, x_shape, dim):
    return BOOK["gather_backward"](g, index, shape=x_shape, dim=dim), None


def _gathering(name: str, node: str, doc: str):
    @structural(["x", "index"], name=name, node=node, linear=True, function=False, method=False, adjoint=_gather_gradient,
                doc=doc, like=np.take_along_axis if name == "gather" else None)
    def forward(x, index, dim):
        return gathers.gather(x, dim, _lane(index, x, dim))
    return forward


_gathering("gather", "GatherBackward0", "out[i][j] = x[index[i][j]][j] for dim 0, and so on.")
_gathering("sorted_values", "SortBackward0", "The values of sort, read at its indices.")
_gathering("stable_values", "SortBackward1", "The values of sort(stable=...), read at its indices.")
_gathering("topk_values", "TopkBackward0", "The values of topk, read at its indices.")


def _kth_gradient(g, index, x_shape, dim):
    def back(t):        # the result lacks the dimension unless it was kept
        return t if t.ndim == len(x_shape) else BOOK["unsqueeze"](t, dim=dim)
    return BOOK["gather_backward"](back(g), back(index), shape=x_shape, dim=dim), None


@structural(["x", "index"], linear=True, function=False, method=False, node="KthvalueBackward0", adjoint=_kth_gradient)
def kth_values(x, index, dim):
    """One element a row along a dimension, at an index with that dimension of size 1, or without it."""
    index = _lane(index, x, dim)
    if index.ndim == x.ndim:
        return gathers.gather(x, dim, index)
    return gathers.gather(x, dim, np.expand_dims(index, dim)).reshape(index.shape)


@structural(["x", "index"], linear=True, function=False, method=False,
            adjoint=lambda g, index, dim: (BOOK["gather"](g, index, dim=dim), None))
def gather_backward(x, index, shape, dim):
    """Zeros with `x` added at an index of one dimension: the adjoint of gather."""
    index = check(index, shape[dim] if shape else 1, dim, False, RuntimeError)

    def accumulate(values):
        out = zeros(shape, values)
        gathers.scatter(out, dim, index, values, "sum")
        return out
    return in_float32(accumulate, x)


def _scatter(x, src, index, dim, how):
    index = _lane(index, x, dim)

    def run(x, src):
        out = copy(x)
        gathers.scatter(out, dim, index, src, how)
        return out
    return run(x, src) if how == "set" else in_float32(run, x, src)


def _scatter_gradient(g, needs, index, dim):
    return (BOOK["scatter_clear"](g, index, dim=dim) if needs[0] else None,
            BOOK["gather"](g, index, dim=dim) if needs[1] else None, None)


def _scattering(name: str, node: str, doc: str):
    @structural(["x", "src", "index"], name=name, node=node, linear=True, function=False, method=False,
                adjoint=_scatter_gradient, doc=doc)
    def forward(x, src, index, dim):
        return _scatter(x, src, index, dim, "set")
    return forward


_scattering("scatter", "ScatterBackward0", "A copy in which out[index[i][j]][j] = src[i][j] for dim 0, and so on; the last "
                                           "of equal "
            "indices wins. `src` has the index's shape.")
_scattering("scatter_value", "ScatterBackward1", "As scatter, of a number.")


@structural(["x", "src", "index"], linear=True, function=False, method=False,
            adjoint=lambda g, needs, index, dim: (g, BOOK["gather"](g, index, dim=dim) if needs[1] else None, None))
def scatter_add(x, src, index, dim):
    """As scatter, adding in the order of the index."""
    return _scatter(x, src, index, dim, "sum")


@structural(["x", "index"], linear=True, function=False, method=False,
            adjoint=lambda g, index, dim: (BOOK["scatter_clear"](g, index, dim=dim), None))
def scatter_clear(x, index, dim):
    """A copy with zeros at the index: the adjoint of scatter for the tensor written to, and of itself."""
    return _scatter(x, gathers.spread(np.zeros((), x.dtype), index.shape), index, dim, "set")


# --- scatter with a reduction -----------------------------------------------------------------------------------------

def neutral(dtype: np.dtype, reduce: str):
    """The number that a reduction starts from where the old element does not count."""
    if reduce in ("sum", "mean"):
        return 0
    if reduce == "prod":
        return 1
    if dtype.kind == "f":
        return -np.inf if reduce == "amax" else np.inf
    if dtype.kind == "b":
        return reduce == "amin"
    return getattr(np.iinfo(dtype), "min" if reduce == "amax" else "max")


def _scatter_reduce(x, src, index, dim, reduce, include_self):
    index = _lane(index, x, dim)

    def run(x, src):
        out = copy(x)
        if not include_self:
            start = np.array(neutral(x.dtype, reduce), x.dtype)
            gathers.scatter(out, dim, index, gathers.spread(start, index.shape))
        gathers.scatter(out, dim, index, src, "sum" if reduce == "mean" else reduce)
        if reduce == "mean":
            count = np.ones(x.shape, x.dtype)
            one = np.ones((), x.dtype)
            if not include_self:
                gathers.scatter(count, dim, index, gathers.spread(np.zeros((), x.dtype), index.shape))
            gathers.scatter(count, dim, index, gathers.spread(one, index.shape), "sum")
            divide = BOOK["floor_divide" if x.dtype.name in INTS else "div"]
            out = forward_ufunc(divide, x.dtype.name)(out, count, out=...)
        return out
    return in_float32(run, x, src)


def _where(mask, x, like):
    """`x` where a mask is set and zero elsewhere."""
    return BOOK["where"](mask, x, like.new_zeros(()))


def _reduce_gradient(g, needs, x, src, index, out, dim, reduce, include_self):
    one = g.new_ones(())

    def read(t):
        return BOOK["gather"](t, index, dim=dim)

    def added(start, values):
        return BOOK["scatter_add"](start, values, index, dim=dim)
    if reduce == "sum":
        g_x, g_src = g, read(g)
    elif reduce == "mean":
        count = added(g.new_ones(g.shape) if include_self else g.new_zeros(g.shape), g.new_ones(index.shape))
        count = BOOK["where"](BOOK["eq"](count, 0), one, count)
        g_x = g / count
        g_src = read(g_x)
    elif reduce == "prod":
        x_safe = BOOK["where"](BOOK["eq"](x, 0), one, x)
        g_x = g * BOOK["scatter_reduce"](x_safe, src, index, dim=dim, reduce="prod", include_self=include_self) / x_safe
        zero = BOOK["eq"](src, 0)
        single = BOOK["eq"](_where(zero, read(added(g.new_zeros(g.shape), _where(zero, one, g))), g), 1)
        rest = BOOK["where"](single, one, src)
        others = BOOK["scatter_reduce"](x, rest, index, dim=dim, reduce="prod", include_self=include_self)
        g_src = BOOK["where"](single, read(g * others), read(g * out) / BOOK["where"](zero, one, src))
    else:       # ties share the gradient evenly
        from_x, from_src = BOOK["eq"](x, out), BOOK["eq"](src, read(out))
        count = added(_where(from_x, one, g), _where(from_src, one, g))
        share = g / BOOK["where"](BOOK["eq"](count, 0), one, count)
        g_x, g_src = _where(from_x, share, g), _where(from_src, read(share), g)
        if not include_self:
            count = added(g.new_zeros(g.shape), _where(from_src, one, g))
            share = g / BOOK["where"](BOOK["eq"](count, 0), one, count)
            g_x, g_src = g, _where(from_src, read(share), g)
    if not include_self and needs[0]:
        g_x = BOOK["scatter_clear"](g_x if reduce not in ("prod", "mean") else g, index, dim=dim)
    return g_x if needs[0] else None, g_src if needs[1] else None, None


for _name in ("scatter_reduce", "index_reduce"):
    structural(["x", "src", "index"], name=_name, function=False, method=False, adjoint=_reduce_gradient,
               doc="A copy in which the elements at an index are combined with those of another tensor.")(_scatter_reduce)


# --- positions --------------------------------------------------------------------------------------------------------

@structural(["x"], function=False, method=False)
def nonzero_positions(x):
    """Row-major positions of the elements that are not zero."""
    mask = x if x.dtype == np.bool_ else cast_ufunc(x.dtype.name, "bool")(x, out=...)
    return gathers.positions_of(mask)


@structural(["positions"], function=False, method=False, like=np.unravel_index)
def unravel(positions, sizes):
    """Coordinates (m, d) of row-major positions (m)."""
    if not sizes:
        return np.zeros((positions.size, 0), np.int64)
    return gathers.unravel(positions, sizes) if math.prod(sizes) else np.zeros((0, len(sizes)), np.int64)
