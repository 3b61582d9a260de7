"""Rare special functions of one or two numbers, the same in plain Python and in kernels: libm_rare.i0(x), zeta(s, q), ...

As `libm`, whose functions they are made of, but accuracy comes before speed: branches and loops, everything in float64 (float32
is rounded from it). Here are the incomplete gamma functions, Hurwitz's zeta, and relatives of the normal distribution;
Bessel functions are in `libm_bessel`. lowering.py makes VARIANTS and HELPERS known to numba. Sources:
    erfcx       the variable of Shepherd and Laframboise, as in `libm_special`; far away Abramowitz and Stegun 7.1.23
    ndtri       Newton's method on log_ndtr from the first terms of A&S 26.2.23's asymptotic kind
    zeta        Euler and Maclaurin's formula, A&S 23.2.23 for Hurwitz's function (DLMF 25.11.5)
    gammainc    series and continued fraction (DLMF 8.7.1, 8.9.2), Temme's expansion for large a (DLMF 8.12.3; DiDonato and
                Morris, ACM TOMS 12 (1986)), small a after Gautschi, ACM TOMS 5 (1979)
"""
from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from . import libm
from .libm_base import DOUBLE, coefficients, fabs, floor, fma, poly

# fmt: off
# (zeta(k) - 1) (-1)**k / k for k = 2, 3, ...: a**2 times this in a, with a (1 - gamma) - log1p(a), is lgamma(1 + a)
# (Abramowitz and Stegun 6.1.33).
LGAM1P = (
    0.3224670334241132, -0.0673523010531981, 0.020580808427784546, -0.007385551028673986, 0.0028905103307415234,
    -0.001192753911703261, 0.0005096695247430425, -0.00022315475845357939, 9.945751278180853e-05,
    -4.492623673813314e-05, 2.050721277567069e-05, -9.439488275268397e-06, 4.374866789907488e-06,
    -2.039215753801366e-06, 9.55141213040742e-07, -4.492469198764566e-07, 2.1207184805554665e-07,
    -1.0043224823968099e-07, 4.7698101693639804e-08, -2.2711094608943164e-08, 1.0838659214896955e-08,
    -5.183475041970047e-09, 2.4836745438024785e-09, -1.1921401405860912e-09, 5.731367241678862e-10,
    -2.7595228851242334e-10, 1.330476437424449e-10, -6.4229645638381e-11, 3.1044247747322276e-11,
    -1.5021384080754142e-11,
)
# fmt: on

# B(2k) / (2k)! for k = 1, 2, ...: the corrections of Euler and Maclaurin's formula.
BERNOULLI = (1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600,
             -3617 / 10670622842880000, 43867 / 5109094217170944000)
# Coefficients of Temme's expansion in eta: C0, C1, C2 (DLMF 8.12.13 and after).
TEMME = ((-1 / 3, 1 / 12, -2 / 135, 1 / 864, 1 / 2835, -139 / 777600, 1 / 25515, -571 / 261273600, -281 / 151559100),
         (-1 / 540, -1 / 288, 1 / 378, -77 / 77760, 1 / 4860), (25 / 6048, -139 / 51840, 1 / 1296))
LARGE = 1.0e4           # from this `a` on Temme's expansion replaces long series near x = a


def _run(function, *args):
    """Compute in plain Python: float32 where all arguments are, NumPy's types kept, Python's given back as such."""
    single = all(isinstance(a, (np.float32, np.float16)) for a in args)
    with np.errstate(all="ignore"):
        variant = _tables()[0][function]["float32" if single else "float64"]
        result = variant(*(np.float32(a) if single else np.float64(a) for a in args))
    return result if any(isinstance(a, np.generic) for a in args) else float(result)


def i0(x: libm.Number) -> libm.Number:
    """The modified Bessel function of the first kind of order 0."""
    return _run(i0, x)


def i0e(x: libm.Number) -> libm.Number:
    """exp(-|x|) i0(x)."""
    return _run(i0e, x)


