"""Counting: how often numbers or intervals occur (bincount, histc), and the most frequent element of sorted rows (mode).

Indices are checked by `engine.functions.statistics` before a kernel sees them.
"""
from __future__ import annotations

import functools

import numpy as np

from ..book import FLOATS, TO_INT64, structural
from ..cpu.maps import loaded, stored
from ..cpu.native import Program, make_ufunc


@functools.cache
def _bincount_ufunc(dtype: str | None) -> np.ufunc:
    """(r) indices [and (r) weights] added into the (m) output, which must hold zeros."""
    total = dtype or "int64"
    nin = 2 if dtype else 1
    value = loaded(total, "args[1]", "outer * steps[1] + i * steps[4]") if dtype else "1"
    place = f"outer * steps[{nin}] + at * steps[{2 * nin + 1}]"
    source = ("def kernel(args, dimensions, steps, data):\n    for outer in range(dimensions[0]):\n"
              "        for i in range(dimensions[1]):\n"
              f"            at = load_int64(args[0], outer * steps[0] + i * steps[{nin + 1}])\n"
              f"            {stored(total, f'args[{nin}]', place, f'peek_{total}(args[{nin}], {place}) + {value}')}\n")
    name = f"bincount_{total if dtype else 'plain'}"
    return make_ufunc(Program(name, source, inputs=("int64", dtype)[:nin], outputs=(total,),
                              signature="(r),(r)->(m)" if dtype else "(r)->(m)"))


@structural(["x"], dtypes=("int64",), result=TO_INT64, function=False, method=False, like=np.bincount)
def bincount(x, size):
    """How often each number below `size` occurs."""
    out = np.zeros(size, np.int64)
    if x.size:
        _bincount_ufunc(None)(x, out=out)
    return out


@structural(["x", "weights"], function=False, method=False)
def bincount_weighted(x, weights, size):
    """The sum of the weights at the places of each number below `size`."""
    out = np.zeros(size, weights.dtype)
    if x.size:
        _bincount_ufunc(weights.dtype.name)(x, weights, out=out)
    return out


@functools.cache
def _histc_ufunc(dtype: str) -> np.ufunc:
    compute = "float32" if dtype == "float16" else dtype
    place = "at * steps[5]"
    source = ("def kernel(args, dimensions, steps, data):\n    bins = dimensions[2]\n    for outer in range(dimensions[0]):\n"
              "        low = as_{c}(load_float64(args[1], outer * steps[1]))\n"
              "        high = as_{c}(load_float64(args[2], outer * steps[2]))\n"
              "        for i in range(dimensions[1]):\n"
              f"            x = {loaded(dtype, 'args[0]', 'outer * steps[0] + i * steps[4]')}\n"
              "            if x >= low and x <= high:\n"
              "                at = min(int((x - low) * as_{c}(bins) / (high - low)), bins - 1)\n"
              f"                place = outer * steps[3] + {place}\n"
              "                store_float64(args[3], place, peek_float64(args[3], place) + 1.0)\n"
              "    clear_status()\n").replace("{c}", compute)
    return make_ufunc(Program(f"histc_{dtype}", source, inputs=(dtype, "float64", "float64"), outputs=("float64",),
                              signature="(r),(),()->(m)"))


@structural(["x"], dtypes=FLOATS, function=False, method=False, like=np.histogram)
def histc(x, bins, low, high):
    """How many elements lie in each of `bins` equal intervals from `low` to `high`, as numbers of the input's dtype."""
    from ..table import cast_ufunc
    counts = np.zeros(bins, np.float64)
    if x.size:
        _histc_ufunc(x.dtype.name)(x.reshape(-1), low, high, out=counts)
    return cast_ufunc("float64", x.dtype.name)(counts, out=...)


@functools.cache
def _frequent_ufunc(dtype: str) -> np.ufunc:
    source = ("def kernel(args, dimensions, steps, data):\n    r = dimensions[1]\n    for outer in range(dimensions[0]):\n"
              "        most, begin, found = 0, 0, 0\n        for i in range(r):\n"
              f"            x = {loaded(dtype, 'args[0]', 'outer * steps[0] + i * steps[3]')}\n"
              "            last = i == r - 1\n            if not last:\n"
              f"                last = x != {loaded(dtype, 'args[0]', 'outer * steps[0] + (i + 1) * steps[3]')}\n"
              "            if last:\n                if i + 1 - begin > most:\n"
              "                    most, found = i + 1 - begin, load_int64(args[1], outer * steps[1] + i * steps[4])\n"
              "                begin = i + 1\n        store_int64(args[2], outer * steps[2], found)\n")
    return make_ufunc(Program(f"most_frequent_{dtype}", source, inputs=(dtype, "int64"), outputs=("int64",),
                              signature="(r),(r)->()"))


@structural(["x", "index"], function=False, method=False)
def most_frequent(x, index, dim):
    """The index (of the last) of the longest run of equal elements along a dimension of sorted values."""
    return _frequent_ufunc(x.dtype.name)(np.moveaxis(x, dim, -1), np.moveaxis(index, dim, -1), out=...)
