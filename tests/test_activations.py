"""Activation functions and modules: values and slopes from formulas, kinks, NaN, in-place forms, errors, random slopes.

Generic checks of their records (layouts, dtypes, second order) are in test_book.py, softmax is in test_softmax.py.
"""
import math

import numpy as np
import pytest
from scipy import special

import engine as torch
import engine.nn as nn
import engine.nn.functional as F
from engine.autograd import gradcheck, gradgradcheck

INF, NAN = math.inf, math.nan
ALPHA, SCALE = 1.6732632423543772, 1.0507009873554805

# name -> (options, NumPy formula, name of the node)
TABLE = {
    "relu": ({}, lambda x: np.maximum(x, 0), "Relu"),
    "relu6": ({}, lambda x: np.clip(x, 0, 6), "Hardtanh"),
    "elu": ({"alpha": 1.5}, lambda x: np.where(x > 0, x, 1.5 * np.expm1(x)), "Elu"),
    "selu": ({}, lambda x: SCALE * np.where(x > 0, x, ALPHA * np.expm1(x)), "Elu"),
    "celu": ({"alpha": 0.5}, lambda x: np.where(x > 0, x, 0.5 * np.expm1(x / 0.5)), "Celu"),
    "leaky_relu": ({"negative_slope": 0.2}, lambda x: np.where(x > 0, x, 0.2 * x), "LeakyRelu"),
    "rrelu": ({"lower": 0.1, "upper": 0.5}, lambda x: np.where(x > 0, x, 0.3 * x), "RreluWithNoise"),
    "gelu": ({}, lambda x: x * special.ndtr(x), "Gelu"),
    "silu": ({}, lambda x: x * special.expit(x), "Silu"),
    "mish": ({}, lambda x: x * np.tanh(np.log1p(np.exp(x))), "Mish"),
    "hardtanh": ({"min_val": -0.5, "max_val": 2.0}, lambda x: np.clip(x, -0.5, 2), "Hardtanh"),
    "hardsigmoid": ({}, lambda x: np.clip(x + 3, 0, 6) / 6, "Hardsigmoid"),
    "hardswish": ({}, lambda x: x * np.clip(x + 3, 0, 6) / 6, "Hardswish"),
    "hardshrink": ({"lambd": 1.0}, lambda x: np.where(np.abs(x) > 1, x, 0), "Hardshrink"),
    "softshrink": ({"lambd": 1.0}, lambda x: np.sign(x) * np.maximum(np.abs(x) - 1, 0), "Softshrink"),
    "tanhshrink": ({}, lambda x: x - np.tanh(x), "Sub"),
    "softsign": ({}, lambda x: x / (1 + np.abs(x)), "Div"),
    "logsigmoid": ({}, special.log_expit, "LogSigmoid"),
    "softplus": ({"beta": 2.0, "threshold": 5.0}, lambda x: np.where(2 * x > 5, x, np.log1p(np.exp(2 * x)) / 2), "Softplus"),
    "threshold": ({"threshold": 0.3, "value": 7.0}, lambda x: np.where(x > 0.3, x, 7), "Threshold"),
    "sigmoid": ({}, special.expit, "Sigmoid"),
    "tanh": ({}, np.tanh, "Tanh"),
}
POINTS = np.array([-4.1, -2.2, -1.3, -0.7, -0.2, 0.1, 0.6, 1.4, 2.6, 3.7, 6.8])       # no kink nearby


@pytest.mark.parametrize("name", TABLE)
def test_values_and_derivatives(name):
    options, formula, node = TABLE[name]

    def call(v):
        return getattr(F, name)(v, **options)
    x = torch.from_numpy(POINTS.copy()).requires_grad_()
    y = call(x)
    np.testing.assert_allclose(y.detach().numpy(), formula(POINTS), rtol=1e-13, atol=1e-15)
    assert type(y.grad_fn).__name__ == node + "Backward0"
    assert gradcheck(call, (x,)) and gradgradcheck(call, (x,))
    single = call(torch.from_numpy(POINTS.astype(np.float32)))
    assert single.dtype is torch.float32
    np.testing.assert_allclose(single.numpy(), formula(POINTS), rtol=2e-6, atol=1e-7)


