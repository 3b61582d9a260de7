"""Calls of users' kernels in one pass over the operands: all results of a function, and where that pays their derivatives.

A function with loops, or with several calls like those of exp, runs once for its value and its partial derivatives when the call
is recorded; the derivatives are kept, and the way back only multiplies. Other functions run once more on the way back, which takes
less time than writing and reading what would be kept (`kernels.written.MUCH`). Called by `engine.written.elementwise`; the records
are in `kernels.written`.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from kernels import table as kernel_table
from kernels.book import BOOK
from kernels.written import Written

from .. import dtypes
from ..large import LARGE, run_large
from ..pointwise import Loops, Plan, PointwiseCaller, PointwiseNode, sum_to_shape
from ..promotion import broadcast_error
from ..saved import FREED, changed, version_of
from ..tape import clock, edge_of, modes
from ..tensor import KIND, Kind, Tensor, wrap

new = object.__new__


class Whole(dict):
    """(kind, mask) -> (kernel, kinds of its results) of records of the same inputs, with derivatives by the inputs of `mask`.

    An empty mask stands for none. None where each record runs by itself: a kernel of a user's own, or nothing to gain.
    """

    def __init__(self, name: str, operators: Sequence[Written]):
        super().__init__()
        self.name, self.operators = name, tuple(operators)
        self.callers: list[PointwiseCaller] = []
        self.plans: dict[tuple[Kind, tuple[bool, ...]], list[Plan | None]] = {}

    @functools.cached_property
    def heavy(self) -> bool:
        """Whether derivatives come with the values."""
        return any(op.heavy for op in self.operators)

    def __missing__(self, key: tuple[Kind, tuple[bool, ...]]):
        kind, mask = key
        name, found = kind.dtype.name, None
        plain = kind.device.type == "cpu" and all(
            name in op.dtypes and kernel_table.kernel(op.name, "cpu").custom is None for op in self.operators)
        if plain and (any(mask) or len(self.operators) > 1):
            ufunc = kernel_table.whole_ufunc(self.name, self.operators, name, mask)
            slopes = sum(op.partials is not None for op in self.operators) * sum(mask)
            kinds = [KIND[dtypes.by_name(op.result(name))] for op in self.operators] + [kind] * slopes
            found = ufunc, kinds
        self[key] = found
        return found

    def run(self, tensors: Sequence[Tensor], kind: Kind) -> list[Tensor] | None:
        """The results of all records on operands of the right kinds, recorded; None where each runs by itself."""
        for caller in self.callers:
            if caller.loops.__class__ is not Loops:
                return None                         # a trace writes down what each of them does
        edges = tuple([edge_of(t) for t in tensors]) if modes.enabled else ()
        needs = tuple([e is not None for e in edges])
        recorded = True in needs
        heavy = recorded and self.heavy and kind.dtype.name != "float16"        # half precision cannot hold the derivatives
        entry = self[kind, needs if heavy else ()]
        if entry is None:
            return None
        ufunc, kinds = entry
        arrays = [t._array for t in tensors]
        try:
            if max([a.size for a in arrays]) < LARGE:
                made = ufunc(*arrays, out=...)
            else:
                made = run_large(ufunc, arrays, *[k.numpy for k in kinds])
        except ValueError as error:
            raise broadcast_error(self.name, tensors) from error
        made = [wrap(a, k) for a, k in zip(made, kinds, strict=True)]
        if recorded:
            self.record(made, tensors, edges, kind, needs)
        return made[:len(self.operators)]

    def record(self, made: list[Tensor], tensors: Sequence[Tensor], edges: tuple, kind: Kind, needs: tuple[bool, ...]) -> None:
        """Give the results their nodes, which keep the inputs and the derivatives that `made` has behind the results."""
        plans = self.plans.get((kind, needs))
        if plans is None:
            plans = self.plans[kind, needs] = [
                None if c.op.partials is None else c.plan(kind, needs) for c in self.callers]
        shapes, version = tuple([t._array.shape for t in tensors]), version_of(tensors)
        first = len(plans)
        each = sum(needs) if len(made) > first else 0
        for caller, result, plan in zip(self.callers, made, plans, strict=False):
            if plan is not None:
                node = new(caller.node)
                node.edges, node.kind, node.plan, node.hooks, node.order = edges, kind, plan, None, next(clock)
                node.shapes, node.saved, node.version = shapes, (*tensors, None, *made[first:first + each]), version
                first += each
                result._node, result._needs = node, True


def quick(whole: Whole, run: Callable, general: Callable) -> Callable:
    """The shortest way for tensors of one kind and known numbers; what else is given goes the `general` way."""
    caller, count = whole.callers[0], len(whole.operators[0].inputs)
    loops = caller.loops

    def call(*operands):
        kind = getattr(operands[0], "_kind", None)
        if kind is None or len(operands) != count or kind.dtype.category < 2:
            return general(*operands)
        tensors, arrays, short = [], [], loops.__class__ is Loops
        for o in operands:
            if getattr(o, "_kind", None) is not kind:
                o = kind.constants.get((o.__class__, o)) if o.__class__ is float or o.__class__ is int else None
                if o is None:
                    return general(*operands)
            a = o._array
            tensors.append(o)
            arrays.append(a)
            if o._needs or o._view is not None or a.size >= LARGE:
                short = False
        entry = whole.get((kind, ())) if short else None
        if entry is None:
            return run(tensors, kind)
        try:
            made = entry[0](*arrays, out=...)
        except ValueError as error:
            raise broadcast_error(whole.name, tensors) from error
        return tuple(map(wrap, made, entry[1]))
    return general if caller.varies else call


class WrittenNode(PointwiseNode):
    """Node of a user's kernel; the partial derivatives that the call has given are behind the other saved values."""

    __slots__ = ()

    def backward(self, g: Tensor):
        saved = self.saved
        slopes = () if saved is FREED else saved[len(self.shapes) + 1:]
        if modes.enabled or not slopes:
            return super().backward(g)
        if version_of(saved) != self.version:
            raise changed(self, saved, self.version)
        found: list[Tensor | None] = [None] * len(self.shapes)
        for k, slope in zip(self.plan.places, slopes, strict=True):
            made = BOOK["mul"](g, BOOK["conj"](slope) if self.kind.dtype.is_complex else slope)
            found[k] = made if made._array.shape == self.shapes[k] else sum_to_shape(made, self.shapes[k])
        return found


