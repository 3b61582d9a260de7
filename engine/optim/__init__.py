"""Optimizers with PyTorch's names, arguments, update rules and state dicts, and schedules of their learning rates.

`Optimizer` is the base of all, `updating` the step of all but LBFGS; `lr_scheduler` has the schedules. The native minimiser for
whole problems is `engine.optimize`.
"""
from . import lr_scheduler
from .adam import Adam, Adamax, AdamW, NAdam, RAdam
from .adaptive import Adadelta, Adagrad, RMSprop, Rprop
from .lbfgs import LBFGS
from .optimizer import Optimizer
from .sgd import ASGD, SGD

__all__ = ["ASGD", "LBFGS", "SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "Optimizer", "RAdam", "RMSprop",
           "Rprop", "lr_scheduler"]
