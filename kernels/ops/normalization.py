"""Normalisation by mean and variance: layer, group and batch norm, by root mean square, each with its gradients in one kernel.

Four records and their backward passes, which are records themselves: their own adjoint is written in operators, so that
gradients go to any order. A weight or bias that is not there is a tensor without dimensions (one, zero). Statistics come out
as second and third result, without derivative; the adjoints account for what depends on them. Options and shapes are
settled in `engine.nn.functional.normalization`; the kernels are in `kernels.cpu.normalization`.
"""
from __future__ import annotations

import functools
import math

import numpy as np

from ..book import BOOK, FLOATS, structural
from ..cpu import buffers, pool
from ..cpu.gathers import aligned, as_contiguous
from ..table import cast_ufunc

# --- arrays for the kernels ---------------------------------------------------------------------------------------------

@functools.cache
def _plan(dtype: np.dtype):
    """(the kernels, the dtype's name, the dtype computed in). A dtype's name takes NumPy longer than a small kernel runs."""
    from ..cpu import normalization
    return normalization, dtype.name, np.dtype(normalization.compute_dtype(dtype.name))


@functools.lru_cache(maxsize=8)
def _constant(value: float, size: int, dtype: np.dtype) -> np.ndarray:
    made = np.full(size, value, dtype)
    made.flags.writeable = False
    return made


def _vector(x: np.ndarray, size: int, compute: np.dtype, missing: float) -> np.ndarray:
    """A weight, bias or statistic as a vector of the dtype computed in; `missing` repeated where it has no dimensions."""
    if not x.ndim:
        return _constant(missing, size, compute)
    return _cast(_dense(x).reshape(-1), compute)


