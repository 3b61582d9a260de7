"""`Stepper`: every solver by its name, driven by hand and from a user's compiled code."""
import itertools
import pathlib
import re

import numba
import numpy as np
import pytest
import scipy.optimize

from engine.optimize import Stepper

ROSEN = {"value": (scipy.optimize.rosen,), "value_and_grad": (scipy.optimize.rosen, scipy.optimize.rosen_der),
         "hessian": (scipy.optimize.rosen_hess,)}


def driven(s):
    """Run a stepper on Rosenbrock's function; values after each iteration."""
    values = []
    while (request := s.step()) != "done":
        if request == "iteration":
            values.append(s.fun)
        elif request == "product":
            s.answer(scipy.optimize.rosen_hess_prod(s.x, s.p))
        elif request in ("residuals", "jacobian"):
            a, b = s.x
            r, jacobian = [10 * (b - a * a), 1 - a], [[-20 * a, 10], [-1, 0]]
            s.answer(*([r] if request == "residuals" else [r, jacobian]))
        else:
            s.answer(*[f(s.x) for f in ROSEN[request]])
    return values


@pytest.mark.parametrize("method", Stepper.methods())
def test_every_solver_can_be_driven(method):
    options = {"gd": {"gtol": 1e-3, "maxfun": 2e5, "maxiter": 2e5}, "adam": {"gtol": 1e-3}}.get(method, {})
    systems = method in ("levenberg-marquardt", "hybrid")
    s = Stepper(method, [-1.2, 1.0], options=options, residuals=2 * systems)
    values = driven(s)
    assert s.done and s.success and "onverged" in s.message, s.status
    np.testing.assert_allclose(s.x, 1, atol=4e-3)
    if method != "adam":
        assert all(b <= a for a, b in itertools.pairwise(values))
    assert s.step() == "done"


def test_bounds_and_single_precision():
    s = Stepper("lbfgsb", np.array([0.2, 0.2], np.float32), bounds=([0, 0], [0.5, 2]))
    driven(s)
    assert s.success and s.x.dtype == np.float32
    np.testing.assert_allclose(s.x, [0.5, 0.25], atol=1e-3)


def test_misuse_is_told():
    with pytest.raises(KeyError):
        Stepper("nonsense", [1.0])
    with pytest.raises(ValueError, match="lbfgs has no option speed; it has gtol"):
        Stepper("lbfgs", [1.0], options={"speed": 1})
    with pytest.raises(ValueError, match="hybrid needs residuals"):
        Stepper("hybrid", [1.0])
    with pytest.raises(ValueError, match="lbfgs has no residuals"):
        Stepper("lbfgs", [1.0], residuals=1)
    with pytest.raises(ValueError, match="bfgs cannot handle bounds"):
        Stepper("bfgs", [1.0], bounds=(0, 1))
    with pytest.raises(ValueError, match="no elements"):
        Stepper("bfgs", [])
    s = Stepper("lbfgs", [1.0, 2.0])
    assert s.request == "" and s.step() == "value_and_grad" and not s.done
    with pytest.raises(ValueError, match="has not been answered"):
        s.step()
    with pytest.raises(ValueError, match="takes 2 results, not 1"):
        s.answer(3.0)
    with pytest.raises(ValueError, match="has 3 elements, not 2"):
        s.answer(3.0, np.ones(3))
    s.answer(3.0, np.zeros(2))
    assert s.step() == "done" and s.status == "SMALL_GRADIENT" and s.fun == 3
    with pytest.raises(ValueError, match="takes 0 results"):
        s.answer(3.0, np.zeros(2))


def test_a_solver_inside_a_users_compiled_function():
    s = Stepper("lbfgs", [-1.2, 1.0])
    loop = s.loop
    request, x_at, f_at, g_at = (s.place[k] for k in ("REQUEST", "X", "F", "G"))
    done, wanted = s.requests["DONE"], s.requests["VALUE_AND_GRAD"]

    @numba.njit
    def minimise(words, numbers, address, args, dimensions, steps, data):
        evaluations = 0
        while True:
            loop(args, dimensions, steps, data)
            if words[request] == done:
                return evaluations
            if words[request] == wanted:
                evaluations += 1
                x = numbers[(words[x_at] - address) // 8:]
                g = numbers[(words[g_at] - address) // 8:]
                a, b = 1 - x[0], x[1] - x[0] ** 2
                numbers[(words[f_at] - address) // 8] = a * a + 100 * b * b
                g[0], g[1] = -2 * a - 400 * x[0] * b, 200 * b
    count = minimise(s.words, s.numbers, s.address, *s.call)
    assert s.done and s.success and count == s.words[s.place["NFEV"]] > 10
    np.testing.assert_allclose(s.x, 1, atol=1e-4)


def test_the_code_of_the_documentation():
    """docs/solvers-of-your-own.md as a reader would run it: from a file, from top to bottom; it asserts its own results."""
    text = (pathlib.Path(__file__).parents[1] / "docs" / "solvers-of-your-own.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 3
    space = {"__name__": "documentation"}
    exec(compile("\n".join(blocks), "solvers-of-your-own.md", "exec"), space)
    assert space["solver"].done and space["steepest"].name == "steepest"
