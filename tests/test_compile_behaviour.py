"""compile: what goes in and out, what is shared, what runs eagerly and says so. The oracle is the function called eagerly."""
import threading

import numpy as np
import pytest

import engine
from engine import func, nn

F = nn.functional


def test_results_alias_as_eager_ones_do():
    """The same tensor twice, views of arguments and of one another, written memory: a write reaches whom it should."""
    def function(x, w):
        x.mul_(2)
        h = w * 2
        return x, x[1:], h, h[0], h.detach(), x.unfold(0, 2, 2), h
    for f in (function, engine.compile(function)):
        w = engine.ones(3, 2, requires_grad=True)
        for _ in range(2):
            x = engine.arange(4.0)
            same, part, h, first, detached, windows, again = f(x, w)
            assert same is x and again is h and part._base is x and first._base is h
            with engine.no_grad():
                part[0] = 7.0
                first.add_(1)
            assert x.tolist() == [0.0, 7.0, 4.0, 6.0] and windows[0, 1].item() == 7.0
            assert detached.tolist() == [[3.0, 3.0], [2.0, 2.0], [2.0, 2.0]] and h._version == detached._version == 1


def test_a_view_of_a_parameter_is_given_back_with_its_history():
    w = engine.ones(2, 3, requires_grad=True)
    f = engine.compile(lambda x: (w[0], x * w[1]))
    for _ in range(2):
        w.grad = None
        row, product = f(engine.ones(3))
        (row * 3).sum().backward()
        product.sum().backward()
        assert w.grad.tolist() == [[3.0] * 3, [1.0] * 3] and row._base is w
    assert f.cache_info().hits == 1


def test_arguments_that_are_one_another():
    f = engine.compile(lambda a, b: a + 2 * b)
    x = engine.ones(4)
    assert f(x, x).tolist() == [3.0] * 4 and f(x, x * 10).tolist() == [21.0] * 4 and f(x, x).tolist() == [3.0] * 4
    assert f(x[:2], x[1:3]).tolist() == [3.0] * 2 and f(x[:2], x[2:] * 10).tolist() == [21.0] * 2
    w = engine.ones(2)
    g = engine.compile(lambda a: a + 2 * w)
    assert g(w).tolist() == [3.0, 3.0] and g(w * 10).tolist() == [12.0, 12.0] and g(w).tolist() == [3.0, 3.0]


def test_constants_are_new_in_each_call():
    f = engine.compile(lambda x: (engine.tensor([1.0, 2.0]), x * 2))
    for _ in range(3):
        f(engine.ones(2))[0].add_(5)
    assert f(engine.ones(2))[0].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("function", [
    lambda x: engine.from_numpy(np.sin(x.numpy())) + x,
    lambda x: x * 2 if (np.asarray(x) > 0).all() else x,
    lambda x: x.numpy() * 2,
    lambda x: x.unique() + 1,
], ids=["numpy", "branch", "result", "unique"])
def test_memory_handed_out_is_no_program(function):
    f = engine.compile(function)
    with pytest.warns(UserWarning, match=r"runs eagerly.*test_compile_behaviour.py, line"):
        f(engine.ones(2))
    for x in (engine.ones(2), -engine.ones(2), engine.tensor([3.0, -1.0])):
        np.testing.assert_allclose(np.asarray(f(x)), np.asarray(function(x)))


@pytest.mark.parametrize("function", [
    lambda i: F.embedding(i, engine.arange(6.0).reshape(3, 2)),
    lambda i: engine.arange(3.0)[i],
    lambda i: engine.zeros(3).scatter_(0, i, 1.0),
    lambda i: engine.zeros(3).index_put_((i,), engine.ones(2)),
], ids=["embedding", "index", "scatter", "index_put"])
def test_positions_are_checked_in_every_call(function):
    f = engine.compile(function)
    for i in ([0, 2], [1, 1], [2, 0]):
        assert f(engine.tensor(i)).tolist() == function(engine.tensor(i)).tolist()
    with pytest.raises((IndexError, RuntimeError)):
        f(engine.tensor([1, 7]))


