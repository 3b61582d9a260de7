"""Pools: values against loops over windows, indices, gradients to second order, errors, layers."""
import itertools
import math

import numpy as np
import pytest
from test_book import check_gradients

import engine
import engine.nn.functional as F
from engine import nn
from engine.tensor import from_array
from kernels.cpu import pool


def tensor(array):
    return from_array(np.array(array))


def each(value, dims):
    return (value,) * dims if isinstance(value, int) else tuple(value)


def z(*shape, **options):
    return engine.zeros(*shape, **options)


def intervals(n, kernel, stride, padding, dilation, ceil_mode):
    """Positions of each window along one dimension, those outside of the input included."""
    reach, found, start = dilation * (kernel - 1), [], -padding
    while start + reach < n + padding or (ceil_mode and start + reach - stride + 1 < n + padding and start < n):
        found.append([start + k * dilation for k in range(kernel)])
        start += stride
    return found


def by_windows(x, dims, lines, of):
    """`of`(elements inside (..., k), their flat indices, how many positions there are in all) for every window."""
    space, parts = x.shape[-dims:], []
    for windows in itertools.product(*lines):
        inside = [[i for i in w if 0 <= i < n] for w, n in zip(windows, space, strict=True)]
        picked = x[(..., *np.ix_(*inside))].reshape(*x.shape[:-dims], -1)
        flat = np.ravel_multi_index(np.meshgrid(*inside, indexing="ij"), space).reshape(-1)
        parts.append(of(picked, flat, windows))
    return np.stack(parts, -1).reshape(*x.shape[:-dims], *map(len, lines))


