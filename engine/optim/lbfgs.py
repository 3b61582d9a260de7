"""L-BFGS: quasi-Newton steps from the last few changes of point and gradient.

Source: Nocedal and Wright, Numerical Optimization (2006), algorithms 7.4 (two-loop recursion) and 7.5; options, defaults and
the order of its tests follow PyTorch's documentation. Paper: s_k, y_k, rho_k, H_k^0; here: s, y, rho, scale.
All parameters are treated as one vector. The line search is in `line_search`; the native solver is `engine.optimize`.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kernels.book import BOOK

from ..autograd.modes import enable_grad, no_grad
from ..tensor import Tensor
from .line_search import Point, strong_wolfe
from .optimizer import Optimizer


class LBFGS(Optimizer):
    """One `step(closure)` runs up to `max_iter` iterations and `max_eval` evaluations (default max_iter * 5 // 4).

    It ends when no component of the gradient exceeds `tolerance_grad`, or the value or the point changes by less than
    `tolerance_change`. `line_search_fn` is None (steps of length lr) or "strong_wolfe". One parameter group only.
    """

    def __init__(self, params: Iterable, lr: float | Tensor = 1, max_iter: int = 20, max_eval: int | None = None,
                 tolerance_grad: float = 1e-7, tolerance_change: float = 1e-9, history_size: int = 100,
                 line_search_fn: str | None = None):
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        if not float(lr) >= 0.0:
            raise ValueError(f"Invalid learning rate: {lr}")
        if max_eval is None:
            max_eval = max_iter * 5 // 4
        super().__init__(params, {
            "lr": lr, "max_iter": max_iter, "max_eval": max_eval, "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change, "history_size": history_size, "line_search_fn": line_search_fn})
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")
        self._params: list[Tensor] = self.param_groups[0]["params"]

    # --- all parameters as one vector ---------------------------------------------------------------------------------

    def _real_views(self) -> list[Tensor]:
        """The parameters, complex ones as pairs of real numbers."""
        return [p.view_as_real() if p.is_complex() else p for p in self._params]

    def _gradient(self) -> Tensor:
        parts = []
        for p in self._params:
            g = p._grad
            if g is None:
                g = p.new_zeros(p.shape)
            parts.append((g.view_as_real() if g.is_complex() else g).reshape(-1))
        return parts[0].clone() if len(parts) == 1 else BOOK["cat"](parts, dim=0)

    def _move(self, direction: Tensor, t: float) -> None:
        """Add t * direction to the parameters."""
        offset = 0
        for p in self._real_views():
            n = p.numel()
            p.add_(direction[offset:offset + n].reshape(p.shape) * t)
            offset += n

    def _put(self, points: list[Tensor]) -> None:
        for p, value in zip(self._params, points, strict=True):
            p.copy_(value)

    # --- one step -----------------------------------------------------------------------------------------------------

    def step(self, closure: Callable) -> Any:
        """Minimise from here; `closure` clears gradients, computes the loss, calls backward and returns the loss.

        Returns the loss at the start of the step. The state (curvature pairs, direction) is kept for the next step.
        """
        group = self.param_groups[0]
        state = self.state[self._params[0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)
        search = group["line_search_fn"]
        if search not in (None, "strong_wolfe"):
            raise RuntimeError("only 'strong_wolfe' is supported")

        def value_of() -> tuple[float, Tensor]:
            with enable_grad():
                loss = closure()
            return loss, self._gradient()

        with no_grad():
            first, gradient = value_of()
            state["func_evals"] += 1
            if _largest(gradient) > group["tolerance_grad"]:
                self._iterate(group, state, value_of, float(first), gradient)
        return first

    def _iterate(self, group: dict, state: dict, value_of: Callable, value: float, gradient: Tensor) -> None:
        evaluations = 1
        for k in range(1, group["max_iter"] + 1):
            state["n_iter"] += 1
            direction, t = _direction(state, gradient, group)
            state["prev_flat_grad"], state["prev_loss"] = gradient, value
            slope = _dot(gradient, direction)
            if slope > -group["tolerance_change"]:
                state["t"] = t
                return
            before, used = value, 0
            if group["line_search_fn"] is not None:
                start = Point(0.0, value, slope, gradient)
                found, used = self._search(value_of, direction, start, t, group)
                value, gradient, t = found.value, found.gradient, found.t
                self._move(direction, t)
                done = _largest(gradient) <= group["tolerance_grad"]
            else:
                self._move(direction, t)
                done = False
                if k < group["max_iter"]:       # the value after the last iteration would not be used
                    loss, gradient = value_of()
                    value, used = float(loss), 1
                    done = _largest(gradient) <= group["tolerance_grad"]
            evaluations += used
            state["func_evals"] += used
            state["t"] = t
            if (evaluations >= group["max_eval"] or done or _largest(direction) * abs(t) <= group["tolerance_change"]
                    or abs(value - before) < group["tolerance_change"]):
                return

    def _search(self, value_of: Callable, direction: Tensor, start: Point, t: float, group: dict) -> tuple[Point, int]:
        origin = [p.clone() for p in self._params]

        def evaluate(t: float) -> Point:
            self._move(direction, t)
            loss, gradient = value_of()
            self._put(origin)
            return Point(t, float(loss), _dot(gradient, direction), gradient)
        return strong_wolfe(evaluate, start, t, _largest(direction))


def _direction(state: dict, gradient: Tensor, group: dict) -> tuple[Tensor, float]:
    """The next direction, -H g, and the first step along it; keeps the newest curvature pair."""
    lr = float(group["lr"])
    if state["n_iter"] == 1:
        state["old_dirs"], state["old_stps"], state["ro"], state["H_diag"] = [], [], [], 1.0
        state["d"] = -gradient
        return state["d"], min(1.0, 1.0 / gradient.abs().sum().item()) * lr
    y, s = gradient - state["prev_flat_grad"], state["d"] * state["t"]
    curvature = _dot(y, s)
    if curvature > 1e-10:           # else H would lose positive definiteness
        if len(state["old_dirs"]) == group["history_size"]:
            for name in ("old_dirs", "old_stps", "ro"):
                state[name].pop(0)
        state["old_dirs"].append(y)
        state["old_stps"].append(s)
        state["ro"].append(1.0 / curvature)
        state["H_diag"] = curvature / _dot(y, y)        # equation 7.20
    state["d"] = two_loop(-gradient, state["old_stps"], state["old_dirs"], state["ro"], state["H_diag"])
    return state["d"], lr


def two_loop(q: Tensor, s: list[Tensor], y: list[Tensor], rho: list[float], scale: float) -> Tensor:
    """H q by algorithm 7.4, where H starts from `scale` times the identity and takes in the pairs, oldest first."""
    alpha = [0.0] * len(s)
    for k in reversed(range(len(s))):
        alpha[k] = rho[k] * _dot(s[k], q)
        q = q - y[k] * alpha[k]
    r = q * scale
    for k in range(len(s)):
        r = r + s[k] * (alpha[k] - rho[k] * _dot(y[k], r))
    return r


def _dot(a: Tensor, b: Tensor) -> float:
    return a.dot(b).item()


def _largest(x: Tensor) -> float:
    return x.abs().max().item() if x.numel() else 0.0
