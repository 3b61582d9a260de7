"""exp and its relatives: exp, exp2, expm1, sinh, cosh, tanh, sigmoid, for float32 and float64.

`build(precision)` makes the functions of one precision: plain Python over the primitives of libm_base, straight-line
code in which every choice is a `select`, so that LLVM widens a loop around it.  libm.py collects them.
Method: Cody and Waite, Software Manual for the Elementary Functions (1980), chapter 6; Muller, Elementary
Functions (3rd ed. 2016), chapter 11.  The coefficients are minimax (Remez), fitted for this file with mpmath; the
powers of two beside a table bound the relative error of the formula that uses it.
"""

from .libm_base import (
    LN2,
    LOG2_E,
    Precision,
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
    table,
)

# (expm1(r) - r) / r**2 on |r| <= 0.3473, that is half of log 2 and a little more.
# fmt: off
EXP = table(  # float32 2^-31.9, float64 2^-61.7
    float32=(0.5, 0.16666666, 0.04166636, 0.008333391, 0.0013940823, 0.00019845436),
    float64=(
        0.5, 0.16666666666666677, 0.041666666666666505, 0.008333333333321515, 0.001388888888896349,
        0.00019841269886476984, 2.4801587171054042e-05, 2.755724380456882e-06, 2.7557403295485155e-07,
        2.5109194972317408e-08, 2.0875316545725054e-09,
    ),
)
# fmt: on

# (tanh(a) / a - 1) / a**2 in a**2 on a <= 0.55.
# fmt: off
TANH = table(  # float32 2^-29.8, float64 2^-60.6
    float32=(-0.33333316, 0.13332586, -0.05385235, 0.021071792, -0.0062743407),
    float64=(
        -0.333333333333333, 0.13333333333326622, -0.05396825396376045, 0.021869488385845213, -0.00886323260120135,
        0.0035920920275712164, -0.0014555428254494933, 0.0005884443977447213, -0.00023338133219624936,
        8.331610617413615e-05, -1.9494474207248325e-05,
    ),
)
# fmt: on

# (sinh(a) / a - 1) / a**2 in a**2 on a <= 1.
# fmt: off
SINH = table(  # float32 2^-34.2, float64 2^-63.3
    float32=(0.16666667, 0.00833335, 0.00019836161, 2.8169502e-06),
    float64=(
        0.16666666666666669, 0.008333333333333148, 0.0001984126984143187, 2.7557319157072166e-06,
        2.5052123136711443e-08, 1.6057259767892125e-10, 7.758748861818371e-13,
    ),
)
# fmt: on


