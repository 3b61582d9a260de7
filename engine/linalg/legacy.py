"""The older linear algebra that PyTorch publishes at top level: `engine.svd` (with V, not Vh), `engine.lu`, `lu_unpack`, ...

Published by `engine.functions.linalg`; each is made of the functions of `engine.linalg`, or of a record with its node's name.
"""
from __future__ import annotations

from kernels.book import BOOK

from ..dispatch import into
from ..errors import DTypeError, ShapeError
from ..functions.matmul import check_tensors
from ..return_types import named
from ..tensor import Tensor
from .checks import check_info, finish, floating, known_to, several, square, together
from .solve import check_pivots, lu_factor, lu_factor_ex, lu_solve
from .spectral import decompose, householder_product
from .spectral import qr as new_qr

_Svd, _Qr, _Unpacked = named("svd", "U S V"), named("qr", "Q R"), named("lu_unpack", "P L U")
_SlogDet, _Geqrf = named("slogdet", "sign logabsdet"), named("geqrf", "a tau")
_Triangular = named("triangular_solve", "solution cloned_coefficient")


def slogdet(input: Tensor, out: tuple | None = None) -> tuple[Tensor, Tensor]:
    """(sign, logabsdet) of determinants."""
    square("linalg.slogdet", input)
    floating("linalg.slogdet", input, "lu_cpu")
    return several(_SlogDet, BOOK["linalg_slogdet"](input), out)


def logdet(input: Tensor) -> Tensor:
    """Logarithms of determinants; NaN for negative ones, -inf for 0."""
    square("logdet", input)
    if input._kind.dtype.category < 2:
        raise DTypeError(f"logdet: Expected a floating point or complex tensor as input. Got {input.dtype.scalar}")
    floating("logdet", input, "lu_cpu")
    sign, size = BOOK["linalg_slogdet"](input)
    if input.is_complex():
        return sign.log() + size
    return BOOK["where"](sign == -1, size.new_full((), float("nan")), size)


def cholesky(input: Tensor, upper: bool = False, out: Tensor | None = None) -> Tensor:
    """The Cholesky factor of positive definite matrices, lower or upper. LinAlgError where one is not."""
    square("cholesky", input)
    floating("cholesky", input, "cholesky_cpu")
    result, info = BOOK["cholesky"](input, upper=bool(upper))
    check_info(info, lambda number: "cholesky: The factorization could not be completed because the input is not positive-definite "
                                    f"(the leading minor of order {number} is not positive-definite).")
    return finish(result, out)


def cholesky_solve(B: Tensor, L: Tensor, upper: bool = False, out: Tensor | None = None) -> Tensor:
    """X with A X = B from the Cholesky factor of A."""
    check_tensors("cholesky_solve", B=B, L=L)
    for word, t in (("b", B), ("u", L)):
        if t.ndim < 2:
            raise ShapeError(f"{word} should have at least 2 dimensions, but has {t.ndim} dimensions instead")
    n, m = L._array.shape[-2:]
    if n != m:
        raise ShapeError(f"A must be batches of square matrices, but they are {n} by {m} matrices")
    rows, columns = B._array.shape[-2:]
    if rows != n:
        raise ShapeError(f"Incompatible matrix sizes for cholesky_solve: each A matrix is {n} by {n} but each b matrix is "
                         f"{rows} by {columns}")
    known_to("cholesky_solve_cpu", L)
    if B._kind is not L._kind:
        raise DTypeError(f"Expected b and A to have the same dtype, but found b of type {B.dtype.scalar} and A of type "
                         f"{L.dtype.scalar} instead")
    B, L = together(B, L)
    return finish(BOOK["cholesky_solve"](B, L, upper=bool(upper)), out)


def cholesky_inverse(L: Tensor, upper: bool = False, out: Tensor | None = None) -> Tensor:
    """The inverse of A from its Cholesky factor."""
    square("cholesky_inverse", L)
    known_to("cholesky_inverse_out_cpu", L)
    return finish(BOOK["cholesky_inverse"](L, upper=bool(upper)), out)


def qr(input: Tensor, some: bool = True, out: tuple | None = None) -> tuple[Tensor, Tensor]:
    """(Q, R), Q square unless `some`."""
    return several(_Qr, new_qr(input, "reduced" if some else "complete"), out)


