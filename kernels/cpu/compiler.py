"""Numba's side: a program's source text becomes object code. Imported only when a kernel is missing from the store.

A program (kernels.cpu.native.Program) is a generated `kernel` function in NumPy's loop signature plus the plain Python
functions that it calls. Scalar functions are compiled with weak literals: a number written in one takes the type that is
computed in, as NumPy's and PyTorch's Python numbers do, so that a float32 kernel stays in 32 bits.
"""
from __future__ import annotations

import ast
import functools
import inspect
import re
import textwrap
import threading
import types as python_types
import warnings

from numba import types
from numba.core.errors import NumbaError, NumbaWarning

from .. import lowering
from . import intrinsics, lean, tiles

SIGNATURES = {
    "loop": types.void(types.CPointer(intrinsics.BYTES), types.CPointer(types.intp), types.CPointer(types.intp),
                       types.voidptr),
    "worker": types.void(types.intp),
}
COMPUTE = {name: memory[0] for name, memory in intrinsics.MEMORY.items()} | {
    "bool": types.boolean, "float16": types.float32}
_lock = threading.RLock()


class CompileError(RuntimeError):
    """A kernel that Numba could not compile; the message names the kernel and shows Numba's own words."""


def compile_program(program, target: str = "") -> tuple[str, list[str], bytes]:
    """The symbol to look up, the names left to the dynamic linker, and the object code of a program.

    `target`: the processor that it is for, in LLVM's words; "" for this machine's.
    """
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", NumbaWarning)
        lean.load_typing_tables()
        lowering.register()
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


# --- scalar functions with weak literals ------------------------------------------------------------------------------

class _WeakLiterals(ast.NodeTransformer):
    """Wrap each number of a scalar function as `_T(number)`; indices, loop bounds and keywords stay as written."""

    def visit_Constant(self, node):
        if type(node.value) in (int, float):
            return ast.copy_location(ast.Call(ast.Name("_T", ast.Load()), [node], []), node)
        return node

    def visit_UnaryOp(self, node):
        if isinstance(node.operand, ast.Constant) and isinstance(node.op, ast.USub):
            return ast.copy_location(ast.Call(ast.Name("_T", ast.Load()), [node], []), node)
        return self.generic_visit(node)

    def visit_Subscript(self, node):
        node.value = self.visit(node.value)
        return node

    def visit_Call(self, node):
        if isinstance(node.func, ast.Name) and node.func.id == "range":
            return node
        return self.generic_visit(node)

    def visit_BinOp(self, node):
        if isinstance(node.op, (ast.LShift, ast.RShift)):
            node.left = self.visit(node.left)
            return node
        return self.generic_visit(node)


@functools.lru_cache(maxsize=1024)
def jit_scalar(function, literal_type, fastmath=(), interruptible=False):
    """A scalar Python function as an always inlined Numba function; the Python functions that it calls follow.

    `literal_type` is the Numba type its number literals take; None leaves them as Numba types them. `interruptible`: loops of
    users' functions ask whether they shall end.
    """
    function = getattr(function, "scalar", function)
    if hasattr(function, "typed"):
        return _jit_typed(function, literal_type, interruptible)
    tree = ast.parse(textwrap.dedent(_source(function)))
    definition = _definition(tree, function)
    definition.decorator_list = []
    _check_unchanged(function, definition)
    if literal_type is not None:
        definition = _WeakLiterals().visit(definition)
    definition.returns = None
    for argument in definition.args.args:
        argument.annotation = None
    cells = dict(zip(function.__code__.co_freevars, (c.cell_contents for c in function.__closure__ or ()), strict=True))
    space = {**function.__globals__, **cells, "_T": literal_type}
    for name in _used(definition):
        value = getattr(space.get(name), "scalar", space.get(name))
        if isinstance(value, python_types.FunctionType) and value is not function and not (
                value.__module__ or "").startswith("kernels.libm"):         # those Numba knows by lowering.register
            space[name] = jit_scalar(value, literal_type)
    module = ast.fix_missing_locations(ast.Module([definition], []))
    exec(compile(module, function.__code__.co_filename, "exec"), space)
    options = {"fastmath": set(fastmath)} if fastmath else {}
    own = (function.__module__ or "").partition(".")[0] in ("kernels", "engine")
    return lean.function(space[definition.name], own, **options)


def _jit_typed(function, literal_type, interruptible):
    """A function of `kernels.derive`, whose text says `_T(...)` where a number takes the type that is computed in."""
    space = {**function.__globals__, "_T": literal_type}
    complex_numbers = getattr(function, "complex_numbers", False)
    for name in function.__code__.co_names:
        value = space.get(name)
        if complex_numbers and hasattr(value, "body"):
            value = value.body("complex128")[0]
        value = getattr(value, "scalar", value)
        if isinstance(value, python_types.FunctionType):
            space[name] = jit_scalar(value, literal_type, (), interruptible and hasattr(value, "typed"))
        elif name.startswith("load_"):
            space[name] = intrinsics.LOAD[name.removeprefix("load_")]
    if not interruptible:
        space["interrupted"] = _never
    elif "engine_patience" in function.__code__.co_names:
        space.update(engine_patience=types.ExternalFunction("engine_patience", types.int64()), stop_asked=intrinsics.stop_asked)
    options = {"fastmath": set(function.fastmath)} if getattr(function, "fastmath", ()) else {}
    made = python_types.FunctionType(function.__code__, space, function.__name__)
    if hasattr(function, "shown"):
        made.shown = function.shown
    return lean.function(made, **options)


@lean.function
def _never(count):
    return False


def _check_unchanged(function, definition) -> None:
    """Refuse source that was edited after the function was imported: the store would keep it under the old code's key."""
    if function.__code__.co_freevars:       # a closure's bytecode reads its cells, the bare definition's its globals
        return
    # bytecode of `module.name(...)` differs where the compiler sees that `module` was imported
    imports = [ast.Import([ast.alias(name)]) for name in sorted(_used(definition))
               if isinstance(function.__globals__.get(name), python_types.ModuleType)]
    module = compile(ast.fix_missing_locations(ast.Module([*imports, definition], [])), "<source>", "exec")
    code = next(c for c in module.co_consts if isinstance(c, python_types.CodeType))
    if code.co_code != function.__code__.co_code:
        raise CompileError(f"{function.__module__}.{function.__qualname__}: its source file was edited after it was imported; "
                           "start Python again")


def _source(function) -> str:
    text = getattr(function, "source", None)
    return text if isinstance(text, str) else inspect.getsource(function)


def _definition(tree, function) -> ast.FunctionDef:
    """The `def` of a function in its parsed source; a lambda becomes one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == function.__name__:
            return node
    names = function.__code__.co_varnames[:function.__code__.co_argcount]
    found = [n for n in ast.walk(tree) if isinstance(n, ast.Lambda) and tuple(a.arg for a in n.args.args) == names]
    if len(found) != 1:
        raise CompileError(f"the source of {function!r} cannot be told apart on its line; give it a `def` of its own")
    return ast.FunctionDef("scalar_lambda", found[0].args, [ast.Return(found[0].body)], [])


def _used(definition) -> set[str]:
    return {n.id for n in ast.walk(definition) if isinstance(n, ast.Name)}
