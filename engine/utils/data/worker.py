"""The side of a worker process: it gets indices, loads batches, and sends them back; `workers.py` is the other side.

A batch travels as one pickled message without its arrays' contents, followed by these as they lie in memory, through a pipe:
nothing is named or shared, so nothing can be left behind when a process is killed. Sending has a thread of its own, so that
the next batch is loaded while the last one waits to be read.
"""
from __future__ import annotations

import io
import pickle
import queue
import random
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection, parent_process, reduction
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from ... import random as engine_random
from .dataset import Dataset
from .fetch import make_fetcher


@dataclass(frozen=True)
class WorkerInfo:
    """What a worker knows of itself: `id` of `num_workers`, the `seed` of its random numbers, its copy of the data set."""

    id: int
    num_workers: int
    seed: int
    dataset: Dataset


_here: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """About the worker process that this is; None in the main process."""
    return _here


@dataclass
class Task:
    """What a worker is to do: everything that a new process needs to know."""

    dataset: Dataset
    batched: bool
    collate_fn: Callable[[Any], Any]
    drop_last: bool
    base_seed: int
    init_fn: Callable[[int], None] | None
    id: int
    num_workers: int


class End:
    """Sent instead of a batch: the worker's stream has ended."""


class Again:
    """Sent to a worker to start the data set anew, and back as the answer, behind all that was asked for before."""


class Fault:
    """An error on its way to the main process, where `reraise` raises it with the worker's traceback in its text."""

    def __init__(self, error: BaseException, where: str):
        self.kind, self.where = type(error), where
        self.text = "".join(traceback.format_exception(error))

    def reraise(self) -> None:
        """Raise an error of the same class; RuntimeError where its class does not take a text."""
        text = f"Caught {self.kind.__name__} {self.where}.\nOriginal {self.text}"
        if self.kind is KeyError:
            raise KeyError(_Text(text))
        try:
            error = self.kind(text)
        except Exception:
            error = RuntimeError(text)
        raise error from None


class _Text(str):
    """Text that KeyError shows as it is, with its lines."""

    def __repr__(self) -> str:
        return str(self)


# --- messages ---------------------------------------------------------------------------------------------------------

def packed(thing: Any) -> list[Any]:
    """A message and the memory of the arrays in it, as buffers to send one after the other."""
    buffers: list[pickle.PickleBuffer] = []
    stream = io.BytesIO()
    reduction.ForkingPickler(stream, 5, True, buffers.append).dump(thing)
    raw = [buffer.raw() for buffer in buffers]
    return [pickle.dumps([len(r) for r in raw]), stream.getbuffer(), *raw]


def send(channel: Connection, parts: list[Any]) -> None:
    """Send what `packed` gave."""
    for part in parts:
        channel.send_bytes(part)


def receive(channel: Connection) -> Any:
    """What the other side packed; the arrays lie in memory of their own. EOFError where it is gone."""
    sizes, message = pickle.loads(channel.recv_bytes()), channel.recv_bytes()
    buffers = []
    for size in sizes:
        memory = np.empty(size, np.uint8)
        if size:
            channel.recv_bytes_into(memory)
        else:
            channel.recv_bytes()
        buffers.append(memory)
    return pickle.loads(message, buffers=buffers)


# --- the process ------------------------------------------------------------------------------------------------------

def work(task: Task, asked: Connection, answers: Connection) -> None:
    """A worker's life: until it is told to stop, or the main process is gone."""
    try:
        _seed(task)
        outbox: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=_send_all, args=(outbox, answers), daemon=True).start()
        _serve(task, asked, outbox)
    except KeyboardInterrupt:           # Ctrl-C reaches all processes; the main one reports it
        pass


def _seed(task: Task) -> None:
    """Random numbers of its own, which the base seed decides; one thread, because the workers share the machine."""
    global _here
    from ... import set_num_threads
    set_num_threads(1)
    seed = task.base_seed + task.id
    random.seed(seed)
    engine_random.manual_seed(seed)
    words = [task.id, task.base_seed & 0xFFFFFFFF, task.base_seed >> 32, 0]
    np.random.seed(np.random.SeedSequence(words).generate_state(4))     # neighbouring seeds would give related streams there
    _here = WorkerInfo(task.id, task.num_workers, seed, task.dataset)


def _serve(task: Task, asked: Connection, outbox: queue.SimpleQueue) -> None:
    where = f"in DataLoader worker process {task.id}"
    fetcher, fault, ended = None, None, False
    try:
        if task.init_fn is not None:
            task.init_fn(task.id)
        fetcher = make_fetcher(task.dataset, task.batched, task.collate_fn, task.drop_last)
    except Exception as error:
        fault = Fault(error, where)
    parent = parent_process()
    while True:
        ready = connection.wait([asked, parent.sentinel])
        if asked not in ready:
            return                      # the main process is gone
        try:
            index = asked.recv()
        except (EOFError, OSError):
            return
        if index is None:
            return
        if index is Again:
            fetcher, ended = make_fetcher(task.dataset, task.batched, task.collate_fn, task.drop_last), False
            outbox.put(packed(Again))
        elif ended:
            continue
        elif fault is not None:
            outbox.put(packed(fault))
            fault = None
        else:
            answer = _answer(fetcher, index[0], where)
            ended = answer is End
            outbox.put(_packed_safely(answer, where))


def _answer(fetcher: Any, index: Any, where: str) -> Any:
    try:
        return fetcher.fetch(index)
    except StopIteration as error:
        return End if hasattr(fetcher, "ended") else Fault(error, where)
    except Exception as error:
        return Fault(error, where)


def _packed_safely(answer: Any, where: str) -> list[Any]:
    """A message; where an answer or an error's class cannot be pickled, one that says so."""
    try:
        return packed(answer)
    except Exception as error:
        fault = Fault(error, where)
        if isinstance(answer, Fault):
            fault.text = answer.text
        fault.kind = RuntimeError
        return packed(fault)


def _send_all(outbox: queue.SimpleQueue, answers: Connection) -> None:
    """The sending thread: until the main process stops reading."""
    try:
        while True:
            send(answers, outbox.get())
    except (BrokenPipeError, ConnectionError, OSError):
        return
