"""Factorisations by orthogonal matrices and what is made of them: qr, svd, eigh, eig, pseudo-inverse, lstsq, matrix_exp.

Operands are stacks of matrices of float32, float64, complex64 or complex128; what users may write, and errors, are settled in
`engine.linalg`. Numbers come from NumPy's LAPACK, whose LinAlgError passes through. Derivatives:
    qr      Walter and Lehmann, arXiv:1009.6112; wide matrices by Roberts and Roberts, arXiv:2009.10071
    svd     Wan and Zhang, arXiv:1909.02659; Seeger et al., arXiv:1710.08717
    eigh, eig   Giles (2008), 3.1; the phase of a complex vector is free, so a loss may not depend on it
    pinv    Golub and Pereyra, SIAM J. Numer. Anal. 10 (1973), equation 4.12
    matrix_exp  Higham, Functions of Matrices (2008), algorithm 10.20; its derivative by a block matrix (Mathias 1996)
Where singular values or eigenvalues coincide, a quotient by their difference counts as 0: right for a loss that depends on
the common subspace only. H stands for the conjugate transpose.
"""
from __future__ import annotations

import math

import numpy as np

from ..book import BOOK, structural
from .linalg import COMMON, each, quiet


def _skew(x):
    return x - x.mH


def _diagonal(x):
    return x.diagonal(0, -2, -1)


def _embed(x):
    return BOOK["diag_embed"](x, offset=0, dim1=x.ndim - 1, dim2=x.ndim)


def _over(x, y):
    """Quotient, 0 where the divisor is 0."""
    return BOOK["div_or_zero"](x, y)


def _without_phase(x, message: str) -> None:
    """RuntimeError where a complex loss depends on the phase of singular vectors or eigenvectors."""
    turned = BOOK["abs"](BOOK["imag"](_diagonal(x.detach())))
    if turned.numel() and float(turned.max()) > 1e-2:
        raise RuntimeError(message)


# --- qr ---------------------------------------------------------------------------------------------------------------

def _symmetric_part(x):
    """X + X^H for a triangle X, its diagonal real and counted once."""
    diagonal = _diagonal(x)
    return x + x.mH - _embed(BOOK["complex"](BOOK["real"](diagonal), 0) if x.is_complex() else diagonal)


def _qr_square(g_q, g_r, q, r):
    """Of a matrix with full column rank: R square."""
    inner = 0
    if g_r is not None:
        inner = inner + g_r @ r.mH
    if g_q is not None:
        inner = inner - q.mH @ g_q
    g = q @ _symmetric_part(BOOK["triu"](inner, diagonal=0))
    if g_q is not None:
        g = g + g_q
    return BOOK["linalg_solve_triangular"](r.mH, g, upper=False, unit=False, left=False)


def _qr_adjoint(gs, out, mode):
    g_q, g_r = gs
    q, r = out
    if mode == "r":
        raise RuntimeError("The derivative of linalg.qr depends on Q, which is not computed when mode='r'. Please use linalg.qr(A, "
                           "mode='reduced') if you are going to require gradients for the decomposition.")
    n, m = q.shape[-2], r.shape[-1]
    if mode == "complete" and n > m:
        raise RuntimeError("The QR decomposition is not differentiable when mode='complete' and nrows > ncols.")
    if n >= m:
        return _qr_square(g_q, g_r, q, r)
    # A = (X, Y) with X = Q U square and Y = Q V: Q's gradient has a share from Y.
    left, right = r[..., :, :n], r[..., :, n:]
    if g_r is None:
        return BOOK["cat"]([_qr_square(g_q, None, q, left), q @ right * 0], dim=q.ndim - 1)
    g_left, g_right = g_r[..., :, :n], g_r[..., :, n:]
    share = q @ (right @ g_right.mH)
    g_x = _qr_square(share if g_q is None else g_q + share, g_left, q, left)
    return BOOK["cat"]([g_x, q @ g_right], dim=q.ndim - 1)


@structural(["x"], adjoint=_qr_adjoint, source="LAPACK geqrf, orgqr", **COMMON)
def linalg_qr(x, mode):
    """(Q, R), Q empty for mode "r"."""
    if mode == "r":
        return np.empty(0, x.dtype), quiet(np.linalg.qr, x, mode="r")
    return tuple(quiet(np.linalg.qr, x, mode=mode))


