"""Which device is current, and what it is: name, capability, properties."""
from __future__ import annotations

import dataclasses
from typing import Any, Self

from kernels.cuda import device as cuda

from .. import devices
from ..errors import DeviceError


@dataclasses.dataclass(frozen=True)
class CudaDeviceProperties:
    """What the driver says of a device. Memory in bytes, clock rate in kHz."""
    name: str
    major: int
    minor: int
    total_memory: int
    multi_processor_count: int
    warp_size: int
    max_threads_per_block: int
    max_threads_per_multi_processor: int
    regs_per_multiprocessor: int
    shared_memory_per_block: int
    L2_cache_size: int
    clock_rate: int
    is_integrated: int


def index_of(device: Any) -> int:
    """The index of a `device=` argument of this package: a device of CUDA, its name, an int; None is the current one.

    Errors: ValueError for a device that is not CUDA's, DeviceError where it is not there.
    """
    if device is None:
        found = devices.device("cuda", cuda.current())
    elif isinstance(device, int) and not isinstance(device, bool):
        if device < 0:
            raise DeviceError(f"CUDA error: invalid device ordinal: {device}")
        found = devices.device("cuda", device)
    else:
        found = devices.device(device)
    if found.type != "cuda":
        raise ValueError(f"Expected a cuda device, but got: {found}")
    devices.require_available(found)
    return cuda.current() if found.index is None else found.index


def current_device() -> int:
    """The index of the device that "cuda" means in this thread."""
    return index_of(None)


def set_device(device: Any) -> None:
    """Let "cuda" mean another device in this thread."""
    cuda.state.device = index_of(device)


class device:
    """Context manager: "cuda" means this device inside the block. None or a negative index changes nothing."""

    def __init__(self, device: Any) -> None:
        self.index = None if device is None or (isinstance(device, int) and device < 0) else index_of(device)

    def __enter__(self) -> Self:
        self.before = cuda.state.device
        if self.index is not None:
            cuda.state.device = self.index
        return self

    def __exit__(self, *raised: object) -> None:
        cuda.state.device = self.before


def get_device_name(device: Any = None) -> str:
    """The product's name."""
    index = index_of(device)
    return cuda.get(index).library.name(index)


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """(major, minor) compute capability."""
    return cuda.get(index_of(device)).capability


def get_device_properties(device: Any = None) -> CudaDeviceProperties:
    """Name, capability, sizes."""
    index = index_of(device)
    library = cuda.get(index).library
    asked = [f.name for f in dataclasses.fields(CudaDeviceProperties) if f.name not in ("name", "total_memory")]
    return CudaDeviceProperties(name=library.name(index), total_memory=library.total_memory(index),
                                **{name: library.attribute(index, name) for name in asked})


def synchronize(device: Any = None) -> None:
    """Wait until all work of a device has ended."""
    cuda.get(index_of(device)).synchronize()
