"""Launches that a trace has put down and not run, because nobody has looked at a number yet.

A compiled program computes everything again, so what a traced run computes is for nothing unless somebody looks at it half-way.
While a trace is `open`, kernels are therefore queued, not run: their results are memory without values. `settle` runs the queue,
in order, and ends the delay for the rest of the trace; it is called wherever values may be looked at, memory may be
written past the queue, or the trace fails. Where a trace ends with its queue untouched, the program takes its place (`function`).

Who takes an array out of a tensor is asked for a reason (`watching`): modules that hand arrays to kernels only are listed below,
asking for a shape is seen in the code, and for anybody else what is waiting for this memory runs first.
"""
from __future__ import annotations

import contextlib
import ctypes
import dis
import itertools
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from types import CodeType
from typing import NamedTuple

import numpy as np

from ..tensor import Tensor

# Who may take arrays out of tensors: modules, or functions in them, that use them by kernels of the dispatch table only.
LOOKERS: dict[str, tuple[str, ...]] = {
    "engine.casts": (), "engine.forward": (), "engine.general": (), "engine.large": (), "engine.pointwise": (),
    "engine.promotion": (), "engine.saved": (), "engine.tape": (), "engine.views": (), "engine.walk": (), "engine.writes": (),
    "engine.compiler.autodiff": (), "engine.compiler.recorders": (), "engine.compiler.trace": (), "engine.compiler.tracing": (),
    "engine.compiler.updates": (), "engine.functions.indexing": ("assign", "select_of", "setitem", "slice_of"),
    "engine.functions.reduce": ("call",), "engine.functions.reshape_inplace": ("copy_",), "engine.functions.shape": (),
    "engine.tensor": ("__copy__", "data", "detach", "storage_offset", "stride"),
}
ABOUT = {"dtype", "flags", "itemsize", "nbytes", "ndim", "shape", "size", "strides", "__class__"}     # of an array, not its values


class Launch(NamedTuple):
    """`run(reads, writes)` computes arrays from arrays."""

    run: Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], object]
    reads: tuple[np.ndarray, ...]
    writes: tuple[np.ndarray, ...]


def root(array: np.ndarray) -> np.ndarray:
    """The array at the end of a chain of views. NumPy's `as_strided` puts an object of its own between two of them."""
    while True:
        base = array.base
        if not isinstance(base, np.ndarray):
            base = getattr(base, "base", None)
            if not isinstance(base, np.ndarray):
                return array
        array = base


