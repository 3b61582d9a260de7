"""A JIT-compiled tensor engine with PyTorch's interface, whose every operator is a Numba kernel.

    import engine as torch

This file is the one public list of names. Importing it compiles nothing and imports neither Numba nor LLVM.
"""
import kernels.ops  # noqa: F401  (fills the book)

from . import dispatch, dtypes, functions, tape
from .devices import device
from .functions.registry import PUBLIC
from .tensor import Size, Tensor

globals().update(dtypes.PUBLIC)
globals().update(PUBLIC)

__all__ = ["Size", "Tensor", "device", "dispatch", "dtypes", "functions", "tape", *PUBLIC, *dtypes.PUBLIC]
