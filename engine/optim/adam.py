"""Adam and its kin: AdamW, Adamax, NAdam, RAdam. Steps along a running mean of gradients, scaled by one of their squares.

The rules are those of the same names in `kernels.updates`; here are their options and numbers (corrections of the bias that
means have which begin with zero). The step itself is in `updating`. `foreach` and `fused` are accepted and change nothing: a
step is one fused kernel anyway.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kernels import updates
from kernels.updates import Update

from ..tensor import Tensor, host
from .optimizer import scalar_state
from .updating import Updating, advance, check_fused, check_lr, not_negative


def _check_betas(betas) -> None:
    for k in (0, 1):
        if not 0.0 <= betas[k] < 1.0:
            raise ValueError(f"Invalid beta parameter at index {k}: {betas[k]}")


def _decays(group: dict[str, Any], lr: Any) -> tuple:
    """Weight decay as part of the gradient, and as a factor of the parameter."""
    decay = group["weight_decay"]
    return (0.0, 1 - lr * decay) if group["decoupled_weight_decay"] else (decay, 1.0)


class Adam(Updating):
    """p <- p - lr * m' / (sqrt(v') + eps): running means m of g and v of g^2, corrected for their start at zero.

    `amsgrad` takes the largest v so far; `decoupled_weight_decay` shrinks p by lr * weight_decay instead of adding to g.
    ValueError for options out of range. State: "step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq".
    Source: Kingma and Ba, Adam: a method for stochastic optimization (2015).
    """

    def __init__(self, params: Iterable, lr: float | Tensor = 1e-3, betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0, amsgrad: bool = False, *, foreach: bool | None = None,
                 maximize: bool = False, capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
                 decoupled_weight_decay: bool = False) -> None:
        if isinstance(lr, Tensor) and foreach and not capturable:
            raise ValueError("lr as a Tensor is not supported for capturable=False and foreach=True")
        check_lr(lr)
        not_negative(epsilon=eps)
        _check_betas(betas)
        not_negative(weight_decay=weight_decay)
        if isinstance(betas[0], Tensor) is not isinstance(betas[1], Tensor):
            raise ValueError("betas must be either both floats or both Tensors")
        if isinstance(betas[0], Tensor) and foreach and not capturable:
            raise ValueError("betas[0] as a Tensor is not supported for capturable=False and foreach=True")
        check_fused(fused, foreach, differentiable)
        super().__init__(params, {
            "lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
            "maximize": maximize, "foreach": foreach, "capturable": capturable, "differentiable": differentiable,
            "fused": fused, "decoupled_weight_decay": decoupled_weight_decay})

    def _rule(self, group: dict[str, Any]) -> Update:
        return updates.adam_amsgrad if group["amsgrad"] else updates.adam

    def _numbers(self, group: dict[str, Any], lr: Any, t: float, state: dict[str, Any]) -> tuple:
        b1, b2 = group["betas"]
        if b1.__class__ is not float and not group["differentiable"]:
            b1, b2 = float(b1), float(b2)
        decay, shrink = _decays(group, lr)
        return (-1.0 if group["maximize"] else 1.0, decay, shrink, lr / (1 - b1 ** t), 1 - b1, b2, 1 - b2,
                (1 - b2 ** t) ** 0.5, group["eps"])


class AdamW(Adam):
    """Adam with decoupled weight decay: p shrinks by lr * weight_decay each step, apart from the gradient's scaling.

    Source: Loshchilov and Hutter, Decoupled weight decay regularization (2019).
    """

    def __init__(self, params: Iterable, lr: float | Tensor = 1e-3, betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 1e-2, amsgrad: bool = False, *, maximize: bool = False,
                 foreach: bool | None = None, capturable: bool = False, differentiable: bool = False,
                 fused: bool | None = None) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, foreach=foreach, maximize=maximize,
                         capturable=capturable, differentiable=differentiable, fused=fused, decoupled_weight_decay=True)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True


class Adamax(Updating):
    """p <- p - lr / (1 - beta1^t) * m / u: m the running mean of g, u the largest |g|, which fades by beta2 each step.

    ValueError for options out of range. State: "step", "exp_avg", "exp_inf". Source: as Adam, algorithm 2.
    """

    def __init__(self, params: Iterable, lr: float | Tensor = 2e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0, foreach: bool | None = None, *, maximize: bool = False,
                 differentiable: bool = False, capturable: bool = False) -> None:
        check_lr(lr)
        not_negative(epsilon=eps)
        _check_betas(betas)
        not_negative(weight_decay=weight_decay)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable, "capturable": capturable})

    def _rule(self, group: dict[str, Any]) -> Update:
        return updates.adamax

    def _numbers(self, group: dict[str, Any], lr: Any, t: float, state: dict[str, Any]) -> tuple:
        b1, b2 = group["betas"]
        return (-1.0 if group["maximize"] else 1.0, group["weight_decay"], lr / (1 - b1 ** t), 1 - b1, b2, group["eps"])


class NAdam(Updating):
    """Adam with Nesterov momentum whose strength grows: mu_t = beta1 * (1 - 0.96^(t * momentum_decay) / 2).

    ValueError for options out of range. State: "step", "mu_product" (of all mu so far), "exp_avg", "exp_avg_sq".
    Source: Dozat, Incorporating Nesterov momentum into Adam (2016).
    """

    _own_numbers = True

    def __init__(self, params: Iterable, lr: float | Tensor = 2e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0, momentum_decay: float = 4e-3, decoupled_weight_decay: bool = False,
                 *, foreach: bool | None = None, maximize: bool = False, capturable: bool = False,
                 differentiable: bool = False) -> None:
        check_lr(lr)
        not_negative(epsilon=eps)
        _check_betas(betas)
        not_negative(weight_decay=weight_decay, momentum_decay=momentum_decay)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay, "maximize": maximize, "foreach": foreach,
            "capturable": capturable, "differentiable": differentiable})

    def _rule(self, group: dict[str, Any]) -> Update:
        return updates.nadam

    def _scalars(self, p: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        return {"step": scalar_state(0.0, group), "mu_product": scalar_state(1.0, group)}

    def _numbers(self, group: dict[str, Any], lr: Any, t: float, state: dict[str, Any]) -> tuple:
        b1, b2 = group["betas"]
        mu, following = (b1 * (1 - 0.5 * 0.96 ** (k * group["momentum_decay"])) for k in (t, t + 1))
        advance(state, "mu_product", host(state["mu_product"]).item() * mu)
        product = host(state["mu_product"]).item()
        return (-1.0 if group["maximize"] else 1.0, *_decays(group, lr), lr * (1 - mu) / (1 - product),
                lr * following / (1 - product * following), 1 - b1, b2, 1 - b2, 1 - b2 ** t, group["eps"])


class RAdam(Updating):
    """Adam whose scaling is rectified by the variance that it has after t steps, and left out while that has no bound.

    ValueError for options out of range. State: "step", "exp_avg", "exp_avg_sq".
    Source: Liu et al., On the variance of the adaptive learning rate and beyond (2020), algorithm 2. Paper: rho_inf, rho_t, r_t;
    here: most, length, rectified.
    """

    def __init__(self, params: Iterable, lr: float | Tensor = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0, decoupled_weight_decay: bool = False, *,
                 foreach: bool | None = None, maximize: bool = False, capturable: bool = False,
                 differentiable: bool = False) -> None:
        check_lr(lr)
        not_negative(epsilon=eps)
        _check_betas(betas)
        not_negative(weight_decay=weight_decay)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize, "foreach": foreach,
            "capturable": capturable, "decoupled_weight_decay": decoupled_weight_decay, "differentiable": differentiable})

    def _rule(self, group: dict[str, Any]) -> Update:
        return updates.radam

    def _numbers(self, group: dict[str, Any], lr: Any, t: float, state: dict[str, Any]) -> tuple:
        b1, b2 = group["betas"]
        left = 1 - b2 ** t
        most = 2 / (1 - b2) - 1
        length = most - 2 * t * b2 ** t / left
        scale = 0.0
        if length > 5:
            rectified = ((length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length)) ** 0.5
            scale = rectified * left ** 0.5
        return (-1.0 if group["maximize"] else 1.0, *_decays(group, lr), lr / (1 - b1 ** t), scale, 1 - b1, b2, 1 - b2,
                group["eps"])
