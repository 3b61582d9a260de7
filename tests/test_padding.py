"""pad in its four modes against numpy.pad, with negative sizes, gradients to second order, layers and errors."""
import numpy as np
import pytest

import engine
from engine import nn
from engine.autograd import gradcheck, gradgradcheck
from engine.nn import functional as F

NUMPY = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
CASES = [((2, 3, 6), (1, 2)), ((3, 6), (5, 0)), ((2, 3, 5, 6), (1, 2, 3, 4)), ((3, 5, 6), (0, 0, 1, 1)),
         ((1, 2, 4, 5, 6), (1, 2, 3, 4, 2, 1))]


def by_numpy(x, pad, mode, **options):
    pairs = list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    return np.pad(x, [(0, 0)] * (x.ndim - len(pairs)) + pairs, NUMPY[mode], **options)


@pytest.mark.parametrize("mode", NUMPY)
@pytest.mark.parametrize("shape, pad", CASES)
def test_values(shape, pad, mode, rng):
    x = rng.standard_normal(shape)
    np.testing.assert_array_equal(F.pad(engine.tensor(x), pad, mode).numpy(), by_numpy(x, pad, mode))
    turned = engine.tensor(np.ascontiguousarray(x.T)).permute(*range(x.ndim)[::-1])
    np.testing.assert_array_equal(F.pad(turned, pad, mode).numpy(), by_numpy(x, pad, mode))


def test_constant_takes_any_dimensions_dtypes_and_negative_sizes(rng):
    x = rng.integers(0, 9, (3, 4))
    assert F.pad(engine.tensor(x), (1, 1), value=1.5).tolist() == by_numpy(x, (1, 1), "constant", constant_values=1).tolist()
    assert F.pad(engine.tensor(x > 4), (0, 1), value=True).tolist() == by_numpy(x > 4, (0, 1), "constant",
                                                                                constant_values=True).tolist()
    y = F.pad(engine.tensor(x), (-1, 2, -1, -1), value=7)
    np.testing.assert_array_equal(y.numpy(), np.pad(x[1:-1, 1:], ((0, 0), (0, 2)), constant_values=7))
    assert F.pad(engine.tensor(x), (-2, -2)).shape == (3, 0) and F.pad(engine.ones(0, 2), (1, 1)).shape == (0, 4)
    same = engine.tensor(x)
    copy = F.pad(same, (0, 0))
    assert copy.data_ptr() != same.data_ptr() and copy.tolist() == same.tolist()


def test_negative_sizes_of_other_modes(rng):
    x = engine.tensor(rng.standard_normal((2, 6)))
    X = x.numpy()
    for mode in ("reflect", "replicate"):
        np.testing.assert_array_equal(F.pad(x, (-1, 2), mode).numpy(), by_numpy(X, (0, 2), mode)[:, 1:])
    np.testing.assert_array_equal(F.pad(x, (-1, 2), "circular").numpy(), by_numpy(X[:, 1:], (0, 2), "circular"))
    np.testing.assert_array_equal(F.pad(x, (70, 1), "replicate").numpy(), by_numpy(X, (70, 1), "replicate"))


@pytest.mark.parametrize("mode", NUMPY)
@pytest.mark.parametrize("shape, pad", [((2, 3, 4), (2, 3)), ((1, 3, 4), (2, 1, 1, 2)), ((2, 2, 3, 2), (1, 1, 0, 2, 1, 1)),
                                        ((2, 5), (-1, 2))])
def test_gradients(shape, pad, mode, rng):
    x = engine.tensor(rng.standard_normal(shape), requires_grad=True)
    assert gradcheck(lambda x: F.pad(x, pad, mode), (x,))
    assert gradgradcheck(lambda x: F.pad(x, pad, mode) ** 2, (x,))


def test_names_of_nodes(rng):
    x = engine.ones(2, 3, 4, requires_grad=True)
    for mode, name in (("constant", "ConstantPadNdBackward0"), ("reflect", "ReflectionPad1DBackward0"),
                       ("replicate", "ReplicationPad1DBackward0")):
        assert type(F.pad(x, (1, 1), mode).grad_fn).__name__ == name
    assert type(F.pad(x, (1, 1, 1, 1), "reflect").grad_fn).__name__ == "ReflectionPad2DBackward0"


