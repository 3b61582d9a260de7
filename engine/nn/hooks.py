"""Hooks of modules: what runs before and after `forward`, and on the gradients that pass a module in the backward walk.

`Hooks` is a base of Module (module.py); `run` is the slow way of calling a module, taken as soon as any hook is there. Hooks for
all modules at once are the functions `register_module_*`, published by `engine.nn.modules.module`.
Hooks of state dicts are in `state.py`. Calls and errors are PyTorch's.
"""
from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from ..autograd.function import Function
from ..functions.factories import zeros
from ..tape import Removable, modes
from ..tensor import Tensor

_MIXED = ("Cannot use both regular backward hooks and full backward hooks on a single Module. Please use only one of them.")


class Handle(Removable):
    """A hook's handle that also takes the notes on the hook away."""

    __slots__ = ("notes",)

    def __init__(self, hooks: dict, hook: Callable, prepend: bool = False, notes: dict[str, dict] | None = None):
        super().__init__(hooks, hook)
        self.notes = [] if notes is None else list(notes.values())
        for note in self.notes:
            note[self.id] = True
        if prepend:
            others = {k: h for k, h in hooks.items() if k != self.id}
            for k in others:
                del hooks[k]
            hooks.update(others)

    def remove(self) -> None:
        super().remove()
        for note in self.notes:
            note.pop(self.id, None)


class AllModules:
    """Hooks that every module runs, and whether there are any: one truth value to look at in a call."""

    def __init__(self) -> None:
        self.forward_pre: dict[int, Callable] = {}
        self.forward: dict[int, Callable] = {}
        self.backward_pre: dict[int, Callable] = {}
        self.backward: dict[int, Callable] = {}
        self.with_kwargs: dict[int, bool] = {}
        self.always_called: dict[int, bool] = {}
        self.full_backward: bool | None = None
        self.parameter_registration: dict[int, Callable] = {}
        self.buffer_registration: dict[int, Callable] = {}
        self.module_registration: dict[int, Callable] = {}

    def __bool__(self) -> bool:
        return bool(self.forward or self.forward_pre or self.backward or self.backward_pre)


EVERY = AllModules()


def registered(hooks: dict[int, Callable], module: Any, name: str, value: Any) -> Any:
    """What registration hooks make of a value about to be registered."""
    for hook in hooks.values():
        answer = hook(module, name, value)
        if answer is not None:
            value = answer
    return value


# --- for all modules --------------------------------------------------------------------------------------------------

def register_module_forward_pre_hook(hook: Callable[..., Any | None]) -> Removable:
    """Call `hook(module, args)` before the forward of every module."""
    return Handle(EVERY.forward_pre, hook)


def register_module_forward_hook(hook: Callable[..., Any | None], *, with_kwargs: bool = False,
                                 always_call: bool = False) -> Removable:
    """Call `hook(module, args, output)` after the forward of every module."""
    return Handle(EVERY.forward, hook, notes=_notes(EVERY.with_kwargs if with_kwargs else None,
                                                    EVERY.always_called if always_call else None))


def register_module_full_backward_pre_hook(hook: Callable[..., Any | None]) -> Removable:
    """Call `hook(module, grad_output)` before the gradients pass any module."""
    return Handle(EVERY.backward_pre, hook)


def register_module_full_backward_hook(hook: Callable[..., Any | None]) -> Removable:
    """Call `hook(module, grad_input, grad_output)` after the gradients passed any module."""
    if EVERY.full_backward is False:
        raise RuntimeError(_MIXED.replace("on a single Module", "as a global Module hook"))
    EVERY.full_backward = True
    return Handle(EVERY.backward, hook)


def register_module_backward_hook(hook: Callable[..., Any | None]) -> Removable:
    """PyTorch's older form: `hook(module, grad_input, grad_output)` on the node that made the output of any module."""
    if EVERY.full_backward is True:
        raise RuntimeError(_MIXED.replace("on a single Module", "as a global Module hook"))
    EVERY.full_backward = False
    return Handle(EVERY.backward, hook)


