"""The files of engine.save: what other programs read and write, and what ten thousand kinds of damage do.

The oracle for the format is the safetensors package where it is installed, and files put together by hand after the specification.
"""
from __future__ import annotations

import functools
import io
import json
import math
import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from saving import ALL_DTYPES, entry, foreign, header, of_dtype, same, sealed, written

import engine
from engine import serialization
from engine.serialization import container

# --- the format -------------------------------------------------------------------------------------------------------

def test_header_is_aligned_and_sorted():
    data = written({"b": engine.ones(3, dtype=engine.uint8), "a": engine.ones(1, dtype=engine.float64), "c": engine.ones(1)})
    assert int.from_bytes(data[:8], "little") % 8 == 0
    assert [v.get("data_offsets") for v in header(data).values()] == [None, [0, 8], [8, 12], [12, 15]]
    assert list(header(data)) == ["__metadata__", "a", "c", "b"]
    assert header(data)["__metadata__"]["format"] == "pt"
    assert all(type(v) is str for v in header(data)["__metadata__"].values())
    assert written({"a": {1, "b", None}}) == written({"a": {None, "b", 1}})


def test_the_package_reads_our_files(tmp_path):
    package = pytest.importorskip("safetensors.numpy")
    state = {name: of_dtype(name) for name in ALL_DTYPES}
    engine.save(state, tmp_path / "ours.safetensors")
    found = package.load_file(tmp_path / "ours.safetensors")
    for name in ALL_DTYPES:
        raw = state[name].numpy()
        if raw.dtype.kind == "c":       # pairs of reals
            raw = raw.view(raw.real.dtype).reshape(2, 3, 2)
        assert same(found[name], raw), name
    nested = {"model": {"w": engine.ones(2), "tied": engine.ones(2)}, "epoch": 3, "history": [engine.zeros(1), 2.5]}
    assert sorted(package.load(written(nested))) == ["history.0", "model.tied", "model.w"]
    assert package.load(written({"no": "tensors"})) == {}


def test_we_read_the_packages_files(tmp_path):
    package = pytest.importorskip("safetensors.numpy")
    state = {name: of_dtype(name).numpy() for name in ALL_DTYPES if name not in ("complex128",)}
    state |= {"scalar": np.array(2.5), "empty": np.zeros((0, 4), np.int16)}
    package.save_file(state, tmp_path / "theirs.safetensors", metadata={"format": "pt", "note": "by hand"})
    for options in ({}, {"mmap": True}):
        found = engine.load(tmp_path / "theirs.safetensors", **options)
        assert set(found) == set(state) and all(same(found[k].numpy(), state[k]) for k in state)
    open_safetensors = pytest.importorskip("safetensors").safe_open
    engine.save({"a": [engine.ones(2), 1]}, tmp_path / "ours.safetensors")
    with open_safetensors(tmp_path / "ours.safetensors", "numpy") as file:      # rewritten by another program: still ours
        package.save_file({k: file.get_tensor(k) for k in file.keys()}, tmp_path / "copy.safetensors", metadata=file.metadata())  # noqa: SIM118
    assert same(engine.load(tmp_path / "copy.safetensors"), {"a": [engine.ones(2), 1]})


def test_files_of_other_writers():
    f = np.array([1.5, -2.0], np.float32)
    halves = np.array([0x3FC0, 0xC000, 0x7F80, 0x7FC1], np.uint16)       # 1.5, -2, inf, nan
    data = foreign({"w": entry("F32", [2], 0, 8), "h": entry("BF16", [2, 2], 8, 16), "e": entry("I64", [0, 7], 16, 16),
                    "z": entry("C64", [1], 16, 24), "s": entry("U8", [], 24, 25)},
                   f.tobytes() + halves.tobytes() + np.array([1 - 2j], np.complex64).tobytes() + b"\x05", pad="   ")
    found = engine.load(io.BytesIO(data))
    assert list(found) == ["w", "h", "e", "z", "s"]
    assert found["w"].tolist() == [1.5, -2.0] and found["h"].dtype is engine.float32
    assert found["h"][0].tolist() == [1.5, -2.0] and found["h"].numpy().view(np.uint32)[1].tolist() == [0x7F800000, 0x7FC10000]
    assert found["e"].shape == (0, 7) and found["z"].tolist() == [1 - 2j] and found["s"].item() == 5
    found["w"][0] = 3       # writable
    assert engine.load(io.BytesIO(foreign({}, b""))) == {} == engine.load(io.BytesIO(foreign({"__metadata__": {"a": "b"}}, b"")))


