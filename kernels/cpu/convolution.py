"""Convolutions of arrays: a product of weights with shifted rows of a framed image, without a matrix of columns.

The image is copied once into a frame: with its padding, and for a stride s sorted into s phases (every s-th row, every s-th
column), so that for each tap of the kernel the elements that neighbouring outputs need are neighbours. Rows of the frame and of
the output have the same pitch, hence a tap is one number, the distance `offset` from an output position to its element:

    out[m, q] = sum over k = (channel, tap) of weights[m, k] * frame[offset[k] + q]          q = row * pitch + column

A tile of outputs stays in vector registers for the whole sum (`tiles.multiply_tile_*`). The columns where a row of the output has
ended and the next has not begun are computed and thrown away: a few per cent, where gathering columns for BLAS would cost more than
the multiplication of a small layer. The gradient with respect to the input is the same sum with the roles of the channels
exchanged, once for each phase of the input; that with respect to the weights is a product over positions (`tiles.dot_tile_*`).

Images have three spatial dimensions here, (n, channels, d, h, w); weights (m, channels of a group, kd, kh, kw). The records are
in `kernels.ops.convolution`. Order of sums depends on sizes only, never on threads.
"""
from __future__ import annotations

import dataclasses
import functools
import itertools
import math

import numpy as np

from .. import processor
from ..book import BOOK
from . import buffers, copies, pool
from .maps import ITEMSIZE
from .native import Program, make_ufunc

FRAME = 1 << 23         # bytes of frames that are filled and used together, so that they stay in a cache
NEAR = 1 << 18          # bytes of two images whose products are summed before the next ones are read
RUN = 4                 # tiles of outputs that share one pass over the weights
BUSY = 1 << 21          # multiplications from which several threads pay
SLACK = 64              # elements that a tile may read beyond the end of a frame
PARTS = 1 << 20         # elements of partial sums of weight gradients


@functools.cache
def registers() -> tuple[int, int]:
    """(bytes of a vector, rows of a tile): a tile of rows x 3 vectors, with its operands, fits the vector registers."""
    from llvmlite import binding as llvm
    features = processor.features()
    if "avx512f" in features:
        return 64, 8
    if "avx" in features:
        return 32, 4
    return 16, 8 if llvm.get_process_triple().startswith(("aarch64", "arm64")) else 4


VECTORS = 3             # vectors of a tile along the outputs; three times 8 or 4 rows
# Names of the dtypes that kernels compute in, by NumPy's letter (asking for `dtype.name` takes 0.5 us).
NAME = {c: np.dtype(c).name for c in "fdlq" if np.dtype(c).name in ("float32", "float64", "int64")}


def lanes(dtype: str) -> int:
    """Elements in a vector."""
    return registers()[0] // ITEMSIZE[dtype]


def row_counts() -> tuple[int, ...]:
    """How many rows a tile may have: all, half, one."""
    rows = registers()[1]
    return rows, rows // 2, 1


def packed_rows(left: int) -> int:
    """The smallest tile that takes the last rows, fewer than a whole one."""
    return min(r for r in row_counts() if r >= left)


# --- kernels ----------------------------------------------------------------------------------------------------------

# One item is one row of frames: for each (sample, channel), every row from its place in the image, or zeros.
_FRAME = """
def kernel(args, dimensions, steps, data):
    for i in range(dimensions[0]):
        p, item = address(args[0]) + i * steps[0], load_int64(args[1], i * steps[1])
        channels, rows, pitch, spread = word(p, 2), word(p, 6), word(p, 7), word(p, 8)
        source = pointer(word(p, 0) + item // channels * word(p, 3) + item % channels * word(p, 4))
        target = pointer(word(p, 1) + item * word(p, 5))
        for r in range(rows):
            at, first, last = word(word(p, 9), 3 * r), word(word(p, 9), 3 * r + 1), word(word(p, 9), 3 * r + 2)
            line = r * pitch * SIZE
            for x in range(first):
                store_T(target, line + x * SIZE, as_T(0))
            if spread == SIZE:
                for x in range(first, last):
                    store_T(target, line + x * SIZE, load_T(source, at + x * SIZE))
            else:
                for x in range(first, last):
                    store_T(target, line + x * SIZE, load_T(source, at + x * spread))
            for x in range(last, pitch):
                store_T(target, line + x * SIZE, as_T(0))
        for x in range(rows * pitch, word(p, 5) // SIZE):
            store_T(target, x * SIZE, as_T(0))
"""

