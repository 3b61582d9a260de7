"""Losses: pointwise ones (mse, smooth l1, huber, binary cross entropy, soft margin), those with class indices, and CTC.

Reductions of the pointwise ones are made by `engine.nn.functional.reduction`. Losses with class indices check each index before
it is used, and count the bad ones: IndexError follows. cross_entropy is fused (no array of log probabilities), its gradient
recomputes the exponentials, which costs less than keeping them. Losses that are compositions are in `engine.nn.functional.loss`.
"""
from __future__ import annotations

import functools

import numpy as np

from .. import libm
from ..book import BOOK, FLOATS, pointwise, structural
from ..cpu import buffers, pool
from .activation import refused
from .select import choose
from .softmax import contiguous, narrow

PRIVATE = {"function": False, "method": False}
INF = float("inf")

# --- pointwise --------------------------------------------------------------------------------------------------------


@pointwise(partials=lambda x, y, out: (2 * (x - y), -2 * (x - y)), dtypes=FLOATS, like=lambda x, y: (x - y) ** 2,
           cancels=True, special=(0.0, 1.0, np.inf, np.nan), refusals=refused("mse_cpu"), **PRIVATE)
def mse_loss(x, y):
    """The squared difference."""
    d = x - y
    return d * d


def _smooth_partials(x, y, beta, out):
    d = x - y
    slope = choose(d <= -beta, -1, choose(d >= beta, 1, d / beta))
    return slope, -slope, None


@pointwise(partials=_smooth_partials, dtypes=FLOATS, numbers=("beta",), domain={"beta": (0.5, 2.0)}, cancels=True, tol=8,
           special={"x": (0.0, 1.0, np.inf, np.nan), "y": (0.0, 1.0), "beta": (1.0, 0.5)},
           like=lambda x, y, b: np.where(np.abs(x - y) < b, 0.5 * (x - y) ** 2 / b, np.abs(x - y) - 0.5 * b),
           node="SmoothL1LossBackward0", refusals=refused("smooth_l1_cpu"), source="Girshick, arXiv:1504.08083", **PRIVATE)
def smooth_l1_loss(x, y, beta):
    """|x - y| - beta / 2, and a parabola where |x - y| is below beta."""
    z = libm.abs(x - y)
    return 0.5 * z * z / beta if z < beta else z - 0.5 * beta


def _huber_partials(x, y, delta, out):
    d = x - y
    slope = choose(d <= -delta, -delta, choose(d >= delta, delta, d))
    return slope, -slope, None


@pointwise(partials=_huber_partials, dtypes=FLOATS, numbers=("delta",), domain={"delta": (0.5, 2.0)}, cancels=True, tol=8,
           special={"x": (0.0, 1.0, np.inf, np.nan), "y": (0.0, 1.0), "delta": (1.0, 0.5)},
           like=lambda x, y, d: np.where(np.abs(x - y) < d, 0.5 * (x - y) ** 2, d * (np.abs(x - y) - 0.5 * d)),
           refusals=refused("huber_cpu"), source="Huber, Annals of Mathematical Statistics 35 (1964)", **PRIVATE)
def huber_loss(x, y, delta):
    """delta (|x - y| - delta / 2), and (x - y)^2 / 2 where |x - y| is below delta."""
    z = libm.abs(x - y)
    return 0.5 * z * z if z < delta else delta * (z - 0.5 * delta)


def _bce_partials(x, y, w, out):
    """PyTorch's: the divisor of the first is kept away from 0, the second is infinite at 0 and 1."""
    divisor = BOOK["clamp_min"]((1 - x) * x, 1e-12)
    return w * ((x - y) / divisor), w * (BOOK["log1p"](-x) - BOOK["log"](x)), None


def _bce_like(x, y, w):
    return -w * (y * np.maximum(np.log(x), -100) + (1 - y) * np.maximum(np.log1p(-x), -100))


