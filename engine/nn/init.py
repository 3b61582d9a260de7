"""Initial values of parameters: `init.kaiming_uniform_(weight)` and its kin fill a tensor in place, unrecorded, and return it.

Layers call them in `reset_parameters`, users on parameters of their own. `generator` draws instead of the default one.
Sources: xavier: Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks (2010); kaiming:
He et al., Delving deep into rectifiers (2015); orthogonal: Saxe et al., Exact solutions to the nonlinear dynamics of learning
in deep linear neural networks (2013); sparse: Martens, Deep learning via Hessian-free optimization (2010).
"""
from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np

from ..autograd.modes import no_grad
from ..functions.factories import empty
from ..functions.random import randperm
from ..functions.select import where
from ..random import Generator
from ..tensor import Tensor, from_array

_LINEAR = ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")


# --- sizes and gains --------------------------------------------------------------------------------------------------

def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that keeps the variance of activations: 1 for linear maps, sqrt(2) for relu, 5/3 for tanh, ...

    `param` is the slope of leaky_relu. ValueError for other names.
    """
    if nonlinearity in _LINEAR or nonlinearity == "sigmoid":
        return 1
    if nonlinearity == "tanh":
        return 5.0 / 3
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "selu":
        return 3.0 / 4
    if nonlinearity != "leaky_relu":
        raise ValueError(f"Unsupported nonlinearity {nonlinearity}")
    slope = 0.01 if param is None else param
    if isinstance(slope, bool) or not isinstance(slope, (int, float)):
        raise ValueError(f"negative_slope {param} not a valid number")
    return math.sqrt(2.0 / (1 + slope ** 2))


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    """How many inputs each output of a weight (out, in, ...) sees, and the other way round."""
    if tensor.ndim < 2:
        raise ValueError("Fan in and fan out can not be computed for tensor with fewer than 2 dimensions")
    outs, ins, *field = tensor.shape
    return ins * math.prod(field), outs * math.prod(field)


def _fan(tensor: Tensor, mode: str) -> int:
    if mode.lower() not in ("fan_in", "fan_out"):
        raise ValueError(f"Mode {mode.lower()} not supported, please use one of ['fan_in', 'fan_out']")
    return _calculate_fan_in_and_fan_out(tensor)[mode.lower() == "fan_out"]


# --- plain distributions and constants --------------------------------------------------------------------------------

def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform in [a, b)."""
    with no_grad():
        return tensor.uniform_(a, b, generator=generator)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with this mean and standard deviation."""
    with no_grad():
        return tensor.normal_(mean, std, generator=generator)


def trunc_normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0,
                  generator: Generator | None = None) -> Tensor:
    """Normal numbers of which only those in [a, b] are taken."""
    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn("mean is more than 2 std from [a, b] in nn.init.trunc_normal_. The distribution of values may be incorrect.",
                      UserWarning, stacklevel=2)

    def below(x: float) -> float:
        return (1.0 + math.erf((x - mean) / (std * math.sqrt(2.0)))) / 2.0
    # Draw until all fit: from the normal distribution where it often falls in [a, b], else uniform numbers of which those are
    # taken whose density, against the highest one in [a, b], exceeds another uniform number.
    often = below(b) - below(a) > 0.3
    highest = (max(a, min(mean, b)) - mean) / std

    def proposals() -> tuple[Tensor, Tensor]:
        """Numbers of the tensor's shape, and where they do not fit."""
        made = empty(tuple(tensor.shape), dtype=tensor.dtype, device=tensor.device)
        if often:
            made.normal_(mean, std, generator=generator)
            return made, (made < a) | (made > b)
        made.uniform_(a, b, generator=generator)
        chance = empty(tuple(tensor.shape), dtype=tensor.dtype, device=tensor.device).uniform_(generator=generator)
        return made, chance.log() > 0.5 * (highest ** 2 - ((made - mean) / std) ** 2)

    with no_grad():
        made, wrong = proposals()
        while bool(wrong.any()):
            again, still = proposals()
            made, wrong = where(wrong, again, made), wrong & still
        return tensor.copy_(made)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """The same number everywhere."""
    with no_grad():
        return tensor.fill_(val)


def ones_(tensor: Tensor) -> Tensor:
    """Ones."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Zeros."""
    with no_grad():
        return tensor.zero_()


