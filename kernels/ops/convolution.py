"""Convolutions as bilinear maps: with an image, back to the image, to the weights; and sliding blocks (im2col, col2im).

The three records are the faces of one trilinear form sum g * (w * x), so the derivatives of each are the other two and any order
works. Images are (n, channels, spatial...) with one to three spatial dimensions, weights (m, channels of a group, spatial...);
`stride`, `padding` and `dilation` have one number for each. What users may write is settled in `engine.nn.functional.conv`; the
kernels are in `kernels.cpu.convolution` (float32, float64, int64; float16 goes through float32, other integers through int64).
"""
from __future__ import annotations

import itertools

import numpy as np

from ..book import BOOK, FLOATS, INTS, structural
from ..cpu import buffers, copies
from ..table import cast_ufunc
from .matmul import compute
from .windows import placed, zeros

DTYPES = INTS + FLOATS
THROUGH = {"float16": "float32", "int32": "int64", "int16": "int64", "int8": "int64", "uint8": "int64"}


# --- pieces -----------------------------------------------------------------------------------------------------------

def _solid(x: np.ndarray) -> np.ndarray:
    """An array of one or two spatial dimensions with three; sizes 1 are put in front."""
    return x[(slice(None), slice(None), *[None] * (5 - x.ndim))]


def _triple(values: tuple, fill: int) -> tuple:
    return (fill,) * (3 - len(values)) + tuple(values)


def _run(name: str, arrays: list, dims: int, options: tuple) -> np.ndarray:
    """A product of `kernels.cpu.convolution` on arrays in the dtype that it computes in; the result as the operands are."""
    from ..cpu import convolution
    char = arrays[0].dtype.char
    through = None
    if char not in convolution.NAME:
        dtype = arrays[0].dtype.name
        through = THROUGH[dtype]
        arrays = [None if a is None else cast_ufunc(dtype, through)(a, out=...) for a in arrays]
    found = getattr(convolution, name)(*(a if a is None or a.ndim == 1 else _solid(a) for a in arrays), *options)
    found = found.reshape(found.shape[:2] + found.shape[5 - dims:])
    return found if through is None else cast_ufunc(through, dtype)(found, out=...)


def _shared(stride, padding, dilation, groups) -> tuple:
    return _triple(stride, 1), _triple(padding, 0), _triple(dilation, 1), groups


def _bias_gradient(g):
    return BOOK["sum"](g, dims=(0, *range(2, g.ndim)))


