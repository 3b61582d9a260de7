"""Least squares: the Levenberg-Marquardt method as MINPACK's lmder has it, with bounds and robust losses as SciPy's "trf" has them.

The step minimises |J p + r| in a scaled ball, by a QR factorisation of J (`dense`, `trust_region.DAMPED_STEP`). Inside bounds the
variables are scaled by their distance to the bound that the gradient points to, and a step that leaves is reflected or cut short.
A loss other than "linear" rescales residuals and Jacobian before each step. Called by engine.optimize.least_squares.

paper (Branch, Coleman and Li) -> ours: v, dv -> v, dv;  D -> HAT (sqrt(v) times the scale);  C -> CURVE;  theta -> theta
"""
from __future__ import annotations

from .. import libm
from .dense import DAMPED, QR
from .machine import JACOBIAN, RESIDUALS, Solver
from .trust_region import BALL, DAMPED_STEP

LOSSES = {"linear": 0, "soft_l1": 1, "huber": 2, "cauchy": 3, "arctan": 4}

# rho(z) and its two derivatives at z = (r / f_scale)^2. Triggs et al., Bundle Adjustment, A Modern Synthesis (2000), appendix B
LOSS = """
@inline
def loss_at(kind, z):
    if kind == 1:
        t = sqrt(1.0 + z)
        return 2.0 * (t - 1.0), 1.0 / t, -0.5 / (t * t * t)
    if kind == 2:
        if z <= 1.0:
            return z, 1.0, 0.0
        t = sqrt(z)
        return 2.0 * t - 1.0, 1.0 / t, -0.5 / (t * z)
    if kind == 3:
        return log1p(z), 1.0 / (1.0 + z), -1.0 / ((1.0 + z) * (1.0 + z))
    if kind == 4:
        t = 1.0 / (1.0 + z * z)
        return atan(z), t, -2.0 * z * t * t
    return z, 1.0, 0.0

@inline
def cost_of(s, r):
    kind, scale, total = int(number(s, LOSS)), number(s, F_SCALE), 0.0
    for i in range(word(s, M)):
        z = at(r, i) / scale
        value, first, second = loss_at(kind, z * z)
        total += value
    return 0.5 * total * scale * scale

@inline
def scale_by_loss(s, r, jacobian, scaled):
    n, kind, scale = word(s, N), int(number(s, LOSS)), number(s, F_SCALE)
    for i in range(word(s, M)):
        z = at(r, i) / scale
        value, first, second = loss_at(kind, z * z)
        weight = sqrt(max(first + 2.0 * second * z * z, number(s, EPS)))
        put(scaled, i, at(r, i) * first / weight)
        if kind != 0:
            for j in range(n):
                put(jacobian, i * n + j, at(jacobian, i * n + j) * weight)
"""

