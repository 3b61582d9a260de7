"""Pools of arrays: the largest element or the mean of each window, and their transposes.

Images are (n, channels, d, h, w), any strides. A window is the product of one interval in each dimension; tables list them,
so one kernel serves regular windows, windows that padding cuts off, and the uneven ones of adaptive pools. An item is one plane
(n, channel), so threads never meet in a result. Indices count the elements of the input's plane in row-major order. The records
are in `kernels.ops.pooling`.
"""
from __future__ import annotations

import dataclasses
import functools

import numpy as np

from . import buffers, pool
from .convolution import address
from .maps import FLOATING, ITEMSIZE, loaded, stored
from .native import Program, make_ufunc

BUSY = 1 << 15          # elements from which several threads pay

_HEAD = """
def kernel(args, dimensions, steps, data):
    for i in range(dimensions[0]):
        p, item = address(args[0]) + i * steps[0], load_int64(args[1], i * steps[1])
        source = pointer(word(p, 0) + item // word(p, 2) * word(p, 3) + item % word(p, 2) * word(p, 4))
"""

_WINDOWS = _HEAD + """
        sz, sy, sx, h, w = word(p, 5), word(p, 6), word(p, 7), word(p, 9), word(p, 10)
        od, oh, ow, tz, ty, tx = word(p, 11), word(p, 12), word(p, 13), word(p, 14), word(p, 15), word(p, 16)
        dz, dy, dx = word(p, 17), word(p, 18), word(p, 19)
        o = item * od * oh * ow
        for a in range(od):
            z0, z1 = word(tz, 3 * a), word(tz, 3 * a + 1)
            for b in range(oh):
                y0, y1 = word(ty, 3 * b), word(ty, 3 * b + 1)
                for c in range(ow):
                    x0, x1 = word(tx, 3 * c), word(tx, 3 * c + 1)
                    BEGIN
                    z = z0
                    while z < z1:
                        y = y0
                        while y < y1:
                            line = z * sz + y * sy
                            x = x0
                            while x < x1:
                                EACH
                                x += dx
                            y += dy
                        z += dz
                    END
                    o += 1
    clear_status()
"""

# The planes of the results are contiguous; `back` and `scatter` begin with zeros.
_ZERO = """
        for k in range(word(p, 8) * word(p, 9) * word(p, 10)):
            ZERO
"""

_BY_INDEX = _HEAD + """
        size, many = word(p, 5), word(p, 6)
        result, index = pointer(word(p, 1) + item * word(p, 7)), pointer(word(p, 8) + item * many * 8)
        BEGIN
        for k in range(many):
            at = load_int64(index, k * 8)
            if 0 <= at and at < size:
                EACH
    clear_status()
"""


def _filled(template: str, **parts: list[str]) -> str:
    lines = []
    for line in template.splitlines():
        indent, word = line[:len(line) - len(line.lstrip())], line.strip()
        lines += [indent + part for part in parts[word]] if word in parts else [line]
    return "\n".join(lines) + "\n"


