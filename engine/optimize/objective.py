"""A user's function as solvers ask for it: traced, differentiated, compiled, and where possible a table of native launches.

An `Objective` belongs to one function at one shape and dtype of x and one kind of `args`. A request that no table answers (the
first of all, a branch not yet taken, a function that calls BLAS) is answered by the compiled function in Python; each program that
this makes and that is native enough joins the table. Called by engine.optimize's fronts.
"""
from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kernels.solvers.machine import FIRST_CAPTURED, HESSIAN, JACOBIAN, PRODUCT, REQUESTS, RESIDUALS, SLOTS, VALUE, VALUE_AND_GRAD

from .. import dtypes, func, tree
from ..autograd.modes import no_grad
from ..compiler import native, tracing
from ..compiler.environment import Environment, elements
from ..compiler.function import CompiledFunction
from ..functions.registry import PUBLIC
from ..tensor import KIND_OF_NUMPY, Tensor, wrap
from .loops import LoopKernels, read
from .scalars import of_scalars

RESULTS = {VALUE: ("f",), VALUE_AND_GRAD: ("f", "g"), HESSIAN: ("r",), PRODUCT: ("r",), RESIDUALS: ("r",), JACOBIAN: ("r", "g")}
MOST_VARIANTS, MOST_OWNERS, MOST_PLANS = 8, 256, 32
FEW = 4             # unknowns up to which a Hessian's rows are written out one by one


def described(leaf: Any) -> Any:
    """What an objective depends on in an argument: an array's values, but not a tensor's."""
    if isinstance(leaf, Tensor):
        return leaf._kind, leaf._array.shape, leaf._array.strides
    if isinstance(leaf, np.ndarray):
        return elements(leaf)
    return leaf.__class__, leaf


def named(function: Callable, like: Callable) -> Callable:
    """A function that stands for a user's own, so that a trace looks into its closure."""
    function.__module__ = getattr(like, "__module__", None) or "user"
    function.__qualname__ = function.__name__ = getattr(like, "__name__", type(like).__name__)
    return function


def scalar(name: str, fun: Callable, dtype: dtypes.dtype) -> Callable:
    """`fun` with its result checked: a floating tensor of one element, given as a 0-d tensor of `dtype`."""
    on_tensors = of_scalars(fun)

    def value(x: Tensor, *args: Any) -> Tensor:
        y = on_tensors(x, *args)
        if not isinstance(y, Tensor):
            raise RuntimeError(f"{name}: the function must return a scalar tensor, not {type(y).__name__}")
        if y.numel() != 1:
            raise RuntimeError(f"{name}: the function must return a scalar tensor, not one of shape {tuple(y.shape)}; sum it?")
        if not y.is_floating_point():
            raise RuntimeError(f"{name}: the function must return a scalar tensor of a floating dtype, not {y.dtype}")
        if y.ndim:
            y = y.reshape(())
        return y if y.dtype == dtype else y.to(dtype)
    return named(value, fun)


