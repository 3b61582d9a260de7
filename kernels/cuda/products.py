"""Matrix products of records on CUDA: matmul, bmm, mv, dot, and those with an addend, over the template of `matmul`; distances.

Complex products are four real ones of the parts, products of small integers are those of int32, cut off. Inner products of vectors
are summed by all threads, of floats in float64 as on the CPU. Called through `kernels.cuda.records`.
"""
from __future__ import annotations

import functools
import math

import numpy as np

from ..book import BOOK
from ..source import ITEMSIZE, indented, packed, unpacked
from . import matmul as template
from . import pointwise as maps
from .arrays import converted, dense
from .compiler import Program
from .elements import launches_of, program_of
from .fold_plans import folded
from .launch import View, broadcast, pointwise
from .transposes import copy

NARROW = ("uint8", "int8", "int16")     # dtypes whose products are computed in int32: what overflows is cut off in both


def _product(device, x: View, y: View) -> View:
    """(..., n, k) @ (..., k, m), leading dimensions broadcast."""
    if x.dtype in NARROW:
        return converted(device, _product(device, converted(device, x, "int32"), converted(device, y, "int32")), x.dtype)
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    out = device.empty(x.dtype, (*batch, x.shape[-2], y.shape[-1]))
    if x.dtype.startswith("complex"):
        return _complex_product(device, out, x, y)
    device.run(template.matmul(out, x, y))
    return out


def _parts(x: View) -> tuple[View, View]:
    """Real and imaginary parts of complex numbers, in their memory."""
    real = x._replace(dtype="float32" if x.dtype == "complex64" else "float64")
    return real, real._replace(address=x.address + ITEMSIZE[real.dtype])


def _complex_product(device, out: View, x: View, y: View) -> View:
    """Real part a c - b d, imaginary part a d + b c, for x = a + b i and y = c + d i."""
    (a, b), (c, d) = _parts(x), _parts(y)
    for part, name, one, other in zip(_parts(out), ("sub", "add"), ((a, c), (a, d)), ((b, d), (b, c)), strict=True):
        first, second = (_product(device, *pair) for pair in (one, other))
        device.run(pointwise(maps.forward(BOOK[name], part.dtype), [part], [first, second]))
    return out


def _column(v: View) -> View:
    return v._replace(shape=(*v.shape, 1), strides=(*v.strides, 0))


def _row(v: View) -> View:
    return v._replace(shape=(1, *v.shape), strides=(0, *v.strides))


def _cut(found: View, *dims: int) -> View:
    """A product without dimensions of size one."""
    kept = [d for d in range(len(found.shape)) if d - len(found.shape) not in dims]
    return found._replace(shape=tuple(found.shape[d] for d in kept), strides=tuple(found.strides[d] for d in kept))


matmul = bmm = _product


def mv(device, x: View, y: View) -> View:
    """A matrix and a vector."""
    return _cut(_product(device, x, _column(y)), -1)


# --- inner products of vectors ----------------------------------------------------------------------------------------

LANES = 1 << 15         # threads that add up products, each of elements this far apart


def _wide(dtype: str) -> str:
    """What inner products are summed in; sums of integers wrap around in any width."""
    return "float64" if dtype.startswith("float") else dtype if dtype.startswith("complex") else "int64"


@functools.cache
def lanes_program(dtype: str) -> Program:
    """Sums of x[j] * y[j] over j = i, i + lanes, i + 2 lanes, ... below n."""
    wide = _wide(dtype)
    x, y = (f"as_{wide}({unpacked(dtype, f'read_{dtype}({v}, j * {v}_step)')})" for v in "xy")
    return program_of(f"lanes_{dtype}", "q, x, y", "n, x_step, y_step", [
        f"total, j = as_{wide}(0), i", "while j < n:", f"    total = total + {x} * {y}", "    j = j + count",
        f"store_{wide}(q, i * {ITEMSIZE[wide]}, total)"])


def dot(device, x: View, y: View) -> View:
    """Two vectors."""
    n, wide = x.size, _wide(x.dtype)
    lanes = device.empty(wide, (min(n, LANES),))
    device.run(launches_of(lanes_program(x.dtype), (lanes, x, y), lanes.size, n, x.strides[0], y.strides[0]))
    (total,) = folded(device, BOOK["sum"], lanes)
    return total if wide == x.dtype else converted(device, total, x.dtype)


# --- beta * input + alpha * product -----------------------------------------------------------------------------------

