"""Folds (reductions) on CUDA: source text of their kernels. Which of them runs for which layout is in `kernels.cuda.fold_plans`.

A record (kernels.book.Fold) lifts elements to states, combines them, finishes. Each thread runs over its elements in the
running dtype, 4 * BLOCK of them at a time, and adds up totals in the wide one; threads are combined by shuffles inside a warp
and through shared memory between warps. The order depends on shapes alone and no atomics are used: results repeat to the last bit.

    rows      `group` lanes (1 to 32) of a warp fold one result: short runs of neighbours
    block     all threads of a block fold one result, or one of its parts: long runs of neighbours
    across    neighbouring threads fold neighbouring results, `rows` rows of threads each: what is folded is not the innermost
    merge     wide states of parts -> results

`..._part` writes wide states instead of results. Up to KEPT kept and FOLDED folded dimensions are walked by index arithmetic.
"""
from __future__ import annotations

import functools

from ..book import Fold
from ..source import ITEMSIZE, convert, functions, indented, neutral, packed, results_of, states, unpacked
from .compiler import Program

THREADS = 256
BLOCK = 8               # rounds of four elements that are added in the running dtype before they go into the total
KEPT, FOLDED = 4, 3     # dimensions that kernels walk; operands with more are copied first


@functools.cache
def fold_program(op: Fold, dtype: str, form: str, wide_index: bool = False) -> Program:
    """The kernel of a fold in `dtype`; see the forms above. `wide_index`: 2**31 elements or more."""
    layout, _, part = form.partition("_")
    _, wide = states(op, dtype)
    outputs = wide if part else results_of(op, dtype)
    writer = _Writer(op, dtype, layout, bool(part), outputs, wide_index)
    code = {"rows": writer.rows, "block": writer.block, "across": writer.across, "merge": writer.rows}[layout]()
    source = [*writer.helpers(), f"def kernel({', '.join(name for name, _ in writer.parameters)}):", *indented(1, code)]
    name = f"{op.name}_{form}_{dtype}{'_wide' if wide_index else ''}"
    return Program(name, "\n".join(source) + "\n", tuple(d for _, d in writer.parameters), functions(op, dtype, wide), THREADS)


