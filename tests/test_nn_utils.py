"""nn.utils: clipping, parameters as a vector, weight and spectral normalization, parametrizations."""
import copy
import math
import pickle

import numpy as np
import pytest

import engine
from engine import nn
from engine.autograd import gradcheck, gradgradcheck
from engine.nn import utils
from engine.nn.utils import parametrizations, parametrize
from engine.nn.utils.weight_norm import combined, norm_except_dim


def with_grads(*grads):
    found = []
    for g in grads:
        p = nn.Parameter(engine.zeros(len(g), dtype=engine.float64))
        p.grad = engine.tensor(g, dtype=engine.float64)
        found.append(p)
    return found


def linear(n=3, m=2):
    layer = nn.Linear(n, m, dtype=engine.float64)
    with engine.no_grad():
        layer.weight.copy_(engine.arange(1.0, 1 + n * m).reshape(m, n))
    return layer


X = engine.tensor([[1.0, 2.0, -1.0]], dtype=engine.float64)


# --- clipping ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("order", [2, 1, 3, 0.5, math.inf, -math.inf, "inf"])
def test_clip_grad_norm(order):
    grads = [3.0, -4.0, 0.5, 12.0]
    params = with_grads(grads[:2], grads[2:])
    a = np.abs(grads)
    expected = {math.inf: a.max(), -math.inf: a.min()}.get(float(order), (a ** float(order)).sum() ** (1 / float(order)))
    total = utils.clip_grad_norm_(iter(params), 0.25, order)
    assert total.item() == pytest.approx(expected, rel=1e-12)
    clipped = np.concatenate([p.grad.numpy() for p in params])
    np.testing.assert_allclose(clipped, np.array(grads) * min(1, 0.25 / (expected + 1e-6)), rtol=1e-12)


