"""Custom differentiable functions: `Function` with its `forward`, `setup_context` and `backward`.

`ctx` is the node of the tape itself, an instance of a class named CubeBackward for a Function named Cube, so what the user
puts on it lives as long as the graph. `apply` runs the forward unrecorded and gives its results their history.
"""
from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import dispatch, inference, tape
from ..errors import GradError
from ..saved import Packed, hooks
from ..tape import Branch, Node, clock, edge_of, modes, modes_used, rebase
from ..tensor import Tensor, View, shared_counter, wrap

_STATIC = ("Legacy autograd function with non-static forward method is deprecated. Please use new-style autograd function "
           "with static forward method. (Example: https://pytorch.org/docs/stable/autograd.html#torch.autograd.Function)")


class FunctionCtx(Node):
    """What forward and backward share; the node of the tape at the same time."""

    materialize_grads = True
    non_differentiable: tuple = ()
    dirty_tensors: tuple = ()
    to_save: tuple = ()
    needs_input_grad: tuple[bool, ...] = ()
    results = 1
    _forward_cls: type
    _kept: Any = ()         # per saved tensor: None, or (tensor, number of the result that it is or None, version, its node)
    _inputs: tuple = ()     # per tensor argument: shape and kind
    _slots: tuple = ()      # for each edge the number of its argument
    _shapes: tuple = ()     # shape and kind of each result

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep tensors (inputs, results or others; None too) for backward, which finds them in `saved_tensors`."""
        self.to_save = tensors

    def save_for_forward(self, *tensors: Any) -> None:
        """Keep tensors for a forward-mode formula."""
        self.saved_for_forward = tensors

    def mark_dirty(self, *tensors: Any) -> None:
        """Say that inputs were written in place; they must be returned."""
        self.dirty_tensors = tensors

    def mark_non_differentiable(self, *tensors: Any) -> None:
        """Say that results have no gradient."""
        self.non_differentiable = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Whether backward gets zeros (default) or None for results that were not used."""
        self.materialize_grads = value

    @property
    def saved_tensors(self) -> tuple:
        """What `save_for_backward` was given. GradError after the graph was freed, or if a tensor was written since."""
        if self._kept is dispatch.FREED:
            raise GradError(dispatch.FREED_TEXT)
        found = []
        for kept in self._kept:
            if kept is None:
                found.append(None)
                continue
            if kept.__class__ is Packed:
                found.append(kept.tensor(0))
                continue
            tensor, result, version, edge = kept
            if tensor._version != version:
                raise dispatch.overwritten(tensor, self if result is not None else edge, tensor._version, version)
            if result is not None:
                tensor = dispatch.alias(tensor)
                tensor._node, tensor._needs = (self if self.results == 1 else Branch(self, result)), True
            found.append(tensor)
        return tuple(found)

    saved_variables = saved_tensors

    # --- as a node of the tape ----------------------------------------------------------------------------------------

    def backward(self, g: Tensor) -> Any:
        gradients = g if self.results > 1 else [g]
        if self.materialize_grads:
            gradients = [_zeros(*about) if g is None and about[1] is not None else g
                         for g, about in zip(gradients, self._shapes, strict=True)]
        answer = self._formula()(self, *gradients)
        return self._checked(answer if isinstance(answer, tuple) else (answer,))

    def _formula(self) -> Callable:
        cls = self._forward_cls
        own, vjp = cls.backward is not Function.backward, cls.vjp is not Function.vjp
        if own and vjp:
            raise RuntimeError("Implementing both 'backward' and 'vjp' for a custom Function is not allowed. You should "
                               "only implement one of them.")
        return cls.vjp if vjp else cls.backward

    def _checked(self, answer: tuple) -> list:
        """One gradient per edge; extra ones must be None, and shapes and dtypes those of the inputs."""
        name, count = type(self).__name__, len(self.needs_input_grad)
        given = len(answer)
        while given > count and answer[given - 1] is None:
            given -= 1
        if given != count:
            raise GradError(f"function {name} returned an incorrect number of gradients (expected {count}, got {given})")
        for k in range(count):
            if k not in self._slots and answer[k] is not None:
                raise GradError(f"function {name} returned a gradient different than None at position {k + 1}, but the "
                                "corresponding forward input was not a Variable")
        return [self._fitted(answer[k], n) if edge is not None else None
                for n, (k, edge) in enumerate(zip(self._slots, self.edges, strict=True))]

    def _fitted(self, g, n: int):
        if g is None:
            return None
        if not isinstance(g, Tensor):
            raise GradError(f"expected Variable or None (got {type(g).__name__})")
        shape, kind = self._inputs[n]
        if g._array.shape != shape:
            have = g._array.shape
            lead = len(have) - len(shape)
            if lead < 0 or any(n != m and m != 1 for n, m in zip(have[lead:], shape, strict=True)):
                raise GradError(f"Function {type(self).__name__} returned an invalid gradient at index {n} - got "
                                f"{list(have)} but expected shape compatible with {list(shape)}")
            g = dispatch.sum_to_shape(g, shape)
        if g._kind is not kind:
            if g._kind.dtype.is_complex != kind.dtype.is_complex and g._kind.dtype.category >= 2 and kind.dtype.category >= 2:
                raise GradError(f"Function {type(self).__name__} returned a gradient of dtype {g.dtype} at index {n}, but "
                                "the input is "
                                f"{kind.dtype}; real inputs have real gradients and complex inputs complex ones")
            g = dispatch.cast(g, kind)
        return g

    def release(self) -> None:
        self._kept = dispatch.FREED


