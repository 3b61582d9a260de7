"""Kernels that users write, on the emulated device beside the CPU: elementwise, reductions, stencils, with their derivatives."""
import math

import numpy as np
import pytest
from cuda_checks import needs_numba_cuda

import engine
from engine.testing import check_operator
from kernels.book import BOOK

pytestmark = [needs_numba_cuda, pytest.mark.usefixtures("emulated", "clean_book")]


def both(fun, *tensors, exact=True):
    """A function's values and the gradients of their sum of squares, on the device and on the CPU."""
    answers = []
    for place in ("cuda", "cpu"):
        leaves = [t.detach().to(place).requires_grad_() for t in tensors]
        y = fun(*leaves)
        assert y.device.type == place
        (y * y).sum().backward()
        answers.append([y, *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(*answers, strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        if exact:
            np.testing.assert_array_equal(ours.detach().cpu().numpy(), theirs.detach().numpy())
        else:
            np.testing.assert_allclose(ours.detach().cpu().numpy(), theirs.detach().numpy(), rtol=1e-12)
    return answers[0][0]


def test_elementwise_with_branches_loops_and_several_results(rng):
    @engine.elementwise
    def kepler_there(m, e):
        x = m
        for _ in range(20):
            step = (x - e * math.sin(x) - m) / (1 - e * math.cos(x))
            x -= step
            if abs(step) < 1e-14:
                break
        return x

    @engine.elementwise
    def branches_there(x, y):
        if x < 0:
            return -x, y * 2
        return math.hypot(x, y), x * y
    m, e = engine.tensor(rng.uniform(0, 6, 5)), engine.tensor(rng.uniform(0, 0.8, (3, 1)))
    found = both(kepler_there, m, e, exact=False).detach().cpu().numpy()
    np.testing.assert_allclose(found - e.numpy() * np.sin(found), np.broadcast_to(m.numpy(), (3, 5)), rtol=1e-12)
    x, y = (engine.tensor(rng.uniform(-1, 1, 7)) for _ in "xy")
    both(lambda x, y: branches_there(x, y)[0] + branches_there(x, y)[1], x, y, exact=False)


@pytest.mark.parametrize("dim", [None, 0, 1, (0, 2)])
def test_reduction(dim, rng):
    @engine.reduction(map=lambda x: (x, x * x), start=(0.0, 0.0), finish=lambda s, q, n: math.sqrt(q / n - (s / n) ** 2))
    def spread_there(s, q, t, r):
        return s + t, q + r
    x = engine.tensor(rng.standard_normal((3, 40, 2)))
    found = both(lambda x: spread_there(x, dim), x, exact=False)
    np.testing.assert_allclose(found.detach().cpu().numpy(), x.numpy().std(axis=dim), rtol=1e-10)
    assert spread_there(x.cuda(), dim, True).shape == spread_there(x, dim, True).shape


def test_reduction_of_integers_of_several_tensors_and_of_nothing(rng):
    @engine.reduction(start=-math.inf)
    def highest_there(a, b):
        return a if a > b else b

    @engine.reduction(map=lambda x, w: (w * x, w), start=(0.0, 0.0), finish=lambda s, w: s / w)
    def weighted_mean_there(s, w, t, v):
        return s + t, w + v
    x, w = engine.tensor(rng.standard_normal((4, 9))), engine.tensor(rng.uniform(0.5, 1, 9))
    found = both(lambda x, w: weighted_mean_there(x, w, 1), x, w, exact=False)
    np.testing.assert_allclose(found.detach().cpu().numpy(), np.average(x.numpy(), axis=1, weights=w.numpy()), rtol=1e-12)
    assert highest_there(engine.tensor([3, 9, 4]).cuda()).item() == 9.0
    assert highest_there(engine.zeros(0, device="cuda")).item() == -math.inf
    with pytest.raises(RuntimeError, match="two devices"):
        weighted_mean_there(x.cuda(), w)


@pytest.mark.parametrize("boundary", ["constant", "edge", "reflect", "symmetric", "wrap", "valid"])
def test_stencil(boundary, rng):
    @engine.stencil(boundary=boundary, value=0.5)
    def step_there(u, i, j, c):
        return u[i, j] + c * (u[i - 1, j] + u[i + 2, j] + u[i, j - 1] - 3 * u[i, j])
    u = engine.tensor(rng.standard_normal((6, 5)))
    found = both(step_there, u, engine.tensor(0.1, dtype=engine.float64), exact=False)       # the gradient of c is a sum
    if boundary == "wrap":
        v = u.numpy()
        want = v + 0.1 * (np.roll(v, 1, 0) + np.roll(v, -2, 0) + np.roll(v, 1, 1) - 3 * v)
        np.testing.assert_allclose(found.detach().cpu().numpy(), want, rtol=1e-12)
    both(lambda u: step_there(u, 0.2), u[:4, :4])
    tilted = engine.tensor(rng.standard_normal((5, 6))).T
    np.testing.assert_array_equal(step_there(tilted.cuda(), 0.1).cpu().numpy(), step_there(tilted, 0.1).numpy())


def test_stencil_of_two_arrays_with_a_field_and_one_that_is_too_small(rng):
    @engine.stencil(boundary="edge")
    def flow_there(u, v, i, speed):
        return (u[i + 1] - u[i - 1]) * speed + v[i]
    u, v, speed = (engine.tensor(rng.standard_normal(9)) for _ in range(3))
    both(flow_there, u, v, speed)
    both(flow_there, u[:1], v[:1], speed[:1])
    assert flow_there(u[:0].cuda(), v[:0].cuda(), 1.0).shape == (0,)
    number = engine.tensor(2.0)             # of the CPU: it joins any device
    assert flow_there(u.float().cuda(), v.float().cuda(), number).dtype == engine.float32
    with pytest.raises(RuntimeError, match="two devices"):
        flow_there(u.cuda(), v, 1.0)


def test_second_derivatives(rng):
    @engine.stencil(boundary="wrap")
    def smooth_there(u, i):
        return u[i] * u[i + 1] * u[i - 1]
    u = engine.tensor(rng.standard_normal(6)).cuda().requires_grad_()
    assert engine.autograd.gradcheck(smooth_there, (u,)) and engine.autograd.gradgradcheck(smooth_there, (u,))


def test_the_books_own_checks_on_the_device(rng):
    @engine.elementwise
    def bent_there(x, k):
        return k * x * x if x > 0.5 else math.sin(k * x)

    @engine.reduction(map=lambda x: (x, x * x), start=(0.0, 0.0), finish=lambda s, q, n: q - s * s / n)
    def scatter_there(s, q, t, r):
        return s + t, q + r

    @engine.stencil(boundary="reflect")
    def tilted_there(u, i, j):
        return (u[i + 1, j] - u[i - 1, j]) * u[i, j - 1]
    check_operator(bent_there, dtypes=("float32", "float64"), device="cuda", order=1, compiled=False)
    check_operator(scatter_there, device="cuda", order=1, compiled=False)
    check_operator(tilted_there, device="cuda", order=1, compiled=False,
                   samples=lambda rng, dtype: [([rng.standard_normal((4, 5)).astype(dtype)], {})])
    wrong = engine.library.structural(lambda x: x * 2, name="wrong_on_cuda", vjp=lambda g: (g * 2,),
                                      kernels={"cuda": lambda x: BOOK["mul"].on_arrays(x, np.float64(3))})
    try:
        with pytest.raises(AssertionError, match=r"wrong_on_cuda, float64, .* on cuda"):
            check_operator(wrong, device="cuda", compiled=False, samples=lambda rng, dtype: [([np.ones(3)], {})])
    finally:
        engine.library.remove("wrong_on_cuda")


def test_the_table_says_where_they_run():
    @engine.stencil
    def twice_there(u, i):
        return 2 * u[i]
    engine.reduction(lambda a, b: a + b, start=0.0, name="added_there")
    table = engine.dispatch.table()
    for name in ("twice_there", "added_there"):
        assert name in BOOK and "host" not in str(table[name, "cuda"])


def test_results_over_memory_that_operands_share(rng):
    x = engine.tensor(rng.standard_normal(3000))
    ours, theirs = x.cuda(), x.clone()
    for t in (ours, theirs):
        t[1:].add_(t[:-1])
        engine.mul(t[:-1], t[1:], out=t[1:])
        t[:2500].reshape(50, 50).mul_(t[:2500].reshape(50, 50).T)
    np.testing.assert_array_equal(ours.cpu().numpy(), theirs.numpy())
