"""Reductions: values, dtypes, layouts, NaN, ties, derivatives and error texts of sum, max, var, norm, median and their kin."""
import math
import warnings

import numpy as np
import pytest

import engine as torch
from engine.tensor import from_array
from kernels.cpu import pool

RNG = np.random.default_rng(20260)
CUBE = RNG.normal(size=(3, 4, 5))


def of(a, **options):
    return torch.from_numpy(np.array(a)).requires_grad_() if options.get("grad") else torch.from_numpy(np.array(a))


def values(t):
    return t.detach().numpy()


FOLDS = {"sum": np.sum, "mean": np.mean, "amax": np.max, "amin": np.min, "any": np.any, "all": np.all}
DIMS = (0, -1, 1, (0, 1), (0, 2), (-1, 1), (0, 1, 2))


@pytest.mark.parametrize("name", FOLDS)
def test_folds_over_any_dimensions_and_layouts(name):
    layouts = (CUBE, CUBE.transpose(2, 0, 1), CUBE[:, ::2, ::-1], np.broadcast_to(CUBE[:, :1], (3, 4, 5)))
    for a in layouts:
        t = from_array(a)               # reversed views too, which from_numpy refuses
        for dim in DIMS:
            for keepdim in (False, True):
                got = getattr(torch, name)(t, dim, keepdim)
                np.testing.assert_allclose(values(got), FOLDS[name](a, axis=dim, keepdims=keepdim), rtol=1e-13)
        whole = getattr(t, name)()
        np.testing.assert_allclose(values(whole), FOLDS[name](a), rtol=1e-13)


@pytest.mark.parametrize("shape", [(70, 130), (3, 1500), (1500, 3), (20, 70, 30), (1, 2000), (2000, 1), (300, 40)])
def test_large_folds_take_every_kernel(shape):
    a = RNG.normal(size=shape)
    for view in (a, np.asfortranarray(a), np.repeat(a, 2, -1)[..., ::2], a[::-1]):
        t = from_array(view)
        for dim in [None, (), *(d for d, n in enumerate(shape) if n > 1), tuple(range(len(shape)))[::2]]:
            over = None if dim == () else dim
            got = t.sum() if dim is None else t.sum(dim)
            np.testing.assert_allclose(values(got), view.sum(axis=over), rtol=1e-9, atol=1e-11)
            if dim != () and not isinstance(dim, tuple):
                np.testing.assert_array_equal(values(t.argmax(dim)), view.argmax(axis=dim))
                got = t.var() if dim is None else t.var(dim)
                np.testing.assert_allclose(values(got), view.var(axis=dim, ddof=1), rtol=1e-10)


def test_several_dimensions_apart_with_an_extra_operand():
    a = RNG.normal(size=(8, 6, 9, 11))
    got = torch.from_numpy(a).var((0, 2, 3), keepdim=True)
    np.testing.assert_allclose(values(got), a.var(axis=(0, 2, 3), ddof=1, keepdims=True), rtol=1e-12)


def test_result_dtypes():
    i, b, u = torch.tensor([1, 2]), torch.tensor([True, False]), torch.tensor([1, 0], dtype=torch.uint8)
    assert i.to(torch.int32).sum().dtype is torch.int64
    assert b.sum().dtype is torch.int64
    assert b.prod().dtype is torch.int64
    assert u.any().dtype is torch.uint8
    assert u.all(0).dtype is torch.uint8
    assert i.any().dtype is torch.bool
    assert i.argmax().dtype is torch.int64
    assert i.sum(dtype=torch.float32).dtype is torch.float32
    assert i.count_nonzero().item() == 2
    assert torch.ones(3, dtype=torch.float16).sum().dtype is torch.float16


def test_sums_are_accurate():
    tenths = torch.from_numpy(np.full(10**7, 0.1, np.float32))
    true = 10**7 * float(np.float32(0.1))
    assert abs(tenths.sum().item() - true) / true < 1e-6
    assert abs(tenths.reshape(10, -1).mean(1)[0].item() - float(np.float32(0.1))) < 1e-7
    halves = torch.from_numpy(np.full(30000, 1.0, np.float16))
    assert halves.sum().item() == 30000
    a = (1e6 + RNG.normal(size=5000)).astype(np.float32)
    assert math.isclose(torch.from_numpy(a).var().item(), a.astype(np.float64).var(ddof=1), rel_tol=1e-5)


