"""Sorting and searching: sort, argsort, topk, kthvalue, msort, unique, unique_consecutive, searchsorted, bucketize, isin.

Indices come from the records of `kernels.ops.sorting`; values are read through them, which is where gradients flow. Named
results are (values, indices). NaN is larger than every number, and equal to nothing for unique and isin, as in PyTorch.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from kernels.book import BOOK
from kernels.cpu import gathers

from .. import dtypes
from ..devices import CPU
from ..dispatch import cast, common_device, constant, into
from ..return_types import named
from ..saved import undifferentiable
from ..tape import modes
from ..tensor import KIND, Tensor, wrap, wrap_dim
from .indexing import INT64
from .registry import public
from .sequences import arange

Sorted, Top, Kth = named("sort", "values indices"), named("topk", "values indices"), named("kthvalue", "values indices")


ARGSORT, TOP = BOOK["argsort"].apply.hot(), BOOK["top_positions"].apply.hot()
READ = {name: BOOK[name].apply.hot() for name in ("sorted_values", "stable_values", "topk_values")}


def _sortable(x: Tensor, name: str) -> None:
    if x._kind.dtype.category == 3:
        raise RuntimeError(f" {name} does not support complex dtypes on CPU")


def _read(x: Tensor, indices: Tensor, dim: int, operation: str) -> Tensor:
    """Values at indices along a dimension, differentiable; a number is a vector of one."""
    if x._array.ndim and indices._array.ndim:
        return READ[operation](x, indices, dim)
    flat = BOOK["view"](x, shape=(1,)) if not x._array.ndim else x
    found = READ[operation](flat, indices if indices._array.ndim else BOOK["view"](indices, shape=(1,)), 0)
    return BOOK["view"](found, shape=indices._array.shape)


def _pair(result, out):
    """A named pair, written to a pair of `out` tensors if given."""
    if out is None:
        return result
    return type(result)(into(out[0], result[0]), into(out[1], result[1]))


# --- sort -------------------------------------------------------------------------------------------------------------

@public()
def sort(input: Tensor, dim: int = -1, descending: bool = False, *, stable: bool | None = None,
         out: Tensor | None = None) -> Sorted:
    """(values, indices) sorted along a dimension, always stable; NaN counts as larger than every number.

    Values have the input's dtype, indices are int64. Errors: RuntimeError for complex numbers.
    """
    _sortable(input, "Sort")
    dim = wrap_dim(dim, input._array.ndim)
    indices = ARGSORT(input, dim, bool(descending))
    return _pair(Sorted(_read(input, indices, dim, "sorted_values" if stable is None else "stable_values"), indices), out)


@public()
def argsort(input: Tensor, dim: int = -1, descending: bool = False, *, stable: bool = False) -> Tensor:
    """The indices (int64) that sort along a dimension, always stable."""
    _sortable(input, "Sort")
    return ARGSORT(input, wrap_dim(dim, input._array.ndim), bool(descending))


@public()
def msort(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The values sorted along the first dimension."""
    values = sort(input, 0).values
    return values if out is None else into(out, values)


@public()
def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True, *, out: Tensor | None = None) -> Top:
    """(values, indices) of the k largest (or smallest) elements along a dimension, in order; of equals the first come first."""
    _sortable(input, "topk")
    if input._kind.dtype is dtypes.bool_:
        raise RuntimeError("topk does not support bool dtypes on CPU")
    dim = wrap_dim(dim, input._array.ndim)
    k = k.__index__()
    size = input._array.shape[dim] if input._array.ndim else 1
    if not 0 <= k <= size:
        raise RuntimeError(f"selected index k out of range (k is {k}, dimension {dim} has {size} elements)")
    indices = TOP(input, k, dim, bool(largest))
    return _pair(Top(_read(input, indices, dim, "topk_values"), indices), out)


@public()
def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False, *, out: Tensor | None = None) -> Kth:
    """(values, indices) of the k-th smallest element along a dimension, counted from 1."""
    if input._kind.dtype is dtypes.bool_ or input._kind.dtype.is_complex:
        raise NotImplementedError(f'"kthvalue_cpu" not implemented for \'{input._kind.dtype.scalar}\'')
    dim = wrap_dim(dim, input._array.ndim)
    size = input._array.shape[dim] if input._array.ndim else 1
    if input._array.ndim and not input._array.size and not size:
        raise IndexError(f"kthvalue(): Expected reduction dim {dim} to have non-zero size.")
    if not 1 <= k <= size:
        raise RuntimeError(f"kthvalue(): selected number k out of range for dimension {dim}")
    if not input._array.ndim:
        index = input.new_zeros((), dtype=dtypes.int64)
        return _pair(Kth(BOOK["kth_values"](input, index, dim=0), index), out)
    if k <= 64:
        indices = BOOK["top_positions"](input, k=k, dim=dim, largest=False)
    else:
        indices = BOOK["argsort"](input, dim=dim, descending=False)
    index = BOOK["select"](indices, dim=dim, index=k - 1).contiguous()
    if keepdim:
        index = BOOK["unsqueeze"](index, dim=dim)
    return _pair(Kth(BOOK["kth_values"](input, index, dim=dim), index), out)


