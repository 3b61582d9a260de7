"""The functions behind the transforms: resize, pad, crop, flip, rotate, normalize, and images made into tensors.

An image is a tensor (..., C, H, W) or (H, W), a NumPy array (H, W) or (H, W, C), or a PIL image; what comes back is of the same
kind. Tensors and arrays are computed by the engine's own kernels, PIL images by Pillow. The semantics are torchvision's
(transforms/functional.py and _functional_tensor.py, version 0.28). Random choices are in `transforms`.
"""
from __future__ import annotations

import functools
import math
import sys
import warnings
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import numpy as np

from ... import dtypes
from ...functions.create import as_tensor, from_numpy, tensor
from ...functions.factories import ones
from ...functions.join import cat, stack
from ...functions.select import where
from ...functions.sequences import linspace
from ...nn import functional as F
from ...tensor import Tensor

_ROUNDED = (dtypes.uint8, dtypes.int8, dtypes.int16, dtypes.int32, dtypes.int64)
_PADDING = {"constant": "constant", "edge": "replicate", "reflect": "reflect", "symmetric": "symmetric"}


class InterpolationMode(Enum):
    """How pixels between pixels are computed; box, hamming and lanczos are for PIL images."""

    NEAREST = "nearest"
    NEAREST_EXACT = "nearest-exact"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BOX = "box"
    HAMMING = "hamming"
    LANCZOS = "lanczos"


_PIL_MODES = {InterpolationMode.NEAREST: 0, InterpolationMode.LANCZOS: 1, InterpolationMode.BILINEAR: 2,
              InterpolationMode.BICUBIC: 3, InterpolationMode.BOX: 4, InterpolationMode.HAMMING: 5,
              InterpolationMode.NEAREST_EXACT: 0}
_BY_NUMBER = {number: mode for mode, number in _PIL_MODES.items() if mode is not InterpolationMode.NEAREST_EXACT}


def interpolation_mode(mode: InterpolationMode | int) -> InterpolationMode:
    """The mode of an `interpolation=` argument, which may be Pillow's number. TypeError for anything else."""
    if isinstance(mode, InterpolationMode):
        return mode
    if isinstance(mode, int) and mode in _BY_NUMBER:
        return _BY_NUMBER[mode]
    raise TypeError("Argument interpolation should be a InterpolationMode or a corresponding Pillow integer constant")


# --- kinds of images --------------------------------------------------------------------------------------------------

