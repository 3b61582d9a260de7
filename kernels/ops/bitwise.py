"""Operators on bits and integers: and, or, xor, not, shifts, gcd, lcm. Bool tensors take part where PyTorch lets them."""
from __future__ import annotations

import numpy as np

from ..book import BOOL, INTS, pointwise

WHOLE = BOOL + INTS
_SCALARS = {"bool": "Bool", "float16": "Half", "float32": "Float", "float64": "Double", "complex64": "ComplexFloat",
            "complex128": "ComplexDouble"}


def refused(name: str, *dtypes: str) -> dict[str, str]:
    """PyTorch's words for the dtypes that an integer kernel lacks."""
    wanted = dtypes or tuple(d for d in _SCALARS if d != "bool")
    return {d: f'"{name}" not implemented for \'{_SCALARS[d]}\'' for d in wanted}


@pointwise(dtypes=WHOLE, like=np.bitwise_and, python=("__and__", "__rand__"), inplace=True, refusals=refused("bitwise_and_cpu"))
def bitwise_and(x, y):
    """Bits set in both."""
    return x & y


@pointwise(dtypes=WHOLE, like=np.bitwise_or, python=("__or__", "__ror__"), inplace=True, refusals=refused("bitwise_or_cpu"))
def bitwise_or(x, y):
    """Bits set in either."""
    return x | y


@pointwise(dtypes=WHOLE, like=np.bitwise_xor, python=("__xor__", "__rxor__"), inplace=True, refusals=refused("bitwise_xor_cpu"))
def bitwise_xor(x, y):
    """Bits set in exactly one."""
    return x ^ y


def _bool_not(x):
    return x == 0


@pointwise(dtypes=WHOLE, like=np.bitwise_not, inplace=True, bodies={"bool": _bool_not},
           refusals=refused("bitwise_not_cpu"))
def bitwise_not(x):
    """Every bit changed; `not` for bool."""
    return ~x


def _numpy_left(x, y):
    bits = x.dtype.itemsize * 8
    inside = (y >= 0) & (y < bits)
    return np.where(inside, np.left_shift(x, np.where(inside, y, 0)), 0).astype(x.dtype)


def _numpy_right(x, y):
    bits = x.dtype.itemsize * 8
    inside = (y >= 0) & (y < bits)
    return np.where(inside, np.right_shift(x, np.where(inside, y, 0)), np.where(x < 0, -1, 0)).astype(x.dtype)


_ALL = ("bool", "float16", "float32", "float64", "complex64", "complex128")


@pointwise(dtypes=INTS, like=_numpy_left, python=("__lshift__", "__rlshift__"), inplace=True,
           refusals=refused("lshift_cpu", *_ALL))
def bitwise_left_shift(x, y):
    """x times 2**y, wrapping around; 0 where y is negative or as large as the width."""
    return x << (y & 63) if (y >= 0) & (y < 64) else x - x


@pointwise(dtypes=INTS, like=_numpy_right, python=("__rshift__", "__rrshift__"), inplace=True,
           refusals=refused("rshift_cpu", *_ALL))
def bitwise_right_shift(x, y):
    """x divided by 2**y, downwards; 0 or -1 (below zero) where y is negative or as large as the width."""
    return x >> (y & 63) if (y >= 0) & (y < 64) else (-1 if x < 0 else 0)


def _magnitude(x):
    return -x if x < 0 else x


def _common(x, y):
    """Euclid's algorithm on magnitudes."""
    a, b = _magnitude(x), _magnitude(y)
    while b != 0:
        a, b = b, a % b
    return a


@pointwise(dtypes=INTS, like=np.gcd, inplace=True, refusals=refused("gcd_cpu", *_ALL))
def gcd(x, y):
    """The greatest common divisor, not negative."""
    return _common(x, y)


@pointwise(dtypes=INTS, like=np.lcm, inplace=True, refusals=refused("lcm_cpu", *_ALL))
def lcm(x, y):
    """The least common multiple, not negative; 0 where either is."""
    divisor = _common(x, y)
    return _magnitude(x // divisor * y) if divisor != 0 else x