def test_gelu_by_tanh():
    x = torch.from_numpy(POINTS.copy()).requires_grad_()
    inner = math.sqrt(2 / math.pi) * (POINTS + 0.044715 * POINTS ** 3)
    np.testing.assert_allclose(F.gelu(x, approximate="tanh").detach().numpy(), 0.5 * POINTS * (1 + np.tanh(inner)), rtol=1e-11)
    assert gradcheck(lambda v: F.gelu(v, "tanh"), (x,)) and gradgradcheck(lambda v: F.gelu(v, "tanh"), (x,))


# name, options, points, values, slopes: PyTorch's choices at kinks, at infinity and for NaN
KINKS = [
    ("relu", {}, [0.0, NAN, INF, -INF], [0, NAN, INF, 0], [0, 1, 1, 0]),
    ("relu6", {}, [0.0, 6.0, NAN], [0, 6, NAN], [0, 0, 1]),
    ("hardtanh", {}, [-1.0, 1.0, NAN, INF, -INF], [-1, 1, NAN, 1, -1], [0, 0, 1, 0, 0]),
    ("hardsigmoid", {}, [-3.0, 3.0, NAN, INF], [0, 1, NAN, 1], [0, 0, 0, 0]),
    ("hardswish", {}, [-3.0, 3.0, NAN, INF], [0, 3, NAN, INF], [0, 1, 1, 1]),
    ("hardshrink", {}, [-0.5, 0.5, NAN, INF], [0, 0, NAN, INF], [0, 0, 1, 1]),
    ("softshrink", {}, [-0.5, 0.5, NAN, -INF], [0, 0, NAN, -INF], [0, 0, 1, 1]),
    ("leaky_relu", {"negative_slope": 0.5}, [0.0, NAN, -INF], [0, NAN, -INF], [0.5, 0.5, 0.5]),
    ("elu", {"alpha": 2.0}, [0.0, NAN, INF, -INF], [0, NAN, INF, -2], [2, 1, 1, 0]),
    ("threshold", {"threshold": 0.5, "value": 3.0}, [0.5, NAN, -INF], [3, NAN, 3], [0, 1, 0]),
    ("softplus", {}, [20.5, 100.0, -INF, NAN], [20.5, 100, 0, NAN], [1, 1, 0, NAN]),
    ("logsigmoid", {}, [INF, -INF, 200.0, NAN], [0, -INF, 0, NAN], [0, 1, 0, NAN]),
    ("silu", {}, [INF, -200.0, NAN], [INF, 0, NAN], [NAN, 0, NAN]),
    ("mish", {}, [30.0, 400.0, -800.0, NAN], [30, 400, 0, NAN], [1, 1, 0, NAN]),
    ("gelu", {}, [40.0, -40.0, NAN], [40, 0, NAN], [1, 0, NAN]),
]


@pytest.mark.parametrize("name, options, points, values, slopes", KINKS, ids=[k[0] for k in KINKS])
def test_kinks_and_special_values(name, options, points, values, slopes):
    x = torch.tensor(points, dtype=torch.float64, requires_grad=True)
    y = getattr(F, name)(x, **options)
    y.backward(torch.ones_like(y))
    np.testing.assert_allclose(y.tolist(), values, atol=1e-80)
    np.testing.assert_allclose(x.grad.tolist(), slopes, atol=1e-80)


@pytest.mark.parametrize("name", ["elu", "mish", "gelu", "softplus"])
def test_second_derivatives_are_finite_far_out(name):
    x = torch.tensor([-800.0, 800.0], dtype=torch.float64, requires_grad=True)
    g, = torch.autograd.grad(getattr(F, name)(x).sum(), x, create_graph=True)
    h, = torch.autograd.grad(g.sum(), x)
    assert h.abs().max().item() < 1e-16


def test_masked_gradients_ignore_infinite_cotangents():
    x = torch.tensor([-1.0, 2.0], dtype=torch.float64, requires_grad=True)
    F.threshold(x, 0.0, 5.0).backward(torch.tensor([INF, 1.0], dtype=torch.float64))
    assert x.grad.tolist() == [0, 1]


# --- in place, integers, errors ---------------------------------------------------------------------------------------

