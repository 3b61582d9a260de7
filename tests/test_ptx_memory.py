"""The memory of an emulated device: allocations, copies, what was written, and what is refused."""
from __future__ import annotations

import numpy as np
import pytest

from kernels.cuda import ptx
from kernels.cuda.ptx import memory as module


def test_write_and_read(rng):
    memory = ptx.Memory()
    x = rng.normal(size=(3, 5))
    address = memory.allocate(x.nbytes)
    assert address % 256 == 0
    memory.write(address, x.T)
    assert np.array_equal(memory.read(address, 120).view(np.float64), x.T.ravel())
    memory.write(address + 8, np.float64([7.0]))
    assert memory.read(address + 8, 8).view(np.float64)[0] == 7 and memory.read(address, 0).size == 0


def test_fresh_memory_is_nan_and_unwritten():
    memory = ptx.Memory()
    address = memory.allocate(16)
    assert np.isnan(memory.read(address, 16).view(np.float32)).all() and not memory.written(address, 16).any()
    memory.fill(address + 4, 4, 3)
    assert memory.written(address, 16).tolist() == [4 <= k < 8 for k in range(16)]
    assert memory.read(address, 8).tolist() == [255] * 4 + [3] * 4
    memory.fill(address, 16)
    assert memory.written(address, 16).all()


def test_copies_keep_what_is_unwritten():
    memory = ptx.Memory()
    a, b = memory.allocate(8), memory.allocate(8)
    memory.fill(a, 4, 1)
    memory.fill(b, 8, 2)
    memory.copy(b, a, 8)
    assert memory.written(b, 8).tolist() == [True] * 4 + [False] * 4 and memory.read(b, 4).tolist() == [1] * 4
    memory.fill(a, 8, 9)
    memory.copy(b + 4, a, 4)
    assert memory.written(b, 8).all() and memory.read(b, 8).tolist() == [1] * 4 + [9] * 4


def test_addresses_are_never_used_twice_and_bytes_are_counted():
    memory = ptx.Memory(capacity=1000)
    a = memory.allocate(600)
    with pytest.raises(MemoryError, match="500 bytes asked, 600 held, 400 of 1000 free"):
        memory.allocate(500)
    memory.free(a)
    b = memory.allocate(500)
    assert b != a and (memory.allocated, memory.peak) == (500, 600)
    assert memory.allocate(0) != memory.allocate(0)
    with pytest.raises(ValueError, match="negative"):
        memory.allocate(-1)


def test_what_is_refused():
    memory = ptx.Memory()
    a = memory.allocate(64)
    for call in (lambda: memory.read(a, 65), lambda: memory.write(a + 60, np.zeros(8, np.uint8)), lambda: memory.read(5, 1),
                 lambda: memory.fill(a - 1, 1), lambda: memory.copy(a, a + 63, 2)):
        with pytest.raises(ptx.MemoryFault, match="bytes are not there"):
            call()
    with pytest.raises(ptx.MemoryFault, match="not the address of an allocation"):
        memory.free(a + 4)
    memory.free(a)
    with pytest.raises(ptx.MemoryFault, match="was freed before"):
        memory.free(a)
    with pytest.raises(ptx.MemoryFault, match="that was freed"):
        memory.read(a, 4)


def test_old_freed_allocations_are_forgotten(monkeypatch):
    monkeypatch.setattr(module, "_KEPT", 8)
    memory = ptx.Memory()
    kept = memory.allocate(32)
    memory.fill(kept, 32, 5)
    addresses = [memory.allocate(16) for _ in range(100)]
    for address in addresses:
        memory.free(address)
    assert len(memory._regions) < 30 and memory.read(kept, 32).tolist() == [5] * 32
    assert "that was freed" in memory.describe(addresses[-1]) and memory.allocated == 32
    with pytest.raises(ptx.MemoryFault):
        memory.read(addresses[0], 1)
