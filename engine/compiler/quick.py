"""The shortest way through a compiled program: one generated Python function for a whole call.

It looks at what `function.Variant` looks at (arguments, tensors found elsewhere, gradients, modes, values read elsewhere), runs
the program's lines, and leaves behind what the function would have left, without a loop or a structure to walk through. Made
here for programs without guards and without a backward pass of their own; everything else takes `Variant.run` and `finish`.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import dtypes, tree
from ..tape import modes
from ..tensor import KIND_OF_NUMPY, Tensor
from ..writes import store
from . import autodiff, trace
from .environment import Environment
from .places import Cell, Entries, Network
from .updates import Batch, Numbers

if TYPE_CHECKING:
    from .function import Variant
    from .tracing import Target

MISS = object()
compile_ = compile


def quick(variant: Variant, tensors: list[Tensor], structure: Any, environment: Environment) -> Callable | None:
    """The function for calls like the last one, of these tensors; it gives MISS for what the program is not for.

    None where a call has more to do: guards, a backward pass, results that are looks at other tensors, arguments that are not
    all tensors or share memory.
    """
    recorded, program = variant.recorded, variant.forward
    (_, _, parts), options = structure[2]
    plain = not options[2] and all(part is tree.LEAF for part in parts) and len(parts) == len(tensors) and all(
        t.__class__ is Tensor and isinstance(t._array, np.ndarray) for t in tensors)
    if not plain or program.guards or variant.backward is not None or variant.resizes or variant.looks:
        return None
    if any(isinstance(o.get(), Tensor) and not isinstance(o.get()._array, np.ndarray) for o in recorded.owners):
        return None
    writer = _Writer(variant, environment)
    if not writer.arguments(tensors):
        return None
    writer.modes()
    writer.captured()
    writer.run()
    writer.results()
    text = "".join(f"    {line}\n" for line in writer.lines)
    exec(compile_(f"def quick({', '.join(f'x{k}' for k in range(len(tensors)))}):\n{text}", "<quick>", "exec"), writer.space)
    return writer.space["quick"]


class _Writer:
    """The function's lines, and the names that they mention."""

    def __init__(self, variant: Variant, environment: Environment):
        self.variant, self.recorded, self.program = variant, variant.recorded, variant.forward
        self.environment, self.names = environment, {}
        self.space: dict[str, Any] = {
            **self.program.space, "Tensor": Tensor, "new": object.__new__, "MISS": MISS, "modes": modes, "DEFAULT": dtypes.DEFAULT,
            "default": dtypes.DEFAULT.dtype, "ndarray": np.ndarray, "root": trace.root, "store": store, "spent": autodiff.spent,
            "unflatten": tree.unflatten, "structure": self.recorded.structure}
        self.lines: list[str] = []
        self.batches: dict[str, list[str]] = {}         # numbers of optimizers: name of a batch -> names of its arrays

    def miss(self, test: str) -> None:
        self.lines += [f"if {test}:", "    return MISS"]

    def named(self, word: str, thing: Any) -> str:
        """The name of an object in the text."""
        if id(thing) not in self.names or self.space[self.names[id(thing)]] is not thing:
            self.names[id(thing)] = f"{word}_{len(self.space)}"
            self.space[self.names[id(thing)]] = thing
        return self.names[id(thing)]

    def tensor(self, target: Target) -> str:
        """Source of the tensor that a target stands for."""
        if target.owner is None:
            return f"x{target.argument}"
        return self.named("t", target.owner.holder) + ("._grad" if target.owner.of_gradient else "")

    # --- what must be as it was ---------------------------------------------------------------------------------------

    def arguments(self, tensors: list[Tensor]) -> bool:
        """Each argument's class, kind, shape and strides; that they share no memory. False where they do now."""
        fixed = dict(self.variant.fixed)
        for k, t in enumerate(tensors):
            self.space.update({f"kind{k}": t._kind, f"shape{k}": t._array.shape, f"strides{k}": t._array.strides})
            other = f" or x{k} is not {self.named('t', fixed[k])}" if k in fixed else ""
            self.miss(f"x{k}.__class__ is not Tensor or x{k}._kind is not kind{k}{other} or "
                      f"(x{k}._needs if x{k}._view is None else x{k}.requires_grad) is not {t.requires_grad}")
            self.lines.append(f"in{k} = x{k}._array")
            self.miss(f"in{k}.shape != shape{k} or in{k}.strides != strides{k}")
        owners = [o for o in self.recorded.owners if not o.computed]
        apart = len(tensors) > 1 or (self.variant.writes and owners)
        if not apart:
            return True
        for k in range(len(tensors)):       # the object whose memory an argument is
            self.lines += [f"root{k} = id(in{k}) if in{k}.base is None else id(root(in{k}))"]
        roots = ", ".join(f"root{k}" for k in range(len(tensors)))
        if len(tensors) > 1:
            self.miss(f"len({{{roots}}}) < {len(tensors)}")
            if len({id(trace.root(t._array)) for t in tensors}) < len(tensors):
                return False
        return True

    def modes(self) -> None:
        """Grad mode, default dtype, and values that the function reads elsewhere."""
        self.miss(f"modes.enabled is not {modes.enabled} or modes.inference or DEFAULT.dtype is not default")
        lines = [f"if {read.differs(self.named)}:\n            return MISS" for read in self.environment.readers
                 if isinstance(read, (Cell, Entries, Network))]
        if lines:
            self.lines += ["try:", *("    " + line for line in lines), "except ValueError:          # a variable was deleted",
                           "    return MISS"]
        others = [read for read in self.environment.readers if not isinstance(read, (Cell, Entries, Network))]
        for k, read in enumerate(others):
            self.space[f"expected{k}"] = read()
            self.miss(f"{self.named('read', read)}() != expected{k}")

    def captured(self) -> None:
        """Tensors found elsewhere are as they were, and arguments lie in the memory of none that is written beside them."""
        program, recorded = self.program, self.recorded
        values = [v for v, _ in program.graph.captured if not v.constant]
        held: set[int] = set()
        moving, drawn = [], []
        for v, owner in zip(values, recorded.owners, strict=True):
            if owner.computed:
                drawn.append((v.name, owner))
                continue
            name = self.named("t", owner.holder)
            if owner.of_gradient:
                kind, shape, strides = (self.named(word, thing) for word, thing in (
                    ("kind", owner.kind), ("shape", owner.shape), ("strides", owner.strides)))
                self.lines.append(f"{v.name} = {name}._grad")
                self.miss(f"{v.name} is None or {v.name}._kind is not {kind} or {v.name}._needs is not {owner.needs}")
                self.lines.append(f"{v.name} = {v.name}._array")
                self.miss(f"{v.name}.shape != {shape} or {v.name}.strides != {strides}")
                moving.append(v.name)
            else:
                array = owner.holder._array
                self.lines.append(f"{v.name} = {name}._array")
                self.miss(f"{v.name} is not {self.named('a', array)} or {name}._needs is not {owner.needs}")
                held.add(id(trace.root(array)))
        free = [f"root{k}" for k in range(len(program.graph.inputs)) if all(k != j for j, _ in self.variant.fixed)]
        if self.variant.writes and free and (held or moving):
            self.space["held"] = frozenset(held)
            for k in free:
                self.miss(" or ".join([f"{k} in held", *(f"{k} == id(root({name}))" for name in moving)]))
        for target, none in recorded.had_gradient:
            self.miss(f"{self.tensor(target)}._grad is {'not ' if none else ''}None")
        groups: dict[tuple, list] = {}
        for name, owner in drawn:
            if isinstance(owner, Numbers):
                groups.setdefault((id(owner.optimizer), owner.number, owner.dtype), []).append((name, owner))
        self.batches = {self.named("batch", Batch([o for _, o in members])): [name for name, _ in members]
                        for members in groups.values()}
        for batch in self.batches:
            self.miss(f"not {batch}.fits()")
        for target in recorded.written:
            self.miss(f"not {self.array(target)}.flags.writeable")          # the long way says why not
        for name, owner in drawn:               # nothing is drawn before all has been looked at
            if not isinstance(owner, Numbers):
                self.lines.append(f"{name} = {self.named('drawn', owner)}.array()")
        for batch, names in self.batches.items():
            self.lines.append(f"{', '.join(names)}, = {batch}.arrays()")

    def array(self, target: Target) -> str:
        """Source of the memory of a tensor that was there before."""
        if target.owner is None:
            return f"in{target.argument}"
        return next(v.name for v, o in self.program.graph.captured if o is target.owner)

    # --- what is done -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """The program, and what it writes to memory from before."""
        recorded, program = self.recorded, self.program
        self.lines += program.lines
        self.lines += [f"{batch}.commit()" for batch in self.batches if self.space[batch].counted]
        new = program.wanted[self.variant.results:self.variant.results + self.variant.writes]
        for target, ref in zip(recorded.written, new, strict=True):
            if id(ref.value) not in program.targets:        # no kernel has written it there
                self.lines.append(f"store({self.array(target)}, {program.array(ref)})")
        for target, count in recorded.bumps:
            tensor = self.tensor(target)
            self.lines += [f"counter = {tensor}._counter", "if counter is None:", f"    {tensor}._counter = [{count}]",
                           "else:", f"    counter[0] += {count}"]

    def results(self) -> None:
        """Tensors over the program's arrays: results, gradients."""
        recorded, program = self.recorded, self.program
        for k, out in enumerate(recorded.outputs):
            ref = program.wanted[out.array]
            kind = self.named("kind", KIND_OF_NUMPY[np.dtype(ref.dtype)])
            self.lines += [f"r{k} = new(Tensor)",
                           f"r{k}._array, r{k}._kind, r{k}._needs = {program.array(ref)}, {kind}, {out.needs}",
                           f"r{k}._node = {'spent()' if out.needs else None}",
                           f"r{k}._counter = r{k}._view = r{k}._grad = r{k}._meta = None"]
        for target, k in recorded.gradients:
            self.lines.append(f"{self.tensor(target)}._grad = {None if k is None else f'r{k}'}")
        leaves, made = [], 0
        for is_made, leaf in recorded.leaves:
            if is_made:
                leaves.append(f"r{made}" if leaf is None else f"r{made}._array.item()")
                made += 1
            else:
                leaves.append(self.named("leaf", leaf))
        if recorded.structure is tree.LEAF:
            self.lines.append(f"return {leaves[0]}")
        elif recorded.structure[0] is tuple and all(part is tree.LEAF for part in recorded.structure[2]):
            self.lines.append(f"return ({', '.join([*leaves, ''])})")
        else:
            self.lines.append(f"return unflatten(structure, iter([{', '.join(leaves)}]))")
