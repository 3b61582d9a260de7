"""Every method of `minimize` on Rosenbrock's function in 2, 100 and a million dimensions, beside SciPy.

    python examples/minimisers.py            prints three tables, draws the paths in two dimensions: examples/out/minimisers.png
    python examples/minimisers.py --quick    2 and 10 dimensions, no picture, no SciPy (the tests run this)

The function is traced, differentiated and compiled once; the solver calls it by its address. Times are those of later calls, when
everything is compiled. SciPy (where it is installed) gets the same compiled function and gradient, called from Python. In a million
dimensions every method that can makes a few iterations: each element waits for its neighbour, so that the minimum is millions away.
"""
import argparse
import pathlib
import time
import warnings

import engine as torch
from engine.optimize import minimize

MATRIX, SIMPLEX = "keeps a matrix of n x n numbers", "compares n + 1 points"
METHODS = {                         # method: options, the largest number of dimensions that it is for, and why
    "lbfgs": ({}, 10 ** 6, ""), "cg": ({}, 10 ** 6, ""), "newton-cg": ({}, 10 ** 6, ""), "bfgs": ({}, 100, MATRIX),
    "newton": ({}, 100, MATRIX), "gd": ({"maxiter": 100_000, "maxfun": 300_000}, 10 ** 6, ""),
    "adam": ({"lr": 0.02, "maxiter": 20_000, "maxfun": 20_000}, 10 ** 6, ""), "nelder-mead": ({}, 2, SIMPLEX),
}
RIVALS = {"L-BFGS-B": (10 ** 6, ""), "CG": (10 ** 6, ""), "BFGS": (100, MATRIX), "trust-exact": (100, MATRIX),
          "Nelder-Mead": (2, SIMPLEX)}      # SciPy's
FEW = {"newton-cg": 4}              # iterations in a million dimensions, where the way to the minimum takes millions of them
STEPS = 30                          # the same for the other methods


def rosenbrock(x):
    """The sum of (1 - x[i])^2 + 100 (x[i+1] - x[i]^2)^2; its minimum, 0, is where all are 1."""
    return ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()


def start(n):
    """(-1, 1) in two dimensions, the usual (-1.2, 1, -1.2, 1, ...) in more."""
    if n == 2:
        return torch.tensor([-1.0, 1.0], dtype=torch.float64)
    return torch.tensor([-1.2, 1.0], dtype=torch.float64).repeat(n // 2)


def line(name, value, away, evaluations, seconds, remark):
    print(f"  {name:24} {value:10.2e} {away:10.1e} {evaluations:12} {seconds * 1e3:12.3f}   {remark}")


def ours(n):
    """A table line for each method; the shortest of three times where one does not take long."""
    for method, (options, most, why) in METHODS.items():
        if n > most:
            print(f"  {method:24} not run: {why}")
            continue
        x0, times = start(n), []
        if n > 100:
            options = {**options, "maxiter": FEW.get(method, STEPS)}
        minimize(rosenbrock, x0, method=method, options=options if n <= 100 else {**options, "maxiter": 1})     # compiled here
        for _ in range(3 if n <= 100 else 1):
            begin = time.perf_counter()
            result = minimize(rosenbrock, x0, method=method, options=options)
            times.append(time.perf_counter() - begin)
        remark = "" if result.success else result.message
        line(method, result.fun, (result.x - 1).abs().max().item(), result.nfev, min(times), remark)


def scipys(n):
    """The same for SciPy, if it is there."""
    try:
        from scipy import optimize
    except ImportError:
        print("  SciPy is not installed (pip install scipy).")
        return
    both = torch.compile(torch.func.value_and_grad(rosenbrock))
    hessian = torch.compile(torch.func.hessian(rosenbrock)) if n <= 10 else optimize.rosen_hess

    def value(x):
        return both(torch.from_numpy(x))[0].item()

    def gradient(x):
        return both(torch.from_numpy(x))[1].numpy()

    def value_and_gradient(x):
        f, g = both(torch.from_numpy(x))
        return f.item(), g.numpy()

    def curvature(x):
        return hessian(torch.from_numpy(x)).numpy() if n <= 10 else hessian(x)
    for method, (most, why) in RIVALS.items():
        if n > most:
            print(f"  {'SciPy ' + method:24} not run: {why}")
            continue
        x0 = start(n).numpy()
        if method == "Nelder-Mead":
            given = {"fun": value}
        elif method == "trust-exact":
            given = {"fun": value, "jac": gradient, "hess": curvature}
        else:
            given = {"fun": value_and_gradient, "jac": True, "options": {"maxiter": 100_000 if n <= 100 else STEPS}}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")             # some ask for options that others do not know
            optimize.minimize(x0=x0, method=method, **given) if n <= 100 else value_and_gradient(x0)
            begin = time.perf_counter()
            result = optimize.minimize(x0=x0, method=method, **given)
            seconds = time.perf_counter() - begin
        line(f"SciPy {method}", float(result.fun), abs(result.x - 1).max(), result.nfev, seconds,
             "" if result.success else str(result.message))


def paths():
    """The iterates of every method in two dimensions, by name."""
    found = {}
    for method, (options, *_) in METHODS.items():
        history = minimize(rosenbrock, start(2), method=method, options={**options, "history": True}).history
        found[method] = torch.cat([start(2).unsqueeze(0), history.x])
    return found


def draw(found, file):
    """The paths over the function's contours, one picture a method; says so where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        print("No picture: matplotlib is not installed (pip install matplotlib).")
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    x, y = torch.meshgrid(torch.linspace(-1.6, 1.6, 241), torch.linspace(-0.6, 1.6, 181), indexing="xy")
    heights = (1 - x) ** 2 + 100 * (y - x ** 2) ** 2
    figure, axes = plt.subplots(2, 4, figsize=(14, 7), sharex=True, sharey=True, layout="constrained")
    for ax, (method, path) in zip(axes.flat, found.items(), strict=True):
        levels = [0.1 * 2.5 ** k for k in range(10)]
        ax.contour(x.numpy(), y.numpy(), heights.numpy(), levels, norm="log", cmap="Greys_r", linewidths=0.6)
        ax.plot(*path.T.numpy(), "o-" if len(path) < 200 else "-", color="tab:blue", markersize=3, linewidth=1)
        ax.plot(1, 1, "*", color="tab:red", markersize=12)
        ax.set(title=f"{method}: {len(path) - 1} iterations", xlim=(-1.6, 1.6), ylim=(-0.6, 1.6))
    figure.suptitle("Rosenbrock's function from (-1, 1)")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    print(f"Picture: {file}")


def main():
    parser = argparse.ArgumentParser(description="Every method on Rosenbrock's function.")
    parser.add_argument("--quick", action="store_true", help="2 and 10 dimensions, no picture, no SciPy")
    quick = parser.parse_args().quick
    for n in (2, 10) if quick else (2, 100, 10 ** 6):
        print(f"{n} dimensions\n  {'method':24} {'value':>10} {'error':>10} {'evaluations':>12} {'time / ms':>12}")
        ours(n)
        if not quick:
            scipys(n)
        print()
    if not quick:
        draw(paths(), pathlib.Path(__file__).resolve().parent / "out" / "minimisers.png")


if __name__ == "__main__":
    main()
