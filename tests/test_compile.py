"""compile: programs equal their functions in values, gradients, aliasing and what they leave; signatures, guards, fallbacks."""
import dataclasses
import warnings

import numpy as np
import pytest

import engine
from engine import func, nn, optim
from engine.compiler.graph import Ref, Value
from engine.compiler.passes import composed, decoded


def rosenbrock(x):
    return ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()


def tensor(*shape, seed=0, grad=False, dtype="float64"):
    made = engine.from_numpy(np.asarray(np.random.default_rng(seed).normal(size=shape)).astype(dtype))
    return made.requires_grad_() if grad else made


def assert_same(function, *shapes, calls=3, rtol=1e-12, dtype="float64"):
    """The compiled function equals the function on several inputs of one signature; returns the compiled one."""
    compiled = engine.compile(function)
    for k in range(calls):
        xs = [tensor(*s, seed=10 * k + j, dtype=dtype) for j, s in enumerate(shapes)]
        got, want = compiled(*xs), function(*[x.clone() for x in xs])
        for a, b in zip(got if isinstance(got, tuple) else (got,), want if isinstance(want, tuple) else (want,), strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=rtol, atol=rtol)
            assert a.dtype is b.dtype and a.stride() == b.stride()
    assert compiled.cache_info()[:2] == (calls - 1, 1)
    return compiled


# --- what is computed -------------------------------------------------------------------------------------------------

def test_small_programs_are_straight_lines():
    f = assert_same(lambda x: (engine.stack([x[0] * x[1], engine.sin(x[2])]), x.flip(0) * 2), (3,))
    assert "for " not in f.last.forward.text().split("def program(")[0]


def test_softmax_and_layer_norm_are_one_kernel_each():
    def both(x):
        e = (x - x.amax(1, keepdim=True)).exp()
        centred = x - x.mean(1, keepdim=True)
        return e / e.sum(1, keepdim=True), centred / ((centred * centred).mean(1, keepdim=True) + 1e-5).sqrt()
    f = assert_same(both, (40, 70))
    assert len(f.last.forward.kernels) == 1


def test_views_broadcasts_and_regions():
    def views(x, y):
        joined = engine.cat([x[:, 1:], x[:, :1] * 2], 1)
        return joined.T + y, x[::2].sum(0), (x.reshape(-1)[3:9] * 2).reshape(2, 3), engine.stack([x[0], y[:5, 0]], 1)
    assert_same(views, (6, 5), (5, 1))


def test_folds_of_every_kind():
    def folds(x):
        return x.sum(0), x.mean(), x.amax((0, 2)), x.argmax(1), x.var(1), x.prod(2), x.logsumexp(0), (x > 0).any(1), x.norm()
    assert_same(folds, (4, 3, 40), rtol=1e-11)


def test_large_arrays_go_through_chunks():
    x = tensor(300, 500, dtype="float32")
    f = engine.compile(lambda x: (engine.tanh(x) * 2 + 1, engine.exp(-x * x).sum()))
    for t in (x, x * 0.5):
        a, total = f(t)
        v = t.numpy().astype("float64")
        np.testing.assert_allclose(a.numpy(), np.tanh(v) * 2 + 1, rtol=1e-6, atol=1e-6)
        assert total.item() == pytest.approx(np.exp(-v * v).sum(), rel=1e-6)


def test_matrix_products_stay_calls():
    f = assert_same(lambda x, w, b: engine.relu(x @ w + b).sum(0), (8, 5), (5, 4), (4,))
    assert "matmul" in str(f.graph())


