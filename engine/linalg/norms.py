"""Norms of vectors and matrices, the condition number, and products: compositions over the other families."""
from __future__ import annotations

import math

from kernels.book import BOOK

from .. import dtypes
from ..dispatch import cast
from ..errors import DTypeError, ShapeError
from ..functions import contract, matmul, moments
from ..functions.matmul import chain_matmul, check_tensors
from ..tensor import KIND, Tensor, wrap_dim
from .checks import finish, floating, low_or_high, square
from .solve import inv_ex
from .spectral import svdvals

__all__ = ["cond", "cross", "diagonal", "matrix_norm", "matrix_power", "multi_dot", "norm", "vander", "vecdot", "vector_norm"]

Order = float | int | str


# --- norms ------------------------------------------------------------------------------------------------------------

def vector_norm(x: Tensor, ord: float = 2, dim: int | tuple[int, ...] | None = None, keepdim: bool = False, *,
                dtype: dtypes.dtype | None = None, out: Tensor | None = None) -> Tensor:
    """(sum |x|^ord)^(1/ord) over `dim` (None: of all elements); inf, -inf: the largest, smallest size; 0 counts.

    Errors: RuntimeError for integers, and over nothing for ord inf or below 0.
    """
    check_tensors("linalg_vector_norm", x=x)
    return moments.vector_norm(x, ord, dim, keepdim, dtype=low_or_high("linalg.vector_norm", x, dtype), out=out)


def matrix_norm(A: Tensor, ord: Order = "fro", dim: tuple[int, int] = (-2, -1), keepdim: bool = False, *,
                dtype: dtypes.dtype | None = None, out: Tensor | None = None) -> Tensor:
    """The norm of matrices over two dimensions.

    "fro": root of the sum of squares; "nuc": sum of singular values; 2, -2: the largest, smallest one; 1, -1: the largest,
    smallest sum of sizes of a column; inf, -inf: of a row.
    """
    name = "linalg.matrix_norm"
    check_tensors("linalg_matrix_norm", A=A)
    if A.ndim < 2:
        raise ShapeError(f"{name}: The input tensor A must have at least 2 dimensions.")
    if A._kind.dtype.category < 2:
        raise DTypeError(f"{name}: Expected a floating point or complex tensor as input. Got {A.dtype.scalar}")
    dims = (dim,) if hasattr(dim, "__index__") else tuple(dim)
    if len(dims) != 2:
        raise ShapeError(f"{name}: dim must be a 2-tuple. Got {' '.join(map(str, dims))}")
    rows, columns = (wrap_dim(d, A.ndim) for d in dims)
    if rows == columns:
        raise ShapeError(f"{name}: dims must be different. Got ({dims[0]}, {dims[1]})")
    dtype = low_or_high(name, A, dtype)
    if ord == "fro":
        return vector_norm(A, 2, (rows, columns), keepdim, dtype=dtype, out=out)
    known = ord == "nuc" or (not isinstance(ord, str) and abs(float(ord)) in (1.0, 2.0, math.inf))
    if not known:
        raise RuntimeError(f"{name}: Order {ord} not supported.")
    if dtype is not None and A._kind is not KIND[dtype]:
        A = cast(A, KIND[dtype])
    if ord == "nuc" or abs(float(ord)) == 2:
        floating(name, A)
        values = svdvals(A.movedim((rows, columns), (-2, -1)))
        result = values.sum(-1, keepdim) if ord == "nuc" else _extreme(values, -1, ord > 0, keepdim)
        return finish(result.unsqueeze(-1).movedim((-2, -1), (rows, columns)) if keepdim else result, out)
    summed, chosen = (rows, columns) if abs(float(ord)) == 1 else (columns, rows)
    sums = vector_norm(A, 1, summed, keepdim)
    return finish(_extreme(sums, chosen - (not keepdim and chosen > summed), ord > 0, keepdim), out)


def _extreme(x: Tensor, dim: int, largest: bool, keepdim: bool) -> Tensor:
    """The largest or smallest along a dimension; 0 over nothing."""
    if not x._array.shape[dim]:
        return x.sum(dim, keepdim)
    return x.amax(dim, keepdim) if largest else x.amin(dim, keepdim)


def norm(A: Tensor, ord: Order | None = None, dim: int | tuple[int, ...] | None = None, keepdim: bool = False, *,
         out: Tensor | None = None, dtype: dtypes.dtype | None = None) -> Tensor:
    """`vector_norm` over one dimension, `matrix_norm` over two; by the tensor's own dimensions where `dim` is None.

    Without `ord` the root of the sum of squares over `dim`.
    """
    check_tensors("linalg_norm", A=A)
    dims = None if dim is None else (dim,) if hasattr(dim, "__index__") else tuple(dim)
    if dims is not None and len(dims) not in (1, 2):
        raise ShapeError(f"linalg.norm: If dim is specified, it must be of length 1 or 2. Got {list(dims)}")
    if ord is None:
        return vector_norm(A, 2, dims, keepdim, dtype=dtype, out=out)
    if dims is None and A.ndim not in (1, 2):
        raise ShapeError(f"linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got {A.ndim}D.")
    if isinstance(ord, str):
        return matrix_norm(A, ord, (-2, -1) if dims is None else dims, keepdim, dtype=dtype, out=out)
    if (A.ndim if dims is None else len(dims)) == 1:
        return vector_norm(A, ord, dims, keepdim, dtype=dtype, out=out)
    return matrix_norm(A, ord, (-2, -1) if dims is None else dims, keepdim, dtype=dtype, out=out)


