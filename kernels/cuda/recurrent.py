"""Recurrent layers on CUDA: lstm_layer, gru_layer, rnn_layer. Each step is a matrix product and one kernel of the gates.

What comes from the input is ready for all steps; see `kernels.ops.recurrent`, whose adjoints in operators are the way back here
too. float16 is computed in float32. Called through `kernels.cuda.records`.
"""
from __future__ import annotations

import functools

from ..ops.recurrent import steps_of
from ..source import ITEMSIZE
from . import matmul as template
from .arrays import converted, dense
from .compiler import Program
from .elements import launches_of, program_of
from .launch import View
from .transposes import copy


def _gate(dtype: str, k: int) -> str:
    """Source of the sum of what gate `k` is of: from the input and from the state before."""
    size = ITEMSIZE[dtype]
    return f"read_{dtype}(x, (at + {k} * h) * {size}) + read_{dtype}(y, (at + {k} * h) * {size})"


def _kept(dtype: str, memory: str, index: str, value: str) -> str:
    return f"store_{dtype}({memory}, ({index}) * {ITEMSIZE[dtype]}, {value})"


@functools.cache
def lstm_program(dtype: str) -> Program:
    """Element i of a step: x, y (n, 4, h), the cell (n, h) -> gates (n, 4, h), cell and state before, new ones, output (n, h)."""
    lines = ["row = quotient(i, h)", "at = row * 3 * h + i"]
    lines += [f"{g} = libm.{'tanh' if k == 2 else 'sigmoid'}({_gate(dtype, k)})" for k, g in enumerate(("u", "f", "g", "o"))]
    lines += [_kept(dtype, "gates", f"at + {k} * h", g) for k, g in enumerate(("u", "f", "g", "o"))]
    lines += [f"old = load_{dtype}(cell, i * {ITEMSIZE[dtype]})", _kept(dtype, "cell_before", "i", "old"),
              _kept(dtype, "before", "i", f"load_{dtype}(state, i * {ITEMSIZE[dtype]})"), "new = f * old + u * g",
              "v = o * libm.tanh(new)", _kept(dtype, "cell", "i", "new"), _kept(dtype, "state", "i", "v"),
              _kept(dtype, "out", "i", "v")]
    return program_of(f"lstm_{dtype}", "out, state, cell, gates, before, cell_before, x, y", "h", lines)


@functools.cache
def gru_program(dtype: str) -> Program:
    """Element i of a step: x, y (n, 3, h), b (3, h), the state (n, h) -> gates (n, 3, h), part, state before, new one, output."""
    size = ITEMSIZE[dtype]

    def own(k: int) -> str:
        return f"(read_{dtype}(y, (at + {k} * h) * {size}) + read_{dtype}(b, (column + {k} * h) * {size}))"
    lines = ["row = quotient(i, h)", "at, column = row * 2 * h + i, i - row * h"]
    lines += [f"{g} = libm.sigmoid(read_{dtype}(x, (at + {k} * h) * {size}) + {own(k)})" for k, g in enumerate("rz")]
    lines += [f"p = {own(2)}", f"new = libm.tanh(read_{dtype}(x, (at + 2 * h) * {size}) + r * p)"]
    lines += [_kept(dtype, "gates", f"at + {k} * h", g) for k, g in enumerate(("r", "z", "new"))]
    lines += [f"old = load_{dtype}(state, i * {size})", _kept(dtype, "part", "i", "p"), _kept(dtype, "before", "i", "old"),
              "v = new + z * (old - new)", _kept(dtype, "state", "i", "v"), _kept(dtype, "out", "i", "v")]
    return program_of(f"gru_{dtype}", "out, state, gates, part, before, x, y, b", "h", lines)


@functools.cache
def plain_program(dtype: str, activation: str) -> Program:
    """Element i of a step: x, y (n, h) -> the new state, which is the output."""
    value = "libm.tanh(v)" if activation == "tanh" else f"as_{dtype}(0) if v < as_{dtype}(0) else v"
    size = ITEMSIZE[dtype]
    return program_of(f"plain_{activation}_{dtype}", "out, state, x, y", "", [
        f"v = read_{dtype}(x, i * {size}) + read_{dtype}(y, i * {size})", f"v = {value}", _kept(dtype, "state", "i", "v"),
        _kept(dtype, "out", "i", "v")])


