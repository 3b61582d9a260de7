"""Folds and structural operators on tensors: one caller for all, and the node that keeps what an adjoint names."""
from __future__ import annotations

from kernels import table as kernel_table
from kernels.book import Fold, Structural, parameters

from . import tape
from .errors import GradError
from .saved import FREED, FREED_TEXT, alias, changed, version_of
from .tape import Node, clock, edge_of, modes, refresh
from .tensor import KIND_OF_NUMPY, Tensor, wrap

new = object.__new__


class GeneralNode(Node):
    """Node of a fold or structural operator; keeps what its adjoint names, nothing else."""

    __slots__ = ("counted", "options", "results", "saved", "version")
    caller: GeneralCaller

    def backward(self, g):
        if self.saved is FREED:
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
        about = {"__slots__": (), "caller": self, "__module__": "engine.autograd"}
        self.node_dims = type(named, (GeneralNode,), about) if named else None
        self.inputs = op.inputs if isinstance(op, Structural) else ("x", *(f"extra{k}" for k in range(op.extra)))
        self.many, self.folds = getattr(op, "many", False), isinstance(op, Fold)
        self.one = not self.many and len(self.inputs) == 1
        self.loops: dict = {}           # device type -> entry of the table
        self.gradients: dict = {}
        self.reads: list = []
        self.keeps: list = []
        if op.adjoint is not None:
            for name in parameters(op.adjoint):
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
        """The common case, one operand: folds, most structural operators."""
        raw = self._run((x._array,), (x,), options)
        several = raw.__class__ is tuple or raw.__class__ is list
        if several:
            results = [wrap(a, KIND_OF_NUMPY[a.dtype]) for a in raw]
        else:
            kind = x._kind
            result = wrap(raw, kind if raw.dtype is kind.numpy else KIND_OF_NUMPY[raw.dtype])
            results = (result,)
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
