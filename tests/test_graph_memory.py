"""Depth and memory of graphs: 100,000 nodes walk and die without recursion, and the last reference frees everything.

Nothing here measures time. The garbage collector is off while memory is counted: a reference cycle would show.
"""
import gc
import threading
import weakref

import numpy as np
import pytest

import engine as torch

DEPTH = 100_000


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return g * 2


class Halves(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 0.5, x * 0.25

    @staticmethod
    def backward(ctx, a, b):
        return a * 0.5 + b * 0.25


def view_chain(x):
    y = x * 1
    for _ in range(DEPTH // 2):
        y = y[None]
        y = y[0]
    return y


def custom_chain(x):
    y = x
    for k in range(20_000):
        y = Double.apply(y) if k % 2 else Halves.apply(y)[0]
    return y


def pointwise_chain(x):
    y = x
    for _ in range(DEPTH):
        y = y + 1
    return y


def in_place_chain(x):
    y = x * 1
    for _ in range(DEPTH):
        y += 1
    return y


def written_views(x):
    y = x * 1
    for _ in range(20_000):
        y[0] += 1
    return y


def branches(x):
    y = x
    for _ in range(20_000):
        y, _ = torch.unbind(torch.stack([y, y]))
    return y


@pytest.mark.parametrize("chain", [pointwise_chain, view_chain, custom_chain, in_place_chain, written_views, branches],
                         ids=lambda f: f.__name__)
def test_deep_graphs_walk_and_die_without_recursion(chain, no_collector):
    x = torch.ones(2, requires_grad=True)
    y = chain(x)
    node = weakref.ref(y.grad_fn)
    (g,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
    assert g.tolist() == [1, 1]
    y.sum().backward()
    assert x.grad.tolist() == [1, 1]
    del y, g
    assert node() is None


def test_a_deep_graph_dies_on_a_small_stack_without_having_been_walked(no_collector):
    def build_and_drop():
        y = pointwise_chain(torch.ones(2, requires_grad=True))
        del y
        done.append(True)
    done = []
    thread = threading.Thread(target=build_and_drop)
    thread.start()
    thread.join()
    assert done


def alive(cls):
    return sum(type(o) is cls for o in gc.get_objects())


@pytest.mark.parametrize("make", [
    lambda x: (x * x).sum(),
    lambda x: torch.exp(x).sum(),
    lambda x: (x[0] * x[1:]).sum(),
    lambda x: Double.apply(x).sum(),
    lambda x: sum(torch.unbind(x * 2)),
    lambda x: (x * 1).mul_(x).sum(),
    lambda x: (x * 1).exp_().sum(),
], ids=["mul", "exp", "views", "custom", "unbind", "mul_", "exp_"])
@pytest.mark.parametrize("walk", ["dropped", "backward", "retained", "grad of grad"])
def test_the_last_reference_frees_tensors_arrays_and_nodes(make, walk, no_collector):
    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    make(x)                                         # caches of plans and constants fill
    before = alive(torch.Tensor)
    y = make(x)
    node = weakref.ref(y.grad_fn)
    if walk == "backward":
        y.backward()
    elif walk == "retained":
        y.backward(retain_graph=True)
    elif walk == "grad of grad":
        (g,) = torch.autograd.grad(y, x, create_graph=True)
        if g.requires_grad:
            g.sum().backward()
        del g
    x.grad = None
    del y
    assert node() is None
    assert alive(torch.Tensor) <= before + 2        # a new constant or two


def test_in_place_on_views_leaves_no_cycle(no_collector):
    x = torch.ones(3, requires_grad=True)
    y = x * 2
    v, w = y[:2], y[1:]
    v.mul_(x[:2])
    w += v[0]
    kept = [weakref.ref(t) for t in (y, v, w)] + [weakref.ref(y.grad_fn), weakref.ref(v.grad_fn)]
    y.sum().backward()
    del y, v, w
    assert [r() for r in kept] == [None] * 5


def test_saving_the_result_closes_no_cycle(no_collector):
    class Exp(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            y = torch.exp(x)
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx, g):
            (y,) = ctx.saved_tensors
            return g * y
    y = Exp.apply(torch.zeros(2, requires_grad=True))
    node, value = weakref.ref(y.grad_fn), weakref.ref(y)
    del y
    assert node() is None and value() is None


def test_backward_releases_saved_arrays_at_once():
    x = torch.ones(3, requires_grad=True)
    big = torch.ones(3) * 2
    y = x * big
    array = weakref.ref(big._array)
    del big
    assert array() is not None
    y.sum().backward()
    assert array() is None and y.grad_fn is not None


def test_a_thousand_training_steps_without_growth(no_collector):
    w = torch.tensor([[1.0, -1.0], [0.5, 2.0]], requires_grad=True)
    b = torch.zeros(2, requires_grad=True)
    x = torch.tensor([1.0, 2.0])

    def step():
        loss = ((torch.exp(-(w * x).sum(1) * 0.1) + b) ** 2).sum()
        loss.backward()
        with torch.no_grad():
            for p in (w, b):
                p.sub_(0.01 * p.grad)
                p.grad.zero_()
        return loss
    step()
    first = step().item()
    objects = len(gc.get_objects())
    for _ in range(1000):
        last = step()
    assert last.item() < first
    del last
    assert len(gc.get_objects()) <= objects + 20


@pytest.mark.parametrize("size", [4, 1 << 17])
def test_a_gradient_that_nobody_else_holds_is_not_copied(size):
    addresses, held = [], []
    x, y = torch.ones(size, requires_grad=True), torch.ones(size, requires_grad=True)
    x.register_hook(lambda g: addresses.append(g.data_ptr()))
    y.register_hook(lambda g: held.append(g))
    (x * 3 + y * 2).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), 3)
    assert x.grad.data_ptr() == addresses[0] and y.grad.data_ptr() != held[0].data_ptr()
