"""Tensors by recipe: zeros, ones, full, empty, eye, *_like, new_*, empty_strided, and the in-place fill_ and zero_.

The numbers are written by the kernels of `kernels.cpu.fills`; here dtypes, sizes and errors are settled as PyTorch
settles them. arange, linspace and windows are in `sequences`, random recipes in `random`, tensors from data in
`create`.
"""
from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from kernels.book import BOOK
from kernels.cpu import buffers, fills

from .. import dispatch, dtypes, tape
from ..devices import CPU
from ..dtypes import DEFAULT
from ..errors import ShapeError
from ..tape import modes
from ..tensor import KIND, Kind, Tensor, bump, wrap
from . import create
from .create import finish, kind_of, number, place_of, state
from .registry import public

NUMBERS = (bool, int, float, complex)
MOST_BYTES = (1 << 63) - 1
FEW = 1 << 12           # elements below which memory comes from NumPy's own cache


# --- sizes and memory -------------------------------------------------------------------------------------------------

def sizes(name: str, size: tuple) -> tuple[int, ...]:
    """The sizes of `name(2, 3)`, `name((2, 3))`, `name([2, 3])` as a tuple of non-negative ints."""
    first = size[0].__class__ if size else None
    if first is tuple or first is list or (first is not int and size and isinstance(size[0], (tuple, list))):
        if len(size) > 1:
            raise TypeError(f"{name}() takes 1 positional argument but {len(size)} were given")
        size = tuple(size[0])
    elif not size:
        raise TypeError(f"{name}() missing 1 required positional arguments: \"size\"")
    for n in size:
        if n.__class__ is not int:
            return _odd_sizes(name, size)
        if n < 0:
            raise ShapeError(f"{name}: Dimension size must be non-negative. Trying to create tensor with negative "
                             f"dimension {n}: {list(size)}")
    return size


def _odd_sizes(name: str, size: tuple) -> tuple[int, ...]:
    """Sizes some of which are NumPy integers or tensors without dimensions."""
    found = []
    for k, n in enumerate(size):
        ok = not isinstance(n, (bool, np.bool_)) and hasattr(n, "__index__") and not getattr(n, "ndim", 0)
        try:
            found.append(n.__index__() if ok else None)
        except TypeError:
            ok = False
        if not ok:
            word = type(n).__name__
            raise TypeError(f"{name}(): argument 'size' (position 1) must be tuple of ints, not {word}" if not k else
                            f"{name}(): argument 'size' failed to unpack the object at pos {k + 1} with error \"type "
                            f"must be tuple of ints,but got {word}\"")
    return sizes(name, tuple(found))


def allocate(shape: tuple[int, ...], kind: Kind) -> np.ndarray:
    """Memory with any content, on the device of the kind; RuntimeError where there is not so much."""
    size = math.prod(shape) * kind.numpy.itemsize
    if kind.device is not CPU:
        from .. import device_arrays
        return device_arrays.empty(shape, kind.numpy, kind.device)
    if 0 < size < buffers.LARGE and len(shape) < 33:
        return np.empty(shape, kind.numpy)
    if size > MOST_BYTES or (not size and shape and max(shape) * kind.numpy.itemsize > MOST_BYTES):
        raise ShapeError(f"Storage size calculation overflowed with sizes={list(shape)}")
    try:
        return buffers.empty(shape, kind.numpy)
    except MemoryError:
        raise RuntimeError(f"can't allocate memory: you tried to allocate {size} bytes") from None
    except ValueError as error:             # more dimensions than NumPy has
        raise ShapeError(f"cannot make a tensor with sizes {list(shape)}: {error}") from None


def filled(shape: tuple[int, ...], value: Any, kind: Kind) -> np.ndarray:
    """Memory with one value everywhere, given as a number or an array without dimensions."""
    if value.__class__ is int:
        if not value and kind.device is CPU and math.prod(shape) < FEW:
            return np.zeros(shape, kind.numpy)          # the system's own zeros
        value = _one(kind) if value else _zero(kind)
    out = allocate(shape, kind)
    fill_array(out, value)
    return out


def fill_array(array: Any, value: np.ndarray) -> None:
    """Write one number, given as an array without dimensions, into every element."""
    if array.__class__ is np.ndarray:
        fills.fill(array, value)
    else:
        dispatch.store(array, value)


