"""The Mandelbrot set by its distance estimate: a loop inside a kernel, whose gradient is the distance.

    python examples/mandelbrot.py           times beside NumPy, Numba, PyTorch and JAX, if installed (the picture needs matplotlib)
    python examples/mandelbrot.py --quick   a small image, no rivals but NumPy, no picture

Outside the set |z| escapes, and log|z| / |gradient of log|z|| is the distance to the set, within a factor of two. The textbook
carries the derivative dz/dc along by hand. Here a second kernel knows nothing of it: the engine differentiates
its loop. The two agree.
"""
import argparse
import math

import numpy as np
from pictures import pyplot, save
from rivals import library, timed

import engine as torch

LIMIT = 300                                 # steps after which a point counts as inside
FAR = 1e6                                   # |z|^2 that counts as escaped: the further, the better the estimate
VIEW = (-2.1, 0.7, -1.05, 1.05)             # left, right, bottom, top


@torch.elementwise
def distance(x, y):
    """|z| log|z| / |dz/dc| at the escape; 0 inside."""
    u, v, du, dv = 0.0, 0.0, 0.0, 0.0
    for _ in range(LIMIT):
        du, dv = 2 * (u * du - v * dv) + 1, 2 * (u * dv + v * du)
        u, v = u * u - v * v + x, 2 * u * v + y
        square = u * u + v * v
        if square > FAR:
            return math.sqrt(square / (du * du + dv * dv)) * math.log(square) / 2
    return 0.0


@torch.elementwise
def escape(x, y):
    """log|z| at the escape; 0 inside."""
    u, v = 0.0, 0.0
    for _ in range(LIMIT):
        u, v = u * u - v * v + x, 2 * u * v + y
        square = u * u + v * v
        if square > FAR:
            return math.log(square) / 2
    return 0.0


def plane(width):
    """(x, y) of the pixels' middles, y downwards."""
    left, right, bottom, top = VIEW
    height = round(width * (top - bottom) / (right - left))
    step = (right - left) / width
    x = left + (np.arange(width) + 0.5) * step
    y = top - (np.arange(height) + 0.5) * step
    return np.broadcast_to(x, (height, width)).copy(), np.broadcast_to(y[:, None], (height, width)).copy()


def in_arrays(xp, x, y):
    """The same on whole arrays: all pixels make all steps. `xp` is NumPy, PyTorch or JAX."""
    u, v, du, dv = (xp.zeros_like(x) for _ in range(4))
    for _ in range(LIMIT):
        u, v, du, dv = one_step(xp, x, y, u, v, du, dv)
    square = u * u + v * v
    estimate = xp.sqrt(square / (du * du + dv * dv)) * xp.log(square) / 2
    return xp.where(square > FAR, estimate, xp.zeros_like(x))


def one_step(xp, x, y, u, v, du, dv):
    """A step for the pixels that have not escaped."""
    going = u * u + v * v <= FAR
    new = u * u - v * v + x, 2 * u * v + y, 2 * (u * du - v * dv) + 1, 2 * (u * dv + v * du)
    return tuple(xp.where(going, a, b) for a, b in zip(new, (u, v, du, dv), strict=True))


def rivals(x, y):
    """Times of the other libraries, for the estimate with the derivative by hand."""
    with np.errstate(invalid="ignore", divide="ignore"):
        timed("NumPy", lambda: in_arrays(np, x, y), 0, f"{LIMIT} steps for all")

    if numba := library("numba", "Numba"):
        point = numba.njit(error_model="numpy")(distance.__wrapped__)

        @numba.njit
        def by_hand(x, y):
            out = np.empty_like(x)
            for k in range(x.size):
                out.flat[k] = point(x.flat[k], y.flat[k])
            return out
        timed("Numba, loop by hand", lambda: by_hand(x, y), remark="one thread")

    if pytorch := library("torch", "PyTorch"):
        a, b = pytorch.tensor(x), pytorch.tensor(y)
        timed("PyTorch", lambda: in_arrays(pytorch, a, b), 0, f"{LIMIT} steps for all")

    if jax := library("jax", "JAX"):
        jax.config.update("jax_enable_x64", True)
        a, b = jax.numpy.asarray(x), jax.numpy.asarray(y)

        @jax.jit
        def looped(x, y):
            start = tuple(jax.numpy.zeros_like(x) for _ in range(4))
            u, v, du, dv = jax.lax.fori_loop(0, LIMIT, lambda _, state: one_step(jax.numpy, x, y, *state), start)
            square = u * u + v * v
            estimate = jax.numpy.sqrt(square / (du * du + dv * dv)) * jax.numpy.log(square) / 2
            return jax.numpy.where(square > FAR, estimate, 0.0)
        timed("JAX, jit", lambda: jax.block_until_ready(looped(a, b)), 1, f"{LIMIT} steps for all")


def main():
    parser = argparse.ArgumentParser(description="The Mandelbrot set by its distance estimate.")
    parser.add_argument("--quick", action="store_true", help="96 pixels across instead of 720")
    x, y = plane(96 if parser.parse_args().quick else 720)
    a, b = torch.tensor(x), torch.tensor(y)

    print(f"{x.shape[1]} x {x.shape[0]} pixels, at most {LIMIT} steps each")
    estimate = timed("engine", lambda: distance(a, b), remark="each pixel until it escapes").numpy()
    a.requires_grad_()
    b.requires_grad_()

    def differentiated():
        height = escape(a, b)
        return height.detach(), *torch.autograd.grad(height, (a, b), torch.ones_like(height))
    height, along, up = (t.numpy() for t in timed("engine, derivatives by itself", differentiated, remark="both partials"))
    rivals(x, y)

    outside = height > 0
    slope = np.hypot(along, up)
    found = height[outside] / slope[outside]
    print(f"Inside: {1 - outside.mean():.4f} of the pixels, an area of about "
          f"{(~outside).mean() * (VIEW[1] - VIEW[0]) * (VIEW[3] - VIEW[2]):.3f} (the set's is 1.5066)")
    print(f"The distance by gradient and the one by hand differ by {np.abs(found / estimate[outside] - 1).max():.1e} of it at most")

    if plt := pyplot():
        figure, (left, right) = plt.subplots(1, 2, figsize=(15, 5.8), layout="constrained")
        left.imshow(np.where(outside, estimate, 1e-9) ** 0.25, cmap="magma", extent=VIEW)
        left.set(title="distance to the set (fourth root)", xlabel="x", ylabel="y")
        norm = np.where(outside, slope, 1)
        light = np.where(outside, (1.5 - (along - up) / norm / math.sqrt(2)) / 2.5, 0)       # a lamp at the upper left
        right.imshow(light, cmap="bone", extent=VIEW, vmin=0, vmax=1)
        right.set(title="lit along the gradient of log|z|", xlabel="x", ylabel="y")
        save(figure, "mandelbrot.png")


if __name__ == "__main__":
    main()
