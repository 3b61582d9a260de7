"""Objectives as SciPy's users write them: scalars, loops, `math` and NumPy, run on tensors so that they can be differentiated.

`of_scalars` gives such a function with stand-ins for the functions of `math` and NumPy that its code mentions, in the functions
that it calls by name too. A stand-in takes tensors; whatever else it gets goes to the original. Loops unroll when a trace looks on,
branches become its guards. Called by the objectives of engine.optimize, and by users who give such a function to engine.func.
"""
from __future__ import annotations

import contextlib
import dis
import functools
import math
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kernels.derive_values import record_of

from ..errors import GradError
from ..functions.registry import PUBLIC
from ..tape import modes
from ..tensor import Tensor

MOST_DEEP = 16              # functions called by functions
OWN = ("engine", "kernels", "numpy", "math", "numba", "builtins")

# Functions of NumPy that are no pointwise records and mean the same here.
SAME = (np.sum, np.prod, np.mean, np.where, np.diff, np.ravel, np.outer, np.amax, np.amin)
JOINING = {np.stack, np.concatenate}
ROUNDED = {math.floor, math.ceil, math.trunc}


def _tensors(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_tensors, value))
    return isinstance(value, Tensor)


def stacked(value: Any) -> Any:
    """Lists and tuples of scalars among which are tensors, as one tensor; any other value as it is."""
    if isinstance(value, Tensor) or not isinstance(value, (list, tuple)) or not _tensors(value):
        return value
    parts = [stacked(v) for v in value]
    like = next(p for p in parts if isinstance(p, Tensor))
    return PUBLIC["stack"]([p if isinstance(p, Tensor) else PUBLIC["full_like"](like, p) for p in parts])


