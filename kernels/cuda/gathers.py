"""Reading at indices on CUDA: index, index_select, take, masked_select, embedding, gather and the values of sort and topk.

One kernel moves elements of one size from `x` to a result in C order; where an element comes from is an offset by strides plus an
index times a step. Indices that users gave are checked by two folds before it runs. Called through `kernels.cuda.records`.
"""
from __future__ import annotations

import functools
import math

from ..book import BOOK
from ..source import ITEMSIZE, indented
from . import pointwise as maps
from .compiler import Program
from .fold_plans import folded
from .launch import Launch, View, collapsed, grid_of, pointwise
from .transposes import copy

THREADS = 256
WALKED = 6              # dimensions of a result that the kernel walks; what has more goes over the host


@functools.cache
def moving_program(size: int) -> Program:
    """q[i] = x[o_x(i) + index[o_i(i)] * step], elements of `size` bytes; an index below 0 counts from `length`.

    Arguments: addresses of q, x and index, elements, step, length; then for each walked dimension, innermost first, its size and
    the strides of x and index, in bytes.
    """
    carrier = maps.CARRIER[size]
    words = [f"{letter}{d}" for d in range(WALKED) for letter in "nab"]
    walk = []
    for d in range(WALKED):
        inner = ["left = 0", "at = rest"] if d == WALKED - 1 else [f"left = quotient(rest, n{d})", f"at = rest - left * n{d}"]
        walk += [*inner, f"from_x = from_x + at * a{d}", f"from_index = from_index + at * b{d}", "rest = left"]
    body = ["rest, from_x, from_index = i, 0, 0", *walk, "k = read_int64(index, from_index)", "if k < 0:", "    k = k + length",
            f"store_{carrier}(q, i * {size}, read_{carrier}(x, from_x + k * step))", "i = i + blocks() * threads()"]
    code = ["i = block() * threads() + thread()", "while i < n:", *indented(1, body)]
    source = [f"def kernel(q, x, index, n, step, length, {', '.join(words)}):", *indented(1, code)]
    return Program(f"moving_{size}", "\n".join(source) + "\n", ("address",) * 3 + ("int64",) * (3 + len(words)), {}, THREADS)


def _moved(device, dtype: str, shape: tuple[int, ...], x: View, index: View, step: int, length: int):
    """A new array of `shape`; `x` (stride 0 where the index decides) and `index` have its shape."""
    out = device.empty(dtype, shape)
    count = math.prod(shape)
    if not count:
        return out
    sizes, (_, of_x, of_index) = collapsed(shape, (out.strides, x.strides, index.strides))
    if len(sizes) > WALKED:
        return NotImplemented
    pad = (0,) * (WALKED - len(sizes))
    words = [w for one in zip((*sizes, *(1 for _ in pad)), (*of_x, *pad), (*of_index, *pad), strict=True) for w in one]
    program = moving_program(ITEMSIZE[dtype])
    device.run([Launch(program, grid_of(count, THREADS), (out.address, x.address, index.address, count, step, length, *words))])
    return out


def checked(device, index: View, size: int, dim: int, wraps: bool, error: type, text: str) -> View:
    """An index as int64, refused where an element is out of range. Waits for the device."""
    if index.dtype != "int64":
        wide = device.empty("int64", index.shape)
        device.run(pointwise(maps.cast(index.dtype, "int64"), [wide], [index]))
        index = wide
    if math.prod(index.shape):
        low, high = (int(device.read(folded(device, BOOK[name], index)[0])) for name in ("amin", "amax"))
        if high >= size or low < (-size if wraps else 0):
            words = text or "index {index} is out of bounds for dimension {dim} with size {size}"
            raise error(words.format(index=high if high >= size else low, dim=dim, size=size))
    return index


def _merged(x: View, first: int, last: int) -> int | None:
    """The stride of dimensions first..last-1 taken as one, None where they are not one."""
    step, reach = None, None
    for d in reversed(range(first, last)):
        if x.shape[d] == 1:
            continue
        if step is None:
            step = x.strides[d]
        elif x.strides[d] != reach:
            return None
        reach = x.strides[d] * x.shape[d]
    return step or 0


def picked(device, x: View, positions: View, first: int, last: int):
    """Rows of `x` at row-major positions over dimensions first..last-1, which the positions' shape replaces."""
    step = _merged(x, first, last)
    if step is None:
        dense = device.empty(x.dtype, x.shape)
        device.run(copy(dense, x))
        x, step = dense, _merged(dense, first, last)
    shape = (*x.shape[:first], *positions.shape, *x.shape[last:])
    inner = (0,) * len(positions.shape)
    of_x = x._replace(shape=shape, strides=(*x.strides[:first], *inner, *x.strides[last:]))
    of_index = positions._replace(shape=shape, strides=((0,) * first + positions.strides + (0,) * (len(x.shape) - last)))
    return _moved(device, x.dtype, shape, of_x, of_index, step, math.prod(x.shape[first:last]))


def _reading(text: str = ""):
    def run(device, x: View, positions: View, first: int, last: int, named: int = -1):
        if named >= 0:
            size = x.shape[first] if last - first == 1 else math.prod(x.shape[first:last])
            positions = checked(device, positions, size, named, True, IndexError, text)
        return picked(device, x, positions, first, last)
    return run


SELECTED = "index out of range in self (index_select: index {index}, dimension {dim} of size {size})"
TAKEN = "out of range: tried to access index {index} on a tensor of {size} elements."
index = masked_select = _reading()
index_select, take = _reading(SELECTED), _reading(TAKEN)


def embedding(device, weight: View, positions: View, padding: int, by_frequency: bool):
    """Rows of a table."""
    positions = checked(device, positions, weight.shape[0], 0, False, IndexError, "index out of range in self")
    return picked(device, weight, positions, 0, 1)


def sorted_values(device, x: View, index: View, dim: int):
    """As gather, at indices that sorting found: nobody has to look at them."""
    if not x.shape or not index.shape:
        return NotImplemented
    lanes = x._replace(shape=index.shape, strides=tuple(0 if d == dim else s for d, s in enumerate(x.strides)))
    return _moved(device, x.dtype, index.shape, lanes, index, x.strides[dim], x.shape[dim])


stable_values = topk_values = sorted_values


def gather(device, x: View, index: View, dim: int):
    """out[i][j] = x[index[i][j]][j] for dim 0, and so on."""
    if not x.shape or not index.shape:
        return NotImplemented
    return sorted_values(device, x, checked(device, index, x.shape[dim], dim, False, RuntimeError, ""), dim)

