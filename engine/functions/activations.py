"""Fronts of activation functions: numbers as options, dtypes, the softmax family, rrelu's random slopes.

The formulas are records of `kernels.ops.activation` and `kernels.ops.softmax`. What PyTorch has under its own name (softmax, prelu,
selu, threshold, ...) is published here; `engine.nn.functional.activation` publishes the rest.
"""
from __future__ import annotations

from kernels.book import BOOK

from .. import dispatch, dtypes
from ..errors import DTypeError, ShapeError
from ..random import Generator
from ..tensor import KIND, Tensor, wrap_dim
from .operands import caller, into, must_fit, need_tensor, plain
from .registry import public


def with_numbers(name: str, node: str = "", title: str = ""):
    """A record of one tensor and some numbers as a function: the dtype is the tensor's, whatever the numbers are."""
    run = caller(name, node)
    title = title or name

    def call(input: Tensor, *numbers) -> Tensor:
        if not isinstance(input, Tensor):
            need_tensor(title, "input", 1, input)
        kind = input._kind
        constants = kind.constants
        tensors = [input]
        for n in numbers:
            found = constants.get((n.__class__, n)) if n else None
            tensors.append(found if found is not None else dispatch.constant(plain(n), kind))
        return run.run(tensors, kind)
    return call


elu_with = with_numbers("elu")
celu_with = with_numbers("elu", "CeluBackward0", "celu")
leaky_relu_with = with_numbers("leaky_relu")
rrelu_mean = with_numbers("leaky_relu", "RreluWithNoiseBackward0", "rrelu")
hardshrink_with, softshrink_with = with_numbers("hardshrink"), with_numbers("softshrink")
hardtanh_with, threshold_with, softplus_with = with_numbers("hardtanh"), with_numbers("threshold"), with_numbers("softplus")
_rrelu_noise, _prelu = caller("leaky_relu", "RreluWithNoiseBackward0"), caller("prelu")

SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


# --- one formula an element -------------------------------------------------------------------------------------------

@public(method=False, in_place=True)
def selu(input: Tensor) -> Tensor:
    """scale * elu(x, alpha) with the constants that keep mean 0 and variance 1. Source: Klambauer et al., arXiv:1706.02515."""
    need_tensor("selu", "input", 1, input)
    return elu_with(input, SELU_ALPHA, SELU_SCALE, 1.0)


@public(method=False, in_place=True)
def celu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """x where it is positive, else alpha (exp(x / alpha) - 1). RuntimeError for alpha = 0."""
    need_tensor("celu", "input", 1, input)
    if not alpha:
        raise RuntimeError("ZeroDivisionError: alpha cannot be 0 for CELU")
    return celu_with(input, alpha, 1.0, 1.0 / alpha)


@public(method=False, in_place=True)
def rrelu(input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False,
          generator: Generator | None = None) -> Tensor:
    """x where it is positive, else x times a slope: uniform in [lower, upper] in training, its mean otherwise."""
    need_tensor("rrelu", "input", 1, input)
    if lower > upper:
        raise RuntimeError("Lower bound should be less than or equal to the upper bound")
    if not training:
        return rrelu_mean(input, (lower + upper) / 2)
    if input._kind.dtype.category != 2:
        raise NotImplementedError(f'"rrelu_with_noise_out_cpu" not implemented for \'{input._kind.dtype.scalar}\'')
    slopes = BOOK["clone"](input.detach()).uniform_(lower, upper, generator=generator)
    return _rrelu_noise.run((input, slopes), input._kind)


@public(method=False, in_place=True)
def threshold(input: Tensor, threshold: float, value: float) -> Tensor:
    """x where it is above `threshold`, else `value`; integers stay integers."""
    need_tensor("threshold", "input", 1, input)
    if input._kind.dtype.category == dtypes.INTEGER:
        threshold, value = int(threshold), int(value)
        must_fit(threshold, input._kind)
        must_fit(value, input._kind)
    return threshold_with(input, threshold, value)


@public()
def hardshrink(input: Tensor, lambd: float = 0.5, *, out: Tensor | None = None) -> Tensor:
    """x, but 0 within [-lambd, lambd]."""
    return into(out, hardshrink_with(input, lambd))


@public()
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x where it is positive, else weight x: one weight for all, or one for each channel (dimension 1).

    RuntimeError for another dtype, another number of weights, or more than one dimension of weights.
    """
    need_tensor("prelu", "input", 1, input)
    need_tensor("prelu", "weight", 2, weight)
    if input._kind is not weight._kind:
        raise DTypeError(f"prelu: Type promoting not supported. Got {input._kind.dtype.scalar} and {weight._kind.dtype.scalar}")
    w, shape = weight._array, input._array.shape
    if w.ndim > 1:
        raise ShapeError(f"prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = {w.ndim}")
    if w.size != 1:
        if not shape:
            raise ShapeError("Not allow zero-dim input tensor.")
        channels = shape[1] if len(shape) > 1 else 1
        if channels != w.size:
            raise ShapeError(f"Mismatch of parameter numbers and input channel size. Found parameter numbers = {w.size} and "
                             f"channel size = {channels}.")
    if w.ndim and len(shape) != 1:
        weight = BOOK["view"](weight, shape=(w.size, *[1] * (len(shape) - 2)) if shape else ())
    return _prelu.run((input, weight), input._kind)


# --- softmax ----------------------------------------------------------------------------------------------------------

def _softmax(name: str, input: Tensor, dim, dtype) -> Tensor:
    need_tensor(name, "input", 1, input)
    if dim.__class__ is not int:
        if not hasattr(dim, "__index__") or isinstance(dim, bool):
            raise TypeError(f"{name}(): argument 'dim' (position 2) must be int, not {type(dim).__name__}")
        dim = dim.__index__()
    kind = input._kind if dtype is None else KIND[dtypes.as_dtype(dtype)]
    if kind.dtype.category != 2:
        raise NotImplementedError(f'"{name}_lastdim_kernel_impl" not implemented for \'{kind.dtype.scalar}\'')
    if kind is not input._kind:
        input = dispatch.cast(input, kind)
    return BOOK[name](input, dim=wrap_dim(dim, input._array.ndim))


@public()
def softmax(input: Tensor, dim: int, dtype: dtypes.dtype | None = None, *, out: Tensor | None = None) -> Tensor:
    """exp(x) over its sum along `dim`; `dtype` converts first. IndexError for a wrong dimension, refuses integers."""
    return into(out, _softmax("softmax", input, dim, dtype))


@public()
def log_softmax(input: Tensor, dim: int, dtype: dtypes.dtype | None = None, *, out: Tensor | None = None) -> Tensor:
    """log(softmax(x)) along `dim` without overflow; `dtype` converts first."""
    return into(out, _softmax("log_softmax", input, dim, dtype))


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """First half of `dim` times the sigmoid of the second. RuntimeError where it cannot be halved."""
    need_tensor("glu", "input", 1, input)
    shape = input._array.shape
    if not shape:
        raise ShapeError("glu does not support scalars because halving size must be even")
    d = wrap_dim(dim, len(shape))
    if shape[d] % 2:
        raise ShapeError(f"Halving dimension must be even, but dimension {d} is size {shape[d]}")
    half = shape[d] // 2
    first, second = (BOOK["slice"](input, dim=d, start=k * half, stop=(k + 1) * half, step=1) for k in (0, 1))
    return BOOK["glu"].apply.run((first, second), input._kind)
