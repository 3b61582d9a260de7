"""How optimizers go down two bowls: a round one, and one that is ten times as steep one way as the other.

    python examples/paraboloids.py          prints how many steps each needs and draws the paths (needs matplotlib)
    python examples/paraboloids.py --quick  fewer steps, no picture

The round bowl is f = 0.2 x1^2 + 0.2 x2^2 - 5: descent at rate 2.5 is at the minimum in one step. The steep one is
f = 0.2 x1^2 + 2 x2^2 - 5: descent at rate 0.45 is slow, at 0.5 it swings for ever, at 0.51 it flies off. Momentum (rate 0.5,
momentum 0.1) is faster, and Adagrad (rate 3.7), RMSProp and Adam need but a few steps, since they scale each direction by itself.
Adam does so with little momentum; with its usual 0.9 it swings around the minimum for long.
"""
import argparse

from pictures import pyplot, save

import engine as torch
from engine import optim

START = (6.0, 6.0)
ROUND, STEEP = 0.2, 2.0
PANELS = [
    ("Round bowl: the rate matters", ROUND, {"SGD, rate 1": (optim.SGD, {"lr": 1.0}), "SGD, rate 2.5": (optim.SGD, {"lr": 2.5})}),
    ("Steep bowl: the rate matters more", STEEP, {
        "SGD, rate 0.45": (optim.SGD, {"lr": 0.45}), "SGD, rate 0.5": (optim.SGD, {"lr": 0.5}),
        "SGD, rate 0.51": (optim.SGD, {"lr": 0.51})}),
    ("Momentum", STEEP, {"SGD, rate 0.45": (optim.SGD, {"lr": 0.45}),
                         "momentum 0.1, rate 0.5": (optim.SGD, {"lr": 0.5, "momentum": 0.1})}),
    ("Adagrad", STEEP, {"SGD, rate 0.45": (optim.SGD, {"lr": 0.45}), "Adagrad, rate 3.7": (optim.Adagrad, {"lr": 3.7})}),
    ("RMSProp", STEEP, {"SGD, rate 0.45": (optim.SGD, {"lr": 0.45}), "RMSProp, rate 0.45": (optim.RMSprop, {"lr": 0.45})}),
    ("Adam", STEEP, {"SGD, rate 0.45": (optim.SGD, {"lr": 0.45}), "Adam, rate 1": (optim.Adam, {"lr": 1.0}),
                     "Adam, rate 2.5, betas 0.1, 0.999": (optim.Adam, {"lr": 2.5, "betas": (0.1, 0.999)})}),
]


def bowl(x1, x2, steepness):
    return 0.2 * x1 ** 2 + steepness * x2 ** 2 - 5


def descend(steepness, kind, options, steps):
    """The points that an optimizer visits."""
    x = torch.tensor(START, requires_grad=True)
    optimizer = kind([x], **options)
    path = [x.tolist()]
    for _ in range(steps):
        optimizer.zero_grad()
        bowl(x[0], x[1], steepness).backward()
        optimizer.step()
        path.append(x.tolist())
    return path


def steps_needed(path, steepness):
    """After how many steps the value stays within 0.01 of the minimum; None where it does not."""
    close = [bowl(x1, x2, steepness) < -5 + 0.01 for x1, x2 in path]
    return len(close) - close[::-1].index(False) if close[-1] else None


def main():
    parser = argparse.ArgumentParser(description="Optimizers on a round and a steep bowl.")
    parser.add_argument("--quick", action="store_true", help="20 steps instead of 60")
    steps = 20 if parser.parse_args().quick else 60
    paths = [{name: descend(steepness, *choice, steps) for name, choice in runs.items()} for _, steepness, runs in PANELS]
    for (title, steepness, _), drawn in zip(PANELS, paths, strict=True):
        print(title)
        for name, path in drawn.items():
            needed = steps_needed(path, steepness)
            end = f"at the minimum after {needed} step{'s' * (needed > 1)}" if needed else (
                f"after {steps} steps at ({path[-1][0]:.3g}, {path[-1][1]:.3g})")
            print(f"    {name:<32} {end}")

    if plt := pyplot():
        figure, grid = plt.subplots(2, 3, figsize=(14, 8.4), layout="constrained")
        line = torch.linspace(-8, 8, 201)
        x1, x2 = torch.meshgrid(line, line, indexing="xy")
        for axes, (title, steepness, _), drawn in zip(grid.flat, PANELS, paths, strict=True):
            axes.contourf(x1.numpy(), x2.numpy(), bowl(x1, x2, steepness).numpy(), 25, cmap="Blues_r", alpha=0.75)
            for k, (name, path) in enumerate(drawn.items()):
                inside = [point for point in path if abs(point[1]) <= 8]
                axes.plot(*zip(*inside, strict=True), "o-", color=("black", "orangered", "gold")[k], markersize=3.5, linewidth=1,
                          label=name)
            axes.plot(0, 0, "w*", markersize=12)
            axes.set(title=title, xlim=(-8, 8), ylim=(-8, 8), xlabel="x1", ylabel="x2")
            axes.legend(loc="lower left", fontsize=8)
        save(figure, "paraboloids.png")


if __name__ == "__main__":
    main()
