"""Compiled programs that write regions of every kind of layout, and recurrent layers, against eager."""
import numpy as np
import pytest

import engine
from engine import nn
from engine.compiler import straight


def diagonals(x, y):
    z, w = x.clone(), x * 1
    z.diagonal().copy_(y[0])
    w.diagonal(1).mul_(3)
    return z * 2, w


def parts_of_a_dimension(x, y):
    z, w = x * 1, x.view(2, 3, 6).transpose(0, 1).reshape(6, 6) * y
    z.view(2, 3, 6)[:, 1] = y[:2]
    z.view(4, 9)[1:3, 2:8:3] = y[:2, :2]
    return z + 1, w.t().reshape(4, 9)


def backwards(x, y):
    z = engine.zeros(6, 6, dtype=x.dtype)
    z.t()[1:5:2, ::2] = y[:2, :3]
    w = engine.zeros(36, dtype=x.dtype)
    w.as_strided((2, 4), (13, 2), 3).copy_(y.flip(0)[:2, :4])
    return z * x, w * 2, engine.flip(x, (0, 1)) * y


def strided_memory(x, y):
    z = x * 1
    z.as_strided((2, 2), (13, 5), 3).fill_(7.0)
    return z * y, z[::2].unfold(1, 3, 2).sum(-1)


@pytest.mark.parametrize("nests", [False, True], ids=["straight", "nests"])
@pytest.mark.parametrize("function", [diagonals, parts_of_a_dimension, backwards, strided_memory])
def test_regions_of_any_layout_are_written(function, nests, monkeypatch):
    if nests:
        monkeypatch.setattr(straight, "MOST", 0)
    compiled, found = engine.compile(function), []
    rng = np.random.default_rng(3)
    arrays, weights = rng.normal(size=(2, 6, 6)), rng.normal(size=200)
    for f in (function, compiled, compiled):
        x, y = (engine.tensor(a, requires_grad=True) for a in arrays)
        results = f(x, y)
        sum((r * engine.tensor(weights[:r.numel()]).view(r.shape)).sum() for r in results).backward()
        found.append([*(r.detach().numpy() for r in results), x.grad.numpy(), y.grad.numpy()])
    assert compiled.cache_info() == (1, 1, None, 1) and not compiled.eager
    for own in found[1:]:
        for a, b in zip(own, found[0], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-13)


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_keep_their_own_way_back(layer):
    """One call each way instead of a node for each step; gradients of gradients go through the steps."""
    def build():
        engine.manual_seed(0)
        return layer(3, 4, batch_first=True, dtype=engine.float64)

    def run(decorate):
        model, found = build(), []

        @decorate
        def loss(x):
            return (model(x)[0][:, -1] ** 2).sum()
        for k in range(3):
            engine.manual_seed(k)
            x = engine.randn(2, 3, 3, dtype=engine.float64, requires_grad=True)
            gradients = engine.autograd.grad(loss(x), [x, *model.parameters()])
            (g,) = engine.autograd.grad(loss(x), x, create_graph=True)
            second = engine.autograd.grad((g * g).sum(), [x, *model.parameters()], allow_unused=True)
            found.append([g.detach().numpy() for g in (*gradients, *second) if g is not None])
        return found, loss
    (found, compiled), (wanted, _) = run(engine.compile), run(lambda f: f)
    assert compiled.cache_info().misses == 1
    assert f"{layer.__name__.lower()}_layer_backward" in str(compiled.last.recorded.backward.graph)
    for own, expected in zip(found, wanted, strict=True):
        for a, b in zip(own, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
