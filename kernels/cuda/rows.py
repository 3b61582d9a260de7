"""Records along one dimension on CUDA: softmax and its kin, running sums and products. Called through `kernels.cuda.records`."""
from __future__ import annotations

from ..book import BOOK, Fold
from ..source import results_of
from . import scans
from . import softmax as template
from .arrays import dense
from .launch import View


def _along(name: str):
    def run(device, *operands: View, dim: int) -> View:
        operands = [dense(device, v) for v in operands]
        out = device.empty(operands[0].dtype, operands[0].shape)
        device.run(template.softmax(name, out, operands, dim))
        return out
    run.__name__, run.__doc__ = name, f"{name} along a dimension."
    return run


softmax, log_softmax = _along("softmax"), _along("log_softmax")
softmax_backward, log_softmax_backward = _along("softmax_backward"), _along("log_softmax_backward")


def _scan(device, op: Fold, x: View, dim: int, reverse: bool) -> tuple[View, ...]:
    outs = [device.empty(d, x.shape) for d in results_of(op, x.dtype)]
    launches = scans.scan(op, x, dim, outs, reverse)
    if launches is None:
        x = dense(device, x)
        launches = scans.scan(op, x, dim, outs, reverse)
        if launches is None:
            return NotImplemented
    device.run(launches)
    return outs[0] if len(outs) == 1 else tuple(outs)


def cumsum(device, x: View, dim: int, reverse: bool = False) -> View:
    """Running sum."""
    return _scan(device, BOOK["sum"], x, dim, bool(reverse))


def cumprod(device, x: View, dim: int, reverse: bool = False) -> View:
    """Running product."""
    return _scan(device, BOOK["prod"], x, dim, bool(reverse))


def cummax(device, x: View, dim: int) -> tuple[View, ...]:
    """Running maximum and its position."""
    return _scan(device, BOOK["running_max"], x, dim, False) if x.shape else NotImplemented


def cummin(device, x: View, dim: int) -> tuple[View, ...]:
    """Running minimum and its position."""
    return _scan(device, BOOK["running_min"], x, dim, False) if x.shape else NotImplemented