def _widened(device, layer, arrays: tuple[View, ...], **options) -> tuple[View, ...]:
    """A layer of float16 computed in float32 and rounded once."""
    found = layer(device, *(converted(device, a, "float32") for a in arrays), **options)
    return tuple(converted(device, r, "float16") for r in found)


def _walk(device, h: View, w: View, sizes: tuple[int, ...], reverse: bool, step) -> None:
    """For each step: the product of the state's first n rows with w.T, then the launches of `step(place, n, y)`.

    `place(array)` is an array of all rows from the step's first one on.
    """
    y = device.empty(h.dtype, (h.shape[0], w.shape[0]))
    turned = w._replace(shape=w.shape[::-1], strides=w.strides[::-1])
    for first, _, n in steps_of(tuple(sizes), reverse):
        def place(v: View, first: int = first) -> View:
            return v._replace(address=v.address + first * v.strides[0])
        one = y._replace(shape=(n, w.shape[0]))
        device.run(template.matmul(one, h._replace(shape=(n, h.shape[1])), turned))
        device.run(step(place, n, one))


def _state(device, h: View) -> View:
    made = device.empty(h.dtype, h.shape)
    device.run(copy(made, h))
    return made


def lstm_layer(device, x: View, h: View, c: View, w: View, sizes: tuple[int, ...], reverse: bool) -> tuple[View, ...]:
    """Outputs, last state and cell; gates, states and cells before each step."""
    if x.dtype == "float16":
        return _widened(device, lstm_layer, (x, h, c, w), sizes=sizes, reverse=reverse)
    x, h, c, (rows, size), dtype = dense(device, x), _state(device, h), _state(device, c), (x.shape[0], h.shape[1]), x.dtype
    gates = device.empty(dtype, (rows, 4, size))
    out, before, cell_before = (device.empty(dtype, (rows, size)) for _ in range(3))

    def step(place, n: int, y: View):
        views = (place(out), h, c, place(gates), place(before), place(cell_before), place(x), y)
        return launches_of(lstm_program(dtype), views, n * size, size)
    _walk(device, h, w, sizes, reverse, step)
    return out, h, c, gates, before, cell_before


def gru_layer(device, x: View, h: View, w: View, b: View, sizes: tuple[int, ...], reverse: bool) -> tuple[View, ...]:
    """Outputs, last state; gates, what the reset gate scaled, states before each step."""
    if x.dtype == "float16":
        return _widened(device, gru_layer, (x, h, w, b), sizes=sizes, reverse=reverse)
    x, h, b, (rows, size), dtype = dense(device, x), _state(device, h), dense(device, b), (x.shape[0], h.shape[1]), x.dtype
    gates = device.empty(dtype, (rows, 3, size))
    out, part, before = (device.empty(dtype, (rows, size)) for _ in range(3))

    def step(place, n: int, y: View):
        views = (place(out), h, place(gates), place(part), place(before), place(x), y, b)
        return launches_of(gru_program(dtype), views, n * size, size)
    _walk(device, h, w, sizes, reverse, step)
    return out, h, gates, part, before


def rnn_layer(device, x: View, h: View, w: View, sizes: tuple[int, ...], reverse: bool, activation: str) -> tuple[View, ...]:
    """Outputs, last state."""
    if x.dtype == "float16":
        return _widened(device, rnn_layer, (x, h, w), sizes=sizes, reverse=reverse, activation=activation)
    x, h, dtype, size = dense(device, x), _state(device, h), x.dtype, h.shape[1]
    out = device.empty(dtype, x.shape)

    def step(place, n: int, y: View):
        return launches_of(plain_program(dtype, activation), (place(out), h, place(x), y), n * size)
    _walk(device, h, w, sizes, reverse, step)
    return out, h
