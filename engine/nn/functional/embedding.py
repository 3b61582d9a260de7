"""embedding and embedding_bag: rows of a table by index, and their sums, means and maxima over bags.

Every index is checked before a kernel runs. Gradients are dense: `sparse=True` is accepted with a warning and gives the same
numbers in a dense tensor, since the engine has no sparse ones. `one_hot` is in `engine.functions`.
"""
from __future__ import annotations

import warnings

import numpy as np

from kernels.book import BOOK
from kernels.cpu import gathers

from ... import dispatch, dtypes
from ...autograd.modes import no_grad
from ...functions.masks import one_hot
from ...tensor import Tensor, wrap

_INDICES = (dtypes.int64, dtypes.int32)


# --- checks -----------------------------------------------------------------------------------------------------------

def _check_indices(name: str, number: int, word: str, value: Tensor) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}(): argument '{word}' (position {number}) must be Tensor, not {type(value).__name__}")
    if value._kind.dtype not in _INDICES:
        raise RuntimeError(f"Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; but "
                           f"got engine.{value._kind.dtype.legacy} instead (while checking arguments for {name})")


def _as_int64(value: Tensor) -> Tensor:
    value = value.detach()
    return value if value._kind.dtype is dtypes.int64 else dispatch.cast(value, value._kind.kin[dtypes.int64])


def _say_dense(sparse: bool) -> None:
    if sparse:
        warnings.warn("sparse=True: the engine has no sparse tensors; the gradient of weight is dense, with the same values",
                      UserWarning, stacklevel=3)


def _renorm(weight: Tensor, input: Tensor, max_norm: float, norm_type: float) -> None:
    """Scale down, in place, the rows in use whose norm exceeds `max_norm`."""
    with no_grad():
        used = input.reshape(-1).unique()
        rows = weight.detach()[used]
        norms = rows.norm(norm_type, 1, keepdim=True)
        over = norms > max_norm
        if over.any():
            scaled = rows * (max_norm / (norms + 1e-7))
            weight.index_copy_(0, used, BOOK["where"](over, scaled, rows))


# --- embedding --------------------------------------------------------------------------------------------------------

def embedding(input: Tensor, weight: Tensor, padding_idx: int | None = None, max_norm: float | None = None,
              norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False) -> Tensor:
    """Rows of `weight` (rows, columns) at the indices `input` (any shape): (*input, columns).

    The row `padding_idx` gets no gradient. `max_norm`: rows in use of a larger norm are scaled down in place first.
    `scale_grad_by_freq`: gradients over how often an index occurs in `input`. `sparse`: accepted, the gradient is dense.
    Errors: IndexError for indices out of range, RuntimeError for other dtypes than int64 and int32 or a table not 2-d.
    """
    if not isinstance(weight, Tensor):
        raise TypeError(f"embedding(): argument 'weight' (position 1) must be Tensor, not {type(weight).__name__}")
    rows = weight._array.shape[0] if weight._array.ndim else 0
    if padding_idx is not None:
        if not -rows <= padding_idx < max(rows, 1):
            raise AssertionError("Padding_idx must be within num_embeddings")
        padding_idx = padding_idx % rows if rows else 0
    if weight._array.ndim != 2:
        raise RuntimeError("'weight' must be 2-D")
    _check_indices("embedding", 2, "indices", input)
    _say_dense(sparse)
    positions = _as_int64(input)
    if max_norm is not None:
        BOOK["embedding"](weight.detach(), positions, padding=-1, by_frequency=False)       # refuses rows that do not exist
        _renorm(weight, positions, max_norm, norm_type)
    return BOOK["embedding"](weight, positions, padding=-1 if padding_idx is None else padding_idx,
                             by_frequency=bool(scale_grad_by_freq))


# --- bags -------------------------------------------------------------------------------------------------------------

