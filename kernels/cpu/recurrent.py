"""Kernels of one step of LSTM, GRU and plain recurrent layers, for all rows of a batch: forward and backward.

Each adds what comes from the input (`x`) to what comes from the state before (`y`, a product that BLAS made), applies the
gates, and leaves behind what the way back needs. Gates are in PyTorch's order: input, forget, cell, output (LSTM) and reset,
update, new (GRU). A row of an operand is contiguous; float32 and float64. Called by `kernels.ops.recurrent`, which walks
through the steps and makes the products.
"""
from __future__ import annotations

import functools

import numpy as np

from .. import libm
from .maps import ITEMSIZE
from .native import Program, make_ufunc

_ROW = """
@inline
def row_of(args, steps, k, row):
    return pointer(address(args[k]) + row * steps[k])
"""

# Loops are kept apart so that each has few pointers: LLVM vectorises a loop only where few pairs may overlap.
_LSTM_FORWARD = """
def kernel(args, dimensions, steps, data):
    h = dimensions[2]
    for row in range(dimensions[0]):
        x, y, before = row_of(args, steps, 0, row), row_of(args, steps, 1, row), row_of(args, steps, 2, row)
        gates, cell = row_of(args, steps, 3, row), row_of(args, steps, 4, row)
        state, out = row_of(args, steps, 5, row), row_of(args, steps, 6, row)
        for k in range(2 * h):
            store_T(gates, k * SIZE, sigmoid(load_T(x, k * SIZE) + load_T(y, k * SIZE)))
        for k in range(2 * h, 3 * h):
            store_T(gates, k * SIZE, tanh(load_T(x, k * SIZE) + load_T(y, k * SIZE)))
        for k in range(3 * h, 4 * h):
            store_T(gates, k * SIZE, sigmoid(load_T(x, k * SIZE) + load_T(y, k * SIZE)))
        for k in range(h):
            i, f, g = peek_T(gates, k * SIZE), peek_T(gates, (h + k) * SIZE), peek_T(gates, (2 * h + k) * SIZE)
            store_T(cell, k * SIZE, f * load_T(before, k * SIZE) + i * g)
        for k in range(h):
            v = peek_T(gates, (3 * h + k) * SIZE) * tanh(peek_T(cell, k * SIZE))
            store_T(state, k * SIZE, v)
            store_T(out, k * SIZE, v)
    clear_status()
"""

_LSTM_BACKWARD = """
def kernel(args, dimensions, steps, data):
    h, one = dimensions[2], as_T(1)
    for row in range(dimensions[0]):
        gates, before, g_out = row_of(args, steps, 0, row), row_of(args, steps, 1, row), row_of(args, steps, 2, row)
        g_state, g_cell = row_of(args, steps, 3, row), row_of(args, steps, 4, row)
        pre, g_before = row_of(args, steps, 5, row), row_of(args, steps, 6, row)
        for k in range(h):
            i, f, g = load_T(gates, k * SIZE), load_T(gates, (h + k) * SIZE), load_T(gates, (2 * h + k) * SIZE)
            o = load_T(gates, (3 * h + k) * SIZE)
            t = tanh(f * load_T(before, k * SIZE) + i * g)
            total = load_T(g_out, k * SIZE) + load_T(g_state, k * SIZE)
            store_T(pre, (3 * h + k) * SIZE, total * t * o * (one - o))
            store_T(g_before, k * SIZE, load_T(g_cell, k * SIZE) + total * o * (one - t * t))
        for k in range(h):
            i, f, g = load_T(gates, k * SIZE), load_T(gates, (h + k) * SIZE), load_T(gates, (2 * h + k) * SIZE)
            d = peek_T(g_before, k * SIZE)
            store_T(pre, k * SIZE, d * g * i * (one - i))
            store_T(pre, (h + k) * SIZE, d * load_T(before, k * SIZE) * f * (one - f))
            store_T(pre, (2 * h + k) * SIZE, d * i * (one - g * g))
        for k in range(h):
            store_T(g_before, k * SIZE, peek_T(g_before, k * SIZE) * load_T(gates, (h + k) * SIZE))
    clear_status()
"""

