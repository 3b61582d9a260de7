"""Objectives written with scalars, loops, `math` and NumPy, against SciPy, finite differences and the same thing on tensors."""
import functools
import math
from math import exp

import numba
import numpy as np
import pytest
import scipy.optimize

import engine
from engine import func, optimize

counted = 0
in_a_list = [math.sin]


def rosenbrock(x):
    s = 0.0
    for i in range(len(x) - 1):
        s += (1 - x[i]) ** 2 + 100 * (x[i + 1] - x[i] ** 2) ** 2
    return s


def himmelblau(x):
    return math.pow(x[0] ** 2 + x[1] - 11, 2) + pow(x[0] + x[1] ** 2 - 7, 2)


def bump(a):
    return math.sin(a) + exp(-a) + 0.5 * math.fabs(a)


@numba.njit
def jitted(a):
    return math.cosh(a) + np.tanh(a)


class Squares:
    def __call__(self, x):
        return sum(math.pow(v, 2) + math.cos(v) for v in x)


def mixed(x):
    s = 0.0
    for i in range(len(x)):
        s += bump(x[i]) * math.pow(x[i], 2) + float(x[i]) + math.floor(x[i]) + jitted(x[i])
    if math.exp(x[0]) > 3 and float(x[1]) > 0:
        s = s + np.log(x[0]) + math.hypot(x[0], 3.0) + math.log(x[1], 10)
    s += np.sum(x ** 2) + max(x[0], x[1]) + math.gamma(x[1]) + np.dot(np.array([1.0, 2.0]), x)
    return s + math.atan2(1.0, x[0]) + np.mean(x) + np.power(x[1], 3) + np.arctan(x[0]) + abs(x[0]) + min(x[0], 0.7)


def differences(f, at, h=1e-6):
    at = np.array(at)
    return [(f(at + d) - f(at - d)) / (2 * h) for d in np.eye(len(at)) * h]


def tensor(*values):
    return engine.tensor(values, dtype=engine.float64)


@pytest.mark.parametrize("n", [2, 10, 50])
def test_rosenbrock_in_a_loop(n):
    found = optimize.minimize(rosenbrock, [0.5] * n)
    assert found.success
    np.testing.assert_allclose(found.x.numpy(), np.ones(n), atol=2e-4)
    np.testing.assert_allclose(found.jac.numpy(), scipy.optimize.rosen_der(found.x.numpy()), atol=1e-9)


def test_a_loop_too_long_to_compile():
    found = optimize.minimize(rosenbrock, [0.5] * 150, options={"maxiter": 3})
    np.testing.assert_allclose(found.fun, scipy.optimize.rosen(found.x.numpy()))
    np.testing.assert_allclose(found.jac.numpy(), scipy.optimize.rosen_der(found.x.numpy()), atol=1e-9)


def test_himmelblau_as_scipy():
    found = optimize.minimize(himmelblau, [3.5, 1.0])
    theirs = scipy.optimize.minimize(himmelblau, [3.5, 1.0], method="BFGS")
    np.testing.assert_allclose(found.x.numpy(), theirs.x, atol=1e-5)
    np.testing.assert_allclose(found.x.numpy(), [3.0, 2.0], atol=1e-5)


