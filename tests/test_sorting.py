"""Sorting and searching against NumPy: stability, NaN, every dtype and direction, gradients, error texts."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import engine as torch
from engine.walk import grad

RNG = np.random.default_rng(11)
A = RNG.normal(size=(3, 4, 5))
SPECIAL = np.array([np.nan, 1.0, -np.inf, np.inf, -0.0, 0.0, np.nan, -1.0])


def tensor(a, requires_grad=False):
    t = torch.tensor(np.asarray(a))
    return t.requires_grad_() if requires_grad else t


def array(t) -> np.ndarray:
    return t.detach().numpy()


def same(t, want) -> None:
    want = np.asarray(want)
    assert tuple(t.shape) == want.shape
    np.testing.assert_array_equal(array(t), want)


def stable_order(a, dim, descending):
    """NumPy's stable argsort; descending keeps the order of equals, NaN first."""
    if not descending:
        return np.argsort(a, axis=dim, kind="stable")
    back = np.flip(np.argsort(np.flip(a, dim), axis=dim, kind="stable"), dim)
    return a.shape[dim] - 1 - back


# --- sort -------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("a", [
    A, np.round(A * 2), A.transpose(2, 0, 1), A[:, ::2], SPECIAL, SPECIAL.astype(np.float32), SPECIAL.astype(np.float16),
    RNG.normal(size=3000), np.round(RNG.normal(size=(2, 500)) * 9), RNG.integers(-2**60, 2**60, 300), RNG.integers(-9, 9, 100),
    RNG.integers(-2**31, 2**31, 200).astype(np.int32), RNG.integers(-128, 128, 200).astype(np.int8),
    RNG.integers(0, 256, 200).astype(np.uint8), RNG.normal(size=200) > 0, np.zeros((2, 0)), np.zeros((0, 2)),
], ids=lambda v: f"{v.dtype}{v.shape}" if isinstance(v, np.ndarray) else str(v))
def test_sort_is_stable_and_puts_nan_last(a, descending):
    for dim in range(a.ndim):
        order = stable_order(a, dim, descending)
        found = torch.sort(tensor(a), dim, descending)
        same(found.indices, order)
        same(found.values, np.take_along_axis(a, order, dim))
        same(torch.argsort(tensor(a), dim - a.ndim, descending, stable=True), order)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(hnp.arrays(np.float32, st.integers(0, 120), elements=st.floats(width=32, allow_nan=True)))
def test_drawn_rows(a):
    values, indices = tensor(a).sort()
    same(indices, np.argsort(a, kind="stable"))
    assert array(values).tobytes() == a[np.argsort(a, kind="stable")].tobytes()         # bit for bit, -0.0 and NaN included
    k = len(a) // 2
    same(tensor(a).topk(k).indices, stable_order(a, 0, True)[:k])


def test_results_have_names():
    found = torch.sort(tensor(A))
    assert type(found).__name__ == "sort" and found._fields == ("values", "indices")
    _, indices = found
    assert indices.dtype is torch.int64 and "return_types.sort(" in repr(found)
    same(torch.msort(tensor(A)), np.sort(A, 0))
    out = tensor(np.empty(5)), tensor(np.empty(5, np.int64))
    torch.sort(tensor(A[0, 0]), out=out)
    same(out[0], np.sort(A[0, 0]))
    same(torch.sort(tensor(np.array(3.0))).values, 3.0)


@pytest.mark.parametrize("k", [0, 1, 3, 70])
@pytest.mark.parametrize("largest", [True, False])
def test_topk(k, largest):
    a = np.round(RNG.normal(size=(3, 90)) * 5)
    for dim, b in ((1, a), (0, a.T), (-1, a)):
        order = np.take(stable_order(b, dim, largest), range(k), axis=dim)
        found = torch.topk(tensor(b), k, dim, largest)
        same(found.indices, order)
        same(found.values, np.take_along_axis(b, order, dim))


