"""Derivatives of solutions with respect to `args`, by the implicit function theorem; and solvers inside `engine.compile`.

Where F(x, args) = 0 defines x, a cotangent v of x gives the cotangent -(dF/dargs)' u of args, with (dF/dx)' u = v. `attach` puts a
node on the tape that computes this with the engine's own operators, so that it differentiates again, in reverse and forward mode.
F is the gradient of what `minimize` and `least_squares` minimise, or the function of `root`; those three call `attach` and
`outside`. Source: Krantz and Parks, The Implicit Function Theorem (2002); Blondel et al., Efficient and Modular Implicit
Differentiation (2022).
"""
from __future__ import annotations

import dataclasses
import math
import sys
import types
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import func, linalg, tree
from ..autograd.function import Function
from ..autograd.modes import no_grad
from ..errors import LinAlgError
from ..tape import modes
from ..tensor import KIND_OF_NUMPY, Tensor, wrap

DENSE = 200         # unknowns up to which the Jacobian of F is made and factorised; beyond, conjugate gradients


@dataclasses.dataclass(frozen=True)
class Conditions:
    """F(x, *tensors), of x's shape, which is zero at the solution. `symmetric`: its Jacobian is, so F is a gradient.

    `linear`: the Jacobian does not depend on x.
    """

    function: Callable[..., Tensor]
    symmetric: bool = False
    linear: bool = False


class Solution(Function):
    """The node of a solution. `free` holds 1 for unknowns that move and 0 for those that a bound holds, or is None."""

    @staticmethod
    def forward(ctx: Any, conditions: Conditions, x: Tensor, free: Tensor | None, *tensors: Tensor) -> Tensor:
        """Another tensor over the memory of `x`, the solution for `tensors`: no kernel runs, so a trace sees nothing stopped."""
        result = wrap(x._array, x._kind)
        ctx.conditions = conditions
        ctx.save_for_backward(result, free, *tensors)
        return result

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple:
        """Gradients of the tensors that need one."""
        x, free, *tensors = ctx.saved_tensors
        conditions = ctx.conditions
        u = _solve(conditions, wrap(x._array, x._kind) if conditions.linear else x, free, tensors, v)
        wanted = [k for k, needed in enumerate(ctx.needs_input_grad[3:]) if needed]

        def of_wanted(*picked: Tensor) -> Tensor:
            filled = list(tensors)
            for k, t in zip(wanted, picked, strict=True):
                filled[k] = t
            return conditions.function(x, *filled)
        found = func.vjp(of_wanted, *[tensors[k] for k in wanted])[1](-u)
        gradients: list = [None] * len(tensors)
        for k, g in zip(wanted, found, strict=True):
            gradients[k] = g
        return None, None, None, *gradients


def attach(conditions: Conditions, x: Tensor, tensors: Sequence[Tensor], free: Tensor | None = None) -> Tensor:
    """The solution `x` with its history in `tensors`; `x` itself where none of them requires grad or nothing is recorded."""
    if not modes.enabled or not any(t.requires_grad for t in tensors):
        return x
    return Solution.apply(conditions, x, free, *tensors)


# --- the linear system ---------------------------------------------------------------------------------------------------

def _solve(conditions: Conditions, x: Tensor, free: Tensor | None, tensors: list[Tensor], v: Tensor) -> Tensor:
    """u with J' u = v among the free unknowns, and u = 0 in the others."""
    if free is not None:
        v = v * free
    if x.numel() <= DENSE or not conditions.symmetric:
        n = x.numel()
        jacobian = func.jacrev(lambda y: conditions.function(y, *tensors))(x).reshape(n, n)
        if free is not None:
            mask = free.reshape(-1)
            jacobian = jacobian * mask.unsqueeze(1) * mask + (1 - mask).diag()
        try:
            return linalg.solve(jacobian.mT, v.reshape(n)).reshape(x.shape)
        except LinAlgError as error:
            raise LinAlgError("the solution has no derivative with respect to args: the "
                              f"{'Hessian' if conditions.symmetric else 'Jacobian'} there is singular, so other solutions may "
                              "lie beside it") from error
    held = [] if free is None else [free]

    def linear(u: Tensor, v: Tensor, x: Tensor, *rest: Tensor) -> Tensor:
        return _product(conditions, x, rest[0] if held else None, rest[len(held):], u) - v

    def run(v: Tensor, x: Tensor, *rest: Tensor) -> tuple[Tensor]:
        return (_conjugate_gradients(conditions, x, rest[0] if held else None, rest[len(held):], v),)

    def attached(results: tuple, given: Sequence[Tensor]) -> Tensor:
        return attach(Conditions(linear, symmetric=True, linear=True), results[0], given)
    given = [v, x, *held, *tensors]
    return attached(outside("conjugate_gradients", run, given, attached), given)


