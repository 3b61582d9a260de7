"""Special functions beyond `erf_gamma`: Bessel functions, incomplete gamma functions, zeta, the normal distribution, entropy.

Names are PyTorch's, with its node names; `engine.special` publishes them. The arithmetic is in `kernels.libm_rare`, in float64.
Errors against mpmath over the domains of tests/test_special.py: i0, i1 and scaled ones 3 ulp; j0, j1, y0, y1 2e-15 of the larger
of 1 and the value, up to x = 1e4; erfcx, ndtri, log_ndtr 6 ulp; zeta 10 ulp; igamma, igammac 64 ulp, or the ulp of the
exponent where the value is tiny.
"""
from __future__ import annotations

import numpy as np

from .. import libm, libm_rare
from ..book import BOOK, FLOATS, pointwise, structural
from .erf_gamma import _scipy

inf = float("inf")
EDGES = (0.0, 1.0, -1.0, np.inf, -np.inf, np.nan)
COMMON = {"dtypes": FLOATS, "floating": True, "work": 16}
HIDDEN = {**COMMON, "function": False, "method": False}
NO_HALF = {"dtypes": FLOATS[1:], "floating": True, "work": 16, "function": False, "method": False}


def _where(condition, x, y):
    return BOOK["where"](condition, x, y)


def _refusal(kernel):
    return {"float16": f"\"{kernel}\" not implemented for 'Half'"}


# --- Bessel functions -------------------------------------------------------------------------------------------------

@pointwise(partials=lambda x, out: (BOOK["i1"](x),), like=_scipy("i0"), special=(0.0, 1.0, -1.0, np.nan), inplace=True,
           domain={"x": (-12.0, 12.0)}, **COMMON)
def i0(x):
    """The modified Bessel function of the first kind of order 0."""
    return libm_rare.i0(x)


@pointwise(partials=lambda x, out: (BOOK["i1e"](x) - BOOK["sign"](x) * out,), like=_scipy("i0e"), special=EDGES,
           domain={"x": (-12.0, 12.0)}, node="SpecialI0EBackward0", **HIDDEN)
def i0e(x):
    """exp(-|x|) i0(x)."""
    return libm_rare.i0e(x)


def _i1_partials(x, out):
    """i0(x) - i1(x) / x, and its limit 1/2 at 0."""
    flat = x == 0
    return (_where(flat, 0.5, BOOK["i0"](x) - out / _where(flat, 1, x)),)


@pointwise(partials=_i1_partials, like=_scipy("i1"), special=(0.0, 1.0, -1.0, np.nan), domain={"x": (0.5, 12.0)},
           node="SpecialI1Backward0", **HIDDEN)
def i1(x):
    """The modified Bessel function of the first kind of order 1."""
    return libm_rare.i1(x)


def _i1e_partials(x, out):
    flat = x == 0
    return (_where(flat, 0.5, BOOK["i0e"](x) - out * (BOOK["sign"](x) + 1 / _where(flat, 1, x))),)


@pointwise(partials=_i1e_partials, like=_scipy("i1e"), special=EDGES, domain={"x": (0.5, 12.0)}, node="SpecialI1EBackward0",
           **HIDDEN)
def i1e(x):
    """exp(-|x|) i1(x)."""
    return libm_rare.i1e(x)


def _bessel(kind, order, partials, low):
    """j0, j1, y0, y1: values as exact as the larger of 1 and the value."""
    name, function = f"bessel_{kind}{order}", getattr(libm_rare, f"{kind}{order}")

    @pointwise(name=name, partials=partials, like=_scipy(f"{kind}{order}"), domain={"x": (low, 30.0)}, cancels=True, tol=16,
               special=(0.0, 1.0, 5.0, np.nan), refusals=_refusal(f"{name}_cpu"),
               doc=f"The Bessel function of the {'first' if kind == 'j' else 'second'} kind of order {order}.", **NO_HALF)
    def value(x):
        return function(x)


