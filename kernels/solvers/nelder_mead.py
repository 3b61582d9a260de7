"""The downhill simplex method of Nelder and Mead: values only, for functions without derivative."""
from __future__ import annotations

from .first_order import PROJECTED
from .machine import Solver

# J. A. Nelder and R. Mead, Computer Journal 7 (1965) 308, with the choices of Lagarias et al., SIAM J. Optim. 9 (1998) 112, and
# with ADAPTIVE the coefficients of Gao and Han, Comput. Optim. Appl. 51 (2012) 259. Vertices are rows of SIMPLEX, VALUES
# theirs, ORDER their numbers from the best to the worst. Stages: 1 first values, 2 reflection, 3 expansion, 4 outer and 5 inner
# contraction, 6 shrinking, 7 an iteration is over. K: the vertex whose value is awaited in stages 1 and 6.
_NELDER_MEAD = """
@inline
def vertex(s, k):
    return place(word(s, SIMPLEX), k * word(s, N))

@inline
def ranked(s, k):
    return word(word(s, ORDER), k)

@inline
def value_at(s, k):
    return number(word(s, VALUES), k)

@shared
def sort_from(s, first):
    order = word(s, ORDER)
    for k in range(first, word(s, N) + 1):
        who = word(order, k)
        j = k
        while j > 0 and value_at(s, who) < value_at(s, word(order, j - 1)):
            set_word(order, j, word(order, j - 1))
            j -= 1
        set_word(order, j, who)
    set_word(s, NOW_X, vertex(s, word(order, 0)))
    set_number(s, NOW_F, value_at(s, word(order, 0)))

@shared
def try_point(s, along, stage):
    n, y, middle, worst = word(s, N), word(s, TRIAL), word(s, MIDDLE), vertex(s, ranked(s, word(s, N)))
    for i in range(n):
        put(y, i, inside(s, i, at(middle, i) + along * (at(middle, i) - at(worst, i))))
    set_word(s, X, y)
    set_word(s, STAGE, stage)
    return VALUE

@shared
def replace(s, p, f):
    worst = ranked(s, word(s, N))
    copy(p, vertex(s, worst), word(s, N))
    set_number(word(s, VALUES), worst, f)
    sort_from(s, word(s, N))
    set_word(s, NIT, word(s, NIT) + 1)
    set_word(s, STAGE, 7)
    return ITERATION

@shared
def shrink(s, ratio):
    n, best = word(s, N), vertex(s, ranked(s, 0))
    for k in range(1, n + 1):
        p = vertex(s, ranked(s, k))
        for i in range(n):
            put(p, i, inside(s, i, at(best, i) + ratio * (at(p, i) - at(best, i))))
    set_word(s, K, 1)
    set_word(s, X, vertex(s, ranked(s, 1)))
    set_word(s, STAGE, 6)
    return VALUE

@inline
def advance(s):
    n, stage, x = word(s, N), word(s, STAGE), word(s, RESULT_X)
    if stage == 0:
        clip(s, x)
        if number(s, MAXITER) == 0.0:
            set_number(s, MAXITER, 200.0 * n)
        if number(s, MAXFUN) == 0.0:
            set_number(s, MAXFUN, 200.0 * n)
        take_word(s, SIMPLEX, n * (n + 1))
        take_word(s, VALUES, (n + 1) * (8 // {W}))
        take_word(s, ORDER, (n + 1) * (8 // {W}))
        take_word(s, MIDDLE, n)
        take_word(s, TRIAL, n)
        take_word(s, SECOND, n)
        for k in range(n + 1):
            p = vertex(s, k)
            copy(x, p, n)
            set_word(word(s, ORDER), k, k)
            if k > 0:
                value = at(x, k - 1)
                put(p, k - 1, value * 1.05 if value != 0.0 else 0.00025)
                if inside(s, k - 1, at(p, k - 1)) != at(p, k - 1):      # into the bounds, to the other side
                    put(p, k - 1, inside(s, k - 1, 2.0 * value - at(p, k - 1)))
        set_word(s, K, 0)
        set_word(s, X, vertex(s, 0))
        set_word(s, STAGE, 1)
        return VALUE
    adaptive = number(s, ADAPTIVE) != 0.0 and n > 1
    wide = 1.0 + 2.0 / n if adaptive else 2.0
    near = 0.75 - 0.5 / n if adaptive else 0.5
    ratio = 1.0 - 1.0 / n if adaptive else 0.5
    if stage != 7:
        f = value_of(s)
        if f == -inf:
            set_word(s, NOW_X, word(s, X))
            set_number(s, NOW_F, f)
            return ended(s, UNBOUNDED)
        if not f == f:
            f = inf
    else:
        f = 0.0
    if stage == 1 or stage == 6:
        k = word(s, K)
        if stage == 1 and k == 0:
            set_number(s, NOW_F, value_of(s))
            set_word(s, NOW_X, vertex(s, 0))
            if not finite(f):
                return ended(s, NOT_A_NUMBER)
        set_number(word(s, VALUES), k if stage == 1 else ranked(s, k), f)
        if k < n:
            set_word(s, K, k + 1)
            set_word(s, X, vertex(s, k + 1 if stage == 1 else ranked(s, k + 1)))
            return VALUE
        sort_from(s, 1)
        if stage == 6:
            set_word(s, NIT, word(s, NIT) + 1)
            set_word(s, STAGE, 7)
            return ITERATION
    elif stage == 2:
        set_number(s, REFLECTED, f)
        if f < value_at(s, ranked(s, 0)):
            copy(word(s, TRIAL), word(s, SECOND), n)
            return try_point(s, wide, 3)
        if f < value_at(s, ranked(s, n - 1)):
            return replace(s, word(s, TRIAL), f)
        if f < value_at(s, ranked(s, n)):
            return try_point(s, near, 4)
        return try_point(s, -near, 5)
    elif stage == 3:
        if f < number(s, REFLECTED):
            return replace(s, word(s, TRIAL), f)
        return replace(s, word(s, SECOND), number(s, REFLECTED))
    elif stage == 4:
        if f <= number(s, REFLECTED):
            return replace(s, word(s, TRIAL), f)
        return shrink(s, ratio)
    elif stage == 5:
        if f < value_at(s, ranked(s, n)):
            return replace(s, word(s, TRIAL), f)
        return shrink(s, ratio)
    spread, best = 0.0, vertex(s, ranked(s, 0))
    for k in range(1, n + 1):
        p = vertex(s, ranked(s, k))
        for i in range(n):
            spread = max(spread, abs(at(p, i) - at(best, i)))
    if spread <= number(s, XATOL) and value_at(s, ranked(s, n)) - value_at(s, ranked(s, 0)) <= number(s, FATOL):
        return ended(s, SMALL_STEP)
    over = over_limits(s)
    if over != 0:
        return ended(s, over)
    middle = word(s, MIDDLE)
    fill(middle, n, 0.0)
    for k in range(n):
        p = vertex(s, ranked(s, k))
        for i in range(n):
            put(middle, i, at(middle, i) + at(p, i) / n)
    return try_point(s, 1.0, 2)
"""

nelder_mead = Solver(
    "nelder_mead", _NELDER_MEAD, {"xatol": 1e-4, "fatol": 1e-4, "maxiter": 0.0, "maxfun": 0.0, "adaptive": 0.0},
    vectors=lambda n, m, options: n * (n + 1) + 3 * n + 4 * (n + 1), requests=(1,),
    words=("SIMPLEX", "VALUES", "ORDER", "MIDDLE", "TRIAL", "SECOND", "K"), numbers=("REFLECTED",), parts=(PROJECTED,),
    bounded=True, cite="Nelder and Mead (1965); Lagarias, Reeds, Wright and Wright (1998); Gao and Han (2012)")
