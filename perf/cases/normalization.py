"""Question: what do normalisation, dropout and embedding cost with their gradients, float32?

A sample is one forward and one backward pass for a given cotangent; only the engine and PyTorch have these functions.
"""
import numpy as np

from perf.harness import Case, Group


def both_ways(apply, *shapes, rows=0):
    """A case of `apply(functional, *operands)` and the gradients of all operands; with `rows`, indices below it come first."""

    def build(xp):
        if not xp.records:
            return None
        rng = np.random.default_rng(0)
        operands = [xp.array(rng.standard_normal(shape).astype(np.float32), True) for shape in shapes]
        indices = [xp.array(rng.integers(0, rows, 4096))] if rows else []
        f, grad = xp.nn.functional, xp.autograd.grad
        result = apply(f, *indices, *operands)
        cotangent = xp.array(rng.standard_normal(tuple(result.shape)).astype(np.float32))
        return lambda: grad(apply(f, *indices, *operands), operands, cotangent)[0]

    return build


def layer_norm(f, x, w, b):
    """The last dimension normalised."""
    return f.layer_norm(x, x.shape[-1:], w, b)


def batch_norm(f, x, w, b):
    """Channels normalised, without running statistics."""
    return f.batch_norm(x, None, None, w, b, True)


GROUPS = (
    Group("norm", "what do normalisation, dropout and embedding cost, forward and backward?", (
        Case("layer norm 256 x 1000", both_ways(layer_norm, (256, 1000), (1000,), (1000,)), 1.0),
        Case("batch norm 32 x 64 x 28 x 28", both_ways(batch_norm, (32, 64, 28, 28), (64,), (64,))),
        Case("batch norm 256 x 512", both_ways(batch_norm, (256, 512), (512,), (512,))),
        Case("dropout 10^6", both_ways(lambda f, x: f.dropout(x, 0.5), (10**6,)), compare=False),
        Case("embedding 1000 x 64, 4096 indices", both_ways(lambda f, i, w: f.embedding(i, w), (1000, 64), rows=1000)),
        Case("bilinear 8 x 16 x 64 x 64, doubled", both_ways(
            lambda f, x: f.interpolate(x, scale_factor=2, mode="bilinear"), (8, 16, 64, 64))),
    )),
)
