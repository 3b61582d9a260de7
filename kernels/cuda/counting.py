"""Counting on CUDA: positions of what is not zero, coordinates, how often numbers or intervals occur.

Ranks of marks come from sums over tiles, which are scanned; counts of numbers from sorting them and finding where each begins, so
that weights are added in the order of the CPU. No atomics. Called through `kernels.cuda.records` and by `kernels.cuda.searching`.
"""
from __future__ import annotations

import functools
import math

from ..book import BOOK
from ..source import ITEMSIZE, indented, unpacked
from .arrays import converted, dense, filled
from .compiler import Program
from .elements import launches_of, program_of, search_for
from .gathers import picked
from .launch import BLOCKS, Launch, View
from .scans import scan
from .sorting import LONGEST, sorted_rows

THREADS, EACH = 256, 4
TILE = THREADS * EACH
COUNT, POSITIONS, RANKS = range(3)


# --- marks ------------------------------------------------------------------------------------------------------------

@functools.cache
def marks_program() -> Program:
    """Marks `x` (n, bool) in tiles -> by `mode`: marks of each tile; their positions; for each element marks up to it, less 1.

    Arguments: addresses of the result, the marks, and marks up to the end of each tile (unless they are what is asked for).
    """
    each = range(EACH)
    read = [line for e in each for line in (f"m{e} = 0", f"if at + {e} < n:", f"    m{e} = as_int64(read_uint8(x, at + {e}))")]
    code = ["lane, warp = thread() & 31, thread() >> 5", f"at = tile * {TILE} + thread() * {EACH}", *read,
            f"own = {' + '.join(f'm{e}' for e in each)}", "total = own"]
    for distance in (1, 2, 4, 8, 16):
        code += [f"other = from_before(total, {distance})", f"if lane >= {distance}:", "    total = total + other"]
    code += ["if lane == 31:", "    keep_int64(memory, warp * 8, total)", "barrier()", "before, whole, w = total - own, 0, 0",
             f"while w < {THREADS // 32}:",
             *indented(1, ["here = peek_int64(memory, w * 8)", "if w < warp:", "    before = before + here", "whole = whole + here",
                           "w = w + 1"]),
             f"if mode == {COUNT}:", "    if thread() == 0:", "        store_int64(q, tile * 8, whole)", "else:",
             *indented(1, ["if tile > 0:", "    before = before + read_int64(t, (tile - 1) * 8)"])]
    for e in each:
        code += indented(1, [f"if mode == {POSITIONS} and m{e} != 0:", f"    store_int64(q, before * 8, at + {e})",
                             f"before = before + m{e}", f"if mode == {RANKS} and at + {e} < n:",
                             f"    store_int64(q, (at + {e}) * 8, before - 1)"])
    code += ["barrier()", "tile = tile + blocks()"]
    source = ["def kernel(q, x, t, n, tiles, mode):",
              *indented(1, [f"memory = shared({THREADS // 32 * 8})", "tile = block()", "while tile < tiles:", *indented(1, code)])]
    return Program("marks", "\n".join(source) + "\n", ("address",) * 3 + ("int64",) * 3, {}, THREADS)


