"""Optimizers that scale each element by the history of its gradients: Adagrad, RMSprop, Adadelta, Rprop.

The rules are those of the same names in `kernels.updates`; here are their options and numbers. Adam and its kin are in `adam`,
the step itself in `updating`. `foreach` and `fused` are accepted and change nothing: a step is one fused kernel anyway.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kernels import updates
from kernels.updates import Update

from ..functions.factories import full_like
from ..tensor import Tensor
from .updating import Updating, check_fused, check_lr, not_negative


class Adagrad(Updating):
    """p <- p - lr' * g / (sqrt(sum of g^2) + eps) with lr' = lr / (1 + (t - 1) * lr_decay). ValueError for options out of range.

    State: "step", "sum" (which begins with `initial_accumulator_value`).
    """

    def __init__(self, params: Iterable, lr: float | Tensor = 1e-2, lr_decay: float = 0, weight_decay: float = 0,
                 initial_accumulator_value: float = 0, eps: float = 1e-10, foreach: bool | None = None, *,
                 maximize: bool = False, differentiable: bool = False, fused: bool | None = None) -> None:
        check_lr(lr)
        not_negative(lr_decay=lr_decay, weight_decay=weight_decay, initial_accumulator_value=initial_accumulator_value,
                     epsilon=eps)
        check_fused(fused, foreach, differentiable)
        super().__init__(params, {
            "lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable, "fused": fused})
        for group in self.param_groups:         # PyTorch has this state before the first step
            for p in group["params"]:
                self._state_of(p, group, updates.adagrad)

    def share_memory(self) -> None:
        """PyTorch moves the state into memory shared between processes; here threads share it as it is."""

    def _rule(self, group: dict[str, Any]) -> Update:
        return updates.adagrad

    def _start(self, p: Tensor, name: str, group: dict[str, Any]) -> Tensor:
        value = group["initial_accumulator_value"]
        return full_like(p.detach(), complex(value, value) if p.is_complex() else value)

    def _numbers(self, group: dict[str, Any], lr: Any, t: float, state: dict[str, Any]) -> tuple:
        lr = lr / (1 + (t - 1) * group["lr_decay"])
        return -1.0 if group["maximize"] else 1.0, group["weight_decay"], lr, group["eps"]


class RMSprop(Updating):
    """p <- p - lr * g / (sqrt(s) + eps), s the running mean of g^2; `centered` subtracts the square of the mean of g from s.

    With momentum, steps are lr * v where v <- momentum * v + g / (sqrt(s) + eps). ValueError for options out of range.
    State: "step", "square_avg", "momentum_buffer", "grad_avg".
    """

    def __init__(self, params: Iterable, lr: float | Tensor = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
                 weight_decay: float = 0, momentum: float = 0, centered: bool = False, capturable: bool = False,
                 foreach: bool | None = None, maximize: bool = False, differentiable: bool = False) -> None:
        check_lr(lr)
        not_negative(epsilon=eps, momentum=momentum, weight_decay=weight_decay, alpha=alpha)
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered, "weight_decay": weight_decay,
            "capturable": capturable, "foreach": foreach, "maximize": maximize, "differentiable": differentiable})

    def _rule(self, group: dict[str, Any]) -> Update:
        if group["centered"]:
            return updates.rmsprop_centered_momentum if group["momentum"] > 0 else updates.rmsprop_centered
        return updates.rmsprop_momentum if group["momentum"] > 0 else updates.rmsprop

    def _numbers(self, group: dict[str, Any], lr: Any, t: float, state: dict[str, Any]) -> tuple:
        alpha = group["alpha"]
        numbers = (-1.0 if group["maximize"] else 1.0, group["weight_decay"], lr, alpha, 1 - alpha, group["eps"])
        return (*numbers, group["momentum"]) if group["momentum"] > 0 else numbers


class Adadelta(Updating):
    """p <- p - lr * d, d = sqrt(mean of d^2 + eps) / sqrt(mean of g^2 + eps) * g, with running means that keep `rho`.

    ValueError for options out of range. State: "step", "square_avg", "acc_delta".
    """

    def __init__(self, params: Iterable, lr: float | Tensor = 1.0, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0,
                 foreach: bool | None = None, *, capturable: bool = False, maximize: bool = False,
                 differentiable: bool = False) -> None:
        check_lr(lr)
        if not 0.0 <= rho <= 1.0:
            raise ValueError(f"Invalid rho value: {rho}")
        not_negative(epsilon=eps, weight_decay=weight_decay)
        super().__init__(params, {
            "lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize, "capturable": capturable,
            "foreach": foreach, "differentiable": differentiable})

    def _rule(self, group: dict[str, Any]) -> Update:
        return updates.adadelta

    def _numbers(self, group: dict[str, Any], lr: Any, t: float, state: dict[str, Any]) -> tuple:
        rho = group["rho"]
        return -1.0 if group["maximize"] else 1.0, group["weight_decay"], lr, rho, 1 - rho, group["eps"]


class Rprop(Updating):
    """Each element has a step size of its own, which grows by etas[1] while its gradient keeps its sign, within `step_sizes`.

    Where the sign changed the step size shrinks by etas[0], and no step is taken. ValueError for options out of range.
    State: "step", "prev" (gradient), "step_size" (lr at first).
    """

    def __init__(self, params: Iterable, lr: float | Tensor = 1e-2, etas: tuple[float, float] = (0.5, 1.2),
                 step_sizes: tuple[float, float] = (1e-6, 50), *, capturable: bool = False, foreach: bool | None = None,
                 maximize: bool = False, differentiable: bool = False) -> None:
        check_lr(lr)
        if not 0.0 < etas[0] < 1.0 < etas[1]:
            raise ValueError(f"Invalid eta values: {etas[0]}, {etas[1]}")
        super().__init__(params, {
            "lr": lr, "etas": etas, "step_sizes": step_sizes, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable, "capturable": capturable})

    def _rule(self, group: dict[str, Any]) -> Update:
        return updates.rprop

    def _start(self, p: Tensor, name: str, group: dict[str, Any]) -> Tensor:
        if name == "prev":
            return full_like(p.detach(), 0.0)
        lr = float(group["lr"])
        return full_like(p.detach(), complex(lr, lr) if p.is_complex() else lr)

    def _numbers(self, group: dict[str, Any], lr: Any, t: float, state: dict[str, Any]) -> tuple:
        return -1.0 if group["maximize"] else 1.0, *group["etas"], *group["step_sizes"]
