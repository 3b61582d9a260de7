"""The same bytes as numbers of another kind: view(dtype), view_as_real, view_as_complex."""
from __future__ import annotations

from kernels.book import BOOK

from ..dtypes import dtype as Dtype
from ..tensor import Tensor, element_strides
from .registry import public


def view_as_dtype(x: Tensor, dtype: Dtype) -> Tensor:
    """`x.view(dtype)`; RuntimeError, in PyTorch's words, where sizes, strides or the offset do not divide."""
    array, wanted = x._array, dtype.numpy
    have, want = array.itemsize, wanted.itemsize
    if wanted == array.dtype:
        return BOOK["alias"](x)
    if have != want:
        if not array.ndim:
            raise RuntimeError("self.dim() cannot be 0 to view "
                               f"{x.dtype.scalar} as {dtype.scalar} (different element sizes)")
        strides = element_strides(array)
        if strides[-1] != 1:
            raise RuntimeError("self.stride(-1) must be 1 to view "
                               f"{x.dtype.scalar} as {dtype.scalar} (different element sizes), but got {strides[-1]}")
    if want > have:
        ratio = want // have
        if array.shape[-1] % ratio:
            raise RuntimeError(f"self.size(-1) must be divisible by {ratio} to view {x.dtype.scalar} as {dtype.scalar} "
                               f"(different "
                               f"element sizes), but got {array.shape[-1]}")
        if x.storage_offset() % ratio:
            raise RuntimeError(f"self.storage_offset() must be divisible by {ratio} to view {x.dtype.scalar} as {dtype.scalar} "
                               f"(different element sizes), but got {x.storage_offset()}")
        for d, s in enumerate(strides[:-1]):
            if s % ratio:
                raise RuntimeError(f"self.stride({d}) must be divisible by {ratio} to view {x.dtype.scalar} as {dtype.scalar} "
                                   f"(different element sizes), but got {s}")
    return BOOK["view_dtype"](x, dtype=wanted)


@public()
def view_as_real(input: Tensor) -> Tensor:
    """Complex numbers as pairs of real ones in a new last dimension."""
    if not input._kind.dtype.is_complex:
        raise RuntimeError("view_as_real is only supported for complex tensors")
    return BOOK["view_as_real"](input)


@public()
def view_as_complex(input: Tensor) -> Tensor:
    """Pairs of floats in the last dimension (of size 2 and stride 1) as complex numbers."""
    x, shape = input, input._array.shape
    if x._kind.dtype.name not in ("float32", "float64"):
        raise RuntimeError("view_as_complex is only supported for half, float and double tensors, but got a tensor of scalar "
                           f"type: {x._kind.dtype.scalar}")
    if not shape:
        raise RuntimeError("Input tensor must have one or more dimensions")
    if shape[-1] != 2:
        raise RuntimeError("Tensor must have a last dimension of size 2")
    strides = element_strides(x._array)
    if strides[-1] != 1:
        raise RuntimeError("Tensor must have a last dimension with stride 1")
    if any(s % 2 for s in strides[:-1]):
        raise RuntimeError("Tensor must have a stride divisible by 2 for all but last dimension")
    if x.storage_offset() % 2:
        raise RuntimeError("Tensor must have a storage_offset divisible by 2")
    return BOOK["view_as_complex"](x)
