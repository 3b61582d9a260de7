"""Discrete Fourier transforms over several dimensions: complex to complex, real to complex, complex to real.

NumPy's FFT computes them, float32 in float32. Sizes are final here (the front pads and cuts), `dims` are canonical, and
`norm` is "backward", "ortho" or "forward", as for NumPy. The transforms are linear: the adjoint of one with a direction and a
norm is the opposite direction with the opposite norm; where half a spectrum stands for a whole one, its middle terms count
twice. Called by `engine.fft`.
"""
from __future__ import annotations

import numpy as np

from ..book import BOOK, COMPLEX, FLOATS, TO_REAL, structural
from .complexes import TO_COMPLEX

OPPOSITE = {"backward": "forward", "ortho": "ortho", "forward": "backward"}


def _complex_samples(rng, dtype):
    if dtype == "float64":
        for shape, dims in (((3, 5), (1,)), ((4, 3, 2), (0, 2))):
            for norm in OPPOSITE:
                x = rng.normal(size=shape) + 1j * rng.normal(size=shape)
                yield [x], {"dims": dims, "norm": norm, "forward": norm != "ortho"}


def _complex_like(x, dims, norm, forward):
    return (np.fft.fftn if forward else np.fft.ifftn)(x, axes=dims, norm=norm)


@structural(["x"], linear=True, dtypes=COMPLEX, node="FftC2CBackward0", function=False, method=False, samples=_complex_samples,
            like=_complex_like, adjoint=lambda g, dims, norm, forward: BOOK["fft_c2c"](
                g, dims=dims, norm=OPPOSITE[norm], forward=not forward))
def fft_c2c(x, dims, norm, forward):
    """The transform of a complex array, or the inverse one; no dimensions, no change."""
    if not dims or not x.size:
        return x.copy()
    return (np.fft.fftn if forward else np.fft.ifftn)(x, axes=dims, norm=norm)


@structural(["x"], linear=True, dtypes=COMPLEX, function=False, method=False,
            adjoint=lambda g, dim, size, factor: BOOK["fft_middle"](g, dim=dim, size=size, factor=factor))
def fft_middle(x, dim, size, factor):
    """Half a spectrum of `size` terms with all times `factor` that stand for two: not the first, nor the last of an even size."""
    from .matmul import compute
    out = BOOK["clone"].on_arrays(x)
    middle = out[(slice(None),) * dim + (slice(1, (size + 1) // 2),)]
    compute("mul", middle, middle, factor)
    return out


def _real_adjoint(g, dims, norm, half, x_shape):
    if not half:
        return BOOK["real"](BOOK["fft_c2c"](g, dims=dims, norm=OPPOSITE[norm], forward=False))
    size = x_shape[dims[-1]]
    return BOOK["fft_c2r"](BOOK["fft_middle"](g, dim=dims[-1], size=size, factor=0.5), dims=dims, norm=OPPOSITE[norm], size=size)


def _real_samples(rng, dtype):
    if dtype == "float64":
        for shape, dims in (((3, 5), (1,)), ((4, 3, 6), (0, 2))):
            for norm in OPPOSITE:
                yield [rng.normal(size=shape)], {"dims": dims, "norm": norm, "half": norm != "ortho"}


def _real_like(x, dims, norm, half):
    return (np.fft.rfftn if half else np.fft.fftn)(x, axes=dims, norm=norm)


@structural(["x"], linear=True, dtypes=FLOATS[1:], result=TO_COMPLEX, node="FftR2CBackward0", function=False, method=False,
            samples=_real_samples, like=_real_like, adjoint=_real_adjoint)
def fft_r2c(x, dims, norm, half):
    """The transform of a real array; if `half` only the first half along the last of the dimensions, which says all."""
    if not x.size:
        last = x.shape[dims[-1]] // 2 + 1 if half else x.shape[dims[-1]]
        shape = tuple(last if d == dims[-1] else n for d, n in enumerate(x.shape))
        return np.empty(shape, np.result_type(x.dtype, np.complex64))
    return (np.fft.rfftn if half else np.fft.fftn)(x, axes=dims, norm=norm)


def _to_real_adjoint(g, dims, norm, size):
    return BOOK["fft_middle"](BOOK["fft_r2c"](g, dims=dims, norm=OPPOSITE[norm], half=True), dim=dims[-1], size=size, factor=2)


def _to_real_samples(rng, dtype):
    if dtype == "float64":
        for norm, size in (("backward", 5), ("ortho", 6), ("forward", 1)):
            shape = (3, 2, size // 2 + 1)
            yield [rng.normal(size=shape) + 1j * rng.normal(size=shape)], {"dims": (0, 2), "norm": norm, "size": size}


def _to_real_like(x, dims, norm, size):
    return np.fft.irfftn(x, [size if d == dims[-1] else x.shape[d] for d in dims], axes=dims, norm=norm)


@structural(["x"], linear=True, dtypes=COMPLEX, result=TO_REAL, node="FftC2RBackward0", function=False, method=False,
            samples=_to_real_samples, like=_to_real_like, adjoint=_to_real_adjoint)
def fft_c2r(x, dims, norm, size):
    """The inverse transform of half a spectrum along the last of the dimensions, where the result has `size` elements."""
    if not x.size:
        return np.empty(tuple(size if d == dims[-1] else n for d, n in enumerate(x.shape)), x.real.dtype)
    return np.fft.irfftn(x, [size if d == dims[-1] else x.shape[d] for d in dims], axes=dims, norm=norm)
