"""Scans and differences: cumsum, cumprod, cummax, logcumsumexp, diff, trapezoid, gradient."""
import math

import numpy as np
import pytest

import engine as torch
from engine.tensor import from_array

RNG = np.random.default_rng(7)
CUBE = RNG.normal(size=(3, 4, 5))


def of(a, grad=False):
    t = torch.from_numpy(np.array(a))
    return t.requires_grad_() if grad else t


def values(t):
    return t.detach().numpy()


SCANS = {"cumsum": np.cumsum, "cumprod": np.cumprod, "logcumsumexp": np.logaddexp.accumulate}


@pytest.mark.parametrize("name", SCANS)
def test_scans_along_any_dimension_and_layout(name):
    wide = RNG.normal(size=(9, 6, 70))
    repeated = np.broadcast_to(CUBE[:1], (3, 4, 5))
    for a in (CUBE, CUBE.transpose(2, 0, 1), CUBE[:, ::-1, ::2], repeated, wide, wide.transpose(1, 0, 2)):
        for dim in (0, 1, -1):
            got = getattr(torch, name)(from_array(a), dim)        # reversed views too
            np.testing.assert_allclose(values(got), SCANS[name](a, axis=dim), rtol=1e-11, atol=1e-13)


def test_dtypes_numbers_and_empty_tensors():
    assert torch.tensor([True, True]).cumsum(0).tolist() == [1, 2]
    assert torch.tensor([1, 2], dtype=torch.int32).cumsum(0).dtype is torch.int64
    assert torch.tensor([1, 2]).cumprod(0, dtype=torch.float64).dtype is torch.float64
    assert torch.tensor(3.0).cumsum(0).item() == 3.0
    assert torch.zeros(0, 2).cumsum(1).shape == (0, 2)
    t = torch.tensor([1.0, 2.0, 3.0])
    assert t.cumsum_(0) is t
    assert t.tolist() == [1.0, 3.0, 6.0]
    out = torch.zeros(3)
    torch.cumprod(t, 0, out=out)
    assert out.tolist() == [1.0, 3.0, 18.0]


def test_long_running_sum_is_accurate():
    a = np.full((3, 100_000), 0.1, np.float32)
    last = torch.from_numpy(a).cumsum(1)[:, -1].tolist()
    assert last == pytest.approx([1e4] * 3, rel=1e-6)


def test_running_extremes_keep_the_last_of_equal_elements_and_nan():
    v, i = torch.tensor([1.0, 3.0, 2.0, 3.0, float("nan"), 9.0]).cummax(0)
    assert v[:4].tolist() == [1, 3, 3, 3]
    assert i.tolist() == [0, 1, 1, 3, 4, 4]
    assert all(map(math.isnan, v[4:].tolist()))
    v, i = torch.tensor([[2, 1], [2, 3], [1, 1]]).cummin(0)
    assert v.tolist() == [[2, 1], [2, 1], [1, 1]]
    assert i.tolist() == [[0, 0], [1, 0], [2, 2]]
    assert repr(torch.tensor([1]).cummax(0)).startswith("engine.return_types.cummax(\nvalues=tensor([1]),")


def test_logcumsumexp_neither_overflows_nor_loses_infinities():
    got = torch.tensor([-math.inf, 1000.0, 1000.0, math.inf], dtype=torch.float64).logcumsumexp(0).tolist()
    assert got == [-math.inf, 1000.0, pytest.approx(1000 + math.log(2)), math.inf]


def test_differences():
    t = of(CUBE)
    for n in (0, 1, 2, 7):
        np.testing.assert_array_equal(values(t.diff(n)), np.diff(CUBE, n) if n < 5 else np.zeros((3, 4, 0)))
    joined = torch.diff(t, dim=0, prepend=t[:1], append=t[:2])
    np.testing.assert_array_equal(values(joined), np.diff(CUBE, axis=0, prepend=CUBE[:1], append=CUBE[:2]))
    assert torch.tensor([True, False, False]).diff().tolist() == [True, False]


