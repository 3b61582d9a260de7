"""Memory for large results: freed buffers are used again, because page faults of fresh memory cost four times the arithmetic.

`empty` gives an array over a pooled buffer; when the array and every view of it are gone, the buffer returns to the pool. NumPy
collapses chains of views to the array that owns the memory or, as here, to the first whose base is no array, so watching that
array is enough. Small arrays come from NumPy, whose own cache is faster for them.
"""
from __future__ import annotations

import itertools
import math
import os
import weakref
from collections import deque

import numpy as np

LARGE = 1 << 18                 # bytes from which a buffer is pooled
ALIGNMENT = 64                  # a cache line, and the widest vector: unaligned vectors straddle two lines
PAGE = 4096
MOST = 1 << 30                  # bytes that the pool keeps at most
# Starts that differ within a page: a load that lies a multiple of 4096 bytes behind a store waits for it ("4K aliasing").
_stagger = itertools.cycle(range(0, PAGE - ALIGNMENT, 9 * ALIGNMENT))
_free: dict[int, deque] = {}
_leases: set = set()
_held = 0


class _Lease(weakref.ref):
    """A weak reference to the array over a buffer; called back when the array dies."""

    __slots__ = ("memory",)
    __hash__ = object.__hash__
    __eq__ = object.__eq__


def _give_back(lease: _Lease) -> None:
    global _held
    memory = lease.memory
    _leases.discard(lease)
    if _held + memory.nbytes <= MOST:
        _held += memory.nbytes
        _free.setdefault(memory.nbytes, deque(maxlen=64)).append(memory)


def empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised C-contiguous array, pooled when it is large."""
    global _held
    size = math.prod(shape) * dtype.itemsize
    if size < LARGE:
        return np.empty(shape, dtype)
    # rounded up to a power-of-two fraction, so that sizes recur
    step = 1 << max(12, size.bit_length() - 3)
    rounded = -(-size // step) * step
    found = _free.get(rounded)
    try:
        memory = found.pop() if found else None
    except IndexError:              # another thread took the last one
        memory = None
    if memory is None:
        raw = np.empty(rounded + PAGE, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT + next(_stagger)
        memory = memoryview(raw[start:start + rounded])
    else:
        _held -= rounded
    owner = np.frombuffer(memory, np.uint8)     # its base is no array, so that views of the result keep it alive, not `raw`
    lease = _Lease(owner, _give_back)
    lease.memory = memory
    _leases.add(lease)
    return np.ndarray(shape, dtype, owner)


def clear() -> None:
    """Give all free buffers back to the system."""
    global _held
    _free.clear()
    _held = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=clear)
