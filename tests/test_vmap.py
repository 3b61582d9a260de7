"""vmap: a batched function equals the function called for each element, results stacked."""
from __future__ import annotations

import numpy as np
import pytest

import engine
from engine import func, nn
from engine.func import vmap

F = nn.functional
INDEX = engine.tensor([2, 0, 1, 0])


@pytest.fixture
def x():
    values = np.random.default_rng(3).permutation(20).reshape(5, 4) * 0.3 - 2.05
    return engine.from_numpy(values)


def each(f, *args):
    """The oracle: a loop over the first dimension of all arguments."""
    rows = [f(*row) for row in zip(*args, strict=True)]
    if isinstance(rows[0], (tuple, list)):
        return tuple(engine.stack(column) for column in zip(*rows, strict=True))
    return engine.stack(rows)


def same(seen, expected):
    seen, expected = (tuple(t) if isinstance(t, (tuple, list)) else (t,) for t in (seen, expected))
    for s, e in zip(seen, expected, strict=True):
        assert s.shape == e.shape and s.dtype is e.dtype
        np.testing.assert_allclose(s.detach().numpy(), e.detach().numpy(), rtol=1e-12, atol=1e-13)


def build(x):
    y = x.new_zeros(5)
    y[1:] = x
    y[0] = x.sum()
    y[1::2].mul_(3.0)
    y.flip(0)[:2] += 1
    y.neg_()
    return y


def reversed_views(x):
    return x.flip(0).roll(1), engine.rot90(x.reshape(2, 2)), x.reshape(2, 2).t().flip(1) * x.reshape(2, 2)


FUNCTIONS = {
    "pointwise": lambda x: (x.sin() * x + 2 ** x, x.clone(), -x.int(), (x > 0) & (x < 1), engine.maximum(x, x.new_zeros(()))),
    "views": lambda x: (x[1:] * x[0], x.reshape(2, 2).t(), x[..., None] * x, x.unsqueeze(0).expand(3, 4), *x.chunk(2),
                        x.unbind()[1]),
    "reversed": reversed_views,
    "reductions": lambda x: (x.sum(), x.mean(), x.prod(), x.max(), x.argmax(), *x.min(0), x.var(), x.std(0), x.norm(),
                             x.logsumexp(0),
                             x.sum().sum(), (x > 0).any(), (x > 0).all(), x.reshape(2, 2).argmin(), x.amax()),
    "softmax": lambda x: (x.softmax(0), x.log_softmax(0), x.reshape(2, 2).softmax(1)),
    "scans": lambda x: (x.cumsum(0), x.cumprod(0), x.reshape(2, 2).cumsum(1), x.cummax(0)[0], x.diff()),
    "sorting": lambda x: (*x.sort(), *x.topk(2), x.argsort(), x.median()),
    "joins": lambda x: (engine.cat([x, engine.ones(1, dtype=engine.float64)]), engine.stack([x, x * x], 1), x.repeat(2),
                        x.tile((2,))),
    "indexing": lambda x: (x[INDEX], x[[0, 0]], x.index_select(0, INDEX), x.gather(0, INDEX),
                           x[engine.tensor([True, False, True, True])]),
    "scatter": lambda x: (x.scatter_add(0, INDEX, x), x.index_add(0, INDEX, x), x.scatter(0, INDEX[:1], 9.0),
                          x.masked_fill(x > 0, 1.0)),
    "products": lambda x: (x @ x, x.reshape(2, 2) @ x[:2], x[:2] @ x.reshape(2, 2), x.outer(x), engine.einsum("i,j->ij", x, x)),
    "linalg": lambda x: (engine.linalg.inv(x.reshape(2, 2) + 5 * engine.eye(2, dtype=engine.float64)),
                         engine.linalg.det(x.reshape(2, 2)), x.outer(x).tril()),
    "losses": lambda x: (F.mse_loss(x, x.sin()), F.cross_entropy(x, engine.tensor(1)), F.smooth_l1_loss(x, x * 0)),
    "layers": lambda x: (F.layer_norm(x, (4,)), F.gelu(x), F.conv1d(x[None], engine.ones(2, 1, 2, dtype=engine.float64)),
                         F.pad(x, (1, 2)), F.linear(x, engine.ones(3, 4, dtype=engine.float64))),
    "in_place": build,
    "gradient": func.grad(lambda x: (x.sort()[0][0] + x.gather(0, INDEX).sum() * x.cumsum(0).sum() + x.max() + build(x).sum())),
    "jvp": lambda x: func.jvp(lambda x: x.softmax(0), (x,), (x,)),
    "vjp": lambda x: func.vjp(lambda y: y.sin() * x, x)[1](x)[0],
    "jacrev": func.jacrev(lambda x: engine.cat([x, x ** 2])),
    "jacfwd": func.jacfwd(lambda x: x.softmax(0)),
    "hessian": func.hessian(lambda x: (x ** 3).prod()),
    "constant": lambda x: (x, engine.arange(3) * 2, x * 0 + engine.tensor(2.0, dtype=engine.float64)),
    "same_count": lambda x: x[x.sort()[1] > 1],                 # positions differ from element to element
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, x):
    f = FUNCTIONS[name]
    expected = each(f, x)
    same(vmap(f)(x), expected)
    same(vmap(f, in_dims=1)(x.t().contiguous()), expected)      # another layout
    same(vmap(f, chunk_size=2)(x), expected)


