"""Kernels of softmax, log_softmax and cross entropy with class indices: maximum, exponentials, their sum, scaling.

Rows are contiguous. "along" kernels take blocks of rows that fit the first cache, so that the loop of exponentials runs over whole
blocks and stays vectorised for short rows; "across" kernels take tiles of neighbouring columns. A maximum that ignores NaN is
enough, since the exponential of NaN makes the sum NaN. Sums of float32 run in float32 over up to RUN elements, in float64 beyond.
Everything is compiled for float32 and float64; float16 is converted by the callers in `kernels.ops.softmax` and `losses`.
"""
from __future__ import annotations

import functools

import numpy as np

from .. import libm
from .maps import ITEMSIZE
from .native import Program, make_ufunc

LANES = 64              # running maxima of a row
BLOCK = 1024            # elements of short rows taken together
RUN = 1024              # elements of a sum in the running dtype
WIDTH, ROWS = 128, 32   # neighbouring columns of a tile; its elements of a sum in the running dtype

_HELPERS = """
@inline
def row_of(args, steps, k, outer):
    return pointer(address(args[k]) + outer * steps[k])

@inline
def largest(x, r, lanes):
    top, whole = as_T(-inf), r // LANES * LANES
    if whole > 0:
        for lane in range(LANES):
            store_T(lanes, lane * SIZE, as_T(-inf))
        for k in range(0, whole, LANES):
            for lane in range(LANES):
                v, old = load_T(x, (k + lane) * SIZE), peek_T(lanes, lane * SIZE)
                store_T(lanes, lane * SIZE, v if v > old else old)
        for lane in range(LANES):
            old = peek_T(lanes, lane * SIZE)
            top = old if old > top else top
    for k in range(whole, r):
        v = load_T(x, k * SIZE)
        top = v if v > top else top
    return top

@inline
def exponentials(x, step, q, rows, r, tops, lanes):
    for j in range(rows):
        row = pointer(address(x) + j * step)
        top = largest(row, r, lanes)
        store_T(tops, j * SIZE, top)
        if r < LANES:
            for k in range(r):
                store_T(q, (j * r + k) * SIZE, load_T(row, k * SIZE) - top)
        else:
            for k in range(r):
                store_T(q, (j * r + k) * SIZE, exp(load_T(row, k * SIZE) - top))
    if r < LANES:
        for k in range(rows * r):
            store_T(q, k * SIZE, exp(peek_T(q, k * SIZE)))

@inline
def sum_of(q, at, r):
    total = 0.0
    for i in range(0, r, RUN):
        part = as_T(0)
        for k in range(i, min(i + RUN, r)):
            part = plus(part, peek_T(q, at + k * SIZE))
        total += as_float64(part)
    return total
"""

_FORWARD_ALONG = """
def kernel(args, dimensions, steps, data):
    n, r = dimensions[0], dimensions[1]
    lanes, tops = stack(LANES * SIZE), stack(BLOCK * SIZE)
    block = max(1, BLOCK // r)
    for first in range(0, n, block):
        rows = min(block, n - first)
        x, q = row_of(args, steps, 0, first), row_of(args, steps, 1, first)
        exponentials(x, steps[0], q, rows, r, tops, lanes)
        for j in range(rows):
            at = j * r * SIZE
            FINISH
    clear_status()
"""
_FINISH_ALONG = {
    "softmax": """scale = as_T(1.0 / sum_of(q, at, r))
            for k in range(r):
                store_T(q, at + k * SIZE, peek_T(q, at + k * SIZE) * scale)""",
    "log_softmax": """shift, top = as_T(log(sum_of(q, at, r))), peek_T(tops, j * SIZE)
            row = pointer(address(x) + j * steps[0])
            for k in range(r):
                store_T(q, at + k * SIZE, (load_T(row, k * SIZE) - top) - shift)""",
}

