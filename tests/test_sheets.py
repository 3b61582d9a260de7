"""Large pointwise calls on operands of any layout (kernels.cpu.sheets): against NumPy, in new memory, in given memory, in place.

Shapes are just large enough for the large path, sides are odd, so that tiles, rows and chunks end in the middle. What the
operators compute is tested elsewhere.
"""
import itertools

import numpy as np
import pytest

import engine as torch
from engine.large import LARGE
from kernels.book import BOOK
from kernels.cpu import copies, sheets
from kernels.table import cast_ufunc, forward_ufunc

RNG = np.random.default_rng(20)
SHAPES = [(41, 1001), (1001, 41), (33, 37, 35), (7, 1, 6001), (2, 3, 70, 101), (40001,), (5, 8191, 1)]


def filled(shape, dtype=np.float32):
    return RNG.integers(-99, 99, shape).astype(dtype)


def full(shape, dtype=np.float32):
    """Arrays of a shape in all orders of memory, with gaps, reversed, expanded."""
    ndim = len(shape)
    for order in itertools.permutations(range(ndim)):
        yield filled([shape[d] for d in order], dtype).transpose(np.argsort(order))
    big = filled([2 * n + 1 for n in shape], dtype)
    yield big[tuple(slice(1, None, 2) for _ in shape)]
    yield big[tuple(slice(None, 0, -2) for _ in shape)]
    for mask in itertools.product((False, True), repeat=ndim):
        yield np.broadcast_to(filled([1 if m else n for m, n in zip(mask, shape, strict=True)], dtype), shape)


def smaller(shape, dtype=np.float32):
    """Arrays that broadcast to a shape."""
    for mask in itertools.product((False, True), repeat=len(shape)):
        yield filled([1 if m else n for m, n in zip(mask, shape, strict=True)], dtype)
    for k in range(len(shape)):
        yield filled(shape[k:], dtype)
    yield filled((), dtype)


def some(pairs, count=60):
    pairs = list(pairs)
    return [pairs[k] for k in RNG.permutation(len(pairs))[:count]]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_new_results_in_all_layouts(shape):
    ufunc = forward_ufunc(BOOK["sub"], "float32")
    operands = [*full(shape), *smaller(shape)]
    for x, y in some(itertools.product(operands, operands)):
        result, expected = sheets.run(ufunc, (x, y), (x.dtype,)), x - y
        assert result.shape == expected.shape
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_given_results_in_all_layouts(shape):
    ufunc = forward_ufunc(BOOK["sub"], "float32")
    for x, y in some(itertools.product(full(shape), smaller(shape)), 20):
        for out in full(shape):
            if out.flags.writeable:
                sheets.into(ufunc, (x, y), out)
                np.testing.assert_array_equal(out, x - y)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "complex64", "complex128"])
def test_copies_of_each_size_of_element(dtype):
    for shape in ((201, 203), (16, 35, 65)):
        for x in full(shape, dtype):
            np.testing.assert_array_equal(copies.copy(x), x)
        for out in full(shape, dtype):
            if out.flags.writeable:
                copies.into(out, x)
                np.testing.assert_array_equal(out, x)


OVERLAPS = {
    "shifted rows": lambda m: (m[1:], m[:-1]),
    "shifted columns": lambda m: (m[:, 1:], m[:, :-1]),
    "transposed": lambda m: (m, m.T),
    "transposed result": lambda m: (m.T, m),
    "its own column": lambda m: (m, m[:, :1]),
    "its own row": lambda m: (m, m[7]),
    "reversed": lambda m: (m, m[::-1, ::-1]),
    "expanded from within": lambda m: (m, np.broadcast_to(m[3], m.shape)),
}


@pytest.mark.parametrize("name", OVERLAPS)
def test_overlapping_memory_is_read_before_it_is_written(name):
    ufunc = forward_ufunc(BOOK["sub"], "float32")
    for operands in (lambda out, x: (out, x), lambda out, x: (x, out), lambda out, x: (x, x)):
        out, x = OVERLAPS[name](filled((231, 231)))
        given = operands(out, x)
        expected = np.broadcast_to(given[0] - given[1], out.shape).copy()
        sheets.into(ufunc, given, out)
        np.testing.assert_array_equal(out, expected)
    out, x = OVERLAPS[name](filled((231, 231)))
    expected = np.broadcast_to(x, out.shape).copy()
    sheets.copy(cast_ufunc("float32", "float32"), x, out)
    np.testing.assert_array_equal(out, expected)


def test_no_elements_and_shapes_that_do_not_fit():
    x = torch.zeros(1, LARGE)
    assert (x + torch.zeros(0, 1)).shape == (0, LARGE)
    assert (x.T + torch.zeros(3, 1, 0)).shape == (3, LARGE, 0)
    with pytest.raises(RuntimeError, match="must match the size"):
        torch.zeros(LARGE, 3) + torch.zeros(LARGE, 2)
    with pytest.raises(RuntimeError, match="doesn't match the broadcast shape"):
        torch.zeros(LARGE).add_(torch.zeros(2, 1))


def test_a_result_lies_in_memory_as_its_first_operand():
    x, y = torch.rand(200, 300), torch.rand(300, 200)
    assert (x + y.T).stride() == (300, 1)
    assert (y.T + x).stride() == (1, 200)
    assert (y.T * 2).stride() == (1, 200)
    assert torch.exp(torch.rand(20, 40, 50).permute(2, 0, 1)).stride() == (1, 2000, 50)


def test_gradients_of_broadcast_and_transposed_operands():
    x, y, column = (torch.tensor(filled(s, np.float64), requires_grad=True) for s in ((190, 230), (230, 190), (190, 1)))
    a, b, c = (t.detach().numpy() for t in (x, y, column))
    weights = torch.tensor(filled((230, 190), np.float64))
    w = weights.numpy().T
    (x * y.T * column * weights.T).sum().backward()
    np.testing.assert_allclose(x.grad, b.T * c * w, rtol=1e-12)
    np.testing.assert_allclose(y.grad, (a * c * w).T, rtol=1e-12)
    np.testing.assert_allclose(column.grad, (a * b.T * w).sum(1, keepdims=True), rtol=1e-12)


def test_in_place_and_out():
    x, y, row = filled((190, 230)), filled((230, 190)), filled((230,))
    t = torch.tensor(x)
    assert t.sub_(torch.tensor(y).T) is t
    np.testing.assert_array_equal(t, x - y.T)
    t.mul_(torch.tensor(row)).add_(torch.tensor(row)[None, :1])
    np.testing.assert_array_equal(t, (x - y.T) * row + row[0])
    t.T.sub_(torch.tensor(y))
    np.testing.assert_array_equal(t, (x - y.T) * row + row[0] - y.T)
    out = torch.zeros(230, 190).T
    assert torch.sub(torch.tensor(x), torch.tensor(row), out=out) is out
    np.testing.assert_array_equal(out, x - row)
    assert out.stride() == (1, 190)


def test_results_do_not_depend_on_threads():
    x, y = torch.rand(517, 611), torch.rand(611, 517)
    before = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append([r.numpy().copy() for r in (x * y.T, x - y[:, 3], x.T.contiguous(), x.sum(0), x.mean(1))])
    finally:
        torch.set_num_threads(before)
    for again in results[1:]:
        for one, other in zip(results[0], again, strict=True):
            np.testing.assert_array_equal(one, other)