def adaptive_lines(x, size):
    return [[list(range(k * n // o, -(-(k + 1) * n // o))) for k in range(o)]
            for n, o in zip(x.shape[-len(size):], size, strict=True)]


def largest(picked, flat, windows):
    return picked.max(-1)


def where(picked, flat, windows):
    return flat[picked.argmax(-1)]


WINDOWS = [     # spatial size, kernel, stride, padding, dilation, ceil_mode
    ((9,), 3, None, 1, 1, False), ((9,), 2, 3, 0, 2, True), ((10,), 4, 3, 2, 1, True),
    ((6, 8), 2, None, 0, 1, False), ((7, 5), (3, 2), (2, 1), (1, 0), (1, 2), False), ((7, 8), 3, 2, 1, 1, True),
    ((4, 5, 6), 2, 2, 1, 1, True), ((5, 4, 3), (2, 1, 3), (1, 2, 1), (0, 0, 1), (2, 1, 1), False),
]


@pytest.mark.parametrize("case", WINDOWS, ids=str)
def test_max_pool(case, rng):
    size, kernel, stride, padding, dilation, ceil_mode = case
    dims = len(size)
    x = rng.permutation(6 * math.prod(size)).reshape(2, 3, *size).astype(float)
    lines = [intervals(*a, ceil_mode) for a in zip(size, each(kernel, dims), each(kernel if stride is None else stride, dims),
                                                   each(padding, dims), each(dilation, dims), strict=True)]
    max_pool = getattr(F, f"max_pool{dims}d")
    values, indices = max_pool(tensor(x), kernel, stride, padding, dilation, ceil_mode, True)
    np.testing.assert_array_equal(values, by_windows(x, dims, lines, largest))
    np.testing.assert_array_equal(indices, by_windows(x, dims, lines, where))
    assert indices.dtype is engine.int64
    np.testing.assert_array_equal(max_pool(tensor(x[0]), kernel, stride, padding, dilation, ceil_mode), values[0])
    turned = tensor(x.swapaxes(0, -1).copy()).transpose(0, -1)
    np.testing.assert_array_equal(max_pool(turned, kernel, stride, padding, dilation, ceil_mode), values)
    check_gradients(lambda x: max_pool(x, kernel, stride, padding, dilation, ceil_mode) ** 2, [x[:1, :1] / x.max()], rng)


@pytest.mark.parametrize("case", [case for case in WINDOWS if case[4] == 1], ids=str)
@pytest.mark.parametrize("count_include_pad", [True, False])
def test_average_pool(case, count_include_pad, rng):
    size, kernel, stride, padding, _, ceil_mode = case
    dims = len(size)
    x = rng.normal(size=(2, 3, *size))
    lines = [intervals(*a, 1, ceil_mode) for a in zip(size, each(kernel, dims), each(kernel if stride is None else stride, dims),
                                                      each(padding, dims), strict=True)]
    limits = [n + p for n, p in zip(size, each(padding, dims), strict=True)]

    def mean(picked, flat, windows):
        padded = math.prod(sum(i < end for i in w) for w, end in zip(windows, limits, strict=True))
        return picked.sum(-1) / (padded if count_include_pad else picked.shape[-1])
    avg_pool = getattr(F, f"avg_pool{dims}d")
    seen = avg_pool(tensor(x), kernel, stride, padding, ceil_mode, count_include_pad)
    np.testing.assert_allclose(seen.numpy(), by_windows(x, dims, lines, mean), rtol=1e-13, atol=1e-14)
    np.testing.assert_array_equal(avg_pool(tensor(x[0]), kernel, stride, padding, ceil_mode, count_include_pad), seen[0])
    check_gradients(lambda x: avg_pool(x, kernel, stride, padding, ceil_mode, count_include_pad) ** 2, [x[:1, :1]], rng)
    if dims > 1:
        divided = avg_pool(tensor(x), kernel, stride, padding, ceil_mode, divisor_override=-7)
        sums = by_windows(x, dims, lines, lambda picked, flat, windows: picked.sum(-1))
        np.testing.assert_allclose(divided.numpy(), sums / -7, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape, size", [((2, 3, 7), (3,)), ((2, 3, 7), (9,)), ((3, 6, 5), (4, 2)), ((2, 2, 5, 6), (1, 6)),
                                         ((2, 1, 4, 5, 6), (2, 3, 4))], ids=str)
def test_adaptive_pools(shape, size, rng):
    dims = len(size)
    x = rng.permutation(math.prod(shape)).reshape(shape) * 0.01
    lines = adaptive_lines(x, size)
    mean, most = getattr(F, f"adaptive_avg_pool{dims}d"), getattr(F, f"adaptive_max_pool{dims}d")
    np.testing.assert_allclose(mean(tensor(x), size).numpy(), by_windows(x, dims, lines, lambda p, *_: p.mean(-1)), rtol=1e-13)
    values, indices = most(tensor(x), size, return_indices=True)
    np.testing.assert_array_equal(values, by_windows(x, dims, lines, largest))
    np.testing.assert_array_equal(indices, by_windows(x, dims, lines, where))
    np.testing.assert_array_equal(most(tensor(x), size), values)
    for pooled in (mean, most):
        check_gradients(lambda x, pooled=pooled: pooled(x, size) ** 2, [x], rng)


def test_adaptive_sizes_that_stay_or_become_one(rng):
    x = rng.normal(size=(2, 3, 4, 5))
    assert F.adaptive_avg_pool2d(tensor(x), (None, 2)).shape == (2, 3, 4, 2)
    assert F.adaptive_max_pool2d(tensor(x), (2, None)).shape == (2, 3, 2, 5)
    np.testing.assert_allclose(F.adaptive_avg_pool2d(tensor(x), 1).numpy(), x.mean((2, 3), keepdims=True), rtol=1e-13)
    assert F.adaptive_avg_pool2d(tensor(x), 0).shape == (2, 3, 0, 0)
    assert F.adaptive_avg_pool3d(tensor(x), (2, None, 1)).shape == (2, 2, 4, 1)


@pytest.mark.parametrize("p", [2, 3, 1.5])
def test_power_average_pools(p, rng):
    for size, kernel, stride in (((8,), 3, 2), ((6, 5), (2, 3), None), ((4, 4, 4), 2, 2)):
        dims = len(size)
        x = rng.uniform(0.1, 2, size=(2, 2, *size))
        lines = [intervals(n, k, s, 0, 1, False)
                 for n, k, s in zip(size, each(kernel, dims), each(stride or kernel, dims), strict=True)]
        lp_pool = getattr(F, f"lp_pool{dims}d")
        expected = by_windows(x, dims, lines, lambda picked, *_: (picked ** p).sum(-1) ** (1 / p))
        np.testing.assert_allclose(lp_pool(tensor(x), p, kernel, stride).numpy(), expected, rtol=1e-12)
        check_gradients(lambda x, f=lp_pool, k=kernel, s=stride: f(x, p, k, s), [x[:1, :1]], rng)


# --- max: ties, NaN, padding, back ------------------------------------------------------------------------------------

def test_the_first_of_equals_wins_and_nan_is_the_largest():
    x = engine.tensor([[[[1.0, 1.0, 2.0, math.nan], [1.0, 1.0, 2.0, 5.0]]]], requires_grad=True)
    values, indices = F.max_pool2d(x, 2, return_indices=True)
    assert values[0, 0, 0, 0].item() == 1 and values[0, 0, 0, 1].isnan()
    assert indices.tolist() == [[[[0, 3]]]]
    values.sum().backward()
    assert x.grad.tolist() == [[[[1, 0, 0, 1], [0, 0, 0, 0]]]]
    lowest = F.max_pool2d(engine.full((1, 1, 2, 2), -math.inf), 2, padding=1, return_indices=True)
    assert lowest[0].tolist() == [[[[-math.inf] * 2] * 2]] and lowest[1].tolist() == [[[[0, 1], [2, 3]]]]


def test_windows_that_overlap_add_their_gradients():
    x = engine.tensor([[[0.0, 3.0, 1.0, 2.0]]], requires_grad=True)
    F.max_pool1d(x, 2, 1).backward(engine.tensor([[[1.0, 10.0, 100.0]]]))
    assert x.grad.tolist() == [[[0, 11, 0, 100]]]


def test_integers_and_halves(rng):
    x = rng.integers(-50, 50, (2, 3, 6, 6))
    lines = [intervals(6, 3, 2, 1, 1, False)] * 2
    for dtype in ("int64", "int16", "float16"):
        seen = F.max_pool2d(tensor(x.astype(dtype)), 3, 2, 1)
        assert seen.dtype is getattr(engine, dtype)
        np.testing.assert_array_equal(seen.numpy(), by_windows(x, 2, lines, largest).astype(dtype))
    means = by_windows(x, 2, lines, lambda picked, *_: np.trunc(picked.sum(-1) / 9))
    np.testing.assert_array_equal(F.avg_pool2d(tensor(x), 3, 2, 1).numpy(), means.astype("int64"))
    halves = F.avg_pool2d(tensor(x.astype("f2")), 2)
    np.testing.assert_allclose(halves.numpy(), F.avg_pool2d(tensor(x * 1.0), 2).numpy().astype("f2"))


def test_results_do_not_depend_on_the_number_of_threads(rng):
    x = rng.normal(size=(16, 8, 20, 20)).astype("f4")

    def run():
        a = tensor(x).requires_grad_()
        (F.max_pool2d(a, 3, 2, 1).sum() + (F.avg_pool2d(a, 2) ** 2).sum()).backward()
        return a.grad.numpy()
    threads, found = pool.threads, []
    try:
        for count in (1, 3):
            pool.set_threads(count)
            found.append(run())
    finally:
        pool.set_threads(threads)
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_max_unpool_puts_elements_back(dims, rng):
    x = rng.permutation(6 * 6 ** dims).reshape(2, 3, *[6] * dims) + 1.0
    values, indices = getattr(F, f"max_pool{dims}d")(tensor(x), 2, return_indices=True)
    unpool = getattr(F, f"max_unpool{dims}d")
    back = unpool(values, indices, 2)
    assert back.shape == x.shape
    np.testing.assert_array_equal(back, np.where(np.isin(x, values.numpy()), x, 0))
    np.testing.assert_array_equal(unpool(values[0], indices[0], 2), back[0])
    assert unpool(values, indices, 2, output_size=[7] * dims).shape == (2, 3, *[7] * dims)
    assert unpool(values, indices, 2, output_size=(2, 3, *[7] * dims)).shape == (2, 3, *[7] * dims)
    check_gradients(lambda v: unpool(v, indices[:1, :1], 2) ** 2, [values.numpy()[:1, :1] / 100], rng)
    with pytest.raises(RuntimeError, match="Found an invalid max index: -1"):
        unpool(values, indices * 0 - 1, 2)
    with pytest.raises(RuntimeError, match=f"Found an invalid max index: {6 ** dims} .output volumes are of size"):
        unpool(values, indices * 0 + 6 ** dims, 2)


def test_batches_of_size_zero():
    x = z(0, 2, 6, 6, requires_grad=True)
    for out in (F.max_pool2d(x, 2), F.avg_pool2d(x, 2), F.adaptive_avg_pool2d(x, 3), F.adaptive_max_pool2d(x, 3)):
        assert out.shape == (0, 2, 3, 3)
        out.sum().backward()
        assert x.grad.shape == x.shape
    assert F.max_pool1d(z(0, 2, 5), 2).shape == (0, 2, 2) and F.avg_pool3d(z(0, 2, 5, 5, 5), 2).shape == (0, 2, 2, 2, 2)


def test_names_of_nodes_and_top_level_functions():
    x = engine.rand(1, 2, 6, 6, requires_grad=True)
    v = engine.rand(1, 1, 4, 4, 4, requires_grad=True)
    for out, name in ((F.max_pool2d(x, 2), "MaxPool2DWithIndices"), (F.max_pool3d(v, 2), "MaxPool3DWithIndices"),
                      (F.max_pool2d(x[0], 2), "MaxPool2DWithIndices"), (F.avg_pool2d(x, 2), "AvgPool2D"),
                      (F.avg_pool3d(v, 2), "AvgPool3D"),
                      (F.adaptive_avg_pool2d(x, 2), "AdaptiveAvgPool2D"), (F.adaptive_avg_pool3d(v, 2), "AdaptiveAvgPool3D"),
                      (F.adaptive_max_pool2d(x, 2), "AdaptiveMaxPool2D"), (F.adaptive_max_pool3d(v, 2), "AdaptiveMaxPool3D"),
                      (F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2), "MaxUnpool2D"),
                      (F.max_pool1d(x[0], 2), "Squeeze")):
        assert type(out.grad_fn).__name__.startswith(name + "Backward")
    for name in ("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "adaptive_avg_pool1d", "adaptive_max_pool1d"):
        assert getattr(engine, name) is getattr(F, name)
    for dims, data in ((1, x[0]), (2, x), (3, v)):
        values, indices = getattr(F, f"max_pool{dims}d_with_indices")(data, 2)
        assert values.shape == indices.shape


# --- errors -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("call, text", [
    (lambda: F.max_pool2d(z(5, 5), 2), r"non-empty 3D or 4D \(batch mode\) tensor expected for input"),
    (lambda: F.max_pool2d(z(2, 0, 5, 5), 2), "with optional 0 dim batch size for input, but got:"),
    (lambda: F.max_pool2d(z(1, 2, 5, 5), 2, 0), "stride should not be zero"),
    (lambda: F.max_pool2d(z(1, 2, 5, 5), (0, 1), 1),
     "kernel size should be greater than zero, but got kernel_height: 0 kernel_width: 1"),
    (lambda: F.max_pool2d(z(1, 2, 5, 5), 2, -1), "stride should be greater than zero"),
    (lambda: F.max_pool2d(z(1, 2, 5, 5), 2, 2, 2),
     "pad should be at most half of effective kernel size, but got pad=2, kernel_size=2 and dilation=1"),
    (lambda: F.max_pool3d(z(1, 2, 5, 5, 5), 2, 2, -1), "pad must be non-negative, but got pad: -1"),
    (lambda: F.max_pool2d(z(1, 2, 5, 5), 2, dilation=0), "dilation should be greater than zero, but got dilationH: 0 dilationW: 0"),
    (lambda: F.max_pool2d(z(1, 2, 5, 5), 6),
     r"Given input size: \(2x5x5\). Calculated output size: \(2x0x0\). Output size is too small"),
    (lambda: F.max_pool2d(z(1, 2, 5, 5), (2, 2, 2)), "max_pool2d: kernel_size must either be a single int, or a tuple of two ints"),
    (lambda: F.avg_pool3d(z(1, 2, 5, 5, 5), 2, (1, 2)), "stride must either be omitted, a single int, or a tuple of three ints"),
    (lambda: F.max_pool1d(z(5), 2), "max_pool1d: Expected 2D or 3D"),
    (lambda: F.max_pool1d(z(2, 5), 0), r"max_pool1d\(\) kernel_size must be greater than zero, but got 0"),
    (lambda: F.max_pool1d(z(2, 5), 2, 2, 2), "padding should be at most half of kernel size, but got padding=2 and kernel_size=2"),
    (lambda: F.max_pool1d(z(2, 5), 2, padding=-1), "padding must be non-negative, but got -1"),
    (lambda: F.max_pool1d(z(2, 5), 2, dilation=0), "dilation must be greater than zero, but got 0"),
    (lambda: F.max_pool1d(z(2, 5), 6), "Invalid computed output size: 0"),
    (lambda: F.max_pool1d(z(2, 5), (2, 2)), "tuple of ints of size 1 but got size 2"),
    (lambda: F.avg_pool1d(z(5), 2), "Expected 2 to 3 dimensions, but got 1-dimensional tensor"),
    (lambda: F.avg_pool1d(z(2, 5), (2, 2)), r"avg_pool1d\(\) argument 'kernel_size' should contain one int \(got 2\)"),
    (lambda: F.avg_pool2d(z(1, 2, 5, 5), 2, divisor_override=0), "divisor must be not zero"),
    (lambda: F.avg_pool3d(z(1, 2, 5, 5, 5), 6), r"input image \(T: 5 H: 5 W: 5\) smaller than kernel size \(kT: 6 kH: 6 kW: 6\)"),
    (lambda: F.adaptive_avg_pool2d(z(5, 5), 2), r"adaptive_avg_pool2d\(\): Expected 3D or 4D tensor, but got \[5, 5\]"),
    (lambda: F.adaptive_avg_pool2d(z(1, 2, 5, 5), (2, 2, 2)), "adaptive_avg_pool2d: output_size must be 2"),
    (lambda: F.adaptive_avg_pool2d(z(1, 2, 5, 5), -1), "elements of output_size must be greater than or equal to 0 but received"),
    (lambda: F.adaptive_avg_pool2d(z(1, 2, 0, 5), 2), "Expected input to have non-zero size for non-batch dimensions"),
    (lambda: F.adaptive_avg_pool1d(z(1, 2, 5), (2, 2)), "should contain one int"),
    (lambda: F.adaptive_max_pool1d(z(5), 2), "Expected 2 to 3 dimensions"),
    (lambda: F.adaptive_max_pool2d(z(1, 2, 0, 5), 1), "with dimension 2 being empty"),
    (lambda: F.adaptive_max_pool2d(z(1, 2, 5, 5), -1), "Trying to create tensor with negative dimension -1"),
    (lambda: F.adaptive_max_pool3d(z(1, 2, 5), 1), "Expected 4D or 5D tensor"),
    (lambda: F.max_unpool2d(z(1, 2, 2, 2), z(1, 2, 2, 2).int(), 2), "elements in indices should be type int64 but got: Int"),
    (lambda: F.max_unpool2d(z(1, 2, 2, 2), z(1, 2, 2, 3).long(), 2),
     "Expected shape of indices to be same as that of the input tensor"),
    (lambda: F.max_unpool2d(z(2, 2), z(2, 2).long(), 2), "Input to max_unpooling2d should be a 3d or 4d Tensor"),
    (lambda: F.max_unpool3d(z(1, 1, 2, 2, 2), z(1, 1, 2, 2, 2).long(), 2, 0),
     "strides should be greater than zero, but got stride: "),
])
def test_errors(call, text):
    with pytest.raises(RuntimeError, match=text):
        call()


