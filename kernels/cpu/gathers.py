"""Kernels that move elements by index: rows picked and put, gather and scatter along a dimension, positions of a mask.

What lives here: programs and the arrangement of arrays for them. Which operator uses what, and the checks of its indices, is
in `kernels.ops.indexing`; every index that arrives here is known to be in range. Pure movement is compiled by element size
and serves all dtypes; what accumulates is compiled by dtype. Order is fixed (no atomics), so results are deterministic:
threads split only what is independent, picked positions or free columns.
"""
from __future__ import annotations

import functools
import itertools
import math

import numpy as np
from numpy import ndarray

from ..table import cast_ufunc
from . import buffers, copies, pool
from .maps import FLOATING, loaded, stored
from .native import Program, make_ufunc
from .scans import moved

MOVED = {1: "uint8", 2: "uint16", 4: "uint32", 8: "uint64", 16: "complex128"}      # what an element of each size moves as
INT64 = np.dtype(np.int64)
COMBINE = {                                     # how an element `old` takes a `new` one; NaN wins in amax and amin
    "set": "new", "sum": "old + new", "prod": "old * new",
    "amax": "(new if new > old or new != new else old)", "amin": "(new if new < old or new != new else old)",
}

_ROW = """
@inline
def at_row(args, steps, k, outer):
    return pointer(address(args[k]) + outer * steps[k])

@inline
def wrapped(index, size):
    return index + size if index < 0 else index
"""

# x (d) is the row at index 0; the row at position k lies k * stride bytes further. Threads split the positions b.
_PICK = """
def kernel(args, dimensions, steps, data):
    n, d, b = dimensions[0], dimensions[1], dimensions[2]
    xd, ib, ob, od = steps[5], steps[6], steps[7], steps[8]
    for outer in range(n):
        x, i, o = at_row(args, steps, 0, outer), at_row(args, steps, 1, outer), at_row(args, steps, 4, outer)
        stride, size = load_int64(args[2], outer * steps[2]), load_int64(args[3], outer * steps[3])
        if xd == SIZE and od == SIZE and d > 1:
            for j in range(b):
                at = wrapped(load_int64(i, j * ib), size) * stride
                for k in range(d):
                    store_T(o, j * ob + k * SIZE, load_T(x, at + k * SIZE))
        else:
            for k in range(d):
                for j in range(b):
                    store_T(o, j * ob + k * od, load_T(x, wrapped(load_int64(i, j * ib), size) * stride + k * xd))
"""

# The same for small vectors, as a plain ufunc: x is a number, the element at index 0.
_FETCH = """
def kernel(args, dimensions, steps, data):
    stride, size = load_int64(args[2], 0), load_int64(args[3], 0)
    for k in range(dimensions[0]):
        i = load_int64(args[1], k * steps[1])
        if i < 0:
            i += size
        store_T(args[4], k * steps[4], load_T(args[0], i * stride))
"""

# The reverse: out (b) is the row at index 0 and is updated at positions (m). Threads split the columns b.
_PUT = """
def kernel(args, dimensions, steps, data):
    n, m, b = dimensions[0], dimensions[1], dimensions[2]
    im, vm, vb, ob = steps[5], steps[6], steps[7], steps[8]
    for outer in range(n):
        i, v, o = at_row(args, steps, 0, outer), at_row(args, steps, 1, outer), at_row(args, steps, 4, outer)
        stride, size = load_int64(args[2], outer * steps[2]), load_int64(args[3], outer * steps[3])
        if vb == SIZE and ob == SIZE:
            for j in range(m):
                at = wrapped(load_int64(i, j * im), size) * stride
                for k in range(b):
                    new = LOAD(v, j * vm + k * SIZE)
                    UPDATE(o, at + k * SIZE)
        else:
            for j in range(m):
                at = wrapped(load_int64(i, j * im), size) * stride
                for k in range(b):
                    new = LOAD(v, j * vm + k * vb)
                    UPDATE(o, at + k * ob)
"""

_GATHER = """
def kernel(args, dimensions, steps, data):
    n, k, b = dimensions[0], dimensions[1], dimensions[2]
    xk, ib, ik, ob, ok = steps[4], steps[5], steps[6], steps[7], steps[8]
    for outer in range(n):
        x, i, o = at_row(args, steps, 0, outer), at_row(args, steps, 1, outer), at_row(args, steps, 3, outer)
        stride = load_int64(args[2], outer * steps[2])
        for j in range(b):
            for c in range(k):
                store_T(o, j * ob + c * ok, load_T(x, load_int64(i, j * ib + c * ik) * stride + c * xk))
"""

