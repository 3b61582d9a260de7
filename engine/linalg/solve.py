"""Linear systems: inverse, determinant, solve, LU, Cholesky and what follows from them. Records in `kernels.ops.linalg`."""
from __future__ import annotations

from kernels.book import BOOK

from ..errors import ShapeError
from ..functions.matmul import check_tensors
from ..return_types import named
from ..tensor import Tensor
from .checks import check_info, finish, fits, floating, known_to, matrices, same_dtype, several, square, together

__all__ = ["cholesky", "cholesky_ex", "det", "inv", "inv_ex", "lu", "lu_factor", "lu_factor_ex", "lu_solve", "slogdet", "solve",
           "solve_ex", "solve_triangular", "tensorinv", "tensorsolve"]

_InvEx, _SolveEx = named("linalg_inv_ex", "inverse info"), named("linalg_solve_ex", "result info")
_SlogDet, _CholeskyEx = named("linalg_slogdet", "sign logabsdet"), named("linalg_cholesky_ex", "L info")
_Lu, _LuFactor = named("linalg_lu", "P L U"), named("linalg_lu_factor", "LU pivots")
_LuFactorEx = named("linalg_lu_factor_ex", "LU pivots info")


# --- inverse and determinant ------------------------------------------------------------------------------------------

def _singular(number: int) -> str:
    return (f"linalg.inv: The diagonal element {number} is zero, the inversion could not be completed because the input matrix is "
            "singular.")


