"""NVIDIA's driver library by ctypes alone: devices, memory, streams, events, modules, launches.

A process whose kernels are in the store needs the driver and nothing else: no wheel, no numba. `Library` wraps the functions and
turns their codes into errors; `kernels.cuda.emulated` has the same functions in Python, on the interpreter of PTX, so that
everything above the functions themselves runs where there is no GPU. Source: CUDA Driver API reference, 12.x.
"""
from __future__ import annotations

import ctypes
import functools
import os
import struct
import sys
import threading
from collections.abc import Sequence
from typing import Any

from .compiler import Program

OUT_OF_MEMORY, NOT_READY = 2, 600
ATTRIBUTES = {"multi_processor_count": 16, "max_threads_per_block": 1, "warp_size": 10, "clock_rate": 13,
              "max_threads_per_multi_processor": 39, "shared_memory_per_block": 8, "regs_per_multiprocessor": 82,
              "L2_cache_size": 38, "is_integrated": 18, "major": 75, "minor": 76}
# one letter of `struct` for each dtype that a kernel takes
_LETTERS = {"address": "Q", "bool": "?", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I",
            "int64": "q", "uint64": "Q", "float16": "H", "float32": "f", "float64": "d"}
_END, _BUFFER, _SIZE = 0, 1, 2          # CU_LAUNCH_PARAM_...


class DriverError(RuntimeError):
    """What the driver answered."""


class OutOfMemoryError(RuntimeError):
    """No device memory for an allocation."""


