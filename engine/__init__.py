"""A JIT-compiled tensor engine with PyTorch's interface, whose every operator is a Numba kernel.

    import engine as torch

This file is the one public list of names: those that functions publish through `functions.registry`, and those below.
Importing it compiles nothing and imports neither Numba nor LLVM; submodules named in `_LATER` are imported when first
used.
"""
from __future__ import annotations

import importlib

import kernels.ops  # noqa: F401  (fills the book)

from . import dispatch, dtypes, functions, random, tape
from .devices import device, get_default_device, set_default_device
from .dtypes import (
    can_cast,
    dtype,
    finfo,
    get_default_dtype,
    iinfo,
    promote_types,
    set_default_dtype,
    set_default_tensor_type,
)
from .functions.registry import PUBLIC
from .printing import set_printoptions
from .random import Generator, default_generator, fork_rng, get_rng_state, initial_seed, manual_seed, seed, set_rng_state
from .tensor import Size, Tensor

__version__ = "0.1.0"

globals().update(dtypes.PUBLIC)
globals().update(PUBLIC)

strided = "strided"             # the only layout, a name; memory formats are in `functions.memory_format`

_SUBMODULES = ("autograd", "compiler", "cuda", "fft", "func", "library", "linalg", "nn", "optim", "optimize", "special", "testing",
               "training", "utils", "vision", "viz")
_LATER = {name: f"{__name__}.{name}" for name in _SUBMODULES}
_FROM_AUTOGRAD = ("enable_grad", "inference_mode", "is_anomaly_check_nan_enabled", "is_anomaly_enabled", "is_grad_enabled",
                  "is_inference_mode_enabled", "no_grad", "set_grad_enabled")
_FROM_FUNCTIONAL = ("adaptive_avg_pool1d", "adaptive_max_pool1d", "avg_pool1d", "conv1d", "conv2d", "conv3d", "conv_transpose1d",
                    "conv_transpose2d", "conv_transpose3d", "max_pool1d", "max_pool1d_with_indices", "max_pool2d", "max_pool3d")

__all__ = [
    "Generator", "Size", "Tensor", "can_cast", "default_generator", "device", "dispatch", "dtype", "dtypes", "finfo",
    "fork_rng",
    "functions", "get_default_device", "get_default_dtype", "get_rng_state", "iinfo", "initial_seed", "manual_seed",
    "promote_types", "random", "seed", "set_default_device", "set_default_dtype", "set_default_tensor_type",
    "set_printoptions", "set_rng_state", "tape",
    *_FROM_AUTOGRAD, *_FROM_FUNCTIONAL, *PUBLIC, *dtypes.PUBLIC,
]


def __getattr__(name: str):
    """A submodule, or a name of `engine.autograd` or `engine.nn.functional`, at its first use."""
    if name in _FROM_AUTOGRAD:
        found = getattr(importlib.import_module(f"{__name__}.autograd"), name)
    elif name == "compile":
        found = importlib.import_module(f"{__name__}.compiler").compile
    elif name in ("elementwise", "reduction", "stencil"):
        found = getattr(importlib.import_module(f"{__name__}.written.{name}"), name)
    elif name == "OutOfMemoryError":
        found = importlib.import_module("kernels.cuda.driver").OutOfMemoryError
    elif name in ("load", "save"):
        found = getattr(importlib.import_module(f"{__name__}.serialization"), name)
    elif name in _FROM_FUNCTIONAL:
        found = getattr(importlib.import_module(f"{__name__}.nn.functional"), name)
    elif name in _LATER:
        try:
            found = importlib.import_module(_LATER[name])
        except ModuleNotFoundError as error:
            if error.name != _LATER[name]:
                raise
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})
