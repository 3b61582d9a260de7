"""The clock: what a case is, how libraries are sampled in turn, how samples become ratios.

One round takes a sample of every library, then the next round does, so that noise of the machine hits all alike; a
ratio is formed within its round, and its median and quartiles are taken over the rounds. Compiling is not running: a
case is called until it is warm before the first sample, and that time is kept apart. Printing is in `report.py`;
`perf/__main__.py` calls `run`.
"""
import gc
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from perf.libraries import Library

# Thread pools spin for some milliseconds after their last task (PyTorch's OpenMP does); on two cores that would slow
# the next library down, so each sample begins after a pause and one call that is not counted.
PAUSE = 0.006


@dataclass(frozen=True)
class Case:
    """One line of the table.

    `build(xp)` prepares data and returns what is measured: a thunk without arguments, or None where the library has
    no such thing. `kind` says what its sample is: "time" (seconds a call, repeated within a sample), "process"
    (seconds of one call that starts a process) or "value" (the number that the thunk returns, taken once). `bar` is
    the highest allowed ratio engine / `against`; with `against` None it bounds the engine's own seconds or number, with
    "best" it is the fastest peer. `also` has further bars, (highest ratio, against).
    `compare` turns off the check that the engine's result equals a peer's (steps that change their state).
    """

    name: str
    build: Callable[[Library], Callable[[], Any] | None]
    bar: float | None = None
    against: str | None = "torch"
    kind: str = "time"
    compare: bool = True
    also: tuple[tuple[float, str], ...] = ()

    def bars(self) -> tuple[tuple[float, str | None], ...]:
        """All bars: (highest ratio or figure, against)."""
        return () if self.bar is None else ((self.bar, self.against), *self.also)


@dataclass(frozen=True)
class Group:
    """Cases that answer one question; `median_bar` bounds the median of their ratios to PyTorch.

    `peers`: the libraries that have a column beside the engine.
    """

    name: str
    question: str
    cases: tuple[Case, ...]
    median_bar: float | None = None
    peers: tuple[str, ...] = ("numpy", "torch", "jax")

    def columns(self, shelf: dict[str, Library | str]) -> dict[str, Library | str]:
        """The libraries of a shelf that this group measures."""
        return {name: library for name, library in shelf.items() if name == "engine" or name in self.peers}


@dataclass
class Effort:
    """How much measuring: rounds, seconds a sample (as many calls as fit, at least one), rounds of whole processes."""

    rounds: int = 11
    sample: float = 0.02
    process_rounds: int = 5

    @classmethod
    def quick(cls) -> "Effort":
        """A first impression in a tenth of the time."""
        return cls(rounds=3, sample=0.004, process_rounds=2)


@dataclass
class Result:
    """What was seen: samples (seconds a call, or one number), seconds of warm-up, and notes, each by library.

    `others`: cores that other programs used while the samples were taken, None where the system does not tell.
    """

    samples: dict[str, list[float]] = field(default_factory=dict)
    warm_up: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    met: bool | None = None
    others: float | None = None

    def median(self, name: str) -> float | None:
        """The library's median sample, None if it was not measured."""
        return statistics.median(self.samples[name]) if self.samples.get(name) else None

    def ratios(self, peer: str) -> list[float]:
        """engine / peer of every round, empty where one of the two is missing; "best" is the fastest peer by its median."""
        if peer == "best":
            others = [name for name in self.samples if name != "engine" and self.samples[name]]
            if not others:
                return []
            peer = min(others, key=lambda name: statistics.median(self.samples[name]))
        pairs = zip(self.samples.get("engine", ()), self.samples.get(peer, ()), strict=False)
        return [mine / other for mine, other in pairs]


