"""Convolutions on CUDA: of an image, back to the image, to the weights, each as a product of `kernels.cuda.convolution_tiles`.

                i            j: 0, zyx               k: 0, zyx               a         image
    forward     channel m    sample, output          channel c, tap          weights   x
    back        channel c    sample, position        channel m, tap          weights   g        (one phase of the stride a launch)
    weight      channel m    channel c, tap          sample, output          g         x        (parts of k, added afterwards)

No atomics, and parts depend on shapes only: results repeat to the last bit. Images have one to three spatial dimensions. float16 is
added in float32. Small integers go over the host. Called through `kernels.cuda.records`.
"""
from __future__ import annotations

import itertools
import math
from typing import NamedTuple

from ..book import BOOK
from ..source import ITEMSIZE
from . import pointwise as maps
from .convolution_tiles import result_type, single_program, tiled_program
from .fold_plans import folded
from .launch import Launch, View, contiguous, divider, grid_of, pointwise
from .matmul import SHAPES, THREADS

FEW = 4                 # rows or columns up to which a tile would be mostly empty
BUSY = 256              # blocks that keep a GPU busy: sums to weights are cut into parts until there are as many
LEAST, LONGEST = 256, 8192      # length of a part: worth a block of its own, and short enough for its rounding errors
ROOM = 1 << 24          # numbers in all parts at most


class Product(NamedTuple):
    """One launch. Triples are z, y, x; strides in bytes."""
    rows: int
    groups: int
    j: tuple[int, ...]              # how many j_0, j_z, j_y, j_x
    k: tuple[int, ...]
    j_step: tuple[int, ...]
    k_step: tuple[int, ...]
    base: tuple[int, ...]
    size: tuple[int, ...]           # of the image
    a: tuple[int, ...]              # strides by group, i, k_0, k_z, k_y, k_x
    b: tuple[int, ...]              # by group, j_0, k_0, z, y, x
    q: tuple[int, ...]              # by group, i, j_0, j_z, j_y, j_x


