"""Tensors from data and by recipe: values, dtypes, memory, errors. Oracles: Python, NumPy, and PyTorch's documented
rules.
"""
import array
import warnings

import numpy as np
import pytest

import engine as torch

F32, F64, I64 = torch.float32, torch.float64, torch.int64


@pytest.mark.parametrize("data, dtype, shape", [
    (1, "int64", ()), (1.5, "float32", ()), (True, "bool", ()), (1j, "complex64", ()),
    ([1, 2], "int64", (2,)), ([1, 2.0], "float32", (2,)), ([True, 2], "int64", (2,)), ([True, 1j], "complex64", (2,)),
    ([[1, 2], (3, 4)], "int64", (2, 2)), ([], "float32", (0,)), ([[], []], "float32", (2, 0)),
    (range(3), "int64", (3,)),
    (np.float64(1), "float64", ()), ([np.float64(1), 2.0], "float64", (2,)), ([np.int32(1), np.int8(3)], "int32", (2,)),
    (np.arange(3, dtype=np.uint16), "uint16", (3,)), (array.array("f", [1, 2]), "float32", (2,)),
    (bytearray(b"ab"), "int64", (2,)),
])
def test_dtype_and_shape_of_data(data, dtype, shape):
    t = torch.tensor(data)
    assert t.dtype.name == dtype and tuple(t.shape) == shape
    assert np.array_equal(t.numpy(), np.asarray(data if not isinstance(data, bytearray) else list(data)))


def test_default_dtype_decides_floats():
    torch.set_default_dtype(F64)
    try:
        assert torch.tensor([1.0]).dtype is F64 and torch.zeros(2).dtype is F64
        assert torch.tensor([1j]).dtype is torch.complex128
        assert torch.arange(3.0).dtype is F64 and torch.full((1,), 2.0).dtype is F64
    finally:
        torch.set_default_dtype(F32)


@pytest.mark.parametrize("data, dtype, error, words", [
    ([[1, 2], [3]], None, ValueError, r"expected sequence of length 2 at dim 1 \(got 1\)"),
    ([[[1, 2], [3, 4]], [[1, 2], [3]]], None, ValueError, r"expected sequence of length 2 at dim 2 \(got 1\)"),
    ("a", None, TypeError, r"new\(\): invalid data type 'str'"),
    ([1, "a"], None, TypeError, r"new\(\): invalid data type 'str'"),
    (["a"], None, ValueError, "too many dimensions 'str'"), ([[1], ["a"]], None, TypeError, "invalid data type 'str'"),
    (None, None, RuntimeError, "Could not infer dtype of NoneType"),
    ([1.0, None], None, RuntimeError, "Could not infer dtype"),
    ({1: 2}, None, RuntimeError, "Could not infer dtype of dict"), ([[1], 2], None, TypeError, "not a sequence"),
    ([1, [2]], None, TypeError, "'list' object cannot be interpreted as an integer"),
    (2**63, None, RuntimeError, "Overflow when unpacking"), ([2**63], None, RuntimeError, "Overflow when unpacking"),
    ([300], torch.uint8, RuntimeError, "cannot be converted to type uint8 without overflow"),
    ([1e10], torch.int32, RuntimeError, "cannot be converted to type int32 without overflow"),
    ([float("nan")], I64, RuntimeError, "without overflow"), ([float("inf")], I64, RuntimeError, "without overflow"),
    ([1j], F32, TypeError, "must be real number, not complex"),
    ([1.0], "float32", TypeError, "argument 'dtype' must be"),
    (np.array(["a"]), None, TypeError, "can't convert np.ndarray of type numpy.str_"),
    (np.array([1], dtype=">i4"), None, ValueError, "byte order"), (np.arange(3)[::-1], None, ValueError, "negative"),
])
def test_data_that_is_refused(data, dtype, error, words):
    with pytest.raises(error, match=words):
        torch.tensor(data, dtype=dtype)


