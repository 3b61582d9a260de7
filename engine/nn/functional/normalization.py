"""Normalisation: batch_norm, layer_norm, group_norm, instance_norm, rms_norm, local_response_norm, normalize.

Arguments and errors are settled here; the numbers are those of the records in `kernels.ops.normalization`, or of compositions.
"""
from __future__ import annotations

from collections.abc import Sequence

from kernels.book import BOOK

from ... import dispatch, dtypes
from ...autograd.modes import no_grad
from ...errors import DTypeError, ShapeError
from ...tensor import KIND, Tensor

_HALVES = (dtypes.float16,)


# --- arguments --------------------------------------------------------------------------------------------------------

def _check_input(name: str, words: str, input: Tensor) -> None:
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
    if not input._kind.dtype.is_floating_point:
        raise NotImplementedError(f'"{words}" not implemented for \'{input._kind.dtype.scalar}\'')


def _check_dtypes(input: Tensor, *others: Tensor | None) -> None:
    """Parameters are of the input's dtype; of float32 too where the input is float16."""
    given = {t._kind.dtype for t in others if t is not None}
    if given and given != {input._kind.dtype} and not (input._kind.dtype in _HALVES and given == {dtypes.float32}):
        raise DTypeError("mixed dtype (CPU): all inputs must share same datatype.")


def _or_number(parameter: Tensor | None, input: Tensor, number: float) -> Tensor:
    """A weight or bias, or the number (without dimensions) that stands for a missing one."""
    return dispatch.constant(number, input._kind) if parameter is None else parameter


def _normalized_shape(name: str, input: Tensor, normalized_shape: Sequence[int], star: str, **parameters: Tensor | None) -> int:
    """How many elements are normalised together; the shape is that of the input's last dimensions and of the parameters."""
    if not isinstance(normalized_shape, (tuple, list)):
        raise TypeError(f"{name}(): argument 'normalized_shape' (position 2) must be tuple of ints, not "
                        f"{type(normalized_shape).__name__}")
    shape = tuple(n.__index__() for n in normalized_shape)
    if not shape:
        raise ShapeError("Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one element, but got "
                         "normalized_shape = []")
    for word, parameter in parameters.items():
        if parameter is not None and parameter._array.shape != shape:
            raise ShapeError(f"Expected {word} to be of same shape as normalized_shape, but got {word} of shape "
                             f"{list(parameter.shape)} and normalized_shape = {list(shape)}")
    if input._array.shape[max(0, input._array.ndim - len(shape)):] != shape:
        raise ShapeError(f"Given normalized_shape={list(shape)}, expected input with shape [*{star}"
                         f"{', '.join(str(n) for n in shape)}], but got input of size{list(input.shape)}")
    size = 1
    for n in shape:
        size *= n
    return size


# --- over the last dimensions -----------------------------------------------------------------------------------------

def layer_norm(input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None,
               eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias, statistics over the last dimensions, whose sizes are `normalized_shape`.

    weight, bias: of shape `normalized_shape`. Errors: RuntimeError for other shapes and mixed dtypes.
    """
    _check_input("layer_norm", "LayerNormKernelImpl", input)
    size = _normalized_shape("layer_norm", input, normalized_shape, ", ", weight=weight, bias=bias)
    _check_dtypes(input, weight, bias)
    return BOOK["native_layer_norm"](input, _or_number(weight, input, 1.0), _or_number(bias, input, 0.0), size=size,
                                     eps=float(eps))[0]


def rms_norm(input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """x / sqrt(mean of squares + eps) * weight over the last dimensions; eps is the dtype's machine epsilon unless given.

    weight: of shape `normalized_shape`. Errors: RuntimeError for other shapes.
    """
    _check_input("rms_norm", "rms_norm", input)
    size = _normalized_shape("rms_norm", input, normalized_shape, "", weight=weight)
    if eps is None:         # of the dtype computed in: float16 is computed in float32
        eps = dtypes.finfo(dtypes.float32 if input._kind.dtype in _HALVES else input._kind.dtype).eps
    result = BOOK["native_rms_norm"](input, _or_number(weight, input, 1.0), _or_number(None, input, 0.0), size=size,
                                     eps=float(eps))[0]
    if weight is not None and weight._kind is not input._kind:
        wide = dtypes.promote_types(input._kind.dtype, weight._kind.dtype)
        return dispatch.cast(result, KIND[wide])
    return result


# --- over channels ----------------------------------------------------------------------------------------------------

def _check_vector(name: str, value: Tensor | None, size: int) -> None:
    if value is not None and value._array.size != size:
        raise ShapeError(f"{name} should contain {size} elements not {value._array.size}")


def batch_norm(input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
               bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias for each channel of an input (batch, channels, ...).

    In training the statistics are the batch's, and running_mean and running_var (of the unbiased variance) move by `momentum`
    towards them; otherwise they are the running ones. Errors: ValueError for one value per channel in training, RuntimeError
    for other sizes and for mixed dtypes.
    """
    _check_input("batch_norm", "batch_norm", input)
    shape = input._array.shape
    if training:
        _check_several(shape, shape[0] if shape else 0)
    if len(shape) < 2:
        raise IndexError(f"Dimension out of range (expected to be in range of [-{max(1, len(shape))}, "
                         f"{max(0, len(shape) - 1)}], but got 1)")
    return _batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def _check_several(shape: tuple[int, ...], count: int) -> None:
    for n in shape[2:]:
        count *= n
    if count == 1:
        from ...tensor import Size
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {Size(shape)}")


def _batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps) -> Tensor:
    channels = input._array.shape[1]
    for name, running in (("running_mean", running_mean), ("running_var", running_var)):
        if running is None and not training:
            raise RuntimeError(f"{name} must be defined in evaluation mode")
        _check_vector(name, running, channels)
    _check_vector("weight", weight, channels)
    _check_vector("bias", bias, channels)
    _check_dtypes(input, weight, bias, running_mean, running_var)
    zero = _or_number(None, input, 0.0)
    out, mean, variance = BOOK["native_batch_norm"](
        input, _or_number(weight, input, 1.0), _or_number(bias, input, 0.0), zero if training else running_mean.detach(),
        zero if training else running_var.detach(), eps=float(eps), given=not training)
    if training and input._array.size:
        count = input._array.size // channels
        with no_grad():
            if running_mean is not None:
                _move(running_mean, mean, momentum)
            if running_var is not None:
                _move(running_var, variance * (count / (count - 1)) if count > 1 else variance * float("nan"), momentum)
    return out