class BackwardCFunction(FunctionCtx):
    """Base of the node classes that Functions get."""

    def apply(self, *gradients: Any) -> Any:
        """Run the backward formula by hand."""
        return self._formula()(self, *gradients)


def _zeros(shape, kind) -> Tensor:
    return wrap(np.zeros(shape, kind.numpy), kind)


class _FunctionMeta(type):
    """Gives each Function its node class."""

    def __init__(cls, name, bases, attributes):
        cls._backward_cls = type(f"{name}Backward", (BackwardCFunction,), {"_forward_cls": cls, "__module__": __name__})
        super().__init__(name, bases, attributes)


class Function(metaclass=_FunctionMeta):
    """Base of custom differentiable functions.

    A subclass has static methods `forward(ctx, *args)`, or `forward(*args)` with `setup_context(ctx, inputs, output)`, and
    `backward(ctx, *grad_outputs)`, which returns one gradient (or None) per argument of forward. Call it as `Cube.apply(x)`.
    """

    generate_vmap_rule = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        warnings.warn(f"{type(self)} should not be instantiated. Methods on autograd functions are all static, so you "
                      "should invoke them "
                      "on the class itself. Instantiating an autograd function will raise an error in a future version of "
                      "PyTorch.",
                      DeprecationWarning, stacklevel=2)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(_STATIC)

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """The value; NotImplementedError unless a subclass has it."""
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> Any:
        """What to keep for backward, where `forward` takes no ctx."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """The gradients of the arguments; NotImplementedError unless a subclass has it."""
        raise NotImplementedError("You must implement either the backward or vjp method for your custom autograd.Function "
                                  "to use it with backward mode AD.")

    @staticmethod
    def vjp(ctx: Any, *grad_outputs: Any) -> Any:
        """Another name for `backward`; a subclass has one of them."""
        return Function.backward(ctx, *grad_outputs)

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Any) -> Any:
        """The forward-mode formula; NotImplementedError unless a subclass has it."""
        raise NotImplementedError("You must implement the jvp function for custom autograd.Function to use it with forward "
                                  "mode AD.")

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Run forward unrecorded and record the whole as one node."""
        if kwargs:
            args = _bound(cls, args, kwargs)
        ctx = cls._backward_cls()
        ctx.hooks, ctx.edges = None, ()
        tensors = [(k, a) for k, a in enumerate(args) if isinstance(a, Tensor)]
        recording = modes.enabled
        edges = tuple(edge_of(a) for _, a in tensors)
        needed = {k for (k, _), edge in zip(tensors, edges, strict=True) if edge is not None}
        ctx.needs_input_grad = tuple(k in needed for k in range(len(args)))
        ctx._slots = tuple(k for k, _ in tensors)
        ctx._inputs = tuple((a._array.shape, a._kind) for _, a in tensors)
        modes.enabled = False
        try:
            if cls.setup_context is not Function.setup_context:
                output = cls.forward(*args)
                cls.setup_context(ctx, args, output)
            else:
                output = cls.forward(ctx, *args)
        finally:
            modes.enabled = recording
        ctx.order = next(clock)
        return _record(ctx, output, [a for _, a in tensors], edges, recording and bool(needed))


def _bound(cls, args, kwargs) -> tuple:
    """Keyword arguments of forward in their places."""
    import inspect
    forward, with_ctx = cls.forward, cls.setup_context is Function.setup_context
    bound = inspect.signature(forward).bind(*((None,) if with_ctx else ()), *args, **kwargs)
    bound.apply_defaults()
    return bound.args[1:] if with_ctx else bound.args


