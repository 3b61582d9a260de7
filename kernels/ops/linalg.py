"""Linear systems and what is made of LU and Cholesky factors: inverse, solve, triangular solve, lu, det, cholesky.

Operands are stacks of matrices with equal leading dimensions, of float32, float64, complex64 or complex128; what users may
write, and errors, are settled in `engine.linalg`. Nothing here raises: matrices that cannot be factored show in `info`, int32.
Numbers come from NumPy's LAPACK and from `kernels.cpu.linalg`. Adjoints are those of M. B. Giles, "An extended collection of
matrix derivative results" (Oxford, 2008); for Cholesky I. Murray, arXiv:1602.07527; a gradient of a complex matrix pairs with
its change by Re <g, dA>, as in PyTorch. H stands for the conjugate transpose. Spectral factorisations are in `spectral`.
"""
from __future__ import annotations

import numpy as np

from ..book import BOOK, COMPLEX, FLOATS, structural

DENSE = FLOATS[1:] + COMPLEX
COMMON = {"dtypes": DENSE, "function": False, "method": False}


def quiet(function, *arrays, **options):
    """A function of `np.linalg`, without NumPy's warnings of infinities and NaN."""
    with np.errstate(all="ignore"):
        return function(*arrays, **options)


def each(function, x: np.ndarray, *others: np.ndarray, count: int = 1):
    """A function of `np.linalg` on the matrices of a stack one by one; NaN where it raises.

    What stacks fall back on when one of their matrices makes NumPy give up on all.
    """
    lead = x.shape[:-2]
    results: list = [None] * count
    failed = []
    for at in np.ndindex(*lead):
        try:
            found = quiet(function, x[at], *(o[at] for o in others))
        except np.linalg.LinAlgError:
            failed.append(at)
            continue
        for k, part in enumerate(found if count > 1 else (found,)):
            if results[k] is None:
                results[k] = np.full((*lead, *part.shape), np.nan, part.dtype)
            results[k][at] = part
    return results, failed


def _systems(rng, dtype, *shapes):
    """Sample operands: well-conditioned matrices."""
    if dtype == "float64":
        yield [rng.normal(size=s) + (4 * np.eye(s[-1]) if s[-1] == s[-2] else 0) for s in shapes], {}


# --- inverse and solution ---------------------------------------------------------------------------------------------

def _inverse_adjoint(gs, out):
    back = out[0].mH
    return -(back @ (gs[0] @ back))


@structural(["x"], adjoint=_inverse_adjoint, nondiff=(1,), node="LinalgInvExBackward0", source="LAPACK gesv; Giles 2.2.3",
            samples=lambda rng, dtype: _systems(rng, dtype, (2, 3, 3)), like=lambda x: (np.linalg.inv(x), np.zeros(2)), **COMMON)
def linalg_inv_ex(x):
    """(inverses, which pivot is zero)."""
    try:
        return quiet(np.linalg.inv, x), np.zeros(x.shape[:-2], np.int32)
    except np.linalg.LinAlgError:
        (result,), failed = each(np.linalg.inv, x)
        return (np.full(x.shape, np.nan, x.dtype) if result is None else result), _zero_pivots(x, failed)


def _zero_pivots(x: np.ndarray, failed: list) -> np.ndarray:
    """The number, from one, of the first zero pivot of matrices that LAPACK found singular; 0 elsewhere."""
    from ..cpu.linalg import first_zero, lu
    info = np.zeros(x.shape[:-2], np.int32)
    for at in failed:
        found = int(first_zero(np.diagonal(lu(x[at])[0])))
        info[at] = found or x.shape[-1]         # our elimination rounds otherwise than LAPACK's
    return info


def _column(b, vector):
    return b[..., None] if vector else b


def _solve_adjoint(gs, x, out, left, vector, needs):
    g = BOOK["linalg_solve_ex"](x.mH, _column(gs[0], vector), left=left, vector=False)[0]
    y = _column(out[0], vector).mH
    return -(g @ y if left else y @ g) if needs[0] else None, (g[..., 0] if vector else g) if needs[1] else None


def _solve_samples(rng, dtype):
    for operands, _ in _systems(rng, dtype, (2, 3, 3), (2, 3, 3)):
        yield operands, {"left": True, "vector": False}


