"""Loading in other processes, seen from the main one: who gets which indices, in which order answers are given, how it ends.

`MultiProcessIterator` is what a DataLoader with workers is iterated by. Indices go round the workers; the batch that is due is
read from the one worker that has it, so answers need no sorting. `worker.py` is the other side.
"""
from __future__ import annotations

import collections
import itertools
import multiprocessing
import os
import time
import warnings
import weakref
from multiprocessing import connection
from typing import Any

from .iterator import LoaderIterator
from .worker import Again, End, Fault, Task, receive, work

PATIENCE = 5.0          # seconds that workers have to end on their own


class MultiProcessIterator(LoaderIterator):
    """One pass over a DataLoader by its worker processes; with persistent workers, one pass after the other.

    Errors: what the worker raised, with its traceback; RuntimeError for a worker that was killed and after a timeout.
    """

    def __init__(self, loader: Any):
        super().__init__(loader)
        if loader.prefetch_factor <= 0:
            raise AssertionError("prefetch_factor must be greater than 0 for MultiProcessingDataLoaderIter")
        self._ahead, self._in_order, self._timeout = loader.prefetch_factor, loader.in_order, loader.timeout
        self._processes: list[Any] = []
        self._asking: list[connection.Connection] = []
        self._answers: list[connection.Connection] = []
        self._end = weakref.finalize(self, shut_down, os.getpid(), self._processes, self._asking, self._answers)
        try:
            self._start(loader)
        except BaseException:
            self._end()
            raise
        self._begin()

    @property
    def ended(self) -> bool:
        """Whether the processes are gone."""
        return not self._end.alive

    def _start(self, loader: Any) -> None:
        context = loader.multiprocessing_context or multiprocessing.get_context()
        for k in range(loader.num_workers):
            asked, ask = context.Pipe(duplex=False)
            answer, answered = context.Pipe(duplex=False)
            task = Task(loader.dataset, self._batched, loader.collate_fn, loader.drop_last, self._base_seed, loader.worker_init_fn,
                        k, loader.num_workers)
            process = context.Process(target=work, args=(task, asked, answered), daemon=True)
            self._asking.append(ask)
            self._answers.append(answer)
            with warnings.catch_warnings():
                # Python warns of forking beside threads; the engine's own hold no lock that a child could wait for
                warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork", category=DeprecationWarning)
                process.start()
            self._processes.append(process)
            asked.close()
            answered.close()

    def _begin(self) -> None:
        """Ask for the first batches of a pass."""
        self._alive = [True] * len(self._processes)                 # workers whose data has not ended
        self._turns = itertools.cycle(range(len(self._processes)))
        self._pending: collections.deque[int] = collections.deque()     # the workers that were asked, in order
        for _ in range(self._ahead * len(self._processes)):
            self._ask()

    def reset(self, loader: Any) -> None:
        """Begin another pass with the same processes; what is left of the last one is thrown away."""
        super().reset(loader)
        for k in range(len(self._processes)):
            self._tell(k, Again)
            while self._receive(k) is not Again:
                pass
        self._begin()

    def _ask(self) -> None:
        """Give the next indices to the next worker that still has data."""
        if not any(self._alive):
            return
        try:
            index = next(self._indices)
        except StopIteration:
            return
        k = next(k for k in self._turns if self._alive[k])
        self._pending.append(k)
        self._tell(k, (index,))

    def _tell(self, k: int, message: Any) -> None:
        try:
            self._asking[k].send(message)
        except (BrokenPipeError, ConnectionError, OSError):
            raise self._died(k) from None

    def _receive(self, k: int) -> Any:
        """The next answer of a worker."""
        answers, process = self._answers[k], self._processes[k]
        ready = connection.wait([answers, process.sentinel], self._timeout or None)
        if answers in ready:
            try:
                return receive(answers)
            except (EOFError, OSError):
                raise self._died(k) from None
        if process.sentinel in ready:
            raise self._died(k)
        raise RuntimeError(f"DataLoader timed out after {self._timeout} seconds")

    def _died(self, k: int) -> RuntimeError:
        process = self._processes[k]
        process.join(PATIENCE)
        return RuntimeError(f"DataLoader worker (pid(s) {process.pid}) exited unexpectedly")

    def _due(self) -> int:
        """Take the worker whose answer is due off the list: the first one asked, or without order, the first one ready."""
        if not self._in_order:
            ready = connection.wait([self._answers[k] for k in set(self._pending)], 0)
            for k in self._pending:
                if self._answers[k] in ready:
                    self._pending.remove(k)
                    return k
        return self._pending.popleft()

    def load(self) -> Any:
        while self._pending:
            k = self._due()
            if not self._alive[k]:          # its data ended before it came to this
                continue
            try:
                answer = self._receive(k)
            except BaseException:
                self._end()
                self._pending.clear()
                raise
            if answer is End:
                self._alive[k] = False
                self._ask()
                continue
            self._ask()
            if isinstance(answer, Fault):
                answer.reraise()
            return answer
        if not self._persistent:
            self._end()
        raise StopIteration


def shut_down(owner: int, processes: list, asking: list, answers: list) -> None:
    """End worker processes: by telling them, then by force. Nothing in a child that inherited the lists."""
    if os.getpid() != owner:
        return
    for ask in asking:
        try:
            ask.send(None)
        except (OSError, ValueError):       # gone, or closed already
            continue
        finally:
            ask.close()
    for answer in answers:                  # a worker that waits to send wakes up
        answer.close()
    until = time.monotonic() + PATIENCE
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
        if process.is_alive():
            process.terminate()
            process.join(PATIENCE)
        if process.is_alive():
            process.kill()
            process.join()
