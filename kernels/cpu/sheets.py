"""Large pointwise calls: operands of any layout as few long rows, results in pooled memory, the work on several threads.

NumPy's iterator would call a kernel once for every innermost run. Here the dimensions of all operands are put in the order
of memory and merged where that is possible. What is left is one vector for a plain ufunc, or a sheet: rows that the kernel
(kernels.cpu.maps) receives together. An operand that lies across the rows, a transposed one, is turned first: copied by a
kernel that reads whole cache lines. The broadcasting over further dimensions, and copies where memory overlaps, stay NumPy's.
Called by `engine.large`, `kernels.cpu.copies` and whoever computes into arrays.
"""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from . import buffers, native, pool


def run(ufunc: np.ufunc, arrays: Sequence[np.ndarray], results: Sequence[np.dtype]):
    """New results of a pointwise ufunc: an array, or a tuple of arrays where there are several.

    Shapes broadcast (ValueError where they do not); dimensions lie in memory as in the first operand that has them all.
    """
    pool.ensure()
    shape = arrays[0].shape
    for x in arrays:
        if x.shape != shape or not x.flags.c_contiguous:
            break
    else:
        if len(results) == 1:
            return ufunc(*arrays, buffers.empty(shape, results[0]))
        return ufunc(*arrays, *[buffers.empty(shape, d) for d in results])
    plan = _plan(tuple([(x.shape, x.strides) for x in arrays]), None)
    if plan.across:
        return run(ufunc, plan.turned(arrays), results)
    if plan.plain and len(results) == 1:
        return (_sheet_of(ufunc, plan.sheet) if plan.sheet else ufunc)(*arrays, buffers.empty(plan.memory, results[0]))
    outs = [buffers.empty(plan.memory, d) for d in results]
    if plan.back is not None:
        outs = [out.transpose(plan.back) for out in outs]
    if plan.sheet is not None:
        plan(ufunc, (*arrays, *outs))
    return outs[0] if len(outs) == 1 else tuple(outs)


def into(ufunc: np.ufunc, arrays: Sequence[np.ndarray], out: np.ndarray) -> np.ndarray:
    """The one result of a pointwise ufunc written into `out`, to whose shape the operands broadcast.

    Memory shared with operands is read before it is written (ValueError where shapes do not fit).
    """
    pool.ensure()
    plan = _plan(tuple([(x.shape, x.strides) for x in arrays]), (out.shape, out.strides))
    if plan.across:
        return into(ufunc, plan.turned(arrays), out)
    if plan.sheet is None:
        ufunc(*arrays, out)
    else:
        plan(ufunc, (*arrays, out))
    return out


def copy(ufunc: np.ufunc, x: np.ndarray, out: np.ndarray) -> None:
    """As `into` for the ufunc that copies: what lies across is turned straight into `out`."""
    if x.shape == out.shape and _plan(((x.shape, x.strides),), (out.shape, out.strides)).across and not np.may_share_memory(x, out):
        pool.ensure()
        _turn(x, out)
    else:
        into(ufunc, (x,), out)


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How operands of certain shapes and strides are laid out.

    `memory`: shape of a new result with its dimensions in the order of memory; `back`: the transposition that gives it the
    shape of the result. `views`: for each operand (the result last) what is done to it, in turn: index, transpose, reshape; None
    where nothing is.
    `sheet`: which operands have the dimension of a row; () where one dimension is left; None where there is nothing to do,
    or only NumPy knows how. `across`: operands to turn before anything else, each with its dimensions in the order of memory
    and the way back. `plain`: the kernel takes operands and result as they are.
    """
    memory: tuple[int, ...]
    back: tuple[int, ...] | None
    views: tuple
    sheet: tuple[bool, ...] | None
    across: tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...] = ()
    plain: bool = False

    def turned(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The operands, those that lie across copied into the order of memory."""
        arrays = list(arrays)
        for k, axes, back in self.across:
            x = arrays[k].transpose(axes)
            out = buffers.empty(x.shape, x.dtype)
            _turn(x, out)
            arrays[k] = out.transpose(back)
        return arrays

    def __call__(self, ufunc: np.ufunc, arrays: Sequence[np.ndarray]) -> None:
        """Run a ufunc over operands and results; all results are laid out as the last one."""
        laid = []
        views = self.views + self.views[-1:] * (len(arrays) - len(self.views))
        for x, view in zip(arrays, views, strict=True):
            if view is not None:
                index, axes, shape = view
                if index is not None:
                    x = x[index]
                if axes is not None:
                    x = x.transpose(axes)
                if shape is not None:
                    x = x.reshape(shape)
            laid.append(x)
        if self.sheet:
            ufunc = _sheet_of(ufunc, self.sheet + (True,) * (len(arrays) - len(self.sheet)))
        ufunc(*laid)