def _filling(value: Any, kind: Kind) -> np.ndarray:
    """A number to fill with, as a read-only array; small ones are kept. RuntimeError where `kind` cannot hold it."""
    cls = value.__class__
    if (cls is float and kind.dtype.category > 1 and -128 < value < 128) or (
            cls is int and kind.dtype.category and 0 <= value < 128):
        return dispatch.constant(value, KIND[kind.dtype])._array
    return number(value, KIND[kind.dtype])


@functools.cache
def _zero(kind: Kind) -> np.ndarray:
    return np.zeros((), kind.numpy)


@functools.cache
def _one(kind: Kind) -> np.ndarray:
    return np.ones((), kind.numpy)


def _recipe(name: str, dtype: Any, out: Tensor | None, device: Any, requires_grad: bool,
            make: Callable[[Kind], np.ndarray],
            default: Kind | None = None, anywhere: bool = False) -> Tensor:
    """Run `make(kind)` for a new tensor, or into `out`, whose dtype then decides.

    `anywhere`: it makes arrays of any device; others are made on the host and copied.
    """
    kind = kind_of(dtype, name)
    if out is not None:
        if kind is not None and kind is not out._kind:
            raise dtypes.DTypeError(f"dtype {kind.dtype.scalar} does not match dtype of out parameter "
                                    f"({out._kind.dtype.scalar})")
        kind = out._kind
    kind = kind or default or KIND[DEFAULT.dtype]
    where = device if out is None else out._kind.device
    if where is not None or state.chosen is not CPU or state.inside:
        kind = create.kind_there(kind, where) if anywhere else KIND[kind.dtype]
    made = finish(wrap(make(kind), kind), where, requires_grad)
    return made if out is None else _into(out, made)


def _into(out: Tensor, made: Tensor) -> Tensor:
    if out._array.shape != made._array.shape and not out._needs and out._array.size:
        out._array = allocate(made._array.shape, out._kind)         # recipes resize silently, as in PyTorch
    return dispatch.into(out, made)


# --- constant tensors -------------------------------------------------------------------------------------------------

@public(method=False)
def empty(*size: Any, out: Tensor | None = None, dtype: dtypes.dtype | None = None, layout: Any = None, device: Any = None,
          requires_grad: bool = False, pin_memory: bool = False, memory_format: Any = None) -> Tensor:
    """A tensor of these sizes with any content. RuntimeError for negative or huge sizes."""
    shape = sizes("empty", size)
    return _recipe("empty", dtype, out, device, requires_grad, lambda kind: allocate(shape, kind), anywhere=True)


def _constant(name: str, value: int, doc: str) -> Callable:
    def make(*size: Any, out: Tensor | None = None, dtype: dtypes.dtype | None = None, layout: Any = None,
             device: Any = None,
             requires_grad: bool = False, pin_memory: bool = False, **named: Any) -> Tensor:
        if named:
            if "size" not in named or size or len(named) > 1:
                raise TypeError(f"{name}() got an unexpected keyword argument "
                                f"'{next(n for n in named if n != 'size' or size)}'")
            size = (named["size"],)
        shape = sizes(name, size)
        if out is not None:
            return _recipe(name, dtype, out, device, requires_grad, lambda kind: filled(shape, value, kind), anywhere=True)
        kind = KIND[DEFAULT.dtype] if dtype is None else kind_of(dtype, name)
        if device is not None or state.chosen is not CPU or state.inside:
            kind = create.kind_there(kind, device)
        array = filled(shape, value, kind)
        if requires_grad or device is not None or state.chosen is not CPU or state.inside:
            return finish(wrap(array, kind), device, requires_grad)
        return wrap(array, kind)
    make.__name__ = make.__qualname__ = name
    make.__doc__ = doc
    return public(method=False)(make)


zeros = _constant("zeros", 0, "A tensor of zeros. RuntimeError for negative or huge sizes.")
ones = _constant("ones", 1, "A tensor of ones. RuntimeError for negative or huge sizes.")


def scalar_of(name: str, value: Any, argument: str = "fill_value", position: int = 2):
    """A Python number from a number, NumPy scalar or tensor without dimensions; TypeError otherwise."""
    if isinstance(value, Tensor) and not value._array.ndim:
        return value.item()
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, NUMBERS):
        raise TypeError(f"{name}(): argument '{argument}' (position {position}) must be Number, not "
                        f"{type(value).__name__}")
    return value


