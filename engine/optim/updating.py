"""Optimizers whose step is one rule of `kernels.updates` for each parameter: the loop that runs the rule's fused kernel.

A subclass says which rule its options ask for (`_rule`), what the rule's numbers are (`_numbers`), and what a state starts as
where that is not zero (`_start`). What a parameter's kernel needs, addresses above all, is kept in a `Slot` from step to step.
Parameters that no kernel serves (slices, other devices) and `differentiable=True` run the same formula on tensors.
"""
from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from kernels.cpu import copies, pool
from kernels.cpu.updates import update_ufunc
from kernels.table import TABLE
from kernels.updates import Update

from ..autograd.modes import enable_grad, set_grad_enabled
from ..functions.factories import full_like
from ..large import LARGE
from ..promotion import broadcast_error
from ..tensor import Tensor, bump, host
from .optimizer import MOST_NUMBERS, Optimizer, scalar_state

custom_kernels = TABLE._custom      # not empty while a trace runs
_PACKERS = [struct.Struct(f"{n}d").pack_into for n in range(MOST_NUMBERS + 1)]
_REAL = {"complex64": "float32", "complex128": "float64"}
_FLOATS = ("float16", "float32", "float64")


class Slot:
    """One parameter ready for a rule's kernel: its array, its states, and the block of their addresses.

    `array` and `axes`: the memory the kernel walks through, dense and of real numbers, and the order of dimensions that makes
    it contiguous (None: as it is). `ufunc` is None where the kernel cannot serve. `first`: no step was taken yet.
    """

    __slots__ = ("array", "axes", "block", "first", "owner", "parts", "real", "rule", "state", "ufunc", "words")

    def __init__(self, p: Tensor, rule: Update, state: dict, first: bool, numbers: int):
        self.rule, self.state, self.first, self.owner = rule, state, first, p._array
        tensors = [state[name] for name in rule.states]
        self.parts = [(name, t, t._array) for name, t in zip(rule.states, tensors, strict=True)]
        self.array = self.axes = self.block = self.words = self.ufunc = self.real = None
        name = p._kind.dtype.name
        if not isinstance(p._array, np.ndarray) or (name not in _FLOATS and name not in _REAL):
            return
        axes = _order(p._array)
        arrays = [_flat(a, axes) for a in (p._array, *(t._array for t in tensors))]
        if any(a is None or a.shape != arrays[0].shape or a.dtype != arrays[0].dtype for a in arrays):
            return
        self.real = name in _REAL
        self.axes, self.array = None if axes == sorted(axes) else axes, arrays[0]
        addresses = [a.ctypes.data for a in arrays]
        self.words = np.array([addresses[0], numbers, *addresses[1:]], np.int64)
        self.block = np.array(self.words.ctypes.data, np.int64)
        self.ufunc = update_ufunc(rule, _REAL.get(name, name))

    def valid(self, p: Tensor, rule: Update, states: dict) -> bool:
        """Whether nothing that the block holds was replaced (by load_state_dict, `p.data = ...`, another option, the user)."""
        if self.owner is not p._array or self.rule is not rule:
            return False
        if self.parts:
            state = self.state
            if states.get(p) is not state:
                return False
            for name, tensor, array in self.parts:
                if state.get(name) is not tensor or tensor._array is not array:
                    return False
        return True

    def gradient(self, p: Tensor, g: Tensor) -> np.ndarray:
        """The gradient's array in the layout of the parameter's, copied where it has another one or shares memory."""
        array = g._array
        if array.shape != self.owner.shape:
            raise broadcast_error("step", (p, g))
        if self.axes is not None:
            array = array.transpose(self.axes)
        if self.real:
            array = array[..., None].view(self.array.dtype)
        return copies.copy(array) if not array.flags.carray or np.may_share_memory(array, self.array) else array


def _order(array: np.ndarray) -> list[int]:
    """The dimensions by decreasing stride: the order in which a dense array is contiguous."""
    if array.flags.c_contiguous:
        return list(range(array.ndim))
    return sorted(range(array.ndim), key=lambda d: (-array.strides[d], d))