_GRU_FORWARD = """
def kernel(args, dimensions, steps, data):
    h = dimensions[2]
    for row in range(dimensions[0]):
        x, y, b, before = row_of(args, steps, 0, row), row_of(args, steps, 1, row), args[2], row_of(args, steps, 3, row)
        gates, part = row_of(args, steps, 4, row), row_of(args, steps, 5, row)
        state, out = row_of(args, steps, 6, row), row_of(args, steps, 7, row)
        for k in range(2 * h):
            store_T(gates, k * SIZE, sigmoid(load_T(x, k * SIZE) + (load_T(y, k * SIZE) + load_T(b, k * SIZE))))
        for k in range(h):
            v = load_T(y, (2 * h + k) * SIZE) + load_T(b, (2 * h + k) * SIZE)
            store_T(part, k * SIZE, v)
            store_T(gates, (2 * h + k) * SIZE, tanh(load_T(x, (2 * h + k) * SIZE) + peek_T(gates, k * SIZE) * v))
        for k in range(h):
            z, n = peek_T(gates, (h + k) * SIZE), peek_T(gates, (2 * h + k) * SIZE)
            v = n + z * (load_T(before, k * SIZE) - n)
            store_T(state, k * SIZE, v)
            store_T(out, k * SIZE, v)
    clear_status()
"""

_GRU_BACKWARD = """
@inline
def total_of(g_out, g_state, g_direct, at):
    return load_T(g_out, at) + load_T(g_state, at) + load_T(g_direct, at)

def kernel(args, dimensions, steps, data):
    h, one = dimensions[2], as_T(1)
    for row in range(dimensions[0]):
        gates, part, before = row_of(args, steps, 0, row), row_of(args, steps, 1, row), row_of(args, steps, 2, row)
        g_out, g_state, g_direct = row_of(args, steps, 3, row), row_of(args, steps, 4, row), row_of(args, steps, 5, row)
        g_x, g_y, g_before = row_of(args, steps, 6, row), row_of(args, steps, 7, row), row_of(args, steps, 8, row)
        for k in range(h):
            r, z, n = load_T(gates, k * SIZE), load_T(gates, (h + k) * SIZE), load_T(gates, (2 * h + k) * SIZE)
            v = total_of(g_out, g_state, g_direct, k * SIZE) * (one - z) * (one - n * n)
            store_T(g_x, (2 * h + k) * SIZE, v)
            store_T(g_y, (2 * h + k) * SIZE, v * r)
        for k in range(h):
            z, total = load_T(gates, (h + k) * SIZE), total_of(g_out, g_state, g_direct, k * SIZE)
            v = total * (load_T(before, k * SIZE) - load_T(gates, (2 * h + k) * SIZE)) * z * (one - z)
            store_T(g_x, (h + k) * SIZE, v)
            store_T(g_y, (h + k) * SIZE, v)
            store_T(g_before, k * SIZE, total * z)
        for k in range(h):
            r = load_T(gates, k * SIZE)
            v = peek_T(g_x, (2 * h + k) * SIZE) * load_T(part, k * SIZE) * r * (one - r)
            store_T(g_x, k * SIZE, v)
            store_T(g_y, k * SIZE, v)
    clear_status()
"""

_PLAIN_FORWARD = """
def kernel(args, dimensions, steps, data):
    zero = as_T(0)
    for row in range(dimensions[0]):
        x, y, state, out = (row_of(args, steps, 0, row), row_of(args, steps, 1, row), row_of(args, steps, 2, row),
                            row_of(args, steps, 3, row))
        for k in range(dimensions[1]):
            v = load_T(x, k * SIZE) + load_T(y, k * SIZE)
            v = VALUE
            store_T(state, k * SIZE, v)
            store_T(out, k * SIZE, v)
    clear_status()
"""

