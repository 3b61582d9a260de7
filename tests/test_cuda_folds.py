"""Folds on CUDA without a GPU: every record and dtype, every form of layout, accuracy, bytes moved (see tests/cuda_checks.py)."""
import numpy as np
import pytest
from cuda_checks import agree, least_bytes, needs_numba_cuda, prove, sample

import kernels.ops  # noqa: F401 fills the book
from kernels.book import BOOK, Fold
from kernels.cpu import folds as cpu
from kernels.cuda import fold_plans
from kernels.cuda.folds import fold_program

pytestmark = needs_numba_cuda

# running_max and running_min belong to scans: of equal elements they take the later one, and lanes of a fold are in no order
FOLDS = sorted((op for op in BOOK.values() if isinstance(op, Fold) and op.kernel is None and not op.name.startswith("running_")),
               key=lambda op: op.name)
FORMS = ("rows", "block", "block_part", "across", "across_part", "merge")
# shape, dims: what the plan makes of them is asserted in test_forms
CASES = {"rows": ((5, 3, 77), (2,)), "block": ((3, 1290), (1,)), "block_part": ((2, 20000), (1,)), "across": ((41, 67), (0,)),
         "across_part": ((700, 9), (0,))}


def values(rng, op, dtype, shape):
    if dtype == "bool":
        return rng.random(shape) < 0.4
    if np.dtype(dtype).kind in "iu":
        return rng.integers(0 if np.dtype(dtype).kind == "u" else -9, 9, shape).astype(dtype)
    x = rng.normal(size=shape) + (1j * rng.normal(size=shape) if "complex" in dtype else 0)
    if op.name in ("prod", "log_sum"):
        x = x * 0.01 + 1
    x = x.astype(dtype)
    if op.name in ("nansum", "max", "min", "max_dim", "argmax", "min_dim", "argmin", "aminmax", "running_max") and x.size > 30:
        x.reshape(-1)[rng.integers(0, x.size, 3)] = np.nan
    return x


def compare(device, op, x, dims, about, extra=None):
    """A fold on the device against the CPU's; returns the counts."""
    kept = [n for d, n in enumerate(x.shape) if d not in (range(x.ndim) if dims is None else dims)]
    generator = np.random.default_rng(5)
    extras = [np.asarray(generator.uniform(0.5, 1.5, kept)).astype(x.dtype) for _ in range(op.extra)]
    shown = tuple(np.expand_dims(e, tuple(range(x.ndim) if dims is None else dims)) for e in extras)
    with np.errstate(all="ignore"):
        want = cpu.run(op, x, None if dims is None else tuple(dims), True, shown)
    want = [np.asarray(w).reshape(kept) for w in (want if isinstance(want, tuple) else (want,))]
    outs = [device.empty(w.dtype.name, w.shape) for w in want]
    ins = [device.put(e) for e in extras]
    view = device.put(x)
    counts = device.run(fold_plans.fold(op, view, dims, outs, ins, device.memory.allocate))
    scale = float(np.abs(np.nan_to_num(x)).astype(np.float64).sum() / max(1, np.prod(kept))) if x.dtype.kind in "fc" else 0
    for out, w in zip(outs, want, strict=True):
        # results may be wider than what the elements are added in
        wider = np.finfo(x.dtype).eps / np.finfo(w.dtype).eps if x.dtype.kind in "fc" and w.dtype.kind in "fc" else 1
        agree(device.get(out), w, 16.0 * max(1, wider), scale, f"{op.name} {x.dtype} {x.shape} over {dims}: {about}")
    return counts, least_bytes(view, *outs)


@pytest.mark.parametrize("op", [pytest.param(op, id=op.name) for op in FOLDS])
def test_records(op, rng):
    """The first and the last of the sweep's dtypes by every form of kernel, the others by two of them."""
    dtypes = sample(op.dtypes)
    thorough = {dtypes[0], dtypes[-1]}
    jobs = [(dtype, form) for dtype in dtypes for form in CASES if dtype in thorough or form in ("rows", "across")]
    programs = {fold_program(op, dtype, form) for dtype, form in jobs}
    programs |= {fold_program(op, dtype, "merge") for dtype in thorough}
    arrays = {job: values(rng, op, job[0], CASES[job[1]][0]) for job in jobs}

    def run(device):
        for (_, form), x in arrays.items():
            compare(device, op, x, CASES[form][1], form)
        return {}
    prove(sorted(programs, key=lambda p: p.name), run)


LAYOUTS = [((3, 4, 5), None), ((3, 4, 5), (0,)), ((3, 4, 5), (1,)), ((3, 4, 5), (2,)), ((3, 4, 5), (0, 2)), ((3, 4, 5), (1, 2)),
           ((3, 4, 5), (0, 1)), ((), None), ((3, 4, 5), ()), ((0, 3), (0,)), ((3, 0), (0,)), ((2, 3, 2, 3, 2, 3), (0, 2, 4)),
           ((2, 2, 2, 2, 2, 2, 2, 2, 2, 2), (0, 2, 4, 6, 8)), ((1, 7, 1), (0, 2))]


