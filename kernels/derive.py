"""Scalar functions written by users: read from their source, rewritten as text that kernels inline, with all wanted tangents beside.

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
differentiated or compiled is a `SourceError` that names the user's line. Called by `engine.elementwise` and its kin.
"""
from __future__ import annotations

import ast
import builtins
import cmath
import dataclasses
import functools
import inspect
import itertools
import math
import textwrap
import types
from collections.abc import Callable, Hashable

import numpy as np

from .book import BOOK, Pointwise
from .symbol import Symbol

# Functions of math, cmath and NumPy whose record in the book has another name.
NAMES = {"fabs": "abs", "absolute": "abs", "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2", "arcsinh": "asinh",
         "arccosh": "acosh", "arctanh": "atanh", "power": "pow", "float_power": "pow",
         "logical_not": "logical_not", "conjugate": "conj", "degrees": "rad2deg", "radians": "deg2rad", "clip": "clamp", "mod": "remainder", "negative": "neg", "multiply": "mul", "subtract": "sub",
         "divide": "div", "true_divide": "div", "invert": "bitwise_not"}
WHOLE = ("floor", "ceil", "trunc")          # give an int in `math`
LONGEST = 64                                # numbers in a tuple from outside
UNROLLED = 8                                # whole exponents up to which powers are products
OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.LShift: "<<",
             ast.RShift: ">>", ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^"}
COMPARISONS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.Is: "==", ast.IsNot: "!="}


class SourceError(TypeError):
    """A user's function that cannot become a kernel; the message names file, line and source line."""


class NeedsComplex(SourceError):
    """A function that computes with complex numbers only."""


@dataclasses.dataclass
class E:
    """An expression: its text, its kind ("float", "int", "bool" or a tuple of kinds), a tangent's text for each input or None."""

    text: str
    kind: object = "float"
    tangents: tuple = ()
    literal: bool = False               # a number, which takes whatever type it meets


class Scalar:
    """A user's scalar function, read once. `inputs`: its parameters; `kinds`: of those that are not floats."""

    def __init__(self, function: Callable, kinds: dict[str, str] | None = None, complex_numbers: bool = False,
                 fastmath: tuple[str, ...] = ()):
        self.function = function = getattr(function, "py_func", function)
        self.kinds, self.complex_numbers, self.fastmath = dict(kinds or {}), complex_numbers, fastmath
        self.name = function.__name__ if function.__name__.isidentifier() else "function"
        self.file = function.__code__.co_filename
        self.definition, self.text, self.first = _parsed(function)
        arguments = self.definition.args
        if arguments.vararg or arguments.kwarg or arguments.kwonlyargs or arguments.defaults:
            raise self.error(self.definition, "its parameters must be plain: no defaults, no *args, no keyword-only ones")
        self.inputs = tuple(a.arg for a in (*arguments.posonlyargs, *arguments.args))
        if not self.inputs:
            raise self.error(self.definition, "it has no parameters")
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        self.space = {**vars(builtins), **function.__globals__, **{n: c.cell_contents for n, c in cells}}
        self._made: dict[tuple[str, ...], types.FunctionType] = {}
        self._inner: dict[tuple, Scalar] = {}                        # functions that it calls, and that they call
        self._callers: tuple[Callable, ...] = ()

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
            writer = _Writer(self, wanted)
            source = writer.function()
            made = typed(source, **writer.names)
            made.result, made.fastmath, made.complex_numbers = writer.result, self.fastmath, self.complex_numbers
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


def typed(source: str, **names: object) -> types.FunctionType:
    """A function for kernels from its text, in which numbers are `_T(number)`; `names`: what the text refers to."""
    space: dict = {"_T": float, "inf": math.inf, "nan": math.nan, **names}
    name = source[4:source.index("(")]
    exec(compile(source, f"<{name}>", "exec"), space)
    made = space[name]
    made.source, made.typed, made.__module__ = source, True, "kernels.derive"
    return made


def _parsed(function: types.FunctionType) -> tuple[ast.FunctionDef, str, int]:
    """The definition of a function, the text that its line numbers count in, and that text's first line in its file."""
    text, first = getattr(function, "source", None), function.__code__.co_firstlineno
    try:
        if not isinstance(text, str):
            if function.__name__ == "<lambda>":
                return _parsed_lambda(function)
            text = textwrap.dedent(inspect.getsource(function))
        tree = ast.parse(text)
    except (OSError, SyntaxError, TypeError):
        raise SourceError(f"{function.__name__}: its source is not to be had (a function typed at a prompt or made by exec): "
                          "put it in a file") from None
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == function.__name__:
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


