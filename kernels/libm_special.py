"""Error functions and gamma's relatives: erf, erfc, erfinv, lgamma, digamma.

`build(precision, exps)` makes erf and erfc of one precision as straight-line code that LLVM widens;
`build_double` makes the float64 functions where accuracy comes before speed (float32 goes through them too).
Methods: W. J. Cody, Math. Comp. 23 (1969), for the ranges of erf; Shepherd and Laframboise, Math. Comp. 36 (1981),
for the variable of erfc; Wichura (1988, AS 241) for the variables of erfinv; Abramowitz and Stegun 6.3 for digamma.
The coefficients are minimax (Remez), fitted for this file with mpmath; the powers of two bound the relative error.
"""

import math

import numpy as np

from .libm_base import (
    DOUBLE,
    Precision,
    c_lgamma,
    coefficients,
    copysign,
    fabs,
    fma,
    poly,
    rint,
    select,
    split,
    sqrt,
    table,
)

# erf(a) / a - 1 in a**2 on a <= 0.9.
# fmt: off
ERF = table(  # float32 2^-31.7, float64 2^-60.5
    float32=(0.12837917, -0.37612635, 0.11283715, -0.026860509, 0.0052038603, -0.00081756443, 8.5130996e-05),
    float64=(
        0.1283791670955126, -0.37612638903183726, 0.11283791670953705, -0.02686617064480685, 0.0052239776216049215,
        -0.0008548326754996991, 0.000120553210443321, -1.4925299775969031e-05, 1.6455214306041585e-06,
        -1.627547820895069e-07, 1.4046051987067141e-08, -8.481848081532592e-10,
    ),
)
# fmt: on

# log(erfc(a)) in a from 0.9 to 4 (float32), 5.95 (float64); the bound is relative to erf.
# fmt: off
LOG_ERFC = table(  # float32 2^-29.1, float64 2^-55.7
    float32=(-0.00016644814, -1.1277972, -0.63697606, -0.104113676, 0.02231521, -0.003065489, 0.00019821948),
    float64=(
        -2.429549920571001e-07, -1.128376574868183, -0.6366325952572052, -0.10273362526395058, 0.019047176320885217,
        0.0003318213731918087, -0.0018333414052944615, 0.000703612287277069, -9.242123909804844e-05,
        -4.163193170928474e-05, 3.1260547210458765e-05, -1.1278144991732838e-05, 2.760886729937383e-06,
        -4.867233516370056e-07, 6.147692209709372e-08, -5.311833051554137e-09, 2.820994678210326e-10,
        -6.955078908000326e-12,
    ),
)
# fmt: on

# (1 + 2 a) exp(a**2) erfc(a) - 1 in t = (a - 3.75) / (a + 3.75), a from 0.49 to 10.5 (float32), 28 (float64).
# fmt: off
ERFCX = table(  # float32 2^-26.5, float64 2^-57.7
    float32=(
        0.23751262, -0.14024071, 0.0035869535, 0.082282566, -0.10883506, 0.09221723, -0.058501687, 0.028887263,
        -0.01004695, 0.0006041526,
    ),
    float64=(
        0.2375126308378276, -0.140240598585547, 0.003585415485465901, 0.08227673849014908, -0.10880393014185936,
        0.09230432116028339, -0.05869339858647513, 0.02836227741982448, -0.009746579603677728, 0.0017556258508914673,
        0.0002937140458618152, -0.0002901541013381652, 5.164713784836724e-05, 2.2384425590590375e-05,
        -1.1437673127110233e-05, -9.74255716122333e-07, 1.737897846874591e-06, -5.5766294772399166e-08,
        -2.4040981403052133e-07, 2.1509146013375247e-08, 2.4603963549421963e-08, -2.599274990001689e-09,
    ),
)
# fmt: on

# Its derivative, to two digits: what the rounding of t costs is put right with it.
ERFCX_SLOPE = (-0.1374, 0.0515, 0.1846, -0.7275, 0.6825)

# erfinv(x) / x in w - 2.5 for w = -log(1 - x**2) up to 5: the start of an iteration.
# fmt: off
ERFINV_MID = table(  # float64 2^-28.5
    float64=(
        1.5014093533379773, 0.24664029065610665, -0.004177336554074523, -0.0012527524120864966,
        0.00021827723368977216, -4.956755236408757e-06, -3.4314606308253614e-06, 4.64656475600778e-07,
        1.733623606046932e-08, -8.676113329545585e-09, 3.878143448983192e-10,
    ),
)
# fmt: on

# The same in sqrt(w) - 4, from w = 5.
# fmt: off
ERFINV_TAIL = table(  # float64 2^-26.8
    float64=(
        3.839783816282883, 1.009493069456746, 0.0012592919887158972, -0.0008673439045108923, 0.0003234099118991051,
        -0.00012238058975812136, 5.1960017281670565e-05, -2.683036995245418e-05, 2.0893963136606813e-05,
        -1.2677887388890851e-05, 2.7506712176377636e-06, 8.841358704144262e-07, -5.249070001671153e-07,
        6.837433439883393e-08,
    ),
)
# fmt: on

# digamma(x) / (x - root) in x - 1.5, x from 1 to 2.
# fmt: off
DIGAMMA = table(  # float64 2^-56.0
    float64=(
        0.951055876031833, -0.4236274212814606, 0.24054248424077398, -0.14840492305389003, 0.09498872445497251,
        -0.06192213327469765, 0.040760833810806606, -0.026975796691202567, 0.017907252481644667,
        -0.011908219420148393, 0.007926944013685107, -0.005279946251947724, 0.0035190121727679264,
        -0.0023454207910249426, 0.0015565991860910775, -0.0010368422061708435, 0.0007234375966350319,
        -0.00048472981864583785, 0.00022702386069525405, -0.00014697900803907374, 0.0002598525621109794,
        -0.00017656174028735368,
    ),
)
# fmt: on


