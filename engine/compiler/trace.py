"""Tracing: run a Python function once on real tensors while every kernel it launches is written down as a `Graph`.

The trace is concrete: kernels run as usual, so shapes, branches and numbers that Python looks at are real. What is recorded are the
launches, and memory tells how they hang together: an array that a launch reads is found by its address in the memory that an
earlier launch made, so views cost nothing and none can be missed. Backward passes, optimizers and in-place writes launch kernels
like everything else. While a trace runs, the dispatch table's callers of this thread hand out recorders (`Recorder`) in place of
kernels; other threads go through them to the kernels.
"""
from __future__ import annotations

import contextlib
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator

import numpy as np

from kernels import table as kernel_table
from kernels.book import BOOK, Fold, Pointwise
from kernels.cpu import copies, fills, folds, gathers, randoms
from kernels.symbol import Symbol

from .. import general, pointwise
from ..random import Generator
from ..tape import modes
from ..tensor import KIND_OF_NUMPY, Tensor, wrap
from . import adjoints
from .graph import Call, Graph, Guard, Map, Node, Put, Reduce, Ref, Value, symbol
from .lowering import cast_expression, lower
from .runtime import Drawn, Live, Reserved


class Untraceable(Exception):
    """The function does something that a program cannot repeat; it runs eagerly instead. The text says what.

    `result`: what the function gave back, for by the time this reaches a caller it has run to its end.
    """

    result: object = None


class Block:
    """Memory known to a trace: the array over all of it, and the value that it holds now."""

    __slots__ = ("address", "array", "first", "size", "value", "written")

    def __init__(self, array: np.ndarray, value: Value):
        self.array, self.value, self.first, self.written = array, value, value, False
        self.address, self.size = _span(array)


def _span(array: np.ndarray) -> tuple[int, int]:
    """(lowest address, bytes up to the end of the last element) of an array."""
    low, high = np.lib.array_utils.byte_bounds(array)
    return low, high - low


def root(array: np.ndarray) -> np.ndarray:
    """The array at the end of a chain of views. NumPy's `as_strided` puts an object of its own between two of them."""
    while True:
        base = array.base
        if not isinstance(base, np.ndarray):
            base = getattr(base, "base", None)
            if not isinstance(base, np.ndarray):
                return array
        array = base


