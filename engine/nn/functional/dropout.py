"""dropout of elements and of channels, alpha_dropout for self-normalising networks.

The kernel is in `kernels.ops.dropout`; numbers come from the default generator. In place means into the input's memory.
"""
from __future__ import annotations

import math
import warnings

import numpy as np

from kernels.book import BOOK

from ... import dispatch, tape
from ...errors import DTypeError
from ...random import default_generator, reserved
from ...tape import modes
from ...tensor import Tensor, wrap

_ALPHA = 1.7580993408473766         # minus the value that SELU saturates at: its scale times its alpha


def _check(name: str, input: Tensor, p: float) -> None:
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
    if p < 0.0 or p > 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def _floating(input: Tensor) -> None:
    if not input._kind.dtype.is_floating_point:
        raise DTypeError(f"result type Float can't be cast to the desired output type {input._kind.dtype.scalar}")


def _kept(x: Tensor, p: float, scale: float) -> Tensor:
    """x * scale with probability 1 - p, else x * 0."""
    return BOOK["dropout"](x, reserved(default_generator, -(-x._array.size // 4)), below=round((1.0 - p) * 2.0**32), scale=scale)[0]


def _placed(input: Tensor, result: Tensor, inplace: bool) -> Tensor:
    if not inplace:
        return result
    if modes.enabled and input.requires_grad:
        tape.check_inplace(input)
    return dispatch.write(input, result)


def _noise(input: Tensor, p: float, scale: float) -> Tensor:
    """`scale` or zero for each channel (the first two dimensions), to be broadcast."""
    shape = input._array.shape
    if len(shape) < 2:
        raise RuntimeError("Feature dropout requires at least 2 dimensions in the input")
    ones = wrap(np.ones((*shape[:2], *[1] * (len(shape) - 2)), input._kind.numpy), input._kind)
    return _kept(ones, p, scale)


def _scale(p: float) -> float:
    return 1.0 / (1.0 - p) if p < 1.0 else 0.0


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Elements set to zero with probability p, the others divided by 1 - p; the input itself where not `training`.

    Errors: ValueError for p outside 0 to 1, RuntimeError for integers.
    """
    _check("dropout", input, p)
    if p == 0 or not training or not input._array.size:
        return input
    _floating(input)
    return _placed(input, _kept(input, p, _scale(p)), inplace)


def _feature_dropout(input: Tensor, p: float, training: bool, inplace: bool) -> Tensor:
    """`dropout` of whole channels: one draw for each sample and channel."""
    if p == 0 or not training or not input._array.size:
        return input
    _floating(input)
    return _placed(input, input * _noise(input, p, _scale(p)), inplace)


def _one_sample(input: Tensor, p: float, training: bool, inplace: bool) -> Tensor:
    """`_feature_dropout` of an input without a batch dimension."""
    return _placed(input, _feature_dropout(input.unsqueeze(0), p, training, False).squeeze(0), inplace)


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`dropout` of whole channels of inputs (N, C, L) or (C, L). RuntimeError for other numbers of dimensions."""
    _check("dropout1d", input, p)
    ndim = input._array.ndim
    if ndim not in (2, 3):
        raise RuntimeError(f"dropout1d: Expected 2D or 3D input, but received a {ndim}D input. Note that dropout1d exists to "
                           f"provide "
                           "channel-wise dropout on inputs with 1 spatial dimension, a channel dimension, and an optional batch "
                           "dimension (i.e. 2D or 3D inputs).")
    return (_feature_dropout if ndim == 3 else _one_sample)(input, p, training, inplace)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`dropout` of whole channels of inputs (N, C, H, W); one of three dimensions is taken as (N, C, L), with a warning."""
    _check("dropout2d", input, p)
    ndim = input._array.ndim
    if ndim not in (3, 4):
        warnings.warn(f"dropout2d: Received a {ndim}-D input to dropout2d, which is deprecated and will result in an error in a "
                      "future release. To retain the behavior and silence this warning, please use dropout instead. Note that "
                      "dropout2d exists to provide channel-wise dropout on inputs with 2 spatial dimensions, a channel dimension, "
                      "and an optional batch dimension (i.e. 3D or 4D inputs).", stacklevel=2)
    if ndim == 3:
        warnings.warn("dropout2d: Received a 3D input to dropout2d and assuming that channel-wise 1D dropout behavior is desired - "
                      "input is interpreted as shape (N, C, L), where C is the channel dim. This behavior will change in a future "
                      "release to interpret the input as one without a batch dimension, i.e. shape (C, H, W). To maintain the 1D "
                      "channel-wise dropout behavior, please switch to using dropout1d instead.", stacklevel=2)
    return _feature_dropout(input, p, training, inplace)


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`dropout` of whole channels of inputs (N, C, D, H, W) or (C, D, H, W)."""
    _check("dropout3d", input, p)
    ndim = input._array.ndim
    if ndim not in (4, 5):
        warnings.warn(f"dropout3d: Received a {ndim}-D input to dropout3d, which is deprecated and will result in an error in a "
                      "future release. To retain the behavior and silence this warning, please use dropout instead. Note that "
                      "dropout3d exists to provide channel-wise dropout on inputs with 3 spatial dimensions, a channel dimension, "
                      "and an optional batch dimension (i.e. 4D or 5D inputs).", stacklevel=2)
    return (_feature_dropout if ndim == 5 else _one_sample)(input, p, training, inplace)


# --- alpha dropout ----------------------------------------------------------------------------------------------------

def _alpha(input: Tensor, p: float, training: bool, inplace: bool, channels: bool) -> Tensor:
    """Dropped elements become SELU's saturation value; then an affine map restores mean 0 and variance 1."""
    if p == 0 or not training or not input._array.size:
        return input
    _floating(input)
    if p == 1:
        return _placed(input, input * 0, inplace)
    a = 1.0 / math.sqrt((_ALPHA * _ALPHA * p + 1) * (1 - p))
    if channels:
        noise = _noise(input, p, a)
    else:
        noise = _kept(wrap(np.ones(input._array.shape, input._kind.numpy), input._kind), p, a)
    # the shift is -alpha a where dropped (noise 0) and 0 where kept (noise a), plus alpha a p
    return _placed(input, input * noise + (noise * _ALPHA + _ALPHA * a * (p - 1)), inplace)


def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Elements set to SELU's saturation value with probability p, all then scaled and shifted to keep mean 0 and variance 1.

    Source: Klambauer et al., Self-Normalizing Neural Networks (2017), "alpha dropout".
    """
    _check("alpha_dropout", input, p)
    return _alpha(input, p, training, inplace, False)


def feature_alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """`alpha_dropout` of whole channels. RuntimeError for fewer than two dimensions."""
    _check("feature_alpha_dropout", input, p)
    return _alpha(input, p, training, inplace, True)


__all__ = ["alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout"]
