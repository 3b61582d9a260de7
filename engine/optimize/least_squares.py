"""`least_squares`: Levenberg-Marquardt with the exact Jacobian, robust losses and bounds, and SciPy's result.

The method is `kernels.solvers.levenberg_marquardt`; `residuals` feeds it, `implicit` gives the solution its derivative.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from kernels.solvers.levenberg_marquardt import LOSSES, levenberg_marquardt

from .. import func
from ..functions.convert import through_host
from ..functions.registry import PUBLIC
from ..tensor import Tensor, wrap
from .implicit import Conditions, differentiable
from .residuals import Run, as_integers, bound_arrays, objective, start
from .result import OptimizeResult
from .scalars import of_scalars

# our status -> (SciPy's status, message); those above 0 are successes
MESSAGES = {
    "SMALL_GRADIENT": (1, "`gtol` termination condition is satisfied."),
    "SMALL_CHANGE": (2, "`ftol` termination condition is satisfied."),
    "SMALL_STEP": (3, "`xtol` termination condition is satisfied."),
    "EVALUATION_LIMIT": (0, "The maximum number of function evaluations is exceeded."),
    "NOT_A_NUMBER": (-3, "Residuals or their Jacobian are infinite or NaN, at the start or wherever a step leads."),
    "STOPPED": (-2, "`callback` ended the run."),
}


@through_host
def least_squares(residuals: Callable[..., Tensor], x0: Any, args: tuple = (), *, bounds: Any = (-math.inf, math.inf),
                  ftol: float | None = None, xtol: float | None = None, gtol: float | None = None, x_scale: Any = "jac",
                  loss: str = "linear", f_scale: float = 1.0, max_nfev: int | None = None, verbose: int = 0,
                  callback: Callable[[Tensor], Any] | None = None, compile: bool = True) -> OptimizeResult:
    """Minimise half the sum of rho((r / f_scale)^2) f_scale^2 over the residuals r = residuals(x, *args), by Levenberg-Marquardt.

    x0: any shape, float32 or float64; r: any shape. bounds: (lower, upper), numbers or of x0's shape. loss: rho, "linear",
    "soft_l1", "huber", "cauchy" or "arctan", as SciPy defines them. x_scale: "jac" scales by the Jacobian's columns, numbers by
    themselves. ftol, xtol, gtol (1e-8, for float32 1e-5): relative change of cost, relative step, infinity norm of the gradient
    (times the distance to bounds). max_nfev: 100 (n + 1) by default. callback(x) after each iteration; StopIteration or a true
    value ends. verbose: 1 prints the end, 2 each iteration. `compile=False` runs the function as it is, which suits a single
    small problem.

    Result: x, cost, fun (residuals at x), jac (m, n; weighted by the loss, so that its square is the Gauss-Newton Hessian), grad,
    optimality, active_mask, nfev, njev, nit, status (SciPy's: 1 gtol, 2 ftol, 3 xtol, 0 max_nfev; negative: failures), success,
    message. x differentiates with respect to floating tensors in `args`.
    Errors: ValueError for bounds that do not fit, an unknown loss, or options out of range; TypeError or DTypeError where
    `residuals` gives no tensor of real numbers.
    """
    name = "least_squares"
    x = start(name, x0)
    limits = bound_arrays(name, bounds, x)
    if loss not in LOSSES:
        raise ValueError(f"{name}: loss must be one of {', '.join(map(repr, LOSSES))}, got {loss!r}")
    if not f_scale > 0:
        raise ValueError(f"{name}: f_scale must be positive, got {f_scale}")
    if max_nfev is not None and max_nfev <= 0:
        raise ValueError(f"{name}: max_nfev must be None or a positive integer, got {max_nfev}")
    options = {k: float(v) for k, v in {"ftol": ftol, "xtol": xtol, "gtol": gtol}.items() if v is not None}
    options.update(loss=float(LOSSES[loss]), f_scale=float(f_scale), maxfun=float(max_nfev or 100 * (x.numel() + 1)))
    scales = None
    if not isinstance(x_scale, str):
        scales = np.ascontiguousarray(np.broadcast_to(np.asarray(x_scale, x._array.dtype), x._array.shape)).reshape(-1)
        if not ((scales > 0) & np.isfinite(scales)).all():
            raise ValueError(f"{name}: x_scale must be 'jac' or positive numbers")
        options["scaling"] = 0.0
    elif x_scale != "jac":
        raise ValueError(f"{name}: x_scale must be 'jac' or positive numbers, got {x_scale!r}")
    rule = {**levenberg_marquardt.defaults(x._array.dtype.name), **options}

    def solve(x: Tensor, args: tuple) -> OptimizeResult:
        return _solve(residuals, x, args, limits, options, scales, rule["xtol"], callback, verbose, not compile)

    def stationary(y: Tensor, *args: Any) -> Tensor:
        return func.grad(lambda y: cost(of_scalars(residuals)(y, *args), loss, f_scale))(y)
    free = None if limits is None else (lambda y: _free(y, limits, rule["xtol"]))
    return differentiable(name, residuals, solve, x, args, Conditions(stationary, symmetric=True), free)


def cost(r: Tensor, loss: str, f_scale: float) -> Tensor:
    """Half the sum of rho((r / f_scale)^2) f_scale^2, in the engine's operators."""
    if loss == "linear":
        return 0.5 * (r * r).sum()
    z = (r / f_scale) ** 2
    if loss == "soft_l1":
        rho = 2 * ((1 + z).sqrt() - 1)
    elif loss == "huber":
        far = z > 1
        rho = PUBLIC["where"](far, 2 * PUBLIC["where"](far, z, 1.0).sqrt() - 1, z)
    elif loss == "cauchy":
        rho = z.log1p()
    else:
        rho = z.atan()
    return 0.5 * f_scale ** 2 * rho.sum()


def _thresholds(limits: tuple[np.ndarray, np.ndarray], rtol: float) -> list[np.ndarray]:
    """How near to each bound x must be to count as held by it; SciPy's rule."""
    return [np.where(np.isfinite(side), rtol * np.maximum(1, np.abs(np.where(np.isfinite(side), side, 0))), -1.0)
            for side in limits]


def _free(x: Tensor, limits: tuple[np.ndarray, np.ndarray], rtol: float) -> Tensor:
    """1 where no bound holds an unknown, 0 elsewhere, of x's shape and dtype; by operators, so that a trace repeats it."""
    kind, shape = x._kind, x._array.shape
    near_low, near_high = (wrap(t.astype(kind.numpy).reshape(shape), kind) for t in _thresholds(limits, rtol))
    low, high = (wrap(side.reshape(shape), kind) for side in limits)
    x = x.detach()
    return ((x - low > near_low) & (high - x > near_high)).to(x.dtype)


def _solve(residuals: Callable, x: Tensor, args: tuple, limits, options: dict[str, float], scales, rtol: float, callback,
           verbose: int, eager: bool) -> OptimizeResult:
    dtype, shape = x._array.dtype, x._array.shape
    words = {}
    if limits is not None:          # strictly inside, as the method needs it
        lower, upper = limits
        flat, small = x._array.reshape(-1), 1e-10 if dtype == np.float64 else 1e-5
        low = np.where(np.isfinite(lower), lower + small * np.maximum(1, np.abs(np.where(np.isfinite(lower), lower, 0))), lower)
        high = np.where(np.isfinite(upper), upper - small * np.maximum(1, np.abs(np.where(np.isfinite(upper), upper, 0))), upper)
        with np.errstate(invalid="ignore"):         # infinite bounds have no middle, and need none
            inner = np.where(low < high, np.clip(flat, low, high), 0.5 * (lower + upper)).astype(dtype)
        x = wrap(inner.reshape(shape), x._kind)
        words = {"BOUNDS": 1, "LOWER": lower.ctypes.data, "UPPER": upper.ctypes.data}
    if scales is not None:
        words["SCALES"] = scales.ctypes.data
    made, of_result = objective("least_squares", residuals, x, args, eager)
    n, m = x.numel(), math.prod(of_result)
    ran = Run(levenberg_marquardt, made, x, m, options)

    def report() -> None:
        print(f"{ran.word('NIT'):6d}  evaluations {ran.word('NFEV'):6d}  cost {ran.number('NOW_F'):.6e}  "
              f"optimality {ran.number('OPTIMALITY'):.2e}")
    status, message = MESSAGES[ran.solve(x, args, words, callback, report if verbose > 1 else None)]
    flat = ran.vector("NOW_X", n)
    active = np.zeros(n, np.int64)
    if limits is not None:
        near_low, near_high = _thresholds(limits, rtol)
        below, above = flat - limits[0], limits[1] - flat
        active[(below <= near_low) & (below <= above)] = -1
        active[(above <= near_high) & (above < below)] = 1
    result = OptimizeResult(
        x=ran.tensor("NOW_X", n, shape), cost=ran.number("NOW_F"), fun=ran.tensor("NOW_R", m, of_result),
        jac=ran.tensor("JAC", m * n, (m, n)), grad=ran.tensor("GRADIENT", n, shape), optimality=ran.number("OPTIMALITY"),
        active_mask=as_integers(active.reshape(shape)), nfev=ran.word("NFEV"), njev=ran.word("NJEV"), nit=ran.word("NIT"),
        status=status, success=status > 0, message=message)
    if verbose:
        print(f"{message} Function evaluations {result.nfev}, final cost {result.cost:.4e}, first-order optimality "
              f"{result.optimality:.2e}.")
    return result