def test_results_do_not_depend_on_threads():
    a = torch.from_numpy(RNG.normal(size=(257, 1031)).astype(np.float32))
    before, found = pool.threads, []
    try:
        for count in (1, 2, 3):
            pool.set_threads(count)
            pool.ensure()
            found.append([values(r) for r in (a.sum(), a.sum(0), a.sum(1), a.mean(), a[:, :65].sum(0), a.t().sum(0))])
    finally:
        pool.set_threads(before)
    for others in found[1:]:
        for x, y in zip(found[0], others, strict=True):
            np.testing.assert_array_equal(x, y)


def test_nan_wins_and_the_first_of_equal_elements_is_chosen():
    nan = float("nan")
    t = torch.tensor([[1.0, 3.0, 3.0], [nan, 2.0, nan], [-2.0, -2.0, 5.0]])
    assert t.argmax(1).tolist() == [1, 0, 2]
    assert t.argmin(1).tolist() == [0, 0, 0]
    assert t.max(1).indices.tolist() == [1, 0, 2]
    assert math.isnan(t.max().item())
    assert math.isnan(t.min().item())
    assert math.isnan(t.amax(1)[1].item())
    assert t.argmax().item() == 3
    low, high = torch.aminmax(t[2])
    assert (low.item(), high.item()) == (-2.0, 5.0)
    assert t.nansum(1).tolist() == [7.0, 2.0, 1.0]
    assert t.nanmean(1)[1].item() == 2.0
    many = np.zeros(200_000)
    many[[150_000, 170_000]] = 1.0
    assert torch.from_numpy(many).argmax().item() == 150_000
    assert torch.full((3,), -math.inf).argmax().item() == 0


def test_named_results_print_and_unpack():
    result = torch.tensor([[1.0, 2.0], [4.0, 3.0]]).max(1)
    assert repr(result) == "engine.return_types.max(\nvalues=tensor([2., 4.]),\nindices=tensor([1, 0]))"
    best, where = result
    assert where.tolist() == [1, 0]
    assert result.values is best


def test_numbers_and_empty_tensors():
    assert torch.tensor(3.0).sum(0).item() == 3.0
    assert torch.tensor(3.0).max(-1).indices.item() == 0
    empty = torch.zeros(0, 3)
    assert empty.sum().item() == 0.0
    assert empty.sum(0).tolist() == [0.0] * 3
    assert empty.prod(0).tolist() == [1.0] * 3
    assert math.isnan(empty.mean().item())
    assert empty.all().item() is True
    assert empty.max(1).values.shape == (0,)
    assert torch.zeros(0).logsumexp(0).item() == -math.inf


def test_out_and_subsequent_use():
    t = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    out = torch.zeros(2)
    assert torch.sum(t, 0, out=out) is out
    assert out.tolist() == [4.0, 6.0]
    v, i = torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    torch.max(t, 1, out=(v, i))
    assert (v.tolist(), i.tolist()) == ([2.0, 4.0], [1, 1])


@pytest.mark.parametrize("call, error, text", [
    (lambda: torch.tensor([1]).mean(), RuntimeError, "mean(): could not infer output dtype. Input dtype must be"),
    (lambda: torch.zeros(0).max(), RuntimeError, "max(): Expected reduction dim to be specified for input.numel() == 0"),
    (lambda: torch.zeros(0, 2).max(0), IndexError, "max(): Expected reduction dim 0 to have non-zero size."),
    (lambda: torch.zeros(0).argmax(), IndexError, "argmax(): Expected reduction dim to be specified"),
    (lambda: torch.tensor([True]).argmax(), RuntimeError, "argmax(): does not support bool input"),
    (lambda: torch.tensor([1j]).amax(), NotImplementedError, '"max_values_cpu" not implemented for \'ComplexFloat\''),
    (lambda: torch.zeros(2).sum(1), IndexError, "Dimension out of range (expected to be in range of [-1, 0], but got 1)"),
    (lambda: torch.zeros(2).sum((0, 0)), RuntimeError, "dim 0 appears multiple times in the list of dims"),
    (lambda: torch.zeros(2).sum("a"), TypeError, "dim must be an int or a tuple of ints"),
    (lambda: torch.zeros(0).aminmax(), RuntimeError, "cannot compute aminmax over an empty dimension"),
    (lambda: torch.tensor([1]).var(), RuntimeError, "std and var only support floating point and complex dtypes"),
    (lambda: torch.tensor([1]).norm(), RuntimeError, "Expected a floating point or complex tensor as input. Got Long"),
    (lambda: torch.zeros(0).norm(math.inf), RuntimeError, "cannot compute the inf norm on an empty tensor"),
    (lambda: torch.ones(2).quantile(1.5), RuntimeError, "quantile() q must be in the range [0, 1] but got 1.5"),
    (lambda: torch.ones(0).quantile(0.5), RuntimeError, "quantile() input tensor must be non-empty"),
    (lambda: torch.tensor([-1]).bincount(), RuntimeError, "bincount only supports 1-d non-negative integral inputs."),
    (lambda: torch.ones(3).histc(4, 2, 1), RuntimeError, "max must be larger than min"),
    (lambda: torch.ones(3).renorm(1, 0, 1.0), RuntimeError, "renorm: input needs at least 2 dimensions, got 1"),
    (lambda: torch.ones(2, 2, 2).cov(), RuntimeError, "cov(): expected input to have two or fewer dimensions"),
])
def test_errors(call, error, text):
    with pytest.raises(error) as raised:
        call()
    assert text in str(raised.value)


