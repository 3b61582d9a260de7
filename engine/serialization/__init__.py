"""`engine.save` and `engine.load`: tensors and plain Python objects in files that run nothing when they are read.

A file is a safetensors file (`container`): every tensor is a named block that other programs can read. The Python object around
the tensors is JSON in the file's metadata (`structure`), with a checksum of everything. Files of other writers have neither, and
load as a dictionary of tensors.
"""
from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import devices
from ..errors import DeviceError, FormatError
from ..tensor import Tensor, from_array
from . import container
from .structure import Packer, Unpacker, whole

STRUCTURE, CHECKSUM = "engine.structure", "engine.checksum"
MapLocation = Callable[[Tensor, str], Tensor | None] | devices.device | str | dict[str, str] | None


def save(obj: Any, f: str | os.PathLike | Any, pickle_module: Any = None, pickle_protocol: int | None = None,
         _use_new_zipfile_serialization: bool = True) -> None:
    """Write an object to a path or an open binary file: tensors, numbers, strings, dtypes, ... in lists, tuples and dicts.

    A path is replaced in one step when all is written. Tensors over the same memory are kept once and share it again after
    loading; a strided view keeps what it sees. Whether a tensor requires grad is kept, its gradient and history are not.
    Complex tensors are written as pairs of reals, a last dimension of size 2.
    Errors: TypeError for objects of other classes (save their state_dict), ValueError for containers that contain themselves,
    RuntimeError without the folder. No pickle is written: `pickle_module` must be None, `pickle_protocol` has no meaning here.
    """
    if pickle_module is not None:
        raise ValueError("save: nothing is pickled here, so pickle_module must be None")
    _check_byte_order()
    packed = Packer(obj)
    digests = {name: (code, shape, _digest(raw)) for name, (code, shape, raw) in packed.blocks.items()}
    metadata = {"format": "pt", CHECKSUM: _checksum(packed.text, digests), STRUCTURE: packed.text}
    header, order = container.header_of(packed.blocks, metadata)
    if isinstance(f, (str, os.PathLike)):
        with container.put_in_place(f) as file:
            _write(file, header, order, packed)
    elif hasattr(f, "write"):
        _write(f, header, order, packed)
    else:
        raise AttributeError("expected 'f' to be string, path, or a file-like object with a 'write' attribute")


def _write(file: Any, header: bytes, order: list[str], packed: Packer) -> None:
    container.write_all(file, header)
    for name in order:
        container.write_all(file, packed.blocks[name][2])


def load(f: str | os.PathLike | Any, map_location: MapLocation = None, pickle_module: Any = None, *,
         weights_only: bool | None = None, mmap: bool | None = None) -> Any:
    """The object in a file that `save` wrote, or the {name: tensor} of any safetensors file (BF16 as float32).

    map_location: a device for all tensors, a dict {"cuda:0": "cpu"}, or a function of (tensor on the CPU, where it was) that gives
    a tensor, or None for where it was. `mmap=True` maps a path instead of reading it; writes to the tensors stay in this process.
    Nothing in a file is ever run, whatever `weights_only` says. An open file is read from its position to the end of the data.
    Errors: FileNotFoundError; FormatError (a RuntimeError and ValueError) for damaged files and for PyTorch's pickles, which
    say how to convert them.
    """
    if pickle_module is not None:
        raise ValueError("load: nothing is unpickled here, so pickle_module must be None")
    _check_byte_order()
    on_disk = isinstance(f, (str, os.PathLike))
    if not on_disk and not hasattr(f, "read"):
        raise AttributeError(f"'{type(f).__name__}' object has no attribute 'read': expected 'f' to be string, path, or a "
                             "file-like object opened in binary mode")
    if mmap and not on_disk:
        raise ValueError("f must be a file path in order to use the mmap argument")
    place = _placer(map_location)
    try:
        blocks, metadata, raw = container.read_path(f, bool(mmap)) if on_disk else container.read_stream(f)
        if STRUCTURE not in metadata and CHECKSUM not in metadata:
            return {name: place(from_array(whole(name, blocks[name], raw[name])), "cpu") for name in blocks}
        if STRUCTURE not in metadata or CHECKSUM not in metadata:
            raise FormatError(f"damaged: of {STRUCTURE} and {CHECKSUM} only one is there")
        digests = {name: (block.code, block.shape, _digest(raw[name])) for name, block in blocks.items()}
        if _checksum(metadata[STRUCTURE], digests) != metadata[CHECKSUM]:
            raise FormatError("damaged: the checksum is that of other contents")
        return Unpacker(metadata[STRUCTURE], blocks, raw, place).object()
    except FormatError as error:
        label = repr(os.fspath(f)) if on_disk else f"<{type(f).__name__}>"
        raise FormatError(f"load: {label}: {error}") from None


def _check_byte_order() -> None:
    if sys.byteorder != "little":
        raise RuntimeError("save and load: files are little-endian and this machine is not")


def _digest(raw: np.ndarray) -> str:
    return hashlib.blake2b(raw, digest_size=16).hexdigest()


def _checksum(text: str, digests: dict[str, tuple[str, tuple[int, ...], str]]) -> str:
    """Of the structure and of name, dtype, shape and bytes of every block, in whatever order they lie in the file."""
    whole_content = json.dumps([text, sorted([name, code, list(shape), digest] for name, (code, shape, digest) in digests.items())])
    return hashlib.blake2b(whole_content.encode(), digest_size=16).hexdigest()


def _placer(map_location: MapLocation) -> Callable[[Tensor, str], Tensor]:
    """A function that sends a tensor, which was on the device `location` when it was saved, to where it shall be."""
    if map_location is None or isinstance(map_location, dict):
        table = {str(devices.as_device(a)): devices.as_device(b) for a, b in (map_location or {}).items()}
        return lambda tensor, location: _moved(tensor, table.get(location, location))
    if isinstance(map_location, (str, devices.device)):
        target = devices.as_device(map_location)
        return lambda tensor, location: _moved(tensor, target)
    if not callable(map_location):
        raise TypeError(f"load: map_location must be a device, a string, a dict or a function, not {type(map_location).__name__}")

    def place(tensor: Tensor, location: str) -> Tensor:
        found = map_location(tensor, location)
        return _moved(tensor, location) if found is None else found

    return place


def _moved(tensor: Tensor, target: devices.device | str) -> Tensor:
    if str(target) == "cpu":
        return tensor
    try:
        return tensor.to(target)
    except DeviceError as error:
        raise DeviceError(f"Attempting to deserialize object on device {target}, which is not there: {error}. Use engine.load with "
                          "map_location=engine.device('cpu') to map your storages to the CPU.") from None


__all__ = ["FormatError", "load", "save"]
