"""Gradient descent and Adam: solvers that look at one gradient a step.

`gd` searches along the negative gradient, projected onto the bounds, or steps by a fixed rate with momentum; `adam` steps by a
rate scaled element by element. Called through `kernels.solvers`.
"""
from __future__ import annotations

from .machine import Solver

# How far a gradient step of length 1 would move inside the bounds, at most over the elements: 0 at a minimum.
PROJECTED = """
@inline
def inside(s, i, value):
    if word(s, BOUNDS) != 0:
        value = min(max(value, at(word(s, LOWER), i)), at(word(s, UPPER), i))
    return value

@inline
def clip(s, x):
    if word(s, BOUNDS) != 0:
        for i in range(word(s, N)):
            put(x, i, inside(s, i, at(x, i)))

@shared
def optimality(s, x, g):
    n = word(s, N)
    if word(s, BOUNDS) == 0:
        return largest(g, n)
    most = 0.0
    for i in range(n):
        size = abs(inside(s, i, at(x, i) - at(g, i)) - at(x, i))
        if not size <= most:
            most = size
    return most
"""

# Where values may rise on the way, the best point is kept in the memory of the result.
BEST = """
@shared
def keep_best(s):
    n = word(s, N)
    set_word(s, BEST_X, word(s, RESULT_X))
    set_word(s, BEST_G, word(s, RESULT_G))
    set_number(s, BEST_F, value_of(s))
    if word(s, X) != word(s, RESULT_X):
        copy(word(s, X), word(s, RESULT_X), n)
        copy(word(s, G), word(s, RESULT_G), n)
"""

# Nocedal and Wright, Numerical Optimization (2006), Algorithm 3.1; inside bounds the rule of Bertsekas, IEEE Trans. Automatic
# Control 21 (1976) 174. Stages: 1 the start, 2 a trial point of the search, 3 its successor, 4 a step of fixed rate.
_GD = """
@shared
def step_by(s, length):
    n, x, g, y = word(s, N), word(s, NOW_X), word(s, NOW_G), word(s, TRIAL_X)
    for i in range(n):
        put(y, i, inside(s, i, at(x, i) - length * at(g, i)))

@shared
def slope_to(s):
    n, x, g, y = word(s, N), word(s, NOW_X), word(s, NOW_G), word(s, TRIAL_X)
    total = 0.0
    for i in range(n):
        total += at(g, i) * (at(y, i) - at(x, i))
    return total

@inline
def walk(s):
    n, x, g, v = word(s, N), word(s, X), word(s, G), word(s, SPEED)
    for i in range(n):
        speed = number(s, MOMENTUM) * at(v, i) + at(g, i)
        put(v, i, speed)
        put(x, i, inside(s, i, at(x, i) - number(s, LR) * speed))

@inline
def advance(s):
    n, stage = word(s, N), word(s, STAGE)
    if stage == 0:
        clip(s, word(s, X))
        take_word(s, TRIAL_X, n)
        take_word(s, TRIAL_G, n)
        set_word(s, STAGE, 1)
        return VALUE_AND_GRAD
    f = value_of(s)
    if stage == 1:
        size = largest(word(s, G), n)
        set_number(s, NOW_F, f)
        if not (finite(f) and finite(size)):
            return ended(s, NOT_A_NUMBER)
        if optimality(s, word(s, X), word(s, G)) <= number(s, GTOL):
            return ended(s, SMALL_GRADIENT)
        set_number(s, STEP, 1.0 / max(norm(word(s, G), n), 1.0))
        if number(s, LR) > 0.0:
            take_word(s, SPEED, n)
            fill(word(s, SPEED), n, 0.0)
            keep_best(s)
            copy(word(s, X), word(s, TRIAL_X), n)
            copy(word(s, G), word(s, TRIAL_G), n)
            set_word(s, X, word(s, TRIAL_X))
            set_word(s, G, word(s, TRIAL_G))
            set_word(s, NOW_X, word(s, TRIAL_X))
            set_word(s, NOW_G, word(s, TRIAL_G))
            stage = 4
        else:
            stage = 3
    elif stage == 2:
        old = number(s, NOW_F)
        if f == -inf:
            set_word(s, NOW_X, word(s, TRIAL_X))
            set_number(s, NOW_F, f)
            return ended(s, UNBOUNDED)
        if not (finite(f) and f <= old + 1e-4 * slope_to(s) and finite(largest(word(s, G), n))):
            over = over_limits(s)
            if over == EVALUATION_LIMIT:
                return ended(s, over)
            shrunk = number(s, STEP) * 0.5
            set_number(s, STEP, shrunk)
            step_by(s, shrunk)
            if slope_to(s) == 0.0 or shrunk < 1e-300:
                return ended(s, SEARCH_FAILED)
            return VALUE_AND_GRAD
        x, g = word(s, NOW_X), word(s, NOW_G)
        set_word(s, NOW_X, word(s, TRIAL_X))
        set_word(s, NOW_G, word(s, TRIAL_G))
        set_word(s, TRIAL_X, x)
        set_word(s, TRIAL_G, g)
        set_number(s, CHANGE, old - f)
        set_number(s, NOW_F, f)
        set_word(s, NIT, word(s, NIT) + 1)
        set_number(s, STEP, min(number(s, STEP) * 2.0, 1e300))
        set_word(s, STAGE, 3)
        return ITERATION
    elif stage == 4 and word(s, REQUEST) != ITERATION:
        set_number(s, CHANGE, abs(number(s, NOW_F) - f))
        set_number(s, NOW_F, f)
        size = largest(word(s, G), n)
        if f < number(s, BEST_F) and finite(size):
            keep_best(s)
        set_word(s, NOW_X, word(s, X))
        set_word(s, NOW_G, word(s, G))
        set_word(s, NIT, word(s, NIT) + 1)
        return ITERATION
    status = over_limits(s)
    f, size = number(s, NOW_F), optimality(s, word(s, NOW_X), word(s, NOW_G))
    if f == -inf:
        status = UNBOUNDED
    elif not (finite(f) and finite(size)):
        status = NOT_A_NUMBER
    elif size <= number(s, GTOL):
        status = SMALL_GRADIENT
    elif word(s, NIT) > 0 and small_change(s):
        status = SMALL_CHANGE
    if status != 0:
        if stage == 4 and status == SMALL_GRADIENT:
            set_number(s, BEST_F, f)
            set_word(s, BEST_X, word(s, NOW_X))
            set_word(s, BEST_G, word(s, NOW_G))
        return ended(s, status)
    if stage == 4:
        walk(s)
        set_word(s, STAGE, 4)
    else:
        step_by(s, number(s, STEP))
        set_word(s, X, word(s, TRIAL_X))
        set_word(s, G, word(s, TRIAL_G))
        set_word(s, STAGE, 2)
    return VALUE_AND_GRAD
"""

