"""Line searches as machines of their own: told the value and slope at a step, each says which step to try next, or that it is done.

`more_thuente` finds a step with the strong Wolfe conditions (lbfgs, bfgs), `hager_zhang` one with the ordinary or the
approximate ones (cg). Source text for solvers; their numbers are words of the solver's state. The tests reach each alone.
"""
from __future__ import annotations

import functools

import numpy as np

from ..cpu.native import Program, make_ufunc
from .machine import FUNCTIONS, MEMORY, constants, typed

# --- More and Thuente ---------------------------------------------------------------------------------------------------
# J. J. More and D. J. Thuente, Line search algorithms with guaranteed sufficient decrease, ACM Trans. Math. Software 20 (1994)
# 286; names and constants as in their MINPACK-2 code. stx: the best step so far, sty: the other end of the interval, f and g:
# value and slope there. `mt_begin` takes the first step; `mt_next` gives 0 while LS_STEP is to be tried, else one of
MT_CODES = ("MT_FOUND", "MT_ROUNDING", "MT_NARROW", "MT_LONGEST", "MT_SHORTEST", "MT_MINUS_INFINITY", "MT_HOPELESS")
MT_NUMBERS = ("LS_STEP", "LS_BRACKETED", "LS_STAGE", "LS_F0", "LS_G0", "LS_STX", "LS_FX", "LS_GX", "LS_STY", "LS_FY", "LS_GY",
              "LS_LOW", "LS_HIGH", "LS_WIDTH", "LS_WIDTH1", "LS_MOST", "LS_CUT", "LS_COUNT")

