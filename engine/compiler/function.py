"""Compiled functions: one program for each signature, guards between programs, and what a call leaves behind.

A call takes the arguments apart, finds the program of their signature (structure, shapes, dtypes, which require gradients, Python
values, grad mode, and the Python numbers that the function reads elsewhere), runs it, and puts back what the function
would have left: written tensors, version counters, `.grad`, results with a node that runs the compiled backward pass.
"""
from __future__ import annotations

import builtins
import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import dtypes, tree
from ..tape import modes
from ..tensor import KIND_OF_NUMPY, Tensor, bump, wrap
from ..writes import store
from . import autodiff, trace, tracing
from .environment import Environment
from .graph import Graph
from .program import Executable, resizes
from .runtime import Computed
from .trace import Untraceable

MOST_VARIANTS = 8           # programs of one signature, told apart by guards
MISS = object()
compile_ = builtins.compile


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

    def run(self, tensors: list[Tensor]):
        """(results as arrays, new values of writes) for tensors of the signature; MISS where a guard sees another value."""
        owners = self.recorded.owners
        states = [(g, g.get_offset()) for g in self.generators] if self.seen or self.writes or self.resizes else ()
        sources = [o.array() for o in owners]
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

    def finish(self, tensors: list[Tensor], found: list):
        """Write what was written, and give back what was given back."""
        recorded = self.recorded
        for owner in recorded.owners:
            owner.commit()
        for target, value in zip(recorded.written, found[self.results:self.results + self.writes], strict=True):
            array = target.tensor(tensors)._array
            if value is not array:          # a kernel may have written it there
                store(array, value)
        for target, count in recorded.bumps:
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


def quick(variant: Variant, tensors: list[Tensor], structure, environment: Environment) -> Callable | None:
    """The shortest way through a program: one generated function that checks its arguments, runs the kernels, wraps the results.

    None where a call has more to do: guards, writes, gradients, arguments that are not all tensors, results that are not
    all new. The function gives MISS for arguments that the program is not for.
    """
    recorded, program = variant.recorded, variant.forward
    (_, _, parts), options = structure[2]
    plain = not options[2] and all(part is tree.LEAF for part in parts) and len(parts) == len(tensors) and all(
        t.__class__ is Tensor for t in tensors)
    more = (recorded.had_gradient or recorded.written or recorded.bumps or recorded.gradients or program.guards
            or variant.backward is not None or variant.fixed or variant.resizes)
    if not plain or more or _shared(tensors) or any(o.array is None or o.needs for o in recorded.outputs) or not all(
            is_made and leaf is None for is_made, leaf in recorded.leaves):
        return None
    space = {**program.space, "Tensor": Tensor, "new": object.__new__, "MISS": MISS, "modes": modes, "DEFAULT": dtypes.DEFAULT,
             "default": dtypes.DEFAULT.dtype, "environment": environment.values, "expected": environment.values()}
    lines = []
    for k, t in enumerate(tensors):
        space.update({f"kind{k}": t._kind, f"shape{k}": t._array.shape, f"strides{k}": t._array.strides})
        lines += [f"if x{k}.__class__ is not Tensor or x{k}._kind is not kind{k} or x{k}._needs is not {t._needs} or "
                  f"x{k}._view is not None:", "    return MISS", f"in{k} = x{k}._array",
                  f"if in{k}.shape != shape{k} or in{k}.strides != strides{k}:", "    return MISS"]
    if len(tensors) > 1:                # arguments that may share memory: that is looked at elsewhere
        arrays = [f"in{k}" for k in range(len(tensors))]
        space["ndarray"] = np.ndarray
        lines += [f"if len({{{', '.join(f'id({a})' for a in arrays)}}}) < {len(arrays)} or "
                  f"{' or '.join(f'{a}.base.__class__ is ndarray' for a in arrays)}:", "    return MISS"]
    lines += [f"if modes.enabled is not {modes.enabled} or DEFAULT.dtype is not default:", "    return MISS"]
    if not modes.enabled:
        lines += ["if modes.inference:", "    return MISS"]
    if environment.readers:
        lines += ["if environment() != expected:", "    return MISS"]
    captured = [v for v, _ in program.graph.captured if not v.constant]
    for k, owner in enumerate(recorded.owners):
        space[f"owner{k}"] = owner
        lines += [f"if not owner{k}.fits():", "    return MISS"]
    lines += [f"{v.name} = owner{k}.array()" for k, v in enumerate(captured)]
    lines += program.lines
    results = []
    for k, out in enumerate(recorded.outputs):
        ref = program.wanted[out.array]
        space[f"result{k}"] = KIND_OF_NUMPY[np.dtype(ref.dtype)]
        lines += [f"r{k} = new(Tensor)", f"r{k}._array, r{k}._kind, r{k}._needs = {program._array(ref)}, result{k}, False",
                  f"r{k}._node = r{k}._counter = r{k}._view = r{k}._grad = r{k}._meta = None"]
        results.append(f"r{k}")
    if recorded.structure is tree.LEAF:
        lines.append("return r0")
    elif recorded.structure[0] is tuple and all(part is tree.LEAF for part in recorded.structure[2]):
        lines.append(f"return ({', '.join(results)},)")
    else:
        return None
    source = f"def quick({', '.join(f'x{k}' for k in range(len(tensors)))}):\n" + "".join(f"    {line}\n" for line in lines)
    exec(compile_(source, "<quick>", "exec"), space)
    return space["quick"]