def _flat(array: np.ndarray, axes: list[int]) -> np.ndarray | None:
    """The array as contiguous real numbers, None where it is not dense, aligned and writeable in this order."""
    if not isinstance(array, np.ndarray) or array.ndim != len(axes):
        return None
    array = array.transpose(axes)
    if not array.flags.carray:
        return None
    return array[..., None].view(array.real.dtype) if array.dtype.kind == "c" else array


class Updating(Optimizer):
    """Base of the optimizers of one rule a parameter."""

    _counted = True             # states have a "step"
    _own_numbers = False        # the numbers depend on more of a parameter's state than the step

    def _rule(self, group: dict[str, Any]) -> Update:
        raise NotImplementedError

    def _numbers(self, group: dict[str, Any], lr: Any, t: float, state: dict[str, Any]) -> tuple:
        """The rule's numbers, in its order, for step `t` (1 first; without "step" in the states 0 the first time, then 1).

        `lr` is a float, in a differentiable step what the group has.
        """
        raise NotImplementedError

    def _start(self, p: Tensor, name: str, group: dict[str, Any]) -> Tensor:
        """What a state begins with."""
        return full_like(p.detach(), 0.0)

    def _scalars(self, p: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        """States without dimensions, in front of the others."""
        return {"step": scalar_state(0.0, group)} if self._counted else {}

    # --- the step -----------------------------------------------------------------------------------------------------

    def step(self, closure: Callable | None = None) -> Any:
        """One update of every parameter that has a gradient. `closure` computes the loss again; what it returned is returned."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group.get("capturable") or group["differentiable"]:
                self._special(group)
            else:
                self._update(group)
        return loss

    def _update(self, group: dict[str, Any]) -> None:
        if custom_kernels:
            return self._observed(group)
        rule, slots, states, counted = self._rule(group), self._slots, self.state, self._counted
        lr = group["lr"]
        if lr.__class__ is not float:
            lr = float(lr)
        last = numbers = None
        for p in group["params"]:
            g = p._grad
            if g is None:
                continue
            slot = slots.get(id(p))
            if slot is None or not slot.valid(p, rule, states):
                slot = self._slot(p, group, rule)
            if counted:
                step = slot.state["step"]._array
                t = step.item() + 1.0
                step[()] = t
            else:
                t = 0.0 if slot.first else 1.0
                slot.first = False
            if t != last or self._own_numbers:
                numbers, last = self._numbers(group, lr, t, slot.state), t
            if slot.ufunc is None:
                with set_grad_enabled(False):
                    self._compose(p, g, slot.state, rule, numbers, False)
                continue
            if numbers != self._loaded:
                _PACKERS[len(numbers)](self._memory, 0, *numbers)
                self._loaded = numbers
            array, target = g._array, slot.array
            if g._kind is not p._kind:
                array = slot.gradient(p, g.to(p.dtype))
            elif slot.real or slot.axes is not None or array.shape != target.shape or not array.flags.carray or ((
                    array.base is not None or slot.owner.base is array) and np.may_share_memory(array, target)):
                array = slot.gradient(p, g)
            if target.size >= LARGE:
                pool.ensure()
            slot.ufunc(array, slot.block, target)
            counter = p._counter
            if counter is None:
                p._counter = [1]
            else:
                counter[0] += 1

    def _observed(self, group: dict[str, Any]) -> None:
        """The update while `engine.compile` traces or a user has kernels of their own: by operators, which the trace then notes."""
        from ..compiler.trace import innermost
        rule, tracer = self._rule(group), innermost()
        for p in group["params"]:
            g = p._grad
            if g is None:
                continue
            state, first = self._state_of(p, group, rule)
            numbers = self._numbers(group, float(group["lr"]), self._time(state, first), state)
            self._advance(state)
            with set_grad_enabled(False):
                if tracer is None:
                    self._compose(p, g, state, rule, numbers, False)
                else:
                    with tracer.pause():
                        self._compose(p, g, state, rule, numbers, False)
                    from ..compiler.updates import record
                    record(self, group, p, g, state, rule, numbers, first)

    def _time(self, state: dict[str, Any], first: bool = False) -> float:
        """The number of the step to come, see `_numbers`."""
        return host(state["step"]).item() + 1.0 if self._counted else 0.0 if first else 1.0

    def _advance(self, state: dict[str, Any]) -> None:
        """Count a step."""
        if self._counted:
            state["step"]._array[()] += 1.0

    def _slot(self, p: Tensor, group: dict[str, Any], rule: Update) -> Slot:
        """The parameter's slot made anew."""
        slot = self._slots[id(p)] = Slot(p, rule, *self._state_of(p, group, rule), self._memory.ctypes.data)
        return slot

    def _state_of(self, p: Tensor, group: dict[str, Any], rule: Update) -> tuple[dict[str, Any], bool]:
        """The parameter's state, with what a rule needs and is missing, and whether something was."""
        if not rule.states and not self._counted:
            return {}, True
        state = self.state[p]
        first = not state or any(state.get(name) is None for name in rule.states)
        if first:
            for name, value in self._scalars(p, group).items():
                state.setdefault(name, value)
            for name in rule.states:
                if state.get(name) is None:
                    state[name] = self._start(p, name, group)
        return state, first

    # --- the same formula on tensors ----------------------------------------------------------------------------------

    def _special(self, group: dict[str, Any]) -> None:
        """Groups with `capturable` or `differentiable`."""
        present = [p for p in group["params"] if p._grad is not None]
        if group.get("capturable") and any(p.device.type == "cpu" for p in present):
            raise AssertionError("If capturable=True, params and state_steps must be on supported devices: ['cuda']; these are "
                                 "on the CPU, where there are no graphs to capture: leave capturable=False")
        if not group["differentiable"]:
            self._update(group)
            return
        if group.get("foreach"):
            raise AssertionError("_foreach ops don't support autograd; leave foreach=None with differentiable=True")
        rule, lr = self._rule(group), group["lr"]
        with enable_grad():
            for p in present:
                state, first = self._state_of(p, group, rule)
                t = 0.0 if first else 1.0
                if self._counted:
                    if state["step"].requires_grad:
                        raise RuntimeError("`requires_grad` is not supported for `step` in differentiable mode")
                    t = host(state["step"]).item() + 1.0
                    advance(state, "step", t)
                self._compose(p, p._grad, state, rule, self._numbers(group, lr, t, state), True)

    def _compose(self, p: Tensor, g: Tensor, state: dict[str, Any], rule: Update, numbers: tuple, record: bool) -> None:
        """One update by operators on tensors; states become new tensors where it is recorded, as others may need the old ones."""
        if g._array.shape != p._array.shape:
            raise broadcast_error("step", (p, g))
        parts = [p, g, *(state[name] for name in rule.states)]
        if p.is_complex():
            parts = [t.view_as_real() for t in parts]
        old, *new = rule.formula(*parts, **dict(zip(rule.numbers, numbers, strict=True)))
        for name, value in zip(rule.states, new, strict=True):
            value = value.view_as_complex() if p.is_complex() else value
            if record:
                state[name] = value
            else:
                state[name].copy_(value)
        parts[0].copy_(old)


def advance(state: dict[str, Any], name: str, value: float) -> None:
    """Write a number into a scalar state."""
    state[name]._array[()] = value
    bump(state[name])


# --- checks of options, in PyTorch's words ----------------------------------------------------------------------------

_CALLED = {"lr": "learning rate", "epsilon": "epsilon value"}


def check_lr(lr: float | Tensor) -> None:
    """ValueError for a learning rate that is negative, NaN, or a tensor of several elements."""
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError("Tensor lr must be 1-element")
    not_negative(lr=lr)


def not_negative(**options: Any) -> None:
    """ValueError for the first option that is not at least 0."""
    for name, value in options.items():
        if not value >= 0.0:
            raise ValueError(f"Invalid {_CALLED.get(name, name + ' value')}: {value}")


def check_fused(fused: bool | None, foreach: bool | None, differentiable: bool) -> None:
    """RuntimeError for options that exclude one another."""
    if fused and differentiable:
        raise RuntimeError("`fused` does not support `differentiable`")
    if fused and foreach:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together.")