_DOT = """
@inline
def dot_of(x, y, at, r):
    total = 0.0
    for i in range(0, r, RUN):
        part = as_T(0)
        for k in range(i, min(i + RUN, r)):
            part = plus(part, load_T(x, at + k * SIZE) * load_T(y, at + k * SIZE))
        total += as_float64(part)
    return total
"""
# dot: the sum of g * out, or of g; then out * (g - dot), or g - exp(out) * dot
_GRADIENT_ALONG = """
def kernel(args, dimensions, steps, data):
    n, r = dimensions[0], dimensions[1]
    block = max(1, BLOCK // r)
    for first in range(0, n, block):
        rows = min(block, n - first)
        g, y, q = row_of(args, steps, 0, first), row_of(args, steps, 1, first), row_of(args, steps, 2, first)
        PREPARE
        for j in range(rows):
            at = j * r * SIZE
            dot = as_T(DOT)
            for k in range(r):
                here = at + k * SIZE
                store_T(q, here, FINISH)
    clear_status()
"""
_PARTS_ALONG = {
    "softmax": {"PREPARE": "", "DOT": "dot_of(g, y, at, r)", "FINISH": "load_T(y, here) * (load_T(g, here) - dot)"},
    "log_softmax": {"PREPARE": "for k in range(rows * r):\n            store_T(q, k * SIZE, exp(load_T(y, k * SIZE)))",
                    "DOT": "sum_of(g, at, r)", "FINISH": "load_T(g, here) - peek_T(q, here) * dot"},
}

_FORWARD_ACROSS = """
def kernel(args, dimensions, steps, data):
    n, r, b, x_row, q_row = dimensions[0], dimensions[1], dimensions[2], steps[2], steps[4]
    tops, parts, sums = stack(WIDTH * SIZE), stack(WIDTH * SIZE), stack(WIDTH * 8)
    for outer in range(n):
        for first in range(0, b, WIDTH):
            width = min(b - first, WIDTH)
            x = pointer(address(args[0]) + outer * steps[0] + first * SIZE)
            q = pointer(address(args[1]) + outer * steps[1] + first * SIZE)
            for lane in range(width):
                store_T(tops, lane * SIZE, as_T(-inf))
                store_float64(sums, lane * 8, 0.0)
            for k in range(r):
                for lane in range(width):
                    v, old = load_T(x, k * x_row + lane * SIZE), peek_T(tops, lane * SIZE)
                    store_T(tops, lane * SIZE, v if v > old else old)
            for i in range(0, r, ROWS):
                for lane in range(width):
                    store_T(parts, lane * SIZE, as_T(0))
                for k in range(i, min(i + ROWS, r)):
                    for lane in range(width):
                        v = exp(load_T(x, k * x_row + lane * SIZE) - peek_T(tops, lane * SIZE))
                        store_T(q, k * q_row + lane * SIZE, v)
                    for lane in range(width):
                        v = peek_T(q, k * q_row + lane * SIZE)
                        store_T(parts, lane * SIZE, peek_T(parts, lane * SIZE) + v)
                for lane in range(width):
                    v = as_float64(peek_T(parts, lane * SIZE))
                    store_float64(sums, lane * 8, peek_float64(sums, lane * 8) + v)
            for lane in range(width):
                store_T(parts, lane * SIZE, as_T(TOTAL(peek_float64(sums, lane * 8))))
            for k in range(r):
                for lane in range(width):
                    total = peek_T(parts, lane * SIZE)
                    store_T(q, k * q_row + lane * SIZE, FINISH)
    clear_status()
"""
_PARTS_ACROSS = {
    "softmax": {"TOTAL": "1.0 / ", "FINISH": "peek_T(q, k * q_row + lane * SIZE) * total"},
    "log_softmax": {"TOTAL": "log", "FINISH": "(load_T(x, k * x_row + lane * SIZE) - peek_T(tops, lane * SIZE)) - total"},
}

