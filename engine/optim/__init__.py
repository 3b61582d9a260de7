"""Optimizers with PyTorch's names, arguments, update rules and state dicts.

`Optimizer` is the base of all; one file holds one rule. The native minimiser for whole problems is `engine.optimize`.
"""
from .lbfgs import LBFGS
from .optimizer import Optimizer
from .sgd import SGD

__all__ = ["LBFGS", "SGD", "Optimizer"]
