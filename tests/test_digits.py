"""Networks from end to end on real data: scikit-learn's bundled digits, trained and judged on held-out ones."""
import numpy as np
import pytest

import engine as torch
from engine import nn, optim
from engine.nn import functional as F
from engine.utils.data import DataLoader, TensorDataset

datasets = pytest.importorskip("sklearn.datasets")
HELD_OUT = 360


def split():
    """(training images and labels, held-out images and labels), shuffled once: the writers of the data set come in order."""
    digits = datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    x = torch.from_numpy((digits.images[order, None] / 16).astype("float32"))
    t = torch.from_numpy(digits.target[order].astype("int64"))
    return x[HELD_OUT:], t[HELD_OUT:], x[:HELD_OUT], t[:HELD_OUT]


class Convolutional(nn.Module):
    """Two convolutions with batch norm, a pool, two layers."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
                                      nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2))
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.25), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, x):
        return self.head(self.features(x))


def test_convolutions_read_98_of_100_held_out_digits():
    torch.manual_seed(0)
    x, t, held_out, expected = split()
    loader = DataLoader(TensorDataset(x, t), batch_size=64, shuffle=True)
    model = Convolutional()
    optimizer = optim.Adam(model.parameters(), lr=2e-3)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, epochs=12, steps_per_epoch=len(loader))
    for _ in range(12):
        model.train()
        for xb, tb in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(xb), tb).backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        right = (model(held_out).argmax(1) == expected).float().mean().item()
    assert right >= 0.98


def test_training_repeats_from_a_seed():
    x, t, _, _ = split()

    def run():
        torch.manual_seed(7)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 10))
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for xb, tb in DataLoader(TensorDataset(x[:512], t[:512]), batch_size=64, shuffle=True):
            loss = F.cross_entropy(model(xb), tb)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.item(), model[1].weight.tolist()
    assert run() == run()
