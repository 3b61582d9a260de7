"""Trigonometric functions and their inverses: sin, cos, tan, asin, acos, atan, atan2.

`build(precision)` makes the functions of one precision from the primitives of libm_base, as straight-line code that
LLVM widens; arguments too large for the reduction here are handed to the C library by `beyond_sin` and its kin.
Method: Cody and Waite, Software Manual (1980), chapters 8, 9 and 11, with fma and a second word that keeps what
rounding the reduced argument leaves behind (Muller, Elementary Functions, chapter 11).  The coefficients are minimax
(Remez), fitted for this file with mpmath; the powers of two beside a table bound the relative error of the formula.
"""

import math

from .libm_base import (
    PI,
    Precision,
    beyond_cos,
    beyond_sin,
    beyond_tan,
    bits,
    coefficients,
    copysign,
    fabs,
    fma,
    from_bits32,
    from_bits64,
    poly,
    select,
    split,
    sqrt,
    table,
)

# (sin(r) / r - 1) / r**2 in r**2 on |r| <= 0.7855 (float32: 0.795, since its quadrants are less exact).
# fmt: off
SIN = table(  # float32 2^-37.3, float64 2^-68.7
    float32=(-0.16666667, 0.008333329, -0.00019839215, 2.7171977e-06),
    float64=(
        -0.16666666666666666, 0.008333333333333323, -0.00019841269841254787, 2.755731921405671e-06,
        -2.505210487950279e-08, 1.6058362845151683e-10, -7.578523636271374e-13,
    ),
)
# fmt: on

# (cos(r) - 1 + r**2 / 2) / r**4 in r**2 on the same interval.
# fmt: off
COS = table(  # float32 2^-32.8, float64 2^-64.0
    float32=(0.041666646, -0.0013887237, 2.4424007e-05),
    float64=(
        0.041666666666666595, -0.0013888888888873036, 2.480158728883839e-05, -2.755731417534736e-07,
        2.0875700291668136e-09, -1.1358507351370735e-11,
    ),
)
# fmt: on

# (atan(t) / t - 1) / t**2 in t**2 on |t| <= sqrt(2) - 1.
# fmt: off
ATAN = table(  # float32 2^-30.5, float64 2^-59.4
    float32=(-0.33333316, 0.19998473, -0.14243548, 0.10593876, -0.06078289),
    float64=(
        -0.333333333333332, 0.19999999999953247, -0.14285714280165884, 0.11111110782097501, -0.0909089772306274,
        0.07692059671033995, -0.06663098610047895, 0.058478545745029024, -0.050391679079112094, 0.03806154064580448,
        -0.017904359517160014,
    ),
)
# fmt: on

# (asin(a) / a - 1) / a**2 in a**2 on a <= 0.5.
# fmt: off
ASIN = table(  # float32 2^-31.7, float64 2^-59.9
    float32=(0.1666666, 0.07500504, 0.04451704, 0.031807113, 0.014440487, 0.03751432),
    float64=(
        0.1666666666666676, 0.07499999999970808, 0.04464285717460701, 0.030381942707870428, 0.022372214989017352,
        0.017351611930651618, 0.01398082211599807, 0.01139889559839255, 0.010780363062325219, 0.0037059406194405423,
        0.02170868580754465, -0.02100092719645851, 0.03262984499984988,
    ),
)
# fmt: on


