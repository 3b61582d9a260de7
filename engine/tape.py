"""The tape: nodes that record operators, the reverse walk over them, grad modes and hooks.

A node is made by `engine.dispatch` when an operator runs on a tensor that requires grad. It points to the nodes of its inputs
(`edges`), never to its result, so a graph is freed by reference counts alone. An edge is a node, a leaf tensor, or None.
Every node has an `order`, smaller for later nodes, and edges always lead to earlier ones: a heap over it is a
topological order, and neither walking nor freeing recurses. In-place writes give a tensor a new node (`rebase`).
`engine.autograd` is the public face.
"""
from __future__ import annotations

import heapq
import itertools
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .errors import GradError

clock = itertools.count(0, -1)


class _Modes(threading.local):
    """Whether this thread records; every thread begins with recording on."""

    enabled = True
    inference = False


modes = _Modes()


# --- nodes ------------------------------------------------------------------------------------------------------------

class Node:
    """One recorded operation. Subclasses carry the names that PyTorch's `grad_fn` shows (AddBackward0, ...).

    edges: one per input; hooks: see `hooks_of`; source: the node itself (a Branch points to its node).
    `backward(g)` returns one gradient per edge (None where there is none).
    """

    __slots__ = ("__weakref__", "edges", "hooks", "order")
    saves = False

    def backward(self, g):
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
        hooks = hooks_of(self)
        hooks.metadata = {} if hooks.metadata is None else hooks.metadata
        return hooks.metadata

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object at {id(self):#x}>"


class Hooks:
    """What users attached to a node: tensor hooks (on its result's gradient), pre- and post-hooks, a retained gradient."""

    __slots__ = ("after", "before", "metadata", "retain", "tensor")

    def __init__(self):
        self.tensor: dict = {}
        self.before: dict = {}
        self.after: dict = {}
        self.retain = None          # weak reference to a tensor that keeps its gradient
        self.metadata = None


def hooks_of(node: Node) -> Hooks:
    if node.hooks is None:
        node.hooks = Hooks()
    return node.hooks


class Branch(Node):
    """One result of a node with several: collects this result's gradient and hands it on."""

    __slots__ = ("index",)

    def __init__(self, node: Node, index: int):
        self.edges, self.index, self.hooks, self.order = (node,), index, None, next(clock)

    @property
    def source(self) -> Node:
        return self.edges[0]


class AccumulateGrad(Node):
    """Stands for a leaf in `next_functions`; `variable` is the leaf."""

    __slots__ = ("variable",)

    def __init__(self, variable):
        self.variable, self.edges, self.hooks, self.order = variable, (), None, 0

    def register_hook(self, hook):
        return self.variable.register_post_accumulate_grad_hook(lambda leaf: hook((), (leaf._grad,)))


_accumulate_nodes: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def accumulate_node(leaf) -> AccumulateGrad:
    """The leaf's AccumulateGrad, the same object as long as somebody holds it."""
    known = _accumulate_nodes.get(leaf)
    node = known() if known is not None else None
    if node is None:
        node = AccumulateGrad(leaf)
        _accumulate_nodes[leaf] = weakref.ref(node)
    return node


class Removable:
    """Handle of a hook; `remove()` takes it away, and so does leaving a `with` block."""

    _ids = itertools.count()

    def __init__(self, hooks: dict, hook: Callable):
        if not callable(hook):
            raise TypeError(f"a hook must be callable, not {type(hook).__name__}")
        self.hooks, self.id = hooks, next(Removable._ids)
        hooks[self.id] = hook

    def remove(self) -> None:
        self.hooks.pop(self.id, None)

    def __enter__(self) -> Removable:
        return self

    def __exit__(self, *raised) -> None:
        self.remove()


def edge_of(tensor):
    """Where a gradient for this tensor goes: its node, the tensor itself for a leaf that requires grad, or None."""
    if tensor._view is not None:
        refresh(tensor)
    return tensor._node if tensor._node is not None else tensor if tensor._needs else None


# --- views and in-place writes ----------------------------------------------------------------------------------------

def refresh(tensor) -> None:
    """Renew the node of a view whose base was written in place since."""
    view = tensor._view
    parent = view.parent
    if parent._view is not None:
        refresh(parent)
    if parent._node is not view.seen:
        view.seen = parent._node
        if view.recorded or parent._needs:
            tensor._node = view.operator.apply.replay(parent, view, tensor)
            tensor._needs = parent._needs


def check_inplace(tensor) -> None:
    """Refuse an in-place write that the tape could not follow, in PyTorch's words. Called while recording."""
    if tensor._view is None:
        if tensor._needs and tensor._node is None:
            raise GradError("a leaf Variable that requires grad is being used in an in-place operation.")
        return
    refresh(tensor)
    view, base = tensor._view, tensor._base
    if base._needs and base._node is None:
        raise GradError("a view of a leaf Variable that requires grad is being used in an in-place operation.")
    if view.output >= 0:
        name = type(tensor.grad_fn).__name__ if tensor._node is not None else view.operator.node_name
        raise GradError(f"Output {view.output} of {name} is a view and is being modified inplace. This view is the output of a "
                        "function that returns multiple views. Such functions do not allow the output views to be modified "
                        "inplace. You should replace the inplace operation by an out-of-place one.")
    if not view.recorded:
        raise GradError("A view was created in no_grad mode and is being modified inplace with grad mode enabled. Given that "
                        "this use case is ambiguous and error-prone, it is forbidden. You can clarify your code by moving "
                        "both the view and the inplace either both inside the no_grad block (if you don't want the inplace "
                        "to be tracked) or both outside (if you want the inplace to be tracked).")


class CopySlices(Node):
    """A base after one of its views was written: the view's region takes the new value's gradient, the rest the old one's."""

    __slots__ = ("view",)

    def backward(self, g):
        operator, options = self.view
        region = operator(g, **options)
        rest = None
        if self.edges[0] is not None:
            if modes.enabled:
                hole = wrap(np.ones(g._array.shape, bool), _bool_kind())
                operator.forward(hole._array, **options)[...] = False
                from kernels.book import BOOK
                rest = BOOK["where"](hole, g, g.new_zeros(()))
            else:
                rest = g.clone()
                operator.forward(rest._array, **options)[...] = 0
        return rest, region


def _bool_kind():
    from . import dtypes
    from .tensor import KIND
    return KIND[dtypes.bool_]


def rebase(tensor, node) -> None:
    """Give a written tensor its new history; a view passes it on to its base."""
    view = tensor._view
    if view is None:
        tensor._node, tensor._needs = node, True
        return
    parent = view.parent
    scatter = CopySlices.__new__(CopySlices)
    scatter.edges = (edge_of(parent), node)
    scatter.hooks, scatter.order = None, next(clock)
    scatter.view = (view.operator, view.options)
    rebase(parent, scatter)
    refresh(tensor)


# --- hooks and retained gradients -------------------------------------------------------------------------------------

def register_hook(tensor, hook) -> Removable:
    if not tensor.requires_grad:
        raise GradError("cannot register a hook on a tensor that doesn't require gradient")
    if tensor._node is not None:
        return Removable(hooks_of(tensor._node).tensor, hook)
    from .tensor import meta_of
    meta = meta_of(tensor)
    meta.hooks = {} if meta.hooks is None else meta.hooks
    return Removable(meta.hooks, hook)


def watch(tensor) -> None:
    """Let the tensor's node put its gradient into `tensor.grad`."""
    hooks_of(tensor._node).retain = weakref.ref(tensor)


def _through(hooks: dict, g):
    """Pass a gradient through tensor hooks."""
    for hook in list(hooks.values()):
        answer = hook(g)
        if answer is not None:
            check_gradient(answer, g, "hook")
            g = answer
    return g


def check_gradient(answer, g, who: str) -> None:
    from .tensor import Tensor
    if not isinstance(answer, Tensor):
        raise TypeError(f"expected Variable, but {who} returned {type(answer).__name__}")
    if answer._array.shape != g._array.shape:
        raise GradError(f"{who} '{getattr(who, '__name__', who)}' has changed the size of value: "
                        f"{list(g.shape)} became {list(answer.shape)}")
    if answer._kind is not g._kind:
        raise GradError(f"{who} has changed the type of value: {g._kind} became {answer._kind}")


# --- the reverse walk -------------------------------------------------------------------------------------------------

def walk(roots: Sequence, gradients: Sequence, keep: bool, create: bool, wanted: dict | None = None,
         accumulate: bool = True) -> dict:
    """Send gradients from `roots` (edges) back through the graph.

    `wanted`: {node or id(leaf): position} of gradients to return instead of walking everywhere; otherwise every leaf's
    `.grad` accumulates. Returns {position: gradient}.
    """
    useful = _leading_to(roots, wanted) if wanted is not None else None
    before = modes.enabled
    modes.enabled = create
    try:
        return _walk(roots, gradients, keep, wanted, useful, accumulate)
    finally:
        modes.enabled = before


def _walk(roots, gradients, keep, wanted, useful, accumulate) -> dict:
    pending: dict = {}          # node -> gradient, or list of gradients for a node with several results
    leaves: dict = {}           # id -> (leaf, gradient)
    heap: list = []
    found: dict = {}
    push, pop = heapq.heappush, heapq.heappop

    def send(edge, g):
        if isinstance(edge, Node):
            known = pending.get(edge)
            if known is None:
                pending[edge] = g
                push(heap, (edge.order, edge))
            else:
                pending[edge] = known + g
        else:
            known = leaves.get(id(edge))
            leaves[id(edge)] = (edge, g if known is None else known[1] + g)

    for edge, g in zip(roots, gradients, strict=True):
        if edge is not None:
            send(edge, g)
    while heap:
        node = pop(heap)[1]
        g = pending.pop(node)
        several = g.__class__ is list
        hooks = node.hooks
        if hooks is not None:
            if not several and hooks.tensor:
                g = _through(hooks.tensor, g)
            kept = hooks.retain() if hooks.retain is not None else None
            if kept is not None and accumulate:
                kept._grad = g if kept._grad is None else kept._grad + g
        if wanted is not None:
            position = wanted.get(node)
            if position is not None:
                found[position] = g
            if node not in useful:
                continue
        if node.__class__ is Branch:
            target = node.edges[0]
            slots = pending.get(target)
            if slots is None:
                slots = pending[target] = [None] * target.results
                push(heap, (target.order, target))
            slots[node.index] = g
            continue
        if hooks is not None and hooks.before:
            g = _before(hooks, g, several)
        results = node.backward(g)
        if hooks is not None and hooks.after:
            results = _after(hooks, results, g, several)
        if not keep:
            node.release()
        for edge, result in zip(node.edges, results, strict=True):
            if result is None or edge is None:
                continue
            if edge.__class__ is Branch or isinstance(edge, Node):
                known = pending.get(edge)
                if known is None:
                    pending[edge] = result
                    push(heap, (edge.order, edge))
                else:
                    pending[edge] = known + result
            else:
                known = leaves.get(id(edge))
                leaves[id(edge)] = (edge, result if known is None else known[1] + result)
    for leaf, g in leaves.values():
        meta = leaf._meta
        if meta is not None and meta.hooks:
            g = _through(meta.hooks, g)
        if wanted is not None:
            position = wanted.get(id(leaf))
            if position is not None:
                found[position] = g
        if accumulate and (wanted is None or id(leaf) in wanted):
            _accumulate(leaf, g)
            if meta is not None and meta.after_hooks:
                for hook in list(meta.after_hooks.values()):
                    hook(leaf)
    return found


def _before(hooks: Hooks, g, several: bool):
    for hook in list(hooks.before.values()):
        answer = hook(tuple(g) if several else (g,))
        if answer is not None:
            g = list(answer) if several else answer[0]
    return g


def _after(hooks: Hooks, results, g, several: bool):
    for hook in list(hooks.after.values()):
        answer = hook(tuple(results), tuple(g) if several else (g,))
        if answer is not None:
            results = answer if isinstance(answer, (tuple, list)) else (answer,)
    return results


def _accumulate(leaf, g) -> None:
    """Add a gradient to `leaf.grad`; the first one is copied unless it is a plain array of its own."""
    held = leaf._grad
    if held is None:
        if modes.enabled and g._needs:
            leaf._grad = g
            return
        array = g._array
        if array.__class__ is np.ndarray and (array.base is not None or not array.flags.c_contiguous or _shared(g)):
            g = wrap(np.array(array, order="C"), g._kind)
        else:
            g = wrap(array, g._kind)
        leaf._grad = g
    elif modes.enabled:
        leaf._grad = held + g
    else:
        held.add_(g)


def _shared(g) -> bool:
    """Whether anybody else may hold this gradient's array (another leaf, a hook, the caller's `gradient=`)."""
    import sys
    return sys.getrefcount(g) > 5 or sys.getrefcount(g._array) > 3


def _leading_to(roots, wanted: dict) -> set:
    """The nodes from which a wanted node or leaf can be reached."""
    useful: set = set()
    reached: dict = {}
    stack = [(r, False) for r in roots if isinstance(r, Node)]
    while stack:
        node, done = stack.pop()
        if done:
            hit = False
            for edge in node.edges:
                if edge is None:
                    continue
                if isinstance(edge, Node):
                    hit = hit or edge in wanted or reached.get(edge, False)
                else:
                    hit = hit or id(edge) in wanted
            reached[node] = hit
            if hit:
                useful.add(node)
        elif node not in reached:
            reached[node] = False
            stack.append((node, True))
            stack.extend((e, False) for e in node.edges if isinstance(e, Node) and e not in reached)
    return useful


# --- entry points -----------------------------------------------------------------------------------------------------

def backward(tensors, gradients=None, retain_graph=None, create_graph=False, inputs=None) -> None:
    """`autograd.backward`: accumulate gradients into leaves."""
    tensors, gradients = _roots(tensors, gradients)
    wanted = None
    if inputs is not None:
        inputs = _sequence(inputs)
        if not inputs:
            raise RuntimeError("'inputs' argument to backward() cannot be empty.")
        wanted = {}
        for k, t in enumerate(inputs):
            wanted[_key(t)] = k
    keep = create_graph if retain_graph is None else retain_graph
    found = walk([edge_of(t) for t in tensors], gradients, keep, create_graph, wanted)
    if inputs is not None:
        for k, t in enumerate(inputs):
            if t._node is not None and k in found:
                t._grad = found[k] if t._grad is None else t._grad + found[k]


def grad(outputs, inputs, grad_outputs=None, retain_graph=None, create_graph=False, allow_unused=None,
         is_grads_batched=False, materialize_grads=False) -> tuple:
    """Gradients of `outputs` with respect to `inputs`, without touching `.grad`.

    Shapes and dtypes are those of `inputs`; None where an input is unused and `allow_unused`. Errors: RuntimeError as in PyTorch.
    """
    inputs = _sequence(inputs)
    if materialize_grads and allow_unused is False:
        raise ValueError("Expected allow_unused to be True or not passed when materialize_grads=True, but got: "
                         "allow_unused=False.")
    allow_unused = materialize_grads if allow_unused is None else allow_unused
    if is_grads_batched:
        batch = [g for g in _sequence(grad_outputs)]
        rows = [grad(outputs, inputs, [g[k] for g in batch], True, create_graph, allow_unused,
                     materialize_grads=materialize_grads) for k in range(batch[0].shape[0])]
        from .functions import shape
        return tuple(None if column[0] is None else shape.stack(column) for column in zip(*rows, strict=True))
    outputs, gradients = _roots(outputs, grad_outputs)
    keep = create_graph if retain_graph is None else retain_graph
    wanted: dict[Any, int] = {}
    for k, t in enumerate(inputs):
        if not t.requires_grad:
            raise GradError("One of the differentiated Tensors does not require grad")
        wanted.setdefault(_key(t), k)
    found = walk([edge_of(t) for t in outputs], gradients, keep, create_graph, wanted, accumulate=False)
    results = []
    for t in inputs:
        g = found.get(wanted[_key(t)])
        if g is None and not allow_unused:
            raise GradError("One of the differentiated Tensors appears to not have been used in the graph. Set allow_unused=True "
                            "if this is the desired behavior.")
        if g is None and materialize_grads:
            g = t.new_zeros(t.shape)
        results.append(g)
    return tuple(results)


def _key(tensor):
    """What `wanted` knows a tensor by: its node, or its id for a leaf."""
    edge = edge_of(tensor)
    return edge if isinstance(edge, Node) else id(tensor)


def _sequence(tensors) -> tuple:
    from .tensor import Tensor
    return (tensors,) if isinstance(tensors, Tensor) or tensors is None else tuple(tensors)


def _roots(tensors, gradients) -> tuple[tuple, list]:
    """Check and complete the cotangents of the tensors to differentiate."""
    from .tensor import Tensor
    tensors = _sequence(tensors)
    gradients = (None,) * len(tensors) if gradients is None else _sequence(gradients)
    if len(gradients) != len(tensors):
        raise RuntimeError(f"got {len(tensors)} tensors and {len(gradients)} gradients")
    complete = []
    for k, (t, g) in enumerate(zip(tensors, gradients, strict=True)):
        if not t.requires_grad:
            raise GradError(f"element {k} of tensors does not require grad and does not have a grad_fn")
        if g is None:
            if t._array.size != 1:
                raise GradError("grad can be implicitly created only for scalar outputs")
            if t._kind.dtype.is_complex:
                raise GradError("grad can be implicitly created only for real scalar outputs but got "
                                f"{t._kind.dtype}")
            g = wrap(np.ones(t._array.shape, t._kind.numpy), t._kind) if isinstance(t._array, np.ndarray) else t.new_ones(t.shape)
        elif not isinstance(g, Tensor):
            raise TypeError(f"gradients can be either Tensors or None, but got {type(g).__name__}")
        elif g._array.shape != t._array.shape:
            raise GradError(f"Mismatch in shape: grad_output[{k}] has a shape of {g.shape} and output[{k}] has a shape of "
                            f"{t.shape}.")
        elif g._kind.dtype.is_complex != t._kind.dtype.is_complex:
            raise GradError(f"For complex Tensors, both grad_output and output are required to have the same dtype. Mismatch in "
                            f"dtype: grad_output[{k}] has a dtype of {g.dtype} and output[{k}] has a dtype of {t.dtype}.")
        elif g._kind is not t._kind:
            g = g.to(t._kind.dtype)
        complete.append(g)
    return tensors, complete


from .tensor import wrap  # noqa: E402  (Tensor's methods need the tape, and the walk makes tensors)
