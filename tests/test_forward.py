"""Forward mode: tangents of every differentiable record and of composed functions, against finite differences and reverse mode."""
from __future__ import annotations

import numpy as np
import pytest
from test_book import DIFFERENTIABLE, FOLDS, STRUCTURAL, draw, operands, without_gradient

import engine
from engine import from_numpy, func
from engine.autograd import forward_ad as fw
from engine.testing import pairing


def tensors(arrays):
    return [from_numpy(np.array(a)) for a in arrays]


def several(value):
    return value if isinstance(value, tuple) else (value,)


def check(call, arrays, rng, fixed=(), reverse=False, rtol=1e-5, atol=1e-6):
    """jvp against central differences of fourth order; with `reverse`, <u, J t> from jvp against <J^T u, t> from vjp."""
    active = [k for k, a in enumerate(arrays) if a.dtype.kind in "fc" and k not in fixed]
    directions = [rng.standard_normal(a.shape) + (1j * rng.standard_normal(a.shape) if a.dtype.kind == "c" else 0)
                  if k in active else None for k, a in enumerate(arrays)]

    def f(*xs):
        full = tensors(arrays)
        for k, x in zip(active, xs, strict=True):
            full[k] = x
        return call(*full)
    primals = tuple(tensors([arrays[k] for k in active]))
    tangents = tuple(tensors([directions[k] for k in active]))
    outs, moved = func.jvp(f, primals, tangents)
    outs, moved = several(outs), several(moved)

    def at(h):
        shifted = [a if d is None else a + h * d for a, d in zip(arrays, directions, strict=True)]
        return [t.numpy() for t in several(call(*tensors(shifted)))]
    h = 1e-3
    near, far = (at(h), at(-h)), (at(2 * h), at(-2 * h))
    for k, (out, t) in enumerate(zip(outs, moved, strict=True)):
        assert t.shape == out.shape and t.dtype is out.dtype and not t.requires_grad and not out.requires_grad
        if out.dtype.category < 2:
            assert not t.any()
            continue
        expected = (8 * (near[0][k] - near[1][k]) - (far[0][k] - far[1][k])) / (12 * h)
        np.testing.assert_allclose(t.numpy(), expected, rtol=rtol, atol=atol * max(1.0, np.abs(expected).max(initial=0)))
    if reverse:
        floating = [k for k, o in enumerate(outs) if o.dtype.category >= 2]
        _, pull = func.vjp(lambda *xs: tuple(several(f(*xs))[k] for k in floating), *primals)
        cotangents = tuple(tensors([np.asarray(rng.standard_normal(tuple(outs[k].shape)),
                                               outs[k].numpy().dtype) for k in floating]))
        left = sum(pairing(u.numpy(), moved[k].numpy()) for u, k in zip(cotangents, floating, strict=True))
        right = sum(pairing(g.numpy(), t.numpy()) for g, t in zip(pull(cotangents), tangents, strict=True))
        assert left == pytest.approx(right, rel=1e-8, abs=1e-9)


# --- the book ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("op", [pytest.param(op, id=op.name) for op in DIFFERENTIABLE if "float64" in op.dtypes])
def test_pointwise(op, rng):
    check(op, operands(rng, op, "float64", (4, 3)), rng, fixed=without_gradient(op, False))


COMPLEX = ["add", "mul", "div", "exp", "log", "sqrt", "sin", "tanh", "abs", "angle", "real", "imag", "conj", "where", "pow"]


@pytest.mark.parametrize("op", [pytest.param(op, id=op.name) for op in DIFFERENTIABLE
                                if op.name in COMPLEX and "complex128" in op.dtypes])
def test_complex_pointwise(op, rng):
    check(op, operands(rng, op, "complex128", (3,)), rng, fixed=without_gradient(op, True), reverse=True)


@pytest.mark.parametrize("op", [pytest.param(op, id=op.name) for op in FOLDS if op.differentiable and not op.extra
                                and "float64" in op.dtypes])
def test_folds(op, rng):
    for shape, dims in [((3, 4), (0,)), ((2, 3, 2), (1,)), *([] if op.positions else [((3, 4), None)])]:
        for keepdim in (False, True):
            x = draw(rng, op, "x", "float64", shape)
            if not op.empty:
                x = rng.permutation(x.size).reshape(shape) * 0.2 - 1.0
            check(lambda x, dims=dims, keepdim=keepdim: op(x, dims=dims, keepdim=keepdim), [x], rng)


@pytest.mark.parametrize("op", [pytest.param(op, id=op.name) for op in STRUCTURAL if op.samples is not None and op.differentiable])
def test_structural(op, rng):
    for arrays, options in op.samples(rng, "float64"):
        check((lambda *xs, o=options: op(list(xs), **o)) if op.many else (lambda *xs, o=options: op(*xs, **o)), list(arrays), rng)


# --- composed functions -----------------------------------------------------------------------------------------------

def in_place(x):
    y = x * 2
    y[1:] = x[:-1].sin()
    y[0].mul_(3.0)
    y.add_(x)
    y.t().sub_(x.t() * 0.5)
    return y, y.sum(0)


