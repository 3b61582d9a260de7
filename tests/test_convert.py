"""Conversions: to and the dtype methods, meeting NumPy, pickling and copying, questions about tensors, lazy imports."""
import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

import engine as torch

NAMES = {"float": "float32", "double": "float64", "half": "float16", "int": "int32", "long": "int64", "short": "int16",
         "char": "int8",
         "byte": "uint8", "bool": "bool", "cfloat": "complex64", "cdouble": "complex128"}


class Named(torch.Tensor):
    """A subclass with attributes."""


@pytest.mark.parametrize("name", NAMES)
def test_dtype_methods(name):
    x = torch.tensor([0.0, 1.75, -1.75])
    got = getattr(x, name)()
    want = x.numpy().astype(np.int64).astype(NAMES[name]) if NAMES[name] in ("uint8",
                                                                             "int8") else x.numpy().astype(NAMES[name])
    assert got.dtype.name == NAMES[name] and np.array_equal(got.numpy(), want)
    assert getattr(got, name)() is got


def test_to():
    x = torch.tensor([1.5, 2.0])
    other = torch.tensor([1])
    assert x.to(torch.float32) is x and x.to("cpu") is x and x.to() is x and x.to(torch.float32, copy=True) is not x
    assert x.to(torch.float32, True, True) is not x and x.to(x) is x
    for y in (x.to(torch.int64), x.to("cpu", torch.int64), x.to(other), x.to(int),
              x.to(dtype=torch.int64, device="cpu"), x.type_as(other)):
        assert y.dtype is torch.int64 and y.tolist() == [1, 2]
    with pytest.raises(RuntimeError):
        x.to("float32")
    with pytest.raises(RuntimeError, match="cuda"):
        x.to("cuda:77")
    assert x.cpu() is x


def test_type():
    x = torch.ones(2)
    assert x.type() == "engine.FloatTensor" and x.type(torch.int32).dtype is torch.int32
    assert x.type("engine.DoubleTensor").dtype is torch.float64 and x.type(torch.LongTensor).dtype is torch.int64
    with pytest.raises(ValueError, match="invalid type: 'foo'"):
        x.type("foo")


def test_casts_are_recorded():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    y = x.double()
    assert type(y.grad_fn).__name__ == "ToCopyBackward0"
    (y * y).sum().backward()
    assert x.grad.dtype is torch.float32 and x.grad.tolist() == [2.0, 4.0]
    assert not x.long().requires_grad


def test_complex_to_real_warns_and_keeps_the_real_part():
    with pytest.warns(UserWarning, match="discards the imaginary part"):
        assert torch.tensor([1 + 2j]).float().tolist() == [1.0]


def test_numpy_functions_and_operators_give_tensors():
    v = torch.tensor([1.0, 2.0])
    for got, want in ((np.sin(v), np.sin(v.numpy())), (np.add(v, 1), [2, 3]), (np.isnan(v), [False, False]),
                      (np.ones(2) + v, [2, 3]),
                      (v + np.ones(2), [2, 3]), (np.float32(3) * v, [3, 6]), (np.float64(3) - v, [2, 1]),
                      (v * np.int64(2), [2, 4])):
        assert isinstance(got, torch.Tensor) and np.allclose(got.numpy(), want)
    assert (np.float64(3) * v).dtype is torch.float32 and (np.ones(2) * v).dtype is torch.float64
    assert np.asarray(v).base is v.numpy().base and np.array(v, dtype=np.float64).dtype == np.float64
    with pytest.raises(RuntimeError, match="requires grad"):
        np.sin(torch.ones(2, requires_grad=True))


# --- pickles and copies -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", ["bool", "int64", "float16", "float32", "complex128"])
def test_pickle_keeps_values_dtype_and_grad_flag(dtype):
    x = torch.tensor([[0, 1], [2, 3]]).to(getattr(torch, dtype)).t()
    back = pickle.loads(pickle.dumps(x))
    assert back.dtype is x.dtype and back.tolist() == x.tolist() and back.stride() == x.stride()


def test_pickle_details():
    x = torch.ones(2, requires_grad=True)
    assert pickle.loads(pickle.dumps(x)).requires_grad
    made = pickle.loads(pickle.dumps(x * 2))
    assert made.is_leaf and made.requires_grad and made.tolist() == [2, 2]
    assert len(pickle.dumps(torch.zeros(100000)[:3])) < 1000                   # a view takes only its own elements
    named = Named([1.0])
    named.label = "a"
    back = pickle.loads(pickle.dumps(named))
    assert type(back) is Named and back.label == "a"
    assert pickle.loads(pickle.dumps(torch.float16)) is torch.float16


def test_copy_shares_and_deepcopy_does_not():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    x.grad = torch.ones(2)
    shallow, deep = copy.copy(x), copy.deepcopy(x)
    assert shallow.data_ptr() == x.data_ptr() and shallow.requires_grad and shallow.is_leaf
    assert deep.data_ptr() != x.data_ptr() and deep.requires_grad and deep.grad.tolist() == [1, 1]
    assert deep.grad is not x.grad
    assert type(copy.deepcopy(Named([1.0]))) is Named
    twice = copy.deepcopy([x, x])
    assert twice[0] is twice[1]
    assert copy.deepcopy(torch.zeros(3, 2).t()).stride() == (1, 2)
    with pytest.raises(RuntimeError, match="graph leaves"):
        copy.deepcopy(x * 2)


# --- questions --------------------------------------------------------------------------------------------------------

def test_questions():
    x = torch.ones(2, 3)
    assert torch.is_tensor(x) and not torch.is_tensor(x.numpy()) and torch.numel(x) == 6
    assert torch.is_floating_point(x) and not torch.is_complex(x) and torch.is_signed(x)
    assert torch.result_type(torch.ones(2, dtype=torch.int64),
                             1.5) is torch.float32 and torch.result_type(1, 2) is torch.int64
    with pytest.raises(TypeError, match="result_type"):
        torch.result_type("a", x)
    with pytest.raises(TypeError, match="must be Tensor, not int"):
        torch.numel(2)


def test_number_of_threads():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert torch.get_num_threads() == 1
        with pytest.raises(RuntimeError, match="positive integer"):
            torch.set_num_threads(0)
        with pytest.raises(RuntimeError, match="expects an int"):
            torch.set_num_threads("a")
    finally:
        torch.set_num_threads(before)


def test_public_names_exist_and_import_stays_light():
    missing = [name for name in torch.__all__ if not hasattr(torch, name)]
    assert not missing
    code = "import sys, engine; print([m for m in ('numba', 'llvmlite') if m in sys.modules], engine.__version__)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert out.stdout.startswith("[] "), out.stdout + out.stderr
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        torch.nonsense  # noqa: B018