class _Writer:
    """Statements of one kernel."""

    def __init__(self, op: Fold, dtype: str, layout: str, part: bool, outputs: tuple[str, ...], wide_index: bool):
        self.op, self.dtype, self.part, self.outputs, self.wide_index = op, dtype, part, outputs, wide_index
        self.state, self.wide = states(op, dtype)
        self.merge = layout == "merge"
        self.extras = 0 if self.merge else op.extra
        self.targets = [f"q{k}" for k in range(len(outputs))]
        self.sources = [f"c{k}" for k in range(len(self.wide))] if self.merge else ["x"]
        self.operands = [*([] if self.merge else ["x"]), *([] if part else self.targets), *(f"e{k}" for k in range(self.extras))]
        addresses = [*self.targets, *self.sources, *(f"e{k}" for k in range(self.extras))]
        self.parameters = [(a, "address") for a in addresses] + [(w, "int64") for w in ("n", "r", "whole")]
        self.parameters += [(w, "int64") for w in {"rows": ("group",), "merge": ("group",), "block": ("parts", "length"),
                                                   "across": ("rows", "parts", "length")}[layout]]
        self.walks = {"k": (KEPT, self.operands), "r": (FOLDED, [] if self.merge else ["along"])}
        for letter, (dims, operands) in self.walks.items():
            self.parameters.append((f"{letter}dims", "int64"))
            self.parameters += [(f"{letter}{what}{d}", "int64" if what == "s" else "uint32" if what == "m" else "int32")
                                for d in range(dims - 1) for what in "smh"]
            self.parameters += [(f"{letter}t_{o}_{d}", "int64") for o in operands for d in range(dims)]

    # --- where elements are --------------------------------------------------------------------------------------------

    def walk(self, letter: str, index: str) -> list[str]:
        """Statements that turn an index into the byte offset `o_<operand>` of each operand."""
        dims, operands = self.walks[letter]
        code = [f"left = {index}"]
        for d in range(dims):
            step = [f"o_{o} = {f'o_{o} + ' if d else ''}at * {letter}t_{o}_{d}" for o in operands]
            if d == dims - 1:
                inner = ["at = left", *step]
            else:
                divide = f"quotient(at, {letter}s{d})" if self.wide_index else f"divided(at, {letter}m{d}, {letter}h{d})"
                inner = ["at = left", "left = 0", f"if {letter}dims > {d + 1}:", f"    left = {divide}",
                         f"    at = at - left * {letter}s{d}", *step]
            code += inner if d == 0 else [f"if {letter}dims > {d}:", *indented(1, inner)]
        return code

    def helpers(self) -> list[str]:
        """Functions in front of the kernel: the offset of the k-th folded element."""
        if self.merge:
            return []
        names = [name for name, _ in self.parameters if name.startswith("r") and name not in ("r", "rows")]
        return ["@inline", f"def place_of(k, {', '.join(names)}):", *indented(1, self.walk("r", "k")), "    return o_along", ""]

    def element(self, k: str, name: str) -> list[str]:
        """Statements that make the running state `name` of the k-th element."""
        if self.merge:
            values = [f"as_{d}({unpacked(d, f'read_{d}(c{c}, (j * r + {k}) * {ITEMSIZE[d]})')})" for c, d in enumerate(self.wide)]
            return [f"{name} = {values[0] if len(values) == 1 else '(' + ', '.join(values) + ')'}"]
        names = [n for n, _ in self.parameters if n.startswith("r") and n not in ("r", "rows")]
        element = unpacked(self.dtype, f"read_{self.dtype}(x, o_x + place_of({k}, {', '.join(names)}))")
        lifted = f"lift({', '.join([element, k, *(f'extra{e}' for e in range(self.extras))])})"
        return [f"made = {lifted}", f"{name} = {convert(self.state, 'made')}"]

    # --- combining -----------------------------------------------------------------------------------------------------

    def join(self, into: str, other: str, types: tuple[str, ...]) -> list[str]:
        return [f"merged = combine({into}, {other})", f"{into} = {convert(types, 'merged')}"]

    def run(self, begin: str, end: str, step: str) -> list[str]:
        """`total` over elements begin, begin + step, ...: four at a time, so that their reads overlap."""
        running = self.wide if self.merge else self.state
        four = [line for v in range(4) for line in self.element(f"k + {v} * {step}" if v else "k", f"v{v}")]
        four += [line for a, b in (("v0", "v1"), ("v2", "v3"), ("v0", "v2"), ("part", "v0")) for line in self.join(a, b, running)]
        one = [*self.element("k", "v0"), *self.join("part", "v0", running), f"k = k + {step}"]
        return [f"k = {begin}", f"while k < {end}:",
                *indented(1, [f"part = {neutral(self.op, self.dtype, running)}", "rounds = 0",
                              f"while rounds < {BLOCK} and k + 3 * {step} < {end}:",
                              *indented(1, [*four, f"k = k + 4 * {step}", "rounds = rounds + 1"]),
                              "if rounds == 0:", *indented(1, one),
                              f"widened = {convert(self.wide, 'part')}", *self.join("total", "widened", self.wide)])]

    def shuffled(self, distance: str) -> list[str]:
        """`total` with that of the lane `distance` further on."""
        parts = ["total"] if len(self.wide) == 1 else [f"total[{k}]" for k in range(len(self.wide))]
        moved = [f"from_behind({p}, {distance})" for p in parts]
        return [f"other = {moved[0] if len(moved) == 1 else '(' + ', '.join(moved) + ')'}", *self.join("total", "other", self.wide)]

    def in_shared(self, slot: str) -> list[tuple[str, str, str]]:
        """(dtype, offset of the component, value of `total`) of each component of the state in a slot of shared memory."""
        found, offset = [], 0
        for k, d in enumerate(self.wide):
            found.append((d, f"{offset} + {slot} * {ITEMSIZE[d]}", "total" if len(self.wide) == 1 else f"total[{k}]"))
            offset += THREADS * ITEMSIZE[d]
        return found

    def keep(self, slot: str) -> list[str]:
        return [f"keep_{d}(memory, {offset}, {packed(d, value)})" for d, offset, value in self.in_shared(slot)]

    def kept(self, slot: str, name: str) -> list[str]:
        values = [f"as_{d}({unpacked(d, f'peek_{d}(memory, {offset})')})" for d, offset, _ in self.in_shared(slot)]
        return [f"{name} = {values[0] if len(values) == 1 else '(' + ', '.join(values) + ')'}"]

    def shared(self) -> str:
        return f"memory = shared({THREADS * sum(ITEMSIZE[d] for d in self.wide)})"

    def start(self) -> str:
        return f"total = {neutral(self.op, self.dtype, self.wide)}"

    def located(self) -> list[str]:
        """The places of result j's operands, and its extras."""
        return [*self.walk("k", "j"), *(f"extra{k} = {unpacked(self.dtype, f'read_{self.dtype}(e{k}, o_e{k})')}"
                                        for k in range(self.extras))]

    def finish(self) -> list[str]:
        """Store the result j, or the states of its part."""
        if self.part:
            values = ["total"] if len(self.wide) == 1 else [f"total[{k}]" for k in range(len(self.wide))]
            return [f"store_{d}(q{k}, (j * parts + piece) * {ITEMSIZE[d]}, {packed(d, v)})"
                    for k, (d, v) in enumerate(zip(self.wide, values, strict=True))]
        results = ["result"] if len(self.outputs) == 1 else [f"result[{k}]" for k in range(len(self.outputs))]
        return ["result = finish(total, whole)",
                *(f"store_{d}(q{k}, o_q{k}, {packed(d, v)})" for k, (d, v) in enumerate(zip(self.outputs, results, strict=True)))]

    # --- kernels -------------------------------------------------------------------------------------------------------

    def rows(self) -> list[str]:
        return ["lane = thread() & (group - 1)", f"each = quotient({THREADS}, group)", "first = block() * each", "while first < n:",
                *indented(1, ["j = first + quotient(thread(), group)", self.start(),
                              "if j < n:", *indented(1, [*self.located(), *self.run("lane", "r", "group")]),
                              "distance = group >> 1", "while distance > 0:",
                              *indented(1, [*self.shuffled("distance"), "distance = distance >> 1"]),
                              "if j < n and lane == 0:", *indented(1, [*self.walk("k", "j"), *self.finish()]),
                              "first = first + blocks() * each"])]

    def block(self) -> list[str]:
        last = [*self.kept("thread()", "total"), *(line for d in (4, 2, 1) for line in self.shuffled(str(d)))]
        warps = THREADS // 32
        return [self.shared(), "item = block()", "while item < n * parts:",
                *indented(1, ["j = quotient(item, parts)", "piece = item - j * parts", "begin = piece * length",
                              "end = min(r, begin + length)", *self.located(), self.start(),
                              *self.run("begin + thread()", "end", str(THREADS)),
                              *(line for d in (16, 8, 4, 2, 1) for line in self.shuffled(str(d))),
                              "if thread() & 31 == 0:", *indented(1, self.keep("(thread() >> 5)")), "barrier()",
                              "if thread() < 32:",
                              *indented(1, [self.start(), f"if thread() < {warps}:", *indented(1, last[:1]), *last[1:],
                                            "if thread() == 0:", *indented(1, self.finish())]),
                              "barrier()", "item = item + blocks()"])]

    def across(self) -> list[str]:
        return [self.shared(), f"columns = quotient({THREADS}, rows)", "row = quotient(thread(), columns)",
                "column = thread() - row * columns", "tiles = quotient(n + columns - 1, columns)", "item = block()",
                "while item < tiles * parts:",
                *indented(1, ["piece = quotient(item, tiles)", "j = (item - piece * tiles) * columns + column",
                              "begin = piece * length", "end = min(r, begin + length)", self.start(),
                              "if j < n:", *indented(1, [*self.located(), *self.run("begin + row", "end", "rows")]),
                              "if rows > 1:", *indented(1, [*self.keep("thread()"), "barrier()"]),
                              "if row == 0:",
                              *indented(1, ["y = 1", "while y < rows:",
                                            *indented(1, [*self.kept("(y * columns + column)", "other"),
                                                          *self.join("total", "other", self.wide), "y = y + 1"]),
                                            "if j < n:", *indented(1, [*self.walk("k", "j"), *self.finish()])]),
                              "if rows > 1:", "    barrier()", "item = item + blocks()"])]
