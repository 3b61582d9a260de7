"""Elementary functions of one number, the same in plain Python and in compiled kernels: libm.exp(x), libm.pow(x, y).

Kernel bodies call these and nothing of `math`: they never raise (log(0) is -inf, exp(1000) inf, log(-1) nan), they
compile to arithmetic that LLVM widens, and plain Python gives the same bits.  The arithmetic is in libm_exp, libm_log,
libm_trig, libm_special, libm_exact and libm_complex; VARIANTS says which function serves which type; lowering.py
makes all of it known to numba.  float32 stays in 32-bit arithmetic (but for erfinv, lgamma and digamma).
"""

import functools
import threading
from typing import Any

import numpy as np

from . import libm_base
from .libm_base import (  # noqa: F401 - primitives are part of what kernels call as libm.fma, libm.select, ...
    DOUBLE,
    SINGLE,
    bits,
    ceil,
    copysign,
    fabs,
    float_to_half,
    floor,
    fma,
    from_bits,
    half_to_float,
    poly,
    rint,
    select,
    trunc,
)

# What plain Python may pass and gets back: Python and NumPy scalars; compiled code has machine numbers instead.
Number = int | float | complex | np.number


def _run(function, *args):
    """Compute `function` in plain Python: pick the variant by type, keep NumPy's types, give Python's back as such."""
    if any(isinstance(a, (complex, np.complexfloating)) for a in args):
        kind, cast = "complex", np.complex128
    elif all(isinstance(a, (np.float32, np.float16)) for a in args):
        kind, cast = "float32", np.float32
    else:
        kind, cast = "float64", np.float64
    variant = _tables()[0][function].get(kind)
    if variant is None:
        raise TypeError(f"libm.{function.__name__} is not defined for complex numbers, got {args}")
    with np.errstate(all="ignore"):
        result = variant(*(cast(a) for a in args))
        if isinstance(result, (bool, np.bool_)):
            return bool(result)
        if kind == "complex" and all(isinstance(a, (np.complex64, np.float32)) for a in args):
            return np.complex64(result) if isinstance(result, complex) else np.float32(result)
    if not any(isinstance(a, np.generic) for a in args):
        return complex(result) if isinstance(result, complex) else float(result)
    return np.complex128(result) if isinstance(result, complex) else result


def exp(x: Number) -> Number:
    """e to the power x; complex too."""
    return _run(exp, x)


def exp2(x: Number) -> Number:
    """2 to the power x."""
    return _run(exp2, x)


def expm1(x: Number) -> Number:
    """e**x - 1, accurate near zero."""
    return _run(expm1, x)


def log(x: Number) -> Number:
    """The natural logarithm; -inf at zero, nan below it; complex too."""
    return _run(log, x)


def log2(x: Number) -> Number:
    """The logarithm to base 2; complex too."""
    return _run(log2, x)


def log10(x: Number) -> Number:
    """The logarithm to base 10; complex too."""
    return _run(log10, x)


def log1p(x: Number) -> Number:
    """log(1 + x), accurate near zero; complex too."""
    return _run(log1p, x)


def sin(x: Number) -> Number:
    """The sine, with full accuracy for every finite angle; complex too."""
    return _run(sin, x)


def cos(x: Number) -> Number:
    """The cosine; complex too."""
    return _run(cos, x)


def tan(x: Number) -> Number:
    """The tangent; complex too."""
    return _run(tan, x)


def asin(x: Number) -> Number:
    """The arc sine, nan outside [-1, 1]; complex too."""
    return _run(asin, x)


def acos(x: Number) -> Number:
    """The arc cosine, nan outside [-1, 1]; complex too."""
    return _run(acos, x)


def atan(x: Number) -> Number:
    """The arc tangent; complex too."""
    return _run(atan, x)


def atan2(y: Number, x: Number) -> Number:
    """The angle of the point (x, y), from -pi to pi."""
    return _run(atan2, y, x)


def sinh(x: Number) -> Number:
    """The hyperbolic sine; complex too."""
    return _run(sinh, x)


def cosh(x: Number) -> Number:
    """The hyperbolic cosine; complex too."""
    return _run(cosh, x)


def tanh(x: Number) -> Number:
    """The hyperbolic tangent; complex too."""
    return _run(tanh, x)


def asinh(x: Number) -> Number:
    """The inverse of sinh; complex too."""
    return _run(asinh, x)


def acosh(x: Number) -> Number:
    """The inverse of cosh, nan below 1; complex too."""
    return _run(acosh, x)


def atanh(x: Number) -> Number:
    """The inverse of tanh, nan outside [-1, 1]; complex too."""
    return _run(atanh, x)


def sigmoid(x: Number) -> Number:
    """1 / (1 + e**-x); complex too."""
    return _run(sigmoid, x)


def sqrt(x: Number) -> Number:
    """The square root, rounded correctly; nan below zero; complex too."""
    return _run(sqrt, x)


def rsqrt(x: Number) -> Number:
    """1 / sqrt(x); complex too."""
    return _run(rsqrt, x)


def pow(x: Number, y: Number) -> Number:
    """x to the power y, with the special values of C99; complex too."""
    return _run(pow, x, y)


