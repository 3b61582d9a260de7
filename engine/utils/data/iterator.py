"""One pass over a DataLoader: what both ways of loading share, and loading in the same process.

`dataloader.py` makes these; `workers.py` has the iterator for worker processes.
"""
from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, NoReturn

from .dataset import IterableDataset
from .fetch import make_fetcher
from .sampler import draw_seed, index_batches


class LoaderIterator:
    """Base: `load()` gives the next batch or raises StopIteration."""

    ended = False           # whether nothing can come any more, not even after a reset

    def __init__(self, loader: Any):
        self._dataset, self._batched = loader.dataset, loader._auto_collation
        self._index_sampler = loader._index_sampler
        self._workers, self._persistent = loader.num_workers, loader.persistent_workers
        if loader.pin_memory:
            warnings.warn("'pin_memory' argument is set as true but no accelerator is found, then device pinned memory won't be "
                          "used.", UserWarning, stacklevel=3)
        self._base_seed = draw_seed(loader.generator)
        self._begin_counting(loader)

    def _begin_counting(self, loader: Any) -> None:
        self._indices: Iterator = iter(self._index_sampler)
        self._yielded, self._expected = 0, loader._IterableDataset_len_called

    def reset(self, loader: Any) -> None:
        """Begin another pass."""
        self._begin_counting(loader)

    def load(self) -> Any:
        """The next batch; every subclass defines it."""
        raise NotImplementedError

    def __iter__(self) -> LoaderIterator:
        return self

    def __next__(self) -> Any:
        batch = self.load()
        self._yielded += 1
        if self._expected is not None and self._yielded > self._expected and isinstance(self._dataset, IterableDataset):
            text = (f"Length of IterableDataset {self._dataset} was reported to be {self._expected}(when accessing "
                    f"len(dataloader)), but {self._yielded} samples have been fetched. ")
            if self._workers:
                text += ("For multiprocessing data-loading, this could be caused by not properly configuring the IterableDataset "
                         "replica at each worker. Please see https://pytorch.org/docs/stable/data.html"
                         "#torch.utils.data.IterableDataset for examples.")
            warnings.warn(text, UserWarning, stacklevel=2)
        return batch

    def __len__(self) -> int:
        return len(self._index_sampler)

    def __getstate__(self) -> NoReturn:
        raise NotImplementedError("{} cannot be pickled", type(self).__name__)


class SingleProcessIterator(LoaderIterator):
    """One pass, loaded here."""

    def __init__(self, loader: Any):
        super().__init__(loader)
        if loader.timeout:
            raise AssertionError("_SingleProcessDataLoaderIter requires timeout == 0")
        fetcher = make_fetcher(self._dataset, self._batched, loader.collate_fn, loader.drop_last)
        self._fetch, rows = fetcher.fetch, index_batches(self._index_sampler) if fetcher.by_columns else None
        if rows is not None:
            self._indices, self._fetch = rows, fetcher.rows

    def load(self) -> Any:
        return self._fetch(next(self._indices))
