"""Which kernel runs for which operands: programs, grids and arguments. Knows no driver: a `Launch` is what a driver is told.

Operands are `View`s (an address, a dtype, a shape, strides in bytes) or numbers. What depends on shapes and strides alone is
settled once and kept; a launch then puts the addresses in. Called by the device layer of tensors, by `kernels.cuda.emulator`
and by tests.
"""
from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..source import ITEMSIZE
from . import pointwise as maps
from .compiler import Program

ROW = 128               # elements of a row from which a kernel of its own walks rows
BLOCKS = 1 << 14        # of a grid whose threads walk on by themselves: more than any GPU runs at once


class View(NamedTuple):
    """Elements in device memory. `strides` in bytes; `owner` keeps the memory alive, nothing else."""
    address: int
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    owner: object = None

    @property
    def size(self) -> int:
        """How many elements."""
        return math.prod(self.shape)


class Launch(NamedTuple):
    """One kernel to run: `grid` blocks of `program.threads` threads."""
    program: Program
    grid: int
    arguments: tuple


def contiguous(address: int, dtype: str, shape: Sequence[int]) -> View:
    """A view in C order."""
    strides, step = [], ITEMSIZE[dtype]
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return View(address, dtype, tuple(shape), tuple(reversed(strides)))


def broadcast(view: View, shape: tuple[int, ...]) -> View:
    """The view with the shape of a result: dimensions of size one get stride 0."""
    missing = len(shape) - len(view.shape)
    strides = (0,) * missing + tuple(0 if n == 1 and m != 1 else s for n, s, m in zip(view.shape, view.strides, shape[missing:],
                                                                                     strict=True))
    return View(view.address, view.dtype, tuple(shape), strides)


