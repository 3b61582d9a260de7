"""Matrix products on CUDA: tiled, register-blocked, batched, for any strides of the operands.

A block of 256 threads makes a tile of `tile` x `tile` results; a thread makes (tile / 16)^2 of them in registers. Slices of DEPTH
along the contracted dimension go through shared memory, where row kk of an operand's slice has tile + pad numbers:

    slice[kk * (tile + pad) + index]                    index: a row of the first operand, a column of the second

Threads read global memory along whichever dimension is contiguous: along `index`, or along kk in groups of `together`, for which
the padding spreads a warp's writes over all banks. Reads are vectors of 8 or 16 bytes. 128 x 128 tiles of float32 do 32 operations
for each byte read. float16 is multiplied and added in float32, integers in their own dtype. Called through `matmul`.
"""
from __future__ import annotations

import functools
import itertools
import math
from typing import NamedTuple

from ..source import ITEMSIZE, indented, packed, unpacked
from .compiler import Program
from .launch import Launch, View, broadcast, collapsed

THREADS, DEPTH = 256, 16


class Shape(NamedTuple):
    """How a dtype is tiled: what it is computed in, neighbours read at once, lanes along kk, padding, results of the large tile."""
    compute: str
    vector: int
    together: int
    pad: int
    large: int


SHAPES = {"float16": Shape("float32", 2, 16, 2, 128), "float32": Shape("float32", 4, 8, 4, 128),
          "float64": Shape("float64", 2, 8, 2, 64), "int32": Shape("int32", 4, 8, 4, 64), "int64": Shape("int64", 2, 8, 2, 64)}


