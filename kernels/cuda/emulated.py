"""The driver library in Python: the functions that `kernels.cuda.driver` calls, on the interpreter of PTX.

They take the arguments that the real ones take (ctypes objects and addresses), answer with the same codes, and keep memory that
the interpreter checks: bounds, lifetime, races, uninitialised reads. What a kernel did wrong is raised as it is (`ptx.PtxError`),
at the launch. Work is done when a call returns, so streams and events have nothing to wait for.
"""
from __future__ import annotations

import ctypes
import itertools
import os
import threading
import time
from typing import Any

import numpy as np

from . import ptx
from .ptx.memory import GLOBAL_BASE

DEVICES, CAPACITY = 2, 1 << 30          # emulated devices, and the bytes of each
_REACH = 40                             # log2 of the addresses that each device gives out, so that none means two things
_INVALID, _OUT_OF_MEMORY, _NOT_FOUND = 1, 2, 500
_WORDS = {_INVALID: b"invalid argument", _OUT_OF_MEMORY: b"out of memory", _NOT_FOUND: b"named symbol not found"}
_SIZES = {"b8": 1, "u8": 1, "s8": 1, "u16": 2, "s16": 2, "b16": 2, "u32": 4, "s32": 4, "b32": 4, "f32": 4, "u64": 8, "s64": 8,
          "b64": 8, "f64": 8}


def capability() -> tuple[int, int]:
    """What the emulated devices say they are: 7.5, or ENGINE_CUDA_CAPABILITY."""
    major, _, minor = os.environ.get("ENGINE_CUDA_CAPABILITY", "7.5").partition(".")
    return int(major), int(minor or 0)


def _number(x: Any) -> int:
    return int(getattr(x, "value", x) or 0)


def _give(reference: Any, value: Any) -> int:
    """Write a result where `ctypes.byref` points."""
    reference._obj.value = value
    return 0


class _Bound(threading.local):
    """The device that a thread has bound, as the driver keeps it."""

    index = 0


