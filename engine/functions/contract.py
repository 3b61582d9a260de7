"""Sums over chosen dimensions of products: tensordot, inner, kron, cross, cdist, trace.

Everything is composed of the records in `kernels.ops.matmul` and of views; `einsum` has a file of its own.
"""
from __future__ import annotations

import math
from collections.abc import Sequence

from kernels.book import BOOK

from ..dispatch import into
from ..errors import DTypeError, ShapeError
from ..tensor import Tensor, wrap_dim, wrap_dims
from .matmul import broadcast_sizes, check_tensors, mm, reshaped
from .registry import public


@public(method=False)
def tensordot(a: Tensor, b: Tensor, dims: int | Sequence[int] | None = 2, out: Tensor | None = None) -> Tensor:
    """Sum over the last `dims` dimensions of `a` and the first of `b`, or over two lists of dimensions.

    Shape: the free dimensions of `a`, then those of `b`. One dtype. RuntimeError where contracted sizes differ (1 is repeated).
    """
    check_tensors("tensordot", a=a, b=b)
    if isinstance(dims, Tensor):
        dims = dims.tolist()
    if hasattr(dims, "__index__"):
        count = dims.__index__()
        if count < 0:
            raise RuntimeError(f"tensordot expects dims >= 0, but got dims={count}")
        if count > min(a.ndim, b.ndim):
            raise RuntimeError(f"tensordot expects dims < ndim_a or ndim_b, but got dims={count}")
        dims = tuple(range(-count, 0)), tuple(range(count))
    dims_a, dims_b = ([d] if hasattr(d, "__index__") else list(d) for d in dims)
    if len(dims_a) != len(dims_b):
        raise RuntimeError("both dimension lists should have same length")
    if a._kind is not b._kind:
        raise DTypeError(f"both inputs should have same dtype, got {a.dtype} and {b.dtype}")
    over_a, over_b = wrap_dims(dims_a, a.ndim), wrap_dims(dims_b, b.ndim)
    for given_a, given_b, i, j in zip(dims_a, dims_b, over_a, over_b, strict=True):
        n, m = a._array.shape[i], b._array.shape[j]
        if n != m and 1 not in (n, m):
            raise ShapeError(f"contracted dimensions need to match, but first has size {n} in dim {given_a} and second has "
                             f"size {m} in dim {given_b}")
        if n != m:          # a size of 1 is repeated: sum the other over its dimension first
            if n == 1:
                b = BOOK["sum"](b, dims=(j,), keepdim=True)
            else:
                a = BOOK["sum"](a, dims=(i,), keepdim=True)
    result = _contract(a, b, over_a, over_b)
    return result if out is None else into(out, result)


def _contract(a: Tensor, b: Tensor, over_a: tuple[int, ...], over_b: tuple[int, ...]) -> Tensor:
    """tensordot over canonical dimensions of equal sizes: one matrix product."""
    free_a = tuple(d for d in range(a.ndim) if d not in over_a)
    free_b = tuple(d for d in range(b.ndim) if d not in over_b)
    shape_a, shape_b = tuple(a._array.shape[d] for d in free_a), tuple(b._array.shape[d] for d in free_b)
    k = math.prod(a._array.shape[d] for d in over_a)
    rows = reshaped(permuted(a, free_a + over_a), (math.prod(shape_a), k))
    columns = reshaped(permuted(b, over_b + free_b), (k, math.prod(shape_b)))
    return BOOK["view"](mm(rows, columns), shape=shape_a + shape_b)


