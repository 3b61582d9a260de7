"""Memory accesses of a running kernel: from addresses to regions, with every check, and counted.

`Access` belongs to one machine. A region is an allocation of global memory, or the shared memory of all blocks that run now,
or their threads' local memory. Instructions call load, store and atomic; what they mean is in instructions_memory.py.
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .errors import MemoryFault, RaceError, UninitialisedRead
from .memory import GLOBAL_BASE, LOCAL_BASE, POISON, RAW, SHARED_BASE, Memory, Region
from .races import Tracker

_WRITTEN = {1: 0x01, 2: 0x0101, 4: 0x01010101, 8: 0x0101010101010101}       # a word whose bytes were all written


class Access:
    """The spaces of one launch. `shared` and `local` are the bytes of a block's and of a thread's memory."""

    def __init__(self, machine, memory: Memory, shared: int, local: int, cell: int, lanes: int, check: tuple[str, ...]):
        self.machine, self.memory = machine, memory
        self.shared_bytes, self.local_bytes, self.cell, self.lanes = shared, local, cell, lanes
        self.shared_stride, self.local_stride = (-(-n // 16) * 16 for n in (shared, local))
        self.races, self.uninitialised = "races" in check, "uninitialised" in check
        self.trackers: dict[int, Tracker] = {}
        self.shared = self.local = Region(0, 0, "")

    def start(self, blocks: int, threads: int) -> None:
        """Fresh shared and local memory for so many blocks."""
        self.trackers.pop(id(self.shared), None)
        self.shared = self._fresh(self.shared, blocks * self.shared_stride, "shared memory")
        self.local = self._fresh(self.local, threads * self.local_stride, "local memory")

    def barrier(self) -> None:
        """All living threads have passed a barrier."""
        if (tracker := self.trackers.get(id(self.shared))) is not None:
            tracker.barrier()

    @staticmethod
    def _fresh(region: Region, nbytes: int, name: str) -> Region:
        if region.nbytes != nbytes or region.name != name or region.written is None:
            return Region(0, nbytes, name)
        region.data[:] = POISON
        region.written[:] = 0
        return region

    # --- from addresses to places ------------------------------------------------------------------------------------

    def places(self, space: str, address: np.ndarray, width: int, threads: np.ndarray | None, how: str) -> list[tuple]:
        """The regions of an access: (region, offsets, positions in `address` or None for all). Checks and counts it."""
        m = self.machine
        if width > 1 and (astray := address & (width - 1)).any():
            k = int(np.flatnonzero(astray)[0])
            self._fault(MemoryFault, threads, k, f"misaligned {how} of {width} bytes at {self._name(space, int(address[k]))}")
        if space == "generic":
            return self._generic(address, width, threads, how)
        if space == "global":
            if m.counter is not None:
                m.counter.access(m.position, how, "global", address, width, threads, m.warp, m.lane)
            return self._global(address, width, threads, how)
        if space == "const":
            return self._global(address, width, threads, how)
        if space == "shared":
            limit, stride, region, owner = self.shared_bytes, self.shared_stride, self.shared, m.block
            if m.counter is not None:
                m.counter.access(m.position, how, "shared", address, width, threads, m.warp, m.lane)
        else:
            limit, stride, region, owner = self.local_bytes, self.local_stride, self.local, m.number
        if int(address.min()) < 0 or int(address.max()) + width > limit:
            k = int(np.flatnonzero((address < 0) | (address + width > limit))[0])
            self._fault(MemoryFault, threads, k, f"{how} of {width} bytes out of bounds: offset {int(address[k])} of "
                                                 f"{limit} bytes of {space} memory")
        return [(region, address + stride * (owner if threads is None else owner[threads]), None)]

    def _global(self, address, width, threads, how) -> list[tuple]:
        found = []
        for region, positions, fault in self.memory.regions(address, width):
            if fault or (region.readonly and how != "load"):
                k = 0 if positions is None else int(positions[0])
                self._fault(MemoryFault, threads, k, f"{how} of {width} bytes {fault or 'to read-only memory'}: "
                                                     f"{self._name('global', int(address[k]))}")
            found.append((region, (address if positions is None else address[positions]) - region.base, positions))
        return found

    def _generic(self, address, width, threads, how) -> list[tuple]:
        """An access whose space each address tells."""
        if int(address.min()) >= GLOBAL_BASE:       # the usual case
            return self.places("global", address, width, threads, how)
        spaces = [("global", 0, address >= GLOBAL_BASE), ("local", LOCAL_BASE, (address >= LOCAL_BASE) & (address < GLOBAL_BASE)),
                  ("shared", SHARED_BASE, (address >= SHARED_BASE) & (address < LOCAL_BASE))]
        found = []
        known = np.zeros(len(address), bool)
        for space, base, inside in spaces:
            known |= inside
            if inside.all():
                return self.places(space, address - base, width, threads, how)
            if inside.any():
                mine = np.flatnonzero(inside)
                subset = mine if threads is None else threads[mine]
                for region, offset, positions in self.places(space, address[mine] - base, width, subset, how):
                    found.append((region, offset, mine if positions is None else mine[positions]))
        if not known.all():
            k = int(np.flatnonzero(~known)[0])
            self._fault(MemoryFault, threads, k, f"{how} of {width} bytes out of bounds: {self._name('global', int(address[k]))}")
        return found

    def _name(self, space: str, address: int) -> str:
        if space in ("global", "generic", "const"):
            return "the null pointer" if address == 0 else self.memory.describe(address)
        return f"offset {address} of {space} memory"

    # --- accesses ----------------------------------------------------------------------------------------------------

    def load(self, space: str, address: np.ndarray, size: int, count: int, threads: np.ndarray | None,
             volatile: bool) -> list[np.ndarray]:
        """`count` words of `size` bytes from each thread's address, as one array of raw words each."""
        m, width = self.machine, size * count
        uniform = len(address) == 1
        if uniform:
            address = np.full(m.threads if threads is None else len(threads), address[0])
        values: list[np.ndarray] = []
        for region, offset, positions in self.places(space, address, width, threads, "load"):
            mine = threads if positions is None else positions if threads is None else threads[positions]
            word = offset // size
            if self.uninitialised and region.written is not None:
                self._require_written(region, offset, word, size, count, mine, space)
            if self.races and region is not self.local and not region.readonly:
                self._track("read_volatile" if volatile else "read", region, offset, width, mine)
            words = region.data.view(RAW[size])
            if positions is None:
                if uniform and region is not self.local and (region is not self.shared or m.blocks == 1):
                    word = word[:1]         # one value for all threads
                return [words[word + k if k else word] for k in range(count)]
            values = values or [np.empty(len(address), RAW[size]) for _ in range(count)]
            for k in range(count):
                values[k][positions] = words[word + k]
        return values

    def store(self, space: str, address: np.ndarray, values: list[np.ndarray], threads: np.ndarray | None,
              volatile: bool) -> None:
        """Put each thread's words, one array of raw words for each element, to its address."""
        m = self.machine
        size = values[0].dtype.itemsize
        n = m.threads if threads is None else len(threads)
        if len(address) != n:
            address = np.full(n, address[0])
        values = [np.broadcast_to(v, n) for v in values]
        for region, offset, positions in self.places(space, address, size * len(values), threads, "store"):
            mine = threads if positions is None else positions if threads is None else threads[positions]
            parts = values if positions is None else [v[positions] for v in values]
            word = offset // size
            words = region.data.view(RAW[size])
            tracked = self.races and region is not self.local
            if tracked:
                changes = None
                if not volatile:
                    changes = words[word] != parts[0]
                    for k in range(1, len(parts)):
                        changes |= words[word + k] != parts[k]
                self._track("atomic" if volatile else "write", region, offset, size * len(values), mine, changes)
            for k, part in enumerate(parts):
                words[word + k if k else word] = part
                if tracked and not volatile and (lost := words[word + k] != part).any():
                    self._fault(RaceError, mine, int(np.flatnonzero(lost)[0]), "race: two threads write different values to "
                                f"the same bytes in one step, {self._place(region, offset[int(np.flatnonzero(lost)[0])])}")
            if region.written is not None:
                notes = region.written.view(RAW[size])
                for k in range(len(parts)):
                    notes[word + k] = _WRITTEN[size]

    def atomic(self, space: str, address: np.ndarray, size: int, threads: np.ndarray | None,
               change: Callable[[np.ndarray, np.ndarray, np.ndarray | None], None]) -> None:
        """Call change(words, index of each thread's word, positions or None) for each region of an atomic access."""
        m = self.machine
        if len(address) == 1:
            address = np.full(m.threads if threads is None else len(threads), address[0])
        for region, offset, positions in self.places(space, address, size, threads, "atomic"):
            mine = threads if positions is None else positions if threads is None else threads[positions]
            word = offset // size
            if self.uninitialised and region.written is not None:
                self._require_written(region, offset, word, size, 1, mine, space)
            if self.races and region is not self.local:
                self._track("atomic", region, offset, size, mine)
            change(region.data.view(RAW[size]), word, positions)

    # --- checks ------------------------------------------------------------------------------------------------------

    def _require_written(self, region, offset, word, size, count, threads, space) -> None:
        notes = region.written.view(RAW[size])
        for k in range(count):
            bad = notes[word + k] != _WRITTEN[size]
            if bad.any():
                j = int(np.flatnonzero(bad)[0])
                self._fault(UninitialisedRead, threads, j, f"read of {size} bytes that nobody has written, "
                                                           f"{self._place(region, int(offset[j]) + k * size)}")
        if region is not self.shared and region is not self.local:
            region.settle()

    def _track(self, how: str, region: Region, offset, width: int, threads, *more) -> None:
        m = self.machine
        tracker = self.trackers.get(id(region))
        if tracker is None:
            tracker = self.trackers[id(region)] = Tracker(region.nbytes, self.cell, self.lanes, m.numbers)
        who, when = (m.thread, m.stamp) if threads is None else (m.thread[threads], m.stamp[threads])
        clash = getattr(tracker, how)(offset, width, who, when, *more)
        if clash is not None:
            what, bad, others = clash
            j = int(np.flatnonzero(bad)[0])
            block, thread = m.coordinates(int(others[j]))
            self._fault(RaceError, threads, j, f"race: the thread {what} with no barrier between (thread {thread} of block "
                                               f"{block}), {self._place(region, int(offset[j]))}")

    def _place(self, region: Region, offset) -> str:
        offset = int(offset)
        if region is self.shared:
            return f"offset {offset % max(1, self.shared_stride)} of shared memory"
        if region is self.local:
            return f"offset {offset % max(1, self.local_stride)} of local memory"
        return f"offset {offset} of {region.name}"

    def _fault(self, kind: type, threads: np.ndarray | None, k: int, message: str) -> None:
        self.machine.fault(kind, message, k if threads is None else int(threads[k]))
