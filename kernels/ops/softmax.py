"""softmax and log_softmax along one dimension, and their gradients, which are operators themselves.

Arrays here are of a floating dtype and dimensions complete and not negative; fronts are in `engine.functions.activations`, the
kernels in `kernels.cpu.softmax`. float16 is computed in float32 and rounded once.
"""
from __future__ import annotations

import math

import numpy as np

from ..book import BOOK, FLOATS, structural
from ..cpu import buffers, copies, pool
from ..table import cast_ufunc


def narrow(run, *arrays):
    """`run` on arrays of float16 turned into float32, its result turned back."""
    wide = cast_ufunc("float16", "float32")
    return cast_ufunc("float32", "float16")(run(*(wide(a, out=...) for a in arrays)), out=...)


def contiguous(x: np.ndarray) -> np.ndarray:
    """The array itself, or a copy in C order."""
    return x if x.flags.c_contiguous else copies.copy(x)


def _run(make, name: str, dim: int, *arrays: np.ndarray) -> np.ndarray:
    """A kernel of `kernels.cpu.softmax` on arrays of one shape, the dimension being rows or columns of their memory."""
    first = arrays[0]
    if first.dtype == np.float16:
        return narrow(lambda *wide: _run(make, name, dim, *wide), *arrays)
    out = buffers.empty(first.shape, first.dtype)
    if not out.size:
        return out
    if out.size >= pool.GRAIN // 4:
        pool.ensure()
    arrays = [contiguous(a) for a in arrays]
    shape = first.shape or (1,)
    if dim >= len(shape) - 1:
        target, operands = out, arrays
        if len(shape) != 2:
            rows = (math.prod(shape[:-1]), shape[-1])
            target, operands = out.reshape(rows), [a.reshape(rows) for a in arrays]
    else:
        columns = (math.prod(shape[:dim]), shape[dim], math.prod(shape[dim + 1:]))
        target, operands = out.reshape(columns), [a.reshape(columns) for a in arrays]
    make(name, first.dtype.name, dim < len(shape) - 1)(*operands, target)
    return out


def _forward(name: str, x: np.ndarray, dim: int) -> np.ndarray:
    from ..cpu import softmax as kernels
    return _run(kernels.forward_ufunc, name, dim, x)


def _backward(name: str, g: np.ndarray, out: np.ndarray, dim: int) -> np.ndarray:
    from ..cpu import softmax as kernels
    return _run(kernels.gradient_ufunc, name, dim, g, out)


def _dot(x, y, dim):
    return BOOK["sum"](BOOK["mul"](x, y), dims=(dim,), keepdim=True)


_ABOUT = {"dtypes": FLOATS, "function": False, "method": False}


@structural(["x"], adjoint=lambda g, out, dim: BOOK["softmax_backward"](g, out, dim=dim), **_ABOUT)
def softmax(x, dim):
    """exp(x) over its sum along a dimension."""
    return _forward("softmax", x, dim)


@structural(["x"], adjoint=lambda g, out, dim: BOOK["log_softmax_backward"](g, out, dim=dim), **_ABOUT)
def log_softmax(x, dim):
    """x minus the logarithm of the sum of exp(x) along a dimension."""
    return _forward("log_softmax", x, dim)


def _softmax_second(g, c, y, dim):
    """Of y (c - sum(c y)) with respect to c and y."""
    toward_y = BOOK["mul"](g, BOOK["sub"](c, _dot(c, y, dim))) - BOOK["mul"](c, _dot(g, y, dim))
    return BOOK["softmax_backward"](g, y, dim=dim), toward_y


def _log_softmax_second(g, c, y, dim):
    """Of c - exp(y) sum(c) with respect to c and y."""
    p = BOOK["exp"](y)
    total = BOOK["sum"](c, dims=(dim,), keepdim=True)
    return BOOK["sub"](g, _dot(g, p, dim)), BOOK["neg"](BOOK["mul"](BOOK["mul"](g, p), total))


@structural(["c", "y"], adjoint=_softmax_second, node="SoftmaxBackwardBackward0", **_ABOUT)
def softmax_backward(c, y, dim):
    """The gradient of softmax from the cotangent and the result: y (c - sum(c y))."""
    return _backward("softmax", c, y, dim)


@structural(["c", "y"], adjoint=_log_softmax_second, node="LogSoftmaxBackwardBackward0", **_ABOUT)
def log_softmax_backward(c, y, dim):
    """The gradient of log_softmax from the cotangent and the result: c - exp(y) sum(c)."""
    return _backward("log_softmax", c, y, dim)
