"""Question: what do CUDA kernels move and issue, against the least possible? Counted without a GPU, by the interpreter of PTX.

One row a template and case: bytes of global memory moved in whole sectors against the least (each operand once), warp accesses
that are fully coalesced, bank conflicts in shared memory, operations for each byte, warp instructions for each result, registers
and spills as the assembler reports them. Times are not to be had here. Called by `python -m perf --gpu`.
"""
from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

HEAD = ("case", "launches", "moved / least", "coalesced", "conflicts", "flop / byte", "warp instr / result", "registers", "spills")
CAPABILITY = (9, 0)


def cases(device) -> list[tuple[str, Callable[[], tuple[list, list]]]]:
    """(name, function giving the launches and the views that must be moved at least once)."""
    import kernels.ops  # noqa: F401 fills the book
    from kernels.book import BOOK
    from kernels.cuda import fold_plans, launch, matmul, pointwise, softmax, transposes
    from kernels.source import results_of

    def views(dtypes, shape):
        return [device.put(np.ones(shape, d)) for d in dtypes]

    def mapped(about, shape=(1 << 14,)):
        def make():
            outs, ins = [device.empty(d, shape) for d in about.out_types], views(about.in_types, shape)
            return launch.pointwise(about, outs, ins), [*outs, *ins]
        return about.name, make

    def row_added():
        about = pointwise.forward(BOOK["add"], "float32")
        x, bias, out = device.put(np.ones((64, 256), "f4")), device.put(np.ones(256, "f4")), device.empty("float32", (64, 256))
        return launch.pointwise(about, [out], [x, bias]), [x, bias, out]

    def folded(name, shape, dims):
        def make():
            op = BOOK[name]
            kept = [n for d, n in enumerate(shape) if dims is not None and d not in dims]
            x, outs = device.put(np.ones(shape, "f4")), [device.empty(d, kept) for d in results_of(op, "float32")]
            return fold_plans.fold(op, x, dims, outs, (), device.memory.allocate), [x, *outs]
        return f"{name} of {' x '.join(map(str, shape))} over {'all' if dims is None else dims}", make

    def softened(shape, dim):
        def make():
            x, out = device.put(np.ones(shape, "f4")), device.empty("float32", shape)
            return softmax.softmax("softmax", out, [x], dim), [x, out]
        return f"softmax of {' x '.join(map(str, shape))} over {dim}", make

    def turned(dtype):
        def make():
            x, out = device.put(np.ones((128, 192), dtype)), device.empty(dtype, (192, 128))
            return transposes.copy(out, launch.View(x.address, dtype, (192, 128), x.strides[::-1])), [x, out]
        return f"transposition, {dtype}", make

    def product(dtype, n, k, m):
        def make():
            a, b, out = device.put(np.ones((n, k), dtype)), device.put(np.ones((k, m), dtype)), device.empty(dtype, (n, m))
            tile = matmul.SHAPES[dtype].large
            return matmul.matmul(out, a, b, tile), [a, b, out]
        return f"matrix product of {dtype}, tile of {matmul.SHAPES[dtype].large}, {n} x {k} x {m}", make

    return [mapped(pointwise.forward(BOOK["add"], "float32")), mapped(pointwise.forward(BOOK["exp"], "float32")),
            mapped(pointwise.forward(BOOK["mul"], "float16")), mapped(pointwise.forward(BOOK["mul"], "complex64")),
            mapped(pointwise.gradient(BOOK["tanh"], "float32", (True,))), mapped(pointwise.cast("float64", "float32")),
            ("add_float32, a row to each row", row_added),
            folded("sum", (1 << 18,), None), folded("sum", (512, 256), (1,)), folded("sum", (32, 4096), (1,)),
            folded("sum", (256, 1024), (0,)), folded("sum", (8, 64, 256), (1,)), folded("argmax", (32, 4096), (1,)),
            softened((64, 256), 1), softened((8, 2048), 1), softened((64, 256), 0), turned("float32"), turned("float16"),
            product("float32", 128, 256, 256), product("float64", 64, 128, 128), product("float16", 128, 256, 256)]


def measure() -> list[tuple]:
    """The rows of the table."""
    from kernels.cuda import compiler, emulator
    device = emulator.Emulator(CAPABILITY)
    rows = []
    for name, make in cases(device):
        launches, needed = make()
        counts = device.run(launches)
        least = sum(math.prod(v.shape) * np.dtype(v.dtype).itemsize for v in needed)
        results = math.prod(needed[0].shape) or 1
        reports = [compiler.assemble(compiler.ptx(x.program, CAPABILITY), CAPABILITY)[1][x.program.symbol] for x in launches]
        rows.append((name, len(launches), counts.moved / least, counts.coalescing, counts.bank_conflicts, counts.intensity,
                     counts.issued / results, max(r.registers for r in reports), sum(r.spilled for r in reports)))
    return rows


def text(rows: list[tuple]) -> str:
    """The table as lines of text."""
    shown = [HEAD, *((name, str(launches), f"{ratio:.3f}", f"{100 * coalesced:.1f} %", str(conflicts), f"{intensity:.2f}",
                      f"{instructions:.2f}", str(registers), str(spills))
                     for name, launches, ratio, coalesced, conflicts, intensity, instructions, registers, spills in rows)]
    widths = [max(len(row[k]) for row in shown) for k in range(len(HEAD))]

    def line(cells: tuple) -> str:
        first, *others = zip(cells, widths, strict=True)
        return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])
    return "\n".join(map(line, shown))


def main() -> int:
    """Print the table; returns 0, or 2 where numba-cuda is not installed."""
    import sys
    try:
        rows = measure()
    except ImportError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"CUDA kernels for compute capability {CAPABILITY[0]}.{CAPABILITY[1]}, by the interpreter of PTX; no GPU was used")
    print(text(rows))
    return 0
