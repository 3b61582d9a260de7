"""Functions that the texts of users' kernels call besides the book's operators, and what makes a function of such a text.

They are scalar functions like those of users, read and differentiated in the same way. Called by `kernels.derive_values`.
"""
from __future__ import annotations

import functools
import math
import types

import numpy as np


def typed(source: str, **names: object) -> types.FunctionType:
    """A function for kernels from its text, in which numbers are `_T(number)`; `names`: what the text refers to."""
    space: dict = {"_T": float, "inf": math.inf, "nan": math.nan, **names}
    name = source[4:source.index("(")]
    exec(compile(source, f"<{name}>", "exec"), space)
    made = space[name]
    made.source, made.typed, made.__module__ = source, True, "kernels.derive"
    return made


TURNS = (1 << 20) - 1           # as in kernels.cpu.patience, which Numba-free code must not need
interrupted = typed(f"def interrupted(count):\n    return stop_asked() != 0 or (count & {TURNS} == 0 and engine_patience() != 0)\n")


@functools.cache
def element_of(length: int) -> types.FunctionType:
    """The element of a tuple at an index, which counts from the end where it is negative; the last for one beyond the end."""
    tests = [f"    if k == {n} or k == {n - length}:\n        return t[{n}]\n" for n in range(length - 1)]
    made = typed(f"def element_{length}(t, k):\n{''.join(tests)}    return t[{length - 1}]\n")
    made.chooses = True
    return made


@functools.cache
def whole_power(n: int) -> types.FunctionType:
    """a to the power n as products."""
    return typed(f"def power_{n}(a):\n    return {' * '.join('a' * n)}\n")


def larger(a, b):
    """max as Python chooses it."""
    return b if b > a else a


def smaller(a, b):
    """min as Python chooses it."""
    return b if b < a else a


def whole_quotient(a, b):
    """Integer division that gives 0 where Python raises."""
    return a // b if b != 0 else 0


whole_quotient.typed = True          # its numbers are integers


def whole_rest(a, b):
    """Integer remainder that gives 0 where Python raises."""
    return a % b if b != 0 else 0


whole_rest.typed = True


def gamma(x):
    """The gamma function; nan at its poles."""
    if x > 0.5:
        return math.exp(math.lgamma(x))
    return math.pi / (math.sin(math.pi * x) * math.exp(math.lgamma(1.0 - x)))


def cbrt(x):
    """The real cube root."""
    return math.copysign(abs(x) ** (1.0 / 3.0), x)


COMPOSED = {math.gamma: gamma, np.cbrt: cbrt} | ({math.cbrt: cbrt} if hasattr(math, "cbrt") else {})
