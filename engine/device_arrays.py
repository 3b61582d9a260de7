"""Arrays in CUDA memory: what a tensor on `cuda` holds where one on the CPU holds a NumPy array.

A `DeviceArray` has an ndarray's shape, strides, flags, basic indexing and views, and no numbers: those are reached by kernels
(`kernels.cuda`) or by an explicit copy (`host`). Operators meet it in three places: `PointwiseLoop` stands where NumPy's ufuncs
stand, `run` answers for folds, views and structural records, `store` writes in place. Records without a CUDA kernel go over the
host, as the dispatch table says. Imported by the first tensor on a device, never by `import engine` alone.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kernels.book import BOOK, Fold, Operator, Pointwise
from kernels.cpu.buffers import Elsewhere
from kernels.cuda import device as cuda
from kernels.cuda import fold_plans, launch, records, transposes
from kernels.cuda import pointwise as maps
from kernels.cuda.launch import View

from . import devices, dtypes
from .errors import DeviceError
from .tensor import KIND, KIND_OF_NUMPY, Kind


class DeviceDType(Elsewhere):
    """The dtype of an array on one device: what decides the kind of a tensor over it."""

    __slots__ = ("char", "device", "itemsize", "kind", "name", "numpy")

    def __init__(self, numpy: np.dtype, device: devices.device):
        self.numpy, self.device = numpy, device
        self.name, self.itemsize, self.kind, self.char = numpy.name, numpy.itemsize, numpy.kind, numpy.char

    def empty(self, shape: Sequence[int]) -> DeviceArray:
        """New memory for elements of this dtype."""
        return empty(shape, self.numpy, self.device)

    @staticmethod
    def copy(x: DeviceArray, out: DeviceArray) -> None:
        """Copy `x` into `out`, an array of the same shape."""
        store(out, x)

    def __repr__(self) -> str:
        return f"<{self.name} on {self.device}>"


class _Memory:
    """An address as NumPy takes it."""

    __slots__ = ("__array_interface__",)

    def __init__(self, view: View):
        dtype = np.dtype(view.dtype)
        self.__array_interface__ = {"data": (view.address, False), "shape": view.shape, "strides": view.strides,
                                    "typestr": dtype.str, "version": 3}


class DeviceArray:
    """A strided array in the memory of a device.

    `shadow`: a NumPy array at the device's address, for shapes, strides and views only. Nobody may read or write its elements;
    it never leaves this file but for view records, which look at no element. `owner` keeps the memory alive.
    """

    __slots__ = ("__weakref__", "dtype", "owner", "place", "shadow")
    number = None           # the value of an array that is one number known to the host

    def __init__(self, shadow: np.ndarray, owner: Any, place: devices.device):
        self.shadow, self.owner, self.place = shadow, owner, place
        self.dtype = _dtypes(place)[shadow.dtype.name]

    @property
    def device(self) -> cuda.Device:
        """The device whose memory it is."""
        return cuda.get(self.place.index)

    @property
    def view(self) -> View:
        """The array as kernels take it."""
        shadow = self.shadow
        return View(shadow.__array_interface__["data"][0], shadow.dtype.name, shadow.shape, shadow.strides, self.owner)

    @property
    def address(self) -> int:
        return self.shadow.__array_interface__["data"][0]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.shadow.shape

    @property
    def strides(self) -> tuple[int, ...]:
        return self.shadow.strides

    @property
    def size(self) -> int:
        return self.shadow.size

    @property
    def ndim(self) -> int:
        return self.shadow.ndim

    @property
    def itemsize(self) -> int:
        return self.shadow.itemsize

    @property
    def nbytes(self) -> int:
        return self.shadow.nbytes

    @property
    def flags(self) -> Any:
        return self.shadow.flags

    @property
    def base(self) -> DeviceArray | None:
        """The array over the whole allocation, None where this is it."""
        whole = self.shadow
        while isinstance(whole.base, np.ndarray):
            whole = whole.base
        return None if whole is self.shadow else DeviceArray(whole, self.owner, self.place)

    @property
    def T(self) -> DeviceArray:
        return self.over(self.shadow.T)

    def over(self, shadow: np.ndarray) -> DeviceArray:
        """Another array in the same memory."""
        return DeviceArray(shadow, self.owner, self.place)

    def __len__(self) -> int:
        return len(self.shadow)

    def __getitem__(self, index: Any) -> DeviceArray:
        parts = index if index.__class__ is tuple else (index,)
        for part in parts:
            if not (part is None or part is ... or isinstance(part, slice) or (hasattr(part, "__index__")
                                                                               and not getattr(part, "ndim", 0))):
                raise TypeError(f"an array on {self.place} takes basic indices only, not {type(part).__name__}")
        if not any(part is ... for part in parts):
            parts = (*parts, ...)               # all ints would give a number, which NumPy would read
        return self.over(self.shadow[parts])

    def __setitem__(self, index: Any, value: Any) -> None:
        store(self[index], value if isinstance(value, DeviceArray) else np.asarray(value).astype(self.dtype.numpy))

    def transpose(self, *axes: Any) -> DeviceArray:
        return self.over(self.shadow.transpose(*axes))

    def swapaxes(self, first: int, second: int) -> DeviceArray:
        return self.over(self.shadow.swapaxes(first, second))

    def reshape(self, *shape: Any, copy: bool | None = None) -> DeviceArray:
        """The array in another shape: a view where strides allow it, else a copy (ValueError for `copy=False`)."""
        wanted = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        try:
            return self.over(self.shadow.reshape(wanted, copy=False))
        except ValueError:
            if copy is False:
                raise
        whole = self.copy()
        return whole.over(whole.shadow.reshape(wanted, copy=False))

    def parts(self) -> DeviceArray:
        """Complex numbers in C order as twice as many real ones."""
        return self.over(self.shadow.reshape(-1, copy=False).view(f"f{self.itemsize // 2}"))

    def ravel(self) -> DeviceArray:
        return self.reshape(-1)

    def copy(self, order: str = "C") -> DeviceArray:
        """A copy in C order ("K": in the order of the strides)."""
        shadow = self.shadow
        axes = sorted(range(self.ndim), key=lambda d: -abs(shadow.strides[d])) if order == "K" else range(self.ndim)
        made = empty(tuple(shadow.shape[d] for d in axes), self.dtype.numpy, self.place)
        made = made.transpose(np.argsort(list(axes)).tolist()) if order == "K" and self.ndim else made
        self.device.run(transposes.copy(made.view, self.view))
        return made

    def host(self) -> np.ndarray:
        """The elements as a NumPy array in C order; waits for the device."""
        return self.device.read(self.view)

    copy_to_host = host

    def compute(self, op: Operator, arrays: Any, options: dict) -> Any:
        """A record on arrays of this device, see `run`."""
        return run(op, arrays, options)

    def cast(self, name: str) -> DeviceArray:
        """The elements in another dtype; the array itself where it has it."""
        return self if self.dtype.name == name else cast_loop(self.dtype.name, name)(self)

    def extremes(self) -> tuple[int, int]:
        """Smallest and largest element of an integer array that is not empty."""
        return tuple([int(_fold(BOOK[name], self, None, False, ()).item()) for name in ("amin", "amax")])

    def item(self) -> Any:
        return self.host().item()

    def tolist(self) -> Any:
        return self.host().tolist()

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> DeviceArray:
        found = self.shadow.diagonal(offset, axis1, axis2)
        found.flags.writeable = self.shadow.flags.writeable
        return self.over(found)

    def __array_function__(self, function: Callable, types: Any, args: tuple, options: dict) -> Any:
        """NumPy's views; whatever reads numbers is refused."""
        if function is np.broadcast_to:
            return self.over(np.broadcast_to(self.shadow, *args[1:], **options))
        if function in (np.moveaxis, np.swapaxes, np.transpose, np.expand_dims, np.squeeze):
            return self.over(function(self.shadow, *args[1:], **options))
        return self.__array__()

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise DeviceError(f"Expected all tensors to be on the same device, but found at least two devices, {self.place} and cpu! "
                          "(move one with .to(); Tensor.cpu() copies to host memory)")

    @property
    def __cuda_array_interface__(self) -> dict:
        shadow = self.shadow
        return {"shape": shadow.shape, "strides": None if shadow.flags.c_contiguous else shadow.strides,
                "typestr": shadow.dtype.str, "data": (self.address if shadow.size else 0, not shadow.flags.writeable),
                "version": 3}

    def __repr__(self) -> str:
        return f"<array {self.dtype.name}{list(self.shape)} on {self.place}>"


