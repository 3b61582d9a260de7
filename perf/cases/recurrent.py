"""Question: what do recurrent layers and attention cost with their gradients, float32?

A sample is one forward and one backward pass for all weights; only the engine and PyTorch have these modules.
"""
import numpy as np

from perf.harness import Case, Group


def trained(name, *sizes, shape, apply=lambda module, x: module(x)[0]):
    """A case of `nn.<name>(*sizes)` on an input of a shape, and the gradients of all weights."""

    def build(xp):
        if not xp.records:
            return None
        module = getattr(xp.nn, name)(*sizes)
        x = xp.array(np.random.default_rng(0).standard_normal(shape).astype(np.float32))
        weights = list(module.parameters())
        return lambda: xp.autograd.grad(apply(module, x).sum(), weights)[0]

    return build


def attended(module, x):
    """Self-attention without its weights."""
    return module(x, x, x, need_weights=False)[0]


GROUPS = (
    Group("recurrent", "what do recurrent layers and attention cost, forward and backward?", (
        Case("LSTM 64 to 128, 50 steps of 32", trained("LSTM", 64, 128, shape=(50, 32, 64)), compare=False),
        Case("GRU 64 to 128, 50 steps of 32", trained("GRU", 64, 128, shape=(50, 32, 64)), compare=False),
        Case("attention of 8 heads, 128 features, 50 x 32", trained("MultiheadAttention", 128, 8, shape=(50, 32, 128),
                                                                    apply=attended), compare=False),
    )),
)
