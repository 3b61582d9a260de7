"""Rows of a table by index: embedding, and sums and maxima over bags of rows.

Indices are int64 and in range (checked in `engine.nn.functional.embedding`). Rows are moved and added up by the kernels of
`kernels.cpu.gathers`; only the largest elements of bags have a kernel of their own.
"""
from __future__ import annotations

import functools

import numpy as np

from ..book import BOOK, FLOATS, structural
from ..cpu import gathers
from ..cpu.maps import loaded
from ..cpu.native import Program, make_ufunc
from .indexing import in_float32, zeros


def _rows(x, positions):
    return BOOK["index"](x, positions, first=0, last=1, named=-1)


def _added(rows, positions, shape):
    return BOOK["index_backward"](rows, positions, shape=shape, first=0, last=1, named=-1)


def _column(x):
    return BOOK["reshape"](x, shape=(*x._array.shape, 1))


def _by_frequency(g, positions, rows):
    """Each row of a gradient over how often its index occurs."""
    counts = BOOK["bincount"](BOOK["reshape"](positions, shape=(positions._array.size,)), size=rows)
    return BOOK["div"](g, _column(_rows(counts, positions)))


# --- one row an index --------------------------------------------------------------------------------------------------

def _embedding_gradient(g, positions, weight_shape, padding, by_frequency):
    if by_frequency:
        g = _by_frequency(g, positions, weight_shape[0])
    if padding >= 0:
        g = BOOK["where"](BOOK["ne"](_column(positions), padding), g, 0)
    return _added(g, positions, weight_shape), None


@structural(["weight", "positions"], function=False, method=False, adjoint=_embedding_gradient, node="EmbeddingBackward0")
def embedding(weight, positions, padding, by_frequency):
    """Rows of a table. The row `padding` (-1: none) gets no gradient, the others theirs over their count if `by_frequency`."""
    if positions.size:
        low, high = gathers.extremes(positions)
        if low < 0 or high >= weight.shape[0]:
            raise IndexError("index out of range in self")
    return gathers.pick(weight, positions, 0, 1)


# --- bags ---------------------------------------------------------------------------------------------------------------

def _bag_gradient(g, weight, scale, positions, bags, needs, by_frequency, weight_shape):
    g = _rows(g, bags)
    of_scale = BOOK["sum"](BOOK["mul"](g, _rows(weight, positions)), dims=(1,), keepdim=False) if needs[1] else None
    if not needs[0]:
        return None, of_scale, None, None
    g = BOOK["mul"](g, _column(scale))
    if by_frequency:
        g = _by_frequency(g, positions, weight_shape[0])
    return _added(g, positions, weight_shape), of_scale, None, None


@structural(["weight", "scale", "positions", "bags"], dtypes=FLOATS, function=False, method=False, adjoint=_bag_gradient,
            node="EmbeddingBagBackward0")
def embedding_bag(weight, scale, positions, bags, count, by_frequency):
    """Sums over `count` bags: the row at positions[i] times scale[i] goes to bag bags[i]."""
    def run(weight, scale):
        rows = BOOK["mul"].on_arrays(gathers.pick(weight, positions, 0, 1), scale[:, None])
        out = zeros((count, weight.shape[1]), weight)
        gathers.put(out, bags, rows, 0, 1, "sum")
        return out
    return in_float32(run, weight, scale)


@functools.cache
def _largest_ufunc(dtype: str) -> np.ufunc:
    """weight (v, d), positions (m), starts, ends (b) -> for each bag and column the row of its largest element, -1 if empty."""
    value = loaded(dtype, "w", "at * steps[5] + c * steps[6]")
    best = loaded(dtype, "w", "held * steps[5] + c * steps[6]")
    source = f"""
def kernel(args, dimensions, steps, data):
    d, b, w, q = dimensions[2], dimensions[4], args[0], args[4]
    for k in range(b):
        start, end = load_int64(args[2], k * steps[8]), load_int64(args[3], k * steps[9])
        for c in range(d):
            place = k * steps[10] + c * steps[11]
            store_int64(q, place, -1 if start >= end else load_int64(args[1], start * steps[7]))
        for i in range(start + 1, end):
            at = load_int64(args[1], i * steps[7])
            for c in range(d):
                place = k * steps[10] + c * steps[11]
                held = peek_int64(q, place)
                if {value} > {best}:
                    store_int64(q, place, at)
    clear_status()
"""
    return make_ufunc(Program(f"bag_largest_{dtype}", source, inputs=(dtype, "int64", "int64", "int64"), outputs=("int64",),
                              signature="(v,d),(m),(b),(b)->(b,d)"))


def _largest_gradient(g, out1, weight_shape):
    there = BOOK["ge"](out1, 0)
    return (BOOK["scatter_add"](g.new_zeros(weight_shape), BOOK["where"](there, g, 0), BOOK["where"](there, out1, 0), dim=0),
            None, None, None)


@structural(["weight", "positions", "starts", "ends"], dtypes=FLOATS, function=False, method=False, nondiff=(1,),
            adjoint=lambda gs, out1, weight_shape: _largest_gradient(gs[0], out1, weight_shape), node="EmbeddingBagBackward0")
def embedding_bag_max(weight, positions, starts, ends):
    """The largest element of each column over the rows of each bag, the first of equal ones, zero for an empty bag; its row."""
    shape = (starts.size, weight.shape[1])
    index = np.full(shape, -1, np.int64)
    if index.size and positions.size:
        _largest_ufunc(weight.dtype.name)(weight, positions, starts, ends, out=index)
    else:
        return zeros(shape, weight), index
    there = BOOK["ge"].on_arrays(index, np.int64(0))
    safe = BOOK["where"].on_arrays(there, index, np.int64(0))
    found = gathers.gather(weight, 0, safe)
    return BOOK["where"].on_arrays(there, found, np.zeros((), weight.dtype)), index
