"""All parameters of a network as one vector, and back: for optimizers and analyses that want a single point."""
from __future__ import annotations

from collections.abc import Iterable

from ...functions.join import cat
from ...tensor import Tensor
from ..module import type_name


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """Parameters one after the other in one vector, differentiably. TypeError for several devices."""
    listed = list(parameters)
    _one_device(listed)
    return cat([p.view(-1) for p in listed])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Let parameters look into a vector, one after the other. TypeError for what is no tensor and for several devices."""
    if not isinstance(vec, Tensor):
        raise TypeError(f"expected engine.Tensor, but got: {type_name(vec)}")
    listed = list(parameters)
    _one_device(listed)
    first = 0
    for p in listed:
        p.data = vec[first:first + p.numel()].view_as(p).data
        first += p.numel()


def _one_device(tensors: list[Tensor]) -> None:
    if len({t.device for t in tensors}) > 1:
        raise TypeError("Found two parameters on different devices, this is currently not supported.")


__all__ = ["parameters_to_vector", "vector_to_parameters"]
