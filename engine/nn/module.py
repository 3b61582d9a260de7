"""Module: the base of all layers and networks.

It registers parameters, buffers and submodules as they are assigned, and walks them: parameters(), state_dict(), to(), train(),
zero_grad(), repr. Layers are in the files beside this one. Names, order and state dict keys are PyTorch's.
"""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ..autograd.modes import no_grad
from ..tape import Removable
from ..tensor import Tensor
from .parameter import Parameter


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict` did not find, and what it did not use."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"_IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


def _nested(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


class Module:
    """Subclass it, assign parameters and submodules in `__init__` after `super().__init__()`, and define `forward`."""

    training: bool

    def __init__(self) -> None:
        store = self.__dict__
        store["training"] = True
        store["_parameters"], store["_buffers"], store["_modules"] = {}, {}, {}
        store["_non_persistent_buffers_set"] = set()
        store["_forward_hooks"], store["_forward_pre_hooks"] = {}, {}

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """What the module computes; every subclass defines it."""
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        store = self.__dict__
        for hook in list(store["_forward_pre_hooks"].values()):
            answer = hook(self, inputs)
            if answer is not None:
                inputs = answer if isinstance(answer, tuple) else (answer,)
        result = self.forward(*inputs, **options)
        for hook in list(store["_forward_hooks"].values()):
            answer = hook(self, inputs, result)
            if answer is not None:
                result = answer
        return result

    # --- attributes ---------------------------------------------------------------------------------------------------

    def _members(self, kind: str, what: str) -> dict:
        members = self.__dict__.get(kind)
        if members is None:
            raise AttributeError(f"cannot assign {what} before Module.__init__() call")
        return members

    def _forget(self, name: str, keep: str) -> None:
        """Take a name away from everywhere but the store it is about to enter."""
        for kind in ("_parameters", "_buffers", "_modules"):
            if kind != keep:
                self.__dict__.get(kind, {}).pop(name, None)
        self.__dict__.pop(name, None)

    def __setattr__(self, name: str, value: Any) -> None:
        store = self.__dict__
        if isinstance(value, Parameter):
            self._members("_parameters", "parameters")
            self._forget(name, "_parameters")
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            modules = self._members("_modules", "module")
            self._forget(name, "_modules")
            modules[name] = value
        elif name in store.get("_parameters", ()):
            if value is not None:
                raise TypeError(f"cannot assign '{_type_of(value)}' as parameter '{name}' "
                                "(engine.nn.Parameter or None expected)")
            self.register_parameter(name, None)
        elif name in store.get("_modules", ()):
            if value is not None:
                raise TypeError(f"cannot assign '{_type_of(value)}' as child module '{name}' "
                                "(engine.nn.Module or None expected)")
            store["_modules"][name] = None
        elif name in store.get("_buffers", ()):
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(f"cannot assign '{_type_of(value)}' as buffer '{name}' (engine.Tensor or None expected)")
            store["_buffers"][name] = value
        else:
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        store = self.__dict__
        for kind in ("_parameters", "_buffers", "_modules"):
            if name in store.get(kind, ()):
                return store[kind][name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __delattr__(self, name: str) -> None:
        store = self.__dict__
        for kind in ("_parameters", "_buffers", "_modules"):
            if name in store.get(kind, ()):
                del store[kind][name]
                store["_non_persistent_buffers_set"].discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        names = {*dir(type(self)), *self.__dict__, *self._parameters, *self._buffers, *self._modules}
        return sorted(n for n in names if not n[:1].isdigit())

    def _check_name(self, what: str, name: str, members: dict) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{what} name should be a string. Got {_type_of(name)}")
        if "." in name:
            raise KeyError(f"{what} name can't contain \".\"" + (f", got: {name}" if what == "module" else ""))
        if name == "":
            raise KeyError(f"{what} name can't be empty string \"\"")
        if hasattr(self, name) and name not in members:
            raise KeyError(f"attribute '{name}' already exists")

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter under a name; None reserves the name."""
        members = self._members("_parameters", "parameters")
        self._check_name("parameter", name, members)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(f"cannot assign '{_type_of(param)}' object to parameter '{name}' "
                            "(engine.nn.Parameter or None required)")
        if param is not None and param.grad_fn is not None:
            raise ValueError(f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must be created "
                             "explicitly.")
        members[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is part of the state but no parameter; only persistent ones enter the state dict."""
        members = self._members("_buffers", "buffer")
        self._check_name("buffer", name, members)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"cannot assign '{_type_of(tensor)}' object to buffer '{name}' (engine.Tensor or None required)")
        members[name] = tensor
        (self._non_persistent_buffers_set.discard if persistent else self._non_persistent_buffers_set.add)(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a submodule under a name."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{_type_of(module)} is not a Module subclass")
        members = self._members("_modules", "module")
        self._check_name("module", name, members)
        members[name] = module

    register_module = add_module

    # --- walking ------------------------------------------------------------------------------------------------------

    def named_modules(self, memo: set | None = None, prefix: str = "",
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

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        for _, module in self.named_modules():
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules one level below, each once."""
        seen: set = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        """The modules one level below."""
        for _, module in self.named_children():
            yield module

    def _named_tensors(self, kind: str, prefix: str, recurse: bool, remove_duplicate: bool) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for where, module in modules:
            for name, tensor in module.__dict__[kind].items():
                if tensor is None or id(tensor) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(tensor))
                yield _nested(where, name), tensor

    def named_parameters(self, prefix: str = "", recurse: bool = True,
                         remove_duplicate: bool = True) -> Iterator[tuple[str, Parameter]]:
        """Parameters with dotted names, each once."""
        return self._named_tensors("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Parameters, each once: what an optimizer takes."""
        for _, p in self.named_parameters(recurse=recurse):
            yield p

    def named_buffers(self, prefix: str = "", recurse: bool = True,
                      remove_duplicate: bool = True) -> Iterator[tuple[str, Tensor]]:
        """Buffers with dotted names, each once."""
        return self._named_tensors("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Buffers, each once."""
        for _, b in self.named_buffers(recurse=recurse):
            yield b

    def get_submodule(self, target: str) -> Module:
        """The module of a dotted name; AttributeError where there is none."""
        module = self
        for name in target.split(".") if target else ():
            found = getattr(module, name, None)
            if found is None:
                raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
            if not isinstance(found, Module):
                raise AttributeError(f"`{name}` is not an nn.Module")
            module = found
        return module

    def _get(self, target: str, kind: str, what: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
        if name not in module.__dict__[kind]:
            raise AttributeError(f"`{name}` is not {what}")
        return module.__dict__[kind][name]

    def get_parameter(self, target: str) -> Parameter:
        """The parameter of a dotted name; AttributeError where there is none."""
        return self._get(target, "_parameters", "an nn.Parameter")

    def get_buffer(self, target: str) -> Tensor:
        """The buffer of a dotted name; AttributeError where there is none."""
        return self._get(target, "_buffers", "a buffer")

    # --- changing all of it -------------------------------------------------------------------------------------------

    def apply(self, fn: Callable[[Module], Any]) -> Module:
        """Call `fn` on every module, the innermost first."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def train(self, mode: bool = True) -> Module:
        """Set training mode here and below."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self) -> Module:
        """Leave training mode here and below."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Record operations on the parameters, or stop."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or set them to zero in place."""
        for p in self.parameters():
            if p._grad is not None:
                if set_to_none:
                    p._grad = None
                else:
                    p._grad = p._grad.detach().zero_()

    def _apply(self, fn: Callable[[Tensor], Tensor]) -> Module:
        """Replace the data of every parameter, gradient and buffer; parameters stay the same objects."""
        for module in self.children():
            module._apply(fn)
        with no_grad():
            for p in self._parameters.values():
                if p is not None:
                    p.data = fn(p.data)
                    if p._grad is not None:
                        p._grad = fn(p._grad)
            for name, b in self._buffers.items():
                if b is not None:
                    self._buffers[name] = fn(b)
        return self

    def to(self, *args: Any, **options: Any) -> Module:
        """Move to a device and (floating and complex tensors) to a dtype: `to(device)`, `to(dtype)`, `to(device, dtype)`."""
        from ..dtypes import dtype as Dtype
        dtype, device = options.pop("dtype", None), options.pop("device", None)
        options.pop("non_blocking", None)
        if options:
            raise TypeError(f"to() got an unexpected keyword argument '{next(iter(options))}'")
        for a in args:
            if isinstance(a, Tensor):
                dtype, device = a.dtype, a.device
            elif isinstance(a, Dtype):
                dtype = a
            elif not isinstance(a, bool):           # a bool is `non_blocking`
                device = a
        if dtype is not None and not (dtype.is_floating_point or dtype.is_complex):
            raise TypeError(f"nn.Module.to only accepts floating point or complex dtypes, but got desired dtype={dtype}")

        def convert(t: Tensor) -> Tensor:
            wanted = {} if device is None else {"device": device}
            if dtype is not None and (t.is_floating_point() or t.is_complex()):
                wanted["dtype"] = dtype
            return t.to(**wanted) if wanted else t
        return self._apply(convert)

    def cpu(self) -> Module:
        """Move to the CPU."""
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Module:
        """Move to a CUDA device."""
        return self.to("cuda" if device is None else f"cuda:{device}" if isinstance(device, int) else device)

    def float(self) -> Module:
        """Floating tensors become float32."""
        return self._apply(lambda t: t.float() if t.is_floating_point() else t)

    def double(self) -> Module:
        """Floating tensors become float64."""
        return self._apply(lambda t: t.double() if t.is_floating_point() else t)

    def half(self) -> Module:
        """Floating tensors become float16."""
        return self._apply(lambda t: t.half() if t.is_floating_point() else t)

    # --- state dicts --------------------------------------------------------------------------------------------------

    def state_dict(self, *, destination: dict | None = None, prefix: str = "", keep_vars: bool = False) -> dict[str, Any]:
        """Parameters and persistent buffers by dotted name, sharing memory with the module; detached unless `keep_vars`."""
        found = OrderedDict() if destination is None else destination
        for name, tensor in (*self._parameters.items(), *self._buffers.items()):
            if tensor is not None and name not in self._non_persistent_buffers_set:
                found[prefix + name] = tensor if keep_vars else tensor.detach()
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=found, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        return found

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> IncompatibleKeys:
        """Copy values by name into this module (`assign`: take the tensors themselves).

        Errors: RuntimeError for other shapes, and where `strict`, for missing and unexpected names; all are listed at once.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        own = self.state_dict(keep_vars=True)
        missing = [k for k in own if k not in state_dict]
        unexpected = [k for k in state_dict if k not in own]
        faults = []
        if strict and unexpected:
            faults.append("Unexpected key(s) in state_dict: " + ", ".join(f'"{k}"' for k in unexpected) + ". ")
        if strict and missing:
            faults.insert(0, "Missing key(s) in state_dict: " + ", ".join(f'"{k}"' for k in missing) + ". ")
        for name, tensor in own.items():
            if name not in state_dict:
                continue
            value = state_dict[name]
            if not isinstance(value, Tensor):
                faults.append(f'While copying the parameter named "{name}", expected engine.Tensor or Tensor-like object from '
                              f"checkpoint but received {type(value)}")
            elif value.shape != tensor.shape:
                faults.append(f"size mismatch for {name}: copying a param with shape {value.shape} from checkpoint, the shape "
                              f"in current model is {tensor.shape}.")
            elif assign:
                self._assign(name, tensor, value)
            else:
                with no_grad():
                    tensor.copy_(value)
        if faults:
            raise RuntimeError(f"Error(s) in loading state_dict for {type(self).__name__}:\n\t" + "\n\t".join(faults))
        return IncompatibleKeys(missing, unexpected)

    def _assign(self, name: str, old: Tensor, value: Tensor) -> None:
        path, _, last = name.rpartition(".")
        module = self.get_submodule(path)
        if isinstance(old, Parameter) and not isinstance(value, Parameter):
            value = Parameter(value, requires_grad=old.requires_grad)
        setattr(module, last, value)

    # --- hooks and printing -------------------------------------------------------------------------------------------

    def register_forward_pre_hook(self, hook: Callable) -> Removable:
        """Call `hook(module, inputs)` before forward; what it returns replaces the inputs."""
        return Removable(self._forward_pre_hooks, hook)

    def register_forward_hook(self, hook: Callable) -> Removable:
        """Call `hook(module, inputs, result)` after forward; what it returns replaces the result."""
        return Removable(self._forward_hooks, hook)

    def extra_repr(self) -> str:
        """What a layer shows of itself between its brackets."""
        return ""

    def __repr__(self) -> str:
        extra = [line for line in self.extra_repr().split("\n") if line]
        children = [f"({name}): " + repr(module).replace("\n", "\n  ") for name, module in self._modules.items()]
        if not children and len(extra) <= 1:
            return f"{type(self).__name__}({''.join(extra)})"
        return f"{type(self).__name__}(\n  " + "\n  ".join(extra + children) + "\n)"


def _type_of(value: Any) -> str:
    return value.type() if isinstance(value, Tensor) else type(value).__name__