def _program(name: str, dtype: str) -> Program:
    """Items (p),()->(): a plan of 64-bit words, the number of a plane, and a byte that says that it is done."""
    size = ITEMSIZE[dtype]
    element = loaded(dtype, "source", "line + x * sx")
    compute = "float32" if dtype == "float16" else dtype

    def put(pointer: str, offset: str, value: str) -> str:
        return stored(dtype, pointer, offset, value)
    zero = f"as_{compute}(0)"
    if name == "max":
        lowest = "-inf" if dtype in FLOATING else str(np.iinfo(dtype).min)
        source = _filled(
            _WINDOWS, BEGIN=[f"best, where = as_{compute}({lowest}), (z0 * h + y0) * w + x0"],
            EACH=[f"v = {element}", "better = (v > best) | (v != v)",      # no branch: which way it goes is not predictable
                  "best, where = v if better else best, (z * h + y) * w + x if better else where"],
            END=[put("pointer(word(p, 1))", f"o * {size}", "best"), "store_int64(pointer(word(p, 20)), o * 8, where)"])
    elif name == "mean":
        count = ["count = word(tz, 3 * a + 2) * word(ty, 3 * b + 2) * word(tx, 3 * c + 2) if word(p, 20) == 0 else word(p, 20)"]
        if dtype in FLOATING:
            divided = [f"total = as_{compute}(total / as_{compute}(count))"]
        else:               # integers are rounded towards zero
            divided = ["quotient = abs(total) // max(abs(count), 1)",
                       "total = quotient if (total < 0) == (count < 0) else -quotient"]
        source = _filled(_WINDOWS, BEGIN=[f"total = {zero}"], EACH=[f"total = as_{compute}(total + {element})"],
                         END=[*count, *divided, put("pointer(word(p, 1))", f"o * {size}", "total")])
    elif name == "mean_back":
        # `source` is the plane of the gradient of the means; the windows are those of the plane that is written
        head, _, rest = _WINDOWS.partition("        o = item * od * oh * ow\n")
        add = put("result", "at", f"{loaded(dtype, 'result', 'at', 'peek')} + share")
        source = _filled(
            head + "        o = 0\n        result = pointer(word(p, 1) + item * word(p, 8) * word(p, 9) * word(p, 10) * "
            + str(size) + ")\n" + _ZERO + rest,
            ZERO=[put("result", f"k * {size}", zero)],
            BEGIN=["count = word(tz, 3 * a + 2) * word(ty, 3 * b + 2) * word(tx, 3 * c + 2) if word(p, 20) == 0 else word(p, 20)",
                   f"share = as_{compute}({loaded(dtype, 'source', 'a * sz + b * sy + c * sx')} / as_{compute}(count))"],
            EACH=[f"at = ((z * h + y) * w + x) * {size}", add], END=[])
        source = source.replace("                            line = z * sz + y * sy\n", "")
    else:
        value = loaded(dtype, "source", f"k * {size}")
        if name == "gather":
            begin, each = [], [put("result", f"k * {size}", loaded(dtype, "source", f"at * {size}"))]
        else:
            begin = ["for k in range(size):", "    " + put("result", f"k * {size}", zero)]
            old = loaded(dtype, "result", f"at * {size}", "peek")
            each = [put("result", f"at * {size}", f"{old} + {value}" if name == "scatter" else value)]
        source = _filled(_BY_INDEX, BEGIN=begin, EACH=each)
    return Program(f"pool_{name}_{dtype}", source, inputs=("int64", "int64"), outputs=("int8",), signature="(p),()->()")


@functools.cache
def _ufunc(name: str, dtype: str, many: bool) -> np.ufunc:
    """The kernel of a plan; with `many` its planes are spread over several threads."""
    return make_ufunc(dataclasses.replace(_program(name, dtype), work=pool.GRAIN if many else 1))


def _run(name: str, dtype: str, plan: list, items: int, work: int) -> None:
    """Run all planes of a plan; arrays in it stand for their addresses and stay alive."""
    if not items or not work:
        return
    words = np.array([w if w.__class__ is int else address(w) for w in plan], np.int64)
    many = work >= BUSY and items > 1
    if many:
        pool.ensure()
    _ufunc(name, dtype, many)(words, np.arange(items), np.empty(items, np.int8))


# --- windows ----------------------------------------------------------------------------------------------------------

