"""Rows and positions: index_add, index_copy, index_fill, index_reduce, index_put and put, each with its in-place method.

They write rows of one dimension, or elements at index tensors, through the `index_put` family of records. What scatters along a
dimension is in `scattering.py`, whose checks of arguments are used here.
"""
from __future__ import annotations

from typing import Any

from kernels.book import BOOK
from kernels.ops.indexing import TAKEN, check

from .. import dtypes
from ..dispatch import cast, common_device, constant, write
from ..errors import ShapeError
from ..tensor import Tensor, wrap_dim
from .indexing import INT64, advanced, as_value, prepared, put_rows, records, written_shape
from .registry import public
from .scattering import (
    LONG,
    REDUCTIONS,
    expanded,
    flat_index,
    in_place_method,
    index_argument,
    result_of,
    scatter_along,
    tensor_argument,
    vector_index,
)

# --- rows of one dimension --------------------------------------------------------------------------------------------

def _count_matches(name, self, dim, index, source, error, text):
    given, shape = source._array.shape, self._array.shape
    size = given[dim] if given else 1
    if index._array.size != size:
        raise error(text.format(count=index._array.size, size=size, dim=dim))
    if (shape[:dim], shape[dim + 1:]) != (given[:dim], given[dim + 1:]):
        raise ShapeError(f"{name}_(): Source/destination tensor must have same slice shapes. Destination slice shape: "
                         f"{list(shape[:dim] + shape[dim + 1:])} at dimension {dim} and source slice shape: "
                         f"{list(given[:dim] + given[dim + 1:])} at dimension 0.")


def _rows(self: Tensor, dim: int, index: Tensor, values: Tensor, operation: str, in_place: bool, accumulate: bool = False,
          wraps: bool = False, error: type = IndexError, text: str = "") -> Tensor:
    """Replace or add to rows of one dimension; numbers count as vectors of one element."""
    if not self._array.ndim:
        values = BOOK["reshape"](values, shape=(1,))
        result = _rows(BOOK["view"](self, shape=(1,)), 0, index, values, operation, False, accumulate, wraps, error, text)
        result = BOOK["view"](result, shape=())
        return write(self, result) if in_place else result
    size = self._array.shape[dim]
    check(index._array, size, dim, wraps, error, text)
    positions = index if index._kind.dtype is dtypes.int64 else cast(index, INT64)
    where = {"first": dim, "last": dim + 1, "named": dim}
    if in_place:
        return put_rows(self, values, positions, where, accumulate, operation)
    return BOOK[operation](self, values, positions, accumulate=accumulate, **where)


def _index_add(self, dim, index, source, alpha, in_place):
    dim = wrap_dim(dim, self._array.ndim)
    index_argument(index, "index_add", words="index_add_(): Expected dtype int32/int64 for index but got: "
                                     f"{tensor_argument(index, 'index_add', 'index')._kind.dtype.scalar}")
    index = vector_index(index, "index_add_(): Index is supposed to be a vector, but got dim: "
                           f"{index._array.ndim} with type: {index._kind.dtype.scalar} and size: {list(index._array.shape)}")
    if tensor_argument(source, "index_add", "source")._kind is not self._kind:
        raise RuntimeError(f"index_add_(): self ({self._kind.dtype.scalar}) and source ({source._kind.dtype.scalar}) must "
                           "have the "
                           "same scalar type")
    common_device("index_add", (self, index, source))
    _count_matches("index_add", self, dim, index, source, RuntimeError,
                   "index_add_(): Number of indices ({count}) should be equal to source.size(dim): ({size}), for dim: {dim}")
    if alpha != 1:
        source = BOOK["mul"](source, constant(alpha, source._kind))
    return _rows(self, dim, index, source, "index_add", in_place, True, False, RuntimeError)


@public()
def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: complex = 1,
              out: Tensor | None = None) -> Tensor:
    """A copy of `input` with alpha times the rows of `source` added to the rows of `dim` that a vector of indices names."""
    return result_of(_index_add(input, dim, index, source, alpha, False), out)


@in_place_method("index_add")
def _(self: Tensor, dim: int | None, index: Any, source: Tensor, *, alpha: complex = 1) -> Tensor:
    return _index_add(self, dim, index, source, alpha, True)


