"""Parts of the solvers alone (dense algebra, steps in a trust region), and Newton's methods: stepped by hand and by `minimize`."""
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
from more_garbow_hillstrom import PROBLEMS

import engine as torch
from engine import func
from engine.optimize import minimize
from kernels import solvers
from kernels.solvers import dense, machine, trust_region


def random_symmetric(rng, n):
    a = rng.normal(size=(n, n))
    return a + a.T


# --- dense algebra -------------------------------------------------------------------------------------------------------

def test_shifted_cholesky_solves_or_names_the_pivot():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(6, 6))
    h, b = a @ a.T, rng.normal(size=6)
    factor, failed, x = dense.part("shifted_cholesky")(h, 0.5, b)
    np.testing.assert_allclose(factor @ factor.T, h + 0.5 * np.eye(6), atol=1e-12)
    np.testing.assert_allclose((h + 0.5 * np.eye(6)) @ x, b, atol=1e-12)
    assert failed == 0
    h[3, 3] -= 100
    assert dense.part("shifted_cholesky")(h, 0.0, b)[1] == 4
    assert dense.part("shifted_cholesky")(np.full((2, 2), np.nan), 0.0, np.ones(2))[1] == 1


def test_pivoted_qr_is_lapacks():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(9, 5)), rng.normal(size=9)
    r, pivots, qb, _, _ = dense.part("pivoted_qr")(a, b)
    q, expected, order = scipy.linalg.qr(a, mode="economic", pivoting=True)
    assert pivots.tolist() == order.tolist()
    np.testing.assert_allclose(abs(np.triu(r[:5])), abs(expected), atol=1e-12)
    np.testing.assert_allclose(abs(qb[:5]), abs(q.T @ b), atol=1e-12)


def test_damped_systems_are_least_squares():
    rng = np.random.default_rng(2)
    r, b = np.triu(rng.normal(size=(5, 5))), rng.normal(size=5)
    r[3, 3] = 0.0
    z, triangle, _ = dense.part("damped")(r, 0.3, b)
    whole = np.vstack([r, 0.3 * np.eye(5)])
    np.testing.assert_allclose(z, np.linalg.lstsq(whole, np.r_[b, np.zeros(5)], rcond=None)[0], atol=1e-12)
    np.testing.assert_allclose(triangle.T @ triangle, whole.T @ whole, atol=1e-12)


# --- steps ---------------------------------------------------------------------------------------------------------------

def least_in_ball(h, g, radius):
    """The least value of g'p + p'Hp/2 in a ball, by eigenvectors and bisection on the shift."""
    w, v = np.linalg.eigh(h)
    s = v.T @ g
    length = lambda shift: np.linalg.norm(s / (w + shift))
    if w[0] > 0 and length(0.0) <= radius:
        p = -s / w
    else:
        low = max(0.0, -w[0]) + 1e-13 * max(1, abs(w).max())
        if length(low) < radius:            # the hard case: the rest along the lowest eigenvector
            away = w - w[0] > 1e-9
            p = np.where(away, -s / np.where(away, w + low, 1), 0)
            p[0] = np.sqrt(radius ** 2 - p @ p)
        else:
            p = -s / (w + scipy.optimize.brentq(lambda shift: length(shift) - radius, low, 1e9))
    return s @ p + 0.5 * p @ (w * p)


@pytest.mark.parametrize("case", ["any", "hard", "zero gradient", "diagonal", "convex"])
def test_more_sorensen_is_nearly_the_least_in_the_ball(case):
    rng = np.random.default_rng(len(case))
    for _ in range(30):
        n = int(rng.integers(1, 9))
        h, g = random_symmetric(rng, n), rng.normal(size=n) * 10.0 ** rng.integers(-3, 4)
        if case == "hard":
            lowest = np.linalg.eigh(h)[1][:, 0]
            g = g - lowest * (lowest @ g)
        elif case == "zero gradient":
            g = np.zeros(n)
        elif case == "diagonal":
            h = np.diag(rng.normal(size=n)) * 10.0 ** rng.integers(-8, 8)
        elif case == "convex":
            h = h @ h + 0.01 * np.eye(n)
        radius = 10.0 ** rng.integers(-3, 3)
        p, boundary, *_ = trust_region.part("more_sorensen")(h, g, radius)
        value, least = g @ p + 0.5 * p @ h @ p, least_in_ball(h, g, radius)
        assert np.linalg.norm(p) <= radius * (1 + 1e-9)
        assert value <= least + 0.2 * abs(least) + 1e-300
        assert bool(boundary) or np.linalg.norm(h @ p + g) <= 1e-6 * (1 + np.linalg.norm(g))


def test_steihaug_ends_inside_at_a_solution_or_at_the_boundary():
    rng = np.random.default_rng(3)
    for k in range(60):
        n = int(rng.integers(1, 9))
        h, g, radius = random_symmetric(rng, n), rng.normal(size=n), 10.0 ** rng.integers(-2, 3)
        if k % 2:
            h = h @ h + 0.1 * np.eye(n)
        z, about, *_ = trust_region.part("steihaug")(h, g, radius, 1e-10 * np.linalg.norm(g), np.zeros(4))
        value, code = about[0], int(about[1])
        np.testing.assert_allclose(value, g @ z + 0.5 * z @ h @ z, rtol=1e-8)
        size = np.linalg.norm(g)
        bend = g @ h @ g / size ** 2
        cauchy = min(size / bend, radius) if bend > 0 else radius
        assert value <= (-size * cauchy + 0.5 * bend * cauchy ** 2) * (1 - 1e-9)       # no worse than steepest descent
        if code == 1:
            np.testing.assert_allclose(h @ z, -g, atol=1e-7 * size)
        else:
            np.testing.assert_allclose(np.linalg.norm(z), radius, rtol=1e-9)


