"""Losses against their formulas in NumPy: values for each reduction, derivatives by differences, options, targets, errors, CTC.

CTC is checked against the sum over all alignments. Generic checks of the pointwise records are in test_book.py.
"""
import itertools
import math

import numpy as np
import pytest
from scipy import special

import engine as torch
import engine.nn as nn
import engine.nn.functional as F
from engine.autograd import gradcheck, gradgradcheck

SHAPE = (4, 3)


def draw(rng):
    """Operands by letter: x, y real, p, q probabilities, k counts, s signs, v variances, i class indices."""
    return {"x": rng.standard_normal(SHAPE) * 2, "y": rng.standard_normal(SHAPE) * 2, "z": rng.standard_normal(SHAPE),
            "p": rng.uniform(0.05, 0.95, SHAPE), "q": rng.uniform(0.05, 0.95, SHAPE), "k": rng.integers(0, 6, SHAPE).astype(float),
            "s": rng.choice([-1.0, 1.0], SHAPE), "v": rng.uniform(0.3, 2.0, SHAPE), "r": rng.choice([-1.0, 1.0], SHAPE[0])}


def cosine(x, y):
    return (x * y).sum(1) / np.sqrt((x * x).sum(1) * (y * y).sum(1))


def distance(x, y, p=2.0):
    return (np.abs(x - y + 1e-6) ** p).sum(1) ** (1 / p)


def bce(p, q):
    return -(q * np.log(p) + (1 - q) * np.log1p(-p))


def huber(d, delta):
    return np.where(np.abs(d) < delta, 0.5 * d * d, delta * (np.abs(d) - 0.5 * delta))


# name -> (letters of its operands, options, elements by formula, operands with a derivative, module, node of the mean)
TABLE = {
    "mse_loss": ("xy", {}, lambda x, y: (x - y) ** 2, 2, nn.MSELoss, "MseLoss"),
    "l1_loss": ("xy", {}, lambda x, y: np.abs(x - y), 2, nn.L1Loss, "Mean"),
    "smooth_l1_loss": ("xy", {"beta": 0.6}, lambda x, y: huber(x - y, 0.6) / 0.6, 2, nn.SmoothL1Loss, "SmoothL1Loss"),
    "huber_loss": ("xy", {"delta": 0.6}, lambda x, y: huber(x - y, 0.6), 2, nn.HuberLoss, "HuberLoss"),
    "binary_cross_entropy": ("pq", {}, bce, 2, nn.BCELoss, "BinaryCrossEntropy"),
    "binary_cross_entropy_with_logits": ("xq", {}, lambda x, q: bce(special.expit(x), q), 2, nn.BCEWithLogitsLoss,
                                         "BinaryCrossEntropyWithLogits"),
    "kl_div": ("xq", {}, lambda x, q: q * (np.log(q) - x), 2, nn.KLDivLoss, "Mean"),
    "poisson_nll_loss": ("xk", {}, lambda x, k: np.exp(x) - k * x, 1, nn.PoissonNLLLoss, "Mean"),
    "gaussian_nll_loss": ("xyv", {"full": True}, lambda x, y, v: 0.5 * (np.log(2 * np.pi * v) + (x - y) ** 2 / v), 3,
                          nn.GaussianNLLLoss, "Mean"),
    "hinge_embedding_loss": ("xs", {"margin": 0.8}, lambda x, s: np.where(s == 1, x, np.maximum(0, 0.8 - x)), 1,
                             nn.HingeEmbeddingLoss, "Mean"),
    "soft_margin_loss": ("xs", {}, lambda x, s: np.log1p(np.exp(-s * x)), 1, nn.SoftMarginLoss, "SoftMarginLoss"),
    "margin_ranking_loss": ("xys", {"margin": 0.3}, lambda x, y, s: np.maximum(0, 0.3 - s * (x - y)), 2,
                            nn.MarginRankingLoss, "Mean"),
    "cosine_embedding_loss": ("xyr", {"margin": 0.1}, lambda x, y, r: np.where(
        r == 1, 1 - cosine(x, y), np.maximum(0, cosine(x, y) - 0.1)), 2, nn.CosineEmbeddingLoss, "Mean"),
    "triplet_margin_loss": ("xyz", {"margin": 3.0}, lambda x, y, z: np.maximum(0, 3 + distance(x, y) - distance(x, z)), 3,
                            nn.TripletMarginLoss, "Mean"),
    "triplet_margin_with_distance_loss": ("xyz", {"margin": 3.0}, lambda x, y, z: np.maximum(
        0, 3 + distance(x, y) - distance(x, z)), 3, nn.TripletMarginWithDistanceLoss, "Mean"),
    "multilabel_soft_margin_loss": ("xq", {}, lambda x, q: bce(special.expit(x), q).mean(1), 2,
                                    nn.MultiLabelSoftMarginLoss, "Mean"),
}


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
@pytest.mark.parametrize("name", TABLE)
def test_values_reductions_and_derivatives(name, rng):
    letters, options, formula, active, module, node = TABLE[name]
    drawn = draw(rng)
    arrays = [drawn[c] for c in letters]
    xs = [torch.from_numpy(a.copy()) for a in arrays]
    for x in xs[:active]:
        x.requires_grad_()
    function, elements = getattr(F, name), formula(*arrays)
    for reduction, expected in (("none", elements), ("mean", elements.mean()), ("sum", elements.sum())):
        loss = function(*xs, reduction=reduction, **options)
        np.testing.assert_allclose(loss.detach().numpy(), expected, rtol=1e-9)
        assert torch.equal(module(reduction=reduction, **options)(*xs), loss)
    assert type(function(*xs, **options).grad_fn).__name__ == node + "Backward0"

    def mean(*given):
        return function(*given, *xs[active:], **options)
    assert gradcheck(mean, xs[:active]) and gradgradcheck(mean, xs[:active])
    assert gradcheck(lambda *given: function(*given, *xs[active:], reduction="none", **options), xs[:active])


