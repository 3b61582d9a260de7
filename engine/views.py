"""Views on tensors: the caller of records with `view=True`, and the shortest way to the commonest of them.

A view costs about as much as NumPy's own view plus one object for the tensor and one for its `View`; a node only where
gradients are recorded. `select_fast(x, index)` is `x[index]` for an int, for `__getitem__`. What arguments
mean is settled in `engine.functions.shape`, which calls `caller.share(x, array, options)` where it has the array already.
"""
from __future__ import annotations

from numpy import ndarray

from kernels import table as kernel_table
from kernels.book import BOOK

from . import tape
from .dispatch import GeneralCaller
from .tape import Node, clock, modes, refresh
from .tensor import KIND_OF_NUMPY, Tensor, View, shared_counter, wrap

new = object.__new__
custom_kernels = kernel_table.TABLE._custom     # not empty when a user replaced a kernel: then nothing here is cut short


class ViewNode(Node):
    """Node of a view: keeps the shape and kind of what it looks at, and nothing that a backward pass could free."""

    __slots__ = ("kind", "options", "results", "shape")
    caller: ViewCaller

    def backward(self, g):
        caller = self.caller
        if caller.direct is not None and not modes.enabled and not custom_kernels and g._array.__class__ is ndarray:
            return (wrap(caller.direct(g._array, self.shape, **self.options), g._kind),)
        values = []
        for how, name in self.caller.reads:
            if how == "g":
                values.append(g)
            elif how == "option":
                values.append(self.options[name])
            elif how == "gs":
                values.append(g if g.__class__ is list else [g])
            else:
                values.append(self.shape if how == "shape" else self.kind)
        return (self.caller.op.adjoint(*values),)


class ViewCaller(GeneralCaller):
    """Runs one view operator: `caller(x, **options)`, or `caller.share(x, array, options)` when the array is at hand."""

    def __init__(self, op):
        super().__init__(op)
        self.node = type(op.node_name, (ViewNode,), {"__slots__": (), "caller": self, "__module__": "engine.autograd"})
        self.differentiable = op.adjoint is not None
        # the adjoint's own kernel, for a backward pass that is not recorded; the commonest views only
        self.direct = (BOOK[op.name + "_backward"].forward if op.name in ("select", "slice") else
                       (lambda g, shape: g.T) if op.name == "t" else None)

    def _read(self, name: str):
        if name in ("g", "gs"):
            return name, None
        given = self.inputs[0]
        return ("shape", None) if name == given + "_shape" else ("kind", None) if name == given + "_kind" else ("option", name)

    def __call__(self, x: Tensor, **options):
        array = x._array
        if custom_kernels or array.__class__ is not ndarray:
            return self.share(x, self._run((array,), (x,), options), options)
        return self.share(x, self.op.forward(array, **options), options)

    def share(self, x: Tensor, raw, options: dict):
        """The tensor (or tuple of tensors) over `raw`, an array (or several) in the memory of `x`: `operator(x, **options)`."""
        if raw.__class__ is tuple:
            return self._share_several(x, raw, options)
        kind = x._kind
        r = new(Tensor)
        r._array, r._kind = raw, kind if raw.dtype is kind.numpy else KIND_OF_NUMPY[raw.dtype]
        r._node = r._grad = r._meta = None
        counter = x._counter
        if counter is None:
            counter = x._counter = [0]
        r._counter = counter
        r._needs = False
        if x._view is not None:
            refresh(x)
        r._view = view = new(View)
        view.parent, view.operator, view.options, view.output = x, self.op, options, -1
        view.base = base = x if x._view is None else x._view.base
        view.seen, view.count = base._node, 1
        view.recorded = recording = modes.enabled
        if recording and x._needs and self.differentiable and r._kind.dtype.category >= 2:
            node = new(self.node)
            node.edges, node.hooks, node.order = (x._node or x,), None, next(clock)
            node.options, node.results, node.shape, node.kind = options, 1, x._array.shape, kind
            r._node, r._needs = node, True
        return r

    def _share_several(self, x: Tensor, arrays, options: dict) -> tuple[Tensor, ...]:
        counter, kind = shared_counter(x), x._kind
        if x._view is not None:
            refresh(x)
        recording, node = modes.enabled, None
        base = x if x._view is None else x._view.base
        if recording and x._needs:
            node = self.make_node(arrays, True, (x,), (x._node or x,), options)
        results = []
        for k, array in enumerate(arrays):
            r = new(Tensor)
            r._array, r._kind, r._counter = array, kind, counter
            r._view = view = new(View)
            view.parent, view.operator, view.options, view.output = x, self.op, options, k
            view.base, view.seen, view.count, view.recorded = base, base._node, len(arrays), recording
            r._node, r._needs = (None, False) if node is None else (tape.Branch(node, k), True)
            r._grad = r._meta = None
            results.append(r)
        return tuple(results)

    def make_node(self, results, several, tensors, edges, options) -> ViewNode:
        node = new(self.node)
        node.edges, node.hooks, node.order = tuple(edges), None, next(clock)
        node.options, node.results, node.shape, node.kind = options, len(results), tensors[0]._array.shape, tensors[0]._kind
        return node


SELECT = BOOK["select"]


def select_fast(x: Tensor, index: int) -> Tensor:
    """`x[index]` for an int: a view of one index of the first dimension. IndexError where there is no such index."""
    array = x._array
    if custom_kernels or array.__class__ is not ndarray:
        return SELECT.apply(x, dim=0, index=checked_index(index, array.shape))
    try:
        raw = array[index, ...]
    except IndexError:
        checked_index(index, array.shape)
        raise
    if index < 0:
        index += array.shape[0]
    r = new(Tensor)
    r._array, r._kind = raw, x._kind
    r._node = r._grad = r._meta = None
    r._needs = False
    counter = x._counter
    if counter is None:
        counter = x._counter = [0]
    r._counter = counter
    if x._view is not None:
        refresh(x)
    r._view = view = new(View)
    options = {"dim": 0, "index": index}
    view.parent, view.operator, view.options, view.output = x, SELECT, options, -1
    view.base = base = x if x._view is None else x._view.base
    view.seen, view.count = base._node, 1
    view.recorded = recording = modes.enabled
    if recording and x._needs:
        node = new(SELECT.apply.node)
        node.edges, node.hooks, node.order = (x._node or x,), None, next(clock)
        node.options, node.results, node.shape, node.kind = options, 1, array.shape, x._kind
        r._node, r._needs = node, True
    return r


def checked_index(index: int, shape) -> int:
    """An index of the first dimension, counted from the front; IndexError in PyTorch's words."""
    if not len(shape):
        raise IndexError("invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` in C++ to "
                         "convert a "
                         "0-dim tensor to a number")
    if not -shape[0] <= index < shape[0]:
        raise IndexError(f"index {index} is out of bounds for dimension 0 with size {shape[0]}")
    return index + shape[0] if index < 0 else index
