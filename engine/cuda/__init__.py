"""`engine.cuda`: devices, streams, events and memory of NVIDIA GPUs, with PyTorch's names.

Kernels and the driver are in `kernels.cuda`; tensors on a device are made by `device="cuda"` and `.to`. ENGINE_CUDA=emulate gives
two devices that the CPU imitates, slowly, with every access checked. Importing this package asks the driver for nothing.
"""
from __future__ import annotations

from typing import Any

from kernels.cuda.driver import OutOfMemoryError

from .. import devices
from ..random import get_rng_state as _host_state
from ..random import initial_seed, manual_seed, seed
from ..random import set_rng_state as _set_host_state
from .memory import (
    empty_cache,
    max_memory_allocated,
    max_memory_reserved,
    mem_get_info,
    memory_allocated,
    memory_reserved,
    memory_summary,
    reset_peak_memory_stats,
)
from .places import (
    CudaDeviceProperties,
    current_device,
    device,
    get_device_capability,
    get_device_name,
    get_device_properties,
    set_device,
    synchronize,
)
from .streams import Event, Stream, StreamContext, current_stream, default_stream, set_stream, stream

__all__ = [
    "CudaDeviceProperties", "Event", "OutOfMemoryError", "Stream", "StreamContext", "current_device", "current_stream",
    "default_stream", "device", "device_count", "empty_cache", "get_device_capability", "get_device_name",
    "get_device_properties", "get_rng_state", "init", "initial_seed", "is_available", "is_initialized", "manual_seed",
    "manual_seed_all", "max_memory_allocated", "max_memory_reserved", "mem_get_info", "memory_allocated", "memory_reserved",
    "memory_summary", "reset_peak_memory_stats", "seed", "set_device", "set_rng_state", "set_stream", "stream", "synchronize",
]


def is_available() -> bool:
    """Whether there is a device: an NVIDIA driver with at least one GPU, or the emulation. Needs no CUDA wheel."""
    return devices._cuda_devices()[0] > 0


def device_count() -> int:
    """How many devices the driver shows."""
    return devices._cuda_devices()[0]


def init() -> None:
    """Prepare the current device, which its first use does as well. DeviceError where there is none."""
    synchronize()


def is_initialized() -> bool:
    """Whether a device of this process has been used."""
    from kernels.cuda import device as places
    return places.get.cache_info().currsize > 0


def manual_seed_all(seed: int) -> None:
    """As `manual_seed`: the CPU and all devices draw from one generator, whose numbers are the same everywhere."""
    manual_seed(seed)


def get_rng_state(device: Any = "cuda") -> Any:
    """The state of the generator that all devices share, uint8 on the CPU."""
    return _host_state()


def set_rng_state(new_state: Any, device: Any = "cuda") -> None:
    """Set the state of the generator that all devices share."""
    _set_host_state(new_state)
