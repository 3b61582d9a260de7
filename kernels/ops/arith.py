"""Arithmetic: add, sub, mul, div, neg and what derivatives are made of (conj, real, where, comparisons live beside)."""
from __future__ import annotations

import numpy as np

from ..book import ALL, COMPLEX, FLOATS, NUMBERS, pointwise


@pointwise(partials=lambda x, y, out: (1, 1), dtypes=ALL, like=np.add, python=("__add__", "__radd__"), inplace=True,
           source="C99 6.5.6")
def add(x, y):
    """Sum of two tensors."""
    return x + y


@pointwise(partials=lambda x, y, out: (1, -1), dtypes=NUMBERS, like=np.subtract, aliases=("subtract",), inplace=True,
           python=("__sub__", "__rsub__"), source="C99 6.5.6")
def sub(x, y):
    """Difference of two tensors."""
    return x - y


@pointwise(partials=lambda x, y, out: (y, x), dtypes=ALL, like=np.multiply, aliases=("multiply",), inplace=True,
           python=("__mul__", "__rmul__"), source="C99 6.5.5")
def mul(x, y):
    """Product of two tensors."""
    return x * y


@pointwise(partials=lambda x, y, out: (1 / y, -out / y), dtypes=FLOATS + COMPLEX, floating=True, like=np.true_divide,
           aliases=("divide", "true_divide"), inplace=True, python=("__truediv__", "__rtruediv__"),
           domain={"y": (0.5, 4.0)}, special=(0.0, np.inf, -np.inf, np.nan), source="C99 6.5.5")
def div(x, y):
    """Quotient of two tensors, in floating point."""
    return x / y


@pointwise(partials=lambda x, out: (-1,), dtypes=NUMBERS, like=np.negative, aliases=("negative",), inplace=True,
           python=("__neg__",))
def neg(x):
    """Each element with its sign changed."""
    return -x


@pointwise(partials=lambda x, out: (2 * x,), dtypes=NUMBERS, like=np.square, inplace=True, node="PowBackward0")
def square(x):
    """Each element times itself."""
    return x * x
