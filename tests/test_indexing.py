"""Square brackets, gather, scatter and their kin: against NumPy, by finite differences, views, error texts.

Index expressions are drawn by Hypothesis; NumPy is the oracle, which agrees with PyTorch on everything drawn here.
"""
from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import engine as torch
from engine.nn.functional import one_hot
from engine.walk import grad

settings.register_profile("indexing", deadline=None, max_examples=150, derandomize=True,
                          suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("indexing")


def tensor(a, requires_grad=False):
    t = torch.tensor(np.asarray(a))
    return t.requires_grad_() if requires_grad else t


def array(t) -> np.ndarray:
    return t.detach().numpy()


def same(t, want) -> None:
    want = np.asarray(want)
    assert tuple(t.shape) == want.shape
    np.testing.assert_allclose(array(t), want)


# --- drawn indices ----------------------------------------------------------------------------------------------------

@st.composite
def indexed(draw, advanced=True):
    """(shape, index as NumPy takes it, index as the engine takes it)."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    common = draw(st.sampled_from([(2,), (3,), (2, 1), ()]))        # index arrays that broadcast
    for_numpy, for_engine, d, ellipsis = [], [], 0, False
    while d < len(shape) and draw(st.integers(0, 7)):
        n = shape[d]
        kind = draw(st.sampled_from(["int", "slice", "none", "ellipsis", *(["array", "list", "mask"] if advanced else [])]))
        if kind == "int":
            item = draw(st.integers(-n, n - 1))
            for_numpy.append(item)
            # NumPy counts an int among index arrays as one of them, PyTorch selects first: keep to what both mean alike
            if advanced:
                item = for_numpy[-1] = slice(item, item + 1) if item != -1 else slice(n - 1, n)
            for_engine.append(item)
            d += 1
        elif kind == "slice":
            bound = st.one_of(st.none(), st.integers(-n - 1, n + 1))
            item = slice(draw(bound), draw(bound), draw(st.sampled_from([None, 1, 2, 3])))
            for_numpy.append(item)
            for_engine.append(item)
            d += 1
        elif kind == "none":
            for_numpy.append(None)
            for_engine.append(None)
        elif kind == "ellipsis":
            if ellipsis:
                continue
            ellipsis = True
            for_numpy.append(...)
            for_engine.append(...)
            d += draw(st.integers(0, len(shape) - d))
        elif kind == "mask":
            k = draw(st.integers(1, min(2, len(shape) - d)))
            flags = draw(st.lists(st.booleans(), min_size=int(np.prod(shape[d:d + k])), max_size=int(np.prod(shape[d:d + k]))))
            mask = np.array(flags, bool).reshape(shape[d:d + k])
            if sum(isinstance(i, np.ndarray) for i in for_numpy):
                continue            # several masks need equal counts
            common = (int(mask.sum()),)
            for_numpy.append(mask)
            for_engine.append(tensor(mask))
            d += k
        else:
            if any(isinstance(i, np.ndarray) and i.dtype == bool for i in for_numpy):
                continue
            count = int(np.prod(common))
            index = np.array(draw(st.lists(st.integers(-n, n - 1), min_size=count, max_size=count)), np.int64).reshape(common)
            if common == ():
                index = index.reshape(1)
            for_numpy.append(index)
            for_engine.append(index.tolist() if kind == "list" else tensor(index))
            d += 1
    return shape, tuple(for_numpy), tuple(for_engine)


@given(indexed(advanced=False))
def test_basic_indices_are_views(case):
    shape, want_index, index = case
    a = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    x = tensor(a)
    found = x[index]
    same(found, a[want_index])
    assert found._is_view() and found._base is x
    if found.numel():
        found[...] = -1.0
        a[want_index] = -1.0
        same(x, a)


@given(indexed())
def test_any_index_against_numpy(case):
    shape, want_index, index = case
    a = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    same(tensor(a)[index], a[want_index])
    reversed_order = tensor(np.ascontiguousarray(a.T)).permute(*range(len(shape))[::-1])       # other strides, same values
    same(reversed_order[index], a[want_index])


@given(indexed(), st.integers(0, 2))
def test_assignment_against_numpy(case, how):
    shape, want_index, index = case
    a = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    x = tensor(a)
    part = a[want_index].shape
    value = [7.5, np.full(part, 2.25), np.full(part[1:], 0.5, np.float32)][how]
    x[index] = value if how == 0 else tensor(value) if how == 1 else np.asarray(value)
    a[want_index] = value
    same(x, a)


@given(indexed())
def test_gradients_of_reading_and_writing(case):
    """<w, x[i]> has the gradient that adds w at i; a write takes that part of the gradient away."""
    shape, want_index, index = case
    a = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    x = tensor(a, True)
    part = x[index]
    if not part.numel():
        return
    w = np.arange(1.0, part.numel() + 1).reshape(tuple(part.shape))
    g, = grad((part * tensor(w)).sum(), [x])
    want = np.zeros(shape)
    np.add.at(want, want_index, w)
    same(g, want)
    y = x * 2
    v = tensor(np.full(tuple(part.shape), 3.0), True)
    y[index] = v
    gx, gv = grad((y * y).sum(), [x, v])
    left = 8 * a
    left[want_index] = 0
    same(gx, left)
    if len(np.unique(array(part))) == part.numel():
        same(gv, np.full(tuple(part.shape), 6.0))


# --- what the rules say -----------------------------------------------------------------------------------------------

X = np.arange(24.0).reshape(2, 3, 4)
MASK = np.array([[True, False, True], [False, True, True]])


def test_nodes_are_those_of_pytorch():
    x = tensor(X, True)
    for index, name in [((0,), "SelectBackward0"), ((slice(1, None),), "SliceBackward0"), ((None,), "UnsqueezeBackward0"),
                        ((...,), "AliasBackward0"), ((0, slice(None)), "SelectBackward0"),
                        ((slice(None), None, 1), "SelectBackward0"),
                        ((0, slice(1, 2)), "SliceBackward0"), ((0, slice(-3, None)), "SliceBackward0")]:
        assert type(x[index].grad_fn).__name__ == name, index
    assert type(x[:].grad_fn).__name__ == "SliceBackward0"
    assert type(x[0].grad_fn).__name__ == "SelectBackward0"
    chain = x[:, None, 1].grad_fn
    assert type(chain.next_functions[0][0]).__name__ == "UnsqueezeBackward0"
    for index in ([0, 1], tensor(MASK), True, (0, [1, 2])):
        found = x[index]
        assert type(found.grad_fn).__name__ == "IndexBackward0" and not found._is_view()


def test_bool_none_and_number_tensors():
    x = tensor(X)
    same(x[True], X[None])
    assert tuple(x[False].shape) == (0, 2, 3, 4)
    same(x[tensor(np.int64(1))], X[1])
    assert x[tensor(np.int64(1))]._is_view()
    same(x[tensor(np.array(True))], X[None])
    same(x[np.int64(1), np.array([0, 2])], X[1, [0, 2]])
    same(x[range(2), 1], X[[0, 1], 1])
    same(x[[0, 1], :, [0, 1]], X[[0, 1], :, [0, 1]])
    same(x[0, :, [0, 1]], X[0][:, [0, 1]])                  # PyTorch selects before it gathers; NumPy would move the dimension
    for dtype in (np.int32, np.int16, np.int8):
        same(x[tensor(np.array([1, -1], dtype))], X[[1, -1]])
    number = tensor(np.array(3.0))
    same(number[None], [3.0])
    same(number[...], 3.0)
    same(number[True], [3.0])


def test_bytes_are_masks():
    with pytest.warns(UserWarning, match="indexing with dtype torch.uint8 is now deprecated"):
        same(tensor(X)[tensor(np.array([0, 1], np.uint8))], X[[1]])


def test_lists_of_lists_are_tuples():
    with pytest.warns(UserWarning, match="non-tuple sequence"):
        same(tensor(X)[[[0, 1], [1, 0]]], X[[0, 1], [1, 0]])


@pytest.mark.parametrize("index, error, words", [
    (5, IndexError, "index 5 is out of bounds for dimension 0 with size 2"),
    (-3, IndexError, "index -3 is out of bounds for dimension 0 with size 2"),
    ((0, 5), IndexError, "index 5 is out of bounds for dimension 1 with size 3"),
    ((0, 0, 0, 0), IndexError, "too many indices for tensor of dimension 3"),
    ([5], IndexError, "index 5 is out of bounds for dimension 0 with size 2"),
    (slice(None, None, -1), ValueError, "step must be greater than zero"),
    (slice(None, None, 0), ValueError, "slice step cannot be zero"),
    (slice(1.0, None), TypeError, "slice indices must be integers or None or have an __index__ method"),
    (1.0, IndexError, r"only integers, slices \(`:`\), ellipsis \(`...`\), None and long or byte Variables are valid indices "
                      r"\(got float\)"),
    (([0, 1], [0, 1, 2]), IndexError, r"shape mismatch: indexing tensors could not be broadcast together with shapes \[2\], "
                                      r"\[3\]"),
    (np.array([1.5]), IndexError, "tensors used as indices must be long, int, byte or bool tensors"),
    (np.array([True, False, True]), IndexError,
     r"The shape of the mask \[3\] at index 0 does not match the shape of the indexed tensor \[2, 3, 4\] at index 0"),
    ((slice(None), np.array([True, False])), IndexError,
     r"The shape of the mask \[2\] at index 0 does not match the shape of the indexed tensor \[2, 3, 4\] at index 1"),
    ("a", TypeError, "invalid data type 'str'"),
])
def test_errors_of_brackets(index, error, words):
    x = tensor(X)
    with pytest.raises(error, match=words):
        x[index]
    with pytest.raises(error, match=words):
        x[index] = 1.0


def test_errors_of_numbers_and_values():
    with pytest.raises(IndexError, match="invalid index of a 0-dim tensor"):
        tensor(np.array(1.0))[0]
    with pytest.raises(IndexError, match=r"slice\(\) cannot be applied to a 0-dim tensor"):
        tensor(np.array(1.0))[:]
    x = tensor(X)
    with pytest.raises(RuntimeError, match=r"The expanded size of the tensor \(4\) must match the existing size \(3\)"):
        x[0] = tensor(np.ones(3))
    with pytest.raises(RuntimeError, match=r"shape mismatch: value tensor of shape \[5\] cannot be broadcast to indexing "
                                           r"result of shape"):
        x[[0, 1]] = tensor(np.ones(5))
    with pytest.raises(TypeError, match="can't assign a str"):
        x[0] = "a"
    leaf = tensor(X, True)
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        leaf[0] = 1.0
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        leaf[[0]] = 1.0


def test_assignment_casts_overlaps_and_counts():
    x = tensor(np.arange(6))
    x[1:3] = 2.7
    same(x, [0, 2, 2, 3, 4, 5])
    x[1:] = x[:-1]
    same(x, [0, 0, 2, 2, 3, 4])
    x[tensor(np.array([0, 1, 2]))] = x[3:]
    same(x, [2, 3, 4, 2, 3, 4])
    x[x > 3] = 0
    same(x, [2, 3, 0, 2, 3, 0])
    version = x._version
    x[0] = 1
    x[[0, 1]] = 1
    assert x._version == version + 2
    leading = tensor(np.zeros((2, 2)))
    leading[0] = tensor(np.ones((1, 1, 2)))             # leading ones of a value stand for nothing
    same(leading, [[1, 1], [0, 0]])


def test_a_written_part_has_no_history():
    x = tensor(np.array([1.0, 2.0, 3.0]), True)
    y = x * x
    y[0] = 5.0
    y[1:2] = x[2:]
    g, = grad(y.sum(), [x])
    same(g, [0.0, 0.0, 7.0])


# --- gather, scatter and their kin ------------------------------------------------------------------------------------

RNG = np.random.default_rng(7)
A = RNG.normal(size=(3, 4, 5))


def lanes(dim):
    """An index, no larger than A apart from `dim`, and a source of its shape."""
    rng = np.random.default_rng(dim)
    shape = tuple(6 if d == dim else n - 1 for d, n in enumerate(A.shape))
    return rng.integers(0, A.shape[dim], shape), rng.normal(size=shape)


@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.bool_, np.int16, np.complex128])
def test_gather_and_scatter_move_every_dtype(dim, dtype):
    index, src = lanes(dim)
    a, src = (A * 3).astype(dtype), (src * 3).astype(dtype)
    cut = a[tuple(slice(None) if d == dim else slice(0, n) for d, n in enumerate(index.shape))]
    same(torch.gather(tensor(a), dim, tensor(index)), np.take_along_axis(cut, index, dim))
    want = a.copy()
    for at in np.ndindex(index.shape):
        want[(*at[:dim], index[at], *at[dim + 1:])] = src[at]
    same(tensor(a).scatter(dim, tensor(index), tensor(src)), want)
    x = tensor(a)
    assert x.scatter_(dim, tensor(index.astype(np.int32)), tensor(src)) is x
    same(x, want)


REDUCTIONS = {"sum": np.add, "prod": np.multiply, "amax": np.maximum, "amin": np.minimum}


def reduced(a, dim, index, src, reduce, include_self):
    """scatter_reduce, element by element."""
    want, count = a.copy(), np.full(a.shape, int(include_self))
    for at in np.ndindex(index.shape):
        place = (*at[:dim], index[at], *at[dim + 1:])
        if not count[place]:
            want[place] = src[at]
        else:
            want[place] = REDUCTIONS["sum" if reduce == "mean" else reduce](want[place], src[at])
        count[place] += 1
    return want / np.maximum(count, 1) if reduce == "mean" else want


@pytest.mark.parametrize("reduce", ["sum", "prod", "mean", "amax", "amin"])
@pytest.mark.parametrize("include_self", [True, False])
def test_scatter_reduce(reduce, include_self):
    for dim in (0, 2):
        index, src = lanes(dim)
        want = reduced(A, dim, index, src, reduce, include_self)
        found = tensor(A).scatter_reduce(dim, tensor(index), tensor(src), reduce, include_self=include_self)
        same(found, want)
        x = tensor(A)
        same(x.scatter_reduce_(dim, tensor(index), tensor(src), reduce, include_self=include_self), want)
    rows = np.array([1, 1, 0])
    source = RNG.normal(size=(3, 4, 5))
    if reduce != "sum":
        want = reduced(A, 0, np.broadcast_to(rows[:, None, None], source.shape), source, reduce, include_self)
        same(tensor(A).index_reduce(0, tensor(rows), tensor(source), reduce, include_self=include_self), want)


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_rows_of_a_dimension(dim):
    rows = np.array([2, 0, 2])
    place = (slice(None),) * dim
    same(tensor(A).index_select(dim, tensor(rows)), A.take(rows, dim))
    source = RNG.normal(size=tuple(3 if d == dim else n for d, n in enumerate(A.shape)))
    want = A.copy()
    np.add.at(want, (*place, rows), 2 * source)
    same(tensor(A).index_add(dim, tensor(rows), tensor(source), alpha=2), want)
    same(tensor(A).index_add_(dim, tensor(rows), tensor(source), alpha=2), want)
    want = A.copy()
    want[(*place, rows[:2])] = source[(*place, slice(0, 2))]
    same(tensor(A).index_copy(dim, tensor(rows[:2]), tensor(source[(*place, slice(0, 2))])), want)
    want = A.copy()
    want[(*place, rows)] = 4.5
    same(tensor(A).index_fill(dim, tensor(rows), 4.5), want)
    same(tensor(A).index_fill_(dim, tensor(rows - A.shape[dim]), tensor(np.array(4.5))), want)


def test_flat_and_masked():
    index = np.array([[0, -1], [7, 7]])
    same(tensor(A).take(tensor(index)), A.take(index))
    want = A.copy()
    want.put([0, 9, -1], [1.0, 2.0, 3.0])
    same(tensor(A).put(tensor(np.array([0, 9, -1])), tensor(np.array([1.0, 2.0, 3.0]))), want)
    want = A.copy()
    np.add.at(want.reshape(-1), [3, 3], [1.0, 2.0])
    same(tensor(A).put_(tensor(np.array([3, 3])), tensor(np.array([1.0, 2.0])), accumulate=True), want)
    order = np.argsort(A, 1)
    same(torch.take_along_dim(tensor(A), tensor(order), 1), np.sort(A, 1))
    want = np.take_along_axis(A, np.broadcast_to(order[:1, :1], (3, 4, 5)), 2)
    same(torch.take_along_dim(tensor(A), tensor(order[:1, :1]), 2), want)
    mask = A > 0.5
    same(torch.masked_select(tensor(A), tensor(mask)), A[mask])
    same(tensor(A[0]).masked_select(tensor(mask)), np.broadcast_to(A[0], A.shape)[mask])
    source = np.arange(float(A.size))
    want = A.copy()
    want[mask] = source[:mask.sum()]
    same(tensor(A).masked_scatter(tensor(mask), tensor(source)), want)
    same(tensor(A).masked_scatter_(tensor(mask), tensor(source)), want)
    same(tensor(A).masked_fill(tensor(mask[0]), 2), np.where(mask[0], 2, A))
    same(tensor(A).masked_fill_(tensor(mask), 2), np.where(mask, 2, A))
    same(torch.where(tensor(mask), tensor(A), 0.0), np.where(mask, A, 0))
    same(tensor(A).where(tensor(mask), tensor(A[0])), np.where(mask, A, A[0]))
    want = A.copy()
    np.add.at(want, ([0, 0, 1], [1, 1, 2]), RNG.normal(size=5) * 0 + 1.5)
    ij = tensor(np.array([0, 0, 1])), tensor(np.array([1, 1, 2]))
    same(tensor(A).index_put(ij, tensor(np.array(1.5)), accumulate=True), want)
    same(tensor(A).index_put_(ij, tensor(np.full(5, 1.5)), accumulate=True), want)


@pytest.mark.parametrize("a", [np.round(A), np.round(A[0, 0]), np.array(2.0), np.array(0.0), np.zeros((0, 3)), np.zeros((2, 0)),
                               A > 0, np.round(A).transpose(2, 0, 1)])
def test_nonzero(a):
    x = tensor(a)
    if a.ndim:
        same(torch.nonzero(x), np.argwhere(a))
        same(torch.argwhere(x), np.argwhere(a))
        for found, want in zip(torch.where(x), np.nonzero(a), strict=True):
            same(found, want)
    else:
        assert tuple(torch.nonzero(x).shape) == (int(a != 0), 0)
        assert [array(i).tolist() for i in torch.nonzero(x, as_tuple=True)] == [[0] * int(a != 0)]


@pytest.mark.parametrize("shape", [(3, 3), (7, 3), (3, 7), (4, 4, 4), (4, 3)])
@pytest.mark.parametrize("wrap", [False, True])
def test_fill_diagonal(shape, wrap):
    expected = np.zeros(shape)
    np.fill_diagonal(expected, 5, wrap=wrap)
    x = tensor(np.zeros(shape))
    assert x.fill_diagonal_(5, wrap) is x
    same(x, expected)
    with pytest.raises(RuntimeError, match="dimensions must larger than 1"):
        tensor(np.zeros(3)).fill_diagonal_(1)


def test_one_hot_and_triangles():
    classes = np.array([[0, 2], [1, 1]])
    same(one_hot(tensor(classes)), np.eye(3)[classes])
    same(one_hot(tensor(classes), 5), np.eye(5)[classes])
    for words, arguments in {"Class values must be non-negative": (np.array([-1]),), "smaller than "
                                                                                     "num_classes": (np.array([3]), 3),
                             "Can not infer total number of classes": (np.empty(0, np.int64),),
                             "LongTensor": (np.array([0.0]),)}.items():
        with pytest.raises(RuntimeError, match=words):
            one_hot(tensor(arguments[0]), *arguments[1:])
    for rows, cols, offset in [(3, 4, 0), (4, 3, 1), (4, 3, -2), (2, 5, 9), (0, 3, 0), (5, 2, -9)]:
        same(torch.tril_indices(rows, cols, offset), np.stack(np.tril_indices(rows, offset, cols)))
        same(torch.triu_indices(rows, cols, offset), np.stack(np.triu_indices(rows, offset, cols)))
    with pytest.raises(RuntimeError, match="row must be non-negative"):
        torch.tril_indices(-1, 3)


def test_out_and_empty():
    index = tensor(np.array([[0, 0, 1, 2]]))
    out = tensor(np.empty((1, 4)))
    a = tensor(A[0])
    assert torch.gather(a, 0, index, out=out) is out
    same(out, np.take_along_axis(A[0][:, :4], np.array([[0, 0, 1, 2]]), 0))
    assert tuple(a[tensor(np.empty(0, np.int64))].shape) == (0, 5)
    assert tuple(torch.gather(a, 0, tensor(np.empty((0, 5), np.int64))).shape) == (0, 5)
    same(a.scatter(0, tensor(np.empty((0, 5), np.int64)), 1.0), A[0])
    same(a.index_add(0, tensor(np.empty(0, np.int64)), tensor(np.empty((0, 5)))), A[0])


def test_large_rows_are_the_same_on_threads():
    a = RNG.normal(size=(500, 300)).astype(np.float32)
    rows = RNG.integers(0, 500, 2000)
    same(tensor(a)[tensor(rows)], a[rows])
    same(tensor(a).index_select(1, tensor(rows[:200] % 300)), a[:, rows[:200] % 300])
    want = np.zeros((500, 300))
    np.add.at(want, rows, a[rows])
    found = tensor(np.zeros((500, 300), np.float32)).index_add(0, tensor(rows), tensor(a[rows]))
    np.testing.assert_allclose(array(found), want, rtol=1e-3, atol=1e-4)
    again = tensor(np.zeros((500, 300), np.float32)).index_add(0, tensor(rows), tensor(a[rows]))
    assert (array(found) == array(again)).all()


@pytest.mark.parametrize("call, error, words", [
    (lambda x, i: x.gather(0, i([[9]])), RuntimeError, "index 9 is out of bounds for dimension 0 with size 3"),
    (lambda x, i: x.gather(0, i([[-1]])), RuntimeError, "index -1 is out of bounds for dimension 0 with size 3"),
    (lambda x, i: x.gather(0, i([0])), RuntimeError, "Index tensor must have the same number of dimensions as input tensor"),
    (lambda x, i: x.gather(0, i([[0] * 9])), RuntimeError, "expected index .* to be no larger than self .* apart from "
                                                           "dimension 0"),
    (lambda x, i: x.gather(2, i([[0]])), IndexError, "Dimension out of range"),
    (lambda x, i: x.gather(0, tensor([[0.5]])), RuntimeError, "Expected dtype int32/int64 for index"),
    (lambda x, i: x.index_select(0, i([9])), IndexError, "index out of range in self"),
    (lambda x, i: x.index_select(0, i([[0]])), IndexError, "Index is supposed to be a vector"),
    (lambda x, i: x.take(i([99])), IndexError, "out of range: tried to access index 99 on a tensor of 15 elements"),
    (lambda x, i: x.put_(i([0, 1]), x[0, :1]), IndexError, "Expected source and index to have the same number of elements"),
    (lambda x, i: x.scatter(0, i([[9]]), 1.0), RuntimeError, "index 9 is out of bounds for dimension 0 with size 3"),
    (lambda x, i: x.scatter(0, i([[0, 0]]), tensor([[1.0]])), RuntimeError, "no larger size than src"),
    (lambda x, i: x.scatter(0, i([[0]]), tensor(np.ones((1, 1), np.float32))), RuntimeError, "Expected self.dtype to be "
                                                                                             "equal to src.dtype"),
    (lambda x, i: x.scatter(0, i([[0]]), 1.0, reduce="no"), RuntimeError, "reduce argument must be either add or multiply"),
    (lambda x, i: x.scatter_reduce(0, i([[0]]), x, "no"), RuntimeError, "must be either sum, prod, mean, amax or amin, got no"),
    (lambda x, i: x.index_add(0, i([9]), x[:1]), RuntimeError, "index 9 is out of bounds for dimension 0 with size 3"),
    (lambda x, i: x.index_add(0, i([0]), x), RuntimeError, "Number of indices .1. should be equal to source.size"),
    (lambda x, i: x.index_copy(0, i([9]), x[:1]), IndexError, "index 9 is out of bounds for dimension 0 with size 3"),
    (lambda x, i: x.index_fill(0, i([9]), 1.0), IndexError, "index 9 is out of bounds for dimension 0 with size 3"),
    (lambda x, i: x.index_fill(0, i([0]), tensor([1.0])), RuntimeError, "only supports a 0-dimensional value tensor"),
    (lambda x, i: x.index_reduce(0, i([0]), x[:1], "sum"), RuntimeError, "one of prod, mean, amax or amin but got sum"),
    (lambda x, i: x.index_put((i([9]),), tensor(1.0)), IndexError, "index 9 is out of bounds for dimension 0 with size 3"),
    (lambda x, i: x.index_put((i([0]),), tensor(np.float32(1))), RuntimeError, "source and destination dtypes match"),
    (lambda x, i: x.masked_select(i([1, 0, 1])), RuntimeError, "expected BoolTensor for mask"),
    (lambda x, i: x.masked_scatter(x > -99, x[0]), RuntimeError, "Number of elements of source < number of ones in mask"),
    (lambda x, i: x.masked_fill(i([1]), 1.0), RuntimeError, "only supports boolean masks"),
])
def test_errors_of_functions(call, error, words):
    with pytest.raises(error, match=words):
        call(tensor(A[0, :3]), lambda v: tensor(np.array(v)))


# --- gradients of first and second order ------------------------------------------------------------------------------

def _i(v):
    return tensor(np.array(v))


SMALL, OTHER = RNG.normal(size=(3, 4)), RNG.normal(size=(2, 4))
CASES = {
    "index": (lambda x, y: x[_i([0, 2, 0]), 1:], 1), "mask": (lambda x, y: x[tensor(SMALL > 0)], 1),
    "gather": (lambda x, y: x.gather(0, _i([[0, 1, 2, 0], [2, 2, 1, 0]])), 1),
    "index_select": (lambda x, y: x.index_select(1, _i([3, 3, 0])), 1), "take": (lambda x, y: x.take(_i([0, -1, 0])), 1),
    "masked_select": (lambda x, y: x.masked_select(tensor(SMALL > 0)), 1),
    "index_put": (lambda x, y: x.index_put((_i([0, 2]),), y), 2),
    "index_put_accumulate": (lambda x, y: x.index_put((_i([2, 2]),), y, accumulate=True), 2),
    "scatter": (lambda x, y: x.scatter(0, _i([[0, 1, 2, 0], [2, 2, 1, 1]]), y), 2),
    "scatter_add": (lambda x, y: x.scatter_add(0, _i([[0, 1, 2, 0], [0, 2, 1, 0]]), y), 2),
    "index_add": (lambda x, y: x.index_add(0, _i([1, 1]), y, alpha=3), 2),
    "index_copy": (lambda x, y: x.index_copy(0, _i([1, 2]), y), 2),
    "index_fill": (lambda x, y: x.index_fill(0, _i([1]), 2.0), 1),
    "masked_scatter": (lambda x, y: x.masked_scatter(tensor(SMALL > 0.5), y), 2),
    "masked_fill": (lambda x, y: x.masked_fill(tensor(SMALL > 0.5), 2.0), 1),
    "put": (lambda x, y: x.put(_i([0, 5, -1]), y.take(_i([0, 1, 2]))), 2),
    "setitem": (lambda x, y: _written(x * 1, y), 2),
    **{f"scatter_reduce_{how}_{own}": (lambda x, y, how=how, own=own: x.scatter_reduce(
        0, _i([[0, 1, 2, 0], [0, 2, 1, 0]]), y, how, include_self=own), 2)
       for how in ("sum", "mean", "prod", "amax", "amin") for own in (True, False)},
    "index_reduce": (lambda x, y: x.index_reduce(0, _i([1, 1]), y, "prod"), 2),
}


def _written(x, y):
    x[1:, ::2] = y[:, :2] * y[:, 2:]
    x[_i([0, 0]), _i([1, 3])] = y[0, :2]
    return x


@pytest.mark.parametrize("name", CASES)
def test_gradients_by_finite_differences(name):
    function, count = CASES[name]

    def loss(x, y):
        r = function(x, y)
        return (r * r * r).sum()

    def first(x, y):
        """The gradient along a fixed direction: a number whose own gradient is the second order."""
        found = grad(loss(x, y), [x, y][:count], create_graph=True)
        return sum((g * tensor(d)).sum() for g, d in zip(found, directions, strict=False))
    directions = [RNG.normal(size=SMALL.shape), RNG.normal(size=OTHER.shape)][:count]
    for scalar in (loss, first):
        x, y = tensor(SMALL, True), tensor(OTHER, True)
        gradients = grad(scalar(x, y), [x, y][:count], allow_unused=True, materialize_grads=True)
        along = sum(float((array(g) * d).sum()) for g, d in zip(gradients, directions, strict=True))
        step = 1e-5

        def at(t, scalar=scalar, step=step):
            parts = [SMALL + t * step * directions[0], OTHER + t * step * directions[1] if count == 2 else OTHER]
            return float(scalar(tensor(parts[0], True), tensor(parts[1], True)).detach())
        np.testing.assert_allclose(along, (at(1) - at(-1)) / (2 * step), rtol=1e-5, atol=1e-6)


def test_ties_share_the_gradient():
    x, y = tensor(np.array([1.0, 0.0]), True), tensor(np.array([1.0, 1.0, 2.0]), True)
    gx, gy = grad(x.scatter_reduce(0, _i([0, 0, 1]), y, "amax").sum(), [x, y])
    same(gx, [1 / 3, 0])
    same(gy, [1 / 3, 1 / 3, 1])


def test_no_warning_from_kernels():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = tensor(np.array([np.nan, np.inf, -np.inf]))
        x.scatter_reduce(0, _i([0, 1, 1]), x, "mean")
