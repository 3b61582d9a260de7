"""Kernels of layer, group, instance, batch and root mean square normalisation: forward, and all gradients in one go.

Three layouts. "rows" (n, r): one mean and variance a row, weights along the row (layer norm). "segments" (k, l): one mean and
variance for k segments of l neighbours, one weight a segment (batch norm over images, group norm). "columns" (n, b): one
mean, variance and weight a column (batch norm of a matrix). Statistics take two passes (mean, then deviations), added up in
runs of RUN numbers in the dtype computed in and beyond that in float64; float16 is computed in float32. Weights, means and
variances are in the dtype computed in. Arrays are C-contiguous. Called by `kernels.ops.normalization`.
"""
from __future__ import annotations

import functools

import numpy as np

from .. import libm
from .folds import RUN
from .maps import ITEMSIZE, loaded, stored
from .native import Program, make_ufunc

TILE = 256              # columns whose running sums stay in the first cache
PART = 32               # rows whose gradients of weight and bias are added up in one go


def compute_dtype(dtype: str) -> str:
    """The dtype that a normalisation of `dtype` is computed in, and that its means, variances and weights come in."""
    return "float64" if dtype == "float64" else "float32"


def _plus(a, b):
    return a + b


def _prelude(dtype: str) -> str:
    """Element access: `get`, `put` for the arrays' dtype; `get_c`, `peek_c`, `put_c` for the one computed in."""
    c = compute_dtype(dtype)
    return f"""
@inline
def at_row(args, steps, k, outer):
    return pointer(address(args[k]) + outer * steps[k])
@inline
def get(p, at):
    return as_{c}({loaded(dtype, 'p', f'at * {ITEMSIZE[dtype]}')})
@inline
def put(p, at, value):
    {stored(dtype, 'p', f'at * {ITEMSIZE[dtype]}', 'value')}
@inline
def get_c(p, at):
    return load_{c}(p, at * {ITEMSIZE[c]})
@inline
def peek_c(p, at):
    return peek_{c}(p, at * {ITEMSIZE[c]})
@inline
def put_c(p, at, value):
    store_{c}(p, at * {ITEMSIZE[c]}, as_{c}(value))
@inline
def scale_of(variance, eps):
    return as_{c}(root(1.0 / (as_float64(variance) + eps)))
"""


def _root(x):
    return libm.sqrt(x)


def _kernel(name: str, dtype: str, source: str, inputs: str, outputs: str, signature: str) -> np.ufunc:
    """`inputs` and `outputs` are letters: t the arrays' dtype, c the one computed in, d float64, i int64."""
    c = compute_dtype(dtype)
    types = {"t": dtype, "c": c, "d": "float64", "i": "int64"}
    source = _prelude(dtype) + source.replace("as_C", f"as_{c}") + "    clear_status()\n"
    return make_ufunc(Program(f"{name}_{dtype}", source, functions={"plus": (_plus, None), "root": (_root, None)},
                              inputs=tuple(types[k] for k in inputs), outputs=tuple(types[k] for k in outputs),
                              signature=signature, work=4, fastmath={"plus": ("reassoc",)}))


# Sums over `length` neighbours from position `at`: `total` in float64 of what `term` says about each.
def _sum(term: str, total: str = "total", indent: int = 8) -> str:
    lines = [f"for first in range(at, at + length, {RUN}):", f"    part, last = as_C(0), min(first + {RUN}, at + length)",
             "    for i in range(first, last):", f"        part = plus(part, {term})", f"    {total} += as_float64(part)"]
    return "".join(" " * indent + line + "\n" for line in lines)


# --- rows ---------------------------------------------------------------------------------------------------------------