class DeviceNumber(DeviceArray):
    """A number that kernels take by value; it gets memory when somebody asks for its address."""

    __slots__ = ("_made", "number")

    def __init__(self, value: np.ndarray, place: devices.device):
        super().__init__(value, None, place)
        self.number, self._made = value[()], None

    def settled(self) -> DeviceArray:
        if self._made is None:
            self._made = upload(np.asarray(self.number), self.place)
        return self._made

    @property
    def view(self) -> View:
        return self.settled().view

    @property
    def address(self) -> int:
        return self.settled().address

    def over(self, shadow: np.ndarray) -> DeviceArray:
        made = self.settled()
        return made.over(np.lib.stride_tricks.as_strided(made.shadow, shadow.shape, shadow.strides))

    def host(self) -> np.ndarray:
        return np.asarray(self.number).copy()

    copy_to_host = host

    def item(self) -> Any:
        return self.number.item()


# --- making and copying -----------------------------------------------------------------------------------------------

@functools.cache
def _dtypes(place: devices.device) -> dict[str, DeviceDType]:
    """The dtypes of a device; its kinds become known with them."""
    found = {}
    for d, kind in kinds(place).items():
        found[d.name] = made = DeviceDType(d.numpy, place)
        KIND_OF_NUMPY[made] = kind
    return found