def test_two_arguments(x):
    y = x * 2 + 1
    index = engine.tensor([[0, 1], [2, 3], [1, 1], [0, 0], [3, 2]])
    matrices = engine.arange(5 * 4 * 3, dtype=engine.float64).reshape(5, 4, 3)
    for f, args in [(engine.dot, (x, y)), (lambda a, i: a[i], (x, index)), (lambda a, i: a.gather(0, i), (x, index)),
                    (lambda a, i: a.index_add(0, i, a[:2]), (x, index)), (lambda a, m: a @ m, (x, matrices)),
                    (lambda m, a: a @ m + a[0], (matrices, x)), (lambda a, m: m.t() @ a, (x, matrices)),
                    (lambda m, n: m.t() @ n, (matrices, matrices)), (lambda a, i: a[i[0]] * 2, (x, index)),
                    (lambda a, t: F.cross_entropy(a, t), (x, index[:, 0])),
                    (func.grad(lambda a, t: F.cross_entropy(a, t)), (x, index[:, 0]))]:
        same(vmap(f)(*args), each(f, *args))
    weight = matrices[0]
    same(vmap(engine.matmul, in_dims=(0, None))(x, weight), x @ weight)
    same(vmap(lambda w, a: a @ w, in_dims=(None, 0))(weight, x), x @ weight)
    same(vmap(lambda p: F.embedding(engine.tensor([1, 0]), p))(matrices), matrices[:, [1, 0]])


def test_dimensions(x):
    d = {"a": x, "b": (x.t(), 3.0)}
    f = lambda d: {"o": d["a"] * d["b"][1] + d["b"][0], "s": d["a"].sum()}
    got = vmap(f, in_dims=({"a": 0, "b": (1, None)},), out_dims={"o": -1, "s": 0})(d)
    same(got["o"], (x * 3 + x).t())
    same(got["s"], x.sum(1))
    same(vmap(lambda a: (a, engine.ones(1)), out_dims=(1, None))(x), (x.t(), engine.ones(1)))
    same(vmap(lambda a, k=1.0: a * k)(x, k=2.0), x * 2)
    same(vmap(lambda a, n: a ** n, in_dims=(0, None))(x, 2), x ** 2)


def test_nesting(x):
    a, b = engine.arange(3, dtype=engine.float64), engine.arange(4, dtype=engine.float64)
    same(vmap(vmap(engine.mul, in_dims=(None, 0)), in_dims=(0, None))(a, b), a[:, None] * b)
    assert vmap(vmap(lambda t: t * 2, out_dims=-1), in_dims=1, out_dims=1)(engine.ones(2, 3, 4)).shape == (4, 3, 2)
    same(vmap(lambda r: vmap(lambda s: (r * s).sum())(x))(x), x @ x.t())
    same(vmap(vmap(func.grad(func.grad(engine.sin))))(x), -x.sin())


