"""What positions alone decide, on CUDA: row-major positions of indices, positions of counts, triangles of matrices.

Called through `kernels.cuda.records`.
"""
from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from ..book import BOOK
from ..source import ITEMSIZE
from . import pointwise as maps
from .arrays import dense
from .compiler import Program
from .elements import launches_of, program_of, search_for
from .fold_plans import folded
from .gathers import checked
from .launch import View, broadcast, pointwise
from .rows import cumsum

# --- positions of indices ---------------------------------------------------------------------------------------------

@functools.cache
def advance_program() -> Program:
    """Positions `q` take in one more index: q + (index, from the end where it is negative) * step."""
    return program_of("positions_advance", "q, index", "size, step", [
        "k = read_int64(index, i * 8)", "if k < 0:", "    k = k + size", "store_int64(q, i * 8, load_int64(q, i * 8) + k * step)"])


def ravel_index(device, indices: Sequence[View], sizes: Sequence[int], dims: Sequence[int], wraps: bool = True, text: str = ""):
    """Broadcast indices, one for each of `sizes`, as row-major positions (int64); IndexError for one out of range."""
    found = [checked(device, index, size, dim, wraps, IndexError, text) for index, size, dim in zip(indices, sizes, dims,
                                                                                                  strict=True)]
    out, step = device.empty("int64", np.broadcast_shapes(*(v.shape for v in found))), 1
    if not out.size:
        return out
    device.run(pointwise(maps.cast("int64", "int64"), [out], [0]))
    for index, size in zip(reversed(found), reversed(sizes), strict=True):
        spread = dense(device, broadcast(index, out.shape)._replace(owner=index.owner))
        device.run(launches_of(advance_program(), (out, spread), out.size, size, step))
        step *= size
    return out


# --- positions of counts ----------------------------------------------------------------------------------------------

@functools.cache
def counted_program() -> Program:
    """The first of `r` running sums that lies above i."""
    return program_of("positions_counted", "q, x", "r", [*search_for("read_int64(x, middle * 8) <= i"),
                                                         "store_int64(q, i * 8, low)"])


def positions_of_counts(device, counts: View, output_size: int | None) -> View:
    """Index k repeated counts[k] times. Waits for the device, which alone knows how many there are.

    RuntimeError for a negative count or a wrong `output_size`.
    """
    if not counts.size:
        if output_size:
            raise RuntimeError("allocated size does not match required size")
        return device.empty("int64", (0,))
    sums = cumsum(device, counts, 0)
    if int(device.read(folded(device, BOOK["amin"], counts)[0])) < 0:
        raise RuntimeError("repeats can not be negative")
    last = sums._replace(address=sums.address + (sums.size - 1) * sums.strides[0], shape=(), strides=())
    total = int(device.read(last))
    if output_size is not None and output_size != total:
        raise RuntimeError("allocated size does not match required size")
    out = device.empty("int64", (total,))
    device.run(launches_of(counted_program(), (out, sums), total, counts.size))
    return out


# --- triangles --------------------------------------------------------------------------------------------------------

@functools.cache
def band_program(carrier: str) -> Program:
    """Matrices of `n` rows and `m` columns: the elements whose column less row is from `low` to `high`, zero elsewhere."""
    size = ITEMSIZE[carrier]
    return program_of(f"band_{carrier}", "q, x", "n, m, low, high", [
        "row = quotient(i, m)", "distance = i - row * m - (row - quotient(row, n) * n)", f"value = as_{carrier}(0)",
        "if distance >= low and distance <= high:", f"    value = read_{carrier}(x, i * {size})",
        f"store_{carrier}(q, i * {size}, value)"])


def _band(device, x: View, low: int, high: int) -> View:
    x, out = dense(device, x), device.empty(x.dtype, x.shape)
    program = band_program(maps.CARRIER[ITEMSIZE[x.dtype]])
    device.run(launches_of(program, (out, x), math.prod(x.shape), *x.shape[-2:], low, high))
    return out


ALL = 1 << 62           # farther from the diagonal than any element


def tril(device, x: View, diagonal: int) -> View:
    """Elements on and below a diagonal of the last two dimensions, zeros above."""
    return _band(device, x, -ALL, max(-ALL, min(ALL, diagonal)))


def triu(device, x: View, diagonal: int) -> View:
    """Elements on and above a diagonal of the last two dimensions, zeros below."""
    return _band(device, x, max(-ALL, min(ALL, diagonal)), ALL)
