"""Objectives written with loops: kernels of their own, against what Python computes with the same function and its differences."""
import itertools
import math

import numpy as np
import pytest
import scipy.optimize

import engine
from engine.optimize import loops, minimize
from kernels.solvers.machine import VALUE, VALUE_AND_GRAD

scale = 2.0
offsets = np.linspace(-1.0, 1.0, 5)


def rosenbrock(x, a=1.0, b=100.0):
    s = 0.0
    for i in range(len(x) - 1):
        s += (a - x[i]) ** 2 + b * (x[i + 1] - x[i] ** 2) ** 2
    return s


def over_elements(x):
    s = 0
    for v in x:
        s = s + math.cos(v) + v * v
    return s * scale


def counted(x):
    s = 0.0
    for i, v in enumerate(x):
        if v > 0.2 and i % 2 == 0:
            s += i * v ** 3
        else:
            s += math.exp(-v) * (i + 1)
    return s


def side_by_side(x):
    s = 0.0
    for a, b in itertools.pairwise(x):
        s += math.hypot(a, b - 1.0)
    for a, b, c in zip(x[:-2], x[1:-1], x[2:], strict=True):
        s += (a - 2 * b + c) ** 2
    return s


def generated(x):
    return sum((v - k) ** 2 for k, v in enumerate(x)) + math.prod(1.0 + 0.1 * v * v for v in x if v > 0.0) + x[-1] * x[0]


def doubly(x):
    return sum(sum(math.sin(x[i] * x[j]) for j in range(i)) ** 2 for i in range(x.size)) + 0.1 * sum(x)


def fitted(x, t, y, power):
    a, b = x
    s = 0.0
    for i in range(len(t)):
        s += abs(y[i] - a * math.exp(-b * t[i])) ** power
    return s


def helper(v, k):
    return math.log1p(v * v) / (k + 1)


def newton_inside(x):
    total = 0.0
    for k in range(x.shape[0]):
        root = 1.0
        while abs(root * root - (2.0 + x[k] ** 2)) > 1e-13:
            root = 0.5 * (root + (2.0 + x[k] ** 2) / root)
        total += root + helper(x[k], k) if k else root
    return total


def differences(f, at, h=1e-6):
    return [(f(at + d) - f(at - d)) / (2 * h) for d in np.eye(len(at)) * h]


CASES = {"defaults": (rosenbrock, 11, ()), "a number": (rosenbrock, 3, (2.0, 10)), "over elements": (over_elements, 5, ()),
         "counted": (counted, 6, ()), "side by side": (side_by_side, 4, ()), "generated": (generated, 5, ()),
         "doubly": (doubly, 9, ()), "newton inside": (newton_inside, 3, ()),
         "fitted": (fitted, 2, (np.linspace(0, 2, 20), 3 * np.exp(-np.linspace(0, 2, 20)) + 0.1, 2))}


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient(name):
    f, n, args = CASES[name]
    x = np.random.default_rng(3).uniform(-0.7, 1.2, n)
    made = loops.read(f, (n,), x.dtype, args)
    value, gradient = made.answer(VALUE_AND_GRAD, x, args)
    assert value == pytest.approx(f(x, *args), rel=1e-12)
    np.testing.assert_allclose(gradient, differences(lambda x: f(x, *args), x), rtol=2e-6, atol=1e-7)
    assert made.agrees(VALUE_AND_GRAD, x, args)


@pytest.mark.parametrize("method", ["lbfgs", "bfgs", "cg", "nelder-mead", "newton", "newton-cg"])
def test_every_method(method):
    found = minimize(rosenbrock, [0.3, 0.5, 0.2], method=method, tol=1e-9, options={"maxiter": 2000})
    np.testing.assert_allclose(found.x.numpy(), np.ones(3), atol=2e-3)


def test_many_unknowns_bounds_float32_and_rows():
    found = minimize(rosenbrock, np.full(300, 0.5))
    np.testing.assert_allclose(found.x.numpy(), np.ones(300), atol=1e-4)
    held = minimize(rosenbrock, [0.1] * 4, bounds=[(None, 0.5)] * 4)
    theirs = scipy.optimize.minimize(rosenbrock, [0.1] * 4, bounds=[(None, 0.5)] * 4)
    np.testing.assert_allclose(held.x.numpy(), theirs.x, atol=1e-5)
    single = minimize(rosenbrock, engine.full((4,), 0.5), tol=1e-4)
    assert single.x.dtype == engine.float32 and single.fun < 1e-4
    rows = minimize(rosenbrock, np.random.default_rng(0).uniform(0.3, 1.5, (20, 3)), batch_dims=1)
    assert rows.success.all()
    np.testing.assert_allclose(rows.x.numpy(), np.ones((20, 3)), atol=1e-3)