def register_module_parameter_registration_hook(hook: Callable[..., Any | None]) -> Removable:
    """Call `hook(module, name, parameter)` before a parameter is registered; what it returns is registered instead."""
    return Handle(EVERY.parameter_registration, hook)


def register_module_buffer_registration_hook(hook: Callable[..., Any | None]) -> Removable:
    """Call `hook(module, name, buffer)` before a buffer is registered; what it returns is registered instead."""
    return Handle(EVERY.buffer_registration, hook)


def register_module_module_registration_hook(hook: Callable[..., Any | None]) -> Removable:
    """Call `hook(module, name, submodule)` before a submodule is registered; what it returns is registered instead."""
    return Handle(EVERY.module_registration, hook)


def _notes(*kept: dict | None) -> dict[str, dict]:
    return {str(k): note for k, note in enumerate(kept) if note is not None}


# --- of one module ----------------------------------------------------------------------------------------------------

class Hooks:
    """What Module knows of its own hooks. Each method returns a handle whose `remove()` takes the hook away."""

    def register_forward_pre_hook(self, hook: Callable[..., Any | None], *, prepend: bool = False,
                                  with_kwargs: bool = False) -> Removable:
        """Call `hook(module, args)` before forward; what it returns replaces the arguments.

        `with_kwargs`: `hook(module, args, kwargs)`, which returns None or (args, kwargs). `prepend`: before the other hooks.
        """
        return Handle(self._forward_pre_hooks, hook, prepend,
                      _notes(self._forward_pre_hooks_with_kwargs if with_kwargs else None))

    def register_forward_hook(self, hook: Callable[..., Any | None], *, prepend: bool = False, with_kwargs: bool = False,
                              always_call: bool = False) -> Removable:
        """Call `hook(module, args, output)` after forward; what it returns replaces the output.

        `with_kwargs`: `hook(module, args, kwargs, output)`. `always_call`: also when forward raised, with output None.
        """
        return Handle(self._forward_hooks, hook, prepend,
                      _notes(self._forward_hooks_with_kwargs if with_kwargs else None,
                             self._forward_hooks_always_called if always_call else None))

    def register_full_backward_pre_hook(self, hook: Callable[..., Any | None], prepend: bool = False) -> Removable:
        """Call `hook(module, grad_output)` before the gradients pass the module; what it returns replaces them."""
        return Handle(self._backward_pre_hooks, hook, prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any | None], prepend: bool = False) -> Removable:
        """Call `hook(module, grad_input, grad_output)` once the inputs' gradients are known; what it returns replaces them."""
        if self._is_full_backward_hook is False:
            raise RuntimeError(_MIXED)
        self._is_full_backward_hook = True
        return Handle(self._backward_hooks, hook, prepend)

    def register_backward_hook(self, hook: Callable[..., Any | None]) -> Removable:
        """PyTorch's older form: `hook(module, grad_input, grad_output)` of the one node that made the output."""
        if self._is_full_backward_hook is True:
            raise RuntimeError(_MIXED)
        self._is_full_backward_hook = False
        return Handle(self._backward_hooks, hook)

    def _backward_hooks_of(self, full: bool) -> list[Callable]:
        """Hooks for all modules, then its own, of one form."""
        return [*(EVERY.backward.values() if EVERY.full_backward is full else ()),
                *(self._backward_hooks.values() if self._is_full_backward_hook is full else ())]


# --- calling a module that has hooks ----------------------------------------------------------------------------------

