"""Nested arguments and results: tuples, lists, dictionaries and dataclasses of anything, taken apart and put together again.

`flatten` gives the leaves in order and a hashable `structure`; `unflatten` is its inverse. Used by `engine.compiler` and
`engine.func`.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

LEAF = "leaf"


def flatten(tree: Any, leaves: list) -> Any:
    """Append the leaves of a tree to `leaves`; returns its structure."""
    cls = tree.__class__
    if cls is tuple or cls is list:
        return cls, None, tuple([flatten(t, leaves) for t in tree])
    if cls is dict:
        return dict, tuple(tree), tuple([flatten(t, leaves) for t in tree.values()])
    if isinstance(tree, tuple):                 # named results
        return cls, None, tuple([flatten(t, leaves) for t in tree])
    if isinstance(tree, (list, dict)):          # subclasses: OrderedDict, ...
        if isinstance(tree, list):
            return cls, None, tuple([flatten(t, leaves) for t in tree])
        return cls, tuple(tree), tuple([flatten(t, leaves) for t in tree.values()])
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        names = tuple(f.name for f in dataclasses.fields(tree))
        return cls, names, tuple([flatten(getattr(tree, n), leaves) for n in names])
    leaves.append(tree)
    return LEAF


def unflatten(structure: Any, leaves: Iterator) -> Any:
    """The tree of a structure with these leaves."""
    if structure is LEAF:
        return next(leaves)
    cls, names, parts = structure
    built = [unflatten(p, leaves) for p in parts]
    if names is None:
        if cls is tuple or cls is list:
            return cls(built)
        return cls(*built) if issubclass(cls, tuple) and hasattr(cls, "_fields") else cls(built)
    if issubclass(cls, dict):
        return cls(zip(names, built, strict=True))
    return cls(**dict(zip(names, built, strict=True)))


def leaves_of(tree: Any) -> list:
    """The leaves of a tree."""
    leaves: list = []
    flatten(tree, leaves)
    return leaves


def mapped(function: Callable, tree: Any, *others: Any) -> Any:
    """The tree with `function(leaf, leaf of the others...)` in place of each leaf."""
    leaves: list = []
    structure = flatten(tree, leaves)
    rest: list[Iterable] = []
    for other in others:
        own: list = []
        if flatten(other, own) != structure:
            raise ValueError("trees of different structure")
        rest.append(own)
    return unflatten(structure, iter([function(*group) for group in zip(leaves, *rest, strict=True)]))
