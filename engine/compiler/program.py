"""A graph as something to call: its kernels, and a Python function that runs them on arrays in order."""
from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Sequence

import numpy as np

from kernels import store
from kernels.cpu import buffers, pool
from kernels.cpu.folds import kernel_of
from kernels.cpu.native import make_kernel

from . import launching, native, straight
from .graph import Call, Graph, Guard, Map, Node, Put, Reduce, Ref, Value
from .schedule import Fused, Merge, Schedule, nest_of

MOST_OPERANDS = 60          # NumPy has 64
PYTHON, MEMORY, NAME, KERNEL = "python", "memory", "name", "kernel"


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of the function that runs a program, and what it does: it makes memory for a value, gives one another name, calls a
    kernel with all its operands, or does something else in Python.
    """

    text: str
    kind: str = PYTHON
    made: str = ""

    def names(self) -> set[str]:
        """All names in the line."""
        return set(re.findall(r"[^\W\d]\w*", self.text))


class Executable:
    """`run(*inputs, *captured)` -> arrays of `graph.results`, then new values of `graph.writes`, then values that guards read;
    None where an operator gives a result of another shape than while tracing.

    With `in_place` new values of writes are in the memory of the old ones where that is safe, see `Schedule.overwrites`.
    `source`: the Python text of `run`; `kernels`: the source of each kernel.
    """

    def __init__(self, graph: Graph, name: str = "program", in_place: bool = False):
        self.graph, self.name, self.in_place = graph, name, in_place
        self.targets: dict[int, Value] = {}             # id of a new value -> the value whose memory it takes
        graph.name_values()
        self.guards = [n for n in graph.nodes if isinstance(n, Guard)]
        self.wanted = [*graph.wanted(), *(n.reads[0] for n in self.guards)]
        self.kernels: dict[str, str] = {}
        self.parts = 0
        self.space: dict = {"empty": buffers.empty, "small": np.empty, "view": _view, "as_strided": np.lib.stride_tricks.as_strided}
        self.steps: list[Line] = []
        self.named: dict[str, Value] = {}
        self.arguments = [*graph.inputs, *(v for v, _ in graph.captured if not v.constant)]
        self.ready = {id(v) for v in self.arguments}
        self.named.update((v.name, v) for v in self.arguments)
        for v, _ in graph.captured:
            if v.constant:
                self.space[v.name] = v.array
                self.ready.add(id(v))
        empty = [v for n in graph.nodes if isinstance(n, (Map, Put, Reduce)) for v in n.values if not v.size]
        nothing = {id(v) for v in empty}
        graph.nodes = [n for n in graph.nodes if not n.values or id(n.values[0]) not in nothing]
        graph.name_values()
        for k, v in enumerate(empty):   # nothing to compute
            v.name = f"empty{k}"
            self.allocate(v)
        leaving = {id(r.value) for r in self.wanted}
        if straight.cost(graph) <= straight.MOST and len(self.arguments) + len(leaving) <= MOST_OPERANDS:
            self._straight()
        else:
            self._steps()
        results = ", ".join(self.array(r) for r in self.wanted)
        self.lines = self._joined(Line(results).names())
        body = "\n".join("    " + line for line in self.lines)
        self.source = f"def {name}({', '.join(v.name for v in self.arguments)}):\n{body}\n    return [{results}]\n"
        exec(compile(self.source, f"<{name}>", "exec"), self.space)
        self.run: Callable = self.space[name]

    def text(self) -> str:
        """The generated Python: the kernels, then the function that runs them."""
        return "\n".join([*self.kernels.values(), self.source])

    # --- pieces of the driver -----------------------------------------------------------------------------------------

    def _kernel(self, program) -> str:
        name = program.name
        self.kernels[name] = program.source.replace("def kernel(", f"def {name}(", 1)
        self.space[name] = make_kernel(program)
        return name

    def say(self, text: str, kind: str = PYTHON, made: str = "") -> None:
        """Append a line."""
        self.steps.append(Line(text, kind, made))

    def launch(self, kernel: str, operands: Sequence[str]) -> None:
        """Append the call of a kernel of `space` with all its operands; one that Ctrl-C may end is watched from Python."""
        self.say(f"{kernel}({', '.join(operands)})", KERNEL if isinstance(self.space[kernel], np.ufunc) else PYTHON)

    def ensure(self) -> None:
        """Append the call that starts the threads for large kernels."""
        self.space["ensure"] = pool.ensure
        self.say("ensure()", NAME)

    def _straight(self) -> None:
        nodes = [n for n in self.graph.nodes if not isinstance(n, Guard)]
        made = list(dict.fromkeys(r.value for r in self.wanted if id(r.value) not in self.ready))
        if not made:
            return
        reads = {id(r.value) for n in nodes for r in n.reads}
        inputs = [v for v in (*self.arguments, *(v for v, _ in self.graph.captured if v.constant)) if id(v) in reads]
        program = straight.straight_program(f"{self.name}_{_label(self.graph)}", inputs, nodes, made)
        kernel = self._kernel(program)
        self.ready.update(id(v) for v in made)
        if inputs and all(launching.dense(v.whole()) for v in made):
            self.say(f"{', '.join(v.name for v in made)} = {kernel}({', '.join(v.name for v in inputs)}, out=...)")
            return
        for v in made:
            self.allocate(v)
        self.launch(kernel, [v.name for v in [*inputs, *made]])

    def allocate(self, v: Value) -> None:
        """Append what makes the memory of a value, or gives it that of the one that it overwrites."""
        self.ready.add(id(v))
        self.named[v.name] = v
        if id(v) in self.targets:
            self.say(f"{v.name} = {self.targets[id(v)].name}", NAME, v.name)
            return
        dtype = f"dtype_{v.dtype}"
        self.space[dtype] = np.dtype(v.dtype)
        if launching.dense(v.whole()):
            small = v.size * self.space[dtype].itemsize < buffers.LARGE
            made = f"{'small' if small else 'empty'}({v.shape!r}, {dtype})"
        else:
            strides = tuple(s * self.space[dtype].itemsize for s in v.strides)
            made = f"view(empty({(v.extent,)!r}, {dtype}), {v.shape!r}, {strides!r}, 0)"
        self.say(f"{v.name} = {made}", MEMORY, v.name)

    def part(self, shape: tuple[int, ...], dtype: str) -> Value:
        """A value of this program's own, with its memory."""
        self.parts += 1
        made = Value(shape, tuple(math.prod(shape[d + 1:]) for d in range(len(shape))), dtype, name=f"part{self.parts}")
        self.allocate(made)
        return made

    def _steps(self) -> None:
        plan = Schedule(self.graph)
        if self.in_place and not self.guards and not any(map(resizes, self.graph.nodes)):   # those are seen after kernels have run
            self.targets = {id(new): old for old, new in self.graph.writes if plan.overwrites(old, new)}
        pieces: dict = {}
        for number, step in enumerate(plan.steps):
            if isinstance(step, Fused):
                self._fused(plan, step, number, pieces)
            elif isinstance(step, Merge):
                self._merge(step, pieces[id(step.node)])
            elif isinstance(step, Call):
                launched = launching.LAUNCHED.get(step.operator.name)
                if launched is None or step.named or not launched(self, step):
                    self._call(step)

    def _fused(self, plan: Schedule, step: Fused, number: int, pieces: dict) -> None:
        nest, chunk = nest_of(plan, step, number, pieces)
        program = nest.program(chunk)
        memories = [o.value for o in nest.operands.values()]
        label = store.digest(program.source)[:8]
        program = type(program)(**{**program.__dict__, "name": f"{self.name}_{number}_{label}"})
        kernel = self._kernel(program)
        for v in memories:
            if not v.name:              # parts of a fold; one kernel may have several
                self.parts += 1
                v.name = f"part{self.parts}"
            if id(v) not in self.ready:
                self.allocate(v)
        count = -(-nest.dims[0] // chunk) if nest.dims else 1
        chunks, dummy = f"chunks{count}", f"nothing{count}"
        self.space[chunks] = np.arange(count) if count > 1 else np.zeros((), np.int64)
        self.space[dummy] = np.zeros(self.space[chunks].shape, np.int8)
        if count > 1:
            self.ensure()
        self.launch(kernel, [chunks, *(v.name for v in memories), dummy])

    def _merge(self, step: Merge, pieces: list[Value]) -> None:
        node, op = step.node, step.node.fold
        dtype = node.reads[0].dtype
        name = f"merge_{op.name}_{dtype}"
        self.space[name] = kernel_of(op.kernel or op, np.dtype(dtype), "merge")
        for v in node.values:
            self.allocate(v)
        count = math.prod(node.reads[0].shape)
        made = [f"{v.name}.reshape(())" if v.shape else v.name for v in node.values]
        self.launch(name, [*(p.name for p in pieces), str(count), "0", *made])

    def _call(self, node: Call) -> None:
        key = f"call{len(self.space)}"
        self.space[key], self.space[key + "_options"] = node.operator.forward, node.options
        operands = ", ".join(self.array(r) for r in node.operands)
        if node.many:
            operands = f"[{operands}]"
        named = [f"{k}={self.array(r)}" for k, r in zip(node.named, node.reads[len(node.operands):], strict=True)]
        made = ", ".join(v.name for v in node.values)
        self.say(f"{made} = {key}({', '.join([operands, *named])}, **{key}_options)")
        if resizes(node):               # what follows is for this shape only
            self.space["MISS"] = None
            tests = " or ".join(f"{v.name}.shape != {v.shape!r}" for v in node.values)
            self.say(f"if {tests}:")
            self.say("    return MISS")
        self.ready.update(id(v) for v in node.values)
        self.named.update((v.name, v) for v in node.values)

    def array(self, ref: Ref) -> str:
        """Source of a view as an array."""
        v = ref.value
        if ref.covers():
            return v.name
        if not ref.offset and ref.shape == v.shape[::-1] and ref.strides == v.strides[::-1]:
            return f"{v.name}.T"
        size = np.dtype(v.dtype).itemsize
        return f"view({v.name}, {ref.shape!r}, {tuple(s * size for s in ref.strides)!r}, {ref.offset * size})"

    # --- kernels that follow one another in one call -------------------------------------------------------------------

    def _joined(self, needed: set[str]) -> list[str]:
        """The lines, with one native call for each stretch of kernels. `needed`: names that the results mention."""
        found: list[list[str]] = []
        run: list[Line] = []
        for line in reversed(self.steps):
            if line.kind != PYTHON:
                run.insert(0, line)
                continue
            found.append(self._stretch(run, needed))
            needed = needed.union(line.names(), *(other.names() for other in run))
            found.append([line.text])
            run = []
        found.append(self._stretch(run, needed))
        return [text for texts in reversed(found) for text in texts]

    def _stretch(self, run: list[Line], needed: set[str]) -> list[str]:
        """Lines without Python between their kernels, joined where there are several. `needed`: names that are used later."""
        if sum(line.kind == KERNEL for line in run) < 2:
            return [line.text for line in run]
        stays = {line.made for line in run if line.kind == MEMORY and line.made in needed}
        inner = [line for line in run if line.made not in stays and line.text != "ensure()"]
        made = {line.made for line in inner if line.made}
        used = sorted((set().union(*(line.names() for line in inner)) - made) & self.named.keys())
        try:
            if len(used) > MOST_OPERANDS:
                raise native.NotNative(f"it has {len(used)} operands")
            one = native.stretch(f"{self.name}_stretch", [line.text for line in inner], self.space,
                                 {name: self.named[name] for name in used})
        except native.NotNative:
            half = len(run) // 2
            if len(run) < 8:
                return [line.text for line in run]
            later = needed.union(*(line.names() for line in run[half:]))
            return self._stretch(run[:half], later) + self._stretch(run[half:], needed)
        kernel = f"launches{len(self.space)}"
        self.space[kernel], self.space[f"{kernel}_table"] = one.ufunc, one.table
        self.space["nothing1"], self.space["byte"] = np.zeros((), np.int8), np.dtype(np.uint8)
        before = [line.text for line in run if line.made in stays or line.kind == NAME]
        scratch = f"{'small' if one.scratch < buffers.LARGE else 'empty'}(({one.scratch},), byte)"
        call = f"{kernel}({', '.join([*one.operands, scratch, 'nothing1'])})"
        return [*dict.fromkeys(before), *(f"# {line.text}" for line in inner if line.kind == KERNEL), call]


def resizes(node: Node) -> bool:
    """Whether the shapes of what an operator gives may depend on the data."""
    return isinstance(node, Call) and (node.operator.name == "nonzero_positions"
                                       or not node.operator.forward.__module__.startswith("kernels."))


def _view(array: np.ndarray, shape, strides, offset) -> np.ndarray:
    """Another look at the memory of an array."""
    if not array.flags.c_contiguous:
        extent = 1 + sum((n - 1) * s for n, s in zip(array.shape, array.strides, strict=True)) // array.itemsize
        array = np.lib.stride_tricks.as_strided(array, (extent,), (array.itemsize,))
    return np.ndarray(shape, array.dtype, array, offset, strides)


def _label(graph: Graph) -> str:
    return store.digest(str(graph))[:8]


