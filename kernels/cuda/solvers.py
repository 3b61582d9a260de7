"""Solvers on the GPU: one problem a thread, each from its start to its own stopping point, in one kernel.

The solvers are the texts of `kernels.solvers`, as on the CPU; only where a state's words and elements lie differs. Word k of all
problems lies together, so that neighbouring threads touch neighbouring words, and every element of a vector takes a word. The
objective is scalar code written into the kernel (`Evaluation`). A problem whose evaluation is not in the kernel (a branch that
nobody has traced yet) gives its request and waits; a kernel that has it goes on from there. Called by engine.optimize.

    >>> print(program(solver("bfgs"), "float64", {VALUE_AND_GRAD: [...]}, 0).source)
    ...
    def kernel(states, starts, options, lower, upper, x_out, g_out, f_out, counts, rows, n, fresh, budget):
        row = block() * threads() + thread()
        ...
"""
from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..solvers import vectors
from ..solvers.machine import FRAME, FUNCTIONS, OPTIONS, PRIVATE, VECTOR, WORDS, Solver, constants, typed
from ..source import indented
from .compiler import Program
from .launch import Launch, View, contiguous

THREADS = 64
COUNTS = ("REQUEST", "STATUS", "NIT", "NFEV", "NJEV", "NHEV")       # rows of the table that a launch leaves behind

ACCESS = """
@inline
def span():
    return threads() * blocks() * 8

@inline
def word(p, k):
    return load_int64(p, k * span())

@inline
def set_word(p, k, value):
    store_int64(p, k * span(), as_int64(value))

@inline
def number(p, k):
    return load_float64(p, k * span())

@inline
def set_number(p, k, value):
    store_float64(p, k * span(), as_float64(value))

@inline
def at(p, i):
    return as_float64(load_{T}(p, i * span()))

@inline
def put(p, i, value):
    store_{T}(p, i * span(), as_{T}(value))

@inline
def place(p, i):
    return p + i * span()

@inline
def place_of_word(p, k):
    return p + k * span()

@inline
def past(p, count):
    return p + count * span()
"""

# `fresh` 1: begin with the starts. Results are written at the end of every launch, so that a run may be broken off.
RUN = """
@inline
def prepare(s, row, n, starts, options, lower, upper):
    for k in range(HEADER):
        set_word(s, k, 0)
    set_word(s, N, n)
    for k in range(MOST_OPTIONS):
        set_number(s, FIRST_OPTION + k, load_float64(options, k * 8))
    begin(s)
    for i in range(n):
        put(word(s, RESULT_X), i, load_{T}(starts, (row * n + i) * {W}))
        put(word(s, RESULT_G), i, nan)
    if lower != 0:
        set_word(s, BOUNDS, 1)
        take_word(s, LOWER, n)
        take_word(s, UPPER, n)
        for i in range(n):
            put(word(s, LOWER), i, load_{T}(lower, i * {W}))
            put(word(s, UPPER), i, load_{T}(upper, i * {W}))

@inline
def run(s, budget{captured}):
    request = word(s, REQUEST)
    if request == DONE and word(s, STAGE) != 0:
        return DONE
    while True:
        if request != DONE and request != ITERATION:
            if budget <= 0:
                return PAUSED
            budget -= 1
            if evaluate(s, request{captured}) == 0:
                return request
        count(s, request)
        request = advance(s)
        set_word(s, REQUEST, request)
        if request == DONE:
            settle(s)
            return DONE

@inline
def give(s, row, rows, n, code, x_out, g_out, f_out, counts):
    x, g, f = word(s, NOW_X), word(s, NOW_G), number(s, NOW_F)
    if word(s, BEST_X) != 0:
        x, g, f = word(s, BEST_X), word(s, BEST_G), number(s, BEST_F)
    for i in range(n):
        store_{T}(x_out, (row * n + i) * {W}, as_{T}(at(x, i)))
        store_{T}(g_out, (row * n + i) * {W}, as_{T}(at(g, i)))
    store_{T}(f_out, row * {W}, as_{T}(f))
    store_int64(counts, row * 8, as_int64(code))
{counts}

def kernel(states, starts, options, lower, upper, x_out, g_out, f_out, counts{captured}, rows, n, fresh, budget):
    row = block() * threads() + thread()
    if row < rows:
        s = as_int64(states) + row * 8
        if fresh != 0:
            prepare(s, row, n, starts, options, lower, upper)
        code = run(s, budget{captured})
        give(s, row, rows, n, code, x_out, g_out, f_out, counts)
"""


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """A way to answer a request, as statements.

    They read x by `load_<dtype>(x, i * span())`, `p` likewise, and captured memory at the addresses c0, c1, ...; where
    `condition` holds (always, if it is empty), `stores`, pairs (word of the address, values), are written.
    """

    statements: Sequence[str]
    stores: Sequence[tuple[str, Sequence[str]]]
    condition: str
    functions: Mapping[str, tuple[Callable, str | None]]