class Objective:
    """What a solver asks of a function; see the module.

    `functions` gives for each request a function of (x, *args), of (x, p, *args) for PRODUCT, that returns the tensors that
    RESULTS names. `loops`: kernels that answer some requests instead. `address` is the table that goes into a state's OBJECTIVE.
    """

    def __init__(self, functions: dict[int, Callable], shape: tuple[int, ...], dtype: np.dtype, args: tuple,
                 loops: LoopKernels | None = None):
        self.shape, self.dtype, self.loops = shape, dtype, loops
        self.kind = KIND_OF_NUMPY[dtype]
        self.compiled = {request: CompiledFunction(f) for request, f in functions.items()}
        self.structure: Any = None
        self.tensors = len(self._tensors(args))
        self.owners: list[tracing.Owner] = []
        self.tables: dict[int, list[native.Table]] = {request: [] for request in functions}
        self.known: dict[int, set[int]] = {request: set() for request in functions}
        self.kept: list = []
        self.scratch = 0
        self.interruptible = False                      # loops in some kernel can be told to end
        self.reasons: dict[int, str] = {}               # request -> why Python answers it
        self.variants = {request: np.zeros(1 + MOST_VARIANTS, np.int64) for request in functions}
        self.requests = np.zeros(max(REQUESTS.values()) + 1, np.int64)
        self.address = self.requests.ctypes.data

    @staticmethod
    def _tensors(args: tuple) -> list[Tensor]:
        leaves: list = []
        tree.flatten(args, leaves)
        return [leaf for leaf in leaves if isinstance(leaf, Tensor)]

    # --- before a run -----------------------------------------------------------------------------------------------------

    def captured(self, args: tuple) -> np.ndarray:
        """The addresses of tensors in `args` and of tensors that the function found elsewhere: a state's CAPTURED."""
        words = np.zeros(self.tensors + MOST_OWNERS, np.int64)
        for k, t in enumerate(self._tensors(args)):
            words[k] = t._array.__array_interface__["data"][0]
        for k, owner in enumerate(self.owners):
            words[self.tensors + k] = owner.array().__array_interface__["data"][0]
        return words

    def fits(self) -> bool:
        """Whether the tensors that the function found elsewhere are still of the same kind, shape and strides."""
        return all(owner.fits() for owner in self.owners)

    def forget(self) -> None:
        """Drop all tables."""
        self.requests[:] = 0
        for request, words in self.variants.items():
            words[:] = 0
            self.tables[request].clear()
            self.known[request].clear()
        self.owners.clear()

    # --- Python's answer ---------------------------------------------------------------------------------------------------

    def answer(self, request: int, args: tuple, x: np.ndarray, p: np.ndarray | None = None) -> list[np.ndarray]:
        """The results of a request at x (and p) as arrays; a new program of the function becomes a table if it can."""
        if self.loops is not None and request in self.loops.texts:
            found = self._looped(request, args, x)
            if found is not None:
                return found
        compiled = self.compiled[request]
        operands = [wrap(np.array(a).reshape(self.shape), self.kind) for a in ((x,) if p is None else (x, p))]
        with no_grad(), warnings.catch_warnings():
            if compiled.last is None:       # what runs eagerly gives the same result
                warnings.filterwarnings("ignore", "compile: ", UserWarning)
            found = compiled(*operands, *_apart(args))
        variant = compiled.last
        if variant is not None and not compiled.eager and id(variant) not in self.known[request]:
            self.known[request].add(id(variant))
            self.kept.append(variant)
            self._add(request, variant, operands, args)
        elif compiled.eager:
            self.reasons[request] = compiled.eager
        leaves: list = []
        tree.flatten(found, leaves)
        return [t._array for t in leaves]

    def _looped(self, request: int, args: tuple, x: np.ndarray) -> list[np.ndarray] | None:
        """The answer of the kernels of a function with loops; None, for good, where Python's is another."""
        x = np.array(x).reshape(self.shape)
        if not any(self.tables.values()) and not self.loops.agrees(request, x, args):
            self.loops = None
            return None
        if not self.tables[request]:
            places = [k for k, a in enumerate(args) if isinstance(a, Tensor)]
            self._join(request, self.loops.table(request, x, args, {k: n for n, k in enumerate(places)}))
        return self.loops.answer(request, x, args)

    def _add(self, request: int, variant: Any, operands: Sequence[Tensor], args: tuple) -> None:
        if len(self.tables[request]) >= MOST_VARIANTS:
            return
        try:
            self._join(request, self._table(request, variant, operands, args))
        except native.NotNative as reason:
            self.reasons[request] = str(reason)

    def _join(self, request: int, table: native.Table) -> None:
        words, tables = self.variants[request], self.tables[request]
        tables.append(table)
        self.scratch = max(self.scratch, table.scratch)
        self.interruptible |= table.interruptible
        words[len(tables)] = table.address
        words[0] = len(tables)
        self.requests[request] = words.ctypes.data

    def _table(self, request: int, variant: Any, operands: Sequence[Tensor], args: tuple) -> native.Table:
        recorded, program = self._checked(request, variant), variant.forward
        inputs = [(native.twin(t._array), SLOTS[name]) for t, name in zip(operands, "xp", strict=False)]
        inputs += [(native.twin(t._array), FIRST_CAPTURED + k) for k, t in enumerate(self._tensors(args))]
        inputs += [(native.twin(owner.array()), FIRST_CAPTURED + self._captured_at(owner)) for owner in recorded.owners]
        return native.launches(program, inputs, [SLOTS[name] for name in RESULTS[request]])

    def _checked(self, request: int, variant: Any) -> tracing.Recorded:
        """What was recorded; NotNative where the program does more than give its results."""
        recorded, program = variant.recorded, variant.forward
        if (recorded.written or recorded.bumps or recorded.gradients or variant.backward is not None
                or any(out.array is None for out in recorded.outputs)):
            raise native.NotNative("it leaves something behind, or gives back what it was given")
        if any(type(owner) is not tracing.Owner for owner in recorded.owners):
            raise native.NotNative("it draws random numbers")
        if [out.array for out in recorded.outputs] != list(range(len(RESULTS[request]))):
            raise native.NotNative("it gives the same result twice")
        if any(program.wanted[k].dtype != self.dtype.name for k in range(len(recorded.outputs))):
            raise native.NotNative("its results are of another dtype")
        return recorded

    def _captured_at(self, owner: tracing.Owner) -> int:
        """The number of a tensor that the function found elsewhere, among `captured`."""
        for k, known in enumerate(self.owners):
            if known.holder is owner.holder and known.of_gradient == owner.of_gradient:
                return self.tensors + k
        if len(self.owners) == MOST_OWNERS:
            raise native.NotNative(f"it uses more than {MOST_OWNERS} tensors")
        self.owners.append(owner)
        return self.tensors + len(self.owners) - 1