def svd(input: Tensor, some: bool = True, compute_uv: bool = True, out: tuple | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """(U, S, V) with input = U diag(S) V^H; square U and V unless `some`, zeros for them unless `compute_uv`."""
    check_tensors("svd", input=input)
    if input.ndim < 2:
        raise ShapeError(f"linalg.svd: input should have at least 2 dimensions, but has {input.ndim} dimensions instead")
    floating("linalg.svd", input, "linalg_svd_cpu")
    u, s, vh = decompose(input, not some, compute_uv)
    if not compute_uv:
        (*lead, n, m) = input._array.shape
        return several(_Svd, (input.new_zeros((*lead, n, n)), s, input.new_zeros((*lead, m, m))), out)
    return several(_Svd, (u, s, vh.mH), out)


def lu(A: Tensor, pivot: bool = True, get_infos: bool = False, out: tuple | None = None) -> tuple[Tensor, ...]:
    """(LU, pivots) of `linalg.lu_factor`, and info if `get_infos`."""
    both, pivots, info = lu_factor_ex(A, pivot=pivot)
    if not get_infos:
        both, pivots = lu_factor(A, pivot=pivot)
    results = (both, pivots, info) if get_infos else (both, pivots)
    if out is None:
        return results
    return tuple(into(o, r) for o, r in zip(out, results, strict=True))


def old_lu_solve(b: Tensor, LU_data: Tensor, LU_pivots: Tensor, *, out: Tensor | None = None) -> Tensor:
    """X with A X = b from `lu(A)`."""
    return lu_solve(LU_data, LU_pivots, b, out=out)


def lu_unpack(LU_data: Tensor, LU_pivots: Tensor, unpack_data: bool = True, unpack_pivots: bool = True, *,
              out: tuple | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """(P, L, U) of `lu(A)`'s results; P is empty unless `unpack_pivots`, L and U unless `unpack_data`."""
    check_tensors("lu_unpack", LU_data=LU_data, LU_pivots=LU_pivots)
    if unpack_pivots and LU_pivots.dtype.name != "int32":
        raise RuntimeError("torch.lu_unpack: LU_pivots is expected to be a contiguous tensor of torch.int32 dtype. Note: this "
                           "function is intended to be used with the output produced by torch.linalg.lu_factor")
    if unpack_pivots:
        check_pivots("lu_unpack", LU_data, LU_pivots)
    return several(_Unpacked, BOOK["lu_unpack"](LU_data, LU_pivots, data=bool(unpack_data), rows=bool(unpack_pivots)), out)


def triangular_solve(b: Tensor, A: Tensor, upper: bool = True, transpose: bool = False, unitriangular: bool = False, *,
                     out: tuple | None = None) -> tuple[Tensor, Tensor]:
    """(X with A X = b, or A^T X = b if `transpose`, for one triangle of A; a copy of A)."""
    check_tensors("triangular_solve", b=b, A=A)
    for word, t in (("b", b), ("A", A)):
        if t.ndim < 2:
            raise ShapeError(f"torch.triangular_solve: Expected {word} to have at least 2 dimensions, but it has {t.ndim} "
                             "dimensions instead")
    square("triangular_solve", A)
    if A._array.shape[-1] != b._array.shape[-2]:
        n, (rows, columns) = A._array.shape[-1], b._array.shape[-2:]
        raise ShapeError(f"Incompatible matrix sizes for triangular_solve: each A matrix is {n} by {n} but each b matrix is "
                         f"{rows} by {columns}")
    known_to("triangular_solve_cpu", A)
    A, b = together(A, b)
    matrix = A.mT if transpose else A
    solution = BOOK["linalg_solve_triangular"](matrix, b, upper=bool(upper) != bool(transpose), unit=bool(unitriangular))
    return several(_Triangular, (solution, A.clone()), out)


def geqrf(input: Tensor, *, out: tuple | None = None) -> tuple[Tensor, Tensor]:
    """(a, tau): R in a's upper triangle, below it and in tau the reflections whose product is Q (see `householder_product`)."""
    check_tensors("geqrf", input=input)
    if input.ndim < 2:
        raise ShapeError("torch.geqrf: input must have at least 2 dimensions.")
    known_to("geqrf_cpu", input)
    return several(_Geqrf, BOOK["geqrf"](input), out)


def ormqr(input: Tensor, tau: Tensor, other: Tensor, left: bool = True, transpose: bool = False, *,
          out: Tensor | None = None) -> Tensor:
    """Q other (other Q unless `left`), or with Q^H if `transpose`, for the square Q whose reflections `geqrf` gives."""
    check_tensors("ormqr", input=input, tau=tau, other=other)
    for word, t in (("input", input), ("other", other)):
        if t.ndim < 2:
            raise ShapeError(f"torch.ormqr: {word} must have at least 2 dimensions.")
    (*lead, n, m) = input._array.shape
    side = other._array.shape[-2 if left else -1]
    if side != n:
        raise ShapeError(f"torch.ormqr: other.shape[{-2 if left else -1}] must be equal to input.shape[-2]")
    if tau.ndim != input.ndim - 1 or tau._array.shape[-1] > min(n, m):
        raise ShapeError(f"torch.ormqr: other.shape[{-2 if left else -1}] must be greater than or equal to tau.shape[-1]")
    known_to("ormqr_cpu", input)
    k = tau._array.shape[-1]
    vectors = input[..., :, :k]
    if n > k:
        vectors = BOOK["cat"]([vectors, input.new_zeros((*lead, n, n - k))], dim=input.ndim - 1)
    q = householder_product(vectors, tau)
    q = q.mH if transpose else q
    return finish(q @ other if left else other @ q, out)
