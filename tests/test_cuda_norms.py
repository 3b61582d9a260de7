"""Normalisation, class losses, norms and logsumexp on the emulated device beside the CPU, with first and second derivatives."""
import numpy as np
import pytest
from cuda_checks import needs_numba_cuda

import engine
from engine import device_arrays
from engine.nn import functional as F

pytestmark = [needs_numba_cuda, pytest.mark.usefixtures("emulated", "nothing_on_the_host")]


@pytest.fixture
def nothing_on_the_host(monkeypatch):
    """Whatever goes over the host fails the test."""
    def refuse(function, *rest, **options):
        raise AssertionError(f"{function} ran on the host")
    monkeypatch.setattr(device_arrays, "on_host", refuse)


def both(fun, *arrays, rtol=1e-12, twice=True):
    """A function's values and derivatives on the device are the CPU's."""
    answers = []
    for place in ("cpu", "cuda"):
        tensors = [engine.tensor(a).to(place) for a in arrays]
        leaves = [t.requires_grad_() for t in tensors if t.is_floating_point()]
        y = fun(*tensors)
        assert y.device.type == place
        found = [y, *engine.autograd.grad((y * y * 0.5 + y).sum(), leaves, create_graph=twice)]
        if twice and any(g.requires_grad for g in found[1:]):
            found += engine.autograd.grad(sum((g * g).sum() for g in found[1:]), leaves, allow_unused=True)
        answers.append([None if t is None else t.detach().cpu().numpy() for t in found])
    for theirs, ours in zip(*answers, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert ours.dtype == theirs.dtype
            np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=10 * rtol)
    return answers[1][0]


NORMS = {
    "layer": lambda x, w, b: F.layer_norm(x, (5,), w[:5], b[:5]),
    "layer, two dimensions": lambda x, w, b: F.layer_norm(x, (6, 5)) * w[0] * b[0],
    "rms": lambda x, w, b: F.rms_norm(x, (5,), w[:5]) * b[0],
    "batch": lambda x, w, b: F.batch_norm(x, None, None, w, b, True),
    "batch, given": lambda x, w, b: F.batch_norm(x, b.detach(), w.detach() ** 2, w, None, False) * b[0],
    "batch of a matrix": lambda x, w, b: F.batch_norm(x[:, :, 0], None, None, w, b, True),
    "group": lambda x, w, b: F.group_norm(x, 3, w, b),
    "instance": lambda x, w, b: F.instance_norm(x, None, None, w, b),
}


@pytest.mark.parametrize("name", NORMS)
def test_normalisation(name, rng):
    x, w, b = rng.standard_normal((4, 6, 5)), rng.uniform(0.5, 1.5, 6), rng.standard_normal(6)
    both(NORMS[name], x, w, b)


def test_normalisation_in_other_dtypes_and_layouts(rng):
    x, w = rng.standard_normal((4, 6, 5)), rng.uniform(0.5, 1.5, 5)
    found = both(lambda x, w: F.layer_norm(x, (5,), w), x.astype("f4"), w.astype("f4"), rtol=1e-4, twice=False)
    want = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * w
    np.testing.assert_allclose(found, want, rtol=2e-5, atol=2e-5)
    half = both(lambda x: F.layer_norm(x, (6,)), x[:, :, 0].astype("f2"), rtol=4e-3, twice=False)
    assert half.dtype == np.float16
    both(lambda x: F.group_norm(x.transpose(1, 2), 5), x, twice=False)
    running = [engine.zeros(6, dtype=engine.float64), engine.ones(6, dtype=engine.float64)]
    there = [t.cuda() for t in running]
    F.batch_norm(engine.tensor(x), *running, training=True)
    F.batch_norm(engine.tensor(x).cuda(), *there, training=True)
    for ours, theirs in zip(there, running, strict=True):
        np.testing.assert_allclose(ours.cpu().numpy(), theirs.numpy(), rtol=1e-12)


def test_running_statistics_may_change_before_the_way_back(rng):
    x, g = rng.standard_normal((4, 6, 5)), rng.standard_normal((4, 6, 5))

    def changed(x, mean, variance, weight):
        y = F.batch_norm(x, mean, variance, weight, None, False)
        with engine.no_grad():
            mean.add_(3.0)
            variance.mul_(4.0)
        return y
    found = []
    for place in ("cpu", "cuda"):
        leaf, weight = (engine.tensor(a).to(place).requires_grad_() for a in (x, np.ones(6)))
        mean, variance = (engine.tensor(a).to(place) for a in (np.arange(6.0), np.full(6, 2.0)))
        y = changed(leaf, mean, variance, weight)
        y.backward(engine.tensor(g).to(place))
        found.append((leaf.grad.cpu().numpy(), weight.grad.cpu().numpy()))
    for theirs, ours in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_class_losses(reduction, rng):
    x, classes, weight = rng.standard_normal((4, 6, 5)), rng.integers(0, 6, (4, 5)), rng.uniform(0.5, 1.5, 6)
    classes[0, 0] = -100
    both(lambda x, t: F.cross_entropy(x, t, reduction=reduction), x, classes)
    both(lambda x, t, w: F.cross_entropy(x, t, w.detach(), reduction=reduction) * w[0], x[:, :, 0], classes[:, 0], weight)
    both(lambda x, t: F.nll_loss(F.log_softmax(x, 1), t, ignore_index=2, reduction=reduction), x, np.where(classes < 0, 2, classes))
    both(lambda x, t: F.cross_entropy(x, t, reduction=reduction), x[:, :, 0].astype("f2"), classes[:, 0], rtol=4e-3, twice=False)


def test_targets_are_checked(rng):
    x = engine.tensor(rng.standard_normal((4, 6))).cuda()
    for loss in (F.cross_entropy, F.nll_loss):
        with pytest.raises(IndexError, match="Target 6 is out of bounds"):
            loss(x, engine.tensor([0, 1, 6, 2]).cuda())
        with pytest.raises(IndexError, match="Target -1 is out of bounds"):
            loss(x, engine.tensor([0, 1, -1, 2]).cuda())
    assert np.isnan(F.cross_entropy(x[:0], engine.zeros(0, dtype=engine.int64, device="cuda")).item())
    one = F.cross_entropy(x[0], engine.tensor(2).cuda()).item()
    assert one == pytest.approx(F.cross_entropy(x[0].cpu(), engine.tensor(2)).item())


@pytest.mark.parametrize("p", [3, 2, 0.5, float("inf"), 0])
def test_vector_norm(p, rng):
    x = rng.standard_normal((4, 3, 5))
    for dim in (None, 1, (0, 2)):
        found = both(lambda x, dim=dim: engine.linalg.vector_norm(x, p, dim=dim), x)
        if p > 0 and dim == 1:
            np.testing.assert_allclose(found, np.linalg.norm(x, p, axis=1), rtol=1e-12)


def test_logsumexp(rng):
    x = rng.standard_normal((4, 3, 5)) * 50
    found = both(lambda x: engine.logsumexp(x, 1), x)
    np.testing.assert_allclose(found, np.logaddexp.reduce(x, axis=1), rtol=1e-12)
    both(lambda x: engine.logsumexp(x, (0, 2), keepdim=True), x)
    assert engine.logsumexp(engine.zeros(3, 0, device="cuda"), 1).tolist() == [-np.inf] * 3
