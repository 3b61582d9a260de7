"""From a call on tensors to a kernel of the table, and the node that records it.

Every record of the book gets a caller here: `Pointwise` ones a specialised closure (the hot path: a few attribute reads, one
ufunc call, one object), folds and structural operators a general one. Callers promote dtypes, check devices, run the kernel,
wrap the result, and record. What a call means (argument names, dims, out=) is settled above, in `engine.functions`.
Users extend the table with `register`.
"""
from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

import numpy as np

from kernels import table as kernel_table
from kernels.book import BOOK, Fold, Operator, Pointwise, Structural
from kernels.cpu import buffers, pool
from kernels.cpu.maps import gradient_plan
from kernels.symbol import Symbol

from . import anomaly, devices, dtypes, tape
from .errors import DeviceError, DTypeError, GradError, ShapeError
from .tape import Node, clock, edge_of, modes, operator_name, refresh, source_of
from .tensor import KIND, KIND_OF_NUMPY, Kind, Tensor, View, bump, from_array, shared_counter, wrap

new = object.__new__
LARGE = 1 << 15         # elements from which results take pooled memory and kernels may use threads
FREED = object()        # stands for saved values after a backward that did not retain the graph
NUMBERS = (bool, int, float, complex)

_FREED_TEXT = ("Trying to backward through the graph a second time (or directly access saved tensors after they have already been "
               "freed). Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). Specify "
               "retain_graph=True if you need to backward through the graph a second time or if you need to access saved "
               "tensors after calling backward.")


# --- the table, as users see it ---------------------------------------------------------------------------------------

def table() -> kernel_table.Table:
    """The dispatch table: a mapping from (operator, device) to kernel. Print it to see every operator and where it runs."""
    return kernel_table.TABLE


def register(operator: str, device: str = "cpu", kernel: Callable | None = None, *, host: bool = False):
    """Replace or add the kernel of an operator on a device; usable as a decorator.

    `kernel` is a callable of arrays (NumPy's on "cpu") in the operator's order, with its options as keywords, returning an array (or a
    tuple). It decides values only: promotion, shapes of gradients and recording stay the engine's. `host=True` marks an entry whose numbers
    are computed on the CPU. `table().unregister(operator, device)` goes back. Errors: KeyError for an unknown operator,
    ValueError for an unknown device, TypeError for what is not callable.
    """
    if kernel is None:
        return lambda function: register(operator, device, function, host=host) or function
    kernel_table.TABLE.register(operator, device, kernel, host)
    return None


def _entry_changed(name: str, device: str) -> None:
    apply = getattr(BOOK[name], "apply", None)
    if apply is not None and hasattr(apply, "loops"):
        apply.loops.clear()
        apply.gradients.clear()


kernel_table.TABLE.listeners.append(_entry_changed)


# --- saved values -----------------------------------------------------------------------------------------------------

def version_of(tensors) -> int:
    """The versions of tensors in one number, 40 bits each."""
    total = shift = 0
    for t in tensors:
        if t is not None:
            counter = t._counter
            if counter is not None and counter[0]:
                total += counter[0] << shift
        shift += 40
    return total


def changed(node: Node, tensors, seen: int) -> GradError:
    """The error for saved values that were overwritten, naming the one in question; `seen` is what `version_of` said of them."""
    for k, t in enumerate(tensors):
        now, before = 0 if t is None or t._counter is None else t._counter[0], seen >> 40 * k & (1 << 40) - 1
        if now != before:
            edge = t._node
            if edge is None and t._counter is not None and node.keeps_result(k):
                edge = node
            return overwritten(t, edge, now, before)
    return GradError("one of the variables needed for gradient computation has been modified by an inplace operation")


