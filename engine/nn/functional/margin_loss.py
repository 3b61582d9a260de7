"""Losses of margins and embeddings with PyTorch's signatures (hinge, cosine, triplet, multi-margin, multi-label), and ctc_loss.

All but soft_margin_loss and ctc_loss are compositions. Distances, classes and distributions are in `loss`.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

from kernels.book import BOOK

from ...dtypes import FLOATING, int64
from ...errors import DTypeError, ShapeError
from ...functions.create import tensor
from ...functions.moments import norm
from ...functions.select import where
from ...tensor import KIND, Tensor
from .activation import logsigmoid
from .loss import tensors_of, without_gradient
from .reduction import Loss, checked, reduced

_soft_margin = Loss("soft_margin_loss")
_INT64 = KIND[int64]


# --- one margin -------------------------------------------------------------------------------------------------------

def hinge_embedding_loss(input: Tensor, target: Tensor, margin: float = 1.0, size_average: bool | None = None,
                         reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """x where the target is 1, max(0, margin - x) where it is -1."""
    reduction = checked(reduction, size_average, reduce)
    tensors_of("hinge_embedding_loss", input, target)
    apart = where(target != 1, (margin - input).clamp_min(0), 0.0)
    together = where(target != -1, input, 0.0)
    return reduced(apart + together, reduction)


def margin_ranking_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0, size_average: bool | None = None,
                        reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """max(0, -target (x1 - x2) + margin). RuntimeError unless all have as many dimensions."""
    reduction = checked(reduction, size_average, reduce)
    tensors_of("margin_ranking_loss", input1, input2, target, names=("input1", "input2", "target"))
    if not input1.ndim == input2.ndim == target.ndim:
        raise ShapeError("margin_ranking_loss : All input tensors should have same dimension but got sizes: "
                         f"input1: {input1.shape}, input2: {input2.shape}, target: {target.shape} ")
    return reduced((-target * (input1 - input2) + margin).clamp_min(0), reduction)


def soft_margin_loss(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
                     reduction: str = "mean") -> Tensor:
    """log(1 + exp(-target x)) for a target of 1 or -1."""
    reduction = checked(reduction, size_average, reduce)
    tensors_of("soft_margin_loss", input, target)
    without_gradient("soft_margin_loss", "target", target)
    return _soft_margin(reduction, input, target)


def cosine_embedding_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0, size_average: bool | None = None,
                          reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """1 - cos where the target is 1, max(0, cos - margin) where it is -1; inputs (n, d) with target (n), or (d) with ()."""
    reduction = checked(reduction, size_average, reduce)
    tensors_of("cosine_embedding_loss", input1, input2, target, names=("input1", "input2", "target"))
    if target.ndim > 1:
        raise ShapeError("0D or 1D target tensor expected, multi-target not supported")
    wanted = target.ndim + 1
    if input1.ndim != wanted or input2.ndim != wanted:
        raise ShapeError(f"{target.ndim}D target tensor expects {wanted}D input tensors, but found inputs with sizes "
                         f"{list(input1.shape)} and {list(input2.shape)}.")
    dim = target.ndim
    tiny = 1e-12
    sizes = ((input1 * input1).sum(dim) + tiny) * ((input2 * input2).sum(dim) + tiny)
    cos = (input1 * input2).sum(dim) / sizes.sqrt()
    loss = where(target == 1, 1 - cos, 0.0) + where(target == -1, (cos - margin).clamp_min(0), 0.0)
    return reduced(loss, reduction)


# --- triplets ---------------------------------------------------------------------------------------------------------

def _triplets(anchor: Tensor, positive: Tensor, negative: Tensor, distance: Callable[[Tensor, Tensor], Tensor], margin: float,
              swap: bool, reduction: str) -> Tensor:
    """max(0, margin + d(anchor, positive) - d(anchor, negative)); with `swap` the nearer of anchor and positive to the negative."""
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise ShapeError("The anchor, positive, and negative tensors are expected to have the same number of dimensions, but got: "
                         f"anchor {anchor.ndim}D, positive {positive.ndim}D, and negative {negative.ndim}D inputs")
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = BOOK["minimum"](far, distance(positive, negative))
    return reduced((margin + near - far).clamp_min(0), reduction)


def triplet_margin_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0, p: float = 2, eps: float = 1e-6,
                        swap: bool = False, size_average: bool | None = None, reduce: bool | None = None,
                        reduction: str = "mean") -> Tensor:
    """Triplet loss with the p-norm of differences (plus eps) along the last dimension. ValueError unless the margin is positive."""
    reduction = checked(reduction, size_average, reduce)
    tensors_of("triplet_margin_loss", anchor, positive, negative, names=("anchor", "positive", "negative"))
    return _triplets(anchor, positive, negative, lambda x, y: norm(x - y + eps, p, -1), margin, swap, reduction)


def triplet_margin_with_distance_loss(anchor: Tensor, positive: Tensor, negative: Tensor, *,
                                      distance_function: Callable[[Tensor, Tensor], Tensor] | None = None, margin: float = 1.0,
                                      swap: bool = False, reduction: str = "mean") -> Tensor:
    """Triplet loss with a distance of one's own, by default the Euclidean one."""
    reduction = checked(reduction)
    if distance_function is None:
        def distance_function(x: Tensor, y: Tensor) -> Tensor:
            return norm(x - y + 1e-6, 2, -1)
    return _triplets(anchor, positive, negative, distance_function, margin, swap, reduction)