MORE_THUENTE = "".join(f"{name} = {k + 1}\n" for k, name in enumerate(MT_CODES)) + """
@inline
def mt_begin(s, step, f, slope, most):
    set_number(s, LS_STEP, min(step, most))
    set_number(s, LS_BRACKETED, 0.0)
    set_number(s, LS_STAGE, 1.0)
    set_number(s, LS_F0, f)
    set_number(s, LS_G0, slope)
    set_number(s, LS_STX, 0.0)
    set_number(s, LS_FX, f)
    set_number(s, LS_GX, slope)
    set_number(s, LS_STY, 0.0)
    set_number(s, LS_FY, f)
    set_number(s, LS_GY, slope)
    set_number(s, LS_LOW, 0.0)
    set_number(s, LS_HIGH, 5.0 * step)
    set_number(s, LS_WIDTH, most)
    set_number(s, LS_WIDTH1, 2.0 * most)
    set_number(s, LS_MOST, most)
    set_number(s, LS_CUT, 0.0)
    set_number(s, LS_COUNT, 0.0)

@inline
def mt_root(theta, one, two):
    size = max(abs(theta), abs(one), abs(two))
    return size * sqrt(max(0.0, (theta / size) ** 2 - one / size * (two / size)))

@inline
def mt_trial(stx, fx, gx, sty, fy, gy, stp, fp, gp, bracketed, low, high):
    turned = gp * gx < 0.0
    if fp > fx:
        theta = 3.0 * (fx - fp) / (stp - stx) + gx + gp
        gamma = mt_root(theta, gx, gp)
        if stp < stx:
            gamma = -gamma
        cubic = stx + ((gamma - gx) + theta) / (((gamma - gx) + gamma) + gp) * (stp - stx)
        quadratic = stx + gx / ((fx - fp) / (stp - stx) + gx) / 2.0 * (stp - stx)
        return cubic if abs(cubic - stx) < abs(quadratic - stx) else cubic + (quadratic - cubic) / 2.0
    if turned:
        theta = 3.0 * (fx - fp) / (stp - stx) + gx + gp
        gamma = mt_root(theta, gx, gp)
        if stp > stx:
            gamma = -gamma
        cubic = stp + ((gamma - gp) + theta) / (((gamma - gp) + gamma) + gx) * (stx - stp)
        secant = stp + gp / (gp - gx) * (stx - stp)
        return cubic if abs(cubic - stp) > abs(secant - stp) else secant
    if abs(gp) < abs(gx):
        theta = 3.0 * (fx - fp) / (stp - stx) + gx + gp
        gamma = mt_root(theta, gx, gp)
        if stp > stx:
            gamma = -gamma
        ratio = ((gamma - gp) + theta) / ((gamma + (gx - gp)) + gamma)
        secant = stp + gp / (gp - gx) * (stx - stp)
        if ratio < 0.0 and gamma != 0.0:
            cubic = stp + ratio * (stx - stp)
        else:
            cubic = high if stp > stx else low
        if bracketed:
            step = cubic if abs(cubic - stp) < abs(secant - stp) else secant
            if stp > stx:
                return min(stp + 0.66 * (sty - stp), step)
            return max(stp + 0.66 * (sty - stp), step)
        step = cubic if abs(cubic - stp) > abs(secant - stp) else secant
        return max(low, min(high, step))
    if bracketed:
        theta = 3.0 * (fp - fy) / (sty - stp) + gy + gp
        gamma = mt_root(theta, gy, gp)
        if stp > sty:
            gamma = -gamma
        return stp + ((gamma - gp) + theta) / (((gamma - gp) + gamma) + gy) * (sty - stp)
    return high if stp > stx else low

@inline
def mt_next(s, f, slope, decrease, curvature, narrow):
    stp, most, f0, g0 = number(s, LS_STEP), number(s, LS_MOST), number(s, LS_F0), number(s, LS_G0)
    stx, bracketed, low, high = number(s, LS_STX), number(s, LS_BRACKETED) != 0.0, number(s, LS_LOW), number(s, LS_HIGH)
    if f == -inf:
        return MT_MINUS_INFINITY
    set_number(s, LS_COUNT, number(s, LS_COUNT) + 1.0)
    if number(s, LS_COUNT) > 100.0:
        return MT_HOPELESS
    if not (finite(f) and finite(slope)):       # outside of the domain: no step reaches so far from here on
        set_number(s, LS_MOST, stp)
        set_number(s, LS_CUT, 1.0)
        set_number(s, LS_HIGH, min(high, stp))
        set_number(s, LS_STEP, stx + 0.25 * (stp - stx))
        return 0 if number(s, LS_STEP) != stx and number(s, LS_STEP) != stp else MT_HOPELESS
    test = decrease * g0
    goal = f0 + stp * test
    if number(s, LS_STAGE) == 1.0 and f <= goal and slope >= 0.0:
        set_number(s, LS_STAGE, 2.0)
    if f <= goal and abs(slope) <= curvature * -g0:
        return MT_FOUND
    if bracketed and (stp <= low or stp >= high):
        return MT_ROUNDING
    if bracketed and high - low <= narrow * high:
        return MT_NARROW
    if stp >= most and f <= goal and slope <= test:
        return MT_LONGEST
    if stp <= 0.0:
        return MT_SHORTEST
    fx, gx, sty, fy, gy = number(s, LS_FX), number(s, LS_GX), number(s, LS_STY), number(s, LS_FY), number(s, LS_GY)
    shift = test if number(s, LS_STAGE) == 1.0 and f <= fx and f > goal else 0.0     # their auxiliary function
    fp, fx, fy = f - stp * shift, fx - stx * shift, fy - sty * shift
    gp, gx, gy = slope - shift, gx - shift, gy - shift
    step = mt_trial(stx, fx, gx, sty, fy, gy, stp, fp, gp, bracketed, low, high)
    if fp > fx or gp * gx < 0.0:
        bracketed = True
    if fp > fx:
        sty, fy, gy = stp, fp, gp
    else:
        if gp * gx < 0.0:
            sty, fy, gy = stx, fx, gx
        stx, fx, gx = stp, fp, gp
    if bracketed:
        if abs(sty - stx) >= 0.66 * number(s, LS_WIDTH1):
            step = stx + 0.5 * (sty - stx)
        set_number(s, LS_WIDTH1, number(s, LS_WIDTH))
        set_number(s, LS_WIDTH, abs(sty - stx))
        low, high = min(stx, sty), max(stx, sty)
    else:
        low, high = step + 1.1 * (step - stx), step + 4.0 * (step - stx)
    step = max(0.0, min(most, step))
    if bracketed and (step <= low or step >= high or high - low <= narrow * high):
        step = stx
    set_number(s, LS_BRACKETED, 1.0 if bracketed else 0.0)
    set_number(s, LS_LOW, low)
    set_number(s, LS_HIGH, high)
    set_number(s, LS_STX, stx)
    set_number(s, LS_FX, fx + stx * shift)
    set_number(s, LS_GX, gx + shift)
    set_number(s, LS_STY, sty)
    set_number(s, LS_FY, fy + sty * shift)
    set_number(s, LS_GY, gy + shift)
    set_number(s, LS_STEP, step)
    return 0
"""

