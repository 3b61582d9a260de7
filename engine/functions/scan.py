"""Scans: arguments of cumsum, cumprod and their kin, and what is composed of differences (diff, trapezoid, gradient).

The records are in `kernels.ops.scans`.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kernels.book import BOOK

from .. import dtypes
from ..errors import ShapeError
from ..return_types import named
from ..tensor import Tensor, wrap_dim
from .reduce import converted, finish, finish_all, one_dim, tensor_of
from .registry import public

_CUMMAX, _CUMMIN = named("cummax", "values indices"), named("cummin", "values indices")


def _scanned(name: str, input: Tensor, dim, dtype, out, axis, **options) -> Tensor:
    if input.__class__ is not Tensor:
        input = tensor_of(name, input)
    if dtype is not None:
        input = converted(input, dtype)
    if dim.__class__ is not int or not 0 <= dim < input._array.ndim:
        dim = one_dim(name, axis if dim is None else dim, input._array.ndim)
    result = BOOK[name].apply(input, dim=dim, **options)
    if dtype is None and out is None:
        return result
    return finish(result if dtype is None else converted(result, dtype), out)


@public(in_place=True)
def cumsum(input: Tensor, dim: int | None = None, *, dtype: Any = None, out: Tensor | None = None,
           axis: int | None = None) -> Tensor:
    """Running sum along `dim`. Integers and bool are summed in int64 unless `dtype` says otherwise."""
    return _scanned("cumsum", input, dim, dtype, out, axis, reverse=False)


@public(in_place=True)
def cumprod(input: Tensor, dim: int | None = None, *, dtype: Any = None, out: Tensor | None = None,
            axis: int | None = None) -> Tensor:
    """Running product along `dim`. Integers and bool are multiplied in int64 unless `dtype` says otherwise."""
    return _scanned("cumprod", input, dim, dtype, out, axis, reverse=False)


@public()
def logcumsumexp(input: Tensor, dim: int, *, out: Tensor | None = None) -> Tensor:
    """Logarithm of the running sum of exponentials along `dim`, for floating point numbers; never overflows."""
    input = tensor_of("logcumsumexp", input)
    if not input._kind.dtype.is_floating_point:
        raise NotImplementedError(f'"logcumsumexp_out_cpu" not implemented for \'{input._kind.dtype.scalar}\'')
    return _scanned("logcumsumexp", input, dim, None, out, None)


def _cumulative(name: str, make: type, input: Tensor, dim: int, out) -> tuple[Tensor, Tensor]:
    input = tensor_of(name, input)
    if input._kind.dtype.is_complex:
        raise NotImplementedError(f'"{name}_cpu" not implemented for \'{input._kind.dtype.scalar}\'')
    return finish_all(make, BOOK[name](input, dim=one_dim(name, dim, input._array.ndim)), out)


@public()
def cummax(input: Tensor, dim: int, *, out: Tensor | None = None) -> Any:
    """(values, indices): the running maximum along `dim` and where it was last attained. NaN wins."""
    return _cumulative("cummax", _CUMMAX, input, dim, out)


@public()
def cummin(input: Tensor, dim: int, *, out: Tensor | None = None) -> Any:
    """(values, indices): the running minimum along `dim` and where it was last attained. NaN wins."""
    return _cumulative("cummin", _CUMMIN, input, dim, out)


# --- differences ------------------------------------------------------------------------------------------------------

def _part(x: Tensor, dim: int, start: int, stop: int) -> Tensor:
    return x.narrow(dim, start, stop - start)


@public()
def diff(input: Tensor, n: int = 1, dim: int = -1, prepend: Tensor | None = None, append: Tensor | None = None, *,
         out: Tensor | None = None) -> Tensor:
    """The n-th differences of neighbours along `dim`, `prepend` and `append` joined on before.

    Bool differs by exclusive or. Errors: RuntimeError for a number, a negative n, or operands that do not fit.
    """
    from .join import cat
    input = tensor_of("diff", input)
    if not input._array.ndim:
        raise ShapeError("diff expects input to be at least one-dimensional")
    d = wrap_dim(dim, input._array.ndim)
    if n < 0:
        raise RuntimeError(f"order must be non-negative but got {n}")
    for extra in (prepend, append):
        if extra is not None and extra._array.ndim != input._array.ndim:
            raise ShapeError("diff expects prepend or append to be the same dimension as input")
    if n == 0:
        return finish(input.clone(), out)
    parts = [p for p in (prepend, input, append) if p is not None]
    x = cat(parts, d) if len(parts) > 1 else input
    n = n if n < x._array.shape[d] else x._array.shape[d]
    for _ in range(n):
        size = x._array.shape[d]
        after, before = _part(x, d, 1, size), _part(x, d, 0, size - 1)
        x = BOOK["logical_xor"](after, before) if x.dtype is dtypes.bool_ else after - before
    return finish(x, out)


def _spacing(name: str, y: Tensor, x, dx, dim: int):
    """Widths of the intervals along `dim`: a number, or a tensor that broadcasts against the midpoints."""
    if x is not None and dx is not None:
        raise TypeError(f"{name}() takes x or dx, not both")
    if x is None:
        return 1 if dx is None else dx
    if not x._array.ndim:
        raise ShapeError(f"{name}(): sampling points must have at least one dimension")
    if x._array.ndim == 1:
        if x._array.shape[0] != y._array.shape[dim]:
            raise ShapeError(f"{name}(): There must be one `x` value for each sample point")
        return diff(x).reshape(*[-1 if k == dim else 1 for k in range(y._array.ndim)])
    along = dim - y._array.ndim
    if x._array.shape[along] != y._array.shape[dim]:
        raise ShapeError(f"{name}(): There must be one `x` value for each sample point")
    return diff(x, dim=along)


def _midpoints(name: str, y: Tensor, x, dx, dim: int) -> tuple[Tensor, Tensor | float, int]:
    y = tensor_of(name, y)
    if not y._array.ndim:
        raise IndexError(f"{name}(): Dimension specified as {dim} but tensor has no dimensions")
    if y.dtype is dtypes.bool_:
        raise RuntimeError(f"{name}: received a bool input for y, but bool is not supported")
    d = wrap_dim(dim, y._array.ndim)
    size = y._array.shape[d]
    stop = size if size else 1
    pairs = _part(y, d, 1, stop) + _part(y, d, 0, stop - 1) if size else y
    return pairs, _spacing(name, y, x, dx, d), d


@public(method=False, aliases=("trapz",))
def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: float | None = None, dim: int = -1) -> Tensor:
    """Integral along `dim` by the trapezoidal rule, sampled at `x` or `dx` apart."""
    pairs, width, d = _midpoints("trapezoid", y, x, dx, dim)
    if x is None:
        return pairs.sum(d) * (width / 2)
    return (pairs * width).sum(d) / 2


@public(method=False)
def cumulative_trapezoid(y: Tensor, x: Tensor | None = None, *, dx: float | None = None, dim: int = -1) -> Tensor:
    """Running integral along `dim` by the trapezoidal rule, sampled at `x` or `dx` apart; one shorter than `y`."""
    pairs, width, d = _midpoints("cumulative_trapezoid", y, x, dx, dim)
    return cumsum(pairs * (width / 2), d)


# --- numerical gradient -----------------------------------------------------------------------------------------------

@public(method=False)
def gradient(input: Tensor, *, spacing: Any = 1, dim: int | Sequence[int] | None = None, edge_order: int = 1) -> tuple[Tensor, ...]:
    """Central differences of second order along each of `dim` (None: all), one-sided of `edge_order` at the ends.

    `spacing`: a number, one number per dimension, or coordinates (1-d tensors) per dimension. Errors: RuntimeError.
    Source: Fornberg, Mathematics of Computation 51 (1988).
    """
    from .join import cat
    input = tensor_of("gradient", input)
    ndim = input._array.ndim
    if edge_order not in (1, 2):
        raise RuntimeError("torch.gradient only supports edge_order=1 and edge_order=2.")
    if dim is None:
        several = isinstance(spacing, (list, tuple)) and len(spacing) != ndim
        if several:
            raise RuntimeError(f"torch.gradient expected spacing to be unspecified, a scalar or a list of length {ndim}, "
                               f"but got a list of length {len(spacing)}")
        dims = tuple(range(ndim))
    else:
        dims = tuple(wrap_dim(d, ndim) for d in ((dim,) if hasattr(dim, "__index__") else dim))
        if len(set(dims)) != len(dims):
            raise RuntimeError(f"dim {next(d for d in dims if dims.count(d) > 1)} appears multiple times in the list of dims")
    if isinstance(spacing, (list, tuple)):
        if len(spacing) != len(dims):
            raise RuntimeError("torch.gradient expected spacing to be unspecified, a scalar or a list of length "
                               f"{len(dims)}, but got a list of length {len(spacing)}")
        steps = list(spacing)
    else:
        steps = [spacing] * len(dims)
    for d in dims:
        if input._array.shape[d] < edge_order + 1:
            raise RuntimeError("torch.gradient expected each dimension size to be at least edge_order+1")
    return tuple(_gradient_along(input, h, d, edge_order, cat) for d, h in zip(dims, steps, strict=True))


def _gradient_along(x: Tensor, h, d: int, edge_order: int, cat) -> Tensor:
    size = x._array.shape[d]
    if not x._kind.dtype.category >= 2:
        x = converted(x, dtypes.get_default_dtype())

    def at(k: int) -> Tensor:
        return _part(x, d, k, k + 1)

    if isinstance(h, Tensor) and h._array.ndim:
        if h._array.ndim != 1 or h._array.shape[0] != size:
            raise RuntimeError("torch.gradient expected each element of `coordinates` to have one value for each sample "
                               f"point, but got {list(h.shape)} for size {size}")
        widths = diff(h).reshape(*[-1 if k == d else 1 for k in range(x._array.ndim)])
        low, high = _part(widths, d, 0, size - 2), _part(widths, d, 1, size - 1)
        inner = (-high / (low * (low + high)) * _part(x, d, 0, size - 2)
                 + (high - low) / (low * high) * _part(x, d, 1, size - 1)
                 + low / (high * (low + high)) * _part(x, d, 2, size))
        first, last = _part(widths, d, 0, 1), _part(widths, d, size - 2, size - 1)
    else:
        inner = (_part(x, d, 2, size) - _part(x, d, 0, size - 2)) / (2 * h)
        first = last = h
    if edge_order == 1:
        begin, end = (at(1) - at(0)) / first, (at(size - 1) - at(size - 2)) / last
    else:
        second = _part(widths, d, 1, 2) if isinstance(h, Tensor) and h._array.ndim else h
        before = _part(widths, d, size - 3, size - 2) if isinstance(h, Tensor) and h._array.ndim else h
        begin = (-(2 * first + second) / (first * (first + second)) * at(0) + (first + second) / (first * second) * at(1)
                 - first / (second * (first + second)) * at(2))
        end = (last / (before * (before + last)) * at(size - 3) - (before + last) / (before * last) * at(size - 2)
               + (before + 2 * last) / (last * (before + last)) * at(size - 1))
    return cat([begin, inner, end], d)
