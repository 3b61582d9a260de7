"""Batches as the loops of `loop.py` take them: which part is input and which target, how many samples, on which device.

A batch is a pair (input, target); either may be a tensor or tensors in lists, tuples, dicts and dataclasses. The model is called
with the input as it is.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..functions.join import cat
from ..tensor import Tensor
from ..tree import leaves_of, mapped
from ..utils.data import Dataset, IterableDataset


def as_batches(loader: Any, caller: str, name: str) -> Iterable:
    """The loader itself; one batch where it is a pair of tensors. TypeError for what cannot be walked in batches."""
    if isinstance(loader, tuple) and len(loader) == 2 and all(isinstance(part, Tensor) for part in loader):
        return [loader]
    if isinstance(loader, (Dataset, IterableDataset)):
        raise TypeError(f"{caller}: {name} is a data set, which gives single samples; wrap it: DataLoader({name}, batch_size=32)")
    if isinstance(loader, Tensor) or not hasattr(loader, "__iter__"):
        raise TypeError(f"{caller}: {name} must give batches (a DataLoader, a list of pairs, or one pair of tensors), but it is a "
                        f"{type(loader).__name__}")
    return loader


def length(loader: Iterable) -> int | None:
    """How many batches a loader will give, None where it does not know."""
    try:
        return len(loader)
    except TypeError:
        return None


def pairs(loader: Iterable, device: Any, caller: str, name: str) -> Iterator[tuple[Any, Any, int]]:
    """(input, target, number of samples) of each batch, on the device. ValueError where there is no batch, or one is no pair."""
    count = 0
    for batch in loader:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            given = f"{type(batch).__name__} of {len(batch)}" if isinstance(batch, (tuple, list, dict)) else type(batch).__name__
            raise ValueError(f"{caller}: a batch of {name} must be a pair (input, target), but it is a {given}; several inputs go "
                             "into one tuple or dict: ((a, b), target)")
        count += 1
        given, target = to_device(batch[0], device), to_device(batch[1], device)
        yield given, target, samples(target if _tensors(target) else given)
    if not count:
        raise ValueError(f"{caller}: {name} gave no batches. Its data set may be empty, drop_last may leave out the only batch, or "
                         "it is an iterator, which can be walked only once")


def inputs(loader: Any, device: Any) -> Iterator[Any]:
    """The input of each batch: the first part of a list or tuple, else all of it."""
    for batch in loader:
        yield to_device(batch[0] if isinstance(batch, (tuple, list)) and batch else batch, device)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in leaves_of(tree) if isinstance(leaf, Tensor)]


def samples(tree: Any) -> int:
    """The size of the first dimension of the first tensor; 1 for a single number."""
    found = _tensors(tree)
    return found[0].shape[0] if found and found[0].ndim else 1


def to_device(tree: Any, device: Any) -> Any:
    """The same structure with every tensor on the device; None leaves all where they are."""
    if device is None:
        return tree
    return mapped(lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, tree)


def detached(tree: Any) -> Any:
    """The same structure without its history."""
    return mapped(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, tree)


def joined(parts: list) -> Any:
    """Predictions of several batches as one, along the first dimension; parts that are no tensors become lists."""
    return mapped(lambda *leaves: cat(leaves) if all(isinstance(leaf, Tensor) and leaf.ndim for leaf in leaves) else list(leaves),
                  *parts)
