"""Helpers around parameters: clipping gradients, parameters as one vector, reparametrizations; `rnn` has packed sequences.

`parametrize` is the general way to compute a parameter from others, `parametrizations` has the ready ones.
"""
from __future__ import annotations

import importlib
from typing import Any

from .clip_grad import clip_grad_norm, clip_grad_norm_, clip_grad_value_, clip_grads_with_norm_, get_total_norm
from .convert_parameters import parameters_to_vector, vector_to_parameters
from .spectral_norm import remove_spectral_norm, spectral_norm
from .weight_norm import remove_weight_norm, weight_norm

_LATER = ("parametrizations", "parametrize", "rnn")


def __getattr__(name: str) -> Any:
    """A submodule at its first use."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")


__all__ = [
    "clip_grad_norm", "clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm", "parameters_to_vector",
    "remove_spectral_norm", "remove_weight_norm", "spectral_norm", "vector_to_parameters", "weight_norm",
]
