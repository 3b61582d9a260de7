"""Pointwise operators where a table-driven test cannot look: ties, special exponents, promotion with numbers, refusals,
in-place and out= rules, integer division, complex conventions, rounding. Values against references are in the walk of the
book."""
from __future__ import annotations

import math
import re

import numpy as np
import pytest

import engine as torch
from kernels.book import BOOK

inf, nan = math.inf, math.nan


def leaf(*values, dtype=torch.float64):
    return torch.tensor(list(values), dtype=dtype, requires_grad=True)


def grads(result, *leaves):
    """Gradients of the sum of a result as lists."""
    total = result.sum()
    (total.real if total.is_complex() else total).backward()
    return [None if x.grad is None else x.grad.tolist() for x in leaves]


def node(x) -> str:
    return type(x.grad_fn).__name__


# --- ties and masks ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, x, y, gx, gy", [
    ("maximum", (1.0, 2.0, 3.0), (1.0, 3.0, 2.0), [0.5, 0.0, 1.0], [0.5, 1.0, 0.0]),
    ("minimum", (1.0, 2.0, 3.0), (1.0, 3.0, 2.0), [0.5, 1.0, 0.0], [0.5, 0.0, 1.0]),
    ("fmax", (1.0, nan, 3.0), (1.0, 3.0, nan), [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]),
    ("fmin", (1.0, nan, 3.0), (1.0, 3.0, nan), [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]),
])
def test_gradient_of_a_choice_between_two(name, x, y, gx, gy):
    a, b = leaf(*x), leaf(*y)
    assert grads(getattr(torch, name)(a, b), a, b) == [gx, gy]


def test_not_chosen_infinities_leave_no_nan():
    x = leaf(0.0, 4.0)
    root = torch.where(x > 1, x.sqrt(), x * 3)
    (g,) = torch.autograd.grad(root.sum(), x)
    assert g.tolist()[1] == 0.25
    y = leaf(-1.0, 2.0)
    cotangent = torch.tensor([inf, 1.0], dtype=torch.float64)
    for result in (y.relu(), y.clamp(min=0.0), torch.where(y > 0, y, 0.0), torch.maximum(y, torch.zeros_like(y))):
        (g,) = torch.autograd.grad(result, y, cotangent)
        assert g.tolist() == [0.0, 1.0]


