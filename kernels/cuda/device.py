"""One CUDA device as kernels see it: memory, copies, launches on the current stream.

`get(index)` gives the device of an index. `empty`, `put` and `read` speak in `launch.View`s, whose `owner` gives the memory back
when the last view of it is gone; `run` takes the launches that `kernels.cuda.launch` and its kin describe. Called by the
kernels of records (`kernels.cuda.records`) and by `engine.device_arrays`.
"""
from __future__ import annotations

import contextlib
import functools
import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..source import ITEMSIZE
from . import compiler
from .driver import Function, library
from .launch import Launch, View, contiguous
from .memory import Memory


class _State(threading.local):
    """What a thread works on."""

    device = 0

    def __init__(self):
        self.streams: dict[int, Any] = {}       # device -> handle of its current stream; the default one is None


state = _State()


class Device:
    """A device, its memory and its loaded kernels."""

    def __init__(self, index: int):
        self.index, self.library = index, library()
        self.capability = (self.library.attribute(index, "major"), self.library.attribute(index, "minor"))
        self.memory = Memory(self.library, index)
        self._functions: dict[str, Function] = {}
        self._lock = threading.Lock()

    @property
    def stream(self) -> Any:
        """The handle of this thread's stream."""
        return state.streams.get(self.index)

    def empty(self, dtype: str, shape: Sequence[int]) -> View:
        """New memory that nobody has written, in C order. OutOfMemoryError where there is not so much."""
        stream = self.stream
        block = self.memory.take(math.prod(shape) * ITEMSIZE[dtype], None if stream is None else stream.value)
        return contiguous(block.address, dtype, tuple(shape))._replace(owner=block)

    def put(self, array: np.ndarray) -> View:
        """A copy of a host array, in C order."""
        view = self.empty(array.dtype.name, array.shape)
        if array.size:
            array = np.ascontiguousarray(array)
            self.library.bind(self.index)
            self.library.upload(view.address, array.ctypes.data, array.nbytes, self.stream)
        return view

    def read(self, view: View) -> np.ndarray:
        """The elements as a host array in C order; waits for the work before."""
        made = np.empty(view.shape, view.dtype)
        if not made.size:
            return made
        if view.strides != contiguous(0, view.dtype, view.shape).strides:
            from .transposes import copy
            dense = self.empty(view.dtype, view.shape)
            self.run(copy(dense, view))
            view = dense
        self.library.bind(self.index)
        self.library.download(made.ctypes.data, view.address, made.nbytes, self.stream)
        self.library.call("cuStreamSynchronize", self.stream)
        return made

    def run(self, launches: Sequence[Launch]) -> None:
        """Start launches, in order, on the current stream."""
        if not launches:
            return
        self.library.bind(self.index)
        stream, functions = self.stream, self._functions
        for program, grid, arguments in launches:
            function = functions.get(program.symbol) or self._load(program)
            function.launch(grid, arguments, stream)

    def _load(self, program: compiler.Program) -> Function:
        with self._lock:
            found = self._functions.get(program.symbol)
            if found is None:
                found = self._functions[program.symbol] = self.library.load(program, self._image(program))
        return found

    def _image(self, program: compiler.Program) -> bytes:
        """Machine code where the wheel's linker is there, else PTX, which the driver assembles."""
        text = compiler.ptx(program, self.capability)
        if not self.library.emulated:
            with contextlib.suppress(ImportError):
                return compiler.assemble(text, self.capability)[0]
        return text.encode()

    def synchronize(self) -> None:
        """Wait until all work of the device has ended."""
        self.library.bind(self.index)
        self.library.call("cuCtxSynchronize")


@functools.cache
def get(index: int) -> Device:
    """The device of an index."""
    return Device(index)


def current() -> int:
    """The index of the current device of this thread."""
    return state.device
