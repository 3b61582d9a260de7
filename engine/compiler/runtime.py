"""What a program finds out anew at each run: random numbers, and Python numbers taken out of tensors.

`Drawn` and `Reserved` are sources of captured values, like `tracing.Owner`: they draw from the generator that the function
drew from, in the same order, so that a program gives what eager calls give. `Live` stands for the number that `item()`
gives while a trace
runs: arithmetic with it is written down, so that it need not be the same next time; whatever else looks at it makes a guard.
"""
from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from kernels.book import BOOK
from kernels.cpu import buffers, randoms

from .. import dtypes
from ..casts import cast
from ..random import Generator
from ..tape import modes
from ..tensor import KIND, Kind, Tensor

FLOAT64, INT64 = KIND[dtypes.float64], KIND[dtypes.int64]
LARGEST = 2 ** 31               # sums and products of integers below do not overflow


class Computed:
    """A source of a captured value that no tensor holds."""

    computed = True

    def fits(self) -> bool:
        """Whether a run may use it: always."""
        return True

    def get(self) -> None:
        """The tensor that holds it: none."""

    def commit(self) -> None:
        """Nothing is left to do after a run."""


class Drawn(Computed):
    """A flat array of random numbers; `rule`, `a`, `b`: see `kernels.cpu.randoms.draw`."""

    def __init__(self, generator: Generator, shape: tuple[int, ...], dtype: np.dtype, rule: str, a: float, b: float, stream: int):
        self.generator, self.shape, self.dtype, self.how = generator, shape, dtype, (rule, a, b, stream)

    def array(self) -> np.ndarray:
        """The numbers of the next call."""
        out = buffers.empty(self.shape, self.dtype)
        rule, a, b, stream = self.how
        randoms.draw(out, rule, self.generator.reserve, a, b, stream)
        return out


class Reserved(Computed):
    """Key and first block for an operator that draws itself."""

    def __init__(self, generator: Generator, blocks: int):
        self.generator, self.blocks = generator, blocks

    def array(self) -> np.ndarray:
        """The words of the next call."""
        return randoms.reserved(self.generator.reserve, self.blocks)


# --- numbers ----------------------------------------------------------------------------------------------------------

