"""Custom functions: what ctx offers, several results, inputs returned and written, double backward, PyTorch's error texts."""
import warnings

import pytest

import engine as torch
from engine.autograd.function import once_differentiable


def leaf(*values):
    return torch.tensor(list(values), dtype=torch.float64, requires_grad=True)


def function(backward=None, forward=lambda ctx, x: x * 2, **more):
    methods = {"forward": staticmethod(forward), **{k: staticmethod(f) for k, f in more.items()}}
    if backward is not None:
        methods["backward"] = staticmethod(backward)
    return type("Cube", (torch.autograd.Function,), methods)


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x ** 3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * 3 * x ** 2


class Exp(torch.autograd.Function):
    """Keeps its own result, without ctx in forward."""

    @staticmethod
    def forward(x, scale=1.0):
        return torch.exp(x) * scale

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.scale = inputs[1]
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * y, None


def test_values_names_and_gradients():
    x = leaf(2.0)
    y = Cube.apply(x)
    assert type(y.grad_fn).__name__ == "CubeBackward" == y.grad_fn.name() and y.grad_fn.needs_input_grad == (True,)
    assert type(y.grad_fn.next_functions[0][0]).__name__ == "AccumulateGrad" and "CubeBackward" in repr(y)
    y.backward(torch.ones(1, dtype=torch.float64))
    assert x.grad.tolist() == [12] and not Cube.apply(torch.ones(2)).requires_grad
    with torch.no_grad():
        assert not Cube.apply(x).requires_grad


def test_derivatives_of_derivatives():
    x = leaf(0.3, -0.5)
    for f in (Cube.apply, lambda x: Exp.apply(x, 2.0), lambda x: Cube.apply(Exp.apply(x, 0.5))):
        assert torch.autograd.gradcheck(f, (x,)) and torch.autograd.gradgradcheck(f, (x,))
    (g,) = torch.autograd.grad(Cube.apply(x).sum(), x, create_graph=True)
    (h,) = torch.autograd.grad(g.sum(), x, create_graph=True)
    (third,) = torch.autograd.grad(h.sum(), x)
    assert third.tolist() == [6, 6]


def test_keywords_and_other_arguments():
    x = leaf(1.0)
    y = Exp.apply(x=x, scale=3.0)
    assert y.grad_fn.needs_input_grad == (True, False) and y.grad_fn.scale == 3.0
    scaled = function(lambda ctx, g: (None, g * ctx.k, None), lambda ctx, k, x, name: setattr(ctx, "k", k) or x * k)
    scaled.apply(4.0, x, "name").sum().backward()
    assert x.grad.tolist() == [4]


def test_several_results():
    seen = []

    def backward(ctx, a, b):
        seen.append((a.tolist(), b.tolist()))
        return a * 2 + b * 3
    f = function(backward, lambda ctx, x: (x * 2, x * 3)).apply
    x = leaf(1.0)
    a, b = f(x)
    assert a.grad_fn is b.grad_fn and (a.output_nr, b.output_nr) == (0, 1)
    b.sum().backward()
    assert seen == [([0], [1])] and x.grad.tolist() == [3]
    assert torch.autograd.gradcheck(f, (x,))
    gb, gx = torch.autograd.grad(f(x)[1] * 2, [b, x], torch.ones(1, dtype=torch.float64), allow_unused=True)
    assert gb is None and gx.tolist() == [6]


def test_missing_gradients_may_stay_missing():
    seen = []

    def forward(ctx, x):
        ctx.set_materialize_grads(False)
        return x * 2, x * 3

    def backward(ctx, a, b):
        seen.append(a)
        return b * 3
    x = leaf(1.0)
    function(backward, forward).apply(x)[1].sum().backward()
    assert seen == [None] and x.grad.tolist() == [3]


def test_results_without_derivative():
    def forward(ctx, x):
        mask = x > 0
        half = x / 2
        ctx.mark_non_differentiable(half)
        return x * 2, half, mask, "text"

    def backward(ctx, g, half, mask, text):
        assert half.tolist() == [0] and mask.dtype == torch.bool and text is None
        return g * 2
    x = leaf(1.0)
    y, half, mask, text = function(backward, forward).apply(x)
    assert y.requires_grad and not half.requires_grad and not mask.requires_grad and text == "text"
    y.sum().backward()
    assert x.grad.tolist() == [2]


