"""`fit`, `evaluate`, `predict`: the loops over epochs and batches. What happens beside them is in `callbacks.py`."""
from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..autograd import enable_grad, no_grad
from ..errors import ShapeError
from ..nn import Module
from ..tensor import Tensor
from . import checkpoints, progress
from .batches import as_batches, detached, inputs, joined, length, pairs, to_device
from .callbacks import AtEpochEnd, Callback
from .history import History
from .metrics import Average, Metric, collect


class Training:
    """A training under way, as callbacks see it.

    model, optimizer, loss, loader, valid, device, callbacks, epochs      what `fit` was given
    epoch, batch            where it is, both counted from 1; batch 0 is before the first
    batch_loss              the loss of the present batch, a float
    logs                    the numbers of the epoch, once it is done
    history                 those of all epochs
    """

    def __init__(self, model: Module, loader: Iterable, loss: Callable, optimizer: Any, epochs: int, valid: Iterable | None,
                 metrics: list[Metric], callbacks: list[Callback], device: Any) -> None:
        self.model, self.loader, self.loss, self.optimizer, self.epochs = model, loader, loss, optimizer, epochs
        self.valid, self.metrics, self.callbacks, self.device = valid, metrics, callbacks, device
        self.epoch = self.batch = 0
        self.batch_loss = 0.0
        self.logs: dict[str, float] = {}
        self.history = History()
        self.stopping = False
        self.reason = ""

    def stop(self, reason: str = "") -> None:
        """End the training after the present batch (from `on_loss`: without it) or epoch."""
        self.stopping, self.reason = True, reason

    def tell(self, moment: str) -> None:
        """Call all callbacks, in order."""
        for callback in self.callbacks:
            getattr(callback, moment)(self)


class _Stopped(Exception):
    """Leaves a batch whose loss made a callback stop the training."""


def fit(model: Module, train_loader: Iterable, loss: Callable[[Any, Any], Tensor], optimizer: Any, epochs: int, *,
        valid: Iterable | None = None, metrics: Any = None, callbacks: Sequence[Callback | Callable[[Training], Any]] = (),
        device: Any = None, resume: bool | str | os.PathLike | None = None, verbose: bool | str = True) -> History:
    """Train a model for so many epochs, and return the history of its numbers.

    train_loader   gives batches (input, target); a pair of tensors is one batch. Any nesting of tensors may be an input: the model
                   is called with it as it is
    loss           a function or module of (prediction, target) that gives a single number
    optimizer      over the model's parameters; LBFGS gets its closure
    valid          batches to judge the model on after each epoch, in evaluation mode: "valid_loss", "valid_accuracy", ...
    metrics        a list of names ("accuracy", "mae", ...), functions of (prediction, target) and Metrics, or {name: metric};
                   all are averaged over samples. Those of training are of the predictions made while training
    callbacks      EarlyStopping, Checkpoint, Schedule, ...; a plain function is called at the end of each epoch
    device         where the model goes before training, and each batch
    resume         a checkpoint's file or folder; True for the newest of the Checkpoint callback, if there is one yet. `epochs`
                   counts those done before
    verbose        True a bar where tqdm is installed and the output a terminal, else lines; "bar", "lines"; False nothing

    The model's modules get back their training or evaluation mode. After Ctrl-C, which passes through, the model has the weights
    of the last complete step. Errors: TypeError and ValueError for arguments and batches that do not fit, ShapeError (RuntimeError
    and ValueError) for a loss that is no single number.
    """
    if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 0:
        raise ValueError(f"fit: epochs must be a whole number, not negative, but it is {epochs!r}")
    loader = as_batches(train_loader, "fit", "train_loader")
    valid = None if valid is None else as_batches(valid, "fit", "valid")
    called = [_callback(callback) for callback in callbacks]
    called.sort(key=lambda callback: isinstance(callback, checkpoints.Checkpoint))     # last: they keep the state of the others
    shown = progress.show(verbose)
    if device is not None:
        model.to(device)
    run = Training(model, loader, loss, optimizer, epochs, valid, collect(metrics), called, device)
    file = checkpoints.find(resume, called)
    with _modes_kept(model), contextlib.closing(shown):
        run.tell("on_fit_begin")
        if file is not None:
            checkpoints.restore(run, file)
            shown.say(f"Going on after epoch {run.epoch}, from {file}")
        while run.epoch < epochs and not run.stopping:
            _epoch(run, shown)
        if run.stopping:
            shown.say(f"Stopped in epoch {run.epoch}" + (f": {run.reason}" if run.reason else ""))
        run.tell("on_fit_end")
    return run.history


def _callback(callback: Any) -> Callback:
    if isinstance(callback, Callback):
        return callback
    if isinstance(callback, type) or not callable(callback):
        raise TypeError(f"fit: callbacks must be Callback objects or functions of the training, but one is {callback!r}")
    return AtEpochEnd(callback)