def inv(A: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Inverses of square matrices (..., n, n). LinAlgError where one is singular."""
    square("linalg.inv", A)
    floating("linalg.inv", A)
    result, info = BOOK["linalg_inv_ex"](A)
    check_info(info, _singular)
    return finish(result, out)


def inv_ex(A: Tensor, *, check_errors: bool = False, out: tuple | None = None) -> tuple[Tensor, Tensor]:
    """(inverses, info): info is 0, or the number of the zero on the diagonal of a singular matrix's factor."""
    square("linalg.inv", A)
    floating("linalg.inv", A)
    result, info = BOOK["linalg_inv_ex"](A)
    if check_errors:
        check_info(info, _singular)
    return several(_InvEx, (result, info), out)


def det(A: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Determinants of square matrices (..., n, n)."""
    square("linalg.det", A)
    floating("linalg.det", A, "lu_cpu")
    return finish(BOOK["linalg_det"](A), out)


def slogdet(A: Tensor, *, out: tuple | None = None) -> tuple[Tensor, Tensor]:
    """(sign, logabsdet) of the determinants: sign * exp(logabsdet), which neither overflows nor vanishes."""
    square("linalg.slogdet", A)
    floating("linalg.slogdet", A, "lu_cpu")
    return several(_SlogDet, BOOK["linalg_slogdet"](A), out)


# --- solve ------------------------------------------------------------------------------------------------------------

def _unsolvable(number: int) -> str:
    return "torch.linalg.solve: The solver failed because the input matrix is singular."


def _solve(name: str, A: Tensor, B: Tensor, left: bool) -> tuple[Tensor, Tensor]:
    check_tensors("linalg_solve", A=A, B=B)
    same_dtype(name, A, B)
    square(name, A)
    floating(name, A, "lu_cpu")
    if not B.ndim:
        raise ShapeError(f"{name}: The input tensor B must have at least 2 dimensions.")
    vector = B.ndim == 1 or (A.ndim - 1 == B.ndim and B._array.shape == A._array.shape[:-1])
    if vector and not left:
        raise ShapeError(f"{name}: Vector broadcasting of the left hand side is not supported for left=False. In this case "
                         "linalg.solve is equivalent to B / A.squeeze(-1)")
    fits(name, A, B.unsqueeze(-1) if vector else B, left)
    if vector:
        lead = A._array.shape[:-2]
        B = B.expand(*lead, B._array.shape[-1]) if B._array.shape[:-1] != lead else B
    else:
        A, B = together(A, B)
    return BOOK["linalg_solve_ex"](A, B, left=left, vector=vector)


def solve(A: Tensor, B: Tensor, *, left: bool = True, out: Tensor | None = None) -> Tensor:
    """X with A X = B (X A = B unless `left`) for square A (..., n, n) and B (..., n, k), or vectors (n) or (..., n).

    Leading dimensions broadcast. LinAlgError where A is singular.
    """
    result, info = _solve("linalg.solve", A, B, left)
    check_info(info, _unsolvable)
    return finish(result, out)


def solve_ex(A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False,
             out: tuple | None = None) -> tuple[Tensor, Tensor]:
    """(solution, info) as `solve`, where info is not 0 for a singular matrix."""
    result, info = _solve("linalg.solve", A, B, left)
    if check_errors:
        check_info(info, _unsolvable)
    return several(_SolveEx, (result, info), out)


def solve_triangular(A: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False,
                     out: Tensor | None = None) -> Tensor:
    """X with A X = B (X A = B unless `left`), reading one triangle of A; `unitriangular`: ones on its diagonal."""
    name = "linalg.solve_triangular"
    check_tensors("linalg_solve_triangular", A=A, B=B)
    square(name, A)
    matrices(name, B, "B")
    same_dtype(name, A, B)
    floating(name, A, "triangular_solve_cpu")
    fits(name, A, B, left)
    A, B = together(A, B)
    return finish(BOOK["linalg_solve_triangular"](A, B, upper=bool(upper), unit=bool(unitriangular), left=bool(left)), out)


def tensorsolve(A: Tensor, B: Tensor, dims: tuple[int, ...] | None = None, *, out: Tensor | None = None) -> Tensor:
    """X with tensordot(A, X, X.ndim) = B; `dims` of A are moved to its end first."""
    check_tensors("linalg_tensorsolve", A=A, B=B)
    if dims is not None:
        A = A.movedim(tuple(dims), tuple(range(A.ndim - len(dims), A.ndim)))
    shape = A._array.shape[B.ndim:]
    count, rows = 1, 1
    for n in shape:
        count *= n
    for n in A._array.shape[:B.ndim]:
        rows *= n
    if count != rows:
        raise ShapeError("Expected self to satisfy the requirement prod(self.shape[other.ndim:]) == prod(self.shape[:other.ndim]), "
                         f"but got {count} != {rows}")
    result = solve(A.reshape(-1, count) if count else A.reshape(0, 0), B.reshape(-1))
    return finish(result.reshape(shape), out)


def tensorinv(A: Tensor, ind: int = 2, *, out: Tensor | None = None) -> Tensor:
    """The inverse of `tensordot(A, ., ind)`: the first `ind` dimensions of A count as rows, the others as columns."""
    check_tensors("linalg_tensorinv", A=A)
    if ind <= 0:
        raise RuntimeError(f"Expected a strictly positive integer for 'ind', but got {ind}")
    rows, columns = A._array.shape[:ind], A._array.shape[ind:]
    n = m = 1
    for size in rows:
        n *= size
    for size in columns:
        m *= size
    if n != m:
        raise ShapeError("Expected self to satisfy the requirement prod(self.shape[ind:]) == prod(self.shape[:ind]), but got "
                         f"{m} != {n}")
    return finish(inv(A.reshape(n, m)).reshape(*columns, *rows), out)


# --- LU ---------------------------------------------------------------------------------------------------------------

def _factored(name: str, A: Tensor, pivot: bool) -> tuple[Tensor, Tensor, Tensor]:
    check_tensors(name.replace(".", "_"), A=A)
    if A.ndim < 2:
        raise ShapeError(f"{name}: Expected tensor with 2 or more dimensions. Got size: {list(A.shape)} instead")
    known_to("lu_cpu", A)
    if not pivot:
        raise RuntimeError("linalg.lu_factor: LU without pivoting is not implemented on the CPU")
    return BOOK["linalg_lu_factor_ex"](A)


def lu(A: Tensor, *, pivot: bool = True, out: tuple | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """(P, L, U) with A = P L U for matrices (..., n, m): P a permutation, L lower with ones on its diagonal, U upper."""
    check_tensors("linalg_lu", A=A)
    if A.ndim < 2:
        raise ShapeError(f"linalg.lu: Expected tensor with 2 or more dimensions. Got size: {list(A.shape)} instead")
    known_to("lu_cpu", A)
    if not pivot:
        raise RuntimeError("linalg.lu_factor: LU without pivoting is not implemented on the CPU")
    return several(_Lu, BOOK["linalg_lu"](A), out)


def _zero_in_u(number: int) -> str:
    return (f"torch.linalg.lu_factor: U[{number},{number}] is zero and using it on lu_solve would result in a division by zero. If "
            "you still want to perform the factorization, consider calling linalg.lu(A, pivot) or linalg.lu_factor_ex(A, pivot)")


def lu_factor(A: Tensor, *, pivot: bool = True, out: tuple | None = None) -> tuple[Tensor, Tensor]:
    """(LU, pivots): both triangles of A = P L U in one matrix, and int32 row exchanges, counted from 1, for `lu_solve`."""
    both, pivots, info = _factored("linalg.lu_factor", A, pivot)
    check_info(info, _zero_in_u)
    return several(_LuFactor, (both, pivots), out)


def lu_factor_ex(A: Tensor, *, pivot: bool = True, check_errors: bool = False,
                 out: tuple | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """(LU, pivots, info): as `lu_factor`, with the number of the first zero on U's diagonal instead of an error."""
    both, pivots, info = _factored("linalg.lu_factor", A, pivot)
    if check_errors:
        check_info(info, _zero_in_u)
    return several(_LuFactorEx, (both, pivots, info), out)


def lu_solve(LU: Tensor, pivots: Tensor, B: Tensor, *, left: bool = True, adjoint: bool = False,
             out: Tensor | None = None) -> Tensor:
    """X with A X = B (X A = B unless `left`; A's conjugate transpose if `adjoint`) from `lu_factor(A)`."""
    name = "linalg.lu_solve"
    check_tensors("linalg_lu_solve", LU=LU, pivots=pivots, B=B)
    if pivots.dtype.name != "int32":
        raise RuntimeError(f"{name}: pivots should be a Tensor of scalar type torch.int32")
    matrices(name, B, "B")
    square(name, LU)
    same_dtype(name, LU, B)
    floating(name, LU, "lu_solve_cpu")
    fits(name, LU, B, left)
    n = LU._array.shape[-1]
    check_pivots(name, LU, pivots)
    if LU._array.shape[:-1] != pivots._array.shape:
        raise ShapeError(f"{name}: Expected LU.shape[:-1] and pivots.shape to be the same, but got pivots with shape "
                         f"{list(pivots.shape)} instead")
    LU, B, rows = together(LU, B, pivots.unsqueeze(-1))
    pivots = rows.squeeze(-1) if n else pivots
    return finish(BOOK["linalg_lu_solve"](LU, pivots, B, left=bool(left), adjoint=bool(adjoint)), out)


def check_pivots(name: str, LU: Tensor, pivots: Tensor) -> None:
    """As many pivots as the smaller side of the matrices, each naming a row: kernels do not look again."""
    n, m = LU._array.shape[-2:]
    if not pivots.ndim or pivots._array.shape[-1] != min(n, m):
        raise ShapeError(f"{name}: Number of pivots per batch should be same as the dimension of the matrix")
    if pivots._array.size and not (int(pivots.min()) >= 1 and int(pivots.max()) <= n):
        wrong = "greater or equal to 1" if int(pivots.min()) < 1 else "smaller or equal to LU.size(-2)"
        raise RuntimeError(f"Pivots given to lu_solve must all be {wrong}. Did you properly pass the result of lu_factor?")


# --- Cholesky ---------------------------------------------------------------------------------------------------------

def _indefinite(number: int) -> str:
    return ("linalg.cholesky: The factorization could not be completed because the input is not positive-definite (the leading "
            f"minor of order {number} is not positive-definite).")


def cholesky(A: Tensor, *, upper: bool = False, out: Tensor | None = None) -> Tensor:
    """L, lower with positive diagonal, with A = L L^H (U with A = U^H U if `upper`); one triangle of A is read.

    LinAlgError where a matrix is not positive definite.
    """
    return finish(cholesky_ex(A, upper=upper, check_errors=True)[0], out)


def cholesky_ex(A: Tensor, *, upper: bool = False, check_errors: bool = False,
                out: tuple | None = None) -> tuple[Tensor, Tensor]:
    """(L, info): info is 0, or the order of the leading minor that is not positive definite."""
    square("linalg.cholesky", A)
    floating("linalg.cholesky", A, "cholesky_cpu")
    result, info = BOOK["linalg_cholesky_ex"](A, upper=bool(upper))
    if check_errors:
        check_info(info, _indefinite)
    return several(_CholeskyEx, (result, info), out)