_bessel("j", 0, lambda x, out: (-BOOK["bessel_j1"](x),), -30.0)
_bessel("j", 1, lambda x, out: (_where(x == 0, 0.5, BOOK["bessel_j0"](x) - out / _where(x == 0, 1, x)),), 0.5)
_bessel("y", 0, lambda x, out: (-BOOK["bessel_y1"](x),), 0.5)
_bessel("y", 1, lambda x, out: (BOOK["bessel_y0"](x) - out / x,), 0.5)


# --- the normal distribution ------------------------------------------------------------------------------------------

@pointwise(partials=lambda x, out: (0.3989422804014327 * BOOK["exp"](-0.5 * x * x),), like=_scipy("ndtr"), special=EDGES,
           domain={"x": (-4.0, 4.0)}, tol=8, node="MulBackward1", **HIDDEN)
def ndtr(x):
    """The normal distribution function."""
    return libm_rare.ndtr(x)


@pointwise(partials=lambda x, out: (0.7978845608028654 / BOOK["erfcx"](x * -0.7071067811865476),), like=_scipy("log_ndtr"),
           special=EDGES, domain={"x": (-8.0, 3.0)}, tol=8, node="SpecialLogNdtrBackward0", refusals=_refusal("log_ndtr_cpu"),
           **NO_HALF)
def log_ndtr(x):
    """The logarithm of the normal distribution function, accurate where that is tiny."""
    return libm_rare.log_ndtr(x)


@pointwise(partials=lambda x, out: (2.5066282746310002 * BOOK["exp"](0.5 * out * out),), like=_scipy("ndtri"),
           special=(0.0, 1.0, 0.5, -1.0, 2.0, np.nan), domain={"x": (0.01, 0.99)}, tol=16, node="SpecialNdtriBackward0",
           cancels=True, refusals=_refusal("ndtri_cpu"), **NO_HALF)
def ndtri(x):
    """The inverse of the normal distribution function; infinite at 0 and 1, NaN outside."""
    return libm_rare.ndtri(x)


@pointwise(partials=lambda x, out: (2 * x * out - 1.1283791670955126,), like=_scipy("erfcx"), special=EDGES,
           domain={"x": (-3.0, 40.0)}, tol=8, node="SpecialErfcxBackward0", refusals=_refusal("erfcx_cpu"), **NO_HALF)
def erfcx(x):
    """exp(x**2) erfc(x), which neither overflows nor vanishes for x > 0."""
    return libm_rare.erfcx(x)


# --- entropy and products with logarithms -----------------------------------------------------------------------------

def _entr_partials(x, out):
    """-log(x) - 1, infinite at 0, NaN below."""
    return (_where(x == 0, inf, -BOOK["log"](_where(x == 0, 1, x)) - 1),)


@pointwise(partials=_entr_partials, like=_scipy("entr"), special=EDGES, domain={"x": (0.1, 5.0)}, cancels=True,
           node="SpecialEntrBackward0", **HIDDEN)
def entr(x):
    """-x log(x); 0 at 0, -inf below."""
    return -x * libm.log(x) if x > 0 else (x if x != x else 0 if x == 0 else -inf)


def _xlog1py_partials(x, y, out):
    """log1p(y) and x / (1 + y); both 0 where x is 0 and y not above -1."""
    flat = (x == 0) & (y <= -1)
    inside = _where(flat, 0, y)
    return BOOK["log1p"](inside), _where(flat, 0, x / (1 + inside))


@pointwise(partials=_xlog1py_partials, like=_scipy("xlog1py"), domain={"y": (-0.9, 5.0)}, special=EDGES,
           node="SpecialXlog1PyBackward0", **HIDDEN)
def xlog1py(x, y):
    """x log(1 + y), and 0 where x is 0 whatever the logarithm (NaN where y is NaN)."""
    return y if y != y else (0 if x == 0 else x * libm.log1p(y))


# --- zeta and the incomplete gamma functions --------------------------------------------------------------------------

