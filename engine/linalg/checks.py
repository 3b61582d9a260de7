"""What the functions of `engine.linalg` share: checks of operands, errors of factorisations, the end of `out=`."""
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .. import dtypes
from ..dispatch import into
from ..errors import DTypeError, LinAlgError, ShapeError
from ..functions.matmul import broadcast_sizes, check_tensors
from ..tensor import Tensor, host


def matrices(name: str, A: Tensor, argument: str = "A") -> None:
    """The tensor holds matrices: at least two dimensions."""
    check_tensors(name.replace(".", "_"), **{argument: A})
    if A.ndim < 2:
        raise ShapeError(f"{name}: The input tensor {argument} must have at least 2 dimensions.")


def square(name: str, A: Tensor, argument: str = "A") -> None:
    """The tensor holds square matrices."""
    matrices(name, A, argument)
    n, m = A._array.shape[-2:]
    if n != m:
        raise ShapeError(f"{name}: {argument} must be batches of square matrices, but they are {n} by {m} matrices")


def floating(name: str, A: Tensor, kernel: str = "") -> None:
    """Floating or complex numbers; float16 is refused in the words of PyTorch's `kernel`, or as of low precision."""
    dtype = A._kind.dtype
    if dtype.category < 2:
        raise DTypeError(f"{name}: Expected a floating point or complex tensor as input. Got {dtype.scalar}")
    if dtype.name == "float16":
        if kernel:
            raise NotImplementedError(f"\"{kernel}\" not implemented for 'Half'; convert with .float() first")
        raise DTypeError(f"{name}: Low precision dtypes not supported. Got Half")


def known_to(kernel: str, A: Tensor) -> None:
    """Refuse dtypes that a kernel of PyTorch does not serve, in its words."""
    if A._kind.dtype.category < 2 or A._kind.dtype.name == "float16":
        raise NotImplementedError(f"\"{kernel}\" not implemented for '{A.dtype.scalar}'; convert with .float() first")


def same_dtype(name: str, A: Tensor, B: Tensor) -> None:
    if A._kind is not B._kind:
        raise DTypeError(f"{name}: Expected A and B to have the same dtype, but found A of type {A.dtype.scalar} and B of type "
                         f"{B.dtype.scalar} instead")


def fits(name: str, A: Tensor, B: Tensor, left: bool = True) -> None:
    """A X = B (X A = B) is possible."""
    n, (rows, columns) = A._array.shape[-1], B._array.shape[-2:]
    if n != (rows if left else columns):
        raise ShapeError(f"{name}: Incompatible shapes of A and B for the equation {'AX = B' if left else 'XA = B'} "
                         f"({n}x{A._array.shape[-1]} and {rows}x{columns})")


def together(*tensors: Tensor) -> list[Tensor]:
    """Stacks of matrices expanded to common leading dimensions."""
    lead: tuple[int, ...] = ()
    for t in tensors:
        lead = broadcast_sizes(lead, t._array.shape[:-2])
    return [t if t._array.shape[:-2] == lead else t.expand(*lead, *t._array.shape[-2:]) for t in tensors]


def check_info(info: Tensor, message: Callable[[int], str]) -> None:
    """LinAlgError for the first matrix whose factorisation failed; `message(number)` is told what `info` says of it."""
    numbers = host(info)
    bad = np.flatnonzero(numbers)
    if bad.size:
        at = int(bad[0])
        raise failure(message(int(numbers.reshape(-1)[at])), at if numbers.ndim else None)


def failure(message: str, batch: int | None) -> LinAlgError:
    """The error with the number of the matrix put in after the function's name."""
    if batch is not None:
        name, _, rest = message.partition(": ")
        message = f"{name}: (Batch element {batch}): {rest}"
    return LinAlgError(message)


def finish(result: Tensor, out: Tensor | None) -> Tensor:
    """The result, or `out` that holds it."""
    return result if out is None else into(out, result)


def several(make: type, results: Sequence[Tensor], out: Sequence[Tensor] | None = None) -> tuple:
    """Results under their names, or in the tensors of `out`."""
    if out is None:
        return make(*results)
    if len(out) != len(results):
        raise TypeError(f"{make.__name__}(): argument 'out' must be a tuple of {len(results)} Tensors, got {len(out)}")
    return make(*(into(o, r) for o, r in zip(out, results, strict=True)))


def low_or_high(name: str, A: Tensor, dtype) -> dtypes.dtype | None:
    """The `dtype=` argument of a norm, checked."""
    if dtype is None:
        return None
    dtype = dtypes.as_dtype(dtype)
    if dtype.category < 2:
        raise DTypeError(f"{name}: dtype should be floating point or complex, but got {dtype.scalar}")
    if A._kind.dtype.is_complex and not dtype.is_complex:
        raise DTypeError(f"{name}: dtype should be complex for complex inputs, but got {dtype.scalar}")
    if A._kind.dtype.category >= 2 and not A._kind.dtype.is_complex and dtype.is_complex:
        raise DTypeError(f"{name}: dtype should be real for real inputs, but got {dtype.scalar}")
    return dtype
