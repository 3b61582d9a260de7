"""Dtypes and devices: PyTorch's promotion table and category rules as literals, limits, identity, defaults, errors.

What operators do with dtypes is tested with the operators. No tensor is made here; a fixture restores the defaults
that a test changes.
"""

import copy
import itertools
import pickle
import threading

import numpy as np
import pytest

from engine import devices, dtypes
from engine.devices import CPU, as_device, device, get_default_device, require_available, set_default_device
from engine.dtypes import PUBLIC, finfo, from_numpy_dtype, iinfo, number_dtype, promote_types, result_type_of
from engine.errors import DeviceError, DTypeError, GradError, ShapeError

# torch.promote_types of PyTorch 2.13, rows and columns in this order; a dot is where it raises.
CODES = {
    "?": "bool", "B": "uint8", "b": "int8", "h": "int16", "i": "int32", "l": "int64",
    "e": "float16", "f": "float32", "d": "float64", "F": "complex64", "D": "complex128",
    "H": "uint16", "I": "uint32", "L": "uint64",
}
TABLE = """
    ? B b h i l e f d F D . . .
    B B h h i l e f d F D . . .
    b h b h i l e f d F D . . .
    h h h h i l e f d F D . . .
    i i i i i l e f d F D . . .
    l l l l l l e f d F D . . .
    e e e e e e e f d F D e e e
    f f f f f f f f d F D f f f
    d d d d d d d d d D D d d d
    F F F F F F F F D F D . . .
    D D D D D D D D D D D . . .
    . . . . . . e f d . . H . .
    . . . . . . e f d . . . I .
    . . . . . . e f d . . . . L
"""
ALL = [PUBLIC[name] for name in CODES.values()]
DEVICE_NAMES = "cpu, cuda, ipu, xpu, mkldnn, opengl, opencl, ideep, hip, ve, fpga, maia, xla, lazy, vulkan, mps, meta"


@pytest.fixture(autouse=True)
def _restore_defaults():
    yield
    dtypes.set_default_dtype(dtypes.float32)
    set_default_device(None)


def code(c):
    return PUBLIC[CODES[c]]


# --- dtypes ----------------------------------------------------------------------------------------------------------


def test_attributes():
    assert list(dtypes.ALL) == ALL and len(set(ALL)) == 14
    for d in ALL:
        assert repr(d) == str(d) == f"engine.{d.name}"
        assert d.numpy == np.dtype(d.name) and d.char == d.numpy.char and d.itemsize == d.numpy.itemsize
        assert d.category == {"b": 0, "i": 1, "u": 1, "f": 2, "c": 3}[d.numpy.kind]
        assert d.is_floating_point == (d.numpy.kind == "f") and d.is_complex == (d.numpy.kind == "c")
        assert d.is_signed == (d.numpy.kind in "ifc")
    legacy = "Bool Byte Char Short Int Long Half Float Double ComplexFloat ComplexDouble UInt16 UInt32 UInt64"
    assert [d.legacy for d in ALL] == [f"{name}Tensor" for name in legacy.split()]


def test_aliases():
    aliases = {"half": "e", "float": "f", "double": "d", "short": "h", "int": "i", "long": "l",
               "cfloat": "F", "cdouble": "D"}
    for alias, c in aliases.items():
        assert PUBLIC[alias] is code(c)
    assert len(PUBLIC) == 14 + 8


def test_to_real_and_to_complex():
    assert [d.to_real().name for d in ALL if d.to_real() is not d] == ["float32", "float64"]
    assert [code(c).to_complex() for c in "efdFD"] == [code(c) for c in "FFDFD"]
    with pytest.raises(RuntimeError, match="Unknown Complex ScalarType for Long"):
        dtypes.int64.to_complex()


def test_copies_and_pickles_are_the_same_object():
    for d in ALL:
        assert copy.copy(d) is d and copy.deepcopy([d])[0] is d
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            assert pickle.loads(pickle.dumps(d, protocol)) is d


def test_dtype_is_closed():
    with pytest.raises(TypeError, match=r"cannot create 'engine\.dtype' instances"):
        dtypes.dtype("float32")
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("mine", (dtypes.dtype,), {})
    with pytest.raises(AttributeError, match="has no attribute 'extra'"):
        dtypes.float32.extra = 1
    with pytest.raises(AttributeError, match=r"attribute 'name' of 'engine\.dtype' objects is not writable"):
        dtypes.float32.name = "float64"
    with pytest.raises(AttributeError, match="not writable"):
        del dtypes.float32.name


