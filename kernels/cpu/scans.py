"""Scans (running folds): source text of their kernels, and which of them runs for which shape and layout.

A scan writes the finished state after each element. It uses a fold's lift, combine and finish (kernels.book.Fold) and runs
in its wide dtypes. "along": one result after the other, four at a time so that their chains of dependent operations overlap;
"across": LANES neighbouring results at once. Called by the records of `kernels.ops.scans`.
"""
from __future__ import annotations

import functools
import math

import numpy as np

from ..book import Fold
from . import buffers, pool
from .folds import LANES, convert, functions, indented, neutral, read, results_of, states, write
from .maps import FLOATING, ITEMSIZE, loaded, stored
from .native import Program, make_ufunc

TOGETHER = 4            # rows of the "along" kernel that run at once


def scan_program(op: Fold, dtype: str, form: str) -> Program:
    """The running fold of a record: form "along": (r)->(r), "across": (r,b)->(r,b), one result array per result of the fold."""
    _, wide = states(op, dtype)
    outputs = results_of(op, dtype)
    across = form == "across"
    core = 1 + len(outputs)
    c = ["def kernel(args, dimensions, steps, data):"]
    if across:
        c += [f"    totals = stack({LANES * sum(ITEMSIZE[d] for d in wide)})",
              "    n, r, b = dimensions[0], dimensions[1], dimensions[2]", "    for outer in range(n):",
              f"        for first in range(0, b, {LANES}):", f"            width = min(b - first, {LANES})",
              f"            start = {neutral(op, dtype, wide)}", f"            for lane in range({LANES}):",
              *indented(4, write("totals", wide, "lane", "start"))]
        sizes = [ITEMSIZE[d] for d in (dtype, *outputs)]
        beside = [f"steps[{core + 2 * k + 1}]" for k in range(1 + len(outputs))]
        total = read("totals", wide, "lane")
        one = [f"at{k} + lane * {s}" for k, s in enumerate(sizes)]
        strided = [f"at{k} + lane * {s}" for k, s in enumerate(beside)]
        dense = " and ".join(f"{step} == {size}" for step, size in zip(beside, sizes, strict=True))
        c += [f"            dense = width == {LANES} and {dense}", "            for i in range(r):",
              *(f"                at{k} = outer * steps[{k}] + i * steps[{core + 2 * k}] + first * {beside[k]}"
                for k in range(1 + len(outputs))),
              "                if dense:", f"                    for lane in range({LANES}):",
              *indented(6, _element(op, dtype, wide, outputs, total, one)),
              *indented(6, write("totals", wide, "lane", "total")),
              "                else:", "                    for lane in range(width):",
              *indented(6, _element(op, dtype, wide, outputs, total, strided)),
              *indented(6, write("totals", wide, "lane", "total"))]
    else:
        c += ["    n, r = dimensions[0], dimensions[1]", f"    groups = n // {TOGETHER} * {TOGETHER}"]
        for count, rows in ((TOGETHER, f"range(0, groups, {TOGETHER})"), (1, "range(groups, n)")):
            c += [f"    for outer in {rows}:"]
            c += [f"        total{row} = {neutral(op, dtype, wide)}" for row in range(count)]
            c += ["        for i in range(r):"]
            for row in range(count):
                places = [f"(outer + {row}) * steps[{k}] + i * steps[{core + k}]" for k in range(1 + len(outputs))]
                c += indented(3, _element(op, dtype, wide, outputs, f"total{row}", places, str(row)))
    if any(d in FLOATING for d in (dtype, *outputs)):
        c.append("    clear_status()")
    core_dims = "(r,b)" if across else "(r)"
    return Program(f"{op.name}_scan_{form}_{dtype}", "\n".join(c) + "\n", functions=functions(op, dtype, wide), inputs=(dtype,),
                   outputs=outputs, signature=f"{core_dims}->{','.join([core_dims] * len(outputs))}", work=op.work)


def _element(op: Fold, dtype: str, wide, outputs, total: str, places: list[str], name: str = "") -> list[str]:
    """Statements for one element: the total with it, finished and stored."""
    lines = [f"element = lift({loaded(dtype, 'args[0]', places[0])}, i)", f"lifted = {convert(wide, 'element')}",
             f"merged = combine({total}, lifted)", f"total{name} = {convert(wide, 'merged')}",
             f"result = finish(total{name}, r)"]
    return lines + [stored(d, f"args[{1 + k}]", places[1 + k], f"result[{k}]" if len(outputs) > 1 else "result")
                    for k, d in enumerate(outputs)]


@functools.cache
def _kernel(op: Fold, dtype: np.dtype, form: str) -> np.ufunc:
    return make_ufunc(scan_program(op, dtype.name, form))


@functools.cache
def _results(op: Fold, dtype: np.dtype) -> tuple[np.dtype, ...]:
    return tuple(np.dtype(d) for d in results_of(op, dtype.name))


def run(op: Fold, x: np.ndarray, dim: int, reverse: bool = False):
    """The running fold along one dimension (from the end if `reverse`), a new array or a tuple of arrays."""
    shape = x.shape
    outs = tuple([buffers.empty(shape, d) for d in _results(op, x.dtype)])
    if x.size:
        if x.size >= pool.GRAIN:
            pool.ensure()
        arrays = [x, *outs]
        if not shape:
            dim, arrays = 0, [a.reshape(1) for a in arrays]
        ndim = max(len(shape), 1)
        form = "along"
        if dim == ndim - 1:
            pass
        elif math.prod(shape[dim + 1:]) < 16:
            arrays = [moved(a, dim, ndim - 1) for a in arrays]
        else:
            form = "across"
            if x.flags.c_contiguous:
                split = (math.prod(shape[:dim]), shape[dim], math.prod(shape[dim + 1:]))
                arrays = [a.reshape(split) for a in arrays]
            else:
                arrays = [moved(a, dim, ndim - 2) for a in arrays]
        if reverse:
            back = (..., slice(None, None, -1)) if form == "along" else (..., slice(None, None, -1), slice(None))
            arrays = [a[back] for a in arrays]
        _kernel(op, x.dtype, form)(*arrays)
    return outs if len(outs) > 1 else outs[0]


def moved(a: np.ndarray, dim: int, to: int) -> np.ndarray:
    """One dimension moved to another place, as np.moveaxis does, in a tenth of its time."""
    axes = [d for d in range(a.ndim) if d != dim]
    axes.insert(to, dim)
    return a.transpose(axes)
