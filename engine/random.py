"""Generators of random numbers and the default one: manual_seed, seed, get_rng_state, fork_rng.

A generator is a seed and an offset, counted in blocks of Philox (kernels.philox says which element uses which words):
a call takes the blocks it needs and moves the offset on, so that equal seeds give equal numbers on any device and for
any number of threads. The functions that draw (rand, randn, ...) are in `engine.functions.random`.
"""
from __future__ import annotations

import contextlib
import os
import struct
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from kernels.cpu import randoms

from . import devices, dtypes
from .errors import DeviceError, NumberError
from .tensor import KIND, Tensor, wrap

FIRST_SEED = 67280421310721             # of a new generator, as in PyTorch
_STATE = struct.Struct("<QQ")
_WORD = (1 << 64) - 1


class Generator:
    """A stream of random numbers of its own: `Generator().manual_seed(1)`, then `rand(3, generator=g)`."""

    __slots__ = ("__weakref__", "_device", "_lock", "_offset", "_seed")

    def __init__(self, device: Any = "cpu") -> None:
        place = devices.as_device(device)
        if place.type != "cpu":
            devices.require_available(place)
            raise DeviceError(f"Cannot get a generator for {place}: this build draws on the CPU")
        self._device, self._seed, self._offset, self._lock = place, FIRST_SEED, 0, threading.Lock()

    @property
    def device(self) -> devices.device:
        """Where it draws."""
        return self._device

    def manual_seed(self, seed: int) -> Generator:
        """Start again from a seed, from -2**63 to 2**64 - 1; returns the generator."""
        if isinstance(seed, bool) or not hasattr(seed, "__index__"):
            raise RuntimeError(f"manual_seed expected a long, but got {type(seed).__name__}")
        seed = seed.__index__()
        if not -(1 << 63) <= seed <= _WORD:
            raise NumberError("Overflow when unpacking long long")
        with self._lock:
            self._seed, self._offset = seed & _WORD, 0
        return self

    def seed(self) -> int:
        """Start again from a seed that the operating system draws; returns it."""
        drawn = int.from_bytes(os.urandom(8), "little") >> 1
        self.manual_seed(drawn)
        return drawn

    def initial_seed(self) -> int:
        """The seed it started from."""
        return self._seed

    def get_state(self) -> Tensor:
        """Seed and offset as 16 bytes, a uint8 tensor."""
        with self._lock:
            state = _STATE.pack(self._seed, self._offset)
        return wrap(np.frombuffer(bytearray(state), np.uint8), KIND[dtypes.uint8])

    def set_state(self, new_state: Tensor) -> None:
        """Go to a state that `get_state` gave. TypeError for what is no uint8 tensor, RuntimeError for another size."""
        if not isinstance(new_state, Tensor):
            raise TypeError(f"expected a engine.ByteTensor, but got {type(new_state).__name__}")
        if new_state._kind.dtype is not dtypes.uint8:
            raise TypeError("RNG state must be a engine.ByteTensor")
        state = np.ascontiguousarray(new_state._array).tobytes()
        if len(state) != _STATE.size:
            raise RuntimeError(f"Expected a Generator state of size {_STATE.size} but found the input RNG state size "
                               f"to be {len(state)}")
        with self._lock:
            self._seed, self._offset = _STATE.unpack(state)

    def clone_state(self) -> Generator:
        """Another generator in the same state."""
        made = Generator(self._device)
        made._seed, made._offset = self._seed, self._offset
        return made

    def get_offset(self) -> int:
        """Blocks used since the seed."""
        return self._offset

    def set_offset(self, offset: int) -> None:
        """Go to the block with this number."""
        with self._lock:
            self._offset = offset & _WORD

    def reserve(self, blocks: int) -> tuple[int, int]:
        """The seed, and the number of the first of so many blocks, which are the caller's from now on."""
        with self._lock:
            seed, first = self._seed, self._offset
            self._offset = (first + blocks) & _WORD
        return seed, first

    def __reduce__(self) -> Any:
        return _rebuild, (self._device, self._seed, self._offset)

    def __repr__(self) -> str:
        return f"<engine.Generator device={str(self._device)!r} seed={self._seed} offset={self._offset}>"


def _rebuild(device, seed, offset) -> Generator:
    made = Generator(device)
    made._seed, made._offset = seed, offset
    return made


default_generator = Generator()
default_generator.seed()
if hasattr(os, "register_at_fork"):     # a fork may happen while another thread holds the lock
    os.register_at_fork(after_in_child=lambda: setattr(default_generator, "_lock", threading.Lock()))


def reserved(generator: Generator, blocks: int) -> Tensor:
    """Seed and first block of so many that are reserved, as the operand of an operator that draws itself: uint64 (2,)."""
    return wrap(randoms.reserved(generator.reserve, blocks), KIND[dtypes.uint64])


def manual_seed(seed: int) -> Generator:
    """Seed the default generator and return it. ValueError beyond -2**63 ... 2**64 - 1."""
    return default_generator.manual_seed(int(seed))


def seed() -> int:
    """Seed the default generator from the operating system; returns the seed."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed that the default generator started from."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """The state of the default generator, a uint8 tensor."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Put the default generator in a state that `get_rng_state` gave."""
    default_generator.set_state(new_state)


@contextlib.contextmanager
def fork_rng(devices: Any = None, enabled: bool = True, **_ignored: Any) -> Iterator[None]:
    """Restore the default generator at the end of the block."""
    state = default_generator.get_state() if enabled else None
    try:
        yield
    finally:
        if state is not None:
            default_generator.set_state(state)