def _index_copy(self, dim, index, source, in_place):
    dim = wrap_dim(dim, self._array.ndim)
    index_argument(index, "index_copy", LONG, words="index_copy_(): Expected a long tensor for index, but got "
                                            f"{tensor_argument(index, 'index_copy', 'index')._kind.dtype.scalar}")
    index = vector_index(index, f"index_copy_(): Index should have dimension 1 or 0 (got {index._array.ndim})")
    if tensor_argument(source, "index_copy", "source")._kind is not self._kind:
        raise RuntimeError("index_copy_(): self and source expected to have the same dtype, but got (self) "
                           f"{self._kind.dtype.scalar} "
                           f"and (source) {source._kind.dtype.scalar}")
    common_device("index_copy", (self, index, source))
    _count_matches("index_copy", self, dim, index, source, IndexError,
                   "index_copy_(): Number of indices ({count}) should be equal to source.size(dim) ({size})")
    return _rows(self, dim, index, source, "index_copy", in_place,
                 text="index_copy_(): index {index} is out of bounds for dimension {dim} with size {size}")


@public()
def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor, *, out: Tensor | None = None) -> Tensor:
    """A copy of `input` with the rows of `dim` that a vector of indices names replaced by those of `source`."""
    return result_of(_index_copy(input, dim, index, source, False), out)


@in_place_method("index_copy")
def _(self: Tensor, dim: int | None, index: Any, source: Tensor) -> Tensor:
    return _index_copy(self, dim, index, source, True)


def _index_fill(self, dim, index, value, in_place):
    dim = wrap_dim(dim, self._array.ndim)
    index_argument(index, "index_fill", LONG, IndexError, "index_fill_(): Expected dtype int64 for index.")
    index = vector_index(index, "Index has to be a vector/scalar", RuntimeError)
    if isinstance(value, Tensor):
        if value._array.ndim:
            raise RuntimeError("index_fill_ only supports a 0-dimensional value tensor, but got tensor with "
                               f"{value._array.ndim} dimension(s).")
        value = value if value._kind is self._kind else cast(value, self._kind)
    else:
        value = constant(value, self._kind)
    operation = "index_fill_value" if records(value) else "index_fill"
    common_device("index_fill", (self, index, value))
    shape = self._array.shape
    values = expanded(value, (*shape[:dim], index._array.size, *shape[dim + 1:])) if shape else value
    return _rows(self, dim, index, values, operation, in_place, wraps=True)


@public()
def index_fill(input: Tensor, dim: int, index: Tensor, value: Tensor | complex) -> Tensor:
    """A copy of `input` with one number in the rows of `dim` that a vector of indices names."""
    return _index_fill(input, dim, index, value, False)


@in_place_method("index_fill")
def _(self: Tensor, dim: int | None, index: Any, value: Tensor | complex) -> Tensor:
    return _index_fill(self, dim, index, value, True)


def _index_reduce(self, dim, index, source, reduce, include_self, in_place):
    if reduce not in REDUCTIONS[1:]:
        raise RuntimeError(f"index_reduce(): Expected reduce to be one of prod, mean, amax or amin but got {reduce}.")
    dim = wrap_dim(dim, self._array.ndim)
    index_argument(index, "index_reduce", words="index_reduce(): Expected dtype int32/int64 for index")
    index = vector_index(index, "index_reduce_(): Index is supposed to be a vector")
    if tensor_argument(source, "index_reduce", "source")._kind is not self._kind:
        raise RuntimeError("index_reduce(): self and source must have the same scalar type")
    common_device("index_reduce", (self, index, source))
    _count_matches("index_reduce", self, dim, index, source, IndexError,
                   "index_reduce(): Number of indices ({count}) should be equal to source.size(dim) ({size})")
    size = self._array.shape[dim] if self._array.ndim else 1
    check(index._array, size, dim, False, IndexError, f"index out of range in self (index {{index}}, dimension {{dim}} of "
                                                      f"size {size})")
    given = source._array.shape or (1,)
    index = expanded(BOOK["view"](index, shape=tuple(index._array.size if d == dim else 1 for d in range(len(given)))), given)
    if not self._array.ndim:
        index = BOOK["view"](index, shape=())
    return scatter_along(self, "index_reduce", dim, index, source, "index_reduce", reduce, in_place, reduce=reduce,
                    include_self=bool(include_self))


