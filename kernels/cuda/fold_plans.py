"""Which kernel of `kernels.cuda.folds` runs for a fold of given shapes and strides, in which grid, with which arguments.

`fold` gives the launches of one reduction over any set of dimensions; memory for states of parts and for copies comes from the
caller's `allocate`. `folded` runs them on a device. Called by the device layer of tensors, by kernels of records and by tests.
"""
from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

from ..book import Fold
from ..source import ITEMSIZE, results_of, states
from . import pointwise as maps
from .folds import FOLDED, KEPT, THREADS, fold_program
from .launch import BLOCKS, Launch, View, collapsed, contiguous, divider, pointwise

LONG = 1024             # neighbours from which a whole block folds one result
PART = 1 << 14          # at least so many elements in one part of a result
FEW = 256               # the same where neighbouring threads fold neighbouring results
BUSY = 1 << 10          # blocks that keep every GPU busy: results are cut into parts until there are as many


def fold(op: Fold, x: View, dims: Sequence[int] | None, outs: Sequence[View], extra: Sequence[View] = (),
         allocate: Callable[[int], int] | None = None) -> list[Launch]:
    """Fold `x` over `dims` (None: all) into `outs`, one view a result, of the shape that is kept (folded dimensions left out).

    `extra`: operands of the result's shape. No elements: the neutral state is finished.
    """
    op = op.kernel or op
    folded = range(len(x.shape)) if dims is None else sorted(dims)
    kept = [d for d in range(len(x.shape)) if d not in folded]
    if math.prod(x.shape[d] for d in kept) == 0:
        return []
    operands = (x.dtype, tuple(x.shape[d] for d in kept), tuple(x.strides[d] for d in kept),
                tuple(x.shape[d] for d in folded), tuple(x.strides[d] for d in folded),
                tuple(v.strides for v in (*outs, *extra)))
    plan = _plan(op, *operands)
    if plan is None:        # too many dimensions for the kernels: folded dimensions to the end of a copy
        shape = tuple(x.shape[d] for d in (*kept, *folded))
        copy = contiguous(allocate(math.prod(shape) * ITEMSIZE[x.dtype]), x.dtype, shape)
        moved = View(x.address, x.dtype, shape, tuple(x.strides[d] for d in (*kept, *folded)))
        carrier = maps.CARRIER[ITEMSIZE[x.dtype]]
        launches = pointwise(maps.copy(ITEMSIZE[x.dtype]), [copy._replace(dtype=carrier)], [moved._replace(dtype=carrier)])
        return launches + fold(op, copy, range(len(kept), len(shape)), outs, extra, allocate)
    program, grid, rest, merging = plan
    addresses = [v.address for v in outs]
    inputs = (x.address, *(e.address for e in extra))
    if merging is None:
        return [Launch(program, grid, (*addresses, *inputs, *rest))]
    sizes, (second, second_grid, second_rest) = merging
    pieces = [allocate(size) for size in sizes]
    return [Launch(program, grid, (*pieces, *inputs, *rest)), Launch(second, second_grid, (*addresses, *pieces, *second_rest))]


def folded(device, op: Fold, x: View, dims: Sequence[int] | None = None, extra: Sequence[View] = ()) -> tuple[View, ...]:
    """Run a fold on a device: its results, of the shape that is kept, in new memory."""
    op, held = op.kernel or op, []
    kept = tuple(n for d, n in enumerate(x.shape) if dims is not None and d not in dims)
    outs = [device.empty(d, kept) for d in results_of(op, x.dtype)]

    def allocate(nbytes: int) -> int:
        held.append(device.empty("uint8", (nbytes,)))
        return held[-1].address
    device.run(fold(op, x, dims, outs, extra, allocate))
    return tuple(outs)


