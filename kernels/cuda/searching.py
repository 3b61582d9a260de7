"""Searching on CUDA: places in sorted rows, membership, groups of equal rows, the most frequent element, chosen elements.

All is built of sorting (`kernels.cuda.sorting`) and binary searches, one thread a search: no atomics, no order that could differ.
Called through `kernels.cuda.records`; counting is in `kernels.cuda.counting`.
"""
from __future__ import annotations

import functools

from ..book import BOOK
from ..cpu.sorting import key_source
from ..source import ITEMSIZE, indented, unpacked
from . import counting, gathers, scatters
from .arrays import dense, filled
from .compiler import Program
from .elements import launches_of, program_of, search_for
from .fold_plans import folded
from .launch import View, contiguous
from .sorting import LONGEST, argsort, rows_of, sorted_rows
from .transposes import copy


@functools.cache
def search_program(dtype: str) -> Program:
    """Positions (int64) of `m` values a row `v` in sorted rows `x` of `r`, `step` elements from row to row."""
    function, stored, _ = key_source(dtype)
    size = ITEMSIZE[stored]
    seen = f"key(read_{stored}(x, (base + middle) * {size}))"
    return program_of(f"search_{dtype}", "q, x, v", "r, m, step, right", [
        "base = quotient(i, m) * step", f"k = key(read_{stored}(v, i * {size}))",
        *search_for(f"{seen} < k or (right != 0 and {seen} == k)"), "store_int64(q, i * 8, low)"], function)


def search(device, sorted_sequence: View, values: View, right: bool) -> View:
    """Positions of values in sorted rows of the same dtype; from the right of equals where `right`."""
    x, v = dense(device, sorted_sequence), dense(device, values)
    out = device.empty("int64", v.shape)
    r, m = x.shape[-1], v.shape[-1] if v.shape else 1
    step = 0 if len(x.shape) == 1 else r
    if step and x.shape[:-1] != v.shape[:-1]:
        return NotImplemented
    device.run(launches_of(search_program(x.dtype), (out, x, v), v.size, r, m, step, int(right)))
    return out


@functools.cache
def member_program(dtype: str) -> Program:
    """Whether (bool; the opposite for `invert` 1) each of `v` is among the sorted `x`; NaN is among nothing."""
    function, stored, bits = key_source(dtype)
    size = ITEMSIZE[stored]
    number = f"k != as_{bits}({(1 << 8 * ITEMSIZE[bits]) - 1}) and " if dtype.startswith("float") else ""
    return program_of(f"member_{dtype}", "q, x, v", "r, invert", [
        f"k = key(read_{stored}(v, i * {size}))", *search_for(f"key(read_{stored}(x, middle * {size})) < k"), "found = 0",
        f"if {number}low < r:", f"    if key(read_{stored}(x, low * {size})) == k:", "        found = 1",
        "store_uint8(q, i, as_uint8(found ^ invert))"], function)


def member(device, x: View, test: View, invert: bool) -> View:
    """Whether each element of `x` is among those of a vector, or is not."""
    if test.size > LONGEST or x.dtype.startswith("complex"):
        return NotImplemented
    x, out = dense(device, x), device.empty("bool", x.shape)
    if test.size:
        test = gathers.picked(device, test, argsort(device, test, 0, False), 0, 1)
    device.run(launches_of(member_program(x.dtype), (out, test, x), x.size, test.size, int(bool(invert))))
    return out


# --- groups -----------------------------------------------------------------------------------------------------------

@functools.cache
def begins_program(dtype: str) -> Program:
    """Whether (bool) row `order[i]` of a matrix of `columns` differs from row `order[i - 1]`; NaN differs from NaN."""
    function, stored, bits = key_source(dtype)
    size = ITEMSIZE[stored]
    number = f" or k == as_{bits}({(1 << 8 * ITEMSIZE[bits]) - 1})" if dtype.startswith("float") else ""
    return program_of(f"begins_{dtype}", "q, x, order", "columns", [
        "found, c = 0, 0", "if i == 0:", "    found = 1", "else:",
        *indented(1, ["here, before = read_int64(order, i * 8) * columns, read_int64(order, (i - 1) * 8) * columns",
                      "while c < columns:",
                      *indented(1, [f"k = key(read_{stored}(x, (here + c) * {size}))",
                                    f"if k != key(read_{stored}(x, (before + c) * {size})){number}:", "    found = 1",
                                    "    c = columns", "c = c + 1"])]),
        "store_uint8(q, i, as_uint8(found))"], function)