@functools.cache
def _sheet_of(kernel: np.ufunc | int, within: tuple[bool, ...]) -> np.ufunc:
    """The gufunc of a pointwise kernel, or of the turning one for a size of elements; a ufunc that is not ours stays."""
    found = _linked(kernel)
    return kernel if found is None else native.make_sheet(*found, within)


@functools.cache
def _linked(kernel: np.ufunc | int) -> tuple[native.Program, int] | None:
    program = turn_program(kernel) if isinstance(kernel, int) else native.rows_of(kernel)
    return None if program is None else (program, native.link(program))


# --- turning ----------------------------------------------------------------------------------------------------------

LINE = 64                   # bytes of a cache line
SPAN = 256                  # columns turned before the next rows are: their cache lines are still there
TYPES = {1: "uint8", 2: "uint16", 4: "uint32", 8: "uint64", 16: "complex128"}      # what stands for elements of a size


def turn_program(size: int) -> native.Program:
    """The kernel that copies rows whose elements lie across: neighbours in memory belong to neighbouring rows.

    Squares, as wide as a cache line has elements, are turned in registers; what is left at the edges goes one by one.
    """
    dtype, side = TYPES[size], min(16, LINE // size)
    squares = "" if size == 16 else f"""
    if u == {size} and t == {size}:
        high, wide = rows // {side} * {side}, n // {side} * {side}
        for begin in range(0, wide, {SPAN}):
            for top in range(0, high, {side}):
                for left in range(begin, min(wide, begin + {SPAN}), {side}):
                    turn_square_{dtype}({side}, address(x) + top * u + left * s, s, address(y) + top * v + left * t, v)"""
    source = f"""
def kernel(args, dimensions, steps, data):
    n, sheet, x, y, s, t = dimensions[0], address(data), args[0], args[1], steps[0], steps[1]
    rows, u, v = word(sheet, 0), word(sheet, 1), word(sheet, 2)
    high, wide = 0, 0{squares}
    for j in range(rows):
        for i in range(wide if j < high else 0, n):
            store_{dtype}(y, j * v + i * t, load_{dtype}(x, j * u + i * s))
"""
    return native.Program(f"turn_{size}", source, inputs=(dtype,), outputs=(dtype,))


def _turn(x: np.ndarray, out: np.ndarray) -> None:
    """Copy an array that lies across into `out`, of the same dtype and shape; they share no memory."""
    size = x.dtype.itemsize
    _plan(((x.shape, x.strides),), (out.shape, out.strides))(size, (x.view(TYPES[size]), out.view(TYPES[size])))


# --- planning ---------------------------------------------------------------------------------------------------------

Layout = tuple[tuple[int, ...], tuple[int, ...]]       # shape, strides


@functools.lru_cache(512)
def _plan(operands: tuple[Layout, ...], out: Layout | None) -> Plan:
    """Order the dimensions as they lie in memory, merge neighbours, and say how each operand becomes rows."""
    shape = np.broadcast_shapes(*(s for s, _ in operands)) if out is None else out[0]
    ndim = len(shape)
    steps = [_steps(layout, ndim) for layout in (*operands, *([] if out is None else [out]))]
    long = [d for d in range(ndim) if shape[d] != 1]
    whole = [step for step in (steps if out is None else steps[-1:]) if all(step[d] for d in long)]
    if 0 in shape or (out is not None and not (whole and _fits(operands, shape))):
        return Plan(shape, None, (), None)
    order = sorted(range(ndim), key=lambda d: -abs(whole[0][d])) if whole else list(range(ndim))
    if [d for d in order if d in long] == long:
        order = list(range(ndim))
    if out is None:         # as strides of a new result in units of elements
        step, new = 1, [0] * ndim
        for d in reversed(order):
            new[d] = step if shape[d] != 1 else 0
            step *= shape[d]
        steps.append(new)
    groups: list[list[int]] = []
    for d in order:
        if d not in long:
            continue
        if groups and all(step[groups[-1][-1]] == step[d] * shape[d] for step in steps):
            groups[-1].append(d)
        else:
            groups.append([d])
    across = tuple(found for k, (s, _) in enumerate(operands) if (found := _across(k, len(s), steps[k], groups, order)))
    if across:              # where a copy turns it: beside the dimension of rows the one that the two are walked together with
        closest = _closest(steps[across[0][0]], groups)
        groups.remove(closest)
        groups.insert(-1, closest)
    layouts = (*operands, (shape, ()))
    views = tuple(_view(s, step, groups, shape) for (s, _), step in zip(layouts, steps, strict=True))
    back = None if order == sorted(order) else tuple(order.index(d) for d in range(ndim))
    sheet = tuple(bool(step[groups[-1][-1]]) for step in steps) if len(groups) > 1 else ()
    plain = back is None and not any(views) and not across
    return Plan(tuple(shape[d] for d in order), back, views, sheet, across, plain)


def _steps(layout: Layout, ndim: int) -> list[int]:
    """Strides in the common shape, 0 where an operand does not vary."""
    shape, strides = layout
    return [0] * (ndim - len(shape)) + [step if n != 1 else 0 for n, step in zip(shape, strides, strict=True)]


def _fits(operands: tuple[Layout, ...], shape: tuple[int, ...]) -> bool:
    """Whether all operands broadcast to a given shape."""
    return all(len(s) <= len(shape) and all(n in (1, m) for n, m in zip(s[::-1], shape[::-1], strict=False)) for s, _ in operands)


def _closest(step: list[int], groups: list[list[int]]) -> list[int]:
    """The group along which an operand's neighbours are closest."""
    return min((g for g in groups if step[g[-1]]), key=lambda g: abs(step[g[-1]]))


def _across(k: int, ndim: int, step: list[int], groups: list[list[int]], order: list[int]):
    """An entry of `Plan.across` where the k-th operand lies across the rows: neighbours along a row are a cache line or more
    apart, and closer along another dimension. None where it does not."""
    if len(groups) < 2 or abs(step[groups[-1][-1]]) < LINE or _closest(step, groups) is groups[-1]:
        return None
    lead = len(step) - ndim
    axes = tuple(d - lead for d in order if d >= lead)
    return k, axes, tuple(axes.index(d) for d in range(ndim))


def _view(own: tuple[int, ...], step: list[int], groups: list[list[int]], shape: tuple[int, ...]):
    """(index, axes, shape) that lead from an operand to its groups; None for what changes nothing, and where nothing does."""
    lead = len(shape) - len(own)
    index = tuple(slice(None) if step[d] else 0 for d in range(lead, len(shape)))
    kept = [d for d in range(lead, len(shape)) if step[d]]
    present = [g for g in groups if step[g[-1]]]
    wanted = [d for g in present for d in g]
    sizes = [_size(g, shape) if g in present else 1 for g in groups]
    if len(groups) > 1 and groups[-1] not in present:
        sizes.pop()
    if not present:
        sizes = []
    first = next((k for k, g in enumerate(groups) if g in present), 0)
    sizes = tuple(sizes[first:])
    view = (None if len(kept) == len(own) else (*index, ...), None if kept == wanted else tuple(kept.index(d) for d in wanted),
            None if sizes == tuple(shape[d] for d in wanted) else sizes)
    return None if view == (None, None, None) else view


def _size(group: list[int], shape: tuple[int, ...]) -> int:
    size = 1
    for d in group:
        size *= shape[d]
    return size
