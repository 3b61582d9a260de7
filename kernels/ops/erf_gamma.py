"""Special functions of one record each: erf, erfc, erfinv, lgamma, digamma, polygamma.

Functions made of several, and the rest of `engine.special`, are elsewhere.
"""
from __future__ import annotations

import math

import numpy as np

from .. import libm
from ..book import BOOK, FLOATS, pointwise

EDGES = (0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan)
COMMON = {"dtypes": FLOATS, "floating": True, "inplace": True, "work": 8}


def _scipy(name):
    """A function of scipy.special, asked for by name when a test calls it: the engine itself does without SciPy."""
    def like(*operands):
        import scipy.special
        return getattr(scipy.special, name)(*(x.astype(np.float64) for x in operands)).astype(operands[-1].dtype)
    return like


def _each(function):
    """A function of Python's `math` over an array, in float64, rounded to the array's dtype."""
    def like(x):
        return np.array([function(float(v)) for v in x.ravel()], np.float64).reshape(x.shape).astype(x.dtype)
    return like


@pointwise(partials=lambda x, out: (1.1283791670955126 * BOOK["exp"](-(x * x)),), like=_each(math.erf), special=EDGES, **COMMON,
           domain={"x": (-2.5, 2.5)})
def erf(x):
    """The error function."""
    return libm.erf(x)


@pointwise(partials=lambda x, out: (-1.1283791670955126 * BOOK["exp"](-(x * x)),), like=_each(math.erfc), special=EDGES,
           **COMMON,
           domain={"x": (-2.5, 2.5)})
def erfc(x):
    """1 - erf(x), accurate where that is small."""
    return libm.erfc(x)


@pointwise(partials=lambda x, out: (0.886226925452758 * BOOK["exp"](out * out),), like=_scipy("erfinv"), **COMMON,
           domain={"x": (-0.9, 0.9)}, special=(0.0, 1.0, -1.0, 2.0, np.nan), tol=8)
def erfinv(x):
    """The inverse of erf: infinite at -1 and 1, NaN beyond."""
    return libm.erfinv(x)


def _lgamma(x):
    try:
        return math.lgamma(x)
    except (ValueError, OverflowError):
        return math.inf


@pointwise(cancels=True, partials=lambda x, out: (BOOK["digamma"](x),), like=_each(_lgamma), domain={"x": (0.3, 6.0)}, tol=16,
           special=(1.0, 2.0, 0.0, -1.0, np.inf, np.nan), **COMMON)
def lgamma(x):
    """log |gamma(x)|."""
    return libm.lgamma(x)


@pointwise(cancels=True, partials=lambda x, out: (BOOK["polygamma_at"](1, x),), domain={"x": (0.3, 6.0)}, tol=16,
           special=(0.0, -1.0, np.inf, np.nan),
           like=_scipy("digamma"), **COMMON)
def digamma(x):
    """The derivative of lgamma; NaN at the negative integers, -inf or inf at 0 by its sign."""
    return libm.digamma(x)


def _zeta_sum(n, x):
    """Sum of (x + k)**-(n+1) over k >= 0: terms up to x + k = 12 + 2 n, then the expansion of Euler and Maclaurin.

    Its first term left out is below 1e-15 of the sum for every n.
    """
    s = n + 1
    total = 0
    y = x
    while y < 12 + 2 * n:
        total = total + libm.pow(y, -s)
        y = y + 1
    p = libm.pow(y, -s)
    total = total + libm.pow(y, -n) / n + p / 2
    w = 1 / (y * y)
    t = s * p / y
    total = total + t / 12
    t = t * (s + 1) * (s + 2) * w
    total = total - t / 720
    t = t * (s + 3) * (s + 4) * w
    total = total + t / 30240
    t = t * (s + 5) * (s + 6) * w
    total = total - t / 1209600
    t = t * (s + 7) * (s + 8) * w
    total = total + t / 47900160
    t = t * (s + 9) * (s + 10) * w
    return total - t * (691 / 1307674368000)


def _polygamma_samples(rng, dtype):
    return np.full(7, 2, dtype), rng.uniform(0.3, 6.0, 7).astype(dtype)


@pointwise(partials=lambda n, x, out: (None, BOOK["polygamma_at"](n + 1, x)), dtypes=FLOATS, function=False, method=False,
           node="PolygammaBackward0", work=32, samples=_polygamma_samples, like=_scipy("polygamma"), tol=32,
           special={"n": (1.0, 2.0, 5.0), "x": (0.0, 1.0, 20.0, np.inf, np.nan)},
           source="Abramowitz and Stegun 6.4.10; Euler-Maclaurin summation")
def polygamma_at(n, x):
    """The n-th derivative of digamma, n >= 1: (-1)**(n+1) n! zeta(n + 1, x).

    Infinite at the poles; NaN below -1000 for n > 1.
    """
    if not x > 0:
        if n == 1:          # trigamma(1 - x) + trigamma(x) = (pi / sin(pi x))**2
            s = libm.sin(3.141592653589793 * (x - libm.rint(x)))
            return 9.869604401089358 / (s * s) - _zeta_sum(n, 1 - x)
        if not x > -1000:
            return x / 0 * 0
    factor = libm.rint(libm.exp(libm.lgamma(n + 1))) if n < 9 else libm.exp(libm.lgamma(n + 1))
    odd = n - 2 * libm.floor(n / 2) > 0.5
    return _zeta_sum(n, x) * factor if odd else -_zeta_sum(n, x) * factor
