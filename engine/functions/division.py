"""Fronts of division: div with rounding_mode, floor_divide, remainder, fmod, and their Python operators.

Integer divisors are looked at before a kernel runs: a zero raises PyTorch's RuntimeError, "ZeroDivisionError".
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kernels.book import BOOK

from ..tensor import Tensor
from .operands import NUMBERS, applied, binary, in_place, into, is_number, need_tensor, plain
from .registry import public

_div = binary("div")


def check_divisor(x, y) -> None:
    """Refuse integer division by zero. A number costs a comparison, a tensor one pass over it, floats nothing."""
    for operand in (x, y):
        if isinstance(operand, Tensor):
            if operand._kind.dtype.category >= 2:
                return
        elif isinstance(operand, (float, complex)):
            return
    if isinstance(y, Tensor):
        array = y._array
        zero = array.size and y._kind.dtype.category and (
            not array.item() if array.size == 1 else bool(BOOK["any_zero"].on_arrays(array)))
    else:
        zero = y == 0
    if zero:
        raise RuntimeError("ZeroDivisionError")


def _guarded(name: str, number_node: str = "") -> Callable:
    """An integer-like division of two operands, the divisor checked; `number_node` names nodes of a number as divisor."""
    tensors = binary(name)
    number = binary(name, number_node) if number_node else tensors

    def call(x, y):
        if y.__class__ is Tensor:
            if x.__class__ is not Tensor or x._kind.dtype.category < 2:
                check_divisor(x, y)
            return tensors(x, y)
        y = plain(y)
        if not y:
            check_divisor(x, y)
        return number(x, y)
    return call


_floor, _trunc = _guarded("floor_divide"), _guarded("trunc_divide")
_remainder, _fmod = _guarded("remainder", "RemainderBackward0"), _guarded("fmod", "FmodBackward0")


@public(aliases=("divide",))
def div(input: Tensor, other: Tensor | complex, *, rounding_mode: str | None = None, out: Tensor | None = None) -> Tensor:
    """Quotient. `rounding_mode` None: true division in floating point; "trunc", "floor": rounded, in the promoted dtype.

    RuntimeError for another rounding mode, and for integers divided by zero.
    """
    if rounding_mode is None:
        return applied(_div, "div", input, other, out=out)
    if rounding_mode == "floor":
        result = _floor(input, other)
    elif rounding_mode == "trunc":
        result = _trunc(input, other)
    else:
        raise RuntimeError(f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{rounding_mode}'")
    return into(out, result)


@public()
def floor_divide(input: Tensor, other: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """input / other rounded down, in the promoted dtype. RuntimeError for integers divided by zero."""
    return into(out, _floor(input, other))


@public()
def remainder(input: Any, other: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """What floor division leaves, with the sign of `other`. RuntimeError for integers divided by zero."""
    return into(out, _remainder(input, other))


@public()
def fmod(input: Tensor, other: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """What truncated division leaves, with the sign of `input`. RuntimeError for integers divided by zero."""
    need_tensor("fmod", "input", 1, input)
    return into(out, _fmod(input, other))


in_place("div", div, "div", aliases=("divide",))
in_place("floor_divide", floor_divide, operator="__ifloordiv__")
in_place("remainder", remainder, operator="__imod__")
in_place("fmod", fmod)


def _operators(call: Callable, name: str) -> None:
    """Python's operator and its reflected form."""
    def forward(self: Tensor, other: Tensor | complex) -> Any:
        return call(self, other) if isinstance(other, (Tensor, *NUMBERS)) or is_number(other) else NotImplemented

    def backward(self: Tensor, other: Tensor | complex) -> Any:
        return call(plain(other), self) if is_number(other) else NotImplemented
    forward.__name__, backward.__name__ = f"__{name}__", f"__r{name}__"
    setattr(Tensor, forward.__name__, forward)
    setattr(Tensor, backward.__name__, backward)


_operators(_floor, "floordiv")
_operators(_remainder, "mod")
