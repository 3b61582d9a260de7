"""Masks and positions: masked_select, masked_scatter, nonzero, argwhere, one_hot, triangle indices.

Numbers are computed by the records of `kernels.ops.indexing`; `where` and `masked_fill` are in `select.py`, square brackets
with masks in `indexing.py`. `nn.functional` takes `one_hot` from here.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from kernels.book import BOOK
from kernels.cpu import gathers

from .. import dtypes
from ..dispatch import cast, common_device, write
from ..errors import ShapeError
from ..tensor import KIND, Tensor, wrap
from .convert import through_host
from .indexing import INT64, NONZERO, put_rows
from .registry import public
from .scattering import broadcast_shape, expanded, in_place_method, result_of, tensor_argument

MASKED_SELECT = BOOK["masked_select"].apply.hot()

# --- masks ------------------------------------------------------------------------------------------------------------

@public()
def masked_select(input: Tensor, mask: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The elements where a mask (bool, broadcast against the input) is set, as a vector in row-major order."""
    if tensor_argument(mask, "masked_select", "mask")._kind.dtype is not dtypes.bool_:
        raise RuntimeError("masked_select: expected BoolTensor for mask")
    if input._kind.device is not mask._kind.device:
        common_device("masked_select", (input, mask))
    shape = mask._array.shape
    if shape != input._array.shape:
        shape = broadcast_shape("masked_select", shape, input._array.shape)
    x, mask = expanded(input, shape), expanded(mask, shape)
    if not shape:
        x, mask = BOOK["view"](x, shape=(1,)), BOOK["view"](mask, shape=(1,))
    return result_of(MASKED_SELECT(x, NONZERO(mask), 0, x._array.ndim), out)


def _masked_scatter(self, mask, source, in_place):
    if tensor_argument(mask, "masked_scatter", "mask")._kind.dtype is not dtypes.bool_:
        raise RuntimeError(f"masked_scatter_ only supports boolean masks, but got mask with dtype {mask._kind.dtype.scalar}")
    if tensor_argument(source, "masked_scatter", "source")._kind is not self._kind:
        raise RuntimeError("masked_scatter: expected self and source to have same dtypes but got "
                           f"{self._kind.dtype.scalar} and {source._kind.dtype.scalar}")
    common_device("masked_scatter", (self, mask, source))
    shape = broadcast_shape("masked_scatter", mask._array.shape, self._array.shape)
    if in_place and shape != self._array.shape:
        raise ShapeError(f"output with shape {list(self._array.shape)} doesn't match the broadcast shape {list(shape)}")
    x, mask = expanded(self, shape), expanded(mask, shape)
    positions = BOOK["nonzero_positions"](mask)
    count = positions._array.size
    if count > source._array.size:
        raise RuntimeError("masked_scatter: expected the source to have at least as many elements as the mask has ones. "
                           f"Number of elements of source < number of ones in mask ({source._array.size} < {count})")
    values = BOOK["reshape"](source, shape=(source._array.size,))
    values = values if count == source._array.size else BOOK["slice"](values, dim=0, start=0, stop=count, step=1)
    if not shape:
        result = BOOK["masked_scatter"](BOOK["view"](x, shape=(1,)), values, positions, first=0, last=1)
        result = BOOK["view"](result, shape=())
        return write(self, result) if in_place else result
    if in_place:
        return put_rows(x, values, positions, {"first": 0, "last": len(shape), "named": -1}, False, "masked_scatter")
    return BOOK["masked_scatter"](x, values, positions, first=0, last=len(shape))


@public()
def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """A copy of `input` with its elements under a mask taken from `source`, in row-major order."""
    return _masked_scatter(input, mask, source, False)


