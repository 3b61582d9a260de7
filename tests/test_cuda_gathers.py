"""Reading and writing at indices on CUDA: the kernels proved, then indexing by every way beside the CPU, to the last bit."""
import numpy as np
import pytest
from cuda_checks import agree, needs_numba_cuda, prove

import engine
from engine.nn import functional as F
from kernels.cuda import gathers, scatters
from kernels.cuda import pointwise as maps

pytestmark = [needs_numba_cuda, pytest.mark.usefixtures("emulated")]


ADDED = ("float16", "float32", "float64", "int32", "int64")


def test_kernels():
    programs = [*(gathers.moving_program(size) for size in (1, 2, 4, 8, 16)),
                *(maps.dense(maps.copy(size)) for size in (1, 2, 4, 8, 16)),
                *(scatters.writing_program(d, "sum") for d in ADDED),
                *(scatters.writing_program(d, "set") for d in ("uint8", "uint16", "uint32", "uint64", "complex128"))]

    def run(device):
        rng = np.random.default_rng(4)
        rows = np.array([3, 0, -1, 3])
        for dtype in ("int8", "float16", "float32", "int32", "int64", "float64", "complex128"):
            x = (rng.standard_normal((2, 5, 3)) * 9).astype(dtype)
            values = (rng.standard_normal((2, 4, 3)) * 9).astype(dtype)
            at, source, given = device.put(rows), device.put(x), device.put(values)
            agree(device.read(gathers.index(device, source, at, 1, 2)), x[:, rows], about=dtype)
            written = x.copy()
            written[:, rows] = values
            agree(device.read(scatters.index_put(device, source, given, at, 1, 2)), written, about=dtype)
            if dtype in ADDED:
                wide = x.astype("float32" if dtype == "float16" else dtype)
                np.add.at(wide, (slice(None), rows), values.astype(wide.dtype))
                agree(device.read(scatters.index_add(device, source, given, at, 1, 2, True)), wide.astype(dtype), about=dtype)
        return {}
    prove(programs, run)


def beside(call, *tensors):
    """The same numbers on both devices, to the last bit."""
    want, got = call(*tensors), call(*(t.cuda() for t in tensors))
    assert got.is_cuda and got.dtype is want.dtype
    agree(got.detach().cpu().numpy(), want.detach().numpy())


def gradients(call, *tensors):
    """The same gradients on both devices."""
    def run(*given):
        leaves = [t.clone().requires_grad_() for t in given]
        y = call(*leaves)
        (y * engine.arange(y.numel(), device=y.device, dtype=y.dtype).reshape(y.shape)).sum().backward()
        return engine.cat([t.grad.reshape(-1) for t in leaves])
    beside(run, *tensors)


def at(x, *rows):
    return engine.tensor(rows, device=x.device)


@pytest.mark.parametrize("dtype", ["float32", "int8", "float16", "complex128", "bool"])
def test_reading(dtype, rng):
    x = engine.tensor(rng.standard_normal((4, 5, 3)) * 3).to(getattr(engine, dtype))
    block = [[3, 0], [-1, 2]]
    for call in (lambda x: x[at(x, *block)], lambda x: x[:, block], lambda x: x.permute(2, 0, 1)[:, :, block],
                 lambda x: x.transpose(0, 2)[at(x, 2, 0), at(x, 4, -1)], lambda x: x[..., [0, 2]], lambda x: x[[0, 1], :, [1, 2]],
                 lambda x: x[x != 0], lambda x: x[at(x).long()], lambda x: x.take(at(x, *block)),
                 lambda x: x[::2].index_select(1, at(x, 4, 4, 0)), lambda x: x.gather(1, at(x, 1, 0).reshape(1, 2, 1)),
                 lambda x: x.gather(0, engine.ones(2, 5, 3, dtype=engine.int64, device=x.device))):
        beside(call, x)


def test_writing_in_place(rng):
    for dtype in (engine.int8, engine.bool, engine.complex64, engine.int64):
        def write(x, v):
            x = x.clone()
            x[[1, 1]] = v
            x[:, [0, 4]] = v[:1, :1]
            x[at(x, 1, 0, 1, 0).bool()] = v
            return x
        beside(write, *(engine.tensor(rng.standard_normal((n, 5)) * 3).to(dtype) for n in (4, 2)))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_gradients(dtype, rng):
    x, v = (engine.tensor(rng.standard_normal((n, 5, 3))).to(getattr(engine, dtype)) for n in (4, 2))
    for call in (lambda x: x[at(x, [3, 0], [-1, 2])], lambda x: x.permute(2, 0, 1)[..., [3, 0, 3]],
                 lambda x: x[[0, 1, 0], :, [1, 2, 1]],
                 lambda x: x.gather(1, at(x, 0, 4, 4).reshape(1, 3, 1).expand(4, 3, 3)), lambda x: x.sort(1).values,
                 lambda x: x.topk(2, 0).values.sum(0), lambda x: x[x > 0], lambda x: F.embedding(at(x, 1, 1, 3), x[0]),
                 lambda x: x.masked_scatter(x > 0, x * 2), lambda x: x.index_fill(1, at(x, 1, 1), 2.0),
                 lambda x: x.scatter(1, engine.zeros(4, 1, 3, dtype=engine.int64, device=x.device), 1.0)):
        gradients(call, x)
    for call in (lambda x, v: x.index_put((at(x, 0, 3),), v), lambda x, v: x.index_put((at(x, 1, 1),), v, accumulate=True),
                 lambda x, v: x.index_add(0, at(x, 1, 1), v),
                 lambda x, v: x.scatter_add(0, engine.zeros(2, 5, 3, dtype=engine.int64, device=x.device), v),
                 lambda x, v: x.scatter(0, at(x, 2, 1).reshape(2, 1, 1).expand(2, 5, 3), v)):
        gradients(call, x, v)


@pytest.mark.parametrize("call", [
    lambda x: x[[7]], lambda x: x[at(x, -6)], lambda x: x.gather(0, at(x, 9)), lambda x: x.take(at(x, 9)),
    lambda x: x.index_select(0, at(x, 9)), lambda x: x.scatter(0, at(x, -1), 1.0), lambda x: F.embedding(at(x, 5), x[:, None])])
def test_indices_out_of_range_are_refused_in_the_same_words(call):
    said = []
    for device in ("cpu", "cuda"):
        with pytest.raises((IndexError, RuntimeError)) as error:
            call(engine.arange(5.0, device=device))
        said.append((error.type, str(error.value)))
    assert said[0] == said[1]


def test_layouts_that_take_other_ways(rng):
    x = engine.tensor(rng.standard_normal((2, 1, 3, 2, 1, 2, 3, 2)))          # more dimensions than the kernel walks
    beside(lambda x: x.transpose(0, 3)[:, :, [2, 0]], x)
    beside(lambda x: x[:, :, at(x, 1, 1), ..., at(x, 0, 1)], x)
    beside(lambda x: x.new_zeros(0, 3)[:, [1, 1]], x)
    small = engine.zeros(2, 3)
    beside(lambda x: x.scatter_add(1, at(x, 0, 0).reshape(1, 2), engine.ones(1, 2, device=x.device)), small)
