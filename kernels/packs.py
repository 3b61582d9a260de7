"""Packs: many kernels compiled ahead for a kind of processor, in one file that a wheel can carry.

A pack is for one system and one version of Python (a kernel is known by the bytecode of its functions) and holds object code
under keys that say nothing of the machine. Packs lie in `kernels/prebuilt/`, or where `ENGINE_PACKS` names files or folders; those
that suit this processor are asked after the store and before the compiler. Whoever installs a package is trusted with its packs as
with its source; a checksum tells a damaged one.
"""
from __future__ import annotations

import functools
import importlib.util
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

from . import processor, store

MAGIC = b"engine-pack-1\n"
FOLDER = os.path.join(os.path.dirname(__file__), "prebuilt")


def place() -> dict[str, str]:
    """What a pack must agree in with this process: the system, Python's bytecode, the text of the templates."""
    from llvmlite import binding as llvm
    return {"system": llvm.get_process_triple(), "python": f"{sys.implementation.cache_tag} {importlib.util.MAGIC_NUMBER.hex()}",
            "sources": store.sources()}


def default_path(target: str) -> str:
    """Where a pack lies in the package."""
    return os.path.join(FOLDER, f"{target}-{sys.implementation.cache_tag}-{sys.platform}.pack")


def write(path: Path, target: str, kernels: Iterable[tuple[str, dict, bytes]]) -> int:
    """Write (key, what the kernel says of itself, object code) of all kernels; returns the size in bytes."""
    import json  # here and below: it takes 1.5 ms, and a start without a pack has no use for it
    index, parts, offset = {}, [], 0
    for key, about, code in kernels:
        index[key] = [offset, len(code), about]
        parts.append(code)
        offset += len(code)
    code = b"".join(parts)
    header = json.dumps({"target": target, "kernels": index, **place()}, sort_keys=True).encode()
    data = MAGIC + store.digest(header, code).encode() + b"\n" + header + b"\n" + code
    aside = path.with_name(path.name + ".tmp")
    aside.write_bytes(data)
    os.replace(aside, path)
    return len(data)


def read(path: Path) -> tuple[dict, bytes] | None:
    """(header, code) of a sound pack; None for any other file."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    parts = data.split(b"\n", 3)
    if not data.startswith(MAGIC) or len(parts) < 4 or parts[1] != store.digest(parts[2], parts[3]).encode():
        return None
    import json
    return json.loads(parts[2]), parts[3]


@functools.cache
def there() -> bool:
    """Whether there may be packs at all."""
    return bool(os.environ.get("ENGINE_PACKS")) or os.path.isdir(FOLDER)


@functools.cache
def usable() -> tuple[tuple[Path, dict, bytes], ...]:
    """The packs whose code runs here."""
    from pathlib import Path  # takes 5 ms, with urllib
    named = [Path(p) for p in os.environ.get("ENGINE_PACKS", "").split(os.pathsep) if p]
    files = [f for p in (*named, Path(FOLDER)) for f in (sorted(p.glob("*.pack")) if p.is_dir() else [p])]
    found = []
    for file in files:
        pack = read(file)
        if pack is not None and place().items() <= pack[0].items() and processor.suits(pack[0]["target"]):
            found.append((file, *pack))
    return tuple(found)


def load(key: str) -> tuple[dict, bytes] | None:
    """What a kernel says of itself and its object code, by its key without the machine."""
    for _, header, code in usable():
        if key in header["kernels"]:
            offset, size, about = header["kernels"][key]
            return about, code[offset:offset + size]
    return None
