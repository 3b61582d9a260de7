"""A graph run with the engine's own operators on tensors: recorded like any other code, so that it differentiates again."""
from __future__ import annotations

from kernels.book import BOOK

from .. import dtypes
from ..casts import cast
from ..errors import GradError
from ..pointwise import evaluate
from ..tensor import KIND, KIND_OF_NUMPY, Tensor, wrap
from .graph import Call, Graph, Guard, Map, Put, Reduce, Ref, Value
from .passes import decoded


def replay(graph: Graph, values: dict[int, Tensor]) -> dict[int, Tensor]:
    """Tensors of all values of a graph, given those of its inputs and captured values by id."""
    for v, _ in graph.captured:
        if id(v) not in values:
            values[id(v)] = wrap(v.array, KIND_OF_NUMPY[v.array.dtype])
    for node in graph.nodes:
        if not isinstance(node, Guard):
            _run(node, values)
    return values


def _run(node, values: dict[int, Tensor]) -> None:
    reads = [view(values[id(r.value)], r) for r in node.reads]
    if isinstance(node, Map):
        kind = KIND[dtypes.by_name(node.compute)]
        named = {f"x{k}": r for k, r in enumerate(reads)}
        for v, e in zip(node.values, node.expressions, strict=True):
            result = evaluate(e, named)
            if not isinstance(result, Tensor):
                result = BOOK["mul"](reads[0], 0) + result if reads else wrap(_filled(v, result), kind)
            wanted = KIND[dtypes.by_name(v.dtype)]
            result = result if result._kind is wanted else cast(result, wanted)
            values[id(v)] = result if result._array.shape == v.shape else result.expand(v.shape)
    elif isinstance(node, Reduce):
        extra = reads[1:]
        result = BOOK[node.fold.name](reads[0], *extra, dims=node.dims, keepdim=False)
        results = result if isinstance(result, tuple) else (result,)
        for v, r in zip(node.values, results, strict=True):
            values[id(v)] = r.reshape(v.shape)
    elif isinstance(node, Put):
        v = node.values[0]
        kind = KIND[dtypes.by_name(v.dtype)]
        base = reads[0].clone() if len(reads) > 1 else wrap(_filled(v, node.fill or 0), kind)
        place = ascending(node.place)
        turned = [d for d, s in enumerate(node.place.strides) if s < 0]
        base = base.contiguous()
        if decoded(place) is None:      # memory order, in which the region's strides hold
            order = sorted(range(len(v.shape)), key=lambda d: -v.strides[d])
            base = base.permute(order).contiguous().permute([order.index(d) for d in range(len(order))])
        _window(base, place).copy_(reads[-1].flip(turned) if turned else reads[-1])
        values[id(v)] = base
    elif isinstance(node, Call):
        result = run_call(node, reads)
        results = result if isinstance(result, tuple) else (result,)
        for v, r in zip(node.values, results, strict=True):
            values[id(v)] = r


def run_call(node: Call, reads: list[Tensor]):
    """The operator of a call on tensors; options that are arrays come from the last reads."""
    count = len(node.operands)
    options = {**node.options, **{k: t._array for k, t in zip(node.named, reads[count:], strict=True)}}
    return node.operator(reads[:count], **options) if node.many else node.operator(*reads[:count], **options)


def _filled(v: Value, number):
    import numpy as np
    return np.full(v.shape, number, v.dtype)


def view(tensor: Tensor, ref: Ref) -> Tensor:
    """A tensor that holds a value, seen through a view of it."""
    value = ref.value
    if ref.covers():
        return tensor
    turned = [d for d, s in enumerate(ref.strides) if s < 0]
    ref = ascending(ref)
    if decoded(ref) is not None:
        dense = tensor.contiguous()
    else:
        if any(n > 1 and not s for n, s in zip(value.shape, value.strides, strict=True)):
            raise GradError("a compiled function cannot give gradients with create_graph=True for parts of an expanded tensor; "
                            "clone() it before")
        ordered = sorted(range(len(value.shape)), key=lambda d: -value.strides[d])  # in it the trace's memory is row-major
        dense = tensor.permute(ordered).contiguous()
    seen = _window(dense, ref)
    return seen.flip(turned) if turned else seen


def _window(dense: Tensor, ref: Ref) -> Tensor:
    """A view in a tensor that holds the value: by indices, which hold for whatever strides; else by the strides of the trace."""
    found, offset, strides = decoded(ref), ref.offset, ref.strides
    if found is not None:
        start, steps = found
        own = dense.stride()
        offset = sum(i * s for i, s in zip(start, own, strict=True))
        strides = tuple([sum(i * s for i, s in zip(step, own, strict=True)) for step in steps])
    return dense.as_strided(ref.shape, strides, dense.storage_offset() + offset)


def ascending(ref: Ref) -> Ref:
    """The same elements with no stride below zero; those dimensions are turned around."""
    start = sum((n - 1) * s for n, s in zip(ref.shape, ref.strides, strict=True) if s < 0 and n)
    return Ref(ref.value, ref.offset + start, ref.shape, tuple([abs(s) for s in ref.strides])) if start else ref


def replay_gradients(compiled, node, cotangents) -> list:
    """The gradients of a compiled function as recorded functions of its inputs and cotangents."""
    joint = compiled.joint
    if joint.stops:
        raise GradError(f"a compiled function that uses {joint.stops} cannot give gradients with create_graph=True: "
                        "derivatives must not "
                        "go through what it stops; compile the function of the gradients instead, or call it uncompiled")
    graph = joint.graph
    values: dict[int, Tensor] = {}
    held = [*graph.inputs, *(v for v, o in graph.captured if o is not None and not o.computed)]
    for v, t in zip(held, node.tensors, strict=True):
        values[id(v)] = t
    for v, a in zip([v for v, o in graph.captured if o is not None and o.computed], node.computed, strict=True):
        values[id(v)] = wrap(a, KIND[dtypes.by_name(v.dtype)])
    for v, g in zip(joint.cotangents, cotangents, strict=True):
        kind = KIND[dtypes.by_name(v.dtype)]
        values[id(v)] = wrap(_filled(v, 0), kind) if g is None else g
    replay(graph, values)
    found = iter(graph.results[len(graph.results) - sum(g is not None for g in joint.gradients):])
    results = []
    for g in joint.gradients:
        if g is None:
            results.append(None)
        else:
            ref = next(found)
            results.append(view(values[id(ref.value)], ref))
    return results
