"""Fronts of choosing: where, masked_fill, clamp, nan_to_num, round with decimals, logit with eps."""
from __future__ import annotations

from typing import Any

from kernels.book import BOOK
from kernels.cpu import pool

from .. import dispatch, dtypes, tape
from ..errors import DTypeError, ShapeError
from ..large import LARGE
from ..tape import modes
from ..tensor import KIND, Tensor, bump
from .operands import caller, in_place, into, must_fit, need_tensor, plain, unary
from .registry import public

# --- where and masked_fill --------------------------------------------------------------------------------------------

_where = caller("where").several()


@public(method=False)
def where(condition: Tensor, input: Any = None, other: Tensor | complex = None, *, out: Tensor | None = None) -> Any:
    """`input` where the condition holds, else `other`; of the condition alone, the indices where it holds.

    `condition`: bool (uint8 is taken with a warning); `input`, `other`: tensors or numbers, broadcast and promoted.
    """
    need_tensor("where", "condition", 1, condition)
    if input is None and other is None:
        return condition.nonzero(as_tuple=True)
    if input is None or other is None:
        given = ", ".join(type(a).__name__ for a in (condition, input, other) if a is not None)
        raise TypeError(f"where() received an invalid combination of arguments - got ({given})")
    dtype = condition._kind.dtype
    if dtype is dtypes.uint8:
        import warnings
        warnings.warn("where received a uint8 condition tensor. This behavior is deprecated and will be removed in a future "
                      "version "
                      "of PyTorch. Use a boolean condition instead.", UserWarning, stacklevel=2)
    elif dtype is not dtypes.bool_:
        raise DTypeError(f"where expected condition to be a boolean tensor, but got a tensor with dtype {dtype.scalar}")
    return into(out, _where(condition, input, other))


def _where_method(self: Tensor, condition: Tensor, other: Tensor | complex) -> Tensor:
    """This tensor where the condition holds, else `other`."""
    return where(condition, self, other)


_where_method.__name__ = "where"
Tensor.where = _where_method

_fill_number = caller("where", "MaskedFillBackward0").several()
_fill_tensor = caller("where", "MaskedFillBackward1").several()


def _filling(input: Tensor, mask: Tensor, value) -> Tensor:
    """The value of a masked_fill as a tensor without dimensions of the input's kind; refuses what PyTorch refuses."""
    need_tensor("masked_fill", "mask", 1, mask)
    if mask._kind.dtype is not dtypes.bool_:
        raise DTypeError(f"masked_fill_ only supports boolean masks, but got mask with dtype {mask._kind.dtype.name}")
    if not isinstance(value, Tensor):
        value = plain(value)
        must_fit(value, input._kind)
        return dispatch.constant(value, input._kind)
    if value._array.ndim:
        raise ShapeError("masked_fill_ only supports a 0-dimensional value tensor, but got tensor with "
                         f"{value._array.ndim} dimension(s).")
    return value if value._kind is input._kind else dispatch.cast(value, input._kind)


@public()
def masked_fill(input: Tensor, mask: Tensor, value: Tensor | complex) -> Tensor:
    """A copy with `value` (a number or a tensor without dimensions) where the bool `mask`, broadcast, is set."""
    need_tensor("masked_fill", "input", 1, input)
    filling = _filling(input, mask, value)
    return (_fill_tensor if isinstance(value, Tensor) else _fill_number)(mask, filling, input)


def masked_fill_(self: Tensor, mask: Tensor, value: Tensor | complex) -> Tensor:
    """Write `value` where the mask is set; straight into the memory where nothing is recorded."""
    filling = _filling(self, mask, value)
    array = self._array
    if (modes.enabled and (self.requires_grad or filling._needs)) or not array.flags.writeable:
        if modes.enabled and self.requires_grad:
            tape.check_inplace(self)
        return dispatch.write(self, (_fill_tensor if isinstance(value, Tensor) else _fill_number)(mask, filling, self))
    if array.size >= LARGE:
        pool.ensure()
    try:
        BOOK["where"].apply.loops[self._kind][0](mask._array, filling._array, array, array)
    except ValueError:
        if mask._array.ndim > array.ndim or any(m != n for m,
                                                n in zip(mask._array.shape[::-1], array.shape[::-1], strict=False) if m != 1):
            raise ShapeError(f"output with shape {list(array.shape)} doesn't match the broadcast shape of the mask "
                             f"{list(mask.shape)}") from None
        raise
    bump(self)
    return self


Tensor.masked_fill_ = masked_fill_


# --- clamp ------------------------------------------------------------------------------------------------------------

_both_numbers, _both_tensors = caller("clamp", "ClampBackward1").several(), caller("clamp").several()
_low_number, _low_tensor = caller("clamp_min", "ClampBackward1"), caller("clamp_min", "ClampBackward0")
_high_number, _high_tensor = caller("clamp_max", "ClampBackward1"), caller("clamp_max", "ClampBackward0")
_least_number, _least_tensor = caller("clamp_min", "ClampMinBackward0").binary(), caller("clamp_min").binary()
_most_number, _most_tensor = caller("clamp_max", "ClampMaxBackward0").binary(), caller("clamp_max").binary()
_low_hot, _high_hot = _low_number.binary(), _high_number.binary()


