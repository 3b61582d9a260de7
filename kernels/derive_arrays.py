"""Objectives written with indices and loops, `def f(x): ... for i in range(len(x)): ... x[i] ...`, as text of kernels.

A `Scalar` some of whose parameters are one-dimensional arrays. In the text an array is its memory `u_x` and its length `n_x`. Its
tangents run along `DIRECTIONS` neighbouring elements at a time, so that one pass gives that many elements of the gradient: vector
forward mode (Griewank and Walther, Evaluating Derivatives, 2008, section 3.2). Ways to walk over arrays that Python has and kernels
have not (`for v in x`, `enumerate`, `zip`, `sum` of a generator, `a, b = x`) are rewritten first. Called by engine.optimize.loops.
"""
from __future__ import annotations

import ast
import copy
import itertools
import math
import types
from collections.abc import Callable

import numpy as np

from .derive import Scalar
from .derive_functions import typed
from .derive_text import Writer
from .derive_values import E

ITEMSIZE = {"float32": 4, "float64": 8}
ARRAY = "array"             # the kind of a parameter


def element(dtype: str) -> types.FunctionType:
    """The element k of n at an address, nan where there is none."""
    return typed(f"def element_{dtype}(x, n, k):\n    if k < 0 or k >= n:\n        return _T(nan)\n"
                 f"    return load_{dtype}(x, k * {ITEMSIZE[dtype]})\n")


