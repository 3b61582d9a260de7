"""A program as a table of native launches that compiled code walks by itself: no Python between the kernels.

`launches` runs a program once on sample arrays while every kernel that it calls is noted with the memory that it works on, and
makes of it a table of addresses as `kernels.cpu.launches` describes it. Operands are found by where their memory lies: in an
input, a captured tensor, a constant, a result or memory of the program's own. What is no kernel of ours (BLAS, operators run as
they are) has no place in a table; such programs stay with Python. `stretch` makes one call of some lines of a program, whose
kernels are noted but not run. Called by engine.optimize.objective and `program`.
"""
from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kernels.cpu import buffers, pool
from kernels.cpu.launches import walker
from kernels.cpu.native import loop_of
from kernels.cpu.patience import Guarded
from kernels.solvers.copying import copy_loop
from kernels.solvers.machine import SLOTS

if TYPE_CHECKING:
    from .graph import Value
    from .program import Executable

ALIGNMENT = 64
MOST_OPERANDS = 60


class NotNative(Exception):
    """The program does something between its kernels that only Python can do. The text says what."""


@dataclasses.dataclass(eq=False)
class Table:
    """A variant of an objective: `words` from `address` on, `scratch` bytes of its own memory, and what must stay alive.

    `interruptible`: there are loops in its kernels that Ctrl-C can end.
    """

    words: np.ndarray
    scratch: int
    keep: list
    interruptible: bool = False

    @property
    def address(self) -> int:
        return self.words.ctypes.data


