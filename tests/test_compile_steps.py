"""Compiled training steps: the shortest way through a call, kernels joined into native stretches, products of small matrices.

What the short way must notice is changed between two calls; eager steps, formulas in NumPy and what PyTorch does are the oracles.
"""
import threading

import numpy as np
import pytest

import engine
from engine.nn import functional
from kernels.cpu import panels

# --- products of small matrices ---------------------------------------------------------------------------------------


def laid(rng, shape, dtype, how):
    """A matrix by rows, by columns, or as every other element of a larger one."""
    n, m = shape
    if how == "columns":
        return rng.standard_normal((m, n)).astype(dtype).T
    if how == "apart":
        return rng.standard_normal((2 * n, 3 * m)).astype(dtype)[::2, ::3]
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_small_products_of_all_layouts(dtype):
    rng = np.random.default_rng(0)
    product = panels.product_ufunc(dtype)
    close = {"rtol": 0, "atol": 2e-4 if dtype == "float32" else 1e-12}
    for n in (1, 3, 4, 7, 9, 64):
        for k in (1, 5, 8, 37, 256):
            for m in (1, 2, 3, 5, 8, 10, 17, 33, 64, 130):
                for lies in ("rows", "columns", "apart"):
                    x, y = laid(rng, (n, k), dtype, lies), laid(rng, (k, m), dtype, ("rows", "columns", "apart")[(n + m) % 3])
                    out = np.full((n + 1, m), 7, dtype)
                    product(x, y, out[:n])
                    np.testing.assert_allclose(out[:n], x.astype("f8") @ y.astype("f8"), **close, err_msg=f"{n, k, m, lies}")
                    assert (out[n] == 7).all()


def test_small_products_keep_infinities_and_nan():
    x, y = np.ones((9, 5)), np.ones((5, 9))
    x[2, 1], y[3, 4] = np.inf, np.nan
    out = np.empty((9, 9))
    panels.product_ufunc("float64")(x, y, out)
    assert np.isnan(out[:, 4]).all() and np.isinf(out[2, [0, 1, 2, 3, 5, 6, 7, 8]]).all() and out[0, 0] == 5


@pytest.mark.parametrize(("n", "k", "m", "used"), [(16, 24, 20, True), (2, 3, 1, True), (300, 200, 2, False), (16, 300, 16, False)])
@pytest.mark.parametrize("turned", [False, True])
def test_compiled_products_and_their_gradients(n, k, m, used, turned):
    rng = np.random.default_rng(1)
    x, w, g = rng.standard_normal((n, k)), rng.standard_normal((m, k) if turned else (k, m)), rng.standard_normal((n, m))

    @engine.compile
    def f(x, w, g):
        y = engine.tanh(x @ (w.T if turned else w))
        return (y, *engine.autograd.grad(y, (x, w), g))
    given = engine.tensor(x, requires_grad=True), engine.tensor(w, requires_grad=True), engine.tensor(g)
    y = np.tanh(x @ (w.T if turned else w))
    g_z = g * (1 - y * y)
    g_w = x.T @ g_z
    for _ in range(3):
        found = f(*given)
        for a, b in zip(found, (y, g_z @ (w if turned else w.T), g_w.T if turned else g_w), strict=True):
            np.testing.assert_allclose(a.detach().numpy(), b, rtol=1e-10, atol=1e-11)
    assert ("product_float64(in0, " in f.source()) == used


# --- native stretches -------------------------------------------------------------------------------------------------


def test_kernels_without_python_between_them_are_one_call():
    rng = np.random.default_rng(2)
    x = engine.tensor(rng.standard_normal((12, 10)))
    w = [engine.tensor(rng.standard_normal((10, 10)) / 3) for _ in range(3)]

    @engine.compile
    def f(x):
        for a in w:
            x = engine.relu(x @ a) + 1
        return x
    expected = x.numpy()
    for a in w:
        expected = np.maximum(expected @ a.numpy(), 0) + 1
    for _ in range(3):
        np.testing.assert_allclose(f(x).numpy(), expected, rtol=1e-12)
    lines = f.source().partition("def program(")[2].splitlines()
    assert sum(line.strip().startswith("launches") for line in lines) == 1
    assert sum(line.strip().startswith("# product_float64") for line in lines) == 3


