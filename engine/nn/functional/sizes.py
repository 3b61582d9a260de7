"""Arguments that are one number or one for each spatial dimension: kernel sizes, strides, paddings.

Called by `conv` and `pooling` here and in `engine.nn`, for the words of errors too.
"""
from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from ...tensor import Tensor

IntOrInts = int | Sequence[int]


def ints(function: str, argument: str, position: int, value: Any) -> tuple[int, ...]:
    """The number or numbers of an argument as a tuple; TypeError in PyTorch's words for anything else."""
    if isinstance(value, (list, tuple)):
        found = []
        for k, v in enumerate(value):
            try:
                found.append(operator.index(v))
            except TypeError:
                raise TypeError(f"{function}(): argument '{argument}' (position {position}) must be tuple of ints, but found "
                                f"element of type {type(v).__name__} at pos {k}") from None
        return tuple(found)
    try:
        return (operator.index(value),)
    except (TypeError, ValueError):
        raise TypeError(f"{function}(): argument '{argument}' (position {position}) must be tuple of ints, not "
                        f"{type(value).__name__}") from None


def tensors(function: str, **arguments: Any) -> None:
    """TypeError in PyTorch's words for the first argument that is no tensor."""
    for position, (name, value) in enumerate(arguments.items(), 1):
        if not isinstance(value, Tensor):
            raise TypeError(f"{function}(): argument '{name}' (position {position}) must be Tensor, not {type(value).__name__}")


def worded(prefix: str, values: Sequence[int], between: str = " ") -> str:
    """Numbers with their dimensions' names, two at least, as PyTorch's kernels print them: "pad_height: 1 pad_width: 0"."""
    words = ("depth", "height", "width")[-max(2, len(values)):]
    return between.join(f"{prefix}_{w}: {v}" for w, v in zip(words, values, strict=True))