def _reference(x, w, bias=None, *, stride, padding, dilation, groups):
    """A convolution as sums over windows, for tests."""
    x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    spatial = tuple(range(2, x.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(
        x, [d * (k - 1) + 1 for d, k in zip(dilation, w.shape[2:], strict=True)], axis=spatial)
    windows = windows[(..., *(slice(None, None, s) for s in stride), *(slice(None, None, d) for d in dilation))]
    parts = [np.tensordot(a, b, (tuple(c + 1 if c == 0 else c + len(spatial) + 1 for c in range(len(spatial) + 1)),
                                 tuple(range(1, w.ndim))))
             for a, b in zip(np.split(windows, groups, 1), np.split(w, groups, 0), strict=True)]
    out = np.moveaxis(np.concatenate(parts, -1), -1, 1)
    return out if bias is None else out + bias.reshape(-1, *[1] * len(spatial))


def _samples(shapes: tuple, extra, back: bool = False):
    """Operands and options of a few small convolutions: `shapes` names which of x, w, g, b a record takes."""
    def samples(rng, dtype):
        def draw(*shape):
            return (rng.normal(size=shape) if dtype.startswith("float") else rng.integers(-9, 10, shape)).astype(dtype)
        for spatial, kernel, stride, padding, dilation, groups in (
                ((6,), (3,), (2,), (1,), (1,), 1), ((4, 5), (2, 3), (1, 2), (1, 0), (2, 1), 2),
                ((3, 4, 3), (2, 1, 2), (1, 3, 2), (1, 0, 1), (1, 1, 1), 1)):
            out = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1
                        for n, k, s, p, d in zip(spatial, kernel, stride, padding, dilation, strict=True))
            c, m = 2 * groups, 3 * groups
            made = {"x": (2, c, *spatial), "w": (m, c // groups, *kernel), "g": (2, m, *out), "b": (c if back else m,)}
            options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
            size = {"spatial": spatial, "kernel": kernel}.get(extra)
            yield [draw(*made[s]) for s in shapes], options if size is None else {"size": size, **options}
    return samples


# --- the records ------------------------------------------------------------------------------------------------------

def _convolution_adjoint(g, x, w, x_shape, w_shape, stride, padding, dilation, groups, needs):
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return (BOOK["convolution_back"](g, w, size=tuple(x_shape[2:]), **options) if needs[0] else None,
            BOOK["convolution_weight"](x, g, size=tuple(w_shape[2:]), **options) if needs[1] else None)


def _affine_adjoint(g, x, w, x_shape, w_shape, stride, padding, dilation, groups, needs):
    return (*_convolution_adjoint(g, x, w, x_shape, w_shape, stride, padding, dilation, groups, needs),
            _bias_gradient(g) if needs[2] else None)


@structural(["x", "w"], adjoint=_convolution_adjoint, dtypes=DTYPES, function=False, method=False, like=_reference,
            samples=_samples("xw", None))
def convolution(x, w, stride, padding, dilation, groups):
    """Cross-correlation of images with weights."""
    return _run("convolve", [x, w, None], x.ndim - 2, _shared(stride, padding, dilation, groups))


@structural(["x", "w", "bias"], adjoint=_affine_adjoint, dtypes=DTYPES, function=False, method=False, like=_reference,
            samples=_samples("xwb", None), node="ConvolutionBackward0")
def convolution_affine(x, w, bias, stride, padding, dilation, groups):
    """Cross-correlation of images with weights, plus one number a channel."""
    return _run("convolve", [x, w, bias], x.ndim - 2, _shared(stride, padding, dilation, groups))


def _back_adjoint(g, x, w, w_shape, stride, padding, dilation, groups, needs):
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return (_trimmed(BOOK["convolution"](g, w, **options), x.shape) if needs[0] else None,
            BOOK["convolution_weight"](g, x, size=tuple(w_shape[2:]), **options) if needs[1] else None)


def _trimmed(g, shape):
    """The outputs that a transposed convolution began from; a larger image (output_padding) may have some more."""
    for d in range(2, g.ndim):
        if g.shape[d] > shape[d]:
            g = BOOK["slice"](g, dim=d, start=0, stop=shape[d], step=1)
    return g


def _back_affine_adjoint(g, x, w, w_shape, stride, padding, dilation, groups, needs):
    return (*_back_adjoint(g, x, w, w_shape, stride, padding, dilation, groups, needs), _bias_gradient(g) if needs[2] else None)


@structural(["x", "w"], adjoint=_back_adjoint, dtypes=DTYPES, function=False, method=False, node="ConvolutionBackward0",
            samples=_samples("gw", "spatial"))
def convolution_back(x, w, size, stride, padding, dilation, groups):
    """The transpose of a convolution with respect to its image, whose spatial size is given."""
    return _run("convolve_back", [x, w, None], x.ndim - 2, (_triple(size, 1), *_shared(stride, padding, dilation, groups)))


@structural(["x", "w", "bias"], adjoint=_back_affine_adjoint, dtypes=DTYPES, function=False, method=False,
            node="ConvolutionBackward0", samples=_samples("gwb", "spatial", back=True))
def convolution_back_affine(x, w, bias, size, stride, padding, dilation, groups):
    """The transpose of a convolution with respect to its image, plus one number a channel."""
    return _run("convolve_back", [x, w, bias], x.ndim - 2, (_triple(size, 1), *_shared(stride, padding, dilation, groups)))


def _weight_adjoint(g, x, y, x_shape, y_shape, stride, padding, dilation, groups, needs):
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return (BOOK["convolution_back"](y, g, size=tuple(x_shape[2:]), **options) if needs[0] else None,
            _trimmed(BOOK["convolution"](x, g, **options), y_shape) if needs[1] else None)


@structural(["x", "y"], adjoint=_weight_adjoint, dtypes=DTYPES, function=False, method=False, node="ConvolutionBackward0",
            samples=_samples("xg", "kernel"))
def convolution_weight(x, y, size, stride, padding, dilation, groups):
    """The transpose of a convolution with respect to its weights, whose spatial size is given: images with cotangents."""
    return _run("convolve_weight", [x, y], x.ndim - 2, (_triple(size, 1), *_shared(stride, padding, dilation, groups)))


# --- sliding blocks ---------------------------------------------------------------------------------------------------

def _blocks(shape, kernel, stride, padding, dilation) -> tuple[int, ...]:
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1
                 for n, k, s, p, d in zip(shape, kernel, stride, padding, dilation, strict=True))


def _windows(x: np.ndarray, kernel: tuple, stride: tuple, dilation: tuple) -> np.ndarray:
    """The sliding blocks of images as a view (n, c, kh, kw, blocks down, blocks across)."""
    n, c, h, w = x.strides
    counts = _blocks(x.shape[2:], kernel, stride, (0, 0), dilation)
    return np.lib.stride_tricks.as_strided(x, (*x.shape[:2], *kernel, *counts), (
        n, c, h * dilation[0], w * dilation[1], h * stride[0], w * stride[1]))


def _inside(padding: tuple, size: tuple):
    """The view of a padded image without its padding."""
    return lambda x: x[:, :, padding[0]:padding[0] + size[0], padding[1]:padding[1] + size[1]]


def _block_samples(columns: bool):
    def samples(rng, dtype):
        for size, kernel, stride, padding, dilation in (((4, 5), (2, 3), (1, 2), (1, 0), (2, 1)),
                                                          ((3, 4), (2, 2), (3, 1), (0, 1), (1, 2))):
            options = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
            shape = (2, 2, *size)
            if columns:
                options["size"] = size
                shape = (2, 2 * kernel[0] * kernel[1], int(np.prod(_blocks(size, kernel, stride, padding, dilation))))
            yield [(rng.normal(size=shape) * 3).astype(dtype)], options
    return samples


def _im2col_reference(x, kernel, stride, padding, dilation):
    x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    windows = np.lib.stride_tricks.sliding_window_view(
        x, [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)], axis=(2, 3))
    windows = windows[:, :, ::stride[0], ::stride[1], ::dilation[0], ::dilation[1]]
    n, c, h, w, a, b = windows.shape
    return windows.transpose(0, 1, 4, 5, 2, 3).reshape(n, c * a * b, h * w)


@structural(["x"], linear=True, function=False, method=False, node="Im2ColBackward0", like=_im2col_reference,
            samples=_block_samples(False),
            adjoint=lambda g, x_shape, kernel, stride, padding, dilation: BOOK["col2im"](
                g, size=tuple(x_shape[2:]), kernel=kernel, stride=stride, padding=padding, dilation=dilation))
def im2col(x, kernel, stride, padding, dilation):
    """Sliding blocks of images (n, c, h, w) as columns (n, c * kh * kw, blocks)."""
    if any(padding):
        shape = tuple(n + 2 * p for n, p in zip(x.shape[2:], padding, strict=True))
        x = placed(x, (*x.shape[:2], *shape), _inside(padding, x.shape[2:]))
    windows = _windows(x, kernel, stride, dilation)
    out = buffers.empty(windows.shape, x.dtype)
    if out.size:
        copies.into(out, windows)
    return out.reshape(x.shape[0], x.shape[1] * kernel[0] * kernel[1], windows.shape[4] * windows.shape[5])


@structural(["x"], linear=True, function=False, method=False, node="Col2ImBackward0", samples=_block_samples(True),
            adjoint=lambda g, kernel, stride, padding, dilation: BOOK["im2col"](
                g, kernel=kernel, stride=stride, padding=padding, dilation=dilation))
def col2im(x, size, kernel, stride, padding, dilation):
    """Columns added back to the places of images (n, c, h, w) that im2col took them from."""
    channels = x.shape[1] // (kernel[0] * kernel[1])
    out = zeros((x.shape[0], channels, *(n + 2 * p for n, p in zip(size, padding, strict=True))), x.dtype)
    targets = _windows(out, kernel, stride, dilation)
    pieces = x.reshape(targets.shape)
    if x.size:
        for i, j in itertools.product(range(kernel[0]), range(kernel[1])):
            compute("add", targets[:, :, i, j], targets[:, :, i, j], pieces[:, :, i, j])
    return copies.copy(_inside(padding, size)(out)) if any(padding) else out