def test_trapezoidal_rule():
    x = np.cumsum(np.abs(RNG.normal(size=5)))
    t = of(CUBE)
    np.testing.assert_allclose(values(torch.trapezoid(t, of(x))), np.trapezoid(CUBE, x), rtol=1e-12)
    np.testing.assert_allclose(values(torch.trapz(t, dx=0.5, dim=0)), np.trapezoid(CUBE, dx=0.5, axis=0), rtol=1e-12)
    pairs = (CUBE[..., 1:] + CUBE[..., :-1]) / 2 * np.diff(x)
    np.testing.assert_allclose(values(torch.cumulative_trapezoid(t, of(x))), np.cumsum(pairs, -1), rtol=1e-12)
    assert torch.trapezoid(torch.tensor([1, 2, 3])).item() == 4.0


def test_numerical_gradient():
    a = CUBE[0]
    x = np.array([0.0, 1.0, 2.5, 3.0, 5.0])
    for order in (1, 2):
        got = torch.gradient(of(a), spacing=[0.5, of(x)], edge_order=order)
        for mine, known in zip(got, np.gradient(a, 0.5, x, edge_order=order), strict=True):
            np.testing.assert_allclose(values(mine), known, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(values(torch.gradient(of(a), dim=1)[0]), np.gradient(a, axis=1), rtol=1e-12)


def slope(f, x, direction, step=1e-6):
    """Directional derivative by central differences."""
    return (f(of(x + step * direction)) - f(of(x - step * direction))).item() / (2 * step)


@pytest.mark.parametrize("name", ["cumsum", "cumprod", "cummax", "logcumsumexp", "diff"])
@pytest.mark.parametrize("zero", [False, True])
def test_derivatives_of_first_and_second_order(name, zero):
    x, along, across = CUBE[0].copy(), RNG.normal(size=(4, 5)), RNG.normal(size=(4, 5))
    if zero:
        x[1, 2] = x[3, 2] = 0.0
    weights = RNG.normal(size=(4, 5))

    def scalar(t):
        if name == "diff":
            return (t.diff() ** 2).sum()
        y = getattr(t, name)(0)
        y = y[0] if isinstance(y, tuple) else y
        return (y ** 2 * of(weights)).sum()

    def first(t):
        t = t.requires_grad_()
        (g,) = torch.autograd.grad(scalar(t), t, create_graph=True)
        return (g * of(along)).sum()
    assert first(of(x)).item() == pytest.approx(slope(scalar, x, along), rel=1e-5, abs=1e-7)
    t = of(x, grad=True)
    (second,) = torch.autograd.grad(first(t), t)
    assert float((values(second) * across).sum()) == pytest.approx(slope(first, x, across), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("call, error, text", [
    (lambda: torch.zeros(2).cumsum(1), IndexError, "Dimension out of range (expected to be in range of [-1, 0], but got 1)"),
    (lambda: torch.tensor([1]).logcumsumexp(0), NotImplementedError, "not implemented for 'Long'"),
    (lambda: torch.tensor(1.0).diff(), RuntimeError, "diff expects input to be at least one-dimensional"),
    (lambda: torch.ones(3).diff(-1), RuntimeError, "order must be non-negative but got -1"),
    (lambda: torch.trapezoid(torch.ones(3), torch.ones(2)), RuntimeError, "There must be one `x` value for each sample point"),
    (lambda: torch.gradient(torch.ones(1)), RuntimeError, "expected each dimension size to be at least edge_order+1"),
    (lambda: torch.gradient(torch.ones(3), edge_order=3), RuntimeError, "only supports edge_order=1 and edge_order=2"),
    (lambda: torch.cumsum(torch.ones(2), 0.5), TypeError, "dim must be int"),
])
def test_errors(call, error, text):
    with pytest.raises(error) as raised:
        call()
    assert text in str(raised.value)
