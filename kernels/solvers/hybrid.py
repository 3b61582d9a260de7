"""Systems of equations: Powell's hybrid of Newton's method and steepest descent as MINPACK's hybrj has it, with exact Jacobians.

Each iterate has its own Jacobian, factorised by QR; the step is a dogleg between the minimum along the gradient of |f| and Newton's
point inside a scaled ball. Ends well only where Newton's full step is small, not merely where the ball has shrunk. Called by
engine.optimize.root.
"""
from __future__ import annotations

from .dense import QR
from .machine import JACOBIAN, RESIDUALS, Solver
from .trust_region import DOGLEG

# Stages: 1 the first residuals, 2 residuals and Jacobian of a new iterate, 3 the iterate is known, 4 residuals at a trial point.
_HYBRID = """
@inline
def scaled_norm(p, scale, n):
    total = 0.0
    for i in range(n):
        ratio = at(p, i) / at(scale, i)
        total += ratio * ratio
    return sqrt(total)

@inline
def factorise(s):
    n, a, jacobian, scale, g = word(s, N), word(s, A), word(s, JAC), word(s, SCALE), word(s, GRADIENT)
    cosine = 0.0
    for j in range(n):
        total, size = 0.0, 0.0
        for i in range(n):
            total += at(jacobian, i * n + j) * at(word(s, NOW_R), i)
            size += at(jacobian, i * n + j) * at(jacobian, i * n + j)
        size = sqrt(size)
        if size > 0.0:
            cosine = max(cosine, abs(total) / size / number(s, NOW_F))
            put(scale, j, 1.0 / size)
        elif word(s, RADIUS_KNOWN) == 0:
            put(scale, j, 1.0)
        put(g, j, total * at(scale, j))
        for i in range(n):
            put(a, i * n + j, at(jacobian, i * n + j) * at(scale, j))
    set_number(s, COSINE, cosine)
    copy(word(s, NOW_R), word(s, B), n)
    factor_pivoted(a, n, n, word(s, PIVOTS), word(s, LEFT), word(s, RIGHT), word(s, B), number(s, EPS))

@inline
def newton_point(s):
    # a basic solution where the triangle is singular: the columns beyond the rank stay
    n, a, z = word(s, N), word(s, A), word(s, B)
    rank, most = n, abs(at(a, 0))
    for j in range(n):
        if rank == n and not abs(at(a, j * n + j)) > n * number(s, EPS) * most:
            rank = j
    set_word(s, SINGULAR, 1 if rank < n else 0)
    backward_upper(a, z, n, rank)
    for j in range(n):
        put(word(s, FULL), as_int64(at(word(s, PIVOTS), j)), -at(z, j))

@inline
def length_of_image(s, d):
    n, a, total = word(s, N), word(s, A), 0.0
    for i in range(n):
        value = 0.0
        for j in range(i, n):
            value += at(a, i * n + j) * at(d, as_int64(at(word(s, PIVOTS), j)))
        total += value * value
    return sqrt(total)

@inline
def advance(s):
    n, stage = word(s, N), word(s, STAGE)
    if stage == 0:
        take_word(s, OTHER_X, n)
        set_word(s, GRADIENT, word(s, RESULT_G))
        take_word(s, NOW_R, n)
        take_word(s, OTHER_R, n)
        take_word(s, JAC, n * n)
        take_word(s, A, n * n)
        take_word(s, B, n)
        take_word(s, SCALE, n)
        take_word(s, PIVOTS, n)
        take_word(s, LEFT, n)
        take_word(s, RIGHT, n)
        take_word(s, FULL, n)
        take_word(s, STEP, n)
        set_word(s, R, word(s, NOW_R))
        set_word(s, STAGE, 1)
        return RESIDUALS
    if stage == 1:
        size = norm(word(s, NOW_R), n)
        set_number(s, NOW_F, size)
        set_number(s, FIRST, size)
        set_word(s, PENDING, 0)
        if not finite(size):
            return ended(s, NOT_A_NUMBER)
        set_word(s, R, word(s, NOW_R))
        set_word(s, G, word(s, JAC))
        set_word(s, STAGE, 2)
        return JACOBIAN
    if stage == 2:
        if number(s, NOW_F) == 0.0:
            return ended(s, SMALL_VALUE)
        if not finite(largest(word(s, JAC), n * n)):
            return ended(s, NOT_A_NUMBER)
        factorise(s)
        newton_point(s)
        set_number(s, REACHED, scaled_norm(word(s, NOW_X), word(s, SCALE), n))
        full = norm(word(s, FULL), n)
        if word(s, PENDING) != 0:
            return ended(s, SMALL_STEP)
        if number(s, NOW_F) <= number(s, FTOL) * min(number(s, FIRST), 1.0):
            return ended(s, SMALL_VALUE)
        if word(s, SINGULAR) == 0 and full <= number(s, XTOL) * number(s, REACHED):
            set_word(s, PENDING, 1)         # Newton's last step is still worth taking: it squares the error
        if word(s, PENDING) == 0 and number(s, COSINE) <= 10.0 * number(s, EPS):
            return ended(s, NO_PROGRESS)        # a minimum of |f| that is no solution
        if word(s, RADIUS_KNOWN) == 0:
            reached = number(s, REACHED)
            set_number(s, RADIUS, number(s, FACTOR) * (reached if reached > 0.0 else 1.0))
            set_word(s, RADIUS_KNOWN, 1)
            stage = 3
        else:
            set_word(s, STAGE, 3)
            return ITERATION
    if stage == 4:
        size, old, length = norm(word(s, OTHER_R), n), number(s, NOW_F), norm(word(s, STEP), n)
        radius = number(s, RADIUS)
        if word(s, NIT) == 0:
            radius = min(radius, length)
        actual = 1.0 - size / old * (size / old) if size < old else -1.0
        expected = number(s, EXPECTED)
        ratio = actual / expected if expected > 0.0 else 0.0
        if not finite(size):
            ratio = -1.0
        if not ratio >= 0.1:
            set_word(s, GOOD, 0)
            radius = 0.5 * min(radius, length)
        else:
            set_word(s, GOOD, word(s, GOOD) + 1)
            if ratio >= 0.5 or word(s, GOOD) > 1:
                radius = max(radius, 2.0 * length)
            if abs(ratio - 1.0) <= 0.1:
                radius = 2.0 * length
        set_number(s, RADIUS, radius)
        set_word(s, SLOW, 0 if actual >= 0.001 else word(s, SLOW) + 1)
        if ratio >= 1e-4 and size < old:
            x, r = word(s, NOW_X), word(s, NOW_R)
            set_word(s, NOW_X, word(s, OTHER_X))
            set_word(s, OTHER_X, x)
            set_word(s, NOW_R, word(s, OTHER_R))
            set_word(s, OTHER_R, r)
            set_number(s, NOW_F, size)
            set_word(s, NIT, word(s, NIT) + 1)
            set_word(s, X, word(s, NOW_X))
            set_word(s, R, word(s, NOW_R))
            set_word(s, G, word(s, JAC))
            set_word(s, STAGE, 2)
            if word(s, SLOW) >= 20 and word(s, PENDING) == 0:
                return ended(s, NO_PROGRESS)
            return JACOBIAN
        if word(s, PENDING) != 0:
            return ended(s, SMALL_STEP)
        if radius <= number(s, EPS) * number(s, REACHED) or word(s, SLOW) >= 60:
            if not finite(size):
                return ended(s, NOT_A_NUMBER)
            return ended(s, NO_PROGRESS)
    status = over_limits(s)
    if status != 0:
        return ended(s, status)
    x, y, step = word(s, NOW_X), word(s, OTHER_X), word(s, STEP)
    g, old = word(s, GRADIENT), number(s, NOW_F)
    dogleg(word(s, FULL), g, n, length_of_image(s, g), number(s, RADIUS), step)
    image = length_of_image(s, step)
    set_number(s, EXPECTED, -(2.0 * dot(g, step, n) + image * image) / (old * old))
    for i in range(n):
        put(y, i, at(x, i) + at(word(s, SCALE), i) * at(step, i))
    set_word(s, X, y)
    set_word(s, R, word(s, OTHER_R))
    set_word(s, STAGE, 4)
    return RESIDUALS
"""

hybrid = Solver(
    "hybrid", _HYBRID, {"xtol": (1.49e-8, 1e-4), "ftol": (1e-16, 1e-8), "maxiter": 1e9, "maxfun": 1e9, "factor": 100.0,
                        "eps": (2.3e-16, 1.2e-7)},
    vectors=lambda n, m, options: 2 * n * n + 12 * n,
    words=("OTHER_X", "GRADIENT", "NOW_R", "OTHER_R", "JAC", "A", "B", "SCALE", "PIVOTS", "LEFT", "RIGHT", "FULL", "STEP",
           "SINGULAR", "RADIUS_KNOWN", "GOOD", "SLOW", "PENDING"),
    numbers=("RADIUS", "EXPECTED", "REACHED", "FIRST", "COSINE"), parts=(QR, DOGLEG), requests=(RESIDUALS, JACOBIAN),
    cite="Powell, A hybrid method for nonlinear equations, in Numerical Methods for Nonlinear Algebraic Equations (1970); More, "
         "Garbow and Hillstrom, User Guide for MINPACK-1 (1980), hybrj")
