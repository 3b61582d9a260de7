"""Named results: `max(dim)` gives `engine.return_types.max(values=..., indices=...)`.

Tuples with named fields that print as PyTorch's. Functions that return them call `named` once, when their module is imported.
"""
from __future__ import annotations

from collections import namedtuple


def _show(self) -> str:
    fields = ",\n".join(f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True))
    return f"engine.return_types.{type(self).__name__}(\n{fields})"


def named(name: str, fields: str) -> type:
    """The result type of a function: a tuple with these fields (space-separated), published as `return_types.name`."""
    made = type(name, (namedtuple(name, fields),), {"__slots__": (), "__repr__": _show, "__module__": __name__})
    globals()[name] = made
    return made
