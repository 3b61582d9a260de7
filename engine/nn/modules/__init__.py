"""PyTorch's longer names: `nn.modules.Linear` is `nn.Linear`; `nn.modules.module` has the hooks of all modules."""
from __future__ import annotations

from typing import Any

from . import module


def __getattr__(name: str) -> Any:
    from .. import __all__ as names
    if name not in names:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ... import nn
    return getattr(nn, name)


__all__ = ["module"]
