"""Random numbers, products of complex numbers and small integers, scatters with a reduction, bags, triangles on CUDA: kernels
proved, then beside the CPU. Random numbers, integers and sums are the same to the last bit.
"""
import itertools

import numpy as np
import pytest
from cuda_checks import WHOLE, agree, needs_numba_cuda, prove

import engine
from engine.nn import functional as F
from kernels import philox
from kernels.book import BOOK
from kernels.cpu import randoms as host
from kernels.cuda import pointwise as maps
from kernels.cuda import positions, products, randoms, scatters

pytestmark = [needs_numba_cuda, pytest.mark.usefixtures("emulated")]
KEY, FIRST = (5 << 33) + 77, (1 << 32) - 3          # both words of key and counter count, and the counter's low one overflows
PARAMETERS = {"uniform": (-1.0, 2.5), "normal": (1.0, 0.5), "log_normal": (0.0, 1.0), "exponential": (1.5, 0.0),
              "cauchy": (0.0, 1.0), "geometric": (0.3, float(np.log(0.7))), "bernoulli": (1 << 31, 0), "integer": (1000, 5),
              "words": (0, 0)}
DRAWN = [("uniform", "float32"), ("bernoulli", "bool"), ("integer", "int64")]
MORE = [*((rule, dtype) for rule in host.RULES for dtype in ("float16", "float32", "float64")), ("integer", "float32"),
        ("bernoulli", "float16"), ("words", "int8")]


def drawn(rule, dtype, n):
    """The CPU's numbers."""
    want, (a, b) = np.empty(n, dtype), PARAMETERS[rule]
    host.draw(want, rule, lambda blocks: (KEY, FIRST), a, b)
    return want


def test_random_kernels():
    cases = list(dict.fromkeys(DRAWN + MORE)) if WHOLE else DRAWN
    programs = [randoms.random_program(*case) for case in cases]

    def run(device):
        for (rule, dtype), n in itertools.product(cases, (1, 3, 1031)):
            got = device.empty(dtype, (n,))
            randoms.draw(device, got, rule, KEY, FIRST, *PARAMETERS[rule])
            agree(device.read(got), drawn(rule, dtype, n), about=f"{rule} {dtype} {n}")
        return {}
    prove(programs, run)


def test_numbers_are_those_of_philox_word_by_word():
    where = engine.tensor(0.0, device="cuda").device
    from engine import device_arrays
    out = device_arrays.empty((9,), np.dtype(np.float32), where)
    device_arrays.draw(out, "uniform", lambda blocks: (KEY, FIRST), 0.0, 1.0)
    words = [w for c in range(FIRST, FIRST + 3)
             for w in philox.philox4x32(c & 0xFFFFFFFF, c >> 32, 0, 0, KEY & 0xFFFFFFFF, KEY >> 32)]
    assert out.host().tolist() == [(w >> 8) / 2**24 for w in words[:9]]


@pytest.mark.parametrize("call", [
    lambda d: engine.rand(3, 5, device=d), lambda d: engine.randn(5, device=d, dtype=engine.complex64),
    lambda d: engine.randint(3, 9, (7,), device=d), lambda d: engine.empty(3, 4, device=d).t().uniform_(2.0, 4.0),
    lambda d: engine.normal(engine.ones(3, device=d), 2.0),
    lambda d: engine.normal(engine.ones(3, device=d), engine.ones(2, 1, device=d)),
    lambda d: engine.ones(7, 2, device=d)[:, 0].random_(5), lambda d: engine.rand(0, device=d),
    lambda d: engine.randperm(6, device=d), lambda d: F.dropout(engine.ones(7, 2, device=d).half().t(), 0.3),
    lambda d: engine.multinomial(engine.tensor([[0.1, 0.5, 0.4], [1.0, 0, 2]], device=d), 2, not WHOLE),
    lambda d: engine.multinomial(engine.tensor([0.1, 0.5, 0.0, 0.4, 0.0], device=d), 9, True),
    lambda d: engine.poisson(engine.tensor([[0.0, 0.3, 9.5], [10.5, 1e6, 2e15]], device=d))])
