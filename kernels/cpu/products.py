"""Matrix products of arrays: BLAS through NumPy for floating and complex numbers, our own kernels for the rest.

Inner products of float32 run in float64. The other kernel is a template over what is done with a pair of elements, so that
integer products (acc + x * y, which wraps around as PyTorch's does) and distances between rows (acc + |x - y|^p) share it.
float16 is computed in float32 and rounded once. Called by the records in `kernels.ops.matmul`, which know the derivatives;
nothing here knows tensors.
"""
from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import Callable

import numpy as np

from .. import libm
from ..table import cast_ufunc
from . import blas, buffers, copies, pool
from .maps import FLOATING, ITEMSIZE, loaded, stored
from .native import Program, make_ufunc

LANES = 64              # neighbouring results that are accumulated together
FEW = 4                 # with fewer columns each result is accumulated on its own, along k


_BY_BLAS = "efdFD"          # NumPy's letters of float16 (through float32), float32, float64, complex64, complex128

# --- BLAS -------------------------------------------------------------------------------------------------------------

class _Quiet(threading.local):
    """NumPy with its warnings of infinities and NaN off, which PyTorch does not give: `run(function, *arguments)`.

    A context of each thread's own in which `np.seterr` was called once: a fifth of what `np.errstate` costs.
    """

    def __init__(self):
        context = contextvars.Context()
        context.run(np.seterr, all="ignore")
        self.enter = context.run

    def run(self, function: Callable, *arguments, **options):
        """`function(*arguments, **options)`."""
        try:
            return self.enter(function, *arguments, **options)
        except RuntimeError as error:       # a finalizer multiplies while its thread does: a context is entered once
            if "already entered" not in str(error):
                raise
        with np.errstate(all="ignore"):
            return function(*arguments, **options)


quiet, _np_dot = _Quiet(), np.dot