def test_from_numpy():
    for d in ALL:
        assert from_numpy_dtype(d.numpy) is d and from_numpy_dtype(d.numpy.type) is d
        assert dtypes.BY_NUMPY[np.zeros(1, d.name).dtype] is d
    for char in "lq" if np.dtype("l").itemsize == 8 else "q":  # both C types of 64 bits, different characters
        assert from_numpy_dtype(np.dtype(char)) is dtypes.int64
    for unknown, name in (("O", "object_"), ("U1", "str_"), ("M8[s]", "datetime64"), ([("x", "f4")], "void")):
        with pytest.raises(TypeError, match=rf"convert np.ndarray of type numpy\.{name}. The only supported types "
                                            "are: float64, float32, float16, complex64, .* uint8, and bool"):
            from_numpy_dtype(np.dtype(unknown))
    with pytest.raises(ValueError, match="byte order different from the native byte order"):
        from_numpy_dtype(np.dtype("f4").newbyteorder())


def test_as_dtype():
    given = [dtypes.int8, bool, int, float, complex, np.float32, np.dtype("uint16"), np.bool_]
    assert [dtypes.as_dtype(x) for x in given] == [code(c) for c in "b?ldDfH?"]
    for bad, name in ((None, "NoneType"), ("float32", "str"), (3, "int"), (list, "type")):
        with pytest.raises(TypeError, match=rf"argument 'dtype' must be engine\.dtype, not {name}"):
            dtypes.as_dtype(bad)
    with pytest.raises(TypeError, match=r"type numpy\.object_"):
        dtypes.as_dtype(np.object_)


# --- promotion -------------------------------------------------------------------------------------------------------


def test_promotion_table():
    rows = [line.split() for line in TABLE.split("\n") if line.strip()]
    assert len(rows) == 14 and all(len(row) == 14 for row in rows)
    for (a, row), (column, b) in itertools.product(zip(ALL, rows, strict=True), enumerate(ALL)):
        if row[column] != ".":
            assert promote_types(a, b) is dtypes.PROMOTE[a, b] is code(row[column]), (a, b)
            continue
        with pytest.raises(RuntimeError, match="Promotion for uint16, uint32, uint64 types is not supported, "
                                               f"attempted to promote {a.scalar} and {b.scalar}"):
            promote_types(a, b)
    assert promote_types(float, int) is dtypes.float64
    with pytest.raises(TypeError, match=r"promote_types\(\): argument 'type2' .* must be engine.dtype, not int"):
        promote_types(dtypes.float32, 3)


def test_can_cast():
    # torch.can_cast of PyTorch 2.13, from row to column
    rows = ["1" * 14] + ["0" + "1" * 13] * 5 + ["00000011111000"] * 3 + ["00000000011000"] * 2 + ["0" + "1" * 13] * 3
    for a, row in zip(ALL, rows, strict=True):
        assert "".join(str(int(dtypes.can_cast(a, b))) for b in ALL) == row, a
    with pytest.raises(TypeError, match=r"can_cast\(\): argument 'to' \(position 2\) must be engine.dtype, not str"):
        dtypes.can_cast(dtypes.float32, "x")


# Operands, then torch.result_type: "l2 f0" is an int64 tensor with dimensions and a Python float (default float32).
@pytest.mark.parametrize(("operands", "expected"), [
    ("l2", "l"), ("f0", "f"), ("l0 f0", "f"),
    ("h2 l0", "h"), ("h2 f0", "f"), ("h2 F0", "F"), ("h2 ?0", "h"),
    ("?2 l0", "l"), ("?2 f0", "f"), ("?2 ?0", "?"),
    ("e2 f0", "e"), ("d2 F0", "D"), ("f2 F0", "F"), ("F2 f0", "F"), ("e2 d1", "e"), ("f2 D1", "F"), ("d2 F1", "D"),
    ("h2 l1", "h"), ("h2 l2", "l"), ("h2 d1", "d"), ("h2 D1", "D"), ("?2 B1", "B"), ("B2 b1", "B"), ("B2 b2", "h"),
    ("h1 l0", "h"), ("h1 f0", "f"), ("d1 f0", "d"), ("?1 l0", "l"), ("e1 F0", "F"),
    ("b2 h1 f0", "f"), ("b2 e1 f0", "e"), ("b2 e2 d1 F0", "F"), ("i2 d1 F0", "D"),
    ("H2 l0", "H"), ("H2 l1", "H"), ("H2 f0", "f"), ("H2 F0", "F"), ("H2 D1", "D"), ("H2 e2", "e"),
])
def test_result_type(operands, expected):
    items = [(code(c), int(priority)) for c, priority in operands.split()]
    for order in itertools.permutations(items):
        assert result_type_of(order) is code(expected)