class Live:
    """A Python number while a trace runs: `value`, and the float64 or int64 tensor that it comes from.

    It passes for a float or an int. Sums, products, quotients, squares and roots with other numbers stay live; in a tensor's
    operation it is an operand; a comparison is a guard on its outcome; anything else is a guard on the number.
    """

    __slots__ = ("__weakref__", "tensor", "tracer", "value")

    def __init__(self, tracer, tensor: Tensor, value: float):
        self.tracer, self.tensor, self.value = tracer, tensor, value
        tracer.note_live(self)

    @property
    def __class__(self):
        return self.value.__class__

    def operand(self, kind: Kind) -> Tensor | None:
        """The number as a tensor without dimensions, of a kind that can hold it; None where it must be a constant."""
        if not self.tracer.active:
            return None
        if kind.dtype.category < 2 and kind is not self.tensor._kind:
            seen(self)
            return None
        self.tracer.stops = self.tracer.stops or "item"
        return _converted(self.tensor, kind)

    def __reduce__(self):
        return type(self.value), (seen(self),)

    def __hash__(self) -> int:
        if sys._getframe(1).f_globals.get("__name__", "").startswith("engine."):      # a look into a table of constants
            return object.__hash__(self)
        return hash(seen(self))

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.asarray(seen(self), dtype)

    def __repr__(self) -> str:
        return repr(seen(self))

    def __str__(self) -> str:
        return str(seen(self))

    def __format__(self, spec: str) -> str:
        return format(seen(self), spec)

    def __getattr__(self, name: str) -> Any:
        if name[0] == "_":
            raise AttributeError(name)
        return getattr(seen(self), name)

    def __neg__(self) -> Any:
        return _made(self.tracer, "neg", -self.value, self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return _made(self.tracer, "abs", abs(self.value), self)

    def __pow__(self, other: Any, modulus: Any = None) -> Any:
        if modulus is None and type(other) in (int, float):
            if other == 2 and self.__class__ is float:
                made = _made(self.tracer, "mul", self.value ** 2, self, self)
                if type(made) is Live:
                    _look(made.tracer, BOOK["isfinite"], True, made)        # Python raises OverflowError
                return made
            if other == 0.5 and self.__class__ is float and self.value >= 0 and self >= 0:
                return _made(self.tracer, "sqrt", math.sqrt(self.value), self)
        if isinstance(other, Tensor):
            return NotImplemented
        return pow(seen(self), seen(other), modulus)


def seen(number: Any) -> Any:
    """The number itself, which a program may count on from now on: a guard."""
    if type(number) is not Live:
        return number
    number.tracer.guard(number.tensor._array, number.value)
    return number.value


def _converted(tensor: Tensor, kind: Kind) -> Tensor:
    enabled, modes.enabled = modes.enabled, False
    try:
        return cast(tensor, kind)
    finally:
        modes.enabled = enabled


def _operands(kind: Kind, numbers: tuple) -> list:
    return [_converted(n.tensor, kind) if type(n) is Live else n for n in numbers]


def _apply(operation: Callable, kind: Kind, numbers: tuple) -> Tensor:
    enabled, modes.enabled = modes.enabled, False
    try:
        return operation(*_operands(kind, numbers))
    finally:
        modes.enabled = enabled


def _made(tracer, name: str, value: Any, *numbers: Any) -> Any:
    """The live result `value` of an operator of the book on numbers; itself where nothing is written down."""
    if not tracer.active:
        return value
    kind = FLOAT64 if value.__class__ is float else INT64
    return Live(tracer, _apply(BOOK[name], kind, numbers), value)


def _look(tracer, operation: Callable, expected: bool, *numbers: Any) -> None:
    """A guard on a truth about numbers, computed in float64."""
    if tracer.active:
        tracer.guard(_apply(operation, FLOAT64, numbers)._array, expected)


def _arithmetic(name: str, function: Callable, reflected: bool) -> Callable:
    def method(self, other):
        if isinstance(other, Tensor) or not isinstance(other, (int, float)):
            return NotImplemented
        x, y = (other, self) if reflected else (self, other)
        a, b = (n.value if type(n) is Live else n for n in (x, y))
        value = function(a, b)
        if value.__class__ is int:
            if max(abs(a), abs(b)) >= LARGEST:
                return function(seen(x), seen(y))
            for n in (x, y):
                if type(n) is Live:
                    _look(self.tracer, lambda v: BOOK["lt"](BOOK["abs"](v), LARGEST), True, n)
        elif name == "div" and type(y) is Live:
            _look(self.tracer, lambda v: BOOK["ne"](v, 0.0), True, y)         # Python raises ZeroDivisionError
        return _made(self.tracer, name, value, x, y)
    return method


def _comparison(name: str, function: Callable) -> Callable:
    def method(self, other):
        if isinstance(other, Tensor) or not isinstance(other, (int, float)):
            return NotImplemented
        value = function(self.value, other.value if type(other) is Live else other)
        _look(self.tracer, BOOK[name], value, self, other)
        return value
    return method


def _plain(function: Callable, reflected: bool = False) -> Callable:
    def method(self, *others):
        if any(isinstance(o, Tensor) for o in others):
            return NotImplemented
        given = [seen(n) for n in (self, *others)]
        return function(*(given[::-1] if reflected else given))
    return method


for _name, _function in (("add", operator.add), ("sub", operator.sub), ("mul", operator.mul), ("div", operator.truediv)):
    _python = "truediv" if _name == "div" else _name
    setattr(Live, f"__{_python}__", _arithmetic(_name, _function, False))
    setattr(Live, f"__r{_python}__", _arithmetic(_name, _function, True))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Live, f"__{_name}__", _comparison(_name, getattr(operator, _name)))
for _name in ("floordiv", "mod", "lshift", "rshift", "and_", "or_", "xor"):
    setattr(Live, f"__{_name.strip('_')}__", _plain(getattr(operator, _name)))
    setattr(Live, f"__r{_name.strip('_')}__", _plain(getattr(operator, _name), True))
Live.__divmod__, Live.__rdivmod__, Live.__rpow__ = _plain(divmod), _plain(divmod, True), _plain(pow, True)
Live.__float__, Live.__int__, Live.__complex__, Live.__round__ = _plain(float), _plain(int), _plain(complex), _plain(round)
Live.__trunc__, Live.__floor__, Live.__ceil__, Live.__invert__ = (_plain(f) for f in (math.trunc, math.floor, math.ceil,
                                                                                      operator.invert))
Live.__index__ = _plain(operator.index)
Live.__bool__ = lambda self: self != 0
