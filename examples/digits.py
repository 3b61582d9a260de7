"""A fully connected network reads handwritten digits: its losses and its accuracy.

    python examples/digits.py                   scikit-learn's bundled digits (needs scikit-learn; matplotlib for the picture)
    python examples/digits.py --data FOLDER     MNIST, from the published files in FOLDER/MNIST/raw (70,000 images of 28 x 28)
    python examples/digits.py --quick           two epochs of the bundled digits, no picture

The bundled digits are real ones, 1797 images of 8 x 8; every fifth is held out. The loop is written out, as in the tutorials;
`examples/convolution.py` leaves it to `fit`.
"""
import argparse

from pictures import pyplot, save

import engine as torch
from engine import nn, optim
from engine.nn import functional as F
from engine.utils.data import DataLoader
from engine.vision import datasets, transforms


def load(folder):
    """(training set, held-out set): MNIST from a folder, or the bundled digits."""
    if folder:
        return [datasets.MNIST(folder, train=train, transform=transforms.ToTensor()) for train in (True, False)]
    return [datasets.Digits(train=train) for train in (True, False)]


class Net(nn.Module):
    """Three layers with ReLU between them."""

    def __init__(self, pixels, hidden1, hidden2):
        super().__init__()
        self.fc1 = nn.Linear(pixels, hidden1)
        self.fc2 = nn.Linear(hidden1, hidden2)
        self.fc3 = nn.Linear(hidden2, 10)

    def forward(self, x):
        x = x.view(-1, self.fc1.in_features)    # a batch of images as a batch of rows
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


def train(net, train_loader, test_loader, epochs):
    """The mean training and held-out loss of each epoch."""
    loss_fnc = nn.CrossEntropyLoss()
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    losses, test_losses = [], []
    for epoch in range(epochs):
        net.train()
        total = 0
        for x, t in train_loader:
            loss = loss_fnc(net(x), t)
            total += loss.item()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(total / len(train_loader))
        net.eval()
        with torch.no_grad():
            test_losses.append(sum(loss_fnc(net(x), t).item() for x, t in test_loader) / len(test_loader))
        print(f"Epoch: {epoch:2}  Loss_Train: {losses[-1]:.4f}  Loss_Test: {test_losses[-1]:.4f}")
    return losses, test_losses


def accuracy(net, loader):
    """The share of images that are read right."""
    net.eval()
    correct = total = 0
    with torch.no_grad():
        for x, t in loader:
            correct += (net(x).argmax(1) == t).sum().item()
            total += len(x)
    return correct / total


def main():
    parser = argparse.ArgumentParser(description="A fully connected network on handwritten digits.")
    parser.add_argument("--data", metavar="FOLDER", help="read MNIST from here instead of scikit-learn's bundled digits")
    parser.add_argument("--quick", action="store_true", help="two epochs")
    options = parser.parse_args()
    try:
        train_set, test_set = load(options.data)
    except (ImportError, RuntimeError) as error:    # no scikit-learn, no files
        print(error)
        return
    print(f"{'MNIST' if options.data else 'The digits bundled with scikit-learn'}: {len(train_set)} images to learn from, "
          f"{len(test_set)} held out")
    torch.manual_seed(0)
    train_loader = DataLoader(train_set, batch_size=256 if options.data else 32, shuffle=True)
    test_loader = DataLoader(test_set, batch_size=len(test_set), shuffle=False)
    net = Net(784, 1024, 512) if options.data else Net(64, 128, 64)
    print(net)
    epochs = 2 if options.quick else 5 if options.data else 20
    losses, test_losses = train(net, train_loader, test_loader, epochs)
    share = accuracy(net, test_loader)
    print(f"Accuracy on held-out digits: {100 * share:.2f} %")

    if plt := pyplot():
        figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
        axes.plot(range(epochs), losses, "o-", label="Train")
        axes.plot(range(epochs), test_losses, "o-", label="Test")
        axes.set(xlabel="Epochs", ylabel="Error", title=f"Digits: {100 * share:.2f} % of the held-out ones are read right")
        axes.legend()
        save(figure, "digits.png")


if __name__ == "__main__":
    main()
