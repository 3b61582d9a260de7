"""The first call of a compiled function: its kernels wait until somebody looks at a number, and nobody can tell.

The oracle is the function called eagerly. `ways` tells how a first call ended: with the program in the place of the traced run, or
with what had waited run kernel by kernel.
"""
import copy
import warnings

import numpy as np
import pytest

import engine
from engine import nn
from engine.compiler import deferral
from kernels.cpu import native

F64 = engine.float64


@pytest.fixture
def ways(monkeypatch):
    """What became of each queue of launches: "program", "program, and aside", or "kernels"."""
    found = []
    settle, drop, aside = deferral.Deferral.settle, deferral.Deferral.drop, deferral.Deferral._aside

    def settled(self):
        if self.open and self.launches:
            found.append("kernels")
        settle(self)

    def dropped(self):
        found.append("program")
        drop(self)

    def put_aside(self):
        found[-1] += ", and aside"
        return aside(self)
    monkeypatch.setattr(deferral.Deferral, "settle", settled)
    monkeypatch.setattr(deferral.Deferral, "drop", dropped)
    monkeypatch.setattr(deferral.Deferral, "_aside", put_aside)
    return found


def numbers(*shape):
    engine.manual_seed(5)
    return engine.rand(*shape, dtype=F64) + 0.5


def check(function, *shapes, calls=3):
    """Eager and compiled calls on equal arguments: results, and what became of the arguments."""
    compiled = engine.compile(function)
    for _ in range(calls):
        given = [[numbers(*s) for s in shapes] for _ in range(2)]
        wanted, found = function(*given[0]), compiled(*given[1])
        for a, b in zip((*wanted, *given[0]), (*found, *given[1]), strict=True):
            assert a.shape == b.shape and a.stride() == b.stride() and a._version == b._version
            np.testing.assert_allclose(b.detach().numpy(), a.detach().numpy(), rtol=1e-12)
    return compiled


def test_no_kernel_of_an_operator_is_made(ways):
    def f(x):
        y = engine.asinh(x) * engine.erf(x)
        return (engine.atan(y) + engine.expm1(y * 2)).mean()
    x = numbers(17).requires_grad_()
    before = native.compilations
    compiled = engine.compile(f)
    gradient, = engine.autograd.grad(compiled(x), x)
    assert ways == ["program"] and native.compilations - before <= 2         # forward and backward, unless the store has them
    wanted, = engine.autograd.grad(f(x), x)
    np.testing.assert_allclose(gradient.numpy(), wanted.numpy(), rtol=1e-12)


def test_writes_happen_once(ways):
    def f(x, y):
        z = x * 2
        x.add_(y).mul_(z)
        y[0] += 1
        y[1:3] = x[:2]
        return z, x + y
    check(f, (4,), (4,))
    assert ways == ["program"]


def test_views_of_what_has_no_values_yet(ways):
    def f(x):
        y = (x * 2).view(3, 4)
        y.t()[1] += x[:3]
        z = engine.cat([y[0], x], 0)
        w = engine.stack([y, y * 3], 1).reshape(-1)
        return y, y[1:], z, w, x.view(2, 6).t().clone().contiguous()
    compiled = engine.compile(f)
    x = numbers(12)
    wanted, found = f(x.clone()), compiled(x.clone())
    for a, b in zip(wanted, found, strict=True):
        assert a.stride() == b.stride()
        np.testing.assert_allclose(b.numpy(), a.numpy(), rtol=1e-12)
    found[0][1] = 7.0
    assert found[1].tolist()[0] == [7.0] * 4        # still one memory
    assert ways == ["program"]


