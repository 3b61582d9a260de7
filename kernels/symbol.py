"""Symbols: run a derivative formula once over them and it becomes an expression that can be printed as kernel source.

    >>> x, g = Symbol("x"), Symbol("g")
    >>> lines(( g * x, ))
    (['v0 = op_mul(g, x)'], ['v0'], ['g', 'x'])

A formula is written with Python's operators and the book's operators; both end in `Operator.__call__`, which hands a
symbol's call to `Symbol.__operator__`. Only pointwise operators have symbols. Used by `kernels.cpu.codegen`.
"""
from __future__ import annotations

from collections.abc import Sequence

Operand = "Symbol | complex"


class Symbol:
    """A name (an input) or an operator applied to symbols and numbers."""

    __slots__ = ("name", "operands", "operator")

    def __init__(self, name: str = "", operator=None, operands: Sequence = ()):
        self.name, self.operator, self.operands = name, operator, tuple(operands)

    def __operator__(self, operator, operands, options):
        if options:
            raise TypeError(f"{operator.name}: options {sorted(options)} cannot stand in a derivative formula")
        return simplify(operator, operands)

    def key(self) -> tuple:
        """Equal for equal expressions."""
        return (self.name, self.operator and self.operator.name,
                tuple(o.key() if isinstance(o, Symbol) else (type(o), repr(o)) for o in self.operands))

    def __repr__(self) -> str:
        return self.name or f"{self.operator.name}({', '.join(map(repr, self.operands))})"


def _python_operators() -> None:
    """Give symbols Python's operators, each from the record that claims it."""
    from .book import BOOK

    def binary(name):
        def method(self, other):
            return BOOK[name](self, other)

        def swapped(self, other):
            return BOOK[name](other, self)
        return method, swapped
    for python, name in [("add", "add"), ("sub", "sub"), ("mul", "mul"), ("truediv", "div"), ("pow", "pow"),
                         ("and", "bitwise_and"), ("or", "bitwise_or")]:
        method, swapped = binary(name)
        setattr(Symbol, f"__{python}__", method)
        setattr(Symbol, f"__r{python}__", swapped)
    for python, name in [("lt", "lt"), ("le", "le"), ("gt", "gt"), ("ge", "ge"), ("eq", "eq"), ("ne", "ne")]:
        setattr(Symbol, f"__{python}__", binary(name)[0])
    Symbol.__hash__ = object.__hash__
    Symbol.__neg__ = lambda self: BOOK["neg"](self)
    Symbol.__invert__ = lambda self: BOOK["bitwise_not"](self)


def _is(value, number) -> bool:
    return not isinstance(value, Symbol) and value == number


def simplify(operator, operands):
    """Build an expression; drop what is exact to drop for every value, infinities and NaN included."""
    if operator.name == "mul":
        a, b = operands
        if _is(a, 1):
            return b
        if _is(b, 1):
            return a
        if _is(a, -1) or _is(b, -1):
            from .book import BOOK
            return Symbol("", BOOK["neg"], (b if _is(a, -1) else a,))
    if operator.name == "div" and _is(operands[1], 1):
        return operands[0]
    return Symbol("", operator, operands)


def inputs_of(outputs: Sequence) -> list[str]:
    """The named symbols that expressions mention, in order of first use."""
    found: dict[str, None] = {}

    def walk(e):
        if isinstance(e, Symbol):
            if e.name:
                found[e.name] = None
            for o in e.operands:
                walk(o)
    for e in outputs:
        walk(e)
    return list(found)


def joints(expressions: Sequence) -> set:
    """The functions of several results of which parts stand in expressions."""
    found, left = set(), list(expressions)
    while left:
        e = left.pop()
        if isinstance(e, Symbol) and not e.name:
            left += e.operands
            if getattr(e.operator, "joint", None):
                found.add(e.operator.joint[0])
    return found


def called(operator, together: set) -> tuple:
    """What a kernel calls for an operator, and the part of its result that is meant, as "[1]" or "".

    Where a function that gives a value with its derivatives is there for the derivatives (`together`), it gives the value, too.
    """
    along = getattr(operator, "along", None)
    if along in together:
        return along, operator.value_in_along
    return getattr(operator, "joint", None) or (operator, "")


def lines(outputs: Sequence, number=repr) -> tuple[list[str], list[str], list]:
    """Straight-line source of expressions: statements, result names, and the operators used; equal parts are shared.

    `number` prints a constant.
    """
    names: dict[tuple | str, str] = {}
    statements: list[str] = []
    operators: dict[str, object] = {}
    together = joints(outputs)

    def emit(e) -> str:
        if not isinstance(e, Symbol):
            return number(e)
        if e.name:
            return e.name
        key = e.key()
        if key not in names:
            arguments = ", ".join(emit(o) for o in e.operands)
            operator, part = called(e.operator, together)
            operators[operator.name] = operator
            text = f"op_{operator.name}({arguments})"
            if part:            # one of several results of one function, which runs once for all of them
                if text not in names:
                    names[text] = f"w{len(names)}"
                    statements.append(f"{names[text]} = {text}")
                text = names[text] + part
            names[key] = f"v{len(names)}"
            statements.append(f"{names[key]} = {text}")
        return names[key]
    results = [emit(e) for e in outputs]
    return statements, results, list(operators.values())
