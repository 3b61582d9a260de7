"""Kernels that make arrays from no array: fill, arange, linspace, logspace.

Called by `engine.functions.factories` and `create` on arrays that they have just allocated. `fill` serves any layout
and every dtype by element size; the others need a flat C-contiguous result, because a kernel tells an element's index
from its address.
"""
from __future__ import annotations

import functools

import numpy as np

from .. import libm
from . import pool
from .maps import stored
from .native import Program, make_ufunc

_BITS = {1: "uint8", 2: "uint16", 4: "uint32", 8: "uint64", 16: "complex128"}
WHOLE = 64                      # no kernel has a smaller grain (see pool.wrap)
_ZERO = np.zeros((), np.int64)
_VIEWS = {size: np.dtype(name) for size, name in _BITS.items()}


def index_of_first(out: str, size: int) -> str:
    """Source of the index of the first element a kernel call writes; input 0 is the address of the whole result, or 0.

    The pool cuts a large result into pieces, and only the address says where a piece begins. A result of up to WHOLE
    elements comes in one piece, and 0 spares asking for its address.
    """
    return f"((address({out}) - load_int64(args[0], 0)) // {size} if load_int64(args[0], 0) != 0 else 0)"


def base_of(out: np.ndarray) -> np.ndarray:
    """What `index_of_first` reads, as an array without dimensions."""
    return _ZERO if out.size <= WHOLE else np.array(out.__array_interface__["data"][0], np.int64)


def run(ufunc: np.ufunc, out: np.ndarray, *inputs: np.ndarray) -> None:
    """Run a kernel over a flat result, on several threads if it is large."""
    if out.size >= pool.GRAIN:
        pool.ensure()
    if out.size:
        ufunc(base_of(out), *inputs, out)


@functools.cache
def _fill_ufunc(size: int) -> np.ufunc:
    d = _BITS[size]
    source = f"""
def kernel(args, dimensions, steps, data):
    n, p, q, s, t = dimensions[0], args[0], args[1], steps[0], steps[1]
    if s == 0 and t == {size}:
        value = load_{d}(p, 0)
        for i in range(n):
            store_{d}(q, i * {size}, value)
    else:
        for i in range(n):
            store_{d}(q, i * t, load_{d}(p, i * s))
"""
    return make_ufunc(Program(f"fill_{size}", source, inputs=(d,), outputs=(d,)))


def fill(out: np.ndarray, value: np.ndarray) -> None:
    """Write a value (same dtype, no dimensions) into every element."""
    size = out.size
    if size >= pool.GRAIN:
        pool.ensure()
    if size:
        width = out.itemsize
        bits = _VIEWS[width]
        _fill_ufunc(width)(value.view(bits), out.view(bits))


def _sequence(dtype: str, name: str, inputs: tuple[str, ...], setup: str, value: str, **about) -> np.ufunc:
    """A kernel `out[i] = value`, where `value` is an expression in `i` and the names that `setup` loads."""
    size = np.dtype(dtype).itemsize
    source = f"""
def kernel(args, dimensions, steps, data):
    q = args[{1 + len(inputs)}]
    first = {index_of_first("q", size)}
    {setup}
    for k in range(dimensions[0]):
        i = first + k
        {stored(dtype, "q", f"k * {size}", value)}
    clear_status()
"""
    return make_ufunc(Program(f"{name}_{dtype}", source, inputs=("int64", *inputs), outputs=(dtype,), **about))


@functools.cache
def arange_ufunc(dtype: str) -> np.ufunc:
    """start + i * step, in int64 or float64."""
    wide = "int64" if np.dtype(dtype).kind in "iu" else "float64"
    return _sequence(dtype, "arange", (wide, wide), f"start, step = load_{wide}(args[1], 0), load_{wide}(args[2], 0)",
                     f"start + as_{wide}(i) * step")


@functools.cache
def linspace_ufunc(dtype: str) -> np.ufunc:
    """From start upwards in the first half and from end downwards in the second, so that both ends are exact."""
    return _sequence(dtype, "linspace", ("float64", "float64", "float64", "int64"), _ENDS, _BETWEEN)


@functools.cache
def logspace_ufunc(dtype: str) -> np.ufunc:
    """base to the power of what linspace gives."""
    return _sequence(dtype, "logspace", ("float64", "float64", "float64", "int64", "float64"),
                     _ENDS + "; base = load_float64(args[5], 0)", f"power(base, {_BETWEEN})",
                     functions={"power": (_power, None)}, work=16)


_ENDS = ("start, end, step = load_float64(args[1], 0), load_float64(args[2], 0), load_float64(args[3], 0); "
         "steps_ = load_int64(args[4], 0)")
_BETWEEN = "(start + step * as_float64(i) if i < steps_ // 2 else end - step * as_float64(steps_ - 1 - i))"


def _power(x, y):
    return libm.pow(x, y)
