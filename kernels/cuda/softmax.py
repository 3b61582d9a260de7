"""softmax and log_softmax on CUDA, and their gradients: maximum, exponentials, their sum, scaling.

    warp      a row of up to 256 elements: one warp; the row is read once and kept in shared memory
    block     a row of up to 2048: one block, likewise
    long      longer rows: one block, which reads the row again for each step
    across    the dimension is not the innermost: a block takes 32 neighbouring columns, eight rows of threads each

A maximum that ignores NaN is enough, since the exponential of NaN makes the sum NaN. A thread adds its share of a row in the dtype
that is computed in (float16 in float32), shares are added in float64, always in the same order. Called through `softmax`.
"""
from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from ..source import ITEMSIZE, indented, packed, unpacked
from .compiler import Program
from .launch import BLOCKS, Launch, View

THREADS, WARPS = 256, 8
ROOM = {"warp": 256, "block": 2048}         # elements of a row in shared memory
NAMES = ("softmax", "log_softmax", "softmax_backward", "log_softmax_backward")


@functools.cache
def softmax_program(name: str, dtype: str, form: str) -> Program:
    """The kernel of one of NAMES in one dtype and form. Arguments: result, operands (x, or g and y), n, r; `across`: tail too."""
    writer = _Writer(name, dtype, form)
    parameters = ["q", *writer.sources, "n", "r", *(["tail"] if form == "across" else [])]
    source = [f"def kernel({', '.join(parameters)}):", *indented(1, writer.kernel())]
    addresses = 1 + len(writer.sources)
    types = ("address",) * addresses + ("int64",) * (len(parameters) - addresses)
    return Program(f"{name}_{form}_{dtype}", "\n".join(source) + "\n", types, {}, THREADS)


