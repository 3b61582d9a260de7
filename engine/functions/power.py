"""Powers: `x ** number` goes to a cheap record for common exponents; number ** tensor; float_power; the in-place forms."""
from __future__ import annotations

from typing import Any

from .. import dispatch, dtypes
from ..tensor import KIND, Tensor
from .operands import NUMBERS, binary, in_place, into, is_number, must_fit, need_tensor, plain, unary
from .registry import public

# Exponents that a cheaper kernel serves exactly; 0.0 finds -0.0 and 0 too, 2.0 finds 2.
_SPECIAL = {2: unary("square"), 3: unary("pow_cube"), 0.5: unary("pow_half"), -0.5: unary("pow_minus_half"),
            -1: unary("pow_minus_one"), -2: unary("pow_minus_two"), 1: unary("pow_one"), 0: unary("pow_zero")}
_tensors, _number, _base = binary("pow"), binary("pow", "PowBackward0"), binary("pow", "PowBackward2")
_two = unary("pow_of_two")


def _power(self: Tensor, exponent: Tensor | complex) -> Tensor:
    """tensor ** exponent."""
    cls = exponent.__class__
    if (cls is int or cls is float) and self._kind.dtype.category >= 2:
        special = _SPECIAL.get(exponent)
        return _number(self, exponent) if special is None else special(self)
    if isinstance(exponent, Tensor):
        return _tensors(self, exponent)
    exponent = plain(exponent)
    if not isinstance(exponent, NUMBERS):
        return NotImplemented
    if self._kind.dtype.category < 2 and isinstance(exponent, float):
        return _power(dispatch.cast(self, KIND[dtypes.DEFAULT.dtype]), exponent)
    if self._kind.dtype.category < 2 and isinstance(exponent, int):
        return _whole(self, int(exponent))
    return _number(self, exponent)


def _whole(x: Tensor, exponent: int) -> Tensor:
    """An integer tensor to the power of a Python int, wrapping around."""
    if exponent < 0:
        raise RuntimeError("Integers to negative integer powers are not allowed.")
    if not x._kind.dtype.category:
        x = dispatch.cast(x, KIND[dtypes.int64])
    must_fit(exponent, x._kind)
    special = _SPECIAL.get(exponent)
    return _number(x, exponent) if special is None else special(x)


def _raise_number(self: Tensor, base: Any) -> Tensor:
    """number ** tensor; powers of two by exp2."""
    base = plain(base)
    if not isinstance(base, NUMBERS):
        return NotImplemented
    if base == 2 and self._kind.dtype.category == dtypes.FLOATING and not isinstance(base, complex):
        return _two(self)
    return _base(base, self)


@public()
def pow(input: Any, exponent: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """input to the power exponent; either may be a number.

    RuntimeError for an integer tensor to a negative integer; integer powers wrap around.
    """
    if isinstance(input, Tensor):
        result = _power(input, exponent)
    elif isinstance(exponent, Tensor):
        result = _raise_number(exponent, input)
    else:
        result = NotImplemented
    if result is NotImplemented:
        raise TypeError(f"pow() received an invalid combination of arguments - got ({type(input).__name__}, "
                        f"{type(exponent).__name__})")
    return into(out, result)


_power.__name__, _raise_number.__name__ = "__pow__", "__rpow__"
Tensor.__pow__, Tensor.__rpow__ = _power, _raise_number
in_place("pow", pow, operator="__ipow__")


def _double(value):
    """A tensor in double precision; numbers stay."""
    if not isinstance(value, Tensor):
        return value
    kind = KIND[dtypes.complex128 if value._kind.dtype.is_complex else dtypes.float64]
    return value if value._kind is kind else dispatch.cast(value, kind)


@public(in_place=True)
def float_power(input: Any, exponent: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """The power computed in float64 (complex128 for complex numbers), whatever the operands."""
    if not isinstance(input, Tensor) and not isinstance(exponent, Tensor):
        need_tensor("float_power", "input", 1, input)
    x, y = _double(input), _double(exponent)
    if is_number(y) and not isinstance(y, complex):
        y = float(y)
    return into(out, pow(x, y))


@public(in_place=True)
def square(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Each element times itself; bool gives int64."""
    if isinstance(input, Tensor) and not input._kind.dtype.category:
        input = dispatch.cast(input, KIND[dtypes.int64])
    return into(out, _SPECIAL[2](input))


