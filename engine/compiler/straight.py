"""Small programs as straight-line scalar code: every element of every value is a variable, there is no loop and no array.

    >>> print(straight_program(graph).source)
    def kernel(args, dimensions, steps, data):
        a0 = load_float64(args[0], 0)
        ...
        store_float64(args[1], 0, t7)
"""
from __future__ import annotations

import itertools
import math
from collections.abc import Callable

from kernels.book import Fold
from kernels.cpu.folds import functions as fold_functions
from kernels.cpu.folds import states
from kernels.cpu.maps import FLOATING, ITEMSIZE, loaded, stored
from kernels.cpu.native import Program
from kernels.symbol import Symbol, called, joints

from .graph import Graph, Guard, Map, Node, Put, Reduce, Ref, Value, core

MOST = 400              # statements up to which straight-line code pays


def positions(ref: Ref) -> list[int]:
    """Where the elements of a view are in its value's memory, in row-major order of the view."""
    axes = [[k * s for k in range(n)] for n, s in zip(ref.shape, ref.strides, strict=True)]
    return [ref.offset + sum(p) for p in itertools.product(*axes)]


def cost(graph: Graph) -> int:
    """About how many statements a program has as straight-line code."""
    total = 0
    for node in graph.nodes:
        if isinstance(node, Map):
            total += math.prod(node.shape) * sum(1 + _operators(e) for e in node.expressions)
        elif isinstance(node, Reduce):
            total += 3 * node.reads[0].size
        elif not isinstance(node, (Put, Guard)):
            return 1 << 60
    return total


def _operators(expression) -> int:
    return 1 + sum(map(_operators, expression.operands)) if isinstance(expression, Symbol) and not expression.name else 0


