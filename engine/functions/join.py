"""Several tensors as one: cat, stack and the families around them, block_diag, meshgrid, combinations, atleast_*.

Arguments are checked and promoted here; the joining is done by records in `kernels/ops/layout.py`.
"""
from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from operator import index as as_int
from typing import Any

import numpy as np

from kernels.book import BOOK

from .. import dispatch, dtypes
from ..dispatch import cast, common_device, item_of
from ..errors import DTypeError, ShapeError
from ..tensor import KIND, KIND_OF_NUMPY, Tensor, wrap, wrap_dim
from . import shape as shapes
from .registry import public

_cat, _stack = BOOK["cat"].apply.hot(), BOOK["stack"].apply.hot()


def tensors_of(name: str, tensors, empty: str = "", error: type = RuntimeError) -> list[Tensor]:
    """The tensors of a list argument; TypeError for anything else, `error` (text `empty`) for none at all."""
    if tensors.__class__ not in (list, tuple) and (isinstance(tensors, Tensor) or not isinstance(tensors, Sequence)):
        raise TypeError(f"{name}(): argument 'tensors' (position 1) must be tuple of Tensors, not {type(tensors).__name__}")
    for k, x in enumerate(tensors):
        if not isinstance(x, Tensor):
            raise TypeError(f"expected Tensor as element {k} in argument 0, but got {type(x).__name__}")
    if not tensors:
        raise error(empty or f"{name} expects a non-empty TensorList")
    return list(tensors)


def promoted(name: str, tensors: list[Tensor]) -> list[Tensor]:
    """Tensors of one device in their common dtype."""
    kind = tensors[0]._kind
    for x in tensors:
        if x._kind is not kind:
            break
    else:
        return tensors
    common_device(name, tensors)
    kind = KIND[dtypes.result_type_of([item_of(x) for x in tensors])]
    return [x if x._kind is kind else cast(x, kind) for x in tensors]


def _alike(tensors, one: bool) -> bool:
    """Whether tensors have one kind, and one shape or (where `one`) one dimension: nothing to check or to promote."""
    if (tensors.__class__ is not list and tensors.__class__ is not tuple) or not tensors:
        return False
    first = tensors[0]
    if not isinstance(first, Tensor):
        return False
    kind, shape = first._kind, first._array.shape
    one = one and len(shape) == 1
    for x in tensors:
        if not isinstance(x, Tensor) or x._kind is not kind:
            return False
        if x._array.shape != shape and (not one or x._array.ndim != 1):
            return False
    return True


@public(method=False, aliases=("concat", "concatenate"))
def cat(tensors: Sequence[Tensor], dim: int = 0, *, axis: int | None = None, out: Tensor | None = None) -> Tensor:
    """Tensors one after the other along `dim`; the other sizes agree, dtypes are promoted, empty vectors are ignored."""
    if axis is not None:
        dim = axis
    if _alike(tensors, True) and dim.__class__ is int and 0 <= dim < tensors[0]._array.ndim:
        result = _cat(tensors, dim)
    else:
        tensors, dim = _joinable(tensors, dim)
        result = _cat(promoted("cat", tensors), dim)
    return result if out is None else _into(out, result)


def _joinable(tensors, dim: int) -> tuple[list[Tensor], int]:
    """The arguments of cat, checked."""
    given = tensors_of("cat", tensors, "torch.cat(): expected a non-empty list of Tensors", ValueError)
    forms = [x._array.shape for x in given]
    if () in forms:
        raise RuntimeError(f"zero-dimensional tensor (at position {forms.index(())}) cannot be concatenated")
    first = forms[0] if forms[0] != (0,) else next((s for s in forms if s != (0,)), (0,))
    d = wrap_dim(dim, len(first))
    for k, have in enumerate(forms):
        if have == first or have == (0,):
            continue
        if len(have) != len(first):
            raise ShapeError(f"Tensors must have same number of dimensions: got {len(first)} and {len(have)}")
        for e, (n, m) in enumerate(zip(first, have, strict=True)):
            if n != m and e != d:
                raise ShapeError(f"Sizes of tensors must match except in dimension {d}. Expected size {n} but got size {m} for "
                                 f"tensor number {k} in the list.")
    return given, d


