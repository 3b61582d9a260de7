"""linear, bilinear: the maps of fully connected layers."""
from __future__ import annotations

import math

from kernels.book import BOOK

from ...errors import ShapeError
from ...functions.matmul import addmm, check_tensors, matmul, reshaped
from ...tensor import Tensor


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input @ weight.T + bias: (..., k), (m, k) and (m) give (..., m); a vector as weight gives (...).

    One dtype. RuntimeError where sizes do not fit.
    """
    if isinstance(input, Tensor) and isinstance(weight, Tensor) and isinstance(bias, Tensor):
        shape, sizes, kind = input._array.shape, weight._array.shape, input._kind
        if (len(shape) == 2 == len(sizes) and shape[1] == sizes[1] and bias._array.shape == sizes[:1]
                and weight._kind is kind and bias._kind is kind and kind.dtype.category):
            return BOOK["addmm"].apply(bias, input, BOOK["t"].apply(weight), beta=1, alpha=1)       # what layers ask for: all fits
    check_tensors("linear", input=input, weight=weight)
    if weight.ndim == 1:
        product = matmul(input, weight)
        return product if bias is None else product + bias
    if weight.ndim != 2:
        raise ShapeError(f"linear: weight must have one or two dimensions, got {weight.ndim}")
    turned = BOOK["t"](weight)
    if bias is None:
        return matmul(input, turned)
    check_tensors("linear", input=input, weight=weight, bias=bias)
    if input.ndim == 2:
        return addmm(bias, input, turned)
    shape = input._array.shape
    if not shape:
        raise ShapeError("both arguments to linear need to be at least 1D, but they are 0D and 2D")
    rows = reshaped(input, (math.prod(shape[:-1]), shape[-1]))
    return BOOK["view"](addmm(bias, rows, turned), shape=(*shape[:-1], weight._array.shape[0]))


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """out[..., o] = sum over i, j of input1[..., i] * weight[o, i, j] * input2[..., j], plus bias[o].

    Shapes: (..., i), (..., j), (o, i, j) and (o) give (..., o). One dtype. RuntimeError where sizes do not fit.
    """
    check_tensors("bilinear", input1=input1, input2=input2, weight=weight)
    one, two, sizes = input1._array.shape, input2._array.shape, weight._array.shape
    if len(one) != len(two):
        raise ShapeError(f"bilinear(): input dimensions do not match: got {len(one)} and {len(two)}")
    for d, (n, m) in enumerate(zip(one[:-1], two[:-1], strict=True)):
        if n != m:
            raise ShapeError(f"bilinear(): input batch dimensions do not match at dim {d}: got {n} and {m}")
    if len(sizes) != 3 or not one:
        raise ShapeError(f"bilinear(): inputs need at least one dimension and weight three, got {len(one)} and {len(sizes)}")
    outs, rows, columns = sizes
    for k, (have, want) in enumerate(((one[-1], rows), (two[-1], columns)), 1):
        if have != want:
            raise ShapeError(f"bilinear(): input{k} size does not match weight size: got {have} but expected {want}")
    if bias is not None and bias._array.shape != (outs,):
        have = bias._array.shape[0] if bias.ndim else "a number"
        raise ShapeError(f"bilinear(): bias size does not match weight size: got {have} but expected {outs}")
    n = math.prod(one[:-1])
    # over i for all (o, j) at once: one matrix product; over j for each row: a stack of products
    halves = matmul(reshaped(input1, (n, rows)), weight.transpose(0, 1).reshape(rows, outs * columns)).view(n, outs, columns)
    result = matmul(halves, reshaped(input2, (n, columns)).unsqueeze(-1)).reshape(*one[:-1], outs)
    return result if bias is None else result + bias


__all__ = ["bilinear", "linear"]
