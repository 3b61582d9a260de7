"""Memory for large results: freed buffers are used again, because page faults of fresh memory cost four times the arithmetic.

`empty` gives an array over a pooled buffer; when the array and every view of it are gone, the buffer returns to the pool. NumPy
collapses chains of views to the array that owns the memory or, as here, to the first whose base is no array, so watching that
array is enough. The buffer freed last is used first: it is still in the cache. Small arrays come from NumPy, whose own cache is
faster for them. Called by everything that makes large results; `owns` by those who ask whether an array is alone with its memory.
"""
from __future__ import annotations

import ctypes
import functools
import itertools
import math
import os
import weakref
from collections import deque

import numpy as np

LARGE = 1 << 18                 # bytes from which a buffer is pooled
ALIGNMENT = 64                  # a cache line, and the widest vector: unaligned vectors straddle two lines
PAGE = 4096
MOST = 1 << 30                  # bytes that the pool keeps at most, counted when they are first freed
# Starts that differ within a page: a load that lies a multiple of 4096 bytes behind a store waits for it ("4K aliasing").
_stagger = itertools.cycle(range(0, PAGE - ALIGNMENT, 9 * ALIGNMENT))
_free: dict[int, deque] = {}    # rounded size -> leases that have ended
_leases: set = set()            # those that have not
_kept = 0


class Elsewhere:
    """Base of the dtypes of other devices' arrays, which make their own memory: `dtype.empty(shape)`, `dtype.copy(x, out)`."""

    __slots__ = ()


class Memory:
    """Marks the bytes of a pooled buffer, which are the base of the array over it."""

    __slots__ = ()


class _Lease(weakref.ref):
    """A weak reference to the array over a buffer; its callback runs when the array dies.

    A buffer that the pool keeps goes to the free ones without any code of Python's: their `append` is the callback.
    """

    __slots__ = ("memory",)
    __hash__ = object.__hash__
    __eq__ = object.__eq__


@functools.cache
def _bytes_of(size: int) -> type:
    return type(ctypes.Array)("Memory", (Memory, ctypes.Array), {"_type_": ctypes.c_uint8, "_length_": size})


@functools.lru_cache(1024)
def _place(size: int) -> tuple[int, deque]:
    """The size that buffers for this many bytes have, rounded up to a power-of-two fraction so that sizes recur; the free ones."""
    step = 1 << max(12, size.bit_length() - 3)
    rounded = -(-size // step) * step
    return rounded, _free.setdefault(rounded, deque())


def _first_end(lease: _Lease) -> None:
    """A buffer's first array has died: the pool keeps it from here on, if there is room."""
    global _kept
    size = len(lease.memory)
    if _kept + size > MOST:
        clear()
    if _kept + size <= MOST:
        _kept += size
        _place(size)[1].append(lease)
    else:
        _leases.discard(lease)


def empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised C-contiguous array, pooled when it is large."""
    size = math.prod(shape) * dtype.itemsize
    if isinstance(dtype, Elsewhere):
        return dtype.empty(shape)
    if size < LARGE:
        return np.empty(shape, dtype)
    rounded, free = _place(size)
    try:
        ended = free.pop()
    except IndexError:
        raw = np.empty(rounded + PAGE, np.uint8)
        address = raw.ctypes.data
        memory = _bytes_of(rounded).from_address(address + -address % ALIGNMENT + next(_stagger))
        memory.raw = raw
        array = np.ndarray(shape, dtype, memory)
        lease = _Lease(array, _first_end)
    else:
        _leases.discard(ended)
        memory = ended.memory
        array = np.ndarray(shape, dtype, memory)
        lease = _Lease(array, free.append)
    lease.memory = memory
    _leases.add(lease)
    return array


def owns(array: np.ndarray) -> bool:
    """Whether an array is the one over a pooled buffer (not a view of it)."""
    return isinstance(array.base, Memory)


def clear() -> None:
    """Give all free buffers back to the system."""
    global _kept
    for free in _free.values():
        while free:
            try:
                ended = free.pop()
            except IndexError:          # another thread took the last one
                break
            _leases.discard(ended)
            _kept -= len(ended.memory)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=clear)
