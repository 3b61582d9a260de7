"""`least_squares` beside SciPy's: the 35 functions of More, Garbow and Hillstrom, bounds, losses, results, failures."""
import numpy as np
import pytest
import scipy.optimize
from more_garbow_hillstrom import PROBLEMS

import engine as torch
from engine import func
from engine.optimize import OptimizeResult, least_squares

T = torch.linspace(0, 4, 40, dtype=torch.float64)


def measured():
    y = 2.5 * torch.exp(-1.3 * T) + 0.5 + 0.02 * torch.sin(37 * T)
    y[::7] += 1.0
    return y


def decay(x, t, y):
    return x[0] * torch.exp(-x[1] * t) + x[2] - y


def in_numpy(x):
    t, y = T.numpy(), measured().numpy()
    return x[0] * np.exp(-x[1] * t) + x[2] - y


START = torch.tensor([1.0, 0.5, 0.5], dtype=torch.float64)


def numpy_functions(p):
    return (lambda x: p.residuals(torch.tensor(x)).numpy()), (lambda x: func.jacfwd(p.residuals)(torch.tensor(x)).numpy())


def reached(value, problem):
    return any(abs(value - least) <= 1e-4 * max(abs(least), 1e-8) for least in problem.minima)


def test_more_garbow_and_hillstrom_beside_minpack():
    """All 35 from the standard start, with as many evaluations as MINPACK (whose gtol is another)."""
    assert [p.number for p in PROBLEMS] == list(range(1, 36))
    ours = theirs = 0
    for p in PROBLEMS:
        limit = 100 * (p.n + 1)
        result = least_squares(p.residuals, p.x0(), compile=False, max_nfev=limit, gtol=1e-12)
        assert reached(2 * result.cost, p) and result.success, (p.name, result.cost, result.message)
        assert 2 * result.cost == pytest.approx((p.residuals(result.x) ** 2).sum().item(), rel=1e-9, abs=1e-30)
        value, jacobian = numpy_functions(p)
        rival = scipy.optimize.least_squares(value, p.start, jacobian, method="lm", max_nfev=limit)
        ours += result.success and reached(2 * result.cost, p)
        theirs += bool(rival.success and reached(2 * rival.cost, p))
        assert result.nfev <= rival.nfev + 2, (p.name, result.nfev, rival.nfev)
    assert ours >= theirs


def test_far_starts_end_as_often_as_scipys():
    ours = theirs = 0
    for p in PROBLEMS:
        if p.n > 4 or not any(p.start) or p.number in (5, 10, 12):
            continue
        x0 = 10 * np.array(p.start)
        result = least_squares(p.residuals, torch.tensor(x0), compile=False)
        value, jacobian = numpy_functions(p)
        rival = scipy.optimize.least_squares(value, x0, jacobian, x_scale="jac")
        ours += result.success and reached(2 * result.cost, p)
        theirs += bool(rival.success and reached(2 * rival.cost, p))
    assert ours >= theirs


@pytest.mark.parametrize("number", [1, 2, 5, 6, 14, 30])
def test_random_bounds_give_scipys_minimum(number):
    p = PROBLEMS[number - 1]
    rng = np.random.default_rng(number)
    x0 = np.array(p.start)
    low, high = (x0 + s * rng.uniform(0.01, 1, p.n) * np.maximum(1, abs(x0)) for s in (-1, 1))
    result = least_squares(p.residuals, p.x0(), compile=False, bounds=(low, high))
    value, jacobian = numpy_functions(p)
    rival = scipy.optimize.least_squares(value, x0, jacobian, bounds=(low, high), x_scale="jac")
    assert result.success and result.cost == pytest.approx(rival.cost, rel=1e-4)
    assert result.active_mask.tolist() == rival.active_mask.tolist()
    assert (result.x.numpy() >= low).all() and (result.x.numpy() <= high).all()


@pytest.mark.parametrize("loss", ["linear", "soft_l1", "huber", "cauchy", "arctan"])
@pytest.mark.parametrize("bounds", [None, ([0, 0, 0], [2, 1, 1]), ([-np.inf, 0, 0.4], [np.inf, 5, 1])])
def test_losses_and_bounds_give_scipys_result(loss, bounds):
    given = {} if bounds is None else {"bounds": bounds}
    tight = {"loss": loss, "f_scale": 0.1, "ftol": 1e-14, "xtol": 1e-14, "gtol": 1e-10}
    result = least_squares(decay, START, (T, measured()), **given, **tight)
    rival = scipy.optimize.least_squares(in_numpy, START.numpy(), "3-point", x_scale="jac", **given, **tight)
    assert result.success
    np.testing.assert_allclose(result.x.numpy(), rival.x, atol=2e-5)
    np.testing.assert_allclose(result.jac.numpy(), rival.jac, atol=2e-4)
    np.testing.assert_allclose(result.fun.numpy(), rival.fun, atol=2e-5)
    t, x = T.numpy(), result.x.numpy()
    jacobian = np.stack([np.exp(-x[1] * t), -x[0] * t * np.exp(-x[1] * t), np.ones(40)], 1)
    np.testing.assert_allclose(result.grad.numpy(), jacobian.T @ (slope(in_numpy(x), loss) * in_numpy(x)), atol=1e-8)
    assert result.cost == pytest.approx(rival.cost, rel=1e-8)
    assert result.active_mask.tolist() == rival.active_mask.tolist()


