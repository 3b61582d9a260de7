"""Functions that read and write by index tensors: gather, scatter and their kin, masks, positions, one_hot, triangle indices.

Arguments are checked here in PyTorch's words, indices by the records (`kernels.ops.indexing`) before a kernel runs. Each writing function
has an in-place method that goes straight into the memory where nothing is recorded. Square brackets are in `indexing.py`.
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kernels.book import BOOK
from kernels.cpu import gathers
from kernels.ops.indexing import check

from .. import dtypes
from ..dispatch import cast, common_device, constant, into, write
from ..errors import ShapeError
from ..tensor import KIND, Tensor, bump, wrap, wrap_dim
from .indexing import BOOL, INT64, advanced, as_value, assign_masked, prepared, put_rows, records
from .registry import PUBLIC, public

LONG = (dtypes.int64,)
INTS = (dtypes.int32, dtypes.int64)
REDUCTIONS = ("sum", "prod", "mean", "amax", "amin")


def _tensor(x, name: str, which: str) -> Tensor:
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}(): argument '{which}' must be Tensor, not {type(x).__name__}")
    return x


def _index(index, name: str, accepted=INTS, error: type = RuntimeError, words: str = "") -> Tensor:
    dtype = _tensor(index, name, "index")._kind.dtype
    if dtype not in accepted:
        raise error(words or f"{name}(): Expected dtype int32/int64 for index")
    return index


def _vector(index: Tensor, words: str, error: type = IndexError) -> Tensor:
    """An index of at most one dimension, as a vector."""
    if index._array.ndim > 1:
        raise error(words)
    return index if index._array.ndim else BOOK["view"](index, shape=(1,))


def _result(result: Tensor, out: Tensor | None) -> Tensor:
    return result if out is None else into(out, result)


def _in_place(name: str) -> Callable:
    """Publish a function as the in-place method of a name: it takes (self, ..., ) and writes."""
    def publish(function: Callable) -> Callable:
        function.__name__ = name + "_"
        function.__doc__ = f"In-place version of `{name}`: writes into this tensor and returns it."
        setattr(Tensor, name + "_", function)
        return function
    return publish


# --- reading ----------------------------------------------------------------------------------------------------------

def _check_lanes(name: str, x: Tensor, index: Tensor, dim: int, src: Tensor | None = None) -> None:
    """Index and input have one number of dimensions, and the index is no larger than the input (and the source)."""
    if not index._array.size:
        return
    shape, have = x._array.shape or (1,), index._array.shape or (1,)
    role = "input" if name == "gather" else "self"
    if len(shape) != len(have):
        raise RuntimeError(f"Index tensor must have the same number of dimensions as {role} tensor")
    if src is None or src is x:
        for d, (n, m) in enumerate(zip(have, shape, strict=True)):
            if d != dim and n > m:
                raise ShapeError(f"Size does not match at dimension {d} expected index {list(have)} to be no larger than self "
                                 f"{list(shape)} apart from dimension {dim}")
        return
    given = src._array.shape or (1,)
    if len(given) != len(have):
        raise RuntimeError("Index tensor must have the same number of dimensions as src tensor")
    if any(n > s or (d != dim and n > m) for d, (n, m, s) in enumerate(zip(have, shape, given, strict=True))):
        raise ShapeError(f"Expected index {list(have)} to be no larger than self {list(shape)} apart from dimension {dim} and to be "
                         f"no larger size than src {list(given)}")


@public()
def gather(input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False, out: Tensor | None = None) -> Tensor:
    """out[i][j] = input[index[i][j]][j] for dim 0, and so on; the result has the index's shape.

    `index` (int64 or int32) is no larger than `input` apart from `dim`. Errors: RuntimeError for another shape or out of range.
    """
    dim = wrap_dim(dim, input._array.ndim)
    _index(index, "gather")
    common_device("gather", (input, index))
    _check_lanes("gather", input, index, dim)
    if input._array.ndim != index._array.ndim and index._array.size:        # a number and a vector may meet
        flat = BOOK["gather"](BOOK["view"](input, shape=(-1,)) if not input._array.ndim else input,
                              index if index._array.ndim else BOOK["view"](index, shape=(1,)), dim=0)
        return _result(BOOK["view"](flat, shape=index._array.shape), out)
    if not index._array.size:
        return _result(_nothing(input, index._array.shape), out)
    return _result(BOOK["gather"](input, index, dim=dim), out)


def _nothing(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """An empty result that still belongs to the graph of `x`."""
    flat = BOOK["reshape"](x, shape=(x._array.size,))
    return BOOK["index"](flat, wrap(np.empty(shape, np.int64), INT64), first=0, last=1)


@public()
def index_select(input: Tensor, dim: int, index: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The rows of a dimension named by a vector of indices (int64 or int32), in its order.

    Errors: IndexError for an index out of range or of several dimensions.
    """
    dim = wrap_dim(dim, input._array.ndim)
    _index(index, "index_select", words="index_select(): Expected dtype int32 or int64 for index")
    common_device("index_select", (input, index))
    index = _vector(index, "index_select(): Index is supposed to be a vector")
    if not input._array.ndim:
        if index._array.size != 1:
            raise IndexError("index_select(): Index to scalar can have only 1 value, got "
                             f"{index._array.size} value(s)")
        found = index_select(BOOK["view"](input, shape=(1,)), 0, index)
        return _result(BOOK["view"](found, shape=()), out)
    size = input._array.shape[dim]
    text = f"index out of range in self (index_select: index {{index}}, dimension {{dim}} of size {size})"
    positions = BOOK["ravel_index"]([index], sizes=(size,), dims=(dim,), wraps=False, text=text)
    return _result(BOOK["index_select"](input, positions, first=dim, last=dim + 1), out)


