"""The text of CUDA kernels run by Numba's simulator: plain Python threads, no compiler, no PTX, tiny shapes.

`python tests/cuda_simulated.py [check ...]` (with NUMBA_ENABLE_CUDASIM=1) runs kernels of every template through the functions
that the device layer calls, and compares them with NumPy. Beside the interpreter of PTX this is the second way to the same
results: what a template says, without what a compiler makes of it. A device is here host memory whose every access is checked,
a block 64 to 256 threads of Python. Needs Numba alone. Started by tests/test_cuda_simulator.py in a process of its own.
"""
import bisect
import ctypes
import functools
import re
import sys
import threading
import warnings

import numpy as np
from numba import cuda

import kernels.ops  # noqa: F401 fills the book
from kernels import libm
from kernels.book import BOOK
from kernels.cuda import fold_plans, gathers, launch, pointwise, products, rows, scatters, sorting, transposes
from kernels.cuda.launch import View, contiguous
from kernels.cuda.solvers import Batch, Evaluation
from kernels.cuda.solvers import program as solver_program
from kernels.solvers import solver
from kernels.solvers.machine import VALUE_AND_GRAD
from kernels.source import results_of

STORED = {"bool": np.uint8, "float16": np.uint16}           # dtypes that lie in memory as others
COMPUTED = {"bool": np.bool_, "float16": np.float32}
GARBAGE = 0xA5


class Simulated:
    """A device in host memory."""

    def __init__(self):
        self.starts: list[int] = []             # of allocations, ascending
        self.blocks: dict[int, np.ndarray] = {}
        self.launches = 0
        self.names: set[str] = set()

    def allocate(self, nbytes: int) -> int:
        """The address of new memory, full of garbage."""
        block = np.full(max(nbytes, 1), GARBAGE, np.uint8)
        address = block.ctypes.data
        bisect.insort(self.starts, address)
        self.blocks[address] = block
        return address

    def empty(self, dtype: str, shape) -> View:
        """New memory that nobody has written."""
        return contiguous(self.allocate(int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize), dtype, tuple(shape))

    def put(self, array: np.ndarray) -> View:
        """A copy of an array, in C order."""
        view = self.empty(array.dtype.name, array.shape)
        ctypes.memmove(view.address, np.ascontiguousarray(array).ctypes.data, array.nbytes)
        return view

    def read(self, view: View) -> np.ndarray:
        """The elements of a view."""
        base = max(s for s in self.starts if s <= view.address)
        return np.ndarray(view.shape, view.dtype, self.blocks[base].data, view.address - base, view.strides).copy()

    def run(self, launches) -> None:
        """Run launches by the simulator."""
        for program, grid, arguments in launches:
            self.launches += 1
            self.names.add(program.name)
            space = Meaning(self).names(program)
            exec(compile(program.source, f"<{program.name}>", "exec"), space)
            given = [np.dtype(d).type(a) if d in ("float32", "float64") else int(a)             # halves come as their bits
                     for d, a in zip(program.parameters, arguments, strict=True)]
            cuda.jit(space["kernel"])[grid, program.threads](*given)

    def inside(self, address: int, size: int) -> bool:
        """Whether memory is somebody's."""
        k = bisect.bisect_right(self.starts, address) - 1
        return k >= 0 and address + size <= self.starts[k] + len(self.blocks[self.starts[k]])