def is_pil(img: Any) -> bool:
    """Whether it is a PIL image; imports nothing."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(img, module.Image)


def get_dimensions(img: Any) -> list[int]:
    """[channels, height, width] of an image."""
    if isinstance(img, Tensor):
        if img.ndim < 2:
            raise TypeError("Tensor is not a torch image.")
        return [1 if img.ndim == 2 else img.shape[-3], img.shape[-2], img.shape[-1]]
    if isinstance(img, np.ndarray):
        _check_array(img)
        return [1 if img.ndim == 2 else img.shape[2], img.shape[0], img.shape[1]]
    if is_pil(img):
        return [len(img.getbands()), img.height, img.width]
    raise TypeError(f"Unexpected type {type(img)}: an image is a Tensor, a NumPy array or a PIL image")


def get_image_size(img: Any) -> list[int]:
    """[width, height] of an image."""
    return get_dimensions(img)[:0:-1]


def _check_array(img: np.ndarray) -> None:
    if img.ndim not in (2, 3):
        raise ValueError(f"pic should be 2/3 dimensional. Got {img.ndim} dimensions.")


def _on_tensors(function: Callable) -> Callable:
    """A function of tensors (..., H, W) that takes NumPy images too, which have their channels last."""

    @functools.wraps(function)
    def called(img: Any, *args: Any, **kwargs: Any) -> Any:
        get_dimensions(img)
        if not isinstance(img, np.ndarray):
            return function(img, *args, **kwargs)
        axes = (2, 0, 1) if img.ndim == 3 else (0, 1)
        made = function(from_numpy(np.ascontiguousarray(img.transpose(axes))), *args, **kwargs).numpy()
        return np.ascontiguousarray(made.transpose((1, 2, 0) if img.ndim == 3 else (0, 1)))

    return called


# --- to tensors -------------------------------------------------------------------------------------------------------

def to_tensor(pic: Any) -> Tensor:
    """A PIL image or a NumPy array (H, W) or (H, W, C) as a tensor (C, H, W); bytes become floats between 0 and 1."""
    if is_pil(pic):
        pic = pic.convert("L") if pic.mode == "1" else pic
        kinds = {"I": np.int32, "I;16": np.int16, "F": np.float32}
        pic = np.array(pic, kinds.get(pic.mode, np.uint8)).reshape(pic.height, pic.width, len(pic.getbands()))
    elif not isinstance(pic, np.ndarray):
        raise TypeError(f"pic should be PIL Image or ndarray. Got {type(pic)}")
    _check_array(pic)
    pic = pic[:, :, None] if pic.ndim == 2 else pic
    made = from_numpy(pic.transpose(2, 0, 1)).contiguous()
    return made.to(dtypes.get_default_dtype()).div(255) if made.dtype is dtypes.uint8 else made


def normalize(tensor: Tensor, mean: Sequence[float], std: Sequence[float], inplace: bool = False) -> Tensor:
    """(x - mean) / std of each channel of a float tensor (..., C, H, W)."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"img should be Tensor Image. Got {type(tensor)}")
    if not tensor.is_floating_point():
        raise TypeError(f"Input tensor should be a float tensor. Got {tensor.dtype}.")
    if tensor.ndim < 3:
        raise ValueError(f"Expected tensor to be a tensor image of size (..., C, H, W). Got tensor.size() = {tensor.size()}")
    mean, std = (as_tensor(v, dtype=tensor.dtype, device=tensor.device) for v in (mean, std))
    if 0.0 in std.reshape(-1).tolist():
        raise ValueError(f"std evaluated to zero after conversion to {tensor.dtype}, leading to division by zero.")
    mean, std = (v.view(-1, 1, 1) if v.ndim == 1 else v for v in (mean, std))
    return (tensor if inplace else tensor.clone()).sub_(mean).div_(std)


# --- sizes ------------------------------------------------------------------------------------------------------------

def resize(img: Any, size: int | Sequence[int], interpolation: InterpolationMode | int = InterpolationMode.BILINEAR,
           max_size: int | None = None, antialias: bool | None = True) -> Any:
    """The image at another size: (h, w), or one number for the shorter edge, with `max_size` as a limit of the longer one.

    `antialias` concerns tensors and arrays with bilinear and bicubic interpolation; Pillow always does it.
    """
    mode = interpolation_mode(interpolation)
    before = get_dimensions(img)[1:]
    after = _resized(before, size, max_size)
    if before == after:
        return img
    if is_pil(img):
        if antialias is False:
            warnings.warn("Anti-alias option is always applied for PIL Image input. Argument antialias is ignored.", stacklevel=2)
        return img.resize((after[1], after[0]), _PIL_MODES[mode])
    return _resize(img, after, mode.value, bool(antialias))


def _resized(before: list[int], size: int | Sequence[int], max_size: int | None) -> list[int]:
    """[height, width] after `resize`."""
    size = [size] if isinstance(size, int) else list(size)
    if len(size) not in (1, 2):
        raise ValueError(f"Size must be an int or a 1 or 2 element tuple/list, not a {len(size)} element tuple/list")
    if len(size) == 2:
        if max_size is not None:
            raise ValueError("max_size should only be passed if size specifies the length of the smaller edge, i.e. size should "
                             "be an int or a sequence of length 1 in torchscript mode.")
        return size
    short, long = sorted(before)
    new_short, new_long = size[0], int(size[0] * long / short)
    if max_size is not None:
        if max_size <= new_short:
            raise ValueError(f"max_size = {max_size} must be strictly greater than the requested size for the smaller edge "
                             f"size = {size}")
        if new_long > max_size:
            new_short, new_long = int(max_size * new_short / new_long), max_size
    return [new_long, new_short] if before[1] <= before[0] else [new_short, new_long]


