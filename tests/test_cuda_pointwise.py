"""Pointwise CUDA kernels without a GPU: every record and dtype, gradients, conversions, layouts (see tests/cuda_checks.py)."""
import math

import numpy as np
import pytest
from cuda_checks import agree, least_bytes, needs_numba_cuda, prove, sample

from engine.testing import operands
from kernels import table
from kernels.book import ALL, BOOK, Pointwise
from kernels.cuda import launch, pointwise
from kernels.source import gradient_plan

pytestmark = needs_numba_cuda

POINTWISE = sorted((op for op in BOOK.values() if isinstance(op, Pointwise)), key=lambda op: op.name)
SIZE = 1063                         # with vectors of 4: a last vector of 3 elements, and blocks that are not full


def by_name(op):
    return pytest.param(op, id=op.name)


def arrays_of(rng, op, dtype, shape):
    """Operands with the record's special values among them."""
    arrays = [np.ascontiguousarray(a) for a in operands(rng, op, dtype, shape)]
    special = op.special if isinstance(op.special, dict) else dict.fromkeys(op.inputs, op.special)
    if np.dtype(dtype).kind == "f":
        for name, a, t in zip(op.inputs, arrays, op.operand_types(dtype), strict=True):
            values = np.array(special.get(name) or (), np.float64)
            if t == dtype and len(values) and a.size > 4 * len(values) ** 2:
                a.reshape(-1)[:len(values) ** 2] = rng.permutation(np.repeat(values, len(values)))
    return arrays


def outputs(device, about, shape):
    return [device.empty(d, shape) for d in about.out_types]


@pytest.mark.parametrize("op", [by_name(op) for op in POINTWISE])
def test_records(op, rng):
    """Forward in the sweep's dtypes, strided in the first; all gradients in those of them that have some."""
    cases = []
    for dtype in sample(op.dtypes):
        arrays = arrays_of(rng, op, dtype, (SIZE,))
        with np.errstate(all="ignore"):
            want = table.forward_ufunc(op, dtype)(*arrays)
        results = want if isinstance(want, tuple) else (want,)
        cases.append((pointwise.forward(op, dtype), arrays, results))
        mask = tuple(e is not None for e in op.gradients(dtype.startswith("complex"))) if op.differentiable else ()
        if np.dtype(dtype).kind in "fc" and any(mask):
            types = dict(zip(op.inputs, arrays, strict=True)) | {"out": results[0]}
            types["g"] = rng.normal(size=SIZE).astype(results[0].dtype)
            names = gradient_plan(op, dtype.startswith("complex"), mask)[1]
            reads = [types[n] for n in names]
            with np.errstate(all="ignore"):
                found = table.gradient_ufunc(op, dtype, mask)(*reads) if reads else None
            if found is not None:
                cases.append((pointwise.gradient(op, dtype, mask), reads, found if isinstance(found, tuple) else (found,)))
    first = cases[0]
    programs = [pointwise.dense(about) for about, *_ in cases] + [pointwise.strided(first[0])]
    ulp = max(4.0, op.tol / 2)              # one text, but lgamma is another library's; exp(.. - lgamma) widens the difference

    def run(device):
        for about, arrays, want in cases:
            outs = outputs(device, about, (SIZE,))
            device.run(launch.pointwise(about, outs, [device.put(a) for a in arrays]))
            for out, w in zip(outs, want, strict=True):
                agree(device.get(out), w, ulp, about=about.name)
        about, arrays, want = first         # the same elements backwards, and with gaps
        n = SIZE // 2
        outs = [device.put(np.zeros((n, 2), d))._replace(shape=(n,), strides=(2 * np.dtype(d).itemsize,)) for d in about.out_types]
        device.run(launch.pointwise(about, outs, [device.put(a)._replace(shape=(n,)) for a in arrays]))
        for out, w in zip(outs, want, strict=True):
            agree(device.get(out), w[:n], ulp, about=f"{about.name}, strided")
        return {}
    prove(programs, run, stack=True)


@pytest.mark.parametrize("dtype", ALL)
def test_conversions(dtype, rng):
    """To every other dtype, of numbers that both can hold."""
    values = (rng.normal(size=SIZE) * 20).clip(0, 100)
    array = (values > 30) if dtype == "bool" else values.astype(dtype)
    abouts = [pointwise.cast(dtype, target) for target in ALL if target != dtype]

    def run(device):
        for about in abouts:
            out = device.empty(about.out_types[0], (SIZE,))
            device.run(launch.pointwise(about, [out], [device.put(array)]))
            with np.errstate(all="ignore"):
                agree(device.get(out), table.cast_ufunc(dtype, about.out_types[0])(array), about=about.name)
        return {}
    prove([pointwise.dense(about) for about in abouts], run)


@pytest.mark.parametrize("name, dtype", [("sub", "float32"), ("sub", "float16"), ("pow", "float64"), ("mul", "complex128")])
def test_a_row_for_all_rows_and_a_number_a_row(name, dtype, rng):
    """What is the same in all rows is read once for a band of them; aligned and not, whole batches and what is left, many tiles."""
    about = pointwise.forward(BOOK[name], dtype)
    step = about.width()
    cases = [(41, 1200, 0), (5, 132, 0), (33, 131, 0), (3, 260, 1)]       # rows, columns, elements before the first
    widths = {step, 1}
    programs = [pointwise.banded(about, p, w) for p in ("wwh", "whw", "wws") for w in widths]
    ulp = 4 if name == "pow" else 0

    def run(device):
        def put(array, ahead):
            memory = device.put(np.concatenate([np.zeros(ahead, array.dtype), array.ravel()]))
            return launch.contiguous(memory.address + ahead * array.itemsize, dtype, array.shape)
        for rows, columns, ahead in cases:
            x = rng.uniform(0.5, 2, (rows, columns)).astype(dtype)
            row, column = x[-1] + x[0], x[:, :1] * 2
            for a, b in ((x, row), (row, x), (x, column)):
                out = device.empty(dtype, x.shape)
                ins = [put(v, ahead) for v in (a, b)]
                launches = launch.pointwise(about, [out], ins)
                assert len(launches) == 1 and "banded" in launches[0].program.name
                device.run(launches)
                want = table.forward_ufunc(BOOK[name], dtype)(*np.broadcast_arrays(a, b))
                agree(device.get(out), want, ulp, about=f"{rows} x {columns}")
        return {}
    prove(programs, run)


