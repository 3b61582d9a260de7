"""Convolutions, pools, sliding blocks and interpolation on CUDA: kernels proved beside NumPy, then functions and their gradients to
second order beside the CPU, with nothing computed on the host."""
import numpy as np
import pytest
from cuda_checks import WHOLE, agree, needs_numba_cuda, prove

import engine
from engine import device_arrays
from engine.nn import functional as F
from kernels.book import BOOK
from kernels.cpu import interpolation as tables
from kernels.cuda import convolution, emulator, pooling, sampling
from kernels.cuda.launch import View

pytestmark = [needs_numba_cuda, pytest.mark.usefixtures("emulated")]
FLOATS = ("float32", "float16", "float64")


class Listed(emulator.Emulator):
    """A device that notes kernels instead of running them."""

    def __init__(self):
        super().__init__()
        self.programs = {}

    def run(self, launches, **options):
        self.programs.update((launch.program.symbol, launch.program) for launch in launches)


def prove_all(cases):
    """Prove the kernels that `cases(device)` runs; it yields (what came out, what should, ulp, scale, about)."""
    listed = Listed()
    for _ in cases(listed):
        pass

    def run(device):
        for got, want, ulp, scale, about in cases(device):
            many = (got,) if isinstance(got, View) else got
            for g, w in zip(many, want if isinstance(want, tuple) else (want,), strict=True):
                agree(device.read(g), np.asarray(w), ulp=ulp, scale=scale, about=about)
        return {}
    run.__qualname__ = cases.__qualname__
    prove(list(listed.programs.values()), run)


def draw(rng, dtype, *shape):
    return (rng.standard_normal(shape) if dtype.startswith("float") else rng.integers(-9, 10, shape)).astype(dtype)


# --- convolutions -----------------------------------------------------------------------------------------------------

def windows(size, kernel, stride, padding, dilation):
    """(place of an output, its window in the padded image) for each output."""
    out = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)]
    for place in np.ndindex(*out):
        yield place, tuple(slice(i * s, i * s + (k - 1) * d + 1, d)
                           for i, k, s, d in zip(place, kernel, stride, dilation, strict=True))


def naive(x, w, b, g, stride, padding, dilation, groups):
    """A convolution and its transposes, applied to g, in float64: (out, gradient of x, gradient of w)."""
    x, w, g = (a.astype("float64") for a in (x, w, g))
    inside = (..., *(slice(p, p + n) for p, n in zip(padding, x.shape[2:], strict=True)))
    padded = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    out, back, weight = np.zeros_like(g), np.zeros_like(padded), np.zeros_like(w)
    c, m = x.shape[1] // groups, w.shape[0] // groups
    for place, window in windows(x.shape[2:], w.shape[2:], stride, padding, dilation):
        for k in range(groups):
            these, those = slice(k * c, k * c + c), slice(k * m, k * m + m)
            here, there = (slice(None), those, *place), (slice(None), these, *window)
            piece, weights = padded[there], w[those].reshape(m, -1)
            out[here] = piece.reshape(len(x), -1) @ weights.T
            back[there] += (g[here] @ weights).reshape(piece.shape)
            weight[those] += (g[here].T @ piece.reshape(len(x), -1)).reshape(weight[those].shape)
    return out + b.astype("float64").reshape(-1, *[1] * (x.ndim - 2)), back[inside], weight


# spatial size, kernel, stride, padding, dilation, groups, samples, channels and results of a group
SHAPES = [((7,), (3,), (2,), (1,), (1,), 1, 2, 2, 3), ((5, 6), (2, 3), (1, 2), (1, 0), (2, 1), 2, 2, 3, 5),
          ((3, 4, 3), (2, 1, 2), (1, 3, 1), (1, 0, 1), (1, 1, 1), 1, 2, 2, 6),
          ((7, 9), (3, 3), (2, 1), (2, 1), (1, 2), 2, 1, 5, 35),
          ((9, 8), (1, 1), (1, 1), (0, 0), (1, 1), 1, 1, 34, 33), ((5, 8), (2, 4), (3, 2), (0, 0), (2, 1), 1, 1, 3, 6),
          ((6, 6), (3, 3), (1, 1), (1, 1), (1, 1), 3, 2, 1, 1)]


