"""Normalisation on CUDA: layer, group, batch norm and by root mean square, with their gradients.

All of them are one computation on a reshaped array: statistics over some dimensions, weights shared over some. Two folds and one
fused pointwise kernel forward; backward two pointwise kernels, two folds for the statistics and one for each of weight and bias.
Folds have a fixed order, so results repeat. float16 is computed in float32, as on the CPU. Called through `kernels.cuda.records`.
"""
from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from ..book import BOOK
from ..symbol import Symbol
from . import pointwise as maps
from .arrays import converted, filled
from .fold_plans import folded
from .launch import View, contiguous, pointwise

# --- fused pointwise parts ----------------------------------------------------------------------------------------------


def _e(name: str, *operands):
    return BOOK[name](*operands)


@functools.cache
def normalised(dtype: str, compute: str, weighted: bool, shifted: bool) -> maps.Map:
    """(x - m) / sqrt(v + eps) (* w) (+ b)."""
    x, m, v, eps, w, b = map(Symbol, ("x", "m", "v", "eps", "w", "b"))
    y = _e("mul", _e("sub", x, m), _e("rsqrt", _e("add", v, eps)))
    y = _e("mul", y, w) if weighted else y
    y = _e("add", y, b) if shifted else y
    names = ("x", "m", "v", "eps", *["w"] * weighted, *["b"] * shifted)
    return maps.Map(f"normalised_{dtype}{'_w' * weighted}{'_b' * shifted}", [y], names, (compute,) * len(names), (dtype,), compute)


@functools.cache
def prepared(compute: str, weighted: bool) -> maps.Map:
    """y = (x - m) / sqrt(v + eps), then h = g (* w), h y and g y."""
    g, x, m, v, eps, w = map(Symbol, ("g", "x", "m", "v", "eps", "w"))
    y = _e("mul", _e("sub", x, m), _e("rsqrt", _e("add", v, eps)))
    h = _e("mul", g, w) if weighted else g
    names = ("g", "x", "m", "v", "eps", *["w"] * weighted)
    return maps.Map(f"norm_prepared_{compute}{'_w' * weighted}", [y, h, _e("mul", h, y), _e("mul", g, y)], names,
                    (compute,) * len(names), (compute,) * 4, compute)


@functools.cache
def turned(dtype: str, compute: str, given: bool, centred: bool) -> maps.Map:
    """The gradient of x: (h - m(h) - y m(h y)) / sqrt(v + eps), m the mean over what the statistics are taken of."""
    h, y, mh, mhy, v, eps = map(Symbol, ("h", "y", "mh", "mhy", "v", "eps"))
    inner = h if given else _e("sub", h, _e("mul", y, mhy))
    inner = _e("sub", inner, mh) if centred and not given else inner
    names = ("h", "v", "eps") if given else ("h", "y", "mhy", "v", "eps", *["mh"] * centred)
    return maps.Map(f"norm_turned_{dtype}{'_given' * given}{'_centred' * centred}",
                    [_e("mul", inner, _e("rsqrt", _e("add", v, eps)))], names, (compute,) * len(names), (dtype,), compute)


# --- pieces -------------------------------------------------------------------------------------------------------------

def _compute(dtype: str) -> str:
    return "float64" if dtype == "float64" else "float32"


def _viewed(device, x: View, shape: Sequence[int], dtype: str) -> View:
    """The elements in another shape and dtype."""
    x = converted(device, x, dtype)
    return contiguous(x.address, dtype, tuple(shape))._replace(owner=x.owner)


def _along(device, vector: View, shape: Sequence[int], over: Sequence[int], dtype: str) -> View:
    """A vector that varies over the dimensions not in `over`, laid out for broadcasting."""
    return _viewed(device, vector, [1 if d in over else n for d, n in enumerate(shape)], dtype)


def _folded(device, name: str, x: View, dims: Sequence[int], extra: Sequence[View] = ()) -> View:
    """A fold of the book, in the dtype of its operand; folded dimensions stay with one element."""
    kept = tuple(n for d, n in enumerate(x.shape) if d not in dims)
    (out,) = folded(device, BOOK[name], x, dims, [contiguous(e.address, e.dtype, kept) for e in extra])
    return _viewed(device, out, [1 if d in dims else n for d, n in enumerate(x.shape)], x.dtype)


def _mapped(device, about: maps.Map, ins: Sequence[View | float], shape: Sequence[int]) -> list[View]:
    outs = [device.empty(d, tuple(shape)) for d in about.out_types]
    device.run(pointwise(about, outs, list(ins)))
    return outs


def _statistics(device, x: View, dims: Sequence[int], centred: bool) -> tuple[View, View]:
    """(mean, variance), or (zeros, mean of squares), folded dimensions kept."""
    kept = tuple(1 if d in dims else n for d, n in enumerate(x.shape))
    if not centred:
        squares = _mapped(device, maps.forward(BOOK["mul"], x.dtype), (x, x), x.shape)[0]
        return filled(device, x.dtype, kept), _folded(device, "mean", squares, dims)
    mean = _folded(device, "mean", x, dims)
    squares = _folded(device, "deviations", x, dims, (mean,))
    return mean, _mapped(device, maps.forward(BOOK["div"], x.dtype), (squares, float(math.prod(x.shape[d] for d in dims))), kept)[0]


