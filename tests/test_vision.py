"""engine.vision: IDX files, data sets, downloads from a server on this machine. Transforms are in `test_transforms`."""
from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import http.server
import os
import pickle
import sys
import threading

import numpy as np
import pytest

import engine
from engine import vision
from engine.errors import FormatError
from engine.vision import datasets, transforms

CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}


def idx(array: np.ndarray) -> bytes:
    """An array as an IDX file."""
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, CODES[array.dtype.name], array.ndim]) + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


def files(rng, train=6, test=4) -> dict[str, bytes]:
    """The four files of a small data set, by name."""
    made = {}
    for part, n in (("train", train), ("t10k", test)):
        made[f"{part}-images-idx3-ubyte"] = idx(rng.integers(0, 256, (n, 28, 28)).astype(np.uint8))
        made[f"{part}-labels-idx1-ubyte"] = idx(rng.integers(0, 10, n).astype(np.uint8))
    return made


def images_in(data: bytes) -> np.ndarray:
    return np.frombuffer(data[16:], np.uint8).reshape(-1, 28, 28)


# --- files ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", CODES)
def test_idx_files_of_every_type(name, rng, tmp_path):
    array = (rng.random((2, 3, 4)) * 100).astype(name)
    (tmp_path / "a").write_bytes(idx(array))
    (tmp_path / "a.gz").write_bytes(gzip.compress(idx(array)))
    for path in (tmp_path / "a", str(tmp_path / "a.gz")):
        found = datasets.read_idx(path)
        assert found.dtype.name == name and found.shape == (2, 3, 4) and np.array_equal(found.numpy(), array)
        assert found.numpy().dtype.isnative and found.numpy().flags.writeable


@pytest.mark.parametrize(("data", "words"), [
    (b"", "begins with nothing"), (b"\0\0\x08", "begins with 000008"), (b"\x80\x02}q\0", "no IDX file: it begins with 80027d71"),
    (b"\0\0\x0a\1" + bytes(4), "no IDX file"), (b"\0\0\x08\0", "no IDX file"), (b"\0\0\x08\x02\0\0", "truncated among the sizes"),
    (b"\0\0\x08\1\0\0\0\5abc", r"truncated: elements of shape \(5,\) take 5 bytes, there are 3"),
    (b"\0\0\x08\1\0\0\0\2abc", r"too long: elements of shape \(2,\) take 2 bytes, there are more"),
    (b"\0\0\x0e\x03" + b"\xff" * 12 + b"abc", "truncated: elements of shape .* there are 3"),
])
def test_broken_idx_files(data, words, tmp_path):
    (tmp_path / "broken").write_bytes(data)
    (tmp_path / "broken.gz").write_bytes(gzip.compress(data))
    for name in ("broken", "broken.gz"):
        with pytest.raises(FormatError, match=f"{name}: .*{words}"):
            datasets.read_idx(tmp_path / name)


def test_broken_gzip_files(tmp_path):
    packed = gzip.compress(idx(np.arange(1000, dtype=np.int32)))
    for data in (packed[:-20], packed[:-8] + b"\1\2\3\4\5\6\7\x08", b"no gzip at all", packed[:30] + b"\xff" * 8 + packed[38:]):
        (tmp_path / "a.gz").write_bytes(data)
        with pytest.raises(FormatError, match=r"a\.gz: .*gzip"):
            datasets.read_idx(tmp_path / "a.gz")


@pytest.mark.parametrize("place", ["raw", "raw gz", "root", "root gz", "dots"])
def test_where_files_are_found(place, rng, tmp_path):
    folder = tmp_path / "KMNIST" / "raw" if "raw" in place else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    content = files(rng)
    for name, data in content.items():
        name = name.replace("-idx", ".idx") if place == "dots" else name
        (folder / (name + (".gz" if "gz" in place else ""))).write_bytes(gzip.compress(data) if "gz" in place else data)
    for train, n, part in ((True, 6, "train"), (False, 4, "t10k")):
        found = datasets.KMNIST(str(tmp_path), train=train)
        assert len(found) == n and found.data.dtype is engine.uint8 and found.targets.dtype is engine.int64
        assert np.array_equal(found.data.numpy(), images_in(content[f"{part}-images-idx3-ubyte"]))
        assert found.targets.tolist() == list(content[f"{part}-labels-idx1-ubyte"][8:])
        assert found.raw_folder == os.path.join(str(tmp_path), "KMNIST", "raw")


