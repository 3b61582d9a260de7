"""Dense linear algebra against NumPy, SciPy and defining equations; derivatives against differences; refusals.

Where vectors are known up to a phase only, tests go through what does not depend on it. Complex gradients are checked along
with real ones: differences pair them as Re <g, dA>.
"""
import numpy as np
import pytest
import scipy.linalg
from test_book import check_gradients

import engine
from engine import linalg
from engine.tensor import from_array


def normal(rng, kind, *shape):
    return rng.normal(size=shape) + (1j * rng.normal(size=shape) if kind == "complex" else 0)


def close(seen, expected, tol=1e-10):
    seen = seen.numpy()
    assert seen.shape == np.shape(expected) and seen.dtype == np.asarray(expected).dtype
    np.testing.assert_allclose(seen, expected, rtol=tol, atol=tol)


KINDS = pytest.mark.parametrize("kind", ["real", "complex"])


# --- values -----------------------------------------------------------------------------------------------------------

@KINDS
def test_systems(kind, rng):
    a, b, v = normal(rng, kind, 2, 4, 4), normal(rng, kind, 2, 4, 3), normal(rng, kind, 2, 4)
    A, B, V = map(from_array, (a, b, v))
    close(linalg.inv(A), np.linalg.inv(a))
    close(linalg.det(A), np.linalg.det(a))
    for seen, expected in zip(linalg.slogdet(A), np.linalg.slogdet(a), strict=True):
        close(seen, expected)
    close(linalg.solve(A, B), np.linalg.solve(a, b))
    close(linalg.solve(A, V), np.linalg.solve(a, v[..., None])[..., 0])
    close(linalg.solve(A, B[0]), np.linalg.solve(a, b[0]))
    close(linalg.solve(A, B.mT, left=False) @ A, b.swapaxes(-1, -2))
    for upper in (False, True):
        for unit in (False, True):
            t = np.triu(a) if upper else np.tril(a)
            t = np.where(np.eye(4), 1, t) if unit else t
            close(linalg.solve_triangular(A, B, upper=upper, unitriangular=unit), np.linalg.solve(t, b))
            x = linalg.solve_triangular(A, B.mT, upper=upper, left=False, unitriangular=unit)
            np.testing.assert_allclose(x.numpy() @ t, b.swapaxes(-1, -2), atol=1e-9)
    close(engine.matrix_exp(A), np.stack([scipy.linalg.expm(m) for m in a]))
    close(engine.matrix_exp(A * 9), np.stack([scipy.linalg.expm(m * 9) for m in a]),
        1e-8 * np.abs(scipy.linalg.expm(9 * a[0])).max())
    for n in (-2, -1, 0, 1, 5):
        close(linalg.matrix_power(A, n), np.linalg.matrix_power(a, n), 1e-8)


@KINDS
@pytest.mark.parametrize("shape", [(2, 4, 4), (2, 5, 3), (3, 5), (120, 130), (0, 3, 3), (3, 0)])
def test_lu(kind, shape, rng):
    a = normal(rng, kind, *shape)
    A = from_array(a)
    p, lower, upper = linalg.lu(A)
    np.testing.assert_allclose((p @ lower @ upper).numpy(), a, atol=1e-11)
    np.testing.assert_array_equal(lower.numpy(), np.tril(lower.numpy()))
    np.testing.assert_array_equal(upper.numpy(), np.triu(upper.numpy()))
    assert np.all(np.abs(lower.numpy()) < 1 + 1e-12 if kind == "real" else np.isfinite(lower.numpy()))
    np.testing.assert_array_equal(p.numpy().sum(-1), 1)
    both, pivots = linalg.lu_factor(A)
    assert pivots.dtype is engine.int32
    for seen, expected in zip(engine.lu_unpack(both, pivots), (p, lower, upper), strict=True):
        np.testing.assert_array_equal(seen.numpy(), expected.numpy())
    if shape[-1] == shape[-2]:
        b = normal(rng, kind, *shape[:-1], 2)
        B = from_array(b)
        np.testing.assert_allclose(a @ linalg.lu_solve(both, pivots, B).numpy(), b, atol=1e-10)
        h = a.conj().swapaxes(-1, -2)
        np.testing.assert_allclose(h @ linalg.lu_solve(both, pivots, B, adjoint=True).numpy(), b, atol=1e-10)
        x = linalg.lu_solve(both, pivots, B.mT, left=False).numpy()
        np.testing.assert_allclose(x @ a, b.swapaxes(-1, -2), atol=1e-10)


def test_lu_pivots_are_lapacks(rng):
    a = rng.normal(size=(70, 70))
    expected, order = scipy.linalg.lu_factor(a)
    both, pivots = engine.lu(from_array(a))
    close(both, expected, 1e-9)
    np.testing.assert_array_equal(pivots.numpy() - 1, order)