def _no_derivative(gs):
    raise NotImplementedError("the derivative for 'geqrf' is not implemented.")


@structural(["x"], adjoint=_no_derivative, source="LAPACK geqrf", **COMMON)
def geqrf(x):
    """(R above and reflections below the diagonal, their factors)."""
    turned, tau = quiet(np.linalg.qr, x, mode="raw")
    return turned.swapaxes(-1, -2), tau


# --- svd --------------------------------------------------------------------------------------------------------------

_SVD_PHASE = ("svd_backward: The singular vectors in the complex case are specified up to multiplication by e^{i phi}. The "
              "specified loss function depends on this phase term, making it ill-defined.")


def _svd_adjoint(gs, out, x_shape):
    (g_u, g_s, g_vh), (u, s, vh) = gs, out
    n, m = x_shape[-2:]
    k = min(n, m)
    if u.shape[-1] > k:             # vectors of the null space take no part, as in PyTorch
        u, g_u = u[..., :, :k], None if g_u is None else g_u[..., :, :k]
    if vh.shape[-2] > k:
        vh, g_vh = vh[..., :k, :], None if g_vh is None else g_vh[..., :k, :]
    if g_u is None and g_vh is None:
        return (u * g_s[..., None, :]) @ vh
    du = None if g_u is None else _skew(u.mH @ g_u)
    dv = None if g_vh is None else _skew(vh @ g_vh.mH)
    row, column = s[..., None, :], s[..., :, None]
    gaps = (row - column) * (row + column)
    inner = 0
    if du is not None:
        inner = inner + _over(du, gaps) * row
    if dv is not None:
        inner = inner + _over(dv, gaps) * column
    if g_s is not None:
        inner = inner + _embed(g_s)
    if u.is_complex():
        if du is not None and dv is not None:
            _without_phase(du + dv, _SVD_PHASE)
        else:
            _without_phase(du if dv is None else dv, _SVD_PHASE)
        if du is not None and dv is not None:
            inner = inner + _embed(_over(_diagonal(du), 2 * s))
    g = u @ inner @ vh
    if n > k and g_u is not None:
        outside = _over(g_u, row)
        g = g + (outside - u @ (u.mH @ outside)) @ vh
    if m > k and g_vh is not None:
        outside = _over(g_vh, column)
        g = g + u @ (outside - (outside @ vh.mH) @ vh)
    return g


@structural(["x"], adjoint=_svd_adjoint, source="LAPACK gesdd", **COMMON)
def linalg_svd(x, full, vectors):
    """(U, S, Vh), with square U and Vh if `full`; without `vectors` they are empty."""
    if not vectors:
        values = quiet(np.linalg.svd, x, compute_uv=False)
        return np.empty(0, x.dtype), values, np.empty(0, x.dtype)
    return tuple(quiet(np.linalg.svd, x, full_matrices=full))


# --- eigenvalues ------------------------------------------------------------------------------------------------------

_EIG_PHASE = ("{}_backward: The eigenvectors in the complex case are specified up to multiplication by e^{{i phi}}. The specified "
              "loss function depends on this quantity, so it is ill-defined.")


def _eigh_adjoint(gs, out):
    (g_values, g_vectors), (values, vectors) = gs, out
    if g_vectors is None:
        return (vectors * g_values[..., None, :]) @ vectors.mH
    inner = vectors.mH @ g_vectors
    if vectors.is_complex():
        _without_phase(inner, _EIG_PHASE.format("linalg_eigh"))
    inner = _over(inner, values[..., None, :] - values[..., :, None])
    if g_values is not None:
        inner = inner + _embed(g_values)
    g = vectors @ inner @ vectors.mH
    return (g + g.mH) * 0.5