class _Writer:
    """Statements of one kernel."""

    def __init__(self, name: str, dtype: str, form: str):
        self.dtype, self.form = dtype, form
        self.backward, self.log = name.endswith("backward"), name.startswith("log")
        self.sources = ("g", "y") if self.backward else ("x",)
        self.compute, self.size = "float32" if dtype == "float16" else dtype, ITEMSIZE[dtype]
        self.width = ITEMSIZE[self.compute]
        self.cached = form in ROOM

    def read(self, source: str) -> str:
        return unpacked(self.dtype, f"read_{self.dtype}({source}, start + k * step)")

    def again(self, source: str) -> str:
        """The k-th element once more."""
        return f"peek_{self.compute}(kept_{source}, mine + k * {self.width})" if self.cached else self.read(source)

    def keep(self, source: str, value: str) -> list[str]:
        return [f"keep_{self.compute}(kept_{source}, mine + k * {self.width}, {value})"] if self.cached else []

    def walk(self, lines: list[str]) -> list[str]:
        return ["k = lane", "while k < r:", *indented(1, [*lines, "k = k + lanes"])]

    def over_threads(self, name: str, how: str, dtype: str) -> list[str]:
        """`name` of all threads of a row combined, the same in each of them."""
        def joined(a: str, b: str) -> str:
            return f"{a} + {b}" if how == "add" else f"{a} if {a} > {b} else {b}"
        size, code = ITEMSIZE[dtype], []
        if self.form == "across":
            code = [f"keep_{dtype}(slots, thread() * {size}, {name})", "barrier()",
                    f"{name} = peek_{dtype}(slots, (thread() & 31) * {size})"]
            for y in range(1, WARPS):
                code += [f"other = peek_{dtype}(slots, ({32 * y} + (thread() & 31)) * {size})", f"{name} = {joined(name, 'other')}"]
            return [*code, "barrier()"]
        for distance in (16, 8, 4, 2, 1):
            code += [f"other = from_across({name}, {distance})", f"{name} = {joined(name, 'other')}"]
        if self.form == "warp":
            return code
        code += ["if thread() & 31 == 0:", f"    keep_{dtype}(slots, (thread() >> 5) * {size}, {name})", "barrier()",
                 f"{name} = peek_{dtype}(slots, 0)"]
        for warp in range(1, WARPS):
            code += [f"other = peek_{dtype}(slots, {warp * size})", f"{name} = {joined(name, 'other')}"]
        return [*code, "barrier()"]

    def steps(self) -> list[str]:
        """All that is done for one row."""
        store = f"store_{self.dtype}(q, start + k * step, "
        if self.backward:
            first = [line for s in self.sources for line in (f"{s}_k = {self.read(s)}", *self.keep(s, f"{s}_k"))]
            share = "g_k" if self.log else "g_k * y_k"
            code = [f"share = as_{self.compute}(0)", *self.walk([*first, f"share = share + {share}"]), "total = as_float64(share)",
                    *self.over_threads("total", "add", "float64"), f"dot = as_{self.compute}(total)"]
            result = "g_k - libm.exp(y_k) * dot" if self.log else "y_k * (g_k - dot)"
            last = [f"g_k = {self.again('g')}", f"y_k = {self.again('y')}", f"{store}{packed(self.dtype, result)})"]
            return code + self.walk(last)
        code = [f"top = as_{self.compute}(-inf)",
                *self.walk([f"x_k = {self.read('x')}", *self.keep("x", "x_k"), "top = x_k if x_k > top else top"]),
                *self.over_threads("top", "max", self.compute), f"share = as_{self.compute}(0)"]
        exponential = [f"e_k = libm.exp({self.again('x')} - top)", "share = share + e_k"]
        code += [*self.walk(exponential + ([] if self.log else self.keep("x", "e_k"))), "total = as_float64(share)",
                 *self.over_threads("total", "add", "float64")]
        if self.log:
            code.append(f"shift = as_{self.compute}(libm.log(total))")
            result = f"({self.again('x')} - top) - shift"
        else:
            code.append(f"scale = as_{self.compute}(1.0 / total)")
            result = f"{self.again('x')} * scale" if self.cached else f"libm.exp({self.again('x')} - top) * scale"
        return code + self.walk([store + packed(self.dtype, result) + ")"])

    def kernel(self) -> list[str]:
        rows = WARPS if self.form == "warp" else 1
        code = []
        if self.cached:
            code += [f"kept_{s} = shared({rows * ROOM[self.form] * self.width})" for s in self.sources]
        if self.form != "warp":
            code.append(f"slots = shared({8 * (THREADS if self.form == 'across' else WARPS)})")
        if self.form == "across":
            return [*code, "lane, lanes, step = thread() >> 5, 8, tail * " + str(self.size), "across = quotient(tail + 31, 32)",
                    "item = block()", "while item < n * across:",
                    *indented(1, ["outer = quotient(item, across)", "column = (item - outer * across) * 32 + (thread() & 31)",
                                  f"start = (outer * r * tail + column) * {self.size}", "many = r", "r = r if column < tail else 0",
                                  *self.steps(), "r = many", "item = item + blocks()"])]
        lanes = 32 if self.form == "warp" else THREADS
        code += [f"lane, lanes, step = thread() & {lanes - 1}, {lanes}, {self.size}",
                 f"mine = (thread() >> 5) * {ROOM['warp'] * self.width}" if self.form == "warp" else "mine = 0",
                 f"row = block() * {rows} + {'(thread() >> 5)' if rows > 1 else '0'}", "while row < n:",
                 *indented(1, [f"start = row * r * {self.size}", *self.steps(), f"row = row + blocks() * {rows}"])]
        return code


def softmax(name: str, out: View, operands: Sequence[View], dim: int) -> list[Launch]:
    """One of NAMES along a dimension; all views contiguous and of one shape."""
    shape = out.shape or (1,)
    dim = min(dim, len(shape) - 1)
    n, r, tail = math.prod(shape[:dim]), shape[dim], math.prod(shape[dim + 1:])
    if n * r * tail == 0:
        return []
    addresses = (out.address, *(v.address for v in operands))
    if tail != 1:
        program = softmax_program(name, out.dtype, "across")
        return [Launch(program, min(BLOCKS, n * -(-tail // 32)), (*addresses, n, r, tail))]
    form = next((form for form, room in ROOM.items() if r <= room), "long")
    grid = min(BLOCKS, -(-n // (WARPS if form == "warp" else 1)))
    return [Launch(softmax_program(name, out.dtype, form), grid, (*addresses, n, r))]
