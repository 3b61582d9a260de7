"""Hooks on saved tensors, and inference tensors: what may be saved, written and looked at, in PyTorch's words."""
from __future__ import annotations

import numpy as np
import pytest

import engine as torch
from engine.autograd.graph import disable_saved_tensors_hooks, save_on_cpu, saved_tensors_hooks

# --- saved_tensors_hooks ----------------------------------------------------------------------------------------------

OPERATIONS = {
    "pointwise": lambda x: torch.exp(x) * x, "fold": lambda x: x.prod(), "structural": lambda x: torch.cumprod(x, 0),
    "product": lambda x: x @ x, "list": lambda x: torch.cat([x, x * x]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_values_through_hooks_give_the_same_gradients(name):
    function, packed = OPERATIONS[name], []

    def pack(t):
        packed.append(t.shape)
        return t.detach().numpy().copy()
    wanted, gradients = [], []
    for hooked in (False, True):
        x = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
        if hooked:
            with saved_tensors_hooks(pack, torch.from_numpy):
                y = function(x)
        else:
            y = function(x)
        first, = torch.autograd.grad((y * y).sum(), x, create_graph=True)
        second, = torch.autograd.grad(first.sum(), x)
        (gradients if hooked else wanted).extend([first.detach().numpy(), second.numpy()])
    assert packed
    for got, want in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12)


def test_the_innermost_hooks_act_and_only_inside():
    seen = []
    x = torch.ones(2, requires_grad=True)
    with saved_tensors_hooks(lambda t: seen.append("outer") or t, lambda t: t):
        with saved_tensors_hooks(lambda t: seen.append("inner") or t, lambda t: seen.append("unpacked") or t):
            y = x * x
        x * x
    x * x
    assert seen == ["inner", "inner", "outer", "outer"]
    y.sum().backward()
    assert seen[4:] == ["unpacked", "unpacked"]
    np.testing.assert_array_equal(x.grad.numpy(), [2, 2])


def test_a_value_that_is_written_after_it_was_packed_is_not_missed():
    x = torch.ones(2, requires_grad=True)
    with saved_tensors_hooks(lambda t: t.detach().clone(), lambda t: t):
        y = x * x
    with torch.no_grad():
        x.add_(1)
    y.sum().backward()                  # from the packed values: 2 x at x = 1
    np.testing.assert_array_equal(x.grad.numpy(), [2, 2])


def test_hooks_of_a_custom_function():
    class Triple(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a):
            ctx.save_for_backward(a, a * 2)
            return a * 3

        @staticmethod
        def backward(ctx, g):
            a, twice = ctx.saved_tensors
            return g * (twice - a) * 3
    packed = []
    x = torch.tensor([2.0], requires_grad=True)
    with saved_tensors_hooks(lambda t: packed.append(t) or len(packed) - 1, lambda k: packed[k] * 10):
        y = Triple.apply(x)
    y.backward()
    assert len(packed) == 2 and x.grad.item() == 60.0


def test_save_on_cpu_copies():
    x = torch.tensor([3.0], requires_grad=True)
    with save_on_cpu():
        y = x * x
    x.data.fill_(100.0)
    y.backward()
    assert x.grad.item() == 6.0
    with pytest.raises(RuntimeError, match="pin_memory"):
        save_on_cpu(pin_memory=True)


def test_errors_of_hooks():
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="pack hook is modifying its input in place"), \
            saved_tensors_hooks(lambda t: t.add_(1), lambda t: t):
        x * x
    with saved_tensors_hooks(lambda t: t, lambda t: 1):
        y = x * x
    with pytest.raises(TypeError, match="unpack_hook expected to be a Tensor but got result of type int"):
        y.sum().backward()
    with pytest.raises(TypeError, match="callable"), saved_tensors_hooks(1, 2):
        pass
    with disable_saved_tensors_hooks("not here"), pytest.raises(RuntimeError, match="not here"), \
            saved_tensors_hooks(lambda t: t, lambda t: t):
        pass
    x * x


def test_a_graph_with_packed_values_is_freed_after_backward():
    x = torch.ones(2, requires_grad=True)
    with saved_tensors_hooks(lambda t: t, lambda t: t):
        y = torch.cumprod(x * x, 0)
    y.sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.sum().backward()


# --- inference tensors ------------------------------------------------------------------------------------------------

@pytest.fixture
def made():
    with torch.inference_mode():
        return torch.ones(3)


def test_what_is_an_inference_tensor(made):
    normal = torch.ones(3)
    with torch.inference_mode():
        assert (normal + 1).is_inference() and torch.tensor([1.0]).is_inference() and torch.zeros(2).is_inference()
        assert not normal.view(3).is_inference() and not normal.detach().is_inference()
        normal.add_(1)
        made.add_(1)
        with torch.inference_mode(False):
            assert not torch.ones(1).is_inference()
    assert made.is_inference() and made[0].is_inference() and made.view(3).is_inference()
    assert made.detach().is_inference() and made.data.is_inference() and made.contiguous().is_inference()
    assert not (made + 1).is_inference() and not made.clone().is_inference() and not normal.is_inference()
    assert not torch.ones(1).is_inference() and normal._version == 1


def test_inference_tensors_are_not_saved_for_backward(made):
    p = torch.ones(3, requires_grad=True)
    for operation in (lambda: made * p, lambda: torch.dot(made, p), lambda: torch.pow(p, made),
                      lambda: torch.matmul(p, made.view(3, 1))):
        with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
            operation()

    class Keep(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a, b):
            ctx.save_for_backward(b)
            return a * 1

        @staticmethod
        def backward(ctx, g):
            return g, None
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
        Keep.apply(p, made)
    (made + p).sum().backward()
    np.testing.assert_array_equal(p.grad.numpy(), [1, 1, 1])
    (made.clone() * p).sum().backward()


WRITES = {
    "add_": lambda t: t.add_(1), "item": lambda t: t.__setitem__(0, 1.0), "view": lambda t: t[0].mul_(2),
    "mask": lambda t: t.__setitem__(t > 0, 1.0), "rows": lambda t: t.__setitem__(torch.tensor([0]), 1.0),
    "copy_": lambda t: t.copy_(torch.zeros(3)), "exp_": lambda t: t.exp_(), "random": lambda t: t.uniform_(),
    "index_add_": lambda t: t.index_add_(0, torch.tensor([0]), torch.ones(1)), "zero_": lambda t: t.zero_(),
    "out": lambda t: torch.add(torch.ones(3), 1, out=t), "masked_fill_": lambda t: t.masked_fill_(t > 0, 2.0),
    "scatter_": lambda t: t.scatter_(0, torch.tensor([0]), 1.0), "fill_": lambda t: t.fill_(2.0),
}


@pytest.mark.parametrize("name", WRITES)
def test_inference_tensors_are_not_written_outside(made, name):
    with pytest.raises(RuntimeError, match="Inplace update to inference tensor outside InferenceMode is not allowed"):
        WRITES[name](made)
    with torch.inference_mode():
        WRITES[name](made)


def test_versions_and_requires_grad_of_inference_tensors(made):
    with pytest.raises(RuntimeError, match="do not track version counter"):
        made._version  # noqa: B018
    with pytest.raises(RuntimeError, match="Setting requires_grad=True on inference tensor outside InferenceMode"):
        made.requires_grad_()
    made.requires_grad_(False)
    with torch.inference_mode():
        assert torch.ones(2, requires_grad=True).requires_grad and made.requires_grad_().requires_grad
