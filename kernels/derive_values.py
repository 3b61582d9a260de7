"""Values in the text of a kernel: expressions of a user's function as they are printed, with their kinds, and what they call.

Kinds are "float", "int", "bool" and tuples of them. Numbers are weak (`_T(2)`): they take the type that is computed in; integers
that only meet integers stay integers. Functions of `math`, `cmath`, NumPy and the engine are the book's records. Derivatives are in
`derive_tangents`, statements in `derive_text`; called by these alone.
"""
from __future__ import annotations

import ast
import dataclasses
import math
import operator
import types
from collections.abc import Callable, Hashable

import numpy as np

from .book import BOOK, Pointwise
from .derive_functions import COMPOSED, element_of, interrupted, larger, smaller, whole_power, whole_quotient, whole_rest

# Functions of math, cmath and NumPy whose record in the book has another name.
NAMES = {"fabs": "abs", "absolute": "abs", "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2",
         "arcsinh": "asinh",
         "arccosh": "acosh", "arctanh": "atanh", "power": "pow", "float_power": "pow",
         "logical_not": "logical_not", "conjugate": "conj", "degrees": "rad2deg", "radians": "deg2rad", "clip": "clamp",
         "mod": "remainder", "negative": "neg", "multiply": "mul", "subtract": "sub",
         "divide": "div", "true_divide": "div", "invert": "bitwise_not"}
WHOLE = ("floor", "ceil", "trunc")          # give an int in `math`
LONGEST = 64                                # numbers in a tuple from outside
UNROLLED = 8                                # whole exponents up to which powers are products
OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.LShift: "<<",
             ast.RShift: ">>", ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^"}
FOLDED = {"+": operator.add, "-": operator.sub, "*": operator.mul, "//": operator.floordiv, "%": operator.mod, "**": operator.pow,
          "<<": operator.lshift, ">>": operator.rshift, "&": operator.and_, "|": operator.or_, "^": operator.xor}
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


