"""From a program to a callable: look in the store, compile when missing, load with llvmlite, make a NumPy (g)ufunc.

A process whose kernels are all in the store never imports Numba. A kernel becomes a real `numpy.ufunc`, so NumPy does
broadcasting, strides, overlap, allocation and the release of the GIL; the loop it calls is `pool.loop`, which runs our
kernel on this thread or, when there is enough work, on several (kernels.cpu.pool).
"""
from __future__ import annotations

import ctypes
import dataclasses
import os
import threading
from collections.abc import Callable

import numpy as np

from .. import packs, store
from . import patience


@dataclasses.dataclass(frozen=True)
class Program:
    """Source text of one kernel and what it needs.

    `functions` maps names in the source to (plain Python function, type of its number literals or None);
    `signature` is a gufunc's ("(r,b)->(b)") or "" for a pointwise loop; `work` is the number of elements that one outer
    step stands for in a pointwise loop (heavier functions split over threads earlier); `rows` makes the program of the same
    pointwise kernel over rows.
    """
    name: str
    source: str
    functions: dict[str, tuple[Callable, str | None]] = dataclasses.field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    signature: str = ""
    entry: str = "loop"
    externals: dict[str, tuple[str, tuple[str, ...]]] = dataclasses.field(default_factory=dict)
    fastmath: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    work: int = 1
    rows: Callable[[], Program] | None = None

    @property
    def interruptible(self) -> bool:
        """Whether there are loops in its functions that can be told to end (`kernels.cpu.patience`)."""
        return any(getattr(function, "loops", False) for function, _ in self.functions.values())

    def key(self, machine: str | None = None) -> str:
        """A hash of what decides the machine code; with `machine` "" of the source alone."""
        functions = [f"{n}:{t}:{store.identity(f)}" for n, (f, t) in sorted(self.functions.items())]
        machine = store.machine() if machine is None else machine
        return store.digest(machine, self.name, self.source, self.entry, repr(sorted(self.externals.items())),
                            repr(sorted(self.fastmath.items())), *["interruptible"] * self.interruptible, *functions)


_lock = threading.RLock()
if hasattr(os, "register_at_fork"):     # no child may be born while another thread of its parent compiles
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
_engines: list = []
compilations = 0        # how many kernels this process has compiled; tests count them
watchers: list[Callable[[Program], object]] = []        # told of every program that is loaded


def machine_code(program: Program) -> tuple[dict, bytes]:
    """A program's object code, from the store or fresh from Numba, and what it says of itself: symbol, needs, name."""
    global compilations
    key = program.key()
    found = store.load(key)
    if found is None and packs.there():
        found = packs.load(program.key(""))
    if found is None:
        from .compiler import compile_program
        symbol, needs, code = compile_program(program)
        compilations += 1
        found = {"symbol": symbol, "needs": needs, "name": program.name}, code
        store.save(key, *found)
    return found


def link(program: Program) -> int:
    """The address of a program's entry in this process. ImportError where a symbol that it needs is not to be had."""
    from llvmlite import binding as llvm
    with _lock:
        about, code = machine_code(program)
        if program.interruptible:
            patience.install()
        for tell in watchers:
            tell(program)
        if not _engines:
            llvm.initialize_native_target()
            llvm.initialize_native_asmprinter()
        target = llvm.Target.from_default_triple().create_target_machine()
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target)
        missing = [name for name in about["needs"] if not llvm.address_of_symbol(name)]
        if missing:         # LLVM would leave a call to address 0
            raise ImportError(f"{program.name}: this platform's C library lacks {', '.join(missing)}")
        engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(code))
        engine.finalize_object()
        _engines.append(engine)
        return engine.get_function_address(about["symbol"])


# --- NumPy's C functions ----------------------------------------------------------------------------------------------

def _ufunc_api():
    import numpy._core._multiarray_umath as umath
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return ctypes.cast(get(umath._UFUNC_API, None), ctypes.POINTER(ctypes.c_void_p))


_FROM_FUNC, _FROM_FUNC_WITH_SIGNATURE = 1, 31       # positions in NumPy's ufunc C API table
_keep_alive: list = []


def make_ufunc(program: Program) -> np.ufunc:
    """The program as a NumPy ufunc, or gufunc where it has a signature."""
    from . import pool
    with _lock:
        kernel = link(program)
        ufunc = _numpy_ufunc(program, program.signature, *pool.wrap(program, kernel))
        if program.rows is not None:
            _pointwise[ufunc] = program
        return ufunc


def make_kernel(program: Program) -> Callable:
    """As `make_ufunc`; where loops can be told to end, they are at Ctrl-C."""
    ufunc = make_ufunc(program)
    return patience.Guarded(ufunc) if program.interruptible else ufunc


def make_sheet(program: Program, kernel: int, within: tuple[bool, ...]) -> np.ufunc:
    """A linked kernel over rows as a gufunc, "(m),()->(m)": its loop receives all outer steps at once.

    `within` tells which operands have the dimension of a row; the others have one element a row.
    """
    from . import pool
    words = ["(m)" if inside else "()" for inside in within]
    count = len(program.inputs)
    signature = f"{','.join(words[:count])}->{','.join(words[count:])}"
    with _lock:
        return _numpy_ufunc(program, signature, *pool.wrap_sheet(program, kernel, within))


def make_loop(program: Program, loop: int, data: int) -> np.ufunc:
    """A gufunc of the program's name, operands and signature whose loop lies at an address and is called with `data`."""
    with _lock:
        return _numpy_ufunc(program, program.signature, loop, data)


def rows_of(ufunc: np.ufunc) -> Program | None:
    """The program of a pointwise ufunc's kernel over rows; None for a ufunc that is not ours."""
    program = _pointwise.get(ufunc)
    return None if program is None else program.rows()


def loop_of(ufunc: np.ufunc) -> tuple[int, int] | None:
    """The address of the loop of a ufunc of ours, and of the data that it is called with; None for another ufunc."""
    return _loops.get(ufunc)


_pointwise: dict[np.ufunc, Program] = {}
_loops: dict[np.ufunc, tuple[int, int]] = {}


def _numpy_ufunc(program: Program, signature: str, loop: int, data: int) -> np.ufunc:
    types = [np.dtype(t).num for t in (*program.inputs, *program.outputs)]
    loops, datas = (ctypes.c_void_p * 1)(loop), (ctypes.c_void_p * 1)(data)
    kinds = (ctypes.c_char * len(types))(*[bytes([t]) for t in types])
    name, doc, core = program.name.encode(), b"", signature.encode()
    arguments = [ctypes.cast(loops, ctypes.c_void_p), ctypes.cast(datas, ctypes.c_void_p),
                 ctypes.cast(kinds, ctypes.c_void_p), 1, len(program.inputs), len(program.outputs), -1, name, doc, 0]
    types_of_arguments = [ctypes.c_void_p] * 3 + [ctypes.c_int] * 4 + [ctypes.c_char_p] * 2 + [ctypes.c_int]
    if core:
        arguments.append(core)
        types_of_arguments.append(ctypes.c_char_p)
    entry = _ufunc_api()[_FROM_FUNC_WITH_SIGNATURE if core else _FROM_FUNC]
    ufunc = ctypes.PYFUNCTYPE(ctypes.py_object, *types_of_arguments)(entry)(*arguments)
    _keep_alive.append((ufunc, loops, datas, kinds, name, doc, core))
    _loops[ufunc] = loop, data
    return ufunc