@functools.cache
def kinds(place: devices.device) -> dict[dtypes.dtype, Kind]:
    """dtype -> kind of a device."""
    if place.type == "cpu":
        return KIND
    made = {d: Kind(d, place, DeviceArray) for d in dtypes.ALL}
    for kind in made.values():
        kind.kin = made
    return made


def resolved(place: devices.device) -> devices.device:
    """A CUDA device with its index: "cuda" is the current device. DeviceError where it is not there."""
    if place.index is None:
        place = devices.device("cuda", cuda.current())
    devices.require_available(place)
    return place


def of_view(view: View, place: devices.device) -> DeviceArray:
    """The array over what a kernel made."""
    return DeviceArray(np.asarray(_Memory(view)), view.owner, place)


def empty(shape: Sequence[int], dtype: np.dtype, place: devices.device) -> DeviceArray:
    """New memory in C order."""
    return of_view(cuda.get(place.index).empty(np.dtype(dtype).name, tuple(shape)), place)


def upload(array: np.ndarray, place: devices.device) -> DeviceArray:
    """A copy of a host array in C order."""
    return of_view(cuda.get(place.index).put(array), place)


def move(array: Any, place: devices.device) -> Any:
    """The array on a device: a copy, or itself where it is there."""
    if isinstance(array, DeviceArray):
        if array.place is place:
            return array
        if place.type == "cpu":
            return array.host()
        return upload(array.host(), place)
    return array if place.type == "cpu" else upload(array, place)


def suited(array: Any, kind: Kind) -> tuple[Any, Kind]:
    """An array and a kind that belong together: numbers made on the host for a device go there, kinds follow device arrays."""
    if isinstance(array, DeviceArray):
        return array, KIND_OF_NUMPY[array.dtype]
    if kind.device.type == "cpu":
        return array, kind
    return upload(array, kind.device), kind