def run(module: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Call a module with all its hooks. After an error, forward hooks that asked to be called always still are."""
    called: set[int] = set()
    progress: dict[str, Any] = {"args": args, "kwargs": kwargs, "result": None}
    try:
        return _run(module, progress, called)
    except Exception:
        _call_always(module, progress, called)
        raise


def _run(module: Any, progress: dict[str, Any], called: set[int]) -> Any:
    args, kwargs = _before(module, progress["args"], progress["kwargs"])
    full, pre = module._backward_hooks_of(True), [*EVERY.backward_pre.values(), *module._backward_pre_hooks.values()]
    around = None
    if full or pre:
        around = Around(module, full, pre)
        args = around.inputs(args)
    progress["args"], progress["kwargs"] = args, kwargs
    result = progress["result"] = module.forward(*args, **kwargs)
    for number, hook, with_kwargs, always in _forward_hooks(module):
        if always:
            called.add(number)
        answer = hook(module, args, kwargs, result) if with_kwargs else hook(module, args, result)
        if answer is not None:
            result = progress["result"] = answer
    if around is not None:
        if not isinstance(result, (Tensor, tuple)):
            warnings.warn("For backward hooks to be called, module output should be a Tensor or a tuple of Tensors but "
                          f"received {type(result)}", stacklevel=4)
        result = around.outputs(result)
    older = module._backward_hooks_of(False)
    if older:
        _hang_on_node(module, result, older)
    return result


def _before(module: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """The arguments after all forward pre-hooks."""
    for number, hook in [*EVERY.forward_pre.items(), *module._forward_pre_hooks.items()]:
        if number in module._forward_pre_hooks_with_kwargs:
            answer = hook(module, args, kwargs)
            if answer is None:
                continue
            if not isinstance(answer, tuple) or len(answer) != 2:
                raise RuntimeError(f"forward pre-hook must return None or a tuple of (new_args, new_kwargs), but got {answer}.")
            args, kwargs = answer
        else:
            answer = hook(module, args)
            if answer is not None:
                args = answer if isinstance(answer, tuple) else (answer,)
    return args, kwargs


def _forward_hooks(module: Any) -> list[tuple[int, Callable, bool, bool]]:
    """(number, hook, whether it wants keywords, whether it is always called), those of all modules first."""
    return [*((n, h, n in EVERY.with_kwargs, n in EVERY.always_called) for n, h in EVERY.forward.items()),
            *((n, h, n in module._forward_hooks_with_kwargs, n in module._forward_hooks_always_called)
              for n, h in module._forward_hooks.items())]


def _call_always(module: Any, progress: dict[str, Any], called: set[int]) -> None:
    """After an error: the hooks that are always called and were not yet. What they raise becomes a warning."""
    for number, hook, with_kwargs, always in _forward_hooks(module):
        if not always or number in called:
            continue
        args, result = progress["args"], progress["result"]
        try:
            answer = hook(module, args, progress["kwargs"], result) if with_kwargs else hook(module, args, result)
        except Exception as error:
            whose = "global module" if number in EVERY.forward else "module"
            warnings.warn(f"{whose} forward hook with ``always_call=True`` raised an exception that was silenced as another error "
                          f"was raised in forward: {error}", stacklevel=4)
            continue
        if answer is not None:
            progress["result"] = answer


def _hang_on_node(module: Any, result: Any, hooks: list[Callable]) -> None:
    """The older backward hooks: on the node of the first tensor in the output."""
    found = result
    while not isinstance(found, Tensor):
        found = next(v for v in found.values() if isinstance(v, Tensor)) if isinstance(found, dict) else found[0]
    node = found.grad_fn
    if node is None:
        return
    for hook in hooks:
        node.register_hook(lambda grad_input, grad_output, hook=hook: hook(module, grad_input, grad_output))


# --- full backward hooks ----------------------------------------------------------------------------------------------

class BackwardHookFunction(Function):
    """The identity of several tensors: a node at the edge of a module, to hang hooks on."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.mark_non_differentiable(*[t for t in tensors if not t.requires_grad])
        return tensors

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return gradients


class Around:
    """One call of a module with full backward hooks: identity nodes around it catch the gradients on both sides."""

    def __init__(self, module: Any, hooks: list[Callable], pre_hooks: list[Callable]):
        self.module, self.hooks, self.pre_hooks = module, hooks, pre_hooks
        self.grad_outputs: tuple | None = None      # between the two sides of one backward walk
        self.count = 0                              # of arguments
        self.at: list[int] | None = None            # which arguments are tensors; None where none requires grad
        self.sizes: tuple = ()                      # (shape, kind) of those

    def inputs(self, args: tuple) -> tuple:
        """The arguments behind an identity node."""
        self.count = len(args)
        args, self.at, node = _identity(args)
        if node is not None:
            self.sizes = node._inputs
            node.register_hook(self._leave)
        return args

    def outputs(self, result: Any) -> Any:
        """The results behind an identity node."""
        results = result if isinstance(result, tuple) else (result,)
        size = len(results)
        results, at, node = _identity(results)
        if node is not None:
            node.register_hook(lambda _, grad_output: self._enter(at, size, grad_output))
        return results if isinstance(result, tuple) else results[0]

    def _enter(self, at: list[int], size: int, grad_output: tuple) -> tuple | None:
        """Gradients arrive at the module's results."""
        gradients = _spread(at, grad_output, size)
        for hook in self.pre_hooks:
            answer = hook(self.module, gradients)
            if answer is None:
                continue
            if not isinstance(answer, tuple):
                answer = (answer,)
            if len(answer) != size:
                raise RuntimeError(f"Backward pre hook returned an invalid number of grad_output, got {len(answer)}, but expected "
                                   f"{size}")
            gradients = answer
        self.grad_outputs = gradients
        if self.at is None:                 # no argument requires grad, so nothing will arrive there
            warnings.warn("Full backward hook is firing when gradients are computed with respect to module outputs since no "
                          "inputs require gradients.", stacklevel=5)
            for hook in self.hooks:
                answer = hook(self.module, (None,) * self.count, gradients)
                if answer is not None and not (isinstance(answer, tuple) and all(a is None for a in answer)):
                    raise RuntimeError("Backward hook for Modules where no input requires gradient should always return None or "
                                       "None for all gradients.")
            self.grad_outputs = None
        return tuple(gradients[k] for k in at)

    def _leave(self, grad_input: tuple, _: tuple) -> tuple | None:
        """Gradients leave by the module's arguments."""
        if self.grad_outputs is None:       # the results were not part of this walk
            return None
        given = [zeros(shape, dtype=kind.dtype) if g is None else g
                 for g, (shape, kind) in zip(grad_input, self.sizes, strict=True)]
        gradients = _spread(self.at, given, self.count)
        for hook in self.hooks:
            answer = hook(self.module, gradients, self.grad_outputs)
            if answer is None:
                continue
            if not isinstance(answer, tuple):
                answer = (answer,)
            if len(answer) != self.count:
                raise RuntimeError(f"Backward hook returned an invalid number of grad_input, got {len(answer)}, but expected "
                                   f"{self.count}")
            gradients = answer
        self.grad_outputs = None
        return tuple(gradients[k] for k in self.at)


def _identity(values: tuple) -> tuple[tuple, list[int] | None, Any]:
    """Values with their tensors behind one identity node, which values are tensors, and the node; unchanged without gradients."""
    at = [k for k, v in enumerate(values) if isinstance(v, Tensor)]
    if not modes.enabled or not any(values[k].requires_grad for k in at):
        return values, None, None
    made = BackwardHookFunction.apply(*[values[k] for k in at])
    changed = list(values)
    for k, tensor in zip(at, made, strict=True):
        changed[k] = tensor
    node = next(t.grad_fn for t in made if t.grad_fn is not None)
    return (tuple(changed) if type(values) is tuple else type(values)(*changed)), at, node


def _spread(at: list[int], values: Sequence, size: int) -> tuple:
    """Values at their places, None elsewhere."""
    found: list[Any] = [None] * size
    for k, value in zip(at, values, strict=True):
        found[k] = value
    return tuple(found)


__all__ = [
    "register_module_backward_hook", "register_module_buffer_registration_hook", "register_module_forward_hook",
    "register_module_forward_pre_hook", "register_module_full_backward_hook", "register_module_full_backward_pre_hook",
    "register_module_module_registration_hook", "register_module_parameter_registration_hook",
]
