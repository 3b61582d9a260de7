"""`engine.reduction`: reductions made of scalar functions, against NumPy, finite differences and the book's own folds."""
import math
import os
import subprocess
import sys

import numpy as np
import pytest

import engine
from engine.autograd import gradcheck, gradgradcheck
from engine.testing import check_operator
from engine.written.reduction import reduction


@reduction(map=lambda x: (x, x * x), start=(0.0, 0.0), finish=lambda s, q, n: math.sqrt(q / n - (s / n) ** 2))
def spread_of(s, q, t, r):
    """Standard deviation from two sums."""
    return s + t, q + r


@reduction(start=1.0)
def own_product(a, b):
    return a * b


@reduction(start=-math.inf, map=lambda x: x, finish=lambda m: m)
def smooth_largest(a, b):
    """log(exp(a) + exp(b)), with a branch."""
    if a == -math.inf:
        return b
    if b == -math.inf:
        return a
    top = max(a, b)
    return top + math.log1p(math.exp(-abs(a - b)))


@reduction(start=(1.0, 0.0), map=lambda x: (x, 1.0), finish=lambda a, b: b)
def affine(a, b, c, d):
    """x -> a x + b composed with x -> c x + d: associative, not commutative."""
    return a * c, b * c + d


ORACLES = {
    spread_of: lambda x, axis: np.std(x, axis=axis),
    own_product: lambda x, axis: np.prod(x, axis=axis),
    smooth_largest: lambda x, axis: np.logaddexp.reduce(x, axis=axis) if axis is not None else np.logaddexp.reduce(x.reshape(-1)),
}


def arrays(*shape, dtype="float64"):
    return np.random.default_rng(sum(shape)).uniform(0.5, 1.5, shape).astype(dtype)


@pytest.mark.parametrize("op", ORACLES, ids=lambda op: op.name)
@pytest.mark.parametrize("dim", [None, 0, 1, (0, 2), -1])
def test_values_over_any_dimensions(op, dim):
    x = arrays(5, 7, 6)
    found = op(engine.from_numpy(x), dim)
    axis = tuple(range(3)) if dim is None else dim
    wanted = ORACLES[op](x, axis) if not isinstance(axis, tuple) else ORACLES[op](
        np.moveaxis(x, axis, range(len(axis))).reshape(-1, *[n for d, n in enumerate(x.shape) if d not in axis]), 0)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12)
    kept = op(engine.from_numpy(x), dim, keepdim=True)
    assert kept.shape == tuple(1 if d in {a % 3 for a in ((axis,) if isinstance(axis, int) else axis)} else n
                               for d, n in enumerate(x.shape))
    np.testing.assert_array_equal(kept.reshape(found.shape).numpy(), found.numpy())


def test_large_and_other_dtypes():
    x = arrays(300, 500, dtype="float32")
    np.testing.assert_allclose(spread_of(engine.from_numpy(x), 0).numpy(), x.astype("float64").std(0), rtol=1e-5)
    np.testing.assert_allclose(spread_of(engine.from_numpy(x)).item(), x.astype("float64").std(), rtol=1e-5)
    assert spread_of(engine.tensor([1, 2, 3, 4])).item() == pytest.approx(math.sqrt(1.25))
    assert spread_of(engine.tensor([1, 2, 3, 4])).dtype is engine.float32
    assert own_product(engine.from_numpy(x[:9, :3]).half(), 1).dtype is engine.float16
    np.testing.assert_allclose(own_product(engine.from_numpy(x).T[::7], 1).numpy(), x.T[::7].astype("float64").prod(1), rtol=1e-4)


def test_order_is_kept():
    x = arrays(1001)
    b = 0.0
    for v in x:
        b = b * v + 1.0
    assert affine(engine.from_numpy(x)).item() == pytest.approx(b, rel=1e-12)


def test_empty_and_single():
    assert own_product(engine.ones(0)).item() == 1.0
    assert own_product(engine.ones(3, 0, dtype=engine.float64), 1).tolist() == [1.0] * 3
    assert smooth_largest(engine.tensor(2.5)).item() == 2.5
    assert own_product(engine.ones(0, 3), 1).shape == (0,)


@pytest.mark.parametrize("op", [*ORACLES, affine], ids=lambda op: op.name)
def test_derivatives(op):
    x = engine.from_numpy(arrays(3, 5)).requires_grad_()
    assert gradcheck(lambda x: op(x, 1), (x,)) and gradcheck(op, (x,))
    assert gradgradcheck(lambda x: op(x, 0, keepdim=True), (x,))


def test_derivatives_where_a_factor_is_zero():
    x = engine.tensor([2.0, 0.0, 3.0], dtype=engine.float64, requires_grad=True)
    own_product(x).backward()
    assert x.grad.tolist() == [0.0, 6.0, 0.0]


def test_compiled_and_vectorised():
    x = engine.from_numpy(arrays(4, 6))
    f = lambda x: spread_of(x * 2, 1).sum()
    assert engine.compile(f)(x).item() == pytest.approx(f(x).item())
    np.testing.assert_allclose(engine.func.grad(engine.compile(f))(x).numpy(), engine.func.grad(f)(x).numpy(), rtol=1e-12)
    np.testing.assert_allclose(engine.func.vmap(lambda r: spread_of(r))(x).numpy(), spread_of(x, 1).numpy(), rtol=1e-13)
    tangent = engine.func.jvp(lambda x: own_product(x, 1), (x,), (engine.ones(4, 6, dtype=engine.float64),))[1]
    np.testing.assert_allclose(tangent.numpy(), (x.numpy().prod(1, keepdims=True) / x.numpy()).sum(1), rtol=1e-12)


