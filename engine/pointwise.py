"""Pointwise operators on tensors: the hot path. A call is a few attribute reads, one ufunc call and one object.

`PointwiseCaller` makes the closures that become functions and methods; `PointwiseNode` is what they record, and a `Plan` says
what a node reads to compute the gradients of one set of inputs with a single kernel.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from kernels import table as kernel_table
from kernels.book import BOOK, Pointwise
from kernels.cpu.maps import gradient_plan
from kernels.symbol import Symbol

from . import dtypes
from .devices import CPU
from .errors import GradError
from .large import LARGE, run_large
from .promotion import NUMBERS, broadcast_error, common_device, constant, device_kinds, item_of, of_kind, operand
from .saved import FREED, FREED_TEXT, alias, changed, version_of
from .tape import Node, clock, edge_of, modes, refresh
from .tensor import Kind, Tensor, wrap
from .writes import into, straight

new = object.__new__


class Loops(dict):
    """kind -> (ufunc, kind of the result) of one operator; a missing entry is loaded or compiled."""

    def __init__(self, operator: Pointwise):
        super().__init__()
        self.operator = operator

    def __missing__(self, kind: Kind):
        op, name = self.operator, kind.dtype.name
        if name not in op.dtypes:
            raise NotImplementedError(op.refusals.get(name) or f'"{op.name}" not implemented for \'{kind.dtype.scalar}\'')
        entry = kernel_table.kernel(op.name, kind.device.type)
        if entry.custom is not None:
            ufunc = _as_ufunc(entry.custom, len(op.inputs), np.dtype(op.result(name)), kind)
        elif kind.device.type == "cpu":
            ufunc = kernel_table.forward_ufunc(op, name)
        else:
            from . import device_arrays
            ufunc = device_arrays.forward_loop(op, name)
        result = op.result(name)
        found = self[kind] = (ufunc, kind.kin[dtypes.by_name(result)])
        return found


def _as_ufunc(custom: Callable, count: int, result: np.dtype, kind: Kind) -> Callable:
    """A user's kernel under the calling convention of a ufunc of `count` inputs."""
    if kind.device is not CPU:
        from . import device_arrays
        return device_arrays.custom_loop(custom, count, result, kind.device)

    def call(*arrays, out=None):
        given = arrays[count] if len(arrays) > count else out
        value = np.asarray(custom(*arrays[:count]), result)
        if isinstance(given, np.ndarray):
            given[...] = value
            return given
        return value
    return call


class Plan:
    """How a pointwise node computes the gradients of one set of inputs: what it reads, which outputs it makes."""

    def __init__(self, op: Pointwise, is_complex: bool, mask: tuple[bool, ...]):
        self.op, self.mask = op, mask
        self.expressions, names = gradient_plan(op, is_complex, mask)
        gradients = op.gradients(is_complex)
        self.given = tuple(m and e is not None for m, e in zip(mask, gradients, strict=True))
        order = {n: k for k, n in enumerate((*op.inputs, "out"))}
        self.reads = tuple(order.get(n, -1) for n in names)        # -1 is the cotangent
        self.passes_all = all(isinstance(e, Symbol) and e.name == "g" for e in self.expressions)
        self.count = len(self.expressions)
        self.places = tuple(k for k, given in enumerate(self.given) if given)      # which input each expression is for
        self.full = len(self.places) == len(self.given)
        self.entries: dict = {}                                     # kind -> (ufunc, kinds of its results)
        used = set(names)
        self.keeps = tuple(n in used for n in op.inputs)
        self.keeps_out = "out" in used
        self.keeps_any = any(self.keeps) or self.keeps_out


def evaluate(expression, values: dict):
    """Run a symbolic expression on tensors, recording as usual (create_graph)."""
    if not isinstance(expression, Symbol):
        return expression
    if expression.name:
        return values[expression.name]
    return expression.operator(*(evaluate(o, values) for o in expression.operands))


