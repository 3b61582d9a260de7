"""L-BFGS-B: limited-memory quasi-Newton steps between bounds.

Each iteration follows the projected gradient to the first minimum of the quadratic model (the generalised Cauchy point), minimises
the model over the unknowns that are then free, and searches along the way to that point. Called through `kernels.solvers`.
"""
from __future__ import annotations

from . import vectors
from .first_order import PROJECTED
from .lbfgs import SEARCH_NUMBERS, SEARCH_WORDS
from .line_search import MORE_THUENTE
from .machine import Solver

# R. H. Byrd, P. Lu, J. Nocedal and C. Zhu, A limited memory algorithm for bound constrained optimization, SIAM J. Sci. Comput.
# 16 (1995) 1190. B = theta I - W M W', W = [Y, theta S]; here S and Y are lists of COUNT addresses, the oldest first; SY and SS
# hold s_i . y_j and s_i . s_j in rows of HISTORY; LU is M^-1 = [[-D, L'], [L, theta S'S]] factorised (equation 3.4), rows of 2
# COUNT.
_MATRICES = """
@shared
def factorise(a, size, pivots):
    for k in range(size):
        best = k
        for i in range(k + 1, size):
            if abs(number(a, i * size + k)) > abs(number(a, best * size + k)):
                best = i
        set_word(pivots, k, best)
        pivot = number(a, best * size + k)
        if not (abs(pivot) > 0.0 and finite(pivot)):
            return 0
        if best != k:
            for j in range(size):
                value = number(a, k * size + j)
                set_number(a, k * size + j, number(a, best * size + j))
                set_number(a, best * size + j, value)
        for i in range(k + 1, size):
            ratio = number(a, i * size + k) / pivot
            set_number(a, i * size + k, ratio)
            for j in range(k + 1, size):
                set_number(a, i * size + j, number(a, i * size + j) - ratio * number(a, k * size + j))
    return 1

@shared
def solve(a, size, pivots, source, x):
    for i in range(size):
        set_number(x, i, number(source, i))
    for k in range(size):
        best = word(pivots, k)
        value = number(x, best)
        set_number(x, best, number(x, k))
        set_number(x, k, value)
    for k in range(size):
        for i in range(k + 1, size):
            set_number(x, i, number(x, i) - number(a, i * size + k) * number(x, k))
    for step in range(size):
        i = size - 1 - step
        total = number(x, i)
        for j in range(i + 1, size):
            total -= number(a, i * size + j) * number(x, j)
        set_number(x, i, total / number(a, i * size + i))

@inline
def product_of(p, q, size):
    total = 0.0
    for i in range(size):
        total += number(p, i) * number(q, i)
    return total

@shared
def inverse_middle(s, a, size):
    count, most, theta = word(s, COUNT), word(s, HISTORY), number(s, THETA)
    sy, ss = word(s, SY), word(s, SS)
    for i in range(count):
        for j in range(count):
            set_number(a, i * size + j, -number(sy, i * most + i) if i == j else 0.0)
            set_number(a, (count + i) * size + j, number(sy, i * most + j) if i > j else 0.0)
            set_number(a, i * size + count + j, number(sy, j * most + i) if j > i else 0.0)
            set_number(a, (count + i) * size + count + j, theta * number(ss, i * most + j))

@shared
def row_of_w(s, i, w):
    count, theta = word(s, COUNT), number(s, THETA)
    for k in range(count):
        set_number(w, k, at(word(word(s, Y), k), i))
        set_number(w, count + k, theta * at(word(word(s, S), k), i))

@shared
def times_w(s, p, w):
    n, count, theta = word(s, N), word(s, COUNT), number(s, THETA)
    for k in range(count):
        set_number(w, k, dot(word(word(s, Y), k), p, n))
        set_number(w, count + k, theta * dot(word(word(s, S), k), p, n))

@shared
def remember(s, x, g, old_x, old_g):
    n, count, most, ss, ys = word(s, N), word(s, COUNT), word(s, HISTORY), word(s, S), word(s, Y)
    product, square = pair(s, n, x, g, old_x, old_g)
    if not (product > 2.2e-16 * square and finite(square)):
        return 0
    first_s, first_y = word(ss, 0), word(ys, 0)
    if count == most:
        for k in range(most - 1):
            set_word(ss, k, word(ss, k + 1))
            set_word(ys, k, word(ys, k + 1))
            for j in range(most - 1):
                set_number(word(s, SY), k * most + j, number(word(s, SY), (k + 1) * most + j + 1))
                set_number(word(s, SS), k * most + j, number(word(s, SS), (k + 1) * most + j + 1))
        count -= 1
    else:
        first_s, first_y = word(ss, count), word(ys, count)
    set_word(s, X, first_s)
    set_word(s, G, first_y)
    set_word(ss, count, old_x)
    set_word(ys, count, old_g)
    for k in range(count + 1):
        both = dot(word(ss, k), old_x, n)
        set_number(word(s, SS), k * most + count, both)
        set_number(word(s, SS), count * most + k, both)
        set_number(word(s, SY), k * most + count, dot(word(ss, k), old_g, n))
        set_number(word(s, SY), count * most + k, dot(old_x, word(ys, k), n))
    set_number(s, THETA, square / product)
    set_word(s, COUNT, count + 1)
    return 1
"""

