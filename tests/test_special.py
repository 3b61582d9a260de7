"""Special functions against mpmath over wide domains, at edges and infinities, with their derivatives and refusals.

Values near SciPy's, dtypes, layouts and gradients of the records are walked in test_book; here is what SciPy does not settle.
"""
import math

import mpmath
import numpy as np
import pytest
import scipy.special
from test_book import check_gradients

import engine
from engine import special
from engine.tensor import from_array
from kernels import libm_rare

mpmath.mp.dps = 40


def spread(rng, low, high, count=60):
    return 10.0 ** rng.uniform(low, high, count)


def both_signs(rng, low, high, count=60):
    x = spread(rng, low, high, count)
    return np.concatenate([x, -x])


def exact_ndtri(p):
    """Newton's method on the logarithm of the distribution, from SciPy's value."""
    y = mpmath.mpf(float(scipy.special.ndtri(float(p))))
    for _ in range(3):
        y -= (mpmath.log(mpmath.ncdf(y)) - mpmath.log(p)) * mpmath.ncdf(y) / mpmath.npdf(y)
    return y


def exact_log_ndtr(x):
    return mpmath.log(mpmath.ncdf(x)) if x < 5 else mpmath.log1p(-mpmath.ncdf(-x))


# name -> (exact function, arguments, tolerance in ulp, whether ulps are those of the larger of 1 and the value)
ACCURACY = {
    "i0": (lambda x: mpmath.besseli(0, x), lambda r: both_signs(r, -6, 2.8), 5, False),
    "i0e": (lambda x: mpmath.besseli(0, x) * mpmath.exp(-abs(x)), lambda r: both_signs(r, -6, 4), 4, False),
    "i1": (lambda x: mpmath.besseli(1, x), lambda r: both_signs(r, -6, 2.8), 5, False),
    "i1e": (lambda x: mpmath.besseli(1, x) * mpmath.exp(-abs(x)), lambda r: both_signs(r, -6, 4), 4, False),
    "bessel_j0": (lambda x: mpmath.besselj(0, x), lambda r: both_signs(r, -6, 4), 4, True),
    "bessel_j1": (lambda x: mpmath.besselj(1, x), lambda r: both_signs(r, -6, 4), 4, True),
    "bessel_y0": (lambda x: mpmath.bessely(0, x), lambda r: spread(r, -6, 4), 4, True),
    "bessel_y1": (lambda x: mpmath.bessely(1, x), lambda r: spread(r, -6, 4), 4, True),
    "erfcx": (lambda x: mpmath.exp(x * x) * mpmath.erfc(x),
              lambda r: np.concatenate([both_signs(r, -6, 1.4), spread(r, 1, 9)]), 6, False),
    "ndtr": (mpmath.ncdf, lambda r: both_signs(r, -6, 1.5), 6, False),
    "log_ndtr": (exact_log_ndtr, lambda r: np.concatenate([-spread(r, -6, 5), spread(r, -6, 1.4)]), 6, False),
    "ndtri": (exact_ndtri, lambda r: np.concatenate([r.uniform(0, 1, 60), spread(r, -300, -1)]), 6, False),
}


@pytest.mark.parametrize("name", ACCURACY)
def test_accuracy(name, rng):
    exact, arguments, tolerance, absolute = ACCURACY[name]
    x = arguments(rng)
    seen = getattr(special, name)(from_array(x)).numpy()
    for v, s in zip(x, seen, strict=True):
        e = exact(mpmath.mpf(float(v)))
        unit = max(1.0, abs(float(e))) * 2.0 ** -52 if absolute else np.spacing(abs(float(e)))
        assert abs(mpmath.mpf(float(s)) - e) <= tolerance * unit, (v, s, float(e))
    plain = [getattr(libm_rare, name.replace("bessel_", ""))(float(v)) for v in x[::17]]
    np.testing.assert_array_equal(plain, seen[::17])        # plain Python runs the same arithmetic
    single = getattr(special, name)(from_array(x.astype(np.float32))).numpy()
    wide = getattr(special, name)(from_array(x.astype(np.float32).astype(np.float64))).numpy()
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(single, wide.astype(np.float32))


