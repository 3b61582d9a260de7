"""A small convolutional network reads handwritten digits, trained by `fit`: 97 of 100 and more.

    python examples/convolution.py          25 epochs (needs scikit-learn, for its digits, and matplotlib for the pictures)
    python examples/convolution.py --quick  two epochs, no pictures

The digits are those bundled with scikit-learn, real ones: 1797 images of 8 x 8. Every fifth is held out and looked at once, at the
end; 200 of the others decide when to stop.
"""
import argparse
import tempfile

from pictures import pyplot, save

import engine as torch
from engine import nn, optim
from engine.training import Checkpoint, EarlyStopping, Schedule, evaluate, fit, predict
from engine.utils.data import DataLoader, TensorDataset, random_split
from engine.vision import datasets


def load(train):
    """Images (n, 8, 8) between 0 and 1 and their labels."""
    digits = datasets.Digits(train=train)
    return digits.data.float() / 16, digits.targets


def make_network():
    """Two convolutions, each with ReLU; a pool; two layers."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8)),                        # images (n, 8, 8) get their one channel
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.25),
        nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10))


def main():
    parser = argparse.ArgumentParser(description="A convolutional network on handwritten digits.")
    parser.add_argument("--quick", action="store_true", help="two epochs instead of 25")
    epochs = 2 if parser.parse_args().quick else 25
    try:
        images, labels = load(train=True)
    except ImportError as error:
        print(error)
        return
    torch.manual_seed(0)
    train_set, valid_set = random_split(TensorDataset(images, labels), [len(labels) - 200, 200])
    loader = DataLoader(train_set, batch_size=64, shuffle=True)
    network = make_network()
    optimizer = optim.Adam(network.parameters())
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, epochs=epochs, steps_per_epoch=len(loader))
    with tempfile.TemporaryDirectory() as folder:       # a run of your own keeps its folder, and goes on with resume=True
        history = fit(network, loader, nn.CrossEntropyLoss(), optimizer, epochs,
                      valid=DataLoader(valid_set, batch_size=200), metrics=["accuracy"],
                      callbacks=[Schedule(schedule, each="batch"), EarlyStopping(patience=8), Checkpoint(folder)])
    images, labels = load(train=False)
    judged = evaluate(network, (images, labels), nn.CrossEntropyLoss(), ["accuracy"])
    print(f"Held-out digits: {100 * judged['accuracy']:.2f} % of {len(labels)} are read right, loss {judged['loss']:.4f}")

    probabilities = predict(network, images).softmax(1)
    right = probabilities[torch.arange(len(labels)), labels]
    hardest = right.argsort()[:12].tolist()
    print("The hardest, as (label, read as):", [(labels[k].item(), probabilities[k].argmax().item()) for k in hardest])
    if plt := pyplot():
        save(history.plot(), "convolution.png")
        figure, grid = plt.subplots(2, 6, figsize=(10, 4), layout="constrained")
        for axes, k in zip(grid.flat, hardest, strict=True):
            axes.imshow(images[k].numpy(), cmap="gray_r")
            label, seen, share = labels[k].item(), probabilities[k].argmax().item(), 100 * right[k].item()
            axes.set_title(f"{label}, read as {seen}\n(its own: {share:.0f} %)", fontsize=9)
            axes.axis("off")
        save(figure, "convolution_hardest.png")


if __name__ == "__main__":
    main()
