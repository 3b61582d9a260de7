"""Activation functions that are one formula an element: leaky relu, elu, gelu, silu, mish, the hard and the soft ones, prelu, glu.

relu is in `select.py`, sigmoid and tanh are in `explog.py` and `trig.py`, softmax in `softmax.py`. Options (a slope, a threshold)
are number inputs. Kinks, NaN and refused dtypes are PyTorch's; gradients of choices are masked, and where a branch could
overflow its operand is made harmless first, so that derivatives of any order stay finite. Fronts: `engine.functions.activations`.
"""
from __future__ import annotations

import numpy as np

from .. import libm
from ..book import BOOK, BOOL, COMPLEX, FLOATS, INTS, REALS, pointwise
from .select import choose

EDGES = (0.0, -0.0, 1.0, np.inf, np.nan)
SCALARS = {"bool": "Bool", "uint8": "Byte", "int8": "Char", "int16": "Short", "int32": "Int", "int64": "Long",
           "complex64": "ComplexFloat", "complex128": "ComplexDouble"}
PRIVATE = {"function": False, "method": False}


def refused(kernel: str, dtypes=BOOL + INTS + COMPLEX) -> dict[str, str]:
    """PyTorch's words for the dtypes that one of its kernels lacks."""
    return {d: f'"{kernel}" not implemented for \'{SCALARS[d]}\'' for d in dtypes}


# --- one slope or another ---------------------------------------------------------------------------------------------

@pointwise(partials=lambda x, slope, out: (choose(x > 0, 1, slope), None), dtypes=FLOATS, numbers=("slope",), special=EDGES,
           like=lambda x, s: np.where(x > 0, x, x * s), refusals=refused("leaky_relu_cpu"), **PRIVATE)
def leaky_relu(x, slope):
    """x where it is positive, else slope x."""
    return x if x > 0 else x * slope


@pointwise(adjoint=lambda g, x, w, out: (choose(x > 0, g, w * g), choose(x > 0, 0, x * g)),
           tangents=lambda t, tw, x, w, out: choose(x > 0, t, w * t + x * tw), dtypes=FLOATS, special=EDGES,
           like=lambda x, w: np.where(x > 0, x, x * w), node="PreluKernelBackward0", refusals=refused("prelu_cpu"), **PRIVATE)
def prelu(x, w):
    """x where it is positive, else w x; the slope w is a parameter."""
    return x if x > 0 else x * w


def _elu_partials(x, alpha, scale, input_scale, out):
    below = x <= 0
    falling = BOOK["exp"](choose(below, x, 0) * input_scale) * (alpha * scale * input_scale)
    return choose(below, falling, scale), None, None, None


@pointwise(partials=_elu_partials, dtypes=FLOATS, numbers=("alpha", "scale", "input_scale"), work=4, tol=8,
           like=lambda x, a, s, i: np.where(x > 0, x * s, np.expm1(np.minimum(x, 0) * i) * (a * s)),
           domain={"alpha": (0.5, 2.0), "scale": (0.5, 2.0), "input_scale": (0.5, 2.0)},
           special={"x": (0.0, -0.0, 1.0, np.inf, -np.inf, np.nan), "alpha": (1.0, 0.5), "scale": (1.0, 2.0),
                    "input_scale": (1.0,)},
           refusals=refused("elu_cpu"), source="Clevert, Unterthiner, Hochreiter, arXiv:1511.07289", **PRIVATE)
def elu(x, alpha, scale, input_scale):
    """scale x where it is positive, else scale alpha (exp(input_scale x) - 1); selu and celu are special cases."""
    low = libm.expm1(x * input_scale) * (alpha * scale)
    return x * scale if x > 0 else low


# --- smooth -----------------------------------------------------------------------------------------------------------

def _gelu_like(x):
    from scipy.special import erfc
    return x * 0.5 * erfc(-x * 0.7071067811865476)


def _gelu_partials(x, out):
    chance = 0.5 * BOOK["erfc"](x * -0.7071067811865476)
    return (chance + x * (0.3989422804014327 * BOOK["exp"](x * x * -0.5)),)


# the argument of erfc is rounded, which its steep tail multiplies by the square of the argument
@pointwise(partials=_gelu_partials, dtypes=FLOATS, cancels=True, like=_gelu_like, special=(0.0, -0.0, 1.0, np.nan), work=8, tol=8,
           refusals=refused("GeluKernelImpl"), source="Hendrycks, Gimpel, arXiv:1606.08415", **PRIVATE)