# Algorithm CP of the paper: XC, and C = W'(xc - x); HELD marks unknowns at a bound there. Breakpoints come from a heap.
_CAUCHY = """
@shared
def sift(heap, times, k, size):
    who = word(heap, k)
    while 2 * k + 1 < size:
        child = 2 * k + 1
        if child + 1 < size and at(times, word(heap, child + 1)) < at(times, word(heap, child)):
            child += 1
        if not at(times, word(heap, child)) < at(times, who):
            break
        set_word(heap, k, word(heap, child))
        k = child
    set_word(heap, k, who)

@shared
def cauchy(s):
    n, size, theta = word(s, N), 2 * word(s, COUNT), number(s, THETA)
    x, g, d, xc, held, times, heap = (word(s, NOW_X), word(s, NOW_G), word(s, D), word(s, XC), word(s, HELD), word(s, TIMES),
                                      word(s, HEAP))
    lu, pivots, c, p, w, v = word(s, LU), word(s, PIVOTS), word(s, C), word(s, P_VECTOR), word(s, W_ROW), word(s, V_VECTOR)
    count = 0
    square = 0.0
    for i in range(n):
        slope, here = at(g, i), at(x, i)
        time = inf
        if slope < 0.0:
            time = (here - at(word(s, UPPER), i)) / slope
        elif slope > 0.0:
            time = (here - at(word(s, LOWER), i)) / slope
        put(times, i, time)
        put(xc, i, here)
        put(held, i, 0.0)
        if time <= 0.0:
            put(d, i, 0.0)
            put(held, i, 1.0)
        else:
            put(d, i, -slope)
            square += slope * slope
            if time < inf:
                set_word(heap, count, i)
                count += 1
    for i in range(size):
        set_number(c, i, 0.0)
    if square == 0.0:
        return
    for step in range(count // 2):
        sift(heap, times, count // 2 - 1 - step, count)
    first, second = -square, theta * square
    least = 2.2e-16 * second
    if size > 0:
        times_w(s, d, p)
        solve(lu, size, pivots, p, v)
        second -= product_of(p, v, size)
    best, old = -first / max(second, least), 0.0
    while count > 0:
        i = word(heap, 0)
        time = at(times, i)
        dt = time - old
        if best < dt:
            break
        count -= 1
        set_word(heap, 0, word(heap, count))
        if count > 0:
            sift(heap, times, 0, count)
        slope = at(g, i)
        bound = at(word(s, UPPER), i) if slope < 0.0 else at(word(s, LOWER), i)
        put(xc, i, bound)
        put(held, i, 1.0)
        put(d, i, 0.0)
        z = bound - at(x, i)
        for k in range(size):
            set_number(c, k, number(c, k) + dt * number(p, k))
        first += dt * second + slope * slope + theta * slope * z
        second -= theta * slope * slope
        if size > 0:
            row_of_w(s, i, w)
            solve(lu, size, pivots, w, v)
            first -= slope * product_of(v, c, size)
            second -= 2.0 * slope * product_of(v, p, size) + slope * slope * product_of(v, w, size)
            for k in range(size):
                set_number(p, k, number(p, k) + slope * number(w, k))
        second = max(second, least)
        best, old = -first / second, time
        if not first < 0.0:
            best = 0.0
            break
    best = max(best, 0.0)
    for k in range(size):
        set_number(c, k, number(c, k) + best * number(p, k))
    for i in range(n):
        if at(held, i) == 0.0:
            put(xc, i, inside(s, i, at(x, i) + (old + best) * at(d, i)))
"""

