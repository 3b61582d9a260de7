"""Special functions at top level that need a front: igamma, igammac, mvlgamma. The rest of the family is `engine.special`."""
from __future__ import annotations

from kernels.book import BOOK

from .. import dispatch, dtypes
from ..errors import DTypeError
from ..tensor import KIND, Tensor
from .operands import binary, into, need_tensor
from .registry import public

_lower, _upper = binary("igamma"), binary("igammac")


def with_gradient_of_other(call, what: str, input: Tensor, other: Tensor) -> Tensor:
    """A function of two tensors whose derivative with respect to the first is not implemented: backward raises."""
    if isinstance(input, Tensor) and input.requires_grad:
        return BOOK["without_derivative"](call(input.detach(), other), input, what=what)
    return call(input, other)


@public(in_place=True)
def igamma(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The regularised lower incomplete gamma function P(input, other); NaN for negative arguments.

    Differentiable with respect to `other` only. NotImplementedError for integers.
    """
    need_tensor("igamma", "input", 1, input)
    need_tensor("igamma", "other", 2, other)
    return into(out, with_gradient_of_other(_lower, "igamma: input", input, other))


@public(in_place=True)
def igammac(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The regularised upper incomplete gamma function 1 - P(input, other), accurate where it is small."""
    need_tensor("igammac", "input", 1, input)
    need_tensor("igammac", "other", 2, other)
    return into(out, with_gradient_of_other(_upper, "igammac: input", input, other))


@public(in_place=True)
def mvlgamma(input: Tensor, p: int, *, out: Tensor | None = None) -> Tensor:
    """The multivariate log-gamma function of dimension p >= 1; integers count as the default dtype."""
    need_tensor("mvlgamma", "input", 1, input)
    if input._kind.dtype.is_complex:
        raise DTypeError(f"mvlgamma: expected a real tensor, but got {input.dtype.scalar}")
    if p < 1:
        raise RuntimeError("p has to be greater than or equal to 1")
    if input._kind.dtype.category < 2:
        input = dispatch.cast(input, KIND[dtypes.get_default_dtype()])
    return into(out, BOOK["mvlgamma"](input, p=int(p)))