def permuted(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Dimensions in another order; the tensor itself where they are in order."""
    return x if dims == tuple(range(len(dims))) else BOOK["permute"](x, dims=dims)


@public()
def inner(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Sum over the last dimension of both; a tensor without dimensions multiplies. One dtype."""
    check_tensors("inner", input=input, other=other)
    if not input.ndim or not other.ndim:
        result = BOOK["mul"](input, other)
    else:
        if input._array.shape[-1] != other._array.shape[-1]:
            raise ShapeError("inner() the last dimension must match on both input tensors but got shapes "
                             f"{list(input.shape)} and {list(other.shape)}")
        result = tensordot(input, other, ([-1], [-1]))
    return result if out is None else into(out, result)


@public()
def kron(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Kronecker product: sizes multiply, dimension by dimension from the last, in the promoted dtype."""
    check_tensors("kron", input=input, other=other)
    ndim = max(input.ndim, other.ndim)
    a = (1,) * (ndim - input.ndim) + tuple(input._array.shape)
    b = (1,) * (ndim - other.ndim) + tuple(other._array.shape)
    blocks = BOOK["mul"](reshaped(input, tuple(s for n in a for s in (n, 1))),
                         reshaped(other, tuple(s for n in b for s in (1, n))))
    result = BOOK["unsafe_view"](blocks, shape=tuple(n * m for n, m in zip(a, b, strict=True)))
    return result if out is None else into(out, result)


@public()
def trace(input: Tensor) -> Tensor:
    """Sum of a matrix's diagonal; integers give int64."""
    check_tensors("trace", input=input)
    if input.ndim != 2:
        raise ShapeError(f"trace: expected a matrix, but got tensor with dim {input.ndim}")
    if input._kind.dtype.name == "bool":
        raise NotImplementedError("\"trace\" not implemented for 'Bool'")
    return BOOK["trace"].apply(input)


@public()
def cross(input: Tensor, other: Tensor, dim: int | None = None, *, out: Tensor | None = None) -> Tensor:
    """Cross product of vectors of three numbers along `dim` (default: the first dimension of size 3).

    Other dimensions broadcast. One dtype, not bool. RuntimeError where sizes do not fit.
    """
    check_tensors("cross", input=input, other=other)
    if dim is None:
        dim = next((d for d, n in enumerate(input._array.shape) if n == 3), None)
        if dim is None:
            raise ShapeError("no dimension of size 3 in input")
    if input.ndim != other.ndim:
        raise ShapeError("linalg.cross: inputs must have the same number of dimensions.")
    dim = wrap_dim(dim, input.ndim)
    shapes = input._array.shape, other._array.shape
    if any(len(s) <= dim or s[dim] != 3 for s in shapes):
        n, m = (s[dim] if s else 1 for s in shapes)
        raise ShapeError(f"linalg.cross: inputs dimension {dim} must have length 3. Got {n} and {m}")
    if input._kind is not other._kind:
        raise DTypeError(f"expected scalar type {input.dtype.scalar} but found {other.dtype.scalar}")
    if input._kind.dtype.name == "bool":
        raise NotImplementedError("\"cross\" not implemented for 'Bool'")
    shape = broadcast_sizes(*shapes)
    x, y = (t if t._array.shape == shape else BOOK["expand"](t, shape=shape) for t in (input, other))
    result = BOOK["cross"].apply(x, y, dim=dim)
    return result if out is None else into(out, result)


_MODES = ("use_mm_for_euclid_dist_if_necessary", "use_mm_for_euclid_dist", "donot_use_mm_for_euclid_dist")


@public(method=False)
def cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str | None = _MODES[0]) -> Tensor:
    """p-norm distances between the rows of (..., n, k) and (..., m, k): (..., n, m). float32 or float64, p from 0 to infinity.

    `compute_mode` is accepted for PyTorch's sake: sums always run over the differences, in float64, so nothing cancels.
    """
    check_tensors("cdist", x1=x1, x2=x2)
    for name, t in (("X1", x1), ("X2", x2)):
        if t.ndim < 2:
            raise ShapeError(f"cdist only supports at least 2D tensors, {name} got: {t.ndim}D")
        if t._kind.dtype.category != 2:
            raise DTypeError(f"cdist only supports floating-point dtypes, {name} got: {t.dtype.scalar}")
    n, m = x1._array.shape[-1], x2._array.shape[-1]
    if n != m:
        raise ShapeError(f"X1 and X2 must have the same number of columns. X1: {n} X2: {m}")
    if x1._kind is not x2._kind:
        raise DTypeError(f"expected scalar type {x1.dtype.scalar} but found {x2.dtype.scalar}")
    if x1._kind.dtype.name == "float16":
        raise NotImplementedError("\"cdist\" not implemented for 'Half'; convert with .float() first")
    if not p >= 0:
        raise RuntimeError(f"cdist only supports non-negative p values, got {p}")
    if compute_mode not in (None, *_MODES):
        raise ValueError(f"{compute_mode} is not a valid value for compute_mode")
    lead = broadcast_sizes(x1._array.shape[:-2], x2._array.shape[:-2])
    x1, x2 = (t if t._array.shape[:-2] == lead else BOOK["expand"](t, shape=(*lead, *t._array.shape[-2:])) for t in (x1, x2))
    return BOOK["cdist"].apply(x1, x2, p=float(p))
