"""Trigonometric and hyperbolic functions and their inverses, sinc, and degrees."""
from __future__ import annotations

import numpy as np

from .. import libm
from ..book import BOOK, COMPLEX, FLOATS, pointwise
from .arith import complex_quotient

EDGES = (0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan)
ANY = FLOATS + COMPLEX
COMMON = {"dtypes": ANY, "floating": True, "inplace": True, "special": EDGES, "work": 4}


def rsqrt(x):
    return BOOK["rsqrt"](x)


@pointwise(partials=lambda x, out: (BOOK["cos"](x),), like=np.sin, domain={"x": (-6.0, 6.0)}, **COMMON)
def sin(x):
    """Sine."""
    return libm.sin(x)


@pointwise(partials=lambda x, out: (-BOOK["sin"](x),), like=np.cos, domain={"x": (-6.0, 6.0)}, **COMMON)
def cos(x):
    """Cosine."""
    return libm.cos(x)


@pointwise(partials=lambda x, out: (1 + out * out,), like=np.tan, domain={"x": (-1.2, 1.2)}, **COMMON)
def tan(x):
    """Tangent."""
    return libm.tan(x)


@pointwise(partials=lambda x, out: (rsqrt(1 - x * x),), like=np.arcsin, aliases=("arcsin",), domain={"x": (-0.9, 0.9)},
           **COMMON)
def asin(x):
    """Arc sine; NaN outside [-1, 1]."""
    return libm.asin(x)


@pointwise(partials=lambda x, out: (-rsqrt(1 - x * x),), like=np.arccos, aliases=("arccos",), domain={"x": (-0.9, 0.9)},
           **COMMON)
def acos(x):
    """Arc cosine; NaN outside [-1, 1]."""
    return libm.acos(x)


@pointwise(partials=lambda x, out: (1 / (1 + x * x),), like=np.arctan, aliases=("arctan",), domain={"x": (-5.0, 5.0)}, **COMMON)
def atan(x):
    """Arc tangent."""
    return libm.atan(x)


@pointwise(partials=lambda x, out: (BOOK["cosh"](x),), like=np.sinh, domain={"x": (-4.0, 4.0)}, **COMMON)
def sinh(x):
    """Hyperbolic sine."""
    return libm.sinh(x)


@pointwise(partials=lambda x, out: (BOOK["sinh"](x),), like=np.cosh, domain={"x": (-4.0, 4.0)}, **COMMON)
def cosh(x):
    """Hyperbolic cosine."""
    return libm.cosh(x)


@pointwise(partials=lambda x, out: (1 - out * out,), like=np.tanh, domain={"x": (-3.0, 3.0)}, **COMMON)
def tanh(x):
    """Hyperbolic tangent."""
    return libm.tanh(x)


@pointwise(partials=lambda x, out: (rsqrt(x * x + 1),), like=np.arcsinh, aliases=("arcsinh",), domain={"x": (-5.0, 5.0)},
           **COMMON)
def asinh(x):
    """Inverse hyperbolic sine."""
    return libm.asinh(x)


@pointwise(partials=lambda x, out: (rsqrt(x - 1) * rsqrt(x + 1),), like=np.arccosh, aliases=("arccosh",),
           domain={"x": (1.2, 6.0)}, **COMMON)
def acosh(x):
    """Inverse hyperbolic cosine; NaN below 1."""
    return libm.acosh(x)


@pointwise(partials=lambda x, out: (1 / (1 - x * x),), like=np.arctanh, aliases=("arctanh",), domain={"x": (-0.9, 0.9)},
           **COMMON)
def atanh(x):
    """Inverse hyperbolic tangent; NaN outside [-1, 1]."""
    return libm.atanh(x)


def _atan2_partials(y, x, out):
    """x / r**2 and -y / r**2, through r so that squares neither overflow nor vanish; 0 at the origin."""
    r = BOOK["hypot"](y, x)
    safe = BOOK["where"](r == 0, 1, r)
    return x / safe / safe, -y / safe / safe


@pointwise(partials=_atan2_partials, like=np.arctan2, aliases=("arctan2",), dtypes=FLOATS, floating=True, inplace=True,
           special=EDGES,
           work=4)
def atan2(y, x):
    """The angle of the point (x, y), from -pi to pi; `input` is y, `other` is x."""
    return libm.atan2(y, x)


# --- sinc: sin(pi x) / (pi x) -----------------------------------------------------------------------------------------

def _complex_sinc(z):
    u = z * 3.141592653589793
    return complex_quotient(libm.sin(u), u) if z != 0 else u + 1


def _slope_series(u):
    """pi times the Taylor series of the derivative of sin(u) / u; its next term is below 1e-14 of the first for |u| < 0.3."""
    t = u * u
    return u * (-1.0471975511965976 + t * (0.10471975511965977 + t * (-0.0037399912542735634 + t * (
        6.925909730136228e-05 + t * -7.870351966063896e-07))))


def _complex_slope(z):
    u = z * 3.141592653589793
    return _slope_series(u) if libm.abs(u) < 0.3 else complex_quotient(libm.cos(u) - complex_quotient(libm.sin(u), u), z)


def _sinc_curve(x, out):
    """From x s'' + 2 s' = -pi**2 x s; s''(0) = -pi**2 / 3."""
    nonzero = BOOK["where"](x == 0, 1, x)
    return BOOK["where"](x == 0, -3.289868133696453, -9.869604401089358 * BOOK["sinc"](x) - 2 * out / nonzero)


@pointwise(cancels=True, partials=lambda x, out: (_sinc_curve(x, out),), dtypes=ANY, function=False, method=False,
           like=lambda x: np.where(
    x == 0, 0, (np.cos(np.pi * x) - np.sinc(x)) / np.where(x == 0, 1, x)), domain={"x": (0.3, 2.0)}, tol=64,
    bodies={"complex": _complex_slope}, work=8)
def sinc_slope(x):
    """The derivative of sinc: (cos u - sin u / u) / x with u = pi x; near 0, where that cancels, a series."""
    u = x * 3.141592653589793
    return _slope_series(u) if libm.abs(u) < 0.3 else (libm.cos(u) - libm.sin(u) / u) / x


@pointwise(cancels=True, partials=lambda x, out: (BOOK["sinc_slope"](x),), like=np.sinc, dtypes=ANY, floating=True,
           inplace=True,
           bodies={"complex": _complex_sinc}, domain={"x": (-2.0, 2.0)}, special=(0.0, 0.5, np.nan), tol=16, work=4)
def sinc(x):
    """sin(pi x) / (pi x), 1 at 0."""
    u = x * 3.141592653589793
    return libm.sin(u) / u if x != 0 else u + 1


@pointwise(partials=lambda x, out: (57.29577951308232,), like=np.rad2deg, dtypes=FLOATS, floating=True, inplace=True,
           special=EDGES,
           node="Rad2DegBackward0")
def rad2deg(x):
    """Radians to degrees."""
    return x * 57.29577951308232


@pointwise(partials=lambda x, out: (0.017453292519943295,), like=np.deg2rad, dtypes=FLOATS, floating=True, inplace=True,
           special=EDGES, node="Deg2RadBackward0")
def deg2rad(x):
    """Degrees to radians."""
    return x * 0.017453292519943295
