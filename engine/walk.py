"""The reverse walk: from tensors and their cotangents back through the tape, to leaves or to the tensors asked for.

`backward` and `grad` here are what `Tensor.backward` and `engine.autograd` call. The walk is a loop over a heap of nodes, later
ones first, so that a node is reached when all its gradients are there; graphs of any depth walk without recursion.
"""
from __future__ import annotations

import heapq
import operator
import sys
import threading
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from kernels.book import BOOK
from kernels.cpu import buffers

from . import anomaly, dispatch
from .errors import GradError
from .tape import ALONE, Branch, Hooks, Node, edge_of, modes, source_of
from .tensor import KIND_OF_NUMPY, Tensor, wrap

ADD = BOOK["add"]
_leaf_lock = threading.RLock()          # two threads may bring gradients to one leaf
_cell = wrap(np.empty((2, 2))[0], KIND_OF_NUMPY[np.dtype(float)])
ALONE_ARRAY = sys.getrefcount(_cell._array)             # what getrefcount says of an array that one tensor holds
ALONE_BASE = sys.getrefcount(_cell._array.base)         # and of an array that one view holds


# --- the walk ---------------------------------------------------------------------------------------------------------

def walk(roots: Sequence, gradients: Sequence, keep: bool, create: bool, wanted: dict | None = None,
         accumulate: bool = True) -> dict:
    """Send gradients from `roots` (edges) back through the graph.

    `wanted`: {edge's key: position} of gradients to return (see `_key`), walking only where they are; otherwise every
    leaf's `.grad` accumulates. Returns {position: gradient}.
    """
    useful = None
    asked: dict = {}
    if wanted is not None:
        for key, position in wanted.items():
            if key.__class__ is tuple:
                asked.setdefault(key[0], []).append((key[1], position))
            else:
                asked[key] = position
        useful = _leading_to(roots, asked)
    before = modes.enabled
    modes.enabled = create
    try:
        return _walk(roots, gradients, keep, asked, useful, accumulate)
    finally:
        modes.enabled = before


def _walk(roots, gradients, keep, asked, useful, accumulate) -> dict:
    pending: dict = {}          # node -> gradient, or list of gradients for a node with several results
    leaves: dict = {}           # id of a leaf -> [leaf, gradient]
    heap: list = []
    found: dict = {}
    push, pop, plus = heapq.heappush, heapq.heappop, operator.add if modes.enabled else _plus
    edges, results = roots, gradients
    node = None
    while True:
        for edge, g in zip(edges, results, strict=True):
            if g is None or edge is None:
                continue
            if edge.__class__ is Branch:
                target, index = edge.edges[0], edge.index
                if useful is not None and target not in useful and target not in asked:
                    continue
                slots = pending.get(target)
                if slots is None:
                    slots = pending[target] = [None] * target.results
                    push(heap, (target.order, target))
                slots[index] = g if slots[index] is None else plus(slots[index], g)
            elif isinstance(edge, Node):
                if useful is not None and edge not in useful and edge not in asked:
                    continue
                known = pending.get(edge)
                if known is None:
                    pending[edge] = g
                    push(heap, (edge.order, edge))
                else:
                    pending[edge] = plus(known, g)
            elif useful is None or id(edge) in asked:
                known = leaves.get(id(edge))
                if known is None:
                    leaves[id(edge)] = [edge, g]
                else:
                    known[1] = plus(known[1], g)
        if not heap:
            break
        node = pop(heap)[1]
        g = pending.pop(node)
        hooks = node.hooks
        if hooks is not None and (hooks.tensor or hooks.retain):
            g = _arrive(hooks, g)
        if useful is not None:
            for index, position in asked.get(node, ()):
                found[position] = g[index] if g.__class__ is list else g
            if node not in useful:
                edges = results = ()
                continue
        if hooks is not None and hooks.before:
            g = _before(hooks, g)
        edges = node.edges
        results = node.backward(g) if not anomaly.state.enabled else anomaly.run(node, g)
        if hooks is not None and hooks.after:
            results = _after(hooks, results, g)
        if not keep:
            node.release()
    edge = g = known = slots = results = gradients = None       # so that `_accumulate` sees who else holds a gradient
    for entry in leaves.values():
        _finish(entry, asked, useful, found, accumulate)
    return found


