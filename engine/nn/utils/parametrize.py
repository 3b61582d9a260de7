"""Parametrizations: a parameter computed, at each use, from other tensors by modules of the user's choice.

`register_parametrization(module, "weight", f)` makes `module.weight` a property that calls f on the tensors kept in
`module.parametrizations.weight` (original, or original0, original1, ... where f has several inputs). The module's class
becomes a subclass named Parametrized..., which holds the property. Errors are PyTorch's.
"""
from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from ...autograd.modes import no_grad
from ...tensor import Tensor
from ..containers import ModuleDict, ModuleList
from ..module import Module
from ..parameter import Parameter


class _Cache:
    """Values of parametrized tensors inside `cached()` blocks."""

    def __init__(self) -> None:
        self.blocks = 0
        self.values: dict[tuple[int, str], Tensor] = {}


_CACHE = _Cache()


@contextlib.contextmanager
def cached() -> Iterator[None]:
    """Inside the block every parametrized tensor is computed once, at its first use."""
    _CACHE.blocks += 1
    try:
        yield
    finally:
        _CACHE.blocks -= 1
        if not _CACHE.blocks:
            _CACHE.values = {}


def _check_same(before: Tensor, after: Any, name: str) -> None:
    """A parametrization gives a tensor of the shape and dtype that were there before."""
    if not isinstance(after, Tensor):
        raise ValueError(f"A parametrization must return a tensor. Got {type(after).__name__}.")
    for what in ("dtype", "shape"):
        old, new = getattr(before, what), getattr(after, what)
        if old != new:
            raise ValueError(f"Registering a parametrization may not change the {what} of the tensor, unless the `unsafe` flag is "
                             f"enabled.\nmodule.{name}.{what}: {old}\nparametrization(module.{name}).{what}: {new}")


class ParametrizationList(ModuleList):
    """The parametrizations of one tensor, called in turn, and what they begin with."""

    def __init__(self, modules: Sequence[Module], original: Tensor, unsafe: bool = False):
        if not modules:
            raise ValueError("ParametrizationList requires one or more modules.")
        super().__init__(modules)
        self.unsafe = unsafe
        before = original.detach()
        new: Any = original
        with no_grad():
            for module in reversed(list(self)):
                if hasattr(module, "right_inverse"):
                    with contextlib.suppress(NotImplementedError):
                        new = module.right_inverse(new)
        if not isinstance(new, (Tensor, Sequence)):
            raise ValueError("'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). Got "
                             f"{type(new).__name__}")
        self.is_tensor = isinstance(new, Tensor)
        self.ntensors = 1 if self.is_tensor else len(new)
        if self.is_tensor:
            for what in ("dtype", "device"):
                if getattr(original, what) != getattr(new, what):
                    raise ValueError(f"When `right_inverse` outputs one tensor, it may not change the {what}.\noriginal.{what}: "
                                     f"{getattr(original, what)}\nright_inverse(original).{what}: {getattr(new, what)}")
            _set(original, new)
            _register(self, "original", original)
        else:
            for k, tensor in enumerate(new):
                if not isinstance(tensor, Tensor):
                    raise ValueError("'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). Got element "
                                     f"{k} of the sequence with type {type(tensor).__name__}.")
                if isinstance(original, Parameter):
                    tensor = Parameter(tensor, original.requires_grad)
                tensor.requires_grad_(original.requires_grad)
                _register(self, f"original{k}", tensor)
        if not unsafe:
            after = self()
            if not isinstance(after, Tensor):
                raise ValueError(f"A parametrization must return a tensor. Got {type(after).__name__}.")
            for what in ("dtype", "shape"):
                old, made = getattr(before, what), getattr(after, what)
                if old != made:
                    raise ValueError(f"Registering a parametrization may not change the {what} of the tensor, unless `unsafe` flag "
                                     f"is enabled.\nunparametrized {what}: {old}\nparametrized {what}: {made}")

    def right_inverse(self, value: Any) -> None:
        """Choose the originals so that the parametrized tensor has a value, by the parametrizations' own `right_inverse`."""
        with no_grad():
            for module in reversed(list(self)):
                if not hasattr(module, "right_inverse"):
                    raise RuntimeError(f"parametrization {type(module).__name__} does not implement right_inverse.")
                value = module.right_inverse(value)
        if self.is_tensor:
            if not isinstance(value, Tensor):
                raise ValueError(f"`right_inverse` should return a tensor. Got {type(value).__name__}")
            if value.dtype != self.original.dtype:
                raise ValueError(f"The tensor returned by `right_inverse` has dtype {value.dtype} while `original` has dtype "
                                 f"{self.original.dtype}")
            _set(self.original, value)
            return
        if not isinstance(value, Sequence):
            raise ValueError(f"'right_inverse' must return a sequence of tensors. Got {type(value).__name__}.")
        if len(value) != self.ntensors:
            raise ValueError(f"'right_inverse' must return a sequence of tensors of length {self.ntensors}. Got a sequence of "
                             f"length {len(value)}.")
        for k, tensor in enumerate(value):
            kept = getattr(self, f"original{k}")
            if not isinstance(tensor, Tensor):
                raise ValueError(f"'right_inverse' must return a sequence of tensors. Got element {k} of type "
                                 f"{type(tensor).__name__}.")
            if kept.dtype != tensor.dtype:
                raise ValueError(f"Tensor {k} returned by `right_inverse` has dtype {tensor.dtype} while `original{k}` has dtype "
                                 f"{kept.dtype}")
            _set(kept, tensor)

    def forward(self) -> Tensor:
        first, *rest = self
        value = first(self.original) if self.is_tensor else first(*(getattr(self, f"original{k}") for k in range(self.ntensors)))
        for module in rest:
            value = module(value)
        return value


