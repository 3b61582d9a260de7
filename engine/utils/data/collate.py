"""How samples become a batch: tensors, arrays and numbers are stacked, containers are taken apart and put together again.

`default_collate` is a DataLoader's `collate_fn` for batches, `default_convert` the one without batching. A user's map from types
to functions, given to `collate`, extends the rules.
"""
from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import numpy as np

from ... import dtypes
from ...functions.create import as_tensor, tensor
from ...functions.join import stack
from ...tensor import Tensor

_NO_NUMBERS = re.compile("[SaUO]")          # NumPy's codes of strings and objects
_WORDS = "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found {}"

Rules = dict[type | tuple[type, ...], Callable]


def _rebuilt_mapping(example: Mapping, items: dict) -> Mapping:
    """A mapping like another one, with these items; a dictionary where its class does not take them."""
    try:
        if isinstance(example, MutableMapping):
            made = copy.copy(example)
            made.update(items)
            return made
        return type(example)(items)
    except TypeError:
        return items


def _rebuilt_sequence(example: Sequence, items: list) -> Sequence:
    """A sequence like another one, with these items; a list where its class does not take them."""
    try:
        if isinstance(example, MutableSequence):
            made = copy.copy(example)
            for k, item in enumerate(items):
                made[k] = item
            return made
        return type(example)(items)
    except TypeError:
        return items


def default_convert(data: Any) -> Any:
    """NumPy arrays and scalars as tensors, also inside of containers; everything else as it is."""
    if isinstance(data, Tensor):
        return data
    if isinstance(data, (np.ndarray, np.generic)) and not isinstance(data, (np.str_, np.bytes_)):
        return data if isinstance(data, np.ndarray) and _NO_NUMBERS.search(data.dtype.str) else as_tensor(data)
    if isinstance(data, Mapping):
        return _rebuilt_mapping(data, {key: default_convert(data[key]) for key in data})
    if isinstance(data, tuple):
        parts = [default_convert(d) for d in data]
        return type(data)(*parts) if hasattr(data, "_fields") else parts
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return _rebuilt_sequence(data, [default_convert(d) for d in data])
    return data


def collate(batch: Sequence, *, collate_fn_map: Rules | None = None) -> Any:
    """One object out of a list of like ones, by the rules of a map from types to functions `f(batch, *, collate_fn_map)`.

    The first sample's type decides. TypeError for a type without rule, RuntimeError for sequences of different lengths.
    """
    example = batch[0]
    if collate_fn_map is not None:
        rule = collate_fn_map.get(type(example)) or next(
            (rule for kind, rule in collate_fn_map.items() if isinstance(example, kind)), None)
        if rule is not None:
            return rule(batch, collate_fn_map=collate_fn_map)
    if isinstance(example, Mapping):
        return _rebuilt_mapping(example, {k: collate([d[k] for d in batch], collate_fn_map=collate_fn_map) for k in example})
    if isinstance(example, tuple) and hasattr(example, "_fields"):
        return type(example)(*(collate(part, collate_fn_map=collate_fn_map) for part in zip(*batch, strict=False)))
    if isinstance(example, Sequence):
        size = len(example)
        if any(len(other) != size for other in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        parts = [collate(part, collate_fn_map=collate_fn_map) for part in zip(*batch, strict=True)]
        return parts if isinstance(example, tuple) else _rebuilt_sequence(example, parts)
    raise TypeError(_WORDS.format(type(example)))


# --- the rules of default_collate -------------------------------------------------------------------------------------

def collate_tensor_fn(batch: Sequence[Tensor], *, collate_fn_map: Rules | None = None) -> Tensor:
    """Tensors of one shape, stacked."""
    return stack(list(batch), 0)


def collate_numpy_array_fn(batch: Sequence[np.ndarray], *, collate_fn_map: Rules | None = None) -> Any:
    """Arrays as tensors. TypeError for strings and objects."""
    if _NO_NUMBERS.search(batch[0].dtype.str):
        raise TypeError(_WORDS.format(batch[0].dtype))
    return collate([as_tensor(b) for b in batch], collate_fn_map=collate_fn_map)


def collate_numpy_scalar_fn(batch: Sequence[np.generic], *, collate_fn_map: Rules | None = None) -> Tensor:
    """NumPy scalars, in their own dtype."""
    return as_tensor(np.array(batch))


def collate_float_fn(batch: Sequence[float], *, collate_fn_map: Rules | None = None) -> Tensor:
    """Python floats, in float64."""
    return tensor(batch, dtype=dtypes.float64)


def collate_int_fn(batch: Sequence[int], *, collate_fn_map: Rules | None = None) -> Tensor:
    """Python integers and bools."""
    return tensor(batch)


def collate_str_fn(batch: Sequence, *, collate_fn_map: Rules | None = None) -> Sequence:
    """Strings stay a list."""
    return batch


default_collate_fn_map: Rules = {
    Tensor: collate_tensor_fn, np.ndarray: collate_numpy_array_fn, (np.bool_, np.number, np.object_): collate_numpy_scalar_fn,
    float: collate_float_fn, int: collate_int_fn, str: collate_str_fn, bytes: collate_str_fn,
}


def default_collate(batch: Sequence) -> Any:
    """A batch out of a list of samples: tensors, arrays and numbers become tensors with one more dimension in front."""
    return collate(batch, collate_fn_map=default_collate_fn_map)
