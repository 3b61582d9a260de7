"""Ten thousand starts at once: which minimum does each end in? Pictures of the basins of attraction of two functions.

    python examples/basins.py            10,000 starts on each function by two methods; draws examples/out/basins.png
    python examples/basins.py --quick    400 starts, no picture (the tests run this)

`minimize` with `batch_dims=1` takes each row as a problem of its own, solved to its own end, rows spread over the cores.
Himmelblau's function has four minima, all zero; Goldstein and Price's has four as well, of which only (0, -1) is the lowest.
"""
import argparse
import pathlib
import time

import engine as torch
from engine.optimize import minimize


def himmelblau(x):
    """(x1^2 + x2 - 11)^2 + (x1 + x2^2 - 7)^2"""
    return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2


def goldstein_price(x):
    """The logarithm of Goldstein and Price's function (1971), which spans five orders of magnitude; the minima are the same."""
    a, b = x[0], x[1]
    first = 1 + (a + b + 1) ** 2 * (19 - 14 * a + 3 * a ** 2 - 14 * b + 6 * a * b + 3 * b ** 2)
    second = 30 + (2 * a - 3 * b) ** 2 * (18 - 32 * a + 12 * a ** 2 + 48 * b - 36 * a * b + 27 * b ** 2)
    return (first * second).log()


FUNCTIONS = {
    "Himmelblau": (himmelblau, (-6.0, 6.0, -6.0, 6.0),
                   [(3, 2), (-2.805118, 3.131313), (-3.779310, -3.283186), (3.584428, -1.848127)]),
    "Goldstein-Price": (goldstein_price, (-2.0, 2.0, -2.5, 1.5), [(0, -1), (-0.6, -0.4), (1.8, 0.2), (1.2, 0.8)]),
}
METHODS = ("lbfgs", "newton")


def grid(window, side):
    """side * side starts in a window, as rows."""
    left, right, low, high = window
    x, y = torch.meshgrid(torch.linspace(left, right, side, dtype=torch.float64),
                          torch.linspace(low, high, side, dtype=torch.float64), indexing="xy")
    return torch.stack([x.reshape(-1), y.reshape(-1)], 1)


def basins(function, window, minima, method, side):
    """The number of the minimum that each start ends in, -1 for none of them, and the result."""
    starts = grid(window, side)
    minimize(function, starts[:1], method=method, batch_dims=1)             # traced and compiled here, for the time below
    begin = time.perf_counter()
    result = minimize(function, starts, method=method, batch_dims=1)
    seconds = time.perf_counter() - begin
    away = ((result.x.unsqueeze(1) - torch.tensor(minima, dtype=torch.float64)) ** 2).sum(2)
    near, number = away.min(1)
    number = torch.where(near < 1e-3, number, -1)
    shares = ", ".join(f"{(number == k).double().mean().item():.1%} in {minima[k]}" for k in range(len(minima)))
    print(f"  {method:7} {len(starts)} starts in {seconds * 1e3:6.1f} ms ({seconds / len(starts) * 1e6:.1f} us each), "
          f"{result.nfev.double().mean().item():.1f} evaluations each, "
          f"{result.success.double().mean().item():.1%} converged: {shares}, "
          f"{(number < 0).double().mean().item():.1%} elsewhere")
    return number.reshape(side, side)


def draw(pictures, file):
    """One picture a function and method; says so where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        print("No picture: matplotlib is not installed (pip install matplotlib).")
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.colors import ListedColormap
    colours = ListedColormap(["#dddddd", "#4477aa", "#ee6677", "#228833", "#ccbb44"])
    figure, axes = plt.subplots(len(FUNCTIONS), len(METHODS), figsize=(9.5, 9), layout="constrained")
    for row, (name, (function, window, minima)) in zip(axes, FUNCTIONS.items(), strict=True):
        fine = grid(window, 200)
        heights = function((fine[:, 0], fine[:, 1])).reshape(200, 200)
        for ax, method in zip(row, METHODS, strict=True):
            number = pictures[name, method]
            ax.imshow(number.numpy(), origin="lower", extent=window, cmap=colours, vmin=-1.5, vmax=3.5, aspect="auto",
                      interpolation="nearest")
            levels = torch.quantile(heights.reshape(-1), torch.linspace(0.02, 0.9, 12, dtype=torch.float64)).tolist()
            ax.contour(heights.numpy(), levels, extent=window, colors="black", linewidths=0.4, alpha=0.6)
            ax.plot(*zip(*minima, strict=True), "w*", markersize=11, markeredgecolor="black")
            ax.set_title(f"{name}, {method}")
    figure.suptitle("Where each start ends (stars: minima; grey: nowhere among them)")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    print(f"Picture: {file}")


def main():
    parser = argparse.ArgumentParser(description="Basins of attraction of two functions.")
    parser.add_argument("--quick", action="store_true", help="400 starts, no picture")
    quick = parser.parse_args().quick
    pictures = {}
    for name, (function, window, minima) in FUNCTIONS.items():
        print(name)
        for method in METHODS:
            pictures[name, method] = basins(function, window, minima, method, 20 if quick else 100)
    if not quick:
        draw(pictures, pathlib.Path(__file__).resolve().parent / "out" / "basins.png")


if __name__ == "__main__":
    main()
