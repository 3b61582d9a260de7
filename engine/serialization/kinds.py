"""The classes of plain Python objects that files can hold: the tag of each, how it becomes JSON, and how it is read back.

What lives here: the tables that `structure` looks in; nothing about tensors. Every reader checks its content and raises
FormatError, or an exception of Python's own constructors, which `structure` turns into FormatError. No reader runs anything.
"""
from __future__ import annotations

import base64
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

from .. import devices, dtypes
from ..errors import FormatError
from ..random import Generator
from ..tensor import KIND, Size


def _numbers(content: Any, count: int) -> list[int]:
    if not isinstance(content, list) or len(content) != count or any(type(n) is not int for n in content):
        raise FormatError(f"expected {count} integers, got {content!r:.60}")
    return content


def _read_int(content: str) -> int:
    if not content.removeprefix("-").startswith("0x"):
        raise FormatError(f"no integer: {content!r:.60}")
    return int(content, 16)


def _read_float(content: str) -> float:
    if content not in ("nan", "inf", "-inf"):
        raise FormatError(f"no number: {content!r:.60}")
    return float(content)


def _read_complex(content: list) -> complex:
    real, imag = content
    return complex(float(real), float(imag))


def _read_dtype(content: str) -> dtypes.dtype:
    if content not in {d.name for d in KIND}:
        raise FormatError(f"no dtype: {content!r:.60}")
    return dtypes.by_name(content)


def _read_device(content: str) -> devices.device:
    if not isinstance(content, str):
        raise FormatError(f"no device: {content!r:.60}")
    try:
        return devices.device(content)
    except RuntimeError as error:
        raise FormatError(str(error)) from None


def _read_generator(content: list) -> Generator:
    seed, offset = (_read_int(word) for word in content)
    made = Generator().manual_seed(seed)
    made.set_offset(offset)
    return made


def _read_size(content: list) -> Size:
    return Size(_numbers(content, len(content)))


# class -> (tag, to JSON, from JSON)
PLAIN: dict[type, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    complex: ("complex", lambda x: [repr(x.real), repr(x.imag)], _read_complex),
    bytes: ("bytes", lambda x: base64.b64encode(x).decode(), lambda content: base64.b64decode(content, validate=True)),
    range: ("range", lambda x: [hex(n) for n in (x.start, x.stop, x.step)], lambda content: range(*map(_read_int, content))),
    Size: ("size", list, _read_size),
    dtypes.dtype: ("dtype", lambda x: x.name, _read_dtype),
    devices.device: ("device", str, _read_device),
    Generator: ("generator", lambda x: [hex(x.initial_seed()), hex(x.get_offset())], _read_generator),
}
READERS = {tag: read for tag, _, read in PLAIN.values()} | {"int": _read_int, "float": _read_float}
DICTS = {"dict": dict, "ordered": OrderedDict, "counter": Counter}
LISTS = {"tuple": tuple, "set": set, "frozenset": frozenset}
CONTAINERS = {cls: tag for tag, cls in (DICTS | LISTS).items()} | {list: "list"}
