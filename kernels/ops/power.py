"""Powers and roots: pow, the special exponents that `x ** number` is sent to, square, sqrt, rsqrt.

`engine.functions.power` chooses among them; all are called PowBackward in grad_fn, as in PyTorch.
"""
from __future__ import annotations

import numpy as np

from .. import libm
from ..book import BOOK, COMPLEX, FLOATS, NUMBERS, pointwise
from .arith import complex_quotient, complex_reciprocal

EDGES = (0.0, -0.0, 1.0, np.inf, -np.inf, np.nan)


@pointwise(partials=lambda x, out: (2 * x,), dtypes=NUMBERS, like=np.square, inplace=True, node="PowBackward0", special=EDGES)
def square(x):
    """Each element times itself."""
    return x * x


@pointwise(partials=lambda x, out: (0.5 / out,), dtypes=FLOATS + COMPLEX, floating=True, like=np.sqrt, inplace=True,
           domain={"x": (0.1, 9.0)}, special=EDGES, source="IEEE 754 squareRoot")
def sqrt(x):
    """Square root; NaN below zero. The derivative at 0 is infinite."""
    return libm.sqrt(x)


@pointwise(partials=lambda x, out: (-0.5 * out * out * out,), dtypes=FLOATS + COMPLEX, floating=True, inplace=True,
           like=lambda x: 1 / np.sqrt(x), domain={"x": (0.1, 9.0)}, special=(0.0, 1.0, np.inf, np.nan))
def rsqrt(x):
    """One over the square root."""
    return libm.rsqrt(x)


# --- what `x ** number` becomes for common numbers --------------------------------------------------------------------

@pointwise(partials=lambda x, out: (3 * (x * x),), dtypes=NUMBERS, like=lambda x: x ** 3, node="PowBackward0", function=False,
           method=False, tol=8)
def pow_cube(x):
    """x ** 3."""
    return x * x * x


@pointwise(partials=lambda x, out: (0.5 / out,), dtypes=FLOATS + COMPLEX, like=np.sqrt, node="PowBackward0", floating=True,
           function=False, method=False, domain={"x": (0.1, 9.0)}, special=EDGES)
def pow_half(x):
    """x ** 0.5."""
    return libm.sqrt(x)


@pointwise(partials=lambda x, out: (-0.5 * out * out * out,), dtypes=FLOATS + COMPLEX, floating=True, node="PowBackward0",
           like=lambda x: 1 / np.sqrt(x), function=False, method=False, domain={"x": (0.1, 9.0)})
def pow_minus_half(x):
    """x ** -0.5."""
    return libm.rsqrt(x)


@pointwise(partials=lambda x, out: (-(out * out),), dtypes=FLOATS + COMPLEX, like=np.reciprocal, node="PowBackward0",
           floating=True, function=False, method=False, domain={"x": (0.5, 4.0)}, bodies={"complex": complex_reciprocal})
def pow_minus_one(x):
    """x ** -1."""
    return 1 / x


def _complex_minus_two(z):
    return complex_quotient(1, z * z)


@pointwise(partials=lambda x, out: (-2 * (out / x),), dtypes=FLOATS + COMPLEX, node="PowBackward0", floating=True,
           like=lambda x: 1 / (x * x), function=False, method=False, domain={"x": (0.5, 4.0)}, tol=8,
           bodies={"complex": _complex_minus_two})
def pow_minus_two(x):
    """x ** -2."""
    return 1 / (x * x)


@pointwise(partials=lambda x, out: (1,), dtypes=NUMBERS, like=np.array, node="PowBackward0", function=False, method=False)
def pow_one(x):
    """x ** 1."""
    return x


@pointwise(partials=lambda x, out: (0,), dtypes=NUMBERS, like=np.ones_like, node="PowBackward0", function=False, method=False,
           special=EDGES)
def pow_zero(x):
    """x ** 0: one, for NaN too."""
    return 1


@pointwise(partials=lambda x, out: (out * 0.6931471805599453,), dtypes=FLOATS, like=np.exp2, node="PowBackward2",
           function=False,
           method=False, domain={"x": (-4.0, 4.0)}, special=EDGES, work=4)
def pow_of_two(x):
    """2 ** x."""
    return libm.exp2(x)


# --- the general power ------------------------------------------------------------------------------------------------

def _int_pow(x, y):
    """Repeated squaring, wrapping around; a negative exponent leaves 1, -1 or 0 as integer division would."""
    if y < 0:
        return 1 if x == 1 else (1 - 2 * (y & 1) if x == -1 else 0)
    result = x * 0 + 1
    base = x
    n = y
    while n > 0:
        if n & 1:
            result = result * base
        base = base * base
        n = n // 2
    return result


def _not_negative(x):
    return x.real >= 0


@pointwise(dtypes=FLOATS + COMPLEX, result=lambda dtype: "bool", bodies={"complex": _not_negative}, function=False,
           method=False,
           like=lambda x: x.real >= 0)
def not_negative(x):
    """Whether the real part is at least zero."""
    return x >= 0


def _pow_partials(x, y, out):
    """y x**(y-1), 0 where y is 0; out log(x), 0 where x is 0 and y is not negative (the limit from the right)."""
    where = BOOK["where"]
    flat = (y == 0) & ((x == 0) | (x != x))
    stuck = (x == 0) & BOOK["not_negative"](y)
    return (y * BOOK["pow"](where(flat, 1, x), y - 1),
            where(stuck, 0, out * BOOK["log"](where(stuck, 1, x))))


@pointwise(partials=_pow_partials, dtypes=NUMBERS, bodies={"int": _int_pow}, node="PowBackward1", function=False, method=False,
           like=np.power, domain={"x": (0.2, 4.0), "y": (-2.0, 3.0)}, special=EDGES, tol=4, work=8,
           arguments=("input", "exponent"), refusals={"bool": '"pow" not implemented for \'Bool\''}, source="C99 7.12.7.4",
           samples=lambda rng, dtype: (rng.integers(-3, 4, 7).astype(dtype), rng.integers(0, 4, 7).astype(dtype))
           if np.dtype(dtype).kind in "iu" else (rng.uniform(0.2, 4.0, 7).astype(dtype),
                                                 rng.uniform(-2.0, 3.0, 7).astype(dtype)))
def pow(x, y):
    """x to the power y."""
    return libm.pow(x, y)



@pointwise(partials=lambda x, n, out: (BOOK["exp2"](n), out * 0.6931471805599453), dtypes=FLOATS, floating=True, inplace=True,
           like=lambda x, n: x * np.exp2(n), domain={"n": (-3.0, 3.0)}, tol=4)
def ldexp(x, n):
    """x times 2 to the power n."""
    return x * libm.exp2(n)


@pointwise(partials=lambda x, y, out: (x / BOOK["where"](out == 0, 1, out), y / BOOK["where"](out == 0, 1, out)), dtypes=FLOATS,
           like=np.hypot, inplace=True, special=EDGES, refusals={"int64": '"hypot_cpu" not implemented for \'Long\''})
def hypot(x, y):
    """sqrt(x**2 + y**2) without overflow on the way. The gradient at (0, 0) is 0."""
    return libm.hypot(x, y)


