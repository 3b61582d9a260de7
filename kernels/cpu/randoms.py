"""Loops over `kernels.philox`: arrays of random numbers, the same for any number of threads.

`draw` fills a flat C-contiguous array; `permute` and `choose` are the serial kernels of randperm and multinomial.
Called by `engine.random`.
"""
from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from .. import libm, philox
from ..source import indented
from . import fills, pool
from .maps import loaded, stored
from .native import Program, make_ufunc

# rule -> (kind of numbers made from a block, distribution made of such a number and two parameters), computed in floats
RULES = {
    "uniform": ("unit", philox.uniform), "normal": ("normal", philox.normal),
    "log_normal": ("normal", philox.log_normal),
    "exponential": ("open", philox.exponential), "cauchy": ("open", philox.cauchy),
    "geometric": ("open", philox.geometric),
}
# rules of 64-bit integers -> how a block is read
WHOLE = {"bernoulli": philox.words32, "integer": philox.words64, "words": philox.words32}


def elements_per_block(rule: str, dtype: str) -> int:
    """How many elements share a block; see kernels.philox."""
    if rule in WHOLE:
        return 2 if rule == "integer" else 4
    return 2 if computed_in(dtype) == "float64" else 4


def computed_in(dtype: str) -> str:
    return "float32" if dtype in ("float16", "float32") else "float64"


@functools.cache
def random_ufunc(rule: str, dtype: str) -> np.ufunc:
    """The loop of one distribution into one dtype: inputs address of the result, key, offset, stream, a, b; see
    `draw`.
    """
    size, per = np.dtype(dtype).itemsize, elements_per_block(rule, dtype)
    if rule in WHOLE:
        parameter, numbers, literal = "uint64", WHOLE[rule], "uint64"
        shape = {"bernoulli": philox.bernoulli, "integer": philox.integer}.get(rule)
    else:
        parameter = literal = computed_in(dtype)
        kind, shape = RULES[rule]
        exact = dtype if (kind, dtype) == ("unit", "float16") else parameter
        numbers = getattr(philox, f"{kind}_{exact}")
    names = ", ".join(f"v{k}" for k in range(per))

    def put(k: int, offset: str) -> str:
        value = f"shape(v{k}, a, b)" if shape else f"v{k}"
        if rule == "integer":
            value = f"as_int64({value})"
        return stored(dtype, "q", offset, value)
    one = "\n".join(f"        if at == {k}:\n            {put(k, f'e * {size}')}" for k in range(per))
    many = "\n".join("        " + put(k, f"(e + {k}) * {size}") for k in range(per))
    source = f"""
@inline
def block(counter, stream, key):
    mask = as_uint64(0xFFFFFFFF)
    half = as_uint64(32)
    w0, w1, w2, w3 = philox(counter & mask, counter >> half, stream & mask, stream >> half, key & mask, key >> half)
    return numbers(w0, w1, w2, w3)

def kernel(args, dimensions, steps, data):
    q, n = args[6], dimensions[0]
    first = {fills.index_of_first("q", size)}
    key, offset, stream = load_uint64(args[1], 0), load_uint64(args[2], 0), load_uint64(args[3], 0)
    a, b = load_{parameter}(args[4], 0), load_{parameter}(args[5], 0)
    head = min(n, (-first) % {per})
    whole = (n - head) // {per}
    start = offset + as_uint64((first + head) // {per})
    for j in range(whole):
        e = head + j * {per}
        {names} = block(start + as_uint64(j), stream, key)
{many}
    for j in range(n - whole * {per}):          # elements before the first whole block and after the last
        e = j if j < head else j + whole * {per}
        {names} = block(offset + as_uint64((first + e) // {per}), stream, key)
        at = (first + e) % {per}
{one}
    clear_status()
"""
    functions = {"philox": (philox.philox4x32, "uint64"), "numbers": (numbers, literal)}
    if shape:
        functions["shape"] = (shape, literal)
    return make_ufunc(Program(f"random_{rule}_{dtype}", source, functions=functions, work=16,
                              inputs=("int64", "uint64", "uint64", "uint64", parameter, parameter), outputs=(dtype,)))


@functools.lru_cache(maxsize=256)
def _plan(rule: str, dtype: np.dtype, a: float, b: float) -> tuple:
    """What one distribution needs again and again: its loop, how many elements share a block, its parameters as
    arrays.
    """
    name = dtype.name
    word = np.uint64 if rule in WHOLE else np.float32 if computed_in(name) == "float32" else np.float64
    with np.errstate(over="ignore"):
        return random_ufunc(rule, name), elements_per_block(rule, name), np.array(a, word), np.array(b, word)


WORD = np.dtype(np.uint64)


def reserved(reserve: Callable[[int], tuple[int, int]], blocks: int) -> np.ndarray:
    """What `reserve(blocks)` answers as two words, for an operator that draws itself: key, number of the first block."""
    return np.array(reserve(blocks), WORD)