_SCATTER = """
def kernel(args, dimensions, steps, data):
    n, m, b = dimensions[0], dimensions[1], dimensions[2]
    im, ib, vm, vb, ob = steps[4], steps[5], steps[6], steps[7], steps[8]
    for outer in range(n):
        i, v, o = at_row(args, steps, 0, outer), at_row(args, steps, 1, outer), at_row(args, steps, 3, outer)
        stride = load_int64(args[2], outer * steps[2])
        for j in range(m):
            for c in range(b):
                at = load_int64(i, j * im + c * ib) * stride + c * ob
                new = LOAD(v, j * vm + c * vb)
                UPDATE(o, at)
"""


def _moving(name: str, template: str, dtype: np.dtype, words: int, signature: str) -> np.ufunc:
    """A kernel that moves elements, for one dtype; its code is that of the element's size, made once for all of them."""
    moved = MOVED[dtype.itemsize]
    source = template.replace("SIZE", str(dtype.itemsize)).replace("load_T", f"load_{moved}").replace("store_T", f"store_{moved}")
    return make_ufunc(Program(f"{name}_{dtype.itemsize}", _ROW + source, inputs=(dtype.name, *["int64"] * words),
                              outputs=(dtype.name,), signature=signature))


def _updating(name: str, template: str, dtype: np.dtype, how: str, words: int, signature: str) -> np.ufunc:
    """`how` of COMBINE; old values are read with `peek`, because the same kernel writes them."""
    size, called = dtype.itemsize, dtype.name
    moved = MOVED[size] if how == "set" else called
    lines = []
    for line in template.replace("SIZE", str(size)).splitlines():
        indent = line[:len(line) - len(line.lstrip())]
        text = line.strip()
        if text.startswith("new = LOAD("):
            pointer, offset = text[11:-1].split(", ", 1)
            line = f"{indent}new = {_value(moved, pointer, offset, 'load')}"
        elif text.startswith("UPDATE("):
            pointer, offset = text[7:-1].split(", ", 1)
            if how != "set":
                lines.append(f"{indent}old = {_value(moved, pointer, offset, 'peek')}")
            line = indent + stored(moved, pointer, offset, COMBINE[how])
        lines.append(line)
    if moved in FLOATING and how != "set":
        lines.append("    clear_status()")
    return make_ufunc(Program(f"{name}_{how}_{moved}", _ROW + "\n".join(lines) + "\n", outputs=(called,),
                              inputs=("int64", called, *["int64"] * words), signature=signature))


def _value(dtype: str, pointer: str, offset: str, how: str) -> str:
    text = loaded(dtype, pointer, offset, how)
    return f"as_int64({text})" if dtype == "bool" else text


_fetch: dict[np.dtype, np.ufunc] = {}


def fetch_ufunc(dtype: np.dtype) -> np.ufunc:
    """out[j] = x[index[j] * stride bytes further]; an index below 0 counts from `size`."""
    found = _fetch.get(dtype)
    if found is None:
        found = _fetch[dtype] = _moving("fetch", _FETCH, dtype, 3, "")
    return found


@functools.cache
def pick_ufunc(dtype: np.dtype) -> np.ufunc:
    """out[j, k] = x[positions[j], k]."""
    return _moving("pick", _PICK, dtype, 3, "(d),(b),(),()->(b,d)")


@functools.cache
def gather_ufunc(dtype: np.dtype) -> np.ufunc:
    """out[j, c] = x[index[j, c], c]."""
    return _moving("gather", _GATHER, dtype, 2, "(k),(b,k),()->(b,k)")


@functools.cache
def put_ufunc(dtype: np.dtype, how: str) -> np.ufunc:
    """out[positions[j], k] takes values[j, k], in the order of j."""
    return _updating("put", _PUT, dtype, how, 2, "(m),(m,b),(),()->(b)")


@functools.cache
def scatter_ufunc(dtype: np.dtype, how: str) -> np.ufunc:
    """out[index[j, c], c] takes values[j, c], in the order of j."""
    return _updating("scatter", _SCATTER, dtype, how, 1, "(m,b),(m,b),()->(b)")