def test_large_triangular_systems(rng):
    a = np.tril(rng.normal(size=(150, 150))) + 20 * np.eye(150)
    b = rng.normal(size=(150, 7))
    close(linalg.solve_triangular(from_array(a), from_array(b), upper=False), scipy.linalg.solve_triangular(a, b, lower=True))
    close(linalg.solve_triangular(from_array(a).T, from_array(b), upper=True), scipy.linalg.solve_triangular(a.T, b))


@KINDS
def test_cholesky(kind, rng):
    x = normal(rng, kind, 2, 4, 4)
    a = x @ x.conj().swapaxes(-1, -2) + np.eye(4)
    b = normal(rng, kind, 2, 4, 3)
    lower = linalg.cholesky(from_array(a))
    close(lower, np.linalg.cholesky(a))
    close(linalg.cholesky(from_array(a), upper=True), np.linalg.cholesky(a).conj().swapaxes(-1, -2))
    close(engine.cholesky_solve(from_array(b), lower), np.linalg.solve(a, b))
    close(engine.cholesky_solve(from_array(b), lower.mH, upper=True), np.linalg.solve(a, b))
    close(engine.cholesky_inverse(lower), np.linalg.inv(a))
    close(engine.cholesky(from_array(a)), np.linalg.cholesky(a))


@KINDS
@pytest.mark.parametrize("shape", [(2, 4, 4), (2, 5, 3), (3, 5), (0, 4, 2), (0, 0)])
def test_orthogonal_factorisations(kind, shape, rng):
    a = normal(rng, kind, *shape)
    A, h = from_array(a), a.conj().swapaxes(-1, -2)
    n, m = shape[-2:]
    k = min(n, m)
    for mode, inner in (("reduced", k), ("complete", n)):
        q, r = linalg.qr(A, mode)
        assert q.shape == (*shape[:-2], n, inner) and r.shape == (*shape[:-2], inner, m)
        np.testing.assert_allclose((q @ r).numpy(), a, atol=1e-12)
        np.testing.assert_allclose((q.mH @ q).numpy(), np.broadcast_to(np.eye(inner), (*shape[:-2], inner, inner)), atol=1e-12)
    assert linalg.qr(A, "r").Q.shape == (0,)
    for full in (False, True):
        u, s, vh = linalg.svd(A, full)
        assert u.shape == (*shape[:-2], n, n if full else k) and vh.shape == (*shape[:-2], m if full else k, m)
        np.testing.assert_allclose(((u[..., :k] * s[..., None, :]) @ vh[..., :k, :]).numpy(), a, atol=1e-12)
    close(linalg.svdvals(A), np.linalg.svd(a, compute_uv=False))
    p = linalg.pinv(A).numpy()
    np.testing.assert_allclose(a @ p @ a, a, atol=1e-10)
    np.testing.assert_allclose(p @ a, (p @ a).conj().swapaxes(-1, -2), atol=1e-10)
    if n == m:
        hermitian = a + h
        values, vectors = linalg.eigh(from_array(hermitian))
        np.testing.assert_allclose(hermitian @ vectors.numpy(), vectors.numpy() * values.numpy()[..., None, :], atol=1e-11)
        close(linalg.eigvalsh(from_array(np.triu(hermitian)), "U"), np.linalg.eigvalsh(hermitian))
        values, vectors = linalg.eig(A)
        np.testing.assert_allclose(a @ vectors.numpy(), vectors.numpy() * values.numpy()[..., None, :], atol=1e-11)
        assert values.is_complex() and linalg.eigvals(A).is_complex()
        np.testing.assert_allclose(np.sort_complex(linalg.eigvals(A).numpy()), np.sort_complex(values.numpy()), atol=1e-11)


def test_householder_products(rng):
    a = rng.normal(size=(2, 5, 3))
    packed, tau = engine.geqrf(from_array(a))
    q, r = linalg.qr(from_array(a))
    close(engine.orgqr(packed, tau), q.numpy())
    close(packed.triu()[..., :3, :], r.numpy())
    other = rng.normal(size=(5, 2))
    whole = linalg.qr(from_array(a[0]), "complete").Q.numpy()
    close(engine.ormqr(packed[0], tau[0], from_array(other)), whole @ other)
    close(engine.ormqr(packed[0], tau[0], from_array(other.T), left=False, transpose=True), other.T @ whole.T)


