"""One script for CPU and GPU: the notebook's network, a kernel of one's own, many minimisations at once, what the device holds.

    python examples/gpu.py                  on cuda where there is a GPU, else on the CPU
    python examples/gpu.py --quick          a few steps
    ENGINE_CUDA=emulate python examples/gpu.py --quick      on a device that the CPU imitates, every access checked

A GPU needs its driver and `pip install "njit-engine[cuda]"`, nothing else: kernels are compiled from Python.
"""
import argparse
import math
import time

import engine as torch
from engine import nn


@torch.elementwise
def damped(t, rate, frequency):
    """A damped oscillation: plain Python, on any device, with derivatives."""
    return math.exp(-rate * t) * math.cos(frequency * t)


def train(device, steps):
    """The notebook's regression: y = 1 + 0.2 x1 - 1.3 x2 - 0.5 x3 with noise, by a network of one hidden layer."""
    torch.manual_seed(0)
    x = torch.randn(100, 3)
    y = (x @ torch.tensor([[0.2], [-1.3], [-0.5]]) + 1 + 0.1 * torch.randn(100, 1)).to(device)
    x = x.to(device)
    model = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 1)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for step in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        if step in (0, steps - 1):
            print(f"    step {step + 1:4}: loss {loss.item():.4f}")


def fit(device, steps):
    """Rate and frequency of an oscillation found by descent, through the kernel's own derivatives."""
    t = torch.linspace(0, 3, 200, device=device)
    seen = damped(t, 0.5, 4.0)
    guess = torch.tensor([0.3, 3.7], device=device, requires_grad=True)
    optimizer = torch.optim.Adam([guess], lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = ((damped(t, guess[0], guess[1]) - seen) ** 2).mean()
        loss.backward()
        optimizer.step()
    print(f"    rate and frequency {[round(v, 3) for v in guess.tolist()]}, loss {loss.item():.2e} (sought: 0.5, 4.0)")


def rosenbrock(x):
    """The valley, lowest at (1, 1)."""
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def minimise(device, starts):
    """Every start is a problem of its own: on a GPU one thread each, all in one kernel."""
    torch.manual_seed(0)
    x0 = 4 * torch.rand(starts, 2, dtype=torch.float64, device=device) - 2
    torch.optimize.minimize(rosenbrock, x0[:1], batch_dims=1)          # compiled once
    began = time.perf_counter()
    found = torch.optimize.minimize(rosenbrock, x0, batch_dims=1)
    seconds = time.perf_counter() - began
    reached = ((found.x - 1).abs() < 1e-3).all(1).sum().item()
    print(f"    {starts:,} starts: {reached:,} ended at (1, 1) after {found.nit.min().item()} to {found.nit.max().item()} "
          f"iterations, {seconds / starts * 1e6:.2f} us each")


def main():
    parser = argparse.ArgumentParser(description="A network, a kernel of one's own and many minimisations on CPU or GPU.")
    parser.add_argument("--quick", action="store_true", help="3 steps instead of 300")
    steps = 3 if parser.parse_args().quick else 300

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"Device: {torch.cuda.get_device_name() if device.type == 'cuda' else 'cpu (no NVIDIA driver here)'}")
    began = time.perf_counter()
    print("A network with one hidden layer")
    train(device, steps)
    print("A kernel of one's own, fitted")
    fit(device, steps)
    print("Rosenbrock's function from many starts")
    minimise(device, 10 if steps == 3 else 10**6 if device.type == "cuda" else 10**5)
    if device.type == "cuda":
        torch.cuda.synchronize()
        print(f"Most memory held by tensors: {torch.cuda.max_memory_allocated():,} bytes")
    print(f"{time.perf_counter() - began:.1f} s, compiling included")


if __name__ == "__main__":
    main()
