"""Tests of kernels/libm: accuracy against mpmath, special values against NumPy, plain Python against compiled code.

They also check what the store of kernels relies on: that compiled code is widened, raises nothing, allocates nothing
and refers to no symbol but the C library's.  Each function is compiled once for a type, and the tests share it.
"""

import cmath
import functools
import math
import re
import zlib

import mpmath
import numpy as np
import pytest
from numba import njit

from kernels import libm, lowering

scipy_special = pytest.importorskip("scipy.special")

TYPES = ("float32", "float64")
# The second row is for CPUs without the instruction.
C_LIBRARY = {
    "sin", "cos", "tan", "fmod", "lgamma", "memset",
    "fma", "fmaf", "rint", "rintf", "floor", "floorf", "ceil", "ceilf", "trunc", "truncf",
}  # fmt: skip


def two(x):
    return mpmath.mpf(2) ** x


def log_sum(x, y):
    return max(x, y) + mpmath.log1p(mpmath.exp(-abs(x - y)))


def log2_sum(x, y):
    return max(x, y) + mpmath.log1p(two(-abs(x - y))) / mpmath.log(2)


# Function -> (reference, ulps allowed, kind of sample of x, and of y).  "wide": 2**-20 to 2**7 with either sign and,
# for a third of the points, any bit pattern; the others are drawn evenly between the bounds.
ACCURACY = {
    "exp": (mpmath.exp, 1.0, "wide"),
    "exp2": (two, 1.0, "wide"),
    "expm1": (mpmath.expm1, 2.0, "wide"),
    "log": (mpmath.log, 1.0, "positive"),
    "log2": (lambda x: mpmath.log(x) / mpmath.log(2), 1.0, "positive"),
    "log10": (mpmath.log10, 1.0, "positive"),
    "log1p": (mpmath.log1p, 1.0, (-0.99, 9.0)),
    "sin": (mpmath.sin, 1.0, "wide"),
    "cos": (mpmath.cos, 1.0, "wide"),
    "tan": (mpmath.tan, 2.0, "wide"),
    "asin": (mpmath.asin, 2.0, (-1.0, 1.0)),
    "acos": (mpmath.acos, 1.5, (-1.0, 1.0)),
    "atan": (mpmath.atan, 2.0, "wide"),
    "atan2": (mpmath.atan2, 2.0, "wide", "wide"),
    "sinh": (mpmath.sinh, 2.0, "wide"),
    "cosh": (mpmath.cosh, 2.0, "wide"),
    "tanh": (mpmath.tanh, 1.5, "wide"),
    "asinh": (mpmath.asinh, 1.0, "wide"),
    "acosh": (mpmath.acosh, 1.0, (1.0, 9.0)),
    "atanh": (mpmath.atanh, 1.0, (-1.0, 1.0)),
    "sigmoid": (lambda x: 1 / (1 + mpmath.exp(-x)), 2.0, "wide"),
    "sqrt": (mpmath.sqrt, 0.5, "positive"),
    "rsqrt": (lambda x: 1 / mpmath.sqrt(x), 1.5, "positive"),
    "pow": (mpmath.power, 1.0, (0.01, 9.0), (-40.0, 38.0)),
    "hypot": (mpmath.hypot, 1.0, "wide", "wide"),
    "erf": (mpmath.erf, 1.5, "wide"),
    "erfc": (mpmath.erfc, 2.0, (-4.0, 9.0)),
    "erfinv": (None, 2.0, (-1.0, 1.0)),
    "lgamma": (mpmath.loggamma, 4.0, (0.01, 40.0)),
    "digamma": (mpmath.digamma, 2.0, (0.01, 40.0)),
    "logaddexp": (log_sum, 1.0, (0.0, 30.0), (0.0, 30.0)),
    "logaddexp2": (log2_sum, 1.5, (0.0, 30.0), (0.0, 30.0)),
}

NUMPY_NAMES = {
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "atan2": "arctan2", "asinh": "arcsinh", "acosh": "arccosh",
    "atanh": "arctanh", "pow": "power",
}  # fmt: skip
SCIPY_NAMES = {"sigmoid": "expit", "erf": "erf", "erfc": "erfc", "erfinv": "erfinv", "digamma": "digamma"}


