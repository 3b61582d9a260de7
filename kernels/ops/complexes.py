"""Complex numbers: parts, conjugate, angle, and making them of parts. Views of their memory as pairs are in views.py.

Gradients follow PyTorch: a cotangent g of z stands for d Re / dx + i d Im / dy, so g of conj(z) is conj(g).
"""
from __future__ import annotations

import numpy as np

from .. import libm
from ..book import ALL, BOOK, COMPLEX, FLOATS, TO_REAL, pointwise


def TO_COMPLEX(dtype: str) -> str:
    """Result rule: the complex dtype whose parts have this dtype."""
    return {"float32": "complex64", "float64": "complex128"}[dtype]


def _numpy_complex(x, y):
    return (x + 1j * y).astype(np.result_type(x.dtype, np.complex64))


def _conjugate(z):
    return complex(z.real, -z.imag)


@pointwise(adjoint=lambda g, x, out: (BOOK["conj"](g),), tangents=lambda t, x, out: BOOK["conj"](t), partials=lambda x,
           out: (1,),
           dtypes=ALL, bodies={"complex": _conjugate}, like=np.conj, function=False, method=False, node="ConjBackward0")
def conj(x):
    """The complex conjugate; real numbers stay."""
    return x


def _same(x):
    return x


@pointwise(adjoint=lambda g, x, out: (BOOK["complex"](g, 0),), tangents=lambda t, x, out: BOOK["real"](t),
           partials=lambda x, out: (1,), dtypes=ALL, bodies={"int": _same}, result=TO_REAL, like=np.real, function=False,
           method=False)
def real(x):
    """The real part in memory of its own (`Tensor.real` is a view)."""
    return x.real


@pointwise(adjoint=lambda g, x, out: (BOOK["complex"](0, g),), tangents=lambda t, x, out: BOOK["imag"](t),
           dtypes=COMPLEX, result=TO_REAL, like=np.imag, function=False, method=False)
def imag(x):
    """The imaginary part in memory of its own (`Tensor.imag` is a view)."""
    return x.imag


def _make_complex(x, y):
    return complex(x.real, y.real)


@pointwise(adjoint=lambda g, x, y, out: (BOOK["real"](g), BOOK["imag"](g)), tangents=lambda tx, ty, x, y,
           out: BOOK["complex"](tx, ty),
           dtypes=("float32", "float64"), result=TO_COMPLEX, like=_numpy_complex, function=False, method=False, name="complex",
           bodies={"complex": _make_complex})
def complex_(x, y):
    """x + i y."""
    return complex(x, y)


def _polar_adjoint(g, size, angle, out):
    """Through the parts: d out = e**(i angle) d size + i out d angle."""
    a, b = BOOK["real"](g), BOOK["imag"](g)
    c, s = BOOK["cos"](angle), BOOK["sin"](angle)
    return a * c + b * s, size * (b * c - a * s)


def _polar_tangent(t_size, t_angle, size, angle, out):
    c, s = BOOK["cos"](angle), BOOK["sin"](angle)
    return BOOK["complex"](c * t_size - size * s * t_angle, s * t_size + size * c * t_angle)


@pointwise(adjoint=_polar_adjoint, tangents=_polar_tangent, dtypes=("float32", "float64"), result=TO_COMPLEX, function=False,
           method=False,
           like=lambda size, angle: _numpy_complex(size * np.cos(angle), size * np.sin(angle)), work=8)
def polar(size, angle):
    """The complex number of a size and an angle."""
    return complex(size * libm.cos(angle), size * libm.sin(angle))


def _complex_angle(z):
    return libm.atan2(z.imag, z.real)


def _angle_adjoint(g, x, out):
    """d angle = Im(conj(z) dz) / |z|**2, so the gradient is i z / |z|**2 = i / conj(z) times g; 0 at 0."""
    nonzero = BOOK["where"](x == 0, 1, x)
    return (BOOK["where"](x == 0, 0, g * (1j / BOOK["conj"](nonzero))),)


@pointwise(partials=lambda x, out: (0,), adjoint=_angle_adjoint,
           tangents=lambda t, x, out: BOOK["imag"](t / BOOK["where"](x == 0, 1, x)),
           dtypes=FLOATS + COMPLEX, floating=True, bodies={"complex": _complex_angle}, result=TO_REAL, like=np.angle,
           special=(0.0, 1.0, -1.0, np.nan))
def angle(x):
    """The angle of a complex number from -pi to pi; of a real one 0 or pi."""
    return x if x != x else (3.141592653589793 if x < 0 else 0)
