"""From a graph to steps: which values lie in memory, and which nodes share a kernel.

A step is a `Nest` (one fused kernel), a call of an operator, or the merge of a large fold's parts. Values that are not stored are
computed where they are read. Nodes join the latest kernel whose domain fits and whose values they read row by row.
"""
from __future__ import annotations

import dataclasses
import math

from kernels.cpu.folds import states
from kernels.symbol import Symbol

from .graph import Call, Graph, Guard, Map, Node, Put, Reduce, Ref, Value
from .nest import Affine, Nest, affine, digits, plus
from .passes import decoded

PARALLEL = 1 << 15          # elements from which a kernel is cut into chunks
CHUNK = 1 << 14             # elements of one chunk
MOST_OPERANDS = 14          # of a kernel: its loop keeps room for 16 sizes and 32 operands on the stack (kernels.cpu.pool)
TILE = 256              # neighbouring results folded side by side
NARROW = 8              # results below which they are folded one by one
HEAVY = 10                  # work from which a value is stored rather than computed twice


@dataclasses.dataclass(eq=False)
class Merge:
    """The parts of a fold over everything, one per chunk, into its result."""

    node: Reduce
    pieces: list[Value]


@dataclasses.dataclass(eq=False)
class Fused:
    """A kernel to be: nodes over one domain, some of them folded."""

    full: tuple[int, ...]                       # the domain, in the dimensions of its values
    dims: tuple[int, ...] | None = None         # folded ones
    members: list[Node] = dataclasses.field(default_factory=list)
    phase: dict[int, int] = dataclasses.field(default_factory=dict)

    @property
    def partial(self) -> bool:
        return self.dims is not None and len(self.dims) == len(self.full) and math.prod(self.full) >= PARALLEL

    def names(self) -> tuple[str, ...]:
        """The loop variable of each dimension: kept dimensions first."""
        folded = self.dims or ()
        order = [d for d in range(len(self.full)) if d not in folded] + list(folded)
        return tuple(f"i{order.index(d)}" for d in range(len(self.full)))

    def across(self) -> bool:
        """Whether the folds are over leading dimensions, so that neighbouring results are better computed side by side."""
        last = len(self.full) - 1
        if not self.dims or last in self.dims or self.full[last] < NARROW or any(
                self.phase[id(n)] and (isinstance(n, Reduce) or n.values[0].shape == self.full) for n in self.members):
            return False
        reads = [n.reads[0] for n in self.members if isinstance(n, Reduce)]
        return all(abs(r.strides[last]) <= min(abs(r.strides[d]) for d in self.dims) for r in reads)

    def rows(self) -> int:
        """How many of the loops are rows; without folds the last loop is the column."""
        if self.dims is not None:
            return len(self.full) - len(self.dims)
        return max(len(self.full) - 1, 0)

    def variables(self, shape: tuple[int, ...]) -> tuple[str, ...] | None:
        """The loop variables that index a value of a shape: all of them, or the rows'; None where it does not fit."""
        names = self.names()
        if shape == self.full:
            return names
        if self.dims is None:
            return None
        if shape == tuple(1 if d in self.dims else n for d, n in enumerate(self.full)):
            return tuple("" if d in self.dims else name for d, name in enumerate(names))
        if shape == tuple(n for d, n in enumerate(self.full) if d not in self.dims):
            return tuple(name for d, name in enumerate(names) if d not in self.dims)
        return None


