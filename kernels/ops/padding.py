"""Padding: a number around an array, or its own elements mirrored, repeated or wrapped around at the ends.

`pads` are pairs (before, after), one for each dimension; negative ones cut. The ends are filled by copies through views, one
dimension after the other; the adjoints add them back in the reverse order. Called by `engine.nn.functional.padding`.
"""
from __future__ import annotations

import numpy as np

from ..book import BOOK, structural
from ..cpu import buffers, copies
from .windows import repeat, zeros

Pads = tuple[tuple[int, int], ...]


def _cut(x: np.ndarray, pads: Pads) -> np.ndarray:
    """What negative pads leave of an array, a view."""
    return x[tuple(slice(max(0, -before), n - max(0, -after)) for n, (before, after) in zip(x.shape, pads, strict=True))]


def _negated(pads: Pads) -> Pads:
    return tuple((-before, -after) for before, after in pads)


@structural(["x"], anywhere=True, function=False, method=False, node="ConstantPadNdBackward0",
            adjoint=lambda g, pads: BOOK["constant_pad_nd"](g, pads=_negated(pads), value=0))
def constant_pad_nd(x, pads, value):
    """The array with `value` around it."""
    x = _cut(x, pads)
    grown = tuple((max(0, before), max(0, after)) for before, after in pads)
    out = buffers.empty(tuple(n + before + after for n, (before, after) in zip(x.shape, grown, strict=True)), x.dtype)
    if not out.size:
        return out
    inside: tuple = ()
    for d, (before, _) in enumerate(grown):             # the two slabs of each dimension, as far as they are not filled yet
        for slab in (slice(0, before), slice(before + x.shape[d], None)):
            part = out[(*inside, slab)]
            if part.size:
                repeat(part, value)
        inside = (*inside, slice(before, before + x.shape[d]))
    if x.size:
        copies.into(out[inside], x)
    return out


# --- ends made of the array's own elements ------------------------------------------------------------------------------------

def _ends(mode: str, size: int, before: int, after: int) -> list[tuple[slice, slice]]:
    """(what is filled, what it repeats) along a dimension whose `size` elements lie from `before` on; slices of the padded one."""
    first, last = before, before + size
    if mode == "reflect":
        low = slice(first + before, first, -1)
        high = slice(last - 2, last - 2 - after if last - 2 - after >= 0 else None, -1)
    elif mode == "replicate":
        low, high = slice(first, first + 1), slice(last - 1, last)
    else:
        low, high = slice(last - before, last), slice(first, first + after)
    return [(target, source) for target, source,
            n in ((slice(0, before), low, before), (slice(last, last + after), high, after)) if n]


def _along(d: int, part: slice) -> tuple:
    return (slice(None),) * d + (part,)


def _padding(name: str, mode: str, node: str) -> None:
    """A record that pads, and its adjoint; several names, because each has its node in PyTorch."""
    @structural(["x"], anywhere=True, name=name, node=node, linear=True, function=False, method=False,
                doc=f"The array with ends in mode {mode!r}; `pads` are not negative.",
                adjoint=lambda g, pads: BOOK[name + "_backward"](g, pads=pads))
    def forward(x, pads):
        out = buffers.empty(tuple(n + before + after for n, (before, after) in zip(x.shape, pads, strict=True)), x.dtype)
        if not out.size:
            return out
        inside = [slice(before, before + n) for n, (before, _) in zip(x.shape, pads, strict=True)]
        copies.into(out[tuple(inside)], x)
        for d, (before, after) in enumerate(pads):
            part = out[(slice(None),) * d + (slice(None), *inside[d + 1:])]
            for target, source in _ends(mode, x.shape[d], before, after):
                hole = part[_along(d, target)]
                copies.into(hole, np.broadcast_to(part[_along(d, source)], hole.shape))
        return out

    @structural(["x"], anywhere=True, name=name + "_backward", linear=True, function=False, method=False,
                doc=f"Ends in mode {mode!r} added to the elements that they repeat, and cut off: the adjoint of {name}.",
                adjoint=lambda g, pads: BOOK[name](g, pads=pads))
    def backward(x, pads):
        add, part = BOOK["add"], copies.copy(x)
        if not part.size:
            return zeros(tuple(n - before - after for n, (before, after) in zip(x.shape, pads, strict=True)), x.dtype)
        for d in reversed(range(x.ndim)):
            before, after = pads[d]
            size = part.shape[d] - before - after
            for target, source in _ends(mode, size, before, after):
                ends, place = part[_along(d, target)], part[_along(d, source)]
                if mode == "replicate":
                    ends = BOOK["sum"].on_arrays(ends, (d,), True)
                add.on_arrays(place, ends, out=place)
            part = part[_along(d, slice(before, before + size))]
        return copies.copy(part)


for _d in (1, 2, 3):
    _padding(f"reflection_pad{_d}d", "reflect", f"ReflectionPad{_d}DBackward0")
    _padding(f"replication_pad{_d}d", "replicate", f"ReplicationPad{_d}DBackward0")
_padding("circular_pad", "circular", "CopySlices")