def test_numbers_converted_to_the_dtype():
    assert torch.tensor([1.7, -1.7], dtype=I64).tolist() == [1, -1]
    assert torch.tensor([-1], dtype=torch.uint8).tolist() == [255]
    assert torch.tensor([2, 0.5, 0], dtype=torch.bool).tolist() == [True, True, False]
    assert torch.tensor([2**200, 1e300]).tolist() == [float("inf")] * 2          # silently, as in PyTorch
    assert torch.tensor([2**63], dtype=torch.uint64).tolist() == [2**63]
    assert torch.tensor([1], dtype=float).dtype is F64


def test_data_is_copied_and_tensors_warn():
    a = np.ones((2, 3))
    t = torch.tensor(a)
    a[0, 0] = 5
    assert t[0, 0].item() == 1
    with pytest.warns(UserWarning, match="To copy construct from a tensor"):
        copy = torch.tensor(t, dtype=torch.int32)
    assert copy.dtype is torch.int32 and torch.tensor(a.T).stride() == (2, 1)
    with pytest.warns(UserWarning, match="extremely slow"):
        assert tuple(torch.tensor([np.arange(3), np.arange(3)]).shape) == (2, 3)
    assert torch.tensor([torch.tensor(1), torch.tensor([2.0])]).tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="only one element tensors"):
        torch.tensor([torch.ones(2), torch.ones(2)])


def test_objects_with_array_interface():
    class Column:
        def __array__(self, dtype=None, copy=None):
            return np.array([1.0, 2.0])
    assert torch.tensor(Column()).dtype is F64 and torch.as_tensor(Column()).tolist() == [1.0, 2.0]


def test_requires_grad_and_device_of_constructors():
    assert torch.tensor([1.0], requires_grad=True).requires_grad and torch.zeros(2, requires_grad=True).is_leaf
    with pytest.raises(RuntimeError, match="Only Tensors of floating point and complex dtype can require gradients"):
        torch.tensor([1], requires_grad=True)
    assert torch.ones(2, device="cpu").device.type == "cpu"
    with pytest.raises(RuntimeError, match="device"):
        torch.zeros(2, device="nonsense")


# --- sharing memory ---------------------------------------------------------------------------------------------------

def test_from_numpy_shares_memory():
    a = np.zeros((2, 3), np.float32)
    t = torch.from_numpy(a.T)
    t[0, 1] = 7
    assert a[1, 0] == 7 and t.stride() == (1, 3) and t.numpy() is not None
    assert torch.from_numpy(np.array([1], "q")).dtype is I64
    for bad, error in ((np.float32(1), TypeError), ([1], TypeError), (np.arange(3)[::-1], ValueError),
                       (np.array(["a"]), TypeError),
                       (np.zeros(2, [("a", "i1"), ("b", "f4")])["b"], ValueError)):
        with pytest.raises(error):
            torch.from_numpy(bad)


def test_read_only_arrays_warn_and_refuse_writes():
    a = np.arange(3.0)
    a.flags.writeable = False
    with pytest.warns(UserWarning, match="not writable"):
        t = torch.from_numpy(a)
    with pytest.raises(RuntimeError, match="read-only"):
        t.zero_()
    assert a.tolist() == [0, 1, 2] and (t + 1).tolist() == [1, 2, 3]


def test_as_tensor_and_asarray_share_where_they_can():
    t, a = torch.ones(2), np.ones(2)
    assert torch.as_tensor(t) is t and torch.asarray(t) is t and torch.asarray(t, copy=True) is not t
    assert np.shares_memory(torch.as_tensor(a).numpy(), a) and torch.as_tensor(a, dtype=F32).dtype is F32
    assert torch.asarray(bytearray(8), dtype=torch.int32).tolist() == [0, 0]
    g = torch.ones(2, requires_grad=True)
    assert type(torch.as_tensor(g, dtype=F64).grad_fn).__name__ == "ToCopyBackward0"
    with pytest.raises(ValueError, match="can't alias arbitrary sequence"):
        torch.asarray([1], copy=False)
    with pytest.raises(ValueError, match="can't alias tensor with dtype 'Float' into dtype 'Int'"):
        torch.asarray(t, dtype=torch.int32, copy=False)


