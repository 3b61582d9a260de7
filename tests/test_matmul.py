"""Matrix products: values against NumPy and SciPy, layouts, gradients against differences, in-place, out=, error texts.

The records themselves are walked by `test_book` (samples and `like` in `kernels.ops.matmul`); here is what users write.
"""
import itertools
import math

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial.distance

import engine
from engine.tensor import from_array
from kernels.cpu import products


def draw(rng, shape, dtype="float64"):
    if np.dtype(dtype).kind in "iu":
        return rng.integers(0 if dtype == "uint8" else -9, 10, shape).astype(dtype)
    values = rng.normal(size=shape)
    return (values + 1j * rng.normal(size=shape) if np.dtype(dtype).kind == "c" else values).astype(dtype)


def layouts(a):
    """The same values in memory of different orders."""
    yield a
    yield np.asfortranarray(a)
    spaced = np.empty(tuple(2 * n for n in a.shape), a.dtype)[tuple(slice(None, None, -2) for _ in a.shape)]
    spaced[...] = a
    yield spaced


def check_gradient(f, *arrays, order=2, step=1e-5, tol=2e-6):
    """The gradient of sum(c * f) along a random direction against central differences, and the same of that gradient."""
    rng = np.random.default_rng(len(arrays))
    directions = [rng.normal(size=a.shape) for a in arrays]

    def scalar(values, depth):
        tensors = [from_array(v.copy()).requires_grad_() for v in values]
        out = f(*tensors)
        weights = from_array(np.linspace(0.5, 1.5, out.numel()).reshape(tuple(out.shape)))
        total = (out * weights).sum()
        for _ in range(depth):
            if not total.requires_grad:         # linear: nothing is left to differentiate
                return engine.zeros(()), tensors
            grads = engine.autograd.grad(total, tensors, create_graph=True, allow_unused=True)
            total = sum((g * from_array(d)).sum() for g, d in zip(grads, directions, strict=True) if g is not None)
        return total, tensors

    for depth in range(order):
        exact, _ = scalar(arrays, depth + 1)
        ahead, behind = (scalar([a + s * d for a, d in zip(arrays, directions, strict=True)], depth)[0].item()
                         for s in (step, -step))
        assert exact.item() == pytest.approx((ahead - behind) / (2 * step), rel=tol, abs=tol)


MATMUL_SHAPES = [((2, 3), (3, 4)), ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((5, 2, 3), (3, 4)), ((5, 2, 3), (3,)),
                 ((5, 2, 3), (5, 3, 4)), ((7, 1, 2, 3), (5, 3, 4)), ((3,), (5, 3, 2)), ((2, 3), (5, 3, 4)), ((2, 0), (0, 3)),
                 ((0, 3), (3, 2)), ((4, 1, 1, 3), (2, 3, 1)), ((1, 1), (1, 1)), ((2, 3, 0), (2, 0, 2))]


@pytest.mark.parametrize("shapes", MATMUL_SHAPES)
def test_matmul_is_numpys(shapes, rng):
    for dtype in ("float64", "float32", "complex128", "int64"):
        x, y = (draw(rng, s, dtype) for s in shapes)
        seen = from_array(x) @ from_array(y)
        expected = x @ y
        assert tuple(seen.shape) == expected.shape and seen.numpy().dtype == expected.dtype
        np.testing.assert_allclose(seen.numpy(), expected, rtol=1e-5 if dtype == "float32" else 1e-12, atol=1e-6)
    assert type(seen) is engine.Tensor


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8"])
def test_every_layout_gives_the_same_product(dtype, rng):
    x, y = draw(rng, (3, 70), dtype), draw(rng, (70, 5), dtype)
    expected = (x.astype("float64") @ y.astype("float64"))
    if dtype == "uint8":
        expected = expected.astype(np.int64) % 256          # wraps around as PyTorch's does
    for a, b in itertools.product(layouts(x), layouts(y)):
        np.testing.assert_allclose((from_array(a) @ from_array(b)).numpy(), expected, rtol=1e-5, atol=1e-4)
    stack = np.broadcast_to(x, (2, 3, 70))
    for b in layouts(np.stack([y, y])):
        np.testing.assert_allclose(engine.bmm(from_array(stack), from_array(b)).numpy(), [expected, expected], rtol=1e-5,
                                   atol=1e-4)


