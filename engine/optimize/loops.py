"""Objectives written with loops over elements, as kernels of their own: the loop stays a loop, derivatives run beside the value.

A trace would unroll `for i in range(len(x))` into thousands of statements. `read` makes of such a function two kernels, of its
value and of its value and gradient (`kernels.derive_arrays`), where it can; all else is left to the trace. Called by `objective`.
"""
from __future__ import annotations

import math
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from kernels.cpu.native import Program, make_kernel
from kernels.derive import SourceError
from kernels.derive_arrays import ARRAY, ITEMSIZE, Loops
from kernels.solvers.machine import FIRST_CAPTURED, SLOTS, VALUE, VALUE_AND_GRAD

from ..compiler import native
from ..tensor import Tensor

DIRECTIONS = (1, 2, 4, 8)           # elements of the gradient that one pass may give

_KERNEL = """
def kernel(args, dimensions, steps, data):
    n = dimensions[1]
    for outer in range(dimensions[0]):
        x = pointer(address(args[0]) + outer * steps[0])
{operands}
{results}
"""
_VALUE = "        store_T(args[{f}], outer * steps[{f}], as_T({name}({given})))"
_BOTH = """        g = address(args[{g}]) + outer * steps[{g}]
        for first in range(0, n, {directions}):
            found = {name}({given}, first)
            if first == 0:
                store_T(args[{f}], outer * steps[{f}], as_T(found[0]))
            rest = pointer(g + first * SIZE)
{stores}"""
_STORE = """            if first + {d} < n:
                store_T(rest, {d} * SIZE, as_T(found[{place}]))"""


def read(fun: Callable, shape: tuple[int, ...], dtype: np.dtype, args: tuple) -> LoopKernels | None:
    """The kernels of a function of one array and of arrays and numbers in `args`; None for what a trace shall look at."""
    function = getattr(fun, "py_func", fun)
    if not isinstance(function, types.FunctionType) or len(shape) != 1 or dtype.name not in ITEMSIZE:
        return None
    names = function.__code__.co_varnames[:function.__code__.co_argcount]
    if not names or len(args) > len(names) - 1:
        return None
    kinds = {names[0]: ARRAY}
    for name, value in zip(names[1:], args, strict=False):
        kind = _kind(value, dtype)
        if kind is None:
            return None
        kinds[name] = kind
    try:
        loops = Loops(function, kinds, names[0], dtype.name)
        text = loops.written(0)
        if text.result not in ("float", "int") or not loops.walks():
            return None
        directions = next((d for d in DIRECTIONS if d >= shape[0]), DIRECTIONS[-1])
        return LoopKernels(function, loops, {VALUE: text, VALUE_AND_GRAD: loops.written(directions)}, directions, args)
    except SourceError:
        return None


def _kind(value: Any, dtype: np.dtype) -> str | None:
    """The kind of an argument; None where a kernel cannot take it."""
    if isinstance(value, Tensor):
        value = value._array
    if isinstance(value, np.ndarray):
        return ARRAY if value.ndim == 1 and value.dtype == dtype and value.flags.c_contiguous else None
    return {int: "int", float: "float"}.get(type(value), "float" if isinstance(value, np.floating) else None)