_CORRELATE = """
def kernel(args, dimensions, steps, data):
    lines = stack(SCRATCH)
    scratch = address(lines)
    for i in range(dimensions[0]):
        p, item = address(args[0]) + i * steps[0], load_int64(args[1], i * steps[1])
        pieces, groups, end, count, offsets = word(p, 11), word(p, 13), word(p, 10), word(p, 2), word(p, 1)
        left, packed, whole = word(p, 6), word(p, 7), word(p, 4)
        channels, pitch, wide, table, apart = word(p, 16), word(p, 19), word(p, 20), word(p, 21), word(p, 22)
        piece, g, n = item % pieces, item // pieces % groups, item // pieces // groups
        source = word(p, 0) + n * word(p, 14) + g * word(p, 15)
        begin = piece * word(p, 12)
        stop = min(begin + word(p, 12), end)
        for block in range(whole + (1 if left > 0 else 0)):
            full = block < whole
            rows, size = (ROWS, ROWS) if full else (left, packed)
            weights = word(p, 3) + (g * whole + block) * count * FULL if full else word(p, 5) + g * count * packed * SIZE
            channel = g * channels + block * ROWS
            q = begin
            while q < stop:
                vectors = VECTORS if stop - q > 2 * LANES else 1
                width = min(vectors * LANES, stop - q)
                at = source + q * SIZE
                TILES
                j, row = 0, q // pitch
                x = q - row * pitch
                while j < width:
                    run = min(width - j, pitch - x)
                    valid, place = min(run, wide - x), word(table, row)
                    if valid > 0 and place >= 0:
                        for r in range(rows):
                            bias = load_T(pointer(word(p, 8)), (channel + r) * SIZE) if word(p, 8) != 0 else as_T(0)
                            line = pointer(scratch + r * vectors * BYTES + j * SIZE)
                            out = pointer(word(p, 9) + n * word(p, 17) + (channel + r) * word(p, 18) + place + x * apart)
                            if apart == SIZE:
                                for e in range(valid):
                                    store_T(out, e * SIZE, load_T(line, e * SIZE) + bias)
                            else:
                                for e in range(valid):
                                    store_T(out, e * apart, load_T(line, e * SIZE) + bias)
                    j, row, x = j + run, row + 1, 0
                q += width
    clear_status()
"""

_WEIGHT = """
def kernel(args, dimensions, steps, data):
    lines = stack(SCRATCH)
    scratch = address(lines)
    for i in range(dimensions[0]):
        p, item = address(args[0]) + i * steps[0], load_int64(args[1], i * steps[1])
        blocks, groups, count, rows_all = word(p, 17), word(p, 8), word(p, 2), word(p, 7)
        block, g, part = item % blocks, item // blocks % groups, item // blocks // groups
        samples, parts, together = word(p, 14), word(p, 15), word(p, 16)
        begin, stop = part * samples // parts, (part + 1) * samples // parts
        rows = min(ROWS, rows_all - block * ROWS)
        size = ROWS if rows > HALF else HALF if rows > 1 else 1
        out = pointer(word(p, 13) + ((part * groups + g) * rows_all + block * ROWS) * count * SIZE)
        for r in range(rows):
            for k in range(count):
                store_T(out, (r * count + k) * SIZE, as_T(0))
        s = begin
        while s < stop:
            many = min(together, stop - s)
            left = word(p, 3) + s * word(p, 4) + g * word(p, 5) + block * ROWS * word(p, 6)
            right = word(p, 0) + s * word(p, 9) + g * word(p, 10)
            for k in range(0, count, COLUMNS):
                for e in range(ROWS * COLUMNS):
                    store_T(lines, e * SIZE, as_T(0))
                TILES
                for r in range(rows):
                    for c in range(min(COLUMNS, count - k)):
                        place = (r * count + k + c) * SIZE
                        store_T(out, place, peek_T(out, place) + peek_T(lines, (r * COLUMNS + c) * SIZE))
            s += together
    clear_status()
"""


def _source(template: str, dtype: str, tiles: list[str]) -> str:
    width, rows = registers()
    size = ITEMSIZE[dtype]
    lines = []
    for line in template.splitlines():
        indent = line[:len(line) - len(line.lstrip())]
        lines += [indent + t for t in tiles] if line.strip() == "TILES" else [line]
    text = "\n".join(lines) + "\n"
    for name, value in {"SCRATCH": rows * VECTORS * width, "FULL": rows * size, "ROWS": rows, "HALF": rows // 2,
                        "LANES": lanes(dtype), "VECTORS": VECTORS, "COLUMNS": VECTORS, "BYTES": width, "SIZE": size}.items():
        text = text.replace(name, str(value))
    return text.replace("_T(", f"_{dtype}(")