def _into(out: Tensor, result: Tensor) -> Tensor:
    if isinstance(out, Tensor) and not dtypes.can_cast(result._kind.dtype, out._kind.dtype):
        raise DTypeError(f"torch.cat(): input types can't be cast to the desired output type {out._kind.dtype.scalar}")
    return dispatch.into(out, result)


@public(method=False)
def stack(tensors: Sequence[Tensor], dim: int = 0, *, axis: int | None = None, out: Tensor | None = None) -> Tensor:
    """Tensors of one shape along a new dimension."""
    if axis is not None:
        dim = axis
    if _alike(tensors, False) and dim.__class__ is int and 0 <= dim <= tensors[0]._array.ndim:
        result = _stack(tensors, dim)
    else:
        given = tensors_of("stack", tensors)
        first = given[0]._array.shape
        dim = wrap_dim(dim, len(first) + 1)
        for k, x in enumerate(given):
            if x._array.shape != first:
                raise ShapeError(f"stack expects each tensor to be equal size, but got {list(first)} at entry 0 and "
                                 f"{list(x._array.shape)} at entry {k}")
        result = _stack(promoted("stack", given), dim)
    return result if out is None else _into(out, result)


# --- by direction -----------------------------------------------------------------------------------------------------

@public(method=False)
def hstack(tensors: Any, *, out: Tensor | None = None) -> Tensor:
    """Side by side: along the second dimension, vectors along their only one."""
    given = [atleast_1d(x) for x in tensors_of("hstack", tensors)]
    return cat(given, 0 if given[0]._array.ndim == 1 else 1, out=out)


@public(method=False, aliases=("row_stack",))
def vstack(tensors: Any, *, out: Tensor | None = None) -> Tensor:
    """One below the other: along the first dimension, vectors as rows."""
    return cat([atleast_2d(x) for x in tensors_of("vstack", tensors)], 0, out=out)


@public(method=False)
def dstack(tensors: Any, *, out: Tensor | None = None) -> Tensor:
    """One behind the other: along the third dimension."""
    return cat([atleast_3d(x) for x in tensors_of("dstack", tensors)], 2, out=out)


@public(method=False)
def column_stack(tensors: Any, *, out: Tensor | None = None) -> Tensor:
    """Side by side, vectors and numbers as columns."""
    columns = [x if x._array.ndim > 1 else shapes.reshape(x, (x._array.size, 1)) for x in tensors_of("column_stack", tensors)]
    return cat(columns, 1, out=out)


def _each(f, tensors):
    """A function of one tensor on one tensor, or on several given one by one or as a sequence."""
    if len(tensors) == 1:
        if isinstance(tensors[0], Tensor):
            return f(tensors[0])
        tensors = tuple(tensors[0])
    return tuple(f(x) for x in tensors)


@public(method=False)
def atleast_1d(*tensors: Any) -> Any:
    """Numbers as vectors; the others as they are."""
    return _each(lambda x: x if x._array.ndim else shapes.reshape(x, (1,)), tensors)


def _two(x: Tensor) -> Tensor:
    return shapes.reshape(x, (1, 1)) if not x._array.ndim else shapes.unsqueeze(x, 0) if x._array.ndim == 1 else x


@public(method=False)
def atleast_2d(*tensors: Any) -> Any:
    """Numbers and vectors as matrices of one row; the others as they are."""
    return _each(_two, tensors)


def _three(x: Tensor) -> Tensor:
    n = x._array.ndim
    if n >= 3:
        return x
    return shapes.reshape(x, (1, 1, 1)) if not n else shapes.unsqueeze(_two(x), -1)


@public(method=False)
def atleast_3d(*tensors: Any) -> Any:
    """A vector of n as (1, n, 1), a matrix with a new last dimension; the others as they are."""
    return _each(_three, tensors)


