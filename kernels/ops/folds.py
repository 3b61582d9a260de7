"""Folds: sum and its kin. How a record of this kind reads is told in `kernels.book.Fold`.

Here are the records whose kernels are folds; what is made of several of them (var, norms of any order, logsumexp) is in
`kernels.ops.moments`, running folds are in `kernels.ops.scans`. `engine.functions.reduce` is the public face of all of them.
"""
from __future__ import annotations

import functools

import numpy as np

from .. import libm
from ..book import (
    ALL,
    BOOK,
    BOOL,
    COMPLEX,
    FLOATS,
    INTS,
    REALS,
    TO_BOOL,
    TO_INT64,
    TO_REAL,
    WIDE_INTS,
    fold,
    pointwise,
    structural,
)
from ..cpu.maps import ITEMSIZE
from ..cpu.native import Program, make_ufunc
from .arith import complex_quotient

# --- shared by adjoints -----------------------------------------------------------------------------------------------


def restore(g, dims, keepdim, shape):
    """A fold's result (or gradient) with the folded dimensions back at size 1, so that it broadcasts against the input."""
    if keepdim or not shape:
        return g
    folded = range(len(shape)) if dims is None else dims
    kept = tuple(1 if d in folded else n for d, n in enumerate(shape))
    return BOOK["reshape"](g, shape=kept)


def spread(g, dims, keepdim, shape):
    """A fold's gradient given to every folded element."""
    return BOOK["expand"](restore(g, dims, keepdim, shape), shape=shape)


def count_of(dims, shape) -> int:
    """How many elements are folded into one."""
    count = 1
    for d, n in enumerate(shape):
        if dims is None or d in dims:
            count *= n
    return count


@pointwise(dtypes=ALL, function=False, method=False)
def is_extreme(x, m):
    """1 where an element equals its extreme value (NaN equals NaN), else 0: where the gradient of an extreme value goes."""
    return libm.select((x == m) | ((x != x) & (m != m)), 1, 0)


def _complex_div_or_zero(x, y):
    return libm.select(y == 0, x * 0, complex_quotient(x, libm.select(y == 0, y + 1, y)))


@pointwise(dtypes=FLOATS + COMPLEX, function=False, method=False, bodies={"complex": _complex_div_or_zero},
           partials=lambda x, y, out: (BOOK["div_or_zero"](1, y), -BOOK["div_or_zero"](out, y)))
def div_or_zero(x, y):
    """Quotient; 0 where the divisor is 0."""
    return libm.select(y == 0, x * 0, x / libm.select(y == 0, y + 1, y))


def share_extreme(g, x, out, dims, keepdim, x_shape):
    """The gradient of an extreme value, in equal shares to the elements that attain it."""
    mask = BOOK["is_extreme"](x, restore(out, dims, keepdim, x_shape))
    count = BOOK["sum"](mask, dims=dims, keepdim=True)
    return BOOK["mul"](BOOK["div"](restore(g, dims, keepdim, x_shape), count), mask)


# --- one element of a dimension ---------------------------------------------------------------------------------------

_CARRIER = {1: "uint8", 2: "uint16", 4: "uint32", 8: "uint64", 16: "complex128"}       # bytes of any dtype travel as these


@functools.cache
def _pick_ufunc(size: int) -> np.ufunc:
    d = _CARRIER[size]
    source = ("def kernel(args, dimensions, steps, data):\n    for outer in range(dimensions[0]):\n"
              "        at = load_int64(args[1], outer * steps[1])\n"
              f"        store_{d}(args[2], outer * steps[2], load_{d}(args[0], outer * steps[0] + at * steps[3]))\n")
    return make_ufunc(Program(f"pick_{size}", source, inputs=(d, "int64"), outputs=(d,), signature="(r),()->()"))


@functools.cache
def _place_ufunc(size: int) -> np.ufunc:
    d = _CARRIER[size]
    source = ("def kernel(args, dimensions, steps, data):\n    for outer in range(dimensions[0]):\n"
              "        for k in range(dimensions[1]):\n"
              f"            store_{d}(args[2], outer * steps[2] + k * steps[3], as_{d}(0))\n"
              "        at = load_int64(args[1], outer * steps[1])\n"
              f"        store_{d}(args[2], outer * steps[2] + at * steps[3], load_{d}(args[0], outer * steps[0]))\n")
    return make_ufunc(Program(f"place_{size}", source, inputs=(d, "int64"), outputs=(d,), signature="(),()->(r)"))


def _carried(x: np.ndarray) -> np.ndarray:
    return x.view(_CARRIER[x.dtype.itemsize])


@structural(["x"], linear=True, function=False, method=False,
            adjoint=lambda g, x_shape, index, dim: BOOK["place"](g, index=index, dim=dim, size=x_shape[dim]))
