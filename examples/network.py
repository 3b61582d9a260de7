"""A small network for regression, three times: from tensors alone, with modules, and with `fit`.

    python examples/network.py              prints the losses and draws them (the picture needs matplotlib)
    python examples/network.py --quick      20 epochs instead of 200, no picture

The data: y = 0.2 x1 - 1.3 x2 - 0.5 x3 + noise of variance 1, 100 times. The network: 3 inputs, 32 hidden units with ReLU, one
output. First everything is done by hand, at learning rate 1e-4; then modules hold the parameters and an optimizer updates them;
then the whole loop is one call. The modules begin with smaller weights, and so with a smaller loss.
"""
import argparse

from pictures import pyplot, save

import engine as torch
from engine import nn, optim
from engine.nn import functional as F
from engine.training import fit


def make_data(n=100):
    """n points of three features, and what is to be predicted."""
    x = torch.randn(n, 3)
    coefficients = torch.tensor([0.2, -1.3, -0.5])
    return x, x.matmul(coefficients).unsqueeze(1) + torch.randn(n, 1)


def log(epoch, loss, losses):
    losses.append(loss.item())
    if epoch % 10 == 0:
        print(f"Epoch: {epoch:4}    Loss: {loss.item():.5f}")


def from_scratch(x, y, epochs, learning_rate=1e-4):
    """Two matrices and two biases, and gradients taken from them by hand."""
    w1 = torch.randn(3, 32, requires_grad=True)
    b1 = torch.zeros(1, 32, requires_grad=True)
    w2 = torch.randn(32, 1, requires_grad=True)
    b2 = torch.zeros(1, 1, requires_grad=True)
    losses = []
    for epoch in range(1, epochs + 1):
        predicted = x.mm(w1).add(b1).relu().mm(w2).add(b2)
        loss = (predicted - y).pow(2).mean()
        log(epoch, loss, losses)
        loss.backward()
        with torch.no_grad():               # the update is no part of the network
            for p in (w1, b1, w2, b2):
                p.sub_(learning_rate * p.grad)
                p.grad.zero_()              # gradients accumulate until they are cleared
    return losses


def make_network():
    return nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 1))


def with_modules(x, y, epochs):
    """Modules for the layers, a function for the loss, Adam for the updates."""
    network = make_network()
    optimizer = optim.Adam(network.parameters())
    losses = []
    for epoch in range(1, epochs + 1):
        loss = F.mse_loss(network(x), y)
        log(epoch, loss, losses)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


def with_fit(x, y, epochs):
    """The same in one call, which gives a history of the losses."""
    network = make_network()
    history = fit(network, (x, y), nn.MSELoss(), optim.Adam(network.parameters()), epochs, metrics=["mae"], verbose=False)
    print(history)
    return history["loss"]


def main():
    parser = argparse.ArgumentParser(description="A network for regression, from scratch, with modules and with fit.")
    parser.add_argument("--quick", action="store_true", help="20 epochs instead of 200")
    epochs = 20 if parser.parse_args().quick else 200
    torch.manual_seed(1)
    x, y = make_data()
    runs = {}
    for name, train in (("from scratch, rate 1e-4", from_scratch), ("modules and Adam", with_modules), ("fit", with_fit)):
        print(f"\n{name}")
        torch.manual_seed(2)
        runs[name] = train(x, y, epochs)
    print("\nThe loop by hand and fit gave the same losses:", runs["modules and Adam"] == runs["fit"])

    if plt := pyplot():
        figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
        for (name, losses), style in zip(runs.items(), ("-", "-", "--"), strict=True):
            axes.plot(range(1, epochs + 1), losses, style, label=name)
        axes.axhline(1, color="gray", linewidth=0.8, linestyle=":", label="variance of the noise")
        axes.set(xlabel="epoch", ylabel="mean squared error", yscale="log", title="A network for regression")
        axes.legend()
        save(figure, "network.png")


if __name__ == "__main__":
    main()
