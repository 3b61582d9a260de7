"""One direction of one recurrent layer over all its steps: lstm_layer, gru_layer, rnn_layer.

Rows of all steps lie one after another, `sizes[t]` rows for step t, so that padded and packed sequences are the same thing:
sizes never grow, and the rows of a step are the first rows of the state. What comes from the input, x @ w_ih.T + biases, is
ready for all steps (one product); here is what cannot be: the product with the state and the gates, step after step. `reverse`
walks from the last step to the first. Called by `engine.nn.recurrent`, the gates' kernels are in `kernels.cpu.recurrent`.

The way back is one pass over the steps too (`quick`); where it is itself to be differentiated it is written in operators.
"""
from __future__ import annotations

import functools
import itertools

import numpy as np

from ..book import BOOK, FLOATS, structural
from ..cpu import blas, buffers, copies, products
from ..cpu.gathers import aligned, as_contiguous
from ..table import cast_ufunc


@functools.lru_cache(maxsize=64)
def steps_of(sizes: tuple[int, ...], reverse: bool) -> list[tuple[int, int, int]]:
    """(first row, row behind the last, count) of each step, in the order in which they are taken."""
    last = list(itertools.accumulate(sizes))
    steps = [(end - n, end, n) for end, n in zip(last, sizes, strict=True)]
    return steps[::-1] if reverse else steps


@functools.cache
def _kernels():
    from ..cpu import recurrent
    return recurrent


def _dense(x: np.ndarray) -> np.ndarray:
    return as_contiguous(aligned(x))


def _widened(layer, arrays, **options):
    """A layer of float16 computed in float32 and rounded once."""
    wide, narrow = cast_ufunc("float16", "float32"), cast_ufunc("float32", "float16")
    return tuple(narrow(result, out=...) for result in layer(*(wide(a, out=...) for a in arrays), **options))