def pick(x, index, dim):
    """One element along `dim` for each of the rest: index has the shape of the result, which lacks `dim`."""
    return _pick_ufunc(x.dtype.itemsize)(_carried(np.moveaxis(x, dim, -1)), index, out=...).view(x.dtype)


@structural(["x"], linear=True, function=False, method=False,
            adjoint=lambda g, index, dim: BOOK["pick"](g, index=index, dim=dim))
def place(x, index, dim, size):
    """Zeros with `x` at one place along a new dimension `dim`: the adjoint of pick."""
    out = np.empty((*x.shape[:dim], size, *x.shape[dim:]), x.dtype)
    _place_ufunc(x.dtype.itemsize)(_carried(x), index, _carried(np.moveaxis(out, dim, -1)))
    return out


def place_result(gs, out, dims, keepdim, x_shape):
    """The gradient of values chosen along one dimension, at their places; `out` is (values, indices)."""
    g, index = gs[0], out[1]._array
    if not x_shape or g is None:
        return g
    dim = dims[0]
    if keepdim:
        kept = x_shape[:dim] + x_shape[dim + 1:]
        g, index = BOOK["reshape"](g, shape=kept), index.reshape(kept)
    return BOOK["place"](g, index=index, dim=dim, size=x_shape[dim])


# --- sums -------------------------------------------------------------------------------------------------------------

def _wide(dtype):
    return ("int64",) if dtype in BOOL + INTS else ("complex128",) if dtype.startswith("complex") else ("float64",)


def _running(dtype):
    """What a block of a sum runs in: small integers in 32 bits, floats in their own dtype (float16 in float32)."""
    if dtype in BOOL + INTS:
        return ("int64",) if ITEMSIZE[dtype] > 2 else ("int32",)
    return ("float32",) if dtype == "float16" else (dtype,)


def _zero(dtype):
    return (0,)


def _element(x, k):
    return x


def _no_nan(x, k):
    return libm.select(x != x, 0, x)


def _plus(a, b):
    return a + b


def _itself(state, n):
    return state


def _average(state, n):
    return state / n


def _complex_average(state, n):
    return complex(state.real / n, state.imag / n)


_BLOCKED = "blocked summation: Higham, Accuracy and Stability of Numerical Algorithms (2002), 4.2"

fold("sum", lift=_element, combine=_plus, start=_zero, finish=_itself, state=_running, wide=_wide, sums=True,
     node_dims="SumBackward1",
     dtypes=ALL, result=WIDE_INTS, like=np.sum, adjoint=lambda g, dims, keepdim, x_shape: spread(g, dims, keepdim, x_shape),
     doc="Sum over dimensions.", cancels=True, source=_BLOCKED)

fold("mean", lift=_element, combine=_plus, start=_zero, finish=_average, complex_finish=_complex_average, state=_running,
     wide=_wide, sums=True, node_dims="MeanBackward1",
     dtypes=FLOATS + COMPLEX, like=np.mean,
     adjoint=lambda g, dims, keepdim, x_shape: BOOK["div"](spread(g, dims, keepdim, x_shape), count_of(dims, x_shape)),
     doc="Arithmetic mean over dimensions.", cancels=True, source=_BLOCKED)

fold("nansum", lift=_no_nan, combine=_plus, start=_zero, finish=_itself, state=_running, wide=_wide, dtypes=BOOL + REALS,
     result=WIDE_INTS, sums=True, like=np.nansum,
     adjoint=lambda g, x, dims, keepdim, x_shape: BOOK["mul"](spread(g, dims, keepdim, x_shape), BOOK["not_nan"](x)),
     doc="Sum over dimensions, NaN counting as 0.", cancels=True, source=_BLOCKED)


@pointwise(dtypes=BOOL + REALS, function=False, method=False)
def not_nan(x):
    """1 where an element is a number, 0 where it is NaN."""
    return libm.select(x == x, 1, 0)


def _nonzero(x, k):
    return x != 0


fold("count_nonzero", lift=_nonzero, combine=_plus, start=_zero, finish=_itself, state=lambda dtype: ("int32",),
     wide=lambda dtype: ("int64",), sums=True, dtypes=ALL, result=TO_INT64, like=np.count_nonzero,
     doc="How many elements are not zero.")


# --- products ---------------------------------------------------------------------------------------------------------

def _times(a, b):
    return a * b


def _without_each(x, dim):
    """For each element the product of all others along `dim`: right where elements are zero, and differentiable."""
    before = BOOK["shift"](BOOK["cumprod"](x, dim=dim, reverse=False), dim=dim, by=1, fill=1)
    after = BOOK["cumprod"](x, dim=dim, reverse=True)
    return BOOK["mul"](before, BOOK["shift"](after, dim=dim, by=-1, fill=1))


