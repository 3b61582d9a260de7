"""The tape's promises: accumulation, retain_graph, inputs, unused inputs, hooks, modes, threads, complex numbers, errors."""
import threading

import numpy as np
import pytest

import engine as torch
from engine import tape


def leaf(*values, dtype=torch.float64):
    return torch.tensor(list(values), dtype=dtype, requires_grad=True)


# --- accumulation -----------------------------------------------------------------------------------------------------

def test_gradients_accumulate_into_the_same_tensor():
    x = leaf(1.0, 2.0)
    (x * x).sum().backward()
    first = x.grad
    (x * 3).sum().backward()
    assert x.grad is first and first.tolist() == [5, 7]


def test_first_gradients_share_memory_with_nobody():
    x, y, g = leaf(1.0, 2.0), leaf(3.0, 4.0), torch.tensor([1.0, 1.0], dtype=torch.float64)
    seen = []
    z = x + y
    z.register_hook(seen.append)
    z.backward(g)
    addresses = {t.data_ptr() for t in (x.grad, y.grad, g, *seen)}
    assert len(addresses) == 3 and x.grad.data_ptr() != y.grad.data_ptr()
    x.grad.zero_()
    assert y.grad.tolist() == [1, 1] == g.tolist()


def test_a_leaf_as_root_gets_a_copy_of_the_cotangent():
    x, g = leaf(1.0, 2.0), torch.tensor([5.0, 6.0], dtype=torch.float64)
    x.backward(g)
    g.zero_()
    assert x.grad.tolist() == [5, 6]