def test_several_tensors():
    mean = reduction(map=lambda x, w: (w * x, w), start=(0.0, 0.0), finish=lambda s, w: s / w, name="weighted")(
        lambda s, w, t, v: (s + t, w + v))
    dot = reduction(lambda a, b: a + b, start=0.0, map=lambda x, y: x * y, name="dotted")
    x, w = arrays(3, 5), np.abs(arrays(5)) + 0.1
    tx, tw = engine.from_numpy(x).requires_grad_(), engine.from_numpy(w).requires_grad_()
    np.testing.assert_allclose(mean(tx, tw, 1).detach().numpy(), np.average(x, 1, w), rtol=1e-13)
    np.testing.assert_allclose(mean(tx, tw, dim=1, keepdim=True).detach().numpy(), np.average(x, 1, w)[:, None], rtol=1e-13)
    assert mean(tx, 2.0 * engine.ones(5)).item() == pytest.approx(x.mean())
    np.testing.assert_allclose(dot(tx, tx, 0).detach().numpy(), (x * x).sum(0), rtol=1e-13)
    assert gradcheck(lambda x, w: mean(x, w, 1), (tx, tw)) and dot(engine.ones(0), engine.ones(0)).item() == 0
    whole = engine.compile(lambda x, w: mean(x, w))(tx.detach(), tw.detach())
    assert whole.item() == pytest.approx(np.average(x, weights=w * np.ones((3, 1))))
    with pytest.raises(TypeError, match=r"weighted\(\) takes 2 tensors, dim and keepdim, got 1"):
        mean(tx)
    with pytest.raises(RuntimeError, match="size of tensor a"):
        dot(tx, engine.ones(4, dtype=engine.float64))


def test_out_names_and_the_table():
    out = engine.empty(5)
    assert own_product(engine.ones(5, 2), 1, out=out) is out and out.tolist() == [1.0] * 5
    assert own_product(engine.ones(2, requires_grad=True)).grad_fn.name() == "OwnProductBackward0"
    assert ("own_product", "cpu") in engine.dispatch.table() and repr(own_product) == "<reduction own_product>"
    assert own_product.__doc__ is None and "Standard deviation" in spread_of.__doc__


def test_what_does_not_fit_is_said():
    with pytest.raises(TypeError, match="combine must take 4 numbers"):
        reduction(lambda a, b: a + b, start=(0.0, 0.0), map=lambda x: (x, x), finish=lambda s, t: s, name="wrong1")
    with pytest.raises(TypeError, match="needs map"):
        reduction(lambda a, b, c, d: (a, b), start=(0.0, 0.0), name="wrong2")
    with pytest.raises(TypeError, match="map must return a tuple of 2"):
        reduction(lambda a, b, c, d: (a, b), start=(0.0, 0.0), map=lambda x: x, finish=lambda s, t: s, name="wrong3")
    with pytest.raises(TypeError, match="finish must take 1 numbers, or 2"):
        reduction(lambda a, b: a + b, start=0.0, finish=lambda a, b, c: a, name="wrong4")
    with pytest.raises(ValueError, match="already"):
        reduction(lambda a, b: a + b, start=0.0, name="sum")
    with pytest.raises(NotImplementedError, match="ComplexFloat"):
        own_product(engine.ones(3, dtype=engine.complex64))
    with pytest.raises(IndexError, match="Dimension out of range"):
        own_product(engine.ones(3), 2)
    with pytest.raises(TypeError, match="must be Tensor"):
        own_product([1.0, 2.0])


def test_a_second_process_takes_it_from_the_store(tmp_path):
    file = tmp_path / "own.py"
    file.write_text("import sys, engine\nfrom kernels.cpu import native\n"
                    "@engine.reduction(start=0.0, map=lambda x: x * x)\ndef total_of_squares(a, b):\n    return a + b\n"
                    "print(total_of_squares(engine.tensor([1.0, 2.0])).item(), native.compilations, 'numba' in sys.modules)\n")
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(p for p in sys.path if p))
    first, second = (subprocess.run([sys.executable, str(file)], env=env, capture_output=True, text=True, timeout=120)
                     for _ in range(2))
    assert first.stdout.startswith("5.0") and second.stdout == "5.0 0 False\n", second.stderr


@pytest.mark.usefixtures("clean_book")
def test_the_books_own_checks_take_reductions():
    @reduction(map=lambda x: (x, x * x), start=(0.0, 0.0), finish=lambda s, q, n: q - s * s / n)
    def scatter_of(s, q, t, r):
        return s + t, q + r

    def right(x, axis, keepdims):
        return ((x - x.mean(axis=axis, keepdims=True)) ** 2).sum(axis=axis, keepdims=keepdims)
    check_operator(scatter_of, like=right, tol=64)
    with pytest.raises(AssertionError, match="scatter_of, float64"):
        check_operator(scatter_of, like=lambda x, axis, keepdims: right(x, axis, keepdims) + 1e-9, tol=64)
