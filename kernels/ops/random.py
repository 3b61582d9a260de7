"""The one operator that random functions need on the tape: a value put where another was, whose gradient is zero.

The numbers themselves come from `kernels.philox` through `kernels.cpu.randoms`; they have no tensor operands.
"""
from __future__ import annotations

from ..book import BOOK, structural


@structural(["x", "value"], function=False, method=False, node="RandomBackward0",
            adjoint=lambda g: (BOOK["zero"](g), None))
def noise(x, value):
    """`value`, drawn at random in the place of x (of its shape)."""
    return value
