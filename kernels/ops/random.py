"""The operators that random functions need on the tape: values put where others were, or made from them, without a gradient.

The numbers themselves come from `kernels.philox` through `kernels.cpu.randoms`; what draws them is in `engine.functions`, and
so are the names that their nodes have.
"""
from __future__ import annotations

from ..book import BOOK, structural


@structural(["x"], function=False, method=False, node="RandomBackward0",
            adjoint=lambda g, x_shape: (_nothing(g, x_shape),))
def noise(x, value):
    """`value`, drawn at random in the place of x or with x as its parameter."""
    return value


@structural(["x", "y"], function=False, method=False, node="NormalBackward3",
            adjoint=lambda g, x_shape, y_shape: (_nothing(g, x_shape), _nothing(g, y_shape)))
def noise_of_two(x, y, value):
    """`value`, drawn at random with x and y as its parameters."""
    return value


def _nothing(g, shape):
    return BOOK["zero"](g) if g.shape == shape else g.new_zeros(shape)
