"""engine.vision.transforms against NumPy, Pillow and formulas: sizes, borders, rotations, random choices, errors, reprs."""
from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest

import engine
from engine.vision import transforms
from engine.vision.transforms import InterpolationMode
from engine.vision.transforms import functional as F

# --- transforms: sizes ------------------------------------------------------------------------------------------------

def picture(rng, *shape: int) -> np.ndarray:
    return rng.integers(0, 256, shape).astype(np.uint8)


def tensor_of(array: np.ndarray) -> engine.Tensor:
    """An image (H, W, C) as (C, H, W)."""
    return engine.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))


def array_of(tensor: engine.Tensor) -> np.ndarray:
    return tensor.numpy().transpose(1, 2, 0)


def test_to_tensor(rng):
    image_class = pytest.importorskip("PIL.Image")
    for shape in ((5, 4), (5, 4, 3)):
        array = picture(rng, *shape)
        expected = array.reshape(5, 4, -1).transpose(2, 0, 1).astype(np.float32) / np.float32(255)
        for img in (array, image_class.fromarray(array)):
            found = transforms.ToTensor()(img)
            assert found.is_contiguous() and found.dtype is engine.float32 and np.array_equal(found.numpy(), expected)
    floats = rng.random((5, 4, 2))
    assert np.array_equal(transforms.ToTensor()(floats).numpy(), floats.transpose(2, 0, 1))
    grey = image_class.fromarray(picture(rng, 5, 4))
    for mode, dtype in (("1", "float32"), ("I", "int32"), ("F", "float32")):
        found = transforms.ToTensor()(grey.convert(mode))
        expected = np.asarray(grey.convert(mode)).astype(dtype)
        assert found.dtype.name == dtype and np.array_equal(found[0].numpy(), expected)
    for wrong, error, words in ((engine.ones(2, 2), TypeError, "pic should be PIL Image or ndarray. Got <class 'engine.*Tensor'>"),
                                (np.zeros(3), ValueError, "pic should be 2/3 dimensional. Got 1 dimensions.")):
        with pytest.raises(error, match=words):
            transforms.ToTensor()(wrong)


@pytest.mark.parametrize("mode", [InterpolationMode.BILINEAR, InterpolationMode.BICUBIC, InterpolationMode.NEAREST_EXACT])
def test_resize_against_pillow(mode, rng):
    """Pillow filters as it shrinks (antialias) and rounds to 8 bits after rows and again after columns."""
    image_class = pytest.importorskip("PIL.Image")
    array = picture(rng, 23, 17, 3) // 2 + 64           # bicubic overshoots stay within 0 to 255, where Pillow cuts twice
    most = {InterpolationMode.BILINEAR: 1, InterpolationMode.BICUBIC: 2, InterpolationMode.NEAREST_EXACT: 0}[mode]
    for size in ((9, 8), (40, 30), (23, 30)):
        ours = array_of(transforms.Resize(size, mode)(tensor_of(array)))
        theirs = np.asarray(image_class.fromarray(array).resize(size[::-1], F._PIL_MODES[mode]))
        assert ours.dtype == np.uint8 and np.abs(ours.astype(int) - theirs).max() <= most
        assert np.array_equal(transforms.Resize(size, mode)(array), ours)
        assert np.array_equal(np.asarray(transforms.Resize(size, mode)(image_class.fromarray(array))), theirs)