@structural(["x"], adjoint=_eigh_adjoint, source="LAPACK syevd, heevd", **COMMON)
def linalg_eigh(x, uplo, vectors):
    """(eigenvalues ascending, eigenvectors) of Hermitian matrices, reading one triangle; NaN where a matrix has NaN."""
    function = np.linalg.eigh if vectors else np.linalg.eigvalsh
    try:
        found = quiet(function, x, UPLO=uplo)
    except np.linalg.LinAlgError:
        if bool(np.all(BOOK["isfinite"].on_arrays(x))):
            raise
        found, _ = each(lambda a: function(a, UPLO=uplo), x, count=1 + vectors)
        values = found[0] if found[0] is not None else np.full(x.shape[:-1], np.nan, x.real.dtype)
        found = (values, found[1] if found[-1] is not None else np.full(x.shape, np.nan, x.dtype)) if vectors else values
    return tuple(found) if vectors else (np.asarray(found), np.empty(0, x.dtype))


def _eig_adjoint(gs, out, x_kind):
    """Of a matrix with distinct eigenvalues; LAPACK scales the vectors to length 1."""
    (g_values, g_vectors), (values, vectors) = gs, out
    inner = 0
    if g_vectors is not None:
        along = vectors.mH @ g_vectors
        _without_phase(along, _EIG_PHASE.format("linalg_eig"))
        length = BOOK["complex"](BOOK["real"](_diagonal(along)), 0)
        inner = along - (vectors.mH @ vectors) * length[..., None, :]
        inner = _over(inner, (values[..., None, :] - values[..., :, None]).conj())
    if g_values is not None:
        inner = inner + _embed(g_values)
    g = BOOK["linalg_solve_ex"](vectors.mH, inner @ vectors.mH, left=True, vector=False)[0]
    return g if x_kind.dtype.is_complex else BOOK["real"](g)


@structural(["x"], adjoint=_eig_adjoint, source="LAPACK geev", **COMMON)
def linalg_eig(x, vectors):
    """(eigenvalues, eigenvectors), complex."""
    kind = np.result_type(x.dtype, np.complex64)
    if not vectors:
        return quiet(np.linalg.eigvals, x).astype(kind, copy=False), np.empty(0, kind)
    values, found = quiet(np.linalg.eig, x)
    return values.astype(kind, copy=False), found.astype(kind, copy=False)


# --- pseudo-inverse and least squares ---------------------------------------------------------------------------------

def _pinv_adjoint(g, x, out):
    """Of constant rank. Ordered so that the square matrices between are as small as can be."""
    gh, ph = g.mH, out.mH
    if x.shape[-2] <= x.shape[-1]:
        k = gh @ out
        kph = k @ ph
        return -(out @ k).mH + kph - (x @ out) @ kph + (ph @ out) @ (gh - k @ x)
    k = out @ gh
    phk = ph @ k
    return -(k @ out).mH + (gh - x @ k) @ out @ ph + phk - (phk @ out) @ x


@structural(["x"], adjoint=_pinv_adjoint, **COMMON)
def linalg_pinv(x, found):
    """The pseudo-inverse, an array that the engine found from the singular values above its threshold."""
    return found


def _lstsq_adjoint(gs, x, b, vector, needs):
    """Through the pseudo-inverse P: the solution is P b; the residuals are |b - A P b|^2 for each column."""
    if vector:
        b = b[..., None]
    p = BOOK["linalg_pinv"](x, found=np.linalg.pinv(x._array))
    g_x = g_b = 0
    if gs[0] is not None:
        g = gs[0][..., None] if vector else gs[0]
        if needs[0]:
            g_x = _pinv_adjoint(g @ b.mH, x, p)
        if needs[1]:
            g_b = p.mH @ g
    if gs[1] is not None and gs[1].numel():
        left = (b - x @ (p @ b)) * (2 * gs[1])[..., None, :]
        if needs[0]:
            g_x = g_x - left @ (p @ b).mH
        if needs[1]:
            g_b = g_b + left
    if vector and needs[1]:
        g_b = g_b[..., 0]
    return g_x if needs[0] else None, g_b if needs[1] else None


