"""Special functions with PyTorch's names: `engine.special.expit(x)`, `zeta(s, q)`, `gammainc(a, x)`, ...

Each is a record of `kernels.ops` (erf_gamma, explog, special) with `out=`, or another name of a function at top level. All
take tensors of any floating dtype (integers count as the default one); numbers where PyTorch takes them.
"""
from __future__ import annotations

from collections.abc import Callable

import engine
from kernels.book import BOOK

from .dispatch import into
from .functions.operands import need_tensor
from .functions.special import with_gradient_of_other
from .tensor import Tensor

_ONE = ("bessel_j0", "bessel_j1", "bessel_y0", "bessel_y1", "entr", "erfcx", "i0e", "i1", "i1e", "log_ndtr", "ndtr", "ndtri")
_TWO = ("xlog1py", "zeta")

# Other names of functions at top level.
digamma = psi = engine.digamma
erf, erfc, erfinv, exp2, expm1, i0 = engine.erf, engine.erfc, engine.erfinv, engine.exp2, engine.expm1, engine.i0
expit, gammaln, log1p, logit, logsumexp = engine.sigmoid, engine.lgamma, engine.log1p, engine.logit, engine.logsumexp
polygamma, round, sinc, xlogy = engine.polygamma, engine.round, engine.sinc, engine.xlogy
gammainc, gammaincc, multigammaln = engine.igamma, engine.igammac, engine.mvlgamma


def _publish_one(name: str) -> Callable[[Tensor], Tensor]:
    record = BOOK[name]
    call = record.apply.unary()

    def function(input: Tensor, *, out: Tensor | None = None) -> Tensor:
        need_tensor(f"special_{name}", "input", 1, input)
        result = call(input)
        return result if out is None else into(out, result)
    function.__name__ = function.__qualname__ = name
    function.__doc__ = record.doc
    return function


def _publish_two(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    record = BOOK[name]
    call = record.apply.binary()

    def function(input: Tensor | float, other: Tensor | float, *, out: Tensor | None = None) -> Tensor:
        if not isinstance(input, Tensor) and not isinstance(other, Tensor):
            raise TypeError(f"special_{name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
        result = with_gradient_of_other(call, name, input, other) if name == "zeta" else call(input, other)
        return result if out is None else into(out, result)
    function.__name__ = function.__qualname__ = name
    function.__doc__ = record.doc
    return function


globals().update((name, _publish_one(name)) for name in _ONE)
globals().update((name, _publish_two(name)) for name in _TWO)


def softmax(input: Tensor, dim: int, *, dtype: engine.dtype | None = None) -> Tensor:
    """exp(x) over its sum along `dim`."""
    return engine.softmax(input, dim, dtype=dtype)


def log_softmax(input: Tensor, dim: int, *, dtype: engine.dtype | None = None) -> Tensor:
    """The logarithm of softmax along `dim`."""
    return engine.log_softmax(input, dim, dtype=dtype)


__all__ = sorted(("digamma", "erf", "erfc", "erfinv", "exp2", "expit", "expm1", "gammainc", "gammaincc", "gammaln", "i0", "log1p",
                  "log_softmax", "logit", "logsumexp", "multigammaln", "polygamma", "psi", "round", "sinc", "softmax", "xlogy",
                  *_ONE, *_TWO))
