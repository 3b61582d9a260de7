"""engine.save and engine.load: what comes back, shared memory, files and streams, devices, errors.

The file format, damaged and hostile files are in `test_save_format`.
"""
from __future__ import annotations

import io
import json
import math
import os
import pickle
import sys
from collections import Counter, OrderedDict, defaultdict, namedtuple

import numpy as np
import pytest
from saving import ALL_DTYPES, again, entry, foreign, header, of_dtype, same, sealed, written

import engine
from engine import nn
from engine.serialization import container

# --- round trips ------------------------------------------------------------------------------------------------------

PLAIN = {
    "numbers": [0, -1, 2**53, 2**53 + 1, -2**64, 10**5000, 1.5, -0.0, 5e-324, math.inf, -math.inf, math.nan, True, False, None],
    "complex": [1 + 2j, complex(math.nan, -0.0), complex(-math.inf, 1e-300)],
    "strings": ["", "grüße", "\ud800 alone", "a\0b", '"\\', "\U0001f600"],
    "bytes": [b"", bytes(range(256))],
    "containers": ([], (), {}, [[]], ((),), {"": {}}, (1, [2, (3,)]), OrderedDict(b=1, a=2), Counter("abb"), Counter(x=-1)),
    "sets": [set(), {1, "a", (2, 3)}, frozenset({None, 1.5})],
    "keys": {0: "a", -1: 2, 2.5: 3, True + 1: 4, None: 5, (1, "x"): 6, b"k": 7, engine.float32: 8, frozenset({1}): 9},
    "ranges": [range(5), range(10**30, 0, -7)],
    "engine": [engine.Size([]), engine.Size([2, 0]), engine.device("cpu"), engine.device("cuda:1"),
               *(getattr(engine, n) for n in ALL_DTYPES)],
    "reserved": {"tensor": 1, "__metadata__": 2, "dict": {"list": 3}},
}


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_objects_come_back(kind):
    assert same(again(PLAIN[kind]), PLAIN[kind])


@pytest.mark.parametrize("name", ALL_DTYPES)
def test_tensors_of_every_dtype(name):
    obj = {"w": of_dtype(name), "scalar": of_dtype(name, ()), "empty": of_dtype(name, (0, 3)),
           "deep": [{"x": (of_dtype(name, (1,)),)}], "array": of_dtype(name).numpy().copy(),
           "number": of_dtype(name, (1,)).numpy()[0]}
    assert same(again(obj), obj)


def test_single_objects_and_names():
    assert same(again(of_dtype("float32")), of_dtype("float32"))
    assert again(3) == 3 and again(None) is None
    names = list(header(written({"a.b": engine.ones(1), "a": {"b": engine.zeros(1)}, "__metadata__": engine.ones(2),
                                 "\ud800": engine.ones(3)})))
    assert names == ["__metadata__", "\\ud800", "__metadata__~2", "a.b", "a.b~2"]
    assert list(header(written(engine.ones(2)))) == ["__metadata__", "tensor"]


def test_layouts_are_kept_and_slices_are_compact():
    x = engine.randn(2, 3, 4)
    for view in (x.permute(2, 0, 1), x.transpose(0, 2), x.permute(0, 2, 1)):
        assert same(again(view), view) and not view.is_contiguous()
    every_other = engine.arange(100_000.0)[::10]
    file = written(every_other)
    assert len(file) < 42_000
    found = engine.load(io.BytesIO(file))
    assert found.is_contiguous() and engine.equal(found, every_other)
    row = engine.randn(1000, 100)[3]
    assert len(written(row)) < 1000 and engine.equal(again(row), row)


def test_parameters_and_leaves():
    w = nn.Parameter(engine.ones(2, 2))
    frozen = nn.Parameter(engine.ones(2), requires_grad=False)
    needs = engine.ones(3, requires_grad=True)
    found = again([w, frozen, needs, needs * 2])
    assert [type(t).__name__ for t in found] == ["Parameter", "Parameter", "Tensor", "Tensor"]
    assert [t.requires_grad for t in found] == [True, False, True, True]
    assert all(t.is_leaf and t.grad is None for t in found)


# --- shared memory ----------------------------------------------------------------------------------------------------

