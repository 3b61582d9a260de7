"""`engine.optimize.minimize` against SciPy and known minima: methods, bounds, many starts, failures, branches, reports, errors."""
import itertools
import signal
import threading
import time

import numpy as np
import pytest
import scipy.optimize as scipy_optimize

import engine
from engine.optimize import OptimizeResult, minimize
from kernels.cpu import native

F64 = engine.float64
METHODS = ["lbfgs", "bfgs", "cg", "gd", "adam", "nelder-mead"]


def rosenbrock(x):
    return ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()


def bowl(x):
    """Strictly convex, minimum 0 at (1, 2, 3, ...)."""
    d = x - engine.arange(1, x.numel() + 1, dtype=x.dtype)
    return (d ** 2).sum() + (d ** 4).sum()


def start(*values, dtype=F64):
    return engine.tensor(values, dtype=dtype)


# --- minima --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("method", METHODS)
def test_methods_find_a_minimum(method):
    result = minimize(bowl, engine.zeros(3, dtype=F64), method=method)
    assert result.success and result.status == 0, result.message
    np.testing.assert_allclose(result.x.numpy(), [1, 2, 3], atol=2e-4)
    assert isinstance(result.fun, float) and result.fun == pytest.approx(bowl(result.x).item(), abs=1e-15)
    assert type(result.nit) is int and type(result.nfev) is int and result.nfev > 0 and result.nit > 0
    if method != "nelder-mead":
        expected = engine.func.grad(bowl)(result.x)
        np.testing.assert_allclose(result.jac.numpy(), expected.numpy(), atol=1e-12)
        assert result.njev == result.nfev


@pytest.mark.parametrize("method, theirs", [("lbfgs", "L-BFGS-B"), ("bfgs", "BFGS"), ("cg", "CG"), ("nelder-mead", "Nelder-Mead")])
@pytest.mark.parametrize("n", [2, 4])
def test_the_minimum_is_scipys(method, theirs, n):
    x0 = np.resize([-1.2, 1.0], n)
    jac = None if method == "nelder-mead" else scipy_optimize.rosen_der
    expected = scipy_optimize.minimize(scipy_optimize.rosen, x0, method=theirs, jac=jac)
    found = minimize(rosenbrock, engine.from_numpy(x0), method=method)
    assert found.success
    np.testing.assert_allclose(found.x.numpy(), expected.x, atol=1e-3)
    assert found.fun < 1e-7 and found.nfev < 3 * expected.nfev


def test_lbfgs_walks_as_scipys_does():
    x0 = np.resize([-1.2, 1.0], 6)          # with fewer unknowns fewer pairs are kept
    expected = scipy_optimize.minimize(scipy_optimize.rosen, x0, method="L-BFGS-B", jac=scipy_optimize.rosen_der)
    found = minimize(rosenbrock, engine.from_numpy(x0))
    assert abs(found.nit - expected.nit) <= 3 and abs(found.nfev - expected.nfev) <= 4


@pytest.mark.parametrize("seed", range(6))
def test_bounds_agree_with_scipy(seed):
    rng = np.random.default_rng(seed)
    n = [2, 3, 5, 9, 20, 40][seed]
    low = rng.uniform(-2, 0.9, n)
    pairs = [(a if rng.random() > 0.3 else None, b if rng.random() > 0.3 else None)
             for a, b in zip(low, low + rng.uniform(0.1, 3, n), strict=True)]
    bounds = np.array([(-np.inf if a is None else a, np.inf if b is None else b) for a, b in pairs])
    x0 = np.clip(rng.uniform(-3, 3, n), *bounds.T)
    tight = {"gtol": 1e-8, "ftol": 1e-14}
    expected = scipy_optimize.minimize(scipy_optimize.rosen, x0, jac=scipy_optimize.rosen_der, method="L-BFGS-B", bounds=pairs,
                                       options=tight)
    found = minimize(rosenbrock, engine.from_numpy(x0), bounds=pairs, options=tight)
    assert found.success
    x = found.x.numpy()
    assert (x >= bounds[:, 0]).all() and (x <= bounds[:, 1]).all()
    assert found.fun <= expected.fun + 1e-8 * max(1, abs(expected.fun))