def test_kthvalue():
    for k in (1, 2, 4):
        for keepdim in (False, True):
            found = torch.kthvalue(tensor(A), k, 1, keepdim)
            want = np.sort(A, 1)[:, k - 1:k]
            same(found.values, want if keepdim else want[:, 0])
    long = RNG.normal(size=(2, 300))
    same(torch.kthvalue(tensor(long), 200).values, np.sort(long)[:, 199])


# --- unique -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("a", [np.round(RNG.normal(size=(5, 7)) * 2), RNG.integers(0, 9, 60), RNG.normal(size=30) > 0,
                               np.zeros(0), np.array([0.0, -0.0, 0.0], np.float32), np.array(2.0)])
def test_unique(a):
    values, inverse, counts = torch.unique(tensor(a), return_inverse=True, return_counts=True)
    want, want_inverse, want_counts = np.unique(a, return_inverse=True, return_counts=True)
    same(values, want)
    same(inverse, want_inverse.reshape(a.shape))
    same(counts, want_counts)
    assert tuple(torch.unique(tensor(a)).shape) == want.shape


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_unique_slices(dim):
    a = (RNG.normal(size=(6, 6, 6)) > 1.5).astype(np.float64).take([0, 1, 2, 1, 3, 0], dim)
    values, inverse, counts = torch.unique(tensor(a), return_inverse=True, return_counts=True, dim=dim)
    want, want_inverse, want_counts = np.unique(a, return_inverse=True, return_counts=True, axis=dim)
    same(values, want)
    same(inverse, want_inverse.reshape(-1))
    same(counts, want_counts)


def test_unique_consecutive():
    a = np.array([1, 1, 2, 2, 2, 1, 3, 3])
    values, inverse, counts = torch.unique_consecutive(tensor(a), return_inverse=True, return_counts=True)
    same(values, [1, 2, 1, 3])
    same(inverse, [0, 0, 1, 1, 1, 2, 3, 3])
    same(counts, [2, 3, 1, 2])
    rows = a[[0, 1, 2, 2, 5]][:, None] + np.zeros((1, 3))
    same(torch.unique_consecutive(tensor(rows), dim=0), rows[[0, 2, 4]])


def test_nan_equals_nothing():
    a = np.array([np.nan, 1.0, np.nan, 1.0])
    same(torch.unique(tensor(a)), [1.0, np.nan, np.nan])
    for dtype in (np.float64, np.float32, np.float16):
        nan = np.array([np.nan, 1.0], dtype)
        same(torch.isin(tensor(nan), tensor(nan)), [False, True])
        assert tuple(torch.unique(tensor(nan[[0, 0]])).shape) == (2,)


# --- search -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("right", [False, True])
def test_searchsorted_and_bucketize(right):
    side = "right" if right else "left"
    row, values = np.sort(np.round(RNG.normal(size=20) * 3)), np.round(RNG.normal(size=(4, 5)) * 3)
    same(torch.searchsorted(tensor(row), tensor(values), right=right), np.searchsorted(row, values, side))
    same(torch.searchsorted(tensor(row), tensor(values), side=side), np.searchsorted(row, values, side))
    same(torch.bucketize(tensor(values), tensor(row), right=right), np.searchsorted(row, values, side))
    same(torch.searchsorted(tensor(row), 1.5, right=right), np.searchsorted(row, 1.5, side))
    same(torch.searchsorted(tensor(np.array([1, 2, 3])), 2.5, right=right), 2)
    narrow = torch.searchsorted(tensor(row), tensor(values), right=right, out_int32=True)
    assert narrow.dtype is torch.int32
    rows = np.sort(RNG.normal(size=(4, 9)))
    want = np.stack([np.searchsorted(r, v, side) for r, v in zip(rows, values, strict=True)])
    same(torch.searchsorted(tensor(rows), tensor(values), right=right), want)
    mixed = RNG.permuted(rows, axis=1)
    same(torch.searchsorted(tensor(mixed), tensor(values), right=right, sorter=tensor(np.argsort(mixed))), want)
    same(torch.searchsorted(tensor(row), tensor(np.array([np.nan]))), [20])


