"""What the kernels of ptx_kernels.py are given and must give: arrays, launches, and the results by NumPy."""
from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from kernels.cuda import ptx


@dataclasses.dataclass
class Case:
    """One kernel: a launch, its arguments (arrays and numbers), and what becomes of its last array."""
    grid: int | tuple
    block: int | tuple
    make: Callable[[np.random.Generator], list]
    expect: Callable[..., np.ndarray]
    tolerance: float = 0.0


def _normal(rng, *shape, dtype=np.float32):
    return rng.normal(size=shape).astype(dtype)


def _philox(n: int) -> np.ndarray:
    out = []
    for i in range(n):
        c, k = [i, 0, 0, 0], [42, 7]
        for _ in range(10):
            p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
            c = [(q >> 32) ^ c[1] ^ k[0], q & 0xffffffff, (p >> 32) ^ c[3] ^ k[1], p & 0xffffffff]
            k = [(k[0] + 0x9E3779B9) & 0xffffffff, (k[1] + 0xBB67AE85) & 0xffffffff]
        out.append(c[0])
    return np.array(out, np.uint32)


def _votes(x, out):
    warps = [x[k // 32 * 32:k // 32 * 32 + 32] for k in range(len(x))]
    return np.array([np.count_nonzero(w == v) for w, v in zip(warps, x)])


CASES = {
    "saxpy": Case(3, 64, lambda r: [2.5, _normal(r, 150), _normal(r, 150)], lambda a, x, y: a * x + y, 1e-6),
    "block_sum": Case(3, 64, lambda r: [_normal(r, 150), _normal(r, 3)], lambda x, o: np.add.reduceat(x, [0, 64, 128]), 1e-5),
    "warp_sum": Case(3, 64, lambda r: [_normal(r, 170, dtype=np.float64), _normal(r, 6, dtype=np.float64)],
                     lambda x, o: np.add.reduceat(x, [0, 32, 64, 96, 128, 160]), 1e-12),
    "matmul": Case((2, 3), (16, 16), lambda r: [_normal(r, 37, 29), _normal(r, 29, 21), _normal(r, 37, 21)], lambda a, b, c: a @ b,
                   1e-5),
    "transpose": Case((2, 2), (16, 16), lambda r: [_normal(r, 30, 21), _normal(r, 21, 30)], lambda a, o: a.T),
    "histogram": Case(4, 64, lambda r: [r.integers(0, 10, 230).astype(np.int32), np.zeros(10, np.int32)],
                      lambda x, o: np.bincount(x, minlength=10)),
    "division": Case(4, 64, lambda r: [np.where(np.arange(230) % 3 > 0, r.integers(-2**62, 2**62, 230), r.integers(-50, 50, 230)),
                                       r.integers(-1000, 1000, 230) | 1, np.zeros(230, np.int64)], lambda a, b, o: a // b + a % b),
    "insertion_sort": Case(1, 64, lambda r: [_normal(r, 50), np.zeros(43, np.float32)],
                           lambda x, o: np.sort(np.lib.stride_tricks.sliding_window_view(x, 8), 1)[:, 3]),
    "scan": Case(2, 64, lambda r: [_normal(r, 128), np.zeros(128, np.float32)], lambda x, o: x.reshape(2, 64).cumsum(1).ravel(),
                 1e-5),
    "philox": Case(2, 64, lambda r: [np.zeros(100, np.uint32)], lambda o: _philox(100)),
    "choice": Case(2, 64, lambda r: [_normal(r, 100), r.integers(0, 6, 100).astype(np.int32), np.zeros(100, np.float32)],
                   lambda x, k, o: np.select([k == 0, k == 1, k == 2, k == 3], [x + 1, x * x, -x, np.abs(x)], x / np.float32(3)),
                   1e-7),
    "votes": Case(2, 64, lambda r: [r.integers(0, 4, 128).astype(np.int32), np.zeros(128, np.int32)], _votes),
}


def run(case: Case, text: str, **options) -> tuple[ptx.Counts, float]:
    """Run a kernel on its case; the counts, and the largest error relative to 1 + |expected|, infinite where shapes of NaN differ.

    An array is passed as numba-cuda does: meminfo 0, parent 0, size, itemsize, address, shape, strides.
    """
    memory = ptx.Memory()
    given = case.make(np.random.default_rng(0))
    arguments, last = [], 0
    for value in given:
        if isinstance(value, np.ndarray):
            last = memory.allocate(value.nbytes)
            memory.write(last, value)
            arguments += [0, 0, value.size, value.itemsize, last, *value.shape, *value.strides]
        else:
            arguments.append(value)
    counts = ptx.load(text).launch(None, case.grid, case.block, arguments, memory, **options)
    got = memory.read(last, given[-1].nbytes).view(given[-1].dtype).reshape(given[-1].shape)
    expected = case.expect(*given)
    with np.errstate(all="ignore"):
        error = np.abs(got.astype(np.float64) - expected) / (1 + np.abs(expected))
    return counts, float(np.where(np.isnan(error), np.inf, error).max())
