"""The backward pass of a compiled function: traced with the forward one, then split off as a program of its own.

What the backward program needs of the forward one is either computed again from the inputs, where that is cheap, or kept. Under
`create_graph` the joint graph is replayed with ordinary operators (`engine.compiler.replay`), so derivatives of any order exist.
"""
from __future__ import annotations

import numpy as np

from kernels.cpu import copies

from .. import walk
from ..errors import GradError
from ..saved import FREED, FREED_TEXT, overwritten, version_of
from ..tape import Branch, Node, clock, edge_of, modes, source_of
from ..tensor import KIND_OF_NUMPY, Tensor, wrap
from .graph import Graph, Guard, Map, Put, Ref, Value, symbol
from .passes import improve, remove_dead
from .program import Executable
from .schedule import work
from .trace import Untraceable

CHEAP = 200         # work an element up to which a value is computed again instead of kept


class Joint:
    """Forward and backward as one graph, until `split` parts them.

    `needed`: which outputs require gradients; `boundary`: the tensors that gradients go to; `gradients`: where they are,
    None for none.
    """

    def __init__(self, needed, boundary, cotangents: list[Value], gradients: list[Ref | None], stops: str):
        self.stops = stops              # what keeps derivatives of the gradients from going through the joint graph
        self.needed, self.boundary, self.cotangents, self.gradients = needed, boundary, cotangents, gradients
        self.graph: Graph | None = None
        self.program: Graph | None = None
        self.kept: list[Value] = []             # forward values that the forward program hands over
        self.given: list[Value] = []            # inputs and captured tensors that the backward program reads again

    def split(self, graph: Graph) -> None:
        """Cut the joint graph in two: `graph` becomes the forward program, `self.program` the backward one."""
        results = list(graph.results)
        wanted = [g for g in self.gradients if g is not None]
        graph.results = results + wanted
        graph.inputs += self.cotangents
        improve(graph)
        del graph.inputs[len(graph.inputs) - len(self.cotangents):]
        results, gradients = graph.results[:len(results)], graph.results[len(results):]     # as the passes left them
        self.graph = Graph(list(graph.inputs), list(graph.captured), list(graph.nodes), list(graph.results), [])
        later = {id(v) for v in self.cotangents}
        for node in graph.nodes:
            if any(id(r.value) in later for r in node.reads):
                if isinstance(node, Guard):
                    raise Untraceable("it looks at a value of the backward pass")
                later.update(id(v) for v in node.values)
        before = [n for n in graph.nodes if not any(id(v) in later for v in n.values)]
        after = [n for n in graph.nodes if any(id(v) in later for v in n.values)]
        sources = {id(v): v for v in (*graph.inputs, *(v for v, _ in graph.captured))}
        spoiled = {id(old) for old, _ in graph.writes} | {id(v) for v, o in graph.captured if o is not None and o.computed}
        again, kept, given = self._choose(before, after, gradients, sources, spoiled)
        self.kept, self.given = kept, given
        reread = {id(v) for v in given}
        captured = [(v, o) for v, o in graph.captured if id(v) in reread]       # those that the forward program does not need, too
        graph.nodes, graph.results = before, results + [v.whole() for v in kept]
        remove_dead(graph)
        gradients = [_fresh(ref, after) if id(ref.value) in sources or any(ref.value is v for v in kept) else ref
                     for ref in gradients]
        program = Graph([v for v in graph.inputs if id(v) in reread] + kept + self.cotangents,
                        captured, [n for n in before if id(n) in again] + after, gradients)
        remove_dead(program)
        self.program = program

    @staticmethod
    def _choose(before, after, gradients, sources, spoiled):
        """(ids of forward nodes to run again, values to keep, inputs to read again)."""
        total: dict[int, int] = {}
        cheap: dict[int, bool] = {}
        for node in before:
            for v in node.values:
                cost = work(node.expressions[v.output]) if isinstance(node, Map) else 2
                good = isinstance(node, (Map, Put))
                for r in node.reads:
                    k = id(r.value)
                    if k in sources:
                        good &= k not in spoiled
                    else:
                        cost += total.get(k, 0)
                        good &= cheap.get(k, False) or not isinstance(r.value.node, (Map, Put))
                total[id(v)], cheap[id(v)] = cost, good and cost <= CHEAP
        again: set[int] = set()
        kept: dict[int, Value] = {}
        given: dict[int, Value] = {}

        def need(v: Value) -> None:
            k = id(v)
            if k in sources:
                (kept if k in spoiled else given)[k] = v
            elif cheap.get(k):
                if id(v.node) not in again:
                    again.add(id(v.node))
                    for r in v.node.reads:
                        need(r.value)
            else:
                kept[k] = v
        produced = {id(v) for n in after for v in n.values}
        for ref in [r for n in after for r in n.reads] + gradients:
            if id(ref.value) not in produced and (id(ref.value) in total or id(ref.value) in sources):
                need(ref.value)
        return again, list(kept.values()), list(given.values())


def _fresh(ref: Ref, nodes: list) -> Ref:
    """A copy of what a view shows, made by one more node: gradients share no memory with what is kept."""
    node = Map([ref], expressions=[symbol(0)], compute=ref.dtype)
    node.values.append(Value(ref.shape, np.empty(ref.shape, np.int8).strides, ref.dtype, node))
    nodes.append(node)
    return node.values[0].whole()