@functools.lru_cache(maxsize=64)
def _word(value: int) -> np.ndarray:
    return np.array(value, WORD)


def draw(out: np.ndarray, rule: str, reserve: Callable[[int], tuple[int, int]], a: float = 0, b: float = 0,
         stream: int = 0) -> None:
    """Fill a flat array that is not empty. `reserve(blocks)` answers with key and offset; `a` and `b` are the parameters that
    kernels.philox names.
    """
    ufunc, per, a, b = _plan(rule, out.dtype, a, b)
    size = out.size
    if size >= pool.GRAIN // 16:
        pool.ensure()
    key, offset = reserve(-(-size // per))
    ufunc(fills.base_of(out), _word(key), np.array(offset, WORD), _word(stream), a, b, out)


# --- Poisson numbers --------------------------------------------------------------------------------------------------

# Element e draws from blocks (offset + e, attempt 0, 1, ...), two numbers in [0, 1) each, so that elements are independent.
# Small rates: uniform numbers are multiplied until the product falls below exp(-rate) (Knuth, TAOCP 2, 3.4.1).
# Rates from 10 on: transformed rejection, algorithm PTRS of Hoermann (1993), "The transformed rejection method for
# generating Poisson random variables".
NUMBERS = """
@inline
def numbers(counter, attempt, key):
    mask = as_uint64(0xFFFFFFFF)
    half = as_uint64(32)
    w0, w1, w2, w3 = philox(counter & mask, counter >> half, as_uint64(attempt), as_uint64(0), key & mask, key >> half)
    return unit(w0, w1, w2, w3)
"""
# key, counter (the element's) and rate -> result
POISSON = """
result, attempt = 0.0, 0
if not rate < 1e15:
    result = rate
elif rate < 10.0:
    bound, product = exp(-rate), 1.0
    while True:
        u, v = numbers(counter, attempt, key)
        attempt += 1
        product *= u
        if not product > bound:
            break
        result += 1.0
        product *= v
        if not product > bound:
            break
        result += 1.0
else:
    root, logarithm = sqrt(rate), log(rate)
    b = 0.931 + 2.53 * root
    a = -0.059 + 0.02483 * b
    inverse = 1.1239 + 1.1328 / (b - 3.4)
    fast = 0.9277 - 3.6224 / (b - 2.0)
    while True:
        u, v = numbers(counter, attempt, key)
        attempt += 1
        u -= 0.5
        us = 0.5 - abs(u)
        result = floor((2.0 * a / us + b) * u + rate + 0.43)
        if us >= 0.07 and v <= fast:
            break
        if result >= 0.0 and not (us < 0.013 and v > us):
            left = log(v) + log(inverse) - log(a / (us * us) + b)
            if left <= result * logarithm - rate - lgamma(result + 1.0):
                break
""".strip().splitlines()


def _exp(x):
    return libm.exp(x)


def _log(x):
    return libm.log(x)


def _sqrt(x):
    return libm.sqrt(x)


def _floor(x):
    return libm.floor(x)


def _lgamma(x):
    return libm.lgamma(x)


def poisson_functions() -> dict:
    """What NUMBERS and POISSON call."""
    return {"philox": (philox.philox4x32, "uint64"), "unit": (philox.unit_float64, "float64"), "exp": (_exp, None),
            "log": (_log, None), "sqrt": (_sqrt, None), "floor": (_floor, None), "lgamma": (_lgamma, None)}


@functools.cache
def _poisson_ufunc(dtype: str) -> np.ufunc:
    lines = [f"rate = as_float64({loaded(dtype, 'args[0]', 'e * steps[0]')})",
             "counter = offset + as_uint64(load_int64(args[3], e * steps[3]))", *POISSON,
             stored(dtype, "args[4]", "e * steps[4]", "result")]
    source = "\n".join([NUMBERS, "def kernel(args, dimensions, steps, data):",
                        "    key, offset = load_uint64(args[1], 0), load_uint64(args[2], 0)", "    for e in range(dimensions[0]):",
                        *indented(2, lines), "    clear_status()"])
    return make_ufunc(Program(f"random_poisson_{dtype}", source, functions=poisson_functions(), work=64,
                              inputs=(dtype, "uint64", "uint64", "int64"), outputs=(dtype,)))


def poisson(rates: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Poisson numbers of these rates (none negative, none NaN), C-contiguous; from 1e15 on the rate itself. `words`: see
    `reserved`; an element takes a block.
    """
    out = np.empty(rates.shape, rates.dtype)
    if rates.size:
        if rates.size >= pool.GRAIN // 64:
            pool.ensure()
        places = np.empty(rates.size, np.int64)
        fills.run(fills.arange_ufunc("int64"), places, np.array(0), np.array(1))
        _poisson_ufunc(rates.dtype.name)(rates, words[0], words[1], places.reshape(rates.shape), out)
    return out


# --- permutations and choices: serial, fed with numbers from `draw` ---------------------------------------------------

@functools.cache
def _permute_ufunc() -> np.ufunc:
    source = """
def kernel(args, dimensions, steps, data):
    n, sx, sy = dimensions[1], steps[2], steps[3]
    for outer in range(dimensions[0]):
        x, y = outer * steps[0], outer * steps[1]
        for i in range(n):
            store_int64(args[1], y + i * sy, i)
        for i in range(n - 1, 0, -1):
            j = as_int64(below(load_uint64(args[0], x + i * sx), as_uint64(i + 1), as_uint64(0)))
            last, other = peek_int64(args[1], y + i * sy), peek_int64(args[1], y + j * sy)
            store_int64(args[1], y + i * sy, other)
            store_int64(args[1], y + j * sy, last)
"""
    return make_ufunc(Program("random_permute", source, functions={"below": (philox.integer, "uint64")},
                              inputs=("uint64",), outputs=("int64",), signature="(n)->(n)"))


def permute(words: np.ndarray) -> np.ndarray:
    """A permutation of range(n) from n 64-bit words: Fisher and Yates from the end, place i exchanged with one up to
    it by word i.
    """
    return _permute_ufunc()(words)


@functools.cache
def _with_replacement_ufunc() -> np.ufunc:
    source = """
def kernel(args, dimensions, steps, data):
    c, s = dimensions[1], dimensions[2]
    for outer in range(dimensions[0]):
        p, u, t, y = outer * steps[0], outer * steps[1], outer * steps[2], outer * steps[3]
        total = 0.0
        for i in range(c):
            total += load_float64(args[0], p + i * steps[4])
            store_float64(args[2], t + i * steps[6], total)
        for k in range(s):
            wanted = load_float64(args[1], u + k * steps[5]) * total
            low, high = 0, c - 1
            while low < high:
                middle = (low + high) // 2
                if peek_float64(args[2], t + middle * steps[6]) > wanted:
                    high = middle
                else:
                    low = middle + 1
            while low > 0 and load_float64(args[0], p + low * steps[4]) == 0.0:
                low -= 1
            store_int64(args[3], y + k * steps[7], low)
    clear_status()
"""
    return make_ufunc(Program("random_choose", source, inputs=("float64", "float64"), outputs=("float64", "int64"),
                              signature="(c),(s)->(c),(s)"))


@functools.cache
def _without_replacement_ufunc() -> np.ufunc:
    """A heap of waiting times: exponential times with rates p; the first s to ring are a sample without replacement."""
    source = """
@inline
def sift(t, st, h, sh, at, count):
    item = peek_int64(h, at * sh)
    time = peek_float64(t, item * st)
    while 2 * at + 1 < count:
        child = 2 * at + 1
        if child + 1 < count:
            if peek_float64(t, peek_int64(h, (child + 1) * sh) * st) < peek_float64(t, peek_int64(h, child * sh) * st):
                child += 1
        below = peek_int64(h, child * sh)
        if peek_float64(t, below * st) >= time:
            break
        store_int64(h, at * sh, below)
        at = child
    store_int64(h, at * sh, item)

def kernel(args, dimensions, steps, data):
    c, s = dimensions[1], dimensions[2]
    st, sh = steps[9], steps[10]
    for outer in range(dimensions[0]):
        p, e, k, y = outer * steps[0], outer * steps[1], outer * steps[2], outer * steps[5]
        t, h = pointer(address(args[3]) + outer * steps[3]), pointer(address(args[4]) + outer * steps[4])
        for i in range(c):
            rate = load_float64(args[0], p + i * steps[6])
            time = load_float64(args[1], e + i * steps[7]) / rate if rate > 0.0 else inf
            store_float64(t, i * st, time)
            store_int64(h, i * sh, i)
        for i in range(c // 2 - 1, -1, -1):
            sift(t, st, h, sh, i, c)
        for i in range(s):
            store_int64(args[5], y + i * steps[11], peek_int64(h, 0))
            store_int64(h, 0, peek_int64(h, (c - 1 - i) * sh))
            sift(t, st, h, sh, 0, c - 1 - i)
    clear_status()
"""
    return make_ufunc(Program("random_sample", source, inputs=("float64", "float64", "float64"),
                              outputs=("float64", "int64", "int64"), signature="(c),(c),(s)->(c),(c),(s)"))


def choose(weights: np.ndarray, count: int, numbers: np.ndarray, replacement: bool) -> np.ndarray:
    """Indices drawn in proportion to weights (..., c), float64: (..., count).

    `numbers`: with replacement (..., count) uniform ones, without (..., c) exponential ones. Weights are checked by
    the caller.
    """
    if replacement:
        return _with_replacement_ufunc()(weights, numbers)[1]
    return _without_replacement_ufunc()(weights, numbers, np.empty((*weights.shape[:-1], count)))[2]
