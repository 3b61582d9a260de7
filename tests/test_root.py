"""`root` beside SciPy's: systems of More, Garbow and Hillstrom from near and far, results, failures."""
import numpy as np
import pytest
import scipy.optimize
from more_garbow_hillstrom import ROOTS

import engine as torch
from engine import func
from engine.optimize import root


def solved(p, x):
    return float(np.linalg.norm(p.residuals(torch.tensor(x)).numpy())) < 1e-6


def test_systems_beside_scipy():
    """From the standard start, ten and a hundred times as far: as many solutions as MINPACK's hybrj, none of them false."""
    ours = theirs = total = 0
    for p in ROOTS:
        for scale in (1, 10, 100):
            if scale > 1 and not any(p.start):
                continue
            x0 = scale * np.array(p.start)
            result = root(p.residuals, torch.tensor(x0), compile=False)
            assert not result.success or solved(p, result.x.numpy()), (p.name, scale)
            value = lambda x, p=p: p.residuals(torch.tensor(x)).numpy()
            jacobian = lambda x, p=p: func.jacfwd(p.residuals)(torch.tensor(x)).numpy()
            rival = scipy.optimize.root(value, x0, jac=jacobian, method="hybr")
            ours += result.success
            theirs += bool(rival.success)
            total += 1
    assert ours >= theirs and ours >= 0.75 * total


def circle(x, a):
    return torch.stack([x[0] ** 2 + x[1] ** 2 - a, x[0] - x[1]])


@pytest.mark.parametrize("method", ["hybr", "lm"])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_a_circle_and_a_line(method, dtype, tolerance):
    result = root(circle, torch.tensor([1.0, 0.2], dtype=dtype), (torch.tensor(2.0, dtype=dtype),), method)
    assert result.success and result.status == 1 and result.message == "The solution converged."
    assert result.x.dtype == dtype
    np.testing.assert_allclose(result.x.numpy(), 1, atol=tolerance)
    np.testing.assert_allclose(result.jac.numpy(), [[2, 2], [1, -1]], atol=1e-2)
    np.testing.assert_allclose(result.fun.numpy(), 0, atol=10 * tolerance)
    assert result.nfev >= result.nit > 0 and result.njev > 0


def test_any_shape_and_numbers():
    goal = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    result = root(lambda x: x ** 3 - goal, torch.ones(2, 2, dtype=torch.float64))
    assert result.x.shape == result.fun.shape == (2, 2)
    np.testing.assert_allclose(result.x.numpy(), np.cbrt(goal.numpy()), rtol=1e-12)
    assert root(lambda x: x.cos() - x, 1).x.item() == pytest.approx(0.7390851332151607)


def test_no_solution_is_no_success():
    for method in ("hybr", "lm"):
        result = root(lambda x: x ** 2 + 1, torch.tensor([3.0], dtype=torch.float64), method=method)
        assert not result.success and result.status == 5 and "good progress" in result.message
        assert abs(result.x.item()) < 1e-3          # where x^2 + 1 is least
    short = root(circle, [10.0, -3.0], (torch.tensor(2.0, dtype=torch.float64),), options={"maxfev": 2})
    assert not short.success and short.status == 2
    undefined = root(lambda x: x.log(), torch.tensor([-1.0], dtype=torch.float64))
    assert not undefined.success and "NaN" in undefined.message


def test_singular_jacobians():
    result = root(lambda x: (x - 1) ** 2, torch.tensor([4.0], dtype=torch.float64))          # a double zero
    assert result.success and result.x.item() == pytest.approx(1, abs=1e-5)
    start = root(lambda x: torch.stack([x[0] ** 2 + x[1] - 1, x[1] * x[0] - 0.25]), torch.zeros(2, dtype=torch.float64))
    np.testing.assert_allclose(start.fun.numpy(), 0, atol=1e-10)


def test_callback():
    seen = []
    result = root(circle, [1.0, 0.2], (torch.tensor(2.0, dtype=torch.float64),), callback=lambda x: seen.append(x.tolist()))
    assert len(seen) >= result.nit - 1 and len(seen[0]) == 2
    stopped = root(circle, [1.0, 0.2], (torch.tensor(2.0, dtype=torch.float64),), callback=lambda x: True)
    assert not stopped.success and stopped.status == -2


def test_wrong_arguments():
    with pytest.raises(ValueError, match="method must be one of 'hybr', 'lm'"):
        root(circle, [1.0, 1.0], method="newton")
    with pytest.raises(ValueError, match="unknown options steps"):
        root(circle, [1.0, 1.0], options={"steps": 3})
    with pytest.raises(RuntimeError, match=r"1 equations .* for 2 unknowns"):
        root(lambda x: x.sum().reshape(1), [1.0, 1.0])
    with pytest.raises(TypeError, match="must return a tensor"):
        root(lambda x: [1.0, 2.0], [1.0, 1.0])
