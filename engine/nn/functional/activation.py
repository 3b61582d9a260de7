"""Activation functions with PyTorch's signatures: relu to glu, the softmax family, gumbel_softmax; `inplace` where PyTorch has it.

The formulas are operators of the book, their arguments are settled in `engine.functions.activations`. Shared: `in_place_or_not`.
"""
from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from kernels.book import BOOK

from ... import dispatch
from ...dtypes import INTEGER
from ...functions import activations as fronts
from ...functions.activations import celu as _celu
from ...functions.activations import glu, hardshrink, prelu
from ...functions.activations import rrelu as _rrelu
from ...functions.activations import selu as _selu
from ...functions.activations import threshold as _threshold
from ...functions.factories import zeros
from ...functions.operands import need_tensor
from ...tensor import Tensor

_relu, _silu, _mish, _gelu, _gelu_tanh, _hardsigmoid, _hardswish, _logsigmoid = (
    BOOK[name].apply.unary() for name in ("relu", "silu", "mish", "gelu", "gelu_tanh", "hardsigmoid", "hardswish", "logsigmoid"))


def _check(name: str, input: Any) -> None:
    if not isinstance(input, Tensor):
        need_tensor(name, "input", 1, input)


def _hardtanh(input: Tensor, min_val: float, max_val: float) -> Tensor:
    _check("hardtanh", input)
    if min_val > max_val:
        raise ValueError("min_val cannot be greater than max_val")
    kind = input._kind
    if kind.dtype.category == INTEGER:
        min_val, max_val = int(min_val), int(max_val)
        if not kind.dtype.is_signed and (min_val < 0 or max_val < 0):
            raise RuntimeError("cannot do hardtanh on an unsigned type with negative limits")
    return fronts.hardtanh_with(input, min_val, max_val)


def _elu(input: Tensor, alpha: float) -> Tensor:
    return fronts.elu_with(input, alpha, 1.0, 1.0)


def in_place_or_not(call: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function of (in place?, tensor, numbers): the value of `call`, or the tensor itself with that value written into it."""
    write = dispatch.inplace(call)

    def run(inplace: bool, input: Tensor, *numbers: Any) -> Tensor:
        return write(input, *numbers) if inplace else call(input, *numbers)
    return run


_relu_to, _elu_to, _selu_to, _celu_to, _leaky_to, _hardtanh_to, _threshold_to, _rrelu_to = map(in_place_or_not, (
    _relu, _elu, _selu, _celu, fronts.leaky_relu_with, _hardtanh, _threshold, _rrelu))
_silu_to, _mish_to, _hardsigmoid_to, _hardswish_to = map(in_place_or_not, (_silu, _mish, _hardsigmoid, _hardswish))


# --- relu and its kin -------------------------------------------------------------------------------------------------

def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0); integers stay integers."""
    if not inplace and input.__class__ is Tensor:
        return _relu(input)
    _check("relu", input)
    return _relu_to(inplace, input)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """x within [0, 6]."""
    _check("relu6", input)
    return _hardtanh_to(inplace, input, 0.0, 6.0)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where it is positive, else negative_slope x."""
    _check("leaky_relu", input)
    return _leaky_to(inplace, input, negative_slope)


def rrelu(input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, inplace: bool = False) -> Tensor:
    """x where it is positive, else x times a slope: random in [lower, upper] in training, their mean otherwise."""
    _check("rrelu", input)
    return _rrelu_to(inplace, input, lower, upper, training)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where it is positive, else alpha (exp(x) - 1)."""
    _check("elu", input)
    return _elu_to(inplace, input, alpha)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """elu with the scale and alpha that keep mean 0 and variance 1."""
    _check("selu", input)
    return _selu_to(inplace, input)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where it is positive, else alpha (exp(x / alpha) - 1)."""
    _check("celu", input)
    return _celu_to(inplace, input, alpha)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where it is above `threshold`, else `value`."""
    _check("threshold", input)
    return _threshold_to(inplace, input, threshold, value)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """x within [min_val, max_val]; the gradient is 0 at the ends. ValueError where they cross."""
    _check("hardtanh", input)
    return _hardtanh_to(inplace, input, min_val, max_val)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """x / 6 + 1/2 within [0, 1]."""
    _check("hardsigmoid", input)
    return _hardsigmoid_to(inplace, input)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x hardsigmoid(x)."""
    _check("hardswish", input)
    return _hardswish_to(inplace, input)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x sigmoid(x)."""
    _check("silu", input)
    return _silu_to(inplace, input)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x tanh(softplus(x))."""
    _check("mish", input)
    return _mish_to(inplace, input)


def relu_(input: Tensor) -> Tensor:
    """relu in place."""
    return relu(input, True)


def leaky_relu_(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """leaky_relu in place."""
    return leaky_relu(input, negative_slope, True)


def rrelu_(input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False) -> Tensor:
    """rrelu in place."""
    return rrelu(input, lower, upper, training, True)


def elu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """elu in place."""
    return elu(input, alpha, True)


def selu_(input: Tensor) -> Tensor:
    """selu in place."""
    return selu(input, True)


def celu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """celu in place."""
    return celu(input, alpha, True)


def threshold_(input: Tensor, threshold: float, value: float) -> Tensor:
    """threshold in place."""
    return _threshold_to(True, input, threshold, value)


def hardtanh_(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """hardtanh in place."""
    return hardtanh(input, min_val, max_val, True)


# --- smooth -----------------------------------------------------------------------------------------------------------

def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x times the normal distribution function at x, or its approximation by "tanh"."""
    _check("gelu", input)
    if approximate not in ("none", "tanh"):
        raise RuntimeError("approximate argument must be either none or tanh.")
    return _gelu(input) if approximate == "none" else _gelu_tanh(input)


def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x))."""
    _check("log_sigmoid", input)
    return _logsigmoid(input)


def softplus(input: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    """log(1 + exp(beta x)) / beta, and x itself where beta x is beyond the threshold."""
    _check("softplus", input)
    return fronts.softplus_with(input, beta, threshold)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved by lambd towards 0, and 0 within [-lambd, lambd]. RuntimeError for a negative lambd."""
    _check("softshrink", input)
    dtype = input._kind.dtype
    if dtype.category != 2:
        raise NotImplementedError(f'"softshrink_check" not implemented for \'{dtype.scalar}\'')
    if not lambd >= 0:
        from ...dtypes import finfo
        raise RuntimeError(f"lambda must be in range [0, {finfo(dtype).max:g}] for input dtype {dtype.scalar}, but found {lambd:g}")
    return fronts.softshrink_with(input, lambd)


