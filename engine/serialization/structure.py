"""Python objects as JSON beside named blocks of bytes, and back.

What can be kept: None, bool, int, float, complex, str, bytes, list, tuple, dict, OrderedDict, Counter, set, frozenset, range, Size,
dtypes, devices, generators, tensors, parameters, NumPy's arrays and numbers. JSON's own kinds stand for themselves; every other
object is {tag: content}. Tensors are numbers into a table, whose entries are the name of a block, or a dictionary:

    {"block": "w", "view": [dtype, shape, strides in bytes, offset in bytes], "order": [1, 0], "complex": true,
     "requires_grad": true, "parameter": true, "device": "cuda:0"}

Tensors over the same memory share a block, once. Used by `save` and `load`; reading builds these classes and calls nothing else.
"""
from __future__ import annotations

import itertools
import json
import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from ..errors import FormatError
from ..tensor import KIND_OF_NUMPY, Tensor, address_of, host, wrap
from .container import CODES, NUMPY, Block, parse_json
from .kinds import CONTAINERS, DICTS, LISTS, PLAIN, READERS

VERSION = 1
MAX_DEPTH = 100         # of nested containers: JSON's own readers stop soon after
_EXACT = 1 << 53        # larger integers are no JSON numbers for other readers
_REAL_CODES = {"F32": np.complex64, "F64": np.complex128}


# --- to JSON ----------------------------------------------------------------------------------------------------------