# --- indices ----------------------------------------------------------------------------------------------------------

_EXTREMES = """
def kernel(args, dimensions, steps, data):
    n, m = dimensions[0], dimensions[1]
    for outer in range(n):
        x = at_row(args, steps, 0, outer)
        low = load_int64(x, 0)
        high = low
        if steps[3] == 8:
            for k in range(m):
                v = load_int64(x, k * 8)
                low, high = min(low, v), max(high, v)
        else:
            for k in range(m):
                v = load_int64(x, k * steps[3])
                low, high = min(low, v), max(high, v)
        store_int64(args[1], outer * steps[1], low)
        store_int64(args[2], outer * steps[2], high)
"""

# before + index * stride, a negative index counted from the end
_ADVANCE = """
def kernel(args, dimensions, steps, data):
    for k in range(dimensions[0]):
        i = load_int64(args[1], k * steps[1])
        if i < 0:
            i += load_int64(args[2], k * steps[2])
        store_int64(args[4], k * steps[4], load_int64(args[0], k * steps[0]) + i * load_int64(args[3], k * steps[3]))
"""

# row-major positions (m) over sizes (d) -> coordinates (m, d)
_UNRAVEL = """
def kernel(args, dimensions, steps, data):
    n, m, d = dimensions[0], dimensions[1], dimensions[2]
    for outer in range(n):
        p, s, o = at_row(args, steps, 0, outer), at_row(args, steps, 1, outer), at_row(args, steps, 2, outer)
        for j in range(m):
            left = load_int64(p, j * steps[3])
            for k in range(d - 1, -1, -1):
                size = max(load_int64(s, k * steps[4]), 1)
                store_int64(o, j * steps[5] + k * steps[6], left % size)
                left //= size
"""

_COUNT = """
def kernel(args, dimensions, steps, data):
    for outer in range(dimensions[0]):
        x, total = at_row(args, steps, 0, outer), 0
        for k in range(dimensions[1]):
            total += load_bool(x, k * steps[2]) != 0
        store_int64(args[1], outer * steps[1], total)
"""

_WHERE_SET = """
def kernel(args, dimensions, steps, data):
    for outer in range(dimensions[0]):
        x, o, at = at_row(args, steps, 0, outer), at_row(args, steps, 1, outer), 0
        for k in range(dimensions[1]):
            if load_bool(x, k * steps[2]) != 0:
                store_int64(o, at * steps[3], k)
                at += 1
"""

_TRIANGLE = """
def kernel(args, dimensions, steps, data):
    rows, cols = load_int64(args[0], 0), load_int64(args[0], steps[4])
    offset, upper = load_int64(args[1], 0), load_int64(args[2], 0)
    at, o = 0, args[3]
    for i in range(rows):
        first = min(max(i + offset, 0), cols) if upper != 0 else 0
        last = cols if upper != 0 else min(max(i + offset + 1, 0), cols)
        for j in range(first, last):
            store_int64(o, at * steps[6], i)
            store_int64(o, at * steps[6] + steps[5], j)
            at += 1
"""


@functools.cache
def small_ufunc(name: str) -> np.ufunc:
    """The kernels over indices and masks."""
    source, signature, inputs, outputs = {
        "extremes": (_EXTREMES, "(m)->(),()", 1, 2), "advance": (_ADVANCE, "", 4, 1),
        "unravel": (_UNRAVEL, "(m),(d)->(m,d)", 2, 1), "count": (_COUNT, "(m)->()", 0, 1),
        "where_set": (_WHERE_SET, "(m)->(p)", 0, 1), "triangle": (_TRIANGLE, "(s),(),()->(s,p)", 3, 1),
    }[name]
    given = ("int64",) * inputs or ("bool",)
    return make_ufunc(Program(f"index_{name}", _ROW + source, inputs=given, outputs=("int64",) * outputs, signature=signature))


FEW = 16            # indices or masks up to which Python's own loop is faster than a kernel
SMALL = 1 << 11     # elements up to which one plain ufunc is faster than a gufunc and its threads