def gelu(x):
    """x times the probability that a normal number is below x."""
    return x * (0.5 * libm.erfc(x * -0.7071067811865476))


def _gelu_tanh_partials(x, out):
    s = BOOK["sigmoid"](1.5957691216057308 * (x + 0.044715 * (x * x * x)))
    return (s + x * s * (1 - s) * (1.5957691216057308 + 0.21406448274475998 * (x * x)),)


@pointwise(partials=_gelu_tanh_partials, dtypes=FLOATS, cancels=True, special=(0.0, -0.0, 1.0, np.nan), work=6, tol=8,
           like=lambda x: x / (1 + np.exp(-2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3))), node="GeluBackward0",
           refusals=refused("GeluKernelImpl"), **PRIVATE)
def gelu_tanh(x):
    """gelu by x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2, with 1 + tanh(u) = 2 sigmoid(2u)."""
    return x * libm.sigmoid(1.5957691216057308 * (x + 0.044715 * (x * x * x)))


def _silu_partials(x, out):
    s = BOOK["sigmoid"](x)
    return (s * (1 + x * (1 - s)),)


@pointwise(partials=_silu_partials, dtypes=FLOATS + COMPLEX, like=lambda x: x / (1 + np.exp(-x)), work=4, tol=6,
           special=(0.0, -0.0, 1.0, np.inf, np.nan), refusals=refused("silu_cpu", BOOL + INTS), **PRIVATE)
def silu(x):
    """x sigmoid(x)."""
    return x * libm.sigmoid(x)


def _mish_partials(x, out):
    """With e = exp(x) and n = e (e + 2): tanh(log(1 + e)) = n / (n + 2), whose derivative is 4 e (e + 1) / (n + 2)^2."""
    e = BOOK["exp"](choose(x > 20, 20, x))
    n = e * (e + 2)
    return (n / (n + 2) + x * (4 * e * (e + 1) / ((n + 2) * (n + 2))),)


@pointwise(partials=_mish_partials, dtypes=FLOATS, like=lambda x: x * np.tanh(np.log1p(np.exp(x))), work=4, tol=8,
           special=(0.0, -0.0, 1.0, 30.0, 80.0, np.inf, np.nan), refusals=refused("mish_cpu"), source="Misra, arXiv:1908.08681",
           **PRIVATE)
def mish(x):
    """x tanh(log(1 + exp(x))); beyond 20 the factor is 1 in every dtype."""
    e = libm.exp(20 if x > 20 else x)
    n = e * (e + 2)
    return x * (n / (n + 2))


@pointwise(partials=lambda x, out: (BOOK["sigmoid"](-x),), dtypes=FLOATS, work=6, special=(0.0, -0.0, 1.0, np.inf, -np.inf, np.nan),
           like=lambda x: np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x))), node="LogSigmoidBackward0",
           refusals=refused("log_sigmoid_cpu"), **PRIVATE)
def logsigmoid(x):
    """log(sigmoid(x)) without overflow."""
    return libm.minimum(x, 0) - libm.log1p(libm.exp(-libm.abs(x)))


def _softplus_like(x, beta, threshold):
    z = x * beta
    return np.where(z > threshold, x, (np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))) / beta)


@pointwise(partials=lambda x, beta, threshold, out: (choose(x * beta > threshold, 1, BOOK["sigmoid"](x * beta)), None, None),
           dtypes=FLOATS, numbers=("beta", "threshold"), like=_softplus_like, work=6, tol=6,
           domain={"beta": (0.5, 2.0), "threshold": (6.5, 20.0)},
           special={"x": (0.0, -0.0, 1.0, 30.0, np.inf, -np.inf, np.nan), "beta": (1.0, 2.0), "threshold": (20.0,)},
           refusals=refused("softplus_cpu"), **PRIVATE)
def softplus(x, beta, threshold):
    """log(1 + exp(beta x)) / beta, and x itself where beta x is beyond the threshold."""
    z = x * beta
    smooth = (libm.maximum(z, 0) + libm.log1p(libm.exp(-libm.abs(z)))) / beta
    return x if z > threshold else smooth


@pointwise(partials=lambda x, y, out: (BOOK["sigmoid"](y), x * (BOOK["sigmoid"](y) * (1 - BOOK["sigmoid"](y)))), dtypes=FLOATS,
           like=lambda x, y: x / (1 + np.exp(-y)), work=4, tol=6, refusals=refused("glu_cpu"), **PRIVATE)