def _program(name: str, dtype: str) -> Program:
    """Items (p),()->(): a plan of 64-bit words, the number of an item, and a byte that says that it is done."""
    rows, half, _ = row_counts()
    width = lanes(dtype)
    tiles = []
    if name == "correlate":
        cases = [(f"size == {r}", f"vectors == {v}", r, v) for r in (rows, half, 1) for v in (VECTORS, 1)]
        for k, (a, b, r, v) in enumerate(cases):
            tiles += [f"{'if' if not k else 'elif'} {a} and {b}:",
                      f"    multiply_tile_{dtype}({r}, {v}, {width}, weights, at, offsets, count, scratch)"]
    elif name == "weight":
        for k, r in enumerate((rows, half, 1)):
            tiles += [f"{'if' if not k else 'elif'} size == {r}:",
                      f"    dot_tile_{dtype}({r}, {VECTORS}, {width}, left, word(p, 6), word(p, 4), right, word(p, 1) + 8 * k, "
                      "word(p, 9), many, word(p, 11), word(p, 12), scratch)"]
    template = {"frame": _FRAME, "correlate": _CORRELATE, "weight": _WEIGHT}[name]
    return Program(f"convolution_{name}_{dtype}", _source(template, dtype, tiles), inputs=("int64", "int64"), outputs=("int8",),
                   signature="(p),()->()")


@functools.cache
def _ufunc(name: str, dtype: str, many: bool) -> np.ufunc:
    """The kernel of a plan; with `many` its items run on several threads."""
    return make_ufunc(dataclasses.replace(_program(name, dtype), work=pool.GRAIN if many else 1))


def _run(name: str, dtype: str, plan: list, items: int, work: int) -> None:
    """Run all items of a plan; arrays in it stand for their addresses and stay alive."""
    words = np.array([w if w.__class__ is int else address(w) for w in plan], np.int64)
    many = work >= BUSY and items > 1
    if many:
        pool.ensure()
    _ufunc(name, dtype, many)(words, np.arange(items), np.empty(items, np.int8))


def address(x: np.ndarray) -> int:
    """Where an array's first element lies; `x.ctypes.data` takes twice as long."""
    return x.__array_interface__["data"][0]


# --- geometry: tables of integers, made once for a shape -------------------------------------------------------------------

