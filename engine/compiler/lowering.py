"""Structural operators as maps, folds and puts, so that they fuse: what a trace writes down in place of a call.

Operators that only move data (clone, cat, stack, flip, the adjoints of views, ...) are recognised by running them on labels: where
each label arrives says which region of the result each operand fills. The few that compute have a formula here.
"""
from __future__ import annotations

import warnings

import numpy as np

from kernels.book import BOOK
from kernels.symbol import Symbol

from .graph import Put, Value


def cast_expression(source: str, target: str) -> Symbol:
    """Conversion between dtypes as an expression in `x`: complex to real drops the imaginary part, and so on."""
    value = Symbol("x")
    if target == "bool" and source != "bool":
        return Symbol("", BOOK["ne"], (value, 0))
    if source.startswith("complex") and not target.startswith("complex"):
        return Symbol("", BOOK["real"], (value,))
    if source in ("float16", "float32", "float64") and target in ("uint8", "uint16", "uint32", "int8", "int16"):
        return Symbol("", BOOK["narrow_to_int"], (value,))
    return value


def lower(tracer, op, arrays, many: bool, options: dict, results) -> bool:
    """Write an operator down as simpler nodes; False where it must stay a call."""
    formula = _FORMULAS.get(op.name)
    if formula is not None:
        return formula(tracer, arrays, options, results)
    if not op.linear or len(results) != 1 or not results[0].size:
        return False
    if not many and len(arrays) > 1 and op.name not in _SCATTERS:       # an index among the operands must not become labels
        return False
    with tracer.later.at_once():
        regions = movement(op, arrays, many, options, results[0])
    if regions is None:
        return False
    out = results[0]
    strides = tuple(s // out.itemsize for s in out.strides)
    covered = sum(a.size for a, _ in regions)
    value = None
    for array, (offset, steps) in regions:
        part = tracer.read(array)
        made = Value(out.shape, strides, out.dtype.name)
        place = made.whole().__class__(made, offset, array.shape, steps)
        if value is None and place.covers():
            tracer.map([Symbol("x")], ["x"], [array], [out], out.dtype.name)
            return len(regions) == 1
        made.node = Put([part] if value is None else [value.whole(), part], place=place,
                        fill=None if value is not None or covered == out.size else 0)
        made.node.values.append(made)
        tracer.graph.nodes.append(made.node)
        value = made
    if value is None:
        return False
    node = value.node
    known = tracer.add(out, node)
    node.values[0] = known
    node.place = type(node.place)(known, node.place.offset, node.place.shape, node.place.strides)
    return True


def movement(op, arrays, many: bool, options: dict, out: np.ndarray):
    """[(operand, (offset, strides in elements of the result))] where an operator only moves elements, else None.

    Each element of the operands gets a label of its own, drawn at random so that no sum of labels is one.
    """
    total = sum(a.size for a in arrays)
    rng = np.random.default_rng(total)
    labels = np.unique(rng.integers(1, 1 << 52, total + 8 + total // 64))
    if labels.size < total:
        return None
    labels = rng.permutation(labels[:total])
    operands, start = [], 0
    for a in arrays:
        own = np.empty_like(a, np.int64)
        own[...] = labels[start:start + a.size].reshape(a.shape)
        operands.append(own)
        start += a.size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")         # labels are no numbers to compute with
        moved = op.forward(operands, **options) if many else op.forward(*operands, **options)
    if not isinstance(moved, np.ndarray) or moved.shape != out.shape:
        return None
    strides = [s // out.itemsize for s in out.strides]
    memory = np.zeros(1 + sum((n - 1) * s for n, s in zip(out.shape, strides)), np.int64)
    np.lib.stride_tricks.as_strided(memory, out.shape, [8 * s for s in strides])[...] = moved
    where = np.flatnonzero(memory)
    order = np.argsort(memory[where])
    found = np.searchsorted(memory[where][order], np.concatenate([o.reshape(-1) for o in operands]) if operands else [])
    if len(where) > total:
        return None
    regions, start, seen = [], 0, 0
    for a, own in zip(arrays, operands):
        flat = own.reshape(-1)
        index = np.minimum(found[start:start + a.size], max(len(where) - 1, 0))
        start += a.size
        present = memory[where[order[index]]] == flat if len(where) else np.zeros(a.size, bool)
        if not present.any():
            if a.size:
                return None
            continue
        if not present.all():
            return None
        at = where[order[index]].reshape(a.shape)
        offset = int(at.reshape(-1)[0])
        steps = tuple(int(at[tuple(int(k == d) for k in range(a.ndim))]) - offset if n > 1 else 0
                      for d, n in enumerate(a.shape))
        grid = offset + sum((np.arange(n).reshape([-1 if k == d else 1 for k in range(a.ndim)]) * s
                             for d, (n, s) in enumerate(zip(a.shape, steps))), np.zeros((1,) * a.ndim, np.int64))
        if not np.array_equal(np.broadcast_to(grid, a.shape), at):
            return None
        regions.append((a, (offset, steps)))
        seen += a.size
    return regions if seen == len(where) else None


def _sum_to(tracer, arrays, options, results) -> bool:
    x, out, shape = arrays[0], results[0], options["shape"]
    lead = x.ndim - len(shape)
    dims = (*range(lead), *(lead + d for d, n in enumerate(shape) if n == 1 and x.shape[lead + d] != 1))
    tracer.reduce(BOOK["sum"], arrays, dims, out)
    return True


def _addmm(tracer, arrays, options, results) -> bool:
    """A product and a sum, which fuses with what follows; weighted ones stay a call."""
    shift, x, y = arrays
    out = results[0]
    if options.get("beta", 1) != 1 or options.get("alpha", 1) != 1 or out.dtype.kind != "f" or not out.size or not x.size:
        return False
    product = np.empty(out.shape, out.dtype)        # never filled: to a trace memory is a name
    tracer.call(BOOK["matmul"], [x, y], False, {}, product)
    tracer.map([Symbol("", BOOK["add"], (Symbol("a"), Symbol("b")))], ["a", "b"], [shift, product], [out], out.dtype.name)
    return True


_FORMULAS = {"sum_to": _sum_to, "addmm": _addmm}
_SCATTERS = {"select_scatter", "slice_scatter", "diagonal_scatter"}