BROKEN = {
    "hole": (foreign({"a": entry("U8", [1], 0, 1), "b": entry("U8", [1], 2, 3)}, b"abc"), "'b' begins at byte 2 .* not at 1"),
    "overlap": (foreign({"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 1, 3)}, b"abc"), "a hole or an overlap"),
    "front": (foreign({"a": entry("U8", [1], 1, 2)}, b"ab"), "begins at byte 1"),
    "reverse": (foreign({"a": entry("U8", [1], 1, 0)}, b"ab"), "needs 1 bytes, its place has -1"),
    "size": (foreign({"a": entry("F32", [2], 0, 4)}, b"abcd"), r"F32 of shape \[2\] and needs 8 bytes, its place has 4"),
    "product": (foreign({"a": entry("U8", [2**62, 4, 2**62], 0, 8)}, b"abcdefgh"), "its place has 8"),
    "rank": (foreign({"a": entry("U8", [1] * 100, 0, 1)}, b"a"), "'a' of shape .*dimension"),
    "large and empty": (foreign({"a": entry("F64", [2**62, 0, 2**62], 0, 0)}, b""), "'a' of shape"),
    "negative": (foreign({"a": entry("U8", [-1], 0, 1)}, b"a"), "must be lists of sizes"),
    "bool": (foreign({"a": entry("U8", [True], 0, 1)}, b"a"), "must be lists of sizes"),
    "float": (foreign({"a": entry("U8", [1.0], 0, 1)}, b"a"), "must be lists of sizes"),
    "three offsets": (foreign({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1, 1]}}, b"a"), "must be lists of sizes"),
    "missing": (foreign({"a": {"dtype": "U8", "shape": [1]}}, b"a"), "must have dtype, shape and data_offsets"),
    "more": (foreign({"a": entry("U8", [1], 0, 1) | {"x": 1}}, b"a"), "must have dtype, shape and data_offsets"),
    "list": (foreign({"a": [1]}, b"a"), "must have dtype, shape and data_offsets"),
    "dtype": (foreign({"a": entry("X9", [1], 0, 1)}, b"a"), "unknown dtype 'X9'"),
    "float8": (foreign({"a": entry("F8_E4M3", [1], 0, 1)}, b"a"), "F8_E4M3, which this engine does not have"),
    "bools": (foreign({"a": entry("BOOL", [2], 0, 2)}, b"\x00\x02"), "bytes other than 0 and 1"),
    "metadata": (foreign({"__metadata__": {"a": 1}}, b""), "__metadata__ must map strings to strings"),
    "metadata list": (foreign({"__metadata__": []}, b""), "__metadata__ must map"),
    "twice": (b"\x5e\0\0\0\0\0\0\0" + b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},'
              b'"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}'[:0x5e].ljust(0x5e) + b"a", "a key stands twice|damaged JSON"),
    "array": (b"\x08\0\0\0\0\0\0\0[       ", "does not begin with '{'"),
    "blank": (b"\x08\0\0\0\0\0\0\0 {}     ", "does not begin with '{'"),
    "not json": (b"\x08\0\0\0\0\0\0\0{nope!} ", "damaged JSON"),
    "NaN": (b"\x08\0\0\0\0\0\0\0{\"a\":NaN"[:16], "NaN is no JSON|damaged JSON"),
    "not utf-8": (b"\x08\0\0\0\0\0\0\0{\"\xff\":1} ", "no UTF-8"),
    "deep": ((200_001).to_bytes(8, "little") + b"{" + b"[" * 200_000, "damaged JSON"),
    "digits": (b"\x78\x23\0\0\0\0\0\0" + (b'{"a":' + b"9" * 9000 + b"}").ljust(0x2378), "damaged JSON|must have"),
    "long": ((2**63).to_bytes(8, "little") + b"{}", "a header of 9223372036854775808 bytes is impossible"),
    "over the limit": (container.MAX_HEADER.to_bytes(8, "little") + b"{}", "truncated"),
    "short": (b"\x00\x01", "too short"), "empty": (b"", "0 bytes are too short"), "zero": (bytes(8), "a header of 0 bytes"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_of_other_writers(case, tmp_path):
    data, words = BROKEN[case]
    with pytest.raises(serialization.FormatError, match=words):
        engine.load(io.BytesIO(data))
    (tmp_path / "broken").write_bytes(data)
    with pytest.raises(RuntimeError, match=f"broken.*({words})"):
        engine.load(tmp_path / "broken")
    with pytest.raises(ValueError, match=words):
        engine.load(str(tmp_path / "broken"), mmap=True)


def test_key_twice():
    text = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    with pytest.raises(serialization.FormatError, match="a key stands twice"):
        engine.load(io.BytesIO(len(text).to_bytes(8, "little") + text + b"a"))


def test_data_must_fill_the_file(tmp_path):
    path = tmp_path / "w"
    path.write_bytes(foreign({"a": entry("U8", [2], 0, 2)}, b"abc"))
    with pytest.raises(serialization.FormatError, match="too long: the header tells of 2 bytes of data, there are 3"):
        engine.load(path)
    path.write_bytes(foreign({"a": entry("U8", [2], 0, 2)}, b"a"))
    with pytest.raises(serialization.FormatError, match="truncated: the header tells of 2 bytes of data, there are 1"):
        engine.load(path)
    with pytest.raises(serialization.FormatError, match="truncated"):
        engine.load(io.BytesIO(foreign({"a": entry("U8", [2**60], 0, 2**60)}, b"a")))


class Trap:
    """Leaves a trace when a pickle of it is read."""

    def __reduce__(self):
        return os.mkdir, ("trapped",)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickles_are_refused(protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps({"w": Trap()}, protocol=protocol)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", data)
    for raw, words in ((data, "a pickle"), (archive.getvalue(), "a zip archive, as torch.save writes")):
        for weights_only in (None, True, False):
            with pytest.raises(serialization.FormatError, match=f"{words}.*(?s:.*)safetensors.torch import save_file"):
                engine.load(io.BytesIO(raw), weights_only=weights_only)
    assert not os.path.exists("trapped")


# --- damage -----------------------------------------------------------------------------------------------------------

def samples() -> list:
    base = engine.arange(6.0).reshape(2, 3)
    return [
        {"model": OrderedDict({"0.weight": of_dtype("float32", (3, 2)), "0.bias": of_dtype("float64", (2,))}),
         "optimizer": {"state": {0: {"step": engine.tensor(3.0), "exp_avg": of_dtype("float32", (3, 2))}},
                       "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999), "foreach": None, "params": [0, 1]}]},
         "epoch": 3, "best": math.inf, "name": "run ü"},
        [base, base[1], base.t(), engine.tensor([True, False, True]), of_dtype("complex64", (2,)), engine.ones(1).expand(4),
         10**40],
        of_dtype("uint8", (40,)),
        {"loss": [0.5, 0.25, math.nan], "classes": ("a", "b"), "size": engine.Size([3])},
    ]


def mutated_json(value, rng, depth=0):
    """JSON with one place changed."""
    kinds = ["replace"] + ["inside"] * 4 * (isinstance(value, (dict, list)) and len(value) > 0)
    if rng.choice(kinds) == "inside":
        if isinstance(value, dict):
            keys = list(value)
            key = keys[rng.integers(len(keys))]
            change = rng.integers(8)
            if change == 0 and depth:
                return {k: v for k, v in value.items() if k != key}
            if change == 1:
                return {("x" + k if k == key else k): v for k, v in value.items()}
            return {k: (mutated_json(v, rng, depth + 1) if k == key else v) for k, v in value.items()}
        k = rng.integers(len(value))
        if rng.integers(6) == 0:
            return value[:k] + value[k + 1:]
        return [mutated_json(v, rng, depth + 1) if j == k else v for j, v in enumerate(value)]
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return int(rng.choice([value + 1, value - 1, -value - 1, 0, 2**40, 2**62]))
    if isinstance(value, str) and value:
        k = rng.integers(len(value))
        return value[:k] + str(rng.choice(list('aZ09"{}[],:\\x-'))) + value[k + int(rng.integers(2)):]
    atoms = [None, True, -1, 0, 1, 2**70, 1.5, "", "F64", "nan", [], {}, [1, 2], {"tensor": 0}, {"int": "0x1"}, {"view": []}]
    return atoms[rng.integers(len(atoms))]


def damaged(data: bytes, rng) -> bytes:
    """A file with random damage of one kind."""
    raw = bytearray(data)
    a, b = sorted(int(k) for k in rng.integers(0, len(raw) + 1, 2))
    kind = rng.integers(9)
    if kind == 0:
        for k in rng.integers(0, len(raw), rng.integers(1, 9)):
            raw[k] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        del raw[a:]
    elif kind == 2:
        raw[a:a] = rng.bytes(int(rng.integers(1, 40)))
    elif kind == 3:
        del raw[a:a + int(rng.integers(1, 40))]
    elif kind == 4:
        n = int(rng.integers(1, 40))
        raw[a:a + n] = rng.bytes(len(raw[a:a + n]))
    elif kind == 5:
        raw[a:a] = raw[a:b]
    elif kind == 6:
        raw[a:b] = bytes(b - a)
    elif kind == 7:
        raw[:8] = int(rng.choice([0, 1, 2**31, 2**63, len(raw), len(raw) - 8, int(rng.integers(2**20))])).to_bytes(8, "little")
    else:           # a header that is good JSON of the right length
        text = json.dumps(mutated_json(header(data), rng)).encode()
        raw[:8 + int.from_bytes(data[:8], "little")] = len(text).to_bytes(8, "little") + text
    return bytes(raw)


def test_ten_thousand_damaged_files(rng, tmp_path):
    """Each is refused, or gives exactly what was saved (spaces may change, and a stream may go on after the file)."""
    originals = samples()
    files = [written(obj) for obj in originals]
    refused = unharmed = 0
    for k in range(10_000):
        data = damaged(files[k % len(files)], rng)
        if _is_foreign(data):
            continue        # the metadata is gone and nothing else: a good file of another writer, without any checksum
        if k % 10:
            source = io.BytesIO(data)
        else:
            source = tmp_path / "damaged"
            source.write_bytes(data)
        try:
            found = engine.load(source, mmap=k % 20 == 0)
        except serialization.FormatError:
            refused += 1
        else:
            assert same(found, originals[k % len(files)]), data
            unharmed += 1
    print(f"{refused} refused, {unharmed} unharmed")
    assert refused + unharmed > 9_800 and refused > 8_500


def _is_foreign(data: bytes) -> bool:
    try:
        found = header(data)
        if not isinstance(found, dict):
            return False
        about = found.get("__metadata__", {})
        return isinstance(about, dict) and not any(key in about for key in (serialization.STRUCTURE, serialization.CHECKSUM))
    except ValueError:
        return False


def structure(data: bytes) -> dict:
    return json.loads(header(data)["__metadata__"][serialization.STRUCTURE])


def test_two_thousand_hostile_structures(rng):
    """With a right checksum, anything may stand in the structure: a clear error or some object, never a crash."""
    files = [written(obj) for obj in samples()]
    refused = 0
    for k in range(2_000):
        data = files[k % len(files)]
        tree = structure(data)
        for _ in range(rng.integers(1, 4)):
            tree = mutated_json(tree, rng)
        try:
            found = engine.load(io.BytesIO(sealed(data, json.dumps(tree))))
        except serialization.FormatError:
            refused += 1
            continue
        except RuntimeError as error:       # a device that is not there
            assert "device" in str(error)
            continue
        _touch(found)
    assert 500 < refused < 2_000


def _touch(x) -> None:
    """Read every byte of every tensor."""
    if isinstance(x, engine.Tensor):
        if x.numel() < 10**6:
            x.detach().numpy().tobytes()
    elif isinstance(x, dict):
        for key, value in x.items():
            _touch((key, value))
    elif isinstance(x, (list, tuple)):
        for each in x:
            _touch(each)


HOSTILE = {
    "view beyond the end": ([{"block": "0", "view": ["float32", [3], [4], 0]}, "1"], "tree"),
    "view before the start": ([{"block": "0", "view": ["float32", [2], [-4], 0]}, "1"], "tree"),
    "odd view": ([{"block": "0", "view": ["float32", [1], [4], 1]}, "1"], "odd addresses"),
    "offset": ([{"block": "0", "view": ["float32", [1], [4], 2**80]}, "1"], "damaged structure"),
    "objects": ([{"block": "0", "view": ["object", [1], [8], 0]}, "1"], "no view of a block"),
    "rank": ([{"block": "0", "view": ["float32", [1] * 70, [0] * 70, 0]}, "1"], "damaged structure"),
    "bools": ([{"block": "1", "view": ["bool", [4], [1], 0]}, "0"], "bytes other than 0 and 1"),
    "order": ([{"block": "0", "order": [0, 1]}, "1"], "no order"),
    "order of bools": ([{"block": "0", "order": [False]}, "1"], "no order"),
    "complex": ([{"block": "1", "complex": True}, "0"], "no complex numbers"),
    "gradient": (["0", {"block": "1", "requires_grad": True}], "int32 cannot require a gradient"),
    "unknown": ([{"block": "0", "call": "os.system"}, "1"], "unknown entry"),
    "other block": (["0", "2"], "blocks in the file are not those"),
    "device": ([{"block": "0", "device": 3}, "1"], "no device"),
    "not a name": ([["0"], "1"], "blocks in the file are not those|damaged"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_tensors(case):
    table, words = HOSTILE[case]
    data = written([engine.ones(2), engine.full((3,), 0x01010102, dtype=engine.int32)])
    text = json.dumps({"version": 1, "tree": [{"tensor": 0}, {"tensor": 1}], "tensors": table})
    with pytest.raises(serialization.FormatError, match=words if words != "tree" else "damaged structure"):
        engine.load(io.BytesIO(sealed(data, text)))


@pytest.mark.parametrize(("tree", "words"), [
    ({"module": "os"}, "unknown kind of object 'module'"), ({"tensor": 0}, "no tensor 0"), ({"tensor": True}, "no tensor"),
    ({}, "damaged structure"), ({"tuple": 3}, "unknown kind"), ({"dict": [[[], 1]]}, "unhashable"),
    ({"dict": [[1, 2], [1, 3]]}, "twice"),
    ({"set": [1, 1]}, "twice"), ({"int": "12"}, "no integer"), ({"int": 12}, "damaged"), ({"float": "1_0"}, "no number"),
    ({"dtype": "ALL"}, "no dtype"), ({"dtype": []}, "damaged|no dtype"), ({"device": "xpu9x"}, "Expected one of cpu, cuda"),
    ({"device": 0}, "no device"), ({"bytes": "%%"}, "damaged"), ({"size": [1.5]}, "integers"),
    ({"range": ["0x1", "0x2", "0x0"]}, "damaged"),
    ({"generator": ["0x1"]}, "damaged"), ({"complex": [1]}, "damaged"), ({"ordered": {}, "x": 1}, "unknown object"),
    (functools.reduce(lambda x, _: [x], range(150), 1), "nested more than 100 deep"),
])
def test_hostile_trees(tree, words):
    data = sealed(written([]), json.dumps({"version": 1, "tree": tree, "tensors": []}))
    with pytest.raises(serialization.FormatError, match=words):
        engine.load(io.BytesIO(data))


def test_versions_and_half_a_checksum():
    data = written([])
    for text, words in ((json.dumps({"version": 2, "tree": [], "tensors": []}), "newer version of this engine .format 2"),
                        (json.dumps({"tree": []}), "no version"),
                        (json.dumps({"version": 1, "tree": []}), "version, tree and tensors")):
        with pytest.raises(serialization.FormatError, match=words):
            engine.load(io.BytesIO(sealed(data, text)))
    for key in (serialization.STRUCTURE, serialization.CHECKSUM):
        metadata = {k: v for k, v in header(data)["__metadata__"].items() if k != key}
        with pytest.raises(serialization.FormatError, match="only one is there"):
            engine.load(io.BytesIO(foreign({"__metadata__": metadata}, b"")))


def test_reading_runs_and_imports_nothing(tmp_path):
    """An audit hook in a fresh process sees no exec, compile, subprocess or unpickling while hostile files are read."""
    engine.save(samples(), tmp_path / "good.safetensors")
    (tmp_path / "bad.pt").write_bytes(pickle.dumps(Trap()))
    code = """
import sys, engine
import engine.serialization, engine.nn
seen, watch = [], False
sys.addaudithook(lambda event, args: seen.append(event) if watch else None)
watch = True
engine.load(sys.argv[1])
try:
    engine.load(sys.argv[2])
except engine.serialization.FormatError:
    seen.append("refused")
watch = False
print(sorted(set(seen)))
"""
    root = os.path.dirname(os.path.dirname(os.path.abspath(engine.__file__)))
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "good.safetensors"), str(tmp_path / "bad.pt")],
                          capture_output=True, text=True, env={**os.environ, "PYTHONPATH": root}, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    events = set(eval(done.stdout))
    assert "refused" in events and "open" in events
    assert not events & {"exec", "compile", "os.system", "subprocess.Popen", "pickle.find_class", "os.mkdir", "marshal.loads",
                         "ctypes.dlopen"}