def test_tied_tensors_are_kept_once_and_stay_tied():
    model = nn.ModuleDict({"a": nn.Linear(100, 50, bias=False), "b": nn.Linear(100, 50, bias=False)})
    model["b"].weight = model["a"].weight
    file = written(model.state_dict())
    assert len(file) < 50 * 100 * 4 + 1000
    found = engine.load(io.BytesIO(file))
    assert same(found, model.state_dict())
    found["a.weight"][0, 0] = 7
    assert found["b.weight"][0, 0].item() == 7
    x = engine.ones(2)
    one, two = again((x, x))
    assert one is two


def test_views_stay_views():
    x = engine.arange(12.0).reshape(3, 4)
    obj = {"row": x[1], "x": x, "turned": x.t(), "diagonal": x.diagonal()}
    found = again(obj)
    assert same(found, obj)
    found["x"][1, 1] = 100
    assert found["row"][1].item() == found["turned"][1, 1].item() == found["diagonal"][1].item() == 100


def test_views_without_their_base():
    x = engine.arange(10.0)
    file = written([x[2:6], x[4:9]])
    assert list(header(file).values())[1]["shape"] == [7]
    a, b = engine.load(io.BytesIO(file))
    assert a.tolist() == [2, 3, 4, 5] and b.tolist() == [4, 5, 6, 7, 8]
    b[0] = -1
    assert a[2].item() == -1
    apart = engine.arange(6.0)
    raw = written([apart[0:4:3], apart[2:3]])           # the second lies between the first one's elements
    assert [t.tolist() for t in engine.load(io.BytesIO(raw))] == [[0, 3], [2]]
    assert np.frombuffer(raw[-16:], np.float32).tolist() == [0, 0, 2, 3]        # what nobody sees is not written


def test_views_of_another_dtype():
    z = of_dtype("complex128", (3,))
    z.copy_(engine.tensor([1 + 2j, 3 - 1j, -1j]))
    obj = [engine.view_as_real(z), z, z.imag]
    found = again(obj)
    assert same(found, obj)
    found[0][0, 1] = 9
    assert found[1][0].item() == 1 + 9j and found[2][0].item() == 9
    bits = engine.arange(4, dtype=engine.float32)
    found = again([bits[1:], bits[:3].view(engine.int32)])
    assert same(found, [bits[1:], bits[:3].view(engine.int32)])


def test_expanded_tensors_stay_small():
    wide = engine.ones(3, 1).expand(3, 100_000)
    file = written(wide)
    assert len(file) < 1000
    found = engine.load(io.BytesIO(file))
    assert found.shape == (3, 100_000) and found.stride() == wide.stride() and bool((found == 1).all())


def test_memory_at_odd_addresses():
    raw = np.arange(64, dtype=np.uint8)
    odd = raw[1:33].view(np.float32)
    assert not odd.flags.aligned
    array, whole = again([odd, raw])
    assert array.tobytes() == odd.tobytes() and same(whole, raw)


# --- training states --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("make", [lambda p: engine.optim.SGD(p, lr=0.1, momentum=0.9), lambda p: engine.optim.Adam(p, lr=0.01)],
                         ids=["SGD", "Adam"])
def test_training_goes_on_with_the_same_numbers(make, tmp_path):
    def network():
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))

    def steps(model, optimizer, count):
        for _ in range(count):
            optimizer.zero_grad()
            (model(engine.randn(6, 4)) ** 2).sum().backward()
            optimizer.step()

    model = network()
    optimizer = make(model.parameters())
    schedule = engine.optim.lr_scheduler.MultiStepLR(optimizer, [2, 3])
    steps(model, optimizer, 3)
    schedule.step()
    path = tmp_path / "state.safetensors"
    engine.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(),
                 "random": engine.get_rng_state(), "epoch": 3}, path)
    steps(model, optimizer, 2)
    state = engine.load(path)
    other = network()
    resumed = make(other.parameters())
    other_schedule = engine.optim.lr_scheduler.MultiStepLR(resumed, [2, 3])
    other.load_state_dict(state["model"])
    resumed.load_state_dict(state["optimizer"])
    other_schedule.load_state_dict(state["schedule"])
    engine.set_rng_state(state["random"])
    assert other_schedule.state_dict() == schedule.state_dict() and state["model"]._metadata == model.state_dict()._metadata
    steps(other, resumed, 2)
    assert same(other.state_dict(), model.state_dict()) and same(resumed.state_dict(), optimizer.state_dict())