@KINDS
def test_least_squares(kind, rng):
    a, b = normal(rng, kind, 2, 5, 3), normal(rng, kind, 2, 5, 2)
    for driver in (None, "gels", "gelsy", "gelsd", "gelss"):
        found = linalg.lstsq(from_array(a), from_array(b), driver=driver)
        for k in range(2):
            x, squares, _, singular = np.linalg.lstsq(a[k], b[k])
            close(found.solution[k], x)
            if driver not in (None, "gelsy"):
                close(found.residuals[k], squares)
        assert found.residuals.numel() == (0 if driver in (None, "gelsy") else 4)
        assert found.rank.tolist() == ([] if driver == "gels" else [3, 3])
        if driver in ("gelsd", "gelss"):
            close(found.singular_values[1], singular)
        else:
            assert found.singular_values.numel() == 0
    vector = linalg.lstsq(from_array(a), from_array(b[..., 0].copy()), driver="gelsd")
    close(vector.solution, np.stack([np.linalg.lstsq(m, v[:, 0])[0] for m, v in zip(a, b, strict=True)]))
    wide = linalg.lstsq(from_array(a).mT, from_array(b[:, :3].copy()))
    close(wide.solution, np.linalg.pinv(a.swapaxes(-1, -2)) @ b[:, :3])


def test_thresholds(rng):
    u, v = (np.linalg.qr(rng.normal(size=(5, 5)))[0] for _ in range(2))
    a = (u * np.array([8.0, 4.0, 1.0, 1e-3, 0.0])) @ v
    A = from_array(a)
    assert linalg.matrix_rank(A).item() == 4 and linalg.matrix_rank(A, tol=0.5).item() == 3
    assert linalg.matrix_rank(A, atol=2.0).item() == 2 and linalg.matrix_rank(A, rtol=0.3).item() == 2
    assert linalg.matrix_rank(A, atol=2.0, rtol=0.6).item() == 1
    assert linalg.matrix_rank(A @ A.T, hermitian=True).item() == 4
    close(linalg.pinv(A, rtol=0.1), np.linalg.pinv(a, rcond=0.1))
    close(linalg.pinv(A, atol=2.0), np.linalg.pinv(a, rcond=0.25))
    close(linalg.pinv(A, rtol=engine.tensor(0.1, dtype=engine.float64)), np.linalg.pinv(a, rcond=0.1))
    close(linalg.pinv(A @ A.T, rtol=0.01, hermitian=True), np.linalg.pinv(a @ a.T, rcond=0.01, hermitian=True))
    close(engine.pinverse(A, 0.1), np.linalg.pinv(a, rcond=0.1))


@KINDS
def test_norms(kind, rng):
    a = normal(rng, kind, 2, 5, 3)
    A = from_array(a)
    for p in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf):
        for keepdim in (False, True):
            close(linalg.matrix_norm(A, p, keepdim=keepdim), np.linalg.matrix_norm(a, ord=p, keepdims=keepdim))
        close(linalg.matrix_norm(A, p, (2, 0)), np.linalg.norm(a, p, (2, 0)))
        close(linalg.norm(A[0], p), np.asarray(np.linalg.norm(a[0], p)))
        close(linalg.cond(A[:, :3], p), np.linalg.cond(a[:, :3], p), 1e-8)
    for p in (0, 0.5, 1, 2, 3, np.inf, -np.inf, -1):
        close(linalg.vector_norm(A, p, 1), np.linalg.norm(a, p, 1))
        close(linalg.norm(A, p, 1), np.linalg.norm(a, p, 1))
        close(linalg.vector_norm(A, p), np.asarray(np.linalg.vector_norm(a, ord=p)))
    close(linalg.norm(A), np.asarray(np.linalg.norm(a)))
    close(engine.norm(A[0], "nuc"), np.asarray(np.linalg.norm(a[0], "nuc")))
    low = A.to(engine.complex64 if kind == "complex" else engine.float32)
    assert linalg.matrix_norm(low, dtype=A.dtype).dtype is engine.float64
    assert linalg.cond(engine.zeros(2, 2), 1).item() == np.inf and linalg.cond(engine.zeros(2, 2), "nuc").item() == np.inf