# The direct primal method (equations 5.6 to 5.11): the step among the free unknowns is -r / theta - W v / theta^2, where (M^-1
# - W'W / theta) v = W'r, r = g + theta (xc - x) - W M c. It is projected onto the bounds; where that is no descent it is cut
# short (J. L. Morales and J. Nocedal, ACM Trans. Math. Software 38 (2011) 7), and so it is where that goes down more steeply: the
# projected step may be all but level. D becomes the way from x to there.
_SUBSPACE = """
@shared
def subspace(s):
    n, size, theta = word(s, N), 2 * word(s, COUNT), number(s, THETA)
    x, g, d, xc, held = word(s, NOW_X), word(s, NOW_G), word(s, D), word(s, XC), word(s, HELD)
    a, spare, w, v, c, q = word(s, REDUCED), word(s, SPARE), word(s, W_ROW), word(s, V_VECTOR), word(s, C), word(s, P_VECTOR)
    solve(word(s, LU), size, word(s, PIVOTS), c, v)
    inverse_middle(s, a, size)
    for k in range(size):
        set_number(q, k, 0.0)
    for i in range(n):
        if at(held, i) == 0.0:
            row_of_w(s, i, w)
            rest = at(g, i) + theta * (at(xc, i) - at(x, i)) - product_of(w, v, size)
            put(d, i, rest)
            for k in range(size):
                set_number(q, k, number(q, k) + number(w, k) * rest)
                for j in range(size):
                    set_number(a, k * size + j, number(a, k * size + j) - number(w, k) * number(w, j) / theta)
    if factorise(a, size, spare) == 0:
        return 0
    solve(a, size, spare, q, v)
    along, reached, change, most = 0.0, 0.0, 0.0, 1.0
    for i in range(n):
        step = 0.0
        if at(held, i) == 0.0:
            row_of_w(s, i, w)
            step = -(at(d, i) + product_of(w, v, size) / theta) / theta
        put(d, i, step)
        here = at(xc, i)
        along += at(g, i) * (inside(s, i, here + step) - at(x, i))
        reached += at(g, i) * (here - at(x, i))
        change += at(g, i) * step
        if step > 0.0:
            most = min(most, (at(word(s, UPPER), i) - here) / step)
        elif step < 0.0:
            most = min(most, (at(word(s, LOWER), i) - here) / step)
    if not finite(along):
        return 0
    if along < 0.0 and along <= reached + most * change:
        most = 1.0
    for i in range(n):
        put(xc, i, inside(s, i, at(xc, i) + most * at(d, i)))
    return 1
"""

