"""In-place operators and `out=`: how a computed value gets into the memory of a tensor, and how its history follows."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kernels import table as kernel_table
from kernels.book import SAME, Pointwise
from kernels.cpu import sheets

from . import dtypes, tape
from .casts import cast
from .errors import DeviceError, DTypeError, GradError, ShapeError
from .large import LARGE
from .promotion import broadcast_error, constant
from .tape import Node, clock, edge_of, modes, modes_used
from .tensor import KIND_OF_NUMPY, Kind, Tensor, bump, refuse_writing, wrap

if TYPE_CHECKING:
    from .general import GeneralCaller
    from .pointwise import PointwiseCaller

new = object.__new__


def can_write(target: Tensor, result: Tensor) -> None:
    """Check that a result may be stored in a tensor of another dtype or shape; DTypeError or ShapeError otherwise."""
    if not dtypes.can_cast(result._kind.dtype, target._kind.dtype):
        raise DTypeError(f"result type {result._kind.dtype.scalar} can't be cast to the desired output type "
                         f"{target._kind.dtype.scalar}")


class CopyBackwards(Node):
    """A tensor overwritten by another: the old value's gradient is zero, the new value gets all."""

    __slots__ = ()

    def backward(self, g):
        return None if self.edges[0] is None else g * 0, g


def write(target: Tensor, result: Tensor, copies: bool = False) -> Tensor:
    """Store a computed value in a tensor's memory and give the tensor its history: the end of every in-place operator.

    `copies`: the value is a tensor of its own that the user holds (copy_, fill_, assignment), not one just computed for the target.
    """
    if modes_used.inference:
        refuse_writing(target)
    recording = modes.enabled and (tape.tracked(target) or result.requires_grad)
    if recording:
        tape.check_inplace(target)
    can_write(target, result)
    if result._array.shape != target._array.shape:
        raise ShapeError(f"output with shape {list(target.shape)} doesn't match the broadcast shape {list(result.shape)}")
    if result._kind is not target._kind:
        result = cast(result, target._kind)
    store(target._array, result._array)
    bump(target)
    if recording:
        edge = edge_of(result)
        if target._view is None and (copies or not isinstance(edge, Node)):
            node = new(CopyBackwards)
            node.edges, node.hooks, node.order = (edge_of(target), edge), None, next(clock)
            edge = node
        tape.rebase(target, edge)
    return target


def write_by(caller: GeneralCaller, target: Tensor, others: tuple[Tensor, ...], options: dict,
             run: Callable[[], object]) -> Tensor:
    """An in-place operator whose kernel, `run`, changes the memory of `target` itself: check, run, count, record.

    The node is that of `caller(target, *others, **options)`, whose adjoint must not read the target or the result. A kernel that a
    user, or a trace, has registered for the operator runs instead, where it computes from operands (random numbers do not).
    """
    if others and (caller.op.name, target._kind.device.type) in kernel_table.TABLE._custom:
        return write(target, caller(target, *others, **options))
    writeable(target)
    recording = modes.enabled and (tape.tracked(target) or any(o.requires_grad for o in others))
    if recording:
        tape.check_inplace(target)
        tensors = (target, *others)
        node = caller.make_node((target,), False, tensors, [edge_of(t) for t in tensors], options)
    run()
    bump(target)
    if recording:
        tape.rebase(target, node)
    return target


def writeable(x: Tensor) -> None:
    """RuntimeError for a tensor whose memory nobody may write."""
    if modes_used.inference:
        refuse_writing(x)
    if not x._array.flags.writeable:
        raise RuntimeError("this tensor shares memory that NumPy marked read-only, or its elements repeat; clone() it before "
                           "writing")


def store(target: np.ndarray, value: np.ndarray) -> None:
    """Copy an array into another of the same dtype (broadcasting) by our kernel; refuses read-only memory."""
    if not target.flags.writeable:
        if any(not step and n > 1 for step, n in zip(target.strides, target.shape, strict=True)):
            raise RuntimeError("unsupported operation: more than one element of the written-to tensor refers to a single memory "
                               "location. "
                               "Please clone() the tensor before performing the operation.")
        raise RuntimeError("this tensor shares memory that NumPy marked read-only; clone() it before writing")
    if not target.size:
        return
    if target.__class__ is not np.ndarray and not isinstance(target, np.ndarray):
        from . import device_arrays
        return device_arrays.store(target, value)
    kind = KIND_OF_NUMPY[target.dtype].dtype.name
    ufunc = kernel_table.cast_ufunc(kind, kind)
    if target.size < LARGE or ufunc.__class__ is not np.ufunc:
        ufunc(value, target)
    else:
        sheets.copy(ufunc, value, target)