gd = Solver("gd", _GD, {"gtol": (1e-5, 1e-3), "ftol": 0.0, "maxiter": 10000.0, "maxfun": 50000.0, "lr": 0.0, "momentum": 0.0},
            vectors=lambda n, m, options: 3 * n, words=("TRIAL_X", "TRIAL_G", "SPEED"), numbers=("STEP", "CHANGE"),
            parts=(PROJECTED, BEST), bounded=True, cite="Nocedal and Wright, Numerical Optimization (2006), section 3.1")

# D. P. Kingma and J. Ba, Adam: a method for stochastic optimization (2015), Algorithm 1, on a function without noise.
_ADAM = """
@inline
def advance(s):
    n, stage, x, g = word(s, N), word(s, STAGE), word(s, X), word(s, G)
    if stage == 0:
        clip(s, x)
        take_word(s, FIRST, n)
        take_word(s, SECOND, n)
        take_word(s, TRIAL_X, n)
        take_word(s, TRIAL_G, n)
        fill(word(s, FIRST), n, 0.0)
        fill(word(s, SECOND), n, 0.0)
        set_number(s, POWER1, 1.0)
        set_number(s, POWER2, 1.0)
        set_word(s, STAGE, 1)
        return VALUE_AND_GRAD
    if word(s, REQUEST) != ITERATION:
        f, size = value_of(s), largest(g, n)
        if stage == 1:
            set_number(s, NOW_F, f)
            if not (finite(f) and finite(size)):
                return ended(s, UNBOUNDED if f == -inf else NOT_A_NUMBER)
            keep_best(s)
            set_word(s, X, word(s, TRIAL_X))
            set_word(s, G, word(s, TRIAL_G))
            copy(x, word(s, X), n)
            copy(g, word(s, G), n)
            x, g = word(s, X), word(s, G)
            set_word(s, STAGE, 2)
        else:
            set_number(s, CHANGE, abs(number(s, NOW_F) - f))
            if f < number(s, BEST_F) and (finite(size) or f == -inf):
                keep_best(s)
        set_number(s, NOW_F, f)
        set_word(s, NOW_X, x)
        set_word(s, NOW_G, g)
        if stage == 2:
            set_word(s, NIT, word(s, NIT) + 1)
            return ITERATION
    f, size = number(s, NOW_F), optimality(s, x, g)
    if f == -inf:
        return ended(s, UNBOUNDED)
    if not (finite(f) and finite(size)):
        return ended(s, NOT_A_NUMBER)
    if size <= number(s, GTOL):
        set_number(s, BEST_F, f)
        set_word(s, BEST_X, x)
        set_word(s, BEST_G, g)
        return ended(s, SMALL_GRADIENT)
    if word(s, NIT) > 0 and small_change(s):
        return ended(s, SMALL_CHANGE)
    over = over_limits(s)
    if over != 0:
        return ended(s, over)
    b1, b2 = number(s, BETA1), number(s, BETA2)
    set_number(s, POWER1, number(s, POWER1) * b1)
    set_number(s, POWER2, number(s, POWER2) * b2)
    step, root = number(s, LR) / (1.0 - number(s, POWER1)), sqrt(1.0 - number(s, POWER2))
    m, v = word(s, FIRST), word(s, SECOND)
    for i in range(n):
        slope = at(g, i)
        put(m, i, b1 * at(m, i) + (1.0 - b1) * slope)
        put(v, i, b2 * at(v, i) + (1.0 - b2) * slope * slope)
        put(x, i, inside(s, i, at(x, i) - step * at(m, i) / (sqrt(at(v, i)) / root + number(s, EPS))))
    return VALUE_AND_GRAD
"""

adam = Solver("adam", _ADAM, {"gtol": (1e-5, 1e-3), "ftol": 0.0, "maxiter": 20000.0, "maxfun": 20001.0, "lr": 0.05, "beta1": 0.9,
                              "beta2": 0.999, "eps": 1e-8},
              vectors=lambda n, m, options: 4 * n, words=("FIRST", "SECOND", "TRIAL_X", "TRIAL_G"),
              numbers=("POWER1", "POWER2", "CHANGE"), parts=(PROJECTED, BEST), bounded=True,
              cite="Kingma and Ba, Adam (2015), Algorithm 1")
