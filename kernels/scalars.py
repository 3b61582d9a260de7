"""Scalar functions of records as functions of a kernel: weak literals, and the Python functions that they call.

A number written in a scalar function takes the type that is computed in, as NumPy's and PyTorch's Python numbers do, so that a
float32 kernel stays in 32 bits. What a device makes of the rewritten function is the device's (`kernels.cpu.compiler`,
`kernels.cuda.compiler`). Imports no Numba.
"""
from __future__ import annotations

import ast
import functools
import inspect
import textwrap
import types as python_types


class CompileError(RuntimeError):
    """A kernel that Numba could not compile; the message names the kernel and shows Numba's own words."""


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


@functools.lru_cache(maxsize=4096)
def jit(target, function, literal_type, fastmath=(), interruptible=False):
    """A scalar Python function as an always inlined Numba function of a device; the Python functions that it calls follow.

    `target` makes it: `target.function(python, own, **options)`, `target.loads` (by dtype), `target.patience(used, interruptible)`.
    `literal_type` is the Numba type its number literals take; None leaves them as Numba types them. `interruptible`: loops of
    users' functions ask whether they shall end.
    """
    function = getattr(function, "scalar", function)
    if hasattr(function, "typed"):
        return _jit_typed(target, function, literal_type, interruptible)
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
            space[name] = jit(target, value, literal_type)
    module = ast.fix_missing_locations(ast.Module([definition], []))
    exec(compile(module, function.__code__.co_filename, "exec"), space)
    options = {"fastmath": set(fastmath)} if fastmath else {}
    own = (function.__module__ or "").partition(".")[0] in ("kernels", "engine")
    return target.function(space[definition.name], own, **options)


def _jit_typed(target, function, literal_type, interruptible):
    """A function of `kernels.derive`, whose text says `_T(...)` where a number takes the type that is computed in."""
    space = {**function.__globals__, "_T": literal_type}
    complex_numbers = getattr(function, "complex_numbers", False)
    for name in function.__code__.co_names:
        value = space.get(name)
        if complex_numbers and hasattr(value, "body"):
            value = value.body("complex128")[0]
        value = getattr(value, "scalar", value)
        if isinstance(value, python_types.FunctionType):
            space[name] = jit(target, value, literal_type, (), interruptible and hasattr(value, "typed"))
        elif name.startswith("load_"):
            space[name] = target.loads[name.removeprefix("load_")]
    space.update(target.patience("engine_patience" in function.__code__.co_names, interruptible))
    options = {"fastmath": set(function.fastmath)} if getattr(function, "fastmath", ()) else {}
    made = python_types.FunctionType(function.__code__, space, function.__name__)
    if hasattr(function, "shown"):
        made.shown = function.shown
    return target.function(made, **options)


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