class Deferral:
    """The queue of one trace. `open`: launches are queued; `running`: they are run just now."""

    def __init__(self, open: bool):
        self.open, self.running, self.thread = open, False, threading.get_ident()
        self.launches: list[Launch] = []
        self.touched: dict[int, np.ndarray] = {}        # memory that launches read or write, by id
        self.exposed: dict[int, np.ndarray] = {}        # memory that users may hold
        self.existing: set[int] = set()                 # ids of memory from before the trace
        self.gradients: list[tuple[Tensor, Tensor | None]] = []     # what `.grad` was before the trace

    @property
    def waits(self) -> bool:
        """Whether a launch of this thread is to be queued."""
        return self.open and not self.running and threading.get_ident() == self.thread

    def put(self, run: Callable, reads: Sequence[np.ndarray], writes: Sequence[np.ndarray]) -> None:
        """Queue a launch; run it at once where queueing has ended or somebody holds what it writes."""
        if any(id(root(a)) in self.exposed for a in writes):
            self.settle()
        if not self.waits:
            with self.at_once():
                run(reads, writes)
            return
        self.launches.append(Launch(run, tuple(reads), tuple(writes)))
        for a in (*reads, *writes):
            owner = root(a)
            self.touched[id(owner)] = owner

    def need(self, array: np.ndarray) -> None:
        """Somebody looks at the values of an array."""
        if self.open and id(root(array)) in self.touched:
            self.settle()

    def expose(self, array: np.ndarray) -> None:
        """A user gets an array, to do with it what they like."""
        self.need(array)
        self.exposed[id(root(array))] = root(array)

    def settle(self) -> None:
        """Run what is queued; from now on everything runs at once. What an exception has kept from running runs next time."""
        self.open = False
        self.touched, self.exposed, self.gradients = {}, {}, []
        done = 0
        try:
            with self.at_once():
                for launch in self.launches:
                    launch.run(launch.reads, launch.writes)
                    done += 1
        finally:
            self.launches = self.launches[done:]

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """While it lasts, kernels run, and nothing is written down."""
        before, self.running = self.running, True
        try:
            yield
        finally:
            self.running = before

    def drop(self) -> None:
        """Another computation takes the queue's place. Values that somebody holds all the same are computed, aside."""
        self.open = False
        if self._escaped():
            with self.at_once():
                for launch in self._aside():
                    launch.run(launch.reads, launch.writes)
        self.launches, self.existing, self.gradients = [], set(), []

    def _escaped(self) -> bool:
        """Whether anybody but the queue refers to memory that it would fill, beside tensors from before."""
        held: dict[int, object] = {}
        counts: Counter[int] = Counter()
        mine = {id(root(a)) for launch in self.launches for a in launch.writes} - self.existing
        for launch in self.launches:
            for a in (*launch.reads, *launch.writes):
                counts[id(a)] += 1
                while isinstance(a, np.ndarray) and id(a) not in held:
                    held[id(a)] = a
                    a = _viewed(a)
        self.touched, self.exposed = {}, {}
        for a in held.values():
            counts[id(_viewed(a))] += 1
        a = launch = None
        probe = np.empty(0)
        held[0] = probe
        del probe
        alone = _references(held, 0)
        return any(_references(held, key) - alone > counts[key] for key in held if key and id(root(held[key])) in mine)

    def _aside(self) -> list[Launch]:
        """The queue on copies of the memory from before that it writes."""
        copies: dict[int, tuple[int, np.ndarray]] = {}
        for a in [a for launch in self.launches for a in launch.writes]:
            owner = root(a)
            if id(owner) in self.existing and id(owner) not in copies:
                low, high = np.lib.array_utils.byte_bounds(owner)
                copies[id(owner)] = low, np.frombuffer((ctypes.c_char * (high - low)).from_address(low), np.uint8).copy()

        def twin(a: np.ndarray) -> np.ndarray:
            if id(root(a)) not in copies:
                return a
            low, memory = copies[id(root(a))]
            return np.ndarray(a.shape, a.dtype, memory, a.__array_interface__["data"][0] - low, a.strides)
        return [Launch(launch.run, tuple(map(twin, launch.reads)), tuple(map(twin, launch.writes))) for launch in self.launches]


def _viewed(array: np.ndarray) -> object:
    """What an array is a view of, another array or not."""
    return array.base if isinstance(array.base, np.ndarray) else getattr(array.base, "base", None)


def _references(held: dict[int, object], key: int) -> int:
    return sys.getrefcount(held[key])


# --- who looks --------------------------------------------------------------------------------------------------------

_answers: dict[tuple[int, int], tuple[bool, CodeType]] = {}        # code is kept by its id: its own hash reads all of it


def _asks_about(code: CodeType, at: int) -> bool:
    """Whether the instruction after the one at `at`, which loads an array, takes its shape or the like and nothing else."""
    known = _answers.get((id(code), at))
    if known is not None:
        return known[0]
    following = itertools.dropwhile(lambda step: step.offset <= at, dis.get_instructions(code))
    step = next((step for step in following if step.opname != "EXTENDED_ARG"), None)
    found = step is not None and step.opname == "LOAD_ATTR" and step.argval in ABOUT
    _answers[id(code), at] = found, code
    return found


@contextlib.contextmanager
def watching(later: Deferral) -> Iterator[None]:
    """While it lasts, who takes the array of a tensor is looked at."""
    slot = Tensor.__dict__["_array"]
    plain, put = slot.__get__, slot.__set__

    def get(t: Tensor) -> np.ndarray:
        array = plain(t)
        if later.waits:
            frame = sys._getframe(1)
            module = frame.f_globals.get("__name__", "")
            functions = LOOKERS.get(module)
            if functions == () or (functions and frame.f_code.co_name in functions) or not isinstance(array, np.ndarray):
                return array
            if not _asks_about(frame.f_code, frame.f_lasti):
                (later.need if module.startswith("engine.") else later.expose)(array)
        return array
    Tensor._array = property(get, put, slot.__delete__)
    try:
        yield
    finally:
        Tensor._array = slot