def test_half_is_computed_in_single_and_rounded_once(rng):
    x, y = draw(rng, (4, 300), "float16"), draw(rng, (300, 3), "float16")
    seen = engine.mm(from_array(x), from_array(y)).numpy()
    assert seen.dtype == np.float16
    np.testing.assert_allclose(seen, x.astype("f8") @ y.astype("f8"), rtol=1e-3, atol=2e-3)
    np.testing.assert_array_equal(engine.dot(from_array(x[0]), from_array(y[:, 0])).numpy(),
                                  np.float16(x[0].astype("f8") @ y[:, 0].astype("f8")))


def test_inner_products_of_single_run_in_double(rng):
    x, y = draw(rng, 100_003, "float32"), draw(rng, 100_003, "float32")
    for a, b in ((x, y), (x[::-2], y[::2])):
        assert engine.dot(from_array(a), from_array(b)).item() == np.float32(math.fsum(a.astype("f8") * b.astype("f8")))
    assert engine.dot(from_array(x[:0]), from_array(y[:0])).item() == 0


def test_large_integer_products_on_several_threads(rng):
    x, y = draw(rng, (150, 130), "int32"), draw(rng, (130, 140), "int32")
    np.testing.assert_array_equal((from_array(x) @ from_array(y)).numpy(), x @ y)
    stack = draw(rng, (9, 40, 30), "int32")
    np.testing.assert_array_equal((from_array(stack) @ from_array(y[:30])).numpy(), stack @ y[:30])


def test_infinities_and_nan_give_no_warning():
    x = from_array(np.array([[np.inf, 1.0], [np.nan, 2.0]]))
    for y in (x @ x, engine.bmm(x[None], x[None])[0], engine.addmm(x, x, x)):
        assert y.isnan().any().item()


def test_vectors(rng):
    x, y, m = draw(rng, 4), draw(rng, 4), draw(rng, (3, 4))
    c, d = draw(rng, 4, "complex128"), draw(rng, 4, "complex128")
    X, Y, M, C, D = map(from_array, (x, y, m, c, d))
    np.testing.assert_allclose(X.dot(Y).item(), x @ y)
    np.testing.assert_allclose(M.mv(X).numpy(), m @ x)
    np.testing.assert_allclose(engine.vdot(C, D).item(), np.vdot(c, d))
    np.testing.assert_allclose(engine.dot(C, D).item(), c @ d)
    np.testing.assert_allclose(engine.outer(X, M[0]).numpy(), np.outer(x, m[0]))
    np.testing.assert_allclose(X.ger(C).numpy(), np.outer(x, c))
    np.testing.assert_allclose(engine.inner(M, X).numpy(), np.inner(m, x))
    np.testing.assert_allclose(engine.inner(M, from_array(m[:2])).numpy(), np.inner(m, m[:2]))
    np.testing.assert_allclose(engine.inner(M, engine.tensor(2.0, dtype=engine.float64)).numpy(), 2 * m)
    np.testing.assert_allclose(x @ M.T.contiguous(), m @ x)       # an array on the left


@pytest.mark.parametrize("beta, alpha", [(1, 1), (0.5, -2.0), (0, 1), (1, 0)])
def test_sums_with_products(beta, alpha, rng):
    options = {"beta": beta, "alpha": alpha}
    m1, m2, b1, b2 = draw(rng, (3, 4)), draw(rng, (4, 5)), draw(rng, (2, 3, 4)), draw(rng, (2, 4, 5))
    v3, v4, v5, col = draw(rng, 3), draw(rng, 4), draw(rng, 5), draw(rng, (3, 1))
    for name, arrays, product in [
            ("addmm", (v5, m1, m2), m1 @ m2), ("addmm", (col, m1, m2), m1 @ m2), ("addmv", (v3, m1, v4), m1 @ v4),
            ("addr", (col, v3, v5), np.outer(v3, v5)), ("baddbmm", (col, b1, b2), b1 @ b2),
            ("addbmm", (v5, b1, b2), (b1 @ b2).sum(0))]:
        call = getattr(engine, name)
        seen = call(*map(from_array, arrays), **options).numpy()
        np.testing.assert_allclose(seen, beta * arrays[0] + alpha * product, rtol=1e-12, atol=1e-12)
        check_gradient(lambda *t, call=call: call(*t, **options), *arrays)


