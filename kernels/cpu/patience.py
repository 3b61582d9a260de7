"""Ctrl-C for kernels with loops that may not end: a word that such loops read, and a call that they make every million turns.

A signal's handler runs in Python, in the main thread, between two instructions of Python's; a kernel is one instruction. So a loop
asks now and then (`ask`), which lets handlers run. While a `Guarded` kernel runs, the handler of Ctrl-C only takes note, and the
word tells all loops to end; when the kernel has come back, the user's own handler has its turn, in the place of a result. Called by
`kernels.table` and the pool; for kernels of users.
"""
from __future__ import annotations

import _signal  # the plain functions: those of `signal` make enumerations of their results, which takes longer than a kernel
import ctypes
import signal
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

TURNS = (1 << 20) - 1           # a loop asks when its count of turns has none of these bits, the pool when it has waited so often
_stop = ctypes.c_int64(0)
_running: list[list] = []       # of each guarded call: the frame in which Ctrl-C found it, if it did
_lock = threading.RLock()        # the handler may run where this thread holds it


@ctypes.CFUNCTYPE(ctypes.c_int64)
def ask() -> int:
    """Let handlers of signals run; not 0 when the loop shall end."""
    time.sleep(0)
    return _stop.value


def _note(number: int, frame: object) -> None:
    """The handler of Ctrl-C while a kernel runs. It must not raise: `ask` is called by machine code."""
    with _lock:
        for call in _running:
            call[:] = [frame]
    _stop.value = 1


_installed = False


def install() -> None:
    """Make both names known to kernels that are linked from now on."""
    global _installed
    if not _installed:
        from llvmlite import binding as llvm
        llvm.add_symbol("engine_patience", ctypes.cast(ask, ctypes.c_void_p).value)
        llvm.add_symbol("engine_stop", ctypes.addressof(_stop))
        _installed = True


class Guarded:
    """A ufunc whose kernel has loops that may be told to end."""

    def __init__(self, ufunc: np.ufunc):
        self.ufunc = ufunc
        self.nin, self.nout, self.__name__ = ufunc.nin, ufunc.nout, ufunc.__name__

    def __call__(self, *arrays, **options):
        return self._watched(lambda: self.ufunc(*arrays, **options))

    def large(self, arrays: Sequence[np.ndarray], results: Sequence[np.dtype]):
        """The same for large operands, into pooled memory."""
        from . import sheets
        return self._watched(lambda: sheets.run(self.ufunc, arrays, results))

    def _watched(self, run: Callable):
        while _stop.value:                      # until the calls that were interrupted are over
            time.sleep(0.001)
        call: list = []
        before = _signal.getsignal(signal.SIGINT) if threading.get_ident() == threading.main_thread().ident else None
        with _lock:
            _running.append(call)
        if callable(before):
            _signal.signal(signal.SIGINT, _note)
        try:
            result = run()
        finally:
            if callable(before):
                _signal.signal(signal.SIGINT, before)
            with _lock:
                _running[:] = [c for c in _running if c is not call]
                if not any(_running):
                    _stop.value = 0
        if call:
            if callable(before) and before is not signal.default_int_handler:
                before(signal.SIGINT, call[0])
            raise KeyboardInterrupt(f"{self.__name__}: stopped in one of its loops")
        return result
