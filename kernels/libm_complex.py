"""Elementary functions of complex numbers, made of the float64 functions; complex64 is computed in complex128.

`build(real)` takes the float64 functions by name and gives the complex ones by name; libm.py collects them.
Branch cuts and signed zeros follow C99 annex G, as NumPy and cmath do.  Method: W. Kahan, Branch Cuts for Complex
Elementary Functions (1987); the functions of i z are those of z turned by a quarter.
"""

import math

import numpy as np

from .libm_base import LN2, LOG2_E, LOG10_E, copysign, fabs, fma, rint, select, split, sqrt, unordered


def build(real: dict) -> tuple:
    """The complex functions by name, each of complex128, and a tuple of the helpers that they call.

    Names:   x + i y the argument, u + i v the result
    Errors:  none: overflow gives inf, poles inf or nan as in C99
    """
    exp_, exp_times, sin_, cos_, tan_ = real["exp"], real["exp_times"], real["sin"], real["cos"], real["tan"]
    sinh_, cosh_, asinh_, log_, log1p_ = real["sinh"], real["cosh"], real["asinh"], real["log"], real["log1p"]
    atan2, hypot, real_tanh = real["atan2"], real["hypot"], real["tanh"]
    zero, quarter, half, one, two, four = (np.float64(v) for v in (0.0, 0.25, 0.5, 1.0, 2.0, 4.0))
    inf, nan = np.float64(math.inf), np.float64(math.nan)
    ln2 = split(LN2, np.float64, 1)[0]
    log2_e, log10_e = split(LOG2_E, np.float64, 1)[0], split(LOG10_E, np.float64, 1)[0]
    half_pi = np.float64(math.pi / 2)
    exp_high = np.float64(708.0)
    shift_ln2, two_power = np.float64(64.0) * ln2, np.float64(2.0**64)
    tanh_high = np.float64(20.0)
    huge, scale_up, scale_down = np.float64(2.0**1000), np.float64(2.0**54), np.float64(2.0**-54)
    root_scale_down = np.float64(2.0**-27)
    far = np.float64(2.0**500)
    least_normal = np.float64(2.0**-1000)
    power_limit = np.float64(64.0)

    def isnan(z):
        return unordered(z.real, z.imag)

    def isinf(z):
        return (fabs(z.real) == inf) | (fabs(z.imag) == inf)

    def isfinite(z):
        return (fabs(z.real) < inf) & (fabs(z.imag) < inf)

    def abs(z):
        return hypot(z.real, z.imag)

    def times(a, b, c, d):
        """(a + i b)(c + i d), each part rounded about once."""
        bd, bc = b * d, b * c
        return fma(a, c, -bd) - fma(b, d, -bd), fma(a, d, bc) + fma(b, c, -bc)

    def over(a, b, c, d):
        """(a + i b) / (c + i d) by Smith's method (1962)."""
        if fabs(c) >= fabs(d):
            ratio = d / c
            bottom = fma(d, ratio, c)
            return fma(b, ratio, a) / bottom, fma(-a, ratio, b) / bottom
        ratio = c / d
        bottom = fma(c, ratio, d)
        return fma(a, ratio, b) / bottom, fma(b, ratio, -a) / bottom

    def polar(log_size, angle):
        """e**(log_size + i angle), without overflow before the product overflows."""
        if angle == zero:
            return exp_(log_size), angle
        c, s = cos_(angle), sin_(angle)
        if log_size == -inf:
            return (zero * c, zero * s) if fabs(angle) < inf else (zero, zero)
        if log_size == inf and not fabs(angle) < inf:
            return inf, c
        if exp_high < log_size < inf:
            size = exp_(log_size - shift_ln2)
            return size * c * two_power, size * s * two_power
        size = exp_(log_size)
        return size * c, size * s

    def exp(z):
        u, v = polar(z.real, z.imag)
        return complex(u, v)

    def log_size(x, y):
        """log |x + i y|, with full relative accuracy near the unit circle as far as x and y allow."""
        a, b = fabs(x), fabs(y)
        top, bottom = select(a > b, a, b), select(a > b, b, a)
        if top == inf or bottom == inf:
            return inf
        if top > huge:
            return log_(hypot(top * quarter, bottom * quarter)) + two * ln2
        if half < top < two and bottom < two:
            # |z|**2 - 1 in two parts.
            p = (top - one) * (top + one)
            p_lo = fma(top - one, top + one, -p)
            q = bottom * bottom
            q_lo = fma(bottom, bottom, -q)
            total = p + q
            back = total - p
            total = total + ((p - (total - back)) + (q - back) + p_lo + q_lo)
            if total > -half:
                return half * log1p_(total)
        if top < least_normal:
            return log_(hypot(top * two_power, bottom * two_power)) - shift_ln2
        return log_(hypot(top, bottom))

    def log(z):
        return complex(log_size(z.real, z.imag), atan2(z.imag, z.real))

    def log2(z):
        return complex(log_size(z.real, z.imag) * log2_e, atan2(z.imag, z.real) * log2_e)

    def log10(z):
        return complex(log_size(z.real, z.imag) * log10_e, atan2(z.imag, z.real) * log10_e)

    def log1p(z):
        x, y = z.real, z.imag
        if fabs(x) < half and fabs(y) < half:
            # |1 + z|**2 - 1 = x (2 + x) + y**2 in two parts.
            p = x * (two + x)
            p_lo = fma(x, two, fma(x, x, -p))
            q = y * y
            total = p + q
            back = total - p
            total = total + ((p - (total - back)) + (q - back) + p_lo + fma(y, y, -q))
            return complex(half * log1p_(total), atan2(y, one + x))
        return complex(log_size(one + x, y), atan2(y, one + x))

    def root(x, y):
        """The square root in the right half plane."""
        a, b = fabs(x), fabs(y)
        if b == inf:
            return inf, y
        if a == inf:
            if x > zero:
                return inf, (copysign(zero, y) if b < inf else y)
            return (zero * b, copysign(inf, y))
        if a == zero and b == zero:
            return zero, y
        scale, back = one, one
        if a > huge or b > huge:
            scale, back = quarter, two
        elif a < least_normal and b < least_normal:
            scale, back = scale_up, root_scale_down
        a, b = a * scale, b * scale
        w = sqrt(half * (a + hypot(a, b)))
        other = half * b / w
        if x >= zero:
            return w * back, copysign(other * back, y)
        return other * back, copysign(w * back, y)

    def sqrt_complex(z):
        u, v = root(z.real, z.imag)
        return complex(u, v)

    def rsqrt(z):
        u, v = root(z.real, z.imag)
        u, v = over(one, zero, u, v)
        return complex(u, v)

    def sinh_parts(x, y):
        if y == zero:
            return sinh_(x), y
        c, s = cos_(y), sin_(y)
        if x == zero:
            return (x * c if fabs(y) < inf else x), s
        if not fabs(y) < inf:
            return select(fabs(x) == inf, x, c), c
        if exp_high < fabs(x) < inf:
            size = exp_times(fabs(x) - shift_ln2, -one)
            return copysign(size, x) * c * two_power, size * s * two_power
        return sinh_(x) * c, cosh_(x) * s

    def cosh_parts(x, y):
        if y == zero:
            return cosh_(x), y * copysign(one, x)
        c, s = cos_(y), sin_(y)
        if x == zero:
            return c, (x * s if fabs(y) < inf else zero)
        if not fabs(y) < inf:
            return select(fabs(x) == inf, inf, c), c
        if exp_high < fabs(x) < inf:
            size = exp_times(fabs(x) - shift_ln2, -one)
            return size * c * two_power, copysign(size, x) * s * two_power
        return cosh_(x) * c, sinh_(x) * s

    def tanh_parts(x, y):
        if y == zero:
            return real_tanh(x), y
        if fabs(x) > tanh_high and (fabs(y) < inf or fabs(x) == inf):
            size = four * exp_(-two * fabs(x))
            v = size * sin_(y) * cos_(y) if fabs(y) < inf else zero
            return copysign(one, x), v
        if x == zero:
            return x, tan_(y)
        t, s = tan_(y), sinh_(x)
        beta = fma(t, t, one)
        rho = sqrt(fma(s, s, one))
        if fabs(t) > far:
            return rho / s, one / (t * s * s)
        bottom = fma(beta * s, s, one)
        return beta * rho * s / bottom, t / bottom

    def sinh(z):
        u, v = sinh_parts(z.real, z.imag)
        return complex(u, v)

    def cosh(z):
        u, v = cosh_parts(z.real, z.imag)
        return complex(u, v)

    def tanh(z):
        u, v = tanh_parts(z.real, z.imag)
        return complex(u, v)

    def sin(z):
        u, v = sinh_parts(-z.imag, z.real)
        return complex(v, -u)

    def cos(z):
        u, v = cosh_parts(-z.imag, z.real)
        return complex(u, v)

    def tan(z):
        u, v = tanh_parts(-z.imag, z.real)
        return complex(v, -u)

    def asin_parts(x, y):
        if unordered(x, y):
            if fabs(x) == inf or fabs(y) == inf:
                return nan, copysign(inf, y)
            return (x if x == zero else nan), nan
        if fabs(x) > far or fabs(y) > far:
            return atan2(x, fabs(y)), copysign(log_size(x, y) + ln2, y)
        a, b = root(one - x, -y)
        c, d = root(one + x, y)
        u, _ = times(a, b, c, d)
        _, v = times(a, -b, c, d)
        return atan2(x, u), copysign(fabs(asinh_(v)), y)

    def asin(z):
        u, v = asin_parts(z.real, z.imag)
        return complex(u, v)

    def asinh(z):
        u, v = asin_parts(-z.imag, z.real)
        return complex(v, -u)

    def acos_parts(x, y):
        if unordered(x, y):
            if fabs(x) == inf or fabs(y) == inf:
                return nan, copysign(inf, -y)
            return (half_pi if x == zero else nan), nan
        if fabs(x) > far or fabs(y) > far:
            return atan2(fabs(y), x), copysign(log_size(x, y) + ln2, -y)
        a, b = root(one - x, -y)
        c, d = root(one + x, y)
        _, v = times(c, -d, a, b)
        return two * atan2(a, c), copysign(fabs(asinh_(v)), -y)

    def acos(z):
        u, v = acos_parts(z.real, z.imag)
        return complex(u, v)

    def acosh(z):
        # i acos z or -i acos z, whichever has its real part at or above zero.
        u, v = acos_parts(z.real, z.imag)
        return complex(fabs(v), copysign(u, z.imag))

    def atanh_parts(x, y):
        a, b = fabs(x), fabs(y)
        if unordered(x, y):
            if b == inf:
                return copysign(zero, x), copysign(half_pi, y)
            return (copysign(zero, x) if (a == zero) | (a == inf) else nan), nan
        if a > far or b > far:
            # 1 / z far out; the angle is a quarter turn.
            u = zero if a == inf or b == inf else over(one, zero, a, b)[0]
            return copysign(u, x), copysign(half_pi, y)
        if a == one and b == zero:
            return copysign(inf, x), y
        # 4 a / ((1 - a)**2 + b**2) under log1p; the angle of (1 - a)(1 + a) - b**2 + 2 i b.
        gap = one - a
        if a == one and b < scale_down:
            u = half * (ln2 - log_(b))
        else:
            u = quarter * log1p_(four * a / fma(gap, gap, b * b))
        v = half * atan2(two * b, fma(gap, one + a, -b * b))
        return copysign(u, x), copysign(v, y)

    def atanh(z):
        u, v = atanh_parts(z.real, z.imag)
        return complex(u, v)

    def atan(z):
        u, v = atanh_parts(-z.imag, z.real)
        return complex(v, -u)

    def sigmoid(z):
        # The side on which the exponential is at most 1: it never overflows.
        if z.real < zero:
            u, v = polar(z.real, z.imag)
            u, v = over(u, v, one + u, v)
        else:
            u, v = polar(-z.real, -z.imag)
            u, v = over(one, zero, one + u, v)
        return complex(u, v)

    def pow(z, w):
        x, y, c, d = z.real, z.imag, w.real, w.imag
        if c == zero and d == zero:
            return complex(one, zero)
        if x == zero and y == zero:
            if c > zero:
                return complex(zero, zero)
            return complex(nan, nan)
        if d == zero and rint(c) == c and fabs(c) <= power_limit:
            # Small integers by repeated squaring: exact where the result is.
            n = fabs(c)
            u, v = one, zero
            while n > zero:
                n_half = rint(n * half - quarter)
                if n - n_half - n_half > half:
                    u, v = times(u, v, x, y)
                x, y = times(x, y, x, y)
                n = n_half
            if c < zero:
                u, v = over(one, zero, u, v)
            return complex(u, v)
        size, angle = log_size(x, y), atan2(y, x)
        if d == zero:
            u, v = polar(c * size, c * angle)
        else:
            u, v = times(c, d, size, angle)
            u, v = polar(u, v)
        return complex(u, v)

    helpers = (
        times, over, polar, log_size, root, sinh_parts, cosh_parts, tanh_parts, asin_parts, acos_parts, atanh_parts,
    )  # fmt: skip
    functions = {f.__name__: f for f in (
        isnan, isinf, isfinite, abs, exp, log, log2, log10, log1p, rsqrt, sinh, cosh, tanh, sin, cos, tan,
        asin, acos, atan, asinh, acosh, atanh, sigmoid, pow,
    )}  # fmt: skip
    functions["sqrt"] = sqrt_complex
    return functions, helpers