_GRADIENT_ACROSS = """
def kernel(args, dimensions, steps, data):
    n, r, b, g_row, y_row, q_row = dimensions[0], dimensions[1], dimensions[2], steps[3], steps[5], steps[7]
    parts, sums = stack(WIDTH * SIZE), stack(WIDTH * 8)
    for outer in range(n):
        for first in range(0, b, WIDTH):
            width = min(b - first, WIDTH)
            g = pointer(address(args[0]) + outer * steps[0] + first * SIZE)
            y = pointer(address(args[1]) + outer * steps[1] + first * SIZE)
            q = pointer(address(args[2]) + outer * steps[2] + first * SIZE)
            for lane in range(width):
                store_float64(sums, lane * 8, 0.0)
            for i in range(0, r, ROWS):
                for lane in range(width):
                    store_T(parts, lane * SIZE, as_T(0))
                for k in range(i, min(i + ROWS, r)):
                    for lane in range(width):
                        store_T(parts, lane * SIZE, peek_T(parts, lane * SIZE) + SUMMED)
                for lane in range(width):
                    v = as_float64(peek_T(parts, lane * SIZE))
                    store_float64(sums, lane * 8, peek_float64(sums, lane * 8) + v)
            for lane in range(width):
                store_T(parts, lane * SIZE, as_T(peek_float64(sums, lane * 8)))
            for k in range(r):
                for lane in range(width):
                    dot = peek_T(parts, lane * SIZE)
                    store_T(q, k * q_row + lane * SIZE, FINISH)
    clear_status()
"""
_G, _Y = "load_T(g, k * g_row + lane * SIZE)", "load_T(y, k * y_row + lane * SIZE)"
_GRADIENT_PARTS_ACROSS = {
    "softmax": {"SUMMED": f"{_G} * {_Y}", "FINISH": f"{_Y} * ({_G} - dot)"},
    "log_softmax": {"SUMMED": _G, "FINISH": f"{_G} - exp({_Y}) * dot"},
}

# --- cross entropy with class indices ---------------------------------------------------------------------------------

# Per row: the loss, the weight of its class (0 where ignored), and 1 where the class does not exist. SCORE is the loss of class t.
_ROWS = """
def kernel(args, dimensions, steps, data):
    n, r, classes = dimensions[0], dimensions[1], dimensions[2]
    lanes, tops, scratch = stack(LANES * SIZE), stack(BLOCK * SIZE), stack(BLOCK * SIZE)
    BEGIN
    for first in range(0, n, block):
        rows = min(block, n - first)
        x = row_of(args, steps, 0, first)
        PREPARE
        for j in range(rows):
            outer = first + j
            t, ignored = load_int64(args[1], outer * steps[1]), load_int64(args[3], outer * steps[3])
            weight, loss, fault = as_T(0), as_T(0), 0
            if t != ignored:
                if t < 0 or t >= r:
                    fault = 1
                else:
                    weight = load_T(args[2], outer * steps[2] + (t * steps[8] if classes > 1 else 0))
                    loss = weight * (SCORE)
            store_T(args[4], outer * steps[4], loss)
            store_T(args[5], outer * steps[5], weight)
            store_int64(args[6], outer * steps[6], fault)
    clear_status()
"""
_SCORES = {
    "nll_loss": {"BEGIN": "block = 1", "PREPARE": "", "SCORE": "-load_T(x, t * steps[7])"},
    "cross_entropy": {
        "BEGIN": "block = max(1, BLOCK // r)",
        "PREPARE": "if r <= BLOCK:\n            exponentials(x, steps[0], scratch, rows, r, tops, lanes)",
        "SCORE": "as_T(log(sum_of(scratch, j * r * SIZE, r) if r <= BLOCK else long_sum(x, scratch, r, tops, lanes)))"
                 " - (load_T(x, j * steps[0] + t * SIZE) - peek_T(tops, j * SIZE))"},
}
_LONG_SUM = """
@inline
def long_sum(x, scratch, r, tops, lanes):
    top, total = largest(x, r, lanes), 0.0
    store_T(tops, 0, top)
    for i in range(0, r, BLOCK):
        count = min(BLOCK, r - i)
        for k in range(count):
            store_T(scratch, k * SIZE, exp(load_T(x, (i + k) * SIZE) - top))
        total += sum_of(scratch, 0, count)
    return total
"""

