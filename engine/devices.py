"""Devices: the objects `engine.device("cpu")` and `engine.device("cuda", 0)`, and the default device of each thread.

Names a place, moves nothing there: memory, streams and kernels of CUDA live in `engine/cuda` and `kernels/cuda`.
Called wherever a `device=` argument is read (`as_device`) and before anything is put on a device (`require_available`).
Devices are interned: equal ones are the same object, so that hot code may write `tensor.device is CPU`.
"""

from __future__ import annotations

import ctypes
import functools
import operator
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn, Self

from .errors import DeviceError

# PyTorch's list, in its order. All can be named, as in PyTorch, so that portable scripts that mention "mps" run;
# `require_available` refuses all but cpu and cuda.
TYPES = ("cpu", "cuda", "ipu", "xpu", "mkldnn", "opengl", "opencl", "ideep", "hip", "ve", "fpga", "maia", "xla",
         "lazy", "vulkan", "mps", "meta", "hpu", "mtia", "privateuseone")
MAX_INDEX = 127  # PyTorch keeps an index in a signed byte; larger ones wrap there, and are refused here

_interned: dict[str, device] = {}  # by text, "cuda:1"; bounded, because names and indices are


class device:
    """A place for tensors: `device("cuda")`, `device("cuda:1")`, `device("cuda", 1)`, `device(1)` (which is cuda:1).

    type, index   "cuda" and 1; the index is None if none was given ("cuda" is not equal to "cuda:0")

    `with device(...):` makes it the default device of the thread inside the block; as a decorator, inside a function.
    RuntimeError for unknown names and bad indices, TypeError for other arguments.
    """

    __slots__ = ("index", "type")

    def __new__(cls, type: str | int | device | None = None, index: int | None = None, *, device: Any = None) -> Self:
        given = type if type is not None else device
        if index is None:
            if given.__class__ is cls:
                return given
            if given.__class__ is str:
                return _interned.get(given) or _intern(*_parse(given))
            if isinstance(given, str):
                return _intern(*_parse(str(given)))
            number = _as_index(given)
            if number is None:
                raise TypeError("device() received an invalid combination of arguments - got "
                                f"({'' if given is None else _class_name(given)}), but expected one of: a device, "
                                "a string such as 'cpu' or 'cuda:0', (str type, int index), or an index of CUDA")
            return _intern("cuda", _checked_index(number))
        if not isinstance(given, str):
            raise TypeError(f"device(): argument 'type' (position 1) must be str, not {_class_name(given)}")
        number = _as_index(index)
        if number is None:
            raise TypeError(f"device(): argument 'index' (position 2) must be int, not {_class_name(index)}")
        name, inner = _parse(given)
        if inner is not None:
            raise RuntimeError(f"type (string) must not include an index because index was passed explicitly: {given}")
        return _intern(name, _checked_index(number))

    def __init_subclass__(cls, **kwargs: Any) -> NoReturn:
        raise TypeError("type 'engine.device' is not an acceptable base type")

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        if name in device.__slots__:
            raise AttributeError(f"attribute '{name}' of 'engine.device' objects is not writable")
        raise AttributeError(f"'engine.device' object has no attribute '{name}'")

    def __delattr__(self, name: str) -> NoReturn:
        self.__setattr__(name, None)

    def __repr__(self) -> str:
        index = "" if self.index is None else f", index={self.index}"
        return f"device(type='{self.type}'{index})"

    def __str__(self) -> str:
        return _text(self.type, self.index)

    def __reduce__(self) -> tuple:
        return device, (self.type,) if self.index is None else (self.type, self.index)

    def __copy__(self) -> device:
        return self

    def __deepcopy__(self, memo: dict) -> device:
        return self

    def __enter__(self) -> Self:
        _state.inside += (self,)
        return self

    def __exit__(self, *raised: object) -> None:
        _state.inside = _state.inside[:-1]

    def __call__(self, function: Callable) -> Callable:
        """Decorator: `function` with this device as the default device during each call."""

        @functools.wraps(function)
        def on_device(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return on_device


def _text(name: str, index: int | None) -> str:
    return name if index is None else f"{name}:{index}"


def _intern(name: str, index: int | None) -> device:
    """The one device object for a checked type and index. Two threads may both make one; setdefault keeps the first."""
    text = _text(name, index)
    found = _interned.get(text)
    if found is None:
        made = object.__new__(device)
        object.__setattr__(made, "type", name)
        object.__setattr__(made, "index", index)
        found = _interned.setdefault(text, made)
    return found


def _parse(text: str) -> tuple[str, int | None]:
    """Split "cuda:1" into ("cuda", 1), "cuda" into ("cuda", None), with PyTorch's errors; no leading zeros."""
    if not text:
        raise RuntimeError("Device string must not be empty")
    name, colon, digits = text.partition(":")
    if name not in TYPES:
        if name.rstrip("0123456789") in TYPES:
            raise RuntimeError(f"Invalid device string: '{text}'")
        raise RuntimeError(f"Expected one of {', '.join(TYPES)} device type at start of device string: {name}")
    if not colon:
        return name, None
    if not (digits.isascii() and digits.isdigit()) or (digits[0] == "0" and digits != "0"):
        raise RuntimeError(f"Invalid device string: '{text}'")
    if len(digits) > len(str(MAX_INDEX)):
        raise RuntimeError(f"Invalid device string: '{text}': an index is at most {MAX_INDEX}")
    return name, _checked_index(int(digits))


def _as_index(x: Any) -> int | None:
    """`x` as a Python int if it is an integer (NumPy's too) and no bool, else None."""
    if x is None or isinstance(x, (bool, str)):
        return None
    try:
        return operator.index(x)
    except TypeError:
        return None


def _checked_index(index: int) -> int:
    if index < 0:
        raise RuntimeError(f"Device index must not be negative, got {index}")
    if index > MAX_INDEX:
        raise RuntimeError(f"Device index must be at most {MAX_INDEX}, got {index}")
    return index


def _class_name(x: Any) -> str:
    return type(x).__name__


CPU = device("cpu")


# --- the default device ----------------------------------------------------------------------------------------------


class _State(threading.local):
    """What a thread chose; the class attributes are what every thread begins with."""

    chosen = CPU  # by set_default_device
    inside = ()  # its open `with device(...)` blocks, innermost last


_state = _State()


def get_default_device() -> device:
    """Where this thread's new tensors go: the innermost `with device(...)`, else `set_default_device`, else the CPU."""
    return _state.inside[-1] if _state.inside else _state.chosen


def set_default_device(device: device | str | int | None) -> None:
    """Set the default device of this thread; None is the CPU. Open `with device(...)` blocks still decide first."""
    _state.chosen = CPU if device is None else as_device(device)


def as_device(x: device | str | int | None) -> device:
    """The device meant by a `device=` argument: None is the default, an int an index of CUDA; errors as in `device`."""
    if x.__class__ is device:
        return x
    return get_default_device() if x is None else device(x)


# --- what this machine has -------------------------------------------------------------------------------------------


@functools.cache
def _cuda_devices() -> tuple[int, str]:
    """How many CUDA devices the driver shows, and if none, why. Asks the driver library itself, once, without Numba.

    ENGINE_CUDA=emulate: two devices that the CPU imitates (kernels.cuda.emulated).
    """
    if os.environ.get("ENGINE_CUDA") == "emulate":
        return 2, ""
    names = ("nvcuda.dll",) if sys.platform == "win32" else ("libcuda.so.1", "libcuda.so")
    for name in names:
        try:
            driver = ctypes.CDLL(name)
            break
        except OSError:
            continue
    else:
        return 0, ("Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed "
                   f"its driver ({names[0]} could not be loaded)")
    count = ctypes.c_int(0)
    code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if code or not count.value:
        reason = f", the driver answers with CUDA error {code}" if code else ""
        return 0, f"No CUDA GPUs are available{reason}: check nvidia-smi and the variable CUDA_VISIBLE_DEVICES"
    return count.value, ""


def require_available(place: device) -> None:
    """Raise DeviceError (a RuntimeError and AssertionError) with what is missing unless tensors can live on `place`."""
    if place.type == "cpu":
        return
    if place.type != "cuda":
        raise DeviceError(f"device {place} is not available: this engine computes on cpu and cuda. Use device='cpu'")
    count, reason = _cuda_devices()
    if not count:
        raise DeviceError(f"device {place} is not available (in PyTorch: Torch not compiled with CUDA enabled). "
                          f"{reason}; or use device='cpu'")
    if place.index is not None and place.index >= count:
        raise DeviceError(f"CUDA error: invalid device ordinal: {place} asked for, but there are {count} CUDA devices, "
                          f"cuda:0 to cuda:{count - 1}")
