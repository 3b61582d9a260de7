"""Neural networks: modules with parameters, and the functions they call, under PyTorch's names.

`parameter` and `module` are the ground; layers are in files by family, each with its `__all__`; plain functions in `functional`.
"""
from . import functional, linear
from .linear import *  # noqa: F403
from .module import Module
from .parameter import Parameter

__all__ = [
    "Module", "Parameter", "functional",
    *linear.__all__,
]
