"""The machine: all threads of many blocks in lockstep, one group of threads with one position at a time.

The group with the smallest position runs, up to the next label: threads that parted at a branch so come together again where
their ways meet, since compilers lay code out in that order. Threads wait at barriers, and at warp instructions until their
lanes have come. Every thousandth turn another group runs, so that threads which wait in a loop for others do not wait for
ever. Blocks run in chunks of many threads, one chunk after the other.
"""
from __future__ import annotations

import numpy as np

from .access import Access
from .counters import Counter, Counts
from .errors import BarrierError, PtxError, StepLimit, Trap, WarpError
from .memory import RAW, Memory
from .operands import DTYPES
from .special import special_register

CHUNK = 1 << 15         # threads that run at once: large enough to hide Python, small enough for the processor's cache
_FAIR = 1000            # turns after which a group with another position runs
_LATER = 1 << 60        # the position of a thread that does not run
PLAIN, BRANCH, SWITCH, CALL, RETURN, EXIT, BARRIER, MEET, TRAP = range(9)
RUNS, ENDED, AT_BARRIER, AT_WARP = range(4)


class Machine:
    """One launch of a kernel. `kernel` is a linked program.Kernel; `values` the bytes of each parameter; `addresses` where each
    variable lies in its space; `dynamic` and `shared` the bytes of shared memory that the launch adds, and all of them."""

    def __init__(self, kernel, grid: tuple[int, int, int], block: tuple[int, int, int], values: list[np.ndarray], memory: Memory,
                 addresses: dict[str, int], dynamic: int, shared: int, check: tuple[str, ...], limit: int, count: bool):
        self.kernel, self.grid, self.block_shape, self.values = kernel, grid, block, values
        self.addresses, self.dynamic, self.check, self.limit = addresses, dynamic, check, limit
        self.per_block = block[0] * block[1] * block[2]
        self.warps_per_block = -(-self.per_block // 32)
        self.numbers = (grid[0] * grid[1] * grid[2] + 1) * self.warps_per_block * 32
        self.counter = Counter(kernel.code) if count else None
        self.random = np.random.default_rng(0)       # the order of atomics
        self.access = Access(self, memory, shared, kernel.local_bytes, kernel.cell, self.warps_per_block * 32, check)
        self.issues = 0
        self.position = 0

    def run(self) -> None:
        """Run all blocks. Raises PtxError."""
        total = self.grid[0] * self.grid[1] * self.grid[2]
        step = max(1, CHUNK // self.per_block)
        with np.errstate(all="ignore"):
            for first in range(0, total, step):
                self._start(first, min(step, total - first))
                self._run()

    def counts(self) -> Counts:
        """The figures of the launch."""
        if self.counter is None:
            return Counts(self.kernel.name, self.grid, self.block_shape)
        return self.counter.counts(self.kernel.name, self.grid, self.block_shape)

    def _start(self, first: int, blocks: int) -> None:
        """Fresh threads, registers and memory for blocks first, first + 1, ..."""
        n = self.threads = blocks * self.per_block
        self.first, self.blocks = first, blocks
        self.number = np.arange(n)                                      # of the thread in this chunk
        self.block = np.repeat(np.arange(blocks), self.per_block)       # of the block in this chunk
        inside = np.tile(np.arange(self.per_block), blocks)
        self.inside = inside                                            # of the thread in its block
        self.lane = inside % 32
        self.warp = self.block * self.warps_per_block + inside // 32
        self.warps = blocks * self.warps_per_block
        ids = np.int32 if self.numbers < 1 << 31 else np.int64
        self.thread = ((first + 1 + self.block) * (self.warps_per_block * 32) + inside).astype(ids)     # as races.py counts
        self.stamp = np.zeros(n, np.int64)
        self._special: dict[str, np.ndarray] = {}
        self.registers = [_UNSET[DTYPES[kind].itemsize] if kind != "pred" else np.array([False]) for kind in self.kernel.registers]
        self.parameters = [np.full((1, size), 0xff, np.uint8) for size in self.kernel.storage]
        for k, value in enumerate(self.values):
            self.parameters[self.kernel.entry_storage + k] = value.reshape(1, -1)
        self.carry = np.zeros(1, np.int64)
        self.returns = {name: np.zeros(n, np.int64) for name in self.kernel.starts}
        self.access.start(blocks, n)
        self.turn = np.full(n, self.kernel.starts[self.kernel.name], np.int64)
        self.where = np.zeros(n, np.int64)          # the position of a thread that waits
        self.state = np.zeros(n, np.int8)
        self.living = n
        self.waits = False      # whether anybody waits for lanes
        self.turns = 0

    # --- the loop ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        turn = self.turn
        while True:
            position = int(turn.min())
            if position == _LATER:
                if self.living == 0:
                    return
                self._release()
                continue
            self.turns += 1
            if self.turns % _FAIR == 0:
                position = int(turn[turn < _LATER].max())
            threads = np.flatnonzero(turn == position)
            count = len(threads)
            self._group(position, None if count == self.threads else threads, count)

    def _group(self, p: int, group: np.ndarray | None, count: int) -> None:
        """Run a group of threads from position p until it parts, waits, ends, or may meet others."""
        code, turn, counter = self.kernel.steps, self.turn, self.counter
        together = count == self.living         # nobody else to meet
        every = slice(None) if group is None else group
        begin = p
        warps = self.warps if group is None else 1 + int(np.count_nonzero(np.diff(self.warp[group])))
        while True:
            step = code[p]
            self.position = p
            chosen = group
            if step.guard is not None:
                chosen = self._guarded(step, group, count)
                if counter is not None and chosen is not group and step.kind != BRANCH:
                    counter.active[p] += (0 if chosen is None else len(chosen)) - count
            none = chosen is not None and len(chosen) == 0
            if step.kind == PLAIN:
                if not none:
                    step.function(self, chosen)
                p += 1
                if together or not code[p].leader:
                    continue
                self._account(begin, p, warps, count)
                turn[every] = p
                return
            if step.kind == MEET:
                if none or self._meet(step, chosen, every):
                    p += 1
                    if together or not code[p].leader:
                        continue
                    turn[every] = p
                    self._account(begin, p, warps, count)
                    return
                self._account(begin, p + 1, warps, count)
                return
            self._account(begin, p + 1, warps, count)
            if step.kind == BRANCH:
                if counter is not None and step.guard is not None:
                    counter.ways[p] |= not none, chosen is not group
                if none or chosen is group:
                    p = p + 1 if none else step.target
                    if not together:
                        turn[every] = p
                        return
                    begin = p
                    continue
                turn[every] = p + 1
                turn[chosen] = step.target
                return
            turn[every] = p + 1
            if not none:
                self._control(step, p, slice(None) if chosen is None else chosen)
            return

    def _account(self, begin: int, end: int, warps: int, count: int) -> None:
        self.issues += end - begin
        if self.counter is not None:
            self.counter.issued[begin:end] += warps
            self.counter.active[begin:end] += count
        if self.issues > self.limit:
            self.fault(StepLimit, f"no end after {self.issues} steps: an endless loop, or threads that wait for others",
                       int(np.flatnonzero(self.state != ENDED)[0]))

    def _guarded(self, step, group, count):
        """The threads of a group whose predicate holds: the group itself, when all."""
        truth = self.registers[step.guard]
        if len(truth) == 1:
            return group if bool(truth[0]) != step.negated else _NOBODY
        if group is not None:
            truth = truth[group]
        if step.negated:
            truth = ~truth
        chosen = np.flatnonzero(truth) if group is None else group[truth]
        return group if len(chosen) == count else chosen

    def _control(self, step, p: int, threads) -> None:
        """Instructions after which a group does not simply go on; `threads` may be a slice."""
        if step.kind == SWITCH:
            index = np.broadcast_to(step.function(self, None), self.threads)[threads]
            if (index >= len(step.target)).any():
                self.fault(PtxError, "brx.idx: index beyond the table", int(self.number[threads][index >= len(step.target)][0]))
            self.turn[threads] = np.array(step.target)[index]
        elif step.kind == BARRIER:
            self.turn[threads] = _LATER
            self.where[threads] = p
            self.state[threads] = AT_BARRIER
        elif step.kind == CALL:
            callee, arguments, _ = step.target
            for source, target in arguments:
                self._copy_parameter(source, target, threads)
            self.returns[callee][threads] = p
            self.turn[threads] = self.kernel.starts[callee]
        elif step.kind == RETURN and step.target != self.kernel.name:
            numbers = self.number[threads]
            back = self.returns[step.target][numbers]
            for call in np.unique(back):
                mine = numbers[back == call]
                for source, target in self.kernel.steps[call].target[2]:
                    self._copy_parameter(source, target, mine)
            self.turn[numbers] = back + 1
        elif step.kind == TRAP:
            self.fault(Trap, "the kernel stopped itself", int(self.number[threads][0]))
        else:
            self.turn[threads] = _LATER
            self.state[threads] = ENDED
            self.living = self.threads - int(np.count_nonzero(self.state == ENDED))

    def _copy_parameter(self, source: int, target: int, threads) -> None:
        value = self.parameters[source]
        if isinstance(threads, slice) or len(threads) == self.threads:
            self.parameters[target] = value.copy()
            return
        old = self.parameters[target]
        if len(old) == 1:
            old = self.parameters[target] = np.repeat(old, self.threads, axis=0)
        old[threads] = value if len(value) == 1 else value[threads]

    # --- waiting -----------------------------------------------------------------------------------------------------

    def _mask(self, threads) -> np.ndarray:
        """uint32 (warps,): the lanes of each warp that are among `threads`."""
        return np.bincount(self.warp[threads], weights=2.0 ** self.lane[threads], minlength=self.warps).astype(np.uint32)

    def _meet(self, step, chosen, every) -> bool:
        """A warp instruction: those whose lanes are all here execute it, the others wait.

        True when just `chosen` could; otherwise the turns of the whole group (`every`) and of all concerned are set.
        """
        p = self.position
        here = self.number if chosen is None else chosen
        waiting = np.flatnonzero((self.state == AT_WARP) & (self.where == p)) if self.waits else _NOBODY
        if len(waiting):
            here = np.union1d(here, waiting)
        ready = self._ready(step, here)
        if ready.all() and not len(waiting):
            step.function(self, chosen)
            return True
        self.turn[every] = p + 1
        self._execute(step, here[ready])
        rest = here[~ready]
        self.turn[rest] = _LATER
        self.where[rest] = p
        self.state[rest] = AT_WARP
        self.waits = bool((self.state == AT_WARP).any())
        return False

    def _ready(self, step, here: np.ndarray) -> np.ndarray:
        """bool: whose whole member mask, but for lanes that have ended, is among the threads `here`."""
        mask = step.mask(self, here)
        absent = (mask >> self.lane[here].astype(np.uint32)) & np.uint32(1) == 0
        if absent.any():
            self.fault(WarpError, "the thread is not in the member mask", int(here[absent][0]))
        if len(here) == self.living:
            return np.ones(len(here), bool)
        warp = self.warp[here]
        return (mask & self._mask(self.state != ENDED)[warp] & ~self._mask(here)[warp]) == 0

    def _execute(self, step, threads: np.ndarray) -> None:
        """Let threads run a warp instruction, and go on behind it."""
        if len(threads):
            step.function(self, threads)
            self.turn[threads] = self.position + 1
            self.state[threads] = RUNS

    def _release(self) -> None:
        """Nobody can run: let go those at complete barriers, and those whose missing lanes have ended. Else it is an error."""
        stuck = np.flatnonzero(self.state == AT_WARP)
        if len(stuck) and self._rejoin(stuck):
            return
        waiting = np.flatnonzero(self.state == AT_BARRIER)
        if len(waiting) == self.threads:
            places = self._places(waiting)
            if len(places) == 1 and self.kernel.steps[places[0]].target is None:
                self._pass(waiting)         # the usual case: everybody at one barrier
                return
        released = False
        for block in np.unique(self.block[waiting]):
            threads = waiting[self.block[waiting] == block]
            released |= self._barrier(block, threads)
        if not released:
            self._stuck(stuck, waiting)

    def _rejoin(self, stuck: np.ndarray) -> bool:
        """Whether some of those who wait for lanes can go on, since lanes have ended meanwhile."""
        moved = False
        for p in np.unique(self.where[stuck]):
            here = stuck[self.where[stuck] == p]
            self.position = int(p)
            ready = self._ready(self.kernel.steps[p], here)
            self._execute(self.kernel.steps[p], here[ready])
            moved |= bool(ready.any())
        return moved

    def _barrier(self, block: int, waiting: np.ndarray) -> bool:
        """Let the threads of one block pass its barriers where enough have come."""
        released = False
        strict = "barriers" in self.check
        members = slice(block * self.per_block, (block + 1) * self.per_block)
        ended = np.flatnonzero(self.state[members] == ENDED) + members.start
        alive = self.per_block - len(ended)
        number = np.zeros(len(waiting), np.int64)
        wanted = np.full(len(waiting), alive)
        for p in np.unique(self.where[waiting]):
            here = self.where[waiting] == p
            self.position = int(p)
            if self.kernel.steps[p].target is not None:
                identity, needed = self.kernel.steps[p].target
                number[here] = identity(self, waiting[here])
                if needed is not None:
                    wanted[here] = needed(self, waiting[here])
        for one in np.unique(number):
            here = np.flatnonzero(number == one)
            places = self._places(waiting[here])
            self.position = int(places[0])
            if wanted[here[0]] == alive:
                if strict and len(places) > 1:
                    other = self.kernel.code[places[1]]
                    self.fault(BarrierError, "barrier in divergent code: threads of the block wait at different barriers, this one "
                               f"and PTX line {other.line}", int(waiting[here][self.where[waiting[here]] == places[0]][0]))
                if strict and len(ended):
                    coordinates = self.coordinates(int(self.thread[ended[0]]))[1]
                    self.fault(BarrierError, f"barrier in divergent code: thread {coordinates} of the block has ended and never "
                               "reaches it", int(waiting[here[0]]))
            if len(here) >= wanted[here[0]]:
                self._pass(waiting[here])
                released = True
        return released

    def _pass(self, threads: np.ndarray) -> None:
        """Let threads go that wait at a barrier."""
        for p in self._places(threads):
            self.position = int(p)
            if self.kernel.steps[p].function is not None:
                self.kernel.steps[p].function(self, threads[self.where[threads] == p])
        self.turn[threads] = self.where[threads] + 1
        self.state[threads] = RUNS
        if len(threads) == self.living:
            self.stamp = self.stamp + ((1 << 32) + 1)
            self.access.barrier()
            return
        blocks = np.zeros(self.blocks, np.int64)
        blocks[self.block[threads]] = (1 << 32) + 1
        self.stamp = self.stamp + blocks[self.block]

    def _places(self, threads: np.ndarray) -> np.ndarray:
        """The different positions at which threads wait."""
        where = self.where[threads]
        return where[:1] if (where == where[0]).all() else np.unique(where)

    def _stuck(self, lanes: np.ndarray, waiting: np.ndarray) -> None:
        """Report that nobody can ever go on."""
        if len(lanes):
            self.position = int(self.where[lanes[0]])
            self.fault(WarpError, "lanes of the member mask never come here, and this one waits for them", int(lanes[0]))
        self.position = int(self.where[waiting[0]])
        self.fault(BarrierError, "barrier in divergent code: not all threads of the block reach it", int(waiting[0]))

    # --- what instructions ask ---------------------------------------------------------------------------------------

    def special(self, name: str) -> np.ndarray:
        """A special register, uint32 (threads,) or (1,); computed when first asked for."""
        if name not in self._special:
            self._special[name] = special_register(self, name)
        return self._special[name]

    def coordinates(self, thread: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(block, thread) as (x, y, z) of a thread numbered as races.py does."""
        block, inside = divmod(thread - self.warps_per_block * 32, self.warps_per_block * 32)
        (gx, gy, _), (bx, by, _) = self.grid, self.block_shape
        return (block % gx, block // gx % gy, block // (gx * gy)), (inside % bx, inside // bx % by, inside // (bx * by))

    def fault(self, kind: type, message: str, position: int) -> None:
        """Raise an error of the instruction that runs now, for the thread at a position of this chunk."""
        block, thread = self.coordinates(int(self.thread[position]))
        instruction = self.kernel.code[self.position]
        raise kind(message, kernel=self.kernel.name, block=block, thread=thread, line=instruction.line, text=instruction.text,
                   source=instruction.source)


# What a register holds that nobody has written: NaN as a number, and no likely integer.
_UNSET = {size: np.array([value], RAW[size]) for size, value in ((1, 0xad), (2, 0xfead), (4, 0xffc0dead), (8, 0xfffcdeadbeefdead))}
_NOBODY = np.zeros(0, np.int64)
