"""Functions that read and write by index tensors: gather, take, scatter, index_add and their kin.

Arguments are checked here in PyTorch's words, indices by the records (`kernels.ops.indexing`) before a kernel runs. Each
writing function has an in-place method that goes straight into the memory where nothing is recorded. Square brackets are in
`indexing.py`, masks and what finds positions in `masks.py`.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kernels.book import BOOK
from kernels.cpu import gathers
from kernels.ops.indexing import check

from .. import dtypes
from ..dispatch import cast, common_device, constant, into, write, write_by
from ..errors import ShapeError
from ..tensor import Tensor, wrap, wrap_dim
from .indexing import INT64, records
from .registry import public

LONG = (dtypes.int64,)
INTS = (dtypes.int32, dtypes.int64)
REDUCTIONS = ("sum", "prod", "mean", "amax", "amin")
GATHER, INDEX_SELECT, TAKE = (BOOK[name].apply.hot() for name in ("gather", "index_select", "take"))


def tensor_argument(x, name: str, which: str) -> Tensor:
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}(): argument '{which}' must be Tensor, not {type(x).__name__}")
    return x


def index_argument(index, name: str, accepted=INTS, error: type = RuntimeError, words: str = "") -> Tensor:
    """Check that an index is a tensor of an accepted dtype."""
    dtype = tensor_argument(index, name, "index")._kind.dtype
    if dtype not in accepted:
        raise error(words or f"{name}(): Expected dtype int32/int64 for index")
    return index


def vector_index(index: Tensor, words: str, error: type = IndexError) -> Tensor:
    """An index of at most one dimension, as a vector."""
    if index._array.ndim > 1:
        raise error(words)
    return index if index._array.ndim else BOOK["view"](index, shape=(1,))


def result_of(result: Tensor, out: Tensor | None) -> Tensor:
    return result if out is None else into(out, result)


def in_place_method(name: str) -> Callable:
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
        raise ShapeError(f"Expected index {list(have)} to be no larger than self {list(shape)} apart from dimension {dim} "
                         "and to be "
                         f"no larger size than src {list(given)}")


@public()
def gather(input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False, out: Tensor | None = None) -> Tensor:
    """out[i][j] = input[index[i][j]][j] for dim 0, and so on; the result has the index's shape.

    `index` (int64 or int32) is no larger than `input` apart from `dim`. Errors: RuntimeError for another shape or out of range.
    """
    shape = input._array.shape
    if dim.__class__ is not int or not 0 <= dim < len(shape):
        dim = wrap_dim(dim, len(shape))
    if index.__class__ is not Tensor or index._kind.dtype is not dtypes.int64 or input._kind.device is not INT64.device:
        index_argument(index, "gather")
        common_device("gather", (input, index))
    have = index._array.shape
    if have != shape:
        _check_lanes("gather", input, index, dim)
    if len(shape) != len(have) and index._array.size:          # a number and a vector may meet
        flat = GATHER(BOOK["view"](input, shape=(-1,)) if not shape else input,
                      index if have else BOOK["view"](index, shape=(1,)), 0)
        return result_of(BOOK["view"](flat, shape=have), out)
    if not index._array.size:
        return result_of(_nothing(input, have), out)
    result = GATHER(input, index, dim)
    return result if out is None else into(out, result)


def _nothing(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """An empty result that still belongs to the graph of `x`."""
    flat = BOOK["reshape"](x, shape=(x._array.size,))
    return BOOK["index"](flat, wrap(np.empty(shape, np.int64), INT64), first=0, last=1)


@public()
def index_select(input: Tensor, dim: int, index: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The rows of a dimension named by a vector of indices (int64 or int32), in its order.

    Errors: IndexError for an index out of range or of several dimensions.
    """
    ndim = input._array.ndim
    if dim.__class__ is not int or not 0 <= dim < ndim:
        dim = wrap_dim(dim, ndim)
    if index.__class__ is not Tensor or index._kind.dtype is not dtypes.int64 or input._kind.device is not INT64.device:
        index_argument(index, "index_select", words="index_select(): Expected dtype int32 or int64 for index")
        common_device("index_select", (input, index))
    if index._array.ndim != 1:
        index = vector_index(index, "index_select(): Index is supposed to be a vector")
    if not ndim:
        if index._array.size != 1:
            raise IndexError("index_select(): Index to scalar can have only 1 value, got "
                             f"{index._array.size} value(s)")
        found = index_select(BOOK["view"](input, shape=(1,)), 0, index)
        return result_of(BOOK["view"](found, shape=()), out)
    if index._kind.dtype is not dtypes.int64:
        index = cast(index, INT64)
    result = INDEX_SELECT(input, index, dim, dim + 1, dim)
    return result if out is None else into(out, result)