def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    _check("softsign", input)
    return input / (input.abs() + 1)


def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh(x)."""
    _check("tanhshrink", input)
    return input - input.tanh()


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return input.sigmoid()


def tanh(input: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return input.tanh()


# --- softmax ----------------------------------------------------------------------------------------------------------

def _implicit_dim(name: str, input: Tensor, stacklevel: int) -> int:
    warnings.warn(f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an argument.",
                  UserWarning, stacklevel=stacklevel)
    return 0 if input.ndim in (0, 1, 3) else 1


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """exp(x) over its sum along `dim`; without it dimension 0 or 1 is chosen, with a warning."""
    if dim is None:
        dim = _implicit_dim("softmax", input, _stacklevel)
    return input.softmax(dim, dtype=dtype)


def softmin(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """softmax of -x."""
    if dim is None:
        dim = _implicit_dim("softmin", input, _stacklevel)
    return (-input).softmax(dim, dtype=dtype)


def log_softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """log(softmax(x)) along `dim`; without it dimension 0 or 1 is chosen, with a warning."""
    if dim is None:
        dim = _implicit_dim("log_softmax", input, _stacklevel)
    return input.log_softmax(dim, dtype=dtype)


def gumbel_softmax(logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Tensor:
    """softmax of (logits + Gumbel noise) / tau; `hard`: one-hot, with the gradient of the soft sample.

    Source: Jang, Gu, Poole, arXiv:1611.01144; Maddison, Mnih, Teh, arXiv:1611.00712.
    """
    if eps != 1e-10:
        warnings.warn("`eps` parameter is deprecated and has no effect.", UserWarning, stacklevel=2)
    noise = -zeros(logits.shape, dtype=logits.dtype, device=logits.device).exponential_().log()
    soft = ((logits + noise) / tau).softmax(dim)
    if not hard:
        return soft
    index = soft.detach().max(dim, keepdim=True)[1]
    one_hot = zeros(logits.shape, dtype=logits.dtype, device=logits.device).scatter_(dim, index, 1.0)
    return one_hot - soft.detach() + soft


__all__ = [
    "celu", "celu_", "elu", "elu_", "gelu", "glu", "gumbel_softmax", "hardshrink", "hardsigmoid", "hardswish", "hardtanh",
    "hardtanh_", "leaky_relu", "leaky_relu_", "log_softmax", "logsigmoid", "mish", "prelu", "relu", "relu6", "relu_", "rrelu",
    "rrelu_", "selu", "selu_", "sigmoid", "silu", "softmax", "softmin", "softplus", "softshrink", "softsign", "tanh",
    "tanhshrink", "threshold", "threshold_",
]