IN_PLACE = ["relu", "relu6", "elu", "selu", "celu", "leaky_relu", "silu", "mish", "hardtanh", "hardsigmoid", "hardswish",
            "threshold"]


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place(name):
    options = TABLE[name][0]
    leaf = torch.from_numpy(POINTS.copy()).requires_grad_()
    expected = getattr(F, name)(leaf, **options)
    slope, = torch.autograd.grad(expected.sum(), leaf)
    x = leaf * 1
    address = x.data_ptr()
    assert getattr(F, name)(x, **options, inplace=True) is x and x.data_ptr() == address
    np.testing.assert_array_equal(x.detach().numpy(), expected.detach().numpy())
    x.sum().backward()
    np.testing.assert_array_equal(leaf.grad.numpy(), slope.numpy())
    if hasattr(F, name + "_"):
        y = torch.from_numpy(POINTS.copy())
        assert getattr(F, name + "_")(y, **options) is y
        np.testing.assert_array_equal(y.numpy(), expected.detach().numpy())


def test_public_names():
    x = torch.from_numpy(POINTS.copy())
    for name in ("selu", "celu", "rrelu", "hardshrink"):
        assert torch.equal(getattr(torch, name)(x), getattr(F, name)(x))
    assert torch.equal(torch.threshold(x, 0.1, 2.0), F.threshold(x, 0.1, 2.0))
    assert torch.equal(x.hardshrink(1.0), F.hardshrink(x, 1.0))
    weight = torch.tensor([0.3], dtype=torch.float64)
    assert torch.equal(torch.prelu(x, weight), x.prelu(weight)) and torch.equal(torch.relu(x), F.relu(x))
    for name in ("selu_", "celu_", "rrelu_"):
        y = x.clone()
        assert getattr(F, name)(y) is y and torch.equal(y, getattr(torch, name[:-1])(x))


def test_integers():
    x = torch.tensor([-9, -2, 3, 9])
    assert F.relu(x).tolist() == [0, 0, 3, 9] and F.relu6(x).tolist() == [0, 0, 3, 6]
    assert F.hardtanh(x, -4, 5).tolist() == [-4, -2, 3, 5] and F.threshold(x, 2.5, 7.5).tolist() == [7, 7, 3, 9]
    words = {"elu": "elu_cpu", "selu": "elu_cpu", "celu": "elu_cpu", "leaky_relu": "leaky_relu_cpu", "gelu": "GeluKernelImpl",
             "silu": "silu_cpu", "mish": "mish_cpu", "hardsigmoid": "hardsigmoid_cpu", "hardswish": "hardswish_cpu",
             "hardshrink": "hardshrink_cpu", "softshrink": "softshrink_check", "logsigmoid": "log_sigmoid_cpu",
             "softplus": "softplus_cpu", "rrelu": "leaky_relu_cpu"}
    for name, kernel in words.items():
        with pytest.raises(NotImplementedError, match=f"\"{kernel}\" not implemented for 'Long'"):
            getattr(F, name)(x)
    with pytest.raises(RuntimeError, match="cannot do hardtanh on an unsigned type with negative limits"):
        F.hardtanh(torch.tensor([3], dtype=torch.uint8))
    with pytest.raises(RuntimeError, match="Bool inputs not supported for hardtanh"):
        F.hardtanh(torch.tensor([True]))


def test_errors():
    x = torch.ones(2, 4)
    cases = [
        (lambda: F.hardtanh(x, 1.0, -1.0), ValueError, "min_val cannot be greater than max_val"),
        (lambda: nn.Hardtanh(1.0, -1.0), AssertionError, r"max_val \(-1.0\) must be greater than min_val \(1.0\)"),
        (lambda: F.celu(x, 0.0), RuntimeError, "alpha cannot be 0 for CELU"),
        (lambda: F.rrelu(x, 0.5, 0.1), RuntimeError, "Lower bound should be less than or equal to the upper bound"),
        (lambda: F.softshrink(x, -1.0), RuntimeError, r"lambda must be in range \[0, 3.40282e\+38\].*found -1"),
        (lambda: F.gelu(x, approximate="erf"), RuntimeError, "approximate argument must be either none or tanh"),
        (lambda: F.glu(torch.ones(3)), RuntimeError, "Halving dimension must be even, but dimension 0 is size 3"),
        (lambda: F.glu(torch.tensor(1.0)), RuntimeError, "glu does not support scalars"),
        (lambda: F.glu(x, 7), IndexError, "Dimension out of range"),
        (lambda: F.prelu(x, torch.ones(3)), RuntimeError, "parameter numbers = 3 and channel size = 4"),
        (lambda: F.prelu(x, torch.ones(2, 2)), RuntimeError, "scalar or 1D tensor, but got: ndim = 2"),
        (lambda: F.prelu(x, torch.ones(1, dtype=torch.float64)), RuntimeError, "supported. Got Float and Double"),
        (lambda: F.prelu(torch.tensor(1.0), torch.ones(2)), RuntimeError, "Not allow zero-dim input tensor"),
        (lambda: F.elu([1.0]), TypeError, r"elu\(\): argument 'input' \(position 1\) must be Tensor, not list"),
        (lambda: nn.Softmax2d()(x), ValueError, "expected input to be 3D or 4D, got 2D instead"),
    ]
    for call, error, words in cases:
        with pytest.raises(error, match=words):
            call()


