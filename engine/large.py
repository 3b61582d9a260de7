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
    if shape is None:
        shape = np.broadcast_shapes(*(a.shape for a in arrays))
    out = buffers.empty(shape, result)
    if len(shape) > 1 and isinstance(ufunc, np.ufunc) and not all(
            (a.flags.c_contiguous and a.shape == shape) or not a.ndim for a in arrays):
        rows = kernel_table.rows_of(ufunc)
        if rows is not None:
            return rows(*(np.broadcast_to(a, shape) for a in arrays), out)
    return ufunc(*arrays, out)
