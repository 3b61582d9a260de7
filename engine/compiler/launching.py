"""Operators of the book as kernels that a program calls itself, instead of the operator's Python function.

Each entry of `LAUNCHED` appends to a program the memory and the kernels of one call and gives True, or gives False where the
operands are not what the kernels are for; the operator is called then. Called by `program`.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from kernels.cpu import panels, pool

from .graph import Call, Ref

if TYPE_CHECKING:
    from .program import Executable

FLOATS = ("float32", "float64")


def dense(ref: Ref) -> bool:
    """Whether a view's elements lie one after another in row-major order."""
    step = 1
    for n, s in zip(reversed(ref.shape), reversed(ref.strides), strict=True):
        if n != 1 and s != step:
            return False
        step *= n
    return True


def _matmul(program: Executable, node: Call) -> bool:
    """A product of small matrices: tiles in registers, where that is faster than BLAS (`kernels.cpu.panels`)."""
    (x, y), out = node.operands, node.values[0]
    dtype = out.dtype
    if x.dtype != dtype or y.dtype != dtype or not dense(out.whole()) or not panels.serves(dtype, *x.shape, y.shape[1]):
        return False
    kernel = f"product_{dtype}"
    if kernel not in program.space:
        program.space[kernel] = panels.product_ufunc(dtype)
    program.allocate(out)
    program.launch(kernel, [program.array(x), program.array(y), out.name])
    return True


def _scores(x: Ref, target: Ref) -> bool:
    """Whether the kernels of cross entropy take these as they are."""
    return x.dtype in FLOATS and len(x.shape) == 2 and x.size > 0 and dense(x) and target.dtype == "int64"


def _word(program: Executable, number: int) -> str:
    """The name of a constant int64."""
    name = f"word{number}".replace("-", "_")
    program.space[name] = np.array(number, np.int64)
    return name


def _cross_entropy(program: Executable, node: Call) -> bool:
    """Loss and weight of each row, then their totals; a class out of bounds raises before anything else is computed."""
    from kernels.cpu import softmax
    from kernels.ops.losses import out_of_bounds
    x, target, weight = node.operands
    if not _scores(x, target) or len(node.values) != 2:
        return False
    (rows, classes), dtype, options = x.shape, x.dtype, node.options
    apart = options["reduction"] == "none"
    value, total = node.values
    program.space.update({f"rows_{dtype}": softmax.rows_ufunc("cross_entropy", dtype), "out_of_bounds": out_of_bounds,
                          f"totals_{dtype}": softmax.totals_ufunc(dtype)})
    if x.size >= pool.GRAIN // 4:
        program.ensure()
    if apart:
        program.allocate(value)
    losses = value if apart else program.part((rows,), dtype)
    weights, faults = program.part((rows,), dtype), program.part((rows,), "int64")
    program.launch(f"rows_{dtype}", [program.array(x), program.array(target), f"{program.array(weight)}.reshape(-1)",
                                     _word(program, options["ignore_index"]), losses.name, weights.name, faults.name])
    if not apart:
        program.allocate(value)
    program.allocate(total)
    whole = program.part((), dtype) if apart else value
    count = program.part((), "int64")
    program.launch(f"totals_{dtype}", [losses.name, weights.name, faults.name, _word(program, int(options["reduction"] == "mean")),
                                       whole.name, total.name, count.name])
    program.say(f"if {count.name}:")
    program.say(f"    raise out_of_bounds({program.array(target)}, {classes}, {options['ignore_index']})")
    return True


def _cross_entropy_gradient(program: Executable, node: Call) -> bool:
    """The gradient by the scores, row by row."""
    from kernels.cpu import softmax
    c, x, target, weight, total = node.operands
    out = node.values[0]
    if not _scores(x, target) or not dense(out.whole()) or c.dtype != x.dtype:
        return False
    options, kernel = node.options, f"rows_gradient_{x.dtype}"
    program.space.update({kernel: softmax.rows_gradient_ufunc(x.dtype), f"one_{x.dtype}": np.ones((), x.dtype)})
    if x.size >= pool.GRAIN // 4:
        program.ensure()
    program.allocate(out)
    divisor = program.array(total) if options["reduction"] == "mean" else f"one_{x.dtype}"
    program.launch(kernel, [program.array(x), program.array(target), f"{program.array(weight)}.reshape(-1)",
                            _word(program, options["ignore_index"]), program.array(c), divisor, out.name])
    return True


LAUNCHED: dict[str, Callable[[Executable, Call], bool]] = {
    "matmul": _matmul, "cross_entropy": _cross_entropy, "cross_entropy_gradient": _cross_entropy_gradient}
