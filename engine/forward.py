"""Forward mode: tangents pushed along the tape, from the tensors that carry them to results.

The tape that reverse mode walks back is walked forward here, oldest node first. A pointwise node multiplies tangents with its
partials (the gradient formula with a tangent in the cotangent's place); a linear one runs its operator on the tangent; a custom
Function with a `jvp` runs that; any other is linear in its cotangent, so its backward pass, differentiated with
respect to the cotangent, gives the tangent of its result exactly ("double
backward": J. Townsend, 2017). Tangents are made of ordinary operators, so they are recorded and differentiate again, and since
each push begins at its own leaves no levels of nested derivatives can mix. Used by `engine.func` and `engine.autograd.forward_ad`.
"""
from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator, Sequence

import numpy as np

from kernels.book import BOOK, Fold, Structural

from . import dtypes
from .casts import ToCopyBackward0, cast
from .errors import GradError
from .general import GeneralCaller, GeneralNode
from .pointwise import PointwiseNode, evaluate
from .saved import FREED, FREED_TEXT, alias, changed, version_of
from .tape import AsStridedBackward0, CopySlices, Node, edge_of, modes, source_of
from .tensor import Kind, Tensor
from .views import ViewNode
from .walk import _key, _leading_to, grad
from .writes import CopyBackwards


def push(outputs: Sequence[Tensor], inputs: Sequence[Tensor], tangents: Sequence[Tensor]) -> list[Tensor | None]:
    """Tangents of `outputs` when `inputs` (leaves or recorded tensors) move along `tangents`; None where nothing moves.

    The graph is kept. Recorded while grad mode is on.
    """
    moving: dict = {}               # (node, result's number) or id of a leaf -> tangent
    asked: dict = {}
    for t, tangent in zip(inputs, tangents, strict=True):
        tangent = tangent if tangent._kind is t._kind else cast(tangent, t._kind)
        key = _key(t)
        moving[key] = tangent if key not in moving else moving[key] + tangent
        asked[key[0] if key.__class__ is tuple else key] = True
    roots = [edge_of(t) for t in outputs]
    useful = _leading_to([r for r in roots if r is not None], asked)
    shapes = _shapes(useful, outputs)
    for node in sorted(useful, key=lambda n: -n.order):
        if any((node, k) in moving for k in range(getattr(node, "results", 1))):
            continue                # an input: what led to it does not count
        found = [None if e is None else moving.get(_edge_key(e)) for e in node.edges]
        if all(t is None for t in found):
            continue
        for k, tangent in enumerate(_through(node, found, shapes)):
            if tangent is not None:
                moving[node, k] = tangent
    return [None if r is None else moving.get(_edge_key(r)) for r in roots]


def _edge_key(edge):
    return source_of(edge) if isinstance(edge, Node) else id(edge)


def _shapes(nodes, outputs) -> dict:
    """Shapes of results as far as the nodes that read them, or the outputs, say."""
    shapes: dict = {}
    for node in nodes:
        if isinstance(node, PointwiseNode):
            for edge, shape in zip(node.edges, node.shapes, strict=False):
                if isinstance(edge, Node):
                    shapes[source_of(edge)] = shape
        elif isinstance(node, ViewNode) and isinstance(node.edges[0], Node):
            shapes[source_of(node.edges[0])] = node.shape
    for t in outputs:
        edge = edge_of(t)
        if isinstance(edge, Node):
            shapes[source_of(edge)] = t._array.shape
    return shapes


# --- one node ---------------------------------------------------------------------------------------------------------

