"""Device memory that is used again: a cache of freed blocks for each device and stream.

Asking the driver costs as much as several launches, and giving back waits for the device. A block that dies goes to the free ones
of its stream and is given out again to work on that stream, which is in order; no waiting. Where other streams worked on it, too
(`Block.used_on`), it becomes free when the work that they had at its death is done. Sizes are rounded up to eight steps for
each power of two, so that they recur. Emulated memory is not cached: there each array is an allocation of its own, so that a
step beyond its end or a use after its end is noticed. Blocks die in finalizers, which run anywhere, also inside these functions:
they only hand over (`Memory.release`) and never wait. Called by `kernels.cuda.device`.
"""
from __future__ import annotations

import threading
from collections import defaultdict, deque
from typing import Any

from .driver import Library, OutOfMemoryError

SMALLEST = 512          # bytes of the smallest block


def rounded(nbytes: int) -> int:
    """The size of the block for so many bytes."""
    step = max(SMALLEST, 1 << max(0, nbytes.bit_length() - 4))
    return max(SMALLEST, -(-nbytes // step) * step)


class Block:
    """Memory of a device, given back when the object dies."""

    __slots__ = ("__weakref__", "address", "memory", "nbytes", "stream", "users")

    def __init__(self, memory: Memory, address: int, nbytes: int, stream: Any):
        self.memory, self.address, self.nbytes, self.stream = memory, address, nbytes, stream
        self.users: dict[Any, Any] = {}         # other streams that work on it, by number: the memory waits for them when it dies

    def used_on(self, number: Any, handle: Any) -> None:
        """Another stream (its number, None for the default one, and its handle) works on the memory."""
        if number != self.stream:
            self.users[number] = handle

    def __del__(self):
        self.memory.release(self.address, self.nbytes, self.stream, self.users)


class Memory:
    """The blocks of one device."""

    def __init__(self, library: Library, index: int):
        self.library, self.index = library, index
        self.free: dict[tuple[Any, int], deque] = defaultdict(deque)       # (stream, size) -> addresses
        self.dead: deque[tuple[int, int, Any, dict]] = deque()      # handed over by finalizers, not counted yet
        self.awaited: deque[tuple[list, int, int, Any]] = deque()   # (events of other streams, address, size, stream)
        self.lock = threading.Lock()
        self.allocated = self.reserved = self.most_allocated = self.most_reserved = 0

    def take(self, nbytes: int, stream: Any) -> Block:
        """A block of at least so many bytes for work on a stream (its number, None: the default one).

        OutOfMemoryError says what was asked, held and free.
        """
        size = max(1, nbytes) if self.library.emulated else rounded(nbytes)
        try:
            with self.lock:
                self._bury()
                self._collect()
                waiting = self.free.get((stream, size))
                address = waiting.pop() if waiting else self._more(size, nbytes)
                self.allocated += size
                self.most_allocated = max(self.most_allocated, self.allocated)
        finally:
            self._settle()
        return Block(self, address, size, stream)

    def release(self, address: int, nbytes: int, stream: Any, users: dict) -> None:
        """A block has died. Takes effect at once, or when the thread that is busy with this memory has finished."""
        self.dead.append((address, nbytes, stream, users))
        self._settle()

    def empty(self) -> None:
        """Give all free blocks back to the driver."""
        try:
            with self.lock:
                self._bury()
                self.library.bind(self.index)
                self._empty()
        finally:
            self._settle()

    def _more(self, size: int, nbytes: int) -> int:
        """The address of a new block from the driver; the cache is given back where it stands in the way."""
        self.library.bind(self.index)
        address = self.library.allocate(size)
        if not address:
            self._empty()
            address = self.library.allocate(size)
        if not address:
            raise self._exhausted(nbytes)
        self.reserved += size
        self.most_reserved = max(self.most_reserved, self.reserved)
        return address

    def _settle(self) -> None:
        """Bury the dead unless someone holds the lock; whoever holds it comes here after letting it go, so none is forgotten."""
        while self.dead and self.lock.acquire(blocking=False):
            try:
                self._bury()
            finally:
                self.lock.release()

    def _bury(self) -> None:
        """Count the dead blocks and make them free. The caller holds the lock."""
        while self.dead:
            address, nbytes, stream, users = self.dead.popleft()
            self.allocated -= nbytes
            if self.library.emulated:           # all work is done already
                self.reserved -= nbytes
                self.library.free(address)
            elif users:
                self.awaited.append(([self._mark(handle) for handle in users.values()], address, nbytes, stream))
            else:
                self.free[stream, nbytes].append(address)

    def _mark(self, handle: Any) -> Any:
        """An event at the present end of a stream's work."""
        self.library.bind(self.index)
        event = self.library.make("cuEventCreate", 2)           # 2: without timing
        self.library.call("cuEventRecord", event, handle)
        return event

    def _collect(self, wait: bool = False) -> None:
        """Make blocks free whose other streams have ended their work on them; `wait` for those that have not."""
        for _ in range(len(self.awaited)):
            events, address, nbytes, stream = self.awaited.popleft()
            while events and (self.library.done("cuEventQuery", events[-1]) or wait):
                event = events.pop()
                self.library.call("cuEventSynchronize", event)
                self.library.call("cuEventDestroy_v2", event)
            if events:
                self.awaited.append((events, address, nbytes, stream))
            else:
                self.free[stream, nbytes].append(address)

    def _empty(self) -> None:
        self._collect(wait=True)
        for (_, size), waiting in self.free.items():
            while waiting:
                self.library.free(waiting.pop())
                self.reserved -= size
        self.free.clear()

    def _exhausted(self, nbytes: int) -> OutOfMemoryError:
        free, total = self.library.memory_info(self.index)
        return OutOfMemoryError(
            f"CUDA out of memory. Tried to allocate {_amount(nbytes)}. GPU {self.index} has a total capacity of {_amount(total)} "
            f"of which {_amount(free)} is free. {_amount(self.allocated)} is held by tensors, "
            f"{_amount(self.reserved - self.allocated)} is kept for new ones (engine.cuda.empty_cache() gives it back)")


def _amount(nbytes: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if nbytes >= size:
            return f"{nbytes / size:.2f} {unit}"
    return f"{nbytes} bytes"