def extremes(index: np.ndarray) -> tuple[int, int]:
    """Smallest and largest element of an int64 array that is not empty; arrays of other devices answer themselves."""
    if index.__class__ is not np.ndarray:
        return index.extremes()
    low, high = small_ufunc("extremes")(index if index.ndim == 1 else as_contiguous(index).reshape(-1))
    return int(low), int(high)


def advance(before, index: np.ndarray, size: int, stride: int) -> np.ndarray:
    """before + wrapped index * stride, broadcast."""
    if index.size >= pool.GRAIN:
        pool.ensure()
    return small_ufunc("advance")(before, index, word(size), word(stride), out=...)


ZERO = np.zeros((), np.int64)


def unravel(positions: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Coordinates (m, d) of row-major positions (m)."""
    return small_ufunc("unravel")(positions, np.array(sizes, np.int64))


@functools.lru_cache(maxsize=4096)
def word(value: int) -> np.ndarray:
    """A number as an int64 array, as a kernel takes it."""
    return np.array(value, INT64)


def positions_of(mask: np.ndarray) -> np.ndarray:
    """Row-major positions at which a bool array is set."""
    flat = mask if mask.ndim == 1 else as_contiguous(mask).reshape(-1)
    if flat.size <= FEW:
        return np.array([k for k, v in enumerate(flat.tolist()) if v], INT64)
    out = buffers.empty((int(small_ufunc("count")(flat)),), np.dtype(np.int64))
    if out.size:
        small_ufunc("where_set")(flat, out)
    return out


def triangle(rows: int, cols: int, offset: int, upper: bool) -> np.ndarray:
    """Indices (2, p) of the lower or upper triangle of a matrix, row by row."""
    def below(k):       # how many elements lie on or below the k-th diagonal
        full = min(max(rows - max(cols - k - 1, 0), 0), rows) if cols else 0
        first = max(-k, 0)
        rising = max(min(rows, cols - k - 1) - first, 0)
        start = max(k, 0) if first == 0 else 0
        return full * cols + rising * (start + 1) + rising * (rising - 1) // 2
    count = rows * cols - below(offset - 1) if upper else below(offset)
    out = np.empty((2, count), np.int64)
    if count:
        small_ufunc("triangle")(np.array([rows, cols], np.int64), offset, int(upper), out)
    return out


# --- arranging arrays for the kernels ---------------------------------------------------------------------------------

def spread(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The array broadcast to a shape, as np.broadcast_to does it; a tenth of its time where one number is repeated."""
    if x.ndim:
        return np.broadcast_to(x, shape)
    return ndarray(shape, x.dtype, x, 0, (0,) * len(shape)) if x.flags.c_contiguous else np.broadcast_to(x, shape)


def as_contiguous(x: np.ndarray) -> np.ndarray:
    """The array itself where it lies in row-major order, else a copy."""
    return x if x.flags.c_contiguous else copies.copy(x)


def as_int64(index: np.ndarray) -> np.ndarray:
    """An index array as int64."""
    dtype = index.dtype
    if index.__class__ is not ndarray and isinstance(dtype, buffers.Elsewhere):
        return index.cast("int64")
    return index if dtype is INT64 or dtype == INT64 else cast_ufunc(dtype.name, "int64")(index, out=...)


def aligned(x: np.ndarray) -> np.ndarray:
    """The array, copied where NumPy would hand the kernel a buffer instead of its memory."""
    return x if x.flags.aligned else x.copy()


def mergeable(x: np.ndarray, first: int, last: int) -> bool:
    """Whether dimensions first..last-1 are one run of equally spaced elements."""
    if last - first < 2:
        return True
    run = [(n, s) for n, s in zip(x.shape[first:last], x.strides[first:last], strict=True) if n != 1]
    return all(s == after_s * after_n for (_, s), (after_n, after_s) in itertools.pairwise(run))


def _rows(x: np.ndarray, first: int, last: int) -> tuple[np.ndarray, tuple[int, ...]]:
    """The row at index 0 of dimensions first..last-1: shape (lead..., tail..., d), with the merged tail's shape."""
    base = x[(slice(None),) * first + (0,) * (last - first) + (...,)] if first or last > 1 else x[0, ...]
    tail = x.shape[last:]
    if len(tail) < 2:
        return (base if tail else base[..., None]), ()
    if mergeable(x, last, x.ndim):
        return base.reshape(*x.shape[:first], math.prod(tail)), ()         # a view, because the tail is one run
    return base, tail[:-1]


def pick(x: np.ndarray, positions: np.ndarray, first: int, last: int) -> np.ndarray:
    """Rows of `x` at row-major positions over dimensions first..last-1, which are replaced by the positions' shape.

    Positions below 0 count from the end.
    """
    shape, dtype = x.shape, x.dtype
    ndim = len(shape)
    if not first and last == ndim > 1 and x.flags.c_contiguous:
        x, last, ndim = x.reshape(-1), 1, 1
        shape = x.shape
    if last == 1 == ndim and positions.size <= SMALL and shape[0] and x.flags.aligned:
        if positions.ndim != 1:
            return np.asarray(fetch(x, positions.reshape(-1), shape[0], x.strides[0]).reshape(positions.shape))
        return (_fetch.get(dtype) or fetch_ufunc(dtype))(x[0, ...], positions, word(x.strides[0]), word(shape[0]), out=...)
    form = (*shape[:first], *positions.shape, *shape[last:])
    size = math.prod(form)
    out = np.empty(form, dtype) if size <= SMALL else buffers.empty(form, dtype)
    if not size:
        return out
    x = aligned(x)
    if ndim == 2 and last - first == 1 == positions.ndim and size < pool.GRAIN:
        base, target = (x[:, :1], out[..., None]) if first else (x[0], out)
        return pick_ufunc(dtype)(base, positions, word(x.strides[first]), word(shape[first]), target).reshape(form)
    positions, x, stride = _addressed(x, positions, first, last)
    row, apart = _rows(x, first, last)
    target = _target(out, first, positions.size, apart, row.shape[-1])
    if size >= pool.GRAIN:
        pool.ensure()
    pick_ufunc(dtype)(row, positions.reshape(-1), word(stride), word(math.prod(shape[first:last])), target)
    return out


def fetch(x: np.ndarray, index: np.ndarray, size: int, stride: int) -> np.ndarray:
    """Elements of `x`, a vector or a view whose first element counts, `index * stride` bytes further; index is a vector.

    Only for vectors: NumPy would copy a broadcast operand into a buffer of its own.
    """
    return fetch_ufunc(x.dtype)(x[(0,) * x.ndim + (...,)], index, word(stride), word(size), out=...)


def _target(out: np.ndarray, lead: int, count: int, apart: tuple[int, ...], width: int) -> np.ndarray:
    """A fresh result as (lead..., tail..., positions, d)."""
    target = out.reshape(*out.shape[:lead], count, *apart, width)
    return moved(target, lead, target.ndim - 2) if apart else target


def _addressed(x: np.ndarray, positions: np.ndarray, first: int, last: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Positions, array and byte stride such that position * stride is the row's offset (through coordinates where need be)."""
    positions = as_contiguous(positions)
    if last == first:
        return positions, x, 0
    if mergeable(x, first, last):
        return positions, x, _stride(x, first, last)
    positions = advance(ZERO, positions, math.prod(x.shape[first:last]), 1)
    places = unravel(positions.reshape(-1), x.shape[first:last])
    total = ZERO
    for k, d in enumerate(range(first, last)):
        total = advance(total, places[:, k], x.shape[d], x.strides[d])
    return total, x, 1


def _stride(x: np.ndarray, first: int, last: int) -> int:
    for d in range(last - 1, first - 1, -1):
        if x.shape[d] != 1:
            return x.strides[d]
    return 0


def _apart(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The array, copied where it may share memory with `x`, which is about to be written."""
    if (a.base is None and x.base is None and a is not x) or not np.may_share_memory(a, x):
        return a
    return copies.copy(a)


def put(x: np.ndarray, positions: np.ndarray, values: np.ndarray, first: int, last: int, how: str = "set") -> None:
    """Update rows of `x` in place. `values` broadcasts to (lead..., positions..., tail...); positions as in `pick`."""
    count, ndim = positions.size, x.ndim
    if not first and last == ndim and x.flags.c_contiguous:
        x, ndim = x if ndim == 1 else x.reshape(-1), 1
        lead = tail = ()
        shape = positions.shape
    else:
        lead, tail = x.shape[:first], x.shape[last:]
        shape = (*lead, *positions.shape, *tail)
    size = math.prod(shape) if lead or tail else count
    if not size:
        return
    values, positions = _apart(values, x), _apart(positions, x)
    memory, values = aligned(x), aligned(values)
    if values.shape != shape:
        values = spread(values, shape)
    if size >= pool.GRAIN:
        pool.ensure()
    if ndim == 1:
        addresses = positions if positions.ndim == 1 else as_contiguous(positions).reshape(-1)
        values = values if values.ndim == 1 else values.reshape(-1)
        put_ufunc(x.dtype, how)(addresses, values[:, None], word(memory.strides[0]), word(memory.shape[0]), memory[:1])
    else:
        rows = word(math.prod(x.shape[first:last]))
        addresses, _, stride = _addressed(memory, positions, first, last)
        row, apart = _rows(memory, first, last)
        values = values.reshape(*lead, count, *tail) if positions.ndim != 1 else values
        values = values.reshape(*lead, count, *apart, row.shape[-1]) if tail else values[..., None]
        if apart:
            values = moved(values, len(lead), values.ndim - 2)
        put_ufunc(x.dtype, how)(addresses.reshape(-1), values, word(stride), rows, row)
    if memory is not x:
        x[...] = memory


def _lanes(a: np.ndarray, dim: int) -> np.ndarray:
    """(outer..., dim, free): the last dimension stays innermost, so that memory is walked along it."""
    if a.ndim == 0:
        return a.reshape(1, 1)
    if dim == a.ndim - 1:
        return a[..., None]
    return a if dim == a.ndim - 2 else moved(a, dim, a.ndim - 2)


def gather(x: np.ndarray, dim: int, index: np.ndarray) -> np.ndarray:
    """out[.., j, ..] = x[.., index[.., j, ..], ..] along `dim`; `index` is no larger than `x` in the other dimensions."""
    size, shape = index.size, index.shape
    if 0 < size <= SMALL and len(shape) == 1 and x.flags.aligned:
        return (_fetch.get(x.dtype) or fetch_ufunc(x.dtype))(x[0, ...], index, word(x.strides[0]), ZERO, out=...)
    out = np.empty(shape, x.dtype) if size <= SMALL else buffers.empty(shape, x.dtype)
    if not size:
        return out
    x = aligned(x)
    ndim = len(shape)
    if ndim == 2 and size < pool.GRAIN and (shape[1 - dim] == x.shape[1 - dim]):
        if dim:
            gather_ufunc(x.dtype)(x[:, :1], index[..., None], word(x.strides[1]), out[..., None])
            return out
        return gather_ufunc(x.dtype)(x[0], index, word(x.strides[0]), out)
    if shape != x.shape:
        x = x[tuple([slice(None) if d == dim else slice(0, n) for d, n in enumerate(shape)])]
    lanes = _lanes(x, dim)
    if size >= pool.GRAIN:
        pool.ensure()
    gather_ufunc(x.dtype)(lanes[..., 0, :], _lanes(index, dim), word(lanes.strides[-2]), _lanes(out, dim))
    return out


def scatter(out: np.ndarray, dim: int, index: np.ndarray, values: np.ndarray, how: str = "set") -> None:
    """out[.., index[.., j, ..], ..] takes values[.., j, ..] along `dim`, in place; `values` is cut to the index's shape."""
    if not index.size:
        return
    values, index = _apart(values, out), _apart(index, out)
    memory, values = aligned(out), aligned(values)
    seen, shape = memory, index.shape
    if len(shape) == 1 and index.size < pool.GRAIN:
        scatter_ufunc(out.dtype, how)(index[:, None], values[:shape[0], None], word(out.strides[0]), seen[:1])
        if memory is not out:
            out[...] = memory
        return
    if seen.shape != shape and shape:
        seen = seen[tuple([slice(None) if d == dim else slice(0, n) for d, n in enumerate(shape)])]
    if values.shape != shape and shape:
        values = values[tuple([slice(0, n) for n in shape])]
    if index.size >= pool.GRAIN:
        pool.ensure()
    lanes = _lanes(seen, dim)
    scatter_ufunc(out.dtype, how)(_lanes(index, dim), _lanes(values, dim), word(lanes.strides[-2]), lanes[..., 0, :])
    if memory is not out:
        out[...] = memory


__all__ = ["advance", "aligned", "as_contiguous", "as_int64", "extremes", "gather", "mergeable", "pick", "positions_of", "put",
           "scatter", "triangle", "unravel"]