class Packer:
    """Takes an object apart: `text` is its structure, `blocks` {name: (code, shape, bytes)} what its tensors hold."""

    def __init__(self, obj: Any) -> None:
        self._tensors: list[Any] = []
        self._names: list[str] = []
        self._numbers: dict[int, int] = {}      # id of a tensor -> its number
        self._open: set[int] = set()            # containers around the present place
        self.blocks: dict[str, tuple[str, tuple[int, ...], np.ndarray]] = {}
        tree = self._pack(obj, ())
        table = self._table()
        self.text = json.dumps({"version": VERSION, "tree": tree, "tensors": table}, separators=(",", ":"), allow_nan=False)

    def _pack(self, x: Any, path: tuple) -> Any:
        cls = x.__class__
        if x is None or cls is bool or cls is str:
            return x
        if cls is int:
            return x if -_EXACT <= x <= _EXACT else {"int": hex(x)}
        if cls is float:
            return x if math.isfinite(x) else {"float": repr(x)}
        if isinstance(x, (Tensor, np.ndarray, np.generic)):
            return self._pack_array(x, path)
        if cls in PLAIN:
            tag, write, _ = PLAIN[cls]
            return {tag: write(x)}
        if cls not in CONTAINERS:
            raise TypeError(f"save: {_where(path)} is an object of class {cls.__module__}.{cls.__qualname__}, which the format "
                            "cannot keep without running code when it is read. Save its state: a dict of tensors, numbers, "
                            "strings, lists (module.state_dict(), optimizer.state_dict())")
        if id(x) in self._open:
            raise ValueError(f"save: {_where(path)} contains itself")
        if len(path) >= MAX_DEPTH:
            raise ValueError(f"save: containers are nested more than {MAX_DEPTH} deep")
        self._open.add(id(x))
        made = self._pack_dict(x, path) if isinstance(x, dict) else self._pack_list(x, path)
        self._open.discard(id(x))
        return made

    def _pack_list(self, x: Any, path: tuple) -> Any:
        parts = [self._pack(each, (*path, k)) for k, each in enumerate(x)]
        if x.__class__ is list:
            return parts
        if x.__class__ in (set, frozenset):         # in an order that does not change from process to process
            parts.sort(key=lambda part: json.dumps(part, sort_keys=True))
        return {CONTAINERS[x.__class__]: parts}

    def _pack_dict(self, x: dict, path: tuple) -> Any:
        if all(key.__class__ is str for key in x):
            made: Any = {key: self._pack(value, (*path, key)) for key, value in x.items()}
        else:
            made = [[self._pack_key(key, path), self._pack(value, (*path, key))] for key, value in x.items()]
        made = {CONTAINERS[x.__class__]: made}
        if x.__class__ is OrderedDict and hasattr(x, "_metadata"):      # versions of modules in a state dict
            made["_metadata"] = self._pack(x._metadata, (*path, "_metadata"))
        return made

    def _pack_key(self, key: Any, path: tuple) -> Any:
        if isinstance(key, Tensor):
            raise TypeError(f"save: a key of {_where(path)} is a tensor, which is another object after loading")
        return self._pack(key, (*path, "key"))

    def _pack_array(self, x: Any, path: tuple) -> dict:
        tag = "tensor" if isinstance(x, Tensor) else "array" if isinstance(x, np.ndarray) else "scalar"
        if tag == "tensor":
            _check_class(x, path)
        elif KIND_OF_NUMPY.get(x.dtype) is None or (tag == "array" and x.__class__ is not np.ndarray):
            raise TypeError(f"save: {_where(path)} is a NumPy {tag} of class {x.__class__.__name__} and dtype {x.dtype}, which the "
                            f"format does not have")
        if id(x) not in self._numbers:
            self._numbers[id(x)] = len(self._tensors)
            self._tensors.append(x)
            self._names.append(_name(path))
        return {tag: self._numbers[id(x)]}

    def _table(self) -> list:
        """The entries of all tensors; fills `blocks`."""
        arrays = [host(x) if isinstance(x, Tensor) else np.asarray(x) for x in self._tensors]
        entries: list[dict] = [{} for _ in arrays]
        for group in _groups(arrays):
            self._share(group, arrays, entries)
        for entry, x in zip(entries, self._tensors, strict=True):
            if isinstance(x, Tensor):
                if x.requires_grad:
                    entry["requires_grad"] = True
                if x.__class__ is not Tensor:
                    entry["parameter"] = True
                if x._kind.device.type != "cpu":
                    entry["device"] = str(x._kind.device)
        return [entry["block"] if len(entry) == 1 else entry for entry in entries]

    def _share(self, group: list[int], arrays: list[np.ndarray], entries: list[dict]) -> None:
        """Write the block of tensors whose memory overlaps, and how each looks into it."""
        first = arrays[group[0]]
        bounds = [byte_bounds(arrays[k]) for k in group]
        start, end = min(b[0] for b in bounds), max(b[1] for b in bounds)
        same = {_look(arrays[k]) for k in group}
        if len(same) == 1 and first.nbytes <= end - start:
            about = self._write(min(group), first)
            for k in group:
                entries[k].update(about)
            return
        if any((address_of(arrays[k]) - start) % arrays[k].itemsize for k in group):    # odd addresses: cannot be tied
            for k in group:
                entries[k].update(self._write(k, arrays[k]))
            return
        cover = next((k for k in group if arrays[k].flags.c_contiguous and arrays[k].nbytes == end - start), None)
        if cover is not None:
            about = self._write(cover, arrays[cover])
        else:
            about = self._write(min(group), _gathered([arrays[k] for k in group], start, end))
        for k in group:
            a = arrays[k]
            entries[k].update(about if k == cover else {
                "block": about["block"],
                "view": [a.dtype.name, list(a.shape), list(a.strides), address_of(a) - start]})

    def _write(self, number: int, array: np.ndarray) -> dict:
        """Add a block with the elements of an array; returns the entry of a tensor that is the whole of it."""
        name = self._names[number]
        if name in self.blocks or name == "__metadata__":
            name = next(f"{name}~{n}" for n in itertools.count(2) if f"{name}~{n}" not in self.blocks)
        shape, about = array.shape, {"block": name}
        order = sorted(range(array.ndim), key=lambda d: -abs(array.strides[d]))
        if not array.flags.c_contiguous and array.transpose(order).flags.c_contiguous:      # permuted, and to remain so
            about["order"] = order
        if array.dtype.kind == "c":
            shape, about["complex"] = (*shape, 2), True
        raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        self.blocks[name] = CODES[array.dtype.name], shape, raw
        return about


def _where(path: tuple) -> str:
    return "the object" if not path else "the entry " + "".join(f"[{key!r}]" for key in path)


def _name(path: tuple) -> str:
    """The name of a tensor's block: its place in the object, "model.0.weight", as any reader can print it."""
    return ".".join(map(str, path)).encode("utf-8", "backslashreplace").decode() or "tensor"


def _check_class(x: Tensor, path: tuple) -> None:
    if x.__class__ is Tensor:
        return
    from ..nn.parameter import Parameter, is_lazy
    if is_lazy(x):
        raise RuntimeError(f"save: {_where(path)} is a parameter without a shape yet: run the module's forward once before saving")
    if x.__class__ is not Parameter:
        raise TypeError(f"save: {_where(path)} is of the class {x.__class__.__qualname__}, which is lost in the file: "
                        "save x.detach() or its data")