def spread(values: list[float]) -> dict[str, float]:
    """Median, quartiles and extremes of at least one number."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return {"median": float(middle), "q1": float(low), "q3": float(high), "min": min(values), "max": max(values)}


def select(groups: Iterable[Group], words: list[str]) -> list[Group]:
    """The groups reduced to the cases whose "group: name" contains one of the words (all without words).

    The bar on a group's median is dropped with the first case: it is a statement about all of them.
    """
    wanted = []
    for group in groups:
        cases = tuple(case for case in group.cases
                      if not words or any(word.lower() in f"{group.name}: {case.name}".lower() for word in words))
        if cases:
            wanted.append(group if len(cases) == len(group.cases) else replace(group, cases=cases, median_bar=None))
    return wanted


def sample(thunk: Callable[[], Any], loops: int) -> float:
    """Seconds a call over `loops` calls, without the garbage collector."""
    calls = itertools.repeat(None, loops)
    was_on = gc.isenabled()
    gc.disable()
    try:
        start = time.perf_counter()
        for _ in calls:
            thunk()
        return (time.perf_counter() - start) / loops
    finally:
        if was_on:
            gc.enable()


def warm(thunk: Callable[[], Any], seconds: float) -> float:
    """Call until the last call is no faster than those before, or for three times `seconds`; returns the fastest."""
    best, stop = float("inf"), time.perf_counter() + 3 * seconds
    while True:
        last = sample(thunk, 1)
        if last > 0.8 * best or time.perf_counter() > stop:
            return min(best, last)
        best = min(best, last)


def loops_for(thunk: Callable[[], Any], once: float, seconds: float) -> int:
    """The number of calls that fill a sample; short calls are timed again many at once, for one is mostly the clock."""
    if once < seconds / 50:
        once = sample(thunk, max(1, int(seconds / 10 / max(once, 1e-7))))
    return max(1, round(seconds / max(once, 1e-8)))


def others_time() -> float | None:
    """Processor seconds used so far by everything but this process and its ended children; None where unknown."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            ticks = [int(word) for word in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])


def run(case: Case, shelf: dict[str, Library | str], effort: Effort) -> Result:
    """Measure one case in every library of the shelf, in turn.

    An error of one library becomes its note; the others go on. The engine's first result is compared with a peer's,
    because a wrong answer is no speed.
    """
    result = Result()
    thunks: dict[str, Callable[[], Any]] = {}
    loops: dict[str, int] = {}
    answers: dict[str, Any] = {}
    for name, library in shelf.items():
        if isinstance(library, str):
            continue
        try:
            thunk = case.build(library)
            if thunk is None:
                continue
            thunk = library.wait(thunk) if case.kind == "time" else thunk
            start = time.perf_counter()
            answers[name] = thunk()
            if case.kind == "time":
                once = warm(thunk, effort.sample)
                result.warm_up[name] = time.perf_counter() - start
                loops[name] = loops_for(thunk, once, effort.sample)
            elif case.kind == "process":
                result.warm_up[name] = time.perf_counter() - start
                loops[name] = 1
            thunks[name] = thunk
        except Exception as error:  # reported in the library's column
            result.notes[name] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    if case.kind == "value":
        result.samples = {name: [float(answers[name])] for name in thunks}
    else:
        if case.kind == "time" and case.compare:
            compare(answers, shelf, result)
        answers.clear()
        take_turns(case, thunks, loops, effort, result)
    result.met = verdict(case, result)
    return result


def take_turns(case: Case, thunks: dict[str, Callable], loops: dict[str, int], effort: Effort, result: Result) -> None:
    """Fill `result.samples`: one sample of each library a round. A library that fails is dropped with a note."""
    began, before = time.perf_counter(), others_time()
    for _ in range(effort.rounds if case.kind == "time" else effort.process_rounds):
        for name, thunk in list(thunks.items()):
            try:
                if case.kind == "time":
                    time.sleep(PAUSE)
                    thunk()
                result.samples.setdefault(name, []).append(sample(thunk, loops[name]))
            except Exception as error:  # reported in the library's column
                result.notes[name] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
                result.samples.pop(name, None)
                del thunks[name]
    elapsed = time.perf_counter() - began
    if elapsed > 0.25 and before is not None and (after := others_time()) is not None:  # the system counts in 10 ms
        result.others = max(0.0, (after - before) / elapsed)


def compare(answers: dict[str, Any], shelf: dict[str, Library | str], result: Result) -> None:
    """Note it when the engine's result is not that of a peer (loosely: accuracy is a group of its own)."""
    peer = next((name for name in ("torch", "numpy", "jax") if name in answers), None)
    if "engine" not in answers or peer is None:
        return
    mine, other = (np.asarray(shelf[name].to_numpy(answers[name])) for name in ("engine", peer))
    if mine.dtype != other.dtype and peer == "torch":
        result.notes["engine"] = f"dtype {mine.dtype}, but {peer} gives {other.dtype}"
    elif mine.shape != other.shape or not np.allclose(mine, other, rtol=1e-3, atol=1e-5, equal_nan=True):
        result.notes["engine"] = f"wrong result: differs from that of {peer}"


def verdict(case: Case, result: Result) -> bool | None:
    """Whether the bar is met; None without a bar or without both figures. An error or a wrong result never meets it."""
    if case.bar is None or "engine" in result.notes:
        return None if case.bar is None else False
    judged = []
    for bar, against in case.bars():
        ratios = result.ratios(against) if against else []
        figure = statistics.median(ratios) if ratios else None if against else result.median("engine")
        if figure is not None:
            judged.append(figure <= bar)
    return all(judged) if judged else None