@pytest.mark.parametrize("name", ["sum", "argmax", "deviations"])
def test_layouts(name, rng):
    """Any set of dimensions, of contiguous, transposed, reversed and broadcast operands; empty ones; too many dimensions."""
    op = BOOK[name]
    dtype = "float32"
    programs = {fold_program(op, dtype, form) for form in ("rows", "across")}

    def run(device):
        for shape, dims in LAYOUTS:
            x = values(np.random.default_rng(3), op, dtype, shape)
            if x.size == 0 and not op.empty:
                continue
            if name == "argmax" and dims is not None and len(dims) != 1:
                continue
            for about, view in {"plain": x, "reversed": x[..., ::-1] if x.ndim else x,
                                "sliced": np.repeat(x, 2, -1)[..., ::2] if x.ndim else x,
                                "broadcast": np.broadcast_to(x[:1], x.shape) if x.ndim and len(x) else x}.items():
                compare(device, op, view, dims, about)
            if x.ndim == 3:
                compare(device, op, x.transpose(2, 0, 1), dims, "transposed")
        return {}
    from kernels.cuda import pointwise
    copies = [pointwise.strided(pointwise.copy(4))] if name != "argmax" else []
    prove([*sorted(programs, key=lambda p: p.name), *copies], run)


def test_forms(rng):
    """The plan chooses the kernel that a case is meant for."""
    for form, (shape, dims) in CASES.items():
        from kernels.cuda.launch import contiguous
        outs = [contiguous(0, "float32", [n for d, n in enumerate(shape) if d not in dims])]
        first = fold_plans.fold(BOOK["sum"], contiguous(0, "float32", shape), dims, outs, (), lambda size: 0)[0]
        assert first.program.name == f"sum_{form}_float32"


def test_wide_indices(rng):
    """Kernels for 2**31 elements and more, at small sizes."""
    op = BOOK["sum"]
    x = rng.normal(size=(6, 7, 8)).astype(np.float32)
    programs = [fold_program(op, "float32", form, True) for form in ("rows", "across")]

    def run(device):
        words = fold_plans._walk
        for dims, form in (((0, 2), "rows"), ((1,), "across")):
            plan = fold_plans._plan.__wrapped__
            kept = [d for d in range(3) if d not in dims]
            view, out = device.put(x), device.empty("float32", [x.shape[d] for d in kept])
            found = plan(op, "float32", tuple(x.shape[d] for d in kept), tuple(x.strides[d] for d in kept),
                         tuple(x.shape[d] for d in dims), tuple(x.strides[d] for d in dims), (out.strides,), True)
            from kernels.cuda.launch import Launch
            assert found[0].name == f"sum_{form}_float32_wide" and words((3,), 3, True) == [1, 1, 0, 0, 1, 0, 0]
            device.run([Launch(found[0], found[1], (out.address, view.address, *found[2]))])
            agree(device.get(out), x.sum(dims), 8.0, 8.0)
        return {}
    prove(programs, run)


def test_sums_are_accurate_and_repeat(rng):
    """Against the exact sum: far better than adding in float32 would be; a second run gives the same bits."""
    op = BOOK["sum"]
    x = (rng.random(200_000) + 100).astype(np.float32)

    def run(device):
        found = []
        for _ in range(2):
            out = device.empty("float32", ())
            device.run(fold_plans.fold(op, device.put(x), None, [out], (), device.memory.allocate))
            found.append(device.get(out))
        exact = x.astype(np.float64).sum()
        assert abs(found[0] - exact) <= np.spacing(np.float32(exact)), (found, exact)
        assert found[0].tobytes() == found[1].tobytes()
        return {}
    prove([fold_program(op, "float32", "block_part"), fold_program(op, "float32", "merge")], run)


def test_bytes_and_coalescing():
    """One read of the operand, one write of the results, in full sectors; no bank conflicts."""
    op = BOOK["sum"]
    cases = {"all": ((1 << 18,), None), "trailing": ((512, 256), (1,)), "long rows": ((64, 4096), (1,)),
             "leading": ((256, 1024), (0,)), "middle": ((8, 64, 256), (1,)), "tall": ((4096, 64), (0,)),
             "outer and inner": ((8, 16, 1024), (0, 2))}

    def run(device):
        found = {}
        for name, (shape, dims) in cases.items():
            counts, least = compare(device, op, np.ones(shape, np.float32), dims, name)
            found[name] = [counts.moved / least, counts.coalescing, counts.bank_conflicts]
        return found
    programs = [fold_program(op, "float32", form) for form in ("rows", "block", "block_part", "across", "across_part", "merge")]
    for name, (ratio, coalescing, conflicts) in prove(programs, run).items():
        assert ratio < 1.05, (name, ratio)
        assert coalescing >= (0.99 if name == "tall" else 1), (name, coalescing)     # "tall": states of parts are written apart
        assert conflicts == 0, (name, conflicts)
