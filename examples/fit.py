"""Fit a physical model to measurements by least squares, with uncertainties from the Jacobian.

    python examples/fit.py            prints the fitted numbers and draws examples/out/fit.png
    python examples/fit.py --quick    no picture (the tests run this)

A weight on a spring swings in air: x(t) = A exp(-g t) cos(w t + p) + c. A camera took its place 120 times, with an error of 3 mm;
five frames were misread. The squared loss lets those few spoil the fit; the soft_l1 loss, which grows like the distance, does not.
With residuals r and their Jacobian J at the solution, the covariance of the parameters is (J'J)^-1 times the variance of r.
The spring constant k = m (w^2 + g^2) has an uncertainty of its own, which follows from the covariance and the gradient of k.
"""
import argparse
import pathlib

import engine as torch
from engine.optimize import least_squares

MASS = 0.250                                        # kg
NAMES = ("A / m", "g / s^-1", "w / s^-1", "p / rad", "c / m")
TRUTH = (0.080, 0.11, 6.3, 0.4, 0.012)
NOISE = 0.003                                       # m


def place(x, t):
    """Where the weight is at times t, for x = (A, g, w, p, c)."""
    return x[0] * torch.exp(-x[1] * t) * torch.cos(x[2] * t + x[3]) + x[4]


def residuals(x, t, y):
    """Model minus measurement, in units of the camera's error."""
    return (place(x, t) - y) / NOISE


def measure():
    """Times and places, float64, with noise and five misread frames."""
    torch.manual_seed(1)
    t = torch.linspace(0, 10, 120, dtype=torch.float64)
    y = place(torch.tensor(TRUTH, dtype=torch.float64), t) + NOISE * torch.randn(120, dtype=torch.float64)
    y[torch.tensor([9, 33, 51, 78, 101])] += torch.tensor([0.10, -0.08, 0.12, 0.09, 0.11], dtype=torch.float64)
    return t, y


def spring_constant(x):
    """k = m (w^2 + g^2) in N/m."""
    return MASS * (x[2] ** 2 + x[1] ** 2)


def covariance(result):
    """Of the parameters: (J'J)^-1 times the variance of the residuals, as the weighted Jacobian has them."""
    m, n = result.jac.shape
    variance = 2 * result.cost / (m - n)
    return variance * torch.linalg.inv(result.jac.mT @ result.jac)


def fit(t, y, loss):
    """Fit with a loss; prints a table of the parameters with their standard errors. Returns the result."""
    start = torch.tensor([0.1, 0.05, 6.0, 0.0, 0.0], dtype=torch.float64)
    result = least_squares(residuals, start, (t, y), loss=loss, bounds=([0, 0, 0, -3.2, -1], [1, 5, 20, 3.2, 1]))
    spread = covariance(result).diagonal().sqrt()
    print(f"loss {loss}: {result.message} {result.nfev} evaluations, cost {result.cost:.4g}")
    for name, value, error, true in zip(NAMES, result.x.tolist(), spread.tolist(), TRUTH, strict=True):
        print(f"  {name:9} {value:9.5f} +- {error:.5f}   true {true:.5f}, off by {(value - true) / error:+.1f} standard errors")
    slope = torch.func.grad(spring_constant)(result.x)
    error = (slope @ covariance(result) @ slope).sqrt()
    print(f"  k / (N/m) {spring_constant(result.x).item():9.4f} +- {error.item():.4f}   true "
          f"{spring_constant(torch.tensor(TRUTH, dtype=torch.float64)).item():.4f}\n")
    return result


def band(x, t, spread):
    """The standard error of the fitted curve at times t, from the covariance of the parameters."""
    slope = torch.func.jacfwd(place)(x, t)
    return (slope @ spread * slope).sum(1).sqrt()


def draw(t, y, squared, robust, file):
    """Measurements, both curves and the error band of the robust one; says so where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        print("No picture: matplotlib is not installed (pip install matplotlib).")
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    fine = torch.linspace(0, 10, 1000, dtype=torch.float64)
    figure, (above, below) = plt.subplots(2, 1, figsize=(9, 6.5), sharex=True, height_ratios=(3, 1), layout="constrained")
    curve, error = place(robust.x, fine), 2 * band(robust.x, fine, covariance(robust))
    above.fill_between(fine.numpy(), (curve - error).numpy(), (curve + error).numpy(), alpha=0.3, label="two standard errors")
    above.plot(fine.numpy(), curve.numpy(), label="soft_l1 loss")
    above.plot(fine.numpy(), place(squared.x, fine).numpy(), "--", linewidth=1, label="squared loss")
    above.plot(t.numpy(), y.numpy(), "k.", markersize=4, label="measured")
    above.set(ylabel="place / m", title=f"A weight on a spring: k = {spring_constant(robust.x).item():.3f} N/m")
    above.legend(loc="upper right", ncols=2)
    below.axhline(0, color="gray", linewidth=0.8)
    below.plot(t.numpy(), (y - place(robust.x, t)).numpy() * 1e3, "k.", markersize=4)
    below.set(xlabel="time / s", ylabel="residual / mm", ylim=(-15, 15))
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)
    print(f"Picture: {file}")


def main():
    parser = argparse.ArgumentParser(description="Fit a damped oscillation by least squares.")
    parser.add_argument("--quick", action="store_true", help="no picture")
    quick = parser.parse_args().quick
    t, y = measure()
    squared, robust = fit(t, y, "linear"), fit(t, y, "soft_l1")

    by_data = y.detach().requires_grad_(True)               # the solution is differentiable: how does each frame move k?
    k = spring_constant(least_squares(residuals, robust.x, (t, by_data), loss="soft_l1", gtol=1e-12).x)
    k.backward()
    frame = by_data.grad.abs().argmax().item()
    print(f"k depends most on the frame at {t[frame].item():.2f} s: {by_data.grad[frame].item() * 1e-3:+.5f} N/m for each mm")
    if not quick:
        draw(t, y, squared, robust, pathlib.Path(__file__).resolve().parent / "out" / "fit.png")


if __name__ == "__main__":
    main()