@KINDS
def test_products(kind, rng):
    a, b, c = normal(rng, kind, 4, 6), normal(rng, kind, 6, 3), normal(rng, kind, 3, 5)
    close(linalg.multi_dot([from_array(m) for m in (a, b, c)]), a @ b @ c)
    close(linalg.multi_dot([from_array(m) for m in (a[0].copy(), b, c[:, 1].copy())]), a[0] @ b @ c[:, 1])
    x, y = normal(rng, kind, 2, 3), normal(rng, kind, 4, 1, 3)
    close(linalg.vecdot(from_array(x), from_array(y)), np.linalg.vecdot(x, y))
    close(linalg.vecdot(from_array(x[0].copy()), from_array(x[1].copy())), np.asarray(np.vdot(x[0], x[1])))
    close(linalg.cross(from_array(x), from_array(y[0])), np.cross(x, y[0]))
    close(linalg.vander(from_array(x), N=4), np.stack([x ** k for k in range(4)], -1))
    close(linalg.diagonal(from_array(a), offset=1), np.diagonal(a, 1))
    t = normal(rng, kind, 2, 3, 6)
    close(linalg.tensorsolve(from_array(t), from_array(x)), np.linalg.tensorsolve(t, x))
    close(linalg.tensorinv(from_array(t)), np.linalg.tensorinv(t))


@pytest.mark.parametrize("dtype, tol", [("float32", 2e-4), ("complex64", 2e-4)])
def test_single_precision(dtype, tol, rng):
    x = normal(rng, "complex" if dtype[0] == "c" else "real", 2, 4, 4).astype(dtype)
    a = x @ x.conj().swapaxes(-1, -2) + 3 * np.eye(4, dtype=dtype)
    A = from_array(a)
    close(linalg.inv(A), np.linalg.inv(a), tol)
    p, lower, upper = linalg.lu(A)
    close(p @ lower @ upper, a, tol)
    close(linalg.solve_triangular(A, A, upper=True), np.linalg.solve(np.triu(a), a), tol)
    close(linalg.matrix_exp(A / 8), np.stack([scipy.linalg.expm(m / 8) for m in a]).astype(dtype), tol)
    assert linalg.svdvals(A).dtype is engine.float32 and linalg.eigvals(A).dtype is engine.complex64
    assert linalg.lstsq(A, A).solution.dtype is A.dtype and linalg.pinv(A).dtype is A.dtype


# --- derivatives ------------------------------------------------------------------------------------------------------

def positive(x):
    return x @ x.mH + 2 * engine.eye(x.shape[-1], dtype=x.dtype)


def rebuilt(factors):
    """U f(S) V^H: a function of the singular vectors that their phases leave alone."""
    return (factors[0] * (factors[1] ** 2).cos().unsqueeze(-2)) @ factors[2]


