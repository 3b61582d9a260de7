"""The program that a trace records: values, the nodes that compute them, and how nodes read values through views.

A value stands for a whole block of memory as one node leaves it; a view of it (a slice, a transpose, a broadcast) is not a node but
a `Ref`, an offset and strides into the value. Writes in place make new values, so that every value is computed once. Built by
`engine.compiler.trace`, improved by `passes`, turned into kernels by `schedule` and `codegen`.
"""
from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from kernels.book import Fold, Structural
from kernels.symbol import Symbol, lines

if TYPE_CHECKING:
    from ..viz import Drawing


@dataclasses.dataclass(eq=False, repr=False)
class Value:
    """A block of memory of `shape` with `strides` (in elements), dense, as `node` leaves it.

    `output`: which of the node's results it is. `array`: for captured values the memory itself; `constant`: it never changes.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    node: Node | None = None
    output: int = 0
    array: np.ndarray | None = None
    constant: bool = False
    name: str = ""

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def extent(self) -> int:
        """Elements from the first to one past the last in memory."""
        return 0 if 0 in self.shape else 1 + sum((n - 1) * abs(s) for n, s in zip(self.shape, self.strides, strict=True))

    def whole(self) -> Ref:
        return Ref(self, 0, self.shape, self.strides)

    def __repr__(self) -> str:
        return self.name or f"value {id(self):#x}"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Ref:
    """How a node reads (or writes) a value: element (i, j, ...) of the view is at offset + i * strides[0] + j * strides[1] ..."""

    value: Value
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def dtype(self) -> str:
        return self.value.dtype

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def key(self) -> tuple:
        return id(self.value), self.offset, self.shape, self.strides

    def covers(self) -> bool:
        """Whether it is the whole value, element by element in the same order."""
        return not self.offset and self.shape == self.value.shape and self.strides == self.value.strides

    def fills(self) -> bool:
        """Whether it is all of the value's memory, each element once, in whatever dimensions."""
        step = 1
        for s, n in sorted((s, n) for s, n in zip(self.strides, self.shape, strict=True) if n != 1):
            if s != step:
                return False
            step *= n
        return not self.offset and step == self.value.size == self.value.extent

    def broadcast(self, shape: tuple[int, ...]) -> Ref:
        """The same elements, repeated as broadcasting to `shape` repeats them."""
        if shape == self.shape:
            return self
        lead = len(shape) - len(self.shape)
        strides = (0,) * lead + tuple(0 if n == 1 and m != 1 else s
                                      for n, m, s in zip(self.shape, shape[lead:], self.strides, strict=True))
        return Ref(self.value, self.offset, shape, strides)

    def __repr__(self) -> str:
        if self.covers():
            return repr(self.value)
        return f"{self.value!r}[{self.offset}; {' '.join(f'{n}:{s}' for n, s in zip(self.shape, self.strides, strict=True))}]"


@dataclasses.dataclass(eq=False, repr=False)
class Node:
    """What computes values. `reads`: the views it reads; `values`: its results."""

    reads: list[Ref]
    values: list[Value] = dataclasses.field(default_factory=list)

    def title(self) -> str:
        return type(self).__name__.lower()

    def about(self) -> str:
        """The node's own part of its printed line."""
        return ""

    def __repr__(self) -> str:
        made = ", ".join(f"{v!r}: {v.dtype}[{', '.join(map(str, v.shape))}]" for v in self.values)
        return f"{made} = {self.title()}({', '.join(map(repr, self.reads))}{self.about()})"


@dataclasses.dataclass(eq=False, repr=False)
class Map(Node):
    """Pointwise: `expressions` (one a value) over symbols x0, x1, ... that stand for `reads`; computed in `compute`."""

    expressions: list = dataclasses.field(default_factory=list)
    compute: str = "float32"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values[0].shape

    def title(self) -> str:
        statements, results, _ = lines(self.expressions, repr)
        body = "; ".join([*(s.replace("op_", "") for s in statements), "-> " + ", ".join(results)])
        return f"map[{body}]"


