"""Every method of `minimize` that uses derivatives on the 35 functions of More, Garbow and Hillstrom, beside SciPy's of that name.

A function counts as solved where a method reports success at a known minimum. `least_squares` and `root` meet the same
functions in tests of their own.
"""
import functools
import warnings

import numpy as np
import pytest
import scipy.optimize
from more_garbow_hillstrom import PROBLEMS
from test_newton import drive

import engine as torch
from engine import func
from engine.optimize import minimize

LIMITS = {"maxiter": 3000, "maxfun": 6000}


def solved(success, value, problem):
    """Flat valleys leave the value uncertain by more than the gradient: 1e-5 where a minimum is zero."""
    return bool(success) and any(-1e-7 * max(least, 1) <= value - least <= 1e-4 * max(least, 0.1) for least in problem.minima)


@functools.cache
def for_scipy(number):
    """Value and gradient of a function as SciPy asks for them, by the engine's compiled derivative."""
    both = torch.compile(func.value_and_grad(PROBLEMS[number - 1].objective))

    def value_and_gradient(x):
        value, gradient = both(torch.from_numpy(np.array(x)))
        return value.item(), gradient.numpy().copy()
    return value_and_gradient


def by_scipy(*given, **options):
    """SciPy's result; what overflows on its way is no matter here."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return scipy.optimize.minimize(*given, **options)


def outcomes(ours, theirs):
    """The names of the functions that only SciPy's method solves, and the two counts."""
    return [p.name for p in PROBLEMS if theirs[p.number] and not ours[p.number]], sum(ours.values()), sum(theirs.values())


@pytest.mark.parametrize("method, rival, least", [("lbfgs", "L-BFGS-B", 30), ("bfgs", "BFGS", 33), ("cg", "CG", 29)])
def test_as_many_are_solved_as_by_scipy(method, rival, least):
    ours, theirs = {}, {}
    for p in PROBLEMS:
        found = minimize(p.objective, p.x0(), method=method, options=LIMITS)
        assert found.fun == pytest.approx(p.objective(found.x).item(), rel=1e-9, abs=1e-18), p.name
        if found.success and method != "lbfgs":         # which may also end where the value hardly changes
            assert abs(found.jac.numpy()).max() <= 1e-5
        ours[p.number] = solved(found.success, found.fun, p)
        limits = {"maxiter": LIMITS["maxiter"]} | ({"maxfun": LIMITS["maxfun"]} if method == "lbfgs" else {})
        other = by_scipy(for_scipy(p.number), np.array(p.start), jac=True, method=rival, options=limits)
        theirs[p.number] = solved(other.success, other.fun, p)
        if ours[p.number] and theirs[p.number] and len(p.minima) == 1:
            assert abs(found.fun - other.fun) <= 1e-4 * max(abs(other.fun), 0.1), p.name
    only_scipy, count, of_scipy = outcomes(ours, theirs)
    assert count >= max(of_scipy, least), (count, of_scipy, only_scipy)


def test_bounds_are_met_as_low_as_by_scipy():
    rng, higher = np.random.default_rng(35), []
    for p in PROBLEMS:
        x0 = np.array(p.start)
        low, high = (x0 + side * rng.uniform(0.01, 1, p.n) * np.maximum(1, abs(x0)) for side in (-1, 1))
        tight = {"gtol": 1e-7, "ftol": 1e-13, **LIMITS}
        found = minimize(p.objective, p.x0(), bounds=(low, high), options=tight)
        x = found.x.numpy()
        assert ((x >= low) & (x <= high)).all(), p.name
        other = by_scipy(for_scipy(p.number), x0, jac=True, method="L-BFGS-B",
                         bounds=list(zip(low, high, strict=True)), options=tight)
        if found.fun > other.fun + 1e-6 * max(abs(other.fun), 1e-2):
            higher.append(p.name)
    assert set(higher) <= {"Meyer"}, higher         # in whose valley both end before its bottom


@pytest.mark.parametrize("method, rival, least", [("newton", "trust-exact", 34), ("newton-cg", "Newton-CG", 32)])
def test_newtons_methods_solve_as_many_as_scipys(method, rival, least):
    ours, theirs = {}, {}
    for p in PROBLEMS:
        status, x, value, _ = drive(method, p.objective, np.array(p.start), gtol=1e-6, maxiter=600)
        assert value == pytest.approx(p.objective(torch.tensor(x)).item(), rel=1e-9, abs=1e-18)
        ours[p.number] = solved(status in ("SMALL_GRADIENT", "SMALL_CHANGE"), value, p)
        hessian = lambda x, p=p: func.hessian(p.objective)(torch.tensor(x)).numpy()
        other = by_scipy(for_scipy(p.number), np.array(p.start), jac=True, hess=hessian, method=rival,
                         options={"maxiter": 200})
        theirs[p.number] = solved(other.success, other.fun, p)
    only_scipy, count, of_scipy = outcomes(ours, theirs)
    assert count >= max(of_scipy, least), (count, of_scipy, only_scipy)


def test_simplices_go_as_low_as_scipys():
    ours, theirs = {}, {}
    for p in PROBLEMS:
        if p.n <= 3:
            found = minimize(p.objective, p.x0(), method="nelder-mead")
            other = by_scipy(lambda x, p=p: p.objective(torch.tensor(x)).item(), p.start, method="Nelder-Mead")
            ours[p.number], theirs[p.number] = solved(found.success, found.fun, p), solved(other.success, other.fun, p)
    assert sum(ours.values()) >= sum(theirs.values()) and len(ours) == 12
