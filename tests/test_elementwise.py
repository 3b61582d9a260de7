"""`engine.elementwise`: users' kernels in twenty forms against finite differences to second order; ties, kinks, errors, Ctrl-C."""
from __future__ import annotations

import cmath
import gc
import math
import os
import re
import runpy
import subprocess
import sys
import textwrap
from pathlib import Path

import numba
import numpy as np
import pytest

import engine
from engine import elementwise
from kernels.book import BOOK
from kernels.derive import SourceError
from kernels.written import Written

STIFFNESS = 2.5
WEIGHTS = (0.5, -1.0, 0.25)

pytestmark = pytest.mark.usefixtures("clean_book")


# --- twenty kernels -----------------------------------------------------------------------------------------------------

@numba.njit
def jitted_helper(x, y):
    if x > y:
        return x * x - y
    return y * math.sin(x)


def plain_helper(x):
    total = 0.0
    for w in range(3):
        total = total * x + WEIGHTS[w] if False else total + x ** (w + 1)
    return total, x


def huber(x, delta):
    if abs(x) <= delta:
        return 0.5 * x * x
    return delta * (abs(x) - 0.5 * delta)


def kepler(mean, eccentricity):
    anomaly = mean + eccentricity * math.sin(mean)
    for _ in range(6):
        anomaly -= (anomaly - eccentricity * math.sin(anomaly) - mean) / (1 - eccentricity * math.cos(anomaly))
    return anomaly


def newton_root(x):
    guess = x
    while abs(guess * guess - x) > 1e-14 * x:
        guess = 0.5 * (guess + x / guess)
    return guess


def chebyshev(x, n):
    a, b = 1.0, x
    if n == 0:
        return a
    for _ in range(n - 1):
        a, b = b, 2 * x * b - a
    return b


def repeated_power(x, n):
    result, base = 1.0, x
    while n > 0:
        if n % 2 == 1:
            result *= base
        base *= base
        n //= 2
    return result


def collatz_weighted(x, n):
    total, k = x, n
    while k != 1:
        k = k // 2 if k % 2 == 0 else 3 * k + 1
        total = total + x / (1.0 + k)
    return total


def special(x):
    return math.erf(x) + math.lgamma(x + 2.0) * math.expm1(-x) + math.log1p(x) * math.gamma(x + 1)


def trigonometry(x, y):
    return math.atan2(y, x) + math.hypot(x, y) * math.tanh(x) - math.asin(0.3 * x) / math.cosh(y)


def nested(x):
    if x > 1:
        if x > 2:
            y = x ** 3
        else:
            y = 1 / x
    elif x < -1:
        y = math.exp(x)
    else:
        return x * x
    return y + math.sqrt(abs(x))


def early(x, y):
    for k in range(10):
        x = x * 0.5 + y / (k + 2)
        if x < 0.4:
            break
        if k % 3 == 1:
            continue
        y = y * x
    return x * y


def conditional_expression(x, y):
    low, high = (x, y) if x < y else (y, x)
    return high ** 2 - math.exp(low) * (low if low > 0 else -high)


def extremes(x, y):
    return max(x * y, min(x, y, 0.3) ** 2) + max(x, 0) * y


def helpers(x, y):
    a, b = plain_helper(x * y)
    return jitted_helper(a, y) + b * STIFFNESS


def powers(x, y):
    return x ** 2 + x ** y + 2.0 ** y + x ** -1 + x ** 0.5 + pow(x, 3) + x ** 11


