"""`engine.stencil`: a function of an element's neighbourhood, `u[i - 1, j]`, becomes an operator on whole arrays.

The accesses with their fixed offsets are the inputs of an elementwise operator; the array is read through shifted views,
so that the inside is one pass of one kernel. Elements near the border, whose neighbours lie outside, are computed in
strips of a copy that the boundary mode extends. The derivative is the elementwise operator's, its parts shifted back and added.
"""
from __future__ import annotations

import ast
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kernels import derive
from kernels.book import BOOK, FLOATS, Structural
from kernels.cpu import buffers, copies, sheets
from kernels.table import forward_ufunc

from .. import dtypes
from ..autograd import enable_grad
from ..dispatch import into
from ..errors import ShapeError
from ..functions.factories import full
from ..functions.join import cat
from ..functions.reduce import tensor_of
from ..general import GeneralCaller
from ..promotion import NUMBERS, common_device, device_kinds, of_kind
from ..tape import modes
from ..tensor import KIND_OF_NUMPY, Tensor, wrap
from ..walk import grad as gradient_of
from .elementwise import elementwise

BOUNDARIES = ("constant", "reflect", "symmetric", "edge", "wrap", "valid")
_ALIASES = {"zero": "constant", "nearest": "edge", "replicate": "edge", "periodic": "wrap", "circular": "wrap", "mirror": "reflect"}


def stencil(function: Callable | None = None, *, boundary: str = "constant", value: float = 0.0, name: str = "") -> Any:
    """Decorator: `function(u, ..., i, j, ..., p, ...)` becomes an operator `op(u, ..., p, ...)` with a result of the shape of u.

    The first parameters are arrays (those that the function indexes), then come the index names, one for each dimension, then
    numbers or tensors that broadcast. Arrays are indexed with each index name plus or minus a whole number, in their order:

        @engine.stencil(boundary="wrap")
        def heat(u, i, j, c):
            return u[i, j] + c * (u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1] - 4 * u[i, j])

    boundary: what lies outside: "constant" (`value`), "edge" (the nearest element), "reflect" (mirrored at the last element),
    "symmetric" (mirrored behind it), "wrap" (periodic), or "valid": only elements with all neighbours are computed, and
    the result is smaller. NumPy's names of `pad`; "nearest", "replicate", "periodic", "circular" and "mirror" are understood.
    All arrays have one shape. Integers are computed in the default float dtype. Differentiable to any order where the function is.
    Errors: TypeError for functions of another form (`kernels.derive.SourceError`), ValueError for an unknown boundary,
    ShapeError for arrays of other dimensions, or smaller than the boundary mode needs.
    """
    if function is None:
        return functools.partial(stencil, boundary=boundary, value=value, name=name)
    boundary = _ALIASES.get(boundary, boundary)
    if boundary not in BOUNDARIES:
        raise ValueError(f"stencil: boundary must be one of {', '.join(BOUNDARIES)}, not {boundary!r}")
    return Stencil(function, boundary, float(value), name)