def _bounds(input: Tensor, *bounds) -> tuple:
    """Numbers that may bound a tensor: plain, and within its dtype."""
    need_tensor("clamp", "input", 1, input)
    checked = []
    for b in bounds:
        if b is not None and b.__class__ is not float:
            b = plain(b)
        if b.__class__ is int and input._kind.dtype.category == dtypes.INTEGER:
            must_fit(b, input._kind)
        checked.append(b)
    return tuple(checked)


@public(aliases=("clip",))
def clamp(input: Tensor, min: Tensor | complex | None = None, max: Tensor | complex | None = None, *,
          out: Tensor | None = None) -> Tensor:
    """Elements limited to [min, max], numbers or tensors, promoted; `max` wins where they cross. One bound may be None."""
    if min.__class__ is not float or max.__class__ is not float:
        min, max = _bounds(input, min, max)
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    if max is None:
        result = _low_tensor(input, min) if isinstance(min, Tensor) else _low_hot(input, min)
    elif min is None:
        result = _high_tensor(input, max) if isinstance(max, Tensor) else _high_hot(input, max)
    elif isinstance(min, Tensor) or isinstance(max, Tensor):
        result = _both_tensors(input, min, max)
    else:
        result = _both_numbers(input, min, max)
    return into(out, result)


@public()
def clamp_min(input: Tensor, min: Tensor | complex | None, *, out: Tensor | None = None) -> Tensor:
    """Elements not below `min`, a number or a tensor."""
    min, = _bounds(input, min)
    return into(out, (_least_tensor if isinstance(min, Tensor) else _least_number)(input, min))


@public()
def clamp_max(input: Tensor, max: Tensor | complex | None, *, out: Tensor | None = None) -> Tensor:
    """Elements not above `max`, a number or a tensor."""
    max, = _bounds(input, max)
    return into(out, (_most_tensor if isinstance(max, Tensor) else _most_number)(input, max))


in_place("clamp", clamp, aliases=("clip",))
in_place("clamp_min", clamp_min)
in_place("clamp_max", clamp_max)


# --- single elements --------------------------------------------------------------------------------------------------

@public(in_place=True)
def nan_to_num(input: Tensor, nan: float | None = None, posinf: float | None = None, neginf: float | None = None, *,
               out: Tensor | None = None) -> Tensor:
    """NaN replaced by `nan` (0), infinities by `posinf` and `neginf` (the dtype's largest and smallest number)."""
    need_tensor("nan_to_num", "input", 1, input)
    kind = input._kind
    if kind.dtype.is_complex:
        parts = BOOK["view_as_real"](input)
        return into(out, BOOK["view_as_complex"](nan_to_num(parts, nan, posinf, neginf)))
    if kind.dtype.category < 2:
        return into(out, BOOK["clone"](input))
    limits = dtypes.finfo(kind.dtype)
    values = (0.0 if nan is None else nan, limits.max if posinf is None else posinf, limits.min if neginf is None else neginf)
    return into(out, _nan_to_num(input, *(dispatch.constant(float(v), kind) for v in values)))


_round, _nan_to_num = unary("round"), caller("nan_to_num").several()


@public(in_place=True)
def round(input: Tensor, *, decimals: int = 0, out: Tensor | None = None) -> Tensor:
    """The nearest integer, halves to the even one; with `decimals` the nearest multiple of 10**-decimals."""
    need_tensor("round", "input", 1, input)
    if not decimals:
        return into(out, _round(input))
    if input._kind.dtype.category < 2:
        raise NotImplementedError(f'"round_cpu" not implemented for \'{input._kind.dtype.scalar}\'')
    scale = 10.0 ** abs(decimals)
    return into(out, BOOK["round_to"](input, scale if decimals > 0 else -scale))


@public(in_place=True)
def logit(input: Tensor, eps: float | None = None, *, out: Tensor | None = None) -> Tensor:
    """log(x / (1 - x)), of x clamped to [eps, 1 - eps] where `eps` is given."""
    need_tensor("logit", "input", 1, input)
    if eps is not None:
        if input._kind.dtype.category < 2:
            input = dispatch.cast(input, KIND[dtypes.DEFAULT.dtype])
        input = clamp(input, eps, 1 - eps)
    return into(out, BOOK["logit_plain"](input))


@public(method=False)
def polygamma(n: int, input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The n-th derivative of digamma; digamma itself for n = 0. RuntimeError for a negative n."""
    if n < 0:
        raise RuntimeError("polygamma(n, x) does not support negative n.")
    if n == 0:
        return into(out, BOOK["digamma"](input))
    if input._kind.dtype.category < 2:
        input = dispatch.cast(input, KIND[dtypes.DEFAULT.dtype])
    return into(out, BOOK["polygamma_at"](dispatch.constant(n, input._kind), input))


def _polygamma_method(self: Tensor, n: int) -> Tensor:
    """The n-th derivative of digamma at each element."""
    return polygamma(n, self)


Tensor.polygamma = _polygamma_method
in_place("polygamma", Tensor.polygamma)
