"""State dicts of modules: `state_dict`, `load_state_dict`, their hooks, and extra state.

`State` is a base of Module (module.py). A layer that keeps its state in another form overrides `_save_to_state_dict` and
`_load_from_state_dict`, as in PyTorch; keys, order, metadata and the words of errors are PyTorch's.
"""
from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..autograd.modes import no_grad
from ..tape import Removable
from ..tensor import Tensor
from .parameter import Parameter, is_lazy

EXTRA = "_extra_state"


class _Keys(NamedTuple):
    missing_keys: list[str]
    unexpected_keys: list[str]


class _IncompatibleKeys(_Keys):
    """What `load_state_dict` did not find, and what it did not use."""

    __slots__ = ()

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return super().__repr__()

    __str__ = __repr__


class WithModule:
    """A load hook that also gets the module, which it does not keep alive."""

    def __init__(self, hook: Callable, module: Any):
        self.hook, self.module = hook, weakref.ref(module)

    def __call__(self, *args: Any) -> None:
        module = self.module()
        if module is None:
            raise RuntimeError("You are trying to call the hook of a dead Module!")
        self.hook(module, *args)

    def __reduce__(self) -> tuple:
        return WithModule, (self.hook, self.module())


class State:
    """What Module knows of state dicts."""

    _version: int = 1       # of the layer's state, for `_load_from_state_dict` of later versions

    def get_extra_state(self) -> Any:
        """State beyond tensors for the state dict; a module that has some overrides this and `set_extra_state`."""
        raise RuntimeError("Reached a code path in Module.get_extra_state() that should never be called.")

    def set_extra_state(self, state: Any) -> None:
        """Take what `get_extra_state` gave."""
        raise RuntimeError("Reached a code path in Module.set_extra_state() that should never be called.")

    # --- saving -------------------------------------------------------------------------------------------------------

    def state_dict(self, *, destination: dict[str, Any] | None = None, prefix: str = "",
                   keep_vars: bool = False) -> dict[str, Any]:
        """Parameters and persistent buffers by dotted name, sharing memory with the module; detached unless `keep_vars`.

        They are added to `destination` where one is given, with `prefix` before each name.
        """
        if destination is None:
            destination = OrderedDict()
            destination._metadata = OrderedDict()
        about = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = about
        for hook in self._state_dict_pre_hooks.values():
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        for hook in self._state_dict_hooks.values():
            answer = hook(self, destination, prefix, about)
            if answer is None:
                continue
            if getattr(hook, "_from_public_api", False):
                raise RuntimeError("state_dict post-hook must return None")
            destination = answer
        return destination

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """Add this module's own tensors, without those of its children."""
        for name, tensor in (*self._parameters.items(), *self._buffers.items()):
            if tensor is not None and name not in self._non_persistent_buffers_set:
                destination[prefix + name] = tensor if keep_vars else tensor.detach()
        if type(self).get_extra_state is not State.get_extra_state:
            destination[prefix + EXTRA] = self.get_extra_state()

    def register_state_dict_pre_hook(self, hook: Callable[..., None]) -> Removable:
        """Call `hook(module, prefix, keep_vars)` before the state is collected."""
        return Removable(self._state_dict_pre_hooks, hook)

    def register_state_dict_post_hook(self, hook: Callable[..., None]) -> Removable:
        """Call `hook(module, state_dict, prefix, local_metadata)` after it; the hook changes the dictionary in place."""
        hook._from_public_api = True
        return Removable(self._state_dict_hooks, hook)

    def _register_state_dict_hook(self, hook: Callable[..., Any]) -> Removable:
        """PyTorch's older form, whose hook may return another dictionary."""
        if getattr(hook, "_from_public_api", False):
            raise RuntimeError("Cannot register the same function as the state dict post hook that was previously registered via "
                               "register_state_dict_post_hook")
        return Removable(self._state_dict_hooks, hook)

    # --- loading ------------------------------------------------------------------------------------------------------

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> _IncompatibleKeys:
        """Copy values by name into this module (`assign`: take the tensors themselves).

        Errors: RuntimeError for other shapes, and where `strict`, for missing and unexpected names; all are listed at once.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        metadata = getattr(state_dict, "_metadata", None)
        given = OrderedDict(state_dict)
        if metadata is not None:
            given._metadata = metadata
        result, faults = _IncompatibleKeys([], []), []
        _load(self, given, "", metadata or {}, assign, result, faults)
        if strict:
            for words, keys in (("Unexpected", result.unexpected_keys), ("Missing", result.missing_keys)):
                if keys:
                    faults.insert(0, f"{words} key(s) in state_dict: " + ", ".join(f'"{k}"' for k in keys) + ". ")
        if faults:
            raise RuntimeError(f"Error(s) in loading state_dict for {type(self).__name__}:\n\t" + "\n\t".join(faults))
        return result

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], strict: bool,
                              missing_keys: list[str], unexpected_keys: list[str], error_msgs: list[str]) -> None:
        """Take this module's own tensors from a state dict, without those of its children; faults go into the lists."""
        for hook in self._load_state_dict_pre_hooks.values():
            hook(state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        own = {name: tensor for name, tensor in (*self._parameters.items(), *self._buffers.items())
               if tensor is not None and name not in self._non_persistent_buffers_set}
        for name, tensor in own.items():
            key = prefix + name
            if key in state_dict:
                self._take(name, key, tensor, state_dict[key], local_metadata.get("assign_to_params_buffers", False), error_msgs)
            elif strict:
                missing_keys.append(key)
        extra = prefix + EXTRA
        if type(self).set_extra_state is not State.set_extra_state:
            if extra in state_dict:
                self.set_extra_state(state_dict[extra])
            elif strict:
                missing_keys.append(extra)
        elif strict and extra in state_dict:
            unexpected_keys.append(extra)
        if strict:
            for key in state_dict:
                if key.startswith(prefix) and key != extra:
                    name, dot, _ = key[len(prefix):].partition(".")
                    if name not in (self._modules if dot else own):
                        unexpected_keys.append(key)

    def _take(self, name: str, key: str, old: Tensor, value: Any, assign: bool, faults: list[str]) -> None:
        """One value from a state dict into one parameter or buffer."""
        if not isinstance(value, Tensor):
            faults.append(f'While copying the parameter named "{key}", expected engine.Tensor or Tensor-like object from '
                          f"checkpoint but received {type(value)}")
            return
        if not is_lazy(old):
            if not old.ndim and value.shape == (1,):
                value = value[0]                # checkpoints of early versions of PyTorch kept numbers so
            if value.shape != old.shape:
                faults.append(f"size mismatch for {key}: copying a param with shape {value.shape} from checkpoint, the shape in "
                              f"current model is {old.shape}.")
                return
        try:
            with no_grad():
                if not assign:
                    old.copy_(value)
                    return
                if isinstance(old, Parameter):
                    if isinstance(value, Parameter):
                        value.requires_grad_(old.requires_grad)
                    else:
                        value = Parameter(value, requires_grad=old.requires_grad)
                setattr(self, name, value)
        except Exception as error:
            faults.append(f'While copying the parameter named "{key}", whose dimensions in the model are {old.size()} and whose '
                          f"dimensions in the checkpoint are {value.size()}, an exception occurred : {error.args}.")

    def register_load_state_dict_pre_hook(self, hook: Callable[..., None]) -> Removable:
        """Call `hook(module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)` before."""
        return self._register_load_state_dict_pre_hook(hook, with_module=True)

    def _register_load_state_dict_pre_hook(self, hook: Callable[..., None], with_module: bool = False) -> Removable:
        """The same; without the module unless `with_module`."""
        return Removable(self._load_state_dict_pre_hooks, WithModule(hook, self) if with_module else hook)

    def register_load_state_dict_post_hook(self, hook: Callable[..., None]) -> Removable:
        """Call `hook(module, incompatible_keys)` after the module was loaded; it changes the lists in place."""
        return Removable(self._load_state_dict_post_hooks, hook)


def _load(module: State, state: dict[str, Any], prefix: str, metadata: Mapping[str, Any], assign: bool, result: _IncompatibleKeys,
          faults: list[str]) -> None:
    """Load a module and those below it from the part of the state dict that begins with its prefix."""
    about = metadata.get(prefix[:-1], {})
    if assign:
        about = {**about, "assign_to_params_buffers": True}
    module._load_from_state_dict(state, prefix, about, True, result.missing_keys, result.unexpected_keys, faults)
    for name, child in module._modules.items():
        if child is not None:
            below = f"{prefix}{name}."
            _load(child, {k: v for k, v in state.items() if k.startswith(below)}, below, metadata, assign, result, faults)
    for hook in module._load_state_dict_post_hooks.values():
        if hook(module, result) is not None:
            raise AssertionError("Hooks registered with ``register_load_state_dict_post_hook`` are not expected to return new "
                                 "values, if incompatible_keys need to be modified, it should be done inplace.")