def _launch(form: str, product: Product, q: View, a: View, b: View, bias: View | None, tile: int, parts: int = 1,
            part: int = 0) -> Launch:
    """A launch of a product that has columns; views stand for their first elements. `tile` 0: one number a thread."""
    columns, depth = math.prod(product.j), math.prod(product.k)
    size = ITEMSIZE[q.dtype]
    down, beside = (-(-product.rows // tile), -(-columns // tile)) if tile else (0, 0)
    vector = min(SHAPES[a.dtype].vector, tile // 16)
    whole = vector > 1 and product.q[5] == size and product.j[3] % vector == 0 and all(
        s % (vector * size) == 0 for s in (*product.q[:5], q.address))
    items = parts * product.groups * product.rows * columns
    factors = [divider(max(1, n)) for n in (*product.j[1:], *product.k[1:])]
    words = [product.rows, columns, depth, part or depth, product.groups, items, down, beside, int(bias is not None),
             0 if bias is None else bias.strides[0], int(whole), *product.j[1:], *product.k[1:], *(m for m, _ in factors),
             *(s for _, s in factors), *product.j_step, *product.k_step, *product.base, *product.size, *product.a, *product.b,
             *product.q, product.groups * product.rows * columns * size]
    program = tiled_program(form, a.dtype, tile) if tile else single_program(form, a.dtype)
    grid = down * beside * product.groups * parts if tile else grid_of(items, THREADS)
    return Launch(program, grid, (q.address, a.address, b.address, a.address if bias is None else bias.address, *words))


def _tile(dtype: str, product: Product, parts: int = 1) -> int:
    """The largest tile that leaves enough blocks to share the work among a GPU's processors, and wastes little.

    `parts`: into how many sums the product may be cut.
    """
    columns = math.prod(product.j)
    if min(product.rows, columns) <= FEW:
        return 0
    tile = SHAPES[dtype].large
    while tile > 32 and (-(-product.rows // tile) * -(-columns // tile) * product.groups * parts < 64 or
                         min(product.rows, columns) <= tile // 2):
        tile //= 2
    return tile


def _served(product: Product) -> bool:
    """Whether the kernel's 32-bit numbers suffice."""
    return math.prod(product.j) < 1 << 31 and math.prod(product.k) < 1 << 31


def _solid(v: View) -> View:
    """A view of one or two spatial dimensions with three."""
    more = 5 - len(v.shape)
    return v._replace(shape=v.shape[:2] + (1,) * more + v.shape[2:], strides=v.strides[:2] + (0,) * more + v.strides[2:])


def _triple(values: tuple, fill: int) -> tuple:
    return (fill,) * (3 - len(values)) + tuple(values)


def _forward(device, x: View, w: View, bias: View | None, stride: tuple, padding: tuple, dilation: tuple, groups: int,
             tile: int | None = None):
    """The cross-correlation. `tile` overrides the choice of a kernel, here and below."""
    if x.dtype not in SHAPES:
        return NotImplemented
    shape = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1
                  for n, p, d, k, s in zip(x.shape[2:], padding, dilation, w.shape[2:], stride, strict=True))
    out = device.empty(x.dtype, (x.shape[0], w.shape[0], *shape))
    x, w, q = _solid(x), _solid(w), _solid(out)
    rows, channels = w.shape[0] // groups, w.shape[1]
    product = Product(
        rows, groups, j=(x.shape[0], *q.shape[2:]), k=(channels, *w.shape[2:]),
        j_step=_triple(stride, 1), k_step=_triple(dilation, 1), base=tuple(-p for p in _triple(padding, 0)), size=x.shape[2:],
        a=(rows * w.strides[0], *w.strides),
        b=(channels * x.strides[1], x.strides[0], x.strides[1], *x.strides[2:]),
        q=(rows * q.strides[1], q.strides[1], q.strides[0], *q.strides[2:]))
    if not _served(product):
        return NotImplemented
    if math.prod(q.shape):
        device.run([_launch("image", product, q, w, x, bias, _tile(x.dtype, product) if tile is None else tile)])
    return out


def convolution(device, x: View, w: View, stride, padding, dilation, groups) -> View:
    """Cross-correlation of images with weights."""
    return _forward(device, x, w, None, stride, padding, dilation, groups)


def convolution_affine(device, x: View, w: View, bias: View, stride, padding, dilation, groups) -> View:
    """Cross-correlation of images with weights, plus one number a channel."""
    return _forward(device, x, w, bias, stride, padding, dilation, groups)


def _phases(size: int, kernel: int, stride: int, padding: int, dilation: int) -> list[tuple[int, int, int, int, int, int, int]]:
    """The positions of one dimension of an image by phase of the stride.

    Position i = first + stride * j takes, for tap k = tap + apart * u, the cotangent at base + j - back * u, because
    i + padding = stride * output + dilation * k. A phase: (first, how many, tap, apart, taps, base, back).
    """
    apart = stride // math.gcd(stride, dilation)
    found = []
    for first in range(min(stride, size)):
        count = -(-(size - first) // stride)
        tap = next((k for k in range(min(apart, kernel)) if (first + padding - k * dilation) % stride == 0), None)
        if tap is None:
            found.append((first, count, 0, apart, 0, 0, 0))
        else:
            found.append((first, count, tap, apart, -(-(kernel - tap) // apart), (first + padding - tap * dilation) // stride,
                          apart * dilation // stride))
    return found


def _back(device, g: View, w: View, bias: View | None, size: tuple, stride: tuple, padding: tuple, dilation: tuple, groups: int,
          tile: int | None = None):
    """The transpose with respect to the image."""
    if g.dtype not in SHAPES:
        return NotImplemented
    out = device.empty(g.dtype, (g.shape[0], w.shape[1] * groups, *size))
    if not math.prod(out.shape):
        return out
    g, w, q = _solid(g), _solid(w), _solid(out)
    stride, rows, channels = _triple(stride, 1), w.shape[1], w.shape[0] // groups
    dims = [_phases(*numbers) for numbers in zip(q.shape[2:], w.shape[2:], stride, _triple(padding, 0), _triple(dilation, 1),
                                                 strict=True)]
    launches = []
    for phase in itertools.product(*dims):
        first, count, tap, apart, taps, base, back = zip(*phase, strict=True)
        product = Product(
            rows, groups, j=(g.shape[0], *count), k=(channels, *taps), j_step=(1, 1, 1), k_step=tuple(-n for n in back), base=base,
            size=g.shape[2:],
            a=(channels * w.strides[0], w.strides[1], w.strides[0], *_times(w.strides[2:], apart)),
            b=(channels * g.strides[1], g.strides[0], g.strides[1], *g.strides[2:]),
            q=(rows * q.strides[1], q.strides[1], q.strides[0], *_times(q.strides[2:], stride)))
        if not _served(product):
            return NotImplemented
        launches.append(_launch("image", product, _at(q, first), _at(w, tap), g, bias,
                                _tile(g.dtype, product) if tile is None else tile))
    device.run(launches)
    return out


def _times(strides: tuple[int, ...], steps: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(s * n for s, n in zip(strides, steps, strict=True))


def _at(v: View, place: tuple[int, ...]) -> View:
    """The view that begins at a spatial position."""
    return v._replace(address=v.address + sum(_times(v.strides[2:], place)))


def convolution_back(device, x: View, w: View, size, stride, padding, dilation, groups) -> View:
    """The transpose of a convolution with respect to its image, whose spatial size is given."""
    return _back(device, x, w, None, size, stride, padding, dilation, groups)


def convolution_back_affine(device, x: View, w: View, bias: View, size, stride, padding, dilation, groups) -> View:
    """The transpose of a convolution with respect to its image, plus one number a channel."""
    return _back(device, x, w, bias, size, stride, padding, dilation, groups)


def _weight(device, x: View, g: View, size: tuple, stride: tuple, padding: tuple, dilation: tuple, groups: int,
            tile: int | None = None, parts: int | None = None):
    """The transpose with respect to the weights; `parts` overrides into how many sums it is cut."""
    if x.dtype not in SHAPES:
        return NotImplemented
    rows, channels = g.shape[1] // groups, x.shape[1] // groups
    shape = (g.shape[1], channels, *size)
    wide = result_type("weight", x.dtype)
    if not math.prod(shape):
        return device.empty(x.dtype, shape)
    x, g = _solid(x), _solid(g)
    q = _solid(contiguous(0, wide, shape))
    product = Product(
        rows, groups, j=(channels, *q.shape[2:]), k=(x.shape[0], *g.shape[2:]),
        j_step=_triple(dilation, 1), k_step=_triple(stride, 1), base=tuple(-p for p in _triple(padding, 0)), size=x.shape[2:],
        a=(rows * g.strides[1], g.strides[1], g.strides[0], *g.strides[2:]),
        b=(channels * x.strides[1], x.strides[1], x.strides[0], *x.strides[2:]),
        q=(rows * q.strides[0], q.strides[0], q.strides[1], *q.strides[2:]))
    if not _served(product):
        return NotImplemented
    tile = _tile(x.dtype, product, max(1, math.prod(product.k) // LEAST)) if tile is None else tile
    parts, part = _parts(product, tile, parts)
    sums = device.empty(wide, (parts, *shape))
    device.run([_launch("weight", product, sums, g, x, None, tile, parts, part)])
    out = sums._replace(shape=shape, strides=sums.strides[1:])
    if parts > 1:
        (out,) = folded(device, BOOK["sum"], sums, (0,))
    if out.dtype == x.dtype:
        return out
    narrow = device.empty(x.dtype, shape)
    device.run(pointwise(maps.cast(out.dtype, x.dtype), [narrow], [out]))
    return narrow


def _parts(product: Product, tile: int, wanted: int | None) -> tuple[int, int]:
    """(how many parts, length of each) of a long sum of few results."""
    columns, depth = math.prod(product.j), math.prod(product.k)
    results = product.groups * product.rows * columns
    blocks = -(-product.rows // tile) * -(-columns // tile) * product.groups if tile else -(-results // THREADS)
    parts = wanted or max(1, min(max(min(-(-BUSY // blocks), depth // LEAST), -(-depth // LONGEST)), ROOM // results))
    part = max(1, -(-depth // parts))
    return max(1, -(-depth // part)), part


def convolution_weight(device, x: View, y: View, size, stride, padding, dilation, groups) -> View:
    """The transpose of a convolution with respect to its weights, whose spatial size is given."""
    return _weight(device, x, y, size, stride, padding, dilation, groups)