class Writer:
    """Statements of one kernel; equal right-hand sides are computed once. `together`: see `kernels.symbol.called`."""

    def __init__(self, together: set):
        self.together = together
        self.statements: list[str] = []
        self.functions: dict[str, tuple] = {}
        self.known: dict[str, str] = {}
        self.elements: dict[int, dict[int, str]] = {}       # id of a value -> position -> variable

    def let(self, text: str) -> str:
        """The variable that holds an expression of source text."""
        name = self.known.get(text)
        if name is None:
            name = self.known[text] = f"t{len(self.known)}"
            self.statements.append(f"{name} = {text}")
        return name

    def input(self, value: Value, load: Callable[[int], str]) -> None:
        """A value that the caller hands in; `load(position)` is the text of an element, loaded where it is used."""
        self.elements[id(value)] = _Loads(self, load)

    def nodes(self, nodes: list[Node]) -> None:
        """The statements of some nodes, in order."""
        for node in nodes:
            {Map: self.map, Reduce: self.reduce, Put: self.put}[type(node)](node)

    def expression(self, e, compute: str, names: dict[str, str]) -> str:
        """A map's expression over variables."""
        if not isinstance(e, Symbol):
            literal = "float64" if compute == "bool" else compute
            return f"as_{literal}({e!r})"
        if e.name:
            return names[e.name]
        operator, part = called(e.operator, self.together)
        function = f"{operator.name}_{compute}"
        self.functions[function] = operator.body(compute)
        made = self.let(f"{function}({', '.join(self.expression(o, compute, names) for o in e.operands)})")
        return self.let(made + part) if part else made

    def converted(self, dtype: str, value: str) -> str:
        """A computed value as it is after a round trip through memory of `dtype`."""
        if dtype == "bool":
            return self.let(f"{value} != 0") if not value.startswith("t") else value
        if dtype == "float16":
            return self.let(f"half_to_float(float_to_half(as_float32({value})))")
        return self.let(f"as_{dtype}({value})")

    def map(self, node: Map) -> None:
        places = [positions(r) for r in node.reads]
        sources = [self.elements[id(r.value)] for r in node.reads]
        targets = [positions(v.whole()) for v in node.values]
        for v in node.values:
            self.elements[id(v)] = {}
        for i in range(math.prod(node.shape)):
            names = {f"x{k}": source[place[i]] for k, (source, place) in enumerate(zip(sources, places, strict=True))}
            for v, e, target in zip(node.values, node.expressions, targets, strict=True):
                self.elements[id(v)][target[i]] = self.converted(v.dtype, self.expression(e, node.compute, names))

    def reduce(self, node: Reduce) -> None:
        first, op = node.reads[0], node.fold
        dtype = first.dtype
        _, wide = states(op, dtype)
        kept = [d for d in range(len(first.shape)) if d not in node.dims]
        moved = Ref(first.value, first.offset, tuple(first.shape[d] for d in (*kept, *node.dims)),
                    tuple(first.strides[d] for d in (*kept, *node.dims)))
        source, places = self.elements[id(first.value)], positions(moved)
        count = math.prod(first.shape[d] for d in node.dims)
        extras = []
        for r in node.reads[1:]:
            shape = tuple(1 if d in node.dims else n for d, n in enumerate(first.shape))
            extras.append((self.elements[id(r.value)], positions(r.broadcast(shape))))
        targets = [positions(v.whole()) for v in node.values]
        for v in node.values:
            self.elements[id(v)] = {}
        for i in range(math.prod(first.shape[d] for d in kept)):
            given = [s[p[i]] for s, p in extras]
            result = self.fold(op, dtype, wide, [source[p] for p in places[i * count:(i + 1) * count]], given)
            for k, (v, target) in enumerate(zip(node.values, targets, strict=True)):
                one = result if len(node.values) == 1 else f"{result}[{k}]"
                self.elements[id(v)][target[i]] = self.converted(v.dtype, one)

    def fold(self, op: Fold, dtype: str, wide: tuple[str, ...], elements: list[str], extras: list[str]) -> str:
        """The result of folding some variables, as the kernels of `kernels.cpu.folds` do it for few elements."""
        own = {f"{word}_{op.name}_{dtype}": f for word, f in fold_functions(op.kernel or op, dtype, wide).items()}
        self.functions.update(own)
        lift, combine, finish = own
        total = None
        for k, x in enumerate(elements):
            state = self._state(f"{lift}({', '.join([x, str(k), *extras])})", wide)
            total = state if total is None else self._state(f"{combine}({total}, {state})", wide)
        if total is None:
            start = [f"as_{d}({v!r})" for d, v in zip(wide, op.start(dtype), strict=True)]
            total = start[0] if len(start) == 1 else f"({', '.join(start)})"
        return self.let(f"{finish}({total}, {len(elements)})")

    def _state(self, text: str, wide: tuple[str, ...]) -> str:
        if len(wide) == 1:
            return self.let(f"as_{wide[0]}({text})")
        whole = self.let(text)
        return self.let("(" + ", ".join(f"as_{d}({whole}[{k}])" for k, d in enumerate(wide)) + ")")

    def put(self, node: Put) -> None:
        value = node.values[0]
        part = node.reads[-1]
        if len(node.reads) > 1:
            elements = dict(self.all_of(node.reads[0].value))
        elif node.fill is not None:
            zero = f"as_{value.dtype}({node.fill!r})" if value.dtype != "bool" else repr(bool(node.fill))
            elements = dict.fromkeys(positions(value.whole()), zero)
        else:
            elements = {}
        source = self.elements[id(part.value)]
        for at, p in zip(positions(node.place), positions(part), strict=True):
            elements[at] = source[p]
        self.elements[id(value)] = elements

    def all_of(self, value: Value) -> dict[int, str]:
        """The elements of a value; fewer than it has while regions are still being put into it."""
        source = self.elements[id(value)]
        return {p: source[p] for p in positions(value.whole()) if p in source or source.__class__ is _Loads}


class _Loads(dict):
    def __init__(self, writer: Writer, load: Callable[[int], str]):
        super().__init__()
        self.writer, self.load = writer, load

    def __missing__(self, position: int) -> str:
        found = self[position] = self.writer.let(self.load(position))
        return found


def writer_of(nodes: list[Node]) -> Writer:
    """A writer for some nodes, whose inputs it has still to be told."""
    return Writer(joints([e for node in nodes if isinstance(node, Map) for e in node.expressions]))


def straight_program(name: str, inputs: list[Value], nodes: list, outputs: list[Value]) -> Program:
    """The kernel of some nodes: operands are `inputs`, then `outputs`, each a whole value in its own layout."""
    w = writer_of(nodes)
    for k, v in enumerate(inputs):
        w.input(v, lambda position, k=k, d=v.dtype: loaded(d, f"args[{k}]", str(position * ITEMSIZE[d])))
    w.nodes(nodes)
    for k, v in enumerate(outputs):
        for p, element in w.all_of(v).items():
            w.statements.append(stored(v.dtype, f"args[{len(inputs) + k}]", str(p * ITEMSIZE[v.dtype]), element))
    if any(v.dtype in FLOATING for v in (*inputs, *outputs)):
        w.statements.append("clear_status()")
    source = "def kernel(args, dimensions, steps, data):\n" + "".join(f"    {s}\n" for s in w.statements)
    sides = [",".join(core(v) for v in side) for side in (inputs, outputs)]
    return Program(name, source, functions=w.functions, inputs=tuple(v.dtype for v in inputs),
                   outputs=tuple(v.dtype for v in outputs), signature=f"{sides[0]}->{sides[1]}")
