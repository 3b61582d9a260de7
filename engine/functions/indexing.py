"""Square brackets: what `x[index]` and `x[index] = value` mean, in PyTorch's rules.

Ints, slices, None and Ellipsis make a chain of views (select, slice, unsqueeze). Index tensors, masks, lists and arrays
make a copy through one `index` operator, or a write through one `index_put`, on what the views left. Functions that take
an index tensor and a dimension (gather, scatter, take, ...) are in `scattering.py`; kernels and records in
`kernels.ops.indexing`.
"""
from __future__ import annotations

import math
import operator
import warnings
from typing import Any

import numpy as np

from kernels.book import BOOK
from kernels.cpu import gathers, pool
from kernels.ops.indexing import check

from .. import dtypes, tape
from ..dispatch import LARGE, cast, constant, store, write, write_by, writeable
from ..tape import edge_of, modes
from ..tensor import KIND, KIND_OF_NUMPY, Tensor, bump, wrap
from ..views import checked_index, select_fast

NUMBERS = (bool, int, float, complex, np.generic)
BOOL, INT64 = KIND[dtypes.bool_], KIND[dtypes.int64]
WHOLE = slice(None)
SELECT, SLICE, RAVEL = (BOOK[name].apply for name in ("select", "slice", "ravel_index"))
INDEX, NONZERO = BOOK["index"].apply.hot(), BOOK["nonzero_positions"].apply.hot()

_WRONG = "only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices (got {})"
_NOT_INTEGER = "tensors used as indices must be long, int, byte or bool tensors"
_NO_DIMS = ("invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` in C++ to convert a 0-dim "
            "tensor to a "
            "number")


# --- reading ----------------------------------------------------------------------------------------------------------

def getitem(self: Tensor, index: Any) -> Tensor:
    """`x[index]`: a view for ints, slices, None and Ellipsis; a copy where index tensors, masks, lists or arrays take part.

    Errors: IndexError out of range, for too many indices, for a mask of another shape, for index tensors that do not broadcast;
    TypeError for slice bounds that are no integers; ValueError for a step that is not positive.
    """
    if index.__class__ is int:
        return select_fast(self, index)
    if index.__class__ is slice:
        if not self._array.ndim:
            raise IndexError("slice() cannot be applied to a 0-dim tensor.")
        return slice_of(self, 0, index)
    if index.__class__ is Tensor and index._kind.dtype is dtypes.int64 and index._array.ndim and self._array.ndim:
        return INDEX(self, index, 0, 1, 0)
    x, groups = apply_views(self, items_of(index))
    if groups:
        x, positions, where = advanced(x, groups)
        return INDEX(x, positions, where["first"], where["last"], where["named"])
    return BOOK["alias"](x) if x is self else x


def items_of(index) -> tuple:
    """An index as a tuple of items, one or more; lists that hold tensors, lists or slices count as tuples, as in PyTorch."""
    if index.__class__ is tuple:
        return index
    if index.__class__ is list and len(index) < 32 and any(
            isinstance(i, (Tensor, list, tuple, slice, np.ndarray, range)) or i is None or i is Ellipsis for i in index):
        warnings.warn("Using a non-tuple sequence for multidimensional indexing is deprecated and will be changed in pytorch "
                      "2.9; "
                      "use x[tuple(seq)] instead of x[seq].", UserWarning, stacklevel=4)
        return tuple(index)
    return (index,)


def apply_views(x: Tensor, items: tuple) -> tuple[Tensor, list]:
    """Apply the basic items as views; returns what they leave and the advanced ones as [(dim, tensor, dim to name in
    errors)]."""
    items = [i if i.__class__ is int or i.__class__ is slice or i is None or i is Ellipsis else prepared(i) for i in items]
    ndim = x._array.ndim
    used = sum(i._array.ndim if i._kind.dtype is dtypes.bool_ else 1 for i in items if isinstance(i, Tensor))
    used += sum(1 for i in items if i.__class__ is int or i.__class__ is slice)
    if used > ndim:
        if not ndim and len(items) == 1:
            raise IndexError(_NO_DIMS)
        raise IndexError(f"too many indices for tensor of dimension {ndim}")
    dim = named = 0                     # in the views made so far, and in the tensor indexed
    groups: list = []
    for item in items:
        if item.__class__ is int:
            x = select_of(x, dim, item, named)
            named += 1
        elif item.__class__ is slice:
            if item != WHOLE:
                x = slice_of(x, dim, item, skip=True)
            dim, named = dim + 1, named + 1
        elif item is Ellipsis:
            dim, named = dim + ndim - used, named + ndim - used
        elif item is None:
            x = BOOK["unsqueeze"](x, dim=dim)
            dim += 1
        elif item is True or item is False:
            x = BOOK["unsqueeze"](x, dim=dim)
            groups.append((dim, wrap(np.zeros(int(item), np.int64), INT64), named))
            dim += 1
        else:
            groups.append((dim, item, named))
            count = item._array.ndim if item._kind.dtype is dtypes.bool_ else 1
            dim, named = dim + count, named + count
    return x, groups