class Schedule:
    """Steps of a graph, in order. `stored`: ids of the values that lie in memory."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.steps: list = []
        self.at: dict[int, int] = {}            # id of a stored or folded value -> its step
        self.uses: dict[int, list[Node]] = {}
        self.cost: dict[int, int] = {}
        for node in graph.nodes:
            for r in node.reads:
                self.uses.setdefault(id(r.value), []).append(node)
        self.stored = self._stored()
        for node in graph.nodes:
            if isinstance(node, (Map, Put)) and not any(id(v) in self.stored for v in node.values):
                continue
            self._place(node)
        for k, step in enumerate(self.steps):       # results of folds stay in registers unless another kernel reads them
            for node in step.members if isinstance(step, Fused) else ():
                self.stored.update(id(v) for v, _ in self.leaves(node, None) if self.at.get(id(v), k) != k)

    # --- what lies in memory ------------------------------------------------------------------------------------------

    def _stored(self) -> set[int]:
        stored = {id(r.value) for r in self.graph.wanted()}
        stored |= {id(v) for v in self.graph.inputs} | {id(v) for v, _ in self.graph.captured}
        for node in self.graph.nodes:
            if isinstance(node, (Call, Guard)):
                stored |= {id(r.value) for r in node.reads}
            if isinstance(node, Call):
                stored |= {id(v) for v in node.values}
            for r in node.reads:
                if decoded(r) is None:
                    stored.add(id(r.value))
            if isinstance(node, Put):
                digits(node.place)
        for node in self.graph.nodes:
            for v in node.values:
                self.cost[id(v)] = cost = self._cost(node, v, stored)
                uses = self.uses.get(id(v), ())
                if isinstance(node, (Map, Put)) and id(v) not in stored and len(uses) > 1 and cost > HEAVY and (
                        any(isinstance(n, Reduce) for n in uses) or self._shifted(v)):
                    stored.add(id(v))
        return stored

    def _cost(self, node: Node, value: Value, stored: set[int]) -> int:
        if isinstance(node, Reduce):
            return 1
        own = work(node.expressions[value.output]) if isinstance(node, Map) else 2
        return own + sum(self.cost.get(id(r.value), 1) for r in node.reads if id(r.value) not in stored)

    def _shifted(self, value: Value) -> bool:
        """Whether a value is read through different views."""
        views = {r.key() for n in self.uses.get(id(value), ()) for r in n.reads if r.value is value}
        return len(views) > 1

    # --- what shares a kernel -------------------------------------------------------------------------------------------

    def leaves(self, node: Node, index: tuple[Affine, ...] | None):
        """(stored or folded value, index at which it is read) of all that a node needs from memory or from folds."""
        found: list = []
        known: set = set()
        waiting = [(node, index)]               # nodes and values whose reads are still to be followed, the next one last

        def reads(node: Node, at) -> list:
            if isinstance(node, Put):
                return [*(located(r, at) for r in node.reads[:-1]), located(node.reads[-1], None)]
            return [located(r, at) for r in node.reads]

        def located(ref: Ref, at) -> tuple:
            start, steps = decoded(ref) or (None, None)
            if start is None or at is None:
                return ref.value, None
            inner = [affine({"": s}) for s in start]
            for i, step in zip(at, steps, strict=True):
                for d, c in enumerate(step):
                    if c:
                        inner[d] = plus(inner[d], i, c)
            return ref.value, tuple(inner)

        while waiting:
            thing, at = waiting.pop()
            if isinstance(thing, Value):
                if (id(thing), at) in known:
                    continue
                known.add((id(thing), at))
                if id(thing) in self.stored or not isinstance(thing.node, (Map, Put)):
                    found.append((thing, at))
                    continue
                thing = thing.node
            waiting.extend(reversed(reads(thing, at)))
        return found

    def _place(self, node: Node) -> None:
        needs = [self.at[id(v)] for v, _ in self.leaves(node, None) if id(v) in self.at]
        first = max(needs, default=0)
        if isinstance(node, (Map, Put, Reduce)):
            for k in range(len(self.steps) - 1, first - 1, -1):
                if isinstance(self.steps[k], Fused) and self._join(self.steps[k], node, k):
                    return self._settle(node, k)
            if isinstance(node, Reduce):
                fused = Fused(node.reads[0].shape, node.dims)
            else:
                fused = Fused(node.values[0].shape)
            self.steps.append(fused)
            fused.members.append(node)
            fused.phase[id(node)] = 0
            self._settle(node, len(self.steps) - 1)
            if fused.partial:
                self._merge(node)
            return None
        self.steps.append(node)
        return self._settle(node, len(self.steps) - 1)

    def _merge(self, node: Reduce) -> None:
        self.steps.append(Merge(node, []))
        for v in node.values:
            self.at[id(v)] = len(self.steps) - 1

    def _settle(self, node: Node, step: int) -> None:
        for v in node.values:
            self.at[id(v)] = step

    def _join(self, fused: Fused, node: Node, step: int) -> bool:
        """Put a node into a kernel if it fits."""
        if self._operands([*fused.members, node]) > MOST_OPERANDS:
            return False
        before = fused.dims
        if isinstance(node, Reduce):
            if node.reads[0].shape != fused.full or (before is not None and before != node.dims):
                return False
            fused.dims = node.dims
            if fused.partial and before is None and step != len(self.steps) - 1:
                fused.dims = before
                return False
        phase = self._phase(fused, node, step)
        if phase is None or (before is None and fused.dims is not None and not self._still(fused, step)):
            fused.dims = before
            return False
        fused.members.append(node)
        fused.phase[id(node)] = phase
        if isinstance(node, Reduce) and fused.partial:
            self._settle(node, step)
            self._merge(node)
        return True

    def _operands(self, nodes: list[Node]) -> int:
        """How many blocks of memory a kernel of these nodes reads and writes at most."""
        return len({id(v) for n in nodes for v, _ in self.leaves(n, None)} | {id(v) for n in nodes for v in n.values})

    def _still(self, fused: Fused, step: int) -> bool:
        """Whether all members fit after the kernel has got folds."""
        return all(self._phase(fused, n, step) is not None for n in fused.members)

    def _phase(self, fused: Fused, node: Node, step: int) -> int | None:
        """The phase in which a node can run; None where it does not fit the kernel."""
        if isinstance(node, Reduce):
            index, wide = fused.names(), True
        else:
            names = fused.variables(node.values[0].shape)
            if names is None:
                return None
            index, wide = names, node.values[0].shape == fused.full
        at = tuple(affine({n: 1}) if n else () for n in index)
        phase = 0
        for value, where in self.leaves(node, at):
            if self.at.get(id(value)) != step:
                continue
            maker = value.node
            if isinstance(maker, Reduce):
                own = tuple(affine({n: 1}) if n else () for n in fused.variables(value.shape) or ("?",))
                if fused.partial or where != own:
                    return None
                phase = max(phase, fused.phase[id(maker)] + wide)
            else:
                names = fused.variables(value.shape)
                if where != tuple(affine({n: 1}) if n else () for n in names):
                    return None
                over_rows = value.shape != fused.full
                phase = max(phase, fused.phase[id(maker)] + (wide and over_rows))
        return phase


    def overwrites(self, old: Value, new: Value) -> bool:
        """Whether a kernel may put `new` into the memory of `old`: nothing else reads the old value then or later."""
        if old.shape != new.shape or old.strides != new.strides or old.dtype != new.dtype or not isinstance(new.node, Map):
            return False
        if any(r.value is old for r in self.graph.wanted()) or any(r.value is new for r in self.graph.results):
            return False
        step = self.at.get(id(new))
        if step is None or not isinstance(fused := self.steps[step], Fused):
            return False
        for k, s in enumerate(self.steps):
            members = s.members if isinstance(s, Fused) else [s] if isinstance(s, Node) else []
            for node in members:
                for value, where in self.leaves(node, self._own(fused, node) if k == step else None):
                    if value is old and k >= step and (node is not new.node or where != self._own(fused, new.node)):
                        return False
        return True

    @staticmethod
    def _own(fused: Fused, node: Node) -> tuple[Affine, ...] | None:
        """The index at which a member computes its own element."""
        if isinstance(node, Reduce):
            return tuple(affine({n: 1}) for n in fused.names())
        return tuple(affine({n: 1}) if n else () for n in fused.variables(node.values[0].shape))


def work(expression) -> int:
    if not isinstance(expression, Symbol) or expression.name:
        return 0
    return expression.operator.work + sum(map(work, expression.operands))


def nest_of(schedule: Schedule, fused: Fused, number: int, pieces: dict[int, list[Value]]) -> tuple[Nest, int]:
    """The kernel of a step, and how many rows a chunk of it has. Parts of partial folds go to `pieces`."""
    names = fused.names()
    sizes = dict(zip(names, fused.full, strict=True))
    dims = tuple(sizes[f"i{k}"] for k in range(len(names)))
    nest = Nest(f"nest{number}", dims, fused.rows())
    nest.stored = set(schedule.stored)
    phases = 1 + max(fused.phase.values())
    nest.phases = [[n for n in fused.members if fused.phase[id(n)] == p] for p in range(phases)]
    total = math.prod(fused.full)
    chunk = dims[0] if dims else 1
    if dims and total >= PARALLEL and (nest.rows or fused.dims is None or fused.partial):
        chunk = max(1, min(dims[0], -(-CHUNK * dims[0] // total), ))
        chunk = max(chunk, -(-dims[0] // 64))
    if fused.across():
        if nest.rows == 1 and chunk < dims[0]:
            chunk = min(dims[0], max(128, -(-2 * CHUNK * dims[0] // total // 64) * 64))
        nest.tile = min(TILE, chunk if nest.rows == 1 else dims[nest.rows - 1])
    for node in fused.members:
        if isinstance(node, Reduce):
            nest.fold_index[id(node)] = names
            if fused.partial:
                count = -(-dims[0] // chunk)
                pieces[id(node)] = [Value((count,), (1,), d) for d in states(node.fold, node.reads[0].dtype)[1]]
        else:
            nest.variables[id(node)] = fused.variables(node.values[0].shape)
    nest.pieces = pieces
    return nest, chunk


