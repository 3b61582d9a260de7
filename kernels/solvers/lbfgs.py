"""L-BFGS: quasi-Newton steps from the last few changes of point and gradient, with a strong Wolfe line search.

Without bounds; with bounds `lbfgsb`. The two-loop recursion is a part that the tests compare with dense BFGS. Called
through `kernels.solvers`.
"""
from __future__ import annotations

import functools

import numpy as np

from ..cpu.native import Program, make_ufunc
from . import vectors
from .line_search import MORE_THUENTE, MT_NUMBERS
from .machine import FUNCTIONS, MEMORY, Solver, constants, typed

# Nocedal and Wright, Numerical Optimization (2006), Algorithm 7.4, for d = -H g. S and Y are rings of HISTORY addresses of the
# vectors s_i and y_i, of which COUNT are filled, the newest at HEAD; RHO holds 1 / (y_i . s_i), ALPHA is room for as many
# numbers; GAMMA scales the first matrix. Each pass over d takes the product that the next one needs as well. Gives d . g.
TWO_LOOP = """
@shared
def two_loop(s, g, d):
    n, count, most, ss, ys = word(s, N), word(s, COUNT), word(s, HISTORY), word(s, S), word(s, Y)
    rho, alphas = word(s, RHO), word(s, ALPHA)
    i = word(s, HEAD)
    product = scale_dot(s, n, d, -1.0, g, word(ss, i) if count > 0 else g)
    for k in range(2 * count):
        if k < count:
            weight = product * number(rho, i)
            set_number(alphas, i, weight)
            vector, weight = word(ys, i), -weight
            scale = number(s, GAMMA) if k == count - 1 else 1.0
            if k < count - 1:
                i = i - 1 if i > 0 else most - 1
            after = word(ss, i) if k < count - 1 else word(ys, i)
        else:
            weight = number(alphas, i) - product * number(rho, i)
            vector, scale = word(ss, i), 1.0
            i = i + 1 if i + 1 < most else 0
            after = word(ys, i) if k < 2 * count - 1 else g
        product = add_dot(s, n, d, weight, vector, scale, after)
    return product

@inline
def take_history(s, n, most):
    set_word(s, HISTORY, most)
    take_word(s, S, most * (8 // {W}))
    take_word(s, Y, most * (8 // {W}))
    take_word(s, RHO, most * (8 // {W}))
    take_word(s, ALPHA, most * (8 // {W}))
    for i in range(most):
        set_word(word(s, S), i, take(s, n))
        set_word(word(s, Y), i, take(s, n))

@inline
def remember(s, x, g, old_x, old_g):
    n = word(s, N)
    product, square = pair(s, n, x, g, old_x, old_g)
    if not (product > 2.2e-16 * square and finite(square)):
        return 0
    head = word(s, HEAD) + 1
    if head >= word(s, HISTORY) or word(s, COUNT) == 0:
        head = 0
    set_word(s, X, word(word(s, S), head))
    set_word(s, G, word(word(s, Y), head))
    set_word(word(s, S), head, old_x)
    set_word(word(s, Y), head, old_g)
    set_number(word(s, RHO), head, 1.0 / product)
    set_number(s, GAMMA, product / square)
    set_word(s, HEAD, head)
    set_word(s, COUNT, min(word(s, COUNT) + 1, word(s, HISTORY)))
    return 1
"""
_LBFGS = """
@inline
def direction(s):
    return two_loop(s, word(s, NOW_G), word(s, D))

@inline
def take_memory(s, n):
    # with few unknowns older pairs say little that newer ones do not: they save 4 % of the evaluations, and cost half of the time
    take_history(s, n, min(int(number(s, MAXCOR)), 2 * n - 1))
"""
HISTORY_WORDS = ("HISTORY", "COUNT", "HEAD", "S", "Y", "RHO", "ALPHA", "PARTS")

