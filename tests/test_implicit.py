"""Derivatives of solutions with respect to `args`: closed forms, finite differences, higher orders, compiled functions."""
import numpy as np
import pytest

import engine as torch
from engine import func
from engine.optimize import implicit, least_squares, minimize, root

A = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
B = torch.tensor([1.0, 2.0], dtype=torch.float64)
ZERO = torch.zeros(2, dtype=torch.float64)


def bowl(x, b):
    return 0.5 * x @ A @ x - b @ x


def quartic(x, b):
    return bowl(x, b ** 2) + (x ** 4).sum() / 4


def lowest(b, **options):
    return minimize(quartic, ZERO, (b,), method="newton", tol=1e-12, **options).x


def differences(f, b, step=1e-5):
    return torch.stack([(f(b + step * e) - f(b - step * e)) / (2 * step) for e in torch.eye(b.numel(), dtype=torch.float64)], -1)


@pytest.fixture(params=["dense", "conjugate gradients"])
def way(request, monkeypatch):
    if request.param != "dense":
        monkeypatch.setattr(implicit, "DENSE", 0)


def test_a_quadratic_has_the_inverse_hessian(way):
    b = B.clone().requires_grad_(True)
    x = minimize(bowl, ZERO, (b,), method="newton").x
    assert x.grad_fn is not None and "Solution" in type(x.grad_fn).__name__
    rows = torch.stack([torch.autograd.grad(x[k], b, retain_graph=True)[0] for k in range(2)])
    np.testing.assert_allclose(rows.numpy(), np.linalg.inv(A.numpy()), rtol=1e-9)


def test_first_second_and_third_derivatives(way):
    w = torch.tensor([1.0, 3.0], dtype=torch.float64)
    f = lambda b: (w * lowest(b)).sum().sin()
    first, second = func.grad(f), func.hessian(f)
    np.testing.assert_allclose(first(B).numpy(), differences(f, B).numpy(), atol=1e-8)
    np.testing.assert_allclose(second(B).numpy(), differences(first, B).numpy(), atol=1e-7)
    third = func.grad(lambda b: second(b)[0, 1])
    np.testing.assert_allclose(third(B).detach().numpy(), differences(lambda b: second(b)[0, 1].detach(), B).numpy(), atol=1e-6)


def test_backward_and_forward_mode():
    b = B.clone().requires_grad_(True)
    lowest(b).sum().backward()
    expected = differences(lambda b: lowest(b).sum(), B)
    np.testing.assert_allclose(b.grad.numpy(), expected.numpy(), atol=1e-8)
    tangent = func.jvp(lambda b: lowest(b).sum(), (B,), (torch.tensor([2.0, -1.0], dtype=torch.float64),))[1]
    assert tangent.item() == pytest.approx((2 * expected[0] - expected[1]).item(), abs=1e-7)
    np.testing.assert_allclose(func.jacrev(lowest)(B).numpy(), differences(lowest, B).numpy(), atol=1e-8)


def test_nothing_is_recorded_where_nothing_needs_it():
    assert lowest(B).grad_fn is None
    with torch.no_grad():
        assert lowest(B.clone().requires_grad_(True)).grad_fn is None


def test_nested_args():
    p = {"scale": torch.tensor(2.0, dtype=torch.float64, requires_grad=True), "goal": B.clone().requires_grad_(True), "power": 2}
    x = minimize(lambda x, p, k: p["scale"] * ((x - p["goal"]) ** p["power"]).sum() + k * (x ** 2).sum(), ZERO, (p, 1.0),
                 method="newton").x          # x = scale goal / (scale + 1)
    scale, goal = torch.autograd.grad(x[1], [p["scale"], p["goal"]])
    assert scale.item() == pytest.approx(2 / 9) and goal.tolist() == pytest.approx([0, 2 / 3])


T = torch.linspace(0, 3, 12, dtype=torch.float64)
Y = 2 * torch.exp(-T) + 0.1 * torch.cos(9 * T)
TIGHT = {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-13}


def decay(x, y):
    return x[0] * torch.exp(-x[1] * T) - y


