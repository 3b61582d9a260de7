"""What a launch cost: bytes and sectors of global memory, bank conflicts, instructions, which PTX lines ran.

`Counts` is the result of a launch, and adds up over launches. `Counter` collects it while the machine runs. The figures are
those of the hardware's rules: a warp's access moves whole sectors of 32 bytes; shared memory has 32 banks of 4 bytes, and
lanes that want different words of one bank wait for each other.
"""
from __future__ import annotations

import dataclasses

import numpy as np

SECTOR = 32
KINDS_OF_ACCESS = ("load", "store", "atomic")


@dataclasses.dataclass
class Counts:
    """Figures of one launch, or of several added up.

    bytes: what threads asked for, lane by lane; distinct: the bytes of a warp's access, each counted once (a value that all
    lanes read counts once); sectors: 32-byte sectors moved; accesses: warp accesses; coalesced: those that moved no sector
    more than their bytes need. Each is a dictionary with the keys "load", "store", "atomic", for global memory.
    """
    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    launches: int = 1
    bytes: dict[str, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(KINDS_OF_ACCESS, 0))
    distinct: dict[str, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(KINDS_OF_ACCESS, 0))
    sectors: dict[str, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(KINDS_OF_ACCESS, 0))
    accesses: dict[str, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(KINDS_OF_ACCESS, 0))
    coalesced: dict[str, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(KINDS_OF_ACCESS, 0))
    shared_bytes: int = 0           # asked for by threads
    shared_accesses: int = 0        # of warps
    bank_conflicts: int = 0         # extra turns that warps had to wait
    issued: int = 0                 # warp instructions
    executed: int = 0               # thread instructions
    flops: int = 0                  # floating point operations of threads; a fused multiply-add counts two
    lines: dict[int, int] = dataclasses.field(default_factory=dict)             # PTX line -> warp instructions issued
    unexecuted: dict[int, str] = dataclasses.field(default_factory=dict)        # PTX line -> text of what never ran
    one_sided: dict[int, str] = dataclasses.field(default_factory=dict)         # of branches: "never taken" or "always taken"
    conflicts: dict[int, int] = dataclasses.field(default_factory=dict)         # PTX line -> bank conflicts
    uncoalesced: dict[int, int] = dataclasses.field(default_factory=dict)       # PTX line -> accesses not coalesced

    @property
    def moved(self) -> int:
        """Bytes of global memory that loads and stores moved, in whole sectors."""
        return SECTOR * (self.sectors["load"] + self.sectors["store"])

    @property
    def coalescing(self) -> float:
        """The part of the warps' global loads and stores that is fully coalesced; 1.0 where there is none."""
        total = self.accesses["load"] + self.accesses["store"]
        return (self.coalesced["load"] + self.coalesced["store"]) / total if total else 1.0

    @property
    def intensity(self) -> float:
        """Floating point operations per byte that global loads and stores moved."""
        return self.flops / self.moved if self.moved else 0.0

    def __add__(self, other: Counts) -> Counts:
        """The figures of both; a line counts as unexecuted when neither ran it."""
        total = dataclasses.replace(self)
        for field in ("bytes", "distinct", "sectors", "accesses", "coalesced", "lines", "conflicts", "uncoalesced"):
            mine, theirs = getattr(self, field), getattr(other, field)
            setattr(total, field, {k: mine.get(k, 0) + theirs.get(k, 0) for k in {**mine, **theirs}})
        for field in ("launches", "shared_bytes", "shared_accesses", "bank_conflicts", "issued", "executed", "flops"):
            setattr(total, field, getattr(self, field) + getattr(other, field))
        if self.kernel == other.kernel:
            total.unexecuted = {k: v for k, v in self.unexecuted.items() if k in other.unexecuted}
            total.one_sided = {k: v for k, v in self.one_sided.items() if other.one_sided.get(k) == v or k in other.unexecuted}
            total.one_sided |= {k: v for k, v in other.one_sided.items() if k in self.unexecuted}
        else:
            total.unexecuted = {**self.unexecuted, **other.unexecuted}
            total.one_sided = {**self.one_sided, **other.one_sided}
        return total


def rows_of_warps(values: np.ndarray, threads: np.ndarray | None, warp: np.ndarray, lane: np.ndarray) -> np.ndarray:
    """Values of threads, one row a warp, (warps, 32); a lane that takes no part repeats its warp's first value.

    threads: ascending positions of the values' threads, or None for all; warp, lane (all threads,).
    """
    if threads is None and len(values) % 32 == 0 and lane[-1] == 31 and warp[-1] + 1 == len(values) // 32:
        return values.reshape(-1, 32)
    if threads is not None:
        warp, lane = warp[threads], lane[threads]
    first = np.flatnonzero(np.diff(warp, prepend=-1))
    rows = np.repeat(values[first][:, None], 32, axis=1)
    rows[np.repeat(np.arange(len(first)), np.diff(first, append=len(values))), lane] = values
    return rows


def _sorted(rows: np.ndarray) -> np.ndarray:
    return rows if (rows[:, 1:] >= rows[:, :-1]).all() else np.sort(rows, axis=1)


