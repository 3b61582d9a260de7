"""What the tests of engine.save and engine.load share: comparing objects bit by bit, and files put together by hand."""
from __future__ import annotations

import io
import json
import math

import numpy as np

import engine
from engine import serialization


def written(obj) -> bytes:
    file = io.BytesIO()
    engine.save(obj, file)
    return file.getvalue()


def again(obj, **options):
    return engine.load(io.BytesIO(written(obj)), **options)


def same(a, b) -> bool:
    """Whether two objects are equal in class, structure, order of keys, and every bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, engine.Tensor):
        return (a.dtype is b.dtype and a.requires_grad == b.requires_grad and a.stride() == b.stride()
                and same(a.detach().numpy(), b.detach().numpy()))
    if isinstance(a, (np.ndarray, np.generic)):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return (len(a) == len(b) and all(same(x, y) for x, y in zip(a.items(), b.items(), strict=True))
                and same(getattr(a, "_metadata", None), getattr(b, "_metadata", None)))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, complex):
        return same([a.real, a.imag], [b.real, b.imag])
    if isinstance(a, engine.Generator):
        return same(a.get_state(), b.get_state())
    return a == b


ALL_DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64", "float16", "float32", "float64",
              "complex64", "complex128")


def of_dtype(name: str, shape=(2, 3)) -> engine.Tensor:
    """Every bit pattern may occur, NaN among them (but bools are 0 and 1)."""
    kind = np.dtype(name)
    raw = np.random.default_rng(len(name)).integers(0, 256, math.prod(shape) * kind.itemsize, np.uint8)
    return engine.from_numpy((raw % 2 if name == "bool" else raw).view(kind).reshape(shape).copy())


def header(data: bytes) -> dict:
    return json.loads(data[8:8 + int.from_bytes(data[:8], "little")])


def foreign(entries: dict, data: bytes, pad: str = "") -> bytes:
    """A file as another program writes it."""
    text = (json.dumps(entries) + pad).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: str, shape: list, begin: int, end: int) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def sealed(data: bytes, text: str) -> bytes:
    """A file with another structure and the checksum that belongs to it, as an attacker writes it."""
    head = header(data)
    raw = data[8 + int.from_bytes(data[:8], "little"):]
    blocks = {name: v for name, v in head.items() if name != "__metadata__"}
    digests = {name: (v["dtype"], tuple(v["shape"]), serialization._digest(np.frombuffer(raw[slice(*v["data_offsets"])], np.uint8)))
               for name, v in blocks.items()}
    metadata = {serialization.STRUCTURE: text, serialization.CHECKSUM: serialization._checksum(text, digests)}
    return foreign({"__metadata__": metadata, **blocks}, raw)