def test_frombuffer():
    memory = bytearray(np.arange(4, dtype=np.float32).tobytes())
    t = torch.frombuffer(memory, dtype=F32, offset=4, count=2)
    t[0] = 9
    assert np.frombuffer(memory, np.float32).tolist() == [0, 9, 2, 3]
    for options, words in (({"count": 9}, "must not be greater than"),
                           ({"offset": 16}, "no greater than buffer length"),
                           ({"offset": -1}, "non-negative"), ({"count": 0}, "must not be 0"),
                           ({"offset": 1}, "multiple of element")):
        with pytest.raises(ValueError, match=words):
            torch.frombuffer(memory, dtype=F32, **options)
    with pytest.raises(ValueError, match="buffer protocol"):
        torch.frombuffer([1], dtype=F32)


def test_dlpack_both_ways():
    a = np.arange(4.0)
    t = torch.from_dlpack(a)
    assert np.shares_memory(np.from_dlpack(t), a) and torch.from_dlpack(t.__dlpack__()).tolist() == a.tolist()
    with pytest.raises(BufferError, match="require gradient"):
        np.from_dlpack(torch.ones(2, requires_grad=True))
    with pytest.raises(RuntimeError, match="from_dlpack"):
        torch.from_dlpack([1])


# --- recipes ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0), (2, 3), (70000,)])
def test_zeros_ones_full(shape):
    for t, value in ((torch.zeros(shape), 0), (torch.ones(shape, dtype=I64), 1), (torch.full(shape, 2.5), 2.5),
                     (torch.full(shape, True), 1), (torch.full(shape, 3 + 1j), 3 + 1j)):
        assert tuple(t.shape) == shape and (t.numpy() == value).all()
    assert torch.full(shape, 7).dtype is I64 and torch.full(shape, True).dtype is torch.bool


def test_sizes_that_are_refused():
    for f in (torch.zeros, torch.empty, torch.rand, torch.ones):
        with pytest.raises(RuntimeError, match=r"negative dimension -1: \[2, -1\]"):
            f(2, -1)
        with pytest.raises(RuntimeError, match="Storage size calculation overflowed"):
            f(2**62, 8)
        with pytest.raises(RuntimeError, match="allocate"):
            f(2**45)
        with pytest.raises(TypeError, match="must be tuple of ints, not float"):
            f(2.5)
        with pytest.raises(TypeError):
            f((2, "a"))
        with pytest.raises(TypeError, match="missing"):
            f()
    assert tuple(torch.zeros(torch.tensor(2), np.int64(3)).shape) == (2, 3)


@pytest.mark.parametrize("value, dtype",
                         [(300, torch.uint8), (1e10, torch.int32), (1e300, F32), (1e10, torch.float16), (1j, F32),
                                          (2**63, I64), (float("nan"), torch.int32)])
def test_full_refuses_what_the_dtype_cannot_hold(value, dtype):
    with pytest.raises(RuntimeError, match=r"[oO]verflow"):
        torch.full((2,), value, dtype=dtype)
    with pytest.raises(RuntimeError, match=r"[oO]verflow"):
        torch.zeros(2, dtype=dtype).fill_(value)


@pytest.mark.parametrize("arguments", [(5,), (2, 5), (1, 9, 3), (5, 1, -2), (0.0, 1, 0.1), (0, 1, 1 / 3), (3, 3),
                                       (0.5, 3), (-3.5, 2)])
def test_arange_is_numpys(arguments):
    t = torch.arange(*arguments)
    want = np.arange(*arguments)
    assert t.dtype is (I64 if want.dtype.kind == "i" else F32)
    assert np.allclose(t.numpy(), want, rtol=2e-7, atol=1e-7) and t.shape == want.shape