_PLAIN_BACKWARD = """
def kernel(args, dimensions, steps, data):
    zero, one = as_T(0), as_T(1)
    for row in range(dimensions[0]):
        out, g_out, g_state, pre = (row_of(args, steps, 0, row), row_of(args, steps, 1, row), row_of(args, steps, 2, row),
                                    row_of(args, steps, 3, row))
        for k in range(dimensions[1]):
            v, total = load_T(out, k * SIZE), load_T(g_out, k * SIZE) + load_T(g_state, k * SIZE)
            store_T(pre, k * SIZE, SLOPE)
    clear_status()
"""
_VALUE = {"tanh": "tanh(v)", "relu": "zero if v < zero else v"}
_SLOPE = {"tanh": "total * (one - v * v)", "relu": "total if v > zero else zero"}


def _sigmoid(x):
    return libm.sigmoid(x)


def _tanh(x):
    return libm.tanh(x)


def _kernel(name: str, source: str, dtype: str, signature: str) -> np.ufunc:
    """A template filled in for a dtype, as a gufunc; all operands have that dtype.

    It counts as light work and so rarely goes to several threads: between two steps BLAS multiplies, and our workers, still
    spinning, would keep its threads from their cores.
    """
    source = _ROW + source.replace("SIZE", str(ITEMSIZE[dtype]))
    for form in ("load_", "peek_", "store_", "as_"):
        source = source.replace(form + "T(", f"{form}{dtype}(")
    inputs, outputs = (part.count("(") for part in signature.split("->"))
    return make_ufunc(Program(f"{name}_{dtype}", source, functions={"sigmoid": (_sigmoid, None), "tanh": (_tanh, None)},
                              inputs=(dtype,) * inputs, outputs=(dtype,) * outputs, signature=signature))


@functools.cache
def lstm_forward(dtype: str) -> np.ufunc:
    """x, y (4, h), cell before (h) -> gates (4, h), cell, state, the state once more as the step's output (h)."""
    return _kernel("lstm_forward", _LSTM_FORWARD, dtype, "(q,h),(q,h),(h)->(q,h),(h),(h),(h)")


@functools.cache
def lstm_backward(dtype: str) -> np.ufunc:
    """gates (4, h), cell before, gradients of output, state and cell (h) -> of the gates' arguments (4, h), of the cell before."""
    return _kernel("lstm_backward", _LSTM_BACKWARD, dtype, "(q,h),(h),(h),(h),(h)->(q,h),(h)")


@functools.cache
def gru_forward(dtype: str) -> np.ufunc:
    """x, y, bias of y (3, h), state before (h) -> gates (3, h), what the reset gate scales, state, output (h)."""
    return _kernel("gru_forward", _GRU_FORWARD, dtype, "(q,h),(q,h),(q,h),(h)->(q,h),(h),(h),(h)")


@functools.cache
def gru_backward(dtype: str) -> np.ufunc:
    """gates (3, h), what the reset gate scales, state before, gradients of output and state, the latter in two parts (h)
    -> of x, of y (3, h), of the state before as far as it does not go through y (h).
    """
    return _kernel("gru_backward", _GRU_BACKWARD, dtype, "(q,h),(h),(h),(h),(h),(h)->(q,h),(q,h),(h)")


@functools.cache
def plain_forward(dtype: str, activation: str) -> np.ufunc:
    """x, y (h) -> state, output (h)."""
    return _kernel(f"rnn_{activation}", _PLAIN_FORWARD.replace("VALUE", _VALUE[activation]), dtype, "(h),(h)->(h),(h)")


@functools.cache
def plain_backward(dtype: str, activation: str) -> np.ufunc:
    """output, gradients of output and state (h) -> of the activation's argument (h)."""
    return _kernel(f"rnn_{activation}_backward", _PLAIN_BACKWARD.replace("SLOPE", _SLOPE[activation]), dtype, "(h),(h),(h)->(h)")