def _apart(args: tuple) -> tuple:
    """The arguments without history, and none twice: a trace knows tensors by their memory."""
    seen: set[int] = set()

    def apart(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        place = leaf._array.__array_interface__["data"][0]
        if place in seen:
            return wrap(native.twin(leaf._array), leaf._kind)
        seen.add(place)
        return leaf.detach() if leaf.requires_grad else leaf
    return tree.mapped(apart, args)


class Watched:
    """What belongs to a function's programs: it is right as long as the function would be traced to the same ones."""

    def watch(self, fun: Callable, objective: Objective) -> None:
        """Remember what the function reads."""
        self.objective = objective
        self.environment = Environment(fun)
        self.expected = self.environment.values()
        self.default = dtypes.DEFAULT.dtype

    def fits(self) -> bool:
        """Whether the function would be traced to the same programs."""
        return ((not self.environment.readers or self.environment.values() == self.expected)
                and dtypes.DEFAULT.dtype is self.default and (not self.objective.owners or self.objective.fits()))


def keep(plans: dict, key: Any, plan: Any) -> Any:
    """Put a plan among those of a function, of which the oldest go."""
    while len(plans) >= MOST_PLANS:
        del plans[next(iter(plans))]
    plans[key] = plan
    return plan


def minimised(name: str, fun: Callable, shape: tuple[int, ...], dtype: np.dtype, args: tuple,
              kind: type[Objective] = Objective) -> Objective:
    """The objective of a function to be minimised, with all its derivatives."""
    value = scalar(name, fun, KIND_OF_NUMPY[dtype].dtype)
    both = func.value_and_grad(value)

    def hessian(x: Tensor, *args: Any) -> Tensor:
        if x.numel() <= FEW:
            return func.hessian(value)(x, *args)
        basis = PUBLIC["eye"](x.numel(), dtype=x.dtype)         # one batched product, instead of a row of code for each element
        return func.vmap(lambda t: func.jvp(lambda y: func.grad(value)(y, *args), (x,), (t.reshape(shape),))[1],
                         randomness="same")(basis)

    def product(x: Tensor, p: Tensor, *args: Any) -> Tensor:
        return func.jvp(lambda y: func.grad(value)(y, *args), (x,), (p,))[1]
    return kind({VALUE: value, VALUE_AND_GRAD: both, HESSIAN: named(hessian, fun), PRODUCT: named(product, fun)},
                shape, dtype, args, read(fun, shape, dtype, args))
