"""Tensors from data: tensor, as_tensor, from_numpy, scalar_tensor, and the old Tensor(...).

Nothing here computes; numbers are converted by the cast kernels. Recipes (zeros, arange, ...) are in `factories`, the
classes FloatTensor, LongTensor, ... in `legacy`, conversions of tensors in `convert`, buffers and DLPack in `interchange`.
`place`, `number`, `kind_of` and `finish` serve those files too.
"""
from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from kernels.cpu import copies

from .. import devices, dtypes
from ..devices import CPU
from ..devices import _state as state
from ..dispatch import cast, cast_array
from ..dtypes import DEFAULT, as_dtype, bool_, float64, int64
from ..errors import DTypeError, NumberError
from ..tensor import KIND, KIND_OF_NUMPY, Kind, Size, Tensor, wrap
from .registry import public

INT64, FLOAT64 = int64.numpy, float64.numpy
_FLOAT, _INT, _BOOL = {float}, {int}, {bool}
_PYTHON = {bool, int, float, complex}

_COPY = ("To copy construct from a tensor, it is recommended to use sourceTensor.detach().clone() or "
         "sourceTensor.detach().clone().requires_grad_(True), rather than {}(sourceTensor).")
_ALTERED = "value cannot be converted to type {} without overflow"


# --- what all constructors share --------------------------------------------------------------------------------------

def place(device: Any) -> devices.device:
    """The device of a `device=` argument; DeviceError where this machine or this build has none."""
    found = devices.as_device(device)
    if found.type == "cpu":
        return CPU
    devices.require_available(found)
    from .. import device_arrays
    return device_arrays.resolved(found)


def finish(made: Tensor, device: Any, requires_grad: bool) -> Tensor:
    """A new tensor on the device that was asked for, requiring grad or not: the last line of every constructor."""
    if device is not None or state.chosen is not CPU or state.inside:
        where = place(device)
        if where is not made._kind.device:
            made = moved(made, where)
    if requires_grad:
        if made._kind.dtype.category < 2:
            raise DTypeError("Only Tensors of floating point and complex dtype can require gradients")
        made._needs = True
    return made


def kind_there(kind: Kind, device: Any) -> Kind:
    """The kind of the same dtype on the device of a `device=` argument."""
    where = place(device)
    if where is CPU:
        return KIND[kind.dtype]
    from .. import device_arrays
    return device_arrays.kinds(where)[kind.dtype]


def place_of(input: Tensor, device: Any) -> Any:
    """The device of a `*_like` function: the one that was named, else the input's."""
    if device is not None or (state.chosen is CPU and not state.inside):
        return device
    return input._kind.device


def moved(x: Tensor, where: devices.device) -> Tensor:
    """The numbers of a tensor on another device, a new leaf."""
    from .. import device_arrays
    return wrap(device_arrays.move(x._array, where), device_arrays.kinds(where)[x._kind.dtype])


def kind_of(dtype: Any, name: str) -> Kind | None:
    """The kind of a `dtype=` argument (a dtype or a Python number type), None for None."""
    if dtype is None:
        return None
    if dtype.__class__ is not dtypes.dtype and dtype not in dtypes.BY_PYTHON:
        raise TypeError(f"{name}(): argument 'dtype' must be engine.dtype, not {type(dtype).__name__}")
    return KIND[as_dtype(dtype)]


# --- numbers and nested lists -----------------------------------------------------------------------------------------

def number(value: Any, kind: Kind, exact: bool = True) -> np.ndarray:
    """A Python number as an array without dimensions. RuntimeError where `kind` cannot hold it.

    `exact` refuses floats that overflow to infinity and complex numbers for real kinds, as `full` and `fill_` do.
    """
    d = kind.dtype
    if exact and value.__class__ is complex and d.category in (1, 2):
        if value.imag:
            raise NumberError(_ALTERED.format(d.name))
        value = value.real
    made = _leaves([value], {value.__class__}, kind).reshape(())
    if exact and d.category >= 2 and value.__class__ is not int and np.isinf(made) and not np.isinf(value):
        raise NumberError(_ALTERED.format(d.name))
    return made


def _leaves(values: list, types: set, kind: Kind) -> np.ndarray:
    """A flat list of Python numbers as an array of any kind; overflow as in PyTorch: see `number`."""
    category = kind.dtype.category
    try:
        if category == 0:
            return np.array([bool(v) for v in values], kind.numpy)
        if complex in types:
            if category < 3:
                raise TypeError("must be real number, not complex" if category == 2 else
                                "'complex' object cannot be interpreted as an integer")
            return _narrowed(np.array(values, np.complex128), KIND[dtypes.complex128], kind)
        if category >= 2:
            return _narrowed(np.array(values, FLOAT64), KIND[float64], kind)
        if types == _INT and kind.dtype is int64:
            return np.array(values, INT64)
        return _integers(values, kind)
    except OverflowError:
        raise NumberError("Overflow when unpacking long long" if category == 1 else
                          _ALTERED.format(kind.dtype.name)) from None


