"""Linear, LazyLinear, Bilinear, Identity, Flatten, Unflatten against NumPy, with their gradients, starts and refusals."""
import copy
import pickle

import numpy as np
import pytest

import engine
from engine import nn
from engine.autograd import gradcheck, gradgradcheck
from engine.nn import functional as F


def double(array, requires_grad=False):
    return engine.tensor(array, dtype=engine.float64, requires_grad=requires_grad)


@pytest.mark.parametrize("shape", [(3,), (4, 3), (2, 4, 3), (0, 3)])
def test_linear_is_an_affine_map(shape, rng):
    layer = nn.Linear(3, 2, dtype=engine.float64)
    x = rng.normal(size=shape)
    w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    np.testing.assert_allclose(layer(engine.tensor(x)).detach().numpy(), x @ w.T + b, rtol=1e-12)
    np.testing.assert_allclose(F.linear(engine.tensor(x), layer.weight).detach().numpy(), x @ w.T, rtol=1e-12)
    np.testing.assert_allclose(F.linear(engine.tensor(x), layer.weight[0], layer.bias[:1]).detach().numpy(), x @ w[0] + b[0])
    layer(engine.tensor(x)).sum().backward()
    np.testing.assert_allclose(layer.weight.grad.numpy(), np.tile(x.reshape(-1, 3).sum(0), (2, 1)), atol=1e-12)
    np.testing.assert_allclose(layer.bias.grad.numpy(), np.full(2, x.size // 3), atol=1e-12)


def test_linear_names_its_nodes_and_starts_uniform():
    engine.manual_seed(1)
    layer = nn.Linear(100, 50)
    for p in layer.parameters():
        assert p.abs().max().item() <= 0.1 and 0.04 < p.detach().numpy().std() < 0.07       # 0.1 / sqrt(3) = 0.058
    assert type(layer(engine.ones(2, 100)).grad_fn).__name__ == "AddmmBackward0"
    assert type(layer(engine.ones(3, 2, 100)).grad_fn).__name__ == "ViewBackward0"
    assert layer.weight.shape == (50, 100) and layer.weight.dtype is engine.float32
    with pytest.warns(UserWarning, match="Initializing zero-element tensors is a no-op"):
        nn.Linear(0, 2)
    with pytest.raises(RuntimeError, match=r"mat1 and mat2 shapes cannot be multiplied \(2x3 and 100x50\)"):
        layer(engine.ones(2, 3))


@pytest.mark.parametrize("lead", [(4,), (2, 3), (), (0,)])
def test_bilinear_is_a_sum_over_pairs(lead, rng):
    x, y, w, b = rng.normal(size=(*lead, 3)), rng.normal(size=(*lead, 2)), rng.normal(size=(5, 3, 2)), rng.normal(size=5)
    expected = np.einsum("...i,oij,...j->...o", x, w, y)
    np.testing.assert_allclose(F.bilinear(double(x), double(y), double(w)).numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(F.bilinear(double(x), double(y), double(w), double(b)).numpy(), expected + b, atol=1e-12)


def test_bilinear_gradients(rng):
    inputs = [double(rng.normal(size=s), requires_grad=True) for s in ((2, 3), (2, 2), (2, 3, 2), (2,))]
    assert gradcheck(F.bilinear, inputs) and gradgradcheck(F.bilinear, inputs)


def test_bilinear_layer():
    layer = nn.Bilinear(4, 3, 50)
    assert repr(layer) == "Bilinear(in1_features=4, in2_features=3, out_features=50, bias=True)"
    assert layer.weight.shape == (50, 4, 3) and layer.bias.shape == (50,)
    for p in layer.parameters():                    # uniform in +-1/sqrt(4)
        assert 0.4 < p.abs().max().item() <= 0.5 and abs(p.detach().numpy().std() - 0.5 / 3 ** 0.5) < 0.06
    assert layer(engine.ones(2, 4), engine.ones(2, 3)).shape == (2, 50) and nn.Bilinear(2, 2, 1, bias=False).bias is None
    with pytest.raises(ValueError, match=r"in1_features must be > 0, but got \(in1_features=0\)"):
        nn.Bilinear(0, 1, 1)


@pytest.mark.parametrize("shapes, words", [
    (((2, 3), (2, 2, 4), (5, 3, 4)), "input dimensions do not match: got 2 and 3"),
    (((2, 3), (3, 4), (5, 3, 4)), "input batch dimensions do not match at dim 0: got 2 and 3"),
    (((2, 2), (2, 4), (5, 3, 4)), "input1 size does not match weight size: got 2 but expected 3"),
    (((2, 3), (2, 3), (5, 3, 4)), "input2 size does not match weight size: got 3 but expected 4"),
    (((2, 3), (2, 4), (5, 3, 4), (4,)), "bias size does not match weight size: got 4 but expected 5"),
    (((2, 3), (2, 4), (3, 4)), "inputs need at least one dimension and weight three"),
])
def test_bilinear_refuses(shapes, words):
    with pytest.raises(RuntimeError, match=words):
        F.bilinear(*(engine.ones(s) for s in shapes))


def test_linear_refuses():
    with pytest.raises(TypeError, match=r"linear\(\): argument 'input' \(position 1\) must be Tensor, not int"):
        F.linear(3, engine.ones(2, 2))
    with pytest.raises(RuntimeError, match="must have the same dtype"):
        F.linear(engine.ones(2, 3).double(), engine.ones(4, 3), engine.ones(4))
    with pytest.raises(RuntimeError):
        F.linear(engine.ones(2, 3), engine.ones(4, 3), engine.ones(3))
    assert F.linear(engine.ones(2, 3), engine.ones(4, 3), engine.ones(1)).tolist() == [[4.0] * 4] * 2


def test_lazy_linear():
    layer = nn.LazyLinear(4)
    assert repr(layer) == "LazyLinear(in_features=0, out_features=4, bias=True)" and layer.has_uninitialized_params()
    assert repr(layer.weight) == "<UninitializedParameter>"
    with pytest.raises(RuntimeError, match="Can't access the shape of an uninitialized parameter or buffer"):
        _ = layer.weight.shape
    again, apart = pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)
    weight = layer.weight
    assert layer(engine.ones(2, 3)).shape == (2, 4)
    assert type(layer) is nn.Linear and type(weight) is nn.Parameter and weight is layer.weight and weight.shape == (4, 3)
    assert layer.in_features == 3 and 0 < layer.weight.abs().max().item() <= 3 ** -0.5 and not layer._forward_pre_hooks
    assert again(engine.ones(1, 7)).shape == apart(engine.ones(1, 2)).shape == (1, 4)
    loaded = nn.LazyLinear(4)
    loaded.load_state_dict(layer.state_dict())
    assert engine.equal(loaded(engine.ones(1, 3)), layer(engine.ones(1, 3))) and type(loaded) is nn.Linear
    with pytest.raises(RuntimeError, match=r"an exception occurred|Can't access the shape"):
        nn.Linear(2, 4).load_state_dict(nn.LazyLinear(4).state_dict())


def test_modules_of_shapes():
    x = engine.arange(24).reshape(2, 3, 4)
    assert nn.Identity(1, a=2)(x) is x and repr(nn.Identity(3)) == "Identity()"
    assert nn.Flatten()(x).tolist() == x.numpy().reshape(2, 12).tolist() and nn.Flatten(0, 1)(x).shape == (6, 4)
    assert nn.Unflatten(1, (3, -1))(nn.Flatten()(x)).tolist() == x.tolist()
    assert repr(nn.Flatten()) == "Flatten(start_dim=1, end_dim=-1)"
    assert repr(nn.Unflatten(1, (2, 3))) == "Unflatten(dim=1, unflattened_size=(2, 3))"
    with pytest.raises(TypeError, match="unflattened_size must be a tuple of ints, but found type int"):
        nn.Unflatten(1, 3)
    with pytest.raises(TypeError, match="found element of type str at pos 1"):
        nn.Unflatten(1, (2, "a"))
