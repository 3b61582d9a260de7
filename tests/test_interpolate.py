"""interpolate, grid_sample, affine_grid, shuffles and distances: values from formulas in NumPy, gradients to second order, "
  "errors."""
import math

import numpy as np
import pytest

import engine
from engine import nn
from engine.autograd import gradcheck, gradgradcheck
from engine.nn import functional as F

# --- interpolation: each mode as a dense matrix along a dimension ----------------------------------------------------------


def cubic(x, a):
    x = abs(x)
    return (a + 2) * x**3 - (a + 3) * x**2 + 1 if x <= 1 else a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def matrix(mode, size, outputs, align=False, scale=None, antialias=False):
    """The map (outputs, size) of one dimension, from the definition of the mode."""
    total = np.zeros((outputs, size))
    step = 1 / scale if scale else size / outputs
    if align:
        step = (size - 1) / (outputs - 1) if outputs > 1 else 0.0
    for k in range(outputs):
        place = k * step if align else (k + 0.5) * step - 0.5
        if antialias:
            wide = max(step, 1.0)
            filter_ = (lambda x: max(0.0, 1 - abs(x))) if "linear" in mode else (lambda x: cubic(x, -0.5))
            row = np.array([filter_((p + 0.5 - (k + 0.5) * step) / wide) for p in range(size)])
            total[k] = row / row.sum()
        elif mode == "nearest":
            total[k, min(math.floor(np.float32(k) * np.float32(step)), size - 1)] = 1
        elif mode == "nearest-exact":
            total[k, min(math.floor((np.float32(k) + np.float32(0.5)) * np.float32(step)), size - 1)] = 1
        elif mode == "area":
            first, last = k * size // outputs, -(-(k + 1) * size // outputs)
            total[k, first:last] = 1 / (last - first)
        elif mode == "bicubic":
            low = math.floor(place)
            for p in range(low - 1, low + 3):
                total[k, min(max(p, 0), size - 1)] += cubic(place - p, -0.75)
        else:
            place = max(place, 0.0)
            low = min(int(place), size - 1)
            total[k, low] += 1 - (place - low)
            total[k, min(low + 1, size - 1)] += place - low
    return total


def resized(x, sizes, mode, **options):
    for d, n in enumerate(sizes):
        x = np.moveaxis(np.moveaxis(x, d + 2, -1) @ matrix(mode, x.shape[d + 2], n, **options).T, -1, d + 2)
    return x


MODES = {1: ("nearest", "nearest-exact", "area", "linear"), 2: ("nearest", "nearest-exact", "area", "bilinear", "bicubic"),
         3: ("nearest", "nearest-exact", "area", "trilinear")}
SIZES = {1: [(9,), (4,), (1,)], 2: [(9, 3), (3, 13), (1, 6)], 3: [(5, 2, 7)]}


