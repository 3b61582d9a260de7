"""Convolutions, transposed convolutions, unfold and fold: values against direct sums, gradients to second order, errors, layers."""
import itertools
import math

import numpy as np
import pytest
from scipy.signal import correlate
from test_book import check_gradients

import engine
import engine.nn.functional as F
from engine import nn
from engine.tensor import from_array
from kernels.cpu import pool

NAMES = {1: (F.conv1d, F.conv_transpose1d), 2: (F.conv2d, F.conv_transpose2d), 3: (F.conv3d, F.conv_transpose3d)}


def tensor(array):
    return from_array(np.array(array))


def each(value, dims):
    return (value,) * dims if isinstance(value, int) else tuple(value)


def direct(x, w, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """The definition: a sum over the channels of a group and the taps, in float64 or int64."""
    dims = x.ndim - 2
    stride, padding, dilation = each(stride, dims), each(padding, dims), each(dilation, dims)
    x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    size = [(n - d * (k - 1) - 1) // s + 1 for n, k, d, s in zip(x.shape[2:], w.shape[2:], dilation, stride, strict=True)]
    out = np.zeros((x.shape[0], w.shape[0], *size), np.result_type(x, w))
    depth, rows = w.shape[1], w.shape[0] // groups
    for m, c, taps in itertools.product(range(w.shape[0]), range(depth), itertools.product(*map(range, w.shape[2:]))):
        part = x[(slice(None), m // rows * depth + c, *(slice(t * d, t * d + s * (n - 1) + 1, s)
                                                        for t, d, s, n in zip(taps, dilation, stride, size, strict=True)))]
        out[:, m] += w[(m, c, *taps)] * part
    return out if bias is None else out + bias.reshape(-1, *[1] * dims)


def direct_transpose(x, w, stride=1, padding=0, dilation=1, groups=1, output_padding=0):
    """Every input element adds a weighted kernel to the output, which is then cut."""
    dims = x.ndim - 2
    stride, padding, dilation = each(stride, dims), each(padding, dims), each(dilation, dims)
    output_padding = each(output_padding, dims)
    full = [(n - 1) * s + d * (k - 1) + o + 1
            for n, s, d, k, o in zip(x.shape[2:], stride, dilation, w.shape[2:], output_padding, strict=True)]
    out = np.zeros((x.shape[0], w.shape[1] * groups, *full), x.dtype)
    rows = w.shape[0] // groups
    for c, m, taps in itertools.product(range(w.shape[0]), range(w.shape[1]), itertools.product(*map(range, w.shape[2:]))):
        part = [slice(t * d, t * d + s * (n - 1) + 1, s) for t, d, s, n in zip(taps, dilation, stride, x.shape[2:], strict=True)]
        place = (slice(None), c // rows * w.shape[1] + m, *part)
        out[place] += x[:, c] * w[(c, m, *taps)]
    return out[(..., *(slice(p, n - p) for p, n in zip(padding, full, strict=True)))]


# --- values -----------------------------------------------------------------------------------------------------------

CASES = [       # spatial size, channels, rows, kernel, options
    ((9,), 3, 5, (3,), {}),
    ((9,), 4, 6, (2,), {"stride": 2, "padding": 1, "dilation": 2, "groups": 2}),
    ((40,), 1, 1, (7,), {"padding": 3}),
    ((6, 7), 2, 9, (3, 3), {"padding": 1}),
    ((6, 7), 2, 8, (1, 1), {"stride": 2}),
    ((7, 5), 6, 6, (3, 2), {"stride": (1, 3), "padding": (2, 0), "groups": 6}),
    ((11, 9), 1, 17, (5, 3), {"stride": (3, 2), "padding": (4, 1), "dilation": (1, 3)}),
    ((5, 5), 3, 3, (5, 5), {"padding": 6}),
    ((4, 5, 3), 2, 4, (2, 3, 1), {"stride": (1, 2, 2), "padding": (1, 1, 0), "dilation": (2, 1, 1), "groups": 2}),
    ((4, 4, 4), 1, 3, (3, 3, 3), {"padding": 1}),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_convolution_is_the_direct_sum(case, rng):
    size, c, m, kernel, options = case
    x, b = rng.normal(size=(3, c, *size)), rng.normal(size=m)
    w = rng.normal(size=(m, c // options.get("groups", 1), *kernel))
    conv = NAMES[len(size)][0]
    seen = conv(tensor(x), tensor(w), tensor(b), **options)
    np.testing.assert_allclose(seen.numpy(), direct(x, w, b, **options), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(conv(tensor(x[0]), tensor(w), **options).numpy(), direct(x[:1], w, **options)[0], rtol=1e-11,
                               atol=1e-12)


@pytest.mark.parametrize("case", [case for case in CASES if case[4].get("padding") != 6], ids=str)
def test_transposed_convolution_is_the_direct_sum(case, rng):
    size, c, m, kernel, options = case
    groups, stride = options.get("groups", 1), each(options.get("stride", 1), len(size))
    m = max(1, m // groups)
    x, w, b = rng.normal(size=(2, c, *size)), rng.normal(size=(c, m, *kernel)), rng.normal(size=m * groups)
    options = options | {"output_padding": tuple(s - 1 for s in stride)}
    expected = direct_transpose(x, w, **options)
    seen = NAMES[len(size)][1](tensor(x), tensor(w), tensor(b), **options)
    np.testing.assert_allclose(seen.numpy(), expected + b.reshape(-1, *[1] * len(size)), rtol=1e-11, atol=1e-12)


def test_a_large_layer_in_float32_equals_scipy(rng):
    x, w = rng.normal(size=(3, 5, 33, 30)).astype("f4"), rng.normal(size=(19, 5, 3, 4)).astype("f4")
    expected = np.stack([[sum(correlate(image[c].astype("f8"), kernel[c].astype("f8"), "valid") for c in range(5)) for kernel in w]
                         for image in x])
    np.testing.assert_allclose(F.conv2d(tensor(x), tensor(w)).numpy(), expected, rtol=2e-5, atol=2e-5)
    back = F.conv_transpose2d(tensor(x), tensor(w[:5].copy()), groups=5).numpy()
    expected = np.stack([[correlate(image[c].astype("f8"), w[c, m, ::-1, ::-1].astype("f8"), "full")
                          for c in range(5) for m in range(5)] for image in x])
    np.testing.assert_allclose(back, expected, rtol=2e-5, atol=2e-5)


def test_many_samples_are_done_in_portions(rng, monkeypatch):
    from kernels.cpu import convolution
    monkeypatch.setattr(convolution, "FRAME", 4000)
    x, w = rng.normal(size=(7, 2, 8, 9)), rng.normal(size=(3, 2, 3, 3))
    a, b = tensor(x).requires_grad_(), tensor(w).requires_grad_()
    out = F.conv2d(a, b, padding=1)
    np.testing.assert_allclose(out.detach().numpy(), direct(x, w, padding=1), rtol=1e-11, atol=1e-12)
    g = rng.normal(size=out.shape)
    out.backward(tensor(g))
    np.testing.assert_allclose(a.grad.numpy(), direct_transpose(g, w, padding=1), rtol=1e-11, atol=1e-12)
    v = rng.normal(size=w.shape)
    assert (b.grad.numpy() * v).sum() == pytest.approx((g * direct(x, v, padding=1)).sum(), rel=1e-11)


def test_results_do_not_depend_on_the_number_of_threads(rng):
    x, w = rng.normal(size=(9, 16, 20, 20)).astype("f4"), rng.normal(size=(24, 16, 3, 3)).astype("f4")
    g = rng.normal(size=(9, 24, 10, 10)).astype("f4")

    def run():
        a, b = tensor(x).requires_grad_(), tensor(w).requires_grad_()
        out = F.conv2d(a, b, stride=2, padding=1)
        out.backward(tensor(g))
        return [t.numpy() for t in (out.detach(), a.grad, b.grad)]
    threads, found = pool.threads, []
    try:
        for count in (1, 3):
            pool.set_threads(count)
            found.append(run())
    finally:
        pool.set_threads(threads)
    for one, three in zip(*found, strict=True):
        np.testing.assert_array_equal(one, three)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_padding_by_name(dims, rng):
    conv, x = NAMES[dims][0], rng.normal(size=(2, 2, *(6, 5, 4)[:dims]))
    for k, dilation in ((3, 1), (4, 1), (2, 3), (2, 1)):
        w = rng.normal(size=(3, 2, *(k,) * dims))
        total = dilation * (k - 1)
        padded = np.pad(x, [(0, 0), (0, 0)] + [(total // 2, total - total // 2)] * dims)
        seen = conv(tensor(x), tensor(w), padding="same", dilation=dilation)
        assert seen.shape[2:] == x.shape[2:]
        np.testing.assert_allclose(seen.numpy(), direct(padded, w, dilation=dilation), rtol=1e-11, atol=1e-12)
    np.testing.assert_array_equal(conv(tensor(x), tensor(w), padding="valid"), conv(tensor(x), tensor(w)))


def test_strided_reversed_and_expanded_operands(rng):
    x, w = rng.normal(size=(4, 2, 12, 10)), rng.normal(size=(3, 3, 3, 4))
    view = tensor(x)[:, :, ::2].transpose(2, 3)
    kernel = tensor(w).permute(0, 3, 1, 2)[:, ::2]
    np.testing.assert_allclose(F.conv2d(view, kernel).numpy(), direct(x[:, :, ::2].swapaxes(2, 3), w.transpose(0, 3, 1, 2)[:, ::2]),
                               rtol=1e-11, atol=1e-12)
    flat = tensor(x[:1]).expand(3, 2, 12, 10)
    np.testing.assert_allclose(F.conv2d(flat, tensor(w[:, :2])).numpy(), direct(np.repeat(x[:1], 3, 0), w[:, :2]), rtol=1e-11,
                               atol=1e-12)


def test_integers_halves_and_complex_numbers(rng):
    x, w = rng.integers(-9, 10, (2, 3, 6, 6)), rng.integers(-9, 10, (4, 3, 3, 3))
    for dtype in ("int64", "int32", "uint8"):
        seen = F.conv2d(tensor(x.astype(dtype)), tensor(w.astype(dtype)), padding=1)
        assert seen.dtype is getattr(engine, dtype)
        np.testing.assert_array_equal(seen.numpy(), direct(x, w, padding=1).astype(dtype))
    half = F.conv2d(tensor(x.astype("f2")), tensor(w.astype("f2")))
    np.testing.assert_array_equal(half.numpy(), direct(x, w).astype("f2"))
    z, v = (a + 1j * b for a, b in ((x * 0.5, x[::-1] * 0.25), (w * 0.5, w[::-1] * 0.25)))
    seen = F.conv2d(tensor(z), tensor(v), tensor(v[:, 0, 0, 0]))
    np.testing.assert_allclose(seen.numpy(), direct(z, v, v[:, 0, 0, 0]), rtol=1e-12)
    np.testing.assert_allclose(F.conv_transpose2d(tensor(z), tensor(v[:3].copy())).numpy(), direct_transpose(z, v[:3]), rtol=1e-12)


def test_batches_of_size_zero():
    x, w = engine.zeros(0, 2, 5, 5, requires_grad=True), engine.ones(4, 2, 3, 3, requires_grad=True)
    out = F.conv2d(x, w)
    assert out.shape == (0, 4, 3, 3)
    out.sum().backward()
    assert x.grad.shape == x.shape and not w.grad.any()
    assert F.conv_transpose2d(engine.zeros(0, 4, 5, 5), w.detach()).shape == (0, 2, 7, 7)
    assert F.unfold(engine.zeros(0, 2, 5, 5), 2).shape == (0, 8, 16)
    assert F.fold(engine.zeros(0, 8, 16), 5, 2).shape == (0, 2, 5, 5)


def test_what_a_tap_never_touches_leaves_no_nan_in_its_gradient():
    x = engine.zeros(1, 1, 5, 5)
    x[0, 0, 0, 0] = math.nan
    w = engine.ones(1, 1, 3, 3, requires_grad=True)
    F.conv2d(x, w).sum().backward()
    assert w.grad.isnan().sum().item() == 1 and w.grad[0, 0, 0, 0].isnan()


# --- gradients --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("case", [CASES[1], CASES[5], CASES[8]], ids=str)
def test_gradients_to_second_order(case, transposed, rng):
    size, c, m, kernel, options = case
    groups = options.get("groups", 1)
    if transposed:
        arrays = [rng.normal(size=(2, c, *(3, 4, 2)[:len(size)])), rng.normal(size=(c, 2, *kernel)), rng.normal(size=2 * groups)]
    else:
        arrays = [rng.normal(size=(2, c, *size)), rng.normal(size=(m, c // groups, *kernel)), rng.normal(size=m)]
    check_gradients(lambda x, w, b: NAMES[len(size)][transposed](x, w, b, **options), arrays, rng)


def test_third_order_and_other_gradients(rng):
    x, w = tensor(rng.normal(size=(1, 1, 4, 4))).requires_grad_(), tensor(rng.normal(size=(1, 1, 2, 2))).requires_grad_()
    y = F.conv2d(F.conv2d(x, w), w).sum()                   # quadratic in w, linear in x
    (a,) = engine.autograd.grad(y, w, create_graph=True)
    (b,) = engine.autograd.grad(a.sum(), x, create_graph=True)
    (c,) = engine.autograd.grad((b * b).sum(), w)
    assert c.shape == w.shape and c.abs().sum().item() > 0
    arrays = [rng.normal(size=(1, 2, 3, 4)), rng.normal(size=(2, 2, 2, 2))]
    check_gradients(lambda x, w: F.conv2d(x, w, padding="same"), arrays, rng)
    arrays = [rng.normal(size=s) + 1j * rng.normal(size=s) for s in ((1, 1, 3, 3), (2, 1, 2, 2))]
    check_gradients(lambda x, w: F.conv2d(x, w), arrays, rng, rtol=1e-5, atol=1e-7)


def test_names_of_nodes():
    x, w = engine.ones(1, 2, 5, 5, requires_grad=True), engine.ones(2, 2, 2, 2)
    for out in (F.conv2d(x, w), F.conv2d(x, w, engine.ones(2)), F.conv_transpose2d(x, w), engine.conv2d(x, w, padding="same")):
        assert type(out.grad_fn).__name__ == "ConvolutionBackward0"
    assert type(F.unfold(x, 2).grad_fn).__name__ == "Im2ColBackward0"
    assert type(F.fold(F.unfold(x, 2), 5, 2).grad_fn).__name__ == "Col2ImBackward0"


# --- sliding blocks ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("options", [{"kernel_size": 2},
                                     {"kernel_size": (2, 3), "dilation": 2, "padding": (1, 2), "stride": (2, 1)}], ids=str)
def test_unfold_and_fold(options, rng):
    x = rng.normal(size=(2, 3, 5, 6))
    columns = F.unfold(tensor(x), **options)
    kernel = each(options["kernel_size"], 2)
    eye = np.eye(kernel[0] * kernel[1]).reshape(-1, 1, *kernel)         # one kernel for each element of a block
    rest = {k: v for k, v in options.items() if k != "kernel_size"}
    expected = direct(x, np.concatenate([eye] * 3), groups=3, **rest)
    np.testing.assert_array_equal(columns.numpy(), expected.reshape(2, expected.shape[1], -1))
    np.testing.assert_array_equal(F.unfold(tensor(x[0]), **options), columns[0])
    g = rng.normal(size=columns.shape)
    back = F.fold(tensor(g), (5, 6), **options)
    assert back.is_contiguous()
    v = rng.normal(size=x.shape)
    assert (back.numpy() * v).sum() == pytest.approx((F.unfold(tensor(v), **options).numpy() * g).sum(), rel=1e-12)
    np.testing.assert_array_equal(F.fold(tensor(g[0]), (5, 6), **options), back[0])
    check_gradients(lambda x: F.unfold(x, **options) ** 2, [x[:1]], rng)
    check_gradients(lambda x: F.fold(x, (5, 6), **options) ** 2, [g[:1]], rng)


# --- errors -----------------------------------------------------------------------------------------------------------

def z(*shape, **options):
    return engine.zeros(*shape, **options)


@pytest.mark.parametrize("call, text", [
    (lambda: F.conv2d(z(1, 2, 5, 5), z(4, 3, 3, 3)),
     r"Given groups=1, weight of size \[4, 3, 3, 3\], expected input\[1, 2, 5, 5\] to have 3 channels, but got 2 channels instead"),
    (lambda: F.conv2d(z(1, 2, 2, 2), z(4, 2, 3, 3)), r"Calculated padded input size per channel: \(2 x 2\). Kernel size: "
                                                     r"\(3 x 3\). Kernel size can't be greater than actual input size"),
    (lambda: F.conv1d(z(1, 2, 5), z(4, 2, 3), stride=0), "non-positive stride is not supported"),
    (lambda: F.conv1d(z(1, 2, 5), z(4, 2, 3), padding=-1), "negative padding is not supported"),
    (lambda: F.conv2d(z(1, 2, 5, 5), z(4, 2, 3, 3), dilation=0), r"dilation should be greater than zero, but got \[0, 0\]"),
    (lambda: F.conv1d(z(1, 2, 5), z(4, 2, 3), groups=0), "non-positive groups is not supported"),
    (lambda: F.conv2d(z(1, 4, 5, 5), z(3, 2, 3, 3), groups=2),
     "Given groups=2, expected weight to be divisible by 2 at dimension 0"),
    (lambda: F.conv1d(z(1, 2, 5), z(0, 2, 3)), "expected weight to be at least 1 at dimension 0"),
    (lambda: F.conv1d(z(1, 2, 5), z(4, 2, 3), z(3)), "expected bias to be 1-dimensional with 4 elements, but got bias of size"),
    (lambda: F.conv2d(z(1, 2, 5, 5), z(4, 2, 3, 3), stride=(1, 2, 3)),
     "expected stride to be a single integer value or a list of 2"),
    (lambda: F.conv2d(z(1, 2, 5, 5), z(4, 2, 3, 3), padding="same", stride=2), "'same' is not supported for strided convolutions"),
    (lambda: F.conv2d(z(1, 2, 5, 5), z(4, 2, 3, 3), padding="some"), "Invalid padding string: 'some'"),
    (lambda: F.conv2d(z(5, 5), z(4, 2, 3, 3)),
     r"Expected 3D \(unbatched\) or 4D \(batched\) input to conv2d, but got input of size: \[5"),
    (lambda: F.conv2d(z(1, 2, 5, 5), z(4, 2, 3)), "Expected 4-dimensional weight for conv2d"),
    (lambda: F.conv2d(z(1, 2, 5, 5), z(4, 2, 0, 3)),
     "kernel size should be greater than zero, but got kernel_height: 0 kernel_width: 3"),
    (lambda: F.conv2d(z(1, 2, 5, 5).double(), z(4, 2, 3, 3)), "expected scalar type Double but found Float"),
    (lambda: F.conv1d(z(1, 2, 5), z(4, 2, 3), z(4).double()), r"Input type \(float\) and bias type \(double\) should be the same"),
    (lambda: F.conv2d(z(2, 2, 0, 5), z(4, 2, 3, 3), padding=3), "Only zero batch or zero channel inputs are supported"),
    (lambda: F.conv_transpose2d(z(1, 2, 5, 5), z(3, 4, 3, 3)), "Given transposed=1, weight of size"),
    (lambda: F.conv_transpose2d(z(1, 2, 5, 5), z(2, 4, 3, 3), output_padding=1),
     "output padding must be smaller than either stride or"),
    (lambda: F.conv_transpose1d(z(1, 2, 5), z(2, 4, 3), output_padding=-1), "negative output_padding is not supported"),
    (lambda: F.conv_transpose2d(z(1, 2, 5, 5), z(2, 4, 3, 3), padding=5), r"Calculated output size per channel: \(-3 x -3\)"),
    (lambda: F.conv_transpose2d(z(1, 2, 5, 5), z(2, 0, 3, 3)), "non-empty 2D or 4D weight tensor expected"),
    (lambda: F.unfold(z(1, 2, 5, 5), 6), r"calculated shape of the array of sliding blocks as \(0, 0\)"),
    (lambda: F.unfold(z(1, 2, 5, 5), 0), "kernel size should be greater than zero, but got kernel_height: 0 kernel_width: 0"),
    (lambda: F.unfold(z(1, 2, 5, 5), 2, padding=-1), "padding should be non-negative, but got pad_height: -1 pad_width: -1"),
    (lambda: F.unfold(z(1, 2, 5, 5), (2, 2, 2)), "It is expected kernel_size equals to 2, but got size 3"),
    (lambda: F.unfold(z(1, 0, 5, 5), 2), "Expected 3D or 4D"),
    (lambda: F.fold(z(1, 8, 15), (5, 5), 2), r"calculated number of sliding blocks 4 \* 4 = 16, but got input.size\(2\)=15"),
    (lambda: F.fold(z(1, 7, 16), (5, 5), 2), "divisible by the product of kernel_size"),
    (lambda: F.fold(z(8), (5, 5), 2), "Expected 2D or 3D"),
])
def test_errors(call, text):
    with pytest.raises(RuntimeError, match=text):
        call()


def test_errors_of_other_classes():
    with pytest.raises(TypeError, match="argument 'input'"):
        F.conv2d(3, z(1, 1, 1, 1))
    with pytest.raises(TypeError, match="argument 'stride'"):
        F.conv2d(z(1, 1, 3, 3), z(1, 1, 1, 1), stride=1.5)
    with pytest.raises(TypeError, match="found element of type str at pos 1"):
        F.unfold(z(1, 1, 3, 3), (1, "a"))
    with pytest.raises(IndexError, match="Dimension out of range"):
        F.unfold(z(5, 5), 2)
    for call in (lambda: F.conv2d(z(1, 1, 3, 3).bool(), z(1, 1, 1, 1).bool()), lambda: F.unfold(z(1, 1, 3, 3).long(), 2),
                 lambda: F.conv_transpose1d(z(1, 1, 3).int(), z(1, 1, 1).int()), lambda: F.fold(z(1, 4, 4).long(), 3, 2)):
        with pytest.raises(NotImplementedError, match="not implemented for"):
            call()


# --- layers -----------------------------------------------------------------------------------------------------------

def test_layers_and_their_printed_form():
    layer = nn.Conv2d(4, 6, (3, 5), stride=2, padding=1, dilation=(1, 2), groups=2, bias=False, padding_mode="reflect")
    assert repr(layer) == ("Conv2d(4, 6, kernel_size=(3, 5), stride=(2, 2), padding=(1, 1), dilation=(1, 2), groups=2, bias=False, "
                           "padding_mode=reflect)")
    assert repr(nn.Conv1d(4, 4, 3)) == "Conv1d(4, 4, kernel_size=(3,), stride=(1,))"
    assert repr(nn.Conv2d(4, 4, 3, padding="same")) == "Conv2d(4, 4, kernel_size=(3, 3), stride=(1, 1), padding=same)"
    layer = nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, output_padding=1, groups=2, bias=False, dilation=2)
    assert repr(layer) == ("ConvTranspose2d(4, 4, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), dilation=(2, 2), "
                           "output_padding=(1, 1), groups=2, bias=False)")
    assert repr(nn.Fold((4, 5), 2)) == "Fold(output_size=(4, 5), kernel_size=2, dilation=1, padding=0, stride=1)"
    assert repr(nn.Unfold((2, 3), dilation=2)) == "Unfold(kernel_size=(2, 3), dilation=2, padding=0, stride=1)"
    layer = nn.Conv3d(2, 4, 3, groups=2)
    assert layer.weight.shape == (4, 1, 3, 3, 3) and list(layer.state_dict()) == ["weight", "bias"]
    assert (layer.kernel_size, layer.transposed, layer.output_padding) == ((3, 3, 3), False, (0, 0, 0))
    assert nn.ConvTranspose1d(2, 4, 3, groups=2).weight.shape == (2, 2, 3)


def test_initial_values_are_uniform_within_the_bound():
    engine.manual_seed(0)
    layer = nn.Conv2d(8, 64, 3)
    bound = 1 / math.sqrt(8 * 9)
    for p in (layer.weight, layer.bias):
        assert bound * 0.9 < p.abs().max().item() <= bound
    assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)


@pytest.mark.parametrize("mode, name", [("zeros", "constant"), ("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")])
def test_padding_modes_of_a_layer(mode, name, rng):
    layer = nn.Conv2d(2, 3, 3, padding=(1, 2), padding_mode=mode, dtype=engine.float64)
    x = rng.normal(size=(2, 2, 5, 6))
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (2, 2)], mode=name)
    expected = direct(padded, layer.weight.detach().numpy(), layer.bias.detach().numpy())
    np.testing.assert_allclose(layer(tensor(x)).detach().numpy(), expected, rtol=1e-11, atol=1e-12)


def test_transposed_layer_reaches_a_wanted_size(rng):
    layer = nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1, bias=False, dtype=engine.float64)
    x = rng.normal(size=(1, 2, 4, 4))
    for size in ((7, 8), (8, 7)):
        seen = layer(tensor(x), output_size=size)
        more = tuple(s - 7 for s in size)
        expected = direct_transpose(x, layer.weight.detach().numpy(), stride=2, padding=1, output_padding=more)
        np.testing.assert_allclose(seen.detach().numpy(), expected, rtol=1e-11, atol=1e-12)
        np.testing.assert_array_equal(layer(tensor(x), output_size=(1, 3, *size)).detach(), seen.detach())
    with pytest.raises(ValueError, match=r"valid sizes range from \[7, 7\] to \[8, 8\]"):
        layer(tensor(x), output_size=(9, 8))
    with pytest.raises(ValueError, match="output_size must have 2 or 4 elements"):
        layer(tensor(x), output_size=(1, 2, 3))


@pytest.mark.parametrize("make, text", [
    (lambda: nn.Conv2d(3, 4, 3, groups=2), "in_channels must be divisible by groups"),
    (lambda: nn.Conv2d(4, 3, 3, groups=2), "out_channels must be divisible by groups"),
    (lambda: nn.Conv2d(4, 3, 3, groups=0), "groups must be a positive integer"),
    (lambda: nn.Conv2d(4, 3, 3, padding="some"), "Invalid padding string 'some'"),
    (lambda: nn.Conv2d(4, 3, 3, padding="same", stride=2), "'same' is not supported for strided"),
    (lambda: nn.Conv2d(4, 3, 3, padding_mode="some"), "padding_mode must be one of"),
    (lambda: nn.ConvTranspose2d(4, 3, 3, padding_mode="reflect"), 'Only "zeros" padding mode is supported for ConvTranspose2d'),
])
def test_errors_of_layers(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_lazy_layers_take_channels_from_their_first_input():
    layer = nn.LazyConv2d(4, 3, groups=2)
    assert layer(z(1, 6, 5, 5)).shape == (1, 4, 3, 3)
    assert type(layer) is nn.Conv2d and layer.weight.shape == (4, 3, 3, 3) and layer.in_channels == 6
    layer = nn.LazyConvTranspose1d(4, 3)
    assert layer(z(2, 5)).shape == (4, 7) and layer.weight.shape == (2, 4, 3)
    with pytest.raises(RuntimeError, match="Expected 3D"):
        nn.LazyConv2d(4, 3)(z(5, 5))


def test_fold_and_unfold_layers(rng):
    x = tensor(rng.normal(size=(2, 3, 6, 6)))
    columns = nn.Unfold(2, stride=2)(x)
    np.testing.assert_array_equal(nn.Fold(6, 2, stride=2)(columns), x)
