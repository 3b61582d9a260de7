"""From indices to a batch, in the process that loads: by index, from a stream, or by columns.

A fetcher has `fetch(indices)`. By columns is the short way for tensors: one `index_select` per tensor of a TensorDataset (or of
Subsets of one) instead of a sample at a time, where the result is what `default_collate` would make of the samples.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ...functions.scattering import index_select
from ...tensor import Tensor, from_array
from .collate import default_collate
from .dataset import Dataset, IterableDataset, Subset, TensorDataset


class IndexFetcher:
    """Samples of a data set by index; `batched`: several indices give one collated batch."""

    by_columns = False

    def __init__(self, dataset: Dataset, batched: bool, collate_fn: Callable[[Any], Any]):
        self.dataset, self.batched, self.collate_fn = dataset, batched, collate_fn

    def fetch(self, index: Any) -> Any:
        """The batch, or without batching the sample, of an index."""
        dataset = self.dataset
        if not self.batched:
            samples = dataset[index]
        elif getattr(dataset, "__getitems__", None):
            samples = dataset.__getitems__(index)
        else:
            samples = [dataset[k] for k in index]
        return self.collate_fn(samples)


class StreamFetcher:
    """Samples of a stream in their order; of the indices only the number counts. StopIteration at the end."""

    by_columns = False

    def __init__(self, dataset: Iterable, batched: bool, collate_fn: Callable[[Any], Any], drop_last: bool):
        self.samples, self.batched, self.collate_fn, self.drop_last = iter(dataset), batched, collate_fn, drop_last
        self.ended = False

    def fetch(self, index: Any) -> Any:
        """The next batch, or without batching the next sample."""
        if self.ended:
            raise StopIteration
        if not self.batched:
            return self.collate_fn(next(self.samples))
        found: list[Any] = []
        for _ in index:
            try:
                found.append(next(self.samples))
            except StopIteration:
                self.ended = True
                break
        if not found or (self.drop_last and len(found) < len(index)):
            raise StopIteration
        return self.collate_fn(found)


class ColumnFetcher:
    """Batches of tensors by whole columns. `order`: which rows of the tensors the data set has, None for all."""

    by_columns = True

    def __init__(self, tensors: tuple[Tensor, ...], order: Tensor | None, slow: IndexFetcher):
        self.tensors, self.order, self.slow = tensors, order, slow
        self.size = tensors[0].shape[0] if order is None else order.shape[0]

    def fetch(self, index: Any) -> list[Tensor]:
        """The batch of some indices."""
        plain = index.__class__ is list and index and all(k.__class__ is int for k in index)
        if not plain or min(index) < 0 or max(index) >= self.size:
            return self.slow.fetch(index)               # negative ones count from the end, others may be errors
        return self.rows(from_array(np.array(index)))

    def rows(self, index: Tensor | slice) -> list[Tensor]:
        """The batch of indices that are known to be in range."""
        if self.order is not None:
            index = self.order[index] if index.__class__ is slice else index_select(self.order, 0, index.to(self.order.device))
        if index.__class__ is slice:
            return [t[index].clone() for t in self.tensors]
        return [index_select(t, 0, index if index.device is t.device else index.to(t.device)) for t in self.tensors]


def _columns(dataset: Dataset) -> tuple[tuple[Tensor, ...], Tensor | None] | None:
    """The tensors and rows that a data set consists of, or None where its samples may be something else."""
    order: np.ndarray | None = None
    while type(dataset) is Subset:
        size = len(dataset.dataset)
        rows = dataset.indices
        if not isinstance(rows, (list, range)) or not rows or not all(k.__class__ is int for k in rows):
            return None
        if min(rows) < 0 or max(rows) >= size:
            return None
        here = from_array(np.array(rows))
        order = here if order is None else index_select(here, 0, order)
        dataset = dataset.dataset
    if type(dataset) is not TensorDataset or any(type(t) is not Tensor or t.requires_grad for t in dataset.tensors):
        return None
    return dataset.tensors, order


def make_fetcher(dataset: Dataset, batched: bool, collate_fn: Callable[[Any], Any],
                 drop_last: bool) -> IndexFetcher | StreamFetcher | ColumnFetcher:
    """The fetcher for a data set."""
    if isinstance(dataset, IterableDataset):
        return StreamFetcher(dataset, batched, collate_fn, drop_last)
    slow = IndexFetcher(dataset, batched, collate_fn)
    found = _columns(dataset) if batched and collate_fn is default_collate else None
    return slow if found is None else ColumnFetcher(*found, slow)
