"""The classes of old PyTorch: FloatTensor, LongTensor, ... They make tensors of one dtype and answer isinstance; none
has instances.
"""
from __future__ import annotations

from typing import Any

from .. import dtypes
from ..devices import CPU
from ..tensor import KIND, Tensor
from .create import legacy_constructor
from .registry import PUBLIC


class TensorType(type):
    """Metaclass: `FloatTensor(2, 3)` makes a Tensor, `isinstance(t, FloatTensor)` asks for its dtype."""

    def __call__(cls, *data: Any, device: Any = None) -> Tensor:
        return legacy_constructor(KIND[cls.dtype], data, device)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor) and instance._kind is KIND[cls.dtype]

    def __repr__(cls) -> str:
        return f"<class 'engine.{cls.__name__}'>"


for _d in dtypes.ALL:
    PUBLIC[_d.legacy] = TensorType(_d.legacy, (), {
        "dtype": _d, "is_cuda": False, "device": CPU, "__module__": "engine", "__slots__": (),
        "__doc__": f"Tensors of {_d.name}: `{_d.legacy}(2, 3)` has any content, `{_d.legacy}([1, 2])` these numbers."})
