"""Optimizer steps in a trace: the rule of each parameter as a map that writes parameter and states, its numbers as inputs.

The numbers of a rule (learning rate, corrections that depend on the step) are no constants: they are computed by the
optimizer before every run, so schedules go on working without another trace. Called by `engine.optim.updating`.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from ..tensor import Tensor
from .graph import Map, Ref, Value, symbol
from .trace import Untraceable, innermost


class Numbers:
    """The numbers of one parameter's update, computed anew for each run; a source of a captured value like `tracing.Owner`."""

    computed = True

    def __init__(self, optimizer, group: dict[str, Any], p: Tensor, state: dict[str, Any], dtype: str, first: bool):
        self.optimizer, self.p, self.state, self.dtype = optimizer, p, state, np.dtype(dtype)
        self.number = [g is group for g in optimizer.param_groups].index(True)
        self.first = first          # the state was made in the trace: its program holds for that one step

    def fits(self) -> bool:
        """Whether the optimizer still keeps this state for the parameter."""
        return not self.first and (not self.state or self.optimizer.state.get(self.p) is self.state)

    @property
    def group(self) -> dict[str, Any]:
        """The options; `load_state_dict` puts another dictionary in their place."""
        return self.optimizer.param_groups[self.number]

    def get(self) -> None:
        return None

    def array(self) -> np.ndarray:
        """The rule's numbers for the step to come."""
        optimizer = self.optimizer
        t = optimizer._time(self.state)
        return np.array(optimizer._numbers(self.group, float(self.group["lr"]), t, self.state), self.dtype)

    def commit(self) -> None:
        """The step was taken."""
        self.optimizer._advance(self.state)


class Batch:
    """The `Numbers` of several parameters of one group: computed once for all whose step is the same, as `Updating` does."""

    def __init__(self, members: list[Numbers]):
        self.members, self.optimizer, self.number, self.dtype = members, members[0].optimizer, members[0].number, members[0].dtype
        self.counted = self.optimizer._counted
        self.states = [m for m in members if m.state]
        self.known: tuple = (None, None)        # the last numbers, and their array

    def fits(self) -> bool:
        """Whether the optimizer still keeps the states for the parameters."""
        states = self.optimizer.state
        for m in self.states:
            if states.get(m.p) is not m.state:
                return False
        return not self.members[0].first

    def arrays(self) -> list[np.ndarray]:
        """The numbers of each parameter for the step to come."""
        optimizer = self.optimizer
        group = optimizer.param_groups[self.number]
        lr, last, made = float(group["lr"]), None, []
        for m in self.members:
            t = optimizer._time(m.state)
            if t != last or optimizer._own_numbers:
                numbers, last = optimizer._numbers(group, lr, t, m.state), t
                known, array = self.known
                if numbers != known:
                    array = np.array(numbers, self.dtype)
                    self.known = numbers, array
            made.append(array)
        return made

    def commit(self) -> None:
        """The step was taken."""
        for m in self.members:
            m.commit()


def record(optimizer, group: dict[str, Any], p: Tensor, g: Tensor, state: dict[str, Any], rule, numbers: tuple,
           first: bool) -> None:
    """Write down that `rule` has just updated a parameter and its states in place."""
    tracer = innermost()
    if p.is_complex():
        raise Untraceable("an optimizer updates complex parameters")
    arrays = [p._array, g._array, *(state[name]._array for name in rule.states)]
    reads = [tracer.read(a).broadcast(p._array.shape) for a in arrays]
    compute = "float32" if p._kind.dtype.name == "float16" else p._kind.dtype.name
    value = Value((len(numbers),), (1,), compute)
    value.array = np.array(numbers, compute)
    tracer.graph.captured.append((value, Numbers(optimizer, group, p, state, compute, first and bool(rule.states))))
    code = rule.formula.__code__
    operands = code.co_varnames[:code.co_argcount]
    named = {name: symbol(k) for k, name in enumerate(operands)}
    for k, name in enumerate(rule.numbers):
        named[name] = symbol(len(reads))
        reads.append(Ref(value, k, (), ()).broadcast(p._array.shape))
    outputs = rule.formula(*(named[name] for name in operands), **{name: named[name] for name in rule.numbers})
    targets = [arrays[0], *arrays[2:]]
    node = Map(reads, expressions=list(outputs), compute=compute)
    for k, a in enumerate(targets):
        strides = tuple(s // a.itemsize for s in np.empty_like(a, subok=False).strides)
        node.values.append(Value(a.shape, strides, a.dtype.name, node, k))
    tracer.graph.nodes.append(node)
    for a, v in zip(targets, node.values, strict=True):
        tracer.write(a, v.whole())
