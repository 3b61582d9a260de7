"""Running native solvers from Python: their states, the loop that answers what no table can, interrupts, progress and history.

A `Plan` is all that repeated calls share: solver, objective, options. It knows the kernels' states, not what a method is for;
the fronts (`minimize`, `least_squares`, `root`) make plans and turn outcomes into results.
"""
from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

import numpy as np

from kernels.cpu import pool
from kernels.cpu.patience import Guarded
from kernels.solvers import vectors
from kernels.solvers.machine import DONE, HEADER, ITERATION, PAUSED, PRODUCT, STATUSES, WORDS, Solver

from .objective import RESULTS, Objective

BUDGET = 1000               # evaluations until the first look at the clock
SLICE = 0.05                # seconds of native work between two looks, so that Ctrl-C works
PLACES = {"f": WORDS["F"], "g": WORDS["G"], "r": WORDS["R"]}


class Stopped(Exception):
    """The callback asked to stop."""


class State:
    """One run's memory: a row of words for each problem, and views into it."""

    def __init__(self, plan: Plan, rows: int):
        self.words = np.zeros((rows, plan.width), np.int64)
        self.base = self.words.ctypes.data
        self.header = self.words[:, :HEADER]
        self.numbers = self.words.view(np.float64)
        self.vectors = self.words.view(plan.dtype)
        item = plan.dtype.itemsize
        first = HEADER * 8 // item
        second = first + -(-plan.n * item // 8) * 8 // item
        self.x = self.vectors[:, first:first + plan.n]
        self.g = self.vectors[:, second:second + plan.n]
        self.run = self.words[0] if rows == 1 else self.words       # a single problem has no outer dimension
        self.x0, self.g0, self.header0 = self.x[0], self.g[0], self.header[0]
        self.counts = self.header0[:8]          # STAGE, REQUEST, STATUS, N, NIT, NFEV, NJEV, NHEV
        self.value = self.numbers[0, WORDS["NOW_F"]:WORDS["NOW_F"] + 1]
        self.control, self.code = np.zeros(2, np.int64), np.zeros((), np.int64)
        self.scratch = np.empty((rows, 0), np.uint8)

    def progress(self) -> tuple[int, int, float]:
        """(iterations, evaluations, lowest value) so far."""
        return (int(self.header[:, WORDS["NIT"]].max()), int(self.header[:, WORDS["NFEV"]].sum()),
                float(self.numbers[:, WORDS["NOW_F"]].min()))

    def at(self, row: int, address: int, count: int, dtype: np.dtype) -> np.ndarray:
        """`count` elements at an address inside of a row."""
        place = (address - self.base - row * self.words.strides[0]) // dtype.itemsize
        return self.words[row].view(dtype)[place:place + count]


class Plan:
    """A solver with its options for an objective of n unknowns (and m residuals)."""

    def __init__(self, solver: Solver, objective: Objective, n: int, m: int, options: Mapping[str, float],
                 bounds: tuple[np.ndarray, np.ndarray] | None = None):
        self.solver, self.objective, self.n, self.m = solver, objective, n, m
        self.dtype = objective.dtype
        name = self.dtype.name
        self.kernel = solver.run(name)
        self.width = solver.words_of_state(n, m, name, options)
        self.template = solver.header(n, m, name, options)
        self.template[WORDS["OBJECTIVE"]] = objective.address
        self.bounds = bounds
        if bounds is not None:
            self.template[WORDS["BOUNDS"]] = 1
            self.template[WORDS["LOWER"]], self.template[WORDS["UPPER"]] = (b.ctypes.data for b in bounds)
        if n >= vectors.LONG:
            self.template[WORDS["LARGE"]] = vectors.table(name).ctypes.data
        self.free: list[State] = []
        self.budget = BUDGET

    def state(self, rows: int) -> State:
        """A state to run in; give it back to `free`."""
        if rows == 1:
            try:
                return self.free.pop()
            except IndexError:
                pass
        return State(self, rows)

    def give_back(self, state: State) -> None:
        """Keep the memory of a single problem for the next call."""
        if state.words.nbytes <= 1 << 20:
            self.free.append(state)

    def begin(self, state: State, x0: np.ndarray, args: tuple) -> np.ndarray | None:
        """Write the start of every problem; the result must live as long as the run."""
        state.header[:] = self.template
        state.x[:] = x0
        objective = self.objective
        captured = None
        if objective.tensors or objective.owners:
            captured = objective.captured(args)
            state.header[:, WORDS["CAPTURED"]] = captured.ctypes.data
        if objective.scratch:
            self._scratch(state)
        return captured

    def _scratch(self, state: State) -> None:
        size = -(-self.objective.scratch // 64) * 64
        if state.scratch.shape[1] < size:
            state.scratch = np.empty((len(state.words), size + 64), np.uint8)
        start = state.scratch.ctypes.data
        state.header[:, WORDS["SCRATCH"]] = (start + -start % 64) + np.arange(len(state.words)) * state.scratch.strides[0]

    # --- the loop ---------------------------------------------------------------------------------------------------------

    def run(self, state: State, args: tuple, each: Callable[[State], None] | None = None,
            progress: Progress | None = None, code: int | None = None) -> None:
        """Run all problems of a state to their ends. `each` is called after every iteration and may raise Stopped.

        `code`: what a first call of the kernel has given already.
        """
        words, control = state.words, state.control
        budget, captured, passed = self.budget, None, SLICE
        while True:
            if code is None:
                control[0], control[1] = budget, each is not None
                begin = time.perf_counter()
                codes = np.atleast_1d(self._launch(state))
                passed = time.perf_counter() - begin
            else:
                codes, code = np.array([code]), None
            if (codes == DONE).all():
                return
            waiting = np.flatnonzero((codes != DONE) & (codes != PAUSED) & (codes != ITERATION))
            for row in waiting:
                self.answer(state, int(row), int(codes[row]), args)
            if len(waiting):            # a new table may need more of these
                objective = self.objective
                if objective.tensors or objective.owners:
                    captured = objective.captured(args)
                    words[:, WORDS["CAPTURED"]] = captured.ctypes.data
                if objective.scratch > state.scratch.shape[1] - 64:
                    self._scratch(state)
            if each is not None and (codes == ITERATION).any():
                each(state)
            if progress is not None:
                progress.look(state)
            if (codes == PAUSED).any():
                budget = self.budget = max(1, min(int(budget * min(8.0, max(0.1, SLICE / (passed + 1e-9)))), 1 << 40))

    def _launch(self, state: State) -> np.ndarray:
        """Run the kernel until all problems have ended, or wait for something."""
        if not self.objective.interruptible:
            return self.kernel(state.run, state.control)
        before = state.words.copy()
        try:
            return Guarded(self.kernel)(state.run, state.control)
        except KeyboardInterrupt:       # loops that are told to end give values that are none
            state.words[:] = before
            raise

    def answer(self, state: State, row: int, request: int, args: tuple) -> None:
        """Answer the request of one problem in Python."""
        words, n = state.words[row], self.n
        x = state.at(row, int(words[WORDS["X"]]), n, self.dtype)
        p = state.at(row, int(words[WORDS["P"]]), n, self.dtype) if request == PRODUCT else None
        found = self.objective.answer(request, args, x, p)
        for place, array in zip(RESULTS[request], found, strict=True):
            target = state.at(row, int(words[PLACES[place]]), array.size, self.dtype)
            target[:] = array.reshape(-1)

    def best(self, state: State) -> None:
        """Where a run was cut short: put the best point so far where results lie."""
        for row, words in enumerate(state.words):
            if words[WORDS["REQUEST"]] == DONE or not words[WORDS["STAGE"]]:
                continue
            x, g, f = ("BEST_X", "BEST_G", "BEST_F") if words[WORDS["BEST_X"]] else ("NOW_X", "NOW_G", "NOW_F")
            point = state.at(row, int(words[WORDS[x]]), self.n, self.dtype).copy()
            state.g[row] = state.at(row, int(words[WORDS[g]]), self.n, self.dtype)
            state.x[row] = point
            state.numbers[row, WORDS["NOW_F"]] = state.numbers[row, WORDS[f]]


class Progress:
    """Reports on a run now and then: a tqdm bar where tqdm is installed, lines on standard output elsewhere."""

    def __init__(self, name: str, limit: float, every: float = 0.25):
        self.name, self.every, self.start = name, every, time.perf_counter()
        self.last = self.start
        try:
            from tqdm import tqdm
        except ImportError:
            self.bar = None
        else:
            self.bar = tqdm(desc=name, total=int(limit) if limit < 1 << 31 else None, unit="it", leave=False)

    def look(self, state: State) -> None:
        """Report, if it is time."""
        now = time.perf_counter()
        if now - self.last >= self.every:
            self.last = now
            self.say(*state.progress())

    def say(self, iterations: int, evaluations: int, value: float) -> None:
        """One line, or the bar's new place."""
        if self.bar is not None:
            self.bar.n = iterations
            self.bar.set_postfix_str(f"f = {value:.6g}, {evaluations} evaluations")
            return
        print(f"{self.name}: iteration {iterations}, f = {value:.6g}, {evaluations} evaluations, "
              f"{time.perf_counter() - self.start:.1f} s", file=sys.stdout)

    def close(self) -> None:
        """End the bar."""
        if self.bar is not None:
            self.bar.close()


def interrupted(state: State, code: int) -> None:
    """Mark problems that have not ended."""
    running = state.header[:, WORDS["REQUEST"]] != DONE
    state.header[running, WORDS["STATUS"]] = code


STOPPED, INTERRUPTED = STATUSES["STOPPED"], STATUSES["INTERRUPTED"]


def threads(rows: int, n: int) -> None:
    """Make sure that there are workers where they would have something to do."""
    if rows > 1 or n >= 1 << 15:
        pool.ensure()


