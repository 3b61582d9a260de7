"""What nodes keep for backward: versions that tell whether a kept value was overwritten, and the errors that say so."""
from __future__ import annotations

import functools
import threading
from collections.abc import Callable

from . import anomaly
from .errors import GradError
from .tape import Branch, Node, clock, edge_of, modes, modes_used, operator_name, source_of
from .tensor import Tensor, shared_counter, wrap

FREED = object()        # stands for saved values after a backward that did not retain the graph
FREED_TEXT = ("Trying to backward through the graph a second time (or directly access saved tensors after they have already been "
               "freed). Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). Specify "
               "retain_graph=True if you need to backward through the graph a second time or if you need to access saved "
               "tensors after calling backward.")


# --- saved_tensors_hooks and inference mode ---------------------------------------------------------------------------
# Nodes of the engine put what they keep into a slot `saved`. Once a process has used hooks or inference mode, `watch` replaces
# that slot by one that checks and packs; until then nobody pays for it.

class _Hooks(threading.local):
    """This thread's saved_tensors_hooks, the innermost last, and why they are refused, if they are."""

    def __init__(self):
        self.stack: list[tuple[Callable, Callable]] = []
        self.refused: str | None = None


hooks = _Hooks()
_PACKED = ("A saved tensor pack hook is modifying its input in place. Tensors provided as input to pack hook cannot be modified "
           "by in-place operations as this can lead to unexpected side-effects. Please open an issue if you need to perform "
           "in-place operations on the input to a pack hook.")


class Identity(Node):
    """Leads the gradient of a leaf's unpacked value to the leaf."""

    __slots__ = ()

    def backward(self, g):
        return (g,)


class Packed:
    """One saved tensor in the care of hooks: what the pack hook gave, how to unpack it, and where its gradient goes."""

    __slots__ = ("edge", "kind", "object", "shape", "unpack")

    def __init__(self, tensor: Tensor, pack: Callable, unpack: Callable) -> None:
        self.edge = edge_of(tensor) if tensor._needs else None
        self.unpack, self.kind, self.shape = unpack, tensor._kind, tensor._array.shape
        before = tensor._counter[0] if tensor._counter else 0
        recording, modes.enabled = modes.enabled, False
        try:
            self.object = pack(tensor)
        finally:
            modes.enabled = recording
        if (tensor._counter[0] if tensor._counter else 0) != before:
            raise GradError(_PACKED)

    def tensor(self, version: int) -> Tensor:
        """The value again, with the history that it had and a version counter of its own at `version`."""
        recording, modes.enabled = modes.enabled, False
        try:
            found = self.unpack(self.object)
        finally:
            modes.enabled = recording
        if not isinstance(found, Tensor):
            raise TypeError("Output of saved tensor unpack_hook expected to be a Tensor but got result of type "
                            f"{type(found).__name__}")
        made = wrap(found._array, found._kind)
        made._counter = [version]
        edge = self.edge
        if edge is not None:
            made._needs = True
            if isinstance(edge, Node):
                made._node = edge
            elif recording:
                leaf, edge = edge, object.__new__(Identity)
                edge.edges, edge.hooks, edge.order = (leaf,), None, next(clock)
                made._node = edge
        return made


class _Watched:
    """The slot `saved` of a node class, with saved tensors checked and packed on the way in and unpacked on the way out."""

    def __init__(self, slot):
        self.slot = slot

    def __set__(self, node: Node, value) -> None:
        if value is not FREED and value:
            if modes_used.inference:
                for t in _tensors_in(value):
                    if t.is_inference():
                        from .inference import refuse_saving
                        refuse_saving(t)
            if hooks.stack:
                pack, unpack = hooks.stack[-1]
                value = _each(value, Tensor, lambda t: Packed(t, pack, unpack))
                if hasattr(node, "counted"):
                    node.counted = ()
        self.slot.__set__(node, value)

    def __get__(self, node: Node | None, owner: type | None = None):
        if node is None:
            return self
        value = self.slot.__get__(node)
        if value is FREED or not any(v.__class__ is Packed or (v.__class__ is tuple and any(w.__class__ is Packed for w in v))
                                     for v in value):
            return value
        version = iter([node.version >> 40 * k & (1 << 40) - 1 for k in range(len(value))])
        found = []
        for v in value:
            expected = next(version)
            found.append(_each((v,), Packed, lambda p, expected=expected: p.tensor(expected))[0])
        return tuple(found)


def _each(values, cls: type, change: Callable) -> tuple:
    """Values with every object of a class changed, also inside tuples."""
    return tuple([change(v) if isinstance(v, cls) else tuple([change(w) if isinstance(w, cls) else w for w in v])
                  if v.__class__ is tuple else v for v in values])


def _tensors_in(values):
    for v in values:
        if isinstance(v, Tensor):
            yield v
        elif v.__class__ is tuple:
            yield from (w for w in v if isinstance(w, Tensor))


def watch() -> None:
    """Let nodes check and pack what they save, from now on."""
    from .general import GeneralNode
    from .pointwise import PointwiseNode
    for cls in (GeneralNode, PointwiseNode):
        if not isinstance(cls.__dict__["saved"], _Watched):
            cls.saved = _Watched(cls.__dict__["saved"])


class Undifferentiable(Node):
    """Node of a function whose gradient nobody has derived: asking for it is an error."""

    __slots__ = ("error", "results")

    def backward(self, g):
        raise self.error


@functools.cache
def _undifferentiable(name: str) -> type[Undifferentiable]:
    return type(name, (Undifferentiable,), {"__slots__": (), "__module__": "engine.autograd"})


def undifferentiable(results: tuple[Tensor, ...], name: str, x: Tensor, text: str,
                     error: type[RuntimeError] = GradError) -> tuple[Tensor, ...]:
    """Results of a function of x without a derivative: the first one requires grad, and backward raises `error(text)`."""
    node = object.__new__(_undifferentiable(name))
    node.edges, node.hooks, node.order = (edge_of(x),), None, next(clock)
    node.error, node.results = error(text), len(results)
    results[0]._node, results[0]._needs = node if len(results) == 1 else Branch(node, 0), True
    return results


# --- versions ---------------------------------------------------------------------------------------------------------

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
                     f"[engine.{tensor._kind.dtype.legacy} {list(tensor.shape)}]{made} is at version {now}; "
                      f"expected version {before} "
                     f"instead. Hint: {hint}")


def alias(tensor: Tensor) -> Tensor:
    """The tensor's value without its history, sharing its version counter: how a node keeps its own result."""
    kept = wrap(tensor._array, tensor._kind)
    kept._counter = shared_counter(tensor)
    return kept
