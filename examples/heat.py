"""Heat flows on a plate: a stencil, and the state at the beginning recovered from the one at the end by gradient.

    python examples/heat.py                 times beside NumPy, Numba, PyTorch and JAX, if installed (the picture needs matplotlib)
    python examples/heat.py --quick         a small plate, no rivals but NumPy, no picture

One step is one function of a neighbourhood. Its gradient runs the plate backwards: L-BFGS changes the initial temperatures until
their future agrees with what was measured, with noise, after many steps, and nothing is colder than the surroundings.
"""
import argparse

import numpy as np
from pictures import pyplot, save
from rivals import library, timed

import engine as torch
from engine import optim

RATE = 0.2                                  # of the difference to the neighbours that flows in a step
NOISE = 0.002


@torch.stencil(boundary="edge")
def heat(u, i, j, c):
    """One step of the heat equation; nothing flows over the edge."""
    return u[i, j] + c * (u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1] - 4 * u[i, j])


def later(u, steps):
    """The plate after some steps."""
    for _ in range(steps):
        u = heat(u, RATE)
    return u


def plate(n):
    """A plate with a hot ring, a bar and a spot."""
    y, x = (np.arange(n) + 0.5)[:, None] / n, (np.arange(n) + 0.5)[None] / n
    ring = abs(np.hypot(x - 0.35, y - 0.4) - 0.2) < 0.05
    bar = (abs(x - 0.75) < 0.06) & (abs(y - 0.5) < 0.3)
    return torch.tensor(np.where(ring | bar | (np.hypot(x - 0.35, y - 0.4) < 0.06), 1.0, 0.0))


def recover(measured, steps, iterations):
    """The initial state, by L-BFGS on its square root so that it is not negative; and the number of evaluations."""
    root = measured.clamp(min=0.01).sqrt().requires_grad_()
    optimizer = optim.LBFGS([root], max_iter=iterations, history_size=20, line_search_fn="strong_wolfe", tolerance_change=1e-12)
    count = 0

    def closure():
        nonlocal count
        count += 1
        optimizer.zero_grad()
        u = root * root
        roughness = (heat(u, RATE) - u).abs().sum()
        loss = ((later(u, steps) - measured) ** 2).sum() / NOISE ** 2 / 2 + 3 * roughness
        loss.backward()
        return loss
    optimizer.step(closure)
    return (root * root).detach(), count


def by_slices(u, c):
    """The same step on the inside of an array, for any library; the edge stays what it was."""
    inside = u[1:-1, 1:-1]
    return inside + c * (u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:] - 4 * inside)


def rivals(u):
    """Times of the other libraries for one step, inside the plate."""
    timed("NumPy, slices", lambda: by_slices(u, np.float32(RATE)), 5)
    if numba := library("numba", "Numba"):
        @numba.stencil
        def point(u, c):
            return u[0, 0] + c * (u[-1, 0] + u[1, 0] + u[0, -1] + u[0, 1] - np.float32(4) * u[0, 0])

        @numba.njit(parallel=True)
        def step(u, c):
            return point(u, c)
        timed("Numba, stencil, parallel", lambda: step(u, np.float32(RATE)), 5)

    if pytorch := library("torch", "PyTorch"):
        a = pytorch.tensor(u)
        timed("PyTorch, slices", lambda: by_slices(a, RATE), 5)

    if jax := library("jax", "JAX"):
        a, compiled = jax.numpy.asarray(u), jax.jit(by_slices)
        timed("JAX, slices, jit", lambda: jax.block_until_ready(compiled(a, np.float32(RATE))), 5)


def main():
    parser = argparse.ArgumentParser(description="The heat equation by a stencil, and backwards.")
    parser.add_argument("--quick", action="store_true", help="a plate of 24 x 24 points instead of 96 x 96")
    quick = parser.parse_args().quick
    n, steps, iterations = (24, 8, 30) if quick else (96, 60, 150)

    begin = plate(n)
    torch.manual_seed(0)
    measured = later(begin, steps) + NOISE * torch.randn(n, n, dtype=torch.float64)
    found, evaluations = recover(measured, steps, iterations)
    print(f"{n} x {n} points, measured after {steps} steps with noise of {NOISE}; {evaluations} evaluations")
    for name, state in (("measured", measured), ("recovered", found)):
        away = (state - begin).norm() / begin.norm()
        print(f"    {name:10} {away.item() * 100:5.1f} % away from the state at the beginning")
    left = (later(found, steps) - measured).square().mean().sqrt().item()
    print(f"Its future differs from what was measured by {left:.5f}")

    size = 128 if quick else 1024
    print(f"One step of {size} x {size} float32")
    u = np.random.default_rng(0).random((size, size), np.float32)
    tensor = torch.tensor(u)
    stepped = timed("engine", lambda: heat(tensor, RATE), 5, "with its edge")
    rivals(u)
    away = np.abs(stepped.numpy()[1:-1, 1:-1] - by_slices(u, np.float32(RATE))).max()
    print(f"Inside it differs from slices in NumPy by {away:.1e}")

    if plt := pyplot():
        figure, axes = plt.subplots(1, 3, figsize=(14, 4.6), layout="constrained")
        titles = ("the plate at the beginning", f"measured after {steps} steps", "recovered from the measurement")
        for axis, title, state in zip(axes, titles, (begin, measured, found), strict=True):
            image = axis.imshow(state.numpy(), cmap="inferno", vmin=0, vmax=1)
            axis.set(title=title, xticks=[], yticks=[])
        figure.colorbar(image, ax=axes, label="temperature")
        save(figure, "heat.png")


if __name__ == "__main__":
    main()
