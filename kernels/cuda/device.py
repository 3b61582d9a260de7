"""One CUDA device as kernels see it: memory, copies, launches.

`get(index)` gives the device of an index. `empty`, `put` and `read` speak in `launch.View`s, whose `owner` gives the memory back
when the last view of it is gone; `run` takes the launches that `kernels.cuda.launch` and its kin describe. Called by the
kernels of records (`kernels.cuda.records`) and by `engine.device_arrays`.
"""
from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from ..source import ITEMSIZE
from .emulator import Emulator
from .launch import Launch, View, contiguous


class Block:
    """Memory of a device, given back when the object dies."""

    __slots__ = ("address", "device", "nbytes")

    def __init__(self, device: Device, address: int, nbytes: int):
        self.device, self.address, self.nbytes = device, address, nbytes

    def __del__(self):
        self.device.release(self.address)


class Device:
    """A device and its memory."""

    def __init__(self, index: int, library: Emulator):
        self.index, self.library, self.capability = index, library, library.capability

    def empty(self, dtype: str, shape: Sequence[int]) -> View:
        """New memory that nobody has written, in C order."""
        nbytes = max(1, math.prod(shape) * ITEMSIZE[dtype])
        block = Block(self, self.library.memory.allocate(nbytes), nbytes)
        return contiguous(block.address, dtype, tuple(shape))._replace(owner=block)

    def release(self, address: int) -> None:
        """Give memory back."""
        self.library.memory.free(address)

    def put(self, array: np.ndarray) -> View:
        """A copy of a host array, in C order."""
        view = self.empty(array.dtype.name, array.shape)
        if array.size:
            self.library.memory.write(view.address, np.ascontiguousarray(array))
        return view

    def read(self, view: View) -> np.ndarray:
        """The elements as a host array in C order; waits for the launches before."""
        return self.library.get(view)

    def run(self, launches: Sequence[Launch]) -> None:
        """Start launches, in order."""
        self.library.run(launches)

    def synchronize(self) -> None:
        """Wait until all launches have ended."""


@functools.cache
def get(index: int) -> Device:
    """The device of an index."""
    return Device(index, Emulator())


def current() -> int:
    """The index of the current device of this thread."""
    return 0