@functools.lru_cache(maxsize=256)
def frame_table(extents: tuple, source: tuple, strides: tuple, pads: tuple, steps: tuple, phases: tuple) -> np.ndarray:
    """For each row of a frame: where in the image its column 0 lies (bytes), and from which column to which it is filled.

    Rows are in the order (phases z, y, x, then z, y), with `extents[2]` columns; index i of phase f is index i * step + f - pad of
    the image.
    """
    rows = []
    for fz, fy, fx in itertools.product(*phases):
        for z, y in itertools.product(range(extents[0]), range(extents[1])):
            at_z, at_y, at_x = z * steps[0] + fz - pads[0], y * steps[1] + fy - pads[1], fx - pads[2]
            first = max(0, -(at_x // steps[2]))
            last = min(extents[2], (source[2] - 1 - at_x) // steps[2] + 1)
            if not (0 <= at_z < source[0] and 0 <= at_y < source[1]) or last <= first:
                rows.append((0, extents[2], extents[2]))
            else:
                rows.append((at_z * strides[0] + at_y * strides[1] + at_x * strides[2], first, last))
    return np.array(rows, np.int64)


def framed(x: np.ndarray, extents: tuple, pads: tuple, steps: tuple = (1, 1, 1), phases: tuple = ((0,),) * 3,
           round_to: int = 1, spare: int = 0) -> tuple[np.ndarray, int]:
    """An image's frames (n, channels, rows * columns) and the bytes of one frame, a multiple of `round_to` elements.

    Zeros follow the last frame, room for `spare` frames and a vector more, because tiles read beyond the end of what they use.
    """
    n, channels = x.shape[:2]
    size = x.itemsize
    table = frame_table(extents, x.shape[2:], x.strides[2:], pads, steps, phases)
    plane = -(-len(table) * extents[2] // round_to) * round_to
    out = buffers.empty(((n * channels + spare) * plane + SLACK,), x.dtype)
    out[n * channels * plane:] = 0
    plan = [x, out, channels, *x.strides[:2], plane * size, len(table), extents[2], x.strides[4] * steps[2], table]
    _run("frame", NAME[x.dtype.char], plan, n * channels, n * channels * plane * 8)
    return out, plane * size


@functools.lru_cache(maxsize=256)
def frame_extents(shape: tuple, kernel: tuple, stride: tuple, dilation: tuple) -> tuple[tuple, tuple]:
    """For outputs of a shape: which residues modulo the stride the taps of each dimension have, and the extents of a frame."""
    phases = tuple(tuple(sorted({t * d % s for t in range(k)})) for k, s, d in zip(kernel, stride, dilation, strict=True))
    return phases, tuple(n + (k - 1) * d // s for n, k, d, s in zip(shape, kernel, dilation, stride, strict=True))


@functools.lru_cache(maxsize=256)
def tap_offsets(channels: int, plane: int, kernel: tuple, step: tuple, dilation: tuple, phases: tuple, extents: tuple, size: int,
                repeats: int) -> np.ndarray:
    """Bytes from an output position to the element of each (channel, tap); the last one repeated a few times more."""
    area = extents[0] * extents[1] * extents[2]
    found = []
    for taps in itertools.product(*(range(k) for k in kernel)):
        phase, at = 0, 0
        for k, s, d, f, e in zip(taps, step, dilation, phases, extents, strict=True):
            phase = phase * len(f) + f.index(k * d % s)
            at = at * e + k * d // s
        found.append(phase * area + at)
    rows = [c * plane + f * size for c in range(channels) for f in found]
    return np.array(rows + rows[-1:] * repeats, np.int64)


@functools.lru_cache(maxsize=256)
def row_places(rows: tuple, pitch: tuple, strides: tuple) -> np.ndarray:
    """Bytes from the start of an output plane to each row of the frame's positions; -1 for rows that are no outputs."""
    found = [z * strides[0] + y * strides[1] if y < rows[1] else -1 for z in range(rows[0]) for y in range(pitch[1])]
    return np.array(found[:(rows[0] - 1) * pitch[1] + rows[1]], np.int64)


@functools.lru_cache(maxsize=256)
def column_mask(out: tuple, extents: tuple, size: int, round_to: int) -> np.ndarray:
    """All bits set at the positions that are outputs, none elsewhere."""
    mask = np.zeros((out[0], extents[1], extents[2]), np.int32 if size == 4 else np.int64)
    mask[:, :out[1], :out[2]] = -1
    flat = mask.reshape(-1)
    padded = np.zeros(-(-flat.size // round_to) * round_to, mask.dtype)
    padded[:flat.size] = flat
    return padded


def _positions(out: tuple, extents: tuple) -> int:
    """Frame positions from the first output to the last."""
    return ((out[0] - 1) * extents[1] + out[1] - 1) * extents[2] + out[2]


# --- weights in the order in which tiles read them -----------------------------------------------------------------------

def packed(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Weights (groups, m, depth, kd, kh, kw), any strides, in blocks of rows: (whole blocks, the rest, its rows, its tile's)."""
    groups, m, *inner = weights.shape
    rows = registers()[1]
    whole, left = divmod(m, rows)
    count = math.prod(inner)
    blocks = buffers.empty((groups, whole, *inner, rows), weights.dtype)
    if blocks.size:
        split = np.lib.stride_tricks.as_strided(weights, (groups, whole, rows, *inner), (
            weights.strides[0], weights.strides[1] * rows, *weights.strides[1:]))
        copies.into(blocks, np.moveaxis(split, 2, -1))
    if not left:
        return blocks, blocks, 0, 1
    size = packed_rows(left)
    rest = np.zeros((groups, *inner, size), weights.dtype)
    if count:
        copies.into(rest[..., :left], np.moveaxis(weights[:, whole * rows:], 1, -1))
    return blocks, rest, left, size


# --- the three products ---------------------------------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the elements for a block of outputs lie in frames: `shape` outputs, of frames with `extents`, by `offsets`."""

    shape: tuple[int, int, int]
    extents: tuple[int, int, int]
    offsets: np.ndarray


def _fill(out: np.ndarray, frames: np.ndarray, plane: int, channels: int, layout: Layout, start: int, weights: tuple,
          bias: np.ndarray | None) -> None:
    """All outputs of a strided array (n, groups * m, d, h, w): position 0 lies `start` bytes behind the begin of a frame."""
    dtype = NAME[out.dtype.char]
    blocks, rest, left, rows = weights
    groups, m, count = blocks.shape[0], out.shape[1] // blocks.shape[0], math.prod(blocks.shape[2:-1])
    table = row_places(layout.shape, layout.extents, out.strides[2:4])
    positions = _positions(layout.shape, layout.extents)
    run = min(RUN, -(-positions // (VECTORS * lanes(dtype)))) * VECTORS * lanes(dtype)
    pieces = -(-positions // run)
    plan = [address(frames) + start, layout.offsets, count, blocks, blocks.shape[1], rest, left, rows,
            0 if bias is None else bias, out, positions, pieces, run, groups, plane * channels, plane * (channels // groups), m,
            out.strides[0], out.strides[1], layout.extents[2], layout.shape[2], table, out.strides[4]]
    items = out.shape[0] * groups * pieces
    _run("correlate", dtype, plan, items, out.shape[0] * out.shape[1] * positions * max(count, 8))


def _portions(n: int, bytes_each: int) -> list[slice]:
    """Samples in portions whose frames fit a cache."""
    many = max(1, FRAME // max(1, bytes_each))
    return [slice(k, min(n, k + many)) for k in range(0, n, many)]


def convolve(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, stride: tuple, padding: tuple, dilation: tuple,
             groups: int) -> np.ndarray:
    """The cross-correlation of images (n, c, d, h, w) with weights (m, c / groups, kd, kh, kw), plus a bias (m) per channel."""
    kernel = w.shape[2:]
    shape = tuple((e + 2 * p - d * (k - 1) - 1) // s + 1
                  for e, p, d, k, s in zip(x.shape[2:], padding, dilation, kernel, stride, strict=True))
    out = buffers.empty((x.shape[0], w.shape[0], *shape), x.dtype)
    if not out.size:
        return out
    phases, extents = frame_extents(shape, kernel, stride, dilation)
    x = x if x.flags.aligned else x.copy()
    parts = packed(w.reshape(groups, w.shape[0] // groups, *w.shape[1:]))
    plane = math.prod(map(len, phases)) * math.prod(extents) * x.itemsize
    offsets = tap_offsets(w.shape[1], plane, kernel, stride, dilation, phases, extents, x.itemsize, 0)
    bias = None if bias is None else np.require(bias, None, ["C", "A"])
    for some in _portions(x.shape[0], x.shape[1] * plane):
        frames, plane = framed(x[some], extents, padding, stride, phases)
        _fill(out[some], frames, plane, x.shape[1], Layout(shape, extents, offsets), 0, parts, bias)
    return out


def convolve_back(g: np.ndarray, w: np.ndarray, bias: np.ndarray | None, size: tuple, stride: tuple, padding: tuple,
                  dilation: tuple, groups: int) -> np.ndarray:
    """The transpose of `convolve` with respect to its image, whose spatial size is given; plus a bias per channel of the result.

    A position i of the image belongs to phase r of each dimension, i + padding = stride * j + r; only the taps with
    k * dilation = r (modulo the stride) reach it, from outputs j - k * dilation // stride.
    """
    kernel, channels = w.shape[2:], w.shape[1]
    out = buffers.empty((g.shape[0], channels * groups, *size), g.dtype)
    if not out.size:
        return out
    g = g if g.flags.aligned else g.copy()
    weights = w.reshape(groups, w.shape[0] // groups, *w.shape[1:]).swapaxes(1, 2)
    dims = [_phase_plan(*a) for a in zip(size, kernel, stride, padding, dilation, strict=True)]
    extents = tuple(extent for extent, _, _ in dims)
    plane = math.prod(extents) * g.itemsize
    bias = None if bias is None else np.require(bias, None, ["C", "A"])
    classes = []
    for parts in itertools.product(*(plan for _, _, plan in dims)):
        taps = tuple(t for _, _, _, t, _ in parts)
        area = tuple(n for _, n, _, _, _ in parts)
        chosen = packed(weights[(..., *taps)])
        offsets = _back_offsets(w.shape[0] // groups, plane, tuple(shifts for _, _, _, _, shifts in parts), extents, g.itemsize)
        start = sum(at * math.prod(extents[d + 1:]) for d, (_, _, at, _, _) in enumerate(parts)) * g.itemsize
        where = tuple(slice(first, None, s) for (first, _, _, _, _), s in zip(parts, stride, strict=True))
        classes.append((where, Layout(area, extents, offsets), start, chosen))
    pads = tuple(pad for _, pad, _ in dims)
    for some in _portions(g.shape[0], g.shape[1] * plane):
        frames, plane = framed(g[some], extents, pads)
        for where, layout, start, chosen in classes:
            _fill(out[(some, slice(None), *where)], frames, plane, g.shape[1], layout, start, chosen, bias)
    return out


@functools.lru_cache(maxsize=1024)
def _phase_plan(size: int, kernel: int, stride: int, padding: int, dilation: int) -> tuple[int, int, list]:
    """One dimension of `convolve_back`: extent of the frame of g, its padding on the left, and what each phase is.

    A phase: first position, how many, index of the first j, its taps (a slice), distance of each tap's element in the frame.
    """
    reach = (kernel - 1) * dilation // stride
    phases = []
    for r in range(stride):
        low = -((r - padding) // stride)                    # the first j at a position that is not negative
        first = stride * low + r - padding
        if first < size:
            phases.append((r, first, (size - 1 - first) // stride + 1, low))
    lowest = min(low for _, _, _, low in phases)
    highest = max(low + count - 1 for _, _, count, low in phases)
    plans = []
    for r, first, count, low in phases:
        taps = [k for k in range(kernel) if k * dilation % stride == r]
        step = taps[1] - taps[0] if len(taps) > 1 else 1
        chosen = slice(taps[0], taps[-1] + 1, step) if taps else slice(0, 0)
        plans.append((first, count, low - lowest, chosen, tuple(reach - k * dilation // stride for k in taps)))
    return highest - lowest + 1 + reach, reach - lowest, plans


@functools.lru_cache(maxsize=256)
def _back_offsets(channels: int, plane: int, shifts: tuple, extents: tuple, size: int) -> np.ndarray:
    """Bytes from a position to the element of each (channel, tap) of one phase."""
    found = [((z * extents[1] + y) * extents[2] + x) * size for z, y, x in itertools.product(*shifts)]
    return np.array([c * plane + f for c in range(channels) for f in found], np.int64)


def convolve_weight(x: np.ndarray, g: np.ndarray, kernel: tuple, stride: tuple, padding: tuple, dilation: tuple,
                    groups: int) -> np.ndarray:
    """The transpose of `convolve` with respect to its weights, whose spatial size is given."""
    n, m, channels = x.shape[0], g.shape[1] // groups, x.shape[1] // groups
    count = channels * math.prod(kernel)
    if not n or not m * count or not g.size:
        return np.zeros((m * groups, channels, *kernel), x.dtype)
    dtype = NAME[x.dtype.char]
    shape, width = g.shape[2:], lanes(dtype)
    phases, extents = frame_extents(shape, kernel, stride, dilation)
    x, g = (a if a.flags.aligned else a.copy() for a in (x, g))
    mask = column_mask(shape, extents, x.itemsize, width)
    blocks = -(-m // registers()[1])
    steps = -(-_positions(shape, extents) // width)
    portions = _portions(n, x.shape[1] * math.prod(map(len, phases)) * math.prod(extents) * x.itemsize)
    split = 1 if len(portions) > 1 else min(n, max(1, 32 // (blocks * groups)), max(1, PARTS // (g.shape[1] * count)))
    sums = buffers.empty((len(portions), split, g.shape[1], channels, *kernel), x.dtype)
    for k, some in enumerate(portions):
        frames, plane = framed(x[some], extents, padding, stride, phases)
        offsets = tap_offsets(channels, plane, kernel, stride, dilation, phases, extents, x.itemsize, VECTORS)
        others, area = framed(g[some], (shape[0], *extents[1:]), (0, 0, 0), round_to=width, spare=registers()[1])
        many = some.stop - some.start
        near = max(1, NEAR // (plane * channels + area * min(m, registers()[1])))
        plan = [frames, offsets, count, others, area * g.shape[1], area * m, area, m, groups, plane * x.shape[1], plane * channels,
                steps, mask, sums[k], many, split, near, blocks]
        _run("weight", dtype, plan, split * groups * blocks, many * g.shape[1] * count * steps * width)
    if sums.shape[:2] == (1, 1):
        return sums[0, 0]
    return BOOK["sum"].on_arrays(sums, dims=(0, 1))
