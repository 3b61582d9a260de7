"""How many threads NumPy's BLAS takes for a product: one for a small product, the engine's number for a large one.

OpenBLAS wakes its threads for products of a few microseconds, which gains nothing on a quiet machine and loses milliseconds on a
busy one, where the other thread has to wait for its turn. NumPy has no switch for it, so the library that NumPy's wheels bring is
asked directly; where there is none (Accelerate, MKL, a distribution's own build) products run as they would. Called by
`products`.
"""
from __future__ import annotations

import ctypes
import glob
import os
from collections.abc import Callable

import numpy as np

from . import pool

SMALL = 1 << 21             # multiplications up to which one thread is as fast


def _library() -> ctypes.CDLL | None:
    """The OpenBLAS of NumPy's wheel, which this process has loaded already."""
    package = os.path.dirname(np.__file__)
    for folder in (os.path.join(os.path.dirname(package), "numpy.libs"), os.path.join(package, ".dylibs")):
        for path in sorted(glob.glob(os.path.join(folder, "*openblas*"))):
            try:
                return ctypes.CDLL(path)
            except OSError:
                continue
    return None


def _setter() -> tuple[Callable[[int], None] | None, int]:
    """The function that sets the number of threads, and the number set by the user or the system."""
    library = _library()
    for pattern in ("scipy_openblas_{}_num_threads64_", "scipy_openblas_{}_num_threads", "openblas_{}_num_threads64_",
                    "openblas_{}_num_threads"):
        try:
            get, put = (getattr(library, pattern.format(word)) for word in ("get", "set"))
        except AttributeError:
            continue
        get.restype, put.restype, put.argtypes = ctypes.c_int, None, [ctypes.c_int]
        return put, get()
    return None, 0


_set: Callable[[int], None] | None = None
_most = _now = -1           # threads that the library began with, and has now; -1: not asked yet


def prepare(work: int) -> None:
    """Set the number of threads for a product of this many multiplications."""
    global _set, _most, _now
    if _most < 0:
        _set, _most = _setter()
        _now = _most
    wanted = 1 if work <= SMALL else min(_most, pool.threads)
    if wanted != _now and _set is not None:
        _set(wanted)
        _now = wanted