def into(out: Tensor, result: Tensor) -> Tensor:
    """Give a result to the caller's `out=` tensor, resized if it has another shape."""
    if not isinstance(out, Tensor):
        raise TypeError(f"argument 'out' must be Tensor, not {type(out).__name__}")
    if out._needs or result._needs:
        if modes.enabled:
            raise GradError("functions with out=... arguments don't support automatic differentiation, but one of the arguments "
                            "requires grad.")
        result = result.detach()
    if out._kind.device is not result._kind.device:
        raise DeviceError(f"Expected out tensor to be on {result._kind.device}, but got {out._kind.device}")
    can_write(out, result)
    if out._array.shape != result._array.shape:
        if out._array.size:
            import warnings
            warnings.warn(f"An output with one or more elements was resized since it had shape {list(out.shape)}, which does not "
                          f"match the required output shape {list(result.shape)}. This behavior is deprecated, and in a future "
                          "release outputs will not be resized unless they have zero elements.", UserWarning, stacklevel=3)
        out._array = wrap(np.empty(result._array.shape, out._kind.numpy), out._kind)._array
    return write(out, result)


def compute(ufunc: Callable, arrays: tuple[np.ndarray, ...], out: np.ndarray) -> None:
    """Run a pointwise loop into an array of its result's dtype, to whose shape the operands broadcast; ValueError if they do not.

    Memory shared with operands is read before it is written.
    """
    if out.size < LARGE or ufunc.__class__ is not np.ufunc:
        ufunc(*arrays, out)
    else:
        sheets.into(ufunc, arrays, out)


def straight(caller: PointwiseCaller, tensors: Sequence[Tensor], kind: Kind, out: Tensor) -> bool:
    """Compute a pointwise result in the memory of `out=` itself, from operands of a kind; False where it needs more than that.

    That is a history, a cast, another shape, another device, or an error to raise: `into` sees to them.
    """
    ufunc, result = caller.loops[kind]
    if not isinstance(out, Tensor) or out._kind is not result or tape.tracked(out) or modes_used.inference or (
            modes.enabled and any(t.requires_grad for t in tensors)) or not out._array.flags.writeable:
        return False
    arrays = tuple([t._array for t in tensors])
    shape = out._array.shape
    if any(a.shape != shape for a in arrays) and (not _broadcasts(*arrays) or np.broadcast(*arrays).shape != shape):
        return False
    compute(ufunc, arrays, out._array)
    bump(out)
    return True


def inplace(call: Callable, op: Pointwise | None = None) -> Callable:
    """The in-place method of an operator: compute, then write; straight into the memory where nothing is recorded."""
    loops = op.apply.loops if op is not None and len(op.inputs) < 3 and op.result is SAME else None
    count = 0 if op is None else len(op.inputs) - 1

    def method(self: Tensor, *others: Any, **options: Any) -> Tensor:
        if modes_used.inference:
            refuse_writing(self)
        if loops is not None and len(others) == count and not options and not self._needs and self._view is None:
            if not others:
                if (not op.floating or self._kind.dtype.category >= 2) and self._array.flags.writeable:
                    return _direct(self)
                return write(self, call(self))
            other = others[0]
            if other.__class__ is Tensor and other._kind is self._kind and not other._needs and other._view is None and (
                    not op.floating or self._kind.dtype.category >= 2) and self._array.flags.writeable:
                return _direct(self, other)
            if other.__class__ is float and self._kind.dtype.category >= 2:
                return _direct(self, constant(other, self._kind))
        if not modes.enabled and loops is not None and len(others) == count and not options and self._array.flags.writeable:
            other = others[0] if others else self
            if other.__class__ is Tensor and other._kind is self._kind and (not op.floating or self._kind.dtype.category >= 2):
                return _direct(self, *others)
        if not modes.enabled or not (tape.tracked(self) or any(
                isinstance(o, Tensor) and o.requires_grad for o in (*others, *options.values()))):
            return write(self, call(self, *others, **options))
        tape.check_inplace(self)
        handle = tape.Handle(self)
        result = call(handle.cell[0], *(handle.cell[0] if o is self else o for o in others),
                      **{name: handle.cell[0] if o is self else o for name, o in options.items()})
        handle.settle()
        return write(self, result)

    def _direct(self: Tensor, *others: Tensor) -> Tensor:
        array, ufunc = self._array, loops[self._kind][0]
        arrays = (array, *[other._array for other in others])
        try:
            compute(ufunc, arrays, array)
        except ValueError as error:
            shape = np.broadcast_shapes(*[a.shape for a in arrays]) if _broadcasts(*arrays) else None
            if shape is None:
                raise broadcast_error(op.name, (self, *others)) from error
            raise ShapeError(f"output with shape {list(array.shape)} doesn't match the broadcast shape "
                             f"{list(shape)}") from error
        counter = self._counter
        if counter is None:
            self._counter = [1]
        else:
            counter[0] += 1
        return self
    return method


def _broadcasts(*arrays: np.ndarray) -> bool:
    try:
        np.broadcast_shapes(*[a.shape for a in arrays])
    except ValueError:
        return False
    return True