def test_variance_and_its_correction():
    t = of(CUBE)
    for correction in (0, 1, 2.5):
        np.testing.assert_allclose(values(t.var(1, correction=correction)), CUBE.var(axis=1, ddof=correction), rtol=1e-12)
    np.testing.assert_allclose(values(t.std(False)), CUBE.std(), rtol=1e-12)
    spread, mean = torch.std_mean(t, 0)
    np.testing.assert_allclose(values(spread), CUBE.std(axis=0, ddof=1), rtol=1e-12)
    np.testing.assert_allclose(values(mean), CUBE.mean(axis=0), rtol=1e-12)
    z = CUBE[0] + 1j * CUBE[1]
    np.testing.assert_allclose(values(torch.from_numpy(z).var(0)), z.var(axis=0, ddof=1), rtol=1e-12)
    with pytest.warns(UserWarning, match="degrees of freedom is <= 0"):
        assert math.isnan(torch.ones(1).var().item())


@pytest.mark.parametrize("p", [0, 1, 2, 3, 0.5, -1, math.inf, -math.inf])
def test_norms(p):
    t = of(CUBE)
    np.testing.assert_allclose(values(t.norm(p, 1)), np.linalg.norm(CUBE, p, axis=1), rtol=1e-12)
    np.testing.assert_allclose(values(t.norm(p)), np.linalg.norm(CUBE.ravel(), p), rtol=1e-12)


def test_logsumexp_neither_overflows_nor_loses_infinities():
    t = torch.tensor([[1000.0, 1000.0], [-math.inf, -math.inf], [math.inf, 1.0], [-1000.0, -1000.0]], dtype=torch.float64)
    got = t.logsumexp(1).tolist()
    assert got == [pytest.approx(1000 + math.log(2)), -math.inf, math.inf, pytest.approx(-1000 + math.log(2))]


def test_median_quantile_mode():
    a = RNG.integers(0, 6, size=(5, 8)).astype(float)
    t = of(a)
    np.testing.assert_array_equal(values(t.median(1).values), np.sort(a, axis=1)[:, 3])
    np.testing.assert_array_equal(np.take_along_axis(a, t.median(1, True).indices.numpy(), 1)[:, 0], np.sort(a, axis=1)[:, 3])
    b = a.copy()
    b[0, 2] = b[2, :] = np.nan
    holes = of(b)
    assert math.isnan(holes.median(1).values[0].item())
    assert holes.median(1).indices[0].item() == 2
    assert holes.nanmedian(1).values[0].item() == np.sort(np.delete(b[0], 2))[3]
    for kind in ("linear", "lower", "higher", "midpoint", "nearest"):
        got = torch.quantile(t, of([0.0, 0.3, 0.77, 1.0]), 1, interpolation=kind)
        np.testing.assert_allclose(values(got), np.quantile(a, [0.0, 0.3, 0.77, 1.0], axis=1, method=kind), rtol=1e-12)
    assert math.isnan(holes.quantile(0.0, 1)[0].item())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_allclose(values(holes.nanquantile(0.4, 1)), np.nanquantile(b, 0.4, axis=1), rtol=1e-12)
    value, where = torch.tensor([3, 1, 2, 1, 3]).mode()
    assert (value.item(), where.item()) == (1, 3)


def test_counting():
    n = torch.tensor([1, 2, 2, 5])
    assert n.bincount().tolist() == [0, 1, 2, 0, 0, 1]
    assert n.bincount(minlength=8).tolist() == [0, 1, 2, 0, 0, 1, 0, 0]
    assert n.bincount(torch.tensor([0.5, 1.0, 2.0, 3.0])).tolist() == [0, 0.5, 3.0, 0, 0, 3.0]
    x = RNG.normal(size=200)
    np.testing.assert_array_equal(values(torch.from_numpy(x).histc(7, -1, 1)), np.histogram(x, 7, (-1, 1))[0])
    np.testing.assert_array_equal(values(torch.from_numpy(x).histc(9)), np.histogram(x, 9)[0])