@dataclasses.dataclass(eq=False)
class _Memory:
    """A block of memory that launches work on: where it lies now, and (slot, offset) of where it will lie; launches that use it."""

    low: int
    high: int
    slot: int = -1
    offset: int = 0
    first: int = 1 << 60
    last: int = -1

    @property
    def size(self) -> int:
        """Bytes, in whole cache lines."""
        return -(-(self.high - self.low) // ALIGNMENT) * ALIGNMENT


@dataclasses.dataclass(eq=False)
class _Launch:
    """A loop with its operands' addresses at the sample run."""

    loop: int
    data: int
    dimensions: np.ndarray
    steps: np.ndarray
    operands: list[int]
    kept: list


class _Recorder:
    """Stands for a kernel in a program's namespace."""

    def __init__(self, recording: _Recording, kernel: np.ufunc | Guarded):
        self.recording, self.ufunc = recording, kernel.ufunc if isinstance(kernel, Guarded) else kernel
        recording.interruptible |= isinstance(kernel, Guarded)

    def __call__(self, *arrays: Any, out: Any = None) -> Any:
        ufunc = self.ufunc
        types = ufunc.types[0].replace("->", "")
        operands = [self.recording.operand(a, np.dtype(t)) for a, t in zip(arrays, types, strict=False)]
        if len(operands) == ufunc.nargs:
            if self.recording.runs:
                ufunc(*operands)
            results: Any = None
            made: tuple = ()
        elif not self.recording.runs:
            raise NotNative(f"{ufunc.__name__} makes its own results")
        else:
            results = ufunc(*operands, out=...)
            made = results if isinstance(results, tuple) else (results,)
            self.recording.own += made
        self.recording.note(ufunc, [*operands, *made])
        return results


class _Recording:
    """The launches of one run; `runs`: kernels run, otherwise they are only noted."""

    def __init__(self, runs: bool = True) -> None:
        self.runs = runs
        self.launches: list[_Launch] = []
        self.own: list[np.ndarray] = []             # memory that the program writes
        self.constants: list[np.ndarray] = []       # memory that nobody writes
        self.interruptible = False                  # see Table

    def operand(self, a: Any, dtype: np.dtype) -> np.ndarray:
        """What a kernel is given, as an array of the dtype of its loop."""
        if not isinstance(a, np.ndarray):
            self.constants.append(np.asarray(a, dtype))
            return self.constants[-1]
        if a.dtype != dtype:
            raise NotNative(f"a kernel for {dtype} is given {a.dtype}")
        return a

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Memory for what a kernel writes."""
        self.own.append(np.empty(shape, dtype))
        return self.own[-1]

    def note(self, ufunc: np.ufunc, operands: list[np.ndarray]) -> None:
        found = loop_of(ufunc)
        if found is None:
            raise NotNative(f"{ufunc.__name__} is no kernel of the engine")
        if len(operands) > MOST_OPERANDS:
            raise NotNative(f"{ufunc.__name__} has {len(operands)} operands")
        outer, core, cores = _shapes(ufunc, operands)
        steps = [s if len(outer) else 0 for s in _outer_steps(operands, cores, outer)]
        for a, dims in zip(operands, cores, strict=True):
            steps += a.strides[a.ndim - len(dims):]
        dimensions = np.array([outer[0] if outer else 1, *core.values()], np.int64)
        loop, data = found
        if dimensions[0] == 1 and dimensions.prod() < 1 << 15:      # too little for threads: past the loop that hands out chunks
            loop, data = pool.unwrapped(loop, data)
        self.launches.append(_Launch(loop, data, dimensions, np.array(steps, np.int64),
                                     [a.__array_interface__["data"][0] for a in operands], operands if self.runs else []))


def _shapes(ufunc: np.ufunc, operands: list[np.ndarray]) -> tuple[tuple[int, ...], dict[str, int], list[list[str]]]:
    """(outer shape, sizes of core dimensions in the loop's order, names of each operand's core dimensions)."""
    cores: list[list[str]] = [[] for _ in operands]
    if ufunc.signature:
        parts = [p.strip("() ") for side in ufunc.signature.split("->") if side for p in side.split("),(")]
        cores = [p.replace(" ", "").split(",") if p else [] for p in parts]
    sizes: dict[str, int] = {}
    for a, dims in zip(operands, cores, strict=True):
        for name, size in zip(dims, a.shape[a.ndim - len(dims):], strict=True):
            sizes.setdefault(name, size)
    outer = np.broadcast_shapes(*[a.shape[:a.ndim - len(dims)] for a, dims in zip(operands, cores, strict=True)])
    if len(outer) > 1:
        raise NotNative(f"{ufunc.__name__} walks {len(outer)} outer dimensions")
    return outer, sizes, cores


def _outer_steps(operands: list[np.ndarray], cores: list[list[str]], outer: tuple[int, ...]) -> list[int]:
    """How far each operand moves in an outer step."""
    return [a.strides[0] if a.ndim > len(dims) and a.shape[0] == outer[0] != 1 else 0
            for a, dims in zip(operands, cores, strict=True)]


class _Stranger:
    """Stands for a function in a program's namespace that is no kernel."""

    def __init__(self, name: str):
        self.name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise NotNative(f"it calls {self.name}")


def launches(program: Executable, inputs: Sequence[tuple[np.ndarray, int]], results: Sequence[int]) -> Table:
    """The table of a program.

    `inputs`: the arrays that the program is given, each with its slot; they may not overlap (see `twin`). `results`: the slot of
    each of the first results, dense in row-major order there. NotNative where the program needs Python.
    """
    recording = _Recording()
    space = _noting(recording, program.space)
    exec(compile(program.source, f"<{program.name}, noted>", "exec"), space)
    found = space[program.name](*[a for a, _ in inputs])
    if found is None:
        raise NotNative("shapes depend on the data")
    guarded = found[len(found) - len(program.guards):] if program.guards else []
    return _tabled(recording, inputs, list(zip(found, results, strict=False)),
                   [(a, g.seen) for a, g in zip(guarded, program.guards, strict=True)], space)


@dataclasses.dataclass(eq=False)
class Stretch:
    """Some lines of a program as one gufunc, of the values `operands`, `scratch` bytes and an int8 that nobody writes."""

    ufunc: np.ufunc
    operands: list[str]
    scratch: int
    table: Table


def stretch(name: str, lines: Sequence[str], space: Mapping[str, Any], outside: Mapping[str, Value]) -> Stretch:
    """One native call for lines that make memory, give names and call kernels with all their operands.

    `outside`: values that the lines use and that are there before, by their names in the lines. NotNative where the lines do more.
    """
    recording = _Recording(runs=False)
    samples = {word: _sample(v) for word, v in outside.items()}
    noted = {**_noting(recording, space), **samples}
    exec(compile("\n".join(lines), f"<{name}, noted>", "exec"), noted)
    memories = _Memories(recording, [(a, 1 + k) for k, a in enumerate(samples.values())])
    steps = recording.launches
    for k, step in enumerate(steps):
        for address in step.operands:
            memories.use(address, k)
    scratch = max(memories.settle(1 + len(samples)), 1)
    table = _table(steps, [], memories, scratch, {"constants": recording.constants, "kernels": space})
    operands = [*samples.values(), np.empty(scratch, np.uint8), np.empty((), np.int8)]
    if len(operands) > MOST_OPERANDS:
        raise NotNative(f"it has {len(operands)} operands")
    return Stretch(walker(name, table.words, operands), list(samples), scratch, table)


def _sample(value: Value) -> np.ndarray:
    """An array laid out as a value is; nobody looks into its memory."""
    if not value.size or min(value.strides, default=0) < 0:
        raise NotNative("a value without memory, or laid out backwards")
    memory = np.empty(value.extent, value.dtype)
    return np.lib.stride_tricks.as_strided(memory, value.shape, [s * memory.itemsize for s in value.strides])


def _noting(recording: _Recording, space: Mapping[str, Any]) -> dict[str, Any]:
    """A program's names, with what notes its kernels and its memory in the place of both."""
    found = dict(space)
    for name, value in space.items():
        if value is np.empty or value is buffers.empty:
            found[name] = recording.empty
        elif isinstance(value, np.ndarray):
            recording.constants.append(value)
        elif isinstance(value, (np.ufunc, Guarded)):
            found[name] = _Recorder(recording, value)
        elif name.startswith("call") and callable(value):
            found[name] = _Stranger(getattr(value, "__name__", name))
    return found


def one_launch(ufunc: np.ufunc | Guarded, operands: Sequence[np.ndarray], inputs: Sequence[tuple[np.ndarray, int]],
               results: Sequence[int]) -> Table:
    """The table of a single kernel. `inputs` and `results` as in `launches`; operands that are no inputs are constants."""
    recording = _Recording()
    given = {id(a) for a, _ in inputs}
    recording.constants += [a for a in operands if id(a) not in given]
    found = _Recorder(recording, ufunc)(*operands)
    found = found if isinstance(found, tuple) else (found,)
    return _tabled(recording, inputs, list(zip(found, results, strict=True)), [], {ufunc.__name__: ufunc})


def _tabled(recording: _Recording, inputs: Sequence[tuple[np.ndarray, int]], results: list[tuple[np.ndarray, int]],
            guards: list[tuple[np.ndarray, object]], space: dict) -> Table:
    """The table of a recorded run; `results`: each with its slot, `guards`: each with the value seen."""
    memories = _Memories(recording, inputs)
    steps = recording.launches
    for k, step in enumerate(steps):
        for address in step.operands:
            memories.use(address, k)
    for array, slot in results:
        memory = memories.of(array.__array_interface__["data"][0])
        if (memory.slot < 0 and array.flags.c_contiguous and memory.low == array.__array_interface__["data"][0]
                and memory.high - memory.low == array.nbytes):
            memory.slot, memory.offset = slot, 0
        else:
            steps.append(_copy(array))
            target = memories.add(slot)
            steps[-1].operands.append(target)
            memories.use(steps[-1].operands[0], len(steps) - 1)
    for array, _ in guards:
        memories.use(array.__array_interface__["data"][0], len(steps))
    scratch = memories.settle(SLOTS["scratch"])
    return dataclasses.replace(_table(steps, guards, memories, scratch, space), interruptible=recording.interruptible)


def twin(array: np.ndarray) -> np.ndarray:
    """A copy that lies in memory of its own, with the same strides."""
    low, high = np.lib.array_utils.byte_bounds(array)
    memory = np.frombuffer((ctypes.c_char * (high - low)).from_address(low), np.uint8).copy()
    return np.ndarray(array.shape, array.dtype, memory, array.__array_interface__["data"][0] - low, array.strides)


def _copy(array: np.ndarray) -> _Launch:
    """A launch that copies an array into dense memory, whose address is still to be added."""
    about = np.array([array.itemsize, array.ndim, *array.shape, *array.strides], np.int64)
    return _Launch(copy_loop(), about.ctypes.data, np.ones(1, np.int64), np.zeros(2, np.int64),
                   [array.__array_interface__["data"][0]], [about, array])


class _Memories:
    """All blocks of memory of a recording, by address."""

    def __init__(self, recording: _Recording, given: Sequence[tuple[np.ndarray, int]]):
        self.blocks: list[_Memory] = []
        self.targets = 0
        for array, slot in given:
            low, high = np.lib.array_utils.byte_bounds(array)
            self.blocks.append(_Memory(low, max(high, low + 1), slot, low - array.__array_interface__["data"][0]))
        for array in recording.constants:
            low, high = np.lib.array_utils.byte_bounds(array)
            self.blocks.append(_Memory(low, max(high, low + 1), 0, low))
        for array in recording.own:
            low, high = np.lib.array_utils.byte_bounds(array)
            self.blocks.append(_Memory(low, max(high, low + 1)))

    def of(self, address: int) -> _Memory:
        for block in self.blocks:
            if block.low <= address < block.high:
                return block
        raise NotNative("an operand lies in memory that is not known")

    def add(self, slot: int) -> int:
        """An address that stands for a slot."""
        self.targets += 1
        self.blocks.append(_Memory(-self.targets, 1 - self.targets, slot))
        return -self.targets

    def use(self, address: int, k: int) -> None:
        block = self.of(address)
        block.first, block.last = min(block.first, k), max(block.last, k)

    def settle(self, slot: int) -> int:
        """Give the program's own memory places in the scratch memory of a slot, shared by blocks that do not live at once.

        The size of that memory is given back.
        """
        top = 0
        placed: list[_Memory] = []
        for block in sorted((b for b in self.blocks if b.slot < 0 <= b.last), key=lambda b: b.first):
            size = block.size
            at = 0
            for low, high in sorted((b.offset, b.offset + b.size) for b in placed if b.last >= block.first):
                if at + size <= low:
                    break
                at = max(at, high)
            block.slot, block.offset = slot, at
            placed.append(block)
            top = max(top, at + size)
        return top

    def operand(self, address: int) -> tuple[int, int]:
        """(slot, offset) of an address."""
        block = self.of(address)
        return block.slot, block.offset + address - block.low


def _table(steps: list[_Launch], guards: list, memories: _Memories, scratch: int, space: dict) -> Table:
    words: list[int] = [len(steps), len(guards)]
    keep: list = [space, steps]
    for step in steps:
        words += [step.loop, step.data, step.dimensions.ctypes.data, step.steps.ctypes.data, len(step.operands)]
        for address in step.operands:
            words += memories.operand(address)
    for array, seen in guards:
        if not array.flags.c_contiguous:
            raise NotNative("a guard looks at elements that lie apart")
        expected = np.asarray(seen).astype(array.dtype).tobytes()
        words += [*memories.operand(array.__array_interface__["data"][0]), len(expected)]
        words += np.frombuffer(expected.ljust(-(-len(expected) // 8) * 8, b"\0"), np.int64).tolist()
    return Table(np.array(words, np.int64), scratch, keep)
