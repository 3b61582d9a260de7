"""Writing at indices on CUDA: index_put, index_add, scatter and its reductions, bags of rows, gradients of reading at indices.

Each thread owns one element of the result and walks over the indices of its lane in their order: no atomics, so the last of equal
indices wins and sums are those of the CPU to the last bit. Work grows with elements times indices of a lane; beyond MOST it goes
over the host, whose one pass is less. Called through `kernels.cuda.records`.
"""
from __future__ import annotations

import functools
import math

import numpy as np

from ..book import BOOK, INTS
from ..cpu.gathers import COMBINE
from ..source import ITEMSIZE, indented, packed, unpacked
from . import pointwise as maps
from .arrays import converted, dense, filled
from .compiler import Program
from .elements import launches_of, program_of
from .gathers import WALKED, checked, picked
from .launch import Launch, View, collapsed, contiguous, grid_of, pointwise
from .transposes import copy

THREADS = 256
MOST = 1 << 33          # comparisons of an index with a place


@functools.cache
def writing_program(dtype: str, how: str) -> Program:
    """q[.., h, ..] takes values[.., j, ..] for each j in order with index[.., j, ..] == h, as COMBINE says; `dtype`: what is
    combined, or for "set" a carrier.

    Arguments: addresses of q (C order), values and index; elements, places of the written dimension and elements behind each;
    indices of a lane, the steps of values and index along it; then for each dimension beside the written one, innermost first,
    its size and the strides of values and index, in bytes.
    """
    words = [f"{letter}{d}" for d in range(WALKED) for letter in "nab"]
    walk = []
    for d in range(WALKED):
        inner = ["left = 0", "at = rest"] if d == WALKED - 1 else [f"left = quotient(rest, n{d})", f"at = rest - left * n{d}"]
        walk += [*inner, f"from_values = from_values + at * a{d}", f"from_index = from_index + at * b{d}", "rest = left"]
    size = ITEMSIZE[dtype]
    value = unpacked(dtype, f"read_{dtype}(values, from_values)")
    wide = "float32" if dtype == "float16" else dtype
    took = [f"total = {value}"] if how == "set" else [f"new, old = {value}, total", f"total = as_{wide}({COMBINE[how]})"]
    body = ["outer = quotient(i, inner)", "within = i - outer * inner", "lead = quotient(outer, places)",
            "here = outer - lead * places", "rest, from_values, from_index = lead * inner + within, 0, 0", *walk,
            f"total = {unpacked(dtype, f'load_{dtype}(q, i * {size})')}", "j = 0", "while j < count:",
            "    k = read_int64(index, from_index)", "    if k < 0:", "        k = k + places", "    if k == here:",
            *indented(2, took), "    from_index = from_index + index_step", "    from_values = from_values + value_step",
            "    j = j + 1", f"store_{dtype}(q, i * {size}, {packed(dtype, 'total')})", "i = i + blocks() * threads()"]
    code = ["i = block() * threads() + thread()", "while i < n:", *indented(1, body)]
    parameters = ["n", "places", "inner", "count", "value_step", "index_step", *words]
    source = [f"def kernel(q, values, index, {', '.join(parameters)}):", *indented(1, code)]
    return Program(f"writing_{how}_{dtype}", "\n".join(source) + "\n",
                   ("address",) * 3 + ("int64",) * len(parameters), {}, THREADS)


def _write(device, q: View, lead: tuple[int, ...], places: int, trail: tuple[int, ...], values: View, index: View, count: int,
           value_step: int, index_step: int, how: str):
    """Run the kernel on `q`, a fresh array in C order; `values` and `index` are views of shape (*lead, *trail)."""
    n = math.prod(lead) * places * math.prod(trail)
    if not n or not count:
        return q
    if n * count > MOST:
        return NotImplemented
    shape = (*lead, *trail)
    order = contiguous(0, "int8", shape)
    sizes, (_, of_values, of_index) = collapsed(shape, (order.strides, values.strides, index.strides))
    if len(sizes) > WALKED:
        return NotImplemented
    pad = (0,) * (WALKED - len(sizes))
    words = [w for one in zip((*sizes, *(1 for _ in pad)), (*of_values, *pad), (*of_index, *pad), strict=True) for w in one]
    program = writing_program(maps.CARRIER[ITEMSIZE[q.dtype]] if how == "set" else q.dtype, how)
    device.run([Launch(program, grid_of(n, THREADS), (q.address, values.address, index.address, n, places, math.prod(trail), count,
                                                       value_step, index_step, *words))])
    return q


