"""In-place methods that change how a tensor looks at its memory (squeeze_, transpose_, resize_, ...), and copy_.

The first kind writes no element: the tensor becomes a view of its former self, and its history gets one node more.
`tril_` and others that write elements are derived where their functions are (`arrange.py`).
"""
from __future__ import annotations

import gc
import math
import sys
from operator import index as as_int
from typing import Any

import numpy as np
from numpy import ndarray

from kernels import table as kernel_table
from kernels.book import BOOK
from kernels.cpu import copies, pool

from .. import dispatch, tape
from ..dispatch import broadcast_error, cast, constant
from ..errors import GradError, ShapeError
from ..tensor import Tensor, View, bump, shared_counter, wrap, wrap_dim, wrap_dims
from ..views import ViewNode
from . import shape as shapes
from .convert import moved_recorded
from .create import duplicate
from .factories import allocate
from .registry import public

NUMBERS = (bool, int, float, complex)
_nodes: dict[str, type] = {}


def _former(x: Tensor) -> Tensor:
    """The tensor as it was, an object of its own; views of `x` look at it from now on."""
    old = wrap(x._array, x._kind)
    shared = x._counter is not None and sys.getrefcount(x._counter) > 2
    old._counter = shared_counter(x)
    old._node, old._needs, old._view = x._node, x._needs, x._view
    if shared:
        for view in gc.get_referrers(x):
            if isinstance(view, View):
                view.parent = old if view.parent is x else view.parent
                view.base = old if view.base is x else view.base
                x._view = View(old, BOOK["alias"], {}, True) if x._view is None else x._view
    return old


def _look(x: Tensor, name: str, node_name: str, **options) -> Tensor:
    """Let `x` become the view `name(x, **options)` of itself."""
    recording = tape.modes.enabled and x.requires_grad
    if recording:
        tape.check_inplace(x)
    operator = BOOK[name]
    array = operator.forward(x._array, **options)
    old = _former(x)
    if recording:
        node_class = _nodes.get(node_name)
        if node_class is None:
            node_class = _nodes[node_name] = type(node_name, (ViewNode,), {"__slots__": (), "caller": operator.apply,
                                                                           "__module__": "engine.autograd"})
        made = operator.apply.make_node((x,), False, (old,), (tape.edge_of(old),), options)
        node = node_class.__new__(node_class)
        for field in ("edges", "hooks", "order", "options", "results", "shape", "kind"):
            setattr(node, field, getattr(made, field))
        x._node, x._needs = node, True
    x._array = array
    if x._view is not None:
        x._view = View(old, operator, options, tape.modes.enabled)
    bump(x)
    return x


@public(function=False)
def unsqueeze_(self: Tensor, dim: int) -> Tensor:
    """`unsqueeze` in place."""
    return _look(self, "unsqueeze", "UnsqueezeBackward1", dim=wrap_dim(dim, self._array.ndim + 1))


@public(function=False)
def squeeze_(self: Tensor, dim: int | None = None) -> Tensor:
    """`squeeze` in place."""
    if dim is None:
        return _look(self, "squeeze_all", "SqueezeBackward3")
    if hasattr(dim, "__index__"):
        return _look(self, "squeeze_one", "SqueezeBackward4", dim=wrap_dim(dim, self._array.ndim))
    return _look(self, "squeeze", "SqueezeBackward5", dims=wrap_dims(dim, self._array.ndim))


@public(function=False, aliases=("swapdims_", "swapaxes_"))
def transpose_(self: Tensor, dim0: int, dim1: int) -> Tensor:
    """`transpose` in place."""
    n = self._array.ndim
    return _look(self, "transpose", "TransposeBackward1", dim0=wrap_dim(dim0, n), dim1=wrap_dim(dim1, n))


@public(function=False)
def t_(self: Tensor) -> Tensor:
    """`t` in place."""
    if self._array.ndim > 2:
        raise RuntimeError(f"t_() expects a tensor with <= 2 dimensions, but self is {self._array.ndim}D")
    return _look(self, "t", "TBackward1")


