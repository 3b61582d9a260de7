"""Callbacks: what happens at fixed moments of `fit`: early stopping, schedules of the learning rate, clipping, NaN.

`Callback` names the moments; each gets the `Training` of `loop.py`. Whatever a callback must know after an interruption is in its
state dict, made of what `engine.save` keeps. Checkpoints are in `checkpoints.py`.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..nn.utils import clip_grad_norm_, clip_grad_value_
from .history import better_is_larger

if TYPE_CHECKING:
    from .loop import Training


class Callback:
    """Base of callbacks: override the moments of interest. `run.stop()` ends the training after the present batch."""

    def on_fit_begin(self, run: Training) -> None:
        """Before the first epoch, and before a checkpoint is read."""

    def on_epoch_begin(self, run: Training) -> None:
        """The model is in training mode; `run.epoch` counts from 1."""

    def on_loss(self, run: Training) -> None:
        """`run.batch_loss` is known, backward has not run. After `run.stop()` this batch changes nothing."""

    def on_backward(self, run: Training) -> None:
        """Gradients are complete, the optimizer has not stepped."""

    def on_batch_end(self, run: Training) -> None:
        """The optimizer has stepped; `run.batch` counts from 1 in each epoch."""

    def on_epoch_end(self, run: Training) -> None:
        """`run.logs` has the numbers of the epoch, validation included, and `run.history` too."""

    def on_fit_end(self, run: Training) -> None:
        """After the last epoch, however training stopped, except by an error or Ctrl-C."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of the callback."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what a checkpoint kept."""


class AtEpochEnd(Callback):
    """A plain function of the training as a callback, called at the end of each epoch."""

    def __init__(self, function: Callable[[Training], Any]) -> None:
        self.function = function

    def on_epoch_end(self, run: Training) -> None:
        self.function(run)


class Best:
    """The best value so far of one number of the epochs: what early stopping and checkpoints watch.

    `monitor` None means "valid_loss", or "loss" without validation; `mode` "auto" takes names with "accuracy" to be better when
    larger. An improvement by `min_delta` or less does not count, nor does NaN.
    """

    def __init__(self, monitor: str | None, mode: str, min_delta: float = 0.0) -> None:
        if min_delta < 0:
            raise ValueError(f"min_delta must not be negative, but it is {min_delta}")
        better_is_larger("", mode)
        self.monitor, self.mode, self.min_delta = monitor, mode, min_delta
        self.value: float | None = None
        self.epoch = 0

    def improved(self, logs: Mapping[str, float], epoch: int, owner: str) -> bool:
        """Whether this epoch is the best. ValueError where the epoch has no such number."""
        name = self.monitor or ("valid_loss" if "valid_loss" in logs else "loss")
        value = chosen(logs, name, owner)
        sign = 1 if better_is_larger(name, self.mode) else -1
        if math.isnan(value) or (self.value is not None and not sign * (value - self.value) > self.min_delta):
            return False
        self.value, self.epoch = value, epoch
        return True


def chosen(logs: Mapping[str, float], name: str, owner: str) -> float:
    """A number of the epoch. ValueError where there is none of the name."""
    if name not in logs:
        raise ValueError(f"{owner}: there is no {name!r} to watch; an epoch has {', '.join(logs)}"
                         f"{'' if not name.startswith('valid_') else ' (is valid= missing?)'}")
    return logs[name]


class EarlyStopping(Callback):
    """Stop when `monitor` has not improved by more than `min_delta` for `patience` epochs in a row.

    `monitor` defaults to the validation loss, or the training loss without validation; `mode` is "min", "max", or "auto", which
    is "max" for names with "accuracy" in them. With `restore_best` the model ends with the weights of the best epoch.
    `stopped_epoch` says where it stopped (None: it did not), `best_epoch` and `best_value` what was best.
    """

    def __init__(self, monitor: str | None = None, patience: int = 3, min_delta: float = 0.0, mode: str = "auto",
                 restore_best: bool = True) -> None:
        if patience < 1:
            raise ValueError(f"EarlyStopping: patience must be at least 1 epoch, but it is {patience}")
        self.patience, self.restore_best = patience, restore_best
        self._best = Best(monitor, mode, min_delta)
        self._weights: dict[str, Any] | None = None
        self._stopped: int | None = None

    @property
    def stopped_epoch(self) -> int | None:
        """The epoch after which it stopped the training; None if it did not."""
        return self._stopped

    @property
    def best_epoch(self) -> int:
        """The best epoch, counted from 1; 0 before the first."""
        return self._best.epoch

    @property
    def best_value(self) -> float | None:
        """The best value of what it watches."""
        return self._best.value

    def on_fit_begin(self, run: Training) -> None:
        self._best.value, self._best.epoch, self._weights, self._stopped = None, 0, None, None

    def on_epoch_end(self, run: Training) -> None:
        if self._best.improved(run.logs, run.epoch, "EarlyStopping"):
            if self.restore_best:
                self._weights = {name: _copy(value) for name, value in run.model.state_dict().items()}
        elif run.epoch - self._best.epoch >= self.patience:
            self._stopped = run.epoch
            run.stop(f"no better value since epoch {self._best.epoch}")

    def on_fit_end(self, run: Training) -> None:
        if self._weights is not None:
            run.model.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        return {"value": self._best.value, "epoch": self._best.epoch, "weights": self._weights, "stopped": self._stopped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._best.value, self._best.epoch = state["value"], state["epoch"]
        self._weights, self._stopped = state["weights"], state["stopped"]


def _copy(value: Any) -> Any:
    return value.detach().clone() if hasattr(value, "detach") else value


class Schedule(Callback):
    """Step a scheduler of `engine.optim.lr_scheduler` after each epoch, or after each batch.

    `monitor` is the number of the epoch that a ReduceLROnPlateau looks at, by default the validation loss, or the training loss.
    """

    def __init__(self, scheduler: Any, each: str = "epoch", monitor: str | None = None) -> None:
        from ..optim.lr_scheduler import ReduceLROnPlateau
        if each not in ("epoch", "batch"):
            raise ValueError(f"Schedule: each must be 'epoch' or 'batch', but it is {each!r}")
        self.scheduler, self.each, self.monitor = scheduler, each, monitor
        self._watches = isinstance(scheduler, ReduceLROnPlateau)
        if self._watches and each == "batch":
            raise ValueError("Schedule: ReduceLROnPlateau looks at the numbers of epochs; take each='epoch'")
        if monitor is not None and not self._watches:
            raise ValueError(f"Schedule: {type(scheduler).__name__} watches nothing, so it takes no monitor")

    def on_batch_end(self, run: Training) -> None:
        if self.each == "batch":
            self.scheduler.step()

    def on_epoch_end(self, run: Training) -> None:
        if self._watches:
            name = self.monitor or ("valid_loss" if "valid_loss" in run.logs else "loss")
            self.scheduler.step(chosen(run.logs, name, "Schedule"))
        elif self.each == "epoch":
            self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        return self.scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scheduler.load_state_dict(state)


class ClipGradients(Callback):
    """Before each step, scale all gradients together to a norm of at most `max_norm`, or cut each value to +-`max_value`."""

    def __init__(self, max_norm: float | None = None, max_value: float | None = None, norm_type: float = 2.0) -> None:
        if (max_norm is None) == (max_value is None):
            raise ValueError("ClipGradients: give max_norm or max_value")
        self.max_norm, self.max_value, self.norm_type = max_norm, max_value, norm_type

    def on_backward(self, run: Training) -> None:
        parameters = [p for group in run.optimizer.param_groups for p in group["params"]]
        if self.max_norm is not None:
            clip_grad_norm_(parameters, self.max_norm, self.norm_type)
        else:
            clip_grad_value_(parameters, self.max_value)


class StopOnNaN(Callback):
    """Stop as soon as the loss of a batch is NaN or infinite, before it reaches the weights.

    The epoch in which it happens is left out of the history. With `error=True`, raise FloatingPointError instead.
    """

    def __init__(self, error: bool = False) -> None:
        self.error = error

    def on_loss(self, run: Training) -> None:
        if not math.isfinite(run.batch_loss):
            reason = f"the loss is {run.batch_loss} in batch {run.batch} of epoch {run.epoch}"
            if self.error:
                raise FloatingPointError(f"fit: {reason}")
            run.stop(reason)