def through_views(x):
    y = x.clone()
    rows = y.unbind(0)
    z = y.view(-1)
    z[2:5] *= x.reshape(-1)[:3]
    return z.reshape(3, 4).t() + rows[0][:3] @ x[:3, :3], z.flip(0).cumsum(0)


INDEX = engine.tensor([2, 0, 1, 2])
FUNCTIONS = {
    "softmax": lambda x: x.softmax(1),
    "log_softmax": lambda x: x.log_softmax(0),
    "logsumexp": lambda x: x.logsumexp((0, 1)),
    "norms": lambda x: (x.norm(), x.norm(dim=1), engine.linalg.norm(x[:3, :3])),
    "var": lambda x: (x.var(), x.std(1), x.var(0, correction=0), x.mean(1)),
    "matmul": lambda x: (x @ x.t(), x[0] @ x[1], x @ x[0], x.t()[None] @ x, engine.outer(x[0], x[1])),
    "einsum": lambda x: engine.einsum("ij,kj->ik", x, x * 2),
    "index": lambda x: (x[INDEX], x[:, INDEX], x[1:, ::2], x[..., None, -1], x[x > -100.0], x.index_select(1, INDEX)),
    "gather": lambda x: (x.gather(1, INDEX[:, None] % 4),
                         engine.take_along_dim(x, INDEX[None] % 3, 0)) if len(x) == 4 else x.take(INDEX),
    "scatter": lambda x: (engine.zeros(3, 5, dtype=engine.float64).scatter_add(1, INDEX.expand(3, 4), x),
                          x.index_add(0, INDEX[:3], x * 2), x.masked_fill(x > 0.3, 2.0)),
    "cat": lambda x: (engine.cat([x, x * x]), engine.stack([x, engine.ones(3, 4, dtype=engine.float64)], 1), x.repeat(2, 1)),
    "sort": lambda x: (*x.sort(1), *x.topk(2), *x.max(1), x.median(), x.amax(0)),
    "scan": lambda x: (x.cumsum(1), x.cumprod(0), x.cummax(1)[0], x.logcumsumexp(0)),
    "prod": lambda x: (x.prod(), x.prod(1)),
    "cast": lambda x: (x.float().double() * x, x.to(engine.complex128) * (1 + 2j), (x + 0j).real.exp()),
    "parts": lambda x: (x.detach() * x, x.long(), x > 0, engine.ones(2, dtype=engine.float64)),
    "where": lambda x: engine.where(x > 0, x.sin(), x.cos()) + x.clamp(-0.5, 0.5).abs(),
    "inverse": lambda x: engine.linalg.inv(x[:, :3] @ x[:, :3].t() + 3 * engine.eye(3, dtype=engine.float64)),
    "solve": lambda x: engine.linalg.solve(x[:, :3] + 4 * engine.eye(3, dtype=engine.float64), x[:, 3]),
    "layer_norm": lambda x: engine.nn.functional.layer_norm(x, (4,)),
    "losses": lambda x: (engine.nn.functional.mse_loss(x, x.sin()), engine.nn.functional.cross_entropy(x, INDEX[:3]),
                         engine.nn.functional.smooth_l1_loss(x, x * 0, reduction="sum")),
    "conv": lambda x: engine.nn.functional.conv1d(x[None], x[:, None, :2].expand(3, 3, 2)),
    "in_place": in_place,
    "through_views": through_views,
}
APART = {"parts"}           # detached parts move in differences, but have no tangent


@pytest.mark.parametrize("name", FUNCTIONS)
def test_composed(name, rng):
    x = rng.permutation(12).reshape(3, 4) * 0.2 - 1.07
    if name in APART:
        v = from_numpy(x)
        _, (product, integer, compared, constant) = func.jvp(FUNCTIONS[name], (v,), (v,))
        np.testing.assert_allclose(product.numpy(), x * x)
        assert integer.dtype is engine.int64 and compared.dtype is engine.bool
        assert not integer.any() and not compared.any() and not constant.any()
        return
    loose = {"rtol": 1e-2, "atol": 1e-2} if name == "cast" else {}         # differences see the rounding to float32
    check(FUNCTIONS[name], [x], rng, reverse=name != "cast", **loose)


def test_complex_functions(rng):
    z = rng.standard_normal((3, 3)) + 1j * rng.standard_normal((3, 3))
    check(lambda z: (z @ z.conj().t(), z.abs().sum(), (z * z.conj()).real, engine.view_as_real(z) * 2, z.prod()), [z], rng,
          reverse=True)


# --- linearize, in-place on primals, custom functions -----------------------------------------------------------------

def test_linearize_runs_the_function_once():
    calls = []

    def f(x, y):
        calls.append(1)
        return x * y, x.sin()
    x, y = engine.tensor([1.0, 2.0]), engine.tensor([3.0, 4.0])
    _out, push = func.linearize(f, x, y)
    for t in (engine.tensor([1.0, 0.0]), engine.tensor([0.5, 2.0])):
        a, b = push(t, t)
        np.testing.assert_allclose(a.numpy(), (t * (x + y)).numpy())
        np.testing.assert_allclose(b.numpy(), (t * x.cos()).numpy())
    assert len(calls) == 1


