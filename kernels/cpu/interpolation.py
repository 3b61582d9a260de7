"""Weighted sums of neighbours along one dimension, and the tables ("taps") that say of which: interpolation, areas, windows.

A linear map along a dimension is a table: for each output the positions of some inputs and their weights. Its transpose is a
table as well, so one kernel serves all modes of interpolation and their gradients. Tables depend on sizes only and are made in
Python, once. Called by `kernels.ops.interpolation`; which table an argument asks for is settled in `engine.nn.functional`.
"""
from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from . import buffers, pool
from .maps import loaded, stored
from .native import Program, make_ufunc

TILE = 256              # neighbouring results whose sums stay in the first cache


class Taps:
    """A linear map from `size` inputs to outputs: positions and weights (outputs, k), of which `counts` are used."""

    def __init__(self, size: int, rows: list[tuple[list[int], list[float]]]):
        self.size, self.outputs = size, len(rows)
        width = max((len(p) for p, _ in rows), default=0) or 1
        self.positions, self.weights = np.zeros((len(rows), width), np.int64), np.zeros((len(rows), width))
        self.counts = np.array([len(p) for p, _ in rows], np.int64)
        for k, (positions, weights) in enumerate(rows):
            self.positions[k, :len(positions)], self.weights[k, :len(weights)] = positions, weights
        self._narrow = self.weights.astype(np.float32)

    def weights_in(self, dtype: str) -> np.ndarray:
        """The weights in float32 or float64."""
        return self.weights if dtype == "float64" else self._narrow

    @functools.cached_property
    def transposed(self) -> Taps:
        """The adjoint map."""
        rows: list = [([], []) for _ in range(self.size)]
        for k, count in enumerate(self.counts.tolist()):
            for p, w in zip(self.positions[k, :count].tolist(), self.weights[k, :count].tolist(), strict=True):
                rows[p][0].append(k)
                rows[p][1].append(w)
        return Taps(self.size and self.outputs, rows)


# --- kernel -------------------------------------------------------------------------------------------------------------

@functools.cache
def resample_ufunc(dtype: str) -> np.ufunc:
    """x (i, b), positions, weights (o, k), counts (o) -> sums (o, b), added up in float32 or float64."""
    compute = "float64" if dtype == "float64" else "float32"
    size = np.dtype(compute).itemsize
    element = f"as_{compute}({loaded(dtype, 'x', 'SOURCE')})"
    source = f"""
def kernel(args, dimensions, steps, data):
    sums = stack({TILE * size})
    n, b, m = dimensions[0], dimensions[2], dimensions[3]
    xi, xb, po, pk, wo, wk, qo, qb = steps[5], steps[6], steps[7], steps[8], steps[9], steps[10], steps[12], steps[13]
    for outer in range(n):
        x, q = pointer(address(args[0]) + outer * steps[0]), pointer(address(args[4]) + outer * steps[4])
        for o in range(m):
            count = load_int64(args[3], o * steps[11])
            if b == 1:
                total = as_{compute}(0)
                for k in range(count):
                    total += load_{compute}(args[2], o * wo + k * wk) * {element.replace('SOURCE',
                                                                                         'load_int64(args[1], o * po + k * '
                                                                                         'pk) * xi')}
                {stored(dtype, 'q', 'o * qo', 'total')}
            else:
                for first in range(0, b, {TILE}):
                    width = min(b - first, {TILE})
                    for lane in range(width):
                        store_{compute}(sums, lane * {size}, as_{compute}(0))
                    for k in range(count):
                        weight = load_{compute}(args[2], o * wo + k * wk)
                        at = load_int64(args[1], o * po + k * pk) * xi + first * xb
                        if xb == {np.dtype(dtype).itemsize}:
                            for lane in range(width):
                                store_{compute}(sums, lane * {size}, peek_{compute}(sums, lane * {size}) + weight * {
                                    element.replace('SOURCE', f'at + lane * {np.dtype(dtype).itemsize}')})
                        else:
                            for lane in range(width):
                                store_{compute}(sums, lane * {size}, peek_{compute}(sums, lane * {size}) + weight * {
                                    element.replace('SOURCE', 'at + lane * xb')})
                    for lane in range(width):
                        {stored(dtype, 'q', 'o * qo + (first + lane) * qb', f'peek_{compute}(sums, lane * {size})')}
    clear_status()
"""
    return make_ufunc(Program(f"resample_{dtype}", source, inputs=(dtype, "int64", compute, "int64"), outputs=(dtype,),
                              signature="(i,b),(o,k),(o,k),(o)->(o,b)", work=2))


