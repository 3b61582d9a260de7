"""Primitives of libm: the few steps that have a machine instruction, each with a plain-Python body.

`lowering.py` replaces every function of PRIMITIVES by one LLVM instruction or intrinsic when a kernel is compiled;
in plain Python the bodies below run, on NumPy scalars, and give the same bits.  Nothing here imports numba.
The elementary functions built from these live in the other `libm_*.py` files; `libm.py` is what kernels call.
"""

import math
from typing import NamedTuple

import numpy as np


class Precision(NamedTuple):
    """What the builders of the elementary functions must know about float32 or float64."""

    name: str
    type: type
    fraction: int  # bits of the fraction: 23 or 52
    bias: int  # of the exponent: 127 or 1023

    @property
    def round_magic(self) -> np.floating:
        """1.5 * 2**fraction: adding it rounds to an integer, which then stands in the low bits (Cody and Waite)."""
        return self.type(1.5 * 2.0**self.fraction)


SINGLE = Precision("float32", np.float32, 23, 127)
DOUBLE = Precision("float64", np.float64, 52, 1023)

# Decimal digits beyond any split that is made of them.
PI = "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803"
LN2 = "0.693147180559945309417232121458176568075500134360255254120680009493393621969694715605863"
LOG2_E = "1.44269504088896340735992468100189213742664595415298593413544940693110921918118507988552"
LOG10_E = "0.434294481903251827651128918916605082294397005803666566114453783165864649208870774729225"
LOG10_2 = "0.301029995663981195213738894724493026768189881462108541310427461127108189274424509486927"

# |x| from which the reduction of sin, cos and tan is handed to the C library (see `beyond_sin`).
TRIG_LIMIT = {np.float32: 1.0e5, np.float64: 1.0e9}


def split(decimal: str, dtype: type, parts: int, over: int = 1) -> tuple:
    """The number `decimal` divided by `over` as an unevaluated sum of `parts` numbers of `dtype`, largest first."""
    from fractions import Fraction  # with decimal it takes 2 ms of a start, and not every start splits numbers
    rest, out = Fraction(decimal) / over, []
    for _ in range(parts):
        out.append(dtype(float(rest)))
        rest -= Fraction(float(out[-1]))
    return tuple(out)


def table(**by_precision: tuple) -> dict:
    """Coefficients by the name of the precision, float32 or float64, lowest power first."""
    return by_precision


def coefficients(precision: Precision, by_precision: dict) -> tuple:
    """The coefficients of a `table` for one precision, as scalars of its type."""
    return tuple(precision.type(c) for c in by_precision[precision.name])


def fma(x, y, z):
    """x * y + z, rounded once."""
    if isinstance(x, np.float32):
        # The product is exact in float64; rounding the sum to odd makes the second rounding harmless
        # (Boldo and Melquiond 2008).
        p, z64 = float(x) * float(y), float(z)
        total = p + z64
        if not math.isfinite(total):
            return np.float32(total)
        back = total - p
        error = (p - (total - back)) + (z64 - back)
        if error != 0.0 and bits(np.float64(total)) & 1 == 0:
            total = math.nextafter(total, math.copysign(math.inf, error))
        return np.float32(total)
    x, y, z = float(x), float(y), float(z)
    rough = x * y + z
    if math.isinf(z) and math.isfinite(x) and math.isfinite(y):
        return np.float64(z)  # though x * y alone may overflow
    if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(z)):
        return np.float64(rough)
    (a, b), (c, d), (e, f) = x.as_integer_ratio(), y.as_integer_ratio(), z.as_integer_ratio()
    top = a * c * f + e * b * d
    if top == 0:
        return np.float64(rough)
    try:
        return np.float64(top / (b * d * f))  # the quotient of two Python integers is correctly rounded
    except OverflowError:
        return np.float64(math.inf if top > 0 else -math.inf)


def poly(x, c):
    """c[0] + c[1] x + c[2] x**2 + ... by Horner's rule with fma; `c` is a tuple of constants."""
    value = c[-1]
    for coefficient in c[-2::-1]:
        value = fma(value, x, coefficient)
    return value


def select(condition, a, b):
    """`a` where the condition holds, else `b`; both are computed, so that no branch stops the vectoriser."""
    return a if condition else b


def unordered(x, y):
    """True where x or y is nan."""
    return math.isnan(x) or math.isnan(y)


def fabs(x):
    """The magnitude of a real number."""
    return np.fabs(x)


def copysign(x, y):
    """The magnitude of x with the sign of y."""
    return np.copysign(x, y)


def sqrt(x):
    """The square root, rounded correctly; nan below zero."""
    return np.sqrt(x)


def floor(x):
    """The largest integer that is not above x."""
    return np.floor(x)