def test_factors_of_zero_leave_out_what_they_multiply():
    nan, one = engine.full((2, 2), math.nan), engine.ones(2, 2)
    assert engine.addmm(nan, one, one, beta=0).tolist() == [[2, 2], [2, 2]]
    assert engine.addmm(one, nan, one, alpha=0).tolist() == [[1, 1], [1, 1]]
    whole = engine.ones(2, 2, dtype=engine.int64)
    assert engine.addmm(whole, whole, whole, beta=0.5).tolist() == [[2, 2], [2, 2]]      # factors of integers are whole


@pytest.mark.parametrize("shapes", [s for s in MATMUL_SHAPES if 0 not in s[0] + s[1]])
def test_gradients_of_matmul(shapes, rng):
    check_gradient(engine.matmul, *(draw(rng, s) for s in shapes))


def test_gradients_of_the_others(rng):
    m, n, v, w = draw(rng, (3, 3)), draw(rng, (3, 2)), draw(rng, 3), draw(rng, 3)
    for f, arrays in [(engine.dot, (v, w)), (engine.vdot, (v, w)), (engine.outer, (v, w)), (engine.kron, (m, n)),
                      (engine.trace, (n,)), (engine.cross, (m, m.T.copy())), (engine.inner, (m, n.T.copy())),
                      (lambda a: engine.matrix_power(a, 5), (m,)), (lambda a: engine.matrix_power(a, -2), (m + 4 * np.eye(3),)),
                      (engine.chain_matmul, (m, n, n.T.copy())), (lambda a, b: engine.tensordot(a, b, 1), (m, n))]:
        check_gradient(f, *arrays)


def test_complex_gradients_follow_the_conjugate_convention(rng):
    """For L = sum |x y|^2, the gradient of x is 2 (x y) y^H."""
    x, y = draw(rng, (2, 3), "complex128"), draw(rng, (3, 2), "complex128")
    X = from_array(x).requires_grad_()
    out = X @ from_array(y)
    (out * out.conj()).real.sum().backward()
    np.testing.assert_allclose(X.grad.numpy(), 2 * (x @ y) @ y.conj().T, rtol=1e-12)


def test_a_gradient_is_computed_only_where_it_is_needed(rng):
    x, y = from_array(draw(rng, (2, 3))).requires_grad_(), from_array(draw(rng, (3, 2)))
    (x @ y).sum().backward()
    assert y.grad is None and x.grad is not None
    x.grad = None
    z = x.detach()
    w = y.requires_grad_()
    (z @ w).sum().backward()
    assert z.grad is None and w.grad is not None


def test_names_of_nodes(rng):
    x, v = engine.ones(2, 3, requires_grad=True), engine.ones(3, requires_grad=True)
    s = engine.ones(4, 2, 3, requires_grad=True)
    for result, name in [(x @ x.mT, "Mm"), (x @ v, "Mv"), (v @ v, "Dot"), (s @ x.mT, "UnsafeView"), (s @ s.mT, "UnsafeView"),
                         (engine.bmm(s, s.mT), "Bmm"), (engine.addmm(v, x, engine.ones(3, 3)), "Addmm"),
                         (engine.vdot(v, v), "Vdot"), (engine.outer(v, v), "Mul"),
                         (engine.trace(x), "Trace"), (engine.cross(x, x), "LinalgCross"),
                         (engine.cdist(x, x), "Cdist"), (engine.baddbmm(s, s, engine.ones(4, 3, 3)), "Baddbmm")]:
        assert type(result.grad_fn).__name__ == f"{name}Backward0"


