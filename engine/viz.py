"""Pictures of graphs as DOT source: `make_dot` draws what autograd recorded, as torchviz does, `draw_graph` a compiled program.

What lives here: walking a graph without recursion, labels and colours, and the `Drawing` that holds the source. Laying a picture
out is Graphviz's work (https://graphviz.org, the program `dot`), which only `Drawing.render`, `view` and notebooks need.
"""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from . import tree
from .tape import Node
from .tensor import Tensor

if TYPE_CHECKING:
    from .compiler.graph import Graph, Ref

LEAF, OUTPUT, BASE, SAVED = "lightblue", "darkolivegreen1", "darkolivegreen3", "orange"     # torchviz's colours
_STYLE = {"style": "filled", "shape": "box", "align": "left", "fontsize": "10", "ranksep": "0.1", "height": "0.2",
          "fontname": "monospace"}
_SMALLEST, _ROW = 12.0, 0.15        # inches of the whole picture, at least and for each line of the source
_MOST_LINES = 16                    # of one label of a compiled program
_LEFT = "\v"                        # in labels: ends a line that begins at the left


class DotNotFound(RuntimeError):
    """Graphviz is not installed; the source can still be drawn elsewhere."""


class Drawing:
    """A graph in Graphviz's language: `source` is the text; the rest needs Graphviz's program `dot`."""

    def __init__(self, name: str = "") -> None:
        self.name, self.format = name, "pdf"
        self._body: list[str] = []

    def node(self, name: str, label: str, **attributes: str) -> None:
        """Add a node; a second one of the same name changes the first."""
        self._body.append(f"\t{name} [{_attributes({'label': label, **attributes})}]")

    def edge(self, tail: str, head: str, **attributes: str) -> None:
        """Add an arrow between nodes."""
        self._body.append(f"\t{tail} -> {head}" + (f" [{_attributes(attributes)}]" if attributes else ""))

    @property
    def source(self) -> str:
        """The graph in the DOT language."""
        size = max(_SMALLEST, len(self._body) * _ROW)
        head = ["digraph {", f'\tgraph [size="{size:g},{size:g}"]', f"\tnode [{_attributes(_STYLE)}]"]
        return "\n".join([*head, *self._body, "}"]) + "\n"

    def pipe(self, format: str | None = None) -> bytes:
        """The picture in one of Graphviz's formats (svg, png, pdf, ...). DotNotFound without Graphviz, RuntimeError if it fails."""
        program = shutil.which("dot")
        if program is None:
            raise DotNotFound("drawing a graph needs Graphviz, whose program 'dot' was not found: install it from your system's "
                              "packages (graphviz) or https://graphviz.org/download; .source is the text that it draws, and "
                              ".save(path) writes that")
        done = subprocess.run([program, f"-T{format or self.format}"], input=self.source.encode(), capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"dot failed: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout

    def save(self, filename: str | os.PathLike = "Digraph.gv", directory: str | os.PathLike | None = None) -> str:
        """Write the source; returns the path."""
        path = os.path.join(directory, filename) if directory is not None else os.fspath(filename)
        if os.path.dirname(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.write(self.source)
        return path

    def render(self, filename: str | os.PathLike = "Digraph.gv", directory: str | os.PathLike | None = None, view: bool = False,
               cleanup: bool = False, format: str | None = None) -> str:
        """Write the source to `filename` and the picture to `filename.format`, whose path is returned.

        `cleanup` removes the source again, `view` opens the picture. Without a format, the attribute `format` (pdf) decides.
        """
        picture = self.pipe(format)
        source = self.save(filename, directory)
        path = f"{source}.{format or self.format}"
        with open(path, "wb") as file:
            file.write(picture)
        if cleanup:
            os.unlink(source)
        if view:
            import webbrowser
            webbrowser.open(f"file://{os.path.abspath(path)}")
        return path

    def view(self, filename: str | os.PathLike = "Digraph.gv", directory: str | os.PathLike | None = None) -> str:
        """Render and open the picture; returns its path."""
        return self.render(filename, directory, view=True)

    def _repr_svg_(self) -> str | None:
        """The picture, for notebooks; nothing where Graphviz is missing."""
        return self.pipe("svg").decode() if shutil.which("dot") else None

    def __str__(self) -> str:
        return self.source

    def __repr__(self) -> str:
        return f"<Drawing of {self.name or 'a graph'}, {len(self._body)} lines: print(drawing.source), drawing.render(path)>"


def _attributes(pairs: Mapping[str, str]) -> str:
    """name="value" pairs, quoted as DOT wants it."""
    return " ".join(f'{name}="{_escaped(value)}"' for name, value in sorted(pairs.items(), key=lambda pair: pair[0] != "label"))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace(_LEFT, "\\l")


# --- what autograd recorded -------------------------------------------------------------------------------------------

def make_dot(var: Any, params: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]] | None = None, show_attrs: bool = False,
             show_saved: bool = False, max_attr_chars: int = 50) -> Drawing:
    """The graph behind a tensor, or behind all tensors of a tuple, list or dict, as torchviz draws it.

    Green: outputs (darker: what an output is a view of). Blue: leaves that require grad, named by `params`, a dict or pairs of
    (name, tensor), as `module.named_parameters()` gives them. Grey: backward nodes. Orange: what they keep for backward; always
    for custom Functions, for others with `show_saved`. `show_attrs` lists what each node keeps in its box, values cut to
    `max_attr_chars`. A program that `engine.compile` made (`compiled.graph(...)`) is drawn by `draw_graph`.
    Errors: TypeError for what holds no tensor, and for params that are none.
    """
    compiled = sys.modules.get(f"{__package__}.compiler.graph")
    if compiled is not None and isinstance(var, compiled.Graph):
        return draw_graph(var)
    leaves = tree.leaves_of(var)
    if not leaves or not all(isinstance(v, Tensor) for v in leaves):
        wrong = next((type(v).__name__ for v in leaves if not isinstance(v, Tensor)), "nothing")
        raise TypeError(f"make_dot draws the graph of a tensor, or of a tuple, list or dict of tensors, but got {wrong}")
    names = {}
    for name, p in (params.items() if isinstance(params, Mapping) else params or ()):
        if not isinstance(p, Tensor):
            raise TypeError(f"make_dot: params must be tensors, {name!r} is {type(p).__name__}")
        names[id(p)] = name
    walk = _Walk(names, show_attrs, show_saved, max_attr_chars)
    for v in leaves:
        walk.output(v)
    return walk.drawing


