"""The register of public functions and methods: one decorator puts a function under `engine.` and on Tensor."""
from __future__ import annotations

from collections.abc import Callable

from ..dispatch import inplace
from ..tensor import Tensor

PUBLIC: dict[str, object] = {}


def public(*, aliases: tuple[str, ...] = (), function: bool = True, method: bool = True, in_place: bool = False,
           name: str = "") -> Callable:
    """Decorator: publish a function as `engine.name`, as `Tensor.name`, and as `Tensor.name_` where `in_place`.

    The first parameter is the tensor; parameters are named as PyTorch names them. The in-place form computes and writes.
    """
    def publish(f: Callable) -> Callable:
        for n in (name or f.__name__, *aliases):
            if function:
                PUBLIC[n] = f
            if method:
                setattr(Tensor, n, f)
            if in_place:
                setattr(Tensor, n + "_", _named(inplace(f), n + "_", f))
        return f
    return publish


def _named(f: Callable, name: str, like: Callable) -> Callable:
    f.__name__, f.__qualname__ = name, f"Tensor.{name}"
    f.__doc__ = f"In-place version of `{like.__name__}`: writes into this tensor and returns it."
    return f