def numpy_twin(name):
    """NumPy's or SciPy's function of the same meaning."""
    if name in SCIPY_NAMES:
        return getattr(scipy_special, SCIPY_NAMES[name])
    if name == "lgamma":  # SciPy has -inf at -inf, C and PyTorch inf
        return lambda x: np.where(np.isinf(x), np.abs(x), scipy_special.gammaln(x))
    if name == "rsqrt":
        return lambda x: 1 / np.sqrt(x)
    return getattr(np, NUMPY_NAMES.get(name, name))


def arity(function):
    return function.__code__.co_argcount


@functools.cache
def loop(name):
    """A compiled loop over contiguous arrays that applies libm's function `name`."""
    lowering.register()
    function = getattr(libm, name)
    if arity(function) == 1:

        @njit(error_model="numpy")
        def run(out, x):
            for i in range(x.size):
                out[i] = function(x[i])
    else:

        @njit(error_model="numpy")
        def run(out, x, y):
            for i in range(x.size):
                out[i] = function(x[i], y[i])

    return run


def compiled(name, *arrays, dtype=None):
    out = np.empty(arrays[0].size, arrays[0].dtype if dtype is None else dtype)
    loop(name)(out, *arrays)
    return out


def sample(kind, dtype, count, rng):
    if isinstance(kind, tuple):
        return rng.uniform(*kind, count).astype(dtype)
    bit_type = np.uint32 if dtype == "float32" else np.uint64
    patterns = rng.integers(0, np.iinfo(bit_type).max, count // 3, dtype=bit_type, endpoint=True).view(dtype)
    moderate = rng.uniform(1, 2, count) * 2.0 ** rng.integers(-20, 7, count) * rng.choice([-1, 1], count)
    x = np.concatenate([patterns[np.isfinite(patterns)], moderate.astype(dtype)])
    return np.abs(x) if kind == "positive" else x


def exact_erfinv(x):
    """Newton's method on the smaller of erf and erfc from float64's value."""
    a = abs(x)
    y = mpmath.mpf(float(scipy_special.erfinv(float(a))))
    for _ in range(3):
        gap = mpmath.erf(y) - a if a < 0.5 else (1 - a) - mpmath.erfc(y)
        y -= gap * mpmath.sqrt(mpmath.pi) / 2 * mpmath.exp(y * y)
    return mpmath.sign(x) * y


def error_in_ulps(value, reference, dtype):
    info = np.finfo(dtype)
    if reference == 0 or not np.isfinite(value):
        return 0.0 if value == reference else math.inf
    exponent = max(int(mpmath.floor(mpmath.log(abs(reference), 2))), info.minexp)
    return float(abs(mpmath.mpf(float(value)) - reference) / two(exponent - info.nmant))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", ACCURACY)
def test_accuracy(name, dtype):
    reference, allowed, *kinds = ACCURACY[name]
    rng = np.random.default_rng(zlib.crc32(f"{name} {dtype}".encode()))
    arrays = [sample(kind, dtype, 240, rng) for kind in kinds]
    arrays = [a[: min(map(len, arrays))] for a in arrays]
    out = compiled(name, *arrays)
    largest = float(np.finfo(dtype).max)
    worst, checked = (0.0, None), 0
    with mpmath.workprec(140):
        for value, *args in zip(out, *arrays, strict=True):
            exact_args = [mpmath.mpf(float(a)) for a in args]
            if abs(exact_args[0]) > 1e4 and name in ("exp", "exp2", "expm1", "sinh", "cosh", "sigmoid", "tanh"):
                continue  # mpmath would need gigabytes; test_special_values has these
            exact = exact_erfinv(exact_args[0]) if name == "erfinv" else (reference or mpmath.erf)(*exact_args)
            if abs(exact) > largest:
                assert np.isinf(value) or abs(exact) < largest * (1 + 1e-7), (args, value)
                continue
            checked += 1
            worst = max(worst, (error_in_ulps(value, exact, dtype), args), key=lambda pair: pair[0])
    print(f"{name} {dtype}: {checked} points, worst {worst[0]:.3f} ulp at {worst[1]}")
    assert checked > 100
    assert worst[0] <= allowed, worst


SPECIAL = (
    0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, 1.5, 2.5, -2.5, 1e-8, -1e-8, 1e10, -1e10, 1e30, 100.0,
    -1000.0, 1000.0, math.inf, -math.inf, math.nan,
)  # fmt: skip


def special_arguments(function, dtype):
    info = np.finfo(dtype)
    edges = (info.max, -info.max, info.tiny, info.smallest_subnormal, -info.smallest_subnormal, info.eps)
    values = np.array([*SPECIAL, *edges], dtype=dtype)
    return [values] if arity(function) == 1 else [a.ravel().copy() for a in np.meshgrid(values, values)]


def same_value(x, y, ulps=0.0):
    """Equal, with equal signs of zero; both nan; or, where finite, within some ulps."""
    with np.errstate(all="ignore"):
        equal = (x == y) & (np.signbit(x) == np.signbit(y))
        near = np.isfinite(y) & (y != 0) & (np.abs(x - y) <= ulps * np.spacing(np.abs(y)))
    return equal | near | (np.isnan(x) & np.isnan(y))


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", [f.__name__ for f in libm.VARIANTS])
def test_special_values_and_plain_python(name, dtype):
    function = getattr(libm, name)
    args = special_arguments(function, dtype)
    with np.errstate(all="ignore"):
        expected = numpy_twin(name)(*args)
    out = compiled(name, *args, dtype=expected.dtype)
    if expected.dtype == bool:
        agree = out == expected
    else:
        agree = same_value(out, expected, ulps=4.0)
    known = np.zeros(agree.size, bool)
    least = np.finfo(dtype).smallest_subnormal
    if name == "sigmoid":  # SciPy flushes subnormal results
        known = (expected == 0) & (np.abs(out) < np.finfo(dtype).tiny)
    if name == "erfinv":  # SciPy loses the sign of zero
        known = (args[0] == 0) & (out == args[0])
    if name in ("lgamma", "digamma"):  # near a zero below the axis either cancels; and SciPy's 1 / x overflows
        known = (args[0] < 0) & (np.abs(out) < 0.25) | (np.abs(args[0]) == least)
    if name.startswith("logaddexp"):  # where the result is near zero it cancels, here and there
        known = np.abs(out) < 0.25
    failed = np.flatnonzero(~(agree | known))
    assert failed.size == 0, [([float(a[i]) for a in args], out[i], expected[i]) for i in failed[:5]]
    step = 1 if len(args) == 1 else 11
    plain = np.array([function(*(a[i] for a in args)) for i in range(0, out.size, step)], dtype=out.dtype)
    same = plain == out[::step] if out.dtype == bool else same_value(plain, out[::step])
    if name == "lgamma":  # the C library's when compiled, Python's own otherwise
        same = np.isclose(plain, out[::step], rtol=1e-13, atol=1e-15, equal_nan=True)
    failed = np.flatnonzero(~same)
    assert failed.size == 0, [([float(a[i * step]) for a in args], plain[i], out[i * step]) for i in failed[:5]]


def reached_symbols(kernel, signature):
    """What the code of a compiled loop refers to, its Python wrappers left out, and the text of that code."""
    text = kernel.inspect_llvm(signature)
    bodies = {}
    for match in re.finditer(r"^define [^@]*@(\"[^\"]+\"|[\w.$]+)\((.*?)^}", text, flags=re.S | re.M):
        bodies[match[1].strip('"')] = match[2]
    main = kernel.overloads[signature].fndesc.llvm_func_name
    reached, todo = {main}, [main]
    while todo:
        for symbol in re.findall(r"@(\"[^\"]+\"|[\w.$]+)", bodies.get(todo.pop(), "")):
            symbol = symbol.strip('"')
            if symbol not in reached:
                reached.add(symbol)
                todo.append(symbol)
    return {s for s in reached if s not in bodies}, bodies[main]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", [f.__name__ for f in libm.VARIANTS])
def test_compiled_code_stands_alone(name, dtype):
    x = np.ones(3, dtype)
    kind = bool if name in ("isnan", "isinf", "isfinite", "signbit") else dtype
    compiled(name, *[x] * arity(getattr(libm, name)), dtype=kind)
    kernel = loop(name)
    signature = next(s for s in kernel.signatures if str(s[1].dtype) == dtype)
    outside, body = reached_symbols(kernel, signature)
    assert {s for s in outside if not s.startswith("llvm.")} <= C_LIBRARY
    assert set(re.findall(r"ret i32 (\S+)", body)) == {"0"}, "a status other than success means an exception"
    if name not in ("lgamma", "digamma"):  # these two branch, and may stay scalar
        short = {"float32": "float", "float64": "double"}[dtype]
        assert re.search(rf"<\d+ x ({short}|i1|i8)>", body), "the loop was not widened"


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
@pytest.mark.parametrize("dtype", TYPES)
def test_huge_angles_inside_a_widened_loop(name, dtype):
    rng = np.random.default_rng(5)
    x = rng.uniform(-3, 3, 1000).astype(dtype)
    x[::37] = (rng.uniform(1, 2, x[::37].size) * 10.0 ** rng.uniform(4, 37, x[::37].size)).astype(dtype)
    x[5] = np.inf
    out = compiled(name, x)
    assert np.isnan(out[5])
    with mpmath.workprec(1300):
        for value, argument in zip(out[::37], x[::37], strict=True):
            exact = getattr(mpmath, name)(mpmath.mpf(float(argument)))
            assert error_in_ulps(value, exact, dtype) <= 2.0, argument
    if name != "tan":
        assert np.max(np.abs(np.delete(out, 5))) <= 1


def exact_complex_log1p(z):
    with mpmath.workprec(120):
        return complex(mpmath.log(1 + mpmath.mpc(z)))


COMPLEX = {
    "exp": cmath.exp, "log": cmath.log, "log2": lambda z: cmath.log(z) / cmath.log(2), "log10": cmath.log10,
    "log1p": exact_complex_log1p, "sqrt": cmath.sqrt, "rsqrt": lambda z: 1 / cmath.sqrt(z),
    "sin": cmath.sin, "cos": cmath.cos, "tan": cmath.tan, "asin": cmath.asin, "acos": cmath.acos, "atan": cmath.atan,
    "sinh": cmath.sinh, "cosh": cmath.cosh, "tanh": cmath.tanh, "asinh": cmath.asinh, "acosh": cmath.acosh,
    "atanh": cmath.atanh, "sigmoid": lambda z: 1 / (1 + cmath.exp(-z)), "abs": abs,
}  # fmt: skip


def complex_sample(count, seed):
    rng = np.random.default_rng(seed)
    parts = rng.normal(size=(2, count)) * 2.0 ** rng.integers(-9, 4, (2, count))
    return parts[0] + 1j * parts[1]


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_against_cmath(name):
    for z in complex_sample(40, seed=zlib.crc32(name.encode())):
        expected = COMPLEX[name](complex(z))
        assert abs(getattr(libm, name)(complex(z)) - expected) <= 4e-15 * abs(expected), z


@pytest.mark.parametrize(
    "name", ["exp", "log", "sqrt", "sin", "cos", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh"]
)
def test_complex_branch_cuts_and_infinities(name):
    """The sides of every cut, told apart by signed zeros, and infinite parts, against cmath."""
    parts = (0.0, -0.0, 0.5, -0.5, 2.0, -2.0, math.inf, -math.inf)
    for x in parts:
        for y in parts:
            z = complex(x, y)
            try:
                expected = getattr(cmath, name)(z)
            except ValueError:  # a pole or an invalid operation, where C has an infinity or nan
                continue
            value = getattr(libm, name)(z)
            for got, wanted in ((value.real, expected.real), (value.imag, expected.imag)):
                assert same_value(np.float64(got), np.float64(wanted), 8.0), (z, value, expected)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("exp", "complex64"),
        ("log", "complex128"),
        ("sqrt", "complex128"),
        ("asin", "complex64"),
        ("tanh", "complex128"),
    ],
)
def test_complex_compiled_equals_plain(name, dtype):
    z = np.concatenate([complex_sample(20, 3), [0j, 1 + 0j, complex(-2, -0.0), complex(math.inf, 1)]]).astype(dtype)
    out = compiled(name, z)
    plain = np.array([getattr(libm, name)(v) for v in z])
    assert plain.dtype == out.dtype
    np.testing.assert_array_equal(out, plain)
    outside, body = reached_symbols(loop(name), loop(name).signatures[-1])
    assert {s for s in outside if not s.startswith("llvm.")} <= C_LIBRARY
    assert set(re.findall(r"ret i32 (\S+)", body)) == {"0"}