def glu(x, y):
    """x sigmoid(y): the halves of a gated linear unit."""
    return x * libm.sigmoid(y)


# --- pieces of straight lines -----------------------------------------------------------------------------------------

def _within(x, low, high):
    """A product of the limits decides nothing here: plain comparisons serve integers."""
    y = x if x > low else low
    return y if y < high else high


def _inside(g, x, low, high):
    return choose((x <= low) | (x >= high), 0, g)


@pointwise(adjoint=lambda g, x, low, high, out: (_inside(g, x, low, high), None, None), numbers=("low", "high"),
           tangents=lambda t, tl, th, x, low, high, out: _inside(t, x, low, high), dtypes=REALS, bodies={"int": _within},
           like=lambda x, low, high: np.minimum(np.maximum(x, low), high),
           domain={"low": (-1.5, -0.1), "high": (0.1, 1.5)},
           special={"x": (0.0, -1.0, 1.0, np.inf, -np.inf, np.nan), "low": (-1.0,), "high": (1.0,)},
           refusals={"bool": "Bool inputs not supported for hardtanh",
                     **dict.fromkeys(COMPLEX, "clamp is not supported for complex types")}, **PRIVATE)
def hardtanh(x, low, high):
    """x within [low, high]; at the ends the gradient is 0."""
    return libm.minimum(libm.maximum(x, low), high)


@pointwise(adjoint=lambda g, x, out: (choose((x > -3) & (x < 3), g * (1 / 6), 0),),
           tangents=lambda t, x, out: choose((x > -3) & (x < 3), t * (1 / 6), 0), dtypes=FLOATS,
           like=lambda x: np.minimum(np.maximum(x + 3, 0), 6) / 6, special=(0.0, -3.0, 3.0, np.inf, -np.inf, np.nan),
           domain={"x": (-5.0, 5.0)}, refusals=refused("hardsigmoid_cpu"), **PRIVATE)
def hardsigmoid(x):
    """x / 6 + 1/2 within [0, 1]."""
    return libm.minimum(libm.maximum(x + 3, 0), 6) / 6


@pointwise(partials=lambda x, out: (choose(x <= -3, 0, choose(x < 3, x / 3 + 0.5, 1)),), dtypes=FLOATS,
           like=lambda x: x * np.minimum(np.maximum(x + 3, 0), 6) / 6, special=(0.0, -3.0, 3.0, np.inf, -np.inf, np.nan),
           domain={"x": (-5.0, 5.0)}, refusals=refused("hardswish_cpu"), **PRIVATE)
def hardswish(x):
    """x hardsigmoid(x)."""
    return x * libm.minimum(libm.maximum(x + 3, 0), 6) / 6


def _beyond(g, x, width):
    return choose((x >= -width) & (x <= width), 0, g)


_SHRINK = {"dtypes": FLOATS, "numbers": ("width",), "domain": {"width": (0.1, 1.0)},
           "adjoint": lambda g, x, width, out: (_beyond(g, x, width), None),
           "tangents": lambda t, tw, x, width, out: _beyond(t, x, width),
           "special": {"x": (0.0, -0.5, 0.5, 1.0, np.inf, -np.inf, np.nan), "width": (0.5, 0.0)}, **PRIVATE}


@pointwise(like=lambda x, w: np.where((x >= -w) & (x <= w), 0, x), refusals=refused("hardshrink_cpu"), **_SHRINK)
def hardshrink(x, width):
    """x, but 0 within [-width, width]."""
    return 0 if (x >= -width) & (x <= width) else x


@pointwise(like=lambda x, w: np.where(x > w, x - w, np.where(x < -w, x + w, x * 0)), refusals=refused("softshrink_cpu"), **_SHRINK)
def softshrink(x, width):
    """x moved by `width` towards 0, and 0 within [-width, width]."""
    return x - width if x > width else (x + width if x < -width else x * 0)


def _threshold_int(x, limit, value):
    return value if x <= limit else x


@pointwise(adjoint=lambda g, x, limit, value, out: (choose(x <= limit, 0, g), None, None), numbers=("limit", "value"),
           tangents=lambda t, tl, tv, x, limit, value, out: choose(x <= limit, 0, t), dtypes=REALS,
           bodies={"int": _threshold_int}, like=lambda x, limit, value: np.where(x <= limit, value, x), special=EDGES,
           refusals=refused("threshold_cpu", BOOL + COMPLEX), **PRIVATE)
def threshold(x, limit, value):
    """x where it is above the limit, else `value`."""
    return value if x <= limit else x