CASES = {
    "inv": (linalg.inv, (2, 3, 3)), "det": (linalg.det, (2, 3, 3)), "slogdet": (lambda a: linalg.slogdet(a)[1], (2, 3, 3)),
    "sign": (lambda a: linalg.slogdet(a)[0], (3, 3)),
    "solve": (linalg.solve, (2, 3, 3), (2, 3, 2)), "solve vector": (linalg.solve, (2, 3, 3), (2, 3)),
    "solve right": (lambda a, b: linalg.solve(a, b, left=False), (2, 3, 3), (2, 2, 3)),
    "triangular": (lambda a, b: linalg.solve_triangular(a, b, upper=True), (3, 3), (3, 2)),
    "triangular right": (lambda a, b: linalg.solve_triangular(a, b, upper=False, left=False, unitriangular=True), (3, 3), (2, 3)),
    "lu": (lambda a: linalg.lu(a)[1] @ linalg.lu(a)[2].cos() if not a.is_complex() else linalg.lu(a)[1], (2, 3, 3)),
    "lu tall": (lambda a: linalg.lu_factor(a)[0], (4, 2)), "lu wide": (lambda a: linalg.lu_factor(a)[0], (2, 4)),
    "lu tall parts": (lambda a: engine.cat([linalg.lu(a)[1], linalg.lu(a)[2]]), (4, 2)),
    "lu wide parts": (lambda a: engine.cat([linalg.lu(a)[1], linalg.lu(a)[2]], 1), (2, 4)),
    "lu_unpack": (lambda a: engine.cat(engine.lu_unpack(*engine.lu(a))[1:]), (4, 2)),
    "lu_solve": (lambda a, b: linalg.lu_solve(*linalg.lu_factor(a), b), (3, 3), (3, 2)),
    "lu_solve adjoint": (lambda a, b: linalg.lu_solve(*linalg.lu_factor(a), b, adjoint=True), (3, 3), (3, 2)),
    "lu_solve right": (lambda a, b: linalg.lu_solve(*linalg.lu_factor(a), b, left=False), (3, 3), (2, 3)),
    "cholesky": (lambda x: linalg.cholesky(positive(x)), (2, 3, 3)),
    "cholesky upper": (lambda x: engine.cholesky(positive(x), upper=True), (3, 3)),
    "cholesky_solve": (lambda x, b: engine.cholesky_solve(b, linalg.cholesky(positive(x))), (3, 3), (3, 2)),
    "cholesky_inverse": (lambda x: engine.cholesky_inverse(linalg.cholesky(positive(x), upper=True), upper=True), (3, 3)),
    "qr": (lambda a: linalg.qr(a)[0], (2, 4, 3)), "qr r": (lambda a: linalg.qr(a)[1], (4, 3)),
    "qr wide": (lambda a: engine.cat(linalg.qr(a), 1), (2, 4)), "qr wide q": (lambda a: linalg.qr(a)[0], (2, 4)),
    "svd tall": (lambda a: rebuilt(linalg.svd(a, False)), (4, 3)), "svd wide": (lambda a: rebuilt(linalg.svd(a, False)), (3, 4)),
    "svd u": (lambda a: linalg.svd(a)[0][:, :2].abs(), (4, 2)), "svd vh": (lambda a: linalg.svd(a)[2][:2].abs(), (2, 4)),
    "svdvals": (linalg.svdvals, (2, 4, 3)),
    "eigh": (lambda x: (lambda q: (q[1] * q[0].log().unsqueeze(-2)) @ q[1].mH)(linalg.eigh(positive(x))), (3, 3)),
    "eigenvectors": (lambda x: linalg.eigh(positive(x))[1].abs(), (3, 3)),
    "eigvalsh": (lambda x: linalg.eigvalsh(positive(x)), (2, 3, 3)),
    "eig": (lambda a: (lambda q: (q[1] * q[0].exp().unsqueeze(-2)) @ linalg.inv(q[1]))(linalg.eig(a)), (3, 3)),
    "eigvals": (lambda a: (linalg.eigvals(a).abs() ** 2).sum(), (3, 3)),
    "lstsq": (lambda a, b: linalg.lstsq(a, b)[0], (4, 2), (4, 2)),
    "lstsq wide": (lambda a, b: linalg.lstsq(a, b)[0], (2, 4), (2,)),
    "residuals": (lambda a, b: linalg.lstsq(a, b, driver="gelsd")[1], (4, 2), (4, 2)),
    "pinv tall": (linalg.pinv, (4, 2)), "pinv wide": (linalg.pinv, (2, 4)),
    "matrix_exp": (linalg.matrix_exp, (2, 3, 3)), "nuc": (lambda a: linalg.matrix_norm(a, "nuc"), (2, 4, 3)),
    "two": (lambda a: linalg.matrix_norm(a, 2), (2, 4, 3)), "one": (lambda a: linalg.matrix_norm(a, 1), (4, 3)),
    "cond": (linalg.cond, (3, 3)), "cond fro": (lambda a: linalg.cond(a, "fro"), (3, 3)),
    "householder": (linalg.householder_product, (4, 2), (2,)), "matrix_power": (lambda a: linalg.matrix_power(a, -3), (3, 3)),
    "vander": (lambda x: linalg.vander(x, N=4), (3,)), "logdet": (lambda x: engine.logdet(positive(x)), (3, 3)),
}
ON_COMPLEX = ("inv", "det", "slogdet", "sign", "solve", "solve vector", "solve right", "triangular", "triangular right", "lu",
              "lu tall", "lu wide", "lu_solve", "lu_solve adjoint", "lu_solve right", "cholesky", "cholesky upper",
                  "cholesky_solve",
              "cholesky_inverse", "qr", "qr r", "qr wide", "svd tall", "svd wide", "svdvals", "eigh", "eigenvectors", "eig",
              "eigvals", "lstsq", "residuals", "pinv tall", "pinv wide", "matrix_exp", "nuc")


@pytest.mark.parametrize("name, kind", [(n, "real") for n in CASES] + [(n, "complex") for n in ON_COMPLEX])
def test_gradients(name, kind, rng):
    call, *shapes = CASES[name]
    operands = [normal(rng, kind, *s) + (2 * np.eye(s[-1]) if len(s) > 1 and s[-1] == s[-2] else 0) for s in shapes]
    check_gradients(call, operands, rng, rtol=1e-4, atol=1e-5)


@KINDS
def test_determinants_of_singular_matrices(kind, rng):
    """The gradient is the matrix of cofactors, whatever the rank."""
    a = normal(rng, kind, 3, 4, 4)
    a[0, 1] = 0
    a[1, 1:3] = 0
    A = from_array(a.copy()).requires_grad_()
    found = linalg.det(A)
    (found.real if kind == "complex" else found).sum().backward()
    for m, g in zip(a, A.grad.numpy(), strict=True):
        cofactors = np.array([[(-1) ** (i + j) * np.linalg.det(np.delete(np.delete(m, i, 0), j, 1)) for j in range(4)]
                              for i in range(4)])
        np.testing.assert_allclose(g, cofactors.conj(), atol=1e-11)