# Branch, Coleman and Li, SIAM J. Sci. Comput. 21 (1999) 1: distances to bounds, reflected steps, and the choice between three
# steps.
BOUNDED = """
@inline
def distances(s, scaled):
    # v in HAT, dv in CURVE, for the gradient at RESULT_G
    n, x, g, hat, curve = word(s, N), word(s, NOW_X), word(s, GRADIENT), word(s, HAT), word(s, CURVE)
    for i in range(n):
        v, dv = 1.0, 0.0
        if word(s, BOUNDS) != 0:
            if at(g, i) < 0.0 and at(word(s, UPPER), i) < inf:
                v, dv = at(word(s, UPPER), i) - at(x, i), -1.0
            if at(g, i) > 0.0 and at(word(s, LOWER), i) > -inf:
                v, dv = at(x, i) - at(word(s, LOWER), i), 1.0
            if dv != 0.0 and scaled:
                v /= at(word(s, SCALE), i)
        put(hat, i, v)
        put(curve, i, dv)

@inline
def to_bound(s, x, d):
    least = inf
    for i in range(word(s, N)):
        step = at(d, i)
        if step != 0.0:
            bound = at(word(s, UPPER), i) if step > 0.0 else at(word(s, LOWER), i)
            least = min(least, (bound - at(x, i)) / step)
    return least

@inline
def curvature(s, d, e):
    # d' (J_h' J_h + C) e in the scaled variables, from R of the augmented matrix
    n, r, total = word(s, N), word(s, A), 0.0
    for i in range(n):
        left, right = 0.0, 0.0
        for j in range(i, n):
            k = as_int64(at(word(s, PIVOTS), j))
            left += at(r, i * n + j) * at(d, k)
            right += at(r, i * n + j) * at(e, k)
        total += left * right
    return total

@inline
def best_on_segment(a, b, low, high):
    best = low if low * (a * low + b) < high * (a * high + b) else high
    if a != 0.0:
        middle = -0.5 * b / a
        if low < middle and middle < high and middle * (a * middle + b) < best * (a * best + b):
            best = middle
    return best

@inline
def scaled_slope(s, d):
    total = 0.0
    for i in range(word(s, N)):
        total += at(word(s, HAT), i) * at(word(s, GRADIENT), i) * at(d, i)
    return total

@inline
def choose_step(s, theta):
    # STEP is the step of the scaled variables; gives the decrease that the model expects
    n, x, step, real, other = word(s, N), word(s, NOW_X), word(s, STEP), word(s, REAL), word(s, OTHER_STEP)
    hat = word(s, HAT)
    for i in range(n):
        put(real, i, at(hat, i) * at(step, i))
    if word(s, BOUNDS) == 0:
        return -(scaled_slope(s, step) + 0.5 * curvature(s, step, step))
    stride = to_bound(s, x, real)
    if stride >= 1.0:
        return -(scaled_slope(s, step) + 0.5 * curvature(s, step, step))
    radius, y = number(s, RADIUS), word(s, OTHER_X)
    # the reflected step, from the point where STEP meets a bound
    for i in range(n):
        bound = inf
        if at(real, i) > 0.0:
            bound = (at(word(s, UPPER), i) - at(x, i)) / at(real, i)
        elif at(real, i) < 0.0:
            bound = (at(word(s, LOWER), i) - at(x, i)) / at(real, i)
        put(other, i, -at(step, i) if bound == stride else at(step, i))
        put(step, i, stride * at(step, i))
        put(y, i, at(x, i) + stride * at(real, i))
        put(real, i, at(hat, i) * at(other, i))
    before, to_ball = crossings(step, other, n, radius)
    reach = to_bound(s, y, real)
    least, most = 0.0, -1.0
    if min(reach, to_ball) > 0.0:
        least = (1.0 - theta) * stride / min(reach, to_ball)
        most = theta * reach if reach <= to_ball else to_ball
    slope = scaled_slope(s, step)
    bend = curvature(s, step, step)
    reflected, along = inf, 0.0
    if least <= most:
        a = 0.5 * curvature(s, other, other)
        b = scaled_slope(s, other) + curvature(s, step, other)
        along = best_on_segment(a, b, least, most)
        reflected = along * (a * along + b) + slope + 0.5 * bend
    cut = theta * slope + 0.5 * theta * theta * bend
    # steepest descent, the other choice
    descent, length = word(s, DESCENT), 0.0
    for i in range(n):
        value = -at(hat, i) * at(word(s, GRADIENT), i)
        put(descent, i, value)
        length += value * value
        put(real, i, at(hat, i) * value)
    reach = to_bound(s, x, real)
    to_ball = radius / sqrt(length) if length > 0.0 else 0.0
    a, b = 0.5 * curvature(s, descent, descent), scaled_slope(s, descent)
    down = best_on_segment(a, b, 0.0, theta * reach if reach < to_ball else to_ball)
    descending = down * (a * down + b)
    if cut < reflected and cut < descending:
        value = cut
        for i in range(n):
            put(step, i, theta * at(step, i))
    elif reflected < descending:
        value = reflected
        for i in range(n):
            put(step, i, at(step, i) + along * at(other, i))
    else:
        value = descending
        for i in range(n):
            put(step, i, down * at(descent, i))
    for i in range(n):
        put(real, i, at(hat, i) * at(step, i))
    return -value

@inline
def keep_inside(s, y):
    # strictly: at a bound the scaling would be zero
    if word(s, BOUNDS) == 0:
        return
    for i in range(word(s, N)):
        low, high, value = at(word(s, LOWER), i), at(word(s, UPPER), i), at(y, i)
        if value <= low:
            value = low + 2.0 * number(s, EPS) * max(abs(low), 1e-292)
        if value >= high:
            value = high - 2.0 * number(s, EPS) * max(abs(high), 1e-292)
        if not (low <= value and value <= high):
            value = 0.5 * (low + high)
        put(y, i, value)
"""

