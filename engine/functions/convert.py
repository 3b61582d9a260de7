"""Conversions of tensors: to, type_as, type, the dtype methods (float, long, ...), cpu and cuda, and meeting NumPy's
ufuncs.

Casts are recorded; a tensor that is already what is asked for is returned itself. Tensors from data are made in
`create`.
"""
from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from kernels.book import BOOK

from .. import devices, dtypes
from ..dispatch import cast, store
from ..tape import Node, clock, edge_of, modes
from ..tensor import KIND, Kind, Tensor, storage_of, wrap
from .create import moved, native, place
from .registry import public


def converted(x: Tensor, kind: Kind) -> Tensor:
    """The tensor in another dtype on its device, recorded; itself where it has the dtype already."""
    if x._kind.dtype is kind.dtype:
        return x
    if x._kind.dtype.category == 3 > kind.dtype.category and kind.dtype.category:
        warnings.warn("Casting complex values to real discards the imaginary part", UserWarning, stacklevel=3)
    return cast(x, kind)


@public(function=False)
def to(self: Tensor, *args: Any, device: Any = None, dtype: dtypes.dtype | None = None, non_blocking: bool = False,
       copy: bool = False,
       memory_format: Any = None) -> Tensor:
    """The tensor on another device or in another dtype: `to(dtype)`, `to(device)`, `to(device, dtype)`, `to(other)`.

    Returns the tensor itself where nothing changes, unless `copy`. RuntimeError for a device that is not there.
    """
    if args:
        first, rest = args[0], args[1:]
        if isinstance(first, Tensor):
            device, dtype = first._kind.device, first._kind.dtype
        elif first.__class__ is dtypes.dtype or (isinstance(first, type) and first in dtypes.BY_PYTHON):
            dtype = first
        else:
            device = first if first is not None else device
            if rest and (rest[0] is None or not isinstance(rest[0], bool)):
                dtype, rest = (rest[0] if rest[0] is not None else dtype), rest[1:]
        if len(rest) > 2:
            raise TypeError(f"to() received an invalid combination of arguments - got {len(args)} positional ones")
        copy = rest[1] if len(rest) == 2 else copy
    kind = self._kind if dtype is None else KIND[dtypes.as_dtype(dtype)]
    where = self._kind.device if device is None else place(device)
    if where is not self._kind.device:
        if kind.dtype.itemsize < self._kind.dtype.itemsize:         # the fewer bytes travel
            return moved_recorded(converted(self, kind), where)
        return converted(moved_recorded(self, where), kind)
    if kind.dtype is self._kind.dtype:
        return BOOK["clone"](self) if copy else self
    return converted(self, kind)


class ToCopyBackward0(Node):
    """A copy on another device: the gradient comes back to the old one."""

    __slots__ = ("place",)

    def backward(self, g: Tensor) -> tuple:
        return (moved_recorded(g, self.place),)


def moved_recorded(x: Tensor, where: devices.device) -> Tensor:
    """The tensor on another device, recorded; itself where it is there."""
    if x._kind.device is where:
        return x
    made, edge = moved(x, where), edge_of(x)
    if edge is not None and modes.enabled:
        node = object.__new__(ToCopyBackward0)
        node.edges, node.hooks, node.order, node.place = (edge,), None, next(clock), x._kind.device
        made._node, made._needs = node, True
    return made


def through_host(function: Callable) -> Callable:
    """Decorator of functions whose work is the host's: tensors of CUDA go there, results come back, both recorded."""

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        where = next((a._kind.device for a in (*args, *options.values())
                      if isinstance(a, Tensor) and a._kind.device is not devices.CPU), None)
        if where is None:
            return function(*args, **options)
        there = {name: _brought(value, devices.CPU) for name, value in options.items()}
        return _brought(function(*_brought(args, devices.CPU), **there), where)
    return call


def _brought(made: Any, where: devices.device) -> Any:
    """Tensors, and tuples, lists and records of them, on a device."""
    if isinstance(made, Tensor):
        return moved_recorded(made, where)
    if isinstance(made, dict):
        return type(made)({name: _brought(value, where) for name, value in made.items()})
    if isinstance(made, tuple) and hasattr(made, "_fields"):
        return type(made)(*(_brought(m, where) for m in made))
    return type(made)([_brought(m, where) for m in made]) if isinstance(made, (tuple, list)) else made


@public(function=False)
def type_as(self: Tensor, other: Tensor) -> Tensor:
    """This tensor in the dtype of another, on its device."""
    return self.to(other._kind.device, other._kind.dtype)


