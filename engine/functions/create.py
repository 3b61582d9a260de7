"""Making tensors from data and by recipe: tensor, zeros, arange and their kin."""
from __future__ import annotations

import numpy as np

from .. import dtypes
from ..tensor import KIND, KIND_OF_NUMPY, Tensor, wrap
from .registry import public


def legacy_constructor(kind, data, device):
    """Tensor(...)"""
    return tensor(data[0], dtype=dtypes.DEFAULT.dtype)


def from_numpy(a):
    return wrap(a, KIND_OF_NUMPY[a.dtype])


@public(method=False)
def tensor(data, *, dtype=None, device=None, requires_grad=False):
    a = np.array(data)
    if dtype is None:
        dtype = dtypes.DEFAULT.dtype if a.dtype.kind == "f" else KIND_OF_NUMPY[a.dtype].dtype
    t = wrap(a.astype(dtype.numpy), KIND[dtype])
    if requires_grad:
        t.requires_grad_()
    return t
