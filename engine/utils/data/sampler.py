"""Samplers: in which order a DataLoader visits the indices of a data set, and how it groups them.

A sampler is anything that can be iterated; those here draw from the engine's generators, so that seeds repeat an order.
`index_batches` is the short way for the two usual ones: whole tensors of indices, the same indices in the same order.
"""
from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Generic, TypeVar

from kernels.philox import philox4x32

from ... import dtypes
from ...functions.create import as_tensor
from ...functions.distributions import multinomial
from ...functions.random import randint, randperm
from ...random import Generator, default_generator
from ...tensor import Tensor

T_co = TypeVar("T_co", covariant=True)


def draw_seed(generator: Generator | None = None) -> int:
    """A number of 63 bits from a generator (None: the default one): one block of Philox, computed by hand."""
    seed, block = (generator or default_generator).reserve(1)
    low, high, _, _ = philox4x32(block & 0xFFFFFFFF, block >> 32, 0, 0, seed & 0xFFFFFFFF, seed >> 32)
    return (low | high << 32) & 0x7FFFFFFFFFFFFFFF


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


class Sampler(Generic[T_co]):
    """Base of samplers: a subclass defines `__iter__`, and `__len__` where it knows."""

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError


class SequentialSampler(Sampler[int]):
    """0, 1, 2, ..."""

    data_source: Sized

    def __init__(self, data_source: Sized):
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler[int]):
    """All indices in random order; with `replacement`, independent draws. `num_samples` of them (default: as many as there are)."""

    data_source: Sized
    replacement: bool

    def __init__(self, data_source: Sized, replacement: bool = False, num_samples: int | None = None,
                 generator: Generator | None = None):
        self.data_source, self.replacement, self._num_samples, self.generator = data_source, replacement, num_samples, generator
        if not isinstance(replacement, bool):
            raise TypeError(f"replacement should be a boolean value, but got replacement={replacement}")
        if not isinstance(self.num_samples, int) or self.num_samples <= 0:
            raise ValueError(f"num_samples should be a positive integer value, but got num_samples={self.num_samples}")

    @property
    def num_samples(self) -> int:
        """How many indices an iteration gives."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def _generator(self) -> Generator:
        """The given generator; else a new one for each iteration, seeded from the default one."""
        return Generator().manual_seed(draw_seed()) if self.generator is None else self.generator

    def __iter__(self) -> Iterator[int]:
        size, generator, left = len(self.data_source), self._generator(), self.num_samples
        while left > 0:
            if self.replacement:
                drawn = randint(0, size, (min(left, 32),), generator=generator)     # few at a time: data sets may be huge
            else:
                drawn = randperm(size, generator=generator)[:left]
            yield from drawn.tolist()
            left -= drawn.numel()

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler[int]):
    """Given indices in random order."""

    indices: Sequence[int]

    def __init__(self, indices: Sequence[int], generator: Generator | None = None):
        self.indices, self.generator = indices, generator

    def __iter__(self) -> Iterator[int]:
        for k in randperm(len(self.indices), generator=self.generator).tolist():
            yield self.indices[k]

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler[int]):
    """`num_samples` indices drawn in proportion to weights, which need not sum to one."""

    weights: Tensor
    num_samples: int
    replacement: bool

    def __init__(self, weights: Sequence[float], num_samples: int, replacement: bool = True, generator: Generator | None = None):
        if not _is_count(num_samples):
            raise ValueError(f"num_samples should be a positive integer value, but got num_samples={num_samples}")
        if not isinstance(replacement, bool):
            raise ValueError(f"replacement should be a boolean value, but got replacement={replacement}")
        self.weights = as_tensor(weights, dtype=dtypes.float64)
        if self.weights.ndim != 1:
            raise ValueError(f"weights should be a 1d sequence but given weights have shape {tuple(self.weights.shape)}")
        self.num_samples, self.replacement, self.generator = num_samples, replacement, generator

    def __iter__(self) -> Iterator[int]:
        yield from multinomial(self.weights, self.num_samples, self.replacement, generator=self.generator).tolist()

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list[int]]):
    """Indices of another sampler in lists of `batch_size`; a shorter last list is left out where `drop_last`."""

    def __init__(self, sampler: Sampler[int] | Iterable[int], batch_size: int, drop_last: bool):
        if not _is_count(batch_size):
            raise ValueError(f"batch_size should be a positive integer value, but got batch_size={batch_size}")
        if not isinstance(drop_last, bool):
            raise ValueError(f"drop_last should be a boolean value, but got drop_last={drop_last}")
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, drop_last

    def __iter__(self) -> Iterator[list[int]]:
        indices = iter(self.sampler)
        while batch := list(itertools.islice(indices, self.batch_size)):
            if len(batch) < self.batch_size and self.drop_last:
                return
            yield batch

    def __len__(self) -> int:
        whole, rest = divmod(len(self.sampler), self.batch_size)
        return whole + bool(rest and not self.drop_last)


def index_batches(batches: Any) -> Iterator[Tensor | slice] | None:
    """What a plain BatchSampler over a plain SequentialSampler or RandomSampler would give, as slices or tensors of indices.

    None for all others, and for draws with replacement.
    """
    if type(batches) is not BatchSampler:
        return None
    sampler = batches.sampler
    if type(sampler) is SequentialSampler:
        return _slices(batches)
    if type(sampler) is RandomSampler and not sampler.replacement and sampler.num_samples == len(sampler.data_source):
        return _shuffled(batches)
    return None


def _slices(batches: BatchSampler) -> Iterator[slice]:
    size, step = len(batches.sampler), batches.batch_size
    for first in range(0, size - size % step if batches.drop_last else size, step):
        yield slice(first, min(first + step, size))


def _shuffled(batches: BatchSampler) -> Iterator[Tensor]:
    order = randperm(len(batches.sampler), generator=batches.sampler._generator())
    for part in _slices(batches):
        yield order[part]


__all__ = ["BatchSampler", "RandomSampler", "Sampler", "SequentialSampler", "SubsetRandomSampler", "WeightedRandomSampler"]