def _record(ctx: FunctionCtx, output, inputs: list, edges: tuple, recording: bool):
    """Give the results of forward their history, and settle what was saved."""
    several = isinstance(output, tuple)
    raw = list(output) if several else [output]
    for t in ctx.dirty_tensors:
        if not any(t is r for r in raw):
            raise GradError("Some elements marked as dirty during the forward method were not returned as output. The "
                            "inputs that are modified inplace must all be outputs of the Function.")
        if not any(t is i for i in inputs):
            warnings.warn("ctx.mark_dirty() received a tensor that was not an input. Only input Tensors that have been "
                          "mutated should be passed to ctx.mark_dirty().", UserWarning, stacklevel=3)
    ctx.edges, ctx.results = edges, len(raw)
    ctx._shapes = tuple((r._array.shape, r._kind) if isinstance(r, Tensor) else ((), None) for r in raw)
    made = []
    for k, r in enumerate(raw):
        if isinstance(r, Tensor):
            differentiable = recording and r._kind.dtype.category >= 2 and not any(r is t for t in ctx.non_differentiable)
            dirty = any(r is t for t in ctx.dirty_tensors)
            r = _result(ctx, k, r, inputs, dirty, differentiable)
        made.append(r)
    ctx._kept = tuple(_kept(k, t, made, recording) for k, t in enumerate(ctx.to_save))
    ctx.to_save = ctx.dirty_tensors = ctx.non_differentiable = ()
    return tuple(made) if several else made[0]


def _result(ctx: FunctionCtx, k: int, r: Tensor, inputs: list, dirty: bool, differentiable: bool) -> Tensor:
    """The k-th result of forward with its history."""
    edge = Branch(ctx, k) if ctx.results > 1 else ctx
    given = any(r is i for i in inputs)
    if given and dirty:                 # written in place: the same tensor goes on with a new history
        if differentiable:
            if r._needs and edge_of(r) is r and r._view is None:
                raise GradError("a leaf Variable that requires grad has been used in an in-place operation.")
            tape.check_inplace(r)
            rebase(r, edge)
        return r
    if given:                           # returned as it is: the same memory, another tensor
        parent, r = r, wrap(r._array, r._kind)
        r._counter, r._view = shared_counter(parent), View(parent, None, {}, True)
    elif r._view is not None and differentiable:
        r._view = View(r._view.parent, None, {}, True)
    if differentiable:
        r._node, r._needs = edge, True
    return r


def _kept(k: int, t, made: list, recording: bool):
    """How one tensor is kept for backward: results without their history, which would close a cycle."""
    if t is None:
        return None
    if not isinstance(t, Tensor):
        raise TypeError(f"save_for_backward can only save variables, but argument {k} is of type {type(t).__name__}")
    if modes_used.inference and recording and t.is_inference():
        inference.refuse_saving(t)
    if hooks.stack and recording:
        return Packed(t, *hooks.stack[-1])
    for number, r in enumerate(made):
        if r is t and recording and r._needs and r._node is not None:
            return dispatch.alias(t), number, t._version, None
    return t, None, t._version, t._node


class DelayedError(Node):
    """Node of a gradient that cannot be differentiated again."""

    __slots__ = ("text",)

    def backward(self, g: Tensor) -> Any:
        raise GradError(self.text)


def once_differentiable(backward: Callable) -> Callable:
    """Decorator of `backward` where its own derivative is not provided: a second derivative is an error, not a wrong number."""
    @functools.wraps(backward)
    def wrapper(ctx, *gradients):
        recording = modes.enabled
        modes.enabled = False
        try:
            answer = backward(ctx, *gradients)
        finally:
            modes.enabled = recording
        if not recording or not any(isinstance(g, Tensor) and g.requires_grad for g in gradients):
            return answer
        results = answer if isinstance(answer, tuple) else (answer,)
        node = DelayedError()
        node.edges = tuple(edge_of(g) for g in gradients if isinstance(g, Tensor))
        node.hooks, node.order = None, next(clock)
        node.text = "trying to differentiate twice a function that was marked with @once_differentiable"
        results = tuple(_with_node(r, node) if isinstance(r, Tensor) else r for r in results)
        return results if isinstance(answer, tuple) else results[0]
    return wrapper


def _with_node(tensor: Tensor, node: Node) -> Tensor:
    made = dispatch.alias(tensor)
    made._node, made._needs = node, True
    return made