def test_other_dtypes():
    f = engine.compile(lambda x, y: (x // 2 + y.long(), (x > 1) & (y > 0), x.to(engine.float32) / 3, y.half() * 2))
    for shift in (0, 1, 5):
        x, y = engine.arange(6) + shift, engine.linspace(-1, 1, 6) + shift
        for a, b in zip(f(x, y), f.function(x, y), strict=True):
            assert a.dtype is b.dtype and a.tolist() == b.tolist()


# --- gradients --------------------------------------------------------------------------------------------------------

def test_gradients_to_second_order_and_captured_parameters():
    w = tensor(4, 3, grad=True)
    f = lambda x: (engine.tanh(x @ w) ** 2).sum(1) + engine.log1p(w * w).sum()
    compiled = engine.compile(f)
    for seed in (1, 2):
        x = tensor(5, 4, seed=seed, grad=True)
        for function in (compiled, f):
            y = (function(x) * engine.arange(5.0, dtype=engine.float64)).sum()
            gx, gw = engine.autograd.grad(y, (x, w), create_graph=True)
            gg, = engine.autograd.grad((gx ** 2).sum() + gw.sum(), x)
            found = [y, gx, gw, gg]
            if function is compiled:
                first = found
        for a, b in zip(first, found, strict=True):
            np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-10, atol=1e-12)
    assert compiled.cache_info().misses == 1
    assert type(compiled(x).grad_fn).__name__ == "CompiledBackward"


def test_places_found_in_the_data_are_no_constants():
    f = engine.compile(lambda x: x.max(1).values + x.sort(1).values[:, 0] + x[x.argmin(0)].sum(1)[:3])
    for seed in (1, 2):
        found = []
        for function in (f, f.function):
            x = tensor(3, 5, seed=seed, grad=True)
            (function(x) * engine.arange(1.0, 4.0, dtype=engine.float64)).sum().backward()
            found.append(x.grad.tolist())
        assert found[0] == found[1]
    assert f.cache_info()[:2] == (1, 1)


def test_a_graph_is_used_once_and_saved_inputs_are_watched():
    f = engine.compile(lambda x: (x.exp() * x).sum())
    for _ in range(2):
        x = tensor(50, grad=True)
        y = f(x)
        y.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        y.backward()
    y = f(x)
    with engine.no_grad():
        x.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_transforms_under_compile():
    x = tensor(4, seed=3)
    for transform in (func.value_and_grad, func.hessian, lambda f: func.vmap(func.grad(f))):
        given = engine.stack([x, x + 1]) if transform not in (func.value_and_grad, func.hessian) else x
        compiled = engine.compile(transform(rosenbrock))
        for t in (given, given * 0.5):
            got, want = compiled(t), transform(rosenbrock)(t)
            for a, b in zip(got if isinstance(got, tuple) else (got,), want if isinstance(want, tuple) else (want,), strict=True):
                np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-11)
        assert compiled.cache_info().misses == 1


# --- signatures and guards --------------------------------------------------------------------------------------------

def test_one_program_for_each_signature():
    f = engine.compile(lambda x, scale=2.0: x * scale)
    for x, options in ((tensor(3), {}), (tensor(3), {}), (tensor(4), {}), (tensor(3, dtype="float32"), {}),
                       (tensor(3), {"scale": 3.0}), (tensor(3, 2).T[0], {})):
        np.testing.assert_allclose(f(x, **options).numpy(), x.numpy() * options.get("scale", 2.0))
    assert f.cache_info() == (1, 5, None, 5)
    f.cache_clear()
    assert f.cache_info() == (0, 0, None, 0)


def test_nested_arguments_and_results():
    @dataclasses.dataclass
    class Pair:
        a: engine.Tensor
        b: dict

    f = engine.compile(lambda p, more: {"sum": p.a + p.b["c"], "rest": [more[0] * 2, (more[1], 7)]})
    for seed in (1, 2):
        p, more = Pair(tensor(3, seed=seed), {"c": tensor(3, seed=9)}), [tensor(2), "word"]
        found = f(p, more)
        np.testing.assert_allclose(found["sum"].numpy(), (p.a + p.b["c"]).numpy())
        assert found["rest"][1] == ("word", 7) and found["rest"][0].tolist() == (more[0] * 2).tolist()
    assert f.cache_info().misses == 1


def test_branches_and_loops_on_data_are_guarded():
    @engine.compile
    def halve(x):
        count = 0
        while x.sum() > 1:
            x, count = x / 2, count + 1
        return x, count
    for start, steps in ((8.0, 3), (2.0, 1), (8.0, 3), (0.5, 0), (2.0, 1)):
        x, count = halve(engine.tensor([start], dtype=engine.float64))
        assert count == steps and x.item() == start / 2 ** steps
    assert halve.cache_info()[:2] == (2, 3)


def test_a_value_that_never_repeats_ends_in_eager_with_one_warning():
    f = engine.compile(lambda x: x * np.sin(float(x.sum())))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for k in range(12):
            x = tensor(3, seed=k)
            np.testing.assert_allclose(f(x).numpy(), x.numpy() * np.sin(x.numpy().sum()))
    assert len([w for w in caught if "runs eagerly" in str(w.message)]) == 1


