"""SGD and ASGD: steps along the gradient, with momentum, or averaged.

The rules are `sgd`, `sgd_momentum` and `asgd` of `kernels.updates`; here are their options and numbers. The step itself is in
`updating`.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kernels import updates
from kernels.updates import Update

from ..tensor import Tensor, host
from .optimizer import scalar_state
from .updating import Updating, advance, check_fused, check_lr, not_negative


class SGD(Updating):
    """Gradient descent with optional momentum. ValueError for options out of range.

        v <- momentum * v + (1 - dampening) * g         (the first time v <- g)
        p <- p - lr * v                                 (Nesterov: p - lr * (g + momentum * v))

    where g includes weight_decay * p, and has its sign changed to maximise. State: "momentum_buffer", where there is momentum.
    `foreach` and `fused` choose between kernels in PyTorch; here they are accepted and change nothing.
    """

    _counted = False

    def __init__(self, params: Iterable, lr: float | Tensor = 1e-3, momentum: float = 0, dampening: float = 0,
                 weight_decay: float | Tensor = 0, nesterov: bool = False, *, maximize: bool = False,
                 foreach: bool | None = None, differentiable: bool = False, fused: bool | None = None) -> None:
        check_lr(lr)
        not_negative(momentum=momentum, weight_decay=weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        check_fused(fused, foreach, differentiable)
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov,
            "maximize": maximize, "foreach": foreach, "differentiable": differentiable, "fused": fused})

    def _rule(self, group: dict[str, Any]) -> Update:
        return updates.sgd_momentum if group["momentum"] else updates.sgd

    def _numbers(self, group: dict[str, Any], lr: Any, t: float, state: dict[str, Any]) -> tuple:
        sign, momentum = -1.0 if group["maximize"] else 1.0, group["momentum"]
        if not momentum:
            return sign, group["weight_decay"], lr
        keep, take = (momentum, 1.0 - group["dampening"]) if t else (0.0, 1.0)
        return sign, group["weight_decay"], keep, take, momentum if group["nesterov"] else 0.0, lr


class ASGD(Updating):
    """Gradient descent whose points are averaged from step `t0` on; "ax" of a parameter's state is the average.

        p <- p * (1 - lambd * eta) - eta * g,    ax <- ax + mu * (p - ax)
        eta <- lr / (1 + lambd * lr * t)^alpha,  mu <- 1 / max(1, t - t0)

    Source: Polyak and Juditsky, Acceleration of stochastic approximation by averaging (1992).
    """

    _own_numbers = True

    def __init__(self, params: Iterable, lr: float | Tensor = 1e-2, lambd: float = 1e-4, alpha: float = 0.75, t0: float = 1e6,
                 weight_decay: float = 0, foreach: bool | None = None, maximize: bool = False, differentiable: bool = False,
                 capturable: bool = False) -> None:
        check_lr(lr)
        not_negative(weight_decay=weight_decay)
        super().__init__(params, {
            "lr": lr, "lambd": lambd, "alpha": alpha, "t0": t0, "weight_decay": weight_decay, "foreach": foreach,
            "maximize": maximize, "differentiable": differentiable, "capturable": capturable})

    def _rule(self, group: dict[str, Any]) -> Update:
        return updates.asgd

    def _scalars(self, p: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        return {"step": scalar_state(0.0, group), "eta": scalar_state(float(group["lr"]), group),
                "mu": scalar_state(1.0, group)}

    def _numbers(self, group: dict[str, Any], lr: Any, t: float, state: dict[str, Any]) -> tuple:
        eta, mu, lambd = host(state["eta"]).item(), host(state["mu"]).item(), group["lambd"]
        advance(state, "eta", float(lr) / (1 + lambd * float(lr) * t) ** group["alpha"])
        advance(state, "mu", 1 / max(1.0, t - group["t0"]))
        return -1.0 if group["maximize"] else 1.0, group["weight_decay"], 1 - lambd * eta, eta, mu