@functools.lru_cache(maxsize=512)
def windows(n: int, out: int, kernel: int | None, stride: int, padding: int, dilation: int, count_pad: bool) -> np.ndarray:
    """(out, 3): the first element of each window of a dimension of size n, the end, and how many it counts for.

    `kernel` None: `out` windows that cover the dimension evenly. A window without elements is (n - 1, n - 1, count).
    """
    rows = []
    for k in range(out):
        if kernel is None:
            first, stop = k * n // out, -(-(k + 1) * n // out)
            rows.append((first, stop, stop - first))
            continue
        first = k * stride - padding
        stop = min(first + (kernel - 1) * dilation + 1, n + padding)
        count = stop - first
        if first < 0:
            first += -(first // dilation) * dilation
        stop = min(stop, n)
        if stop <= first:
            first = stop = max(n - 1, 0)
        rows.append((first, stop, count if count_pad else max(stop - first, 1)))
    return np.array(rows, np.int64).reshape(out, 3)


def _tables(size: tuple, out: tuple, kernel: tuple | None, stride: tuple, padding: tuple, dilation: tuple,
            count_pad: bool) -> list[np.ndarray]:
    return [windows(n, o, None if kernel is None else kernel[d], stride[d], padding[d], dilation[d], count_pad)
            for d, (n, o) in enumerate(zip(size, out, strict=True))]


def _aligned(x: np.ndarray) -> np.ndarray:
    return x if x.flags.aligned else x.copy()


def largest(x: np.ndarray, out: tuple, kernel: tuple | None, stride: tuple, padding: tuple,
            dilation: tuple) -> tuple[np.ndarray, np.ndarray]:
    """The largest element of each window and its index; the first of equals, NaN above all."""
    x = _aligned(x)
    values = buffers.empty((*x.shape[:2], *out), x.dtype)
    indices = buffers.empty((*x.shape[:2], *out), np.dtype(np.int64))
    tables = _tables(x.shape[2:], out, kernel, stride, padding, dilation, True)
    plan = [x, values, max(1, x.shape[1]), *x.strides, *x.shape[2:], *out, *tables, *dilation, indices]
    _run("max", x.dtype.name, plan, x.shape[0] * x.shape[1], values.size and x.size)
    return values, indices


def means(x: np.ndarray, out: tuple, kernel: tuple | None, stride: tuple, padding: tuple, count_pad: bool,
          divisor: int) -> np.ndarray:
    """The sum of each window divided by how many elements it counts for, or by `divisor` where that is not 0."""
    x = _aligned(x)
    found = buffers.empty((*x.shape[:2], *out), x.dtype)
    tables = _tables(x.shape[2:], out, kernel, stride, padding, (1, 1, 1), count_pad)
    plan = [x, found, max(1, x.shape[1]), *x.strides, *x.shape[2:], *out, *tables, 1, 1, 1, divisor]
    _run("mean", x.dtype.name, plan, x.shape[0] * x.shape[1], found.size and max(1, x.size))
    return found


def means_back(g: np.ndarray, size: tuple, kernel: tuple | None, stride: tuple, padding: tuple, count_pad: bool,
               divisor: int) -> np.ndarray:
    """The transpose of `means` for images of a spatial size."""
    g = _aligned(g)
    found = buffers.empty((*g.shape[:2], *size), g.dtype)
    tables = _tables(size, g.shape[2:], kernel, stride, padding, (1, 1, 1), count_pad)
    plan = [g, found, max(1, g.shape[1]), *g.strides, *size, *g.shape[2:], *tables, 1, 1, 1, divisor]
    _run("mean_back", g.dtype.name, plan, g.shape[0] * g.shape[1], found.size)
    return found


def by_index(name: str, x: np.ndarray, indices: np.ndarray, space: int) -> np.ndarray:
    """Elements of contiguous planes (rows of a matrix) by index: "gather" x[index], "scatter" added to zeros, "place" put there.

    `space` is the size of the results' planes. Indices outside of a plane are left out.
    """
    found = buffers.empty((x.shape[0], space), x.dtype)
    reach = x.shape[1] if name == "gather" else space
    plan = [x, found, 1, x.strides[0], 0, reach, indices.shape[1], found.strides[0], indices]
    _run(name, x.dtype.name, plan, x.shape[0], found.size)
    return found
