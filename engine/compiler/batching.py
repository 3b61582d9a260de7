"""vmap: a function traced on one element of a batch, its program run for the whole batch at once.

What dimensions mean, checks in PyTorch's words, the memory of traced programs, and the plain loop over elements for functions that
a trace cannot hold (those that draw random numbers). How a program runs for a batch is `batch_rules`.
"""
from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kernels.book import BOOK

from .. import tree
from ..dtypes import DEFAULT
from ..functions.registry import PUBLIC
from ..random import Generator
from ..tape import modes
from ..tensor import KIND_OF_NUMPY, Tensor, wrap
from . import tracing
from .batch_rules import DYNAMIC, Batched, Counted, Resized, execute, seen
from .environment import PLAIN, Environment
from .graph import Guard
from .trace import Untraceable

KEPT = 8            # traced programs that a batched function remembers
RANDOM = ("vmap: called random operation while in randomness error mode. Please either use the 'same' or 'different' randomness "
          "flags on vmap or perform the randomness operation out of vmap")
WRITTEN = ("vmap: the function writes in place to a tensor that is not batched, a captured one or an argument with in_dim "
           "None, which "
           "is not possible: it has one value for all elements. Please use an out-of-place operator instead.")


class Batcher:
    """One `vmap(function, ...)`: call it with batched arguments. See `engine.func.vmap`."""

    def __init__(self, function: Callable, in_dims: Any, out_dims: Any, randomness: str, chunk_size: int | None) -> None:
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"vmap: chunk_size should be None or greater than 0. (got {chunk_size})")
        self.function, self.in_dims, self.out_dims = function, in_dims, out_dims
        self.randomness, self.chunk_size = randomness, chunk_size
        self.name = getattr(function, "__name__", repr(function))
        self.programs: dict = {}
        self.traces = 0             # how often the function ran

    def __call__(self, args: tuple, kwargs: dict) -> Any:
        leaves: list = []
        structure = tree.flatten(args, leaves)
        dims, count = self._dims(structure, leaves)
        moved = [x if d is None else x.movedim(d, 0) for x, d in zip(leaves, dims, strict=True)]
        step = max(count if self.chunk_size is None else self.chunk_size, 1)
        parts = []
        for start in range(0, max(count, 1), step):
            part = [x if d is None or step >= count else x[start:start + step] for x, d in zip(moved, dims, strict=True)]
            parts.append(self._run(structure, part, dims, kwargs, min(step, count - start)))
        shape = parts[0][1]
        spread = self._out(shape)
        results = []
        for d, *group in zip(spread, *(p[0] for p in parts), strict=True):
            results.append(self._joined(d, group, [min(step, count - k * step) for k in range(len(group))]))
        return tree.unflatten(shape, iter(results))

    def _joined(self, d: int | None, group: list[Batched], counts: list[int]) -> Tensor:
        """One result of all chunks, its batch at dimension `d`."""
        if d is None:
            if group[0].batched:
                raise ValueError(f"vmap({self.name}, ...): `{self.name}` can not return a BatchedTensor when out_dim is None")
            return group[0].tensor
        full = [r.tensor if r.batched else r.tensor.expand(n, *r.tensor.shape) for r, n in zip(group, counts, strict=True)]
        joined = full[0] if len(full) == 1 else PUBLIC["cat"](full)
        return joined.movedim(0, d) if d else joined

    # --- dimensions ---------------------------------------------------------------------------------------------------

    def _dims(self, structure: Any, leaves: list) -> tuple[list[int | None], int]:
        """(the batched dimension of each leaf, None where it has none; the size of the batch)."""
        head, dims = f"vmap({self.name}, in_dims={self.in_dims}, ...)(<inputs>): ", self.in_dims
        if not isinstance(dims, (int, tuple)):
            raise ValueError(f"{head}expected `in_dims` to be int or a (potentially nested) tuple matching the structure "
                             f"of inputs, "
                             f"got: {type(dims)}.")
        if not leaves:
            raise ValueError(f"vmap({self.name})(<inputs>): got no inputs. Maybe you forgot to add inputs, or you are "
                             f"trying to vmap "
                             "over a function with no inputs. The latter is unsupported.")
        found: list = []
        if not _spread(dims, structure, found):
            raise ValueError(f"{head}in_dims is not compatible with the structure of `inputs`. in_dims has structure "
                             f"{_shown(dims)} but inputs has structure {_shown_structure(structure)}.")
        sizes = []
        for k, (d, leaf) in enumerate(zip(found, leaves, strict=True)):
            if d is None:
                continue
            if not isinstance(d, int):
                raise ValueError(f"{head}Got in_dim={d} for an input but in_dim must be either an integer dimension or None.")
            if not isinstance(leaf, Tensor):
                raise ValueError(f"{head}Got in_dim={d} for an input but the input is of type {type(leaf)}. We cannot vmap over "
                                 "non-Tensor arguments, please use None as the respective in_dim")
            if not -leaf.ndim <= d < leaf.ndim:
                raise ValueError(f"{head}Got in_dim={d} for some input, but that input is a Tensor of dimensionality "
                                 f"{leaf.ndim} so "
                                 f"expected in_dim to satisfy -{leaf.ndim} <= in_dim < {leaf.ndim}.")
            found[k] = d % leaf.ndim
            sizes.append(leaf.shape[found[k]])
        if not sizes:
            raise ValueError("vmap: Expected at least one Tensor to vmap over")
        if len(set(sizes)) > 1:
            raise ValueError(f"vmap: Expected all tensors to have the same size in the mapped dimension, got sizes {sizes} for the "
                             "mapped dimension")
        return found, sizes[0]

    def _out(self, structure: Any) -> list[int | None]:
        """Where the batch goes in each result."""
        dims, found = self.out_dims, []
        if structure is tree.LEAF and isinstance(dims, tuple) and len(dims) == 1:
            dims = dims[0]
        if not isinstance(dims, (int, tuple, list, dict, type(None))):
            raise ValueError(f"vmap({self.name}, ..., out_dims={dims}): `out_dims` must be an int, None or a python "
                             f"collection of ints "
                             "representing where in the outputs the vmapped dimension should appear.")
        if not _spread(dims, structure, found):
            raise ValueError(f"vmap({self.name}, ..., out_dims={dims})(<inputs>): out_dims is not compatible with the structure of "
                             f"`outputs`. out_dims has structure {_shown(dims)} but outputs has structure "
                             f"{_shown_structure(structure)}.")
        return found

    # --- one batch ----------------------------------------------------------------------------------------------------

    def _run(self, structure: Any, leaves: list, dims: list, kwargs: dict, count: int) -> tuple[list[Batched], Any]:
        """(results, their structure) for arguments whose batch is in front."""
        if any(isinstance(x, Tensor) and x.is_cuda for x in leaves):       # traces are the CPU's
            return self._loop(structure, leaves, dims, kwargs, count)
        key = self._key(structure, leaves, dims, kwargs)
        recorded = self.programs.get(key) if key is not None else None
        if recorded is not None and all(o.fits() for o in recorded.owners):
            with contextlib.suppress(Resized):          # a mask that selects more now: trace again
                return self._replay(recorded, leaves, dims, count), recorded.structure
        first = [x if d is None else _element(x) for x, d in zip(leaves, dims, strict=True)]
        tensors = [x for x in first if isinstance(x, Tensor)]
        self.traces += 1
        try:
            recorded = tracing.record(self.function, tree.unflatten(structure, iter(first)), kwargs, tensors, derivatives=False)[0]
        except Untraceable as reason:
            if "random" in str(reason) and self.randomness == "error":
                raise RuntimeError(RANDOM) from None
            return self._loop(structure, leaves, dims, kwargs, count)
        self._check(recorded)
        if key is not None and not recorded.written and not any(isinstance(n, Guard) for n in recorded.forward.nodes):
            if len(self.programs) >= KEPT:
                del self.programs[next(iter(self.programs))]
            self.programs[key] = recorded
        try:
            return self._replay(recorded, leaves, dims, count), recorded.structure
        except Counted:
            return self._loop(structure, leaves, dims, kwargs, count)

    def _check(self, recorded: tracing.Recorded) -> None:
        for is_tensor, leaf in recorded.leaves:
            if not is_tensor:
                raise ValueError(f"vmap({self.name}, ...): `{self.name}` must only return Tensors, got type {type(leaf)}. "
                                 f"Did you mean "
                                 "to set out_dims= to None for output?")

    def _replay(self, recorded: tracing.Recorded, leaves: list, dims: list, count: int) -> list[Batched]:
        graph = recorded.forward
        values: dict[int, Batched] = {}
        given = [Batched(x, d is not None) for x, d in zip(leaves, dims, strict=True) if isinstance(x, Tensor)]
        for v, x in zip(graph.inputs, given, strict=True):
            values[id(v)] = x
        for v, owner in graph.captured:
            t = wrap(v.array, KIND_OF_NUMPY[v.array.dtype]) if owner is None else owner.get()
            values[id(v)] = Batched(t, False)
        places = {id(v): x for v, x in zip(graph.inputs, given, strict=True)}
        for place, _ in graph.writes:
            if id(place) not in places or not places[id(place)].batched:
                raise RuntimeError(WRITTEN)
        execute(graph, values, count)
        for place, value in graph.writes:
            places[id(place)].tensor.copy_(values[id(value)].tensor)
        results = []
        for out in recorded.outputs[:len(recorded.leaves)]:
            if out.array is not None:
                ref = graph.results[out.array]
                results.append(seen(values[id(ref.value)], ref, count))
            elif out.target.argument >= 0:
                own = given[out.target.argument]
                results.append(Batched(BOOK["alias"](own.tensor), own.batched))
            else:
                results.append(Batched(out.target.owner.get(), False))
        return results

    def _loop(self, structure: Any, leaves: list, dims: list, kwargs: dict, count: int) -> tuple[list[Batched], Any]:
        """The function called for each element, the results stacked; with randomness "same" all of them draw the same numbers."""
        shape, columns = None, []
        with _repeating() if self.randomness == "same" else contextlib.nullcontext() as again:
            for k in range(max(count, 1)):
                if again is not None:
                    again()
                one = [x if d is None else x[k] if count else _element(x) for x, d in zip(leaves, dims, strict=True)]
                result: list = []
                shape = tree.flatten(self.function(*tree.unflatten(structure, iter(one)), **kwargs), result)
                for leaf in result:
                    if not isinstance(leaf, Tensor):
                        raise ValueError(f"vmap({self.name}, ...): `{self.name}` must only return Tensors, got type "
                                         f"{type(leaf)}. Did "
                                         "you mean to set out_dims= to None for output?")
                columns.append(result)
        found, shared = [], None in tree.leaves_of(self.out_dims)
        for column in zip(*columns, strict=True):
            if any(t._array.shape != column[0]._array.shape for t in column):
                raise RuntimeError(DYNAMIC.format(self.name))
            if shared and all(np.array_equal(t._array, column[0]._array, equal_nan=t.dtype.category >= 2) for t in column):
                found.append(Batched(column[0], False))         # the same for all elements, as out_dims=None asks
            else:
                found.append(Batched(PUBLIC["stack"](column)[:count], True))
        return found, shape

    # --- which program ------------------------------------------------------------------------------------------------

    def _key(self, structure: Any, leaves: list, dims: list, kwargs: dict) -> tuple | None:
        """What a traced program is right for; None where that cannot be told."""
        if kwargs or tracing.active() or not _transparent(self.function, set()):
            return None
        parts = []
        for x, d in zip(leaves, dims, strict=True):
            if isinstance(x, Tensor):
                parts.append((x._array.shape[d is not None:], x._array.strides, x._kind, x.requires_grad, d is None))
            elif isinstance(x, PLAIN):
                parts.append((type(x), x))
            else:
                return None
        return structure, tuple(parts), modes.enabled, DEFAULT.dtype, Environment(self.function).values()