def test_arguments_are_read_anew():
    t = np.linspace(0, 2, 20)
    y = engine.tensor(3 * np.exp(-t))
    first = minimize(fitted, [1.0, 0.5], (t, y, 2))
    np.testing.assert_allclose(first.x.numpy(), [3.0, 1.0], atol=1e-4)
    y *= 2                                              # a tensor: an input
    np.testing.assert_allclose(minimize(fitted, [1.0, 0.5], (t, y, 2)).x.numpy(), [6.0, 1.0], atol=1e-4)
    t *= 0.5                                            # an array: its values are looked at
    np.testing.assert_allclose(minimize(fitted, [1.0, 0.5], (t, y, 2)).x.numpy(), [6.0, 2.0], atol=1e-4)


def test_what_it_reads_elsewhere():
    global scale
    weights = np.array([1.0, 2.0, 3.0])
    level = 0.5

    def f(x):
        s = 0.0
        for i in range(len(x)):
            s += weights[i] * (x[i] - level * scale) ** 2
        return s
    np.testing.assert_allclose(minimize(f, [0.0] * 3).x.numpy(), [1.0] * 3, atol=1e-5)
    scale = 4.0
    np.testing.assert_allclose(minimize(f, [0.0] * 3).x.numpy(), [2.0] * 3, atol=1e-5)
    level = 1.0
    np.testing.assert_allclose(minimize(f, [0.0] * 3).x.numpy(), [4.0] * 3, atol=1e-5)
    assert minimize(f, [0.0] * 3, options={"maxiter": 0}).fun == pytest.approx(96.0)
    weights[:] = 1.0                # an array in its closure
    assert minimize(f, [0.0] * 3, options={"maxiter": 0}).fun == pytest.approx(48.0)
    scale = 2.0


def test_arrays_in_closures_are_looked_at():
    data = np.array([1.0, 2.0])

    def f(x):
        return ((x - engine.as_tensor(data)) ** 2).sum()
    start = engine.zeros(2, dtype=engine.float64)
    compiled = engine.compile(f)
    assert compiled(start).item() == 5.0
    np.testing.assert_allclose(minimize(f, start).x.numpy(), data)
    data[:] = [5.0, 6.0]
    assert compiled(start).item() == 61.0
    np.testing.assert_allclose(minimize(f, start).x.numpy(), data)


def test_left_to_the_trace():
    seen = []

    def noting(x):
        s = 0.0
        for v in x:
            seen.append(1)
            s = s + (v - 1) ** 2
        return s

    def listing(x):
        parts = []
        for v in x:
            parts.append((v - 1) ** 2)
        return sum(parts)

    def sliced(x):
        s = 0.0
        for k in range(2):
            s = s + np.sum((x[k:k + 2] - 1) ** 2)
        return s
    for f in (noting, listing, sliced, lambda x: ((x - 1) ** 2).sum()):
        assert loops.read(f, (3,), np.dtype(np.float64), ()) is None
        np.testing.assert_allclose(minimize(f, [0.0, 0.5, 3.0]).x.numpy(), np.ones(3), atol=1e-5)
    assert seen


def test_an_index_that_is_wrong_is_an_error():
    def beyond(x):
        s = 0.0
        for i in range(len(x) + 1):
            s += x[i] ** 2
        return s
    with pytest.raises(IndexError):
        minimize(beyond, [1.0, 2.0, 3.0])


def test_a_kernel_that_disagrees_is_not_used():
    class Odd(float):
        """A number that Python computes with in another way."""

        def __mul__(self, other):
            return 7.0

    odd = Odd(2.0)

    def f(x):
        s = 0.0
        for v in x:
            s += v * v + odd * v
        return s
    made = loops.read(f, (2,), np.dtype(np.float64), ())
    assert made is None or not made.agrees(VALUE, np.array([1.0, 2.0]), ())