@pytest.mark.parametrize("layer, mode, text", [
    (nn.ConstantPad1d(2, 3.5), "constant", "ConstantPad1d(padding=(2, 2), value=3.5)"),
    (nn.ConstantPad2d((1, 2, 0, 1), 0), "constant", "ConstantPad2d(padding=(1, 2, 0, 1), value=0)"),
    (nn.ConstantPad3d(1, 1.0), "constant", "ConstantPad3d(padding=(1, 1, 1, 1, 1, 1), value=1.0)"),
    (nn.ZeroPad1d(1), "constant", "ZeroPad1d((1, 1))"), (nn.ZeroPad2d((1, 2, 0, 1)), "constant", "ZeroPad2d((1, 2, 0, 1))"),
    (nn.ZeroPad3d(1), "constant", "ZeroPad3d((1, 1, 1, 1, 1, 1))"),
    (nn.ReflectionPad1d((1, 2)), "reflect", "ReflectionPad1d((1, 2))"),
    (nn.ReflectionPad2d(2), "reflect", "ReflectionPad2d((2, 2, 2, 2))"),
    (nn.ReflectionPad3d(1), "reflect", "ReflectionPad3d((1, 1, 1, 1, 1, 1))"),
    (nn.ReplicationPad1d(2), "replicate", "ReplicationPad1d((2, 2))"),
    (nn.ReplicationPad2d(1), "replicate", "ReplicationPad2d((1, 1, 1, 1))"),
    (nn.ReplicationPad3d(1), "replicate", "ReplicationPad3d((1, 1, 1, 1, 1, 1))"),
    (nn.CircularPad1d((1, 0)), "circular", "CircularPad1d((1, 0))"),
    (nn.CircularPad2d(1), "circular", "CircularPad2d((1, 1, 1, 1))"),
    (nn.CircularPad3d(1), "circular", "CircularPad3d((1, 1, 1, 1, 1, 1))"),
], ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "")
def test_layers(layer, mode, text, rng):
    assert repr(layer) == text
    x = rng.standard_normal((1, 2, 3, 4, 5)[-(len(layer.padding) // 2 + 2):])
    options = {"constant_values": getattr(layer, "value", 0)} if mode == "constant" else {}
    np.testing.assert_array_equal(layer(engine.tensor(x)).numpy(), by_numpy(x, layer.padding, mode, **options))


@pytest.mark.parametrize("call, error, words", [
    (lambda x: F.pad(x, (1,)), RuntimeError, "Padding length must be divisible by 2"),
    (lambda x: F.pad(x, (1,) * 8), RuntimeError, "less than or equal to two times the input dimension but got padding length 8"),
    (lambda x: F.pad(x, (-4, -3)), RuntimeError, r"narrow\(\): length must be non-negative."),
    (lambda x: F.pad(x, (1, 1), "reflect", 1.0), RuntimeError, "Padding mode \"reflect\" doesn't take in value argument"),
    (lambda x: F.pad(x, (1, 1), "nonsense"), NotImplementedError, "Unrecognised padding mode nonsense"),
    (lambda x: F.pad(x[None], (1, 1), "reflect"), NotImplementedError, "Padding size 2 is not supported for 4D input tensor"),
    (lambda x: F.pad(x, (6, 1), "reflect"), RuntimeError, r"Argument #4: Padding size should be less than the corresponding input "
                                                         r"dimension, but got: padding \(6, 1\) at dimension 2 of input \[2, "
                                                         r"3, 6\]"),
    (lambda x: F.pad(x, (7, 1), "circular"), RuntimeError, "Padding value causes wrapping around more than once."),
    (lambda x: F.pad(x, (-5, -1), "replicate"), RuntimeError, r"input \(W: 6\) is too small. Calculated output W: 0"),
    (lambda x: F.pad(x[0] > 0, (1, 1), "reflect"), NotImplementedError, "\"reflection_pad1d\" not implemented for 'Bool'"),
    (lambda x: F.pad(x[0, :, :0], (1, 1), "replicate"), RuntimeError, r"other non-zero dimensions for input, but got: \[3, 0\]"),
    (lambda x: nn.CircularPad2d(1)(x[0]), ValueError, r"expected 3D or 4D input \(got 2D input\)"),
])
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call(engine.ones(2, 3, 6))
