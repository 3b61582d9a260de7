"""Sliding blocks of images (im2col, col2im) and weighted sums of neighbours along dimensions (interpolation) on CUDA.

A thread makes one element of a result; where several elements of the operand meet in one (col2im, the gradients of interpolation,
which are interpolation by transposed tables) it adds them in a fixed order: no atomics, and the CPU's sums to the last bit
(float16: added in float32). Called through `kernels.cuda.records`.
"""
from __future__ import annotations

import functools
import math

import numpy as np

from ..source import ITEMSIZE, indented, packed, unpacked
from . import pointwise as maps
from .arrays import dense
from .compiler import Program
from .elements import launches_of, program_of
from .gathers import picked
from .launch import View, divider
from .pooling import MOST

ADDED = ("float16", "float32", "float64", "int32", "int64")
FLOATING = ADDED[:3]


def _digit(name: str, number: str, rest: str) -> list[str]:
    """name = number % size_name, rest = number // size_name."""
    return [f"{rest} = divided({number}, magic_{name}, shift_{name})", f"{name} = {number} - {rest} * size_{name}"]


def _sizes(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{w}_{name}" for name in names for w in ("size", "magic", "shift"))


def _divided(sizes: tuple[int, ...]) -> list[int]:
    return [word for size in sizes for word in (size, *divider(max(1, size)))]


# --- sliding blocks ---------------------------------------------------------------------------------------------------

GEOMETRY = ("down", "beside", *(f"{w}_{a}" for w in ("stride", "padding", "dilation") for a in "yx"))


@functools.cache
def columns_program(size: int) -> Program:
    """q[lead, c, i, j, v, u] = x[lead, c, v * stride + i * dilation - padding, ...], elements of `size` bytes; zero outside."""
    carrier = maps.CARRIER[size]
    zero = "as_complex128(0)" if carrier == "complex128" else f"as_{carrier}(0)"
    body = [*_digit("u", "i", "over_u"), *_digit("v", "over_u", "over_v"), *_digit("kx", "over_v", "over_kx"),
            *_digit("ky", "over_kx", "over_ky"), *_digit("c", "over_ky", "lead"),
            "y, x_at = v * stride_y + ky * dilation_y - padding_y, u * stride_x + kx * dilation_x - padding_x", f"value = {zero}",
            "if 0 <= y and y < down and 0 <= x_at and x_at < beside:",
            f"    value = read_{carrier}(x, lead * x_n + c * x_c + y * x_y + x_at * x_x)", f"store_{carrier}(q, i * {size}, value)"]
    numbers = ("x_n", "x_c", "x_y", "x_x", *_sizes(("u", "v", "kx", "ky", "c")), *GEOMETRY)
    return program_of(f"columns_{size}", "q, x", ", ".join(numbers), body)


@functools.cache
def blocks_program(dtype: str) -> Program:
    """q[plane, y, x]: the sum of the columns' elements that `columns_program` takes from there, in the order of i, j."""
    compute, size = "float32" if dtype == "float16" else dtype, ITEMSIZE[dtype]
    place = "((((plane * size_ky + ky) * size_kx + kx) * down + v) * beside + u)"
    value = unpacked(dtype, f"read_{dtype}(x, {place} * {size})")
    across = ["left = at_x + padding_x - kx * dilation_x", "if left >= 0:",
              *indented(1, ["u = divided(left, magic_stride_x, shift_stride_x)", "if u < beside and u * stride_x == left:",
                            f"    total = as_{compute}(total + {value})"]), "kx = kx + 1"]
    down = ["top = at_y + padding_y - ky * dilation_y", "if top >= 0:",
            *indented(1, ["v = divided(top, magic_stride_y, shift_stride_y)", "if v < down and v * stride_y == top:",
                          *indented(1, ["kx = 0", "while kx < size_kx:", *indented(1, across)])]), "ky = ky + 1"]
    body = [*_digit("at_x", "i", "over_x"), *_digit("at_y", "over_x", "plane"), f"total, ky = as_{compute}(0), 0",
            "while ky < size_ky:", *indented(1, down), f"store_{dtype}(q, i * {size}, {packed(dtype, 'total')})"]
    steps = tuple(f"{w}_stride_{a}" for a in "yx" for w in ("magic", "shift"))
    numbers = (*_sizes(("at_x", "at_y")), "size_kx", "size_ky", *GEOMETRY, *steps)
    return program_of(f"blocks_{dtype}", "q, x", ", ".join(numbers), body)


def _counts(size: tuple, kernel: tuple, stride: tuple, padding: tuple, dilation: tuple) -> tuple[int, ...]:
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1
                 for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True))