def _look(array: np.ndarray) -> tuple:
    return address_of(array), array.shape, array.strides, array.dtype


def _groups(arrays: list[np.ndarray]) -> list[list[int]]:
    """The numbers of arrays, those whose memory overlaps together."""
    groups = [[k] for k, a in enumerate(arrays) if not a.size]
    end = 0
    for low, high, k in sorted((*byte_bounds(a), k) for k, a in enumerate(arrays) if a.size):
        if low < end:
            groups[-1].append(k)
        else:
            groups.append([k])
        end = max(end, high)
    return groups


def _gathered(arrays: list[np.ndarray], start: int, end: int) -> np.ndarray:
    """A flat copy of the memory from `start` to `end`, of what the arrays see of it; the rest is zero."""
    raw = np.zeros(end - start, np.uint8)
    for a in arrays:
        np.ndarray(a.shape, a.dtype, raw, address_of(a) - start, a.strides)[...] = a
    kinds = {a.dtype for a in arrays}
    return raw.view(kinds.pop()) if len(kinds) == 1 else raw


# --- from JSON --------------------------------------------------------------------------------------------------------

class Unpacker:
    """Puts an object together from its structure and blocks; `place(tensor)` sends each tensor to its device.

    FormatError for whatever does not fit; a file can make nothing but the classes named above.
    """

    def __init__(self, text: str, blocks: dict[str, Block], raw: dict[str, np.ndarray],
                 place: Callable[[Tensor, str], Tensor]) -> None:
        parsed = parse_json(text)
        if not isinstance(parsed, dict) or not isinstance(parsed.get("version"), int):
            raise FormatError("the structure has no version")
        if parsed["version"] > VERSION:
            raise FormatError(f"written by a newer version of this engine (format {parsed['version']}, this one reads {VERSION})")
        if set(parsed) != {"version", "tree", "tensors"} or not isinstance(parsed["tensors"], list):
            raise FormatError("the structure must have version, tree and tensors")
        self._tree, self._entries = parsed["tree"], parsed["tensors"]
        self._blocks, self._raw, self._place = blocks, raw, place
        self._ordered: dict[tuple, np.ndarray] = {}
        self._made: dict[tuple[int, str], Any] = {}
        self._foreign: Exception | None = None          # what `place` raised, which is no fault of the file

    def object(self) -> Any:
        """The object."""
        used = {entry.get("block") if isinstance(entry, dict) else entry for entry in self._entries if not isinstance(entry, list)}
        if used != set(self._blocks):
            raise FormatError("the blocks in the file are not those of the structure")
        try:
            return self._unpack(self._tree, 0)
        except FormatError:
            raise
        except (TypeError, ValueError, KeyError, IndexError, OverflowError, AttributeError, RecursionError) as error:
            if error is self._foreign:
                raise
            raise FormatError(f"damaged structure ({error})") from None

    def _unpack(self, x: Any, depth: int) -> Any:
        if x is None or isinstance(x, (bool, str, int, float)):
            return x
        if depth > MAX_DEPTH:
            raise FormatError(f"containers are nested more than {MAX_DEPTH} deep")
        if isinstance(x, list):
            return [self._unpack(each, depth + 1) for each in x]
        tag, *more = x
        content = x[tag]
        if more and (tag != "ordered" or more != ["_metadata"]):
            raise FormatError(f"unknown object with the keys {list(x)!r:.60}")
        if tag in ("tensor", "array", "scalar"):
            return self._tensor(content, tag)
        if tag in READERS:
            return READERS[tag](content)
        if tag in DICTS:
            made = self._unpack_dict(DICTS[tag], content, depth)
            if more:
                made._metadata = self._unpack(x["_metadata"], depth + 1)
            return made
        if tag not in LISTS or not isinstance(content, list):
            raise FormatError(f"unknown kind of object {tag!r:.60}")
        parts = [self._unpack(each, depth + 1) for each in content]
        made = LISTS[tag](parts)
        if len(made) != len(parts):
            raise FormatError("an element stands twice in a set")
        return made

    def _unpack_dict(self, cls: type, content: Any, depth: int) -> Any:
        if isinstance(content, dict):
            return cls({key: self._unpack(value, depth + 1) for key, value in content.items()})
        made = {self._unpack(key, depth + 1): self._unpack(value, depth + 1) for key, value in content}
        if len(made) != len(content):
            raise FormatError("a key stands twice in a dictionary")
        return cls(made)

    def _tensor(self, number: Any, tag: str) -> Any:
        if type(number) is not int or not 0 <= number < len(self._entries):
            raise FormatError(f"there is no tensor {number!r:.60}")
        if (number, tag) not in self._made:
            entry = self._entries[number]
            entry = entry if isinstance(entry, dict) else {"block": entry}
            array = self._array(entry)
            self._made[number, tag] = (self._as_tensor(array, entry) if tag == "tensor" else array if tag == "array"
                                       else array.reshape(())[()])
        return self._made[number, tag]

    def _array(self, entry: dict) -> np.ndarray:
        if not set(entry) <= {"block", "view", "order", "complex", "requires_grad", "parameter", "device"}:
            raise FormatError(f"unknown entry of a tensor, {list(entry)!r:.80}")
        name = entry["block"]
        block, raw = self._blocks[name], self._raw[name]
        if "view" in entry:
            return _view(raw, *entry["view"])
        array = whole(name, block, raw)
        if entry.get("complex"):
            if block.code not in _REAL_CODES or block.shape[-1:] != (2,):
                raise FormatError(f"{name!r} is {block.code} of shape {block.shape}: no complex numbers")
            array = raw.view(_REAL_CODES[block.code]).reshape(block.shape[:-1])
        if "order" not in entry:
            return array
        key = name, tuple(entry["order"])
        if key not in self._ordered:
            order = entry["order"]
            if sorted(order) != list(range(array.ndim)) or any(type(d) is not int for d in order):
                raise FormatError(f"{name!r} has {array.ndim} dimensions, no order {order!r:.60}")
            self._ordered[key] = np.ascontiguousarray(array.transpose(order)).transpose(np.argsort(order))
        return self._ordered[key]

    def _as_tensor(self, array: np.ndarray, entry: dict) -> Tensor:
        location = entry.get("device", "cpu")
        if not isinstance(location, str):
            raise FormatError(f"no device: {location!r:.60}")
        kind, needs = KIND_OF_NUMPY[array.dtype], entry.get("requires_grad", False) is True
        if needs and kind.dtype.category < 2:
            raise FormatError(f"a tensor of {kind.dtype.name} cannot require a gradient")
        try:
            made = self._place(wrap(array, kind), location)
        except Exception as error:
            self._foreign = error
            raise
        if entry.get("parameter"):
            from ..nn.parameter import Parameter
            return Parameter(made, needs)
        return made.requires_grad_() if needs else made