def _flat_positions(x: Tensor, index: Tensor) -> Tensor:
    size = x._array.size
    if not size and index._array.size:
        raise IndexError("take(): tried to take from an empty tensor")
    text = f"out of range: tried to access index {{index}} on a tensor of {size} elements."
    return BOOK["ravel_index"]([index], sizes=(size,), dims=(0,), text=text)


@public()
def take(input: Tensor, index: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Elements of the flattened input at indices (int64, negative ones from the end); the result has the index's shape."""
    _index(index, "take", LONG, words=f"take(): Expected a long tensor for index, but got {_tensor(index, 'take', 'index')._kind.dtype.scalar}")
    common_device("take", (input, index))
    positions = _flat_positions(input, index)
    return _result(BOOK["take"](input, positions, first=0, last=input._array.ndim), out)


@public()
def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None, *, out: Tensor | None = None) -> Tensor:
    """As gather, with input and indices broadcast against each other; without `dim`, from the flattened input."""
    _index(indices, "take_along_dim", LONG,
           words="torch.take_along_dim(): dtype of indices should be Long but got "
                 f"{_tensor(indices, 'take_along_dim', 'indices')._kind.dtype.scalar}")
    if dim is None:
        flat = BOOK["reshape"](input, shape=(input._array.size,))
        return _result(gather(flat, 0, BOOK["reshape"](indices, shape=(indices._array.size,))), out)
    if input._array.ndim != indices._array.ndim:
        raise RuntimeError("torch.take_along_dim(): input and indices should have the same number of dimensions, but got "
                           f"{input._array.ndim} dimensions for input, and {indices._array.ndim} dimensions for indices")
    dim = wrap_dim(dim, input._array.ndim)
    shape, have = list(input._array.shape), list(indices._array.shape)
    if shape:
        own, shape[dim] = shape[dim], have[dim]
        both = _broadcast("take_along_dim", tuple(shape), tuple(have))
        indices = _expand(indices, both)
        input = _expand(input, (*both[:dim], own, *both[dim + 1:]))
    return _result(gather(input, dim, indices), out)


