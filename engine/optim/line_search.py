"""A line search for the strong Wolfe conditions: first a bracket around an acceptable step, then zooming into it.

    f(t) <= f(0) + c1 t f'(0)       and       |f'(t)| <= c2 |f'(0)|

Source: Nocedal and Wright, Numerical Optimization (2006), algorithms 3.5 and 3.6, with cubic interpolation (equation 3.59)
and the safeguards that PyTorch's and minFunc's searches share, so that they visit the same points. Called by `LBFGS`;
knows nothing of tensors: a point is what `evaluate(t)` returns.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple


class Point(NamedTuple):
    """A step along the direction: its length, the value there, the slope f'(t), and the gradient the caller wants back."""

    t: float
    value: float
    slope: float
    gradient: Any


def cubic_minimum(a: Point, b: Point, low: float, high: float) -> float:
    """Where the cubic through two values and slopes is smallest, within [low, high].

    The middle if there is no such place: values or slopes that are not finite, no minimum, or a single point.
    """
    if a.t > b.t:
        a, b = b, a
    middle = (low + high) / 2
    if a.t == b.t:
        return middle
    d1 = a.slope + b.slope - 3 * (a.value - b.value) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if not 0 <= square < math.inf:
        return middle
    d2 = math.sqrt(square)
    divisor = b.slope - a.slope + 2 * d2
    if divisor == 0:
        return middle
    return min(max(b.t - (b.t - a.t) * ((b.slope + d2 - d1) / divisor), low), high)


def strong_wolfe(evaluate: Callable[[float], Point], start: Point, t: float, length: float, c1: float = 1e-4, c2: float = 0.9,
                 tolerance: float = 1e-9, most: int = 25) -> tuple[Point, int]:
    """A point that meets the conditions, or the best of the bracket after `most` trials, and the number of evaluations.

    `start` is the point at t = 0, where the slope is negative; `t` the first step to try; `length` the largest component of
    the direction: a bracket shorter than `tolerance` in every component is not divided further.
    """
    def too_high(point: Point) -> bool:
        return not point.value <= start.value + c1 * point.t * start.slope       # NaN is too high

    def flat(point: Point) -> bool:
        return abs(point.slope) <= -c2 * start.slope

    last, point, trials = start, evaluate(t), 0
    while trials < most:            # bracket: step further out until something is too high, flat or rising
        if too_high(point) or (trials > 1 and point.value >= last.value):
            break
        if flat(point):
            return point, trials + 1
        if point.slope >= 0:
            break
        step = cubic_minimum(last, point, point.t + 0.01 * (point.t - last.t), point.t * 10)
        last, point = point, evaluate(step)
        trials += 1
    else:
        return (point if point.value < start.value else start), trials + 1
    return _zoom(evaluate, start, last, point, length, too_high, flat, trials, tolerance, most)


def _zoom(evaluate, start: Point, a: Point, b: Point, length: float, too_high, flat, trials: int, tolerance: float,
          most: int) -> tuple[Point, int]:
    """Shrink the bracket; `low` is its end of smaller value, which meets the first condition."""
    low, high = (b, a) if b.value < a.value else (a, b)
    stuck = False
    while trials < most and abs(high.t - low.t) * length >= tolerance:
        left, right = min(low.t, high.t), max(low.t, high.t)
        step = cubic_minimum(low, high, left, right)
        margin = 0.1 * (right - left)
        if min(right - step, step - left) < margin:         # too close to an end: once is allowed, then move away from it
            if stuck or step >= right or step <= left:
                step = right - margin if abs(step - right) < abs(step - left) else left + margin
                stuck = False
            else:
                stuck = True
        else:
            stuck = False
        point = evaluate(step)
        trials += 1
        if too_high(point) or point.value >= low.value:
            low, high = (point, low) if point.value < low.value else (low, point)
            continue
        if flat(point):
            return point, trials + 1
        if point.slope * (high.t - low.t) >= 0:
            high = low
        low = point
    return low, trials + 1
