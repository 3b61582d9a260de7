"""Tracing: run a Python function once on real tensors while every kernel it launches is written down as a `Graph`.

The trace is concrete: shapes, branches and numbers that Python looks at are real (kernels wait until it does: `deferral`). What is
recorded are the launches, and memory tells how they hang together: an array that a launch reads is found by its address in the
memory that an earlier launch made, so views cost nothing and none can be missed. Backward passes, optimizers and in-place writes
launch kernels like everything else. What callers get in place of kernels while a trace runs is in `recorders`.
"""
from __future__ import annotations

import contextlib
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator

import numpy as np

from kernels.book import Fold
from kernels.symbol import Symbol

from ..tape import modes
from ..tensor import KIND_OF_NUMPY, Tensor, wrap
from .deferral import Deferral, root
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
    if not isinstance(array, np.ndarray):
        raise Untraceable("it computes on another device")
    low, high = np.lib.array_utils.byte_bounds(array)
    return low, high - low


class Tracer:
    """Records one run. `graph` grows with every launch.

    `strict`: Untraceable is raised at once, and so for random numbers; otherwise the function runs on to its end, `failed`
    says why.
    """

    def __init__(self, strict: bool = False):
        self.strict, self.failed = strict, ""
        self.later = Deferral(open=not strict)
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
        self.before: list[tuple[Tensor, np.ndarray]] = []       # those and the arguments with the arrays that they held

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
            if owner is None:
                self.later.need(whole)
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
            self.later.need(whole)
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
            self.later.settle()

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
        return not (self.paused or self.failed or self.later.running) and threading.get_ident() == self.thread


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


running: list[Tracer] = []             # traces, outer ones first: `vmap` traces inside a trace


def innermost() -> Tracer | None:
    """The trace that this thread is in."""
    return running[-1] if running and running[-1].active else None
