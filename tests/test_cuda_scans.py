"""Scans on CUDA without a GPU: every record and dtype, both forms, reversed, ragged and strided (see tests/cuda_checks.py)."""
import numpy as np
import pytest
from cuda_checks import agree, least_bytes, needs_numba_cuda, prove, sample

import kernels.ops  # noqa: F401 fills the book
from kernels.book import BOOK
from kernels.cpu import scans as cpu
from kernels.cuda import scans

pytestmark = needs_numba_cuda

SCANS = ("sum", "prod", "running_max", "running_min", "log_sum")
CASES = {"rows": ((3, 700), 1), "columns": ((45, 70), 0), "middle": ((2, 37, 9), 1), "one": ((), 0)}


@pytest.mark.parametrize("name", SCANS)
def test_records(name, rng):
    """The sweep's dtypes in all layouts, from either end."""
    op = BOOK[name]
    dtypes = sample(d for d in op.dtypes if d in (op.dtypes[0], op.dtypes[-1], "float16", "float32", "float64", "int32"))

    def run(device):
        generator = np.random.default_rng(4)
        for dtype in dtypes:
            for about, (shape, dim) in CASES.items():
                base = generator.normal(size=shape) * (0.01 if name == "prod" else 3) + (1 if name == "prod" else 0)
                array = np.asarray(base > 0 if dtype == "bool" else base.clip(0, None) if dtype[0] == "u" else base).astype(dtype)
                for x in (array, array[..., ::-2] if array.ndim else array):
                    for reverse in (False, True) if name in ("sum", "prod") else (False,):
                        with np.errstate(all="ignore"):
                            want = cpu.run(op, x, dim, reverse)
                        want = want if isinstance(want, tuple) else (want,)
                        outs = [device.empty(w.dtype.name, w.shape) for w in want]
                        device.run(scans.scan(op, device.put(x), dim, outs, reverse))
                        for out, w in zip(outs, want, strict=True):
                            scale = float(np.abs(w).max()) if w.dtype.kind in "fc" else 0
                            agree(device.get(out), w, 16.0, scale, f"{name} {dtype} {about} {reverse}")
        return {}
    prove([scans.scan_program(op, dtype, form) for dtype in dtypes for form in ("along", "across")], run)


def test_bytes_and_coalescing():
    op = BOOK["sum"]

    def run(device):
        found = {}
        for shape, dim in (((4, 2048), 1), ((64, 256), 0)):
            x, out = device.put(np.ones(shape, np.float32)), device.empty("float32", shape)
            counts = device.run(scans.scan(op, x, dim, [out]))
            found[str(shape)] = [counts.moved / least_bytes(x, out), counts.coalescing, counts.bank_conflicts]
        return found
    programs = [scans.scan_program(op, "float32", form) for form in ("along", "across")]
    assert set(map(tuple, prove(programs, run).values())) == {(1, 1, 0)}
