"""Public functions, methods, in-place methods and Python operators of all pointwise records, derived from the book."""
from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from kernels.book import BOOK, Pointwise

from .. import dispatch
from ..tensor import Tensor
from .registry import PUBLIC

NUMBERS = (bool, int, float, complex)
_TYPES = {1: {"input": "Tensor", "return": "Tensor"}, 2: {"input": "Tensor", "other": "Tensor | complex", "return": "Tensor"},
          3: {"x": "Tensor", "y": "Tensor | complex", "z": "Tensor | complex", "return": "Tensor"}}


def install() -> None:
    """Publish every pointwise record that has no hand-written front."""
    for op in list(BOOK.values()):
        if isinstance(op, Pointwise):
            publish(op)


def publish(op: Pointwise) -> None:
    """Publish one record under its names."""
    caller = op.apply
    hot = {1: caller.unary, 2: caller.binary}.get(len(op.inputs), caller.several)()
    function = public_function(op, hot)
    hot.__name__, hot.__qualname__, hot.__doc__ = op.name, f"Tensor.{op.name}", function.__doc__
    hot.__annotations__ = _TYPES[min(len(op.inputs), 3)]
    for name in (op.name, *op.aliases):
        if op.function and name not in PUBLIC:
            PUBLIC[name] = function
        if op.method and name not in Tensor.__dict__:
            setattr(Tensor, name, hot if len(op.inputs) < 3 else function)
        if op.inplace and name + "_" not in Tensor.__dict__:
            method = dispatch.inplace(hot, op)
            method.__name__, method.__doc__ = name + "_", f"In-place version of `{name}`."
            setattr(Tensor, name + "_", method)
    for name in op.python:
        if name.startswith("__r") and len(op.inputs) == 2 and name != "__rshift__":
            setattr(Tensor, name, reflected(op))
        elif len(op.inputs) == 2:
            method = caller.binary(operator=True)
            method.__annotations__ = _TYPES[2]
            setattr(Tensor, name, method)
            if op.inplace and name not in ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"):
                setattr(Tensor, f"__i{name[2:]}", dispatch.inplace(hot, op))
        else:
            setattr(Tensor, name, hot)


def public_function(op: Pointwise, hot: Callable) -> Callable:
    """The public function with PyTorch's argument names and `out=`."""
    arguments = op.arguments or (("input",) if len(op.inputs) == 1 else ("input", "other", *op.inputs[2:]))
    made = _template(arguments)
    function = types.FunctionType(made.__code__, {"hot": hot, "general": op.apply}, op.name)
    function.__kwdefaults__, function.__annotations__ = {"out": None}, made.__annotations__
    function.__qualname__, function.__module__ = op.name, "engine"
    function.__doc__ = op.doc + (f"\n\nSource: {op.source}." if op.source else "")
    return function


@functools.cache
def _template(arguments: tuple[str, ...]) -> Callable:
    """A function of these arguments; its code serves every operator that has them, as compiling it takes 0.1 ms."""
    names = ", ".join(arguments)
    given = ", ".join([f"{name}: Tensor | complex" if k else f"{name}: Tensor" for k, name in enumerate(arguments)])
    space: dict = {}
    exec(f"def template({given}, *, out: Tensor | None = None) -> Tensor:\n"
         f"    return hot({names}) if out is None else general({names}, out=out)\n", space)
    return space["template"]


def reflected(op: Pointwise) -> Callable:
    """`number OP tensor`, `array OP tensor`."""
    caller = op.apply
    name = {"sub": "RsubBackward1"}.get(op.name)
    hot = (caller.named(name) if name else caller).binary()

    def method(self: Tensor, other: Tensor | complex) -> Any:
        if isinstance(other, (np.generic, np.ndarray)):
            other = dispatch.operand(op.name, other)
            if isinstance(other, Tensor):
                return hot(other, self)
        if isinstance(other, NUMBERS):
            kind = self._kind
            if kind.dtype.category >= 2 and other.__class__ is not complex:
                other = dispatch.constant(other, kind)
            return hot(other, self)
        return NotImplemented
    return method
