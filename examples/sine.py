"""An LSTM learns a sine wave, and then goes on by itself.

    python examples/sine.py                 prints the losses and draws what it continues (the picture needs matplotlib)
    python examples/sine.py --quick         few steps, no picture

The network reads a wave point by point and says at each what comes next. After training it gets 50 points of a wave that it has
not seen, and from then on its own predictions. It learns from waves of any phase.
"""
import argparse
import math

from pictures import pyplot, save

import engine as torch
from engine import nn, optim

STEP = 2 * math.pi / 25                     # 25 points make a period


class Wave(nn.Module):
    """An LSTM and a layer that reads the next value off its state."""

    def __init__(self, units=32):
        super().__init__()
        self.lstm = nn.LSTM(1, units, batch_first=True)
        self.out = nn.Linear(units, 1)

    def forward(self, x, state=None):
        """x (batch, time, 1) -> predictions of the same shape, and the state after the last point."""
        hidden, state = self.lstm(x, state)
        return self.out(hidden), state


def waves(count, length):
    """(count, length, 1): waves that begin anywhere."""
    phase = 2 * math.pi * torch.rand(count, 1, 1)
    return torch.sin(phase + STEP * torch.arange(length).reshape(1, length, 1))


def continue_wave(network, beginning, count):
    """`count` points after the beginning, each made from the one before."""
    points = []
    with torch.no_grad():
        predicted, state = network(beginning)
        point = predicted[:, -1:]
        for _ in range(count):
            points.append(point.item())
            point, state = network(point, state)
    return points


def main():
    parser = argparse.ArgumentParser(description="An LSTM that learns a sine wave.")
    parser.add_argument("--quick", action="store_true", help="20 steps instead of 400")
    steps = 20 if parser.parse_args().quick else 400
    torch.manual_seed(0)
    network = Wave()
    optimizer = optim.Adam(network.parameters(), lr=0.01)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses = []
    for step in range(1, steps + 1):
        wave = waves(16, 61)
        predicted, _ = network(wave[:, :-1])
        loss = nn.functional.mse_loss(predicted, wave[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % (steps // 10) == 0:
            print(f"Step {step:4}: loss {loss.item():.6f}")

    truth = waves(1, 200)
    made = continue_wave(network, truth[:, :50], 150)
    error = (torch.tensor(made) - truth[0, 50:, 0]).abs()
    print(f"150 points (six periods) by itself: largest error {error.max().item():.3f}, mean {error.mean().item():.3f}")

    if plt := pyplot():
        figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4), layout="constrained", width_ratios=(1, 2))
        left.semilogy(range(1, steps + 1), losses)
        left.set(xlabel="step", ylabel="mean squared error", title="Learning")
        right.plot(range(200), truth[0, :, 0].numpy(), color="lightgray", linewidth=5, label="the wave")
        right.plot(range(50), truth[0, :50, 0].numpy(), color="black", label="what it was given")
        right.plot(range(50, 200), made, color="orangered", label="what it went on with")
        right.set(xlabel="time", title="An LSTM continues a wave", ylim=(-1.4, 1.6))
        right.legend(ncols=3, loc="upper center")
        save(figure, "sine.png")


if __name__ == "__main__":
    main()