# Stages: 1 the start, 2 a trial point of the line search, 3 an iteration is over, 4 the best trial point once more.
_LBFGSB = """
@shared
def try_step(s, step, stage):
    mix(s, word(s, N), word(s, X), 1.0, word(s, NOW_X), step, word(s, D))
    clip(s, word(s, X))
    set_word(s, STAGE, stage)
    return VALUE_AND_GRAD

@inline
def direction(s):
    n, size, d = word(s, N), 2 * word(s, COUNT), word(s, D)
    if size > 0:
        inverse_middle(s, word(s, LU), size)
        if factorise(word(s, LU), size, word(s, PIVOTS)) == 0:
            return nan
    cauchy(s)
    if size > 0:
        if subspace(s) == 0:
            return nan
    mix(s, n, d, 1.0, word(s, XC), -1.0, word(s, NOW_X))
    return dot_of(s, n, d, word(s, NOW_G))

@inline
def longest(s):
    n, x, d, most = word(s, N), word(s, NOW_X), word(s, D), 1e20
    for i in range(n):
        step = at(d, i)
        if step > 0.0:
            most = min(most, (at(word(s, UPPER), i) - at(x, i)) / step)
        elif step < 0.0:
            most = min(most, (at(word(s, LOWER), i) - at(x, i)) / step)
    return most

@shared
def forget(s):
    set_word(s, COUNT, 0)
    set_number(s, THETA, 1.0)

@shared
def search(s):
    first = word(s, COUNT) == 0
    slope = direction(s)
    if not (slope < 0.0 and finite(slope)) and not first:
        forget(s)
        first = True
        slope = direction(s)
    if not (slope < 0.0 and finite(slope)):
        return ended(s, SEARCH_FAILED)
    most = max(longest(s), 1.0)
    step = min(1.0, 1.0 / sqrt(dot_of(s, word(s, N), word(s, D), word(s, D)))) if first else 1.0
    mt_begin(s, step, number(s, NOW_F), slope, most)
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
        code = mt_next(s, value_of(s), dot_of(s, n, word(s, G), word(s, D)), number(s, DECREASE), number(s, CURVATURE), 1e-15)
        if code == 0:
            if word(s, NFEV) < number(s, MAXFUN):
                return try_step(s, number(s, LS_STEP), 2)
            set_word(s, OVER, EVALUATION_LIMIT)
            code = MT_NARROW
        if code == MT_FOUND or (code == MT_LONGEST and number(s, LS_MOST) < 1e20):
            return accept(s)
        if code == MT_MINUS_INFINITY or (code == MT_LONGEST and number(s, LS_CUT) == 0.0):
            accept(s)
            return ended(s, UNBOUNDED)
        if number(s, LS_FX) < number(s, NOW_F):
            return try_step(s, number(s, LS_STX), 4)
        if word(s, OVER) == 0 and word(s, COUNT) > 0:
            forget(s)
            return search(s)
        return ended(s, word(s, OVER) if word(s, OVER) != 0 else SEARCH_FAILED)
    if stage == 4:
        return accept(s)
    if stage == 0:
        most = int(number(s, MAXCOR))
        clip(s, word(s, X))
        prepare_long(s)
        for k in (D, TRIAL_X, TRIAL_G, XC, HELD, TIMES):
            take_word(s, k, n)
        take_word(s, HEAP, n * (8 // {W}))
        set_word(s, HISTORY, most)
        for k in (S, Y, PIVOTS, SPARE, C, P_VECTOR, W_ROW, V_VECTOR):
            take_word(s, k, 2 * most * (8 // {W}))
        for k in (SY, SS, LU, REDUCED):
            take_word(s, k, 4 * most * most * (8 // {W}))
        for k in range(most):
            set_word(word(s, S), k, take(s, n))
            set_word(word(s, Y), k, take(s, n))
        set_word(s, OVER, 0)
        forget(s)
        set_word(s, STAGE, 1)
        return VALUE_AND_GRAD
    if stage == 1:
        f = value_of(s)
        set_number(s, NOW_F, f)
        set_word(s, X, word(s, TRIAL_X))
        set_word(s, G, word(s, TRIAL_G))
        if f == -inf:
            return ended(s, UNBOUNDED)
        if not (finite(f) and finite(largest_of(s, n, word(s, NOW_G)))):
            return ended(s, NOT_A_NUMBER)
    if optimality(s, word(s, NOW_X), word(s, NOW_G)) <= number(s, GTOL):
        return ended(s, SMALL_GRADIENT)
    if stage == 3 and small_change(s):
        return ended(s, SMALL_CHANGE)
    over = max(over_limits(s), word(s, OVER))
    if over != 0:
        return ended(s, over)
    return search(s)
"""

lbfgsb = Solver(
    "lbfgsb", _LBFGSB,
    {"gtol": (1e-5, 1e-3), "ftol": (2.220446049250313e-09, 1.1920929e-06), "maxiter": 15000.0, "maxfun": 15000.0, "maxcor": 10.0,
     "decrease": 1e-3, "curvature": 0.9},
    vectors=lambda n, m, options: int((2 * options["maxcor"] + 8) * n + 32 * options["maxcor"] * (options["maxcor"] + 1)
                                      + 2 * n) + vectors.room(n),
    words=("HISTORY", "COUNT", "S", "Y", "SY", "SS", "LU", "PIVOTS", "REDUCED", "SPARE", "XC", "HELD", "TIMES", "HEAP", "C",
           "P_VECTOR", "W_ROW", "V_VECTOR", "PARTS", *SEARCH_WORDS),
    numbers=("THETA", *SEARCH_NUMBERS), bounded=True,
    parts=(PROJECTED, vectors.VECTORS, MORE_THUENTE, _MATRICES, _CAUCHY, _SUBSPACE),
    cite="Byrd, Lu, Nocedal and Zhu, SIAM J. Sci. Comput. 16 (1995) 1190; Morales and Nocedal (2011); More and Thuente (1994)")