def resample(x: np.ndarray, dim: int, taps: Taps) -> np.ndarray:
    """The linear map of `taps` along one dimension of a floating array."""
    out = buffers.empty((*x.shape[:dim], taps.outputs, *x.shape[dim + 1:]), x.dtype)
    if not out.size:
        return out
    from .gathers import aligned, as_contiguous
    x = as_contiguous(aligned(x))
    if out.size >= pool.GRAIN // 2:
        pool.ensure()
    lead, tail = math.prod(x.shape[:dim]), math.prod(x.shape[dim + 1:])
    resample_ufunc(x.dtype.name)(x.reshape(lead, x.shape[dim], tail), taps.positions, taps.weights_in(x.dtype.name), taps.counts,
                                 out=out.reshape(lead, taps.outputs, tail))
    return out


# --- tables: the rules of PyTorch's UpSample.h --------------------------------------------------------------------------------

def _step(size: int, outputs: int, align_corners: bool, scale: float | None) -> float:
    """Distance of neighbouring outputs, in inputs."""
    if align_corners:
        return (size - 1) / (outputs - 1) if outputs > 1 else 0.0
    return 1.0 / scale if scale else size / outputs


@functools.lru_cache(maxsize=128)
def nearest_taps(size: int, outputs: int, scale: float | None, exact: bool) -> Taps:
    """The input below each output (`exact`: below its centre), computed in float32 as PyTorch does."""
    step = np.float32(1.0 / scale if scale else np.float32(size) / np.float32(outputs))
    places = (np.arange(outputs, dtype=np.float32) + np.float32(0.5 if exact else 0.0)) * step
    return Taps(size, [([min(int(p), size - 1)], [1.0]) for p in places])


@functools.lru_cache(maxsize=128)
def linear_taps(size: int, outputs: int, align_corners: bool, scale: float | None) -> Taps:
    """The two inputs around each output."""
    step, rows = _step(size, outputs, align_corners, scale), []
    for k in range(outputs):
        place = k * step if align_corners else max(step * (k + 0.5) - 0.5, 0.0)
        low = min(int(place), size - 1)
        part = min(max(place - low, 0.0), 1.0)
        rows.append(([low, min(low + 1, size - 1)], [1.0 - part, part]) if outputs != size else ([k], [1.0]))
    return Taps(size, rows)


def _cubic(x: float, a: float) -> float:
    """Keys, Cubic convolution interpolation (1981), (15)."""
    x = abs(x)
    if x <= 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * a if x < 2 else 0.0


@functools.lru_cache(maxsize=128)
def cubic_taps(size: int, outputs: int, align_corners: bool, scale: float | None) -> Taps:
    """Four inputs around each output, those beyond the ends taken at the ends; a = -0.75."""
    step, rows = _step(size, outputs, align_corners, scale), []
    for k in range(outputs):
        place = k * step if align_corners else step * (k + 0.5) - 0.5
        low = math.floor(place)
        near = range(low - 1, low + 3)
        rows.append(([min(max(p, 0), size - 1) for p in near], [_cubic(place - p, -0.75) for p in near]))
    return Taps(size, rows)


def _hat(x: float) -> float:
    return max(1.0 - abs(x), 0.0)


def _lanczos(x: float) -> float:
    return float(np.sinc(x) * np.sinc(x / 3)) if -3 <= x < 3 else 0.0


_FILTERS: dict[str, tuple[float, Callable[[float], float]]] = {
    "bilinear": (1.0, _hat), "bicubic": (2.0, lambda x: _cubic(x, -0.5)), "lanczos": (3.0, _lanczos)}


@functools.lru_cache(maxsize=128)
def antialias_taps(mode: str, size: int, outputs: int, align_corners: bool, scale: float | None) -> Taps:
    """Inputs under a filter that is as wide as the distance of outputs; weights add up to one."""
    reach, filter_ = _FILTERS[mode]
    step, rows = _step(size, outputs, align_corners, scale), []
    wide = max(step, 1.0)
    for k in range(outputs):
        centre = step * (k + 0.5)
        first = max(int(centre - reach * wide + 0.5), 0)
        last = min(int(centre + reach * wide + 0.5), size)
        weights = [filter_((p - centre + 0.5) / wide) for p in range(first, last)]
        total = sum(weights) or 1.0
        rows.append((list(range(first, last)), [w / total for w in weights]))
    return Taps(size, rows)


@functools.lru_cache(maxsize=128)
def area_taps(size: int, outputs: int) -> Taps:
    """The mean of the inputs that each output covers in part or in whole."""
    rows = []
    for k in range(outputs):
        near = range(k * size // outputs, -(-(k + 1) * size // outputs))
        rows.append((list(near), [1.0 / len(near)] * len(near)))
    return Taps(size, rows)


@functools.lru_cache(maxsize=128)
def window_taps(size: int, width: int) -> Taps:
    """The sum over `width` neighbours divided by `width`; those beyond the ends count as zeros."""
    rows = []
    for k in range(size):
        near = range(max(0, k - width // 2), min(size, k + (width - 1) // 2 + 1))
        rows.append((list(near), [1.0 / width] * len(near)))
    return Taps(size, rows)
