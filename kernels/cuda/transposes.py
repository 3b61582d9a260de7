"""Copies on CUDA whose operand and result have different innermost dimensions: tiles through shared memory.

A block of 256 threads reads TILE x TILE elements along the operand's contiguous dimension and writes them along the result's, so
that both sides are coalesced. Rows of the tile in shared memory are padded by one bank or more: reading a column then meets every
bank once, for elements of any size. All other copies are pointwise kernels (`kernels.cuda.pointwise.copy`); `copy` chooses.
"""
from __future__ import annotations

import functools
import itertools
import math

from ..source import ITEMSIZE, indented
from . import pointwise as maps
from .compiler import Program
from .launch import Launch, View, broadcast, collapsed, pointwise

TILE, THREADS = 32, 256


@functools.cache
def transpose_program(size: int) -> Program:
    """Elements of `size` bytes: result (batch, n, m) contiguous along m, operand contiguous along n; strides in bytes."""
    carrier = maps.CARRIER[size]
    steps = THREADS // TILE
    pitch = TILE * size + max(4, size)          # an odd number of banks
    code = [f"tile = shared({TILE * pitch})", "lane, row = thread() & 31, thread() >> 5",
            "tiles = down * beside", "item = block()", "while item < tiles * batches:",
            *indented(1, ["batch = quotient(item, tiles)", "at = item - batch * tiles", "tile_row = quotient(at, beside)",
                          f"first, left = tile_row * {TILE}, (at - tile_row * beside) * {TILE}",
                          "from_x, from_q = batch * x_batch, batch * q_batch"])]
    for k in range(0, TILE, steps):
        code += indented(1, [f"if first + lane < n and left + row + {k} < m:",
                             f"    keep_{carrier}(tile, (row + {k}) * {pitch} + lane * {size}, "
                             f"read_{carrier}(x, from_x + (first + lane) * {size} + (left + row + {k}) * x_column))"])
    code += ["    barrier()"]
    for k in range(0, TILE, steps):
        code += indented(1, [f"if left + lane < m and first + row + {k} < n:",
                             f"    store_{carrier}(q, from_q + (first + row + {k}) * q_row + (left + lane) * {size}, "
                             f"peek_{carrier}(tile, lane * {pitch} + (row + {k}) * {size}))"])
    code += ["    barrier()", "    item = item + blocks()"]
    parameters = ("q", "x", "n", "m", "down", "beside", "batches", "q_batch", "q_row", "x_batch", "x_column")
    source = [f"def kernel({', '.join(parameters)}):", *indented(1, code)]
    return Program(f"transpose_{size}", "\n".join(source) + "\n", ("address",) * 2 + ("int64",) * 9, {}, THREADS)


def copy(out: View, x: View) -> list[Launch]:
    """Elements of one dtype from one layout to another; `x` broadcasts to the shape of `out`. The two may not overlap."""
    size = ITEMSIZE[out.dtype]
    if math.prod(out.shape) == 0:
        return []
    x = broadcast(x, out.shape)
    sizes, (to, source) = collapsed(out.shape, (out.strides, x.strides))
    inner = next((d for d in range(1, len(sizes)) if source[d] == size), 0)
    if not sizes or to[0] != size or not inner or min(sizes[0], sizes[inner]) < 8:
        carrier = maps.CARRIER[size]
        return pointwise(maps.copy(size), [out._replace(dtype=carrier)], [x._replace(dtype=carrier)])
    m, n = sizes[0], sizes[inner]
    down, beside = -(-n // TILE), -(-m // TILE)
    others = [d for d in range(1, len(sizes)) if d != inner]
    batches, q_batch, x_batch = (sizes[others[0]], to[others[0]], source[others[0]]) if others else (1, 0, 0)
    program = transpose_program(size)
    launches = []
    for index in itertools.product(*(range(sizes[d]) for d in others[1:])):
        q = out.address + sum(i * to[d] for i, d in zip(index, others[1:], strict=True))
        p = x.address + sum(i * source[d] for i, d in zip(index, others[1:], strict=True))
        grid = min(1 << 16, down * beside * batches)
        launches.append(Launch(program, grid, (q, p, n, m, down, beside, batches, q_batch, to[inner], x_batch, source[0])))
    return launches