@pointwise(partials=lambda s, q, out: (None, -s * BOOK["zeta"](s + 1, q)), like=_scipy("zeta"), tol=32,
           domain={"s": (1.5, 9.0), "q": (0.3, 9.0)}, special={"s": (1.0, 0.5, 2.0, 30.0), "q": (0.5, 1.0, 20.0)},
           node="SpecialZetaBackward0", refusals=_refusal("zeta_cpu"), source="Euler-Maclaurin summation, DLMF 25.11.5", **NO_HALF)
def zeta(s, q):
    """Hurwitz's zeta function: the sum of (q + k)**-s over k >= 0. No derivative with respect to s."""
    return libm_rare.zeta(s, q)


def _gamma_density(a, x):
    return BOOK["exp"]((a - 1) * BOOK["log"](x) - x - BOOK["lgamma"](a))


# The tolerance is for SciPy's own error, at Q(0.5, 1) for one.
GAMMA = {"dtypes": FLOATS, "work": 32, "inplace": True, "domain": {"a": (0.3, 12.0), "x": (0.3, 12.0)}, "tol": 256,
         "refusals": {"int64": "\"igamma_cpu\" not implemented for 'Long'"},
         "special": {"a": (0.0, 0.5, 1.0, 20.0, np.inf, -1.0, np.nan), "x": (0.5, 1.0, 30.0, np.inf, -1.0, np.nan)},
         "source": "DLMF 8.7.1, 8.9.2, 8.12.3"}


@pointwise(partials=lambda a, x, out: (None, _gamma_density(a, x)), like=_scipy("gammainc"), node="IgammaBackward0", **GAMMA)
def igamma(a, x):
    """The regularised lower incomplete gamma function P(a, x). No derivative with respect to a."""
    return libm_rare.gammainc(a, x)


@pointwise(partials=lambda a, x, out: (None, -_gamma_density(a, x)), like=_scipy("gammaincc"), node="IgammacBackward0", **GAMMA)
def igammac(a, x):
    """The regularised upper incomplete gamma function 1 - P(a, x). No derivative with respect to a."""
    return libm_rare.gammaincc(a, x)


# --- whole-array records ----------------------------------------------------------------------------------------------

def _each_shift(name, x, p):
    """The sum of a function of x - k / 2 over k = 0 .. p - 1."""
    total = BOOK[name](x)
    for k in range(1, p):
        total = BOOK["add"](total, BOOK[name](BOOK["sub"](x, k / 2)))
    return total


@structural(["x"], anywhere=True, dtypes=FLOATS, function=False, method=False,
            adjoint=lambda g, x, p: g * _each_shift("digamma", x, p), like=lambda x, p: _multigammaln(x, p),
            samples=lambda rng, dtype: iter([([rng.uniform(1.5, 6, (2, 3))], {"p": 3})] if dtype == "float64" else []))
def mvlgamma(x, p):
    """The multivariate log-gamma function of dimension p: p (p - 1) / 4 log(pi) + sum of lgamma(x - k / 2), k < p."""
    from ..cpu import buffers
    from .matmul import compute
    from .windows import repeat
    total = buffers.empty(x.shape, x.dtype)
    repeat(total, p * (p - 1) / 4 * 1.1447298858494002)
    for k in range(p):
        shifted = compute("sub", buffers.empty(x.shape, x.dtype), x, k / 2)
        compute("add", total, total, compute("lgamma", buffers.empty(x.shape, x.dtype), shifted))
    return total


def _multigammaln(x, p):
    import scipy.special
    return scipy.special.multigammaln(x, p)


def _refuse(what, needs):
    if needs[1]:
        raise NotImplementedError(f"the derivative for '{what}' is not implemented.")


@structural(["x", "other"], anywhere=True, dtypes=FLOATS, function=False, method=False, node="NotImplemented", adjoint=_refuse)
def without_derivative(x, other, what):
    """x itself, which depends on `other` in a way that has no derivative here: backward says so."""
    return x
