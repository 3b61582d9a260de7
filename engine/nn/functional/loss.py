"""Losses with PyTorch's signatures: distances, class indices and probabilities, margins, CTC.

Pointwise ones and those with class indices are operators (`kernels.ops.losses`), others compositions. `reduction` is "none", "mean"
or "sum"; size_average and reduce are its deprecated spelling. Modules are in `engine.nn.loss`, margins and CTC in `margin_loss`.
"""
from __future__ import annotations

import math
import warnings
from typing import Any

from kernels.book import BOOK

from ... import dispatch
from ...autograd.modes import no_grad
from ...dtypes import FLOATING, int64, uint8
from ...errors import DTypeError, ShapeError
from ...functions.operands import need_tensor
from ...tape import modes
from ...tensor import KIND, Tensor
from .activation import log_softmax
from .reduction import Loss, checked, reduced

_mse, _smooth_l1, _huber = Loss("mse_loss"), Loss("smooth_l1_loss"), Loss("huber_loss")
_bce, _bce_logits = Loss("binary_cross_entropy"), Loss("binary_cross_entropy_with_logits")
_INT64, _UINT8 = KIND[int64], KIND[uint8]


def tensors_of(name: str, *arguments: Any, names: tuple[str, ...] = ("input", "target")) -> None:
    """TypeError in PyTorch's words unless all arguments are tensors."""
    for k, (argument, word) in enumerate(zip(arguments, names, strict=True)):
        if not isinstance(argument, Tensor):
            need_tensor(name, word, k + 1, argument)


def without_gradient(function: str, argument: str, value: Tensor | None) -> None:
    """Refuse an argument that requires grad where the loss has no derivative by it."""
    if value is not None and value._needs and modes.enabled:
        raise RuntimeError(f"The function '{function}' is not differentiable with respect to argument '{argument}'. This input "
                           "cannot have requires_grad True.")


# --- distances --------------------------------------------------------------------------------------------------------

def _warn_of_sizes(input: Tensor, target: Tensor) -> None:
    if input._array.shape != target._array.shape:
        warnings.warn(f"Using a target size ({target.shape}) that is different to the input size ({input.shape}). This will likely "
                      "lead to incorrect results due to broadcasting. Please ensure they have the same size.", UserWarning,
                      stacklevel=3)


def _weighted(values: Tensor, input: Tensor, weight: Tensor, reduction: str, by_weight: bool) -> Tensor:
    """Elements times weights; the mean divides by the sum of the weights, or by the count."""
    if weight._array.shape != input._array.shape:
        raise ValueError("Weights and input must have the same size.")
    values = values * weight
    return values.sum() / weight.sum() if reduction == "mean" and by_weight else reduced(values, reduction)


def mse_loss(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean",
             weight: Tensor | None = None) -> Tensor:
    """Squared differences; warns where sizes differ. With weights the mean is the weighted mean."""
    tensors_of("mse_loss", input, target)
    _warn_of_sizes(input, target)
    reduction = checked(reduction, size_average, reduce)
    if weight is None:
        return _mse(reduction, input, target)
    return _weighted((input - target).pow(2), input, weight, reduction, True)


def l1_loss(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean",
            weight: Tensor | None = None) -> Tensor:
    """Absolute differences; warns where sizes differ. With weights the mean is the weighted mean."""
    tensors_of("l1_loss", input, target)
    _warn_of_sizes(input, target)
    reduction = checked(reduction, size_average, reduce)
    values = (input - target).abs()
    return reduced(values, reduction) if weight is None else _weighted(values, input, weight, reduction, True)