@pytest.mark.parametrize("options", [{}, {"loss": "huber", "f_scale": 0.05}, {"loss": "soft_l1", "f_scale": 0.05},
                                     {"loss": "cauchy", "f_scale": 0.1}, {"bounds": ([0, 0], [1.5, 5])}])
def test_least_squares_by_its_data(options):
    f = lambda y: least_squares(decay, [1.0, 0.5], (y,), **options, **TIGHT).x
    np.testing.assert_allclose(func.jacrev(f)(Y).numpy(), differences(f, Y, 3e-4).numpy(), atol=3e-5)


def test_linear_least_squares_has_the_pseudoinverse():
    design = torch.stack([torch.ones_like(T), T], 1)
    f = lambda y: least_squares(lambda x, y: design @ x - y, [0.0, 0.0], (y,)).x
    np.testing.assert_allclose(func.jacrev(f)(Y).numpy(), np.linalg.pinv(design.numpy()), atol=1e-10)


def test_root_by_its_parameters():
    equations = lambda x, a: torch.stack([x[0] ** 2 + x[1] ** 2 - a, x[0] - x[1]])
    f = lambda a: root(equations, [1.0, 0.5], (a,)).x[0]             # sqrt(a / 2)
    a = torch.tensor(2.0, dtype=torch.float64)
    assert func.grad(f)(a).item() == pytest.approx(0.25)
    assert func.grad(func.grad(f))(a).item() == pytest.approx(-1 / 16)
    skew = lambda x, a: torch.stack([x[0] + a[0] * x[1].sin() - 1, x[1] * a[1] - x[0] ** 2])     # no symmetric Jacobian
    g = lambda a: root(skew, [0.5, 0.5], (a,)).x
    a = torch.tensor([0.7, 1.3], dtype=torch.float64)
    np.testing.assert_allclose(func.jacrev(g)(a).numpy(), differences(g, a).numpy(), atol=1e-8)


def test_many_problems_at_once():
    b = B.clone().requires_grad_(True)
    starts = torch.tensor([[0.0, 0.0], [1.0, -1.0], [2.0, 0.5]], dtype=torch.float64)
    x = minimize(quartic, starts, (b,), method="newton", tol=1e-12, batch_dims=1).x
    rows = torch.stack([torch.autograd.grad(x[k, 1], b, retain_graph=True)[0] for k in range(3)])
    np.testing.assert_allclose(rows.numpy(), differences(lambda b: lowest(b)[1], B).numpy()[None].repeat(3, 0), atol=1e-8)


def test_large_problems_never_make_the_hessian():
    n = implicit.DENSE + 1
    c = torch.linspace(1, 2, n, dtype=torch.float64)
    goal = torch.linspace(-1, 1, n, dtype=torch.float64).requires_grad_(True)
    f = lambda x, goal: (c * (x - goal) ** 2).sum() + 0.5 * ((x[1:] - x[:-1]) ** 2).sum()
    x = minimize(f, torch.zeros(n, dtype=torch.float64), (goal,), method="newton-cg", tol=1e-10).x
    v = torch.cos(torch.arange(n, dtype=torch.float64))
    found, = torch.autograd.grad(x, goal, v)
    links = np.diff(np.eye(n), axis=0)
    hessian = 2 * np.diag(c.numpy()) + links.T @ links
    np.testing.assert_allclose(found.numpy(), 2 * c.numpy() * np.linalg.solve(hessian, v.numpy()), rtol=1e-8, atol=1e-10)


def test_a_singular_hessian_has_no_derivative():
    b = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    x = minimize(lambda x, b: (x.sum() - b) ** 2, ZERO, (b,), method="newton").x
    with pytest.raises(torch.linalg.LinAlgError, match="Hessian there is singular"):
        x[0].backward()


# --- inside compiled functions -------------------------------------------------------------------------------------------