def cond(A: Tensor, p: Order | None = None, *, out: Tensor | None = None) -> Tensor:
    """The condition number |A| |A^-1| in a matrix norm; by singular values for 2 (None) and -2. inf for a singular matrix."""
    check_tensors("linalg_cond", A=A)
    if A.ndim < 2:
        raise ShapeError("linalg.cond: The input tensor must have at least 2 dimensions.")
    orders = ("fro", "nuc", math.inf, -math.inf, 1, -1, 2, -2)
    if p is not None and p not in orders:
        raise RuntimeError(f"linalg.cond got an invalid norm type: {p}")
    if p in (None, 2, -2):
        values = svdvals(A)
        if not values._array.shape[-1]:
            return finish(values.sum(-1), out)
        first, last = values[..., 0], values[..., -1]
        return finish(last / first if p == -2 else first / last, out)
    square(f"linalg.cond(ord={p:g})" if not isinstance(p, str) else f"linalg.cond(ord={p})", A)
    floating("linalg.cond", A)
    if not A._array.shape[-1]:
        return finish(A.new_zeros(A._array.shape[:-2], dtype=None if not A.is_complex() else A.real.dtype), out)
    inverse, info = inv_ex(A)
    if bool(info.any()):        # NaN would make the singular values fail
        good = (info == 0)[..., None, None]
        result = matrix_norm(A, p) * matrix_norm(inverse.where(good, inverse.new_zeros(())), p)
        return finish(result.where(info == 0, result.new_full((), math.inf)), out)
    return finish(matrix_norm(A, p) * matrix_norm(inverse, p), out)


# --- products ---------------------------------------------------------------------------------------------------------

def matrix_power(A: Tensor, n: int, *, out: Tensor | None = None) -> Tensor:
    """A square matrix times itself n times; the identity for 0, powers of the inverse for n < 0."""
    return matmul.matrix_power(A, n, out=out)


def multi_dot(tensors: list[Tensor], *, out: Tensor | None = None) -> Tensor:
    """The product of two or more matrices in the order of least work; the first and the last may be vectors."""
    tensors = list(tensors)
    if len(tensors) < 2:
        raise RuntimeError(f"multi_dot(): expected at least 2 tensors but got {len(tensors)}")
    check_tensors("linalg_multi_dot", **{f"tensors[{k}]": t for k, t in enumerate(tensors)})
    first, last = tensors[0], tensors[-1]
    for word, t in (("first", first), ("last", last)):
        if t.ndim not in (1, 2):
            raise ShapeError(f"multi_dot(): the {word} tensor must be 1D or 2D but got {t.ndim}D")
    for k, t in enumerate(tensors[1:-1], 1):
        if t.ndim != 2:
            raise ShapeError(f"multi_dot(): tensor {k} must be 2D but got {t.ndim}D")
        if t._kind is not first._kind:
            raise DTypeError(f"multi_dot(): all tensors must have be the same dtype but tensor 0 is {first.dtype} and tensor {k} "
                             f"{t.dtype}")
    if first.ndim == 1:
        tensors[0] = first.unsqueeze(0)
    if last.ndim == 1:
        tensors[-1] = last.unsqueeze(-1)
    result = chain_matmul(*tensors)
    shape = ([] if first.ndim == 1 else [first._array.shape[0]]) + ([] if last.ndim == 1 else [last._array.shape[-1]])
    return finish(result.view(shape), out)


def vecdot(x: Tensor, y: Tensor, *, dim: int = -1, out: Tensor | None = None) -> Tensor:
    """Inner products along a dimension, the first vector conjugated; other dimensions broadcast."""
    check_tensors("linalg_vecdot", x=x, y=y)
    if x._kind.dtype.category < 2:
        raise DTypeError(f"linalg.vecdot: Expected a floating point or complex tensor as input. Got {x.dtype.scalar}")
    if x._kind is not y._kind:
        raise DTypeError("linalg.vecdot: Expected x and y to have the same dtype, but found x of type "
                         f"{x.dtype.scalar} and y of type {y.dtype.scalar} instead")
    if x.ndim == 1 and y.ndim == 1:
        wrap_dim(dim, 1)
        return finish(matmul.vdot(x, y), out)
    product = (BOOK["conj"](x) if x.is_complex() else x) * y
    return finish(product.sum(dim), out)


def cross(input: Tensor, other: Tensor, *, dim: int = -1, out: Tensor | None = None) -> Tensor:
    """Cross products of vectors of three numbers along `dim`; other dimensions broadcast."""
    check_tensors("linalg_cross", input=input, other=other)
    if input.ndim != other.ndim:
        raise ShapeError("linalg.cross: inputs must have the same number of dimensions.")
    d = wrap_dim(dim, input.ndim)
    n, m = (t._array.shape[d] if t.ndim else 1 for t in (input, other))
    if (n, m) != (3, 3):
        raise ShapeError(f"linalg.cross: inputs dimension {dim} must have length 3. Got {n} and {m}")
    return contract.cross(input, other, d, out=out)


def diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The diagonal of matrices, a view."""
    check_tensors("linalg_diagonal", A=A)
    return A.diagonal(offset, dim1, dim2)


def vander(x: Tensor, *, N: int | None = None) -> Tensor:
    """Powers of each number from 0 to N - 1 (as many as there are numbers) along a new last dimension."""
    check_tensors("linalg_vander", x=x)
    n = (x._array.shape[-1] if x.ndim else 1) if N is None else N
    if n <= 1:
        raise RuntimeError("N must be greater than 1.")
    ones = x.new_ones((*x._array.shape, 1))
    powers = x.unsqueeze(-1).expand(*x._array.shape, n - 1).cumprod(-1)
    return BOOK["cat"]([ones if ones._kind is powers._kind else cast(ones, powers._kind), powers], dim=x.ndim)
