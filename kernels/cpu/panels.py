"""Products of small matrices by kernels of our own: register tiles that run where a compiled program runs, without Python.

A call of BLAS from Python costs as much as a small product itself, and BLAS packs operands that fit the first cache as they are.
Here the second operand is read in strips of columns: as it lies where its rows are contiguous, else turned into a strip on the
stack. Every result is one running sum over k, so that it does not depend on the tile. Called by compiled programs
(`engine.compiler.launching`); eager products are `products.product`'s.
"""
from __future__ import annotations

import functools

import numpy as np

from .convolution import registers
from .maps import ITEMSIZE
from .native import Program, link, make_loop

MOST_WORK = 1 << 20         # multiplications up to which these kernels are faster than BLAS
MOST_SUMMED = 256           # elements of a running sum; rows of a strip on the stack

_SOURCE = """
@inline
def copied(source, step, line, panel, begin, end, first, last):
    for t in range(begin, end):
        for c in range(first, last):
            store_T(pointer(panel), t * STRIP * SIZE + c * SIZE, load_T(pointer(source), t * step + c * line))

@inline
def packed(source, step, line, panel, k, width):
    rows, columns = 0, 0
    if step == SIZE:
        rows, columns = k // SIDE * SIDE, width // SIDE * SIDE
        for t in range(0, rows, SIDE):
            for c in range(0, columns, SIDE):
                turn_square_BITS(SIDE, source + t * SIZE + c * line, line, panel + t * STRIP * SIZE + c * SIZE, STRIP * SIZE)
    copied(source, step, line, panel, 0, rows, columns, width)
    copied(source, step, line, panel, rows, k, 0, width)

def kernel(args, dimensions, steps, data):
    n, k, m = dimensions[0], dimensions[1], dimensions[2]
    panel = address(stack(PANEL))
    x, x_row, x_step = address(args[0]), steps[0], steps[3]
    for j in range(0, m, STRIP):
        width = min(STRIP, m - j)
        y, y_step = address(args[1]) + j * steps[5], steps[4]
        if steps[5] != SIZE:
            packed(y, y_step, steps[5], panel, k, width)
            y, y_step = panel, STRIP * SIZE
        z, z_row = address(args[2]) + j * SIZE, steps[2]
WIDTHS
    clear_status()
"""


def _tiles(dtype: str, rows: int, vectors: int, lanes: int, indent: str) -> list[str]:
    """All rows of a strip of `vectors` vectors; the last tile begins early enough to be whole."""
    call = f"product_tile_{dtype}({{}}, {vectors}, {lanes}, x + i * x_row, x_row, x_step, y, y_step, k, z + i * z_row, z_row)"
    lines = [f"if n >= {rows}:", f"    for start in range(0, n, {rows}):", f"        i = min(start, n - {rows})",
             "        " + call.format(rows), "else:", "    for i in range(n):", "        " + call.format(1)]
    return [indent + line for line in lines]


def product_program(dtype: str) -> Program:
    """(k),(k,m)->(m) over n rows: the product of two matrices, the result's rows contiguous.

    At most MOST_SUMMED rows in a second operand whose own rows are not contiguous.
    """
    size = ITEMSIZE[dtype]
    width, _ = registers()
    lanes = width // size
    rows, vectors = {64: (4, 4), 32: (6, 2)}.get(width, (4, 2))
    strip = lanes * vectors
    code = [f"        if width == {strip}:", *_tiles(dtype, rows, vectors, lanes, " " * 12)]
    while lanes:                        # narrower strips: vectors side by side, the last one ending with the strip
        code += [f"        elif width >= {lanes}:", f"            last = width - {lanes}",
                 f"            for q in range(0, width, {lanes}):",
                 "                moved = (q if q < last else last) * SIZE - begun",
                 "                begun, y, z = begun + moved, y + moved, z + moved", *_tiles(dtype, 2 * rows, 1, lanes, " " * 16)]
        lanes = lanes // 2 if lanes > 4 else 1 if lanes > 1 else 0
    source = _SOURCE.replace("WIDTHS", "        begun = 0\n" + "\n".join(code))
    for name, value in {"PANEL": strip * MOST_SUMMED * size, "STRIP": strip, "SIDE": 8 if size == 4 else 4, "SIZE": size,
                        "BITS": f"uint{8 * size}"}.items():
        source = source.replace(name, str(value))
    return Program(f"small_product_{dtype}", source.replace("_T(", f"_{dtype}("), inputs=(dtype, dtype), outputs=(dtype,),
                   signature="(k),(k,m)->(m)")


@functools.cache
def product_ufunc(dtype: str) -> np.ufunc:
    """`ufunc(x, y, out)` for matrices of float32 or float64 that `serves` says yes to."""
    program = product_program(dtype)
    return make_loop(program, link(program), 0)         # one thread: see `blas.SMALL`


def serves(dtype: str, n: int, k: int, m: int) -> bool:
    """Whether a product of (n, k) and (k, m) is better made here than by BLAS: neither large nor a long thin one."""
    work = n * k * m
    return dtype in ("float32", "float64") and 0 < work <= MOST_WORK and k <= MOST_SUMMED and (
        work <= MOST_WORK >> 7 or min(n, m) >= 8)
