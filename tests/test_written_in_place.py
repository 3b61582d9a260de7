"""Recorded writes through indices compute in the tensor's own memory; random writes and unique have PyTorch's nodes; poisson."""
from __future__ import annotations

import numpy as np
import pytest

import engine as torch
from kernels.cpu import buffers

INDEX = [2, 0]
WRITES = {
    "scatter_": lambda t, v: t.scatter_(0, torch.tensor(INDEX), v),
    "scatter_add_": lambda t, v: t.scatter_add_(0, torch.tensor(INDEX), v),
    "index_add_": lambda t, v: t.index_add_(0, torch.tensor(INDEX), v),
    "index_copy_": lambda t, v: t.index_copy_(0, torch.tensor(INDEX), v),
    "index_put_": lambda t, v: t.index_put_((torch.tensor(INDEX),), v), "put_": lambda t, v: t.put_(torch.tensor(INDEX), v),
    "setitem": lambda t, v: t.__setitem__(torch.tensor(INDEX), v),
}


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("of_view", [False, True])
def test_recorded_writes_stay_in_place_and_differentiate(name, of_view):
    adds = "add" in name

    def loss(x, v):
        t = x * 1
        address = t.data_ptr()
        WRITES[name](t[1:] if of_view else t, v)
        assert t.data_ptr() == address and t._version == 1
        return (t * t * t).sum()
    start, given = np.array([0.5, -1.0, 2.0, 0.25]), np.array([3.0, -0.5])
    x, v = torch.tensor(start, requires_grad=True), torch.tensor(given, requires_grad=True)
    g_x, g_v = torch.autograd.grad(loss(x, v), (x, v), create_graph=True)
    rows = np.array(INDEX) + of_view
    want = start.copy()
    want[rows] = given + (start[rows] if adds else 0)
    g_want = 3 * want ** 2
    np.testing.assert_allclose(g_v.detach().numpy(), g_want[rows])
    kept = g_want.copy()
    kept[rows] *= adds
    np.testing.assert_allclose(g_x.detach().numpy(), kept)
    second, = torch.autograd.grad(g_v.sum(), v)
    np.testing.assert_allclose(second.numpy(), 6 * want[rows])


def test_an_index_changed_behind_the_tape_is_checked_again():
    index = np.array([0, 1])
    x = torch.ones(3, requires_grad=True)
    y = x[torch.from_numpy(index)]
    index[0] = 1_000_000
    with pytest.raises(IndexError, match="index 1000000 is out of bounds for dimension 0 with size 3"):
        y.sum().backward()


