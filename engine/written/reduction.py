"""`engine.reduction`: a reduction of the user's own from scalar functions: map, combine, start, finish.

The forward pass is one fold kernel over the book's templates (kernels.cpu.folds). The derivative is that of the same reduction as
a tree of elementwise operators (`tree`): exact to any order, for any associative `combine`, commutative or not. A reduction of
several tensors is that tree alone.
"""
from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from kernels import derive
from kernels.book import BOOK, FLOATS, Fold

from .. import dtypes
from ..autograd import enable_grad
from ..dispatch import into
from ..functions.factories import full
from ..functions.join import cat
from ..functions.reduce import dims_of, tensor_of
from ..functions.shape import broadcast_tensors
from ..general import GeneralCaller
from ..promotion import common_device, device_kinds, of_kind
from ..tape import modes
from ..tensor import Tensor
from ..walk import grad as gradient_of
from .elementwise import elementwise


def reduction(combine: Callable | None = None, *, map: Callable | None = None, start: float | Sequence[float],
              finish: Callable | None = None, name: str = "") -> Any:
    """Decorator: an associative scalar function `combine` becomes a reduction `op(input, dim=None, keepdim=False, out=None)`.

    A state is one number, or several: then `start` is a tuple of m numbers, `map(x)` gives m numbers, `combine(a1, ...,
    am, b1, ..., bm)` the m numbers of both together, and `finish(s1, ..., sm)`, or `finish(s1, ..., sm, n)` with the
    number n of elements, the result. `map` and `finish` may be left out where a state is one number. Elements are combined
    in the order of their positions, in groups of any size; `start` must be neutral (combine(start, s) is s) and is the
    state of no elements.

        @engine.reduction(map=lambda x: (x, x * x), start=(0.0, 0.0), finish=lambda s, q, n: math.sqrt(q / n - (s / n) ** 2))
        def deviation(s, q, t, r):
            return s + t, q + r

    Where map takes several numbers, the reduction takes as many tensors, which broadcast: `op(x, y, dim=None, keepdim=False)`.

        @engine.reduction(map=lambda x, w: (w * x, w), start=(0.0, 0.0), finish=lambda s, w: s / w)
        def weighted_mean(s, w, t, v):
            return s + t, w + v

    Input: real tensors of any shape; integers are computed in the default float dtype. Differentiable to any order where the parts
    are. Totals of float16 and float32 are kept in float64; those of several tensors in their common dtype, added in pairs.
    Errors: TypeError where the parts do not fit together, or cannot become kernels (`kernels.derive.SourceError`).
    """
    if combine is None:
        return functools.partial(reduction, map=map, start=start, finish=finish, name=name)
    return Reduction(combine, map, start, finish, name)