# --- Hager and Zhang ----------------------------------------------------------------------------------------------------
# W. W. Hager and H. Zhang, A new conjugate gradient method with guaranteed descent and an efficient line search, SIAM J. Optim.
# 16 (2005) 170, section 4; Algorithm 851, ACM Trans. Math. Software 32 (2006) 113. delta 0.1, sigma 0.9, theta 0.5, gamma 0.66,
# rho 5. [a, b] brackets a minimum: slope(a) < 0, f(a) <= f0 + tolerance, slope(b) >= 0. HZ_PHASE says what HZ_STEP was tried
# for: 1 to find a bracket, 2 the secant, 3 its second half, 4 the middle; HZ_HALVING that [a, HZ_TOP] is being cut in halves
# before that goes on.
HZ_CODES = ("HZ_FOUND", "HZ_STUCK", "HZ_LONGEST", "HZ_MINUS_INFINITY")
HZ_NUMBERS = ("HZ_STEP", "HZ_PHASE", "HZ_HALVING", "HZ_F0", "HZ_G0", "HZ_LIMIT", "HZ_A", "HZ_GA", "HZ_B", "HZ_GB", "HZ_TOP",
              "HZ_OLD_A", "HZ_OLD_GA", "HZ_OLD_B", "HZ_OLD_GB", "HZ_TRIED", "HZ_COUNT", "HZ_BEST", "HZ_BEST_F", "HZ_MOST")

HAGER_ZHANG = "".join(f"{name} = {k + 1}\n" for k, name in enumerate(HZ_CODES)) + """
@inline
def hz_begin(s, step, f, slope, tolerance, most):
    set_number(s, HZ_STEP, min(step, most))
    set_number(s, HZ_PHASE, 1.0)
    set_number(s, HZ_HALVING, 0.0)
    set_number(s, HZ_F0, f)
    set_number(s, HZ_G0, slope)
    set_number(s, HZ_LIMIT, f + tolerance)
    set_number(s, HZ_A, 0.0)
    set_number(s, HZ_GA, slope)
    set_number(s, HZ_COUNT, 0.0)
    set_number(s, HZ_BEST, 0.0)
    set_number(s, HZ_BEST_F, f)
    set_number(s, HZ_MOST, most)

@inline
def hz_secant(a, ga, b, gb):
    return (a * gb - b * ga) / (gb - ga)

@inline
def hz_try(s, phase, c):
    set_number(s, HZ_PHASE, phase)
    set_number(s, HZ_TRIED, c)
    set_number(s, HZ_STEP, c)

@inline
def hz_halve(s, top):
    middle = 0.5 * (number(s, HZ_A) + top)
    set_number(s, HZ_HALVING, 1.0)
    set_number(s, HZ_TOP, top)
    set_number(s, HZ_STEP, middle)

@shared
def hz_round(s):
    a, ga, b, gb = number(s, HZ_A), number(s, HZ_GA), number(s, HZ_B), number(s, HZ_GB)
    set_number(s, HZ_OLD_A, a)
    set_number(s, HZ_OLD_GA, ga)
    set_number(s, HZ_OLD_B, b)
    set_number(s, HZ_OLD_GB, gb)
    c = hz_secant(a, ga, b, gb)
    hz_try(s, 2.0, c if a < c and c < b else 0.5 * (a + b))

@inline
def hz_next(s, f, slope, delta, sigma):
    c, f0, g0 = number(s, HZ_STEP), number(s, HZ_F0), number(s, HZ_G0)
    if f == -inf:
        return HZ_MINUS_INFINITY
    set_number(s, HZ_COUNT, number(s, HZ_COUNT) + 1.0)
    low = f <= number(s, HZ_LIMIT)
    if finite(f) and finite(slope):
        if slope >= sigma * g0 and (f - f0 <= delta * c * g0 or (slope <= (2.0 * delta - 1.0) * g0 and low)):
            return HZ_FOUND
        if f < number(s, HZ_BEST_F):
            set_number(s, HZ_BEST, c)
            set_number(s, HZ_BEST_F, f)
    else:
        low = False
    if number(s, HZ_COUNT) > 100.0:
        return HZ_STUCK
    phase = number(s, HZ_PHASE)
    up = slope >= 0.0 and finite(f)
    if number(s, HZ_HALVING) != 0.0:
        if not up:
            if low:
                set_number(s, HZ_A, c)
                set_number(s, HZ_GA, slope)
                hz_halve(s, number(s, HZ_TOP))
            else:
                hz_halve(s, c)
            step = number(s, HZ_STEP)
            return 0 if number(s, HZ_A) < step and step < number(s, HZ_TOP) else HZ_STUCK
        set_number(s, HZ_HALVING, 0.0)
        set_number(s, HZ_B, c)
        set_number(s, HZ_GB, slope)
        if phase == 1.0:
            hz_round(s)
            return 0
    elif phase == 1.0:
        if up:
            set_number(s, HZ_B, c)
            set_number(s, HZ_GB, slope)
            hz_round(s)
        elif low:
            if c >= number(s, HZ_MOST):
                return HZ_LONGEST
            set_number(s, HZ_A, c)
            set_number(s, HZ_GA, slope)
            set_number(s, HZ_STEP, min(5.0 * c, number(s, HZ_MOST)))
        else:
            hz_halve(s, c)
        return 0
    elif up:
        set_number(s, HZ_B, c)
        set_number(s, HZ_GB, slope)
    elif low:
        set_number(s, HZ_A, c)
        set_number(s, HZ_GA, slope)
    else:
        hz_halve(s, c)
        return 0
    a, ga, b, gb = number(s, HZ_A), number(s, HZ_GA), number(s, HZ_B), number(s, HZ_GB)
    if not (b - a > 1e-16 * b):
        return HZ_STUCK
    if phase == 2.0:
        tried = number(s, HZ_TRIED)
        c = a
        if tried == b:
            c = hz_secant(number(s, HZ_OLD_B), number(s, HZ_OLD_GB), b, gb)
        elif tried == a:
            c = hz_secant(number(s, HZ_OLD_A), number(s, HZ_OLD_GA), a, ga)
        if a < c and c < b:
            hz_try(s, 3.0, c)
            return 0
    if phase != 4.0 and b - a > 0.66 * (number(s, HZ_OLD_B) - number(s, HZ_OLD_A)):
        hz_try(s, 4.0, 0.5 * (a + b))
        return 0
    hz_round(s)
    return 0
"""

