"""Threads for large kernels: native workers that spin briefly, then sleep, and never touch the interpreter.

Every ufunc's loop is the one compiled here. It runs the kernel at once when there is little to do; otherwise it cuts the
outer dimension (or, for a fold with a single outer step, its free dimension) into chunks, which this thread and the workers
claim with an atomic counter. No chunk's result depends on another's or on where it begins, so that results do not depend on
the number of threads. Workers are made by Python's own portable thread functions and wait on its locks; they need no GIL,
so a fork leaves a child without workers (`ensure` makes new ones) and an exit can take them at any moment.
"""
from __future__ import annotations

import atexit
import ctypes
import os
import threading
import time

import numpy as np

from . import patience
from .patience import TURNS

# Words of the pool's block; hot ones lie on cache lines of their own.
BUSY, NEXT, ACTIVE, GENERATION, CHUNKS, TASK, WORKERS, QUIT, EXITED, FIRST_WORKER = 0, 8, 16, 24, 32, 33, 34, 35, 36, 40
# Words of a worker's block.
POOL, SLEEPING, LOCK, WORKER_WORDS = 0, 1, 2, 8
MOST_WORKERS = 255
GRAIN = 1 << 15             # elements of light work below which one thread is faster
STRETCH = 512               # neighbouring results of a fold that one thread works on, if that leaves work for the others
SPINS = 8000                # about 200 us of `pause` before a worker sleeps
CLOSED = 1 << 62

_RUN_CHUNK = '''
@inline
def run_chunk(task, c):
    begin = c * word(task, 7)
    count = min(word(task, 7), word(task, 8) - begin)
    args, dims = address(stack(256)), address(stack(128))
    table, steps = word(task, 9), word(task, 3)
    for k in range(word(task, 4)):
        column = word(table, k)
        set_word(args, k, word(word(task, 1), k) + (begin * word(steps, column) if column >= 0 else 0))
    for k in range(word(task, 5)):
        set_word(dims, k, word(word(task, 2), k))
    set_word(dims, word(task, 6), count)
    call_loop(word(task, 0), args, dims, steps, word(task, 10))
'''

_LOOP = _RUN_CHUNK + f'''
@inline
def claim(pool, task):
    while True:
        c = atomic_add(pool, {NEXT}, 1)
        if c >= word(pool, {CHUNKS}):
            break
        run_chunk(task, c)

def kernel(args, dimensions, steps, data):
    about = address(data)       # kernel, arguments, dimensions, grain, pool, second split, data, its columns, 0, 1, 2...
    n, nargs, ndims, pool = dimensions[0], word(about, 1), word(about, 2), word(about, 4)
    work = n
    for k in range(1, ndims):
        work *= dimensions[k]
    split, table = 0, about + 8 * (7 + nargs)
    if n == 1 and word(about, 5) > 0:
        split, table = word(about, 5), about + 8 * 7
    total = dimensions[split]
    workers = word(pool, {WORKERS})
    grain = word(about, 3)
    if work < grain or workers == 0 or total < 2 or atomic_swap_if(pool, {BUSY}, 0, 1) == 0:
        call_loop(word(about, 0), address(args), address(dimensions), address(steps), word(about, 6))
        return
    chunks = min(min(total, 2 * work // grain + 1), 4 * (workers + 1))      # few: each begins with memory that no prefetch foresaw
    chunk = (total + chunks - 1) // chunks
    if split > 0:                       # neighbouring results of a fold: whole tiles of lanes, long runs of memory
        chunk = (max(chunk, min({STRETCH}, (total + workers) // (workers + 1))) + 127) // 128 * 128
    elif chunk > 16:                    # whole cache lines, of transposed operands as well
        chunk = (chunk + 15) // 16 * 16 if chunk <= 64 else (chunk + 63) // 64 * 64
    task = address(stack(128))
    set_word(task, 0, word(about, 0))
    set_word(task, 1, address(args))
    set_word(task, 2, address(dimensions))
    set_word(task, 3, address(steps))
    set_word(task, 4, nargs)
    set_word(task, 5, ndims)
    set_word(task, 6, split)
    set_word(task, 7, chunk)
    set_word(task, 8, total)
    set_word(task, 9, table)
    set_word(task, 10, word(about, 6))
    set_word(pool, {TASK}, task)
    set_word(pool, {CHUNKS}, (total + chunk - 1) // chunk)
    atomic_store(pool, {NEXT}, 0)
    atomic_add(pool, {GENERATION}, 1)
    for k in range(workers):
        worker = pool + 8 * ({FIRST_WORKER} + {WORKER_WORDS} * k)
        if atomic_swap_if(worker, {SLEEPING}, 1, 0) == 1:
            PyThread_release_lock(word(worker, {LOCK}))
    claim(pool, task)
    atomic_store(pool, {NEXT}, {CLOSED})
    turns = 0
    while atomic_load(pool, {ACTIVE}) != 0:     # the task lives on this stack: leave only when nobody is in it
        breathe()
        turns += 1
        if turns & {TURNS} == 0:                # a worker may be in a loop without end
            engine_patience()
    atomic_store(pool, {BUSY}, 0)
'''

