"""Sorting, searching and counting on CUDA: the kernels proved beside NumPy, then every such function beside the CPU, bit by bit."""
import numpy as np
import pytest
from cuda_checks import WHOLE, agree, needs_numba_cuda, prove

import engine
from engine import device_arrays
from kernels.book import BOOK
from kernels.cuda import counting, folds, gathers, scans, searching, sorting
from kernels.cuda import pointwise as maps
from kernels.cuda.launch import View

pytestmark = [needs_numba_cuda, pytest.mark.usefixtures("emulated")]
DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
SHOWN = DTYPES if WHOLE else ("float32",)


def numbers(rng, dtype, shape):
    """Few different numbers, so that many are equal; of floats also NaN, infinities and both zeros."""
    x = np.round(rng.standard_normal(shape) * 3)
    if dtype.startswith("float"):
        return np.select([rng.random(shape) < p for p in (0.1, 0.1, 0.05, 0.05)], [np.nan, -0.0, np.inf, -np.inf], x).astype(dtype)
    x = x.astype("int64").astype(dtype)
    if dtype == "bool":
        return x
    edges = np.array([np.iinfo(dtype).min, np.iinfo(dtype).max], dtype)
    return np.select([rng.random(shape) < p for p in (0.1, 0.1)], list(edges), x)


def in_order(x, descending=False):
    """The indices by NumPy: stable, NaN larger than all numbers."""
    ranks = np.unique(x, return_inverse=True, equal_nan=True)[1].reshape(x.shape)
    return np.argsort(-ranks if descending else ranks, axis=-1, kind="stable")