def test_generators():
    g = engine.Generator().manual_seed(-3)
    engine.rand(5, generator=g)
    found = again({"g": g, "state": g.get_state()})
    assert same(found["g"], g) and engine.equal(found["state"], g.get_state())
    assert engine.equal(engine.rand(7, generator=found["g"]), engine.rand(7, generator=g))


# --- files ------------------------------------------------------------------------------------------------------------

def test_a_file_is_replaced_in_one_step(tmp_path, monkeypatch):
    path = tmp_path / "state"
    engine.save({"epoch": 1}, path)

    def fails(file, data):
        file.write(b"half")
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(container, "write_all", fails)
        with pytest.raises(OSError, match="no space left"):
            engine.save({"epoch": 2}, path)
    with pytest.raises(TypeError):
        engine.save({"epoch": object()}, path)
    assert engine.load(path) == {"epoch": 1} and os.listdir(tmp_path) == ["state"]
    mapped = engine.load(path, mmap=True)
    engine.save({"epoch": 2}, str(path))
    assert engine.load(os.fspath(path)) == {"epoch": 2} and mapped == {"epoch": 1} and os.listdir(tmp_path) == ["state"]


@pytest.mark.skipif(sys.platform == "win32", reason="links and modes of POSIX")
def test_links_and_modes(tmp_path):
    (tmp_path / "folder").mkdir()
    target = tmp_path / "folder" / "real"
    engine.save(1, target)
    assert target.stat().st_mode & 0o777 == 0o666 & ~_umask()
    target.chmod(0o640)
    (tmp_path / "link").symlink_to(target)
    engine.save(2, tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and engine.load(target) == 2 and target.stat().st_mode & 0o777 == 0o640
    engine.save(3, os.devnull)
    assert not os.path.isfile(os.devnull)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_streams(tmp_path):
    class Short(io.RawIOBase):
        """Writes and reads at most 7 bytes at a time."""

        def __init__(self):
            self.inner = io.BytesIO()

        def write(self, data):
            return self.inner.write(bytes(data[:7]))

        def read(self, n=-1):
            return self.inner.read(min(n, 7))

    file = Short()
    engine.save({"a": engine.arange(10)}, file)
    file.inner.seek(0)
    assert same(engine.load(file), {"a": engine.arange(10)})
    both = io.BytesIO()
    engine.save([1], both)
    engine.save(engine.ones(2), both)
    both.seek(0)
    assert engine.load(both) == [1] and same(engine.load(both), engine.ones(2)) and both.read() == b""
    with open(tmp_path / "f", "w+b") as handle:
        engine.save((1, 2), handle)
        handle.seek(0)
        assert engine.load(handle) == (1, 2)
    with open(tmp_path / "f") as handle, pytest.raises((TypeError, UnicodeDecodeError)):
        engine.load(handle)
    with pytest.raises(TypeError, match="binary mode"):
        engine.load(io.StringIO("abc"))


def test_mapped_files_are_private(tmp_path):
    obj = {"w": engine.arange(6.0).reshape(2, 3).t(), "n": engine.tensor([1 + 2j]), "small": of_dtype("int8", (3,)),
           "empty": engine.empty(0)}
    path = tmp_path / "w.safetensors"
    engine.save(obj, path)
    before = path.read_bytes()
    found = engine.load(path, mmap=True)
    assert same(found, obj)
    found["n"].add_(1)
    assert found["n"].tolist() == [2 + 2j] and path.read_bytes() == before
    del found           # Windows does not replace a file that is mapped
    data = b"\x07" + np.array([1, 2], np.float32).tobytes()
    path.write_bytes(foreign({"b": entry("U8", [1], 0, 1), "w": entry("F32", [2], 1, 9)}, data))
    odd = engine.load(path, mmap=True)["w"]
    assert odd.tolist() == [1, 2] and odd.numpy().flags.aligned


# --- devices and errors -----------------------------------------------------------------------------------------------

def test_map_location(monkeypatch):
    obj = {"a": engine.ones(2), "b": nn.Parameter(engine.zeros(1))}
    for place in ("cpu", engine.device("cpu"), {"cuda:0": "cpu"}, {}, None, lambda tensor, location: None,
                  lambda tensor, location: tensor):
        assert same(again(obj, map_location=place), obj)
    seen = []
    doubled = again(obj, map_location=lambda tensor, location: seen.append(location) or tensor * 2)
    assert doubled["a"].tolist() == [2, 2] and type(doubled["b"]) is nn.Parameter and seen == ["cpu", "cpu"]
    data = written([engine.ones(2)])
    elsewhere = sealed(data, json.dumps({"version": 1, "tree": [{"tensor": 0}], "tensors": [{"block": "0", "device": "cuda:99"}]}))
    for place in ("cpu", {"cuda:99": "cpu"}, lambda tensor, location: tensor if location == "cuda:99" else None):
        assert same(engine.load(io.BytesIO(elsewhere), map_location=place), [engine.ones(2)])
    with pytest.raises(RuntimeError, match=r"Attempting to deserialize object on device cuda:99, which is not there.*map_location"):
        engine.load(io.BytesIO(elsewhere))
    with pytest.raises(RuntimeError, match="Attempting to deserialize"):
        engine.load(io.BytesIO(data), map_location="cuda:99")
    with pytest.raises(TypeError, match="map_location must be a device"):
        engine.load(io.BytesIO(data), map_location=3.5)

    def fails(tensor, location):
        raise KeyError("of the caller")

    with pytest.raises(KeyError, match="of the caller"):
        engine.load(io.BytesIO(data), map_location=fails)


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(("obj", "words"), [
    ({"model": nn.ReLU()}, r"the entry \['model'\] is an object of class engine.nn.*ReLU.*state_dict"),
    ([lambda: 0], r"\[0\] is an object of class builtins.function"), (Point(1, 2), "the object is an object of class .*Point"),
    (defaultdict(int), "defaultdict"), (object(), "builtins.object"), ({engine.ones(1): 1}, "a key of the object is a tensor"),
    (np.array(["a"]), "NumPy array of class ndarray and dtype <U1"), (np.array([None]), "dtype object"),
    (np.zeros(2, ">f4"), "dtype >f4"), (np.longdouble(1) if np.longdouble(1).nbytes > 8 else np.str_("a"), "NumPy scalar"),
    (np.ma.zeros(2), "MaskedArray"),
])
def test_what_cannot_be_saved(obj, words):
    with pytest.raises(TypeError, match=words):
        engine.save(obj, io.BytesIO())


def test_errors(tmp_path):
    circle: list = [1]
    circle.append({"again": circle})
    with pytest.raises(ValueError, match=r"\[1\]\['again'\] contains itself"):
        engine.save(circle, io.BytesIO())
    deep: list = []
    for _ in range(150):
        deep = [deep]
    with pytest.raises(ValueError, match="nested more than 100 deep"):
        engine.save(deep, io.BytesIO())
    inner = [1]
    assert again([inner, inner]) == [[1], [1]]
    lazy = nn.LazyLinear(3)
    with pytest.raises(RuntimeError, match=r"\['weight'\] is a parameter without a shape yet"):
        engine.save(dict(lazy.named_parameters()), io.BytesIO())

    class Own(engine.Tensor):
        pass

    with pytest.raises(TypeError, match=r"of the class .*Own, which is lost"):
        engine.save(Own([1.0]), io.BytesIO())
    with pytest.raises(RuntimeError, match=r"Parent directory .*nowhere does not exist\."):
        engine.save(1, tmp_path / "nowhere" / "x")
    with pytest.raises(IsADirectoryError):
        engine.save(1, tmp_path)
    with pytest.raises(AttributeError, match="expected 'f' to be string, path, or a file-like object with a 'write' attribute"):
        engine.save(1, 3)
    with pytest.raises(AttributeError, match="'int' object has no attribute 'read'"):
        engine.load(3)
    with pytest.raises(FileNotFoundError):
        engine.load(tmp_path / "missing")
    with pytest.raises((IsADirectoryError, PermissionError)):
        engine.load(tmp_path)
    for call in (lambda: engine.save(1, io.BytesIO(), pickle), lambda: engine.load(io.BytesIO(), None, pickle)):
        with pytest.raises(ValueError, match="pickle_module must be None"):
            call()
    with pytest.raises(ValueError, match="f must be a file path in order to use the mmap argument"):
        engine.load(io.BytesIO(written(1)), mmap=True)
    engine.save(1, tmp_path / "x", None, 2, True)
    with pytest.raises(ValueError, match="keep large lists of numbers as tensors"):
        engine.save("x" * (container.MAX_HEADER + 1), io.BytesIO())
