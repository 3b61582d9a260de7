"""Grad modes: whether operations of this thread are recorded, and anomaly mode.

Each mode is a context manager and a decorator; `set_grad_enabled` and `set_detect_anomaly` also act when they are called. The
state itself is `engine.tape.modes` (one for each thread) and `engine.anomaly.state` (one for all).
"""
from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Generator
from typing import Any

from .. import anomaly, inference
from ..tape import modes


class _Mode:
    """A context manager that decorates functions, generator functions and classes too; `fresh` makes one for each call."""

    __slots__ = ("before",)

    def fresh(self) -> _Mode:
        return type(self)()

    def __enter__(self) -> None:
        raise NotImplementedError

    def __exit__(self, *raised: object) -> None:
        raise NotImplementedError

    def __call__(self, function: Callable) -> Callable:
        if inspect.isclass(function):
            warnings.warn("Decorating classes is deprecated and will be disabled in future versions. You should only "
                          "decorate functions "
                          "or methods. To preserve the current behavior of class decoration, you can directly decorate the "
                          "`__init__` method and nothing else.", FutureWarning, stacklevel=2)
            function.__init__ = self(function.__init__)
            return function
        if inspect.isgeneratorfunction(function):
            return _in_generator(self.fresh, function)
        fresh = self.fresh

        @functools.wraps(function)
        def inside(*args, **kwargs):
            with fresh():
                return function(*args, **kwargs)
        return inside


def _in_generator(fresh: Callable, function: Callable) -> Callable:
    """A generator function whose body runs in the mode, and whose caller, between values, does not."""
    @functools.wraps(function)
    def inside(*args, **kwargs) -> Generator:
        with fresh():
            generator = function(*args, **kwargs)
        step, given = generator.send, (None,)
        try:
            while True:
                try:
                    with fresh():
                        value = step(*given)
                except StopIteration as end:
                    return end.value
                try:
                    sent = yield value
                except GeneratorExit:
                    raise
                except BaseException as error:
                    step, given = generator.throw, (error,)
                else:
                    step, given = generator.send, (sent,)
        finally:
            with fresh():
                generator.close()
    return inside


class _NoArguments(_Mode):
    """A mode whose name may decorate without parentheses."""

    __slots__ = ()

    def __new__(cls, function: Callable | None = None):
        mode = object.__new__(cls)
        return mode if function is None else mode(function)


class no_grad(_NoArguments):
    """Operations inside are not recorded, and their results do not require grad."""

    __slots__ = ()

    def __enter__(self) -> None:
        self.before = modes.enabled
        modes.enabled = False

    def __exit__(self, *raised: object) -> None:
        modes.enabled = self.before


class enable_grad(_NoArguments):
    """Operations inside are recorded again, within `no_grad`."""

    __slots__ = ()

    def __enter__(self) -> None:
        self.before = modes.enabled
        modes.enabled = not modes.inference

    def __exit__(self, *raised: object) -> None:
        modes.enabled = self.before


class set_grad_enabled(_Mode):
    """Turn recording on or off: at once when called, until the end of the block as a context manager, inside as a decorator."""

    __slots__ = ("mode",)

    def __init__(self, mode: bool) -> None:
        self.before, self.mode = modes.enabled, bool(mode)
        modes.enabled = self.mode and not modes.inference

    def fresh(self) -> set_grad_enabled:
        return set_grad_enabled(self.mode)

    def __call__(self, function: Callable) -> Callable:
        modes.enabled = self.before
        return super().__call__(function)

    def __enter__(self) -> None:
        modes.enabled = self.mode and not modes.inference

    def __exit__(self, *raised: object) -> None:
        modes.enabled = self.before


class inference_mode(_Mode):
    """As `no_grad`, where nothing inside will ever be recorded (`enable_grad` does not help).

    Tensors made inside are inference tensors: autograd cannot save them, and outside they cannot be written in place.
    """

    __slots__ = ("mode",)

    def __new__(cls, mode: bool | Callable = True) -> Any:
        if callable(mode):
            return inference_mode()(mode)
        return object.__new__(cls)

    def __init__(self, mode: bool = True) -> None:
        self.mode = bool(mode)

    def fresh(self) -> inference_mode:
        return inference_mode(self.mode)

    def __enter__(self) -> None:
        self.before = modes.enabled, modes.inference
        if self.mode:
            inference.enter()
        modes.inference = self.mode
        modes.enabled = not self.mode and (modes.enabled or self.before[1])

    def __exit__(self, *raised: object) -> None:
        modes.enabled, modes.inference = self.before
        if self.mode:
            inference.leave()


def is_grad_enabled() -> bool:
    """Whether this thread records operations."""
    return modes.enabled


def is_inference_mode_enabled() -> bool:
    """Whether this thread is inside `inference_mode`."""
    return modes.inference


class set_detect_anomaly:
    """Turn anomaly detection on or off; as a context manager, until the end of the block.

    While it is on, an error in backward is accompanied by a warning that names the forward line, and NaN in a gradient is an
    error (unless `check_nan` is False).
    """

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        self.before = anomaly.state.enabled, anomaly.state.check_nan
        anomaly.switch(mode, check_nan)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *raised: object) -> None:
        anomaly.switch(*self.before)


class detect_anomaly:
    """Context manager: anomaly detection is on inside, see `set_detect_anomaly`."""

    def __init__(self, check_nan: bool = True) -> None:
        self.check_nan = check_nan
        warnings.warn("Anomaly Detection has been enabled. This mode will increase the runtime and should only be enabled for "
                      "debugging.", UserWarning, stacklevel=2)

    def __enter__(self) -> None:
        self.before = anomaly.state.enabled, anomaly.state.check_nan
        anomaly.switch(True, self.check_nan)

    def __exit__(self, *raised: object) -> None:
        anomaly.switch(*self.before)


def is_anomaly_enabled() -> bool:
    """Whether anomaly detection is on."""
    return anomaly.state.enabled


def is_anomaly_check_nan_enabled() -> bool:
    """Whether anomaly detection looks for NaN."""
    return anomaly.state.check_nan