def test_other_results_pass_through():
    for value in (3, None, [1, 2]):
        assert function(lambda ctx, g: g, lambda ctx, x, value=value: value).apply(leaf(1.0)) == value


def test_none_as_gradient_and_none_saved():
    x = leaf(1.0)

    def forward(ctx, x):
        ctx.save_for_backward(None, x)
        return x * 2

    def backward(ctx, g):
        assert ctx.saved_tensors[0] is None
    function(backward, forward).apply(x).sum().backward()
    assert x.grad is None


def test_an_input_returned_is_another_tensor_over_the_same_memory():
    x = leaf(1.0, 2.0)
    y = x * 1
    z = function(lambda ctx, g: g * 5, lambda ctx, x: x).apply(y)
    assert z is not y and z.data_ptr() == y.data_ptr() and z._base is y
    z.sum().backward()
    assert x.grad.tolist() == [5, 5]
    for forward in (lambda ctx, x: x, lambda ctx, x: x[:1]):
        z = function(lambda ctx, g: g, forward).apply(x * 1)
        with pytest.raises(RuntimeError, match=r"Output 0 of Cube is a view and is being modified inplace. This view was "
                                               "created inside a custom Function"):
            z.mul_(2)


class Doubled(torch.autograd.Function):
    """In place."""

    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        x.mul_(2)
        return x

    @staticmethod
    def backward(ctx, g):
        return g * 2


def test_forward_in_place():
    x = leaf(1.0, 2.0, 3.0)
    y = x * 3
    z = Doubled.apply(y)
    assert z is y and type(y.grad_fn).__name__ == "DoubledBackward" and y._version == 1
    base = x * 1
    view = base[1:]
    assert Doubled.apply(view) is view and type(base.grad_fn).__name__ == "CopySlices"
    (z.sum() + (base * torch.tensor([1.0, 10.0, 100.0])).sum()).backward()
    assert x.grad.tolist() == [7, 26, 206]
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad has been used in an in-place operation"):
        Doubled.apply(leaf(1.0))


def dirty_but_not_returned(ctx, x):
    ctx.mark_dirty(x)
    x.mul_(2)
    return x * 2


def test_misuse_of_mark_dirty():
    with pytest.raises(RuntimeError, match="Some elements marked as dirty during the forward method were not returned as "
                                           "output"):
        function(lambda ctx, g: g, dirty_but_not_returned).apply(leaf(1.0) * 1)

    def of_result(ctx, x):
        y = x * 2
        ctx.mark_dirty(y)
        return y
    with pytest.warns(UserWarning, match="received a tensor that was not an input"):
        function(lambda ctx, g: g, of_result).apply(leaf(1.0))


@pytest.mark.parametrize("backward, words", [
    (lambda ctx, g: (g, g), r"function CubeBackward returned an incorrect number of gradients \(expected 1, got 2\)"),
    (lambda ctx, g: (), r"function CubeBackward returned an incorrect number of gradients \(expected 1, got 0\)"),
    (lambda ctx, g: g[:2], r"Function CubeBackward returned an invalid gradient at index 0 - got \[2\] but expected shape "
                           r"compatible with \[3\]"),
    (lambda ctx, g: g[:1], r"got \[1\] but expected shape compatible with \[3\]"),
    (lambda ctx, g: 3.0, r"expected Variable or None \(got float\)"),
    (lambda ctx, g: g * (1 + 2j), "real inputs have real gradients"),
], ids=range(6))
def test_wrong_gradients_are_refused(backward, words):
    x = leaf(1.0, 2.0, 3.0)
    with pytest.raises(RuntimeError, match=words):
        function(backward).apply(x).sum().backward()
    assert x.grad is None and torch.is_grad_enabled()


def test_gradients_are_fitted_where_that_is_safe():
    x = leaf(1.0, 2.0, 3.0)
    for backward in (lambda ctx, g: (g, None, None), lambda ctx, g: g.expand(2, 3) / 2, lambda ctx, g: g.to(torch.float32)):
        x.grad = None
        function(backward).apply(x).sum().backward()
        assert x.grad.tolist() == [1, 1, 1] and x.grad.dtype == torch.float64