def test_the_tensor_form_gives_the_same():
    def on_tensors(x):
        return ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()
    at = tensor(0.3, -0.4, 1.2)
    for transform in (func.grad, func.hessian):
        np.testing.assert_allclose(transform(optimize.of_scalars(rosenbrock))(at).numpy(), transform(on_tensors)(at).numpy(),
                                   rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("at", [(1.5, 2.5), (0.5, 0.25)])
def test_derivatives_on_both_sides_of_a_branch(at):
    of_tensors = optimize.of_scalars(mixed)
    np.testing.assert_allclose(of_tensors(tensor(*at)).item(), mixed(np.array(at)), rtol=1e-13)
    first = func.grad(of_tensors)
    np.testing.assert_allclose(first(tensor(*at)).numpy(), differences(mixed, at), rtol=1e-6)
    second = [first(tensor(*(np.array(at) + d))).numpy() - first(tensor(*(np.array(at) - d))).numpy() for d in np.eye(2) * 1e-6]
    np.testing.assert_allclose(func.hessian(of_tensors)(tensor(*at)).numpy(), np.array(second) / 2e-6, atol=1e-6)


def test_a_sine_is_no_constant():
    def f(x):
        return math.sin(x[0]) ** 2 + (x[1] - 1) ** 2
    found = optimize.minimize(f, [-1.0, 0.0])
    np.testing.assert_allclose(found.x.numpy(), [0.0, 1.0], atol=1e-5)


def test_branches_are_followed_while_minimising():
    def f(x):
        if x[0] < 0:
            return math.exp(-x[0]) + x[1] ** 2
        return 1 - x[0] + math.pow(x[0], 2) + x[1] ** 2
    found = optimize.minimize(f, [-2.0, 1.0])
    theirs = scipy.optimize.minimize(f, [-2.0, 1.0], method="BFGS")
    np.testing.assert_allclose(found.x.numpy(), theirs.x, atol=1e-5)


def test_objects_partials_and_jitted_functions():
    @numba.njit
    def whole(x):
        return (x[0] - 1.0) ** 2 + math.exp(x[1]) - x[1]
    for f, at in ((Squares(), (1.0, 2.0)), (functools.partial(himmelblau), (1.0, 2.0)), (whole, (1.0, 2.0))):
        got = func.grad(optimize.of_scalars(f))(tensor(*at)).numpy()
        np.testing.assert_allclose(got, differences(getattr(f, "py_func", f), at), rtol=1e-6)
    np.testing.assert_allclose(optimize.minimize(whole, [0.0, 1.0]).x.numpy(), [1.0, 0.0], atol=1e-5)


def test_globals_are_read_anew_and_written_back():
    global counted

    def f(x):
        global counted
        counted += 1
        return math.exp(x[0])
    counted = 0
    optimize.of_scalars(f)(tensor(1.0))
    optimize.of_scalars(f)(tensor(1.0))
    assert counted == 2
    shift = 1.0

    def g(x):
        return math.pow(x[0] - shift, 2)
    assert abs(optimize.minimize(g, [0.0]).x.item() - 1) < 1e-6
    shift = 2.0
    assert abs(optimize.minimize(g, [0.0]).x.item() - 2) < 1e-6


def test_root_and_least_squares_of_lists():
    def equations(x):
        return [x[0] + 0.5 * math.sin(x[1]) - 1, math.exp(x[1]) - 2 * x[0]]
    found, theirs = optimize.root(equations, [0.5, 0.5]), scipy.optimize.root(equations, [0.5, 0.5])
    assert found.success
    np.testing.assert_allclose(found.x.numpy(), theirs.x, atol=1e-8)

    def residuals(p):
        return np.array([p[0] * math.exp(-p[1] * t) - 2 * math.exp(-0.5 * t) for t in (0.0, 1.0, 2.0, 4.0)])
    np.testing.assert_allclose(optimize.least_squares(residuals, [1.0, 1.0]).x.numpy(), [2.0, 0.5], atol=1e-6)


def test_a_solution_differentiates_in_args():
    def f(x, a):
        return math.exp(x[0]) - a * x[0]
    a = engine.tensor(3.0, dtype=engine.float64, requires_grad=True)
    optimize.minimize(f, [0.0], args=(a,)).x.sum().backward()
    assert abs(a.grad.item() - 1 / 3) < 1e-6


def test_a_kernel_of_the_users_is_one_native_launch():
    @engine.elementwise
    def well(a):
        if a > 1:
            return (a - 2) ** 2
        return 1.0 + (a - 1) ** 2 - 2 * (a - 1)

    def f(x):
        return well(x).sum()
    found = optimize.minimize(f, [0.0, 5.0, 1.5])
    np.testing.assert_allclose(found.x.numpy(), [2.0, 2.0, 2.0], atol=1e-5)
    objective = next(iter(next(iter(f.__dict__["_objectives"].values())).values())).objective
    assert not objective.reasons                       # nothing was left to Python
    assert [t.words[0] for tables in objective.tables.values() for t in tables] == [1]


def test_compiled():
    f = optimize.of_scalars(rosenbrock)
    at = np.array([0.3, -0.4, 1.2])
    np.testing.assert_allclose(engine.compile(f)(tensor(*at)).item(), scipy.optimize.rosen(at))
    np.testing.assert_allclose(engine.compile(func.grad(f))(tensor(*at)).numpy(), scipy.optimize.rosen_der(at))


@pytest.mark.parametrize("f", [
    lambda x: np.sum(np.stack([x, x * x]), axis=0)[1], lambda x: np.concatenate([x, x * x])[2], lambda x: np.cumsum(x * x)[1],
    lambda x: math.gamma(-x[0]) * math.gamma(-x[1] - 2), lambda x: np.linalg.norm(x) + math.dist(x, x * x),
    lambda x: np.sum(np.where(x > 0.5, x * x, x)), lambda x: math.fsum(v * v for v in x) + math.copysign(x[0], -1.0),
    lambda x: math.log(2.0, x[0]) + math.pow(x[0], x[1]) + np.logaddexp(x[0], 1.0), lambda x: np.max(x) + np.min(x) * 2])
def test_stand_ins(f):
    at, given = np.array([0.4, 0.7]), optimize.of_scalars(f)
    np.testing.assert_allclose(given(tensor(*at)).item(), f(at), rtol=1e-12)
    np.testing.assert_allclose(func.grad(given)(tensor(*at)).numpy(), differences(f, at), rtol=1e-6, atol=1e-7)


def test_what_leaves_is_an_error_that_names_the_line():
    def hidden(x):
        return in_a_list[0](x[0]) + x[1] ** 2

    def filled(x):
        r = np.zeros(2)
        r[0] = x[0]
        return np.sum(r) + math.cos(x[1])
    with pytest.raises(engine.errors.GradError, match=r"derivative would be lost \(line \d+ of .*hidden"):
        optimize.minimize(hidden, [1.0, 2.0])
    with pytest.raises(ValueError, match="setting an array element"):          # NumPy's own, caused by ours
        optimize.minimize(filled, [1.0, 2.0])
    with pytest.raises(TypeError, match=r"numpy\.interp cannot be differentiated"):
        optimize.minimize(lambda x: np.interp(x[0], [0.0, 1.0], [0.0, 1.0]), [0.5])


def test_numpys_matrices_and_spread():
    matrix, x = np.array([[2.0, 1.0], [0.0, 3.0]]), np.array([0.3, -0.4])

    def f(x):
        return x @ matrix @ x + np.std(x) + 2 * np.var(x, ddof=1)
    found = func.grad(optimize.of_scalars(f))(tensor(*x))
    np.testing.assert_allclose(found.numpy(), differences(f, x), rtol=1e-6)