def hypot(x: Number, y: Number) -> Number:
    """sqrt(x**2 + y**2) without overflow or underflow on the way."""
    return _run(hypot, x, y)


def erf(x: Number) -> Number:
    """The error function."""
    return _run(erf, x)


def erfc(x: Number) -> Number:
    """1 - erf(x), accurate where that is small."""
    return _run(erfc, x)


def erfinv(x: Number) -> Number:
    """The inverse of erf; inf at 1, nan beyond."""
    return _run(erfinv, x)


def lgamma(x: Number) -> Number:
    """log |gamma(x)|; inf at the poles."""
    return _run(lgamma, x)


def digamma(x: Number) -> Number:
    """The derivative of lgamma; nan at the negative integers."""
    return _run(digamma, x)


def logaddexp(x: Number, y: Number) -> Number:
    """log(e**x + e**y) without overflow."""
    return _run(logaddexp, x, y)


def logaddexp2(x: Number, y: Number) -> Number:
    """log2(2**x + 2**y) without overflow."""
    return _run(logaddexp2, x, y)


def nextafter(x: Number, y: Number) -> Number:
    """The float next to x in the direction of y."""
    return _run(nextafter, x, y)


def fmod(x: Number, y: Number) -> Number:
    """The remainder of x / y with the sign of x (C's), exact."""
    return _run(fmod, x, y)


def remainder(x: Number, y: Number) -> Number:
    """The remainder of x / y with the sign of y (Python's)."""
    return _run(remainder, x, y)


def maximum(x: Number, y: Number) -> Number:
    """The larger of two; nan if either is."""
    return _run(maximum, x, y)


def minimum(x: Number, y: Number) -> Number:
    """The smaller of two; nan if either is."""
    return _run(minimum, x, y)


def abs(x: Number) -> Number:
    """The magnitude; complex too."""
    return _run(abs, x)


def isnan(x: Number) -> bool:
    """True for nan; complex too."""
    return _run(isnan, x)


def isinf(x: Number) -> bool:
    """True for the infinities; complex too."""
    return _run(isinf, x)


def isfinite(x: Number) -> bool:
    """True unless x is infinite or nan; complex too."""
    return _run(isfinite, x)


def signbit(x: Number) -> bool:
    """True where the sign bit is set, so for -0.0."""
    return _run(signbit, x)


@functools.cache
def _collect():
    """VARIANTS, and HELPERS: all functions that the variants call, primitives excepted."""
    from . import libm_complex, libm_exact, libm_exp, libm_log, libm_special, libm_trig
    by_kind, helpers = {}, [half_to_float, float_to_half]
    for precision in (SINGLE, DOUBLE):
        exps, trigs = libm_exp.build(precision), libm_trig.build(precision)
        families = [exps, trigs, libm_log.build(precision, exps), libm_special.build(precision, exps)]
        families.append(libm_exact.build(precision))
        helpers.extend(f for family in families for f in family.values())
        by_kind[precision.name] = {name: f for family in families for name, f in family.items()}
    rare = libm_special.build_double(by_kind["float64"])
    by_kind["float64"].update(rare)
    by_kind["float32"].update((name, _through_double(rare[name])) for name in ("erfinv", "lgamma", "digamma"))
    by_kind["complex"], complex_helpers = libm_complex.build(by_kind["float64"])
    helpers.extend((*rare.values(), *by_kind["complex"].values(), *complex_helpers))
    helpers.extend(by_kind["float32"][name] for name in ("erfinv", "lgamma", "digamma"))
    for name in ("sqrt", "abs"):
        primitive = libm_base.sqrt if name == "sqrt" else fabs
        by_kind["float32"][name] = by_kind["float64"][name] = primitive
    variants = {f: {kind: found[f.__name__] for kind, found in by_kind.items() if f.__name__ in found} for f in PUBLIC}
    variants.update((f, {"float32": f, "float64": f}) for f in (floor, ceil, trunc, rint, copysign))
    return variants, helpers


def _through_double(function):
    """The float32 variant that rounds a float64 function."""

    def single(x):
        return np.float32(function(np.float64(x)))

    return single


# Every function above that has variants, in the order of this file.
PUBLIC = (
    exp, exp2, expm1, log, log2, log10, log1p, sin, cos, tan, asin, acos, atan, atan2, sinh, cosh, tanh, asinh,
    acosh, atanh, sigmoid, sqrt, rsqrt, pow, hypot, erf, erfc, erfinv, lgamma, digamma, logaddexp, logaddexp2,
    nextafter, fmod, remainder, maximum, minimum, abs, isnan, isinf, isfinite, signbit,
)  # fmt: skip

lock = threading.RLock()


def _tables():
    with lock:          # there is one set of them: what lowering knows is what kernels refer to
        return _collect()


def __getattr__(name: str) -> Any:
    """VARIANTS: public function -> {"float32", "float64", "complex"} -> what computes it ("complex" takes complex128); HELPERS.

    They are made when first asked for: a process that compiles nothing starts 6 ms earlier without.
    """
    if name in ("VARIANTS", "HELPERS"):
        return _tables()[name == "HELPERS"]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