def smooth_l1_loss(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
                   reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """|d| - beta / 2, and d^2 / (2 beta) where |d| is below beta; l1_loss for beta = 0. RuntimeError for a negative beta."""
    tensors_of("smooth_l1_loss", input, target)
    _warn_of_sizes(input, target)
    reduction = checked(reduction, size_average, reduce)
    if beta < 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    if beta == 0:
        return reduced((input - target).abs(), reduction)
    return _smooth_l1(reduction, input, target, float(beta))


def huber_loss(input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None) -> Tensor:
    """delta (|d| - delta / 2), and d^2 / 2 where |d| is below delta. RuntimeError unless delta is positive."""
    tensors_of("huber_loss", input, target)
    _warn_of_sizes(input, target)
    reduction = checked(reduction)
    if not delta > 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    if weight is None:
        return _huber(reduction, input, target, float(delta))
    return _weighted(_huber("none", input, target, float(delta)), input, weight, reduction, False)


# --- two classes ------------------------------------------------------------------------------------------------------

def _fits(weight: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse weights that do not broadcast to the shape of the input."""
    given = weight._array.shape
    for k in range(1, len(given) + 1):
        if given[-k] != 1 and (k > len(shape) or given[-k] != shape[-k]):
            raise ShapeError(f"Attempting to broadcast a dimension of length {given[-k]} at -{k}! Mismatching argument at "
                             f"index 1 had {weight.shape}; but expected shape should be broadcastable to {list(shape)}")


def binary_cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
                         reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """-(y log x + (1 - y) log(1 - x)) of probabilities x, each logarithm at least -100, times weights that broadcast.

    One shape and dtype. ValueError for another size, RuntimeError for values outside of [0, 1].
    """
    reduction = checked(reduction, size_average, reduce)
    tensors_of("binary_cross_entropy", input, target)
    if target._array.shape != input._array.shape:
        raise ValueError(f"Using a target size ({target.shape}) that is different to the input size ({input.shape}) is deprecated. "
                         "Please ensure they have the same size.")
    others = [target]
    if weight is not None:
        _fits(weight, target._array.shape)
        without_gradient("binary_cross_entropy", "weight", weight)
        others.append(weight)
    for other in others:
        if other._kind.dtype is not input._kind.dtype:
            raise DTypeError(f"Found dtype {other._kind.dtype.scalar} but expected {input._kind.dtype.scalar}")
    for name, t in (("input", input), ("target", target)):
        if t._array.size and input._kind.dtype.category == FLOATING:
            low, high = t.detach().aminmax()
            if not (low.item() >= 0 and high.item() <= 1):      # NaN is refused, too
                raise RuntimeError(f"all elements of {name} should be between 0 and 1")
    return _bce(reduction, input, target, 1.0 if weight is None else weight)


def binary_cross_entropy_with_logits(input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
                                     reduce: bool | None = None, reduction: str = "mean",
                                     pos_weight: Tensor | None = None) -> Tensor:
    """binary_cross_entropy of sigmoid(input) without overflow; `pos_weight` (broadcast) weighs the positive part of the target.

    ValueError where sizes differ.
    """
    reduction = checked(reduction, size_average, reduce)
    tensors_of("binary_cross_entropy_with_logits", input, target)
    if target._array.shape != input._array.shape:
        raise ValueError(f"Target size ({target.shape}) must be the same as input size ({input.shape})")
    if target._kind.dtype.category < 2 and input._kind.dtype.category == FLOATING:
        raise DTypeError(f"result type {input._kind.dtype.scalar} can't be cast to the desired output type "
                         f"{target._kind.dtype.scalar}")
    without_gradient("binary_cross_entropy_with_logits", "weight", weight)
    without_gradient("binary_cross_entropy_with_logits", "pos_weight", pos_weight)
    return _bce_logits(reduction, input, target, 1.0 if pos_weight is None else pos_weight, 1.0 if weight is None else weight)


# --- class indices and probabilities ----------------------------------------------------------------------------------

_one_row, _images, _fused = BOOK["nll_loss"].apply, BOOK["nll_loss2d"].apply, BOOK["cross_entropy"].apply


def class_indices(input: Tensor, target: Tensor, weight: Tensor | None, classes: int) -> tuple[Tensor, Tensor]:
    """Indices as int64 and weights as a tensor of the scores' dtype (the number 1 without weights), checked."""
    kind = target._kind
    if kind.dtype is not _INT64.dtype:
        if kind.dtype is not _UINT8.dtype:
            raise DTypeError(f"expected target dtype to be Long or Byte, but got {kind.dtype.scalar}")
        target = dispatch.cast(target, _INT64)
    if weight is None:
        return target, dispatch.constant(1.0, input._kind)
    if weight._array.ndim != 1 or weight._array.size != classes:
        raise ShapeError(f"weight tensor should be defined either for all {classes} classes or no classes but got weight tensor of "
                         f"shape: {list(weight._array.shape)}")
    if weight._kind is not input._kind:
        raise DTypeError(f"expected scalar type {input._kind.dtype.scalar} but found {weight._kind.dtype.scalar}")
    without_gradient("nll_loss_forward", "weight", weight)
    return target, weight


def _nll(run: Any, input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int,
         reduction: str) -> tuple[Tensor, Tensor]:
    """(loss, total weight) of scores with one or more dimensions, by a record of class indices."""
    x, t = input._array.shape, target._array.shape
    if not x:
        raise ValueError("Expected 1 or more dimensions (got 0)")
    if len(x) > 1 and x[0] != (t[0] if t else 1):
        raise ValueError(f"Expected input batch_size ({x[0]}) to match target batch_size ({t[0] if t else 1}).")
    if input._kind.dtype.category != FLOATING:
        raise NotImplementedError(f'"nll_loss_out_frame" not implemented for \'{input._kind.dtype.scalar}\'')
    if len(x) <= 2:
        if len(t) > 1:
            raise ShapeError("0D or 1D target tensor expected, multi-target not supported")
        if len(x) == 1:
            if target._array.size != 1:
                raise ValueError(f"For 1D input, 1D target must have size 1, but got target size: {target._array.size}")
            rows = BOOK["view"](input, shape=(1, x[0])), BOOK["reshape"](target, shape=(1,))
            loss, total = run(rows[0], *class_indices(input, rows[1], weight, x[0]), ignore_index=ignore_index, reduction=reduction)
            return (BOOK["view"](loss, shape=()) if reduction == "none" else loss), total
    elif t[1:] != x[2:]:
        if len(x) == 4:
            raise ShapeError(f"size mismatch (got input: {list(x)} , target: {list(t)}")
        raise ShapeError(f"Expected target size {[x[0], *x[2:]]}, got {list(t)}")
    target, weight = class_indices(input, target, weight, x[1])
    return run(input, target, weight, ignore_index=ignore_index, reduction=reduction)


def nll_loss(input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
             ignore_index: int = -100, reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """Minus the log probability of each class: input (n, classes, ...) or (classes), target (n, ...) or () of int64 or uint8.

    `weight` (classes) weighs losses and the mean; `ignore_index` is left out. IndexError for a class that does not exist.
    """
    reduction = checked(reduction, size_average, reduce)
    tensors_of("nll_loss_nd", input, target)
    return _nll(_one_row if input._array.ndim <= 2 else _images, input, target, weight, ignore_index, reduction)[0]


def cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
                  ignore_index: int = -100, reduce: bool | None = None, reduction: str = "mean",
                  label_smoothing: float = 0.0) -> Tensor:
    """nll_loss of log_softmax of scores (n, classes, ...) or (classes).

    `target`: class indices (n, ...), or probabilities in the shape of the input. `label_smoothing` mixes the target with equal
    probabilities. IndexError for a class that does not exist, RuntimeError and ValueError for what does not fit.
    """
    reduction = checked(reduction, size_average, reduce)
    tensors_of("cross_entropy_loss", input, target)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing:g}")
    ndim = input._array.ndim
    if input._array.shape == target._array.shape:
        return _against_probabilities(input, target, weight, ignore_index, reduction, label_smoothing)
    if label_smoothing > 0:
        return _smoothed(input, target, weight, ignore_index, reduction, label_smoothing)
    if ndim <= 2 and input._kind.dtype.category == FLOATING:
        return _nll(_fused, input, target, weight, ignore_index, reduction)[0]
    return _nll(_images, log_softmax(input, 1 if ndim > 1 else 0), target, weight, ignore_index, reduction)[0]


def _per_class(weight: Tensor, ndim: int) -> Tensor:
    """Weights of classes in a shape that broadcasts along dimension 1."""
    return weight if ndim == 1 else weight.view(1, -1, *[1] * (ndim - 2))


def _against_probabilities(input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str,
                           label_smoothing: float) -> Tensor:
    if target._kind.dtype.category != FLOATING:
        raise DTypeError(f"Expected floating point type for target with class probabilities, got {target._kind.dtype.scalar}")
    if ignore_index >= 0:
        raise RuntimeError("ignore_index is not supported for floating point target")
    ndim = input._array.ndim
    dim = 0 if ndim == 1 else 1
    classes = input._array.shape[dim] if ndim else 1
    if weight is not None and (weight.ndim != 1 or weight.numel() != classes):
        raise ShapeError(f"cross_entropy: weight tensor should be defined either for all {classes} classes or no classes but got "
                         f"weight tensor of shape: {list(weight.shape)}")
    log_p = log_softmax(input, dim if ndim else 0)
    if label_smoothing > 0:
        target = target * (1 - label_smoothing) + label_smoothing / classes
    product = log_p * target if weight is None else log_p * target * _per_class(weight, ndim)
    if reduction == "mean":
        return -product.sum() / (input.numel() // classes if classes else 0) if input.numel() else -product.sum() / 0
    return -(product.sum(dim if ndim else None) if reduction == "none" else product.sum())


def _smoothed(input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str,
              label_smoothing: float) -> Tensor:
    """(1 - s) nll_loss + s / classes times the sum of -log p over all classes, both weighted."""
    ndim = input._array.ndim
    dim = 1 if ndim > 1 else 0
    log_p = log_softmax(input, dim)
    nll, total = _nll(_one_row if ndim <= 2 else _images, log_p, target, weight, ignore_index, reduction)
    smooth = -(log_p if weight is None else log_p * _per_class(weight, ndim)).sum(dim)
    ignored = target == ignore_index
    smooth = smooth.masked_fill(ignored.view(smooth.shape), 0.0)
    if reduction != "none":
        smooth = smooth.sum()
    if reduction == "mean":
        smooth = smooth / total
    return nll * (1 - label_smoothing) + smooth * (label_smoothing / input._array.shape[dim])


# --- distributions ----------------------------------------------------------------------------------------------------

def kl_div(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean",
           log_target: bool = False) -> Tensor:
    """target (log target - input), the divergence of log probabilities `input` from the target; "batchmean" divides by its rows."""
    if size_average is not None or reduce is not None:
        how = checked(reduction, size_average, reduce)
    else:
        if reduction == "mean":
            warnings.warn("reduction: 'mean' divides the total loss by both the batch size and the support size.'batchmean' "
                          "divides only by the batch size, and aligns with the KL div math definition.'mean' will be changed to "
                          "behave the same as 'batchmean' in the next major release.", UserWarning, stacklevel=2)
        how = checked("sum" if reduction == "batchmean" else reduction)
    tensors_of("kl_div", input, target)
    if log_target:
        loss = target.exp() * (target - input)
    else:
        loss = target.xlogy(target) - target * input
    loss = reduced(loss, how)
    return loss / input._array.shape[0] if reduction == "batchmean" and input._array.ndim else loss


def poisson_nll_loss(input: Tensor, target: Tensor, log_input: bool = True, full: bool = False, size_average: bool | None = None,
                     eps: float = 1e-8, reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """exp(x) - y x, or x - y log(x + eps) where x is no logarithm; `full` adds Stirling's approximation of log(y!) for y > 1."""
    reduction = checked(reduction, size_average, reduce)
    tensors_of("poisson_nll_loss", input, target)
    loss = input.exp() - target * input if log_input else input - target * (input + eps).log()
    if full:
        stirling = target * target.log() - target + 0.5 * (2 * math.pi * target).log()
        loss = loss + stirling.masked_fill(target <= 1, 0)
    return reduced(loss, reduction)


def gaussian_nll_loss(input: Tensor, target: Tensor, var: Tensor | float, full: bool = False, eps: float = 1e-6,
                      reduction: str = "mean") -> Tensor:
    """(log v + (x - y)^2 / v) / 2 with v the variance, at least eps; `full` adds log(2 pi) / 2.

    `var`: a number, or of the input's shape, or of size 1 (or missing) in its last dimension. ValueError otherwise.
    """
    tensors_of("gaussian_nll_loss", input, target)
    if not isinstance(var, Tensor):
        if var < 0:
            raise ValueError("var has negative entry/entries")
        var = dispatch.constant(float(var), input._kind).expand(input.shape)
    elif (var < 0).any():
        raise ValueError("var has negative entry/entries")
    x, v = input._array.shape, var._array.shape
    if v != x:
        if x[:-1] == v:
            var = var.unsqueeze(-1)
        elif len(x) != len(v) or sum(m for n, m in zip(x, v, strict=True) if n != m) != 1:
            raise ValueError("var is of incorrect size")
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not valid")
    var = var.clone()
    with no_grad():             # below the floor the gradient is that of the floor, passed on
        var.clamp_(min=eps)
    loss = 0.5 * (var.log() + (input - target) ** 2 / var)
    return reduced(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "gaussian_nll_loss", "huber_loss", "kl_div",
    "l1_loss", "mse_loss", "nll_loss", "poisson_nll_loss", "smooth_l1_loss",
]
