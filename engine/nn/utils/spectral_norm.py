"""Spectral normalization, weight / its largest singular value, by a hook before forward; `parametrizations` has the newer form.

The value is followed by power iteration: buffers `name_u` and `name_v` hold the singular vectors, one step each forward in
training mode. Source: Miyato et al., Spectral normalization for generative adversarial networks (2018).
"""
from __future__ import annotations

from typing import Any

from ...autograd.modes import no_grad
from ...functions.factories import empty
from ...functions.matmul import dot, mv
from ...tensor import Tensor
from ..module import Module
from ..parameter import Parameter, is_lazy
from .weight_norm import norm_except_dim


def unit(x: Tensor, eps: float) -> Tensor:
    """A vector divided by its norm, which counts as at least `eps`."""
    return x / norm_except_dim(x, 2, -1).clamp(min=eps)


def as_matrix(weight: Tensor, dim: int) -> Tensor:
    """A weight as a matrix whose rows belong to the indices of `dim`."""
    if dim:
        weight = weight.permute(dim, *(d for d in range(weight.ndim) if d != dim))
    return weight.reshape(weight.shape[0], -1)


def start_vectors(matrix: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Random unit vectors u, v for the rows and the columns of a matrix."""
    return tuple(unit(empty(n, dtype=matrix.dtype, device=matrix.device).normal_(), eps) for n in matrix.shape)


def default_dim(module: Module) -> int:
    """The dimension of outputs in a module's weight: 1 for transposed convolutions, else 0."""
    return int(any(cls.__name__ in ("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d") for cls in type(module).__mro__))


class SpectralNorm:
    """The hook: computes the weight anew before each forward."""

    _version: int = 1

    def __init__(self, name: str = "weight", n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12):
        if n_power_iterations <= 0:
            raise ValueError(f"Expected n_power_iterations to be positive, but got n_power_iterations={n_power_iterations}")
        self.name, self.n_power_iterations, self.dim, self.eps = name, n_power_iterations, dim, eps

    def compute_weight(self, module: Module, do_power_iteration: bool) -> Tensor:
        """The weight of the module's present vectors, after steps of power iteration if asked for."""
        weight = getattr(module, self.name + "_orig")
        u, v = getattr(module, self.name + "_u"), getattr(module, self.name + "_v")
        matrix = as_matrix(weight, self.dim)
        if do_power_iteration:
            with no_grad():
                for _ in range(self.n_power_iterations):
                    v.copy_(unit(mv(matrix.t(), u), self.eps))
                    u.copy_(unit(mv(matrix, v), self.eps))
            u, v = u.clone(), v.clone()         # the buffers change again before backward
        return weight / dot(u, mv(matrix, v))

    @staticmethod
    def apply(module: Module, name: str, n_power_iterations: int, dim: int, eps: float) -> SpectralNorm:
        """Normalize a parameter; RuntimeError where that happened already, ValueError where there is none yet."""
        if any(isinstance(hook, SpectralNorm) and hook.name == name for hook in module._forward_pre_hooks.values()):
            raise RuntimeError(f"Cannot register two spectral_norm hooks on the same parameter {name}")
        made, weight = SpectralNorm(name, n_power_iterations, dim, eps), module._parameters[name]
        if weight is None:
            raise ValueError(f"`SpectralNorm` cannot be applied as parameter `{name}` is None")
        if is_lazy(weight):
            raise ValueError("The module passed to `SpectralNorm` can't have uninitialized parameters. Make sure to run the dummy "
                             "forward before applying spectral normalization")
        with no_grad():
            u, v = start_vectors(as_matrix(weight, dim), eps)
        delattr(module, name)
        module.register_parameter(name + "_orig", weight)
        setattr(module, name, weight.data)      # something to look at before the first forward
        module.register_buffer(name + "_u", u)
        module.register_buffer(name + "_v", v)
        module.register_forward_pre_hook(made)
        return made

    def remove(self, module: Module) -> None:
        """Make the weight a parameter again."""
        with no_grad():
            weight = self.compute_weight(module, do_power_iteration=False)
        for suffix in ("", "_u", "_v", "_orig"):
            delattr(module, self.name + suffix)
        module.register_parameter(self.name, Parameter(weight.detach()))

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module, do_power_iteration=module.training))


def spectral_norm(module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12,
                  dim: int | None = None) -> Module:
    """Let `name_orig` be the parameter, and `name` computed from it with a largest singular value of one."""
    SpectralNorm.apply(module, name, n_power_iterations, default_dim(module) if dim is None else dim, eps)
    return module


def remove_spectral_norm(module: Module, name: str = "weight") -> Module:
    """Make a spectrally normalized parameter an ordinary one. ValueError where it is not normalized."""
    for k, hook in module._forward_pre_hooks.items():
        if isinstance(hook, SpectralNorm) and hook.name == name:
            hook.remove(module)
            del module._forward_pre_hooks[k]
            return module
    raise ValueError(f"spectral_norm of '{name}' not found in {module}")


__all__ = ["SpectralNorm", "remove_spectral_norm", "spectral_norm"]
