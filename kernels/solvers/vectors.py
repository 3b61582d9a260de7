"""Operations on whole vectors inside a solver: plain loops for short ones, kernels over chunks on several threads for long ones.

Source text for solvers. Each operation is a single pass that does all that it can with what it has loaded. Sums are taken
chunk by chunk and the chunks' sums in order, so that they do not depend on the number of threads.
"""
from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from ..cpu import pool
from ..cpu.native import Program, link
from .machine import FUNCTIONS, MEMORY, typed

CHUNK = 1024                # elements of a chunk
LONG = 256                  # elements from which the kernels are called
LANES = 32

# What happens to element i of the vectors p, q, r, z, with numbers a and b, and what is summed.
_OPERATIONS = {
    "mix": ("z_i = b * p_i + a * q_i", ()),
    "add_dot": ("z_i = b * (z_i + a * p_i)", ("z_i * q_i",)),           # one step of the two-loop recursion
    "scale_dot": ("z_i = a * p_i", ("z_i * q_i",)),
    "dot": ("", ("p_i * q_i",)),
    "pair": ("z_i, r_i = p_i - z_i, q_i - r_i", ("z_i * r_i", "r_i * r_i")),    # over the old point and gradient
}
_LARGEST = len(_OPERATIONS)     # the number of the operation that is no sum

# p, q, z, r: addresses. `largest_of` is the largest size of an element, NaN where one is.
_LONG_PASS = f"""
@shared
def long_pass(s, kind, n, p, q, z, r, a, b):
    about = address(stack(80))
    set_word(about, 0, kind)
    set_word(about, 1, n)
    set_word(about, 2, p)
    set_word(about, 3, q)
    set_word(about, 4, z)
    set_word(about, 5, r)
    set_number(about, 6, a)
    set_number(about, 7, b)
    set_word(about, 8, word(s, PARTS))
    args, dims, steps = address(stack(16)), address(stack(8)), address(stack(16))
    count = (n + {CHUNK - 1}) // {CHUNK}
    set_word(args, 0, 0)
    set_word(args, 1, about)
    set_word(dims, 0, count)
    set_word(steps, 0, 1)
    set_word(steps, 1, 0)
    call_loop(word(word(s, LARGE), 0), args, dims, steps, word(word(s, LARGE), 1))
    first, second = 0.0, 0.0
    parts = word(s, PARTS)
    if kind == {_LARGEST}:
        for k in range(count):
            size = number(parts, 2 * k)
            if not size <= first:
                first = size
        return first, 0.0
    for k in range(count):
        first += number(parts, 2 * k)
        second += number(parts, 2 * k + 1)
    return first, second
"""


def _operations(long: Callable[..., str]) -> str:
    """The operations; `long` writes what comes before the loop of each."""
    return f"""
@shared
def mix(s, n, z, b, p, a, q):
{long("long_pass(s, 0, n, p, q, z, 0, a, b)", "return")}    for i in range(n):
        put(z, i, b * at(p, i) + a * at(q, i))

@inline
def add_dot(s, n, z, a, p, b, q):
{long("return long_pass(s, 1, n, p, q, z, 0, a, b)[0]")}    total = 0.0
    for i in range(n):
        value = as_{{T}}(b * (at(z, i) + a * at(p, i)))
        put(z, i, value)
        total += value * at(q, i)
    return total

@inline
def scale_dot(s, n, z, a, p, q):
{long("return long_pass(s, 2, n, p, q, z, 0, a, 0.0)[0]")}    total = 0.0
    for i in range(n):
        value = as_{{T}}(a * at(p, i))
        put(z, i, value)
        total += value * at(q, i)
    return total

@inline
def dot_of(s, n, p, q):
{long("return long_pass(s, 3, n, p, q, 0, 0, 0.0, 0.0)[0]")}    return dot(p, q, n)

@inline
def pair(s, n, p, q, z, r):
{long("return long_pass(s, 4, n, p, q, z, r, 0.0, 0.0)")}    first, second = 0.0, 0.0
    for i in range(n):
        x, y = at(p, i) - at(z, i), at(q, i) - at(r, i)
        put(z, i, x)
        put(r, i, y)
        first += x * y
        second += y * y
    return first, second

@inline
def largest_of(s, n, p):
{long(f"return long_pass(s, {_LARGEST}, n, p, 0, 0, 0, 0.0, 0.0)[0]")}    return largest(p, n)
"""