def modular(x, y):
    return x % 0.7 + (x // 0.7) * y + math.fmod(x, y) + math.floor(y) * x


def continued_fraction(x):
    value = x
    for k in range(8, 0, -1):
        value = x + k / value
    return 1.0 / value


def numpys(x):
    return np.sin(x) * np.exp(-x) + np.where(x > 0.5, x, x * x) + np.arctan(x) * np.pi


def annotated(x: float, y: float) -> float:
    """With annotations, a docstring and a truth value."""
    inside: bool = x * x + y * y < 1 and not x > 0.9
    if inside or y == 3:
        return math.sqrt(1 - x * x) * y
    return (+x) - (-y) / x


def series(x):
    term, total, n = x, x, 1
    while True:
        term = -term * x * x / ((2 * n) * (2 * n + 1))
        total += term
        n += 1
        if abs(term) < 1e-17:
            return total


TWENTY = [
    (huber, [[-2.0, 0.3, 3.0], [1.0, 0.7, 2.0]], ()), (kepler, [[0.5, 2.5], [0.1, 0.6]], ()), (newton_root, [[2.0, 9.0]], ()),
    (chebyshev, [[0.3, -0.4, 1.2], [0, 3, 5]], ("n",)), (repeated_power, [[1.1, -0.7], [5, 10]], ("n",)),
    (collatz_weighted, [[0.7], [7]], ("n",)), (special, [[0.2, 1.3]], ()), (trigonometry, [[0.4, -0.8], [1.2, -0.3]], ()),
    (nested, [[3.0, 1.5, -2.0, 0.2]], ()), (early, [[3.0, 0.2], [1.5, 0.9]], ()),
    (conditional_expression, [[0.4, 1.3], [0.9, -0.2]], ()), (extremes, [[0.4, -1.3], [0.9, 0.2]], ()),
    (helpers, [[0.4, 1.3], [0.9, 0.5]], ()), (powers, [[0.4, 1.3], [0.9, 2.5]], ()), (modular, [[1.3, -0.4], [0.6, 1.7]], ()),
    (continued_fraction, [[0.9, 2.2]], ()), (numpys, [[0.2, 1.1]], ()), (annotated, [[0.3, 0.8, 2.0], [0.4, 1.5, 0.6]], ()),
    (series, [[0.5, 2.0]], ()), (lambda x: x * math.exp(-x * x), [[0.3, -1.2]], ()),
]


@pytest.mark.parametrize(("function", "values", "integers"), TWENTY, ids=[f.__name__.strip("<>") for f, _, _ in TWENTY])
def test_twenty_kernels(function, values, integers):
    name = f"my_{function.__name__.strip('<>')}"
    op = elementwise(function, name=name, nondifferentiable=integers)
    names = function.__code__.co_varnames
    operands = [engine.tensor(v, dtype=engine.int64) if names[k] in integers else
                engine.tensor(v, dtype=engine.float64, requires_grad=True) for k, v in enumerate(values)]
    y = op(*operands)
    assert type(y.grad_fn).__name__ == BOOK[name].node_name
    expected = [function(*p) for p in zip(*values, strict=True)]
    np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-13)
    assert engine.autograd.gradcheck(op, tuple(operands)) and engine.autograd.gradgradcheck(op, tuple(operands))


# --- how the operator behaves -------------------------------------------------------------------------------------------

def ramp(x, y):
    if x > y:
        return x * x - y
    return 0.5 * y * x


@pytest.fixture
def op():
    return elementwise(ramp, name="my_ramp")


def plain(x, y):
    x, y = np.broadcast_arrays(x, y)
    return np.where(x > y, x * x - y, 0.5 * y * x)


def test_layouts_dtypes_and_out(op):
    x, y = np.linspace(-2, 2, 12).reshape(3, 4), np.linspace(-1, 1, 4)
    for a, b in ((x, y), (x.T[::2], y[:3]), (x[:, ::-2], y[2:]), (x[1, 2], y[0]), (x[:0], y), (x[..., None], y)):
        made = op(engine.from_numpy(a.copy()) if a.ndim and min(a.strides) < 0 else engine.tensor(a), engine.tensor(b))
        np.testing.assert_allclose(made.numpy(), plain(a, b), rtol=1e-15)
        assert made.shape == np.broadcast_shapes(np.shape(a), np.shape(b))
    t = engine.tensor(x)
    np.testing.assert_allclose(op(t.t()[::2], engine.tensor(y[:3])).numpy(), plain(x.T[::2], y[:3]))
    assert op(t.float(), engine.ones((), dtype=engine.float64)).dtype is engine.float32      # a 0-d tensor does not widen
    assert op(t.float(), t).dtype is engine.float64 and op(t.half(), 2).dtype is engine.float16
    assert op(engine.tensor([1, 2]), 3).dtype is engine.get_default_dtype()
    assert op(2, 1.0).item() == 3.0
    out = engine.empty(3, 4, dtype=engine.float64)
    assert op(t, 0.5, out=out) is out and engine.equal(out, op(t, 0.5))
    assert op(y=0.5, x=t).equal(out)
    with pytest.raises(RuntimeError, match="size of tensor a"):
        op(t, engine.ones(3))
    with pytest.raises(TypeError):
        op(t)


