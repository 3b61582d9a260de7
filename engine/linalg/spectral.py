"""Factorisations by orthogonal matrices and what is made of them: qr, svd, eigenvalues, pinv, lstsq, rank, matrix_exp.

Records in `kernels.ops.spectral`, where the sources of the derivatives are.
"""
from __future__ import annotations

import numpy as np

from kernels.book import BOOK

from .. import dtypes
from ..autograd import no_grad
from ..dispatch import cast
from ..errors import DTypeError, ShapeError
from ..functions.matmul import check_tensors
from ..return_types import named
from ..tensor import KIND, Tensor, host
from .checks import failure, finish, floating, known_to, matrices, several, square, together

__all__ = ["eig", "eigh", "eigvals", "eigvalsh", "householder_product", "lstsq", "matrix_exp", "matrix_rank", "pinv", "qr", "svd",
           "svdvals"]

_Qr, _Svd = named("linalg_qr", "Q R"), named("linalg_svd", "U S Vh")
_Eigh, _Eig = named("linalg_eigh", "eigenvalues eigenvectors"), named("linalg_eig", "eigenvalues eigenvectors")
_Lstsq = named("linalg_lstsq", "solution residuals rank singular_values")


# --- qr ---------------------------------------------------------------------------------------------------------------

def qr(A: Tensor, mode: str = "reduced", *, out: tuple | None = None) -> tuple[Tensor, Tensor]:
    """(Q, R) with A = Q R for matrices (..., n, m): "reduced", "complete" (square Q) or "r" (Q empty).

    Differentiable where the first min(n, m) columns are independent; not for "r", nor for "complete" with n > m.
    """
    matrices("linalg.qr", A)
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(f"qr received unrecognized mode '{mode}' but expected one of 'reduced' (default), 'r', or 'complete'")
    floating("linalg.qr", A, "geqrf_cpu")
    return several(_Qr, BOOK["linalg_qr"](A, mode=mode), out)


