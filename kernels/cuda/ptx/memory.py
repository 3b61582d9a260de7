"""Global memory of an emulated device: allocations at 64-bit addresses, which are never used twice.

`Memory` is what a driver's allocator is to a program. Each allocation keeps, beside its bytes, which of them were ever
written. Kernels reach it through `Memory.regions`; the device layer through allocate, free, write, read, fill and copy.
Shared and local memory of a launch (`Region`) have the same form and live in machine.py.
"""
from __future__ import annotations

import bisect
import threading
import weakref

import numpy as np

from .errors import MemoryFault

GLOBAL_BASE = 1 << 44       # generic addresses: shared memory begins at SHARED_BASE, local at LOCAL_BASE
SHARED_BASE, LOCAL_BASE = 1 << 40, 1 << 41
ALIGNMENT = 256             # of every allocation, as cudaMalloc's
POISON = 0xff               # what unwritten memory holds: NaN for every floating dtype
RAW = {1: np.dtype(np.uint8), 2: np.dtype(np.uint16), 4: np.dtype(np.uint32), 8: np.dtype(np.uint64)}
_KEPT = 1024                # how many freed allocations are remembered, so that a use after free is called by its name


class Region:
    """A range of emulated memory.

    `data` uint8 (nbytes,); `written` uint8 (nbytes,), 1 where something was written, or None when all of it was;
    `base` the address of data[0]; `name` says in messages what it is.
    """

    __slots__ = ("_looks", "base", "data", "name", "nbytes", "readonly", "written")

    def __init__(self, base: int, nbytes: int, name: str, readonly: bool = False):
        self.base, self.nbytes, self.name, self.readonly = base, nbytes, name, readonly
        room = max(8, -(-nbytes // 8) * 8)          # so that it can be seen as words of any size
        self.data: np.ndarray | None = np.full(room, POISON, np.uint8)
        self.written: np.ndarray | None = np.zeros(room, np.uint8)
        self._looks = 0

    def mark(self, start: int, stop: int) -> None:
        """Note that the host wrote the bytes from start to stop."""
        if self.written is not None:
            if start == 0 and stop >= self.nbytes:
                self.written = None
            else:
                self.written[start:stop] = 1

    def settle(self) -> None:
        """Drop the notes about writing when everything was written; looked at seldom where it was in vain before."""
        self._looks += 1
        if self._looks & (self._looks - 1) == 0 and self.written is not None and self.written[:self.nbytes].all():
            self.written = None


class Memory:
    """The global memory of one emulated device. Safe to use from several threads, but for two launches that share data.

    `capacity`: bytes, or None for no limit other than the computer's.
    """

    def __init__(self, capacity: int | None = None):
        self.capacity = capacity
        self.allocated = self.peak = 0      # bytes held now, and the most that were ever held
        self._next = GLOBAL_BASE
        self._starts: list[int] = []        # sorted, since addresses only grow; freed ones stay for a while
        self._regions: list[Region] = []
        self._freed = 0
        self.lock = threading.RLock()
        # program -> variable -> address: the .global and .const variables of the programs that ran here
        self.symbols: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

    # --- the host's side ---------------------------------------------------------------------------------------------

    def allocate(self, nbytes: int, name: str | None = None, readonly: bool = False) -> int:
        """The address (a multiple of 256) of `nbytes` fresh bytes that nobody has written; 0 bytes are allowed.

        MemoryError when `capacity` does not suffice. `name` is what messages call it.
        """
        nbytes = int(nbytes)
        if nbytes < 0:
            raise ValueError(f"allocate: negative size {nbytes}")
        with self.lock:
            if self.capacity is not None and self.allocated + nbytes > self.capacity:
                raise MemoryError(f"emulated device: {nbytes} bytes asked, {self.allocated} held, "
                                  f"{self.capacity - self.allocated} of {self.capacity} free")
            region = Region(self._next, nbytes, name or f"an allocation of {nbytes} bytes", readonly)
            # A gap after each allocation, so that a step beyond its end never meets the next one.
            self._next += -(-nbytes // ALIGNMENT) * ALIGNMENT + ALIGNMENT
            self._starts.append(region.base)
            self._regions.append(region)
            self.allocated += nbytes
            self.peak = max(self.peak, self.allocated)
        return region.base

    def free(self, address: int) -> None:
        """Give an allocation back. MemoryFault where `address` is not the beginning of a living one."""
        with self.lock:
            region = self._find(int(address))
            if region is None or region.base != address:
                raise MemoryFault(f"free: {address:#x} is not the address of an allocation: {self.describe(int(address))}")
            if region.data is None:
                raise MemoryFault(f"free: the allocation at {address:#x} was freed before")
            region.data = region.written = None
            self.allocated -= region.nbytes
            self._freed += 1
            if self._freed > 2 * _KEPT and self._freed > len(self._regions) // 2:
                self._forget()

    def write(self, address: int, array: np.ndarray) -> None:
        """Copy an array's elements in C order to `address`. MemoryFault where they do not fit."""
        array = np.ascontiguousarray(array)
        region, at = self._host(address, array.nbytes, "write")
        region.data[at:at + array.nbytes] = array.reshape(-1).view(np.uint8)
        region.mark(at, at + array.nbytes)

    def read(self, address: int, nbytes: int) -> np.ndarray:
        """A copy of `nbytes` bytes at `address`, as uint8 (nbytes,); bytes that nobody wrote read as 0xff."""
        region, at = self._host(address, nbytes, "read")
        return region.data[at:at + nbytes].copy()

    def fill(self, address: int, nbytes: int, value: int = 0) -> None:
        """Set `nbytes` bytes at `address` to `value`."""
        region, at = self._host(address, nbytes, "fill")
        region.data[at:at + nbytes] = value
        region.mark(at, at + nbytes)

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Copy bytes from device to device; what nobody wrote stays unwritten in the copy."""
        origin, at = self._host(source, nbytes, "copy")
        region, to = self._host(target, nbytes, "copy")
        region.data[to:to + nbytes] = origin.data[at:at + nbytes].copy()
        if origin.written is None:
            region.mark(to, to + nbytes)
        else:
            if region.written is None:
                region.written = np.ones(len(region.data), np.uint8)
            region.written[to:to + nbytes] = origin.written[at:at + nbytes].copy()

    def written(self, address: int, nbytes: int) -> np.ndarray:
        """bool (nbytes,): which bytes anyone has written."""
        region, at = self._host(address, nbytes, "written")
        if region.written is None:
            return np.ones(nbytes, bool)
        return region.written[at:at + nbytes].astype(bool)

    def describe(self, address: int) -> str:
        """Where an address lies, for messages."""
        region = self._find(address)
        if region is None:
            return f"address {address:#x} is in no allocation"
        offset = address - region.base
        if region.data is None:
            return f"offset {offset} of {region.name} that was freed"
        return f"offset {offset} of {region.name}"

    def _host(self, address, nbytes: int, what: str) -> tuple[Region, int]:
        address = int(address)
        region = self._find(address)
        if region is None or region.data is None or address + nbytes > region.base + region.nbytes or nbytes < 0:
            raise MemoryFault(f"{what}: {nbytes} bytes are not there: {self.describe(address)}")
        return region, address - region.base

    def _find(self, address: int) -> Region | None:
        """The last allocation that begins at or before an address."""
        k = bisect.bisect_right(self._starts, address) - 1
        return self._regions[k] if k >= 0 else None

    def _forget(self) -> None:
        """Forget freed allocations but for the youngest; their addresses then are in no allocation or beyond an older one."""
        freed = [k for k, r in enumerate(self._regions) if r.data is None]
        gone = set(freed[:-_KEPT])
        self._regions = [r for k, r in enumerate(self._regions) if k not in gone]
        self._starts = [r.base for r in self._regions]
        self._freed = len(freed) - len(gone)

    # --- the kernel's side -------------------------------------------------------------------------------------------

    def regions(self, address: np.ndarray, width: int) -> list[tuple[Region | None, np.ndarray | None, str]]:
        """Which allocations an access touches: (region, positions of its threads or None for all, fault) for each.

        address: int64 (threads,).  `fault` is "" where each of these threads' `width` bytes lie inside the region, else it
        says what is wrong and `positions` are the threads at fault.  The common case, one allocation, costs two reductions.
        """
        low, high = int(address.min()), int(address.max()) + width
        region = self._find(low)
        if region is not None and region.data is not None and high <= region.base + region.nbytes:
            return [(region, None, "")]
        starts = np.array(self._starts, np.int64)
        which = np.searchsorted(starts, address, "right") - 1
        found = []
        for k in np.unique(which):
            threads = np.flatnonzero(which == k)
            if k < 0:
                return [(None, threads, "out of bounds")]
            region = self._regions[k]
            if region.data is None:
                return [(region, threads, "use after free")]
            outside = address[threads] + width > region.base + region.nbytes
            if outside.any():
                return [(region, threads[outside], "out of bounds")]
            found.append((region, threads, ""))
        return found