def _copied(device, x: View) -> View:
    """A copy in C order."""
    made = device.empty(x.dtype, x.shape)
    device.run(copy(made, x))
    return made


def _put(device, q: View, positions: View, values: View, first: int, last: int, how: str):
    """Rows at row-major positions over dimensions first..last-1 of a fresh array."""
    lead, trail = q.shape[:first], q.shape[last:]
    count = math.prod(positions.shape)
    shape = (*lead, *positions.shape, *trail)
    if values.shape != shape:
        spread = (0,) * (len(shape) - len(values.shape))
        values = values._replace(shape=shape, strides=(*spread, *(0 if n == 1 else s for n, s in
                                                                  zip(values.shape, values.strides, strict=True))))
    positions, values = dense(device, positions), dense(device, values)
    flat = contiguous(values.address, values.dtype, (*lead, count, *trail))
    step = flat.strides[len(lead)] if count else 0
    of_values = flat._replace(shape=(*lead, *trail), strides=flat.strides[:len(lead)] + flat.strides[len(lead) + 1:])
    of_index = positions._replace(shape=(*lead, *trail), strides=(0,) * (len(lead) + len(trail)))
    return _write(device, q, lead, math.prod(q.shape[first:last]), trail, of_values, of_index, count, step, 8, how)


def index_backward(device, x: View, positions: View, shape: tuple[int, ...], first: int, last: int, named: int = -1):
    """Zeros with rows added at positions: the adjoint of index."""
    if named >= 0:
        positions = checked(device, positions, math.prod(shape[first:last]), named, True, IndexError, "")
    return _put(device, filled(device, x.dtype, shape), positions, x, first, last, "sum")


def _writing(device, x: View, values: View, positions: View, first: int, last: int, accumulate: bool = False, named: int = -1):
    if named >= 0:
        positions = checked(device, positions, math.prod(x.shape[first:last]), named, True, IndexError, "")
    return _put(device, _copied(device, x), positions, values, first, last, "sum" if accumulate else "set")


index_put = put = index_add = index_copy = index_fill = index_fill_value = masked_scatter = _writing


def index_clear(device, x: View, positions: View, first: int, last: int, named: int = -1):
    """A copy with zeros in rows."""
    return _writing(device, x, filled(device, x.dtype, ()), positions, first, last, False, named)


def _lanes(device, q: View, index: View, values: View, dim: int, how: str):
    """Elements at an index of one dimension of a fresh array; the index may be smaller than the array in the others."""
    if not q.shape or not index.shape:
        return NotImplemented
    part = q._replace(shape=tuple(n if d == dim else m for d, (n, m) in enumerate(zip(q.shape, index.shape, strict=True))))
    if part.shape != q.shape:               # lanes without an index stay as they are
        found = _lanes(device, _copied(device, part), index, values, dim, how)
        if found is NotImplemented:
            return found
        device.run(copy(part, found))
        return q

    def without(v: View) -> View:
        return v._replace(shape=(*v.shape[:dim], *v.shape[dim + 1:]), strides=(*v.strides[:dim], *v.strides[dim + 1:]))
    return _write(device, q, q.shape[:dim], q.shape[dim], q.shape[dim + 1:], without(values), without(index), index.shape[dim],
                  values.strides[dim], index.strides[dim], how)


def gather_backward(device, x: View, index: View, shape: tuple[int, ...], dim: int):
    """Zeros with elements added at an index: the adjoint of gather."""
    if not shape:
        return NotImplemented
    index = checked(device, index, shape[dim], dim, False, RuntimeError, "")
    return _lanes(device, filled(device, x.dtype, shape), index, x, dim, "sum")


def _scattering(how: str):
    def run(device, x: View, src: View, index: View, dim: int):
        if not x.shape:
            return NotImplemented
        index = checked(device, index, x.shape[dim], dim, False, RuntimeError, "")
        return _lanes(device, _copied(device, x), index, src._replace(shape=index.shape), dim, how)
    return run


scatter = scatter_value = _scattering("set")
scatter_add = _scattering("sum")


def scatter_clear(device, x: View, index: View, dim: int):
    """A copy with zeros at an index."""
    return scatter(device, x, _everywhere(filled(device, x.dtype, ()), index.shape), index, dim)


def _everywhere(number: View, shape: tuple[int, ...]) -> View:
    """A number in each place of a shape."""
    return number._replace(shape=shape, strides=(0,) * len(shape))


# --- scatter with a reduction -----------------------------------------------------------------------------------------