def test_large_losses_use_the_same_formulas(rng):
    """Beyond the size from which memory is pooled and threads run."""
    a, b = rng.standard_normal((300, 200)), rng.standard_normal((300, 200))
    x = torch.from_numpy(a).requires_grad_()
    F.mse_loss(x, torch.from_numpy(b)).backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * (a - b) / a.size)


def test_options_of_distances_and_distributions(rng):
    d = draw(rng)
    t = {k: torch.from_numpy(v) for k, v in d.items()}
    k1, v1 = np.maximum(d["k"], 1), d["v"][:, :1]
    stirling = np.where(d["k"] > 1, d["k"] * np.log(k1) - d["k"] + 0.5 * np.log(2 * np.pi * k1), 0)
    swapped = np.minimum(distance(d["x"], d["z"], 1.0), distance(d["y"], d["z"], 1.0))
    for loss, expected in [
        (F.mse_loss(t["x"], t["y"], weight=t["v"]), ((d["x"] - d["y"]) ** 2 * d["v"]).sum() / d["v"].sum()),
        (F.l1_loss(t["x"], t["y"], weight=t["v"], reduction="sum"), (np.abs(d["x"] - d["y"]) * d["v"]).sum()),
        (F.huber_loss(t["x"], t["y"], weight=t["v"]), (huber(d["x"] - d["y"], 1.0) * d["v"]).mean()),
        (F.smooth_l1_loss(t["x"], t["y"], beta=0.0), np.abs(d["x"] - d["y"]).mean()),
        (F.kl_div(t["x"], t["y"], reduction="batchmean", log_target=True), (np.exp(d["y"]) * (d["y"] - d["x"])).sum() / SHAPE[0]),
        (F.poisson_nll_loss(t["p"], t["k"], log_input=False, full=True, reduction="sum"),
         (d["p"] - d["k"] * np.log(d["p"] + 1e-8) + stirling).sum()),
        (F.gaussian_nll_loss(t["x"], t["y"], 2.0), (0.5 * (math.log(2) + (d["x"] - d["y"]) ** 2 / 2)).mean()),
        (F.gaussian_nll_loss(t["x"], t["y"], t["v"][:, 0]), (0.5 * (np.log(v1) + (d["x"] - d["y"]) ** 2 / v1)).mean()),
        (F.triplet_margin_loss(t["x"], t["y"], t["z"], p=1.0, swap=True), np.maximum(
            0, 1 + distance(d["x"], d["y"], 1.0) - swapped).mean()),
        (F.binary_cross_entropy(t["p"], t["q"], weight=t["v"][0]), (bce(d["p"], d["q"]) * d["v"][0]).mean()),
        (F.multilabel_soft_margin_loss(t["x"], t["q"], weight=t["v"][0]), (bce(special.expit(d["x"]), d["q"]) * d["v"][0]).mean()),
    ]:
        assert loss.item() == pytest.approx(expected, rel=1e-9)
    w, pw = t["v"][0], t["v"][1]
    expected = -d["v"][0] * (d["v"][1] * d["q"] * special.log_expit(d["x"]) + (1 - d["q"]) * special.log_expit(-d["x"]))
    seen = F.binary_cross_entropy_with_logits(t["x"], t["q"], w, pos_weight=pw, reduction="none")
    np.testing.assert_allclose(seen.numpy(), expected)
    x = t["x"].clone().requires_grad_()
    assert gradcheck(lambda v: F.binary_cross_entropy_with_logits(v, t["q"], w, pos_weight=pw), (x,))
    module = nn.BCEWithLogitsLoss(pos_weight=pw)
    assert list(module.state_dict()) == ["pos_weight"] and module(x, t["q"]).item() > 0