def householder_product(A: Tensor, tau: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The first m columns of the product of reflections I - tau_k v_k v_k^H, v_k the k-th column of A (..., n, m) below 1."""
    name = "torch.linalg.householder_product"
    check_tensors("linalg_householder_product", A=A, tau=tau)
    if A.ndim < 2:
        raise ShapeError(f"{name}: input must have at least 2 dimensions.")
    n, m = A._array.shape[-2:]
    k = tau._array.shape[-1] if tau.ndim else 0
    if n < m:
        raise ShapeError(f"{name}: input.shape[-2] must be greater than or equal to input.shape[-1]")
    if m < k:
        raise ShapeError(f"{name}: input.shape[-1] must be greater than or equal to tau.shape[-1]")
    if A.ndim - tau.ndim != 1 or A._array.shape[:-2] != tau._array.shape[:-1]:
        raise ShapeError(f"{name}: Expected tau to have one dimension less than input, and batch sizes to agree, but got tau of "
                         f"shape {list(tau.shape)} and input of shape {list(A.shape)}")
    if A._kind is not tau._kind:
        raise DTypeError(f"{name}: tau dtype {tau.dtype.scalar} does not match input dtype {A.dtype.scalar}")
    known_to("orgqr_cpu", A)
    one = A.new_ones(n).diag_embed()
    vectors = A.tril(-1) + one[:, :m]
    q = one[:, :m].expand(*A._array.shape)
    for i in range(k - 1, -1, -1):
        v = vectors[..., :, i:i + 1]
        q = q - tau[..., i:i + 1, None] * (v @ (v.mH @ q))
    return finish(q if k else q.clone(), out)


# --- svd --------------------------------------------------------------------------------------------------------------

def _finite(A: Tensor) -> bool:
    return bool(A.detach().isfinite().all())


def decompose(A: Tensor, full: bool, vectors: bool) -> tuple[Tensor, Tensor, Tensor]:
    """(U, S, Vh) of a checked tensor; LinAlgError where LAPACK gives up."""
    try:
        return BOOK["linalg_svd"](A, full=full, vectors=vectors or A.requires_grad)
    except np.linalg.LinAlgError:
        raise _diverged("linalg.svd", A) from None


def _diverged(name: str, A: Tensor):
    finite = host(A.detach().isfinite().all(-1).all(-1))
    bad = np.flatnonzero(~finite)
    why = ("contained non-finite values." if bad.size else
           "is ill-conditioned or has too many repeated singular values.")
    return failure(f"{name}: The algorithm failed to converge because the input matrix {why}",
                   None if A.ndim == 2 else int(bad[0]) if bad.size else 0)


def _check_svd(A: Tensor, driver: str | None) -> None:
    matrices("linalg.svd", A)
    if driver is not None:
        raise RuntimeError("torch.linalg.svd: keyword argument `driver=` is only supported on CUDA inputs with cuSOLVER backend.")
    floating("linalg.svd", A, "linalg_svd_cpu")


def svd(A: Tensor, full_matrices: bool = True, *, driver: str | None = None,
        out: tuple | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """(U, S, Vh) with A = U diag(S) Vh, singular values falling; square U and Vh if `full_matrices`.

    LinAlgError for matrices with NaN or infinities. The derivative of vectors needs distinct singular values.
    """
    _check_svd(A, driver)
    return several(_Svd, decompose(A, bool(full_matrices), True), out)


def svdvals(A: Tensor, *, driver: str | None = None, out: Tensor | None = None) -> Tensor:
    """Singular values, falling."""
    _check_svd(A, driver)
    return finish(decompose(A, False, False)[1], out)


# --- eigenvalues ------------------------------------------------------------------------------------------------------

def _hermitian(A: Tensor, UPLO: str, vectors: bool) -> tuple[Tensor, Tensor]:
    square("linalg.eigh", A)
    if not isinstance(UPLO, str) or UPLO.upper() not in ("L", "U"):
        raise RuntimeError(f"Expected UPLO argument to be 'L' or 'U', but got {UPLO}")
    known_to("linalg_eigh_cpu", A)
    try:
        return BOOK["linalg_eigh"](A, uplo=UPLO.upper(), vectors=vectors or A.requires_grad)
    except np.linalg.LinAlgError:
        raise failure("linalg.eigh: The algorithm failed to converge because the input matrix is ill-conditioned or has too many "
                      "repeated eigenvalues.", None) from None


def eigh(A: Tensor, UPLO: str = "L", *, out: tuple | None = None) -> tuple[Tensor, Tensor]:
    """(eigenvalues rising, eigenvectors in columns) of symmetric or Hermitian matrices, of which one triangle is read."""
    return several(_Eigh, _hermitian(A, UPLO, True), out)


def eigvalsh(A: Tensor, UPLO: str = "L", *, out: Tensor | None = None) -> Tensor:
    """Eigenvalues of symmetric or Hermitian matrices, rising."""
    return finish(_hermitian(A, UPLO, False)[0], out)


def _general(A: Tensor, vectors: bool) -> tuple[Tensor, Tensor]:
    square("linalg.eig", A)
    if A._kind.dtype.category < 2:
        raise DTypeError(f"Unknown Complex ScalarType for {A.dtype.scalar}; linalg.eig takes floating or complex numbers")
    known_to("linalg_eig_out_cpu", A)
    if not _finite(A):
        raise RuntimeError("torch.linalg.eig: input tensor should not contain infs or NaNs.")
    try:
        return BOOK["linalg_eig"](A, vectors=vectors or A.requires_grad)
    except np.linalg.LinAlgError:
        raise failure("linalg.eig: The algorithm failed to converge because the input matrix is ill-conditioned or has too many "
                      "repeated eigenvalues.", None) from None


def eig(A: Tensor, *, out: tuple | None = None) -> tuple[Tensor, Tensor]:
    """(eigenvalues, eigenvectors of length 1 in columns) of square matrices, complex. RuntimeError for NaN and infinities."""
    return several(_Eig, _general(A, True), out)


def eigvals(A: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Eigenvalues of square matrices, complex."""
    return finish(_general(A, False)[0], out)


# --- thresholds: rank, pseudo-inverse, least squares ------------------------------------------------------------------

def _threshold(name: str, A: Tensor, largest: Tensor, atol, rtol) -> Tensor:
    """max(atol, rtol * largest), as a tensor over the stack; without either rtol is the dtype's eps times the longer side."""
    for word, value in (("atol", atol), ("rtol", rtol)):
        if isinstance(value, Tensor) and value._kind.dtype.is_complex:
            raise RuntimeError(f"{name}: {word} tensor of complex type is not supported. Got {value.dtype.scalar}")
    if rtol is None:
        eps = dtypes.finfo(largest.dtype).eps * max(A._array.shape[-2:])
        if isinstance(atol, Tensor):
            rtol = (atol > 0).logical_not() * eps
        else:
            rtol = 0.0 if atol is not None and atol > 0 else eps
    bound = largest * rtol
    return bound if atol is None else bound.maximum(atol if isinstance(atol, Tensor) else bound.new_full((), atol))


def _values(A: Tensor, hermitian: bool) -> Tensor:
    """Singular values, of Hermitian matrices the sizes of eigenvalues."""
    return eigvalsh(A).abs() if hermitian else svdvals(A)


def matrix_rank(A: Tensor, tol: float | Tensor | None = None, hermitian: bool = False, *, atol: float | Tensor | None = None,
                rtol: float | Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """How many singular values are above max(atol, rtol times the largest); int64."""
    check_tensors("linalg_matrix_rank", A=A)
    if A.ndim < 2:
        raise ShapeError("torch.linalg.matrix_rank: The input tensor input must have at least 2 dimensions.")
    if A._kind.dtype.category < 2:
        raise RuntimeError("This function doesn't handle types other than float and double")
    if tol is not None:
        atol, rtol = tol, 0.0 if rtol is None else rtol
    with no_grad():
        lead = A._array.shape[:-2]
        if 0 in A._array.shape[-2:]:
            return finish(A.new_zeros(lead, dtype=dtypes.int64), out)
        values = _values(A, hermitian)
        bound = _threshold("torch.linalg.matrix_rank", A, values.amax(-1), atol, rtol)
        return finish((values > bound.unsqueeze(-1)).sum(-1), out)


def pinv(A: Tensor, rcond: float | Tensor | None = None, hermitian: bool = False, *, atol: float | Tensor | None = None,
         rtol: float | Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """Moore and Penrose's pseudo-inverse (..., m, n): singular values up to max(atol, rtol times the largest) count as zero.

    `rcond` is an older name of `rtol`. The derivative holds where the rank does not change.
    """
    check_tensors("linalg_pinv", A=A)
    if A.ndim < 2 or A._kind.dtype.category < 2 or A._kind.dtype.name == "float16":
        raise RuntimeError(f"linalg.pinv({A.dtype.scalar}{{{list(A.shape)}}}): expected a tensor with 2 or more dimensions of "
                           "float, double, cfloat or cdouble types")
    if rcond is not None:
        rtol = rcond
    (*lead, n, m) = A._array.shape
    if hermitian:
        square("linalg.eigh", A)
    with no_grad():
        if not A._array.size:
            found = A.new_empty((*lead, m, n))
        else:
            plain = A.detach()
            if hermitian:
                values, vectors = eigh(plain)
                sizes, left = values.abs(), vectors
            else:
                vectors, values, vh = svd(plain, full_matrices=False)
                sizes, left = values, vh.mH
            keep = sizes > _threshold("linalg.pinv", plain, sizes.amax(-1), atol, rtol).unsqueeze(-1)
            inverse = keep * BOOK["div_or_zero"](values.new_ones(()), values)
            found = (left * inverse.unsqueeze(-2)) @ vectors.mH
    return finish(BOOK["linalg_pinv"](A, found=found._array), out)


_DRIVERS = ("gels", "gelsy", "gelsd", "gelss")


def lstsq(A: Tensor, B: Tensor, rcond: float | None = None, *,
          driver: str | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(solution, residuals, rank, singular_values): X of least length that minimises |A X - B|.

    A (..., n, m); B (..., n, k) or vectors (..., n). What a driver ("gelsy", "gels", "gelsd", "gelss") of LAPACK does not
    find is empty, as in PyTorch; all are computed through the singular values. `rcond` (eps times the longer side) is the
    threshold of the rank. Residuals are there for n > m and full rank.
    """
    name = "torch.linalg.lstsq"
    check_tensors("linalg_lstsq", A=A, B=B)
    if A.ndim < 2:
        raise ShapeError(f"{name}: input must have at least 2 dimensions.")
    if not B.ndim:
        raise ShapeError(f"{name}: other must have at least 1 dimension.")
    if not 0 <= A.ndim - B.ndim <= 1 and B.ndim < A.ndim:
        raise ShapeError(f"{name}: input.dim() must be greater or equal to other.dim() and (input.dim() - other.dim()) <= 1")
    if A._kind is not B._kind:
        raise DTypeError(f"{name}: Expected input and other to have the same dtype, but got input's dtype {A.dtype.scalar} and "
                         f"other's dtype {B.dtype.scalar}")
    if driver is None:
        driver = "gelsy"
    if driver not in _DRIVERS:
        raise RuntimeError(f"{name}: parameter `driver` should be one of (gels, gelsy, gelsd, gelss)")
    if A._kind.dtype.category < 2 or A._kind.dtype.name == "float16":
        raise RuntimeError("This function doesn't handle types other than float and double")
    vector = A.ndim - 1 == B.ndim and B._array.shape == A._array.shape[:-1]
    if not vector and (B.ndim < 2 or A._array.shape[-2] != B._array.shape[-2]):
        raise ShapeError(f"{name}: input.size(-2) should match other.size({-1 if B.ndim < A.ndim else -2})")
    if not vector:
        A, B = together(A, B)
    real = A._array.real.dtype
    if rcond is None:
        rcond = float(np.finfo(real).eps) * max(A._array.shape[-2:])
    if driver == "gels":
        rcond = -1.0
    solution, residuals, rank, singular = BOOK["linalg_lstsq"](A, B, rcond=rcond, residuals=driver != "gelsy",
                                                           vector=vector)
    if driver == "gels":
        rank = rank.new_empty(0)
    if driver in ("gels", "gelsy"):
        singular = singular.new_empty(0)
    return _Lstsq(solution, residuals, rank, singular)


# --- the exponential --------------------------------------------------------------------------------------------------

def matrix_exp(A: Tensor) -> Tensor:
    """The sum of A^k / k! for square matrices (..., n, n)."""
    square("linalg.matrix_exp", A)
    if A._kind.dtype.category < 2:
        raise DTypeError(f"linalg.matrix_exp: Expected a floating point or complex tensor as input. Got {A.dtype.scalar}")
    if A._kind.dtype.name == "float16":
        return cast(matrix_exp(cast(A, KIND[dtypes.float32])), A._kind)
    return BOOK["linalg_matrix_exp"](A)
