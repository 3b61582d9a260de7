"""Question: what does training cost, from one update of the parameters to a whole run, in time and in memory?

Updates by themselves: a million parameters in one tensor, and the six small tensors of a 64-128-64-10 network. Whole eager steps
(gradients forgotten, forward, loss, backward, update) of the digits network and of the notebook's MNIST network on random data.
Memory: a process of its own trains the MNIST network and tells the most that it held, in all and beyond its imports. NumPy
and JAX have no optimizers of their own, so they have no column.
"""
import itertools
import tempfile

import numpy as np

from perf.cases.process import launch
from perf.harness import Case, Group

SMALL = [(128, 64), (128,), (64, 128), (64,), (10, 64), (10,)]


def update(name, shapes, **options):
    """A case of `optimizer.step()` on parameters of these shapes, whose gradients stay."""

    def build(xp):
        if not xp.records:
            return None
        rng = np.random.default_rng(0)
        parameters = [xp.array(rng.normal(size=shape).astype(np.float32), requires_grad=True) for shape in shapes]
        for p in parameters:
            p.grad = xp.array(rng.normal(size=tuple(p.shape)).astype(np.float32))
        return getattr(xp.optim, name)(parameters, **options).step

    return build


def step(sizes, batch, **options):
    """A case of one step of SGD on a fully connected network with ReLU and cross entropy."""

    def build(xp):
        if not xp.records:
            return None
        nn, functional, rng = xp.nn, xp.nn.functional, np.random.default_rng(0)

        class Net(nn.Module):
            """The network of the notebook, written as it is there."""

            def __init__(self):
                super().__init__()
                self.fc1, self.fc2, self.fc3 = (nn.Linear(n, m) for n, m in itertools.pairwise(sizes))

            def forward(self, x):
                x = functional.relu(self.fc1(x))
                x = functional.relu(self.fc2(x))
                return self.fc3(x)

        net = Net()
        optimizer = xp.optim.SGD(net.parameters(), **options)
        x, target = xp.array(rng.random((batch, sizes[0]), np.float32)), xp.array(rng.integers(0, sizes[-1], batch))

        def once():
            optimizer.zero_grad()
            functional.cross_entropy(net(x), target).backward()
            optimizer.step()

        return once

    return build


# Forty steps of the notebook's network; prints the most memory held, in MB: in all, and beyond what imports took.
RUN = """
import os, sys
import {module} as torch
import {module}.nn as nn, {module}.nn.functional as F
from {module} import optim
def most():
    if os.path.exists("/proc/self/status"):         # getrusage would tell the peak of the process that started this one
        with open("/proc/self/status") as lines:
            return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(784, 1024), nn.Linear(1024, 512), nn.Linear(512, 10)
    def forward(self, x):
        x = x.view(-1, 784)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))
before = most()
torch.manual_seed(0)
net = Net()
loss_function, optimizer = nn.CrossEntropyLoss(), optim.SGD(net.parameters(), lr=0.01)
images, labels = torch.rand(2048, 1, 28, 28), torch.randint(0, 10, (2048,))
for epoch in range(5):
    for k in range(0, 2048, 256):
        optimizer.zero_grad()
        loss = loss_function(net(images[k:k + 256]), labels[k:k + 256])
        loss.backward()
        optimizer.step()
print(most(), most() - before)
"""


def memory(which):
    """A case of the peak memory of a process that trains: number 0 in all, 1 beyond the imports."""

    def build(xp):
        if not xp.records:
            return None
        folder = tempfile.TemporaryDirectory(prefix="perf-store-", ignore_cleanup_errors=True)

        def measure():
            source = RUN.format(module=xp.name)
            launch(source, folder.name)                     # fills the store of kernels
            return float(launch(source, folder.name).split()[which])

        return measure

    return build


GROUPS = (
    Group("update", "what does one update of the parameters cost?", (
        Case("Adam, 10^6 parameters", update("Adam", [(1000, 1000)]), 0.8, compare=False),
        Case("SGD with momentum, 10^6", update("SGD", [(1000, 1000)], lr=1e-3, momentum=0.9), compare=False),
        Case("RMSprop, 10^6", update("RMSprop", [(1000, 1000)]), compare=False),
        Case("Adam, 6 small tensors", update("Adam", SMALL), compare=False),
        Case("SGD with momentum, 6 small", update("SGD", SMALL, lr=1e-3, momentum=0.9), compare=False),
    )),
    Group("training", "what does one training step cost, eager?", (
        Case("digits 64-128-64-10, batch 64", step((64, 128, 64, 10), 64, lr=0.1, momentum=0.9), 0.9, compare=False),
        Case("MNIST 784-1024-512-10, batch 256", step((784, 1024, 512, 10), 256, lr=0.01), 1.1, compare=False),
    )),
    Group("training memory", "how much memory does a training run of the MNIST network hold at most (MB)?", (
        Case("in all", memory(0), 1.0, kind="value"),
        Case("beyond the imports", memory(1), 1.0, kind="value"),
    )),
)
