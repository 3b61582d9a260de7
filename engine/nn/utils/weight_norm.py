"""Weight normalization, weight = g * v / |v|, by a hook before forward; and the formulas that `parametrizations` shares.

Source: Salimans and Kingma, Weight normalization (2016). New code uses `nn.utils.parametrizations.weight_norm`.
"""
from __future__ import annotations

import warnings
from typing import Any

from ...functions.moments import norm
from ...tensor import Tensor
from ..module import Module
from ..parameter import Parameter, is_lazy


def norm_except_dim(v: Tensor, pow: float = 2, dim: int = 0) -> Tensor:
    """The norm over all dimensions but one, whose size stays with ones around it; over all where `dim` is -1."""
    if dim == -1:
        return norm(v, pow)
    return norm(v, pow, dim=tuple(d for d in range(v.ndim) if d != dim % v.ndim), keepdim=True)


def combined(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """The weight of direction v and norm g."""
    return v * (g / norm_except_dim(v, 2, dim))


class WeightNorm:
    """The hook: computes the weight anew before each forward."""

    def __init__(self, name: str, dim: int | None):
        self.name, self.dim = name, -1 if dim is None else dim

    def compute_weight(self, module: Module) -> Tensor:
        """The weight of the module's present v and g."""
        return combined(getattr(module, self.name + "_v"), getattr(module, self.name + "_g"), self.dim)

    @staticmethod
    def apply(module: Module, name: str, dim: int | None) -> WeightNorm:
        """Replace a parameter by two; RuntimeError where that happened already."""
        if any(isinstance(hook, WeightNorm) and hook.name == name for hook in module._forward_pre_hooks.values()):
            raise RuntimeError(f"Cannot register two weight_norm hooks on the same parameter {name}")
        made, weight = WeightNorm(name, dim), getattr(module, name)
        if is_lazy(weight):
            raise ValueError("The module passed to `WeightNorm` can't have uninitialized parameters. Make sure to run the dummy "
                             "forward before applying weight normalization")
        del module._parameters[name]
        module.register_parameter(name + "_g", Parameter(norm_except_dim(weight, 2, made.dim).data))
        module.register_parameter(name + "_v", Parameter(weight.data))
        setattr(module, name, made.compute_weight(module))
        module.register_forward_pre_hook(made)
        return made

    def remove(self, module: Module) -> None:
        """Make the weight a parameter again."""
        weight = self.compute_weight(module)
        delattr(module, self.name)
        del module._parameters[self.name + "_g"], module._parameters[self.name + "_v"]
        setattr(module, self.name, Parameter(weight.data))

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module))


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Let `name_g` and `name_v` be the parameters, and `name` computed from them; one norm per index of `dim`, or one for all."""
    warnings.warn("`engine.nn.utils.weight_norm` is deprecated in favor of `engine.nn.utils.parametrizations.weight_norm`.",
                  FutureWarning, stacklevel=2)
    WeightNorm.apply(module, name, dim)
    return module


def remove_weight_norm(module: Module, name: str = "weight") -> Module:
    """Make a weight-normalized parameter an ordinary one. ValueError where it is not weight-normalized."""
    for k, hook in module._forward_pre_hooks.items():
        if isinstance(hook, WeightNorm) and hook.name == name:
            hook.remove(module)
            del module._forward_pre_hooks[k]
            return module
    raise ValueError(f"weight_norm of '{name}' not found in {module}")


__all__ = ["WeightNorm", "remove_weight_norm", "weight_norm"]
