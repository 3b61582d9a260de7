"""An interpreter of PTX: runs the code that NVVM made of a CUDA kernel on the CPU, exactly and with checks.

All threads of many blocks advance in lockstep as NumPy arrays. The interpreter knows nothing of Numba, of tensors or of a
GPU: `ENGINE_CUDA=emulate`, the tests of the CUDA kernels and `python -m perf --gpu` call it. It needs NumPy and the kernel
store (for an exact fused multiply-add).

    program = ptx.load(text)                              # parsed once, kept by content
    memory = ptx.Memory()                                 # the global memory of one device
    x = memory.allocate(4000)                             # an address
    memory.write(x, numpy_array)
    counts = program.launch("name", (grid, 1, 1), (256, 1, 1), [x, 1000, 2.5], memory)
    memory.read(x, 4000).view(numpy.float32)

It checks while it runs: bounds, alignment and lifetime of every access, races in shared and global memory, reads of memory
that nobody wrote, barriers and warp instructions that not all threads reach. Errors (subclasses of `PtxError`) name kernel,
block, thread and PTX line. Not modelled: the weak memory model beyond races, tensor cores, textures, asynchronous copies,
clusters, barriers of the whole grid; approximate instructions are correctly rounded.
"""
from .counters import Counts
from .errors import (
    BarrierError,
    LaunchError,
    MemoryFault,
    PtxError,
    RaceError,
    StepLimit,
    SyntaxFault,
    Trap,
    UninitialisedRead,
    UnsupportedInstruction,
    WarpError,
)
from .memory import Memory
from .program import CHECKS, Program, load

__all__ = ["BarrierError", "CHECKS", "Counts", "LaunchError", "Memory", "MemoryFault", "Program", "PtxError", "RaceError",
           "StepLimit", "SyntaxFault", "Trap", "UninitialisedRead", "UnsupportedInstruction", "WarpError", "load"]