def _through(node: Node, tangents: list, shapes: dict) -> list:
    """Tangents of a node's results."""
    if isinstance(node, PointwiseNode):
        return [_pointwise(node, tangents)]
    if isinstance(node, ViewNode) and tangents[0] is not None:
        result = _viewed(node.caller.op, tangents[0], node.options)
        return list(result) if isinstance(result, tuple) else [result]
    if isinstance(node, GeneralNode):
        op = node.caller.op
        if isinstance(op, Structural) and op.linear and len(node.edges) == 1:
            result = op([tangents[0]], **node.options) if op.many else op(tangents[0], **node.options)
            return list(result) if isinstance(result, tuple) else [result]
        if node.caller.pushes:
            return node.push(tangents)
    if isinstance(node, ToCopyBackward0):
        return [cast(tangents[0], node.target)]
    if isinstance(node, AsStridedBackward0):
        moved = tangents[0]
        for step, output, _ in node.steps:
            moved = _viewed(step.caller.op, moved, step.options)
            moved = moved[output] if output >= 0 else moved
        return [moved]
    if isinstance(node, CopyBackwards):         # the old value is gone, and its tangent with it
        return [tangents[1]]
    if isinstance(node, CopySlices):
        return [_put(node, *tangents)]
    own = getattr(node, "_forward_cls", None)
    if own is not None and own.jvp is not _custom().jvp:
        return _by_formula(node, own, tangents)
    return _transposed(node, tangents, shapes)


def _viewed(operator: Structural, tangent: Tensor, options: dict):
    """A view's operator on a tangent, which need not have the strides of its primal."""
    return (BOOK["reshape"] if operator.name == "view" else operator)(tangent, **options)


def _put(node: CopySlices, base: Tensor | None, part: Tensor | None) -> Tensor:
    """The base's tangent with the written region's in its place."""
    from .functions.registry import PUBLIC
    if base is None:
        made = PUBLIC["zeros"](node.layout.shape, dtype=part.dtype)
    else:
        made = BOOK["clone"](base).contiguous()
    region = made
    for operator, options in node.path:
        region = operator(region, **options)
    if part is None:
        region.zero_()
    else:
        region.copy_(part)
    return made


def _custom():
    from .autograd.function import Function
    return Function


def _by_formula(node, own, tangents: list) -> list:
    """A custom Function's own `jvp(ctx, *tangents)`: zeros for tensors that do not move, None for what is no tensor."""
    from .functions.registry import PUBLIC
    given: list = [None] * len(node.needs_input_grad)
    for place, tangent, (shape, kind) in zip(node._slots, tangents, node._inputs, strict=True):
        if tangent is None and node.materialize_grads and kind.dtype.category >= 2:
            tangent = PUBLIC["zeros"](shape, dtype=kind.dtype)
        given[place] = tangent
    kept = node._kept
    if "saved_for_forward" in node.__dict__:            # these are the `saved_tensors` that the formula sees
        node._kept = tuple([None if t is None else (t, None, t._version, t._node) for t in node.saved_for_forward])
    try:
        answer = own.jvp(node, *given)
    finally:
        node._kept = kept
    answer = answer if isinstance(answer, tuple) else (answer,)
    if len(answer) != len(node._shapes):
        raise RuntimeError(f"{own.__name__}.jvp returned an incorrect number of forward gradients (expected "
                           f"{len(node._shapes)}, got {len(answer)})")
    found = []
    for k, (t, (shape, kind)) in enumerate(zip(answer, node._shapes, strict=True)):
        if t is not None and not isinstance(t, Tensor):
            raise RuntimeError(f"{own.__name__}.jvp: expected Tensor or None at position {k}, got {type(t).__name__}")
        if t is not None and t._array.shape != shape:
            raise RuntimeError(f"{own.__name__}.jvp: an output's tangent must have its shape {list(shape)}, got {list(t.shape)}")
        found.append(t if t is None or kind.dtype.category >= 2 else None)
    return found


def _pointwise(node: PointwiseNode, tangents: list) -> Tensor:
    plan, saved = node.plan, node.saved
    if plan.keeps_any:
        if saved is FREED:
            raise GradError(FREED_TEXT)
        if version_of(saved) != node.version:
            raise changed(node, saved, node.version)
    op = plan.op
    shape = np.broadcast_shapes(*node.shapes)
    divisor = getattr(node, "divisor", None)            # not None: the node also sums (0) or averages its results
    is_complex = node.kind.dtype.is_complex
    if _made_kind(node).dtype.is_complex != is_complex or (is_complex and (op.adjoint is not None or op.partials is None)):
        return _transposed(node, tangents, {})[0]
    values = dict(zip(op.inputs, saved, strict=False))
    if plan.keeps_out:
        out = alias(saved[-1])
        if modes.enabled:
            out._node, out._needs = node, True
        values["out"] = out
    total = None
    slopes = () if modes.enabled else saved[len(node.shapes) + 1:]      # what a user's kernel has given with its value
    for n, (e, k) in enumerate(zip(plan.expressions, plan.places, strict=True)):
        t = tangents[k]
        if t is None:
            continue
        if slopes:
            part = BOOK["mul"](t, slopes[n])
        else:
            values["g"] = t.conj() if is_complex else t
            part = evaluate(e, values)
            part = part.conj() if is_complex else part
        total = part if total is None else total + part
    if total is None:
        return None
    if total._array.shape != shape:
        total = BOOK["expand"](total, shape=shape)
    if divisor is None:
        return total
    total = BOOK["sum"](total, dims=None, keepdim=False)
    return BOOK["div"](total, divisor) if divisor else total