# NaN and values outside of [0, 1] are refused by the front
@pointwise(partials=_bce_partials, dtypes=FLOATS, numbers=("w",), like=_bce_like, work=8, cancels=True, tol=8,
           domain={"x": (0.05, 0.95), "y": (0.0, 1.0), "w": (0.5, 2.0)},
           special={"x": (0.0, 0.5, 1.0), "y": (0.0, 0.5, 1.0), "w": (1.0,)},
           refusals=refused("binary_cross_entropy"), **PRIVATE)
def binary_cross_entropy(x, y, w):
    """-w (y log x + (1 - y) log(1 - x)), each logarithm at least -100."""
    return ((y - 1) * libm.maximum(libm.log1p(-x), -100) - y * libm.maximum(libm.log(x), -100)) * w


def _logits_partials(x, y, p, w, out):
    """With t = p y: (1 + t - y) sigmoid(x) - t and, by the target, (p - 1) log(1 + exp(-x)) - x."""
    t = p * y
    softened = -BOOK["logsigmoid"](x)
    return w * ((t + 1 - y) * BOOK["sigmoid"](x) - t), w * ((p - 1) * softened - x), None, None


def _logits_like(x, y, p, w):
    return w * ((1 - y) * x + ((p - 1) * y + 1) * (np.log1p(np.exp(-np.abs(x))) + np.maximum(-x, 0)))


@pointwise(partials=_logits_partials, dtypes=FLOATS, numbers=("p", "w"), like=_logits_like, work=8, cancels=True, tol=8,
           domain={"y": (0.0, 1.0), "p": (0.5, 2.0), "w": (0.5, 2.0)},
           special={"x": (0.0, 1.0, -1.0, 200.0, np.nan), "y": (0.0, 1.0), "p": (1.0, 2.0), "w": (1.0,)},
           refusals=refused("binary_cross_entropy_with_logits"), **PRIVATE)
def binary_cross_entropy_with_logits(x, y, p, w):
    """w times the binary cross entropy of sigmoid(x), its positive part weighted by p, without overflow."""
    softened = libm.log1p(libm.exp(-libm.abs(x))) + libm.maximum(-x, 0)
    return w * ((1 - y) * x + ((p - 1) * y + 1) * softened)


@pointwise(partials=lambda x, y, out: (-y * BOOK["sigmoid"](-(x * y)), None), dtypes=FLOATS, work=6, tol=6,
           like=lambda x, y: np.maximum(-x * y, 0) + np.log1p(np.exp(-np.abs(x * y))), special=(0.0, 1.0, -1.0, np.nan),
           refusals=refused("soft_margin_loss"), **PRIVATE)
def soft_margin_loss(x, y):
    """log(1 + exp(-x y)) for y of 1 or -1; the target has no gradient."""
    z = x * y
    return libm.maximum(-z, 0) + libm.log1p(libm.exp(-libm.abs(z)))


# --- class indices ----------------------------------------------------------------------------------------------------

@functools.cache
def _whole(number: int) -> np.ndarray:
    return np.array(number, np.int64)


def _class_losses(name: str, x, target, weight, ignore_index: int, reduction: str):
    """(loss, total weight) of scores (n, classes, ...), with classes (n, ...) and weights (classes) or a number."""
    from ..cpu import softmax as kernels
    if x.dtype == np.float16:
        from ..table import cast_ufunc
        wide, back = cast_ufunc("float16", "float32"), cast_ufunc("float32", "float16")
        found = _class_losses(name, wide(x, out=...), target, wide(weight, out=...), ignore_index, reduction)
        return tuple(back(a, out=...) for a in found)
    dtype = x.dtype.name
    if x.size >= pool.GRAIN // 4:
        pool.ensure()
    if name == "cross_entropy":
        x = contiguous(x)
    elif x.ndim > 2:
        x = np.moveaxis(x, 1, -1)
    if not x.size and target.size:
        raise out_of_bounds(target, 0, ignore_index)
    if target.size:
        loss, weights, faults = kernels.rows_ufunc(name, dtype)(x, target, weight.reshape(-1), _whole(ignore_index), out=...)
    else:
        loss, weights, faults = np.empty(target.shape, x.dtype), np.empty(0, x.dtype), np.empty(0, np.int64)
    mean = _whole(1 if reduction == "mean" else 0)
    value, total, count = kernels.totals_ufunc(dtype)(loss.reshape(-1), weights.reshape(-1), faults.reshape(-1), mean, out=...)
    if count:
        raise out_of_bounds(target, x.shape[-1], ignore_index)
    return (loss if reduction == "none" else value), total


