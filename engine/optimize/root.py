"""`root`: solutions of systems of equations by Powell's hybrid method or Levenberg-Marquardt, with the exact Jacobian.

The methods are `kernels.solvers.hybrid` and `levenberg_marquardt`; `residuals` feeds them, `implicit` gives the solution its
derivative.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from kernels.solvers.hybrid import hybrid
from kernels.solvers.levenberg_marquardt import levenberg_marquardt
from kernels.solvers.machine import Solver

from ..errors import ShapeError
from ..functions.convert import through_host
from ..tensor import Tensor
from .implicit import Conditions, differentiable
from .residuals import Run, objective, start
from .result import OptimizeResult
from .scalars import of_scalars

METHODS = {"hybr": hybrid, "lm": levenberg_marquardt}
# our status -> (SciPy's status of "hybr", message); 1 is success
MESSAGES = {
    "SMALL_STEP": (1, "The solution converged."),
    "SMALL_VALUE": (1, "The solution converged."),
    "EVALUATION_LIMIT": (2, "The number of calls to function has reached maxfev."),
    "NO_PROGRESS": (5, "The iteration is not making good progress: it has come to a point that solves the equations no better "
                       "than its neighbours do."),
    "NOT_A_NUMBER": (-3, "The function or its Jacobian is infinite or NaN, at the start or wherever a step leads."),
    "STOPPED": (-2, "`callback` ended the run."),
}


@through_host
def root(fun: Callable[..., Tensor], x0: Any, args: tuple = (), method: str = "hybr", *, tol: float | None = None,
         callback: Callable[[Tensor], Any] | None = None, options: dict[str, Any] | None = None,
         compile: bool = True) -> OptimizeResult:
    """A solution of fun(x, *args) = 0, as many equations as unknowns, from x0 of any shape (float32 or float64).

    method: "hybr" (Powell's hybrid of Newton's method and steepest descent) or "lm" (Levenberg-Marquardt). tol: relative
    step at which to end. options: "xtol" (the same), "maxfev" (200 (n + 1)), "factor" (first radius, 100), "ftol" (norm of fun that
    counts as zero; for "lm" relative change of its square). callback(x) after each iteration; StopIteration or a true value ends.
    `compile=False` runs the function as it is, which suits a single small problem.

    Result: x, fun (at x), jac (n, n), nfev, njev, nit, status, success, message. x differentiates with respect to
    floating tensors in `args`. Errors: ValueError for an unknown method or option; ShapeError where equations and unknowns differ
    in number; TypeError or DTypeError where `fun` gives no tensor of real numbers.
    """
    if method not in METHODS:
        raise ValueError(f"root: method must be one of {', '.join(map(repr, METHODS))}, got {method!r}")
    x = start("root", x0)
    given = dict(options or {})
    if tol is not None:
        given.setdefault("xtol", tol)
    unknown = set(given) - {"xtol", "ftol", "maxfev", "factor"}
    if unknown:
        raise ValueError(f"root: unknown options {', '.join(sorted(unknown))}; there are xtol, ftol, maxfev and factor")
    limit = given.pop("maxfev", None)
    settings = {k: float(v) for k, v in given.items()}
    settings["maxfun"] = float(limit or 200 * (x.numel() + 1))
    solver = METHODS[method]
    if solver is levenberg_marquardt:
        precision = np.finfo(x._array.dtype).eps
        settings = {"xtol": 1.49e-8 if precision < 1e-10 else 1e-4, "ftol": 0.0, "gtol": 0.0, **settings}

    def solve(x: Tensor, args: tuple) -> OptimizeResult:
        return _solve(fun, x, args, solver, settings, callback, not compile)

    def equations(y: Tensor, *args: Any) -> Tensor:
        return of_scalars(fun)(y, *args).reshape(y.shape)
    return differentiable("root", fun, solve, x, args, Conditions(equations), None)


def _solve(fun: Callable, x: Tensor, args: tuple, solver: Solver, options: dict[str, float], callback,
           eager: bool) -> OptimizeResult:
    made, of_result = objective("root", fun, x, args, eager)
    n, m = x.numel(), math.prod(of_result)
    if m != n:
        raise ShapeError(f"root: {m} equations (shape {of_result}) for {n} unknowns (shape {tuple(x.shape)}); least_squares takes "
                         "more equations than unknowns")
    ran = Run(solver, made, x, n, options)
    name = ran.solve(x, args, {}, callback, None)
    if solver is levenberg_marquardt and name in ("SMALL_CHANGE", "SMALL_STEP", "SMALL_GRADIENT"):
        name = "SMALL_STEP" if _solved(ran, n) else "NO_PROGRESS"
    status, message = MESSAGES[name]
    return OptimizeResult(
        x=ran.tensor("NOW_X", n, x._array.shape), fun=ran.tensor("NOW_R", n, of_result), jac=ran.tensor("JAC", n * n, (n, n)),
        nfev=ran.word("NFEV"), njev=ran.word("NJEV"), nit=ran.word("NIT"), status=status, success=status == 1, message=message)


def _solved(ran: Run, n: int) -> bool:
    """Whether residuals are zero but for rounding, and not merely at their least: in proportion to what the Jacobian makes of x."""
    jacobian, x, values = ran.vector("JAC", n * n).reshape(n, n), ran.vector("NOW_X", n), ran.vector("NOW_R", n)
    scale = float(np.abs(jacobian).max(initial=0.0)) * max(1.0, float(np.abs(x).max(initial=0.0)))
    return float(np.abs(values).max(initial=0.0)) <= float(np.finfo(values.dtype).eps) ** 0.5 * max(scale, 1e-300)
