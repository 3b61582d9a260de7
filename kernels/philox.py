"""Random numbers by counting: Philox4x32-10, and how its words become numbers. Scalar functions, the same for every
device.

A block is philox4x32(c0, c1, c2, c3, k0, k1): four 32-bit words from a counter of 128 bits and a key of 64. For
element i of a call,

    key      = the generator's seed                   (k0 its low 32 bits, k1 its high ones)
    counter  = the generator's offset + i // per      (64 bits in c0, c1), and a stream in c2, c3 (0 but where said)
    words    = for per = 4: word i % 4, and for normal numbers the pair of words around it (0 and 1, or 2 and 3)
               for per = 2: words 0 and 1 (even i), 2 and 3 (odd i), the first of them the low half; a normal number
               uses all four

so that every element can be computed alone, on any device, by any thread. per = 4 serves float16 and float32, per = 2
float64 and integers. After a call the generator's offset has grown by ceil(n / per). `kernels.cpu.randoms` has the
loops over these functions.

Source: Salmon, Moraes, Dror, Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3"; Box and Muller (1958).
"""
from __future__ import annotations

import numpy as np

from . import libm


def philox4x32(c0, c1, c2, c3, k0, k1):
    """Ten rounds. All numbers are 32 bits wide, in 64-bit variables; returns four words."""
    for _ in range(10):
        even = 0xD2511F53 * c0
        odd = 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (odd >> 32) ^ c1 ^ k0, odd & 0xFFFFFFFF, (even >> 32) ^ c3 ^ k1, even & 0xFFFFFFFF
        k0 = (k0 + 0x9E3779B9) & 0xFFFFFFFF
        k1 = (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


# --- words to numbers: four (float32) or two (float64) from a block ---------------------------------------------------

def _unit32(w):
    """[0, 1) in steps of 2**-24."""
    return np.float32(np.int32(w >> 8)) * 5.9604644775390625e-08


def _unit64(low, high):
    """[0, 1) in steps of 2**-53."""
    return np.float64(np.int64((low >> 6) | ((high >> 5) << 26))) * 1.1102230246251565e-16


def _open32(w):
    """(0, 1): the middles of 2**23 steps, so that neither end is reached."""
    return (np.float32(np.int32(w >> 9)) + 0.5) * 1.1920928955078125e-07


def _open64(low, high):
    """(0, 1): the middles of 2**52 steps."""
    return (np.float64(np.int64((low >> 6) | ((high >> 6) << 26))) + 0.5) * 2.220446049250313e-16


def _radius32(w):
    return libm.sqrt(libm.log((np.float32(np.int32(w >> 1)) + 0.5) * 4.656612873077393e-10) * -2.0)


def _angle32(w):
    return np.float32(np.int32(w >> 1)) * 2.925836158534319e-09     # 2 pi / 2**31


def unit_float16(w0, w1, w2, w3):
    """[0, 1) in steps of 2**-11, which float16 holds."""
    return (np.float32(np.int32(w0 >> 21)) * 0.00048828125, np.float32(np.int32(w1 >> 21)) * 0.00048828125,
            np.float32(np.int32(w2 >> 21)) * 0.00048828125, np.float32(np.int32(w3 >> 21)) * 0.00048828125)


def unit_float32(w0, w1, w2, w3):
    """Four numbers in [0, 1)."""
    return _unit32(w0), _unit32(w1), _unit32(w2), _unit32(w3)


def unit_float64(w0, w1, w2, w3):
    """Two numbers in [0, 1)."""
    return _unit64(w0, w1), _unit64(w2, w3)


def open_float32(w0, w1, w2, w3):
    """Four numbers in (0, 1)."""
    return _open32(w0), _open32(w1), _open32(w2), _open32(w3)


def open_float64(w0, w1, w2, w3):
    """Two numbers in (0, 1)."""
    return _open64(w0, w1), _open64(w2, w3)


def normal_float32(w0, w1, w2, w3):
    """Four normal numbers: radius from the first word of a pair, angle from the second; cosine, then sine."""
    r, s, a, b = _radius32(w0), _radius32(w2), _angle32(w1), _angle32(w3)
    return r * libm.cos(a), r * libm.sin(a), s * libm.cos(b), s * libm.sin(b)


def normal_float64(w0, w1, w2, w3):
    """Two normal numbers from a whole block."""
    r, a = libm.sqrt(libm.log(_open64(w0, w1)) * -2.0), _unit64(w2, w3) * 6.283185307179586
    return r * libm.cos(a), r * libm.sin(a)


def words32(w0, w1, w2, w3):
    """The block itself."""
    return w0, w1, w2, w3


def words64(w0, w1, w2, w3):
    """Two 64-bit words."""
    return w0 | (w1 << 32), w2 | (w3 << 32)


# --- numbers to distributions: f(number, a, b) ------------------------------------------------------------------------

def uniform(u, a, b):
    """[a, b) from [0, 1); rounding does not reach b."""
    x = u * (b - a) + a
    return libm.select(x < b, x, a)


def normal(z, a, b):
    """Mean a, standard deviation b."""
    return z * b + a


def log_normal(z, a, b):
    """The exponential of a normal number."""
    return libm.exp(z * b + a)


def exponential(u, a, b):
    """Rate a."""
    return -libm.log(u) / a


def cauchy(u, a, b):
    """Median a, scale b."""
    return libm.tan((u - 0.5) * 3.141592653589793) * b + a


def geometric(u, a, b):
    """Trials until the first success, of probability a; b is log(1 - a)."""
    return libm.maximum(libm.ceil(libm.log(u) / b), 1.0)


def bernoulli(w, a, b):
    """Whether a 32-bit word lies below a threshold of up to 2**32."""
    return w < a


def integer(x, a, b):
    """b + floor(x * a / 2**64): uniform on a numbers from b (a = 0 stands for 2**64), biased by less than a / 2**64."""
    low = (x & 0xFFFFFFFF) * (a & 0xFFFFFFFF)
    middle = (x >> 32) * (a & 0xFFFFFFFF) + (low >> 32)
    other = (x & 0xFFFFFFFF) * (a >> 32) + (middle & 0xFFFFFFFF)
    high = (x >> 32) * (a >> 32) + (middle >> 32) + (other >> 32)
    return (high if a != 0 else x) + b