# --- combinations of elements -----------------------------------------------------------------------------------------

@public(method=False)
def block_diag(*tensors: Any) -> Tensor:
    """Matrices (vectors and numbers as rows) along the diagonal of a larger one."""
    for k, x in enumerate(tensors):
        shapes.check_tensor("block_diag", x, "tensors", k + 1)
        if x._array.ndim > 2:
            raise RuntimeError(f"torch.block_diag: Input tensors must have 2 or fewer dimensions. Input {k} has "
                               f"{x._array.ndim} dimensions")
    if not tensors:
        return wrap(np.empty((1, 0), dtypes.DEFAULT.dtype.numpy), KIND[dtypes.DEFAULT.dtype])
    return BOOK["block_diag"](promoted("block_diag", [_two(x) for x in tensors]))


_INDEXING = ("torch.meshgrid: in an upcoming release, it will be required to pass the indexing argument.")


@public(method=False)
def meshgrid(*tensors: Any, indexing: str | None = None) -> tuple[Tensor, ...]:
    """Coordinates of the grid spanned by vectors, as views: indexing "ij" (matrix, the default) or "xy" (Cartesian)."""
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tuple(tensors[0])
    if indexing is None:
        warnings.warn(_INDEXING, UserWarning, stacklevel=2)
        indexing = "ij"
    if not tensors:
        raise RuntimeError("meshgrid expects a non-empty TensorList")
    if indexing not in ("ij", "xy"):
        raise RuntimeError(f'torch.meshgrid: indexing must be one of "xy" or "ij", but received: {indexing}')
    for x in tensors:
        if x._array.ndim > 1:
            raise RuntimeError(f"torch.meshgrid: Expected 0D or 1D tensor in the tensor list but got: {_size(x)}")
        if x._kind is not tensors[0]._kind:
            raise RuntimeError("meshgrid expects all tensors to have the same dtype" if x._kind.device is
                               tensors[0]._kind.device else "meshgrid expects all tensors to have the same device")
    swap = indexing == "xy" and len(tensors) >= 2
    if swap:
        tensors = (tensors[1], tensors[0], *tensors[2:])
    full = tuple(x._array.size for x in tensors)
    lone = [shapes.reshape(x, (*(1,) * k, -1, *(1,) * (len(full) - 1 - k))) for k, x in enumerate(tensors)]
    grids = [shapes.expand(x, full) for x in lone]
    return tuple([grids[1], grids[0], *grids[2:]] if swap else grids)


def _size(x: Tensor) -> str:
    return str(x.shape)


@public(method=False)
def cartesian_prod(*tensors: Any) -> Tensor:
    """All tuples of one element of each vector, as rows in the order of nested loops."""
    for x in tensors:
        if x._array.ndim != 1:
            raise RuntimeError(f"Expect a 1D vector, but got shape {list(x._array.shape)}")
    if not tensors:
        raise RuntimeError("cartesian_prod expects a non-empty TensorList")
    if len(tensors) == 1:
        return tensors[0]
    return stack([shapes.flatten(g) for g in meshgrid(*tensors, indexing="ij")], 1)


@public()
def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """All choices of `r` elements of a vector in the order of their positions, one a row."""
    x, r = input, as_int(r)
    if x._array.ndim != 1:
        raise RuntimeError(f"Expect a 1D vector, but got shape {list(x._array.shape)}")
    if r < 0:
        raise RuntimeError(f"Expect a non-negative number, but got {r}")
    if r == 0:
        return wrap(np.empty(0, x._kind.numpy), x._kind)
    from .scattering import index_select
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    chosen = np.array(list(choose(range(x._array.size), r)), np.int64).reshape(-1, r)
    columns = [wrap(np.ascontiguousarray(chosen[:, k]), KIND_OF_NUMPY[chosen.dtype]) for k in range(r)]
    return stack([index_select(x, 0, c) for c in columns], 1)
