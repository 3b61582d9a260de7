"""Kernels of connectionist temporal classification: the forward and the backward recursion in log space, a sequence a call.

Paper: Graves, Fernandez, Gomez, Schmidhuber, ICML 2006; its alpha and beta are ours, its l' (labels with blanks between) is
`label`. Symbols outside of [0, classes) are counted and read as blanks, so that nothing is read out of bounds; the front refuses
them. Called by the records in `kernels.ops.losses`.
"""
from __future__ import annotations

import functools

import numpy as np

from .. import libm
from . import fills, pool
from .native import Program, make_ufunc

LOWEST = float("-inf")

_LABEL = """
@inline
def row_of(args, steps, k, outer):
    return pointer(address(args[k]) + outer * steps[k])

@inline
def label(targets, step, first, s, blank, classes):
    if s % 2 == 0:
        return blank
    found = load_int64(targets, (first + s // 2) * step)
    return found if found >= 0 and found < classes else blank
"""

# log_probs (t,c), targets (k), first, frames, symbols, blank -> loss, faults, alpha (t,l)
_FORWARD = """
def kernel(args, dimensions, steps, data):
    classes = dimensions[2]
    x_t, x_c, step, a_t, a_s = steps[9], steps[10], steps[11], steps[12], steps[13]
    for outer in range(dimensions[0]):
        x, targets, a = row_of(args, steps, 0, outer), row_of(args, steps, 1, outer), row_of(args, steps, 8, outer)
        first, frames = load_int64(args[2], outer * steps[2]), load_int64(args[3], outer * steps[3])
        symbols, blank = load_int64(args[4], outer * steps[4]), load_int64(args[5], outer * steps[5])
        states, faults = 2 * symbols + 1, 0
        for s in range(symbols):
            found = load_int64(targets, (first + s) * step)
            faults += 1 if found < 0 or found >= classes else 0
        for t in range(frames):
            for s in range(states):
                here = label(targets, step, first, s, blank, classes)
                if t == 0:
                    total = as_T(0) if s < 2 else as_T(-inf)
                else:
                    before = (t - 1) * a_t + s * a_s
                    total = peek_T(a, before)
                    one = peek_T(a, before - a_s) if s > 0 else as_T(-inf)
                    two = as_T(-inf)
                    if s > 1 and s % 2 == 1:
                        if here != label(targets, step, first, s - 2, blank, classes):
                            two = peek_T(a, before - 2 * a_s)
                    total = add_logs(add_logs(total, one), two)
                store_T(a, t * a_t + s * a_s, total + load_T(x, t * x_t + here * x_c))
        loss = as_T(inf) if symbols > 0 else as_T(0)
        if frames > 0:
            last = (frames - 1) * a_t + (states - 1) * a_s
            end = peek_T(a, last)
            loss = -add_logs(end, peek_T(a, last - a_s)) if symbols > 0 else -end
        store_T(args[6], outer * steps[6], loss)
        store_int64(args[7], outer * steps[7], faults)
    clear_status()
"""

# log_probs (t,c), targets (k), first, frames, symbols, blank, loss, factor, alpha (t,l) -> beta (t,l), gradient (t,c)
_GRADIENT = """
def kernel(args, dimensions, steps, data):
    length, classes = dimensions[1], dimensions[2]
    x_t, x_c, step, a_t, a_s, b_t, b_s, g_t, g_c = (steps[11], steps[12], steps[13], steps[14], steps[15], steps[16], steps[17],
                                                    steps[18], steps[19])
    for outer in range(dimensions[0]):
        x, targets = row_of(args, steps, 0, outer), row_of(args, steps, 1, outer)
        a, b, g = row_of(args, steps, 8, outer), row_of(args, steps, 9, outer), row_of(args, steps, 10, outer)
        first, frames = load_int64(args[2], outer * steps[2]), load_int64(args[3], outer * steps[3])
        symbols, blank = load_int64(args[4], outer * steps[4]), load_int64(args[5], outer * steps[5])
        loss, factor = load_T(args[6], outer * steps[6]), load_T(args[7], outer * steps[7])
        states = 2 * symbols + 1
        for back in range(frames):
            t = frames - 1 - back
            for k in range(classes):
                store_T(g, t * g_t + k * g_c, as_T(-inf))
            for s in range(states):
                here = label(targets, step, first, s, blank, classes)
                if back == 0:
                    total = as_T(0) if s >= states - 2 else as_T(-inf)
                else:
                    after = (t + 1) * b_t + s * b_s
                    total = peek_T(b, after)
                    one = peek_T(b, after + b_s) if s + 1 < states else as_T(-inf)
                    two = as_T(-inf)
                    if s + 2 < states and s % 2 == 1:
                        if here != label(targets, step, first, s + 2, blank, classes):
                            two = peek_T(b, after + 2 * b_s)
                    total = add_logs(add_logs(total, one), two)
                value = total + load_T(x, t * x_t + here * x_c)
                store_T(b, t * b_t + s * b_s, value)
                at = t * g_t + here * g_c
                store_T(g, at, add_logs(peek_T(g, at), load_T(a, t * a_t + s * a_s) + value))
            for k in range(classes):
                at, p = t * g_t + k * g_c, load_T(x, t * x_t + k * x_c)
                value = (exp(p) - exp(peek_T(g, at) + loss - p)) * factor
                store_T(g, at, as_T(0) if factor == as_T(0) else value)
        for t in range(frames, length):
            for k in range(classes):
                store_T(g, t * g_t + k * g_c, as_T(0))
    clear_status()
"""