def _prod_adjoint(g, x, dims, keepdim, x_shape):
    conj = BOOK["conj"] if x._kind.dtype.is_complex else (lambda v: v)
    if dims is None:
        flat = BOOK["reshape"](x, shape=(x._array.size,))
        return BOOK["reshape"](BOOK["mul"](g, conj(_without_each(flat, 0))), shape=x_shape)
    return BOOK["mul"](restore(g, dims, keepdim, x_shape), conj(_without_each(x, dims[0])))


fold("prod", lift=_element, combine=_times, start=lambda dtype: (1,), finish=_itself, state=_wide, dtypes=ALL, result=WIDE_INTS,
     like=np.prod, node_dims="ProdBackward1", adjoint=_prod_adjoint, doc="Product of the elements, in float64 for floats.",
     tol=32)        # each of n factors rounds once: n / 2 ulp at most, and about sqrt(n) of the tests' 300


# --- extreme values ---------------------------------------------------------------------------------------------------

def _held(dtype):
    """What an extreme value is compared in."""
    return {"bool": "uint8", "float16": "float32"}.get(dtype, dtype)


def _bounds(dtype) -> tuple:
    """The smallest and the largest value of a dtype."""
    if dtype == "bool":
        return 0, 1
    return (-np.inf, np.inf) if dtype in FLOATS else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))


def _larger(a, b):
    return libm.select((a > b) | (a != a), a, b)


def _smaller(a, b):
    return libm.select((a < b) | (a != a), a, b)


def _place_of(x, k):
    return (x, k)


def _larger_first(a, b):
    """The larger of two (value, position); NaN is larger than all; of equal ones the first."""
    earlier = b[1] < a[1]
    second = libm.select(a[0] != a[0], (b[0] != b[0]) & earlier, (b[0] > a[0]) | (b[0] != b[0]) | ((b[0] == a[0]) & earlier))
    return (libm.select(second, b[0], a[0]), libm.select(second, b[1], a[1]))


def _smaller_first(a, b):
    """The smaller of two (value, position); NaN is smaller than all; of equal ones the first."""
    earlier = b[1] < a[1]
    second = libm.select(a[0] != a[0], (b[0] != b[0]) & earlier, (b[0] < a[0]) | (b[0] != b[0]) | ((b[0] == a[0]) & earlier))
    return (libm.select(second, b[0], a[0]), libm.select(second, b[1], a[1]))


def _position(state, n):
    return state[1]


def _value_and_position(state, n):
    return state


_FAR = 1 << 62          # a position after all others


def _extreme(word: str, pick_one, pick_first, which: int, like, like_position) -> None:
    """The records of one side: max, amax, max_dim, argmax (or min, ...)."""
    title = word.capitalize()
    about = {"lift": _element, "combine": pick_one, "start": lambda dtype: (_bounds(dtype)[which],), "finish": _itself,
             "state": lambda dtype: (_held(dtype),), "dtypes": BOOL + REALS, "empty": False, "like": like,
             "adjoint": share_extreme}
    plain = fold(word, **about, node=f"{title}Backward1", doc=f"The {word}imum of all elements; NaN wins.",
                 refusals=dict.fromkeys(("complex64", "complex128"), f'"{word}_all" not implemented for complex dtypes'))
    fold(f"a{word}", **about, node=f"A{word}Backward0", kernel=plain, doc=f"The {word}imum over dimensions; NaN wins.")
    placed = {"lift": _place_of, "combine": pick_first, "start": lambda dtype: (_bounds(dtype)[which], _FAR), "positions": True,
              "state": lambda dtype: (_held(dtype), "int64"), "dtypes": BOOL + REALS, "empty": False}
    fold(f"{word}_dim", **placed, finish=_value_and_position, result=lambda dtype: (dtype, "int64"), adjoint=place_result,
         node=f"{title}Backward0", doc=f"The {word}imum along a dimension, and where it is first attained.")
    fold(f"arg{word}", **placed, finish=_position, result=TO_INT64, like=like_position,
         doc=f"Where the {word}imum is first attained.")


_extreme("max", _larger, _larger_first, 0, np.max, np.argmax)
_extreme("min", _smaller, _smaller_first, 1, np.min, np.argmin)


def _pair(x, k):
    return (x, x)


def _wider(a, b):
    return (_smaller(a[0], b[0]), _larger(a[1], b[1]))


def _aminmax_adjoint(gs, x, out, dims, keepdim, x_shape):
    shares = [share_extreme(g, x, o, dims, keepdim, x_shape) for g, o in zip(gs, out, strict=True) if g is not None]
    return shares[0] if len(shares) == 1 else BOOK["add"](*shares)