def i1(x: libm.Number) -> libm.Number:
    """The modified Bessel function of the first kind of order 1."""
    return _run(i1, x)


def i1e(x: libm.Number) -> libm.Number:
    """exp(-|x|) i1(x)."""
    return _run(i1e, x)


def j0(x: libm.Number) -> libm.Number:
    """The Bessel function of the first kind of order 0; 0 at infinity."""
    return _run(j0, x)


def j1(x: libm.Number) -> libm.Number:
    """The Bessel function of the first kind of order 1; 0 at infinity."""
    return _run(j1, x)


def y0(x: libm.Number) -> libm.Number:
    """The Bessel function of the second kind of order 0; nan below 0."""
    return _run(y0, x)


def y1(x: libm.Number) -> libm.Number:
    """The Bessel function of the second kind of order 1; nan below 0."""
    return _run(y1, x)


def erfcx(x: libm.Number) -> libm.Number:
    """exp(x**2) erfc(x)."""
    return _run(erfcx, x)


def ndtr(x: libm.Number) -> libm.Number:
    """The normal distribution function."""
    return _run(ndtr, x)


def log_ndtr(x: libm.Number) -> libm.Number:
    """The logarithm of the normal distribution function."""
    return _run(log_ndtr, x)


def ndtri(x: libm.Number) -> libm.Number:
    """The inverse of the normal distribution function; infinite at 0 and 1, nan outside."""
    return _run(ndtri, x)


def zeta(s: libm.Number, q: libm.Number) -> libm.Number:
    """Hurwitz's zeta function, the sum of (q + k)**-s over k = 0, 1, ...; inf for s = 1, nan below."""
    return _run(zeta, s, q)


def gammainc(a: libm.Number, x: libm.Number) -> libm.Number:
    """The regularised lower incomplete gamma function P(a, x); nan for negative arguments."""
    return _run(gammainc, a, x)


def gammaincc(a: libm.Number, x: libm.Number) -> libm.Number:
    """The regularised upper incomplete gamma function Q(a, x) = 1 - P(a, x)."""
    return _run(gammaincc, a, x)