def _add_logs(x, y):
    """log(exp(x) + exp(y)); -inf where both are."""
    top = x if x > y else y
    together = top + libm.log1p(libm.exp((y if x > y else x) - top))
    return top if top == LOWEST else together


def _exp(x):
    return libm.exp(x)


def _ufunc(name: str, source: str, dtype: str, signature: str, inputs: str, outputs: str) -> np.ufunc:
    for form in ("load_", "peek_", "store_", "as_"):
        source = source.replace(form + "T(", f"{form}{dtype}(")
    types = {"T": dtype, "i": "int64"}
    return make_ufunc(Program(f"{name}_{dtype}", _LABEL + source,
                              functions={"add_logs": (_add_logs, dtype), "exp": (_exp, None)},
                              inputs=tuple(types[c] for c in inputs), outputs=tuple(types[c] for c in outputs),
                              signature=signature, work=64))


@functools.cache
def forward_ufunc(dtype: str) -> np.ufunc:
    """Losses, numbers of bad symbols and forward variables of sequences."""
    return _ufunc("ctc_forward", _FORWARD, dtype, "(t,c),(k),(),(),(),()->(),(),(t,l)", "Tiiiii", "TiT")


@functools.cache
def gradient_ufunc(dtype: str) -> np.ufunc:
    """Backward variables and gradients of sequences."""
    return _ufunc("ctc_gradient", _GRADIENT, dtype, "(t,c),(k),(),(),(),(),(),(),(t,l)->(t,l),(t,c)", "TiiiiiTTT", "TT")


def forward(log_probs, targets, offsets, input_lengths, target_lengths, blank: int):
    """(losses (n), alpha (n, t, 2 longest + 1)); see `kernels.ops.losses.ctc_loss`. RuntimeError for symbols that do not exist."""
    t, n, _ = log_probs.shape
    longest = max(target_lengths.tolist(), default=0)
    losses, faults = np.empty(n, log_probs.dtype), np.empty(n, np.int64)
    alpha = np.empty((n, t, 2 * longest + 1), log_probs.dtype)
    fills.fill(alpha, np.array(-np.inf, alpha.dtype))
    if n:
        pool.ensure()
        forward_ufunc(log_probs.dtype.name)(log_probs.swapaxes(0, 1), targets, offsets, input_lengths, target_lengths,
                                            np.array(blank, np.int64), losses, faults, alpha)
    if any(faults.tolist()):
        raise RuntimeError(f"ctc_loss: targets must be between 0 and {log_probs.shape[2] - 1}, the number of classes less one")
    return losses, alpha


def gradient(c, log_probs, targets, offsets, input_lengths, target_lengths, losses, alpha, blank: int):
    """The gradient by log_probs (t, n, classes); see `kernels.ops.losses.ctc_loss_gradient`."""
    t, n, classes = log_probs.shape
    out = np.empty((n, t, classes), log_probs.dtype)
    if n:
        pool.ensure()
        gradient_ufunc(losses.dtype.name)(log_probs.swapaxes(0, 1), targets, offsets, input_lengths, target_lengths,
                                          np.array(blank, np.int64), losses, c, alpha, np.empty_like(alpha), out)
    return out.swapaxes(0, 1)