def _line() -> str:
    """The line of the user's that is running."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("engine", "kernels"):
        frame = frame.f_back
    return "" if frame is None else f" (line {frame.f_lineno} of {frame.f_code.co_filename}, in {frame.f_code.co_name})"


# --- stand-ins -------------------------------------------------------------------------------------------------------------

def _gamma(x: Tensor) -> Tensor:
    sign = PUBLIC["where"]((x < 0) & (PUBLIC["remainder"](PUBLIC["floor"](x), 2) != 0), -1.0, 1.0)
    return sign * PUBLIC["exp"](PUBLIC["lgamma"](x))


def _log(x: Any, base: Any = None) -> Tensor:
    y = PUBLIC["log"](x) if isinstance(x, Tensor) else math.log(x)
    if base is None:
        return y
    return y / (PUBLIC["log"](base) if isinstance(base, Tensor) else math.log(base))


def _extreme(name: str) -> Callable:
    def extreme(x: Tensor, axis: int | None = None) -> Tensor:
        return PUBLIC[name](x) if axis is None else PUBLIC[name](x, dim=axis)
    return extreme


def _joined(name: str) -> Callable:
    def joined(parts: Any, axis: int = 0) -> Tensor:
        return PUBLIC[name](_alike(*map(stacked, parts)), dim=axis)
    return joined


def _cumsum(x: Tensor, axis: int | None = None) -> Tensor:
    return PUBLIC["cumsum"](x.reshape(-1), dim=0) if axis is None else PUBLIC["cumsum"](x, dim=axis)


def _dot(a: Any, b: Any) -> Tensor:
    return PUBLIC["matmul"](*_alike(a, b))


def _spread(name: str) -> Callable:
    def spread(x: Tensor, axis: int | None = None, ddof: int = 0) -> Tensor:
        return PUBLIC[name](x, dim=axis, correction=ddof)
    return spread


def _norm(x: Tensor) -> Tensor:
    return PUBLIC["sqrt"](PUBLIC["sum"](x * x))


def _alike(*given: Any) -> list:
    """Numbers and arrays beside tensors, as tensors of their dtype."""
    like = next(v for v in given if isinstance(v, Tensor))
    return [PUBLIC["as_tensor"](v, dtype=like.dtype) if isinstance(v, (int, float, np.ndarray, np.generic)) else v for v in given]


def _own(name: str) -> Callable:
    def own(*given: Any, **options: Any) -> Any:
        if len(given) > 1 and not isinstance(given[1], (tuple, list)) and name in TWO:
            given = tuple(_alike(*given))
        return PUBLIC[name](*given, **options)
    return own


TWO = {"atan2", "hypot", "copysign", "maximum", "minimum", "add", "sub", "mul", "div", "logaddexp", "outer"}
SPECIAL = {math.log: _log, np.log: _log, math.gamma: _gamma, math.pow: lambda x, y: x ** y, np.power: lambda x, y: x ** y,
           np.max: _extreme("amax"), np.min: _extreme("amin"), np.dot: _dot, np.cumsum: _cumsum, np.stack: _joined("stack"),
           np.concatenate: _joined("cat"), np.matmul: _dot, np.linalg.norm: _norm,
           np.std: _spread("std"), np.var: _spread("var"),
           math.dist: lambda p, q: _norm(p - q), np.array: lambda x: x, np.asarray: lambda x: x, math.fsum: sum}


def _counterpart(original: Callable) -> Callable | None:
    """The function of tensors that stands for one of `math` or NumPy; None where there is none."""
    special = SPECIAL.get(original)
    if special is not None:
        return special
    name = original.__name__ if original in SAME else record_of(original)
    return _own(name) if name in PUBLIC else None


def _function(original: Callable, label: str) -> Callable:
    """A function of `math` or NumPy that takes tensors too."""
    own = _counterpart(original)

    def stand_in(*given: Any, **options: Any) -> Any:
        if original is math.fsum and given and not isinstance(given[0], (Tensor, np.ndarray)):
            given = (list(given[0]), *given[1:])
        if not any(map(_tensors, given)) and not any(map(_tensors, options.values())):
            return original(*given, **options)
        if original in ROUNDED:
            return original(given[0].item())            # a whole number: its derivative is zero wherever it has one
        if original in (math.isnan, math.isinf, math.isfinite):
            return bool(PUBLIC[original.__name__](*given))
        if own is None:
            raise TypeError(f"{label} cannot be differentiated here: it takes no tensors{_line()}; "
                            "write it with functions of engine")
        if original in JOINING:
            return own(*given, **options)
        return own(*map(stacked, given), **options)
    return stand_in


class _Float(type):
    """`float` for code that works on tensors: a floating tensor stays what it is."""

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, float)

    def __call__(cls, *given: Any) -> Any:
        if given and isinstance(given[0], Tensor) and given[0].numel() == 1 and given[0].is_floating_point():
            return given[0].reshape(())
        return float(*given)

    def __getattr__(cls, name: str) -> Any:
        return getattr(float, name)


class Float(metaclass=_Float):
    """Stands for `float`."""


class _Module:
    """A module whose functions take tensors."""

    def __init__(self, module: types.ModuleType):
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return stand_in(getattr(self._module, name), f"{self._module.__name__}.{name}")


def _is_ours(found: Any) -> bool:
    return isinstance(found, types.ModuleType) and (found is math or found.__name__.partition(".")[0] == "numpy")


def stand_in(found: Any, label: str) -> Any:
    """What stands for a module or function of `math` or NumPy; anything else is given back as it is."""
    if _is_ours(found):
        return _Module(found)
    if found is float:
        return Float
    if isinstance(found, type) or not callable(found):
        return found
    home = getattr(found, "__module__", None) or ""
    if isinstance(found, np.ufunc) or home == "math" or home.partition(".")[0] == "numpy":
        return _function(found, label)
    return found


# --- copies of functions ---------------------------------------------------------------------------------------------------

def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


class _Copies:
    """The copies that one call of a function needs, made from the globals and closures of that moment."""

    def __init__(self) -> None:
        self.made: dict[int, Any] = {}
        self.spaces: dict[int, dict] = {}                           # by id of the globals that they copy
        self.written: list[tuple[dict, dict, set[str]]] = []        # the user's globals, ours, names that the code assigns

    def of(self, found: Any, label: str, depth: int = 0) -> Any:
        """A stand-in or a copy; the thing itself where nothing in it needs one."""
        plain = getattr(found, "py_func", None)             # a function that Numba compiles
        if isinstance(plain, types.FunctionType) and type(found).__module__.partition(".")[0] == "numba":
            found = plain
        if isinstance(found, functools.partial):
            inner = self.of(found.func, label, depth)
            return found if inner is found.func else functools.partial(inner, *found.args, **found.keywords)
        if isinstance(found, types.MethodType):
            inner = self.of(found.__func__, label, depth)
            return found if inner is found.__func__ else types.MethodType(inner, found.__self__)
        if not isinstance(found, types.FunctionType):
            return stand_in(found, label)
        if (found.__module__ or "").partition(".")[0] in OWN:
            return stand_in(found, label)
        if id(found) not in self.made:
            self.made[id(found)] = found if depth > MOST_DEEP else self._copy(found, depth)
        return self.made[id(found)]

    def _copy(self, function: types.FunctionType, depth: int) -> types.FunctionType:
        code, closure = function.__code__, function.__closure__ or ()
        inner = list(_codes(code))
        assigned = {(i.opname, i.argval) for c in inner for i in dis.get_instructions(c) if i.opname.startswith("STORE_")}
        space = self.spaces.setdefault(id(function.__globals__), dict(function.__globals__))
        cells = [old if ("STORE_DEREF", name) in assigned else types.CellType()         # what is assigned stays shared
                 for name, old in zip(code.co_freevars, closure, strict=True)]
        copy = types.FunctionType(code, space, function.__name__, function.__defaults__, tuple(cells))
        copy.__kwdefaults__, copy.__module__ = function.__kwdefaults__, function.__module__
        copy.__qualname__ = function.__qualname__
        self.made[id(function)] = copy                      # for functions that call themselves
        changed = False
        for cell, old in zip(cells, closure, strict=True):
            try:
                value = old.cell_contents
            except ValueError:                              # a name that is not bound yet
                continue
            if cell is old:
                continue
            cell.cell_contents = self.of(value, getattr(value, "__name__", ""), depth + 1)
            changed = changed or cell.cell_contents is not value
        theirs = function.__globals__
        for name in sorted({n for c in inner for n in c.co_names}):
            value = theirs.get(name, float if name == "float" else None)
            other = self.of(value, name, depth + 1)
            if other is not value:
                space[name] = other
                changed = True
        if not changed:
            self.made[id(function)] = function
            return function
        stores = {name for opname, name in assigned if opname == "STORE_GLOBAL"}
        if stores:
            self.written.append((theirs, space, stores))
        return copy

    def write_back(self) -> None:
        """Give the user's globals what the code has assigned."""
        for theirs, ours, names in self.written:
            theirs.update({n: ours[n] for n in names if n in ours})