@pytest.mark.parametrize("method", ["lbfgs", "gd", "adam", "nelder-mead"])
def test_bounds_hold_the_solution(method):
    result = minimize(bowl, start(5.0, 5.0), method=method, bounds=[(None, 0.5), (2.5, None)])
    assert result.success, result.message
    np.testing.assert_allclose(result.x.numpy(), [0.5, 2.5], atol=1e-4)


def test_bounds_have_many_forms():
    x0, expected = engine.zeros(2, 2, dtype=F64), [[1, 1.5], [1.5, 1.5]]
    forms = [[(0, 1.5)] * 4, (engine.zeros(2, 2), engine.full((2, 2), 1.5)), scipy_optimize.Bounds(np.zeros(4), np.full(4, 1.5)),
             (np.zeros(()), np.full((2, 2), 1.5))]
    for bounds in forms:
        result = minimize(lambda x: ((x - engine.arange(1, 5, dtype=F64).reshape(2, 2)) ** 2).sum(), x0, bounds=bounds)
        np.testing.assert_allclose(result.x.numpy(), expected, atol=1e-6)


# --- shapes, dtypes, arguments -------------------------------------------------------------------------------------------

def test_x_keeps_its_shape_and_dtype():
    for shape in [(), (1,), (2, 3), (1, 2, 2)]:
        result = minimize(lambda x: ((x - 2) ** 2).sum(), engine.zeros(shape, dtype=F64, requires_grad=True))
        assert result.x.shape == result.jac.shape == shape and result.x.dtype == F64 and not result.x.requires_grad
        np.testing.assert_allclose(result.x.numpy(), np.full(shape, 2.0), atol=1e-6)
    single = minimize(rosenbrock, engine.tensor([-1.2, 1.0]))
    assert single.x.dtype == engine.float32 and single.success and single.fun < 1e-5
    assert minimize(lambda x: ((x.to(engine.float32) - 2) ** 2).sum(), start(0.0)).x.dtype == F64


def test_integers_and_lists_become_float64():
    for x0 in ([3, 4], engine.tensor([3, 4]), np.array([3, 4])):
        result = minimize(lambda x: ((x - 0.5) ** 2).sum(), x0)
        assert result.x.dtype == F64
        np.testing.assert_allclose(result.x.numpy(), 0.5, atol=1e-6)


def test_tensors_in_args_and_closures_are_read_anew():
    weight = start(1.0, 2.0)

    def fun(x, d, scale=1.0):
        return (weight * (x - d) ** 2).sum() * scale
    x0 = engine.zeros(2, dtype=F64)
    for d in (start(1.0, 2.0), start(3.0, 4.0)):
        np.testing.assert_allclose(minimize(fun, x0, args=(d,)).x.numpy(), d.numpy(), atol=1e-5)
    np.testing.assert_allclose(minimize(fun, x0, args=start(5.0, 6.0)).x.numpy(), [5, 6], atol=1e-5)
    assert minimize(fun, x0, args=(start(1.0, 1.0), 3.0), method="gd", options={"maxiter": 0}).fun == pytest.approx(9)
    weight.mul_(10)
    assert minimize(fun, x0, args=(start(1.0, 1.0),), options={"maxiter": 0}).fun == pytest.approx(30)
    same = start(1.0, 2.0)
    two = lambda x, a, b: ((x - a) ** 2 + (x - b) ** 2).sum()
    minimize(two, x0, args=(same, same))
    np.testing.assert_allclose(minimize(two, x0, args=(same, start(3.0, 4.0))).x.numpy(), [2, 3], atol=1e-6)


def test_numbers_outside_of_the_function_are_read_anew():
    shift = 1.0

    def fun(x):
        return ((x - shift) ** 2).sum()
    assert minimize(fun, start(0.0)).x.item() == pytest.approx(1)
    shift = 4.0
    assert minimize(fun, start(0.0)).x.item() == pytest.approx(4)