@pytest.fixture
def root(rng, tmp_path):
    for name, data in files(rng).items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_items(root, monkeypatch):
    image_class = pytest.importorskip("PIL.Image")
    plain = datasets.MNIST(root)
    image, label = plain[2]
    assert isinstance(image, image_class.Image) and image.mode == "L" and image.size == (28, 28)
    assert np.array_equal(np.asarray(image), plain.data[2].numpy()) and type(label) is int and label == plain.targets[2].item()
    ready = datasets.MNIST(root, transform=transforms.ToTensor(), target_transform=lambda k: -k)
    expected = plain.data[2].numpy().astype(np.float32)[None] / np.float32(255)
    assert ready[2][0].dtype is engine.float32 and np.array_equal(ready[2][0].numpy(), expected) and ready[2][1] == -label
    monkeypatch.setitem(sys.modules, "PIL", None)
    bare = plain[2][0]
    assert isinstance(bare, np.ndarray) and bare.shape == (28, 28) and np.array_equal(ready[2][0].numpy(), expected)


def test_data_sets_in_loaders_and_pickles(root):
    ready = datasets.FashionMNIST(root, transform=transforms.ToTensor())
    batches = list(engine.utils.data.DataLoader(ready, batch_size=4))
    assert [tuple(x.shape) for x, _ in batches] == [(4, 1, 28, 28), (2, 1, 28, 28)]
    assert engine.cat([y for _, y in batches]).tolist() == ready.targets.tolist()
    again = pickle.loads(pickle.dumps(ready))
    assert engine.equal(again.data, ready.data) and engine.equal(again[1][0], ready[1][0])


def test_classes_and_repr(root):
    found = datasets.FashionMNIST(root, train=False)
    assert found.classes[9] == "Ankle boot" and found.class_to_idx["Trouser"] == 1 and len(datasets.KMNIST.classes) == 10
    assert datasets.MNIST.classes[3] == "3 - three"
    assert repr(found) == f"Dataset FashionMNIST\n    Number of datapoints: 4\n    Root location: {root}\n    Split: Test"
    chain = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    text = repr(datasets.MNIST(root, transform=chain, target_transform=transforms.Lambda(int)))
    assert text == (f"Dataset MNIST\n    Number of datapoints: 6\n    Root location: {root}\n    Split: Train\n"
                    "    StandardTransform\n    Transform: Compose(\n                   ToTensor()\n"
                    "                   Normalize(mean=(0.5,), std=(0.5,))\n               )\n    Target transform: Lambda()")


def test_files_that_do_not_fit(root, tmp_path, rng):
    with pytest.raises(RuntimeError, match=r"Dataset not found. You can use download=True to download it. There is no "
                                           r"train-images-idx3-ubyte and no train-labels-idx1-ubyte \(or .gz\) in .*MNIST.raw or "):
        datasets.MNIST(root / "elsewhere")
    labels = root / "train-labels-idx1-ubyte"
    labels.write_bytes(idx(np.zeros(5, np.uint8)))
    with pytest.raises(FormatError, match=r"uint8 of shape \(6, 28, 28\) and .*shape \(5,\): no images with a label each"):
        datasets.MNIST(root)
    labels.unlink()
    with pytest.raises(RuntimeError, match=r"There is no train-labels-idx1-ubyte \(or .gz\) in"):
        datasets.MNIST(root)