def test_resize_without_antialias(rng):
    """Bilinear: each new pixel is a weighted mean of the pixels around its place; nearest: the pixel below its place."""
    array = rng.random((7, 9)).astype(np.float32)
    for h, w in ((4, 5), (14, 11)):
        y, x = (np.clip((np.arange(n) + 0.5) * m / n - 0.5, 0, m - 1) for n, m in ((h, 7), (w, 9)))
        y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
        y1, x1, fy, fx = np.minimum(y0 + 1, 6), np.minimum(x0 + 1, 8), (y - y0)[:, None], x - x0
        expected = ((1 - fy) * ((1 - fx) * array[y0][:, x0] + fx * array[y0][:, x1])
                    + fy * ((1 - fx) * array[y1][:, x0] + fx * array[y1][:, x1]))
        found = F.resize(engine.from_numpy(array), (h, w), antialias=False)
        assert np.allclose(found.numpy(), expected, atol=1e-6)
        batch = F.resize(engine.from_numpy(array).expand(2, 3, 1, 7, 9), [h, w], antialias=None)
        assert batch.shape == (2, 3, 1, h, w) and np.allclose(batch[1, 2, 0].numpy(), expected, atol=1e-6)
        nearest = F.resize(array, (h, w), InterpolationMode.NEAREST)
        assert np.array_equal(nearest, array[np.arange(h) * 7 // h][:, np.arange(w) * 9 // w])


def test_sizes_of_resize():
    img = engine.zeros(1, 20, 30)
    for size, limit, expected in ((10, None, (10, 15)), ([10], None, (10, 15)), ((4, 5), None, (4, 5)), (10, 12, (8, 12)),
                                  (20, None, (20, 30))):
        assert F.resize(img, size, max_size=limit).shape == (1, *expected)
        assert F.resize(img.mT, size, max_size=limit).shape[-2:] == (expected[::-1] if not isinstance(size, tuple) else expected)
    assert F.resize(img, 20) is img
    for call, error, words in (
            (lambda: F.resize(img, 10, max_size=10), ValueError, "max_size = 10 must be strictly greater than the requested size"),
            (lambda: F.resize(img, (4, 5), max_size=10), ValueError, "max_size should only be passed if size specifies the length"),
            (lambda: F.resize(img, (1, 2, 3)), ValueError, "Size must be an int or a 1 or 2 element tuple/list, not a 3 element"),
            (lambda: F.resize(img, 5, "bilinear"), TypeError, "Argument interpolation should be a InterpolationMode or a"),
            (lambda: F.resize(img, 5, InterpolationMode.LANCZOS), ValueError, "tensors have no interpolation 'lanczos'"),
            (lambda: transforms.Resize(2.5), TypeError, "Size should be int or sequence. Got <class 'float'>"),
            (lambda: transforms.Resize((1, 2, 3)), ValueError, "If size is a sequence, it should have 1 or 2 values")):
        with pytest.raises(error, match=words):
            call()
    assert transforms.Resize(4, 3).interpolation is InterpolationMode.BICUBIC


def test_resized_pil_images_are_always_smoothed(rng):
    image_class = pytest.importorskip("PIL.Image")
    with pytest.warns(UserWarning, match="Anti-alias option is always applied for PIL Image input"):
        F.resize(image_class.fromarray(picture(rng, 8, 8)), 4, antialias=False)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
def test_pad_against_numpy(mode, rng):
    array = picture(rng, 6, 5, 3)
    options = {"constant_values": 7} if mode == "constant" else {}
    images = [array]
    with contextlib.suppress(ImportError):
        from PIL import Image
        images.append(Image.fromarray(array))
    for padding, widths in ((2, ((2, 2), (2, 2))), ((1, 3), ((3, 3), (1, 1))), ([0, 1, 2, 3], ((1, 3), (0, 2))),
                            ((4,), ((4, 4), (4, 4)))):
        expected = np.pad(array, (*widths, (0, 0)), mode, **options)
        assert np.array_equal(array_of(F.pad(tensor_of(array), padding, 7, mode)), expected)
        for img in images:
            assert np.array_equal(np.asarray(F.pad(img, padding, 7, mode)), expected)
    cropped = F.pad(tensor_of(array), (-1, 2, 1, -2), 7, mode)
    expected = np.pad(array[:-2, 1:], ((2, 0), (0, 1), (0, 0)), mode, **options)
    assert np.array_equal(array_of(cropped), expected)


def test_crops(rng):
    array = picture(rng, 12, 10, 2)
    img, wide = tensor_of(array), np.pad(array, ((20, 20), (20, 20), (0, 0)))
    for top, left, h, w in ((0, 0, 12, 10), (2, 3, 4, 5), (-3, 2, 8, 9), (6, 6, 15, 15), (-5, -5, 4, 4), (13, 11, 3, 2),
                            (-2, -2, 16, 16)):
        expected = wide[20 + top:20 + top + h, 20 + left:20 + left + w]
        assert np.array_equal(array_of(F.crop(img, top, left, h, w)), expected)
        assert np.array_equal(F.crop(array, top, left, h, w), expected)
    assert np.array_equal(array_of(transforms.CenterCrop((4, 5))(img)), array[4:8, 2:7])      # round(2.5) is 2
    assert np.array_equal(array_of(transforms.CenterCrop(15)(img)), wide[19:34, 18:33])
    assert np.array_equal(array_of(transforms.CenterCrop([14])(img)), wide[19:33, 18:32])
    assert np.array_equal(array_of(transforms.CenterCrop((4, 20))(img)), wide[24:28, 15:35])
    with contextlib.suppress(ImportError):
        from PIL import Image
        for size in ((4, 5), (15, 15), (4, 20), (20, 4)):
            theirs = np.asarray(F.center_crop(Image.fromarray(array[..., 0]), size))
            assert np.array_equal(theirs, F.center_crop(array[..., 0], size))
    with pytest.raises(ValueError, match="Please provide only two dimensions"):
        transforms.CenterCrop((1, 2, 3))


def test_normalize(rng):
    array = rng.random((2, 3, 4, 5))
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    x = engine.from_numpy(array.copy())
    expected = (array - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    assert np.allclose(transforms.Normalize(mean, std)(x).numpy(), expected, rtol=1e-15) and np.array_equal(x.numpy(), array)
    assert transforms.Normalize(mean, std, inplace=True)(x) is x and np.allclose(x.numpy(), expected, rtol=1e-15)
    y = engine.ones(1, 2, 2, requires_grad=True, dtype=engine.float64)
    transforms.Normalize([0.5], [0.25])(y).sum().backward()
    assert y.grad.tolist() == [[[4.0, 4.0], [4.0, 4.0]]]
    for bad, error, words in ((np.zeros((3, 2, 2)), TypeError, "img should be Tensor Image. Got <class 'numpy.ndarray'>"),
                              (engine.ones(1, 2, 2, dtype=engine.uint8), TypeError, "be a float tensor. Got engine.uint8."),
                              (engine.ones(2, 2), ValueError, r"C, H, W\). Got tensor.size\(\) = engine.Size\(\[2, 2\]\)")):
        with pytest.raises(error, match=words):
            F.normalize(bad, [0.5], [0.5])
    with pytest.raises(ValueError, match=r"std evaluated to zero after conversion to engine\.float64, leading to division"):
        F.normalize(x, mean, (1.0, 0.0, 1.0))


# --- transforms: turning ----------------------------------------------------------------------------------------------

def turned(array: np.ndarray, angle: float, h: int, w: int, center=None) -> np.ndarray:
    """Bilinear rotation of (H, W) by its definition: every new pixel looks where it came from; 0 lies outside."""
    before_h, before_w = array.shape
    cx, cy = (0.0, 0.0) if center is None else (center[0] - before_w / 2, center[1] - before_h / 2)
    wide = np.pad(array.astype(float), 1)
    made = np.zeros((h, w))
    for i in range(h):
        for j in range(w):
            u, v = j + 0.5 - w / 2 - cx, i + 0.5 - h / 2 - cy
            cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            x, y = cos * u - sin * v + cx + before_w / 2 - 0.5, sin * u + cos * v + cy + before_h / 2 - 0.5
            x0, y0 = math.floor(x), math.floor(y)
            for yy, fy in ((y0, y0 + 1 - y), (y0 + 1, y - y0)):
                for xx, fx in ((x0, x0 + 1 - x), (x0 + 1, x - x0)):
                    if -1 <= yy <= before_h and -1 <= xx <= before_w:
                        made[i, j] += fy * fx * wide[yy + 1, xx + 1]
    return made


def test_rotate_by_right_angles(rng):
    square = picture(rng, 6, 6, 2)
    for quarter in range(-1, 4):
        assert np.array_equal(F.rotate(square, 90.0 * quarter), np.rot90(square, quarter))
        assert np.array_equal(array_of(F.rotate(tensor_of(square), 90.0 * quarter)), np.rot90(square, quarter))
    long = picture(rng, 4, 8)
    assert np.array_equal(F.rotate(long, 90, expand=True), np.rot90(long))
    assert np.array_equal(F.rotate(long, 180), long[::-1, ::-1])


@pytest.mark.parametrize(("angle", "center"), [(30.0, None), (-77.3, (2, 3)), (200.0, [0.0, 7.5])])
def test_rotate_bilinear_against_its_definition(angle, center, rng):
    array = rng.random((8, 11))
    found = F.rotate(array, angle, InterpolationMode.BILINEAR, center=center)
    assert np.allclose(found, turned(array, angle, 8, 11, center), atol=1e-12)
    if center is None:
        large = F.rotate(array, angle, InterpolationMode.BILINEAR, expand=True)
        assert np.allclose(large, turned(array, angle, *large.shape), atol=1e-12)
    ones = turned(np.ones_like(array), angle, 8, 11, center)                # with a colour, what is missing is filled
    filled = F.rotate(array, angle, InterpolationMode.BILINEAR, center=center, fill=2.0)
    assert np.allclose(filled, turned(array, angle, 8, 11, center) * ones + (1 - ones) * 2, atol=1e-12)


def test_rotate_against_pillow(rng):
    image_class = pytest.importorskip("PIL.Image")
    array = picture(rng, 21, 16, 3)
    for angle in (10.0, 33.0, 141.0):
        theirs = F.rotate(image_class.fromarray(array), angle, fill=[9, 8, 7])
        ours = F.rotate(array, angle, fill=[9, 8, 7])
        assert np.array_equal(np.asarray(theirs), np.asarray(image_class.fromarray(array).rotate(angle, fillcolor=(9, 8, 7))))
        assert (ours == np.asarray(theirs)).all(-1).mean() > 0.98          # ties may fall to either side
        assert F.rotate(array, angle, expand=True).shape[1::-1] == F.rotate(image_class.fromarray(array), angle, expand=True).size
    batch = engine.from_numpy(array.transpose(2, 0, 1).copy()).expand(2, 3, 21, 16)
    turned_batch = F.rotate(batch, 33.0, fill=[9.0, 8.0, 7.0])
    assert turned_batch.dtype is engine.uint8 and np.array_equal(array_of(turned_batch[1]), F.rotate(array, 33.0, fill=[9, 8, 7]))


def test_flip_and_errors(rng):
    array = picture(rng, 3, 4, 3)
    assert np.array_equal(F.hflip(array), array[:, ::-1]) and np.array_equal(array_of(F.hflip(tensor_of(array))), array[:, ::-1])
    with contextlib.suppress(ImportError):
        from PIL import Image
        assert np.array_equal(np.asarray(F.hflip(Image.fromarray(array))), array[:, ::-1])
        assert F.get_dimensions(Image.fromarray(array)) == [3, 3, 4] and F.get_image_size(Image.fromarray(array)) == [4, 3]
        with pytest.raises(ValueError, match=r"'fill' does not match the number of channels of the image \(2 != 3\)"):
            F.rotate(Image.fromarray(array), 3, fill=[1, 2])
    img = engine.zeros(2, 3, 4)
    assert F.get_dimensions(img) == [2, 3, 4] and F.get_dimensions(img[0]) == [1, 3, 4] and F.get_image_size(array) == [4, 3]
    for call, error, words in (
            (lambda: F.hflip(engine.zeros(3)), TypeError, "Tensor is not a torch image."),
            (lambda: F.hflip("x"), TypeError, "Unexpected type <class 'str'>"),
            (lambda: F.rotate(img, "a"), TypeError, "Argument angle should be int or float"),
            (lambda: F.rotate(img, 1, center=3), TypeError, "Argument center should be a sequence"),
            (lambda: F.rotate(img, 1, InterpolationMode.BICUBIC), ValueError, "mode 'bicubic' is unsupported with Tensor input"),
            (lambda: F.rotate(img, 1, fill=[1.0, 2.0, 3.0]), ValueError, r"cannot broadcast to match the number .*\(3 != 2\)"),
            (lambda: F.pad(img, "a"), TypeError, "Got inappropriate padding arg"),
            (lambda: F.pad(img, 1, "a"), TypeError, "Got inappropriate fill arg"),
            (lambda: F.pad(img, 1, [1, 2]), TypeError, "Got inappropriate fill arg"),
            (lambda: F.pad(img, 1, 0, 3), TypeError, "Got inappropriate padding_mode arg"),
            (lambda: F.pad(img, (1, 2, 3)), ValueError, "Padding must be an int or a 1, 2, or 4 element tuple, not a 3 element"),
            (lambda: F.pad(img, 1, padding_mode="wrap"), ValueError, "either constant, edge, reflect or symmetric"),
            (lambda: F.pad(img, 5, padding_mode="symmetric"), ValueError, "at most the image's size 3"),
            (lambda: transforms.RandomRotation(-1), ValueError, "If degrees is a single number, it must be positive."),
            (lambda: transforms.RandomRotation((1, 2, 3)), ValueError, "degrees should be a sequence of length 2."),
            (lambda: transforms.RandomRotation(1, center=3), TypeError, "center should be a sequence of length 2."),
            (lambda: transforms.RandomRotation(1, fill=int), TypeError, "Fill should be either a sequence or a number."),
            (lambda: transforms.Lambda(3), TypeError, "Argument lambd should be callable, got 'int'"),
            (lambda: transforms.RandomCrop(9)(img), ValueError, r"crop size \(9, 9\) is larger than input image size \(3, 4\)")):
        with pytest.raises(error, match=words):
            call()


# --- random choices ---------------------------------------------------------------------------------------------------

def test_random_crops_cover_all_places():
    img = engine.arange(30).reshape(1, 5, 6)
    crop = transforms.RandomCrop((3, 4))
    corners = {crop(img)[0, 0, 0].item() for _ in range(200)}
    assert corners == {6 * i + j for i in range(3) for j in range(3)}
    padded = {int(transforms.RandomCrop(5, padding=1)(img).sum()) for _ in range(100)}
    assert len(padded) == 12            # 3 x 4 places, each with another border
    assert transforms.RandomCrop((9, 10), pad_if_needed=True, fill=3)(img).shape == (1, 9, 10)
    assert transforms.RandomCrop((5, 6))(img).tolist() == img.tolist()
    assert transforms.RandomCrop(2, padding=1, padding_mode="edge")(np.ones((2, 2), np.uint8)).tolist() == [[1, 1], [1, 1]]


def test_flips_and_rotations_follow_the_seed():
    img = engine.arange(12.0).reshape(1, 3, 4)
    flipped = [transforms.RandomHorizontalFlip()(img)[0, 0, 0].item() == 3 for _ in range(400)]
    assert 150 < sum(flipped) < 250
    assert transforms.RandomHorizontalFlip(p=0.0)(img) is img and transforms.RandomHorizontalFlip(p=1.0)(img)[0, 0, 0] == 3
    angles = [transforms.RandomRotation.get_params([-10.0, 30.0]) for _ in range(200)]
    assert -10 <= min(angles) < -5 and 25 < max(angles) <= 30
    chain = transforms.Compose([transforms.RandomCrop(3, padding=2), transforms.RandomHorizontalFlip(),
                                transforms.RandomRotation(45)])
    runs = []
    for seed in (1, 1, 2):
        engine.manual_seed(seed)
        runs.append([chain(img).tolist() for _ in range(3)])
    assert runs[0] == runs[1] != runs[2]
    assert transforms.RandomRotation((90, 90))(engine.arange(4.0).reshape(1, 2, 2)).tolist() == [[[1.0, 3.0], [0.0, 2.0]]]


def test_reprs():
    chain = transforms.Compose([
        transforms.Resize(8), transforms.Resize([3, 4], InterpolationMode.NEAREST, antialias=None), transforms.CenterCrop((4, 5)),
        transforms.RandomCrop(3, padding=1), transforms.RandomHorizontalFlip(), transforms.RandomRotation(10),
        transforms.RandomRotation((1, 2), InterpolationMode.BILINEAR, True, (1, 2), [1, 2]), transforms.ToTensor(),
        transforms.Normalize((0.1,), (0.2,)), transforms.Lambda(abs)])
    assert repr(chain) == """Compose(
    Resize(size=8, interpolation=bilinear, max_size=None, antialias=True)
    Resize(size=[3, 4], interpolation=nearest, max_size=None, antialias=None)
    CenterCrop(size=(4, 5))
    RandomCrop(size=(3, 3), padding=1)
    RandomHorizontalFlip(p=0.5)
    RandomRotation(degrees=[-10.0, 10.0], interpolation=nearest, expand=False, fill=0)
    RandomRotation(degrees=[1.0, 2.0], interpolation=bilinear, expand=True, center=(1, 2), fill=[1, 2])
    ToTensor()
    Normalize(mean=(0.1,), std=(0.2,))
    Lambda()
)"""