class _Walk:
    """Draws the graphs of several outputs, each node once, in torchviz's order."""

    def __init__(self, names: dict[int, str], show_attrs: bool, show_saved: bool, max_attr_chars: int) -> None:
        self.drawing = Drawing("a graph of autograd")
        self.names, self.show_attrs, self.show_saved, self.most = names, show_attrs, show_saved, max(max_attr_chars, 3)
        self.numbers: dict[int, str] = {}       # id -> name in the picture
        self.kept: list[Any] = []               # what has a number, so that no id is used twice
        self.seen: set[int] = set()

    def number(self, thing: Any) -> str:
        """The name of a node or tensor in the picture."""
        if id(thing) not in self.numbers:
            self.numbers[id(thing)] = f"n{len(self.numbers)}"
            self.kept.append(thing)
        return self.numbers[id(thing)]

    def label(self, tensor: Tensor, name: str = "") -> str:
        return f"{name or self.names.get(id(tensor), '')}\n {_size(tensor.shape)}"

    def output(self, tensor: Tensor, colour: str = OUTPUT) -> None:
        """A result with all that is behind it, and what it is a view of."""
        below = None
        while id(tensor) not in self.seen or below is not None:
            fresh = id(tensor) not in self.seen
            if fresh:
                self.seen.add(id(tensor))
                self.drawing.node(self.number(tensor), self.label(tensor), fillcolor=colour)
                if tensor.grad_fn is not None:
                    self.nodes(tensor.grad_fn)
                    self.drawing.edge(self.number(tensor.grad_fn), self.number(tensor))
            if below is not None:
                self.drawing.edge(self.number(tensor), self.number(below), style="dotted")
            if not fresh or not tensor._is_view():
                return
            below, tensor, colour = tensor, tensor._base, BASE

    def nodes(self, start: Node) -> None:
        """A backward node and all that it leads to, without recursion."""
        if id(start) in self.seen:
            return
        open_nodes: list[tuple[Node, Iterator]] = [(start, self.begin(start))]
        while open_nodes:
            node, further = open_nodes[-1]
            for reached, _ in further:
                if reached is None:
                    continue
                self.drawing.edge(self.number(reached), self.number(node))
                if id(reached) not in self.seen:
                    open_nodes.append((reached, self.begin(reached)))
                    break
            else:
                open_nodes.pop()
                for tensor in getattr(node, "saved_tensors", ()):           # a custom Function
                    if tensor is not None:
                        self.drawing.edge(self.number(tensor), self.number(node), dir="none")
                        self.drawing.node(self.number(tensor), self.label(tensor), fillcolor=SAVED)

    def begin(self, node: Node) -> Iterator:
        """Draw a backward node alone; returns where it leads."""
        self.seen.add(id(node))
        kept = saved_of(node)
        if self.show_saved:
            for name, value in kept:
                several = value if isinstance(value, (tuple, list)) else ()
                for part, v in [(name, value), *((f"{name}[{k}]", v) for k, v in enumerate(several))]:
                    if isinstance(v, Tensor):
                        # a kept result stands apart from the output that it is
                        place = self.number((node, part) if name == "result" else v)
                        self.drawing.edge(self.number(node), place, dir="none")
                        self.drawing.node(place, self.label(v, part), fillcolor=SAVED)
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, Tensor):
            self.seen.add(id(leaf))
            self.drawing.node(self.number(leaf), self.label(leaf), fillcolor=LEAF)
            self.drawing.edge(self.number(leaf), self.number(node))
        self.drawing.node(self.number(node), self.title(node, kept) if self.show_attrs else node.name())
        return iter(node.next_functions)

    def title(self, node: Node, kept: list[tuple[str, Any]]) -> str:
        """A node's name and a table of what it keeps."""
        if not kept:
            return node.name()
        texts = {name: _kept_text(value) for name, value in kept}
        left, right = max(map(len, texts)), min(max(map(len, texts.values())), self.most)
        cut = {name: text if len(text) <= right else text[:right - 3] + "..." for name, text in texts.items()}
        rows = [f"{name:<{left}}: {text:>{right}}" for name, text in cut.items()]
        return "\n".join([node.name(), "-" * max(left + right + 2, len(node.name())), *rows])