def test_repeated_calls_trace_and_compile_nothing():
    calls = itertools.count()

    def fun(x):
        next(calls)
        return ((x - 3) ** 2).sum() + x[0]
    first = minimize(fun, start(0.0, 1.0))
    compiled = native.compilations
    for k in range(5):
        again = minimize(fun, start(0.0, float(k)))
    assert again.success and first.success and next(calls) == 1 and native.compilations == compiled


def test_operators_that_only_python_can_call():
    rng = np.random.default_rng(0)
    a, b = engine.from_numpy(rng.normal(size=(30, 20))), engine.from_numpy(rng.normal(size=30))
    result = minimize(lambda x: ((a @ x - b) ** 2).sum(), engine.zeros(20, dtype=F64), options={"gtol": 1e-7, "ftol": 1e-13})
    np.testing.assert_allclose(result.x.numpy(), np.linalg.lstsq(a.numpy(), b.numpy(), rcond=None)[0], atol=1e-5)


def test_a_thousand_dimensions():
    x0 = np.full(1000, 0.9)
    result = minimize(rosenbrock, engine.from_numpy(x0), options={"gtol": 1e-7, "ftol": 0})
    assert result.success, result.message
    np.testing.assert_allclose(result.x.numpy(), 1, atol=1e-5)


# --- branches --------------------------------------------------------------------------------------------------------------

def test_a_branch_met_on_the_way_is_traced():
    calls = itertools.count()

    def huber(x):
        next(calls)
        r = x - 2
        if r.abs().max() > 1:
            return (r.abs() - 0.5).sum()
        return 0.5 * (r ** 2).sum()
    result = minimize(huber, start(-4.0))
    assert result.success and result.x.item() == pytest.approx(2, abs=1e-6)
    again = minimize(huber, start(-4.0))
    assert next(calls) == 2 and again.nfev == result.nfev and again.x.item() == result.x.item()


# --- many starts -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("method", ["lbfgs", "bfgs", "cg", "nelder-mead"])
def test_each_row_is_a_problem_of_its_own(method):
    starts = np.random.default_rng(1).normal(size=(300, 2))
    result = minimize(rosenbrock, engine.from_numpy(starts), method=method, batch_dims=1)
    assert result.x.shape == (300, 2) and result.success.shape == result.fun.shape == result.nit.shape == (300,)
    assert result.success.numpy().mean() > 0.98
    np.testing.assert_allclose(result.x.numpy()[result.success.numpy()], 1, atol=1e-3)
    for k in (0, 150, 299):
        alone = minimize(rosenbrock, engine.from_numpy(starts[k]), method=method)
        np.testing.assert_array_equal(alone.x.numpy(), result.x.numpy()[k])
        assert (alone.nit, alone.nfev, alone.fun) == (result.nit[k].item(), result.nfev[k].item(), result.fun[k].item())


def test_rows_have_branches_arguments_and_bounds_too():
    def fun(x, centre):
        r = x - centre
        if r.abs().sum() > 3:
            return r.abs().sum() * 2 + (r * r).sum()
        return (r ** 2).sum()
    starts = engine.from_numpy(np.random.default_rng(2).normal(size=(40, 1, 2)) * 4)
    result = minimize(fun, starts, args=(start(0.5, 2.0),), bounds=[(0, 1), (0, 1)], batch_dims=1)
    assert result.success.all()
    np.testing.assert_allclose(result.x.numpy(), np.tile([0.5, 1.0], (40, 1, 1)), atol=1e-5)


# --- failures ----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("method", METHODS)
def test_undefined_starts_are_told(method):
    for value in (float("nan"), float("inf")):
        result = minimize(lambda x: x.sum() * 0 + value, start(1.0, 2.0), method=method)
        assert not result.success and result.status == 5 and "NaN" in result.message and result.nfev == 1
        np.testing.assert_array_equal(result.x.numpy(), [1, 2])


@pytest.mark.parametrize("method", ["lbfgs", "bfgs", "cg"])
def test_unbounded_functions_are_told(method):
    for fun in (lambda x: -x.sum(), lambda x: -x.exp().sum()):
        result = minimize(fun, start(0.0, 0.0), method=method)
        assert not result.success and result.status == 4 and "unbounded" in result.message and result.fun < -1e10