def vmapped(function: Callable, in_dims: Any, out_dims: Any, randomness: str, chunk_size: int | None) -> Callable:
    """See `engine.func.vmap`."""
    batcher = Batcher(function, in_dims, out_dims, randomness, chunk_size)

    def transformed(*args: Any, **kwargs: Any) -> Any:
        return batcher(args, kwargs)
    transformed.batcher = batcher
    return transformed


def _element(x: Tensor) -> Tensor:
    """The first element in memory of its own, for the trace; of an empty batch one of zeros."""
    if not x._array.shape[0]:
        return x.new_zeros(x.shape[1:])
    return x[0].clone()


def _spread(dims: Any, structure: Any, found: list) -> bool:
    """Append a dimension for each leaf of a structure, of which `dims` is a prefix; False where it is none."""
    if structure is tree.LEAF:
        found.append(dims)
        return not isinstance(dims, (tuple, list, dict))
    cls, names, parts = structure
    if not isinstance(dims, (tuple, list, dict)):
        found += [dims] * _count(structure)
        return True
    if isinstance(dims, dict):
        return names is not None and set(dims) == set(names) and all(
            _spread(dims[n], p, found) for n, p in zip(names, parts, strict=True))
    if names is not None or len(dims) != len(parts) or (isinstance(dims, list) != issubclass(cls, list)):
        return False
    return all(_spread(d, p, found) for d, p in zip(dims, parts, strict=True))


