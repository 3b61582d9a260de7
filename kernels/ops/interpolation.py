"""Interpolation along dimensions as linear maps, pixel and channel shuffles, and sampling at points of a grid.

A map is a table of positions and weights for each dimension (`kernels.cpu.interpolation.Taps`); the adjoint is the same
operator with the transposed tables, so gradients go to any order. Options come from `engine.nn.functional.vision`.
"""
from __future__ import annotations

from ..book import BOOK, FLOATS, structural
from ..cpu import buffers, copies

# --- tables along dimensions --------------------------------------------------------------------------------------------


def _transposed(taps: tuple) -> tuple:
    return tuple((dim, table.transposed) for dim, table in reversed(taps))


def _resampling(name: str, node: str, doc: str, moves: bool = False) -> None:
    """A record that maps along dimensions; several names, because each has its node in PyTorch. `moves`: one tap of weight 1."""
    @structural(["x"], name=name, node=node, doc=doc, linear=True, function=False, method=False, dtypes=FLOATS,
                adjoint=lambda g, taps: BOOK["resample"](g, taps=_transposed(taps)))
    def forward(x, taps):
        if moves:
            from ..cpu.gathers import pick
            for dim, table in taps:
                x = pick(x, table.positions[:, 0], dim, dim + 1)
            return x
        from ..cpu.interpolation import resample
        for dim, table in taps:
            x = resample(x, dim, table)
        return x


_resampling("resample", "ResampleBackward0", "Weighted sums of neighbours along dimensions: `taps` are pairs of dimension, table.")
for _d in (1, 2, 3):
    _resampling(f"upsample_nearest{_d}d", f"UpsampleNearest{_d}DBackward0", "The nearest input below each output.", moves=True)
    _resampling(f"upsample_nearest_exact{_d}d", f"UpsampleNearestExact{_d}DBackward0", "The input nearest to each output.",
                moves=True)
    _resampling(f"upsample_area{_d}d", f"AdaptiveAvgPool{max(_d, 2)}DBackward0", "The mean of the inputs under each output.")
_resampling("upsample_linear1d", "UpsampleLinear1DBackward0", "Linear interpolation of the last dimension.")
_resampling("upsample_bilinear2d", "UpsampleBilinear2DBackward0", "Linear interpolation of two dimensions.")
_resampling("upsample_trilinear3d", "UpsampleTrilinear3DBackward0", "Linear interpolation of three dimensions.")
_resampling("upsample_bicubic2d", "UpsampleBicubic2DBackward0", "Cubic convolution of two dimensions.")
_resampling("upsample_bilinear2d_aa", "UpsampleBilinear2DAaBackward0",
            "Linear interpolation with a filter as wide as outputs are apart.")
_resampling("upsample_bicubic2d_aa", "UpsampleBicubic2DAaBackward0",
            "Cubic interpolation with a filter as wide as outputs are apart.")
_resampling("upsample_lanczos2d_aa", "UpsampleLanczos2DAaBackward0",
            "Lanczos interpolation with a filter as wide as outputs are apart.")


# --- shuffles ------------------------------------------------------------------------------------------------------------

def _placed(x, shape, order):
    """A copy with the dimensions of `shape`, which are x's split up, in another order."""
    out = buffers.empty(tuple(shape[d] for d in order), x.dtype)
    if out.size:
        copies.into(out, copies.copy(x).reshape(shape).transpose(order) if not x.flags.c_contiguous else
                    x.reshape(shape).transpose(order))
    return out


@structural(["x"], anywhere=True, linear=True, function=False, method=False, node="PixelShuffleBackward0",
            adjoint=lambda g, factor: BOOK["pixel_unshuffle"](g, factor=factor))
def pixel_shuffle(x, factor):
    """(..., c r r, h, w) as (..., c, h r, w r): channels become pixels. Shi et al., Real-time super-resolution (2016)."""
    *lead, c, h, w = x.shape
    shape, k = (*lead, c // factor**2, factor, factor, h, w), len(lead)
    return _placed(x, shape, (*range(k), k, k + 3, k + 1, k + 4, k + 2)).reshape(*lead, c // factor**2, h * factor, w * factor)


@structural(["x"], anywhere=True, linear=True, function=False, method=False, node="PixelUnshuffleBackward0",
            adjoint=lambda g, factor: BOOK["pixel_shuffle"](g, factor=factor))
def pixel_unshuffle(x, factor):
    """(..., c, h r, w r) as (..., c r r, h, w): pixels become channels, the inverse of pixel_shuffle."""
    *lead, c, h, w = x.shape
    shape, k = (*lead, c, h // factor, factor, w // factor, factor), len(lead)
    return _placed(x, shape, (*range(k), k, k + 2, k + 4, k + 1, k + 3)).reshape(*lead, c * factor**2, h // factor, w // factor)


@structural(["x"], anywhere=True, linear=True, function=False, method=False, node="ChannelShuffleBackward0",
            adjoint=lambda g, groups, x_shape: BOOK["channel_shuffle"](g, groups=x_shape[1] // groups))
def channel_shuffle(x, groups):
    """Channels of `groups` groups interleaved: channel g c + k becomes k groups + g. Zhang et al., ShuffleNet (2018)."""
    n, c, *rest = x.shape
    shape = (n, groups, c // groups, *rest)
    return _placed(x, shape, (0, 2, 1, *range(3, len(shape)))).reshape(x.shape)