def _caster(name: str, d: dtypes.dtype) -> None:
    kind = KIND[d]

    def method(self: Tensor, memory_format: Any = None) -> Tensor:
        return self if self._kind.dtype is d else converted(self, kind)
    method.__name__, method.__qualname__ = name, f"Tensor.{name}"
    method.__doc__ = f"This tensor as {d.name}; itself if it is that already."
    public(function=False)(method)


for _name, _d in (("float", dtypes.float32), ("double", dtypes.float64), ("half", dtypes.float16),
                  ("int", dtypes.int32),
                  ("long", dtypes.int64), ("short", dtypes.int16), ("char", dtypes.int8), ("byte", dtypes.uint8),
                  ("bool", dtypes.bool_), ("cfloat", dtypes.complex64), ("cdouble", dtypes.complex128)):
    _caster(_name, _d)


@public(function=False)
def cpu(self: Tensor, memory_format: Any = None) -> Tensor:
    """The tensor in the CPU's memory; itself if it is there."""
    return moved_recorded(self, devices.CPU)


@public(function=False)
def cuda(self: Tensor, device: Any = None, non_blocking: bool = False, memory_format: Any = None) -> Tensor:
    """The tensor on a CUDA device; DeviceError where there is none."""
    where = place("cuda" if device is None else devices.device("cuda", device) if isinstance(device, int) else device)
    if where.type != "cuda":
        raise RuntimeError(f"Invalid device, must be cuda device, got {where}")
    return moved_recorded(self, where)


@public(function=False)
def pin_memory(self: Tensor, device: Any = None) -> Tensor:
    """A copy in page-locked host memory, from which a GPU copies faster; itself if it is there. RuntimeError without a GPU."""
    if is_pinned(self):
        return self
    if self.is_cuda:
        raise RuntimeError(f"cannot pin '{self.type()}' only dense CPU tensors can be pinned")
    if not devices._cuda_devices()[0]:
        raise RuntimeError("Cannot access accelerator device when none is available: pin_memory needs a CUDA device")
    from kernels.cuda import device as cuda
    place = cuda.get(cuda.current())
    place.library.bind(place.index)
    memory = np.asarray(place.library.pinned(self.nbytes))
    made = wrap(memory.view(self._array.dtype).reshape(self._array.shape) if self._array.size else self._array.copy(), self._kind)
    store(made._array, self._array)
    return made


@public(function=False)
def is_pinned(self: Tensor, device: Any = None) -> bool:
    """Whether the tensor lies in page-locked host memory."""
    return type(getattr(storage_of(self._array), "base", None)).__name__ == "Pinned" and self.is_cpu


@public(function=False)
def record_stream(self: Tensor, stream: Any) -> None:
    """Another stream works on the tensor: its memory is not given out again before that stream has done what it has been given.

    Errors: RuntimeError for a tensor of the CPU, TypeError where `stream` is no `cuda.Stream`.
    """
    from ..cuda.streams import Stream
    if not isinstance(stream, Stream):
        raise TypeError(f"record_stream(): argument 's' (position 1) must be Stream, not {type(stream).__name__}")
    if self.is_cpu:
        raise RuntimeError("Could not run 'record_stream' with a tensor of the CPU: its memory belongs to no stream")
    owner = self._array.owner
    if hasattr(owner, "used_on"):           # not another library's memory
        owner.used_on(stream.cuda_stream or None, stream._handle)


@public(function=False, name="type")
def type_(self: Tensor, dtype: Any = None, non_blocking: bool = False) -> str | Tensor:
    """Without argument the old name of the dtype, "engine.FloatTensor"; with a dtype, such a name or class, the tensor
    converted.
    """
    if dtype is None:
        return f"engine.{self._kind.dtype.legacy}"
    if dtype.__class__ is not dtypes.dtype:
        legacy = dtype.rpartition(".")[2] if isinstance(dtype, str) else getattr(dtype, "__name__", "")
        if legacy not in dtypes.BY_LEGACY:
            raise ValueError(f"invalid type: '{dtype if isinstance(dtype, str) else legacy}'")
        dtype = dtypes.BY_LEGACY[legacy]
    return converted(self, KIND[dtype])


# --- meeting NumPy ----------------------------------------------------------------------------------------------------

def _array_wrap(self: Tensor, array: np.ndarray, context: Any = None, return_scalar: bool = False) -> Tensor:
    """NumPy's functions on a tensor (`np.sin(t)`) give a tensor, as in PyTorch."""
    array = native(np.asarray(array))
    return wrap(array, KIND[dtypes.from_numpy_dtype(array.dtype)])


Tensor.__array_wrap__ = _array_wrap
