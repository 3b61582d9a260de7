"""Steps inside a trust region: the parts that `newton`, `newton_cg`, `levenberg_marquardt` and `hybrid` are made of.

`more_sorensen` minimises a quadratic in a ball exactly, `steihaug_*` approximately with Hessian-vector products that the caller
provides, `damped_step` minimises a linear least-squares problem in a ball, `dogleg` approximately. `new_radius` judges a step.
Source text like that of `dense`, and gufuncs by which the tests reach each part alone.
"""
from __future__ import annotations

import functools

import numpy as np

from ..cpu.native import make_ufunc
from .dense import CHOLESKY, DAMPED, QR, alone

BALL = """
@inline
def crossings(z, d, n, radius):
    a, b, c = dot(d, d, n), dot(z, d, n), dot(z, z, n) - radius * radius
    root = sqrt(max(b * b - a * c, 0.0))
    if b > 0.0:
        return -(b + root) / a, -c / (b + root)
    if b == 0.0 and root == 0.0:
        return 0.0, 0.0
    return c / (root - b), (root - b) / a

@inline
def new_radius(radius, ratio, length, at_boundary, most):
    if not ratio >= 0.25:
        return 0.25 * min(length, radius)
    if ratio > 0.75 and at_boundary:
        return min(2.0 * radius, most)
    return radius
"""

# Conn, Gould and Toint, Trust-Region Methods (2000), Algorithm 7.3.4, after More and Sorensen, SIAM J. Sci. Stat. Comput. 4 (1983)
# 553: minimise g'p + p'Hp/2 over |p| <= radius. Newton's iteration for the shift on 1/radius - 1/|p(shift)|, inside bounds [low,
# high]; the hard case by the estimate of the smallest singular value of Cline, Moler, Stewart and Wilkinson, SIAM J. Numer. Anal.
# 16 (1979) 368. l: n x n; w, z: n numbers. True where the step ends at the boundary.
MORE_SORENSEN = """
@inline
def smallest_singular(l, n, z, w):
    fill(w, n, 0.0)
    for k in range(n):
        plus, minus = (1.0 - at(w, k)) / at(l, k * n + k), (-1.0 - at(w, k)) / at(l, k * n + k)
        size_plus, size_minus = abs(plus), abs(minus)
        for i in range(k + 1, n):
            size_plus += abs(at(w, i) + at(l, i * n + k) * plus)
            size_minus += abs(at(w, i) + at(l, i * n + k) * minus)
        best = plus if size_plus >= size_minus else minus
        for i in range(k + 1, n):
            put(w, i, at(w, i) + at(l, i * n + k) * best)
        put(z, k, best)
    size = norm(z, n)
    backward_lower(l, z, n)
    length = norm(z, n)
    for i in range(n):
        put(z, i, at(z, i) / length)
    return size / length

@inline
def between(low, high):
    return max(sqrt(low * high), low + 0.01 * (high - low))

@inline
def more_sorensen(h, g, n, radius, p, l, w, z, eps):
    slope = norm(g, n)
    total, least, disc_low, disc_high, most = 0.0, inf, inf, -inf, 0.0
    for i in range(n):
        row, diagonal = 0.0, at(h, i * n + i)
        for j in range(n):
            total += at(h, i * n + j) * at(h, i * n + j)
            row += abs(at(h, i * n + j))
        most = max(most, row)
        least = min(least, diagonal)
        disc_low = min(disc_low, diagonal - (row - abs(diagonal)))
        disc_high = max(disc_high, diagonal + (row - abs(diagonal)))
    size = min(sqrt(total), most)
    high = max(0.0, slope / radius + min(-disc_low, size))
    low = max(0.0, max(-least, slope / radius - min(disc_high, size)))
    shift = 0.0 if low == 0.0 else between(low, high)
    flat = slope == 0.0
    for attempt in range(100):
        failed = factor(h, l, n, shift)
        if failed == 0:
            if flat:
                fill(p, n, 0.0)
            else:
                for i in range(n):
                    put(p, i, -at(g, i))
                forward_lower(l, p, n)
                backward_lower(l, p, n)
            length = norm(p, n)
            if length <= radius and shift == 0.0:
                return False
            if length < radius:
                sigma = smallest_singular(l, n, z, w)
                first, second = crossings(p, z, n, radius)
                step = first if abs(first) < abs(second) else second
                quadratic = shift * radius * radius - dot(g, p, n)
                if step * step * sigma * sigma <= 0.2 * quadratic or high - low <= eps * high:
                    for i in range(n):
                        put(p, i, at(p, i) + step * at(z, i))
                    return True
                high = shift
                low = max(low, shift - sigma * sigma)
            else:
                if length - radius <= 0.1 * radius or high - low <= eps * high:
                    for i in range(n):
                        put(p, i, at(p, i) * min(1.0, radius / length))
                    return True
                low = shift
            if flat:
                shift = between(low, high)
            else:
                copy(p, w, n)
                forward_lower(l, w, n)
                ratio = length / norm(w, n)
                trial = shift + ratio * ratio * (length - radius) / radius
                shift = trial if low < trial and trial < high else between(low, high)
        else:
            pivot = at(l, (failed - 1) * n + failed - 1)
            length = 1.0
            put(z, failed - 1, 1.0)
            for i in range(failed - 1):
                put(z, i, -at(l, (failed - 1) * n + i))
            for step_back in range(failed - 1):
                i = failed - 2 - step_back
                value = at(z, i) / at(l, i * n + i)
                put(z, i, value)
                length += value * value
                for k in range(i):
                    put(z, k, at(z, k) - at(l, i * n + k) * value)
            low = max(low, shift - pivot / length)
            high = max(high, low)
            shift = between(low, high)
            if shift <= low:
                shift = low + eps * max(low, most)
                high = max(high, shift)
    for i in range(n):
        put(p, i, at(p, i) * min(1.0, radius / max(norm(p, n), 1e-300)))
    return True
"""

