"""What a function reads besides its arguments: numbers and switches in closures, globals, objects, modules and optimizers.

A program is right for the values that were there when it was traced, so they are part of its signature. Seen are names that the
function's code mentions, in the functions that it calls by name, and the plain attributes of objects found so; a module's
`training` switches, and an optimizer's options. Tensors are not values but inputs; here only which tensor a name stands for counts.
"""
from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kernels import store

from ..tensor import Tensor

PLAIN = (bool, int, float, complex, str, bytes, type(None))
MOST = 400                  # objects looked at
FEW_BYTES = 1024            # of an array, kept as they are


class Environment:
    """The values that a function depends on; `values()` reads them as they are now."""

    def __init__(self, function: Callable):
        self.readers: list[Callable[[], Any]] = []
        self.contents: list[Callable[[], Any]] = []     # of lists, dicts, arrays; not of those that the function itself changes
        self.tensors: list[Tensor] = []         # those seen
        self._known: set[int] = set()
        self._look(function, 0)
        self.readers += self.contents

    def values(self) -> tuple:
        """The present values, hashable."""
        return tuple([read() for read in self.readers])

    def settle(self, before: tuple) -> bool:
        """Forget lists and dicts that are others now than `before`, which the function has changed; whether there are some."""
        changed = [r for r, old in zip(self.readers, before, strict=True) if r in self.contents and r() != old]
        self.readers = [r for r in self.readers if r not in changed]
        return bool(changed)

    def _look(self, found: Any, depth: int) -> None:
        if id(found) in self._known or len(self._known) > MOST or depth > 4:
            return
        self._known.add(id(found))
        if isinstance(found, Tensor):
            self.tensors.append(found)
        elif isinstance(found, types.MethodType):
            self._look(found.__self__, depth)
            self._look(found.__func__, depth)
        elif isinstance(found, types.FunctionType):
            self._function(found, depth)
        elif hasattr(found, "function") and type(found).__module__.startswith("engine.compiler"):
            self._look(found.function, depth)
        elif _is(found, "engine.nn.module", "Module"):
            modules = list(found.modules())
            self.readers.append(lambda: tuple([m.training for m in modules]))
            self.tensors += [*found.parameters(), *found.buffers()]
            inner = [d for m in modules for n, d in vars(m).items() if n.startswith("_") and isinstance(d, dict)]
            parts = [d for m in modules for d in (vars(m)["_modules"], vars(m)["_parameters"]) if d]
            self.readers.append(lambda: (tuple(map(len, inner)), tuple([id(v) for d in parts for v in d.values()])))
            for module in modules:
                self._attributes(module, depth)
        elif _is(found, "engine.optim.optimizer", "Optimizer"):
            self.readers.append(lambda: _options(found))
        elif isinstance(found, np.ndarray):
            self.contents.append(lambda: elements(found))
        elif isinstance(found, (list, tuple, dict)) and len(found) <= 64:
            self._items(found, depth)
        elif (not isinstance(found, (Tensor, type, types.ModuleType, *PLAIN)) and hasattr(found, "__dict__")
              and not type(found).__module__.startswith(("engine", "kernels", "numpy"))):
            self._attributes(found, depth)

    def _items(self, found: Any, depth: int) -> None:
        values = list(found.values()) if isinstance(found, dict) else list(found)
        if not isinstance(found, tuple) and (not values or any(isinstance(v, PLAIN) for v in values)):
            self.contents.append(lambda: _contents(found))
        for value in values:
            self._look(value, depth + 1)

    def _function(self, function: types.FunctionType, depth: int) -> None:
        if (function.__module__ or "").partition(".")[0] in ("engine", "kernels", "numpy"):
            return
        code = function.__code__
        for cell in function.__closure__ or ():
            self.readers.append(lambda cell=cell: _plain(_content(cell)))
            self._look(_content(cell), depth + 1)
        space = function.__globals__
        for name in sorted(_names(code)):
            if name in space and not isinstance(space[name], types.ModuleType):
                if not isinstance(space[name], (types.FunctionType, type, types.BuiltinFunctionType)):
                    self.readers.append(lambda name=name: _plain(space.get(name)))
                self._look(space[name], depth + 1)
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._look(value, depth + 1)

    def _attributes(self, found: Any, depth: int) -> None:
        names = [n for n, v in vars(found).items() if isinstance(v, PLAIN) and not n.startswith("_") and n != "training"]
        if names:
            self.readers.append(lambda: tuple([_plain(vars(found).get(n)) for n in names]))
        module = _is(found, "engine.nn.module", "Module")
        for name, value in vars(found).items():
            if not isinstance(value, PLAIN) and not (module and name.startswith("_")):
                self._look(value, depth + 1)


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _is(found: Any, module: str, name: str) -> bool:
    """Whether an object is of a class of a module that may not be imported."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(found, getattr(loaded, name))


def _content(cell) -> Any:
    try:
        return cell.cell_contents
    except ValueError:              # not assigned yet
        return None


def _options(optimizer: Any) -> tuple:
    """What a step depends on: rules, where the optimizer has them (their numbers are computed for each run), else all options."""
    rule = getattr(optimizer, "_rule", None)
    if rule is not None:
        return tuple([(rule(g).name, len(g["params"])) for g in optimizer.param_groups])
    return tuple([_frozen({k: v for k, v in g.items() if k != "params"}) for g in optimizer.param_groups])


def _plain(value: Any) -> Any:
    """A value to compare; the identity of what is no plain value."""
    if isinstance(value, PLAIN):
        return value.__class__, value
    return id(value)


def _contents(found: Any) -> Any:
    """What a list or a dict holds, as far as that belongs to a signature; its length for a long one."""
    if len(found) > 64:
        return len(found)
    return _frozen(found if isinstance(found, list) else {k: v for k, v in found.items() if isinstance(k, PLAIN)})


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple([(k, _frozen(v)) for k, v in value.items()])
    if isinstance(value, (list, tuple)):
        return tuple([_frozen(v) for v in value])
    return _plain(value)


def elements(array: np.ndarray) -> tuple:
    """What an array of NumPy's holds, as something hashable."""
    if array.dtype == object:
        return array.shape, tuple(map(id, array.ravel()))
    data = array.tobytes()
    return array.dtype.str, array.shape, data if len(data) <= FEW_BYTES else store.digest(data)
