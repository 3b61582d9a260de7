"""Layers that are linear in each input: Identity, Linear, LazyLinear, Bilinear.

`Lazy` is the base of layers that learn their input's size from the first input.
"""
from __future__ import annotations

import math
from typing import Any

from ..dtypes import dtype as Dtype
from ..functions.factories import empty
from ..tensor import Tensor
from . import functional, init
from .module import Module
from .parameter import Parameter, UninitializedParameter, is_lazy


class Identity(Module):
    """Gives its input back; arguments are ignored."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        return input


class Linear(Module):
    """x @ weight.T + bias for inputs (..., in_features); results (..., out_features).

    weight (out_features, in_features) and bias (out_features) start uniform in +-1/sqrt(in_features), which for the weight is
    kaiming_uniform with a = sqrt(5). Source: He et al., Delving deep into rectifiers (2015), with PyTorch's constants.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Dtype | None = None):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(empty(out_features, in_features, device=device, dtype=dtype))
        if bias:
            self.bias = Parameter(empty(out_features, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init._calculate_fan_in_and_fan_out(self.weight)
            bound = 1 / math.sqrt(fan_in) if fan_in > 0 else 0.0
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        own = self._parameters                  # asked directly: an attribute found by __getattr__ costs eight times as much
        try:
            weight, bias = own["weight"], own["bias"]
        except KeyError:                        # a parametrized weight is an attribute, no parameter
            weight, bias = self.weight, self.bias
        return functional.linear(input, weight, bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Bilinear(Module):
    """x1 weight x2 + bias for inputs (..., in1_features) and (..., in2_features); results (..., out_features).

    weight (out_features, in1_features, in2_features) and bias (out_features) start uniform in +-1/sqrt(in1_features).
    """

    def __init__(self, in1_features: int, in2_features: int, out_features: int, bias: bool = True, device: Any = None,
                 dtype: Dtype | None = None):
        super().__init__()
        self.in1_features, self.in2_features, self.out_features = in1_features, in2_features, out_features
        self.weight = Parameter(empty(out_features, in1_features, in2_features, device=device, dtype=dtype))
        if bias:
            self.bias = Parameter(empty(out_features, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew. ValueError where `in1_features` is not positive."""
        if self.in1_features <= 0:
            raise ValueError(f"in1_features must be > 0, but got (in1_features={self.in1_features})")
        bound = 1 / math.sqrt(self.in1_features)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        return functional.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (f"in1_features={self.in1_features}, in2_features={self.in2_features}, out_features={self.out_features}, "
                f"bias={self.bias is not None}")


class Lazy(Module):
    """A layer whose parameters get their shapes from the first input; then it becomes a `cls_to_become`.

    A subclass has `initialize_parameters(input)`, which materializes its parameters.
    """

    cls_to_become: type[Module]

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._load_hook = self._register_load_state_dict_pre_hook(_take_shapes, with_module=True)
        self._initialize_hook = self.register_forward_pre_hook(_take_input, with_kwargs=True)

    def has_uninitialized_params(self) -> bool:
        """Whether a parameter has no shape yet."""
        return any(is_lazy(p) for p in self._parameters.values())

    def initialize_parameters(self, *args: Any, **kwargs: Any) -> None:
        """Give the parameters their shapes; every subclass defines it."""
        raise NotImplementedError(f"initialize_parameters is not implemented for {type(self).__name__}")

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for name, p in self._parameters.items():
            if p is not None:
                destination[prefix + name] = p if keep_vars or is_lazy(p) else p.detach()


def _take_shapes(module: Lazy, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
    """Before loading: parameters without a shape take that of the checkpoint."""
    for name, p in module._parameters.items():
        value = state_dict.get(prefix + name)
        if is_lazy(p) and isinstance(value, Tensor) and not is_lazy(value):
            p.materialize(value.shape)


def _take_input(module: Lazy, args: tuple, kwargs: dict[str, Any]) -> None:
    """Before the first forward: parameters take their shapes, and the layer becomes an ordinary one."""
    module.initialize_parameters(*args, **kwargs)
    if module.has_uninitialized_params():
        raise RuntimeError(f"module {module._get_name()} has not been fully initialized")
    module._initialize_hook.remove()
    module._load_hook.remove()
    del module.__dict__["_initialize_hook"], module.__dict__["_load_hook"]
    module.__class__ = module.cls_to_become


class LazyLinear(Lazy, Linear):
    """A Linear whose `in_features` is the last size of its first input."""

    cls_to_become = Linear

    def __init__(self, out_features: int, bias: bool = True, device: Any = None, dtype: Dtype | None = None):
        super().__init__(0, 0, False)
        self.weight = UninitializedParameter(device=device, dtype=dtype)
        self.out_features = out_features
        if bias:
            self.bias = UninitializedParameter(device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """Draw weight and bias anew, once they have a shape."""
        if not self.has_uninitialized_params() and self.in_features:
            super().reset_parameters()

    def initialize_parameters(self, input: Tensor) -> None:
        """Take `in_features` from an input (..., in_features)."""
        if self.has_uninitialized_params():
            self.in_features = input.shape[-1]
            self.weight.materialize((self.out_features, self.in_features))
            if self.bias is not None:
                self.bias.materialize((self.out_features,))
            self.reset_parameters()
        elif not self.in_features:              # the shapes came from a checkpoint
            self.in_features = self.weight.shape[-1]


__all__ = ["Bilinear", "Identity", "LazyLinear", "Linear"]