@functools.cache
def rows_forward(dtype: str, centred: bool) -> np.ufunc:
    """x (n, r), weight, bias (r), eps -> out (n, r), mean, variance (n); the mean square about 0 where not `centred`."""
    mean = f"        at, length, total = 0, r, 0.0\n{_sum('get(x, i)')}        mean = as_C(total / as_float64(r))\n"
    square = _sum("(get(x, i) - mean) * (get(x, i) - mean)")
    source = f"""
def kernel(args, dimensions, steps, data):
    n, r = dimensions[0], dimensions[1]
    w, b, eps = args[1], args[2], load_float64(args[3], 0)
    for outer in range(n):
        x, q = at_row(args, steps, 0, outer), at_row(args, steps, 4, outer)
{mean if centred else "        mean = as_C(0)"}
        at, length, total = 0, r, 0.0
{square}        variance = as_C(total / as_float64(r))
        scale = scale_of(variance, eps)
        put_c(at_row(args, steps, 5, outer), 0, mean)
        put_c(at_row(args, steps, 6, outer), 0, variance)
        for i in range(r):
            put(q, i, (get(x, i) - mean) * scale * get_c(w, i) + get_c(b, i))
"""
    return _kernel("norm_rows" if centred else "norm_square_rows", dtype, source, "tccd", "tcc", "(r),(r),(r),()->(r),(),()")


@functools.cache
def rows_backward(dtype: str, centred: bool) -> np.ufunc:
    """g, x (m, r), weight (r), mean, variance (m), eps -> gradient of x (m, r), of weight and bias (r) summed over m rows."""
    zero = "" if centred else "            shift = as_C(0)\n"
    source = f"""
def kernel(args, dimensions, steps, data):
    n, m, r = dimensions[0], dimensions[1], dimensions[2]
    w, eps = args[2], load_float64(args[5], 0)
    for outer in range(n):
        g0, x0, q0 = at_row(args, steps, 0, outer), at_row(args, steps, 1, outer), at_row(args, steps, 6, outer)
        means, variances = at_row(args, steps, 3, outer), at_row(args, steps, 4, outer)
        gw, gb = at_row(args, steps, 7, outer), at_row(args, steps, 8, outer)
        for i in range(r):
            put_c(gw, i, 0.0)
        for i in range(r):
            put_c(gb, i, 0.0)
        for j in range(m):
            g, x, q = pointer(address(g0) + j * ROW), pointer(address(x0) + j * ROW), pointer(address(q0) + j * ROW)
            mean = get_c(means, j)
            scale = scale_of(get_c(variances, j), eps)
            total, other = 0.0, 0.0
            for first in range(0, r, {RUN}):
                part, part_2, last = as_C(0), as_C(0), min(first + {RUN}, r)
                for i in range(first, last):
                    part = plus(part, get(g, i) * get_c(w, i))
                    part_2 = plus(part_2, get(g, i) * get_c(w, i) * (get(x, i) - mean))
                total += as_float64(part)
                other += as_float64(part_2)
            shift, slope = as_C(total / as_float64(r)), as_C(other / as_float64(r)) * scale
{zero}            for i in range(r):
                normed = (get(x, i) - mean) * scale
                put(q, i, scale * (get(g, i) * get_c(w, i) - shift - normed * slope))
                put_c(gw, i, peek_c(gw, i) + get(g, i) * normed)
                put_c(gb, i, peek_c(gb, i) + get(g, i))
""".replace("ROW", f"r * {ITEMSIZE[dtype]}")
    return _kernel("norm_rows_gradient" if centred else "norm_square_rows_gradient", dtype, source, "ttcccd", "tcc",
                   "(m,r),(m,r),(r),(m),(m),()->(m,r),(r),(r)")


# --- segments -------------------------------------------------------------------------------------------------------------

@functools.cache
def segments_forward(dtype: str) -> np.ufunc:
    """x (k, l), weight, bias (k), eps, given -> out (k, l), mean, variance; where `given`, those two are read instead.

    The l elements of a segment are neighbours, the segments any distance apart.
    """
    source = f"""
def kernel(args, dimensions, steps, data):
    n, k, l = dimensions[0], dimensions[1], dimensions[2]
    step, w_step, b_step, q_step = steps[8] // SIZE, steps[10], steps[11], steps[12] // SIZE
    eps, given, count = load_float64(args[3], 0), load_int64(args[4], 0), as_float64(k * l)
    runs, length = (1, k * l) if step == l else (k, l)
    for outer in range(n):
        x, q = at_row(args, steps, 0, outer), at_row(args, steps, 5, outer)
        w, b = at_row(args, steps, 1, outer), at_row(args, steps, 2, outer)
        means, variances = at_row(args, steps, 6, outer), at_row(args, steps, 7, outer)
        mean, variance = peek_c(means, 0), peek_c(variances, 0)
        if given == 0:
            total = 0.0
            for j in range(runs):
                at = j * step
{_sum("get(x, i)", indent=16)}            mean = as_C(total / count)
            total = 0.0
            for j in range(runs):
                at = j * step
{_sum("(get(x, i) - mean) * (get(x, i) - mean)", indent=16)}            variance = as_C(total / count)
            put_c(means, 0, mean)
            put_c(variances, 0, variance)
        scale = scale_of(variance, eps)
        for j in range(k):
            slope, shift = scale * get_c(pointer(address(w) + j * w_step), 0), get_c(pointer(address(b) + j * b_step), 0)
            at, to = j * step, j * q_step
            for i in range(l):
                put(q, to + i, (get(x, at + i) - mean) * slope + shift)
""".replace("SIZE", str(ITEMSIZE[dtype]))
    return _kernel("norm_segments", dtype, source, "tccdi", "tcc", "(k,l),(k),(k),(),()->(k,l),(),()")


