"""Van der Waals isotherms with a phase branch, as a kernel, fitted to pressures.

    python examples/isotherm.py             times beside NumPy, Numba, PyTorch and JAX, if installed (the picture needs matplotlib)
    python examples/isotherm.py --quick     few volumes, no rivals but NumPy, no picture

Below the critical temperature a fluid is liquid, gas, or both: where both coexist the pressure does not depend on the volume. The
kernel decides for each point which it is, finding the saturation pressure by Maxwell's equal areas in a loop, and the fit
differentiates through the branch and the loop. Data: simulated with carbon dioxide's constants, with
noise of 0.3 bar; the fit finds the constants again.
"""
import argparse
import math

import numpy as np
from pictures import pyplot, save
from rivals import library, timed

import engine as torch
from engine.optimize import least_squares

GAS = 0.0831446                             # l bar / (mol K)
TRUE = (3.640, 0.04267)                     # a in l^2 bar / mol^2, b in l / mol: carbon dioxide
TEMPERATURES = (265.0, 280.0, 295.0, 304.0, 320.0)
STEPS = 8                                   # what libraries that cannot loop on values make for all points


@torch.elementwise
def pressure(v, temperature, a, b):
    """Pressure in bar at a molar volume v (l / mol) and a temperature (K). Below the critical one the flat part is Maxwell's."""
    t = temperature * GAS * b * 27 / (8 * a)                        # all in units of the critical point from here
    w = v / (3 * b)
    unit = a / (27 * b * b)
    if t >= 1:
        return unit * (8 * t / (3 * w - 1) - 3 / (w * w))
    p, change = math.exp(4 * (1 - 1 / t)), 1.0
    liquid, gas = 1.0, 1.0
    while abs(change) > 1e-10:
        # liquid and gas: the outer roots of w^3 - 3 third w^2 + 3 w / p - 1 / p
        third = (1 + 8 * t / p) / 9
        radius = math.sqrt(third * third - 1 / p)
        angle = math.acos((third ** 3 - 1.5 * third / p + 0.5 / p) / radius ** 3) / 3
        gas = third + 2 * radius * math.cos(angle)
        liquid = third + 2 * radius * math.cos(angle + 2 * math.pi / 3)
        mean = (8 * t / 3 * math.log((3 * gas - 1) / (3 * liquid - 1)) + 3 / gas - 3 / liquid) / (gas - liquid)
        change = mean - p                                           # Newton's step to equal areas: p is the mean in between
        p = mean
    if liquid < w < gas:
        return unit * p
    return unit * (8 * t / (3 * w - 1) - 3 / (w * w))


def in_arrays(xp, v, temperature, a, b):
    """The same on whole arrays, below the critical temperature: a fixed number of steps for all. `xp` is NumPy, PyTorch or JAX."""
    t, w, unit = temperature * GAS * b * 27 / (8 * a), v / (3 * b), a / (27 * b * b)
    p = xp.exp(4 * (1 - 1 / t))
    for _ in range(STEPS):
        third = (1 + 8 * t / p) / 9
        radius = xp.sqrt(third * third - 1 / p)
        angle = xp.acos((third ** 3 - 1.5 * third / p + 0.5 / p) / radius ** 3) / 3
        gas = third + 2 * radius * xp.cos(angle)
        liquid = third + 2 * radius * xp.cos(angle + 2 * math.pi / 3)
        p = (8 * t / 3 * xp.log((3 * gas - 1) / (3 * liquid - 1)) + 3 / gas - 3 / liquid) / (gas - liquid)
    return unit * xp.where((liquid < w) & (w < gas), p, 8 * t / (3 * w - 1) - 3 / (w * w))


