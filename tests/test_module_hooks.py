"""Hooks of modules: forward, backward, state dicts, registration; of one module and of all."""
from collections import OrderedDict

import pytest

import engine
from engine import nn
from engine.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_forward_hook,
    register_module_forward_pre_hook,
    register_module_full_backward_hook,
    register_module_full_backward_pre_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)


class Twice(nn.Module):
    def forward(self, x, y=None, k=1):
        return x * 2 * k if y is None else (x * 2, y * 3)


class Fails(nn.Module):
    def forward(self, x):
        raise ValueError("failed")


def leaf():
    return engine.ones(2, requires_grad=True)


def test_forward_hooks_in_order():
    t, seen = Twice(), []
    t.register_forward_pre_hook(lambda m, args: seen.append("second"))
    t.register_forward_pre_hook(lambda m, args: (seen.append("first"), args[0] * 10)[1], prepend=True)
    t.register_forward_pre_hook(lambda m, args, kwargs: (args, {"k": 3}), with_kwargs=True)
    t.register_forward_hook(lambda m, args, out: seen.append(("after", args[0].tolist(), out.tolist())))
    last = t.register_forward_hook(lambda m, args, out: out + 1, prepend=True)
    t.register_forward_hook(lambda m, args, kwargs, out: seen.append(kwargs), with_kwargs=True)
    assert t(engine.ones(2)).tolist() == [61, 61]
    assert seen == ["first", "second", ("after", [10, 10], [61, 61]), {"k": 3}]
    last.remove()
    last.remove()
    assert t(engine.ones(2)).tolist() == [60, 60]
    with t.register_forward_hook(lambda m, args, out: out * 0):
        assert t(engine.ones(2)).tolist() == [0, 0]
    assert t(engine.ones(2)).tolist() == [60, 60]


def test_pre_hook_with_keywords_returns_both():
    t = Twice()
    t.register_forward_pre_hook(lambda m, args, kwargs: 3, with_kwargs=True)
    with pytest.raises(RuntimeError, match=r"forward pre-hook must return None or a tuple of \(new_args, new_kwargs\), but got 3"):
        t(engine.ones(1))


def test_hooks_that_are_always_called():
    t, seen = Fails(), []
    t.register_forward_hook(lambda m, args, out: seen.append("no"))
    t.register_forward_hook(lambda m, args, out: seen.append(out), always_call=True)
    with pytest.raises(ValueError, match="failed"):
        t(1)
    assert seen == [None]

    def broken(m, args, out):
        raise KeyError("inner")
    t.register_forward_hook(broken, always_call=True)
    with pytest.raises(ValueError, match="failed"), pytest.warns(UserWarning, match="silenced as another error was raised"):
        t(1)


def test_full_backward_hooks():
    t, seen, x, y = Twice(), [], leaf(), leaf()
    t.register_full_backward_hook(lambda m, grad_in, grad_out: seen.append((grad_in, grad_out)))
    first, second = t(x, y)
    (first + second).sum().backward()
    (grad_in, grad_out), = seen
    assert [g.tolist() for g in grad_in] == [[2, 2], [3, 3]] == [x.grad.tolist(), y.grad.tolist()]
    assert [g.tolist() for g in grad_out] == [[1, 1], [1, 1]]
    assert type(first.grad_fn).__name__ == "BackwardHookFunctionBackward"
    with pytest.raises(RuntimeError, match=r"is a view and is being modified inplace|view"):
        t(leaf()).mul_(2)


def test_backward_hooks_change_gradients():
    t, x = Twice(), leaf()
    t.register_full_backward_hook(lambda m, grad_in, grad_out: (grad_in[0] * 5,))
    t.register_full_backward_pre_hook(lambda m, grad_out: (grad_out[0] * 7,))
    t(x).sum().backward()
    assert x.grad.tolist() == [70, 70]


def test_backward_hooks_see_what_takes_no_part():
    t, seen = Twice(), []
    t.register_full_backward_hook(lambda m, grad_in, grad_out: seen.append((grad_in, grad_out)))
    first, _ = t(leaf(), engine.ones(2))            # the second argument needs no gradient, the second result is not used
    first.sum().backward()
    (one, two), (g, nothing) = seen[0]
    assert one.tolist() == [2, 2] and two.tolist() == [0, 0] and g.tolist() == [1, 1] and nothing is None
    layer = nn.Linear(2, 1)
    layer.register_full_backward_hook(lambda m, grad_in, grad_out: seen.append(grad_in))
    with pytest.warns(UserWarning, match="Full backward hook is firing when gradients are computed with respect to module outputs"):
        layer(engine.ones(1, 2)).sum().backward()
    assert seen[1] == (None,) and layer.weight.grad.tolist() == [[1, 1]]
    with engine.no_grad():
        assert t(leaf()).grad_fn is None