@structural(["x", "b"], adjoint=_lstsq_adjoint, nondiff=(2, 3), source="LAPACK gelsd", **COMMON)
def linalg_lstsq(x, b, rcond, residuals, vector):
    """(solutions of least length that minimise |x y - b|, |x y - b|^2 by columns, ranks, singular values).

    b holds matrices, or vectors if `vector`.

    `residuals` are asked for; they stay empty unless there are more rows than columns and each rank is full.
    """
    b = b[..., None] if vector else b
    lead, (n, m), width = x.shape[:-2], x.shape[-2:], b.shape[-1]
    real = x.real.dtype
    solution, squares = np.empty((*lead, m, width), x.dtype), np.empty((*lead, width), real)
    rank, singular = np.empty(lead, np.int64), np.empty((*lead, min(n, m)), real)
    for at in np.ndindex(*lead):
        solution[at], found, rank[at], singular[at] = quiet(np.linalg.lstsq, x[at], b[at], rcond=rcond)
        if found.size:
            squares[at] = found
    complete = residuals and n > m and bool((rank == m).all())
    return solution[..., 0] if vector else solution, squares if complete else np.empty(0, real), rank, singular


# --- the exponential --------------------------------------------------------------------------------------------------

def _exp_adjoint(g, x):
    """The upper right block of exp([[A^H, g], [0, A^H]])."""
    n, turned = x.shape[-1], x.mH
    top, low = BOOK["cat"]([turned, g], dim=x.ndim - 1), BOOK["cat"]([turned * 0, turned], dim=x.ndim - 1)
    return BOOK["linalg_matrix_exp"](BOOK["cat"]([top, low], dim=x.ndim - 2))[..., :n, n:]


def _exp_like(x):
    import scipy.linalg
    return np.stack([scipy.linalg.expm(a) for a in x])


@structural(["x"], adjoint=_exp_adjoint, source="Higham (2008), algorithm 10.20", like=_exp_like,
            samples=lambda rng, dtype: iter([([rng.normal(size=(2, 3, 3))], {})] if dtype == "float64" else []), **COMMON)
def linalg_matrix_exp(x):
    """Matrix exponentials by the Pade approximation of degree 13, scaling and squaring."""
    if not x.size:
        return x.copy()
    sizes = BOOK["amax"].on_arrays(BOOK["sum"].on_arrays(BOOK["abs"].on_arrays(x), (x.ndim - 2,), False), (x.ndim - 2,), False)
    out = np.empty(x.shape, x.dtype)
    for at in np.ndindex(*x.shape[:-2]):
        out[at] = _exp_one(x[at], float(sizes[at]))
    return out


# Numerator of the [13/13] approximation: c_k = (26 - k)! 13! / (26! k! (13 - k)!); the denominator has alternating signs.
_PADE = [math.factorial(26 - k) * math.factorial(13) / (math.factorial(26) * math.factorial(k) * math.factorial(13 - k))
         for k in range(14)]
_PADE_REACH = 5.371920351148152         # the 1-norm up to which it is as exact as float64


def _exp_one(x: np.ndarray, size: float) -> np.ndarray:
    """Of one matrix with the 1-norm `size`."""
    from ..cpu.products import product
    from .matmul import compute
    if not math.isfinite(size):
        return np.full(x.shape, np.nan, x.dtype)
    halvings = math.ceil(math.log2(size / _PADE_REACH)) if size > _PADE_REACH else 0
    x = compute("mul", np.empty_like(x), x, 2.0 ** -halvings)
    c, one = _PADE, np.eye(x.shape[-1], dtype=x.dtype)
    x2 = product(x, x)
    x4 = product(x2, x2)
    x6 = product(x2, x4)

    def blend(*terms):
        total = compute("mul", np.empty_like(x), terms[0][1], terms[0][0])
        for factor, power in terms[1:]:
            compute("add", total, total, compute("mul", np.empty_like(x), power, factor))
        return total
    odd = compute("add", np.empty_like(x), product(x6, blend((c[13], x6), (c[11], x4), (c[9], x2))),
                  blend((c[7], x6), (c[5], x4), (c[3], x2), (c[1], one)))
    odd = product(x, odd)
    even = compute("add", np.empty_like(x), product(x6, blend((c[12], x6), (c[10], x4), (c[8], x2))),
                   blend((c[6], x6), (c[4], x4), (c[2], x2), (c[0], one)))
    above, below = compute("add", np.empty_like(x), even, odd), compute("sub", np.empty_like(x), even, odd)
    result = quiet(np.linalg.solve, below, above)
    for _ in range(halvings):
        result = product(result, result)
    return result
