"""Derivatives of functions of tensors or tuples of tensors, as `torch.autograd.functional` has them; built on `engine.func`.

Arguments and results are tensors or tuples of tensors. With `create_graph` results can be differentiated again, otherwise
they have no history. `strict` refuses, with a RuntimeError, inputs that an output (in second derivatives, a gradient) does not
depend on.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import func as transforms
from ..functions.registry import PUBLIC
from ..tensor import Tensor
from ..walk import grad as gradient
from .modes import enable_grad

Tensors = Tensor | tuple[Tensor, ...]


def _tuple(name: str, value: Any, what: str) -> tuple:
    result = (value,) if isinstance(value, Tensor) else tuple(value) if isinstance(value, (tuple, list)) else (value,)
    for k, t in enumerate(result):
        if not isinstance(t, Tensor):
            raise TypeError(f"The {what} given to {name} must be either a Tensor or a tuple of Tensors but the value at index {k} "
                            f"has type {type(t)}.")
    return result


def _like(given: Any, parts: tuple) -> Any:
    return parts[0] if isinstance(given, Tensor) else parts


def _plain(value: Any, create_graph: bool) -> Any:
    if isinstance(value, tuple):
        return tuple(_plain(v, create_graph) for v in value)
    return value if create_graph or not value.requires_grad else value.detach()


def _inputs(name: str, inputs: Any, create_graph: bool) -> tuple:
    return tuple(t if create_graph else t.detach() for t in _tuple(name, inputs, "inputs"))


def _checked(name: str, func: Callable) -> Callable:
    """The function with its result checked to be tensors."""
    def run(*args):
        result = func(*args)
        _tuple(name, result, "outputs")
        return result
    return run


def _demand(name: str, func: Callable, args: tuple, second: bool = False) -> None:
    """What `strict` asks for: every output depends on every input; with `second` the gradients do, too."""
    with enable_grad():
        leaves = tuple(a.detach().requires_grad_() for a in args)
        for k, y in enumerate(_tuple(name, func(*leaves), "outputs")):
            if not y.requires_grad:
                raise RuntimeError(f"Output {k} of the user-provided function does not require gradients. The outputs must be "
                                   "computed in a differentiable manner from the input when running in strict mode.")
            grads = gradient(y.sum(), leaves, create_graph=second, allow_unused=True)
            for j, g in enumerate(grads):
                if g is None:
                    raise RuntimeError(f"{f'Output {k}' if name == 'jacobian' else 'The output'} of the user-provided function is "
                                       f"independent of input {j}. This is not allowed in strict mode.")
            if second:
                again = [gradient(g.sum(), leaves, retain_graph=True, allow_unused=True) for g in grads if g.requires_grad]
                for j in range(len(leaves)):
                    if all(row[j] is None for row in again):
                        raise RuntimeError(f"The jacobian of the user-provided function is independent of input {j}. This is not "
                                           "allowed in strict mode.")


def _vector(name: str, v: Any, like: tuple, what: str) -> tuple:
    v = _tuple(name, v, "v")
    if len(v) != len(like):
        raise RuntimeError(f"v is a tuple of invalid length: should be {len(like)} but got {len(v)}.")
    for k, (a, b) in enumerate(zip(v, like, strict=True)):
        if a.shape != b.shape:
            raise RuntimeError(f"Entry {k} in {what} has invalid size: should be {b.shape} but got {a.shape}.")
    return v


def vjp(func: Callable, inputs: Tensors, v: Tensors | None = None, create_graph: bool = False, strict: bool = False) -> tuple:
    """(outputs, v times the Jacobian), the latter in the shapes of `inputs`; `v` may be missing for a single number."""
    args = _inputs("vjp", inputs, create_graph)
    if strict:
        _demand("vjp", func, args)
    outputs, pull = transforms.vjp(_checked("vjp", func), *args)
    own = _tuple("vjp", outputs, "outputs")
    if v is None:
        if len(own) != 1 or own[0].numel() != 1:
            raise RuntimeError("The vector v can only be None if the user-provided function returns a single Tensor with a single "
                               "element.")
        vector: tuple = (PUBLIC["ones_like"](own[0]),)
    else:
        vector = _vector("vjp", v, own, "v")
    product = pull(vector[0] if isinstance(outputs, Tensor) else vector)
    return _plain(outputs, create_graph), _plain(_like(inputs, product), create_graph)


def jvp(func: Callable, inputs: Tensors, v: Tensors | None = None, create_graph: bool = False, strict: bool = False) -> tuple:
    """(outputs, the Jacobian times v), the latter in the shapes of the outputs; `v` may be missing for a single number."""
    args = _inputs("jvp", inputs, create_graph)
    if strict:
        _demand("jvp", func, args)
    if v is None:
        if len(args) != 1 or args[0].numel() != 1:
            raise RuntimeError("The vector v can only be None if the input to the user-provided function is a single Tensor with a "
                               "single element.")
        vector: tuple = (PUBLIC["ones_like"](args[0]),)
    else:
        vector = _vector("jvp", v, args, "v")
    outputs, product = transforms.jvp(_checked("jvp", func), args, vector)
    return _plain(outputs, create_graph), _plain(product, create_graph)


def jacobian(func: Callable, inputs: Tensors, create_graph: bool = False, strict: bool = False, vectorize: bool = False,
             strategy: str = "reverse-mode") -> Any:
    """The Jacobian: for tensors a tensor of the output's and the input's shape, for tuples a tuple (of tuples) of them."""
    if strategy not in ("reverse-mode", "forward-mode"):
        raise AssertionError('Expected strategy to be either "forward-mode" or "reverse-mode".')
    args = _inputs("jacobian", inputs, create_graph)
    if strict:
        _demand("jacobian", func, args)
    transform = transforms.jacrev if strategy == "reverse-mode" else transforms.jacfwd
    found = transform(_checked("jacobian", func), tuple(range(len(args))))(*args)
    if isinstance(inputs, Tensor):
        single = isinstance(found[0], Tensor)
        found = found[0] if single else tuple(row[0] for row in found)
    return _plain(found, create_graph)


def hessian(func: Callable, inputs: Tensors, create_graph: bool = False, strict: bool = False, vectorize: bool = False,
            outer_jacobian_strategy: str = "reverse-mode") -> Any:
    """The Hessian of a function with one number as result: input's shape twice, for tuples a tuple of tuples."""
    args = _inputs("hessian", inputs, create_graph)
    if strict:
        _demand("hessian", func, args, second=True)

    def scalar(*xs):
        y = func(*xs)
        if not isinstance(y, Tensor):
            raise RuntimeError("The function given to hessian should return a single Tensor")
        if y.numel() != 1:
            raise RuntimeError("The Tensor returned by the function given to hessian should contain a single element")
        return y.squeeze()
    numbers = tuple(range(len(args)))
    outer = transforms.jacrev if outer_jacobian_strategy == "reverse-mode" else transforms.jacfwd
    found = outer(transforms.grad(scalar, numbers), numbers)(*args)
    return _plain(found[0][0] if isinstance(inputs, Tensor) else found, create_graph)


