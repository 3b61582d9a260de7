"""The tape: nodes that record operators, what hooks hang on them, and what in-place writes and views do to history.

A node is made by `engine.dispatch` when an operator runs on a tensor that requires grad. It points to the nodes of its inputs
(`edges`), never to its result, so a graph is freed by reference counts alone. An edge is a node, a Branch (one result of a
node with several), a leaf tensor, or None. Every node has an `order`, smaller for later nodes, and edges always lead to
earlier ones: a heap over it is a topological order. The reverse walk is `engine.walk`, the public face `engine.autograd`.
"""
from __future__ import annotations

import itertools
import sys
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import GradError

if TYPE_CHECKING:
    from .tensor import Tensor

clock = itertools.count(0, -1)


class _Modes(threading.local):
    """Whether this thread records; every thread begins with recording on.

    `lost` is told when a tensor with a history becomes a Python float.
    """

    enabled = True
    inference = False
    lost: Callable[[], object] | None = None


modes = _Modes()


class _Used:
    """What this process has ever used, so that nobody else pays for it; one for all threads."""

    inference = False           # inference_mode: in-place writes look whether their tensor is one of its own


modes_used = _Used()


# --- nodes ------------------------------------------------------------------------------------------------------------

class Node:
    """One recorded operation. Subclasses carry the names that PyTorch's `grad_fn` shows (AddBackward0, ...).

    edges: one per input; hooks: see `hooks_of`. `backward(g)` returns one gradient per edge (None where there is none);
    `g` is a tensor, or a list of tensors and None for a node with several results, of which there are `results`.
    """

    __slots__ = ("__weakref__", "edges", "hooks", "order")

    def backward(self, g: Tensor) -> Any:
        raise NotImplementedError

    def release(self) -> None:
        """Forget saved values; called after backward unless the graph is retained."""

    @property
    def source(self) -> Node:
        return self

    @property
    def next_functions(self) -> tuple[tuple[Node | None, int], ...]:
        """(node, output number) of each input, as PyTorch shows them; leaves appear as AccumulateGrad."""
        found = []
        for edge in self.edges:
            if edge is None:
                found.append((None, 0))
            elif isinstance(edge, Branch):
                found.append((edge.source, edge.index))
            else:
                found.append((edge if isinstance(edge, Node) else accumulate_node(edge), 0))
        return tuple(found)

    def name(self) -> str:
        return type(self).__name__

    def register_hook(self, hook: Callable) -> Removable:
        """Call `hook(grad_inputs, grad_outputs)` after this node's backward; a returned tuple replaces grad_inputs."""
        return Removable(hooks_of(self).after, hook)

    def register_prehook(self, hook: Callable) -> Removable:
        """Call `hook(grad_outputs)` before this node's backward; a returned tuple replaces grad_outputs."""
        return Removable(hooks_of(self).before, hook)

    @property
    def metadata(self) -> dict:
        """A dictionary for the user's own notes on this node."""
        hooks = hooks_of(self)
        hooks.metadata = {} if hooks.metadata is None else hooks.metadata
        return hooks.metadata

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object at {id(self):#x}>"


class Hooks:
    """What users attached to a node.

    tensor: {(result's number, id): hook on that result's gradient}; before, after: {id: hook of the node};
    retain: {result's number: weak reference to a tensor that keeps its gradient}.
    """

    __slots__ = ("after", "before", "metadata", "retain", "tensor")

    def __init__(self) -> None:
        self.tensor: dict = {}
        self.before: dict = {}
        self.after: dict = {}
        self.retain: dict = {}
        self.metadata: dict | None = None


def hooks_of(node: Node) -> Hooks:
    """The node's hooks, made if need be."""
    if node.hooks is None:
        node.hooks = Hooks()
    return node.hooks


class Branch(Node):
    """The edge to one result of a node with several: `source` and the result's `index`. It is never walked itself."""

    __slots__ = ("index",)

    def __init__(self, node: Node, index: int) -> None:
        self.edges, self.index, self.hooks, self.order = (node,), index, None, node.order

    @property
    def source(self) -> Node:
        return self.edges[0]


class AccumulateGrad(Node):
    """Stands for a leaf in `next_functions`; `variable` is the leaf. Its hooks belong to the leaf and outlive it."""

    __slots__ = ("variable",)

    def __init__(self, variable: Any, hooks: Hooks) -> None:
        self.variable, self.edges, self.hooks, self.order = variable, (), hooks, 0


def accumulate_node(leaf: Any) -> AccumulateGrad:
    """The leaf's AccumulateGrad, the same object as long as somebody holds it."""
    from .tensor import meta_of
    meta = meta_of(leaf)
    if meta.accumulator is None:
        meta.accumulator = (Hooks(), None)
    hooks, known = meta.accumulator
    node = known() if known is not None else None
    if node is None:
        node = AccumulateGrad(leaf, hooks)
        meta.accumulator = (hooks, weakref.ref(node))       # weak: the node holds the leaf
    return node


class Removable:
    """Handle of a hook; `remove()` takes it away, and so does leaving a `with` block."""

    __slots__ = ("hooks", "id")
    _ids = itertools.count()

    def __init__(self, hooks: dict, hook: Callable, index: int | None = None) -> None:
        if not callable(hook):
            raise TypeError(f"a hook must be callable, not {type(hook).__name__}")
        number = next(Removable._ids)
        self.hooks, self.id = hooks, number if index is None else (index, number)
        hooks[self.id] = hook

    def remove(self) -> None:
        """Take the hook away; a second call does nothing."""
        self.hooks.pop(self.id, None)

    def __enter__(self) -> Removable:
        return self

    def __exit__(self, *raised: object) -> None:
        self.remove()


def edge_of(tensor: Any) -> Any:
    """Where a gradient for this tensor goes: its node, the tensor itself for a leaf that requires grad, or None."""
    if tensor._view is not None:
        refresh(tensor)
    return tensor._node if tensor._node is not None else tensor if tensor._needs else None


def source_of(edge: Any) -> tuple:
    """(node, result's number) of an edge that is a node or Branch."""
    return (edge.edges[0], edge.index) if edge.__class__ is Branch else (edge, 0)


def operator_name(node: Node) -> str:
    """The operator that a node differentiates, as PyTorch's messages name it: Exp for ExpBackward0."""
    return type(node).__name__.rstrip("0123456789").removesuffix("Backward")


# --- hooks and retained gradients -------------------------------------------------------------------------------------

def register_hook(tensor: Any, hook: Callable) -> Removable:
    """A hook on the gradient of a tensor, see Tensor.register_hook."""
    if not tensor.requires_grad:
        raise GradError("cannot register a hook on a tensor that doesn't require gradient")
    if tensor._node is not None:
        node, index = source_of(tensor._node)
        return Removable(hooks_of(node).tensor, hook, index)
    from .tensor import meta_of
    meta = meta_of(tensor)
    meta.hooks = {} if meta.hooks is None else meta.hooks
    return Removable(meta.hooks, hook)


def watch(tensor: Any) -> None:
    """Let the tensor's node put its gradient into `tensor.grad`."""
    node, index = source_of(tensor._node)
    hooks_of(node).retain[index] = weakref.ref(tensor)


def _unwatch(tensor) -> None:
    """The reverse of `watch`, before the tensor gets another node."""
    if tensor._node is not None:
        node, index = source_of(tensor._node)
        if node.hooks is not None:
            node.hooks.retain.pop(index, None)


# --- views and in-place writes ----------------------------------------------------------------------------------------
# A view knows its parent and its base, the tensor at the start of the chain, whose node is the history of the memory. A write
# through a view gives the base a CopySlices node; any other view of the base finds at its next use (`refresh`) that the base
# has another node than the one it has seen, and replays its operators on it. Chains are walked by loops, never by recursion.

_TWO_WAYS = ("Given that this use case is ambiguous and error-prone, it is forbidden. You can clarify your code by moving "
             "both the "
             "view and the inplace either both inside the no_grad block (if you don't want the inplace to be tracked) or both "
             "outside (if you want the inplace to be tracked).")
_MANY = ("This view is the output of a function that returns multiple views. Such functions do not allow the output views "
         "to be modified inplace. You should replace the inplace operation by an out-of-place one.")
_CUSTOM = ("This view was created inside a custom Function (or because an input was returned as-is) and the autograd logic "
           "to handle "
           "view+inplace would override the custom backward associated with the custom Function, leading to incorrect "
           "gradients. This behavior is forbidden. You can fix this by cloning the output of the custom Function.")


def refresh(tensor: Any) -> None:
    """Renew the node of a view whose base was written in place since it was made."""
    view = tensor._view
    base = view.base
    node = base._node
    if node is view.seen:
        return
    if node is None or not base._needs:         # the base forgot its history (detach_); the view's own stays true
        view.seen = node
        return
    chain = _chain(view)
    for step in chain:
        if step.operator is None:               # made by a custom Function, whose backward a replay would bypass
            view.seen = node
            return
        if not step.recorded:
            raise GradError("A view was created in no_grad mode and its base or another view of its base has been modified "
                            "inplace with grad mode enabled. " + _TWO_WAYS)
    if tensor._kind.dtype.category >= 2:
        _unwatch(tensor)
        tensor._node, tensor._needs = replay(base, chain), True
        if tensor._meta is not None and tensor._meta.retains:
            watch(tensor)
    view.seen = node


def _chain(view) -> list:
    """The views from the base to this one."""
    chain = []
    while view is not None:
        chain.append(view)
        view = view.parent._view
    chain.reverse()
    return chain


class AsStridedBackward0(Node):
    """A view replayed on a base that was written.

    `steps`: for each operator from the base on its node, which of its results the view takes (-1: the only one), and how
    many it has. The views themselves are not kept: they lead to the base, whose history this node belongs to.
    """

    __slots__ = ("steps",)

    def backward(self, g: Tensor) -> Any:
        for node, output, count in reversed(self.steps):
            if output >= 0:
                alone, g = g, [None] * count
                g[output] = alone
            g = node.backward(g)[0]
        return (g,)


def replay(base: Any, chain: Any) -> Node:
    """One node for all the operators that lead from a base to a view."""
    node = AsStridedBackward0.__new__(AsStridedBackward0)
    edge = edge_of(base)
    node.edges, node.hooks, node.order = (edge,), None, next(clock)
    node.steps = [(view.operator.apply.make_node((None,) * view.count, view.output >= 0, (view.parent,), (edge,), view.options),
                   view.output, view.count) for view in chain]
    return node


def tracked(tensor: Any) -> bool:
    """Whether a write to the tensor concerns the tape: it requires grad, or looks at the memory of a tensor that does."""
    view = tensor._view
    if view is None:
        return tensor._needs
    return tensor._needs or view.base._needs


def check_inplace(tensor: Any) -> None:
    """Refuse an in-place write that the tape could not follow, in PyTorch's words. Called while recording."""
    view = tensor._view
    if view is None:
        if tensor._needs and tensor._node is None:
            raise GradError("a leaf Variable that requires grad is being used in an in-place operation.")
        return
    refresh(tensor)
    chain = _chain(view)
    node = tensor._node
    result = "" if node is None else (f"Output {source_of(node)[1]} of {operator_name(source_of(node)[0])} is a view and "
                                      "is being modified inplace. ")
    if any(step.operator is None for step in chain):
        raise GradError((result or "A view is being modified inplace. ") + _CUSTOM)
    many = any(step.output >= 0 for step in chain)
    if many or not all(step.recorded for step in chain):
        without = "A view was created in no_grad mode and is being modified inplace with grad mode enabled. "
        recorded = all(step.recorded for step in chain)
        raise GradError(((result if recorded else "") or without) + (_MANY if many and recorded else _TWO_WAYS))
    if tensor._needs and view.base._node is None:
        raise GradError("a view of a leaf Variable that requires grad is being used in an in-place operation.")


class CopySlices(Node):
    """A base after one of its views was written: the view's region takes the new value's gradient, the rest the old one's.

    `path`: (operator, options) of the views from the base to the region. `layout`: an array whose strides are the base's.
    """

    __slots__ = ("layout", "path")

    def backward(self, g: Tensor) -> Any:
        from kernels.book import BOOK

        from .dispatch import store
        if modes.enabled:
            hole = np.ones(g._array.shape, bool)
            self._region(hole)[...] = False
            rest = BOOK["where"](wrap(hole, KIND_OF_NUMPY[hole.dtype]), g, g.new_zeros(()))
            for operator, options in self.path:
                g = _as_reshape(operator, BOOK)(g, **options)
            return rest, g
        rest = np.empty_like(self.layout, g._array.dtype)
        store(rest, g._array)
        part = self._region(rest)
        region = np.empty_like(part)
        store(region, part)
        store(part, np.zeros((), part.dtype))
        kind = KIND_OF_NUMPY[region.dtype]
        return (None if self.edges[0] is None else wrap(rest, g._kind)), wrap(region, kind)

    def _region(self, array: np.ndarray) -> np.ndarray:
        """The view's part of an array of the base's shape and strides."""
        for operator, options in self.path:
            array = operator.forward(array, **options)
        return array


def _as_reshape(operator, book):
    """A gradient need not have the base's strides, so what was a view may have to copy."""
    return book["reshape"] if operator.name == "view" else operator


def _layout(array: np.ndarray) -> np.ndarray:
    """An array of one element that claims another's shape and strides; only for `np.empty_like`."""
    return np.lib.stride_tricks.as_strided(np.empty(1, array.dtype), array.shape, array.strides)


def rebase(tensor: Any, node: Any) -> None:
    """Give a written tensor its new history; a view passes it on to its base."""
    view = tensor._view
    if view is None:
        _unwatch(tensor)
        tensor._node, tensor._needs = node, True
        if tensor._meta is not None and tensor._meta.retains:
            watch(tensor)
        return
    base = view.base
    scatter = CopySlices.__new__(CopySlices)
    scatter.edges = (edge_of(base), node)
    scatter.hooks, scatter.order = None, next(clock)
    scatter.path = [(step.operator, step.options) for step in _chain(view)]
    scatter.layout = _layout(base._array)
    rebase(base, scatter)
    refresh(tensor)


class Handle:
    """A written tensor's value before the write, for the operator that computes the new one.

    Operators get `tensor` in place of the written one. If a node kept it, `settle` gives it memory of its own, so that the
    write neither spoils the saved value nor closes a cycle (node -> saved tensor -> node).
    """

    __slots__ = ("cell", "written")

    def __init__(self, written: Any) -> None:
        value = wrap(written._array, written._kind)
        value._node, value._needs, value._counter = written._node, written._needs, written._counter
        if value._needs and value._node is None:
            value._needs = False                # a leaf under no_grad, or one whose write is refused
        self.written, self.cell = written, [value]
        del value

    def settle(self) -> None:
        """To be called after the operator and before the write."""
        if sys.getrefcount(self.cell[0]) > ALONE:
            from .dispatch import store
            old, written = self.cell[0], self.written
            old._array = np.empty_like(written._array)
            store(old._array, written._array)
            old._counter = [0 if written._counter is None else written._counter[0]]


_cell = [object()]
ALONE = sys.getrefcount(_cell[0])       # what getrefcount says of an object that one list holds


from .tensor import KIND_OF_NUMPY, wrap  # noqa: E402  (Tensor's methods need the tape, and nodes make tensors)
