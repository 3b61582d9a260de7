"""Random numbers on CUDA: `kernels.philox` with one thread a block of numbers, so that they are those of the CPU.

Which element uses which words is said in `kernels.philox`; the generator on the host reserves blocks and gives their key and first
number. Uniform numbers and integers equal the CPU's to the last bit, and so does what correctly rounded arithmetic and the shared
libm make of them. Called by `engine.device_arrays.draw` and through `kernels.cuda.records`.
"""
from __future__ import annotations

import functools

import numpy as np

from .. import philox
from ..cpu import randoms as host
from ..cpu.randoms import elements_per_block
from ..source import ITEMSIZE, indented, loaded, packed, stored
from .arrays import dense
from .compiler import Program
from .elements import launches_of, program_of
from .launch import BLOCKS, Launch, View, grid_of
from .sorting import top_positions

THREADS = 256
LONGEST = 1 << 16       # weights of which one thread sums up a row
PHILOX = {"philox": (philox.philox4x32, "uint64")}
WORDS = ["mask, half = as_uint64(0xFFFFFFFF), as_uint64(32)",
         "w0, w1, w2, w3 = philox(c & mask, c >> half, as_uint64(0), as_uint64(0), key & mask, key >> half)"]


def _program(name: str, parameters: list[tuple[str, str]], lines: list[str], functions: dict, front: str = "") -> Program:
    """A kernel that runs statements for each i below `count`; parameters as (name, dtype)."""
    code = ["i = block() * threads() + thread()", "while i < count:", *indented(1, [*lines, "i = i + blocks() * threads()"])]
    source = [front, f"def kernel({', '.join(n for n, _ in parameters)}):", *indented(1, code)]
    return Program(name, "\n".join(source).lstrip() + "\n", tuple(d for _, d in parameters), functions, THREADS)


@functools.cache
def random_program(rule: str, dtype: str) -> Program:
    """The `n` numbers of one distribution: thread i makes those of block first + i.

    Arguments: address of the result, blocks, elements, key, number of the first block, parameters a and b. For float32:

        c = first + as_uint64(i)
        w0, w1, w2, w3 = philox(c & mask, c >> half, as_uint64(0), as_uint64(0), key & mask, key >> half)
        v0, v1, v2, v3 = numbers(w0, w1, w2, w3)
        e = i * 4
        if e + 0 < n:
            store_float32(q, (e + 0) * 4, as_float32(shape(v0, a, b)))
        ...
    """
    size, per = ITEMSIZE[dtype], elements_per_block(rule, dtype)
    if rule in host.WHOLE:
        parameter, numbers = "uint64", host.WHOLE[rule]
        shape = {"bernoulli": philox.bernoulli, "integer": philox.integer}.get(rule)
    else:
        parameter = host.computed_in(dtype)
        kind, shape = host.RULES[rule]
        numbers = getattr(philox, f"{kind}_{dtype if (kind, dtype) == ('unit', 'float16') else parameter}")
    names = ", ".join(f"v{k}" for k in range(per))
    lines = ["c = first + as_uint64(i)", *WORDS, f"{names} = numbers(w0, w1, w2, w3)", f"e = i * {per}"]
    for k in range(per):
        value = f"shape(v{k}, a, b)" if shape else f"v{k}"
        value = f"as_int64({value})" if rule == "integer" else value
        lines += [f"if e + {k} < n:", "    " + stored(dtype, "q", f"(e + {k}) * {size}", value)]
    functions = PHILOX | {"numbers": (numbers, parameter)} | ({"shape": (shape, parameter)} if shape else {})
    return _program(f"random_{rule}_{dtype}", [("q", "address"), ("count", "int64"), ("n", "int64"), ("key", "uint64"),
                                               ("first", "uint64"), ("a", parameter), ("b", parameter)], lines, functions)


