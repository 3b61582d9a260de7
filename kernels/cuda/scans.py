"""Scans (running folds) on CUDA: cumsum and its kin write the finished state after each element, in the fold's wide dtypes.

    along     one block a row, a chunk of THREADS elements at a time: scans of warps by shuffles, then of the warps' totals in
              shared memory, then the chunk's total is carried on
    across    one thread a column, which walks it: the dimension is not the innermost, so neighbours read neighbours

Each element is read and written once; the order is fixed, so results repeat. Called through `scan`.
"""
from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from ..book import Fold
from ..source import convert, functions, indented, neutral, packed, results_of, states, unpacked
from .compiler import Program
from .fold_plans import _padded, _walk
from .folds import KEPT, THREADS, _Writer
from .launch import BLOCKS, Launch, View, collapsed


@functools.cache
def scan_program(op: Fold, dtype: str, form: str) -> Program:
    """The running fold of a record; form "along" or "across". Arguments: results, operand, rows, length, walks, strides along."""
    writer = _Scan(op, dtype)
    code = writer.along() if form == "along" else writer.across()
    source = [f"def kernel({', '.join(name for name, _ in writer.parameters)}):", *indented(1, code)]
    return Program(f"{op.name}_scan_{form}_{dtype}", "\n".join(source) + "\n", tuple(d for _, d in writer.parameters),
                   functions(op, dtype, states(op, dtype)[1]), THREADS)


class _Scan(_Writer):
    """Statements of one kernel."""

    def __init__(self, op: Fold, dtype: str):
        self.op, self.dtype, self.wide_index = op, dtype, False
        self.state, self.wide = states(op, dtype)
        self.outputs = results_of(op, dtype)
        targets = [f"q{k}" for k in range(len(self.outputs))]
        operands = ["x", *targets]
        self.walks = {"k": (KEPT, operands)}
        self.parameters = [*((a, "address") for a in (*targets, "x")), ("n", "int64"), ("r", "int64"), ("kdims", "int64")]
        self.parameters += [(f"k{what}{d}", "int64" if what == "s" else "uint32" if what == "m" else "int32")
                            for d in range(KEPT - 1) for what in "smh"]
        self.parameters += [(f"kt_{o}_{d}", "int64") for o in operands for d in range(KEPT)]
        self.parameters += [(f"{o}_step", "int64") for o in operands]

    def lifted(self, name: str) -> list[str]:
        element = unpacked(self.dtype, f"read_{self.dtype}(x, o_x + k * x_step)")
        return [f"made = lift({element}, k)", f"{name} = {convert(self.wide, 'made')}"]

    def written(self) -> list[str]:
        results = ["result"] if len(self.outputs) == 1 else [f"result[{k}]" for k in range(len(self.outputs))]
        return ["result = finish(total, r)", *(f"store_{d}(q{k}, o_q{k} + k * q{k}_step, {packed(d, v)})"
                                               for k, (d, v) in enumerate(zip(self.outputs, results, strict=True)))]

    def behind(self, earlier: str) -> list[str]:
        """`total` behind an earlier state."""
        return [f"merged = combine({earlier}, total)", f"total = {convert(self.wide, 'merged')}"]

    def across(self) -> list[str]:
        step = [*self.lifted("here"), *self.join("total", "here", self.wide), *self.written(), "k = k + 1"]
        return ["j = block() * threads() + thread()", "while j < n:",
                *indented(1, [*self.walk("k", "j"), self.start(), "k = 0", "while k < r:", *indented(1, step),
                              "j = j + blocks() * threads()"])]

    def along(self) -> list[str]:
        parts = ["total"] if len(self.wide) == 1 else [f"total[{k}]" for k in range(len(self.wide))]
        chunk = ["k = first + thread()", self.start(), "if k < r:", *indented(1, self.lifted("total"))]
        for distance in (1, 2, 4, 8, 16):
            moved = [f"from_before({p}, {distance})" for p in parts]
            chunk += [f"other = {moved[0] if len(moved) == 1 else '(' + ', '.join(moved) + ')'}", f"if lane >= {distance}:",
                      *indented(1, self.behind("other"))]
        chunk += ["if lane == 31:", *indented(1, self.keep("warp")), "barrier()", "prefix = carry", "y = 0",
                  f"while y < {THREADS // 32}:",
                  *indented(1, [*self.kept("y", "other"), "if y < warp:", *indented(1, self.join("prefix", "other", self.wide)),
                                *self.join("carry", "other", self.wide), "y = y + 1"]),
                  "barrier()", *self.behind("prefix"), "if k < r:", *indented(1, self.written()), f"first = first + {THREADS}"]
        return [self.shared(), "lane, warp = thread() & 31, thread() >> 5", "j = block()", "while j < n:",
                *indented(1, [*self.walk("k", "j"), f"carry = {neutral(self.op, self.dtype, self.wide)}", "first = 0",
                              "while first < r:", *indented(1, chunk), "j = j + blocks()"])]


def scan(op: Fold, x: View, dim: int, outs: Sequence[View], reverse: bool = False) -> list[Launch] | None:
    """Running fold of `x` along a dimension into `outs`, of its shape; from the end if `reverse`.

    None where the other dimensions do not collapse to KEPT: the caller copies first.
    """
    if x.size == 0:
        return []
    views = [v if v.shape else v._replace(shape=(1,), strides=(0,)) for v in (x, *outs)]
    r = views[0].shape[dim]
    steps = [v.strides[dim] for v in views]
    addresses = [v.address + ((r - 1) * s if reverse else 0) for v, s in zip(views, steps, strict=True)]
    steps = [-s if reverse else s for s in steps]
    rest = tuple(n for d, n in enumerate(views[0].shape) if d != dim)
    kept = tuple(tuple(s for d, s in enumerate(v.strides) if d != dim) for v in views)
    sizes, walked = collapsed(rest, kept)
    if len(sizes) > KEPT:
        return None
    n = math.prod(rest)
    nearest = min((abs(s) for s in walked[0]), default=1 << 62)
    along = abs(steps[0]) <= nearest
    program = scan_program(op, x.dtype, "along" if along else "across")
    words = [n, r, *_walk(sizes, KEPT, False), *(w for step in walked for w in _padded(step, KEPT)), *steps]
    grid = min(BLOCKS, n if along else -(-n // THREADS))
    return [Launch(program, grid, (*addresses[1:], addresses[0], *words))]
