"""The dispatch table: (operator, device) -> kernel. Filled from the book, open to users.

A kernel answers `ufunc(dtype)` (pointwise), or is called with arrays and options (folds, structural operators, and whatever a user
registers). `kernel.runs_on` says where the numbers are computed: "cpu", "cuda", or "host" for an operator whose CUDA
tensors go through the CPU.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from .book import BOOK, Fold, Operator, Pointwise, Structural
from .cuda.records import RECORDS, SHARING

DEVICES = ("cpu", "cuda")


class Kernel:
    """How one operator runs on one device."""

    def __init__(self, operator: Operator, device: str, runs_on: str = "", custom: Callable | None = None):
        self.operator, self.device, self.custom = operator, device, custom
        self.runs_on = runs_on or device

    def __call__(self, *arrays, **options):
        if self.custom is not None:
            return self.custom(*arrays, **options)
        if self.device != "cpu":
            arrays = arrays[0] if getattr(self.operator, "many", False) else arrays
            if not hasattr(arrays[0], "compute"):
                raise TypeError(f"{self.operator.name}: the kernel for '{self.device}' takes arrays of that device, not "
                                f"{type(arrays[0]).__name__}")
            return arrays[0].compute(self.operator, arrays, options)
        return self.operator.on_arrays(*arrays, **options)

    def __repr__(self) -> str:
        kind = "user" if self.custom else type(self.operator).__name__.lower()
        return f"<{kind} kernel {self.operator.name} on {self.runs_on}>"


@functools.cache
def forward_ufunc(operator: Pointwise, dtype: str) -> np.ufunc:
    """The loaded CPU kernel of a pointwise operator computed in `dtype`."""
    from .cpu import maps, native
    return native.make_kernel(maps.forward_program(operator, dtype))


@functools.cache
def gradient_ufunc(operator: Pointwise, dtype: str, mask: tuple[bool, ...]) -> np.ufunc:
    """The loaded CPU kernel of the gradients that `mask` asks for."""
    from .cpu import maps, native
    return native.make_kernel(maps.gradient_program(operator, dtype, mask))


@functools.cache
def whole_ufunc(name: str, operators: tuple[Pointwise, ...], dtype: str, mask: tuple[bool, ...]) -> np.ufunc:
    """The loaded CPU kernel of several operators of the same inputs, with partial derivatives by those of `mask`."""
    from .cpu import maps, native
    return native.make_kernel(maps.whole_program(name, operators, dtype, mask))


@functools.cache
def cast_ufunc(source: str, target: str) -> np.ufunc:
    """The loaded CPU kernel of a dtype conversion."""
    from .cpu import maps, native
    return native.make_ufunc(maps.cast_program(source, target))


class Table(Mapping):
    """The mapping itself; printing it lists every operator with the devices it runs on."""

    def __init__(self):
        self._custom: dict[tuple[str, str], Kernel] = {}
        self.listeners: list[Callable[[str, str], None]] = []       # told when an entry changes

    def __getitem__(self, key: tuple[str, str]) -> Kernel:
        name, device = key
        if key in self._custom:
            return self._custom[key]
        if name not in BOOK or device not in DEVICES:
            raise KeyError(key)
        return _derived(name, device)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        keys = {(name, device): None for name in BOOK for device in DEVICES}
        return iter([*keys, *(k for k in self._custom if k not in keys)])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def register(self, name: str, device: str, kernel: Callable, host: bool = False) -> None:
        if device not in DEVICES:
            raise ValueError(f"register: device must be one of {', '.join(DEVICES)}, not {device!r}")
        if name not in BOOK:
            raise KeyError(f"register: no operator named {name!r} in the book")
        if not callable(kernel):
            raise TypeError(f"register: a kernel is a callable of arrays, not {type(kernel).__name__}")
        self._custom[name, device] = Kernel(BOOK[name], device, "host" if host else device, kernel)
        for listener in self.listeners:
            listener(name, device)

    def unregister(self, name: str, device: str) -> None:
        """Go back to the book's own kernel."""
        if self._custom.pop((name, device), None) is not None:
            for listener in self.listeners:
                listener(name, device)

    def __repr__(self) -> str:
        names = sorted({name for name, _ in self})
        width = max(map(len, names), default=0)
        rows = [f"{n:<{width}}  " + "  ".join(f"{d}: {self[n, d].runs_on}{' (user)' if self[n, d].custom else ''}"
                                             for d in DEVICES) for n in names]
        return f"dispatch table, {len(names)} operators\n" + "\n".join(rows)


@functools.cache
def _derived(name: str, device: str) -> Kernel:
    operator = BOOK[name]
    custom = operator.kernels.get(device)
    derived = not isinstance(operator, Structural) or operator.view or operator.anywhere or name in RECORDS or name in SHARING
    return Kernel(operator, device, device if device == "cpu" or derived or custom else "host", custom)


def forget() -> None:
    """A name of the book stands for another record from now on."""
    _derived.cache_clear()


TABLE = Table()


def kernel(name: str, device: str) -> Kernel:
    """The table's entry; KeyError where there is none."""
    return TABLE[name, device]


__all__ = ["TABLE", "Fold", "Kernel", "Table", "cast_ufunc", "forget", "forward_ufunc", "gradient_ufunc", "kernel", "whole_ufunc"]