def _count(structure: Any) -> int:
    return 1 if structure is tree.LEAF else sum(_count(p) for p in structure[2])


def _shown(dims: Any) -> str:
    return _shown_structure(tree.flatten(dims, []))


def _shown_structure(structure: Any) -> str:
    from ..func import _shown
    return _shown(structure)


@contextlib.contextmanager
def _repeating() -> Iterator[Callable[[], None]]:
    """Gives a function that takes every generator back to where it was at its first draw inside the block."""
    plain, begun = Generator.reserve, {}

    def reserve(self: Generator, blocks: int) -> tuple[int, int]:
        begun.setdefault(id(self), (self, self.get_offset()))
        return plain(self, blocks)

    def again() -> None:
        for generator, offset in begun.values():
            generator.set_offset(offset)
    Generator.reserve = reserve
    try:
        yield again
    finally:
        Generator.reserve = plain


def _transparent(found: Any, known: set[int]) -> bool:
    """Whether all that a function reads can be seen by its environment: numbers, tensors, modules, and functions that "
    "are so, too."""
    if id(found) in known or isinstance(found, (*PLAIN, Tensor, type)):
        return True
    known.add(id(found))
    if isinstance(found, types.ModuleType):
        return found.__name__.partition(".")[0] in ("engine", "math")
    if isinstance(found, tuple):
        return all(_transparent(one, known) for one in found)
    if isinstance(found, Batcher):
        return found.randomness == "error" and _transparent(found.function, known) and all(
            isinstance(d, (int, type(None))) for d in tree.leaves_of((found.in_dims, found.out_dims)))
    if isinstance(found, types.BuiltinFunctionType):
        return True
    if not isinstance(found, types.FunctionType):
        return False
    for cell in found.__closure__ or ():
        try:
            if not _transparent(cell.cell_contents, known):
                return False
        except ValueError:              # not assigned yet
            return False
    if (found.__globals__.get("__name__") or "").partition(".")[0] in ("engine", "kernels"):
        return True
    if found.__defaults__ or found.__kwdefaults__:
        return False
    return all(_transparent(found.__globals__[n], known) for n in _mentioned(found.__code__) if n in found.__globals__)


def _mentioned(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _mentioned(constant)
