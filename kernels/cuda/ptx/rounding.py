"""Exact arithmetic for the instructions: fused multiply-add, directed rounding, float16, flushing, integer division.

Functions of NumPy arrays; nothing here knows of PTX. An exact value is a pair hi + lo of float64 with |lo| below half a unit
of hi (Dekker, Knuth): rounding it to float32 in any direction is then a matter of comparing.
"""
from __future__ import annotations

import fractions
import functools
import math

import numpy as np

from ... import libm
from ...cpu import native

_FMA_SOURCE = """
def kernel(args, dimensions, steps, data):
    x, y, z, out = args[0], args[1], args[2], args[3]
    a, b, c, d = steps[0], steps[1], steps[2], steps[3]
    for i in range(dimensions[0]):
        store_{t}(out, i * d, multiply_add(load_{t}(x, i * a), load_{t}(y, i * b), load_{t}(z, i * c)))
    clear_status()
"""


def _multiply_add(x, y, z):
    return libm.fma(x, y, z)


@functools.cache
def _fma(dtype: np.dtype) -> np.ufunc:
    name = dtype.name
    functions = {"multiply_add": (_multiply_add, None)}
    return native.make_ufunc(native.Program(f"ptx_fma_{name}", _FMA_SOURCE.format(t=name), functions, (name,) * 3, (name,)))


