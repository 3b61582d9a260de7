"""The base of all optimizers: parameter groups, state, zero_grad, state dicts, hooks around `step`.

A subclass gives `step(closure=None)` and the defaults of its options. What a step computes is in the files beside this one.
State dicts have PyTorch's keys and layout, so that checkpoints read alike.
"""
from __future__ import annotations

import copy
import functools
import itertools
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from ..autograd.modes import no_grad
from ..tape import Removable
from ..tensor import Tensor


class _Required:
    """Stands for an option without default."""

    def __repr__(self) -> str:
        return "<required parameter>"


required = _Required()


class Optimizer:
    """Holds parameter groups and their state.

    `params`: tensors, (name, tensor) pairs, or dicts with "params" and options of their own; `defaults`: options of groups that
    do not give them. Errors: TypeError for what is no tensor, ValueError for an empty list, a repeated or a non-leaf tensor.
    """

    def __init_subclass__(cls, **options) -> None:
        super().__init_subclass__(**options)
        if "step" in cls.__dict__:
            cls.step = _with_hooks(cls.step)

    def __init__(self, params: Iterable, defaults: dict[str, Any]):
        if isinstance(params, Tensor):
            raise TypeError("params argument given to the optimizer should be an iterable of Tensors or dicts, but got "
                            f"{params.type()}; pass a list: [tensor]")
        self.defaults = defaults
        self.state: defaultdict = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self._before: dict = {}
        self._after: dict = {}
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for k, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {k}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key not in ("params", "param_names")]
        return "\n".join([*lines, ")"])

    # --- groups -------------------------------------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add tensors to optimise, with options of their own; missing options take the defaults."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        group = dict(param_group)
        params = group["params"]
        if isinstance(params, Tensor):
            params = [params]
        elif isinstance(params, (set, frozenset)):
            raise TypeError("optimizer parameters need to be organized in ordered collections, but the ordering of tensors in "
                            "sets will change between runs. Please use a list instead.")
        params = list(params)
        named = [isinstance(p, tuple) for p in params]
        if any(named):
            if not all(named):
                raise ValueError("all optimizer params should be with/without names. Some param names are missing")
            group["param_names"] = [name for name, _ in params]
            params = [p for _, p in params]
        group["params"] = params
        self._check(group)
        for name, default in self.defaults.items():
            if default is required and name not in group:
                raise ValueError(f"parameter group didn't specify a value of required optimization parameter {name}")
            group.setdefault(name, default)
        self.param_groups.append(group)

    def _check(self, group: dict[str, Any]) -> None:
        for p in group["params"]:
            if not isinstance(p, Tensor):
                raise TypeError(f"optimizer can only optimize Tensors, but one of the params is {type(p).__name__}")
            if not self.defaults.get("differentiable") and not (p.is_leaf or p.retains_grad):
                raise ValueError("can't optimize a non-leaf Tensor")
        ids = [id(p) for p in group["params"]]
        if len(set(ids)) != len(ids):
            warnings.warn("optimizer contains a parameter group with duplicate parameters; in future, this will cause an error",
                          UserWarning, stacklevel=4)
        if any(("param_names" in g) != ("param_names" in group) for g in self.param_groups):
            raise ValueError("all optimizer param groups should be with/without names. cannot add param group with names to "
                             "the optimizer")
        known = {id(p) for g in self.param_groups for p in g["params"]}
        if not known.isdisjoint(ids):
            raise ValueError("some parameters appear in more than one parameter group")

    # --- gradients and steps ------------------------------------------------------------------------------------------

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or set them to zero in place."""
        for group in self.param_groups:
            for p in group["params"]:
                g = p._grad
                if g is None:
                    continue
                if set_to_none:
                    p._grad = None
                    continue
                if g.grad_fn is not None:
                    g.detach_()
                else:
                    g.requires_grad_(False)
                with no_grad():
                    g.zero_()

    def step(self, closure: Callable | None = None):
        """Update the parameters once. `closure` computes the loss again and returns it."""
        raise NotImplementedError(f"{type(self).__name__} does not define step()")

    def register_step_pre_hook(self, hook: Callable) -> Removable:
        """Call `hook(optimizer, args, kwargs)` before each step; a returned pair replaces the arguments."""
        return Removable(self._before, hook)

    def register_step_post_hook(self, hook: Callable) -> Removable:
        """Call `hook(optimizer, args, kwargs)` after each step."""
        return Removable(self._after, hook)

    # --- state dicts --------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """{"state": {index of parameter: its state}, "param_groups": [options, and indices under "params"]}.

        Tensors are shared with the optimizer, not copied.
        """
        numbers: dict[int, int] = {}
        for p in itertools.chain.from_iterable(g["params"] for g in self.param_groups):
            numbers.setdefault(id(p), len(numbers))
        groups = [{**{k: v for k, v in g.items() if k != "params"}, "params": [numbers[id(p)] for p in g["params"]]}
                  for g in self.param_groups]
        state = {numbers[id(p)] if isinstance(p, Tensor) else p: value for p, value in self.state.items()}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state dict: options and copies of the state, in the dtype and on the device of each parameter.

        Errors: ValueError where the groups or their lengths differ.
        """
        groups, saved = self.param_groups, state_dict["param_groups"]
        if len(groups) != len(saved):
            raise ValueError("loaded state dict has a different number of parameter groups")
        if any(len(g["params"]) != len(s["params"]) for g, s in zip(groups, saved, strict=True)):
            raise ValueError("loaded state dict contains a parameter group that doesn't match the size of optimizer's group")
        pairs = zip(itertools.chain.from_iterable(s["params"] for s in saved),
                    itertools.chain.from_iterable(g["params"] for g in groups), strict=True)
        parameter = dict(pairs)
        state: defaultdict = defaultdict(dict)
        for key, value in state_dict["state"].items():
            p = parameter.get(key)
            state[key if p is None else p] = copy.deepcopy(value) if p is None else _fitted(value, p)
        self.state = state
        self.param_groups = [{**{k: copy.deepcopy(v) for k, v in s.items() if k != "params"}, "params": g["params"]}
                             for g, s in zip(groups, saved, strict=True)]


def _fitted(value: Any, p: Tensor, key: str = "") -> Any:
    """A copy of saved state for a parameter; a counter named "step" keeps its dtype."""
    if isinstance(value, Tensor):
        if key == "step":
            return value.detach().clone()
        return value.detach().to(device=p.device, dtype=p.dtype if p.is_floating_point() else value.dtype, copy=True)
    if isinstance(value, dict):
        return {k: _fitted(v, p, k if isinstance(k, str) else "") for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_fitted(v, p) for v in value)
    return copy.deepcopy(value)


def _with_hooks(step: Callable) -> Callable:
    """A subclass's `step` between its hooks."""
    @functools.wraps(step)
    def hooked(self: Optimizer, *args, **kwargs):
        for hook in list(self._before.values()):
            answer = hook(self, args, kwargs)
            if answer is not None:
                if not isinstance(answer, tuple) or len(answer) != 2:
                    raise RuntimeError(f"{hook} must return None or a tuple of (new_args, new_kwargs), but got {answer}.")
                args, kwargs = answer
        result = step(self, *args, **kwargs)
        for hook in list(self._after.values()):
            hook(self, args, kwargs)
        return result
    return hooked