def test_complex_power():
    assert libm.pow(3j, 2) == -9
    assert libm.pow(0j, 0j) == 1
    assert libm.pow(0j, 2.5) == 0
    assert cmath.isnan(libm.pow(0j, -1 + 0j))
    z = complex_sample(30, 8) + 1
    for base, exponent in zip(z, complex_sample(30, 9), strict=True):
        expected = complex(mpmath.power(mpmath.mpc(base), mpmath.mpc(exponent)))
        assert abs(libm.pow(complex(base), complex(exponent)) - expected) <= 1e-13 * abs(expected)


@njit(error_model="numpy")
def _to_float(out, halves):
    for i in range(halves.size):
        out[i] = libm.half_to_float(halves[i])


@njit(error_model="numpy")
def _to_half(out, floats):
    for i in range(floats.size):
        out[i] = libm.float_to_half(floats[i])


def test_half_conversion_of_every_pattern():
    lowering.register()
    halves = np.arange(65536).astype(np.uint16)
    floats = halves.view(np.float16).astype(np.float32)
    out = np.empty(65536, np.float32)
    _to_float(out, halves)
    np.testing.assert_array_equal(out.view(np.uint32), floats.view(np.uint32))
    back = np.empty(65536, np.uint16)
    _to_half(back, floats)
    np.testing.assert_array_equal(back, halves)
    for kernel in (_to_float, _to_half):
        _, body = reached_symbols(kernel, kernel.signatures[0])
        assert re.search(r"<\d+ x (float|i16|i32)>", body), "the loop was not widened"
    for i in range(0, 65536, 997):
        assert libm.half_to_float(halves[i]).view(np.uint32) == floats.view(np.uint32)[i]
        assert libm.float_to_half(floats[i]) == halves[i]