def out_of_bounds(target: np.ndarray, classes: int, ignore_index: int) -> IndexError:
    first = next(t for t in target.reshape(-1).tolist() if t != ignore_index and not 0 <= t < classes)
    return IndexError(f"Target {first} is out of bounds.")


def _summed(x, reduction: str, dims=(1,)):
    """The sum over classes where each row had a cotangent, over everything where all shared one."""
    return BOOK["sum"](x, dims=dims if reduction == "none" else None, keepdim=False)


def _nll_gradient_of(gs, target, weight, out, x_shape, ignore_index, reduction):
    return BOOK["nll_loss_gradient"](gs[0], target, weight, out[1], shape=x_shape, ignore_index=ignore_index,
                                     reduction=reduction), None, None


_CLASSES = {"dtypes": FLOATS, "nondiff": (1,), **PRIVATE}


@structural(["x", "target", "weight"], adjoint=_nll_gradient_of, **_CLASSES)
def nll_loss(x, target, weight, ignore_index, reduction):
    """(loss, total weight): minus the log probability of each row's class, weighted."""
    return _class_losses("nll_loss", x, target, weight, ignore_index, reduction)


@structural(["x", "target", "weight"], adjoint=_nll_gradient_of, node="NllLoss2DBackward0", **_CLASSES)
def nll_loss2d(x, target, weight, ignore_index, reduction):
    """nll_loss of scores with dimensions after that of the classes."""
    return _class_losses("nll_loss", x, target, weight, ignore_index, reduction)


def _nll_second(g, target, weight, total, ignore_index, reduction):
    """It is linear in its cotangent: minus the weighted elements of g at the classes."""
    picked = BOOK["nll_loss"](g, target, weight, ignore_index=ignore_index, reduction="none")[0]
    if reduction == "none":
        return picked, None, None, None
    total_of = BOOK["sum"](picked, dims=None, keepdim=False)
    return (BOOK["div"](total_of, total) if reduction == "mean" else total_of), None, None, None


@structural(["c", "target", "weight", "total"], adjoint=_nll_second, node="NllLossBackwardBackward0", dtypes=FLOATS, **PRIVATE)
def nll_loss_gradient(c, target, weight, total, shape, ignore_index, reduction):
    """The gradient of nll_loss by its scores: minus weight c (over the total weight for a mean) at the class, 0 elsewhere."""
    from ..cpu import fills
    from ..cpu import softmax as kernels
    if c.dtype == np.float16:
        return narrow(lambda c, weight, total: nll_loss_gradient.forward(c, target, weight, total, shape, ignore_index, reduction),
                      c, weight, total)
    out = buffers.empty(tuple(shape), c.dtype)
    fills.fill(out, np.zeros((), c.dtype))
    if out.size:
        rows = np.moveaxis(out, 1, -1) if len(shape) > 2 else out
        divisor = total if reduction == "mean" else np.ones((), c.dtype)
        kernels.put_gradient_ufunc(c.dtype.name)(target, weight.reshape(-1), _whole(ignore_index), c, divisor, rows)
    return out


def _cross_entropy_gradient_of(gs, x, target, weight, out, ignore_index, reduction):
    return BOOK["cross_entropy_gradient"](gs[0], x, target, weight, out[1], ignore_index=ignore_index,
                                          reduction=reduction), None, None