def prepared(item):
    """An item that is no int, slice, None or Ellipsis as an int, a bool, or an integer or bool tensor."""
    if isinstance(item, bool):
        return item
    if isinstance(item, Tensor):
        tensor = item
    elif isinstance(item, np.ndarray):
        tensor = _tensor_of(item)
    elif isinstance(item, (list, tuple, range)):
        array = np.array(item) if len(item) else np.empty(0, np.int64)
        if array.dtype.kind == "O":
            raise TypeError(f"an index list must hold integers or bools of one shape, got {item!r}")
        tensor = _tensor_of(array)
    elif isinstance(item, str):
        raise TypeError("new(): invalid data type 'str'")
    elif hasattr(item, "__index__"):
        return operator.index(item)
    else:
        raise IndexError(_WRONG.format(type(item).__name__))
    kind = tensor._kind
    if kind.dtype.category > 1:
        raise IndexError(_NOT_INTEGER)
    if kind.dtype is dtypes.uint8:
        warnings.warn("indexing with dtype torch.uint8 is now deprecated, please use a dtype torch.bool instead.", UserWarning,
                      stacklevel=5)
        tensor = cast(tensor, BOOL)
    if tensor._array.ndim == 0:
        return bool(tensor) if tensor._kind.dtype is dtypes.bool_ else operator.index(tensor)
    return tensor


def _tensor_of(array: np.ndarray) -> Tensor:
    kind = KIND_OF_NUMPY.get(array.dtype)
    if kind is None:
        raise IndexError(_NOT_INTEGER)
    return wrap(array, kind)


def select_of(x: Tensor, dim: int, index: int, named: int) -> Tensor:
    size = x._array.shape[dim]
    if not -size <= index < size:
        raise IndexError(f"index {index} is out of bounds for dimension {named} with size {size}")
    if index < 0:
        index += size
    array = x._array
    if array.__class__ is not np.ndarray:
        return SELECT(x, dim=dim, index=index)
    return SELECT.share(x, array[(WHOLE,) * dim + (index, ...)], {"dim": dim, "index": index})


def slice_of(x: Tensor, dim: int, bounds: slice, skip: bool = False) -> Tensor:
    """A slice of one dimension; a whole one is `x` itself where `skip`."""
    size = x._array.shape[dim]
    start, stop, step = bounds.indices(size)
    if step < 0:
        raise ValueError("step must be greater than zero")
    if skip and start == 0 and stop == size and step == 1 and (bounds.start is None or bounds.start >= 0):
        return x            # PyTorch looks at the start as written: x[0, -n:] is a view of its own
    stop = max(stop, start)
    array = x._array
    if array.__class__ is not np.ndarray:
        return SLICE(x, dim=dim, start=start, stop=stop, step=step)
    raw = array[(WHOLE,) * dim + (slice(start, stop, step),)] if dim else array[start:stop:step]
    return SLICE.share(x, raw, {"dim": dim, "start": start, "stop": stop, "step": step})


