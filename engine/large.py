"""Large pointwise work: results in pooled memory, kernels on several threads."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kernels import table as kernel_table
from kernels.cpu import buffers, pool

LARGE = 1 << 15         # elements from which results take pooled memory and kernels may use threads


def run_large(ufunc, arrays: Sequence[np.ndarray], result: np.dtype, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Run a pointwise ufunc into pooled memory, on several threads; used where any operand is large."""
    pool.ensure()
    first = arrays[0].shape
    dense = all(a.shape == first and a.flags.c_contiguous for a in arrays)
    if shape is None:
        shape = first if dense else np.broadcast_shapes(*(a.shape for a in arrays))
    out = buffers.empty(shape, result)
    if dense or len(shape) < 2 or not isinstance(ufunc, np.ufunc) or all(
            (a.flags.c_contiguous and a.shape == shape) or not a.ndim for a in arrays):
        return ufunc(*arrays, out)
    rows = kernel_table.rows_of(ufunc)
    return rows(*(np.broadcast_to(a, shape) for a in arrays), out)