def groups(device, x: View, consecutive: bool) -> tuple[View, View, View]:
    """Equal rows of a matrix: (order of the rows, run number of each row in that order, how many runs)."""
    if x.shape[0] > LONGEST or x.dtype.startswith("complex"):
        return NotImplemented
    x = dense(device, x)
    rows, columns = x.shape
    order = counting.numbered(device, rows)
    if not rows:
        return order, order, filled(device, "int64", ())
    for column in [] if consecutive else range(columns - 1, -1, -1):
        own = x._replace(address=x.address + column * ITEMSIZE[x.dtype], shape=(rows,), strides=x.strides[:1])
        found = sorted_rows(device, gathers.picked(device, own, order, 0, 1))
        order = gathers.picked(device, order, found, 0, 1)
    begins = device.empty("bool", (rows,))
    device.run(launches_of(begins_program(x.dtype), (begins, x, order), rows, columns))
    runs, total = counting.ranks(device, begins)
    return order, runs, total


# --- chosen elements --------------------------------------------------------------------------------------------------

@functools.cache
def lengths_program(dtype: str) -> Program:
    """Rows of `r` sorted elements: at the last of each run of equals how long it is (int64), elsewhere 0. NaN are runs of one."""
    size = ITEMSIZE[dtype]

    def element(index: str) -> str:
        return unpacked(dtype, f"read_{dtype}(x, (base + {index}) * {size})")
    return program_of(f"lengths_{dtype}", "q, x", "r", [
        "base = quotient(i, r) * r", "j, length = i - base, 0", f"value = {element('j')}", "last = j == r - 1", "if not last:",
        f"    last = {element('(j + 1)')} != value", "if last:",
        *indented(1, ["length = 1", "if value == value:",
                      *indented(1, [*search_for(f"{element('middle')} < value"), "length = j + 1 - low"])]),
        "store_int64(q, i * 8, length)"])


def most_frequent(device, x: View, index: View, dim: int) -> View:
    """The index (of the last) of the longest run of equal elements along a dimension of sorted values."""
    rows, index = rows_of(device, x, dim), rows_of(device, index, dim)
    r, kept = rows.shape[-1], rows.shape[:-1]
    if not r:
        return NotImplemented
    lengths = device.empty("int64", rows.shape)
    device.run(launches_of(lengths_program(rows.dtype), (lengths, rows), rows.size, r))
    (places,) = folded(device, BOOK["argmax"], lengths, [len(kept)])
    return pick(device, index, places, len(kept))


def _scalar(device, x: View) -> View:
    """A copy of an array without dimensions."""
    made = device.empty(x.dtype, ())
    device.run(copy(made, x))
    return made


def pick(device, x: View, index: View, dim: int) -> View:
    """One element along `dim` for each of the rest; `index` has the shape of the result."""
    shape = (*x.shape[:dim], *x.shape[dim + 1:])
    lanes = x._replace(shape=shape, strides=(*x.strides[:dim], *x.strides[dim + 1:]))
    return gathers._moved(device, x.dtype, shape, lanes, index, x.strides[dim], x.shape[dim])


def place(device, x: View, index: View, dim: int, size: int) -> View:
    """Zeros with `x` at one place along a new dimension."""
    def row(v: View) -> View:
        return v._replace(shape=(*v.shape[:dim], 1, *v.shape[dim:]), strides=(*v.strides[:dim], 0, *v.strides[dim:]))
    made = filled(device, x.dtype, (*x.shape[:dim], size, *x.shape[dim:]))
    return scatters._lanes(device, made, row(index), row(x), dim, "set")


def _chosen(device, x: View, index: View, dim: int) -> View:
    return pick(device, x, index, dim) if x.shape else _scalar(device, x)


median_dim = nanmedian_dim = mode = _chosen


def median(device, x: View, at: int) -> View:
    """The element at a row-major position."""
    for n, s in zip(reversed(x.shape), reversed(x.strides), strict=True):
        at, k = divmod(at, n)
        x = x._replace(address=x.address + k * s)
    return _scalar(device, x._replace(shape=(), strides=()))


nanmedian = median


def kth_values(device, x: View, index: View, dim: int) -> View:
    """One element a row along a dimension, at an index with that dimension of size 1, or without it."""
    if not x.shape:
        return _scalar(device, x)
    shape = index.shape
    if len(shape) != len(x.shape):
        index = index._replace(shape=(*shape[:dim], 1, *shape[dim:]), strides=(*index.strides[:dim], 0, *index.strides[dim:]))
    found = gathers.sorted_values(device, x, index, dim)
    return found if found is NotImplemented else contiguous(found.address, x.dtype, shape)._replace(owner=found.owner)
