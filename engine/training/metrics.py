"""Metrics: numbers that judge predictions, averaged over all samples of an epoch whatever the sizes of the batches.

A metric is any function of (prediction, target): its result, or the mean of its result, counts as often as the batch has samples.
What is no mean over samples (a root, a ratio) is a `Metric` of its own. `collect` makes the list that `loop.py` walks.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..tensor import Tensor
from .batches import samples


def accuracy(prediction: Tensor, target: Tensor) -> Tensor:
    """The share of samples whose largest score, along dimension 1, is at the target's class.

    prediction (n, classes, ...), scores or probabilities; target (n, ...) class numbers, or as many scores as the prediction.
    """
    if prediction.ndim < 2 or target.ndim not in (prediction.ndim, prediction.ndim - 1):
        raise ValueError(f"accuracy: prediction {tuple(prediction.shape)} must be (n, classes, ...) with target (n, ...), but "
                         f"target is {tuple(target.shape)}; for one score a sample take binary_accuracy")
    if target.ndim == prediction.ndim:
        if target.shape != prediction.shape or prediction.shape[1] < 2:
            raise ValueError(f"accuracy: prediction {tuple(prediction.shape)} and target {tuple(target.shape)} have no classes to "
                             "compare; targets are class numbers (n, ...), or as many scores as the prediction has")
        target = target.argmax(1)
    return (prediction.argmax(1) == target).float().mean()


def binary_accuracy(prediction: Tensor, target: Tensor, threshold: float = 0.5) -> Tensor:
    """The share of values on the target's side of the threshold: 0.5 for probabilities, 0 for logits. Shapes are equal."""
    _same_shape("binary_accuracy", prediction, target)
    return ((prediction > threshold) == (target > 0.5)).float().mean()


def mean_absolute_error(prediction: Tensor, target: Tensor) -> Tensor:
    """The mean of |prediction - target|. Shapes are equal."""
    _same_shape("mean_absolute_error", prediction, target)
    return (prediction - target).abs().mean()


def mean_squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """The mean of (prediction - target)^2. Shapes are equal."""
    _same_shape("mean_squared_error", prediction, target)
    return (prediction - target).square().mean()


def _same_shape(name: str, prediction: Tensor, target: Tensor) -> None:
    if prediction.shape != target.shape:
        raise ValueError(f"{name}: prediction {tuple(prediction.shape)} and target {tuple(target.shape)} must have equal shapes; "
                         "they would broadcast against each other")


class Metric:
    """Base of metrics that are no means over samples: `update` takes a batch in, `compute` gives the number, `reset` forgets."""

    name: str = ""

    def reset(self) -> None:
        """Begin an epoch."""
        raise NotImplementedError

    def update(self, prediction: Any, target: Any) -> None:
        """Take a batch in."""
        raise NotImplementedError

    def compute(self) -> float:
        """The number over all batches since `reset`."""
        raise NotImplementedError


class Average:
    """The mean of means, each of so many samples."""

    def __init__(self) -> None:
        self._total, self._count = 0.0, 0

    def add(self, value: float, count: int) -> None:
        """Take in the mean of `count` samples."""
        self._total += value * count
        self._count += count

    def value(self) -> float:
        """The mean over all samples so far."""
        return self._total / self._count


class Mean(Metric):
    """The mean over samples of what a function of a batch gives: the mean over the batch, or one number a sample."""

    def __init__(self, name: str, function: Callable[[Any, Any], Any]) -> None:
        self.name, self._function, self._average = name, function, Average()

    def reset(self) -> None:
        self._average = Average()

    def update(self, prediction: Any, target: Any) -> None:
        value = self._function(prediction, target)
        if isinstance(value, Tensor):
            value = (value if value.is_floating_point() else value.float()).mean().item()
        self._average.add(float(value), samples(target))

    def compute(self) -> float:
        return self._average.value()


class RootMeanSquaredError(Metric):
    """The root of the mean over all values of (prediction - target)^2."""

    name = "root_mean_squared_error"

    def __init__(self) -> None:
        self._mean = Mean(self.name, mean_squared_error)

    def reset(self) -> None:
        self._mean.reset()

    def update(self, prediction: Tensor, target: Tensor) -> None:
        self._mean.update(prediction, target)

    def compute(self) -> float:
        return self._mean.compute() ** 0.5


_NAMED: dict[str, Callable] = {
    "accuracy": accuracy, "binary_accuracy": binary_accuracy, "mae": mean_absolute_error,
    "mean_absolute_error": mean_absolute_error, "mse": mean_squared_error, "mean_squared_error": mean_squared_error,
    "rmse": RootMeanSquaredError, "root_mean_squared_error": RootMeanSquaredError,
}
_TAKEN = ("loss", "lr")


def collect(metrics: Any) -> list[Metric]:
    """Metrics from names, functions, `Metric` objects and classes, in a list or {name: metric}.

    Errors: ValueError for unknown names and for two metrics of one name, TypeError for what cannot be called.
    """
    if isinstance(metrics, str) or callable(metrics) or isinstance(metrics, Metric):
        metrics = [metrics]
    named: Iterable = metrics.items() if isinstance(metrics, Mapping) else ((None, metric) for metric in metrics or ())
    found = [_metric(name, metric) for name, metric in named]
    names = [metric.name for metric in found]
    for name in names:
        if names.count(name) > 1 or name in _TAKEN or name.startswith("valid_"):
            raise ValueError(f"metrics: the name {name!r} is taken; give names of your own: metrics={{'my_name': function}}")
    return found


def _metric(name: str | None, metric: Any) -> Metric:
    if isinstance(metric, str):
        if metric not in _NAMED:
            raise ValueError(f"metrics: {metric!r} is none of {', '.join(_NAMED)}; give a function of (prediction, target)")
        name, metric = name or metric, _NAMED[metric]
    if isinstance(metric, type):
        metric = metric()
    if isinstance(metric, Metric):
        metric.name = name or metric.name or type(metric).__name__
        return metric
    if not callable(metric):
        raise TypeError(f"metrics: a {type(metric).__name__} is no metric; give a name, a function of (prediction, target) or a "
                        "Metric")
    return Mean(name or getattr(metric, "__name__", type(metric).__name__), metric)