def test_isin():
    a, test = RNG.integers(0, 9, (4, 5)), np.array([1, 7, 7, 20])
    same(torch.isin(tensor(a), tensor(test)), np.isin(a, test))
    same(torch.isin(tensor(a), tensor(test), invert=True), ~np.isin(a, test))
    same(torch.isin(tensor(a), tensor(test.astype(np.float32))), np.isin(a, test))
    same(torch.isin(tensor(a), 3), a == 3)
    same(torch.isin(3, tensor(a)), (a == 3).any())
    same(torch.isin(tensor(a), tensor(np.empty(0, np.int64))), np.zeros((4, 5), bool))


# --- gradients and errors ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("function, node", [
    (lambda x: x.sort(1, True)[0], "SortBackward0"), (lambda x: x.sort(dim=0, stable=True).values, "SortBackward1"),
    (lambda x: x.topk(2, 1).values, "TopkBackward0"), (lambda x: x.topk(3, 0, False)[0], "TopkBackward0"),
    (lambda x: x.kthvalue(2, 2).values, "KthvalueBackward0"), (lambda x: x.kthvalue(3, 0, True).values, "KthvalueBackward0"),
    (lambda x: x.msort(), "SortBackward0"),
])
def test_gradients_go_back_where_values_came_from(function, node):
    """The gradient of sum(w * f(x)**2) is 2 w f(x) at the place of each value, found here by the values themselves."""
    x = tensor(A, True)
    found = function(x)
    assert type(found.grad_fn).__name__ == node
    w = RNG.normal(size=tuple(found.shape))
    g, = grad((found * found * tensor(w)).sum(), [x], create_graph=True)
    value, want, second = array(found), np.zeros(A.shape), np.zeros(A.shape)
    for at in np.ndindex(value.shape):
        want[value[at] == A] = 2 * w[at] * value[at]
        second[value[at] == A] = 2 * w[at]
    np.testing.assert_allclose(array(g), want)
    np.testing.assert_allclose(array(grad(g.sum(), [x])[0]), second)


@pytest.mark.parametrize("call, error, words", [
    (lambda x: torch.sort(x, 5), IndexError, "Dimension out of range"),
    (lambda x: torch.sort(tensor(np.array([1j]))), RuntimeError, "Sort does not support complex dtypes on CPU"),
    (lambda x: torch.topk(x, 9), RuntimeError, "selected index k out of range"),
    (lambda x: torch.topk(tensor(np.array([True])), 1), RuntimeError, "topk does not support bool dtypes"),
    (lambda x: torch.kthvalue(x, 9), RuntimeError, r"kthvalue\(\): selected number k out of range for dimension 2"),
    (lambda x: torch.unique(tensor(np.array([1j]))), NotImplementedError, "\"unique\" not implemented for "
                                                                          "'ComplexFloat|ComplexDouble'"),
    (lambda x: torch.unique(tensor(np.zeros((2, 0))), dim=0), RuntimeError, "There are 0 sized dimensions"),
    (lambda x: torch.searchsorted(x, tensor(np.ones(2))), RuntimeError, "boundaries tensor should be 1 dimension or the "
                                                                        "first N-1"),
    (lambda x: torch.searchsorted(x[0, 0], x, side="up"), RuntimeError, "side can only be 'left' or 'right' but got up"),
    (lambda x: torch.searchsorted(x[0, 0], x, side="left", right=True), RuntimeError, "side and right can't be set to "
                                                                                      "opposites"),
    (lambda x: torch.searchsorted(x[0, 0], x, sorter=tensor(np.array([0, 1]))), RuntimeError, "must have the same size"),
    (lambda x: torch.searchsorted(x[0, 0], x, sorter=tensor(np.full(5, 9))), RuntimeError, "sorter index out of range"),
    (lambda x: torch.bucketize(x, x), RuntimeError, r"boundaries tensor must be 1 dimension, but got dim\(3\)"),
    (lambda x: torch.isin(1, 2), TypeError, "invalid combination of arguments"),
])
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call(tensor(A))