def _marked(device, marks: View, out: View, totals: View, mode: int) -> None:
    tiles = -(-marks.size // TILE)
    device.run([Launch(marks_program(), min(BLOCKS, tiles), (out.address, marks.address, totals.address, marks.size, tiles, mode))])


def _totals(device, marks: View) -> tuple[View, View]:
    """Of marks in C order, at least one: how many there are up to the end of each tile, and in all."""
    tiles = -(-marks.size // TILE)
    counts, totals = device.empty("int64", (tiles,)), device.empty("int64", (tiles,))
    _marked(device, marks, counts, counts, COUNT)
    device.run(scan(BOOK["sum"], counts, 0, [totals]))
    return totals, totals._replace(address=totals.address + (tiles - 1) * 8, shape=(), strides=())


def ranks(device, marks: View) -> tuple[View, View]:
    """Of a bool vector in C order, at least one element: how many are set up to each, less 1; how many are set."""
    totals, whole = _totals(device, marks)
    out = device.empty("int64", marks.shape)
    _marked(device, marks, out, totals, RANKS)
    return out, whole


def nonzero_positions(device, x: View) -> View:
    """Row-major positions of the elements that are not zero. Waits for the device, which alone knows how many."""
    if not x.size:
        return device.empty("int64", (0,))
    marks = converted(device, x, "bool")
    totals, whole = _totals(device, marks)
    out = device.empty("int64", (int(device.read(whole)),))
    if out.size:
        _marked(device, marks, out, totals, POSITIONS)
    return out


@functools.cache
def coordinate_program() -> Program:
    """Coordinate `k` of `d` of row-major positions: position // step modulo size."""
    return program_of("coordinate", "q, x", "step, size, k, d", [
        "at = quotient(read_int64(x, i * 8), step)", "store_int64(q, (i * d + k) * 8, at - quotient(at, size) * size)"])


def unravel(device, positions: View, sizes: tuple[int, ...]) -> View:
    """Coordinates (m, d) of row-major positions (m)."""
    positions, d = dense(device, positions), len(sizes)
    out = device.empty("int64", (positions.size if math.prod(sizes) else 0, d))
    for k, size in enumerate(sizes if out.size else ()):
        device.run(launches_of(coordinate_program(), (out, positions), positions.size, math.prod(sizes[k + 1:]), size, k, d))
    return out


@functools.cache
def numbered_program() -> Program:
    """0, 1, 2, ..."""
    return program_of("numbered", "q", "", ["store_int64(q, i * 8, i)"])


def numbered(device, count: int) -> View:
    """The numbers below `count`, int64."""
    out = device.empty("int64", (count,))
    device.run(launches_of(numbered_program(), (out,), count))
    return out


# --- numbers ----------------------------------------------------------------------------------------------------------

@functools.cache
def counts_program(dtype: str) -> Program:
    """How often i occurs among `r` sorted numbers."""
    seen = f"read_{dtype}(x, middle * {ITEMSIZE[dtype]})"
    return program_of(f"counts_{dtype}", "q, x", "r", [*search_for(f"{seen} < i"), *search_for(f"{seen} <= i", "end"),
                                                       "store_int64(q, i * 8, end - low)"])


@functools.cache
def weights_program(dtype: str, weights: str) -> Program:
    """The sum, in order, of the weights `w` of the numbers equal to i among `r` sorted ones."""
    size, step = ITEMSIZE[dtype], ITEMSIZE[weights]
    seen = f"read_{dtype}(x, middle * {size})"
    return program_of(f"weights_{dtype}_{weights}", "q, x, w", "r", [
        *search_for(f"{seen} < i"), *search_for(f"{seen} <= i", "end"), f"total = as_{weights}(0)", "while low < end:",
        f"    total = total + read_{weights}(w, low * {step})", "    low = low + 1", f"store_{weights}(q, i * {step}, total)"])


def _ordered(device, x: View, size: int) -> tuple[View, View]:
    """A vector of numbers below `size`, sorted, and the order that sorts it; as int32 where that holds them."""
    x = converted(device, x, "int64" if size > LONGEST else "int32")
    order = sorted_rows(device, x)
    return picked(device, x, order, 0, 1), order


def bincount(device, x: View, size: int) -> View:
    """How often each number below `size` occurs."""
    if not x.size or not size:
        return filled(device, "int64", (size,))
    if x.size > LONGEST:
        return NotImplemented
    numbers, _ = _ordered(device, x, size)
    out = device.empty("int64", (size,))
    device.run(launches_of(counts_program(numbers.dtype), (out, numbers), size, x.size))
    return out


def bincount_weighted(device, x: View, weights: View, size: int) -> View:
    """The sum of the weights at the places of each number below `size`."""
    if not x.size or not size:
        return filled(device, weights.dtype, (size,))
    if x.size > LONGEST or weights.dtype not in ("float32", "float64"):
        return NotImplemented
    numbers, order = _ordered(device, x, size)
    out = device.empty(weights.dtype, (size,))
    ordered = picked(device, weights, order, 0, 1)
    device.run(launches_of(weights_program(numbers.dtype, weights.dtype), (out, numbers, ordered), size, x.size))
    return out


@functools.cache
def intervals_program(dtype: str) -> Program:
    """The number (int32) of the interval from `low` to `high` that each element lies in; `bins` for none."""
    compute = "float32" if dtype == "float16" else dtype
    element = unpacked(dtype, f"read_{dtype}(x, i * {ITEMSIZE[dtype]})")
    return program_of(f"intervals_{dtype}", "q, x", "bins", [
        f"value, first, last, at = {element}, as_{compute}(low), as_{compute}(high), bins", "if value >= first and value <= last:",
        f"    at = min(as_int64((value - first) * as_{compute}(bins) / (last - first)), bins - 1)",
        "store_int32(q, i * 4, as_int32(at))"], reals="low, high")


def histc(device, x: View, bins: int, low: float, high: float) -> View:
    """How many elements lie in each of `bins` equal intervals, as numbers of the input's dtype."""
    if not x.size:
        return filled(device, x.dtype, (bins,))
    if max(x.size, bins) > LONGEST:
        return NotImplemented
    x, places = dense(device, x), device.empty("int32", (x.size,))
    device.run(launches_of(intervals_program(x.dtype), (places, x), x.size, bins, float(low), float(high)))
    counts = bincount(device, places, bins + 1)._replace(shape=(bins,))         # without those in no interval
    return converted(device, converted(device, counts, "float64"), x.dtype)
