"""Fronts of arithmetic: add and sub with `alpha`, rsub, number / tensor, positive, addcmul, addcdiv, lerp.

The operators `+`, `-`, `*`, `/` of tensors go straight to the records (engine.functions.derived) and never come here.
"""
from __future__ import annotations

from .. import dispatch
from ..errors import DTypeError
from ..tensor import Kind, Tensor
from .operands import applied, binary, caller, in_place, into, is_number, need_tensor, plain, unary
from .registry import public

_add, _sub, _mul, _reciprocal = binary("add"), binary("sub"), binary("mul"), unary("reciprocal")
_rsub_tensor, _rsub_number = binary("sub", "RsubBackward0"), binary("sub", "RsubBackward1")


def _check_alpha(alpha, kind: Kind) -> None:
    """PyTorch's limits: bool for bool, no float for integers, no complex for reals."""
    category = kind.dtype.category
    if isinstance(alpha, bool) and category:
        raise RuntimeError("Boolean alpha only supported for Boolean results.")
    if category < 2 and not isinstance(alpha, int):
        raise RuntimeError("For integral input tensors, argument alpha must not be a floating point number.")
    if isinstance(alpha, complex) and category < 3:
        raise RuntimeError("For non-complex input tensors, argument alpha must not be a complex number.")


def _scaled(name: str, x, y, alpha):
    """`alpha` times y, computed in the dtype that x and y promote to."""
    operator = caller(name)
    if operator.op.check is not None:
        operator.op.check((x, y))
    kind = operator.compute_kind((x, y))
    _check_alpha(alpha, kind)
    if not isinstance(y, Tensor):
        return y * alpha
    typed = y if y._kind is kind else dispatch.cast(y, kind)
    return _mul(typed, dispatch.constant(alpha, kind))


@public()
def add(input: Tensor, other: Tensor | complex, *, alpha: complex = 1, out: Tensor | None = None) -> Tensor:
    """input + alpha * other, broadcast and promoted. RuntimeError for an alpha that the dtype cannot hold."""
    if alpha.__class__ is not int or alpha != 1:
        other = _scaled("add", input, plain(other), alpha)
    return applied(_add, "add", input, other, out=out)


@public(aliases=("subtract",))
def sub(input: Tensor, other: Tensor | complex, *, alpha: complex = 1, out: Tensor | None = None) -> Tensor:
    """input - alpha * other, broadcast and promoted. RuntimeError for bool tensors."""
    if alpha.__class__ is not int or alpha != 1:
        other = _scaled("sub", input, plain(other), alpha)
    return applied(_sub, "sub", input, other, out=out)


@public()
def rsub(input: Tensor, other: Tensor | complex, *, alpha: complex = 1) -> Tensor:
    """other - alpha * input."""
    need_tensor("rsub", "input", 1, input)
    number = not isinstance(other, Tensor)
    if alpha.__class__ is not int or alpha != 1:
        input = _scaled("sub", other, input, alpha)
    return (_rsub_number if number else _rsub_tensor)(other, input)


in_place("add", add, "add")
in_place("sub", sub, "sub", aliases=("subtract",))


def _divide_number(self: Tensor, other: Tensor | complex) -> Tensor:
    """number / tensor: a product with the reciprocal, as PyTorch computes it."""
    return _mul(_reciprocal(self), plain(other)) if is_number(other) else NotImplemented


_divide_number.__name__ = "__rtruediv__"
Tensor.__rtruediv__ = _divide_number


@public()
def positive(input: Tensor) -> Tensor:
    """The tensor itself. RuntimeError for bool."""
    need_tensor("positive", "input", 1, input)
    if not input._kind.dtype.category:
        raise DTypeError("The `+` operator, on a bool tensor is not supported.")
    return input


Tensor.__pos__ = positive


# --- weighted sums ----------------------------------------------------------------------------------------------------

_lerp_number, _lerp_tensor = caller("lerp", "LerpBackward0").several(), caller("lerp").several()
_several = {name: caller(name).several() for name in ("addcmul", "addcdiv")}


@public(in_place=True)
def lerp(input: Tensor, end: Tensor, weight: Tensor | float, *, out: Tensor | None = None) -> Tensor:
    """input + weight * (end - input), exact at both ends; `weight` is a number or a tensor. RuntimeError for integers."""
    need_tensor("lerp", "input", 1, input)
    need_tensor("lerp", "end", 2, end)
    if end._kind is not input._kind:
        raise DTypeError(f"expected dtype {_C(input)} for `end` but got dtype {_C(end)}")
    if input._kind.dtype.category < 2:
        raise NotImplementedError(f'"lerp_kernel_scalar" not implemented for \'{input._kind.dtype.scalar}\'')
    if not isinstance(weight, Tensor):
        return into(out, _lerp_number(input, end, weight))
    if weight._kind is not input._kind:
        if weight._array.ndim:
            raise DTypeError(f"expected dtype {_C(input)} for `weight` but got dtype {_C(weight)}")
        weight = dispatch.cast(weight, input._kind)
    return into(out, _lerp_tensor(input, end, weight))


def _C(x: Tensor) -> str:
    """A dtype as PyTorch's C++ names it in messages."""
    return {"float16": "c10::Half", "float32": "float", "float64": "double", "int64": "long int", "int32": "int"}.get(
        x._kind.dtype.name, x._kind.dtype.name)


def _fused(name: str, input: Tensor, tensor1: Tensor, tensor2: Tensor, value, out) -> Tensor:
    operator = caller(name)
    kind = operator.compute_kind((input, tensor1, tensor2, False))
    return applied(_several[name], name, input, tensor1, tensor2, dispatch.constant(plain(value), kind), out=out)


@public(in_place=True)
def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Tensor | complex = 1, out: Tensor | None = None) -> Tensor:
    """input + value * tensor1 * tensor2, broadcast and promoted."""
    for position, (argument, given) in enumerate((("input", input), ("tensor1", tensor1), ("tensor2", tensor2)), 1):
        need_tensor("addcmul", argument, position, given)
    return _fused("addcmul", input, tensor1, tensor2, value, out)


@public(in_place=True)
def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Tensor | complex = 1, out: Tensor | None = None) -> Tensor:
    """input + value * tensor1 / tensor2, broadcast and promoted. RuntimeError for an integer quotient."""
    for position, (argument, given) in enumerate((("input", input), ("tensor1", tensor1), ("tensor2", tensor2)), 1):
        need_tensor("addcdiv", argument, position, given)
    if tensor1._kind.dtype.category < 2 and tensor2._kind.dtype.category < 2:
        raise RuntimeError("Integer division with addcdiv is no longer supported, and in a future  release addcdiv will "
                           "perform a true "
                           "division of tensor1 and tensor2. Use (input + value * torch.true_divide(tensor1, tensor2)) "
                           "instead.")
    return _fused("addcdiv", input, tensor1, tensor2, value, out)
