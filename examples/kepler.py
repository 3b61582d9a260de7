"""Kepler's equation for a million orbits: a Newton iteration inside a kernel, and its gradients.

    python examples/kepler.py               times beside NumPy, Numba, PyTorch and JAX, if installed (the picture needs matplotlib)
    python examples/kepler.py --quick       ten thousand orbits, no rivals but NumPy, no picture

E - e sin E = M has no solution in closed form. The kernel iterates for each orbit until that orbit is solved; the derivative is
taken through the iteration. The implicit function theorem says what it must be: dE/dM = 1 / (1 - e cos E), dE/de = sin E dE/dM.
"""
import argparse
import math

import numpy as np
from pictures import pyplot, save
from rivals import library, timed

import engine as torch

STEPS = 7                                   # for all orbits, where a library cannot loop on values: the least that is as exact


@torch.elementwise
def eccentric_anomaly(M, e):
    """The solution E of E - e sin E = M, by Newton's iteration from Danby's start; a step squares the error."""
    E = M + 0.85 * e if math.sin(M) > 0 else M - 0.85 * e
    step = 1.0
    while abs(step) > 1e-9:
        step = (E - e * math.sin(E) - M) / (1 - e * math.cos(E))
        E -= step
    return E


def orbits(count):
    """Mean anomalies of the whole circle, eccentricities from 0 to 0.95."""
    rng = np.random.default_rng(0)
    return rng.uniform(0, 2 * math.pi, count), rng.uniform(0, 0.95, count)


def in_arrays(xp, M, e):
    """The same on whole arrays: a fixed number of steps for all. `xp` is NumPy, PyTorch or JAX."""
    E = M + xp.where(xp.sin(M) > 0, 0.85, -0.85) * e
    for _ in range(STEPS):
        E = E - (E - e * xp.sin(E) - M) / (1 - e * xp.cos(E))
    return E


def analytic(E, e):
    """(dE/dM, dE/de) by the implicit function theorem."""
    slope = 1 / (1 - e * np.cos(E))
    return slope, slope * np.sin(E)


def ours(M, e):
    """(E, dE/dM, dE/de) by the engine, as NumPy arrays."""
    M, e = (torch.tensor(a, requires_grad=True) for a in (M, e))
    E = eccentric_anomaly(M, e)
    slopes = torch.autograd.grad(E, (M, e), torch.ones_like(E))
    return [a.detach().numpy() for a in (E, *slopes)]


def rivals(M, e):
    """Times of the other libraries, value and both derivatives each."""
    def with_numpy():
        E = in_arrays(np, M, e)
        return E, *analytic(E, e)
    timed("NumPy, derivatives by hand", with_numpy)

    if numba := library("numba", "Numba"):
        @numba.njit(error_model="numpy")
        def by_hand(M, e):
            E, dM, de = np.empty_like(M), np.empty_like(M), np.empty_like(M)
            for k in range(M.size):
                x = M[k] + 0.85 * e[k] if math.sin(M[k]) > 0 else M[k] - 0.85 * e[k]
                step = 1.0
                while abs(step) > 1e-9:
                    step = (x - e[k] * math.sin(x) - M[k]) / (1 - e[k] * math.cos(x))
                    x -= step
                E[k], dM[k] = x, 1 / (1 - e[k] * math.cos(x))
                de[k] = math.sin(x) * dM[k]
            return E, dM, de
        timed("Numba, loop and derivatives by hand", lambda: by_hand(M, e), remark="one thread")

    if pytorch := library("torch", "PyTorch"):
        a, b = (pytorch.tensor(x, requires_grad=True) for x in (M, e))
        timed("PyTorch", lambda: pytorch.autograd.grad(in_arrays(pytorch, a, b).sum(), (a, b)), remark=f"{STEPS} steps for all")

    if jax := library("jax", "JAX"):
        jax.config.update("jax_enable_x64", True)
        both = jax.jit(jax.value_and_grad(lambda M, e: in_arrays(jax.numpy, M, e).sum(), argnums=(0, 1)))
        a, b = jax.numpy.asarray(M), jax.numpy.asarray(e)
        timed("JAX, jit", lambda: jax.block_until_ready(both(a, b)), remark=f"{STEPS} steps for all")


def main():
    parser = argparse.ArgumentParser(description="Kepler's equation by Newton's iteration inside a kernel.")
    parser.add_argument("--quick", action="store_true", help="ten thousand orbits instead of a million")
    count = 10_000 if parser.parse_args().quick else 1_000_000
    M, e = orbits(count)

    print(f"{count} orbits, value and both derivatives")
    E, dM, de = timed("engine", lambda: ours(M, e), remark="each orbit iterates until it is solved")
    rivals(M, e)

    print(f"Kepler's equation is left with {np.abs(E - e * np.sin(E) - M).max():.1e} at most")
    for name, found, exact in zip(("dE/dM", "dE/de"), (dM, de), analytic(E, e), strict=True):
        print(f"{name} and the implicit function theorem differ by {np.abs(found / exact - 1).max():.1e} of it at most")

    if plt := pyplot():
        mean = np.linspace(0, 2 * math.pi, 1001)
        figure, axes = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")
        names = ("eccentric anomaly E", "dE/dM", "dE/de")
        for eccentricity in (0, 0.3, 0.6, 0.8, 0.9):
            for axis, name, curve in zip(axes, names, ours(mean, np.full_like(mean, eccentricity)), strict=True):
                axis.plot(mean, curve, color=plt.cm.viridis(eccentricity), label=f"e = {eccentricity}")
                axis.set(xlabel="mean anomaly M", title=name)
        axes[0].legend()
        save(figure, "kepler.png")


if __name__ == "__main__":
    main()