# Stages: 1 the first residuals, 2 residuals and Jacobian of a new iterate, 3 the iterate is known, 4 residuals at a trial point.
_LM = """
@inline
def optimality(s):
    most = 0.0
    for i in range(word(s, N)):
        size = abs(at(word(s, GRADIENT), i) * at(word(s, HAT), i))
        if not size <= most:
            most = size
    return most

@inline
def iterate(s):
    n, m, jacobian, g = word(s, N), word(s, M), word(s, JAC), word(s, GRADIENT)
    scale_by_loss(s, word(s, NOW_R), jacobian, word(s, SCALED))
    for j in range(n):
        total, size = 0.0, 0.0
        for i in range(m):
            total += at(jacobian, i * n + j) * at(word(s, SCALED), i)
            size += at(jacobian, i * n + j) * at(jacobian, i * n + j)
        put(g, j, total)
        if number(s, SCALING) != 0.0:       # the scale is one over the largest norm that the column has had
            size = sqrt(size)
            if word(s, NIT) == 0:
                put(word(s, SCALE), j, 1.0 / size if size > 0.0 else 1.0)
            elif size * at(word(s, SCALE), j) > 1.0:
                put(word(s, SCALE), j, 1.0 / size)

@inline
def factorise(s):
    n, m, a = word(s, N), word(s, M), word(s, A)
    hat, curve, scale, g = word(s, HAT), word(s, CURVE), word(s, SCALE), word(s, GRADIENT)
    distances(s, True)
    for j in range(n):
        put(curve, j, at(g, j) * at(curve, j) * at(scale, j))
        put(hat, j, sqrt(at(hat, j)) * at(scale, j))
    for i in range(m):
        for j in range(n):
            put(a, i * n + j, at(word(s, JAC), i * n + j) * at(hat, j))
        put(word(s, B), i, at(word(s, SCALED), i))
    for i in range(m, m + n):
        fill(place(a, i * n), n, 0.0)
        put(word(s, B), i, 0.0)
    rows = m if m >= n else n
    if word(s, BOUNDS) != 0:
        rows = m + n
        for j in range(n):
            put(a, (m + j) * n + j, sqrt(max(at(curve, j), 0.0)))
    factor_pivoted(a, rows, n, word(s, PIVOTS), word(s, LEFT), word(s, RIGHT), word(s, B), number(s, EPS))

@inline
def advance(s):
    n, m, stage = word(s, N), word(s, M), word(s, STAGE)
    if stage == 0:
        take_word(s, OTHER_X, n)
        set_word(s, GRADIENT, word(s, RESULT_G))
        take_word(s, SCALE, n)
        take_word(s, NOW_R, m)
        take_word(s, OTHER_R, m)
        take_word(s, SCALED, m)
        take_word(s, JAC, m * n)
        take_word(s, A, (m + n) * n)
        take_word(s, B, m + n)
        take_word(s, TRIANGLE, n * n)
        take_word(s, HAT, n)
        take_word(s, CURVE, n)
        take_word(s, PIVOTS, n)
        take_word(s, LEFT, n)
        take_word(s, RIGHT, n)
        take_word(s, THIRD, n)
        take_word(s, STEP, n)
        take_word(s, REAL, n)
        take_word(s, OTHER_STEP, n)
        take_word(s, DESCENT, n)
        if word(s, SCALES) != 0:
            copy(word(s, SCALES), word(s, SCALE), n)
        else:
            fill(word(s, SCALE), n, 1.0)
        set_word(s, R, word(s, NOW_R))
        set_word(s, STAGE, 1)
        return RESIDUALS
    if stage == 1:
        cost = cost_of(s, word(s, NOW_R))
        set_number(s, NOW_F, cost)
        if not finite(cost):
            return ended(s, NOT_A_NUMBER)
        set_word(s, R, word(s, NOW_R))
        set_word(s, G, word(s, JAC))
        set_word(s, STAGE, 2)
        return JACOBIAN
    if stage == 2:
        if not finite(largest(word(s, JAC), m * n)):
            return ended(s, NOT_A_NUMBER)
        iterate(s)
        first = word(s, RADIUS_KNOWN) == 0
        if first:
            distances(s, True)
            total = 0.0
            for i in range(n):
                ratio = at(word(s, NOW_X), i) / (sqrt(at(word(s, HAT), i)) * at(word(s, SCALE), i))
                total += ratio * ratio
            factor = 1.0 if word(s, BOUNDS) != 0 else number(s, FACTOR)
            set_number(s, RADIUS, factor * (sqrt(total) if total > 0.0 else 1.0))
            set_word(s, RADIUS_KNOWN, 1)
        distances(s, False)
        size = optimality(s)
        set_number(s, OPTIMALITY, size)
        if size <= number(s, GTOL):
            return ended(s, SMALL_GRADIENT)
        if word(s, PENDING) != 0:
            return ended(s, word(s, PENDING))
        set_word(s, STAGE, 3)
        if not first:
            return ITERATION
        stage = 3
    if stage == 3:
        factorise(s)
    elif stage == 4:
        cost, old = cost_of(s, word(s, OTHER_R)), number(s, NOW_F)
        length, expected, radius = norm(word(s, STEP), n), number(s, EXPECTED), number(s, RADIUS)
        if word(s, NIT) == 0 and word(s, BOUNDS) == 0:
            radius = min(radius, length)
        if finite(cost):
            actual = old - cost
            ratio = actual / expected if expected > 0.0 else 0.0
            if ratio <= 0.25:
                slope, shrink = scaled_slope(s, word(s, STEP)), 0.5
                if actual < 0.0:            # the minimum of the parabola through both values and the slope
                    shrink = 0.5 * slope / (slope + actual)
                if cost >= 100.0 * old or not shrink >= 0.1:
                    shrink = 0.1
                radius = shrink * min(radius, 10.0 * length)
                set_number(s, PAR, number(s, PAR) / shrink)
            elif number(s, PAR) == 0.0 or ratio >= 0.75:
                radius = max(2.0 * length, radius if word(s, BOUNDS) != 0 else 0.0)
                set_number(s, PAR, 0.5 * number(s, PAR))
            moved, reached = norm(word(s, REAL), n), norm(word(s, NOW_X), n)
            status = 0
            if abs(actual) <= number(s, FTOL) * old and expected <= number(s, FTOL) * old and ratio <= 2.0:
                status = SMALL_CHANGE
            if moved <= number(s, XTOL) * (number(s, XTOL) + reached):
                status = SMALL_STEP if status == 0 else SMALL_CHANGE
            if expected <= number(s, EPS) * old and abs(actual) <= number(s, EPS) * old:
                status = SMALL_CHANGE
        else:
            ratio, status, actual = -1.0, 0, -1.0
            radius = 0.25 * min(radius, length)
            set_number(s, PAR, 4.0 * number(s, PAR))
            if radius <= 1e-300 or radius <= number(s, EPS) * number(s, EPS):
                status = NOT_A_NUMBER
        set_number(s, RADIUS, radius)
        if ratio >= 1e-4 and actual > 0.0:
            x, r = word(s, NOW_X), word(s, NOW_R)
            set_word(s, NOW_X, word(s, OTHER_X))
            set_word(s, OTHER_X, x)
            set_word(s, NOW_R, word(s, OTHER_R))
            set_word(s, OTHER_R, r)
            set_number(s, NOW_F, cost)
            set_word(s, NIT, word(s, NIT) + 1)
            set_word(s, PENDING, status)
            set_word(s, X, word(s, NOW_X))
            set_word(s, R, word(s, NOW_R))
            set_word(s, G, word(s, JAC))
            set_word(s, STAGE, 2)
            return JACOBIAN
        if status != 0:
            return ended(s, status)
    status = over_limits(s)
    if status != 0:
        return ended(s, status)
    par = damped_step(word(s, A), n, word(s, PIVOTS), word(s, B), number(s, RADIUS), number(s, PAR), word(s, STEP),
                      word(s, TRIANGLE), word(s, LEFT), word(s, RIGHT), word(s, THIRD))
    set_number(s, PAR, par)
    set_number(s, EXPECTED, choose_step(s, max(0.995, 1.0 - number(s, OPTIMALITY))))
    x, y, real = word(s, NOW_X), word(s, OTHER_X), word(s, REAL)
    for i in range(n):
        put(y, i, at(x, i) + at(real, i))
    keep_inside(s, y)
    set_word(s, X, y)
    set_word(s, R, word(s, OTHER_R))
    set_word(s, STAGE, 4)
    return RESIDUALS
"""