@pytest.mark.parametrize("operands", ["H2 l2", "H2 F2", "H1 I1", "?2 H1"])
def test_result_type_undefined(operands):
    with pytest.raises(RuntimeError, match="Promotion for uint16, uint32, uint64 types is not supported"):
        result_type_of([(code(c), int(priority)) for c, priority in operands.split()])


def test_result_type_of_nothing():
    with pytest.raises(RuntimeError, match="at least one operand"):
        result_type_of([])


def test_number_dtype_follows_the_default():
    values = [True, 3, 2.5, 1j, np.True_, np.int8(1), np.float16(1), np.float64(1), np.complex128(1)]
    for default, chars in (("f", "?lfF?lffF"), ("d", "?ldD?lddD"), ("e", "?leF?leeF")):
        dtypes.set_default_dtype(code(default))
        assert [number_dtype(v) for v in values] == [code(c) for c in chars]
    for bad in ("1", None, [1]):
        with pytest.raises(TypeError, match="expected a bool, int, float or complex number, got"):
            number_dtype(bad)


# --- the default dtype -----------------------------------------------------------------------------------------------


def test_default_dtype():
    assert dtypes.get_default_dtype() is dtypes.default() is dtypes.DEFAULT.dtype is dtypes.float32
    dtypes.set_default_dtype(dtypes.float64)
    assert dtypes.get_default_dtype() is dtypes.default() is dtypes.DEFAULT.dtype is dtypes.float64
    for bad in (dtypes.int64, dtypes.complex64, "float32", float, None):
        with pytest.raises(TypeError, match="only floating-point types are supported as the default type"):
            dtypes.set_default_dtype(bad)
    assert dtypes.get_default_dtype() is dtypes.float64


def test_default_tensor_type(monkeypatch):
    with pytest.warns(UserWarning, match="set_default_tensor_type.. is deprecated"):
        dtypes.set_default_tensor_type("torch.DoubleTensor")
    assert dtypes.default() is dtypes.float64
    with pytest.warns(UserWarning, match="deprecated"):
        dtypes.set_default_tensor_type(type("HalfTensor", (), {}))
    assert dtypes.default() is dtypes.float16
    for bad in ("torch.LongTensor", "foo", 3):
        with pytest.raises(TypeError, match="only floating-point types are supported as the default type"):
            dtypes.set_default_tensor_type(bad)
    monkeypatch.setattr(devices, "_cuda_devices", lambda: (0, "Found no NVIDIA driver on your system."))
    with pytest.warns(UserWarning), pytest.raises(TypeError, match=r"cuda\.FloatTensor not available.*Found no NVIDIA"):
        dtypes.set_default_tensor_type("torch.cuda.FloatTensor")
    assert dtypes.default() is dtypes.float16 and get_default_device() is CPU
    monkeypatch.setattr(devices, "_cuda_devices", lambda: (1, ""))
    with pytest.warns(UserWarning):
        dtypes.set_default_tensor_type("torch.cuda.FloatTensor")
    assert dtypes.default() is dtypes.float32 and get_default_device() == device("cuda")


# --- finfo and iinfo -------------------------------------------------------------------------------------------------


def test_finfo():
    for c in "efdFD":
        ours, theirs = finfo(code(c)), np.finfo(code(c).numpy)
        for name in ("bits", "eps", "max", "min", "tiny", "smallest_normal"):
            assert getattr(ours, name) == getattr(theirs, name), (c, name)
        assert ours.resolution == pytest.approx(float(theirs.resolution), rel=1e-3)
        assert ours.dtype == theirs.dtype.name and type(ours.max) is type(ours.resolution) is float
    assert repr(finfo()) == ("finfo(resolution=1e-06, min=-3.40282e+38, max=3.40282e+38, eps=1.19209e-07, "
                             "smallest_normal=1.17549e-38, tiny=1.17549e-38, dtype=float32)")
    assert finfo(dtypes.float32) == finfo(dtypes.complex64) != finfo(dtypes.float64)
    assert finfo(float).dtype == "float64"
    dtypes.set_default_dtype(dtypes.float64)
    assert finfo().dtype == "float64"


