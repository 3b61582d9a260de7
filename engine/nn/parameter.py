"""Parameter: a tensor that a module registers when it is assigned as an attribute. Used by modules and optimizers."""
from __future__ import annotations

from ..errors import DTypeError
from ..tensor import KIND, Tensor, as_subclass, shared_counter, wrap


class Parameter(Tensor):
    """A leaf over the memory of `data`, which requires grad unless told otherwise. RuntimeError for integers that should."""

    __slots__ = ()

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Parameter:
        if data is None:
            import numpy as np

            from .. import dtypes
            kind = KIND[dtypes.DEFAULT.dtype]
            data = wrap(np.empty(0, kind.numpy), kind)
        if not isinstance(data, Tensor):
            raise TypeError(f"Parameter data must be a Tensor, not {type(data).__name__}")
        if requires_grad and data._kind.dtype.category < 2:
            raise DTypeError("Only Tensors of floating point and complex dtype can require gradients")
        made = as_subclass(wrap(data._array, data._kind), cls)
        made._counter, made._needs = shared_counter(data), bool(requires_grad)
        return made

    def __repr__(self, *, tensor_contents=None) -> str:
        return "Parameter containing:\n" + super().__repr__(tensor_contents=tensor_contents)
