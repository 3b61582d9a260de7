"""What is found by sorting (median, quantile, mode) and by counting (bincount, histc).

Sorting itself is in `engine.functions.sorting`; the counting kernels in `kernels.ops.counting`.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from kernels.book import BOOK

from .. import dtypes
from ..errors import DTypeError, ShapeError
from ..return_types import named
from ..tensor import Tensor, wrap, wrap_dim
from .reduce import finish, finish_all, needs_elements, one_dim, tensor_of
from .registry import public

_RESULTS = {name: named(name, "values indices") for name in ("median", "nanmedian", "mode")}


def _sorted(input: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    from .sorting import sort
    values, indices = sort(input, dim=dim, stable=True)
    return values, indices


# --- median -----------------------------------------------------------------------------------------------------------

def _median(name: str, input: Tensor, dim, keepdim: bool, out):
    input = tensor_of(name, input)
    if input._kind.dtype.is_complex or input.dtype is dtypes.bool_:
        raise NotImplementedError(f'"median_out" not implemented for \'{input._kind.dtype.scalar}\'')
    plain = input.detach()
    skips = name == "nanmedian"
    if dim is None:
        if not input._array.size:
            floating = input._kind.dtype.category >= 2
            return input.new_full((), np.nan if floating else np.iinfo(input._kind.numpy).min)
        at = _middle(plain.reshape(-1), 0, skips)
        return finish(BOOK[name](input, at=at.item()), out)
    ndim = input._array.ndim
    d = one_dim(name, dim, ndim)
    if not ndim:
        index = input.new_zeros((), dtype=dtypes.int64)
        return finish_all(_RESULTS[name], (BOOK[f"{name}_dim"](input, index=index._array, dim=0), index), out)
    needs_elements(name, input, (d,))
    index = _middle(plain, d, skips)
    values = BOOK[f"{name}_dim"](input, index=index._array, dim=d)
    if keepdim:
        values, index = values.unsqueeze(d), index.unsqueeze(d)
    return finish_all(_RESULTS[name], (values, index), out)


def _middle(x: Tensor, dim: int, skips_nan: bool) -> Tensor:
    """Where the lower median along a dimension is; the first NaN where there is one, unless NaN are skipped.

    Sorting puts NaN last and keeps equal elements in order.
    """
    _, order = _sorted(x, dim)
    last = x._array.shape[dim] - 1
    middle = order.select(dim, last // 2)
    if not x._kind.dtype.is_floating_point:
        return middle
    numbers = BOOK["count_nonzero"](BOOK["not_nan"](x), dims=(dim,), keepdim=False)
    if skips_nan:
        at = BOOK["div_or_zero"](numbers.to(dtypes.float64) - 1, numbers.to(dtypes.float64) * 0 + 2)
        at = at.clamp(min=0).to(dtypes.int64)
    else:
        has = BOOK["eq"](numbers, last + 1)
        at = BOOK["where"](has, last // 2, numbers)
    return BOOK["pick"](order.contiguous(), at, dim=dim)


@public()
def median(input: Tensor, dim: int | None = None, keepdim: bool = False, *, out: Tensor | None = None) -> Any:
    """The lower median of all elements, or (values, indices) along `dim`. NaN wins."""
    return _median("median", input, dim, keepdim, out)


@public()
def nanmedian(input: Tensor, dim: int | None = None, keepdim: bool = False, *, out: Tensor | None = None) -> Any:
    """The lower median of the elements that are not NaN, or (values, indices) along `dim`."""
    return _median("nanmedian", input, dim, keepdim, out)


# --- quantiles --------------------------------------------------------------------------------------------------------

_INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


def _quantile(name: str, input: Tensor, q, dim, keepdim: bool, interpolation: str, out, skips_nan: bool) -> Tensor:
    input = tensor_of(name, input)
    if input.dtype not in (dtypes.float32, dtypes.float64):
        raise DTypeError(f"{name}() input tensor must be either float or double dtype")
    if not input._array.size:
        raise RuntimeError(f"{name}() input tensor must be non-empty")
    if interpolation not in _INTERPOLATIONS:
        raise RuntimeError(f"{name}() interpolation must be one of linear, lower, higher, midpoint or nearest, but got "
                           f"{interpolation}")
    if not isinstance(q, Tensor):
        if not 0 <= q <= 1:
            raise RuntimeError(f"{name}() q must be in the range [0, 1] but got {q:g}")
        q = wrap(np.array(q, input._kind.numpy), input._kind)
    if q._array.ndim > 1:
        raise ShapeError(f"{name}() q must be a scalar or 1D tensor")
    if q._kind is not input._kind:
        raise DTypeError(f"{name}() q tensor must be same dtype as the input tensor")
    if q._array.size and (q.detach().min().item() < 0 or q.detach().max().item() > 1):
        raise RuntimeError(f"{name}() q values must be in the range [0, 1]")
    ndim = input._array.ndim
    if dim is None:
        x, kept = input.reshape(-1), (1,) * ndim
    else:
        d = wrap_dim(dim, ndim)
        x = input.movedim(d, -1) if ndim else input.reshape(1)
        kept = tuple(1 if k == d else n for k, n in enumerate(input._array.shape))
    values, _ = _sorted(x, -1)
    result = _interpolate(x.detach(), values, q.reshape(-1), interpolation, skips_nan)      # (..., how many q)
    if q._array.ndim:
        result = result.movedim(-1, 0)
        shape = (q._array.size, *kept) if keepdim else None
    else:
        result = result.select(-1, 0)
        shape = kept if keepdim else None
    return finish(result.reshape(shape) if shape is not None else result, out)


def _interpolate(x: Tensor, values: Tensor, q: Tensor, interpolation: str, skips_nan: bool) -> Tensor:
    """The sorted values at ranks q * (count - 1), between two neighbours as `interpolation` says."""
    size = x._array.shape[-1]
    numbers = BOOK["count_nonzero"](BOOK["not_nan"](x), dims=(x._array.ndim - 1,), keepdim=True)
    if skips_nan:
        rank = q * (numbers.clamp(min=1) - 1).to(q.dtype)
    else:                   # NaN is sorted last: any rank of such a row goes there
        broken = BOOK["ne"](numbers, size)
        rank = BOOK["where"](broken, float(size - 1), (q * (size - 1)).expand(*numbers.shape[:-1], q._array.size))
    if interpolation == "lower":
        rank = rank.floor()
    elif interpolation == "higher":
        rank = rank.ceil()
    elif interpolation == "nearest":
        rank = rank.round()
    below = rank.detach().to(dtypes.int64)
    low = values.gather(-1, below)
    if interpolation not in ("linear", "midpoint"):
        return low
    above = rank.detach().ceil().to(dtypes.int64)
    weight = rank - below.to(rank.dtype) if interpolation == "linear" else rank.detach() * 0 + 0.5
    return low.lerp(values.gather(-1, above), weight)


@public()
def quantile(input: Tensor, q: float | Tensor, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear",
             out: Tensor | None = None) -> Tensor:
    """The q-th quantiles along `dim` (None: of all elements), float32 or float64. NaN wins.

    A 1-d `q` gives a new first dimension. Errors: RuntimeError for other dtypes, no elements, or q outside 0 to 1.
    """
    return _quantile("quantile", input, q, dim, keepdim, interpolation, out, False)


@public()
def nanquantile(input: Tensor, q: float | Tensor, dim: int | None = None, keepdim: bool = False, *,
                interpolation: str = "linear", out: Tensor | None = None) -> Tensor:
    """As `quantile`, over the elements that are not NaN."""
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation, out, True)


# --- mode -------------------------------------------------------------------------------------------------------------

@public()
def mode(input: Tensor, dim: int = -1, keepdim: bool = False, *, out: Tensor | None = None) -> Any:
    """(values, indices) of the most frequent element along `dim`: the smallest of several, at its last place."""
    input = tensor_of("mode", input)
    if input._kind.dtype.is_complex:
        raise NotImplementedError(f'"mode" not implemented for \'{input._kind.dtype.scalar}\'')
    ndim = input._array.ndim
    d = one_dim("mode", dim, ndim)
    if not ndim:
        index = input.new_zeros((), dtype=dtypes.int64)
        return finish_all(_RESULTS["mode"], (BOOK["mode"](input, index=index._array, dim=0), index), out)
    needs_elements("mode", input, (d,))
    values, order = _sorted(input.detach(), d)
    index = BOOK["most_frequent"](values, order, dim=d)
    result = BOOK["mode"](input, index=index._array, dim=d)
    if keepdim:
        result, index = result.unsqueeze(d), index.unsqueeze(d)
    return finish_all(_RESULTS["mode"], (result, index), out)


# --- counting ---------------------------------------------------------------------------------------------------------

@public()
def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each number 0, 1, ... occurs in a 1-d tensor of integers, or the sum of `weights` at its places.

    int64; with weights float64 (float32 for float32 weights). Errors: RuntimeError for other shapes or negative numbers.
    """
    input = tensor_of("bincount", input)
    if input._kind.dtype.category != 1:
        raise NotImplementedError(f'"bincount_cpu" not implemented for \'{input._kind.dtype.scalar}\'')
    if minlength < 0:
        raise RuntimeError("minlength should be >= 0")
    if input._array.ndim != 1 or (input._array.size and input.min().item() < 0):
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    if weights is not None and weights._array.shape != input._array.shape:
        raise ShapeError("weights should be 1-d and have the same length as input")
    size = max(minlength, input.max().item() + 1 if input._array.size else 0)
    index = input.to(dtypes.int64)
    if weights is None:
        return BOOK["bincount"](index, size=size)
    if weights.dtype is not dtypes.float32:
        weights = weights.to(dtypes.float64)
    return BOOK["bincount_weighted"](index, weights.detach(), size=size)


@public()
def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0, *, out: Tensor | None = None) -> Tensor:
    """How many elements lie in each of `bins` equal intervals from min to max (both 0: of the data); others are left out."""
    input = tensor_of("histc", input).detach()
    if not input._kind.dtype.is_floating_point:
        raise NotImplementedError(f'"histogram_cpu" not implemented for \'{input._kind.dtype.scalar}\'')
    if bins <= 0:
        raise RuntimeError(f"torch.histogram(): bins must be > 0, but got {bins} for dimension 0")
    low, high = float(min), float(max)
    if low == high and input._array.size:
        low, high = input.min().item(), input.max().item()
    if low == high:
        low, high = low - 1, high + 1
    if not (np.isfinite(low) and np.isfinite(high)):
        raise RuntimeError(f"range of [{low:g}, {high:g}] is not finite")
    if low > high:
        raise RuntimeError("torch.histc: max must be larger than min")
    return finish(BOOK["histc"](input, bins=int(bins), low=low, high=high), out)
