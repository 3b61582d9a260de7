"""Automatic differentiation, as PyTorch's `torch.autograd` names it.

What lives here: the public names. The tape is `engine.tape`, the reverse walk `engine.walk`; grad modes, custom functions
and the finite-difference checks are the files beside this one.
"""
from ..tensor import Tensor as Variable
from ..walk import backward, grad
from . import function, graph, modes
from .function import Function
from .gradcheck import GradcheckError, gradcheck, gradgradcheck
from .modes import (
    detect_anomaly,
    enable_grad,
    inference_mode,
    is_anomaly_check_nan_enabled,
    is_anomaly_enabled,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_detect_anomaly,
    set_grad_enabled,
)


def __getattr__(name: str):
    """`functional` and `forward_ad`, imported when first used."""
    if name in ("functional", "forward_ad"):
        import importlib
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["Function", "GradcheckError", "Variable", "backward", "detect_anomaly", "enable_grad", "forward_ad", "function",
           "functional", "grad", "gradcheck", "gradgradcheck", "graph", "inference_mode", "is_anomaly_check_nan_enabled",
           "is_anomaly_enabled", "is_grad_enabled", "is_inference_mode_enabled", "modes", "no_grad", "set_detect_anomaly",
           "set_grad_enabled"]
