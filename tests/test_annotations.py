"""Everything public has type annotations: functions, methods and properties, walked by their public names."""
from __future__ import annotations

import importlib
import inspect
import pkgutil
import types

import pytest

import engine

ROOMS = ("engine", "engine.autograd", "engine.autograd.graph", "engine.optim", "engine.random")
LATER = ("engine.nn", "engine.nn.functional", "engine.nn.init", "engine.utils.data", "engine.linalg", "engine.fft",
         "engine.special", "engine.func", "engine.library", "engine.testing", "engine.training", "engine.serialization",
         "engine.vision.datasets", "engine.vision.transforms", "engine.vision.transforms.functional", "engine.viz")
SPECIAL = ("__init__", "__call__", "__enter__", "__exit__", "__getitem__", "__setitem__", "__len__", "__add__", "__radd__")


def gaps(function) -> list[str]:
    """The parameters of a function that have no annotation, and "return"."""
    signature = inspect.signature(function)
    found = [p.name for k, p in enumerate(signature.parameters.values())
             if p.annotation is p.empty and not (k == 0 and p.name in ("self", "cls", "ctx"))]
    return found + ["return"] * (signature.return_annotation is signature.empty and function.__name__ != "__init__")


def members(name: str, owner: type):
    """(name, function) of what users call on a class of the engine."""
    for key, value in vars(owner).items():
        if key.startswith("_") and key not in SPECIAL:
            continue
        if isinstance(value, property):
            value = value.fget
        value = getattr(value, "__func__", value)
        if isinstance(value, types.FunctionType):
            yield f"{name}.{key}", value


def public(room: str):
    """(name, function) of everything that a module publishes."""
    module = importlib.import_module(room)
    for name in getattr(module, "__all__", None) or [n for n in vars(module) if not n.startswith("_")]:
        value = getattr(module, name)
        if isinstance(value, types.FunctionType):
            yield f"{room}.{name}", value
        elif isinstance(value, type) and value.__module__.partition(".")[0] == "engine":
            for owner in value.__mro__:
                if owner.__module__.partition(".")[0] == "engine" and (owner is not engine.Tensor or room == "engine"):
                    yield from members(f"{room}.{name}", owner)


def there(room: str) -> bool:
    """Whether this build has a module."""
    parent, _, name = room.rpartition(".")
    if not parent:
        return True
    return there(parent) and name in {m.name for m in pkgutil.iter_modules(importlib.import_module(parent).__path__)}


@pytest.mark.parametrize("room", [*ROOMS, *(r for r in LATER if there(r))])
def test_public_functions_are_annotated(room):
    missing = {f"{name}({', '.join(found)})" for name, function in public(room) if (found := gaps(function))}
    assert not missing, f"{len(missing)} without annotations: {sorted(missing)[:20]}"


def test_the_walk_finds_functions_and_gaps():
    names = [name for name, _ in public("engine")]
    assert "engine.Tensor.sum" in names and "engine.cat" in names and len(names) > 500
    assert gaps(lambda x: x) == ["x", "return"]
