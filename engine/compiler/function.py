"""Compiled functions: one program for each signature, guards between programs, and what a call leaves behind.

A call takes the arguments apart, finds the program of their signature (structure, shapes, dtypes, which require gradients, Python
values, grad mode, and the Python numbers that the function reads elsewhere), runs it, and puts back what the function
would have left: written tensors, version counters, `.grad`, results with a node that runs the compiled backward pass.
"""
from __future__ import annotations

import contextlib
import functools
import gc
import sys
import warnings
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

import numpy as np

from .. import dtypes, tree
from ..devices import CPU
from ..tape import modes
from ..tensor import KIND_OF_NUMPY, Tensor, bump, wrap
from ..writes import store
from . import autodiff, trace, tracing
from .environment import Environment, elements
from .graph import Graph
from .program import Executable, resizes
from .quick import MISS, quick
from .runtime import Computed
from .trace import Untraceable
from .updates import Numbers

MOST_VARIANTS = 8           # programs of one signature, told apart by guards
MOST_SIGNATURES = 256       # of one function; the oldest is forgotten
FRESH = 623, 624            # where Mersenne's generator stands before the first draw: NumPy's, Python's
MOST_REBINDS = 3            # traces in a row that change what the function reads
MOST_QUICK = 8              # how often the shortest way through a program is made anew


class CacheInfo(NamedTuple):
    """What `cache_info()` gives, as `functools.lru_cache` names it."""

    hits: int
    misses: int
    maxsize: int | None
    currsize: int


class Variant:
    """One traced program of a signature, ready to run."""

    def __init__(self, recorded: tracing.Recorded, fixed: list[tuple[int, Tensor]]):
        self.recorded = recorded
        self.fixed = fixed          # arguments (number, tensor) whose memory the function knows on its own account, too
        self.forward = Executable(recorded.forward, "program", in_place=True)
        self.seen = [g.seen for g in self.forward.guards]
        self.generators = list(dict.fromkeys(o.generator for o in recorded.owners if isinstance(o, Computed)))
        outputs = recorded.outputs

        def depth(k: int) -> int:
            return 1 + depth(outputs[k].source) if outputs[k].source >= 0 else 0
        self.looks = sorted((k for k, o in enumerate(outputs) if o.array is None), key=depth)
        self.resizes = any(map(resizes, recorded.forward.nodes))
        self.results = len(recorded.forward.results)
        self.writes = len(recorded.forward.writes)
        self.backward = None if recorded.backward is None else autodiff.Compiled(recorded)
        self.quick: Callable | None = None      # the shortest way through it, for `quick_count` positional arguments
        self.quick_count = -1
        self.made = 0                           # how often that was made

    def hit(self, tensors: list[Tensor], structure, environment: Environment) -> None:
        """The call was for this program and took the long way, though the short one was tried; the next call shall find it."""
        if self.made < MOST_QUICK:
            self.quick = quick(self, tensors, structure, environment)
            self.quick_count = -1 if self.quick is None else len(tensors)
            self.made = MOST_QUICK if self.quick is None else self.made + 1

    def refuse_read_only(self, tensors: list[Tensor]) -> None:
        """RuntimeError where memory must not be written to; kernels would."""
        for target in self.recorded.written:
            array = target.tensor(tensors)._array
            if not array.flags.writeable:
                store(array, array)         # says why not

    def fits(self, tensors: list[Tensor]) -> bool:
        """Whether the tensors that the function found elsewhere are as they were, and have gradients where they had some."""
        for owner in self.recorded.owners:
            if not owner.fits():
                return False
        for k, t in self.fixed:
            if tensors[k] is not t:
                return False
        if self.writes and self._touches(tensors):
            return False
        return all((target.tensor(tensors)._grad is None) is none for target, none in self.recorded.had_gradient)

    def _touches(self, tensors: list[Tensor]) -> bool:
        """Whether arguments lie in the memory of tensors that the function found elsewhere."""
        own = {id(trace.root(t._array)) for k, t in enumerate(tensors) if all(k != j for j, _ in self.fixed)}
        arrays = [o.array() for o in self.recorded.owners if not o.computed]
        return any((id(a) if a.base is None else id(trace.root(a))) in own for a in arrays)

    def first(self, tensors: list[Tensor]):
        """The result of a run in the place of the traced one, whose launches nobody has run."""
        recorded = self.recorded
        for t, before in recorded.later.gradients:
            t._grad = before
        states = [(g, g.get_offset()) for g in self.generators]
        recorded.later.drop()
        _rewind(states)
        values = [v for v, o in recorded.forward.captured if o is not None]
        sources = [v.array if isinstance(o, Numbers) else o.array() for v, o in zip(values, recorded.owners, strict=True)]
        return self.finish(tensors, self.run(tensors, sources), traced=True)

    def run(self, tensors: list[Tensor], sources: list[np.ndarray] | None = None):
        """(results as arrays, new values of writes) for tensors of the signature; MISS where a guard sees another value.

        `sources`: the captured arrays, where they are not those of now.
        """
        owners = self.recorded.owners
        states = [(g, g.get_offset()) for g in self.generators] if self.seen or self.writes or self.resizes else ()
        sources = [o.array() for o in owners] if sources is None else sources
        arrays = [t._array for t in tensors] + sources
        self.refuse_read_only(tensors)
        found = self.forward.run(*arrays)
        if found is None:               # something has another size now
            _rewind(states)
            return MISS
        count = self.results + self.writes
        for seen, array in zip(self.seen, found[count:], strict=True):
            if not _same(seen, array):
                _rewind(states)
                return MISS
        if self.backward is not None:
            found.append([a for a, o in zip(sources, owners, strict=True) if o.computed])
        return found

    def finish(self, tensors: list[Tensor], found: list, traced: bool = False):
        """Write what was written, and give back what was given back. `traced`: the trace has counted steps and writes already."""
        recorded = self.recorded
        for owner in () if traced else recorded.owners:
            owner.commit()
        for target, value in zip(recorded.written, found[self.results:self.results + self.writes], strict=True):
            array = target.tensor(tensors)._array
            if value is not array:          # a kernel may have written it there
                store(array, value)
        for target, count in () if traced else recorded.bumps:
            for _ in range(count):
                bump(target.tensor(tensors))
        made: list = []
        for out in recorded.outputs:
            if out.array is None:
                made.append(None)
            else:
                array = found[out.array]
                made.append(wrap(array, KIND_OF_NUMPY[array.dtype]))
                if modes.inference:
                    made[-1]._inference = True
                if out.needs and self.backward is None:
                    made[-1]._node, made[-1]._needs = autodiff.spent(), True
        if self.backward is not None:
            self.backward.attach(made, tensors, found)
        for k in self.looks:
            made[k] = recorded.outputs[k].tensor(made, tensors)
        for target, k in recorded.gradients:
            target.tensor(tensors)._grad = None if k is None else made[k]
        results = iter(made)
        leaves = [leaf if not is_made else next(results) if leaf is None else next(results).item()
                  for is_made, leaf in recorded.leaves]
        return tree.unflatten(recorded.structure, iter(leaves))


