"""What a compiled function reads besides its arguments: changed values are noticed, and what cannot be followed runs eagerly."""
import os
import random
import time
import types
import warnings
from collections import deque

import numpy as np
import pytest

import engine

config = types.ModuleType("config_of_the_test")
config.scale = 2.0
numbers = [1.0] * 100
table = {"a": {"b": 2.0}}
ring = deque([1.0, 2.0, 3.0])


class Slotted:
    __slots__ = ("scale",)

    def __init__(self):
        self.scale = 2.0


class Rich:
    scale = 2.0

    def __init__(self):
        self._hidden = 2.0

    @property
    def shown(self):
        return self._hidden

    def method(self, x):
        return x * config.scale


def twice(x):
    return x * 2


slotted, rich = Slotted(), Rich()


def rebind():
    global twice
    twice = lambda x: x * 3


CASES = {
    "module": (lambda x: x * config.scale, lambda: setattr(config, "scale", 3.0)),
    "slot": (lambda x: x * slotted.scale, lambda: setattr(slotted, "scale", 3.0)),
    "class": (lambda x: x * Rich.scale, lambda: setattr(Rich, "scale", 3.0)),
    "class by an object": (lambda x: x * rich.scale, lambda: setattr(Rich, "scale", 4.0)),
    "property": (lambda x: x * rich.shown, lambda: setattr(rich, "_hidden", 3.0)),
    "method": (lambda x: rich.method(x), lambda: setattr(config, "scale", 5.0)),
    "long list": (lambda x: x * numbers[50], lambda: numbers.__setitem__(50, 3.0)),
    "nested dict": (lambda x: x * table["a"]["b"], lambda: table["a"].__setitem__("b", 3.0)),
    "function": (lambda x: twice(x), rebind),
    "variable of the system": (lambda x: x * float(os.environ["ENGINE_TEST_SCALE"]),
                               lambda: os.environ.__setitem__("ENGINE_TEST_SCALE", "3")),
}


@pytest.mark.parametrize("name", CASES)
def test_changed_values_are_noticed(name, monkeypatch):
    monkeypatch.setenv("ENGINE_TEST_SCALE", "2")
    f, change = CASES[name]
    compiled, x = engine.compile(f), engine.ones(3, dtype=engine.float64)
    before = compiled(x).tolist()
    assert compiled(x).tolist() == before == f(x).tolist()
    change()
    assert compiled(x).tolist() == f(x).tolist() != before
    assert compiled.eager == "" and compiled.cache_info().hits == 1


def test_programs_of_values_that_come_back_are_found_again():
    holder = types.SimpleNamespace(part=types.SimpleNamespace(scale=1.0))
    parts = [types.SimpleNamespace(scale=float(k)) for k in range(3)]
    f = engine.compile(lambda x: x * holder.part.scale)
    x = engine.ones(2)
    for _ in range(3):
        for part in parts:
            holder.part = part
            assert f(x).tolist() == [part.scale] * 2
    parts[1].scale = 9.0
    holder.part = parts[1]
    assert f(x).tolist() == [9.0, 9.0]
    assert f.cache_info().misses == 4


def counting():
    yield from (float(k) for k in range(100))


generator, stream, iterator = np.random.default_rng(0), random.Random(0), counting()
UNSTEADY = {"random": (lambda x: x * random.random(), "random numbers"),
            "numpy.random": (lambda x: x * np.random.rand(), "random numbers"),
            "a generator of NumPy's": (lambda x: x * generator.random(), "moves a Generator on"),
            "a generator of Python's": (lambda x: x * stream.random(), "moves a Random on"),
            "an iterator": (lambda x: x * next(iterator), "moves a generator on"),
            "a clock": (lambda x: x * time.perf_counter(), "clock"),
            "a deque": (lambda x: (ring.rotate(1), x * ring[0])[1], "changes a deque")}


@pytest.mark.parametrize("name", UNSTEADY)
def test_what_is_another_thing_at_every_call_runs_eagerly(name):
    f, words = UNSTEADY[name]
    compiled, x = engine.compile(f), engine.ones(3, dtype=engine.float64)
    with pytest.warns(UserWarning, match=words):
        first = compiled(x)
    assert len({first[0].item(), *(compiled(x)[0].item() for _ in range(2))}) == 3


def test_a_pause_is_no_clock_and_a_list_may_be_filled():
    seen = []

    def f(x):
        time.sleep(0)
        seen.append(1)
        return x * 2
    compiled = engine.compile(f)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [compiled(engine.ones(1)).item() for _ in range(3)] == [2.0] * 3
    assert len(seen) == 1                               # documented: what it does besides happens while it is traced


def test_the_text_of_a_number_is_looked_at():
    compiled = engine.compile(lambda x: f"{x.sum():.1f}")
    assert [compiled(engine.full((2,), float(k))) for k in (1, 2, 1)] == ["2.0", "4.0", "2.0"]
    assert compiled.cache_info()[:2] == (1, 2)


def test_what_it_rebinds_is_followed_and_then_left_to_python():
    class Average(engine.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", engine.zeros(2))
            self.last, self.calls = engine.zeros(2), 0

        def forward(self, x):
            self.mean = 0.5 * self.mean + 0.5 * x
            self.last = self.last + x
            self.calls += 1
            return self.mean + self.last * self.calls
    plain, compiled = Average(), engine.compile(Average())
    with pytest.warns(UserWarning, match="changes, at every call, a value"):
        for k in range(8):
            x = engine.full((2,), float(k))
            assert compiled(x).tolist() == plain(x).tolist()
    assert compiled.calls == plain.calls == 8


def test_what_methods_of_a_module_read():
    class Scaled(engine.nn.Module):
        inner = 2.0

        def forward(self, x):
            return self.scaled(x) * config.scale

        def scaled(self, x):
            return x * self.inner
    f, x = engine.compile(Scaled()), engine.ones(2)
    config.scale = 2.0
    assert f(x).tolist() == [4.0, 4.0]
    config.scale = 3.0
    assert f(x).tolist() == [6.0, 6.0]
    Scaled.inner = 5.0
    assert f(x).tolist() == [15.0, 15.0]


def test_what_is_made_once_is_compiled():
    class Lazy(engine.nn.Module):
        table = None

        def forward(self, x):
            if self.table is None:
                self.table = engine.arange(2.0)
            return x + self.table
    f = engine.compile(Lazy())
    for k in range(5):
        assert f(engine.full((2,), float(k))).tolist() == [k, k + 1.0]
    assert f.eager == "" and f.cache_info().misses == 2