def _build(f64: dict) -> dict:
    """The functions for float64 by name, and their helpers, from libm's float64 functions."""
    real = np.float64
    zero, half, one, two, three, ten = (real(v) for v in (0.0, 0.5, 1.0, 2.0, 3.0, 10.0))
    inf, nan, tiny, eps = real(math.inf), real(math.nan), real(1e-300), real(2.0**-54)
    exp, log, log1p, expm1, sqrt, power, lgamma, erfc, erfinv, exp_sum = (
        f64[n] for n in ("exp", "log", "log1p", "expm1", "sqrt", "pow", "lgamma", "erfc", "erfinv", "exp_sum"))
    root_half, root_two, root_pi = real(math.sqrt(0.5)), real(math.sqrt(2.0)), real(math.sqrt(math.pi))
    root_two_over_pi, two_pi = real(math.sqrt(2 / math.pi)), real(2 * math.pi)
    one_less_gamma = real(0.42278433509846713939)
    from . import libm_special
    c_erfcx, center = coefficients(DOUBLE, libm_special.ERFCX), real(3.75)
    c_far = tuple(real((-1) ** k * math.prod(range(1, 2 * k, 2))) for k in range(9))
    c_lgam, c_bernoulli = tuple(real(c) for c in LGAM1P), tuple(real(c) for c in BERNOULLI)
    c_temme0, c_temme1, c_temme2 = (tuple(real(c) for c in t) for t in TEMME)
    c_stirling = tuple(real(c) for c in (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156))
    erfcx_far, erfcx_end, middle, large = real(28.0), real(6.7e7), real(0.075), real(LARGE)
    ndtr_low = real(-40.0)
    zeta_reach, zeta_low, third, reach = real(12.0), real(-1.0e5), real(0.4), real(1.1)

    def erfcx_positive(a):
        """erfcx for a >= 1/2."""
        if a >= erfcx_far:
            if a > erfcx_end:
                return one / (a * root_pi)
            return poly(half / (a * a), c_far) / (a * root_pi)
        return (one + poly((a - center) / (a + center), c_erfcx)) / fma(two, a, one)

    def erfcx(x):
        if x >= half:
            return erfcx_positive(x)
        square = x * x
        e = exp_sum(square, fma(x, x, -square)) if square < real(1000.0) else inf
        if x > -half:
            return e * erfc(x)
        return two * e - (erfcx_positive(-x) if x < zero else x)

    def ndtr_below(a):
        """The distribution function at -a, for a > 1; the exponent in two parts, since a rounding of it would show."""
        square = half * a * a
        return half * erfcx_positive(a * root_half) * exp_sum(-square, -fma(half * a, a, -square))

    def ndtr(x):
        if x < -one:
            return ndtr_below(-x) if x > ndtr_low else zero
        return half * erfc(-x * root_half)

    def log_ndtr(x):
        if x < -one:
            return log(half * erfcx_positive(-x * root_half)) - half * x * x
        return log1p(-ndtr_below(x) if x < -ndtr_low else -zero) if x > one else log1p(-half * erfc(x * root_half))

    def ndtri(p):
        if not (p > zero and p < one):
            return -inf if p == zero else inf if p == one else nan
        q = p if p <= half else one - p
        if q > middle:
            return root_two * erfinv(two * (p - half))
        target = log(q)
        w = -two * target
        y = sqrt(w - log(w * two_pi * half))
        y = sqrt(w - log(two_pi * (y * y + one)))
        for _ in range(4):      # the logarithm of the distribution is concave, and nearly a parabola out there
            e = erfcx_positive(y * root_half)
            y = y + (log(half * e) - half * y * y - target) * e / root_two_over_pi
        return -y if p <= half else y

    def zeta(s, q):
        if not s > one:
            return inf if s == one else nan
        if not q > zero:
            if q == floor(q):
                return inf
            if s != floor(s) or not q > zeta_low:
                return nan
        total, y = zero, q
        limit = zeta_reach + s
        while y < limit:
            term = power(y, -s)
            total = total + term
            if y > zero and term < eps * total * (s - one) / y:
                return total
            y = y + one
        p = power(y, -s)
        total = total + (y * p / (s - one) + half * p)
        t = s * p / y
        shift = zero
        for b in c_bernoulli:
            total = total + b * t
            t = t * (s + shift + one) / y * (s + shift + two) / y
            shift = shift + two
        return total

    def lgamma1p(a):
        """lgamma(1 + a) for small a."""
        if fabs(a) < half:
            return a * one_less_gamma - log1p(a) + a * a * poly(a, c_lgam)
        return lgamma(one + a)

    def log1p_less(m):
        """log1p(m) - m, for m > -1."""
        if m > half or m < -half:
            return log1p(m) - m
        s = m / (two + m)
        z = s * s
        term, total, k = s * z, zero, three
        while fabs(term) > eps * fabs(total) * half:
            total = total + term / k
            term = term * z
            k = k + two
        return two * total - m * s

    def density(a, x):
        """x**a exp(-x) / gamma(a)."""
        if a < one:
            return a * exp(a * log(x) - x - lgamma1p(a))
        if a < ten:
            return exp(a * log(x) - x - lgamma1p(a - one))
        correction = poly(one / (a * a), c_stirling) / a
        return sqrt(a / two_pi) * exp(a * log1p_less((x - a) / a) - correction)

    def lower_series(a, x):
        """P by its power series."""
        term = total = one / a
        k = a
        while term > eps * total:
            k = k + one
            term = term * x / k
            total = total + term
        return total * density(a, x)

    def upper_fraction(a, x):
        """Q by its continued fraction (Lentz's method)."""
        b = x + one - a
        c = one / tiny
        d = one / b if b != zero else one / tiny
        h, k, change = d, zero, two
        while fabs(change - one) > eps * two and k < large * ten:
            k = k + one
            step = -k * (k - a)
            b = b + two
            d = step * d + b
            d = one / (d if fabs(d) > tiny else tiny)
            c = b + step / c
            c = c if fabs(c) > tiny else tiny
            change = d * c
            h = h * change
        return h * density(a, x)

    def upper_small(a, x):
        """Q for small a and x: 1 - x**a / gamma(1 + a) (1 + a sum of (-x)**n / (n! (a + n)))."""
        term, total, n = one, zero, zero
        while fabs(term) > eps * fabs(total) or n < one:
            n = n + one
            term = -term * x / n
            total = total + term / (a + n)
        u = a * log(x) - lgamma1p(a)
        return -expm1(u) - exp(u) * a * total

    def temme(a, x, side):
        """Q for side 1 and P for side -1, where a is large and x near it."""
        m = (x - a) / a
        phi = -log1p_less(m)
        eta = sqrt(two * phi)
        eta = -eta if m < zero else eta
        rest = poly(eta, c_temme0) + (poly(eta, c_temme1) + poly(eta, c_temme2) / a) / a
        rest = rest * exp(-a * phi) / sqrt(two_pi * a)
        return half * erfc(side * eta * sqrt(half * a)) + side * rest

    def near(a, x):
        """Whether Temme's expansion serves."""
        return a > large and fabs(x - a) < real(0.1) * a

    def bounds(a, x):
        """P at the edges of its domain; -1 inside."""
        if not (a >= zero and x >= zero):
            return nan
        if a == zero:
            return one if x > zero else nan
        if x == zero:
            return zero
        if a == inf:
            return nan if x == inf else zero
        return one if x == inf else -one

    def either(a, x, upper):
        """P, or Q where `upper` is one: whichever can be computed without a difference."""
        edge = bounds(a, x)
        if edge != -one:
            return one - edge if upper == one else edge
        if near(a, x):
            return temme(a, x, one if upper == one else -one)
        if x > reach and x > a:
            q = upper_fraction(a, x)
            return q if upper == one else one - q
        if upper == one and x <= reach and ((x < half and -third / log(x) >= a) or (x >= half and x * reach >= a)):
            return upper_small(a, x)
        p = lower_series(a, x)
        return one - p if upper == one else p

    def gammainc(a, x):
        return either(a, x, zero)

    def gammaincc(a, x):
        return either(a, x, one)

    functions = (erfcx_positive, erfcx, ndtr_below, ndtr, log_ndtr, ndtri, zeta, lgamma1p, log1p_less, density, lower_series,
                 upper_fraction, upper_small, temme, near, bounds, either, gammainc, gammaincc)
    return {f.__name__: f for f in functions}


