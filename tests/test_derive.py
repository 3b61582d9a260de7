"""kernels.derive: users' functions as text with tangents, run as plain Python and compared with mpmath to second order.

Every statement and expression kind, the functions of math and cmath at hard points, ties and kinks. Nothing is compiled here: that
the kernels do what the text says is for test_elementwise.
"""
from __future__ import annotations

import cmath
import functools
import math
import types

import mpmath
import numpy as np
import pytest

import engine  # noqa: F401  (fills the book)
from kernels.book import Pointwise
from kernels.derive import NeedsComplex, Scalar, SourceError
from kernels.written import _picked

PRIMES = (2.0, 3.0, 5.0)
ORDERS = np.array([3, 1, 2])
HALF = 0.5
MATH = types.SimpleNamespace(**{n: getattr(mpmath, n) for n in (
    "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "exp", "expm1", "log",
    "log1p", "sqrt", "cbrt", "hypot", "erf", "erfc", "gamma", "floor", "ceil", "pi", "e", "degrees", "radians", "isnan")},
    lgamma=mpmath.loggamma, exp2=lambda x: mpmath.mpf(2) ** x, log2=lambda x: mpmath.log(x, 2), log10=mpmath.log10,
    pow=mpmath.power, fabs=abs, fmod=lambda x, y: x - y * mpmath.floor(abs(x / y)) * mpmath.sign(x / y),
    trunc=lambda x: mpmath.mpf(int(x)),
    copysign=lambda x, y: abs(x) * (1 if y >= 0 else -1))


# --- running texts as Python, and the oracle ----------------------------------------------------------------------------

def runnable(made: types.FunctionType):
    """A function for kernels as one of Python: records of the book stand for their scalar functions."""
    space = dict(made.__globals__)
    for name, value in made.__globals__.items():
        if isinstance(value, Pointwise):
            space[name] = value.body("complex128")[0] if made.complex_numbers else value.scalar
        elif name == "interrupted":
            space[name] = lambda count: False
        elif isinstance(value, types.FunctionType) and hasattr(value, "source") and value is not made:
            value.complex_numbers = made.complex_numbers
            space[name] = runnable(value)
    return types.FunctionType(made.__code__, space, made.__name__)


def exact(function, *point):
    """The function's value by mpmath, from the same source."""
    space = {**function.__globals__, "math": MATH, **{f.__name__: functools.partial(exact, f) for f in HELPERS}}
    own = types.FunctionType(function.__code__, space, function.__name__, function.__defaults__, function.__closure__)
    return own(*point)


def slope(function, point, k):
    """Central difference along the k-th argument; in 60 digits it is as good as exact."""
    step = mpmath.mpf(10) ** -15
    ends = [function(*[p + s * step if n == k else p for n, p in enumerate(point)]) for s in (1, -1)]
    return (ends[0] - ends[1]) / (2 * step)


def check(function, point, integers=(), tol=1e-12):
    """Value, first and second derivatives of the text against differences of the function itself."""
    scalar = Scalar(function, dict.fromkeys(integers, "int"))
    wanted = tuple(n for n in scalar.inputs if n not in integers)
    places = [k for k, n in enumerate(scalar.inputs) if n in wanted]
    with mpmath.workdps(60):
        high = [p if scalar.inputs[k] in integers else mpmath.mpf(p) for k, p in enumerate(point)]
        own = functools.partial(exact, function)
        first = [functools.partial(lambda k, *p: slope(own, p, k), k) for k in places]
        expected = [own(*high), *(d(*high) for d in first)]
        second = [[slope(d, high, k) for k in places] for d in first]
    np.testing.assert_allclose(float(runnable(scalar.make())(*point)), float(expected[0]), rtol=tol, atol=1e-14)
    made = scalar.make(wanted)
    found = runnable(made)(*point)
    np.testing.assert_allclose([float(v) for v in found], [float(v) for v in expected], rtol=tol, atol=1e-13)
    for n, row in enumerate(second):
        part = Scalar(_picked(made, 1 + n, "part"), {f"u_{i}": "int" for i in integers})
        again = runnable(part.make(tuple(f"u_{w}" for w in wanted)))(*point)
        np.testing.assert_allclose([float(v) for v in again[1:]], [float(v) for v in row], rtol=100 * tol, atol=1e-11)
    return scalar


# --- statements ---------------------------------------------------------------------------------------------------------

def elif_chain(x, y):
    if x < 0:
        z = x * y
    elif x < 1 and not y > 2:
        z = math.exp(x) - y
    elif x == 1:
        z = y
    else:
        z = x / y
    return z * z


def only_if(x, y):
    z = x
    if y > 1:
        z *= y
    return z + y


def while_break(x, y):
    n = 0
    while True:
        x = x * HALF + y
        n += 1
        if n > 4:
            break
    return x * n