def flat_index(x: Tensor, index: Tensor) -> dict:
    """Options of the records that take an index (int64) into the flattened tensor; IndexError where there is nothing."""
    if not x._array.size and index._array.size:
        raise IndexError("take(): tried to take from an empty tensor")
    return {"first": 0, "last": x._array.ndim, "named": 0}


@public()
def take(input: Tensor, index: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Elements of the flattened input at indices (int64, negative ones from the end); the result has the index's shape."""
    if tensor_argument(index, "take", "index")._kind.dtype is not dtypes.int64:
        raise RuntimeError(f"take(): Expected a long tensor for index, but got {index._kind.dtype.scalar}")
    common_device("take", (input, index))
    where = flat_index(input, index)
    return result_of(TAKE(input, index, where["first"], where["last"], where["named"]), out)


@public()
def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None, *, out: Tensor | None = None) -> Tensor:
    """As gather, with input and indices broadcast against each other; without `dim`, from the flattened input."""
    index_argument(indices, "take_along_dim", LONG,
           words="torch.take_along_dim(): dtype of indices should be Long but got "
                 f"{tensor_argument(indices, 'take_along_dim', 'indices')._kind.dtype.scalar}")
    if dim is None:
        flat = BOOK["reshape"](input, shape=(input._array.size,))
        return result_of(gather(flat, 0, BOOK["reshape"](indices, shape=(indices._array.size,))), out)
    if input._array.ndim != indices._array.ndim:
        raise RuntimeError("torch.take_along_dim(): input and indices should have the same number of dimensions, but got "
                           f"{input._array.ndim} dimensions for input, and {indices._array.ndim} dimensions for indices")
    dim = wrap_dim(dim, input._array.ndim)
    shape, have = list(input._array.shape), list(indices._array.shape)
    if shape:
        own, shape[dim] = shape[dim], have[dim]
        both = broadcast_shape("take_along_dim", tuple(shape), tuple(have))
        indices = expanded(indices, both)
        input = expanded(input, (*both[:dim], own, *both[dim + 1:]))
    return result_of(gather(input, dim, indices), out)