def _expand(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x if x._array.shape == shape else BOOK["expand"](x, shape=shape)


def _broadcast(name: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        a, b = shapes[:2]
        ndim = max(len(a), len(b))
        for k in range(1, min(len(a), len(b)) + 1):
            if a[-k] != b[-k] and 1 not in (a[-k], b[-k]):
                raise ShapeError(f"The size of tensor a ({a[-k]}) must match the size of tensor b ({b[-k]}) at non-singleton "
                                 f"dimension {ndim - k}") from None
        raise


# --- scatter ----------------------------------------------------------------------------------------------------------

def _cut(src: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The part of a source that an index of this shape reads."""
    for d, (n, m) in enumerate(zip(shape, src._array.shape, strict=False)):
        if n != m:
            src = BOOK["slice"](src, dim=d, start=0, stop=n, step=1)
    return src


def _scatter(self: Tensor, name: str, dim: int, index: Tensor, src, operation: str, how: str, in_place: bool, **options) -> Tensor:
    """What all scatters do: check, then the operator, or the kernel on the memory itself where nothing is recorded."""
    _index(index, name)
    ndim = self._array.ndim
    dim = wrap_dim(dim, ndim)
    if isinstance(src, Tensor):
        if src._kind.dtype is not self._kind.dtype:
            raise RuntimeError(f"{name}(): Expected self.dtype to be equal to src.dtype")
        common_device(name, (self, index, src))
        _check_lanes(name, self, index, dim, src)
    else:
        common_device(name, (self, index))
        _check_lanes(name, self, index, dim)
        src = _expand(constant(src, self._kind), index._array.shape)
        operation = "scatter_value" if operation == "scatter" else operation
    if not index._array.size:
        return self if in_place else BOOK["clone"](self)
    if ndim == 0 or index._array.ndim == 0 or src._array.ndim == 0:
        return _scatter_number(self, name, index, src, operation, how, in_place, options)
    src = _cut(src, index._array.shape)
    direct = in_place and not records(self, src) and isinstance(self._array, np.ndarray) and self._kind.dtype is not dtypes.float16
    if direct and how in gathers.COMBINE and options.get("include_self", True):
        _writeable(self)
        found = check(index._array, self._array.shape[dim], dim, False, RuntimeError)
        gathers.scatter(self._array, dim, found, src._array, how)
        bump(self)
        return self
    base = BOOK["clone"](self) if in_place and operation in ("scatter_reduce", "index_reduce") and records(self, src) else self
    result = BOOK[operation](base, src, index, dim=dim, **options)
    return write(self, result) if in_place else result


def _scatter_number(self, name, index, src, operation, how, in_place, options) -> Tensor:
    """Numbers count as vectors of one element."""
    def vector(t):
        return BOOK["view"](t, shape=(1,)) if not t._array.ndim else t
    result = _scatter(vector(self), name, 0, vector(index), vector(src), operation, how, False, **options)
    result = BOOK["view"](result, shape=self._array.shape)
    return write(self, result) if in_place else result


def _writeable(x: Tensor) -> None:
    if not x._array.flags.writeable:
        raise RuntimeError("this tensor shares memory that NumPy marked read-only, or its elements repeat; clone() it before writing")


def _scatter_front(self, dim, index, src, value, reduce, in_place):
    if src is None:
        src = value
    if src is None:
        raise TypeError("scatter() is missing a source: give `src` (a tensor) or `value` (a number)")
    if isinstance(src, Tensor) and not src._array.ndim and index._array.ndim and not records(src):
        src = src.item() if src._kind.dtype is self._kind.dtype else src
    if reduce is None:
        return _scatter(self, "scatter", dim, index, src, "scatter", "set", in_place)
    if reduce not in ("add", "multiply"):
        raise RuntimeError("reduce argument must be either add or multiply.")
    if reduce == "add":
        return _scatter(self, "scatter", dim, index, src, "scatter_add", "sum", in_place)
    return _scatter(self, "scatter", dim, index, src, "scatter_reduce", "prod", in_place, reduce="prod", include_self=True)


@public()
def scatter(input: Tensor, dim: int, index: Tensor, src: Tensor | complex | None = None, *, value: complex | None = None,
            reduce: str | None = None, out: Tensor | None = None) -> Tensor:
    """A copy of `input` in which out[index[i][j]][j] = src[i][j] for dim 0, and so on; of equal indices the last wins.

    `src`: a tensor of the same dtype, or a number (also `value`). reduce: "add" or "multiply" instead of replacing.
    Errors: RuntimeError for shapes, dtypes or an index out of range.
    """
    return _result(_scatter_front(input, dim, index, src, value, reduce, False), out)


@_in_place("scatter")
def _(self, dim, index, src=None, *, value=None, reduce=None):
    return _scatter_front(self, dim, index, src, value, reduce, True)


@public()
def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor, *, out: Tensor | None = None) -> Tensor:
    """A copy of `input` with src[i][j] added to out[index[i][j]][j] for dim 0, and so on."""
    return _result(_scatter(input, "scatter", dim, index, _tensor(src, "scatter_add", "src"), "scatter_add", "sum", False), out)


@_in_place("scatter_add")
def _(self, dim, index, src):
    return _scatter(self, "scatter", dim, index, _tensor(src, "scatter_add", "src"), "scatter_add", "sum", True)


def _scatter_reduce(self, dim, index, src, reduce, include_self, in_place):
    if reduce not in REDUCTIONS:
        raise RuntimeError(f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}")
    return _scatter(self, "scatter", dim, index, _tensor(src, "scatter_reduce", "src"), "scatter_reduce", reduce, in_place,
                    reduce=reduce, include_self=bool(include_self))


@public()
def scatter_reduce(input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True,
                   out: Tensor | None = None) -> Tensor:
    """A copy of `input` with src[i][j] combined into out[index[i][j]][j] for dim 0, and so on.

    reduce: sum, prod, mean, amax or amin; the old element takes part where `include_self`.
    """
    return _result(_scatter_reduce(input, dim, index, src, reduce, include_self, False), out)


@_in_place("scatter_reduce")
def _(self, dim, index, src, reduce, *, include_self=True):
    return _scatter_reduce(self, dim, index, src, reduce, include_self, True)


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
        result = _rows(BOOK["view"](self, shape=(1,)), 0, index, BOOK["reshape"](values, shape=(1,)), operation, False, accumulate,
                       wraps, error, text)
        result = BOOK["view"](result, shape=())
        return write(self, result) if in_place else result
    size = self._array.shape[dim]
    try:
        positions = BOOK["ravel_index"]([index], sizes=(size,), dims=(dim,), wraps=wraps, text=text)
    except IndexError as found:
        if error is IndexError:
            raise
        raise error(str(found)) from None
    if in_place:
        return put_rows(self, values, positions, dim, dim + 1, accumulate, operation)
    return BOOK[operation](self, values, positions, first=dim, last=dim + 1, accumulate=accumulate)


def _index_add(self, dim, index, source, alpha, in_place):
    dim = wrap_dim(dim, self._array.ndim)
    _index(index, "index_add", words="index_add_(): Expected dtype int32/int64 for index but got: "
                                     f"{_tensor(index, 'index_add', 'index')._kind.dtype.scalar}")
    index = _vector(index, "index_add_(): Index is supposed to be a vector, but got dim: "
                           f"{index._array.ndim} with type: {index._kind.dtype.scalar} and size: {list(index._array.shape)}")
    if _tensor(source, "index_add", "source")._kind is not self._kind:
        raise RuntimeError(f"index_add_(): self ({self._kind.dtype.scalar}) and source ({source._kind.dtype.scalar}) must have the "
                           "same scalar type")
    common_device("index_add", (self, index, source))
    _count_matches("index_add", self, dim, index, source, RuntimeError,
                   "index_add_(): Number of indices ({count}) should be equal to source.size(dim): ({size}), for dim: {dim}")
    if alpha != 1:
        source = BOOK["mul"](source, constant(alpha, source._kind))
    return _rows(self, dim, index, source, "index_add", in_place, True, False, RuntimeError)


@public()
def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: complex = 1, out: Tensor | None = None) -> Tensor:
    """A copy of `input` with alpha times the rows of `source` added to the rows of `dim` that a vector of indices names."""
    return _result(_index_add(input, dim, index, source, alpha, False), out)


@_in_place("index_add")
def _(self, dim, index, source, *, alpha=1):
    return _index_add(self, dim, index, source, alpha, True)


def _index_copy(self, dim, index, source, in_place):
    dim = wrap_dim(dim, self._array.ndim)
    _index(index, "index_copy", LONG, words="index_copy_(): Expected a long tensor for index, but got "
                                            f"{_tensor(index, 'index_copy', 'index')._kind.dtype.scalar}")
    index = _vector(index, f"index_copy_(): Index should have dimension 1 or 0 (got {index._array.ndim})")
    if _tensor(source, "index_copy", "source")._kind is not self._kind:
        raise RuntimeError(f"index_copy_(): self and source expected to have the same dtype, but got (self) {self._kind.dtype.scalar} "
                           f"and (source) {source._kind.dtype.scalar}")
    common_device("index_copy", (self, index, source))
    _count_matches("index_copy", self, dim, index, source, IndexError,
                   "index_copy_(): Number of indices ({count}) should be equal to source.size(dim) ({size})")
    return _rows(self, dim, index, source, "index_copy", in_place,
                 text="index_copy_(): index {index} is out of bounds for dimension {dim} with size {size}")


@public()
def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor, *, out: Tensor | None = None) -> Tensor:
    """A copy of `input` with the rows of `dim` that a vector of indices names replaced by those of `source`."""
    return _result(_index_copy(input, dim, index, source, False), out)


@_in_place("index_copy")
def _(self, dim, index, source):
    return _index_copy(self, dim, index, source, True)


def _index_fill(self, dim, index, value, in_place):
    dim = wrap_dim(dim, self._array.ndim)
    _index(index, "index_fill", LONG, IndexError, "index_fill_(): Expected dtype int64 for index.")
    index = _vector(index, "Index has to be a vector/scalar", RuntimeError)
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
    values = _expand(value, (*shape[:dim], index._array.size, *shape[dim + 1:])) if shape else value
    return _rows(self, dim, index, values, operation, in_place, wraps=True)


@public()
def index_fill(input: Tensor, dim: int, index: Tensor, value: Tensor | complex) -> Tensor:
    """A copy of `input` with one number in the rows of `dim` that a vector of indices names."""
    return _index_fill(input, dim, index, value, False)


@_in_place("index_fill")
def _(self, dim, index, value):
    return _index_fill(self, dim, index, value, True)


def _index_reduce(self, dim, index, source, reduce, include_self, in_place):
    if reduce not in REDUCTIONS[1:]:
        raise RuntimeError(f"index_reduce(): Expected reduce to be one of prod, mean, amax or amin but got {reduce}.")
    dim = wrap_dim(dim, self._array.ndim)
    _index(index, "index_reduce", words="index_reduce(): Expected dtype int32/int64 for index")
    index = _vector(index, "index_reduce_(): Index is supposed to be a vector")
    if _tensor(source, "index_reduce", "source")._kind is not self._kind:
        raise RuntimeError("index_reduce(): self and source must have the same scalar type")
    common_device("index_reduce", (self, index, source))
    _count_matches("index_reduce", self, dim, index, source, IndexError,
                   "index_reduce(): Number of indices ({count}) should be equal to source.size(dim) ({size})")
    size = self._array.shape[dim] if self._array.ndim else 1
    check(index._array, size, dim, False, IndexError, f"index out of range in self (index {{index}}, dimension {{dim}} of size {size})")
    given = source._array.shape or (1,)
    index = _expand(BOOK["view"](index, shape=tuple(index._array.size if d == dim else 1 for d in range(len(given)))), given)
    if not self._array.ndim:
        index = BOOK["view"](index, shape=())
    return _scatter(self, "index_reduce", dim, index, source, "index_reduce", reduce, in_place, reduce=reduce,
                    include_self=bool(include_self))


@public()
def index_reduce(input: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True,
                 out: Tensor | None = None) -> Tensor:
    """A copy of `input` with the rows of `source` combined (prod, mean, amax or amin) into the rows that a vector of indices names."""
    return _result(_index_reduce(input, dim, index, source, reduce, include_self, False), out)


@_in_place("index_reduce")
def _(self, dim, index, source, reduce, *, include_self=True):
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
        count = found._array.ndim if found._kind is BOOL else 1
        if dim + count > self._array.ndim:
            raise IndexError(f"too many indices for tensor of dimension {self._array.ndim} (got {len(indices)})")
        groups.append((dim, found, dim))
        dim += count
    if _tensor(values, "index_put", "values")._kind is not self._kind:
        raise RuntimeError("Index put requires the source and destination dtypes match, got "
                           f"{self._kind.dtype.scalar} for the destination and {values._kind.dtype.scalar} for the source.")
    if not groups:
        raise IndexError("index_put: at least one index tensor is needed")
    x, positions, first, last = advanced(self, groups)
    shape = x._array.shape
    values = as_value(values, x, (*shape[:first], *positions._array.shape, *shape[last:]), rows=True)
    if in_place:
        put_rows(x, values, positions, first, last, accumulate)
        return self
    return BOOK["index_put"](x, values, positions, first=first, last=last, accumulate=bool(accumulate))


@public()
def index_put(input: Tensor, indices: tuple[Tensor, ...], values: Tensor, accumulate: bool = False) -> Tensor:
    """A copy of `input` with `values` written at (or added to, where `accumulate`) input[indices]; indices are tensors."""
    return _index_put(input, indices, values, accumulate, False)


@_in_place("index_put")
def _(self, indices, values, accumulate=False):
    return _index_put(self, indices, values, accumulate, True)


def _put(self, index, source, accumulate, in_place):
    _index(index, "put_", LONG, words="put_(): Expected a long tensor for index, but got "
                                      f"{_tensor(index, 'put_', 'index')._kind.dtype.scalar}")
    if _tensor(source, "put_", "source")._kind is not self._kind:
        raise RuntimeError(f"put_(): self and source expected to have the same dtype, but got self.dtype = {self._kind.dtype.scalar} "
                           f"and source.dtype = {source._kind.dtype.scalar}")
    if source._array.size != index._array.size:
        raise IndexError("put_(): Expected source and index to have the same number of elements, but got source.numel() = "
                         f"{source._array.size}, index.numel() = {index._array.size}")
    common_device("put_", (self, index, source))
    values = source if source._array.shape == index._array.shape else BOOK["reshape"](source, shape=index._array.shape)
    positions = _flat_positions(self, index)
    ndim = self._array.ndim
    if in_place:
        return put_rows(self, values, positions, 0, ndim, accumulate, "put")
    return BOOK["put"](self, values, positions, first=0, last=ndim, accumulate=bool(accumulate))


@public()
def put(input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """A copy of `input` with the elements of `source` at flat indices (or added there, where `accumulate`)."""
    return _put(input, index, source, accumulate, False)


@_in_place("put")
def _(self, index, source, accumulate=False):
    return _put(self, index, source, accumulate, True)


# --- masks ------------------------------------------------------------------------------------------------------------

@public()
def masked_select(input: Tensor, mask: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The elements where a mask (bool, broadcast against the input) is set, as a vector in row-major order."""
    if _tensor(mask, "masked_select", "mask")._kind is not BOOL:
        raise RuntimeError("masked_select: expected BoolTensor for mask")
    common_device("masked_select", (input, mask))
    shape = _broadcast("masked_select", mask._array.shape, input._array.shape)
    x, mask = _expand(input, shape), _expand(mask, shape)
    if not shape:
        x, mask = BOOK["view"](x, shape=(1,)), BOOK["view"](mask, shape=(1,))
    positions = BOOK["nonzero_positions"](mask)
    return _result(BOOK["masked_select"](x, positions, first=0, last=x._array.ndim), out)


def _masked_scatter(self, mask, source, in_place):
    if _tensor(mask, "masked_scatter", "mask")._kind is not BOOL:
        raise RuntimeError(f"masked_scatter_ only supports boolean masks, but got mask with dtype {mask._kind.dtype.scalar}")
    if _tensor(source, "masked_scatter", "source")._kind is not self._kind:
        raise RuntimeError("masked_scatter: expected self and source to have same dtypes but got "
                           f"{self._kind.dtype.scalar} and {source._kind.dtype.scalar}")
    common_device("masked_scatter", (self, mask, source))
    shape = _broadcast("masked_scatter", mask._array.shape, self._array.shape)
    if in_place and shape != self._array.shape:
        raise ShapeError(f"output with shape {list(self._array.shape)} doesn't match the broadcast shape {list(shape)}")
    x, mask = _expand(self, shape), _expand(mask, shape)
    positions = BOOK["nonzero_positions"](mask)
    count = positions._array.size
    if count > source._array.size:
        raise RuntimeError("masked_scatter: expected the source to have at least as many elements as the mask has ones. "
                           f"Number of elements of source < number of ones in mask ({source._array.size} < {count})")
    values = BOOK["reshape"](source, shape=(source._array.size,))
    values = values if count == source._array.size else BOOK["slice"](values, dim=0, start=0, stop=count, step=1)
    if not shape:
        result = BOOK["masked_scatter"](BOOK["view"](x, shape=(1,)), values, positions, first=0, last=1)
        result = BOOK["view"](result, shape=())
        return write(self, result) if in_place else result
    if in_place:
        return put_rows(x, values, positions, 0, len(shape), False, "masked_scatter")
    return BOOK["masked_scatter"](x, values, positions, first=0, last=len(shape))


@public()
def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """A copy of `input` with its elements under a mask taken from `source`, in row-major order."""
    return _masked_scatter(input, mask, source, False)


@_in_place("masked_scatter")
def _(self, mask, source):
    return _masked_scatter(self, mask, source, True)


_fill = BOOK["where"].apply.named("MaskedFillBackward0")


def _masked_fill(self, mask, value) -> Tensor:
    if _tensor(mask, "masked_fill", "mask")._kind is not BOOL:
        raise RuntimeError(f"masked_fill_ only supports boolean masks, but got mask with dtype {mask._kind.dtype.scalar}")
    if isinstance(value, Tensor):
        if value._array.ndim:
            raise RuntimeError("masked_fill_ only supports a 0-dimensional value tensor, but got tensor with "
                               f"{value._array.ndim} dimension(s).")
        common_device("masked_fill", (self, mask))
        value = value if value._kind is self._kind else cast(value, self._kind)
    else:
        common_device("masked_fill", (self, mask))
        value = constant(value, self._kind)
    return _fill(mask, value, self)


@public()
def masked_fill(input: Tensor, mask: Tensor, value: Tensor | complex) -> Tensor:
    """A copy of `input` with one number where a mask (bool, broadcast against the input) is set."""
    return _masked_fill(input, mask, value)


@_in_place("masked_fill")
def _(self, mask, value):
    if isinstance(mask, Tensor) and mask._kind is BOOL and mask._array.shape == self._array.shape and not isinstance(value, Tensor):
        assign_masked(self, mask, value)
        return self
    return write(self, _masked_fill(self, mask, value))


# --- positions --------------------------------------------------------------------------------------------------------

@public()
def nonzero(input: Tensor, *, as_tuple: bool = False, out: Tensor | None = None):
    """Indices (m, ndim) of the elements that are not zero, in row-major order; as a tuple of vectors where `as_tuple`."""
    x = input
    if as_tuple and not x._array.ndim:
        x = BOOK["view"](x.detach(), shape=(1,))
    positions = BOOK["nonzero_positions"](x)
    if x._array.ndim == 1:
        found = BOOK["view"](positions, shape=(positions._array.size, 1))
    else:
        found = BOOK["unravel"](positions, sizes=x._array.shape)
    if as_tuple:
        return tuple(BOOK["select"](found, dim=1, index=d) for d in range(x._array.ndim))
    return _result(found, out)


@public()
def argwhere(input: Tensor) -> Tensor:
    """Indices (m, ndim) of the elements that are not zero."""
    return nonzero(input)


def where(condition: Tensor, input=None, other=None, *, out: Tensor | None = None):
    """`input` where the condition holds, else `other` (tensors or numbers, broadcast); of the condition alone, its nonzero indices."""
    if not isinstance(condition, Tensor):
        raise TypeError(f"where(): argument 'condition' (position 1) must be Tensor, not {type(condition).__name__}")
    if input is None and other is None:
        return nonzero(condition, as_tuple=True)
    if condition._kind is not BOOL:
        if condition._kind.dtype is not dtypes.uint8:
            raise RuntimeError(f"where expected condition to be a boolean tensor, but got a tensor with dtype {condition._kind.dtype.scalar}")
        condition = cast(condition, BOOL)
    return _result(BOOK["where"].apply(condition, input, other), out)


def _where_method(self: Tensor, condition: Tensor, other) -> Tensor:
    """This tensor where the condition holds, else `other`."""
    return where(condition, self, other)


PUBLIC["where"] = where
Tensor.where = _where_method


# --- one_hot, triangles -----------------------------------------------------------------------------------------------

def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """int64 zeros of shape (*, classes) with a one at each class index; -1 classes means one more than the largest.

    Errors: RuntimeError for a dtype other than int64, a negative class, or too few classes.
    """
    if _tensor(tensor, "one_hot", "tensor")._kind is not INT64:
        raise RuntimeError("one_hot is only applicable to index tensor of type LongTensor.")
    if not tensor._array.size:
        if num_classes <= 0:
            raise RuntimeError("Can not infer total number of classes from empty tensor.")
        return wrap(np.zeros((*tensor._array.shape, num_classes), np.int64), INT64)
    low, high = gathers.extremes(tensor._array)
    if low < 0:
        raise RuntimeError(f"Class values must be non-negative. Got {low}.")
    if num_classes == -1:
        num_classes = high + 1
    elif num_classes < 1:
        raise RuntimeError("num_classes should be positive" if num_classes < 0 else "Class values must be smaller than num_classes.")
    elif num_classes <= high:
        raise RuntimeError(f"Class values must be smaller than num_classes. Got {high}, num_classes is {num_classes}.")
    index = tensor._array[..., None]
    out = np.zeros((*tensor._array.shape, num_classes), np.int64)
    gathers.scatter(out, out.ndim - 1, index, np.broadcast_to(np.ones((), np.int64), index.shape))
    return wrap(out, INT64)


def _triangle(name: str, row: int, col: int, offset: int, dtype, device, upper: bool) -> Tensor:
    for what, n in (("row", row), ("col", col)):
        if n < 0:
            raise RuntimeError(f"{what} must be non-negative, got{n}")
    dtype = dtypes.int64 if dtype is None else dtype
    if dtype.category != 1:
        raise NotImplementedError(f"\"{name}\" not implemented for '{dtype.scalar}'")
    found = wrap(gathers.triangle(row, col, offset, upper), INT64)
    if dtype is not dtypes.int64:
        found = cast(found, KIND[dtype])
    return found if device is None else found.to(device)


@public(method=False)
def tril_indices(row: int, col: int, offset: int = 0, *, dtype=None, device=None, layout=None, requires_grad: bool = False,
                 pin_memory: bool = False) -> Tensor:
    """Indices (2, p) of the lower triangle of a row-by-col matrix, row by row, up to the offset-th diagonal. int64, or `dtype`."""
    return _triangle("tril_indices", row, col, offset, dtype, device, False)


@public(method=False)
def triu_indices(row: int, col: int, offset: int = 0, *, dtype=None, device=None, layout=None, requires_grad: bool = False,
                 pin_memory: bool = False) -> Tensor:
    """Indices (2, p) of the upper triangle of a row-by-col matrix, row by row, from the offset-th diagonal on. int64, or `dtype`."""
    return _triangle("triu_indices", row, col, offset, dtype, device, True)