class WrittenCaller(PointwiseCaller):
    """Runs one record of a user's; one that is heavy gives its derivatives with its value."""

    def __init__(self, op: Written):
        super().__init__(op)
        self.node = type(op.node_name, (WrittenNode,), {"__slots__": (), "caller": self, "__module__": "engine.autograd"})
        self.whole = Whole(op.name, (op,))
        self.whole.callers.append(self)

    def compute_kind(self, operands) -> Kind:
        """The kind that operands are promoted to; the default one where all are integers by declaration."""
        return super().compute_kind(operands) if "T" in self.op.operands else KIND[dtypes.DEFAULT.dtype]

    def run(self, tensors: Sequence[Tensor], kind: Kind) -> Tensor:
        """Operands of the right kinds -> result, recorded if need be."""
        found = self.whole.run(tensors, kind) if self.whole.heavy else None
        return super().run(tensors, kind) if found is None else found[0]


class SeveralCaller:
    """Runs the records of a function of several results at once."""

    def __init__(self, name: str, operators: Sequence[Written]):
        self.callers: list[PointwiseCaller] = [op.apply for op in operators]
        self.whole = Whole(name, operators)
        self.whole.callers = self.callers

    def __call__(self, *operands: Tensor | complex) -> tuple[Tensor, ...]:
        """Promote, run, record."""
        return self.run(*self.callers[0].promoted(operands))

    def run(self, tensors: Sequence[Tensor], kind: Kind) -> tuple[Tensor, ...]:
        """Operands of the right kinds -> results, recorded if need be."""
        found = self.whole.run(tensors, kind)
        return tuple([PointwiseCaller.run(caller, tensors, kind) for caller in self.callers] if found is None else found)