def product(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x @ y for arrays of one dtype: vectors, matrices, or stacks of matrices with broadcasting leading dimensions.

    Sizes must fit. Transposed operands go to BLAS as they are; large results lie in pooled memory.
    """
    char = x.dtype.char         # `dtype.name` would cost more than a small product
    if char not in _BY_BLAS:
        return _by_kernel(x, y)
    nx, ny = x.ndim, y.ndim
    if char in "ef":
        if nx == 1 and ny == 1:
            return (_dot.get(x.dtype) or _dot_ufunc(x.dtype))(x, y, out=...)
        if char == "e":
            wide, narrow = cast_ufunc("float16", "float32"), cast_ufunc("float32", "float16")
            return np.asarray(narrow(product(wide(x, out=...), wide(y, out=...)), out=...))
    if nx <= 2 and ny <= 2:             # np.dot has half the overhead of np.matmul
        if nx == 2 and ny == 2:
            shape = (x.shape[0], y.shape[1])
            blas.prepare(x.size * shape[1])
            if shape[0] * shape[1] * x.itemsize >= buffers.LARGE:
                return quiet.run(np.dot, x, y, out=buffers.empty(shape, x.dtype))
            try:
                return quiet.enter(_np_dot, x, y)
            except RuntimeError:
                return quiet.run(_np_dot, x, y)
        return np.asarray(quiet.run(np.dot, x, y))
    x, y = _for_blas(x), _for_blas(y)
    lead = x.shape[:-2]
    if lead != y.shape[:-2]:
        lead = np.broadcast_shapes(lead, y.shape[:-2])
    blas.prepare(x.shape[-2] * x.shape[-1] * y.shape[-1])       # NumPy calls BLAS for each pair
    return quiet.run(np.matmul, x, y, out=buffers.empty((*lead, x.shape[-2], y.shape[-1]), x.dtype))


def _for_blas(x: np.ndarray) -> np.ndarray:
    """The array if BLAS takes its matrices as they lie (rows or columns contiguous), else a copy.

    NumPy itself would fall back to plain loops.
    """
    size, (n, m), (along, across) = x.itemsize, x.shape[-2:], x.strides[-2:]
    by_rows = across == size and along % size == 0 and along // size >= m
    by_columns = along == size and across % size == 0 and across // size >= n
    return x if by_rows or by_columns or not x.size else copies.copy(x)


def dot_program(dtype: str) -> Program:
    """(k),(k)->(): inner product of float16 or float32 vectors in float64, where every product is exact, rounded once.

    BLAS would accumulate float32 in float32; quasi-Newton methods live on the small differences that this loses.
    """
    size = ITEMSIZE[dtype]

    def term(x: str, y: str) -> str:
        return f"as_float64({loaded(dtype, 'args[0]', x)}) * as_float64({loaded(dtype, 'args[1]', y)})"
    source = f"""
def kernel(args, dimensions, steps, data):
    k, lanes = dimensions[1], stack({8 * LANES})
    for outer in range(dimensions[0]):
        x, y, i, total = outer * steps[0], outer * steps[1], 0, 0.0
        if k >= {LANES} and steps[3] == {size} and steps[4] == {size}:
            for lane in range({LANES}):
                store_float64(lanes, lane * 8, 0.0)
            while i + {LANES} <= k:
                for lane in range({LANES}):
                    t = {term(f"x + (i + lane) * {size}", f"y + (i + lane) * {size}")}
                    store_float64(lanes, lane * 8, peek_float64(lanes, lane * 8) + t)
                i += {LANES}
            for lane in range({LANES}):
                total += peek_float64(lanes, lane * 8)
        for j in range(i, k):
            total += {term("x + j * steps[3]", "y + j * steps[4]")}
        {stored(dtype, "args[2]", "outer * steps[2]", "total")}
    clear_status()
"""
    return Program(f"dot_{dtype}", source, inputs=(dtype, dtype), outputs=(dtype,), signature="(k),(k)->()")


_dot: dict[np.dtype, np.ufunc] = {}


def _dot_ufunc(dtype: np.dtype) -> np.ufunc:
    found = _dot[dtype] = make_ufunc(dot_program(dtype.name))
    return found


# --- the kernel -------------------------------------------------------------------------------------------------------

def pairs_program(name: str, dtype: str, state: str, result: str, combine: Callable, finish: Callable) -> Program:
    """(b,k),(k,m)->(b,m): each result starts at 0, takes in k pairs by `combine(acc, x, y)` in dtype `state`, and is finished.

    Rows are contiguous in the second operand, so LANES neighbouring results run together; the core of the source is

        for l in range(k):
            a = load_int32(args[0], x + l * steps[4])
            for lane in range(width):
                c = load_int32(args[1], y + l * steps[5] + (j0 + lane) * 4)
                store_int32(lanes, lane * 4, as_int32(combine(peek_int32(lanes, lane * 4), a, c)))
    """
    size, wide = ITEMSIZE[dtype], ITEMSIZE[state]
    lane = f"lanes, lane * {wide}"
    c = ["def kernel(args, dimensions, steps, data):",
         "    n, b, k, m = dimensions[0], dimensions[1], dimensions[2], dimensions[3]",
         f"    lanes = stack({LANES * wide})", "    for row in range(n * b):", "        outer, i = row // b, row % b",
         "        x = outer * steps[0] + i * steps[3]", "        y, z = outer * steps[1], outer * steps[2] + i * steps[7]",
         f"        if m < {FEW}:", "            for j in range(m):", f"                acc = as_{state}(0)"]
    for test, sx, sy in ((f"if steps[4] == {size} and steps[5] == {size}:", size, size), ("else:", "steps[4]", "steps[5]")):
        c += [f"                {test}", "                    for l in range(k):",
              f"                        acc = as_{state}(combine(acc, {loaded(dtype, 'args[0]', f'x + l * {sx}')}, "
              f"{loaded(dtype, 'args[1]', f'y + j * steps[6] + l * {sy}')}))"]
    c += ["                " + stored(result, "args[2]", "z + j * steps[8]", "finish(acc)"),
          "        else:", f"            for j0 in range(0, m, {LANES}):", f"                width = min(m - j0, {LANES})",
          "                for lane in range(width):", f"                    store_{state}({lane}, as_{state}(0))",
          "                for l in range(k):", f"                    a = {loaded(dtype, 'args[0]', 'x + l * steps[4]')}",
          "                    for lane in range(width):",
          f"                        c = {loaded(dtype, 'args[1]', f'y + l * steps[5] + (j0 + lane) * {size}')}",
          f"                        store_{state}({lane}, as_{state}(combine(peek_{state}({lane}), a, c)))",
          "                for lane in range(width):",
          "                    " + stored(result, "args[2]", "z + (j0 + lane) * steps[8]", f"finish(peek_{state}({lane}))")]
    if dtype in FLOATING:
        c.append("    clear_status()")
    return Program(f"{name}_{dtype}", "\n".join(c) + "\n", functions={"combine": (combine, state), "finish": (finish, state)},
                   inputs=(dtype, dtype), outputs=(result,), signature="(b,k),(k,m)->(b,m)")


def _multiply_add(acc, x, y):
    return acc + x * y


def _itself(acc):
    return acc


@functools.cache
def _product_ufunc(dtype: np.dtype) -> np.ufunc:
    return make_ufunc(pairs_program("product", dtype.name, dtype.name, dtype.name, _multiply_add, _itself))


def _run(ufunc: np.ufunc, x: np.ndarray, y: np.ndarray, result: np.dtype) -> np.ndarray:
    """The kernel on stacks of matrices, its second operand with contiguous rows."""
    if y.strides[-1] != y.itemsize and y.shape[-1] >= FEW:
        y = copies.copy(y)
    shape = (*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), x.shape[-2], y.shape[-1])
    if 0 in shape:
        return np.empty(shape, result)
    if x.shape[-1] * shape[-1] * shape[-2] >= pool.GRAIN:
        pool.ensure()
    return ufunc(x, y, buffers.empty(shape, result))


def _by_kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Products of integers; vectors are matrices of one row or column."""
    rows, columns = x if x.ndim > 1 else x[None], y if y.ndim > 1 else y[:, None]
    out = _run(_product_ufunc(x.dtype), rows, columns, x.dtype)
    if y.ndim == 1:
        out = out[..., 0]
    return out[..., 0] if x.ndim == 1 and y.ndim == 1 else out[..., 0, :] if x.ndim == 1 else out


# --- distances --------------------------------------------------------------------------------------------------------

def _differs(acc, x, y):
    return acc + (1 if x != y else 0)


def _absolute(acc, x, y):
    return acc + abs(x - y)


def _squared(acc, x, y):
    return acc + (x - y) * (x - y)


def _largest(acc, x, y):
    d = abs(x - y)
    return d if d > acc or d != d else acc


def _root(acc):
    return libm.sqrt(acc)


def _powers(p: float) -> tuple[Callable, Callable]:
    def combine(acc, x, y):
        return acc + libm.pow(abs(x - y), p)

    def finish(acc):
        return libm.pow(acc, 1 / p)
    return combine, finish


@functools.lru_cache(maxsize=64)
def _distance_ufunc(dtype: np.dtype, p: float) -> np.ufunc:
    known = {0.0: (_differs, _itself), 1.0: (_absolute, _itself), 2.0: (_squared, _root), float("inf"): (_largest, _itself)}
    return make_ufunc(pairs_program(f"distance_{p}", dtype.name, "float64", dtype.name, *(known.get(p) or _powers(p))))


def distances(x: np.ndarray, y: np.ndarray, p: float) -> np.ndarray:
    """The p-norm of x[..., i, :] - y[..., j, :] for every i and j; sums run in float64 for every dtype."""
    return _run(_distance_ufunc(x.dtype, p), x, y.swapaxes(-1, -2), x.dtype)


__all__ = ["distances", "pairs_program", "product"]
