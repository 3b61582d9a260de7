"""Pools on CUDA: the largest element or the mean of each window, their transposes, and elements of planes by index.

A thread makes one element of a result: of a window, or of an image, for which it looks through the windows that contain it in their
order. No atomics: sums repeat to the last bit. Elements put at any indices (`max_unpool`, second derivatives) find their sources in
the sorted indices. Windows are worked out as in `kernels.cpu.pooling`. Called through `kernels.cuda.records`.
"""
from __future__ import annotations

import functools
import math

import numpy as np

from ..source import FLOATING, ITEMSIZE, indented, packed, unpacked
from . import pointwise as maps
from .arrays import dense
from .compiler import Program
from .elements import launches_of, program_of, search_for
from .launch import View, divider, pointwise
from .sorting import sorted_rows

MOST = (1 << 31) - 1    # elements that a thread's number can count
AXES = "zyx"
NUMBERS = ("channels", "channels_magic", "channels_shift", "x_n", "x_c", "x_z", "x_y", "x_x",
              *(f"{w}_{a}" for w in ("size", "out", "kernel", "stride", "padding", "dilation", "magic", "shift", "stride_magic",
                                     "stride_shift") for a in AXES), "count_pad", "divisor")


# --- source -----------------------------------------------------------------------------------------------------------

def _wide(dtype: str) -> str:
    return "float32" if dtype == "float16" else dtype


def _digits(walked: str) -> list[str]:
    """plane, at_z, at_y, at_x of element i of planes of the size `walked`; where the plane of x begins."""
    lines, left = [], "i"
    for axis, over in zip("xyz", ("over_x", "over_y", "plane"), strict=True):
        lines += [f"{over} = divided({left}, magic_{axis}, shift_{axis})", f"at_{axis} = {left} - {over} * {walked}_{axis}"]
        left = over
    return [*lines, "lead = divided(plane, channels_magic, channels_shift)",
            "from_x = lead * x_n + (plane - lead * channels) * x_c"]


def _window(axis: str, at: str, even: bool) -> list[str]:
    """first, stop and count of window `at` along an axis."""
    a = axis
    if even:
        return [f"first_{a} = quotient({at} * size_{a}, out_{a})",
                f"stop_{a} = quotient(({at} + 1) * size_{a} + out_{a} - 1, out_{a})", f"count_{a} = stop_{a} - first_{a}"]
    return [f"first_{a} = {at} * stride_{a} - padding_{a}",
            f"stop_{a} = smaller(first_{a} + (kernel_{a} - 1) * dilation_{a} + 1, size_{a} + padding_{a})",
            f"count_{a} = stop_{a} - first_{a}", f"while first_{a} < 0:", f"    first_{a} = first_{a} + dilation_{a}",
            f"stop_{a} = smaller(stop_{a}, size_{a})", f"if stop_{a} <= first_{a}:",
            f"    first_{a}, stop_{a} = greater(size_{a} - 1, 0), greater(size_{a} - 1, 0)", "if count_pad == 0:",
            f"    count_{a} = greater(stop_{a} - first_{a}, 1)"]


def _around(axis: str, even: bool) -> list[str]:
    """low and high: the first and the last window that may contain position at_ of an axis."""
    a = axis
    if even:
        return [f"low_{a} = quotient(at_{a} * out_{a}, size_{a})",
                f"high_{a} = quotient((at_{a} + 1) * out_{a} + size_{a} - 1, size_{a}) - 1"]
    return [f"top, reach, low_{a} = at_{a} + padding_{a}, (kernel_{a} - 1) * dilation_{a} + 1, 0", "if top >= reach:",
            f"    low_{a} = divided(top - reach, stride_magic_{a}, stride_shift_{a}) + 1",
            f"high_{a} = smaller(divided(top, stride_magic_{a}, stride_shift_{a}), out_{a} - 1)"]


def _nested(loops: list[tuple[str, str, str, str]], inner: list[str], before: list[list[str]]) -> list[str]:
    """While loops (name, first, condition, step) in one another; `before[k]` runs first in each turn of loop k."""
    if not loops:
        return inner
    (name, first, condition, step), *rest = loops
    return [f"{name} = {first}", f"while {condition}:",
            *indented(1, [*before[0], *_nested(rest, inner, before[1:]), f"{name} = {name} + {step}"])]