@pytest.mark.parametrize("method", METHODS)
def test_limits_are_told_and_kept(method):
    result = minimize(rosenbrock, start(-1.2, 1.0), method=method, options={"maxiter": 3})
    assert not result.success and result.status == 1 and result.nit == 3 and "maxiter" in result.message
    result = minimize(rosenbrock, start(-1.2, 1.0), method=method, options={"maxfun": 9})
    assert not result.success and result.status == 2 and 9 <= result.nfev <= 11 and "maxfun" in result.message
    assert result.fun <= rosenbrock(start(-1.2, 1.0)).item() and result.fun == pytest.approx(rosenbrock(result.x).item())


def test_a_line_search_that_fails_is_told():
    class Wrong(engine.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return (x ** 2).sum()

        @staticmethod
        def backward(ctx, g):
            return -g * engine.ones(2, dtype=F64)
    for method in ("lbfgs", "bfgs", "cg"):
        result = minimize(Wrong.apply, start(1.0, 1.0), method=method)
        assert not result.success and result.status == 3 and "line search" in result.message and result.fun <= 2


@pytest.mark.parametrize("method", ["adam", "gd"])
def test_the_best_point_is_never_lost(method):
    seen = []
    result = minimize(lambda x: (x ** 4).sum() - (x ** 2).sum(), start(2.0), method=method, options={"lr": 0.4, "maxiter": 30},
                      callback=lambda x: seen.append((x ** 4).sum().item() - (x ** 2).sum().item()))
    assert result.fun == pytest.approx(min([12.0, *seen]), abs=1e-15)


def test_values_undefined_on_the_way_are_stepped_back_from():
    for method in ("lbfgs", "bfgs", "cg", "gd", "nelder-mead"):
        result = minimize(lambda x: (x - x.log()).sum(), start(0.01, 30.0), method=method)
        assert result.success
        np.testing.assert_allclose(result.x.numpy(), 1, atol=1e-3)


def test_constants_converge_at_once():
    for fun in (lambda x: engine.tensor(3.0, dtype=F64), lambda x: 0 * x.sum() + 3):
        result = minimize(fun, start(1.0, 2.0))
        assert result.success and result.fun == 3 and result.nit == 0 and (result.jac == 0).all()


# --- reports --------------------------------------------------------------------------------------------------------------

def test_callbacks_see_every_iterate_and_may_stop():
    seen = []
    result = minimize(rosenbrock, start(-1.2, 1.0), callback=lambda x: seen.append(x))
    assert len(seen) == result.nit and all(isinstance(x, engine.Tensor) and x.shape == (2,) for x in seen)
    np.testing.assert_array_equal(seen[-1].numpy(), result.x.numpy())

    def stop(intermediate_result):
        seen.append(intermediate_result.fun)
        if intermediate_result.fun < 1:
            raise StopIteration
    result = minimize(rosenbrock, start(-1.2, 1.0), callback=stop)
    assert result.status == 6 and not result.success and result.fun == seen[-1] < 1 and "callback" in result.message
    assert result.fun == pytest.approx(rosenbrock(result.x).item())


def test_history_on_request():
    result = minimize(rosenbrock, start(-1.2, 1.0), options={"history": True})
    assert result.history.x.shape == (result.nit, 2) and result.history.fun.shape == (result.nit,)
    np.testing.assert_allclose([rosenbrock(x).item() for x in result.history.x], result.history.fun.numpy(), rtol=1e-9, atol=1e-14)
    assert "history" not in minimize(rosenbrock, start(-1.2, 1.0))


def test_disp_reports(capsys):
    minimize(rosenbrock, start(-1.2, 1.0), options={"disp": True})
    captured = capsys.readouterr()
    assert "lbfgs" in captured.out + captured.err


def test_the_result_is_a_dict_with_attributes():
    result = minimize(rosenbrock, start(-1.2, 1.0))
    assert isinstance(result, (dict, OptimizeResult)) and result["x"] is result.x
    assert list(result) == ["x", "fun", "jac", "nit", "nfev", "njev", "success", "status", "message"]
    text = repr(result)
    assert "success: True" in text and "x: tensor([1.0000, 1.0000]" in text
    with pytest.raises(AttributeError, match="has no 'hessian'"):
        _ = result.hessian
    result.note = 3
    assert result["note"] == 3 and repr(OptimizeResult()) == "OptimizeResult()"
    hessian = engine.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=F64)
    inverse = minimize(lambda x: 0.5 * (x * (hessian * x).sum(1)).sum(), start(1.0, -2.0), method="bfgs", tol=1e-10).hess_inv
    np.testing.assert_allclose(inverse.numpy() @ hessian.numpy(), np.eye(2), atol=0.01)