def advanced(x: Tensor, groups: list) -> tuple[Tensor, Tensor, dict]:
    """Index tensors and masks as one tensor of positions over some dimensions of (a permuted view of) `x`.

    Also returns the options first, last and named of the records that take them (`kernels.ops.indexing`). Indexed dimensions
    that are not neighbours go to the front, as in PyTorch and NumPy.
    """
    shape = x._array.shape
    if len(groups) == 1:
        (dim, tensor, named), = groups
        if tensor._kind.dtype is not dtypes.bool_:
            positions = tensor if tensor._kind.dtype is dtypes.int64 else cast(tensor, INT64)
            return x, positions, {"first": dim, "last": dim + 1, "named": named}
        if tensor._array.shape == shape[dim:dim + tensor._array.ndim]:
            return x, NONZERO(tensor), {"first": dim, "last": dim + tensor._array.ndim, "named": -1}
    dims: list[int] = []
    sizes, names, tensors, shapes = [], [], [], []
    for dim, tensor, named in groups:
        if tensor._kind.dtype is dtypes.bool_:
            mask = tensor._array.shape
            for k, n in enumerate(mask):
                if n != shape[dim + k]:
                    raise IndexError(f"The shape of the mask {list(mask)} at index {k} does not match the shape of the "
                                     "indexed tensor "
                                     f"{list(shape)} at index {dim + k}")
            tensor = NONZERO(tensor)
            shapes += [tensor._array.shape] * len(mask)
            dims += range(dim, dim + len(mask))
            sizes.append(math.prod(mask))
        else:
            shapes.append(tensor._array.shape)
            dims.append(dim)
            sizes.append(shape[dim])
        tensors.append(tensor)
        names.append(named)
    if len(shapes) > 1:
        try:
            np.broadcast_shapes(*shapes)
        except ValueError:
            raise IndexError("shape mismatch: indexing tensors could not be broadcast together with shapes "
                             + ", ".join(str(list(s)) for s in shapes)) from None
    first, last = dims[0], dims[-1] + 1
    if last - first != len(dims):
        x = BOOK["permute"](x, dims=(*dims, *(d for d in range(len(shape)) if d not in dims)))
        first, last = 0, len(dims)
    return x, RAVEL(tensors, sizes=tuple(sizes), dims=tuple(names)), {"first": first, "last": last, "named": -1}


# --- writing ----------------------------------------------------------------------------------------------------------

def setitem(self: Tensor, index: Any, value: Tensor | complex) -> None:
    """`x[index] = value`: a tensor or array that broadcasts to x[index], cast to the dtype of x, or a number.

    Recorded like other in-place operators. Errors: as for reading; RuntimeError where shapes do not fit.
    """
    if not isinstance(value, (Tensor, *NUMBERS)):
        value = _value_of(self, value)
    if index.__class__ is int and not self._needs and self._view is None:
        array = self._array
        if array.__class__ is np.ndarray and not (isinstance(value, Tensor) and records(value)):
            raw = array[checked_index(index, array.shape), ...]
            if value.__class__ is float or value.__class__ is int:
                store(raw, constant(value, self._kind)._array)
            elif value.__class__ is Tensor and value._kind is self._kind and value._array.shape == raw.shape:
                store(raw, value._array)
            else:
                store(raw, as_value(value, self, raw.shape)._array)
            bump(self)
            return
    if index.__class__ is Tensor and index._array.ndim and self._array.ndim and (
            index._kind.dtype is dtypes.int64 or (index._kind.dtype is dtypes.bool_ and index._array.shape == self._array.shape)):
        x, groups = self, [(0, index, 0)]
    else:
        x, groups = apply_views(self, items_of(index))
    if groups:
        assign_rows(x, groups, value)
    else:
        assign(x, as_value(value, x, x._array.shape))


def _value_of(x: Tensor, value) -> Tensor:
    if isinstance(value, np.ndarray):
        kind = KIND_OF_NUMPY.get(value.dtype)
        if kind is not None:
            return wrap(value, kind)
    raise TypeError(f"can't assign a {type(value).__name__} to a engine.{x._kind.dtype.legacy}")


def as_value(value, x: Tensor, shape: tuple[int, ...], rows: bool = False) -> Tensor:
    """What is to be written, of the kind of `x` and of the given shape (expanded without a copy); casts are recorded."""
    if not isinstance(value, Tensor):
        value = constant(value.item() if isinstance(value, np.generic) else value, x._kind)
        return value if shape == () else BOOK["expand"](value, shape=shape)
    if value._kind.device is not x._kind.device:
        value = value.to(x._kind.device)
    given = value
    have = value._array.shape
    extra = len(have) - len(shape)
    if extra > 0 and have[:extra] == (1,) * extra:         # leading ones may stand for nothing
        value = BOOK["view" if value._array.flags.c_contiguous else "reshape"](value, shape=have[extra:])
        have = have[extra:]
    if len(have) > len(shape) or any(n not in (1, m) for n, m in zip(reversed(have), reversed(shape), strict=False)):
        raise _does_not_fit(given, shape, rows)
    if value._kind is not x._kind:
        value = cast(value, x._kind)
    return value if have == shape else BOOK["expand"](value, shape=shape)


