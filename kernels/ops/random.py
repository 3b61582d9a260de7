"""The operators that random functions need on the tape: values put where others were, or made from them, without a gradient.

The numbers themselves come from `kernels.philox` through `kernels.cpu.randoms`; what draws them is in `engine.functions`, and
so are the names that their nodes have.
"""
from __future__ import annotations

import numpy as np

from ..book import BOOK, structural


@structural(["x"], anywhere=True, function=False, method=False, node="RandomBackward0",
            adjoint=lambda g, x_shape: (_nothing(g, x_shape),))
def noise(x, value):
    """`value`, drawn at random in the place of x or with x as its parameter."""
    return value


@structural(["x", "y"], anywhere=True, function=False, method=False, node="NormalBackward3",
            adjoint=lambda g, x_shape, y_shape: (_nothing(g, x_shape), _nothing(g, y_shape)))
def noise_of_two(x, y, value):
    """`value`, drawn at random with x and y as its parameters."""
    return value


@structural(["words"], function=False, method=False)
def permutation(words):
    """The integers below n in the order that n random 64-bit words give them."""
    from ..cpu import randoms
    return randoms.permute(words.view(np.uint64))


@structural(["weights", "numbers"], function=False, method=False)
def choice(weights, numbers, count, replacement):
    """Indices drawn in proportion to weights (..., c), float64; see `kernels.cpu.randoms.choose`."""
    from ..cpu import randoms
    return randoms.choose(weights, count, numbers, replacement)


@structural(["rates", "words"], function=False, method=False)
def poisson_numbers(rates, words):
    """Poisson numbers with these rates; `words` are key and number of the first block."""
    from ..cpu import copies, randoms
    return randoms.poisson(copies.copy(rates), words)


def _nothing(g, shape):
    return BOOK["zero"](g) if g.shape == shape else g.new_zeros(shape)