def while_continue(x, y):
    k, total = 0, 0.0
    while k < 7:
        k += 1
        if k % 3 == 0:
            continue
        total += x ** k / k
    return total * y


def while_on_value(x, y):
    while x > 1:
        x = x / 2 - y * 0.01
    return x * y


def return_in_loop(x, y):
    for k in range(10):
        x = x * y + k
        if x > 3:
            return x * k
    return x - y


def range_bounds(x, y):
    total = x
    for k in range(9, 1, -3):
        total = total * y + k
    for k in range(2, 4):
        total += x / k
    for _ in range(2):
        total = total * 0.5
    return total


def nested_loops(x, y):
    total = 0.0
    for i in range(4):
        for j in range(i):
            if j == 2:
                break
            total += x ** i * y ** j
        else_value = total * 0.1
        total -= else_value
    return total


def loop_variable_after(x, y):
    k = 0
    for k in range(3):
        x = x + y * k
    return x * k


def tuples(x, y):
    pair = (x * y, x - y)
    (a, b), c = pair, 2
    a, b = b, a
    first, *_ = pair[0], pair[1], 3.0
    return a * pair[-1] + b * c + first


def augmented(x, y):
    z = x
    z += y
    z -= 2 * x * y
    z *= z
    z /= 1 + y * y
    z **= 2
    return z


def chained_assignment(x, y):
    a = b = x * y
    c: float = a + 1
    a = a * b
    return a * c


def kinds_that_change(x, y):
    n = 1
    for _ in range(3):
        n = n * 2
    n = n + x
    return n * y


def early_return(x, y):
    if x > y:
        return x * x
    if y > 1:
        return y ** 3
    return x * y


STATEMENTS = [
    (elif_chain, [(-1.0, 2.0), (0.5, 1.0), (0.5, 3.0), (2.0, 3.0)]), (only_if, [(0.3, 2.0), (0.3, 0.5)]),
    (while_break, [(0.3, 0.7)]), (while_continue, [(0.9, 2.0)]), (while_on_value, [(9.0, 0.4), (0.5, 1.0)]),
    (return_in_loop, [(0.5, 0.7), (2.1, 1.5), (-40.0, 0.2)]), (range_bounds, [(0.3, 1.1)]), (nested_loops, [(1.1, 0.7)]),
    (loop_variable_after, [(0.4, 0.6)]), (augmented, [(0.4, 0.6)]), (chained_assignment, [(0.4, 0.6)]),
    (kinds_that_change, [(0.4, 0.6)]), (early_return, [(2.0, 1.0), (0.5, 1.5), (0.5, 0.7)]),
]


# --- expressions --------------------------------------------------------------------------------------------------------

def double(x):
    return 2 * x * x


def branching(x, y):
    return double(x) - y if x > y else math.sin(x * y)


def both(x, y):
    total = 0.0
    for k in range(3):
        total += x * k
    return total * y, x / y


HELPERS = (double, branching, both)


def conditional(x, y):
    return (x * y if x > y else y * y) + (1 if x > 0 else -1) * (x if y > 0 else 0)


def booleans(x, y):
    inside = 0 < x < 1 < y or (x > 5 and y != 2)
    outside = not inside and (x >= 0) != (y >= 0)
    return x * x * y if inside else y ** 3 if outside else x + y * y


def comparisons_as_numbers(x, y):
    return (x > y) * x * x + (x <= y) * y * y * x


def calls(x, y):
    return branching(double(x), y) * double(branching(x, y))


def call_of_several(x, y):
    a, b = both(x * y, y)
    return a * b + both(x, 2.0)[1]


def indexed(x, y):
    total = 0.0
    for k in range(3):
        total = total * y + PRIMES[k] * x ** 2 * ORDERS[k] + PRIMES[-1 - k]
    return total


def powers(x, y):
    return x ** 2 + x ** 3 * y ** 0 + x ** 11 + x ** -2 + x ** 0.5 + x ** y + 2 ** x + y ** 1 + (-x) ** 2


def extremes(x, y):
    return max(x * x, y, 0.1) * min(x, y, 3) + max(2, x)


def rounding(x, y):
    return math.floor(x) * y + math.ceil(y) * x + int(x * 3) * y + abs(x - 2) * math.fabs(y) + float(2) * math.trunc(-x)