# --- values that leave -----------------------------------------------------------------------------------------------------

def _lost() -> None:
    raise GradError(f"a value that depends on x leaves as a Python float, so its derivative would be lost{_line()}; use a function "
                    "of math, NumPy or engine that is named in the code, or .item() if it is a constant")


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Raise GradError where a tensor that is differentiated becomes a Python float without being asked to."""
    before, modes.lost = modes.lost, _lost
    try:
        yield
    finally:
        modes.lost = before


def of_scalars(fun: Callable) -> Callable:
    """A function written with scalars, `math` and NumPy, as one of tensors, for engine.func, engine.compile and engine.optimize.

    Lists and tuples of scalars in its result become one tensor. The solvers of engine.optimize do this by themselves.
    GradError where a number that depends on the arguments leaves as a Python float; TypeError where a function of NumPy or `math`
    that has no counterpart gets a tensor.
    """
    called = vars(type(fun)).get("__call__")
    if (isinstance(called, types.FunctionType) and not isinstance(fun, types.FunctionType)
            and (called.__module__ or "").partition(".")[0] not in OWN):
        fun = types.MethodType(called, fun)             # an object of a class of the user's

    @functools.wraps(fun, updated=())
    def of_tensors(*given: Any, **options: Any) -> Any:
        copies = _Copies()
        function = copies.of(fun, getattr(fun, "__name__", "function"))
        try:
            with watched():
                return stacked(function(*given, **options))
        finally:
            copies.write_back()
    return of_tensors
