"""embedding and embedding_bag: values against NumPy's indexing, gradients against dense formulas, options, errors."""
import numpy as np
import pytest

import engine
from engine import nn
from engine.autograd import gradcheck, gradgradcheck
from engine.nn import functional as F

INDEX = np.array([[0, 1, 4], [2, 1, 1]])


@pytest.fixture
def weight(rng):
    return engine.tensor(rng.standard_normal((5, 3)), requires_grad=True)


def added(rows, cotangents, index, share=None):
    """The gradient of a table: cotangents added to the rows of their indices."""
    total = np.zeros((rows, cotangents.shape[-1]))
    np.add.at(total, index, cotangents if share is None else cotangents * share[..., None])
    return total


def test_rows_and_their_gradients(weight, rng):
    g = rng.standard_normal((2, 3, 3))
    for index in (engine.tensor(INDEX), engine.tensor(INDEX).int(), engine.tensor(INDEX.T.copy()).T):
        y = F.embedding(index, weight)
        np.testing.assert_array_equal(y.detach().numpy(), weight.detach().numpy()[INDEX])
        grad, = engine.autograd.grad(y, weight, engine.tensor(g))
        np.testing.assert_allclose(grad.numpy(), added(5, g, INDEX), rtol=1e-12)
    assert type(y.grad_fn).__name__ == "EmbeddingBackward0"
    assert F.embedding(engine.tensor(2), weight).shape == (3,) and F.embedding(engine.tensor(INDEX[:0]), weight).shape == (0, 3, 3)
    assert gradcheck(lambda w: F.embedding(engine.tensor(INDEX), w) ** 2, (weight,))
    assert gradgradcheck(lambda w: F.embedding(engine.tensor(INDEX), w, padding_idx=1) ** 2, (weight,))


def test_padding_and_frequency(weight, rng):
    g, index = rng.standard_normal((2, 3, 3)), engine.tensor(INDEX)
    for padding in (1, -4):
        grad, = engine.autograd.grad(F.embedding(index, weight, padding), weight, engine.tensor(g))
        np.testing.assert_allclose(grad.numpy(), added(5, g, INDEX, (INDEX != 1) * 1.0), rtol=1e-12)
    counts = np.bincount(INDEX.ravel(), minlength=5)
    grad, = engine.autograd.grad(F.embedding(index, weight, scale_grad_by_freq=True), weight, engine.tensor(g))
    np.testing.assert_allclose(grad.numpy(), added(5, g, INDEX, 1 / counts[INDEX]), rtol=1e-12)


def test_max_norm_scales_the_rows_in_use(weight):
    before = weight.detach().numpy().copy()
    y = F.embedding(engine.tensor([0, 2, 2]), weight, max_norm=0.5, norm_type=1.0)
    expected = before.copy()
    for row in (0, 2):
        norm = np.abs(before[row]).sum()
        expected[row] *= 0.5 / (norm + 1e-7) if norm > 0.5 else 1
    np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(y.detach().numpy(), expected[[0, 2, 2]], rtol=1e-12)
    y.sum().backward()
    assert weight.grad[2].tolist() == [2, 2, 2]


def test_sparse_is_dense_and_says_so(weight):
    with pytest.warns(UserWarning, match="the gradient of weight is dense"):
        y = F.embedding(engine.tensor(INDEX), weight, sparse=True)
    y.sum().backward()
    assert tuple(weight.grad.shape) == (5, 3)


# --- bags -------------------------------------------------------------------------------------------------------------

BAGS = {"matrix": (INDEX, None, False), "offsets": (INDEX.ravel(), [0, 2, 2, 5], False), "last": (INDEX.ravel(), [0, 2, 5], True),
        "empty at the end": (INDEX.ravel(), [0, 4, 6], False)}


def members(index, offsets, last):
    """The positions of each bag in the flat index."""
    if offsets is None:
        return list(np.arange(index.size).reshape(index.shape))
    ends = offsets[1:] if last else [*offsets[1:], index.size]
    return [np.arange(a, b) for a, b in zip(offsets, ends, strict=False)]


@pytest.mark.parametrize("bags", BAGS)
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding", [None, 1])
def test_bags(mode, bags, padding, weight, rng):
    index, offsets, last = BAGS[bags]
    given = None if offsets is None else engine.tensor(offsets)
    y = F.embedding_bag(engine.tensor(index), weight, given, mode=mode, include_last_offset=last, padding_idx=padding)
    W, flat = weight.detach().numpy(), index.ravel()
    g = rng.standard_normal(y.shape)
    expected, grad = np.zeros(y.shape), np.zeros(W.shape)
    for k, bag in enumerate(members(index, offsets, last)):
        rows = [r for r in flat[bag] if r != padding]
        if not rows:
            continue
        if mode == "max":
            expected[k] = W[rows].max(0)
            for c in range(3):
                grad[rows[int(W[rows, c].argmax())], c] += g[k, c]
        else:
            share = len(rows) if mode == "mean" else 1
            expected[k] = W[rows].sum(0) / share
            np.add.at(grad, rows, g[k] / share)
    np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-12, atol=1e-15)
    seen, = engine.autograd.grad(y, weight, engine.tensor(g))
    np.testing.assert_allclose(seen.numpy(), grad, rtol=1e-12, atol=1e-14)
    assert type(y.grad_fn).__name__ == "EmbeddingBagBackward0"