def rivals(v, temperature):
    """Times of the other libraries; those that differentiate also give the gradient of the sum."""
    timed("NumPy, values only", lambda: in_arrays(np, v, temperature, *TRUE), remark=f"{STEPS} steps for all")
    if numba := library("numba", "Numba"):
        point = numba.njit(error_model="numpy")(pressure.__wrapped__)

        @numba.njit(error_model="numpy")
        def by_hand(v, temperature, a, b):
            out = np.empty_like(v)
            for k in range(v.size):
                out[k] = point(v[k], temperature[k], a, b)
            return out
        timed("Numba, loop by hand, values only", lambda: by_hand(v, temperature, *TRUE), remark="one thread")

    if pytorch := library("torch", "PyTorch"):
        x, y, a, b = (pytorch.tensor(n, dtype=pytorch.float64) for n in (v, temperature, *TRUE))
        a.requires_grad_()
        b.requires_grad_()
        timed("PyTorch, value and gradient", lambda: pytorch.autograd.grad(in_arrays(pytorch, x, y, a, b).sum(), (a, b)))

    if jax := library("jax", "JAX"):
        jax.config.update("jax_enable_x64", True)
        x, y = jax.numpy.asarray(v), jax.numpy.asarray(temperature)
        both = jax.jit(jax.value_and_grad(lambda *all: in_arrays(jax.numpy, *all).sum(), argnums=(2, 3)))
        timed("JAX, jit, value and gradient", lambda: jax.block_until_ready(both(x, y, *TRUE)))


def main():
    parser = argparse.ArgumentParser(description="Van der Waals isotherms with a phase branch, fitted.")
    parser.add_argument("--quick", action="store_true", help="ten thousand timed points instead of 200 thousand")
    count = 10_000 if parser.parse_args().quick else 200_000

    rng = np.random.default_rng(3)
    v, temperature = np.meshgrid(np.geomspace(0.07, 0.8, 30), TEMPERATURES)
    measured = pressure(torch.tensor(v), torch.tensor(temperature), *TRUE) + torch.tensor(rng.normal(0, 0.3, v.shape))
    volumes, kelvins = torch.tensor(v), torch.tensor(temperature)

    def residuals(x):
        return (pressure(volumes, kelvins, x[0], x[1]) - measured).reshape(-1)
    fit = least_squares(residuals, torch.tensor([3.3, 0.04], dtype=torch.float64), compile=False)
    spread = (2 * fit.cost / (v.size - 2) * torch.linalg.inv(fit.jac.T @ fit.jac).diagonal()).sqrt()
    print(f"{v.size} pressures; {fit.message} {fit.nfev} evaluations")
    for name, found, error, true in zip("ab", fit.x.tolist(), spread.tolist(), TRUE, strict=True):
        print(f"    {name} = {found:.5f} +- {error:.5f}, true {true}")
    print(f"Root mean square left: {math.sqrt(2 * fit.cost / v.size):.3f} bar")

    near = np.array([0.12, 0.2])                                    # both phases: the volume makes no difference
    both = torch.tensor(near, requires_grad=True)
    flat = pressure(both, 280.0, *TRUE)
    (slope,) = torch.autograd.grad(flat.sum(), both)
    print(f"Coexistence at 280 K: {flat[0].item():.3f} bar, slopes in the volume {slope.tolist()}")

    print(f"{count} points from 260 to 300 K")
    v, temperature = np.geomspace(0.07, 0.8, count), rng.uniform(260, 300, count)
    a, b = (torch.tensor(n, dtype=torch.float64, requires_grad=True) for n in TRUE)
    volumes, kelvins = torch.tensor(v), torch.tensor(temperature)
    timed("engine, values only", lambda: pressure(volumes, kelvins, *TRUE))
    timed("engine, value and gradient", lambda: torch.autograd.grad(pressure(volumes, kelvins, a, b).sum(), (a, b)))
    rivals(v, temperature)

    if plt := pyplot():
        figure, axis = plt.subplots(figsize=(9, 5.5), layout="constrained")
        line = np.geomspace(0.068, 0.85, 800)
        for k, kelvin in enumerate(TEMPERATURES):
            color = plt.cm.plasma(k / len(TEMPERATURES))
            axis.plot(line, pressure(torch.tensor(line), kelvin, *fit.x.tolist()).numpy(), color=color, label=f"{kelvin:g} K")
            axis.plot(np.geomspace(0.07, 0.8, 30), measured[k].numpy(), "o", color=color, markersize=3.5)
        axis.set(xscale="log", ylim=(0, 140), xlabel="molar volume, l / mol", ylabel="pressure, bar",
                 title="Isotherms of carbon dioxide: simulated measurements and the fit with Maxwell's branch")
        axis.legend()
        save(figure, "isotherm.png")


if __name__ == "__main__":
    main()
