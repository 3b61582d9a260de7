"""Fronts of complex numbers: complex, polar, conj, and `real` and `imag` as views of the tensor's memory."""
from __future__ import annotations

from kernels.book import BOOK

from ..errors import DTypeError
from ..tensor import Tensor
from .operands import into, need_tensor
from .registry import public


def _same_floats(name: str, first: Tensor, second: Tensor, what: str) -> None:
    if first._kind.dtype.category != 2 or second._kind.dtype.category != 2:
        raise DTypeError(f"Expected both inputs to be {what} tensors but got {first._kind.dtype.scalar} and "
                         f"{second._kind.dtype.scalar}")
    if first._kind.dtype is not second._kind.dtype:
        raise DTypeError(f"Expected object of scalar type {first._kind.dtype.scalar} but got scalar type "
                         f"{second._kind.dtype.scalar} "
                         "for second argument")
    if first._kind.dtype.name == "float16":
        raise DTypeError(f"{name}: a complex number of two float16 has no dtype here; convert the parts to float32 first")


@public(method=False, name="complex")
def complex_(real: Tensor, imag: Tensor, *, out: Tensor | None = None) -> Tensor:
    """real + i imag, for two float32 or two float64 tensors, broadcast. RuntimeError for other dtypes."""
    need_tensor("complex", "real", 1, real)
    need_tensor("complex", "imag", 2, imag)
    _same_floats("complex", real, imag, "Half, Float or Double")
    return into(out, BOOK["complex"](real, imag))


@public(method=False)
def polar(abs: Tensor, angle: Tensor, *, out: Tensor | None = None) -> Tensor:
    """abs * (cos(angle) + i sin(angle)), for two float32 or two float64 tensors, broadcast."""
    need_tensor("polar", "abs", 1, abs)
    need_tensor("polar", "angle", 2, angle)
    _same_floats("polar", abs, angle, "Float or Double")
    return into(out, BOOK["polar"](abs, angle))


@public()
def conj(input: Tensor) -> Tensor:
    """The complex conjugate; a real tensor is returned as it is."""
    need_tensor("conj", "input", 1, input)
    return BOOK["conj"](input) if input._kind.dtype.is_complex else input


@public()
def conj_physical(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The complex conjugate in memory of its own."""
    return into(out, BOOK["conj"](input))


def _part(input: Tensor, index: int) -> Tensor:
    parts = BOOK["view_as_real"](input)
    return BOOK["select"](parts, dim=parts.ndim - 1, index=index)


def real(input: Tensor) -> Tensor:
    """The real part, a view; a real tensor is returned as it is."""
    need_tensor("real", "input", 1, input)
    return _part(input, 0) if input._kind.dtype.is_complex else input


def imag(input: Tensor) -> Tensor:
    """The imaginary part, a view. RuntimeError for a real tensor."""
    need_tensor("imag", "input", 1, input)
    if not input._kind.dtype.is_complex:
        raise RuntimeError("imag is not implemented for tensors with non-complex dtypes.")
    return _part(input, 1)


public(method=False)(real)
public(method=False)(imag)
Tensor.real = property(real, lambda self, value: self.real.copy_(value), doc=real.__doc__)
Tensor.imag = property(imag, lambda self, value: self.imag.copy_(value), doc=imag.__doc__)