def test_reverse_forward_vmap_and_compiled_agree(op):
    x = engine.tensor([[-1.0, 0.3], [2.0, 1.5]], dtype=engine.float64, requires_grad=True)
    y = engine.tensor([0.5, 1.0], dtype=engine.float64, requires_grad=True)
    direction = engine.tensor([[0.3, -0.2], [1.0, 0.4]], dtype=engine.float64)
    v = x.detach().numpy(), y.detach().numpy()
    by_x = np.where(v[0] > v[1], 2 * v[0], 0.5 * v[1])
    by_y = np.where(v[0] > v[1], -1.0, 0.5 * v[0])
    op(x, y).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), by_x)
    np.testing.assert_allclose(y.grad.numpy(), by_y.sum(0))
    _, pushed = engine.func.jvp(lambda a: op(a, y.detach()), (x.detach(),), (direction,))
    np.testing.assert_allclose(pushed.detach().numpy(), by_x * direction.numpy())
    rows = engine.func.vmap(op, in_dims=(0, None))(x.detach(), y.detach())
    np.testing.assert_allclose(rows.numpy(), plain(*v))
    per_row = engine.func.vmap(engine.func.grad(lambda a, b: op(a, b).sum()), in_dims=(0, None))(x.detach(), y.detach())
    np.testing.assert_allclose(per_row.numpy(), by_x)
    whole = engine.compile(engine.func.value_and_grad(lambda a, b: (op(a, b) * 2).sum(), argnums=(0, 1)))
    value, (gx, gy) = whole(x.detach(), y.detach())
    assert value.item() == pytest.approx(2 * plain(*v).sum())
    np.testing.assert_allclose(gx.numpy(), 2 * by_x)
    np.testing.assert_allclose(gy.numpy(), 2 * by_y.sum(0))
    source = whole.source()
    assert source.count("my_ramp_along_float64(") >= 1 and "my_ramp_float64(" not in source      # inlined, one call for both
    hessian = engine.func.hessian(lambda a: op(a, y.detach()).sum())(x.detach()).reshape(4, 4)
    np.testing.assert_allclose(hessian.numpy(), np.diag(np.where(v[0] > v[1], 2.0, 0.0).ravel()), atol=1e-15)


def test_a_compiled_function_of_many_elements(op):
    x = engine.randn(3000, dtype=engine.float64, requires_grad=True)
    compiled = engine.compile(lambda a: op(a, 0.1).exp().mean())
    compiled(x).backward()
    inside, x.grad = x.grad, None
    op(x, 0.1).exp().mean().backward()
    np.testing.assert_allclose(inside.numpy(), x.grad.numpy(), rtol=1e-12)


def test_all_gradients_come_from_one_pass():
    from kernels.cpu.maps import gradient_program

    def product(x, y, z):
        total = x
        for _ in range(3):
            total = total * y + z
        return total
    elementwise(product, name="my_product")
    program = gradient_program(BOOK["my_product"], "float64", (True, True, True))
    assert program.source.count("op_my_product_along(") == 1


def test_several_results():
    def polar(x, y):
        return math.hypot(x, y), math.atan2(y, x), x > y
    op = elementwise(polar, name="my_polar")
    x = engine.tensor([1.0, -2.0], dtype=engine.float64, requires_grad=True)
    y = engine.tensor([0.5, 0.7], dtype=engine.float64)
    radius, angle, above = op(x, y)
    np.testing.assert_allclose(radius.detach().numpy(), np.hypot(x.detach().numpy(), y.numpy()))
    np.testing.assert_allclose(angle.detach().numpy(), np.arctan2(y.numpy(), x.detach().numpy()))
    assert above.tolist() == [True, False] and not above.requires_grad
    assert engine.autograd.gradgradcheck(lambda a: op(a, y)[:2], (x,))


