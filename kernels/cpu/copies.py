"""Copies of arrays by our own kernels, into pooled memory when large: clone, contiguous, reshape that needs a copy."""
from __future__ import annotations

import numpy as np

from ..table import cast_ufunc, rows_of
from . import buffers, pool


def copy(x: np.ndarray, order: str = "C") -> np.ndarray:
    """A copy; order "K" keeps the order of dimensions in memory where the array is dense, "C" is row-major."""
    if order == "K" and not x.flags.c_contiguous and x.ndim > 1:
        axes = sorted(range(x.ndim), key=lambda d: (-abs(x.strides[d]), d))
        ordered = x.transpose(axes)
        if ordered.flags.c_contiguous:
            return copy(ordered).transpose(np.argsort(axes))
    out = buffers.empty(x.shape, x.dtype)
    if x.size:
        into(out, x)
    return out


def into(out: np.ndarray, x: np.ndarray) -> None:
    """Copy `x`, of the same dtype, into `out` of the same shape."""
    name = x.dtype.name
    ufunc = cast_ufunc(name, name)
    if x.size >= pool.GRAIN:
        pool.ensure()
        if x.ndim > 1 and not (x.flags.c_contiguous and out.flags.c_contiguous):
            ufunc = rows_of(ufunc) or ufunc
    ufunc(x, out)
