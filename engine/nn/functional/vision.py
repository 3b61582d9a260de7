"""interpolate and its kin, grid_sample and affine_grid, pixel and channel shuffles.

Interpolation is a linear map for each dimension (`kernels.cpu.interpolation`), applied by the records of
`kernels.ops.interpolation`; sampling at points is composed of operators.
"""
from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from kernels.book import BOOK

from ... import dtypes
from ...errors import DTypeError, ShapeError
from ...functions.create import tensor
from ...functions.join import stack
from ...tensor import Tensor

# --- interpolate ------------------------------------------------------------------------------------------------------

_NAMES = {("nearest", 1): "upsample_nearest1d", ("nearest", 2): "upsample_nearest2d", ("nearest", 3): "upsample_nearest3d",
          ("nearest-exact", 1): "upsample_nearest_exact1d", ("nearest-exact", 2): "upsample_nearest_exact2d",
          ("nearest-exact", 3): "upsample_nearest_exact3d", ("area", 1): "upsample_area1d", ("area", 2): "upsample_area2d",
          ("area", 3): "upsample_area3d", ("linear", 1): "upsample_linear1d", ("bilinear", 2): "upsample_bilinear2d",
          ("trilinear", 3): "upsample_trilinear3d", ("bicubic", 2): "upsample_bicubic2d"}
_NEEDS = {"linear": 3, "bilinear": 4, "trilinear": 5}


def _per_dimension(input: Tensor, given: object, word: str, dim: int) -> list:
    if not isinstance(given, (tuple, list)):
        return [given] * dim
    if len(given) != dim:
        named = "output size of" if word == "size" else "scale_factor of shape"
        form = ("output size in (o1, o2, ...,oK) format." if word == "size" else "scale_factor in (s1, s2, ...,sK) format.")
        raise ValueError(f"Input and {'output' if word == 'size' else 'scale_factor'} must have the same number of spatial "
                         f"dimensions, "
                         f"but got input with spatial dimensions of {list(input.shape[2:])} and {named} {given}. Please "
                         f"provide input "
                         f"tensor in (N, C, d1, d2, ...,dK) format and {form}")
    return list(given)


def interpolate(input: Tensor, size: int | Sequence[int] | None = None, scale_factor: float | Sequence[float] | None = None,
                mode: str = "nearest", align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
                antialias: bool = False) -> Tensor:
    """The input (N, C, d1, ..., dK) at `size`, or at its size times `scale_factor`.

    Modes by K: "nearest", "nearest-exact", "area" (1 to 3), "linear" (1), "bilinear", "bicubic" (2; with `antialias` a filter as
    wide as outputs are apart; "lanczos" only so), "trilinear" (3). Positions are computed from the scale factor itself, or with
    `recompute_scale_factor` from the sizes. Errors: ValueError, NotImplementedError, RuntimeError as in PyTorch.
    """
    if mode in ("nearest", "area", "nearest-exact") and align_corners is not None:
        raise ValueError("align_corners option can only be set with the interpolating modes: linear | bilinear | bicubic "
                         "| trilinear")
    dim = input.dim() - 2
    if size is not None and scale_factor is not None:
        raise ValueError("only one of size or scale_factor should be defined")
    if size is None and scale_factor is None:
        raise ValueError("either size or scale_factor should be defined")
    scales: list = [None] * max(dim, 0)
    if size is not None:
        sizes = _per_dimension(input, size, "size", dim)
        if not all(hasattr(n, "__index__") for n in sizes):
            raise TypeError("expected size to be one of int or Tuple[int] or Tuple[int, int] or Tuple[int, int, int], but got "
                            "size with "
                            f"types {[type(n) for n in sizes]}")
        sizes = [n.__index__() for n in sizes]
        if recompute_scale_factor:
            raise ValueError("recompute_scale_factor is not meaningful with an explicit size.")
    else:
        factors = _per_dimension(input, scale_factor, "scale_factor", dim)
        sizes = [int(n * f) for n, f in zip(input.shape[2:], factors, strict=True)]
        if not recompute_scale_factor and mode != "area":
            scales = [float(f) for f in factors]
    if antialias and not (mode in ("bilinear", "bicubic", "lanczos") and input.dim() == 4):
        raise ValueError("Anti-alias option is restricted to bilinear, bicubic, and lanczos modes and requires a 4-D tensor "
                         "as input")
    if mode == "lanczos" and input.dim() == 4 and not antialias:
        raise ValueError("Lanczos mode requires antialias=True")
    name = f"upsample_{mode}2d_aa" if antialias else _NAMES.get((mode, dim))
    if name is None:
        if dim in (1, 2, 3) and mode in _NEEDS:
            raise NotImplementedError(f"Got {dim + 2}D input, but {mode} mode needs {_NEEDS[mode]}D input")
        raise NotImplementedError(f"Input Error: Only 3D, 4D and 5D input Tensors supported (got {dim + 2}D) for the modes: "
                                  f"nearest | "
                                  f"linear | bilinear | bicubic | trilinear | lanczos | area | nearest-exact (got {mode})")
    _check_sizes(input, sizes, mode, name)
    return BOOK[name](input, taps=_taps(input.shape[2:], sizes, scales, mode, bool(align_corners), antialias))