def test_truth_values_and_flags():
    inside = elementwise(lambda x, y: x * x + y * y <= 1, name="my_inside")
    x = engine.tensor([0.1, 0.9], requires_grad=True)
    made = inside(x, 0.5)
    assert made.dtype is engine.bool and made.tolist() == [True, False] and not made.requires_grad

    def switched(x, negative):
        return -x if negative else x
    op = elementwise(switched, name="my_switched", nondifferentiable="negative")
    assert op(x, engine.tensor([True, False])).tolist() == pytest.approx([-0.1, 0.9])
    op(x, True).sum().backward()
    assert x.grad.tolist() == [-1, -1]
    with pytest.raises(TypeError, match="negative must be an integer"):
        op(x, 0.5)
    with pytest.raises(TypeError, match="negative must be an integer"):
        op(x, x)


def test_derivatives_by_hand():
    calls = {"x": [0.3, -1.2], "y": [2.0, 0.7]}

    def value(x, y):
        return math.sin(x) * y
    inputs = tuple(engine.tensor(v, dtype=engine.float64, requires_grad=True) for v in calls.values())
    one = elementwise(value, name="my_value1", derivative=lambda x, y: (math.cos(x) * y, math.sin(x)))
    two = elementwise(value, name="my_value2", derivative=(lambda x, y: math.cos(x) * y, lambda x, y, out: out / y))
    for op in (one, two):
        assert engine.autograd.gradcheck(op, inputs) and engine.autograd.gradgradcheck(op, inputs)
    wrong = elementwise(value, name="my_value3", derivative=(lambda x, y: 2.0, None))     # what is stated is what is used
    wrong(*inputs).sum().backward()
    assert inputs[0].grad.tolist() == [2, 2] and inputs[1].grad is None
    with pytest.raises(ValueError, match="must return 2 numbers, for x, y; not 1"):
        elementwise(value, name="my_value4", derivative=lambda x, y: x)
    with pytest.raises(ValueError, match="must give 2 functions"):
        elementwise(value, name="my_value4", derivative=(lambda x, y: x,))
    with pytest.raises(ValueError, match="must take its 2 parameters"):
        elementwise(value, name="my_value4", derivative=(lambda x: x, lambda x, y: y))


def test_complex_numbers():
    def mobius(z, w):
        return (z * w + 1j) / (cmath.exp(z) - 3.0) + cmath.sqrt(w)
    op = elementwise(mobius, name="my_mobius")
    z = engine.tensor([1 + 2j, 0.3j], requires_grad=True, dtype=engine.complex128)
    w = engine.tensor([0.5 - 1j, 2.0], requires_grad=True, dtype=engine.complex128)
    expected = [mobius(a, b) for a, b in zip(z.tolist(), w.tolist(), strict=True)]
    np.testing.assert_allclose(op(z, w).detach().numpy(), expected, rtol=1e-14)
    assert engine.autograd.gradcheck(op, (z, w))
    with pytest.raises(NotImplementedError, match="complex operands"):
        op(z.real.detach(), 1.0)


def test_fast_math_flags():
    def summed(x):
        total = 0.0
        for k in range(1, 9):
            total += x / k
        return total
    op = elementwise(summed, name="my_summed", fastmath=("reassoc", "contract"))
    assert op(engine.tensor(1.0, dtype=engine.float64)).item() == pytest.approx(sum(1 / k for k in range(1, 9)))
    assert "fastmath: contract, reassoc" in op.source()
    for wrong in (True, ("quick",), "quick"):
        with pytest.raises(ValueError, match="names of flags, among afn"):
            elementwise(summed, name="my_summed2", fastmath=wrong)


def test_operators_of_the_users_and_of_the_book_inside_one():
    half = elementwise(lambda x: 0.5 * x * x, name="my_half")
    op = elementwise(lambda x: half(x) + engine.exp(x), name="my_whole")
    x = engine.tensor([0.3, -1.0], dtype=engine.float64, requires_grad=True)
    op(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), x.detach().numpy() + np.exp(x.detach().numpy()))


# --- ties, kinks, division by zero --------------------------------------------------------------------------------------

def test_the_derivative_at_a_tie_is_that_of_the_path_taken():
    """At x == y `max` and `min` give their first operand, `if` the side that its condition chooses; |x| has derivative 0 at 0."""
    cases = {"larger": (lambda x, y: max(x, y), (1, 0)), "smaller": (lambda x, y: min(x, y), (1, 0)),
             "chosen": (lambda x, y: x if x > y else y, (0, 1)), "kept": (lambda x, y: x if x >= y else y, (1, 0)),
             "distance": (lambda x, y: abs(x - y), (0, 0)), "floored": (lambda x, y: math.floor(x) * y, (0, 2))}
    for name, (function, expected) in cases.items():
        x, y = (engine.tensor(2.0, dtype=engine.float64, requires_grad=True) for _ in range(2))
        elementwise(function, name=f"my_{name}")(x, y).backward()
        assert (0 if x.grad is None else x.grad.item(), 0 if y.grad is None else y.grad.item()) == expected, name


