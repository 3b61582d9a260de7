"""linear: the affine map of fully connected layers."""
from __future__ import annotations

from kernels.book import BOOK

from ...errors import ShapeError
from ...functions.matmul import addmm, check_tensors, matmul, reshaped
from ...tensor import Tensor


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input @ weight.T + bias: (..., k), (m, k) and (m) give (..., m); a vector as weight gives (...).

    One dtype. RuntimeError where sizes do not fit.
    """
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
    rows = reshaped(input, (input.numel() // shape[-1] if shape[-1] else 0, shape[-1]))
    return BOOK["view"](addmm(bias, rows, turned), shape=(*shape[:-1], weight._array.shape[0]))


__all__ = ["linear"]
