"""Variance, standard deviation, norms, logsumexp, covariance: arguments, and compositions over `kernels.ops.moments`."""
from __future__ import annotations

import warnings
from typing import Any

from kernels.book import BOOK

from .. import dtypes
from ..errors import DTypeError, ShapeError
from ..tensor import Tensor, wrap_dim
from .reduce import Dims, converted, dims_of, finish, tensor_of
from .registry import public

# --- variance ---------------------------------------------------------------------------------------------------------


def _variance(name: str, input: Tensor, dim, unbiased, keepdim: bool, correction):
    """Settle the arguments of var, std, var_mean and std_mean: a bool in the place of dim is `unbiased`."""
    input = tensor_of(name, input)
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if unbiased is not None and correction is not None:
        raise TypeError(f"{name}() takes unbiased or correction, not both")
    if correction is None:
        correction = 1 if unbiased is None or unbiased else 0
    if input._kind.dtype.category < 2:
        words = "std and var" if name in ("std", "var") else name
        raise DTypeError(f"{words} only support floating point and complex dtypes")
    dims = dims_of(dim, input._array.ndim)
    count = 1
    for d, n in enumerate(input._array.shape):
        if dims is None or d in dims:
            count *= n
    if count - correction <= 0:
        warnings.warn(f"{name}(): degrees of freedom is <= 0. Correction should be strictly less than the reduction factor "
                      "(input numel divided by output numel).", UserWarning, stacklevel=3)
    return BOOK[name](input, dims=dims, keepdim=bool(keepdim), correction=correction)


@public()
def var(input: Tensor, dim: Dims = None, unbiased: bool | None = None, keepdim: bool = False, *,
        correction: float | None = None, out: Tensor | None = None, axis: Dims = None) -> Tensor:
    """Variance over `dim` (None: all), with count - correction in the denominator (correction 1 unless given)."""
    return finish(_variance("var", input, dim if axis is None else axis, unbiased, keepdim, correction), out)


@public()
def std(input: Tensor, dim: Dims = None, unbiased: bool | None = None, keepdim: bool = False, *,
        correction: float | None = None, out: Tensor | None = None, axis: Dims = None) -> Tensor:
    """Standard deviation over `dim` (None: all), with count - correction in the denominator (correction 1 unless given)."""
    return finish(_variance("std", input, dim if axis is None else axis, unbiased, keepdim, correction), out)


@public(method=False)
def var_mean(input: Tensor, dim: Dims = None, unbiased: bool | None = None, keepdim: bool = False, *,
             correction: float | None = None, axis: Dims = None) -> tuple[Tensor, Tensor]:
    """(variance, mean) over `dim` (None: all)."""
    return _variance("var_mean", input, dim if axis is None else axis, unbiased, keepdim, correction)


@public(method=False)
def std_mean(input: Tensor, dim: Dims = None, unbiased: bool | None = None, keepdim: bool = False, *,
             correction: float | None = None, axis: Dims = None) -> tuple[Tensor, Tensor]:
    """(standard deviation, mean) over `dim` (None: all)."""
    return _variance("std_mean", input, dim if axis is None else axis, unbiased, keepdim, correction)


# --- norms ------------------------------------------------------------------------------------------------------------

def vector_norm(input: Tensor, ord: float = 2, dim: Dims = None, keepdim: bool = False, *, dtype=None,
                out: Tensor | None = None) -> Tensor:
    """(sum |x|^ord)^(1/ord) over `dim` (None: all); inf and -inf give the largest and smallest magnitude, 0 counts.

    Errors: RuntimeError for integers, and for ord inf, -inf or negative over nothing. (Published as `linalg.vector_norm`.)
    """
    input = tensor_of("linalg.vector_norm", input)
    if input._kind.dtype.category < 2:
        raise DTypeError("linalg.vector_norm: Expected a floating point or complex tensor as input. Got "
                         f"{input._kind.dtype.scalar}")
    if dtype is not None:
        input = converted(input, dtype)
    dims = dims_of(dim, input._array.ndim)
    p = float(ord)
    if p < 0 or p == float("inf"):
        shape = input._array.shape
        if not input._array.size and (dims is None or not all(shape[d] for d in dims)):
            raise RuntimeError(f"linalg.vector_norm cannot compute the {p:g} norm on an empty tensor because the operation "
                               "does not have an identity")
    return finish(BOOK["vector_norm"](input, p=p, dims=dims, keepdim=bool(keepdim)), out)


@public()
def norm(input: Tensor, p: float | str | None = "fro", dim: Dims = None, keepdim: bool = False, dtype: Any = None,
         out: Tensor | None = None) -> Tensor:
    """The p-norm over `dim` (None: all): "fro" and 2 the Euclidean one, inf, -inf, 0, any other number, or "nuc"."""
    if p == "nuc":
        from ..linalg import matrix_norm
        input = tensor_of("norm", input)
        return finish(matrix_norm(input, "nuc", (-2, -1) if dim is None else dim, keepdim, dtype=dtype), out)
    if isinstance(p, str) and p != "fro":
        raise RuntimeError(f"norm(): p must be a number, 'fro' or 'nuc', not {p!r}")
    return vector_norm(input, 2 if p is None or p == "fro" else p, dim, keepdim, dtype=dtype, out=out)