def backward_of(tracer, outputs: list[Tensor], needed: list[int], start: int, target) -> Joint | None:
    """Trace the backward pass of some outputs; `start`: the clock when the trace began. None where no known tensor gets a gradient.
    """
    boundary: list = []
    keys: dict = {}
    seen: set = set()
    roots = [edge_of(t) for t in outputs]
    stack = [r for r in roots if r is not None]
    while stack:
        edge = stack.pop()
        if isinstance(edge, Node):
            node, index = source_of(edge)
            if node.order > start:
                keys.setdefault((node, index), edge)
            elif node not in seen:
                seen.add(node)
                hooks = node.hooks
                if hooks is not None and (hooks.tensor or hooks.before or hooks.after or hooks.retain):
                    raise Untraceable("hooks hang on what it computes")
                stack += [e for e in node.edges if e is not None]
        else:
            keys.setdefault(id(edge), edge)
    existing = {}
    for t in (*tracer.arguments, *(t for _, _, t in tracer.existing)):
        if t._node is not None:
            existing.setdefault(source_of(edge_of(t)), t)
    wanted: dict = {}
    for key, edge in keys.items():
        tensor = edge if isinstance(edge, Tensor) else existing.get(key)
        if tensor is None:
            raise Untraceable("a gradient goes to a tensor that is not to be found")
        if isinstance(edge, Tensor) and not any(tensor is t for t in tracer.arguments) and not tracer.is_existing(tensor):
            continue                    # a leaf made in the function itself
        if tensor._meta is not None and tensor._meta.hooks:
            raise Untraceable("a tensor has hooks")
        wanted[key] = len(boundary)
        boundary.append(target(tensor))
    if not boundary:
        return None
    cotangents, gradients = [], []
    for t in outputs:
        array = np.empty(t._array.shape, t._kind.numpy)
        array.fill(1)
        cotangents.append(wrap(array, t._kind))
    tracer.paused -= 1
    try:
        values = [tracer.add(c._array, None) for c in cotangents]
        try:
            found = walk.walk(roots, cotangents, True, False, wanted, accumulate=False)
        except GradError as error:
            if str(error) == FREED_TEXT:        # the function has run backward itself: there is nothing left to differentiate
                return None
            raise
        for k in range(len(boundary)):
            gradients.append(tracer.read(found[k]._array) if found.get(k) is not None else None)
    finally:
        tracer.paused += 1
    return Joint(needed, boundary, values, gradients, tracer.stops)


def spent() -> CompiledBackward:
    """A node for results whose graph the function itself has used up."""
    node = CompiledBackward.__new__(CompiledBackward)
    node.edges, node.hooks, node.order, node.results = (), None, next(clock), 1
    node.kept, node.tensors, node.computed, node.version, node.program = FREED, (), (), 0, None
    return node


class CompiledBackward(Node):
    """Node of a compiled function's results; runs its backward program."""

    __slots__ = ("computed", "kept", "program", "results", "tensors", "version")

    def backward(self, g):
        if self.kept is FREED:
            raise GradError(FREED_TEXT)
        if version_of(self.tensors) != self.version:
            raise overwritten(self.tensors[0], None, version_of(self.tensors), self.version)
        cotangents = g if g.__class__ is list else [g]
        return self.program.gradients(self, cotangents)

    def release(self) -> None:
        self.kept, self.tensors, self.computed = FREED, (), ()


class Compiled:
    """The backward program of a variant."""

    def __init__(self, recorded):
        self.recorded, self.joint = recorded, recorded.backward
        self.executable = Executable(self.joint.program, "backward")
        graph = recorded.forward
        self.shapes = [(v.shape, v.strides, np.dtype(v.dtype)) for v in self.joint.cotangents]
        position = {id(v): k for k, v in enumerate(graph.inputs)}
        self.arguments = [position[id(v)] for v in self.joint.program.inputs if id(v) in position]
        self.owners = [o for v, o in self.joint.program.captured if not v.constant]
        self.first_kept = len(graph.results) - len(self.joint.kept)
        self.count = len(self.joint.kept)

    def text(self) -> str:
        return self.executable.text()

    def attach(self, made: list[Tensor], tensors: list[Tensor], found: list) -> None:
        """Give the results their node."""
        node = CompiledBackward.__new__(CompiledBackward)
        known = [t.tensor(tensors) for t in self.joint.boundary]
        node.edges, node.hooks, node.order = tuple([edge_of(t) for t in known]), None, next(clock)
        node.program, node.results = self, len(self.joint.needed)
        node.kept = found[self.first_kept:self.first_kept + self.count]
        node.tensors = [*tensors, *(t for t in (o.get() for o in self.recorded.owners) if t is not None)]
        node.version, node.computed = version_of(node.tensors), found[-1]
        for k, which in enumerate(self.joint.needed):
            t = made[which]
            t._node, t._needs = node if node.results == 1 else Branch(node, k), True

    def gradients(self, node: CompiledBackward, cotangents: list) -> list:
        """One gradient for each tensor of the boundary."""
        if modes.enabled:
            from .replay import replay_gradients
            return replay_gradients(self, node, cotangents)
        arrays = [node.tensors[k]._array for k in self.arguments] + list(node.kept)
        for g, (shape, strides, dtype) in zip(cotangents, self.shapes, strict=True):
            if g is None:
                arrays.append(np.zeros(shape, dtype))
            else:
                array = g._array
                expected = tuple(s * dtype.itemsize for s in strides)
                arrays.append(array if array.strides == expected else copies.copy(array))
        arrays += [o.array() for o in self.owners]
        found = iter(self.executable.run(*arrays))
        results = []
        for g in self.joint.gradients:
            if g is None:
                results.append(None)
            else:
                array = next(found)
                results.append(wrap(array, KIND_OF_NUMPY[array.dtype]))
        return results


