"""Copies of arrays by our own kernels, into pooled memory when large: clone, contiguous, reshape that needs a copy."""
from __future__ import annotations

import numpy as np

from ..table import cast_ufunc
from . import buffers, pool, sheets


def copy(x: np.ndarray, order: str = "C") -> np.ndarray:
    """A copy; order "K" keeps the order of dimensions in memory where the array is dense, "C" is row-major."""
    if x.__class__ is not np.ndarray and isinstance(x.dtype, buffers.Elsewhere):
        return x.copy(order)
    if order == "K" and not x.flags.c_contiguous and x.ndim > 1:
        axes = sorted(range(x.ndim), key=lambda d: (-abs(x.strides[d]), d))
        ordered = x.transpose(axes)
        if ordered.flags.c_contiguous:
            return copy(ordered).transpose(np.argsort(axes))
    if x.size < SMALL and x.size:
        if x.flags.c_contiguous:
            return (_ufuncs.get(x.dtype) or _ufunc(x.dtype))(x, out=...)
        out = np.empty(x.shape, x.dtype)
    else:
        out = buffers.empty(x.shape, x.dtype)
    if x.size:
        into(out, x)
    return out


SMALL = 1 << 12         # elements from which memory may be pooled
_ufuncs: dict[np.dtype, np.ufunc] = {}


def _ufunc(dtype: np.dtype) -> np.ufunc:
    if isinstance(dtype, buffers.Elsewhere):
        return dtype.copy
    found = _ufuncs[dtype] = cast_ufunc(dtype.name, dtype.name)
    return found


def small(dtype: np.dtype) -> np.ufunc:
    """The kernel itself, for copies of few elements: `small(dtype)(x, out)`."""
    return _ufuncs.get(dtype) or _ufunc(dtype)


def into(out: np.ndarray, x: np.ndarray) -> None:
    """Copy `x`, of the same dtype, into `out` of the same shape; arrays of other devices do it themselves."""
    if out.__class__ is not np.ndarray and isinstance(out.dtype, buffers.Elsewhere):
        out[...] = x
        return
    ufunc = _ufuncs.get(x.dtype) or _ufunc(x.dtype)
    if x.size < pool.GRAIN:
        ufunc(x, out)
    else:
        sheets.copy(ufunc, x, out)
