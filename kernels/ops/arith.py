"""Arithmetic: add, sub, mul, div, neg, reciprocal, abs, sign and sgn.

Powers and roots are in power.py, integer-like divisions in division.py, choices (maximum, clamp, where) in select.py.
"""
from __future__ import annotations

import numpy as np

from .. import libm
from ..book import ALL, BOOK, COMPLEX, FLOATS, NUMBERS, REALS, TO_REAL, pointwise

_TWO_BOOLS = ("Subtraction, the `-` operator, with two bool tensors is not supported. Use the `^` or `logical_xor()` operator "
              "instead.")
_ONE_BOOL = ("Subtraction, the `-` operator, with a bool tensor is not supported. If you are trying to invert a mask, use "
             "the `~` "
             "or `logical_not()` operator instead.")
_NEGATED_BOOL = ("Negation, the `-` operator, on a bool tensor is not supported. If you are trying to invert a mask, use "
                 "the `~` "
                 "or `logical_not()` operator instead.")


def _is_bool(operand) -> bool:
    dtype = getattr(operand, "dtype", None)
    return isinstance(operand, bool) if dtype is None else getattr(dtype, "name", "") == "bool"


def no_bool(operands) -> None:
    """What `sub` refuses: a bool among its operands."""
    bools = [_is_bool(o) for o in operands]
    if any(bools):
        raise RuntimeError(_TWO_BOOLS if all(bools) else _ONE_BOOL)


@pointwise(cancels=True, partials=lambda x, y, out: (1, 1), dtypes=ALL, like=np.add, python=("__add__", "__radd__"),
           inplace=True,
           source="C99 6.5.6")
def add(x, y):
    """Sum of two tensors."""
    return x + y


@pointwise(cancels=True, partials=lambda x, y, out: (1, -1), dtypes=NUMBERS, like=np.subtract, aliases=("subtract",),
           inplace=True,
           python=("__sub__", "__rsub__"), refusals={"bool": _TWO_BOOLS}, check=no_bool, source="C99 6.5.6")
def sub(x, y):
    """Difference of two tensors."""
    return x - y


@pointwise(partials=lambda x, y, out: (y, x), dtypes=ALL, like=np.multiply, aliases=("multiply",), inplace=True,
           python=("__mul__", "__rmul__"), source="C99 6.5.5")
def mul(x, y):
    """Product of two tensors."""
    return x * y


def complex_quotient(x, y):
    """x / y for complex numbers by Smith's method (1962); by zero as the parts divide (Numba's own would raise)."""
    a, b, c, d = x.real, x.imag, y.real, y.imag
    if libm.abs(c) >= libm.abs(d):
        if c == 0:
            return complex(a / libm.abs(c), b / libm.abs(d))
        ratio = d / c
        bottom = c + d * ratio
        return complex((a + b * ratio) / bottom, (b - a * ratio) / bottom)
    ratio = c / d
    bottom = c * ratio + d
    return complex((a * ratio + b) / bottom, (b * ratio - a) / bottom)


def complex_reciprocal(z):
    return complex_quotient(1, z)


@pointwise(partials=lambda x, y, out: (1 / y, -out / y), dtypes=FLOATS + COMPLEX, floating=True, like=np.true_divide,
           bodies={"complex": complex_quotient},
           aliases=("divide", "true_divide"), inplace=True, python=("__truediv__",),
           domain={"y": (0.5, 4.0)}, special=(0.0, np.inf, -np.inf, np.nan), source="C99 6.5.5")
def div(x, y):
    """Quotient of two tensors, in floating point."""
    return x / y


@pointwise(partials=lambda x, out: (-1,), dtypes=NUMBERS, like=np.negative, aliases=("negative",), inplace=True,
           python=("__neg__",), refusals={"bool": _NEGATED_BOOL})
def neg(x):
    """Each element with its sign changed."""
    return -x


@pointwise(partials=lambda x, out: (-(out * out),), dtypes=FLOATS + COMPLEX, floating=True, like=np.reciprocal, inplace=True,
           bodies={"complex": complex_reciprocal},
           domain={"x": (0.5, 4.0)}, special=(0.0, np.inf, -np.inf, np.nan))
def reciprocal(x):
    """One over each element."""
    return 1 / x


def _int_abs(x):
    return -x if x < 0 else x


@pointwise(partials=lambda x, out: (BOOK["sgn"](x),), adjoint=lambda g, x, out: (g * BOOK["sgn"](x),),
           tangents=lambda t, x, out: BOOK["real"](BOOK["conj"](BOOK["sgn"](x)) * t),
           bodies={"int": _int_abs}, dtypes=NUMBERS, result=TO_REAL, like=np.abs, aliases=("absolute",), inplace=True,
           python=("__abs__",), special=(0.0, -0.0, np.inf, -np.inf, np.nan),
           refusals={"bool": '"abs_cpu" not implemented for \'Bool\''})
def abs(x):
    """Magnitude of each element; of a complex one the distance from 0. The gradient at 0 is 0."""
    return libm.abs(x)


def _sign(x):
    return (1 if x > 0 else 0) - (1 if x < 0 else 0)


def _bool_sign(x):
    return x


@pointwise(partials=lambda x, out: (0,), dtypes=("bool", *REALS), bodies={"int": _sign, "bool": _bool_sign}, inplace=True,
           like=lambda x: x.copy() if x.dtype == bool else np.nan_to_num(np.sign(x), nan=0.0),
           special=(0.0, -0.0, np.inf, -np.inf, np.nan),
           refusals=dict.fromkeys(COMPLEX, "Unlike NumPy, torch.sign is not intended to support complex numbers. Please use "
                                           "torch.sgn instead."))
def sign(x):
    """-1, 0 or 1 by the sign of each element; 0 for NaN."""
    return (1 if x > 0 else 0) - (1 if x < 0 else 0)


def _complex_sgn(z):
    size = libm.abs(z)
    return complex(z.real / size, z.imag / size) if size != 0 else complex(z.real * 0, z.imag * 0)


def _sgn_adjoint(g, x, out):
    """d(z/|z|) = (dz - s Re(conj(s) dz)) / |z| with s = z/|z|: a real-linear map that is its own adjoint; 0 at 0."""
    nonzero = BOOK["where"](x == 0, 1, x)
    across = g - out * BOOK["real"](BOOK["conj"](out) * g)
    return (BOOK["where"](x == 0, 0, across / BOOK["abs"](nonzero)),)


@pointwise(partials=lambda x, out: (0,), adjoint=_sgn_adjoint, tangents=lambda t, x, out: _sgn_adjoint(t, x, out)[0],
           dtypes=ALL, bodies={"int": _sign, "bool": _bool_sign, "complex": _complex_sgn}, inplace=True,
           like=lambda x: x.copy() if x.dtype == bool else np.nan_to_num(np.sign(x),
                                                                         nan=0.0) if x.dtype.kind != "c" else np.sign(x),
           special=(0.0, -0.0, np.inf, -np.inf))
def sgn(x):
    """The sign; of a complex number z / |z|, and 0 for 0."""
    return (1 if x > 0 else 0) - (1 if x < 0 else 0)