@pytest.mark.parametrize("dims, mode", [(d, m) for d, modes in MODES.items() for m in modes])
def test_interpolate(dims, mode, rng):
    x = engine.tensor(rng.standard_normal((2, 2, 4, 5, 6)[:2] + (4, 5, 6)[-dims:]))
    for sizes in SIZES[dims]:
        np.testing.assert_allclose(F.interpolate(x, sizes, mode=mode).numpy(), resized(x.numpy(), sizes, mode), rtol=1e-11,
                                   atol=1e-12)
        if "linear" in mode or mode == "bicubic":
            np.testing.assert_allclose(F.interpolate(x, sizes, mode=mode, align_corners=True).numpy(),
                                       resized(x.numpy(), sizes, mode, align=True), rtol=1e-11, atol=1e-12)
        if mode in ("bilinear", "bicubic"):
            np.testing.assert_allclose(F.interpolate(x, sizes, mode=mode, antialias=True).numpy(),
                                       resized(x.numpy(), sizes, mode, antialias=True), rtol=1e-11, atol=1e-12)
    sizes = tuple(int(n * 1.7) for n in x.shape[2:])
    own = {} if mode == "area" else {"scale": 1.7}
    np.testing.assert_allclose(F.interpolate(x, scale_factor=1.7, mode=mode).numpy(), resized(x.numpy(), sizes, mode, **own),
                               rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(F.interpolate(x, scale_factor=1.7, mode=mode, recompute_scale_factor=True).numpy(),
                               resized(x.numpy(), sizes, mode), rtol=1e-11, atol=1e-12)
    y = engine.tensor(x.numpy()[:1, :1], requires_grad=True)
    assert gradcheck(lambda y: F.interpolate(y, scale_factor=0.7, mode=mode), (y,))
    assert gradgradcheck(lambda y: F.interpolate(y, scale_factor=1.3, mode=mode) ** 2, (y,))


def test_interpolate_by_hand():
    x = engine.tensor([[[1.0, 3.0]]])
    assert F.interpolate(x, 4).tolist() == [[[1, 1, 3, 3]]]
    assert F.interpolate(x, 4, mode="linear").tolist() == [[[1, 1.5, 2.5, 3]]]
    assert F.interpolate(x, 3, mode="linear", align_corners=True).tolist() == [[[1, 2, 3]]]
    assert F.interpolate(engine.tensor([[[1, 2]]], dtype=engine.uint8), 4).tolist() == [[[1, 1, 2, 2]]]
    wide = F.interpolate(engine.ones(1, 1, 8, 8), (3, 3), mode="lanczos", antialias=True)
    np.testing.assert_allclose(wide.numpy(), 1, rtol=1e-6)             # weights add up to one
    assert F.interpolate(engine.ones(0, 1, 2), 4).shape == (0, 1, 4)
    infinite = F.interpolate(engine.tensor([[[float("inf"), 1.0, 2.0, 3.0]]]), 2, mode="area")
    assert infinite.tolist() == [[[float("inf"), 2.5]]]               # what has no weight does not spread


def test_names_of_nodes():
    x = engine.ones(1, 1, 3, 3, requires_grad=True)
    for mode, name in (("nearest", "UpsampleNearest2DBackward0"), ("bilinear", "UpsampleBilinear2DBackward0"),
                       ("bicubic", "UpsampleBicubic2DBackward0"), ("area", "AdaptiveAvgPool2DBackward0")):
        assert type(F.interpolate(x, 4, mode=mode).grad_fn).__name__ == name


def test_upsampling_layers(rng):
    x = engine.tensor(rng.standard_normal((1, 1, 3, 4)))
    layer = nn.Upsample(scale_factor=2, mode="bilinear")
    assert repr(layer) == "Upsample(scale_factor=2.0, mode='bilinear')" and repr(nn.Upsample((2,
        3))) == "Upsample(size=(2, 3), mode='nearest')"
    np.testing.assert_allclose(layer(x).numpy(), resized(x.numpy(), (6, 8), "bilinear"), rtol=1e-12)
    np.testing.assert_array_equal(nn.UpsamplingNearest2d(scale_factor=2)(x).numpy(), x.numpy().repeat(2, 2).repeat(2, 3))
    np.testing.assert_allclose(nn.UpsamplingBilinear2d((5, 7))(x).numpy(), resized(x.numpy(), (5, 7), "bilinear", align=True),
                               rtol=1e-12)
    with pytest.warns(UserWarning, match="deprecated"):
        assert F.upsample(x, 3).shape == (1, 1, 3, 3)


# --- sampling at points ---------------------------------------------------------------------------------------------------

def sampled(x, grid, mode, padding, align):
    """grid_sample one point at a time, for any number of dimensions."""
    sizes, out = x.shape[2:], np.zeros((*x.shape[:2], *grid.shape[1:-1]))

    def bounded(v, n):
        if padding == "reflection":
            low, high = (0, n - 1) if align else (-0.5, n - 0.5)
            while high > low and not low <= v <= high:
                v = 2 * low - v if v < low else 2 * high - v
            v = v if high > low else 0.0
        return v if padding == "zeros" else min(max(v, 0), n - 1)

    def element(n, at):
        return x[n, :, *at] if all(0 <= p < s for p, s in zip(at, sizes, strict=True)) else 0.0
    for index in np.ndindex(*grid.shape[:-1]):
        point = grid[index][::-1]
        place = [(v + 1) / 2 * (n - 1) if align else ((v + 1) * n - 1) / 2 for v, n in zip(point, sizes, strict=True)]
        target = (index[0], slice(None), *index[1:])
        if mode == "bicubic":
            lows = [math.floor(v) for v in place]
            for i in range(-1, 3):
                for j in range(-1, 3):
                    at = [round(bounded(low + k, n)) for low, k, n in zip(lows, (i, j), sizes, strict=True)]
                    out[target] += element(index[0], at) * math.prod(cubic(v - low - k, -0.75)
                                                                     for v, low, k in zip(place, lows, (i, j), strict=True))
            continue
        place = [bounded(v, n) for v, n in zip(place, sizes, strict=True)]
        if mode == "nearest":
            out[target] = element(index[0], [round(v) for v in place])
            continue
        for corner in np.ndindex(*[2] * len(sizes)):
            at = [math.floor(v) + k for v, k in zip(place, corner, strict=True)]
            out[target] += element(index[0], at) * math.prod(1 - abs(v - p) for v, p in zip(place, at, strict=True))
    return out


@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_grid_sample(mode, padding, align, rng):
    x, grid = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((2, 3, 2, 2)) * 1.5
    seen = F.grid_sample(engine.tensor(x), engine.tensor(grid), mode, padding, align).numpy()
    np.testing.assert_allclose(seen, sampled(x, grid, mode, padding, align), rtol=1e-9, atol=1e-11)
    operands = [engine.tensor(x[:1, :1], requires_grad=True), engine.tensor(grid[:1, :2, :1], requires_grad=True)]
    assert gradcheck(lambda x, g: F.grid_sample(x, g, mode, padding, align), operands)
    if mode != "bicubic":
        x, grid = rng.standard_normal((1, 2, 3, 2, 4)), rng.standard_normal((1, 2, 2, 1, 3))
        seen = F.grid_sample(engine.tensor(x), engine.tensor(grid), mode, padding, align).numpy()
        np.testing.assert_allclose(seen, sampled(x, grid, mode, padding, align), rtol=1e-9, atol=1e-11)


def test_grid_sample_second_order(rng):
    operands = [engine.tensor(rng.standard_normal(s), requires_grad=True) for s in ((1, 1, 3, 3), (1, 2, 1, 2))]
    assert gradgradcheck(lambda x, g: F.grid_sample(x, g * 0.5, align_corners=False), operands)
    with pytest.warns(UserWarning, match="align_corners=False since 1.3.0"):
        F.grid_sample(*operands)


@pytest.mark.parametrize("align", [True, False])
def test_affine_grid(align, rng):
    for size in ((2, 1, 3, 4), (1, 1, 2, 3, 4)):
        k = len(size) - 2
        theta = engine.tensor(rng.standard_normal((size[0], k, k + 1)), requires_grad=True)
        lines = [np.linspace(-1, 1, n) * (1 if align else (n - 1) / n) for n in size[2:]]
        base = np.stack([*np.meshgrid(*lines, indexing="ij")[::-1], np.ones(size[2:])], -1)
        expected = np.einsum("...k,njk->n...j", base, theta.detach().numpy())
        np.testing.assert_allclose(F.affine_grid(theta, size, align).detach().numpy(), expected, rtol=1e-12, atol=1e-12)
        assert gradcheck(lambda t, size=size: F.affine_grid(t, size, align), (theta,))


# --- shuffles ---------------------------------------------------------------------------------------------------------------

def test_shuffles(rng):
    x = engine.tensor(rng.standard_normal((2, 8, 3, 2)), requires_grad=True)
    X = x.detach().numpy()
    y = F.pixel_shuffle(x, 2)
    for c, i, j, h, w in np.ndindex(2, 2, 2, 3, 2):
        assert y[1, c, 2 * h + i, 2 * w + j].item() == X[1, 4 * c + 2 * i + j, h, w]
    np.testing.assert_array_equal(F.pixel_unshuffle(y, 2).detach().numpy(), X)
    shuffled = F.channel_shuffle(x, 2).detach().numpy()
    np.testing.assert_array_equal(shuffled, X[:, [0, 4, 1, 5, 2, 6, 3, 7]])
    for function in (lambda x: F.pixel_shuffle(x, 2), lambda x: F.pixel_unshuffle(x.reshape(2, 4, 6, 2), 2),
                     lambda x: F.channel_shuffle(x, 4)):
        assert gradcheck(function, (x,)) and gradgradcheck(lambda x, f=function: f(x) ** 2, (x,))
    for layer, text in ((nn.PixelShuffle(2), "PixelShuffle(upscale_factor=2)"), (nn.ChannelShuffle(2), "ChannelShuffle(groups=2)")):
        assert repr(layer) == text and layer(x).numel() == x.numel()
    assert nn.PixelUnshuffle(2)(y).shape == x.shape and repr(nn.PixelUnshuffle(2)) == "PixelUnshuffle(downscale_factor=2)"


# --- distances --------------------------------------------------------------------------------------------------------------

def test_distances(rng):
    x, y = (engine.tensor(rng.standard_normal((3, 4)), requires_grad=True) for _ in range(2))
    X, Y = x.detach().numpy(), y.detach().numpy()
    cosine = (X * Y).sum(1) / np.linalg.norm(X, axis=1) / np.linalg.norm(Y, axis=1)
    np.testing.assert_allclose(F.cosine_similarity(x, y).detach().numpy(), cosine, rtol=1e-12)
    np.testing.assert_allclose(nn.CosineSimilarity(dim=-1)(x, y[0]).detach().numpy(),
                               X @ Y[0] / np.linalg.norm(X, axis=1) / np.linalg.norm(Y[0]), rtol=1e-12)
    assert F.cosine_similarity(engine.zeros(1, 2), engine.ones(1, 2)).item() == 0
    rows, columns = np.triu_indices(3, 1)
    for p in (2.0, 1.0):
        np.testing.assert_allclose(F.pairwise_distance(x, y, p).detach().numpy(), np.linalg.norm(X - Y + 1e-6, p, axis=1),
                                   rtol=1e-12)
        np.testing.assert_allclose(F.pdist(x, p).detach().numpy(), np.linalg.norm(X[rows] - X[columns], p, axis=1), rtol=1e-12)
    assert nn.PairwiseDistance(keepdim=True)(x, y).shape == (3, 1) and F.pdist(x[:1]).shape == (0,)
    for function in (F.cosine_similarity, F.pairwise_distance):
        assert gradcheck(function, (x, y)) and gradgradcheck(function, (x, y))
    assert gradcheck(F.pdist, (x,))


# --- errors -----------------------------------------------------------------------------------------------------------------

IMAGE, POINTS = engine.ones(1, 4, 6, 6), engine.zeros(1, 3, 3, 2)


@pytest.mark.parametrize("call, error, words", [
    (lambda: F.interpolate(IMAGE), ValueError, "either size or scale_factor should be defined"),
    (lambda: F.interpolate(IMAGE, 3, 2), ValueError, "only one of size or scale_factor should be defined"),
    (lambda: F.interpolate(IMAGE, (3, 3, 3)), ValueError, r"spatial dimensions of \[6, 6\] and output size of \(3, 3, 3\)"),
    (lambda: F.interpolate(IMAGE, 3, mode="linear"), NotImplementedError, "Got 4D input, but linear mode needs 3D input"),
    (lambda: F.interpolate(IMAGE, 3, mode="x"), NotImplementedError, r"Only 3D, 4D and 5D input Tensors supported \(got 4D\)"),
    (lambda: F.interpolate(IMAGE, 3, align_corners=True), ValueError, "align_corners option can only be set"),
    (lambda: F.interpolate(IMAGE, 3, antialias=True), ValueError, "Anti-alias option is restricted"),
    (lambda: F.interpolate(IMAGE, 3, recompute_scale_factor=True), ValueError, "not meaningful with an explicit size"),
    (lambda: F.interpolate(IMAGE, 0), RuntimeError, r"got input \(H: 6, W: 6\) output \(H: 0, W: 0\)"),
    (lambda: F.interpolate(IMAGE.long(), 3, mode="bilinear"), NotImplementedError, "not implemented for 'Long'"),
    (lambda: F.interpolate(IMAGE[:, :0], 3, mode="bilinear"), RuntimeError, "Non-empty 4D data tensor expected"),
    (lambda: F.grid_sample(IMAGE, POINTS, "x"), ValueError, "expected mode to be 'bilinear', 'nearest' or 'bicubic', but got: 'x'"),
    (lambda: F.grid_sample(IMAGE, POINTS, padding_mode="x"), ValueError,
     "expected padding_mode to be 'zeros', 'border', or 'reflection'"),
    (lambda: F.grid_sample(IMAGE, POINTS.double(), align_corners=True), RuntimeError,
     "expected scalar type Float but found Double"),
    (lambda: F.grid_sample(IMAGE, POINTS[..., :1], align_corners=True), RuntimeError,
     "expected grid to have size 2 in last dimension"),
    (lambda: F.grid_sample(IMAGE, POINTS.expand(2, -1, -1, -1), align_corners=True), RuntimeError, "to have same batch size"),
    (lambda: F.grid_sample(IMAGE[None], engine.zeros(1, 2, 2, 2, 3), "bicubic", align_corners=True), RuntimeError,
     "only supports 4D input"),
    (lambda: F.affine_grid(engine.ones(1, 2, 3), (1, 1, 2), True), NotImplementedError, "only supports 4D and 5D sizes"),
    (lambda: F.affine_grid(engine.ones(1, 3, 4), (1, 1, 2, 2), True), ValueError, "batch of 2D affine matrices of shape Nx2x3"),
    (lambda: F.affine_grid(engine.ones(1, 2, 3), (1, 1, 0, 2), True), ValueError, "Expected non-zero, positive output size"),
    (lambda: F.pixel_shuffle(IMAGE, 3), RuntimeError, r"input.size\(-3\)=4 is not divisible by 9"),
    (lambda: F.pixel_unshuffle(IMAGE, 4), RuntimeError,
     r"expects height to be divisible by downscale_factor, but input.size\(-2\)=6"),
    (lambda: F.channel_shuffle(IMAGE, 3), RuntimeError, "Got 4 channels and 3 groups"),
    (lambda: F.cosine_similarity(engine.ones(2).long(), engine.ones(2).long(), 0), RuntimeError,
     "expected common dtype to be floating point"),
    (lambda: F.pdist(engine.ones(3)), RuntimeError, "pdist only supports 2D tensors, got: 1D"),
    (lambda: F.pdist(engine.ones(3, 2), -1), RuntimeError, "only supports non-negative p values"),
])
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()