@_on_tensors
def _resize(img: Tensor, size: list[int], mode: str, antialias: bool) -> Tensor:
    smooth = mode in ("bilinear", "bicubic")
    if not smooth and mode not in ("nearest", "nearest-exact"):
        raise ValueError(f"resize: tensors have no interpolation '{mode}': use nearest, nearest-exact, bilinear or bicubic")
    flat, dtype = _as_batch(img)
    made = F.interpolate(flat, size=size, mode=mode, align_corners=False if smooth else None, antialias=antialias and smooth)
    if mode == "bicubic" and dtype is dtypes.uint8:
        made = made.clamp(0, 255)
    return _from_batch(made, img, dtype)


def _as_batch(img: Tensor) -> tuple[Tensor, dtypes.dtype]:
    """The image as (N, C, H, W) in float32 or float64, and the dtype that it had."""
    dtype = img.dtype
    channels, height, width = get_dimensions(img)
    flat = img.reshape(math.prod(img.shape[:-3]), channels, height, width)
    return (flat if dtype in (dtypes.float32, dtypes.float64) else flat.to(dtypes.float32)), dtype


def _from_batch(made: Tensor, img: Tensor, dtype: dtypes.dtype) -> Tensor:
    made = made.reshape(*img.shape[:-2], *made.shape[-2:])
    if dtype in _ROUNDED:
        made = made.round()
    return made.to(dtype)


