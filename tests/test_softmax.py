"""softmax and log_softmax: any dimension, layout and length, extreme values, derivatives, errors; against NumPy in long double."""
import numpy as np
import pytest

import engine as torch
import engine.nn.functional as F
from engine.autograd import gradcheck, gradgradcheck


def expected(x, dim, log):
    x = x.astype(np.longdouble)
    with np.errstate(all="ignore"):
        shifted = x - x.max(dim, keepdims=True, initial=-np.inf)
        total = np.exp(shifted).sum(dim, keepdims=True)
        return shifted - np.log(total) if log else np.exp(shifted) / total


SHAPES = [((3, 4), 1), ((3, 4), 0), ((5,), 0), ((2, 3, 4), 1), ((2, 3, 4), -1), ((130, 10), 1), ((3, 1500), 1), ((700, 3), 0),
          ((2, 70, 150), 1), ((1, 1), 1)]


@pytest.mark.parametrize("shape, dim", SHAPES)
@pytest.mark.parametrize("log", [False, True], ids=["softmax", "log_softmax"])
def test_values(shape, dim, log, rng):
    x = rng.standard_normal(shape) * 4
    for dtype, tol in (("float64", 1e-13), ("float32", 4e-6)):
        given = torch.from_numpy(x.astype(dtype))
        y = (torch.log_softmax if log else torch.softmax)(given, dim)
        assert y.dtype is given.dtype and y.shape == shape
        np.testing.assert_allclose(y.numpy(), expected(x.astype(dtype), dim, log), rtol=tol, atol=tol)


def test_layouts_give_the_same(rng):
    x = torch.from_numpy(rng.standard_normal((6, 5, 4)))
    for view in (x.transpose(0, 2), x[::2, 1:, ::3], x.permute(1, 2, 0), x[:, :1].expand(6, 7, 4)):
        for dim in range(3):
            np.testing.assert_array_equal(view.softmax(dim).numpy(), view.contiguous().softmax(dim).numpy())


def test_half_precision_is_computed_in_single(rng):
    x = (rng.standard_normal((4, 50)) * 3).astype(np.float16)
    y = torch.from_numpy(x).softmax(1)
    assert y.dtype is torch.float16
    np.testing.assert_array_equal(y.numpy(), torch.from_numpy(x.astype(np.float32)).softmax(1).numpy().astype(np.float16))
    assert torch.softmax(torch.from_numpy(x), 1, dtype=torch.float32).dtype is torch.float32


@pytest.mark.parametrize("shape, dim", [((2, 3), 1), ((2, 3), 0), ((2, 3), 1), ((2, 130), 1)])
def test_extreme_values(shape, dim):
    """Far below the maximum is 0 exactly; equal infinities and NaN give NaN for the whole row."""
    x = torch.zeros(shape, dtype=torch.float32)
    x[0, 0], x[1, 1] = 1e4, -1e4
    y = x.softmax(1)
    assert y[0, 0] == 1 and y[0, 1] == 0 and y[1, 1] == 0
    assert x.log_softmax(1)[0, 1] == -1e4
    x[0, 0] = float("nan")
    x[1, :] = -float("inf")
    assert x.softmax(1).isnan().all() and x.log_softmax(1).isnan().all()
    x[1, 0] = 1.0
    assert x.softmax(1)[1].tolist()[:2] == [1, 0]


@pytest.mark.parametrize("shape, dim", [((3, 4), 1), ((3, 4), 0), ((2, 3, 2), 1)])
@pytest.mark.parametrize("call", [torch.softmax, torch.log_softmax], ids=["softmax", "log_softmax"])
def test_gradients(call, shape, dim, rng):
    x = torch.from_numpy(rng.standard_normal(shape)).requires_grad_()
    assert gradcheck(lambda v: call(v, dim), (x,)) and gradgradcheck(lambda v: call(v, dim), (x,))


@pytest.mark.parametrize("shape, dim", [((5, 1200), 1), ((40, 10), 1), ((900, 3), 0)])
def test_gradients_of_long_and_short_rows(shape, dim, rng):
    """By the formula, on many elements at once, with a cotangent of stride 0 as well."""
    x, c = rng.standard_normal(shape) * 2, rng.standard_normal(shape)
    for cotangent in (c, np.broadcast_to(c[:1, :1], shape)):
        for log in (False, True):
            v = torch.from_numpy(x).requires_grad_()
            (v.log_softmax(dim) if log else v.softmax(dim)).backward(torch.from_numpy(cotangent.copy()))
            p = expected(x, dim, False)
            if log:
                exact = cotangent - p * cotangent.sum(dim, keepdims=True)
            else:
                exact = p * (cotangent - (p * cotangent).sum(dim, keepdims=True))
            np.testing.assert_allclose(v.grad.numpy(), exact, rtol=1e-10, atol=1e-12)
    v = torch.from_numpy(x).requires_grad_()
    v.log_softmax(dim).sum().backward()         # an expanded cotangent
    np.testing.assert_allclose(v.grad.numpy(), 1 - expected(x, dim, False) * shape[dim], atol=1e-10)


def test_threads_do_not_change_results(rng):
    x = torch.from_numpy(rng.standard_normal((300, 200)))
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append((x.softmax(1).numpy(), x.softmax(0).numpy()))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


def test_scalars_and_empty_tensors():
    assert torch.softmax(torch.tensor(3.0), 0).item() == 1 and torch.log_softmax(torch.tensor(3.0), -1).item() == 0
    assert torch.softmax(torch.ones(0, 3), 1).shape == (0, 3) and torch.softmax(torch.ones(3, 0), 1).shape == (3, 0)


def test_names_and_forms():
    x = torch.randn(3, 4, requires_grad=True)
    assert type(x.softmax(1).grad_fn).__name__ == "SoftmaxBackward0"
    assert type(x.log_softmax(1).grad_fn).__name__ == "LogSoftmaxBackward0"
    out = torch.empty(0)
    with torch.no_grad():
        assert torch.softmax(x, 1, out=out) is out and torch.equal(out, x.softmax(1))
    assert torch.equal(F.softmin(x, 1), (-x).softmax(1))


def test_errors():
    x = torch.ones(2, 3)
    with pytest.raises(IndexError, match="Dimension out of range"):
        x.softmax(2)
    with pytest.raises(IndexError, match="Dimension out of range"):
        torch.softmax(torch.tensor(1.0), 1)
    with pytest.raises(TypeError, match="argument 'dim' \\(position 2\\) must be int, not float"):
        torch.softmax(x, 1.0)
    for dtype, word in ((torch.int64, "Long"), (torch.bool, "Bool"), (torch.complex64, "ComplexFloat")):
        with pytest.raises(NotImplementedError, match=f"\"softmax_lastdim_kernel_impl\" not implemented for '{word}'"):
            torch.softmax(torch.ones(2).to(dtype), 0)
    assert torch.softmax(torch.ones(2, dtype=torch.int64), 0, dtype=torch.float64).tolist() == [0.5, 0.5]
    with pytest.warns(UserWarning, match="Implicit dimension choice for log_softmax has been deprecated"):
        F.log_softmax(x)
