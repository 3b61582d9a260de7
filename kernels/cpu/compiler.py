"""Numba's side: a program's source text becomes object code. Imported only when a kernel is missing from the store.

A program (kernels.cpu.native.Program) is a generated `kernel` function in NumPy's loop signature plus the plain Python
functions that it calls. Scalar functions are compiled with weak literals: a number written in one takes the type that is
computed in, as NumPy's and PyTorch's Python numbers do, so that a float32 kernel stays in 32 bits.
"""
from __future__ import annotations

import ast
import inspect
import textwrap
import threading
import types as python_types
import warnings

from numba import cfunc, njit, types
from numba.core.errors import NumbaError, NumbaWarning

from .. import lowering
from . import intrinsics, tiles

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


def compile_program(program) -> tuple[str, list[str], bytes]:
    """The symbol to look up, the names left to the dynamic linker, and the object code of a program."""
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", NumbaWarning)
        lowering.register()
        namespace = _namespace(program)
        exec(compile(program.source + _ENTRIES[program.entry], f"<kernel {program.name}>", "exec"), namespace)
        try:
            compiled = cfunc(SIGNATURES[program.entry], error_model="numpy")(namespace["entry"])
        except NumbaError as error:
            raise CompileError(f"{program.name}: Numba could not compile this kernel.\n{program.source}\n{error}") from None
        library = compiled._library
        needs = undefined_symbols(library)
        foreign = [name for name in needs if name.startswith(("numba", "Py")) and name not in program.externals]
        if foreign:
            raise CompileError(f"{program.name}: the kernel may raise or allocate (it refers to {', '.join(foreign)}), so it could "
                               f"not run without Numba.\n{program.source}")
        return compiled._wrapper_name, needs, library.serialize_using_object_code()[2][0]


# What NumPy calls. The kernel is inlined into it, so that Numba's check of its error status folds away.
_ENTRIES = {
    "loop": "\nkernel = inline(kernel)\ndef entry(args, dimensions, steps, data):\n    kernel(args, dimensions, steps, data)\n",
    "worker": "\nkernel = inline(kernel)\ndef entry(me):\n    kernel(me)\n",
}


def undefined_symbols(library) -> list[str]:
    """Names that machine code leaves to the dynamic linker (tests hold them to libm and libc)."""
    assembly = library.get_asm_str()
    declared = [line.split("@")[1].split("(")[0].strip('"') for line in library.get_llvm_str().splitlines()
                if line.startswith("declare")]
    return [name for name in declared if not name.startswith("llvm.") and name in assembly]


def _namespace(program) -> dict:
    space = {"stack": intrinsics.stack, "address": intrinsics.address, "pointer": intrinsics.pointer,
             "call_loop": intrinsics.call_loop, "word": intrinsics.word, "set_word": intrinsics.set_word,
             "atomic_load": intrinsics.atomic_load, "atomic_store": intrinsics.atomic_store,
             "atomic_add": intrinsics.atomic_add, "atomic_swap_if": intrinsics.atomic_swap_if,
             "breathe": intrinsics.breathe, "inline": njit(error_model="numpy", forceinline=True),
             "inf": float("inf"), "nan": float("nan"),
             "clear_status": intrinsics.clear_status, **tiles.NAMES}
    for name, (result, arguments) in program.externals.items():
        space[name] = types.ExternalFunction(name, getattr(types, result)(*[getattr(types, a) for a in arguments]))
    for name in intrinsics.MEMORY:
        space[f"load_{name}"], space[f"peek_{name}"] = intrinsics.LOAD[name], intrinsics.PEEK[name]
        space[f"store_{name}"] = intrinsics.STORE[name]
        space[f"as_{name}"] = COMPUTE[name]
    space["half_to_float"], space["float_to_half"] = lowering.libm.half_to_float, lowering.libm.float_to_half
    jitted: dict = {}
    for name, (function, literal_type) in program.functions.items():
        space[name] = jit_scalar(function, COMPUTE[literal_type] if literal_type else None, jitted,
                                 program.fastmath.get(name, ()))
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


def jit_scalar(function, literal_type, jitted: dict, fastmath=()):
    """A scalar Python function as an always inlined Numba function; the Python functions that it calls follow.

    `literal_type` is the Numba type its number literals take; None leaves them as Numba types them.
    """
    key = (function, literal_type)
    if key in jitted:
        return jitted[key]
    function = getattr(function, "scalar", function)
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
            space[name] = jit_scalar(value, literal_type, jitted)
    module = ast.fix_missing_locations(ast.Module([definition], []))
    exec(compile(module, function.__code__.co_filename, "exec"), space)
    options = {"fastmath": set(fastmath)} if fastmath else {}
    jitted[key] = njit(error_model="numpy", forceinline=True, **options)(space[definition.name])
    return jitted[key]


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
