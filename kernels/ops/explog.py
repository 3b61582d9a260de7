"""Exponentials, logarithms and what is made of them in one formula: sigmoid, logit, logaddexp, xlogy."""
from __future__ import annotations

import numpy as np

from .. import libm
from ..book import BOOK, COMPLEX, FLOATS, pointwise

EDGES = (0.0, -0.0, 1.0, np.inf, -np.inf, np.nan)
ANY = FLOATS + COMPLEX


@pointwise(partials=lambda x, out: (out,), dtypes=ANY, floating=True, inplace=True, like=np.exp, special=EDGES,
           domain={"x": (-4.0, 4.0)}, source="C99 7.12.6.1", work=4)
def exp(x):
    """e to the power of each element."""
    return libm.exp(x)


def _complex_exp2(z):
    return libm.exp(z * 0.6931471805599453)


@pointwise(partials=lambda x, out: (out * 0.6931471805599453,), dtypes=ANY, floating=True, inplace=True, like=np.exp2,
           special=EDGES, domain={"x": (-4.0, 4.0)}, bodies={"complex": _complex_exp2}, work=4)
def exp2(x):
    """2 to the power of each element."""
    return libm.exp2(x)


def _complex_expm1(z):
    """exp(x) cos(y) - 1 without cancellation near 0: expm1(x) cos(y) - 2 sin(y/2)**2 (and exp(x) sin(y))."""
    half = libm.sin(z.imag * 0.5)
    return complex(libm.expm1(z.real) * libm.cos(z.imag) - 2 * half * half, libm.exp(z.real) * libm.sin(z.imag))


@pointwise(partials=lambda x, out: (out + 1,), dtypes=ANY, floating=True, inplace=True, like=np.expm1, special=EDGES,
           domain={"x": (-4.0, 4.0)}, bodies={"complex": _complex_expm1}, work=4)
def expm1(x):
    """e to the power of each element minus 1, accurate near 0."""
    return libm.expm1(x)


@pointwise(partials=lambda x, out: (1 / x,), dtypes=ANY, floating=True, inplace=True, like=np.log, special=EDGES,
           domain={"x": (0.1, 9.0)}, source="C99 7.12.6.7", work=4)
def log(x):
    """Natural logarithm: -inf at 0, NaN below."""
    return libm.log(x)


@pointwise(partials=lambda x, out: (1 / (x * 0.6931471805599453),), dtypes=ANY, floating=True, inplace=True, like=np.log2,
           special=EDGES, domain={"x": (0.1, 9.0)}, work=4)
def log2(x):
    """Logarithm to base 2."""
    return libm.log2(x)


@pointwise(partials=lambda x, out: (1 / (x * 2.302585092994046),), dtypes=ANY, floating=True, inplace=True, like=np.log10,
           special=EDGES, domain={"x": (0.1, 9.0)}, work=4)
def log10(x):
    """Logarithm to base 10."""
    return libm.log10(x)


@pointwise(partials=lambda x, out: (1 / (x + 1),), dtypes=ANY, floating=True, inplace=True, like=np.log1p, special=EDGES,
           domain={"x": (-0.8, 9.0)}, node="Log1PBackward0", work=4)
def log1p(x):
    """log(1 + x), accurate near 0."""
    return libm.log1p(x)


@pointwise(partials=lambda x, out: (out * (1 - out),), dtypes=ANY, floating=True, inplace=True,
           like=lambda x: 1 / (1 + np.exp(-x)), special=EDGES, domain={"x": (-6.0, 6.0)}, work=4)
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return libm.sigmoid(x)


# cancels: the quotient near 1 is rounded, so that the logarithm has its error in ulp of 1 (PyTorch computes the same)
@pointwise(cancels=True, partials=lambda x, out: (BOOK["where"](out != out, out, 1 / (x * (1 - x))),), dtypes=FLOATS, floating=True,
           function=False, method=False,
           like=lambda x: np.log(x / (1 - x)), domain={"x": (0.05, 0.95)}, special=(0.0, 1.0, 0.5, 2.0, -1.0, np.nan), tol=8,
           node="LogitBackward0", work=4)
def logit_plain(x):
    """log(x / (1 - x)); infinite at 0 and 1, NaN outside."""
    return libm.log(x / (1 - x))


def _complex_logaddexp(x, y):
    """From the operand with the larger real part, so that exp does not overflow."""
    return x + libm.log1p(libm.exp(y - x)) if x.real >= y.real else y + libm.log1p(libm.exp(x - y))


def _numpy_logaddexp(x, y):
    """Of complex numbers the branch near the larger operand, as PyTorch: the angle is not brought back to (-pi, pi]."""
    if x.dtype.kind == "f":
        return np.logaddexp(x, y)
    first = x.real >= y.real
    larger, smaller = np.where(first, x, y), np.where(first, y, x)
    return larger + np.log(1 + np.exp(smaller - larger))


@pointwise(cancels=True, partials=lambda x, y, out: (BOOK["sigmoid"](x - y), BOOK["sigmoid"](y - x)), dtypes=ANY,
           like=_numpy_logaddexp,
           bodies={"complex": _complex_logaddexp},
           domain={"x": (-5.0, 5.0), "y": (-5.0, 5.0)}, special=EDGES, inplace=False, work=8,
           refusals={"int64": '"logaddexp_cpu" not implemented for \'Long\''})
def logaddexp(x, y):
    """log(exp(x) + exp(y)) without overflow."""
    return libm.logaddexp(x, y)


@pointwise(cancels=True, partials=lambda x, y, out: (BOOK["sigmoid"]((x - y) * 0.6931471805599453),
                                       BOOK["sigmoid"]((y - x) * 0.6931471805599453)),
           dtypes=FLOATS, like=np.logaddexp2, domain={"x": (-5.0, 5.0), "y": (-5.0, 5.0)}, special=EDGES, work=8,
           refusals={"int64": '"logaddexp2_cpu" not implemented for \'Long\''})
def logaddexp2(x, y):
    """log2(2**x + 2**y) without overflow."""
    return libm.logaddexp2(x, y)


def _numpy_xlogy(x, y):
    with np.errstate(all="ignore"):
        return np.where((x == 0) & ~np.isnan(y), 0, x * np.log(y))


def _xlogy_partials(x, y, out):
    """log(y) and x / y; both 0 where x is 0 and y not positive, so that 0 log 0 has a zero gradient."""
    where = BOOK["where"]
    flat = (x == 0) & (y <= 0)
    inside = where(flat, 1, y)
    return BOOK["log"](inside), where(flat, 0, x / inside)


@pointwise(partials=_xlogy_partials, dtypes=FLOATS, floating=True, inplace=True, like=_numpy_xlogy,
           domain={"x": (-3.0, 3.0), "y": (0.1, 5.0)}, special=EDGES, work=4)
def xlogy(x, y):
    """x log(y), and 0 where x is 0 whatever the logarithm (NaN where y is NaN)."""
    return y if y != y else (0 if x == 0 else x * libm.log(y))
