"""Tangents in the text of a kernel: each expression is printed with its derivative along every input that is asked for.

Forward mode: the tangents of an expression follow from those of its parts, by the rules of arithmetic, by the partial derivatives
of the book's records, or by the derivatives of another function of the user's. Values without tangents are in `derive_values`.
"""
from __future__ import annotations

import ast
import math

from .book import BOOK
from .derive_values import OPERATORS, UNROLLED, WHOLE, E, Values, _call, _floating, record_of, written_in_python
from .symbol import Symbol


class Tangents(Values):
    """Expressions with tangents."""

    wanted: tuple[str, ...]             # the inputs that are differentiated by
    active: list[set[str]]              # for each of them, the variables that have a tangent

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
        if word == "%":
            self.divided("", "", word, node)            # for real numbers
            return self.record("remainder", [x, y], node)
        a, b = self.held(x), self.held(y)
        value = self.let(self.ratio(a, b) if word == "/" else f"{a} {word} {b}")
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
            else:
                above = f"({t} - {value} * {s})" if t and s else t or f"(-{value} * {s})"
                tangents.append(self.let(self.ratio(above, b)))
        return E(value, "float", tuple(tangents))

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
            quotient = ast.BinOp(_call(node, node.args[0]), ast.Div(), _call(node, node.args[1]))
            return self.of_BinOp(ast.copy_location(quotient, node))
        known = record_of(target)
        if known is not None:
            return self.record(known, arguments, node)
        if written_in_python(target):
            return self.user(target, arguments, node)
        raise self.problem(f"the derivative of `{ast.unparse(node.func)}` is not known", node)

    def record(self, name: str, arguments: list[E], node: ast.expr) -> E:
        """An operator of the book, differentiated by its own partials."""
        op = BOOK[name]
        if len(arguments) != len(op.inputs):
            raise self.problem(f"`{ast.unparse(node)}`: {len(op.inputs)} argument{'s' * (len(op.inputs) > 1)} needed", node)
        texts = self.operands(op, arguments)
        held = [t if t.isidentifier() or a.literal else self.let(t) for t, a in zip(texts, arguments, strict=True)]
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