def test_equal_singular_values_leave_gradients_of_subspaces_finite():
    a = engine.eye(3, dtype=engine.float64).requires_grad_()
    u, s, vh = linalg.svd(a)
    ((u * s) @ vh).sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), np.ones((3, 3)) / 2 + np.eye(3) / 2, atol=1)
    assert a.grad.isfinite().all()


def test_losses_that_depend_on_a_free_phase_are_refused(rng):
    a = from_array(normal(rng, "complex", 3, 3)).requires_grad_()
    with pytest.raises(RuntimeError, match="svd_backward: The singular vectors in the complex case are specified up to"):
        engine.view_as_real(linalg.svd(a)[0])[..., 1].sum().backward()
    with pytest.raises(RuntimeError, match="linalg_eigh_backward: The eigenvectors in the complex case"):
        engine.view_as_real(linalg.eigh(a)[1])[..., 1].sum().backward()
    with pytest.raises(RuntimeError, match="linalg_eig_backward: The eigenvectors in the complex case"):
        engine.view_as_real(linalg.eig(a)[1])[..., 1].sum().backward()
    with pytest.raises(RuntimeError, match=r"derivative of linalg\.qr depends on Q"):
        engine.view_as_real(linalg.qr(a, "r")[1]).sum().backward()
    tall = from_array(rng.normal(size=(4, 2))).requires_grad_()
    with pytest.raises(RuntimeError, match="not differentiable when mode='complete' and nrows > ncols"):
        linalg.qr(tall, "complete")[1].sum().backward()
    with pytest.raises(NotImplementedError, match="the derivative for 'geqrf' is not implemented"):
        engine.geqrf(tall)[0].sum().backward()


def test_names_of_nodes(rng):
    a = from_array(rng.normal(size=(3, 3)) + 4 * np.eye(3)).requires_grad_()
    b = from_array(rng.normal(size=(3, 2)))
    p = a @ a.T
    for result, name in ((linalg.inv(a), "LinalgInvExBackward0"), (a.inverse(), "LinalgInvExBackward0"),
                         (a.det(), "LinalgDetBackward0"),
                         (a.slogdet()[1], "LinalgSlogdetBackward0"), (linalg.solve(a, b), "LinalgSolveExBackward0"),
                         (linalg.solve(a, b[:, 0]), "LinalgSolveExBackward0"), (linalg.lu(a)[1], "LinalgLuBackward0"),
                         (linalg.solve_triangular(a, b, upper=True), "LinalgSolveTriangularBackward0"),
                         (linalg.lu_factor(a)[0], "LinalgLuFactorExBackward0"), (linalg.cholesky(p), "LinalgCholeskyExBackward0"),
                         (engine.cholesky(p), "CholeskyBackward0"), (linalg.qr(a)[0], "LinalgQrBackward0"),
                         (linalg.svdvals(a), "LinalgSvdBackward0"), (linalg.eigvalsh(a), "LinalgEighBackward0"),
                         (linalg.eigvals(a), "LinalgEigBackward0"), (linalg.pinv(a), "LinalgPinvBackward0"),
                         (linalg.lstsq(a, b)[0], "LinalgLstsqBackward0"), (a.matrix_exp(), "LinalgMatrixExpBackward0"),
                         (linalg.lu_solve(*linalg.lu_factor(a), b), "LinalgLuSolveBackward0"),
                         (engine.cholesky_solve(b, linalg.cholesky(p)), "CholeskySolveBackward0")):
        assert result.grad_fn.name() == name


# --- named results, out=, refusals ------------------------------------------------------------------------------------

def test_named_results_and_out(rng):
    a = from_array(rng.normal(size=(3, 3)) + 4 * np.eye(3))
    for found, name, fields in ((linalg.svd(a), "linalg_svd", "U S Vh"), (linalg.qr(a), "linalg_qr", "Q R"),
                                (linalg.eigh(a), "linalg_eigh", "eigenvalues eigenvectors"), (engine.svd(a), "svd", "U S V"),
                                (linalg.lu(a), "linalg_lu", "P L U"), (linalg.inv_ex(a), "linalg_inv_ex", "inverse info"),
                                (linalg.slogdet(a), "linalg_slogdet", "sign logabsdet"),
                                (a.slogdet(), "slogdet", "sign logabsdet"),
                                (linalg.lu_factor_ex(a), "linalg_lu_factor_ex", "LU pivots info"), (a.qr(), "qr", "Q R"),
                                (linalg.lstsq(a, a), "linalg_lstsq", "solution residuals rank singular_values"),
                                (linalg.cholesky_ex(a), "linalg_cholesky_ex", "L info"), (a.geqrf(), "geqrf", "a tau")):
        assert type(found).__name__ == name and found._fields == tuple(fields.split())
    np.testing.assert_allclose(((engine.svd(a).U * a.svd().S) @ a.svd().V.mT).numpy(), a.numpy(), atol=1e-12)
    out = engine.empty(0, dtype=engine.float64)
    assert linalg.inv(a, out=out) is out
    np.testing.assert_array_equal(out.numpy(), linalg.inv(a).numpy())
    outs = [engine.empty(0, dtype=engine.float64) for _ in range(3)]
    assert linalg.svd(a, out=outs).S is outs[1]
    np.testing.assert_allclose(outs[1].numpy(), linalg.svdvals(a).numpy(), rtol=1e-13)
    for f in (linalg.det, linalg.svdvals, linalg.eigvalsh, linalg.pinv, linalg.cond, linalg.matrix_norm, linalg.norm):
        out = engine.empty(0, dtype=engine.float64)
        assert f(a, out=out) is out
        np.testing.assert_array_equal(out.numpy(), f(a).numpy())


