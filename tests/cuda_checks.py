"""How CUDA kernels are checked where there is no GPU: compiled, assembled, run on the CPU, compared with the CPU's kernels.

`prove(programs, run)` compiles all programs as one module for every capability, assembles it (no spills), and calls `run(device)`
on an emulated device for one capability of each generation of NVVM; bounds, races and barriers are checked while kernels run.
What was proved is kept in the kernel store by content (programs, toolchain, interpreter, the test's own source), so that
unchanged kernels are not checked again on the same machine. ENGINE_TEST_CUDA=all checks every dtype of every record, about half an
hour on two cores where nothing is kept yet. Used by tests/test_cuda_*.py.
"""
import importlib.util
import inspect
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest

from kernels import store
from kernels.cuda import compiler, emulator, ptx
from kernels.cuda.compiler import CAPABILITIES, Program

EXECUTED = ((7, 5), (10, 0))        # the two generations of NVVM's code
WHOLE = os.environ.get("ENGINE_TEST_CUDA") == "all"        # every dtype; without it the book's sweeps take one of each record
LIBRARY = ("numba_cuda", "cuda.bindings.nvjitlink")


def sample(dtypes: Iterable[str]) -> list[str]:
    """The dtypes that a sweep over the book takes: all for ENGINE_TEST_CUDA=all, else float32, or the first."""
    dtypes = list(dtypes)
    return dtypes if WHOLE else ["float32"] if "float32" in dtypes else dtypes[:1]


def missing() -> str:
    """Why nothing can be compiled here; empty where it can."""
    if importlib.util.find_spec("numba_cuda") is None:
        return "numba-cuda is not installed: pip install 'njit-engine[cuda]'"
    try:
        found = importlib.util.find_spec("cuda.bindings.nvjitlink")
    except ModuleNotFoundError:
        found = None
    return "" if found else "cuda-bindings is not installed: pip install 'njit-engine[cuda]'"


needs_numba_cuda = pytest.mark.skipif(bool(missing()), reason=missing())


class Device(emulator.Emulator):
    """An emulated device that has its kernels already."""

    def __init__(self, capability: tuple[int, int], module: ptx.Program, symbols: frozenset[str]):
        super().__init__(capability)
        self.module, self.symbols, self.used = module, symbols, set()

    def program(self, program: Program) -> ptx.Program:
        assert program.symbol in self.symbols, f"{program.name} was launched but not proved"
        self.used.add(program.symbol)
        return self.module


def prove(programs: Sequence[Program], run: Callable[[Device], dict], stack: bool = False) -> dict:
    """Check kernels; what `run` returned (figures, JSON) on the first device. `stack`: kernels may use memory of their own."""
    key = store.digest("proved", *(p.key(c) for p in programs for c in CAPABILITIES), _here(),
                       Path(inspect.getsourcefile(run)).read_text(), run.__qualname__)
    found = store.load(key)
    if found is not None:
        return json.loads(found[1])
    texts = compiler.compile_programs(programs)
    for capability, text in texts.items():
        _, reports = compiler.assemble(text, capability)
        for p in programs:
            report = reports[p.symbol]
            assert report.spilled == 0, f"{p.name} spills on {capability}: {report}"
            assert stack or report.stack == 0, f"{p.name} has a stack on {capability}: {report}"
            assert report.registers * p.threads <= 65536, f"{p.name}: {report.registers} registers a thread on {capability}"
    figures = None
    for capability in EXECUTED:
        device = Device(capability, ptx.load(texts[capability]), frozenset(p.symbol for p in programs))
        result = run(device)
        left = [p.name for p in programs if p.symbol not in device.used]
        assert not left, f"never ran: {left}"
        figures = figures or result
    store.save(key, {"kernels": [p.name for p in programs]}, json.dumps(figures or {}).encode())
    return figures or {}


def _here() -> str:
    folder = Path(ptx.__file__).parent
    return store.digest(*(f.read_bytes() for f in [Path(__file__), *sorted(folder.glob("*.py")), folder.parent / "launch.py",
                                                   folder.parent / "emulator.py"]))


def agree(got: np.ndarray, want: np.ndarray, ulp: float = 0.0, scale: float = 0.0, about: str = "") -> None:
    """Equal to the last bit (any NaN is as good as another), or within `ulp` units of the larger of |want| and `scale`."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype and got.shape == want.shape, f"{about}: {got.dtype}{got.shape} is not {want.dtype}{want.shape}"
    if np.array_equal(got, want, equal_nan=got.dtype.kind in "fc"):
        return
    assert ulp and got.dtype.kind in "fc", f"{about}: {got.ravel()[:8]} is not {want.ravel()[:8]}"
    with np.errstate(all="ignore"):
        unit = np.finfo(got.dtype).eps * ulp
        same = (got == want) | (np.isnan(got) & np.isnan(want))
        near = same | (np.abs(got - want) <= unit * np.maximum(np.maximum(np.abs(want), scale), np.finfo(got.dtype).tiny))
    if not near.all():
        at = np.flatnonzero(~near.ravel())[0]
        raise AssertionError(f"{about}: {(~near).sum()} of {near.size} differ, at {at}: {got.ravel()[at]!r} is not "
                             f"{want.ravel()[at]!r}")


def ragged(size: int) -> int:
    """A size that no block, warp or vector divides."""
    return size + 3 if (size + 3) % 2 else size + 5


def least_bytes(*views) -> int:
    """What must be moved at least: every operand once."""
    return sum(math.prod(v.shape) * np.dtype(v.dtype).itemsize for v in views)