def test_hurwitz_zeta(rng):
    s = np.concatenate([rng.uniform(1.001, 12, 40), rng.uniform(12, 60, 10), [2.0, 2.0, 4.0,
        6.0]])        # odd ones cancel below zero
    q = np.concatenate([spread(rng, -3, 3, 50), [-0.5, -1.5, -2.25, -7.75]])
    seen = special.zeta(from_array(s), from_array(q)).numpy()
    with mpmath.workdps(260):       # mpmath's own error is absolute
        for a, b, v in zip(s, q, seen, strict=True):
            e = mpmath.zeta(mpmath.mpf(float(a)), mpmath.mpf(float(b)))
            assert abs(mpmath.mpf(float(v)) / e - 1) < 16 * 2.0 ** -52, (a, b, v, float(e))
    np.testing.assert_allclose(special.zeta(engine.tensor(3.0).double(), engine.tensor([-1.5, -0.25]).double()).numpy(),
                               [float(mpmath.zeta(3, v)) for v in (-1.5, -0.25)], rtol=1e-13)
    edges = special.zeta(engine.tensor([1.0, 0.5, 2.0, 2.0, 2.5]), engine.tensor([1.0, 1.0, 0.0, -3.0, -1.5])).tolist()
    assert edges[0] == edges[2] == edges[3] == math.inf and math.isnan(edges[1]) and math.isnan(edges[4])


def test_incomplete_gamma_functions(rng):
    a = spread(rng, -4, 2.5, 120)
    x = a * spread(rng, -1, 1, 120)
    x[:40] = a[:40] * np.clip(1 + rng.normal(size=40) * 0.5 / np.sqrt(a[:40]), 0.1, 3)
    for f, low in ((engine.igamma, True), (engine.igammac, False)):
        seen = f(from_array(a), from_array(x)).numpy()
        for b, v, s in zip(a, x, seen, strict=True):
            b, v = mpmath.mpf(float(b)), mpmath.mpf(float(v))
            e = mpmath.gammainc(b, 0, v, regularized=True) if low else mpmath.gammainc(b, v, mpmath.inf, regularized=True)
            if e > 1e-300:          # an error of the exponent is one of the value
                assert abs(mpmath.mpf(float(s)) / e - 1) < (64 + 4 * abs(float(mpmath.log(e)))) * 2.0 ** -52, (b, v, s, float(e))
    a = spread(rng, 4, 7, 20)
    x = a * (1 + rng.normal(size=20) / np.sqrt(a))
    np.testing.assert_allclose(engine.igamma(from_array(a), from_array(x)).numpy(), scipy.special.gammainc(a, x), rtol=1e-12)
    np.testing.assert_allclose(special.gammaincc(from_array(a), from_array(x)).numpy(), scipy.special.gammaincc(a, x), rtol=1e-12)


def test_edges():
    inf, nan = math.inf, math.nan
    for name, at, expected in (("i0", [inf, -inf, nan], [inf, inf, nan]), ("i1", [inf, -inf, 0.0], [inf, -inf, 0.0]),
                               ("i0e", [inf, -inf], [0, 0]), ("i1e", [inf, -inf], [0, 0]), ("bessel_j0", [inf, -inf, 0.0], [0,
                                0, 1]),
                               ("bessel_y0", [0.0, -1.0, inf], [-inf, nan, 0]), ("bessel_y1", [0.0, -1.0, inf], [-inf, nan, 0]),
                               ("erfcx", [inf, -inf, nan, 0.0], [0, inf, nan, 1]), ("ndtr", [inf, -inf, 0.0], [1, 0, 0.5]),
                               ("log_ndtr", [inf, -inf, -1e10], [0, -inf, -5e19]),
                               ("ndtri", [0.0, 1.0, 0.5, 2.0], [-inf, inf, 0, nan]),
                               ("entr", [-1.0, 0.0, inf, nan], [-inf, 0, -inf, nan])):
        np.testing.assert_array_equal(getattr(special, name)(engine.tensor(at, dtype=engine.float64)).numpy(), expected)
    a, x = engine.tensor([0.0, 0.0, 1.0, 1.0, -1.0, inf, inf, 2.0]), engine.tensor([0.0, 1.0, 0.0, inf, 1.0, 1.0, inf, -1.0])
    np.testing.assert_array_equal(engine.igamma(a, x).numpy(), [nan, 1, 0, 1, nan, 0, nan, nan])
    np.testing.assert_array_equal(engine.igammac(a, x).numpy(), [nan, 0, 1, 0, nan, 1, nan, nan])
    np.testing.assert_array_equal(special.xlog1py(engine.zeros(3), engine.tensor([-1.0, nan, inf])).numpy(), [0, nan, 0])


def test_gradients_at_edges():
    def slope(f, at):
        x = engine.tensor(at, dtype=engine.float64, requires_grad=True)
        f(x).sum().backward()
        return x.grad.tolist()
    assert slope(special.i1, [0.0]) == [0.5] and slope(special.i1e, [0.0]) == [0.5] and slope(special.bessel_j1, [0.0]) == [0.5]
    assert slope(special.i0, [0.0]) == [0.0] and slope(special.i0e, [0.0]) == [0.0]
    assert slope(special.entr, [0.0]) == [math.inf]
    assert slope(lambda x: special.xlog1py(x, x - 1), [0.0]) == [0.0]


