"""What a function reads besides its arguments: values in closures, globals, modules, classes, objects and optimizers.

A program is right for the values that were there when it was traced, so they are part of its signature. Seen are names that the
function's code mentions, in the functions and methods that it calls by name, and the plain attributes of objects found so; a
module's `training` switches, and an optimizer's options. Tensors are not values but inputs; here only which tensor a name stands
for counts. What is another thing at every call (a clock, an iterator) makes a function `unsteady`.
"""
from __future__ import annotations

import dis
import itertools
import os
import sys
import types
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kernels import store

from ..tensor import Tensor
from .places import PLAIN, Cell, Entries, Network, content, plain

FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, type, types.ModuleType)
CONTAINERS = (list, tuple, dict, set, deque)
MOST = 400                  # objects looked at
FEW_BYTES = 1024            # of an array, kept as they are
FEW_ITEMS = 64              # of a list, looked at one by one
SILENT = ("engine", "kernels", "numpy", "numba", "math", "cmath", "builtins")           # what is in them does not change
GENERATORS = ("random", "numpy.random._generator", "numpy.random.mtrand")       # where classes of random generators live
CLOCKS = {"time": ("time", "time_ns", "perf_counter", "perf_counter_ns", "monotonic", "monotonic_ns", "process_time"),
          "datetime": ("now", "today", "utcnow")}


class Environment:
    """The values that a function depends on; `values()` reads them as they are now.

    `forgotten`: containers that the function itself fills, whose contents do not count.
    """

    def __init__(self, function: Callable, forgotten: tuple = ()):
        self.readers: list[Callable[[], Any]] = []
        self.contents: dict[Callable[[], Any], Any] = {}     # readers of what containers hold, and these
        self.tensors: list[Tensor] = []         # those seen
        self.unsteady = ""                      # what makes each call another
        self.forgotten, self.rebound = forgotten, False
        self._known: dict[int, Any] = {}        # by id, kept alive so that no id is given twice
        self._look(function, 0)
        self.readers += self.contents

    def values(self) -> tuple:
        """The present values, hashable."""
        return tuple([read() for read in self.readers])

    def settle(self, before: tuple) -> str:
        """Forget containers to which the function has added since `before`. What it has changed in another way, in words.

        `rebound` tells then whether a name that it reads stands for another thing than before.
        """
        self.rebound = False
        for read, old in zip(list(self.readers), before, strict=True):
            if read not in self.contents:
                self.rebound = self.rebound or read() != old
                continue
            now, found = read(), self.contents[read]
            if now == old:
                continue
            if isinstance(found, np.ndarray) or now[:len(old)] != old:
                return f"it changes {_article(type(found).__name__)} that it also reads"
            self.readers.remove(read)
            self.forgotten += (found,)
        return ""

    def _look(self, found: Any, depth: int, names: tuple[str, ...] = ()) -> None:
        """Whatever belongs to a value; `names`: what the code that mentions it says besides."""
        if isinstance(found, types.ModuleType):
            self._module(found, depth, names)
            return
        if id(found) in self._known or len(self._known) > MOST or depth > 4:
            return
        self._known[id(found)] = found
        if isinstance(found, Tensor):
            self.tensors.append(found)
        elif isinstance(found, types.MethodType):
            self._look(found.__self__, depth, (*names, found.__func__.__name__))
            self._look(found.__func__, depth)
        elif isinstance(found, types.FunctionType):
            self._function(found, depth)
        elif isinstance(found, types.BuiltinFunctionType):
            if found.__name__ in CLOCKS.get(found.__module__ or "", ()):
                self.unsteady = self.unsteady or f"it reads a clock ({found.__module__}.{found.__name__})"
        elif hasattr(found, "function") and type(found).__module__.startswith("engine.compiler"):
            self._look(found.function, depth)
        elif _is(found, "engine.nn.module", "Module"):
            self._network(found, depth, names)
        elif _is(found, "engine.optim.optimizer", "Optimizer"):
            self.readers.append(lambda: _options(found))
        elif isinstance(found, np.ndarray):
            self._contents(found, lambda: elements(found))
        elif isinstance(found, CONTAINERS):
            self._items(found, depth)
        elif isinstance(found, type):
            if found.__module__.partition(".")[0] not in SILENT and not _is_standard(found.__module__):
                self._class(found, found, depth, _mentioned(found, names))
        elif (hasattr(type(found), "__next__") and not isinstance(found, itertools.count)) or type(found).__module__ in GENERATORS:
            self.unsteady = self.unsteady or f"it moves {_article(type(found).__name__)} on"
        elif not isinstance(found, PLAIN) and type(found).__module__.partition(".")[0] not in SILENT:
            self._attributes(found, depth, names)

    def _network(self, found: Any, depth: int, names: tuple[str, ...]) -> None:
        network = Network(found)
        self.readers.append(network)
        self.tensors += [*found.parameters(), *found.buffers()]
        for module in network.modules:
            self._attributes(module, depth, names)

    def _module(self, module: types.ModuleType, depth: int, names: tuple[str, ...]) -> None:
        """What code says of a module: `config.scale`."""
        root = module.__name__.partition(".")[0]
        clocks = [n for n in CLOCKS.get(root, ()) if n in names]
        if clocks:
            self.unsteady = self.unsteady or f"it reads a clock ({root}.{clocks[0]})"
        if root == "os" and ("environ" in names or "getenv" in names):
            self.readers.append(lambda: tuple(os.environ.items()))
        if root in SILENT or _is_standard(root) or depth > 4:
            return
        space = vars(module)
        for name in names:
            if name in space:
                self.readers.append(Entries(space, name))
                self._look(space[name], depth + 1, names)

    def _contents(self, found: Any, read: Callable[[], Any]) -> None:
        if not any(found is f for f in self.forgotten):
            self.contents[read] = found

    def _items(self, found: Any, depth: int) -> None:
        values = list(found.values()) if isinstance(found, dict) else list(found)
        if not isinstance(found, tuple):
            self._contents(found, lambda: _held(found))
        for value in values if len(values) <= FEW_ITEMS else ():
            self._look(value, depth + 1)

    def _function(self, function: types.FunctionType, depth: int) -> None:
        root = (function.__module__ or "").partition(".")[0]
        if root in SILENT or _is_standard(root):
            return
        names = tuple(sorted(set(_names(function.__code__))))
        named = isinstance(function.__globals__.get("time"), types.ModuleType) and len(set(names) & set(CLOCKS["time"])) == 1
        if named and "time" in names and not _reads(function.__code__, "time"):
            names = tuple(n for n in names if n != "time")          # the module, not its function of that name
        for cell in function.__closure__ or ():
            self.readers.append(Cell(cell))
            self._look(content(cell), depth + 1, names)
        space = function.__globals__
        for name in names:
            if name in space:
                if not isinstance(space[name], (types.ModuleType, types.BuiltinFunctionType)):
                    self.readers.append(Entries(space, name))
                self._look(space[name], depth + 1, names)
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._look(value, depth + 1, names)

    def _attributes(self, found: Any, depth: int, names: tuple[str, ...]) -> None:
        module, names = _is(found, "engine.nn.module", "Module"), _mentioned(type(found), names)
        own = getattr(found, "__dict__", None) or {}
        numbers = [n for n, v in own.items() if isinstance(v, PLAIN) and not (module and n.startswith("_")) and n != "training"]
        if numbers:
            self.readers.append(Entries(own, *numbers))
        for name, value in list(own.items()):
            if not isinstance(value, PLAIN) and not (module and name.startswith("_")):
                if isinstance(value, Tensor) or not (module or isinstance(value, FUNCTIONS)):
                    self.readers.append(Entries(own, name))
                self._look(value, depth + 1, names)
        self._class(found, type(found), depth, names)

    def _class(self, found: Any, cls: type, depth: int, names: tuple[str, ...]) -> None:
        """What code says of an object that is not its own: attributes of the class, slots, properties, methods."""
        for base in cls.__mro__:
            root = base.__module__.partition(".")[0]
            if root in SILENT or _is_standard(root):
                continue
            for name, value in list(vars(base).items()):
                if name not in names:
                    continue
                if isinstance(value, types.MemberDescriptorType):
                    if found is not cls:
                        self.readers.append(lambda name=name: plain(getattr(found, name, None)))
                        self._look(getattr(found, name, None), depth + 1, names)
                elif isinstance(value, property):
                    self._look(value.fget, depth + 1)
                elif isinstance(value, (staticmethod, classmethod)):
                    self._look(value.__func__, depth + 1)
                else:
                    self.readers.append(Entries(vars(base), name))
                    if found is not cls and name not in getattr(found, "__dict__", {name: None}):       # it may get one of its own
                        self.readers.append(Entries(found.__dict__, name))
                    self._look(value, depth + 1, names)


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _mentioned(cls: type, names: tuple[str, ...]) -> tuple[str, ...]:
    """Names that code says of an object of a class, with those that its methods say which are called so."""
    found, left = set(), [*names, "__call__", "forward"]
    while left:
        name = left.pop()
        if name in found:
            continue
        found.add(name)
        for base in cls.__mro__:
            if base.__module__.partition(".")[0] not in SILENT and not _is_standard(base.__module__):
                value = vars(base).get(name)
                value = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
                if isinstance(value, types.FunctionType):
                    left += _names(value.__code__)
    return tuple(sorted(found))