@dataclasses.dataclass(eq=False, repr=False)
class Reduce(Node):
    """A fold of its first read over `dims`, further reads broadcast to the result with `dims` at size 1."""

    fold: Fold | None = None
    dims: tuple[int, ...] = ()

    def title(self) -> str:
        return self.fold.name

    def about(self) -> str:
        return f", dims={self.dims}"


@dataclasses.dataclass(eq=False, repr=False)
class Put(Node):
    """The first read (whole) with the second one in the region that `place` shows; without a first read the rest is `fill`."""

    place: Ref | None = None
    fill: complex | None = None

    def about(self) -> str:
        steps = " ".join(f"{n}:{s}" for n, s in zip(self.place.shape, self.place.strides, strict=True))
        return f", at={self.place.offset}; {steps}"


@dataclasses.dataclass(eq=False, repr=False)
class Call(Node):
    """A structural operator run as it is, by its own kernels. The last reads are the options `named`, which are arrays."""

    operator: Structural | None = None
    options: dict = dataclasses.field(default_factory=dict)
    many: bool = False
    named: tuple[str, ...] = ()

    @property
    def operands(self) -> list[Ref]:
        """What the operator works on."""
        return self.reads[:len(self.reads) - len(self.named)]

    def title(self) -> str:
        return self.operator.name

    def about(self) -> str:
        return "".join(f", {k}={v!r}" for k, v in self.options.items())


@dataclasses.dataclass(eq=False, repr=False)
class Guard(Node):
    """A number that Python saw while tracing: the program is right only where the read gives it again."""

    seen: object = None
    where: str = ""             # the line that looked

    def about(self) -> str:
        return f" == {self.seen!r}"


@dataclasses.dataclass(eq=False, repr=False)
class Graph:
    """A traced program.

    `inputs`: values handed in, in order of the call; `captured`: (value, owner) of tensors that the function found elsewhere;
    `nodes`: in an order that respects reads; `results`: what the function gave back; `writes`: (place, new value) for inputs and
    captured tensors written in place.
    """

    inputs: list[Value] = dataclasses.field(default_factory=list)
    captured: list[tuple[Value, object]] = dataclasses.field(default_factory=list)
    nodes: list[Node] = dataclasses.field(default_factory=list)
    results: list[Ref] = dataclasses.field(default_factory=list)
    writes: list[tuple[Value, Value]] = dataclasses.field(default_factory=list)

    def wanted(self) -> Iterator[Ref]:
        """What must exist at the end."""
        yield from self.results
        for old, new in self.writes:            # the memory of both is one; its dimensions may have been merged
            yield Ref(new, 0, old.shape, old.strides)

    def name_values(self) -> None:
        """Give values short names, in order."""
        for k, v in enumerate(self.inputs):
            v.name = f"in{k}"
        for k, (v, _) in enumerate(self.captured):
            v.name = f"captured{k}"
        count = 0
        for node in self.nodes:
            for v in node.values:
                v.name = f"v{count}"
                count += 1

    def dot(self) -> Drawing:
        """The program as a picture in Graphviz's language, see `engine.viz.draw_graph`."""
        from ..viz import draw_graph
        return draw_graph(self)

    def __str__(self) -> str:
        self.name_values()
        head = [f"{v!r}: {v.dtype}[{', '.join(map(str, v.shape))}]" for v in [*self.inputs, *(v for v, _ in self.captured)]]
        tail = [f"return {', '.join(map(repr, self.results))}"] + [f"write {old!r} <- {new!r}" for old, new in self.writes]
        return "\n".join([f"graph({', '.join(head)})", *("    " + repr(n) for n in self.nodes), *("    " + t for t in tail)])


def symbol(k: int) -> Symbol:
    """The symbol that stands for a map's k-th read."""
    return Symbol(f"x{k}")


def core(value: Value) -> str:
    """A whole value as the core dimensions of a gufunc."""
    return f"({','.join(map(str, value.shape))})"