def test_saved_operands_are_watched(rng):
    for shape in ((2, 3), (5, 2, 3)):
        x, y = engine.ones(*shape), engine.ones(3, 2, requires_grad=True)
        out = (x @ y).sum()
        x.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            out.backward()


@pytest.mark.parametrize("dims", [1, 0, 2, ([0], [1]), ([0, 2], [1, 0]), ([-1], [0])])
def test_tensordot(dims, rng):
    shape = (3, 3, 4) if dims == 2 else (3, 3, 3)
    x, y = draw(rng, (2, 3, 3) if dims == 2 else (3, 3, 3)), draw(rng, shape)
    seen = engine.tensordot(from_array(x), from_array(y), dims).numpy()
    np.testing.assert_allclose(seen, np.tensordot(x, y, dims), rtol=1e-12)
    one, many = draw(rng, (3, 1)), draw(rng, (4, 2))
    np.testing.assert_allclose(engine.tensordot(from_array(one), from_array(many), 1).numpy(), one @ many.sum(0, keepdims=True))


@pytest.mark.parametrize("shapes", [((2, 3), (4, 1)), ((3,), (2, 2)), ((), (2,)), ((2, 1, 3), (2, 2))])
def test_kron(shapes, rng):
    x, y = (draw(rng, s) for s in shapes)
    np.testing.assert_allclose(engine.kron(from_array(x), from_array(y)).numpy(), np.kron(x, y), rtol=1e-12)


def test_cross_and_trace(rng):
    x, y = draw(rng, (4, 3)), draw(rng, (1, 3))
    np.testing.assert_allclose(engine.cross(from_array(x), from_array(y), dim=-1).numpy(), np.cross(x, y), rtol=1e-12)
    np.testing.assert_allclose(engine.cross(from_array(x.T), from_array(y.T)).numpy(), np.cross(x, y).T, rtol=1e-12)
    m = draw(rng, (3, 5), "int32")
    assert engine.trace(from_array(m)).item() == np.trace(m) and engine.trace(from_array(m)).dtype is engine.int64


@pytest.mark.parametrize("p, name", [(0.0, "hamming"), (1.0, "cityblock"), (2.0, "euclidean"), (math.inf, "chebyshev"),
                                     (1.5, "minkowski")])
def test_cdist(p, name, rng):
    x, y = draw(rng, (3, 2, 6)), draw(rng, (70, 6))
    y[:2, :3] = x[0, :2, :3]
    seen = engine.cdist(from_array(x), from_array(y), p=p).numpy()
    options = {"p": p} if name == "minkowski" else {}
    expected = np.stack([scipy.spatial.distance.cdist(part, y, name, **options) for part in x])
    np.testing.assert_allclose(seen, expected * (6 if p == 0 else 1), rtol=1e-12)
    if 1 <= p < math.inf:
        check_gradient(lambda a, b: engine.cdist(a, b, p=p), x[0], x[1] + 1, order=2)


def test_distances_keep_their_accuracy_far_from_the_origin():
    x = engine.tensor([[10000.0, 0.0]])
    assert engine.cdist(x, x + engine.tensor([[0.5, 0.0]])).item() == 0.5       # x^2 + y^2 - 2 x y would lose this
    y = engine.ones(2, 3, requires_grad=True)
    engine.cdist(y, y).sum().backward()
    assert y.grad.tolist() == [[0.0] * 3] * 2


def test_powers_inverses_and_chains(rng):
    m = draw(rng, (2, 3, 3)) + 3 * np.eye(3)
    M = from_array(m)
    for n in (0, 1, 2, 7, -1, -3):
        np.testing.assert_allclose(engine.matrix_power(M, n).numpy(), np.linalg.matrix_power(m, n), rtol=1e-9)
    assert engine.matrix_power(M, 1).data_ptr() != M.data_ptr()
    np.testing.assert_allclose(M.inverse().numpy(), scipy.linalg.inv(m[0])[None].repeat(2, 0) * [[[1]], [[0]]]
                               + scipy.linalg.inv(m[1]) * [[[0]], [[1]]], rtol=1e-9)
    parts = [draw(rng, s) for s in ((3, 20), (20, 2), (2, 30), (30, 4))]
    np.testing.assert_allclose(engine.chain_matmul(*map(from_array, parts)).numpy(), np.linalg.multi_dot(parts), rtol=1e-10)
    z = from_array(m).requires_grad_()
    engine.matrix_power(z, 0).sum().backward()
    assert not z.grad.any().item()