def test_covariance_and_correlation():
    a = RNG.normal(size=(3, 6))
    counts, weights = np.array([1, 2, 3, 1, 2, 1]), np.abs(a[0])
    np.testing.assert_allclose(values(of(a).cov()), np.cov(a), rtol=1e-12)
    got = of(a).cov(correction=0, fweights=of(counts), aweights=of(weights))
    np.testing.assert_allclose(values(got), np.cov(a, ddof=0, fweights=counts, aweights=weights), rtol=1e-12)
    np.testing.assert_allclose(values(of(a).corrcoef()), np.corrcoef(a), rtol=1e-12)
    scaled = of(a).renorm(2, 0, 1.5)
    norms = np.linalg.norm(a, axis=1, keepdims=True)
    np.testing.assert_allclose(values(scaled), np.where(norms > 1.5, a * 1.5 / norms, a), rtol=1e-6)


def slope(f, x, direction, step=1e-6):
    """Directional derivative by central differences."""
    return (f(of(x + step * direction)) - f(of(x - step * direction))).item() / (2 * step)


SMOOTH = {
    "sum": lambda t: t.sum(0), "mean": lambda t: t.mean((0, 1)), "prod": lambda t: t.prod(1), "prod of all": lambda t: t.prod(),
    "var": lambda t: t.var(1), "std": lambda t: t.std(), "var_mean": lambda t: torch.add(*torch.var_mean(t, 0)),
    "norm": lambda t: t.norm(2, 1), "norm 3": lambda t: t.norm(3), "norm inf": lambda t: t.norm(math.inf, 1),
    "logsumexp": lambda t: t.logsumexp(1), "max": lambda t: t.max(1).values, "amin": lambda t: t.amin((0, 1)),
    "median": lambda t: t.median(0).values, "quantile": lambda t: t.quantile(0.3, 1), "nansum": lambda t: t.nansum(1),
    "nanmean": lambda t: t.nanmean(0), "cov": lambda t: t.cov(), "renorm": lambda t: t.renorm(2, 0, 1.0),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_derivatives_of_first_and_second_order(name):
    x, along, across = CUBE[0], RNG.normal(size=(4, 5)), RNG.normal(size=(4, 5))

    def scalar(t):
        return (SMOOTH[name](t) ** 2).sum()

    def first(t):
        t = t.requires_grad_()
        (g,) = torch.autograd.grad(scalar(t), t, create_graph=True)
        return (g * of(along)).sum()
    assert first(of(x)).item() == pytest.approx(slope(scalar, x, along), rel=1e-5, abs=1e-7)
    t = of(x, grad=True)
    (second,) = torch.autograd.grad(first(t), t)
    assert float((values(second) * across).sum()) == pytest.approx(slope(first, x, across), rel=1e-5, abs=1e-6)


def test_products_with_zeros_have_right_derivatives():
    for zeros in ((0,), (0, 2)):
        a = np.array([2.0, 3.0, 4.0, 5.0])
        a[list(zeros)] = 0
        t = of(a, grad=True)
        t.prod().backward()
        others = [np.prod(np.delete(a, k)) for k in range(4)]
        np.testing.assert_array_equal(t.grad.numpy(), others)


def test_gradients_at_ties_and_zero():
    t = of([1.0, 3.0, 3.0], grad=True)
    t.max().backward()
    assert t.grad.tolist() == [0.0, 0.5, 0.5]
    t.grad = None
    t.max(0).values.backward()
    assert t.grad.tolist() == [0.0, 1.0, 0.0]
    z = of([0.0, 0.0], grad=True)
    z.norm().backward()
    assert z.grad.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("call, name", [
    (lambda t: t.sum(), "SumBackward0"), (lambda t: t.sum(0), "SumBackward1"), (lambda t: t.mean(), "MeanBackward0"),
    (lambda t: t.mean(1), "MeanBackward1"), (lambda t: t.max(), "MaxBackward1"), (lambda t: t.max(0)[0], "MaxBackward0"),
    (lambda t: t.amax(0), "AmaxBackward0"), (lambda t: t.prod(), "ProdBackward0"), (lambda t: t.prod(0), "ProdBackward1"),
    (lambda t: t.var(), "VarBackward0"), (lambda t: t.norm(), "LinalgVectorNormBackward0"),
    (lambda t: t.median(), "MedianBackward0"), (lambda t: t.median(0)[0], "MedianBackward1"),
])
def test_node_names(call, name):
    assert type(call(of(CUBE[0], grad=True)).grad_fn).__name__ == name