def _narrowed(wide: np.ndarray, source: Kind, target: Kind) -> np.ndarray:
    return wide if source is target else cast_array(wide, source, target)


def _integers(values: list, kind: Kind) -> np.ndarray:
    """Numbers truncated to an integer dtype. Negative ones wrap in unsigned dtypes, within their range."""
    limits = np.iinfo(kind.numpy)
    lowest = int(limits.min) if limits.min else -int(limits.max)
    whole = []
    for v in values:
        if v != v or not lowest <= (v := v if v in (-np.inf, np.inf) else int(v)) <= int(limits.max):
            raise NumberError("Overflow when unpacking long long" if kind.dtype is int64 and v.__class__ is int else
                              _ALTERED.format(kind.dtype.name))
        whole.append(v if v >= int(limits.min) else v + int(limits.max) + 1)
    return np.array(whole, kind.numpy)


def _from_sequence(data: Sequence, kind: Kind | None) -> Tensor:
    """A nested sequence as a new tensor: its shape from the first branch, its dtype from all leaves."""
    shape, level = (len(data),), list(data)
    while level and _is_sequence(level[0]):
        if isinstance(level[0], np.ndarray):
            return _from_arrays(shape, level, kind)
        length = len(level[0])
        for item in level:
            if not _is_sequence(item):
                raise TypeError("not a sequence")
            if len(item) != length:
                _leaf_types(list(chain.from_iterable(level)), strings_only=True)
                raise ValueError(f"expected sequence of length {length} at dim {len(shape)} (got {len(item)})")
        shape += (length,)
        level = list(chain.from_iterable(level))
    types = set(map(type, level))
    if not types <= _PYTHON:
        level, inferred = _leaf_values(level, len(shape))
        types = set(map(type, level))
    else:
        inferred = _python_dtype(types)
    kind = kind or KIND[inferred]
    return wrap(_leaves(level, types, kind).reshape(shape), kind)


def _is_sequence(item: Any) -> bool:
    cls = item.__class__
    if cls is list or cls is tuple:
        return True
    if isinstance(item, np.ndarray):
        return item.ndim > 0
    if isinstance(item, (str, bytes, Tensor, np.generic, dict, set, *_PYTHON)):
        return False
    return hasattr(item, "__len__") and hasattr(item, "__getitem__")


def _python_dtype(types: set) -> dtypes.dtype:
    """The dtype of Python numbers of these classes; an empty list has the default dtype."""
    if complex in types:
        return DEFAULT.dtype.complex
    if float in types or not types:
        return DEFAULT.dtype
    return int64 if int in types else bool_


def _leaf_types(level: list, strings_only: bool = False, dim: int = 0) -> None:
    """Raise PyTorch's errors for leaves that are no numbers."""
    for k, v in enumerate(level):
        if isinstance(v, (str, bytes)):
            if dim and not k and isinstance(v, str):
                raise ValueError(f"too many dimensions '{type(v).__name__}'")
            raise TypeError(f"new(): invalid data type '{type(v).__name__}'")
        if not strings_only:
            if _is_sequence(v):
                raise TypeError(f"'{type(v).__name__}' object cannot be interpreted as an integer")
            if not isinstance(v, (Tensor, np.generic, np.ndarray, *_PYTHON)):
                raise RuntimeError(f"Could not infer dtype of {type(v).__name__}")


def _leaf_values(level: list, dim: int) -> tuple[list, dtypes.dtype]:
    """Leaves that are tensors of one element, NumPy scalars or subclasses of numbers: as Python numbers, and their
    dtype.
    """
    _leaf_types(level, dim=dim)
    values, found = [], None
    for v in level:
        if isinstance(v, Tensor):
            if v._array.size != 1:
                raise ValueError("only one element tensors can be converted to Python scalars")
            d = v._kind.dtype
        elif isinstance(v, (np.generic, np.ndarray)):
            d = dtypes.from_numpy_dtype(v.dtype)
        else:
            d = dtypes.number_dtype(v)
        found = d if found is None or found is d else dtypes.PROMOTE[found, d]
        values.append(v.item() if isinstance(v, (Tensor, np.generic, np.ndarray)) else
                      next(c for c in (bool, int, float, complex) if isinstance(v, c))(v))
    return values, found


