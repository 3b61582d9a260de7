"""Kernels in Numba whose PTX the interpreter's tests run: what NVVM really writes. Needs numba-cuda, unlike ptx_cases.py.

`python tests/ptx_kernels.py` compiles them for both generations of NVVM's targets and rewrites tests/ptx_programs, with
short names in place of the mangled ones. The tests also compile them freshly where numba-cuda is installed.
"""
from __future__ import annotations

import re
from pathlib import Path

from numba import cuda, float32, float64, int32, int64, types, uint32, uint64

PROGRAMS = Path(__file__).parent / "ptx_programs"
TARGETS = ((7, 5), (10, 0))
F1, D1, I1, L1, U1 = (types.Array(t, 1, "A") for t in (float32, float64, int32, int64, uint32))
F2 = types.Array(float32, 2, "A")
SIGNATURES = {"saxpy": (float32, F1, F1), "block_sum": (F1, F1), "warp_sum": (D1, D1), "matmul": (F2, F2, F2), "transpose": (F2,
    F2),
              "histogram": (I1, I1), "division": (L1, L1, L1), "insertion_sort": (F1, F1), "scan": (F1, F1), "philox": (U1,),
              "choice": (F1, I1, F1), "votes": (I1, I1)}


def saxpy(a, x, y):
    i = cuda.grid(1)
    if i < y.size:
        y[i] += a * x[i]


def block_sum(x, out):
    tile = cuda.shared.array(64, float32)
    i, t = cuda.grid(1), cuda.threadIdx.x
    tile[t] = x[i] if i < x.size else float32(0)
    cuda.syncthreads()
    step = 32
    while step > 0:
        if t < step:
            tile[t] += tile[t + step]
        cuda.syncthreads()
        step //= 2
    if t == 0:
        out[cuda.blockIdx.x] = tile[0]


def warp_sum(x, out):
    i = cuda.grid(1)
    v = x[i] if i < x.size else 0.0
    k = 16
    while k:
        v += cuda.shfl_down_sync(0xffffffff, v, k)
        k >>= 1
    if cuda.laneid == 0:
        out[i // 32] = v


def matmul(a, b, out):
    ta, tb = cuda.shared.array((16, 17), float32), cuda.shared.array((16, 17), float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    j, i = cuda.grid(2)
    total = float32(0)
    for k in range(0, a.shape[1], 16):
        ta[y, x] = a[i, k + x] if i < a.shape[0] and k + x < a.shape[1] else float32(0)
        tb[y, x] = b[k + y, j] if k + y < b.shape[0] and j < b.shape[1] else float32(0)
        cuda.syncthreads()
        for q in range(16):
            total += ta[y, q] * tb[q, x]
        cuda.syncthreads()
    if i < out.shape[0] and j < out.shape[1]:
        out[i, j] = total


def transpose(a, out):
    tile = cuda.shared.array((16, 17), float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    j, i = cuda.blockIdx.x * 16 + x, cuda.blockIdx.y * 16 + y
    if i < a.shape[0] and j < a.shape[1]:
        tile[y, x] = a[i, j]
    cuda.syncthreads()
    i, j = cuda.blockIdx.x * 16 + y, cuda.blockIdx.y * 16 + x
    if i < out.shape[0] and j < out.shape[1]:
        out[i, j] = tile[x, y]


def histogram(x, out):
    i = cuda.grid(1)
    if i < x.size:
        cuda.atomic.add(out, x[i], 1)


def division(a, b, out):
    i = cuda.grid(1)
    if i < a.size:
        out[i] = a[i] // b[i] + a[i] % b[i]


def insertion_sort(x, out):
    mine = cuda.local.array(8, float32)
    i = cuda.grid(1)
    if i + 8 > x.size:
        return
    for k in range(8):
        mine[k] = x[i + k]
    for k in range(1, 8):
        v = mine[k]
        j = k
        while j > 0 and mine[j - 1] > v:
            mine[j] = mine[j - 1]
            j -= 1
        mine[j] = v
    out[i] = mine[3]


def scan(x, out):
    tile = cuda.shared.array(64, float32)
    t, i = cuda.threadIdx.x, cuda.grid(1)
    tile[t] = x[i]
    cuda.syncthreads()
    d = 1
    while d < 64:
        v = tile[t - d] if t >= d else float32(0)
        cuda.syncthreads()
        tile[t] += v
        cuda.syncthreads()
        d *= 2
    out[i] = tile[t]


def philox(out):
    i = cuda.grid(1)
    if i >= out.size:
        return
    c0, c1, c2, c3, k0, k1 = uint32(i), uint32(0), uint32(0), uint32(0), uint32(42), uint32(7)
    for _ in range(10):
        p0, p1 = uint64(0xD2511F53) * uint64(c0), uint64(0xCD9E8D57) * uint64(c2)
        c0, c1, c2, c3 = uint32(p1 >> 32) ^ c1 ^ k0, uint32(p1), uint32(p0 >> 32) ^ c3 ^ k1, uint32(p0)
        k0, k1 = uint32(k0 + uint32(0x9E3779B9)), uint32(k1 + uint32(0xBB67AE85))
    out[i] = c0


def choice(x, which, out):
    i = cuda.grid(1)
    if i >= x.size:
        return
    v, k = x[i], which[i]
    if k == 0:
        out[i] = v + float32(1)
    elif k == 1:
        out[i] = v * v
    elif k == 2:
        out[i] = -v
    elif k == 3:
        out[i] = abs(v)
    else:
        out[i] = v / float32(3)


def votes(x, out):
    i = cuda.grid(1)
    same = cuda.match_any_sync(0xffffffff, x[i])
    two = cuda.ballot_sync(0xffffffff, x[i] == 2)
    out[i] = cuda.popc(two) if x[i] == 2 else cuda.popc(same)


def compiled(name: str, target: tuple[int, int]) -> str:
    """The PTX of one of the kernels above, which is then called by its plain name."""
    text, _ = cuda.compile(globals()[name], SIGNATURES[name], device=False, cc=target, abi="numba", output="ptx")
    mangled = re.search(r"\.entry\s+([\w$]+)", text).group(1)
    text = "\n".join(line for line in text.replace(mangled, name).splitlines() if not line.lstrip().startswith("//"))
    return re.sub(r"\.common \.global .*NumbaEnv.*\n", "", text).strip() + "\n"


if __name__ == "__main__":
    PROGRAMS.mkdir(exist_ok=True)
    for kernel in SIGNATURES:
        for cc in TARGETS:
            (PROGRAMS / f"{kernel}_{cc[0]}{cc[1]}.ptx").write_text(compiled(kernel, cc), encoding="utf-8")
