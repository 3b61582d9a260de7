"""Question: what does a kernel that a user writes cost, beside the same loop written by hand in Numba?

The column "numpy" holds loops written by hand: values, and values with derivatives, on one thread into new arrays, as one would
write them first. `first call` is a process that compiles a kernel of ten lines with its gradient, into an empty store of kernels
("cold") and from a filled one ("stored"): seconds from the call to the gradient.
"""
import functools
import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from perf.harness import Case, Group

ROOT = Path(__file__).resolve().parents[2]
PEERS = ("numpy",)


@functools.cache
def user_kernel():
    """The operator of the first two cases."""
    import math

    import engine

    @engine.elementwise
    def soft_clip(x, limit):
        if x <= limit:
            return x
        excess = x - limit
        return limit + math.log(1.0 + excess)
    return soft_clip


@functools.cache
def by_hand():
    """The loop by hand: values, and values with derivatives times a cotangent."""
    import math

    import numba

    @numba.njit(error_model="numpy")
    def values(x, limit):
        out = np.empty_like(x)
        for i in range(x.size):
            if x[i] <= limit:
                out[i] = x[i]
            else:
                out[i] = limit + math.log(1.0 + (x[i] - limit))
        return out

    @numba.njit(error_model="numpy")
    def with_derivatives(x, limit, g):
        out, found = np.empty_like(x), np.empty_like(x)
        for i in range(x.size):
            if x[i] <= limit:
                out[i], found[i] = x[i], g[i]
            else:
                above = 1.0 + (x[i] - limit)
                out[i], found[i] = limit + math.log(above), g[i] / above
        return out, found
    return values, with_derivatives


def numbers():
    """A million standard normal numbers."""
    return np.random.default_rng(0).standard_normal(10**6)


def forward(xp):
    """Values; in NumPy's column the loop by hand."""
    if xp.name == "numpy":
        loop, x = by_hand()[0], numbers()
        return lambda: loop(x, 0.1)
    operator, x = user_kernel(), xp.array(numbers())
    return lambda: operator(x, 0.1)


def forward_backward(xp):
    """Values and gradient; in NumPy's column the loop by hand."""
    if xp.name == "numpy":
        loop, x, g = by_hand()[1], numbers(), np.ones(10**6)
        return lambda: loop(x, 0.1, g)[1]
    operator, x, g = user_kernel(), xp.array(numbers(), requires_grad=True), xp.array(np.ones(10**6))

    def run():
        x.grad = None
        operator(x, 0.1).backward(g)
        return x.grad
    return run


TEN_LINES = """
import math, time
import engine
@engine.elementwise
def waves(x, a):
    total, power = 0.0, x
    for k in range(1, 6):
        if k % 2 == 0:
            total -= power / k
        else:
            total += power / k
        power *= x
    if total > a:
        return a + math.tanh(total - a)
    return total * math.exp(-a * a)
x, a = (engine.tensor(v, dtype=engine.float64, requires_grad=True) for v in ([0.5, 4.0], [1.0, 1.0]))
g = engine.ones(2, dtype=engine.float64)
start = time.perf_counter()
waves(x, a).backward(g)
print(time.perf_counter() - start)
"""


def first_call(fresh):
    """Seconds of the first call, with its gradient, in a new process."""
    def build(xp):
        if xp.name != "engine":
            return None
        folder = tempfile.TemporaryDirectory()
        script = Path(folder.name) / "kernel.py"
        script.write_text(TEN_LINES, encoding="utf-8")

        def run():
            env = dict(os.environ, ENGINE_CACHE_DIR=str(Path(folder.name) / "store"), PYTHONPATH=str(ROOT))
            return float(subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True, check=True).stdout)
        run.folder = folder             # lives as long as the case
        if not fresh:
            run()
        return run
    return build


def kepler(xp):
    """The sum of the eccentric anomalies of a million orbits, and its two gradients, of which the thunk returns one.

    The kernel, and the steps for libraries on arrays, are those of `examples/kepler.py`. In NumPy's column the derivatives are
    the implicit function theorem's, by hand.
    """
    sys.path.append(str(ROOT / "examples"))
    example = importlib.import_module("kepler")
    sys.path.pop()
    M, e = example.orbits(10**6)

    def total(M, e):
        return (example.eccentric_anomaly(M, e) if xp.name == "engine" else example.in_arrays(xp, M, e)).sum()

    def with_numpy():
        E = example.in_arrays(np, M, e)
        return E.sum(), *example.analytic(E, e)
    if xp.name == "numpy":
        return lambda: with_numpy()[2]
    if xp.name == "jax":
        both = xp.jit(xp.value_and_grad(total, argnums=(0, 1)))
        a, b = xp.array(M), xp.array(e)

        return lambda: both(a, b)[1][1]
    a, b = xp.array(M, requires_grad=True), xp.array(e, requires_grad=True)
    return lambda: xp.autograd.grad(total(a, b), (a, b))[1]


def heat_step(xp):
    """A step of the heat equation on 1024 x 1024 float32; in NumPy's column Numba's own stencil on all threads."""
    u = np.random.default_rng(0).random((1024, 1024), np.float32)
    if xp.name == "numpy":
        import numba

        @numba.stencil
        def point(u, c):
            return u[0, 0] + c * (u[-1, 0] + u[1, 0] + u[0, -1] + u[0, 1] - np.float32(4) * u[0, 0])

        @numba.njit(parallel=True)
        def step(u, c):
            return point(u, c)
        return lambda: step(u, np.float32(0.2))
    if xp.name != "engine":
        return None
    operator, tensor = heat(), xp.array(u)
    return lambda: operator(tensor, 0.2)


@functools.cache
def heat():
    """The step as a stencil of the engine's."""
    import engine

    @engine.stencil(boundary="edge", name="heat_step")
    def heat(u, i, j, c):
        return u[i, j] + c * (u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1] - 4 * u[i, j])
    return heat


GROUPS = (
    Group("user kernels", "what does a user's kernel cost beside a loop by hand in Numba (the column \"numpy\")?", (
        Case("branching kernel, 10^6 float64, forward", forward, 1.05, "numpy"),
        Case("branching kernel, 10^6 float64, forward and backward", forward_backward, 1.15, "numpy"),
        Case("first call with gradient, cold (s)", first_call(True), 1.5, against=None, kind="value"),
        Case("first call with gradient, stored (s)", first_call(False), 0.1, against=None, kind="value"),
        Case("stencil heat step, 1024 x 1024 float32", heat_step, 1.1, "numpy", compare=False),
    ), peers=PEERS),
    Group("loops inside kernels", "what does a loop of each element's own save over the same steps for all?", (
        Case("Kepler's equation, 10^6 orbits, value and gradients", kepler, 0.5, "best"),
    )),
)
