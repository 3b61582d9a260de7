"""Stochastic gradient descent, with momentum and Nesterov's variant.

    v <- momentum * v + (1 - dampening) * g         (the first time v <- g)
    p <- p - lr * v                                 (Nesterov: p - lr * (g + momentum * v))

where g includes weight_decay * p, and has its sign changed to maximise. Source: Sutskever et al., On the importance of
initialization and momentum in deep learning (2013), in PyTorch's form, which applies lr to the velocity.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable

from ..autograd.modes import enable_grad, set_grad_enabled
from ..tensor import Tensor
from .optimizer import Optimizer


class SGD(Optimizer):
    """Gradient descent with optional momentum. ValueError for options out of range.

    `foreach` and `fused` choose between kernels in PyTorch; here they are accepted and change nothing.
    """

    def __init__(self, params: Iterable, lr: float | Tensor = 1e-3, momentum: float = 0, dampening: float = 0,
                 weight_decay: float = 0, nesterov: bool = False, *, maximize: bool = False, foreach: bool | None = None,
                 differentiable: bool = False, fused: bool | None = None):
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        if not float(lr) >= 0.0:
            raise ValueError(f"Invalid learning rate: {lr}")
        if not momentum >= 0.0:
            raise ValueError(f"Invalid momentum value: {momentum}")
        if not weight_decay >= 0.0:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov,
            "maximize": maximize, "foreach": foreach, "differentiable": differentiable, "fused": fused})

    def step(self, closure: Callable | None = None):
        """One update of every parameter that has a gradient; returns what `closure` returned."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        with set_grad_enabled(self.defaults["differentiable"]):
            for group in self.param_groups:
                for p in group["params"]:
                    if p._grad is not None:
                        self._update(p, p._grad, group)
        return loss

    def _update(self, p: Tensor, g: Tensor, group: dict) -> None:
        momentum, lr = group["momentum"], group["lr"]
        if group["maximize"]:
            g = -g
        if group["weight_decay"]:
            g = g + p * group["weight_decay"]
        if momentum:
            state = self.state[p]
            v = state.get("momentum_buffer")
            if v is None:
                v = state["momentum_buffer"] = g.detach().clone()
            else:
                v.mul_(momentum).add_(g * (1 - group["dampening"]) if group["dampening"] else g)
            g = g + v * momentum if group["nesterov"] else v
        p.sub_(g * lr)
