"""The kernels that `engine.compile` writes: folds side by side, writes in place, turned products; and how kernels are compiled.

Values are compared with NumPy or with the uncompiled function. What programs mean is tested in test_compile*.py.
"""
import numba
import numpy as np
import pytest

import engine
from kernels.cpu import native
from kernels.cpu.compiler import CompileError


def normal(*shape, seed=0, dtype="float64"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def compare(function, *shapes, dtype="float64", tol=1e-11):
    """Compiled equals eager in results and in what it does to its arguments; returns the compiled function."""
    compiled = engine.compile(function)
    for k in range(2):
        given = [engine.tensor(normal(*s, seed=10 * k + j, dtype=dtype)) for j, s in enumerate(shapes)]
        copies = [t.clone() for t in given]
        got, want = compiled(*given), function(*copies)
        for a, b in zip((*got, *given), (*want, *copies), strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=tol, atol=tol)
            assert a.dtype is b.dtype and a.stride() == b.stride()
    assert compiled.cache_info()[:2] == (1, 1)
    return compiled


# --- folds over leading dimensions ------------------------------------------------------------------------------------

def test_folds_over_leading_dimensions_walk_memory_in_its_order():
    def folds(x, w):
        y = engine.tanh(x) * w
        return y.sum(0), engine.amax(y, 0), (y > 0.5).any(0), engine.sin(y.mean(0, keepdim=True)), y
    compiled = compare(folds, (70, 33), (33,))
    assert "tile" in compiled.source()


@pytest.mark.parametrize("shape, dims", [((5, 4, 24), (0, 1)), ((6, 33, 17), (1,)), ((3, 2, 40), (0,)), ((40, 5), (0,))])
def test_folds_over_some_dimensions(shape, dims):
    compare(lambda x: (x.sum(dims), engine.argmax(x, dims[0]), engine.logsumexp(x * 2, dims)), shape)


def test_side_by_side_folds_add_in_wide_totals():
    x = engine.full((4097, 16), 0.1, dtype=engine.float32)
    compiled = engine.compile(lambda x: ((x * 1).sum(0), x + 1))
    compiled(x)
    total, _ = compiled(x)
    assert "tile" in compiled.source()
    np.testing.assert_allclose(total.numpy(), np.full(16, 4097 * np.float32(0.1).astype("float64")), rtol=1e-6)


def test_results_do_not_depend_on_the_number_of_threads():
    x, w = engine.tensor(normal(700, 300, dtype="float32")), engine.tensor(normal(300, dtype="float32"))
    compiled = engine.compile(lambda x, w: ((engine.exp(x) * w).sum(0), engine.exp(x).sum(1), (x * w).sum()))
    compiled(x, w)
    before, seen = engine.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            engine.set_num_threads(count)
            seen.append([r.numpy().tobytes() for r in compiled(x, w)])
    finally:
        engine.set_num_threads(before)
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.parametrize("keepdim", [False, True])
def test_what_follows_a_fold_row_by_row_runs_after_it(keepdim):
    def follow(x):
        return ((x > 1).any(0, keepdim=keepdim).to(x.dtype), engine.sin(engine.linalg.vector_norm(x, dim=(1,), keepdim=keepdim)),
                engine.cos(x.sum((0, 1), keepdim=keepdim)))
    compare(follow, (33, 7))


# --- writes in place --------------------------------------------------------------------------------------------------

def test_a_dead_value_is_overwritten():
    def update(p, g):
        p.mul_(0.9).sub_(engine.tanh(g))
        return (p.sum(),)
    assert len(compare(update, (50, 40), (50, 40)).last.forward.targets) == 1


@pytest.mark.parametrize("update", [
    lambda x: (x.add_(x.flip(0)),), lambda x: (x * 1, x.mul_(x.sum())), lambda x: (x[1:] * x[:-1], x.mul_(3)),
    lambda x: (x.t().mul_(2).sum(), x.add_(x.t())), lambda x: (x.sub_(x.mean(0)).sum(1), x.amax())],
    ids=["flipped", "returned", "shifted", "transposed", "folded"])
def test_a_value_that_is_still_read_is_not_overwritten(update):
    compare(update, (40, 40))


@pytest.mark.filterwarnings("ignore:compile.*runs eagerly")
def test_arguments_that_share_memory_are_seen():
    def update(x, y):
        y.mul_(2).add_(x)
        return y.sum()
    compiled = engine.compile(update)
    for _ in range(2):
        compiled(engine.ones(500), engine.ones(500))
    mine, other = engine.arange(503.0), engine.arange(503.0)
    for _ in range(2):
        compiled(mine[:500], mine[3:])
        update(other[:500], other[3:])
        np.testing.assert_array_equal(mine.numpy(), other.numpy())
        compiled(mine[:500], mine[:500])
        update(other[:500], other[:500])
        np.testing.assert_array_equal(mine.numpy(), other.numpy())


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_read_only_memory_is_refused():
    compiled = engine.compile(lambda x: x.mul_(2).add_(engine.tanh(x)).sum())
    compiled(engine.ones(500))
    array = np.ones(500, np.float32)
    array.flags.writeable = False
    with pytest.raises(RuntimeError, match="read-only"):
        compiled(engine.from_numpy(array))
    assert (array == 1).all()


# --- products ---------------------------------------------------------------------------------------------------------

def test_linear_layers_and_their_gradients():
    layer = engine.nn.Linear(7, 5, dtype=engine.float64)
    x = normal(9, 7)

    def step(x):
        layer.zero_grad()
        loss = engine.relu(layer(x)).square().sum()
        loss.backward()
        return loss
    compiled = engine.compile(step)
    for _ in range(3):
        loss = compiled(engine.tensor(x))
        out = x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        g = 2 * np.maximum(out, 0)
        np.testing.assert_allclose(loss.item(), (g * g).sum() / 4, rtol=1e-12)
        np.testing.assert_allclose(layer.weight.grad.numpy(), g.T @ x, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(layer.bias.grad.numpy(), g.sum(0), rtol=1e-11, atol=1e-12)
        assert layer.weight.grad.is_contiguous()
    assert "addmm" not in str(compiled.graph()) and str(compiled.graph()).count("matmul") == 2


def test_weighted_addmm_stays_a_call():
    compare(lambda b, x, w: (engine.addmm(b, x, w, beta=0.5, alpha=2),), (4,), (30, 5), (5, 4))


def test_gradients_share_no_memory_with_what_is_kept():
    compiled = engine.compile(lambda x, y: (engine.exp(x) * y).sum())
    x, y = (engine.tensor(normal(600, seed=k), requires_grad=True) for k in range(2))
    for _ in range(2):
        loss = compiled(x, y)
        first, = engine.autograd.grad(loss, y, retain_graph=True)
        first.zero_()
        again, = engine.autograd.grad(loss, y)
        np.testing.assert_allclose(again.numpy(), np.exp(x.detach().numpy()), rtol=1e-14)


# --- compiling --------------------------------------------------------------------------------------------------------

@numba.njit
def doubled(x):
    return 2 * x + 1


def plus_one(x):
    return doubled(x) + 1


def refusing(x):
    if x > 3:
        raise ValueError("too large")
    return x


def loop(function):
    source = ("def kernel(args, dimensions, steps, data):\n    for i in range(dimensions[0]):\n        store_float64("
              "args[1], i * steps[1], as_float64(f(load_float64(args[0], i * steps[0]))))\n")
    return native.make_ufunc(native.Program(f"test_{function.__name__}", source, functions={"f": (function, "float64")},
                                            inputs=("float64",), outputs=("float64",)))


def test_a_jitted_function_of_others_serves_kernels_and_its_owner():
    np.testing.assert_array_equal(loop(plus_one)(np.arange(4.0)), 2 * np.arange(4.0) + 2)
    assert doubled(5.0) == 11 and doubled(3) == 7
    assert numba.njit(lambda x: doubled(x) - 1)(2.0) == 4


def test_a_kernel_that_may_raise_is_refused():
    with pytest.raises(CompileError, match="may raise or allocate"):
        loop(refusing)