SINGULAR = np.tile(np.eye(3), (2, 2, 1, 1))
SINGULAR[1, 0] = 0


@pytest.mark.parametrize("call, words", [
    (lambda z, s: linalg.inv(z),
     "^linalg.inv: The diagonal element 1 is zero, the inversion could not be completed because the input"),
    (lambda z, s: linalg.inv(s), r"^linalg.inv: \(Batch element 2\): The diagonal element 1 is zero"),
    (lambda z, s: engine.inverse(z + 1), "^linalg.inv: The diagonal element 2 is zero"),
    (lambda z, s: linalg.inv_ex(s, check_errors=True), r"\(Batch element 2\)"),
    (lambda z, s: linalg.solve(z, z), "^torch.linalg.solve: The solver failed because the input matrix is singular."),
    (lambda z, s: linalg.solve(s, s), r"^torch.linalg.solve: \(Batch element 2\): The solver failed"),
    (lambda z, s: linalg.lu_factor(z), r"^torch.linalg.lu_factor: U\[1,1\] is zero and using it on lu_solve"),
    (lambda z, s: linalg.cholesky(s),
     r"^linalg.cholesky: \(Batch element 2\): The factorization could not be completed because the"),
    (lambda z, s: linalg.cholesky(engine.tensor([[1.0, 2.0], [2.0, 1.0]])),
     "the leading minor of order 2 is not positive-definite"),
    (lambda z, s: engine.cholesky(-s), r"^cholesky: \(Batch element 0\): .* order 1 is not"),
    (lambda z, s: linalg.svd(z / 0), "^linalg.svd: The algorithm failed to converge because the input matrix contained non-finite"),
    (lambda z, s: linalg.svdvals(s / s), r"^linalg.svd: \(Batch element 0\): The algorithm failed")])
def test_matrices_that_cannot_be_factored(call, words):
    with pytest.raises(linalg.LinAlgError, match=words):
        call(engine.zeros(2, 2), from_array(SINGULAR))
    assert issubclass(linalg.LinAlgError, RuntimeError)


def test_info_instead_of_errors():
    s = from_array(SINGULAR)
    inverse, info = linalg.inv_ex(s)
    assert info.tolist() == [[0, 0], [1, 0]] and info.dtype is engine.int32
    np.testing.assert_array_equal(inverse[0].numpy(), SINGULAR[0])
    assert linalg.solve_ex(s, s).info.tolist() == [[0, 0], [1, 0]] and linalg.lu_factor_ex(s).info.tolist() == [[0, 0], [1, 0]]
    assert linalg.cholesky_ex(s).info.tolist() == [[0, 0], [1, 0]]
    assert engine.lu(s, get_infos=True)[2].tolist() == [[0, 0], [1, 0]]
    nan = engine.full((2, 2), float("nan"))
    assert linalg.eigvalsh(nan).isnan().all() and linalg.eigh(nan)[1].isnan().all()