class Stencil:
    """An operator made by `engine.stencil`."""

    def __init__(self, function: Callable, boundary: str, value: float, name: str):
        self.boundary, self.value = boundary, value
        functools.update_wrapper(self, function, updated=())
        self.name = name or function.__name__
        scalar, self.arrays, self.ndim, self.accesses, self.parameters = _read(function)
        self.inner = elementwise(scalar, name=f"{self.name}_point")
        offsets = [offset for _, offset in self.accesses]
        self.low = tuple(max(0, -min(o[d] for o in offsets)) for d in range(self.ndim))
        self.high = tuple(max(0, max(o[d] for o in offsets)) for d in range(self.ndim))
        previous = BOOK.get(self.name)
        if previous is not None and not hasattr(previous, "stencil"):
            raise ValueError(f"stencil: the book has an operator {self.name!r} already; give another name=")
        BOOK.pop(self.name, None)
        operands = (*self.arrays, *self.parameters)
        self.record = Structural(name=self.name, doc=function.__doc__ or "", forward=self._forward, inputs=operands,
                                 adjoint=_adjoint(self, operands), dtypes=FLOATS, function=False, method=False, anywhere=True)
        self.record.stencil = self
        self.record.apply = GeneralCaller(self.record)

    def __call__(self, *operands: Any, out: Tensor | None = None) -> Tensor:
        """The stencil on arrays of one shape and further operands, of the common float dtype."""
        count = len(self.arrays)
        if len(operands) != count + len(self.parameters):
            raise TypeError(f"{self.name}() takes {count + len(self.parameters)} operands "
                            f"({', '.join([*self.arrays, *self.parameters])}), got {len(operands)}")
        arrays = [tensor_of(self.name, x) for x in operands[:count]]
        rest = [x if isinstance(x, NUMBERS) else tensor_of(self.name, x) for x in operands[count:]]
        shape = arrays[0]._array.shape
        if len(shape) != self.ndim or any(x._array.shape != shape for x in arrays):
            raise ShapeError(f"{self.name}: arrays of {self.ndim} dimensions and one shape are needed, got "
                             f"{', '.join(str(tuple(x._array.shape)) for x in arrays)}")
        self._check_size(shape)
        dtype = functools.reduce(dtypes.promote_types, [x.dtype for x in arrays])
        common_device(self.name, [*arrays, *rest])
        kind = device_kinds(arrays)[dtype if dtype.category == 2 else dtypes.DEFAULT.dtype]
        if dtype.category > 2:
            raise NotImplementedError(f"\"{self.name}\" not implemented for '{dtype.scalar}'")
        tensors = [of_kind(x, kind) for x in (*arrays, *rest)]
        result = self.record(*tensors)
        return result if out is None else into(out, result)

    def _check_size(self, shape: tuple[int, ...]) -> None:
        least = {"reflect": 1, "wrap": 0, "symmetric": 0}.get(self.boundary)
        for d, n in enumerate(shape):
            reach = max(self.low[d], self.high[d])
            if least is not None and n and reach + least > n:
                raise ShapeError(f"{self.name}: boundary {self.boundary!r} needs at least {reach + least} elements along "
                                 f"dimension {d}, "
                                 f"got {n}")

    def __repr__(self) -> str:
        return f"<stencil {self.name} of {len(self.accesses)} points, boundary {self.boundary}>"

    # --- forward --------------------------------------------------------------------------------------------------------

    def _inside(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(max(0, n - a - b) for n, a, b in zip(shape, self.low, self.high, strict=True))

    def _views(self, arrays: list, size: tuple[int, ...], start: tuple[int, ...] | None = None) -> list:
        """For each access the part of an array (or tensor) that lies its offset away from a box of `size` elements at `start`."""
        start = self.low if start is None else start
        return [arrays[which][tuple(slice(s + o, s + o + n) for s, o, n in zip(start, offset, size, strict=True))]
                for which, offset in self.accesses]

    def _forward(self, *operands: np.ndarray) -> np.ndarray:
        arrays, rest = list(operands[:len(self.arrays)]), operands[len(self.arrays):]
        shape = arrays[0].shape
        kernel = self._kernel(arrays[0])
        inside = self._inside(shape)
        whole = self.boundary == "valid"
        out = buffers.empty(inside if whole else shape, arrays[0].dtype)
        if not out.size:
            return out
        if 0 not in inside:
            place = out if whole else out[tuple(slice(a, a + n) for a, n in zip(self.low, inside, strict=True))]
            at = [slice(a, a + n) for a, n in zip(self.low, inside, strict=True)]
            kernel([*self._views(arrays, inside), *(_part(p, shape, at, whole) for p in rest)], place)
        if not whole:
            for box in _borders(shape, self.low, self.high, inside):
                own = [self._extended(x, box) for x in arrays]
                size = tuple(b - a for a, b in box)
                at = [slice(a, b) for a, b in box]
                kernel([*self._views(own, size), *(_part(p, shape, at, False) for p in rest)], out[tuple(at)])
        return out

    def _kernel(self, x: Any) -> Callable[[list, Any], None]:
        """What computes the elementwise operator of arrays like `x` into an array."""
        if isinstance(x, np.ndarray):
            ufunc = forward_ufunc(self.inner.operator, x.dtype.name)
            return lambda arrays, out: sheets.into(ufunc, arrays, out)
        return lambda arrays, out: self.inner.operator.on_arrays(*arrays, out=out)

    def _extended(self, x: np.ndarray, box: list[tuple[int, int]]) -> np.ndarray:
        """A box of an array with as many neighbours on each side as accesses reach; those outside come from the boundary mode."""
        for d, (first, last) in enumerate(box):
            index, outside = _positions(first - self.low[d], last + self.high[d], x.shape[d], self.boundary)
            x = BOOK["index_select"].on_arrays(x, index, first=d, last=d + 1) if x.size else buffers.empty(
                (*x.shape[:d], len(index), *x.shape[d + 1:]), x.dtype)
            if outside.any():
                x = copies.copy(x)
                for k in np.flatnonzero(outside):
                    x[(slice(None),) * d + (k,)] = self.value
        return x

    # --- derivative -----------------------------------------------------------------------------------------------------

    def composed(self, operands: list[Tensor]) -> Tensor:
        """The stencil in operators on tensors: arrays extended as a whole, shifted views, the elementwise operator."""
        arrays, rest = operands[:len(self.arrays)], operands[len(self.arrays):]
        shape = arrays[0]._array.shape
        if self.boundary == "valid":
            return self.inner(*self._views(arrays, self._inside(shape)), *rest)
        return self.inner(*self._views([self._padded(x) for x in arrays], shape), *rest)

    def _padded(self, x: Tensor) -> Tensor:
        for d, n in enumerate(x._array.shape):
            if not self.low[d] and not self.high[d]:
                continue
            if self.boundary == "constant":
                sides = [full((*x._array.shape[:d], k, *x._array.shape[d + 1:]), self.value, dtype=x.dtype, device=x.device)
                         for k in (self.low[d], self.high[d])]
                x = cat([sides[0], x, sides[1]], d)
            else:
                index, _ = _positions(-self.low[d], n + self.high[d], n, self.boundary)
                x = x.index_select(d, wrap(index, KIND_OF_NUMPY[index.dtype]).to(x.device))
        return x

    def gradients(self, g: Tensor, operands: list[Tensor], needs: tuple[bool, ...]) -> tuple:
        """The gradients of the operands that need one."""
        again = modes.enabled
        with enable_grad():
            leaves = [x if not need or (again and x.requires_grad) else x.detach().requires_grad_()
                      for x, need in zip(operands, needs, strict=True)]
            y = self.composed(leaves)
            wanted = [x for x, need in zip(leaves, needs, strict=True) if need]
            found = iter(gradient_of(y, wanted, g, create_graph=again, allow_unused=True))
        results = []
        for x, need in zip(operands, needs, strict=True):
            one = next(found) if need else None
            results.append(x.detach() * 0 if need and one is None else one)
        return tuple(results)


def _adjoint(own: Stencil, operands: tuple[str, ...]) -> Callable:
    """The record's adjoint, whose parameters name what is kept."""
    space: dict = {"own": own}
    names = ", ".join(operands)
    exec(f"def adjoint(g, needs, {names}):\n    return own.gradients(g, [{names}], needs)\n", space)
    return space["adjoint"]


def _part(x: np.ndarray, shape: tuple[int, ...], at: list[slice], whole: bool) -> np.ndarray:
    """What of a further operand belongs to a box of the result."""
    if x.size == 1 or whole:
        return x
    return BOOK["expand"].on_arrays(x, shape=shape)[tuple(at)]


def _borders(shape, low, high, inside) -> Iterator[list[tuple[int, int]]]:
    """Boxes that cover all elements that are not inside, each once."""
    if 0 in inside:
        yield [(0, n) for n in shape]
        return
    for d in range(len(shape)):
        for first, last in ((0, low[d]), (shape[d] - high[d], shape[d])):
            if first < last:
                yield [(low[k], shape[k] - high[k]) if k < d else (first, last) if k == d else (0, shape[k])
                       for k in range(len(shape))]


@functools.lru_cache(maxsize=256)
def _positions(first: int, last: int, n: int, boundary: str) -> tuple[np.ndarray, np.ndarray]:
    """(which element stands at each position from `first` to before `last` of a dimension of n, whether it has the constant)."""
    places = np.arange(first, last)
    outside = (places < 0) | (places >= n)
    if boundary == "wrap":
        places = places % max(n, 1)
    elif boundary == "reflect":
        period = max(2 * (n - 1), 1)
        places = places % period
        places = np.where(places >= n, period - places, places)
    elif boundary == "symmetric":
        places = places % max(2 * n, 1)
        places = np.where(places >= n, 2 * n - 1 - places, places)
    else:
        places = places.clip(0, max(n - 1, 0))
    return places.astype(np.int64), outside if boundary == "constant" else np.zeros_like(outside)


# --- the user's function ------------------------------------------------------------------------------------------------

def _read(function: Callable) -> tuple[Callable, list[str], int, list[tuple[int, tuple[int, ...]]], list[str]]:
    """(scalar function of the accessed values and the parameters, array names, dimensions, accesses, names of the parameters)."""
    plain = getattr(function, "py_func", function)
    scalar = derive.Scalar(plain)
    definition = scalar.definition
    indexed = {n.value.id for n in ast.walk(definition) if isinstance(n, ast.Subscript) and isinstance(n.value, ast.Name)}
    arrays = list(itertools.takewhile(lambda name: name in indexed, scalar.inputs))
    if not arrays:
        raise scalar.error(definition, "a stencil's first parameters are arrays, indexed like u[i - 1, j]")
    first = next(n for n in ast.walk(definition) if isinstance(n, ast.Subscript) and n.value.id == arrays[0])
    ndim = len(first.slice.elts) if isinstance(first.slice, ast.Tuple) else 1
    indices, parameters = scalar.inputs[len(arrays):len(arrays) + ndim], list(scalar.inputs[len(arrays) + ndim:])
    if len(indices) < ndim:
        raise scalar.error(definition, f"after the arrays come {ndim} index names")
    accesses: dict[tuple[int, tuple[int, ...]], str] = {}

    class Access(ast.NodeTransformer):
        def visit_Subscript(self, node):
            if not isinstance(node.value, ast.Name) or node.value.id not in arrays:
                return self.generic_visit(node)
            parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            if len(parts) != ndim:
                raise scalar.error(node, f"{ndim} indices are needed here")
            offset = tuple(_offset(scalar, p, name) for p, name in zip(parts, indices, strict=True))
            key = (arrays.index(node.value.id), offset)
            name = accesses.setdefault(key, f"{node.value.id}_{'_'.join(str(o).replace('-', 'm') for o in offset)}")
            return ast.copy_location(ast.Name(name, ast.Load()), node)
    definition = Access().visit(definition)
    for node in ast.walk(definition):
        if isinstance(node, ast.Name) and node.id in (*arrays, *indices):
            raise scalar.error(node, f"`{node.id}` may only stand in an index here")
    definition.args.args = [ast.arg(n) for n in (*accesses.values(), *parameters)]
    definition.args.posonlyargs, definition.decorator_list, definition.returns = [], [], None
    source = ast.unparse(ast.fix_missing_locations(definition)) + "\n"
    space = {k: v for k, v in scalar.space.items() if k != "__builtins__"}
    exec(compile(source, scalar.file, "exec"), space)
    made = space[definition.name]
    made.source = source
    return made, arrays, ndim, list(accesses), parameters


def _offset(scalar: derive.Scalar, node: ast.expr, name: str) -> int:
    """The whole number that an index adds to its index name."""
    if isinstance(node, ast.Name) and node.id == name:
        return 0
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
        left, right = node.left, node.right
        if isinstance(left, ast.Constant) and isinstance(node.op, ast.Add):
            left, right = right, left
        if isinstance(left, ast.Name) and left.id == name and isinstance(right, ast.Constant) and type(right.value) is int:
            return right.value if isinstance(node.op, ast.Add) else -right.value
    raise scalar.error(node, f"an index must be `{name}`, `{name} + 1`, `{name} - 2`, ...")
