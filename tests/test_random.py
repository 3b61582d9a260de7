"""Random numbers: Philox against published answers, what an element depends on, distributions against SciPy,
generators, errors.
"""
import pickle

import numpy as np
import pytest
from scipy import stats

import engine as torch
from kernels import philox
from kernels.cpu import randoms

# Random123, examples/kat_vectors, philox4x32 10: counter, key, answer
KNOWN = [((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
         ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
         ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
          (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1))]
N = 40000


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def fits(sample, distribution):
    """A Kolmogorov-Smirnov test; the seed is fixed, so that it passes always or never."""
    assert stats.kstest(np.asarray(sample, np.float64), distribution).pvalue > 1e-3


@pytest.mark.parametrize("counter, key, answer", KNOWN)
def test_published_answers(counter, key, answer):
    assert philox.philox4x32(*counter, *key) == answer
    out = np.empty(4, np.uint32)
    randoms.draw(out, "words", lambda blocks: (key[0] | key[1] << 32, counter[0] | counter[1] << 32),
                 stream=counter[2] | counter[3] << 32)
    assert tuple(out.tolist()) == answer


@pytest.mark.parametrize("dtype, per, numbers",
                         [("float32", 4, philox.unit_float32), ("float64", 2, philox.unit_float64)])
def test_element_is_a_function_of_seed_offset_and_index(dtype, per, numbers):
    generator = seeded(11)
    generator.set_offset((1 << 32) - 2)                     # the counter carries into its second word
    got = torch.rand(21, dtype=getattr(torch, dtype), generator=generator).tolist()
    want = []
    for block in range(-(-21 // per)):
        c = (1 << 32) - 2 + block
        want += numbers(*philox.philox4x32(c & 0xFFFFFFFF, c >> 32, 0, 0, 11, 0))
    assert got == [float(w) for w in want[:21]]
    assert generator.get_offset() == (1 << 32) - 2 + -(-21 // per)


def test_normal_numbers_are_box_muller_in_their_own_precision():
    got = torch.randn(4, generator=seeded(3)).numpy()
    w = philox.philox4x32(0, 0, 0, 0, 3, 0)
    for k in (0, 2):
        radius = np.sqrt(-2 * np.log(((w[k] >> 1) + 0.5) / 2**31))
        angle = 2 * np.pi * (w[k + 1] >> 1) / 2**31
        assert np.allclose(got[k:k + 2], [radius * np.cos(angle), radius * np.sin(angle)], rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["rand", "randn"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_for_any_number_of_threads_and_any_length(name, dtype):
    draw = getattr(torch, name)
    before = torch.get_num_threads()
    try:
        runs = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            runs.append(draw(100003, dtype=dtype, generator=seeded(5)).numpy())
        assert np.array_equal(runs[0], runs[1]) and np.array_equal(runs[0], runs[2])
    finally:
        torch.set_num_threads(before)
    for n in (1, 2, 3, 5, 63, 64, 65, 70, 3001):
        assert np.array_equal(draw(n, dtype=dtype, generator=seeded(5)).numpy(), runs[0][:n])


def test_calls_go_on_where_the_last_one_ended():
    generator = seeded(9)
    first, second = torch.rand(8, generator=generator), torch.rand(8, generator=generator)
    assert torch.cat([first, second]).tolist() == torch.rand(16, generator=seeded(9)).tolist()


# --- distributions ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_distributions(dtype):
    d = getattr(torch, dtype)
    empty = torch.empty(N, dtype=d)
    fits(torch.rand(N, dtype=d).numpy(), stats.uniform().cdf)
    fits(torch.randn(N, dtype=d).numpy(), stats.norm().cdf)
    fits(empty.uniform_(-2, 3).numpy(), stats.uniform(-2, 5).cdf)
    fits(empty.normal_(1, 2).numpy(), stats.norm(1, 2).cdf)
    fits(empty.exponential_(2.0).numpy(), stats.expon(scale=0.5).cdf)
    fits(empty.cauchy_(1, 2).numpy(), stats.cauchy(1, 2).cdf)
    fits(empty.log_normal_(0.5, 0.75).numpy(), stats.lognorm(0.75, scale=np.exp(0.5)).cdf)


def test_moments_of_normal_numbers():
    x = torch.randn(400000, generator=seeded(1)).numpy().astype(np.float64)
    assert abs(x.mean()) < 0.006 and abs(x.var() - 1) < 0.01 and abs((x**3).mean()) < 0.02
    assert abs((x**4).mean() - 3) < 0.06
    pairs = np.corrcoef(x[:-1], x[1:])[0, 1]
    assert abs(pairs) < 0.006 and abs(np.corrcoef(x[::4], x[2::4])[0, 1]) < 0.012


def test_uniform_numbers_have_all_their_bits_and_stay_below_one():
    x = torch.rand(N).numpy() * np.float32(2**24)
    assert np.array_equal(x, np.floor(x)) and (x.astype(np.int64) & 1).mean() == pytest.approx(0.5, abs=0.01)
    assert x.max() < 2**24
    y = torch.rand(N, dtype=torch.float64).numpy() * 2**53
    assert np.array_equal(y, np.floor(y)) and (y.astype(np.int64) & 1).mean() == pytest.approx(0.5, abs=0.01)
    h = torch.rand(N, dtype=torch.float16).numpy()
    assert h.min() >= 0 and h.max() < 1 and h.astype(np.float64).mean() == pytest.approx(0.5, abs=0.01)


def test_complex_numbers_have_unit_variance():
    z = torch.randn(N, dtype=torch.complex64).numpy()
    assert np.var(z) == pytest.approx(1, abs=0.03) and np.var(z.real) == pytest.approx(0.5, abs=0.02)
    assert torch.rand(3, dtype=torch.complex128).dtype is torch.complex128


def test_integers():
    x = torch.randint(-3, 7, (N,)).numpy()
    assert set(x.tolist()) == set(range(-3, 7)) and stats.chisquare(np.bincount(x + 3)).pvalue > 1e-3
    wide = torch.randint(-2**62, 2**62, (N,)).numpy()
    assert wide.min() < -2**61 and wide.max() > 2**61
    fits(wide / 2.0**63 + 0.5, stats.uniform().cdf)
    assert torch.randint(5, (3,), dtype=torch.float32).dtype is torch.float32
    assert torch.randint(high=5, size=(2, 2)).dtype is torch.int64
    assert torch.randint_like(torch.zeros(2), 5).dtype is torch.float32
    assert torch.randint(0, 256, (N,), dtype=torch.uint8).numpy().max() == 255
    full = torch.empty(N, dtype=torch.int64).random_().numpy()
    assert full.min() >= 0 and full.max() > 2**62
    assert set(torch.empty(100, dtype=torch.bool).random_().tolist()) == {True, False}


def test_randperm():
    p = torch.randperm(1000).numpy()
    assert np.array_equal(np.sort(p), np.arange(1000)) and not np.array_equal(p, np.arange(1000))
    counts = np.zeros((4, 4))
    for _ in range(2000):
        counts[np.arange(4), torch.randperm(4).numpy()] += 1
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3
    assert torch.randperm(0).tolist() == [] and torch.randperm(5, dtype=torch.float32).dtype is torch.float32


def test_bernoulli_and_geometric():
    p = torch.tensor([0.0, 0.25, 1.0])
    x = torch.bernoulli(p.expand(N // 4, 3)).numpy()
    assert x[:, 0].max() == 0 and x[:, 2].min() == 1 and x[:, 1].mean() == pytest.approx(0.25, abs=0.02)
    assert torch.empty(N, dtype=torch.int64).bernoulli_(0.3).numpy().mean() == pytest.approx(0.3, abs=0.01)
    assert torch.zeros(4, 3).bernoulli_(p)[:, 2].tolist() == [1] * 4
    g = torch.empty(N, dtype=torch.float64).geometric_(0.4).numpy()
    assert g.min() == 1 and g.mean() == pytest.approx(2.5, abs=0.05)


def test_normal_forms():
    mean, std = torch.tensor([0.0, 10.0]), torch.tensor([[1.0], [0.0]])
    x = torch.normal(mean, std)
    assert tuple(x.shape) == (2, 2) and x[1].tolist() == [0.0, 10.0]
    fits(torch.normal(3.0, 2.0, (N,)).numpy(), stats.norm(3, 2).cdf)
    fits(torch.normal(torch.full((N,), 3.0), 2.0).numpy(), stats.norm(3, 2).cdf)
    assert torch.normal(mean.double(), 1.0).dtype is torch.float64


def test_multinomial():
    weights = torch.tensor([1.0, 0.0, 3.0, 6.0])
    x = torch.multinomial(weights, N, replacement=True).numpy()
    assert stats.chisquare(np.bincount(x, minlength=4)[[0, 2, 3]],
                           N * np.array([0.1, 0.3, 0.6])).pvalue > 1e-3 and 1 not in x
    rows = torch.multinomial(weights.expand(3000, 4), 3).numpy()
    assert all(sorted(r) == [0, 2, 3] for r in rows.tolist())       # each at most once, the impossible one never
    assert stats.chisquare(np.bincount(rows[:, 0], minlength=4)[[0, 2, 3]],
                           3000 * np.array([0.1, 0.3, 0.6])).pvalue > 1e-3
    assert tuple(torch.multinomial(torch.ones(2, 3), 2).shape) == (2, 2)
    assert torch.multinomial(torch.tensor([0.0, 0.0, 1.0, 0.0]), 1).item() == 2


# --- layouts, tape, generators ----------------------------------------------------------------------------------------

def test_layouts_and_out():
    t = torch.zeros(4, 6)
    t[:, ::2].uniform_(1, 2)
    assert (t.numpy()[:, ::2] >= 1).all() and (t.numpy()[:, 1::2] == 0).all()
    turned = torch.zeros(3, 2).t()
    assert torch.rand_like(turned).stride() == (1, 2)
    torch.manual_seed(4)
    first = torch.rand_like(turned).tolist()
    torch.manual_seed(4)
    assert torch.rand(2, 3).tolist() == first               # values follow the index, not the layout
    out = torch.zeros(3)
    assert torch.rand(3, out=out) is out and out.numpy().any()
    assert torch.rand(0).tolist() == [] and torch.randn(()).ndim == 0


def test_gradients_are_zero():
    x = torch.ones(3, requires_grad=True)
    y = x * 2
    y.normal_()
    (y.sum() + torch.bernoulli(x * 0.5).sum()).backward()
    assert x.grad.tolist() == [0, 0, 0]
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        x.uniform_()
    assert torch.rand(2, requires_grad=True).requires_grad


def test_generators():
    g = torch.Generator()
    assert g.initial_seed() == 67280421310721 and g.device.type == "cpu"
    state = g.manual_seed(5).get_state()
    first = torch.randn(5, generator=g).tolist()
    g.set_state(state)
    assert torch.randn(5, generator=g).tolist() == first and state.dtype is torch.uint8
    twin = g.clone_state()
    other = pickle.loads(pickle.dumps(g))
    drawn = [torch.rand(3, generator=each).tolist() for each in (g, twin, other)]
    assert drawn[0] == drawn[1] == drawn[2]
    assert g.seed() == g.initial_seed()
    assert torch.manual_seed(-1).initial_seed() == 2**64 - 1 == torch.initial_seed()
    assert torch.manual_seed(2.7).initial_seed() == 2
    state = torch.get_rng_state()
    a = torch.rand(3).tolist()
    torch.set_rng_state(state)
    assert torch.rand(3).tolist() == a
    torch.set_rng_state(state)
    with torch.random.fork_rng():
        torch.rand(100)
    assert torch.rand(3).tolist() == a
    for call, error, words in ((lambda: torch.manual_seed(2**64), ValueError, "Overflow"),
                               (lambda: g.manual_seed("a"), RuntimeError, "expected a long"),
                               (lambda: torch.set_rng_state(torch.zeros(3)), TypeError, "ByteTensor"),
                               (lambda: g.set_state(3), TypeError, "ByteTensor"),
                               (lambda: g.set_state(torch.zeros(3, dtype=torch.uint8)), RuntimeError, "size"),
                               (lambda: torch.rand(2, generator=3), TypeError, "generator")):
        with pytest.raises(error, match=words):
            call()


FLOATS, INTS = torch.zeros(3), torch.zeros(3, dtype=torch.int64)
REFUSED = [
    (lambda: torch.randint(5, 3, (2,)), RuntimeError, "random_ expects 'from' to be less than 'to', but got from=5 >= "
                                                      "to=3"),
    (lambda: torch.randint(0, 300, (2,), dtype=torch.uint8), RuntimeError, "to - 1 is out of bounds for unsigned char"),
    (lambda: torch.randint(-1, 3, (2,), dtype=torch.uint8), RuntimeError, "from is out of bounds for unsigned char"),
    (lambda: torch.randint(2), TypeError, "size"), (lambda: torch.randint(0.5, 3, (2,)), TypeError, "int"),
    (lambda: torch.rand(2, dtype=torch.int32), NotImplementedError, "not implemented for 'Int'"),
    (lambda: torch.randperm(-1), RuntimeError, "negative dimension"),
    (lambda: torch.randperm(2.5), TypeError, "must be int"),
    (lambda: torch.randperm(300, dtype=torch.uint8), RuntimeError, "without overflow"),
    (lambda: FLOATS.uniform_(2, 1), RuntimeError, "found from=2 > to=1"),
    (lambda: FLOATS.uniform_(0, np.inf), RuntimeError, "out of bounds"),
    (lambda: INTS.uniform_(), NotImplementedError, "'Long'"),
    (lambda: FLOATS.normal_(0, -1), RuntimeError, "std >= 0.0, but found std -1"),
    (lambda: FLOATS.exponential_(0), RuntimeError, "lambda > 0.0"),
    (lambda: INTS.exponential_(), RuntimeError, "continuous"),
    (lambda: FLOATS.geometric_(1), RuntimeError, r"p to be in \(0, 1\), but got p=1"),
    (lambda: FLOATS.cauchy_(0, 0), RuntimeError, "sigma > 0"),
    (lambda: FLOATS.log_normal_(0, 0), RuntimeError, "std > 0.0"),
    (lambda: FLOATS.bernoulli_(2), RuntimeError, r"p to be in \[0, 1\]"),
    (lambda: torch.bernoulli(FLOATS + 2), RuntimeError, "p_in"),
    (lambda: torch.normal(FLOATS, FLOATS - 1), RuntimeError, "all elements of std"),
    (lambda: torch.normal(1.0, 2.0), TypeError, "normal"),
    (lambda: torch.normal(INTS, 1.0), NotImplementedError, "'Long'"),
    (lambda: torch.multinomial(FLOATS, 1), RuntimeError, "sum of probabilities <= 0"),
    (lambda: torch.multinomial(FLOATS - 1, 1), RuntimeError, "element < 0"),
    (lambda: torch.multinomial(INTS, 1), RuntimeError, "got: Long"),
    (lambda: torch.multinomial(FLOATS + 1, 4), RuntimeError, "without replacement"),
    (lambda: torch.multinomial(FLOATS + 1, 0), RuntimeError, "n_sample <= 0"),
    (lambda: torch.multinomial(torch.ones(1, 1, 1), 1), RuntimeError, "1 or 2 dim"),
]


@pytest.mark.parametrize("call, error, words", REFUSED)
def test_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()