def test_a_gradient_for_what_is_no_tensor():
    f = function(lambda ctx, g: (g, g), lambda ctx, x, k: x * k)
    with pytest.raises(RuntimeError, match="function CubeBackward returned a gradient different than None at position 2, "
                                           "but the corresponding forward input was not a Variable"):
        f.apply(leaf(1.0), 2).sum().backward()


def test_saved_tensors_are_guarded():
    x = leaf(1.0)
    y = Cube.apply(x)
    y.sum().backward()
    with pytest.raises(RuntimeError, match="Trying to backward through the graph a second time"):
        _ = y.grad_fn.saved_tensors
    inner = x * 1
    y = Cube.apply(inner)
    inner.add_(1)
    with pytest.raises(RuntimeError, match=r"\[engine.DoubleTensor \[1\]\], which is output 0 of .*, is at version 1; "
                                           r"expected version 0"):
        y.sum().backward()
    y = Exp.apply(x, 1.0)
    y.add_(1)
    with pytest.raises(RuntimeError, match="which is output 0 of Exp, is at version 1; expected version 0 instead"):
        y.sum().backward()
    with pytest.raises(TypeError, match="save_for_backward can only save variables, but argument 0 is of type int"):
        function(lambda ctx, g: g, lambda ctx, x: ctx.save_for_backward(3) or x * 2).apply(x)


def test_missing_and_doubled_methods():
    x = leaf(1.0)
    with pytest.raises(NotImplementedError, match=r"You must implement the forward function for custom autograd.Function"):
        type("Cube", (torch.autograd.Function,), {}).apply(x)
    with pytest.raises(NotImplementedError, match="You must implement either the backward or vjp method"):
        function().apply(x).sum().backward()
    with pytest.raises(RuntimeError, match="Implementing both 'backward' and 'vjp' for a custom Function is not allowed"):
        function(lambda ctx, g: g, vjp=lambda ctx, g: g).apply(x).sum().backward()
    function(vjp=lambda ctx, g: g * 2).apply(x).sum().backward()
    assert x.grad.tolist() == [2]
    with pytest.warns(DeprecationWarning, match="should not be instantiated"):
        made = Cube()
    with pytest.raises(RuntimeError, match="Legacy autograd function with non-static forward method is deprecated"):
        made(x)


def test_once_differentiable():
    f = function(once_differentiable(lambda ctx, g: g * 2)).apply
    x, w = leaf(1.0), leaf(3.0)
    f(x).sum().backward()
    assert x.grad.tolist() == [2]
    (g,) = torch.autograd.grad((f(x) * w).sum(), x, create_graph=True)
    assert g.tolist() == [6] and g.requires_grad
    with pytest.raises(RuntimeError, match="trying to differentiate twice a function that was marked with "
                                           "@once_differentiable"):
        g.sum().backward()


def test_errors_in_forward_and_backward_leave_a_usable_state():
    def fail(ctx, *args):
        raise KeyError("mine")
    x = leaf(1.0)
    with pytest.raises(KeyError, match="mine"):
        function(fail, fail).apply(x)
    assert torch.is_grad_enabled()
    y = function(fail).apply(x) + Cube.apply(x)
    with pytest.raises(KeyError, match="mine"):
        y.sum().backward()
    assert torch.is_grad_enabled() and (x * 2).requires_grad
    Cube.apply(x).sum().backward()
    assert x.grad.tolist() == [3]


def test_backward_may_walk_another_graph():
    def backward(ctx, g):
        with torch.enable_grad():
            t = torch.ones(1, dtype=torch.float64, requires_grad=True)
            (h,) = torch.autograd.grad((t * 5).sum(), t)
        return g * h
    x = leaf(1.0)
    function(backward).apply(x).sum().backward()
    assert x.grad.tolist() == [5]


def test_no_warnings_in_ordinary_use():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = leaf(1.0)
        Cube.apply(Doubled.apply(x * 1)).sum().backward()
    assert x.grad.tolist() == [24]
