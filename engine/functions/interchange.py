"""Tensors over memory that others made: asarray, frombuffer, from_dlpack.

NumPy's arrays come in through `create.from_numpy`; how tensors go out (`numpy`, `__dlpack__`) is in `engine.tensor`.
"""
from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from .. import dtypes
from ..dispatch import cast
from ..dtypes import DEFAULT
from ..errors import DeviceError
from ..tensor import KIND, KIND_OF_NUMPY, Tensor, shared_counter, wrap
from .create import _build, finish, from_numpy, kind_of, native
from .registry import public


@public(method=False)
def asarray(obj: Any, *, dtype: dtypes.dtype | None = None, device: Any = None, copy: bool | None = None,
            requires_grad: bool | None = None) -> Tensor:
    """As `as_tensor`, and buffers are read as memory of `dtype`. `copy=True` always copies, `copy=False` raises where
    it must.
    """
    kind = kind_of(dtype, "asarray")
    if isinstance(obj, Tensor):
        made, words = obj, "tensor"
    elif isinstance(obj, np.ndarray):
        made, words = from_numpy(obj), "array"
    elif hasattr(obj, "__dlpack__") and not isinstance(obj, np.generic):
        made, words = from_dlpack(obj), "object"
    elif _is_buffer(obj):
        made, words = frombuffer(obj, dtype=(kind or KIND[DEFAULT.dtype]).dtype), "buffer"
    else:
        if copy is False:
            raise ValueError("can't alias arbitrary sequence into a tensor.")
        made = _build(obj, kind)
        return finish(made, device, bool(requires_grad))
    if kind is not None and kind is not made._kind:
        if copy is False:
            raise ValueError(f"can't alias {words} with dtype '{made._kind.dtype.scalar}' into dtype "
                             f"'{kind.dtype.scalar}'.")
        made = cast(made, kind)
    elif copy:
        made = made.clone()
    if requires_grad is not None and made.requires_grad != requires_grad:
        made = made.detach() if made is obj or made._node is not None else made
        made.requires_grad_(requires_grad)
    return finish(made, device, False)


def _is_buffer(obj: Any) -> bool:
    try:
        memoryview(obj)
    except TypeError:
        return False
    return not isinstance(obj, np.generic)


@public(method=False)
def frombuffer(buffer: Any, *, dtype: dtypes.dtype, count: int = -1, offset: int = 0,
               requires_grad: bool = False) -> Tensor:
    """A flat tensor over the memory of a buffer, from byte `offset`, of `count` elements (-1: all). ValueError for
    sizes that do not fit.
    """
    kind = kind_of(dtype, "frombuffer")
    if kind is None:
        raise TypeError("frombuffer(): argument 'dtype' must be engine.dtype, not NoneType")
    if not _is_buffer(buffer):
        raise ValueError("object does not implement Python buffer protocol.")
    view = memoryview(buffer)
    have, size = view.nbytes, kind.numpy.itemsize
    if not have or not count:
        raise ValueError(f"both buffer length ({have}) and count ({count}) must not be 0")
    if not 0 <= offset < have:
        raise ValueError(f"offset ({offset} bytes) must be non-negative and no greater than buffer length ({have} "
                         f"bytes) minus 1")
    if count > 0 and offset + count * size > have:
        raise ValueError(f"requested buffer length ({count} * {size} bytes) after offset ({offset} bytes) must not be "
                         f"greater than actual buffer length ({have} bytes)")
    if count < 0 and (have - offset) % size:
        raise ValueError(f"buffer length ({have - offset} bytes) after offset ({offset} bytes) must be a multiple of "
                         f"element size ({size})")
    if view.readonly:
        warnings.warn("The given buffer is not writable, and PyTorch does not support non-writable tensors. In-place "
                      "operators on this tensor will be refused.", UserWarning, stacklevel=2)
    return finish(wrap(np.frombuffer(buffer, kind.numpy, max(count, -1), offset), kind), None, requires_grad)


def tensor_over(array: Any) -> Tensor:
    """A tensor over an array of any device."""
    return wrap(array, KIND_OF_NUMPY[array.dtype])


class _Capsule:
    """A bare DLPack capsule of the CPU as an object that NumPy can import."""

    def __init__(self, capsule):
        self.capsule = capsule

    def __dlpack__(self, **options):
        return self.capsule

    def __dlpack_device__(self):
        return 1, 0


@public(method=False)
def from_dlpack(ext_tensor: Any) -> Tensor:
    """A tensor over the memory of another library's array (or of a DLPack capsule on the CPU)."""
    if type(ext_tensor).__name__ == "PyCapsule":
        ext_tensor = _Capsule(ext_tensor)
    if not hasattr(ext_tensor, "__dlpack__"):
        raise RuntimeError(f"from_dlpack received an invalid capsule: {type(ext_tensor).__name__} has no __dlpack__")
    kind, _ = ext_tensor.__dlpack_device__()
    if kind in (2, 13):                 # kDLCUDA, kDLCUDAManaged
        from .. import dlpack
        made = tensor_over(dlpack.imported(ext_tensor.__dlpack__()))
        if isinstance(ext_tensor, Tensor):
            made._counter = shared_counter(ext_tensor)
        return made
    if kind not in (1, 3):              # kDLCPU, kDLCUDAHost
        raise DeviceError(f"from_dlpack: memory of DLPack device type {int(kind)} is not supported, only the CPU's and CUDA's")
    array = native(np.from_dlpack(ext_tensor))
    made = wrap(array, KIND_OF_NUMPY[array.dtype])
    if isinstance(ext_tensor, Tensor):
        made._counter = shared_counter(ext_tensor)
    return made