@functools.cache
def window_program(name: str, dtype: str, even: bool) -> Program:
    """"max" (values q, indices p), "mean" (q), "mean_back", "max_back" (q; p are indices) of x; `even`: adaptive windows."""
    compute, size, back = _wide(dtype), ITEMSIZE[dtype], name.endswith("back")
    title, places = f"pool_{name}_{dtype}{'_even' * even}", ("z", "y", "x_at")
    element = unpacked(dtype, f"read_{dtype}(x, from_x + z * x_z + y * x_y + x_at * x_x)")
    store = [f"store_{dtype}(q, i * {size}, {packed(dtype, 'total')})"]
    nothing: list[list[str]] = [[], [], []]
    body = _digits("size" if back else "out")
    if back:
        for a in AXES:
            body += _around(a, even)
        body += [f"total = as_{compute}(0)", "here = (at_z * size_y + at_y) * size_x + at_x"]
        loops = [(v, f"low_{a}", f"{v} <= high_{a}", "1") for v, a in zip(places, AXES, strict=True)]
        if name == "max_back":
            inner = ["if read_int64(p, (((plane * out_z + z) * out_y + y) * out_x + x_at) * 8) == here:",
                     f"    total = as_{compute}(total + {element})"]
            return program_of(title, "q, p, x", ", ".join(NUMBERS), [*body, *_nested(loops, inner, nothing), *store])
        inner = ["by = count_z * count_y * count_x if divisor == 0 else divisor",
                 f"total = as_{compute}(total + {element} / as_{compute}(by))"]
        before = [_window(a, v, even) for v, a in zip(places, AXES, strict=True)]
        return program_of(title, "q, x", ", ".join(NUMBERS), [*body, *_nested(loops, inner, before), *store])
    loops = [(v, f"first_{a}", f"{v} < stop_{a}", f"dilation_{a}") for v, a in zip(places, AXES, strict=True)]
    for a in AXES:
        body += _window(a, f"at_{a}", even)
    if name == "max":
        lowest = "-inf" if dtype in FLOATING else str(np.iinfo(dtype).min)
        each = [f"value = {element}", "if value > total or value != value:",
                "    total, where = value, (z * size_y + y) * size_x + x_at"]
        body += [f"total, where = as_{compute}({lowest}), (first_z * size_y + first_y) * size_x + first_x",
                 *_nested(loops, each, nothing), *store, "store_int64(p, i * 8, where)"]
        return program_of(title, "q, p, x", ", ".join(NUMBERS), body)
    body += [f"total = as_{compute}(0)", *_nested(loops, [f"total = as_{compute}(total + {element})"], nothing),
             "by = count_z * count_y * count_x if divisor == 0 else divisor"]
    if dtype in FLOATING:
        body.append(f"total = as_{compute}(total / as_{compute}(by))")
    else:                   # integers are rounded towards zero
        body += ["share = quotient(total if total > 0 else -total, by if by > 0 else -by)",
                 "total = share if (total < 0) == (by < 0) else -share"]
    return program_of(title, "q, x", ", ".join(NUMBERS), [*body, *store])


@functools.cache
def gather_program(size: int) -> Program:
    """q[plane, k] = x[plane, p[plane, k]], elements of `size` bytes; 0 where the index is not one of the plane's."""
    carrier = maps.CARRIER[size]
    zero = "as_complex128(0)" if carrier == "complex128" else f"as_{carrier}(0)"
    return program_of(f"plane_gather_{size}", "q, p, x", "many, reach", [
        "at, value = read_int64(p, i * 8), " + zero, "if 0 <= at and at < reach:",
        f"    value = read_{carrier}(x, (quotient(i, many) * reach + at) * {size})", f"store_{carrier}(q, i * {size}, value)"])


@functools.cache
def put_program(dtype: str, adds: bool) -> Program:
    """q[plane, h]: the sum, or the last, of x[plane, k] with p[plane, k] == h; `o` are the k that put p in order. 0 for none."""
    compute, size = _wide(dtype), ITEMSIZE[dtype]
    value = unpacked(dtype, f"read_{dtype}(x, (from_p + k) * {size})")
    return program_of(f"plane_{'add' if adds else 'put'}_{dtype}", "q, p, o, x", "r, space", [
        "plane = quotient(i, space)", "here, from_p = i - plane * space, plane * r",
        *search_for("read_int64(p, (from_p + read_int64(o, (from_p + middle) * 8)) * 8) < here"),
        f"total, found = as_{compute}(0), True", "while found and low < r:",
        *indented(1, ["k = read_int64(o, (from_p + low) * 8)", "found = read_int64(p, (from_p + k) * 8) == here", "if found:",
                      f"    total = {f'as_{compute}(total + {value})' if adds else value}", "low = low + 1"]),
        f"store_{dtype}(q, i * {size}, {packed(dtype, 'total')})"])


# --- windows ----------------------------------------------------------------------------------------------------------

def _solid(x: View, dims: int) -> View:
    """Images with a batch dimension and three spatial ones."""
    if len(x.shape) == dims + 1:
        x = x._replace(shape=(1, *x.shape), strides=(0, *x.strides))
    more = 5 - len(x.shape)
    return x._replace(shape=x.shape[:2] + (1,) * more + x.shape[2:], strides=x.strides[:2] + (0,) * more + x.strides[2:])


def _triple(values: tuple | None, fill: int) -> tuple:
    return (fill,) * 3 if values is None else (fill,) * (3 - len(values)) + tuple(values)