def _set(kept: Tensor, value: Tensor) -> None:
    """Let a tensor, the object that optimizers hold, take over another one's values."""
    if value is not kept:
        kept.data = value.detach()


def _register(module: Module, name: str, tensor: Tensor) -> None:
    if isinstance(tensor, Parameter):
        module.register_parameter(name, tensor)
    else:
        module.register_buffer(name, tensor)


# --- the class with the property --------------------------------------------------------------------------------------

def _deepcopy(self: Module, memo: dict) -> Module:
    replica = memo[id(self)] = type(self).__new__(type(self))
    replica.__dict__.update(copy.deepcopy(self.__dict__, memo))
    return replica


def _no_pickle(self: Module) -> NoReturn:
    raise RuntimeError("Serialization of parametrized modules is only supported through state_dict().")


def _new_class(module: Module) -> None:
    """Give the module a class of its own, below the one that it has."""
    cls = type(module)
    about: dict[str, Any] = {"__getstate__": _no_pickle, "__module__": cls.__module__}
    if not hasattr(cls, "__deepcopy__"):
        about["__deepcopy__"] = _deepcopy
    module.__class__ = type(f"Parametrized{cls.__name__}", (cls,), about)


def _new_property(cls: type, name: str) -> None:
    def read(self: Module) -> Tensor:
        computed = self.parametrizations[name]
        if not _CACHE.blocks:
            return computed()
        key = (id(self), name)
        if key not in _CACHE.values:
            _CACHE.values[key] = computed()
        return _CACHE.values[key]

    def write(self: Module, value: Tensor) -> None:
        self.parametrizations[name].right_inverse(value)
    setattr(cls, name, property(read, write))


# --- what users call --------------------------------------------------------------------------------------------------

def register_parametrization(module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False) -> Module:
    """Let a parameter or buffer be computed by `parametrization` from what it was; a second one works on the first one's result.

    `unsafe` allows another shape or dtype. ValueError for those otherwise, and where there is no such tensor.
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        if not unsafe:
            _check_next(module, tensor_name, parametrization)
        chain = module.parametrizations[tensor_name]
        chain.append(parametrization)
        chain.unsafe |= unsafe
    elif tensor_name in module._buffers or tensor_name in module._parameters:
        chain = ParametrizationList([parametrization], getattr(module, tensor_name), unsafe=unsafe)
        delattr(module, tensor_name)
        if not is_parametrized(module):
            _new_class(module)
            module.parametrizations = ModuleDict()
        _new_property(type(module), tensor_name)
        module.parametrizations[tensor_name] = chain
    else:
        raise ValueError(f"Module '{module}' does not have a parameter, a buffer, or a parametrized element with name "
                         f"'{tensor_name}'")
    return module


def _check_next(module: Module, name: str, parametrization: Module) -> None:
    """Whether one more parametrization keeps shape and dtype, in both directions."""
    before = getattr(module, name)
    after = parametrization(before)
    _check_same(before, after, name)
    if not hasattr(parametrization, "right_inverse"):
        return
    try:
        back = parametrization.right_inverse(after)
    except NotImplementedError:
        return
    if not isinstance(back, Tensor):
        raise ValueError(f"parametrization.right_inverse must return a tensor. Got: {type(back).__name__}")
    for what in ("dtype", "shape"):
        old, new = getattr(before, what), getattr(back, what)
        if old != new:
            raise ValueError(f"The tensor returned by parametrization.right_inverse must have the same {what} as module.{name}, "
                             f"unless the `unsafe` flag is enabled.\nmodule.{name}.{what}: {old}\nreturned {what}: {new}")


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether a tensor of the module is parametrized; without a name, whether any is."""
    found = getattr(module, "parametrizations", None)
    if not isinstance(found, ModuleDict):
        return False
    return len(found) > 0 if tensor_name is None else tensor_name in found


def remove_parametrizations(module: Module, tensor_name: str, leave_parametrized: bool = True) -> Module:
    """Make a parametrized tensor an ordinary one: with its present value, or with the original one.

    ValueError where it is not parametrized, and for the original value of one that is made of several tensors.
    """
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"Module {module} does not have a parametrization on {tensor_name}")
    chain = module.parametrizations[tensor_name]
    if chain.is_tensor:
        original = chain.original
        if leave_parametrized:
            with no_grad():
                _set(original, getattr(module, tensor_name))
    elif leave_parametrized:
        value = getattr(module, tensor_name)
        original = Parameter(value.detach()) if value.requires_grad else value
    else:
        raise ValueError("Cannot leave unparametrized (`leave_parametrized=False`) a tensor that is parametrized in terms of a "
                         "sequence of tensors.")
    delattr(type(module), tensor_name)
    del module.parametrizations[tensor_name]
    _register(module, tensor_name, original)
    if not is_parametrized(module):
        delattr(module, "parametrizations")
        module.__class__ = type(module).__bases__[0]
    return module


def type_before_parametrizations(module: Module) -> type:
    """The class that the module had before."""
    return type(module).__bases__[0] if is_parametrized(module) else type(module)


__all__ = [
    "ParametrizationList", "cached", "is_parametrized", "register_parametrization", "remove_parametrizations",
    "type_before_parametrizations",
]