def check(device, module, name, want, *arrays, **options):
    """A record on the device gives the arrays `want`; None: those of the CPU."""
    if want is None:
        want = BOOK[name].on_arrays(*arrays, **options)
    options = {k: device.put(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    got = getattr(module, name)(device, *map(device.put, arrays), **options)
    for g, w in zip((got,) if isinstance(got, View) else got, want if isinstance(want, tuple) else (want,), strict=True):
        agree(device.read(g), np.asarray(w), about=f"{name} {[a.shape for a in arrays]} {arrays[0].dtype} {options}")


def test_sorting_kernels():
    dtypes, bits = (DTYPES, ("uint32", "uint64")) if WHOLE else (("float64",), ("uint64",))
    programs = [*(sorting.tile_program(d, False) for d in dtypes), *(sorting.tile_program(b, True) for b in bits),
                *(sorting.merge_program(b) for b in bits)]

    def run(device):
        rng = np.random.default_rng(5)
        for dtype in dtypes:
            for shape, k, descending in (((37, 5), 3, False), ((2, 2100), 400, True)):
                x = numbers(rng, dtype, shape)
                want = in_order(x, descending)
                check(device, sorting, "argsort", want, x, dim=1, descending=descending)
                check(device, sorting, "top_positions", want[:, :k], x, k=k, dim=1, largest=descending)
        return {}
    prove(programs, run)


def test_searching_and_counting_kernels():
    programs = [sorting.tile_program(d, False) for d in sorted({*SHOWN, "int32"})]
    programs += [make(d) for d in SHOWN for make in (searching.search_program, searching.member_program, searching.begins_program,
                                                     searching.lengths_program)]
    programs += [counting.marks_program(), counting.coordinate_program(), counting.numbered_program(),
                 counting.counts_program("int32"), counting.weights_program("int32", "float32"),
                 counting.intervals_program("float32")]
    # what they take from other families
    programs += [gathers.moving_program(size) for size in ((1, 2, 4, 8) if WHOLE else (4, 8))]
    programs += [folds.fold_program(BOOK["argmax"], "int64", "rows"), scans.scan_program(BOOK["sum"], "int64", "along")]
    programs += [maps.dense(maps.cast(*pair)) for pair in (("int64", "int32"), ("int64", "float64"), ("float64", "float32"))]

    def run(device):
        rng = np.random.default_rng(6)
        for dtype in SHOWN:
            rows, values = numbers(rng, dtype, (3, 9)), numbers(rng, dtype, (3, 5))
            order = in_order(rows)
            rows = np.take_along_axis(rows, order, 1)
            ranks = np.unique(np.concatenate([rows, values], 1), return_inverse=True, equal_nan=True)[1].reshape(3, 14)
            for right in (False, True):
                want = [np.searchsorted(r[:9], r[9:], "right" if right else "left") for r in ranks]
                check(device, searching, "search", np.array(want), rows, values, right=right)
                check(device, searching, "member", np.isin(rows, values[0], invert=right), rows, values[0], invert=right)
                check(device, searching, "groups", None, values.reshape(-1, 1), consecutive=right)
            check(device, searching, "most_frequent", None, rows, order, dim=1)
        for marks in (rng.random(7) < 0.5, rng.random(2100) < 0.1, np.zeros(5, np.bool_)):
            check(device, counting, "nonzero_positions", np.flatnonzero(marks), marks)
        places = np.array([7, 0, 3, 3])
        check(device, counting, "unravel", np.stack(np.unravel_index(places, (2, 4)), 1), places, sizes=(2, 4))
        weights = rng.standard_normal(4).astype("float32")
        check(device, counting, "bincount", np.bincount(places, minlength=9), places, size=9)
        check(device, counting, "bincount_weighted", np.bincount(places, weights, 8).astype("float32"), places, weights, size=8)
        check(device, counting, "histc", None, numbers(rng, "float32", (40,)), bins=4, low=-2.0, high=3.5)
        return {}
    prove(programs, run)


# --- what users call --------------------------------------------------------------------------------------------------

@pytest.fixture
def nothing_on_the_host(monkeypatch):
    """Records that would run on the host are refused."""
    def refuse(function, *rest, **options):
        raise AssertionError(f"{function} ran on the host")
    monkeypatch.setattr(device_arrays, "on_host", refuse)


def flat(value):
    return [v for part in value for v in flat(part)] if isinstance(value, (tuple, list)) else [value]


def beside(call, *tensors):
    """The same results on both devices, to the last bit."""
    for want, got in zip(flat(call(*tensors)), flat(call(*(t.cuda() for t in tensors))), strict=True):
        assert got.is_cuda and got.dtype is want.dtype
        agree(got.detach().cpu().numpy(), want.detach().numpy())


@pytest.mark.usefixtures("nothing_on_the_host")
def test_functions(rng):
    x = engine.tensor(numbers(rng, "float32", (4, 6)))
    for call in (lambda x: x.sort(), lambda x: x[:, ::2].sort(0, descending=True, stable=True), lambda x: x.t().argsort(),
                 lambda x: x.topk(3), lambda x: x.topk(2, 0, largest=False), lambda x: x.kthvalue(2),
                 lambda x: x.kthvalue(3, 0, True), lambda x: x.median(), lambda x: x.median(1, True), lambda x: x.mode(),
                 lambda x: x.mode(0, True), lambda x: engine.isin(x, x[0, :3]),
                 lambda x: engine.searchsorted(x.sort().values, x, right=True, out_int32=True),
                 lambda x: engine.bucketize(x, x[0].sort().values),
                 lambda x: x.unique(return_inverse=True, return_counts=True), lambda x: x[:, :2].unique(dim=0, return_inverse=True),
                 lambda x: x.unique_consecutive(return_inverse=True, return_counts=True), lambda x: x.nonzero(),
                 lambda x: x.bool().nonzero(as_tuple=True), lambda x: x[x.bool()]):
        beside(call, x)
    beside(lambda x: (x.sort(), x.topk(40)), engine.tensor(numbers(rng, "float32", (2, 1100))))
    for call in (lambda x: x.sort(), lambda x: x.topk(1), lambda x: x.kthvalue(1), lambda x: x.median(0), lambda x: x.mode(0)):
        beside(call, x[0, 0])
    for call in (lambda x: x.sort(), lambda x: x.topk(2, 1), lambda x: x.unique(return_inverse=True, return_counts=True),
                 lambda x: x.nonzero(), lambda x: engine.isin(x, x), lambda x: engine.median(x)):
        beside(call, x[:0])
    beside(lambda n: (n.bincount(minlength=9), n[:0].bincount(minlength=2)), engine.tensor(rng.integers(0, 6, 20)))


@pytest.mark.usefixtures("nothing_on_the_host")
def test_gradients(rng):
    g = engine.tensor(rng.standard_normal(24).astype("float32"))

    def gradient(call):
        def run(x, g):
            x = x.clone().requires_grad_()
            y = call(x)
            return engine.autograd.grad(y, x, g[:y.numel()].reshape(y.shape))
        return run
    x = engine.tensor(np.nan_to_num(numbers(rng, "float32", (4, 6)), posinf=7, neginf=-7))
    for call in (lambda x: x.sort(0).values, lambda x: x.topk(3).values, lambda x: x.kthvalue(2).values, lambda x: x.median(),
                 lambda x: x.median(1).values, lambda x: x.mode(1).values):
        beside(gradient(call), x, g)


def test_new_tensors_stay_on_the_device():
    x = engine.ones(2, device="cuda")
    for made in (x.new_zeros(2, dtype=engine.int64), x.new_empty(2, dtype=engine.bool), x.new_full((2,), 3, dtype=engine.int32),
                 x.new_tensor([1, 2]), x.new_empty_strided((2,), (1,))):
        assert made.is_cuda
    assert x.new_zeros(2, device="cpu").is_cpu and x.new_ones(1, dtype=engine.int64).tolist() == [1]
