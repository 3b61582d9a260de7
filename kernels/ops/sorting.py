"""Operators that put in order: argsort, top positions, search in sorted rows, groups of equals. None has a derivative.

Sorted values are read through the indices by `sorted_values` and its kin (`kernels.ops.indexing`), which differentiate.
What users may write is settled in `engine.functions.sorting`; the kernels are in `kernels.cpu.sorting`.
"""
from __future__ import annotations

import numpy as np

from ..book import structural
from ..cpu import gathers, sorting
from ..cpu.scans import moved

SELECTED = 64           # up to how many elements topk keeps a short list, instead of sorting everything


def _last(x: np.ndarray, dim: int) -> np.ndarray:
    """The dimension to sort along, last; a number is a row of one."""
    return x.reshape(1) if not x.ndim else x if dim == x.ndim - 1 else moved(x, dim, x.ndim - 1)


def _back(found: np.ndarray, x: np.ndarray, dim: int) -> np.ndarray:
    return found.reshape(x.shape) if not x.ndim else found if dim == x.ndim - 1 else moved(found, found.ndim - 1, dim)


@structural(["x"], function=False, method=False, like=np.argsort)
def argsort(x, dim, descending):
    """Indices (int64) that sort along a dimension; stable in both directions; NaN is larger than every number."""
    return _back(sorting.sort_rows(sorting.keys_of(_last(x, dim), descending)), x, dim)


@structural(["x"], function=False, method=False)
def top_positions(x, k, dim, largest):
    """Indices (int64) of the k largest or smallest elements along a dimension, in order."""
    keys = sorting.keys_of(_last(x, dim), largest)
    if k <= SELECTED:
        found = sorting.select_rows(keys, k)
    else:
        found = gathers.as_contiguous(sorting.sort_rows(keys)[..., :k])
    if not x.ndim:
        return found.reshape(()) if k else found
    return found if dim == x.ndim - 1 else moved(found, found.ndim - 1, dim)


@structural(["sorted_sequence", "values"], function=False, method=False, like=np.searchsorted)
def search(sorted_sequence, values, right):
    """Positions of values in sorted rows of the same dtype; from the right of equals where `right`."""
    return sorting.search(sorting.keys_of(sorted_sequence), sorting.keys_of(values), right)


@structural(["x", "test"], function=False, method=False, like=np.isin)
def member(x, test, invert):
    """Whether each element of `x` is among those of `test` (a vector of the same dtype), or is not. NaN is among nothing."""
    keys = sorting.keys_of(test)
    order = sorting.sort_rows(keys)
    ordered = gathers.pick(keys, order, 0, 1)
    values = sorting.keys_of(x)
    if x.dtype.kind == "f" and ordered.size:          # NaN is among nothing: take its key out of the list
        ones = np.array(np.iinfo(keys.dtype).max, keys.dtype)
        ordered = ordered[:int(sorting.search(ordered, ones.reshape(1), False)[0])]
    if not ordered.size:
        return np.full(x.shape, bool(invert))
    return sorting.member(ordered, values.reshape(-1), not invert).reshape(x.shape)


@structural(["x"], function=False, method=False)
def groups(x, consecutive):
    """Equal rows of a matrix: (order of the rows, run number of each row in that order, how many runs).

    Rows are ordered lexicographically, or as they stand where `consecutive`. NaN equals nothing.
    """
    keys = sorting.keys_of(x)
    rows, columns = keys.shape
    order = np.arange(rows)
    if not consecutive:
        for column in range(columns - 1, -1, -1):       # stable sorts from the last column to the first
            own = gathers.as_contiguous(keys[:, column])
            order = gathers.pick(order, sorting.sort_rows(gathers.pick(own, order, 0, 1)), 0, 1)
    runs = sorting.runs(keys, order, x.dtype.kind == "f") if rows else order
    return order, runs, np.array(int(runs[-1]) + 1 if rows else 0)