@pytest.mark.parametrize("wide", [False, True], ids=["32-bit", "64-bit"])
def test_layouts(wide, rng):
    """Broadcast, transposed, reversed, sliced operands, more dimensions than the kernel has; numbers by value; in place."""
    about = pointwise.forward(BOOK["sub"], "float32")
    programs = [pointwise.strided(about, wide), pointwise.strided(about, wide, (1,)), pointwise.dense(about),
                pointwise.dense(about, (0,)), pointwise.dense(about, (1,))]
    x = rng.normal(size=(6, 5, 4)).astype(np.float32)
    many = rng.normal(size=(2, 3, 2, 2, 2, 3, 2, 2)).astype(np.float32)
    pairs = [(x, x[0]), (x, x[:, :1]), (x.transpose(2, 0, 1), x.transpose(2, 0, 1)[::-1]), (x[::2, 1:4, ::-1], x[::-2, :3, 1:2]),
             (many[:, :, :, ::-1], many.transpose(0, 1, 3, 2, 4, 5, 7, 6)), (x[1:2, 2:3, 3:4], x[:1, :1, :1]),
             (x, x[:, 0, 0, None, None])]

    def run(device):
        def check(a, b):
            shape = np.broadcast_shapes(np.shape(a), np.shape(b))
            out = device.empty("float32", shape)
            ins = [device.put(v) if isinstance(v, np.ndarray) else v for v in (a, b)]
            device.run(launch.pointwise(about, [out], ins, wide))
            agree(device.get(out), np.subtract(a, b, dtype=np.float32), about=f"{np.shape(a)} - {np.shape(b)}")
        for a, b in pairs:
            check(a, b)
        check(x, 2.5)
        check(2.5, x)
        check(x.T[:, ::2], np.float32(0.5))
        flat = device.put(x)
        device.run(launch.pointwise(about, [flat], [flat, flat]))
        agree(device.get(flat), x - x, about="in place")
        back = device.put(x)            # transposed result
        turned = back._replace(shape=x.T.shape, strides=back.strides[::-1])
        device.run(launch.pointwise(about, [turned], [device.put(x.T.copy()), 1.0], wide))
        agree(device.get(back), x - 1, about="transposed result")
        nothing = device.empty("float32", (0, 3))
        assert launch.pointwise(about, [nothing], [nothing, 1.0]) == []
        return {}
    prove(programs, run)


@pytest.mark.parametrize("dtype", ["float16", "bool", "complex64", "complex128", "int64"])
def test_numbers_by_value(dtype, rng):
    """Numbers of dtypes that a kernel takes in another form."""
    op = BOOK["bitwise_or" if dtype == "bool" else "mul"]
    about = pointwise.forward(op, dtype)
    number = True if dtype == "bool" else 2 - 0.5j if "complex" in dtype else 3 if dtype == "int64" else 1.1
    x = (rng.normal(size=SIZE) * 5).astype(dtype)

    def run(device):
        out = device.empty(about.out_types[0], (SIZE,))
        device.run(launch.pointwise(about, [out], [device.put(x), number]))
        agree(device.get(out), op(x, np.full_like(x, number)), about=about.name)
        return {}
    prove([pointwise.dense(about, (1,))], run)


def test_division_by_multiplication(rng):
    """Every divisor up to 1000 and many beyond, at the numbers around its multiples."""
    for d in [*range(1, 1000), *map(int, rng.integers(1000, 2**31, 300)), 2**31 - 1]:
        magic, shift = launch.divider(d)
        multiples = [k * d for k in (0, 1, 2, (2**31 - 1) // d)]
        for n in {m + e for m in multiples for e in (-1, 0, 1) if 0 <= m + e < 2**31}:
            high = n * magic >> 32
            assert (high + n) >> shift == n // d, (n, d)
            assert high + n < 2**32


def test_bytes_and_coalescing(rng):
    """Contiguous kernels move each operand once, in full sectors."""
    abouts = [pointwise.forward(BOOK["add"], d) for d in ("float16", "float32", "float64", "complex64", "complex128", "int8")]
    abouts += [pointwise.forward(BOOK["exp"], "float32"), pointwise.gradient(BOOK["tanh"], "float32", (True,)),
               pointwise.cast("float64", "bool"), pointwise.forward(BOOK["lt"], "float32")]

    def run(device):
        found = {}
        for about in abouts:
            outs, ins = outputs(device, about, (4099,)), [device.put(np.ones(4099, d)) for d in about.in_types]
            counts = device.run(launch.pointwise(about, outs, ins))
            found[about.name] = [counts.moved / least_bytes(*outs, *ins), counts.coalescing]
        return found
    for name, (ratio, coalescing) in prove([pointwise.dense(about) for about in abouts], run).items():
        assert ratio < 1.05, (name, ratio)
        assert math.isclose(coalescing, 1), (name, coalescing)
