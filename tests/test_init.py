"""Initial values: their distributions by moments and bounds, their structure, gains and refusals."""
import math

import numpy as np
import pytest
from scipy import stats

import engine
from engine import nn
from engine.nn import init


def weight(*shape):
    return nn.Parameter(engine.empty(*shape, dtype=engine.float64))


def filled(fill, *shape, **options):
    """The values after a fill, which works in place, unrecorded, and returns its tensor."""
    p = weight(*shape)
    assert fill(p, **options) is p and p.is_leaf and p.requires_grad
    return p.detach().numpy()


# fan_in = 40 * 5, fan_out = 30 * 5 for the shape (30, 40, 5); leaky_relu with a = 0 has gain sqrt(2)
@pytest.mark.parametrize("fill, options, law", [
    (init.uniform_, {"a": 2.0, "b": 5.0}, stats.uniform(2, 3)), (init.normal_, {"mean": 3.0, "std": 2.0}, stats.norm(3, 2)),
    (init.xavier_uniform_, {"gain": 2.0}, stats.uniform(-2 * math.sqrt(6 / 350), 4 * math.sqrt(6 / 350))),
    (init.xavier_normal_, {}, stats.norm(0, math.sqrt(2 / 350))),
    (init.kaiming_uniform_, {}, stats.uniform(-math.sqrt(6 / 200), 2 * math.sqrt(6 / 200))),
    (init.kaiming_uniform_, {"a": math.sqrt(5)}, stats.uniform(-math.sqrt(1 / 200), 2 * math.sqrt(1 / 200))),
    (init.kaiming_uniform_, {"mode": "fan_out", "nonlinearity": "linear"},
     stats.uniform(-math.sqrt(3 / 150), 2 * math.sqrt(3 / 150))),
    (init.kaiming_normal_, {"mode": "fan_out", "nonlinearity": "relu"}, stats.norm(0, math.sqrt(2 / 150))),
    (init.trunc_normal_, {}, stats.truncnorm(-2, 2)),
    (init.trunc_normal_, {"mean": 1.0, "std": 2.0, "a": 2.0, "b": 9.0}, stats.truncnorm(0.5, 4, 1, 2)),
    (init.trunc_normal_, {"std": 0.5, "a": 0.75, "b": 1.0}, stats.truncnorm(1.5, 2, 0, 0.5)),           # by rejection
])
def test_distributions(fill, options, law):
    values = filled(fill, 30, 40, 5, **options).ravel()
    assert stats.kstest(values, law.cdf).pvalue > 1e-3
    low, high = law.support()
    assert values.min() >= low and values.max() <= high


def test_generators_repeat():
    def drawn(fill, **options):
        return fill(weight(6, 6), generator=engine.Generator().manual_seed(3), **options).tolist()
    for fill, options in [(init.uniform_, {}), (init.normal_, {}), (init.trunc_normal_, {}), (init.xavier_uniform_, {}),
                          (init.xavier_normal_, {}), (init.kaiming_uniform_, {}), (init.kaiming_normal_, {}),
                          (init.orthogonal_, {}), (init.sparse_, {"sparsity": 0.3})]:
        state = engine.get_rng_state()
        assert drawn(fill, **options) == drawn(fill, **options) and engine.equal(engine.get_rng_state(), state)


def test_trunc_normal_warns_far_from_the_mean():
    with pytest.warns(UserWarning, match="mean is more than 2 std from"):
        values = filled(init.trunc_normal_, 50, mean=9.0)
    assert (abs(values) <= 2).all()


def test_constants_and_structure():
    assert (filled(init.constant_, 2, val=4) == 4).all() and (filled(init.ones_, 2) == 1).all()
    assert (filled(init.zeros_, 2) == 0).all()
    np.testing.assert_array_equal(filled(init.eye_, 2, 3), np.eye(2, 3))
    for field in ((3,), (3, 4), (3, 2, 5)):
        w = filled(init.dirac_, 4, 2, *field, groups=2)
        expected = np.zeros((4, 2, *field))
        for out in range(4):
            expected[(out, out % 2, *(n // 2 for n in field))] = 1
        np.testing.assert_array_equal(w, expected)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (3, 2, 4)])
def test_orthogonal(shape):
    w = filled(init.orthogonal_, *shape, gain=2.0).reshape(shape[0], -1)
    gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(gram, 4 * np.eye(min(w.shape)), atol=1e-12)
    assert filled(init.orthogonal_, 0, 3).shape == (0, 3)


def test_orthogonal_is_uniform():
    """The first element of a uniform orthogonal matrix (3, 3) is uniform in [-1, 1] (a coordinate of a point on a sphere)."""
    first = [init.orthogonal_(engine.empty(3, 3, dtype=engine.float64))[0, 0].item() for _ in range(400)]
    assert stats.kstest(first, stats.uniform(-1, 2).cdf).pvalue > 1e-3


def test_sparse():
    w = filled(init.sparse_, 20, 30, sparsity=0.33, std=2.0)
    assert ((w == 0).sum(0) == 7).all() and 1.5 < w[w != 0].std() < 2.5        # ceil(0.33 * 20)


def test_gains():
    for name in ("linear", "conv1d", "conv_transpose3d", "sigmoid"):
        assert init.calculate_gain(name) == 1
    assert init.calculate_gain("tanh") == 5 / 3 and init.calculate_gain("relu") == 2 ** 0.5 and init.calculate_gain("selu") == 0.75
    assert init.calculate_gain("leaky_relu") == math.sqrt(2 / (1 + 0.01 ** 2)) and init.calculate_gain("leaky_relu", 1) == 1


def test_older_names_warn():
    with pytest.warns(FutureWarning, match="`nn.init.constant` is now deprecated in favor of `nn.init.constant_`"):
        assert (init.constant(engine.empty(2), 3) == 3).all().item()


@pytest.mark.parametrize("make, error, words", [
    (lambda: init.calculate_gain("bla"), ValueError, "Unsupported nonlinearity bla"),
    (lambda: init.calculate_gain("leaky_relu", True), ValueError, "negative_slope True not a valid number"),
    (lambda: init.eye_(weight(2)), ValueError, "Only tensors with 2 dimensions are supported"),
    (lambda: init.sparse_(weight(2), 0.1), ValueError, "Only tensors with 2 dimensions are supported"),
    (lambda: init.dirac_(weight(2, 2)), ValueError, "Only tensors with 3, 4, or 5 dimensions are supported"),
    (lambda: init.dirac_(weight(3, 2, 2), 2), ValueError, "dim 0 must be divisible by groups"),
    (lambda: init.orthogonal_(weight(2)), ValueError, "Only tensors with 2 or more dimensions are supported"),
    (lambda: init.xavier_uniform_(weight(2)), ValueError, "Fan in and fan out can not be computed for tensor with fewer than 2"),
    (lambda: init.kaiming_normal_(weight(2, 2), mode="bla"), ValueError, "Mode bla not supported"),
])
def test_refusals(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_nothing_to_fill():
    for fill in (init.kaiming_normal_, init.kaiming_uniform_):
        with pytest.warns(UserWarning, match="Initializing zero-element tensors is a no-op"):
            fill(weight(0, 3))
