"""A traced graph run for a whole batch with the engine's own operators.

Values that depend on a batched argument get a dimension in front; views get its stride, maps broadcast, folds count their
dimensions one further, and operators that stay calls run batched where they can and element by element where not. The replay is
recorded like any code, so batched functions differentiate and nest. Used by `engine.compiler.batching`.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from kernels.book import BOOK
from kernels.symbol import Symbol

from .. import dtypes
from ..casts import cast
from ..functions.registry import PUBLIC
from ..pointwise import evaluate
from ..tensor import KIND, Tensor
from .graph import Call, Graph, Guard, Map, Put, Reduce, Ref, Value
from .replay import ascending, run_call, view

CONTROL_FLOW = ("vmap: It looks like you're attempting to use a Tensor in some data-dependent control flow. We don't support that "
                "yet: use where(), or call the function for each element.")
ITEM = ("vmap: It looks like you're calling .item() on a Tensor. We don't support vmap over calling .item() on a Tensor, please "
        "try to rewrite what you're doing with other operations.")


class Resized(RuntimeError):
    """An operator gave a result of another shape than while tracing."""


class Counted(RuntimeError):
    """Python used a batched integer, as an index say: what it does with each element is known only by running it."""


class Batched:
    """A value of the batch: a tensor with the batch in front, or one that all elements share."""

    __slots__ = ("batched", "tensor")

    def __init__(self, tensor: Tensor, batched: bool) -> None:
        self.tensor, self.batched = tensor, batched


def execute(graph: Graph, values: dict[int, Batched], count: int) -> None:
    """Run a graph for the batch; `values` holds those of inputs and captured tensors, and gets all others."""
    for node in graph.nodes:
        reads = [seen(values[id(r.value)], r, count) for r in node.reads]
        batched = any(r.batched for r in reads)
        if isinstance(node, Guard):
            if batched:
                if isinstance(node.seen, int) and not isinstance(node.seen, bool):
                    raise Counted(ITEM)
                raise RuntimeError(CONTROL_FLOW if isinstance(node.seen, bool) else ITEM)
        elif isinstance(node, Map):
            _map(node, reads, values)
        elif isinstance(node, Reduce):
            _reduce(node, reads, batched, values, count)
        elif isinstance(node, Put):
            _put(node, reads, batched, values, count)
        elif isinstance(node, Call):
            _call(node, reads, batched, values, count)


def seen(value: Batched, ref: Ref, count: int) -> Batched:
    """A value through a view of it."""
    if not value.batched:
        return Batched(view(value.tensor, ref), False)
    if ref.covers():
        return value
    t = _in_memory_order(value.tensor, ref.value)
    turned = [1 + d for d, s in enumerate(ref.strides) if s < 0]
    ref = ascending(ref)
    t = t.as_strided((count, *ref.shape), (t.stride()[0], *ref.strides), t.storage_offset() + ref.offset)
    return Batched(t.flip(turned) if turned else t, True)


def _in_memory_order(t: Tensor, value: Value) -> Tensor:
    """The batched tensor, a copy if need be, in which each element lies as the traced value did."""
    if t.stride()[1:] == value.strides or value.size == 1:
        return t
    order = sorted(range(len(value.shape)), key=lambda d: -value.strides[d])
    dense = t.permute(0, *(1 + d for d in order)).contiguous()
    return dense.permute(0, *(1 + order.index(d) for d in range(len(order))))


def _map(node: Map, reads: list[Batched], values: dict[int, Batched]) -> None:
    named = {f"x{k}": r.tensor for k, r in enumerate(reads)}
    for v, e in zip(node.values, node.expressions, strict=True):
        wanted = KIND[dtypes.by_name(v.dtype)]
        result = evaluate(e, named)
        if not isinstance(result, Tensor):
            number = result.item() if isinstance(result, (np.ndarray, np.generic)) else result
            values[id(v)] = Batched(PUBLIC["full"](v.shape, number, dtype=wanted.dtype), False)
            continue
        if result._kind is not wanted:
            result = cast(result, wanted)
        elif isinstance(e, Symbol) and e.name:          # a copy is memory of its own
            result = BOOK["clone"](result)
        batched = result.ndim > len(v.shape)
        if not batched and result._array.shape != v.shape:
            result = result.expand(v.shape)
        values[id(v)] = Batched(result, batched)


def _reduce(node: Reduce, reads: list[Batched], batched: bool, values: dict[int, Batched], count: int) -> None:
    operands = [r.tensor for r in reads]
    dims = node.dims
    if batched:
        operands = [r.tensor if r.batched else r.tensor.unsqueeze(0) for r in reads]
        x = operands[0]
        if not reads[0].batched:
            x = x.expand(count, *x.shape[1:])
        dims = tuple(d + 1 for d in dims)
        if not dims:                    # a fold of single numbers
            x, dims = x.unsqueeze(-1), (x.ndim,)
        elif len(dims) > 1 and node.fold.positions:     # positions count through all dimensions
            x, dims = x.reshape(count, -1) if count else x.reshape(0, node.reads[0].size), (1,)
        operands[0] = x
    result = BOOK[node.fold.name](*operands, dims=dims, keepdim=False)
    for v, r in zip(node.values, result if isinstance(result, tuple) else (result,), strict=True):
        lead = (count,) if batched else ()
        values[id(v)] = Batched(r.reshape((*lead, *v.shape)), batched)


def _put(node: Put, reads: list[Batched], batched: bool, values: dict[int, Batched], count: int) -> None:
    v, part = node.values[0], reads[-1]
    lead = (count,) if batched else ()
    if len(reads) > 1:
        base = reads[0].tensor
        base = (base.expand(count, *v.shape) if batched and not reads[0].batched else base).clone()
    else:
        base = PUBLIC["full"]((*lead, *v.shape), node.fill or 0, dtype=dtypes.by_name(v.dtype))
    if base.stride()[len(lead):] != v.strides and v.size > 1:
        order = sorted(range(len(v.shape)), key=lambda d: -v.strides[d])
        first = len(lead)
        dense = base.permute(*range(first), *(first + d for d in order)).contiguous()
        base = dense.permute(*range(first), *(first + order.index(d) for d in range(len(order))))
    target = Batched(base, batched)
    place, written = ascending(node.place), part.tensor
    turned = [d - len(place.shape) for d, s in enumerate(node.place.strides) if s < 0]
    if turned:
        written = written.flip(turned)
    if batched:
        region = base.as_strided((count, *place.shape), (base.stride()[0], *place.strides), base.storage_offset() + place.offset)
    else:
        region = base.as_strided(place.shape, place.strides, base.storage_offset() + place.offset)
    region.copy_(written)
    values[id(v)] = target


# --- calls ------------------------------------------------------------------------------------------------------------

_ALONG_DIM = {"softmax", "log_softmax", "softmax_backward", "log_softmax_backward", "cumsum", "cumprod", "logcumsumexp", "gather",
              "scatter_add"}       # operators of tensors of one rank, with an option `dim` and no other that counts dimensions


def _call(node: Call, reads: list[Batched], batched: bool, values: dict[int, Batched], count: int) -> None:
    op = node.operator
    if not batched:
        result: Any = run_call(node, [r.tensor for r in reads])
    elif node.named:
        result = _each(node, reads, count)
    elif op.name in ("matmul", "mv", "dot", "bmm", "mm") and not node.options:
        result = _products(node, reads)
    elif op.name in _ALONG_DIM and all(r.shape for r in node.reads):
        full = [r.tensor if r.batched else r.tensor.expand(count, *r.tensor.shape) for r in reads]
        result = op(*full, **{**node.options, "dim": node.options["dim"] + 1})
    else:
        result = _each(node, reads, count)
    for v, r in zip(node.values, result if isinstance(result, (tuple, list)) else (result,), strict=True):
        if r._array.shape[int(batched):] != v.shape:
            raise Resized(DYNAMIC.format(op.name))
        values[id(v)] = Batched(r, batched)


def _each(node: Call, reads: list[Batched], count: int) -> Any:
    """An operator element by element, the results stacked; for an empty batch, empty results of the traced shapes."""
    if not count:
        made = tuple([PUBLIC["zeros"]((0, *v.shape), dtype=dtypes.by_name(v.dtype)) for v in node.values])
        return made if len(made) > 1 else made[0]
    each = [run_call(node, [r.tensor[k] if r.batched else r.tensor for r in reads]) for k in range(count)]
    several = isinstance(each[0], (tuple, list))
    columns = list(zip(*each, strict=True)) if several else [tuple(each)]
    for column in columns:
        if any(one._array.shape != column[0]._array.shape for one in column):
            raise Resized(DYNAMIC.format(node.operator.name))
    stacked = tuple([PUBLIC["stack"](column) for column in columns])
    return stacked if several else stacked[0]


DYNAMIC = ("vmap: We do not support batching operators that can output dynamic shape. Attempted to vmap over {}, whose results "
           "have different shapes for the elements of the batch.")


def _products(node: Call, reads: list[Batched]) -> Tensor:
    """Matrix products of a batch as one batched product."""
    ranks = [len(r.shape) for r in node.reads]
    x, y = [r.tensor for r in reads]
    x = x.unsqueeze(-2) if ranks[0] == 1 else x
    y = y.unsqueeze(-1) if ranks[1] == 1 else y
    rank = max(2, *ranks)
    x, y = [t.reshape(t.shape[0], *(1,) * (rank - max(2, k)), *t.shape[1:]) if r.batched and max(2, k) < rank else t
            for t, r, k in zip((x, y), reads, ranks, strict=True)]
    result = PUBLIC["matmul"](x, y)
    if ranks[1] == 1:
        result = result.squeeze(-1)
    if ranks[0] == 1:
        result = result.squeeze(-1 if ranks[1] == 1 else -2)
    return result
