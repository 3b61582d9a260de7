"""Operands of an operator: promotion of dtypes, one device for all, Python numbers as tensors, shapes that do not broadcast."""
from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import devices, dtypes
from .casts import cast
from .errors import DeviceError, ShapeError
from .tensor import KIND, Kind, Tensor, wrap

NUMBERS = (bool, int, float, complex)


def item_of(operand: Any) -> tuple[dtypes.dtype, int]:
    """(dtype, priority) of an operand for `dtypes.result_type_of`."""
    if isinstance(operand, Tensor):
        return operand._kind.dtype, 2 if operand._array.ndim else 1
    return dtypes.number_dtype(operand), 0


def device_kinds(operands: Any) -> dict[dtypes.dtype, Kind]:
    """The kinds of the device that the tensors among the operands are on; the CPU's where numbers alone are."""
    for o in operands:
        if isinstance(o, Tensor) and o._kind.device is not devices.CPU:
            return o._kind.kin
    return KIND


def common_device(name: str, operands: Any) -> devices.device:
    """The one device of the tensors among the operands (numbers of the CPU may join any); DeviceError for two."""
    found = None
    for t in operands:
        if isinstance(t, Tensor):
            d = t._kind.device
            if d is found:
                continue
            if found is None or (found.type == "cpu" and d is not found):
                if found is not None and any(isinstance(o, Tensor) and o._kind.device is found and o._array.ndim for o in operands):
                    raise _two_devices(name, d, found)
                found = d
            elif d is not found and (d.type != "cpu" or t._array.ndim):
                raise _two_devices(name, found, d)
    return found or devices.CPU


def _two_devices(name, a, b) -> DeviceError:
    return DeviceError(f"Expected all tensors to be on the same device, but found at least two devices, {a} and {b}! "
                       f"(when calling {name}; move one with .to())")


def of_kind(operand: Tensor | complex, kind: Kind) -> Tensor:
    """An operand as a tensor of the kind that is computed in: numbers become tensors, casts are recorded.

    A tensor without dimensions of the CPU moves to the kind's device: numbers may join any (see `common_device`).
    """
    if not isinstance(operand, Tensor):
        return constant(operand, kind)
    if operand._kind.device is not kind.device:
        operand = operand.to(kind.device)
    return operand if operand._kind.dtype is kind.dtype else cast(operand, kind)


def constant(value: Tensor | complex, kind: Kind) -> Tensor:
    """A Python number as a tensor without dimensions, kept for the next use. Never shown to users."""
    if type(value) is not value.__class__:          # a number of a trace that may be another one in the next run
        live = value.operand(kind)
        if live is not None:
            return live
        value = value.value
    key = (value.__class__, value if value or value.__class__ is int else repr(value))      # 0.0 and -0.0 are equal
    found = kind.constants.get(key)
    if found is None:
        try:
            with np.errstate(all="ignore"):
                array = np.array(value).astype(kind.numpy)
        except OverflowError:
            raise RuntimeError(f"value cannot be converted to type {kind.dtype.name} without overflow") from None
        except (TypeError, ValueError) as error:
            raise TypeError(f"{value!r} is not a number of dtype {kind.dtype}") from error
        if array.dtype != kind.numpy or (array.dtype.kind == "O"):
            raise RuntimeError(f"value cannot be converted to type {kind.dtype.name} without overflow")
        if kind.device is not devices.CPU:
            from .device_arrays import DeviceNumber
            array = DeviceNumber(array, kind.device)
        found = wrap(array, kind)
        if len(kind.constants) > 256:
            kind.constants.clear()
        kind.constants[key] = found
    return found


def broadcast_error(name: str, tensors: Sequence[Tensor]) -> ShapeError:
    """The error for shapes that do not broadcast, in PyTorch's words."""
    shapes = [tuple(t._array.shape) for t in tensors]
    letters = "abcdefg"
    ndim = max(map(len, shapes))
    for d in range(1, ndim + 1):
        sizes = [(s[-d], letters[k % 7]) for k, s in enumerate(shapes) if len(s) >= d and s[-d] != 1]
        for (n, a), (m, b) in itertools.pairwise(sizes):
            if n != m:
                return ShapeError(f"The size of tensor {a} ({n}) must match the size of tensor {b} ({m}) at non-singleton "
                                  f"dimension {ndim - d}")
    return ShapeError(f"{name}: shapes {shapes} cannot be broadcast together")


def operand(name: str, value: Tensor | complex, argument: str = "input", position: int = 1) -> Any:
    """A value of another library as an operand: NumPy scalars and arrays are welcome, anything else is a TypeError."""
    if isinstance(value, (Tensor, *NUMBERS)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        from .functions.create import from_numpy
        return from_numpy(value)
    raise TypeError(f"{name}(): argument '{argument}' (position {position}) must be Tensor, not {type(value).__name__}")
