"""`engine.cuda`: what this machine has. The kernels, memory and streams of CUDA tensors are the work of a later issue."""
from __future__ import annotations

from .. import devices


def is_available() -> bool:
    """Whether an NVIDIA driver with at least one GPU is there; asks the driver library, needs no CUDA wheel."""
    return devices._cuda_devices()[0] > 0


def device_count() -> int:
    """How many GPUs the driver shows."""
    return devices._cuda_devices()[0]
