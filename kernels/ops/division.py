"""Divisions that round, and what they leave: floor_divide, trunc_divide, remainder, fmod.

Integer kernels never see a zero divisor: `engine.functions.division` refuses it before they run (the record `any_zero`).
"""
from __future__ import annotations

import numpy as np

from .. import libm
from ..book import BOOK, REALS, fold, pointwise
from .bitwise import refused

EDGES = (0.0, -0.0, 1.0, np.inf, -np.inf, np.nan)
_NONZERO = {"y": (0.5, 4.0)}


def samples(rng, dtype):
    """Operands without a zero divisor, and quotients away from whole numbers, where derivatives jump."""
    if np.dtype(dtype).kind in "iu":
        return rng.integers(1, 20, 9).astype(dtype), rng.integers(1, 6, 9).astype(dtype)
    whole, rest = rng.integers(-4, 5, 9), rng.uniform(0.2, 0.8, 9)
    y = rng.uniform(0.5, 3.0, 9)
    return ((whole + rest) * y).astype(dtype), y.astype(dtype)


def _traps(y):
    """Divisors that stop a CPU: 0, and -1 under the least integer (255 is no -1, though uint8 would say so)."""
    return (y == 0) | ((y < 0) & (y + 1 == 0))


def _int_floor(x, y):
    return -x if _traps(y) else x // y


@pointwise(partials=lambda x, y, out: (0, 0), dtypes=REALS, bodies={"int": _int_floor}, function=False, method=False,
           node="DivBackward2", like=np.floor_divide, domain=_NONZERO, special=EDGES, samples=samples, work=4,
           refusals=refused("div_floor_cpu", "bool", "complex64", "complex128"),
           source="Python's floor division, as in CPython's float_divmod")
def floor_divide(x, y):
    """x / y rounded down, exactly where the quotient is whole."""
    quotient = x / y
    rest = libm.fmod(x, y)
    whole = (x - rest) / y
    whole = libm.select((rest != 0) & ((y < 0) != (rest < 0)), whole - 1, whole)
    low = libm.floor(whole)
    low = libm.select(whole - low > 0.5, low + 1, low)
    low = libm.select(whole == 0, libm.copysign(whole - whole, quotient), low)
    return libm.select(y == 0, quotient, low)


def _int_trunc(x, y):
    """Towards zero, from a quotient of magnitudes rounded down."""
    if _traps(y):
        return -x
    q = x // y
    return q + 1 if (q < 0) & (q * y != x) else q


@pointwise(partials=lambda x, y, out: (0, 0), dtypes=REALS, bodies={"int": _int_trunc}, function=False, method=False,
           node="DivBackward2",
           like=lambda x, y: np.trunc(x / y).astype(x.dtype), domain=_NONZERO, special=EDGES, samples=samples, work=4,
           refusals=refused("div_trunc_cpu", "bool", "complex64", "complex128"))
def trunc_divide(x, y):
    """x / y without its fraction."""
    return libm.trunc(x / y)


def _int_remainder(x, y):
    return x - x if _traps(y) else x % y


@pointwise(partials=lambda x, y, out: (1, -BOOK["floor_divide"](x, y)), dtypes=REALS, bodies={"int": _int_remainder},
           function=False,
           method=False, node="RemainderBackward1", like=np.remainder, domain=_NONZERO, special=EDGES, samples=samples, work=4,
           refusals=refused("remainder_cpu", "bool", "complex64", "complex128"))
def remainder(x, y):
    """What floor division leaves, with the sign of y."""
    rest = libm.fmod(x, y)
    return libm.select((rest != 0) & ((y < 0) != (rest < 0)), rest + y, rest)


def _int_fmod(x, y):
    if _traps(y):
        return x - x
    r = x % y
    return r - y if (r != 0) & ((x < 0) != (y < 0)) else r


@pointwise(partials=lambda x, y, out: (1, -BOOK["trunc_divide"](x, y)), dtypes=REALS, bodies={"int": _int_fmod},
           function=False, method=False,
           node="FmodBackward1", like=np.fmod, domain=_NONZERO, special=EDGES, samples=samples, work=4,
           refusals=refused("fmod_cpu", "bool", "complex64", "complex128"), source="C99 7.12.10.1")
def fmod(x, y):
    """What truncated division leaves, with the sign of x."""
    return libm.fmod(x, y)


def _is_zero(x, k):
    return 1 if x == 0 else 0


def _either(a, b):
    return a | b


def _found(state, n):
    return state


fold("any_zero", lift=_is_zero, combine=_either, start=lambda dtype: (0,), finish=_found, state=lambda dtype: ("int64",),
     dtypes=REALS, result=lambda dtype: "int64", function=False, method=False,
     like=lambda x, axis=None, keepdims=False: (x == 0).any(axis=axis, keepdims=keepdims),
     doc="1 where any element is zero, else 0: asked of integer divisors before they divide.")