def _reads(code: types.CodeType, attribute: str) -> bool:
    """Whether code reads an attribute of this name."""
    return any(i.opname in ("LOAD_ATTR", "LOAD_METHOD") and i.argval == attribute for i in dis.get_instructions(code)) or any(
        isinstance(c, types.CodeType) and _reads(c, attribute) for c in code.co_consts)


def _is(found: Any, module: str, name: str) -> bool:
    """Whether an object is of a class of a module that may not be imported."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(found, getattr(loaded, name))


def _options(optimizer: Any) -> tuple:
    """What a step depends on: rules, where the optimizer has them (their numbers are computed for each run), else all options."""
    rule = getattr(optimizer, "_rule", None)
    if rule is not None:
        return tuple([(rule(g).name, len(g["params"])) for g in optimizer.param_groups])
    return tuple([_frozen({k: v for k, v in g.items() if k != "params"}) for g in optimizer.param_groups])


def _held(found: Any) -> tuple:
    """What a container holds, in its order."""
    if isinstance(found, dict):
        return tuple([(plain(k), plain(v)) for k, v in found.items()])
    return tuple([plain(v) for v in (sorted(found, key=repr) if isinstance(found, set) else found)])


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple([(k, _frozen(v)) for k, v in value.items()])
    if isinstance(value, (list, tuple)):
        return tuple([_frozen(v) for v in value])
    return plain(value)


def _is_standard(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names and module != "__main__"


def _article(word: str) -> str:
    return f"{'an' if word[:1] in 'aeiou' else 'a'} {word}"


def elements(array: np.ndarray) -> tuple:
    """What an array of NumPy's holds, as something hashable."""
    if array.dtype == object:
        return array.shape, tuple(map(id, array.ravel()))
    data = array.tobytes()
    return array.dtype.str, array.shape, data if len(data) <= FEW_BYTES else store.digest(data)
