"""Residuals and their Jacobian as the solvers ask for them, and what `least_squares` and `root` share around a run.

An objective of residuals answers RESIDUALS and JACOBIAN; it hangs on the user's function, so that repeated calls compile nothing.
`running` drives the solver.
"""
from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import numpy as np

from kernels.solvers.machine import JACOBIAN, RESIDUALS, STATUSES, WORDS, Solver

from .. import dtypes, func, tree
from ..autograd.modes import no_grad
from ..compiler.environment import Environment
from ..errors import DTypeError
from ..functions.registry import PUBLIC
from ..tensor import KIND_OF_NUMPY, Tensor, wrap
from .objective import Objective, described, named
from .running import STOPPED, Plan, State, Stopped, interrupted
from .scalars import of_scalars

FEW = 4             # unknowns up to which a compiled Jacobian's columns are written out one by one


def start(name: str, x0: Any) -> Tensor:
    """The starting point as a tensor of float32 or float64 without history; integers and lists become float64."""
    x = x0.detach() if isinstance(x0, Tensor) else PUBLIC["as_tensor"](np.asarray(x0))
    if x._kind.dtype.category < 2:
        x = x.to(dtypes.float64)
    if x._array.dtype not in (np.float32, np.float64):
        raise DTypeError(f"{name}: x0 must be float32 or float64, got {x.dtype}")
    if not x.numel():
        raise ValueError(f"{name}: x0 is empty, its shape is {tuple(x.shape)}")
    return x


def _checked(name: str, r: Any) -> Tensor:
    """What a function gave, if it is residuals."""
    if not isinstance(r, Tensor):
        raise TypeError(f"{name}: the function must return a tensor, not {type(r).__name__}")
    if r._kind.dtype.category != 2:
        raise DTypeError(f"{name}: the function must return real floating-point numbers, got {r.dtype}")
    if not r.numel():
        raise ValueError(f"{name}: the function returned no residuals, a tensor of shape {tuple(r.shape)}")
    return r


def _flat(name: str, function: Callable, like: Tensor) -> Callable:
    """The function with its result checked, flattened and of x's dtype; its argument x is flat."""
    shape, dtype = like._array.shape, like.dtype
    on_tensors = of_scalars(function)

    def flat(x: Tensor, *args: Any) -> Tensor:
        r = on_tensors(x.reshape(shape), *args)
        r = _checked(name, r).reshape(-1)
        return r if r.dtype == dtype else r.to(dtype)
    return named(flat, function)