def _plus(a: Tensor, b: Tensor) -> Tensor:
    """The sum of two gradients, unrecorded."""
    kind, array = a._kind, a._array
    if kind is not b._kind or array.size >= dispatch.LARGE:
        return a + b
    return wrap(ADD.apply.loops[kind][0](array, b._array, out=...), kind)


def _finish(entry: list, asked: dict, useful, found: dict, accumulate: bool) -> None:
    """The end of the walk for one leaf: its hooks, the gradient asked for or its accumulation."""
    leaf = entry[0]
    meta = leaf._meta
    own: Hooks | None = None
    if meta is not None:
        own = meta.accumulator[0] if meta.accumulator is not None else None
        if meta.hooks:
            entry[1] = _through(meta.hooks.values(), entry[1])
    if useful is not None:
        position = asked.get(id(leaf))
        if position is not None:
            found[position] = entry[1]
    if not accumulate:
        return
    if own is not None and own.before:
        entry[1] = _before(own, entry[1])
    with _leaf_lock:
        _accumulate(leaf, entry)
    if meta is not None and meta.after_hooks:
        for hook in list(meta.after_hooks.values()):
            hook(leaf)
    if own is not None:
        for hook in list(own.after.values()):
            hook((), (entry[1],))


def _accumulate(leaf: Tensor, entry: list) -> None:
    """Add the gradient `entry[1]` to `leaf.grad`. The first one is taken as it is if nobody else holds it, else copied."""
    held = leaf._grad
    if modes.enabled:
        leaf._grad = BOOK["clone"](entry[1]) if held is None else held + entry[1]
    elif held is not None:
        held.add_(entry[1])
    elif sys.getrefcount(entry[1]) <= ALONE and _own_memory(entry[1], leaf._array):
        leaf._grad = entry[1]
    else:
        g = entry[1]
        if isinstance(g._array, np.ndarray):
            made = np.empty_like(leaf._array, g._kind.numpy)
            dispatch.store(made, g._array)
            leaf._grad = wrap(made, g._kind)
        else:
            leaf._grad = g.detach().clone()


def _own_memory(g: Tensor, like) -> bool:
    """Whether nobody else holds the memory of a gradient, and its order is the leaf's (or row-major, as the leaf)."""
    if sys.getrefcount(g._array) > ALONE_ARRAY or g._needs or g._view is not None:
        return False
    array = g._array
    if not ((array.flags.c_contiguous and like.flags.c_contiguous) or array.strides == like.strides):
        return False
    if array.base is None or buffers.owns(array):
        return True
    # a view is as good if its base is whole and held by it alone
    return (isinstance(array.base, np.ndarray) and sys.getrefcount(array.base) <= ALONE_BASE
            and not isinstance(array.base.base, np.ndarray) and array.base.nbytes <= 2 * array.nbytes)


# --- hooks ------------------------------------------------------------------------------------------------------------

def _arrive(hooks: Hooks, g):
    """Tensor hooks and retained gradients of a node's results, when all of the gradient is there."""
    several = g.__class__ is list
    for (index, _), hook in list(hooks.tensor.items()):
        one = g[index] if several else g
        if one is not None:
            one = _through((hook,), one)
            if several:
                g[index] = one
            else:
                g = one
    for index, reference in list(hooks.retain.items()):
        tensor, one = reference(), g[index] if several else g
        if tensor is not None and one is not None:
            if tensor._grad is None:
                tensor._grad = one if modes.enabled else one.clone()
            else:
                tensor._grad = tensor._grad + one
    return g


def _through(hooks, g):
    """Pass a gradient through tensor hooks."""
    for hook in list(hooks):
        answer = hook(g)
        if answer is not None:
            check_gradient(answer, g, hook)
            g = answer
    return g


def check_gradient(answer, g: Tensor, hook) -> None:
    """Refuse a hook's answer that cannot stand for the gradient; TypeError or GradError."""
    name = getattr(hook, "__name__", type(hook).__name__)
    if not isinstance(answer, Tensor):
        raise TypeError(f"expected Variable, but hook returned '{type(answer).__name__}'")
    if answer._kind is not g._kind:
        raise GradError(f"hook '{name}' has changed the type of value (was engine.{g._kind.dtype.legacy} got "
                        f"engine.{answer._kind.dtype.legacy})")
    if answer._array.shape != g._array.shape:
        raise GradError(f"hook '{name}' has changed the size of value: {list(g.shape)} became {list(answer.shape)}")


