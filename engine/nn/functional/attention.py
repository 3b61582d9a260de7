"""Attention: scaled_dot_product_attention and multi_head_attention_forward, compositions of products, softmax and dropout.

Masks: True in `attn_mask` of scaled_dot_product_attention lets a query see a key; in the masks of multi-head attention True
hides it; a mask of floats is added to the scores in both. The module is in `engine.nn.attention`.
"""
from __future__ import annotations

import math
import warnings
from typing import Any

from kernels.book import BOOK

from ...dtypes import bool_
from ...errors import DTypeError, ShapeError
from ...functions.factories import full, zeros
from ...functions.join import cat
from ...functions.matmul import _C_NAMES
from ...functions.operands import need_tensor
from ...tensor import Tensor
from .dropout import dropout
from .linear import linear
from .padding import pad

# --- one attention ----------------------------------------------------------------------------------------------------


def _check_attention(query: Any, key: Any, value: Any, attn_mask: Tensor | None, is_causal: bool) -> None:
    for position, (name, x) in enumerate((("query", query), ("key", key), ("value", value)), 1):
        if not isinstance(x, Tensor):
            need_tensor("scaled_dot_product_attention", name, position, x)
    kinds = [t._kind.dtype for t in (query, key, value)]
    if kinds[0] is not kinds[1] or kinds[0] is not kinds[2]:
        raise DTypeError("Expected query, key, and value to have the same dtype, but got query.dtype: "
                         f"{_C_NAMES[kinds[0].name]} key.dtype: {_C_NAMES[kinds[1].name]} and value.dtype: "
                         f"{_C_NAMES[kinds[2].name]} instead.")
    if min(query.ndim, key.ndim, value.ndim) < 2:
        raise ShapeError("Expected query, key, and value to all be  at least 2 dimensional, but got query.dim: "
                         f"{query.ndim} key.dim: {key.ndim} and value.dim: {value.ndim} instead.")
    if attn_mask is not None:
        if attn_mask.dtype is not bool_ and attn_mask.dtype is not query.dtype:
            raise DTypeError("Expected attn_mask dtype to be bool or float or to match query dtype, but got attn_mask.dtype: "
                             f"{_C_NAMES[attn_mask.dtype.name]} and  query.dtype: {_C_NAMES[kinds[0].name]} instead.")
        if is_causal:
            raise RuntimeError("_scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True")


def _without_hidden_rows(weights: Tensor, scores: Tensor) -> Tensor:
    """Attention of zero for a query that sees no key, where softmax gives NaN."""
    hidden = (scores == -math.inf).all(-1, keepdim=True)
    return weights.masked_fill(hidden, 0.0)