fold("aminmax", lift=_pair, combine=_wider, start=lambda dtype: (_bounds(dtype)[1], _bounds(dtype)[0]),
     finish=_value_and_position,
     state=lambda dtype: (_held(dtype),) * 2, dtypes=BOOL + REALS, result=lambda dtype: (dtype, dtype), empty=False,
     adjoint=_aminmax_adjoint, doc="The minimum and the maximum over dimensions; NaN wins.")


# --- truth ------------------------------------------------------------------------------------------------------------

def _either(a, b):
    return a | b


def _both(a, b):
    return a & b


def _truth(state, n):
    return state != 0


def _bool_or_uint8(dtype):
    """Result rule of any and all: bool, but uint8 stays (PyTorch's history)."""
    return "uint8" if dtype == "uint8" else TO_BOOL(dtype)


fold("any", lift=_nonzero, combine=_either, start=_zero, finish=_truth, state=lambda dtype: ("int8",), dtypes=ALL,
     result=_bool_or_uint8, like=np.any, doc="Whether any element is not zero.")
fold("all", lift=_nonzero, combine=_both, start=lambda dtype: (1,), finish=_truth, state=lambda dtype: ("int8",), dtypes=ALL,
     result=_bool_or_uint8, like=np.all, doc="Whether all elements are not zero.")


# --- norms ------------------------------------------------------------------------------------------------------------

def _running_real(dtype):
    return ("float32",) if dtype in ("float16", "complex64") else ("float64",) if dtype == "complex128" else (dtype,)


def _wide_real(dtype):
    return ("float64",)


def _squared(x, k):
    return x.real * x.real + x.imag * x.imag


def _root(state, n):
    return libm.sqrt(state)


_REAL_OF = {"result": TO_REAL, "dtypes": FLOATS + COMPLEX, "function": False, "method": False}

fold("norm_two", lift=_squared, combine=_plus, start=_zero, finish=_root, state=_running_real, wide=_wide_real, **_REAL_OF,
     doc="Square root of the sum of squared magnitudes.")
fold("squares", lift=_squared, combine=_plus, start=_zero, finish=_itself, state=_running_real, wide=_wide_real, **_REAL_OF,
     doc="Sum of squared magnitudes.")


def _magnitude(x, k):
    return abs(x)


fold("norm_one", lift=_magnitude, combine=_plus, start=_zero, finish=_itself, state=_running_real, wide=_wide_real, **_REAL_OF,
     doc="Sum of magnitudes.")
fold("norm_most", lift=_magnitude, combine=_larger, start=_zero, finish=_itself, state=_running_real, **_REAL_OF,
     doc="Largest magnitude.")
fold("norm_least", lift=_magnitude, combine=_smaller, start=lambda dtype: (np.inf,), finish=_itself, state=_running_real,
     **_REAL_OF, doc="Smallest magnitude.")
fold("norm_count", lift=_nonzero, combine=_plus, start=_zero, finish=_itself, state=lambda dtype: ("int32",),
     wide=lambda dtype: ("int64",), **_REAL_OF, doc="How many elements are not zero, as a number of the input's dtype.")


def _power(x, k, p):
    return libm.pow(abs(x), p)


fold("powers", lift=_power, combine=_plus, start=_zero, finish=_itself, state=_running_real, wide=_wide_real, extra=1, work=8,
     result=TO_REAL, dtypes=FLOATS, function=False, method=False, doc="Sum of magnitudes to the power p (one p a result).")


# --- squared deviations and exponentials: second passes -----------------------------------------------------------------

def _deviation(x, k, m):
    d = x - m
    return (d.real * d.real + d.imag * d.imag, d)


def _both_sums(a, b):
    return (a[0] + b[0], a[1] + b[1])


def _corrected(state, n):
    """The sum of squares about the true mean: what rounding of the given mean adds is taken away."""
    s = state[1]
    return state[0] - (s.real * s.real + s.imag * s.imag) / n


fold("deviations", lift=_deviation, combine=_both_sums, start=lambda dtype: (0, 0), finish=_corrected, extra=1,
     state=lambda dtype: (*_running_real(dtype), *_running(dtype)), wide=lambda dtype: ("float64", *_wide(dtype)),
     result=lambda dtype: "float64", dtypes=FLOATS + COMPLEX, function=False, method=False,
     doc="Sum of squared deviations from a mean given as a second operand.",
     source="corrected two-pass algorithm: Chan, Golub, LeVeque, The American Statistician 37 (1983), (1.7)")


def _exponential(x, k, m):
    return libm.exp(x - m)


fold("exponentials", lift=_exponential, combine=_plus, start=_zero, finish=_itself, extra=1, state=_running, wide=_wide, work=4,
     dtypes=FLOATS, function=False, method=False, doc="Sum of exp(x - m), m given as a second operand.")