# (softmax(x) - one at the class) * g * weight / total, row by row
_ROWS_GRADIENT = """
def kernel(args, dimensions, steps, data):
    n, r, classes = dimensions[0], dimensions[1], dimensions[2]
    lanes, tops = stack(LANES * SIZE), stack(BLOCK * SIZE)
    block = max(1, BLOCK // r)
    for first in range(0, n, block):
        rows = min(block, n - first)
        q = row_of(args, steps, 6, first)
        exponentials(row_of(args, steps, 0, first), steps[0], q, rows, r, tops, lanes)
        for j in range(rows):
            outer, at = first + j, j * r * SIZE
            t, factor = load_int64(args[1], outer * steps[1]), as_T(0)
            if t != load_int64(args[3], outer * steps[3]):
                weight = load_T(args[2], outer * steps[2] + (t * steps[8] if classes > 1 else 0))
                factor = load_T(args[4], outer * steps[4]) * weight / load_T(args[5], outer * steps[5])
                scale = as_T(as_float64(factor) / sum_of(q, at, r))
                for k in range(r):
                    store_T(q, at + k * SIZE, peek_T(q, at + k * SIZE) * scale)
                store_T(q, at + t * SIZE, peek_T(q, at + t * SIZE) - factor)
            else:
                for k in range(r):
                    store_T(q, at + k * SIZE, as_T(0))
    clear_status()
"""

# the gradient of nll_loss into zeros: one element a row
_PUT_GRADIENT = """
def kernel(args, dimensions, steps, data):
    classes = dimensions[1]
    for outer in range(dimensions[0]):
        t = load_int64(args[0], outer * steps[0])
        if t != load_int64(args[2], outer * steps[2]):
            weight = load_T(args[1], outer * steps[1] + (t * steps[6] if classes > 1 else 0))
            store_T(args[5], outer * steps[5] + t * steps[7],
                    -load_T(args[3], outer * steps[3]) * weight / load_T(args[4], outer * steps[4]))
    clear_status()
"""

# losses and weights of all rows -> their sum or weighted mean, the weight of all, how many classes do not exist
_TOTALS = """
def kernel(args, dimensions, steps, data):
    loss, weight, faults = 0.0, 0.0, 0
    for k in range(dimensions[1]):
        loss += as_float64(load_T(args[0], k * steps[7]))
        weight += as_float64(load_T(args[1], k * steps[8]))
        faults += load_int64(args[2], k * steps[9])
    if load_int64(args[3], 0) != 0:
        loss = loss / weight
    store_T(args[4], 0, as_T(loss))
    store_T(args[5], 0, as_T(weight))
    store_int64(args[6], 0, faults)
    clear_status()
"""


def _plus(x, y):
    return x + y


@functools.cache
def _falling_exp(dtype: str):
    """exp(x) for x <= 0, a third cheaper than libm's: below the normal numbers it is 0, which no sum of a softmax can tell."""
    single = dtype == "float32"
    number = np.float32 if single else np.float64
    lowest, zero = number(-87.0 if single else -708.0), number(0)
    bounded = [f for f in libm.HELPERS if f.__name__ == "exp_bounded"][0 if single else 1]

    def falling_exp(x):
        e = bounded(libm.select(x < lowest, lowest, x))
        return libm.select(x < lowest, zero, e)
    return falling_exp


def _log(x):
    return libm.log(x)


