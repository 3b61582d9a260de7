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
from .trace import Tracer, Untraceable
from .updates import Numbers


class Owner:
    """A tensor that the function found elsewhere; `of_gradient`: it is that tensor's `.grad`."""

    def __init__(self, holder: Tensor, of_gradient: bool = False):
        self.holder, self.of_gradient = holder, of_gradient
        found = self.get()
        self.kind: Kind = found._kind
        self.shape, self.strides, self.needs = found._array.shape, found._array.strides, found._needs

    def get(self) -> Tensor | None:
        return self.holder._grad if self.of_gradient else self.holder

    def array(self) -> np.ndarray:
        return self.get()._array

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
    leaves: list[tuple[bool, Any]]                      # of the result: (is a tensor, the leaf otherwise)
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

    `derivatives=False`: no backward pass is traced. Untraceable where it does what a program cannot repeat.
    """
    tracer = Tracer()
    tracer.arguments, tracer.existing = tensors, _existing(tensors)
    graph = tracer.graph
    for t in tensors:
        value = tracer.add(t._array, None)
        graph.inputs.append(value)
    versions = {}
    for t in tensors:
        versions[id(t)] = (t, t._version, t._node, t._needs)
    start = next(tape.clock)
    with trace.recording(tracer), _Gradients(tracer) as watched:
        result = function(*args, **kwargs)
        leaves: list = []
        structure = tree.flatten(result, leaves)
        tracer.paused += 1
        try:
            recorded = _collect(tracer, graph, tensors, leaves, structure, watched.before, versions, start, derivatives, watched.read)
        finally:
            tracer.paused -= 1
    return recorded, result


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


def _collect(tracer, graph, tensors, leaves, structure, gradients, versions, start, derivatives, read) -> Recorded:
    arguments = {id(t): k for k, t in enumerate(tensors)}
    owners: list[Owner] = []
    constants = {id(t) for kind in KIND.values() for t in kind.constants.values()}
    holders = {id(t._grad): t for _, _, t in tracer.existing if t._grad is not None}
    for t in tensors:
        if t._grad is not None:
            holders[id(t._grad)] = t
    first = {id(t): g for t, g in gradients.values()}
    for t, g in gradients.values():
        if g is not None:
            holders[id(g)] = t
    by_tensor: dict[int, Owner] = {}

    def target(t: Tensor) -> Target:
        if id(t) in arguments:
            return Target(arguments[id(t)])
        owner = by_tensor.get(id(t))
        if owner is None:
            owner = by_tensor[id(t)] = Owner(t)
        return Target(owner=owner)
    known = arguments.keys() | {id(t) for _, _, t in tracer.existing}
    outputs: list[Output] = []

    def output(t: Tensor) -> int:
        if id(t) in known:
            outputs.append(Output(target(t)))
        else:
            if t._array.size and tracer.block(t._array) is None:
                raise Untraceable("it gives back a tensor that no kernel made")
            graph.results.append(tracer.read(t._array))
            outputs.append(Output(array=len(graph.results) - 1, needs=t.requires_grad))
            if derivatives and t.requires_grad and t._view is not None and id(t._view.base) in known:
                raise Untraceable("it gives back a view of a tensor that requires grad")
        return len(outputs) - 1
    result_leaves = []
    for leaf in leaves:
        result_leaves.append((isinstance(leaf, Tensor), leaf if not isinstance(leaf, Tensor) else None))
        if isinstance(leaf, Tensor):
            output(leaf)
    gave = len(outputs)
    made_gradients, had_gradient = [], []
    for t, before in gradients.values():
        if id(t) not in known:
            continue
        if id(t) in read:
            had_gradient.append((target(t), before is None))
        now = t._grad
        if now is not before:
            made_gradients.append((target(t), None if now is None else output(now)))
    joint = None
    needed = [k for k, o in enumerate(outputs[:gave]) if o.needs]
    if needed and derivatives and modes.enabled:
        tensors_out = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        joint = autodiff.backward_of(tracer, [tensors_out[k] for k in needed], needed, start, target)
    captured = []
    for value, tensor in graph.captured:
        if isinstance(tensor, Numbers):
            captured.append((value, tensor))
        elif tensor is None or id(tensor) in constants:
            value.constant = True
            captured.append((value, None))
        else:
            holder = holders.get(id(tensor))
            owner = Owner(tensor) if holder is None else _gradient_owner(holder, tensor, first)
            owners.append(owner)
            captured.append((value, owner))
    graph.captured = captured
    written, bumps = [], []
    for blocks in tracer.blocks.values():
        for block in blocks:
            if block.written and block.first.node is None and (block.first in graph.inputs or any(block.first is v for v, o in captured)):
                written.append((block, block.first))
    targets = []
    for block, value in written:
        if _overlaps(block, tracer):
            raise Untraceable("it writes to memory that two of its tensors share")
        graph.writes.append((value, block.value))
        if any(value is v for v in graph.inputs):
            targets.append(Target(next(k for k, v in enumerate(graph.inputs) if v is value)))
        else:
            owner = next(o for v, o in captured if v is value)
            if owner is None:
                graph.writes.pop()
                continue
            targets.append(Target(owner=owner))
    for t, version, node, needs in versions.values():
        if t._node is not node or t._needs != needs:
            raise Untraceable("it changes the history of an argument in place")
        if t._version != version:
            bumps.append((Target(arguments[id(t)]), t._version - version))
    for tgt in targets:
        if tgt.owner is not None:
            bumps.append((tgt, 1))
    if joint is None:
        improve(graph)
    else:
        joint.split(graph)
    return Recorded(graph, [o for _, o in graph.captured if o is not None], structure, result_leaves, outputs, targets, bumps,
                    made_gradients, had_gradient, joint)


def _gradient_owner(holder: Tensor, gradient: Tensor, first) -> Owner:
    owner = Owner.__new__(Owner)
    owner.holder, owner.of_gradient = holder, True
    owner.kind, owner.needs = gradient._kind, gradient._needs
    owner.shape, owner.strides = gradient._array.shape, gradient._array.strides
    return owner


def _overlaps(block, tracer) -> bool:
    others = [b for found in tracer.blocks.values() for b in found if b is not block and (b.first.node is None)]
    return any(b.address < block.address + block.size and block.address < b.address + b.size for b in others if b.size)