def _check_sizes(input: Tensor, sizes: list[int], mode: str, name: str) -> None:
    shape = input._array.shape
    letters = ("D", "H", "W")[3 - len(sizes):]
    if mode == "area":
        if any(n < 0 for n in sizes):
            raise RuntimeError("elements of output_size must be greater than or equal to 0")
        if 0 in shape[2:]:
            raise RuntimeError("Expected input to have non-zero size for non-batch dimensions, but input has sizes "
                               f"{list(shape)}")
    elif min(sizes) <= 0 or 0 in shape[2:]:
        def say(values):
            return ", ".join(f"{c}: {n}" for c, n in zip(letters, values, strict=True))
        raise RuntimeError(f"Input and output sizes should be greater than 0, but got input ({say(shape[2:])}) output "
                           f"({say(sizes)})")
    elif shape[1] == 0:
        raise ShapeError(f"Non-empty {len(shape)}D data tensor expected but got a tensor with sizes {list(shape)}")
    kind = input._kind.dtype
    if not (kind.is_floating_point or (kind is dtypes.uint8 and mode.startswith("nearest"))):
        raise NotImplementedError(f'"{name}" not implemented for \'{kind.scalar}\'')


def _taps(before: Sequence[int], after: list[int], scales: list, mode: str, align: bool, antialias: bool) -> tuple:
    """One table for each dimension; the last dimension first, while there is least of it."""
    from kernels.cpu import interpolation as tables
    found = []
    for d, (size, outputs, scale) in enumerate(zip(before, after, scales, strict=True)):
        if antialias:
            table = tables.antialias_taps(mode, size, outputs, align, scale)
        elif mode == "area":
            table = tables.area_taps(size, outputs)
        elif mode.startswith("nearest"):
            table = tables.nearest_taps(size, outputs, scale, mode == "nearest-exact")
        else:
            table = (tables.cubic_taps if mode == "bicubic" else tables.linear_taps)(size, outputs, align, scale)
        found.append((d + 2, table))
    return tuple(reversed(found))


def upsample(input: Tensor, size: int | Sequence[int] | None = None, scale_factor: float | Sequence[float] | None = None,
             mode: str = "nearest", align_corners: bool | None = None) -> Tensor:
    """`interpolate` under its old name."""
    warnings.warn("`nn.functional.upsample` is deprecated. Use `nn.functional.interpolate` instead.", stacklevel=2)
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: Tensor, size: int | Sequence[int] | None = None,
                     scale_factor: float | Sequence[float] | None = None) -> Tensor:
    """`interpolate` in mode "nearest" under its old name."""
    warnings.warn("`nn.functional.upsample_nearest` is deprecated. Use `nn.functional.interpolate` instead.", stacklevel=2)
    return interpolate(input, size, scale_factor, mode="nearest")


