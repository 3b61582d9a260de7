"""Memory formats: the order in which dimensions lie in memory, as `memory_format=` names it. Values never change."""
from __future__ import annotations

from typing import Any

from kernels.book import BOOK

from ..tensor import Tensor, element_strides
from .registry import PUBLIC


class memory_format:
    """One format. `order`: dimensions from the slowest to the fastest for `ndim` of them (None: row-major); `keeps`: keep
    the input's.
    """

    def __init__(self, name: str, order: tuple[int, ...] | None = None, keeps: bool = False) -> None:
        self.name, self.order, self.keeps = name, order, keeps

    def __repr__(self) -> str:
        return f"engine.{self.name}"

    def __reduce__(self) -> Any:
        return _by_name, (self.name,)

    def apply(self, x: Tensor, always: bool = False) -> Tensor:
        """The tensor in this order; itself if it is already, unless `always` asks for a copy. RuntimeError for another rank."""
        if x._array.ndim != len(self.order):
            raise RuntimeError(f"required rank {len(self.order)} tensor to use {self.name} format")
        if not always and self.holds(x):
            return x
        moved = BOOK["contiguous"](BOOK["permute"](x, dims=self.order))
        back = tuple(sorted(range(len(self.order)), key=self.order.__getitem__))
        made = BOOK["permute"](moved, dims=back)
        made._view = None               # nobody else sees the copy that it looks at
        return made

    def holds(self, x: Tensor) -> bool:
        """Whether the tensor's elements lie in this order without gaps."""
        if self.order is None:
            return x._array.flags.c_contiguous
        if x._array.ndim != len(self.order):
            return False
        step = 1
        strides = element_strides(x._array)
        for d in reversed(self.order):
            n = x._array.shape[d]
            if n != 1 and strides[d] != step:
                return False
            step *= max(n, 1)
        return True


FORMATS = {f.name: f for f in (
    memory_format("contiguous_format"), memory_format("preserve_format", keeps=True),
    memory_format("channels_last", (0, 2, 3, 1)), memory_format("channels_last_3d", (0, 2, 3, 4, 1)))}


def _by_name(name: str) -> memory_format:
    return FORMATS[name]


def is_contiguous(input: Tensor, memory_format: memory_format = FORMATS["contiguous_format"]) -> bool:
    """Whether elements lie in row-major order (or another format's) without gaps."""
    return memory_format.holds(input)


Tensor.is_contiguous = is_contiguous
PUBLIC.update(FORMATS, memory_format=memory_format)