def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix, as far as it fits. ValueError unless there are two dimensions."""
    if tensor.ndim != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    with no_grad():
        tensor.zero_().diagonal().fill_(1.0)
    return tensor


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """A convolution's weight (out, in, ...) that gives channels through unchanged, in each group as many as fit."""
    if tensor.ndim not in (3, 4, 5):
        raise ValueError("Only tensors with 3, 4, or 5 dimensions are supported")
    outs, ins, *field = tensor.shape
    if outs % groups:
        raise ValueError("dim 0 must be divisible by groups")
    centre = tuple(n // 2 for n in field)
    with no_grad():
        tensor.zero_()
        for group in range(groups):
            for channel in range(min(outs // groups, ins)):
                tensor[(group * (outs // groups) + channel, channel, *centre)] = 1
    return tensor


# --- by the sizes of the weight ---------------------------------------------------------------------------------------

def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform in +-gain * sqrt(6 / (fan_in + fan_out))."""
    bound = gain * math.sqrt(6.0 / sum(_calculate_fan_in_and_fan_out(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with standard deviation gain * sqrt(2 / (fan_in + fan_out))."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(_calculate_fan_in_and_fan_out(tensor))), generator)


def kaiming_uniform_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
                     generator: Generator | None = None) -> Tensor:
    """Uniform in +-gain * sqrt(3 / fan); `a` is the slope of leaky_relu."""
    if 0 in tensor.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", UserWarning, stacklevel=2)
        return tensor
    fan = _fan(tensor, mode)
    bound = math.sqrt(3.0) * calculate_gain(nonlinearity, a) / math.sqrt(fan)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
                    generator: Generator | None = None) -> Tensor:
    """Normal with standard deviation gain / sqrt(fan); `a` is the slope of leaky_relu."""
    if 0 in tensor.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", UserWarning, stacklevel=2)
        return tensor
    fan = _fan(tensor, mode)
    return normal_(tensor, 0.0, calculate_gain(nonlinearity, a) / math.sqrt(fan), generator)


def orthogonal_(tensor: Tensor, gain: float = 1, generator: Generator | None = None) -> Tensor:
    """gain times a matrix (n, product of the rest) with orthonormal rows, or columns where these are fewer."""
    if tensor.ndim < 2:
        raise ValueError("Only tensors with 2 or more dimensions are supported")
    if not tensor.numel():
        return tensor
    n, m = tensor.shape[0], tensor.numel() // tensor.shape[0]
    with no_grad():
        drawn = empty(n, m, dtype=tensor.dtype).normal_(generator=generator).numpy()
        q, r = np.linalg.qr(drawn.T if n < m else drawn)
        # the signs of r's diagonal make q uniform among orthogonal matrices
        q = from_array(np.ascontiguousarray(q)) * from_array(np.ascontiguousarray(np.diagonal(r))).sgn()
        tensor.copy_((q.T if n < m else q).reshape(tensor.shape)).mul_(gain)
    return tensor


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> Tensor:
    """Normal numbers, of which in each column the share `sparsity` (rounded up) is zero. ValueError unless 2-dimensional."""
    if tensor.ndim != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    rows, columns = tensor.shape
    zeros = math.ceil(sparsity * rows)
    with no_grad():
        tensor.normal_(0, std, generator=generator)
        for column in range(columns):
            tensor[randperm(rows, generator=generator)[:zeros], column] = 0
    return tensor


# --- PyTorch's older names --------------------------------------------------------------------------------------------

def _older(f: Callable[..., Tensor]) -> Callable[..., Tensor]:
    name = f.__name__[:-1]

    def older(*args: object, **kwargs: object) -> Tensor:
        warnings.warn(f"`nn.init.{name}` is now deprecated in favor of `nn.init.{name}_`.", FutureWarning, stacklevel=2)
        return f(*args, **kwargs)
    older.__name__ = older.__qualname__ = name
    older.__doc__ = f"The older name of `{name}_`."
    return older


uniform, normal, constant, eye, dirac = map(_older, (uniform_, normal_, constant_, eye_, dirac_))
xavier_uniform, xavier_normal = _older(xavier_uniform_), _older(xavier_normal_)
kaiming_uniform, kaiming_normal = _older(kaiming_uniform_), _older(kaiming_normal_)
orthogonal, sparse = _older(orthogonal_), _older(sparse_)

__all__ = [
    "calculate_gain", "constant", "constant_", "dirac", "dirac_", "eye", "eye_", "kaiming_normal", "kaiming_normal_",
    "kaiming_uniform", "kaiming_uniform_", "normal", "normal_", "ones_", "orthogonal", "orthogonal_", "sparse", "sparse_",
    "trunc_normal_", "uniform", "uniform_", "xavier_normal", "xavier_normal_", "xavier_uniform", "xavier_uniform_", "zeros_",
]