def test_random_tensors_are_the_same_everywhere(call):
    engine.manual_seed(3)
    want, after = call("cpu"), engine.rand(1)
    engine.manual_seed(3)
    got, again = call("cuda"), engine.rand(1)
    assert got.is_cuda and after.item() == again.item()
    agree(got.cpu().numpy(), want.numpy())


# --- records ----------------------------------------------------------------------------------------------------------

def numbers(rng, dtype, *shape):
    x = rng.standard_normal(shape) * 9
    return (x + 1j * rng.standard_normal(shape) if dtype.startswith("complex") else x).astype(dtype)


def test_record_kernels():
    combined = scatters.COMBINE if WHOLE else ("prod",)
    programs = [*(products.lanes_program(d) for d in ("float16", "int8", "complex64")),
                *(products.distance_program("float32", p) for p in (0.0, 2.0, -1.0)),
                *(scatters.writing_program("float32", how) for how in combined if how != "set"),
                scatters.largest_program("float16"), positions.advance_program(), positions.counted_program(),
                *(positions.band_program(maps.CARRIER[size]) for size in (1, 16)), randoms.dropout_program("float16"),
                randoms.poisson_program("float32"), randoms.totals_program(), randoms.choice_program(), randoms.waiting_program()]

    def launch(device, program, out, ins, count, *rest):
        device.run(products.launches_of(program, (out, *map(device.put, ins)), count, *rest))
        return device.read(out)

    def run(device):
        rng = np.random.default_rng(7)
        for dtype, wide in (("float16", "float64"), ("int8", "int64"), ("complex64", "complex64")):
            x, y = numbers(rng, dtype, 11), numbers(rng, dtype, 11)
            got = launch(device, products.lanes_program(dtype), device.empty(wide, (4,)), (x, y), 4, 11, x.itemsize, y.itemsize)
            agree(got, [np.sum(x[k::4].astype(wide) * y[k::4].astype(wide), dtype=wide) for k in range(4)], 4, 99)
        x, y = numbers(rng, "float32", 2, 3, 5), numbers(rng, "float32", 2, 4, 5)
        for p in (0.0, 2.0, 3.0):
            got = device.read(products.cdist(device, device.put(x), device.put(y), p))
            agree(got, BOOK["cdist"].on_arrays(x, y, p), 1, about=f"cdist {p}")
        at = np.array([0, 3, 4, 4, 9, 10])
        q = np.full(12, -1)
        launch(device, positions.counted_program(), view := device.put(q), (at,), 10, 6)
        assert device.read(view)[:10].tolist() == [1, 1, 1, 2, 4, 4, 4, 4, 4, 5]
        launch(device, positions.advance_program(), view := device.put(np.array([1, 2])), (np.array([-1, 3]),), 2, 5, 10)
        assert device.read(view).tolist() == [41, 32]
        for dtype in ("int8", "complex128"):
            x = numbers(rng, dtype, 2, 3, 5)
            agree(device.read(positions.tril(device, device.put(x), -1)), np.tril(x, -1))
        index, src, x = rng.integers(0, 3, (2, 7)), numbers(rng, "float32", 2, 7), numbers(rng, "float32", 2, 3)
        for how in (h for h in combined if h != "set"):
            got = scatters._lanes(device, device.put(x.copy()), device.put(index), device.put(src), 1, how)
            want = x.copy()
            for i, j in np.ndindex(index.shape):
                old, new = want[i, index[i, j]], src[i, j]
                want[i, index[i, j]] = {"sum": old + new, "prod": old * new, "amax": max(old, new), "amin": min(old, new)}[how]
            agree(device.read(got), want, about=how)
        words = np.array([KEY, FIRST], np.uint64)
        for name, given, options in (
                ("embedding_bag_max", (numbers(rng, "float16", 7, 3), index[0], np.array([0, 3, 3]), np.array([3, 3, 7])), {}),
                ("dropout", (numbers(rng, "float16", 3, 5), words), {"below": 3 << 30, "scale": 1.3}),
                ("poisson_numbers", (np.array([0, 0.3, 9.9, 10, 1e4, 2e15], "f4"), words), {}),
                ("choice", (np.array([[0.0, 2, 1], [3, 0, 0]]), rng.random((2, 5))), {"count": 5, "replacement": True})):
            function = getattr(scatters if name == "embedding_bag_max" else randoms, name)
            want, got = BOOK[name].on_arrays(*given, **options), function(device, *map(device.put, given), **options)
            for w, g in zip(*(v if type(v) is tuple else (v,) for v in (want, got)), strict=True):
                agree(device.read(g), w, about=name)
        waits = launch(device, randoms.waiting_program(), device.empty("float64", (3,)), (np.array([2.0, 0, 4]), np.ones(3)), 3)
        assert waits.tolist() == [0.5, np.inf, 0.25]
        return {}
    prove(programs, run)


