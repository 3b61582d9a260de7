"""Pointwise kernels: from expressions of scalar functions to programs, for forward and for gradients.

    >>> print(map_program("add", ["x", "y"], [add(Symbol("x"), Symbol("y"))], ...).source)
    @inline
    def body(x, y):
        v0 = op_add(x, y)
        return v0

    def kernel(args, dimensions, steps, data):
        n = dimensions[0]
        p0, p1, q0 = args[0], args[1], args[2]
        s0, s1, t0 = steps[0], steps[1], steps[2]
        if s0 == 4 and s1 == 4 and t0 == 4:
            for i in range(n):
                r0 = body(load_float32(p0, i * 4), load_float32(p1, i * 4))
                store_float32(q0, i * 4, as_float32(r0))
        ...                                       # one operand a scalar (stride 0); then any strides

One compile serves all ranks and strides: NumPy's iterator calls the loop for each innermost run. Large calls whose operands
are not all dense use the same kernel over rows (`Program.rows`, compiled when first needed), see `kernels.cpu.sheets`:

        if s0 == 4 and s1 == 4 and t0 == 4:
            for j in range(rows):
                a0, a1, b0 = j * u0, j * u1, j * v0
                for i in range(n): ...
        ...
"""
from __future__ import annotations

import itertools

from ..book import Pointwise
from ..source import FLOATING, ITEMSIZE, cast_value, gradient_plan, gradient_types, loaded, number_text, stored
from ..symbol import Symbol, lines
from .native import Program


def map_program(name: str, names: list[str], outputs: list, in_types: tuple[str, ...], out_types: tuple[str, ...],
                compute: str, work: int = 1, numbers: tuple[str, ...] = (), rows: bool = False) -> Program:
    """The program of a pointwise kernel: `outputs` are expressions in the input `names`, computed in dtype `compute`.

    `numbers` names inputs that have one value (stride 0) in the vectorised branches. With `rows` the kernel walks many rows:
    `data` points to their count and to each operand's step from one to the next.
    """
    literal = "float64" if compute == "bool" else compute
    statements, results, operators = lines(outputs, lambda number: number_text(number, literal))
    nin, nout = len(in_types), len(out_types)
    p, s, u, a = ([f"{letter}{k}" for k in range(nin)] for letter in "psua")
    q, t, v, b = ([f"{letter}{k}" for k in range(nout)] for letter in "qtvb")
    sizes_in, sizes_out = [ITEMSIZE[d] for d in in_types], [ITEMSIZE[d] for d in out_types]
    single = tuple(k for k, n in enumerate(names) if n in numbers)
    many = [k for k in range(nin) if k not in single]
    at = (lambda start, step: f"{start} + i * {step}") if rows else (lambda start, step: f"i * {step}")

    def run(steps_in, steps_out, scalars=()):
        values = [f"c{k}" if k in scalars else loaded(in_types[k], p[k], at(a[k], steps_in[k])) for k in range(nin)]
        return [f"{', '.join(f'r{k}' for k in range(nout))} = body({', '.join(values)})",
                *(stored(out_types[k], q[k], at(b[k], steps_out[k]), f"r{k}") for k in range(nout))]
    row = [f"{', '.join(a + b)} = {', '.join(f'j * {step}' for step in u + v)}"] if rows else []
    code = [f"@inline\ndef body({', '.join(names)}):", *("    " + line for line in statements),
            f"    return {', '.join(results)}", "", "def kernel(args, dimensions, steps, data):", "    n = dimensions[0]",
            f"    {', '.join(p + q)} = {', '.join(f'args[{k}]' for k in range(nin + nout))}",
            f"    {', '.join(s + t)} = {', '.join(f'steps[{k}]' for k in range(nin + nout))}"]
    if rows:
        code += ["    sheet = address(data)",
                 f"    rows, {', '.join(u + v)} = {', '.join(f'word(sheet, {k})' for k in range(nin + nout + 1))}"]
    out_test = " and ".join(f"{t[k]} == {sizes_out[k]}" for k in range(nout))
    word = "if"
    for pattern in _scalar_patterns(len(many)):
        scalars = (*(many[k] for k in pattern), *single)
        tests = [f"{s[k]} == {0 if k in scalars else sizes_in[k]}" for k in range(nin)]
        code.append(f"    {word} {' and '.join([*tests, out_test])}:")
        inner = [*row, *(f"c{k} = {loaded(in_types[k], p[k], a[k] if rows else '0')}" for k in scalars),
                 "for i in range(n):", *("    " + line for line in run(sizes_in, sizes_out, scalars))]
        code += ["        for j in range(rows):", *("            " + line for line in inner)] if rows else [
            "        " + line for line in inner]
        word = "elif"
    code.append("    else:")
    inner = [*row, "for i in range(n):", *("    " + line for line in run(s, t))]
    code += ["        for j in range(rows):", *("            " + line for line in inner)] if rows else [
        "        " + line for line in inner]
    if any(d in FLOATING for d in (*in_types, *out_types)):
        code.append("    clear_status()")      # all five exceptions: NumPy would warn of them, PyTorch does not
    return Program(name + "_rows" * rows, "\n".join(code) + "\n",
                   functions={f"op_{o.name}": o.body(compute) for o in operators},
                   inputs=tuple(in_types), outputs=tuple(out_types), work=work,
                   rows=None if rows else (
                       lambda: map_program(name, names, outputs, in_types, out_types, compute, work, numbers, rows=True)))


