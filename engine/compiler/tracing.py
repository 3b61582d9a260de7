"""One recorded run of a function: what went in, what came out, what it left behind.

`record` runs the function under a tracer, finds the tensors that it used but was not given, and, where results require gradients,
runs the backward pass as well, so that it becomes part of the program.
"""
from __future__ import annotations

import dataclasses
import functools
import gc
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import tape, tree
from ..tape import modes
from ..tensor import KIND, Kind, Tensor, shared_counter, wrap
from . import autodiff, trace
from .deferral import Deferral
from .graph import Graph, Map, Value, symbol
from .passes import improve
from .recorders import recording
from .runtime import Computed, Live
from .trace import Block, Tracer, Untraceable
from .updates import Numbers

NUMBER = object()           # in the place of a leaf: a number that the program computes


class Owner:
    """A tensor that the function found elsewhere: `holder`, or where a gradient is given, the present `.grad` of `holder`."""

    def __init__(self, holder: Tensor, gradient: Tensor | None = None):
        self.holder, self.of_gradient = holder, gradient is not None
        found = holder if gradient is None else gradient
        self.kind: Kind = found._kind
        self.shape, self.strides, self.needs = found._array.shape, found._array.strides, found._needs

    def get(self) -> Tensor | None:
        return self.holder._grad if self.of_gradient else self.holder

    def array(self) -> np.ndarray:
        return self.get()._array

    computed = False            # a tensor holds it

    def commit(self) -> None:
        """Nothing is left to do after a run."""

    def fits(self) -> bool:
        """Whether the tensor is as it was while tracing, but for its values."""
        found = self.get()
        if found is None or found._kind is not self.kind or found._needs != self.needs:
            return False
        array = found._array
        return array.shape == self.shape and array.strides == self.strides


@dataclasses.dataclass(eq=False, repr=False)
class Look:
    """How the function looked at the memory of a tensor: by a view's `operator`, or, as `detach` does, from `offset` bytes on."""

    operator: Any = None
    options: Any = None
    output: int = -1
    recorded: bool = False          # in grad mode
    layout: tuple = ()              # (shape, strides in bytes, offset, whether writes are counted together)

    def at(self, t: Tensor) -> Tensor:
        """The same look at another tensor."""
        if self.operator is None:
            shape, strides, offset, counted = self.layout
            array = t._array
            if offset or (shape, strides) != (array.shape, array.strides):
                array = _memory(array, shape, strides, offset)
            made = wrap(array, t._kind)
            if counted:
                made._counter = shared_counter(t)
            return made
        enabled, modes.enabled = modes.enabled, self.recorded
        try:
            made = self.operator(t, **self.options)
        finally:
            modes.enabled = enabled
        return made if self.output < 0 else made[self.output]