def im2col(device, x: View, kernel, stride, padding, dilation) -> View:
    """Sliding blocks of images (n, c, h, w) as columns (n, c * kh * kw, blocks)."""
    n, c, *image = x.shape
    counts = _counts(image, kernel, stride, padding, dilation)
    out = device.empty(x.dtype, (n, c * math.prod(kernel), math.prod(counts)))
    if out.size > MOST:
        return NotImplemented
    if out.size:
        words = [*x.strides, *_divided((*counts[::-1], *tuple(kernel)[::-1], c)), *image, *stride, *padding, *dilation]
        device.run(launches_of(columns_program(ITEMSIZE[x.dtype]), (out, x), out.size, *words))
    return out


def col2im(device, x: View, size, kernel, stride, padding, dilation) -> View:
    """Columns added back to the places of images (n, c, h, w) that im2col took them from."""
    out = device.empty(x.dtype, (x.shape[0], x.shape[1] // math.prod(kernel), *size))
    if x.dtype not in ADDED or out.size > MOST or any(n + 2 * p > MOST for n, p in zip(size, padding, strict=True)):
        return NotImplemented
    if out.size:
        x = dense(device, x)
        counts = _counts(size, kernel, stride, padding, dilation)
        words = [*_divided(tuple(size)[::-1]), kernel[1], kernel[0], *counts, *stride, *padding, *dilation,
                 *(word for s in stride for word in divider(s))]
        device.run(launches_of(blocks_program(x.dtype), (out, x), out.size, *words))
    return out


# --- tables along dimensions --------------------------------------------------------------------------------------------

@functools.cache
def resample_program(dtype: str) -> Program:
    """q[lead, o, t] = sum over k < counts[o] of weights[o, k] * x[lead, positions[o, k], t].

    The table p has counts, positions and weights behind one another.
    """
    compute, size = "float64" if dtype == "float64" else "float32", ITEMSIZE[dtype]
    value = unpacked(dtype, f"read_{dtype}(x, (from_x + read_int64(p, (outputs + at) * 8) * size_t) * {size})")
    weight = f"as_{compute}(read_float64(p, (outputs + outputs * width + at) * 8))"
    body = [*_digit("t", "i", "over_t"), *_digit("o", "over_t", "lead"), "from_x, k = lead * inputs * size_t + t, 0",
            f"total, taken = as_{compute}(0), read_int64(p, o * 8)", "while k < taken:",
            *indented(1, ["at = o * width + k", f"total = total + {weight} * {value}", "k = k + 1"]),
            f"store_{dtype}(q, i * {size}, {packed(dtype, 'total')})"]
    return program_of(f"resample_{dtype}", "q, x, p", ", ".join(("inputs", "outputs", "width", *_sizes(("t", "o")))), body)


def _resampled(device, x: View, dim: int, taps):
    """A table of `kernels.cpu.interpolation` along one dimension."""
    out = device.empty(x.dtype, (*x.shape[:dim], taps.outputs, *x.shape[dim + 1:]))
    if x.dtype not in FLOATING or out.size > MOST:
        return NotImplemented
    if out.size:
        x = dense(device, x)
        table = device.put(np.concatenate([taps.counts, taps.positions.ravel(), taps.weights.ravel().view(np.int64)]))
        words = [x.shape[dim], taps.outputs, taps.positions.shape[1],
                 *_divided((math.prod(x.shape[dim + 1:]), taps.outputs))]
        device.run(launches_of(resample_program(x.dtype), (out, x, table), out.size, *words))
    return out


def resample(device, x: View, taps):
    """Weighted sums of neighbours along dimensions: `taps` are pairs of dimension, table."""
    for dim, table in taps:
        x = _resampled(device, x, dim, table)
        if x is NotImplemented:
            break
    return x


def _nearest(device, x: View, taps):
    """Tables of one position each."""
    for dim, table in taps:
        x = picked(device, x, device.put(np.ascontiguousarray(table.positions[:, 0])), dim, dim + 1)
        if x is NotImplemented:
            break
    return x


upsample_nearest1d = upsample_nearest2d = upsample_nearest3d = _nearest
upsample_nearest_exact1d = upsample_nearest_exact2d = upsample_nearest_exact3d = _nearest
upsample_area1d = upsample_area2d = upsample_area3d = resample
upsample_linear1d = upsample_bilinear2d = upsample_trilinear3d = upsample_bicubic2d = resample
upsample_bilinear2d_aa = upsample_bicubic2d_aa = upsample_lanczos2d_aa = resample
