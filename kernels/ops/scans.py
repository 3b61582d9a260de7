"""Scans: running sums, products and extreme values along one dimension, and what their derivatives are made of.

`dim` is counted from the front here; what users may write is settled in `engine.functions.scan`. The kernels come from
the folds of the same meaning (kernels.cpu.scans). Derivatives of products go through a linear recurrence, which is right
also where elements are zero.
"""
from __future__ import annotations

import functools

import numpy as np

from .. import libm
from ..book import ALL, BOOK, BOOL, COMPLEX, FLOATS, REALS, WIDE_INTS, fold, pointwise, structural
from ..cpu import buffers, pool
from ..cpu.maps import loaded, stored
from ..cpu.native import Program, make_ufunc
from ..cpu.scans import moved, run
from .folds import _FAR, _bounds, _element, _held, _itself, _place_of, _value_and_position

# --- sums and products ------------------------------------------------------------------------------------------------


@structural(["x"], linear=True, dtypes=ALL, result=WIDE_INTS, function=False, method=False, like=np.cumsum,
            adjoint=lambda g, dim, reverse: BOOK["cumsum"](g, dim=dim, reverse=not reverse))
def cumsum(x, dim, reverse=False):
    """Running sum along a dimension, from its end if `reverse`."""
    return run(BOOK["sum"], x, dim, bool(reverse))


def _conjugate(x):
    return BOOK["conj"](x) if x._kind.dtype.is_complex else x


def _cumprod_adjoint(g, x, dim, reverse):
    """d L / d x_k = (product before k) * r_k with r_k = g_k + x_(k+1) r_(k+1): no division, so zeros are no exception."""
    step = -1 if reverse else 1
    before = BOOK["shift"](BOOK["cumprod"](x, dim=dim, reverse=bool(reverse)), dim=dim, by=step, fill=1)
    after = BOOK["shift"](_conjugate(x), dim=dim, by=-step, fill=0)
    return BOOK["mul"](_conjugate(before), BOOK["recurrence"](g, after, dim=dim, reverse=not reverse))


@structural(["x"], dtypes=ALL, result=WIDE_INTS, function=False, method=False, like=np.cumprod, adjoint=_cumprod_adjoint)
def cumprod(x, dim, reverse=False):
    """Running product along a dimension, from its end if `reverse`; in float64 for floats."""
    return run(BOOK["prod"], x, dim, bool(reverse))


@structural(["x"], anywhere=True, linear=True, function=False, method=False,
            adjoint=lambda g, dim, by: BOOK["shift"](g, dim=dim, by=-by, fill=0))
def shift(x, dim, by, fill):
    """Elements moved by `by` places along a dimension; `fill` moves in, what moves out is lost."""
    from ..cpu.copies import into
    out = buffers.empty(x.shape, x.dtype)
    if not x.ndim:
        out[...] = fill
        return out
    n = x.shape[dim]
    by = max(-n, min(n, by))
    rows = (slice(None),) * dim
    here, there = (slice(by, n), slice(0, n - by)) if by >= 0 else (slice(0, n + by), slice(-by, n))
    new = slice(0, by) if by >= 0 else slice(n + by, n)
    into(out[(*rows, here)], x[(*rows, there)])
    out[(*rows, new)] = fill
    return out


@functools.cache
def _recurrence_ufunc(dtype: str) -> np.ufunc:
    wide = "complex128" if dtype.startswith("complex") else "float64"
    source = ("def kernel(args, dimensions, steps, data):\n    for outer in range(dimensions[0]):\n"
              f"        total = as_{wide}(0)\n        for i in range(dimensions[1]):\n"
              f"            g = as_{wide}({loaded(dtype, 'args[0]', 'outer * steps[0] + i * steps[3]')})\n"
              f"            a = as_{wide}({loaded(dtype, 'args[1]', 'outer * steps[1] + i * steps[4]')})\n"
              "            total = g + a * total\n"
              f"            {stored(dtype, 'args[2]', 'outer * steps[2] + i * steps[5]', 'total')}\n"
              "    clear_status()\n")
    return make_ufunc(Program(f"recurrence_{dtype}", source, inputs=(dtype, dtype), outputs=(dtype,), signature="(r),(r)->(r)"))


def _recurrence_adjoint(g, a, out, dim, reverse, needs):
    step = -1 if reverse else 1
    back = BOOK["recurrence"](g, BOOK["shift"](_conjugate(a), dim=dim, by=-step, fill=0), dim=dim, reverse=not reverse)
    before = BOOK["shift"](_conjugate(out), dim=dim, by=step, fill=0)
    return back if needs[0] else None, BOOK["mul"](back, before) if needs[1] else None