def _run(device, name: str, results: list[View], others: list[View], x: View, image: tuple, out: tuple, kernel, stride, padding,
         dilation=(), count_pad: bool = True, divisor: int = 0):
    """The kernel `name`: `x` is read, planes of the spatial size `image` have windows `out`. Whether it was served."""
    n = results[0].size
    if not n:
        return True
    if max(n, math.prod(image), math.prod(out)) > MOST:
        return False
    dims = len(out)
    x, image, out = _solid(x, dims), _triple(image, 1), _triple(out, 1)
    stride, walked = _triple(stride, 1), image if name.endswith("back") else out
    walks, strides, channels = [divider(s) for s in walked], [divider(s) for s in stride], max(1, x.shape[1])
    words = [channels, *divider(channels), *x.strides, *image, *out, *_triple(kernel, 1), *stride, *_triple(padding, 0),
             *_triple(dilation, 1), *(m for m, _ in walks), *(s for _, s in walks), *(m for m, _ in strides),
             *(s for _, s in strides), int(bool(count_pad)), int(divisor or 0)]
    program = window_program(name, x.dtype, kernel is None)
    device.run(launches_of(program, (*results, *others, x), n, *words))
    return True


def _largest(device, x: View, size, kernel, stride, padding, dilation):
    """The largest element of each window, and its index in the plane."""
    dims = len(size)
    shape = (*x.shape[:-dims], *size)
    values, indices = device.empty(x.dtype, shape), device.empty("int64", shape)
    served = _run(device, "max", [values, indices], [], x, x.shape[-dims:], tuple(size), kernel, stride, padding, dilation)
    return (values, indices) if served else NotImplemented


max_pool2d = max_pool3d = adaptive_max_pool2d = adaptive_max_pool3d = _largest


def _means(device, x: View, size, kernel, stride, padding, count_pad, divisor):
    """The mean of each window."""
    dims = len(size)
    found = device.empty(x.dtype, (*x.shape[:-dims], *size))
    served = _run(device, "mean", [found], [], x, x.shape[-dims:], tuple(size), kernel, stride, padding, (), count_pad, divisor)
    return found if served else NotImplemented


avg_pool2d = avg_pool3d = adaptive_avg_pool2d = adaptive_avg_pool3d = _means


def mean_pool_back(device, x: View, size, kernel, stride, padding, count_pad, divisor):
    """The transpose of a mean over windows, for images of a spatial size."""
    dims = len(size)
    found = device.empty(x.dtype, (*x.shape[:-dims], *size))
    served = _run(device, "mean_back", [found], [], x, tuple(size), x.shape[-dims:], kernel, stride, padding, (), count_pad,
                  divisor)
    return found if served else NotImplemented


# --- by index ---------------------------------------------------------------------------------------------------------

def plane_gather(device, x: View, indices: View, dims) -> View:
    """The elements of planes of some dimensions at indices."""
    out = device.empty(x.dtype, indices.shape)
    if out.size:
        x, indices = dense(device, x), dense(device, indices)
        device.run(launches_of(gather_program(ITEMSIZE[x.dtype]), (out, indices, x), out.size, math.prod(indices.shape[-dims:]),
                               math.prod(x.shape[-dims:])))
    return out


def plane_scatter(device, x: View, indices: View, size, windows=None):
    """Planes of zeros of a spatial size with elements added at indices; `windows` of a pool that gave the indices."""
    if windows is None:
        return _put(device, x, indices, size, True)
    dims, (kernel, stride, padding, dilation) = len(size), windows
    if not x.size:
        return _put(device, x, indices, size, True)
    out = device.empty(x.dtype, (*x.shape[:-dims], *size))
    served = _run(device, "max_back", [out], [dense(device, indices)], x, tuple(size), x.shape[-dims:], kernel, stride, padding,
                  dilation)
    return out if served else NotImplemented


def _put(device, x: View, indices: View, size, adds: bool = False) -> View:
    """Planes of zeros of a spatial size with elements put at indices, the last where several share one; or added."""
    dims = len(size)
    out = device.empty(x.dtype, (*x.shape[:-dims], *size))
    if not out.size:
        return out
    if not x.size:
        device.run(pointwise(maps.cast(x.dtype, x.dtype), [out], [0]))
        return out
    many = math.prod(x.shape[-dims:])
    x, indices = (dense(device, v)._replace(shape=(x.size // many, many), strides=(many * ITEMSIZE[v.dtype], ITEMSIZE[v.dtype]))
                  for v in (x, indices))
    put_in_order(device, out, x, indices, sorted_rows(device, indices), math.prod(size), adds)
    return out


def put_in_order(device, out: View, x: View, indices: View, order: View, space: int, adds: bool) -> None:
    """Rows of `x` put into planes of `space` elements, or added; `order` sorts each row of the indices, equal ones as they come."""
    dtype = x.dtype if adds else maps.CARRIER[ITEMSIZE[x.dtype]]
    device.run(launches_of(put_program(dtype, adds), (out, indices, order, x), out.size, x.shape[1], space))


max_unpool2d = max_unpool3d = _put
