"""Logarithms and what is made of them: log, log2, log10, log1p, asinh, acosh, atanh, pow, hypot, logaddexp(2).

`build(precision, exps)` makes the functions of one precision from the primitives and from libm_exp's functions, as
straight-line code that LLVM widens.  libm.py collects them.
Method: x = 2**k (1 + f), s = f / (2 + f), log(1 + f) = 2 atanh(s), arranged so that f stands alone as the leading
term (Tang 1990, ACM TOMS 16; Muller, Elementary Functions, chapter 11); the inverse hyperbolic functions feed it an
argument in two parts.  The coefficients are minimax (Remez), fitted for this file with mpmath; the powers of two
beside a table bound the relative error of the formula that uses it.
"""

import math

from .libm_base import (
    LN2,
    LOG2_E,
    LOG10_2,
    LOG10_E,
    Precision,
    bits,
    coefficients,
    copysign,
    fabs,
    floor,
    fma,
    from_bits32,
    from_bits64,
    poly,
    select,
    split,
    sqrt,
    table,
    unordered,
)

# (atanh(s) / s - 1) / s**2 in s**2 on |s| <= 0.1716, which is 3 - sqrt(8) and a little more.
# fmt: off
LOG = table(  # float32 2^-30.2, float64 2^-59.5
    float32=(0.33333388, 0.19988786, 0.14935529),
    float64=(
        0.3333333333333367, 0.19999999999708054, 0.14285714371041433, 0.11111099301542056, 0.09091781421520015,
        0.07657043370206786, 0.07397802233774915,
    ),
)
# fmt: on

# (atanh(s) / s - 1 - s**2 / 3) / s**4 in s**2 on the same interval, for pow.
# fmt: off
LOG_FINE = table(  # float32 2^-36.8, float64 2^-72.6
    float32=(0.20000076, 0.14273567, 0.11709292),
    float64=(
        0.20000000000000023, 0.14285714285697781, 0.11111111115811176, 0.0909090839590776, 0.07692367254107123,
        0.0666359262590968, 0.05976745911202441, 0.03668580856222843, 0.1636219338481187,
    ),
)
# fmt: on

# (asinh(a) / a - 1) / a**2 in a**2 on a <= 0.5.
# fmt: off
ASINH = table(  # float32 2^-34.1, float64 2^-60.4
    float32=(-0.16666666, 0.07499889, -0.04461325, 0.030012954, -0.01997999, 0.00916772),
    float64=(
        -0.1666666666666661, 0.07499999999984422, -0.04464285712783427, 0.030381943716454876, -0.022372138358841283,
        0.01735238695536041, -0.013960232202945748, 0.011512983451438107, -0.009534138721560852,
        0.007465586218336928, -0.004747486177674639, 0.0017180626267529675,
    ),
)
# fmt: on

# (atanh(a) / a - 1) / a**2 in a**2 on a <= 0.5.
# fmt: off
ATANH = table(  # float32 2^-33.4, float64 2^-57.1
    float32=(0.33333337, 0.19999728, 0.14294854, 0.1096718, 0.10282698, 0.024521664, 0.17594284),
    float64=(
        0.3333333333333399, 0.19999999999795257, 0.14285714308024863, 0.11111109888899356, 0.0909094848234163,
        0.07691494736582971, 0.06677945298232152, 0.05774383358583753, 0.05982499891590491, 0.014560465134221474,
        0.14493973405168173, -0.15291281915577798, 0.22478839103069329,
    ),
)
# fmt: on