class PointwiseNode(Node):
    """Node of a pointwise operator; `saved` holds its inputs and its result, None where no partial mentions them."""

    __slots__ = ("kind", "plan", "saved", "shapes", "version")
    caller: PointwiseCaller

    def backward(self, g: Tensor):
        saved, plan, shapes = self.saved, self.plan, self.shapes
        if plan.keeps_any:
            if saved is FREED:
                raise GradError(FREED_TEXT)
            version = shift = 0
            for t in saved:
                if t is not None:
                    counter = t._counter
                    if counter is not None and counter[0]:
                        version += counter[0] << shift
                shift += 40
            if version != self.version:
                raise changed(self, saved, self.version)
        array = g._array
        if modes.enabled:
            results = self._on_tensors(g)
        elif plan.passes_all:
            results = [g] * plan.count
        else:
            entry = plan.entries.get(self.kind)
            if entry is None:
                entry = plan.entries[self.kind] = self.caller.gradients[self.kind, plan]
            ufunc, kinds = entry
            arrays = [array if k < 0 else saved[k]._array for k in plan.reads]
            outs = ufunc(*arrays, out=...) if array.size < LARGE else run_large(ufunc, arrays, *[k.numpy for k in kinds])
            if plan.count == 1:
                r = new(Tensor)
                r._array, r._kind = outs, kinds[0]
                r._node = r._counter = r._view = r._grad = r._meta = None
                r._needs = False
                results = [r]
            else:
                results = [wrap(a, k) for a, k in zip(outs, kinds, strict=True)]
        for n, k in enumerate(plan.places):
            r = results[n]
            if r._array.shape != shapes[k]:
                results[n] = sum_to_shape(r, shapes[k])
        if plan.full:
            return results
        spread = [None] * len(shapes)
        for n, k in enumerate(plan.places):
            spread[k] = results[n]
        return spread

    def _on_tensors(self, g: Tensor) -> list:
        op, plan = self.plan.op, self.plan
        values = {"g": g}
        values.update(zip(op.inputs, self.saved, strict=False))
        if plan.keeps_out:
            out = alias(self.saved[-1])
            out._node, out._needs = self, True
            values["out"] = out
        return [evaluate(e, values) for e in plan.expressions]

    def release(self) -> None:
        if self.plan.keeps_any:
            self.saved = FREED

    def keeps_result(self, k: int) -> bool:
        """Whether the k-th saved value is the result."""
        return k == len(self.shapes)