def test_float_to_half_rounds_as_numpy():
    lowering.register()
    halves = np.arange(0x7C00).astype(np.uint16).view(np.float16).astype(np.float64)
    middle = (halves[1:] + halves[:-1]).astype(np.float32) / 2  # exact: every tie
    ties = np.concatenate([middle, np.nextafter(middle, np.float32(9e9)), np.nextafter(middle, np.float32(0))])
    edges = np.array([65504.0, 65519.99, 65520.0, 65536.0, 1e9, np.inf, 2.0**-25, 2.0**-26, 1e-45], np.float32)
    x = np.concatenate([ties, -ties, edges, -edges])
    out = np.empty(x.size, np.uint16)
    _to_half(out, x)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(out, x.astype(np.float16).view(np.uint16))


def test_plain_fma_rounds_once():
    x = np.float64(1 + 2.0**-30)
    assert libm.fma(x, x, np.float64(-1 - 2.0**-29)) == 2.0**-60
    assert libm.fma(np.float64(1e308), np.float64(10), np.float64(-math.inf)) == -math.inf
    assert libm.fma(np.float64(1e308), np.float64(10), np.float64(0)) == math.inf
    # The sum lies just above the middle of two float32: rounding it to float64 first would land on the middle.
    a = np.float32(1 + 2.0**-12)
    assert libm.fma(a, a, np.float32(2.0**-60)) == np.float32(1 + 2.0**-11) + np.float32(2.0**-23)