def build(precision: Precision, exps: dict) -> dict:
    """The functions of this file for one precision, by name; `log_two_part` and `log_positive` serve other files.

    Names:   k the power of two, f the mantissa less one, s and z as above; `x_lo` is what rounding x left behind
    Errors:  none: log(0) is -inf, the logarithm of a negative number nan
    """
    real, from_bits = precision.type, from_bits32 if precision.name == "float32" else from_bits64
    single = precision.name == "float32"
    fraction, bias = precision.fraction, precision.bias
    zero, half, one, two, quarter = (real(v) for v in (0.0, 0.5, 1.0, 2.0, 0.25))
    inf, nan = real(math.inf), real(math.nan)
    exp, exp2, exp2_sum = exps["exp"], exps["exp2"], exps["exp2_sum"]

    ln2, ln2_lo = split(LN2, real, 2)
    log2_e, log2_e_lo = split(LOG2_E, real, 2)
    log10_e, log10_e_lo = split(LOG10_E, real, 2)
    log10_2, log10_2_lo = split(LOG10_2, real, 2)
    third, third_lo = split("1", real, 2, 3)
    c_log, c_log_fine, c_asinh, c_atanh = (coefficients(precision, t) for t in (LOG, LOG_FINE, ASINH, ATANH))

    min_normal = real(2.0 ** (1 - bias))
    shift_up = real(2.0 ** (fraction + 2))
    root_bits = bits(real(math.sqrt(0.5)))
    to_root = bits(one) - root_bits
    fraction_mask = (1 << fraction) - 1
    exponent_mask = 0x1FF if single else 0xFFF
    integer_magic = real(2.0**fraction)  # its low bits hold an integer as it is
    integer_bits = bits(integer_magic)
    k_offset = real(2.0**fraction + bias)
    k_offset_tiny = real(2.0**fraction + bias + fraction + 2)
    log1p_tiny = real(2.0 ** -(fraction + 2))
    asinh_big = real(2.0**30) if single else real(2.0**60)
    pow_bound = real(1.0e4)  # beyond it 2**p overflows or vanishes
    hypot_big, hypot_small = (real(2.0**60), real(2.0**-60)) if single else (real(2.0**500), real(2.0**-500))
    hypot_up, hypot_down = (real(2.0**80), real(2.0**-80)) if single else (real(2.0**600), real(2.0**-600))

    def reduce(x):
        """k and f with x = 2**k (1 + f) and 1 + f between sqrt(1/2) and sqrt(2), for positive finite x."""
        tiny = x < min_normal
        i = bits(select(tiny, x * shift_up, x)) + to_root
        k = from_bits(((i >> fraction) & exponent_mask) | integer_bits) - select(tiny, k_offset_tiny, k_offset)
        return k, from_bits((i & fraction_mask) + root_bits) - one

    def tail(f):
        """log(1 + f) - f."""
        s = f / (two + f)
        z = s * s
        h = half * f * f
        return fma(s, fma(two * z, poly(z, c_log), h), -h)

    def special(x, result):
        """The logarithm's values at zero, at negative numbers, inf and nan; elsewhere `result`."""
        return select((x > zero) & (x < inf), result, select(x == zero, -inf, select(x == inf, inf, nan)))

    def log_two_part(x, x_lo, j):
        """log((x + x_lo) * 2**j) for positive finite x, to half an ulp and a little."""
        k, f = reduce(x)
        k = k + j
        c = tail(f) + fma(k, ln2_lo, x_lo / x)
        big = k * ln2
        big_lo = fma(k, ln2, -big)
        # |k log 2| > |f| or k = 0, so this sum leaves its rounding error behind (Dekker).
        top = big + f
        top_lo = (big - top) + f
        return select(k == zero, f + c, top + (top_lo + (big_lo + c)))

    def log(x):
        k, f = reduce(x)
        return special(x, fma(k, ln2, f + fma(k, ln2_lo, tail(f))))

    def log_based(x, base, base_lo, unit, unit_lo):
        """log(x) * base, where base is log2(e) or log10(e) and unit is log2(2) or log10(2), each in two parts."""
        k, f = reduce(x)
        product = f * base
        low = fma(f, base, -product) + fma(f, base_lo, tail(f) * base)
        big = k * unit
        big_lo = fma(k, unit, -big) + k * unit_lo
        top = big + product
        top_lo = (big - top) + product
        return special(x, top + (top_lo + (big_lo + low)))

    def log2(x):
        return log_based(x, log2_e, log2_e_lo, one, zero)

    def log10(x):
        return log_based(x, log10_e, log10_e_lo, log10_2, log10_2_lo)

    def log1p(x):
        u = one + x
        back = u - one
        u_lo = (one - (u - back)) + (x - back)
        k, f = reduce(u)
        c = tail(f) + fma(k, ln2_lo, u_lo / u)
        result = special(u, fma(k, ln2, f + c))
        return select(fabs(x) < log1p_tiny, x, result)

    def root_one_more(x, u, u_lo):
        """x + sqrt(u + u_lo) in two parts, where the root is the larger summand."""
        s = sqrt(u)
        s_lo = (fma(-s, s, u) + u_lo) / (two * s)
        top = s + x
        return top, ((s - top) + x) + s_lo

    def asinh(x):
        a = fabs(x)
        z = a * a
        small = fma(a, z * poly(z, c_asinh), a)
        big = a > asinh_big
        b = select(big, one, a)
        w = b * b
        larger, smaller = select(w > one, w, one), select(w > one, one, w)
        u = larger + smaller
        u_lo = ((larger - u) + smaller) + fma(b, b, -w)
        top, top_lo = root_one_more(b, u, u_lo)
        large = log_two_part(select(big, a, top), select(big, zero, top_lo), select(big, one, zero))
        large = select(a < inf, large, a)
        return copysign(select(a < half, small, large), x)

    def acosh(x):
        big = x > asinh_big
        t = select(big, one, x - one)
        w = t * t
        t2 = two * t
        larger, smaller = select(w > t2, w, t2), select(w > t2, t2, w)
        v = larger + smaller
        v_lo = ((larger - v) + smaller) + fma(t, t, -w)
        s = sqrt(v)
        s_lo = select(v > zero, (fma(-s, s, v) + v_lo) / (two * s), zero)
        u = s + t
        u_lo = ((s - u) + t) + s_lo
        # log1p(u + u_lo)
        larger, smaller = select(u > one, u, one), select(u > one, one, u)
        top = larger + smaller
        top_lo = ((larger - top) + smaller) + u_lo
        result = log_two_part(select(big, x, top), select(big, zero, top_lo), select(big, one, zero))
        return select(x < inf, select(x < one, nan, result), x)

    def atanh(x):
        a = fabs(x)
        z = a * a
        small = fma(a, z * poly(z, c_atanh), a)
        inside = select((a < one) & (a > quarter), a, half)
        top = one + inside
        top_lo = inside - (top - one)
        bottom = one - inside
        q = top / bottom
        q_lo = (fma(-q, bottom, top) + top_lo) / bottom
        large = half * log_two_part(q, q_lo, zero)
        large = select(a < one, large, select(a == one, inf, nan))
        return copysign(select(a < half, small, large), x)

    def hypot(x, y):
        a, b = fabs(x), fabs(y)
        top, bottom = select(a > b, a, b), select(a > b, b, a)
        scale = select(top > hypot_big, hypot_down, select(top < hypot_small, hypot_up, one))
        back = select(top > hypot_big, hypot_up, select(top < hypot_small, hypot_down, one))
        top, bottom = top * scale, bottom * scale
        w = bottom * bottom
        u = fma(top, top, w)
        s = sqrt(u)
        # One Newton step with the exact residual takes the error from one ulp to half an ulp and a little.
        squared = top * top
        residual = fma(-s, s, squared) + (w + (fma(top, top, -squared) + fma(bottom, bottom, -w)))
        s = select((u > zero) & (u < inf), s + residual / (two * s), s)
        return select((a == inf) | (b == inf), inf, s * back)

    def logaddexp(x, y):
        top = select(x > y, x, y)
        result = top + log1p(exp(-fabs(x - y)))
        return select(x == y, x + ln2, result)

    def logaddexp2(x, y):
        top = select(x > y, x, y)
        result = top + log1p(exp2(-fabs(x - y))) * log2_e
        return select(x == y, x + one, result)

    def log2_accurate(x):
        """log2 of positive finite x in two parts, good to 2**-65 (float64)."""
        k, f = reduce(x)
        d = two + f
        d_lo = f - (d - two)
        s = f / d
        s_lo = (fma(-s, d, f) - s * d_lo) / d
        z = s * s
        z_lo = fma(s, s, -z) + two * s * s_lo
        p = z * third
        p_lo = fma(z, third, -p) + fma(z, third_lo, z_lo * third) + z * z * poly(z, c_log_fine)
        t = s * p
        t_lo = fma(s, p, -t) + fma(s, p_lo, s_lo * p)
        top = s + t
        low = ((s - top) + t) + (t_lo + s_lo)
        top, low = two * top, two * low
        product = top * log2_e
        product_lo = fma(top, log2_e, -product) + fma(top, log2_e_lo, low * log2_e)
        rough = k + product
        rough_lo = ((k - rough) + product) + product_lo
        result = rough + rough_lo
        return result, (rough - result) + rough_lo

    def power_special(x, y, magnitude):
        """x**y for every x and y, given |x|**y for finite positive |x| and finite y (C99 F.9.4.4)."""
        a = fabs(x)
        odd = (floor(y) == y) & (floor(y * half) * two != y)
        up = (y > zero) == (a > one)  # does |x|**y grow beyond bounds as its extreme operand does?
        limit = select(up, inf, zero)
        magnitude = select((a == zero) | (a == inf) | (fabs(y) == inf), limit, magnitude)
        signed = select((copysign(one, x) < zero) & odd, -magnitude, magnitude)
        result = select((x < zero) & (a < inf) & (floor(y) != y) & (fabs(y) < inf), nan, signed)
        result = select((a == one) & (fabs(y) == inf), one, result)
        result = select(unordered(x, y), nan, result)
        return select((x == one) | (y == zero), one, result)

    def pow(x, y):
        a = fabs(x)
        inside = (a > zero) & (a < inf)
        log_a, log_lo = log2_accurate(select(inside, a, one))
        p = y * log_a
        bounded = fabs(p) < pow_bound
        p_lo = select(bounded, fma(y, log_a, -p) + y * log_lo, zero)
        return power_special(x, y, exp2_sum(p, p_lo))

    names = (
        reduce, tail, special, log_two_part, log, log_based, log2, log10, log1p, root_one_more, asinh, acosh, atanh,
        hypot, logaddexp, logaddexp2, log2_accurate, power_special, pow,
    )  # fmt: skip
    return {f.__name__: f for f in names}