class Reduction:
    """A reduction made by `engine.reduction`; call it like `engine.sum`."""

    def __init__(self, combine: Callable, map: Callable | None, start: float | Sequence[float], finish: Callable | None, name: str):
        self.combine, self.map, self.finish = combine, map, finish
        self.start = tuple(float(s) for s in start) if isinstance(start, (tuple, list)) else (float(start),)
        self.several = isinstance(start, (tuple, list))
        self.name = name or getattr(combine, "__name__", "reduction").strip("<>")
        functools.update_wrapper(self, combine, updated=())
        self.inputs = 1
        self._parts()
        previous = BOOK.get(self.name)
        if previous is not None and not hasattr(previous, "reduction"):
            raise ValueError(f"reduction: the book has an operator {self.name!r} already; give another name=")
        BOOK.pop(self.name, None)
        if self.inputs > 1:             # no fold of the book's reads several tensors
            return
        self.record = self._fold()
        self.record.reduction = self
        self.record.apply = GeneralCaller(self.record)

    def _parts(self) -> None:
        """Read the functions and see that they fit together."""
        m = len(self.start)
        self.combined = derive.Scalar(self.combine)
        if len(self.combined.inputs) != 2 * m:
            raise TypeError(f"reduction {self.name}: combine must take {2 * m} numbers, two states of {m}, not "
                            f"{len(self.combined.inputs)}")
        self._returns(self.combined, "combine")
        self.mapped = None if self.map is None else derive.Scalar(self.map)
        if self.mapped is None:
            if self.several:
                raise TypeError(f"reduction {self.name}: a state of several numbers needs map")
        else:
            self.inputs = len(self.mapped.inputs)
            self._returns(self.mapped, "map")
        self.finished, self.counted = None, False
        if self.finish is None:
            if self.several:
                raise TypeError(f"reduction {self.name}: a state of several numbers needs finish")
            return
        count = self.finish.__code__.co_argcount if hasattr(self.finish, "__code__") else self.finish.py_func.__code__.co_argcount
        if count not in (m, m + 1):
            raise TypeError(f"reduction {self.name}: finish must take {m} numbers, or {m + 1} with the number of elements, "
                            f"not {count}")
        self.counted = count == m + 1
        names = getattr(self.finish, "py_func", self.finish).__code__.co_varnames[:count]
        self.finished = derive.Scalar(self.finish, {names[-1]: "int"} if self.counted else {})
        if self.finished.result not in ("float", "int"):
            raise TypeError(f"reduction {self.name}: finish must return a number")

    def _returns(self, part: derive.Scalar, word: str) -> None:
        m, kind = len(self.start), part.result
        fits = len(kind) == m if isinstance(kind, tuple) else kind in ("float", "int") and not self.several
        if not fits:
            raise TypeError(f"reduction {self.name}: {word} must return "
                            f"{f'a tuple of {m} numbers' if self.several else 'a number'}")

    # --- forward --------------------------------------------------------------------------------------------------------

    def _fold(self) -> Fold:
        """The record: the user's functions with the arguments that the templates give them."""
        m = len(self.start)
        states = ["a", "b"] if not self.several else [f"a[{k}]" for k in range(m)] + [f"b[{k}]" for k in range(m)]
        state = "s" if not self.several else ", ".join(f"s[{k}]" for k in range(m))
        combine = _typed(f"def combine(a, b):\n    return part({', '.join(states)})\n", part=self.combined.make())
        lift = _typed("def lift(x, k):\n    return x\n") if self.mapped is None else _typed(
            "def lift(x, k):\n    return part(x)\n", part=self.mapped.make())
        if self.finished is None:
            finish = _typed("def finish(s, n):\n    return s\n")
        else:
            given = state + ", n" * self.counted
            finish = _typed(f"def finish(s, n):\n    return part({given})\n", part=self.finished.make())
        return Fold(name=self.name, doc=self.combine.__doc__ or "", lift=lift, combine=combine, start=lambda dtype: self.start,
                    finish=finish, state=lambda dtype: ("float32" if dtype == "float16" else dtype,) * m,
                    wide=lambda dtype: ("float64",) * m, dtypes=FLOATS, function=False, method=False,
                    adjoint=lambda g, x, dims, keepdim: (self._gradient(g, x, dims, keepdim),))

    def __call__(self, *operands: Any, dim: int | Sequence[int] | None = None, keepdim: bool = False,
                 out: Tensor | None = None) -> Tensor:
        """The reduction of one tensor, or of as many as map takes, over `dim` (an int, several, or None for all).

        `dim` and `keepdim` may also follow the tensors by position. NotImplementedError for complex input.
        """
        given, rest = operands[:self.inputs], operands[self.inputs:]
        if len(given) < self.inputs or len(rest) > 2:
            raise TypeError(f"{self.name}() takes {self.inputs} tensor{'s' * (self.inputs > 1)}, dim and keepdim, "
                            f"got {len(operands)}")
        dim, keepdim = (*rest, *(dim, keepdim)[len(rest):])
        tensors = [tensor_of(self.name, x) for x in given]
        dtype = functools.reduce(dtypes.promote_types, [x.dtype for x in tensors])
        if dtype.category > 2:
            raise NotImplementedError(f"\"{self.name}\" not implemented for '{dtype.scalar}'")
        common_device(self.name, tensors)
        kind = device_kinds(tensors)[dtype if dtype.category == 2 else dtypes.DEFAULT.dtype]
        tensors = [of_kind(x, kind) for x in tensors]
        if self.inputs > 1:
            tensors = broadcast_tensors(*tensors)
        dims = dims_of(dim, tensors[0]._array.ndim)
        result = self.record(*tensors, dims=dims, keepdim=keepdim) if self.inputs == 1 else self.tree(tensors, dims, keepdim)
        return result if out is None else into(out, result)

    def __repr__(self) -> str:
        return f"<reduction {self.name}>"

    # --- derivative -----------------------------------------------------------------------------------------------------

    @functools.cached_property
    def operators(self) -> tuple[Any, Any, Any]:
        """map, combine and finish as elementwise operators."""
        names = getattr(self.finish, "py_func", self.finish).__code__.co_varnames if self.counted else ()
        count = (names[len(self.start)],) if self.counted else ()
        return (None if self.map is None else elementwise(self.map, name=f"{self.name}_map"),
                elementwise(self.combine, name=f"{self.name}_combine"),
                None if self.finish is None else elementwise(self.finish, name=f"{self.name}_finish", nondifferentiable=count))

    def tree(self, tensors: Sequence[Tensor], dims: tuple[int, ...] | None, keepdim: bool) -> Tensor:
        """The reduction of tensors of one shape in elementwise operators: neighbours are combined until one is left."""
        shape = tensors[0]._array.shape
        dims = tuple(range(len(shape))) if dims is None else dims
        kept = [d for d in range(len(shape)) if d not in dims]
        n = math.prod(shape[d] for d in dims)
        rest = [shape[d] for d in kept]
        flat = [x.permute(*sorted(dims), *kept).reshape(n, *rest) if shape else x.reshape(1) for x in tensors]
        lift, combine, finish = self.operators
        lifted = flat[0] if lift is None else lift(*flat)
        states = list(lifted) if isinstance(lifted, (tuple, list)) else [lifted]
        if not n:
            states = [full((1, *rest), s, dtype=tensors[0].dtype, device=tensors[0].device) for s in self.start]
        while states[0]._array.shape[0] > 1:
            size = states[0]._array.shape[0]
            even = size - size % 2
            made = combine(*[s[0:even:2] for s in states], *[s[1:even:2] for s in states])
            made = list(made) if isinstance(made, (tuple, list)) else [made]
            states = made if even == size else [cat([new, old[even:]]) for new, old in zip(made, states, strict=True)]
        states = [s[0] for s in states]
        result = states[0] if finish is None else finish(*states, *((n,) if self.counted else ()))
        return result.reshape([1 if d in dims else k for d, k in enumerate(shape)]) if keepdim else result

    def _gradient(self, g: Tensor, x: Tensor, dims: tuple[int, ...] | None, keepdim: bool) -> Tensor:
        again = modes.enabled
        with enable_grad():
            leaf = x if again and x.requires_grad else x.detach().requires_grad_()
            y = self.tree([leaf], dims, keepdim)
            if not y.requires_grad:
                return leaf.detach() * 0
            (found,) = gradient_of(y, leaf, g, create_graph=again, allow_unused=True)
        return x.detach() * 0 if found is None else found


def _typed(source: str, **names: Any) -> Callable:
    """A function for kernels from its text (see `kernels.derive`)."""
    space: dict = {"_T": float, **names}
    exec(compile(source, "<reduction>", "exec"), space)
    made = space[source[4:source.index("(")]]
    made.source, made.typed, made.__module__ = source, True, "kernels.derive"
    made.loops = any(getattr(part, "loops", False) for part in names.values())
    return made