def _program(name: str, source: str, dtype: str, signature: str, inputs: str, outputs: str, work: int = 1) -> Program:
    """A template filled in for a dtype: inputs and outputs are letters, T for the dtype, i for int64."""
    words = {"LANES": LANES, "BLOCK": BLOCK, "RUN": RUN, "ROWS": ROWS, "WIDTH": WIDTH, "SIZE": ITEMSIZE[dtype]}
    for word, value in words.items():
        source = source.replace(word, str(value))
    for form in ("load_", "peek_", "store_", "as_"):
        source = source.replace(form + "T(", f"{form}{dtype}(")
    types = {"T": dtype, "i": "int64"}
    return Program(f"{name}_{dtype}", source, functions={"plus": (_plus, None), "exp": (_falling_exp(dtype), None),
                                                               "log": (_log, None)},
                   inputs=tuple(types[c] for c in inputs), outputs=tuple(types[c] for c in outputs), signature=signature,
                   work=work, fastmath={"plus": ("reassoc",)})


def _filled(template: str, parts: dict[str, str]) -> str:
    for word, text in parts.items():
        template = template.replace(word, text)
    return template


@functools.cache
def forward_ufunc(name: str, dtype: str, across: bool) -> np.ufunc:
    """softmax or log_softmax of contiguous rows (r) -> (r), or of the columns of (r, b) -> (r, b)."""
    if across:
        return make_ufunc(_program(f"{name}_across", _filled(_FORWARD_ACROSS, _PARTS_ACROSS[name]), dtype, "(r,b)->(r,b)",
                                   "T", "T", 4))
    source = _HELPERS + _FORWARD_ALONG.replace("FINISH", _FINISH_ALONG[name])
    return make_ufunc(_program(f"{name}_along", source, dtype, "(r)->(r)", "T", "T", 4))


@functools.cache
def gradient_ufunc(name: str, dtype: str, across: bool) -> np.ufunc:
    """The gradient from the cotangent and the result, laid out as in `forward_ufunc`."""
    if across:
        return make_ufunc(_program(f"{name}_gradient_across", _filled(_GRADIENT_ACROSS, _GRADIENT_PARTS_ACROSS[name]), dtype,
                                   "(r,b),(r,b)->(r,b)", "TT", "T", 2))
    helpers = _HELPERS[:_HELPERS.index("@inline\ndef largest")] + _HELPERS[_HELPERS.index("@inline\ndef sum_of"):]
    source = helpers + _DOT + _filled(_GRADIENT_ALONG, _PARTS_ALONG[name])
    return make_ufunc(_program(f"{name}_gradient_along", source, dtype, "(r),(r)->(r)", "TT", "T", 2))


@functools.cache
def rows_ufunc(name: str, dtype: str) -> np.ufunc:
    """Scores (r), class, weights (w) of one or all classes, ignored class -> loss, weight, fault; cross_entropy: contiguous."""
    source = _HELPERS + _LONG_SUM + _filled(_ROWS, _SCORES[name])
    return make_ufunc(_program(f"{name}_rows", source, dtype, "(r),(),(w),()->(),(),()", "TiTi", "TTi",
                               4 if name == "cross_entropy" else 1))


@functools.cache
def rows_gradient_ufunc(dtype: str) -> np.ufunc:
    """The gradient of cross_entropy: as `rows_ufunc`, then cotangent and divisor -> (r), contiguous."""
    return make_ufunc(_program("cross_entropy_gradient", _HELPERS + _ROWS_GRADIENT, dtype, "(r),(),(w),(),(),()->(r)",
                               "TiTiTT", "T", 4))


@functools.cache
def put_gradient_ufunc(dtype: str) -> np.ufunc:
    """The gradient of nll_loss, written into zeros that the caller gives as `out`."""
    return make_ufunc(_program("nll_loss_gradient", _PUT_GRADIENT, dtype, "(),(w),(),(),()->(r)", "iTiTT", "T"))


@functools.cache
def totals_ufunc(dtype: str) -> np.ufunc:
    """Losses, weights and faults of rows (n), 1 for a mean or 0 for a sum -> loss, weight, number of faults."""
    return make_ufunc(_program("loss_totals", _TOTALS, dtype, "(n),(n),(n),()->(),(),()", "TTii", "TTi"))
