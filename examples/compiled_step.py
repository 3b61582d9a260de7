"""A training step beside its compiled self: the same numbers, and how long each takes.

    python examples/compiled_step.py           needs nothing beyond the engine
    python examples/compiled_step.py --quick   a few steps

The step reads a batch of 64 images of 8 x 8, finds the loss of a network of three layers, its gradients, and updates the weights
with momentum. `engine.compile` traces it once and makes one program of all that, backward and update included.
"""
import argparse
import statistics
import time

import engine as torch
from engine import nn, optim
from engine.nn import functional as F


def make_step():
    """A network, and a function that trains it on one batch."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9)

    def step(x, t):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), t)
        loss.backward()
        optimizer.step()
        return loss
    return net, step


def microseconds(step, x, t, times):
    """The median time of a step."""
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        step(x, t)
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken) * 1e6


def main():
    parser = argparse.ArgumentParser(description="A training step, eager and compiled.")
    parser.add_argument("--quick", action="store_true", help="20 steps instead of 500")
    times = 20 if parser.parse_args().quick else 500
    x, t = torch.rand(64, 64), torch.randint(0, 10, (64,))
    eager_net, eager = make_step()
    compiled_net, step = make_step()
    compiled = torch.compile(step)

    begin = time.perf_counter()
    compiled(x, t)
    print(f"First compiled call: {time.perf_counter() - begin:.2f} s (tracing; kernels come from the store, if it has them)")
    eager(x, t)
    pairs = [(eager(x, t).item(), compiled(x, t).item()) for _ in range(10)]
    print("Losses, eager and compiled:")
    for pair in pairs[::3]:
        print("    {:.6f}  {:.6f}".format(*pair))
    apart = max((a - b).abs().max().item() for a, b in zip(eager_net.parameters(), compiled_net.parameters(), strict=True))
    print(f"Largest difference between the weights of both networks after 11 steps: {apart:.2g}")

    slow, fast = microseconds(eager, x, t, times), microseconds(compiled, x, t, times)
    print(f"\nOne step: eager {slow:.0f} us, compiled {fast:.0f} us, {slow / fast:.1f} times as fast")
    print(compiled.cache_info())
    lines = compiled.source().splitlines()
    print(f"\nThe generated program has {len(lines)} lines; it begins")
    print("\n".join("    " + line[:120] for line in lines[:40]))


if __name__ == "__main__":
    main()