def sum_to_shape(g: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Undo broadcasting: sum a gradient over the dimensions that were expanded."""
    have = g._array.shape
    if have == shape:
        return g
    if len(have) < len(shape) or any(n != m and n == 1 for n, m in zip(have[len(have) - len(shape):], shape, strict=True)):
        return BOOK["expand"](g, shape=shape)           # a gradient that does not depend on the larger operand's elements
    lead = len(have) - len(shape)
    dims = (*range(lead), *(lead + d for d, n in enumerate(shape) if n == 1 and have[lead + d] != 1))
    summed = BOOK["sum"](g, dims=dims, keepdim=True)
    return BOOK["view"](summed, shape=shape) if lead else summed


class Gradients(dict):
    """(kind, plan) -> (ufunc, kinds of its results)."""

    def __init__(self, operator: Pointwise):
        super().__init__()
        self.operator = operator

    def __missing__(self, key):
        kind, plan = key
        op, name = self.operator, kind.dtype.name
        if kind.device is CPU:
            ufunc = kernel_table.gradient_ufunc(op, name, plan.mask)
        else:
            from . import device_arrays
            ufunc = device_arrays.gradient_loop(op, name, plan.mask)
        types = [t for t, given in zip(op.operand_types(name), plan.given, strict=True) if given]
        found = self[key] = (ufunc, [kind.kin[dtypes.by_name(t)] for t in types])
        return found


class PointwiseCaller:
    """Runs one pointwise operator on tensors. `call` is the general entry; `unary` and `binary` are the hot ones."""

    def __init__(self, op: Pointwise):
        self.op = op
        self.loops, self.gradients = Loops(op), Gradients(op)
        self.node = type(op.node_name, (PointwiseNode,), {"__slots__": (), "caller": self, "__module__": "engine.autograd"})
        self.plans: dict = {}
        self.varies = op.operands != ("T",) * len(op.inputs)

    def named(self, node_name: str) -> PointwiseCaller:
        """A caller of the same kernels whose nodes have another name (PyTorch's RsubBackward1, ClampBackward0, ...)."""
        twin = PointwiseCaller(self.op)
        twin.loops, twin.gradients, twin.plans = self.loops, self.gradients, self.plans
        twin.node = type(node_name, (PointwiseNode,), {"__slots__": (), "caller": twin, "__module__": "engine.autograd"})
        return twin

    def plan(self, kind: Kind, mask: tuple[bool, ...]) -> Plan:
        key = (kind.dtype.is_complex, mask)
        found = self.plans.get(key)
        if found is None:
            found = self.plans[key] = Plan(self.op, *key)
        return found

    def compute_kind(self, operands) -> Kind:
        """The kind that operands are promoted to."""
        op = self.op
        typed = [o for o, t in zip(operands, op.operands, strict=True) if t == "T"] if self.varies else operands
        dtype = dtypes.result_type_of([item_of(o) for o in typed])
        if op.floating and dtype.category < 2:
            dtype = dtypes.DEFAULT.dtype
        return device_kinds(operands)[dtype]

    def prepare(self, operands, kind: Kind) -> list[Tensor]:
        """Operands as tensors of the kinds that the loop takes; casts are recorded."""
        common_device(self.op.name, operands)
        return [of_kind(o, kind if t == "T" else kind.kin[dtypes.by_name(t)])
                for o, t in zip(operands, self.op.operands, strict=True)]

    def __call__(self, *operands, out: Tensor | None = None) -> Tensor:
        """Promote, run, record."""
        tensors, kind = self.promoted(operands)
        if out is not None and straight(self, tensors, kind, out):
            return out
        result = self.run(tensors, kind)
        return result if out is None else into(out, result)

    def promoted(self, operands) -> tuple[list[Tensor], Kind]:
        """Operands as tensors of the kinds that the loop takes, and the kind that is computed in."""
        if len(operands) != len(self.op.inputs):
            raise TypeError(f"{self.op.name}() takes {len(self.op.inputs)} operands, got {len(operands)}")
        for o in operands:
            if not isinstance(o, (Tensor, *NUMBERS)):
                names = self.op.arguments or ("input", "other", *self.op.inputs[2:])
                operands = tuple(operand(self.op.name, o, names[k], k + 1) for k, o in enumerate(operands))
                break
        if self.op.check is not None:
            self.op.check(operands)
        kind = self.compute_kind(operands)
        return self.prepare(operands, kind), kind

    def run(self, tensors: Sequence[Tensor], kind: Kind) -> Tensor:
        """Operands of the right kinds -> result, recorded if need be."""
        arrays = [t._array for t in tensors]
        ufunc, out_kind = self.loops[kind]
        try:
            array = run_large(ufunc, arrays, out_kind.numpy) if max(a.size for a in arrays) >= LARGE else ufunc(*arrays, out=...)
        except ValueError as error:
            raise broadcast_error(self.op.name, tensors) from error
        result = wrap(array, out_kind)
        edges = [edge_of(t) for t in tensors]
        if modes.enabled and out_kind.dtype.category >= 2 and any(e is not None for e in edges) and self.op.differentiable:
            self.record(result, tensors, edges, kind)
        return result

    def record(self, result: Tensor, tensors, edges, kind: Kind) -> None:
        node = new(self.node)
        plan = self.plan(kind, tuple(e is not None for e in edges))
        node.edges, node.kind, node.plan, node.hooks, node.order = tuple(edges), kind, plan, None, next(clock)
        node.shapes = tuple(t._array.shape for t in tensors)
        if plan.keeps_any:
            saved = [t if k else None for t, k in zip(tensors, plan.keeps, strict=True)]
            saved.append(alias(result) if plan.keeps_out else None)
            node.saved, node.version = tuple(saved), version_of(saved)
        else:
            node.saved, node.version = (), 0
        result._node, result._needs = node, True

    def _or_not_implemented(self, x, y):
        known = (Tensor, *NUMBERS, np.generic, np.ndarray)
        return self(x, y) if isinstance(y, known) and isinstance(x, known) else NotImplemented

    def unary(self) -> Callable[[Tensor], Tensor]:
        """The hot path of an operator of one input."""
        loops, general, floating, plan_of, node_class = self.loops, self.__call__, self.op.floating, self.plan, self.node
        plans: dict = {}
        differentiable = self.op.differentiable

        def call(input: Tensor) -> Tensor:
            x = input
            try:
                kind = x._kind
                a = x._array
            except AttributeError:
                return general(x)
            if floating and kind.dtype.category < 2:
                return general(x)
            ufunc, out_kind = loops[kind]
            r = new(Tensor)
            r._array = ufunc(a, out=...) if a.size < LARGE else run_large(ufunc, (a,), out_kind.numpy)
            r._kind = out_kind
            r._node = r._counter = r._view = r._grad = r._meta = None
            r._needs = False
            if x._view is not None:
                refresh(x)
            if x._needs and differentiable and modes.enabled and out_kind.dtype.category >= 2:
                node = new(node_class)
                plan = plans.get(kind)
                if plan is None:
                    plan = plans[kind] = plan_of(kind, (True,))
                node.edges, node.kind, node.plan, node.hooks = (x if x._node is None else x._node,), kind, plan, None
                node.order, node.shapes = next(clock), (a.shape,)
                if plan.keeps_any:
                    kept = x if plan.keeps[0] else None
                    node.saved = (kept, alias(r) if plan.keeps_out else None)
                    node.version = 0 if kept is None or x._counter is None else x._counter[0]
                else:
                    node.saved, node.version = (), 0
                r._node, r._needs = node, True
            return r
        return call

    def binary(self, operator: bool = False, node_name: str = "") -> Callable[[Tensor, Tensor], Tensor]:
        """The hot path of an operator of two inputs; as a Python `operator` it leaves unknown types to the other side."""
        loops, general, plan_of, node_class = self.loops, self.__call__, self.plan, self.node
        if operator:
            general = self._or_not_implemented
        if node_name:
            node_class = type(node_name, (PointwiseNode,), {"__slots__": (), "caller": self, "__module__": "engine.autograd"})
        op = self.op
        plans: dict = {}
        floating = op.floating
        differentiable = op.differentiable

        def call(input: Tensor, other) -> Tensor:
            x, y = input, other
            cls = y.__class__
            try:
                kind = x._kind
                if cls is float or cls is int:
                    category = kind.dtype.category
                    if category < 2 and (cls is float or not category):     # the number's category is the higher one
                        return general(x, y)
                    number = kind.constants.get((cls, y))
                    y = constant(y, kind) if number is None else number
                if y._kind is not kind or (floating and kind.dtype.category < 2):
                    return general(x, y)
                a, b = x._array, y._array
            except AttributeError:
                return general(x, y)
            ufunc, out_kind = loops[kind]
            r = new(Tensor)
            try:
                if a.size < LARGE > b.size:
                    r._array = ufunc(a, b, out=...)
                else:
                    r._array = run_large(ufunc, (a, b), out_kind.numpy)
            except ValueError as error:
                raise broadcast_error(op.name, (x, y)) from error
            r._kind = out_kind
            r._node = r._counter = r._view = r._grad = r._meta = None
            r._needs = False
            if x._view is not None:
                refresh(x)
            if y._view is not None:
                refresh(y)
            if (x._needs or y._needs) and modes.enabled and differentiable:
                node = new(node_class)
                nx, ny = x._needs, y._needs
                plan = plans.get((kind, nx, ny))
                if plan is None:
                    plan = plans[kind, nx, ny] = plan_of(kind, (nx, ny))
                node.edges = ((x._node or x) if nx else None, (y._node or y) if ny else None)
                node.kind, node.plan, node.hooks, node.order = kind, plan, None, next(clock)
                node.shapes = (a.shape, b.shape)
                if plan.keeps_any:
                    kx, ky = plan.keeps
                    ko = None
                    version = 0
                    if kx:
                        if x._counter is not None:
                            version = x._counter[0]
                        kx = x
                    else:
                        kx = None
                    if ky:
                        if y._counter is not None:
                            version += y._counter[0] << 40
                        ky = y
                    else:
                        ky = None
                    if plan.keeps_out:
                        ko = alias(r)
                    node.saved, node.version = (kx, ky, ko), version
                else:
                    node.saved, node.version = (), 0
                r._node, r._needs = node, True
            return r
        return call


    def several(self) -> Callable[..., Tensor]:
        """The hot path of an operator of three inputs (where, clamp, lerp); for others the general entry."""
        op, general, loops, record, floating = self.op, self.__call__, self.loops, self.record, self.op.floating
        if len(op.inputs) != 3 or any(t != "T" for t in op.operands[1:]):
            return lambda *operands: general(*operands)
        mask = None if op.operands[0] == "T" else dtypes.by_name(op.operands[0])
        differentiable = op.differentiable

        def call(x, y, z) -> Tensor:
            try:
                kind = x._kind if mask is None else y._kind
                cls = y.__class__
                if cls is float or cls is int:
                    if kind.dtype.category < 2:
                        return general(x, y, z)
                    number = kind.constants.get((cls, y))
                    y = constant(y, kind) if number is None else number
                cls = z.__class__
                if cls is float or cls is int:
                    if kind.dtype.category < 2:
                        return general(x, y, z)
                    number = kind.constants.get((cls, z))
                    z = constant(z, kind) if number is None else number
                if y._kind is not kind or z._kind is not kind or x._kind is not (kind if mask is None else kind.kin[mask]) or (
                        floating and kind.dtype.category < 2):
                    return general(x, y, z)
                a, b, c = x._array, y._array, z._array
            except AttributeError:
                return general(x, y, z)
            ufunc, out_kind = loops[kind]
            try:
                if a.size < LARGE > b.size and c.size < LARGE:
                    array = ufunc(a, b, c, out=...)
                else:
                    array = run_large(ufunc, (a, b, c), out_kind.numpy)
            except ValueError as error:
                raise broadcast_error(op.name, (x, y, z)) from error
            r = wrap(array, out_kind)
            for t in (x, y, z):
                if t._view is not None:
                    refresh(t)
            if (x._needs or y._needs or z._needs) and differentiable and modes.enabled and out_kind.dtype.category >= 2:
                record(r, (x, y, z), [edge_of(t) for t in (x, y, z)], kind)
            return r
        return call
