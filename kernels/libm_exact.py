"""Exact functions of floats: nextafter, fmod, remainder, maximum, minimum, rsqrt, and the tests isnan, isinf, ...

`build(precision)` makes the functions of one precision from the primitives of libm_base; floor, ceil, trunc, rint,
copysign and sqrt are primitives themselves.  libm.py collects them.
"""

import math

from .libm_base import (
    Precision,
    beyond_fmod,
    bits,
    copysign,
    fabs,
    fma,
    from_bits32,
    from_bits64,
    select,
    sqrt,
    trunc,
    unordered,
)


def build(precision: Precision) -> dict:
    """The functions of this file for one precision, by name.  Errors: none."""
    real, from_bits = precision.type, from_bits32 if precision.name == "float32" else from_bits64
    zero, one, inf = real(0.0), real(1.0), real(math.inf)
    least = real(2.0 ** (1 - precision.bias - precision.fraction))

    def isnan(x):
        return unordered(x, x)

    def isinf(x):
        return fabs(x) == inf

    def isfinite(x):
        return fabs(x) < inf

    def signbit(x):
        return copysign(one, x) < zero

    def rsqrt(x):
        return one / sqrt(x)

    def nextafter(x, y):
        i = bits(x)
        step = select((y > x) == (x > zero), 1, -1)
        moved = select(x == zero, copysign(least, y), from_bits(i + step))
        return select(unordered(x, y), x + y, select(x == y, y, moved))

    def fmod(x, y):
        """The remainder of the quotient rounded to zero.

        q = trunc(x / y) is at most one too large, never too small, since rounding is monotonic; then x - q y is
        representable, and fma gives it without error.
        """
        quotient = x / y
        r = fma(-trunc(quotient), y, x)
        r = select((r != zero) & ((r < zero) != (x < zero)), r + copysign(y, x), r)
        r = select((fabs(y) == inf) & (fabs(x) < inf), x, r)
        # the library's fmod would leave an x87 "invalid" flag behind for an infinite x or a zero y; r is NaN there already
        quotient = select((fabs(x) == inf) | (y == zero), zero, quotient)
        return beyond_fmod(x, y, quotient, copysign(r, x))

    def remainder(x, y):
        r = fmod(x, y)
        r = select((r != zero) & ((r < zero) != (y < zero)), r + y, r)
        return select(r == zero, copysign(r, y), r)

    def maximum(x, y):
        return select((x > y) | unordered(x, x), x, y)

    def minimum(x, y):
        return select((x < y) | unordered(x, x), x, y)

    functions = (isnan, isinf, isfinite, signbit, rsqrt, nextafter, fmod, remainder, maximum, minimum)
    return {f.__name__: f for f in functions}
