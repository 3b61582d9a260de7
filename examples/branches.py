"""Loops and branches on data under engine.compile.

    python examples/branches.py             needs nothing beyond the engine
    python examples/branches.py --quick     changes little: there is little to shorten

Python's `if` and `while` may look at values of tensors. A trace follows the path that this call takes, and the compiled program
checks that later calls take the same one; where one does not, the other path is traced, once, and kept beside the first.
"""
import argparse
import time

import engine as torch


@torch.compile
def huber(x, delta=1.0):
    """Quadratic where x is small, linear where it is large: a branch on the data."""
    if x.abs() <= delta:
        return x ** 2 / 2
    return delta * (x.abs() - delta / 2)


@torch.compile
def doubled(x, limit):
    """x * 2 until its norm is at least `limit`: a loop whose length depends on the data."""
    y = x * 2
    while y.norm() < limit:
        y = y * 2
    return y


def root(a, tolerance=1e-12):
    """The square root of a number by Newton's iteration; gradients flow through the steps that were made."""
    x = a
    while (x * x - a).abs() > tolerance * a:
        x = (x + a / x) / 2
    return x


def main():
    parser = argparse.ArgumentParser(description="Loops and branches on data under engine.compile.")
    parser.add_argument("--quick", action="store_true", help="100 timed calls instead of 2000")
    times = 100 if parser.parse_args().quick else 2000

    print("Branch: Huber's loss and its slope")
    for value in (0.5, 3.0, -2.0, -0.25):
        x = torch.tensor(value, requires_grad=True)
        y = huber(x)
        y.backward()
        print(f"    x {value:5}: {y.item():.4f}, slope {x.grad.item():5.2f}    {huber.cache_info()}")

    print("Loop: doubling a vector until it is long")
    x = torch.tensor([-0.2202, -1.7402, -0.1914], requires_grad=True)
    for limit in (1000, 10, 1000):
        y = doubled(x, limit)
        (slope,) = torch.autograd.grad(y.sum(), x)
        rounded = [round(v, 2) for v in y.tolist()]
        print(f"    norm at least {limit:4}: {rounded}, slope {slope[0].item():g}    {doubled.cache_info()}")

    print("Newton's iteration for square roots, and its derivative 1 / (2 sqrt(a))")
    compiled = torch.compile(root)
    for value in (2.0, 3.0, 100.0):
        a = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        r = compiled(a)
        (slope,) = torch.autograd.grad(r, a)
        print(f"    sqrt({value:g}) = {r.item():.15f}, slope {slope.item():.12f}, exact {0.5 / value ** 0.5:.12f}")

    a = torch.tensor(2.0, dtype=torch.float64)
    for name, function in (("eager", root), ("compiled", compiled)):
        function(a)
        begin = time.perf_counter()
        for _ in range(times):
            function(a)
        print(f"    {name:<9} {(time.perf_counter() - begin) / times * 1e6:6.1f} us a call")


if __name__ == "__main__":
    main()
