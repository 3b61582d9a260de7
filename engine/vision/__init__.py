"""`engine.vision`: the part of torchvision that the documents use. `datasets` are MNIST and its kin, `transforms` prepare images.

Both are imported when first used; nothing here needs torchvision, Pillow or scikit-learn unless a function says so.
"""
from __future__ import annotations

import importlib
from typing import Any

__all__ = ["datasets", "transforms"]


def __getattr__(name: str) -> Any:
    """A submodule, at its first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