LOOKS = {
    "item": lambda y: y.sum().item(),
    "bool": lambda y: bool((y > 0).all()),
    "index": lambda y: int(y.argmax()),
    "repr": repr,
    "tolist": lambda y: y.tolist(),
    "numpy": lambda y: y.numpy().sum(),
    "format": lambda y: f"{y[0]:.3f}",
    "sizes": lambda y: (y > 1.2).nonzero().shape,
    "chosen": lambda y: y[y > 1.2].tolist(),
    "unique": lambda y: engine.unique(y).tolist(),
    "equal": lambda y: engine.equal(y, y + 0),
    "position": lambda y: engine.arange(9)[(y * 0).to(engine.int64)].tolist(),
    "memory": lambda y: np.asarray(y._array).sum(),
    "made": lambda y: engine.tensor([y[0], y[1]]).tolist(),
    "copied": lambda y: copy.deepcopy(y).tolist(),
    "sorted": lambda y: sorted(y),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_whoever_looks_sees_numbers(ways, look):
    seen = []

    def f(x):
        y = x * 2
        x.add_(1)
        seen.append(look(y))
        y.sub_(x)
        return (y * x,)
    x = numbers(5)
    before = x.clone()
    wanted = f(x)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")         # some of these end the trace
        found = engine.compile(f)(before)[0]
    assert str(seen[0]) == str(seen[1])
    np.testing.assert_array_equal(found.numpy(), wanted.numpy())
    np.testing.assert_array_equal(before.numpy(), x.numpy())
    assert ways == ["kernels"]


def test_looking_at_other_memory(ways):
    scale = engine.tensor([2.0, 3.0], dtype=F64)

    def f(x):
        y = x * 2
        return (y * scale.tolist()[0] if scale[1].item() > 0 else y,)
    check(f, (3,), calls=2)
    assert ways == ["kernels"]      # a program with guards is none for certain


def test_an_exception_leaves_what_was_done(ways):
    @engine.compile
    def f(x):
        x.add_(1)
        x.mul_(x)
        raise KeyError("enough")
    x = engine.arange(3, dtype=F64)
    with pytest.raises(KeyError, match="enough"):
        f(x)
    assert x.tolist() == [1.0, 4.0, 9.0] and x._version == 2 and ways == ["kernels"]


def test_what_a_program_cannot_repeat_runs_to_its_end(ways):
    def f(x):
        y = x * 3
        engine.manual_seed(1)
        x.copy_(y)
        return (x + engine.rand(3, dtype=F64),)
    with pytest.warns(UserWarning, match="runs eagerly"):
        check(f, (3,))
    assert ways == ["kernels"]


def test_values_that_are_kept_elsewhere(ways):
    kept = []

    @engine.compile
    def f(x):
        y = x * 3
        kept.append(y)
        x.mul_(2)
        kept.append(x[1:])
        return (y + x).sum() + engine.rand((), dtype=F64)
    x = engine.arange(4, dtype=F64)
    engine.manual_seed(2)
    result = f(x).item()
    engine.manual_seed(2)
    assert result == 30 + engine.rand((), dtype=F64).item()
    assert kept[0].tolist() == [0.0, 3.0, 6.0, 9.0] and x.tolist() == [0.0, 2.0, 4.0, 6.0] and kept[1].tolist() == x.tolist()[1:]
    assert ways == ["program, and aside"]


def test_random_numbers_are_drawn_once(ways):
    def f(x):
        return x + engine.rand(3, dtype=F64), engine.nn.functional.dropout(x, 0.5)
    compiled, x = engine.compile(f), numbers(3)
    for seed in range(2):
        found = []
        for g in (f, compiled):
            engine.manual_seed(seed)
            found.append([t.tolist() for t in g(x)] + [engine.get_rng_state().tolist()])
        assert found[0] == found[1]


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_training_steps(ways, name):
    def parts():
        engine.manual_seed(3)
        net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).to(F64)
        optimizer = getattr(engine.optim, name)(net.parameters(), lr=0.05)

        def step(x):
            optimizer.zero_grad()
            loss = engine.log_softmax(net(x), 1).square().mean()
            loss.backward()
            optimizer.step()
            return loss.detach()
        return net, optimizer, step
    (net, optimizer, step), (other, other_optimizer, other_step) = parts(), parts()
    compiled, x = engine.compile(other_step), numbers(6, 4)
    for _ in range(4):
        np.testing.assert_allclose(compiled(x).item(), step(x).item(), rtol=1e-12)
        for p, q in zip(net.parameters(), other.parameters(), strict=True):
            np.testing.assert_allclose(q.detach().numpy(), p.detach().numpy(), rtol=1e-10)
            np.testing.assert_allclose(q.grad.numpy(), p.grad.numpy(), rtol=1e-10)
            assert p._version == q._version
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        for key, value in optimizer.state[p].items():
            np.testing.assert_allclose(np.asarray(other_optimizer.state[q][key]), np.asarray(value), rtol=1e-10, err_msg=key)
    assert ways[0] == ("program" if name == "SGD" else "kernels")       # states that Adam makes in its first step have no program
    assert set(ways[1:]) == {"program"}