def draw(device, out: View, rule: str, key: int, first: int, a: float = 0, b: float = 0) -> None:
    """Fill an array in C order that is not empty with the numbers of blocks from `first` on, as `kernels.cpu.randoms.draw`."""
    program = random_program(rule, out.dtype)
    blocks = -(-out.size // elements_per_block(rule, out.dtype))
    with np.errstate(over="ignore"):
        a, b = (np.dtype(program.parameters[-1]).type(v).item() for v in (a, b))
    device.run([Launch(program, grid_of(blocks, THREADS, BLOCKS), (out.address, blocks, out.size, key, first, a, b))])


# --- records that draw themselves: key and number of the first block are in memory, two words ---------------------------

FROM_MEMORY = ["key, first = read_uint64(words, 0), read_uint64(words, 8)"]


@functools.cache
def dropout_program(dtype: str) -> Program:
    """x * scale and True where a word lies below `below`, x * 0 and False elsewhere; thread i does the elements of block i."""
    size, per = ITEMSIZE[dtype], elements_per_block("bernoulli", dtype)
    compute = "float64" if dtype == "float64" else "float32"
    lines = [*FROM_MEMORY, "c = first + as_uint64(i)", *WORDS, f"e = i * {per}"]
    for k in range(per):
        value = f"{loaded(dtype, 'x', f'(e + {k}) * {size}', 'read')} * (scale if w{k} < below else as_{compute}(0))"
        lines += [f"if e + {k} < n:", "    " + stored(dtype, "q", f"(e + {k}) * {size}", value),
                  f"    store_bool(kept, e + {k}, {packed('bool', f'w{k} < below')})"]
    return _program(f"dropout_{dtype}", [*((name, "address") for name in ("q", "kept", "x", "words")), ("count", "int64"),
                                         ("n", "int64"), ("below", "uint64"), ("scale", compute)], lines, PHILOX)


def dropout(device, x: View, words: View, below: int, scale: float) -> tuple[View, View]:
    """(x * scale where a random word lies below `below`, else x * 0; where that is so)."""
    x, words = dense(device, x), dense(device, words)
    out, kept = device.empty(x.dtype, x.shape), device.empty("bool", x.shape)
    if x.size:
        blocks = -(-x.size // elements_per_block("bernoulli", x.dtype))
        device.run([Launch(dropout_program(x.dtype), grid_of(blocks, THREADS), (
            out.address, kept.address, x.address, words.address, blocks, x.size, int(below), float(scale)))])
    return out, kept


@functools.cache
def poisson_program(dtype: str) -> Program:
    """Poisson numbers: element i draws from block first + i as often as it needs."""
    size = ITEMSIZE[dtype]
    lines = [*FROM_MEMORY, f"rate = as_float64({loaded(dtype, 'x', f'i * {size}', 'read')})", "counter = first + as_uint64(i)",
             *host.POISSON, stored(dtype, "q", f"i * {size}", "result")]
    parameters = [*((name, "address") for name in ("q", "x", "words")), ("count", "int64")]
    return _program(f"random_poisson_{dtype}", parameters, lines, host.poisson_functions(), host.NUMBERS)


def poisson_numbers(device, rates: View, words: View) -> View:
    """Poisson numbers with these rates, none negative, none NaN."""
    rates, words = dense(device, rates), dense(device, words)
    out = device.empty(rates.dtype, rates.shape)
    device.run(launches_of(poisson_program(rates.dtype), (out, rates, words), out.size))
    return out


# --- choices ----------------------------------------------------------------------------------------------------------

@functools.cache
def totals_program() -> Program:
    """Running sums of each row of `c` weights, one thread a row: in the CPU's order, so that choices are the CPU's."""
    return program_of("choice_totals", "q, w", "c", [
        "total, at, end = as_float64(0), i * c * 8, (i + 1) * c * 8", "while at < end:",
        *indented(1, ["total = total + read_float64(w, at)", "store_float64(q, at, total)", "at = at + 8"])])


@functools.cache
def choice_program() -> Program:
    """The first index whose running sum lies above a uniform number times the whole; not one of weight 0."""
    return program_of("choice", "q, t, w, u", "c, s", [
        "base = quotient(i, s) * c", "wanted = read_float64(u, i * 8) * read_float64(t, (base + c - 1) * 8)",
        "low, high = 0, c - 1", "while low < high:",
        *indented(1, ["middle = (low + high) >> 1", "if read_float64(t, (base + middle) * 8) > wanted:", "    high = middle",
                      "else:", "    low = middle + 1"]),
        "while low > 0 and read_float64(w, (base + low) * 8) == 0.0:", "    low = low - 1", "store_int64(q, i * 8, low)"])


@functools.cache
def waiting_program() -> Program:
    """Waiting times of exponential numbers `e` with rates `w`; a rate of 0 never rings."""
    return program_of("choice_waiting", "q, w, e", "", [
        "rate, time = read_float64(w, i * 8), as_float64(inf)", "if rate > 0.0:", "    time = read_float64(e, i * 8) / rate",
        "store_float64(q, i * 8, time)"])


def choice(device, weights: View, numbers: View, count: int, replacement: bool) -> View:
    """Indices drawn in proportion to weights (..., c): by uniform numbers (..., count), or the first of waiting times (..., c)."""
    weights, numbers = dense(device, weights), dense(device, numbers)
    c, rows = weights.shape[-1], weights.shape[:-1]
    between = device.empty("float64", weights.shape)
    if not replacement:
        device.run(launches_of(waiting_program(), (between, weights, numbers), weights.size))
        return top_positions(device, between, count, len(rows), False)
    if c > LONGEST:
        return NotImplemented
    out = device.empty("int64", (*rows, count))
    if out.size:
        device.run(launches_of(totals_program(), (between, weights), weights.size // c, c))
        device.run(launches_of(choice_program(), (out, between, weights, numbers), out.size, c, count))
    return out