def test_weights_of_samples(weight, rng):
    index, factors = engine.tensor(INDEX), engine.tensor(rng.standard_normal((2, 3)), requires_grad=True)
    y = F.embedding_bag(index, weight, mode="sum", per_sample_weights=factors)
    np.testing.assert_allclose(y.detach().numpy(),
                               np.einsum("bi,bic->bc", factors.detach().numpy(), weight.detach().numpy()[INDEX]),
                               rtol=1e-12)

    def function(w, f):
        return F.embedding_bag(index, w, mode="sum", per_sample_weights=f, padding_idx=1)
    assert gradcheck(function, (weight, factors)) and gradgradcheck(function, (weight, factors))
    for mode in ("mean", "max"):
        assert gradgradcheck(lambda w, mode=mode: F.embedding_bag(index, w, mode=mode) ** 2, (weight,))


def test_bags_by_frequency(weight, rng):
    g = rng.standard_normal((2, 3))
    y = F.embedding_bag(engine.tensor(INDEX), weight, mode="sum", scale_grad_by_freq=True)
    seen, = engine.autograd.grad(y, weight, engine.tensor(g))
    counts = np.bincount(INDEX.ravel(), minlength=5)
    np.testing.assert_allclose(seen.numpy(), added(5, np.repeat(g[:, None], 3, 1), INDEX, 1 / counts[INDEX]), rtol=1e-12)


# --- modules ----------------------------------------------------------------------------------------------------------

def test_layers(rng):
    layer = nn.Embedding(6, 2, padding_idx=-1, max_norm=2.0)
    assert repr(layer) == "Embedding(6, 2, padding_idx=5, max_norm=2.0)" and list(layer.state_dict()) == ["weight"]
    assert layer.weight[5].tolist() == [0, 0] and layer.weight[:5].abs().sum() > 0
    table = engine.tensor(rng.standard_normal((4, 3)))
    frozen = nn.Embedding.from_pretrained(table)
    assert not frozen.weight.requires_grad and frozen.weight.data_ptr() == table.data_ptr()
    np.testing.assert_array_equal(frozen(engine.tensor([3, 0])).numpy(), table.numpy()[[3, 0]])
    bag = nn.EmbeddingBag.from_pretrained(table, freeze=False, mode="sum")
    assert repr(bag) == "EmbeddingBag(4, 3, mode='sum')" and bag.weight.requires_grad
    np.testing.assert_allclose(bag(engine.tensor([3, 0, 1]), engine.tensor([0, 2])).detach().numpy(),
                               np.stack([table.numpy()[[3, 0]].sum(0), table.numpy()[1]]), rtol=1e-12)
    numbers = nn.Embedding(400, 50).weight
    assert abs(numbers.mean().item()) < 0.05 and abs(numbers.std().item() - 1) < 0.05


TABLE, ROW = engine.ones(5, 3), engine.tensor([0, 1])


@pytest.mark.parametrize("call, error, words", [
    (lambda: F.embedding(engine.tensor([5]), TABLE), IndexError, "index out of range in self"),
    (lambda: F.embedding(engine.tensor([-1]), TABLE), IndexError, "index out of range in self"),
    (lambda: F.embedding(engine.tensor([1.0]), TABLE), RuntimeError,
     "one of the following scalar types: Long, Int; but got engine.FloatTensor"),
    (lambda: F.embedding(ROW, engine.ones(3)), RuntimeError, "'weight' must be 2-D"),
    (lambda: F.embedding(ROW, TABLE, 5), AssertionError, "Padding_idx must be within num_embeddings"),
    (lambda: nn.Embedding(3, 2, padding_idx=3), AssertionError, "Padding_idx must be within num_embeddings"),
    (lambda: nn.Embedding.from_pretrained(engine.ones(3)), AssertionError, "expected to be 2-dimensional"),
    (lambda: F.embedding_bag(ROW, TABLE), ValueError, "offsets has to be a 1D Tensor but got None"),
    (lambda: F.embedding_bag(ROW[None], TABLE, ROW), ValueError, "if input is 2D, then offsets has to be None"),
    (lambda: F.embedding_bag(ROW[None, None], TABLE), ValueError, "input has to be 1D or 2D Tensor, but got Tensor of dimension 3"),
    (lambda: F.embedding_bag(ROW, TABLE, engine.tensor([1])), RuntimeError, r"offsets\[0\] has to be 0"),
    (lambda: F.embedding_bag(ROW, TABLE, engine.tensor([0, 5])), RuntimeError,
     r"offsets\[-1\] can not be greater than input's length 2"),
    (lambda: F.embedding_bag(ROW, TABLE, engine.tensor([0, 2, 1])), RuntimeError, "offsets have to increase"),
    (lambda: F.embedding_bag(ROW, TABLE, ROW[:0], include_last_offset=True), RuntimeError, "number of offset should be at least 1"),
    (lambda: F.embedding_bag(ROW[None] + 4, TABLE), RuntimeError,
     r"Index 1 of input takes value 5 which is not in the valid range \[0, 5\)"),
    (lambda: F.embedding_bag(ROW[None], TABLE, mode="x"), ValueError, "mode has to be one of sum, mean or max"),
    (lambda: F.embedding_bag(ROW[None], TABLE, per_sample_weights=engine.ones(1, 2)), NotImplementedError,
     "only supported for mode='sum'"),
    (lambda: F.embedding_bag(ROW[None], TABLE, per_sample_weights=engine.ones(2)), ValueError, "same shape as the input"),
    (lambda: F.embedding_bag(ROW[None], TABLE, mode="max", scale_grad_by_freq=True), ValueError,
     "max mode does not support scaling"),
])
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()