def upsample_bilinear(input: Tensor, size: int | Sequence[int] | None = None,
                      scale_factor: float | Sequence[float] | None = None) -> Tensor:
    """`interpolate` in mode "bilinear" with aligned corners under its old name."""
    warnings.warn("`nn.functional.upsample_bilinear` is deprecated. Use `nn.functional.interpolate` instead.", stacklevel=2)
    return interpolate(input, size, scale_factor, mode="bilinear", align_corners=True)


# --- sampling at points -----------------------------------------------------------------------------------------------

def _place(u: Tensor, size: int, align: bool) -> Tensor:
    """Coordinates in -1 to 1 as positions in a dimension."""
    return (u + 1) * ((size - 1) / 2) if align else ((u + 1) * size - 1) * 0.5


def _reflected(x: Tensor, low: float, high: float) -> Tensor:
    """Positions mirrored at both ends until they lie between them; the number of mirrors is a constant of the gradient."""
    if high <= low:
        return x * 0
    span = high - low
    far = (x - low).abs()
    flips = (far.detach() / span).floor()
    rest = far - flips * span
    return (rest + low).where(flips % 2 == 0, span - rest + low)


def _bounded(x: Tensor, size: int, padding_mode: str, align: bool) -> Tensor:
    """Positions moved into a dimension as the padding mode says."""
    if padding_mode == "border":
        return x.clamp(0, size - 1)
    if padding_mode == "reflection":
        x = _reflected(x, 0, size - 1) if align else _reflected(x, -0.5, size - 0.5)
        return x.clamp(0, size - 1)
    return x


def _elements(input: Tensor, places: list[Tensor]) -> Tensor:
    """Elements (N, C, points) at whole positions (N, points) for each spatial dimension; zero where one lies outside."""
    sizes = input.shape[2:]
    inside, flat = None, None
    for x, n in zip(places, sizes, strict=True):
        here = (x >= 0) & (x <= n - 1)          # false for NaN
        inside = here if inside is None else inside & here
        at = x.where(here, 0).long()
        flat = at if flat is None else flat * n + at
    rows = input.reshape(*input.shape[:2], -1)
    index = flat.unsqueeze(1).expand(-1, input.shape[1], -1)
    return rows.gather(2, index).where(inside.unsqueeze(1), 0)


def _nearest(input: Tensor, places: list[Tensor]) -> Tensor:
    found = _elements(input, [x.detach().round() for x in places])
    one = BOOK["noise"](places[0], value=np.ones(places[0]._array.shape, input._kind.numpy))
    return found * one.unsqueeze(1)         # a factor 1 through which the points take part, with a gradient of zero


def _linear(input: Tensor, places: list[Tensor]) -> Tensor:
    """The corners around each point, each weighted by the volume opposite to it."""
    floors = [x.detach().floor() for x in places]
    parts = [x - low for x, low in zip(places, floors, strict=True)]
    total = None
    for corner in range(2 ** len(places)):
        bits = [corner >> k & 1 for k in range(len(places))]
        weight = None
        for bit, part in zip(bits, parts, strict=True):
            factor = part if bit else 1 - part
            weight = factor if weight is None else weight * factor
        term = _elements(input, [low + bit for low, bit in zip(floors, bits, strict=True)]) * weight.unsqueeze(1)
        total = term if total is None else total + term
    return total


def _cubic_weights(t: Tensor) -> list[Tensor]:
    """Weights of the four neighbours at distances 1 + t, t, 1 - t, 2 - t; Keys (1981) with a = -0.75."""
    a = -0.75

    def near(x):
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x):
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


def _cubic(input: Tensor, places: list[Tensor], padding_mode: str, align: bool) -> Tensor:
    floors = [x.detach().floor() for x in places]
    weights = [_cubic_weights(x - low) for x, low in zip(places, floors, strict=True)]
    sizes, total = input.shape[2:], None
    for i in range(4):
        for j in range(4):
            moved = [_bounded(low + (k - 1), n, padding_mode, align) for low, k, n in zip(floors, (i, j), sizes, strict=True)]
            term = _elements(input, [x.round() for x in moved]) * (weights[0][i] * weights[1][j]).unsqueeze(1)
            total = term if total is None else total + term
    return total


