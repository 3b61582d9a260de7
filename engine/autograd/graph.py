"""The graph as users see it: the class of nodes, edges by name, version counters, and hooks on what nodes save."""
from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from .. import devices, saved
from ..errors import GradError
from ..tape import Node, accumulate_node, edge_of, source_of
from ..tensor import Tensor, bump


class GradientEdge(NamedTuple):
    """Where a tensor's gradient goes: a node and the number of its result."""

    node: Node
    output_nr: int


def get_gradient_edge(tensor: Tensor) -> GradientEdge:
    """The edge of a tensor that requires grad; GradError for another."""
    edge = edge_of(tensor)
    if edge is None:
        raise GradError("It is not possible to get the gradient edge for a Tensor that does not require gradients")
    return GradientEdge(*source_of(edge)) if isinstance(edge, Node) else GradientEdge(accumulate_node(tensor), 0)


def increment_version(tensor: Tensor | Iterable[Tensor]) -> None:
    """Tell autograd that the data of a tensor (or of several) was written behind its back."""
    for t in (tensor,) if isinstance(tensor, Tensor) else tensor:
        bump(t)


class saved_tensors_hooks:
    """Inside, `pack_hook(tensor)` gets each tensor that autograd saves and `unpack_hook(packed)` gives it back for backward.

    `pack_hook` may keep the value anywhere (on disk, compressed) and must not write its tensor; `unpack_hook` returns a tensor
    of the same content. Of nested ones the innermost acts. Errors: TypeError for hooks that are not callable, or that give
    back no tensor; RuntimeError where `disable_saved_tensors_hooks` forbids them.
    """

    def __init__(self, pack_hook: Callable[[Tensor], Any], unpack_hook: Callable[[Any], Tensor]) -> None:
        self.pack_hook, self.unpack_hook = pack_hook, unpack_hook

    def __enter__(self) -> None:
        for hook in (self.pack_hook, self.unpack_hook):
            if not callable(hook):
                raise TypeError(f"saved_tensors_hooks: a hook must be callable, not {type(hook).__name__}")
        if saved.hooks.refused is not None:
            raise RuntimeError(saved.hooks.refused)
        saved.watch()
        saved.hooks.stack.append((self.pack_hook, self.unpack_hook))

    def __exit__(self, *raised: object) -> None:
        saved.hooks.stack.pop()


class save_on_cpu(saved_tensors_hooks):
    """Inside, tensors that autograd saves are kept in the CPU's memory and go back to their device for backward.

    On the CPU they are copied. `pin_memory` asks for page-locked memory, which a GPU copies faster from; RuntimeError where there
    is no GPU.
    """

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda") -> None:
        if pin_memory and not devices._cuda_devices()[0]:
            raise RuntimeError("save_on_cpu: pin_memory=True needs a CUDA device, and there is none; leave it False")

        def pack(tensor: Tensor) -> tuple[devices.device, Tensor]:
            copy = tensor.detach().cpu().clone() if tensor.is_cpu else tensor.detach().cpu()
            return tensor.device, copy.pin_memory() if pin_memory else copy

        def unpack(packed: tuple[devices.device, Tensor]) -> Tensor:
            device, tensor = packed
            return tensor.to(device)
        super().__init__(pack, unpack)


@contextlib.contextmanager
def disable_saved_tensors_hooks(error_message: str) -> Iterator[None]:
    """Inside, `saved_tensors_hooks` raises RuntimeError with this message."""
    if saved.hooks.stack:
        raise RuntimeError(error_message)
    before, saved.hooks.refused = saved.hooks.refused, error_message
    try:
        yield
    finally:
        saved.hooks.refused = before


__all__ = ["GradientEdge", "Node", "disable_saved_tensors_hooks", "get_gradient_edge", "increment_version", "save_on_cpu",
           "saved_tensors_hooks"]