def pad(img: Any, padding: int | Sequence[int], fill: float | Sequence[float] = 0, padding_mode: str = "constant") -> Any:
    """The image with a border: one width, [left and right, top and bottom], or [left, top, right, bottom].

    padding_mode: "constant" (`fill`), "edge", "reflect" (without the edge) or "symmetric" (with it). Negative widths crop.
    """
    if not isinstance(padding, (int, tuple, list)):
        raise TypeError("Got inappropriate padding arg")
    if fill is not None and not isinstance(fill, (int, float, tuple, list)):
        raise TypeError("Got inappropriate fill arg")
    if not isinstance(padding_mode, str):
        raise TypeError("Got inappropriate padding_mode arg")
    widths = [padding] * 4 if isinstance(padding, int) else list(padding)
    if len(widths) not in (1, 2, 4):
        raise ValueError(f"Padding must be an int or a 1, 2, or 4 element tuple, not a {len(widths)} element tuple")
    if padding_mode not in _PADDING:
        raise ValueError("Padding mode should be either constant, edge, reflect or symmetric")
    left, top, right, bottom = widths * (4 // len(widths))
    if is_pil(img):
        return _pad_pil(img, (left, top, right, bottom), fill, padding_mode)
    return _pad(img, [left, right, top, bottom], 0 if fill is None else fill, padding_mode)


@_on_tensors
def _pad(img: Tensor, widths: list[int], fill: Any, mode: str) -> Tensor:
    if mode == "constant":
        if isinstance(fill, (tuple, list)):
            if len(fill) != 1:
                raise TypeError("Got inappropriate fill arg: tensors and arrays take one number")
            fill = fill[0]
        return F.pad(img, widths, value=float(fill))
    if mode == "symmetric":
        left, right, top, bottom = widths
        return img[..., _mirrored(img.shape[-2], top, bottom)[:, None], _mirrored(img.shape[-1], left, right)]
    flat, dtype = _as_batch(img)
    return _from_batch(F.pad(flat, widths, mode=_PADDING[mode]), img, dtype)


def _mirrored(size: int, before: int, after: int) -> Tensor:
    """Indices of a dimension with a mirrored border; negative widths crop."""
    if max(before, after) > size:
        raise ValueError(f"Padding size should be at most the image's size {size} in symmetric mode, got {max(before, after)}")
    inside = range(max(-before, 0), size - max(-after, 0))
    return tensor([*range(before - 1, -1, -1), *inside, *range(size - 1, size - 1 - after, -1)], dtype=dtypes.int64)


def _pad_pil(img: Any, widths: tuple[int, ...], fill: Any, mode: str) -> Any:
    from PIL import Image, ImageOps
    palette = img.getpalette() if img.mode == "P" else None
    if mode == "constant":
        made = ImageOps.expand(img, border=widths, fill=_pil_fill(fill, img))
    else:
        made = Image.fromarray(pad(np.asarray(img), widths, 0, mode))
    if palette is not None:
        made.putpalette(palette)
    return made


def _pil_fill(fill: Any, img: Any) -> Any:
    """The colour of a `fill=` argument for a PIL image: one number or one for each band."""
    bands = len(img.getbands())
    fill = 0 if fill is None else fill
    if isinstance(fill, (int, float)):
        fill = [fill] * bands
    if len(fill) == 1:
        fill = list(fill) * bands
    if len(fill) != bands:
        raise ValueError("The number of elements in 'fill' does not match the number of channels of the image "
                         f"({len(fill)} != {bands})")
    fill = tuple(fill) if img.mode == "F" else tuple(int(v) for v in fill)
    return fill[0] if bands == 1 else fill


def crop(img: Any, top: int, left: int, height: int, width: int) -> Any:
    """The part of the image that begins at (top, left); what lies outside of it is 0."""
    if is_pil(img):
        return img.crop((left, top, left + width, top + height))
    return _crop(img, top, left, height, width)


@_on_tensors
def _crop(img: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    h, w = img.shape[-2:]
    bottom, right = top + height, left + width
    inside = img[..., max(top, 0):max(bottom, 0), max(left, 0):max(right, 0)]
    if left >= 0 and top >= 0 and right <= w and bottom <= h:
        return inside
    return F.pad(inside, [max(min(0, right) - left, 0), max(right - max(w, left), 0),
                          max(min(0, bottom) - top, 0), max(bottom - max(h, top), 0)])


def center_crop(img: Any, output_size: int | Sequence[int]) -> Any:
    """The middle (h, w) of the image, which is padded with 0 where it is smaller."""
    size = [output_size] * 2 if isinstance(output_size, int) else list(output_size) * (2 // len(output_size))
    _, h, w = get_dimensions(img)
    if size[0] > h or size[1] > w:
        below, beside = max(size[0] - h, 0), max(size[1] - w, 0)
        img = pad(img, [beside // 2, below // 2, (beside + 1) // 2, (below + 1) // 2])
        _, h, w = get_dimensions(img)
        if [h, w] == size:
            return img
    return crop(img, round((h - size[0]) / 2.0), round((w - size[1]) / 2.0), *size)


# --- turning ----------------------------------------------------------------------------------------------------------

def hflip(img: Any) -> Any:
    """The image with left and right exchanged."""
    if is_pil(img):
        from PIL import Image
        return img.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return _hflip(img)


@_on_tensors
def _hflip(img: Tensor) -> Tensor:
    return img.flip(-1)


def rotate(img: Any, angle: float, interpolation: InterpolationMode | int = InterpolationMode.NEAREST, expand: bool = False,
           center: Sequence[float] | None = None, fill: float | Sequence[float] | None = None) -> Any:
    """The image turned by `angle` degrees, counter-clockwise, about its middle or `center` (x, y).

    expand: the result is large enough for all of the image (turned about its middle). fill: the colour of what lies outside.
    """
    mode = interpolation_mode(interpolation)
    if not isinstance(angle, (int, float)):
        raise TypeError("Argument angle should be int or float")
    if center is not None and not isinstance(center, (list, tuple)):
        raise TypeError("Argument center should be a sequence")
    channels, height, width = get_dimensions(img)
    if is_pil(img):
        return img.rotate(angle, _PIL_MODES[mode], expand, center, fillcolor=_pil_fill(fill, img))
    if isinstance(fill, (tuple, list)) and len(fill) not in (1, channels):
        raise ValueError("The number of elements in 'fill' cannot broadcast to match the number of channels of the image "
                         f"({len(fill)} != {channels})")
    if mode not in (InterpolationMode.NEAREST, InterpolationMode.BILINEAR):
        raise ValueError(f"Interpolation mode '{mode.value}' is unsupported with Tensor input")
    about = [0.0, 0.0] if center is None else [c - 0.5 * n for c, n in zip(center, (width, height), strict=True)]
    return _rotate(img, _rotation(about, angle), mode.value, expand, fill)


def _rotation(center: list[float], angle: float) -> list[float]:
    """The map from pixels of the result to those of the image, counted from the middle: x = a u + b v + c, y = d u + e v + f."""
    turn = math.radians(-angle)
    cos, sin = math.cos(turn), math.sin(turn)
    x, y = center
    return [cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y]


@_on_tensors
def _rotate(img: Tensor, matrix: list[float], mode: str, expand: bool, fill: Any) -> Tensor:
    flat, dtype = _as_batch(img)
    h, w = img.shape[-2:]
    out_h, out_w = _expanded(matrix, h, w) if expand else (h, w)
    grid = _grid(matrix, h, w, out_h, out_w, flat).expand(flat.shape[0], -1, -1, -1)
    if fill is None:
        return _from_batch(F.grid_sample(flat, grid, mode=mode, padding_mode="zeros", align_corners=False), img, dtype)
    with_mask = cat([flat, ones(flat.shape[0], 1, h, w, dtype=flat.dtype, device=flat.device)], dim=1)
    made = F.grid_sample(with_mask, grid, mode=mode, padding_mode="zeros", align_corners=False)
    made, mask = made[:, :-1], made[:, -1:]             # the mask tells how much of a pixel comes from the image
    fill = list(fill) if isinstance(fill, (tuple, list)) else [fill]
    colour = tensor(fill, dtype=flat.dtype, device=flat.device).view(1, -1, 1, 1)
    made = where(mask < 0.5, colour, made) if mode == "nearest" else made * mask + (1.0 - mask) * colour
    return _from_batch(made, img, dtype)


def _grid(matrix: list[float], h: int, w: int, out_h: int, out_w: int, like: Tensor) -> Tensor:
    """Where `grid_sample` finds each pixel of the result: (1, out_h, out_w, 2), from -1 to 1 over the image."""
    a, b, c, d, e, f = matrix
    kind = {"dtype": like.dtype, "device": like.device}
    u = linspace(0.5 - 0.5 * out_w, 0.5 * out_w - 0.5, out_w, **kind)
    v = linspace(0.5 - 0.5 * out_h, 0.5 * out_h - 0.5, out_h, **kind)[:, None]
    x, y = (p / (0.5 * n) * u + q / (0.5 * n) * v + r / (0.5 * n) for (p, q, r), n in (((a, b, c), w), ((d, e, f), h)))
    return stack([x, y], dim=-1)[None]


def _expanded(matrix: list[float], h: int, w: int) -> tuple[int, int]:
    """Height and width of what holds the whole turned image. What is below 1e-4 of a pixel is rounding and not counted."""
    sizes = []
    corners = [(x, y) for x in (-0.5 * w, 0.5 * w) for y in (-0.5 * h, 0.5 * h)]
    for (p, q, r), n in ((matrix[3:], h), (matrix[:3], w)):
        ends = [p * x + q * y + r + 0.5 * n for x, y in corners]
        high, low = (math.trunc(round(v, 6) * 1e4) / 1e4 for v in (max(ends), min(ends)))
        sizes.append(math.ceil(high) - math.floor(low))
    return sizes[0], sizes[1]


__all__ = ["InterpolationMode", "center_crop", "crop", "get_dimensions", "get_image_size", "hflip", "normalize", "pad", "resize",
           "rotate", "to_tensor"]