def _kept_text(value: Any) -> str:
    if isinstance(value, Tensor):
        return "[saved tensor]"
    if isinstance(value, (tuple, list)) and any(isinstance(v, Tensor) for v in value):
        return "[saved tensors]"
    return str(value)


def saved_of(node: Node) -> list[tuple[str, Any]]:
    """(name, value) of what a node of the engine keeps for backward, tensors and options; nothing after they were freed."""
    from .saved import FREED
    found, saved, caller = [], getattr(node, "saved", None), getattr(node, "caller", None)
    if caller is not None and saved is not FREED and saved is not None:
        if hasattr(node, "plan"):
            names: Iterable[str] = (*caller.op.inputs, "result")
        else:
            names = ("result" if how in ("out", "one") else caller.inputs[k] + how.removeprefix("input") for how, k in caller.keeps)
        found = [(name, value) for name, value in zip(names, saved, strict=False) if value is not None]
    found += getattr(node, "options", {}).items()
    if hasattr(node, "shape") and caller is not None:
        found.append((f"{caller.inputs[0]}_shape", tuple(node.shape)))
    return found


def _size(shape: Iterable[int]) -> str:
    return f"({', '.join(map(str, shape))})"


# --- compiled programs ------------------------------------------------------------------------------------------------

def draw_graph(graph: Graph) -> Drawing:
    """The program that `compiled.graph(...)` shows: blue inputs and captured tensors, a box for each kernel, green results.

    An arrow carries the shape where a node reads a view of a value; dotted arrows are writes in place.
    """
    from .compiler.graph import Guard, Map
    graph.name_values()
    drawing = Drawing("a compiled program")
    place: dict[int, str] = {}
    for value in [*graph.inputs, *(v for v, _ in graph.captured)]:
        place[id(value)] = value.name
        drawing.node(value.name, f"{value.name}\n {value.dtype} {_size(value.shape)}", fillcolor=LEAF)
    for k, node in enumerate(graph.nodes):
        name = f"node{k}"
        text = node.title()
        if isinstance(node, Map):
            rows = text.removeprefix("map[").removesuffix("]").split("; ")
            rows = [*rows[:_MOST_LINES - 1], f"... {len(rows) - _MOST_LINES + 1} more"] if len(rows) > _MOST_LINES else rows
            text = _LEFT.join(["map", *(f"  {row}" for row in rows), ""])
        else:
            text += f"{node.about()}\n"
        text += "\n".join(f" {v.dtype} {_size(v.shape)}" for v in node.values)
        drawing.node(name, text, **({"shape": "diamond"} if isinstance(node, Guard) else {}))
        for v in node.values:
            place[id(v)] = name
        for read in node.reads:
            _arrow(drawing, place, read, name)
    for k, result in enumerate(graph.results):
        drawing.node(f"result{k}", f"result {k}\n {result.dtype} {_size(result.shape)}", fillcolor=OUTPUT)
        _arrow(drawing, place, result, f"result{k}")
    for old, new in graph.writes:
        drawing.edge(place[id(new)], place[id(old)], style="dotted", label="written")
    return drawing


def _arrow(drawing: Drawing, place: dict[int, str], read: Ref, to: str) -> None:
    value = read.value
    if id(value) not in place:              # a constant of the program
        place[id(value)] = f"constant{len(place)}"
        drawing.node(place[id(value)], f"constant\n {value.dtype} {_size(value.shape)}")
    drawing.edge(place[id(value)], to, **({} if read.covers() else {"label": _size(read.shape)}))


__all__ = ["DotNotFound", "Drawing", "draw_graph", "make_dot", "saved_of"]