def fma(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """x * y + z rounded once; float16, float32 or float64."""
    if x.dtype == np.float16:
        product = x.astype(np.float64) * y.astype(np.float64)
        return to_float16(*two_sum(product, z.astype(np.float64)))
    return _fma(x.dtype)(x, y, z)


def two_sum(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """a + b as rounded sum and error (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def two_product(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """a * b as rounded product and error."""
    p = a * b
    return p, fma(a, b, -p)


def quotient(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """a / b as rounded quotient and a number of the sign of its error."""
    q = a / b
    return q, -fma(q, b, -a) * np.copysign(1.0, b)


def root(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The square root as rounded root and a number of the sign of its error."""
    s = np.sqrt(a)
    scale = np.where(a < 2.0**-400, 2.0**300, 1.0)      # so that the error does not underflow
    return s, -fma(s * scale, s * scale, -a * scale * scale)


def sum_of_three(p: np.ndarray, q: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """p + q + c (q the error of p) as rounded sum and a number of the sign of its error."""
    u, v = two_sum(q, c)
    s, t = two_sum(p, u)
    w, e = two_sum(t, v)
    r, f = two_sum(s, w)
    return r, np.where(f != 0, f, e)


def _odd(hi: np.ndarray, lo: np.ndarray) -> np.ndarray:
    """hi + lo rounded to odd: a second rounding to a narrower type is then exact (Boldo and Melquiond 2008)."""
    even = (hi.view(np.uint64) & np.uint64(1)) == 0
    return np.where((lo != 0) & even & np.isfinite(hi), np.nextafter(hi, np.where(lo > 0, np.inf, -np.inf)), hi)


def to_float16(hi: np.ndarray, lo: np.ndarray, mode: str = "rn") -> np.ndarray:
    """An exact pair rounded to float16 in direction `mode`."""
    return narrow(hi, lo, np.float16, mode)


def narrow(hi: np.ndarray, lo: np.ndarray, dtype, mode: str) -> np.ndarray:
    """An exact float64 pair rounded to a dtype: "rn" to nearest, "rz" to zero, "rm" down, "rp" up."""
    dtype = np.dtype(dtype)
    if mode == "rn":
        return hi if dtype == np.float64 else _odd(hi, lo).astype(dtype)
    r = hi.astype(dtype)
    wide = r.astype(np.float64)
    above = (wide > hi) | ((wide == hi) & (lo < 0))
    below = (wide < hi) | ((wide == hi) & (lo > 0))
    if mode == "rz":
        negative = (hi < 0) | ((hi == 0) & (lo < 0))
        above, below = above & ~negative, below & negative
    elif mode == "rm":
        below = np.zeros_like(above)
    else:
        above = np.zeros_like(below)
    infinite = np.isinf(hi) & (lo == 0)
    r = np.where(above & ~infinite, np.nextafter(r, dtype.type(-np.inf)), r)
    r = np.where(below & ~infinite, np.nextafter(r, dtype.type(np.inf)), r)
    # A sum that is exactly zero is -0 when rounded down (IEEE 754 6.3); signs of inputs are kept by the callers' hi.
    return r.astype(dtype, copy=False)


def directed(function, pair, arrays: list[np.ndarray], mode: str) -> np.ndarray:
    """A float64 operation rounded in a direction: pair(*arrays) gives the exact result as a pair, except near the ends of the
    range, where its parts would overflow or underflow; there function(*fractions) is rounded, element by element."""
    arrays = np.broadcast_arrays(*arrays)
    hi, lo = pair(*arrays)
    result = narrow(hi, lo, np.float64, mode)
    finite = np.logical_and.reduce([np.isfinite(a) for a in arrays])
    far = np.logical_or.reduce([(np.abs(a) > 2.0**990) | ((np.abs(a) < 2.0**-450) & (a != 0)) for a in arrays])
    far |= (np.abs(hi) < 2.0**-900) | ~np.isfinite(hi)
    for k in np.flatnonzero(finite & far):
        try:
            exact = function(*[fractions.Fraction(float(a[k])) for a in arrays])
        except ZeroDivisionError:
            continue
        if exact:
            result[k] = _directed(exact, mode)
    return result


def _directed(exact: fractions.Fraction, mode: str) -> float:
    try:
        near = float(exact)
    except OverflowError:
        near = math.copysign(math.inf, 1 if exact > 0 else -1)
    up = mode == "rp" or (mode == "rz" and exact < 0)
    if math.isinf(near):
        return near if (near > 0) == up else math.nextafter(near, 0.0)
    if near != exact and (near < exact) == up:
        return math.nextafter(near, math.inf if up else -math.inf)
    return near


def flush(x: np.ndarray) -> np.ndarray:
    """Subnormal numbers become zeros of their sign."""
    return np.where(np.abs(x) < np.finfo(x.dtype).tiny, np.copysign(x.dtype.type(0), x), x)


def saturate(x: np.ndarray) -> np.ndarray:
    """Clamped to [0, 1]; NaN becomes 0."""
    return np.where(np.isnan(x), 0, np.clip(x, 0, 1)).astype(x.dtype)


def divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Integer quotient rounded to zero; all bits set where b is 0."""
    one = a.dtype.type(1)
    zero = b == 0
    b = np.where(zero, one, b)
    if a.dtype.kind == "u":
        return np.where(zero, ~a.dtype.type(0), a // b)
    q = a // b
    q = q + ((a - q * b != 0) & ((a < 0) != (b < 0))).astype(a.dtype)
    return np.where(zero, a.dtype.type(-1), q)


def high_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The upper half of the product of integers."""
    n = 8 * a.dtype.itemsize
    if n < 64:
        wide = np.int64 if a.dtype.kind == "i" else np.uint64
        return ((a.astype(wide) * b.astype(wide)) >> wide(n)).astype(a.dtype)
    low, half = np.uint64(0xffffffff), np.uint64(32)
    x, y = a.view(np.uint64), b.view(np.uint64)
    x0, x1, y0, y1 = x & low, x >> half, y & low, y >> half
    middle = x1 * y0 + (x0 * y0 >> half)
    other = x0 * y1 + (middle & low)
    high = x1 * y1 + (middle >> half) + (other >> half)
    if a.dtype.kind == "i":         # two's complement: correct the unsigned product
        high = high - np.where(a < 0, y, np.uint64(0)) - np.where(b < 0, x, np.uint64(0))
    return high.view(a.dtype)