def _blended(device, product: View, input: View, beta, alpha) -> View:
    """beta * input + alpha * product in the product's memory; factors of 0 leave out NaN and infinities, as in BLAS."""
    dtype = product.dtype

    def apply(name: str, *operands) -> None:
        device.run(pointwise(maps.forward(BOOK[name], dtype), [product], list(operands)))
    if alpha == 0:
        device.run(pointwise(maps.cast(dtype, dtype), [product], [0]))
    elif alpha != 1:
        apply("mul", product, alpha)
    if beta == 0:
        return product
    if beta != 1:
        scaled = device.empty(dtype, input.shape)
        device.run(pointwise(maps.forward(BOOK["mul"], dtype), [scaled], [input, beta]))
        input = scaled
    apply("add", product, input)
    return product


def addmm(device, input: View, x: View, y: View, beta, alpha) -> View:
    """beta * input + alpha * (x @ y)."""
    return _blended(device, _product(device, x, y), input, beta, alpha)


def baddbmm(device, input: View, x: View, y: View, beta, alpha) -> View:
    """beta * input + alpha * (x @ y) for stacks."""
    return _blended(device, _product(device, x, y), input, beta, alpha)


def addbmm(device, input: View, x: View, y: View, beta, alpha) -> View:
    """beta * input + alpha * (sum over a stack of products): one product, contracted over the stack too."""
    (b, n, k), m = x.shape, y.shape[-1]
    beside = device.empty(x.dtype, (n, b, k))
    device.run(copy(beside, x._replace(shape=(n, b, k), strides=(x.strides[1], x.strides[0], x.strides[2]))))
    size = ITEMSIZE[x.dtype]
    left = beside._replace(shape=(n, b * k), strides=(b * k * size, size))
    right = dense(device, y)._replace(shape=(b * k, m), strides=(m * size, size))
    return _blended(device, _product(device, left, right), input, beta, alpha)


def addmv(device, input: View, x: View, y: View, beta, alpha) -> View:
    """beta * input + alpha * (x @ y) for a matrix and a vector."""
    return _blended(device, mv(device, x, y), input, beta, alpha)


def addr(device, input: View, x: View, y: View, beta, alpha) -> View:
    """beta * input + alpha * (outer product)."""
    return _blended(device, _product(device, _column(x), _row(y)), input, beta, alpha)


# --- distances --------------------------------------------------------------------------------------------------------

_NORMS = {              # p -> (how a sum takes in elements a and c of two rows, what the distance is then)
    0.0: (["if a != c:", "    total = total + 1.0"], "total"), 1.0: (["total = total + abs(a - c)"], "total"),
    2.0: (["total = total + (a - c) * (a - c)"], "libm.sqrt(total)"),
    math.inf: (["d = as_float64(abs(a - c))", "if d > total or d != d:", "    total = d"], "total")}
_ANY_NORM = (["total = total + libm.pow(as_float64(abs(a - c)), p)"], "libm.pow(total, 1.0 / p)")


@functools.cache
def distance_program(dtype: str, p: float) -> Program:
    """Distances of rows x (.., n, k) and y (.., m, k), both in C order; sums run in float64. `p`: negative for any other."""
    taken, result = _NORMS.get(p, _ANY_NORM)
    size = ITEMSIZE[dtype]
    return program_of(f"distance_{dtype}_{p}", "q, x, y", "n, m, k", [
        "row = quotient(i, m)", "at_x, at_y, l = row * k, (quotient(row, n) * m + i - row * m) * k, 0", "total = as_float64(0)",
        "while l < k:", *indented(1, [f"a, c = read_{dtype}(x, (at_x + l) * {size}), read_{dtype}(y, (at_y + l) * {size})", *taken,
                                      "l = l + 1"]),
        f"store_{dtype}(q, i * {size}, {packed(dtype, result)})"], reals="p")


def cdist(device, x: View, y: View, p: float) -> View:
    """The p-norm of x[..., i, :] - y[..., j, :] for every i and j."""
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    x, y = (dense(device, broadcast(v, (*batch, *v.shape[-2:]))) for v in (x, y))
    n, m, k = x.shape[-2], y.shape[-2], x.shape[-1]
    out = device.empty(x.dtype, (*batch, n, m))
    program = distance_program(x.dtype, p if p in _NORMS else -1.0)
    device.run(launches_of(program, (out, x, y), out.size, n, m, k, float(p)))
    return out