def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
                                 dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
                                 enable_gqa: bool = False) -> Tensor:
    """softmax(query key^T scale + mask) value.

    Shapes: query (..., l, e), key (..., s, e), value (..., s, v) give (..., l, v); leading dimensions broadcast.
    attn_mask: broadcastable to (..., l, s), bool (True: seen) or of the query's dtype; is_causal: query i sees keys up to i.
    scale: 1 / sqrt(e) unless given; dropout_p: of the weights, always; enable_gqa: key and value have fewer heads (dimension -3),
    each shared by a group of neighbouring query heads. A query that sees no key gets zeros.
    Source: Vaswani et al., Attention is all you need (2017).
    """
    _check_attention(query, key, value, attn_mask, is_causal)
    if enable_gqa:
        heads, groups, values = query.size(-3), key.size(-3), value.size(-3)
        if heads % groups or heads % values or groups != values:
            raise RuntimeError("Number of heads in key and value must divide the number of heads in query, and be the same: got "
                               f"{heads} in query, {groups} in key, {values} in value")
        key, value = (x.repeat_interleave(heads // groups, -3) for x in (key, value))
    scores = (query * (1 / math.sqrt(query.size(-1)) if scale is None else scale)).matmul(key.transpose(-2, -1))
    if is_causal:
        seen = full(scores.shape[-2:], True, dtype=bool_, device=query.device).tril()
        scores = scores.masked_fill(~seen, -math.inf)
    elif attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype is bool_ else scores + attn_mask
    weights = scores.softmax(-1)
    if attn_mask is not None:
        weights = _without_hidden_rows(weights, scores)
    return dropout(weights, dropout_p).matmul(value) if dropout_p > 0 else weights.matmul(value)


# --- several heads ----------------------------------------------------------------------------------------------------

def _claim(holds: bool, words: str) -> None:
    """What PyTorch asserts: an AssertionError with its words (an `assert` would vanish under python -O)."""
    if not holds:
        raise AssertionError(words)


def _none_or_dtype(input: Tensor | None) -> Any:
    return None if input is None else input.dtype


def _canonical_mask(mask: Tensor | None, mask_name: str, other_type: Any, other_name: str, target_type: Any,
                    check_other: bool = True) -> Tensor | None:
    """A mask in floats to be added: -inf where a mask of bools is True."""
    if mask is None:
        return None
    _claim(mask.dtype is bool_ or mask.is_floating_point(), f"only bool and floating types of {mask_name} are supported")
    if check_other and other_type is not None and mask.dtype is not other_type:
        warnings.warn(f"Support for mismatched {mask_name} and {other_name} is deprecated. Use same type for both instead.",
                      stacklevel=3)
    if mask.is_floating_point():
        return mask
    return zeros(mask.shape, dtype=target_type, device=mask.device).masked_fill_(mask, -math.inf)


def _batched(query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None, attn_mask: Tensor | None,
             num_heads: int) -> bool:
    """Whether the inputs have a batch dimension; AssertionError where they disagree."""
    dims = query.dim()
    _claim(dims in (2, 3), f"query should be unbatched 2D or batched 3D tensor but received {dims}-D query tensor")
    about = "For batched (3-D) `query`" if dims == 3 else "For unbatched (2-D) `query`"
    _claim(key.dim() == value.dim() == dims, f"{about}, expected `key` and `value` to be {dims}-D but found {key.dim()}-D and "
           f"{value.dim()}-D tensors respectively")
    if key_padding_mask is not None:
        _claim(key_padding_mask.dim() == dims - 1, f"{about}, expected `key_padding_mask` to be `None` or {dims - 1}-D but found "
               f"{key_padding_mask.dim()}-D tensor instead")
    if attn_mask is not None:
        _claim(attn_mask.dim() in (2, 3), f"{about}, expected `attn_mask` to be `None`, 2-D or 3-D but found {attn_mask.dim()}-D "
               "tensor instead")
        if dims == 2 and attn_mask.dim() == 3:
            wanted = (num_heads, query.shape[0], key.shape[0])
            _claim(tuple(attn_mask.shape) == wanted, f"Expected `attn_mask` shape to be {wanted} but got {attn_mask.shape}")
    return dims == 3


def _projected(query: Tensor, key: Tensor, value: Tensor, weight: Tensor, bias: Tensor | None) -> list[Tensor]:
    """Query, key and value times their thirds of one weight (3 e, e); one product where they are the same tensor."""
    e = query.size(-1)
    if query is key and key is value:
        return list(linear(query, weight, bias).split(e, -1))
    if key is value:
        own, shared = weight.split([e, 2 * e])
        own_bias, shared_bias = (None, None) if bias is None else bias.split([e, 2 * e])
        return [linear(query, own, own_bias), *linear(key, shared, shared_bias).split(e, -1)]
    biases = (None,) * 3 if bias is None else bias.chunk(3)
    return [linear(x, w, b) for x, w, b in zip((query, key, value), weight.chunk(3), biases, strict=True)]


def _separately_projected(inputs: tuple[Tensor, ...], weights: tuple[Tensor | None, ...], bias: Tensor | None) -> list[Tensor]:
    e, biases = inputs[0].size(-1), (None,) * 3 if bias is None else bias.chunk(3)
    made = []
    for name, short, x, w, b in zip(("query", "key", "value"), "qkv", inputs, weights, biases, strict=True):
        _claim(w is not None, f"use_separate_proj_weight is True but {short}_proj_weight is None")
        wanted = (e, x.size(-1))
        _claim(tuple(w.shape) == wanted, f"expecting {name} weights shape of {wanted}, but got {w.shape}")
        made.append(linear(x, w, b))
    return made


def _check_attn_mask(mask: Tensor, flat: tuple[int, int], stacked: tuple[int, int, int]) -> Tensor:
    """The mask in three dimensions. RuntimeError for other sizes."""
    for dims, wanted in ((2, flat), (3, stacked)):
        if mask.dim() == dims and tuple(mask.shape) != wanted:
            raise ShapeError(f"The shape of the {dims}D attn_mask is {mask.shape}, but should be {wanted}.")
    return mask.unsqueeze(0) if mask.dim() == 2 else mask


def _heads(x: Tensor, static: Tensor | None, name: str, rows: int, head_dim: int) -> Tensor:
    """(length, batch, e) as (batch * heads, length, head_dim); or what was given in that shape."""
    if static is None:
        return x.reshape(x.shape[0], rows, head_dim).transpose(0, 1)
    _claim(static.size(0) == rows, f"expecting {name}.size(0) of {rows}, but got {static.size(0)}")
    _claim(static.size(2) == head_dim, f"expecting {name}.size(2) of {head_dim}, but got {static.size(2)}")
    return static


def multi_head_attention_forward(
        query: Tensor, key: Tensor, value: Tensor, embed_dim_to_check: int, num_heads: int, in_proj_weight: Tensor | None,
        in_proj_bias: Tensor | None, bias_k: Tensor | None, bias_v: Tensor | None, add_zero_attn: bool, dropout_p: float,
        out_proj_weight: Tensor, out_proj_bias: Tensor | None, training: bool = True, key_padding_mask: Tensor | None = None,
        need_weights: bool = True, attn_mask: Tensor | None = None, use_separate_proj_weight: bool = False,
        q_proj_weight: Tensor | None = None, k_proj_weight: Tensor | None = None, v_proj_weight: Tensor | None = None,
        static_k: Tensor | None = None, static_v: Tensor | None = None, average_attn_weights: bool = True,
        is_causal: bool = False) -> tuple[Tensor, Tensor | None]:
    """Attention of `num_heads` parts of projected query (l, n, e), key (s, n, ...) and value, put together and projected.

    Gives (l, n, e) and the weights (n, l, s), or (n, heads, l, s) where not averaged, or None where not needed; without n for
    inputs without it. key_padding_mask (n, s) and attn_mask (l, s) or (n heads, l, s): True or -inf hides; bias_k, bias_v
    (1, 1, e) and `add_zero_attn` add a key each; static_k, static_v replace key and value. is_causal says what `attn_mask` is.
    Errors: AssertionError and RuntimeError as in PyTorch. Source: Vaswani et al. (2017), 3.2.2.
    """
    batched = _batched(query, key, value, key_padding_mask, attn_mask, num_heads)
    if not batched:
        alike = query is key, key is value
        query = query.unsqueeze(1)
        key = query if alike[0] else key.unsqueeze(1)
        value = key if alike[1] else value.unsqueeze(1)
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    (length, batch, embed_dim), source = query.shape, key.shape[0]
    key_padding_mask = _canonical_mask(key_padding_mask, "key_padding_mask", _none_or_dtype(attn_mask), "attn_mask", query.dtype)
    if is_causal and attn_mask is None:
        raise RuntimeError("Need attn_mask if specifying the is_causal hint. You may use the Transformer module method "
                           "`generate_square_subsequent_mask` to create this mask.")
    if is_causal and key_padding_mask is None and not need_weights:
        attn_mask = None                    # the hint is enough
    else:
        attn_mask = _canonical_mask(attn_mask, "attn_mask", None, "", query.dtype, check_other=False)
        is_causal = False                   # the mask says it
    _claim(embed_dim == embed_dim_to_check, f"was expecting embedding dimension of {embed_dim_to_check}, but got {embed_dim}")
    head_dim, rows = embed_dim // num_heads, batch * num_heads
    _claim(head_dim * num_heads == embed_dim, f"embed_dim {embed_dim} not divisible by num_heads {num_heads}")
    if use_separate_proj_weight:
        _claim(key.shape[:2] == value.shape[:2], f"key's sequence and batch dims {key.shape[:2]} do not match value's "
               f"{value.shape[:2]}")
        q, k, v = _separately_projected((query, key, value), (q_proj_weight, k_proj_weight, v_proj_weight), in_proj_bias)
    else:
        _claim(key.shape == value.shape, f"key shape {key.shape} does not match value shape {value.shape}")
        _claim(in_proj_weight is not None, "use_separate_proj_weight is False but in_proj_weight is None")
        q, k, v = _projected(query, key, value, in_proj_weight, in_proj_bias)
    if attn_mask is not None:
        attn_mask = _check_attn_mask(attn_mask, (length, source), (rows, length, source))
    if bias_k is not None and bias_v is not None:
        _claim(static_k is None, "bias cannot be added to static key.")
        _claim(static_v is None, "bias cannot be added to static value.")
        k, v = cat([k, bias_k.repeat(1, batch, 1)]), cat([v, bias_v.repeat(1, batch, 1)])
        attn_mask, key_padding_mask = _one_more(attn_mask), _one_more(key_padding_mask)
    else:
        _claim(bias_k is None, "bias_k is set but bias_v is None")
        _claim(bias_v is None, "bias_v is set but bias_k is None")
    q = _heads(q, None, "query", rows, head_dim)
    k, v = _heads(k, static_k, "static_k", rows, head_dim), _heads(v, static_v, "static_v", rows, head_dim)
    if add_zero_attn:
        zero = zeros(rows, 1, head_dim, dtype=k.dtype, device=k.device)
        k, v = cat([k, zero], 1), cat([v, zero], 1)
        attn_mask, key_padding_mask = _one_more(attn_mask), _one_more(key_padding_mask)
    source = k.size(1)
    if key_padding_mask is not None:
        _claim(key_padding_mask.size(0) == batch, f"Expected key_padded_mask.shape[0] to be {batch}, but got "
               f"{key_padding_mask.size(0)}")
        _claim(key_padding_mask.size(1) == source, f"Expected key_padded_mask.shape[1] to be {source}, but got "
               f"{key_padding_mask.size(1)}")
        padding = key_padding_mask.view(batch, 1, 1, source).expand(-1, num_heads, -1, -1).reshape(rows, 1, source)
        attn_mask = padding if attn_mask is None else attn_mask + padding
    dropout_p = dropout_p if training else 0.0
    if need_weights:
        q, turned = q * math.sqrt(1.0 / head_dim), k.transpose(-2, -1)
        scores = BOOK["bmm"](q, turned) if attn_mask is None else BOOK["baddbmm"](attn_mask, q, turned, beta=1, alpha=1)
        weights = scores.softmax(-1)
        if dropout_p > 0:
            weights = dropout(weights, dropout_p)
        out = BOOK["bmm"](weights, v).transpose(0, 1).reshape(length, batch, embed_dim)
    else:
        if attn_mask is not None:
            attn_mask = attn_mask.unsqueeze(0) if attn_mask.size(0) == 1 else attn_mask.view(batch, num_heads, -1, source)
        q, k, v = (x.reshape(batch, num_heads, -1, head_dim) for x in (q, k, v))
        out = scaled_dot_product_attention(q, k, v, attn_mask, dropout_p, is_causal)
        out = out.permute(2, 0, 1, 3).reshape(length, batch, embed_dim)
    out = linear(out, out_proj_weight, out_proj_bias)
    out = out if batched else out.squeeze(1)
    if not need_weights:
        return out, None
    weights = weights.view(batch, num_heads, length, source)
    if average_attn_weights:
        weights = weights.mean(1)
    return out, weights if batched else weights.squeeze(0)


def _one_more(mask: Tensor | None) -> Tensor | None:
    """A mask for one key more, which is seen."""
    return None if mask is None else pad(mask, (0, 1))


__all__ = ["multi_head_attention_forward", "scaled_dot_product_attention"]
