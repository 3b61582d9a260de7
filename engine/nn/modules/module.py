"""Where PyTorch's users find the hooks that run for all modules: `nn.modules.module.register_module_forward_hook(...)`."""
from ..hooks import *  # noqa: F403
from ..hooks import __all__ as _hooks
from ..module import Module

__all__ = ["Module", *_hooks]
