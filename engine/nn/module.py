"""Module: the base of all layers and networks.

It registers parameters, buffers and submodules as they are assigned, and walks them: parameters(), named_modules(), train(),
apply(), zero_grad(), repr. Hooks are in `hooks.py`, state dicts in `state.py`, dtypes and devices in `moving.py`; layers are in
the files beside this one. Names, order and errors are PyTorch's.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Self

from ..tensor import Tensor
from .hooks import EVERY, Hooks, registered, run
from .moving import Moving
from .parameter import Parameter
from .state import State

# what a module has besides `training`: dictionaries by name or by the number of a hook
MEMBERS = ("_parameters", "_buffers", "_modules")
HOOKS = ("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks",
         "_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks", "_state_dict_pre_hooks",
         "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks")


def type_name(value: Any) -> str:
    """The name of a type as PyTorch's messages have it: "engine.FloatTensor", "int", "package.file.Class"."""
    if isinstance(value, Tensor):
        return value.type()
    cls = type(value)
    return cls.__name__ if cls.__module__ in ("builtins", "__builtin__", None) else f"{cls.__module__}.{cls.__qualname__}"


def indented(text: str) -> str:
    """Text with all lines but the first two columns to the right; blank lines become empty."""
    first, *rest = text.split("\n")
    return "\n".join([first, *("  " + line if line.strip() else "" for line in rest)])


