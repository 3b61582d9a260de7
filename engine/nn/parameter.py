"""Parameter, Buffer and UninitializedParameter: tensors that a module registers when they are assigned as attributes.

Modules (module.py) ask `isinstance(value, Parameter)`; optimizers take any leaf. Lazy layers (linear.py) begin with
uninitialized parameters, which know a dtype and device but no shape until the first call.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from ..dtypes import dtype as Dtype
from ..errors import DTypeError
from ..functions.factories import empty
from ..tensor import Size, Tensor, as_subclass, shared_counter, wrap


class Parameter(Tensor):
    """A leaf over the memory of `data`, which requires grad unless told otherwise. RuntimeError for integers that should."""

    __slots__ = ()

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Parameter:
        if data is None:
            data = empty(0)
        if not isinstance(data, Tensor):
            raise TypeError(f"Parameter data must be a Tensor, not {type(data).__name__}")
        if requires_grad and data._kind.dtype.category < 2:
            raise DTypeError("Only Tensors of floating point and complex dtype can require gradients")
        made = as_subclass(wrap(data._array, data._kind), cls)
        made._counter, made._needs = shared_counter(data), bool(requires_grad)
        return made

    def __deepcopy__(self, memo: dict) -> Parameter:
        if id(self) not in memo:                    # the values alone: no gradient, as in PyTorch
            memo[id(self)] = type(self)(self.data.clone(), self.requires_grad)
        return memo[id(self)]

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return "Parameter containing:\n" + super().__repr__(tensor_contents=tensor_contents)


class _BufferClass(type):
    """Makes tensors that Buffer marked instances of Buffer."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor) and getattr(instance, "_is_buffer", False)


class Buffer(Tensor, metaclass=_BufferClass):
    """A tensor that a module registers as a buffer when it is assigned; only a persistent one enters the state dict.

    What it makes is an ordinary tensor over the memory of `data`, marked as a buffer.
    """

    __slots__ = ()

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Tensor:
        if data is None:
            data = empty(0)
        made = data.detach().requires_grad_(data.requires_grad)
        made.persistent, made._is_buffer = persistent, True
        return made


class UninitializedParameter(Parameter):
    """A parameter without a shape; `materialize(shape)` makes it an ordinary one, in place."""

    __slots__ = ()

    def __new__(cls, requires_grad: bool = True, device: Any = None, dtype: Dtype | None = None) -> UninitializedParameter:
        return super().__new__(cls, empty(0, device=device, dtype=dtype), requires_grad)

    def materialize(self, shape: Sequence[int], device: Any = None, dtype: Dtype | None = None) -> None:
        """Take a shape, with memory of any content."""
        made = empty(tuple(shape), device=self.device if device is None else device, dtype=self.dtype if dtype is None else dtype)
        self._array, self._kind = made._array, made._kind
        self.__class__ = Parameter

    @property
    def shape(self) -> Size:
        raise RuntimeError("Can't access the shape of an uninitialized parameter or buffer. This error usually happens in "
                           "`load_state_dict` when trying to load an uninitialized parameter into an initialized one. Call "
                           "`forward` to initialize the parameters before accessing their attributes.")

    def share_memory_(self) -> NoReturn:
        """RuntimeError: there is no memory yet."""
        raise RuntimeError("Can't share memory on an uninitialized parameter or buffer. Call `forward` to initialize the "
                           "parameters before calling `module.share_memory()`.")

    def __deepcopy__(self, memo: dict) -> UninitializedParameter:
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.requires_grad, self.device, self.dtype)
        return memo[id(self)]

    def __reduce_ex__(self, protocol: int) -> tuple:
        return type(self), (self.requires_grad, self.device, self.dtype)

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"<{type(self).__name__}>"


def is_lazy(param: Any) -> bool:
    """Whether a parameter has no shape yet."""
    return isinstance(param, UninitializedParameter)


__all__ = ["Buffer", "Parameter", "UninitializedParameter", "is_lazy"]