def test_gradients_that_add_up(ways):
    def parts():
        w = engine.arange(3, dtype=F64).requires_grad_()

        def step(x):
            ((w * x) ** 2).sum().backward()
            return w.grad * 1
        return w, step
    (w, step), (v, other) = parts(), parts()
    compiled, x = engine.compile(other), numbers(3)
    for _ in range(4):
        np.testing.assert_allclose(compiled(x).numpy(), step(x).numpy(), rtol=1e-12)
        np.testing.assert_allclose(v.grad.numpy(), w.grad.numpy(), rtol=1e-12)
    assert set(ways) == {"program"}


def test_within_and_around_other_transforms(ways):
    inner = engine.compile(lambda x: engine.sin(x) * x)
    check(lambda x: (inner(x * 2) + 1, engine.func.grad(lambda y: inner(y).sum())(x)), (4,))
    check(lambda x: (engine.func.vmap(lambda row: (row * row).sum() + row)(x * 2) * x,), (3, 4))
    x = numbers(3, 4)
    np.testing.assert_allclose(engine.func.vmap(inner)(x).numpy(), (engine.sin(x) * x).numpy(), rtol=1e-12)
    assert "program" in ways


def test_large_arrays_that_lie_across(ways):
    def f(x, y):
        x[:, :] = (y * 2).t()
        return (x + 1).t(), x.sum(1)
    check(f, (200, 200), (200, 200), calls=2)
    assert ways == ["program"]


def test_errors_are_those_of_eager_calls():
    for f in (lambda x: x * 2 + engine.ones(4, dtype=F64), lambda x: (x * 2).add_(engine.ones(2, 3, dtype=F64)),
              lambda x: (x + 1)[engine.tensor([7])], lambda x: (x * 2).view(2, 2)):
        with pytest.raises((RuntimeError, IndexError)) as eager:
            f(numbers(3))
        with pytest.raises(eager.type) as compiled:
            engine.compile(f)(numbers(3))
        assert str(compiled.value) == str(eager.value)


@pytest.mark.parametrize("replace", [lambda p, x: setattr(p, "data", x * 2), lambda p, x: engine.mul(x, 2, out=p)],
                         ids=["data", "out"])
@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
def test_a_tensor_with_other_memory(replace):
    p = engine.zeros(2, dtype=F64)

    @engine.compile
    def f(x):
        replace(p, x)
        return p.sum()
    with pytest.warns(UserWarning, match="runs eagerly: it gives a tensor other memory"):
        assert f(numbers(3)).item() == p.sum().item()
    for x in (numbers(3) * 3, numbers(3)):
        f(x)
        assert p.tolist() == (x * 2).tolist()


def test_arrays_of_numpy_that_are_written():
    a = np.zeros(3)

    @engine.compile
    def f(x):
        engine.from_numpy(a).add_(x)
        return x.sum()
    for k in range(1, 4):
        f(engine.ones(3, dtype=F64))
        assert a.tolist() == [float(k)] * 3


def test_hooks_on_what_is_computed_are_no_program():
    seen = []

    @engine.compile
    def f(x):
        y = x * 2
        y.register_hook(lambda g: seen.append(g.tolist()))
        return y.sum()
    x = numbers(2).requires_grad_()
    with pytest.warns(UserWarning, match="runs eagerly: hooks"):
        f(x).backward()
    f(x).backward()
    assert seen == [[1.0, 1.0]] * 2
