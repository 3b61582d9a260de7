"""Sequences of different lengths: padded to one tensor, or packed so that no step computes on padding.

A packed sequence has the rows of the first step, then those of the second, and so on: `batch_sizes[t]` rows for step t, from
the longest sequence to the shortest. `sorted_indices` tell which sequence of the original order stands where. The recurrent
layers in `engine.nn.recurrent` take and give them. Gathering and placing rows are operators, so gradients pass through.
"""
from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from ...dtypes import int64
from ...errors import ShapeError
from ...functions.create import as_tensor, from_numpy
from ...functions.factories import full
from ...functions.join import cat
from ...functions.sequences import arange
from ...tensor import Tensor


class _Parts(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None


class PackedSequence(_Parts):
    """data (rows of all steps, ...), batch_sizes (steps) on the CPU, and the two permutations or None. Made by `pack_sequence`."""

    def __new__(cls, data: Tensor, batch_sizes: Tensor | None = None, sorted_indices: Tensor | None = None,
                unsorted_indices: Tensor | None = None) -> Self:
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        if batch_sizes is None:
            if not (isinstance(data, (list, tuple)) and len(data) == 2):
                raise AssertionError("Expected data to be a list or tuple of length 2")
            data, batch_sizes = data
        elif batch_sizes.device.type != "cpu":
            raise ValueError("batch_sizes should always be on CPU. Instances of PackedSequence should never be created manually. "
                             "They should be instantiated by functions like pack_sequence and pack_padded_sequences in "
                             "nn.utils.rnn. https://pytorch.org/docs/stable/nn.html#torch.nn.utils.rnn.pack_sequence")
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """The same with `data.to(...)`; the permutations follow to its device. Itself where nothing changes."""
        data = self.data.to(*args, **kwargs)
        if data is self.data:
            return self
        moved = (None if t is None else t.to(data.device) for t in (self.sorted_indices, self.unsorted_indices))
        return type(self)(data, self.batch_sizes, *moved)

    def pin_memory(self) -> Self:
        """The same in pinned memory."""
        moved = (None if t is None else t.pin_memory() for t in (self.sorted_indices, self.unsorted_indices))
        return type(self)(self.data.pin_memory(), self.batch_sizes, *moved)

    def cuda(self, *args: Any, **kwargs: Any) -> Self:
        """The same on a GPU."""
        return self.to(*args, **kwargs) if args or "device" in kwargs else self.to(device="cuda", **kwargs)

    def cpu(self, *args: Any, **kwargs: Any) -> Self:
        """The same on the CPU."""
        return self.to(*args, device="cpu", **kwargs)

    def _as(self, name: str) -> Self:
        return self.to(dtype=getattr(self.data, name)().dtype)

    def double(self) -> Self:
        """The same in float64."""
        return self._as("double")

    def float(self) -> Self:
        """The same in float32."""
        return self._as("float")

    def half(self) -> Self:
        """The same in float16."""
        return self._as("half")

    def long(self) -> Self:
        """The same in int64."""
        return self._as("long")

    def int(self) -> Self:
        """The same in int32."""
        return self._as("int")

    def short(self) -> Self:
        """The same in int16."""
        return self._as("short")

    def char(self) -> Self:
        """The same in int8."""
        return self._as("char")

    def byte(self) -> Self:
        """The same in uint8."""
        return self._as("byte")

    @property
    def is_cuda(self) -> bool:
        """Whether the data are on a GPU."""
        return self.data.is_cuda

    def is_pinned(self) -> bool:
        """Whether the data are in pinned memory."""
        return self.data.is_pinned()


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The permutation that undoes one; None for None."""
    if permutation is None:
        return None
    places = arange(0, permutation.numel(), device=permutation.device)
    return permutation.new_empty(permutation.shape).scatter_(0, permutation, places)


def _rows(sizes: Sequence[int], batch: int) -> np.ndarray:
    """Positions, in the (steps * batch) rows of a padded tensor, of the rows of a packed one."""
    sizes = np.asarray(sizes)
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.repeat(np.arange(len(sizes)) * batch, sizes) + within


def pack_padded_sequence(input: Tensor, lengths: Tensor | Sequence[int], batch_first: bool = False,
                         enforce_sorted: bool = True) -> PackedSequence:
    """Pack a padded tensor (steps, batch, ...), or (batch, steps, ...) where `batch_first`, of sequences of these lengths.

    Lengths fall from the first to the last where `enforce_sorted`; otherwise sequences are sorted here. RuntimeError else.
    """
    lengths = lengths.to(dtype=int64) if isinstance(lengths, Tensor) else as_tensor(lengths, dtype=int64)
    sorted_indices = None
    if not enforce_sorted:
        lengths, sorted_indices = lengths.sort(descending=True)
        sorted_indices = sorted_indices.to(input.device)
        input = input.index_select(0 if batch_first else 1, sorted_indices)
    if batch_first:
        input = input.transpose(0, 1)
    if lengths.ndim != 1:
        raise RuntimeError(f"'lengths' argument should be a 1D CPU int64 tensor, but got {lengths.ndim}D cpu Long tensor")
    counts = lengths.tolist()
    if not input.numel():
        raise RuntimeError("Cannot pack empty tensors.")
    steps, batch = input.shape[:2]
    if len(counts) != batch:
        raise ShapeError(f"Expected `len(lengths)` to be equal to batch_size, but got {len(counts)} (batch_size={batch})")
    if counts[-1] <= 0:
        raise RuntimeError("Length of all samples has to be greater than 0, but found an element in 'lengths' that is <= 0")
    if any(a < b for a, b in itertools.pairwise(counts)):
        raise RuntimeError("`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You can pass "
                           "`enforce_sorted=False` to pack_padded_sequence and/or pack_sequence to sidestep this requirement "
                           "if you do not need ONNX exportability.")
    if counts[0] > steps:
        raise ShapeError(f"Expected lengths of at most {steps}, the number of steps of the input, but got {counts[0]}")
    sizes = [0] * counts[0]
    for b, (count, shorter) in enumerate(zip(counts, [*counts[1:], 0], strict=True), 1):
        sizes[shorter:count] = [b] * (count - shorter)
    rows = from_numpy(_rows(sizes, batch)).to(input.device)
    data = input.reshape(steps * batch, *input.shape[2:]).index_select(0, rows)
    return PackedSequence(data, as_tensor(sizes, dtype=int64), sorted_indices, None)


def pad_packed_sequence(sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0,
                        total_length: int | None = None) -> tuple[Tensor, Tensor]:
    """The padded tensor (steps, batch, ...) of a packed sequence, in its original order, and the lengths.

    total_length: number of steps, the longest sequence's unless given; ValueError where it is smaller.
    """
    data, batch_sizes = sequence.data, sequence.batch_sizes
    sizes = batch_sizes.tolist()
    steps, batch = len(sizes), sizes[0]
    if total_length is not None:
        if total_length < steps:
            raise ValueError("Expected total_length to be at least the length of the longest sequence in input, but got "
                             f"total_length={total_length} and max sequence length being {steps}")
        steps = total_length
    rows = from_numpy(_rows(sizes, batch)).to(data.device)
    padded = full((steps * batch, *data.shape[1:]), padding_value, dtype=data.dtype, device=data.device).index_copy(0, rows, data)
    padded = padded.view(steps, batch, *data.shape[1:])
    if batch_first:
        padded = padded.transpose(0, 1)
    counts = np.zeros(batch, np.int64)
    for n in sizes:
        counts[:n] += 1
    lengths = from_numpy(counts)
    if sequence.unsorted_indices is None:
        return padded, lengths
    return padded.index_select(0 if batch_first else 1, sequence.unsorted_indices), lengths[sequence.unsorted_indices.cpu()]


def pad_sequence(sequences: Tensor | Iterable[Tensor], batch_first: bool = False, padding_value: float = 0.0,
                 padding_side: str = "right") -> Tensor:
    """Sequences (length, ...) stacked into (longest, batch, ...), or (batch, longest, ...), with `padding_value` on one side."""
    if not isinstance(sequences, Iterable):
        raise RuntimeError(f"pad_sequence: Expected iterable for input sequences, but got arg of type: {type(sequences)}")
    sequences = tuple(sequences)
    if not sequences:
        raise RuntimeError("received an empty list of sequences")
    if padding_side not in ("left", "right"):
        raise RuntimeError(f"Expected padding_side to be one of left or right, but got {padding_side}.")
    first = sequences[0]
    longest = max(s.size(0) for s in sequences)
    parts = []
    for s in sequences:
        if s.shape[1:] != first.shape[1:]:
            a, b, dim = next(((m, n, d) for d, (m, n) in enumerate(zip(first.shape[1:], s.shape[1:], strict=False), 1) if m != n),
                             (first.ndim, s.ndim, 0))
            raise ShapeError(f"The size of tensor a ({a}) must match the size of tensor b ({b}) at non-singleton dimension {dim}"
                             if dim else f"pad_sequence: sequences have {a} and {b} dimensions, but they must have the same number")
        missing = longest - s.size(0)
        pad = [full((missing, *first.shape[1:]), padding_value, dtype=s.dtype, device=s.device)] if missing else []
        parts += [s, *pad] if padding_side == "right" else [*pad, s]
    padded = cat(parts, 0).view(len(sequences), longest, *first.shape[1:])
    return padded if batch_first else padded.transpose(0, 1)


def unpad_sequence(padded_sequences: Tensor, lengths: Tensor, batch_first: bool = False) -> list[Tensor]:
    """The sequences (length, ...) that were padded to (longest, batch, ...), or (batch, longest, ...)."""
    if not batch_first:
        padded_sequences = padded_sequences.transpose(0, 1)
    return [s[:n] for s, n in zip(padded_sequences, lengths.tolist(), strict=True)]


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Pack sequences (length, ...), the longest first where `enforce_sorted`."""
    return pack_padded_sequence(pad_sequence(sequences), [s.size(0) for s in sequences], enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences (length, ...) that were packed, in their original order."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)


__all__ = [
    "PackedSequence", "invert_permutation", "pack_padded_sequence", "pack_sequence", "pad_packed_sequence", "pad_sequence",
    "unpack_sequence", "unpad_sequence",
]
