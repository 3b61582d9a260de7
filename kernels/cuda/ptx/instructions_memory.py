"""Loads, stores, atomics; fences and hints, which do nothing here.

Volatile, relaxed, acquiring and releasing accesses count as atomic for the race check. Atomics of one step are applied in a
random order that is the same in every run.
"""
from __future__ import annotations

import numpy as np

from .memory import RAW
from .operands import DTYPES, Step, instruction
from .parse import SIZES, elements

SPACES = ("global", "shared", "local", "param", "const")
_STRONG = ("volatile", "relaxed", "acquire", "release", "mmio")


def space_of(step: Step) -> str:
    """The state space that an access names; "generic" where it names none."""
    space = step.has(*SPACES) or "generic"
    if "cluster" in step.modifiers:
        raise step.refuse("shared memory of a cluster")
    return space


@instruction("ld", "ldu")
def load(step: Step):
    """Values from memory or from a parameter, one or a vector."""
    space, size = space_of(step), SIZES[step.kind]
    dtype = DTYPES.get(step.kind)
    if dtype is None:
        raise step.refuse(f"type .{step.kind}")
    writers = [step.operands.write(name) for name in step.vector(0)]
    storage, offset, address = step.operands.address(step.arguments[1])
    if storage is not None:
        number = int(storage[1:])

        def parameter(m, threads):
            data = m.parameters[number]
            if threads is not None and len(data) != 1:
                data = data[threads]
            for k, write in enumerate(writers):
                at = offset + k * size
                write(m, threads, np.ascontiguousarray(data[:, at:at + size]).view(dtype)[:, 0])
        return parameter
    if space == "param":
        raise step.refuse("a parameter reached through an address")
    volatile, count = bool(step.has(*_STRONG)), len(writers)

    def run(m, threads):
        values = m.access.load(space, address(m, threads), size, count, threads, volatile)
        for write, value in zip(writers, values):
            write(m, threads, value.view(dtype))
    return run


@instruction("st")
def store(step: Step):
    """Values to memory or to a parameter, one or a vector."""
    space, size = space_of(step), SIZES[step.kind]
    if step.kind not in DTYPES:
        raise step.refuse(f"type .{step.kind}")
    raw = RAW[size]
    storage, offset, address = step.operands.address(step.arguments[0])
    readers = [step.operands.read(name, step.kind) for name in elements(step.arguments[1])]
    if storage is not None:
        number = int(storage[1:])

        def parameter(m, threads):
            old = m.parameters[number]
            data = np.empty((m.threads, old.shape[1]), np.uint8)
            data[:] = old
            for k, read in enumerate(readers):
                at = offset + k * size
                data[slice(None) if threads is None else threads, at:at + size] = \
                    np.ascontiguousarray(read(m, threads))[:, None].view(np.uint8)
            m.parameters[number] = data
        return parameter
    volatile = bool(step.has(*_STRONG))

    def run(m, threads):
        values = [read(m, threads).view(raw) for read in readers]
        m.access.store(space, address(m, threads), values, threads, volatile)
    return run


def _increment(old, limit):
    return np.where(old >= limit, 0, old + 1).astype(old.dtype)


def _decrement(old, limit):
    return np.where((old == 0) | (old > limit), limit, old - 1).astype(old.dtype)


def _smaller(old, value):
    return np.fmin(old, value) if old.dtype.kind == "f" else np.minimum(old, value)


def _larger(old, value):
    return np.fmax(old, value) if old.dtype.kind == "f" else np.maximum(old, value)


_CHANGES = {"add": np.add, "exch": lambda old, value: value, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
            "min": _smaller, "max": _larger, "inc": _increment, "dec": _decrement,
            "cas": lambda old, compare, value: np.where(old == compare, value, old)}


def _running(name: str, dtype: np.dtype) -> np.ufunc | None:
    """The change as a ufunc, whose `accumulate` gives the values after each of many changes."""
    if name in ("min", "max") and dtype.kind == "f":
        return np.fmin if name == "min" else np.fmax
    return {"add": np.add, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "min": np.minimum,
            "max": np.maximum}.get(name)


