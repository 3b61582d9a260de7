"""Modules and parameters: registration, walking, state dicts, printing, refusals; Linear against NumPy."""
import copy
import pickle

import numpy as np
import pytest

import engine
from engine import nn
from engine.nn import functional as F


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 3)
        self.second = nn.Linear(3, 1, bias=False)
        self.register_buffer("count", engine.zeros(2))
        self.register_buffer("scratch", engine.zeros(2), persistent=False)
        self.scale = nn.Parameter(engine.ones(1))

    def forward(self, x):
        return self.second(self.first(x)) * self.scale


def test_parameter():
    data = engine.ones(2)
    p = nn.Parameter(data)
    assert repr(p) == "Parameter containing:\ntensor([1., 1.], requires_grad=True)"
    assert isinstance(p, engine.Tensor) and p.is_leaf and p.data_ptr() == data.data_ptr()
    for made in (p + 1, p.detach(), p.data, p.clone()):
        assert type(made) is engine.Tensor
    assert type(copy.deepcopy(p)) is nn.Parameter and type(pickle.loads(pickle.dumps(p))) is nn.Parameter
    assert not nn.Parameter(data, requires_grad=False).requires_grad
    assert nn.Parameter(engine.arange(2), requires_grad=False).dtype is engine.int64
    with pytest.raises(RuntimeError, match="Only Tensors of floating point and complex dtype can require gradients"):
        nn.Parameter(engine.arange(2))
    with pytest.raises(TypeError, match="must be a Tensor, not list"):
        nn.Parameter([1.0])


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
        assert p.abs().max().item() <= 0.1 and 0.04 < p.detach().std().item() < 0.07       # 0.1 / sqrt(3) = 0.058
    assert type(layer(engine.ones(2, 100)).grad_fn).__name__ == "AddmmBackward0"
    assert type(layer(engine.ones(3, 2, 100)).grad_fn).__name__ == "ViewBackward0"
    assert layer.weight.shape == (50, 100) and layer.weight.dtype is engine.float32
    with pytest.warns(UserWarning, match="Initializing zero-element tensors is a no-op"):
        nn.Linear(0, 2)
    with pytest.raises(RuntimeError, match=r"mat1 and mat2 shapes cannot be multiplied \(2x3 and 100x50\)"):
        layer(engine.ones(2, 3))


def test_walking():
    net = Net()
    assert [n for n, _ in net.named_parameters()] == ["scale", "first.weight", "first.bias", "second.weight"]
    assert [n for n, _ in net.named_buffers()] == ["count", "scratch"]
    assert [n for n, _ in net.named_modules()] == ["", "first", "second"] and list(net.children()) == [net.first, net.second]
    assert list(net.state_dict()) == ["scale", "count", "first.weight", "first.bias", "second.weight"]
    net.again = net.first                           # shared modules and parameters count once
    assert len(list(net.parameters())) == 4 and len(list(net.modules())) == 3
    assert net.get_submodule("first") is net.first and net.get_parameter("first.weight") is net.first.weight
    assert net.get_buffer("count") is net.count
    seen = []
    net.apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Linear", "Linear", "Net"]
    del net.scale
    assert not hasattr(net, "scale") and "scale" not in net.state_dict()


def test_modes_gradients_and_conversions():
    net = Net()
    assert net.training and not net.eval().training and not net.first.training and net.train().first.training
    x = engine.ones(4, 2)
    net(x).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad(set_to_none=False)
    assert not net.first.weight.grad.any().item()
    net.zero_grad()
    assert net.first.weight.grad is None
    weight = net.first.weight
    assert net.double().first.weight is weight and weight.dtype is net.count.dtype is engine.float64
    assert net.to(engine.float32).first.weight.dtype is engine.float32 and net.to("cpu") is net.cpu()
    net.requires_grad_(False)
    assert not net(x).requires_grad