_WORKER = _RUN_CHUNK + f'''
def kernel(me):
    pool = word(me, {POOL})
    seen, idle = word(me, 3), 0
    while True:
        generation = atomic_load(pool, {GENERATION})
        if generation != seen:
            seen, idle = generation, 0
            atomic_add(pool, {ACTIVE}, 1)       # before claiming: whoever holds the task waits for us from here on
            while True:
                c = atomic_add(pool, {NEXT}, 1)
                if c >= word(pool, {CHUNKS}):
                    break
                run_chunk(word(pool, {TASK}), c)
            atomic_add(pool, {ACTIVE}, -1)
        elif atomic_load(pool, {QUIT}) != 0:
            atomic_add(pool, {EXITED}, 1)
            break
        elif idle < {SPINS}:
            idle += 1
            breathe()
        else:
            idle = 0
            atomic_store(me, {SLEEPING}, 1)
            changed = atomic_load(pool, {GENERATION}) != seen or atomic_load(pool, {QUIT}) != 0
            if not changed or atomic_swap_if(me, {SLEEPING}, 1, 0) == 0:
                PyThread_acquire_lock(word(me, {LOCK}), 1)
'''

_LOCKS = {"PyThread_release_lock": ("void", ("intp",)), "PyThread_acquire_lock": ("int32", ("intp", "int32"))}
_lock = threading.Lock()
_block = np.zeros(FIRST_WORKER + WORKER_WORDS * MOST_WORKERS, np.int64)
_keep_alive: list = []
_loop: int | None = None


def _usable_cores() -> int:
    named = os.environ.get("ENGINE_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS", "")
    if named.isdigit() and int(named) > 0:
        return min(int(named), MOST_WORKERS + 1)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


threads = _usable_cores()