def build(precision: Precision) -> dict:
    """The functions of this file for one precision, by name; `exp_bounded` serves the other files.

    Names:   k the power of two, r the reduced argument, p a factor between sqrt(1/2) and sqrt(2)
    Errors:  none: overflow gives inf, underflow zero or a subnormal number, nan stays nan
    """
    real, from_bits = precision.type, from_bits32 if precision.name == "float32" else from_bits64
    single = precision.name == "float32"
    fraction = precision.fraction
    magic = precision.round_magic
    magic_biased = real(float(magic) + precision.bias)  # its low bits, shifted up, are the exponent field of 2**k
    zero, quarter, half, one, two = (real(v) for v in (0.0, 0.25, 0.5, 1.0, 2.0))
    log2_e = split(LOG2_E, real, 1)[0]
    ln2, ln2_lo = split(LN2, real, 2)
    minus_ln2, minus_ln2_lo = -ln2, -ln2_lo
    high, low = (real(100.0), real(-110.0)) if single else (real(720.0), real(-760.0))
    high2, low2 = (real(140.0), real(-160.0)) if single else (real(1040.0), real(-1100.0))
    expm1_high, expm1_low = (real(89.0), real(-20.0)) if single else (real(710.0), real(-40.0))
    tanh_high = real(10.0) if single else real(20.0)
    tanh_small = real(0.55)
    expm1_tiny = real(2.0**-25) if single else real(2.0**-54)
    c_exp, c_tanh, c_sinh = (coefficients(precision, t) for t in (EXP, TANH, SINH))

    def scaled(p, k):
        """p * 2**k in two steps, so that a subnormal result is rounded once and 2**k itself need not exist."""
        first = fma(k, half, magic_biased)
        second = (k - (first - magic_biased)) + magic_biased
        return p * from_bits(bits(first) << fraction) * from_bits(bits(second) << fraction)

    def exp_times(x, j):
        """e**x * 2**j, for small integers j given as a float."""
        x = select(x > high, high, select(x < low, low, x))
        k = fma(x, log2_e, magic) - magic
        r = fma(k, minus_ln2_lo, fma(k, minus_ln2, x))
        p = one + fma(r * r, poly(r, c_exp), r)
        return scaled(p, k + j)

    def exp_bounded(x):
        """e**x where the caller knows that the result is neither subnormal nor too large."""
        t = fma(x, log2_e, magic_biased)
        k = t - magic_biased
        r = fma(k, minus_ln2_lo, fma(k, minus_ln2, x))
        p = one + fma(r * r, poly(r, c_exp), r)
        return p * from_bits(bits(t) << fraction)

    def exp_reduced(r, r_lo):
        """e**(r + r_lo) for |r| up to half of log 2."""
        q = poly(r, c_exp)
        rough = one + fma(r * r, q, r)
        return one + (r + fma(r * r, q, r_lo * rough))

    def exp2_sum(x, x_lo):
        """2**(x + x_lo), where x_lo is below half an ulp of x."""
        x = select(x > high2, high2, select(x < low2, low2, x))
        k = (x + magic) - magic
        f = x - k
        r = f * ln2
        r_lo = fma(f, ln2, -r) + fma(f, ln2_lo, x_lo * ln2)
        return scaled(exp_reduced(r, r_lo), k)

    def exp_sum(x, x_lo):
        """e**(x + x_lo), where x_lo is below half an ulp of x."""
        x = select(x > high, high, select(x < low, low, x))
        k = fma(x, log2_e, magic) - magic
        first = fma(k, minus_ln2, x)
        r = fma(k, minus_ln2_lo, first)
        r_lo = fma(k, minus_ln2_lo, first - r) + x_lo
        return scaled(exp_reduced(r, r_lo), k)

    def exp(x):
        return exp_times(x, zero)

    def exp2(x):
        return exp2_sum(x, zero)

    def expm1(x):
        bounded = select(x > expm1_high, expm1_high, select(x < expm1_low, expm1_low, x))
        t = fma(bounded, log2_e, magic_biased)
        k = t - magic_biased
        r = fma(k, minus_ln2_lo, fma(k, minus_ln2, bounded))
        p = fma(r * r, poly(r, c_exp), r)
        # 2**(k-1), since 2**128 (2**1024) does not exist; the doubling is exact.
        power = from_bits((bits(t) - 1) << fraction)
        return select(fabs(x) < expm1_tiny, x, two * fma(power, p, power - half))

    def sinh(x):
        a = fabs(x)
        z = a * a
        small = fma(a, z * poly(z, c_sinh), a)
        h = exp_times(a, -one)
        return copysign(select(a < one, small, h - quarter / h), x)

    def cosh(x):
        h = exp_times(fabs(x), -one)
        return h + quarter / h

    def tanh(x):
        a = fabs(x)
        z = a * a
        small = fma(a, z * poly(z, c_tanh), a)
        a_bounded = select(a > tanh_high, tanh_high, a)
        large = one - two / (exp_bounded(two * a_bounded) + one)
        return copysign(select(a < tanh_small, small, large), x)

    def sigmoid(x):
        e = exp_times(-fabs(x), zero)
        return select(x < zero, e, one) / (one + e)

    functions = (
        scaled, exp_times, exp_bounded, exp_reduced, exp2_sum, exp_sum, exp, exp2, expm1, sinh, cosh, tanh, sigmoid,
    )  # fmt: skip
    return {f.__name__: f for f in functions}