def test_errors_of_other_classes():
    with pytest.raises(TypeError, match="argument 'input'"):
        F.max_pool2d(3, 2)
    with pytest.raises(TypeError, match="argument 'kernel_size'"):
        F.max_pool2d(z(1, 1, 3, 3), "a")
    with pytest.raises(IndexError, match="Dimension out of range"):
        F.avg_pool2d(z(5, 5), 2)
    with pytest.raises(ValueError, match=r'invalid output_size "\(6, 5\)" \(dim 0 must be between 2 and 6\)'):
        F.max_unpool2d(z(1, 2, 2, 2), z(1, 2, 2, 2).long(), 2, output_size=(6, 5))
    with pytest.raises(ValueError, match="output_size should be a sequence containing 2 or 4 elements"):
        F.max_unpool2d(z(1, 2, 2, 2), z(1, 2, 2, 2).long(), 2, output_size=(6, 5, 1))
    for call in (lambda: F.max_pool1d(z(1, 1, 3).long(), 2), lambda: F.max_pool2d(z(1, 3, 3).bool(), 2),
                 lambda: F.avg_pool2d(z(1, 3, 3).int(), 2), lambda: F.adaptive_avg_pool2d(z(1, 3, 3).long(), 2),
                 lambda: F.adaptive_max_pool3d(z(1, 3, 3, 3).long(), 2), lambda: F.avg_pool3d(z(1, 3, 3, 3).cfloat(), 2)):
        with pytest.raises(NotImplementedError, match="not implemented for"):
            call()


