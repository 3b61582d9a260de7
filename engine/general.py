"""Folds and structural operators on tensors: one caller for all, and the node that keeps what an adjoint names."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy import ndarray

from kernels import table as kernel_table
from kernels.book import Fold, Structural, parameters

from . import tape
from .errors import GradError
from .saved import FREED, FREED_TEXT, alias, changed, version_of
from .tape import Node, clock, modes, refresh
from .tensor import KIND_OF_NUMPY, Tensor, wrap

new = object.__new__
watcher: Callable | None = None                  # of a trace: takes a quick adjoint down as one call, or gives None
custom_kernels = kernel_table.TABLE._custom     # not empty when a user replaced a kernel: then nothing here is cut short


def _arrays(value: Any) -> Any:
    """The arrays of several gradients or results (None where missing); anything else as it is."""
    if value.__class__ is list or (value.__class__ is tuple and value and isinstance(value[0], Tensor)):
        return [v._array if isinstance(v, Tensor) else v for v in value]
    return value


class GeneralNode(Node):
    """Node of a fold or structural operator; keeps what its adjoint names, nothing else."""

    __slots__ = ("counted", "options", "results", "saved", "version")
    caller: GeneralCaller

    def backward(self, g):
        saved = self.saved
        if saved is FREED:
            raise GradError(FREED_TEXT)
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
                values.append(self.options[which] if which in self.options else caller.defaults.get(which))
            elif how == "out":
                values.append(self._result(saved[which]))
            else:
                values.append(saved[which])
        if caller.quick is not None and not modes.enabled and g.__class__ in (Tensor, list):
            if not custom_kernels:
                on_host = g._array.__class__ is ndarray if g.__class__ is Tensor else all(
                    t is None or t._array.__class__ is ndarray for t in g)
                results = caller.quick(*[v._array if isinstance(v, Tensor) else _arrays(v) for v in values]) if on_host else None
                if results is not None:
                    return [None if r is None else wrap(r, KIND_OF_NUMPY[r.dtype]) for r in results]
            elif watcher is not None:
                results = watcher(caller.op, values)
                if results is not None:
                    return results
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
            if t._kind.dtype.category >= 2 and k not in self.caller.nondiff:
                t._node, t._needs = (tape.Branch(self, k) if several else self), True
            outs.append(t)
        return tuple(outs) if several else outs[0]

    def push(self, tangents: list) -> list:
        """Tangents of the results by the operator's own formula."""
        saved, caller = self.saved, self.caller
        if saved is FREED:
            raise GradError(FREED_TEXT)
        if self.counted and version_of(self.counted) != self.version:
            raise changed(self, self.counted, self.version)
        values = [tangents[which] if how == "t" else
                  (self.options[which] if which in self.options else caller.defaults.get(which)) if how == "option" else
                  self._result(saved[which]) if how == "out" else saved[which] for how, which in caller.pushes]
        pushed = caller.op.tangent(*values)
        return list(pushed) if isinstance(pushed, (tuple, list)) else [pushed]

    def release(self) -> None:
        if self.caller.keeps_any:
            self.saved, self.counted = FREED, ()

    def keeps_result(self, k: int) -> bool:
        """Whether the k-th saved tensor is a result; those have no history of their own."""
        return any(how == "out" for how, _ in self.caller.reads) and self.counted[k]._node is None