@functools.cache
def segments_backward(dtype: str) -> np.ufunc:
    """g, x (k, l), weight (k), mean, variance, eps, given -> gradient of x (k, l), of weight and bias (k) of these segments."""
    source = f"""
def kernel(args, dimensions, steps, data):
    n, k, l = dimensions[0], dimensions[1], dimensions[2]
    g_step, step, w_step, q_step = steps[10] // SIZE, steps[12] // SIZE, steps[14], steps[15] // SIZE
    eps, given, count = load_float64(args[5], 0), load_int64(args[6], 0), as_float64(k * l)
    for outer in range(n):
        g, x, q = at_row(args, steps, 0, outer), at_row(args, steps, 1, outer), at_row(args, steps, 7, outer)
        w, gw, gb = at_row(args, steps, 2, outer), at_row(args, steps, 8, outer), at_row(args, steps, 9, outer)
        mean = get_c(at_row(args, steps, 3, outer), 0)
        scale = scale_of(get_c(at_row(args, steps, 4, outer), 0), eps)
        all_shift, all_slope = 0.0, 0.0
        for j in range(k):
            weight = as_float64(get_c(pointer(address(w) + j * w_step), 0))
            at, away, length, total, other = j * g_step, j * step - j * g_step, l, 0.0, 0.0
            for first in range(at, at + length, {RUN}):
                part, part_2, last = as_C(0), as_C(0), min(first + {RUN}, at + length)
                for i in range(first, last):
                    part = plus(part, get(g, i))
                    part_2 = plus(part_2, get(g, i) * (get(x, i + away) - mean))
                total += as_float64(part)
                other += as_float64(part_2)
            other *= as_float64(scale)
            put_c(pointer(address(gb) + j * steps[18]), 0, total)
            put_c(pointer(address(gw) + j * steps[17]), 0, other)
            all_shift += weight * total
            all_slope += weight * other
        if given != 0:
            all_shift, all_slope = 0.0, 0.0
        shift, slope = as_C(all_shift / count), as_C(all_slope / count) * scale
        for j in range(k):
            weight = get_c(pointer(address(w) + j * w_step), 0)
            at, from_, to = j * g_step, j * step, j * q_step
            for i in range(l):
                put(q, to + i, scale * (get(g, at + i) * weight - shift - (get(x, from_ + i) - mean) * slope))
""".replace("SIZE", str(ITEMSIZE[dtype]))
    return _kernel("norm_segments_gradient", dtype, source, "ttcccdi", "tcc",
                   "(k,l),(k,l),(k),(),(),(),()->(k,l),(k),(k)")


# --- columns --------------------------------------------------------------------------------------------------------------

_COLUMNS_START = f"""
def kernel(args, dimensions, steps, data):
    totals, others = stack({8 * TILE}), stack({8 * TILE})
    scales, shifts, slopes = stack({8 * TILE}), stack({8 * TILE}), stack({8 * TILE})
    m, c = dimensions[1], dimensions[2]
"""
# Columns are walked tile by tile; `here` holds a row's part of the tile.
_TILE = f"""    for begin in range(0, c, {TILE}):
        width = min({TILE}, c - begin)
        for lane in range(width):
            store_float64(totals, lane * 8, 0.0)
            store_float64(others, lane * 8, 0.0)
"""