class _Writer:
    """The text of one function with tangents for `wanted`."""

    def __init__(self, scalar: Scalar, wanted: tuple[str, ...]):
        self.scalar, self.wanted = scalar, wanted
        own = scalar.name if hasattr(scalar.function, "typed") else f"f_{scalar.name}"     # variables are u_..., t0, ...
        self.name = "_along_".join([own, *(["_".join(wanted)] if wanted else [])])
        self.lines: list[str] = []
        self.places: list[int] = []                 # of each line, the line of the user's text
        self.names: dict[str, object] = {}          # what the text refers to
        self.indent, self.count = 1, 0
        self.kinds: dict[str, object] = {n: scalar.kinds.get(n, "float") for n in scalar.inputs}
        self.active: list[set[str]] = [{w} for w in wanted]
        self.result: object = None
        self.locals = set(scalar.inputs)
        self.at: ast.AST = scalar.definition
        self._settle()

    # --- kinds of variables, and which of them have tangents ----------------------------------------------------------

    def _settle(self) -> None:
        """Run over the assignments until kinds and activity no longer change."""
        body = self.scalar.definition.body
        for node in ast.walk(self.scalar.definition):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self.locals.add(node.id)
        for _ in range(2 * len(self.locals) + 2):
            before = dict(self.kinds), [set(a) for a in self.active]
            self.lines, self.places, self.count = [], [], 0
            self.block(body)
            if before == (self.kinds, self.active):
                break
        self.lines, self.places, self.count, self.result = [], [], 0, None

    def meet(self, name: str, kind: object, tangents: tuple) -> None:
        """A variable is assigned."""
        old = self.kinds.get(name)
        self.kinds[name] = kind if old is None or old == kind else self.joined(old, kind)
        for k, t in enumerate(tangents):
            if t is not None:
                self.active[k].add(name)

    def joined(self, a: object, b: object) -> object:
        if a == b:
            return a
        if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
            return tuple(self.joined(x, y) for x, y in zip(a, b, strict=True))
        if {a, b} <= {"int", "float"}:
            return "float"
        raise self.problem(f"a variable or result is {_said(a)} here and {_said(b)} there")

    def problem(self, what: str, node: ast.AST | None = None) -> SourceError:
        return self.scalar.error(node or self.at, what)

    # --- statements ---------------------------------------------------------------------------------------------------

    def function(self) -> str:
        definition = self.scalar.definition
        self.assigned(definition.body, set(self.scalar.inputs))
        head = f"def {self.name}({', '.join('u_' + n for n in self.scalar.inputs)}):"
        if self.scalar.fastmath:
            self.say(repr(f"fastmath: {', '.join(self.scalar.fastmath)}"))        # in the text, so in the store's key
        for k, w in enumerate(self.wanted):
            self.say(f"d{k}_{w} = _T(1)")
            for other in self.scalar.inputs:
                if other != w and other in self.active[k]:
                    self.say(f"d{k}_{other} = _T(0)")
        self.block(definition.body)
        if _may_end(definition.body):
            raise self.problem("it may end without returning a value", definition.body[-1])
        return "\n".join([head, *self.lines]) + "\n"

    def assigned(self, body: list[ast.stmt], known: set[str] | None) -> set[str] | None:
        """The variables that have a value behind a block, None where its end is not reached; refuses to read one that may have none."""
        for node in body:
            if known is None:
                return None
            blocks = [n for n in ("body", "orelse") if hasattr(node, n)]
            for part in [getattr(node, n) for n in ("test", "iter", "value") if getattr(node, n, None) is not None]:
                self.reads(part, known)
            if isinstance(node, ast.AugAssign):
                self.reads(ast.copy_location(ast.Name(getattr(node.target, "id", ""), ast.Load()), node), known)
            if isinstance(node, (ast.Return, ast.Break, ast.Continue)):
                return None
            if isinstance(node, ast.If):
                ends = [self.assigned(getattr(node, n), set(known)) for n in blocks]
                left = [e for e in ends if e is not None]
                known = set.intersection(*left) if left else None
            elif isinstance(node, ast.While):
                forever = isinstance(node.test, ast.Constant) and bool(node.test.value)
                self.assigned(node.body, set(known))
                if forever:         # it is left by `break` alone: what is assigned in front of the first one has a value
                    for inner in itertools.takewhile(lambda n: not any(isinstance(m, ast.Break) for m in ast.walk(n)), node.body):
                        known = self.assigned([inner], known) or known
            elif isinstance(node, ast.For):
                self.assigned(node.body, known | {getattr(node.target, "id", "")})
            else:
                known = known | {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        return known

    def reads(self, expression: ast.expr, known: set[str]) -> None:
        for n in ast.walk(expression):
            if isinstance(n, ast.Name) and n.id in self.locals and n.id not in known:
                raise self.problem(f"`{n.id}` may have no value here", n)

    def say(self, line: str) -> None:
        self.lines.append("    " * self.indent + line)
        self.places.append(getattr(self.at, "lineno", 1))

    def let(self, text: str) -> str:
        name = f"t{self.count}"
        self.count += 1
        self.say(f"{name} = {text}")
        return name

    def block(self, body: list[ast.stmt]) -> None:
        for statement in body:
            self.at = statement
            method = getattr(self, f"do_{type(statement).__name__}", None)
            if method is None:
                raise self.problem(f"`{_word(statement)}` cannot be in a kernel")
            method(statement)

    def do_Pass(self, node) -> None:
        self.say("pass")

    def do_Break(self, node) -> None:
        self.say("break")

    def do_Continue(self, node) -> None:
        self.say("continue")

    def do_Expr(self, node) -> None:
        if isinstance(node.value, (ast.Yield, ast.YieldFrom)):
            raise self.problem("a generator cannot be a kernel")
        if not isinstance(node.value, ast.Constant):
            raise self.problem("an expression whose value is not used cannot be in a kernel (print, calls with effects)")

    def do_Assert(self, node) -> None:
        raise self.problem("a kernel cannot raise: return nan, or check before the call")

    do_Raise = do_Assert

    def do_Assign(self, node) -> None:
        if len(node.targets) != 1:
            for target in node.targets[1:]:
                self.assign(target, self.expression(node.value))
        self.assign(node.targets[0], self.expression(node.value))

    def do_AnnAssign(self, node) -> None:
        if node.value is not None:
            self.assign(node.target, self.expression(node.value))

    def do_AugAssign(self, node) -> None:
        left = ast.copy_location(ast.Name(node.target.id, ast.Load()), node) if isinstance(node.target, ast.Name) else None
        if left is None:
            raise self.problem("only plain variables can be assigned in a kernel")
        self.assign(node.target, self.expression(ast.copy_location(ast.BinOp(left, node.op, node.value), node)))

    def assign(self, target: ast.expr, value: E) -> None:
        if isinstance(target, ast.Name):
            self.meet(target.id, value.kind, value.tangents)
            name, kind = f"u_{target.id}", self.kinds[target.id]
            active = [k for k in range(len(self.wanted)) if target.id in self.active[k]]
            left = [name, *(f"d{k}_{target.id}" for k in active)]
            right = [self.as_kind(value, kind), *(value.tangents[k] or self.zero(kind) for k in active)]
            self.say(f"{', '.join(left)} = {', '.join(right)}")
        elif isinstance(target, (ast.Tuple, ast.List)):
            if not isinstance(value.kind, tuple) or len(value.kind) != len(target.elts):
                raise self.problem(f"{len(target.elts)} variables cannot be assigned from {_said(value.kind)}")
            whole = self.let(value.text)
            tangents = [None if t is None else self.let(t) for t in value.tangents]
            for k, part in enumerate(target.elts):
                self.assign(part, E(f"{whole}[{k}]", value.kind[k], tuple(None if t is None else f"{t}[{k}]" for t in tangents)))
        else:
            raise self.problem("only plain variables can be assigned in a kernel")

    def do_Return(self, node) -> None:
        if node.value is None:
            raise self.problem("a kernel must return a number, or a tuple of numbers")
        value = self.expression(node.value)
        self.result = value.kind if self.result is None else self.joined(self.result, value.kind)
        kind = self.result
        if kind == "bool" and self.wanted:
            raise self.problem("a truth value has no derivative")
        text = self.as_kind(value, _floating(kind))
        if not self.wanted:
            self.say(f"return {text}")
        else:
            self.say(f"return {', '.join([text, *(t or self.zero(kind) for t in value.tangents)])}")

    def do_If(self, node) -> None:
        self.say(f"if {self.truth(node.test)}:")
        self.inside(node.body)
        if node.orelse:
            self.say("else:")
            self.inside(node.orelse)

    def inside(self, body: list[ast.stmt]) -> None:
        self.indent += 1
        self.block(body)
        self.indent -= 1

    def do_While(self, node) -> None:
        if node.orelse:
            raise self.problem("`while ... else` cannot be in a kernel")
        self.say(f"while {self.truth(node.test)}:")
        self.inside(node.body)

    def do_For(self, node) -> None:
        call = node.iter
        plain = isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and self.scalar.space.get(call.func.id) is range
        if not plain or call.keywords or node.orelse or not isinstance(node.target, ast.Name):
            raise self.problem("a `for` in a kernel must be `for name in range(...)`, without else")
        bounds = [self.plain(a) for a in call.args]
        if any(b.kind != "int" for b in bounds):
            raise self.problem("the bounds of range must be integers; convert with int()")
        self.meet(node.target.id, "int", ())
        index = f"u_{node.target.id}" if self.kinds[node.target.id] == "int" else self.fresh_index()
        self.say(f"for {index} in range({', '.join(b.text for b in bounds)}):")
        if index != f"u_{node.target.id}":
            self.indent += 1
            self.assign(node.target, E(index, "int", (None,) * len(self.wanted)))
            self.indent -= 1
        self.inside(node.body)

    def fresh_index(self) -> str:
        self.count += 1
        return f"k{self.count}"

    # --- expressions --------------------------------------------------------------------------------------------------

    def expression(self, node: ast.expr) -> E:
        """An expression with its tangents; statements that it needs are written before."""
        if not self.wanted or not self.depends(node):
            found = self.plain(node)
            found.tangents = (None,) * len(self.wanted)
            return found
        method = getattr(self, f"of_{type(node).__name__}", None)
        if method is None:
            raise self.problem(f"`{ast.unparse(node)}` cannot be differentiated")
        return method(node)

    def depends(self, node: ast.expr) -> bool:
        """Whether a variable with a tangent occurs in an expression."""
        names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        return any(names & active for active in self.active)

    def zero(self, kind: object) -> str:
        return f"({', '.join(self.zero(k) for k in kind)},)" if isinstance(kind, tuple) else "_T(0)"

    def as_kind(self, value: E, kind: object) -> str:
        if isinstance(kind, tuple) and isinstance(value.kind, tuple) and kind != value.kind:
            whole = self.let(value.text)
            return f"({', '.join(self.as_kind(E(f'{whole}[{k}]', own), k2) for k, (own, k2) in enumerate(zip(value.kind, kind)))},)"
        return f"_T({value.text})" if kind == "float" and value.kind in ("int", "bool") else value.text

    def of_Name(self, node) -> E:
        tangents = tuple(f"d{k}_{node.id}" if node.id in active else None for k, active in enumerate(self.active))
        return E(f"u_{node.id}", self.kinds.get(node.id, "float"), tangents)

    def of_Tuple(self, node) -> E:
        parts = [self.expression(e) for e in node.elts]
        tangents = []
        for k in range(len(self.wanted)):
            own = [p.tangents[k] or self.zero(p.kind) for p in parts]
            tangents.append(f"({', '.join(own)},)" if any(p.tangents[k] for p in parts) else None)
        return E(f"({', '.join(p.text for p in parts)},)", tuple(p.kind for p in parts), tuple(tangents))

    def of_Subscript(self, node) -> E:
        value = self.expression(node.value)
        k = self.place_in(node, value)
        if isinstance(k, str):
            return self.chosen(value, k)
        return E(f"{value.text}[{k}]", value.kind[k], tuple(None if t is None else f"{t}[{k}]" for t in value.tangents))

    def place_in(self, node, value: E) -> int | str:
        """The place in a tuple that an index stands for: a number, or the text of an integer."""
        index = node.slice
        if isinstance(index, ast.UnaryOp) and isinstance(index.op, ast.USub) and isinstance(index.operand, ast.Constant):
            index = ast.Constant(-index.operand.value)
        if not isinstance(value.kind, tuple) or isinstance(index, ast.Slice):
            raise self.problem(f"`{ast.unparse(node)}`: only tuples can be indexed in a kernel, with integers", node)
        if isinstance(index, ast.Constant) and type(index.value) is int:
            if not -len(value.kind) <= index.value < len(value.kind):
                raise self.problem(f"`{ast.unparse(node)}`: the index is beyond the tuple's end", node)
            return index.value % len(value.kind)
        place = self.plain(index)
        if place.kind != "int" or len(set(value.kind)) != 1:
            raise self.problem(f"`{ast.unparse(node)}`: a variable index is an integer, in a tuple of equal kinds", node)
        return place.text

    def chosen(self, value: E, place: str) -> E:
        """The element of a tuple at a place that is known when the kernel runs."""
        name = f"element_{len(value.kind)}"
        self.names[name] = _element(len(value.kind))
        return E(f"{name}({value.text}, {place})", value.kind[0],
                 tuple(None if t is None else f"{name}({t}, {place})" for t in value.tangents))

    def of_IfExp(self, node) -> E:
        test = self.truth(node.test)
        name = f"t{self.count}"
        self.count += 1
        parts = []
        for word, part in (("if " + test, node.body), ("else", node.orelse)):
            self.say(f"{word}:")
            self.indent += 1
            parts.append((self.expression(part), len(self.lines), self.indent))
            self.indent -= 1
        kind = self.joined(parts[0][0].kind, parts[1][0].kind)
        live = [k for k in range(len(self.wanted)) if any(p.tangents[k] for p, _, _ in parts)]
        for value, at, indent in reversed(parts):
            right = [self.as_kind(value, kind), *(value.tangents[k] or self.zero(kind) for k in live)]
            left = [name, *(f"{name}_d{k}" for k in live)]
            self.lines.insert(at, "    " * indent + f"{', '.join(left)} = {', '.join(right)}")
            self.places.insert(at, node.lineno)
        return E(name, kind, tuple(f"{name}_d{k}" if k in live else None for k in range(len(self.wanted))))

    def of_UnaryOp(self, node) -> E:
        x = self.expression(node.operand)
        if isinstance(node.op, ast.UAdd):
            return x
        if not isinstance(node.op, ast.USub):
            return self.without(node)
        return E(f"(-{x.text})", x.kind, tuple(None if t is None else self.let(f"-{t}") for t in x.tangents))

    def without(self, node: ast.expr) -> E:
        """An expression that has no derivative although a variable in it has one: a truth value, an integer."""
        found = self.plain(node)
        found.tangents = (None,) * len(self.wanted)
        return found

    of_Compare = of_BoolOp = without

    def of_BinOp(self, node) -> E:
        if isinstance(node.op, ast.Pow):
            return self.power(node)
        x, y = self.expression(node.left), self.expression(node.right)
        self.number(x, node.left)
        self.number(y, node.right)
        word = OPERATORS.get(type(node.op))
        if word is None:
            raise self.problem(f"`{ast.unparse(node)}` cannot be in a kernel")
        if x.kind == y.kind == "int" and word != "/":
            return self.without(node)
        if word not in ("+", "-", "*", "/", "%"):
            return self.without(node)
        a, b = self.held(x), self.held(y)
        value = self.let(self.ratio(a, b) if word == "/" else f"{a} {word} {b}")
        quotient = self.let(f"_T({a} // {b})") if word == "%" and any(y.tangents) else ""
        tangents = []
        for t, s in zip(x.tangents, y.tangents, strict=True):
            if t is None and s is None:
                tangents.append(None)
            elif word == "+":
                tangents.append(self.let(f"{t} + {s}") if t and s else t or s)
            elif word == "-":
                tangents.append(self.let(f"{t} - {s}" if t and s else f"-{s}") if s else t)
            elif word == "*":
                tangents.append(self.let(" + ".join([f"{t} * {b}"] * bool(t) + [f"{a} * {s}"] * bool(s))))
            elif word == "/":
                above = f"({t} - {value} * {s})" if t and s else t or f"(-{value} * {s})"
                tangents.append(self.let(self.ratio(above, b)))
            else:
                tangents.append(self.let(f"{t} - {quotient} * {s}" if t and s else f"-{quotient} * {s}") if s else t)
        return E(value, "float", tuple(tangents))

    def ratio(self, a: str, b: str) -> str:
        """The text of a quotient; complex ones by the book's operator, as Numba's would raise."""
        if not self.scalar.complex_numbers:
            return f"{a} / {b}"
        self.names["op_div"] = BOOK["div"]
        return f"op_div({a}, {b})"

    def number(self, x: E, node: ast.expr) -> None:
        if isinstance(x.kind, tuple):
            raise self.problem("a tuple cannot be computed with", node)

    def held(self, x: E) -> str:
        """A float operand as a name or a number."""
        text = self.as_kind(x, "float")
        return text if text.isidentifier() or x.literal else self.let(text)

    def power(self, node) -> E:
        x, exponent = self.expression(node.left), node.right
        n = exponent.value if isinstance(exponent, ast.Constant) and type(exponent.value) is int else None
        if n is None or not 0 <= n <= UNROLLED or x.kind == "int":
            return self.record("pow", [x, self.expression(exponent)], node)
        a = self.held(x)
        if n == 0:
            return E("_T(1)", "float", (None,) * len(self.wanted))
        below = self.product(a, n - 1)
        factor = below if n == 1 else self.let(f"_T({n}) * {below}")
        value = a if n == 1 else self.let(f"{below} * {a}")
        return E(value, "float", tuple(None if t is None else self.let(f"{factor} * {t}") for t in x.tangents))

    def product(self, a: str, n: int) -> str:
        """a to a small whole power by squaring."""
        if n == 0:
            return "_T(1)"
        if n == 1:
            return a
        half = self.product(a, n // 2)
        return self.let(f"{half} * {half}" + (f" * {a}" if n % 2 else ""))

    # --- calls --------------------------------------------------------------------------------------------------------

    def of_Call(self, node) -> E:
        target = self.resolved(node)
        if target in (min, max):
            return self.extreme(node, target is max)
        if target in (int, bool, round, len) or getattr(target, "__name__", "") in WHOLE:
            return self.without(node)
        if target is float:
            return self.expression(node.args[0])
        arguments = [self.expression(a) for a in node.args]
        if hasattr(target, "chooses"):
            return self.chosen(arguments[0], arguments[1].text)
        if target is pow and len(arguments) == 2:
            return self.record("pow", arguments, node)
        if target is math.log and len(arguments) == 2:
            return self.of_BinOp(ast.copy_location(ast.BinOp(_call(node, node.args[0]), ast.Div(), _call(node, node.args[1])), node))
        known = record_of(target)
        if known is not None:
            return self.record(known, arguments, node)
        if isinstance(getattr(target, "py_func", target), types.FunctionType):
            return self.user(target, arguments, node)
        raise self.problem(f"the derivative of `{ast.unparse(node.func)}` is not known", node)

    def resolved(self, node: ast.Call) -> object:
        """What a call calls."""
        if node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
            raise self.problem("calls in a kernel take plain arguments only", node)
        found = self.constant(node.func)
        if isinstance(node.func, ast.Name) and node.func.id == self.scalar.definition.name and found is None:
            raise self.problem(f"`{node.func.id}` calls itself, and kernels cannot recurse: use a loop", node)
        if found is None:
            raise self.problem(f"`{ast.unparse(node.func)}` is not known here, or is no function that a kernel can call", node)
        if getattr(found, "__module__", "") == "cmath" and not self.scalar.complex_numbers:
            raise NeedsComplex(str(self.problem("a function of cmath makes a kernel for complex operands", node)))
        found = getattr(found, "__elementwise__", found)
        return COMPOSED.get(found, found) if isinstance(found, Hashable) else found

    def constant(self, node: ast.expr) -> object:
        """The object that a name or `module.name` stands for; None for variables and all else."""
        if isinstance(node, ast.Name) and node.id not in self.locals:
            return self.scalar.space.get(node.id)
        if isinstance(node, ast.Attribute):
            holder = self.constant(node.value)
            return None if holder is None else getattr(holder, node.attr, None)
        return None

    def record(self, name: str, arguments: list[E], node: ast.expr) -> E:
        """An operator of the book, differentiated by its own partials."""
        op = BOOK[name]
        if len(arguments) != len(op.inputs):
            raise self.problem(f"`{ast.unparse(node)}`: {len(op.inputs)} argument{'s' * (len(op.inputs) > 1)} needed", node)
        held = [t if t.isidentifier() or a.literal else self.let(t) for t, a in zip(self.operands(op, arguments), arguments, strict=True)]
        self.names[f"op_{name}"] = op
        value = self.let(f"op_{name}({', '.join(held)})")
        if self.gives(op, arguments) == "bool":
            return E(value, "bool", (None,) * len(self.wanted))
        if self.scalar.complex_numbers and op.adjoint is not None:
            raise self.problem(f"`{name}` has no complex derivative: give the partials with derivative=", node)
        symbols = [*(Symbol(h) for h in held), Symbol(value)]
        partials = op.partials(*symbols) if op.partials else op.adjoint(1, *symbols) if op.adjoint else [None] * len(held)
        known: dict = {}
        printed = [None if p is None or not any(a.tangents) else self.symbol(p, known)
                   for p, a in zip(partials, arguments, strict=True)]
        return E(value, "float", self.chained(printed, arguments))

    def operands(self, op: Pointwise, arguments: list[E]) -> list[str]:
        """The texts of an operator's operands: truth values where it takes them, numbers elsewhere."""
        logic = op.name.startswith(("bitwise_", "logical_"))
        return [a.text if a.kind == "bool" and (logic or o == "bool") else f"({a.text} != 0)" if o == "bool" else self.as_kind(a, "float")
                for a, o in zip(arguments, op.operands, strict=True)]

    def gives(self, op: Pointwise, arguments: list[E]) -> str:
        """The kind of an operator's result."""
        truths = op.name.startswith("bitwise_") and all(a.kind == "bool" for a in arguments)
        return "bool" if truths or op.result("float64") == "bool" else "float"

    def symbol(self, e, known: dict) -> str:
        """The text of a partial derivative; equal parts are computed once."""
        if not isinstance(e, Symbol):
            return repr(e) if isinstance(e, bool) else f"_T({e!r})"
        if e.name:
            return e.name
        key = e.key()
        if key not in known:
            operands = [self.symbol(o, known) for o in e.operands]
            self.names[f"op_{e.operator.name}"] = e.operator
            known[key] = self.let(f"op_{e.operator.name}({', '.join(operands)})")
        return known[key]

    def chained(self, partials: list, arguments: list[E]) -> tuple:
        """Sum of partial times tangent, for each input."""
        tangents = []
        for k in range(len(self.wanted)):
            terms = [(p, a.tangents[k]) for p, a in zip(partials, arguments, strict=True) if p is not None and a.tangents[k]]
            tangents.append(self.let(" + ".join(f"{p} * {t}" for p, t in terms)) if terms else None)
        return tuple(tangents)

    def user(self, target, arguments: list[E], node: ast.expr) -> E:
        """Another scalar function of the user's: one call gives its value and the partials that are needed."""
        inner = self.inner(target, arguments, node)
        if inner.result == "bool":
            return self.without(node)
        needed = [k for k, a in enumerate(arguments) if any(a.tangents)]
        function = inner.make(tuple(inner.inputs[k] for k in needed))
        held = [self.held(a) if a.kind != "int" else a.text for a in arguments]
        whole = self.let(f"{self.named(function)}({', '.join(held)})")
        kind = _floating(function.result)
        tangents = []
        for k in range(len(self.wanted)):
            terms = [(f"{whole}[{n + 1}]", arguments[a].tangents[k]) for n, a in enumerate(needed) if arguments[a].tangents[k]]
            tangents.append(self.weighted(terms, kind) if terms else None)
        return E(f"{whole}[0]", kind, tuple(tangents))

    def weighted(self, terms: list[tuple[str, str]], kind: object) -> str:
        """The sum of partials times tangents, where a partial has the structure of `kind`."""
        if isinstance(kind, tuple):
            parts = [self.weighted([(f"{p}[{n}]", t) for p, t in terms], k) for n, k in enumerate(kind)]
            return f"({', '.join(parts)},)"
        return self.let(" + ".join(f"{p} * {t}" for p, t in terms))

    def named(self, function: Callable) -> str:
        """The name under which the text calls another function: its own, unless that is taken."""
        name, k = function.__name__, 1
        while name == self.name or self.names.setdefault(name, function) is not function:
            k += 1
            name = f"{function.__name__}_{k}"
        return name

    def inner(self, target, arguments: list[E], node: ast.expr) -> Scalar:
        kinds = {}
        function = getattr(target, "py_func", target)
        names = function.__code__.co_varnames[:function.__code__.co_argcount]
        if len(names) != len(arguments):
            raise self.problem(f"`{ast.unparse(node)}`: {len(names)} argument{'s' * (len(names) > 1)} needed", node)
        for name, a in zip(names, arguments, strict=True):
            if a.kind == "int" and not a.literal:
                kinds[name] = "int"
            elif isinstance(a.kind, tuple):
                raise self.problem(f"`{ast.unparse(node)}`: functions called in a kernel take numbers, no tuples", node)
        if function in (self.scalar.function, *self.scalar._callers):
            raise self.problem(f"`{ast.unparse(node.func)}` leads back to itself here, and kernels cannot recurse: use a loop", node)
        return self.scalar.called(target, kinds)

    def extreme(self, node, largest: bool) -> E:
        """min and max choose as Python does: the first of equal ones, and its derivative."""
        if len(node.args) < 2:
            raise self.problem("min and max in a kernel take two numbers or more", node)
        name = f"u_0m{self.count}"          # no name of the user's begins with a digit
        self.count += 1
        target = ast.copy_location(ast.Name(name[2:], ast.Store()), node)
        values = [self.expression(a) for a in node.args]
        kind = values[0].kind
        for v in values[1:]:
            kind = self.joined(kind, v.kind)
        live = tuple("" if any(v.tangents[k] for v in values) else None for k in range(len(self.wanted)))
        self.locals.add(target.id)
        self.kinds[target.id] = kind
        for k, t in enumerate(live):
            if t is not None:
                self.active[k].add(target.id)
        self.assign(target, values[0])
        for v in values[1:]:
            text = self.let(self.as_kind(v, kind))
            self.say(f"if {text} {'>' if largest else '<'} {name}:")
            self.indent += 1
            self.assign(target, E(text, kind, v.tangents))
            self.indent -= 1
        return E(name, kind, tuple(None if t is None else f"d{k}_{target.id}" for k, t in enumerate(live)))

    # --- values alone: one text, evaluated as Python evaluates it ------------------------------------------------------

    def truth(self, node: ast.expr) -> str:
        """A condition, for which numbers count as well."""
        if isinstance(node, ast.BoolOp):
            word = " and " if isinstance(node.op, ast.And) else " or "
            return "(" + word.join(self.truth(v) for v in node.values) + ")"
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return f"(not {self.truth(node.operand)})"
        found = self.plain(node)
        self.number(found, node)
        return found.text if found.kind == "bool" else f"({found.text} != 0)"

    def plain(self, node: ast.expr) -> E:
        """An expression without tangents."""
        if isinstance(node, ast.Constant):
            return self.literal(node.value, node)
        if isinstance(node, ast.Name) and node.id in self.locals:
            return E(f"u_{node.id}", self.kinds.get(node.id, "float"))
        if isinstance(node, (ast.Name, ast.Attribute)):
            found = self.constant(node)
            if found is None:
                raise self.problem(f"`{ast.unparse(node)}` is not known here, or is nothing that a kernel can hold", node)
            return self.literal(found, node)
        if isinstance(node, ast.Tuple):
            parts = [self.plain(e) for e in node.elts]
            return E(f"({', '.join(p.text for p in parts)},)", tuple(p.kind for p in parts))
        if isinstance(node, ast.Subscript):
            value = self.plain(node.value)
            k = self.place_in(node, value)
            if isinstance(k, str):
                return self.chosen(value, k)
            return E(f"{value.text}[{k}]", value.kind[k])
        if isinstance(node, ast.UnaryOp):
            x = self.plain(node.operand)
            word = {ast.USub: "-", ast.UAdd: "+", ast.Not: "not ", ast.Invert: "~"}[type(node.op)]
            return E(f"({word}{x.text})", "bool" if word == "not " else x.kind, literal=x.literal)
        if isinstance(node, ast.BoolOp):
            if any(self.plain(v).kind != "bool" for v in node.values):
                raise self.problem(f"`{ast.unparse(node)}`: `and` and `or` give truth values, of truth values; write `a if c else b`", node)
            return E(self.truth(node), "bool")
        if isinstance(node, ast.Compare):
            return self.compared(node)
        if isinstance(node, ast.IfExp):
            a, b = self.plain(node.body), self.plain(node.orelse)
            kind = self.joined(a.kind, b.kind)
            return E(f"({self.as_kind(a, kind)} if {self.truth(node.test)} else {self.as_kind(b, kind)})", kind)
        if isinstance(node, ast.BinOp):
            return self.computed(node)
        if isinstance(node, ast.Call):
            return self.value_of_call(node)
        raise self.problem(f"`{ast.unparse(node)}` cannot be in a kernel", node)

    def literal(self, value: object, node: ast.expr) -> E:
        if type(value) is bool:
            return E(repr(value), "bool")
        if isinstance(value, (int, np.integer)):
            return E(repr(int(value)), "int", literal=True)
        if isinstance(value, (float, np.floating)):
            return E(f"_T({float(value)!r})", "float", literal=True)
        if isinstance(value, (complex, np.complexfloating)):
            if not self.scalar.complex_numbers:
                raise NeedsComplex(str(self.problem("a complex number makes a kernel for complex operands", node)))
            return E(f"complex(_T({value.real!r}), _T({value.imag!r}))", "float")
        if isinstance(value, np.ndarray) and value.ndim == 1 or isinstance(value, list):
            value = tuple(value)
        if isinstance(value, tuple) and 0 < len(value) <= LONGEST:
            if len({isinstance(v, (int, np.integer)) for v in value}) == 2:
                value = tuple(float(v) if isinstance(v, (int, np.integer)) else v for v in value)
            parts = [self.literal(v, node) for v in value]
            return E(f"({', '.join(p.text for p in parts)},)", tuple(p.kind for p in parts))
        raise self.problem(f"`{ast.unparse(node)}` is {_article(type(value).__name__)}, which a kernel cannot hold", node)

    def compared(self, node: ast.Compare) -> E:
        operands = [self.plain(v) for v in (node.left, *node.comparators)]
        floats = any(v.kind == "float" for v in operands)
        texts = [self.as_kind(v, "float") if floats and v.kind == "int" else v.text for v in operands]
        words = [COMPARISONS.get(type(op)) for op in node.ops]
        if None in words:
            raise self.problem(f"`{ast.unparse(node)}` cannot be in a kernel", node)
        pairs = [f"{a} {w} {b}" for a, w, b in zip(texts, words, texts[1:], strict=False)]
        return E("(" + " and ".join(pairs) + ")", "bool")

    def computed(self, node: ast.BinOp) -> E:
        x, y = self.plain(node.left), self.plain(node.right)
        self.number(x, node.left)
        self.number(y, node.right)
        whole = x.kind != "float" and y.kind != "float"
        if isinstance(node.op, ast.Pow):
            return self.plain_power(node, x, y, whole)
        word = OPERATORS.get(type(node.op))
        if word is None:
            raise self.problem(f"`{ast.unparse(node)}` cannot be in a kernel", node)
        if whole and word != "/":
            if word in ("//", "%") and not y.literal:
                self.names["whole_" + ("quotient" if word == "//" else "rest")] = _QUOTIENT if word == "//" else _REST
                return E(f"whole_{'quotient' if word == '//' else 'rest'}({x.text}, {y.text})", "int")
            return E(f"({x.text} {word} {y.text})", "int", literal=x.literal and y.literal)
        if word not in ("+", "-", "*", "/", "//", "%"):
            raise self.problem(f"`{ast.unparse(node)}`: {word} is for integers", node)
        if word == "/":
            return E(f"({self.ratio(self.as_kind(x, 'float'), self.as_kind(y, 'float'))})", "float")
        return E(f"({self.as_kind(x, 'float')} {word} {self.as_kind(y, 'float')})", "float")

    def plain_power(self, node, x: E, y: E, whole: bool) -> E:
        n = node.right.value if isinstance(node.right, ast.Constant) and type(node.right.value) is int else None
        if whole and n is not None and n >= 0:
            return E(f"({x.text} ** {n})", "int", literal=x.literal)
        a = self.as_kind(x, "float")
        if n is not None and 1 <= n <= UNROLLED and (n < 3 and a.isidentifier() or n == 1):
            return E("(" + " * ".join([a] * n) + ")", "float")
        if n is not None and 1 < n <= UNROLLED:
            self.names[f"power_{n}"] = _whole_power(n)
            return E(f"power_{n}({a})", "float")
        self.names["op_pow"] = BOOK["pow"]
        return E(f"op_pow({a}, {self.as_kind(y, 'float')})", "float")

    def value_of_call(self, node: ast.Call) -> E:
        target = self.resolved(node)
        arguments = [self.plain(a) for a in node.args]
        if hasattr(target, "chooses"):
            return self.chosen(arguments[0], arguments[1].text)
        texts = [self.as_kind(a, "float") for a in arguments]
        if target in (min, max) and len(arguments) > 1:
            kind = arguments[0].kind
            for a in arguments[1:]:
                kind = self.joined(kind, a.kind)
            name = "larger" if target is max else "smaller"
            self.names[name] = _LARGER if target is max else _SMALLER
            text = self.as_kind(arguments[0], kind)
            for a in arguments[1:]:
                text = f"{name}({text}, {self.as_kind(a, kind)})"
            return E(text, kind)
        if target in (int, math.floor, math.ceil, math.trunc, round) and len(arguments) == 1:
            name = {int: "trunc", round: "round"}.get(target, getattr(target, "__name__", ""))
            if arguments[0].kind in ("int", "bool"):
                return E(f"int({arguments[0].text})", "int")
            self.names[f"op_{name}"] = BOOK[name]
            return E(f"int(op_{name}({texts[0]}))", "int")
        if target is float and len(arguments) == 1:
            return E(texts[0], "float")
        if target is complex and len(arguments) == 2 and self.scalar.complex_numbers:
            return E(f"complex({texts[0]}, {texts[1]})", "float")
        if target is bool and len(arguments) == 1:
            return E(f"({arguments[0].text} != 0)", "bool")
        if target is abs and arguments[0].kind == "int":
            return E(f"abs({arguments[0].text})", "int")
        if target is math.log and len(arguments) == 2:
            self.names["op_log"] = BOOK["log"]
            return E(f"({self.ratio(f'op_log({texts[0]})', f'op_log({texts[1]})')})", "float")
        known = "pow" if target is pow and len(arguments) == 2 else record_of(target)
        if known is not None:
            op = BOOK[known]
            if len(arguments) != len(op.inputs):
                raise self.problem(f"`{ast.unparse(node)}`: {len(op.inputs)} argument{'s' * (len(op.inputs) > 1)} needed", node)
            self.names[f"op_{known}"] = op
            return E(f"op_{known}({', '.join(self.operands(op, arguments))})", self.gives(op, arguments))
        if isinstance(getattr(target, "py_func", target), types.FunctionType):
            inner = self.inner(target, arguments, node)
            function = inner.make()
            given = [a.text if inner.kinds.get(n) == "int" else self.as_kind(a, "float")
                     for n, a in zip(inner.inputs, arguments, strict=True)]
            kind = _floating(function.result)
            return E(f"{self.named(function)}({', '.join(given)})", kind)
        raise self.problem(f"`{ast.unparse(node.func)}` cannot be called in a kernel", node)


def record_of(target: object) -> str | None:
    """The record of the book that computes a function of math, cmath, NumPy or the engine; None where there is none."""
    if target is abs:
        return "abs"
    name = getattr(target, "__name__", "")
    module = getattr(target, "__module__", None) or ""
    known = module in ("math", "cmath") or isinstance(target, np.ufunc) or module.partition(".")[0] in ("engine", "kernels", "numpy")
    if isinstance(target, Pointwise):
        return target.name if target.name in BOOK else None
    if name == "remainder":
        return name if isinstance(target, np.ufunc) else None           # that of math rounds the quotient to the nearest
    name = NAMES.get(name, name)
    return name if known and isinstance(BOOK.get(name), Pointwise) else None


def _call(node: ast.Call, argument: ast.expr) -> ast.Call:
    return ast.copy_location(ast.Call(node.func, [argument], []), node)


def _floating(kind: object) -> object:
    """The kind of what a function gives: its results are floats, or truth values."""
    return tuple(_floating(k) for k in kind) if isinstance(kind, tuple) else "float" if kind == "int" else kind


def _may_end(body: list[ast.stmt]) -> bool:
    """Whether the end of a block can be reached."""
    last = body[-1] if body else None
    if isinstance(last, ast.Return):
        return False
    if isinstance(last, ast.If):
        return not last.orelse or _may_end(last.body) or _may_end(last.orelse)
    if isinstance(last, ast.While) and isinstance(last.test, ast.Constant) and last.test.value:
        return any(isinstance(n, ast.Break) for n in ast.walk(last))
    return True


def _said(kind: object) -> str:
    return {"float": "a number", "int": "an integer", "bool": "a truth value"}.get(kind, f"a tuple of {len(kind)}"
                                                                                      if isinstance(kind, tuple) else str(kind))


@functools.cache
def _element(length: int) -> types.FunctionType:
    """The element of a tuple at an index, which counts from the end where it is negative; the last for one beyond the end."""
    tests = [f"    if k == {n} or k == {n - length}:\n        return t[{n}]\n" for n in range(length - 1)]
    made = typed(f"def element_{length}(t, k):\n{''.join(tests)}    return t[{length - 1}]\n")
    made.chooses = True
    return made


@functools.cache
def _whole_power(n: int) -> types.FunctionType:
    """a to the power n as products."""
    return typed(f"def power_{n}(a):\n    return {' * '.join('a' * n)}\n")


def _article(word: str) -> str:
    return f"{'an' if word[:1] in 'aeiou' else 'a'} {word}"


def _word(node: ast.stmt) -> str:
    return {"FunctionDef": "def", "With": "with", "Try": "try", "Import": "import", "ImportFrom": "import", "Global": "global",
            "Nonlocal": "nonlocal", "Delete": "del", "ClassDef": "class", "Match": "match"}.get(type(node).__name__,
                                                                                                  type(node).__name__.lower())


def _LARGER(a, b):
    """max as Python chooses it."""
    return b if b > a else a


def _SMALLER(a, b):
    """min as Python chooses it."""
    return b if b < a else a


def _QUOTIENT(a, b):
    """Integer division that gives 0 where Python raises."""
    return a // b if b != 0 else 0


_QUOTIENT.typed = True          # its numbers are integers


def _REST(a, b):
    """Integer remainder that gives 0 where Python raises."""
    return a % b if b != 0 else 0


_REST.typed = True


def _gamma(x):
    """The gamma function; nan at its poles."""
    if x > 0.5:
        return math.exp(math.lgamma(x))
    return math.pi / (math.sin(math.pi * x) * math.exp(math.lgamma(1.0 - x)))


def _cbrt(x):
    """The real cube root."""
    return math.copysign(abs(x) ** (1.0 / 3.0), x)


COMPOSED = {math.gamma: _gamma, np.cbrt: _cbrt} | ({math.cbrt: _cbrt} if hasattr(math, "cbrt") else {})