def test_numbers_from_closures_and_switches_of_modules_belong_to_the_signature():
    factor = 2.0
    drop = nn.Dropout(0.5)
    drop.eval()
    f = engine.compile(lambda x: drop(x) * factor)
    assert f(engine.ones(3)).tolist() == [2.0] * 3
    factor = 5.0
    assert f(engine.ones(3)).tolist() == [5.0] * 3
    drop.train()
    assert set(f(engine.ones(100)).tolist()) == {0.0, 10.0}


# --- what is left behind ----------------------------------------------------------------------------------------------

def test_arguments_written_in_place():
    def update(x, v):
        v.mul_(0.9).add_(x)
        x[1:3] = 0
        x.sub_(v, alpha=0.1)
        return v.sum()
    compiled = engine.compile(update)
    xs, vs = (tensor(5, seed=1), tensor(5, seed=1)), (tensor(5, seed=2), tensor(5, seed=2))
    for _ in range(3):
        assert compiled(xs[0], vs[0]).item() == pytest.approx(update(xs[1], vs[1]).item(), rel=1e-12)
        np.testing.assert_allclose(xs[0].numpy(), xs[1].numpy(), rtol=1e-12)
        np.testing.assert_allclose(vs[0].numpy(), vs[1].numpy(), rtol=1e-12)
    assert xs[0]._version == xs[1]._version and vs[0]._version == vs[1]._version


def test_memory_made_inside_is_new_in_every_run():
    def accumulate(x):
        h = engine.zeros(3, dtype=engine.float64)
        h.add_(x).mul_(2)
        g = engine.ones(4, dtype=engine.float64)
        g[1:].mul_(x)
        return h, g
    assert_same(accumulate, (3,))


def test_results_share_memory_as_the_function_s_do():
    f = engine.compile(lambda x: (x, x[1:], x * 2))
    for seed in (1, 2):
        x = tensor(4, seed=seed)
        same, part, other = f(x)
        assert same is x
        part[0] = 7.0
        assert x[1].item() == 7.0 and other[1].item() != 14.0


@pytest.mark.parametrize("make", [lambda p: optim.SGD(p, lr=0.05, momentum=0.9), lambda p: optim.Adam(p, lr=0.05)],
                         ids=["SGD", "Adam"])
def test_a_whole_training_step(make):
    def build():
        engine.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        return model, make(model.parameters())

    def run(decorate):
        model, optimizer = build()
        schedule = optim.lr_scheduler.StepLR(optimizer, 3, 0.5)

        @decorate
        def step(x, y):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            return loss
        losses = []
        for k in range(9):
            x = tensor(16, 4, seed=k, dtype="float32")
            losses.append(step(x, x[:, :1] * x[:, 1:2]).item())
            schedule.step()
        return losses, [p.tolist() for p in model.parameters()], [p.grad.tolist() for p in model.parameters()], step
    losses, parameters, gradients, step = run(engine.compile)
    expected = run(lambda f: f)
    assert step.cache_info().misses == 2            # the first step makes the optimizer's states
    np.testing.assert_allclose(losses, expected[0], rtol=1e-4)
    for found, wanted in ((parameters, expected[1]), (gradients, expected[2])):
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_many_large_parameters_take_several_kernels():
    """More memory than one kernel may touch, and in-place updates that walk it with dimensions merged."""
    def run(decorate):
        parameters = [tensor(190, 180, seed=k, grad=True, dtype="float32") for k in range(8)]
        optimizer = optim.SGD(parameters, lr=0.1, momentum=0.9)

        @decorate
        def step(x):
            optimizer.zero_grad()
            loss = sum((p * x - 1).square().mean() for p in parameters)
            loss.backward()
            optimizer.step()
            return loss
        losses = [step(tensor(190, 180, seed=50 + k, dtype="float32")).item() for k in range(4)]
        return losses, parameters, step
    losses, parameters, step = run(engine.compile)
    expected = run(lambda f: f)
    assert step.cache_info()[:2] == (2, 2)
    np.testing.assert_allclose(losses, expected[0], rtol=1e-5)
    for p, q in zip(parameters, expected[1], strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-5, atol=1e-8)