def test_limits():
    def numbers(*values):
        return torch.tensor(values, dtype=torch.float64)
    ends = F.binary_cross_entropy(numbers(0, 1, 0, 1), numbers(0, 1, 1, 0), reduction="none")
    assert ends.tolist() == [0, 0, 100, 100]
    x = numbers(500, -500).requires_grad_()
    loss = F.binary_cross_entropy_with_logits(x, numbers(0, 1), reduction="sum")
    loss.backward()
    assert loss.item() == 1000 and x.grad.tolist() == [1, -1]
    v = numbers(1e-8, 1).requires_grad_()
    F.gaussian_nll_loss(numbers(1, 2), numbers(1.5, 2), v, reduction="sum").backward()
    assert v.grad[0].item() == pytest.approx(0.5e6 - 0.125e12, rel=1e-5) and v.tolist() == pytest.approx([1e-8, 1.0])
    assert F.mse_loss(numbers(), numbers()).isnan()


# --- class indices and probabilities ----------------------------------------------------------------------------------

def class_loss(x, target, weight=None, ignore=-100, smoothing=0.0, reduction="mean"):
    """Cross entropy of scores (n, classes, ...) by its definition."""
    log_p = np.moveaxis(special.log_softmax(x, axis=1), 1, -1)
    classes = log_p.shape[-1]
    weight = np.ones(classes) if weight is None else weight
    losses, weights = np.zeros(target.shape), np.zeros(target.shape)
    for at in np.ndindex(*target.shape):
        t = target[at]
        if t != ignore:
            weights[at] = weight[t]
            losses[at] = -(1 - smoothing) * weight[t] * log_p[at][t] - smoothing / classes * (weight * log_p[at]).sum()
    return losses if reduction == "none" else losses.sum() / (weights.sum() if reduction == "mean" else 1)


