"""Six optimizers on the same way down: SGD, Adagrad, RMSprop, Adadelta, Adam and AdamW on f = x^2 + y^2.

    python examples/optimizers.py           5000 steps each; draws where they went (needs matplotlib)
    python examples/optimizers.py --quick   100 steps each, no picture

All begin at (-75, -10). SGD has rate 0.1, since the bowl suits it too well otherwise; the others have rate 1.
"""
import argparse
import time

from pictures import pyplot, save

import engine as torch
from engine import optim

START = (-75.0, -10.0)
OPTIMIZERS = {"SGD": 0.1, "Adagrad": 1.0, "RMSprop": 1.0, "Adadelta": 1.0, "Adam": 1.0, "AdamW": 1.0}


def descend(name, rate, steps):
    """The points that an optimizer visits, and the values there."""
    x, y = (torch.tensor(value, requires_grad=True) for value in START)
    optimizer = getattr(optim, name)([x, y], lr=rate)
    points, values = [], []
    for _ in range(steps):
        optimizer.zero_grad()
        value = x ** 2 + y ** 2
        value.backward()
        optimizer.step()
        points.append((x.item(), y.item()))
        values.append(value.item())
    return points, values


def main():
    parser = argparse.ArgumentParser(description="Six optimizers on x^2 + y^2.")
    parser.add_argument("--quick", action="store_true", help="100 steps instead of 5000")
    steps = 100 if parser.parse_args().quick else 5000
    found = {}
    for name, rate in OPTIMIZERS.items():
        begin = time.perf_counter()
        found[name] = descend(name, rate, steps)
        points, values = found[name]
        print(f"{name:<9} rate {rate}: from {values[0]:.0f} to {values[-1]:.3g} at ({points[-1][0]:.3g}, {points[-1][1]:.3g}), "
              f"{(time.perf_counter() - begin) / steps * 1e6:.0f} us a step")

    if plt := pyplot():
        figure, grid = plt.subplots(2, 3, figsize=(13, 7.5), layout="constrained")
        for axes, (name, (points, _)) in zip(grid.flat, found.items(), strict=True):
            axes.scatter(*zip(*points, strict=True), s=12, c=range(steps), cmap="viridis", norm="symlog")
            axes.plot(*START, "r+", markersize=12)
            axes.plot(0, 0, "k*", markersize=9)
            axes.set(title=name, xlabel="x", ylabel="y", xlim=(-80, 80), ylim=(-15, 15))
        save(figure, "optimizers.png")


if __name__ == "__main__":
    main()
