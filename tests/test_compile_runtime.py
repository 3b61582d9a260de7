"""Compiled functions whose runs differ by more than their arguments: random numbers, and numbers taken out of tensors.

The oracle is the function called eagerly from the same seed.
"""
import math
import warnings

import numpy as np
import pytest

import engine
from engine import nn, tree

F = nn.functional


def inputs(count=3, shape=(6, 5)):
    engine.manual_seed(11)
    return [engine.randn(*shape) for _ in range(count)]


def assert_agree(function, arguments=None, misses=1):
    """Compiled equals eager, call after call, and leaves the generator in the same state."""
    compiled = engine.compile(function)
    for seed, x in enumerate(inputs() if arguments is None else arguments):
        results = []
        for f in (function, compiled):
            engine.manual_seed(seed)
            results.append((tree.leaves_of(f(x)), engine.get_rng_state().tolist()))
        (wanted, state), (found, own_state) = results
        assert state == own_state
        for a, b in zip(wanted, found, strict=True):
            assert type(a) is type(b)
            if isinstance(a, engine.Tensor):
                assert a.dtype is b.dtype
                np.testing.assert_allclose(b.numpy(), a.numpy(), rtol=3e-6)
            else:
                assert a == b
    assert compiled.cache_info().misses == misses and not compiled.eager
    return compiled


# --- random numbers ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("function", [
    lambda x: (engine.rand(6, 5) * x, engine.randn_like(x) + engine.rand(()), engine.randint(0, 9, (4,))),
    lambda x: (F.dropout(x * 2, 0.4).sum(1), F.dropout1d(x.view(1, 6, 5)), F.feature_alpha_dropout(x)),
    lambda x: (x[engine.randperm(6)].exp(), engine.multinomial(x.exp(), 2), engine.multinomial(x[0].exp(), 7, replacement=True)),
    lambda x: (engine.bernoulli(engine.sigmoid(x)), engine.normal(x, 2.0), engine.poisson(x.exp()), engine.rand(5) + x),
    lambda x: (engine.empty(6, 5).normal_() * x, x.clone().uniform_(1, 2), engine.zeros(7).exponential_().cumsum(0)),
    lambda x: (engine.rand(3), x * 0 + 1)[1] + engine.rand(()),
], ids=["made", "dropout", "chosen", "parameters", "in place", "unused"])
def test_random_numbers_are_what_eager_calls_draw(function):
    assert_agree(function)


def test_a_generator_of_one_s_own():
    generators = [engine.Generator().manual_seed(3) for _ in range(2)]
    eager, compiled = ((lambda x, g=g: x + engine.rand(5, generator=g)) for g in generators)
    compiled = engine.compile(compiled)
    for x in inputs():
        assert eager(x).tolist() == compiled(x).tolist()


def test_numbers_drawn_for_a_program_that_does_not_fit_are_given_back():
    assert_agree(lambda x: x * 2 + engine.rand(5) if (engine.rand(()) + x).sum() > 0 else x - engine.rand(5),
                 [abs(inputs()[0]), -abs(inputs()[0]) - 5, abs(inputs()[0]), -abs(inputs()[0]) - 5], misses=2)


def test_gradients_use_the_numbers_of_their_forward_pass():
    w = engine.randn(5, requires_grad=True)

    def loss(x):
        h = F.dropout(engine.tanh(x * w), 0.5)
        return (h * h * (engine.rand(5) + 1)).sum()
    compiled = engine.compile(loss)
    for seed, x in enumerate(inputs()):
        found = []
        for f in (loss, compiled):
            engine.manual_seed(seed)
            first = f(x)
            engine.rand(100)                    # what is drawn in between must not matter
            (g,) = engine.autograd.grad(first, w, create_graph=True)
            found.append((g.tolist(), engine.autograd.grad((g * g).sum(), w)[0].tolist()))
        np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-5)
        np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-4)
    assert compiled.cache_info().misses == 1


