"""One recorded run of a function: what went in, what came out, what it left behind.

`record` runs the function under a tracer, finds the tensors that it used but was not given, and, where results require gradients,
runs the backward pass as well, so that it becomes part of the program.
"""
from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import tape, tree
from ..tape import modes
from ..tensor import KIND, Kind, Tensor
from . import autodiff, trace
from .graph import Graph
from .passes import improve
from .runtime import Computed, Live
from .trace import Tracer, Untraceable
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


@dataclasses.dataclass(frozen=True)
class Target:
    """A tensor that a program knows: an argument, or one found elsewhere."""

    argument: int = -1
    owner: Any = None

    def tensor(self, tensors: list[Tensor]) -> Tensor:
        return self.owner.get() if self.owner is not None else tensors[self.argument]


@dataclasses.dataclass
class Output:
    """A result: a tensor of the caller's (`target`), or the program's `array`-th array; `needs`: it requires grad."""

    target: Target | None = None
    array: int | None = None
    needs: bool = False


@dataclasses.dataclass
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
    does what a program cannot repeat; that holds the function's result, for it has run.
    """
    tracer = Tracer(strict=not derivatives)
    tracer.arguments, tracer.existing = tensors, _existing(tensors)
    for t in tensors:
        tracer.graph.inputs.append(tracer.add(t._array, None))
    before = [(t, t._version, t._node, t._needs) for t in tensors]
    start = next(tape.clock)
    with trace.recording(tracer), _Gradients(tracer) as watched:
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
    found = []
    for t in gc.get_objects():
        if issubclass(type(t), Tensor) and id(t) not in given:
            try:
                array = t._array
            except AttributeError:
                continue
            if isinstance(array, np.ndarray) and array.size:
                low, high = np.lib.array_utils.byte_bounds(array)
                found.append((low, high, t))
    return found


class _Collector:
    """After the run: what it gave back, what it left behind, whose memory it used."""

    def __init__(self, tracer: Tracer, watched: _Gradients, before: list, start: int):
        self.tracer, self.graph, self.before, self.start = tracer, tracer.graph, before, start
        self.seen, self.looked = watched.before, watched.read
        self.arguments = {id(t): k for k, t in enumerate(tracer.arguments)}
        self.known = self.arguments.keys() | {id(t) for _, _, t in tracer.existing}
        self.owners: dict[int, Owner] = {}
        self.outputs: list[Output] = []

    def collect(self, structure: Any, leaves: list, derivatives: bool) -> Recorded:
        if self.tracer.failed:
            raise Untraceable(self.tracer.failed)
        given = [(True, NUMBER) if type(leaf) is Live else (True, None) if isinstance(leaf, Tensor) else (False, leaf)
                 for leaf in leaves]
        tensors = [leaf.tensor if type(leaf) is Live else leaf
                   for leaf, (made, _) in zip(leaves, given, strict=True) if made]
        for t in tensors:
            self.output(t, derivatives)
        gradients, had_gradient = self.gradients(derivatives)
        joint = None
        needed = [k for k, o in enumerate(self.outputs[:len(tensors)]) if o.needs]
        if needed and derivatives and modes.enabled:
            joint = autodiff.backward_of(self.tracer, [tensors[k] for k in needed], needed, self.start, self.target)
        self.capture()
        written = self.writes()
        bumps = self.versions() + [(t, 1) for t in written if t.owner is not None]
        if joint is None:
            improve(self.graph)
        else:
            joint.split(self.graph)
        return Recorded(self.graph, [o for _, o in self.graph.captured if o is not None], structure, given, self.outputs, written,
                        bumps, gradients, had_gradient, joint)

    def target(self, t: Tensor) -> Target:
        """How a later run finds a tensor that was there before."""
        if id(t) in self.arguments:
            return Target(self.arguments[id(t)])
        if id(t) not in self.owners:
            self.owners[id(t)] = Owner(t)
        return Target(owner=self.owners[id(t)])

    def output(self, t: Tensor, derivatives: bool = True) -> int:
        """Note a result; returns its number."""
        if id(t) in self.known:
            self.outputs.append(Output(self.target(t)))
        else:
            if t._array.size and self.tracer.block(t._array) is None:
                raise Untraceable("it gives back a tensor that no kernel made")
            if derivatives and t.requires_grad and t._view is not None and id(t._view.base) in self.known:
                raise Untraceable("it gives back a view of a tensor that requires grad")
            self.graph.results.append(self.tracer.read(t._array))
            self.outputs.append(Output(array=len(self.graph.results) - 1, needs=t.requires_grad))
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
        tensors = [*self.tracer.arguments, *(t for _, _, t in self.tracer.existing)]
        holders = {id(t._grad): t for t in tensors if t._grad is not None}
        holders.update((id(g), t) for t, g in self.seen.values() if g is not None)
        captured: list = []
        for value, source in self.graph.captured:
            if isinstance(source, (Numbers, Computed)):
                captured.append((value, source))
            elif source is None or id(source) in constants:
                value.constant = True
                captured.append((value, None))
            else:
                holder = holders.get(id(source))
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

    def versions(self) -> list[tuple[Target, int]]:
        """How often arguments were written."""
        bumps = []
        for t, version, node, needs in self.before:
            if t._node is not node or t._needs != needs:
                raise Untraceable("it changes the history of an argument in place")
            if t._version != version:
                bumps.append((self.target(t), t._version - version))
        return bumps