def test_out_and_in_place(rng):
    x, y = from_array(draw(rng, (2, 3))), from_array(draw(rng, (3, 2)))
    out = engine.empty(0, dtype=engine.float64)
    assert engine.mm(x, y, out=out) is out and engine.equal(out, x @ y)
    total = engine.ones(2, 2, dtype=engine.float64)
    kept, expected = total, 2 * total + x @ y
    total.addmm_(x, y, beta=2)
    assert kept is total and engine.allclose(total, expected)
    with pytest.raises(RuntimeError, match="Expected out tensor to have dtype double, but got float instead"):
        engine.mm(x, y, out=engine.empty(2, 2))
    z = engine.eye(2, dtype=engine.float64)
    w = z
    w @= x @ y
    assert engine.equal(w, x @ y) and engine.equal(z, engine.eye(2, dtype=engine.float64))


def ones(*shape, **options):
    return engine.ones(*shape, **options)


def double(*shape):
    return engine.ones(*shape, dtype=engine.float64)


REFUSED = [
    (lambda: engine.mm(ones(2, 3), ones(5, 3)),
     r"mat1 and mat2 shapes cannot be multiplied \(2x3 and 5x3\).*x @ y.mT would fit and give \(2, 5\)"),
    (lambda: engine.mm(ones(3, 2), ones(3, 5)), r"\(3x2 and 3x5\).*x.mT @ y would fit and give \(2, 5\)"),
    (lambda: engine.mm(ones(2), ones(5, 3)), "self must be a matrix"),
    (lambda: engine.mm(ones(2, 3), ones(3)), "mat2 must be a matrix"),
    (lambda: ones(2, 3) @ double(3, 2), "expected m1 and m2 to have the same dtype, but got: float != double"),
    (lambda: ones(2, 3) @ ones(4), r"size mismatch, got input \(2\), mat \(2x3\), vec \(4\)"),
    (lambda: ones(2) @ ones(4),
     r"inconsistent tensor size, expected tensor \[2\] and src \[4\] to have the same number of "
                                "elements, but got 2 and 4 elements respectively"),
    (lambda: ones(2, 2, 3) @ ones(3, 3, 5), r"The size of tensor a \(2\) must match the size of tensor b \(3\)"),
    (lambda: ones(2, 2, 3) @ ones(2, 4, 5),
     r"Expected size for first two dimensions of batch2 tensor to be: \[2, 3\] but got: \[2, 4\]"),
    (lambda: engine.tensor(1.0) @ ones(2), "both arguments to matmul need to be at least 1D, but they are 0D and 1D"),
    (lambda: engine.bmm(ones(2, 3), ones(2, 3)), "batch1 must be a 3D tensor"),
    (lambda: engine.dot(ones(2, 3), ones(3)), "1D tensors expected, but got 2D and 1D tensors"),
    (lambda: engine.dot(ones(3), double(3)),
     "dot : expected both vectors to have same dtype, but found Float and Double"),
    (lambda: engine.mv(ones(2, 4), ones(3)), r"size mismatch, got input \(2\), mat \(2x4\), vec \(3\)"),
    (lambda: engine.mv(ones(2, 4, 3), ones(3)), r"vector \+ matrix @ vector expected, got 1, 3, 1"),
    (lambda: engine.mv(ones(2, 4), double(4)),
     "addmv input tensors must have the same dtype, but got Double, Float, and Double"),
    (lambda: engine.addmm(ones(2, 3), ones(2, 3), ones(3, 2)),
     r"The expanded size of the tensor \(2\) must match the existing size \(3\) at non-singleton dimension 1"),
    (lambda: engine.addmm(ones(2, 3, 1), ones(2, 3), ones(3, 2)),
     r"the number of sizes provided \(2\) must be greater or equal"),
    (lambda: engine.addmm(double(2, 2), ones(2, 3), ones(3, 2)),
     "self and mat2 must have the same dtype, but got Double and Float"),
    (lambda: engine.addmm(ones(2, 2), ones(2), ones(3, 2)), "mat1 must be a matrix, got 1-D tensor"),
    (lambda: engine.addbmm(ones(2, 2), ones(2, 2, 2), ones(3, 2, 2)), "must have same number of batches, got 2 and 3"),
    (lambda: engine.addbmm(ones(2, 2), ones(2, 2, 3), ones(2, 4, 2)),
     r"Incompatible matrix sizes for bmm \(2x3 and 4x2\)"),
    (lambda: engine.baddbmm(double(2, 2), ones(2, 2, 3), ones(2, 3, 2)),
     "Input dtypes must be the same, got: input double"),
    (lambda: engine.addr(ones(3, 3), ones(2, 2), ones(3)), "addr: Expected 1-D argument vec1, but got 2-D"),
    (lambda: engine.addr(*(ones(2, dtype=engine.int64),) * 3, beta=0.5),
     "argument beta must not be a floating point number"),
    (lambda: engine.outer(ones(3, 3), ones(2)), "outer: Expected 1-D argument self, but got 2-D"),
    (lambda: engine.inner(ones(3), ones(2, 2)),
     r"inner\(\) the last dimension must match .* got shapes \[3\] and \[2, 2\]"),
    (lambda: engine.tensordot(ones(3, 4), ones(3, 4), dims=1),
     "contracted dimensions need to match, but first has size 4 in dim -1 and second has size 3 in dim 0"),
    (lambda: engine.tensordot(ones(3, 4), ones(3, 4), dims=-1), "tensordot expects dims >= 0, but got dims=-1"),
    (lambda: engine.tensordot(ones(3, 4), ones(3, 4), dims=3),
     "tensordot expects dims < ndim_a or ndim_b, but got dims=3"),
    (lambda: engine.tensordot(ones(3, 4), ones(3, 4), dims=([0, 1], [1])),
     "both dimension lists should have same length"),
    (lambda: engine.tensordot(ones(3, 4), double(4, 4), dims=1), "both inputs should have same dtype"),
    (lambda: engine.trace(ones(3, 4, 2)), "trace: expected a matrix, but got tensor with dim 3"),
    (lambda: engine.cross(ones(3), ones(4)), "inputs dimension 0 must have length 3. Got 3 and 4"),
    (lambda: engine.cross(ones(4), ones(4)), "no dimension of size 3 in input"),
    (lambda: engine.cross(ones(2, 3), ones(3)), "inputs must have the same number of dimensions"),
    (lambda: engine.cross(ones(3), double(3)), "expected scalar type Float but found Double"),
    (lambda: engine.cdist(ones(2, 3), ones(2, 2)), "X1 and X2 must have the same number of columns. X1: 3 X2: 2"),
    (lambda: engine.cdist(ones(3), ones(2, 2)), "cdist only supports at least 2D tensors, X1 got: 1D"),
    (lambda: engine.cdist(ones(2, 3), ones(2, 3), p=-1), "cdist only supports non-negative p values"),
    (lambda: engine.cdist(ones(2, 3, dtype=engine.int64), ones(2, 3)),
     "only supports floating-point dtypes, X1 got: Long"),
    (lambda: engine.chain_matmul(), "Expected one or more matrices"),
    (lambda: engine.chain_matmul(ones(2, 3), ones(3, 2), ones(3, 2)),
     r"tensors 1 and 2 with shapes \[3, 2\] and \[3, 2\] cannot be"),
    (lambda: engine.matrix_power(ones(2, 3), 2), "must be batches of square matrices, but they are 2 by 3 matrices"),
    (lambda: engine.matrix_power(ones(3), 2), "must have at least 2 dimensions"),
    (lambda: engine.matrix_power(ones(2, 2), -1), "the input matrix is singular"),
    (lambda: engine.matrix_power(ones(2, 2, dtype=engine.int64), -1),
     "Expected a floating point or complex tensor as input. Got Long"),
]


