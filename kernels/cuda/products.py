"""Matrix products of records on CUDA: matmul, bmm, mv, dot, and those with an addend, over the template of `matmul`.

Dtypes without a template (complex numbers, small integers) go over the host. Called through `kernels.cuda.records`.
"""
from __future__ import annotations

import numpy as np

from . import matmul as template
from . import pointwise as maps
from .launch import View, pointwise


def _product(device, x: View, y: View) -> View:
    """(..., n, k) @ (..., k, m), leading dimensions broadcast."""
    if x.dtype not in template.SHAPES:
        return NotImplemented
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    out = device.empty(x.dtype, (*batch, x.shape[-2], y.shape[-1]))
    device.run(template.matmul(out, x, y))
    return out


def _column(v: View) -> View:
    return v._replace(shape=(*v.shape, 1), strides=(*v.strides, 0))


def _row(v: View) -> View:
    return v._replace(shape=(1, *v.shape), strides=(0, *v.strides))


def _cut(found, *dims: int):
    """A product without dimensions of size one; what is not served stays so."""
    if found is NotImplemented:
        return found
    kept = [d for d in range(len(found.shape)) if d - len(found.shape) not in dims]
    return found._replace(shape=tuple(found.shape[d] for d in kept), strides=tuple(found.strides[d] for d in kept))


matmul = bmm = _product


def mv(device, x: View, y: View) -> View:
    """A matrix and a vector."""
    return _cut(_product(device, x, _column(y)), -1)


def dot(device, x: View, y: View) -> View:
    """Two vectors."""
    return _cut(_product(device, _row(x), _column(y)), -1, -2)


def _blended(device, product, input: View, beta, alpha) -> View:
    """beta * input + alpha * product in the product's memory; factors of 0 leave out NaN and infinities, as in BLAS."""
    from ..book import BOOK
    if product is NotImplemented:
        return product
    dtype = product.dtype

    def apply(name: str, *operands) -> None:
        device.run(pointwise(maps.forward(BOOK[name], dtype), [product], list(operands)))
    if alpha == 0:
        device.run(pointwise(maps.cast(dtype, dtype), [product], [0]))
    elif alpha != 1:
        apply("mul", product, alpha)
    if beta == 0:
        return product
    if beta != 1:
        scaled = device.empty(dtype, input.shape)
        device.run(pointwise(maps.forward(BOOK["mul"], dtype), [scaled], [input, beta]))
        input = scaled
    apply("add", product, input)
    return product


def addmm(device, input: View, x: View, y: View, beta, alpha) -> View:
    """beta * input + alpha * (x @ y)."""
    return _blended(device, _product(device, x, y), input, beta, alpha)


def baddbmm(device, input: View, x: View, y: View, beta, alpha) -> View:
    """beta * input + alpha * (x @ y) for stacks."""
    return _blended(device, _product(device, x, y), input, beta, alpha)


def addmv(device, input: View, x: View, y: View, beta, alpha) -> View:
    """beta * input + alpha * (x @ y) for a matrix and a vector."""
    return _blended(device, mv(device, x, y), input, beta, alpha)


def addr(device, input: View, x: View, y: View, beta, alpha) -> View:
    """beta * input + alpha * (outer product)."""
    return _blended(device, _product(device, _column(x), _row(y)), input, beta, alpha)
