"""BFGS: quasi-Newton steps with a dense approximation of the inverse Hessian, n * n numbers, and a strong Wolfe line search."""
from __future__ import annotations

from . import vectors
from .lbfgs import QUASI_NEWTON, SEARCH_NUMBERS, SEARCH_WORDS
from .line_search import MORE_THUENTE
from .machine import Solver

# Nocedal and Wright, Numerical Optimization (2006), Algorithm 6.1: equation 6.17 for H, scaled before its first change by 6.20.
_BFGS = """
@shared
def identity(h, n, scale):
    fill(h, n * n, 0.0)
    for i in range(n):
        put(h, i * n + i, scale)

@inline
def take_memory(s, n):
    identity(take_word(s, H, n * n), n, 1.0)
    take_word(s, HY, n)

@shared
def direction(s):
    n, g, h, d = word(s, N), word(s, NOW_G), word(s, H), word(s, D)
    if word(s, COUNT) == 0:
        identity(h, n, 1.0)
    slope = 0.0
    for i in range(n):
        value = -dot(place(h, i * n), g, n)
        put(d, i, value)
        slope += value * at(g, i)
    return slope

@inline
def remember(s, x, g, old_x, old_g):
    n, h, w = word(s, N), word(s, H), word(s, HY)
    product, square = pair(s, n, x, g, old_x, old_g)
    if not (product > 2.2e-16 * square and finite(square)):
        return 0
    if word(s, COUNT) == 0:
        identity(h, n, product / square)
    curvature = 0.0
    for i in range(n):
        value = dot(place(h, i * n), old_g, n)
        put(w, i, value)
        curvature += value * at(old_g, i)
    weight = (product + curvature) / product
    for i in range(n):
        change, own = at(old_x, i) / product, at(w, i) / product
        for j in range(n):
            put(h, i * n + j, at(h, i * n + j) + (weight * change - own) * at(old_x, j) - change * at(w, j))
    set_word(s, COUNT, word(s, COUNT) + 1)
    return 1
"""

bfgs = Solver(
    "bfgs", _BFGS + QUASI_NEWTON,
    {"gtol": (1e-5, 1e-3), "ftol": 0.0, "maxiter": 15000.0, "maxfun": 15000.0, "decrease": 1e-4, "curvature": 0.9},
    vectors=lambda n, m, options: n * n + 4 * n + vectors.room(n), words=("COUNT", "H", "HY", "PARTS", *SEARCH_WORDS),
    numbers=SEARCH_NUMBERS, parts=(vectors.VECTORS, MORE_THUENTE), matrices={"hess_inv": "H"},
    cite="Nocedal and Wright, Numerical Optimization (2006), Algorithm 6.1; line search: More and Thuente (1994)")
