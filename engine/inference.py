"""Inference tensors: made inside `inference_mode`, outside of it never saved for backward and never written.

Off, this costs nothing. While a thread is inside the mode, the name `new` of every room of the engine that makes tensors (each
has `new = object.__new__`) is one that marks what the thread makes; and from its first use on, nodes check what they save (see
`engine.saved.watch`). A view is an inference tensor if its base is one.
"""
from __future__ import annotations

import sys
import threading

from . import tape
from .errors import GradError
from .tape import modes
from .tensor import Tensor

_SAVED = ("Inference tensors cannot be saved for backward. Please do not use Tensors created in inference mode in computation "
          "tracked by autograd. To work around this, you can make a clone to get a normal tensor and use it in autograd, or use "
          "`torch.no_grad()` instead of `torch.inference_mode()`.")
_WRITTEN = ("Inplace update to inference tensor outside InferenceMode is not allowed.You can make a clone to get a normal tensor "
            "before doing inplace update.See https://github.com/pytorch/rfcs/pull/17 for more details.")

_plain = object.__new__
_lock = threading.Lock()
_inside = 0                     # how many blocks of all threads are open
_rooms: list[dict] = []         # the namespaces that make tensors
_seen = 0                       # how many modules there were when they were listed


def _marking(cls: type, *arguments) -> object:
    """`object.__new__`, marking the tensors of a thread that is inside the mode."""
    made = _plain(cls)
    if modes.inference and issubclass(cls, Tensor):
        made._inference = True
    return made


def enter() -> None:
    """A block of inference mode opens."""
    global _inside, _seen
    with _lock:
        _inside += 1
        if len(sys.modules) != _seen:
            _seen = len(sys.modules)
            _rooms[:] = [vars(module) for name, module in list(sys.modules.items())
                         if name.startswith("engine.") and module is not None and vars(module).get("new") in (_plain, _marking)]
        if not tape.modes_used.inference:
            from .saved import watch
            watch()
            tape.modes_used.inference = True
        for room in _rooms:
            room["new"] = _marking


def leave() -> None:
    """It closes."""
    global _inside
    with _lock:
        _inside -= 1
        if not _inside:
            for room in _rooms:
                room["new"] = _plain


def refuse_saving(tensor: Tensor) -> None:
    """GradError for an inference tensor that a node would keep."""
    if tensor.is_inference():
        raise GradError(_SAVED)


def refuse_writing(tensor: Tensor) -> None:
    """GradError for an in-place write to an inference tensor outside the mode."""
    if not modes.inference and tensor.is_inference():
        raise GradError(_WRITTEN)
