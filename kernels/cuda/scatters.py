"""Writing at indices on CUDA: index_put, index_add, index_copy, scatter, scatter_add, and the gradients of reading at indices.

Each thread owns one element of the result and walks over the indices of its lane in their order: no atomics, so the last of equal
indices wins and sums are those of the CPU to the last bit. Work grows with elements times indices of a lane; beyond MOST it goes
over the host, whose one pass is less. Called through `kernels.cuda.records`.
"""
from __future__ import annotations

import functools
import math

from ..source import ITEMSIZE, indented, packed, unpacked
from . import pointwise as maps
from .compiler import Program
from .gathers import WALKED, checked
from .launch import Launch, View, collapsed, contiguous, grid_of, pointwise
from .transposes import copy

THREADS = 256
MOST = 1 << 33          # comparisons of an index with a place


@functools.cache
def writing_program(dtype: str, adds: bool) -> Program:
    """q[.., h, ..] takes values[.., j, ..] for each j in order with index[.., j, ..] == h; `dtype`: what is added, or a carrier.

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
    took = f"total = as_{wide}(total + {value})" if adds else f"total = {value}"
    body = ["outer = quotient(i, inner)", "within = i - outer * inner", "lead = quotient(outer, places)",
            "here = outer - lead * places", "rest, from_values, from_index = lead * inner + within, 0, 0", *walk,
            f"total = {unpacked(dtype, f'load_{dtype}(q, i * {size})')}", "j = 0", "while j < count:",
            "    k = read_int64(index, from_index)", "    if k < 0:", "        k = k + places", "    if k == here:",
            f"        {took}", "    from_index = from_index + index_step", "    from_values = from_values + value_step",
            "    j = j + 1", f"store_{dtype}(q, i * {size}, {packed(dtype, 'total')})", "i = i + blocks() * threads()"]
    code = ["i = block() * threads() + thread()", "while i < n:", *indented(1, body)]
    parameters = ["n", "places", "inner", "count", "value_step", "index_step", *words]
    source = [f"def kernel(q, values, index, {', '.join(parameters)}):", *indented(1, code)]
    return Program(f"writing_{'sum' if adds else 'set'}_{dtype}", "\n".join(source) + "\n",
                   ("address",) * 3 + ("int64",) * len(parameters), {}, THREADS)


def _write(device, q: View, lead: tuple[int, ...], places: int, trail: tuple[int, ...], values: View, index: View, count: int,
           value_step: int, index_step: int, adds: bool):
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
    dtype = q.dtype if adds else maps.CARRIER[ITEMSIZE[q.dtype]]
    program = writing_program(dtype, adds)
    device.run([Launch(program, grid_of(n, THREADS), (q.address, values.address, index.address, n, places, math.prod(trail), count,
                                                       value_step, index_step, *words))])
    return q


def _dense(device, x: View) -> View:
    """A copy in C order."""
    made = device.empty(x.dtype, x.shape)
    device.run(copy(made, x))
    return made


def _zeros(device, dtype: str, shape: tuple[int, ...]) -> View:
    made = device.empty(dtype, tuple(shape))
    if math.prod(shape):
        device.run(pointwise(maps.cast(dtype, dtype), [made], [0]))
    return made


ADDED = ("float16", "float32", "float64", "int32", "int64")


def _put(device, q: View, positions: View, values: View, first: int, last: int, adds: bool):
    """Rows at row-major positions over dimensions first..last-1 of a fresh array."""
    if adds and q.dtype not in ADDED:
        return NotImplemented
    lead, trail = q.shape[:first], q.shape[last:]
    count = math.prod(positions.shape)
    shape = (*lead, *positions.shape, *trail)
    if values.shape != shape:
        spread = (0,) * (len(shape) - len(values.shape))
        values = values._replace(shape=shape, strides=(*spread, *(0 if n == 1 else s for n, s in
                                                                  zip(values.shape, values.strides, strict=True))))
    positions, values = _dense(device, positions), _dense(device, values)
    flat = contiguous(values.address, values.dtype, (*lead, count, *trail))
    step = flat.strides[len(lead)] if count else 0
    of_values = flat._replace(shape=(*lead, *trail), strides=flat.strides[:len(lead)] + flat.strides[len(lead) + 1:])
    of_index = positions._replace(shape=(*lead, *trail), strides=(0,) * (len(lead) + len(trail)))
    return _write(device, q, lead, math.prod(q.shape[first:last]), trail, of_values, of_index, count, step, 8, adds)


def index_backward(device, x: View, positions: View, shape: tuple[int, ...], first: int, last: int, named: int = -1):
    """Zeros with rows added at positions: the adjoint of index."""
    if named >= 0:
        positions = checked(device, positions, math.prod(shape[first:last]), named, True, IndexError, "")
    return _put(device, _zeros(device, x.dtype, shape), positions, x, first, last, True)


def _writing(device, x: View, values: View, positions: View, first: int, last: int, accumulate: bool = False, named: int = -1):
    if named >= 0:
        positions = checked(device, positions, math.prod(x.shape[first:last]), named, True, IndexError, "")
    return _put(device, _dense(device, x), positions, values, first, last, accumulate)


index_put = put = index_add = index_copy = index_fill = index_fill_value = masked_scatter = _writing


def index_clear(device, x: View, positions: View, first: int, last: int, named: int = -1):
    """A copy with zeros in rows."""
    return _writing(device, x, _zeros(device, x.dtype, ()), positions, first, last, False, named)


def _lanes(device, q: View, index: View, values: View, dim: int, adds: bool):
    """Elements at an index of one dimension of a fresh array; the index may be smaller than the array in the others."""
    if not q.shape or not index.shape or (adds and q.dtype not in ADDED):
        return NotImplemented
    if any(n != m for d, (n, m) in enumerate(zip(q.shape, index.shape, strict=True)) if d != dim):
        return NotImplemented               # lanes without an index: left to the host

    def without(v: View) -> View:
        return v._replace(shape=(*v.shape[:dim], *v.shape[dim + 1:]), strides=(*v.strides[:dim], *v.strides[dim + 1:]))
    return _write(device, q, q.shape[:dim], q.shape[dim], q.shape[dim + 1:], without(values), without(index), index.shape[dim],
                  values.strides[dim], index.strides[dim], adds)


def gather_backward(device, x: View, index: View, shape: tuple[int, ...], dim: int):
    """Zeros with elements added at an index: the adjoint of gather."""
    if not shape:
        return NotImplemented
    index = checked(device, index, shape[dim], dim, False, RuntimeError, "")
    return _lanes(device, _zeros(device, x.dtype, shape), index, x, dim, True)


def _scattering(adds: bool):
    def run(device, x: View, src: View, index: View, dim: int):
        if not x.shape or src.shape != index.shape:
            return NotImplemented
        index = checked(device, index, x.shape[dim], dim, False, RuntimeError, "")
        return _lanes(device, _dense(device, x), index, src, dim, adds)
    return run


scatter, scatter_add = _scattering(False), _scattering(True)


def scatter_clear(device, x: View, index: View, dim: int):
    """A copy with zeros at an index."""
    zero = _zeros(device, x.dtype, ())
    return scatter(device, x, zero._replace(shape=index.shape, strides=(0,) * len(index.shape)), index, dim)