def _from_arrays(shape: tuple[int, ...], arrays: list, kind: Kind | None) -> Tensor:
    """A list of NumPy arrays of one shape."""
    warnings.warn("Creating a tensor from a list of numpy.ndarrays is extremely slow. Please consider converting the "
                  "list to a single numpy.ndarray with numpy.array() before converting to a tensor.", UserWarning,
                  stacklevel=4)
    first = arrays[0].shape
    for a in arrays:
        if not isinstance(a, np.ndarray):
            raise TypeError("not a sequence")
        for d, (n, m) in enumerate(zip(first, a.shape, strict=False)):
            if n != m:
                raise ValueError(f"expected sequence of length {n} at dim {len(shape) + d} (got {m})")
        if a.ndim != len(first):
            raise ValueError(f"expected arrays of {len(first)} dimensions, got one of {a.ndim}")
    return _from_array(np.stack(arrays).reshape(*shape, *first), kind)


# --- arrays -----------------------------------------------------------------------------------------------------------

def _from_array(array: np.ndarray, kind: Kind | None) -> Tensor:
    """A copy of a NumPy array of any layout, converted."""
    array = native(array)
    own = KIND_OF_NUMPY[array.dtype]
    if kind is None or kind is own:
        return wrap(copies.copy(array), own)
    return wrap(cast_array(array, own, kind), kind)


def native(array: np.ndarray) -> np.ndarray:
    """The array with one of our dtypes (long long is int64); TypeError and ValueError in PyTorch's words for others."""
    kind = KIND_OF_NUMPY.get(array.dtype)
    if kind is None:
        dtypes.from_numpy_dtype(array.dtype)
        raise TypeError(f"can't convert np.ndarray of type {array.dtype}")
    if array.dtype.num != kind.numpy.num:
        array = array.view(kind.numpy)
    return array.view(np.ndarray) if array.__class__ is not np.ndarray else array


@public(method=False)
def from_numpy(ndarray: np.ndarray) -> Tensor:
    """A tensor over the memory of a NumPy array. A read-only array gives a tensor whose in-place operators are refused.

    TypeError for what is no array or has a foreign dtype, ValueError for negative or fractional strides and foreign
    byte order.
    """
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(ndarray).__module__.replace('builtins', '')}"
                        f"{'.' * (type(ndarray).__module__ != 'builtins')}{type(ndarray).__name__})")
    array = native(ndarray)
    for stride in array.strides:
        if stride < 0:
            raise ValueError("At least one stride in the given numpy array is negative, and tensors with negative "
                             "strides are not currently supported. (You can probably work around this by making a copy "
                             "of your array  with array.copy().)")
        if stride % array.itemsize:
            raise ValueError("given numpy array strides not a multiple of the element byte size. Copy the numpy array "
                             "to reallocate the memory.")
    if not array.flags.writeable:
        warnings.warn("The given NumPy array is not writable, and PyTorch does not support non-writable tensors. "
                      "In-place operators on this tensor will be refused. You may want to copy the array to protect "
                      "its data or make it writable before converting it to a tensor.", UserWarning, stacklevel=2)
    return wrap(array, KIND_OF_NUMPY[array.dtype])


@public(method=False)
def tensor(data: Any, *, dtype: dtypes.dtype | None = None, device: Any = None, requires_grad: bool = False,
           pin_memory: bool = False) -> Tensor:
    """A new tensor with a copy of the data: a number, nested sequences, an array, a pandas column, a buffer, another
    tensor.

    The dtype is PyTorch's: bool, int64 or the default dtype for Python numbers, their own for arrays and NumPy scalars.
    Errors: ValueError for ragged lists, TypeError for strings, RuntimeError for numbers beyond the dtype.
    """
    cls = data.__class__
    if dtype is None and device is None and (cls is list or cls is tuple):
        types = set(map(type, data))
        if types == _FLOAT:
            kind = KIND[DEFAULT.dtype]
            made = wrap(_narrowed(np.array(data, FLOAT64), KIND[float64], kind), kind)
            return made if not requires_grad and state.chosen is CPU else finish(made, None, requires_grad)
    kind = kind_of(dtype, "tensor")
    if isinstance(data, Tensor):
        warnings.warn(_COPY.format("engine.tensor"), UserWarning, stacklevel=2)
        return finish(_copy(data, kind), place_of(data, device), requires_grad)
    return finish(_build(data, kind), device, requires_grad)


def duplicate(array: Any) -> Any:
    """A copy of an array of any device in C order."""
    return copies.copy(array) if array.__class__ is np.ndarray else array.copy()


def _copy(data: Tensor, kind: Kind | None) -> Tensor:
    kind = data._kind.kin[kind.dtype] if kind else data._kind
    return wrap(cast_array(data._array, data._kind, kind) if kind is not data._kind else duplicate(data._array), kind)


