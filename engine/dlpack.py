"""DLPack for memory of CUDA devices: capsules out of tensors and tensors out of capsules.

NumPy speaks the protocol for the CPU's memory; this file does for the device's, by ctypes. Source: DLPack 1.0, dlpack.h
(DLManagedTensor, unversioned, which every library reads) and the array API's `__dlpack__`.
"""
from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from kernels.cuda.launch import contiguous

from .device_arrays import DeviceArray, of_view
from .devices import device

CUDA, CUDA_MANAGED = 2, 13          # DLDeviceType
_INT, _UINT, _FLOAT, _COMPLEX, _BOOL = 0, 1, 2, 5, 6        # DLDataTypeCode
_CODES = {"i": _INT, "u": _UINT, "f": _FLOAT, "c": _COMPLEX, "b": _BOOL}
_LETTERS = {code: letter for letter, code in _CODES.items()}
_NAME, _USED = b"dltensor", b"used_dltensor"


class _DLTensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32),
                ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
                ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
                ("byte_offset", ctypes.c_uint64)]


class _Managed(ctypes.Structure):
    """DLManagedTensor."""


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = [("tensor", _DLTensor), ("manager", ctypes.c_void_p), ("deleter", _Deleter)]
_Destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi))
_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))
_rename = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_SetName", ctypes.pythonapi))
# of a capsule that is being destroyed, which no reference may be taken of
_dying_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))
_dying_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))

_lent: dict[int, tuple] = {}        # address of a struct -> what keeps it and the memory alive until its deleter is called


@_Deleter
def _deleter(managed: Any) -> None:
    _lent.pop(ctypes.addressof(managed.contents), None)


@ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
def _destructor(capsule: int) -> None:
    """A capsule that nobody took: its memory is not lent any more."""
    if _dying_valid(capsule, _NAME):
        _lent.pop(_dying_pointer(capsule, _NAME), None)


def exported(array: DeviceArray) -> Any:
    """A capsule over the memory of an array, to be taken once."""
    managed, ndim = _Managed(), array.ndim
    shape = (ctypes.c_int64 * max(ndim, 1))(*array.shape)
    strides = (ctypes.c_int64 * max(ndim, 1))(*(s // array.itemsize for s in array.strides))
    about = managed.tensor
    about.data, about.device_type, about.device_id, about.ndim = array.address, CUDA, array.place.index, ndim
    about.code, about.bits, about.lanes = _CODES[array.dtype.kind], 8 * array.itemsize, 1
    about.shape = ctypes.cast(shape, ctypes.POINTER(ctypes.c_int64))
    about.strides = ctypes.cast(strides, ctypes.POINTER(ctypes.c_int64))
    managed.deleter = _deleter
    address = ctypes.addressof(managed)
    _lent[address] = managed, shape, strides, array
    return _new(address, _NAME, ctypes.cast(_destructor, ctypes.c_void_p))


class _Borrowed:
    """Memory of another library, given back by its deleter."""

    def __init__(self, managed: Any):
        self.managed = managed

    def __del__(self):
        if self.managed.contents.deleter:
            self.managed.contents.deleter(self.managed)


def imported(capsule: Any) -> DeviceArray:
    """The array over a capsule's memory; the capsule is used up. BufferError for what no tensor can hold."""
    if not _valid(capsule, _NAME):
        raise RuntimeError("from_dlpack received an invalid capsule. Note that DLTensor capsules can be consumed only once, so "
                           "you might have already constructed a tensor from it once.")
    managed = ctypes.cast(_pointer(capsule, _NAME), ctypes.POINTER(_Managed))
    about = managed.contents.tensor
    if about.device_type not in (CUDA, CUDA_MANAGED):
        raise BufferError(f"from_dlpack: memory of DLPack device type {about.device_type} is neither the CPU's nor CUDA's")
    if about.lanes != 1 or about.code not in _LETTERS:
        raise BufferError(f"from_dlpack: no dtype here has DLPack's type code {about.code} with {about.lanes} lanes")
    dtype = np.dtype(bool) if about.code == _BOOL else np.dtype(f"{_LETTERS[about.code]}{about.bits // 8}")
    shape = tuple(about.shape[k] for k in range(about.ndim))
    view = contiguous((about.data or 0) + about.byte_offset, dtype.name, shape)
    if about.strides:
        view = view._replace(strides=tuple(about.strides[k] * dtype.itemsize for k in range(about.ndim)))
    _rename(capsule, _USED)
    view = view._replace(owner=_Borrowed(managed))
    return of_view(view, device("cuda", about.device_id))


def from_interface(obj: Any, place: device) -> DeviceArray:
    """The array over what an object's `__cuda_array_interface__` describes. Source: Numba's documentation, version 3."""
    about = obj.__cuda_array_interface__
    view = contiguous(about["data"][0], np.dtype(about["typestr"]).name, about["shape"])
    if about.get("mask") is not None:
        raise BufferError("an array with a mask cannot become a tensor")
    if about.get("strides") is not None:
        view = view._replace(strides=tuple(about["strides"]))
    return of_view(view._replace(owner=obj), place)