class Values:
    """The text of one function while it grows, and the expressions in it."""

    scalar: object                      # the `kernels.derive.Scalar` that is written
    name: str
    lines: list[str]
    places: list[int]                   # of each line, the line of the user's text
    names: dict[str, object]            # what the text refers to
    kinds: dict[str, object]
    locals: set[str]
    indent: int
    count: int
    at: ast.AST                         # the statement that is read

    def say(self, line: str) -> None:
        self.lines.append("    " * self.indent + line)
        self.places.append(getattr(self.at, "lineno", 1))

    def let(self, text: str) -> str:
        name = f"t{self.count}"
        self.count += 1
        self.say(f"{name} = {text}")
        return name

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

    def named(self, function: Callable) -> str:
        """The name under which the text calls another function: its own, unless that is taken."""
        name, k = function.__name__, 1
        while name == self.name or self.names.setdefault(name, function) is not function:
            k += 1
            name = f"{function.__name__}_{k}"
        return name

    def inner(self, target, arguments: list[E], node: ast.expr) -> object:
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
            raise self.problem(f"`{ast.unparse(node.func)}` leads back to itself here, and kernels cannot recurse: use a loop",
                               node)
        return self.scalar.called(target, kinds)

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

    def number(self, x: E, node: ast.expr) -> None:
        if isinstance(x.kind, tuple):
            raise self.problem("a tuple cannot be computed with", node)

    def ratio(self, a: str, b: str) -> str:
        """The text of a quotient; complex ones by the book's operator, as Numba's would raise."""
        if not self.scalar.complex_numbers:
            return f"{a} / {b}"
        self.names["op_div"] = BOOK["div"]
        return f"op_div({a}, {b})"

    def as_kind(self, value: E, kind: object) -> str:
        if isinstance(kind, tuple) and isinstance(value.kind, tuple) and kind != value.kind:
            whole = self.let(value.text)
            return f"({', '.join(self.as_kind(E(f'{whole}[{k}]', own), k2) for k, (own, k2) in enumerate(zip(value.kind, kind)))},)"
        return f"_T({value.text})" if kind == "float" and value.kind in ("int", "bool") else value.text

    def zero(self, kind: object) -> str:
        return f"({', '.join(self.zero(k) for k in kind)},)" if isinstance(kind, tuple) else "_T(0)"

    def operands(self, op: Pointwise, arguments: list[E]) -> list[str]:
        """The texts of an operator's operands: truth values where it takes them, numbers elsewhere."""
        logic = op.name.startswith(("bitwise_", "logical_"))
        texts = []
        for a, o in zip(arguments, op.operands, strict=True):
            if a.kind == "bool" and (logic or o == "bool"):
                texts.append(a.text)
            else:
                texts.append(f"({a.text} != 0)" if o == "bool" else self.as_kind(a, "float"))
        return texts

    def gives(self, op: Pointwise, arguments: list[E]) -> str:
        """The kind of an operator's result."""
        truths = op.name.startswith("bitwise_") and all(a.kind == "bool" for a in arguments)
        return "bool" if truths or op.result("float64") == "bool" else "float"

    def chosen(self, value: E, place: str) -> E:
        """The element of a tuple at a place that is known when the kernel runs."""
        name = f"element_{len(value.kind)}"
        self.names[name] = element_of(len(value.kind))
        return E(f"{name}({value.text}, {place})", value.kind[0],
                 tuple(None if t is None else f"{name}({t}, {place})" for t in value.tangents))

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
            if not node.elts:
                raise self.problem("an empty tuple cannot be in a kernel", node)
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
                raise self.problem(f"`{ast.unparse(node)}`: `and` and `or` join truth values; write `a if c else b`",
                                   node)
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
            return self.whole(int(value), node)
        if isinstance(value, (float, np.floating)):
            return E(f"_T({float(value)!r})", "float", literal=True)
        if isinstance(value, (complex, np.complexfloating)):
            if not self.scalar.complex_numbers:
                raise NeedsComplex(str(self.problem("a complex number makes a kernel for complex operands", node)))
            return E(f"complex(_T({value.real!r}), _T({value.imag!r}))", "float")
        if (isinstance(value, np.ndarray) and value.ndim == 1) or isinstance(value, list):
            value = tuple(value)
        if isinstance(value, tuple) and 0 < len(value) <= LONGEST:
            if len({isinstance(v, (int, np.integer)) for v in value}) == 2:
                value = tuple(float(v) if isinstance(v, (int, np.integer)) else v for v in value)
            parts = [self.literal(v, node) for v in value]
            return E(f"({', '.join(p.text for p in parts)},)", tuple(p.kind for p in parts))
        raise self.problem(f"`{ast.unparse(node)}` is {_article(type(value).__name__)}, which a kernel cannot hold", node)

    def whole(self, value: int, node: ast.expr) -> E:
        """A whole number; as a float where it does not fit into 64 bits."""
        if -1 << 63 <= value < 1 << 63:
            return E(repr(value), "int", literal=True)
        if abs(value) >= 1 << 1023:
            raise self.problem(f"`{ast.unparse(node)}` is too large a number", node)
        return E(f"_T({float(value)!r})", "float", literal=True)

    def folded(self, x: E, y: E, word: str, node: ast.expr) -> E:
        """What two whole numbers of the text give."""
        a, b = ast.literal_eval(x.text), ast.literal_eval(y.text)
        if word in ("//", "%") and b == 0:
            return self.whole(0, node)
        if (word in ("<<", ">>") and not 0 <= b < 64) or (word == "**" and b > 1023):
            raise self.problem(f"`{ast.unparse(node)}` is no number that a kernel can hold", node)
        return self.whole(FOLDED[word](a, b), node)

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
        if whole and word != "/" and x.literal and y.literal:
            return self.folded(x, y, word, node)
        if whole and word != "/":
            if word in ("//", "%") and (not y.literal or y.text == "0"):
                self.names["whole_" + ("quotient" if word == "//" else "rest")] = whole_quotient if word == "//" else whole_rest
                return E(f"whole_{'quotient' if word == '//' else 'rest'}({x.text}, {y.text})", "int")
            return E(f"({x.text} {word} {y.text})", "int")
        if word not in ("+", "-", "*", "/", "//", "%"):
            raise self.problem(f"`{ast.unparse(node)}`: {word} is for integers", node)
        if word == "/":
            return E(f"({self.ratio(self.as_kind(x, 'float'), self.as_kind(y, 'float'))})", "float")
        if word in ("//", "%"):
            return self.divided(self.as_kind(x, "float"), self.as_kind(y, "float"), word, node)
        return E(f"({self.as_kind(x, 'float')} {word} {self.as_kind(y, 'float')})", "float")

    def divided(self, a: str, b: str, word: str, node: ast.expr) -> E:
        """Floor division of floats, or what it leaves."""
        if self.scalar.complex_numbers:
            raise self.problem(f"`{ast.unparse(node)}`: {word} is for real numbers", node)
        name = "floor_divide" if word == "//" else "remainder"
        self.names[f"op_{name}"] = BOOK[name]
        return E(f"op_{name}({a}, {b})", "float")

    def plain_power(self, node, x: E, y: E, whole: bool) -> E:
        n = node.right.value if isinstance(node.right, ast.Constant) and type(node.right.value) is int else None
        if whole and n is not None and n >= 0:
            return self.folded(x, y, "**", node) if x.literal else E(f"({x.text} ** {n})", "int")
        a = self.as_kind(x, "float")
        if n is not None and 1 <= n <= UNROLLED and ((n < 3 and a.isidentifier()) or n == 1):
            return E("(" + " * ".join([a] * n) + ")", "float")
        if n is not None and 1 < n <= UNROLLED:
            self.names[f"power_{n}"] = whole_power(n)
            return E(f"power_{n}({a})", "float")
        self.names["op_pow"] = BOOK["pow"]
        return E(f"op_pow({a}, {self.as_kind(y, 'float')})", "float")

    def value_of_call(self, node: ast.Call) -> E:
        target = self.resolved(node)
        arguments = [self.plain(a) for a in node.args]
        if hasattr(target, "chooses"):
            return self.chosen(arguments[0], arguments[1].text)
        if target is interrupted:
            self.names["interrupted"] = interrupted
            return E(f"interrupted({arguments[0].text})", "bool")
        texts = [self.as_kind(a, "float") for a in arguments]
        if target in (min, max) and len(arguments) > 1:
            kind = arguments[0].kind
            for a in arguments[1:]:
                kind = self.joined(kind, a.kind)
            name = "larger" if target is max else "smaller"
            self.names[name] = larger if target is max else smaller
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
        if written_in_python(target):
            inner = self.inner(target, arguments, node)
            function = inner.make()
            given = [a.text if inner.kinds.get(n) == "int" else self.as_kind(a, "float")
                     for n, a in zip(inner.inputs, arguments, strict=True)]
            kind = _floating(function.result)
            return E(f"{self.named(function)}({', '.join(given)})", kind)
        raise self.problem(f"`{ast.unparse(node.func)}` cannot be called in a kernel", node)


def written_in_python(target: object) -> bool:
    """Whether a call leads to a function whose source is the user's: one of Python's, or what Numba made of one."""
    function = getattr(target, "py_func", target)
    return isinstance(function, types.FunctionType) and (function.__module__ or "").partition(".")[0] not in (
        "numpy", "random", "statistics", "scipy")


def record_of(target: object) -> str | None:
    """The record of the book that computes a function of math, cmath, NumPy or the engine; None where there is none."""
    if target is abs:
        return "abs"
    name = getattr(target, "__name__", "")
    module = getattr(target, "__module__", None) or ""
    known = isinstance(target, np.ufunc) or module.partition(".")[0] in ("math", "cmath", "numpy", "engine", "kernels")
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


def _said(kind: object) -> str:
    return {"float": "a number", "int": "an integer", "bool": "a truth value"}.get(kind, f"a tuple of {len(kind)}"
                                                                                      if isinstance(kind, tuple) else str(kind))


def _article(word: str) -> str:
    return f"{'an' if word[:1] in 'aeiou' else 'a'} {word}"