def _nested(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


class Module(Hooks, State, Moving):
    """Subclass it, assign parameters and submodules in `__init__` after `super().__init__()`, and define `forward`."""

    training: bool
    call_super_init: bool = False       # whether arguments of `__init__` go on to the next base

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not self.call_super_init:
            if kwargs:
                raise TypeError(f"{type(self).__name__}.__init__() got an unexpected keyword argument '{next(iter(kwargs))}'")
            if args:
                raise TypeError(f"{type(self).__name__}.__init__() takes 1 positional argument but {len(args) + 1} were given")
        store = self.__dict__
        store["training"] = True
        for name in MEMBERS:
            store[name] = {}
        store["_non_persistent_buffers_set"] = set()
        for name in HOOKS:
            store[name] = {}
        store["_is_full_backward_hook"] = None
        if self.call_super_init:
            super().__init__(*args, **kwargs)

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """What the module computes; every subclass defines it."""
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # The dictionary is asked directly: since the class has __getattr__, an attribute costs four times as much.
        store = self.__dict__
        try:
            hooked = (store["_forward_hooks"] or store["_forward_pre_hooks"] or store["_backward_hooks"]
                      or store["_backward_pre_hooks"] or EVERY)
        except KeyError as error:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute {error}") from None
        if hooked:
            return run(self, args, kwargs)
        return self.forward(*args, **kwargs)

    def __setstate__(self, state: dict[str, Any]) -> None:
        store = self.__dict__
        store.update(state)
        for name in HOOKS:
            store.setdefault(name, {})
        store.setdefault("_non_persistent_buffers_set", set())
        store.setdefault("_is_full_backward_hook", None)

    # --- attributes ---------------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        store = self.__dict__
        try:
            return store["_parameters"][name]
        except KeyError:
            for kind in ("_modules", "_buffers"):
                if name in store.get(kind, ()):
                    return store[kind][name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        store = self.__dict__
        if isinstance(value, Parameter):
            self._take_name(name, "_parameters", "parameters")
            self.register_parameter(name, value)
        elif name in store.get("_parameters", ()):
            if value is not None:
                raise TypeError(f"cannot assign '{type_name(value)}' as parameter '{name}' (engine.nn.Parameter or None expected)")
            self.register_parameter(name, None)
        elif isinstance(value, Module):
            self._take_name(name, "_modules", "module")
            store["_modules"][name] = registered(EVERY.module_registration, self, name, value)
        elif name in store.get("_modules", ()):
            if value is not None:
                raise TypeError(f"cannot assign '{type_name(value)}' as child module '{name}' (engine.nn.Module or None expected)")
            store["_modules"][name] = registered(EVERY.module_registration, self, name, None)
        elif name in store.get("_buffers", ()) or (isinstance(value, Tensor) and getattr(value, "_is_buffer", False)):
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(f"cannot assign '{type_name(value)}' as buffer '{name}' (engine.nn.Buffer, engine.Tensor or None "
                                "expected)")
            kept = name not in store.get("_non_persistent_buffers_set", ())
            self.register_buffer(name, value, getattr(value, "persistent", kept) if hasattr(value, "_is_buffer") else kept)
        else:
            object.__setattr__(self, name, value)

    def _take_name(self, name: str, keep: str, what: str) -> None:
        """Take a name away from everywhere but the members that it is about to enter."""
        store = self.__dict__
        if keep not in store:
            raise AttributeError(f"cannot assign {what} before Module.__init__() call")
        for kind in MEMBERS:
            if kind != keep:
                store[kind].pop(name, None)
        store["_non_persistent_buffers_set"].discard(name)
        store.pop(name, None)

    def __delattr__(self, name: str) -> None:
        for kind in MEMBERS:
            if name in self.__dict__.get(kind, ()):
                del self.__dict__[kind][name]
                if kind == "_buffers":
                    self._non_persistent_buffers_set.discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        names = [*dir(type(self)), *self.__dict__, *self._parameters, *self._modules, *self._buffers]
        return sorted(n for n in names if not n[:1].isdigit())

    # --- registration -------------------------------------------------------------------------------------------------

    def _check_name(self, what: str, name: str, kind: str) -> None:
        if kind not in self.__dict__:
            raise AttributeError(f"cannot assign {what} before Module.__init__() call")
        if not isinstance(name, str):
            raise TypeError(f"{what} name should be a string. Got {type_name(name)}")
        if "." in name:
            raise KeyError(f"{what} name can't contain \".\"" + (f", got: {name}" if what == "module" else ""))
        if name == "":
            raise KeyError(f"{what} name can't be empty string \"\"")
        if name not in self.__dict__[kind] and hasattr(self, name):
            raise KeyError(f"attribute '{name}' already exists")

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter under a name; None reserves the name."""
        self._check_name("parameter", name, "_parameters")
        if param is not None:
            if not isinstance(param, Parameter):
                raise TypeError(f"cannot assign '{type_name(param)}' object to parameter '{name}' (engine.nn.Parameter or None "
                                "required)")
            if param.grad_fn is not None:
                raise ValueError(f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must be created "
                                 f"explicitly. To express '{name}' as a function of another Tensor, compute the value in the "
                                 "forward() method.")
            param = registered(EVERY.parameter_registration, self, name, param)
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is part of the state but no parameter; only persistent ones enter the state dict."""
        self._check_name("buffer", name, "_buffers")
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"cannot assign '{type_name(tensor)}' object to buffer '{name}' (engine.Tensor or None required)")
        self._buffers[name] = registered(EVERY.buffer_registration, self, name, tensor)
        (self._non_persistent_buffers_set.discard if persistent else self._non_persistent_buffers_set.add)(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a submodule under a name."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{type_name(module)} is not a Module subclass")
        self._check_name("module", name, "_modules")
        self._modules[name] = registered(EVERY.module_registration, self, name, module)

    def register_module(self, name: str, module: Module | None) -> None:
        """The same as `add_module`."""
        self.add_module(name, module)

    # --- walking ------------------------------------------------------------------------------------------------------

    def named_modules(self, memo: set[Module] | None = None, prefix: str = "",
                      remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """This module and all below it, each once, with dotted names."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, _nested(prefix, name), remove_duplicate)

    def modules(self, remove_duplicate: bool = True) -> Iterator[Module]:
        """This module and all below it."""
        for _, module in self.named_modules(remove_duplicate=remove_duplicate):
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules one level below, each once."""
        seen: set[Module] = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        """The modules one level below."""
        for _, module in self.named_children():
            yield module

    def _named_members(self, get_members_fn: Callable[[Module], Any], prefix: str = "", recurse: bool = True,
                       remove_duplicate: bool = True) -> Iterator[tuple[str, Any]]:
        """What `get_members_fn(module)` lists as (name, tensor), of this module and, where `recurse`, of all below it."""
        seen: set[int] = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for where, module in modules:
            for name, member in get_members_fn(module):
                if member is None or id(member) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(member))
                yield _nested(where, name), member

    def named_parameters(self, prefix: str = "", recurse: bool = True,
                         remove_duplicate: bool = True) -> Iterator[tuple[str, Parameter]]:
        """Parameters with dotted names, each once."""
        yield from self._named_members(lambda module: module._parameters.items(), prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Parameters, each once: what an optimizer takes."""
        for _, p in self.named_parameters(recurse=recurse):
            yield p

    def named_buffers(self, prefix: str = "", recurse: bool = True,
                      remove_duplicate: bool = True) -> Iterator[tuple[str, Tensor]]:
        """Buffers with dotted names, each once."""
        yield from self._named_members(lambda module: module._buffers.items(), prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Buffers, each once."""
        for _, b in self.named_buffers(recurse=recurse):
            yield b

    def get_submodule(self, target: str) -> Module:
        """The module of a dotted name; AttributeError where there is none."""
        module = self
        for name in target.split(".") if target else ():
            module = _found(module, name)
            if not isinstance(module, Module):
                raise AttributeError(f"`{name}` is not an nn.Module")
        return module

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Put a module under a dotted name; where `strict`, in the place of another one."""
        if target == "":
            raise ValueError("Cannot set the submodule without a target name!")
        if not isinstance(module, Module):
            raise ValueError(f"`module` is not an nn.Module, found {type(module)}")
        path, _, name = target.rpartition(".")
        parent = self.get_submodule(path)
        if (strict or hasattr(parent, name)) and not isinstance(_found(parent, name), Module):
            raise AttributeError(f"`{name}` is not an nn.Module")
        setattr(parent, name, module)

    def get_parameter(self, target: str) -> Parameter:
        """The parameter of a dotted name; AttributeError where there is none."""
        path, _, name = target.rpartition(".")
        found = _found(self.get_submodule(path), name)
        if not isinstance(found, Parameter):
            raise AttributeError(f"`{name}` is not an nn.Parameter")
        return found

    def get_buffer(self, target: str) -> Tensor:
        """The buffer of a dotted name; AttributeError where there is none."""
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        found = _found(module, name)
        if name not in module._buffers:
            raise AttributeError(f"`{name}` is not a buffer")
        return found

    # --- changing all of it -------------------------------------------------------------------------------------------

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call `fn` on every module, the innermost first."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def train(self, mode: bool = True) -> Self:
        """Set training mode here and below."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self) -> Self:
        """Leave training mode here and below."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Record operations on the parameters, or stop."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or set them to zero in place."""
        for p in self.parameters():
            grad = p._grad
            if grad is None:
                continue
            if set_to_none:
                p._grad = None
            else:
                if grad.grad_fn is not None:
                    grad.detach_()
                else:
                    grad.requires_grad_(False)
                grad.zero_()

    # --- printing -----------------------------------------------------------------------------------------------------

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """What a layer shows of itself between its brackets."""
        return ""

    def __repr__(self) -> str:
        text = self.extra_repr()
        extra = text.split("\n") if text else []
        children = [f"({name}): " + indented(repr(module)) for name, module in self._modules.items()]
        if not children and len(extra) <= 1:
            return f"{self._get_name()}({text})"
        return f"{self._get_name()}(\n  " + "\n  ".join(extra + children) + "\n)"


def _found(module: Module, name: str) -> Any:
    if not hasattr(module, name):
        raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
    return getattr(module, name)
