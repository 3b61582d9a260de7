"""Backward passes that stay one call in a trace: those of recurrent layers, a node for each step in operators.

`Adjoint` stands in the graph like an operator of the book: on arrays it is the record's `quick`, on tensors (a backward
pass that is itself differentiated) the record's adjoint.
"""
from __future__ import annotations

from typing import Any

from .. import tree
from ..tensor import KIND_OF_NUMPY, Tensor, wrap

LAYERS = ("lstm_layer", "gru_layer", "rnn_layer")


class Adjoint:
    """The adjoint of one node as a function of the tensors among what it reads; the rest was settled while tracing."""

    linear = False

    def __init__(self, op, structure: Any, leaves: list):
        self.op, self.structure, self.name = op, structure, f"{op.name}_backward"
        self.fixed = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        self.places = [k for k, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

    def _values(self, given) -> list:
        leaves = list(self.fixed)
        for k, x in zip(self.places, given, strict=True):
            leaves[k] = x
        return tree.unflatten(self.structure, iter(leaves))

    def forward(self, *arrays):
        """The gradients that are wanted, as arrays."""
        return tuple([r for r in self.op.quick(*self._values(arrays)) if r is not None])

    def __call__(self, *tensors: Tensor):
        """The same as recorded functions of the tensors."""
        return tuple([r for r in self.op.adjoint(*self._values(tensors)) if r is not None])


def record(tracer, op, values: list) -> list | None:
    """Run a node's quick adjoint and write it down as one call; None where it is to be traced in operators."""
    if not tracer.active or tracer.strict or op.name not in LAYERS:
        return None
    leaves: list = []
    structure = tree.flatten(values, leaves)
    adjoint = Adjoint(op, structure, leaves)
    arrays = [leaves[k]._array for k in adjoint.places]
    tracer.later.settle()
    with tracer.pause():
        results = op.quick(*adjoint._values(arrays))
    if results is None:
        return None
    with tracer.noting():
        tracer.call(adjoint, arrays, False, {}, [r for r in results if r is not None])
    return [None if r is None else wrap(r, KIND_OF_NUMPY[r.dtype]) for r in results]