def _before(hooks: Hooks, g):
    several = g.__class__ is list
    for hook in list(hooks.before.values()):
        answer = hook(tuple(g) if several else (g,))
        if answer is not None:
            answer = _answer(answer, len(g) if several else 1, hook)
            g = list(answer) if several else answer[0]
    return g


def _after(hooks: Hooks, results, g):
    for hook in list(hooks.after.values()):
        answer = hook(tuple(results), tuple(g) if g.__class__ is list else (g,))
        if answer is not None:
            results = _answer(answer, len(results), hook)
    return results


def _answer(answer, count: int, hook) -> Sequence:
    answer = (answer,) if isinstance(answer, Tensor) else answer
    name = getattr(hook, "__name__", type(hook).__name__)
    if not isinstance(answer, (tuple, list)):
        raise TypeError(f"expected Variable or tuple of them, but hook '{name}' returned '{type(answer).__name__}'")
    if len(answer) != count:
        raise GradError(f"hook '{name}' has returned an incorrect number of values (got {len(answer)}, but expected {count})")
    return answer


# --- what leads to the wanted gradients ---------------------------------------------------------------------------------

def _leading_to(roots, asked: dict) -> set:
    """The nodes from which a wanted node or leaf can be reached, the wanted ones only if they lead to another."""
    useful: set = set()
    known: set = set()
    stack = [(source_of(r)[0], False) for r in roots if isinstance(r, Node)]
    while stack:
        node, done = stack.pop()
        if done:
            for edge in node.edges:
                if isinstance(edge, Node):
                    edge = source_of(edge)[0]
                    if edge in asked or edge in useful:
                        useful.add(node)
                        break
                elif edge is not None and id(edge) in asked:
                    useful.add(node)
                    break
        elif node not in known:
            known.add(node)
            stack.append((node, True))
            for edge in node.edges:
                if isinstance(edge, Node):
                    edge = source_of(edge)[0]
                    if edge not in known:
                        stack.append((edge, False))
    return useful


# --- entry points -----------------------------------------------------------------------------------------------------

def backward(tensors: Any, grad_tensors: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
             inputs: Any = None) -> None:
    """Accumulate the gradients of `tensors` into `.grad` of the leaves, or of `inputs` only.

    `grad_tensors`: the cotangents, in the shapes of `tensors`; None for real tensors of one element. The graph is freed unless
    `retain_graph` (default: `create_graph`). Errors: RuntimeError as in PyTorch.
    """
    wanted = None
    if inputs is not None:
        inputs = _sequence(inputs)
        if not inputs:
            raise RuntimeError("`inputs` argument to `backward()` cannot be empty.")
        wanted = {}
        for k, t in enumerate(inputs):
            t = _checked(t, "inputs")
            if not t.requires_grad:
                raise GradError("can't retain_grad on Tensor that has requires_grad=False")
            wanted[_key(t)] = k
    tensors, gradients = _roots(tensors, grad_tensors)
    keep = create_graph if retain_graph is None else retain_graph
    roots = [edge_of(t) for t in tensors]
    found = walk(roots, gradients, keep, create_graph, wanted)
    for k, t in enumerate(inputs or ()):
        if t._node is not None and k in found and not t.retains_grad:
            g = found[k]
            t._grad = (g if create_graph else g.clone()) if t._grad is None else t._grad + g


def grad(outputs: Any, inputs: Any, grad_outputs: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
         allow_unused: bool | None = None, is_grads_batched: bool = False, materialize_grads: bool = False,
         only_inputs: bool = True) -> tuple:
    """Gradients of `outputs` with respect to `inputs`, without touching `.grad`.

    Shapes and dtypes are those of `inputs`; None where an input is unused and `allow_unused`, zeros with `materialize_grads`.
    `is_grads_batched`: `grad_outputs` have one more dimension in front, and so have the results. Errors: RuntimeError as
    in PyTorch.
    """
    if not only_inputs:
        warnings.warn("only_inputs argument is deprecated and is ignored now (defaults to True). To accumulate gradient "
                      "for other parts of the graph, please use torch.autograd.backward.", FutureWarning, stacklevel=2)
    inputs = _sequence(inputs)
    if materialize_grads and allow_unused is False:
        raise ValueError("Expected allow_unused to be True or not passed when materialize_grads=True, but got: "
                         "allow_unused=False.")
    allow_unused = materialize_grads if allow_unused is None else allow_unused
    if is_grads_batched:
        return _batched(outputs, inputs, grad_outputs, create_graph, allow_unused, materialize_grads)
    outputs, gradients = _roots(outputs, grad_outputs)
    keep = create_graph if retain_graph is None else retain_graph
    wanted: dict[Any, int] = {}
    for k, t in enumerate(inputs):
        if not _checked(t, "inputs").requires_grad:
            raise GradError("One of the differentiated Tensors does not require grad")
        wanted.setdefault(_key(t), k)
    found = walk([edge_of(t) for t in outputs], gradients, keep, create_graph, wanted, accumulate=False)
    results = []
    for k, t in enumerate(inputs):
        g = found.get(wanted[_key(t)])
        if g is None and not allow_unused:
            raise GradError(f"The differentiated Tensor at index {k} appears to not have been used in the graph. Set "
                            "allow_unused=True if this is the desired behavior.")
        if g is None and materialize_grads:
            g = t.new_zeros(t.shape)
        results.append(g)
    return tuple(results)