def test_stretches_of_very_many_tensors_are_cut():
    rng = np.random.default_rng(3)
    xs = [engine.tensor(rng.standard_normal((8, 8))) for _ in range(90)]

    @engine.compile
    def f(*xs):
        return [x @ x + 1 for x in xs]
    f(*xs)
    for x, y in zip(xs, f(*xs), strict=True):
        np.testing.assert_allclose(y.numpy(), x.numpy() @ x.numpy() + 1, rtol=1e-12)
    assert f.source().count("\n    launches") > 1


def test_stretches_run_in_several_threads_at_once():
    rng = np.random.default_rng(4)
    w = engine.tensor(rng.standard_normal((32, 32)) / 6)

    @engine.compile
    def f(x):
        for _ in range(4):
            x = engine.sin(x @ w)
        return x
    xs = [engine.tensor(rng.standard_normal((32, 32))) for _ in range(4)]
    expected = [x.numpy() for x in xs]
    for _ in range(4):
        expected = [np.sin(x @ w.numpy()) for x in expected]
    f(xs[0])
    wrong = []

    def work(k):
        for _ in range(200):
            if not np.allclose(f(xs[k]).numpy(), expected[k], rtol=1e-9, atol=1e-12):
                wrong.append(k)
    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_in_a_program(reduction):
    rng = np.random.default_rng(5)
    scores, classes, weight = rng.standard_normal((6, 4)), np.array([0, 3, 1, 1, 2, 0]), np.array([1.0, 2, 0.5, 1])
    t, w = engine.tensor(classes), engine.tensor(weight)

    @engine.compile
    def f(x, t):
        loss = functional.cross_entropy(x * 2, t, weight=w, ignore_index=2, reduction=reduction)
        return (loss, *engine.autograd.grad(loss.sum(), x))
    logs = 2 * scores - np.log(np.exp(2 * scores).sum(1, keepdims=True))
    factor = np.where(classes == 2, 0, weight[classes])
    each = -factor * logs[np.arange(6), classes]
    total = factor.sum()
    expected = {"mean": each.sum() / total, "sum": each.sum(), "none": each}[reduction]
    gradient = 2 * (np.exp(logs) - np.eye(4)[classes]) * factor[:, None] / (total if reduction == "mean" else 1)
    x = engine.tensor(scores, requires_grad=True)
    for _ in range(2):
        loss, g = f(x, t)
        np.testing.assert_allclose(loss.detach().numpy(), expected, rtol=1e-12)
        np.testing.assert_allclose(g.numpy(), gradient, rtol=1e-12, atol=1e-15)
    with pytest.raises(IndexError, match=r"Target 4 is out of bounds\."):
        f(x, engine.tensor(classes + (classes == 3)))


# --- whole steps ------------------------------------------------------------------------------------------------------

OPTIMIZERS = {
    "sgd": lambda p: engine.optim.SGD(p, lr=0.1),
    "momentum": lambda p: engine.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3, nesterov=True),
    "adam": lambda p: engine.optim.Adam(p, lr=1e-2),
}


class Training:
    """A small network, its optimizer and 4 batches, as `step`, compiled or not."""

    def __init__(self, name="momentum", compiled=True):
        engine.manual_seed(7)
        self.net = engine.nn.Sequential(engine.nn.Linear(12, 16), engine.nn.ReLU(), engine.nn.Linear(16, 5)).double()
        self.optimizer = OPTIMIZERS[name](self.net.parameters())
        rng = np.random.default_rng(8)
        self.x = engine.tensor(rng.standard_normal((40, 12)))
        self.t = engine.tensor(rng.integers(0, 5, 40))
        net, optimizer = self.net, self.optimizer

        def step(x, t):
            optimizer.zero_grad()
            loss = functional.cross_entropy(net(x), t)
            loss.backward()
            optimizer.step()
            return loss.detach()
        self.step = engine.compile(step) if compiled else step

    def run(self, count, batch=10):
        """Losses of so many steps, over slices of the data."""
        starts = [k * batch % 40 for k in range(count)]
        return [self.step(self.x[s:s + batch], self.t[s:s + batch]).item() for s in starts]

    def state(self):
        """Parameters, gradients, states and versions."""
        parameters = list(self.net.parameters())
        return ([p.detach().numpy().copy() for p in parameters] + [p.grad.numpy().copy() for p in parameters]
                + [s.numpy().copy() for p in parameters for s in self.optimizer.state[p].values() if isinstance(s, engine.Tensor)],
                [p._version for p in parameters])


