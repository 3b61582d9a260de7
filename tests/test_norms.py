"""Normalisation: functions and modules against the formulas in NumPy, running statistics, gradients to second order, errors."""
import numpy as np
import pytest

import engine
from engine import nn
from engine.autograd import gradcheck, gradgradcheck
from engine.nn import functional as F


def tensors(rng, *shapes, dtype="float64", grad=True):
    return [engine.tensor(np.asarray(rng.standard_normal(s)).astype(dtype), requires_grad=grad) for s in shapes]


def standardised(x, axes, eps=1e-5):
    x = x.astype(np.float64)
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def by_channel(v, ndim):
    return v.reshape(1, -1, *[1] * (ndim - 2))


LAYOUTS = {"dense": lambda x: x, "transposed": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1)}


@pytest.mark.parametrize("layout", ["dense", "transposed"])
@pytest.mark.parametrize("shape", [(4, 6), (3, 6, 5), (2, 6, 3, 4)])
def test_every_norm_is_its_formula(shape, layout, rng):
    x, w, b, row_w, row_b = tensors(rng, shape, (6,), (6,), shape[1:], shape[1:], grad=False)
    x = LAYOUTS[layout](x)
    X, axes = x.numpy(), tuple(d for d in range(len(shape)) if d != 1)
    W, B = by_channel(w.numpy(), len(shape)), by_channel(b.numpy(), len(shape))
    np.testing.assert_allclose(F.batch_norm(x, None, None, w, b, True).numpy(), standardised(X, axes) * W + B, rtol=1e-12,
                               atol=1e-12)
    np.testing.assert_allclose(F.batch_norm(x, None, None, training=True, eps=0.1).numpy(), standardised(X, axes, 0.1), rtol=1e-12,
                               atol=1e-12)
    rest = tuple(range(1, len(shape)))
    np.testing.assert_allclose(F.layer_norm(x, shape[1:], row_w, row_b).numpy(),
                               standardised(X, rest) * row_w.numpy() + row_b.numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(F.layer_norm(x, shape[-1:]).numpy(), standardised(X, (-1,)), rtol=1e-12, atol=1e-12)
    scale = np.sqrt((X * X).mean(-1, keepdims=True) + np.finfo(np.float64).eps)
    np.testing.assert_allclose(F.rms_norm(x, shape[-1:]).numpy(), X / scale, rtol=1e-12)
    np.testing.assert_allclose(F.rms_norm(x, shape[1:], row_w, 0.5).numpy(),
                               X / np.sqrt((X * X).mean(rest, keepdims=True) + 0.5) * row_w.numpy(), rtol=1e-12)
    grouped = X.reshape(shape[0], 3, 2, -1)
    np.testing.assert_allclose(F.group_norm(x, 3, w, b).numpy(), standardised(grouped, (2, 3)).reshape(shape) * W + B, rtol=1e-11,
                               atol=1e-11)
    if len(shape) > 2:
        np.testing.assert_allclose(F.instance_norm(x, weight=w, bias=b).numpy(),
                                   standardised(X, tuple(range(2, len(shape)))) * W + B, rtol=1e-11, atol=1e-11)


def test_long_rows_large_means_and_half_precision(rng):
    """Runs beyond one block, a mean far above the deviation, and float16 computed in float32."""
    x = rng.standard_normal((3, 5000)) + 1e4
    seen = F.layer_norm(engine.tensor(x.astype(np.float32)), (5000,)).numpy()
    np.testing.assert_allclose(seen, standardised(x.astype(np.float32), (1,)), atol=2e-3)
    columns = F.batch_norm(engine.tensor(x.T.astype(np.float32).copy()), None, None, training=True).numpy()
    np.testing.assert_allclose(columns, standardised(x.T.astype(np.float32), (0,)), atol=2e-3)
    half = (rng.standard_normal((4, 700)) * 100).astype(np.float16)         # squares overflow float16
    found = F.layer_norm(engine.tensor(half), (700,))
    assert found.dtype is engine.float16
    np.testing.assert_allclose(found.numpy().astype(np.float64), standardised(half, (1,)), atol=3e-3)
    mixed = F.layer_norm(engine.tensor(half), (700,), engine.ones(700), engine.zeros(700))
    np.testing.assert_array_equal(mixed.numpy(), found.numpy())


def test_results_do_not_depend_on_threads(rng):
    x = engine.tensor(rng.standard_normal((300, 600)), requires_grad=True)
    w = engine.ones(600, dtype=engine.float64, requires_grad=True)
    found, threads = [], engine.get_num_threads()
    try:
        for n in (1, 2):
            engine.set_num_threads(n)
            y = F.layer_norm(x, (600,), w)
            found.append([y.detach().numpy(), *(g.numpy() for g in engine.autograd.grad((y * y * y).sum(), (x, w)))])
    finally:
        engine.set_num_threads(threads)
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


# --- gradients --------------------------------------------------------------------------------------------------------

NORMS = {
    "layer": (lambda x, w, b: F.layer_norm(x, (4,), w, b), (3, 2, 4), (4,)),
    "rows beyond one part": (lambda x, w, b: F.layer_norm(x, (2,), w, b, 0.3), (40, 2), (2,)),
    "rms": (lambda x, w, b: F.rms_norm(x, (4,), w, 0.1) + b, (3, 4), (4,)),
    "batch": (lambda x, w, b: F.batch_norm(x, None, None, w, b, True), (3, 2, 3), (2,)),
    "batch columns": (lambda x, w, b: F.batch_norm(x, None, None, w, b, True), (4, 3), (3,)),
    "group": (lambda x, w, b: F.group_norm(x, 2, w, b), (2, 4, 3), (4,)),
    "instance": (lambda x, w, b: F.instance_norm(x, weight=w, bias=b), (2, 2, 4), (2,)),
}


@pytest.mark.parametrize("name", NORMS)
def test_gradients_to_second_order(name, rng):
    function, shape, vector = NORMS[name]
    operands = tensors(rng, shape, vector, vector)
    assert gradcheck(function, operands)
    assert gradgradcheck(function, operands)


def test_gradients_of_evaluation_treat_statistics_as_constants(rng):
    x, w, b = tensors(rng, (3, 2, 3), (2,), (2,))
    mean, variance = engine.tensor(rng.standard_normal(2)), engine.tensor(rng.uniform(0.5, 2, 2))
    for shape in ((3, 2, 3), (9, 2)):
        def function(x, w, b, shape=shape):
            return F.batch_norm(x.reshape(shape), mean, variance, w, b)
        assert gradcheck(function, (x, w, b)) and gradgradcheck(function, (x, w, b))


def test_gradients_without_weight_or_without_bias(rng):
    x, w = tensors(rng, (3, 4), (4,))
    for function in (lambda x: F.layer_norm(x, (4,)), lambda x: F.group_norm(x, 2),
                     lambda x: F.batch_norm(x, None, None, training=True)):
        assert gradcheck(function, (x,)) and gradgradcheck(function, (x,))
    for function in (lambda x, w: F.layer_norm(x, (4,), w), lambda x, w: F.layer_norm(x, (4,), None, w),
                     lambda x, w: F.batch_norm(x, None, None, None, w, True), lambda x, w: F.group_norm(x, 2, None, w)):
        assert gradcheck(function, (x, w))


def test_a_third_derivative(rng):
    x, = tensors(rng, (2, 4))
    c = engine.tensor(rng.standard_normal((2, 4)))

    def second(x):
        g, = engine.autograd.grad((F.layer_norm(x, (4,)) ** 3 * c).sum(), x, create_graph=True)
        return engine.autograd.grad((g * g).sum(), x, create_graph=True)[0]
    assert gradcheck(second, (x,))


def test_names_of_nodes(rng):
    x, = tensors(rng, (2, 4, 3))
    names = {"NativeLayerNormBackward0": F.layer_norm(x, (3,)), "NativeGroupNormBackward0": F.group_norm(x, 2),
             "NativeBatchNormBackward0": F.batch_norm(x, None, None, training=True)}
    for name, result in names.items():
        assert type(result.grad_fn).__name__ == name


def test_float32_gradients_agree_with_float64(rng):
    X, W = rng.standard_normal((5, 6, 4)), rng.standard_normal(6)
    found = {}
    for dtype in (engine.float32, engine.float64):
        x, w = engine.tensor(X, dtype=dtype, requires_grad=True), engine.tensor(W, dtype=dtype, requires_grad=True)
        y = F.layer_norm(x.transpose(1, 2), (6,), w)
        found[dtype] = engine.autograd.grad((y * y * y).sum(), (x, w))
    for low, high in zip(found[engine.float32], found[engine.float64], strict=True):
        assert low.dtype is engine.float32
        np.testing.assert_allclose(low.numpy(), high.numpy(), rtol=1e-3, atol=1e-3)


# --- running statistics -----------------------------------------------------------------------------------------------

def test_running_statistics_move_by_momentum(rng):
    layer = nn.BatchNorm1d(3, momentum=0.2, dtype=engine.float64)
    mean, variance = np.zeros(3), np.ones(3)
    for _ in range(3):
        x = rng.standard_normal((5, 3, 2)) * 2 + 1
        layer(engine.tensor(x))
        mean = 0.8 * mean + 0.2 * x.mean((0, 2))
        variance = 0.8 * variance + 0.2 * x.var((0, 2), ddof=1)
    np.testing.assert_allclose(layer.running_mean.numpy(), mean, rtol=1e-12)
    np.testing.assert_allclose(layer.running_var.numpy(), variance, rtol=1e-12)
    assert layer.num_batches_tracked.item() == 3
    layer.eval()
    seen = layer(engine.tensor(x)).detach().numpy()
    np.testing.assert_allclose(seen, (x - by_channel(mean, 3)) / np.sqrt(by_channel(variance, 3) + 1e-5), rtol=1e-12)
    np.testing.assert_allclose(layer.running_mean.numpy(), mean, rtol=1e-12)
    layer.reset_running_stats()
    assert layer.running_mean.tolist() == [0, 0, 0] and layer.running_var.tolist() == [1, 1, 1] and not layer.num_batches_tracked


def test_momentum_none_is_the_mean_over_batches(rng):
    layer, xs = nn.BatchNorm2d(2, momentum=None, dtype=engine.float64), rng.standard_normal((4, 3, 2, 2, 2))
    for x in xs:
        layer(engine.tensor(x))
    np.testing.assert_allclose(layer.running_mean.numpy(), np.mean([x.mean((0, 2, 3)) for x in xs], 0), rtol=1e-12)


def test_without_running_statistics_evaluation_uses_the_batch(rng):
    layer = nn.BatchNorm1d(3, track_running_stats=False, affine=False, dtype=engine.float64).eval()
    x = rng.standard_normal((5, 3))
    np.testing.assert_allclose(layer(engine.tensor(x)).numpy(), standardised(x, (0,)), rtol=1e-12, atol=1e-12)
    assert layer.state_dict() == {}


def test_instance_norm_tracks_the_mean_of_its_samples(rng):
    layer = nn.InstanceNorm1d(2, track_running_stats=True, affine=True, dtype=engine.float64)
    x = rng.standard_normal((3, 2, 5))
    layer(engine.tensor(x))
    np.testing.assert_allclose(layer.running_mean.numpy(), 0.1 * x.mean(2).mean(0), rtol=1e-12)
    np.testing.assert_allclose(layer.running_var.numpy(), 0.9 + 0.1 * x.var(2, ddof=1).mean(0), rtol=1e-12)
    layer.eval()
    seen = layer(engine.tensor(x)).detach().numpy()
    mean, variance = layer.running_mean.numpy()[:, None], layer.running_var.numpy()[:, None]
    np.testing.assert_allclose(seen, (x - mean) / np.sqrt(variance + 1e-5), rtol=1e-12)
    np.testing.assert_allclose(layer(engine.tensor(x[0])).detach().numpy(), seen[0], rtol=1e-12)       # no batch dimension


# --- compositions -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_local_response_norm(size, rng):
    x, = tensors(rng, (2, 5, 3))
    X, total = x.detach().numpy(), np.zeros((2, 5, 3))
    for c in range(5):
        total[:, c] = (X[:, max(0, c - size // 2):c + (size - 1) // 2 + 1] ** 2).sum(1) / size
    expected = X / (2.0 + 0.3 * total) ** 0.6
    np.testing.assert_allclose(F.local_response_norm(x, size, 0.3, 0.6, 2.0).detach().numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(nn.LocalResponseNorm(size, 0.3, 0.6, 2.0)(x).detach().numpy(), expected, rtol=1e-12)
    if size == 3:
        assert gradcheck(lambda x: F.local_response_norm(x, 3, 0.3),
                         (x,)) and gradgradcheck(lambda x: F.local_response_norm(x, 3), (x,))


def test_normalize(rng):
    x, = tensors(rng, (3, 4))
    X = x.detach().numpy()
    for p, dim in ((2.0, 1), (1.0, 0), (3.0, -1)):
        norm = (np.abs(X) ** p).sum(dim, keepdims=True) ** (1 / p)
        np.testing.assert_allclose(F.normalize(x, p, dim).detach().numpy(), X / norm, rtol=1e-12)
    assert F.normalize(engine.zeros(2, 2)).tolist() == [[0, 0], [0, 0]]
    out = engine.empty(0, dtype=engine.float64)
    assert F.normalize(x.detach(), out=out) is out and tuple(out.shape) == (3, 4)
    assert gradcheck(F.normalize, (x,)) and gradgradcheck(F.normalize, (x,))


# --- modules ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("layer, text, keys", [
    (nn.BatchNorm2d(3), "BatchNorm2d(3, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)",
     ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]),
    (nn.InstanceNorm3d(2), "InstanceNorm3d(2, eps=1e-05, momentum=0.1, affine=False, bias=False, track_running_stats=False)", []),
    (nn.LayerNorm((2, 3), bias=False), "LayerNorm((2, 3), eps=1e-05, elementwise_affine=True, bias=False)", ["weight"]),
    (nn.RMSNorm(4), "RMSNorm((4,), eps=None, elementwise_affine=True)", ["weight"]),
    (nn.GroupNorm(2, 4), "GroupNorm(2, 4, eps=1e-05, affine=True, bias=True)", ["weight", "bias"]),
    (nn.LocalResponseNorm(2), "LocalResponseNorm(2, alpha=0.0001, beta=0.75, k=1.0)", []),
], ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "")
def test_layers_print_and_keep_their_state(layer, text, keys):
    assert repr(layer) == text and list(layer.state_dict()) == keys
    if "weight" in keys:
        assert (layer.weight == 1).all()


def test_layers_call_their_functions(rng):
    x, = tensors(rng, (3, 4, 5), dtype="float32", grad=False)
    for layer, expected in ((nn.LayerNorm(5), F.layer_norm(x, (5,))), (nn.RMSNorm(5), F.rms_norm(x, (5,))),
                            (nn.GroupNorm(2, 4), F.group_norm(x, 2)), (nn.InstanceNorm1d(4), F.instance_norm(x)),
                            (nn.BatchNorm1d(4), F.batch_norm(x, None, None, training=True))):
        np.testing.assert_array_equal(layer(x).detach().numpy(), expected.numpy())


def test_old_states_without_a_count_of_batches_load():
    layer = nn.BatchNorm1d(2)
    state = {k: v.clone() for k, v in layer.state_dict().items() if k != "num_batches_tracked"}
    layer.load_state_dict(state)
    assert layer.num_batches_tracked.item() == 0


def test_empty_inputs():
    w = engine.ones(4, requires_grad=True)
    y = F.layer_norm(engine.ones(0, 4), (4,), w)
    y.sum().backward()
    assert tuple(y.shape) == (0, 4) and w.grad.tolist() == [0] * 4
    mean = engine.zeros(4)
    assert tuple(F.batch_norm(engine.ones(0, 4), mean, engine.ones(4), training=True).shape) == (0, 4) and mean.tolist() == [0] * 4


# --- errors -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("call, error, words", [
    (lambda: F.batch_norm(engine.ones(1, 3), None, None, training=True), ValueError,
     r"Expected more than 1 value per channel when training, got input size engine\.Size\(\[1, 3\]\)"),
    (lambda: F.batch_norm(engine.ones(2, 3), None, None), RuntimeError, "running_mean must be defined in evaluation mode"),
    (lambda: F.batch_norm(engine.ones(2, 3), engine.ones(2), None, training=True), RuntimeError,
     "running_mean should contain 3 elements not 2"),
    (lambda: F.batch_norm(engine.ones(2, 3).double(), None, None, engine.ones(3), training=True), RuntimeError, "mixed dtype"),
    (lambda: F.batch_norm(engine.ones(2, 3).long(), None, None, training=True), NotImplementedError,
     "\"batch_norm\" not implemented for 'Long'"),
    (lambda: F.batch_norm(engine.ones(3), None, None, training=True), IndexError, "Dimension out of range"),
    (lambda: F.layer_norm(engine.ones(2, 3), (4,)), RuntimeError,
     r"Given normalized_shape=\[4\], expected input with shape \[\*, 4\]"),
    (lambda: F.layer_norm(engine.ones(2, 3), ()), RuntimeError, "at least 1-dimensional"),
    (lambda: F.layer_norm(engine.ones(2, 3), 3), TypeError, "must be tuple of ints, not int"),
    (lambda: F.layer_norm(engine.ones(2, 3), (3,), engine.ones(2)), RuntimeError,
     "Expected weight to be of same shape as normalized_shape"),
    (lambda: F.rms_norm(engine.ones(2, 3), (3,), engine.ones(2)), RuntimeError,
     "Expected weight to be of same shape as normalized_shape"),
    (lambda: F.group_norm(engine.ones(2, 3, 2), 2), RuntimeError,
     "Expected number of channels in input to be divisible by num_groups"),
    (lambda: F.group_norm(engine.ones(3), 3), RuntimeError, "Expected at least 2 dimensions for input tensor but received 1"),
    (lambda: F.group_norm(engine.ones(2, 4, 3), 2, engine.ones(3)), RuntimeError, "Expected weight to be a vector of size equal"),
    (lambda: F.instance_norm(engine.ones(2, 3, 1)), ValueError, "Expected more than 1 spatial element when training"),
    (lambda: F.instance_norm(engine.ones(2, 3, 2), use_input_stats=False), RuntimeError,
     "Expected running_mean and running_var to be defined"),
    (lambda: F.local_response_norm(engine.ones(2, 3), 2), ValueError, "Expected 3D or higher dimensionality"),
    (lambda: nn.GroupNorm(2, 3), ValueError, r"num_channels \(3\) must be divisible by num_groups \(2\)"),
    (lambda: nn.BatchNorm2d(3)(engine.ones(2, 3)), ValueError, r"expected 4D input \(got 2D input\)"),
    (lambda: nn.BatchNorm1d(3)(engine.ones(3)), ValueError, r"expected 2D or 3D input \(got 1D input\)"),
    (lambda: nn.InstanceNorm2d(3, affine=True)(engine.ones(2, 2, 3, 3)), ValueError,
     r"expected input's size at dim=1 to match num_features \(3\)"),
])
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()