def overwritten(tensor: Tensor, edge: Node | None, now: int, before: int) -> GradError:
    """The error for a saved tensor, made by `edge`, whose version is `now` but was `before` when it was saved."""
    made = "" if edge is None else f", which is output {source_of(edge)[1]} of {operator_name(source_of(edge)[0])},"
    hint = ("the backtrace further above shows the operation that failed to compute its gradient. The variable in question was "
            "changed in there or anywhere later. Good luck!" if anomaly.state.enabled else
            "enable anomaly detection to find the operation that failed to compute its gradient, with "
            "torch.autograd.set_detect_anomaly(True, check_nan=False).")
    return GradError("one of the variables needed for gradient computation has been modified by an inplace operation: "
                     f"[engine.{tensor._kind.dtype.legacy} {list(tensor.shape)}]{made} is at version {now}; expected version {before} "
                     f"instead. Hint: {hint}")


def alias(tensor: Tensor) -> Tensor:
    """The tensor's value without its history, sharing its version counter: how a node keeps its own result."""
    kept = wrap(tensor._array, tensor._kind)
    kept._counter = shared_counter(tensor)
    return kept


# --- promotion --------------------------------------------------------------------------------------------------------

def item_of(operand) -> tuple[dtypes.dtype, int]:
    """(dtype, priority) of an operand for `dtypes.result_type_of`."""
    if isinstance(operand, Tensor):
        return operand._kind.dtype, 2 if operand._array.ndim else 1
    return dtypes.number_dtype(operand), 0


def common_device(name: str, operands) -> devices.device:
    """The one device of the tensors among the operands (numbers of the CPU may join any); DeviceError for two."""
    found = None
    for t in operands:
        if isinstance(t, Tensor):
            d = t._kind.device
            if found is None or (found.type == "cpu" and d is not found):
                if found is not None and any(isinstance(o, Tensor) and o._kind.device is found and o._array.ndim for o in operands):
                    raise _two_devices(name, d, found)
                found = d
            elif d is not found and (d.type != "cpu" or t._array.ndim):
                raise _two_devices(name, found, d)
    return found or devices.CPU


def _two_devices(name, a, b) -> DeviceError:
    return DeviceError(f"Expected all tensors to be on the same device, but found at least two devices, {a} and {b}! "
                       f"(when calling {name}; move one with .to())")


def constant(value, kind: Kind) -> Tensor:
    """A Python number as a tensor without dimensions, kept for the next use. Never shown to users."""
    key = (value.__class__, value if value or value.__class__ is int else repr(value))      # 0.0 and -0.0 are equal
    found = kind.constants.get(key)
    if found is None:
        try:
            with np.errstate(all="ignore"):
                array = np.array(value).astype(kind.numpy)
        except OverflowError:
            raise RuntimeError(f"value cannot be converted to type {kind.dtype.name} without overflow") from None
        except (TypeError, ValueError) as error:
            raise TypeError(f"{value!r} is not a number of dtype {kind.dtype}") from error
        if array.dtype != kind.numpy or (array.dtype.kind == "O"):
            raise RuntimeError(f"value cannot be converted to type {kind.dtype.name} without overflow")
        found = wrap(array, kind)
        if len(kind.constants) > 256:
            kind.constants.clear()
        kind.constants[key] = found
    return found


def broadcast_error(name: str, tensors: Sequence[Tensor]) -> ShapeError:
    """The error for shapes that do not broadcast, in PyTorch's words."""
    shapes = [tuple(t._array.shape) for t in tensors]
    letters = "abcdefg"
    ndim = max(map(len, shapes))
    for d in range(1, ndim + 1):
        sizes = [(s[-d], letters[k % 7]) for k, s in enumerate(shapes) if len(s) >= d and s[-d] != 1]
        for (n, a), (m, b) in zip(sizes, sizes[1:], strict=False):
            if n != m:
                return ShapeError(f"The size of tensor {a} ({n}) must match the size of tensor {b} ({m}) at non-singleton "
                                  f"dimension {ndim - d}")
    return ShapeError(f"{name}: shapes {shapes} cannot be broadcast together")


# --- pointwise operators ----------------------------------------------------------------------------------------------

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
            ufunc = _as_ufunc(entry.custom, len(op.inputs), np.dtype(op.result(name)))
        elif kind.device.type == "cpu":
            ufunc = kernel_table.forward_ufunc(op, name)
        else:
            raise DeviceError(f"{op.name}: no kernel for device {kind.device}")
        result = op.result(name)
        found = self[kind] = (ufunc, KIND[dtypes.by_name(result)])
        return found


