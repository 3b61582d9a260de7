"""Numba's side: a program's source text becomes object code. Imported only when a kernel is missing from the store.

A program (kernels.cpu.native.Program) is a generated `kernel` function in NumPy's loop signature plus the plain Python
functions that it calls; how those become compiled ones is in `kernels.scalars`.
"""
from __future__ import annotations

import re
import threading
import types as python_types
import warnings

from numba import types
from numba.core.errors import NumbaError, NumbaWarning

from .. import lowering, scalars
from ..scalars import CompileError
from . import intrinsics, lean, tiles

SIGNATURES = {
    "loop": types.void(types.CPointer(intrinsics.BYTES), types.CPointer(types.intp), types.CPointer(types.intp),
                       types.voidptr),
    "worker": types.void(types.intp),
}
COMPUTE = {name: memory[0] for name, memory in intrinsics.MEMORY.items()} | {
    "bool": types.boolean, "float16": types.float32}
_lock = threading.RLock()


def compile_program(program, target: str = "") -> tuple[str, list[str], bytes]:
    """The symbol to look up, the names left to the dynamic linker, and the object code of a program.

    `target`: the processor that it is for, in LLVM's words; "" for this machine's.
    """
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", NumbaWarning)
        lean.load_typing_tables()
        lowering.register(options=lowering.OPTIONS | {"pipeline_class": lean.Compiler})
        namespace = _namespace(program)
        exec(compile(program.source, f"<kernel {program.name}>", "exec"), namespace)
        symbol = f"kernel_{program.key()}"          # by content: equal names of different code would meet in one process
        try:
            kernel = lean.function(namespace["kernel"])
            needs, code = lean.object_code(kernel, SIGNATURES[program.entry], symbol, target, lanes="peek_" in program.source)
        except NumbaError as error:
            _blame_user(error, namespace)
            raise CompileError(f"{program.name}: Numba could not compile this kernel.\n{program.source}\n{error}") from None
        foreign = [name for name in needs if name.startswith(("numba", "Py", lean.RAISES)) and name not in program.externals]
        if foreign:
            raise CompileError(f"{program.name}: the kernel may raise or allocate (it refers to {', '.join(foreign)}), so it could "
                               f"not run without Numba.\n{program.source}")
        return symbol, needs, code


def _blame_user(error: NumbaError, namespace: dict) -> None:
    """Raise a short error that shows the user's line, where what Numba could not compile was written by a user."""
    from ..derive import SourceError
    called = [getattr(made, "py_func", None) for made in list(namespace.values())]
    texts = {python.__name__: python for function in called for python in _typed_below(function)}
    for name, line in re.findall(r'File "<(\w+)>", line (\d+)', str(error)):
        if name in texts:
            function, place = texts[name].shown(int(line))
            said = [t.strip() for t in re.sub(r"\x1b\[\d*m", "", str(error)).splitlines()]
            reason = " ".join([t.removeprefix(">>> ") for t in said if t and not t.startswith("Failed in")][:2])
            raise SourceError(f"{function}: Numba cannot compile this for these operands: {reason}\n  {place}") from None


def _typed_below(function) -> list:
    """The functions of `kernels.derive` that a Python function calls, itself included."""
    found, left = [], [function]
    while left:
        f = left.pop()
        f = getattr(f, "py_func", f)
        if isinstance(f, python_types.FunctionType) and f not in found and (f.__name__ == "body" or hasattr(f, "shown")):
            found.append(f)
            left += [f.__globals__.get(n) for n in f.__code__.co_names]
    return [f for f in found if hasattr(f, "shown")]


def _namespace(program) -> dict:
    space = {"stack": intrinsics.stack, "address": intrinsics.address, "pointer": intrinsics.pointer,
             "call_loop": intrinsics.call_loop, "word": intrinsics.word, "set_word": intrinsics.set_word,
             "atomic_load": intrinsics.atomic_load, "atomic_store": intrinsics.atomic_store,
             "atomic_add": intrinsics.atomic_add, "atomic_swap_if": intrinsics.atomic_swap_if,
             "breathe": intrinsics.breathe, "inline": lean.function,
             "shared": lean.shared, "number": intrinsics.number, "set_number": intrinsics.set_number,
             "inf": float("inf"), "nan": float("nan"),
             "clear_status": intrinsics.clear_status, **tiles.NAMES}
    for name, (result, arguments) in program.externals.items():
        space[name] = types.ExternalFunction(name, getattr(types, result)(*[getattr(types, a) for a in arguments]))
    for name in intrinsics.MEMORY:
        space[f"load_{name}"], space[f"peek_{name}"] = intrinsics.LOAD[name], intrinsics.PEEK[name]
        space[f"store_{name}"] = intrinsics.STORE[name]
        space[f"as_{name}"] = COMPUTE[name]
    space["half_to_float"], space["float_to_half"] = lowering.libm.half_to_float, lowering.libm.float_to_half
    for name, (function, literal_type) in program.functions.items():
        space[name] = jit_scalar(function, COMPUTE[literal_type] if literal_type else None, program.fastmath.get(name, ()),
                                 program.interruptible)
    return space


@lean.function
def _never(count):
    return False


class _Target:
    """What the scalar functions of a kernel become on the CPU."""

    loads = intrinsics.LOAD
    function = staticmethod(lean.function)

    @staticmethod
    def patience(used: bool, interruptible: bool) -> dict:
        """What the question whether a loop shall end means in a function; `used`: it asks."""
        if not interruptible:
            return {"interrupted": _never}
        if used:
            asking = types.ExternalFunction("engine_patience", types.int64())
            return {"engine_patience": asking, "stop_asked": intrinsics.stop_asked}
        return {}


def jit_scalar(function, literal_type, fastmath=(), interruptible=False):
    """A scalar Python function as an always inlined Numba function (`kernels.scalars`)."""
    return scalars.jit(_Target, function, literal_type, fastmath, interruptible)