class Tracer:
    """Records one run. `graph` grows with every launch.

    `strict`: Untraceable is raised at once, and so for random numbers; otherwise the function runs on to its end, `failed`
    says why.
    """

    def __init__(self, strict: bool = False):
        self.strict, self.failed = strict, ""
        self.differentiates = modes.enabled     # while the function itself runs: not its backward pass
        self.stops = ""                         # what the function does that keeps derivatives from going through its values
        self.lives: list[weakref.ref] = []
        self.versions: dict[int, int] = {}              # of captured tensors when they were first used, by id
        self.graph = Graph()
        self.blocks: dict[int, list[Block]] = {}        # id of the root array -> blocks in it
        self.alive: list = []                           # no memory may be used twice during a trace
        self.thread = threading.get_ident()
        self.undo: list[Callable] = []                  # what ends the trace, last step first
        self.paused = 0
        self.arguments: list[Tensor] = []
        self.existing: list[tuple[int, int, Tensor]] = []       # (lowest address, end, tensor) of tensors from before the trace

    # --- memory -------------------------------------------------------------------------------------------------------

    def add(self, array: np.ndarray, node: Node | None, output: int = 0) -> Value:
        """New memory: an array that an input holds or a launch has made, with all of its elements."""
        item = array.itemsize
        value = Value(array.shape, tuple(s // item for s in array.strides), array.dtype.name, node, output)
        if any(s % item for s in array.strides):
            raise Untraceable("an array whose strides are not multiples of its elements")
        owner = root(array)
        self.blocks.setdefault(id(owner), []).append(Block(array, value))
        self.alive += [owner, array]
        return value

    def block(self, array: np.ndarray) -> Block | None:
        """The block that an array lies in, None for memory that is not known."""
        found = self.blocks.get(id(root(array)))
        if not found:
            return None
        low, size = _span(array)
        for block in reversed(found):
            if block.address <= low and low + size <= block.address + block.size and array.dtype == block.array.dtype:
                return block
        return None

    def place(self, array: np.ndarray, block: Block) -> Ref:
        """An array as a view of its block's present value."""
        item = array.itemsize
        offset = (array.__array_interface__["data"][0] - block.array.__array_interface__["data"][0]) // item
        return Ref(block.value, offset, array.shape, tuple(s // item for s in array.strides))

    def read(self, array: np.ndarray) -> Ref:
        """The view that a launch reads; memory that is not known becomes a captured value."""
        block = self.block(array) if array.size else None
        if block is None:
            low, size = _span(array)
            if any(b.address < low + size and low < b.address + b.size for b in self.blocks.get(id(root(array)), ())):
                raise Untraceable("it reads memory of which it wrote a part only")
            owner = self._owner(array)
            whole = owner._array if owner is not None else root(array) if root(array).dtype == array.dtype else array
            value = self.add(whole, None)
            value.array = whole if owner is not None else np.array(whole)       # later writes must not change a constant
            self.graph.captured.append((value, owner))
            if owner is not None:
                self.versions.setdefault(id(owner), owner._version)
            if whole is array:
                return value.whole()
            block = self.block(array)
        return self.place(array, block)

    def _owner(self, array: np.ndarray) -> Tensor | None:
        """The tensor from before the trace whose memory an array lies in; one that is no view of another, if there is."""
        if not array.size:
            return None
        low, high = np.lib.array_utils.byte_bounds(array)
        found = [t for start, end, t in self.existing if start <= low and high <= end and t._array.dtype == array.dtype]
        found.sort(key=lambda t: (t._view is not None, not t._needs, -t._array.size))
        return found[0] if found else None

    def is_existing(self, tensor: Tensor) -> bool:
        """Whether a tensor was there before the trace."""
        return any(t is tensor for _, _, t in self.existing)

    def write(self, array: np.ndarray, part: Ref) -> None:
        """An array of known or new memory was overwritten by `part`."""
        if not array.size:
            return
        block = self.block(array)
        if block is None and self._owner(array) is not None:
            self.read(array)
            block = self.block(array)
        if block is None:               # memory that Python has made and filled: a constant outside of what is written now
            whole = root(array) if root(array).dtype == array.dtype else array
            value = self.add(whole, None)
            value.array = np.array(whole)
            self.graph.captured.append((value, None))
            block = self.block(array)
        place = self.place(array, block)
        old = block.value
        if place.fills() and part.shape == place.shape:         # all of the memory, perhaps with its dimensions merged
            node: Node = Map([part], expressions=[symbol(0)], compute=part.dtype)
            value = Value(place.shape, place.strides, old.dtype, node)
        else:
            node = Put([old.whole(), part], place=place)
            value = Value(old.shape, old.strides, old.dtype, node)
        node.values.append(value)
        self.graph.nodes.append(node)
        block.value, block.written = value, True

    # --- launches -----------------------------------------------------------------------------------------------------

    def map(self, expressions, names, arrays, outs, compute: str) -> None:
        """A pointwise launch: `expressions` over `names`, which stand for `arrays`; results are in `outs`."""
        shape = outs[0].shape
        reads = [self.read(a).broadcast(shape) for a in arrays]
        node = Map(reads, expressions=[renamed(e, {n: symbol(k) for k, n in enumerate(names)}) for e in expressions],
                   compute=compute)
        fresh = []
        for k, out in enumerate(outs):
            if self.block(out) is not None and out.size:
                item = out.itemsize
                made = Value(out.shape, tuple(s // item for s in np.empty_like(out, subok=False).strides), out.dtype.name, node, k)
                fresh.append((out, made))
            else:
                made = self.add(out, node, k)
            node.values.append(made)
        self.graph.nodes.append(node)
        for out, made in fresh:
            self.write(out, made.whole())

    def reduce(self, fold: Fold, arrays, dims, results) -> None:
        """A fold's launch; `dims` None for all."""
        ndim = arrays[0].ndim
        dims = tuple(range(ndim)) if dims is None else tuple(dims)
        if not arrays[0].size:                  # of nothing the result is always the same
            for r in results if isinstance(results, tuple) else (results,):
                self.add(r, None).array = np.array(r)
                self.graph.captured.append((self.block(r).first if r.size else self.blocks[id(root(r))][-1].value, None))
            return
        node = Reduce([self.read(a) for a in arrays], fold=fold, dims=dims)
        results = results if isinstance(results, tuple) else (results,)
        node.values = [self.add(r, node, k) for k, r in enumerate(results)]
        self.graph.nodes.append(node)

    def call(self, operator, arrays, many: bool, options: dict, results) -> None:
        """A structural operator; results in known memory are views and need no node."""
        if any(isinstance(v, (list, tuple)) and any(isinstance(x, np.ndarray) for x in v) for v in options.values()):
            raise Untraceable(f"{operator.name} works at positions that depend on the data")
        several = results if isinstance(results, (tuple, list)) else (results,)
        reads = [self.read(a) for a in arrays]
        named = tuple(k for k, v in options.items() if isinstance(v, np.ndarray))
        if all(r.size and self.block(r) is not None for r in several):
            return
        if not named and lower(self, operator, arrays, many, options, several):
            return
        reads += [self.read(options[k]) for k in named]
        fixed = {k: v for k, v in options.items() if k not in named}
        node = Call(reads, operator=operator, options=fixed, many=many, named=named)
        for k, r in enumerate(several):
            if r.size and self.block(r) is not None:
                raise Untraceable(f"{operator.name} gave a view beside new memory")
            node.values.append(self.add(r, node, k))
        self.graph.nodes.append(node)

    def guard(self, array: np.ndarray, seen) -> None:
        """Python looked at a number."""
        if not self.active or (self.block(array) is None and self._owner(array) is None):
            return
        with self.noting():
            self.graph.nodes.append(Guard([self.read(array)], seen=getattr(seen, "value", seen), where=_line()))

    # --- what is another one in each run ------------------------------------------------------------------------------

    def draw(self, out: np.ndarray, source: Drawn | Reserved) -> None:
        """Random numbers have come into a flat array."""
        if self.block(out) is not None or self._owner(out) is not None:
            value = Value(out.shape, (1,), out.dtype.name)
            self.graph.captured.append((value, source))
            self.write(out, value.whole())
        else:
            self.graph.captured.append((self.add(out, None), source))

    def may_draw(self) -> None:
        """Untraceable where random numbers are refused."""
        if self.strict and self.active:
            raise Untraceable("it draws random numbers")

    def number(self, array: np.ndarray, value):
        """What `item()` gives for an array of one element: a live number where arithmetic with it can be written down."""
        if type(value) is Live or not self.active or (self.block(array) is None and self._owner(array) is None):
            return value
        if self.strict or type(value) not in (float, int) or array.dtype == np.uint64:
            self.guard(array, value)
            return value
        with self.noting():
            copied = np.array(value, np.float64 if type(value) is float else np.int64)
            self.map([cast_expression(array.dtype.name, copied.dtype.name)], ["x"], [array.reshape(())], [copied], array.dtype.name)
            return Live(self, wrap(copied, KIND_OF_NUMPY[copied.dtype]), value)
        return value

    def note_live(self, number: Live) -> None:
        """Keep an eye on a live number."""
        self.lives.append(weakref.ref(number))

    def guard_lives(self, given: list) -> None:
        """Guards on the live numbers that the function left somewhere, beside those that it gave back."""
        for number in [ref() for ref in self.lives]:
            if number is not None and not any(number is g for g in given):
                self.guard(number.tensor._array, number.value)

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        """Write something down. Where that cannot be done, the function runs on without being traced."""
        try:
            yield
        except Untraceable as reason:
            if self.strict:
                raise
            self.failed = self.failed or f"{reason}{_line()}"

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Run something without writing it down."""
        self.paused += 1
        try:
            yield
        finally:
            self.paused -= 1

    @property
    def active(self) -> bool:
        return not self.paused and not self.failed and threading.get_ident() == self.thread


def _line() -> str:
    """The line of the user's code that is running, as " (file.py, line 3)"."""
    frame = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] in ("engine", "kernels", "contextlib"):
        frame = frame.f_back
    return "" if frame is None else f" ({os.path.basename(frame.f_code.co_filename)}, line {frame.f_lineno})"


def renamed(expression, names: dict):
    """An expression with its named symbols replaced."""
    if not isinstance(expression, Symbol):
        return expression
    if expression.name:
        return names[expression.name]
    return Symbol("", expression.operator, [renamed(o, names) for o in expression.operands])


# --- recorders --------------------------------------------------------------------------------------------------------

class Recorder:
    """Stands for a kernel while a trace runs: runs it, then writes the launch down."""

    def __init__(self, tracer: Tracer, kernel: Callable, note: Callable):
        self.tracer, self.kernel, self.note = tracer, kernel, note

    def __call__(self, *arrays, out=None, **options):
        tracer = self.tracer
        if not tracer.active:
            return self.kernel(*arrays, **options) if out is None else self.kernel(*arrays, out=out, **options)
        if tracer.differentiates and not modes.enabled:
            tracer.stops = tracer.stops or "no_grad"
        with tracer.noting():
            for a in arrays:        # before the kernel runs: it may write what it reads
                if isinstance(a, np.ndarray) and a.size and tracer.block(a) is None:
                    tracer.read(a)
        with tracer.pause():        # what a kernel does inside is its own affair
            results = self.kernel(*arrays, **options) if out is None else self.kernel(*arrays, out=out, **options)
        if isinstance(results, np.generic):         # a number has no address to be known by
            results = np.asarray(results)
        elif results.__class__ is tuple and any(isinstance(r, np.generic) for r in results):
            results = tuple([np.asarray(r) for r in results])
        if tracer.active:
            with tracer.noting():
                self.note(tracer, arrays, options, results)
        return results


def _note_forward(op: Pointwise, compute: str):
    names = op.inputs
    expression = Symbol("", op, [Symbol(n) for n in names])

    def note(tracer, arrays, options, results):
        operands = [np.asarray(a) for a in arrays[:len(names)]]
        outs = results if isinstance(results, tuple) else (results,)
        if len(outs) > 1:
            raise Untraceable(f"{op.name} has several results")
        tracer.map([expression], names, operands, outs, compute)
    return note


def _note_gradient(op: Pointwise, compute: str, plan):
    names = [("g", *op.inputs, "out")[k + 1] for k in plan.reads]

    def note(tracer, arrays, options, results):
        tracer.map(plan.expressions, names, arrays[:len(names)], results if isinstance(results, tuple) else (results,), compute)
    return note


def _note_cast(source: str, target: str):
    def note(tracer, arrays, options, results):
        out = arrays[1] if len(arrays) > 1 else results
        if source == target:
            tracer.write(out, tracer.read(arrays[0]).broadcast(out.shape)) if len(arrays) > 1 else tracer.map(
                [Symbol("x")], ["x"], arrays[:1], (out,), source)
        else:
            tracer.map([cast_expression(source, target)], ["x"], arrays[:1], (out,), source)
    return note


def _note_general(op):
    def note(tracer, arrays, options, results):
        if isinstance(op, Fold):
            tracer.reduce(op, arrays, options.get("dims"), results)
        else:
            tracer.call(op, arrays[0] if op.many else arrays, op.many, options, results)
    return note


class _Loops(pointwise.Loops):
    """An operator's forward kernels while tracing."""

    def __missing__(self, kind):
        ufunc, result = super().__missing__(kind)
        found = self[kind] = (_recorders(ufunc, _note_forward(self.operator, kind.dtype.name)), result)
        return found


class _Gradients(pointwise.Gradients):
    """An operator's gradient kernels while tracing."""

    def __missing__(self, key):
        ufunc, kinds = super().__missing__(key)
        found = self[key] = (_recorders(ufunc, _note_gradient(self.operator, key[0].dtype.name, key[1])), kinds)
        return found


def _recorders(kernel: Callable, note: Callable) -> Callable:
    """A kernel behind a recorder for each trace that is running."""
    for tracer in running:
        kernel = Recorder(tracer, kernel, note)
    return kernel


running: list[Tracer] = []             # traces, outer ones first: `vmap` traces inside a trace
_one_at_a_time = threading.RLock()


def innermost() -> Tracer | None:
    """The trace that this thread is in."""
    return running[-1] if running and running[-1].active else None


@contextlib.contextmanager
def recording(tracer: Tracer) -> Iterator[None]:
    """Hand out recorders instead of kernels. One thread traces at a time; an inner trace is seen by the outer one, too."""
    with _one_at_a_time:
        running.append(tracer)
        undo: list[Callable] = []
        try:
            _install(tracer, undo)
            yield
        finally:
            for step in reversed(undo):
                step()
            running.pop()


def _install(tracer: Tracer, undo: list) -> None:
    tracer.undo = undo
    for op in list(BOOK.values()):
        caller = op.apply
        if isinstance(op, Pointwise):
            _watch(caller, undo)
        else:
            _replace(op, tracer, undo)
    plain = kernel_table.cast_ufunc
    casts: dict = {}

    def cast_ufunc(source, target):
        if (source, target) not in casts:
            casts[source, target] = Recorder(tracer, plain(source, target), _note_cast(source, target))
        return casts[source, target]
    _patch(kernel_table, "cast_ufunc", cast_ufunc, undo)
    _patch(folds, "run", _folding(tracer, folds.run), undo)
    _patch(copies, "into", _copying(tracer, copies.into), undo)
    _patch(copies, "copy", _copied(tracer, copies.copy), undo)
    _patch(fills, "fill", _filling(tracer, fills.fill), undo)
    for name in ("extremes", "pick", "put", "scatter", "gather", "fetch", "as_contiguous"):
        _patch(gathers, name, _handling(tracer, getattr(gathers, name)), undo)
    _patch(randoms, "draw", _drawing(tracer, randoms.draw), undo)
    _patch(randoms, "reserved", _reserving(tracer, randoms.reserved), undo)
    for name in ("reserve", "manual_seed", "get_state", "set_state", "set_offset"):
        _patch(Generator, name, _seeding(tracer, getattr(Generator, name)), undo)
    _patch(general, "watcher", lambda op, values: adjoints.record(tracer, op, values), undo)
    for name in ("detach", "detach_"):
        _patch(Tensor, name, _stopping(tracer, name, getattr(Tensor, name)), undo)
    _patch(Tensor, "data", property(_stopping(tracer, "data", Tensor.data.fget), Tensor.data.fset), undo)
    _patch(Tensor, "item", _taking(tracer, Tensor.item), undo)
    for name in ("numpy", "data_ptr", "__dlpack__"):
        _patch(Tensor, name, _handing(tracer, name, getattr(Tensor, name)), undo)
    for name in ("__bool__", "__index__", "tolist"):
        _patch(Tensor, name, _looking(tracer, getattr(Tensor, name)), undo)


def _watch(caller: pointwise.PointwiseCaller, undo: list) -> None:
    for table, kind in ((caller.loops, _Loops), (caller.gradients, _Gradients)):
        _exchange(table, kind, undo)
    undo.append(lambda: [plan.entries.clear() for plan in caller.plans.values()])
    for plan in caller.plans.values():
        plan.entries.clear()


def adopt(caller: pointwise.PointwiseCaller) -> None:
    """A pointwise record that was made during a trace: derivatives of users' kernels are made when they are first wanted."""
    for tracer in running:
        _watch(caller, tracer.undo)


def _replace(op, tracer: Tracer, undo: list) -> None:
    """Let the table hold a recorder, as if a user had replaced the kernel: no shortcut goes past such an entry."""
    table, key = kernel_table.TABLE, (op.name, "cpu")
    kernel = table[key]
    before = table._custom.get(key)
    recorder = Recorder(tracer, _structural(op, kernel) if before is None else before.custom, _note_general(op))
    table._custom[key] = kernel_table.Kernel(op, "cpu", kernel.runs_on, recorder)
    _tell(*key)

    def back():
        if before is None:
            table._custom.pop(key, None)
        else:
            table._custom[key] = before
        _tell(*key)
    undo.append(back)


def _tell(name: str, device: str) -> None:
    for listener in kernel_table.TABLE.listeners:
        listener(name, device)


def _structural(op, kernel):
    """The operator on arrays, whatever is registered for it."""
    if isinstance(op, Fold):
        return lambda x, *extra, dims=None, keepdim=False: op.on_arrays(x, dims, keepdim, **({"extra": extra} if extra else {}))
    return kernel


def _exchange(table, kind: type, undo: list) -> None:
    before, own = dict(table), table.__class__
    table.clear()
    table.__class__ = kind

    def back():
        table.__class__ = own
        table.clear()
        table.update(before)
    undo.append(back)


def _patch(holder, name: str, value, undo: list) -> None:
    before = getattr(holder, name)
    setattr(holder, name, value)
    undo.append(lambda: setattr(holder, name, before))


def _filling(tracer: Tracer, plain):
    """Filling new memory makes a constant; filling memory that the program knows is a write."""
    def fill(out, value):
        plain(out, value)
        if tracer.active and out.size and (tracer.block(out) is not None or tracer._owner(out) is not None):
            with tracer.noting():
                tracer.write(out, tracer.read(np.asarray(value)).broadcast(out.shape))
    return fill


def _folding(tracer: Tracer, plain):
    def run(op, x, dims=None, keepdim=False, extra=()):
        with tracer.pause():
            results = plain(op, x, dims, keepdim, extra)
        if tracer.active:
            with tracer.noting():
                tracer.reduce(op, [x, *extra], dims, results)
        return results
    return run


def _copying(tracer: Tracer, plain):
    def into(out, x):
        plain(out, x)
        if tracer.active and out.size:
            with tracer.noting():
                tracer.write(out, tracer.read(x))
    return into


def _copied(tracer: Tracer, plain):
    def copy(x, order="C"):
        tracer.paused += 1
        try:
            out = plain(x, order)
        finally:
            tracer.paused -= 1
        if tracer.active and out.size and tracer.block(x) is not None:
            with tracer.noting():
                tracer.map([Symbol("x")], ["x"], [x], (out,), x.dtype.name)
        return out
    return copy


def _drawing(tracer: Tracer, plain):
    def draw(out, rule, reserve, a=0, b=0, stream=0):
        tracer.may_draw()
        with tracer.pause():
            plain(out, rule, reserve, a, b, stream)
        if tracer.active:
            with tracer.noting():
                tracer.draw(out, Drawn(reserve.__self__, out.shape, out.dtype, rule, a, b, stream))
    return draw


def _reserving(tracer: Tracer, plain):
    def reserved(reserve, blocks):
        tracer.may_draw()
        with tracer.pause():
            words = plain(reserve, blocks)
        if tracer.active:
            with tracer.noting():
                tracer.draw(words, Reserved(reserve.__self__, blocks))
        return words
    return reserved


def _seeding(tracer: Tracer, plain):
    def change(self, *args):
        if tracer.active:
            with tracer.noting():
                raise Untraceable("it handles the state of a generator")
        return plain(self, *args)
    return change


def _taking(tracer: Tracer, plain):
    def item(self):
        return tracer.number(self._array, plain(self))
    return item


def _stopping(tracer: Tracer, name: str, plain):
    def stop(self):
        if tracer.active and tracer.differentiates and self.requires_grad:
            tracer.stops = tracer.stops or name
        return plain(self)
    return stop


def _handing(tracer: Tracer, name: str, plain):
    """What is done to a tensor's memory outside of the engine cannot be seen."""
    def hand(self, *args, **options):
        if tracer.active and (tracer.block(self._array) is not None or tracer._owner(self._array) is not None):
            with tracer.noting():
                raise Untraceable(f"it hands the memory of a tensor out by {name}()")
        return plain(self, *args, **options)
    return hand


def _handling(tracer: Tracer, plain):
    """A kernel that a function of the engine runs by itself, past the table, on memory that the program knows."""
    def run(*args, **options):
        if tracer.active and any(isinstance(a, np.ndarray) and a.size and (
                tracer.block(a) is not None or tracer._owner(a) is not None) for a in args):
            with tracer.noting():
                raise Untraceable("it works on the memory of a tensor in steps that are no operators")
        return plain(*args, **options)
    return run


def _looking(tracer: Tracer, plain):
    def look(self, *args):
        seen = plain(self, *args)
        if tracer.active:
            tracer.guard(self._array, seen)
        return seen
    return look