def convolutions(tiles):
    """`tiles`: of each dtype, see `convolution._tile`. Sums to weights whole and in three parts in turn."""
    def cases(device):
        rng = np.random.default_rng(8)
        for dtype, kinds in tiles.items():
            ulp = 30.0 if dtype.startswith("float") else 0.0
            shapes = SHAPES if WHOLE or dtype == "float32" else SHAPES[1::3]
            for k, (size, kernel, stride, padding, dilation, groups, n, c, m) in enumerate(shapes):
                about = f"{dtype} {size} {kernel} {stride} {padding} {dilation} {groups}"
                options = (stride, padding, dilation, groups)
                shape = [(a + 2 * p - d * (k - 1) - 1) // s + 1
                         for a, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)]
                x, w, b, g = (draw(rng, dtype, *s) for s in (
                    (n, c * groups, *size), (m * groups, c, *kernel), (m * groups,), (n, m * groups, *shape)))
                x = x.swapaxes(0, 1).copy().swapaxes(0, 1)
                out, back, weight = (a.astype(dtype) for a in naive(x, w, b, g, *options))
                on, at, bias, by = (device.put(a) for a in (x, w, b, g))
                scales = [float(np.abs(a).max()) for a in (out, back, weight)]
                for tile in kinds:
                    found = convolution._forward(device, on, at, bias, *options, tile=tile)
                    yield found, out, ulp, scales[0], f"forward {tile} {about}"
                    found = convolution._back(device, by, at, None, size, *options, tile=tile)
                    yield found, back, ulp, scales[1], f"back {tile} {about}"
                    for parts in (1, 3) if WHOLE else (1 + 2 * (k % 2),):
                        found = convolution._weight(device, on, by, kernel, *options, tile=tile, parts=parts)
                        yield found, weight, ulp, scales[2], f"weight {tile} {parts} {about}"
    return cases


def test_convolution_kernels():
    if WHOLE:
        tiles = dict.fromkeys(("float32", "float16"), (0, 32, 64, 128))
        tiles |= dict.fromkeys(("float64", "int32", "int64"), (0, 32, 64))
    else:
        tiles = {"float32": (0, 64), "float16": (0,)}
    prove_all(convolutions(tiles))


def test_the_kernel_fits_the_shape():
    """Tiles for large products, one number a thread for few rows, parts for long sums."""
    def product(rows, j, k, groups=1):
        return convolution.Product(rows, groups, j, k, *[(0,)] * 7)
    assert convolution._tile("float32", product(256, (32, 1, 28, 28), (128, 1, 3, 3))) == 128
    assert convolution._tile("float32", product(1, (8, 1, 64, 64), (1, 1, 3, 3), groups=32)) == 0
    long = product(64, (3, 1, 7, 7), (32, 1, 112, 112))
    assert convolution._tile("float32", long) == 32 and convolution._tile("float32", long, 1568) == 64
    assert convolution._parts(long, 64, None) == (86, 4668)
    assert convolution._parts(product(64, (64, 1, 3, 3), (8, 1, 20, 20)), 64, None) == (12, 267)


# --- pools ------------------------------------------------------------------------------------------------------------

POOLS = [((4, 5), (2, 3), (2, 3), (2, 1), (0, 0), (1, 1)), ((4, 5), (3, 3), (2, 2), (2, 2), (1, 1), (1, 1)),
         ((5, 7), (3, 2), (2, 3), (1, 2), (1, 1), (2, 2)), ((5, 7), (2, 4), None, (1, 1), (0, 0), (1, 1)),
         ((3, 4, 5), (2, 3, 3), (2, 2, 3), (1, 1, 2), (0, 0, 1), (1, 1, 1)), ((3, 4, 2), (2, 3, 1), None, *[(1, 1, 1)] * 3)]