# --- with weights, halves, random numbers -----------------------------------------------------------------------------

def test_prelu(rng):
    x = torch.from_numpy(rng.standard_normal((2, 3, 4))).requires_grad_()
    w = torch.from_numpy(rng.uniform(0.1, 0.9, 3)).requires_grad_()
    y = F.prelu(x, w)
    a = x.detach().numpy()
    np.testing.assert_array_equal(y.detach().numpy(), np.where(a > 0, a, a * w.detach().numpy()[:, None]))
    assert type(y.grad_fn).__name__ == "PreluKernelBackward0"
    assert gradcheck(F.prelu, (x, w)) and gradgradcheck(F.prelu, (x, w))
    module = nn.PReLU(3, init=0.5)
    assert module.weight.tolist() == [0.5] * 3 and list(module.state_dict()) == ["weight"]
    assert repr(module) == "PReLU(num_parameters=3)"


def test_glu(rng):
    a = rng.standard_normal((3, 4, 2))
    x = torch.from_numpy(a).requires_grad_()
    np.testing.assert_allclose(F.glu(x, 1).detach().numpy(), a[:, :2] * special.expit(a[:, 2:]), rtol=1e-14)
    assert gradcheck(lambda v: F.glu(v, 1), (x,)) and gradgradcheck(lambda v: F.glu(v, 1), (x,))
    assert F.glu(x).shape == (3, 4, 1)


def test_rrelu_in_training():
    x = -torch.ones(20_000, dtype=torch.float64)
    x.requires_grad_()
    y = F.rrelu(x, 0.2, 0.6, training=True)
    slopes = -y.detach().numpy()
    assert slopes.min() >= 0.2 and slopes.max() <= 0.6 and abs(slopes.mean() - 0.4) < 0.005 and abs(slopes.std() - 0.1155) < 0.003
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), slopes)
    module = nn.RReLU(0.2, 0.6)
    torch.manual_seed(1)
    first = module(x)
    torch.manual_seed(1)
    assert torch.equal(first, module(x)) and not torch.equal(first, module(x))
    assert module.eval()(x)[0].item() == pytest.approx(-0.4)


def test_gumbel_softmax():
    logits = torch.tensor([[1.0, 2.0, 0.0]], dtype=torch.float64).expand(6000, 3)
    soft = F.gumbel_softmax(logits, tau=0.7)
    np.testing.assert_allclose(soft.sum(1).numpy(), 1)
    hard = F.gumbel_softmax(logits, hard=True)
    assert set(hard.round(decimals=9).unique().tolist()) == {0.0, 1.0}
    np.testing.assert_allclose(hard.mean(0).numpy(), special.softmax([1.0, 2.0, 0.0]), atol=0.03)
    x = torch.randn(4, 3, requires_grad=True)
    F.gumbel_softmax(x, hard=True)[:, 0].sum().backward()
    assert x.grad.abs().sum() > 0
    with pytest.warns(UserWarning, match="`eps` parameter is deprecated"):
        F.gumbel_softmax(logits, eps=1e-3)


# --- modules ----------------------------------------------------------------------------------------------------------

