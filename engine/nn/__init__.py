"""Neural networks: modules with parameters, and the functions they call, under PyTorch's names.

`parameter` and `module` are the ground; layers are in files by family (`linear`, ...), plain functions in `functional`.
"""
from . import functional
from .linear import Linear
from .module import Module
from .parameter import Parameter

__all__ = ["Linear", "Module", "Parameter", "functional"]