def hvp(func: Callable, inputs: Tensors, v: Tensors | None = None, create_graph: bool = False, strict: bool = False) -> tuple:
    """(value, the Hessian times v), by forward mode over reverse mode."""
    return _second("hvp", func, inputs, v, create_graph, strict)


def vhp(func: Callable, inputs: Tensors, v: Tensors | None = None, create_graph: bool = False, strict: bool = False) -> tuple:
    """(value, v times the Hessian)."""
    return _second("vhp", func, inputs, v, create_graph, strict)


def _second(name: str, func: Callable, inputs: Any, v: Any, create_graph: bool, strict: bool) -> tuple:
    args = _inputs(name, inputs, create_graph)
    if strict:
        _demand(name, func, args, second=True)
    if v is None:
        if len(args) != 1 or args[0].numel() != 1:
            raise RuntimeError("The vector v can only be None if the input to the user-provided function is a single Tensor with a "
                               "single element.")
        vector: tuple = (PUBLIC["ones_like"](args[0]),)
    else:
        vector = _vector(name, v, args, "v")
    numbers = tuple(range(len(args)))

    def scalar(*xs):
        y = func(*xs)
        if not isinstance(y, Tensor) or y.numel() != 1:
            raise RuntimeError(f"The Tensor returned by the function given to {name} should contain a single element")
        return y.squeeze()
    if name == "hvp":
        product = transforms.jvp(transforms.grad(scalar, numbers), args, vector)[1]
    else:
        product = transforms.vjp(transforms.grad(scalar, numbers), *args)[1](vector)
        product = product if isinstance(product, tuple) else (product,)
    return _plain(func(*args), create_graph), _plain(_like(inputs, tuple(product)), create_graph)


__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]
