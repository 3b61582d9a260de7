"""Question: what do convolutions and pools cost, forward alone and with their gradients?

The sizes are those of a small image classifier, float32. "step" cases compute the result and the gradients of all operands.
Only the engine and PyTorch have these operators.
"""
from collections.abc import Callable

import numpy as np

from perf.harness import Case, Group


def step(apply: Callable, *shapes: tuple[int, ...]) -> Callable:
    """A case of `apply(functional, *operands)` with the gradients of all operands, for a cotangent of ones."""

    def build(xp):
        if not xp.records:
            return None
        rng = np.random.default_rng(0)
        xs = [xp.array((0.1 * rng.normal(size=s)).astype("f4"), requires_grad=True) for s in shapes]
        f, grad = xp.nn.functional, xp.autograd.grad
        ones = xp.ones(apply(f, *xs).shape)
        return lambda: grad(apply(f, *xs), xs, ones)

    return build


def forward(apply: Callable, *shapes: tuple[int, ...]) -> Callable:
    """A case of `apply(functional, *operands)` alone."""

    def build(xp):
        if not xp.records:
            return None
        rng = np.random.default_rng(0)
        xs = [xp.array((0.1 * rng.normal(size=s)).astype("f4")) for s in shapes]
        f = xp.nn.functional
        return lambda: apply(f, *xs)

    return build


LAYER = (32, 32, 28, 28), (64, 32, 3, 3), (64,)
FIRST = (64, 1, 28, 28), (16, 1, 5, 5), (16,)
DEPTH = (16, 64, 28, 28), (64, 1, 3, 3), (64,)
SMALL = (32, 256, 7, 7), (256, 256, 3, 3), (256,)
IMAGE = (32, 64, 28, 28)


def padded(f, x, w, b):
    return f.conv2d(x, w, b, padding=1)


def halved(f, x, w, b):
    return f.conv2d(x, w, b, stride=2, padding=1)


def depthwise(f, x, w, b):
    return f.conv2d(x, w, b, padding=1, groups=64)


def first(f, x, w, b):
    return f.conv2d(x, w, b)


GROUPS = (
    Group("convolution", "what do convolutions cost in float32, forward and with gradients?", (
        Case("conv2d 3x3 32 to 64 step", step(padded, *LAYER), 2.0),
        Case("conv2d 3x3 32 to 64", forward(padded, *LAYER), 2.0),
        Case("conv2d 3x3 stride 2 step", step(halved, *LAYER)),
        Case("conv2d 5x5 1 to 16 step", step(first, *FIRST)),
        Case("conv2d 5x5 1 to 16", forward(first, *FIRST)),
        Case("conv2d 3x3 depthwise step", step(depthwise, *DEPTH)),
        Case("conv2d 3x3 256 to 256 of 7x7 step", step(padded, *SMALL)),
    )),
    Group("pools", "what do pools of 32 x 64 x 28 x 28 cost with gradients?", (
        Case("max_pool2d 2 step", step(lambda f, x: f.max_pool2d(x, 2), IMAGE)),
        Case("max_pool2d 2", forward(lambda f, x: f.max_pool2d(x, 2), IMAGE)),
        Case("max_pool2d 3 stride 2 step", step(lambda f, x: f.max_pool2d(x, 3, 2, 1), IMAGE)),
        Case("avg_pool2d 2 step", step(lambda f, x: f.avg_pool2d(x, 2), IMAGE)),
        Case("avg_pool2d 2", forward(lambda f, x: f.avg_pool2d(x, 2), IMAGE)),
        Case("adaptive_avg_pool2d 7 step", step(lambda f, x: f.adaptive_avg_pool2d(x, 7), IMAGE)),
    )),
)
