"""Modules in another dtype or on another device: `to`, `float`, `double`, `half`, `type`, `cpu`, `cuda`, `to_empty`.

`Moving` is a base of Module (module.py). Parameters stay the same objects, so optimizers that hold them go on; buffers are
replaced.
"""
from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Self

from ..autograd.modes import no_grad
from ..dtypes import dtype as Dtype
from ..functions.factories import empty_like
from ..tensor import Tensor


class Moving:
    """What Module knows of dtypes and devices."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Replace the data of every parameter, gradient and buffer by what `fn` gives."""
        if recurse:
            for module in self.children():
                module._apply(fn)
        for p in self._parameters.values():
            if p is None:
                continue
            with no_grad():
                made = fn(p)
                grad = None if p._grad is None else fn(p._grad)
            p._array, p._kind = made._array, made._kind
            if grad is not None:
                p._grad._array, p._grad._kind = grad._array, grad._kind
        for name, b in self._buffers.items():
            if b is not None:
                self._buffers[name] = fn(b)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move to a device and (floating and complex tensors) to a dtype.

        `to(device=None, dtype=None, non_blocking=False)`, `to(dtype, non_blocking=False)`, `to(tensor, non_blocking=False)`,
        `to(memory_format=...)`. TypeError for a dtype that is neither floating nor complex.
        """
        device, dtype, memory_format = _destination(args, kwargs)
        if dtype is not None:
            if not (dtype.is_floating_point or dtype.is_complex):
                raise TypeError(f"nn.Module.to only accepts floating point or complex dtypes, but got desired dtype={dtype}")
            if dtype.is_complex:
                warnings.warn("Complex modules are a new feature under active development whose design may change, and some "
                              "modules might not work as expected when using complex tensors as parameters or buffers.",
                              UserWarning, stacklevel=2)

        def convert(t: Tensor) -> Tensor:
            wanted: dict[str, Any] = {} if device is None else {"device": device}
            if dtype is not None and (t.is_floating_point() or t.is_complex()):
                wanted["dtype"] = dtype
            if memory_format is not None and t.ndim in (4, 5):
                wanted["memory_format"] = memory_format
            return t.to(**wanted) if wanted else t
        return self._apply(convert)

    def to_empty(self, *, device: Any, recurse: bool = True) -> Self:
        """New memory of any content on a device."""
        return self._apply(lambda t: empty_like(t, device=device), recurse=recurse)

    def cpu(self) -> Self:
        """Move to the CPU."""
        return self._apply(lambda t: t.cpu())

    def cuda(self, device: Any = None) -> Self:
        """Move to a CUDA device."""
        return self._apply(lambda t: t.cuda(device))

    def type(self, dst_type: Any) -> Self:
        """All tensors in one dtype, those of integers too."""
        return self._apply(lambda t: t.type(dst_type))

    def float(self) -> Self:
        """Floating tensors become float32."""
        return self._apply(lambda t: t.float() if t.is_floating_point() else t)

    def double(self) -> Self:
        """Floating tensors become float64."""
        return self._apply(lambda t: t.double() if t.is_floating_point() else t)

    def half(self) -> Self:
        """Floating tensors become float16."""
        return self._apply(lambda t: t.half() if t.is_floating_point() else t)


def _destination(args: tuple, kwargs: dict[str, Any]) -> tuple[Any, Dtype | None, Any]:
    """(device, dtype, memory format) of the arguments of `to`; each None where not given."""
    named = dict(kwargs)
    other, device, dtype = named.pop("tensor", None), named.pop("device", None), named.pop("dtype", None)
    memory_format = named.pop("memory_format", None)
    named.pop("non_blocking", None)
    if named:
        raise TypeError(f"to() got an unexpected keyword argument '{next(iter(named))}'")
    rest = list(args)
    if rest:
        first = rest.pop(0)
        if isinstance(first, Tensor):
            other = first
        elif isinstance(first, Dtype):
            dtype = first
        else:
            device = first if first is not None else device
            if rest and not isinstance(rest[0], bool):
                second = rest.pop(0)
                dtype = second if second is not None else dtype
                if dtype is not None and not isinstance(dtype, Dtype):
                    raise TypeError("to() received an invalid combination of arguments: the second one must be a dtype, not "
                                    f"{type(dtype).__name__}")
    if len(rest) > 2:                               # what is left: non_blocking, copy
        raise TypeError(f"to() received an invalid combination of arguments - got {len(args)} positional ones")
    if other is not None:
        device, dtype = other.device, other.dtype
    return device, dtype, memory_format