def _rewind(states) -> None:
    """Random numbers that were drawn for nothing are drawn again."""
    for generator, offset in states:
        generator.set_offset(offset)


def _same(seen, array: np.ndarray) -> bool:
    value = array.tolist()
    return seen == value or (seen != seen and value != value)


class CompiledFunction:
    """What `engine.compile` returns: call it like the function. See `compile`."""

    def __init__(self, function: Callable):
        functools.update_wrapper(self, function, updated=())
        self.function = function
        self.signatures: dict[Any, list[Variant]] = {}
        self.hits = self.misses = self.rebinds = 0
        self.environment = Environment(function)
        self.eager = ""             # why it runs eagerly
        self.elsewhere = False      # whether it has run on another device, which was said
        self.last: Variant | None = None
        self.quick: Callable | None = None      # the last program's shortest way
        self.quick_count = -1

    def __getattr__(self, name: str) -> Any:
        """A compiled module has the module's parameters, modes and methods."""
        if name == "function":
            raise AttributeError(name)
        return getattr(self.function, name)

    def __get__(self, instance, owner=None):
        """A compiled method is bound like any other: each object has its own programs."""
        if instance is None:
            return self
        bound = CompiledFunction(self.function.__get__(instance, owner))
        try:
            setattr(instance, self.__name__, bound)
        except AttributeError:
            return bound
        return bound

    def __call__(self, *args, **kwargs):
        if len(args) == self.quick_count and not kwargs and not trace.running:
            result = self.quick(*args)
            if result is not MISS:
                self.hits += 1
                return result
        if self.eager or tracing.active():
            return self.function(*args, **kwargs)
        leaves: list = []
        structure = tree.flatten((args, kwargs), leaves)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        for t in tensors:
            if t._kind.device is not CPU:
                return self._elsewhere(t, args, kwargs)
        key = (structure, tuple([_described(leaf) for leaf in leaves]), modes.enabled, dtypes.DEFAULT.dtype,
               self.environment.values(), _shared(tensors))
        try:
            variants = self.signatures.get(key)
            if variants is None:            # names may stand for other things now, which hold values of their own
                self.environment = Environment(self.function, self.environment.forgotten)
                key = (*key[:4], self.environment.values(), *key[5:])
                variants = self.signatures.get(key)
        except TypeError:
            strange = next(leaf for leaf in leaves if not isinstance(leaf, Hashable))
            return self._give_up(f"an argument, {type(strange).__name__}, is no tensor and cannot be hashed", args, kwargs)
        if variants is not None:
            for k, variant in enumerate(variants):
                if not variant.fits(tensors):
                    continue
                found = variant.run(tensors)
                if found is not MISS:
                    if k:
                        variants.insert(0, variants.pop(k))
                    self.hits += 1
                    if variant is self.last or variant.quick is None:
                        variant.hit(tensors, structure, self.environment)
                    self._latest(variant)
                    return variant.finish(tensors, found)
        with _uncollected():
            return self._trace(key, args, kwargs, tensors, structure)

    def _latest(self, variant: Variant) -> None:
        self.last, self.quick, self.quick_count = variant, variant.quick, variant.quick_count

    def _trace(self, key, args, kwargs, tensors, structure):
        if len(self.signatures) >= MOST_SIGNATURES:
            del self.signatures[next(iter(self.signatures))]
        variants = self.signatures.setdefault(key, [])
        if len(variants) >= MOST_VARIANTS:
            where = next((g.where for v in variants for g in v.forward.guards), "")
            return self._give_up(f"a value that it looks at never repeats{where}", args, kwargs)
        if self.environment.unsteady:
            return self._give_up(self.environment.unsteady, args, kwargs)
        self.misses += 1
        drawn = _foreign_draws()
        try:
            recorded, result = tracing.record(self.function, args, kwargs, tensors)
        except Untraceable as reason:
            self._eager(str(reason))
            return reason.result
        try:
            variant = self._variant_of(recorded, key, tensors, drawn)
        except BaseException:
            recorded.later.settle()
            raise
        if variant is None or variant.seen or any(isinstance(o, Numbers) and o.first for o in recorded.owners):
            recorded.later.settle()             # it may not be for this very run
        if not recorded.later.open:
            return result
        del result
        return variant.first(tensors)

    def _variant_of(self, recorded, key, tensors, drawn) -> Variant | None:
        """The program of a trace, kept for later calls; None where there is none, for the function runs eagerly from now on."""
        changed = self.environment.settle(key[4])
        if changed or not _as_before(_foreign_draws(), drawn):
            self._eager(changed or "it draws random numbers that are not the engine's")
            return None
        self.rebinds = self.rebinds + 1 if self.environment.rebound else 0
        if self.rebinds > MOST_REBINDS:
            self._eager("it changes, at every call, a value that it also reads")
            return None
        variants = self.signatures.setdefault(key, [])
        try:
            variant = Variant(recorded, _also_held(self.function, tensors))
            if len(key[4]) != len(self.environment.readers):        # it fills containers, which are no longer looked at
                variants = self.signatures.setdefault((*key[:4], self.environment.values(), *key[5:]), [])
        except (Untraceable, RecursionError) as reason:         # the function has run; from the next call on it runs eagerly
            long = isinstance(reason, RecursionError)
            self._eager("it is too long (a loop that runs many times is unrolled)" if long else str(reason))
            return None
        variants.insert(0, variant)
        self._latest(variant)
        return variant

    def _give_up(self, reason: str, args, kwargs):
        self._eager(reason)
        return self.function(*args, **kwargs)

    def _elsewhere(self, t: Tensor, args, kwargs):
        """A call on a device runs eagerly there, kernel after kernel; calls on the CPU keep their programs."""
        if not self.elsewhere:
            self.elsewhere = True
            name = getattr(self.function, "__qualname__", repr(self.function))
            warnings.warn(f"compile: {name} runs eagerly on {t.device}: programs are made for the CPU", UserWarning, stacklevel=4)
        return self.function(*args, **kwargs)

    def _eager(self, reason: str) -> None:
        self.eager = reason
        name = getattr(self.function, "__qualname__", repr(self.function))
        warnings.warn(f"compile: {name} runs eagerly: {reason}", UserWarning, stacklevel=5)

    # --- looking inside -----------------------------------------------------------------------------------------------

    def cache_info(self) -> CacheInfo:
        """Calls that found their program, calls that were traced, and how many programs there are."""
        return CacheInfo(self.hits, self.misses, None, sum(map(len, self.signatures.values())))

    def cache_clear(self) -> None:
        """Forget all programs."""
        self.signatures.clear()
        self.hits = self.misses = 0
        self.eager, self.last, self.quick, self.quick_count = "", None, None, -1

    def _variant(self, args, kwargs) -> Variant:
        if args or kwargs:
            self(*args, **kwargs)
        if self.last is None:
            raise RuntimeError(f"nothing has been compiled yet: {self.eager or 'call the function first, or give arguments'}")
        return self.last

    def source(self, *args, **kwargs) -> str:
        """The generated code of the last call, or of a call with these arguments: kernels, and the Python that runs them."""
        variant = self._variant(args, kwargs)
        text = variant.forward.text()
        return text if variant.backward is None else text + "\n" + variant.backward.text()

    def graph(self, *args, **kwargs) -> Graph:
        """The optimised graph of the last call, or of a call with these arguments; print it."""
        return self._variant(args, kwargs).recorded.forward

    def __repr__(self) -> str:
        return f"<compiled {self.function!r}>"


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """While it lasts, Python looks for no cycles: what a trace and a compiler make lives until their end."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _foreign_draws() -> tuple:
    """Where the generators of Python and NumPy are that everybody shares; None for one that is not loaded."""
    python, numpy = sys.modules.get("random"), sys.modules.get("numpy.random")
    state = None if numpy is None else numpy.get_state(legacy=False)["state"]
    return (None if python is None else (hash(python.getstate()), python.getstate()[1][-1]),
            None if state is None else (hash(state["key"].tobytes()), state["pos"]))


def _as_before(now: tuple, before: tuple) -> bool:
    """Whether nobody drew from those generators: a module that was imported since has a generator that stands at its beginning."""
    return all(n == b or (b is None and n[1] in FRESH) for n, b in zip(now, before, strict=True))


def _shared(tensors: list[Tensor]) -> tuple:
    """How arguments share memory: for each the first one in the same memory, and how far it is from that; () where none do."""
    if len(tensors) < 2:
        return ()
    roots = [id(trace.root(t._array)) for t in tensors]
    if len(set(roots)) == len(roots):
        return ()
    starts = [t._array.__array_interface__["data"][0] for t in tensors]
    first = [roots.index(r) for r in roots]
    return tuple([(k, start - starts[k]) for k, start in zip(first, starts, strict=True)])


def _also_held(function: Callable, tensors: list[Tensor]) -> list[tuple[int, Tensor]]:
    """Arguments that lie in the memory of tensors to which the function gets by names or attributes, too."""
    held = {id(trace.root(t._array)) for t in Environment(function).tensors}
    return [(k, t) for k, t in enumerate(tensors) if id(trace.root(t._array)) in held]


def _described(leaf) -> Any:
    """What a program depends on in an argument."""
    if isinstance(leaf, Tensor):
        array = leaf._array
        return leaf.__class__, leaf._kind, array.shape, array.strides, leaf.requires_grad
    if isinstance(leaf, np.ndarray):
        return elements(leaf)
    if leaf.__class__ is slice:
        return slice, _described(leaf.start), _described(leaf.stop), _described(leaf.step)
    return leaf.__class__, leaf


def compile(function: Callable | None = None, **options) -> Callable:
    """Compile a function on tensors: traced once for each signature, then run as fused native kernels. Function and decorator.

    A signature is the structure of the arguments, shapes, dtypes, strides and `requires_grad` of their tensors, their other values
    (NumPy's arrays by their elements), the grad mode, and what the function reads elsewhere: numbers in closures, globals,
    modules, classes, objects and containers. Tensors that it reads elsewhere are inputs. A branch on a tensor's value is a guard;
    both paths are compiled when both have been seen. `t.item()` in arithmetic stays a number of each call.

    What the function does besides (print, appending to a list, moving an `itertools.count`) happens when it is traced, not in
    later calls. A function that cannot be kept so runs eagerly, with one UserWarning that says why and where: it draws random
    numbers that are not the engine's, reads a clock, moves an iterator on, hands memory out by `numpy()`, changes a container that
    it also reads, or looks at a value that never repeats. Exceptions of the function pass through; nothing is kept of such a call.

    The result has `cache_info()`, `cache_clear()`, `source(*args)` (the generated code), `graph(*args)` (printable, drawable by
    `engine.viz`). TypeError for what is not callable, and for options: there are none.
    """
    if options:
        raise TypeError(f"compile() got unexpected options: {', '.join(options)}")
    if function is None:
        return compile
    if isinstance(function, CompiledFunction):
        return function
    if not callable(function):
        raise TypeError(f"compile() expects a function, not {type(function).__name__}")
    return CompiledFunction(function)


