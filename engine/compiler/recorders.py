"""What hands launches to a trace: recorders in the place of kernels, and the engine's helpers that work past the dispatch table.

`recording` puts them there while a trace runs, and takes them away again. A recorder notes the launch and runs the kernel, or
queues it (`deferral`) where it can say what the results will look like; other threads go through it to the kernel.
"""
from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import numpy as np

from kernels import table as kernel_table
from kernels.book import BOOK, Fold, Pointwise, Structural
from kernels.cpu import copies, fills, folds, gathers, randoms
from kernels.symbol import Symbol

from .. import general, pointwise
from ..random import Generator
from ..tape import modes
from ..tensor import Tensor
from . import adjoints
from .deferral import watching
from .lowering import cast_expression
from .runtime import Drawn, Reserved
from .trace import Tracer, Untraceable, running
from .waiting import Late, elementwise, folded, shaped

# Operators besides views that do nothing but make views and memory, and call helpers that are watched here.
MOVERS = ("cat", "clone", "contiguous", "reshape", "stack", "sum_to")


class Recorder:
    """Stands for a kernel while a trace runs: runs it, or sees that it runs later, and writes the launch down.

    `put_off(later, arrays, out, options)` queues the launch and gives its results, None where that cannot be. `looks`: the kernel
    looks at no values itself.
    """

    def __init__(self, tracer: Tracer, kernel: Callable, note: Callable, put_off: Callable | None = None, looks: bool = False):
        self.tracer, self.kernel, self.note, self.put_off, self.looks = tracer, kernel, note, put_off, looks

    def __call__(self, *arrays, out=None, **options):
        tracer = self.tracer
        later = tracer.later
        if not tracer.active and not later.waits:
            return self.kernel(*arrays, **options) if out is None else self.kernel(*arrays, out=out, **options)
        if tracer.active:
            if tracer.differentiates and not modes.enabled:
                tracer.stops = tracer.stops or "no_grad"
            with tracer.noting():
                for a in arrays:        # before the kernel runs: it may write what it reads
                    if isinstance(a, np.ndarray) and a.size and tracer.block(a) is None:
                        tracer.read(a)
        results = None
        if later.waits and not self.looks:
            if self.put_off is not None:
                results = self.put_off(later, arrays, out, options)
            if results is None:
                later.settle()
        if results is None:
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
        note = _note_forward(self.operator, kind.dtype.name)
        found = self[kind] = (_recorders(ufunc, note, len(self.operator.inputs), [result.numpy]), result)
        return found


class _Gradients(pointwise.Gradients):
    """An operator's gradient kernels while tracing."""

    def __missing__(self, key):
        ufunc, kinds = super().__missing__(key)
        kind, plan = key
        note = _note_gradient(self.operator, kind.dtype.name, plan)
        found = self[key] = (_recorders(ufunc, note, len(plan.reads), [k.numpy for k in kinds]), kinds)
        return found


def _recorders(kernel: Callable, note: Callable, count: int, dtypes: list[np.dtype]) -> Callable:
    """A pointwise kernel behind a recorder for each trace that is running."""
    for tracer in running:
        kernel = Recorder(tracer, kernel, note, elementwise(kernel, count, dtypes))
    return kernel


_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def recording(tracer: Tracer) -> Iterator[None]:
    """Hand out recorders instead of kernels. One thread traces at a time; an inner trace is seen by the outer one, too."""
    with _one_at_a_time, contextlib.ExitStack() as ending:
        for outer in running:           # an inner trace looks at values
            outer.later.settle()
        running.append(tracer)
        ending.callback(running.pop)
        undo: list[Callable] = []
        ending.callback(lambda: [step() for step in reversed(undo)])
        _install(tracer, undo)
        if tracer.later.open:
            ending.enter_context(watching(tracer.later))
        try:
            yield
        except BaseException:
            tracer.later.settle()
            raise
        finally:
            tracer.paused += 1          # live numbers that outlive a trace add nothing to it


def _install(tracer: Tracer, undo: list) -> None:
    tracer.undo = undo
    for op in list(BOOK.values()):
        caller = op.apply
        if isinstance(op, Pointwise):
            _watch(caller, undo)
        else:
            _replace(op, tracer, undo)
    for name in ("forward_ufunc", "gradient_ufunc"):
        _patch(kernel_table, name, _loading(tracer, getattr(kernel_table, name)), undo)
    _patch(kernel_table, "cast_ufunc", _casting(tracer, kernel_table.cast_ufunc), undo)
    _patch(folds, "run", _folding(tracer, folds.run), undo)
    _patch(copies, "into", _copying(tracer, copies.into), undo)
    _patch(copies, "small", lambda dtype: lambda x, out: copies.into(out, x), undo)
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
    _patch(Tensor, "__format__", _formatting(tracer, Tensor.__format__), undo)
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
    if before is None:
        put_off = folded(op, folds.run) if isinstance(op, Fold) else shaped(op)
        looks = isinstance(op, Structural) and (op.view or op.name in MOVERS)
        recorder = Recorder(tracer, _structural(op, kernel), _note_general(op), put_off, looks)
    else:
        recorder = Recorder(tracer, before.custom, _note_general(op))
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