@public(method=False)
def full(size: Any, fill_value: Any, *, out: Tensor | None = None, dtype: dtypes.dtype | None = None, layout: Any = None,
         device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """A tensor of one number, whose type gives the dtype unless `dtype` does. RuntimeError where the dtype cannot hold
    it.
    """
    if not isinstance(size, (tuple, list)):
        raise TypeError(f"full(): argument 'size' (position 1) must be tuple of ints, not {type(size).__name__}")
    shape, value = sizes("full", (size,)), scalar_of("full", fill_value)
    return _recipe("full", dtype, out, device, requires_grad, lambda kind: filled(shape, _filling(value, kind), kind),
                   KIND[dtypes.number_dtype(value)], True)


def _like(name: str, value: int | None) -> Callable:
    def make(input: Tensor, *, dtype: dtypes.dtype | None = None, layout: Any = None, device: Any = None,
             requires_grad: bool = False, pin_memory: bool = False, memory_format: Any = None) -> Tensor:
        out = empty_as(name, input, dtype)
        if value is not None:
            fill_array(out._array, _one(out._kind) if value else _zero(out._kind))
        return finish(out, place_of(input, device), requires_grad)
    make.__name__ = make.__qualname__ = name
    make.__doc__ = f"`{name[:-5]}` with the sizes, dtype and order of dimensions of `input`."
    return public(method=False)(make)


def empty_as(name: str, input: Tensor, dtype: Any) -> Tensor:
    """Memory of the sizes of `input`; a dense layout keeps its strides, any other its order of dimensions."""
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
    kind, a = kind_of(dtype, name), input._array
    kind = input._kind if kind is None else input._kind.kin[kind.dtype]
    if a.flags.c_contiguous or a.ndim < 2 or 0 in a.strides:
        return wrap(allocate(a.shape, kind), kind)
    order = sorted(range(a.ndim), key=lambda d: (-abs(a.strides[d]), d))
    return wrap(allocate(tuple(a.shape[d] for d in order), kind).transpose(np.argsort(order)), kind)


empty_like, zeros_like, ones_like = _like("empty_like", None), _like("zeros_like", 0), _like("ones_like", 1)


@public(method=False)
def full_like(input: Tensor, fill_value: Any, *, dtype: dtypes.dtype | None = None, layout: Any = None, device: Any = None,
              requires_grad: bool = False, pin_memory: bool = False, memory_format: Any = None) -> Tensor:
    """`full` with the sizes, dtype and order of dimensions of `input`."""
    out = empty_as("full_like", input, dtype)
    fill_array(out._array, _filling(scalar_of("full_like", fill_value), out._kind))
    return finish(out, place_of(input, device), requires_grad)


@public(method=False)
def empty_strided(size: Any, stride: Any, *, dtype: dtypes.dtype | None = None, layout: Any = None, device: Any = None,
                  requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """Memory for these sizes at these strides, counted in elements. RuntimeError for negative ones."""
    shape, kind = sizes("empty_strided", (size,)), kind_of(dtype, "empty_strided") or KIND[DEFAULT.dtype]
    steps = tuple(int(s) for s in stride)
    if len(steps) != len(shape):
        raise ShapeError(f"dimensionality of sizes ({len(shape)}) must match dimensionality of strides ({len(steps)})")
    if any(s < 0 for s in steps):
        raise ShapeError(f"Storage size calculation overflowed with sizes={list(shape)} and strides={list(steps)}")
    extent = 1 + sum((n - 1) * s for n, s in zip(shape, steps, strict=True)) if math.prod(shape) else 0
    memory, width = allocate((extent,), kind), kind.numpy.itemsize
    array = np.lib.stride_tricks.as_strided(memory, shape, [s * width for s in steps])
    return finish(wrap(array, kind), device, requires_grad)


@public(method=False)
def eye(n: int, m: int | None = None, *, out: Tensor | None = None, dtype: dtypes.dtype | None = None,
        layout: Any = None,
        device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """The identity matrix, n by m (n by n)."""
    m = n if m is None else m
    for letter, k in (("n", n), ("m", m)):
        if isinstance(k, (bool, float)) or not hasattr(k, "__index__"):
            raise TypeError(f"eye(): argument '{letter}' (position {1 + (letter == 'm')}) must be int, not "
                            f"{type(k).__name__}")
        if k < 0:
            raise ShapeError(f"{letter} must be greater or equal to 0, got {k}")

    def make(kind: Kind) -> np.ndarray:
        made = filled((n, m), 0, kind)
        if made.size:
            fills.fill(made.reshape(-1)[:min(n, m) * (m + 1):m + 1], _one(kind))   # the diagonal
        return made
    return _recipe("eye", dtype, out, device, requires_grad, make)


# --- new_* and fill_ --------------------------------------------------------------------------------------------------

def _new(name: str, value: int | None) -> Callable:
    def method(self: Tensor, *size: Any, dtype: dtypes.dtype | None = None, device: Any = None, requires_grad: bool = False,
               layout: Any = None, pin_memory: bool = False, **named: Any) -> Tensor:
        kind = self._kind if dtype is None else self._kind.kin[kind_of(dtype, name).dtype]
        shape = sizes(name, (named.pop("size"),) if "size" in named and not size else size)
        if named:
            raise TypeError(f"{name}() got an unexpected keyword argument '{next(iter(named))}'")
        array = allocate(shape, kind) if value is None else filled(shape, value, kind)
        return finish(wrap(array, kind), place_of(self, device), requires_grad)
    method.__name__, method.__qualname__ = name, f"Tensor.{name}"
    method.__doc__ = f"A tensor of these sizes with the dtype and device of this one, as `{name[4:]}` makes it."
    return public(function=False)(method)


new_empty, new_zeros, new_ones = _new("new_empty", None), _new("new_zeros", 0), _new("new_ones", 1)


@public(function=False)
def new_full(self: Tensor, size: Any, fill_value: Any, *, dtype: dtypes.dtype | None = None, device: Any = None,
             requires_grad: bool = False,
             layout: Any = None, pin_memory: bool = False) -> Tensor:
    """A tensor of one number with the dtype and device of this one."""
    kind = self._kind if dtype is None else self._kind.kin[kind_of(dtype, "new_full").dtype]
    shape = sizes("new_full", (size,))
    value = _filling(scalar_of("new_full", fill_value), kind)
    return finish(wrap(filled(shape, value, kind), kind), place_of(self, device), requires_grad)


@public(function=False)
def new_tensor(self: Tensor, data: Any, *, dtype: dtypes.dtype | None = None, device: Any = None,
               requires_grad: bool = False,
               layout: Any = None, pin_memory: bool = False) -> Tensor:
    """`engine.tensor(data)` with the dtype and device of this tensor unless they are given."""
    return create.tensor(data, dtype=dtype or self._kind.dtype, device=self._kind.device if device is None else device,
                         requires_grad=requires_grad)


@public(function=False)
def new_empty_strided(self: Tensor, size: Any, stride: Any, *, dtype: dtypes.dtype | None = None, device: Any = None,
                      requires_grad: bool = False, layout: Any = None, pin_memory: bool = False) -> Tensor:
    """`engine.empty_strided` with the dtype and device of this tensor unless they are given."""
    return empty_strided(size, stride, dtype=dtype or self._kind.dtype, device=self._kind.device if device is None else device,
                         requires_grad=requires_grad)


@public(function=False)
def new(self: Tensor, *data: Any, device: Any = None) -> Tensor:
    """PyTorch's old form: `Tensor(...)` with the dtype of this tensor."""
    return create.legacy_constructor(self._kind, data, device)


def _value(kind: Kind, value: Any, name: str) -> Tensor:
    """What fill_ writes: a number or tensor without dimensions, of the dtype of the target; a tensor's cast is
    recorded.
    """
    if isinstance(value, Tensor):
        if value._array.ndim:
            raise ShapeError(f"{name} only supports 0-dimension value tensor but got tensor with {value._array.ndim} "
                             f"dimensions.")
        return value if value._kind is kind else dispatch.cast(value, kind)
    return wrap(_filling(scalar_of(name, value, "value", 1), kind), kind)


def _plain(x: Tensor) -> bool:
    """Whether a tensor may be overwritten without a record."""
    if not x._array.flags.writeable:
        return False
    return (not x._needs and x._view is None) or not modes.enabled or not x.requires_grad


@public(method=False)
def fill(input: Tensor, value: Tensor | complex) -> Tensor:
    """A copy of `input` with every element replaced by a number (or by a tensor without dimensions, differentiably)."""
    return BOOK["fill"](input, _value(input._kind, value, "fill"))


@public(function=False)
def fill_(self: Tensor, value: Tensor | complex) -> Tensor:
    """Write a number into every element of this tensor."""
    value = _value(self._kind, value, "fill_")
    if not value._needs and _plain(self):
        fill_array(self._array, value._array)
        bump(self)
        return self
    tape.check_inplace(self)
    return dispatch.write(self, BOOK["fill"](self, value))


@public(method=True, name="zero_")
def zero_(self: Tensor) -> Tensor:
    """Write zero into every element of this tensor."""
    if _plain(self):
        fill_array(self._array, _zero(self._kind))
        bump(self)
        return self
    tape.check_inplace(self)
    return dispatch.write(self, BOOK["zero"](self))
