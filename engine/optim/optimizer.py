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

import numpy as np

from ..autograd.modes import no_grad
from ..dtypes import DEFAULT, float32, float64
from ..tape import Removable
from ..tensor import KIND, Tensor, wrap

MOST_NUMBERS = 16       # that an update rule has


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
        self._prepare()
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def _prepare(self) -> None:
        """What no copy and no pickle takes along: hooks, and what kernels keep from step to step (`updating`)."""
        self._before: dict = {}
        self._after: dict = {}
        self._around_dicts: dict[str, dict] = {name: {} for name in ("save", "saved", "load", "loaded")}
        self._slots: dict = {}                      # id of parameter -> Slot
        self._memory = np.zeros(MOST_NUMBERS)       # the numbers of the rule that runs, read by the kernels
        self._loaded: tuple | None = None           # what is there

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_before" not in self.__dict__:
            self._prepare()
        self.__dict__.update(state)
        for group in self.param_groups:             # older state dicts lack newer options
            for name, default in self.defaults.items():
                group.setdefault(name, default)
            for p in group["params"]:
                count = self.state[p].get("step") if p in self.state else None
                if count is not None and not isinstance(count, Tensor) and "n_iter" not in self.state[p]:
                    self.state[p]["step"] = scalar_state(float(count), group)

    def __repr__(self) -> str:
        groups = [f"\nParameter Group {k}\n" + "".join(f"    {key}: {group[key]}\n" for key in sorted(group) if key != "params")
                  for k, group in enumerate(self.param_groups)]
        return f"{type(self).__name__} ({''.join(groups)})"

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

    def step(self, closure: Callable | None = None) -> Any:
        """Update the parameters once. `closure` computes the loss again and returns it."""
        raise NotImplementedError(f"{type(self).__name__} does not define step()")

    def register_step_pre_hook(self, hook: Callable) -> Removable:
        """Call `hook(optimizer, args, kwargs)` before each step; a returned pair replaces the arguments."""
        return Removable(self._before, hook)

    def register_step_post_hook(self, hook: Callable) -> Removable:
        """Call `hook(optimizer, args, kwargs)` after each step."""
        return Removable(self._after, hook)

    # --- state dicts --------------------------------------------------------------------------------------------------

    def register_state_dict_pre_hook(self, hook: Callable, prepend: bool = False) -> Removable:
        """Call `hook(optimizer)` before `state_dict`."""
        return _registered(self._around_dicts["save"], hook, prepend)

    def register_state_dict_post_hook(self, hook: Callable, prepend: bool = False) -> Removable:
        """Call `hook(optimizer, state_dict)` after `state_dict`; what it returns, if not None, is returned instead."""
        return _registered(self._around_dicts["saved"], hook, prepend)

    def register_load_state_dict_pre_hook(self, hook: Callable, prepend: bool = False) -> Removable:
        """Call `hook(optimizer, state_dict)` before loading; what it returns, if not None, is loaded instead."""
        return _registered(self._around_dicts["load"], hook, prepend)

    def register_load_state_dict_post_hook(self, hook: Callable, prepend: bool = False) -> Removable:
        """Call `hook(optimizer)` after loading."""
        return _registered(self._around_dicts["loaded"], hook, prepend)

    def state_dict(self) -> dict[str, Any]:
        """{"state": {index of parameter: its state}, "param_groups": [options, and indices under "params"]}.

        Tensors are shared with the optimizer, not copied.
        """
        for hook in list(self._around_dicts["save"].values()):
            hook(self)
        numbers: dict[int, int] = {}
        for p in itertools.chain.from_iterable(g["params"] for g in self.param_groups):
            numbers.setdefault(id(p), len(numbers))
        groups = [{**{k: v for k, v in g.items() if k != "params"}, "params": [numbers[id(p)] for p in g["params"]]}
                  for g in self.param_groups]
        state = {numbers[id(p)] if isinstance(p, Tensor) else p: value for p, value in self.state.items()}
        result = {"state": state, "param_groups": groups}
        for hook in list(self._around_dicts["saved"].values()):
            answer = hook(self, result)
            result = result if answer is None else answer
        return result

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state dict: options and copies of the state, in the dtype and on the device of each parameter.

        Errors: ValueError where the groups or their lengths differ.
        """
        state_dict = state_dict.copy()
        for hook in list(self._around_dicts["load"].values()):
            answer = hook(self, state_dict)
            state_dict = state_dict if answer is None else answer
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
        kept = [{"param_names": g["param_names"]} if "param_names" in g else {} for g in groups]
        self.__setstate__({"state": state, "param_groups": [
            {**names, **{k: copy.deepcopy(v) for k, v in s.items() if k != "params"}, "params": g["params"]}
            for names, g, s in zip(kept, groups, saved, strict=True)]})
        for hook in list(self._around_dicts["loaded"].values()):
            hook(self)


def _fitted(value: Any, p: Tensor, key: str = "") -> Any:
    """A copy of saved state for a parameter; counters and products keep their dtype."""
    if isinstance(value, Tensor):
        if key in ("step", "mu_product", "eta", "mu"):
            return value.detach().clone()
        return value.detach().to(device=p.device, dtype=p.dtype if p.is_floating_point() else value.dtype, copy=True)
    if isinstance(value, dict):
        return {k: _fitted(v, p, k if isinstance(k, str) else "") for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_fitted(v, p) for v in value)
    return copy.deepcopy(value)


def _registered(hooks: dict, hook: Callable, prepend: bool) -> Removable:
    handle = Removable(hooks, hook)
    if prepend:
        last = list(hooks)[-1]
        first = {last: hooks.pop(last)}
        others = dict(hooks)
        hooks.clear()
        hooks.update(first)
        hooks.update(others)
    return handle


def scalar_state(value: float, group: dict[str, Any]) -> Tensor:
    """A counter or a product among the states: a tensor without dimensions, as in PyTorch."""
    kind = KIND[float64 if DEFAULT.dtype is float64 and not group.get("fused") else float32]
    return wrap(np.array(value, kind.numpy), kind)


def _with_hooks(step: Callable) -> Callable:
    """A subclass's `step` between its hooks."""
    @functools.wraps(step)
    def hooked(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
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
