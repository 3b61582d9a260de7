"""Comparisons, tests of single elements (isnan, ...) and logical operators: all give bool and have no derivative."""
from __future__ import annotations

import numpy as np

from .. import libm
from ..book import ALL, BOOL, COMPLEX, FLOATS, REALS, TO_BOOL, pointwise

EDGES = (0.0, -0.0, 1.0, np.inf, -np.inf, np.nan)
ORDERED = BOOL + REALS
_NAMES = {"complex64": "ComplexFloat", "complex128": "ComplexDouble"}


def _no_order(name: str) -> dict[str, str]:
    return {d: f'"{name}_cpu" not implemented for \'{_NAMES[d]}\'' for d in COMPLEX}


@pointwise(dtypes=ALL, result=TO_BOOL, like=np.equal, python=("__eq__",), inplace=True, special=EDGES)
def eq(x, y):
    """Whether elements are equal."""
    return x == y


@pointwise(dtypes=ALL, result=TO_BOOL, like=np.not_equal, python=("__ne__",), aliases=("not_equal",), inplace=True,
           special=EDGES)
def ne(x, y):
    """Whether elements differ."""
    return x != y


@pointwise(dtypes=ORDERED, result=TO_BOOL, like=np.less, python=("__lt__",), aliases=("less",), inplace=True, special=EDGES,
           refusals=_no_order("lt"))
def lt(x, y):
    """Whether x < y."""
    return x < y


@pointwise(dtypes=ORDERED, result=TO_BOOL, like=np.less_equal, python=("__le__",), aliases=("less_equal",), inplace=True,
           special=EDGES, refusals=_no_order("le"))
def le(x, y):
    """Whether x <= y."""
    return x <= y


@pointwise(dtypes=ORDERED, result=TO_BOOL, like=np.greater, python=("__gt__",), aliases=("greater",), inplace=True,
           special=EDGES,
           refusals=_no_order("gt"))
def gt(x, y):
    """Whether x > y."""
    return x > y


@pointwise(dtypes=ORDERED, result=TO_BOOL, like=np.greater_equal, python=("__ge__",), aliases=("greater_equal",), inplace=True,
           special=EDGES, refusals=_no_order("ge"))
def ge(x, y):
    """Whether x >= y."""
    return x >= y


# --- tests of one element ---------------------------------------------------------------------------------------------

def _never(x):
    return x != x


def _always(x):
    return x == x


EXACT = {"int": _never, "bool": _never}


@pointwise(dtypes=ALL, result=TO_BOOL, like=np.isnan, special=EDGES, bodies=EXACT)
def isnan(x):
    """Whether each element is NaN (either part of a complex number)."""
    return libm.isnan(x)


@pointwise(dtypes=ALL, result=TO_BOOL, like=np.isinf, special=EDGES, bodies=EXACT)
def isinf(x):
    """Whether each element is infinite (either part of a complex number)."""
    return libm.isinf(x)


@pointwise(dtypes=ALL, result=TO_BOOL, like=np.isfinite, special=EDGES, bodies={"int": _always, "bool": _always})
def isfinite(x):
    """Whether each element is neither infinite nor NaN."""
    return libm.isfinite(x)


@pointwise(dtypes=ORDERED, result=TO_BOOL, like=np.isposinf, special=EDGES, bodies=EXACT,
           refusals=dict.fromkeys(COMPLEX, "isposinf does not support complex inputs."))
def isposinf(x):
    """Whether each element is +inf."""
    return libm.isinf(x) & (x > 0)


@pointwise(dtypes=ORDERED, result=TO_BOOL, like=np.isneginf, special=EDGES, bodies=EXACT,
           refusals=dict.fromkeys(COMPLEX, "isneginf does not support complex inputs."))
def isneginf(x):
    """Whether each element is -inf."""
    return libm.isinf(x) & (x < 0)


def _on_axis(z):
    return z.imag == 0


@pointwise(dtypes=ALL, result=TO_BOOL, like=np.isreal, special=EDGES,
           bodies={"int": _always, "bool": _always, "complex": _on_axis})
def isreal(x):
    """Whether the imaginary part is 0."""
    return (x == x) | (x != x)


def _below_zero(x):
    return x < 0


@pointwise(dtypes=ORDERED, result=TO_BOOL, special=EDGES, bodies={"int": _below_zero, "bool": _never},
           like=lambda x: np.signbit(x) if x.dtype.kind == "f" else x < 0,
           refusals=dict.fromkeys(COMPLEX, "signbit is not implemented for complex tensors."))
def signbit(x):
    """Whether the sign bit is set: below zero, or -0.0."""
    return libm.signbit(x)


# --- logic ------------------------------------------------------------------------------------------------------------

@pointwise(dtypes=ALL, result=TO_BOOL, like=np.logical_and, inplace=True, special=EDGES)
def logical_and(x, y):
    """Whether both are nonzero."""
    return (x != 0) & (y != 0)


@pointwise(dtypes=ALL, result=TO_BOOL, like=np.logical_or, inplace=True, special=EDGES)
def logical_or(x, y):
    """Whether either is nonzero."""
    return (x != 0) | (y != 0)


@pointwise(dtypes=ALL, result=TO_BOOL, like=np.logical_xor, inplace=True, special=EDGES)
def logical_xor(x, y):
    """Whether exactly one is nonzero."""
    return (x != 0) != (y != 0)


@pointwise(dtypes=ALL, result=TO_BOOL, like=np.logical_not, inplace=True, special=EDGES)
def logical_not(x):
    """Whether each element is zero."""
    return x == 0


# --- nearness ---------------------------------------------------------------------------------------------------------

def _close_complex(x, y, rtol, atol, equal_nan):
    gap = libm.abs(x - y)
    near = libm.isfinite(gap) & (gap <= atol.real + libm.abs(rtol.real * y))
    return (x == y) | near | ((equal_nan.real != 0) & libm.isnan(x) & libm.isnan(y))


@pointwise(dtypes=FLOATS + COMPLEX, floating=True, result=TO_BOOL, function=False, method=False,
           bodies={"complex": _close_complex},
           numbers=("rtol", "atol", "equal_nan"),
           like=lambda x, y, r, a, n: (x == y) | (np.isfinite(x - y) & (np.abs(x - y) <= a.real + np.abs(r.real * y))) | (
               (n.real != 0) & np.isnan(x) & np.isnan(y)))
def is_close(x, y, rtol, atol, equal_nan):
    """Whether |x - y| <= atol + |rtol y|, equal infinities included, and two NaN where `equal_nan` is not 0."""
    gap = libm.abs(x - y)
    near = libm.isfinite(gap) & (gap <= atol + libm.abs(rtol * y))
    return (x == y) | near | ((equal_nan != 0) & libm.isnan(x) & libm.isnan(y))
