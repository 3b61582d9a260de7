"""Dense linear algebra inside the solvers: Cholesky with a shift, QR with column pivoting, damped and triangular systems.

Source text of small functions that the solver programs are made of, and the gufuncs by which the tests reach each alone. They
work on integer addresses of contiguous memory; numbers are kept in the solver's dtype and computed in float64. Nothing is
allocated. `machine.MEMORY` has the vectors; `trust_region` makes steps of all this.
"""
from __future__ import annotations

import functools

import numpy as np

from ..cpu.native import Program, make_ufunc
from .machine import FUNCTIONS, MEMORY, typed

# Cholesky: the lower triangle L of h + shift I, rows of n. `factor` gives 0, or the number from one of the first row whose pivot is
# not positive; that pivot stands in L's place then.
CHOLESKY = """
@inline
def factor(h, l, n, shift):
    for i in range(n):
        for j in range(i + 1):
            total = at(h, i * n + j)
            if i == j:
                total += shift
            for k in range(j):
                total -= at(l, i * n + k) * at(l, j * n + k)
            if i == j:
                if not (total > 0.0 and total < inf):
                    put(l, i * n + i, total)
                    return i + 1
                put(l, i * n + i, sqrt(total))
            else:
                put(l, i * n + j, total / at(l, j * n + j))
    return 0

@inline
def forward_lower(l, x, n):
    for i in range(n):
        total = at(x, i)
        for k in range(i):
            total -= at(l, i * n + k) * at(x, k)
        put(x, i, total / at(l, i * n + i))

@inline
def backward_lower(l, x, n):
    for step in range(n):
        i = n - 1 - step
        value = at(x, i) / at(l, i * n + i)
        put(x, i, value)
        for k in range(i):
            put(x, k, at(x, k) - at(l, i * n + k) * value)
"""

# A P = Q R by Householder reflections, the largest remaining column first (Businger and Golub 1965; MINPACK's qrfac). R replaces
# the upper triangle of a (rows x n, rows >= n); b becomes Q' b; pivots[j] is the column of A that stands at j. norms and olds: n
# numbers.
QR = """
@inline
def factor_pivoted(a, rows, n, pivots, norms, olds, b, eps):
    for j in range(n):
        total = 0.0
        for i in range(rows):
            total += at(a, i * n + j) * at(a, i * n + j)
        put(pivots, j, j)
        put(norms, j, sqrt(total))
        put(olds, j, sqrt(total))
    for k in range(n):
        best = k
        for j in range(k + 1, n):
            if at(norms, j) > at(norms, best):
                best = j
        if best != k:
            for i in range(rows):
                here = at(a, i * n + k)
                put(a, i * n + k, at(a, i * n + best))
                put(a, i * n + best, here)
            put(norms, best, at(norms, k))
            put(olds, best, at(olds, k))
            here = at(pivots, k)
            put(pivots, k, at(pivots, best))
            put(pivots, best, here)
        total = 0.0
        for i in range(k, rows):
            total += at(a, i * n + k) * at(a, i * n + k)
        size = sqrt(total)
        if size > 0.0:
            if at(a, k * n + k) < 0.0:
                size = -size
            for i in range(k, rows):
                put(a, i * n + k, at(a, i * n + k) / size)
            put(a, k * n + k, at(a, k * n + k) + 1.0)
            first = at(a, k * n + k)
            for j in range(k + 1, n):
                total = 0.0
                for i in range(k, rows):
                    total += at(a, i * n + k) * at(a, i * n + j)
                for i in range(k, rows):
                    put(a, i * n + j, at(a, i * n + j) - total / first * at(a, i * n + k))
                left = at(norms, j)
                if left > 0.0:
                    ratio = at(a, k * n + j) / left
                    left *= sqrt(max(0.0, 1.0 - ratio * ratio))
                    put(norms, j, left)
                    ratio = left / at(olds, j)
                    if 0.05 * ratio * ratio <= eps:
                        total = 0.0
                        for i in range(k + 1, rows):
                            total += at(a, i * n + j) * at(a, i * n + j)
                        put(norms, j, sqrt(total))
                        put(olds, j, sqrt(total))
            total = 0.0
            for i in range(k, rows):
                total += at(a, i * n + k) * at(b, i)
            for i in range(k, rows):
                put(b, i, at(b, i) - total / first * at(a, i * n + k))
        put(a, k * n + k, -size)

@inline
def rank_of(r, n):
    rank = n
    for j in range(n):
        if rank == n and at(r, j * n + j) == 0.0:
            rank = j
    return rank

@inline
def backward_upper(r, x, n, rank):
    for i in range(rank, n):
        put(x, i, 0.0)
    for step in range(rank):
        j = rank - 1 - step
        value = at(x, j) / at(r, j * n + j)
        put(x, j, value)
        for i in range(j):
            put(x, i, at(x, i) - at(r, i * n + j) * value)

@inline
def forward_upper(r, x, n):
    for j in range(n):
        total = at(x, j)
        for i in range(j):
            total -= at(r, i * n + j) * at(x, i)
        put(x, j, total / at(r, j * n + j))
"""