def test_state_dicts():
    engine.manual_seed(0)
    net, other = Net(), Net()
    state = net.state_dict()
    assert state["first.weight"].data_ptr() == net.first.weight.data_ptr() and not state["first.weight"].requires_grad
    answer = other.load_state_dict(pickle.loads(pickle.dumps(state)))
    assert repr(answer) == "<All keys matched successfully>"
    assert engine.equal(other(engine.ones(1, 2)), net(engine.ones(1, 2)))
    missing, unexpected = other.load_state_dict({"x": engine.zeros(1)}, strict=False)
    assert missing == list(state) and unexpected == ["x"]
    with pytest.raises(RuntimeError) as refusal:
        net.load_state_dict({"scale": engine.zeros(1), "count": engine.zeros(2), "first.weight": engine.zeros(3, 3), "x": 1})
    assert str(refusal.value) == (
        'Error(s) in loading state_dict for Net:\n\tMissing key(s) in state_dict: "first.bias", "second.weight". \n\t'
        'Unexpected key(s) in state_dict: "x". \n\tsize mismatch for first.weight: copying a param with shape '
        "engine.Size([3, 3]) from checkpoint, the shape in current model is engine.Size([3, 2]).")
    with pytest.raises(TypeError, match="Expected state_dict to be dict-like"):
        net.load_state_dict([1])
    given = {k: v.clone() for k, v in state.items()}
    other.load_state_dict(given, assign=True)
    assert other.first.weight.data_ptr() == given["first.weight"].data_ptr() and isinstance(other.first.weight, nn.Parameter)
    assert copy.deepcopy(net).first.weight is not net.first.weight


def test_printing_and_hooks():
    net = Net()
    assert repr(net) == ("Net(\n  (first): Linear(in_features=2, out_features=3, bias=True)\n"
                         "  (second): Linear(in_features=3, out_features=1, bias=False)\n)")
    outer = nn.Module()
    outer.net = net
    assert repr(outer) == "Module(\n  (net): " + repr(net).replace("\n", "\n  ") + "\n)"
    x = engine.ones(1, 2)
    plain = net(x)
    before = net.register_forward_pre_hook(lambda module, inputs: inputs[0] * 2)
    after = net.register_forward_hook(lambda module, inputs, result: (inputs[0].tolist(), result))
    assert net(x)[0] == [[2.0, 2.0]]
    before.remove()
    after.remove()
    assert engine.equal(net(x), plain)


def test_refusals():
    net = Net()

    class Early(nn.Module):
        def __init__(self, value):
            self.value = value
    for make, error, words in [
            (lambda: nn.Module()(1), NotImplementedError, r'Module \[Module\] is missing the required "forward" function'),
            (lambda: Early(nn.Linear(1, 1)), AttributeError, r"cannot assign module before Module.__init__\(\) call"),
            (lambda: Early(nn.Parameter(engine.ones(1))), AttributeError, "cannot assign parameters before"),
            (lambda: net.nothing, AttributeError, "'Net' object has no attribute 'nothing'"),
            (lambda: setattr(net, "first", 3), TypeError, "cannot assign 'int' as child module 'first'"),
            (lambda: setattr(net, "scale", engine.ones(1)), TypeError,
             "cannot assign 'engine.FloatTensor' as parameter 'scale'"),
            (lambda: setattr(net, "count", 3), TypeError, "cannot assign 'int' as buffer 'count'"),
            (lambda: net.register_buffer("a.b", engine.ones(1)), KeyError, "buffer name can.*t contain"),
            (lambda: net.register_buffer("a", 1), TypeError, "cannot assign 'int' object to buffer 'a'"),
            (lambda: net.register_parameter("q", engine.ones(1)), TypeError, "cannot assign 'engine.FloatTensor' object to"),
            (lambda: net.register_parameter("forward", nn.Parameter(engine.ones(1))), KeyError,
             "attribute 'forward' already exists"),
            (lambda: net.add_module("z", 3), TypeError, "int is not a Module subclass"),
            (lambda: net.add_module("", nn.Linear(1, 1)), KeyError, "module name can.*t be empty"),
            (lambda: net.add_module(3, nn.Linear(1, 1)), TypeError, "module name should be a string. Got int"),
            (lambda: net.train(3), ValueError, "training mode is expected to be boolean"),
            (lambda: net.to(engine.int64), TypeError, "only accepts floating point or complex dtypes"),
            (lambda: net.get_submodule("zz"), AttributeError, "Net has no attribute `zz`"),
            (lambda: net.get_parameter("first.x"), AttributeError, "Linear has no attribute `x`"),
            (lambda: net.get_parameter("count"), AttributeError, "`count` is not an nn.Parameter")]:
        with pytest.raises(error, match=words):
            make()
