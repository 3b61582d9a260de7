"""The graph as users see it: the class of nodes, edges by name, and version counters."""
from __future__ import annotations

from typing import NamedTuple

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


def increment_version(tensor) -> None:
    """Tell autograd that the data of a tensor (or of several) was written behind its back."""
    for t in (tensor,) if isinstance(tensor, Tensor) else tensor:
        bump(t)


__all__ = ["GradientEdge", "Node", "get_gradient_edge", "increment_version"]
