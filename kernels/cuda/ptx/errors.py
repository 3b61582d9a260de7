"""What can go wrong in an emulated kernel, as exceptions that say where.

Every error is a `PtxError`; its class says what kind of fault it is. The machine raises them with kernel, block, thread and
PTX line; where the PTX has line information, the line of the source too.
"""
from __future__ import annotations


class PtxError(RuntimeError):
    """A fault of a kernel, or of a launch.

    `kernel`: its name; `block`, `thread`: (x, y, z); `line`: number of the PTX line, from 1; `text`: that instruction;
    `source`: "file:line" of the program, where the PTX tells. Each is None where it does not apply.
    """

    def __init__(self, message: str, *, kernel: str | None = None, block: tuple[int, ...] | None = None,
                 thread: tuple[int, ...] | None = None, line: int | None = None, text: str | None = None,
                 source: str | None = None):
        self.kernel, self.block, self.thread, self.line, self.text, self.source = kernel, block, thread, line, text, source
        where = []
        if kernel is not None:
            where.append(f"kernel {kernel}")
        if block is not None:
            where.append(f"block {block}")
        if thread is not None:
            where.append(f"thread {thread}")
        if line is not None:
            where.append(f"PTX line {line}" + (f" `{text}`" if text else ""))
        if source is not None:
            where.append(source)
        super().__init__(f"{message}\n  in {', '.join(where)}" if where else message)


class SyntaxFault(PtxError, ValueError):
    """Text that is not PTX, or that names what it does not declare."""


class UnsupportedInstruction(PtxError, NotImplementedError):
    """PTX that this interpreter does not know: tensor cores, textures, asynchronous copies, ..."""


class LaunchError(PtxError, ValueError):
    """A launch that a driver would refuse: no such kernel, wrong arguments, too many threads, too much shared memory."""


class MemoryFault(PtxError):
    """An access out of bounds, misaligned, to freed memory, or to read-only memory."""


class UninitialisedRead(PtxError):
    """A read of memory that nobody has written."""


class RaceError(PtxError):
    """Two threads use the same bytes, one of them writes, and no barrier is between them."""


class BarrierError(PtxError):
    """A barrier that not all threads of the block reach."""


class WarpError(PtxError):
    """A shuffle, vote or match whose lanes are not all there."""


class Trap(PtxError):
    """The kernel executed `trap`, or met an assertion."""


class StepLimit(PtxError):
    """The launch did not end within its limit of steps."""