def build(precision: Precision) -> dict:
    """The functions of this file for one precision, by name.

    Names:   q the quadrant, r + r_lo the reduced argument, |r| <= pi/4;  j counts eighths of a turn, of pi/4
    Errors:  none: nan for infinite angles and for arcs outside [-1, 1]
    """
    real, from_bits = precision.type, from_bits32 if precision.name == "float32" else from_bits64
    single = precision.name == "float32"
    sign_shift = 30 if single else 62
    magic = precision.round_magic
    zero, quarter, half, one, two, four = (real(v) for v in (0.0, 0.25, 0.5, 1.0, 2.0, 4.0))
    inf = real(math.inf)
    two_over_pi = real(2 / math.pi)
    minus_p1, minus_p2, minus_p3 = (-p for p in split(PI, real, 3, 2))
    half_pi, half_pi_lo = split(PI, real, 2, 2)
    eighth, eighth_lo = split(PI, real, 2, 4)
    tan_eighth = real(math.sqrt(2) - 1)
    sin_tiny = real(2.0**-13) if single else real(2.0**-27)
    scale_above = real(2.0 ** (precision.bias - 2))
    c_sin, c_cos, c_atan, c_asin = (coefficients(precision, t) for t in (SIN, COS, ATAN, ASIN))

    def reduce(x):
        """q, r and r_lo with x = q pi/2 + r + r_lo; r_lo holds the rounding of the second product and of its sum.

        Close to a multiple of pi the sum cancels, so its error is taken as Knuth's two-sum does, which assumes no order.
        """
        t = fma(x, two_over_pi, magic)
        k = t - magic
        first = fma(k, minus_p1, x)             # exact
        second = k * minus_p2
        second_lo = fma(k, minus_p2, -second)
        r = first + second
        part = r - first
        r_lo = fma(k, minus_p3, ((first - (r - part)) + (second - part)) + second_lo)
        return bits(t), r, r_lo

    def sin_reduced(r, r_lo):
        z = r * r
        return r + fma(r * z, poly(z, c_sin), r_lo)

    def cos_reduced(r, r_lo):
        z = r * r
        h = half * z
        w = one - h
        return w + (((one - w) - h) + fma(z * z, poly(z, c_cos), -r * r_lo))

    def flip(value, q):
        """Minus `value` where bit 1 of q is set."""
        return from_bits(bits(value) ^ ((q & 2) << sign_shift))

    def sin(x):
        q, r, r_lo = reduce(x)
        value = select((q & 1) != 0, cos_reduced(r, r_lo), sin_reduced(r, r_lo))
        return beyond_sin(x, select(fabs(x) < sin_tiny, x, flip(value, q)))

    def cos(x):
        q, r, r_lo = reduce(x)
        value = select((q & 1) != 0, sin_reduced(r, r_lo), cos_reduced(r, r_lo))
        return beyond_cos(x, flip(value, q + 1))

    def tan(x):
        q, r, r_lo = reduce(x)
        s, c = sin_reduced(r, r_lo), cos_reduced(r, r_lo)
        odd = (q & 1) != 0
        value = select(odd, -c, s) / select(odd, s, c)
        return beyond_tan(x, select(fabs(x) < sin_tiny, x, value))

    def atan_ratio(n, d):
        """j and v with atan(n / d) = j pi/4 + v, for 0 <= n <= d."""
        upper = n > d * tan_eighth
        difference, total = n - d, n + d
        top, bottom = select(upper, difference, n), select(upper, total, d)
        t = top / bottom
        # Just above the bound j pi/4 and v nearly halve each other: there t needs its second word.
        top_lo, bottom_lo = n - (difference + d), n - (total - d)
        rest = fma(-t, total, difference) + fma(-t, bottom_lo, top_lo)
        t_lo = select(upper, rest, zero) / select(upper, total, one)
        z = t * t
        return select(upper, one, zero), t + fma(t * z, poly(z, c_atan), t_lo)

    def turn(j, v):
        """j pi/4 + v."""
        return fma(j, eighth, fma(j, eighth_lo, v))

    def atan(x):
        a = fabs(x)
        inverse = a > one
        j, v = atan_ratio(select(inverse, one, a), select(inverse, a, one))
        return copysign(turn(select(inverse, two - j, j), select(inverse, -v, v)), x)

    def atan2(y, x):
        a, b = fabs(y), fabs(x)
        swap = a > b
        n, d = select(swap, b, a), select(swap, a, b)
        scale = select(d > scale_above, quarter, one)
        infinite = (n == inf) & (d == inf)  # inf / inf counts as 1, and 0 / 0 as 0
        n, d = select(infinite, one, n * scale), select(infinite | (d == zero), one, d * scale)
        j, v = atan_ratio(n, d)
        j, v = select(swap, two - j, j), select(swap, -v, v)
        left = copysign(one, x) < zero
        j, v = select(left, four - j, j), select(left, -v, v)
        return copysign(turn(j, v), y)

    def asin(x):
        a = fabs(x)
        outer = a > half
        z = select(outer, half * (one - a), a * a)
        root = sqrt(z)
        s = select(outer, root, a)
        rest = s * z * poly(z, c_asin)
        # pi/2 - 2 (s + s_lo + rest): near a = 1/2 the rounding of the root counts twice over, so it is kept.
        s_lo = select(outer & (z > zero), fma(-root, root, z) / (two * root), zero)
        large = fma(-two, s, half_pi) - fma(two, rest + s_lo, -half_pi_lo)
        return copysign(select(outer, large, s + rest), x)

    def acos(x):
        a = fabs(x)
        outer = a > half
        z = select(outer, half * (one - a), x * x)
        s = select(outer, sqrt(z), x)
        rest = s * z * poly(z, c_asin)
        inner = half_pi - (x - (half_pi_lo - rest))
        right = two * (s + rest)
        left = two * (half_pi - (s - (half_pi_lo - rest)))
        return select(outer, select(x > zero, right, left), inner)

    names = (
        reduce, sin_reduced, cos_reduced, flip, sin, cos, tan, atan_ratio, turn, atan, atan2, asin, acos,
    )  # fmt: skip
    return {f.__name__: f for f in names}