def test_views_keep_pooled_memory():
    size = buffers.LARGE // 4
    for _ in range(3):
        part = buffers.empty((size,), np.dtype(np.float32))[: size // 2]
        part.fill(1)
        other = buffers.empty((size,), np.dtype(np.float32))
        other.fill(2)
        assert not np.may_share_memory(part, other) and part.sum() == size // 2


def test_freed_memory_is_used_again_and_never_twice():
    shape, dtype = (buffers.LARGE + 123,), np.dtype(np.int32)
    first, second = (buffers.empty(shape, dtype) for _ in range(2))
    places = {x.ctypes.data for x in (first, second)}
    assert len(places) == 2 and all(p % buffers.ALIGNMENT == 0 for p in places)
    assert buffers.owns(first) and not buffers.owns(first[1:]) and not buffers.owns(first.copy())
    last = second.ctypes.data
    del first, second
    third = buffers.empty((shape[0] - 5,), dtype)
    fourth, fifth = (buffers.empty(shape, dtype) for _ in range(2))
    assert third.ctypes.data == last and fourth.ctypes.data in places - {last} and fifth.ctypes.data not in places


def test_the_pool_keeps_no_more_than_its_share(monkeypatch):
    buffers.clear()
    live = buffers._kept                    # what other tests still hold
    monkeypatch.setattr(buffers, "MOST", live + 8 * buffers.LARGE)
    before = len(buffers._leases)
    for n in range(1, 20):
        arrays = [buffers.empty((n * buffers.LARGE // 2,), np.dtype(np.uint8)) for _ in range(4)]
        for k, x in enumerate(arrays):
            x.fill(k)
        assert [x.min() for x in arrays] == [x.max() for x in arrays] == list(range(4))
        del arrays, x
        assert buffers._kept <= buffers.MOST
    buffers.clear()
    assert buffers._kept == live and len(buffers._leases) == before


# --- random writes ----------------------------------------------------------------------------------------------------

NODES = {"uniform_": ((), "UniformBackward0"), "normal_": ((), "NormalBackward0"),
         "exponential_": ((), "ExponentialBackward0"),
         "cauchy_": ((), "CauchyBackward0"), "log_normal_": ((), "LogNormalBackward0"),
         "geometric_": ((0.5,), "GeometricBackward0"),
         "bernoulli_": ((), "BernoulliBackward2")}


@pytest.mark.parametrize("name", NODES)
def test_random_writes_have_their_own_nodes(name):
    arguments, node = NODES[name]
    x = torch.ones(3, requires_grad=True)
    y = x * 1
    getattr(y, name)(*arguments)
    assert type(y.grad_fn).__name__ == node
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), 0)
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        getattr(x, name)(*arguments)


def test_more_names_of_random_functions():
    x = torch.full((3,), 0.5, requires_grad=True)
    for arguments, node in (((), "RandomBackward2"), ((3,), "RandomBackward1"), ((1, 5), "RandomBackward0")):
        assert type((x * 1).random_(*arguments).grad_fn).__name__ == node
    assert type((x * 1).bernoulli_(torch.tensor(0.5)).grad_fn).__name__ == "BernoulliBackward1"
    for made, node in ((torch.bernoulli(x), "BernoulliBackward0"), (torch.poisson(x), "PoissonBackward0"),
                       (torch.normal(x, 1.0), "NormalBackward1"), (torch.normal(0.0, x), "NormalBackward2"),
                       (torch.normal(x, x), "NormalBackward3")):
        assert type(made.grad_fn).__name__ == node
        made.sum().backward()
        np.testing.assert_array_equal(x.grad.numpy(), 0)
    with pytest.raises(RuntimeError, match="derivative for aten::bernoulli is not implemented"):
        torch.bernoulli(x, 0.5).sum().backward()


def test_unique_is_in_the_graph_without_a_derivative():
    x = torch.tensor([1.0, 1.0, 2.0], requires_grad=True)
    for made, node in ((torch.unique(x), "Unique2Backward0"), (torch.unique(x, return_inverse=True)[0], "Unique2Backward0"),
                       (torch.unique(x, dim=0), "UniqueDimBackward0"), (torch.unique_consecutive(x), "UniqueConsecutiveBackward0")):
        assert type(made.grad_fn).__name__ == node
        with pytest.raises(NotImplementedError, match=r"the derivative for '_?unique.* is not implemented"):
            made.sum().backward()
    with torch.no_grad():
        assert not torch.unique(x).requires_grad


# --- poisson ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("rate", [0.3, 4.0, 9.9, 10.0, 37.5, 1000.0])
def test_poisson_has_its_distribution(rate):
    scipy = pytest.importorskip("scipy.stats")
    count = 20_000
    drawn = torch.poisson(torch.full((count,), rate, dtype=torch.float64), torch.Generator().manual_seed(3)).numpy()
    assert (drawn == np.floor(drawn)).all() and drawn.min() >= 0
    edges = np.unique(scipy.poisson.ppf(np.linspace(0.02, 0.98, 12), rate))
    observed = np.histogram(drawn, [-0.5, *(edges + 0.5), np.inf])[0]
    chances = np.diff([0, *scipy.poisson.cdf(edges, rate), 1])
    keep = chances > 1e-4
    assert scipy.chisquare(observed[keep], chances[keep] / chances[keep].sum() * observed[keep].sum()).pvalue > 1e-3


def test_poisson_is_reproducible_and_checks():
    rates = torch.tensor([[0.0, 2.0], [20.0, 300.0]], dtype=torch.float64)
    one, other = (torch.poisson(rates.T, torch.Generator().manual_seed(5)) for _ in range(2))
    np.testing.assert_array_equal(one.numpy(), other.numpy())
    assert one.is_contiguous() and one.dtype is torch.float64 and one[0, 0].item() == 0
    for bad in (-1.0, float("nan")):
        with pytest.raises(RuntimeError, match="invalid Poisson rate, expected rate to be non-negative"):
            torch.poisson(torch.tensor([bad], dtype=torch.float64))
    with pytest.raises(NotImplementedError, match="\"poisson_cpu\" not implemented for 'Long'"):
        torch.poisson(torch.tensor([1]))
    with pytest.raises(TypeError, match="must be Tensor, not int"):
        torch.poisson(3)


# --- logsumexp of complex numbers ---------------------------------------------------------------------------------------

def test_logsumexp_of_complex_numbers():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(3, 4)) + 1j * rng.normal(size=(3, 4))
    t = torch.tensor(z, requires_grad=True)
    for dim, keepdim in ((1, False), (0, True), ((0, 1), False)):
        want = np.log(np.exp(z).sum(dim, keepdims=keepdim))
        got = torch.logsumexp(t, dim, keepdim)
        np.testing.assert_allclose(got.detach().numpy(), want)
        assert type(got.grad_fn).__name__ == "LogsumexpBackward0"
        g, = torch.autograd.grad(got.real.sum(), t)
        np.testing.assert_allclose(g.numpy(), np.conj(np.exp(z - (want if keepdim else np.expand_dims(want, dim)))))
    assert torch.autograd.gradcheck(lambda t: torch.logsumexp(t, 1), (t,))
    large = torch.logsumexp(torch.tensor([800 + 3j, 1 + 0j], dtype=torch.complex128), 0)
    np.testing.assert_allclose(large.numpy(), 800 + 3j)
    low = torch.logsumexp(torch.full((2,), complex(-np.inf, 0), dtype=torch.complex128), 0)
    assert low.item().real == -np.inf
    assert torch.logsumexp(torch.empty(0, 2, dtype=torch.complex128), 0).numpy().real.tolist() == [-np.inf, -np.inf]