def same(a, b):
    """Two trainings went the same way."""
    (left, versions), (right, others) = a.state(), b.state()
    assert versions == others
    for x, y in zip(left, right, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-13)


@pytest.fixture
def pair():
    """A compiled training on its short way, and an eager one at the same point."""
    made = Training(), Training(compiled=False)
    for training in made:
        training.run(4)
    assert made[0].step.quick is not None
    same(*made)
    return made


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_go_as_eager_ones_do(name):
    compiled, eager = Training(name), Training(name, compiled=False)
    np.testing.assert_allclose(compiled.run(8), eager.run(8), rtol=1e-10)
    same(compiled, eager)
    assert compiled.step.quick is not None and compiled.step.cache_info().misses == 2


def test_slices_of_a_data_set_take_the_short_way(pair):
    compiled, _ = pair
    compiled.step.environment = None          # the long way would fail
    compiled.run(3)


def test_gradients_that_are_held_stay(pair):
    held = [[p.grad for p in t.net.parameters()] for t in pair]
    before = [g.numpy().copy() for g in held[0]]
    for t in pair:
        t.run(2)
    same(*pair)
    for g, old in zip(held[0], before, strict=True):
        np.testing.assert_array_equal(g.numpy(), old)


def test_another_learning_rate_is_seen(pair):
    for t in pair:
        t.optimizer.param_groups[0]["lr"] = 0.01
        t.run(2)
        t.optimizer.param_groups[0]["momentum"] = 0.0           # another rule
        t.run(3)
    same(*pair)


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_loaded_states_are_seen(name):
    made = Training(name), Training(name, compiled=False)
    for t in made:
        t.run(4)
        weights, numbers = t.net.state_dict(), t.optimizer.state_dict()
        weights = {k: v.clone() for k, v in weights.items()}
        t.run(2)
        t.net.load_state_dict(weights)
        t.optimizer.load_state_dict(numbers)
        t.run(2)
        t.optimizer.param_groups[0]["lr"] = 0.001
        t.run(3)
    same(*made)


def test_replaced_memory_is_seen(pair):
    for t in pair:
        p = next(iter(t.net.parameters()))
        p.data = p.detach() * 2
        t.run(3)
    same(*pair)


def test_a_gradient_from_elsewhere_is_forgotten(pair):
    for t in pair:
        for p in t.net.parameters():
            p.grad = None
        t.run(2)
        for p in t.net.parameters():
            p.grad = engine.ones_like(p)
        t.run(2)
    same(*pair)


def test_frozen_parameters_stay(pair):
    for t in pair:
        p = next(iter(t.net.parameters()))
        p.requires_grad_(False)
        p.grad = None
        t.optimizer.param_groups[0]["weight_decay"] = 0.0
        frozen = p.detach().numpy().copy()
        t.run(2)
        np.testing.assert_array_equal(p.detach().numpy(), frozen)
    for a, b in zip(pair[0].net.parameters(), pair[1].net.parameters(), strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-10)


def test_other_sizes_and_the_first_again(pair):
    for t in pair:
        for batch in (5, 10, 5, 10):
            t.run(2, batch)
    same(*pair)


def test_a_class_out_of_bounds_changes_nothing(pair):
    compiled, _ = pair
    before = [p.detach().numpy().copy() for p in compiled.net.parameters()]
    with pytest.raises(IndexError, match=r"Target 5 is out of bounds\."):
        compiled.step(compiled.x[:10], engine.full((10,), 5))
    for p, old in zip(compiled.net.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), old)


def test_read_only_parameters_are_refused(pair):
    compiled, _ = pair
    array = next(iter(compiled.net.parameters()))._array
    array.flags.writeable = False
    with pytest.raises((RuntimeError, ValueError), match="read-only"):
        compiled.run(1)
    array.flags.writeable = True
    compiled.run(1)


def test_inference_mode_is_seen(pair):
    for t in pair:
        with engine.inference_mode(), pytest.raises(RuntimeError):
            t.run(1)