def test_damped_step_solves_the_damped_normal_equations():
    rng = np.random.default_rng(4)
    for k in range(60):
        n = int(rng.integers(1, 8))
        a, b = rng.normal(size=(n + k % 4, n)), rng.normal(size=n + k % 4)
        if k % 3 == 0 and n > 1:
            a[:, 0] = a[:, -1]
        radius = 10.0 ** rng.integers(-3, 3)
        step, par, *_ = trust_region.part("damped_step")(a, b, radius, 0.0)
        gradient = a.T @ b
        assert np.linalg.norm(step) <= 1.1 * radius * (1 + 1e-9)
        np.testing.assert_allclose((a.T @ a + par * np.eye(n)) @ step, -gradient, atol=1e-9 * max(1, abs(gradient).max()))
        assert par == 0 or np.linalg.norm(step) >= 0.9 * radius * (1 - 1e-9)


def test_dogleg_is_between_descent_and_newton():
    rng = np.random.default_rng(5)
    for _ in range(40):
        n = int(rng.integers(1, 6))
        a, b, radius = rng.normal(size=(n, n)), rng.normal(size=n), 10.0 ** rng.integers(-2, 2)
        g, newton = a.T @ b, -np.linalg.solve(a, b)
        step, full = trust_region.part("dogleg")(newton, g, np.linalg.norm(a @ g), radius)
        cauchy = -g * (g @ g) / np.linalg.norm(a @ g) ** 2
        cauchy *= min(1, radius / np.linalg.norm(cauchy))
        assert np.linalg.norm(step) <= radius * (1 + 1e-9)
        assert np.linalg.norm(a @ step + b) <= np.linalg.norm(a @ cauchy + b) * (1 + 1e-9)
        assert bool(full) == (np.linalg.norm(newton) <= radius)


# --- a solver stepped by hand -------------------------------------------------------------------------------------------

def drive(name, f, x0, **options):
    """Run a solver on an uncompiled function, answering each of its requests here: (status, x, value, counts)."""
    solver, n = solvers.solver(name), x0.size
    words = np.zeros(solver.words_of_state(n, 0, "float64", options), np.int64)
    words[:machine.HEADER] = solver.header(n, 0, "float64", options)
    numbers, places, requests = words.view(np.float64), solver.places(), []
    numbers[machine.HEADER:machine.HEADER + n] = x0
    run, control = solver.run("float64"), np.array([1, 0])

    def vector(word, count):
        first = (int(words[places[word]]) - words.ctypes.data) // 8
        return numbers[first:first + count]
    while (request := int(run(words, control))) != machine.DONE:
        requests.append(request)
        x = torch.tensor(vector("X", n).copy())
        if request == machine.VALUE_AND_GRAD:
            gradient, value = func.grad_and_value(f)(x)
            vector("F", 1)[0], vector("G", n)[:] = value.item(), gradient.numpy()
        elif request == machine.HESSIAN:
            vector("R", n * n)[:] = func.hessian(f)(x).numpy().reshape(-1)
        else:
            assert request == machine.PRODUCT
            vector("R", n)[:] = func.vjp(func.grad(f), x)[1](torch.tensor(vector("P", n).copy()))[0].numpy()
    status = next(k for k, v in machine.STATUSES.items() if v == words[places["STATUS"]])
    return status, vector("NOW_X", n).copy(), numbers[places["NOW_F"]], requests


def test_requests_follow_the_protocol():
    problem = PROBLEMS[0]
    requests = drive("newton", problem.objective, np.array(problem.start))[3]
    assert requests[:2] == [machine.VALUE_AND_GRAD, machine.HESSIAN] and machine.PRODUCT not in requests
    requests = drive("newton-cg", problem.objective, np.array(problem.start))[3]
    assert requests[:2] == [machine.VALUE_AND_GRAD, machine.PRODUCT] and machine.HESSIAN not in requests


# --- through minimize -----------------------------------------------------------------------------------------------------

def rosenbrock(x):
    return ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()


@pytest.mark.parametrize("method", ["newton", "newton-cg"])
def test_minimize_by_newton(method):
    for n in (2, 10):
        result = minimize(rosenbrock, torch.tensor(np.resize([-1.2, 1.0], n)), method=method)
        assert result.success and result.fun < 1e-8 and result.nhev > 0
        np.testing.assert_allclose(result.x.numpy(), 1, atol=1e-4)


def test_newton_leaves_a_saddle():
    for method in ("newton", "newton-cg"):
        start = torch.tensor([0.3, 1e-3], dtype=torch.float64)
        result = minimize(lambda x: x[0] ** 2 - x[1] ** 2 + x[1] ** 4, start, method=method)
        assert result.success and result.fun == pytest.approx(-0.25, abs=1e-9)


def test_newton_fails_honestly():
    below = minimize(lambda x: -x.sum(), torch.zeros(2, dtype=torch.float64), method="newton")
    assert not below.success and "unbounded" in below.message
    undefined = minimize(lambda x: (x - 5).log().sum(), torch.zeros(2, dtype=torch.float64), method="newton")
    assert not undefined.success and "NaN" in undefined.message
    short = minimize(rosenbrock, torch.tensor([-1.2, 1.0], dtype=torch.float64), method="newton", options={"maxiter": 3})
    assert not short.success and short.nit == 3 and short.fun < 24.2


def test_newton_in_float32():
    result = minimize(rosenbrock, torch.tensor([-1.2, 1.0]), method="newton")
    assert result.success and result.x.dtype == torch.float32
    np.testing.assert_allclose(result.x.numpy(), 1, atol=5e-3)