class Loops(Scalar):
    """A function of arrays and numbers that returns a number.

    `kinds`: of its parameters, ARRAY, "int" or "float"; those that it leaves out keep their defaults. `along`: the array that it is
    differentiated by; `dtype`: of all arrays, and computed in. `outside`: copies of NumPy's arrays that it finds in its closure or
    globals; they follow the parameters.
    """

    def __init__(self, function: Callable, kinds: dict[str, str], along: str, dtype: str):
        self.given, self.along, self.dtype = kinds, along, dtype
        super().__init__(function, kinds)
        self.outside = self._outside()
        self.inputs += tuple(self.outside)
        self.kinds |= dict.fromkeys(self.outside, ARRAY)
        self.arrays = tuple(n for n in self.inputs if self.kinds.get(n) == ARRAY)
        _Walks(self).visit(self.definition)
        ast.fix_missing_locations(self.definition)

    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters that are given; the others are constants of the text."""
        arguments, function = self.definition.args, self.function
        if arguments.vararg or arguments.kwarg or arguments.kwonlyargs:
            raise self.error(self.definition, "its parameters must be plain: no *args, no keyword-only ones")
        names = tuple(a.arg for a in (*arguments.posonlyargs, *arguments.args))
        defaults = dict(zip(reversed(names), reversed(function.__defaults__ or ()), strict=False))
        self.space = {**self.space, **{n: defaults[n] for n in names if n not in self.given and n in defaults}}
        if any(n not in self.given and n not in defaults for n in names) or any(n not in names for n in self.given):
            raise self.error(self.definition, f"{len(names)} parameters do not fit {len(self.given)} arguments")
        return tuple(n for n in names if n in self.given)

    def _outside(self) -> dict[str, np.ndarray]:
        stored = {n.id for n in ast.walk(self.definition) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        read = {n.id for n in ast.walk(self.definition) if isinstance(n, ast.Name)} - stored - set(self.inputs)
        found = {n: self.space.get(n) for n in sorted(read)}
        return {n: np.array(a, self.dtype) for n, a in found.items()
                if isinstance(a, np.ndarray) and a.ndim == 1 and a.dtype.kind in "fiu"}

    def written(self, directions: int) -> types.FunctionType:
        """The value, with `directions` above 0 also its derivatives by that many elements of `along` from `first` on.

        Parameters: for an array its address and length, for a number the number; last `first`, where there are directions.
        """
        writer = ArrayWriter(self, directions)
        source = writer.function()
        made = typed(source, **writer.names)
        made.loops = "interrupted" in writer.names or any(getattr(f, "loops", False) for f in writer.names.values())
        made.result = writer.result
        made.shown = lambda line: self.shown(writer.places[line - 2] if 1 < line < len(writer.places) + 2 else 1)
        return made

    def walks(self) -> bool:
        """Whether there is a loop in it or in a function that it calls."""
        below = [s.definition for s in self._inner.values()]
        return any(isinstance(n, (ast.For, ast.While)) for d in (self.definition, *below) for n in ast.walk(d))


class ArrayWriter(Writer):
    """The text of one function of arrays."""

    def __init__(self, scalar: Loops, directions: int):
        self.length = {n: f"n_{n}" for n in scalar.arrays}
        super().__init__(scalar, (scalar.along,) * directions)
        self.name = f"f_{scalar.name}" + (f"_along_{directions}" if directions else "")

    def parameters(self) -> list[str]:
        given = [t for n in self.scalar.inputs for t in ((f"u_{n}", f"n_{n}") if n in self.scalar.arrays else (f"u_{n}",))]
        return [*given, *["first"] * bool(self.wanted)]

    def seeds(self) -> None:
        """The tangents of elements are made where they are read."""

    def element_at(self, name: str, index: ast.expr) -> tuple[E, str]:
        """An element of an array, and the variable that holds its place."""
        place = self.plain(index)
        if place.kind != "int":
            raise self.problem(f"`{ast.unparse(index)}`: an index must be an integer", index)
        k = self.let(place.text)
        if not place.literal or place.text.startswith(("-", "(-")):
            k = self.let(f"{k} + {self.length[name]} if {k} < 0 else {k}")
        self.names[f"element_{self.scalar.dtype}"] = element(self.scalar.dtype)
        return E(self.let(f"element_{self.scalar.dtype}(u_{name}, {self.length[name]}, {k})"), "float"), k

    def array(self, node: ast.expr) -> str | None:
        """The name of the array that an expression is."""
        return node.id if isinstance(node, ast.Name) and node.id in self.length else None

    def plain(self, node: ast.expr) -> E:
        if isinstance(node, ast.Subscript) and self.array(node.value):
            return self.element_at(node.value.id, node.slice)[0]
        if self.array(node):
            raise self.problem(f"`{node.id}` can only be indexed here", node)
        return super().plain(node)

    def of_Name(self, node) -> E:
        return self.plain(node) if self.array(node) else super().of_Name(node)

    def of_Subscript(self, node) -> E:
        if not self.array(node.value):
            return super().of_Subscript(node)
        found, k = self.element_at(node.value.id, node.slice)
        if node.value.id == self.scalar.along:
            found.tangents = tuple(self.let(f"_T({k} == first + {d})" if d else f"_T({k} == first)")
                                   for d in range(len(self.wanted)))
        else:
            found.tangents = (None,) * len(self.wanted)
        return found

    def value_of_call(self, node: ast.Call) -> E:
        if len(node.args) == 1 and self.array(node.args[0]) and self.resolved(node) is len:
            return E(self.length[node.args[0].id], "int")
        return super().value_of_call(node)


# --- ways to walk that kernels do not have ------------------------------------------------------------------------------

class _Walks(ast.NodeTransformer):
    """Rewrites walks over arrays as loops over their indices, and sums of generators as loops."""

    def __init__(self, scalar: Loops):
        self.scalar, self.count = scalar, 0
        self.before: list[ast.stmt] | None = None       # statements that an expression needs in front of its own

    def fresh(self) -> str:
        self.count += 1
        return f"walk{self.count}_"

    def is_(self, node: ast.expr, function: Callable, options: tuple[str, ...] = ()) -> bool:
        """Whether an expression calls a function that the user's code knows by name."""
        return isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)) and (
            all(k.arg in options for k in node.keywords)) and (
            self.scalar.space.get(node.func.id) is function if isinstance(node.func, ast.Name) else
            isinstance(node.func.value, ast.Name)
            and getattr(self.scalar.space.get(node.func.value.id), node.func.attr, None) is function)

    # --- statements -----------------------------------------------------------------------------------------------------

    def visit(self, node):
        if not isinstance(node, ast.stmt) or isinstance(node, ast.FunctionDef):
            return super().visit(node)
        outside, self.before = self.before, []
        if isinstance(node, (ast.For, ast.While)):
            made = self.visit_loop(node)
        elif isinstance(node, ast.If):
            node.test = self.visit(node.test)
            first, self.before = self.before, []
            node.body, node.orelse = self.block(node.body), self.block(node.orelse)
            self.before, made = first, [node]
        elif isinstance(node, ast.Assign) and len(node.targets) == 1 and self.unpacked(node):
            made = self.unpacked(node)
        else:
            made = [super().visit(node)]
        made, self.before = [*self.before, *made], outside
        return made if len(made) > 1 else made[0]

    def block(self, body: list[ast.stmt]) -> list[ast.stmt]:
        found: list[ast.stmt] = []
        for statement in body:
            made = self.visit(statement)
            found += made if isinstance(made, list) else [made]
        return found

    def visit_loop(self, node: ast.For | ast.While) -> list[ast.stmt]:
        if isinstance(node, ast.While):
            inside = [n for n in ast.walk(node.test) if isinstance(n, (ast.GeneratorExp, ast.ListComp))]
            if inside:
                raise self.scalar.error(node, "a comprehension in the test of `while` cannot be in a kernel")
            node.test = self.visit(node.test)
            node.body = self.block(node.body)
            return [node]
        head = [] if self.is_(node.iter, range) else self.over(node)
        if self.is_(node.iter, range):
            node.iter = self.visit(node.iter)
        first, self.before = self.before, []
        node.body = [*head, *self.block(node.body)]
        self.before = first
        return [node]

    def over(self, node: ast.For) -> list[ast.stmt]:
        """Make a loop over arrays one over their indices; the statements that take the elements."""
        if node.orelse:
            raise self.scalar.error(node, "`for ... else` cannot be in a kernel")
        index: ast.expr = ast.Name(self.fresh(), ast.Load())
        iterated, target = node.iter, node.target
        counted = self.is_(iterated, enumerate) and len(iterated.args) == 1
        if counted:
            if not isinstance(target, ast.Tuple) or len(target.elts) != 2 or not isinstance(target.elts[0], ast.Name):
                raise self.scalar.error(node, "enumerate needs `for index, element in ...` here")
            iterated, index, target = iterated.args[0], ast.Name(target.elts[0].id, ast.Load()), target.elts[1]
        joined = self.is_(iterated, zip, ("strict",))
        parts = list(iterated.args) if joined else [iterated]
        if self.is_(iterated, itertools.pairwise) and len(iterated.args) == 1:
            joined, (whole,) = True, iterated.args
            parts = [ast.Subscript(whole, ast.Slice(None, ast.Constant(-1)), ast.Load()),
                     ast.Subscript(whole, ast.Slice(ast.Constant(1), None), ast.Load())]
        targets = list(target.elts) if joined and isinstance(target, ast.Tuple) else [target]
        if len(parts) != len(targets) or not parts:
            raise self.scalar.error(node, f"{len(targets)} names cannot take {len(parts)} elements")
        made = [self.part(p, node) for p in parts]
        sizes = [size for size, _ in made]
        size = sizes[0] if len(sizes) == 1 else ast.Call(ast.Name("min", ast.Load()), sizes, [])
        node.iter = ast.Call(ast.Name("range", ast.Load()), [size], [])
        node.target = ast.Name(index.id, ast.Store())
        return [ast.copy_location(ast.Assign([t], take(copy.deepcopy(index))), node)
                for t, (_, take) in zip(targets, made, strict=True)]

    def part(self, node: ast.expr, at: ast.AST) -> tuple[ast.expr, Callable[[ast.expr], ast.expr]]:
        """(number of elements, element at an index) of an array or of a slice of one with whole numbers as limits."""
        low, high, name = 0, 0, node
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice) and node.slice.step is None:
            name, low, high = node.value, _whole(node.slice.lower), _whole(node.slice.upper)
        limits = low is not None and high is not None and low >= 0 >= high
        if not isinstance(name, ast.Name) or name.id not in self.scalar.arrays or not limits:
            raise self.scalar.error(at, f"a kernel cannot walk over `{ast.unparse(node)}`")
        size: ast.expr = ast.Call(ast.Name("len", ast.Load()), [name], [])
        if low - high:
            size = ast.BinOp(size, ast.Sub(), ast.Constant(low - high))
        return size, lambda k: ast.Subscript(name, ast.BinOp(k, ast.Add(), ast.Constant(low)) if low else k, ast.Load())

    def unpacked(self, node: ast.Assign) -> list[ast.stmt]:
        """`a, b = x` element by element; nothing where it is another assignment."""
        target, value = node.targets[0], node.value
        if not (isinstance(target, (ast.Tuple, ast.List)) and isinstance(value, ast.Name) and value.id in self.scalar.arrays):
            return []
        return [ast.copy_location(ast.Assign([t], ast.Subscript(value, ast.Constant(k), ast.Load())), node)
                for k, t in enumerate(target.elts)]

    # --- expressions ----------------------------------------------------------------------------------------------------

    def visit_Attribute(self, node):
        if isinstance(node.value, ast.Name) and node.value.id in self.scalar.arrays and node.attr == "size":
            return ast.copy_location(ast.Call(ast.Name("len", ast.Load()), [node.value], []), node)
        return self.generic_visit(node)

    def visit_Subscript(self, node):
        value = node.value
        if (isinstance(value, ast.Attribute) and value.attr == "shape" and isinstance(value.value, ast.Name)
                and value.value.id in self.scalar.arrays and isinstance(node.slice, ast.Constant) and node.slice.value in (0, -1)):
            return ast.copy_location(ast.Call(ast.Name("len", ast.Load()), [value.value], []), node)
        return self.generic_visit(node)

    def visit_Call(self, node):
        total = self.is_(node, sum)
        if (total or self.is_(node, math.prod)) and len(node.args) == 1:
            return self.folded(node, ast.Add() if total else ast.Mult(), 0 if total else 1)
        return self.generic_visit(node)

    def folded(self, node: ast.Call, op: ast.operator, start: int) -> ast.expr:
        """A sum or product over a generator or an array: a loop in front, and the variable that it leaves."""
        if self.before is None:
            raise self.scalar.error(node, "a sum cannot stand here in a kernel")
        (given,) = node.args
        name, element = self.fresh(), self.fresh()
        if isinstance(given, (ast.GeneratorExp, ast.ListComp)):
            value, generators = given.elt, given.generators
        else:
            value = ast.Name(element, ast.Load())
            generators = [ast.comprehension(ast.Name(element, ast.Store()), given, [], 0)]
        body: list[ast.stmt] = [ast.Assign([ast.Name(name, ast.Store())],
                                           ast.BinOp(ast.Name(name, ast.Load()), op, value))]
        for g in reversed(generators):
            for test in reversed(g.ifs):
                body = [ast.If(test, body, [])]
            body = [ast.For(g.target, g.iter, body, [])]
        begin = ast.Assign([ast.Name(name, ast.Store())], ast.Constant(start))
        for statement in (begin, *body):
            for n in ast.walk(statement):
                ast.copy_location(n, node)
        self.before += [begin, *self.block(body)]
        return ast.copy_location(ast.Name(name, ast.Load()), node)

    def conditional(self, node):
        """What is not always evaluated cannot be computed in front."""
        outside, self.before = self.before, None
        node = self.generic_visit(node)
        self.before = outside
        return node

    visit_IfExp = visit_BoolOp = visit_Lambda = visit_GeneratorExp = visit_ListComp = conditional


def _whole(node: ast.expr | None) -> int | None:
    """A limit of a slice: a whole number, 0 where it is left out."""
    if node is None:
        return 0
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        return -node.operand.value if type(node.operand.value) is int else None
    return node.value if isinstance(node, ast.Constant) and type(node.value) is int else None
