"""Large pointwise work: results in pooled memory, kernels on several threads."""
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from kernels.cpu import sheets

LARGE = 1 << 15         # elements from which results take pooled memory and kernels may use threads


def run_large(ufunc: Callable, arrays: Sequence[np.ndarray], *results: np.dtype):
    """Run a pointwise kernel into new memory, on several threads; used where any operand is large."""
    if ufunc.__class__ is np.ufunc:
        return sheets.run(ufunc, arrays, results)
    return ufunc.large(arrays, results) if hasattr(ufunc, "large") else ufunc(*arrays)
