"""vmap: a function traced on one element of a batch, its program run for the whole batch with the engine's own operators.

Values that depend on a batched argument get a dimension in front; views get its stride, maps broadcast, folds count their dimensions one
further, and operators that stay calls run batched where they can and element by element where not. The replay is recorded like any
code, so batched functions differentiate and nest.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kernels.book import BOOK

from .. import dtypes, tree
from ..casts import cast
from ..functions.registry import PUBLIC
from ..pointwise import evaluate
from ..tensor import KIND, KIND_OF_NUMPY, Tensor, wrap
from . import tracing
from .graph import Call, Graph, Guard, Map, Put, Reduce, Ref
from .replay import view
from .trace import Untraceable


class Batched:
    """A value of the batch: a tensor with the batch in front, or one that all elements share."""

    __slots__ = ("batched", "tensor")

    def __init__(self, tensor: Tensor, batched: bool):
        self.tensor, self.batched = tensor, batched


def vmapped(function: Callable, in_dims: Any, out_dims: Any, randomness: str, chunk_size: int | None) -> Callable:
    """See `engine.func.vmap`."""
    def transformed(*args, **kwargs):
        leaves: list = []
        structure = tree.flatten(args, leaves)
        dims = _dims(in_dims, args, structure, len(leaves))
        sizes = set()
        for leaf, d in zip(leaves, dims, strict=True):
            if d is None:
                continue
            if not isinstance(leaf, Tensor):
                raise ValueError(f"vmap: Got in_dim={d} for an input but the input is of type {type(leaf).__name__}. We cannot "
                                 "vmap over non-Tensor arguments, please use None as the respective in_dim")
            if not -leaf.ndim <= d < leaf.ndim:
                raise ValueError(f"vmap: Got in_dim={d} for some input, but that input is a Tensor of dimensionality {leaf.ndim} so "
                                 f"expected in_dim to satisfy -{leaf.ndim} <= in_dim < {leaf.ndim}.")
            sizes.add(leaf.shape[d])
        if not sizes:
            raise ValueError("vmap: at least one input must be batched: all in_dims are None")
        if len(sizes) > 1:
            raise ValueError("vmap: Expected all tensors to have the same size in the mapped dimension, got sizes "
                             f"{sorted(sizes)} for the mapped dimension")
        count = sizes.pop()
        moved = [leaf if d is None else leaf.movedim(d, 0) for leaf, d in zip(leaves, dims, strict=True)]
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"vmap: chunk_size should be None or greater than 0. (got {chunk_size})")
        step = count if chunk_size is None else chunk_size
        parts = []
        for start in range(0, max(count, 1), max(step, 1)):
            part = [x if d is None else x[start:start + step] for x, d in zip(moved, dims, strict=True)]
            parts.append(_run(function, structure, part, dims, kwargs, min(step, count - start), randomness))
        shape = parts[0][1]
        joined = [PUBLIC["cat"](group) if len(group) > 1 else group[0] for group in zip(*(p[0] for p in parts), strict=True)]
        spread = _spread(out_dims, shape, len(joined))
        out = [t if d is None else t.movedim(0, d) for t, d in zip(joined, spread, strict=True)]
        return tree.unflatten(shape, iter(out))
    return transformed


def _dims(in_dims: Any, args: tuple, structure: Any, count: int) -> list:
    """The batched dimension of each leaf, None where it has none."""
    if in_dims is None or isinstance(in_dims, int):
        return [in_dims] * count
    if not isinstance(in_dims, (tuple, list)) or len(in_dims) != len(args):
        raise ValueError(f"vmap: in_dims is not compatible with the structure of inputs: in_dims has {in_dims!r} for "
                         f"{len(args)} inputs")
    found: list = []
    for d, arg in zip(in_dims, args, strict=True):
        own = tree.leaves_of(arg)
        if d is None or isinstance(d, int):
            found += [d] * len(own)
        else:
            inner: list = []
            _nested(d, arg, inner)
            found += inner
    return found


def _nested(d: Any, arg: Any, found: list) -> None:
    if d is None or isinstance(d, int):
        found += [d] * len(tree.leaves_of(arg))
    elif isinstance(d, dict):
        for k, value in arg.items():
            _nested(d[k], value, found)
    else:
        for one, value in zip(d, arg, strict=True):
            _nested(one, value, found)


def _spread(out_dims: Any, structure: Any, count: int) -> list:
    if out_dims is None or isinstance(out_dims, int):
        return [out_dims] * count
    flat: list = []
    for d in out_dims if isinstance(out_dims, (tuple, list)) else [out_dims]:
        flat += tree.leaves_of(d) if isinstance(d, (tuple, list, dict)) else [d]
    if len(flat) != count:
        raise ValueError(f"vmap: out_dims is not compatible with the structure of outputs: {out_dims!r} for {count} outputs")
    return flat


def _run(function, structure, leaves, dims, kwargs, count: int, randomness: str):
    """(batched results, their structure)."""
    if not count:
        raise ValueError("vmap: got a batch of no elements")
    first = [x if d is None else x[0] for x, d in zip(leaves, dims, strict=True)]
    tensors = [x for x in first if isinstance(x, Tensor)]
    try:
        recorded = tracing.record(function, tree.unflatten(structure, iter(first)), kwargs, tensors, derivatives=False)[0]
    except Untraceable as reason:
        text = str(reason)
        if "random" in text:
            raise RuntimeError("vmap: called random operation while in randomness error mode. Please either use the 'same' or "
                               "'different' randomness flags on vmap or perform the randomness operation out of vmap") from None
        raise RuntimeError(f"vmap: {text}") from None
    if recorded.written:
        raise RuntimeError("vmap: the function writes in place to a tensor from outside; return a new tensor instead")
    graph = recorded.forward
    values: dict[int, Batched] = {}
    given = [(x, d is not None) for x, d in zip(leaves, dims, strict=True) if isinstance(x, Tensor)]
    for v, (x, batched) in zip(graph.inputs, given, strict=True):
        values[id(v)] = Batched(x, batched)
    for v, owner in graph.captured:
        t = wrap(v.array, KIND_OF_NUMPY[v.array.dtype]) if owner is None else owner.get()
        values[id(v)] = Batched(t, False)
    execute(graph, values, count)
    results = []
    for out in recorded.outputs:
        if out.array is not None:
            ref = graph.results[out.array]
            found = _view(values[id(ref.value)], ref, count)
        else:
            k = out.target.argument
            found = Batched(*given[k]) if k >= 0 else Batched(out.target.owner.get(), False)
        results.append(found.tensor if found.batched else found.tensor.expand(count, *found.tensor.shape))
    answer = iter(results)
    return [next(answer) for _ in recorded.leaves], recorded.structure


# --- a graph over a batch ---------------------------------------------------------------------------------------------

def execute(graph: Graph, values: dict[int, Batched], count: int) -> None:
    """Run a graph for the batch; `values` holds those of inputs and captured tensors, and gets all others."""
    for node in graph.nodes:
        reads = [_view(values[id(r.value)], r, count) for r in node.reads]
        batched = any(r.batched for r in reads)
        if isinstance(node, Guard):
            if batched:
                raise RuntimeError("vmap: It looks like you're attempting to use a Tensor in some data-dependent control flow. We "
                                   "don't support that yet, please shout over at https://github.com/pytorch/functorch/issues/257 .")
        elif isinstance(node, Map):
            _map(node, reads, batched, values)
        elif isinstance(node, Reduce):
            _reduce(node, reads, batched, values)
        elif isinstance(node, Put):
            _put(node, reads, batched, values, count)
        elif isinstance(node, Call):
            _call(node, reads, batched, values, count)


def _view(value: Batched, ref: Ref, count: int) -> Batched:
    if not value.batched:
        return Batched(view(value.tensor, ref), False)
    if ref.covers():
        return value
    t = value.tensor
    strides = t.stride()
    if strides[1:] == ref.value.strides or ref.value.size == 1:
        own = t.as_strided((count, *ref.shape), (strides[0], *ref.strides), t.storage_offset() + ref.offset)
        return Batched(own, True)
    order = sorted(range(len(ref.value.shape)), key=lambda d: -ref.value.strides[d])
    dense = t.permute(0, *(1 + d for d in order)).contiguous()
    return Batched(dense.as_strided((count, *ref.shape), (dense.stride()[0], *ref.strides), ref.offset), True)


def _map(node: Map, reads, batched: bool, values) -> None:
    kind = KIND[dtypes.by_name(node.compute)]
    named = {f"x{k}": r.tensor for k, r in enumerate(reads)}
    for v, e in zip(node.values, node.expressions, strict=True):
        result = evaluate(e, named)
        if not isinstance(result, Tensor):
            result = PUBLIC["full"](v.shape, result, dtype=kind.dtype)
            values[id(v)] = Batched(result, False)
            continue
        wanted = KIND[dtypes.by_name(v.dtype)]
        result = result if result._kind is wanted else cast(result, wanted)
        values[id(v)] = Batched(result, batched)


def _reduce(node: Reduce, reads, batched: bool, values) -> None:
    dims = tuple(d + 1 for d in node.dims) if batched else node.dims
    operands = [r.tensor for r in reads]
    if batched:
        operands = [r.tensor if r.batched else r.tensor.unsqueeze(0) for r in reads]
    result = BOOK[node.fold.name](*operands, dims=dims, keepdim=False)
    for v, r in zip(node.values, result if isinstance(result, tuple) else (result,), strict=True):
        lead = r.shape[:1] if batched else ()
        values[id(v)] = Batched(r.reshape((*lead, *v.shape)), batched)


def _put(node: Put, reads, batched: bool, values, count: int) -> None:
    v, part = node.values[0], reads[-1]
    if len(reads) > 1:
        base = reads[0].tensor.expand(count, *v.shape).clone() if batched and not reads[0].batched else reads[0].tensor.clone()
    else:
        lead = (count,) if batched else ()
        base = PUBLIC["full"]((*lead, *v.shape), node.fill or 0, dtype=dtypes.by_name(v.dtype))
    if batched and base.stride()[1:] != v.strides and v.size > 1:
        order = sorted(range(len(v.shape)), key=lambda d: -v.strides[d])
        base = base.permute(0, *(1 + d for d in order)).contiguous().permute(0, *(1 + order.index(d) for d in range(len(order))))
    target = Batched(base, batched)
    _view(target, node.place, count).tensor.copy_(part.tensor)
    values[id(v)] = target


_BROADCASTING = {"matmul", "bmm"}


def _call(node: Call, reads, batched: bool, values, count: int) -> None:
    op = node.operator
    operands = [r.tensor for r in reads]
    if not batched:
        result = op(operands, **node.options) if node.many else op(*operands, **node.options)
    elif op.name in ("matmul", "mv", "dot", "bmm"):
        result = _products(node, reads, count)
    else:
        rows = [[r.tensor[k] if r.batched else r.tensor for r in reads] for k in range(count)]
        each = [op(row, **node.options) if node.many else op(*row, **node.options) for row in rows]
        if isinstance(each[0], tuple):
            shapes = {tuple(r._array.shape for r in one) for one in each}
        else:
            shapes = {one._array.shape for one in each}
        if len(shapes) > 1:
            raise RuntimeError(f"vmap: {op.name} gives results of different shapes for the elements of the batch")
        result = (tuple(PUBLIC["stack"](group) for group in zip(*each, strict=True)) if isinstance(each[0], tuple)
                  else PUBLIC["stack"](each))
    for v, r in zip(node.values, result if isinstance(result, tuple) else (result,), strict=True):
        values[id(v)] = Batched(r, batched)


def _products(node: Call, reads, count: int) -> Tensor:
    """Matrix products of a batch as one batched product."""
    x, y = (r.tensor if r.batched else r.tensor.unsqueeze(0) for r in reads)
    kinds = tuple(len(r.shape) for r in node.reads)
    if kinds[0] == 1:
        x = x.unsqueeze(-2)
    if kinds[1] == 1:
        y = y.unsqueeze(-1)
    result = PUBLIC["matmul"](x, y)
    if kinds[1] == 1:
        result = result.squeeze(-1)
    if kinds[0] == 1:
        result = result.squeeze(-1 if kinds[1] == 1 else -2)
    return result