def beside(call, *arrays, ulp=0.0):
    """The same numbers on both devices; `ulp` of the largest where sums may run in another order."""
    want, got = call(*map(engine.tensor, arrays)), call(*(engine.tensor(a, device="cuda") for a in arrays))
    for w, g in zip(*([v] if isinstance(v, engine.Tensor) else v for v in (want, got)), strict=True):
        assert g.is_cuda and g.dtype is w.dtype
        agree(g.detach().cpu().numpy(), w.detach().numpy(), ulp,
              float(w.detach().abs().double().max()) if ulp and w.numel() else 0)


@pytest.mark.parametrize("dtype", ["int8", "complex64"])
def test_products(dtype, rng):
    ulp = 8 if dtype == "complex64" else 0
    x, y, v = numbers(rng, dtype, 2, 5, 7), numbers(rng, dtype, 2, 7, 3), numbers(rng, dtype, 7)
    for call in (lambda x, y, v: x @ y, lambda x, y, v: x[0, ::2] @ y, lambda x, y, v: x[1] @ v,
                 lambda x, y, v: v[::2].dot(v[:4]), lambda x, y, v: v.vdot(x[0, 1]),
                 lambda x, y, v: engine.addbmm(x[0, :, :3], x, y, beta=2, alpha=3), lambda x, y, v: x[:, :0] @ y,
                 lambda x, y, v: x[..., :0] @ y[:, :0], lambda x, y, v: v[:0].dot(v[:0]),
                 lambda x, y, v: engine.linalg.cross(x[..., :3], x[:, :, 3:6]))[:None if WHOLE else -1 if ulp else 4]:
        beside(call, x, y, v, ulp=ulp)
    agree((engine.tensor(x, device="cuda") @ engine.tensor(y, device="cuda")).cpu().numpy(), x @ y, ulp, 900)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "bool"] if WHOLE else ["float32"])
def test_scatters_with_a_reduction(dtype, rng):
    x, src, index = numbers(rng, dtype, 3, 4, 2), numbers(rng, dtype, 3, 9, 2), rng.integers(0, 4, (3, 9, 2))
    names = ("sum", "amax", "amin") if dtype == "bool" else ("sum", "prod", "amax", "amin", "mean")
    for reduce in names if WHOLE else ("amax", "mean"):
        for include_self in (True, False):
            beside(lambda x, s, i, r=reduce, m=include_self: x.scatter_reduce(1, i, s, r, include_self=m), x, src, index)
    beside(lambda x, s, i: x.scatter_reduce(1, i[:2, :3, :1], s, "amax"), x, src, index)        # not all lanes have an index
    beside(lambda x, s, i: x.scatter(1, i, 1), x, src, index)
    beside(lambda x, s, i: x.transpose(0, 2).scatter_reduce(1, i.transpose(0, 2), s.transpose(0, 2), "mean"), x, src, index)
    beside(lambda x, s, i: (x > 0).scatter_reduce(1, i, s > 0, "amin"), x, src, index)
    if dtype == "float32":
        x[0, 1], src[0, 3] = np.nan, np.nan
        beside(lambda x, s, i: x.index_reduce(1, i[0, :, 0], s, "amax"), x, src, index)