def store(target: DeviceArray, value: Any) -> None:
    """Copy an array into another of the same dtype (broadcasting)."""
    if not target.size:
        return
    if not isinstance(value, DeviceArray):
        value = DeviceNumber(value, target.place) if not value.ndim else upload(value, target.place)
    if value.number is not None:
        target.device.run(launch.pointwise(maps.cast(target.dtype.name, target.dtype.name), [target.view], [value.number]))
        return
    if value.owner is not None and value.owner is target.owner and value.shadow is not target.shadow and \
            np.may_share_memory(value.shadow, target.shadow):
        value = value.copy()
    if value.place is not target.place:
        value = move(value, target.place)
    target.device.run(transposes.copy(target.view, value.view))


# --- operators --------------------------------------------------------------------------------------------------------

def _operand(array: Any, place: devices.device) -> Any:
    """An input as kernels take it: a view, or a number."""
    if not isinstance(array, DeviceArray):
        return array[()] if not array.ndim else upload(array, place).view
    if array.number is not None:
        return array.number
    return move(array, place).view


def _entangled(x: DeviceArray, target: DeviceArray) -> bool:
    """Whether an operand shares memory with the target of a kernel, other than element by element."""
    if x.number is not None or (x.address == target.address and x.strides == target.strides and x.shape == target.shape):
        return False
    return np.may_share_memory(x.shadow, target.shadow)


class PointwiseLoop:
    """A pointwise CUDA kernel under the calling convention of a ufunc: `loop(*inputs, out=...)`, `loop(*inputs, target)`."""

    def __init__(self, about: maps.Map):
        self.about, self.count = about, len(about.in_types)

    def __call__(self, *arrays: Any, out: Any = None) -> Any:
        inputs, targets = arrays[:self.count], arrays[self.count:]
        if isinstance(out, DeviceArray):
            targets = (out,)
        place = next(a.place for a in arrays if isinstance(a, DeviceArray))
        device = cuda.get(place.index)
        if targets:             # threads run in no order: nobody may write what another still has to read
            inputs = [a.copy() if isinstance(a, DeviceArray) and any(_entangled(a, t) for t in targets) else a for a in inputs]
        ins = [_operand(a, place) for a in inputs]
        shape = np.broadcast_shapes(*(a.shape for a in inputs))
        if targets:
            made = list(targets)
            if any(t.shape != shape for t in made):
                raise ValueError(f"output with shape {list(made[0].shape)} doesn't match the broadcast shape {list(shape)}")
        else:
            made = [empty(shape, np.dtype(d), place) for d in self.about.out_types]
        device.run(launch.pointwise(self.about, [m.view for m in made], ins))
        return made[0] if len(made) == 1 else tuple(made)


def custom_loop(custom: Callable, count: int, result: np.dtype, place: devices.device) -> Callable:
    """A user's kernel for a device under the calling convention of a ufunc: it takes and gives arrays of the device."""
    def call(*arrays: Any, out: Any = None) -> DeviceArray:
        made = custom(*arrays[:count])
        if not isinstance(made, DeviceArray):
            made = upload(np.asarray(made, result), place)
        if len(arrays) > count:
            store(arrays[count], made)
            return arrays[count]
        return made
    return call


@functools.lru_cache(maxsize=4096)
def forward_loop(op: Pointwise, dtype: str) -> PointwiseLoop:
    """The CUDA kernel of a pointwise record computed in `dtype`."""
    return PointwiseLoop(maps.forward(op, dtype))


@functools.lru_cache(maxsize=4096)
def gradient_loop(op: Pointwise, dtype: str, mask: tuple[bool, ...]) -> PointwiseLoop:
    """The CUDA kernel of the gradients that `mask` asks for."""
    return PointwiseLoop(maps.gradient(op, dtype, mask))


@functools.lru_cache(maxsize=1024)
def cast_loop(source: str, target: str) -> PointwiseLoop:
    """The CUDA kernel of a dtype conversion."""
    return PointwiseLoop(maps.cast(source, target))