def _rounded(function, count):
    """The float32 variant of a function of one or two numbers."""

    def single(x):
        return np.float32(function(np.float64(x)))

    def single_of_two(x, y):
        return np.float32(function(np.float64(x), np.float64(y)))

    return single if count == 1 else single_of_two


PUBLIC = (i0, i0e, i1, i1e, j0, j1, y0, y1, erfcx, ndtr, log_ndtr, ndtri, zeta, gammainc, gammaincc)


@functools.cache
def _made():
    """VARIANTS, and HELPERS: what the variants are and call."""
    f64 = {f.__name__: kinds["float64"] for f, kinds in libm.VARIANTS.items() if "float64" in kinds}
    f64.update((f.__name__, f) for f in libm.HELPERS if f.__name__ == "exp_sum")       # float64's comes last
    from . import libm_bessel
    doubles = {**libm_bessel.build(f64), **_build(f64)}
    variants = {f: {"float64": doubles[f.__name__], "float32": _rounded(doubles[f.__name__], 2 if f in PUBLIC[-3:] else 1)}
                for f in PUBLIC}
    return variants, [*doubles.values(), *(kinds["float32"] for kinds in variants.values())]


def _tables():
    with libm.lock:
        return _made()


def __getattr__(name: str) -> Any:
    """VARIANTS and HELPERS, made when first asked for, as those of `libm`."""
    if name in ("VARIANTS", "HELPERS"):
        return _tables()[name == "HELPERS"]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
