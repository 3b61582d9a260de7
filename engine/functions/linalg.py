"""The linear algebra that PyTorch also publishes at top level and on tensors: inverse, det, svd, lu, cholesky, ...

Only names and arguments live here, since this file is imported at start; the functions are in `engine.linalg`, imported
at the first call.
"""
from __future__ import annotations

from ..tensor import Tensor
from .registry import public


@public()
def inverse(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Inverses of square matrices, see `linalg.inv`."""
    from ..linalg import inv
    return inv(input, out=out)


@public()
def det(input: Tensor) -> Tensor:
    """Determinants, see `linalg.det`."""
    from .. import linalg
    return linalg.det(input)


@public()
def logdet(input: Tensor) -> Tensor:
    """Logarithms of determinants."""
    from ..linalg import legacy
    return legacy.logdet(input)


@public()
def slogdet(input: Tensor, *, out: tuple | None = None) -> tuple[Tensor, Tensor]:
    """(sign, logabsdet) of determinants, see `linalg.slogdet`."""
    from ..linalg import legacy
    return legacy.slogdet(input, out)


@public()
def pinverse(input: Tensor, rcond: float = 1e-15) -> Tensor:
    """The pseudo-inverse, see `linalg.pinv`."""
    from ..linalg import pinv
    return pinv(input, rcond)


@public()
def matrix_exp(input: Tensor) -> Tensor:
    """The exponential of square matrices, see `linalg.matrix_exp`."""
    from .. import linalg
    return linalg.matrix_exp(input)


@public()
def cholesky(input: Tensor, upper: bool = False, *, out: Tensor | None = None) -> Tensor:
    """The Cholesky factor, see `linalg.cholesky`."""
    from ..linalg import legacy
    return legacy.cholesky(input, upper, out)


@public()
def cholesky_solve(B: Tensor, L: Tensor, upper: bool = False, *, out: Tensor | None = None) -> Tensor:
    """X with A X = B from the Cholesky factor of A."""
    from ..linalg import legacy
    return legacy.cholesky_solve(B, L, upper, out)


@public()
def cholesky_inverse(L: Tensor, upper: bool = False, *, out: Tensor | None = None) -> Tensor:
    """The inverse of A from its Cholesky factor."""
    from ..linalg import legacy
    return legacy.cholesky_inverse(L, upper, out)


@public()
def qr(input: Tensor, some: bool = True, *, out: tuple | None = None) -> tuple[Tensor, Tensor]:
    """(Q, R), see `linalg.qr`."""
    from ..linalg import legacy
    return legacy.qr(input, some, out)


@public()
def svd(input: Tensor, some: bool = True, compute_uv: bool = True, *,
        out: tuple | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """(U, S, V), see `linalg.svd`, which gives V^H."""
    from ..linalg import legacy
    return legacy.svd(input, some, compute_uv, out)


@public()
def lu(A: Tensor, pivot: bool = True, get_infos: bool = False, out: tuple | None = None) -> tuple[Tensor, ...]:
    """(LU, pivots), see `linalg.lu_factor`."""
    from ..linalg import legacy
    return legacy.lu(A, pivot, get_infos, out)


@public()
def lu_solve(b: Tensor, LU_data: Tensor, LU_pivots: Tensor, *, out: Tensor | None = None) -> Tensor:
    """X with A X = b from `lu(A)`."""
    from ..linalg import legacy
    return legacy.old_lu_solve(b, LU_data, LU_pivots, out=out)


@public(method=False)
def lu_unpack(LU_data: Tensor, LU_pivots: Tensor, unpack_data: bool = True, unpack_pivots: bool = True, *,
              out: tuple | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """(P, L, U) from the results of `lu`."""
    from ..linalg import legacy
    return legacy.lu_unpack(LU_data, LU_pivots, unpack_data, unpack_pivots, out=out)


@public()
def triangular_solve(b: Tensor, A: Tensor, upper: bool = True, transpose: bool = False, unitriangular: bool = False, *,
                     out: tuple | None = None) -> tuple[Tensor, Tensor]:
    """(solution, copy of A), see `linalg.solve_triangular`."""
    from ..linalg import legacy
    return legacy.triangular_solve(b, A, upper, transpose, unitriangular, out=out)


@public()
def geqrf(input: Tensor, *, out: tuple | None = None) -> tuple[Tensor, Tensor]:
    """(a, tau): R, and the reflections whose product is Q."""
    from ..linalg import legacy
    return legacy.geqrf(input, out=out)


@public()
def orgqr(input: Tensor, tau: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The product of reflections, see `linalg.householder_product`."""
    from ..linalg import householder_product
    return householder_product(input, tau, out=out)


@public()
def ormqr(input: Tensor, tau: Tensor, other: Tensor, left: bool = True, transpose: bool = False, *,
          out: Tensor | None = None) -> Tensor:
    """A matrix times the product of reflections."""
    from ..linalg import legacy
    return legacy.ormqr(input, tau, other, left, transpose, out=out)