def test_an_argument_in_the_memory_of_a_written_tensor():
    @engine.compile
    def step(x):
        w.add_(x)
        w.mul_(2)
        return x.sum()
    w = engine.zeros(3)
    for _ in range(3):
        step(engine.ones(3))
    assert w.tolist() == [14.0, 14.0, 14.0]
    assert step(w.detach()).item() == 3 * 56            # eager: w + w, then twice that; x is w
    assert w.tolist() == [56.0, 56.0, 56.0]


def test_results_of_all_kinds():
    w = engine.zeros(3, requires_grad=True)
    optimizer = engine.optim.SGD([w], lr=0.5)

    @engine.compile
    def step(x):
        optimizer.zero_grad()
        loss = ((w - x) ** 2).sum()
        loss.backward()
        optimizer.step()
        return {"loss": loss.item(), "twice": [loss.detach() * 2, None], "name": "step"}
    for k in range(4):
        found = step(engine.ones(3) * k)
        assert found == {"loss": 3.0 * (k > 0), "twice": [6.0 * (k > 0), None], "name": "step"}
        assert w.tolist() == [float(k)] * 3


def test_a_loss_that_was_used_up_says_so():
    w = engine.zeros(3, requires_grad=True)

    @engine.compile
    def step(x):
        w.grad = None
        loss = ((w - x) ** 2).sum()
        loss.backward()
        return loss
    for _ in range(4):
        loss = step(engine.ones(3))
        assert loss.requires_grad and w.grad.tolist() == [-2.0] * 3
        with pytest.raises(RuntimeError, match="second time"):
            loss.backward()


def test_gradients_of_many_elements_are_no_constants():
    w = engine.randn(400, 100, dtype=engine.float64, requires_grad=True)

    @engine.compile
    def step(x):
        w.grad = None
        engine.relu(x @ w.T).sum().backward()
    for k in range(3):
        x = np.random.default_rng(k).standard_normal((20, 100))
        step(engine.tensor(x))
        np.testing.assert_allclose(w.grad.numpy(), (x @ w.detach().numpy().T > 0).T.astype(float) @ x, rtol=1e-10, atol=1e-12)


SCALE = 2.0


def test_what_is_read_elsewhere_is_seen_on_the_short_way():
    class Options:
        shift = 1.0
        power = 2
    options, factor, extra = Options(), 3.0, engine.ones(2)
    options.bias = 0.5
    layer = engine.nn.Sequential(engine.nn.Dropout(1.0), engine.nn.Identity())

    @engine.compile
    def f(x):
        return layer(x) * factor * SCALE + options.shift + options.bias + x ** options.power + extra

    def expected(x):
        kept = 0.0 if layer.training else 1.0
        return x * kept * factor * SCALE + options.shift + options.bias + x ** options.power + extra.numpy()

    def agrees():
        assert f(engine.tensor([2.0, 3.0])).tolist() == expected(np.array([2.0, 3.0])).tolist()
    changes = [lambda: None, lambda: None, lambda: layer.eval(), lambda: setattr(options, "bias", 4.5),
               lambda: setattr(Options, "shift", -1.0), lambda: setattr(options, "power", 3), lambda: globals().update(SCALE=5.0),
               lambda: globals().update(SCALE=2.0), lambda: extra.add_(1)]
    for change in changes:
        change()
        for _ in range(3):
            agrees()
    factor = 7.0
    for _ in range(3):
        agrees()
    extra = engine.zeros(2)
    for _ in range(3):
        agrees()
    assert f.quick is not None and not f.eager
    hook = layer[1].register_forward_hook(lambda module, given, result: result * 10)
    assert f(engine.tensor([2.0, 3.0])).tolist() == (expected(np.array([2.0, 3.0])) + 9 * 2 * 7 * np.array([2.0, 3.0])).tolist()
    hook.remove()
    agrees()


def test_a_deleted_variable_is_missed():
    factor = 3.0

    @engine.compile
    def f(x):
        return x * factor

    def forget():
        nonlocal factor
        del factor
    for _ in range(3):
        assert f(engine.ones(2)).tolist() == [3.0, 3.0]
    forget()
    with pytest.raises(NameError, match="factor"):
        f(engine.ones(2))
