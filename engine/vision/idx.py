"""IDX files, the format of MNIST: reading them, plain or gzipped, and fetching published ones with their checksums.

An IDX file is 0, 0, a code of the element type, the number of dimensions, their sizes and the elements, all big-endian
(http://yann.lecun.com/exdb/mnist). Used by `datasets`.
"""
from __future__ import annotations

import gzip
import hashlib
import math
import os
import shutil
import urllib.request
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import FormatError
from ..serialization.container import put_in_place, read_exactly
from ..tensor import Tensor, from_array

TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
TIMEOUT = 60.0          # seconds without an answer of a server


def read_idx(path: str | os.PathLike) -> Tensor:
    """The tensor in an IDX file, whose name ends in ".gz" where it is compressed. FormatError says what is wrong with it."""
    opened = gzip.open if os.fspath(path).endswith(".gz") else open
    with opened(path, "rb") as file:
        try:
            return _parse(file)
        except FormatError as error:
            raise FormatError(f"{os.fspath(path)}: {error}") from None
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise FormatError(f"{os.fspath(path)}: damaged or truncated gzip file ({error})") from None


def _parse(file: Any) -> Tensor:
    magic = read_exactly(file, 4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or not 1 <= magic[3] <= 8:
        raise FormatError(f"no IDX file: it begins with {magic.hex() or 'nothing'}, not with 0000, a type and 1 to 8 dimensions")
    kind, ndim = np.dtype(TYPES[magic[2]]), magic[3]
    sizes = read_exactly(file, 4 * ndim)
    if len(sizes) < 4 * ndim:
        raise FormatError("truncated among the sizes")
    shape = tuple(int.from_bytes(sizes[4 * d:4 * d + 4], "big") for d in range(ndim))
    need = math.prod(shape) * kind.itemsize
    data = read_exactly(file, need + 1)
    if len(data) != need:
        there = "more" if len(data) > need else len(data)
        raise FormatError(f"{'too long' if len(data) > need else 'truncated'}: elements of shape {shape} take {need} bytes, there "
                          f"are {there}")
    return from_array(np.frombuffer(data, kind).reshape(shape).astype(kind.newbyteorder("=")))


def find(names: Sequence[str], folders: Sequence[str]) -> str | None:
    """The first file that is there, plain or gzipped, under any of its names, in any of the folders."""
    for folder in folders:
        for name in names:
            for end in ("", ".gz"):
                path = os.path.join(folder, name + end)
                if os.path.isfile(path):
                    return path
    return None


def fetch(name: str, md5: str, mirrors: Sequence[str], folder: str) -> None:
    """Put the gzipped file `name` of a mirror into a folder, and beside it what it holds.

    RuntimeError tells what every mirror answered, and how to bring the file without a network.
    """
    os.makedirs(folder, exist_ok=True)
    packed = os.path.join(folder, name)
    problems = []
    if not (os.path.isfile(packed) and _md5(packed) == md5):
        for mirror in mirrors:
            url = mirror + name
            try:
                _download(url, packed, md5)
                break
            except (OSError, ValueError) as error:          # URLError is an OSError
                problems.append(f"Tried {url}, got:\n{error}")
        else:
            raise RuntimeError(f"Error downloading {name}:\n" + "\n".join(problems) + "\n"
                               f"Without a network, fetch {name} from {mirrors[0]}{name} elsewhere (its MD5 is {md5}) and put it, "
                               f"gzipped as it is, into {folder}")
    with gzip.open(packed, "rb") as source, put_in_place(packed.removesuffix(".gz")) as file:
        shutil.copyfileobj(source, file)


def _download(url: str, path: str, md5: str) -> None:
    """ValueError where the bytes are not those that were published; the file appears when they are."""
    request = urllib.request.Request(url, headers={"User-Agent": "njit-engine"})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer, put_in_place(path) as file:
        digest = hashlib.md5(usedforsecurity=False)
        while piece := answer.read(1 << 16):
            digest.update(piece)
            file.write(piece)
        if digest.hexdigest() != md5:
            raise ValueError(f"a file with the MD5 {digest.hexdigest()} instead of {md5}: not what was published")


def _md5(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
