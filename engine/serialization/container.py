"""The safetensors format, written to its public specification (https://github.com/huggingface/safetensors): named blocks of bytes.

    8 bytes     N, the length of the header, little-endian
    N bytes     JSON: {"__metadata__": {str: str}, name: {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...}
    the rest    the blocks, without holes or overlaps; offsets count from the end of the header

What lives here: headers made and checked, blocks read and written, files put in place in one step. What blocks mean to Python
objects is in `structure`; `save` and `load` are in the package's front. Nothing read here is ever run.
"""
from __future__ import annotations

import contextlib
import json
import math
import mmap
import os
import secrets
import stat
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..errors import FormatError

NUMPY = {"BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32",
         "U64": "uint64", "I64": "int64", "F16": "float16", "F32": "float32", "F64": "float64", "C64": "complex64"}
CODES = {name: code for code, name in NUMPY.items()} | {"complex64": "F32", "complex128": "F64"}    # ours: pairs of reals
BITS = {code: 8 * np.dtype(name).itemsize for code, name in NUMPY.items()} | {"BF16": 16}
OTHERS = ("F4", "F6_E2M3", "F6_E3M2", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E5M2FNUZ", "F8_E4M3FNUZ")    # known, not read
MAX_HEADER = 100_000_000        # as the reference implementation
_PIECE = 1 << 24                # a stream is read in pieces of this size, so that a false length allocates no more
_CONVERT = ("Reading it may run code of its author, so this engine does not. Convert it once where PyTorch is installed:\n"
            "    from safetensors.torch import save_file\n"
            "    state = torch.load('model.pt', weights_only=True)\n"
            "    save_file({k: v.clone().contiguous() for k, v in state.items()}, 'model.safetensors')\n"
            "and read that with engine.load('model.safetensors')")


class Block(NamedTuple):
    """A named array of a file: the format's word for its dtype, its shape, and its place among the data."""

    code: str
    shape: tuple[int, ...]
    begin: int
    end: int


# --- headers ----------------------------------------------------------------------------------------------------------

def header_of(blocks: dict[str, tuple[str, tuple[int, ...], np.ndarray]], metadata: dict[str, str]) -> tuple[bytes, list[str]]:
    """The first bytes of a file with these blocks (code, shape, bytes), and the order in which their bytes follow.

    Wide elements come first and the header ends at a multiple of 8, so that everything is aligned. ValueError beyond 100 MB.
    """
    order = sorted(blocks, key=lambda name: (-BITS[blocks[name][0]], name))
    header: dict[str, Any] = {"__metadata__": metadata}
    place = 0
    for name in order:
        code, shape, raw = blocks[name]
        header[name] = {"dtype": code, "shape": list(shape), "data_offsets": [place, place + raw.nbytes]}
        place += raw.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise ValueError(f"save: names and plain Python values take {len(text)} bytes, the format allows {MAX_HEADER}: keep "
                         "large lists of numbers as tensors")
    return len(text).to_bytes(8, "little") + text, order


def header_length(first: bytes) -> int:
    """The header's length from the first 9 bytes of a file; FormatError for files that are something else."""
    begun = first[8:] == b"{"           # without it, it is no header, and the bytes before it may be the mark of another format
    if first[:4] == b"PK\x03\x04" and not begun:
        raise FormatError(f"this is a zip archive, as torch.save writes them, with a pickle inside. {_CONVERT}")
    if first[:1] == b"\x80" and first[1:2] in (b"\2", b"\3", b"\4", b"\5") and not begun:
        raise FormatError(f"this is a pickle, as older torch.save and pickle.dump write them. {_CONVERT}")
    if len(first) < 8:
        raise FormatError(f"not a safetensors file: {len(first)} bytes are too short for one; it may be truncated")
    length = int.from_bytes(first[:8], "little")
    if not 2 <= length <= MAX_HEADER:
        raise FormatError(f"not a safetensors file: a header of {length} bytes is impossible (at most {MAX_HEADER})")
    return length


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; FormatError where a key stands twice."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise FormatError("a key stands twice in the same JSON object")
    return made


def parse_json(text: str) -> Any:
    """JSON without its liberties: no key twice, no NaN. FormatError for everything that is wrong with it."""
    def refuse(word: str) -> None:
        raise FormatError(f"{word} is no JSON")

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except FormatError:
        raise
    except (ValueError, RecursionError) as error:
        raise FormatError(f"damaged JSON ({error})") from None


def parse_header(text: bytes) -> tuple[dict[str, Block], dict[str, str]]:
    """The blocks and the metadata of a header, checked as the specification demands; FormatError."""
    if text[:1] != b"{":
        raise FormatError("not a safetensors file: the header does not begin with '{'")
    try:
        header = parse_json(text.decode("utf-8"))
    except UnicodeDecodeError:
        raise FormatError("the header is no UTF-8") from None
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise FormatError("__metadata__ must map strings to strings")
    blocks = {name: _block(name, about) for name, about in header.items()}
    place = 0
    for name, block in sorted(blocks.items(), key=lambda item: (item[1].begin, item[1].end)):
        if block.begin != place:
            raise FormatError(f"{name!r} begins at byte {block.begin} of the data, not at {place}: a hole or an overlap")
        place = block.end
    return blocks, metadata


def _block(name: str, about: Any) -> Block:
    """One entry of a header."""
    if not isinstance(about, dict) or set(about) != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"{name!r} must have dtype, shape and data_offsets")
    code, shape, offsets = about["dtype"], about["shape"], about["data_offsets"]
    if not (isinstance(code, str) and (code in BITS or code in OTHERS)):
        raise FormatError(f"{name!r} has the unknown dtype {code!r}")
    if code in OTHERS:
        raise FormatError(f"{name!r} has dtype {code}, which this engine does not have: convert it to F32 with the program that "
                          "wrote it")
    if not (_sizes(shape) and _sizes(offsets) and len(offsets) == 2):
        raise FormatError(f"shape and data_offsets of {name!r} must be lists of sizes, got {shape!r:.60} and {offsets!r:.60}")
    begin, end = offsets
    need = math.prod(shape) * BITS[code] // 8
    if end - begin != need:
        raise FormatError(f"{name!r} is {code} of shape {shape} and needs {need} bytes, its place has {end - begin}")
    return Block(code, tuple(shape), begin, end)