@structural(["x", "a"], dtypes=FLOATS + COMPLEX, function=False, method=False, adjoint=_recurrence_adjoint)
def recurrence(x, a, dim, reverse=False):
    """y_k = x_k + a_k y_(k-1) along a dimension (y_(k+1) if `reverse`)."""
    if not x.ndim:
        return x
    out = buffers.empty(x.shape, x.dtype)
    if x.size:
        if x.size >= pool.GRAIN:
            pool.ensure()
        arrays = [moved(v, dim, x.ndim - 1) for v in (x, a, out)]
        if reverse:
            arrays = [v[..., ::-1] for v in arrays]
        _recurrence_ufunc(x.dtype.name)(arrays[0], arrays[1], out=arrays[2])
    return out


# --- extreme values ---------------------------------------------------------------------------------------------------

def _larger_last(a, b):
    """The larger of two (value, position), the later of equal ones; NaN is larger than all."""
    second = (b[0] >= a[0]) | (b[0] != b[0])
    return (libm.select(second, b[0], a[0]), libm.select(second, b[1], a[1]))


def _smaller_last(a, b):
    second = (b[0] <= a[0]) | (b[0] != b[0])
    return (libm.select(second, b[0], a[0]), libm.select(second, b[1], a[1]))


def _cumulative_extreme(word: str, combine, which: int, like) -> None:
    steps = fold(f"running_{word}", lift=_place_of, combine=combine, start=lambda dtype: (_bounds(dtype)[which], _FAR),
                 finish=_value_and_position, state=lambda dtype: (_held(dtype), "int64"), dtypes=BOOL + REALS,
                 result=lambda dtype: (dtype, "int64"), empty=False, function=False, method=False,
                 doc=f"The last of equal {word}imums and its position: the step of cum{word}.")

    @structural(["x"], name=f"cum{word}", dtypes=BOOL + REALS, result=lambda dtype: (dtype, "int64"), nondiff=(1,),
                function=False, method=False, like=like,
                doc=f"Running {word}imum along a dimension and where it was last attained; NaN wins.",
                adjoint=lambda gs, out, dim, x_shape: BOOK["gather_backward"](gs[0], out[1], shape=x_shape, dim=dim))
    def forward(x, dim):
        if not x.ndim:
            return x.copy(), np.zeros((), np.int64)
        return run(steps, x, dim)


_cumulative_extreme("max", _larger_last, 0, np.maximum.accumulate)
_cumulative_extreme("min", _smaller_last, 1, np.minimum.accumulate)


# --- logarithm of a running sum of exponentials -------------------------------------------------------------------------

def _log_add(a, b):
    """log(exp(a) + exp(b)) without overflow; equal infinities stay."""
    above = (a > b) | (a != a)
    top, low = libm.select(above, a, b), libm.select(above, b, a)
    return libm.select(top == low, top + 0.6931471805599453094, top + libm.log1p(libm.exp(low - top)))


_LOG_SUM = fold("log_sum", lift=_element, combine=_log_add, start=lambda dtype: (-np.inf,), finish=_itself,
                state=lambda dtype: ("float64",), dtypes=FLOATS, work=16, function=False, method=False,
                doc="Logarithm of a sum of exponentials, element by element: the step of logcumsumexp.")


@pointwise(dtypes=FLOATS, function=False, method=False, partials=lambda x, m, out: (out, -out))
def exp_below(x, m):
    """exp(x - m), where an m of -inf counts as 0: the weights of a logarithm m of a sum of exponentials."""
    return libm.exp(x - libm.select((m < 0) & (m + m == m), 0, m))


def _logcumsumexp_adjoint(g, x, out, dim):
    """d L / d x_j = exp(x_j - out_j) y_j with y_j = g_j + exp(out_j - out_(j+1)) y_(j+1).

    Running sums only grow, so neither exponential overflows.
    """
    ratio = BOOK["exp_below"](out, BOOK["shift"](out, dim=dim, by=-1, fill=np.inf))
    return BOOK["mul"](BOOK["exp_below"](x, out), BOOK["recurrence"](g, ratio, dim=dim, reverse=True))


@structural(["x"], dtypes=FLOATS, function=False, method=False, adjoint=_logcumsumexp_adjoint, like=np.logaddexp.accumulate)
def logcumsumexp(x, dim):
    """Logarithm of the running sum of exponentials along a dimension."""
    return run(_LOG_SUM, x, dim)