def _does_not_fit(value: Tensor, shape: tuple[int, ...], rows: bool) -> RuntimeError:
    have = value._array.shape
    if rows:
        return RuntimeError(f"shape mismatch: value tensor of shape {list(have)} cannot be broadcast to indexing result of "
                            "shape "
                            f"{list(shape)}")
    if len(have) > len(shape):
        return RuntimeError(f"expand(engine.{value._kind.dtype.legacy}{{{list(have)}}}, size={list(shape)}): the number of "
                            "sizes "
                            f"provided ({len(shape)}) must be greater or equal to the number of dimensions in the tensor "
                            f"({len(have)})")
    dim = next(d for d in range(-1, -len(have) - 1, -1) if have[d] not in (1, shape[d]))
    return RuntimeError(f"The expanded size of the tensor ({shape[dim]}) must match the existing size ({have[dim]}) at "
                        "non-singleton "
                        f"dimension {len(shape) + dim}.  Target sizes: {list(shape)}.  Tensor sizes: {list(have)}")


def records(*tensors: Tensor) -> bool:
    """Whether a write that involves these tensors is to be recorded."""
    return modes.enabled and any(tape.tracked(t) for t in tensors)


def assign(x: Tensor, value: Tensor) -> None:
    """Write a value of the same kind and shape into `x`, a view or a whole tensor."""
    if not records(x, value):
        store(x._array, value._array)
        bump(x)
    elif edge_of(value) is not None or x._view is None:
        write(x, value, copies=True)
    else:               # the written part has no history any more, the rest of its base keeps its own
        tape.check_inplace(x)
        store(x._array, value._array)
        bump(x)
        tape.rebase(x, None)


def assign_rows(x: Tensor, groups: list, value) -> None:
    """Write a value to the rows of `x` that index tensors and masks name."""
    if len(groups) == 1 and groups[0][1]._kind.dtype is dtypes.bool_ and not (isinstance(value, Tensor) and value._array.ndim):
        mask = groups[0][1]
        if mask._array.shape == x._array.shape:
            assign_masked(x, mask, value)
            return
    x, positions, where = advanced(x, groups)
    number = not isinstance(value, Tensor)         # the kernel repeats it
    put_rows(x, as_value(value, x, () if number else written_shape(x, positions, where), rows=True), positions, where)


def written_shape(x: Tensor, positions: Tensor, where: dict) -> tuple[int, ...]:
    """The shape of what stands at positions."""
    shape = x._array.shape
    return (*shape[:where["first"]], *positions._array.shape, *shape[where["last"]:])


def assign_masked(x: Tensor, mask: Tensor, value) -> None:
    """Write one number where a mask of the same shape is set."""
    number, array = as_value(value, x, ()), x._array
    if records(x, number) or array.__class__ is not np.ndarray:
        write(x, BOOK["where"](mask, number, x))
        return
    writeable(x)
    if array.size >= LARGE:
        pool.ensure()
    BOOK["where"].apply.loops[x._kind][0](mask._array, number._array, array, array)
    bump(x)


def put_rows(x: Tensor, values: Tensor, positions: Tensor, where: dict, accumulate: bool = False,
             operation: str = "index_put") -> Tensor:
    """index_put in place, straight into the memory; recorded where `x` or `values` requires grad."""
    array = x._array
    if array.__class__ is not np.ndarray or (accumulate and array.dtype == np.float16):
        return write(x, BOOK[operation](x, values, positions, accumulate=accumulate, **where))
    first, last, named = where["first"], where["last"], where["named"]
    found = positions._array
    if named >= 0:
        found = check(found, math.prod(array.shape[first:last]), named)
    return write_by(BOOK[operation].apply, x, (values, positions), {"accumulate": accumulate, **where},
                    lambda: gathers.put(array, found, values._array, first, last, "sum" if accumulate else "set"))


Tensor.__getitem__ = getitem
Tensor.__setitem__ = setitem
