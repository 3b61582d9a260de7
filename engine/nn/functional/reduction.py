"""Reductions of losses: the words "none", "mean" and "sum", the old pair size_average and reduce, and pointwise losses reduced.

A pointwise loss and its mean or sum are one node, so that its gradient is one kernel: the cotangent, a number, is divided by the
count and broadcast. Used by `loss.py` beside this file.
"""
from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from kernels.book import BOOK, Fold
from kernels.cpu import folds

from ... import dtypes
from ...dispatch import PointwiseCaller, broadcast_error, cast, common_device, constant
from ...large import LARGE, run_large
from ...pointwise import PointwiseNode
from ...promotion import item_of
from ...saved import version_of
from ...tape import clock, edge_of, modes
from ...tensor import KIND, Tensor, wrap

new = object.__new__


def legacy(size_average: bool | None, reduce: bool | None) -> str:
    """The reduction that the deprecated arguments mean, with PyTorch's warning."""
    average = True if size_average is None else size_average
    reduction = ("mean" if average else "sum") if reduce is None or reduce else "none"
    warnings.warn(f"size_average and reduce args will be deprecated, please use reduction='{reduction}' instead.", UserWarning,
                  stacklevel=4)
    return reduction


def checked(reduction: str, size_average: bool | None = None, reduce: bool | None = None) -> str:
    """The reduction to use. ValueError for an unknown word."""
    if size_average is not None or reduce is not None:
        return legacy(size_average, reduce)
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    return reduction


def reduced(loss: Tensor, reduction: str) -> Tensor:
    """Elements of a loss, their mean or their sum."""
    return loss if reduction == "none" else loss.mean() if reduction == "mean" else loss.sum()


class ReducedNode(PointwiseNode):
    """Node of a pointwise operator and the mean or sum of its results."""

    __slots__ = ("divisor", "whole")

    def backward(self, g: Tensor) -> Any:
        if self.divisor:
            g = BOOK["div"](g, self.divisor)
        if self.whole is not None and not modes.enabled:         # large: broadcast first, for pooled memory and threads
            g = wrap(np.broadcast_to(g._array, self.whole), g._kind)
        return super().backward(g)


def _folded(op: Fold, values: Any) -> Any:
    """All values folded, where they are."""
    if values.__class__ is np.ndarray:
        return folds.run(op.kernel or op, values)
    from ... import device_arrays
    return device_arrays.run(op, (values,), {})


class Loss:
    """A pointwise record as a loss: `loss(reduction, x, y, others...)`; x and y decide the dtype."""

    def __init__(self, name: str):
        self.op = BOOK[name]
        self.caller: PointwiseCaller = self.op.apply
        about = {"__slots__": (), "caller": self.caller, "__module__": "engine.autograd"}
        self.node = type(self.op.node_name, (ReducedNode,), about)

    def __call__(self, reduction: str, x: Tensor, y: Tensor, *others: Any) -> Tensor:
        if x._kind is y._kind:
            kind = x._kind
        else:
            common_device(self.op.name, (x, y))
            kind = KIND[dtypes.result_type_of([item_of(x), item_of(y)])]
        tensors = [t if t.__class__ is Tensor and t._kind is kind else
                   (cast(t, kind) if t._kind is not kind else t) if isinstance(t, Tensor) else constant(t, kind)
                   for t in (x, y, *others)]
        if reduction == "none":
            return self.caller.run(tensors, kind)
        ufunc, out_kind = self.caller.loops[kind]
        arrays = [t._array for t in tensors]
        large = max(a.size for a in arrays) >= LARGE
        try:
            values = run_large(ufunc, arrays, out_kind.numpy) if large else ufunc(*arrays, out=...)
        except ValueError as error:
            raise broadcast_error(self.op.name, tensors) from error
        result = wrap(_folded(BOOK[reduction], values), out_kind)
        edges = [edge_of(t) for t in tensors]
        if modes.enabled and any(e is not None for e in edges):
            self._record(result, tensors, edges, kind, values.shape, values.size if reduction == "mean" else 0, large)
        return result

    def _record(self, result: Tensor, tensors: list, edges: list, kind: Any, shape: tuple, divisor: int, large: bool) -> None:
        node = new(self.node)
        plan = self.caller.plan(kind, tuple(e is not None for e in edges))
        if not plan.count:
            return
        node.edges, node.kind, node.plan, node.hooks, node.order = tuple(edges), kind, plan, None, next(clock)
        node.shapes = tuple(t._array.shape for t in tensors)
        node.saved = (*(t if keep else None for t, keep in zip(tensors, plan.keeps, strict=True)), None)
        node.version = version_of(node.saved)
        node.divisor, node.whole = divisor, shape if large else None
        result._node, result._needs = node, True
