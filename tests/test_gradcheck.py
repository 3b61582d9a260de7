"""gradcheck and gradgradcheck: they pass right derivatives, and name wrong ones."""
import pytest

import engine as torch

CHECK, CHECK_TWICE = torch.autograd.gradcheck, torch.autograd.gradgradcheck


def points(*values, dtype=torch.float64):
    return torch.tensor(list(values), dtype=dtype, requires_grad=True)


def function(backward, forward=lambda ctx, x: x * 2):
    methods = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    return type("Wrong", (torch.autograd.Function,), methods).apply


@pytest.mark.parametrize("f", [
    lambda x, y: x * y, lambda x, y: (x / y, torch.exp(x)), lambda x, y: (x * x).sum() + y[0],
    lambda x, y: torch.stack([x, y]).sum(0),
    lambda x, y: (x * 1).mul_(y), lambda x, y: x[1:] * y[:1],
])
def test_right_derivatives_pass(f):
    x, y = points(0.5, 1.5), points(2.0, -1.0)
    assert CHECK(f, (x, y)) and CHECK_TWICE(f, (x, y)) and x.grad is None
    assert CHECK(f, (x, y), check_batched_grad=True, fast_mode=True)


def test_complex_inputs_and_outputs():
    z, r = torch.tensor([1 + 2j, 0.5 - 1j], dtype=torch.complex128, requires_grad=True), points(2.0, 3.0)
    for f in (lambda z, r: z * r, lambda z, r: z * z.conj(), lambda z, r: (z * r).real, lambda z, r: z / (r + 1j)):
        assert CHECK(f, (z, r)) and CHECK_TWICE(f, (z, r))


def test_a_wrong_gradient_shows_both_jacobians():
    wrong = function(lambda ctx, g: g * 2.02)
    with pytest.raises(torch.autograd.GradcheckError,
                       match=r"Jacobian mismatch for output 0 with respect to input 0,\nnumerical:tensor\(\[\[2\.00") as caught:
        CHECK(wrong, (points(1.0, 2.0),))
    assert "analytical:tensor([[2.0200" in str(caught.value) and isinstance(caught.value, RuntimeError)
    assert CHECK(wrong, (points(1.0, 2.0),), raise_exception=False) is False
    assert CHECK(wrong, (points(1.0, 2.0),), rtol=0.05)


def test_a_wrong_complex_gradient_names_the_part():
    wrong = function(lambda ctx, g: g * 2j, lambda ctx, z: z * 2j)          # forgets the conjugate
    z = torch.tensor([1 + 2j], dtype=torch.complex128, requires_grad=True)
    with pytest.raises(torch.autograd.GradcheckError, match="While considering the real part of complex outputs only"):
        CHECK(wrong, (z,))


def test_a_wrong_second_derivative_is_caught():
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x ** 3

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * 3 * x.detach() ** 2                  # right value, but its own derivative is cut
    x = points(1.0, 2.0)
    assert CHECK(Cube.apply, (x,))
    with pytest.raises(torch.autograd.GradcheckError, match="Jacobian mismatch"):
        CHECK_TWICE(Cube.apply, (x,))


def test_backward_must_use_the_cotangent():
    with pytest.raises(torch.autograd.GradcheckError, match=r"backward not multiplied by grad_output|Jacobian mismatch"):
        CHECK(function(lambda ctx, g: torch.ones(1, dtype=torch.float64) * 2), (points(1.0),))


def test_backward_must_repeat_itself():
    calls = []

    def backward(ctx, g):
        calls.append(1)
        return g * (2 + 1e-7 * len(calls))
    with pytest.raises(torch.autograd.GradcheckError, match="Backward is not reentrant"):
        CHECK(function(backward), (points(1.0),))
    assert CHECK(function(backward), (points(1.0),), nondet_tol=1e-3)


def test_missing_cotangents_must_be_accepted():
    def forward(ctx, x):
        ctx.set_materialize_grads(False)
        return x * 2, x * 3

    def careless(ctx, a, b):
        return a * 2 + b * 3
    with pytest.raises((torch.autograd.GradcheckError, TypeError)):
        CHECK(function(careless, forward), (points(1.0),))

    def careful(ctx, a, b):
        return (0 if a is None else a * 2) + (0 if b is None else b * 3)
    assert CHECK(function(careful, forward), (points(1.0),))


def test_a_hidden_dependence_is_caught():
    with pytest.raises(torch.autograd.GradcheckError, match="Numerical gradient for function expected to be zero"):
        CHECK(lambda x: x.detach() * 2, (points(1.0),))
    assert CHECK(lambda x: torch.ones(2), (points(1.0),))


def test_unsuitable_inputs():
    with pytest.raises(ValueError, match="gradcheck expects at least one input tensor to require gradient"):
        CHECK(lambda x: x, (torch.ones(2, dtype=torch.float64),))
    with pytest.warns(UserWarning, match="Input #0 requires gradient and is not a double precision floating point or complex"):
        CHECK(lambda x: x * 2, (points(1.0, dtype=torch.float32),), eps=1e-2, atol=1e-2)
    expanded = torch.ones(1, dtype=torch.float64).expand(3).requires_grad_()
    with pytest.raises(RuntimeError, match="The 0th input has a dimension with stride 0"):
        CHECK(lambda x: x * 2, (expanded,))
    with pytest.raises(NotImplementedError, match="forward-mode"):
        CHECK(lambda x: x, (points(1.0),), check_forward_ad=True)
    with pytest.raises(AssertionError, match="at least one of check_forward_ad or check_backward_ad"):
        CHECK(lambda x: x, (points(1.0),), check_backward_ad=False)


def test_what_reaches_the_input_another_way_varies_with_it():
    """A closure, a module's parameter, the same tensor at two places: the input itself is varied, and left as it was."""
    x, weight = points(0.5, 1.5), points(2.0, -1.0)
    assert CHECK(lambda w: (x * weight).sum(), (weight,)) and CHECK_TWICE(lambda a: a * x * weight, (x,))
    assert CHECK(lambda a, b: a * b, (x, x))
    layer = torch.nn.Linear(2, 1, dtype=torch.float64)
    assert CHECK(lambda *parameters: layer(x.detach()), tuple(layer.parameters()))
    scaled = points(1.0, 2.0)
    assert CHECK(lambda a: a.t() * 1 if a.ndim == 2 else a[:], (scaled,)) and scaled.tolist() == [1.0, 2.0]
    with pytest.raises(torch.autograd.GradcheckError, match="expected to be zero"):
        CHECK(lambda a: a.detach() * 2, (scaled,))
    with pytest.raises(torch.autograd.GradcheckError, match="Jacobian mismatch"):
        CHECK(lambda a: a * scaled.detach(), (scaled,))
    assert x.tolist() == [0.5, 1.5] and x.grad is None and x._version == scaled._version == 0