@pytest.mark.parametrize("register, hook, words", [
    ("register_full_backward_hook", lambda m, a, b: (a[0], a[0]), "invalid number of grad_input, got 2, but expected 1"),
    ("register_full_backward_pre_hook", lambda m, a: (a[0], a[0]), "invalid number of grad_output, got 2, but expected 1"),
])
def test_backward_hooks_return_as_many(register, hook, words):
    t = Twice()
    getattr(t, register)(hook)
    with pytest.raises(RuntimeError, match=words):
        t(leaf()).sum().backward()


def test_older_backward_hooks():
    t, seen, x = Twice(), [], leaf()
    t.register_backward_hook(lambda m, grad_in, grad_out: seen.append((m, grad_out[0].tolist())))
    t(x).sum().backward()
    assert seen == [(t, [1, 1])] and x.grad.tolist() == [2, 2]
    with pytest.raises(RuntimeError, match="Cannot use both regular backward hooks and full backward hooks on a single Module"):
        t.register_full_backward_hook(print)
    other = Twice()
    other.register_full_backward_hook(print)
    with pytest.raises(RuntimeError, match="Cannot use both regular backward hooks"):
        other.register_backward_hook(print)
    listed = Twice()
    listed.register_full_backward_hook(lambda *a: None)
    listed.register_forward_hook(lambda m, args, out: [out])
    with pytest.warns(UserWarning, match="module output should be a Tensor or a tuple of Tensors but received <class 'list'>"):
        listed(leaf())


def test_hooks_of_all_modules():
    seen = []
    handles = [register_module_forward_pre_hook(lambda m, args: seen.append("before")),
               register_module_forward_hook(lambda m, args, kwargs, out: seen.append(kwargs), with_kwargs=True),
               register_module_full_backward_pre_hook(lambda m, g: seen.append("in")),
               register_module_full_backward_hook(lambda m, a, b: seen.append("out"))]
    try:
        Twice()(leaf(), k=2).sum().backward()
    finally:
        for handle in handles:
            handle.remove()
    assert seen == ["before", {"k": 2}, "in", "out"]
    Twice()(leaf()).sum().backward()
    assert len(seen) == 4


def test_hooks_of_registration():
    seen = []
    handles = [register_module_parameter_registration_hook(lambda m, name, p: seen.append(name)),
               register_module_buffer_registration_hook(lambda m, name, b: b + 1),
               register_module_module_registration_hook(lambda m, name, module: seen.append((name, type(module).__name__)))]
    try:
        m = nn.Module()
        m.p = nn.Parameter(engine.ones(1))
        m.register_buffer("b", engine.ones(1))
        m.child = nn.Identity()
        m.add_module("none", None)
    finally:
        for handle in handles:
            handle.remove()
    assert seen == ["p", ("child", "Identity"), ("none", "NoneType")] and m.b.item() == 2


def test_hooks_of_state_dicts():
    m, seen = nn.Linear(1, 1), []
    m.register_state_dict_pre_hook(lambda module, prefix, keep: seen.append((prefix, keep)))
    m.register_state_dict_post_hook(lambda module, state, prefix, about: state.update(extra=about["version"]))
    assert list(m.state_dict()) == ["weight", "bias", "extra"] and seen == [("", False)]
    older = nn.Linear(1, 1)
    older._register_state_dict_hook(lambda module, state, prefix, about: OrderedDict(only=1))
    assert older.state_dict() == {"only": 1}
    wrong = nn.Linear(1, 1)
    wrong.register_state_dict_post_hook(lambda *a: 3)
    with pytest.raises(RuntimeError, match="state_dict post-hook must return None"):
        wrong.state_dict()
    used = wrong._state_dict_hooks.popitem()[1]
    with pytest.raises(RuntimeError, match="Cannot register the same function as the state dict post hook"):
        wrong._register_state_dict_hook(used)


def test_hooks_of_loading():
    m, seen = nn.Linear(1, 1), []

    def rename(module, state, prefix, *rest):
        state["weight"], state["bias"] = state.pop("w"), engine.ones(1)
        seen.append(module)
    m.register_load_state_dict_pre_hook(rename)
    m.register_load_state_dict_post_hook(lambda module, keys: seen.append(keys.missing_keys))
    given = {"w": engine.full((1, 1), 5.0)}
    m.load_state_dict(given)
    assert seen == [m, []] and m.weight.item() == 5 and list(given) == ["w"]
    forgiving = nn.Linear(1, 1)
    forgiving.register_load_state_dict_post_hook(lambda module, keys: keys.missing_keys.clear())
    forgiving.load_state_dict({})
    wrong = nn.Linear(1, 1)
    wrong.register_load_state_dict_post_hook(lambda *a: 3)
    with pytest.raises(AssertionError, match="are not expected to return new values"):
        wrong.load_state_dict(wrong.state_dict())
