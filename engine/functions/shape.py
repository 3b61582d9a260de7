"""A whole tensor in another shape: view, reshape, flatten, transpose, permute, squeeze, unsqueeze, expand, and copies.

Here arguments get their canonical form (dims from the front, -1 inferred); the views are records in `kernels/ops/views.py`.
Parts of a tensor are in `split.py`, joining in `join.py`, moving elements in `arrange.py`, in-place forms beside.
"""
from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from operator import index as as_int
from typing import Any

import numpy as np
from numpy import ndarray

from kernels.book import BOOK

from .. import dtypes
from ..errors import ShapeError
from ..tensor import Size, Tensor, wrap_dim, wrap_dims
from ..views import custom_kernels
from .registry import public
from .reinterpret import view_as_dtype

VIEW, RESHAPE, CONTIGUOUS = BOOK["view"], BOOK["reshape"], BOOK["contiguous"]
EXPAND, PERMUTE, TRANSPOSE, T = BOOK["expand"], BOOK["permute"], BOOK["transpose"], BOOK["t"]
UNSQUEEZE, SQUEEZE, SQUEEZE_ONE, SQUEEZE_ALL = BOOK["unsqueeze"], BOOK["squeeze"], BOOK["squeeze_one"], BOOK["squeeze_all"]

NOT_COMPATIBLE = ("view size is not compatible with input tensor's size and stride (at least one dimension spans across two "
                  "contiguous subspaces). Use .reshape(...) instead.")


# --- what arguments mean ----------------------------------------------------------------------------------------------

def sizes_of(given: tuple, named, name: str, word: str = "size") -> tuple:
    """Sizes or dims given one by one, as one sequence, or by keyword."""
    if named is not None:
        given = named
    elif len(given) == 1 and not hasattr(given[0], "__index__"):
        given = given[0]
    elif not given and named is None:
        raise TypeError(f"{name}() missing 1 required positional arguments: \"{word}\"")
    if isinstance(given, Tensor) or hasattr(given, "__index__"):
        return (as_int(given),) if hasattr(given, "__index__") and not getattr(given, "ndim", 0) else tuple(map(as_int, given))
    try:
        return tuple(given)
    except TypeError:
        raise TypeError(f"{name}(): argument '{word}' must be tuple of ints, not {type(given).__name__}") from None