def test_bits_round_trip():
    assert libm.bits(np.float32(1)) == 0x3F800000
    assert libm.bits(np.float64(-0.0)) == -(2**63)
    assert libm.from_bits(np.int32(0x3F800000)) == np.float32(1)
    assert libm.from_bits(np.int64(0x3FF0000000000000)) == 1.0


def test_plain_types_and_errors():
    assert isinstance(libm.exp(1), float)
    assert isinstance(libm.exp(np.float32(1)), np.float32)
    assert isinstance(libm.exp(np.complex64(1)), np.complex64)
    assert isinstance(libm.abs(np.complex64(3 + 4j)), np.float32)
    assert libm.log(0) == -math.inf
    assert math.isnan(libm.log(-1))
    assert libm.exp(1000) == math.inf
    assert libm.isnan(math.nan) is True
    with pytest.raises(TypeError, match=r"libm\.erf is not defined for complex numbers"):
        libm.erf(1j)


def test_integers_count_as_float64_when_compiled():
    out = compiled("sqrt", np.array([2, 9]), dtype=np.float64)
    np.testing.assert_array_equal(out, np.sqrt([2.0, 9.0]))


def test_register_twice_changes_nothing():
    lowering.register()
    lowering.register()
    assert compiled("exp", np.zeros(1))[0] == 1.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sin_and_tan_close_to_multiples_of_pi(dtype):
    """There the reduced argument is what is left of a cancellation; the reference has 400 bits."""
    x = (np.pi * np.arange(1, 3001)).astype(dtype)
    with mpmath.workprec(400):
        for name in ("sin", "tan"):
            exact = [getattr(mpmath, name)(mpmath.mpf(float(v))) for v in x]
            with np.errstate(all="ignore"):
                seen = [getattr(libm, name)(v) for v in x]
            worst = max(abs(mpmath.mpf(float(s)) - e) / float(np.spacing(abs(dtype(e)))) for s, e in zip(seen, exact, strict=True))
            assert worst < 2, (name, float(worst))