def test_multivariate_gamma(rng):
    x = rng.uniform(2, 9, (3, 4))
    for p in (1, 2, 4):
        np.testing.assert_allclose(special.multigammaln(from_array(x), p).numpy(), scipy.special.multigammaln(x, p), rtol=1e-13)
        check_gradients(lambda t, p=p: t.mvlgamma(p), [x], rng)
    with pytest.raises(RuntimeError, match="p has to be greater than or equal to 1"):
        engine.mvlgamma(from_array(x), 0)


def test_polygamma_of_any_order(rng):
    x = rng.uniform(0.2, 20, 30)
    for n in (0, 1, 2, 5, 11):
        seen = special.polygamma(n, from_array(x)).numpy()
        np.testing.assert_allclose(seen, scipy.special.polygamma(n, x), rtol=1e-12)


def test_other_names():
    x = engine.tensor([0.3, 0.7], dtype=engine.float64)
    for name, same in (("expit", engine.sigmoid), ("gammaln", engine.lgamma), ("psi", engine.digamma), ("digamma", engine.digamma),
                       ("erf", engine.erf), ("erfc", engine.erfc), ("erfinv", engine.erfinv), ("exp2", engine.exp2),
                       ("expm1", engine.expm1), ("log1p", engine.log1p), ("round", engine.round), ("sinc", engine.sinc),
                       ("logit", engine.logit), ("i0", engine.i0)):
        np.testing.assert_array_equal(getattr(special, name)(x).numpy(), same(x).numpy())
    np.testing.assert_array_equal(special.xlogy(x, x).numpy(), engine.xlogy(x, x).numpy())
    np.testing.assert_array_equal(special.softmax(x, 0).numpy(), engine.softmax(x, 0).numpy())
    np.testing.assert_array_equal(special.log_softmax(x, 0).numpy(), engine.log_softmax(x, 0).numpy())
    np.testing.assert_array_equal(special.logsumexp(x, 0).numpy(), engine.logsumexp(x, 0).numpy())
    np.testing.assert_array_equal(special.gammainc(x, x).numpy(), engine.igamma(x, x).numpy())
    assert set(special.__all__) <= set(vars(special))


def test_numbers_integers_out_and_nodes():
    x = engine.tensor([0.3, 0.7], requires_grad=True)
    np.testing.assert_allclose(special.zeta(2.0, x.detach()).numpy(), scipy.special.zeta(2.0, [0.3, 0.7]), rtol=1e-6)
    np.testing.assert_allclose(special.xlog1py(x.detach(), 2).numpy(), np.array([0.3, 0.7]) * np.log(3), rtol=1e-6)
    assert special.ndtr(engine.tensor([1, 2])).dtype is engine.float32 and special.i1(engine.ones(1).half()).dtype is engine.float16
    out = engine.empty(0)
    assert special.entr(x.detach(), out=out) is out and special.zeta(x.detach(), x.detach(), out=out) is out
    for result, name in ((special.i0(x), "I0Backward0"), (special.i0e(x), "SpecialI0EBackward0"),
                         (special.entr(x), "SpecialEntrBackward0"),
                         (special.log_ndtr(x), "SpecialLogNdtrBackward0"), (engine.igamma(x.detach(), x), "IgammaBackward0"),
                         (special.zeta(2.0, x), "SpecialZetaBackward0"), (x.mvlgamma(1), "MvlgammaBackward0")):
        assert result.grad_fn.name() == name


def test_refusals():
    x = engine.ones(2, requires_grad=True)
    with pytest.raises(NotImplementedError, match="the derivative for 'igamma: input' is not implemented"):
        engine.igamma(x, x).sum().backward()
    with pytest.raises(NotImplementedError, match="the derivative for 'zeta' is not implemented"):
        special.zeta(x + 1, x).sum().backward()
    with pytest.raises(NotImplementedError, match="\"igamma_cpu\" not implemented for 'Long'"):
        engine.igamma(engine.tensor([2]), engine.tensor([2]))
    for name in ("ndtri", "erfcx", "bessel_j0", "log_ndtr"):
        with pytest.raises(NotImplementedError, match=f"\"{name}_cpu\" not implemented for 'Half'"):
            getattr(special, name)(engine.ones(1).half())
    with pytest.raises(TypeError, match="must be Tensor, not float"):
        special.entr(1.0)
    with pytest.raises(TypeError, match="must be Tensor, not float"):
        special.zeta(2.0, 3.0)