# The way of every quasi-Newton method: direction, line search, learning. A method defines `take_memory`, `direction` (D = -H g,
# gives D . g), and `remember`, which turns the old point and gradient into s and y where they lie; COUNT is 0 while H is the
# identity. Stages: 1 the start, 2 a trial point of the line search, 3 an iteration is over, 4 the best trial point once more.
QUASI_NEWTON = """
@shared
def try_step(s, step, stage):
    mix(s, word(s, N), word(s, X), 1.0, word(s, NOW_X), step, word(s, D))
    set_word(s, STAGE, stage)
    return VALUE_AND_GRAD

@shared
def search(s):
    first = word(s, COUNT) == 0
    slope = direction(s)
    if not slope < 0.0 and not first:
        set_word(s, COUNT, 0)
        first = True
        slope = direction(s)
    if not (slope < 0.0 and finite(slope)):
        return ended(s, SEARCH_FAILED)
    mt_begin(s, min(1.0, 1.0 / sqrt(-slope)) if first else 1.0, number(s, NOW_F), slope, 1e20)
    return try_step(s, number(s, LS_STEP), 2)

@shared
def accept(s):
    f, old_x, old_g = value_of(s), word(s, NOW_X), word(s, NOW_G)
    x, g = word(s, X), word(s, G)
    set_number(s, CHANGE, number(s, NOW_F) - f)
    set_number(s, NOW_F, f)
    set_word(s, NOW_X, x)
    set_word(s, NOW_G, g)
    set_word(s, X, old_x)
    set_word(s, G, old_g)
    remember(s, x, g, old_x, old_g)
    set_word(s, NIT, word(s, NIT) + 1)
    set_word(s, STAGE, 3)
    return ITERATION

@inline
def advance(s):
    n, stage = word(s, N), word(s, STAGE)
    if stage == 2:
        f = value_of(s)
        code = mt_next(s, f, dot_of(s, n, word(s, G), word(s, D)), number(s, DECREASE), number(s, CURVATURE), 1e-15)
        if code == 0:
            if word(s, NFEV) < number(s, MAXFUN):
                return try_step(s, number(s, LS_STEP), 2)
            set_word(s, OVER, EVALUATION_LIMIT)
            code = MT_NARROW
        if code == MT_FOUND:
            return accept(s)
        if code == MT_MINUS_INFINITY or (code == MT_LONGEST and number(s, LS_CUT) == 0.0):
            accept(s)
            return ended(s, UNBOUNDED)
        if number(s, LS_FX) < number(s, NOW_F):
            return try_step(s, number(s, LS_STX), 4)
        if word(s, OVER) == 0 and word(s, COUNT) > 0:
            set_word(s, COUNT, 0)
            return search(s)
        return ended(s, word(s, OVER) if word(s, OVER) != 0 else SEARCH_FAILED)
    if stage == 4:
        return accept(s)
    if stage == 0:
        set_word(s, COUNT, 0)
        prepare_long(s)
        take_word(s, D, n)
        take_word(s, TRIAL_X, n)
        take_word(s, TRIAL_G, n)
        take_memory(s, n)
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
    return search(s)
"""

SEARCH_WORDS = ("D", "TRIAL_X", "TRIAL_G", "OVER")
SEARCH_NUMBERS = ("CHANGE", *MT_NUMBERS)

lbfgs = Solver(
    "lbfgs", _LBFGS + QUASI_NEWTON,
    {"gtol": (1e-5, 1e-3), "ftol": (2.220446049250313e-09, 1.1920929e-06), "maxiter": 15000.0, "maxfun": 15000.0, "maxcor": 10.0,
     "decrease": 1e-4, "curvature": 0.9},
    vectors=lambda n, m, options: int((2 * options["maxcor"] + 3) * n + 8 * options["maxcor"]) + vectors.room(n),
    words=(*HISTORY_WORDS, *SEARCH_WORDS), numbers=("GAMMA", *SEARCH_NUMBERS),
    parts=(vectors.VECTORS, MORE_THUENTE, TWO_LOOP),
    cite="Nocedal and Wright, Numerical Optimization (2006), Algorithms 7.4 and 7.5; line search: More and Thuente (1994)")

_ALONE = """
def kernel(args, dimensions, steps, data):
    rows, n = dimensions[2], dimensions[3]
    s, gamma, g, d = address(args[0]), address(args[1]), address(args[4]), address(args[5])
    set_word(s, N, n)
    set_word(s, HISTORY, rows)
    set_word(s, COUNT, rows)
    set_word(s, HEAD, rows - 1)
    set_number(s, GAMMA, at(gamma, 0))
    words = s + 512
    set_word(s, S, words)
    set_word(s, Y, words + 8 * rows)
    set_word(s, RHO, words + 16 * rows)
    set_word(s, ALPHA, words + 24 * rows)
    for i in range(rows):
        set_word(word(s, S), i, place(address(args[2]), i * n))
        set_word(word(s, Y), i, place(address(args[3]), i * n))
        set_number(word(s, RHO), i, 1.0 / dot(word(word(s, S), i), word(word(s, Y), i), n))
    two_loop(s, g, d)
"""


@functools.cache
def two_loop_alone(dtype: str) -> np.ufunc:
    """-H g by the two-loop recursion as a gufunc (words, gamma, s, y, g) -> d; rows of s and y from the oldest to the newest.

    `words`: at least 64 + 4 * rows zeros (int64) to work with; vectors shorter than `vectors.LONG`.
    """
    places = {name: k for k, name in enumerate(("N", *HISTORY_WORDS, "GAMMA", "LARGE"))}
    source = constants(places) + typed(MEMORY + vectors.VECTORS + TWO_LOOP + _ALONE, dtype)
    return make_ufunc(Program(f"two_loop_{dtype}", source, functions=dict(FUNCTIONS), inputs=("int64", *[dtype] * 4),
                              outputs=(dtype,), signature="(w),(),(m,n),(m,n),(n)->(n)"))