def infer_shape(shape: Sequence, numel: int) -> tuple[int, ...]:
    """A shape of `numel` elements with its -1 filled in; ShapeError in PyTorch's words where there is none."""
    shape = tuple(map(as_int, shape))
    known, unknown = 1, -1
    for d, n in enumerate(shape):
        if n == -1:
            if unknown >= 0:
                raise ShapeError("only one dimension can be inferred")
            unknown = d
        elif n < 0:
            raise ShapeError(f"invalid shape dimension {n} at index {d} of shape {list(shape)}")
        else:
            known *= n
    if unknown < 0:
        if known == numel:
            return shape
    elif known and numel % known == 0:
        return (*shape[:unknown], numel // known, *shape[unknown + 1:])
    elif not known and not numel:
        raise ShapeError(f"cannot reshape tensor of 0 elements into shape {list(shape)} because the unspecified dimension "
                         f"size -1 "
                         "can be any value and is ambiguous")
    raise ShapeError(f"shape '{list(shape)}' is invalid for input of size {numel}")


def check_tensor(name: str, x, word: str = "input", position: int = 1) -> Tensor:
    """The operand if it is a tensor; TypeError in PyTorch's words otherwise."""
    if isinstance(x, Tensor):
        return x
    raise TypeError(f"{name}(): argument '{word}' (position {position}) must be Tensor, not {type(x).__name__}")


def _dim(d, n: int) -> int:
    return d if d.__class__ is int and 0 <= d < n else wrap_dim(d, n)


# --- another shape ----------------------------------------------------------------------------------------------------

def _view(x: Tensor, shape: tuple) -> Tensor | None:
    """A view of the wanted shape (-1 allowed), or None where strides do not allow one. ShapeError for a wrong shape."""
    array = x._array
    if array.__class__ is not ndarray or custom_kernels:
        shape = infer_shape(shape, math.prod(array.shape))
        try:
            array.reshape(shape, copy=False)
        except ValueError:
            return None
        return VIEW(x, shape=shape)
    try:
        raw = array.reshape(shape) if array.flags.c_contiguous else array.reshape(shape, copy=False)
        if raw.shape != shape and min(shape) < -1:
            infer_shape(shape, array.size)          # NumPy takes any negative number for -1
    except (ValueError, TypeError):
        if raw_shape_is_wrong(shape, array):
            raise
        return None
    return VIEW.apply.share(x, raw, {"shape": raw.shape})


def raw_shape_is_wrong(shape, array) -> bool:
    """Raises for a shape that cannot be; False where only the strides are in the way."""
    infer_shape(shape, array.size)
    return array.flags.c_contiguous


@public(function=False)
def view(input: Tensor, *shape: Any, size: Any = None, dtype: Any = None) -> Tensor:
    """The same memory in another shape (`view(2, -1)`, `view((2, 3))`) or, given a dtype, its bytes read as that dtype.

    Errors: RuntimeError where the number of elements differs or strides would need a copy.
    """
    if (len(shape) == 1 and shape[0].__class__ is not int) or not shape:
        if dtype is not None or (shape and isinstance(shape[0], dtypes.dtype)):
            return view_as_dtype(input, shape[0] if dtype is None else dtype)
        shape = sizes_of(shape, size, "view")
    made = _view(input, shape)
    if made is None:
        raise ShapeError(NOT_COMPATIBLE)
    return made


@public()
def reshape(input: Tensor, *sizes: Any, shape: Any = None) -> Tensor:
    """The same elements in row-major order in another shape: a view where strides allow one, else a copy."""
    x = check_tensor("reshape", input)
    if (len(sizes) == 1 and sizes[0].__class__ is not int) or not sizes:
        sizes = sizes_of(sizes, shape, "reshape", "shape")
    made = _view(x, sizes)
    return RESHAPE(CONTIGUOUS(x), shape=infer_shape(sizes, x._array.size)) if made is None else made


@public(function=False)
def view_as(input: Tensor, other: Tensor) -> Tensor:
    """`input.view(other.size())`."""
    return view(input, other._array.shape)


@public(function=False)
def reshape_as(input: Tensor, other: Tensor) -> Tensor:
    """`input.reshape(other.size())`."""
    return reshape(input, other._array.shape)


@public()
def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions start_dim to end_dim as one; the tensor itself where nothing changes."""
    x, shape = input, input._array.shape
    n = len(shape)
    if n > 1 and start_dim == 0 and end_dim == -1:
        return reshape(x, -1 if x._array.size else 0)
    first, last = _dim(start_dim, n), _dim(end_dim, n)
    if first > last:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if not n:
        return reshape(x, (1,))
    if first == last:
        return x
    return reshape(x, (*shape[:first], math.prod(shape[first:last + 1]), *shape[last + 1:]))


@public()
def ravel(input: Tensor) -> Tensor:
    """All elements in row-major order as one dimension; a view where strides allow."""
    return view(contiguous(input), -1) if input._array.size else view(contiguous(input), 0)


@public()
def unflatten(input: Tensor, dim: int, sizes: Any) -> Tensor:
    """One dimension as several; one of `sizes` may be -1."""
    shape = input._array.shape
    d = wrap_dim(dim, len(shape))
    sizes = sizes_of((), sizes, "unflatten", "sizes")
    if not sizes:
        raise RuntimeError("unflatten: sizes must be non-empty")
    try:
        inferred = infer_shape(sizes, shape[d])
    except ShapeError as error:
        if "is invalid" not in str(error):
            raise RuntimeError(f"unflatten got an unexpected error:\n{error}") from None
        raise ShapeError(f"unflatten: Provided sizes {list(sizes)} don't multiply up to the size of dim {d} ({shape[d]}) "
                         f"in the "
                         "input tensor") from None
    return view(input, (*shape[:d], *inferred, *shape[d + 1:]))


# --- dimensions in another order --------------------------------------------------------------------------------------

@public(aliases=("swapdims",))
def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions exchanged; a view."""
    array = input._array
    n = array.ndim
    a, b = _dim(dim0, n), _dim(dim1, n)
    options = {"dim0": a, "dim1": b}
    if array.__class__ is not ndarray or custom_kernels or not n:
        return TRANSPOSE(input, **options)
    return TRANSPOSE.apply.share(input, array.swapaxes(a, b), options)


@public()
def swapaxes(input: Tensor, axis0: int, axis1: int) -> Tensor:
    """Two dimensions exchanged; a view."""
    return transpose(input, axis0, axis1)


@public()
def permute(input: Tensor, *order: Any, dims: int | Sequence[int] | None = None) -> Tensor:
    """Dimensions in the order given; a view."""
    array = input._array
    order = sizes_of(order, dims, "permute", "dims")
    if len(order) != array.ndim:
        raise RuntimeError(f"permute(sparse_coo): number of dimensions in the tensor input does not match the length of "
                           f"the desired "
                           f"ordering of dimensions i.e. input.dim() = {array.ndim} is not equal to len(dims) = {len(order)}")
    wrapped = tuple([_dim(d, array.ndim) for d in order])
    if len(set(wrapped)) != len(wrapped):
        raise RuntimeError("permute(): duplicate dims are not allowed.")
    if array.__class__ is not ndarray or custom_kernels:
        return PERMUTE(input, dims=wrapped)
    return PERMUTE.apply.share(input, array.transpose(wrapped), {"dims": wrapped})


@public()
def t(input: Tensor) -> Tensor:
    """A matrix transposed, a view; vectors and numbers as they are."""
    array = input._array
    if array.ndim > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {array.ndim}D")
    if array.__class__ is not ndarray or custom_kernels:
        return T(input)
    return T.apply.share(input, array.T, {})


def _all_reversed(x: Tensor) -> Tensor:
    """Dimensions in reverse order: a matrix transposed."""
    n = x._array.ndim
    if n == 2 and x._array.__class__ is ndarray and not custom_kernels:
        return PERMUTE.apply.share(x, x._array.T, {"dims": (1, 0)})
    if n not in (0, 2):
        warnings.warn("The use of `x.T` on tensors of dimension other than 2 to reverse their shape is deprecated and it "
                      "will throw an "
                      "error in a future release. Consider `x.mT` to transpose batches of matrices or `x.permute(*torch.arange("
                      "x.ndim - 1, -1, -1))` to reverse the dimensions of a tensor.", UserWarning, stacklevel=2)
    return permute(x, tuple(range(n - 1, -1, -1)))


def _matrices(x: Tensor, name: str) -> Tensor:
    n = x._array.ndim
    if n < 2:
        raise RuntimeError(f"tensor.{name} is only supported on matrices or batches of matrices. Got {n}-D tensor.")
    return transpose(x, -2, -1)


def _conjugate(x: Tensor) -> Tensor:
    return BOOK["conj"](x) if x._kind.dtype.is_complex else x


def _hermitian(x: Tensor) -> Tensor:
    """A matrix transposed and conjugated."""
    if x._array.ndim not in (0, 2):
        raise RuntimeError(f"tensor.H is only supported on matrices (2-D tensors). Got {x._array.ndim}-D tensor.")
    return _conjugate(transpose(x, 0, -1)) if x._array.ndim else _conjugate(x)


Tensor.T = property(_all_reversed)
def _transposed(x: Tensor) -> Tensor:
    return _matrices(x, "mT")


def _adjoint(x: Tensor) -> Tensor:
    return _conjugate(_matrices(x, "mH"))


Tensor.mT = property(_transposed, doc="Matrices (the last two dimensions) transposed; a view.")
Tensor.H = property(_hermitian)
Tensor.mH = property(_adjoint, doc="Matrices transposed and conjugated.")


@public()
def adjoint(input: Tensor) -> Tensor:
    """Matrices (the last two dimensions) transposed and conjugated."""
    if input._array.ndim < 2:
        raise RuntimeError("tensor.adjoint() is only supported on matrices or batches of matrices. Got "
                           f"{input._array.ndim}-D tensor.")
    return _conjugate(_matrices(input, "adjoint()"))


@public(aliases=("moveaxis",))
def movedim(input: Tensor, source: Tensor, destination: Any) -> Tensor:
    """Dimensions moved to other places, the others in their order; a view."""
    n = input._array.ndim
    several = [s if isinstance(s, (tuple, list)) else (s,) for s in (source, destination)]
    if len(several[0]) != len(several[1]):
        raise RuntimeError(f"movedim: Invalid source or destination dims: source ({list(several[0])} dims) should contain "
                           f"the same "
                           f"number of dims as destination ({list(several[1])} dims)")
    for dims, word in zip(several, ("source", "destination"), strict=True):
        if len({wrap_dim(d, n) for d in dims}) != len(dims):
            raise RuntimeError(f"movedim: repeated dim in `{word}` ({list(dims)})")
    moved, places = (wrap_dims(dims, n) for dims in several)
    rest = iter(d for d in range(n) if d not in moved)
    to = dict(zip(places, moved, strict=True))
    return permute(input, tuple(to[k] if k in to else next(rest) for k in range(n)))


# --- dimensions of size 1, repeated dimensions ------------------------------------------------------------------------

@public()
def unsqueeze(input: Tensor, dim: int | None = None, *, axis: int | None = None) -> Tensor:
    """A new dimension of size 1 at `dim`; a view."""
    array = input._array
    d = _dim(dim if axis is None else axis, array.ndim + 1)
    if array.__class__ is not ndarray or custom_kernels:
        return UNSQUEEZE(input, dim=d)
    return UNSQUEEZE.apply.share(input, array[(slice(None),) * d + (None,)] if d else array[None], {"dim": d})


@public()
def squeeze(input: Tensor, dim: int | None = None, *, axis: int | None = None) -> Tensor:
    """Dimensions of size 1 go away: all of them, or those of `dim` (one or several); a view."""
    dim = axis if dim is None else dim
    if dim is None:
        return SQUEEZE_ALL(check_tensor("squeeze", input))
    if hasattr(dim, "__index__"):
        return SQUEEZE_ONE.apply(input, dim=_dim(dim, input._array.ndim))
    return SQUEEZE(input, dims=wrap_dims(dim, input._array.ndim))


def expanded_shape(x: Tensor, sizes: tuple) -> tuple[int, ...]:
    """The shape that `expand` gives, with -1 filled in; ShapeError in PyTorch's words."""
    shape = x._array.shape
    lead = len(sizes) - len(shape)
    if lead < 0:
        name = f"expand(engine.{x._kind.dtype.legacy}{{{list(shape)}}}, size={list(sizes)})"
        raise ShapeError(f"{name}: the number of sizes provided ({len(sizes)}) must be greater or equal to the number of "
                         f"dimensions in "
                         f"the tensor ({len(shape)})")
    if lead == 0 and sizes == shape:
        return shape
    found = []
    for d, n in enumerate(sizes):
        n = n if n.__class__ is int else as_int(n)
        have = shape[d - lead] if d >= lead else None
        if n == -1 and have is not None:
            n = have
        elif n < 0 and have is None:
            raise ShapeError(f"The expanded size of the tensor ({n}) isn't allowed in a leading, non-existing dimension {d}")
        if n < 0 or have not in (None, 1, n):
            raise ShapeError(f"The expanded size of the tensor ({n}) must match the existing size ({have}) at "
                             f"non-singleton dimension "
                             f"{d}.  Target sizes: {list(sizes)}.  Tensor sizes: {list(shape)}")
        found.append(n)
    return tuple(found)


@public(function=False)
def expand(input: Tensor, *sizes: Any, size: Any = None, implicit: bool = False) -> Tensor:
    """Dimensions of size 1 (and new leading ones) repeated without a copy; -1 keeps a size."""
    sizes = sizes_of(sizes, size, "expand")
    return EXPAND.apply(input, shape=expanded_shape(input, sizes))


@public(function=False)
def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """`input.expand(other.size())`."""
    return expand(input, other._array.shape)


@public()
def broadcast_to(input: Tensor, *sizes: Any, size: Any = None) -> Tensor:
    """The tensor broadcast to a shape; a view."""
    return expand(input, size=sizes_of(sizes, size, "broadcast_to"))


@public(method=False)
def broadcast_shapes(*shapes: Any) -> Size:
    """The shape that tensors of these shapes broadcast to."""
    shapes = [(s,) if hasattr(s, "__index__") else tuple(s) for s in shapes]
    found = [1] * max(map(len, shapes), default=0)
    for k, shape in enumerate(shapes):
        for d in range(-1, -1 - len(shape), -1):
            n = as_int(shape[d])
            if n < 0:
                raise ValueError(f"Attempting to broadcast a dimension with negative length! ({n} in {shape})")
            if n != 1 and found[d] not in (1, n):
                raise ShapeError(f"Attempting to broadcast a dimension of length {n} at {d}! Mismatching argument at index "
                                 f"{k} had {shape}; "
                                 f"but expected shape should be broadcastable to {found}")
            if n != 1:
                found[d] = n
    return Size(found)


@public(method=False)
def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """Every tensor broadcast to their common shape; views."""
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tensors[0]
    from ..dispatch import broadcast_error
    for k, x in enumerate(tensors):
        check_tensor("broadcast_tensors", x, "tensors", k + 1)
    try:
        shape = np.broadcast_shapes(*(x._array.shape for x in tensors))
    except ValueError:
        raise broadcast_error("broadcast_tensors", tensors) from None
    return tuple(expand(x, shape) for x in tensors)


# --- copies -----------------------------------------------------------------------------------------------------------

@public(function=False)
def contiguous(input: Tensor, memory_format: Any = None) -> Tensor:
    """The tensor itself if its elements lie in row-major order, a row-major copy otherwise."""
    if memory_format is not None and memory_format.order is not None:
        return memory_format.apply(input)
    return input if input._array.flags.c_contiguous else CONTIGUOUS(input)


@public()
def clone(input: Tensor, *, memory_format: Any = None) -> Tensor:
    """A copy in memory of its own, recorded. Dense layouts keep their strides unless `memory_format` says otherwise."""
    x = check_tensor("clone", input)
    if memory_format is None or memory_format.keeps:
        return BOOK["clone"](x)
    return CONTIGUOUS(x) if memory_format.order is None else memory_format.apply(x, always=True)