@structural(["x", "b"], adjoint=_solve_adjoint, nondiff=(1,), source="LAPACK gesv; Giles 2.3.1", node="LinalgSolveExBackward0",
            samples=_solve_samples, like=lambda x, b, left, vector: (np.linalg.solve(x, b), np.zeros(2)), **COMMON)
def linalg_solve_ex(x, b, left, vector):
    """(solutions of x y = b, or y x = b unless `left`, which pivot is zero); b holds matrices, or vectors if `vector`."""
    b = b[..., None] if vector else b
    a = x
    if not left:
        a, b = x.swapaxes(-1, -2), b.swapaxes(-1, -2)
    try:
        result, info = quiet(np.linalg.solve, a, b), np.zeros(x.shape[:-2], np.int32)
    except np.linalg.LinAlgError:
        (result,), failed = each(np.linalg.solve, a, b)
        result, info = np.full(b.shape, np.nan, b.dtype) if result is None else result, _zero_pivots(x, failed)
    return result[..., 0] if vector else result if left else result.swapaxes(-1, -2), info


def _triangle(x, upper, unit):
    """The triangle's part of a gradient: without the diagonal where that is not read."""
    return BOOK["triu"](x, diagonal=int(unit)) if upper else BOOK["tril"](x, diagonal=-int(unit))


def _triangular_adjoint(g, x, out, upper, unit, left, needs):
    back = BOOK["linalg_solve_triangular"](x.mH, g, upper=not upper, unit=unit, left=left)
    share = (back @ out.mH if left else out.mH @ back) if needs[0] else None
    return -_triangle(share, upper, unit) if needs[0] else None, back if needs[1] else None


def _triangular_samples(rng, dtype):
    for operands, _ in _systems(rng, dtype, (2, 3, 3), (2, 3, 3)):
        for k in range(4):
            yield operands, {"upper": k < 2, "unit": k % 2 > 0, "left": k != 1}


def _triangular_like(x, b, upper, unit, left):
    x = np.triu(x) if upper else np.tril(x)
    x = np.where(np.eye(3), 1.0, x) if unit else x
    return np.linalg.solve(x, b) if left else b @ np.linalg.inv(x)


@structural(["x", "b"], adjoint=_triangular_adjoint, samples=_triangular_samples, like=_triangular_like, **COMMON)
def linalg_solve_triangular(x, b, upper, unit, left=True):
    """The solution of x y = b (y x = b unless `left`) for one triangle of x; `unit`: its diagonal counts as ones.

    Zeros on the diagonal divide.
    """
    from ..cpu.linalg import triangular
    if left:
        return triangular(x, b, upper, unit)
    return triangular(x.swapaxes(-1, -2), b.swapaxes(-1, -2), not upper, unit).swapaxes(-1, -2)


# --- LU ---------------------------------------------------------------------------------------------------------------

def _lu_gradient(g_lower, g_upper, lower, upper, p):
    """The gradient of x = p lower upper. Of a square part by Giles; rows below it and columns beside it add their share.

    `lower` (..., n, k), `upper` (..., k, m), k the smaller of n and m; either gradient may be None. `p(y)` permutes rows.
    """
    k = lower.shape[-1]
    lower1, upper1 = lower[..., :k, :], upper[..., :, :k]
    under, beside = lower.shape[-2] > k, upper.shape[-1] > k
    inner = 0
    if g_lower is not None:
        inner = inner + BOOK["tril"](lower1.mH @ g_lower[..., :k, :], diagonal=-1)
        if under:
            inner = inner - BOOK["triu"](lower[..., k:, :].mH @ g_lower[..., k:, :], diagonal=0)
    if g_upper is not None:
        inner = inner + BOOK["triu"](g_upper[..., :, :k] @ upper1.mH, diagonal=0)
        if beside:
            inner = inner - BOOK["tril"](g_upper[..., :, k:] @ upper[..., :, k:].mH, diagonal=-1)
    solve = BOOK["linalg_solve_triangular"]
    g = solve(lower1.mH, solve(upper1.mH, inner, upper=False, unit=False, left=False), upper=True, unit=True)
    if beside:
        rest = g_upper[..., :, k:] if g_upper is not None else upper[..., :, k:] * 0
        g = BOOK["cat"]([g, solve(lower1.mH, rest, upper=True, unit=True)], dim=g.ndim - 1)
    if under:
        rest = g_lower[..., k:, :] if g_lower is not None else lower[..., k:, :] * 0
        g = BOOK["cat"]([g, solve(upper1.mH, rest, upper=False, unit=False, left=False)], dim=g.ndim - 2)
    return p(g)


