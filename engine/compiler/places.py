"""Where the things stand that a compiled function reads besides its arguments: cells, names, attributes, parts of modules.

Each is a reader as `environment` keeps them: called, it gives what stands there now, hashable. `differs` writes the same look as a
line of Python for the shortest way through a program (`quick`): true where another thing stands there than now.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

PLAIN = (bool, int, float, complex, str, bytes, type(None))


class Same:
    """Stands for an object that counts by its identity, and keeps it alive so that no other takes its id."""

    __slots__ = ("found",)

    def __init__(self, found: Any):
        self.found = found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.found is other.found

    def __hash__(self) -> int:
        return id(self.found)


def plain(value: Any) -> Any:
    """A value to compare; the identity of what is no plain value."""
    return (value.__class__, value) if isinstance(value, PLAIN) else Same(value)


def content(cell: Any) -> Any:
    """What a closure's cell holds, None where nothing is assigned yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _other(source: str, value: Any, named: Callable[[str, Any], str]) -> str:
    """Source of whether an expression gives another thing than `value`."""
    if value is None or value is True or value is False:
        return f"{source} is not {value}"
    if isinstance(value, PLAIN):
        return f"(here := {source}).__class__ is not {named('kind', value.__class__)} or here != {named('value', value)}"
    return f"{source} is not {named('thing', value)}"


class Cell:
    """A variable of an enclosing function."""

    __slots__ = ("cell",)

    def __init__(self, cell: Any):
        self.cell = cell

    def __call__(self) -> Any:
        return plain(content(self.cell))

    def differs(self, named: Callable[[str, Any], str]) -> str:
        """Source; ValueError there where the variable is deleted."""
        return _other(f"{named('cell', self.cell)}.cell_contents", content(self.cell), named)


class Entries:
    """What a dictionary (of a module, of an object) holds under some names."""

    __slots__ = ("names", "space")

    def __init__(self, space: Any, *names: str):
        self.space, self.names = space, names

    def __call__(self) -> tuple:
        space = self.space
        return tuple([plain(space.get(n)) for n in self.names])

    def differs(self, named: Callable[[str, Any], str]) -> str:
        """Source of whether one of them is another."""
        get = named("get", self.space.get)
        return " or ".join([_other(f"{get}({n!r})", self.space.get(n), named) for n in self.names])


class Network:
    """What changes in a module and those inside: training or not, parameters, buffers and modules, whether there are hooks."""

    __slots__ = ("inner", "modules", "parts")

    def __init__(self, module: Any):
        self.modules = list(module.modules())
        self.inner = [d for m in self.modules for n, d in vars(m).items() if n.startswith("_") and isinstance(d, dict)]
        self.parts = [d for m in self.modules for d in (vars(m)["_modules"], vars(m)["_parameters"], vars(m)["_buffers"]) if d]

    def __call__(self) -> tuple:
        return (tuple([m.training for m in self.modules]), tuple(map(len, self.inner)),
                tuple([id(v) for d in self.parts for v in d.values()]))

    def differs(self, named: Callable[[str, Any], str]) -> str:
        """Source of whether one of them is another."""
        tests = [f"{named('module', m)}.training is not {m.training}" for m in self.modules]
        tests += [f"len({named('part', d)}) != {len(d)}" if d else named("part", d) for d in self.inner]
        tests += [f"{named('get', d.get)}({n!r}) is not {named('thing', v)}" for d in self.parts for n, v in d.items()]
        return " or ".join(tests)