REPRS = [
    (lambda: nn.ReLU(inplace=True), "ReLU(inplace=True)"), (lambda: nn.ReLU6(), "ReLU6()"), (lambda: nn.ELU(0.5), "ELU(alpha=0.5)"),
    (lambda: nn.CELU(inplace=True), "CELU(alpha=1.0, inplace=True)"), (lambda: nn.SELU(), "SELU()"), (lambda: nn.Mish(), "Mish()"),
    (lambda: nn.LeakyReLU(), "LeakyReLU(negative_slope=0.01)"), (lambda: nn.GELU("tanh"), "GELU(approximate='tanh')"),
    (lambda: nn.RReLU(), "RReLU(lower=0.125, upper=0.3333333333333333)"), (lambda: nn.SiLU(), "SiLU()"),
    (lambda: nn.Hardtanh(-2.0, 2.0), "Hardtanh(min_val=-2.0, max_val=2.0)"), (lambda: nn.Hardshrink(), "Hardshrink(0.5)"),
    (lambda: nn.Softshrink(1.0), "Softshrink(1.0)"), (lambda: nn.Softplus(), "Softplus(beta=1.0, threshold=20.0)"),
    (lambda: nn.Threshold(0.1, 20), "Threshold(threshold=0.1, value=20)"), (lambda: nn.GLU(), "GLU(dim=-1)"),
    (lambda: nn.Softmax(dim=1), "Softmax(dim=1)"), (lambda: nn.LogSoftmax(dim=0), "LogSoftmax(dim=0)"),
    (lambda: nn.Softmin(), "Softmin(dim=None)"),
    (lambda: nn.Hardswish(), "Hardswish()"), (lambda: nn.Hardsigmoid(), "Hardsigmoid()"), (lambda: nn.Sigmoid(), "Sigmoid()"),
    (lambda: nn.Tanh(), "Tanh()"), (lambda: nn.LogSigmoid(), "LogSigmoid()"), (lambda: nn.Softsign(), "Softsign()"),
    (lambda: nn.Tanhshrink(), "Tanhshrink()"), (lambda: nn.Softmax2d(), "Softmax2d()"),
]


@pytest.mark.parametrize("build, text", REPRS, ids=[r[1].split("(")[0] for r in REPRS])
def test_modules_print_and_compute_as_their_functions(build, text):
    module = build().eval()
    assert repr(module) == text
    name = type(module).__name__
    x = torch.from_numpy(np.linspace(-4.05, 4.1, 24).reshape(1, 2, 3, 4))
    function = {"LeakyReLU": "leaky_relu", "LogSoftmax": "log_softmax", "Softmax2d": "softmax"}.get(name, name.lower())
    names = ("alpha", "negative_slope", "lower", "upper", "min_val", "max_val", "lambd", "beta", "threshold", "value",
             "approximate", "dim")
    options = {n: vars(module)[n] for n in names if n in vars(module) and name != "ReLU6"}
    options.update({"Softmax2d": {"dim": 1}, "Softmin": {"dim": 0}}.get(name, {}))
    if name == "Softmin":
        module.dim = 0
    assert torch.equal(getattr(F, function)(x, **options), module(x.clone()))


def test_adaptive_log_softmax(rng):
    module = nn.AdaptiveLogSoftmaxWithLoss(8, 12, cutoffs=[3, 7], div_value=2.0, dtype=torch.float64)
    assert list(module.state_dict()) == ["head.weight", "tail.0.0.weight", "tail.0.1.weight", "tail.1.0.weight", "tail.1.1.weight"]
    x = torch.from_numpy(rng.standard_normal((20, 8)) * 3).requires_grad_()
    log_p = module.log_prob(x)
    np.testing.assert_allclose(log_p.exp().sum(1).detach().numpy(), 1)
    head = special.log_softmax(x.detach().numpy() @ module.head.weight.detach().numpy().T, axis=1)
    first, second = (layer.weight.detach().numpy() for layer in module.tail[1])
    tail = special.log_softmax(x.detach().numpy() @ first.T @ second.T, axis=1) + head[:, 4:5]
    np.testing.assert_allclose(log_p.detach().numpy(), np.concatenate([head[:, :3], log_p[:, 3:7].detach().numpy(), tail], 1))
    target = torch.from_numpy(rng.integers(0, 12, 20))
    result = module(x, target)
    np.testing.assert_allclose(result.output.detach().numpy(), log_p.detach().numpy()[np.arange(20), target.numpy()])
    assert result.loss.item() == pytest.approx(-result.output.mean().item())
    result.loss.backward()
    assert all(p.grad is not None for p in module.parameters()) and x.grad.abs().sum() > 0
    assert torch.equal(module.predict(x), log_p.argmax(dim=1))
    single = module(x[0], target[0])
    assert single.output.shape == () and single.output.item() == pytest.approx(result.output[0].item())
    with pytest.raises(RuntimeError, match=r"Target values should be in \[0, 11\]"):
        module(x, target + 12)
    with pytest.raises(ValueError, match="unique, positive integers sorted"):
        nn.AdaptiveLogSoftmaxWithLoss(8, 12, cutoffs=[7, 3])