def gradients(call, *arrays, ulp=4.0):
    """The same gradients on both devices, but for the order of sums."""
    def run(*given):
        leaves = [t.clone().requires_grad_() if t.is_floating_point() else t for t in given]
        call(*leaves).square().sum().backward()
        return [t.grad for t in leaves if t.is_floating_point()]
    beside(run, *arrays, ulp=ulp)


def test_gradients(rng):
    w, at = numbers(rng, "float32", 6, 3), np.array([1, 1, 4])
    for call in (lambda w, i: w.tril(1) * w.triu(-1),
                 lambda w, i: w.repeat_interleave(engine.tensor([1, 0, 2, 0, 3, 1], device=w.device), 0),
                 lambda w, i: w.scatter_reduce(0, i[None], w[4:], "sum"),
                 lambda w, i: w[i, engine.tensor([[0], [-2]], device=w.device)]):
        gradients(call, w, at)
    for p in (2.0, 1.0, float("inf")) if WHOLE else ():
        gradients(lambda w, i, p=p: engine.cdist(w[:3], w[2:], p=p), w, at)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"] if WHOLE else ["mean", "max"])
def test_bags(mode, rng):
    w, at = numbers(rng, "float32", 6, 3), np.array([1, 2, 4, 5, 4, 3, 2, 0])
    gradients(lambda w, i: F.embedding_bag(i, w, engine.tensor([0, 4, 4], device=w.device), mode=mode, padding_idx=5), w, at)
    if WHOLE:
        gradients(lambda w, i: F.embedding_bag(i.reshape(2, 4).int(), w, mode=mode), w, at)
        beside(lambda w, i: F.embedding_bag(i, w.half(), engine.tensor([0, 5, 8], device=w.device), mode=mode,
                                            include_last_offset=True), w, at)


@pytest.mark.parametrize("call", [
    lambda d: engine.zeros(3, 3, device=d)[engine.tensor([1, 3], device=d), engine.tensor([0, 0], device=d)],
    lambda d: engine.arange(3, device=d).repeat_interleave(engine.tensor([1, -1, 2], device=d)),
    lambda d: engine.arange(3, device=d).repeat_interleave(engine.tensor([1, 1, 2], device=d), output_size=3),
    lambda d: engine.zeros(3, device=d).scatter_reduce(0, engine.tensor([3], device=d), engine.ones(1, device=d), "sum"),
    lambda d: F.embedding_bag(engine.tensor([7], device=d), engine.zeros(3, 2, device=d), engine.tensor([0], device=d))])
def test_errors_are_in_the_same_words(call):
    said = []
    for device in ("cpu", "cuda"):
        with pytest.raises((IndexError, RuntimeError)) as error:
            call(device)
        said.append((error.type, str(error.value)))
    assert said[0] == said[1]


def test_nothing_here_runs_on_the_host():
    places = dict(line.split()[0::4] for line in str(engine.dispatch.table()).splitlines()[1:])
    names = ("vdot", "addbmm", "trace_backward", "cross", "cdist", "tril", "triu", "scatter_value", "scatter_reduce",
             "index_reduce", "embedding_bag", "embedding_bag_max", "ravel_index", "positions_of_counts", "dropout",
             "poisson_numbers", "choice", "noise", "noise_of_two", "lstm_layer", "gru_layer", "rnn_layer")
    assert {name: places[name] for name in names if places[name] != "cuda"} == {}
