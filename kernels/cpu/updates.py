"""Kernels of update rules: parameter, gradient and states of an optimizer in one pass, in place, on several threads.

    >>> print(update_program(sgd_momentum, "float32").source)
    @inline
    def body(p, g, v, sign, ...):
        ...
        return v9, v5

    def kernel(args, dimensions, steps, data):
        about = load_int64(args[1], 0)              # address of: address of p, of the numbers, of the states
        p, g, numbers = args[2], args[0], pointer(word(about, 1))
        start = address(p) - word(about, 0)
        s0 = pointer(word(about, 2) + start)
        x0 = as_float32(load_float64(numbers, 0))
        ...
        for i in range(dimensions[0]):
            r0, r1 = body(load_float32(p, i * 4), load_float32(g, i * 4), load_float32(s0, i * 4), x0, ...)
            store_float32(p, i * 4, as_float32(r0))
            store_float32(s0, i * 4, as_float32(r1))

The ufunc is called as `ufunc(gradient, block, parameter)`: three operands, however many states there are, for NumPy's
quick path; states are found by their addresses. Called by `engine.optim.updating`, which makes sure that all arrays have one
dense layout, are aligned, and stay alive.
"""
from __future__ import annotations

import functools

import numpy as np

from ..symbol import Symbol, lines
from ..updates import Update
from .maps import ITEMSIZE, loaded, stored
from .native import Program, make_ufunc


def update_program(update: Update, dtype: str) -> Program:
    """The program of an update rule for parameters of a floating dtype (float16 is computed in float32)."""
    code = update.formula.__code__
    operands, size = code.co_varnames[:code.co_argcount], ITEMSIZE[dtype]
    numbers = {name: Symbol(name) for name in update.numbers}
    outputs = update.formula(*(Symbol(name) for name in operands), **numbers)
    statements, results, operators = lines(outputs, lambda number: f"as_{dtype}({number!r})")
    states = [f"s{k}" for k in range(len(update.states))]
    targets = ["p", *states]
    values = [loaded(dtype, pointer, f"i * {size}") for pointer in ("p", "g", *states)]
    source = [
        "@inline", f"def body({', '.join([*operands, *numbers])}):", *("    " + s for s in statements),
        f"    return {', '.join(results)}", "", "def kernel(args, dimensions, steps, data):",
        "    about = load_int64(args[1], 0)", "    p, g, numbers = args[2], args[0], pointer(word(about, 1))",
        "    start = address(p) - word(about, 0)",
        *(f"    {s} = pointer(word(about, {2 + k}) + start)" for k, s in enumerate(states)),
        *(f"    x{k} = as_{dtype}(load_float64(numbers, {8 * k}))" for k in range(len(numbers))),
        "    for i in range(dimensions[0]):",
        f"        {', '.join(f'r{k}' for k in range(len(targets)))} = "
        f"body({', '.join(values + [f'x{k}' for k in range(len(numbers))])})",
        *("        " + stored(dtype, t, f"i * {size}", f"r{k}") for k, t in enumerate(targets)),
        "    clear_status()"]
    return Program(f"update_{update.name}_{dtype}", "\n".join(source) + "\n",
                   functions={f"op_{o.name}": o.body(dtype) for o in operators},
                   inputs=(dtype, "int64"), outputs=(dtype,))


@functools.cache
def update_ufunc(update: Update, dtype: str) -> np.ufunc:
    """The loaded kernel of an update rule."""
    return make_ufunc(update_program(update, dtype))