def test_compiled_functions_solve_anew(way):
    @torch.compile
    def f(b):
        return (lowest(b) ** 2).sum()
    for scale in (1.0, 0.5, 1.7):
        ours, theirs = (B * scale).requires_grad_(True), (B * scale).requires_grad_(True)
        value, expected = f(ours), (lowest(theirs) ** 2).sum()
        assert value.item() == pytest.approx(expected.item(), rel=1e-12)
        first, = torch.autograd.grad(value, ours, create_graph=True)
        wanted, = torch.autograd.grad(expected, theirs, create_graph=True)
        np.testing.assert_allclose(first.detach().numpy(), wanted.detach().numpy(), rtol=1e-10)
        np.testing.assert_allclose(torch.autograd.grad(first.sum(), ours)[0].numpy(),
                                   torch.autograd.grad(wanted.sum(), theirs)[0].numpy(), rtol=1e-8)
    assert f.cache_info().misses == 1 and f.cache_info().hits == 2 and not f.eager


def test_compiled_gradients_and_numbers_of_the_result():
    @torch.compile
    def f(y):
        result = least_squares(decay, [1.0, 0.5], (y,))
        return result.x, result.cost, result.nfev
    for scale in (1.0, 3.0):
        x, cost, nfev = f(Y * scale)
        direct = least_squares(decay, [1.0, 0.5], (Y * scale,))
        np.testing.assert_allclose(x.numpy(), direct.x.numpy(), rtol=1e-12)
        assert cost.item() == pytest.approx(direct.cost) and nfev.item() == direct.nfev
    g = torch.compile(func.grad(lambda a: root(lambda x, a: x ** 3 - a, [1.0], (a,)).x.sum()))
    for a in (8.0, 27.0):
        assert g(torch.tensor(a, dtype=torch.float64)).item() == pytest.approx(a ** (-2 / 3) / 3)


def test_a_closure_over_what_is_compiled_is_refused():
    @torch.compile
    def f(b):
        c = b * 2
        return minimize(lambda x: ((x - c) ** 2).sum(), ZERO, method="newton").x
    with pytest.warns(UserWarning, match="give it in args"):
        assert f(B).tolist() == pytest.approx((2 * B).tolist())
    assert f(B + 1).tolist() == pytest.approx((2 * B + 2).tolist())


@pytest.mark.parametrize("method", ["lbfgs", "gd"])
def test_bounds_hold_unknowns_whose_rows_are_zero(way, method):
    """The minimum inside the box: what a bound holds does not move with the arguments, the rest moves as if it were fixed."""
    a = torch.tensor([[3.0, 1.0, 0.5], [1.0, 2.0, 0.3], [0.5, 0.3, 1.0]], dtype=torch.float64)
    bounds = [(None, None), (0.0, 0.25), (0.1, None)]
    start = torch.tensor([0.0, 0.2, 0.5], dtype=torch.float64)

    def fun(x, b):
        return 0.5 * (x * (a * x).sum(1)).sum() - (b * x).sum() + 0.05 * (x ** 4).sum()

    def solution(b):
        return minimize(fun, start, (b,), method=method, bounds=bounds, options={"gtol": 1e-10, "ftol": 0.0}).x
    b = torch.tensor([1.0, 2.0, 1.5], dtype=torch.float64)
    x = solution(b)
    assert x[1].item() == 0.25 and x[2].item() > 0.11              # the second is held, the others are free
    rows = func.jacrev(solution)(b)
    np.testing.assert_allclose(rows.numpy(), differences(solution, b, 1e-3).numpy(), atol=1e-5)
    assert (rows[1] == 0).all() and rows[0, 0] > 0 > rows[0, 2]
    corner = torch.tensor([1.0, 2.0, -3.0], dtype=torch.float64)        # two are held
    rows = func.jacrev(solution)(corner)
    np.testing.assert_allclose(rows.numpy(), differences(solution, corner, 1e-3).numpy(), atol=1e-5)
    assert (rows[1:] == 0).all() and rows[0, 0] > 0


def test_rows_of_a_batch_have_derivatives_of_their_own():
    starts = torch.tensor([[0.0, 0.0], [1.0, -1.0]], dtype=torch.float64)

    def solution(b):
        return minimize(quartic, starts, (b,), method="newton", tol=1e-12, batch_dims=1).x.sum(0)
    np.testing.assert_allclose(func.jacrev(solution)(B).numpy(), differences(solution, B).numpy(), atol=1e-7)