def test_modules_and_methods():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    compiled = engine.compile(model)
    for seed in (1, 2):
        x = tensor(2, 3, seed=seed, dtype="float32")
        np.testing.assert_allclose(compiled(x).detach().numpy(), model(x).detach().numpy(), rtol=1e-6)
    assert compiled.cache_info().hits == 1 and len(list(compiled.parameters())) == 2 and compiled.eval() is model

    class Scaled:
        def __init__(self, factor):
            self.factor = factor

        @engine.compile
        def by(self, x):
            return x * self.factor
    two, three = Scaled(2.0), Scaled(3.0)
    assert [s.by(engine.ones(2)).tolist() for s in (two, three, two)] == [[2.0] * 2, [3.0] * 2, [2.0] * 2]
    two.factor = 5.0
    assert two.by(engine.ones(2)).tolist() == [5.0] * 2


def test_errors_of_the_function_are_the_caller_s():
    f = engine.compile(lambda x: x @ engine.ones(3, 3))
    with pytest.raises(RuntimeError):
        f(engine.ones(2, 2))
    assert f(engine.ones(2, 3)).tolist() == [[3.0] * 3] * 2
    with pytest.raises(TypeError, match="expects a function"):
        engine.compile(3)


def test_source_and_graph_can_be_read():
    f = engine.compile(lambda x: engine.exp(x) + 1)
    with pytest.raises(RuntimeError, match="nothing has been compiled"):
        f.source()
    assert "def " in f.source(engine.ones(10)) and "exp" in f.source()
    assert "map[" in str(f.graph()) and "in0: float32[10]" in str(f.graph())


# --- views in index space ---------------------------------------------------------------------------------------------

def test_views_are_decoded_or_known_not_to_be():
    value = Value((4, 6), (6, 1), "float64")
    memory = np.arange(24.0).reshape(4, 6)
    for view in (memory[1:, ::2], memory.T, memory[2], memory[:, 3:4], memory[::-1], np.broadcast_to(memory[:1], (3, 6))):
        ref = Ref(value, (view.__array_interface__["data"][0] - memory.__array_interface__["data"][0]) // 8, view.shape,
                  tuple(s // 8 for s in view.strides))
        start, steps = decoded(ref)
        for at in np.ndindex(view.shape):
            index = [s + sum(i * step[d] for i, step in zip(at, steps, strict=True)) for d, s in enumerate(start)]
            assert memory[tuple(index)] == view[at]
        copied = Value(view.shape, tuple(s // 8 for s in np.empty(view.shape).strides), "float64")
        inner = composed(copied.whole(), ref)
        assert (inner.offset, inner.shape) == (ref.offset, ref.shape)
        assert all(a == b for n, a, b in zip(ref.shape, inner.strides, ref.strides, strict=True) if n > 1)
    assert decoded(Ref(value, 4, (8,), (1,))) is None           # runs over the end of a row


@pytest.mark.parametrize("function", [lambda x: x.abs() * 1.0, lambda x: x ** 2 * 1.0, lambda x: (x + 1) * 1.0])
def test_a_result_that_is_the_copy_of_another_value_has_a_gradient(function):
    x, y = (engine.tensor([3.0, -2.0], dtype=engine.float64, requires_grad=True) for _ in range(2))
    out, expected = engine.compile(function)(x), function(y)
    out.sum().backward()
    expected.sum().backward()
    assert out.tolist() == expected.tolist() and x.grad.tolist() == y.grad.tolist()


def test_arrays_of_numpy_count_by_their_elements():
    @engine.compile
    def f(x, weights):
        return (x * engine.as_tensor(weights)).sum()
    x, weights = engine.ones(3, dtype=engine.float64), np.array([1.0, 2.0, 3.0])
    assert f(x, weights).item() == 6.0
    weights *= 2
    assert f(x, weights).item() == 12.0
    assert [f(x, np.full(3, float(k))).item() for k in range(5)] == [0.0, 3.0, 6.0, 9.0, 12.0]


def test_what_is_too_long_runs_eagerly():
    def f(x):
        total = x
        for _ in range(3000):
            total = total.sin() + x
        return total.sum()
    compiled, x = engine.compile(f), engine.ones(10, dtype=engine.float64)
    with pytest.warns(UserWarning, match="too long"):
        first = compiled(x)
    assert first.item() == compiled(x).item() == f(x).item()
