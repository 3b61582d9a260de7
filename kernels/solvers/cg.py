"""Nonlinear conjugate gradients with guaranteed descent, with the line search made for them."""
from __future__ import annotations

from . import vectors
from .line_search import HAGER_ZHANG, HZ_NUMBERS
from .machine import Solver

# W. W. Hager and H. Zhang, SIAM J. Optim. 16 (2005) 170: the direction is (1.2) with the bound (1.6) from below, eta 0.01;
# first steps as in section 4, psi0 0.01, psi2 2. Stages: 1 the start, 2 a trial point, 3 an iteration is over, 4 the best trial
# point once more.
_CG = """
@shared
def try_step(s, step, stage):
    mix(s, word(s, N), word(s, X), 1.0, word(s, NOW_X), step, word(s, D))
    set_word(s, STAGE, stage)
    return VALUE_AND_GRAD

@shared
def search(s, step):
    n, f = word(s, N), number(s, NOW_F)
    slope = dot_of(s, n, word(s, D), word(s, NOW_G))
    if not slope < 0.0 and word(s, FRESH) == 0:
        slope = descend(s)
    if not (slope < 0.0 and finite(slope)):
        return ended(s, SEARCH_FAILED)
    hz_begin(s, step, f, slope, 1e-6 * abs(f), 1e20)
    return try_step(s, number(s, HZ_STEP), 2)

@shared
def descend(s):
    set_word(s, FRESH, 1)
    return scale_dot(s, word(s, N), word(s, D), -1.0, word(s, NOW_G), word(s, NOW_G))

@shared
def first_step(s, size):
    n, f = word(s, N), number(s, NOW_F)
    reach = largest_of(s, n, word(s, NOW_X))
    if reach > 0.0:
        return 0.01 * reach / size
    square = dot_of(s, n, word(s, NOW_G), word(s, NOW_G))
    return 0.01 * abs(f) / square if f != 0.0 else 1.0

@shared
def accept(s):
    n, d, f = word(s, N), word(s, D), value_of(s)
    y, x, g = word(s, NOW_G), word(s, NOW_X), word(s, G)
    old = sqrt(dot_of(s, n, y, y))
    set_number(s, CHANGE, number(s, NOW_F) - f)
    set_number(s, NOW_F, f)
    set_word(s, NOW_X, word(s, X))
    set_word(s, NOW_G, g)
    set_word(s, X, x)
    set_word(s, G, y)
    mix(s, n, y, 1.0, g, -1.0, y)
    curvature = dot_of(s, n, d, y)
    square, along, downhill = dot_of(s, n, y, y), dot_of(s, n, y, g), dot_of(s, n, d, g)
    weight = (along - 2.0 * square * downhill / curvature) / curvature
    least = -1.0 / (sqrt(dot_of(s, n, d, d)) * min(0.01, old))
    weight = max(weight, least)
    set_word(s, FRESH, 0)
    if finite(weight):
        mix(s, n, d, -1.0, g, weight, d)
    else:
        descend(s)
    set_word(s, NIT, word(s, NIT) + 1)
    set_word(s, STAGE, 3)
    return ITERATION

@inline
def advance(s):
    n, stage = word(s, N), word(s, STAGE)
    if stage == 2:
        code = hz_next(s, value_of(s), dot_of(s, n, word(s, G), word(s, D)), number(s, DECREASE), number(s, CURVATURE))
        if code == 0:
            if word(s, NFEV) < number(s, MAXFUN):
                return try_step(s, number(s, HZ_STEP), 2)
            set_word(s, OVER, EVALUATION_LIMIT)
            code = HZ_STUCK
        if code == HZ_FOUND:
            set_number(s, LENGTH, number(s, HZ_STEP))
            return accept(s)
        if code == HZ_MINUS_INFINITY or code == HZ_LONGEST:
            accept(s)
            return ended(s, UNBOUNDED)
        if number(s, HZ_BEST_F) < number(s, NOW_F):
            set_number(s, LENGTH, number(s, HZ_BEST))
            return try_step(s, number(s, HZ_BEST), 4)
        if word(s, OVER) == 0 and word(s, FRESH) == 0:
            descend(s)
            return search(s, first_step(s, largest_of(s, n, word(s, NOW_G))))
        return ended(s, word(s, OVER) if word(s, OVER) != 0 else SEARCH_FAILED)
    if stage == 4:
        return accept(s)
    if stage == 0:
        prepare_long(s)
        take_word(s, D, n)
        take_word(s, TRIAL_X, n)
        take_word(s, TRIAL_G, n)
        set_word(s, OVER, 0)
        set_word(s, STAGE, 1)
        return VALUE_AND_GRAD
    size = largest_of(s, n, word(s, NOW_G))
    if stage == 1:
        f = value_of(s)
        set_number(s, NOW_F, f)
        set_word(s, X, word(s, TRIAL_X))
        set_word(s, G, word(s, TRIAL_G))
        if f == -inf:
            return ended(s, UNBOUNDED)
        if not (finite(f) and finite(size)):
            return ended(s, NOT_A_NUMBER)
    if size <= number(s, GTOL):
        return ended(s, SMALL_GRADIENT)
    if stage == 3 and small_change(s):
        return ended(s, SMALL_CHANGE)
    over = max(over_limits(s), word(s, OVER))
    if over != 0:
        return ended(s, over)
    if stage == 1:
        descend(s)
        return search(s, first_step(s, size))
    return search(s, 2.0 * number(s, LENGTH))
"""

cg = Solver(
    "cg", _CG, {"gtol": (1e-5, 1e-3), "ftol": 0.0, "maxiter": 15000.0, "maxfun": 45000.0, "decrease": 0.1, "curvature": 0.9},
    vectors=lambda n, m, options: 3 * n + vectors.room(n), words=("D", "TRIAL_X", "TRIAL_G", "OVER", "FRESH", "PARTS"),
    numbers=("CHANGE", "LENGTH", *HZ_NUMBERS), parts=(vectors.VECTORS, HAGER_ZHANG),
    cite="Hager and Zhang, SIAM J. Optim. 16 (2005) 170; ACM Trans. Math. Software 32 (2006) 113")