# Least squares of [R; damp I] z = [b; 0], R upper (n x n), by Givens rotations (MINPACK's qrsolv). s becomes the triangle of the
# whole, z the solution, in R's order of columns. row: n numbers.
DAMPED = """
@inline
def solve_damped(r, n, damp, b, s, z, row):
    for j in range(n):
        put(z, j, at(b, j))
        for k in range(j, n):
            put(s, j * n + k, at(r, j * n + k))
    for j in range(n):
        fill(row, n, 0.0)
        put(row, j, damp)
        rest = 0.0
        for k in range(j, n):
            low = at(row, k)
            if low != 0.0:
                high = at(s, k * n + k)
                if abs(high) < abs(low):
                    ratio = high / low
                    sine = 1.0 / sqrt(1.0 + ratio * ratio)
                    cosine = sine * ratio
                else:
                    ratio = low / high
                    cosine = 1.0 / sqrt(1.0 + ratio * ratio)
                    sine = cosine * ratio
                put(s, k * n + k, cosine * high + sine * low)
                value = at(z, k)
                put(z, k, cosine * value + sine * rest)
                rest = cosine * rest - sine * value
                for i in range(k + 1, n):
                    upper, lower = at(s, k * n + i), at(row, i)
                    put(s, k * n + i, cosine * upper + sine * lower)
                    put(row, i, cosine * lower - sine * upper)
    backward_upper(s, z, n, rank_of(s, n))
"""


# --- each part alone ----------------------------------------------------------------------------------------------------

def alone(name: str, dtype: str, text: str, body: str, inputs: int, signature: str) -> Program:
    """A part as a gufunc on contiguous operands: `body` sees the addresses p0, p1, ... of its operands at each outer step."""
    outputs = signature.split("->")[1].count("(")
    lines = [f"p{k} = address(args[{k}]) + outer * steps[{k}]" for k in range(inputs + outputs)] + body.splitlines()
    kernel = ("\ndef kernel(args, dimensions, steps, data):\n    for outer in range(dimensions[0]):\n"
              + "".join(f"        {line}\n" for line in lines) + "    clear_status()\n")
    return Program(f"{name}_{dtype}", typed(MEMORY + text, dtype) + kernel, functions=FUNCTIONS, inputs=(dtype,) * inputs,
                   outputs=(dtype,) * outputs, signature=signature)


_BODIES = {
    # h, shift, b -> l, info, x with (h + shift I) x = b
    "shifted_cholesky": (3, "(n,n),(),(n)->(n,n),(),(n)", """\
n = dimensions[1]
fill(p3, n * n, 0.0)
put(p4, 0, factor(p0, p3, n, at(p1, 0)))
copy(p2, p5, n)
if at(p4, 0) == 0.0:
    forward_lower(p3, p5, n)
    backward_lower(p3, p5, n)"""),
    # a, b -> r (in the upper triangle), pivots, q'b, two working rows
    "pivoted_qr": (2, "(m,n),(m)->(m,n),(n),(m),(n),(n)", """\
m, n = dimensions[1], dimensions[2]
copy(p0, p2, m * n)
copy(p1, p4, m)
factor_pivoted(p2, m, n, p3, p5, p6, p4, 2.3e-16)"""),
    # r, damp, b -> z, triangle, a working row
    "damped": (3, "(n,n),(),(n)->(n),(n,n),(n)", """\
n = dimensions[1]
fill(p4, n * n, 0.0)
solve_damped(p0, n, at(p1, 0), p2, p4, p3, p5)"""),
}


@functools.cache
def part(name: str, dtype: str = "float64") -> np.ufunc:
    """One part as a gufunc: "shifted_cholesky", "pivoted_qr" or "damped" (`_BODIES` names operands and results)."""
    inputs, signature, body = _BODIES[name]
    return make_ufunc(alone(name, dtype, CHOLESKY + QR + DAMPED, body, inputs, signature))