# --- downloads --------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def server(folder):
    """A web server of a folder on this machine: its address, and the paths it was asked for."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(self.path)

    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=site.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{site.server_port}/", asked
    finally:
        site.shutdown()
        site.server_close()
        thread.join()


@pytest.fixture
def published(rng, tmp_path, monkeypatch):
    """Small files as if they were MNIST's, on a server; no proxy stands between."""
    monkeypatch.setenv("no_proxy", "*")
    (tmp_path / "site" / "good").mkdir(parents=True)
    resources = []
    for name, data in files(rng).items():
        packed = gzip.compress(data)
        (tmp_path / "site" / "good" / f"{name}.gz").write_bytes(packed)
        resources.append((f"{name}.gz", hashlib.md5(packed).hexdigest()))
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    with server(tmp_path / "site") as (address, asked):
        yield address, asked, tmp_path


def test_downloads_are_checked_and_kept(published, monkeypatch):
    address, asked, folder = published
    monkeypatch.setattr(datasets.MNIST, "mirrors", [address + "missing/", address + "good/"])
    found = datasets.MNIST(folder / "data", download=True)
    assert len(found) == 6 and len(asked) == 12            # each missing at the first mirror, with a line for the error
    raw = folder / "data" / "MNIST" / "raw"
    names = [name for name, _ in datasets.MNIST.resources]
    assert sorted(os.listdir(raw)) == sorted([*names, *(name.removesuffix(".gz") for name in names)])
    assert len(datasets.MNIST(folder / "data", train=False, download=True)) == 4 and len(asked) == 12
    (raw / names[0].removesuffix(".gz")).unlink()
    (raw / names[0]).write_bytes(b"damaged")
    (raw / names[1].removesuffix(".gz")).unlink()
    assert len(datasets.MNIST(folder / "data", download=True)) == 6 and len(asked) == 15       # only the damaged one is fetched


def test_other_bytes_than_published_are_refused(published, monkeypatch):
    address, _, folder = published
    name, md5 = datasets.MNIST.resources[1]
    (folder / "site" / "good" / name).write_bytes(gzip.compress(b"something else"))
    monkeypatch.setattr(datasets.MNIST, "mirrors", [address + "good/"])
    with pytest.raises(RuntimeError, match=rf"Error downloading {name}:\nTried {address}good/{name}, got:\na file with the MD5 \w+ "
                                           rf"instead of {md5}: not what was published"):
        datasets.MNIST(folder / "data", download=True)
    raw = folder / "data" / "MNIST" / "raw"
    assert sorted(os.listdir(raw)) == sorted([datasets.MNIST.resources[0][0], datasets.MNIST.resources[0][0].removesuffix(".gz")])


def test_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:9/mnist/", "http://127.0.0.1:9/other/"])
    raw = tmp_path / "MNIST" / "raw"
    with pytest.raises(RuntimeError) as caught:
        datasets.MNIST(tmp_path, download=True)
    text = str(caught.value)
    assert text.startswith("Error downloading train-images-idx3-ubyte.gz:\nTried http://127.0.0.1:9/mnist/train-images-idx3-")
    assert "other/train-images" in text
    assert "Without a network, fetch train-images-idx3-ubyte.gz from http://127.0.0.1:9/mnist/" in text
    assert "f68b3c2dcbeaaa9fbdd348bbdeb94873" in text and f"into {raw}" in text and os.listdir(raw) == []


def test_digits_of_scikit_learn():
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_digits
    train, test = datasets.Digits(transform=transforms.ToTensor()), datasets.Digits(train=False)
    bundled = load_digits()
    assert len(train) == 1437 and len(test) == 360 and len(train.classes) == 10
    assert np.array_equal(test.data.numpy(), bundled.images[::5]) and test.targets.tolist() == bundled.target[::5].tolist()
    image, label = train[0]
    assert image.shape == (1, 8, 8) and np.array_equal(image[0].numpy(), bundled.images[1].astype(np.float32) / 16) and label == 1
    assert repr(test) == "Dataset Digits\n    Number of datapoints: 360\n    Split: Test"


def test_the_room():
    assert engine.vision is vision and vision.transforms is transforms and {"datasets", "transforms"} <= set(dir(vision))
    with pytest.raises(AttributeError, match="has no attribute 'models'"):
        vision.models  # noqa: B018