def _if_long(*statements: str) -> str:
    return f"    if n >= {LONG}:\n" + "".join(f"        {line}\n" for line in statements)


# Without threads: what a solver is built of where one thread has a whole problem (`kernels.cuda.solvers`).
ALONE = _operations(lambda *statements: "") + """
@inline
def prepare_long(s):
    set_word(s, PARTS, 0)
"""
VECTORS = _LONG_PASS + _operations(_if_long) + f"""
@inline
def prepare_long(s):
    if word(s, N) >= {LONG}:
        take_word(s, PARTS, (word(s, N) // {CHUNK} + 1) * 2 * (8 // {{W}}))
"""


def room(n: int) -> int:
    """Elements that `prepare_long` takes, for either dtype."""
    return 4 * (n // CHUNK + 1) if n >= LONG else 0


def _pass(kind: int, text: str, sums: tuple[str, ...]) -> list[str]:
    """Source of one operation over the elements `first` to `last`, in lanes that LLVM can widen."""
    target, _, formula = text.partition("=")
    left = [c for c in "zr" if f"{c}_i" in target]
    body = [f"{c}_i = at({c}, i)" for c in "pqzr" if f"{c}_i" in formula or (c not in left and f"{c}_i" in "".join(sums))]
    if text:
        body.append(text)
        for c in left:
            body += [f"{c}_i = as_float64(as_{{T}}({c}_i))", f"put({c}, i, {c}_i)"]
    lines = [f"if kind == {kind}:"]
    for k in range(len(sums)):
        lines.append(f"    for lane in range({LANES}):")
        lines.append(f"        set_number(lanes, {LANES * k} + lane, 0.0)")
    lines += [f"    for block in range(first, last - {LANES - 1}, {LANES}):", f"        for lane in range({LANES}):",
              "            i = block + lane", *("            " + line for line in body)]
    lines += [f"            set_number(lanes, {LANES * k} + lane, number(lanes, {LANES * k} + lane) + {e})"
              for k, e in enumerate(sums)]
    lines += [f"    for i in range(last - (last - first) % {LANES}, last):", *("        " + line for line in body)]
    lines += [f"        set_number(lanes, {LANES * k}, number(lanes, {LANES * k}) + {e})" for k, e in enumerate(sums)]
    for k in range(len(sums)):
        lines += ["    total = 0.0", f"    for lane in range({LANES}):", f"        total += number(lanes, {LANES * k} + lane)",
                  f"    set_number(parts, 2 * c + {k}, total)"]
    return lines


def program(dtype: str) -> Program:
    """The kernel of all operations: one outer step is one chunk, whose number is the address of the first operand."""
    passes = [line for k, (text, sums) in enumerate(_OPERATIONS.values()) for line in _pass(k, text, sums)]
    last = [f"if kind == {_LARGEST}:", f"    for lane in range({LANES}):", "        set_number(lanes, lane, 0.0)",
            f"    for block in range(first, last - {LANES - 1}, {LANES}):", f"        for lane in range({LANES}):",
            "            size, most = abs(at(p, block + lane)), number(lanes, lane)",
            "            set_number(lanes, lane, most if size <= most else size)",
            "    most = 0.0", f"    for i in range(last - (last - first) % {LANES}, last):", "        size = abs(at(p, i))",
            "        if not size <= most:", "            most = size", f"    for lane in range({LANES}):",
            "        if not number(lanes, lane) <= most:", "            most = number(lanes, lane)",
            "    set_number(parts, 2 * c, most)"]
    source = typed(MEMORY, dtype) + f"""
def kernel(args, dimensions, steps, data):
    about = address(args[1])
    kind, n, parts = word(about, 0), word(about, 1), word(about, 8)
    p, q, z, r = word(about, 2), word(about, 3), word(about, 4), word(about, 5)
    a, b = number(about, 6), number(about, 7)
    lanes = address(stack({16 * LANES}))
    for outer in range(dimensions[0]):
        c = address(args[0]) + outer * steps[0]
        first = c * {CHUNK}
        last = min(first + {CHUNK}, n)
""" + "".join(f"        {line}\n" for line in typed("\n".join([*passes, *last]), dtype).splitlines())
    return Program(f"solver_vectors_{dtype}", source, functions=dict(FUNCTIONS), inputs=("int64", "int64"), work=CHUNK)


@functools.cache
def table(dtype: str) -> np.ndarray:
    """The words that a state's LARGE points to: the loop to call and its data."""
    return np.array(pool.wrap(p := program(dtype), link(p)), np.int64)