@pytest.mark.parametrize("call, words", [pytest.param(c, w, id=f"{k}-{w[:30]}") for k, (c, w) in enumerate(REFUSED)])
def test_what_does_not_fit_is_refused_in_pytorchs_words(call, words):
    with pytest.raises(RuntimeError, match=words):
        call()


def test_other_refusals():
    true = ones(2, 2) > 0
    for call, kernel in [(lambda: true @ true, "addmm_impl_cpu_"), (lambda: true[0] @ true[0], "dot"),
                         (lambda: true @ true[0], "addmv"),
                         (lambda: engine.bmm(true[None], true[None]), "bmm"), (lambda: engine.trace(true), "trace")]:
        with pytest.raises(NotImplementedError, match=f"\"{kernel}.*not implemented for 'Bool'"):
            call()
    for call in (lambda: ones(2, 2) @ 3, lambda: [1, 2] @ ones(2, 2), lambda: engine.mm(ones(2, 2), 3),
                 lambda: engine.matrix_power(ones(2, 2), 2.0)):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(TypeError, match=r"mm\(\): argument 'mat2' \(position 2\) must be Tensor, not int"):
        engine.mm(ones(2, 2), 3)
    with pytest.raises(IndexError, match="Dimension out of range"):
        engine.tensordot(ones(2, 3), ones(2, 3), dims=([0], [5]))