def _move(running: Tensor, batch: Tensor, momentum: float) -> None:
    """running = momentum * batch + (1 - momentum) * running, in place."""
    running.mul_(1 - momentum).add_(batch.to(running.dtype), alpha=momentum)


def instance_norm(input: Tensor, running_mean: Tensor | None = None, running_var: Tensor | None = None,
                  weight: Tensor | None = None, bias: Tensor | None = None, use_input_stats: bool = True, momentum: float = 0.1,
                  eps: float = 1e-5) -> Tensor:
    """`batch_norm` with statistics of each sample's own channels; running ones move towards their mean over the batch.

    Errors: ValueError for one value per channel and sample, RuntimeError where statistics are neither given nor to be computed.
    """
    _check_input("instance_norm", "batch_norm", input)
    shape = input._array.shape
    if use_input_stats:
        count = 1
        for n in shape[2:]:
            count *= n
        if count == 1:
            from ...tensor import Size
            raise ValueError(f"Expected more than 1 spatial element when training, got input size {Size(shape)}")
    elif running_mean is None or running_var is None:
        raise RuntimeError("Expected running_mean and running_var to be defined when use_input_stats is false")
    if len(shape) < 2:
        raise IndexError(f"Dimension out of range (expected to be in range of [-{max(1, len(shape))}, "
                         f"{max(0, len(shape) - 1)}], but got 1)")
    n, c = shape[:2]
    for name, value in (("running_mean", running_mean), ("running_var", running_var), ("weight", weight), ("bias", bias)):
        _check_vector(name, value, c)
    weight, bias = (None if v is None else v.repeat(n) for v in (weight, bias))
    stats = [None if s is None else s.detach().repeat(n) for s in (running_mean, running_var)]
    out = _batch_norm(input.contiguous().view(1, n * c, *shape[2:]), *stats, weight, bias, use_input_stats, momentum, eps)
    if use_input_stats and n:
        with no_grad():
            for running, moved in zip((running_mean, running_var), stats, strict=True):
                if running is not None:
                    running.copy_(moved.view(n, c).mean(0))
    return out.view(shape)


def group_norm(input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None,
               eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(variance + eps), statistics over each of `num_groups` groups of channels of each sample, then times
    weight and plus bias, vectors with an element for each channel. Errors: RuntimeError, ValueError as in PyTorch.
    """
    _check_input("group_norm", "GroupNormKernelImpl", input)
    shape = input._array.shape
    if len(shape) < 2:
        raise ShapeError(f"Expected at least 2 dimensions for input tensor but received {len(shape)}")
    count = shape[0] * shape[1] // num_groups
    for n in shape[2:]:
        count *= n
    if count == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {list(shape)}")
    if num_groups <= 0:
        raise RuntimeError(f"Expected num groups to be greater than 0, got {num_groups}")
    if shape[1] % num_groups:
        raise ShapeError("Expected number of channels in input to be divisible by num_groups, but got input of shape "
                         f"{list(shape)} and num_groups={num_groups}")
    for word, parameter in (("weight", weight), ("bias", bias)):
        if parameter is not None and parameter._array.shape != (shape[1],):
            raise ShapeError(f"Expected {word} to be a vector of size equal to the number of channels in input, but got {word} of "
                             f"shape {list(parameter.shape)} and input of shape {list(shape)}")
    _check_dtypes(input, weight, bias)
    return BOOK["native_group_norm"](input, _or_number(weight, input, 1.0), _or_number(bias, input, 0.0),
                                     groups=num_groups.__index__(), eps=float(eps))[0]


# --- compositions -----------------------------------------------------------------------------------------------------

def local_response_norm(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """x / (k + alpha * mean of squares over `size` neighbouring channels) ** beta, for inputs (batch, channels, ...).

    Channels beyond the ends count as zeros. Errors: ValueError for fewer than three dimensions.
    Source: Krizhevsky, Sutskever, Hinton, ImageNet Classification (2012), 3.3.
    """
    from kernels.cpu.interpolation import window_taps
    if input._array.ndim < 3:
        raise ValueError("Expected 3D or higher dimensionality                          input (got "
                         f"{input._array.ndim} dimensions)")
    if not input._array.size:
        return input
    taps = window_taps(input._array.shape[1], size)
    mean = BOOK["resample"](input * input, taps=((1, taps),))
    return input / (mean * alpha + k) ** beta


def normalize(input: Tensor, p: float = 2.0, dim: int | tuple[int, ...] = 1, eps: float = 1e-12,
              out: Tensor | None = None) -> Tensor:
    """x divided by its p-norm over `dim`, or by `eps` where the norm is smaller."""
    norm = input.norm(p, dim, keepdim=True).clamp_min(eps).expand_as(input)
    result = input / norm
    return result if out is None else dispatch.into(out, result)


__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm", "local_response_norm", "normalize", "rms_norm"]