def test_an_expanded_gradient_becomes_ordinary_memory():
    x = leaf(1.0, 2.0, 3.0)
    x.sum().backward()
    assert x.grad.stride() == (1,) and x.grad.is_contiguous()
    x.grad.add_(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    assert x.grad.tolist() == [2, 3, 4]


def test_create_graph_accumulates_out_of_place():
    x = leaf(2.0)
    (x ** 3).sum().backward(create_graph=True)
    first = x.grad
    (x ** 3).sum().backward(create_graph=True)
    assert first.tolist() == [12] and x.grad.tolist() == [24] and x.grad is not first and x.grad.requires_grad
    x.grad = None


def test_assigning_grad_is_checked():
    x = leaf(1.0, 2.0)
    x.grad = torch.ones(2, dtype=torch.float64)
    (x * 2).sum().backward()
    assert x.grad.tolist() == [3, 3]
    with pytest.raises(TypeError, match="assigned grad expected to be a Tensor or None but got grad of type int"):
        x.grad = 3
    with pytest.raises(RuntimeError, match=r"attempting to assign a gradient of size '\[3\]' to a tensor of size '\[2\]'"):
        x.grad = torch.ones(3, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="attempting to assign a gradient with dtype"):
        x.grad = torch.ones(2, dtype=torch.float32)
    with pytest.raises(RuntimeError, match="can't assign Variable as its own grad"):
        x.grad = x


# --- what is walked ---------------------------------------------------------------------------------------------------

def test_second_backward_is_refused_only_where_values_were_freed():
    x = leaf(1.0, 2.0)
    linear = (x + 1).sum()
    linear.backward()
    linear.backward()
    assert x.grad.tolist() == [2, 2]
    curved = (x * x).sum()
    curved.backward(retain_graph=True)
    curved.backward()
    with pytest.raises(RuntimeError, match="Trying to backward through the graph a second time"):
        curved.backward()
    assert x.grad.tolist() == [6, 10]


def test_inputs_limits_accumulation_to_leaves_and_inner_tensors():
    x, y = leaf(1.0), leaf(2.0)
    inner = x * 3
    (inner * y).sum().backward(inputs=[y, inner])
    assert x.grad is None and y.grad.tolist() == [3]
    inner.retain_grad()
    assert inner.grad.tolist() == [2]
    with pytest.raises(RuntimeError, match="`inputs` argument to `backward\\(\\)` cannot be empty"):
        (x * 2).sum().backward(inputs=[])
    with pytest.raises(RuntimeError, match="can't retain_grad on Tensor that has requires_grad=False"):
        (x * 2).sum().backward(inputs=[torch.ones(1)])


def test_grad_of_unused_inputs():
    x, y = leaf(1.0, 2.0), leaf(3.0)
    with pytest.raises(RuntimeError, match="The differentiated Tensor at index 1 appears to not have been used in the graph"):
        torch.autograd.grad((x * 2).sum(), [x, y])
    gx, gy = torch.autograd.grad((x * 2).sum(), [x, y], allow_unused=True)
    assert gx.tolist() == [2, 2] and gy is None and x.grad is None
    _, gy = torch.autograd.grad((x * 2).sum(), [x, y], materialize_grads=True)
    assert gy.tolist() == [0]
    with pytest.raises(ValueError, match="Expected allow_unused to be True or not passed when materialize_grads=True"):
        torch.autograd.grad(x.sum(), x, allow_unused=False, materialize_grads=True)
    with pytest.raises(RuntimeError, match="One of the differentiated Tensors does not require grad"):
        torch.autograd.grad(x.sum(), torch.ones(1))


def test_grad_of_inner_tensors_and_of_one_result_among_several():
    x = leaf(1.0, 2.0)
    a, b = torch.unbind(x * 3)
    y = a * a + b
    ga, gb, gx = torch.autograd.grad(y, [a, b, x])
    assert (ga.item(), gb.item(), gx.tolist()) == (6, 1, [18, 3])
    again = a + b
    (g,) = torch.autograd.grad(again, [again])
    assert g.item() == 1


def test_grad_runs_only_what_leads_to_the_inputs():
    x, y = leaf(1.0), leaf(2.0)
    called = []
    a, b = x * 2, y * 3
    a.register_hook(lambda g: called.append("a"))
    b.register_hook(lambda g: called.append("b"))
    torch.autograd.grad((a * b).sum(), x)
    assert called == ["a"]


def test_batched_cotangents():
    x = leaf(1.0, 2.0, 3.0)
    (jacobian,) = torch.autograd.grad(x * x, x, torch.eye(3, dtype=torch.float64), is_grads_batched=True)
    np.testing.assert_array_equal(jacobian.numpy(), np.diag([2.0, 4.0, 6.0]))
    with pytest.raises(RuntimeError, match="If `is_grads_batched=True`, we interpret the first dimension"):
        torch.autograd.grad(x * x, x, torch.ones(3, 2, dtype=torch.float64), is_grads_batched=True)


def test_several_roots_meet():
    x = leaf(2.0)
    a, b = x * x, x * 5
    torch.autograd.backward([a, b], [torch.ones(1, dtype=torch.float64), None])
    assert x.grad.tolist() == [9]
    with pytest.raises(RuntimeError, match="got 2 tensors and 1 gradients"):
        torch.autograd.backward([a, b], [None])


def test_derivatives_to_the_fourth_order():
    x = leaf(0.7)
    y = torch.exp(x * 2) * x ** 3
    expected = [lambda t: np.exp(2 * t) * t ** 3]
    h = 1e-4
    for _ in range(4):
        f = expected[-1]
        expected.append(lambda t, f=f: (f(t + h) - f(t - h)) / (2 * h))
    polynomial = [lambda t: t ** 3, lambda t: 2 * t ** 3 + 3 * t ** 2, lambda t: 4 * t ** 3 + 12 * t ** 2 + 6 * t,
                  lambda t: 8 * t ** 3 + 36 * t ** 2 + 36 * t + 6, lambda t: 16 * t ** 3 + 96 * t ** 2 + 144 * t + 48]
    for p in polynomial:
        assert y.item() == pytest.approx(np.exp(1.4) * p(0.7), rel=1e-12)
        (y,) = torch.autograd.grad(y, x, torch.ones(1, dtype=torch.float64), create_graph=True)


@pytest.mark.parametrize("gradient, words", [
    (lambda: torch.ones(3), r"Mismatch in shape: grad_output\[0\] has a shape of engine.Size\(\[3\]\) and output\[0\] has "
                            r"a shape of"),
    (lambda: torch.ones(2) + 1j, "For complex Tensors, both grad_output and output are required to have the same dtype"),
    (lambda: None, "grad can be implicitly created only for scalar outputs"),
])
def test_unfit_cotangents_are_refused(gradient, words):
    with pytest.raises(RuntimeError, match=words):
        (leaf(1.0, 2.0) * 2).backward(gradient())


def test_tensors_without_history_are_refused():
    with pytest.raises(RuntimeError, match="element 0 of tensors does not require grad and does not have a grad_fn"):
        torch.ones(1).backward()
    with pytest.raises(RuntimeError, match=r"grad can be implicitly created only for real scalar outputs but got "
                                           "engine.complex128"):
        (leaf(1.0) * 1j).sum().backward()


def test_cotangents_of_another_real_dtype_are_converted():
    x = leaf(1.0, 2.0)
    (x * 2).backward(torch.ones(2, dtype=torch.float32))
    assert x.grad.dtype == torch.float64


# --- the graph as users see it -----------------------------------------------------------------------------------------

def test_names_edges_and_leaves():
    x = leaf(1.0, 2.0)
    y = x * 2 + x
    add = y.grad_fn
    assert add.name() == "AddBackward0"
    assert [type(n).__name__ for n, _ in add.next_functions] == ["MulBackward0", "AccumulateGrad"]
    held = add.next_functions[1][0]
    assert held.variable is x and add.next_functions[1][0] is held
    assert x.is_leaf and x.grad_fn is None and not y.is_leaf and y.output_nr == 0
    a, b = torch.unbind(y)
    assert a.grad_fn is b.grad_fn and b.output_nr == 1 and (b * 2).grad_fn.next_functions[0] == (b.grad_fn, 1)
    assert (x * torch.ones(2)).grad_fn.next_functions[1] == (None, 0)


def test_gradient_edges_and_versions():
    x = leaf(1.0)
    node, number = torch.autograd.graph.get_gradient_edge(x * 2)
    assert isinstance(node, torch.autograd.graph.Node) and number == 0
    t = torch.ones(2)
    torch.autograd.graph.increment_version(t)
    assert t._version == 1
    with pytest.raises(RuntimeError, match="get the gradient edge for a Tensor that does not require gradients"):
        torch.autograd.graph.get_gradient_edge(t)


def test_requires_grad_rules():
    with pytest.raises(RuntimeError, match="can require gradients"):
        torch.ones(2, dtype=torch.int64).requires_grad_()
    y = leaf(1.0) * 2
    with pytest.raises(RuntimeError, match="you can only change requires_grad flags of leaf variables"):
        y.requires_grad = False
    assert not (leaf(1.0) > 0).requires_grad
    detached = y.detach()
    assert detached.is_leaf and not detached.requires_grad and detached.data_ptr() == y.data_ptr()
    y.detach_()
    assert y.is_leaf and not y.requires_grad
    with pytest.raises(RuntimeError, match="Can't detach views in-place"):
        (leaf(1.0, 2.0) * 2)[0].detach_()


def test_grad_of_an_inner_tensor_warns():
    y = leaf(1.0) * 2
    with pytest.warns(UserWarning, match="is not a leaf Tensor is being accessed"):
        assert y.grad is None


# --- hooks ------------------------------------------------------------------------------------------------------------

def test_tensor_hooks_run_in_order_replace_and_go():
    x = leaf(1.0)
    y = x * 2
    first = y.register_hook(lambda g: g * 10)
    second = y.register_hook(lambda g: g + 1)
    y.sum().backward(retain_graph=True)
    assert x.grad.tolist() == [22]
    first.remove()
    first.remove()
    with second:
        pass
    x.grad = None
    y.sum().backward()
    assert x.grad.tolist() == [2]


def test_leaf_hooks_see_the_whole_gradient_once():
    x, seen = leaf(1.0), []
    x.register_hook(lambda g: seen.append(g.item()))
    (x * 2 + x * 3).sum().backward()
    assert seen == [5] and x.grad.tolist() == [5]
    (g,) = torch.autograd.grad((x * 7).sum(), x)
    assert seen == [5, 7] and g.item() == 7


def test_retained_gradients_come_after_hooks_and_accumulate():
    x = leaf(1.0)
    y = x * 2
    y.retain_grad()
    y.register_hook(lambda g: g * 3)
    (y * 5).sum().backward(retain_graph=True)
    (y * 5).sum().backward()
    assert y.grad.tolist() == [30] and y.retains_grad and not x.retains_grad
    with pytest.raises(RuntimeError, match="can't retain_grad on Tensor that has requires_grad=False"):
        torch.ones(1).retain_grad()


def test_node_hooks():
    x, seen = leaf(1.0), []
    y = x * 2
    y.grad_fn.register_prehook(lambda gs: (gs[0] * 2,))

    def after(inputs, outputs):
        seen.append((inputs[0].item(), inputs[1], outputs[0].item()))
        return inputs[0] * 3, None
    y.grad_fn.register_hook(after)
    y.sum().backward()
    assert seen == [(4, None, 2)] and x.grad.tolist() == [12]


def test_hooks_of_accumulation():
    x, seen = leaf(1.0), []
    y = x * 2
    node = y.grad_fn.next_functions[0][0]
    node.register_prehook(lambda gs: seen.append(("before", x.grad)))
    node.register_hook(lambda gi, go: seen.append(("after", x.grad.item(), gi, go[0].item())))
    handle = x.register_post_accumulate_grad_hook(lambda t: seen.append(("accumulated", t.grad.item())))
    x.register_hook(lambda g: seen.append(("tensor", g.item())))
    y.sum().backward()
    assert seen == [("tensor", 2), ("before", None), ("accumulated", 2), ("after", 2, (), 2)]
    handle.remove()
    with pytest.raises(RuntimeError, match="post accumulate grad hooks cannot be registered on non-leaf tensors"):
        y.register_post_accumulate_grad_hook(print)
    with pytest.raises(RuntimeError, match="cannot register a hook on a tensor that doesn't require gradient"):
        torch.ones(1).register_post_accumulate_grad_hook(print)


@pytest.mark.parametrize("answer, error, words", [
    (lambda g: g[:1], RuntimeError, "hook '<lambda>' has changed the size of value"),
    (lambda g: g.to(torch.float32), RuntimeError, r"has changed the type of value \(was engine.DoubleTensor got "
                                                  r"engine.FloatTensor\)"),
    (lambda g: 3, TypeError, "expected Variable, but hook returned 'int'"),
])
def test_unfit_answers_of_hooks_are_refused(answer, error, words):
    x = leaf(1.0, 2.0)
    y = x * 2
    y.register_hook(answer)
    with pytest.raises(error, match=words):
        y.sum().backward()


def test_an_error_in_a_hook_leaves_everything_usable():
    x = leaf(1.0)
    y = x * x

    def fail(g):
        raise KeyError("mine")
    handle = y.register_hook(fail)
    with pytest.raises(KeyError, match="mine"):
        y.sum().backward()
    assert torch.is_grad_enabled() and x.grad is None
    handle.remove()
    y.sum().backward()
    assert x.grad.tolist() == [2]
    with pytest.raises(TypeError, match="a hook must be callable"):
        y.register_hook(3)


# --- modes ------------------------------------------------------------------------------------------------------------

def test_modes_nest_and_come_back_after_errors():
    assert torch.is_grad_enabled()
    with pytest.raises(KeyError), torch.no_grad():
        with torch.enable_grad():
            assert torch.is_grad_enabled()
        assert not torch.is_grad_enabled()
        raise KeyError
    assert torch.is_grad_enabled()


def test_modes_as_decorators_of_functions_and_generators():
    @torch.no_grad()
    def plain(a, b=1):
        return torch.is_grad_enabled(), a + b

    @torch.no_grad
    def bare():
        return torch.is_grad_enabled()

    @torch.no_grad()
    def steps():
        got = yield torch.is_grad_enabled()
        try:
            yield got, torch.is_grad_enabled()
        except ValueError:
            yield "caught"
        return torch.is_grad_enabled()
    assert plain(2, b=3) == (False, 5) and plain.__name__ == "plain" and bare() is False
    generator = steps()
    assert next(generator) is False and torch.is_grad_enabled()
    assert generator.send(7) == (7, False) and torch.is_grad_enabled()
    assert generator.throw(ValueError) == "caught"
    with pytest.raises(StopIteration) as end:
        next(generator)
    assert end.value.value is False and torch.is_grad_enabled()


def test_set_grad_enabled_in_its_three_forms():
    torch.set_grad_enabled(False)
    assert not torch.is_grad_enabled()
    torch.set_grad_enabled(True)
    with torch.set_grad_enabled(False):
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()

    @torch.set_grad_enabled(False)
    def f():
        return torch.is_grad_enabled()
    assert torch.is_grad_enabled() and f() is False and torch.is_grad_enabled()


def test_inference_mode():
    x = leaf(1.0)
    with torch.inference_mode():
        assert torch.is_inference_mode_enabled() and not (x * 2).requires_grad
        with torch.enable_grad():
            assert not (x * 2).requires_grad
        with torch.inference_mode(False):
            assert not torch.is_inference_mode_enabled() and (x * 2).requires_grad
    assert not torch.is_inference_mode_enabled() and torch.is_grad_enabled()

    @torch.inference_mode()
    def f():
        return torch.is_inference_mode_enabled()
    assert f()


def test_recording_belongs_to_the_thread():
    seen = []
    with torch.no_grad():
        thread = threading.Thread(target=lambda: seen.append(torch.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_threads_share_leaves():
    x = torch.ones(4, dtype=torch.float64, requires_grad=True)
    start = threading.Barrier(4)

    def work():
        start.wait()
        for _ in range(50):
            (x * 2 + x).sum().backward()
    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert x.grad.tolist() == [600] * 4


def test_anomaly_mode_names_the_forward_line():
    x = torch.tensor([-1.0], requires_grad=True)
    with pytest.warns(UserWarning, match="Anomaly Detection has been enabled"), torch.autograd.detect_anomaly():
        y = torch.sqrt(x)  # the culprit
        assert torch.is_anomaly_enabled()
        with pytest.warns(UserWarning, match=r"Error detected in SqrtBackward0[\s\S]*the culprit"), \
                pytest.raises(RuntimeError, match="Function 'SqrtBackward0' returned nan values in its 0th output"):
            y.sum().backward()
    assert not torch.is_anomaly_enabled()
    with torch.autograd.set_detect_anomaly(True, check_nan=False):
        torch.sqrt(x).sum().backward()
    assert np.isnan(x.grad.item()) and type(tape.clock).__name__ == "count"


# --- complex numbers ----------------------------------------------------------------------------------------------------

def test_complex_gradients_are_conjugate_wirtinger_derivatives():
    z = torch.tensor([1 + 2j, 2 - 1j, 3j], dtype=torch.complex128, requires_grad=True)
    r = leaf(1.0, 2.0, 3.0)
    w = r * z
    (w * w.conj()).real.sum().backward()
    zs, rs = z.detach().numpy(), r.detach().numpy()
    np.testing.assert_allclose(z.grad.numpy(), 2 * rs ** 2 * zs)
    np.testing.assert_allclose(r.grad.numpy(), 2 * rs * abs(zs) ** 2)
    assert r.grad.dtype == torch.float64


def test_a_real_leaf_keeps_the_real_part():
    r = leaf(2.0)
    y = r * (3 + 4j)
    (y.real + y.imag).sum().backward()
    assert r.grad.tolist() == [7] and r.grad.dtype == torch.float64