def grid_sample(input: Tensor, grid: Tensor, mode: str = "bilinear", padding_mode: str = "zeros",
                align_corners: bool | None = None) -> Tensor:
    """The input (N, C, H, W) or (N, C, D, H, W) at the points of a grid (N, ..., 2) or (N, ..., 3) of coordinates (x, y, z).

    -1 and 1 are the ends of a dimension: the centres of its last elements if `align_corners`, else their outer edges. Modes
    "bilinear" (trilinear in 5-d), "nearest", "bicubic" (4-d); outside lie "zeros", the "border", or a "reflection". Gradients go
    to input and grid. Errors: ValueError for other words, RuntimeError for shapes and dtypes.
    """
    if mode not in ("bilinear", "nearest", "bicubic"):
        raise ValueError(f"nn.functional.grid_sample(): expected mode to be 'bilinear', 'nearest' or 'bicubic', but got: '{mode}'")
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError("nn.functional.grid_sample(): expected padding_mode to be 'zeros', 'border', or 'reflection', but got: "
                         f"'{padding_mode}'")
    if align_corners is None:
        warnings.warn("Default grid_sample and affine_grid behavior has changed to align_corners=False since 1.3.0. Please specify "
                      "align_corners=True if the old behavior is desired. See the documentation of grid_sample for details.",
                      stacklevel=2)
    align = bool(align_corners)
    ndim, shape = input._array.ndim, list(input.shape)
    if not shape or not grid.shape or shape[0] != grid.shape[0]:
        raise ShapeError(f"grid_sampler(): expected grid and input to have same batch size, but got input with sizes {shape} "
                         f"and grid "
                         f"with sizes {list(grid.shape)}")
    if grid.shape[-1] != ndim - 2:
        raise ShapeError(f"grid_sampler(): expected grid to have size {ndim - 2} in last dimension, but got grid with sizes "
                         f"{list(grid.shape)}")
    for d in range(2, ndim):
        if not shape[d]:
            raise ShapeError("grid_sampler(): expected input to have non-empty spatial dimensions, but input has sizes "
                             f"{shape} with dimension {d} being empty")
    if ndim not in (4, 5) or grid._array.ndim != ndim:
        raise ShapeError(f"grid_sampler(): expected 4D or 5D input and grid with same number of dimensions, but got input "
                         f"with sizes "
                         f"{shape} and grid with sizes {list(grid.shape)}")
    if mode == "bicubic" and ndim == 5:
        raise RuntimeError("grid_sampler(): bicubic interpolation only supports 4D input")
    if grid._kind is not input._kind:
        raise DTypeError(f"expected scalar type {input._kind.dtype.scalar} but found {grid._kind.dtype.scalar}")
    points = grid.reshape(grid.shape[0], -1, ndim - 2)
    places = [_place(points.select(2, ndim - 3 - d), shape[2 + d], align) for d in range(ndim - 2)]
    if mode == "bicubic":
        found = _cubic(input, places, padding_mode, align)
    else:
        places = [_bounded(x, n, padding_mode, align) for x, n in zip(places, shape[2:], strict=True)]
        found = (_nearest if mode == "nearest" else _linear)(input, places)
    return found.reshape(*shape[:2], *grid.shape[1:-1])