# --- each part alone ----------------------------------------------------------------------------------------------------
_ALONE = """
def kernel(args, dimensions, steps, data):
    for outer in range(dimensions[0]):
        s, p = address(args[0]) + outer * steps[0], address(args[1]) + outer * steps[1]
        f, slope, first, second, third = number(p, 0), number(p, 1), number(p, 2), number(p, 3), number(p, 4)
        if word(s, 0) == 0:
            set_word(s, 0, 1)
            {begin}
            code = 0
        else:
            code = {next}
        set_word(address(args[2]) + outer * steps[2], 0, code)
"""


@functools.cache
def alone(name: str) -> np.ufunc:
    """A line search as a gufunc "(w),(p)->()", `more_thuente` or `hager_zhang`, in float64.

    `w`: 32 words, zero at first; word 1 is then the step to be tried. `p`: value, slope, and for the first call (step, most,
    tolerance), later (decrease, curvature, narrow) of `more_thuente` or (delta, sigma, 0) of `hager_zhang`. Result: 0 to go on,
    else a code."""
    if name == "more_thuente":
        text, names = MORE_THUENTE, MT_NUMBERS
        begin, step = "mt_begin(s, first, f, slope, second)", "mt_next(s, f, slope, first, second, third)"
    else:
        text, names = HAGER_ZHANG, HZ_NUMBERS
        begin, step = "hz_begin(s, first, f, slope, third, second)", "hz_next(s, f, slope, first, second)"
    places = {n: 1 + k for k, n in enumerate(names)}
    source = constants(places) + typed(MEMORY + text, "float64") + _ALONE.replace(
        "{begin}", begin).replace("{next}", step)
    return make_ufunc(Program(name, source, functions=dict(FUNCTIONS), inputs=("int64", "float64"), outputs=("int64",),
                              signature="(w),(p)->()"))