def _cast(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return x if x.dtype == dtype else cast_ufunc(x.dtype.name, dtype.name)(x, out=...)


def _dense(x: np.ndarray) -> np.ndarray:
    return as_contiguous(aligned(x))


def _summed(partial: np.ndarray, dims: tuple[int, ...], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Parts of the gradient of a weight added up, in the weight's shape and dtype; zero for one without dimensions."""
    if not shape:
        return np.zeros((), dtype)
    return _cast(BOOK["sum"].on_arrays(partial, dims, False) if dims else partial, dtype).reshape(shape)


def _empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    if math.prod(shape) >= pool.GRAIN:
        pool.ensure()
    return buffers.empty(shape, dtype)


# --- derivatives of the backward passes, in operators --------------------------------------------------------------------

def _mul(a, b):
    return BOOK["mul"](a, b)


def _add(a, b):
    return b if a is None else a if b is None else BOOK["add"](a, b)


def _backward_gradient(gs, g, x, weight, mean, variance, needs, shape, dims, across, eps, given, centred):
    """Gradients of a backward pass with respect to (g, x, weight), for cotangents (u, v, z) of its three results.

    In `shape`, statistics run over `dims` and weights are shared over `across`. With s = 1/sqrt(variance + eps) and
    y = (x - mean) s the Jacobian of y is symmetric, J t = s (t - m(t) - y m(t y)), m the mean over `dims`; the results are
    J(g w), sum g y and sum g. Without centring the terms m(t) are absent; for given statistics J t = s t.
    """
    def viewed(t):
        return BOOK["reshape"](t, shape=shape)

    def m(t):
        return BOOK["mean"](t, dims=dims, keepdim=True)

    def jacobian(t):
        if given:
            return _mul(scale, t)
        inner = BOOK["sub"](t, _mul(y, m(_mul(t, y))))
        return _mul(scale, BOOK["sub"](inner, m(t)) if centred else inner)

    kept, vector = (tuple(1 if d in over else n for d, n in enumerate(shape)) for over in (dims, across))
    g_shape, x_shape, w_shape = g._array.shape, x._array.shape, weight._array.shape
    g, x = viewed(g), viewed(x)
    w = BOOK["reshape"](weight, shape=vector) if w_shape else weight
    if given:
        far = BOOK["sub"](x, BOOK["reshape"](mean, shape=kept))
        spread = BOOK["reshape"](variance, shape=kept)
    else:
        far = BOOK["sub"](x, m(x)) if centred else x
        spread = m(_mul(far, far))
    scale = BOOK["rsqrt"](BOOK["add"](spread, eps))
    y = _mul(far, scale)
    u, v, z = gs
    of_g = of_x = of_w = None
    if u is not None:
        u, h = viewed(u), _mul(g, w)
        back = jacobian(u)
        of_g = _mul(w, back)
        of_w = _mul(g, back) if needs[2] else None
        if not given and needs[1]:
            hy, uy = m(_mul(h, y)), m(_mul(u, y))
            s = BOOK["sub"](m(_mul(u, h)), _mul(uy, hy))
            s = BOOK["sub"](s, _mul(m(u), m(h))) if centred else s
            turned = jacobian(BOOK["add"](_mul(hy, u), _mul(uy, h)))
            of_x = BOOK["neg"](BOOK["add"](_mul(_mul(_mul(scale, scale), y), s), _mul(scale, turned)))
    if v is not None and w_shape:
        v = BOOK["reshape"](v, shape=vector)
        of_g = _add(of_g, _mul(v, y))
        of_x = _add(of_x, jacobian(_mul(g, v)))
    if z is not None:
        of_g = _add(of_g, BOOK["expand"](BOOK["reshape"](z, shape=vector), shape=shape))
    if of_w is not None:
        of_w = BOOK["reshape"](BOOK["sum"](of_w, dims=across if w_shape else None, keepdim=False), shape=w_shape)
    return (None if of_g is None or not needs[0] else BOOK["reshape"](of_g, shape=g_shape),
            None if of_x is None or not needs[1] else BOOK["reshape"](of_x, shape=x_shape), of_w, None, None)


_RECORD = {"dtypes": FLOATS, "function": False, "method": False}


_BACKWARD_INPUTS = ("cotangent", "x", "weight", "mean", "variance")


def _gradients(name, g, x, weight, mean, variance, bias_shape, bias_kind, needs, **options):
    """The backward record of a normalisation run on its cotangent: gradients of x, weight and bias that are needed."""
    found = BOOK[name + "_backward"](g, x, weight, mean, variance, bias=(bias_shape, bias_kind.numpy), **options)
    return tuple(one if needed else None for one, needed in zip(found, needs, strict=False))


# --- rows: layer norm and root mean square --------------------------------------------------------------------------------

def _rows(name: str, node: str, centred: bool, doc: str, source: str) -> None:
    def adjoint(gs, x, weight, bias_shape, bias_kind, out1, out2, size, eps, needs):
        return _gradients(name, gs[0], x, weight, out1, out2, bias_shape, bias_kind, needs, size=size, eps=eps)

    @structural(["x", "weight", "bias"], name=name, node=node, doc=doc, source=source, adjoint=adjoint, nondiff=(1, 2), **_RECORD)
    def forward(x, weight, bias, size, eps):
        kernels, dtype, compute = _plan(x.dtype)
        rows = x.size // size if size else 0
        out, stats = _empty(x.shape, x.dtype), [np.empty(rows, compute) for _ in range(2)]
        if x.size:
            kernels.rows_forward(dtype, centred)(
                _dense(x).reshape(rows, size), _vector(weight, size, compute, 1), _vector(bias, size, compute, 0), eps,
                out=(out.reshape(rows, size), *stats))
        return out, *stats

    def second(gs, cotangent, x, weight, mean, variance, needs, size, eps):
        shape = (math.prod(x._array.shape) // size if size else 0, size)
        return _backward_gradient(gs, cotangent, x, weight, mean, variance, needs, shape, (1,), (0,), eps, False, centred)

    @structural(_BACKWARD_INPUTS, name=name + "_backward", adjoint=second,
                doc=f"Gradients of {name} with respect to input, weight and bias.", **_RECORD)
    def backward(g, x, weight, mean, variance, size, eps, bias):
        kernels, dtype, compute = _plan(x.dtype)
        rows = mean.size
        out = _empty(x.shape, x.dtype)
        parts, left = divmod(rows, kernels.PART)
        sums = [np.empty((parts + (left > 0), size), compute) for _ in range(2)]
        if x.size:
            ufunc, whole = kernels.rows_backward(dtype, centred), rows - left
            weights = _vector(weight, size, compute, 1)
            arrays = [_dense(a).reshape(rows, size) for a in (g, x, out)]
            for first, last, group, target in ((0, whole, parts, slice(0, parts)), (whole, rows, 1, slice(parts, parts + 1))):
                if first < last:
                    a, b, c = (v[first:last].reshape(group, -1, size) for v in arrays)
                    means, variances = (v[first:last].reshape(group, -1) for v in (mean, variance))
                    ufunc(a, b, weights, means, variances, eps, out=(c, *(s[target] for s in sums)))
        return out, _summed(sums[0], (0,), weight.shape, weight.dtype), _summed(sums[1], (0,), *bias)


_rows("native_layer_norm", "NativeLayerNormBackward0", True,
      "(x - mean) / sqrt(variance + eps) * weight + bias over the last `size` elements of each row; means and variances.",
      "Ba, Kiros, Hinton, Layer Normalization (2016)")
_rows("native_rms_norm", "MulBackward0", False,
      "x / sqrt(mean of squares + eps) * weight + bias over the last `size` elements of each row; zeros and mean squares.",
      "Zhang, Sennrich, Root Mean Square Layer Normalization (2019)")


# --- channels: batch norm ----------------------------------------------------------------------------------------------------

def _channels(shape: tuple[int, ...]) -> tuple[int, int, int]:
    return shape[0], shape[1], math.prod(shape[2:])


def _batch_adjoint(gs, x, weight, bias_shape, bias_kind, out1, out2, eps, given, needs):
    return (*_gradients("native_batch_norm", gs[0], x, weight, out1, out2, bias_shape, bias_kind, needs, eps=eps, given=given),
            None, None)


@structural(["x", "weight", "bias", "mean", "variance"], node="NativeBatchNormBackward0", adjoint=_batch_adjoint, nondiff=(1, 2),
            source="Ioffe, Szegedy, Batch Normalization (2015)", **_RECORD)
def native_batch_norm(x, weight, bias, mean, variance, eps, given):
    """(x - mean) / sqrt(variance + eps) * weight + bias for each channel (dimension 1); means and biased variances.

    `given`: the statistics given are used; otherwise they are those of x, and the given ones are not read.
    """
    kernels, dtype, compute = _plan(x.dtype)
    (n, c, l) = _channels(x.shape)
    out = _empty(x.shape, x.dtype)
    stats = [_vector(s, c, compute, 0).copy() for s in (mean, variance)] if given else [np.empty(c, compute) for _ in range(2)]
    if not x.size:
        return out, *stats
    x, w, b = _dense(x), _vector(weight, c, compute, 1), _vector(bias, c, compute, 0)
    if l == 1:
        kernels.columns_forward(dtype)(x.reshape(n, c), w, b, eps, int(given), out=(out.reshape(n, c), *stats))
    else:
        kernels.segments_forward(dtype)(_by_channel(x, n, c, l), _spread(w, n), _spread(b, n), eps, int(given),
                                        out=(_by_channel(out, n, c, l), *stats))
    return out, *stats


def _by_channel(x: np.ndarray, n: int, c: int, l: int) -> np.ndarray:
    return x.reshape(n, c, l).transpose(1, 0, 2)


def _spread(w: np.ndarray, n: int) -> np.ndarray:
    """One weight a channel as one a segment, in the same memory."""
    return np.broadcast_to(w[:, None], (w.size, n))


def _batch_second(gs, cotangent, x, weight, mean, variance, needs, eps, given):
    shape = _channels(x._array.shape)
    return _backward_gradient(gs, cotangent, x, weight, mean, variance, needs, shape, (0, 2), (0, 2), eps, given, True)


@structural(_BACKWARD_INPUTS, adjoint=_batch_second, **_RECORD)
def native_batch_norm_backward(g, x, weight, mean, variance, eps, given, bias):
    """Gradients of native_batch_norm with respect to input, weight and bias."""
    kernels, dtype, compute = _plan(x.dtype)
    (n, c, l) = _channels(x.shape)
    out = _empty(x.shape, x.dtype)
    columns = l == 1
    sums = [np.zeros(c if columns else (c, n), compute) for _ in range(2)]
    if x.size:
        g, x, w = _dense(g), _dense(x), _vector(weight, c, compute, 1)
        if columns:
            kernels.columns_backward(dtype)(g.reshape(n, c), x.reshape(n, c), w, mean, variance, eps, int(given),
                                            out=(out.reshape(n, c), *sums))
        else:
            kernels.segments_backward(dtype)(_by_channel(g, n, c, l), _by_channel(x, n, c, l), _spread(w, n), mean, variance,
                                             eps, int(given), out=(_by_channel(out, n, c, l), *sums))
    dims = () if columns else (1,)
    return out, _summed(sums[0], dims, weight.shape, weight.dtype), _summed(sums[1], dims, *bias)


# --- groups of channels --------------------------------------------------------------------------------------------------------

def _grouped(shape: tuple[int, ...], groups: int) -> tuple[int, int, int, int]:
    return shape[0], groups, shape[1] // groups, math.prod(shape[2:])


def _group_adjoint(gs, x, weight, bias_shape, bias_kind, out1, out2, groups, eps, needs):
    return _gradients("native_group_norm", gs[0], x, weight, out1, out2, bias_shape, bias_kind, needs, groups=groups, eps=eps)


@structural(["x", "weight", "bias"], node="NativeGroupNormBackward0", adjoint=_group_adjoint, nondiff=(1, 2),
            source="Wu, He, Group Normalization (2018)", **_RECORD)
def native_group_norm(x, weight, bias, groups, eps):
    """(x - mean) / sqrt(variance + eps) over each group of channels, times a weight and plus a bias for each channel; means
    and variances (batch, groups).
    """
    kernels, dtype, compute = _plan(x.dtype)
    shape = _grouped(x.shape, groups)
    out, stats = _empty(x.shape, x.dtype), [np.zeros(shape[:2], compute) for _ in range(2)]
    if x.size:
        w, b = (_vector(v, x.shape[1], compute, missing).reshape(shape[1:3]) for v, missing in ((weight, 1), (bias, 0)))
        kernels.segments_forward(dtype)(_dense(x).reshape(shape), w, b, eps, 0, out=(out.reshape(shape), *stats))
    return out, *stats


def _group_second(gs, cotangent, x, weight, mean, variance, needs, groups, eps):
    shape = _grouped(x._array.shape, groups)
    return _backward_gradient(gs, cotangent, x, weight, mean, variance, needs, shape, (2, 3), (0, 3), eps, False, True)


@structural(_BACKWARD_INPUTS, adjoint=_group_second, **_RECORD)
def native_group_norm_backward(g, x, weight, mean, variance, groups, eps, bias):
    """Gradients of native_group_norm with respect to input, weight and bias."""
    kernels, dtype, compute = _plan(x.dtype)
    shape = _grouped(x.shape, groups)
    out, sums = _empty(x.shape, x.dtype), [np.zeros(shape[:3], compute) for _ in range(2)]
    if x.size:
        w = _vector(weight, x.shape[1], compute, 1).reshape(shape[1:3])
        kernels.segments_backward(dtype)(_dense(g).reshape(shape), _dense(x).reshape(shape), w, mean, variance, eps, 0,
                                         out=(out.reshape(shape), *sums))
    return out, _summed(sums[0], (0,), weight.shape, weight.dtype), _summed(sums[1], (0,), *bias)