def test_arange_details():
    assert torch.arange(0, 3, 0.5, dtype=torch.int32).tolist() == [0] * 6           # PyTorch truncates the step
    assert torch.arange(300, dtype=torch.uint8)[255:258].tolist() == [255, 0, 1]
    assert torch.arange(start=1, end=4).tolist() == [1, 2, 3] == torch.arange(1, end=4).tolist()
    assert np.array_equal(torch.arange(200001).numpy(), np.arange(200001))          # several threads
    for arguments, error, words in (((5, 1), RuntimeError, "inconsistent with step sign"),
                                    ((1, 5, 0), RuntimeError, "nonzero"),
                                    ((float("inf"),), RuntimeError, "unsupported range"),
                                    ((0, 1e20), RuntimeError, "invalid size"),
                                    ((2**63,), RuntimeError, "overflow"), ((), TypeError, "arange"),
                                    (("a",), TypeError, "Number"),
                                    ((1j,), RuntimeError, "overflow")):
        with pytest.raises(error, match=words):
            torch.arange(*arguments)
    with pytest.raises(NotImplementedError, match="not implemented for 'Bool'"):
        torch.arange(2, dtype=torch.bool)


def test_linspace_and_logspace():
    t = torch.linspace(0.1, 0.7, 70001, dtype=F64).numpy()
    assert t[0] == 0.1 and t[-1] == 0.7 and np.allclose(t, np.linspace(0.1, 0.7, 70001), rtol=1e-15)
    mirrored = torch.linspace(-1, 1, 11).numpy()
    assert np.array_equal(mirrored, -mirrored[::-1])
    assert torch.linspace(0, 10, 4, dtype=I64).tolist() == [0, 3, 6, 10]
    assert torch.linspace(10, 0, 4, dtype=I64).tolist() == [10, 6, 3, 0]
    assert torch.linspace(2, 9, 1).tolist() == [2] and torch.linspace(0, 1, 0).tolist() == []
    assert np.allclose(torch.linspace(0, 1 + 2j, 5).numpy(), np.linspace(0, 1 + 2j, 5))
    assert np.allclose(torch.logspace(-2, 3, 7, dtype=F64).numpy(), np.logspace(-2, 3, 7), rtol=1e-14)
    assert torch.logspace(0, 3, 4, dtype=I64).tolist() == [1, 10, 100, 1000]
    assert torch.logspace(0, 3, 4, base=-2).tolist() == [1, -2, 4, -8]
    for f in (torch.linspace, torch.logspace):
        with pytest.raises(RuntimeError, match="number of steps must be non-negative"):
            f(0, 1, -1)
        with pytest.raises(NotImplementedError, match="'Bool'"):
            f(0, 1, 3, dtype=torch.bool)
    with pytest.raises(RuntimeError, match="can't be safely cast"):
        torch.linspace(0, 1j, 3, dtype=F32)
    with pytest.raises(RuntimeError, match="0-dimensional"):
        torch.linspace(torch.ones(2), 1, 3)


@pytest.mark.parametrize("n, m", [(0, None), (3, None), (2, 5), (5, 2), (2, 0)])
def test_eye(n, m):
    for dtype in (F32, torch.bool):
        t = torch.eye(n, m, dtype=dtype) if m is not None else torch.eye(n, dtype=dtype)
        assert np.array_equal(t.numpy(), np.eye(n, m, dtype=t.dtype.numpy))
    with pytest.raises(RuntimeError, match="greater or equal to 0"):
        torch.eye(-1)


def test_like_and_new():
    base = torch.zeros(3, 2, dtype=torch.int32).t()
    assert torch.ones_like(base).stride() == (1, 2) and torch.ones_like(base).tolist() == [[1] * 3] * 2
    assert torch.full_like(base, 2.5).tolist() == [[2] * 3] * 2 and torch.zeros_like(base, dtype=F64).dtype is F64
    assert torch.empty_like(torch.zeros(1, 2).expand(3, 2)).stride() == (2, 1)
    assert base.new_zeros(2).dtype is torch.int32 and base.new_ones((2, 2), dtype=F64).tolist() == [[1.0] * 2] * 2
    assert base.new_full((3,), 2.5).tolist() == [2] * 3 and base.new_tensor([1.5, 2]).tolist() == [1, 2]
    assert tuple(base.new_empty(2, 3).shape) == (2, 3)
    assert torch.empty_strided((2, 3), (1, 2)).stride() == (1, 2)
    with pytest.raises(RuntimeError, match="dimensionality of sizes"):
        torch.empty_strided((2, 3), (1,))
    with pytest.raises(TypeError, match="must be Tensor, not int"):
        torch.zeros_like(5)


