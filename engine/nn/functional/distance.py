"""Distances and similarities of vectors: cosine_similarity, pairwise_distance, pdist."""
from __future__ import annotations

from ...errors import DTypeError, ShapeError
from ...functions.masks import triu_indices
from ...functions.queries import result_type
from ...functions.shape import broadcast_tensors
from ...tensor import Tensor


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Inner product of vectors along `dim` over the product of their norms, each taken as at least `eps`.

    Inputs broadcast and promote. Errors: RuntimeError for integers and shapes that do not fit.
    """
    common = result_type(x1, x2)
    if not common.is_floating_point:
        raise DTypeError(f"expected common dtype to be floating point, yet common dtype is {common.scalar}")
    x1, x2 = broadcast_tensors(x1.to(common), x2.to(common))
    n1, n2 = (x.norm(2, dim, keepdim=True).clamp_min(eps) for x in (x1, x2))
    return ((x1 / n1) * (x2 / n2)).sum(dim)


def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """The p-norm of x1 - x2 + eps along the last dimension. Inputs broadcast."""
    return (x1 - x2 + eps).norm(p, -1, keepdim)


def pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """p-norm distances of all pairs of rows (i, j), i < j, of an input (n, m): a vector of n (n - 1) / 2.

    Errors: RuntimeError for other numbers of dimensions, integers, and negative p.
    """
    if input._array.ndim != 2:
        raise ShapeError(f"pdist only supports 2D tensors, got: {input._array.ndim}D")
    if not input._kind.dtype.is_floating_point:
        raise DTypeError("pdist only supports floating-point dtypes")
    if p < 0:
        raise RuntimeError("pdist only supports non-negative p values")
    n = input._array.shape[0]
    first, second = triu_indices(n, n, 1)
    return (input[first] - input[second]).norm(p, 1)


__all__ = ["cosine_similarity", "pairwise_distance", "pdist"]