def slope(r, loss):
    """rho'(z) of each residual."""
    z = (r / 0.1) ** 2
    return {"linear": np.ones_like(z), "soft_l1": (1 + z) ** -0.5, "huber": np.where(z <= 1, 1, z ** -0.5), "cauchy": 1 / (1 + z),
            "arctan": 1 / (1 + z ** 2)}[loss]


def test_result_reads_like_scipys():
    result = least_squares(decay, START, (T, measured()))
    assert isinstance(result, OptimizeResult) and result["x"] is result.x
    assert list(result) == ["x", "cost", "fun", "jac", "grad", "optimality", "active_mask", "nfev", "njev", "nit", "status",
                            "success", "message"]
    assert result.jac.shape == (40, 3) and result.fun.shape == (40,) and result.status in (1, 2, 3, 4)
    assert result.optimality == pytest.approx(result.grad.abs().max().item())
    assert "ftol" in result.message or "gtol" in result.message or "xtol" in result.message


def test_shapes_dtypes_and_lists():
    target = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    result = least_squares(lambda x: (x - target) * torch.tensor([1.0, 10.0]), torch.zeros(2, 2))
    assert result.x.shape == (2, 2) and result.x.dtype == torch.float32 and result.fun.shape == (2, 2)
    np.testing.assert_allclose(result.x.numpy(), target.numpy(), atol=1e-4)
    assert least_squares(lambda x: x - 3, [1, 2]).x.tolist() == [3.0, 3.0]
    few = least_squares(lambda x: (x.sum() - 1).reshape(1), torch.zeros(3, dtype=torch.float64))       # fewer than unknowns
    assert few.success and few.x.sum().item() == pytest.approx(1)


def test_scaling_by_numbers_and_by_columns():
    f = lambda x: torch.stack([x[0] - 1, 1e6 * (x[1] - 1e-6)])
    for scale in ("jac", 1.0, [1.0, 1e-6]):
        result = least_squares(f, torch.zeros(2, dtype=torch.float64), x_scale=scale)
        np.testing.assert_allclose(result.x.numpy(), [1, 1e-6], rtol=1e-6)


def test_callback_and_limits():
    seen = []
    result = least_squares(decay, START, (T, measured()), callback=lambda x: seen.append(x.tolist()))
    assert len(seen) == result.nit or len(seen) == result.nit - 1
    np.testing.assert_allclose(seen[-1], result.x.numpy(), rtol=1e-3)

    def stop(x):
        raise StopIteration
    stopped = least_squares(decay, START, (T, measured()), callback=stop)
    assert not stopped.success and stopped.status == -2 and stopped.nit == 1
    short = least_squares(decay, START, (T, measured()), max_nfev=2)
    assert not short.success and short.status == 0 and short.nfev == 2 and "maximum number" in short.message


def test_verbose_reports(capsys):
    least_squares(decay, START, (T, measured()), verbose=2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 2 and "optimality" in lines[0] and "final cost" in lines[-1]


def test_undefined_residuals_are_reported_and_avoided():
    at_start = least_squares(lambda x: x.log(), torch.tensor([-1.0], dtype=torch.float64))
    assert not at_start.success and "NaN" in at_start.message
    f = lambda x: torch.stack([x[0].log() - 3, 0.1 * x[0]])         # a full step leads to negative x, where it is not defined
    result = least_squares(f, torch.tensor([100.0], dtype=torch.float64))
    expected = scipy.optimize.minimize_scalar(lambda x: (np.log(x) - 3) ** 2 + 0.01 * x * x, bounds=(0.1, 100), method="bounded")
    assert result.success and result.x.item() == pytest.approx(expected.x, rel=1e-4)


def test_branches_are_followed():
    def f(x):
        if x[0] > 5:
            return torch.stack([2 * (x[0] - 1), x[1]])
        return torch.stack([x[0] - 1, x[1] ** 2 + x[1]])
    result = least_squares(f, torch.tensor([20.0, 3.0], dtype=torch.float64))
    assert result.success and result.cost < 1e-12


def test_values_in_closures_are_read_anew():
    goal = torch.zeros(2, dtype=torch.float64)
    f = lambda x: x - goal
    assert least_squares(f, START[:2]).x.tolist() == pytest.approx([0, 0], abs=1e-12)
    goal += 4
    assert least_squares(f, START[:2]).x.tolist() == pytest.approx([4, 4])


@pytest.mark.parametrize("given, words", [
    ({"loss": "square"}, "loss must be one of"), ({"bounds": (0, 1, 2)}, "bounds must be a pair"),
    ({"bounds": ([0, 0], [1, 1])}, "do not fit"), ({"bounds": (2.0, 3.0)}, "infeasible"), ({"bounds": (1.0, 0.0)}, "strictly less"),
    ({"f_scale": 0}, "f_scale must be positive"), ({"x_scale": "columns"}, "x_scale must be"),
    ({"x_scale": -1.0}, "x_scale must be"), ({"max_nfev": 0}, "max_nfev")])
def test_wrong_options(given, words):
    with pytest.raises(ValueError, match=words):
        least_squares(decay, START, (T, measured()), **given)


def test_wrong_functions():
    with pytest.raises(TypeError, match="must return a tensor, not float"):
        least_squares(lambda x: 1.0, START)
    with pytest.raises((RuntimeError, TypeError), match="real floating-point"):
        least_squares(lambda x: (x > 0), START)
    with pytest.raises(TypeError, match="expected a function"):
        least_squares(3, START)
    with pytest.raises(ValueError, match="empty"):
        least_squares(lambda x: x, [])
    with pytest.raises(ZeroDivisionError):
        least_squares(lambda x: x / (1 // 0), START)