@in_place_method("masked_scatter")
def _(self: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    return _masked_scatter(self, mask, source, True)


# --- positions --------------------------------------------------------------------------------------------------------

@public()
def nonzero(input: Tensor, *, as_tuple: bool = False, out: Tensor | None = None) -> Any:
    """Indices (m, ndim) of the elements that are not zero, in row-major order; as a tuple of vectors where `as_tuple`."""
    x = input
    if as_tuple and not x._array.ndim:
        x = BOOK["view"](x.detach(), shape=(1,))
    positions = BOOK["nonzero_positions"](x)
    if x._array.ndim == 1:
        found = BOOK["view"](positions, shape=(positions._array.size, 1))
    else:
        found = BOOK["unravel"](positions, sizes=x._array.shape)
    if as_tuple:
        return tuple(BOOK["select"](found, dim=1, index=d) for d in range(x._array.ndim))
    return result_of(found, out)


@public()
def argwhere(input: Tensor) -> Tensor:
    """Indices (m, ndim) of the elements that are not zero."""
    return nonzero(input)


@public(function=False)
def fill_diagonal_(self: Tensor, fill_value: float, wrap: bool = False) -> Tensor:
    """Write a number on the main diagonal; with `wrap`, that of a tall matrix begins again below its square part.

    Errors: RuntimeError for fewer than two dimensions, and for more than two of unequal sizes.
    """
    shape = self._array.shape
    if len(shape) < 2:
        raise ShapeError("dimensions must larger than 1")
    if len(shape) > 2 and len(set(shape)) > 1:
        raise ShapeError("all dimensions of input must be of equal length")
    strides, start, size = self.stride(), self.storage_offset(), min(shape)
    self.as_strided((size,), (sum(strides),), start).fill_(fill_value)
    height, width = shape[0], shape[1]
    if wrap and len(shape) == 2 and height > width + 1:
        rest = -(-height * width // (width + 1)) - size
        self.as_strided((rest,), (sum(strides),), start + strides[0] * (width + 1)).fill_(fill_value)
    return self


# --- one_hot, triangles -----------------------------------------------------------------------------------------------

@through_host
def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """int64 zeros of shape (*, classes) with a one at each class index; -1 classes means one more than the largest.

    Errors: RuntimeError for a dtype other than int64, a negative class, or too few classes.
    """
    if tensor_argument(tensor, "one_hot", "tensor")._kind.dtype is not dtypes.int64:
        raise RuntimeError("one_hot is only applicable to index tensor of type LongTensor.")
    if not tensor._array.size:
        if num_classes <= 0:
            raise RuntimeError("Can not infer total number of classes from empty tensor.")
        return wrap(np.zeros((*tensor._array.shape, num_classes), np.int64), INT64)
    low, high = gathers.extremes(tensor._array)
    if low < 0:
        raise RuntimeError(f"Class values must be non-negative. Got {low}.")
    if num_classes == -1:
        num_classes = high + 1
    elif num_classes < 1:
        raise RuntimeError("num_classes should be positive" if num_classes < 0 else "Class values must be smaller than "
                                                                                    "num_classes.")
    elif num_classes <= high:
        raise RuntimeError(f"Class values must be smaller than num_classes. Got {high}, num_classes is {num_classes}.")
    index = tensor._array[..., None]
    out = np.zeros((*tensor._array.shape, num_classes), np.int64)
    gathers.scatter(out, out.ndim - 1, index, np.broadcast_to(np.ones((), np.int64), index.shape))
    return wrap(out, INT64)


def _triangle(name: str, row: int, col: int, offset: int, dtype, device, upper: bool) -> Tensor:
    for what, n in (("row", row), ("col", col)):
        if n < 0:
            raise RuntimeError(f"{what} must be non-negative, got{n}")
    dtype = dtypes.int64 if dtype is None else dtype
    if dtype.category != 1:
        raise NotImplementedError(f"\"{name}\" not implemented for '{dtype.scalar}'")
    found = wrap(gathers.triangle(row, col, offset, upper), INT64)
    if dtype is not dtypes.int64:
        found = cast(found, KIND[dtype])
    return found if device is None else found.to(device)


@public(method=False)
def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None, layout: Any = None,
                 requires_grad: bool = False,
                 pin_memory: bool = False) -> Tensor:
    """Indices (2, p) of the lower triangle of a row-by-col matrix, row by row, up to the offset-th diagonal. int64, or
    `dtype`."""
    return _triangle("tril_indices", row, col, offset, dtype, device, False)


@public(method=False)
def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None, layout: Any = None,
                 requires_grad: bool = False,
                 pin_memory: bool = False) -> Tensor:
    """Indices (2, p) of the upper triangle of a row-by-col matrix, row by row, from the offset-th diagonal on. int64, or
    `dtype`."""
    return _triangle("triu_indices", row, col, offset, dtype, device, True)