def _forward(device, x: View, weight: View, bias: View, shape, dims, across, eps, centred=True, given=()):
    compute = _compute(x.dtype)
    values = _viewed(device, x, shape, compute)
    mean, variance = ([_along(device, s, shape, dims, compute) for s in given] if given else
                      _statistics(device, values, dims, centred))
    parts = [_along(device, p, shape, across, compute) for p in (weight, bias) if p.shape]
    about = normalised(x.dtype, compute, bool(weight.shape), bool(bias.shape))
    (out,) = _mapped(device, about, [values, mean, variance, float(eps), *parts], shape)
    return contiguous(out.address, x.dtype, x.shape)._replace(owner=out.owner), mean, variance


def _backward(device, g: View, x: View, weight: View, mean: View, variance: View, shape, dims, across, eps, bias, centred=True,
              given=False):
    compute = _compute(x.dtype)
    g, values = _viewed(device, g, shape, compute), _viewed(device, x, shape, compute)
    mean, variance = (_along(device, s, shape, dims, compute) for s in (mean, variance))
    weights = [_along(device, weight, shape, across, compute)] if weight.shape else []
    y, h, hy, gy = _mapped(device, prepared(compute, bool(weights)), [g, values, mean, variance, float(eps), *weights], shape)
    ins = [h, variance, float(eps)] if given else [h, y, _folded(device, "mean", hy, dims), variance, float(eps),
                                                   *([_folded(device, "mean", h, dims)] if centred else [])]
    (out,) = _mapped(device, turned(x.dtype, compute, given, centred), ins, shape)

    def shared(values: View, shape: tuple[int, ...], dtype: str) -> View:
        return _viewed(device, _folded(device, "sum", values, across), shape, dtype) if shape else filled(device, dtype, ())
    return (contiguous(out.address, x.dtype, x.shape)._replace(owner=out.owner), shared(gy, weight.shape, weight.dtype),
            shared(g, tuple(bias[0]), np.dtype(bias[1]).name))


# --- records ------------------------------------------------------------------------------------------------------------

def _rows(centred: bool):
    def forward(device, x: View, weight: View, bias: View, size: int, eps: float):
        if not x.size:
            return NotImplemented
        found = _forward(device, x, weight, bias, (x.size // size, size), (1,), (0,), eps, centred)
        return found[0], *(v._replace(shape=(x.size // size,), strides=v.strides[:1]) for v in found[1:])

    def backward(device, g: View, x: View, weight: View, mean: View, variance: View, size: int, eps: float, bias):
        if not x.size:
            return NotImplemented
        return _backward(device, g, x, weight, mean, variance, (x.size // size, size), (1,), (0,), eps, bias, centred)
    return forward, backward


native_layer_norm, native_layer_norm_backward = _rows(True)
native_rms_norm, native_rms_norm_backward = _rows(False)


def _channels(x: View) -> tuple[int, int, int]:
    return x.shape[0], x.shape[1], math.prod(x.shape[2:])


def native_batch_norm(device, x: View, weight: View, bias: View, mean: View, variance: View, eps: float, given: bool):
    """Each channel by its mean and variance, or by those given."""
    if not x.size:
        return NotImplemented
    found = _forward(device, x, weight, bias, _channels(x), (0, 2), (0, 2), eps, given=(mean, variance) if given else ())
    compute = _compute(x.dtype)
    stats = [_viewed(device, v, (x.shape[1],), compute) for v in found[1:]]
    if given:       # what the backward pass keeps must not change when the running statistics do
        stats = [_mapped(device, maps.cast(compute, compute), [v], v.shape)[0] for v in stats]
    return found[0], *stats


def native_batch_norm_backward(device, g: View, x: View, weight: View, mean: View, variance: View, eps: float, given: bool, bias):
    """Gradients with respect to input, weight and bias."""
    if not x.size:
        return NotImplemented
    return _backward(device, g, x, weight, mean, variance, _channels(x), (0, 2), (0, 2), eps, bias, given=bool(given))


def _groups(x: View, groups: int) -> tuple[int, int, int, int]:
    return x.shape[0], groups, x.shape[1] // groups, math.prod(x.shape[2:])


def native_group_norm(device, x: View, weight: View, bias: View, groups: int, eps: float):
    """Each group of channels by its mean and variance."""
    if not x.size:
        return NotImplemented
    found = _forward(device, x, weight, bias, _groups(x, groups), (2, 3), (0, 3), eps)
    return found[0], *(v._replace(shape=v.shape[:2], strides=v.strides[:2]) for v in found[1:])


def native_group_norm_backward(device, g: View, x: View, weight: View, mean: View, variance: View, groups: int, eps: float, bias):
    """Gradients with respect to input, weight and bias."""
    if not x.size:
        return NotImplemented
    return _backward(device, g, x, weight, mean, variance, _groups(x, groups), (2, 3), (0, 3), eps, bias)