@public()
def index_reduce(input: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True,
                 out: Tensor | None = None) -> Tensor:
    """A copy of `input` with the rows of `source` combined (prod, mean, amax or amin) into the rows that a vector of
    indices names."""
    return result_of(_index_reduce(input, dim, index, source, reduce, include_self, False), out)


@in_place_method("index_reduce")
def _(self: Tensor, dim: int | None, index: Any, source: Tensor, reduce: str | None, *, include_self: bool = True) -> Tensor:
    return _index_reduce(self, dim, index, source, reduce, include_self, True)


# --- writing at positions ---------------------------------------------------------------------------------------------

def _index_put(self, indices, values, accumulate, in_place):
    if not isinstance(indices, (tuple, list)):
        raise TypeError(f"index_put(): argument 'indices' must be tuple of Tensors, not {type(indices).__name__}")
    groups, dim = [], 0
    for k, index in enumerate(indices):
        if not isinstance(index, Tensor):
            raise TypeError(f"expected Tensor as element {k} in argument 0, but got {type(index).__name__}")
        found = prepared(index) if index._array.ndim else BOOK["view"](index, shape=(1,))
        count = found._array.ndim if found._kind.dtype is dtypes.bool_ else 1
        if dim + count > self._array.ndim:
            raise IndexError(f"too many indices for tensor of dimension {self._array.ndim} (got {len(indices)})")
        groups.append((dim, found, dim))
        dim += count
    if tensor_argument(values, "index_put", "values")._kind is not self._kind:
        raise RuntimeError("Index put requires the source and destination dtypes match, got "
                           f"{self._kind.dtype.scalar} for the destination and {values._kind.dtype.scalar} for the source.")
    if not groups:
        raise IndexError("index_put: at least one index tensor is needed")
    x, positions, where = advanced(self, groups)
    values = as_value(values, x, written_shape(x, positions, where), rows=True)
    if in_place:
        put_rows(x, values, positions, where, bool(accumulate))
        return self
    return BOOK["index_put"](x, values, positions, accumulate=bool(accumulate), **where)


@public()
def index_put(input: Tensor, indices: tuple[Tensor, ...], values: Tensor, accumulate: bool = False) -> Tensor:
    """A copy of `input` with `values` written at (or added to, where `accumulate`) input[indices]; indices are tensors."""
    return _index_put(input, indices, values, accumulate, False)


@in_place_method("index_put")
def _(self: Tensor, indices: Any, values: Any, accumulate: bool = False) -> Tensor:
    return _index_put(self, indices, values, accumulate, True)


def _put(self, index, source, accumulate, in_place):
    index_argument(index, "put_", LONG, words="put_(): Expected a long tensor for index, but got "
                                      f"{tensor_argument(index, 'put_', 'index')._kind.dtype.scalar}")
    if tensor_argument(source, "put_", "source")._kind is not self._kind:
        raise RuntimeError("put_(): self and source expected to have the same dtype, but got self.dtype = "
                           f"{self._kind.dtype.scalar} "
                           f"and source.dtype = {source._kind.dtype.scalar}")
    if source._array.size != index._array.size:
        raise IndexError("put_(): Expected source and index to have the same number of elements, but got source.numel() = "
                         f"{source._array.size}, index.numel() = {index._array.size}")
    common_device("put_", (self, index, source))
    values = source if source._array.shape == index._array.shape else BOOK["reshape"](source, shape=index._array.shape)
    where = flat_index(self, index)
    check(index._array, self._array.size, 0, text=TAKEN)
    if in_place:
        return put_rows(self, values, index, where, bool(accumulate), "put")
    return BOOK["put"](self, values, index, accumulate=bool(accumulate), **where)


@public()
def put(input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """A copy of `input` with the elements of `source` at flat indices (or added there, where `accumulate`)."""
    return _put(input, index, source, accumulate, False)


@in_place_method("put")
def _(self: Tensor, index: Any, source: Tensor, accumulate: bool = False) -> Tensor:
    return _put(self, index, source, accumulate, True)
