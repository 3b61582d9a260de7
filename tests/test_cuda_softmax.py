"""softmax, transposition and matrix products on CUDA without a GPU (see tests/cuda_checks.py)."""
import numpy as np
import pytest
from cuda_checks import agree, least_bytes, needs_numba_cuda, prove, sample

import kernels.ops  # noqa: F401 fills the book
from kernels.book import BOOK
from kernels.cuda import matmul, pointwise, softmax, transposes
from kernels.cuda.launch import View

pytestmark = needs_numba_cuda

FORMS = {"warp": ((9, 70), 1), "block": ((3, 700), 1), "long": ((2, 2100), 1), "across": ((2, 45, 70), 1)}


@pytest.mark.parametrize("name", softmax.NAMES)
def test_softmax(name, rng):
    """Every form in every dtype against the CPU; infinities and NaN; large values do not overflow."""
    forward = not name.endswith("backward")
    dtypes = sample(("float16", "float32", "float64"))

    def run(device):
        generator = np.random.default_rng(1)
        for dtype in dtypes:
            for form, (shape, dim) in FORMS.items():
                x = (generator.normal(size=shape) * 3).astype(dtype)
                if forward:
                    x.reshape(-1)[:3] = (np.inf, -np.inf, np.nan) if form == "warp" else (-np.inf, 90, 80)
                operands = [x] if forward else [x, BOOK[name.removesuffix("_backward")](x, dim=dim)]
                with np.errstate(all="ignore"):
                    want = BOOK[name](*operands, dim=dim)
                out, views = device.empty(dtype, shape), [device.put(o) for o in operands]
                device.run(softmax.softmax(name, out, views, dim))
                agree(device.get(out), want, 16.0, 4.0 if forward else 64.0, f"{name} {form} {dtype}")
        return {}
    prove([softmax.softmax_program(name, dtype, form) for dtype in dtypes for form in FORMS], run)


def test_softmax_reads_a_row_once(rng):
    cases = {"softmax": (64, 256), "log_softmax": (8, 2048)}

    def run(device):
        found = {}
        for name, shape in cases.items():
            x, out = device.put(np.ones(shape, np.float32)), device.empty("float32", shape)
            counts = device.run(softmax.softmax(name, out, [x], 1))
            found[name] = [counts.moved / least_bytes(x, out), counts.coalescing, counts.bank_conflicts]
        return found
    programs = [softmax.softmax_program("softmax", "float32", "warp"), softmax.softmax_program("log_softmax", "float32", "block")]
    for name, (ratio, coalescing, conflicts) in prove(programs, run).items():
        assert (ratio, coalescing, conflicts) == (1, 1, 0), name


@pytest.mark.parametrize("size", pointwise.CARRIER)
def test_transposition(size, rng):
    """Elements of every size, ragged shapes, batches; coalesced on both sides, no bank conflicts."""
    dtype = pointwise.CARRIER[size]
    programs = [transposes.transpose_program(size), pointwise.strided(pointwise.copy(size))]

    def run(device):
        generator = np.random.default_rng(2)
        for shape, axes in (((70, 45), (1, 0)), ((3, 33, 40), (0, 2, 1)), ((2, 33, 3, 40), (2, 3, 0, 1)), ((5, 4, 3), (2, 1, 0))):
            x = generator.integers(0, 255, (*shape, size), np.uint8).reshape(-1)[:np.prod(shape) * size].view(dtype).reshape(shape)
            want = np.ascontiguousarray(x.transpose(axes))
            out = device.empty(dtype, want.shape)
            device.run(transposes.copy(out, device.put(x.transpose(axes))))
            agree(device.get(out).view(np.uint8), want.view(np.uint8), about=f"{shape} {axes}")
        x = device.put(np.zeros((64, 128), dtype))
        out = device.empty(dtype, (128, 64))
        counts = device.run(transposes.copy(out, View(x.address, dtype, (128, 64), x.strides[::-1])))
        return {"transposition": [counts.moved / least_bytes(x, out), counts.coalescing, counts.bank_conflicts]}
    assert prove(programs, run) == {"transposition": [1, 1, 0]}


@pytest.mark.parametrize("dtype", sample(matmul.SHAPES))
def test_matrix_products(dtype, rng):
    """Every tile; ragged sizes, transposed and broadcast operands, batches, strided results, nothing to contract."""
    tiles = [t for t in (32, 64, 128) if t <= matmul.SHAPES[dtype].large]

    def run(device):
        generator = np.random.default_rng(3)

        def values(*shape):
            return (generator.normal(size=shape) * 3).astype(dtype)
        for tile in tiles:
            pairs = [(values(tile + 5, 19), values(19, tile - 3)), (values(19, 40).T, values(36, 19).T),
                     (values(2, 1, 20, 33), values(3, 33, 24)), (values(4, 0), values(0, 8))]
            for a, b in pairs:
                exact = a.astype(np.float64) @ b.astype(np.float64) if a.dtype.kind == "f" else a @ b
                out = device.empty(dtype, exact.shape)
                device.run(matmul.matmul(out, device.put(a), device.put(b), tile))
                agree(device.get(out), exact.astype(dtype), 40.0, 40.0, f"{a.shape} @ {b.shape}, tile {tile}")
            back = device.put(np.zeros((16, 20), dtype))        # a result in columns
            a, b = values(20, 7), values(7, 16)
            turned = back._replace(shape=(20, 16), strides=back.strides[::-1])
            device.run(matmul.matmul(turned, device.put(a), device.put(b), tile))
            exact = (a.astype(np.float64) @ b.astype(np.float64)).astype(dtype)
            agree(device.get(back).T, exact, 40.0, 40.0, "a result in columns")
        return {}
    prove([matmul.matmul_program(dtype, tile) for tile in tiles], run)


def test_matrix_products_are_arithmetic(rng):
    """At least 16 operations for each byte of a 1024^3 float32 product: all tiles do the same, so one row of them tells."""
    def run(device):
        a, b, out = (device.put(np.zeros(s, np.float32)) for s in ((128, 64), (64, 256), (128, 256)))
        counts = device.run(matmul.matmul(out, a, b, 128))
        moved_per_k = (counts.moved - 4 * 128 * 256) / 64           # bytes for one step along the contracted dimension, two tiles
        whole = moved_per_k / 2 * 64 * 1024 + 4 * 1024**2           # 64 tiles, 1024 steps, and the results
        return {"intensity": 2 * 1024**3 / whole, "conflicts": counts.bank_conflicts, "coalescing": counts.coalescing}
    found = prove([matmul.matmul_program("float32", 128)], run)
    assert matmul.tile_of("float32", 1024, 1024, 1) == 128
    assert found["intensity"] >= 16
    assert found["conflicts"] == 0
    assert found["coalescing"] == 1
