"""What PyTorch keeps under `utils`: `engine.utils.data` has data sets, samplers and the DataLoader. Imported at its first use."""
from __future__ import annotations

import importlib
from typing import Any

_LATER = ("data",)


def __getattr__(name: str) -> Any:
    """A submodule at its first use."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