def _loading(tracer: Tracer, plain):
    """The engine's own pointwise kernels wait for their first run; those of users say at once what is wrong with them."""
    def load(op, *key):
        own = tracer.later.waits and (op.scalar.__module__ or "").startswith("kernels.ops.")
        return Late(plain, op, *key) if own else plain(op, *key)
    return load


def _casting(tracer: Tracer, plain):
    casts: dict = {}

    def cast_ufunc(source, target):
        if (source, target) not in casts:
            kernel = Late(plain, source, target) if tracer.later.waits else plain(source, target)
            casts[source, target] = Recorder(tracer, kernel, _note_cast(source, target), elementwise(kernel, 1, [np.dtype(target)]))
        return casts[source, target]
    return cast_ufunc


def _known(tracer: Tracer, array: np.ndarray) -> bool:
    return bool(array.size) and (tracer.block(array) is not None or tracer._owner(array) is not None)


def _filling(tracer: Tracer, plain):
    """Filling new memory makes a constant; filling memory that the program knows is a write."""
    def fill(out, value):
        known = (tracer.active or tracer.later.waits) and _known(tracer, out)
        if known:
            given = (value,) if isinstance(value, np.ndarray) else ()
            tracer.later.put(lambda reads, writes: plain(writes[0], *(reads or (value,))), given, (out,))
        else:
            plain(out, value)
        if known and tracer.active:
            with tracer.noting():
                tracer.write(out, tracer.read(np.asarray(value)).broadcast(out.shape))
    return fill


def _folding(tracer: Tracer, plain):
    def run(op, x, dims=None, keepdim=False, extra=()):
        results = None
        if tracer.later.waits:
            results = folded(op, plain)(tracer.later, (x, *extra), None, {"dims": dims, "keepdim": keepdim})
            if results is None:
                tracer.later.settle()
        if results is None:
            with tracer.pause():
                results = plain(op, x, dims, keepdim, extra)
        if tracer.active:
            with tracer.noting():
                tracer.reduce(op, [x, *extra], dims, results)
        return results
    return run


def _copying(tracer: Tracer, plain):
    def into(out, x):
        waits = tracer.later.waits
        if not waits:
            plain(out, x)
        if tracer.active and out.size:
            with tracer.noting():
                tracer.write(out, tracer.read(x))
        if waits:
            tracer.later.put(lambda reads, writes: plain(writes[0], reads[0]), (x,), (out,))
    return into


def _copied(tracer: Tracer, plain):
    def copy(x, order="C"):
        if tracer.later.waits:
            out = np.empty(x.shape, x.dtype)
            if order == "K" and not x.flags.c_contiguous:
                axes = sorted(range(x.ndim), key=lambda d: (-abs(x.strides[d]), d))
                if x.transpose(axes).flags.c_contiguous:
                    out = np.empty([x.shape[d] for d in axes], x.dtype).transpose(np.argsort(axes))
            tracer.later.put(lambda reads, writes: copies.into(writes[0], reads[0]), (x,), (out,))
        else:
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
        generator = reserve.__self__            # whose method is another one after the trace
        tracer.later.put(lambda reads, writes: plain(writes[0], rule, generator.reserve, a, b, stream), (), (out,))
        if tracer.active:
            with tracer.noting():
                tracer.draw(out, Drawn(generator, out.shape, out.dtype, rule, a, b, stream))
    return draw


def _reserving(tracer: Tracer, plain):
    def reserved(reserve, blocks):
        tracer.may_draw()
        tracer.later.settle()
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


def _formatting(tracer: Tracer, plain):
    def form(self, spec):
        text = plain(self, spec)
        if tracer.active and self._array.size == 1:         # a number's text may be computed with; a tensor's is for people
            tracer.guard(self._array, self._array.tolist())
        return text
    return form


def _looking(tracer: Tracer, plain):
    def look(self, *args):
        seen = plain(self, *args)
        if tracer.active:
            tracer.guard(self._array, seen)
        return seen
    return look
