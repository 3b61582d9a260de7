"""Dropout of elements and channels, alpha dropout: which random words they use, scales, statistics, gradients, errors."""
import numpy as np
import pytest

import engine
from engine import nn
from engine.nn import functional as F
from kernels import philox


def words(seed: int, count: int) -> np.ndarray:
    """The first 32-bit words of the generator's stream, from plain Python."""
    blocks = [philox.philox4x32(k, 0, 0, 0, seed, 0) for k in range(-(-count // 4))]
    return np.array(blocks, np.uint64).reshape(-1)[:count]


@pytest.mark.parametrize("p", [0.25, 0.5, 0.9])
def test_elements_follow_the_generators_words(p, rng):
    x = rng.standard_normal((3, 7))
    engine.manual_seed(5)
    seen = F.dropout(engine.tensor(x), p).numpy()
    kept = words(5, 21).reshape(3, 7) < round((1 - p) * 2**32)
    np.testing.assert_allclose(seen, np.where(kept, x / (1 - p), 0), rtol=1e-15)
    assert engine.get_rng_state().numpy().view(np.uint64)[1] == 6           # blocks used


def test_any_number_of_threads_and_any_layout_give_the_same(rng):
    x, threads, found = engine.tensor(rng.standard_normal((300, 500))), engine.get_num_threads(), []
    try:
        for n in (1, 2):
            engine.set_num_threads(n)
            engine.manual_seed(1)
            found.append(F.dropout(x).numpy())
    finally:
        engine.set_num_threads(threads)
    np.testing.assert_array_equal(*found)
    kept = (found[0] != 0).mean()
    assert abs(kept - 0.5) < 5 * 0.5 / np.sqrt(x.numel())
    engine.manual_seed(1)
    turned = F.dropout(engine.tensor(x.numpy().T.copy()).T).numpy()
    np.testing.assert_array_equal(turned, found[0])


def test_the_gradient_is_the_mask(rng):
    x = engine.tensor(rng.standard_normal((4, 5)), requires_grad=True)
    y = F.dropout(x, 0.3)
    g = engine.tensor(rng.standard_normal((4, 5)), requires_grad=True)
    back, = engine.autograd.grad(y, x, g, create_graph=True)
    mask = np.where(y.detach().numpy() != 0, 1 / 0.7, 0)
    np.testing.assert_allclose(back.detach().numpy(), g.detach().numpy() * mask, rtol=1e-15)
    again, = engine.autograd.grad(back.sum(), g)
    np.testing.assert_allclose(again.numpy(), mask, rtol=1e-15)
    assert type(y.grad_fn).__name__ == "MulBackward0"


def test_probabilities_nought_and_one(rng):
    x = engine.tensor(rng.standard_normal((2, 3)), requires_grad=True)
    assert F.dropout(x, 0.0) is x and F.dropout(x, 0.5, False) is x
    gone = F.dropout(x, 1.0)
    gone.sum().backward()
    assert not gone.any() and not x.grad.any()
    assert not F.alpha_dropout(x, 1.0, True).any()
    assert F.alpha_dropout(x) is x and F.feature_alpha_dropout(x) is x
    assert F.dropout(engine.ones(0, 3)).shape == (0, 3)
    infinite = F.dropout(engine.full((64,), float("inf"), dtype=engine.float64))
    assert infinite.isnan().any() and infinite.isinf().any()           # dropped is times zero, as in PyTorch


def test_in_place(rng):
    x = engine.ones(64, dtype=engine.float64)
    version = x._version
    assert F.dropout(x, 0.5, inplace=True) is x and set(x.tolist()) == {0.0, 2.0} and x._version > version
    leaf = engine.ones(3, dtype=engine.float64, requires_grad=True)
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being used in an in-place operation"):
        F.dropout(leaf, 0.5, inplace=True)
    y = leaf * 2
    F.dropout(y, 0.5, inplace=True)
    y.sum().backward()
    np.testing.assert_array_equal(leaf.grad.numpy(), y.detach().numpy())


@pytest.mark.parametrize("function, shape, channels", [
    (F.dropout1d, (6, 5, 4), 2), (F.dropout1d, (30, 4), 1), (F.dropout2d, (6, 5, 2, 2), 2), (F.dropout3d, (6, 5, 2, 2, 2), 2),
    (F.dropout3d, (30, 2, 2, 2), 1)])
def test_whole_channels(function, shape, channels):
    x = engine.ones(shape, dtype=engine.float64, requires_grad=True)
    y = function(x, 0.5)
    flat = y.detach().numpy().reshape(*shape[:channels], -1)
    assert set(np.unique(flat)) == {0.0, 2.0} and (flat == flat[..., :1]).all()
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())
    z = engine.ones(shape, dtype=engine.float64)
    assert function(z, 0.5, inplace=True).data_ptr() == z.data_ptr() and set(np.unique(z.numpy())) <= {0.0, 2.0}


def test_alpha_dropout_keeps_mean_and_variance(rng):
    x = engine.tensor(rng.standard_normal(20000), requires_grad=True)
    y = F.alpha_dropout(x, 0.3, True)
    seen, alpha = y.detach().numpy(), 1.0507009873554805 * 1.6732632423543772
    a = ((alpha**2 * 0.3 + 1) * 0.7) ** -0.5
    dropped = np.isclose(seen, a * alpha * (0.3 - 1), rtol=1e-12)
    np.testing.assert_allclose(seen[~dropped], a * x.detach().numpy()[~dropped] + a * alpha * 0.3, rtol=1e-9, atol=1e-12)
    assert abs(dropped.mean() - 0.3) < 0.02 and abs(seen.mean()) < 0.05 and abs(seen.std() - 1) < 0.05
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.where(dropped, 0, a), rtol=1e-12)
    features = F.feature_alpha_dropout(engine.zeros(40, 5, 3, dtype=engine.float64), 0.5, True).numpy()
    assert (features == features[..., :1]).all() and len(np.unique(features)) == 2


def test_layers():
    x = engine.ones(8, 8, dtype=engine.float64)
    layer = nn.Dropout(0.5)
    assert repr(layer) == "Dropout(p=0.5, inplace=False)" and repr(nn.AlphaDropout(0.1,
                                                                                   True)) == "AlphaDropout(p=0.1, inplace=True)"
    assert set(np.unique(layer(x).numpy())) == {0.0, 2.0} and layer.eval()(x) is x
    for made, shape in ((nn.Dropout1d(), (4, 4, 2)), (nn.Dropout2d(), (4, 4, 2, 2)), (nn.Dropout3d(), (4, 4, 1, 2, 2)),
                        (nn.AlphaDropout(), (4, 4)), (nn.FeatureAlphaDropout(), (4, 4, 2))):
        ones = engine.ones(shape, dtype=engine.float64)
        assert len(np.unique(made(ones).numpy())) == 2 and made.eval()(ones) is ones


@pytest.mark.parametrize("call, error, words", [
    (lambda: F.dropout(engine.ones(2), 1.5), ValueError, "dropout probability has to be between 0 and 1, but got 1.5"),
    (lambda: nn.Dropout(-0.1), ValueError, "dropout probability has to be between 0 and 1, but got -0.1"),
    (lambda: F.dropout(engine.ones(2).long()), RuntimeError, "result type Float can't be cast to the desired output type Long"),
    (lambda: F.dropout1d(engine.ones(2)), RuntimeError, "dropout1d: Expected 2D or 3D input, but received a 1D input"),
    (lambda: F.feature_alpha_dropout(engine.ones(2), training=True), RuntimeError,
     "Feature dropout requires at least 2 dimensions"),
])
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_warnings_of_dropout2d_and_3d():
    with pytest.warns(UserWarning, match="dropout2d: Received a 3D input"):
        F.dropout2d(engine.ones(2, 3, 4))
    with pytest.warns(UserWarning, match="dropout2d: Received a 2-D input"):
        F.dropout2d(engine.ones(2, 3))
    with pytest.warns(UserWarning, match="dropout3d: Received a 3-D input"):
        F.dropout3d(engine.ones(2, 3, 4))