def _product(conditions: Conditions, x: Tensor, free: Tensor | None, tensors: Sequence[Tensor], u: Tensor) -> Tensor:
    """J u for a symmetric J, held to the free unknowns: by one walk back over F."""
    pull = func.vjp(lambda y: conditions.function(y, *tensors), x)[1]
    return pull(u)[0] if free is None else free * pull(free * u)[0] + (1 - free) * u


def _conjugate_gradients(conditions: Conditions, x: Tensor, free: Tensor | None, tensors: Sequence[Tensor], v: Tensor) -> Tensor:
    """u with J u = v for a symmetric positive definite J. Source: Nocedal and Wright (2006), Algorithm 5.2."""
    pull = func.vjp(lambda y: conditions.function(y, *tensors), x.detach())[1]
    with no_grad():
        u, r = v.new_zeros(v.shape), v.detach().clone()
        d, squares = r.clone(), float((r * r).sum())
        enough = squares * (1e-12 if v._array.itemsize == 8 else 1e-6) ** 2
        for _ in range(10 * x.numel()):
            if squares <= enough:
                return u
            h = pull(d)[0] if free is None else free * pull(free * d)[0] + (1 - free) * d
            curvature = float((d * h).sum())
            if not curvature > 0:
                break
            step = squares / curvature
            u.add_(d, alpha=step)
            r.sub_(h, alpha=step)
            before, squares = squares, float((r * r).sum())
            d.mul_(squares / before).add_(r)
    if not squares <= enough * 1e6:
        warnings.warn("the derivative of the solution with respect to args is not accurate: conjugate gradients ended with a "
                      f"relative residual of {math.sqrt(squares / max(float((v * v).sum()), 1e-300)):.1e}", RuntimeWarning,
                      stacklevel=2)
    return u


# --- arguments and traces -----------------------------------------------------------------------------------------------

def tensors_in(args: tuple) -> tuple[list[Tensor], Callable[[Sequence[Tensor]], tuple]]:
    """The floating tensors among nested `args`, and the function that puts others in their place."""
    leaves: list = []
    structure = tree.flatten(args, leaves)
    places = [k for k, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and leaf._kind.dtype.category >= 2]

    def filled(tensors: Sequence[Tensor]) -> tuple:
        made = list(leaves)
        for k, t in zip(places, tensors, strict=True):
            made[k] = t
        return tree.unflatten(structure, iter(made))
    return [leaves[k] for k in places], filled


class _Host:
    """A Python function of tensors as an operator of a compiled program: called, never looked into."""

    linear = many = False

    def __init__(self, name: str, run: Callable, attached: Callable | None):
        self.name, self.run, self.attached = name, run, attached

    def forward(self, *arrays: np.ndarray) -> Any:
        """The function on arrays."""
        with no_grad():
            results = tuple([t._array for t in self.run(*[wrap(a, KIND_OF_NUMPY[a.dtype]) for a in arrays])])
        return results if len(results) > 1 else results[0]

    def __call__(self, *tensors: Tensor) -> Any:
        """The function on tensors, its first result with its history, where a program is differentiated again."""
        with no_grad():
            results = self.run(*[t.detach() for t in tensors])
        if self.attached is not None:
            results = (self.attached(results, tensors), *results[1:])
        return results if len(results) > 1 else results[0]


def tracing() -> list:
    """The traces that this thread is in, the innermost last; empty outside of `engine.compile` and `vmap`."""
    trace = sys.modules.get("engine.compiler.trace")
    return [] if trace is None else [t for t in trace.running if t.active]


def outside(name: str, run: Callable[..., tuple], tensors: Sequence[Tensor], attached: Callable | None = None) -> tuple:
    """run(*tensors) -> tuple of new tensors, unrecorded by the tape; a trace sees one call in it, which its program repeats.

    `attached(results, tensors)` gives the first result its history where the program is differentiated again.
    """
    tracers = tracing()
    for tracer in tracers:
        with tracer.noting():
            for t in tensors:
                tracer.read(t._array)
        tracer.paused += 1
    try:
        with no_grad():
            results = run(*[t.detach() for t in tensors])
    finally:
        for tracer in tracers:
            tracer.paused -= 1
    for tracer in reversed(tracers):
        with tracer.noting():
            tracer.call(_Host(name, run, attached), [t._array for t in tensors], False, {},
                        results[0]._array if len(results) == 1 else tuple([r._array for r in results]))
    return results