class Functions:
    """cuInit, cuMemAlloc_v2 and so on. All devices share addresses, as under unified addressing."""

    def __init__(self):
        self.memories = [ptx.Memory(CAPACITY) for _ in range(DEVICES)]
        for k, memory in enumerate(self.memories):
            memory._next += k << _REACH
        self._bound = _Bound()
        self._handles = itertools.count(1 << 12)
        self._things: dict[int, Any] = {}

    # --- devices ----------------------------------------------------------------------------------------------------------

    def cuInit(self, flags: int) -> int:
        return 0

    def cuGetErrorString(self, code: int, text: Any) -> int:
        return _give(text, _WORDS.get(code, b""))

    def cuDeviceGetCount(self, count: Any) -> int:
        return _give(count, DEVICES)

    def cuDeviceGet(self, device: Any, index: int) -> int:
        return _give(device, index) if 0 <= index < DEVICES else _INVALID

    def cuDeviceGetName(self, text: Any, size: int, device: Any) -> int:
        text.value = b"emulated device (PTX on the CPU)"
        return 0

    def cuDeviceGetAttribute(self, value: Any, which: int, device: Any) -> int:
        major, minor = capability()
        known = {16: 1, 1: 1024, 10: 32, 13: 1_000_000, 39: 1024, 8: 49152, 82: 65536, 38: 1 << 20, 18: 0, 75: major, 76: minor}
        return _give(value, known[which]) if which in known else _INVALID

    def cuDeviceTotalMem_v2(self, size: Any, device: Any) -> int:
        return _give(size, CAPACITY)

    def cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> int:
        return _give(context, 1 + _number(device))

    def cuCtxSetCurrent(self, context: Any) -> int:
        self._bound.index = _number(context) - 1
        return 0

    def cuCtxSynchronize(self) -> int:
        return 0

    def cuMemGetInfo_v2(self, free: Any, total: Any) -> int:
        _give(free, CAPACITY - self._current.allocated)
        return _give(total, CAPACITY)

    # --- memory -------------------------------------------------------------------------------------------------------------

    @property
    def _current(self) -> ptx.Memory:
        return self.memories[self._bound.index]

    def _memory(self, address: int) -> ptx.Memory:
        k = (address - GLOBAL_BASE) >> _REACH
        return self.memories[k if 0 <= k < DEVICES else 0]          # where it is none's, any of them says so

    def cuMemAlloc_v2(self, address: Any, size: Any) -> int:
        try:
            return _give(address, self._current.allocate(_number(size)))
        except MemoryError:
            return _OUT_OF_MEMORY

    def cuMemFree_v2(self, address: Any) -> int:
        self._memory(_number(address)).free(_number(address))
        return 0

    def cuMemHostAlloc(self, address: Any, size: Any, flags: int) -> int:
        memory = (ctypes.c_uint8 * _number(size))()
        self._things[ctypes.addressof(memory)] = memory
        return _give(address, ctypes.addressof(memory))

    def cuMemFreeHost(self, address: Any) -> int:
        return 0 if self._things.pop(_number(address), None) is not None else _INVALID

    def cuMemcpyHtoDAsync_v2(self, target: Any, source: Any, size: Any, stream: Any) -> int:
        data = np.frombuffer((ctypes.c_uint8 * _number(size)).from_address(_number(source)), np.uint8)
        self._memory(_number(target)).write(_number(target), data)
        return 0

    def cuMemcpyDtoHAsync_v2(self, target: Any, source: Any, size: Any, stream: Any) -> int:
        data = self._memory(_number(source)).read(_number(source), _number(size))
        ctypes.memmove(_number(target), data.ctypes.data, _number(size))
        return 0

    def cuMemcpyDtoDAsync_v2(self, target: Any, source: Any, size: Any, stream: Any) -> int:
        to, origin = self._memory(_number(target)), self._memory(_number(source))
        if to is origin:
            to.copy(_number(target), _number(source), _number(size))
        else:
            to.write(_number(target), origin.read(_number(source), _number(size)))
        return 0

    # --- streams and events: all work is done already -----------------------------------------------------------------------------

    def _new(self, reference: Any, thing: Any) -> int:
        handle = next(self._handles)
        self._things[handle] = thing
        return _give(reference, handle)

    def cuStreamCreateWithPriority(self, stream: Any, flags: int, priority: int) -> int:
        return self._new(stream, "stream")

    def cuStreamSynchronize(self, stream: Any) -> int:
        return 0

    def cuStreamQuery(self, stream: Any) -> int:
        return 0

    def cuStreamWaitEvent(self, stream: Any, event: Any, flags: int) -> int:
        return 0

    def cuStreamDestroy_v2(self, stream: Any) -> int:
        return 0 if self._things.pop(_number(stream), None) else _INVALID

    def cuEventCreate(self, event: Any, flags: int) -> int:
        return self._new(event, [None])

    def cuEventRecord(self, event: Any, stream: Any) -> int:
        self._things[_number(event)][0] = time.perf_counter()
        return 0

    def cuEventQuery(self, event: Any) -> int:
        return 0

    def cuEventSynchronize(self, event: Any) -> int:
        return 0

    def cuEventElapsedTime(self, milliseconds: Any, start: Any, end: Any) -> int:
        first, last = (self._things[_number(e)][0] for e in (start, end))
        return _INVALID if first is None or last is None else _give(milliseconds, (last - first) * 1e3)

    def cuEventDestroy_v2(self, event: Any) -> int:
        return 0 if self._things.pop(_number(event), None) else _INVALID

    # --- kernels ------------------------------------------------------------------------------------------------------------------

    def cuModuleLoadData(self, module: Any, image: Any) -> int:
        return self._new(module, ptx.load(image.value.decode()))

    def cuModuleGetFunction(self, function: Any, module: Any, name: bytes) -> int:
        program, symbol = self._things[_number(module)], name.decode()
        return self._new(function, (program, symbol)) if symbol in program.kernels else _NOT_FOUND

    def cuLaunchKernel(self, function: Any, x: int, y: int, z: int, threads_x: int, threads_y: int, threads_z: int,
                       shared: int, stream: Any, arguments: Any, extra: Any) -> int:
        program, symbol = self._things[_number(function)]
        data = ctypes.string_at(extra[1], ctypes.c_size_t.from_address(extra[3]).value)
        given, at = [], 0
        for _, kind in program.parameters(symbol):
            size = _SIZES[kind.lstrip(".")]
            at += -at % size
            given.append(np.frombuffer(data[at:at + size], np.uint8))
            at += size
        if at != len(data):
            return _INVALID
        program.launch(symbol, (x, y, z), (threads_x, threads_y, threads_z), given, self._current, shared, count=False)
        return 0