@structural(["x", "target", "weight"], adjoint=_cross_entropy_gradient_of, node="NllLossBackward0", **_CLASSES)
def cross_entropy(x, target, weight, ignore_index, reduction):
    """(loss, total weight): nll_loss of log_softmax of scores (n, classes) in one pass."""
    return _class_losses("cross_entropy", x, target, weight, ignore_index, reduction)


def _cross_entropy_second(g, c, x, target, weight, total, ignore_index, reduction):
    """Of s (p - e) with respect to c and x, where s = c weight / total by row, p = softmax(x), and e is 1 at the class."""
    shape = x.shape
    about = {"shape": shape, "ignore_index": ignore_index, "reduction": reduction}
    p = BOOK["softmax"](x, dim=1)
    one = choose(c < -INF, c, 1)            # ones in the shape of c
    minus_e, minus_se = (BOOK["nll_loss_gradient"](v, target, weight, total, **about) for v in (one, c))
    weights, s = (BOOK["neg"](BOOK["sum"](m, dims=(1,), keepdim=True)) for m in (minus_e, minus_se))
    return (_summed(g * (weights * p + minus_e), reduction), BOOK["softmax_backward"](g * s, p, dim=1), None, None, None)


@structural(["c", "x", "target", "weight", "total"], adjoint=_cross_entropy_second, node="NllLossBackwardBackward0", dtypes=FLOATS,
            **PRIVATE)
def cross_entropy_gradient(c, x, target, weight, total, ignore_index, reduction):
    """The gradient of cross_entropy by its scores: (softmax(x) - one at the class) c weight (over the total weight for a mean)."""
    from ..cpu import softmax as kernels
    if x.dtype == np.float16:
        return narrow(lambda c, x, weight, total: cross_entropy_gradient.forward(c, x, target, weight, total, ignore_index,
                                                                                 reduction), c, x, weight, total)
    out = buffers.empty(x.shape, x.dtype)
    if out.size:
        if out.size >= pool.GRAIN // 4:
            pool.ensure()
        divisor = total if reduction == "mean" else np.ones((), x.dtype)
        kernels.rows_gradient_ufunc(x.dtype.name)(contiguous(x), target, weight.reshape(-1), _whole(ignore_index), c, divisor, out)
    return out


# --- connectionist temporal classification ----------------------------------------------------------------------------

def _ctc_gradient_of(gs, log_probs, targets, offsets, input_lengths, target_lengths, out, blank):
    made = BOOK["ctc_loss_gradient"](gs[0], log_probs, targets, offsets, input_lengths, target_lengths, out[0], out[1],
                                     blank=blank)
    return made, None, None, None, None


@structural(["log_probs", "targets", "offsets", "input_lengths", "target_lengths"], adjoint=_ctc_gradient_of,
            dtypes=("float32", "float64"), nondiff=(1,), source="Graves et al., ICML 2006", **PRIVATE)
def ctc_loss(log_probs, targets, offsets, input_lengths, target_lengths, blank):
    """(losses (n), forward variables) of log probabilities (t, n, classes); `targets` is flat, sequence n begins at offsets[n]."""
    from ..cpu import ctc
    return ctc.forward(log_probs, targets, offsets, input_lengths, target_lengths, blank)


def _ctc_second(g):
    raise NotImplementedError("derivative for aten::_ctc_loss_backward is not implemented")


@structural(["c", "log_probs", "targets", "offsets", "input_lengths", "target_lengths", "losses", "alpha"], adjoint=_ctc_second,
            dtypes=("float32", "float64"), **PRIVATE)
def ctc_loss_gradient(c, log_probs, targets, offsets, input_lengths, target_lengths, losses, alpha, blank):
    """The gradient of ctc_loss by log_probs, of which it takes for granted that each row is a log_softmax (as PyTorch does)."""
    from ..cpu import ctc
    return ctc.gradient(c, log_probs, targets, offsets, input_lengths, target_lengths, losses, alpha, blank)