def _batched(outputs, inputs, grad_outputs, create_graph, allow_unused, materialize_grads) -> tuple:
    """One walk per row of the cotangents, the results stacked."""
    from .functions.registry import PUBLIC
    batch = _sequence(grad_outputs)
    outputs = _sequence(outputs)
    for k, (g, t) in enumerate(zip(batch, outputs, strict=False)):
        if g is not None and g._array.shape[1:] != t._array.shape:
            raise GradError("If `is_grads_batched=True`, we interpret the first dimension of each grad_output as the batch "
                            "dimension. "
                            "The sizes of the remaining dimensions are expected to match the shape of corresponding "
                            "output, but a "
                            f"mismatch was detected: grad_output[{k}] has a shape of {g.shape} and output[{k}] has a shape of "
                            f"{t.shape}.")
    count = next(g._array.shape[0] for g in batch if g is not None)
    rows = [grad(outputs, inputs, [None if g is None else g[k] for g in batch], True, create_graph, allow_unused,
                 materialize_grads=materialize_grads) for k in range(count)]
    return tuple(None if column[0] is None else PUBLIC["stack"](column) for column in zip(*rows, strict=True))


def _key(tensor: Tensor):
    """What the walk knows a tensor by: its node and result's number, or its id for a leaf."""
    edge = edge_of(tensor)
    return source_of(edge) if isinstance(edge, Node) else id(tensor)


def _sequence(tensors) -> tuple:
    return (tensors,) if isinstance(tensors, Tensor) or tensors is None else tuple(tensors)


def _checked(tensor, what: str) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"all {what} have to be Tensors, but got {type(tensor).__name__}")
    return tensor


def _roots(tensors, gradients) -> tuple[tuple, list]:
    """Check and complete the cotangents of the tensors to differentiate."""
    tensors = _sequence(tensors)
    gradients = (None,) * len(tensors) if gradients is None else _sequence(gradients)
    if len(gradients) != len(tensors):
        raise RuntimeError(f"got {len(tensors)} tensors and {len(gradients)} gradients")
    complete = []
    for k, (t, g) in enumerate(zip(tensors, gradients, strict=True)):
        if not _checked(t, "outputs").requires_grad:
            raise GradError(f"element {k} of tensors does not require grad and does not have a grad_fn")
        if g is None:
            if t._array.size != 1:
                raise GradError("grad can be implicitly created only for scalar outputs")
            if t._kind.dtype.is_complex:
                raise GradError(f"grad can be implicitly created only for real scalar outputs but got {t._kind.dtype}")
            if isinstance(t._array, np.ndarray):
                g = wrap(np.empty(t._array.shape, t._kind.numpy), t._kind)
                g._array.fill(1)
            else:
                g = t.new_ones(t.shape)
        elif not isinstance(g, Tensor):
            raise TypeError(f"gradients can be either Tensors or None, but got {type(g).__name__}")
        elif g._array.shape != t._array.shape:
            raise GradError(f"Mismatch in shape: grad_output[{k}] has a shape of {g.shape} and output[{k}] has a shape of "
                            f"{t.shape}.")
        elif g._kind.dtype.is_complex != t._kind.dtype.is_complex:
            raise GradError("For complex Tensors, both grad_output and output are required to have the same dtype. Mismatch in "
                            f"dtype: grad_output[{k}] has a dtype of {g.dtype} and output[{k}] has a dtype of {t.dtype}.")
        elif g._kind is not t._kind:
            g = dispatch.cast(g, t._kind)
        complete.append(g)
    return tensors, complete