def _log1p(x):
    return libm.log1p(x)


def _atan(x):
    return libm.atan(x)


levenberg_marquardt = Solver(
    "levenberg-marquardt", _LM,
    {"ftol": (1e-8, 1e-5), "xtol": (1e-8, 1e-5), "gtol": (1e-8, 1e-5), "maxiter": 1e9, "maxfun": 1e9, "loss": 0.0, "f_scale": 1.0,
     "scaling": 1.0, "factor": 100.0, "eps": (2.3e-16, 1.2e-7)},
    vectors=lambda n, m, options: m * n + (m + n) * (n + 1) + 3 * m + n * n + 12 * n,
    words=("OTHER_X", "GRADIENT", "SCALE", "SCALES", "NOW_R", "OTHER_R", "SCALED", "JAC", "A", "B", "TRIANGLE", "HAT", "CURVE",
           "PIVOTS", "LEFT", "RIGHT", "THIRD", "STEP", "REAL", "OTHER_STEP", "DESCENT", "PENDING", "RADIUS_KNOWN"),
    numbers=("RADIUS", "PAR", "EXPECTED", "OPTIMALITY"), parts=(QR, DAMPED, BALL, DAMPED_STEP, LOSS, BOUNDED),
    requests=(RESIDUALS, JACOBIAN), bounded=True, functions={"log1p": (_log1p, None), "atan": (_atan, None)},
    cite="More, The Levenberg-Marquardt algorithm, Lecture Notes in Mathematics 630 (1978) 105; Branch, Coleman and Li, A "
         "subspace, interior, and conjugate gradient method for large-scale bound-constrained minimization, SIAM J. Sci. "
         "Comput. 21 (1999) 1")