def _build(data: Any, kind: Kind | None) -> Tensor:
    """A new tensor from what is no tensor."""
    cls = data.__class__
    if cls in _PYTHON:
        kind = kind or KIND[_python_dtype({cls})]
        return wrap(number(data, kind, exact=False), kind)
    if cls is list or cls is tuple:
        return _from_sequence(data, kind)
    if isinstance(data, np.ndarray):
        if any(s < 0 for s in data.strides):
            from_numpy(data)                # raises
        return _from_array(data, kind)
    if isinstance(data, np.generic):
        return _from_array(np.asarray(data), kind)
    if isinstance(data, (bool, int, float, complex)):
        return _build(next(c for c in (bool, int, float, complex) if isinstance(data, c))(data), kind)
    if isinstance(data, (str, bytes)):
        raise TypeError(f"new(): invalid data type '{cls.__name__}'")
    if hasattr(data, "__cuda_array_interface__"):
        made = _over_device_memory(data).clone()
        return made if kind is None else cast(made, kind)
    if hasattr(data, "__array__") and not isinstance(data, type):       # pandas columns, other libraries' arrays
        return _from_array(np.asarray(data), kind)
    if _is_sequence(data):
        return _from_sequence(data, kind)
    if hasattr(data, "__dlpack__"):
        return _from_array(np.from_dlpack(data), kind)
    raise RuntimeError(f"Could not infer dtype of {cls.__name__}")


def _over_device_memory(data: Any) -> Tensor:
    """A tensor over what an object's `__cuda_array_interface__` describes, on the current device."""
    from .. import device_arrays
    from ..dlpack import from_interface
    array = from_interface(data, device_arrays.resolved(devices.device("cuda")))
    return wrap(array, KIND_OF_NUMPY[array.dtype])


@public(method=False)
def as_tensor(data: Any, dtype: dtypes.dtype | None = None, device: Any = None) -> Tensor:
    """The data as a tensor, without a copy where it is a tensor or array of this dtype already; a tensor's cast is
    recorded.
    """
    kind = kind_of(dtype, "as_tensor")
    if isinstance(data, Tensor):
        made = data if kind is None or kind.dtype is data._kind.dtype else cast(data, kind)
        if device is not None:
            made = made.to(device)
        return made
    elif isinstance(data, np.ndarray) or (hasattr(data, "__array__") and not isinstance(data, np.generic)):
        made = from_numpy(data if isinstance(data, np.ndarray) else np.asarray(data))
        made = made if kind is None or kind is made._kind else cast(made, kind)
    elif hasattr(data, "__cuda_array_interface__"):
        made = _over_device_memory(data)
        made = made if kind is None else cast(made, kind)
        return made if device is None else made.to(device)
    else:
        made = _build(data, kind)
    return finish(made, device, False)


@public(method=False)
def scalar_tensor(s: float, *, dtype: dtypes.dtype | None = None, device: Any = None, requires_grad: bool = False,
                  layout: Any = None, pin_memory: bool = False) -> Tensor:
    """A number as a tensor without dimensions, of the default dtype unless `dtype` says otherwise."""
    kind = kind_of(dtype, "scalar_tensor") or KIND[DEFAULT.dtype]
    return finish(wrap(number(s, kind), kind), device, requires_grad)


# --- Tensor(...) and FloatTensor(...) ---------------------------------------------------------------------------------

def legacy_constructor(kind: Kind | None, data: tuple, device: Any = None) -> Tensor:
    """PyTorch's oldest constructor: sizes give memory with any content, a sequence or array its numbers, a tensor
    itself again.
    """
    fixed, kind = kind is not None, kind or KIND[DEFAULT.dtype]
    only = data[0] if len(data) == 1 else 0
    if not hasattr(only, "__index__") or isinstance(only, (Tensor, np.ndarray)):
        if isinstance(only, Size):
            made = wrap(np.empty(only, kind.numpy), kind)
        elif isinstance(only, Tensor):
            if fixed and only._kind is not kind:
                raise TypeError(f"expected {kind.dtype.legacy} (got {only._kind.dtype.legacy})")
            made = only.detach()
        elif isinstance(only, (str, bytes)):
            raise TypeError(f"new(): invalid data type '{type(only).__name__}'")
        elif isinstance(only, np.ndarray) or _is_sequence(only):
            made = _build(only, kind)
        else:
            raise TypeError(f"new(): data must be a sequence (got {type(only).__name__})")
    else:
        from .factories import allocate, sizes
        made = wrap(allocate(sizes("new", data) if data else (0,), kind), kind)
    return finish(made, device, False)