@functools.cache
def columns_forward(dtype: str) -> np.ufunc:
    """x (m, b), weight, bias (b), eps, given -> out (m, b), mean, variance (b); where `given`, those two are read instead."""
    source = _COLUMNS_START + """    x, w, b, q, means, variances = args[0], args[1], args[2], args[5], args[6], args[7]
    eps, given, count, row, to = load_float64(args[3], 0), load_int64(args[4], 0), as_float64(m), steps[8], steps[12]
""" + _TILE + """        if given == 0:
            for j in range(m):
                here = pointer(address(x) + j * row + begin * SIZE)
                for lane in range(width):
                    store_float64(totals, lane * 8, peek_float64(totals, lane * 8) + as_float64(get(here, lane)))
            for lane in range(width):
                put_c(means, begin + lane, peek_float64(totals, lane * 8) / count)
            for j in range(m):
                here = pointer(address(x) + j * row + begin * SIZE)
                for lane in range(width):
                    far = as_float64(get(here, lane) - peek_c(means, begin + lane))
                    store_float64(others, lane * 8, peek_float64(others, lane * 8) + far * far)
            for lane in range(width):
                put_c(variances, begin + lane, peek_float64(others, lane * 8) / count)
        for lane in range(width):
            put_c(scales, lane, scale_of(peek_c(variances, begin + lane), eps) * get_c(w, begin + lane))
        for j in range(m):
            here, there = pointer(address(x) + j * row + begin * SIZE), pointer(address(q) + j * to + begin * SIZE)
            for lane in range(width):
                far = get(here, lane) - peek_c(means, begin + lane)
                put(there, lane, far * peek_c(scales, lane) + get_c(b, begin + lane))
"""
    return _kernel("norm_columns", dtype, source.replace("SIZE", str(ITEMSIZE[dtype])), "tccdi", "tcc",
                   "(m,b),(b),(b),(),()->(m,b),(b),(b)")


@functools.cache
def columns_backward(dtype: str) -> np.ufunc:
    """g, x (m, b), weight, mean, variance (b), eps, given -> gradients of x (m, b), weight and bias (b)."""
    source = _COLUMNS_START + """    g, x, w, means, variances = args[0], args[1], args[2], args[3], args[4]
    q, gw, gb = args[7], args[8], args[9]
    eps, given, count = load_float64(args[5], 0), load_int64(args[6], 0), as_float64(m)
""" + _TILE + """            put_c(scales, lane, scale_of(get_c(variances, begin + lane), eps))
        for j in range(m):
            down, here = pointer(address(g) + j * steps[10] + begin * SIZE), pointer(address(x) + j * steps[12] + begin * SIZE)
            for lane in range(width):
                far = get(here, lane) - get_c(means, begin + lane)
                store_float64(totals, lane * 8, peek_float64(totals, lane * 8) + as_float64(get(down, lane)))
                store_float64(others, lane * 8, peek_float64(others, lane * 8) + as_float64(get(down, lane) * far))
        for lane in range(width):
            total = peek_float64(totals, lane * 8)
            other = peek_float64(others, lane * 8) * as_float64(peek_c(scales, lane))
            put_c(gb, begin + lane, total)
            put_c(gw, begin + lane, other)
            put_c(shifts, lane, 0.0 if given != 0 else total / count)
            put_c(slopes, lane, 0.0 if given != 0 else other / count)
        for j in range(m):
            down, here = pointer(address(g) + j * steps[10] + begin * SIZE), pointer(address(x) + j * steps[12] + begin * SIZE)
            there = pointer(address(q) + j * steps[17] + begin * SIZE)
            for lane in range(width):
                scale = peek_c(scales, lane)
                normed = (get(here, lane) - get_c(means, begin + lane)) * scale
                rest = get(down, lane) - peek_c(shifts, lane) - normed * peek_c(slopes, lane)
                put(there, lane, scale * get_c(w, begin + lane) * rest)
"""
    return _kernel("norm_columns_gradient", dtype, source.replace("SIZE", str(ITEMSIZE[dtype])), "ttcccdi", "tcc",
                   "(m,b),(m,b),(b),(b),(b),(),()->(m,b),(b),(b)")