@instruction("atom", "red")
def atomic(step: Step):
    """Read, change and write as one action; atom gives the old value."""
    space, kind = space_of(step), step.kind
    if kind not in DTYPES or kind.startswith("bf") or "async" in step.modifiers or len(elements(step.arguments[-1])) > 1:
        raise step.refuse()
    name = step.has(*_CHANGES)
    first = 0 if step.opcode == "red" else 1
    _, _, address = step.operands.address(step.arguments[first])
    readers = [step.operands.read(a, kind) for a in step.arguments[first + 1:]]
    write = step.write() if first else None
    size, dtype = SIZES[kind], np.dtype(np.float16) if kind == "f16x2" else DTYPES[kind]
    change, running = _CHANGES[name], _running(name, dtype)
    lanes = size // dtype.itemsize      # 2 for f16x2

    def run(m, threads):
        n = m.threads if threads is None else len(threads)
        values = [np.broadcast_to(read(m, threads), n) for read in readers]
        old = np.empty(n, RAW[size])

        def apply(words, index, positions):
            order = m.random.permutation(len(index))
            groups = _Groups(index[order])
            mine = order if positions is None else positions[order]
            if running is not None and lanes == 1 and groups.count < groups.longest:
                typed, value, before = words.view(dtype), values[0][mine], np.empty(len(mine), dtype)
                for place, members in groups:
                    after = running.accumulate(np.concatenate([typed[place:place + 1], value[members]]))
                    before[members], typed[place] = after[:-1], after[-1]
                old[mine] = before.view(RAW[size])
                return
            typed = words.view(dtype).reshape(-1, lanes)
            parts = [np.ascontiguousarray(v[mine])[:, None].view(dtype) for v in values]
            for places, members in groups.turns():
                before = typed[places]
                old[mine[members]] = np.ascontiguousarray(before).view(RAW[size])[:, 0]
                typed[places] = change(before, *[p[members] for p in parts])
        m.access.atomic(space, address(m, threads), size, threads, apply)
        if write is not None:
            write(m, threads, old.view(DTYPES[kind]))
    if write is None and name == "add" and dtype.kind in "iuf" and lanes == 1 and dtype.itemsize >= 4:
        return _sums(readers[0], space, address, size, dtype)
    return run


def _sums(read, space, address, size, dtype):
    """Atomic additions whose old values nobody asks for: NumPy adds them one after the other."""
    def run(m, threads):
        n = m.threads if threads is None else len(threads)
        value = np.broadcast_to(read(m, threads), n)

        def apply(words, index, positions):
            order = m.random.permutation(len(index))
            mine = value if positions is None else value[positions]
            np.add.at(words.view(dtype), index[order], mine[order])
        m.access.atomic(space, address(m, threads), size, threads, apply)
    return run


class _Groups:
    """Positions of an array of places, grouped by place; each group keeps the order of the array."""

    def __init__(self, place: np.ndarray):
        self.order = np.argsort(place, kind="stable")
        ordered = place[self.order]
        self.starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
        self.lengths = np.diff(np.append(self.starts, len(place)))
        self.places = ordered[self.starts]
        self.count, self.longest = len(self.starts), int(self.lengths.max())

    def __iter__(self):
        """(place, its positions) for each group."""
        for place, start, length in zip(self.places.tolist(), self.starts.tolist(), self.lengths.tolist()):
            yield place, self.order[start:start + length]

    def turns(self):
        """(places, positions), the first of each group, then the second of each that has one, and so on."""
        for k in range(self.longest):
            there = self.lengths > k
            yield self.places[there], self.order[self.starts[there] + k]


@instruction("membar", "fence", "nanosleep", "prefetch", "prefetchu", "discard", "applypriority", "griddepcontrol", "pmevent",
             "createpolicy", "brkpt")
def nothing(step: Step):
    """Order among accesses is stricter here than on a GPU; hints change no value."""
    if step.opcode == "createpolicy":
        write = step.write()
        return lambda m, threads: write(m, threads, np.zeros(1, np.uint64))
    return lambda m, threads: None