def run(op: Operator, arrays: Any, options: dict) -> Any:
    """A record on arrays of a device: an array or a tuple of arrays."""
    many = getattr(op, "many", False)
    place = next(a.place for a in arrays if isinstance(a, DeviceArray))
    if getattr(op, "anywhere", False):
        arrays = [a if isinstance(a, DeviceArray) and a.place is place else move(a, place) for a in arrays]
        return op.forward(arrays, **options) if many else op.forward(*arrays, **options)
    if isinstance(op, Pointwise):
        arrays = [a if isinstance(a, DeviceArray) else np.asarray(a) for a in arrays]
        typed = [getattr(a.dtype, "numpy", a.dtype) for a, t in zip(arrays, op.operands, strict=True) if t == "T"]
        return forward_loop(op, np.result_type(*typed).name)(*arrays, **({} if options.get("out") is None else options))
    if getattr(op, "view", False):
        return _viewed(op, arrays[0], options)
    arrays = [a if isinstance(a, DeviceArray) and a.place is place else move(a, place) for a in arrays]
    if isinstance(op, Fold):
        return _fold(op, arrays[0], options.get("dims"), options.get("keepdim", False), arrays[1:])
    if op.name in records.SHARING:
        return arrays[0].reshape(options["shape"]) if options else arrays[0]
    forward = records.forward(op.name)
    if forward is not None:
        views = [a.view for a in arrays]
        passed = {k: v.view if isinstance(v, DeviceArray) else v for k, v in options.items()}
        found = forward(cuda.get(place.index), views, **passed) if many else forward(cuda.get(place.index), *views, **passed)
        if found is not NotImplemented:
            return of_view(found, place) if isinstance(found, View) else tuple([of_view(v, place) for v in found])
    return on_host(op.on_arrays, arrays, options, place, many)


def on_host(function: Callable, arrays: Sequence[DeviceArray], options: dict, place: devices.device, many: bool = False) -> Any:
    """A CPU kernel on copies of the arrays, its results copied back."""
    given = [a.host() for a in arrays]
    options = {k: v.host() if isinstance(v, DeviceArray) else v for k, v in options.items()}
    found = function(given, **options) if many else function(*given, **options)
    if isinstance(found, (tuple, list)):
        return tuple([upload(f, place) for f in found])
    return upload(found, place)


def _viewed(op: Operator, x: DeviceArray, options: dict) -> Any:
    if x.number is not None:
        x = x.settled()
    found = op.forward(x.shadow, **options)
    return tuple([x.over(f) for f in found]) if isinstance(found, (tuple, list)) else x.over(found)


def _fold(op: Fold, x: DeviceArray, dims: Sequence[int] | None, keepdim: bool, extra: Sequence[DeviceArray]) -> Any:
    folded = range(x.ndim) if dims is None else [d % max(x.ndim, 1) for d in dims]
    folded = [d for d in folded if d < x.ndim]
    kept = tuple(n for d, n in enumerate(x.shape) if d not in folded)
    shown = tuple(1 if d in folded else n for d, n in enumerate(x.shape)) if keepdim else kept
    extras = [launch.broadcast(e.reshape(()).view, kept) if e.size == 1 else e.reshape(kept).view for e in extra]
    made = [of_view(v, x.place).reshape(shown) for v in fold_plans.folded(x.device, op, x.view, folded, extras)]
    return made[0] if len(made) == 1 else tuple(made)


def draw(out: DeviceArray, rule: str, reserve: Callable, a: float, b: float) -> None:
    """Random numbers into an array that is not empty: the CPU's, see `kernels.cuda.randoms`."""
    from kernels.cpu import randoms as host
    from kernels.cuda import randoms
    key, first = reserve(-(-out.size // host.elements_per_block(rule, out.dtype.name)))
    dense = out if out.flags.c_contiguous else empty(out.shape, out.dtype.numpy, out.place)
    randoms.draw(out.device, dense.view, rule, key, first, a, b)
    if dense is not out:
        store(out, dense)
