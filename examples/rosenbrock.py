"""Minimise Rosenbrock's function three times: by gradient descent written by hand, by L-BFGS, and by the native minimiser.

    python examples/rosenbrock.py           prints both logs, where each ended and how long it took; draws both paths
    python examples/rosenbrock.py --quick   the same with 100 steps of descent and no picture (the tests run this)

The function has a long curved valley with its minimum, 0, at (1, 1). Descent needs a thousand steps to come near it; L-BFGS,
which learns the curvature on its way, needs 22 evaluations. `engine.optimize.minimize` does the same inside one native call:
the whole solver is compiled, and calls the compiled function by its address.
"""
import argparse
import pathlib
import time

import engine as torch
from engine import optim, optimize

START = (-1.0, 1.0)


def rosenbrock(x, a=1, b=5):
    """(a - x1)^2 + b (x2 - x1^2)^2 for a tensor x of two numbers, or a pair of arrays of equal shapes."""
    return (a - x[0]) ** 2 + b * (x[1] - x[0] ** 2) ** 2


def descend(steps, rate=0.01):
    """`steps` steps against the gradient; logs every hundredth. Returns the points visited."""
    x = torch.tensor(START, requires_grad=True)
    path = [x.tolist()]
    for i in range(1, steps + 1):
        value = rosenbrock(x)
        value.backward()
        if i % 100 == 0:
            print(f"Iteration: {i}")
            print(f"Value is : {value.item():.7g}")
            print(f"Gradient is : {x.grad[0].item():.7g} {x.grad[1].item():.7g}")
        with torch.no_grad():           # the update is no part of the function
            x.sub_(rate * x.grad)
            x.grad.zero_()              # gradients accumulate until they are cleared
        path.append(x.tolist())
    return path


def lbfgs(rounds=2):
    """`rounds` steps of L-BFGS with a strong Wolfe line search; logs every evaluation. Returns the points evaluated."""
    x = torch.tensor(START, requires_grad=True)
    optimizer = optim.LBFGS([x], line_search_fn="strong_wolfe")
    path = []

    def closure():
        optimizer.zero_grad()
        value = rosenbrock(x)
        value.backward()
        print(f"Value is: {value.item():.7g}")
        path.append(x.tolist())
        return value

    for i in range(1, rounds + 1):
        print(f"Iteration: {i}")
        optimizer.step(closure)
    path.append(x.tolist())
    return path


def native():
    """The native minimiser from the same start, in the same dtype."""
    return optimize.minimize(rosenbrock, torch.tensor(START))


def warm_up():
    """Run a step of each method once, so that the times below are of minimising and not of compiling."""
    begin = time.perf_counter()
    descend(1)
    x = torch.tensor(START, requires_grad=True)
    optimizer = optim.LBFGS([x], max_iter=4, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = rosenbrock(x)
        value.backward()
        return value

    optimizer.step(closure)
    native()
    print(f"Kernels ready after {time.perf_counter() - begin:.2f} s (the first run compiles them; later ones find them in the "
          "store)\n")


def report(name, path, evaluations, seconds):
    """One line: where a method ended, after how many evaluations and how much time."""
    x1, x2 = path[-1]
    value = rosenbrock((x1, x2))
    print(f"{name}: ended at ({x1:.6f}, {x2:.6f}), value {value:.3g}, after {evaluations} evaluations "
          f"in {seconds * 1e3:.1f} ms\n")


def draw(descent, quasi_newton, file):
    """Contours of the function with both paths, as a picture; says so where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        print("No picture: matplotlib is not installed (pip install matplotlib).")
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    x1, x2 = torch.linspace(-1.6, 1.6, 321), torch.linspace(-0.8, 1.8, 261)
    grid = torch.meshgrid(x1, x2, indexing="xy")
    figure, axes = plt.subplots(figsize=(8, 6), layout="constrained")
    levels = [0.01 * 2.2 ** k for k in range(12)]
    axes.contour(x1.numpy(), x2.numpy(), rosenbrock(grid).numpy(), levels, norm="log", cmap="viridis", linewidths=0.8)
    for path, name, style in ((descent, "gradient descent", "o-"), (quasi_newton, "L-BFGS", "s-")):
        axes.plot(*zip(*path, strict=True), style, label=f"{name}, {len(path) - 1} evaluations", markersize=3, linewidth=1.2)
    axes.plot(1, 1, "k*", markersize=12, label="minimum (1, 1)")
    axes.set(xlabel="x1", ylabel="x2", title="Rosenbrock's function, a = 1, b = 5", xlim=(-1.6, 1.6), ylim=(-0.8, 1.8))
    axes.legend(loc="lower left")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)
    print(f"Picture: {file}")


def main():
    parser = argparse.ArgumentParser(description="Minimise Rosenbrock's function by descent and by L-BFGS.")
    parser.add_argument("--quick", action="store_true", help="100 steps of descent, no picture")
    quick = parser.parse_args().quick

    warm_up()
    begin = time.perf_counter()
    descent = descend(100 if quick else 1000)
    report("Gradient descent", descent, len(descent) - 1, time.perf_counter() - begin)

    begin = time.perf_counter()
    quasi_newton = lbfgs()
    report("L-BFGS", quasi_newton, len(quasi_newton) - 1, time.perf_counter() - begin)

    begin = time.perf_counter()
    result = native()
    seconds = time.perf_counter() - begin
    print(f"Native minimiser: {result.message}")
    x1, x2 = result.x.tolist()
    print(f"Native L-BFGS: ended at ({x1:.6f}, {x2:.6f}), value {result.fun:.3g}, after {result.nfev} evaluations in "
          f"{seconds * 1e6:.0f} us\n")

    if not quick:
        draw(descent, quasi_newton, pathlib.Path(__file__).resolve().parent / "out" / "rosenbrock.png")


if __name__ == "__main__":
    main()