def pool_naive(x, g, size, kernel, stride, padding, dilation, count_pad, divisor):
    """Largest elements, their indices, their gradient for g; means and their gradient: window by window."""
    space, lead = x.shape[2:], (2, 2)
    values, indices, means = np.empty((*lead, *size), x.dtype), np.empty((*lead, *size), np.int64), np.empty((*lead, *size))
    of_max, of_mean = np.zeros((*lead, *space)), np.zeros((*lead, *space))
    for place in np.ndindex(*size):
        if kernel is None:
            lines = [range(k * n // o, -(-(k + 1) * n // o)) for k, n, o in zip(place, space, size, strict=True)]
            count = int(np.prod([len(line) for line in lines]))
        else:
            starts = [k * s - p for k, s, p in zip(place, stride, padding, strict=True)]
            whole = [range(a, min(a + (k - 1) * d + 1, n + p), d)
                     for a, k, d, n, p in zip(starts, kernel, dilation, space, padding, strict=True)]
            lines = [[i for i in line if 0 <= i < n] for line, n in zip(whole, space, strict=True)]
            count = int(np.prod([len(line) for line in (whole if count_pad else lines)]))
        window = np.ix_(range(2), range(2), *lines)
        flat = x[window].reshape(2, 2, -1)
        best = np.where(np.isnan(flat), np.inf, flat).argmax(-1)
        where = np.arange(np.prod(space)).reshape(space)[np.ix_(*lines)].ravel()
        here = (slice(None), slice(None), *place)
        indices[here], values[here] = where[best], np.take_along_axis(flat, best[..., None], -1)[..., 0]
        for at in np.ndindex(*lead):
            of_max[at].reshape(-1)[where[best[at]]] += g[(*at, *place)]
        by = divisor or count
        means[here] = flat.astype("float64").sum(-1) / by
        of_mean[window] += (g[here].astype("float64") / by).reshape(2, 2, *[1] * len(size))
    return values, indices, of_max, means, of_mean


def pools(dtypes):
    def cases(device):
        rng = np.random.default_rng(9)
        for dtype in dtypes:
            for k, (space, size, kernel, stride, padding, dilation) in enumerate(POOLS):
                x, g = draw(rng, dtype, 2, 2, *space), draw(rng, dtype, 2, 2, *size)
                if k == 1 and dtype.startswith("float"):
                    x[0, 1, 2, 1] = np.nan
                x = x.swapaxes(0, 1).copy().swapaxes(0, 1)
                count_pad, divisor = k != 1, 7 if k == 2 else 0
                values, indices, of_max, means, of_mean = pool_naive(x, g, size, kernel, stride, padding, dilation, count_pad,
                                                                     divisor)
                there, about = [device.put(a) for a in (x, g, indices)], f"{dtype} {space} {size} {kernel}"
                ulp = 4.0 if dtype.startswith("float") else 0.0
                top = float(np.abs(of_max).max())
                name = f"max_pool{len(size)}d"
                options = {"size": size, "kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
                yield getattr(pooling, name)(device, there[0], **options), (values, indices), 0.0, 0.0, f"{name} {about}"
                found = pooling.plane_scatter(device, there[1], there[2], space, (kernel, stride, padding, dilation))
                yield found, of_max.astype(dtype), ulp, top, f"max back {about}"
                rows = [a.reshape(4, -1) for a in (g, indices)]
                order = np.argsort(rows[1], axis=1, kind="stable")
                last = BOOK[f"max_unpool{len(size)}d"].on_arrays(g, indices, size=space)
                for adds, want in ((True, of_max.astype(dtype)), (False, last)):
                    found = device.empty(dtype, want.shape)
                    pooling.put_in_order(device, found, *map(device.put, (*rows, order)), int(np.prod(space)), adds)
                    yield found, want, ulp if adds else 0.0, top, f"put {adds} {about}"
                yield pooling.plane_gather(device, there[0], there[2], len(size)), values, 0.0, 0.0, f"gather {about}"
                if dilation != (1,) * len(size):
                    continue
                options = {"kernel": kernel, "stride": stride, "padding": padding, "count_pad": count_pad, "divisor": divisor}
                if not dtype.startswith("int"):
                    yield (pooling.mean_pool_back(device, there[1], space, **options), of_mean.astype(dtype), ulp,
                           float(np.abs(of_mean).max()), f"mean back {about}")
                elif dtype != "int64":
                    continue
                means = means.astype(dtype) if ulp else np.trunc(means).astype(dtype)
                yield (pooling.avg_pool2d(device, there[0], size, **options), means, ulp, float(np.nanmax(np.abs(means))),
                       f"mean {about}")
    return cases


def test_pooling_kernels():
    prove_all(pools((*FLOATS, "int8", "int32", "int64") if WHOLE else ("float32",)))


# --- sliding blocks and interpolation -----------------------------------------------------------------------------------

def samplings(dtypes):
    def cases(device):
        rng = np.random.default_rng(10)
        for dtype in dtypes:
            for size, kernel, stride, padding, dilation in (((4, 5), (2, 3), (1, 2), (1, 0), (2, 1)),
                                                              ((6, 7), (2, 2), (3, 1), (0, 1), (1, 2)),
                                                              ((3, 3), (3, 3), *[(1, 1)] * 3)):
                x = draw(rng, dtype, 2, 3, *size)[:, ::2]
                blocks = list(windows(size, kernel, stride, padding, dilation))
                padded = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
                columns = np.stack([padded[(slice(None), slice(None), *window)].reshape(2, -1) for _, window in blocks], -1)
                options = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
                yield sampling.im2col(device, device.put(x), **options), columns, 0.0, 0.0, f"im2col {dtype} {options}"
                if dtype not in sampling.ADDED:
                    continue
                y = draw(rng, dtype, *columns.shape)
                image = np.zeros(padded.shape)
                for k, (_, window) in enumerate(blocks):
                    image[(slice(None), slice(None), *window)] += y[:, :, k].reshape(2, 2, *kernel)
                image = image[(..., *(slice(p, p + n) for p, n in zip(padding, size, strict=True)))].astype(dtype)
                yield (sampling.col2im(device, device.put(y), size, **options), image, 4.0 if dtype.startswith("float") else 0.0,
                       float(np.abs(image).max()), f"col2im {dtype} {options}")
            if dtype not in sampling.FLOATING:
                continue
            x = draw(rng, dtype, 2, 5, 3).swapaxes(1, 2)
            for taps in (tables.linear_taps(5, 9, False, None), tables.cubic_taps(5, 3, True, None),
                         tables.area_taps(5, 4).transposed):
                map_ = np.zeros((taps.outputs, taps.size))
                for row, positions, weights, count in zip(map_, taps.positions, taps.weights, taps.counts, strict=True):
                    np.add.at(row, positions[:count], weights[:count])
                y = x if taps.size == 5 else x[..., :4]
                want = (y.astype("float64") @ map_.T).astype(dtype)
                found = sampling.resample(device, device.put(y), ((2, taps),))
                yield found, want, 4.0, float(np.abs(want).max()), f"resample {dtype}"
    return cases


def test_sampling_kernels():
    prove_all(samplings((*FLOATS, "int8", "int32", "int64", "complex128") if WHOLE else ("float32",)))


# --- functions --------------------------------------------------------------------------------------------------------

@pytest.fixture
def no_host(monkeypatch):
    """Computing on copies in the host's memory is an error."""
    def refused(function, *rest):
        raise AssertionError(f"{function} ran on the host")
    monkeypatch.setattr(device_arrays, "on_host", refused)


def beside(call, *arrays, order=2):
    """Values, gradients and (order 2) gradients of gradients on both devices."""
    found = []
    for device in ("cpu", "cuda"):
        leaves = [engine.tensor(a, device=device).requires_grad_() for a in arrays]
        y = call(*leaves)
        g = engine.autograd.grad((y * y).sum(), leaves, create_graph=order == 2)
        more = engine.autograd.grad(sum((p * p).sum() for p in g), leaves) if order == 2 else ()
        found.append([y, *g, *more])
    for want, got in zip(*found, strict=True):
        assert got.is_cuda and got.dtype is want.dtype
        want = want.detach().numpy()
        agree(got.detach().cpu().numpy(), want, ulp=64, scale=float(np.abs(want).max(initial=0)))


def test_functions_and_gradients_stay_on_the_device(no_host, rng):
    x, w, b = (rng.standard_normal(s).astype("float32") for s in ((2, 4, 6, 5), (6, 2, 3, 3), (6,)))
    beside(lambda x, w, b: F.conv2d(x, w, b, stride=2, padding=1, groups=2), x, w, b)
    beside(lambda x, w, b: F.conv_transpose2d(x, w, b, stride=2, padding=1, output_padding=1), x, w[:4], b[:2])
    beside(lambda x, w: F.conv1d(x, w, padding="same", dilation=2), x[:, :, 0], w[:4, :, 0].repeat(2, 1))
    beside(lambda x: F.max_pool2d(x, 3, 2, 1), x)
    beside(lambda x: F.avg_pool2d(x, 2, 1, count_include_pad=False), x, order=1)
    beside(lambda x: F.adaptive_avg_pool2d(x, 3), x, order=1)
    beside(lambda x: F.max_pool1d(x, 2) * F.avg_pool1d(x, 2), x[0], order=1)
    beside(lambda x: F.fold(F.unfold(x, 3, padding=1), (6, 5), 3, padding=1), x, order=1)
    for mode in ("nearest", "bilinear", "bicubic", "area"):
        beside(lambda x, mode=mode: F.interpolate(x, scale_factor=1.5, mode=mode), x, order=1)


def test_empty_batches_and_layouts(no_host):
    w = engine.ones(3, 2, 2, 2, device="cuda")
    empty = engine.zeros(0, 2, 4, 4, device="cuda", requires_grad=True)
    y = F.conv2d(empty, w)
    y.sum().backward()
    assert y.shape == (0, 3, 3, 3) and empty.grad.shape == empty.shape
    assert F.max_pool2d(empty, 2).shape == F.avg_pool2d(empty, 2).shape == (0, 2, 2, 2) and F.unfold(empty, 2).shape == (0, 8, 9)
    x = engine.arange(36.0, device="cuda").reshape(1, 6, 6)
    assert F.max_pool2d(x.transpose(1, 2), 3).tolist() == [[[14, 32], [17, 35]]]
    assert F.avg_pool2d(x[:, ::2], 3).tolist() == [[[13, 16]]]
    assert F.conv2d(x.expand(2, 6, 6).flip(1)[:, :2, :2], w[:1]).tolist() == [[[2 * (30 + 31 + 24 + 25)]]]


def test_small_integers_go_over_the_host(rng):
    x, w = (engine.tensor(rng.integers(-3, 4, s)).to(engine.int8) for s in ((1, 2, 4, 4), (2, 2, 3, 3)))
    options = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    got = BOOK["convolution"](x.cuda(), w.cuda(), **options)
    assert got.is_cuda and got.tolist() == BOOK["convolution"](x, w, **options).tolist()