class LoopKernels:
    """The kernels of an objective: `answer` runs one, `table` is what the solvers run."""

    def __init__(self, function: Callable, loops: Loops, texts: dict[int, types.FunctionType], directions: int, args: tuple):
        self.function, self.loops, self.texts, self.directions = function, loops, texts, directions
        self.kinds = [loops.kinds[name] for name in loops.inputs]
        self.ufuncs: dict[int, np.ufunc] = {}
        self.outside = list(loops.outside.values())
        self.numbers = [np.asarray(a, np.int64 if k == "int" else loops.dtype) for a, k in zip(args, self.kinds[1:], strict=False)
                        if k != ARRAY]

    def _operands(self, args: tuple) -> list[np.ndarray]:
        numbers = iter(self.numbers)
        return [next(numbers) if kind != ARRAY else a._array if isinstance(a, Tensor) else a
                for a, kind in zip(args, self.kinds[1:], strict=False)] + self.outside

    def agrees(self, request: int, x: np.ndarray, args: tuple) -> bool:
        """Whether a kernel gives at x what the function gives when Python runs it on NumPy's numbers."""
        plain = [np.array(a._array) if isinstance(a, Tensor) else a for a in args]
        try:
            with np.errstate(all="ignore"):
                expected = float(self.function(x.copy(), *plain))
        except Exception:           # whatever it is, the trace will meet it and say so
            return False
        found = float(self.answer(request, x, args)[0])
        tolerance = 1e-4 if self.loops.dtype == "float32" else 1e-9
        return expected == found or (expected != expected and found != found) or math.isclose(
            expected, found, rel_tol=tolerance, abs_tol=tolerance)

    def _ufunc(self, request: int) -> np.ufunc:
        if request not in self.ufuncs:
            self.ufuncs[request] = make_kernel(self.program(request))
        return self.ufuncs[request]

    def program(self, request: int) -> Program:
        """The kernel of VALUE or VALUE_AND_GRAD, a gufunc of x and the arguments."""
        text, dtype = self.texts[request], self.loops.dtype
        given, lines, core = ["x", "n"], [], ["(n)"]
        for k, kind in enumerate(self.kinds[1:], 1):
            name = f"a{k}"
            if kind == ARRAY:
                core.append(f"(m{k})")
                lines.append(f"{name} = pointer(address(args[{k}]) + outer * steps[{k}])")
                given += [name, f"dimensions[{1 + sum(c != '()' for c in core[:-1])}]"]
            else:
                core.append("()")
                lines.append(f"{name} = load_{'int64' if kind == 'int' else dtype}(args[{k}], outer * steps[{k}])")
                given.append(name)
        f = len(self.kinds)
        about = {"f": f, "g": f + 1, "name": text.__name__, "given": ", ".join(given), "directions": self.directions}
        if request == VALUE:
            results, cores = _VALUE.format(**about), ["()"]
        else:
            about["stores"] = "\n".join(_STORE.format(d=d, place=1 + d) for d in range(self.directions))
            results, cores = _BOTH.format(**about), ["()", "(n)"]
        source = _KERNEL.format(operands="\n".join("        " + line for line in lines), results=results)
        source = source.replace("_T(", f"_{dtype}(").replace("SIZE", str(ITEMSIZE[dtype]))
        inputs = tuple("int64" if k == "int" else dtype for k in self.kinds)
        return Program(f"{self.loops.name}_{'value' if request == VALUE else 'gradient'}", source,
                       functions={text.__name__: (text, dtype)}, inputs=inputs, outputs=(dtype,) * len(cores),
                       signature=f"{','.join(core)}->{','.join(cores)}")

    def answer(self, request: int, x: np.ndarray, args: tuple) -> list[np.ndarray]:
        """The value at x, with VALUE_AND_GRAD also the gradient."""
        found = self._ufunc(request)(x, *self._operands(args), out=...)
        return list(found) if isinstance(found, tuple) else [found]

    def table(self, request: int, x: np.ndarray, args: tuple, captured: dict[int, int]) -> native.Table:
        """What a solver runs. `captured`: by place in `args`, of those that are tensors, which of the captured ones each is."""
        operands = self._operands(args)
        given = [(native.twin(x), SLOTS["x"])]
        for k, place in captured.items():
            operands[k] = native.twin(operands[k])
            given.append((operands[k], FIRST_CAPTURED + place))
        return native.one_launch(self._ufunc(request), [given[0][0], *operands], given,
                                 [SLOTS[name] for name in "fg"[:1 + (request == VALUE_AND_GRAD)]])