def test_jvp_of_a_function_that_writes_its_argument():
    x, t = engine.tensor([1.0, 2.0]), engine.ones(2)
    _out, tangent = func.jvp(lambda x: x.mul_(3.0).add_(1.0), (x,), (t,))
    np.testing.assert_array_equal(tangent.numpy(), [3.0, 3.0])
    np.testing.assert_array_equal(x.numpy(), [4.0, 7.0])
    assert not x.requires_grad and x._version == 2


class Cube(engine.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x ** 3

    @staticmethod
    def backward(ctx, g):
        x, = ctx.saved_tensors
        return 3 * x * x * g


class Twice(engine.autograd.Function):
    """x * y * k and x + y, with a forward-mode formula of its own."""

    seen: list = []

    @staticmethod
    def forward(x, y, k):
        return x * y * k, x + y

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_forward(*inputs[:2])
        ctx.k = inputs[2]

    @staticmethod
    def jvp(ctx, t_x, t_y, t_k):
        Twice.seen.append((t_x, t_y, t_k))
        x, y = ctx.saved_tensors
        return (t_x * y + x * t_y) * ctx.k, t_x + t_y


def test_custom_functions():
    x, t = engine.tensor([1.0, 2.0]), engine.tensor([1.0, -1.0])
    np.testing.assert_allclose(func.jvp(Cube.apply, (x,), (t,))[1].numpy(), 3 * x.numpy() ** 2 * t.numpy())
    np.testing.assert_allclose(func.hessian(lambda x: Cube.apply(x).sum())(x).numpy(), np.diag(6 * x.numpy()))
    ones = engine.ones(2)
    product, total = func.jvp(lambda x: Twice.apply(x, ones, 3), (x,), (t,))[1]
    np.testing.assert_allclose(product.numpy(), 3 * t.numpy())
    np.testing.assert_allclose(total.numpy(), t.numpy())
    _t_x, t_y, t_k = Twice.seen[-1]
    assert not t_y.any() and t_k is None
    second = func.jvp(lambda x: func.jvp(lambda x: Twice.apply(x, x, 1)[0], (x,), (ones,))[1], (x,), (t,))[1]
    np.testing.assert_allclose(second.numpy(), 2 * t.numpy())

    class Wrong(Twice):
        @staticmethod
        def jvp(ctx, *tangents):
            return tangents[0]
    with pytest.raises(RuntimeError, match="incorrect number of forward gradients"):
        func.jvp(lambda x: Wrong.apply(x, x, 1), (x,), (t,))


# --- dual numbers -----------------------------------------------------------------------------------------------------

def test_dual_numbers():
    x, t = engine.tensor([1.0, 2.0]), engine.tensor([1.0, 10.0])
    with fw.dual_level():
        dual = fw.make_dual(x, t)
        primal, tangent = fw.unpack_dual(dual)
        np.testing.assert_array_equal(primal.numpy(), x.numpy())
        np.testing.assert_array_equal(tangent.numpy(), t.numpy())
        out = fw.unpack_dual(dual[1] * dual.sum() + Cube.apply(dual).sum())
        assert out.tangent.item() == 10 * 3 + 2 * 11 + 3 * 1 + 12 * 10 and not out.tangent.requires_grad
        assert fw.unpack_dual(x * 2).tangent is None
        y = dual.clone()
        y[0] = 5.0
        np.testing.assert_array_equal(fw.unpack_dual(y).tangent.numpy(), [0.0, 10.0])
        y[:1].copy_(dual[1:])
        np.testing.assert_array_equal(fw.unpack_dual(y).tangent.numpy(), [10.0, 10.0])
    assert fw.unpack_dual(dual).tangent is None


def test_dual_numbers_over_reverse_mode():
    x = engine.tensor([1.0, 2.0], requires_grad=True)
    with fw.dual_level():
        out = fw.unpack_dual((fw.make_dual(x, engine.ones(2)) ** 3).sum())
        gradient, = engine.autograd.grad(out.tangent, x)
    np.testing.assert_allclose(gradient.numpy(), 6 * x.detach().numpy())


def test_dual_errors():
    x = engine.ones(2)
    with pytest.raises(RuntimeError, match="no level exists"):
        fw.make_dual(x, x)
    with pytest.raises(RuntimeError, match="was not entered"):
        fw.exit_dual_level()
    with fw.dual_level():
        with pytest.raises(RuntimeError, match="Nested forward mode AD is not supported"), fw.dual_level():
            pass
        with pytest.raises(ValueError, match="Expected primal to be floating point or complex, but got"):
            fw.make_dual(x.long(), x)
        with pytest.raises(ValueError, match="Expected tangent to be floating point or complex"):
            fw.make_dual(x, x.long())
        with pytest.raises(RuntimeError, match="tangent"):
            fw.make_dual(x, engine.ones(3))