@pytest.mark.parametrize("shape", [(6, 5), (2, 4, 3, 2), (3, 4, 2)], ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy(shape, smoothing, rng):
    a = rng.standard_normal(shape) * 2
    target = rng.integers(0, shape[1], shape[:1] + shape[2:])
    target.reshape(-1)[1] = -100
    weight = rng.uniform(0.5, 2.0, shape[1])
    x, t = torch.from_numpy(a).requires_grad_(), torch.from_numpy(target)
    for w in (None, weight):
        given = None if w is None else torch.from_numpy(w)
        for reduction in ("none", "mean", "sum"):
            about = {"weight": given, "reduction": reduction, "label_smoothing": smoothing}
            loss = F.cross_entropy(x, t, **about)
            np.testing.assert_allclose(loss.detach().numpy(), class_loss(a, target, w, smoothing=smoothing, reduction=reduction))
            assert torch.equal(nn.CrossEntropyLoss(**about)(x, t), loss)
            if not smoothing:
                seen = F.nll_loss(F.log_softmax(x, 1), t, given, reduction=reduction)
                np.testing.assert_allclose(seen.detach().numpy(), loss.detach().numpy())
                assert torch.equal(nn.NLLLoss(given, reduction=reduction)(F.log_softmax(x, 1), t), seen)
        assert gradcheck(lambda v, g=given: F.cross_entropy(v, t, g, label_smoothing=smoothing), (x,))
    assert gradgradcheck(lambda v: F.cross_entropy(v, t, torch.from_numpy(weight), label_smoothing=smoothing), (x,))
    assert gradgradcheck(lambda v: F.cross_entropy(v, t, reduction="none", label_smoothing=smoothing), (x,))


def test_cross_entropy_of_other_layouts_and_dtypes(rng):
    a, target = rng.standard_normal((40, 1500)), rng.integers(0, 1500, 40)
    for x in (torch.from_numpy(a), torch.from_numpy(np.ascontiguousarray(a.T)).t(), torch.from_numpy(a.astype(np.float32))):
        x.requires_grad_()
        F.cross_entropy(x, torch.from_numpy(target)).backward()
        expected = special.softmax(a, axis=1)
        expected[np.arange(40), target] -= 1
        np.testing.assert_allclose(x.grad.numpy(), expected / 40, atol=1e-8 if x.dtype is torch.float32 else 1e-15)
    half = torch.from_numpy(a.astype(np.float16)).requires_grad_()
    loss = F.cross_entropy(half, torch.from_numpy(target))
    loss.backward()
    assert loss.dtype is torch.float16 and loss.item() == pytest.approx(class_loss(a, target), rel=2e-3)
    assert half.grad.dtype is torch.float16
    one = torch.from_numpy(a[0])
    assert F.cross_entropy(one, torch.tensor(3)).item() == pytest.approx(class_loss(a[:1], np.array([3])))
    assert F.cross_entropy(one, torch.tensor([3]), reduction="none").shape == ()
    assert F.cross_entropy(torch.from_numpy(a), torch.from_numpy(target % 200).to(torch.uint8)).item() == pytest.approx(
        class_loss(a, target % 200))
    assert F.cross_entropy(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)).isnan()
    assert F.cross_entropy(torch.zeros(2, 4), torch.tensor([-100, -100])).isnan()


def test_cross_entropy_with_probabilities(rng):
    a, p, w = rng.standard_normal((5, 3)), special.softmax(rng.standard_normal((5, 3)), axis=1), rng.uniform(0.5, 2, 3)
    x, t = torch.from_numpy(a).requires_grad_(), torch.from_numpy(p).requires_grad_()
    rows = -(special.log_softmax(a, axis=1) * (p * 0.7 + 0.1) * w).sum(1)
    for reduction, expected in (("none", rows), ("mean", rows.mean()), ("sum", rows.sum())):
        loss = F.cross_entropy(x, t, torch.from_numpy(w), reduction=reduction, label_smoothing=0.3)
        np.testing.assert_allclose(loss.detach().numpy(), expected)
    assert gradcheck(F.cross_entropy, (x, t)) and gradgradcheck(F.cross_entropy, (x, t))


def test_names_of_nodes():
    x, t = torch.randn(3, 4, requires_grad=True), torch.tensor([0, 1, 2])
    assert type(F.cross_entropy(x, t).grad_fn).__name__ == type(F.nll_loss(x, t).grad_fn).__name__ == "NllLossBackward0"
    images = torch.randn(2, 4, 3, 3, requires_grad=True)
    assert type(F.nll_loss(images, torch.zeros(2, 3, 3, dtype=torch.int64)).grad_fn).__name__ == "NllLoss2DBackward0"