def test_out():
    out = torch.zeros(3, dtype=F64)
    assert torch.ones(3, out=out) is out and out.tolist() == [1] * 3
    assert torch.arange(1, 4, out=out) is out and out.tolist() == [1, 2, 3]
    with pytest.raises(RuntimeError, match="does not match dtype of out"):
        torch.zeros(3, out=out, dtype=I64)


def test_fill_and_zero_are_recorded():
    x = torch.ones(3, requires_grad=True)
    y = x * 2
    y.zero_()
    assert type(y.grad_fn).__name__ == "ZeroBackward0"
    v = torch.tensor(2.0, requires_grad=True)
    z = x * 3
    z.fill_(v)
    (y.sum() + (z * z).sum()).backward()
    assert x.grad.tolist() == [0] * 3 and v.grad.item() == 12.0
    with pytest.raises(RuntimeError, match="leaf"):
        x.fill_(1)
    t = torch.zeros(2, 4)
    t[:, ::2].fill_(5)
    assert t.tolist() == [[5, 0, 5, 0]] * 2 and t._version > 0
    with pytest.raises(RuntimeError, match="0-dimension value tensor"):
        t.fill_(torch.ones(2))


@pytest.mark.parametrize("name, terms",
                         [("hann", (0.5, 0.5, 0)), ("hamming", (0.54, 0.46, 0)), ("blackman", (0.42, 0.5, 0.08))])
@pytest.mark.parametrize("periodic", [True, False])
def test_windows(name, terms, periodic):
    f = getattr(torch, f"{name}_window")
    for n in (0, 1, 2, 9):
        angle = 2 * np.pi * np.arange(n) / max(1, n if periodic else n - 1)
        want = terms[0] - terms[1] * np.cos(angle) + terms[2] * np.cos(2 * angle) if n != 1 else np.ones(1)
        assert np.allclose(f(n, periodic, dtype=F64).numpy(), want, atol=1e-15)
    with pytest.raises(RuntimeError, match="non-negative window_length"):
        f(-1)
    with pytest.raises(RuntimeError, match="expects floating point"):
        f(3, dtype=I64)


def test_bartlett_window():
    assert np.allclose(torch.bartlett_window(7, False).numpy(), np.bartlett(7))
    assert np.allclose(torch.bartlett_window(6).numpy(), np.bartlett(7)[:6])


# --- old constructors -------------------------------------------------------------------------------------------------

def test_legacy_constructors():
    assert tuple(torch.Tensor(2, 3).shape) == (2, 3) and tuple(torch.Tensor().shape) == (0,)
    assert tuple(torch.Tensor(torch.Size([4])).shape) == (4,)
    assert torch.Tensor([1, 2]).dtype is F32 and torch.LongTensor([1.5, 2]).tolist() == [1, 2]
    assert torch.ByteTensor([-1]).tolist() == [255]
    assert torch.BoolTensor([1, 0]).tolist() == [True, False] and torch.DoubleTensor(2).dtype is F64
    t = torch.ones(2)
    assert isinstance(t, torch.FloatTensor) and not isinstance(t, torch.LongTensor)
    assert isinstance(torch.LongTensor([1]), torch.Tensor)
    assert torch.Tensor(t) is not t and torch.Tensor(t).data_ptr() == t.data_ptr()
    for data, error, words in ((2.5, TypeError, "data must be a sequence"), ("a", TypeError, "invalid data type 'str'"),
                               ([[1, 2], [3]], ValueError, "expected sequence"),
                               (-1, RuntimeError, "negative dimension")):
        with pytest.raises(error, match=words):
            torch.Tensor(data)
    with pytest.raises(TypeError, match="expected LongTensor"):
        torch.LongTensor(t)


def test_no_warnings_on_the_common_paths():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.tensor([1e300, float("nan"), float("inf")])
        torch.tensor([[1, 2], [3, 4]], dtype=torch.float16)
        torch.full((3,), float("inf"))
