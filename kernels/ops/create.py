"""Operators that overwrite: fill and zero. Their results do not depend on the elements of their first operand, so its
gradient is zero.

`engine.functions.factories` uses them where fill_ and zero_ must be recorded; new tensors come from
`kernels.cpu.fills` directly.
"""
from __future__ import annotations

import numpy as np

from ..book import BOOK, structural


def _filled(x: np.ndarray, value: np.ndarray) -> np.ndarray:
    from ..cpu import buffers, fills
    out = buffers.empty(x.shape, x.dtype)
    if isinstance(out, np.ndarray):
        fills.fill(out, value)
    else:
        out[...] = value
    return out


@structural(["x"], anywhere=True, linear=True, function=False, method=False, adjoint=lambda g: BOOK["zero"](g))
def zero(x):
    """Zeros in the shape of x."""
    return _filled(x, np.zeros((), x.dtype.name))


def _fill_adjoint(g, x_shape):
    return BOOK["zero"](g), BOOK["sum"](g, dims=tuple(range(len(x_shape))), keepdim=False)


@structural(["x", "value"], anywhere=True, linear=True, function=False, method=False, adjoint=_fill_adjoint)
def fill(x, value):
    """A value without dimensions in every element of the shape of x."""
    return _filled(x, value)