# Steihaug, SIAM J. Numer. Anal. 20 (1983) 626; Nocedal and Wright (2006), Algorithm 7.2. The caller puts H d into `hd` and calls
# `steihaug_step` until it says 1 (inside) or 2 (at the boundary); r = g + H z. `about`: four words, model value, r'r, radius,
# tolerance.
STEIHAUG = """
@inline
def steihaug_begin(g, z, r, d, n, radius, tolerance, about):
    for i in range(n):
        put(z, i, 0.0)
        put(r, i, at(g, i))
        put(d, i, -at(g, i))
    set_number(about, 0, 0.0)
    set_number(about, 1, dot(g, g, n))
    set_number(about, 2, radius)
    set_number(about, 3, tolerance)

@inline
def steihaug_step(z, r, d, hd, n, about):
    curvature, slope = dot(d, hd, n), dot(r, d, n)
    radius, squares = number(about, 2), number(about, 1)
    first, second = crossings(z, d, n, radius)
    step, code = second, 2
    if curvature > 0.0:
        full = squares / curvature
        if full < second:
            step, code = full, 0
    elif first * slope + 0.5 * first * first * curvature < second * slope + 0.5 * second * second * curvature:
        step = first
    set_number(about, 0, number(about, 0) + step * slope + 0.5 * step * step * curvature)
    after = 0.0
    for i in range(n):
        put(z, i, at(z, i) + step * at(d, i))
        value = at(r, i) + step * at(hd, i)
        put(r, i, value)
        after += value * value
    set_number(about, 1, after)
    if code == 0:
        if sqrt(after) <= number(about, 3):
            return 1
        for i in range(n):
            put(d, i, after / squares * at(d, i) - at(r, i))
    return code
"""

# More, The Levenberg-Marquardt algorithm, Lecture Notes in Mathematics 630 (1978) 105, as MINPACK's lmpar: the damping `par` for
# which the step z = -argmin |R z - b|^2 + par |z|^2 has a length within a tenth of `radius`, or 0. R from factor_pivoted; step in
# x's order.
DAMPED_STEP = """
@inline
def damped_step(r, n, pivots, b, radius, par, step, s, z, w, row):
    rank = rank_of(r, n)
    copy(b, z, n)
    backward_upper(r, z, n, rank)
    length = norm(z, n)
    excess = length - radius
    if excess <= 0.1 * radius:
        par = 0.0
    else:
        low = 0.0
        if rank == n:
            for j in range(n):
                put(w, j, at(z, j) / length)
            forward_upper(r, w, n)
            low = excess / radius / dot(w, w, n)
        total = 0.0
        for j in range(n):
            value = 0.0
            for i in range(j + 1):
                value += at(r, i * n + j) * at(b, i)
            total += value * value
        slope = sqrt(total)
        high = slope / radius
        if high == 0.0:
            high = 2.3e-308 / min(radius, 0.1)
        par = min(max(par, low), high)
        if par == 0.0:
            par = slope / length
        for attempt in range(10):
            if par == 0.0:
                par = max(2.3e-308, 0.001 * high)
            solve_damped(r, n, sqrt(par), b, s, z, row)
            length = norm(z, n)
            before, excess = excess, length - radius
            if abs(excess) <= 0.1 * radius or (low == 0.0 and excess <= before and before < 0.0):
                break
            for j in range(n):
                put(w, j, at(z, j) / length)
            forward_upper(s, w, n)
            correction = excess / radius / dot(w, w, n)
            if excess > 0.0:
                low = max(low, par)
            if excess < 0.0:
                high = min(high, par)
            par = max(low, par + correction)
    for j in range(n):
        put(step, as_int64(at(pivots, j)), -at(z, j))
    return par
"""