def test_differentiates(x):
    cubes = vmap(lambda r: (r ** 3).sum())
    same(func.grad(lambda x: cubes(x).sum())(x), 3 * x ** 2)
    same(func.jvp(cubes, (x,), (x,))[1], (3 * x ** 3).sum(1))
    assert func.hessian(lambda x: cubes(x).sum())(x).shape == (5, 4, 5, 4)
    same(func.jacrev(vmap(lambda r: r.prod()))(x).sum(1), func.jacfwd(vmap(lambda r: r.prod()))(x).sum(1))
    weight = engine.ones(4, dtype=engine.float64, requires_grad=True)
    leaf = x.clone().requires_grad_()
    vmap(lambda r: (r * weight).sum())(leaf).sum().backward()
    same(weight.grad, x.sum(0))
    same(leaf.grad, engine.ones(5, 4, dtype=engine.float64))
    same(vmap(func.grad(lambda w, r: (r @ w).sin()), in_dims=(None, 0))(weight.detach(), x), x.sum(1).cos()[:, None] * x)


def test_ensembles_and_gradients_per_sample(x):
    models = [nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double() for _ in range(3)]
    parameters, buffers = func.stack_module_state(models)
    run = lambda p, b, x: func.functional_call(models[0], (p, b), (x,))
    same(vmap(run, in_dims=(0, 0, None))(parameters, buffers, x), engine.stack([m(x) for m in models]))
    target = engine.tensor([0, 1, 1, 0, 1])
    loss = lambda p, x, t: F.cross_entropy(func.functional_call(models[0], p, (x[None],)), t[None])
    own = {n: p.detach() for n, p in models[0].named_parameters()}
    got = vmap(func.grad(loss), in_dims=(None, 0, 0))(own, x, target)
    for k in range(5):
        for name, g in func.grad(loss)(own, x[k], target[k]).items():
            np.testing.assert_allclose(got[name][k].numpy(), g.numpy(), rtol=1e-10, atol=1e-12)


def test_writes_to_batched_arguments(x):
    before = x.clone()
    got = vmap(lambda r: r.mul_(2).add_(1))(x)
    same(x, before * 2 + 1)
    same(got, x)
    shared = engine.zeros(4, dtype=engine.float64)
    with pytest.raises(RuntimeError, match="not batched"):
        vmap(lambda r: shared.add_(r))(x)


def test_results_have_memory_of_their_own(x):
    got = vmap(lambda r: r.clone())(x)
    got.zero_()
    assert x.all()


def test_randomness():
    ones = engine.ones(6, 8)
    with pytest.raises(RuntimeError, match="called random operation while in randomness error mode"):
        vmap(lambda r: F.dropout(r))(ones)
    for f in (lambda r: F.dropout(r), lambda r: engine.rand(8) + r, lambda r: r + engine.randn_like(r),
              lambda r: r.clone().normal_()):
        engine.manual_seed(5)
        alike = vmap(f, randomness="same")(ones)
        assert (alike == alike[0]).all()
        engine.manual_seed(5)
        assert (f(ones[0]) == alike[0]).all()
        assert not (vmap(f, randomness="different")(ones).var(0) == 0).all()
    generator = engine.Generator().manual_seed(1)
    alike = vmap(lambda r: engine.rand(8, generator=generator), randomness="same")(ones)
    assert (alike == alike[0]).all()


def test_empty_batch():
    empty = engine.ones(0, 3, dtype=engine.float64)
    assert vmap(lambda r: r * 2)(empty).shape == (0, 3)
    assert vmap(lambda r: r.sum())(empty).shape == (0,)
    assert vmap(lambda r: r @ r)(empty).shape == (0,)
    assert vmap(lambda r: r.sort()[0])(empty).shape == (0, 3)
    assert vmap(func.grad(lambda r: r.exp().sum()))(empty).shape == (0, 3)