def _memory(array: np.ndarray, shape: tuple, strides: tuple, offset: int) -> np.ndarray:
    """An array over the memory of another one, from `offset` bytes after its first element on."""
    owner = trace.root(array)
    start = array.__array_interface__["data"][0] - owner.__array_interface__["data"][0] + offset
    if owner.dtype == array.dtype and owner.flags.c_contiguous and start >= 0:
        return np.ndarray(shape, array.dtype, owner, start, strides)
    flat = np.lib.stride_tricks.as_strided(array[(0,) * array.ndim + (None,)], (1,), (array.itemsize,))
    moved = np.lib.stride_tricks.as_strided(flat, (abs(offset) // array.itemsize + 1,),
                                            (array.itemsize if offset >= 0 else -array.itemsize,))[-1:]
    return np.lib.stride_tricks.as_strided(moved, shape, strides)


@dataclasses.dataclass(eq=False, repr=False)
class Target:
    """A tensor that a program knows: an argument, or one found elsewhere."""

    argument: int = -1
    owner: Any = None

    def tensor(self, tensors: list[Tensor]) -> Tensor:
        return self.owner.get() if self.owner is not None else tensors[self.argument]


@dataclasses.dataclass(repr=False)
class Output:
    """A result: the program's `array`-th array, or what `steps` make of another tensor: of one that was there before (`target`), or
    of the result with number `source`. Without steps it is that tensor. `needs`: it requires grad and is the program's.
    """

    target: Target | None = None
    array: int | None = None
    needs: bool = False
    source: int = -1
    steps: tuple[Look, ...] = ()

    def tensor(self, made: list, tensors: list[Tensor]) -> Tensor:
        """The result, where it is none of the program's arrays."""
        t = self.target.tensor(tensors) if self.target is not None else made[self.source]
        for step in self.steps:
            t = step.at(t)
        return t


@dataclasses.dataclass(eq=False, repr=False)
class Recorded:
    """All that a trace found out."""

    forward: Graph
    owners: list[Owner]
    structure: Any
    leaves: list[tuple[bool, Any]]                      # of the result: (is made by the program, the leaf otherwise; NUMBER)
    outputs: list[Output]
    written: list[Target]
    bumps: list[tuple[Target, int]]
    gradients: list[tuple[Target, int | None]]          # (tensor, which output becomes its .grad)
    had_gradient: list[tuple[Target, bool]]             # (tensor whose .grad was looked at, whether it was None)
    later: Deferral                                     # open: nothing was computed yet, by nobody
    backward: autodiff.Joint | None = None


def active() -> bool:
    """Whether this thread is tracing."""
    return trace.innermost() is not None


class _Gradients:
    """Watches `Tensor._grad` while a trace runs: which tensors had one before, which have another one after."""

    def __init__(self, tracer: Tracer):
        self.slot = Tensor.__dict__["_grad"]
        self.before: dict[int, tuple[Tensor, Tensor | None]] = {}
        self.read: set[int] = set()             # ids of tensors whose first `.grad` was looked at
        self.tracer = tracer

    def __enter__(self):
        slot, before, tracer = self.slot, self.before, self.tracer

        def get(t):
            found = slot.__get__(t)
            if tracer.active and id(t) not in before:
                before[id(t)] = t, found
                self.read.add(id(t))
            return found

        def put(t, value):
            if tracer.active:
                try:
                    before.setdefault(id(t), (t, slot.__get__(t)))
                except AttributeError:          # a tensor that has just been made
                    before.setdefault(id(t), (t, None))
            slot.__set__(t, value)
        Tensor._grad = property(get, put, slot.__delete__)
        return self

    def __exit__(self, *raised):
        Tensor._grad = self.slot


def record(function: Callable, args, kwargs, tensors: list[Tensor], derivatives: bool = True) -> tuple[Recorded, Any]:
    """Run a function once and write it down; returns what was recorded and the function's own result.

    `derivatives=False`: no backward pass is traced, and what a program cannot repeat is refused at once. Untraceable where it
    does what a program cannot repeat; that holds the function's result, for it has run. Where `recorded.later` is still open, what
    was computed has no values yet: `settle` computes them, or a run of the program takes their place.
    """
    tracer = Tracer(strict=not derivatives)
    tracer.arguments, tracer.existing = tensors, _existing(tensors)
    for t in tensors:
        tracer.graph.inputs.append(tracer.add(t._array, None))
    tracer.before = [(t, t._array) for t in (*tensors, *(t for _, _, t in tracer.existing))]
    before = [(t, t._version, t._node, t._needs) for t in tensors]
    start = next(tape.clock)
    with recording(tracer), _Gradients(tracer) as watched:
        result = function(*args, **kwargs)
        try:
            leaves: list = []
            structure = tree.flatten(result, leaves)
            tracer.guard_lives(leaves)
            tracer.differentiates = False
            with tracer.pause():
                recorded = _Collector(tracer, watched, before, start).collect(structure, leaves, derivatives)
            if tracer.failed:
                raise Untraceable(tracer.failed)
        except Untraceable as reason:
            tracer.later.settle()
            reason.result = _settled(result, structure, leaves)
            raise
    return recorded, _settled(result, structure, leaves)


def _settled(result: Any, structure: Any, leaves: list) -> Any:
    """A result with plain numbers in the place of live ones."""
    if not any(type(leaf) is Live for leaf in leaves):
        return result
    return tree.unflatten(structure, iter([leaf.value if type(leaf) is Live else leaf for leaf in leaves]))


def _existing(tensors: list[Tensor]) -> list[tuple[int, int, Tensor]]:
    """(lowest address, end, tensor) of every tensor that is there before the trace."""
    given = {id(t) for t in tensors}
    kinds = {Tensor}
    while more := {k for kind in kinds for k in kind.__subclasses__()} - kinds:
        kinds |= more
    found = []
    objects = gc.get_objects()
    for t in itertools.compress(objects, map(kinds.__contains__, map(type, objects))):       # there are 100,000 and more
        if id(t) not in given:
            try:
                array = t._array
            except AttributeError:
                continue
            if isinstance(array, np.ndarray):
                low, high = np.lib.array_utils.byte_bounds(array) if array.size else (1, 0)         # nothing lies in no memory
                found.append((low, high, t))
    return found


def _first(t: Tensor) -> Tensor:
    """Where the chain of views that ends in a tensor begins."""
    return t if t._view is None else t._view.base


def _layout(t: Tensor, other: Tensor) -> Look:
    """How a tensor looks at the memory of another one, without history."""
    array, base = t._array, other._array
    offset = array.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    return Look(layout=(array.shape, array.strides, offset, t._counter is not None and t._counter is other._counter))


def _row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[d + 1:]) for d in range(len(shape)))