def _as_ufunc(custom: Callable, count: int, result: np.dtype) -> Callable:
    """A user's kernel under the calling convention of a ufunc of `count` inputs."""
    def call(*arrays, out=None):
        given = arrays[count] if len(arrays) > count else out
        value = np.asarray(custom(*arrays[:count]), result)
        if isinstance(given, np.ndarray):
            given[...] = value
            return given
        return value
    return call


def run_large(ufunc, arrays: Sequence[np.ndarray], result: np.dtype, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Run a pointwise ufunc into pooled memory, on several threads; used where any operand is large."""
    pool.ensure()
    if shape is None:
        shape = np.broadcast_shapes(*(a.shape for a in arrays))
    out = buffers.empty(shape, result)
    if len(shape) > 1 and isinstance(ufunc, np.ufunc) and not all(
            (a.flags.c_contiguous and a.shape == shape) or not a.ndim for a in arrays):
        rows = kernel_table.rows_of(ufunc)
        if rows is not None:
            return rows(*(np.broadcast_to(a, shape) for a in arrays), out)
    return ufunc(*arrays, out)


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
                raise GradError(_FREED_TEXT)
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
            outs = ufunc(*arrays, out=...) if array.size < LARGE else _gradients_large(ufunc, arrays, kinds, array.shape)
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


def _gradients_large(ufunc, arrays, kinds, shape):
    if len(kinds) == 1:
        return run_large(ufunc, arrays, kinds[0].numpy, np.broadcast_shapes(shape, *(a.shape for a in arrays)))
    pool.ensure()
    outs = tuple(buffers.empty(shape, k.numpy) for k in kinds)
    return ufunc(*arrays, *outs)


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
        if kind.device.type != "cpu":
            raise DeviceError(f"{op.name}: no gradient kernel for device {kind.device}")
        ufunc = kernel_table.gradient_ufunc(op, name, plan.mask)
        types = [t for t, given in zip(op.operand_types(name), plan.given, strict=True) if given]
        found = self[key] = (ufunc, [KIND[dtypes.by_name(t)] for t in types])
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
        return KIND[dtype]

    def prepare(self, operands, kind: Kind) -> list[Tensor]:
        """Operands as tensors of the kinds that the loop takes; casts are recorded."""
        common_device(self.op.name, operands)
        prepared = []
        for o, t in zip(operands, self.op.operands, strict=True):
            wanted = kind if t == "T" else KIND[dtypes.by_name(t)]
            if not isinstance(o, Tensor):
                prepared.append(constant(o, wanted))
            elif o._kind is not wanted:
                prepared.append(cast(o, wanted))
            else:
                prepared.append(o)
        return prepared

    def __call__(self, *operands, out: Tensor | None = None) -> Tensor:
        """Promote, run, record."""
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
        result = self.run(self.prepare(operands, kind), kind)
        return result if out is None else into(out, result)

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
            if (floating and kind.dtype.category < 2) or a.size >= LARGE:
                return general(x)
            ufunc, out_kind = loops[kind]
            r = new(Tensor)
            r._array, r._kind = ufunc(a, out=...), out_kind
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
            if a.size >= LARGE or b.size >= LARGE:
                return general(x, y)
            ufunc, out_kind = loops[kind]
            r = new(Tensor)
            try:
                r._array = ufunc(a, b, out=...)
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
            return general
        mask = None if op.operands[0] == "T" else KIND[dtypes.by_name(op.operands[0])]
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
                if y._kind is not kind or z._kind is not kind or x._kind is not (mask or kind) or (
                        floating and kind.dtype.category < 2):
                    return general(x, y, z)
                a, b, c = x._array, y._array, z._array
            except AttributeError:
                return general(x, y, z)
            if a.size >= LARGE or b.size >= LARGE or c.size >= LARGE:
                return general(x, y, z)
            ufunc, out_kind = loops[kind]
            try:
                array = ufunc(a, b, c, out=...)
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


def operand(name: str, value, argument: str = "input", position: int = 1):
    """A value of another library as an operand: NumPy scalars and arrays are welcome, anything else is a TypeError."""
    if isinstance(value, (Tensor, *NUMBERS)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        from .functions.create import from_numpy
        return from_numpy(value)
    raise TypeError(f"{name}(): argument '{argument}' (position {position}) must be Tensor, not {type(value).__name__}")


# --- casts ------------------------------------------------------------------------------------------------------------

class ToCopyBackward0(Node):
    """Conversion of dtype: the gradient goes back in the old one (complex to real keeps the real part)."""

    __slots__ = ("kind",)

    def backward(self, g):
        return (cast(g, self.kind),)


def cast_array(array: np.ndarray, source: Kind, target: Kind) -> np.ndarray:
    """An array converted by our kernel."""
    ufunc = kernel_table.cast_ufunc(source.dtype.name, target.dtype.name)
    return run_large(ufunc, [array], target.numpy) if array.size >= LARGE else ufunc(array, out=...)


def cast(x: Tensor, kind: Kind) -> Tensor:
    """A tensor of another dtype on the same device, recorded; a copy also where nothing changes."""
    result = wrap(cast_array(x._array, x._kind, kind), kind)
    edge = edge_of(x)
    if edge is not None and modes.enabled and kind.dtype.category >= 2:
        node = new(ToCopyBackward0)
        node.edges, node.kind, node.hooks, node.order = (edge,), x._kind, None, next(clock)
        result._node, result._needs = node, True
    return result


# --- folds and structural operators -----------------------------------------------------------------------------------

class GeneralNode(Node):
    """Node of a fold or structural operator; keeps what its adjoint names, nothing else."""

    __slots__ = ("counted", "options", "results", "saved", "version")
    caller: GeneralCaller

    def backward(self, g):
        if self.saved is FREED:
            raise GradError(_FREED_TEXT)
        if self.counted and version_of(self.counted) != self.version:
            raise changed(self, self.counted, self.version)
        caller = self.caller
        values = []
        for how, which in caller.reads:
            if how == "g":
                values.append(g)
            elif how == "gs":
                values.append(g if g.__class__ is list else [g])
            elif how == "needs":
                values.append(tuple(e is not None for e in self.edges))
            elif how == "option":
                values.append(self.options.get(which))
            elif how == "out":
                values.append(self._result(self.saved[which]))
            else:
                values.append(self.saved[which])
        results = caller.op.adjoint(*values)
        if results.__class__ is not tuple and results.__class__ is not list:
            return (results,)
        return results

    def _result(self, kept):
        if not modes.enabled:
            return kept
        several = kept.__class__ is tuple
        outs = []
        for k, t in enumerate(kept if several else (kept,)):
            t = alias(t)
            if t._kind.dtype.category >= 2 and k not in getattr(self.caller.op, "nondiff", ()):
                t._node, t._needs = (tape.Branch(self, k) if several else self), True
            outs.append(t)
        return tuple(outs) if several else outs[0]

    def release(self) -> None:
        if self.counted:
            self.saved, self.counted = FREED, ()

    def keeps_result(self, k: int) -> bool:
        """Whether the k-th saved tensor is a result; those have no history of their own."""
        return any(how == "out" for how, _ in self.caller.reads) and self.counted[k]._node is None


class GeneralCaller:
    """Runs one fold or structural operator on tensors: `caller(*tensors, **options)`, operands of the right dtypes already."""

    def __init__(self, op: Fold | Structural):
        self.op = op
        self.node = type(op.node_name, (GeneralNode,), {"__slots__": (), "caller": self, "__module__": "engine.autograd"})
        named = getattr(op, "node_dims", "")
        self.node_dims = type(named, (GeneralNode,), {"__slots__": (), "caller": self, "__module__": "engine.autograd"}) if named else None
        self.inputs = op.inputs if isinstance(op, Structural) else ("x", *(f"extra{k}" for k in range(op.extra)))
        self.many, self.view, self.folds = getattr(op, "many", False), getattr(op, "view", False), isinstance(op, Fold)
        self.one = not self.many and len(self.inputs) == 1
        self.loops: dict = {}           # device type -> entry of the table
        self.gradients: dict = {}
        self.reads: list = []
        self.keeps: list = []
        if op.adjoint is not None:
            for name in inspect.signature(op.adjoint).parameters:
                self.reads.append(self._read(name))

    def _read(self, name: str):
        if name in ("g", "gs", "needs"):
            return name, None
        if name == "out":
            self.keeps.append(("out", None))
            return "out", len(self.keeps) - 1
        for k, given in enumerate(self.inputs):
            for suffix in ("", "_shape", "_kind"):
                if name == given + suffix:
                    self.keeps.append(("input" + suffix, k))
                    return "saved", len(self.keeps) - 1
        return "option", name

    def __call__(self, *operands, **options):
        if self.one and len(operands) == 1:
            return self._of_one(operands[0], options)
        tensors = tuple(operands[0]) if self.many else operands
        raw = self._run([t._array for t in tensors], tensors, options)
        several = raw.__class__ is tuple or raw.__class__ is list
        results = [wrap(a, KIND_OF_NUMPY[a.dtype]) for a in (raw if several else (raw,))]
        edges = [edge_of(t) for t in tensors]
        if modes.enabled and self.op.adjoint is not None and any(e is not None for e in edges):
            self.record(results, several, tensors, edges, options)
        return tuple(results) if several else results[0]

    def _of_one(self, x: Tensor, options):
        """The common case, one operand: views, folds, most structural operators."""
        raw = self._run((x._array,), (x,), options)
        several = raw.__class__ is tuple or raw.__class__ is list
        if several:
            results = [wrap(a, KIND_OF_NUMPY[a.dtype]) for a in raw]
        else:
            kind = x._kind
            result = wrap(raw, kind if raw.dtype is kind.numpy else KIND_OF_NUMPY[raw.dtype])
            results = (result,)
        if self.view:
            counter = shared_counter(x)
            for k, r in enumerate(results):
                r._counter = counter
                r._view = View(x, self.op, options, modes.enabled, k if several else -1)
        if x._view is not None:
            refresh(x)
        if x._needs and modes.enabled and self.op.adjoint is not None:
            self.record(results, several, (x,), (x if x._node is None else x._node,), options)
        return tuple(results) if several else results[0]

    def _run(self, arrays, tensors, options):
        """The kernel's raw answer: an array or a tuple of arrays."""
        device = tensors[0]._kind.device.type if tensors else "cpu"
        entry = self.loops.get(device)
        if entry is None:
            entry = self.loops[device] = kernel_table.kernel(self.op.name, device)
        if self.folds:
            self._check_dtype(tensors[0])
            if entry.custom is None and device == "cpu":
                extra = {"extra": tuple(arrays[1:])} if len(arrays) > 1 else {}
                return self.op.on_arrays(arrays[0], options.get("dims"), options.get("keepdim", False), **extra)
        elif entry.custom is None and device == "cpu":
            return self.op.forward(arrays, **options) if self.many else self.op.forward(*arrays, **options)
        return entry(arrays, **options) if self.many else entry(*arrays, **options)

    def _check_dtype(self, x: Tensor) -> None:
        if x._kind.dtype.name not in self.op.dtypes:
            raise NotImplementedError(self.op.refusals.get(x._kind.dtype.name)
                                      or f'"{self.op.name}" not implemented for \'{x._kind.dtype.scalar}\'')

    def record(self, results, several, tensors, edges, options) -> None:
        nondiff = getattr(self.op, "nondiff", ())
        targets = [r for k, r in enumerate(results) if k not in nondiff and r._kind.dtype.category >= 2]
        if not targets:
            return
        node = self.make_node(results, several, tensors, edges, options)
        for k, r in enumerate(results):
            if any(r is t for t in targets):
                r._node, r._needs = (tape.Branch(node, k) if several else node), True

    def make_node(self, results, several, tensors, edges, options) -> GeneralNode:
        node = new(self.node if self.node_dims is None or options.get("dims") is None else self.node_dims)
        node.edges, node.hooks, node.order = tuple(edges), None, next(clock)
        node.options, node.results = options, len(results)
        saved, counted = [], []
        for how, k in self.keeps:
            if how == "out":
                kept = tuple(alias(r) for r in results)
                counted += kept
                saved.append(kept if several else kept[0])
            elif how == "input":
                kept = tuple(tensors) if self.many else tensors[k]
                counted += kept if self.many else (kept,)
                saved.append(kept)
            elif how == "input_shape":
                saved.append([t._array.shape for t in tensors] if self.many else tensors[k]._array.shape)
            else:
                saved.append([t._kind for t in tensors] if self.many else tensors[k]._kind)
        node.saved, node.counted, node.version = tuple(saved), tuple(counted), version_of(counted)
        return node

    def replay(self, parent: Tensor, view: View, tensor: Tensor):
        """A fresh node for a view of a base that was written; views keep nothing but shapes."""
        edge = edge_of(parent)
        if edge is None:
            return None
        node = self.make_node([tensor], view.output >= 0, (parent,), [edge], view.options)
        if view.output < 0:
            return node
        node.results = view.output + 1
        return tape.Branch(node, view.output)


# --- in-place and out= ------------------------------------------------------------------------------------------------

def can_write(target: Tensor, result: Tensor) -> None:
    """Check that a result may be stored in a tensor of another dtype or shape; DTypeError or ShapeError otherwise."""
    if not dtypes.can_cast(result._kind.dtype, target._kind.dtype):
        raise DTypeError(f"result type {result._kind.dtype.scalar} can't be cast to the desired output type "
                         f"{target._kind.dtype.scalar}")


class CopyBackwards(Node):
    """A tensor overwritten by another: the old value's gradient is zero, the new value gets all."""

    __slots__ = ()

    def backward(self, g):
        return None if self.edges[0] is None else g * 0, g


def write(target: Tensor, result: Tensor, copies: bool = False) -> Tensor:
    """Store a computed value in a tensor's memory and give the tensor its history: the end of every in-place operator.

    `copies`: the value is a tensor of its own that the user holds (copy_, fill_, assignment), not one just computed for the target.
    """
    recording = modes.enabled and (tape.tracked(target) or result.requires_grad)
    if recording:
        tape.check_inplace(target)
    can_write(target, result)
    if result._array.shape != target._array.shape:
        raise ShapeError(f"output with shape {list(target.shape)} doesn't match the broadcast shape {list(result.shape)}")
    if result._kind is not target._kind:
        result = cast(result, target._kind)
    store(target._array, result._array)
    bump(target)
    if recording:
        edge = edge_of(result)
        if target._view is None and (copies or not isinstance(edge, Node)):
            node = new(CopyBackwards)
            node.edges, node.hooks, node.order = (edge_of(target), edge), None, next(clock)
            edge = node
        tape.rebase(target, edge)
    return target


def store(target: np.ndarray, value: np.ndarray) -> None:
    """Copy an array into another of the same dtype (broadcasting) by our kernel; refuses read-only memory."""
    if not target.flags.writeable:
        if any(not step and n > 1 for step, n in zip(target.strides, target.shape, strict=True)):
            raise RuntimeError("unsupported operation: more than one element of the written-to tensor refers to a single memory location. "
                               "Please clone() the tensor before performing the operation.")
        raise RuntimeError("this tensor shares memory that NumPy marked read-only; clone() it before writing")
    if not target.size:
        return
    kind = KIND_OF_NUMPY[target.dtype].dtype.name
    if target.size >= LARGE:
        pool.ensure()
    kernel_table.cast_ufunc(kind, kind)(value, target)


def into(out: Tensor, result: Tensor) -> Tensor:
    """Give a result to the caller's `out=` tensor, resized if it has another shape."""
    if not isinstance(out, Tensor):
        raise TypeError(f"argument 'out' must be Tensor, not {type(out).__name__}")
    if out._needs or result._needs:
        if modes.enabled:
            raise GradError("functions with out=... arguments don't support automatic differentiation, but one of the arguments "
                            "requires grad.")
        result = result.detach()
    if out._kind.device is not result._kind.device:
        raise DeviceError(f"Expected out tensor to be on {result._kind.device}, but got {out._kind.device}")
    can_write(out, result)
    if out._array.shape != result._array.shape:
        if out._array.size:
            import warnings
            warnings.warn(f"An output with one or more elements was resized since it had shape {list(out.shape)}, which does not "
                          f"match the required output shape {list(result.shape)}. This behavior is deprecated, and in a future "
                          "release outputs will not be resized unless they have zero elements.", UserWarning, stacklevel=3)
        out._array = np.empty(result._array.shape, out._kind.numpy)
    return write(out, result)


def inplace(call: Callable, op: Pointwise | None = None) -> Callable:
    """The in-place method of an operator: compute, then write; straight into the memory where nothing is recorded."""
    loops = op.apply.loops if op is not None and len(op.inputs) == 2 and op.result is _SAME else None

    def method(self: Tensor, *others, **options) -> Tensor:
        if loops is not None and len(others) == 1 and not options and not self._needs and self._view is None:
            other = others[0]
            if other.__class__ is Tensor and other._kind is self._kind and not other._needs and other._view is None and (
                    not op.floating or self._kind.dtype.category >= 2) and self._array.flags.writeable:
                return _direct(self, other)
            if other.__class__ is float and self._kind.dtype.category >= 2:
                return _direct(self, constant(other, self._kind))
        if not modes.enabled and loops is not None and len(others) == 1 and not options and self._array.flags.writeable:
            other = others[0]
            if other.__class__ is Tensor and other._kind is self._kind and (not op.floating or self._kind.dtype.category >= 2):
                return _direct(self, other)
        if not modes.enabled or not (tape.tracked(self) or any(o.__class__ is not float and isinstance(o, Tensor) and o.requires_grad
                                                               for o in (*others, *options.values()))):
            return write(self, call(self, *others, **options))
        tape.check_inplace(self)
        handle = tape.Handle(self)
        result = call(handle.cell[0], *(handle.cell[0] if o is self else o for o in others),
                      **{name: handle.cell[0] if o is self else o for name, o in options.items()})
        handle.settle()
        return write(self, result)

    def _direct(self: Tensor, other: Tensor) -> Tensor:
        array = self._array
        if array.size >= LARGE:
            pool.ensure()
        try:
            loops[self._kind][0](array, other._array, array)
        except ValueError as error:
            shape = np.broadcast_shapes(array.shape, other._array.shape) if _broadcasts(array, other._array) else None
            if shape is None:
                raise broadcast_error(op.name, (self, other)) from error
            raise ShapeError(f"output with shape {list(array.shape)} doesn't match the broadcast shape "
                             f"{list(shape)}") from error
        counter = self._counter
        if counter is None:
            self._counter = [1]
        else:
            counter[0] += 1
        return self
    return method


def _broadcasts(a: np.ndarray, b: np.ndarray) -> bool:
    try:
        np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        return False
    return True


# --- setting up -------------------------------------------------------------------------------------------------------

from kernels.book import SAME as _SAME  # noqa: E402


def attach(op: Operator) -> None:
    """Give a record its caller."""
    if getattr(op, "view", False):
        from .views import ViewCaller
        op.apply = ViewCaller(op)
    else:
        op.apply = PointwiseCaller(op) if isinstance(op, Pointwise) else GeneralCaller(op)


def attach_all() -> None:
    """Give every record of the book that has none its caller."""
    for op in BOOK.values():
        if op.apply is None:
            attach(op)


__all__ = ["attach", "attach_all", "cast", "constant", "from_array", "inplace", "into", "register", "table", "write"]
