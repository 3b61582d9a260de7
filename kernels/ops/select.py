"""Choosing values: where, maximum and minimum, clamp, relu, nan_to_num, heaviside; and weighted sums: lerp, addcmul, addcdiv.

Gradients of choices are masked, not multiplied by zero, so that an infinite cotangent of what was not chosen leaves no NaN.
"""
from __future__ import annotations

import numpy as np

from .. import libm
from ..book import ALL, BOOK, BOOL, COMPLEX, FLOATS, NUMBERS, REALS, pointwise
from .arith import complex_quotient

EDGES = (0.0, -0.0, 1.0, np.inf, -np.inf, np.nan)
ORDERED = BOOL + REALS


def choose(condition, x, y):
    return BOOK["where"](condition, x, y)


@pointwise(operands=("bool", "T", "T"), adjoint=lambda g, condition, x, y,
           out: (None, choose(condition, g, 0), choose(condition, 0, g)),
           tangents=lambda t_condition, tx, ty, condition, x, y, out: choose(condition, tx, ty), dtypes=ALL, like=np.where,
           function=False, method=False, arguments=("condition", "input", "other"), special=EDGES)
def where(condition, x, y):
    """x where the condition holds, else y."""
    return x if condition else y


# --- the larger and the smaller ---------------------------------------------------------------------------------------

def _shared(g, ahead, behind, x, y):
    """Gradients of a choice between two: half each at ties; `ahead`, `behind`: where x, where y loses (PyTorch's masks)."""
    tied = choose(x == y, 0.5 * g, g)
    return choose(ahead, 0, tied), choose(behind, 0, tied)


def _larger(x, y):
    return x if x > y else y


def _smaller(x, y):
    return x if x < y else y


def _no_complex(name: str) -> dict[str, str]:
    return dict.fromkeys(COMPLEX, f"{name} not implemented for complex tensors.")


def _tangent_of(name):
    """Forward mode of a choice between two: the partials, 0.5 at ties."""
    def tangents(tx, ty, x, y, out):
        first, second = BOOK[name].adjoint(1, x, y, out)
        return first * tx + second * ty
    return tangents


@pointwise(adjoint=lambda g, x, y, out: _shared(g, x < y, y < x, x, y), tangents=_tangent_of("maximum"), dtypes=ORDERED,
           like=np.maximum, bodies={"int": _larger}, special=EDGES, refusals=_no_complex("maximum"))
def maximum(x, y):
    """The larger of two; NaN where either is. At ties each receives half of the gradient."""
    return libm.maximum(x, y)


@pointwise(adjoint=lambda g, x, y, out: _shared(g, x > y, y > x, x, y), tangents=_tangent_of("minimum"), dtypes=ORDERED,
           like=np.minimum, bodies={"int": _smaller}, special=EDGES, refusals=_no_complex("minimum"))
def minimum(x, y):
    """The smaller of two; NaN where either is. At ties each receives half of the gradient."""
    return libm.minimum(x, y)


@pointwise(adjoint=lambda g, x, y, out: (choose((x >= y) | (y != y), g, 0), choose((x >= y) | (y != y), 0, g)),
           tangents=_tangent_of("fmax"), dtypes=ORDERED, like=np.fmax, bodies={"int": _larger}, special=EDGES,
           refusals=_no_complex("fmax"))
def fmax(x, y):
    """The larger of two, or the one that is not NaN. At ties the first receives the gradient."""
    return x if (x >= y) | (y != y) else y


@pointwise(adjoint=lambda g, x, y, out: (choose((x <= y) | (y != y), g, 0), choose((x <= y) | (y != y), 0, g)),
           tangents=_tangent_of("fmin"), dtypes=ORDERED, like=np.fmin, bodies={"int": _smaller}, special=EDGES,
           refusals=_no_complex("fmin"))
def fmin(x, y):
    """The smaller of two, or the one that is not NaN. At ties the first receives the gradient."""
    return x if (x <= y) | (y != y) else y


# --- bounds -----------------------------------------------------------------------------------------------------------

_CLAMP = dict.fromkeys(COMPLEX, "clamp is not supported for complex types")


def _clamp_int(x, low, high):
    y = x if x > low else low
    return y if y < high else high


@pointwise(adjoint=lambda g, x, low, high, out: (choose((x >= low) & (x <= high), g, 0), choose((x < low) & (low < high), g, 0),
                                                 choose((x > high) | (high < low), g, 0)),
           tangents=lambda t, t_low, t_high, x, low, high, out: choose(
               (x > high) | (high < low), t_high, choose(x < low, t_low, t)),
           dtypes=REALS, bodies={"int": _clamp_int}, function=False, method=False, node="ClampBackward0", refusals=_CLAMP,
           like=lambda x, low, high: np.minimum(np.maximum(x, low), high),
           domain={"x": (-2.0, 2.0), "low": (-1.5, -0.1), "high": (0.1, 1.5)},
           special=EDGES)
def clamp(x, low, high):
    """x within [low, high]; `high` where they cross, NaN where any is."""
    return libm.minimum(libm.maximum(x, low), high)


@pointwise(adjoint=lambda g, x, low, out: (choose(x >= low, g, 0), choose(x < low, g, 0)),
           tangents=lambda t, t_low, x, low, out: choose(x < low, t_low, t), dtypes=REALS,
           bodies={"int": _larger}, function=False, method=False, node="ClampMinBackward1", like=np.maximum, special=EDGES,
           refusals=_CLAMP)