def parts(lu):
    """The factors L (..., n, k), with ones on its diagonal, and U (..., k, m) of a tensor that holds both triangles."""
    k = min(lu.shape[-2:])
    lower = BOOK["tril"](lu[..., :, :k], diagonal=-1)
    ones = lu.new_ones((*lu.shape[:-2], k))
    return (BOOK["diagonal_scatter"](lower, ones, offset=0, dim0=lower.ndim - 2, dim1=lower.ndim - 1),
            BOOK["triu"](lu[..., :k, :], diagonal=0))


def _factor_adjoint(gs, out):
    lower, upper = parts(out[0])
    pivots = out[1]
    k = min(out[0].shape[-2:])
    return _lu_gradient(gs[0][..., :, :k], gs[0][..., :k, :], lower, upper,
                        lambda g: BOOK["linalg_swap_rows"](g, pivots, back=True))


@structural(["x"], adjoint=_factor_adjoint, nondiff=(1, 2), node="LinalgLuFactorExBackward0", source="Toledo (1997)", **COMMON)
def linalg_lu_factor_ex(x):
    """(both triangles in one matrix, int32 pivots from one, which pivot is zero) of x = P L U."""
    from ..cpu.linalg import first_zero, lu
    both, pivots = lu(x)
    return both, pivots, first_zero(np.diagonal(both, 0, -2, -1))


def _lu_adjoint(gs, out):
    p, lower, upper = out
    return _lu_gradient(gs[1], gs[2], lower, upper, lambda g: p @ g)


@structural(["x"], adjoint=_lu_adjoint, nondiff=(0,), node="LinalgLuBackward0", **COMMON)
def linalg_lu(x):
    """(P, L, U) with x = P L U, P a permutation (..., n, n)."""
    both, pivots, _ = linalg_lu_factor_ex.forward(x)
    return (permutation_of(pivots, x.shape[-2], x.dtype), *lower_and_upper(both))