# Powell (1970), Nocedal and Wright (2006), section 4.1: from the steepest descent's minimum towards the Gauss-Newton step, in a
# ball. On entry `newton` is the full step (in z's order), g the gradient R'b of the least-squares model, whose square root of
# curvature along -g is `bend` = |R g|. The result is in `step`; true where it is the full step.
DOGLEG = """
@inline
def dogleg(newton, g, n, bend, radius, step):
    if norm(newton, n) <= radius:
        copy(newton, step, n)
        return True
    slope = norm(g, n)
    if slope == 0.0:
        for i in range(n):
            put(step, i, at(newton, i) * (radius / norm(newton, n)))
        return False
    cauchy = slope / bend * (slope / bend)
    if cauchy * slope >= radius:
        for i in range(n):
            put(step, i, -at(g, i) * (radius / slope))
        return False
    a, b = 0.0, 0.0
    for i in range(n):
        from_cauchy = at(newton, i) + cauchy * at(g, i)
        a += from_cauchy * from_cauchy
        b -= from_cauchy * cauchy * at(g, i)
    c = cauchy * slope * cauchy * slope - radius * radius
    root = sqrt(max(b * b - a * c, 0.0))
    t = -c / (b + root) if b > 0.0 else (root - b) / a
    for i in range(n):
        put(step, i, (1.0 - t) * -cauchy * at(g, i) + t * at(newton, i))
    return False
"""


# --- each part alone ----------------------------------------------------------------------------------------------------

_BODIES = {
    # h, g, radius -> p, at the boundary, working memory
    "more_sorensen": (3, "(n,n),(n),()->(n),(),(n,n),(n),(n)", """\
put(p4, 0, 1.0 if more_sorensen(p0, p1, dimensions[1], at(p2, 0), p3, p5, p6, p7, 2.3e-16) else 0.0)"""),
    # h, g, radius, tolerance -> z, (code, steps), about, working memory
    "steihaug": (5, "(n,n),(n),(),(),(k)->(n),(k),(n),(n),(n)", """\
n = dimensions[1]
steihaug_begin(p1, p5, p7, p8, n, at(p2, 0), at(p3, 0), p6)
code, count = 0, 0
while code == 0 and count < 2 * n + 2:
    for i in range(n):
        put(p9, i, dot(place(p0, i * n), p8, n))
    code, count = steihaug_step(p5, p7, p8, p9, n, p6), count + 1
put(p6, 1, code)
put(p6, 2, count)"""),
    # a, b, radius, par -> step, par, working memory
    "damped_step": (4, "(m,n),(m),(),()->(n),(),(m,n),(m),(n),(n,n),(n),(n),(n)", """\
m, n = dimensions[1], dimensions[2]
copy(p0, p6, m * n)
copy(p1, p7, m)
factor_pivoted(p6, m, n, p8, p10, p11, p7, 2.3e-16)
put(p5, 0, damped_step(p6, n, p8, p7, at(p2, 0), at(p3, 0), p4, p9, p10, p11, p12))"""),
    # newton, g, bend, radius -> step, whether it is the full one
    "dogleg": (4, "(n),(n),(),()->(n),()", """\
put(p5, 0, 1.0 if dogleg(p0, p1, dimensions[1], at(p2, 0), at(p3, 0), p4) else 0.0)"""),
}


@functools.cache
def part(name: str, dtype: str = "float64") -> np.ufunc:
    """One part as a gufunc: "more_sorensen", "steihaug", "damped_step" or "dogleg" (`_BODIES` names operands and results)."""
    inputs, signature, body = _BODIES[name]
    text = CHOLESKY + QR + DAMPED + BALL + MORE_SORENSEN + STEIHAUG + DAMPED_STEP + DOGLEG
    return make_ufunc(alone(name, dtype, text, body, inputs, signature))