def test_sizes_that_depend_on_the_data():
    f = engine.compile(lambda x: (x.nonzero(), x[x > 0] * 2, x.kthvalue(2).values))
    for values in ([1.0, 0.0, 3.0], [1.0, 2.0, 3.0], [4.0, 0.0, 5.0], [0.0, 0.0, 1.0]):
        x = engine.tensor(values)
        assert [t.tolist() for t in f(x)] == [t.tolist() for t in f.function(x)]
    assert not f.eager


def test_lists_and_dicts_that_the_function_reads():
    options, factors = {"scale": 2.0}, [3.0]
    f = engine.compile(lambda x: x * options["scale"] + factors[0])
    assert f(engine.ones(1)).item() == 5.0
    options["scale"], factors[0] = 4.0, 1.0
    assert f(engine.ones(1)).item() == 5.0
    options["scale"] = 7.0
    assert f(engine.ones(1)).item() == 8.0


def test_empty_tensors():
    f = engine.compile(lambda x: (x * 2, x.sum(), x.sum(0), engine.cat([x, x + 1])))
    for _ in range(2):
        assert [t.tolist() for t in f(engine.ones(0, 2))] == [[], 0.0, [0.0, 0.0], []]


def test_batch_norm_and_dropout_in_both_modes():
    def run(decorate):
        engine.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        f, found = decorate(lambda x: model(x)), []
        for training in (True, True, False, False, True):
            model.train(training)
            found.append(f(engine.arange(15.0).reshape(5, 3) / 7).tolist())
        return found, [b.tolist() for b in model.buffers()]
    (found, buffers), (wanted, expected) = run(engine.compile), run(lambda f: f)
    for a, b in zip(found + buffers, wanted + expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_two_threads_call_one_function():
    f = engine.compile(lambda x: (x * 2 + 1).sum())
    found: dict[int, list] = {}

    def work(k):
        found[k] = [f(engine.full((k + 2,), float(j))).item() for j in range(5)]
    threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert found == {k: [(2.0 * j + 1) * (k + 2) for j in range(5)] for k in range(3)}


def test_nested_recursive_and_batched():
    inner = engine.compile(lambda x: x.sin() * 2)

    @engine.compile
    def power(x, n):
        return x if n == 0 else inner(power(x, n - 1)) + x
    x = engine.linspace(0, 1, 6).reshape(3, 2)
    expected = x
    for _ in range(2):
        expected = expected.sin() * 2 + x
    for _ in range(2):
        np.testing.assert_allclose(power(x, 2).numpy(), expected.numpy(), rtol=1e-6)
    np.testing.assert_allclose(func.vmap(inner)(x).numpy(), inner(x).numpy(), rtol=1e-6)
    rows = engine.compile(func.vmap(lambda r: (r * r).sum()))
    np.testing.assert_allclose(rows(x).numpy(), (x.numpy() ** 2).sum(1), rtol=1e-6)


def test_modes_hooks_and_a_graph_that_is_kept():
    f = engine.compile(lambda x: (x * x).sum())
    x = engine.arange(3.0).requires_grad_()
    with engine.no_grad():
        assert not f(x).requires_grad and not f(x).requires_grad
    with engine.inference_mode():
        assert f(x).is_inference()
    seen = []
    y = f(x)
    y.register_hook(lambda g: seen.append(g.item()))
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [0.0, 4.0, 8.0] and seen == [1.0, 1.0]


def test_errors_leave_the_function_usable():
    @engine.compile
    def checked(x):
        if x.sum() < 0:
            raise ValueError("negative")
        return x + 1
    assert checked(engine.ones(2)).tolist() == [2.0, 2.0]
    with pytest.raises(ValueError, match="negative"):
        checked(-engine.ones(2))
    assert checked(engine.ones(2)).tolist() == [2.0, 2.0]
