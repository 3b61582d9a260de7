"""Losses with class indices on CUDA: nll_loss and cross_entropy with their gradients. Called through `kernels.cuda.records`.

One thread a row for losses, one an element for gradients; totals are folds, in a fixed order. Targets are checked by the kernel,
and the number of bad ones comes back to the host: IndexError follows, as on the CPU.
"""
from __future__ import annotations

import functools
import math

from ..book import BOOK
from ..source import ITEMSIZE
from . import pointwise as maps
from .arrays import converted, dense
from .compiler import Program
from .elements import launches_of, program_of
from .fold_plans import folded
from .launch import View, broadcast, pointwise
from .rows import log_softmax, softmax


@functools.cache
def rows_program(dtype: str) -> Program:
    """Minus the weighted score of each row's class, its weight, and whether there is no such class; nothing where it is ignored."""
    size = ITEMSIZE[dtype]
    return program_of(f"nll_rows_{dtype}", "loss, weights, faults, x, target, weight", "classes, inner, ignored, step", [
        "t = read_int64(target, i * 8)", "w, found = as_float64(0.0), as_float64(0.0)",
        "bad = t != ignored and (t < 0 or t >= classes)",
        "if t != ignored and not bad:",
        "    a = quotient(i, inner)",
        f"    w = as_float64(read_{dtype}(weight, t * step))",
        f"    found = -as_float64(read_{dtype}(x, ((a * classes + t) * inner + i - a * inner) * {size})) * w",
        f"store_{dtype}(loss, i * {size}, as_{dtype}(found))", f"store_{dtype}(weights, i * {size}, as_{dtype}(w))",
        "store_int64(faults, i * 8, as_int64(1 if bad else 0))"])


@functools.cache
def gradient_program(dtype: str, fused: bool, mean: bool) -> Program:
    """(p - one at the class) c weight (/ total) for each score; `fused`: p is the softmax of the scores, else 0."""
    size = ITEMSIZE[dtype]
    share = f"as_float64(read_{dtype}(p, i * {size}))" if fused else "0.0"
    return program_of(f"nll_gradient_{dtype}{'_fused' * fused}{'_mean' * mean}",
                      "q, c, target, weight, " + "p, " * fused + "total", "classes, inner, ignored, step, over", [
        "a = quotient(i, classes * inner)", "k = quotient(i - a * classes * inner, inner)",
        "r = a * inner + i - (a * classes + k) * inner", "t = read_int64(target, r * 8)", "v = as_float64(0.0)",
        "if t != ignored:",
        f"    w = as_float64(read_{dtype}(weight, t * step)) * as_float64(read_{dtype}(c, r * over))",
        *([f"    w = w / as_float64(read_{dtype}(total, 0))"] if mean else []),
        f"    v = ({share} - (1.0 if t == k else 0.0)) * w",
        f"store_{dtype}(q, i * {size}, as_{dtype}(v))"])


def _sum(device, x: View) -> View:
    """The sum of all elements."""
    return folded(device, BOOK["sum"], x)[0]


def _layout(shape: tuple[int, ...]) -> tuple[int, int]:
    """(classes, elements behind the dimension of the classes)."""
    return (shape[1], math.prod(shape[2:])) if len(shape) > 1 else (shape[0], 1)


def _over(view: View) -> int:
    """The step from one element to the next; 0 for a single one."""
    return 0 if view.size == 1 else ITEMSIZE[view.dtype]


def _wide(device, *views: View) -> list[View]:
    return [converted(device, v, "float32") if v.dtype == "float16" else v for v in views]


def nll_loss(device, x: View, target: View, weight: View, ignore_index: int, reduction: str) -> tuple[View, View]:
    """(loss, total weight) of scores (n, classes, ...), with classes (n, ...) and weights (classes) or a number."""
    from ..ops.losses import out_of_bounds
    if x.dtype == "float16":
        found = nll_loss(device, *_wide(device, x), target, *_wide(device, weight), ignore_index, reduction)
        return tuple(converted(device, v, "float16") for v in found)
    x, target, weight = (dense(device, v) for v in (x, target, weight))
    classes, inner = _layout(x.shape)
    loss, weights, faults = (device.empty(d, target.shape) for d in (x.dtype, x.dtype, "int64"))
    device.run(launches_of(rows_program(x.dtype), (loss, weights, faults, x, target, weight), target.size, classes, max(inner, 1),
                           ignore_index, _over(weight)))
    if target.size and int(device.read(_sum(device, faults))):
        raise out_of_bounds(device.read(target), classes, ignore_index)
    total = _sum(device, weights)
    if reduction == "none":
        return loss, total
    value = _sum(device, loss)
    return (_quotient(device, value, total) if reduction == "mean" else value), total


nll_loss2d = nll_loss


def _quotient(device, a: View, b: View) -> View:
    made = device.empty(a.dtype, a.shape)
    device.run(pointwise(maps.forward(BOOK["div"], a.dtype), [made], [a, b]))
    return made


def cross_entropy(device, x: View, target: View, weight: View, ignore_index: int, reduction: str) -> tuple[View, View]:
    """nll_loss of the logarithms of softmax."""
    if x.dtype == "float16":
        found = cross_entropy(device, *_wide(device, x), target, *_wide(device, weight), ignore_index, reduction)
        return tuple(converted(device, v, "float16") for v in found)
    scores = log_softmax(device, x, dim=len(x.shape) - 1) if x.size else x
    return nll_loss(device, scores, target, weight, ignore_index, reduction)


def _gradient(device, c: View, target: View, weight: View, total: View, share: View | None, shape: tuple[int, ...],
              ignore_index: int, reduction: str) -> View:
    c = dense(device, c if c.size == 1 else broadcast(c, target.shape)._replace(owner=c.owner))
    target, weight = dense(device, target), dense(device, weight)
    classes, inner = _layout(shape)
    out = device.empty(c.dtype, shape)
    program = gradient_program(c.dtype, share is not None, reduction == "mean")
    views = (out, c, target, weight, *(() if share is None else (share,)), total)
    device.run(launches_of(program, views, out.size, classes, max(inner, 1), ignore_index, _over(weight), _over(c)))
    return out


def nll_loss_gradient(device, c: View, target: View, weight: View, total: View, shape, ignore_index: int, reduction: str) -> View:
    """The gradient of nll_loss by its scores."""
    if c.dtype == "float16":
        c, weight, total = _wide(device, c, weight, total)
        return converted(device, nll_loss_gradient(device, c, target, weight, total, shape, ignore_index, reduction), "float16")
    return _gradient(device, c, target, weight, total, None, tuple(shape), ignore_index, reduction)


def cross_entropy_gradient(device, c: View, x: View, target: View, weight: View, total: View, ignore_index: int,
                           reduction: str) -> View:
    """The gradient of cross_entropy by its scores."""
    if x.dtype == "float16":
        c, x, weight, total = _wide(device, c, x, weight, total)
        return converted(device, cross_entropy_gradient(device, c, x, target, weight, total, ignore_index, reduction), "float16")
    if not x.size:
        return device.empty(x.dtype, x.shape)
    share = softmax(device, x, dim=len(x.shape) - 1)
    return _gradient(device, c, target, weight, total, share, x.shape, ignore_index, reduction)