# --- several labels ---------------------------------------------------------------------------------------------------

def multilabel_soft_margin_loss(input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
                                reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """Binary cross entropy of sigmoid(x), averaged over the classes (the last dimension)."""
    if size_average is not None or reduce is not None:
        reduction = checked(reduction, size_average, reduce)
    tensors_of("multilabel_soft_margin_loss", input, target)
    loss = -(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    if weight is not None:
        loss = loss * weight
    loss = loss.sum(-1) / input.shape[-1]
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not valid")
    return reduced(loss, reduction)


def _check_classes(input: Tensor, target: Tensor) -> None:
    if input._kind.dtype.category != FLOATING:
        raise NotImplementedError(f'"multi_margin_loss" not implemented for \'{input._kind.dtype.scalar}\'')
    if target._kind.dtype is not _INT64.dtype:
        raise DTypeError(f"expected scalar type Long but found {target._kind.dtype.scalar}")


def multi_margin_loss(input: Tensor, target: Tensor, p: int = 1, margin: float = 1.0, weight: Tensor | None = None,
                      size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """Sum over the wrong classes of max(0, margin - x[y] + x[i])^p, over the number of classes; p is 1 or 2.

    `input` (n, classes) or (classes), `target` int64 (n) or (); `weight` (classes) is that of the right class.
    """
    reduction = checked(reduction, size_average, reduce)
    tensors_of("multi_margin_loss", input, target)
    if p not in (1, 2):
        raise ValueError("only p == 1 and p == 2 supported")
    if weight is not None and weight.ndim != 1:
        raise ValueError("weight must be one-dimensional")
    shape = input._array.shape
    if len(shape) not in (1, 2) or not shape[-1]:
        raise ShapeError(f"Expected non-empty vector or matrix with optional 0-dim batch size, but got: {list(shape)}")
    rows, classes = (1, *shape)[-2:]
    if target.ndim > 1 or target.numel() != rows:
        raise ShapeError("multi_margin_loss: target tensor should be 1-D with size equal to the number of input samples (batch "
                         f"size). Expected target size [{rows}], but got {list(target.shape)}. Input has shape {list(shape)}.")
    _check_classes(input, target)
    if weight is not None:
        if weight.numel() != classes:
            raise ShapeError(f"inconsistent weight size, expected {classes} but got {list(weight.shape)}")
        without_gradient("multi_margin_loss", "weight", weight)
    if rows:
        low, high = target.aminmax()
        if low.item() < 0 or high.item() >= classes:
            raise RuntimeError("target out of range")
    index = target.reshape(rows, 1)
    x = input.reshape(rows, classes)
    excess = (margin - x.gather(1, index) + x).clamp_min(0)
    if p == 2:
        excess = excess * excess
    if weight is not None:
        excess = excess * weight[index]
    loss = excess.scatter(1, index, 0.0).sum(1) / classes
    if reduction == "none":
        return loss if target.ndim else loss.reshape(())
    return reduced(loss, reduction)


def multilabel_margin_loss(input: Tensor, target: Tensor, size_average: bool | None = None, reduce: bool | None = None,
                           reduction: str = "mean") -> Tensor:
    """Sum over labels j and all other classes i of max(0, 1 - x[j] + x[i]), over the number of classes.

    `target`, int64 in the shape of the input (n, classes) or (classes), lists the labels of a row up to the first -1.
    """
    reduction = checked(reduction, size_average, reduce)
    tensors_of("multilabel_margin_loss", input, target)
    shape = input._array.shape
    if len(shape) > 2 or not (shape[-1] if shape else 1):
        raise ShapeError(f"Expected non-empty vector or matrix with optional 0-dim batch size, but got: {list(shape)}")
    rows, classes = (1, 1, *shape)[-2:]
    if target._array.shape != shape:
        raise ShapeError(f"inconsistent target size: {list(target.shape)} for input of size: {list(shape)}")
    _check_classes(input, target)
    x, labels = input.reshape(rows, classes), target.reshape(rows, classes)
    if rows:
        low, high = target.aminmax()
        if low.item() < -1 or high.item() >= classes:
            raise RuntimeError("argument #2 'target' is out of range")
    listed = (labels < 0).cumsum(1) == 0                # positions before the first -1
    index = where(listed, labels, 0)
    dtype = x._kind.dtype
    chosen = (x * 0).detach().masked_fill(x != x, 0.0).scatter_add(1, index, listed.to(dtype)) > 0
    gap = (1 - x.gather(1, index).unsqueeze(2) + x.unsqueeze(1)).clamp_min(0)
    counted = listed.unsqueeze(2) & ~chosen.unsqueeze(1)
    loss = where(counted, gap, 0.0).sum((1, 2)) / classes
    if reduction == "none":
        return loss.reshape(shape[:-1])
    return reduced(loss, reduction)


# --- sequences --------------------------------------------------------------------------------------------------------

_ctc = BOOK["ctc_loss"].apply
_CTC_WORDS = "(while checking arguments for ctc_loss_allocate_outputs)"


def _lengths(lengths: Tensor | Sequence[int], name: str, count: int, most: int | None) -> Tensor:
    """Lengths of sequences as an int64 tensor (n), checked."""
    if not isinstance(lengths, Tensor):
        lengths = tensor(list(lengths), dtype=int64)
    elif lengths._kind.dtype.category != 1:
        raise DTypeError(f"{name} must be integral")
    if lengths.numel() != count:
        raise ShapeError(f"{name} must be of size batch_size")
    values = lengths.reshape(count).to(int64).contiguous()
    for value in values.tolist():
        if value < 0:
            raise RuntimeError(f"Expected {name} to have value at least 0, but got value {value} {_CTC_WORDS}")
        if most is not None and value > most:
            raise RuntimeError(f"Expected {name} to have value at most {most}, but got value {value} {_CTC_WORDS}")
    return values


def ctc_loss(log_probs: Tensor, targets: Tensor, input_lengths: Tensor | Sequence[int], target_lengths: Tensor | Sequence[int],
             blank: int = 0, reduction: str = "mean", zero_infinity: bool = False) -> Tensor:
    """Minus the log probability of label sequences, summed over all alignments with blanks and repetitions.

    `log_probs` (t, n, classes) or (t, classes); `targets` (n, s), or all sequences one after another (sum of target_lengths);
    lengths are tensors or tuples of n integers. The mean divides each loss by its target's length first. `zero_infinity` makes
    the loss and the gradient of a sequence that cannot be aligned zero. Source: Graves et al., ICML 2006.
    """
    reduction = checked(reduction)
    tensors_of("ctc_loss", log_probs, targets, names=("log_probs", "targets"))
    if log_probs._kind.dtype.name not in ("float32", "float64"):
        raise NotImplementedError(f'"ctc_loss_cpu" not implemented for \'{log_probs._kind.dtype.scalar}\'')
    batched = log_probs.ndim == 3
    if log_probs.ndim not in (2, 3):
        raise ShapeError(f"Expected 3-dimensional tensor, but got {log_probs.ndim + 1}-dimensional tensor for argument #1 "
                         f"'log_probs' {_CTC_WORDS}")
    x = log_probs if batched else log_probs.unsqueeze(1)
    length, count, classes = x._array.shape
    if not 0 <= blank < classes:
        raise RuntimeError("blank must be in label range")
    frames = _lengths(input_lengths, "input_lengths", count, length)
    symbols = _lengths(target_lengths, "target_lengths", count, None)
    sizes = symbols.tolist()
    if (targets.ndim == 1 and batched) or targets.ndim == 0:
        total = sum(sizes)
        if targets.numel() != total:
            raise ShapeError(f"Expected tensor to have size {total} at dimension 0, but got size {targets.numel()} for argument #2 "
                             f"'targets' {_CTC_WORDS}")
        offsets = [sum(sizes[:k]) for k in range(count)]
    else:
        given = tuple(targets.shape) if targets.ndim > 1 else (1, *targets.shape)
        if given[0] != count:
            raise ShapeError(f"Expected tensor to have size {count} at dimension 0, but got size {given[0]} for argument #2 "
                             f"'targets' {_CTC_WORDS}")
        if given[1] < max(sizes, default=0):
            raise ShapeError(f"Expected tensor to have size at least {max(sizes)} at dimension 1, but got size {given[1]} for "
                             f"argument #2 'targets' {_CTC_WORDS}")
        offsets = [k * given[1] for k in range(count)]
    flat = targets.to(int64).contiguous().reshape(-1)
    loss = _ctc(x, flat, tensor(offsets, dtype=int64), frames, symbols, blank=blank)[0]
    if zero_infinity:
        loss = where(loss == float("inf"), 0.0, loss)
    if reduction == "mean":
        return (loss / symbols.clamp(min=1).to(loss.dtype)).mean()
    return loss.sum() if reduction == "sum" else loss if batched else loss.squeeze(0)


__all__ = [
    "cosine_embedding_loss", "ctc_loss", "hinge_embedding_loss", "margin_ranking_loss", "multi_margin_loss",
    "multilabel_margin_loss", "multilabel_soft_margin_loss", "soft_margin_loss", "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]