# The zero of digamma between 1 and 2.
DIGAMMA_ROOT = "1.4616321449683623412626595423257213284681962"
# B(2n) / (2n) for n = 1, 2, ...: digamma(x) ~ log x - 1/(2x) - sum B(2n) / (2n x**2n).
DIGAMMA_ASYMPTOTIC = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12, -3617 / 8160)


def build(precision: Precision, exps: dict) -> dict:
    """erf and erfc for one precision.  Errors: none; nan stays nan."""
    real, single = precision.type, precision.name == "float32"
    zero, half, one, two = (real(v) for v in (0.0, 0.5, 1.0, 2.0))
    exp_sum, exp_bounded = exps["exp_sum"], exps["exp_bounded"]
    erf_small, center = real(0.9), real(3.75)
    erf_high = real(4.0) if single else real(5.95)  # from here erf rounds to 1
    erfc_high = real(10.5) if single else real(28.0)  # from here erfc rounds to 0
    c_erf, c_log_erfc, c_erfcx = (coefficients(precision, t) for t in (ERF, LOG_ERFC, ERFCX))
    c_slope = tuple(real(c) for c in ERFCX_SLOPE)

    def erf(x):
        a = fabs(x)
        small = fma(a, poly(a * a, c_erf), a)
        bounded = select(a > erf_high, erf_high, a)
        large = one - exp_bounded(poly(bounded, c_log_erfc))
        return copysign(select(a < erf_small, small, large), x)

    def erfc(x):
        magnitude = fabs(x)
        a = select(magnitude > erfc_high, erfc_high, magnitude)
        square = a * a
        minus_square_lo = -fma(a, a, -square)
        e = exp_sum(-square, minus_square_lo)
        # exp(-a**2) (1 + g(t)) / (1 + 2 a), with t and the inverse in two parts and one division for both.
        d, sum_ = fma(two, a, one), a + center
        both = one / (d * sum_)
        difference = a - center
        t = difference * (both * d)
        t_lo = (fma(-t, sum_, difference) + (a - (difference + center)) - t * (a - (sum_ - center))) * (both * d)
        g = fma(t_lo, poly(t, c_slope), poly(t, c_erfcx))
        inverse = both * sum_
        inverse_lo = (fma(-inverse, d, one) - inverse * (fma(two, a, -d) + one)) * inverse
        value = fma(e, inverse, e * fma(inverse, g, inverse_lo + inverse_lo * g))
        value = select(a < half, one - fma(a, poly(a * a, c_erf), a), value)
        return select(x < zero, two - value, value)

    return {"erf": erf, "erfc": erfc}


def build_double(real_functions: dict) -> dict:
    """erfinv, lgamma and digamma for float64, from the float64 functions of all files, by name."""
    real = np.float64
    zero, half, one, two, inf = real(0.0), real(0.5), real(1.0), real(2.0), real(math.inf)
    nan = real(math.nan)
    erf, erfc, log, log1p, tan, exp_bounded = (
        real_functions[name] for name in ("erf", "erfc", "log", "log1p", "tan", "exp_bounded")
    )
    half_root_pi = real(math.sqrt(math.pi) / 2)
    mid_center, tail_center, mid_end = real(2.5), real(4.0), real(5.0)
    c_mid, c_tail, c_digamma = (coefficients(DOUBLE, t) for t in (ERFINV_MID, ERFINV_TAIL, DIGAMMA))
    c_asymptotic = tuple(real(c) for c in DIGAMMA_ASYMPTOTIC)
    root, root_lo = split(DIGAMMA_ROOT, real, 2)
    digamma_middle, digamma_far = real(1.5), real(8.0)
    pi = real(math.pi)

    def erfinv(x):
        a = fabs(x)
        inside = select(a < one, a, half)
        w = -log1p(-inside) - log1p(inside)
        start = select(w < mid_end, poly(w - mid_center, c_mid), poly(sqrt(w) - tail_center, c_tail))
        y = inside * start
        # One step of Halley's method, on erf or on erfc, whichever is the smaller and so the more exact.
        residual = select(inside < half, erf(y) - inside, (one - inside) - erfc(y))
        u = residual * half_root_pi / exp_bounded(-y * y)
        y = y - u / fma(y, u, one)
        return copysign(select(a < one, y, select(a == one, inf, nan)), x)

    def lgamma(x):
        return c_lgamma(x)

    def digamma_positive(x):
        """digamma for x > 0."""
        if x >= digamma_far:
            z = one / (x * x)
            return log(x) - fma(z, poly(z, c_asymptotic), half / x)
        total, rest = zero, zero  # a sum in two parts
        while x > two:
            x = x - one
            term = one / x
            rest = rest - fma(term, x, -one) * term
            larger = term + total
            rest = rest + select(term > total, (term - larger) + total, (total - larger) + term)
            total = larger
        if x < one:
            total = -one / x
            if total == -inf:
                return total
            rest = -fma(total, x, one) / x
            x_lo = x
            x = x + one
            x_lo = x_lo - (x - one)
        else:
            x_lo = zero
        near = ((x - root) - root_lo) + x_lo
        value = near * poly(x - digamma_middle, c_digamma)
        return total + (value + rest)

    def digamma(x):
        if x > zero:
            return digamma_positive(x)
        if x == zero:
            return copysign(inf, -x)
        fraction = x - rint(x)
        if fraction == zero or x == -inf:
            return nan
        # Reflection, Abramowitz and Stegun 6.3.7.
        return digamma_positive(one - x) - pi / tan(pi * fraction)

    functions = (erfinv, lgamma, digamma_positive, digamma)
    return {f.__name__: f for f in functions}