class Meaning:
    """What a kernel's text says, in Python, for one launch."""

    def __init__(self, device: Simulated):
        self.device = device
        self.lock = threading.Lock()
        self.shared: dict[tuple, int] = {}
        self.warps: dict[tuple, tuple[threading.Barrier, list]] = {}

    def names(self, program) -> dict:
        """The names in a program's source (`kernels.cuda.lowering.names`)."""
        space = {"inline": lambda f: f, "outlined": lambda f: f, "libm": libm, "inf": np.inf, "nan": np.nan,
                 "thread": lambda: threading.current_thread().threadIdx.x, "block": lambda: threading.current_thread().blockIdx.x,
                 "threads": lambda: cuda_size(0), "blocks": lambda: cuda_size(1),
                 "barrier": lambda: threading.current_thread().syncthreads(), "shared": self.shared_memory,
                 "half_to_float": lambda bits: np.float32(np.uint16(bits).view(np.float16)),
                 "float_to_half": lambda x: np.float16(x).view(np.uint16),
                 "place": lambda base, index, stride: int(base) + int(index) * int(stride),
                 "divided": lambda n, magic, shift: ((int(n) * int(magic) >> 32) + int(n)) >> int(shift),
                 "quotient": lambda n, divisor: int(n) // int(divisor),
                 "from_lane": lambda v, k: self.shuffle(v, lambda lane: int(k) & 31),
                 "from_before": lambda v, k: self.shuffle(v, lambda lane: lane - int(k) if lane >= int(k) else lane),
                 "from_behind": lambda v, k: self.shuffle(v, lambda lane: lane + int(k) if lane + int(k) < 32 else lane),
                 "from_across": lambda v, k: self.shuffle(v, lambda lane: lane ^ int(k)),
                 "smaller": lambda *values: functools.reduce(lambda m, v: v if v < m else m, values),
                 "greater": lambda *values: functools.reduce(lambda m, v: v if v > m else m, values)}
        for dtype in launch.ITEMSIZE:
            space[f"as_{dtype}"] = np.dtype(COMPUTED.get(dtype, dtype)).type
        for verb, width, dtype in set(re.findall(r"\b(load|read|store|peek|keep)(\d?)_(\w+)\(", program.source)):
            space[f"{verb}{width}_{dtype}"] = self.access(verb in ("store", "keep"), int(width or 1), dtype)
        return space | {name: function for name, (function, _) in program.functions.items()}

    def access(self, writes: bool, width: int, dtype: str):
        """A load or store of `width` neighbours; IndexError outside of all memory or where it is not aligned."""
        kind = np.dtype(STORED.get(dtype, dtype))

        def elements(address, offset):
            place, size = int(address) + int(offset), width * kind.itemsize
            if not self.device.inside(place, size):
                raise IndexError(f"{size} bytes at {place - int(address)} behind an address are outside of all memory")
            return np.frombuffer((ctypes.c_char * size).from_address(place), kind)

        def load(address, offset):
            found = elements(address, offset)
            return found[0] if width == 1 else tuple(found)

        def store(address, offset, value):
            elements(address, offset)[...] = value
        return store if writes else load

    def shared_memory(self, size: int) -> int:
        """The address of shared memory of the block that asks, by the place in the code that asks."""
        key = threading.current_thread().blockIdx.x, sys._getframe(1).f_lasti
        with self.lock:
            if key not in self.shared:
                self.shared[key] = self.device.allocate(size)
            return self.shared[key]

    def shuffle(self, value, source):
        """The value of another lane of the warp."""
        me = threading.current_thread()
        with self.lock:
            meeting, values = self.warps.setdefault((me.blockIdx.x, me.threadIdx.x >> 5), (threading.Barrier(32), [None] * 32))
        lane = me.threadIdx.x & 31
        values[lane] = value
        meeting.wait(60)
        found = values[source(lane)]
        meeting.wait(60)
        return found


def cuda_size(which: int) -> int:
    """Threads of a block, or blocks of the grid."""
    manager = threading.current_thread()._manager
    return (manager._block_dim, manager._grid_dim)[which][0]


# --- what is compared -------------------------------------------------------------------------------------------------

def agree(device: Simulated, view: View, want, rtol: float = 0.0) -> None:
    """A result is what NumPy says."""
    got, want = device.read(view), np.asarray(want)
    assert got.shape == want.shape, (got.shape, want.shape)
    np.testing.assert_allclose(got, want.astype(got.dtype), rtol=rtol)


def pointwise_kernels(device, rng):
    """Dense with a remainder, strided, a row for all rows, by value, halves, gradients, conversions."""
    sub = pointwise.forward(BOOK["sub"], "float32")
    x, y = (rng.standard_normal((5, 3, 7)).astype(np.float32) for _ in "xy")

    def check(about, dtype, *arrays, want):
        shape = np.broadcast_shapes(*map(np.shape, arrays))
        out = device.empty(dtype, shape)
        device.run(launch.pointwise(about, [out], [device.put(a) if isinstance(a, np.ndarray) else a for a in arrays]))
        agree(device, out, want)
    check(sub, "float32", x, y, want=x - y)
    check(sub, "float32", x, y[:, :1], want=x - y[:, :1])
    check(sub, "float32", x, 2.5, want=x - np.float32(2.5))
    wide = rng.standard_normal((18, 132)).astype(np.float32)
    check(sub, "float32", wide, wide[3], want=wide - wide[3])
    half = x.astype(np.float16)
    check(pointwise.forward(BOOK["mul"], "float16"), "float16", half, half, want=(half.astype("f4") ** 2).astype("f2"))
    check(pointwise.cast("float64", "int32"), "int32", x.astype("f8") * 9, want=(x.astype("f8") * 9).astype("i4"))
    out = device.empty("float32", (5, 3, 7))
    device.run(launch.pointwise(pointwise.gradient(BOOK["tanh"], "float32", (True,)), [out], [device.put(x), device.put(y)]))
    agree(device, out, x * (1 - y * y), 1e-6)


