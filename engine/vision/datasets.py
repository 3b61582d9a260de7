"""MNIST, FashionMNIST and KMNIST as torchvision has them, and scikit-learn's bundled digits.

What lives here: where files are looked for and what an item is. The file format and downloads are in `idx`.
"""
from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import FormatError
from ..tensor import Tensor, from_array
from ..utils.data import Dataset
from .idx import fetch, find, read_idx


class VisionDataset(Dataset):
    """Images with labels: `data` and `targets`, an optional function of the image, and one of the label."""

    data: Tensor
    targets: Tensor
    classes: list[str] = []

    def __init__(self, root: str | os.PathLike | None, transform: Callable | None = None,
                 target_transform: Callable | None = None) -> None:
        self.root = os.path.expanduser(root) if isinstance(root, str) else root
        self.transform, self.target_transform = transform, target_transform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image, target = self._image(index), int(self.targets[index])
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return image, target

    def _image(self, index: int) -> Any:
        raise NotImplementedError

    @property
    def class_to_idx(self) -> dict[str, int]:
        """Names of classes and their numbers."""
        return {name: k for k, name in enumerate(self.classes)}

    def extra_repr(self) -> str:
        """Further lines of the repr."""
        return ""

    def __repr__(self) -> str:
        lines = [f"Number of datapoints: {len(self)}"]
        if self.root is not None:
            lines.append(f"Root location: {self.root}")
        lines += self.extra_repr().splitlines()
        if self.transform is not None or self.target_transform is not None:
            lines.append("StandardTransform")
            for head, function in (("Transform: ", self.transform), ("Target transform: ", self.target_transform)):
                if function is not None:
                    lines += (head + repr(function).replace("\n", "\n" + " " * len(head))).split("\n")
        return "\n    ".join([f"Dataset {type(self).__name__}", *lines])


class MNIST(VisionDataset):
    """70,000 handwritten digits, 28 x 28 (LeCun, Cortes, Burges). `data` uint8 (n, 28, 28), `targets` int64 (n,).

    The files, plain or gzipped, are looked for in root/MNIST/raw and in root itself. `download=True` fetches those that are missing
    into root/MNIST/raw, with the published checksums. An item is (image, label) after the transforms; the image is a PIL image
    where Pillow is installed, as in torchvision, else a NumPy array (28, 28), uint8. `ToTensor()` makes the same tensor of both.
    Errors: RuntimeError where files are missing or cannot be fetched; FormatError (a RuntimeError) where they are damaged.
    """

    mirrors = ["https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"]
    resources = [("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
                 ("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
                 ("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
                 ("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c")]
    classes = ["0 - zero", "1 - one", "2 - two", "3 - three", "4 - four", "5 - five", "6 - six", "7 - seven", "8 - eight",
               "9 - nine"]

    def __init__(self, root: str | os.PathLike, train: bool = True, transform: Callable | None = None,
                 target_transform: Callable | None = None, download: bool = False) -> None:
        super().__init__(root, transform, target_transform)
        self.train = train
        if download:
            self.download()
        images, labels = (self._file(name) for name in self._names())
        if images is None or labels is None:
            missing = [n for n, path in zip(self._names(), (images, labels), strict=True) if path is None]
            raise RuntimeError("Dataset not found. You can use download=True to download it. There is no "
                               f"{' and no '.join(missing)} (or .gz) in {' or '.join(self._folders())}")
        self.data, self.targets = read_idx(images), read_idx(labels).long()
        if self.data.ndim != 3 or self.targets.shape != self.data.shape[:1] or self.data.dtype.name != "uint8":
            raise FormatError(f"{images} holds {self.data.dtype} of shape {tuple(self.data.shape)} and {labels} shape "
                              f"{tuple(self.targets.shape)}: no images with a label each")

    @property
    def raw_folder(self) -> str:
        """Where downloads go."""
        return os.path.join(self.root, type(self).__name__, "raw")

    def _folders(self) -> list[str]:
        return [self.raw_folder, os.fspath(self.root)]

    def _names(self) -> list[str]:
        part = "train" if self.train else "t10k"
        return [f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"]

    def _file(self, name: str) -> str | None:
        return find([name, name.replace("-idx", ".idx")], self._folders())

    def download(self) -> None:
        """Fetch the files that are missing, training and test, into `raw_folder`; RuntimeError tells what the servers answered.

        A gzipped file there is kept where its checksum is right, and unpacked.
        """
        for name, md5 in self.resources:
            path = self._file(name.removesuffix(".gz"))
            if path is None or path == os.path.join(self.raw_folder, name):
                fetch(name, md5, self.mirrors, self.raw_folder)

    def _image(self, index: int) -> Any:
        array = self.data[index].numpy()
        try:
            from PIL import Image
        except ImportError:
            return array
        return Image.fromarray(array)

    def extra_repr(self) -> str:
        """The split."""
        return f"Split: {'Train' if self.train else 'Test'}"


class FashionMNIST(MNIST):
    """70,000 pictures of clothes in the form of MNIST (Xiao, Rasul, Vollgraf 2017)."""

    mirrors = ["http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"]
    resources = [("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
                 ("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
                 ("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
                 ("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310")]
    classes = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


class KMNIST(MNIST):
    """70,000 cursive Japanese characters in the form of MNIST (Clanuwat et al. 2018)."""

    mirrors = ["http://codh.rois.ac.jp/kmnist/dataset/kmnist/"]
    resources = [("train-images-idx3-ubyte.gz", "bdb82020997e1d708af4cf47b453dcf7"),
                 ("train-labels-idx1-ubyte.gz", "e144d726b3acfaa3e44228e80efcd344"),
                 ("t10k-images-idx3-ubyte.gz", "5c965bf0a639b31b8f53240b1b52f4d7"),
                 ("t10k-labels-idx1-ubyte.gz", "7320c461ea6c1c855c0b718fb2a4b134")]
    classes = ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"]


class Digits(VisionDataset):
    """1,797 handwritten digits, 8 x 8, that come with scikit-learn (UCI, Alpaydin and Kaynak 1998): no file, no network.

    Every fifth image is held out: 1,437 to train, 360 to test. `data` uint8 (n, 8, 8) with values 0 to 16, `targets` int64 (n,).
    An item is (image, label); the image is a NumPy array (8, 8), float32 between 0 and 1. ImportError without scikit-learn.
    """

    classes = [str(k) for k in range(10)]

    def __init__(self, train: bool = True, transform: Callable | None = None, target_transform: Callable | None = None) -> None:
        super().__init__(None, transform, target_transform)
        try:
            from sklearn.datasets import load_digits
        except ImportError:
            raise ImportError("Digits reads the digits that come with scikit-learn: pip install scikit-learn") from None
        self.train = train
        bundled = load_digits()
        held_out = np.arange(len(bundled.target)) % 5 == 0
        chosen = ~held_out if train else held_out
        self.data = from_array(bundled.images[chosen].astype(np.uint8))
        self.targets = from_array(bundled.target[chosen].astype(np.int64))

    def _image(self, index: int) -> np.ndarray:
        return (self.data[index].float() / 16).numpy()

    def extra_repr(self) -> str:
        """The split."""
        return f"Split: {'Train' if self.train else 'Test'}"


__all__ = ["Digits", "FashionMNIST", "KMNIST", "MNIST", "VisionDataset", "read_idx"]
