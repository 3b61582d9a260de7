"""Newton's methods inside a trust region: `newton` with the whole Hessian, `newton_cg` with its products with vectors.

Both take a step that minimises the quadratic model in a ball (`trust_region`), judge it by what the function really did, and so
go down along directions of negative curvature as well. Called through `kernels.solvers`.
"""
from __future__ import annotations

from .dense import CHOLESKY
from .machine import HESSIAN, PRODUCT, VALUE_AND_GRAD, Solver
from .trust_region import BALL, MORE_SORENSEN, STEIHAUG

# What both share: `start` after the first evaluation, `judge` after one at a trial point; each gives a status, or 0 to go on.
# Nocedal and Wright, Numerical Optimization (2006), Algorithm 4.1. Changes that rounding hides count as the model's.
_JUDGE = """
@inline
def start(s):
    f = value_of(s)
    set_number(s, NOW_F, f)
    set_number(s, RADIUS, number(s, INITIAL_TRUST_RADIUS))
    size = largest(word(s, G), word(s, N))
    if f == -inf:
        return UNBOUNDED
    if not (finite(f) and finite(size)):
        return NOT_A_NUMBER
    if size <= number(s, GTOL):
        return SMALL_GRADIENT
    return 0

@inline
def try_step(s, step):
    n, x, y = word(s, N), word(s, NOW_X), word(s, OTHER_X)
    for i in range(n):
        put(y, i, at(x, i) + at(step, i))
    set_word(s, X, y)
    set_word(s, G, word(s, OTHER_G))

@inline
def judge(s, step, decrease, at_boundary):
    n, f, old = word(s, N), value_of(s), number(s, NOW_F)
    size, length = largest(word(s, OTHER_G), n), norm(step, n)
    noise = 10.0 * number(s, EPS) * abs(old)
    ratio = -1.0
    if f == -inf:
        ratio = 1.0
    elif finite(f) and finite(size):
        if decrease <= noise and abs(old - f) <= noise:
            ratio = 1.0 if at_boundary or size <= largest(word(s, NOW_G), n) else 0.0
        elif decrease > 0.0:
            ratio = (old - f) / decrease
    radius = number(s, RADIUS)
    set_number(s, RADIUS, new_radius(radius, ratio, length, at_boundary, number(s, MAX_TRUST_RADIUS)))
    set_word(s, NIT, word(s, NIT) + 1)
    set_word(s, ACCEPTED, 0)
    if ratio > number(s, ETA):
        set_word(s, ACCEPTED, 1)
        x, g = word(s, NOW_X), word(s, NOW_G)
        set_word(s, NOW_X, word(s, OTHER_X))
        set_word(s, NOW_G, word(s, OTHER_G))
        set_word(s, OTHER_X, x)
        set_word(s, OTHER_G, g)
        set_number(s, NOW_F, f)
        if f == -inf:
            return UNBOUNDED
        if size <= number(s, GTOL):
            return SMALL_GRADIENT
        if not at_boundary and (decrease <= noise or old - f <= number(s, FTOL) * abs(old)):
            return SMALL_CHANGE
        if radius >= number(s, MAX_TRUST_RADIUS) and at_boundary:
            return UNBOUNDED
    elif decrease <= noise and finite(f) and not at_boundary:
        return SMALL_CHANGE
    elif number(s, RADIUS) <= number(s, EPS) * number(s, EPS) * norm(word(s, NOW_X), n) or number(s, RADIUS) < 1e-300:
        return NO_PROGRESS if finite(f) else NOT_A_NUMBER
    return 0

@inline
def buffers(s):
    n = word(s, N)
    take_word(s, OTHER_X, n)
    take_word(s, OTHER_G, n)
"""

# Stages: 1 the start, 2 the Hessian is there (or still holds), 3 a trial point, 4 after an accepted step. Where conjugate
# gradients end inside the ball their step is taken, as exact as the gradient is small (Dembo, Eisenstat and Steihaug, SIAM J.
# Numer. Anal. 19 (1982) 400): far from a minimum this finds lower ones than the model's own minimum does. At the boundary, and
# where that step would gain little (a narrow valley), the step is exact.
_NEWTON = """
@inline
def advance(s):
    n, stage = word(s, N), word(s, STAGE)
    if stage == 0:
        buffers(s)
        take_word(s, H, n * n)
        take_word(s, FACTOR, n * n)
        take_word(s, STEP, n)
        take_word(s, LEFT, n)
        take_word(s, RIGHT, n)
        set_word(s, STAGE, 1)
        return VALUE_AND_GRAD
    if stage == 1:
        status = start(s)
        if status != 0:
            return ended(s, status)
        stage = 4
    elif stage == 3:
        status = judge(s, word(s, STEP), number(s, DECREASE), word(s, AT_BOUNDARY) != 0)
        if status != 0:
            return ended(s, status)
        set_word(s, STAGE, 4 if word(s, ACCEPTED) != 0 else 2)
        return ITERATION
    status = over_limits(s)
    if status != 0:
        return ended(s, status)
    if stage == 4:
        set_word(s, X, word(s, NOW_X))
        set_word(s, R, word(s, H))
        set_word(s, STAGE, 2)
        return HESSIAN
    h, g, step = word(s, H), word(s, NOW_G), word(s, STEP)
    if not finite(largest(h, n * n)):
        return ended(s, NOT_A_NUMBER)
    size, about, image = norm(g, n), place_of_word(s, MODEL), word(s, FACTOR)
    steihaug_begin(g, step, word(s, LEFT), word(s, RIGHT), n, number(s, RADIUS), min(0.5, sqrt(size)) * size, about)
    code, inner = 0, 0
    while code == 0 and inner < 2 * n + 10:
        for i in range(n):
            put(image, i, dot(place(h, i * n), word(s, RIGHT), n))
        code, inner = steihaug_step(step, word(s, LEFT), word(s, RIGHT), image, n, about), inner + 1
    boundary = False
    if code != 1 or -number(s, MODEL) <= 1e-4 * abs(number(s, NOW_F)):
        boundary = more_sorensen(h, g, n, number(s, RADIUS), step, word(s, FACTOR), word(s, LEFT), word(s, RIGHT), number(s, EPS))
    set_word(s, AT_BOUNDARY, 1 if boundary else 0)
    decrease = -dot(g, step, n)
    for i in range(n):
        decrease -= 0.5 * at(step, i) * dot(place(h, i * n), step, n)
    set_number(s, DECREASE, decrease)
    try_step(s, step)
    set_word(s, STAGE, 3)
    return VALUE_AND_GRAD
"""