def ceil(x):
    """The smallest integer that is not below x."""
    return np.ceil(x)


def trunc(x):
    """x without its fraction."""
    return np.trunc(x)


def rint(x):
    """The nearest integer, halves to the even one."""
    return np.rint(x)


def bits(x):
    """The bit pattern of a float32 as int32, of a float64 as int64."""
    return int(x.view(np.int32 if isinstance(x, np.float32) else np.int64))


def from_bits32(i):
    """The float32 whose bit pattern is the low 32 bits of `i`."""
    return np.uint32(int(i) & 0xFFFFFFFF).view(np.float32)


def from_bits64(i):
    """The float64 whose bit pattern is `i`."""
    return np.uint64(int(i) & 0xFFFFFFFFFFFFFFFF).view(np.float64)


def from_bits(i):
    """The float whose bit pattern is `i`: float32 of an int32, float64 of an int64."""
    return from_bits32(i) if isinstance(i, (np.int32, np.uint32)) else from_bits64(i)


def _beyond(x, result, function):
    if not abs(float(x)) >= TRIG_LIMIT[type(x)]:
        return result
    return type(x)(function(float(x)) if math.isfinite(x) else math.nan)


def beyond_sin(x, result):
    """`result`, or the C library's sin(x) where |x| is above TRIG_LIMIT.

    Compiled code keeps this out of line, with a version for each vector width that tests all lanes at once; so a
    loop stays vectorised, and only the rare vectors that hold a huge argument pay for calls of the C library.
    """
    return _beyond(x, result, math.sin)


def beyond_cos(x, result):
    """As `beyond_sin`, for the cosine."""
    return _beyond(x, result, math.cos)


def beyond_tan(x, result):
    """As `beyond_sin`, for the tangent."""
    return _beyond(x, result, math.tan)


def beyond_fmod(x, y, quotient, result):
    """`result`, or the C library's fmod(x, y) where |quotient| needs all bits of the fraction, or more."""
    if not abs(float(quotient)) >= (2.0**23 if isinstance(x, np.float32) else 2.0**52):
        return result
    return type(x)(np.fmod(x, y))


def c_lgamma(x):
    """lgamma of the C library (float64 only): log |gamma(x)|, inf at the poles."""
    try:
        return np.float64(math.lgamma(x))
    except (ValueError, OverflowError):
        return np.float64(math.inf)


def half_to_float(h):
    """The float32 equal to the IEEE half whose bits are `h` (uint16), by integer arithmetic: no F16C is needed."""
    magnitude = np.int64(h) & 0x7FFF
    sign = (np.int64(h) & 0x8000) << 16
    normal = (magnitude << 13) + 0x38000000  # exponent bias 15 -> 127
    special = (magnitude << 13) | 0x7F800000
    # Subnormal: put the fraction below 2**-14 and take 2**-14 away, which is exact.
    subnormal = bits(from_bits32(((magnitude & 0x3FF) << 13) + 0x38800000) - _HALF_MIN_NORMAL)
    pattern = select(magnitude >= 0x7C00, special, select(magnitude < 0x400, subnormal, normal))
    return from_bits32(pattern | sign)


def float_to_half(x):
    """The bits (uint16) of the IEEE half nearest to a float32, ties to even, overflow to inf, payload of nan kept."""
    pattern = bits(x)
    magnitude = pattern & 0x7FFFFFFF
    sign = (pattern >> 16) & 0x8000
    rebased = magnitude - 0x38000000
    normal = (rebased + 0xFFF + ((rebased >> 13) & 1)) >> 13
    # From 2**16 on; what lies between the largest half and that rounds up by itself.
    normal = select(magnitude >= 0x47800000, 0x7C00, normal)
    # Subnormal: one ulp of 0.5 is the smallest half, so the addition rounds as required.
    tiny = magnitude < 0x38800000
    subnormal = bits(from_bits32(select(tiny, magnitude, 0)) + _ONE_HALF) - 0x3F000000
    payload = (magnitude >> 13) & 0x3FF
    special = 0x7C00 | select(payload == 0, 1, payload)
    result = select(tiny, subnormal, normal)
    return np.uint16(select(magnitude > 0x7F800000, special, result) | sign)


_HALF_MIN_NORMAL = np.float32(2.0**-14)
_ONE_HALF = np.float32(0.5)

# Functions that lowering.py replaces by instructions; all others are compiled from their bodies.
PRIMITIVES = (
    fma, poly, select, unordered, fabs, copysign, sqrt, floor, ceil, trunc, rint, bits, from_bits,
    from_bits32, from_bits64, beyond_sin, beyond_cos, beyond_tan, beyond_fmod, c_lgamma,
)  # fmt: skip
