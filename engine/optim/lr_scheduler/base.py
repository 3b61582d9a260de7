"""What all schedules share: base rates, counting of steps, writing rates into the optimizer, state dicts.

A schedule of the usual kind gives `get_lr()`, the next rate from the current one, so that several schedules on one optimizer
multiply; `_get_closed_form_lr()`, where it has one, serves `step(epoch)`. The schedules are in the files beside this one.
"""
from __future__ import annotations

import functools
import types
import warnings
import weakref
from collections.abc import Callable
from typing import Any

from ...tensor import Tensor
from ..optimizer import Optimizer

EPOCH_TEXT = ("The epoch parameter in `scheduler.step()` was not necessary and is being deprecated where possible. Please use "
              "`scheduler.step()` to step the scheduler. During the deprecation, if epoch is different from None, the closed "
              "form is used instead of the new chainable form, where available.")
ORDER_TEXT = ("Detected call of `lr_scheduler.step()` before `optimizer.step()`. In PyTorch 1.1.0 and later, you should call them "
              "in the opposite order: `optimizer.step()` before `lr_scheduler.step()`.  Failure to do this will result in "
              "skipping the first value of the learning rate schedule.")
REPLACED_TEXT = ("Seems like `optimizer.step()` has been overridden after learning rate scheduler initialization. Please, make "
                 "sure to call `optimizer.step()` before `lr_scheduler.step()`.")

Rate = float | Tensor


def check_optimizer(optimizer: Any) -> None:
    """TypeError for what is no optimizer."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")


def options_of(optimizer: Optimizer, key: str) -> list[Any]:
    """An option of every group; tensors are copied, since they will be written into."""
    return [_own(group[key]) for group in optimizer.param_groups]


def per_group(name: str, optimizer: Optimizer, value: Any) -> list[Any]:
    """One value for each group, from a list of them or one for all. ValueError for a list of another length."""
    count = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [_own(value) for _ in range(count)]
    if len(value) != count:
        raise ValueError(f"{name} must have the same length as optimizer.param_groups. {name} has {len(value)} values, "
                         f"param_groups has {count}.")
    return [_own(v) for v in value]


def _own(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def set_option(group: dict[str, Any], key: str, value: Rate) -> None:
    """Give a group an option; a tensor keeps its identity and gets the value."""
    if isinstance(group[key], Tensor):
        group[key].fill_(float(value))
    else:
        group[key] = value


def set_momentum(group: dict[str, Any], value: float, in_betas: bool) -> None:
    """Give a group its momentum, which is the first of the betas in Adam and its kin."""
    if in_betas:
        group["betas"] = (value, *group["betas"][1:])
    else:
        group["momentum"] = value


def momentum_in_betas(optimizer: Optimizer) -> bool:
    """Where the momentum is. ValueError for an optimizer without one."""
    if "momentum" not in optimizer.defaults and "betas" not in optimizer.defaults:
        raise ValueError("optimizer must support momentum or beta1 with `cycle_momentum` option enabled")
    return "betas" in optimizer.defaults


class LRScheduler:
    """Base of the schedules. `last_epoch` is -1 for a new run; a resumed one needs "initial_lr" in every group (KeyError).

    `step()` is called once after each epoch (or batch); `get_last_lr()` tells the rates in use.
    """

    _get_lr_called_within_step = False
    _is_initial = False

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        check_optimizer(optimizer)
        self.optimizer = optimizer
        for k, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", _own(group["lr"]))
            elif "initial_lr" not in group:
                raise KeyError(f"param 'initial_lr' is not specified in param_groups[{k}] when resuming scheduler with "
                               "last_epoch >= 0; load the optimizer's state dict first, or leave last_epoch=-1 for a new run")
        self.base_lrs: list[Rate] = options_of(optimizer, "initial_lr")
        self.last_epoch = last_epoch
        _note_steps(optimizer)
        self._initial_step()

    def _initial_step(self) -> None:
        """Put the first rate in place."""
        self._step_count = 0
        self._is_initial = True
        try:
            self.step()
        finally:
            self._is_initial = False

    def get_last_lr(self) -> list[Rate]:
        """The rates of the groups, as the last step computed them."""
        return self._last_lr

    def get_lr(self) -> list[Rate]:
        """The next rates; called by `step`."""
        raise NotImplementedError(f"{type(self).__name__} does not define get_lr()")

    def _rates(self) -> list[Rate]:
        """The current rates, at the beginning of `get_lr`, which is not for users."""
        if not self._get_lr_called_within_step:
            warnings.warn("To get the last learning rate computed by the scheduler, please use `get_last_lr()`.", UserWarning,
                          stacklevel=3)
        return options_of(self.optimizer, "lr")

    def step(self, epoch: int | None = None) -> None:
        """Go on to the next epoch, or, as older code does, to a given one."""
        if self._step_count == 1:
            if not hasattr(self.optimizer.step, "noted"):
                warnings.warn(REPLACED_TEXT, UserWarning, stacklevel=2)
            elif not self.optimizer._opt_called:
                warnings.warn(ORDER_TEXT, UserWarning, stacklevel=2)
        self._step_count += 1
        if epoch is not None:
            warnings.warn(EPOCH_TEXT, UserWarning, stacklevel=2)
        self._update_lr(epoch)

    def _update_lr(self, epoch: int | None = None) -> None:
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        closed = getattr(self, "_get_closed_form_lr", None)
        self._write(self.get_lr if epoch is None or closed is None else closed)

    def _write(self, compute: Callable[[], list[Rate]]) -> None:
        """Compute the rates and give them to the groups."""
        self._get_lr_called_within_step = True
        try:
            rates = compute()
        finally:
            self._get_lr_called_within_step = False
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            set_option(group, "lr", rate)
        self._last_lr = options_of(self.optimizer, "lr")

    def state_dict(self) -> dict[str, Any]:
        """All attributes but the optimizer."""
        return {key: value for key, value in self.__dict__.items() if key != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.__dict__.update(state_dict)


def _note_steps(optimizer: Optimizer) -> None:
    """Let the optimizer note that `step` was called, for the warning about the order of calls."""
    if hasattr(optimizer.step, "noted"):
        return
    function, reference = optimizer.step.__func__, weakref.ref(optimizer)

    @functools.wraps(function)
    def step(*args, **kwargs):
        found = reference()
        found._opt_called = True
        return function(found, *args, **kwargs)
    step.noted = True
    optimizer._opt_called, optimizer.step = False, step


def function_state(function: Callable | None) -> dict[str, Any] | None:
    """What of a user's callable goes into a state dict: the attributes of an object, nothing of a function."""
    return None if function is None or isinstance(function, types.FunctionType) else function.__dict__.copy()