def test_clip_grad_norm_leaves_small_ones_and_skips_none():
    p, = with_grads([3.0, 4.0])
    kept = p.grad
    assert utils.clip_grad_norm_([p, nn.Parameter(engine.ones(1))], 10.0).item() == 5 and p.grad is kept and kept.tolist() == [3, 4]
    assert utils.clip_grad_norm_(p, 1.0).item() == 5
    assert utils.clip_grad_norm_([], 1.0).item() == 0 and utils.get_total_norm([]).item() == 0
    assert utils.get_total_norm([engine.ones(3), engine.ones(1, 6)]).item() == 3
    with pytest.warns(UserWarning, match="`parameters` is an empty generator"):
        utils.clip_grad_norm_((q for q in []), 1.0)
    with pytest.warns(FutureWarning, match="clip_grad_norm` is now deprecated"):
        utils.clip_grad_norm([p], 1.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_clip_grad_norm_not_finite(bad):
    p, = with_grads([bad, 4.0])
    with pytest.raises(RuntimeError, match=r"The total norm of order 2.0 for gradients from `parameters` is non-finite"):
        utils.clip_grad_norm_(p, 1.0, error_if_nonfinite=True)
    assert p.grad[1].item() == 4
    assert not math.isfinite(utils.clip_grad_norm_(p, 1.0).item())
    assert math.isnan(p.grad[0].item()) and (math.isnan(p.grad[1].item()) or p.grad[1].item() == 0)


def test_clip_grad_value():
    params = with_grads([3.0, -4.0], [0.5, 12.0])
    assert utils.clip_grad_value_([*params, nn.Parameter(engine.ones(1))], 3.5) is None
    assert [p.grad.tolist() for p in params] == [[3, -3.5], [0.5, 3.5]]


# --- one vector -------------------------------------------------------------------------------------------------------

def test_parameters_and_vector():
    layer = nn.Linear(2, 3)
    v = utils.parameters_to_vector(layer.parameters())
    assert v.tolist() == [*layer.weight.flatten().tolist(), *layer.bias.tolist()]
    v.sum().backward()
    assert layer.weight.grad.tolist() == [[1, 1]] * 3
    weight, w = layer.weight, engine.arange(9.0)
    utils.vector_to_parameters(w, layer.parameters())
    assert layer.weight is weight and weight.tolist() == [[0, 1], [2, 3], [4, 5]] and layer.bias.tolist() == [6, 7, 8]
    w[0] = 77                                       # parameters look into the vector
    assert weight[0, 0].item() == 77
    with pytest.raises(TypeError, match=r"expected engine.Tensor, but got: list"):
        utils.vector_to_parameters([1], [])
    with pytest.raises(RuntimeError):
        utils.vector_to_parameters(engine.ones(2), layer.parameters())


# --- weight norm ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dim, axes", [(0, (1, 2)), (1, (0, 2)), (-2, (0, 2)), (2, (0, 1)), (-1, None)])
def test_formula_of_weight_norm(dim, axes, rng):
    v = rng.normal(size=(2, 3, 4))
    norms = np.sqrt((v ** 2).sum(axes, keepdims=axes is not None))
    t = engine.tensor(v, requires_grad=True)
    np.testing.assert_allclose(norm_except_dim(t, 2, dim).detach().numpy(), norms, rtol=1e-12)
    g = engine.tensor(rng.normal(size=norms.shape), requires_grad=True)
    np.testing.assert_allclose(combined(t, g, dim).detach().numpy(), g.detach().numpy() * v / norms, rtol=1e-12)
    if dim == 0:
        assert gradcheck(lambda a, b: combined(a, b, dim), (t, g)) and gradgradcheck(lambda a, b: combined(a, b, dim), (t, g))


@pytest.mark.parametrize("dim, shape", [(0, (2, 1)), (1, (1, 3)), (None, ())])
def test_weight_norm_by_hook(dim, shape):
    layer, before = linear(), linear().weight.detach()
    plain = layer(X)
    with pytest.warns(FutureWarning, match="`engine.nn.utils.weight_norm` is deprecated"):
        assert utils.weight_norm(layer, dim=dim) is layer
    assert [n for n, _ in layer.named_parameters()] == ["bias", "weight_g", "weight_v"] and layer.weight_g.shape == shape
    np.testing.assert_allclose(layer(X).detach().numpy(), plain.detach().numpy(), rtol=1e-12)
    layer(X).sum().backward()
    assert layer.weight_g.grad is not None and layer.weight_v.grad is not None
    with engine.no_grad():
        layer.weight_g.mul_(2)
    np.testing.assert_allclose((layer(X) - layer.bias).detach().numpy(), 2 * (plain - layer.bias).detach().numpy(), rtol=1e-12)
    with pytest.warns(FutureWarning), pytest.raises(RuntimeError,
                                                    match="Cannot register two weight_norm hooks on the same parameter"):
        utils.weight_norm(layer)
    utils.remove_weight_norm(layer)
    np.testing.assert_allclose(layer.weight.detach().numpy(), 2 * before.numpy(), rtol=1e-12)
    assert list(layer.state_dict()) == ["bias", "weight"] and not layer._forward_pre_hooks
    with pytest.raises(ValueError, match="weight_norm of 'weight' not found in Linear"):
        utils.remove_weight_norm(layer)


def test_weight_norm_as_a_parametrization():
    layer, before = linear(), linear().weight.detach().numpy()
    parametrizations.weight_norm(layer)
    assert list(layer.state_dict()) == ["bias", "parametrizations.weight.original0", "parametrizations.weight.original1"]
    np.testing.assert_allclose(layer.weight.detach().numpy(), before, rtol=1e-12)
    norms = layer.parametrizations.weight.original0
    assert isinstance(norms, nn.Parameter) and norms.flatten().tolist() == pytest.approx([14 ** 0.5, 77 ** 0.5])
    layer(X).sum().backward()
    assert norms.grad is not None
    layer.weight = engine.ones(2, 3, dtype=engine.float64)              # through right_inverse
    assert norms.flatten().tolist() == pytest.approx([3 ** 0.5] * 2) and layer.weight.sum().item() == pytest.approx(6)
    older = linear()
    with pytest.warns(FutureWarning):
        utils.weight_norm(older)
    assert repr(layer.load_state_dict(older.state_dict())) == "<All keys matched successfully>"
    np.testing.assert_allclose(layer.weight.detach().numpy(), before, rtol=1e-12)
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is nn.Linear and list(layer.state_dict()) == ["bias", "weight"]
    np.testing.assert_allclose(layer.weight.detach().numpy(), before, rtol=1e-12)


# --- spectral norm ----------------------------------------------------------------------------------------------------

def test_spectral_norms():
    for normalize, original in ((parametrizations.spectral_norm, "parametrizations.weight.original"), (utils.spectral_norm,
                                                                                                       "weight_orig")):
        layer = normalize(linear())
        for _ in range(30):
            layer(X)
        full = layer.get_parameter(original)
        sigma = np.linalg.svd(full.detach().numpy())[1][0]
        np.testing.assert_allclose(layer.weight.detach().numpy(), full.detach().numpy() / sigma, rtol=1e-9)
        layer.eval()
        assert engine.equal(layer(X), layer(X))
        layer(X).sum().backward()
        u, _, vt = np.linalg.svd(full.detach().numpy())
        g = np.ones((2, 1)) @ X.numpy()             # of the weight; d sigma / d W = u v'
        expected = g / sigma - (g * full.detach().numpy()).sum() / sigma ** 2 * np.outer(u[:, 0], vt[0])
        np.testing.assert_allclose(full.grad.numpy(), expected, rtol=1e-7, atol=1e-9)
    utils.remove_spectral_norm(layer)
    assert sorted(layer.state_dict()) == ["bias", "weight"] and not layer._forward_pre_hooks
    vector = parametrizations.spectral_norm(linear(), "bias")
    assert vector.bias.norm().item() == pytest.approx(1)
    for make, error, words in [
            (lambda: utils.remove_spectral_norm(linear()), ValueError, "spectral_norm of 'weight' not found"),
            (lambda: utils.spectral_norm(utils.spectral_norm(linear())), RuntimeError, "Cannot register two spectral_norm hooks"),
            (lambda: parametrizations.spectral_norm(linear(), "zz"), ValueError, "has no parameter or buffer with name 'zz'"),
            (lambda: parametrizations.spectral_norm(linear(), dim=4), IndexError, "Dimension out of range"),
            (lambda: parametrizations.spectral_norm(linear(), n_power_iterations=0), ValueError, "to be positive")]:
        with pytest.raises(error, match=words):
            make()


# --- parametrizations of one's own ------------------------------------------------------------------------------------

class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).mT

    def right_inverse(self, x):
        return x.triu()