# --- margins over classes ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("p, weighted", [(1, False), (2, True)])
def test_multi_margin_loss(p, weighted, rng):
    a, target, w = rng.standard_normal((5, 4)), rng.integers(0, 4, 5), rng.uniform(0.5, 2, 4)
    expected = np.array([sum(max(0, 0.7 - a[i, t] + a[i, j]) ** p for j in range(4) if j != t) * (w[t] if weighted else 1) / 4
                         for i, t in enumerate(target)])
    x, t, weight = torch.from_numpy(a).requires_grad_(), torch.from_numpy(target), torch.from_numpy(w) if weighted else None
    np.testing.assert_allclose(F.multi_margin_loss(x, t, p, 0.7, weight, reduction="none").detach().numpy(), expected)
    assert nn.MultiMarginLoss(p, 0.7, weight)(x, t).item() == pytest.approx(expected.mean())
    assert gradcheck(lambda v: F.multi_margin_loss(v, t, p, 0.7, weight), (x,))
    assert F.multi_margin_loss(x[0], t[0], p, 0.7, weight).item() == pytest.approx(expected[0])


def test_multilabel_margin_loss(rng):
    a = rng.standard_normal((4, 5))
    labels = np.array([[3, 0, -1, 1, 1], [-1, 0, 0, 0, 0], [2, 2, -1, -1, -1], [0, 1, 2, 3, 4]])
    expected = []
    for row, listed in zip(a, labels.tolist(), strict=True):
        chosen = list(itertools.takewhile(lambda label: label >= 0, listed))
        expected.append(sum(max(0, 1 - row[j] + row[i]) for j in chosen for i in range(5) if i not in chosen) / 5)
    x, t = torch.from_numpy(a).requires_grad_(), torch.from_numpy(labels)
    np.testing.assert_allclose(F.multilabel_margin_loss(x, t, reduction="none").detach().numpy(), expected)
    assert nn.MultiLabelMarginLoss(reduction="sum")(x, t).item() == pytest.approx(sum(expected))
    assert gradcheck(lambda v: F.multilabel_margin_loss(v, t), (x,))


# --- CTC --------------------------------------------------------------------------------------------------------------

def by_all_paths(log_p, labels, blank):
    """Minus the log of the summed probability of every path that collapses to the labels."""
    frames, classes = log_p.shape
    total = -math.inf
    for path in itertools.product(range(classes), repeat=frames):
        merged = [c for c, _ in itertools.groupby(path)]
        if [c for c in merged if c != blank] == list(labels):
            total = np.logaddexp(total, sum(log_p[t, c] for t, c in enumerate(path)))
    return -total


@pytest.mark.parametrize("blank", [0, 2])
def test_ctc_against_all_alignments(blank, rng):
    scores = rng.standard_normal((5, 4, 3))
    one, other = [c for c in range(3) if c != blank]
    labels, frames = [[one, other], [one, one], [], [other]], [5, 4, 3, 1]
    x = torch.from_numpy(scores).requires_grad_()
    padded = torch.tensor([[*row, *[-1] * (2 - len(row))] for row in labels])
    flat, sizes = torch.tensor([c for row in labels for c in row]), torch.tensor([len(row) for row in labels])
    log_p = special.log_softmax(scores, axis=2)
    expected = np.array([by_all_paths(log_p[:t, n], row, blank) for n, (row, t) in enumerate(zip(labels, frames, strict=True))])
    for targets in (padded, flat):
        losses = F.ctc_loss(x.log_softmax(2), targets, torch.tensor(frames), sizes, blank, "none")
        np.testing.assert_allclose(losses.detach().numpy(), expected)
        mean = nn.CTCLoss(blank)(x.log_softmax(2), targets, frames, tuple(sizes.tolist()))
        assert mean.item() == pytest.approx((expected / np.maximum(1, sizes.numpy())).mean())
        assert gradcheck(lambda v, t=targets: F.ctc_loss(v.log_softmax(2), t, frames, sizes, blank), (x,))
    single = F.ctc_loss(x.log_softmax(2)[:, 0], padded[0], torch.tensor(5), torch.tensor(2), blank, "none")
    assert single.shape == () and single.item() == pytest.approx(expected[0])