def _reduced(device, x: View, src: View, index: View, dim: int, reduce: str, include_self: bool):
    """As `kernels.ops.indexing._scatter_reduce`, in a dtype that is computed in."""
    def put(q: View, values: View, how: str):
        return q if q is NotImplemented else _lanes(device, q, index, values, dim, how)

    def number(value: float) -> View:
        return _everywhere(filled(device, x.dtype, (), value), index.shape)
    out = _copied(device, x)
    if not include_self:
        from ..ops.indexing import neutral
        out = put(out, number(neutral(np.dtype(x.dtype), reduce)), "set")
    out = put(out, src, "sum" if reduce == "mean" else reduce)
    if reduce != "mean" or out is NotImplemented:
        return out
    count = filled(device, x.dtype, x.shape, 1)
    count = put(put(count, number(0), "set") if not include_self else count, number(1), "sum")
    if count is NotImplemented:
        return count
    device.run(pointwise(maps.forward(BOOK["floor_divide" if x.dtype in INTS else "div"], x.dtype), [out], [out, count]))
    return out


def scatter_reduce(device, x: View, src: View, index: View, dim: int, reduce: str, include_self: bool):
    """A copy in which the elements at an index are combined with those of another array, in the order of the index."""
    if not x.shape or x.dtype.startswith("complex"):
        return NotImplemented
    index = checked(device, index, x.shape[dim], dim, False, RuntimeError, "")
    src = src._replace(shape=index.shape)
    if x.dtype != "float16":
        return _reduced(device, x, src, index, dim, reduce, include_self)
    found = _reduced(device, converted(device, x, "float32"), converted(device, src, "float32"), index, dim, reduce, include_self)
    return found if found is NotImplemented else converted(device, found, "float16")


index_reduce = scatter_reduce


# --- bags of rows -----------------------------------------------------------------------------------------------------

def embedding_bag(device, weight: View, scale: View, positions: View, bags: View, count: int, by_frequency: bool):
    """Sums over `count` bags: the row at positions[i] times scale[i] goes to bag bags[i]; float16 is summed in float32."""
    dtype = "float32" if weight.dtype == "float16" else weight.dtype
    rows, factors = picked(device, weight, positions, 0, 1), scale._replace(shape=(*scale.shape, 1), strides=(*scale.strides, 0))
    if dtype != weight.dtype:
        rows, factors = converted(device, rows, dtype), converted(device, factors, dtype)
    if rows.size:
        device.run(pointwise(maps.forward(BOOK["mul"], dtype), [rows], [rows, factors]))
    out = _put(device, filled(device, dtype, (count, weight.shape[1])), bags, rows, 0, 1, "sum")
    return out if out is NotImplemented or dtype == weight.dtype else converted(device, out, weight.dtype)


@functools.cache
def largest_program(dtype: str) -> Program:
    """For bag i // d and column i % d: the largest element of a row of the bag, 0 without rows, and the row (-1)."""
    size = ITEMSIZE[dtype]

    def element(row: str) -> str:
        return unpacked(dtype, f"read_{dtype}(w, ({row} * d + c) * {size})")
    return program_of(f"bag_largest_{dtype}", "q, rows, w, positions, starts, ends", "d", [
        "bag = quotient(i, d)", "c, at, end = i - bag * d, read_int64(starts, bag * 8), read_int64(ends, bag * 8)",
        f"row, best = as_int64(-1), as_{'float32' if dtype == 'float16' else dtype}(0)",
        "if at < end:", "    row = read_int64(positions, at * 8)", f"    best = {element('row')}", "at = at + 1", "while at < end:",
        *indented(1, ["other = read_int64(positions, at * 8)", f"value = {element('other')}", "if value > best:",
                      "    row, best = other, value", "at = at + 1"]),
        f"store_{dtype}(q, i * {size}, {packed(dtype, 'best')})", "store_int64(rows, i * 8, row)"])


def embedding_bag_max(device, weight: View, positions: View, starts: View, ends: View) -> tuple[View, View]:
    """The largest element of each column over the rows of each bag, the first of equal ones, zero for an empty bag; its row."""
    weight, positions, starts, ends = (dense(device, v) for v in (weight, positions, starts, ends))
    d = weight.shape[1]
    out, rows = device.empty(weight.dtype, (starts.size, d)), device.empty("int64", (starts.size, d))
    device.run(launches_of(largest_program(weight.dtype), (out, rows, weight, positions, starts, ends), out.size, d))
    return out, rows