def folds(device, rng):
    """Rows, blocks, across, in parts; several numbers to a state."""
    def check(name, x, dims, want, rtol=1e-6):
        op = BOOK[name]
        kept = [n for d, n in enumerate(x.shape) if d not in dims]
        outs = [device.empty(d, kept) for d in results_of(op, x.dtype.name)]
        device.run(fold_plans.fold(op, device.put(x), dims, outs, (), device.allocate))
        agree(device, outs[0], want, rtol)
    x = rng.standard_normal((5, 33)).astype(np.float32)
    check("sum", x, (1,), x.astype("f8").sum(1), 1e-5)
    check("sum", x, (0,), x.astype("f8").sum(0), 1e-5)
    check("amax", x, (0, 1), x.max())
    check("argmax", x, (1,), x.argmax(1))
    long = rng.standard_normal((2, 1100))
    check("sum", long, (1,), long.sum(1), 1e-9)
    check("all", long > 0, (1,), (long > 0).all(1))


def rows_of_numbers(device, rng):
    """Scans, softmax, sorting."""
    x = rng.standard_normal((3, 40)).astype(np.float32)
    agree(device, rows.cumsum(device, device.put(x), 1), x.astype("f8").cumsum(1), 1e-4)
    agree(device, rows.cummax(device, device.put(x), 1)[0], np.maximum.accumulate(x, 1))
    shares = np.exp(x.astype("f8"))
    agree(device, rows.softmax(device, device.put(x), dim=1), shares / shares.sum(1, keepdims=True), 1e-5)
    agree(device, sorting.argsort(device, device.put(x), 1, False), x.argsort(1, kind="stable"))


def matrices(device, rng):
    """Tiled products and transposition."""
    a, b = rng.standard_normal((5, 9)).astype(np.float32), rng.standard_normal((9, 4)).astype(np.float32)
    agree(device, products.matmul(device, device.put(a), device.put(b)), a.astype("f8") @ b, 1e-5)
    x, out = device.put(rng.standard_normal((33, 35)).astype(np.float32)), device.empty("float32", (35, 33))
    device.run(transposes.copy(out, View(x.address, "float32", (35, 33), x.strides[::-1])))
    agree(device, out, device.read(x).T)


def positions(device, rng):
    """Gathering and scattering."""
    x, index = rng.standard_normal((6, 5)), rng.integers(0, 6, 9)
    agree(device, gathers.picked(device, device.put(x), device.put(index), 0, 1), x[index])
    want = np.zeros((6, 5))
    g = rng.standard_normal((9, 5))
    np.add.at(want, index, g)
    agree(device, scatters.index_backward(device, device.put(g), device.put(index), (6, 5), 0, 1), want, 1e-12)


def problems(device, rng):
    """A solver, one problem a thread: (x0 - a)^2 + 4 (x1 + a)^2."""
    statements = ["a = load_float64(c0, 0)", "u = load_float64(x, 0 * span()) - a", "v = load_float64(x, 1 * span()) + a"]
    answer = Evaluation(statements, [("F", ["u * u + 4.0 * (v * v)"]), ("G", ["2.0 * u", "8.0 * v"])], "", {})
    kernel = solver_program(solver("bfgs"), "float64", {VALUE_AND_GRAD: [answer]}, 1)
    batch = Batch(device, solver("bfgs"), "float64", device.put(rng.uniform(-2, 2, (3, 2))), {}, None)
    assert not batch.go(kernel, [device.put(np.array([0.75]))], 1000).any()
    np.testing.assert_allclose(device.read(batch.x), np.full((3, 2), 0.75) * [1, -1], atol=1e-5)


def mistakes(device, rng):
    """What a kernel does wrong is noticed: a step beyond its memory."""
    about = pointwise.forward(BOOK["add"], "float32")
    x = device.put(np.ones(9, np.float32))
    beyond = contiguous(x.address, "float32", (16,))
    try:
        device.run(launch.pointwise(about, [device.empty("float32", (16,))], [beyond, beyond]))
    except IndexError as error:
        assert "outside of all memory" in str(error)
    else:
        raise AssertionError("nobody noticed")


CHECKS = (pointwise_kernels, folds, rows_of_numbers, matrices, positions, problems, mistakes)


def main(names: list[str]) -> None:
    """Run the named checks, or all."""
    warnings.simplefilter("ignore")
    for check in CHECKS:
        if names and check.__name__ not in names:
            continue
        device = Simulated()
        check(device, np.random.default_rng(0))
        print(f"{check.__name__}: {device.launches} launches of {len(device.names)} kernels agree")


if __name__ == "__main__":
    main(sys.argv[1:])