def lower_and_upper(both: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The factors L and U of an array that holds both."""
    k = min(both.shape[-2:])
    lower = BOOK["tril"].forward(both[..., :, :k], -1)
    np.einsum("...ii->...i", lower[..., :k, :])[...] = 1
    return lower, BOOK["triu"].forward(both[..., :k, :], 0)


def permutation_of(pivots: np.ndarray, n: int, dtype: np.dtype) -> np.ndarray:
    """The matrix P (..., n, n) of x = P L U."""
    from ..cpu.linalg import swap_rows
    return swap_rows(np.eye(n, dtype=dtype), pivots, True)


@structural(["x", "pivots"], adjoint=lambda g, pivots, back: (
    BOOK["linalg_swap_rows"](g, pivots, back=not back), None), **COMMON)
def linalg_swap_rows(x, pivots, back):
    """Rows exchanged with the rows that checked pivots name, from the first pivot on (P^T x), or `back` (P x)."""
    from ..cpu.linalg import swap_rows
    return swap_rows(x, pivots, back)


def _lu_solve_adjoint(g, lu, pivots, out, left, adjoint, needs):
    """With y = U x and L y = P^T b; for `adjoint` with L^H z = y, U^H y = b and x = P z. Turned around unless `left`."""
    solve = BOOK["linalg_solve_triangular"]
    g_b = BOOK["linalg_lu_solve"](lu, pivots, g, left=left, adjoint=not adjoint) if needs[2] else None
    if not needs[0]:
        return None, None, g_b
    if not left:
        g, out, adjoint = g.mH, out.mH, not adjoint
    lower, upper = parts(lu)
    if adjoint:
        z, g_z = (BOOK["linalg_swap_rows"](t, pivots, back=False) for t in (out, g))
        g_y = solve(lower, g_z, upper=False, unit=True)
        g_lower = -(z @ g_y.mH)
        g_upper = -(lower.mH @ z @ solve(upper, g_y, upper=True, unit=False).mH)
    else:
        g_y = solve(upper.mH, g, upper=False, unit=False)
        g_upper = -(g_y @ out.mH)
        g_lower = -(solve(lower.mH, g_y, upper=True, unit=True) @ (upper @ out).mH)
    return BOOK["tril"](g_lower, diagonal=-1) + BOOK["triu"](g_upper, diagonal=0), None, g_b


def _turned(x: np.ndarray) -> np.ndarray:
    """The conjugate transpose of an array."""
    x = x.swapaxes(-1, -2)
    return BOOK["conj"].on_arrays(x) if x.dtype.kind == "c" else x


@structural(["lu", "pivots", "b"], adjoint=_lu_solve_adjoint, **COMMON)
def linalg_lu_solve(lu, pivots, b, left, adjoint):
    """The solution of x y = b (y x = b unless `left`) from x's factors, of x^H instead of x if `adjoint`; pivots are checked."""
    from ..cpu.linalg import swap_rows, triangular
    if not left:
        return _turned(linalg_lu_solve.forward(lu, pivots, _turned(b), True, not adjoint))
    if adjoint:
        turned = _turned(lu)
        return swap_rows(triangular(turned, triangular(turned, b, False, False), True, True), pivots, True)
    return triangular(lu, triangular(lu, swap_rows(b, pivots, False), False, True), True, False)


# --- determinant ------------------------------------------------------------------------------------------------------

def _det_adjoint(g, x, out):
    """g conj(det) A^-H. Where A is singular, the same by A = U S V^H: the products of all singular values but one."""
    if not bool((out == 0).any()):
        return (g * out.conj())[..., None, None] * BOOK["linalg_inv_ex"](x)[0].mH
    u, s, vh = BOOK["linalg_svd"](x, full=False, vectors=True)
    one = s.new_ones(s.shape[-1]).diag_embed()
    others = BOOK["where"](one != 0, one, s[..., None, :])
    others = BOOK["prod"](others, dims=(others.ndim - 1,), keepdim=False)
    phase = (BOOK["linalg_det"](u) * BOOK["linalg_det"](vh)).conj()
    return (g * phase)[..., None, None] * ((u * others[..., None, :]) @ vh)


@structural(["x"], adjoint=_det_adjoint, source="LAPACK getrf; Giles 2.2.4", like=np.linalg.det,
            samples=lambda rng, dtype: _systems(rng, dtype, (2, 3, 3)), **COMMON)
def linalg_det(x):
    """Determinants."""
    return np.asarray(quiet(np.linalg.det, x))


def _slogdet_adjoint(gs, x, out):
    """d (log |det| + i angle) = tr(A^-1 dA); a change of the angle turns the sign."""
    g = gs[1]
    if x.is_complex() and gs[0] is not None:
        g_angle = -BOOK["imag"](gs[0].conj() * out[0])
        g = BOOK["complex"](g_angle * 0 if g is None else g, g_angle)
    return x * 0 if g is None else g[..., None, None] * BOOK["linalg_inv_ex"](x)[0].mH


@structural(["x"], adjoint=_slogdet_adjoint, source="LAPACK getrf", like=np.linalg.slogdet,
            samples=lambda rng, dtype: _systems(rng, dtype, (2, 3, 3)), **COMMON)
def linalg_slogdet(x):
    """(sign of the determinant, a number of size one if complex, and the logarithm of its size)."""
    sign, size = quiet(np.linalg.slogdet, x)
    return np.asarray(sign, x.dtype), np.asarray(size, x.real.dtype)


# --- Cholesky ---------------------------------------------------------------------------------------------------------

def _cholesky_gradient(g, lower):
    """L^-H (Phi + Phi^H) L^-1 / 2, where Phi is the lower triangle of L^H g with half its diagonal (Murray, equation 10).

    An imaginary part of the diagonal stays, as in PyTorch: it pairs with no change of a Hermitian matrix.
    """
    inner = BOOK["tril"](lower.mH @ g, diagonal=0)
    inner = inner + BOOK["tril"](inner, diagonal=-1).mH
    solve = BOOK["linalg_solve_triangular"]
    return solve(lower, solve(lower.mH, inner, upper=True, unit=False), upper=False, unit=False, left=False) * 0.5


def _cholesky_adjoint(gs, out, upper):
    return _cholesky_gradient(gs[0].mH if upper else gs[0], out[0].mH if upper else out[0])


def _cholesky_of(x, upper):
    try:
        return quiet(np.linalg.cholesky, x, upper=upper), np.zeros(x.shape[:-2], np.int32)
    except np.linalg.LinAlgError:
        from ..cpu.linalg import cholesky_info
        (result,), _ = each(lambda m: np.linalg.cholesky(m, upper=upper), x)
        lower = x.swapaxes(-1, -2) if upper else x
        return (np.full(x.shape, np.nan, x.dtype) if result is None else result), cholesky_info(lower)


@structural(["x"], adjoint=_cholesky_adjoint, nondiff=(1,), node="LinalgCholeskyExBackward0", source="LAPACK potrf; Murray",
            **COMMON)
def linalg_cholesky_ex(x, upper):
    """(L with x = L L^H, or U = L^H, and which leading minor is not positive); reads the triangle of the factor only."""
    return _cholesky_of(x, upper)


@structural(["x"], adjoint=_cholesky_adjoint, nondiff=(1,), node="CholeskyBackward0", **COMMON)
def cholesky(x, upper):
    """The same for the older `cholesky`, whose nodes have a name of their own."""
    return _cholesky_of(x, upper)


def _cholesky_solve_adjoint(g, b, factor, out, upper, needs):
    """x = A^-1 b with A = L L^H: g_b = A^-1 g; g_A = -g_b x^H, and dA = dL L^H + L dL^H."""
    g_b = BOOK["cholesky_solve"](g, factor, upper=upper)
    if not needs[1]:
        return g_b, None
    both = g_b @ out.mH
    both = -(both + both.mH)
    g_factor = BOOK["triu"](factor, diagonal=0) @ both if upper else both @ BOOK["tril"](factor, diagonal=0)
    return g_b if needs[0] else None, _triangle(g_factor, upper, False)


@structural(["b", "factor"], adjoint=_cholesky_solve_adjoint, node="CholeskySolveBackward0", **COMMON)
def cholesky_solve(b, factor, upper):
    """The solution of A x = b from the Cholesky factor of A."""
    from ..cpu.linalg import triangular
    turned = _turned(factor)
    first, second = (turned, factor) if upper else (factor, turned)
    return triangular(second, triangular(first, b, False, False), True, False)


def _cholesky_inverse_adjoint(g, factor, out, upper):
    both = out @ g @ out
    both = -(both + both.mH)
    return _triangle(BOOK["triu"](factor, diagonal=0) @ both if upper else both @ BOOK["tril"](factor, diagonal=0), upper, False)


@structural(["factor"], adjoint=_cholesky_inverse_adjoint, **COMMON)
def cholesky_inverse(factor, upper):
    """The inverse of A from its Cholesky factor."""
    one = np.broadcast_to(np.eye(factor.shape[-1], dtype=factor.dtype), factor.shape)
    return cholesky_solve.forward(one, factor, upper)


def _unpack_adjoint(gs, lu_shape):
    n, m = lu_shape[-2:]
    k, g = min(n, m), 0
    if gs[1] is not None:
        g = BOOK["slice_backward"](BOOK["tril"](gs[1], diagonal=-1), shape=tuple(lu_shape), dim=len(lu_shape) - 1, start=0, stop=k,
                                   step=1)
    if gs[2] is not None:
        g = g + BOOK["slice_backward"](BOOK["triu"](gs[2], diagonal=0), shape=tuple(lu_shape), dim=len(lu_shape) - 2, start=0,
                                       stop=k, step=1)
    return g, None


@structural(["lu", "pivots"], adjoint=_unpack_adjoint, nondiff=(0,), **COMMON)
def lu_unpack(lu, pivots, data, rows):
    """(P, L, U) from both triangles in one matrix and checked pivots; empty without `rows`, without `data`."""
    p = permutation_of(pivots, lu.shape[-2], lu.dtype) if rows else np.empty(0, lu.dtype)
    return (p, *(lower_and_upper(lu) if data else (np.empty(0, lu.dtype), np.empty(0, lu.dtype))))