class Library:
    """The functions of the driver, each raising for codes that mean failure."""

    def __init__(self, functions: Any, emulated: bool = False):
        self.functions, self.emulated = functions, emulated
        self._contexts: dict[int, ctypes.c_void_p] = {}
        self.call("cuInit", 0)

    def call(self, name: str, *arguments: Any) -> int:
        """One function; DriverError unless it answers 0."""
        code = getattr(self.functions, name)(*arguments)
        if code:
            raise DriverError(f"CUDA error: {self.describe(code)} (in {name})")
        return code

    def describe(self, code: int) -> str:
        """The driver's words for an error code."""
        text = ctypes.c_char_p()
        if self.functions.cuGetErrorString(code, ctypes.byref(text)) or not text.value:
            return f"unknown error {code}"
        return text.value.decode()

    # --- devices ----------------------------------------------------------------------------------------------------------

    def count(self) -> int:
        """How many devices."""
        found = ctypes.c_int()
        self.call("cuDeviceGetCount", ctypes.byref(found))
        return found.value

    def device(self, index: int) -> ctypes.c_int:
        """The handle of a device."""
        found = ctypes.c_int()
        self.call("cuDeviceGet", ctypes.byref(found), index)
        return found

    def name(self, index: int) -> str:
        """The product's name."""
        text = ctypes.create_string_buffer(256)
        self.call("cuDeviceGetName", text, 256, self.device(index))
        return text.value.decode()

    def attribute(self, index: int, which: str) -> int:
        """One of ATTRIBUTES."""
        found = ctypes.c_int()
        self.call("cuDeviceGetAttribute", ctypes.byref(found), ATTRIBUTES[which], self.device(index))
        return found.value

    def total_memory(self, index: int) -> int:
        """Bytes of a device."""
        found = ctypes.c_size_t()
        self.call("cuDeviceTotalMem_v2", ctypes.byref(found), self.device(index))
        return found.value

    def context(self, index: int) -> ctypes.c_void_p:
        """The primary context, which other libraries in the process share."""
        found = self._contexts.get(index)
        if found is None:
            found = ctypes.c_void_p()
            self.call("cuDevicePrimaryCtxRetain", ctypes.byref(found), self.device(index))
            self._contexts[index] = found
        return found

    def bind(self, index: int) -> None:
        """Let this thread's calls go to a device; another library may have bound another one meanwhile."""
        self.call("cuCtxSetCurrent", self.context(index))

    def memory_info(self, index: int) -> tuple[int, int]:
        """(free, total) bytes."""
        self.bind(index)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    # --- memory -------------------------------------------------------------------------------------------------------------

    def allocate(self, nbytes: int) -> int:
        """An address, 0 where there is not so much memory."""
        found = ctypes.c_uint64()
        code = self.functions.cuMemAlloc_v2(ctypes.byref(found), ctypes.c_size_t(nbytes))
        if code == OUT_OF_MEMORY:
            return 0
        if code:
            raise DriverError(f"CUDA error: {self.describe(code)} (in cuMemAlloc)")
        return found.value

    def free(self, address: int) -> None:
        """Give memory back to the driver; waits for the device."""
        self.call("cuMemFree_v2", ctypes.c_uint64(address))

    def pinned(self, nbytes: int) -> Pinned:
        """Page-locked host memory, which a device copies to and from without the processor."""
        found = ctypes.c_void_p()
        self.call("cuMemHostAlloc", ctypes.byref(found), ctypes.c_size_t(max(1, nbytes)), 1)       # 1: for all contexts
        return Pinned(self, found.value, nbytes)

    def upload(self, address: int, source: int, nbytes: int, stream: Any) -> None:
        """Host to device. Pageable memory is read before the call returns."""
        self.call("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(address), ctypes.c_void_p(source), ctypes.c_size_t(nbytes), stream)

    def download(self, target: int, address: int, nbytes: int, stream: Any) -> None:
        """Device to host; the caller waits for the stream."""
        self.call("cuMemcpyDtoHAsync_v2", ctypes.c_void_p(target), ctypes.c_uint64(address), ctypes.c_size_t(nbytes), stream)

    def copy(self, target: int, source: int, nbytes: int, stream: Any) -> None:
        """Device to device."""
        self.call("cuMemcpyDtoDAsync_v2", ctypes.c_uint64(target), ctypes.c_uint64(source), ctypes.c_size_t(nbytes), stream)

    # --- streams and events ---------------------------------------------------------------------------------------------------

    def make(self, function: str, *flags: Any) -> ctypes.c_void_p:
        """A new stream or event."""
        found = ctypes.c_void_p()
        self.call(function, ctypes.byref(found), *flags)
        return found

    def done(self, function: str, handle: Any) -> bool:
        """Whether a stream or event has come to its end, by its query function."""
        code = getattr(self.functions, function)(handle)
        if code and code != NOT_READY:
            raise DriverError(f"CUDA error: {self.describe(code)} (in {function})")
        return not code

    def elapsed(self, start: Any, end: Any) -> float:
        """Milliseconds between two events."""
        found = ctypes.c_float()
        self.call("cuEventElapsedTime", ctypes.byref(found), start, end)
        return found.value

    # --- kernels ------------------------------------------------------------------------------------------------------------------

    def load(self, program: Program, image: bytes) -> Function:
        """The kernel of a program, from machine code or PTX, in the context that is bound."""
        module, found = ctypes.c_void_p(), ctypes.c_void_p()
        text = ctypes.create_string_buffer(image)
        self.call("cuModuleLoadData", ctypes.byref(module), text)
        self.call("cuModuleGetFunction", ctypes.byref(found), module, program.symbol.encode())
        return Function(self, program, found)


class Pinned:
    """Page-locked host memory as NumPy takes it, given back when the object dies."""

    def __init__(self, library: Library, address: int, nbytes: int):
        self.library, self.address = library, address
        self.__array_interface__ = {"data": (address, False), "shape": (nbytes,), "typestr": "|u1", "version": 3}

    def __del__(self):
        self.library.call("cuMemFreeHost", ctypes.c_void_p(self.address))


class Function:
    """A loaded kernel: arguments are packed by a layout made once, because ctypes' own conversion of each costs microseconds."""

    def __init__(self, library: Library, program: Program, handle: ctypes.c_void_p):
        self.library, self.program, self.handle = library, program, handle
        self.layout = struct.Struct("@" + "".join(_LETTERS[d] for d in program.parameters))     # natural alignment, as CUDA's
        self.buffer = ctypes.create_string_buffer(max(1, self.layout.size))
        self.size = ctypes.c_size_t(self.layout.size)
        self.extra = (ctypes.c_void_p * 5)(_BUFFER, ctypes.addressof(self.buffer), _SIZE, ctypes.addressof(self.size), _END)
        self.lock = threading.Lock()
        self.start = library.functions.cuLaunchKernel

    def launch(self, grid: int, arguments: Sequence[Any], stream: Any) -> None:
        """Start it. The driver has copied the arguments when the call returns."""
        with self.lock:
            self.layout.pack_into(self.buffer, 0, *arguments)
            code = self.start(self.handle, grid, 1, 1, self.program.threads, 1, 1, 0, stream, None, self.extra)
        if code:
            raise DriverError(f"CUDA error: {self.library.describe(code)} (when launching {self.program.name})")


@functools.cache
def library() -> Library:
    """The driver of this machine, or its emulation where ENGINE_CUDA=emulate. DriverError where there is none."""
    if os.environ.get("ENGINE_CUDA") == "emulate":
        from .emulated import Functions
        return Library(Functions(), emulated=True)
    for name in ("nvcuda.dll",) if sys.platform == "win32" else ("libcuda.so.1", "libcuda.so"):
        try:
            return Library(ctypes.CDLL(name))
        except OSError:
            continue
    raise DriverError("Found no NVIDIA driver on your system")