@pytest.mark.parametrize("call, error, text", [
    (lambda x: vmap(lambda a: a, in_dims=None)(x), ValueError, "expected `in_dims` to be int or a .potentially nested. tuple"),
    (lambda x: vmap(lambda a: a, in_dims=(0, 0))(x), ValueError, "in_dims is not compatible with the structure of `inputs`"),
    (lambda x: vmap(lambda a: a, in_dims=({"a": 0},))({"a": x, "b": x}), ValueError, "in_dims is not compatible"),
    (lambda x: vmap(lambda a: a)(), ValueError, "got no inputs"),
    (lambda x: vmap(lambda a: a, in_dims=2)(x), ValueError, "dimensionality 2 so expected in_dim to satisfy -2 <= in_dim < 2"),
    (lambda x: vmap(lambda a, b: a)(x, 3.0), ValueError, "We cannot vmap over non-Tensor arguments"),
    (lambda x: vmap(lambda a, b: a)(x, x[:2]), ValueError, r"same size in the mapped dimension, got sizes \[5, 2\]"),
    (lambda x: vmap(lambda a: a, in_dims=(None,))(x), ValueError, "at least one Tensor to vmap over"),
    (lambda x: vmap(lambda a: a, in_dims=("a",))(x), ValueError, "in_dim must be either an integer dimension or None"),
    (lambda x: vmap(lambda a: 3.0)(x), ValueError, "must only return Tensors, got type <class 'float'>"),
    (lambda x: vmap(lambda a: a, out_dims=(0, 0))(x), ValueError, "out_dims is not compatible with the structure of `outputs`"),
    (lambda x: vmap(lambda a: a, out_dims="a")(x), ValueError, "`out_dims` must be an int, None or a python collection"),
    (lambda x: vmap(lambda a: a, out_dims=None)(x), ValueError, "can not return a BatchedTensor when out_dim is None"),
    (lambda x: vmap(lambda a: a, out_dims=2)(x), IndexError, "Dimension out of range"),
    (lambda x: vmap(lambda a: a if a.sum() > 0 else -a)(x), RuntimeError, "data-dependent control flow"),
    (lambda x: vmap(lambda a: a * a.sum().item())(x), RuntimeError, r"calling .item\(\) on a Tensor"),
    (lambda x: vmap(lambda a: a[a > 0])(x), RuntimeError, "dynamic shape"),
    (lambda x: vmap(lambda a: a, chunk_size=0)(x), ValueError, "chunk_size should be None or greater than 0"),
    (lambda x: vmap(lambda a: a, randomness="maybe")(x), RuntimeError, "Only allowed values for randomness"),
])
def test_errors(x, call, error, text):
    with pytest.raises(error, match=text):
        call(x)


# --- programs are kept ------------------------------------------------------------------------------------------------

scale = 2.0


def test_the_function_is_traced_once_for_each_signature(x):
    f = vmap(lambda r: r * scale)
    for _ in range(3):
        same(f(x), x * 2)
    assert f.batcher.traces == 1
    same(f(x[:3]), x[:3] * 2)                   # another batch size: the same program
    assert f.batcher.traces == 1
    same(f(x[:, :2]), x[:, :2] * 2)
    same(f(x.float()), x.float() * 2)
    assert f.batcher.traces == 3


def test_changes_outside_are_seen(x):
    global scale
    factor, weight, options = 3.0, engine.ones(4, dtype=engine.float64), {"power": 2}
    closed, captured = vmap(lambda r: r * factor * scale), vmap(lambda r: r * weight)
    listed = vmap(lambda r: r ** options["power"])
    same(closed(x), x * 6)
    same(captured(x), x)
    same(listed(x), x ** 2)
    factor, options["power"] = 5.0, 3
    weight.mul_(2)
    try:
        scale = 3.0
        same(closed(x), x * 15)
    finally:
        scale = 2.0
    same(captured(x), x * 2)
    same(listed(x), x ** 3)
    weight = engine.full((4,), 7.0, dtype=engine.float64)
    same(captured(x), x * 7)
    assert captured.batcher.traces == 2


def test_a_mask_that_selects_more_the_next_time(x):
    f = vmap(lambda r: r[r > 0])
    ones = engine.ones(3, 2)
    same(f(engine.tensor([[1.0, -1.0], [-1.0, 2.0]])), engine.tensor([[1.0], [2.0]]))
    same(f(ones), ones)
