"""What nodes keep for backward: versions that tell whether a kept value was overwritten, and the errors that say so."""
from __future__ import annotations

from . import anomaly
from .errors import GradError
from .tape import Node, operator_name, source_of
from .tensor import Tensor, shared_counter, wrap

FREED = object()        # stands for saved values after a backward that did not retain the graph
FREED_TEXT = ("Trying to backward through the graph a second time (or directly access saved tensors after they have already been "
               "freed). Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). Specify "
               "retain_graph=True if you need to backward through the graph a second time or if you need to access saved "
               "tensors after calling backward.")


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