def _sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 63 for n in value)


# --- reading ----------------------------------------------------------------------------------------------------------

def read_exactly(file: Any, count: int) -> bytes:
    """So many bytes of a stream, or as many as there are."""
    pieces, have = [], 0
    while have < count:
        piece = file.read(min(count - have, _PIECE))
        if not isinstance(piece, (bytes, bytearray, memoryview)):
            raise TypeError(f"load: the file's read() gave {type(piece).__name__}: open it in binary mode")
        if not piece:
            break
        pieces.append(piece)
        have += len(piece)
    return b"".join(pieces)


def read_stream(file: Any) -> tuple[dict[str, Block], dict[str, str], dict[str, np.ndarray]]:
    """Blocks, metadata and the bytes of each block, of an open file: up to the end of the data, no further. FormatError."""
    first = read_exactly(file, 9)
    length = header_length(first)
    text = first[8:] + read_exactly(file, length - 1)
    if len(text) < length:
        raise FormatError(f"truncated: the header has {length} bytes, {len(text)} are there")
    blocks, metadata = parse_header(text)
    total = max((b.end for b in blocks.values()), default=0)
    raw = {}
    for name, block in sorted(blocks.items(), key=lambda item: (item[1].begin, item[1].end)):
        data = read_exactly(file, block.end - block.begin)
        if len(data) < block.end - block.begin:
            raise FormatError(f"truncated: there are {total} bytes of data, {name!r} ends beyond the end of the file")
        raw[name] = np.frombuffer(bytearray(data), np.uint8) if data else np.empty(0, np.uint8)
    return blocks, metadata, raw


def read_path(path: Any, mapped: bool) -> tuple[dict[str, Block], dict[str, str], dict[str, np.ndarray]]:
    """As `read_stream`, of a whole file. `mapped`: the blocks are views into a private mapping of the file."""
    with open(path, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return read_stream(file)
        size = os.fstat(file.fileno()).st_size
        first = file.read(9)
        length = header_length(first)
        if length > size - 8:
            raise FormatError(f"truncated, or no safetensors file: the header has {length} bytes, the file {size}")
        blocks, metadata = parse_header(first[8:] + file.read(length - 1))
        total = max((b.end for b in blocks.values()), default=0)
        if total != size - 8 - length:
            raise FormatError(f"{'truncated' if total > size - 8 - length else 'too long'}: the header tells of {total} bytes of "
                              f"data, there are {size - 8 - length}")
        if mapped:
            whole = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)[8 + length:]
            return blocks, metadata, {name: whole[b.begin:b.end] for name, b in blocks.items()}
        raw = {}
        for name, block in sorted(blocks.items(), key=lambda item: (item[1].begin, item[1].end)):
            raw[name] = np.empty(block.end - block.begin, np.uint8)
            if file.readinto(raw[name]) != raw[name].size:
                raise FormatError(f"truncated while it was read, at {name!r}")
    return blocks, metadata, raw


# --- writing ----------------------------------------------------------------------------------------------------------

def write_all(file: Any, data: Any) -> None:
    """Write all of `data`, also where the file takes it in parts."""
    view = memoryview(data)
    while view.nbytes:
        taken = file.write(view)
        if not isinstance(taken, int) or taken >= view.nbytes:
            return
        view = view[taken:]


@contextlib.contextmanager
def put_in_place(path: Any) -> Iterator[Any]:
    """An open file that takes the place of `path` when all is written; what was there stays where anything fails.

    Links are followed; what is no regular file (a pipe, /dev/null) is written directly. RuntimeError without the folder.
    """
    target = os.path.realpath(os.fsdecode(path))
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise RuntimeError(f"Parent directory {folder} does not exist.")
    if os.path.isdir(target):
        raise IsADirectoryError(f"save: {target} is a folder")
    if os.path.exists(target) and not os.path.isfile(target):
        with open(target, "wb") as file:
            yield file
        return
    aside = os.path.join(folder, f".{os.path.basename(target)[:100]}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        with open(aside, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if os.path.exists(target):
            os.chmod(aside, stat.S_IMODE(os.stat(target).st_mode))
        os.replace(aside, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(aside)
        raise