def wrap(program, kernel: int) -> tuple[int, int]:
    """Address of the loop to give to NumPy for a kernel, and of the data that goes with it."""
    global _loop
    from .native import Program, link
    if _loop is None:
        patience.install()
        _loop = link(Program("pool", _LOOP, externals={
            "PyThread_release_lock": _LOCKS["PyThread_release_lock"], "engine_patience": ("int64", ())}))
    operands = [part.strip("() ").split(",") if part.strip("() ") else []
                for side in program.signature.split("->") for part in side.split("),(")] if program.signature else []
    nargs = len(program.inputs) + len(program.outputs)
    dims = list(dict.fromkeys(d for operand in operands for d in operand))
    columns, column = [-1] * nargs, nargs
    second = 0
    if "b" in dims:                     # the free dimension of a fold or scan: its chunks are independent as well
        second = 1 + dims.index("b")
        for k, operand in enumerate(operands):
            if "b" in operand:
                columns[k] = column + operand.index("b")
            column += len(operand)
    grain = max(64, GRAIN // program.work)
    data = np.array([kernel, nargs, 1 + len(dims), grain, _block.ctypes.data, second, 0, *columns, *range(nargs)], np.int64)
    _keep_alive.append(data)
    return _loop, data.ctypes.data


def unwrapped(loop: int, data: int) -> tuple[int, int]:
    """The kernel's own loop and data behind those that `wrap` gave; others as they are."""
    if loop != _loop:
        return loop, data
    about = (ctypes.c_int64 * 7).from_address(data)
    return about[0], about[6]


_SHEET = '''
def kernel(args, dimensions, steps, data):
    about = address(data)           # the kernel, how many operands, where each one's step within a row stands (-1: it has none)
    nargs = word(about, 1)
    count, inner, sheet = address(stack(8)), address(stack(256)), address(stack(264))
    set_word(count, 0, dimensions[1])
    set_word(sheet, 0, dimensions[0])
    for k in range(nargs):
        column = word(about, 2 + k)
        set_word(inner, k, steps[column] if column >= 0 else 0)
        set_word(sheet, 1 + k, steps[k])
    call_loop(word(about, 0), address(args), count, inner, sheet)
'''
_sheet: int | None = None


def wrap_sheet(program, kernel: int, within: tuple[bool, ...]) -> tuple[int, int]:
    """As `wrap`, for a pointwise kernel over rows; `within` tells which operands have more than one element a row."""
    global _sheet
    from .native import Program, link
    wrap(program, kernel)               # the loop itself
    if _sheet is None:
        _sheet = link(Program("sheet", _SHEET))
    nargs = len(within)
    columns = [nargs + sum(within[:k]) if inside else -1 for k, inside in enumerate(within)]
    about = np.array([kernel, nargs, *columns], np.int64)
    data = np.array([_sheet, nargs, 2, max(64, GRAIN // program.work), _block.ctypes.data, 0, about.ctypes.data,
                     *[-1] * nargs, *range(nargs)], np.int64)
    _keep_alive.extend([about, data])
    return _loop, data.ctypes.data


def ensure() -> None:
    """Start the workers if they are not there; called before large work, since native code cannot start threads."""
    if _block[WORKERS] == threads - 1:
        return
    from .native import Program, link
    with _lock:
        worker = link(Program("worker", _WORKER, entry="worker", externals={
            "PyThread_acquire_lock": _LOCKS["PyThread_acquire_lock"]}))
        api = ctypes.pythonapi
        api.PyThread_allocate_lock.restype = ctypes.c_void_p
        api.PyThread_acquire_lock.argtypes = [ctypes.c_void_p, ctypes.c_int]
        api.PyThread_start_new_thread.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        api.PyThread_start_new_thread.restype = ctypes.c_ulong
        wanted = threads - 1
        while _started() < wanted:
            k = _started()
            at = FIRST_WORKER + WORKER_WORDS * k
            handle = api.PyThread_allocate_lock()
            api.PyThread_acquire_lock(handle, 1)
            _block[at:at + 4] = _block.ctypes.data, 0, handle, _block[GENERATION]
            _workers.append(handle)
            if api.PyThread_start_new_thread(worker, _block.ctypes.data + 8 * at) == ctypes.c_ulong(-1).value:
                _workers.pop()
                break
        _block[WORKERS] = min(wanted, _started())


_workers: list[int] = []


def _started() -> int:
    return len(_workers)


def set_threads(count: int) -> None:
    """Use this many threads for large kernels. The results stay the same."""
    global threads
    if count < 1:
        raise RuntimeError("set_num_threads expects a positive integer")
    threads = min(count, MOST_WORKERS + 1)
    _block[WORKERS] = min(_block[WORKERS], threads - 1)


def _after_fork() -> None:
    """A child has none of its parent's workers, and its parent may have been in the middle of a task."""
    global _lock
    _lock = threading.Lock()
    _workers.clear()
    _block[[BUSY, ACTIVE, WORKERS, QUIT, EXITED]] = 0
    _block[NEXT] = CLOSED


def _stop() -> None:
    """Ask the workers to leave before their code is unmapped; one that stays asleep harms nothing."""
    _block[WORKERS] = 0
    _block[QUIT] = 1
    for k, handle in enumerate(_workers):
        at = FIRST_WORKER + WORKER_WORDS * k
        if _block[at + SLEEPING]:
            _block[at + SLEEPING] = 0
            ctypes.pythonapi.PyThread_release_lock(ctypes.c_void_p(handle))
    until = time.monotonic() + 0.5
    while _block[EXITED] < len(_workers) and time.monotonic() < until:
        time.sleep(0.0002)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_stop)
_block[NEXT] = CLOSED