@pytest.mark.parametrize("call, error, words", [
    (lambda r: linalg.inv(r[0]), RuntimeError, "linalg.inv: The input tensor A must have at least 2 dimensions."),
    (lambda r: linalg.inv(r), RuntimeError, "linalg.inv: A must be batches of square matrices, but they are 2 by 3 matrices"),
    (lambda r: linalg.inv(r[:, :2].long()), RuntimeError,
     "linalg.inv: Expected a floating point or complex tensor as input. Got Long"),
    (lambda r: linalg.inv(r[:, :2].half()), RuntimeError, "linalg.inv: Low precision dtypes not supported. Got Half"),
    (lambda r: linalg.det(r[:, :2].half()), NotImplementedError, "\"lu_cpu\" not implemented for 'Half'"),
    (lambda r: linalg.solve(r[:, :2], r[:, :2].double()), RuntimeError,
     "Expected A and B to have the same dtype, but found A of type"),
    (lambda r: linalg.solve(r[:, :2], r.T), RuntimeError,
     r"Incompatible shapes of A and B for the equation AX = B \(2x2 and 3x2\)"),
    (lambda r: linalg.solve_triangular(r[:, :2], r[0], upper=True), RuntimeError, "The input tensor B must have at least 2 dim"),
    (lambda r: linalg.lu(r[:, :2], pivot=False), RuntimeError, "LU without pivoting is not implemented on the CPU"),
    (lambda r: linalg.lu_solve(r[:, :2], engine.tensor([1, 2]), r), RuntimeError,
     "pivots should be a Tensor of scalar type torch.int32"),
    (lambda r: linalg.lu_solve(r[:, :2], engine.tensor([1, 5], dtype=engine.int32), r), RuntimeError,
     "must all be smaller or equal"),
    (lambda r: linalg.lu_solve(r[:, :2], engine.tensor([0, 1], dtype=engine.int32), r), RuntimeError,
     "must all be greater or equal"),
    (lambda r: engine.lu_unpack(r, engine.tensor([9, 9], dtype=engine.int32)), RuntimeError, "must all be smaller or equal"),
    (lambda r: linalg.qr(r, mode="x"), RuntimeError, "qr received unrecognized mode 'x' but expected one of 'reduced'"),
    (lambda r: linalg.svd(r, driver="gesvd"), RuntimeError, "keyword argument `driver=` is only supported on CUDA"),
    (lambda r: linalg.eigh(r[:, :2], "X"), RuntimeError, "Expected UPLO argument to be 'L' or 'U', but got X"),
    (lambda r: linalg.eig(r[:, :2] / 0), RuntimeError, "torch.linalg.eig: input tensor should not contain infs or NaNs."),
    (lambda r: linalg.lstsq(r, r, driver="x"), RuntimeError, "parameter `driver` should be one of"),
    (lambda r: linalg.lstsq(r, r.T), RuntimeError, r"input.size\(-2\) should match other.size\(-2\)"),
    (lambda r: linalg.pinv(r.half()), RuntimeError,
     "expected a tensor with 2 or more dimensions of float, double, cfloat or cdouble"),
    (lambda r: linalg.matrix_norm(r, 3), RuntimeError, "linalg.matrix_norm: Order 3 not supported."),
    (lambda r: linalg.matrix_norm(r, dim=(0, 0)), RuntimeError, r"linalg.matrix_norm: dims must be different. Got \(0, 0\)"),
    (lambda r: linalg.vector_norm(r, dtype=engine.int64), RuntimeError, "dtype should be floating point or complex, but got Long"),
    (lambda r: linalg.norm(r[None], 2), RuntimeError, "If dim is not specified but ord is, the input must be 1D or 2D. Got 3D."),
    (lambda r: linalg.cond(r, 1), RuntimeError, r"linalg.cond\(ord=1\): A must be batches of square matrices"),
    (lambda r: linalg.cond(r, 3), RuntimeError, "linalg.cond got an invalid norm type: 3"),
    (lambda r: linalg.multi_dot([r]), RuntimeError, r"multi_dot\(\): expected at least 2 tensors but got 1"),
    (lambda r: linalg.multi_dot([r[None], r]), RuntimeError, "the first tensor must be 1D or 2D but got 3D"),
    (lambda r: linalg.vecdot(r, r.double()), RuntimeError, "Expected x and y to have the same dtype"),
    (lambda r: linalg.cross(r, r, dim=0), RuntimeError, "linalg.cross: inputs dimension 0 must have length 3. Got 2 and 2"),
    (lambda r: linalg.tensorsolve(r, r[:, 0]), RuntimeError, "Expected self to satisfy the requirement prod"),
    (lambda r: linalg.tensorinv(r, 0), RuntimeError, "Expected a strictly positive integer for 'ind', but got 0"),
    (lambda r: linalg.vander(r, N=1), RuntimeError, "N must be greater than 1."),
    (lambda r: linalg.householder_product(r, r[0]), RuntimeError, "must be greater than or equal to input.shape"),
    (lambda r: engine.cholesky_solve(r[0], r), RuntimeError, "b should have at least 2 dimensions, but has 1 dimensions instead"),
    (lambda r: engine.logdet(r), RuntimeError, "logdet: A must be batches of square matrices"),
    (lambda r: linalg.inv([1.0]), TypeError, "must be Tensor, not list")])
def test_refusals(call, error, words):
    with pytest.raises(error, match=words):
        call(engine.ones(2, 3))