def test_ctc_of_what_cannot_be_aligned(rng):
    x = torch.from_numpy(rng.standard_normal((4, 2, 3))).requires_grad_()
    targets, frames, sizes = torch.tensor([[1, 1], [1, 2]]), torch.tensor([2, 4]), torch.tensor([2, 2])
    assert F.ctc_loss(x.log_softmax(2), targets, frames, sizes, reduction="none")[0].item() == math.inf
    loss = F.ctc_loss(x.log_softmax(2), targets, frames, sizes, reduction="sum", zero_infinity=True)
    loss.backward()
    assert math.isfinite(loss.item()) and x.grad[:, 0].abs().max().item() == 0 and x.grad[:, 1].abs().min().item() > 0
    g, = torch.autograd.grad(F.ctc_loss(x.log_softmax(2), targets, [4, 4], sizes), x, create_graph=True)
    with pytest.raises(RuntimeError, match="_ctc_loss_backward is not implemented"):
        torch.autograd.grad(g.sum(), x)


# --- errors and warnings ----------------------------------------------------------------------------------------------

def test_errors():
    x, t, p = torch.randn(3, 4), torch.tensor([0, 1, 2]), torch.full((3, 4), 0.5)
    log_p, lab = x.view(3, 1, 4).log_softmax(2), torch.tensor([[1, 2]])
    cases = [
        (lambda: F.mse_loss(x, x, reduction="most"), ValueError, "most is not a valid value for reduction"),
        (lambda: F.mse_loss(x.long(), x.long()), NotImplementedError, "\"mse_cpu\" not implemented for 'Long'"),
        (lambda: F.mse_loss(x, x, weight=x[:1]), ValueError, "Weights and input must have the same size"),
        (lambda: F.smooth_l1_loss(x, x, beta=-1.0), RuntimeError, "does not support negative values for beta"),
        (lambda: F.huber_loss(x, x, delta=0.0), RuntimeError, "does not support non-positive values for delta"),
        (lambda: F.binary_cross_entropy(p + 1, p), RuntimeError, "all elements of input should be between 0 and 1"),
        (lambda: F.binary_cross_entropy(p, p - 1), RuntimeError, "all elements of target should be between 0 and 1"),
        (lambda: F.binary_cross_entropy(p, p[:1]), ValueError, r"Using a target size .* is deprecated"),
        (lambda: F.binary_cross_entropy(p, p.double()), RuntimeError, "Found dtype Double but expected Float"),
        (lambda: F.binary_cross_entropy(p, p, weight=p[:, :2]), RuntimeError, "broadcast a dimension of length 2 at -1"),
        (lambda: F.binary_cross_entropy(p, p, weight=p.clone().requires_grad_()), RuntimeError, "is not differentiable"),
        (lambda: F.binary_cross_entropy_with_logits(x, p[:1]), ValueError, r"Target size .* must be the same as input size"),
        (lambda: F.cross_entropy(x, torch.tensor([0, 4, 1])), IndexError, "Target 4 is out of bounds"),
        (lambda: F.cross_entropy(x, torch.tensor([0, -1, 1])), IndexError, "Target -1 is out of bounds"),
        (lambda: F.cross_entropy(x, torch.tensor([0, -5, 1]), ignore_index=-1), IndexError, "Target -5 is out of bounds"),
        (lambda: F.cross_entropy(x, t.int()), RuntimeError, "expected target dtype to be Long or Byte, but got Int"),
        (lambda: F.cross_entropy(x, t[:2]), ValueError, r"Expected input batch_size \(3\) to match target batch_size \(2\)"),
        (lambda: F.cross_entropy(x, t[:, None].expand(3, 2)), RuntimeError, "0D or 1D target tensor expected"),
        (lambda: F.cross_entropy(x, t, weight=torch.ones(3)), RuntimeError, "either for all 4 classes or no classes"),
        (lambda: F.cross_entropy(x, t, weight=torch.ones(4).double()), RuntimeError, "expected scalar type Float but found Double"),
        (lambda: F.cross_entropy(x, t, label_smoothing=1.5), RuntimeError, "label_smoothing must be between 0.0 and 1.0. Got: 1.5"),
        (lambda: F.cross_entropy(x, p, ignore_index=0), RuntimeError, "ignore_index is not supported for floating point target"),
        (lambda: F.cross_entropy(x, x.long()), RuntimeError, "Expected floating point type for target with class probabilities"),
        (lambda: F.cross_entropy(x.long(), t), NotImplementedError, "not implemented for 'Long'"),
        (lambda: F.cross_entropy(x, [0, 1, 2]), TypeError, r"argument 'target' \(position 2\) must be Tensor, not list"),
        (lambda: F.nll_loss(torch.ones(2, 3, 4), torch.zeros(2, 5).long()), RuntimeError, r"target size \[2, 4\], got \[2, 5\]"),
        (lambda: F.nll_loss(torch.tensor(1.0), torch.tensor(0)), ValueError, "Expected 1 or more dimensions"),
        (lambda: F.gaussian_nll_loss(x, x, -p), ValueError, "var has negative entry/entries"),
        (lambda: F.gaussian_nll_loss(x, x, p[:, :2]), ValueError, "var is of incorrect size"),
        (lambda: F.soft_margin_loss(x, x.clone().requires_grad_()), RuntimeError, "respect to argument 'target'"),
        (lambda: F.margin_ranking_loss(x, x, t), RuntimeError, "All input tensors should have same dimension"),
        (lambda: F.cosine_embedding_loss(x, x, torch.tensor(1.0)), RuntimeError, "0D target tensor expects 1D input tensors"),
        (lambda: F.triplet_margin_loss(x, x, x, margin=-1.0), ValueError, "margin must be greater than 0"),
        (lambda: F.triplet_margin_loss(x, x, x[0]), RuntimeError, "anchor 2D, positive 2D, and negative 1D"),
        (lambda: F.multi_margin_loss(x, t, p=3), ValueError, "only p == 1 and p == 2 supported"),
        (lambda: F.multi_margin_loss(x, t + 2), RuntimeError, "target out of range"),
        (lambda: F.multilabel_margin_loss(x, torch.full((3, 4), 4)), RuntimeError, "is out of range"),
        (lambda: nn.HuberLoss(delta="a"), TypeError, "delta must be a float or int"),
        (lambda: nn.TripletMarginLoss(margin=0.0), ValueError, "expected margin to be greater than 0"),
        (lambda: F.ctc_loss(log_p, lab, [3], [2], blank=9), RuntimeError, "blank must be in label range"),
        (lambda: F.ctc_loss(log_p, lab, [4], [2]), RuntimeError, "Expected input_lengths to have value at most 3, but got value 4"),
        (lambda: F.ctc_loss(log_p, lab, [3], [3]), RuntimeError, "size at least 3 at dimension 1, but got size 2"),
        (lambda: F.ctc_loss(log_p, lab + 3, [3], [2]), RuntimeError, "targets must be between 0 and 3"),
        (lambda: F.ctc_loss(log_p, lab, [3, 3], [2]), RuntimeError, "input_lengths must be of size batch_size"),
    ]
    for call, error, words in cases:
        with pytest.raises(error, match=words):
            call()


def test_warnings():
    x = torch.ones(3, 4)
    for function in (F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss):
        with pytest.warns(UserWarning, match=r"Using a target size .* that is different to the input size"):
            function(x, x[:1])
    with pytest.warns(UserWarning, match="please use reduction='sum' instead"):
        assert F.mse_loss(x, x * 3, size_average=False).item() == 48
    with pytest.warns(UserWarning, match="please use reduction='none' instead"):
        assert nn.L1Loss(reduce=False).reduction == "none"
    with pytest.warns(UserWarning, match="'batchmean' divides only by the batch size"):
        F.kl_div(x, x)
    with pytest.warns(FutureWarning, match="`NLLLoss2d` has been deprecated"):
        nn.NLLLoss2d()