def test_kernels_say_what_they_compute():
    source = products.pairs_program("product", "int32", "int32", "int32", lambda a, x, y: a, lambda a: a).source
    assert "store_int32(lanes, lane * 4, as_int32(combine(peek_int32(lanes, lane * 4), a, c)))" in source


# --- adjoints on arrays -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", [engine.float64, engine.float32])
@pytest.mark.parametrize("by_columns", [False, True])
@pytest.mark.parametrize("shape", [(5,), (1, 5), (4, 5), ()])
def test_quick_adjoints_give_what_the_recorded_ones_give(dtype, by_columns, shape, rng):
    """Gradients that are not recorded take a shorter way; a weight that lies by columns gets a gradient of its own layout."""
    def run(create_graph):
        x = from_array(rng_values[0]).to(dtype).requires_grad_()
        w = from_array(rng_values[1]).to(dtype).requires_grad_()
        b = from_array(rng_values[2]).to(dtype).requires_grad_()
        y = w.t() if by_columns else w
        out = engine.addmm(b, x, y) + x @ y
        grads = engine.autograd.grad((out * out).sum(), (x, w, b), create_graph=create_graph)
        assert all(g.requires_grad is create_graph for g in grads)
        return grads
    rng_values = [rng.normal(size=(4, 3)), rng.normal(size=(5, 3) if by_columns else (3, 5)), rng.normal(size=shape)]
    for quick, recorded in zip(run(False), run(True), strict=True):
        np.testing.assert_allclose(quick.numpy(), recorded.detach().numpy(), rtol=1e-5 if dtype is engine.float32 else 1e-13)


def test_the_gradient_of_a_weight_is_contiguous_as_the_weight():
    x, w, b = engine.ones(4, 3), engine.ones(5, 3, requires_grad=True), engine.ones(5, requires_grad=True)
    engine.nn.functional.linear(x, w, b).sum().backward()
    assert w.grad.is_contiguous() and w.grad.tolist() == [[4.0] * 3] * 5 and b.grad.tolist() == [4.0] * 5


def test_small_products_take_one_thread_of_blas_and_large_ones_those_of_the_engine(monkeypatch):
    from kernels.cpu import blas, pool
    asked = []
    monkeypatch.setattr(blas, "_set", asked.append)
    monkeypatch.setattr(blas, "_most", 4)
    monkeypatch.setattr(blas, "_now", 4)
    monkeypatch.setattr(pool, "threads", 2)
    small, large = engine.ones(8, 8), engine.ones(1024, 2048)
    for x in (small, small, large, large, small):
        x @ engine.ones(x.shape[1], 2)
    assert asked == [1, 2, 1]
    put, most = blas._setter()
    assert (put is None) == (most == 0)
