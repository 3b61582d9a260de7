"""What the cache of device memory holds (`kernels.cuda.memory`), in bytes."""
from __future__ import annotations

from typing import Any

from kernels.cuda import device as cuda

from .places import index_of


def memory_allocated(device: Any = None) -> int:
    """Held by tensors."""
    return cuda.get(index_of(device)).memory.allocated


def max_memory_allocated(device: Any = None) -> int:
    """The most that tensors have held since the start or `reset_peak_memory_stats`."""
    return cuda.get(index_of(device)).memory.most_allocated


def memory_reserved(device: Any = None) -> int:
    """Held by tensors and by the cache."""
    return cuda.get(index_of(device)).memory.reserved


def max_memory_reserved(device: Any = None) -> int:
    """The most that tensors and cache have held since the start or `reset_peak_memory_stats`."""
    return cuda.get(index_of(device)).memory.most_reserved


def reset_peak_memory_stats(device: Any = None) -> None:
    """Begin to count the peaks anew."""
    memory = cuda.get(index_of(device)).memory
    memory.most_allocated, memory.most_reserved = memory.allocated, memory.reserved


def empty_cache() -> None:
    """Give what no tensor holds back to the driver, on the devices that were used."""
    from .. import devices
    for index in range(devices._cuda_devices()[0] if cuda.get.cache_info().currsize else 0):
        cuda.get(index).memory.empty()


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """(free, total) as the driver sees them."""
    index = index_of(device)
    return cuda.get(index).library.memory_info(index)


def memory_summary(device: Any = None, abbreviated: bool = False) -> str:
    """The figures as text."""
    index = index_of(device)
    free, total = mem_get_info(index)
    rows = {"held by tensors": memory_allocated(index), "most held by tensors": max_memory_allocated(index),
            "held with the cache": memory_reserved(index), "most held with the cache": max_memory_reserved(index),
            "free on the device": free, "of the device in all": total}
    return "\n".join([f"memory of cuda:{index}, bytes", *(f"  {name:<26}{number:>16,}" for name, number in rows.items())])