def expanded(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x if x._array.shape == shape else BOOK["expand"](x, shape=shape)


def broadcast_shape(name: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
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


def scatter_along(self: Tensor, name: str, dim: int, index: Tensor, src, operation: str, how: str, in_place: bool,
             **options) -> Tensor:
    """What all scatters do: check, then the operator, or the kernel on the memory itself where nothing is recorded."""
    if index.__class__ is not Tensor or index._kind.dtype is not dtypes.int64:
        index_argument(index, name)
    ndim = self._array.ndim
    if dim.__class__ is not int or not 0 <= dim < ndim:
        dim = wrap_dim(dim, ndim)
    if isinstance(src, Tensor):
        if src._kind.dtype is not self._kind.dtype:
            raise RuntimeError(f"{name}(): Expected self.dtype to be equal to src.dtype")
        if not src._kind.device is self._kind.device is index._kind.device:
            common_device(name, (self, index, src))
        _check_lanes(name, self, index, dim, src)
    else:
        common_device(name, (self, index))
        _check_lanes(name, self, index, dim)
        src = expanded(constant(src, self._kind), index._array.shape)
        operation = "scatter_value" if operation == "scatter" else operation
    if not index._array.size:
        return self if in_place else BOOK["clone"](self)
    if ndim == 0 or index._array.ndim == 0 or src._array.ndim == 0:
        return _scatter_number(self, name, index, src, operation, how, in_place, options)
    if src._array.shape != index._array.shape and src.requires_grad:        # else the kernel cuts it
        src = _cut(src, index._array.shape)
    if in_place and (not options or (options["include_self"] and not records(self, src))) and how in gathers.COMBINE and (
            isinstance(self._array, np.ndarray) and self._kind.dtype is not dtypes.float16):
        found = check(index._array, self._array.shape[dim], dim, False, RuntimeError)
        return write_by(BOOK[operation].apply, self, (src, index), {"dim": dim, **options},
                        lambda: gathers.scatter(self._array, dim, found, src._array, how))
    base = BOOK["clone"](self) if in_place and operation in ("scatter_reduce", "index_reduce") and records(self, src) else self
    result = BOOK[operation].apply(base, src, index, dim=dim, **options)
    return write(self, result) if in_place else result


def _scatter_number(self, name, index, src, operation, how, in_place, options) -> Tensor:
    """Numbers count as vectors of one element."""
    def vector(t):
        return BOOK["view"](t, shape=(1,)) if not t._array.ndim else t
    result = scatter_along(vector(self), name, 0, vector(index), vector(src), operation, how, False, **options)
    result = BOOK["view"](result, shape=self._array.shape)
    return write(self, result) if in_place else result


def _scatter_front(self, dim, index, src, value, reduce, in_place):
    if src is None:
        src = value
    if src is None:
        raise TypeError("scatter() is missing a source: give `src` (a tensor) or `value` (a number)")
    if isinstance(src, Tensor) and not src._array.ndim and index._array.ndim and not records(src):
        src = src.item() if src._kind.dtype is self._kind.dtype else src
    if reduce is None:
        return scatter_along(self, "scatter", dim, index, src, "scatter", "set", in_place)
    if reduce not in ("add", "multiply"):
        raise RuntimeError("reduce argument must be either add or multiply.")
    if reduce == "add":
        return scatter_along(self, "scatter", dim, index, src, "scatter_add", "sum", in_place)
    return scatter_along(self, "scatter", dim, index, src, "scatter_reduce", "prod", in_place, reduce="prod", include_self=True)


@public()
def scatter(input: Tensor, dim: int, index: Tensor, src: Tensor | complex | None = None, *, value: complex | None = None,
            reduce: str | None = None, out: Tensor | None = None) -> Tensor:
    """A copy of `input` in which out[index[i][j]][j] = src[i][j] for dim 0, and so on; of equal indices the last wins.

    `src`: a tensor of the same dtype, or a number (also `value`). reduce: "add" or "multiply" instead of replacing.
    Errors: RuntimeError for shapes, dtypes or an index out of range.
    """
    return result_of(_scatter_front(input, dim, index, src, value, reduce, False), out)


@in_place_method("scatter")
def _(self: Tensor, dim: int | None, index: Any, src: Tensor | complex | None = None, *, value: Tensor | complex = None,
      reduce: str | None = None) -> Tensor:
    return _scatter_front(self, dim, index, src, value, reduce, True)


@public()
def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor, *, out: Tensor | None = None) -> Tensor:
    """A copy of `input` with src[i][j] added to out[index[i][j]][j] for dim 0, and so on."""
    src = tensor_argument(src, "scatter_add", "src")
    return result_of(scatter_along(input, "scatter", dim, index, src, "scatter_add", "sum", False), out)


@in_place_method("scatter_add")
def _(self: Tensor, dim: int | None, index: Any, src: Tensor | complex | None) -> Tensor:
    return scatter_along(self, "scatter", dim, index, tensor_argument(src, "scatter_add", "src"), "scatter_add", "sum", True)


def _scatter_reduce(self, dim, index, src, reduce, include_self, in_place):
    if reduce not in REDUCTIONS:
        raise RuntimeError(f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}")
    src = tensor_argument(src, "scatter_reduce", "src")
    return scatter_along(self, "scatter", dim, index, src, "scatter_reduce", reduce, in_place, reduce=reduce,
                         include_self=bool(include_self))


@public()
def scatter_reduce(input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True,
                   out: Tensor | None = None) -> Tensor:
    """A copy of `input` with src[i][j] combined into out[index[i][j]][j] for dim 0, and so on.

    reduce: sum, prod, mean, amax or amin; the old element takes part where `include_self`.
    """
    return result_of(_scatter_reduce(input, dim, index, src, reduce, include_self, False), out)


@in_place_method("scatter_reduce")
def _(self: Tensor, dim: int | None, index: Any, src: Tensor | complex | None, reduce: str | None, *,
      include_self: bool = True) -> Tensor:
    return _scatter_reduce(self, dim, index, src, reduce, include_self, True)