def _epoch(run: Training, shown: progress.Silent) -> None:
    """One pass over the training batches, and one over those of validation."""
    begin = time.perf_counter()
    run.epoch, run.batch, run.logs = run.epoch + 1, 0, {}
    run.model.train()
    run.tell("on_epoch_begin")
    shown.begin(f"Epoch {run.epoch}/{run.epochs}", length(run.loader))
    mean = Average()
    for metric in run.metrics:
        metric.reset()
    for given, target, count in pairs(run.loader, run.device, "fit", "train_loader"):
        run.batch += 1
        try:
            prediction = _step(run, given, target)
        except _Stopped:
            shown.close()
            return
        mean.add(_per_sample(run.loss, run.batch_loss, count), count)
        _judge(run.metrics, prediction, target)
        run.tell("on_batch_end")
        shown.advance(mean.value())
        if run.stopping:
            break
    logs = {"loss": mean.value()} | {metric.name: float(metric.compute()) for metric in run.metrics}
    if run.valid is not None:
        judged = _evaluate(run.model, run.valid, run.loss, run.metrics, run.device, "fit", "valid")
        logs |= {f"valid_{name}": value for name, value in judged.items()}
    run.logs = logs | {"lr": float(run.optimizer.param_groups[0]["lr"])}
    run.history.append(run.logs, time.perf_counter() - begin)
    run.tell("on_epoch_end")
    shown.end(logs)


def _step(run: Training, given: Any, target: Any) -> Any:
    """Forward, backward, step; returns the prediction of the first forward (LBFGS makes several)."""
    first: list[Any] = []

    def closure() -> Tensor:
        run.optimizer.zero_grad()
        with enable_grad():
            prediction = run.model(given)
            value = run.loss(prediction, target)
            _check_loss(value, "fit")
            if not value.requires_grad:
                raise ValueError("fit: the loss does not depend on any parameter that requires grad; are all of the model's "
                                 "parameters frozen, or does loss detach the prediction?")
            if not first:
                first.append(prediction)
                run.batch_loss = value.item()
                run.tell("on_loss")
                if run.stopping:
                    raise _Stopped
            value.backward()
            run.tell("on_backward")
        return value

    run.optimizer.step(closure)
    return first[0]


def _check_loss(value: Any, caller: str) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{caller}: loss must return a tensor of one number, but it returned a {type(value).__name__}")
    if value.numel() != 1:
        raise ShapeError(f"{caller}: loss must return a single number, but its shape is {tuple(value.shape)}; "
                         "reduce it with .mean(), or make the loss with reduction='mean'")


def _per_sample(loss: Any, value: float, count: int) -> float:
    """The loss of a batch as a mean over its samples: modules with reduction="sum" give the sum."""
    return value / count if getattr(loss, "reduction", None) == "sum" else value


def _judge(metrics: list[Metric], prediction: Any, target: Any) -> None:
    if metrics:
        with no_grad():
            prediction = detached(prediction)
            for metric in metrics:
                metric.update(prediction, target)


def evaluate(model: Module, loader: Iterable, loss: Callable[[Any, Any], Tensor] | None = None, metrics: Any = None, *,
             device: Any = None) -> dict[str, float]:
    """The loss and the metrics of a model on batches (input, target), in evaluation mode: {"loss": ..., "accuracy": ...}.

    Arguments and errors are as in `fit`; the modules get back their modes.
    """
    if loss is None and not metrics:
        raise ValueError("evaluate: give a loss, metrics, or both")
    if device is not None:
        model.to(device)
    with _modes_kept(model):
        return _evaluate(model, as_batches(loader, "evaluate", "loader"), loss, collect(metrics), device, "evaluate", "loader")


def _evaluate(model: Module, loader: Iterable, loss: Callable | None, metrics: list[Metric], device: Any, caller: str,
              name: str) -> dict[str, float]:
    model.eval()
    mean = Average()
    for metric in metrics:
        metric.reset()
    with no_grad():
        for given, target, count in pairs(loader, device, caller, name):
            prediction = model(given)
            if loss is not None:
                value = loss(prediction, target)
                _check_loss(value, caller)
                mean.add(_per_sample(loss, value.item(), count), count)
            for metric in metrics:
                metric.update(prediction, target)
    judged: Mapping[str, float] = {metric.name: float(metric.compute()) for metric in metrics}
    return dict(judged) if loss is None else {"loss": mean.value(), **judged}


def predict(model: Module, loader: Iterable | Tensor, *, device: Any = None) -> Any:
    """What a model answers to inputs, in evaluation mode and without gradients, joined along the first dimension.

    loader   gives batches: a batch that is a list or tuple counts with its first part (targets may be there or not), any other is
             the input itself. A tensor is one batch

    Predictions may be tensors, or tensors in tuples, lists, dicts and dataclasses. ValueError where there are no batches.
    """
    if device is not None:
        model.to(device)
    with _modes_kept(model), no_grad():
        model.eval()
        if isinstance(loader, Tensor):
            return model(to_device(loader, device))
        parts = [model(given) for given in inputs(as_batches(loader, "predict", "loader"), device)]
    if not parts:
        raise ValueError("predict: loader gave no batches")
    return joined(parts)


@contextlib.contextmanager
def _modes_kept(model: Module) -> Iterator[None]:
    """Give every module its training or evaluation mode back afterwards, also after an error."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