def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """The grid (N, H, W, 2) or (N, D, H, W, 3) of points theta @ (x, y, z, 1) for an output `size` (N, C, ...).

    theta: (N, 2, 3) or (N, 3, 4), floating. Errors: ValueError, NotImplementedError as in PyTorch.
    """
    if align_corners is None:
        warnings.warn("Default grid_sample and affine_grid behavior has changed to align_corners=False since 1.3.0. Please specify "
                      "align_corners=True if the old behavior is desired. See the documentation of grid_sample for details.",
                      stacklevel=2)
    if not theta.is_floating_point():
        raise ValueError(f"Expected theta to have floating point type, but got {theta.dtype}")
    size = tuple(size)
    if len(size) not in (4, 5):
        raise NotImplementedError("affine_grid only supports 4D and 5D sizes, for 2D and 3D affine transforms, respectively. "
                                  "Got size "
                                  f"{size}.")
    k = len(size) - 2
    if theta.dim() != 3 or tuple(theta.shape[1:]) != (k, k + 1):
        raise ValueError(f"Expected a batch of {k}D affine matrices of shape Nx{k}x{k + 1} for size {size}. Got {theta.shape}.")
    if min(size) <= 0:
        raise ValueError(f"Expected non-zero, positive output size. Got {size}")
    lines = []
    for n in size[2:]:
        first = -1.0 if align_corners else 1.0 / n - 1.0
        step = 2.0 / (n - 1) if align_corners and n > 1 else 0.0 if align_corners else 2.0 / n
        lines.append([(first if n > 1 else 0.0) + step * i for i in range(n)])
    shape = size[2:]
    columns = []
    for d in reversed(range(k)):                # x is the last dimension
        line = tensor(lines[d], dtype=theta.dtype).reshape(*[-1 if e == d else 1 for e in range(k)])
        columns.append(line.expand(shape).reshape(-1))
    columns.append(columns[0] * 0 + 1)
    base = stack(columns, 1)                    # (points, k + 1)
    return (base.unsqueeze(0).expand(theta.shape[0], -1, -1) @ theta.transpose(1, 2)).reshape(theta.shape[0], *shape, k)


# --- shuffles ---------------------------------------------------------------------------------------------------------

def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """(..., C r r, H, W) as (..., C, H r, W r). RuntimeError where the channels do not fit."""
    shape = input._array.shape
    if len(shape) < 3:
        raise ShapeError(f"pixel_shuffle expects input to have at least 3 dimensions, but got input with {len(shape)} dimension(s)")
    if upscale_factor <= 0:
        raise RuntimeError(f"pixel_shuffle expects a positive upscale_factor, but got {upscale_factor}")
    if shape[-3] % upscale_factor**2:
        raise ShapeError("pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of "
                         "upscale_factor, but "
                         f"input.size(-3)={shape[-3]} is not divisible by {upscale_factor**2}")
    return BOOK["pixel_shuffle"](input, factor=upscale_factor)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """(..., C, H r, W r) as (..., C r r, H, W). RuntimeError where height or width do not fit."""
    shape = input._array.shape
    if len(shape) < 3:
        raise ShapeError(f"pixel_unshuffle expects input to have at least 3 dimensions, but got input with {len(shape)} "
                         f"dimension(s)")
    if downscale_factor <= 0:
        raise RuntimeError(f"pixel_unshuffle expects a positive downscale_factor, but got {downscale_factor}")
    for word, d in (("height", -2), ("width", -1)):
        if shape[d] % downscale_factor:
            raise ShapeError(f"pixel_unshuffle expects {word} to be divisible by downscale_factor, but "
                             f"input.size({d})={shape[d]} is "
                             f"not divisible by {downscale_factor}")
    return BOOK["pixel_unshuffle"](input, factor=downscale_factor)


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Channels (dimension 1) of `groups` groups interleaved. RuntimeError where they do not fit."""
    shape = input._array.shape
    if len(shape) < 3:
        raise ShapeError(f"channel_shuffle expects input with > 2 dims, but got input with sizes {list(shape)}")
    if groups <= 0:
        raise RuntimeError(f"Number of groups to divide channels in must be positive. Value of groups:{groups}")
    if shape[1] % groups:
        raise ShapeError(f"Number of channels must be divisible by groups. Got {shape[1]} channels and {groups} groups.")
    return BOOK["channel_shuffle"](input, groups=groups)


__all__ = ["affine_grid", "channel_shuffle", "grid_sample", "interpolate", "pixel_shuffle", "pixel_unshuffle", "upsample",
           "upsample_bilinear", "upsample_nearest"]