def test_iinfo():
    for c in "BbhilHIL":
        ours, theirs = iinfo(code(c)), np.iinfo(code(c).numpy)
        assert (ours.bits, ours.min, ours.max, ours.dtype) == (theirs.bits, theirs.min, theirs.max, CODES[c])
        assert type(ours.max) is int
    assert repr(iinfo(dtypes.int32)) == "iinfo(min=-2.14748e+09, max=2.14748e+09, dtype=int32)"
    assert iinfo(dtypes.int8) == iinfo(type=dtypes.int8) != iinfo(dtypes.uint8)
    assert iinfo(int).dtype == "int64"


def test_limits_errors():
    for d in (dtypes.int32, dtypes.bool_):
        with pytest.raises(TypeError, match=r"requires a floating point input type\. Use engine\.iinfo to handle"):
            finfo(d)
    for d in (dtypes.float32, dtypes.complex64):
        with pytest.raises(TypeError, match=r"requires an integer input type\. Use engine\.finfo to handle"):
            iinfo(d)
    with pytest.raises(TypeError, match=r"engine\.bool is not supported by engine\.iinfo"):
        iinfo(dtypes.bool_)
    with pytest.raises(TypeError, match=r"finfo\(\): argument 'type' \(position 1\) must be engine.dtype, not str"):
        finfo("float32")
    with pytest.raises(TypeError, match="unhashable"):
        hash(finfo())


# --- devices ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "kind", "index"), [
    (("cpu",), "cpu", None), (("cpu:0",), "cpu", 0), (("cuda",), "cuda", None), (("cuda:12",), "cuda", 12),
    (("cuda", 1), "cuda", 1), (("cuda", None), "cuda", None), ((0,), "cuda", 0), ((np.int64(3),), "cuda", 3),
    (("mps",), "mps", None), (("meta",), "meta", None),
])
def test_device(given, kind, index):
    made = device(*given)
    assert (made.type, made.index) == (kind, index)
    assert str(made) == (kind if index is None else f"{kind}:{index}")
    assert repr(made) == (f"device(type='{kind}')" if index is None else f"device(type='{kind}', index={index})")
    assert made == device(kind, index) == device(made) == device(type=kind, index=index) == device(device=str(made))
    assert hash(made) == hash(device(str(made)))
    assert copy.copy(made) is copy.deepcopy(made) is pickle.loads(pickle.dumps(made)) is made


def test_devices_that_differ():
    assert device("cuda") != device("cuda:0") != device("cuda:1") and device("cpu") != device("cpu:0")
    assert device("cpu") != "cpu" and device("cpu") is CPU


@pytest.mark.parametrize(("given", "error", "words"), [
    (("foo",), RuntimeError, rf"Expected one of {DEVICE_NAMES}, .* device type at start of device string: foo$"),
    (("foo:1",), RuntimeError, "device type at start of device string: foo$"),
    (("CPU",), RuntimeError, "device type at start of device string: CPU"),
    (("foo", 0), RuntimeError, "device type at start of device string: foo"),
    (("",), RuntimeError, "Device string must not be empty"),
    *((("cuda:" + tail,), RuntimeError, f"Invalid device string: 'cuda:{tail}'") for tail in
      ("", "x", "-1", "01", "0:1", "1a", " 1", "\u0661", "9" * 5000)),
    (("cpu0",), RuntimeError, "Invalid device string: 'cpu0'"),
    (("cuda:300",), RuntimeError, "Device index must be at most 127, got 300"),
    (("cuda", 128), RuntimeError, "Device index must be at most 127, got 128"),
    (("cuda", -1), RuntimeError, "Device index must not be negative"),
    ((-1,), RuntimeError, "Device index must not be negative"),
    (("cuda:0", 1), RuntimeError, "must not include an index because index was passed explicitly: cuda:0"),
    (("cuda", "1"), TypeError, r"argument 'index' \(position 2\) must be int, not str"),
    (("cuda", 1.5), TypeError, r"argument 'index' \(position 2\) must be int, not float"),
    ((1, 2), TypeError, r"argument 'type' \(position 1\) must be str, not int"),
    ((1.5,), TypeError, r"invalid combination of arguments - got \(float\)"),
    ((True,), TypeError, r"invalid combination of arguments - got \(bool\)"),
    ((), TypeError, r"invalid combination of arguments - got \(\)"),
], ids=lambda value: str(value)[:20])
def test_device_errors(given, error, words):
    with pytest.raises(error, match=words):
        device(*given)


