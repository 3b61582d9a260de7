"""Question: what do softmax and cross entropy cost, forward and backward, for small and for larger batches?

float32, 256 x 1000 and the 64 x 10 of a small network, where calls are most of it. NumPy and JAX record nothing: no column.
"""
import numpy as np

from perf.harness import Case, Group


def scores(xp, n, classes):
    """Random scores that require a gradient, and classes."""
    rng = np.random.default_rng(0)
    x = xp.array(rng.standard_normal((n, classes)).astype(np.float32), requires_grad=True)
    return x, xp.array(rng.integers(0, classes, n))


def cross_entropy(n, classes):
    """A case of the loss of class indices and its gradient."""

    def build(xp):
        if not xp.records:
            return None
        (x, target), loss = scores(xp, n, classes), xp.nn.CrossEntropyLoss()

        def once():
            x.grad = None
            loss(x, target).backward()
            return x.grad

        return once

    return build


def softmax(n, classes):
    """A case of softmax along the rows and its gradient."""

    def build(xp):
        if not xp.records:
            return None
        x, _ = scores(xp, n, classes)
        cotangent = xp.array(np.random.default_rng(1).standard_normal((n, classes)).astype(np.float32))

        def once():
            x.grad = None
            x.softmax(1).backward(cotangent)
            return x.grad

        return once

    return build


GROUPS = (
    Group("classify", "what do softmax and cross entropy cost, forward and backward?",
          (Case("softmax 256 x 1000", softmax(256, 1000), 1.0), Case("cross entropy 256 x 1000", cross_entropy(256, 1000), 1.0),
           Case("cross entropy 64 x 10", cross_entropy(64, 10), 1.0))),
)
