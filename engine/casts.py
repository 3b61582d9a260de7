"""Conversion between dtypes, recorded."""
from __future__ import annotations

import numpy as np

from kernels import table as kernel_table

from .large import LARGE, run_large
from .tape import Node, clock, edge_of, modes
from .tensor import Kind, Tensor, wrap

new = object.__new__


class ToCopyBackward0(Node):
    """Conversion of dtype: the gradient goes back in the old one (complex to real keeps the real part)."""

    __slots__ = ("kind", "target")          # dtypes of the input and of the result

    def backward(self, g):
        return (cast(g, self.kind),)


def cast_array(array: np.ndarray, source: Kind, target: Kind) -> np.ndarray:
    """An array converted by our kernel."""
    if array.__class__ is not np.ndarray:
        from . import device_arrays
        return device_arrays.cast_loop(source.dtype.name, target.dtype.name)(array)
    ufunc = kernel_table.cast_ufunc(source.dtype.name, target.dtype.name)
    return run_large(ufunc, [array], target.numpy) if array.size >= LARGE else ufunc(array, out=...)


def cast(x: Tensor, kind: Kind) -> Tensor:
    """A tensor of another dtype on the same device, recorded; a copy also where nothing changes. `kind` names the dtype alone."""
    kind = x._kind.kin[kind.dtype]
    result = wrap(cast_array(x._array, x._kind, kind), kind)
    edge = edge_of(x)
    if edge is not None and modes.enabled and kind.dtype.category >= 2:
        node = new(ToCopyBackward0)
        node.edges, node.kind, node.hooks, node.order = (edge,), x._kind, None, next(clock)
        node.target = kind
        result._node, result._needs = node, True
    return result