@public(function=False)
def as_strided_(self: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
    """`as_strided` in place, for tensors that do not require grad."""
    if self.requires_grad:
        raise GradError("as_strided_: this tensor requires grad; use as_strided, which is recorded")
    made = shapes.contiguous(self).as_strided(size, stride, storage_offset) if self._view is None else self.as_strided(
        size, stride, storage_offset)
    _former(self)
    self._array, self._view = made._array, None
    bump(self)
    return self


# --- another number of elements ---------------------------------------------------------------------------------------

@public(function=False)
def resize_(self: Tensor, *sizes: Any, memory_format: Any = None) -> Tensor:
    """Another shape for the same memory, or for a larger one when it does not suffice; new elements are not initialised."""
    size = tuple(map(as_int, shapes.sizes_of(sizes, None, "resize_") if sizes != () else ()))
    if self.requires_grad:
        raise GradError("cannot resize variables that require grad")
    if any(n < 0 for n in size):
        raise RuntimeError(f"resize_: sizes must not be negative, got {list(size)}")
    array, count = self._array, math.prod(size)
    if size == array.shape:
        return self
    if array.flags.c_contiguous and count <= array.size:
        resized = array.reshape(-1)[:count].reshape(size)
    else:
        resized = allocate(size, self._kind)
        kept = min(count, array.size)
        if kept:
            flat = array.reshape(-1) if array.flags.c_contiguous else duplicate(array).reshape(-1)
            dispatch.store(resized.reshape(-1)[:kept], flat[:kept])
    _former(self)
    self._array, self._view = resized, None
    return self


@public(function=False)
def resize_as_(self: Tensor, the_template: Tensor, *, memory_format: Any = None) -> Tensor:
    """`resize_` to the shape of another tensor."""
    return resize_(self, the_template._array.shape)


# --- copies into a tensor ---------------------------------------------------------------------------------------------

@public(function=False)
def copy_(self: Tensor, other: Tensor | complex, non_blocking: bool = False) -> Tensor:
    """Write the elements of another tensor (broadcast, converted to this dtype) or a number into this one; recorded."""
    if isinstance(other, NUMBERS):
        other = constant(other, self._kind)
    elif not isinstance(other, Tensor):
        raise TypeError(f"copy_(): argument 'other' (position 1) must be Tensor, not {type(other).__name__}")
    shape = self._array.shape
    if other._array.shape != shape:
        _check_fits(other, self)
    elif other is self:
        return self
    if tape.modes.enabled and self._kind.dtype.category >= 2 and (tape.tracked(self) or other.requires_grad):
        value = other if other._kind is self._kind else moved_recorded(cast(other, self._kind), self._kind.device)
        if value._array.shape != shape:
            value = shapes.expand(value, shape)
        return dispatch.write(self, value, copies=True)
    value = other._array
    if not self._array.flags.writeable or value.__class__ is not ndarray or self._array.__class__ is not ndarray:
        if other._kind is not self._kind:
            value = moved_recorded(cast(other, self._kind), self._kind.device)._array
        dispatch.store(self._array, value)
    elif value.size and self._array.size:
        if other._kind is self._kind:
            copies.into(self._array, value if value.shape == shape else np.broadcast_to(value, shape))
        else:
            if self._array.size >= pool.GRAIN:
                pool.ensure()
            kernel_table.cast_ufunc(other._kind.dtype.name, self._kind.dtype.name)(value, self._array)
    bump(self)
    return self


def _check_fits(value: Tensor, target: Tensor) -> None:
    """ShapeError, in PyTorch's words, where a value does not broadcast to a target's shape."""
    given, shape = value._array.shape, target._array.shape
    if any(n not in (1, m) for n, m in zip(given[::-1], shape[::-1], strict=False)):
        raise broadcast_error("copy_", (target, value))
    if len(given) > len(shape):
        raise ShapeError(f"output with shape {list(shape)} doesn't match the broadcast shape {list(given)}")