@functools.cache
def matmul_program(dtype: str, tile: int) -> Program:
    """The kernel for one dtype and tile (32, 64 or 128).

    Arguments: addresses of the results and the operands; rows, columns, contracted size; tiles along rows and columns; strides in
    bytes of results, first and second operand: batch, rows (kk for the second), columns (kk for the first); three flags: whether
    neighbours along `index` are contiguous in the first and second operand, whether results can be written as vectors.
    """
    compute, vector, _, pad, _ = SHAPES[dtype]
    vector = min(vector, tile // 16)
    size, per, row = ITEMSIZE[compute], tile // 16, tile + pad
    parameters = ["n", "m", "k", "down", "beside", *(f"{o}_{w}" for o in "qab" for w in ("batch", "row", "column")),
                  "a_along", "b_along", "q_vector"]
    code = [f"left, right = shared({DEPTH * row * size}), shared({DEPTH * row * size})", "t = thread()", "tx, ty = t & 15, t >> 4",
            "tiles = down * beside", "batch = quotient(block(), tiles)", "at = block() - batch * tiles",
            "tile_row = quotient(at, beside)", f"first_row, first_column = tile_row * {tile}, (at - tile_row * beside) * {tile}",
            "from_a, from_b, from_q = batch * a_batch, batch * b_batch, batch * q_batch"]
    code += [f"c{i}_{j} = as_{compute}(0)" for i in range(per) for j in range(per)]
    a_slice = _slice(dtype, tile, "a", "left", "first_row", "n", "a_row", "a_column")
    b_slice = _slice(dtype, tile, "b", "right", "first_column", "m", "b_column", "b_row")
    peek = f"peek{vector if vector > 1 else ''}_{compute}"
    inner = []
    for operand, memory, lane in (("x", "left", "ty"), ("y", "right", "tx")):
        for g in range(per // vector):
            place = f"{peek}({memory}, (kk * {row} + {lane} * {vector} + {16 * vector * g}) * {size})"
            names = ", ".join(f"{operand}{g * vector + v}" for v in range(vector))
            inner.append(f"{names} = {place}")
    multiply = "libm.fma(x{i}, y{j}, c{i}_{j})" if compute.startswith("float") else f"as_{compute}(x{{i}} * y{{j}} + c{{i}}_{{j}})"
    inner += [f"c{i}_{j} = {multiply.format(i=i, j=j)}" for i in range(per) for j in range(per)]
    code += ["start = 0", "while start < k:",
             *indented(1, [*a_slice, *b_slice, "barrier()", "kk = 0", f"while kk < {DEPTH}:", *indented(1, [*inner, "kk = kk + 1"]),
                           "barrier()", f"start = start + {DEPTH}"])]
    code += _results(dtype, per, vector)
    source = [f"def kernel(q, a, b, {', '.join(parameters)}):", *indented(1, code)]
    dtypes = ("address",) * 3 + ("int64",) * len(parameters)
    return Program(f"matmul_{dtype}_{tile}", "\n".join(source) + "\n", dtypes, {}, THREADS)


def _slice(dtype: str, tile: int, operand: str, memory: str, first: str, limit: str, step: str, step_k: str) -> list[str]:
    """Statements that bring a slice of an operand into shared memory: all reads before the first write, so that they overlap."""
    compute, _, together, pad, _ = SHAPES[dtype]
    size, count = ITEMSIZE[compute], tile * DEPTH // THREADS
    shift = together.bit_length() - 1
    rows = min(tile, THREADS // together)
    folds = tile // rows
    along = [(f"t & {tile - 1}", f"(t >> {tile.bit_length() - 1}) + {p * THREADS // tile}") for p in range(count)]
    across = [(f"(t >> {shift}) + {p % folds * rows}", f"(t & {together - 1}) + {p // folds * together}") for p in range(count)]
    read = unpacked(dtype, f"read_{dtype}({operand}, from_{operand} + ({first} + i) * {step} + (start + kk) * {step_k})")

    def moved(places):
        reads, writes = [], []
        for p, (i, kk) in enumerate(places):
            reads += [f"i, kk = {i}, {kk}", f"v{p} = as_{compute}(0)", f"if {first} + i < {limit} and start + kk < k:",
                      f"    v{p} = as_{compute}({read})"]
            writes += [f"i, kk = {i}, {kk}", f"keep_{compute}({memory}, (kk * {tile + pad} + i) * {size}, v{p})"]
        return reads + writes
    return [f"if {operand}_along != 0:", *indented(1, moved(along)), "else:", *indented(1, moved(across))]


def _results(dtype: str, per: int, vector: int) -> list[str]:
    """Statements that write a thread's results."""
    code = []
    for i in range(per):
        code.append(f"row = first_row + ty * {vector} + {i // vector * 16 * vector + i % vector}")
        one = []
        for g in range(per // vector):
            column = f"first_column + tx * {vector} + {g * 16 * vector}"
            values = [packed(dtype, f"c{i}_{g * vector + v}") for v in range(vector)]
            singles = [line for v in range(vector) for line in (
                f"if column + {v} < m:", f"    store_{dtype}(q, from_q + row * q_row + (column + {v}) * q_column, {values[v]})")]
            if vector == 1:
                one += [f"column = {column}", *singles]
                continue
            together = f"store{vector}_{dtype}(q, from_q + row * q_row + column * q_column, ({', '.join(values)}))"
            one += [f"column = {column}", "if q_vector != 0:", "    if column < m:", "        " + together, "else:",
                    *indented(1, singles)]
        code += ["if row < n:", *indented(1, one)]
    return code


def matmul(out: View, a: View, b: View, tile: int = 0) -> list[Launch]:
    """out (..., n, m) = a (..., n, k) @ b (..., k, m), batches broadcast; k of 0 gives zeros. `tile`: 32, 64, 128, 0 to choose."""
    *batch, n, m = out.shape
    k = a.shape[-1]
    if math.prod(out.shape) == 0:
        return []
    shape = tuple(batch)
    batches = [_batched(v, shape) for v in (out, a, b)]
    sizes, steps = collapsed(shape, tuple(batches))
    tile = tile or tile_of(out.dtype, n, m, math.prod(batch))
    program = matmul_program(out.dtype, tile)
    down, beside = -(-n // tile), -(-m // tile)
    vector = min(SHAPES[out.dtype].vector, tile // 16)
    size = ITEMSIZE[out.dtype]
    whole = (out.strides[-1] == size and m % vector == 0 and out.strides[-2] % (vector * size) == 0
             and all(s % (vector * size) == 0 for s in batches[0]))
    launches = []
    for index in itertools.product(*map(range, sizes[1:])):
        offsets = [sum(i * s for i, s in zip(index, step[1:], strict=True)) for step in steps]
        first = [step[0] if step else 0 for step in steps]
        words = [n, m, k, down, beside]
        for v, step in zip((out, a, b), first, strict=True):
            words += [step, v.strides[-2], v.strides[-1]]
        aligned = whole and (out.address + offsets[0]) % (vector * size) == 0
        words += [int(abs(a.strides[-2]) < abs(a.strides[-1])), int(abs(b.strides[-1]) <= abs(b.strides[-2])), int(aligned)]
        addresses = [v.address + o for v, o in zip((out, a, b), offsets, strict=True)]
        launches.append(Launch(program, down * beside * (sizes[0] if sizes else 1), (*addresses, *words)))
    return launches


def tile_of(dtype: str, n: int, m: int, batches: int) -> int:
    """The largest tile that leaves enough blocks to share the work among a GPU's processors, and wastes little."""
    tile = SHAPES[dtype].large
    while tile > 32 and (-(-n // tile) * -(-m // tile) * batches < 64 or min(n, m) <= tile // 2):
        tile //= 2
    return tile


def _batched(v: View, shape: tuple[int, ...]) -> tuple[int, ...]:
    outer = View(v.address, v.dtype, v.shape[:-2], v.strides[:-2])
    return broadcast(outer, shape).strides
