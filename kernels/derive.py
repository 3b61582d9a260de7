"""Scalar functions written by users: read from their source, rewritten as text that kernels inline, with tangents beside.

    >>> print(Scalar(soft_clip).source(("x",)))
    def soft_clip_along_x(u_x, u_limit):
        if u_x <= u_limit:
            return u_x, _T(1)
        u_excess, u_excess_d0 = u_x - u_limit, _T(1)
        t0 = _T(1.0) + u_excess
        t1 = op_log(t0)
        ...

Forward mode on the syntax tree: every variable that depends on an input that is differentiated gets a tangent for it, so that one
pass computes the value and all partial derivatives; branches and loops follow the values. Derivatives of functions of `math` and
NumPy are those of the book's records. The text is ordinary source again: its derivative is made the same way, to any order.
Numbers are weak (`_T(2)`): they take the type that is computed in; integers that only meet integers stay integers. What cannot be
differentiated or compiled is a `SourceError` that names the user's line. Called by `engine.written` and its kin.

A dual-number type known to Numba was measured beside it: equal results, equal speed at run time, 1.5 times the compile time on a
branching kernel and 2.6 times on a Newton loop, and a variable that begins as a plain number (`step = 1.0`) does not compile.
"""
from __future__ import annotations

import ast
import builtins
import inspect
import textwrap
import types
from collections.abc import Callable

from .derive_functions import typed
from .derive_text import Writer
from .derive_values import NeedsComplex, SourceError

__all__ = ["NeedsComplex", "Scalar", "SourceError", "typed"]


class Scalar:
    """A user's scalar function, read once. `inputs`: its parameters; `kinds`: of those that are not floats."""

    def __init__(self, function: Callable, kinds: dict[str, str] | None = None, complex_numbers: bool = False,
                 fastmath: tuple[str, ...] = ()):
        self.function = function = getattr(function, "py_func", function)
        self.kinds, self.complex_numbers, self.fastmath = dict(kinds or {}), complex_numbers, fastmath
        self.name = function.__name__ if function.__name__.isidentifier() else "function"
        self.file = function.__code__.co_filename
        self.definition, self.text, self.first = _parsed(function)
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        self.space = {**vars(builtins), **function.__globals__, **{n: c.cell_contents for n, c in cells}}
        self.inputs = self.parameters()
        if not self.inputs:
            raise self.error(self.definition, "it has no parameters")
        self._made: dict[tuple[str, ...], types.FunctionType] = {}
        self._inner: dict[tuple, Scalar] = {}                        # functions that it calls, and that they call
        self._callers: tuple[Callable, ...] = ()

    def parameters(self) -> tuple[str, ...]:
        """The names of the function's parameters."""
        arguments = self.definition.args
        if arguments.vararg or arguments.kwarg or arguments.kwonlyargs or arguments.defaults:
            raise self.error(self.definition, "its parameters must be plain: no defaults, no *args, no keyword-only ones")
        return tuple(a.arg for a in (*arguments.posonlyargs, *arguments.args))

    def error(self, node: ast.AST, what: str) -> SourceError:
        """The error for a place in the user's source."""
        name, place = self.shown(getattr(node, "lineno", 1))
        return SourceError(f"{name}: {what}\n  {place}")

    def shown(self, number: int) -> tuple[str, str]:
        """The user's function and line (file, number, text) behind a line of the function's text."""
        if hasattr(self.function, "shown"):
            return self.function.shown(number)
        lines = self.text.splitlines()
        line = lines[number - 1].strip() if 0 < number <= len(lines) else ""
        return self.name, f"{self.file}, line {self.first + number - 1}: {line}"

    def make(self, wanted: tuple[str, ...] = ()) -> types.FunctionType:
        """The function as kernels take it: value, or (value, derivative by each input of `wanted`)."""
        if wanted not in self._made:
            writer = Writer(self, wanted)
            source = writer.function()
            made = typed(source, **writer.names)
            made.result, made.fastmath, made.complex_numbers = writer.result, self.fastmath, self.complex_numbers
            made.loops = "interrupted" in writer.names or any(getattr(f, "loops", False) for f in writer.names.values())
            made.shown = lambda line: self.shown(writer.places[line - 2] if 1 < line < len(writer.places) + 2 else 1)
            self._made[wanted] = made
        return self._made[wanted]

    def source(self, wanted: tuple[str, ...] = ()) -> str:
        """The text of `make(wanted)`."""
        return self.make(wanted).source

    @property
    def result(self) -> object:
        """The kind of what it returns."""
        return self.make().result

    def called(self, function: Callable, kinds: dict[str, str]) -> Scalar:
        """Another function of the user's, called by this one with arguments of these kinds."""
        function = getattr(function, "py_func", function)
        key = (function, tuple(kinds.items()))
        if key not in self._inner:
            inner = Scalar(function, kinds, self.complex_numbers, self.fastmath)
            inner._inner, inner._callers = self._inner, (*self._callers, self.function)
            self._inner[key] = inner
        return self._inner[key]


def _parsed(function: types.FunctionType) -> tuple[ast.FunctionDef, str, int]:
    """The definition of a function, the text that its line numbers count in, and that text's first line in its file."""
    text, first = getattr(function, "source", None), function.__code__.co_firstlineno
    try:
        if not isinstance(text, str):
            if function.__name__ == "<lambda>":
                return _parsed_lambda(function)
            text = textwrap.dedent(inspect.getsource(function.__code__))        # its own, not that of what it wraps
        tree = ast.parse(text)
    except (OSError, SyntaxError, TypeError):
        raise SourceError(f"{function.__name__}: its source is not to be had (a function typed at a prompt or made by exec): "
                          "put it in a file") from None
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == function.__code__.co_name:
            if isinstance(node, ast.AsyncFunctionDef):
                raise SourceError(f"{function.__name__}: an async function cannot be a kernel\n  {function.__code__.co_filename}, "
                                  f"line {first}")
            return node, text, first
    raise SourceError(f"{function.__name__}: its source does not hold a function of this name; give it a `def` of its own")


def _parsed_lambda(function: types.FunctionType) -> tuple[ast.FunctionDef, str, int]:
    """The lambda whose body spans the places that its instructions come from; there may be several on a line."""
    text = "".join(inspect.findsource(function)[0])
    places = [(line, column) for line, _, column, _ in function.__code__.co_positions() if line and column]
    found = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Lambda) and all(
        (n.body.lineno, n.body.col_offset) <= p <= (n.body.end_lineno, n.body.end_col_offset) for p in places)]
    found = [n for n in found if n.lineno <= function.__code__.co_firstlineno <= n.body.end_lineno]
    if not found:
        raise SourceError(f"{function.__name__}: its source cannot be told apart on its line; give it a `def` of its own")
    found.sort(key=lambda n: (n.body.end_lineno - n.body.lineno, n.body.end_col_offset - n.body.col_offset))    # the innermost
    body = ast.copy_location(ast.Return(found[0].body), found[0].body)
    return ast.copy_location(ast.FunctionDef("function", found[0].args, [body], []), found[0]), text, 1