class _Collector:
    """After the run: what it gave back, what it left behind, whose memory it used."""

    def __init__(self, tracer: Tracer, watched: _Gradients, before: list, start: int):
        self.tracer, self.graph, self.before, self.start = tracer, tracer.graph, before, start
        self.seen, self.looked = watched.before, watched.read
        self.arguments = {id(t): k for k, t in enumerate(tracer.arguments)}
        self.known = self.arguments.keys() | {id(t) for _, _, t in tracer.existing}
        self.owners: dict[int, Owner] = {}
        self.outputs: list[Output] = []
        self.made: list[Tensor] = []            # the tensor of each output
        self.numbers: dict[int, int] = {}       # id of such a tensor -> its number

    def collect(self, structure: Any, leaves: list, derivatives: bool) -> Recorded:
        if self.tracer.failed:
            raise Untraceable(self.tracer.failed)
        if any(t._array is not array for t, array in self.tracer.before):
            raise Untraceable("it gives a tensor other memory")
        given = [(True, NUMBER) if type(leaf) is Live else (True, None) if isinstance(leaf, Tensor) else (False, leaf)
                 for leaf in leaves]
        tensors = [leaf.tensor if type(leaf) is Live else leaf
                   for leaf, (made, _) in zip(leaves, given, strict=True) if made]
        if derivatives:
            self.results(tensors)
        else:
            for t in tensors:
                self.output(t, False)
        count = len(self.outputs)
        gradients, had_gradient = self.gradients(derivatives)
        joint = None
        needed = [k for k, o in enumerate(self.outputs[:count]) if o.needs]
        if needed and derivatives and modes.enabled:
            joint = autodiff.backward_of(self.tracer, [self.made[k] for k in needed], needed, self.start, self.target)
        self.capture()
        written = self.writes()
        bumps = self.versions() + [(t, self.bumped(t.owner.get())) for t in written if t.owner is not None]
        if joint is None:
            improve(self.graph)
        else:
            joint.split(self.graph)
        return Recorded(self.graph, [o for _, o in self.graph.captured if o is not None], structure, given, self.outputs, written,
                        bumps, gradients, had_gradient, self.later(), joint)

    def later(self) -> Deferral:
        """The launches that have not run, and what a run in their place finds as it was."""
        later = self.tracer.later
        if later.open:
            later.existing = {id(trace.root(array)) for _, array in self.tracer.before}
            later.gradients = [(t, before) for t, before in self.seen.values() if id(t) in self.known and t._grad is not before]
        return later

    @functools.cached_property
    def holders(self) -> dict[int, Tensor]:
        """Of gradients from before, by id: the tensors whose `.grad` they are."""
        tensors = [*self.tracer.arguments, *(t for _, _, t in self.tracer.existing)]
        found = {id(t._grad): t for t in tensors if t._grad is not None}
        found.update((id(g), t) for t, g in self.seen.values() if g is not None)
        return found

    def target(self, t: Tensor) -> Target:
        """How a later run finds a tensor that was there before."""
        if id(t) in self.arguments:
            return Target(self.arguments[id(t)])
        if id(t) not in self.owners:
            holder = self.holders.get(id(t))
            self.owners[id(t)] = Owner(t) if holder is None else Owner(holder, t)
        return Target(owner=self.owners[id(t)])

    def results(self, tensors: list[Tensor]) -> None:
        """Note the results of the function; those that share memory with one another or with tensors from before go on doing so."""
        self.outputs = [Output() for _ in tensors]
        self.made = list(tensors)
        shared: dict[int, int] = {}             # id of a block -> how many tensors over it are given back
        for k, t in enumerate(tensors):
            if self.numbers.setdefault(id(t), k) == k:
                block = self.tracer.block(t._array)
                shared[id(block)] = shared.get(id(block), 0) + 1
        roots: dict[int, list[Tensor]] = {}
        for t in tensors:
            block = self.tracer.block(t._array)
            if id(t) not in self.known and block is not None and self.holder(block) is None and shared[id(block)] > 1:
                roots.setdefault(id(block), []).append(_first(t))
        for found in roots.values():            # first those whose history others need
            found.sort(key=lambda t: not t.requires_grad)
            for t in found:
                self.memory(t, self.numbers.get(id(found[0]), -1))
        for k, t in enumerate(tensors):
            if self.numbers[id(t)] != k:
                self.outputs[k] = Output(source=self.numbers[id(t)])
            elif id(t) in self.known:
                self.outputs[k] = Output(self.target(t))
            elif self.outputs[k] == Output():
                block = self.tracer.block(t._array) if t._array.size else None
                inside = id(_first(t)) in self.known or (
                    block is not None and (id(block) in roots or self.holder(block) is not None))
                self.outputs[k] = self.look(t, block) if inside else self.new(t)

    def memory(self, t: Tensor, first: int) -> None:
        """A tensor without a view that several results lie in: an array of the program, or a look at result number `first`."""
        k = self.numbers.setdefault(id(t), len(self.made))
        if k == len(self.made):
            self.made.append(t)
            self.outputs.append(Output())
        if self.outputs[k] != Output():
            return
        if first in (-1, k):
            self.outputs[k] = self.new(t)
        elif t.requires_grad:
            raise Untraceable("it gives back tensors over one memory with histories of their own")
        else:
            self.outputs[k] = Output(source=first, steps=(_layout(t, self.made[first]),))

    def look(self, t: Tensor, block: Block) -> Output:
        """A result in memory that is known, as looks at the tensor that holds it."""
        steps: list[Look] = []
        own = t
        while id(t) not in self.known and (t is own or id(t) not in self.numbers) and t._view is not None:
            view = t._view
            if view.operator is None:
                raise Untraceable("it gives back a view that a custom Function made")
            steps.append(Look(view.operator, view.options, view.output, view.recorded))
            t = view.parent
        if id(t) in self.known:
            return Output(self.target(t), steps=tuple(reversed(steps)))
        if id(t) in self.numbers and t is not own:
            return Output(source=self.numbers[id(t)], steps=tuple(reversed(steps)))
        holder = self.holder(block)
        if holder is None or t.requires_grad or t._kind is not holder._kind:
            raise Untraceable("it gives back memory of another tensor with a history of its own")
        steps.append(_layout(t, holder))
        return Output(self.target(holder), steps=tuple(reversed(steps)))

    def holder(self, block: Block) -> Tensor | None:
        """The tensor from before the trace that holds a block."""
        for v, t in zip(self.graph.inputs, self.tracer.arguments, strict=False):
            if v is block.first:
                return t
        return next((t for v, t in self.graph.captured if v is block.first and isinstance(t, Tensor)), None)

    def new(self, t: Tensor) -> Output:
        """A result that the program makes."""
        if t._array.size and self.tracer.block(t._array) is None:
            raise Untraceable("it gives back a tensor that no kernel made")
        if t.requires_grad and t._node is None:
            raise Untraceable("it gives back a leaf that requires grad")
        ref = self.tracer.read(t._array)
        if ref.value.node is None:              # a constant: memory of its own for each call
            strides = tuple(s // t._array.itemsize for s in t._array.strides)
            copied = Value(ref.shape, strides, ref.dtype)
            dense = copied.whole().fills() or not copied.size
            copied = copied if dense else Value(ref.shape, _row_major(ref.shape), ref.dtype)
            copied.node = Map([ref], [copied], [symbol(0)], ref.dtype)
            self.graph.nodes.append(copied.node)
            ref = copied.whole()
        self.graph.results.append(ref)
        return Output(array=len(self.graph.results) - 1, needs=t.requires_grad)

    def output(self, t: Tensor, derivatives: bool = True) -> int:
        """Note a result of a batched function, or a gradient; returns its number."""
        if derivatives and id(t) in self.numbers:
            return self.numbers[id(t)]
        if id(t) in self.known:
            self.outputs.append(Output(self.target(t)))
        else:
            if t._array.size and self.tracer.block(t._array) is None:
                raise Untraceable("it gives back a tensor that no kernel made")
            self.graph.results.append(self.tracer.read(t._array))
            self.outputs.append(Output(array=len(self.graph.results) - 1, needs=t.requires_grad))
        self.made.append(t)
        return len(self.outputs) - 1

    def gradients(self, derivatives: bool) -> tuple[list, list]:
        """What happened to `.grad` of tensors from before: (new ones, whether those looked at were there)."""
        made, had = [], []
        for t, before in self.seen.values():
            if id(t) not in self.known:
                continue
            if id(t) in self.looked:
                had.append((self.target(t), before is None))
            if t._grad is not before:
                made.append((self.target(t), None if t._grad is None else self.output(t._grad, derivatives)))
        return made, had

    def capture(self) -> None:
        """Settle where captured values come from: numbers of an optimizer, tensors, gradients of tensors, or constants."""
        constants = {id(t) for kind in KIND.values() for t in kind.constants.values()}
        captured: list = []
        for value, source in self.graph.captured:
            if isinstance(source, (Numbers, Computed)):
                captured.append((value, source))
            elif source is None or id(source) in constants:
                value.constant = True
                captured.append((value, None))
            else:
                holder = self.holders.get(id(source))
                captured.append((value, Owner(source) if holder is None else Owner(holder, source)))
        self.graph.captured = captured

    def writes(self) -> list[Target]:
        """Memory of arguments and captured tensors that was written, as `graph.writes`."""
        places: dict[int, Target] = {id(v): Target(k) for k, v in enumerate(self.graph.inputs)}
        places.update((id(v), Target(owner=o)) for v, o in self.graph.captured if o is not None)
        targets = []
        blocks = [b for found in self.tracer.blocks.values() for b in found if b.first.node is None]
        for block in blocks:
            if not block.written or id(block.first) not in places:
                continue
            end = block.address + block.size
            if any(b is not block and b.address < end and block.address < b.address + b.size for b in blocks):
                raise Untraceable("it writes to memory that two of its tensors share")
            self.graph.writes.append((block.first, block.value))
            targets.append(places[id(block.first)])
        return targets

    def bumped(self, t: Tensor) -> int:
        """How often a captured tensor was written."""
        return max(1, t._version - self.tracer.versions.get(id(t), t._version))

    def versions(self) -> list[tuple[Target, int]]:
        """How often arguments were written."""
        bumps = []
        for t, version, node, needs in self.before:
            if t._node is not node or t._needs != needs:
                raise Untraceable("it changes the history of an argument in place")
            if t._version != version:
                bumps.append((self.target(t), t._version - version))
        return bumps
