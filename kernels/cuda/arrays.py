"""Arrays of a device as kernels want them: in C order, of another dtype, full of one number. Called by the kernels of records."""
from __future__ import annotations

from collections.abc import Sequence

from . import pointwise as maps
from .launch import View, contiguous, pointwise
from .transposes import copy


def dense(device, x: View) -> View:
    """The view itself where it is in C order, else a copy."""
    if x.strides == contiguous(0, x.dtype, x.shape).strides:
        return x
    made = device.empty(x.dtype, x.shape)
    device.run(copy(made, x))
    return made


def converted(device, x: View, dtype: str) -> View:
    """The elements in a dtype, in C order; the view itself where they are that."""
    if x.dtype == dtype:
        return dense(device, x)
    made = device.empty(dtype, x.shape)
    device.run(pointwise(maps.cast(x.dtype, dtype), [made], [x]))
    return made


def filled(device, dtype: str, shape: Sequence[int], number: float = 0.0) -> View:
    """A new array of one number."""
    made = device.empty(dtype, tuple(shape))
    device.run(pointwise(maps.cast(dtype, dtype), [made], [number]))
    return made