def test_ctrl_c_keeps_the_best_point():
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread only")
    timer = threading.Timer(0.3, lambda: signal.raise_signal(signal.SIGINT))
    x0 = engine.from_numpy(np.resize([-1.2, 1.0], 200))
    minimize(rosenbrock, x0, method="adam", options={"maxiter": 2})
    timer.start()
    begin = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt) as caught:        # of all methods this one never finds that it can go no further
            minimize(rosenbrock, x0, method="adam", options={"maxiter": 1e12, "maxfun": 1e12, "gtol": 0.0})
    finally:
        timer.cancel()
    assert time.monotonic() - begin < 20
    result = caught.value.result
    assert result.status == 8 and result.nit > 0 and result.fun == pytest.approx(rosenbrock(result.x).item())


# --- errors ----------------------------------------------------------------------------------------------------------------

def test_functions_must_return_a_scalar_tensor():
    for fun, words in [(lambda x: x * 2, r"scalar tensor, not one of shape \(2,\)"), (lambda x: 3.0, "scalar tensor, not float"),
                       (lambda x: engine.tensor(3), "scalar tensor of a floating dtype"),
                       (lambda x: None, "scalar tensor, not NoneType")]:
        with pytest.raises(RuntimeError, match=words):
            minimize(fun, start(0.0, 0.0))
    with pytest.raises(ZeroDivisionError):
        minimize(lambda x: 1 / 0, start(0.0))
    with pytest.raises(TypeError, match="fun must be a function"):
        minimize(3, start(0.0))


def test_wrong_arguments_are_told():
    x0 = start(0.0, 0.0)
    with pytest.raises(ValueError, match="unknown method 'nonsense'; the methods are lbfgs, bfgs, newton, newton-cg, cg"):
        minimize(rosenbrock, x0, method="nonsense")
    assert minimize(rosenbrock, x0, method="L-BFGS-B").success and minimize(rosenbrock, x0, method="BFGS").success
    with pytest.raises(ValueError, match="'lbfgs' has no option 'foo'; its options are gtol, ftol, maxiter"):
        minimize(rosenbrock, x0, options={"foo": 1})
    with pytest.raises(ValueError, match="'gtol' must not be negative"):
        minimize(rosenbrock, x0, tol=1.0, options={"gtol": -1.0})
    with pytest.raises(ValueError, match="method 'bfgs' cannot handle bounds"):
        minimize(rosenbrock, x0, method="bfgs", bounds=[(0, 1)] * 2)
    with pytest.raises(ValueError, match="1 pairs of bounds for 2 unknowns"):
        minimize(rosenbrock, x0, bounds=[(0, 1)])
    with pytest.raises(ValueError, match="larger than its upper bound"):
        minimize(rosenbrock, x0, bounds=[(0, 1), (2, 1)])
    with pytest.raises(ValueError, match="batch_dims must be 0 or 1"):
        minimize(rosenbrock, x0, batch_dims=2)
    with pytest.raises(ValueError, match="neither callbacks nor history"):
        minimize(rosenbrock, engine.zeros(3, 2, dtype=F64), batch_dims=1, callback=print)
    with pytest.raises(ValueError, match="no elements"):
        minimize(rosenbrock, engine.zeros(0))
    with pytest.raises(TypeError, match="must be real"):
        minimize(rosenbrock, engine.zeros(2, dtype=engine.complex64))


def test_tolerances():
    rough = minimize(rosenbrock, start(-1.2, 1.0), tol=1e-1)
    fine = minimize(rosenbrock, start(-1.2, 1.0), tol=1e-12)
    assert rough.nit < fine.nit and rough.fun > fine.fun and fine.fun < 1e-20