def embedding_bag(input: Tensor, weight: Tensor, offsets: Tensor | None = None, max_norm: float | None = None,
                  norm_type: float = 2, scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False,
                  per_sample_weights: Tensor | None = None, include_last_offset: bool = False,
                  padding_idx: int | None = None) -> Tensor:
    """Sum, mean or max of rows of `weight` over bags of indices: (bags, columns); zeros for an empty bag.

    input: (bags, n), or a vector whose bag k begins at offsets[k] (`include_last_offset`: the last offset is the end).
    per_sample_weights: of the input's shape, factors of the rows (mode "sum" only). Indices equal to `padding_idx` count as
    absent. Other options as in `embedding`. Errors: ValueError, RuntimeError and NotImplementedError as in PyTorch.
    """
    if per_sample_weights is not None and input.shape != per_sample_weights.shape:
        raise ValueError(f"embedding_bag: If per_sample_weights ({per_sample_weights.shape}) is not None, then it must have "
                         f"the same "
                         f"shape as the input ({input.shape})")
    if weight.dim() != 2:
        raise ValueError(f"weight has to be a 2D Tensor, but got Tensor of dimension {weight.dim()}")
    if input.dim() == 2:
        if offsets is not None:
            raise ValueError("if input is 2D, then offsets has to be None, as input is treated is a mini-batch of fixed length "
                             f"sequences. However, found offsets of type {type(offsets)}")
        count, width = input.shape
        starts = wrap(np.arange(count, dtype=np.int64) * width, input._kind.kin[dtypes.int64])
        include_last_offset, input = False, input.reshape(-1)
        per_sample_weights = None if per_sample_weights is None else per_sample_weights.reshape(-1)
    elif input.dim() == 1:
        if offsets is None:
            raise ValueError("offsets has to be a 1D Tensor but got None")
        if offsets.dim() != 1:
            raise ValueError("offsets has to be a 1D Tensor")
        starts = offsets
    else:
        raise ValueError(f"input has to be 1D or 2D Tensor, but got Tensor of dimension {input.dim()}")
    if mode not in ("sum", "mean", "max"):
        raise ValueError("mode has to be one of sum, mean or max")
    if mode == "max" and scale_grad_by_freq:
        raise ValueError("max mode does not support scaling the gradient by the frequency")
    if mode == "max" and sparse:
        raise ValueError("max mode does not support sparse weights")
    if per_sample_weights is not None and mode != "sum":
        raise NotImplementedError("embedding_bag: per_sample_weights was not None. per_sample_weights is only supported for "
                                  "mode='sum' "
                                  f"(got mode='{mode}'). Please open a feature request on GitHub.")
    _check_indices("embedding_bag", 2, "indices", input)
    _check_indices("embedding_bag", 3, "offsets", starts)
    if per_sample_weights is not None and per_sample_weights._kind is not weight._kind:
        raise RuntimeError("Expected tensor for argument #1 'weight' to have the same type as tensor for argument #1 "
                           f"'per_sample_weights'; but type engine.{weight._kind.dtype.legacy} does not equal "
                           f"engine.{per_sample_weights._kind.dtype.legacy} (while checking arguments for embedding_bag)")
    _say_dense(sparse)
    positions, starts = _as_int64(input), _as_int64(starts)
    rows = weight._array.shape[0]
    ends = _ends(starts, positions._array.size, include_last_offset)
    _check_range(positions, rows)
    if include_last_offset:         # what lies behind the last offset belongs to no bag
        last = int(starts[-1].item())
        starts, positions = starts[:-1], positions[:last]
        per_sample_weights = None if per_sample_weights is None else per_sample_weights[:last]
    if max_norm is not None:
        _renorm(weight, positions, max_norm, norm_type)
    bags = _bags(starts, ends)
    if padding_idx is not None:
        if not -rows <= padding_idx < rows:
            raise RuntimeError(f"padding_idx must be within the number of embeddings, -{rows} through {rows - 1}, but got "
                               f"{padding_idx}")
        kept = (positions != padding_idx % rows).nonzero().reshape(-1)
        positions, bags = positions[kept], bags[kept]
        per_sample_weights = None if per_sample_weights is None else per_sample_weights[kept]
    sizes = bags.bincount(minlength=starts._array.size)
    if mode == "max":
        after = sizes.cumsum(0)
        return BOOK["embedding_bag_max"](weight, positions, after - sizes, after)[0]
    scale = per_sample_weights
    if scale is None:
        scale = wrap(np.ones(positions._array.shape, weight._kind.numpy), weight._kind)
        if mode == "mean":
            scale = scale / sizes[bags]
    return BOOK["embedding_bag"](weight, scale, positions, bags, count=starts._array.size, by_frequency=bool(scale_grad_by_freq))


def _ends(starts: Tensor, total: int, include_last: bool) -> Tensor:
    """Where each bag ends; the offsets are checked."""
    count = starts._array.size
    if include_last and not count:
        raise RuntimeError("include_last_offset: number of offset should be at least 1")
    if not count:
        return starts
    first, last = int(starts[0].item()), int(starts[-1].item())
    if first != 0:
        raise RuntimeError("offsets[0] has to be 0, i.e., the first sequence in the mini-batch has to start from position 0. "
                           f"However, got {first}")
    if last > total:
        raise RuntimeError(f"offsets[-1] can not be greater than input's length {total} but got offsets[-1] of {last}")
    if (starts[1:] < starts[:-1]).any():
        raise RuntimeError(f"embedding_bag: offsets have to increase, but got {starts.tolist()}")
    if include_last:
        return starts[1:]
    return BOOK["cat"]([starts[1:], wrap(np.array([total]), starts._kind)], dim=0)


def _bags(starts: Tensor, ends: Tensor) -> Tensor:
    """The bag of each index."""
    return BOOK["positions_of_counts"](ends - starts, output_size=None)


def _check_range(positions: Tensor, rows: int) -> None:
    if not positions._array.size:
        return
    low, high = gathers.extremes(positions._array)
    if low < 0 or high >= rows:
        at = int(((positions < 0) | (positions >= rows)).nonzero()[0].item())
        raise RuntimeError(f"Index {at} of input takes value {int(positions[at].item())} which is not in the valid range [0, "
                           f"{rows})")


__all__ = ["embedding", "embedding_bag", "one_hot"]