@functools.lru_cache(maxsize=4096)
def _plan(op: Fold, dtype: str, kept: tuple[int, ...], kept_steps: tuple[int, ...], folded: tuple[int, ...],
          folded_steps: tuple[int, ...], others: tuple[tuple[int, ...], ...], large: bool = False) -> tuple | None:
    """(program, grid, arguments behind the addresses, None or (bytes of the states of parts, the merging launch))."""
    n, r = math.prod(kept), math.prod(folded)
    if op.positions:        # positions count in C order
        runs, (along,) = _in_order(folded, folded_steps)
    else:
        runs, (along,) = collapsed(folded, (folded_steps,))
    sizes, steps = collapsed(kept, (kept_steps, *others))
    if len(sizes) > KEPT or len(runs) > FOLDED:
        return None
    nearest = min((abs(s) for s in steps[0]), default=1 << 62)
    neighbours = not along or abs(along[0]) < nearest or n == 1
    wide_index = large or n >= 1 << 31 or r >= 1 << 31
    kept_words = _walk(sizes, KEPT, wide_index) + [w for step in steps for w in _padded(step, KEPT)]
    part_words = _walk(sizes, KEPT, wide_index) + [w for step in (steps[0], *steps[1 + len(results_of(op, dtype)):])
                                                   for w in _padded(step, KEPT)]
    run_words = _walk(runs, FOLDED, wide_index) + _padded(along, FOLDED)
    if neighbours and r <= LONG:
        group = min(32, 1 << max(0, r - 1).bit_length())
        program = fold_program(op, dtype, "rows", wide_index)
        return program, min(BLOCKS, -(-n * group // THREADS)), (n, r, r, group, *kept_words, *run_words), None
    if neighbours:
        items, form, extra_words = n, "block", ()
    else:
        rows = 1
        while rows < 8 and rows * 8 < r and n * rows < BUSY * THREADS:
            rows *= 2
        items, form, extra_words = -(-n * rows // THREADS), "across", (rows,)
    parts = max(1, min(BUSY // items, -(-r // (PART if neighbours else FEW))))
    length = -(-r // parts)
    length += -length % (4 * THREADS if neighbours else 1)          # parts that begin at full sectors
    if parts == 1:
        program = fold_program(op, dtype, form, wide_index)
        return program, min(BLOCKS, items), (n, r, r, *extra_words, 1, length, *kept_words, *run_words), None
    parts = -(-r // length)
    program, merge = fold_program(op, dtype, f"{form}_part", wide_index), fold_program(op, dtype, "merge", wide_index)
    group = min(32, 1 << (parts - 1).bit_length())
    merge_words = _walk(sizes, KEPT, wide_index)
    merge_words += [w for step in steps[1:1 + len(results_of(op, dtype))] for w in _padded(step, KEPT)]
    second = (merge, min(BLOCKS, -(-n * group // THREADS)), (n, parts, r, group, *merge_words, *_walk((), FOLDED, wide_index)))
    bytes_of_states = tuple(n * parts * ITEMSIZE[d] for d in states(op, dtype)[1])
    return (program, min(BLOCKS, items * parts), (n, r, r, *extra_words, parts, length, *part_words, *run_words),
            (bytes_of_states, second))


def _in_order(shape: tuple[int, ...], steps: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """As `launch.collapsed` for one operand, the last dimension innermost whatever its stride."""
    sizes, found = [], []
    for n, s in zip(reversed(shape), reversed(steps), strict=True):
        if n == 1:
            continue
        if sizes and s == found[-1] * sizes[-1]:
            sizes[-1] *= n
        else:
            sizes.append(n)
            found.append(s)
    return tuple(sizes), (tuple(found),)


def _padded(steps: tuple[int, ...], count: int) -> list[int]:
    return [*steps, *[0] * (count - len(steps))]


def _walk(sizes: tuple[int, ...], count: int, wide_index: bool) -> list[int]:
    words = [max(1, len(sizes))]
    for d in range(count - 1):
        size = sizes[d] if d < len(sizes) - 1 else 1
        words += [size, *((0, 0) if wide_index else divider(size))]
    return words