def test_device_is_closed():
    with pytest.raises(AttributeError, match=r"attribute 'type' of 'engine\.device' objects is not writable"):
        CPU.type = "cuda"
    with pytest.raises(AttributeError, match="has no attribute 'extra'"):
        CPU.extra = 1
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("mine", (device,), {})


def test_default_device():
    cuda = device("cuda:1")
    assert as_device(None) is get_default_device() is CPU
    with cuda as entered:
        assert entered is get_default_device() is as_device(None) is cuda
        with device("meta"):
            assert get_default_device().type == "meta" and as_device("cpu") is CPU
            set_default_device("cpu")
        assert get_default_device() is cuda
    assert get_default_device() is CPU
    with pytest.raises(ZeroDivisionError), cuda:
        1 / 0  # noqa: B018
    assert get_default_device() is CPU and as_device(1) is cuda
    assert cuda(get_default_device)() is cuda
    set_default_device("cuda:1")
    assert get_default_device() is cuda
    set_default_device(None)
    assert get_default_device() is CPU
    with pytest.raises(RuntimeError, match="device string: foo"):
        set_default_device("foo")


def test_default_device_belongs_to_the_thread():
    set_default_device("meta")
    seen = []
    thread = threading.Thread(target=lambda: seen.append(get_default_device()))
    thread.start()
    thread.join()
    assert seen == [CPU] and get_default_device().type == "meta"


def test_require_available(monkeypatch):
    require_available(CPU)
    require_available(device("cpu:1"))
    with pytest.raises(DeviceError, match="device mps is not available: this engine computes on cpu and cuda"):
        require_available(device("mps"))
    monkeypatch.setattr(devices, "_cuda_devices", lambda: (0, "No CUDA GPUs are available"))
    for error in (RuntimeError, AssertionError):
        with pytest.raises(error, match=r"Torch not compiled with CUDA enabled.*No CUDA GPUs.*; or use device='cpu'"):
            require_available(device("cuda"))
    monkeypatch.setattr(devices, "_cuda_devices", lambda: (2, ""))
    require_available(device("cuda"))
    require_available(device("cuda:1"))
    with pytest.raises(RuntimeError, match="CUDA error: invalid device ordinal: cuda:2 asked for, but there are 2"):
        require_available(device("cuda:2"))


class FakeDriver:
    """Stands for the driver library: what cuInit returns and how many devices it counts."""

    def __init__(self, code, count):
        self.code, self.count = code, count

    def cuInit(self, flags):
        return self.code

    def cuDeviceGetCount(self, address):
        address._obj.value = self.count
        return 0


@pytest.mark.parametrize(("driver", "count", "words"), [
    (None, 0, "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU"),
    (FakeDriver(100, 0), 0, "No CUDA GPUs are available, the driver answers with CUDA error 100: check nvidia-smi"),
    (FakeDriver(0, 0), 0, "No CUDA GPUs are available: check nvidia-smi and the variable CUDA_VISIBLE_DEVICES"),
    (FakeDriver(0, 2), 2, ""),
], ids=["no driver", "driver fails", "no device", "two devices"])
def test_asking_the_driver(monkeypatch, driver, count, words):
    def load(name):
        if driver is None:
            raise OSError(name)
        return driver

    monkeypatch.setattr(devices.ctypes, "CDLL", load)
    found, reason = devices._cuda_devices.__wrapped__()
    assert found == count and reason.startswith(words)


# --- errors ----------------------------------------------------------------------------------------------------------


def test_error_classes_are_caught_as_in_pytorch():
    bases = {ShapeError: (RuntimeError, ValueError), DTypeError: (RuntimeError, TypeError),
             DeviceError: (RuntimeError, AssertionError), GradError: (RuntimeError,)}
    for cls, caught_as in bases.items():
        for base in caught_as:
            with pytest.raises(base, match="why"):
                raise cls("why")
        assert type(pickle.loads(pickle.dumps(cls("why")))) is cls