def _jacobian(flat: Callable, eager: bool) -> Callable:
    """x, *args -> residuals (m) and Jacobian (m, n): by forward mode for few unknowns, by the shorter of both ways otherwise."""
    def both(x: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
        def of_x(y: Tensor) -> Tensor:
            return flat(y, *args)
        r, n = of_x(x), x.numel()
        m = r.numel()
        if eager or n <= FEW:
            return r, (func.jacfwd if n <= m else func.jacrev)(of_x)(x)
        basis = PUBLIC["eye"](min(m, n), dtype=x.dtype)
        if n <= m:
            return r, func.vmap(lambda t: func.jvp(of_x, (x,), (t,))[1], randomness="same")(basis).mT.contiguous()
        pull = func.vjp(of_x, x)[1]
        return r, func.vmap(lambda v: pull(v)[0], randomness="same")(basis)
    return named(both, flat)


class _Eager(Objective):
    """An objective that is not compiled."""

    def __init__(self, functions: dict[int, Callable], shape: tuple[int, ...], dtype: np.dtype, args: tuple):
        super().__init__({}, shape, dtype, args)
        self.functions = functions

    def answer(self, request: int, args: tuple, x: np.ndarray, p: np.ndarray | None = None) -> list[np.ndarray]:
        with no_grad():
            found = self.functions[request](wrap(np.array(x), self.kind), *args)
        return [t._array for t in (found if isinstance(found, tuple) else (found,))]


def objective(name: str, function: Callable, x: Tensor, args: tuple, eager: bool) -> tuple[Objective, tuple[int, ...]]:
    """What a function is to the solvers at a shape of x and args, and its result's shape. TypeError where it is no function."""
    if not callable(function):
        raise TypeError(f"{name}: expected a function, got {type(function).__name__}")
    store = function.__dict__ if isinstance(function, types.FunctionType) else {}
    known = store.setdefault("_residuals", {})
    leaves: list = []
    structure = tree.flatten(args, leaves)
    if "environment" not in known:
        known["environment"] = Environment(function)
    key = (name, x._kind, x._array.shape, structure, tuple([described(leaf) for leaf in leaves]), eager, dtypes.DEFAULT.dtype,
           known["environment"].values())
    try:
        found = known.get(key)
    except TypeError:           # an argument that cannot be hashed
        key, found = None, None
    if found is None:
        flat = _flat(name, function, x)
        kind = _Eager if eager else Objective
        made = kind({RESIDUALS: flat, JACOBIAN: _jacobian(flat, eager)}, (x.numel(),), x._array.dtype, args)
        with no_grad():
            first = _checked(name, of_scalars(function)(x.clone(), *args))
        found = made, tuple(first.shape)
        if key is not None:
            known[key] = found
    elif found[0].owners and not found[0].fits():
        found[0].forget()
    return found


class Run:
    """One run of a solver on residuals, and vectors of its state by the names of the solver's words."""

    def __init__(self, solver: Solver, made: Objective, x: Tensor, m: int, options: dict[str, float]):
        self.plan = Plan(solver, made, x.numel(), m, options)
        self.kind, self.shape = x._kind, x._array.shape
        self.places = solver.places()
        self.state: State = self.plan.state(1)
        self.captured: Any = None

    def solve(self, x: Tensor, args: tuple, words: dict[str, int], callback: Callable[[Tensor], Any] | None,
              report: Callable[[], None] | None) -> str:
        """Run to the end from x, with some of the state's words set; the name of the status. `callback(x)` may end the run."""
        self.captured = self.plan.begin(self.state, x._array.reshape(-1), args)
        for name, value in words.items():
            self.state.header0[self.places[name]] = value
        n = self.plan.n

        def each(state: State) -> None:
            if report is not None:
                report()
            if callback is not None:
                try:
                    stop = callback(self.tensor("NOW_X", n, self.shape))
                except StopIteration:
                    raise Stopped from None
                if stop is True:
                    raise Stopped
        try:
            self.plan.run(self.state, args, each if callback is not None or report is not None else None)
        except Stopped:
            interrupted(self.state, STOPPED)
        status = int(self.state.header0[WORDS["STATUS"]])
        return next(k for k, v in STATUSES.items() if v == status and k != "LIMITS")

    def vector(self, name: str, count: int) -> np.ndarray:
        """The `count` elements whose address is in a word, as they lie in the state."""
        return self.state.at(0, int(self.state.header0[self.places[name]]), count, self.plan.dtype)

    def tensor(self, name: str, count: int, shape: tuple[int, ...]) -> Tensor:
        """A copy of those as a tensor."""
        return wrap(self.vector(name, count).copy().reshape(shape), self.kind)

    def word(self, name: str) -> int:
        """A word that holds a count."""
        return int(self.state.header0[self.places[name]])

    def number(self, name: str) -> float:
        """A word that holds a float64."""
        return float(self.state.numbers[0, self.places[name]])


def bound_arrays(name: str, bounds: Any, x: Tensor) -> tuple[np.ndarray, np.ndarray] | None:
    """(lower, upper), flat and of x's dtype, from a pair of numbers, arrays or tensors; None where nothing is bounded.

    Errors: ValueError where a pair has the wrong shape, a lower bound is not below the upper one, or x lies outside.
    """
    try:
        low, high = bounds
    except (TypeError, ValueError):
        raise ValueError(f"{name}: bounds must be a pair (lower, upper)") from None
    found = []
    for side in (low, high):
        array = np.asarray(side._array if isinstance(side, Tensor) else side, x._array.dtype)
        try:
            found.append(np.ascontiguousarray(np.broadcast_to(array, x._array.shape)).reshape(-1))
        except ValueError:
            raise ValueError(f"{name}: bounds of shape {array.shape} do not fit x0 of shape {tuple(x.shape)}") from None
    lower, upper = found
    if not (lower < upper).all():
        raise ValueError(f"{name}: each lower bound must be strictly less than each upper bound")
    flat = x._array.reshape(-1)
    if not ((flat >= lower) & (flat <= upper)).all():
        raise ValueError(f"{name}: x0 is infeasible, it lies outside of the bounds")
    return (lower, upper) if np.isfinite(lower).any() or np.isfinite(upper).any() else None


def as_integers(array: np.ndarray) -> Tensor:
    """An int64 array as a tensor."""
    return wrap(array, KIND_OF_NUMPY[array.dtype])
