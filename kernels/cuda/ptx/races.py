"""Races: who used which bytes of a memory region in this launch, and whether a barrier lies between.

A cell is a few bytes (the smallest access of the kernel, at most 4). For each cell are kept the last plain writer, the
readers, and the users by atomics, each with the time (stamp) of the use. Threads are numbered by 32 * warp + lane over the
whole grid, with whole warps for each block and the first block's numbers left out (0 is nobody), so that warp and block
follow from the number. A stamp is
2**32 * (barriers passed by the block) + (barriers passed by the warp): uses of one block are ordered when a barrier of the
block lies between, uses of one warp also by `bar.warp.sync`; uses of different blocks never.
"""
from __future__ import annotations

import numpy as np

ONE, WARP, BLOCK, GRID = 0, 1, 2, 3     # how far apart the users of a cell are
_LOG_LIMIT = 1 << 22                    # reads that are kept unsorted until somebody writes


class Users:
    """The threads that used each cell in one manner: the last one, when, and how far apart they all are."""

    __slots__ = ("level", "stamp", "thread")

    def __init__(self, cells: int, ids):
        self.thread = np.zeros(cells, ids)      # 0: nobody
        self.stamp = np.zeros(cells, np.int64)
        self.level = np.zeros(cells, np.int8)

    def clash(self, cell: np.ndarray, thread: np.ndarray, stamp: np.ndarray, lanes: int) -> np.ndarray | None:
        """bool (threads,): whether another thread used the cell with no barrier since; None where nobody did."""
        other = self.thread[cell]
        level = self.level[cell]
        suspect = (other > 0) & ((other != thread) | (level > ONE))
        if not suspect.any():
            return None
        return suspect & ~self._ordered(other, level, self.stamp[cell], thread, stamp, lanes)

    @staticmethod
    def _ordered(other, level, then, thread, now, lanes) -> np.ndarray:
        """Whether a barrier lies between the uses of a cell so far and a use by `thread` now."""
        block = (other // lanes == thread // lanes) & (level < GRID)
        warp = (other >> 5 == thread >> 5) & (level <= WARP)
        return np.where(warp, then != now, block & (then >> 32 != now >> 32))

    def add(self, cell: np.ndarray, thread: np.ndarray, stamp: np.ndarray, lanes: int) -> None:
        """Note that these threads use these cells."""
        other = self.thread[cell]
        old = self.level[cell]
        level = np.where((other == 0) | self._ordered(other, old, self.stamp[cell], thread, stamp, lanes), np.int8(ONE),
                         np.maximum(old, _distance(other, thread, lanes)))
        self.thread[cell] = thread
        self.stamp[cell] = stamp
        last = self.thread[cell]                            # of several threads that use one cell now, the last remains
        level = np.maximum(level, _distance(last, thread, lanes))
        self.level[cell] = level
        while (lost := self.level[cell] < level).any():
            self.level[cell[lost]] = level[lost]


def _distance(one: np.ndarray, other: np.ndarray, lanes: int) -> np.ndarray:
    return np.where(one == other, np.int8(ONE), np.where(one >> 5 == other >> 5, np.int8(WARP),
                    np.where(one // lanes == other // lanes, np.int8(BLOCK), np.int8(GRID))))


class Tracker:
    """The uses of one region. `cell` bytes each; `lanes` is the number of thread numbers that a block has.

    The methods return (what clashes, threads at fault as bool (threads,), the others' numbers) or None. Reads are only kept in
    a list until somebody writes, and a barrier of all threads empties what concerns their shared memory: inputs that are never
    written, and tiles that are written in one phase and read in the next, cost almost nothing.
    """

    def __init__(self, nbytes: int, cell: int, lanes: int, threads: int):
        self.cell, self.lanes = cell, lanes
        self.cells = nbytes // cell + 4
        self.ids = np.int32 if threads < 1 << 31 else np.int64
        self._users: dict[str, Users] = {}      # how -> all users in that manner
        self._busy: set[str] = set()            # the manners seen since the last barrier of all
        self._log: list[tuple] = []
        self._logged = 0

    def barrier(self) -> None:
        """All threads that can reach this region have passed a barrier: stamps tell that all older uses are ordered."""
        self._busy.clear()
        self._log, self._logged = [], 0

    def read(self, offset: np.ndarray, width: int, thread: np.ndarray, stamp: np.ndarray):
        """A plain read of `width` bytes at `offset` by each thread."""
        for cell in self._each(offset, width):
            found = (self._clash("write", "reads what another thread has written", cell, thread, stamp)
                     or self._clash("atomic", "reads what another thread has changed by an atomic", cell, thread, stamp))
            if found:
                return found
            if "read" in self._busy:
                self._users["read"].add(cell, thread, stamp, self.lanes)
            else:
                self._log.append((cell, thread, stamp))
                self._logged += len(cell)
                if self._logged > _LOG_LIMIT:
                    self._settle()
        return None

    def read_volatile(self, offset: np.ndarray, width: int, thread: np.ndarray, stamp: np.ndarray):
        """A volatile, relaxed or acquiring read, which clashes only with plain writes."""
        for cell in self._each(offset, width):
            found = self._clash("write", "reads what another thread has written", cell, thread, stamp)
            if found:
                return found
            self._table("volatile").add(cell, thread, stamp, self.lanes)
        return None

    def write(self, offset: np.ndarray, width: int, thread: np.ndarray, stamp: np.ndarray, changes: np.ndarray):
        """A plain write; `changes` bool (threads,): where the value differs from what is there."""
        self._settle()
        writers = self._table("write", busy=False)
        for cell in self._each(offset, width):
            found = (self._clash("read", "writes what another thread reads", cell, thread, stamp)
                     or self._clash("volatile", "writes what another thread reads", cell, thread, stamp)
                     or self._clash("atomic", "writes what another thread changes by an atomic", cell, thread, stamp)
                     or self._clash("write", "writes another value than another thread to the same bytes", cell, thread, stamp,
                                    changes))
            if found:
                return found
            writers.thread[cell] = thread
            writers.stamp[cell] = stamp
        self._busy.add("write")
        return None

    def atomic(self, offset: np.ndarray, width: int, thread: np.ndarray, stamp: np.ndarray):
        """An atomic operation, or a volatile or relaxed write, which clashes with plain uses only."""
        self._settle()
        for cell in self._each(offset, width):
            found = (self._clash("write", "changes by an atomic what another thread writes without one", cell, thread, stamp)
                     or self._clash("read", "changes by an atomic what another thread reads without one", cell, thread, stamp))
            if found:
                return found
            self._table("atomic").add(cell, thread, stamp, self.lanes)
        return None

    def _each(self, offset: np.ndarray, width: int):
        first = offset // self.cell
        for k in range(max(1, width // self.cell)):
            yield first + k if k else first

    def _table(self, how: str, busy: bool = True) -> Users:
        if how not in self._users:
            self._users[how] = Users(self.cells, self.ids)
        if busy:
            self._busy.add(how)
        return self._users[how]

    def _clash(self, how: str, what: str, cell, thread, stamp, mind: np.ndarray | None = None):
        if how not in self._busy:
            return None
        users = self._users[how]
        clash = users.clash(cell, thread, stamp, self.lanes)
        if clash is not None and mind is not None:
            clash &= mind
        return (what, clash, users.thread[cell]) if clash is not None and clash.any() else None

    def _settle(self) -> None:
        """Enter the list of reads, if any, into the table of readers."""
        log, self._log, self._logged = self._log, [], 0
        for cell, thread, stamp in log:
            self._table("read").add(cell, thread, stamp, self.lanes)