def test_a_training_step_with_dropout():
    def run(decorate):
        engine.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))
        optimizer = engine.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

        @decorate
        def step(x):
            optimizer.zero_grad()
            loss = (model(x) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss
        return [step(x).item() for x in inputs(6)]
    np.testing.assert_allclose(run(engine.compile), run(lambda f: f), rtol=1e-4)


def test_seeding_inside_runs_eagerly_and_says_so():
    def seeded(x):
        engine.manual_seed(4)
        return x + engine.rand(5)
    f = engine.compile(seeded)
    with pytest.warns(UserWarning, match="state of a generator"):
        first = f(engine.zeros(5))
    assert first.tolist() == f(engine.zeros(5)).tolist()


# --- numbers ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("function", [
    lambda x: x * x.sum().item(),
    lambda x: x * (2.0 / (1 + abs(x.sum().item())) - x.mean().item() ** 2) + 3 - x[0, 0].item(),
    lambda x: (x.sum().item() * 2, x + 1, -x.max().item(), (x > 0).sum().item()),
    lambda x: x.sum() / ((x > 0).sum().item() + 1),
    lambda x: engine.where(x > x.mean().item(), x, x.abs().mean().item() ** 0.5),
    lambda x: x.clamp(min=x.mean().item()) + x.abs().sum().item() / 7 * 3,
    lambda x: engine.add(x, x, alpha=x.mean().item()),
    lambda x: (x * 100).long() * (x.sum().item() > -1e9) + (x * 10).long().sum().item(),
], ids=["product", "arithmetic", "given back", "count", "where", "clamp", "alpha", "integers"])
def test_numbers_stay_numbers_of_the_run(function):
    assert_agree(function)


def test_item_takes_no_gradient():
    w = engine.randn(5, requires_grad=True)
    eager = lambda x: (x * w).sum() * (x * w).mean().item()
    compiled = engine.compile(eager)
    for x in inputs():
        found = []
        for f in (eager, compiled):
            w.grad = None
            f(x).backward()
            found.append(w.grad.tolist())
        np.testing.assert_allclose(found[1], found[0], rtol=1e-5)
    with pytest.raises(RuntimeError, match="create_graph"):         # the graph would go through the number
        engine.autograd.grad(compiled(x), w, create_graph=True)


def test_a_loop_until_a_number_is_small():
    def halve(x):
        largest, count = 1.0, 0
        while largest > 0.5 and count < 20:
            x = x / 2
            largest, count = x.abs().max().item(), count + 1
        return x, count
    y = engine.tensor([3.0, 1.0])
    assert_agree(halve, [y, y * 1.01, y * 4, y * 4.1, y * 0.99], misses=2)


def test_python_s_errors_are_kept():
    f = engine.compile(lambda x: 1.0 / x.sum().item() * x)
    assert f(engine.ones(2)).tolist() == [0.5, 0.5]
    assert f(engine.ones(2) * 2).tolist() == [0.5, 0.5]
    with pytest.raises(ZeroDivisionError):
        f(engine.zeros(2))
    assert f.cache_info().hits == 1
    square = engine.compile(lambda x: x.double().sum().item() ** 2)
    assert square(engine.ones(2)) == 4.0
    with pytest.raises(OverflowError):
        square(engine.full((2,), 1e200, dtype=engine.float64))


def test_large_integers_are_python_s():
    f = engine.compile(lambda x: x.sum().item() * 3)
    assert f(engine.tensor([2, 3])) == 15
    assert f(engine.tensor([2 ** 62, 0])) == 3 * 2 ** 62


def test_a_number_kept_elsewhere_is_kept_at_every_call():
    seen = []

    def keep(x):
        value = x.sum().item()
        seen.append(value)
        return x * value
    f = engine.compile(keep)
    for k in (1.0, 2.0, 3.0):
        f(engine.full((2,), k))
    assert seen == [2.0, 4.0, 6.0]
    assert np.array(seen).dtype == np.float64 and math.isclose(sum(seen), 12.0)


@pytest.mark.parametrize("look", [math.sin, float, str, lambda v: f"{v:.3f}", round, hash, lambda v: np.float64(v) * 2, np.asarray,
                                  lambda v: v // 2, lambda v: 7 % v, lambda v: 2 ** v, lambda v: {v: 1}, lambda v: v.is_integer()],
                         ids=["sin", "float", "str", "format", "round", "hash", "float64", "asarray", "floordiv", "mod", "pow",
                              "dict", "method"])
def test_whatever_looks_at_a_number_is_right_for_each_number(look):
    taken = []

    def function(x):
        value = x.sum().item()
        taken.append(look(value))
        return x + 1
    f = engine.compile(function)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for k in (1.0, 2.5, 1.0):
            f(engine.full((2,), k))
    assert f.cache_info().misses == 2               # one for each number, and the first number found its program again
    assert taken[0] == look(2.0) and taken[1] == look(5.0)


def test_a_function_that_cannot_be_traced_runs_once():
    """What makes a program impossible shows while the function runs; it is not run again for that call."""
    count = []

    def function(x):
        count.append(1)
        x.add_(1)
        engine.manual_seed(1)
        return x * 2
    f = engine.compile(function)
    x = engine.zeros(2)
    with pytest.warns(UserWarning, match="runs eagerly"):
        assert f(x).tolist() == [2.0, 2.0]
    assert len(count) == 1 and x.tolist() == [1.0, 1.0]
