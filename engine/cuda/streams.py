"""Streams, in which work runs in order, and events, which mark a place in one and measure the time between two."""
from __future__ import annotations

import contextlib
import itertools
import threading
from typing import Any, Self

from kernels.cuda import device as cuda

from .. import devices
from .places import index_of

_POOL = 32              # streams of each device and priority; as PyTorch's, they are never destroyed but used in turn
_pool: dict[tuple[int, int, int], Any] = {}
_turns = itertools.count()
_lock = threading.Lock()


class Stream:
    """A queue of work of one device. `device`: as elsewhere; `priority`: negative ones run first.

    There are 32 for each device and priority, given out in turn: more `Stream` objects than that share them.
    Memory that a tensor gave back is used again by the stream that it was made for: a tensor that another stream still works on
    must be kept until that stream was waited for, or marked by `Tensor.record_stream`.
    """

    def __init__(self, device: Any = None, priority: int = 0) -> None:
        self.index = index_of(device)
        self._library = cuda.get(self.index).library
        place = self.index, priority, next(_turns) % _POOL
        with _lock:
            if place not in _pool:
                self._library.bind(self.index)
                _pool[place] = self._library.make("cuStreamCreateWithPriority", 1, priority)     # 1: waits for no other stream
        self._handle = _pool[place]
        self.priority = priority

    @property
    def device(self) -> devices.device:
        return devices.device("cuda", self.index)

    @property
    def cuda_stream(self) -> int:
        """The driver's handle as a number; 0 is the default stream."""
        return 0 if self._handle is None else self._handle.value

    def query(self) -> bool:
        """Whether all work has ended."""
        self._library.bind(self.index)          # the default stream means that of the bound device
        return self._library.done("cuStreamQuery", self._handle)

    def synchronize(self) -> None:
        """Wait until all work has ended."""
        self._library.bind(self.index)
        self._library.call("cuStreamSynchronize", self._handle)

    def wait_event(self, event: Event) -> None:
        """Later work of this stream waits for an event."""
        if event._handle is not None:
            self._library.bind(self.index)
            self._library.call("cuStreamWaitEvent", self._handle, event._handle, 0)

    def wait_stream(self, stream: Stream) -> None:
        """Later work of this stream waits for what another one has been given so far."""
        self.wait_event(stream.record_event())

    def record_event(self, event: Event | None = None) -> Event:
        """Mark this place: a new event, or the given one."""
        event = Event() if event is None else event
        event.record(self)
        return event

    def __enter__(self) -> Self:
        self._entered = StreamContext(self)
        self._entered.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._entered.__exit__(*raised)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and (self.index, self.cuda_stream) == (other.index, other.cuda_stream)

    def __hash__(self) -> int:
        return hash((self.index, self.cuda_stream))

    def __repr__(self) -> str:
        return f"<engine.cuda.Stream device=cuda:{self.index} cuda_stream={self.cuda_stream:#x}>"


class _Existing(Stream):
    """The stream of a handle that is there already."""

    def __init__(self, index: int, handle: Any) -> None:
        self.index, self._handle, self._library, self.priority = index, handle, cuda.get(index).library, 0


class Event:
    """A mark in a stream. `enable_timing`: for `elapsed_time`; `blocking`: waiting threads sleep."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False) -> None:
        self.enable_timing = enable_timing
        self._flags = (0 if enable_timing else 2) | (1 if blocking else 0)
        self._handle: Any = None
        self._library: Any = None

    def record(self, stream: Stream | None = None) -> None:
        """Mark the place where a stream (the current one) is now."""
        stream = current_stream() if stream is None else stream
        stream._library.bind(stream.index)
        if self._handle is None:
            self._library = stream._library
            self._handle = self._library.make("cuEventCreate", self._flags)
        self._library.call("cuEventRecord", self._handle, stream._handle)

    def wait(self, stream: Stream | None = None) -> None:
        """Later work of a stream (the current one) waits for this event."""
        (current_stream() if stream is None else stream).wait_event(self)

    def query(self) -> bool:
        """Whether the work before the mark has ended; true for an event that was never recorded."""
        return self._handle is None or self._library.done("cuEventQuery", self._handle)

    def synchronize(self) -> None:
        """Wait until the work before the mark has ended."""
        if self._handle is not None:
            self._library.call("cuEventSynchronize", self._handle)

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this event to a later one. ValueError unless both were recorded with `enable_timing`."""
        if not (self.enable_timing and end_event.enable_timing):
            raise ValueError("Both events must be created with argument 'enable_timing=True'.")
        if self._handle is None or end_event._handle is None:
            raise ValueError("Both events must be recorded before calculating elapsed time.")
        return self._library.elapsed(self._handle, end_event._handle)

    def __del__(self) -> None:
        if self._handle is not None:
            with contextlib.suppress(Exception):        # the process may be ending
                self._library.call("cuEventDestroy_v2", self._handle)

    def __repr__(self) -> str:
        return f"<engine.cuda.Event {'unrecorded' if self._handle is None else hex(self._handle.value)}>"


def current_stream(device: Any = None) -> Stream:
    """The stream that this thread's work on a device goes to."""
    index = index_of(device)
    return _Existing(index, cuda.state.streams.get(index))


def default_stream(device: Any = None) -> Stream:
    """The stream that is current unless another was chosen."""
    return _Existing(index_of(device), None)


def set_stream(stream: Stream) -> None:
    """Let this thread's work on the stream's device go to it, and make that device the current one."""
    cuda.state.streams[stream.index] = stream._handle
    cuda.state.device = stream.index


class StreamContext:
    """Context manager: this thread's work goes to a stream inside the block. None changes nothing."""

    def __init__(self, stream: Stream | None) -> None:
        self.stream = stream

    def __enter__(self) -> None:
        if self.stream is not None:
            self.before = cuda.state.device, cuda.state.streams.get(self.stream.index)
            set_stream(self.stream)

    def __exit__(self, *raised: object) -> None:
        if self.stream is not None:
            cuda.state.device, cuda.state.streams[self.stream.index] = self.before


def stream(stream: Stream | None) -> StreamContext:
    """The context manager of a stream."""
    return StreamContext(stream)