def sectors_of(rows: np.ndarray, width: int) -> tuple[int, int, int]:
    """(distinct bytes, sectors, coalesced warps) of accesses of `width` bytes at the addresses rows (warps, 32)."""
    rows = _sorted(rows)
    distinct = 1 + np.count_nonzero(rows[:, 1:] > rows[:, :-1], axis=1)
    sector = rows // SECTOR
    sectors = 1 + np.count_nonzero(sector[:, 1:] > sector[:, :-1], axis=1)
    sectors = np.maximum(sectors, -(-distinct * width // SECTOR)) if width > SECTOR else sectors
    dense = rows[:, -1] - rows[:, 0] + width == distinct * width        # one run of bytes, wherever it begins
    good = dense | (sectors <= -(-distinct * width // SECTOR))
    return int(distinct.sum()) * width, int(sectors.sum()), int(np.count_nonzero(good))


def conflicts_of(rows: np.ndarray, width: int) -> int:
    """Extra turns of accesses of `width` bytes to shared memory at the addresses rows (warps, 32).

    Wide accesses are served in turns of 32 words: half a warp for 8 bytes, a quarter for 16.
    """
    words = rows // 4
    if width > 4:
        several = width // 4
        words = (words.reshape(-1, 32 // several, 1) + np.arange(several)).reshape(-1, 32)
    words = _sorted(words)
    fresh = np.ones(words.shape, bool)
    fresh[:, 1:] = words[:, 1:] > words[:, :-1]
    key = np.arange(len(words))[:, None] * 32 + words % 32
    turns = np.bincount(key[fresh], minlength=32 * len(words)).reshape(-1, 32).max(axis=1)
    return int((turns - 1).sum())


class Counter:
    """Collects the figures of one launch; `code` is the list of instructions, whose positions are the arguments `at`."""

    def __init__(self, code: list):
        self.code = code
        count = len(code)
        self.issued = np.zeros(count, np.int64)         # warp instructions
        self.active = np.zeros(count, np.int64)         # thread instructions
        self.figures = {how: np.zeros((count, 5), np.int64) for how in KINDS_OF_ACCESS}     # the five dictionaries of Counts
        self.shared = np.zeros((count, 3), np.int64)    # bytes, warp accesses, conflicts
        self.ways = np.zeros((count, 2), bool)          # of each branch: whether it was ever taken, ever passed
        self._seen: dict[int, tuple] = {}

    def access(self, at: int, how: str, space: str, address: np.ndarray, width: int, threads, warp, lane) -> None:
        """Count one access of the threads' warps. Loops repeat an access at a constant distance: the last result is kept."""
        unit = SECTOR if space == "global" else 4
        start = int(address[0])
        shape = address - start
        seen = self._seen.get(at)
        if (seen is not None and seen[1] == start % unit and seen[0].shape == shape.shape and seen[3] == space
                and (seen[0] == shape).all() and _same(seen[2], threads)):
            found = seen[4]
        else:
            rows = rows_of_warps(address, threads, warp, lane)
            if space == "global":
                distinct, sectors, good = sectors_of(rows, width)
                found = (len(address) * width, distinct, sectors, len(rows), good)
            else:
                found = (len(address) * width, len(rows), conflicts_of(rows, width))
            self._seen[at] = (shape, start % unit, threads, space, found)
        (self.figures[how] if space == "global" else self.shared)[at] += found

    def counts(self, kernel: str, grid: tuple, block: tuple) -> Counts:
        """The figures so far."""
        counts = Counts(kernel, grid, block)
        for how, table in self.figures.items():
            for field, value in zip(("bytes", "distinct", "sectors", "accesses", "coalesced"), table.sum(axis=0), strict=True):
                getattr(counts, field)[how] = int(value)
        counts.shared_bytes, counts.shared_accesses, counts.bank_conflicts = (int(v) for v in self.shared.sum(axis=0))
        counts.issued, counts.executed = int(self.issued.sum()), int(self.active.sum())
        counts.flops = int(sum(int(n) * i.flops for n, i in zip(self.active, self.code, strict=True)))
        for k, instruction in enumerate(self.code):
            line = instruction.line
            counts.lines[line] = counts.lines.get(line, 0) + int(self.issued[k])
            if self.shared[k, 2]:
                counts.conflicts[line] = counts.conflicts.get(line, 0) + int(self.shared[k, 2])
            lost = sum(int(table[k, 3] - table[k, 4]) for how, table in self.figures.items() if how != "atomic")
            if lost:
                counts.uncoalesced[line] = counts.uncoalesced.get(line, 0) + lost
            if not self.active[k]:
                counts.unexecuted[line] = instruction.text
            elif instruction.opcode == "bra" and instruction.guard and not self.ways[k].all():
                counts.one_sided[line] = "always taken" if self.ways[k, 0] else "never taken"
        return counts


def _same(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    if one is None or other is None:
        return one is other
    return one is other or (one.shape == other.shape and bool((one == other).all()))
