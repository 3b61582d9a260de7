"""Functions of neural networks without state: what modules call, and what users call directly, under PyTorch's names.

One file a family (`linear`, `activation`, `loss`, ...), each with its `__all__`; this file publishes them.
"""
from .linear import *  # noqa: F403