def _same(seen, array: np.ndarray) -> bool:
    value = array.tolist()
    return seen == value or (seen != seen and value != value)


class CompiledFunction:
    """What `engine.compile` returns: call it like the function. See `compile`."""

    def __init__(self, function: Callable):
        functools.update_wrapper(self, function, updated=())
        self.function = function
        self.signatures: dict[Any, list[Variant]] = {}
        self.hits = self.misses = 0
        self.environment = Environment(function)
        self.eager = ""             # why it runs eagerly
        self.last: Variant | None = None
        self.quick: Callable | None = None      # the last program's shortest way, for `quick_count` positional arguments
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
        key = (structure, tuple([_described(leaf) for leaf in leaves]), modes.enabled, dtypes.DEFAULT.dtype,
               self.environment.values(), _shared(tensors))
        try:
            variants = self.signatures.get(key)
        except TypeError:
            return self._give_up(f"an argument that is no tensor and cannot be hashed ({key[1]})", args, kwargs)
        if variants is not None:
            for k, variant in enumerate(variants):
                if not variant.fits(tensors):
                    continue
                found = variant.run(tensors)
                if found is not MISS:
                    if k:
                        variants.insert(0, variants.pop(k))
                    self.hits += 1
                    self._latest(variant, structure, tensors)
                    return variant.finish(tensors, found)
        return self._trace(key, args, kwargs, tensors, structure)

    def _latest(self, variant: Variant, structure, tensors) -> None:
        if variant is not self.last:
            self.last = variant
            self.quick = quick(variant, tensors, structure, self.environment)
            self.quick_count = -1 if self.quick is None else len(tensors)

    def _trace(self, key, args, kwargs, tensors, structure):
        variants = self.signatures.setdefault(key, [])
        if len(variants) >= MOST_VARIANTS:
            where = next((g.where for v in variants for g in v.forward.guards), "")
            return self._give_up(f"a value that it looks at never repeats{where}", args, kwargs)
        self.misses += 1
        try:
            recorded, result = tracing.record(self.function, args, kwargs, tensors)
        except Untraceable as reason:
            self._eager(str(reason))
            return reason.result
        try:
            variant = Variant(recorded, _also_held(self.function, tensors))
            if self.environment.settle(key[4]):
                variants = self.signatures.setdefault((*key[:4], self.environment.values(), *key[5:]), [])
        except Untraceable as reason:           # the function has run; from the next call on it runs eagerly
            self._eager(str(reason))
            return result
        variants.insert(0, variant)
        self._latest(variant, structure, tensors)
        return result

    def _give_up(self, reason: str, args, kwargs):
        self._eager(reason)
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
        return id(leaf)
    return leaf.__class__, leaf


def compile(function: Callable | None = None, **options) -> Callable:
    """Compile a function on tensors: traced once for each signature, then run as fused native kernels.

    Usable as a function and as a decorator.
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