@public(in_place=True)
def renorm(input: Tensor, p: float, dim: int, maxnorm: float, *, out: Tensor | None = None) -> Tensor:
    """Each slice along `dim` whose p-norm is above `maxnorm` scaled down to it."""
    input = tensor_of("renorm", input)
    ndim = input._array.ndim
    if ndim < 2:
        raise ShapeError(f"renorm: input needs at least 2 dimensions, got {ndim} dimensions")
    if p <= 0:
        raise RuntimeError("renorm: non-positive-norm not supported")
    if maxnorm < 0:
        raise RuntimeError(f"renorm: expected maxnorm to be >= 0 but got {maxnorm}")
    d = wrap_dim(dim, ndim)
    size = vector_norm(input, p, tuple(k for k in range(ndim) if k != d), True)
    above = BOOK["gt"](size, maxnorm)
    scale = BOOK["where"](above, BOOK["div"](maxnorm, BOOK["add"](size, 1e-7)), BOOK["add"](BOOK["mul"](size, 0), 1))
    return finish(BOOK["mul"](input, scale), out)


# --- log of sums of exponentials --------------------------------------------------------------------------------------

@public()
def logsumexp(input: Tensor, dim: Dims, keepdim: bool = False, *, out: Tensor | None = None) -> Tensor:
    """Logarithm of the sum of exponentials over `dim`; integers are computed in the default dtype. Never overflows."""
    input = tensor_of("logsumexp", input)
    if input._kind.dtype.category < 2:
        input = converted(input, dtypes.get_default_dtype())
    dims = dims_of(dim, input._array.ndim)
    if input._kind.dtype.is_complex:
        return finish(BOOK["logsumexp_complex"](input, dims=dims, keepdim=bool(keepdim)), out)
    return finish(BOOK["logsumexp"](input, dims=dims, keepdim=bool(keepdim)), out)


# --- covariance -------------------------------------------------------------------------------------------------------

@public()
def cov(input: Tensor, *, correction: int = 1, fweights: Tensor | None = None, aweights: Tensor | None = None) -> Tensor:
    """Covariance matrix of variables (rows) over observations (columns), weighted by counts and by reliabilities.

    Errors: RuntimeError for more than 2 dimensions, bool input, or weights that do not fit.
    """
    input = tensor_of("cov", input)
    if input._array.ndim > 2:
        raise ShapeError("cov(): expected input to have two or fewer dimensions but got an input with "
                         f"{input._array.ndim} dimensions")
    if input.dtype is dtypes.bool_:
        raise DTypeError("cov(): bool dtype is not supported for input")
    x = input if input._kind.dtype.category >= 2 else converted(input, dtypes.get_default_dtype())
    x = x if x._array.ndim == 2 else x.reshape(1, -1)
    columns = x._array.shape[1]
    weights = _weights(fweights, aweights, columns)
    if weights is None:
        mean, total = BOOK["mean"](x, dims=(1,), keepdim=True), None
        freedom = columns - correction
    else:
        real = weights if weights._kind.dtype.category >= 2 else converted(weights, x.dtype.to_real())
        total = real.sum()
        mean = (x * real).sum(1, keepdim=True) / total
        if aweights is None or correction == 0:
            freedom = total - correction
        else:
            freedom = total - correction * (real * aweights).sum() / total
    if float(freedom if isinstance(freedom, (int, float)) else freedom.detach().item()) <= 0:
        warnings.warn("cov(): degrees of freedom is <= 0. Correction should be strictly less than the number of observations.",
                      UserWarning, stacklevel=2)
        freedom = 0
    centred = x - mean
    right = centred if weights is None else centred * real
    result = centred @ (right.t().conj() if x._kind.dtype.is_complex else right.t())
    result = result / freedom
    return result.reshape(()) if input._array.ndim < 2 or x._array.shape[0] == 1 else result


def _weights(fweights: Tensor | None, aweights: Tensor | None, columns: int) -> Tensor | None:
    for name, w in (("fweights", fweights), ("aweights", aweights)):
        if w is None:
            continue
        if w._array.ndim > 1:
            raise ShapeError(f"cov(): expected {name} to have one or fewer dimensions but got {name} with "
                             f"{w._array.ndim} dimensions")
        if (name == "fweights") != (w._kind.dtype.category == 1):
            kind = "integral" if name == "fweights" else "floating point"
            raise DTypeError(f"cov(): expected {name} to have {kind} dtype but got {name} with {w._kind.dtype.scalar} dtype")
        if w._array.size != columns:
            raise ShapeError(f"cov(): expected {name} to have the same numel as there are observations in the input but got "
                             f"{w._array.size} != {columns}")
        if w._array.size and w.detach().min().item() < 0:
            raise RuntimeError(f"cov(): {name} cannot be negative")
    if fweights is None or aweights is None:
        return fweights if aweights is None else aweights
    return fweights * aweights


@public()
def corrcoef(input: Tensor) -> Tensor:
    """Correlation coefficients of variables (rows) over observations (columns)."""
    input = tensor_of("corrcoef", input)
    if input._array.ndim > 2:
        raise ShapeError("corrcoef(): expected input to have two or fewer dimensions but got an input with "
                         f"{input._array.ndim} dimensions")
    c = cov(input)
    if not c._array.ndim:
        return c / c
    d = c.diag()
    scale = BOOK["sqrt"](d.real if c._kind.dtype.is_complex else d)
    c = c / scale.unsqueeze(1) / scale.unsqueeze(0)
    return c if c._kind.dtype.is_complex else c.clamp(-1, 1)


