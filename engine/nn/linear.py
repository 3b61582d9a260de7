"""Layers that are affine maps: Linear."""
from __future__ import annotations

import math
import warnings

from ..autograd.modes import no_grad
from ..functions.factories import empty
from ..tensor import Tensor
from . import functional
from .module import Module
from .parameter import Parameter


class Linear(Module):
    """x @ weight.T + bias for inputs (..., in_features); results (..., out_features).

    weight (out_features, in_features) and bias (out_features) start uniform in +-1/sqrt(in_features), which for the weight is
    kaiming_uniform with a = sqrt(5). Source: He et al., Delving deep into rectifiers (2015), with PyTorch's constants.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, device=None, dtype=None):
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
        if not self.weight.numel():
            warnings.warn("Initializing zero-element tensors is a no-op", UserWarning, stacklevel=3)
        bound = 1 / math.sqrt(self.in_features) if self.in_features > 0 else 0.0
        with no_grad():
            for p in self.parameters(recurse=False):
                if p.numel():
                    p.uniform_(-bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        return functional.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


__all__ = ["Linear"]