class GeneralCaller:
    """Runs one fold or structural operator on tensors: `caller(*tensors, **options)`, operands of the right dtypes already."""

    def __init__(self, op: Fold | Structural) -> None:
        self.op = op
        self.node = type(op.node_name, (GeneralNode,), {"__slots__": (), "caller": self, "__module__": "engine.autograd"})
        named = getattr(op, "node_dims", "")
        about = {"__slots__": (), "caller": self, "__module__": "engine.autograd"}
        self.node_dims = type(named, (GeneralNode,), about) if named else None
        self.inputs = op.inputs if isinstance(op, Structural) else ("x", *(f"extra{k}" for k in range(op.extra)))
        self.many, self.folds, self.structural = getattr(op, "many", False), isinstance(op, Fold), isinstance(op, Structural)
        self.forward = op.forward if self.structural else None
        self.quick = getattr(op, "quick", None)
        self.differentiable = op.adjoint is not None
        self.nondiff: tuple[int, ...] = getattr(op, "nondiff", ())
        given = (self.forward.__defaults__ or ()) if self.structural else ()
        self.defaults = dict(zip(parameters(op.forward)[-len(given):], given, strict=True)) if given else {}
        self.loops: dict = {}           # device type -> entry of the table
        self.gradients: dict = {}
        self.reads: list = []
        self.keeps: list = []
        if op.adjoint is not None:
            for name in parameters(op.adjoint):
                self.reads.append(self._read(name))
        self.pushes: list = []          # what the formula of forward mode reads, and the formula
        tangent = getattr(op, "tangent", None)
        if tangent is not None:
            for name in parameters(tangent):
                moved = name.removeprefix("t_")
                self.pushes.append(("t", self.inputs.index(moved)) if name != moved and moved in self.inputs else self._read(name))
        self.keeps_any = any(how in ("input", "out") for how, _ in self.keeps)

    def _read(self, name: str):
        if name in ("g", "gs", "needs"):
            return name, None
        if name == "out":
            self.keeps.append(("out", None))
            return "out", len(self.keeps) - 1
        if name[:3] == "out" and name[3:].isdigit():        # one of several results, which has no derivative
            self.keeps.append(("one", int(name[3:])))
            return "saved", len(self.keeps) - 1
        for k, given in enumerate(self.inputs):
            for suffix in ("", "_shape", "_kind"):
                if name == given + suffix:
                    self.keeps.append(("input" + suffix, k))
                    return "saved", len(self.keeps) - 1
        return "option", name

    def __call__(self, *operands: Any, **options: Any) -> Any:
        tensors = operands[0] if self.many else operands
        if self.structural and not custom_kernels and tensors[0]._array.__class__ is ndarray:
            if self.many:
                raw = self.forward([t._array for t in tensors], **options)
            elif len(tensors) == 1:
                raw = self.forward(tensors[0]._array, **options)
            elif len(tensors) == 2:
                raw = self.forward(tensors[0]._array, tensors[1]._array, **options)
            else:
                raw = self.forward(*[t._array for t in tensors], **options)
        else:
            raw = self._run([t._array for t in tensors], tensors, options)
        several = raw.__class__ is tuple or raw.__class__ is list
        if several:
            results = [wrap(a, KIND_OF_NUMPY[a.dtype]) for a in raw]
        else:
            kind = tensors[0]._kind
            result = wrap(raw, kind if raw.dtype is kind.numpy else KIND_OF_NUMPY[raw.dtype])
            results = (result,)
        needs = False
        for t in tensors:
            if t._view is not None:
                refresh(t)
            if t._needs:
                needs = True
        if needs and self.differentiable and modes.enabled:
            self.record(results, several, tensors, [(t if t._node is None else t._node) if t._needs else None for t in tensors],
                        options)
        return tuple(results) if several else result

    def named(self, node_name: str) -> GeneralCaller:
        """A caller of the same kernels whose nodes have another name (UniformBackward0, ...)."""
        twin = GeneralCaller(self.op)
        twin.node = type(node_name, (GeneralNode,), {"__slots__": (), "caller": twin, "__module__": "engine.autograd"})
        return twin

    def hot(self) -> Callable[..., Tensor]:
        """The shortest way to a structural operator with one result: `call(*tensors, *options)`, options in their order.

        For an operator of one or two inputs, or of a list of them.
        """
        forward, differentiable, general, record = self.forward, self.differentiable and 0 not in self.nondiff, self, self.record
        count = 1 if self.many else len(self.inputs)
        names = parameters(forward)[count:]

        def single(x: Tensor, *options) -> Tensor:
            array, kind = x._array, x._kind
            if custom_kernels or array.__class__ is not ndarray:
                return general(x, **dict(zip(names, options, strict=False)))
            r = new(Tensor)
            r._array = raw = forward(array, *options)
            r._kind = kind if raw.dtype is kind.numpy else KIND_OF_NUMPY[raw.dtype]
            r._node = r._counter = r._view = r._grad = r._meta = None
            r._needs = False
            if x._view is not None:
                refresh(x)
            if x._needs and differentiable and modes.enabled:
                record((r,), False, (x,), (x._node or x,), dict(zip(names, options, strict=False)))
            return r

        def pair(x: Tensor, y: Tensor, *options) -> Tensor:
            array, kind = x._array, x._kind
            if custom_kernels or array.__class__ is not ndarray:
                return general(x, y, **dict(zip(names, options, strict=False)))
            r = new(Tensor)
            r._array = raw = forward(array, y._array, *options)
            r._kind = kind if raw.dtype is kind.numpy else KIND_OF_NUMPY[raw.dtype]
            r._node = r._counter = r._view = r._grad = r._meta = None
            r._needs = False
            if x._view is not None:
                refresh(x)
            if y._view is not None:
                refresh(y)
            if (x._needs or y._needs) and differentiable and modes.enabled:
                record((r,), False, (x, y), ((x._node or x) if x._needs else None, (y._node or y) if y._needs else None),
                       dict(zip(names, options, strict=False)))
            return r

        def many(xs: Sequence[Tensor], *options) -> Tensor:
            kind, arrays, needs = xs[0]._kind, [], False
            for x in xs:
                arrays.append(x._array)
                if x._view is not None:
                    refresh(x)
                if x._needs:
                    needs = True
            if custom_kernels or arrays[0].__class__ is not ndarray:
                return general(xs, **dict(zip(names, options, strict=False)))
            r = new(Tensor)
            r._array = raw = forward(arrays, *options)
            r._kind = kind if raw.dtype is kind.numpy else KIND_OF_NUMPY[raw.dtype]
            r._node = r._counter = r._view = r._grad = r._meta = None
            r._needs = False
            if needs and differentiable and modes.enabled:
                record((r,), False, xs, [(x._node or x) if x._needs else None for x in xs],
                       dict(zip(names, options, strict=False)))
            return r
        return many if self.many else single if count == 1 else pair

    def _run(self, arrays, tensors, options):
        """The kernel's raw answer, an array or a tuple of arrays, where folds, devices or users' kernels are concerned."""
        device = "cpu"
        for t in tensors:
            if t._kind.device.type != "cpu":
                device = t._kind.device.type
        entry = self.loops.get(device)
        if entry is None:
            entry = self.loops[device] = kernel_table.kernel(self.op.name, device)
        if self.folds:
            self._check_dtype(tensors[0])
            if entry.custom is None and device == "cpu":
                if len(arrays) > 1:
                    return self.op.on_arrays(arrays[0], options.get("dims"), options.get("keepdim", False), extra=tuple(arrays[1:]))
                return self.op.on_arrays(arrays[0], options.get("dims"), options.get("keepdim", False))
        if device != "cpu" and entry.custom is None:
            from . import device_arrays
            return device_arrays.run(self.op, arrays, options)
        return entry(arrays, **options) if self.many else entry(*arrays, **options)

    def _check_dtype(self, x: Tensor) -> None:
        if x._kind.dtype.name not in self.op.dtypes:
            raise NotImplementedError(self.op.refusals.get(x._kind.dtype.name)
                                      or f'"{self.op.name}" not implemented for \'{x._kind.dtype.scalar}\'')

    def record(self, results: Any, several: Any, tensors: Any, edges: Any, options: Any) -> None:
        if not several:
            result, = results
            if result._kind.dtype.category >= 2 and 0 not in self.nondiff:
                result._node, result._needs = self.make_node(results, False, tensors, edges, options), True
            return
        node = None
        for k, r in enumerate(results):
            if r._kind.dtype.category >= 2 and k not in self.nondiff:
                if node is None:
                    node = self.make_node(results, True, tensors, edges, options)
                r._node, r._needs = tape.Branch(node, k), True

    def make_node(self, results: Any, several: Any, tensors: Any, edges: Any, options: Any) -> GeneralNode:
        node = new(self.node if self.node_dims is None or options.get("dims") is None else self.node_dims)
        node.edges, node.hooks, node.order = tuple(edges), None, next(clock)
        node.options, node.results = options, len(results)
        saved, counted = [], []
        for how, k in self.keeps:
            if how == "input":
                if self.many:
                    kept = tuple(tensors)
                    counted += kept
                else:
                    kept = tensors[k]
                    counted.append(kept)
                saved.append(kept)
            elif how == "out":
                kept = tuple([alias(r) for r in results])
                counted += kept
                saved.append(kept if several else kept[0])
            elif how == "one":
                saved.append(alias(results[k]))
                counted.append(saved[-1])
            elif how == "input_shape":
                saved.append([t._array.shape for t in tensors] if self.many else tensors[k]._array.shape)
            else:
                saved.append([t._kind for t in tensors] if self.many else tensors[k]._kind)
        node.counted, node.version = counted, version_of(counted) if counted else 0
        node.saved = saved
        return node
