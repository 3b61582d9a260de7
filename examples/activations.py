"""Every activation function with its gradient.

    python examples/activations.py          prints a few values and draws all of them (the picture needs matplotlib)
    python examples/activations.py --quick  fewer points and no picture

The gradient is that of the sum of the outputs. Softmax and its kin look at all points at once, so their sum is a constant and its
gradient is 0 but for rounding: drawn for them is the gradient at each point of its own output. GLU multiplies one half of its
input by the sigmoid of the other: drawn for the halves x - 6 and x.
"""
import argparse

from pictures import pyplot, save

import engine as torch
from engine.nn import functional as F

POINTWISE = {
    "relu": F.relu, "hardtanh": F.hardtanh, "relu6": F.relu6, "elu": F.elu, "selu": F.selu, "celu": F.celu,
    "leaky_relu": F.leaky_relu, "prelu (0.25)": lambda x: F.prelu(x, torch.tensor([0.25])), "rrelu": F.rrelu,
    "rrelu (training)": lambda x: F.rrelu(x, training=True), "glu": lambda x: F.glu(torch.stack([x - 6, x]), 0)[0], "gelu": F.gelu,
    "silu": F.silu, "mish": F.mish, "sigmoid": torch.sigmoid, "logsigmoid": F.logsigmoid, "tanh": torch.tanh,
    "hardshrink": F.hardshrink, "tanhshrink": F.tanhshrink, "softshrink": F.softshrink, "softsign": F.softsign,
    "softplus": F.softplus, "hardswish": F.hardswish, "hardsigmoid": F.hardsigmoid,
    "threshold (0.1, 2)": lambda x: F.threshold(x, 0.1, 2.0),
}
TOGETHER = {"softmin": F.softmin, "softmax": F.softmax, "log_softmax": F.log_softmax}


def pointwise(function, x):
    """Values and gradients of a function of each element."""
    y = function(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    return y.detach(), slope


def together(function, x):
    """Values, and the gradient of each by its own input: the diagonal of the Jacobian."""
    y = function(x, 0)
    return y.detach(), torch.func.jacrev(lambda t: function(t, 0))(x.detach()).diagonal()


def main():
    parser = argparse.ArgumentParser(description="Every activation function with its gradient.")
    parser.add_argument("--quick", action="store_true", help="121 points instead of 1201")
    count = 121 if parser.parse_args().quick else 1201
    torch.manual_seed(0)
    x = torch.linspace(-6, 6, count, requires_grad=True)
    curves = {name: pointwise(function, x) for name, function in POINTWISE.items()}
    few = torch.linspace(-6, 6, 121, requires_grad=True)
    curves |= {name: together(function, few) for name, function in TOGETHER.items()}
    print(f"{'':<20}{'f(-2)':>9}{'slope':>9}{'f(1.5)':>9}{'slope':>9}")
    for name, (y, slope) in curves.items():
        at = [round((place + 6) / 12 * (len(y) - 1)) for place in (-2.0, 1.5)]
        print(f"{name:<20}" + "".join(f"{y[k].item():9.4f}{slope[k].item():9.4f}" for k in at))

    if plt := pyplot():
        figure, grid = plt.subplots(4, 7, figsize=(19, 10), sharex=True)
        figure.subplots_adjust(left=0.03, right=0.99, bottom=0.04, top=0.96, hspace=0.2)
        for axes, (name, (y, slope)) in zip(grid.flat, curves.items(), strict=True):
            points = (few if name in TOGETHER else x).detach().numpy()
            axes.axhline(0, color="gray", linewidth=0.5)
            axes.plot(points, y.numpy(), label="value")
            axes.plot(points, slope.numpy(), ".", markersize=1.5, color="darkorange", label="gradient")
            axes.set_title(name)
        grid[0, 0].legend(markerscale=6)
        save(figure, "activations.png")


if __name__ == "__main__":
    main()