def _made_kind(node: PointwiseNode) -> Kind:
    """The kind of a pointwise node's result."""
    return node.kind.kin[dtypes.by_name(node.plan.op.result(node.kind.dtype.name))]


def _transposed(node: Node, tangents: list, shapes: dict) -> list:
    """The backward pass is linear in the cotangent: its transpose carries tangents forward."""
    from .functions.registry import PUBLIC
    count = getattr(node, "results", 1)
    before = modes.enabled
    modes.enabled = True
    try:
        probes = []
        for k in range(count):
            found = _result(node, k, tangents, shapes)
            probes.append(None if found is None else PUBLIC["zeros"](found[0], dtype=found[1].dtype).requires_grad_())
        known = [p for p in probes if p is not None]
        if not known:
            return [None] * count
        g = probes if _several(node) else probes[0]
        gradients = node.backward(list(g) if g.__class__ is list else g)
        pairs = [(b, t) for b, t in zip(gradients, tangents, strict=False) if b is not None and t is not None and b.requires_grad]
        if not pairs:
            return [None] * count
        found = iter(grad([b for b, _ in pairs], known, [t for _, t in pairs], create_graph=before, allow_unused=True))
        return [None if p is None else next(found) for p in probes]
    finally:
        modes.enabled = before


def _several(node: Node) -> bool:
    return getattr(node, "several", getattr(node, "results", 1) > 1)


# --- shapes of results ------------------------------------------------------------------------------------------------

_made: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()          # node -> [(shape, kind) of each result]
_watchers = 0
_lock = threading.Lock()


@contextlib.contextmanager
def watching() -> Iterator[None]:
    """While forward mode may be asked for, note the shapes of what operators give: their nodes do not keep them."""
    watch()
    try:
        yield
    finally:
        unwatch()


def watch() -> None:
    global _watchers
    with _lock:
        _watchers += 1
        if _watchers == 1:
            plain = GeneralCaller.make_node

            def make_node(self, results, several, tensors, edges, options):
                node = plain(self, results, several, tensors, edges, options)
                _made[node] = [(r._array.shape, r._kind) for r in results]
                return node
            make_node.plain = plain
            GeneralCaller.make_node = make_node


def unwatch() -> None:
    global _watchers
    with _lock:
        _watchers -= 1
        if not _watchers:
            GeneralCaller.make_node = GeneralCaller.make_node.plain


def _result(node: Node, k: int, tangents: list, shapes: dict) -> tuple | None:
    """(shape, kind) of a node's k-th result; None for one without a derivative."""
    first = next(t for t in tangents if t is not None)
    if isinstance(node, PointwiseNode):
        kind = _made_kind(node)
        whole = () if hasattr(node, "divisor") else np.broadcast_shapes(*node.shapes)
        return (whole, kind) if kind.dtype.category >= 2 else None
    own = getattr(node, "_shapes", None)                # a custom Function's
    if own is not None:
        return own[k] if own[k][1] is not None and own[k][1].dtype.category >= 2 else None
    noted = _made.get(node)
    if noted is not None:
        return noted[k] if noted[k][1].dtype.category >= 2 else None
    if (node, k) in shapes:
        return shapes[node, k], first._kind
    if isinstance(node, GeneralNode) and isinstance(node.caller.op, Fold):
        dims, keepdim = node.options.get("dims"), node.options.get("keepdim", False)
        folded = range(first.ndim) if dims is None else dims
        return tuple(1 if d in folded else n for d, n in enumerate(first._array.shape) if keepdim or d not in folded), first._kind
    return first._array.shape, first._kind