def remainders(x, y):
    return x % y + (-x) % y * x + (x // y) * y * x + math.fmod(x, y) * y + 7 % 3 * x + (7 // 2) * y


def signs(x, y):
    return -x * +y - -(x * x) + (-y if y > 0 else +y)


def two_argument_functions(x, y):
    return math.atan2(y, x) + math.hypot(x, y) * math.pow(x, y) + math.log(x, 3) + math.copysign(x, -y) * y


EXPRESSIONS = [
    (conditional, [(2.0, 1.0), (0.5, 1.5), (-1.0, 0.5)]), (booleans, [(0.5, 2.0), (6.0, 1.0), (0.5, 0.7), (-1.0, 0.5)]),
    (comparisons_as_numbers, [(2.0, 1.0), (0.3, 1.0)]), (calls, [(0.8, 0.5), (0.3, 1.7)]), (call_of_several, [(0.8, 0.5)]),
    (indexed, [(0.8, 0.5)]), (powers, [(0.8, 1.5), (1.7, -2.5)]), (extremes, [(0.8, 0.5), (2.5, 4.0), (0.2, 0.01)]),
    (rounding, [(1.3, 0.6), (4.5, -1.2)]), (remainders, [(3.3, 0.7), (2.2, 5.0)]), (signs, [(0.8, 0.5), (0.8, -0.5)]),
    (two_argument_functions, [(0.8, 0.5), (2.3, -1.2)]),
]


@pytest.mark.parametrize(("function", "points"), STATEMENTS + EXPRESSIONS, ids=[f.__name__ for f, _ in STATEMENTS + EXPRESSIONS])
def test_values_and_tangents(function, points):
    for point in points:
        check(function, point)


def test_integer_parameters():
    def legendre(x, n):
        before, now = 0.0, 1.0
        for k in range(n):
            before, now = now, ((2 * k + 1) * x * now - k * before) / (k + 1)
        return now

    def collatz(x, n):
        while n != 1:
            n = n // 2 if n % 2 == 0 else 3 * n + 1
            x = x * 0.5 + math.sin(x) / n
        return x

    def bits(x, n):
        return x ** ((n & 3) | 1) * (n << 2) + x * (n >> 1) * (n ^ 5)
    for function, point in ((legendre, (0.3, 5)), (legendre, (0.3, 0)), (collatz, (0.7, 7)), (bits, (1.3, 6))):
        check(function, point, ("n",))
    with pytest.raises(SourceError, match=r"say nondifferentiable=\('n',\) where `n` is one"):
        Scalar(legendre).make()


def test_a_loop_that_converges_has_the_derivative_of_its_limit():
    def kepler(M, e):
        E = M
        for _ in range(60):
            E = E - (E - e * math.sin(E) - M) / (1 - e * math.cos(E))
        return E
    for point in ((0.1, 0.9), (3.0, 0.5)):
        check(kepler, point)
        E, by_M, by_e = runnable(Scalar(kepler).make(("M", "e")))(*point)
        factor = 1 / (1 - point[1] * math.cos(E))
        assert by_M == pytest.approx(factor, rel=1e-13) and by_e == pytest.approx(factor * math.sin(E), rel=1e-13)


def test_third_order_and_partial_seeds():
    def function(x, y):
        return math.exp(x * y) * x if x > 0 else x ** 4
    made = Scalar(function)
    assert "d1" not in made.source(("y",)) and "d0_x" not in made.source(("y",))
    x, y, once = 0.7, 0.4, made.make(("x",))
    twice = Scalar(_picked(once, 1, "once")).make(("u_x",))
    thrice = runnable(Scalar(_picked(twice, 1, "twice")).make(("u_u_x",)))(x, y)
    assert thrice[1] == pytest.approx((3 * y ** 2 + x * y ** 3) * math.exp(x * y), rel=1e-13)


# --- functions of math and cmath ----------------------------------------------------------------------------------------

HARD = {
    "sin": (0.0, 1e-9, 3.14159, 100.0), "cos": (1e-9, 1.5707, 100.0), "tan": (1e-9, 1.5), "asin": (0.0, 0.999, -0.5),
    "acos": (0.0, 0.999), "atan": (0.0, 1e6), "sinh": (1e-9, 5.0), "cosh": (1e-9, -5.0), "tanh": (1e-9, 3.0), "asinh": (1e-9, 50.0),
    "acosh": (1.001, 30.0), "atanh": (1e-9, 0.999), "exp": (-30.0, 0.0, 20.0), "expm1": (1e-12, 3.0), "log": (1e-9, 1.0001, 1e9),
    "log1p": (1e-12, 5.0), "log2": (0.1, 1000.0), "log10": (0.1, 1000.0), "sqrt": (1e-8, 100.0), "erf": (1e-9, 2.5),
    "erfc": (-1.0, 4.0), "lgamma": (0.01, 2.5, 30.0), "gamma": (0.3, 4.5), "exp2": (-3.0, 2.5),
    "degrees": (0.3,), "radians": (30.0,),
} | ({"cbrt": (1e-6, 8.0)} if hasattr(math, "cbrt") else {})
if not hasattr(math, "exp2"):
    del HARD["exp2"]


@pytest.mark.parametrize("name", HARD)
def test_functions_of_math(name, tmp_path):
    space = {"math": math, "__name__": __name__}
    source = f"def of(x, y):\n    return math.{name}(x) * y\n"
    exec(source, space)
    function = space["of"]
    function.source = source
    for x in HARD[name]:
        check(function, (x, 1.5), tol=1e-10 if name in ("gamma", "lgamma", "cos", "tan") else 1e-12)


def test_functions_of_cmath():
    """The derivative of a holomorphic function is the same along both axes."""
    def function(z, w):
        a = cmath.exp(z * 1j) / (w + 2) + cmath.sqrt(z) * cmath.log(w)
        for _ in range(3):
            a = a * a * 0.1 + cmath.sin(z) - cmath.tanh(w)
        return a ** 2
    with pytest.raises(NeedsComplex, match="cmath"):
        Scalar(function).make()
    made = runnable(Scalar(function, complex_numbers=True).make(("z", "w")))
    z, w, h = 0.7 + 0.4j, 1.3 - 0.6j, 1e-6
    found = made(z, w)
    assert found[0] == pytest.approx(function(z, w), rel=1e-13)
    for along in (h, h * 1j):
        assert found[1] == pytest.approx((function(z + along, w) - function(z - along, w)) / (2 * along), rel=1e-8)
        assert found[2] == pytest.approx((function(z, w + along) - function(z, w - along)) / (2 * along), rel=1e-8)


# --- ties, kinks, edges -------------------------------------------------------------------------------------------------

def test_ties_and_kinks():
    """The derivative at a tie is that of the path taken: documented in docs/operators-of-your-own.md."""
    def slopes(function, *point):
        return runnable(Scalar(function).make(("x", "y")))(*point)[1:]
    assert slopes(lambda x, y: max(x, y), 1.0, 1.0) == (1, 0) and slopes(lambda x, y: min(x, y), 1.0, 1.0) == (1, 0)
    assert slopes(lambda x, y: x * x if x > y else y * y, 1.0, 1.0) == (0, 2)
    assert slopes(lambda x, y: x * x if x >= y else y * y, 1.0, 1.0) == (2, 0)
    assert slopes(lambda x, y: abs(x - y), 1.0, 1.0) == (0, 0)
    assert slopes(lambda x, y: math.floor(x) * y, 2.0, 3.0) == (0, 2)
    assert slopes(lambda x, y: x % y, 3.0, 1.5) == (1, -2)
    assert slopes(lambda x, y: round(x) + int(y), 2.5, 3.5) == (0, 0)


def test_ranges_whole_numbers_and_divisions_by_zero():
    def stepped(x, n):
        for k in range(0, 6, n):
            x = x + k
        return x
    run = runnable(Scalar(stepped, {"n": "int"}).make(("x",)))
    assert [run(1.0, n) for n in (2, 4, -1, 0)] == [(7.0, 1.0), (5.0, 1.0), (1.0, 1.0), (1.0, 1.0)]
    assert runnable(Scalar(lambda x: x + 10 ** 30 + (1 << 62)).make())(0.0) == 1e30 + (1 << 62)
    assert runnable(Scalar(lambda x, n: x + n // 0 + n % 0 + 7 // 0, {"n": "int"}).make())(0.5, 3) == 0.5


def _refused():
    def no_step(x):
        for _ in range(0, 3, 0):
            x = x + 1
        return x

    def never(x):
        while True:
            pass

    def empty(x):
        return ()

    def shifted(x):
        return x + (1 << 70)

    def of_arrays(x):
        return np.ones(3)

    def of_itself(x):
        return of_itself(x) if x > 0 else x

    def else_after(x):
        while x > 0:
            x -= 1
        else:
            x = 2.0
        return x
    return [(no_step, "the step of range must not be 0"), (never, "it never returns a value"), (empty, "an empty tuple"),
            (shifted, "is no number that a kernel can hold"), (of_arrays, "`np.ones` cannot be called"),
            (of_itself, "cannot recurse"), (else_after, "`while ... else` cannot be in a kernel")]


@pytest.mark.parametrize(("function", "words"), _refused(), ids=[f.__name__ for f, _ in _refused()])
def test_what_is_refused(function, words):
    with pytest.raises(SourceError) as caught:
        Scalar(function).make()
    assert words in str(caught.value) and f"{__file__}, line " in str(caught.value)


def test_a_function_that_wraps_another_is_read_itself():
    def doubled(function):
        @functools.wraps(function)
        def wrapper(x):
            return 2 * function(x)
        return wrapper

    @doubled
    def cube(x):
        return x ** 3
    assert runnable(Scalar(cube).make(("x",)))(2.0) == (16.0, 24.0)