def program(solver: Solver, dtype: str, evaluations: Mapping[int, Sequence[Evaluation]], captured: int) -> Program:
    """The kernel of a solver with an objective; `captured`: how many addresses its evaluations read from."""
    addresses = "".join(f", c{k}" for k in range(captured))
    functions: dict = dict(FUNCTIONS) | dict(solver.functions)
    answers = []
    for request, found in evaluations.items():
        for k, one in enumerate(found):
            functions.update(one.functions)
            answers += [f"@shared\ndef evaluate_{request}_{k}(s{addresses}):", *indented(1, _answer(one, dtype)), ""]
    answers += ["@inline", f"def evaluate(s, request{addresses}):"]
    for request, found in evaluations.items():
        answers += indented(1, [f"if request == {request}:", *indented(1, [
            f"if evaluate_{request}_{k}(s{addresses}) != 0:\n            return 1" for k in range(len(found))])])
    answers.append("    return 0\n")
    names = {**solver.places(), "MOST_OPTIONS": len(solver.options), "FIRST_OPTION": OPTIONS}
    parts = "".join(vectors.ALONE if part is vectors.VECTORS else part for part in solver.parts)
    counts = "\n".join(f"    store_int64(counts, ({k} * rows + row) * 8, word(s, {name}))" for k, name in enumerate(COUNTS) if k)
    loop = FRAME + RUN.replace("{captured}", addresses).replace("{counts}", counts)
    text = (constants(names) + f"HEADER = {_header(solver)}\n" + typed(ACCESS + VECTOR + parts + solver.source, dtype)
            + "\n".join(answers) + typed(loop, dtype))
    for ours, theirs in (("@shared", "@outlined"), (r"\bmin\(", "smaller("), (r"\bmax\(", "greater(")):   # `shared` is memory here
        text = re.sub(ours, theirs, text)
    return Program(f"solver_{solver.name}_{dtype}", text, ("address",) * (9 + captured) + ("int64",) * 4, functions, THREADS)


def _header(solver: Solver) -> int:
    """How many words come before a state's vectors: no more than the solver has names for."""
    return PRIVATE + len(solver.words) + len(solver.numbers)


def _answer(one: Evaluation, dtype: str) -> list[str]:
    used = set(re.findall(r"\b[xp]\b", "\n".join(one.statements)))
    lines = [f"{name} = word(s, {name.upper()})" for name in sorted(used)] + list(one.statements)
    stores = []
    for name, values in one.stores:
        stores.append(f"q = word(s, {name})")
        stores += [f"store_{dtype}(q, {i} * span(), as_{dtype}({value}))" for i, value in enumerate(values)]
    stores.append("return 1")
    return lines + ([f"if {one.condition}:", *indented(1, stores), "return 0"] if one.condition else stores)


class Batch:
    """Problems on a device and their results: `x` and `g` (rows, n), `f` (rows), `counts` (as COUNTS, rows)."""

    def __init__(self, device, solver: Solver, dtype: str, starts: View, options: Mapping[str, float],
                 bounds: tuple[np.ndarray, np.ndarray] | None):
        self.device, self.dtype, self.starts = device, dtype, starts
        self.rows, self.n = starts.shape
        values = {**solver.defaults(dtype), **options}
        self.options = device.put(np.array([values[k] for k in solver.options] or [0.0]))
        self.bounds = None if bounds is None else tuple(map(device.put, bounds))
        self.grid = -(-self.rows // THREADS)
        words = _header(solver) + 4 * self.n + solver.vectors(self.n, 0, values)        # 2 n for x and its gradient, 2 n for bounds
        self.states = device.empty("int64", (words, self.grid * THREADS))
        self.x, self.g = (device.empty(dtype, (self.rows, self.n)) for _ in "xg")
        self.f = device.empty(dtype, (self.rows,))
        self.counts = device.empty("int64", (len(COUNTS), self.rows))
        self.fresh = 1

    def go(self, kernel: Program, captured: Sequence[View], budget: int) -> np.ndarray:
        """Run all problems until each has ended, waits, or has used a budget of evaluations; what each asks for, 0 at its end."""
        lower, upper = (0, 0) if self.bounds is None else (b.address for b in self.bounds)
        arguments = (self.states.address, self.starts.address, self.options.address, lower, upper, self.x.address, self.g.address,
                     self.f.address, self.counts.address, *(c.address for c in captured), self.rows, self.n, self.fresh, budget)
        self.device.run([Launch(kernel, self.grid, arguments)])
        self.fresh = 0
        return self.device.read(contiguous(self.counts.address, "int64", (self.rows,)))

    def vector(self, row: int, name: str) -> np.ndarray:
        """The vector of a problem whose address is in a word of its state, on the host."""
        step = self.states.strides[0]
        place = View(self.states.address + step * WORDS[name] + 8 * row, "int64", (1,), (8,))
        address = int(self.device.read(place)[0])
        return self.device.read(View(address, self.dtype, (self.n,), (step,)))