# --- layers -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("layer, text", [
    (nn.MaxPool2d(2), "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)"),
    (nn.MaxPool3d((1, 2, 2), 1, 0, 2, True, True),
     "MaxPool3d(kernel_size=(1, 2, 2), stride=1, padding=0, dilation=2, ceil_mode=True)"),
    (nn.AvgPool1d(2), "AvgPool1d(kernel_size=(2,), stride=(2,), padding=(0,))"),
    (nn.AvgPool2d((2, 3), 3, 1, True), "AvgPool2d(kernel_size=(2, 3), stride=3, padding=1)"),
    (nn.LPPool2d(1.5, 3, 2, True), "LPPool2d(norm_type=1.5, kernel_size=3, stride=2, ceil_mode=True)"),
    (nn.AdaptiveAvgPool2d((None, 3)), "AdaptiveAvgPool2d(output_size=(None, 3))"),
    (nn.AdaptiveMaxPool1d(2, True), "AdaptiveMaxPool1d(output_size=2)"),
    (nn.MaxUnpool2d(2), "MaxUnpool2d(kernel_size=(2, 2), stride=(2, 2), padding=(0, 0))"),
    (nn.MaxUnpool1d(2, 3, 1), "MaxUnpool1d(kernel_size=(2,), stride=(3,), padding=(1,))"),
], ids=repr)
def test_the_printed_form_of_layers(layer, text):
    assert repr(layer) == text


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_layers_are_their_functions(dims, rng):
    x = tensor(rng.uniform(0.5, 1.5, size=(2, 2, *[6] * dims)))

    def f(name, *arguments, **options):
        return getattr(F, f"{name}{dims}d")(x, *arguments, **options)

    def layer(name, *arguments, **options):
        return getattr(nn, f"{name}{dims}d")(*arguments, **options)(x)
    np.testing.assert_array_equal(layer("MaxPool", 3, 2, 1, 1, False, True), f("max_pool", 3, 2, 1, 1, True))
    np.testing.assert_array_equal(layer("AvgPool", 3, 2, 1, True, False), f("avg_pool", 3, 2, 1, True, False))
    np.testing.assert_array_equal(layer("LPPool", 2, 3, 2), f("lp_pool", 2.0, 3, 2))
    np.testing.assert_array_equal(layer("AdaptiveAvgPool", 4), f("adaptive_avg_pool", 4))
    for a, b in zip(layer("AdaptiveMaxPool", 4, True), f("adaptive_max_pool", 4, True), strict=True):
        np.testing.assert_array_equal(a, b)
    values, indices = layer("MaxPool", 2, return_indices=True)
    np.testing.assert_array_equal(getattr(nn, f"MaxUnpool{dims}d")(2)(values, indices, [7] * dims),
                                  getattr(F, f"max_unpool{dims}d")(values, indices, 2, output_size=[7] * dims))
