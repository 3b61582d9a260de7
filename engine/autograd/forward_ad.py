"""Forward mode by dual numbers: tensors that carry a tangent, as `torch.autograd.forward_ad` has them.

    with dual_level():
        x = make_dual(primal, tangent)
        y = unpack_dual(f(x))           # y.primal, y.tangent

A dual tensor is a tensor on the tape; `unpack_dual` pushes tangents forward along it (`engine.forward`). Levels nest through
`engine.func.jvp`; one dual level is open at a time, as in PyTorch.
"""
from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import NamedTuple

from kernels.book import BOOK

from .. import forward
from ..tape import modes
from ..tensor import Tensor
from .modes import enable_grad


class UnpackedDualTensor(NamedTuple):
    """A dual tensor taken apart; `tangent` is None for a tensor that carries none."""

    primal: Tensor
    tangent: Tensor | None


class _Levels(threading.local):
    def __init__(self):
        self.duals: list[list[tuple[Tensor, Tensor]]] = []         # of each open level: (tensor on the tape, tangent)


_levels = _Levels()


def enter_dual_level() -> int:
    """Open a level and return its number. RuntimeError inside another level."""
    if _levels.duals:
        raise RuntimeError("Nested forward mode AD is not supported at the moment")
    _levels.duals.append([])
    forward.watch()
    return len(_levels.duals) - 1


def exit_dual_level(*, level: int | None = None) -> None:
    """Close the level; its dual tensors are plain tensors from then on. RuntimeError where none is open."""
    if not _levels.duals:
        raise RuntimeError("Trying to exit a forward AD level that was not entered")
    if level is not None and level != len(_levels.duals) - 1:
        raise RuntimeError("Trying to exit a forward AD level that was not the last one that was created")
    _levels.duals.pop()
    forward.unwatch()


@contextlib.contextmanager
def dual_level() -> Iterator[int]:
    """A context in which dual tensors live."""
    level = enter_dual_level()
    try:
        yield level
    finally:
        exit_dual_level(level=level)


def make_dual(tensor: Tensor, tangent: Tensor, *, level: int | None = None) -> Tensor:
    """The tensor with a tangent of its shape and dtype. Errors: RuntimeError outside a level, ValueError for integers, RuntimeError
    for a tangent of another shape or dtype.
    """
    if not _levels.duals:
        raise RuntimeError("Trying to create a dual Tensor for forward AD but no level exists, make sure to "
                           "enter_dual_level() first.")
    if tensor._kind.dtype.category < 2:
        raise ValueError(f"Expected primal to be floating point or complex, but got: {tensor.dtype}")
    if tangent._kind.dtype.category < 2:
        raise ValueError(f"Expected tangent to be floating point or complex, but got: {tangent.dtype}")
    if tensor._array.shape != tangent._array.shape:
        raise RuntimeError("Expected tangent to have the same shape as the primal, got "
                           f"{list(tangent.shape)} for {list(tensor.shape)}")
    if tensor._kind is not tangent._kind:
        raise RuntimeError(f"Expected tangent to have the dtype of the primal, {tensor.dtype}, but got {tangent.dtype}")
    with enable_grad():
        dual = BOOK["alias"](tensor) if tensor.requires_grad else tensor.detach().requires_grad_()
    _levels.duals[-1].append((dual, tangent))
    return dual


def unpack_dual(tensor: Tensor, *, level: int | None = None) -> UnpackedDualTensor:
    """(primal, tangent) of a tensor computed from dual ones; the tangent is None where it depends on none of them."""
    if not _levels.duals:
        return UnpackedDualTensor(tensor, None)
    duals = _levels.duals[-1]
    if not duals or not tensor.requires_grad:
        return UnpackedDualTensor(tensor, None)
    outer = any(d._node is not None for d, _ in duals) or any(t.requires_grad for _, t in duals)
    before = modes.enabled
    modes.enabled = before and outer
    try:
        tangent, = forward.push([tensor], [d for d, _ in duals], [t for _, t in duals])
    finally:
        modes.enabled = before
    if tangent is None:
        return UnpackedDualTensor(tensor, None)
    return UnpackedDualTensor(tensor if outer else tensor.detach(), tangent)


__all__ = ["UnpackedDualTensor", "dual_level", "enter_dual_level", "exit_dual_level", "make_dual", "unpack_dual"]
