"""Folds: sum and its kin. How a record of this kind reads is told in `kernels.book.Fold`."""
from __future__ import annotations

import numpy as np

from ..book import ALL, BOOK, INTS, WIDE_INTS, fold


def restore(g, dims, keepdim, shape):
    """A fold's result (or gradient) with the folded dimensions back at size 1, so that it broadcasts against the input."""
    if keepdim or not shape:
        return g
    folded = range(len(shape)) if dims is None else dims
    kept = tuple(1 if d in folded else n for d, n in enumerate(shape))
    return BOOK["reshape"](g, shape=kept)


def spread(g, dims, keepdim, shape):
    """A fold's gradient given to every folded element."""
    return BOOK["expand"](restore(g, dims, keepdim, shape), shape=shape)


def _wide(dtype):
    return ("int64",) if dtype in ("bool", *INTS) else ("complex128",) if dtype.startswith("complex") else ("float64",)


def _running(dtype):
    """What a block of a sum runs in: integers wide at once, floats in their own dtype (float16 in float32)."""
    return ("int64",) if dtype in ("bool", *INTS) else ("float32",) if dtype == "float16" else (dtype,)


def _element(x, k):
    return x


def _plus(a, b):
    return a + b


def _itself(state, n):
    return state


fold("sum", lift=_element, combine=_plus, start=lambda dtype: (0,), finish=_itself, state=_running, wide=_wide,
     dtypes=ALL, result=WIDE_INTS, like=np.sum, adjoint=lambda g, dims, keepdim, x_shape: spread(g, dims, keepdim, x_shape),
     doc="Sum over dimensions.", source="blocked summation: Higham, Accuracy and Stability of Numerical Algorithms (2002), 4.2")
