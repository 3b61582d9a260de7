"""Launches run on the CPU by the interpreter of PTX: the same programs, arguments and memory layout as on a GPU, with its checks.

    device = Emulator()
    x, out = device.put(array), device.empty("float32", (3, 4))
    counts = device.run(launch.pointwise(about, [out], [x]))
    device.get(out)

Called by the tests of the CUDA kernels, by `python -m perf --gpu`, and wherever `ENGINE_CUDA=emulate` is asked for.
"""
from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from . import compiler, ptx
from .launch import Launch, View, contiguous


class Emulator:
    """An emulated device of one compute capability."""

    def __init__(self, capability: tuple[int, int] = (7, 5)):
        self.capability = capability
        self.memory = ptx.Memory()

    def empty(self, dtype: str, shape: Sequence[int]) -> View:
        """New memory that nobody has written."""
        size = max(1, int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize)
        return contiguous(self.memory.allocate(size), dtype, tuple(shape))

    def put(self, array: np.ndarray) -> View:
        """A copy of an array, with its strides where it is a view of a larger one."""
        base = array
        while isinstance(base.base, np.ndarray):
            base = base.base
        if array.size == 0 or not base.flags.c_contiguous:
            base = array = np.ascontiguousarray(array)
        address = self.memory.allocate(max(1, base.nbytes))
        if base.nbytes:
            self.memory.write(address, base)
        offset = array.__array_interface__["data"][0] - base.__array_interface__["data"][0]
        return View(address + offset, array.dtype.name, array.shape, array.strides)

    def read(self, view: View) -> np.ndarray:
        """The elements of a view as an array in C order."""
        if view.size == 0:
            return np.empty(view.shape, view.dtype)
        low = sum(min(0, (n - 1) * s) for n, s in zip(view.shape, view.strides, strict=True))
        high = sum(max(0, (n - 1) * s) for n, s in zip(view.shape, view.strides, strict=True)) + np.dtype(view.dtype).itemsize
        data = np.ascontiguousarray(self.memory.read(view.address + low, high - low))
        return np.ndarray(view.shape, view.dtype, data, -low, view.strides).copy()

    get = read

    def run(self, launches: Sequence[Launch], check=ptx.CHECKS) -> ptx.Counts | None:
        """Run launches in order; their figures added up, None where there was nothing to run."""
        total = None
        for program, grid, arguments in launches:
            counts = self.program(program).launch(program.symbol, (grid, 1, 1), (program.threads, 1, 1), list(arguments),
                                                  self.memory, check=check)
            total = counts if total is None else total + counts
        return total

    def program(self, program: compiler.Program) -> ptx.Program:
        """The PTX of a program, parsed."""
        return _loaded(program.symbol, compiler.ptx(program, self.capability))


@functools.lru_cache(maxsize=256)
def _loaded(symbol: str, text: str) -> ptx.Program:
    return ptx.load(text)