def test_division_by_zero():
    def divided(x, n):
        return x / 0 + 1 / x + (7 // n) + 7 % n
    op = elementwise(divided, name="my_divided", nondifferentiable="n")
    assert op(engine.tensor([1.0, -1.0]), engine.tensor([0, 0])).tolist() == [math.inf, -math.inf]
    assert math.isnan(op(engine.tensor(-0.0), 2).item())
    assert elementwise(lambda x, n: x + 7 // n + 7 % n, name="my_quotient", nondifferentiable="n")(1.0, 0).item() == 1.0


# --- errors -------------------------------------------------------------------------------------------------------------

def _lists(x):
    return [x, x]


def _strings(x):
    return "one" if x > 0 else "two"


def _dicts(x):
    return {"a": x}["a"]


def _generator(x):
    yield x


def _mixed(x):
    if x > 0:
        return x, x
    return x


def _mixed_truth(x):
    return True if x > 0 else x


def _recursive(x):
    return _recursive(x - 1) if x > 0 else x


def _ping(x):
    return _pong(x)


def _pong(x):
    return _ping(x)


def _prints(x):
    print(x)
    return x


def _no_value(x):
    if x > 0:
        return x


def _unassigned(x):
    if x > 0:
        y = x
    return y


def _unknown(x):
    return not_to_be_found(x)       # noqa: F821


def _factorial(x):
    return math.factorial(x)


def _tries(x):
    try:
        return 1 / x
    except ZeroDivisionError:
        return 0


def _raises(x):
    if x < 0:
        raise ValueError("negative")
    return x


def _over_a_tuple(x):
    for v in (1, 2):
        x = x + v
    return x


def _attribute(x):
    return x.shape


def _defaults(x, y=2):
    return x + y


def _and(x):
    return x > 0 and x


def _float_range(x):
    for _ in range(x):
        x = x + 1
    return x


@pytest.mark.parametrize(("function", "words", "line"), [
    (_lists, "cannot be in a kernel", "return [x, x]"), (_strings, "is a str, which a kernel cannot hold", 'return "one"'),
    (_dicts, "cannot be in a kernel", 'return {"a": x}'), (_generator, "a generator cannot be a kernel", "yield x"),
    (_mixed, "is a tuple of 2 here and a number there", "return x"),
    (_mixed_truth, "is a truth value here and a number there", "return True"),
    (_recursive, "cannot recurse: use a loop", "return _recursive"), (_ping, "cannot recurse: use a loop", "return _ping(x)"),
    (_prints, "whose value is not used", "print(x)"), (_no_value, "may end without returning", "if x > 0:"),
    (_unassigned, "`y` may have no value here", "return y"), (_unknown, "is not known here", "return not_to_be_found"),
    (_factorial, "cannot be called in a kernel", "math.factorial"), (_tries, "`try` cannot be in a kernel", "try:"),
    (_raises, "a kernel cannot raise", "raise ValueError"), (_over_a_tuple, "must be `for name in range", "for v in (1, 2)"),
    (_attribute, "is nothing that a kernel can hold", "return x.shape"),
    (_defaults, "its parameters must be plain", "def _defaults"),
    (_and, "write `a if c else b`", "return x > 0 and x"), (_float_range, "the bounds of range must be integers", "range(x)"),
])
def test_what_does_not_compile_is_told_with_its_line(function, words, line):
    with pytest.raises(SourceError) as caught:
        elementwise(function, name="my_wrong")
    message = str(caught.value)
    first = function.__code__.co_firstlineno
    assert words in message and line in message and __file__ in message
    assert any(f"line {n}: " in message for n in range(first - 4, first + 6)) and len(message.splitlines()) == 2
    assert "my_wrong" not in BOOK


def test_what_numba_refuses_is_told_with_its_line_too():
    def compared(x):
        y = x * x
        return y if y > 1 else x
    op = elementwise(compared, name="my_compared")
    with pytest.raises(SourceError, match=r"(?s)gt.*return y if y > 1 else x") as caught:
        op(engine.tensor([1j]))
    assert len(str(caught.value)) < 500


def test_names_and_arguments_that_are_refused():
    def exp(x):
        return x
    with pytest.raises(ValueError, match="'exp' is an operator of the engine's already; give yours another name"):
        elementwise(exp)
    assert elementwise(exp, name="my_exp")(2.0).item() == 2
    with pytest.raises(ValueError, match="no name for an operator"):
        elementwise(exp, name="a b")
    with pytest.raises(TypeError, match="a function is needed"):
        elementwise(3)
    with pytest.raises(ValueError, match="no parameter 'n'"):
        elementwise(exp, name="my_exp2", nondifferentiable=("n",))


def test_decorating_again_replaces_and_the_old_one_goes_on():
    def make(factor):
        def scaled(x):
            return factor * x * x
        return elementwise(scaled, name="my_scaled")
    first = make(2.0)
    x = engine.tensor(3.0, dtype=engine.float64, requires_grad=True)
    y = first(x)
    second = make(5.0)
    assert second(x).item() == 45 and first(x).item() == 18
    (y + second(x)).backward()
    assert x.grad.item() == 12 + 30 and type(y.grad_fn).__name__ == "MyScaledBackward0"
    assert engine.compile(lambda a: first(a) + second(a))(x.detach()).item() == 63
    assert isinstance(BOOK["my_scaled"], Written) and BOOK["my_scaled"] is second.operator
    del y
    gc.collect()


def test_the_table_knows_it_and_takes_another_kernel(op):
    assert ("my_ramp", "cpu") in engine.dispatch.table()
    engine.dispatch.register("my_ramp", "cpu", lambda x, y: x + 10 * y)
    assert op(engine.tensor([1.0]), 2.0).tolist() == [21]
    engine.dispatch.table().unregister("my_ramp", "cpu")
    assert op(engine.tensor([1.0]), 2.0).tolist() == [1]


def test_a_second_process_compiles_nothing(tmp_path):
    program = tmp_path / "kernel.py"
    program.write_text(textwrap.dedent("""
        import math, sys
        import engine
        from kernels.cpu import native

        @engine.elementwise
        def soft_clip(x, limit):
            if x <= limit:
                return x
            return limit + math.log(1.0 + x - limit)
        x = engine.tensor([0.5, 4.0], requires_grad=True)
        y = soft_clip(x, 1.0)
        y.backward(engine.ones(2))
        print(native.compilations, "numba" in sys.modules, [round(v, 3) for v in x.grad.tolist()])
    """))
    env = dict(os.environ, ENGINE_CACHE_DIR=str(tmp_path / "store"), PYTHONPATH=os.pathsep.join(p for p in sys.path if p))
    seen = [subprocess.run([sys.executable, str(program)], env=env, capture_output=True, text=True, check=True).stdout
            for _ in range(2)]
    assert "True [1.0, 0.25]" in seen[0] and seen[1] == "0 False [1.0, 0.25]\n"


def test_the_page_on_operators_of_your_own_runs(tmp_path):
    """The code of docs/operators-of-your-own.md, as a reader would run it: from a file."""
    page = (Path(__file__).parents[1] / "docs" / "operators-of-your-own.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 6
    program = tmp_path / "page.py"
    program.write_text("\n".join(blocks), encoding="utf-8")
    runpy.run_path(str(program))


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to a process")
@pytest.mark.parametrize("count", [3, 100_000])
def test_a_loop_without_end_stops_at_ctrl_c(tmp_path, count):
    program = tmp_path / "endless.py"
    program.write_text(textwrap.dedent(f"""
        import os, signal, threading
        import engine

        @engine.elementwise
        def endless(x):
            while x > 0:
                x = x + 1 if x < 10 else x - 1
            return x
        x = -engine.ones({count})
        endless(x)
        x[{count} // 2:] = 1.0          # of a large tensor, what another thread works on
        threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        try:
            endless(x)
        except KeyboardInterrupt as error:
            print(error)
        print(endless(-engine.ones(2)).tolist())
    """))
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(p for p in sys.path if p))
    done = subprocess.run([sys.executable, str(program)], env=env, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "endless_float32: stopped in one of its loops\n[-1.0, -1.0]\n"