def test_clamp_bounds():
    x, low, high = leaf(-2.0, 0.5, 3.0, 1.0), leaf(-1.0, -1.0, -1.0, 2.0), leaf(1.0, 1.0, 1.0, 0.0)
    result = torch.clamp(x, low, high)
    assert result.tolist() == [-1.0, 0.5, 1.0, 0.0]         # the upper bound wins where they cross
    assert grads(result, x, low, high) == [[0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]
    y = leaf(0.0, 1.0, 2.0)
    assert grads(y.clamp(0.0, 1.0), y) == [[1.0, 1.0, 0.0]]     # at the bounds the gradient passes
    assert all(math.isnan(v) for v in torch.tensor([1.0, nan], dtype=torch.float64).clamp(nan, 2.0).tolist())
    assert torch.tensor([1, 5]).clamp(2, 3).tolist() == [2, 3]
    assert torch.tensor([1, 5]).clip(max=2.5).tolist() == [1.0, 2.5]
    with pytest.raises(RuntimeError, match="At least one of 'min' or 'max' must not be None"):
        torch.clamp(x)


def test_abs_and_sign_at_zero():
    x = leaf(-2.0, 0.0, 3.0)
    assert grads(abs(x), x) == [[-1.0, 0.0, 1.0]]
    assert torch.sign(torch.tensor([nan, -0.0, -3.0, inf])).tolist() == [0.0, 0.0, -1.0, 1.0]
    assert torch.abs(torch.tensor([-(2 ** 62) - 1])).tolist() == [2 ** 62 + 1]      # no detour through float64


# --- powers -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("exponent", [0, 1, 2, 3, -1, -2, 0.5, -0.5, 2.5, -1.5])
def test_number_exponents(exponent):
    x = leaf(0.5, 1.5, 2.0)
    y = x ** exponent
    assert node(y) == "PowBackward0"
    values = np.array([0.5, 1.5, 2.0])
    np.testing.assert_allclose(y.tolist(), values ** float(exponent), rtol=1e-15)
    (g,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    np.testing.assert_allclose(g.tolist(), exponent * values ** (exponent - 1.0), rtol=1e-14)
    if g.requires_grad:
        (h,) = torch.autograd.grad(g.sum(), x)
        np.testing.assert_allclose(h.tolist(), exponent * (exponent - 1) * values ** (exponent - 2.0), rtol=1e-14, atol=1e-300)


def test_power_at_the_edges():
    assert (torch.tensor([0.0, nan, inf], dtype=torch.float64) ** 0).tolist() == [1.0, 1.0, 1.0]
    x, y = leaf(0.0, 0.0, 0.0, 2.0), leaf(0.0, 1.0, 2.0, 0.0)
    result = x ** y
    assert node(result) == "PowBackward1"
    assert result.tolist() == [1.0, 0.0, 0.0, 1.0]
    assert grads(result, x, y) == [[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, math.log(2.0)]]
    z = leaf(3.0)
    assert node(2 ** z) == node(torch.pow(2.5, z)) == "PowBackward2"
    assert (2 ** z).tolist() == [8.0]
    assert grads(2 ** z, z) == [[8.0 * math.log(2.0)]]


def test_integer_powers():
    base = torch.tensor([-3, 0, 1, 2])
    assert (base ** 3).tolist() == [-27, 0, 1, 8]
    assert (base ** torch.tensor([3, 0, -5, 62])).tolist() == [-27, 1, 1, 2 ** 62]
    assert (torch.tensor([-1, -1, 2]) ** torch.tensor([-3, -2, -1])).tolist() == [-1, 1, 0]
    assert (3 ** torch.tensor([0, 1, 2])).tolist() == [1, 3, 9]
    assert (torch.tensor([2, 3]) ** 2.0).dtype is torch.float32
    with pytest.raises(RuntimeError, match="Integers to negative integer powers are not allowed"):
        base ** -1
    with pytest.raises(RuntimeError, match="cannot be converted to type uint8_t without overflow"):
        torch.tensor([2], dtype=torch.uint8) ** 300


def test_float_power_is_double():
    assert torch.float_power(torch.tensor([2, 3]), 2).dtype is torch.float64
    assert torch.float_power(2, torch.tensor([3])).tolist() == [8.0]


# --- division ---------------------------------------------------------------------------------------------------------

def test_rounded_division_follows_python_and_c():
    pairs = [(a, b) for a in (-7, -6, -1, 0, 5, 7) for b in (-3, -1, 1, 2, 4)]
    x, y = torch.tensor([a for a, _ in pairs]), torch.tensor([b for _, b in pairs])
    assert (x // y).tolist() == [a // b for a, b in pairs]
    assert (x % y).tolist() == [a % b for a, b in pairs]
    assert torch.div(x, y, rounding_mode="trunc").tolist() == [int(a / b) for a, b in pairs]
    assert torch.fmod(x, y).tolist() == [int(math.fmod(a, b)) for a, b in pairs]
    u, v = x.double() * 0.3, y.double()
    assert (u // v).tolist() == [(a * 0.3) // b for a, b in pairs]
    np.testing.assert_allclose((u % v).tolist(), [(a * 0.3) % b for a, b in pairs], atol=1e-15)
    assert torch.fmod(u, v).tolist() == [math.fmod(a * 0.3, b) for a, b in pairs]
    assert (torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64) // 0).tolist()[:2] == [inf, -inf]
    least = torch.tensor([-(2 ** 63)])
    assert (least // -1).tolist() == (least // torch.tensor([-1])).tolist() == [-(2 ** 63)]     # wraps around, does not trap
    assert (least % -1).tolist() == [0]
    u = torch.tensor([255, 7, 254], dtype=torch.uint8)
    assert (u // 255).tolist() == [1, 0, 0] and (u % 255).tolist() == [0, 7, 254]       # 255 is no -1


@pytest.mark.parametrize("divide", [
    lambda x, y: x // y, lambda x, y: x % y, torch.fmod, torch.floor_divide, lambda x,
    y: torch.div(x, y, rounding_mode="trunc"),
    lambda x, y: x.clone().floor_divide_(y), lambda x, y: x.clone().remainder_(y)])
@pytest.mark.parametrize("zero", [0, torch.tensor([1, 0, 2]), torch.tensor(0)])
def test_integers_by_zero_are_refused(divide, zero):
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        divide(torch.tensor([1, 2, 3]), zero)


def test_division_modes_and_reflected_forms():
    with pytest.raises(RuntimeError, match="div expected rounding_mode to be one of None, 'trunc', or 'floor' but found 'x'"):
        torch.div(torch.tensor([1.0]), 2, rounding_mode="x")
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        2 // torch.tensor([1, 0])
    x = leaf(4.0)
    y = 2 / x
    assert node(y) == "MulBackward0" and type(y.grad_fn.next_functions[0][0]).__name__ == "ReciprocalBackward0"
    assert (7 // torch.tensor([2, -2])).tolist() == [3, -4]
    assert (7 % torch.tensor([4, -4])).tolist() == [3, -1]
    assert (2 / torch.tensor([4, 8])).tolist() == [0.5, 0.25]
    a, b = leaf(5.5, -5.5), leaf(2.0, 2.0)
    assert grads(a % b, a, b) == [[1.0, 1.0], [-2.0, 3.0]]
    assert node(a % b) == "RemainderBackward1" and node(a % 2) == "RemainderBackward0"


# --- promotion with numbers -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("make, values, dtype", [
    (lambda b, i, f: b + 1, [2, 1], torch.int64), (lambda b, i, f: b * 2.5, [2.5, 0.0], torch.float32),
    (lambda b, i, f: b & 1, [1, 0], torch.int64), (lambda b, i, f: b ^ True, [False, True], torch.bool),
    (lambda b, i, f: i * 1.5, [1.5, 3.0], torch.float32), (lambda b, i, f: i / 2, [0.5, 1.0], torch.float32),
    (lambda b, i, f: i + True, [2, 3], torch.int64), (lambda b, i, f: f + 1j, [1 + 1j, 2 + 1j], torch.complex128),
    (lambda b, i, f: torch.where(b, 1, 2), [1, 2], torch.int64),
    (lambda b, i, f: torch.where(b, i, 1.5), [1.0, 1.5], torch.float32),
    (lambda b, i, f: torch.clamp(i, 0, 1.5), [1.0, 1.5], torch.float32), (lambda b, i, f: b ** 2, [1, 0], torch.int64),
    (lambda b, i, f: i.float() + f[0], [2.0, 3.0], torch.float32), (lambda b, i, f: 1 | b, [1, 1], torch.int64),
    (lambda b, i, f: torch.add(i, f, alpha=0.5), [1.5, 3.0], torch.float64), (lambda b, i, f: 1 << i, [2, 4], torch.int64),
    (lambda b, i, f: torch.rsub(f, 2, alpha=2), [0.0, -2.0], torch.float64),
])
def test_numbers_promote_by_category(make, values, dtype):
    got = make(torch.tensor([True, False]), torch.tensor([1, 2]), torch.tensor([1.0, 2.0], dtype=torch.float64))
    assert got.dtype is dtype and got.tolist() == values


def test_unsigned_numbers_wrap():
    u = torch.tensor([1, 2], dtype=torch.uint8)
    assert (u + 300).tolist() == [45, 46] and (u - 2).tolist() == [255, 0] and (u + (-1)).tolist() == [0, 1]


def test_zero_constants_keep_their_sign():
    x = torch.tensor([1.0])
    for zero in (0.0, -0.0, 0.0, -0.0):
        assert math.copysign(1, torch.copysign(x, zero).item()) == math.copysign(1, zero)


# --- refusals ---------------------------------------------------------------------------------------------------------

B, I, F, Z = torch.tensor([True, False]), torch.tensor([1, 2]), torch.tensor([1.0, 2.0]), torch.tensor([1 + 2j, 0j])


@pytest.mark.parametrize("call, error, words", [
    (lambda: -B, RuntimeError, "Negation, the `-` operator, on a bool tensor is not supported"),
    (lambda: B - B, RuntimeError, "Subtraction, the `-` operator, with two bool tensors is not supported"),
    (lambda: B - 1, RuntimeError, "Subtraction, the `-` operator, with a bool tensor is not supported"),
    (lambda: 1 - B, RuntimeError, "Subtraction, the `-` operator, with a bool tensor is not supported"),
    (lambda: F - B, RuntimeError, "Subtraction, the `-` operator, with a bool tensor is not supported"),
    (lambda: +B, RuntimeError, "The `+` operator, on a bool tensor is not supported"),
    (lambda: ~F, TypeError, "only implemented on integer and Boolean-type tensors"),
    (lambda: F & F, NotImplementedError, "\"bitwise_and_cpu\" not implemented for 'Float'"),
    (lambda: B << B, NotImplementedError, "\"lshift_cpu\" not implemented for 'Bool'"),
    (lambda: Z < Z, NotImplementedError, "\"lt_cpu\" not implemented for 'ComplexFloat'"),
    (lambda: Z.floor(), NotImplementedError, "floor is not supported for complex inputs"),
    (lambda: Z.sign(), NotImplementedError, "Please use torch.sgn instead"),
    (lambda: torch.maximum(Z, Z), RuntimeError, "maximum not implemented for complex tensors"),
    (lambda: B.relu(), RuntimeError, "Boolean inputs not supported for relu"),
    (lambda: abs(B), NotImplementedError, "\"abs_cpu\" not implemented for 'Bool'"),
    (lambda: torch.gcd(F, F), NotImplementedError, "\"gcd_cpu\" not implemented for 'Float'"),
    (lambda: torch.add(I, I, alpha=0.5), RuntimeError, "argument alpha must not be a floating point number"),
    (lambda: torch.sub(I, I, alpha=True), RuntimeError, "Boolean alpha only supported for Boolean results"),
    (lambda: torch.add(F, F, alpha=1j), RuntimeError, "argument alpha must not be a complex number"),
    (lambda: torch.addcdiv(I, I, I), RuntimeError, "Integer division with addcdiv is no longer supported"),
    (lambda: torch.lerp(F, F.double(), 0.5), RuntimeError, "expected dtype float for `end` but got dtype double"),
    (lambda: torch.lerp(I, I, 0.5), NotImplementedError, "\"lerp_kernel_scalar\" not implemented for 'Long'"),
    (lambda: torch.heaviside(F, I), RuntimeError, "heaviside is not yet implemented for tensors with different dtypes"),
    (lambda: torch.where(I, F, F), RuntimeError, "where expected condition to be a boolean tensor, but got a tensor with "
     "dtype Long"),
    (lambda: torch.where(B, F), TypeError, r"where() received an invalid combination of arguments"),
    (lambda: F.masked_fill(I, 1), RuntimeError, "only supports boolean masks"),
    (lambda: F.masked_fill(B, F), RuntimeError, "a 0-dimensional value tensor, but got tensor with 1 dimension(s)"),
    (lambda: F.masked_fill(B, 1j), RuntimeError, "value cannot be converted to type float without overflow"),
    (lambda: torch.complex(F, F.double()), RuntimeError, "Expected object of scalar type Float but got scalar type Double"),
    (lambda: torch.complex(I, I), RuntimeError, "to be Half, Float or Double tensors but got Long and Long"),
    (lambda: F.imag, RuntimeError, "imag is not implemented for tensors with non-complex dtypes"),
    (lambda: torch.isclose(F, F.double()), RuntimeError, "Float did not match Double"),
    (lambda: torch.isclose(F, F, rtol=-1), RuntimeError, "rtol must be greater than or equal to zero, but got -1"),
    (lambda: torch.is_nonzero(F), RuntimeError, "Boolean value of Tensor with more than one value is ambiguous"),
    (lambda: torch.pow(2, 3), TypeError, "pow() received an invalid combination of arguments"),
    (lambda: F + "a", TypeError, "unsupported operand type(s) for +: 'Tensor' and 'str'"),
    (lambda: F ** None, TypeError, "unsupported operand type(s) for ** or pow()"),
    (lambda: F < None, TypeError, "'<' not supported between instances of 'Tensor' and 'NoneType'"),
    (lambda: torch.mul(F, "a"), TypeError, "mul(): argument 'other' (position 2) must be Tensor, not str"),
    (lambda: torch.exp("a"), TypeError, "exp(): argument 'input' (position 1) must be Tensor, not str"),
    (lambda: torch.polygamma(-1, F), RuntimeError, "polygamma(n, x) does not support negative n"),
    (lambda: F + torch.zeros(3), RuntimeError,
     "The size of tensor a (2) must match the size of tensor b (3) at non-singleton dimension 0"),
    (lambda: I.round(decimals=1), NotImplementedError, "\"round_cpu\" not implemented for 'Long'"),
])
def test_refusals(call, error, words):
    with pytest.raises(error, match=re.escape(words)):
        call()


def test_comparison_with_none_is_identity():
    assert (F == None) is False and (F != None) is True      # noqa: E711


# --- in place and out= ------------------------------------------------------------------------------------------------

def test_in_place_writes_the_same_memory_and_counts():
    x = torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64)
    memory, version = x.data_ptr(), x._version
    steps = [x.add_(1), x.sub_(1, alpha=1), x.mul_(2.0), x.div_(2), x.sqrt_(), x.pow_(2), x.clamp_(0.0, 5.0), x.neg_(),
             x.abs_(),
             x.masked_fill_(x > 4, 0.0), x.exp_(), x.log_(), x.relu_(), x.sigmoid_(), x.zero_(), x.fill_(3.0)]
    assert all(s is x for s in steps) and x.data_ptr() == memory
    assert x._version == version + len(steps)
    x += 1
    x *= 2
    x -= 1
    x /= 7
    x **= 2
    x //= 1
    x %= 2
    assert x.tolist() == [1.0, 1.0, 1.0] and x.data_ptr() == memory


def test_in_place_keeps_dtype_and_shape():
    i = torch.tensor([1, 2])
    for write in (lambda: i.div_(2), lambda: i.add_(1.5), lambda: i.exp_()):
        with pytest.raises(RuntimeError, match="result type Float can't be cast to the desired output type Long"):
            write()
    with pytest.raises(RuntimeError, match=re.escape("output with shape [2] doesn't match the broadcast shape [2, 2]")):
        i.add_(torch.ones(2, 2, dtype=torch.int64))
    with pytest.raises(RuntimeError, match=re.escape("output with shape [2] doesn't match the broadcast shape")):
        i.masked_fill_(torch.tensor([[True], [False]]), 1)
    f = torch.tensor([1.0, 0.0])
    assert f.eq_(1).tolist() == [1.0, 0.0] and f.dtype is torch.float32
    assert f.add_(torch.tensor([0.5, 0.5], dtype=torch.float64)).dtype is torch.float32


def test_leaves_are_not_written_while_recording():
    x = leaf(1.0, 2.0)
    for write in (lambda: x.add_(1), lambda: x.zero_(), lambda: x.masked_fill_(x > 1, 0), lambda: x.clamp_(0, 1)):
        with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being used in an in-place operation"):
            write()
    y = x * 1
    y.mul_(3).masked_fill_(torch.tensor([True, False]), 0)
    assert grads(y, x) == [[0.0, 3.0]]


def test_out():
    out = torch.empty(2, dtype=torch.float64)
    assert torch.exp(torch.zeros(2, dtype=torch.float64), out=out) is out and out.tolist() == [1.0, 1.0]
    torch.clamp(torch.tensor([1.0, 5.0], dtype=torch.float64), 2.0, 3.0, out=out)
    assert out.tolist() == [2.0, 3.0]
    torch.pow(torch.tensor([2.0, 3.0], dtype=torch.float64), 2, out=out)
    assert out.tolist() == [4.0, 9.0]
    with pytest.raises(RuntimeError, match="can't be cast to the desired output type Long"):
        torch.add(torch.tensor([1.0]), 1, out=torch.empty(1, dtype=torch.int64))
    with pytest.raises(RuntimeError, match=r"functions with out=\.\.\. arguments don't support automatic differentiation"):
        torch.add(leaf(1.0), 1, out=torch.empty(1, dtype=torch.float64))


@pytest.mark.parametrize("layout", ["strided", "reversed", "transposed", "broadcast", "scalar", "empty"])
def test_three_operands_in_every_layout(layout):
    base = np.arange(24.0).reshape(4, 6) / 7 - 1
    array = {"strided": base[:, ::2], "reversed": base[::-1], "transposed": base.T, "broadcast": base[:, :1],
             "scalar": base[0, 0], "empty": base[:0]}[layout]
    x = torch.from_numpy(np.array(base))
    view = {"strided": lambda: x[:, ::2], "reversed": lambda: x.flip(0), "transposed": lambda: x.T,
            "broadcast": lambda: x[:, :1],
            "scalar": lambda: x[0, 0], "empty": lambda: x[:0]}[layout]()
    other = torch.linspace(-1, 1, view.shape[-1] if view.dim() else 3, dtype=torch.float64)
    numbers = other.numpy()
    np.testing.assert_array_equal(torch.where(view > 0, view, other).numpy(), np.where(array > 0, array, numbers))
    np.testing.assert_allclose(torch.lerp(view, other, 0.25).numpy(), array + 0.25 * (numbers - array), rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(torch.addcmul(view, other, other, value=2).numpy(), array + 2 * numbers * numbers, rtol=1e-14)


def test_large_operands_take_the_threaded_path():
    n = 200_000
    x = torch.arange(n, dtype=torch.float64).requires_grad_()
    y = torch.where(x > 5, x ** 2, x * 0) + x.clamp(0, 10) + x % 7
    reference = np.arange(n, dtype=np.float64)
    expected = np.where(reference > 5, reference ** 2, 0) + np.clip(reference, 0, 10) + reference % 7
    np.testing.assert_array_equal(y.detach().numpy(), expected)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.where(reference > 5, 2 * reference, 0) + (reference <= 10) + 1)
    assert node(2 - x) == "RsubBackward1" and node(x % 7) == "RemainderBackward0"


# --- complex numbers --------------------------------------------------------------------------------------------------

def test_complex_gradients_are_conjugate_wirtinger():
    """For L = |f(z)|**2 and holomorphic f the gradient is 2 f conj(f'), and that of Re is conj(f')."""
    z = torch.tensor([0.3 + 0.4j, -1.0 + 0.5j], dtype=torch.complex128, requires_grad=True)
    v = np.array([0.3 + 0.4j, -1.0 + 0.5j])
    for f, value, slope in ((torch.exp, np.exp, np.exp), (lambda t: t ** 3, lambda t: t ** 3, lambda t: 3 * t * t),
                            (lambda t: 1 / t, lambda t: 1 / t, lambda t: -1 / t ** 2)):
        (g,) = torch.autograd.grad((f(z).abs() ** 2).sum(), z)
        np.testing.assert_allclose(g.tolist(), 2 * value(v) * np.conj(slope(v)), rtol=1e-13)
        (g,) = torch.autograd.grad(f(z).sum().real, z)
        np.testing.assert_allclose(g.tolist(), np.conj(slope(v)), rtol=1e-13)


def test_complex_functions_that_are_not_holomorphic():
    v = np.array([0.3 + 0.4j, -1.0 + 0.5j])
    for f, reference in ((torch.abs, np.abs), (torch.angle, np.angle),
                         (lambda t: torch.sgn(t).imag, lambda t: (t / np.abs(t)).imag),
                         (lambda t: torch.conj(t).imag, lambda t: -t.imag),
                         (lambda t: t.real * t.imag, lambda t: t.real * t.imag)):
        z = torch.tensor(v.tolist(), dtype=torch.complex128, requires_grad=True)
        np.testing.assert_allclose(f(z).tolist(), reference(v), rtol=1e-15)
        f(z).sum().backward()
        h = 1e-6
        across, up = reference(v + h) - reference(v - h), reference(v + 1j * h) - reference(v - 1j * h)
        np.testing.assert_allclose(z.grad.tolist(), (across + 1j * up) / (2 * h), rtol=1e-8, atol=1e-8)
    zero = torch.tensor([0j], dtype=torch.complex128, requires_grad=True)
    assert grads(zero.abs() + zero.angle(), zero) == [[0j]]


def test_parts_are_views():
    z = torch.tensor([1 + 2j, 3 - 1j])
    z.real.fill_(5)
    z.imag[0] = 7
    assert z.tolist() == [5 + 7j, 5 - 1j]
    z.imag = torch.tensor([0.0, 1.0])
    assert z.tolist() == [5 + 0j, 5 + 1j]
    x, y = leaf(1.0, 2.0), leaf(0.5, -1.0)
    made = torch.complex(x, y)
    assert made.dtype is torch.complex128 and node(made) == "ComplexBackward0"
    assert grads((made * (2 + 1j)).real, x, y) == [[2.0, 2.0], [-1.0, -1.0]]
    assert torch.conj(x) is x and torch.real(x) is x
    np.testing.assert_allclose(torch.polar(x, y).tolist(), [np.exp(0.5j), 2 * np.exp(-1j)], rtol=1e-15)


def test_complex_division_by_zero_gives_infinities():
    quotient = (torch.tensor([1 + 1j, -1 + 0j]) / torch.tensor([0j, 0j])).tolist()
    assert quotient[0] == complex(inf, inf) and quotient[1].real == -inf
    huge = torch.tensor([1e38 + 1e38j])
    assert (huge / huge).tolist() == [1 + 0j]       # no overflow on the way


# --- rounding and single elements -------------------------------------------------------------------------------------

def test_rounding_modes():
    x = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], dtype=torch.float64)
    assert x.round().tolist() == [-2.0, -2.0, -0.0, 0.0, 2.0, 2.0]
    assert x.trunc().tolist() == [-2.0, -1.0, -0.0, 0.0, 1.0, 2.0]
    assert torch.round(torch.tensor([1.234, 5.678], dtype=torch.float64), decimals=2).tolist() == [1.23, 5.68]
    assert torch.round(torch.tensor([1234.0, 5678.0], dtype=torch.float64), decimals=-2).tolist() == [1200.0, 5700.0]
    assert torch.tensor([1, 2]).floor().dtype is torch.int64
    y = leaf(0.3, 1.7)
    assert grads(y.round() + y.floor() + y.frac(), y) == [[1.0, 1.0]]


def test_floats_to_narrow_integers_wrap_and_never_trap():
    x = torch.tensor([1.9, -1.9, 300.0, -1.0, nan, inf, -inf])
    got = x.to(torch.uint8).tolist()
    assert got[:4] == [1, 255, 44, 255]
    assert x[:4].to(torch.int8).tolist() == [1, -1, 44, -1]
    assert len(x.to(torch.int16).tolist()) == 7


def test_nan_to_num():
    x = leaf(nan, inf, -inf, 2.0, dtype=torch.float32)
    largest = torch.finfo(torch.float32).max
    assert torch.nan_to_num(x).tolist() == [0.0, largest, -largest, 2.0]
    result = torch.nan_to_num(x, nan=1.0, posinf=3.0, neginf=4.0)
    assert result.tolist() == [1.0, 3.0, 4.0, 2.0] and node(result) == "NanToNumBackward0"
    assert grads(result, x) == [[0.0, 0.0, 0.0, 1.0]]
    assert torch.nan_to_num(torch.tensor([3])).tolist() == [3]


def test_shifts_beyond_the_width():
    i = torch.tensor([5, -5])
    assert (i << 70).tolist() == [0, 0] and (i >> 70).tolist() == [0, -1] and (i >> -1).tolist() == [0, -1]
    assert (i >> 1).tolist() == [2, -3] and (torch.tensor([1], dtype=torch.int32) << 40).tolist() == [0]


def test_xlogy_at_zero():
    x, y = leaf(0.0, 0.0, 2.0), leaf(0.0, nan, 3.0)
    result = torch.xlogy(x, y)
    assert result.tolist()[0] == 0.0 and math.isnan(result.tolist()[1])
    gx, gy = grads(result, x, y)
    assert gx[0] == gy[0] == 0.0 and gx[2] == pytest.approx(math.log(3.0)) and gy[2] == pytest.approx(2 / 3)


def test_sinc_is_smooth_at_zero():
    x = leaf(0.0, 1e-9, 0.05, 0.2)
    (g,) = torch.autograd.grad(torch.sinc(x).sum(), x, create_graph=True)
    (h,) = torch.autograd.grad(g.sum(), x)
    v = np.array([0.0, 1e-9, 0.05, 0.2])
    u = np.pi * v
    slope = np.pi * (-u / 3 + u ** 3 / 30 - u ** 5 / 840 + u ** 7 / 45360 - u ** 9 / 3991680 + u ** 11 / 518918400)
    curve = np.pi ** 2 * (-1 / 3 + u ** 2 / 10 - u ** 4 / 168 + u ** 6 / 6480 - u ** 8 / 443520 + u ** 10 / 47174400)
    np.testing.assert_allclose(g.tolist(), slope, rtol=1e-10, atol=1e-300)
    np.testing.assert_allclose(h.tolist(), curve, rtol=1e-8)


def test_polygamma():
    x = torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64)
    np.testing.assert_allclose(torch.polygamma(1, x).tolist(),
                               [math.pi ** 2 / 2, math.pi ** 2 / 6, math.pi ** 2 / 6 - 49 / 36], rtol=1e-14)
    np.testing.assert_allclose(torch.polygamma(2, x[1:2]).tolist(), [-2 * 1.2020569031595942], rtol=1e-14)


# --- comparing tensors ------------------------------------------------------------------------------------------------

def test_isclose_allclose_equal():
    x = torch.tensor([1.0, inf, nan, 1e-9])
    y = torch.tensor([1.0 + 1e-6, inf, nan, 0.0])
    assert torch.isclose(x, y).tolist() == [True, True, False, True]
    assert torch.isclose(x, y, equal_nan=True).tolist() == [True, True, True, True]
    assert not torch.allclose(x, y) and torch.allclose(x, y, equal_nan=True)
    assert torch.isclose(torch.tensor([inf]), torch.tensor([-inf])).tolist() == [False]
    assert torch.isclose(torch.tensor([10, 12]), torch.tensor([11, 12]), rtol=0.1).tolist() == [True, True]
    assert torch.isclose(torch.tensor([1 + 1j]), torch.tensor([1 + 1.0000001j])).tolist() == [True]
    assert torch.equal(F, F.double()) and not torch.equal(F, F[:1]) and not torch.equal(x, x)
    assert torch.is_same_size(F, I) and not F.is_same_size(F[:1])
    assert torch.is_nonzero(torch.tensor([2])) and not torch.is_nonzero(torch.tensor(0.0))


def test_masked_fill_takes_a_tensor_value():
    x, value = leaf(1.0, 2.0), torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True, False], [True, True]])
    result = x.masked_fill(mask, value)
    assert result.tolist() == [[5.0, 2.0], [5.0, 5.0]] and node(result) == "MaskedFillBackward1"
    assert grads(result, x, value) == [[0.0, 1.0], 3.0]
    assert node(x.masked_fill(mask[0], 0)) == "MaskedFillBackward0"


# --- kernels ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["sigmoid", "relu", "where", "lerp", "remainder"])
def test_float32_kernels_stay_in_32_bits(name):
    """No double-precision arithmetic in the vector code of a float32 kernel (its scalar functions' numbers are weak)."""
    from kernels import lowering
    from kernels.cpu import compiler, lean, maps
    program = maps.forward_program(BOOK[name], "float32")
    lowering.register()
    space = compiler._namespace(program)
    exec(program.source, space)
    kernel, signature = lean.function(space["kernel"]), compiler.SIGNATURES[program.entry]
    lean.object_code(kernel, signature, f"looked_at_{name}")
    text = str(kernel.overloads[signature.args].library._final_module)
    assert re.search(r"<\d+ x float>", text), "the loop was not vectorised"
    arithmetic = [line for line in text.splitlines() if re.search(r"= (fadd|fsub|fmul|fdiv|fcmp \w+) <\d+ x double>", line)]
    assert not arithmetic, arithmetic[:3]