def whole(name: str, block: Block, raw: np.ndarray) -> np.ndarray:
    """A block as an array; BF16 becomes float32, which holds every value of it. FormatError for what NumPy cannot shape."""
    try:
        if block.code == "BF16":
            halves = np.zeros((*block.shape, 2), np.uint16)         # a bfloat16 is the upper half of a float32
            halves[..., 1] = raw.view(np.uint16).reshape(block.shape)
            return halves.view(np.float32).reshape(block.shape)
        if block.code == "BOOL":
            _check_bools(raw)
        return _aligned(raw, np.dtype(NUMPY[block.code])).reshape(block.shape)
    except ValueError as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"{name!r} of shape {block.shape}: {error}") from None


def _aligned(raw: np.ndarray, kind: np.dtype) -> np.ndarray:
    """Bytes as elements; those of a mapped file may lie at odd addresses and are copied then."""
    array = raw.view(kind)
    return array if array.flags.aligned else array.copy()


def _check_bools(raw: np.ndarray) -> None:
    if raw.tobytes().translate(None, b"\0\1"):
        raise FormatError("there are bytes other than 0 and 1 in a tensor of bools")


def _view(raw: np.ndarray, name: str, shape: list, strides: list, offset: int) -> np.ndarray:
    """Elements of a block's bytes; NumPy checks that none lies outside."""
    if name not in CODES or len(shape) != len(strides) or any(type(n) is not int for n in (*shape, *strides, offset)):
        raise FormatError(f"no view of a block: {name!r:.30}, {shape!r:.60}, {strides!r:.60}, {offset!r:.30}")
    array = np.ndarray(tuple(shape), np.dtype(name), raw, offset, tuple(strides))
    if not array.flags.aligned:
        raise FormatError(f"a view of {name} elements at odd addresses")
    if name == "bool":
        _check_bools(np.ascontiguousarray(array))
    return array
