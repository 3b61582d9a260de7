"""Questions about tensors as functions (is_tensor, numel, result_type, ...), and the number of threads."""
from __future__ import annotations

from typing import Any

from kernels.cpu import pool

from .. import dtypes
from ..dispatch import item_of
from ..tensor import Tensor
from .registry import public


def _checked(name: str, input: Any) -> Tensor:
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
    return input


@public(method=False)
def is_tensor(obj: Any) -> bool:
    """Whether an object is a tensor."""
    return isinstance(obj, Tensor)


@public(method=False)
def numel(input: Tensor) -> int:
    """Number of elements."""
    return _checked("numel", input)._array.size


@public(method=False)
def is_floating_point(input: Tensor) -> bool:
    """Whether the dtype is float16, float32 or float64."""
    return _checked("is_floating_point", input)._kind.dtype.is_floating_point


@public(method=False)
def is_complex(input: Tensor) -> bool:
    """Whether the dtype is complex64 or complex128."""
    return _checked("is_complex", input)._kind.dtype.is_complex


@public(method=False)
def is_signed(input: Tensor) -> bool:
    """Whether the dtype has negative numbers."""
    return _checked("is_signed", input)._kind.dtype.is_signed


@public(method=False)
def result_type(tensor: Any, other: Any) -> dtypes.dtype:
    """The dtype of an operation on two operands, tensors or numbers."""
    try:
        return dtypes.result_type_of([item_of(tensor), item_of(other)])
    except TypeError:
        raise TypeError("result_type() received an invalid combination of arguments - got "
                        f"({type(tensor).__name__}, {type(other).__name__}), but expected tensors or numbers") from None


@public(method=False)
def set_num_threads(threads: int) -> None:
    """Use this many threads for large tensors. Results do not depend on it. RuntimeError unless positive."""
    if isinstance(threads, bool) or not isinstance(threads, int):
        raise RuntimeError(f"set_num_threads expects an int, but got {type(threads).__name__}")
    pool.set_threads(threads)


@public(method=False)
def get_num_threads() -> int:
    """How many threads large tensors use."""
    return pool.threads