def check_closure(name: str, function: Callable) -> None:
    """End a trace, so that what is compiled runs eagerly, where a function looks past `args` at a tensor that the trace computes.

    The program would keep that tensor's first value.
    """
    tracers = tracing()
    if not tracers:
        return
    from ..compiler.trace import Untraceable
    seen: set[int] = set()
    pending: list = [function]
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            known = tracers[-1].block(value._array) if value._array.size else None
            if known is not None:
                with tracers[-1].noting():
                    raise Untraceable(f"{name}'s function uses a tensor that is computed in the compiled function; give it in args")
                return
        elif isinstance(value, types.FunctionType):
            for cell in value.__closure__ or ():
                try:
                    pending.append(cell.cell_contents)
                except ValueError:          # a name that is not bound yet
                    continue
            pending += value.__defaults__ or ()
        elif isinstance(value, types.MethodType):
            pending += [value.__func__, value.__self__]
        elif isinstance(value, (list, tuple)):
            pending += value
        elif isinstance(value, dict):
            pending += value.values()


# --- the frame of minimize, least_squares and root ----------------------------------------------------------------------

def differentiable(name: str, function: Callable, solve: Callable[[Tensor, tuple], Any], x0: Tensor, args: tuple,
                   conditions: Conditions, free: Callable[[Tensor], Tensor] | None) -> Any:
    """solve(x0, args), a result whose `x` has its history in the floating tensors of `args`.

    `conditions` takes x and the nested `args`. `free(x)` is 1 for unknowns that no bound holds. Inside a trace the numbers of the
    result are tensors too, so that a compiled program gives those of its own run.
    """
    tensors, filled = tensors_in(args)
    flat = Conditions(lambda y, *given: conditions.function(y, *filled(given)), conditions.symmetric)

    def attached(results: Sequence[Tensor], given: Sequence[Tensor]) -> Tensor:
        given = given[len(given) - len(tensors):]
        if not modes.enabled or not any(t.requires_grad for t in given):
            return results[0]
        return attach(flat, results[0], given, None if free is None else free(results[0]))
    check_closure(name, function)
    if not tracing():
        with no_grad():
            result = solve(x0, filled([t.detach() for t in tensors]))
        result["x"] = attached((result["x"],), tensors)
        return result
    made: list = []
    names: list[str] = []

    def run(x: Tensor, *given: Tensor) -> tuple:
        result = solve(x, filled(given))
        if not made:
            made.append(result)
            names.extend(["x", *(k for k, v in result.items() if k != "x" and isinstance(v, (Tensor, bool, int, float)))])
        return tuple([_as_tensor(result[k]) for k in names])
    results = outside(name, run, [x0, *tensors], attached)
    result = made[0]
    result.update(zip(names, results, strict=True))
    result["x"] = attached(results, tensors)
    return result


def minimum(solve: Callable, fun: Callable, x0: Any, args: tuple, method: str, bounds: Any, *rest: Any) -> Any:
    """`minimize` where its solution has a history or a trace looks on. `solve` is `minimize` itself, `rest` its other arguments."""
    from .minimize import _bounds as limits_of
    from .residuals import start
    from .scalars import of_scalars
    x0, batched, value = start("minimize", x0), bool(rest[-1]), of_scalars(fun)

    def total(y: Tensor, *args: Any) -> Tensor:
        return func.vmap(lambda row: value(row, *args).reshape(()))(y).sum() if batched else value(y, *args).reshape(())

    def stationary(y: Tensor, *args: Any) -> Tensor:
        return func.grad(lambda y: total(y, *args))(y)
    limits = limits_of(bounds, x0._array.shape[batched:], x0._array.dtype)
    free = None
    if limits is not None:
        low, high = (wrap(side.reshape(x0._array.shape[batched:]), x0._kind) for side in limits)
        free = lambda y: ((y.detach() > low) & (y.detach() < high)).to(y.dtype)
    return differentiable("minimize", fun, lambda x, args: solve(fun, x, args, method, bounds, *rest), x0, args,
                          Conditions(stationary, symmetric=True), free)


def _as_tensor(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    array = np.array(value, np.bool_ if isinstance(value, bool) else np.int64 if isinstance(value, int) else np.float64)
    return wrap(array, KIND_OF_NUMPY[array.dtype])