# --- unique -----------------------------------------------------------------------------------------------------------

def _parts(order: Tensor, run: Tensor, size: int, inverse: bool, counts: bool) -> tuple[Tensor | None, ...]:
    """Of groups of rows: the first row of each, where each row went, how many rows each has (as far as they are wanted)."""
    order, run = order._array, run._array
    firsts, back, total = np.empty(size, np.int64), None, None
    if size:        # written from the last row to the first, so that the first of each run stays
        gathers.put(firsts, run[::-1], order[::-1], 0, 1)
    if inverse:
        back = np.empty(len(order), np.int64)
        if size:
            gathers.put(back, order, run, 0, 1)
    if counts:
        total = np.zeros(size, np.int64)
        if size:
            gathers.put(total, run, np.ones((), np.int64), 0, 1, "sum")
    return tuple([None if a is None else wrap(a, INT64) for a in (firsts, back, total)])


def _parts_by_search(order: Tensor, run: Tensor, size: int, inverse: bool, counts: bool) -> tuple[Tensor | None, ...]:
    """As `_parts`, in operators that run on every device: runs are sorted, and `order` has each row once."""
    numbers = arange(size, device=order.device)
    begin = BOOK["search"](run, numbers, right=False)
    firsts = BOOK["index"](order, begin, first=0, last=1)
    back = BOOK["index"](run, ARGSORT(order, 0, False), first=0, last=1) if inverse else None
    total = BOOK["sub"](BOOK["search"](run, numbers, right=True), begin) if counts else None
    return firsts, back, total


