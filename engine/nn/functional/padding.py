"""pad: constant, reflect, replicate and circular. The records are in `kernels.ops.padding`."""
from __future__ import annotations

from collections.abc import Sequence

from kernels.book import BOOK

from ...errors import ShapeError
from ...functions.operands import must_fit, plain
from ...tensor import Tensor

_SUPPORTED = ("Supported combinations for non-constant padding:\n  - 2D or 3D input: padding size = 2 (pads last dimension)\n"
              "  - 3D or 4D input: padding size = 4 (pads last 2 dimensions)\n"
              "  - 4D or 5D input: padding size = 6 (pads last 3 dimensions)")


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """The input with elements added (or, where negative, removed) at the ends of its last dimensions.

    `pad`: pairs (before, after), of the last dimension first. Modes: "constant" (`value`, 0), any number of dimensions; "reflect",
    "replicate", "circular": the last one, two or three of 2-d to 5-d inputs. Errors: RuntimeError, NotImplementedError.
    """
    if not isinstance(input, Tensor):
        raise TypeError(f"pad(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
    sizes = [n.__index__() for n in pad]
    ndim, shape = input._array.ndim, input._array.shape
    if len(sizes) % 2:
        raise RuntimeError("Padding length must be divisible by 2")
    if len(sizes) > 2 * ndim:
        raise RuntimeError("Padding length should be less than or equal to two times the input dimension but got padding length "
                           f"{len(sizes)} and input of dimension {ndim}")
    pairs = list(zip(sizes[::2], sizes[1::2], strict=True))
    pads = ((0, 0),) * (ndim - len(pairs)) + tuple(reversed(pairs))
    if mode == "constant":
        return _constant(input, pads, 0 if value is None else plain(value))
    if value is not None and value != 0:
        raise RuntimeError(f'Padding mode "{mode}" doesn\'t take in value argument')
    if (len(sizes), ndim) not in ((2, 2), (2, 3), (4, 3), (4, 4), (6, 4), (6, 5)):
        raise NotImplementedError(f"Padding size {len(sizes)} is not supported for {ndim}D input tensor.\n{_SUPPORTED}")
    if mode not in ("reflect", "replicate", "circular"):
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    if mode == "circular":
        for n, (before, after) in zip(shape, pads, strict=True):
            if before > n or after > n:
                raise RuntimeError("Padding value causes wrapping around more than once.")
            if n + before + after < 0:
                raise RuntimeError("Negative padding value is resulting in an empty dimension")
        return _own(input, "circular_pad", pads)
    name = f"{'reflection' if mode == 'reflect' else 'replication'}_pad{len(pairs)}d"
    _check_ends(name, input, pads, len(pairs))
    return _own(input, name, pads)


def _constant(input: Tensor, pads: tuple, value: complex) -> Tensor:
    if input._kind.dtype.category < 2 and isinstance(value, float):
        value = int(value)
    must_fit(value, input._kind)
    for n, (before, after) in zip(input._array.shape, pads, strict=True):
        if n + min(before, 0) + min(after, 0) < 0:
            raise RuntimeError("narrow(): length must be non-negative.")
        if n + before + after < 0:
            raise RuntimeError(f"The input size {n}, plus negative padding {before} and {after} resulted in a negative output "
                               f"size, "
                               "which is invalid.")
    return BOOK["constant_pad_nd"](input, pads=pads, value=value)


def _check_ends(name: str, input: Tensor, pads: tuple, dims: int) -> None:
    """Refuse what reflection and replication cannot pad, in PyTorch's words."""
    shape, ndim = input._array.shape, input._array.ndim
    if input._kind.dtype.name == "bool":
        raise NotImplementedError(f"\"{name}\" not implemented for 'Bool'")
    if 0 in shape[ndim - dims:] or (0 in shape[:1] and ndim == dims + 1) or 0 in shape[1:]:
        raise ShapeError(f"Expected {dims + 1}D or {dims + 2}D (batch mode) tensor with possibly 0 batch size and other non-zero "
                         f"dimensions for input, but got: {list(shape)}")
    for d in reversed(range(ndim - dims, ndim)):
        before, after = pads[d]
        if name.startswith("reflection") and (before >= shape[d] or after >= shape[d]):
            raise RuntimeError(f"Argument #{4 + 2 * (ndim - 1 - d)}: Padding size should be less than the corresponding input "
                               f"dimension, but got: padding ({before}, {after}) at dimension {d} of input {list(shape)}")
    letters = ("D", "H", "W")[3 - dims:]
    if any(shape[ndim - dims + k] + sum(pads[ndim - dims + k]) < 1 for k in range(dims)):
        given = " ".join(f"{c}: {shape[ndim - dims + k]}" for k, c in enumerate(letters))
        made = " ".join(f"{c}: {shape[ndim - dims + k] + sum(pads[ndim - dims + k])}" for k, c in enumerate(letters))
        raise RuntimeError(f"input ({given}) is too small. Calculated output {made}")


def _own(input: Tensor, name: str, pads: tuple) -> Tensor:
    """Pad with own elements. Negative pads cut afterwards: what positive ones repeat is counted in the whole input."""
    grown = tuple((max(0, before), max(0, after)) for before, after in pads)
    cut = tuple((min(0, before), min(0, after)) for before, after in pads)
    if not any(a or b for a, b in cut):
        return BOOK[name](input, pads=grown)
    if name == "circular_pad":          # PyTorch cuts first here
        return BOOK[name](BOOK["constant_pad_nd"](input, pads=cut, value=0), pads=grown)
    return BOOK["constant_pad_nd"](BOOK[name](input, pads=grown), pads=cut, value=0)


__all__ = ["pad"]