def _scalar_patterns(nin: int) -> list[tuple[int, ...]]:
    """Which inputs are scalars in the vectorised branches: none, each single one, and all but the first of three."""
    if nin == 1 or nin > 3:
        return [()]
    singles = [(k,) for k in range(nin)]
    return [(), *singles] if nin == 2 else [(), *singles, *itertools.combinations(range(1, nin), 2)]


def forward_program(op: Pointwise, dtype: str) -> Program:
    """The kernel of a pointwise operator computed in `dtype`."""
    result = op.result(dtype)
    results = result if isinstance(result, tuple) else (result,)
    names = list(op.inputs)
    return map_program(f"{op.name}_{dtype}", names, [Symbol("", op, [Symbol(n) for n in names])],
                       op.operand_types(dtype), results, dtype, op.work, op.numbers)


def gradient_program(op: Pointwise, dtype: str, mask: tuple[bool, ...]) -> Program:
    """One kernel for all wanted gradients of an operator: reads the cotangent and what the partials mention."""
    wanted, names = gradient_plan(op, dtype.startswith("complex"), mask)
    types, targets = gradient_types(op, dtype, mask)
    return map_program(f"{op.name}_gradient_{''.join('01'[m] for m in mask)}_{dtype}", list(names), list(wanted),
                       types, targets, dtype, op.work, op.numbers)


def whole_program(name: str, operators: tuple[Pointwise, ...], dtype: str, mask: tuple[bool, ...]) -> Program:
    """One kernel for all results of operators of the same inputs, then the partial derivatives of each by the inputs of `mask`."""
    inputs = operators[0].inputs
    xs = [Symbol(n) for n in inputs]
    values = [Symbol("", op, xs) for op in operators]
    partials = [p for op in operators if op.partials is not None and any(mask)
                for p, m in zip(op.partials(*xs, Symbol("out")), mask, strict=True) if m]
    targets = (*(op.result(dtype) for op in operators), *[dtype] * len(partials))
    name = "_".join([name, *["".join("01"[m] for m in mask)] * bool(mask), dtype])
    return map_program(name, list(inputs), [*values, *partials],
                       operators[0].operand_types(dtype), targets, dtype, operators[0].work)


def cast_program(source: str, target: str) -> Program:
    """Conversion between dtypes: to bool by comparison with zero, complex to real drops the imaginary part."""
    return map_program(f"cast_{source}_{target}", ["x"], [cast_value(source, target)], (source,), (target,), source)