# Stages: 1 the start, 2 a product is there, 3 a trial point, 4 a new iterate or a smaller ball. The tolerance of the inner
# iteration is min(0.5, sqrt |g|) |g|, for superlinear convergence (Nocedal and Wright 2006, Algorithm 7.1).
_NEWTON_CG = """
@inline
def advance(s):
    n, stage = word(s, N), word(s, STAGE)
    about = place_of_word(s, MODEL)
    if stage == 0:
        buffers(s)
        take_word(s, STEP, n)
        take_word(s, REST, n)
        take_word(s, DIRECTION, n)
        take_word(s, IMAGE, n)
        set_word(s, STAGE, 1)
        return VALUE_AND_GRAD
    if stage == 1:
        status = start(s)
        if status != 0:
            return ended(s, status)
    elif stage == 2:
        code = steihaug_step(word(s, STEP), word(s, REST), word(s, DIRECTION), word(s, IMAGE), n, about)
        if not finite(number(s, MODEL)):
            return ended(s, NOT_A_NUMBER)
        set_word(s, INNER, word(s, INNER) + 1)
        if code == 0 and word(s, INNER) < 2 * n + 10:
            return PRODUCT
        set_word(s, AT_BOUNDARY, 1 if code == 2 else 0)
        try_step(s, word(s, STEP))
        set_word(s, STAGE, 3)
        return VALUE_AND_GRAD
    elif stage == 3:
        status = judge(s, word(s, STEP), -number(s, MODEL), word(s, AT_BOUNDARY) != 0)
        if status != 0:
            return ended(s, status)
        set_word(s, STAGE, 4)
        return ITERATION
    status = over_limits(s)
    if status != 0:
        return ended(s, status)
    g = word(s, NOW_G)
    size = norm(g, n)
    steihaug_begin(g, word(s, STEP), word(s, REST), word(s, DIRECTION), n, number(s, RADIUS), min(0.5, sqrt(size)) * size, about)
    set_word(s, INNER, 0)
    set_word(s, X, word(s, NOW_X))
    set_word(s, P, word(s, DIRECTION))
    set_word(s, R, word(s, IMAGE))
    set_word(s, STAGE, 2)
    return PRODUCT
"""

_OPTIONS = {"gtol": (1e-5, 1e-3), "ftol": 0.0, "maxiter": 10000.0, "maxfun": 15000.0, "initial_trust_radius": 1.0,
            "max_trust_radius": (1e100, 1e30), "eta": 0.15, "eps": (2.3e-16, 1.2e-7)}

newton = Solver("newton", _NEWTON, _OPTIONS, vectors=lambda n, m, options: 2 * n * n + 6 * n,
                words=("OTHER_X", "OTHER_G", "ACCEPTED", "AT_BOUNDARY", "H", "FACTOR", "STEP", "LEFT", "RIGHT"),
                numbers=("RADIUS", "DECREASE", "MODEL", "SQUARES", "BALL_RADIUS", "TOLERANCE"),
                parts=(CHOLESKY, BALL, MORE_SORENSEN, STEIHAUG, _JUDGE), requests=(VALUE_AND_GRAD, HESSIAN),
                cite="More and Sorensen, Computing a trust region step, SIAM J. Sci. Stat. Comput. 4 (1983) 553; Conn, Gould and "
                     "Toint, Trust-Region Methods (2000), Algorithm 7.3.4")

newton_cg = Solver("newton-cg", _NEWTON_CG, _OPTIONS, vectors=lambda n, m, options: 6 * n,
                   words=("OTHER_X", "OTHER_G", "ACCEPTED", "AT_BOUNDARY", "STEP", "REST", "DIRECTION", "IMAGE", "INNER"),
                   numbers=("RADIUS", "MODEL", "SQUARES", "BALL_RADIUS", "TOLERANCE"), parts=(BALL, STEIHAUG, _JUDGE),
                   requests=(VALUE_AND_GRAD, PRODUCT),
                   cite="Steihaug, The conjugate gradient method and trust regions in large scale optimization, SIAM J. Numer. "
                        "Anal. 20 (1983) 626; Nocedal and Wright, Numerical Optimization (2006), Algorithm 7.2")