def divider(divisor: int) -> tuple[int, int]:
    """(magic, shift) so that n // divisor == ((n * magic >> 32) + n) >> shift for all 0 <= n < 2**31.

    Source: Granlund and Montgomery, Division by Invariant Integers using Multiplication (1994), figure 4.1.
    """
    shift = (divisor - 1).bit_length()
    return (((1 << 32) * ((1 << shift) - divisor)) // divisor + 1) & 0xFFFFFFFF, shift


def grid_of(count: int, threads: int, most: int = BLOCKS) -> int:
    """Blocks for `count` threads."""
    return max(1, min(most, -(-count // threads)))


# --- layouts ----------------------------------------------------------------------------------------------------------

@functools.lru_cache(maxsize=4096)
def collapsed(shape: tuple[int, ...], strides: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """Fewest dimensions that walk the same elements, the innermost first: (sizes, strides of each operand).

    Ordered by the strides of the first operand (the result), so that neighbouring threads write neighbouring elements.
    """
    order = sorted((d for d, n in enumerate(shape) if n != 1), key=lambda d: tuple(abs(s[d]) for s in strides))
    sizes: list[int] = []
    steps: list[list[int]] = []
    for d in order:
        here = [s[d] for s in strides]
        if sizes and all(h == s * sizes[-1] for h, s in zip(here, steps[-1], strict=True)):
            sizes[-1] *= shape[d]
        else:
            sizes.append(shape[d])
            steps.append(here)
    return tuple(sizes), tuple(tuple(step[k] for step in steps) for k in range(len(strides)))


# --- pointwise --------------------------------------------------------------------------------------------------------

def pointwise(about: maps.Map, outs: Sequence[View], ins: Sequence[View | complex], large: bool = False) -> list[Launch]:
    """Run an expression over operands that broadcast to the shape of the results, which have one shape.

    `large`: with 64-bit indices although the operands need none.
    """
    shape = outs[0].shape
    if math.prod(shape) == 0:
        return []
    numbers = [k for k, x in enumerate(ins) if not isinstance(x, View)]
    views = [*outs, *(broadcast(x, shape) for k, x in enumerate(ins) if k not in numbers)]
    values = [v for k in numbers for v in _number(ins[k], about.in_types[k])]
    aligned = math.gcd(*(v.address for v in views), 16)
    found = _plan(about, shape, tuple(v.strides for v in views), aligned, tuple(numbers), large)
    return [Launch(program, grid, (*(v.address + o for v, o in zip(views, offsets, strict=True)), *values, *rest))
            for program, grid, offsets, rest in found]


def _number(value: complex, dtype: str) -> tuple:
    """A number as a kernel takes it: a half as its bits, a complex number as two."""
    number = np.dtype(dtype).type(value)
    if dtype.startswith("complex"):
        return float(number.real), float(number.imag)
    return (int(number.view(np.uint16)),) if dtype == "float16" else (number.item(),)


@functools.lru_cache(maxsize=4096)
def _plan(about: maps.Map, shape: tuple[int, ...], strides: tuple[tuple[int, ...], ...], aligned: int,
          numbers: tuple[int, ...], large: bool) -> tuple:
    dtypes = [*about.out_types, *(d for k, d in enumerate(about.in_types) if k not in numbers)]
    sizes, steps = collapsed(shape, strides)
    count, width = math.prod(sizes), about.width()
    nothing = (0,) * len(dtypes)
    whole = len(sizes) == 0 or (len(sizes) == 1 and all(s == (ITEMSIZE[d],) for s, d in zip(steps, dtypes, strict=True)))
    if whole and (width == 1 or all(aligned % min(16, width * ITEMSIZE[d]) == 0 for d in dtypes)):
        program = maps.dense(about, numbers)
        return ((program, grid_of(-(-count // width), program.threads), nothing, (count,)),)
    if len(sizes) == 2 and not large and sizes[0] >= ROW:
        found = _banded(about, sizes, steps, dtypes, aligned, numbers)
        if found is not None:
            return ((*found[:2], nothing, found[2]),)
    outer = sizes[maps.DIMENSIONS:]
    sizes, kept = sizes[:maps.DIMENSIONS], tuple(s[:maps.DIMENSIONS] for s in steps)
    plans = []
    for index in np.ndindex(*outer):            # more dimensions than the kernel has: one launch for each place of the rest
        offsets = tuple(sum(i * s for i, s in zip(index, step[maps.DIMENSIONS:], strict=True)) for step in steps)
        plans.append(_strided(about, sizes, kept, offsets, numbers, large))
    return tuple(plans)


def _banded(about: maps.Map, sizes: tuple[int, ...], steps: tuple[tuple[int, ...], ...], dtypes: Sequence[str], aligned: int,
            numbers: tuple[int, ...]) -> tuple | None:
    """(program, grid, arguments) over rows of neighbours where some operand is the same in many places; None where none is."""
    letters = []
    for (along, across), dtype in zip(steps, dtypes, strict=True):
        letters.append("s" if along == 0 else "" if along != ITEMSIZE[dtype] else "h" if across == 0 else "w")
    results = len(about.out_types)
    if "" in letters or letters[:results] != ["w"] * results or not {"h", "s"} & set(letters):
        return None
    width = about.width()
    fits = sizes[0] % width == 0 and all(
        math.gcd(aligned, across) % min(16, width * ITEMSIZE[d]) == 0
        for (_, across), d, letter in zip(steps, dtypes, letters, strict=True) if letter != "s")
    width = width if fits else 1
    program = maps.banded(about, "".join(letters), width, numbers)
    groups = sizes[0] // width
    lanes = min(program.threads, max(32, 1 << (groups - 1).bit_length()))
    blocks = -(-groups // lanes) * -(-sizes[1] // (maps.BAND * (program.threads // lanes)))
    return program, min(BLOCKS, blocks), (groups, sizes[1], lanes, *(across for _, across in steps))


def _strided(about: maps.Map, sizes: tuple[int, ...], steps: tuple[tuple[int, ...], ...], offsets: tuple[int, ...],
             numbers: tuple[int, ...], large: bool) -> tuple:
    count = math.prod(sizes)
    wide = large or count >= 1 << 31 or any(abs(s) >= 1 << 31 for step in steps for s in step)
    program = maps.strided(about, wide, numbers)
    inner = maps.DIMENSIONS - 1
    divisors = (*sizes[:-1], *[1] * (inner - max(0, len(sizes) - 1)))
    rest = [count, len(sizes), *divisors]
    if not wide:
        magic, shifts = zip(*(divider(n) for n in divisors), strict=True)
        rest += [*magic, *shifts]
    for step in steps:
        rest += [step[-1] if step else 0, *step[:-1], *[0] * (inner - max(0, len(step) - 1))]
    return program, grid_of(count, program.threads), offsets, tuple(rest)