def clamp_min(x, low):
    """x, not below `low`; at a tie x receives the gradient."""
    return libm.maximum(x, low)


@pointwise(adjoint=lambda g, x, high, out: (choose(x <= high, g, 0), choose(x > high, g, 0)),
           tangents=lambda t, t_high, x, high, out: choose(x > high, t_high, t), dtypes=REALS,
           bodies={"int": _smaller}, function=False, method=False, node="ClampMaxBackward1", like=np.minimum, special=EDGES,
           refusals=_CLAMP)
def clamp_max(x, high):
    """x, not above `high`; at a tie x receives the gradient."""
    return libm.minimum(x, high)


def _relu_int(x):
    return x if x > 0 else 0


@pointwise(adjoint=lambda g, x, out: (choose(out <= 0, 0, g),), tangents=lambda t, x, out: choose(out <= 0, 0, t), dtypes=REALS,
           like=lambda x: np.maximum(x, 0), inplace=True, special=EDGES, bodies={"int": _relu_int},
           refusals={"bool": "Boolean inputs not supported for relu", **_CLAMP})
def relu(x):
    """The positive part: 0 below zero, with a zero gradient at 0."""
    return x if (x > 0) | (x != x) else 0


def _one_dtype(operands) -> None:
    """heaviside takes two tensors of one dtype."""
    kinds = {getattr(o, "dtype", None) for o in operands}
    if len(kinds) > 1:
        raise RuntimeError("heaviside is not yet implemented for tensors with different dtypes.")


# np.heaviside gives NaN for a NaN; PyTorch gives 0
@pointwise(dtypes=REALS, arguments=("input", "values"), inplace=True, special=EDGES, check=_one_dtype,
           like=lambda x, y: np.where(x == 0, y, x > 0),
           refusals=dict.fromkeys(COMPLEX, "heaviside is not yet implemented for complex tensors."))
def heaviside(x, y):
    """0 below zero, 1 above, `values` at zero."""
    return y if x == 0 else (1 if x > 0 else 0)


def _same(x, nan, posinf, neginf):
    return x


@pointwise(adjoint=lambda g, x, nan, posinf, neginf, out: (choose(BOOK["isfinite"](x), g, 0), None, None, None),
           numbers=("nan", "posinf", "neginf"), tangents=lambda t, tn, tp, tm, x, nan, posinf, neginf,
           out: choose(BOOK["isfinite"](x), t, 0),
           dtypes=ORDERED, bodies={"int": _same, "bool": _same}, function=False, method=False, special=EDGES,
           like=lambda x, n, p, m: np.where(np.isnan(x), n, np.where(np.isposinf(x), p, np.where(np.isneginf(x), m, x))))
def nan_to_num(x, nan, posinf, neginf):
    """NaN and infinities replaced by numbers."""
    return nan if x != x else (x if libm.isfinite(x) else (posinf if x > 0 else neginf))


# --- weighted sums ----------------------------------------------------------------------------------------------------

def _lerp_complex(x, y, w):
    return x + w * (y - x) if libm.abs(w) < 0.5 else y - (y - x) * (1 - w)


@pointwise(cancels=True, partials=lambda x, y, w, out: (1 - w, w, y - x), dtypes=FLOATS + COMPLEX, function=False, method=False,
           node="LerpBackward1", like=lambda x, y, w: x + w * (y - x), bodies={"complex": _lerp_complex}, tol=16)
def lerp(x, y, w):
    """x + w (y - x), exact at w = 0 and w = 1."""
    return x + w * (y - x) if libm.abs(w) < 0.5 else y - (y - x) * (1 - w)


@pointwise(cancels=True, partials=lambda x, a, b, v, out: (1, v * b, v * a, None), dtypes=NUMBERS, function=False, method=False,
           like=lambda x, a, b, v: x + v * a * b, tol=16, numbers=("v",))
def addcmul(x, a, b, v):
    """x + v a b; `v` is a number."""
    return x + v * a * b


def _complex_addcdiv(x, a, b, v):
    return x + v * complex_quotient(a, b)


@pointwise(cancels=True, partials=lambda x, a, b, v, out: (1, v / b, -v * (a / b) / b, None), dtypes=FLOATS + COMPLEX,
           function=False,
           method=False, like=lambda x, a, b, v: x + v * (a / b), domain={"b": (0.5, 4.0)}, tol=16,
           bodies={"complex": _complex_addcdiv}, numbers=("v",))
def addcdiv(x, a, b, v):
    """x + v a / b; `v` is a number."""
    return x + v * (a / b)


# --- signs and neighbours ---------------------------------------------------------------------------------------------

@pointwise(partials=lambda x, y, out: (BOOK["sign"](x) * BOOK["copysign"](1, y), 0), dtypes=FLOATS, floating=True, inplace=True,
           like=np.copysign, special=EDGES)
def copysign(x, y):
    """The magnitude of x with the sign of y."""
    return libm.copysign(x, y)


@pointwise(partials=lambda x, y, out: (choose(x == y, 0, 1), 0), dtypes=("float32", "float64"), inplace=True, like=np.nextafter,
           special=EDGES, tol=0,
           refusals={"int64": '"nextafter_cpu" not implemented for \'Long\''})
def nextafter(x, y):
    """The float next to x in the direction of y."""
    return libm.nextafter(x, y)