class Double(nn.Module):
    def forward(self, x):
        return x * 2


def test_parametrizations():
    layer = linear(3, 3)
    kept = layer.weight
    assert parametrize.register_parametrization(layer, "weight", Symmetric()) is layer
    assert type(layer).__name__ == "ParametrizedLinear" and isinstance(layer, nn.Linear) and parametrize.is_parametrized(layer)
    assert layer.weight.tolist() == [[1, 2, 3], [2, 5, 6], [3, 6, 9]] and layer.parametrizations.weight.original is kept
    assert not parametrize.is_parametrized(layer, "bias") and parametrize.type_before_parametrizations(layer) is nn.Linear
    parametrize.register_parametrization(layer, "weight", Double())
    assert layer.weight.tolist() == [[2, 4, 6], [4, 10, 12], [6, 12, 18]]
    assert (layer(X) - layer.bias).tolist() == [[2 + 8 - 6, 4 + 20 - 12, 6 + 24 - 18]]
    layer(X).sum().backward()
    assert kept.grad.triu().abs().sum().item() == kept.grad.abs().sum().item() > 0
    with parametrize.cached(), parametrize.cached():
        assert layer.weight is layer.weight
    assert layer.weight is not layer.weight
    made = copy.deepcopy(layer)
    assert engine.equal(made.weight, layer.weight) and made.parametrizations.weight.original is not kept
    with pytest.raises(RuntimeError, match="only supported through state_dict"):
        pickle.dumps(layer)
    with pytest.raises(RuntimeError, match="parametrization Double does not implement right_inverse"):
        layer.weight = engine.ones(3, 3, dtype=engine.float64)
    parametrize.remove_parametrizations(layer, "weight")
    assert layer.weight is kept and kept[0].tolist() == [2, 4, 6] and type(layer) is nn.Linear
    parametrize.register_parametrization(layer, "bias", Double())
    bias = layer.parametrizations.bias.original.tolist()
    parametrize.remove_parametrizations(layer, "bias", leave_parametrized=False)
    assert layer.bias.tolist() == bias
    layer.register_buffer("extra", engine.ones(2))
    parametrize.register_parametrization(layer, "extra", Double())
    assert layer.extra.tolist() == [2, 2] and [n for n, _ in layer.named_buffers()] == ["parametrizations.extra.original"]


class Wrong(nn.Module):
    def __init__(self, forward, inverse=None):
        super().__init__()
        self.forward = forward
        if inverse is not None:
            self.right_inverse = inverse


@pytest.mark.parametrize("wrong, words", [
    (Wrong(lambda x: x[0]), "may not change the shape of the tensor"), (Wrong(lambda x: x.float()), "may not change the dtype"),
    (Wrong(lambda x: 3), "A parametrization must return a tensor. Got int"),
    (Wrong(lambda x: x, lambda x: 3), "right_inverse"), (Wrong(lambda x: x, lambda x: x.float()), "dtype"),
    (Wrong(lambda x: x, lambda x: (x, 3)), "right_inverse"),
])
def test_parametrizations_keep_shape_and_dtype(wrong, words):
    with pytest.raises(ValueError, match=words):
        parametrize.register_parametrization(linear(), "weight", wrong)
    with pytest.raises(ValueError, match=words):
        parametrize.register_parametrization(parametrize.register_parametrization(linear(), "weight", Double()), "weight", wrong)


def test_parametrizations_refuse():
    with pytest.raises(ValueError, match="does not have a parameter, a buffer, or a parametrized element with name 'zz'"):
        parametrize.register_parametrization(linear(), "zz", Double())
    with pytest.raises(ValueError, match="does not have a parametrization on weight"):
        parametrize.remove_parametrizations(linear(), "weight")
    with pytest.raises(ValueError, match="parametrized in terms of a sequence of tensors"):
        parametrize.remove_parametrizations(parametrizations.weight_norm(linear()), "weight", leave_parametrized=False)
    short = parametrize.register_parametrization(linear(), "weight", Wrong(lambda x: x[0], lambda x: x), unsafe=True)
    assert short.weight.shape == (3,)