def _begin(x: np.ndarray, state: np.ndarray, w: np.ndarray, gates: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x as (rows, gates, h), memory for the product of a step, the same as (batch, gates, h), and w.T.

    BLAS is slower with a transposed view, by more than a copy costs where there are several steps.
    """
    blas.prepare(w.size * len(state))
    y = np.empty((len(state), x.shape[1]), x.dtype)
    turned = as_contiguous(w.T) if len(x) > len(state) else w.T
    size = x.shape[1] // gates
    return _dense(x).reshape(len(x), gates, size), y, y.reshape(len(y), gates, size), turned


def _dot(x: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
    products.quiet.run(np.dot, x, y, out)


def _gradient(g: np.ndarray | None, like: np.ndarray, rows: int) -> np.ndarray:
    """Memory of the gradient of a state: a copy of `g`, or zeros."""
    return np.zeros((rows, like.shape[1]), like.dtype) if g is None else copies.copy(g)


def _outputs(g: np.ndarray | None, like: np.ndarray):
    """The gradient of all outputs as a function of a step's rows."""
    if g is None:
        zero = np.zeros((1, like.shape[1]), like.dtype)
        return lambda first, last: zero
    g = _dense(g)
    return lambda first, last: g[first:last]


# --- in operators, for derivatives of derivatives ---------------------------------------------------------------------

def _renewed(new, old, n: int):
    """A state of which the first n rows are new."""
    return new if n == old.shape[0] else BOOK["cat"]([new, old[n:]], dim=0)


def _forward_steps(h, sizes, reverse, step):
    """What `step(first, last, n, state)` tells of each step besides the new state, with the state before it."""
    trail = []
    for first, last, n in steps_of(sizes, reverse):
        before = h[:n]
        new, *kept = step(first, last, n, before)
        h = _renewed(new, h, n)
        trail.append((first, last, n, before, *kept))
    return trail


def _in_order(parts, reverse):
    """Rows of all steps, given in the order of the way back."""
    return BOOK["cat"](parts if reverse else parts[::-1], dim=0)


def _or_zeros(g, like):
    return BOOK["zero"](like) if g is None else g


def _added(total, g, first, last):
    return total if g is None else BOOK["add"](total, g[first:last])


def _turned(x):
    return BOOK["t"](x)


def _linear(h, w):
    return BOOK["matmul"](h, _turned(w))


# --- LSTM -------------------------------------------------------------------------------------------------------------

def _lstm_adjoint(gs, x, h, c, w, sizes, reverse, needs, out3, out4, out5):
    size = h.shape[1]
    sigmoid, tanh = BOOK["sigmoid"], BOOK["tanh"]
    cell = [c]

    def step(first, last, n, before):
        a = BOOK["add"](x[first:last], _linear(before, w))
        i, f, g, o = (a[:, k * size:(k + 1) * size] for k in range(4))
        i, f, g, o, c_before = sigmoid(i), sigmoid(f), tanh(g), sigmoid(o), cell[0][:n]
        new = f * c_before + i * g
        cell[0] = _renewed(new, cell[0], n)
        t = tanh(new)
        return o * t, c_before, i, f, g, o, t

    trail = _forward_steps(h, sizes, reverse, step)
    g_h, g_c, parts, states = _or_zeros(gs[1], h), _or_zeros(gs[2], c), [], []
    for first, last, n, before, c_before, i, f, g, o, t in reversed(trail):
        total = _added(g_h[:n], gs[0], first, last)
        d = g_c[:n] + total * o * (1 - t * t)
        part = BOOK["cat"]([d * g * i * (1 - i), d * c_before * f * (1 - f), d * i * (1 - g * g), total * t * o * (1 - o)], dim=1)
        parts.append(part)
        states.append(before)
        g_h, g_c = _renewed(BOOK["matmul"](part, w), g_h, n), _renewed(d * f, g_c, n)
    g_x = _in_order(parts, reverse)
    return g_x, g_h, g_c, BOOK["matmul"](_turned(g_x), _in_order(states, reverse)) if needs[3] else None


def _lstm_quick(gs, x, h, c, w, sizes, reverse, needs, gates, h_before, c_before):
    if w.dtype == np.float16:
        return None
    kernel, w = _kernels().lstm_backward(w.dtype.name), _dense(w)
    blas.prepare(w.size * len(h))
    g_h, g_c, g_out = _gradient(gs[1], h_before, len(h)), _gradient(gs[2], c_before, len(c)), _outputs(gs[0], h_before)
    g_x, spare = buffers.empty(gates.shape, gates.dtype), np.empty(g_c.shape, g_c.dtype)
    rows, put = g_x.reshape(len(g_x), len(w)), copies.into
    for first, last, n in reversed(steps_of(sizes, reverse)):
        kernel(gates[first:last], c_before[first:last], g_out(first, last), g_h[:n], g_c[:n], out=(g_x[first:last], spare[:n]))
        _dot(rows[first:last], w, g_h[:n])
        put(g_c[:n], spare[:n])
    return rows, g_h, g_c, products.product(rows.T, h_before) if needs[3] else None


@structural(["x", "h", "c", "w"], adjoint=_lstm_adjoint, quick=_lstm_quick, nondiff=(3, 4, 5), dtypes=FLOATS, function=False,
            method=False, source="Hochreiter, Schmidhuber, Long short-term memory (1997); Gers et al. (2000)")
def lstm_layer(x, h, c, w, sizes, reverse):
    """x (rows, 4 h), state and cell (batch, h), w (4 h, h) -> outputs (rows, h), last state and cell; then, for the way back,
    gates (rows, 4, h), states and cells before each step (rows, h).
    """
    if x.dtype == np.float16:
        return _widened(lstm_layer.forward, (x, h, c, w), sizes=sizes, reverse=reverse)
    kernel, put = _kernels().lstm_forward(x.dtype.name), copies.into
    x, y, y_gates, turned = _begin(x, h, _dense(w), 4)
    h, c, shape = copies.copy(h), copies.copy(c), (len(x), h.shape[1])
    gates = buffers.empty(x.shape, x.dtype)
    out, h_before, c_before = (buffers.empty(shape, x.dtype) for _ in range(3))
    for first, last, n in steps_of(sizes, reverse):
        put(h_before[first:last], h[:n])
        put(c_before[first:last], c[:n])
        _dot(h[:n], turned, y[:n])
        kernel(x[first:last], y_gates[:n], c_before[first:last], out=(gates[first:last], c[:n], h[:n], out[first:last]))
    return out, h, c, gates, h_before, c_before


# --- GRU --------------------------------------------------------------------------------------------------------------

def _gru_adjoint(gs, x, h, w, b, sizes, reverse, needs, out2, out3, out4):
    size = h.shape[1]
    sigmoid, tanh = BOOK["sigmoid"], BOOK["tanh"]

    def step(first, last, n, before):
        a, y = x[first:last], BOOK["add"](_linear(before, w), b)
        rz = sigmoid(a[:, :2 * size] + y[:, :2 * size])
        r, z, part = rz[:, :size], rz[:, size:], y[:, 2 * size:]
        new = tanh(a[:, 2 * size:] + r * part)
        return new + z * (before - new), r, z, new, part

    trail = _forward_steps(h, sizes, reverse, step)
    g_h, xs, ys, states = _or_zeros(gs[1], h), [], [], []
    for first, last, n, before, r, z, new, part in reversed(trail):
        total = _added(g_h[:n], gs[0], first, last)
        d_new = total * (1 - z) * (1 - new * new)
        d_z, d_r = total * (before - new) * z * (1 - z), d_new * part * r * (1 - r)
        xs.append(BOOK["cat"]([d_r, d_z, d_new], dim=1))
        ys.append(BOOK["cat"]([d_r, d_z, d_new * r], dim=1))
        states.append(before)
        g_h = _renewed(total * z + BOOK["matmul"](ys[-1], w), g_h, n)
    g_y = _in_order(ys, reverse)
    return (_in_order(xs, reverse), g_h, BOOK["matmul"](_turned(g_y), _in_order(states, reverse)) if needs[2] else None,
            BOOK["sum"](g_y, dims=(0,)) if needs[3] else None)


def _gru_quick(gs, x, h, w, b, sizes, reverse, needs, gates, part, h_before):
    if w.dtype == np.float16:
        return None
    kernel, w = _kernels().gru_backward(w.dtype.name), _dense(w)
    blas.prepare(w.size * len(h))
    g_h, g_out = _gradient(gs[1], h_before, len(h)), _outputs(gs[0], h_before)
    g_direct, spare = np.zeros(g_h.shape, g_h.dtype), np.empty(g_h.shape, g_h.dtype)
    g_x, g_y = buffers.empty(gates.shape, gates.dtype), buffers.empty(gates.shape, gates.dtype)
    rows, put = g_y.reshape(len(g_y), len(w)), copies.into
    for first, last, n in reversed(steps_of(sizes, reverse)):
        kernel(gates[first:last], part[first:last], h_before[first:last], g_out(first, last), g_h[:n], g_direct[:n],
               out=(g_x[first:last], g_y[first:last], spare[:n]))
        _dot(rows[first:last], w, g_h[:n])
        put(g_direct[:n], spare[:n])
    return (g_x.reshape(rows.shape), BOOK["add"].on_arrays(g_h, g_direct), products.product(rows.T, h_before) if needs[2] else None,
            BOOK["sum"].on_arrays(rows, (0,)) if needs[3] else None)


@structural(["x", "h", "w", "b"], adjoint=_gru_adjoint, quick=_gru_quick, nondiff=(2, 3, 4), dtypes=FLOATS, function=False,
            method=False, source="Cho et al., Learning phrase representations (2014), with PyTorch's reset gate")
def gru_layer(x, h, w, b, sizes, reverse):
    """x (rows, 3 h), state (batch, h), w (3 h, h), bias of its product (3 h) -> outputs (rows, h), last state; then, for the way
    back, gates (rows, 3, h), what the reset gate scaled and states before each step (rows, h).
    """
    if x.dtype == np.float16:
        return _widened(gru_layer.forward, (x, h, w, b), sizes=sizes, reverse=reverse)
    kernel, put = _kernels().gru_forward(x.dtype.name), copies.into
    x, y, y_gates, turned = _begin(x, h, _dense(w), 3)
    h, b, shape = copies.copy(h), _dense(b).reshape(3, -1), (len(x), h.shape[1])
    gates = buffers.empty(x.shape, x.dtype)
    out, part, h_before = (buffers.empty(shape, x.dtype) for _ in range(3))
    for first, last, n in steps_of(sizes, reverse):
        put(h_before[first:last], h[:n])
        _dot(h[:n], turned, y[:n])
        kernel(x[first:last], y_gates[:n], b, h_before[first:last],
               out=(gates[first:last], part[first:last], h[:n], out[first:last]))
    return out, h, gates, part, h_before


# --- the plain layer --------------------------------------------------------------------------------------------------

def _rnn_adjoint(gs, x, h, w, sizes, reverse, activation, needs, out):
    activate = BOOK[activation]

    def step(first, last, n, before):
        new = activate(BOOK["add"](x[first:last], _linear(before, w)))
        return new, new

    trail = _forward_steps(h, sizes, reverse, step)
    g_h, parts, states = _or_zeros(gs[1], h), [], []
    for first, last, n, before, new in reversed(trail):
        total = _added(g_h[:n], gs[0], first, last)
        parts.append(total * (1 - new * new) if activation == "tanh" else BOOK["where"](new > 0, total, 0))
        states.append(before)
        g_h = _renewed(BOOK["matmul"](parts[-1], w), g_h, n)
    g_x = _in_order(parts, reverse)
    return g_x, g_h, BOOK["matmul"](_turned(g_x), _in_order(states, reverse)) if needs[2] else None


def _rnn_quick(gs, x, h, w, sizes, reverse, activation, needs, out):
    if w.dtype == np.float16:
        return None
    out, kernel, w, put = out[0], _kernels().plain_backward(w.dtype.name, activation), _dense(w), copies.into
    blas.prepare(w.size * len(h))
    g_h, g_out = _gradient(gs[1], out, len(h)), _outputs(gs[0], out)
    g_x, before, state = buffers.empty(x.shape, x.dtype), buffers.empty(x.shape, x.dtype), copies.copy(h)
    for first, last, n in reversed(steps_of(sizes, reverse)):
        kernel(out[first:last], g_out(first, last), g_h[:n], out=g_x[first:last])
        _dot(g_x[first:last], w, g_h[:n])
    if not needs[2]:
        return g_x, g_h, None
    for first, last, n in steps_of(sizes, reverse):
        put(before[first:last], state[:n])
        put(state[:n], out[first:last])
    return g_x, g_h, products.product(g_x.T, before)


@structural(["x", "h", "w"], adjoint=_rnn_adjoint, quick=_rnn_quick, dtypes=FLOATS, function=False, method=False,
            source="Elman, Finding structure in time (1990)")
def rnn_layer(x, h, w, sizes, reverse, activation):
    """x (rows, h), state (batch, h), w (h, h) -> outputs (rows, h), last state; the activation is "tanh" or "relu"."""
    if x.dtype == np.float16:
        return _widened(rnn_layer.forward, (x, h, w), sizes=sizes, reverse=reverse, activation=activation)
    kernel = _kernels().plain_forward(x.dtype.name, activation)
    x, y, _, turned = _begin(x, h, _dense(w), 1)
    x, h = x.reshape(len(x), len(w)), copies.copy(h)
    out = buffers.empty(x.shape, x.dtype)
    for first, last, n in steps_of(sizes, reverse):
        _dot(h[:n], turned, y[:n])
        kernel(x[first:last], y[:n], out=(h[:n], out[first:last]))
    return out, h