def _unique(input: Tensor, consecutive: bool, inverse: bool, counts: bool, dim: int | None):
    """What unique and unique_consecutive share: rows of a matrix grouped, the first of each group kept."""
    if input._kind.dtype.is_complex:
        raise NotImplementedError(f"\"unique\" not implemented for '{input._kind.dtype.scalar}'")
    x, shape = input.detach(), input._array.shape
    if dim is not None:
        dim = wrap_dim(dim, len(shape))
        if not input._array.size and shape[dim]:
            raise RuntimeError("There are 0 sized dimensions, and they aren't selected, so unique cannot be applied")
        source, at = x if shape else x.reshape(1), dim
        rows = source._array.shape[dim]
        matrix = source.movedim(dim, 0).reshape(rows, x._array.size // rows) if rows else x.new_empty((0, 1))
    else:
        source, at = x.reshape(-1), 0
        matrix = source.reshape(-1, 1)
    order, run, count = BOOK["groups"](matrix, consecutive=consecutive)
    firsts, back, total = (_parts if x._kind.device is CPU else _parts_by_search)(order, run, count.item(), inverse, counts)
    results = [BOOK["index"](source, firsts, first=at, last=at + 1)]
    if inverse:
        results.append(back if dim is not None else back.reshape(shape))
    if counts:
        results.append(total)
    if modes.enabled and input.requires_grad:       # as in PyTorch: in the graph, without a derivative
        name = "unique_consecutive" if consecutive else "_unique2" if dim is None else "unique_dim"
        node = "UniqueConsecutive" if consecutive else "Unique2" if dim is None else "UniqueDim"
        undifferentiable(tuple(results), node + "Backward0", input, f"the derivative for '{name}' is not implemented.",
                         NotImplementedError)
    return results[0] if len(results) == 1 else tuple(results)


@public()
def unique(input: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False,
           dim: int | None = None) -> Any:
    """The different elements in order, or the different slices of a dimension; NaN differs from NaN.

    With `return_inverse` also where each element went (int64), with `return_counts` also how many there are of each. The
    result is in order whether `sorted` or not. It has no derivative: NotImplementedError in backward.
    """
    return _unique(input, False, return_inverse, return_counts, dim)


@public()
def unique_consecutive(input: Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None) -> Any:
    """As unique, but only neighbours are compared and the order stays."""
    return _unique(input, True, return_inverse, return_counts, dim)


# --- search -----------------------------------------------------------------------------------------------------------

def _common(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Two tensors in the dtype that both are promoted to."""
    kind = KIND[dtypes.promote_types(a._kind.dtype, b._kind.dtype)]
    return a if a._kind is kind else cast(a, kind), b if b._kind is kind else cast(b, kind)


def _number_like(value, other: Tensor) -> Tensor:
    """A Python number as a tensor without dimensions, of a dtype that keeps its value next to `other`."""
    if isinstance(value, (Tensor, np.ndarray)):
        raise TypeError(f"expected a number, got {type(value).__name__}")
    kind = other._kind
    if isinstance(value, float) and kind.dtype.category < 2:
        kind = KIND[dtypes.DEFAULT.dtype]
    elif not isinstance(value, bool) and kind.dtype.category < 1:
        kind = INT64
    return constant(value, kind)


def _search(name: str, sequence: Tensor, values, right: bool, out_int32: bool, sorter: Tensor | None = None) -> Tensor:
    values = values if isinstance(values, Tensor) else _number_like(values, sequence)
    common_device(name, (sequence, values))
    sequence, values = sequence.detach(), values.detach()
    if sequence._kind.dtype.is_complex or values._kind.dtype.is_complex:
        raise NotImplementedError(f"\"{name}_out_cpu\" not implemented for complex numbers")
    if sorter is not None:
        if sorter._array.shape != sequence._array.shape:
            raise RuntimeError(f"torch.searchsorted(): boundary and sorter must have the same size, but got boundary tensor "
                               f"{list(sequence.shape)}and got sorter tensor {list(sorter.shape)}")
        if sorter._kind.dtype is not dtypes.int64:
            raise RuntimeError("torch.searchsorted(): sorter must be a tensor of long dtype but got dtype "
                               f"{sorter._kind.dtype.scalar}")
        if sorter._array.size:
            low, high = gathers.extremes(sorter._array)
            if low < 0 or high >= sequence._array.shape[-1]:
                raise RuntimeError("torch.searchsorted(): sorter index out of range")
            sequence = BOOK["gather"](sequence, sorter, dim=sequence._array.ndim - 1)
    sequence, values = _common(sequence, values)
    flat = BOOK["view"](values, shape=(1,)) if not values._array.ndim else values
    if sequence._array.ndim == 1 and flat._array.ndim > 1:
        flat = BOOK["reshape"](flat, shape=(flat._array.size,))
    found = BOOK["search"](sequence, flat, right=bool(right))
    found = found if found._array.shape == values._array.shape else BOOK["view"](found, shape=values._array.shape)
    return cast(found, KIND[dtypes.int32]) if out_int32 else found


@public(method=False)
def searchsorted(sorted_sequence: Tensor, input: Any, *, out_int32: bool = False, right: bool = False, side: str | None = None,
                 sorter: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """Positions at which values would enter sorted rows (..., n): one row for all, or leading dimensions that match the
    values'.

    From the left of equals, or the right (`right`, or side "right"). `sorter` sorts rows that are not. int64, or int32.
    """
    if side is not None and side not in ("left", "right"):
        raise RuntimeError(f"torch.searchsorted(): side can only be 'left' or 'right' but got {side}")
    if side == "left" and right:
        raise RuntimeError("torch.searchsorted(): side and right can't be set to opposites, got side of left while right was "
                           "True")
    if not isinstance(sorted_sequence, Tensor):
        raise TypeError("searchsorted(): argument 'sorted_sequence' must be Tensor, not " f"{type(sorted_sequence).__name__}")
    have = sorted_sequence._array.shape
    if not have:
        raise RuntimeError("torch.searchsorted(): input value can be a scalar only when boundaries tensor dimension is 1, "
                           "but we got "
                           "boundaries tensor dim(0)")
    if isinstance(input, Tensor) and input._array.ndim:
        given = input._array.shape
        if len(have) > 1 and have[:-1] != given[:-1]:
            raise RuntimeError("torch.searchsorted(): boundaries tensor should be 1 dimension or the first N-1 dimensions of "
                               "boundaries "
                               f"tensor and input value tensor must match, but we got boundaries tensor {list(have)} and "
                               "input value "
                               f"tensor {list(given)}")
    elif len(have) > 1:
        raise RuntimeError("torch.searchsorted(): input value can be a scalar only when boundaries tensor dimension is 1, "
                           "but we got "
                           f"boundaries tensor dim({len(have)}) and input value's dim(0) numel(1)")
    result = _search("searchsorted", sorted_sequence, input, right or side == "right", out_int32, sorter)
    return result if out is None else into(out, result)


@public(method=False)
def bucketize(input: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False, out: Tensor | None = None) -> Tensor:
    """The number of the bucket that each value falls in, between sorted boundaries (a vector)."""
    if boundaries._array.ndim != 1:
        raise RuntimeError(f"boundaries tensor must be 1 dimension, but got dim({boundaries._array.ndim})")
    result = _search("bucketize", boundaries, input, right, out_int32)
    return result if out is None else into(out, result)


def _bucketize_method(self: Tensor, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """The number of the bucket that each element falls in."""
    return bucketize(self, boundaries, out_int32=out_int32, right=right)


Tensor.bucketize = _bucketize_method


@public(method=False)
def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False,
         out: Tensor | None = None) -> Tensor:
    """Whether each element is among the test elements (bool, shape of the elements), or is not; NaN is among nothing."""
    if not isinstance(elements, Tensor) and not isinstance(test_elements, Tensor):
        raise TypeError("isin() received an invalid combination of arguments - at least one of elements and test_elements is "
                        "a Tensor")
    elements = elements if isinstance(elements, Tensor) else _number_like(elements, test_elements)
    test_elements = test_elements if isinstance(test_elements, Tensor) else _number_like(test_elements, elements)
    common_device("isin", (elements, test_elements))
    for t in (elements, test_elements):
        if t._kind.dtype.is_complex:
            raise RuntimeError(f"Unsupported input type encountered for isin(): {t._kind.dtype.scalar}")
    x, test = _common(elements.detach(), test_elements.detach())
    result = BOOK["member"](x, BOOK["reshape"](test, shape=(test._array.size,)), invert=bool(invert))
    return result if out is None else into(out, result)
