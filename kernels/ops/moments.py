"""Variance, norms of any order, logsumexp, and elements picked by sorting: operators made of several folds or of an index.

Dimensions are counted from the front and complete here (None: all). The folds are in `kernels.ops.folds`; arguments are
settled in `engine.functions.moments` and `engine.functions.statistics`.
"""
from __future__ import annotations

import functools

import numpy as np

from .. import libm
from ..book import BOOK, BOOL, COMPLEX, FLOATS, REALS, TO_REAL, pointwise, structural
from ..cpu import buffers
from ..cpu.maps import stored
from ..cpu.native import Program, make_ufunc
from ..table import cast_ufunc, forward_ufunc
from .folds import count_of, restore, share_extreme
from .windows import zeros

FLOATING = FLOATS + COMPLEX

# --- variance and standard deviation ------------------------------------------------------------------------------------


@functools.cache
def _quotient(dtype: str, root: bool) -> np.ufunc:
    """Sums of squares over degrees of freedom, in float64, stored as `dtype`."""
    value = "load_float64(args[0], i * steps[0]) / load_float64(args[1], i * steps[1])"
    source = ("def kernel(args, dimensions, steps, data):\n    for i in range(dimensions[0]):\n"
              f"        {stored(dtype, 'args[2]', 'i * steps[2]', f'root({value})' if root else value)}\n    clear_status()\n")
    name = f"{'deviation' if root else 'variance'}_{dtype}"
    return make_ufunc(Program(name, source, functions={"root": (_root, None)} if root else {},
                              inputs=("float64", "float64"), outputs=(dtype,)))


def _root(x):
    return libm.sqrt(x)


def _spread_of(x, dims, keepdim, correction, root):
    """(variance or standard deviation, mean with the folded dimensions kept)."""
    mean = BOOK["mean"].on_arrays(x, dims, True)
    squares = BOOK["deviations"].on_arrays(x, dims, keepdim, extra=(mean,))
    freedom = max(0.0, float(count_of(dims, x.shape) - correction))
    if not isinstance(x, np.ndarray):       # of another device
        value = BOOK["div"].on_arrays(squares, np.float64(freedom))
        return (BOOK["sqrt"].on_arrays(value) if root else value).cast(TO_REAL(x.dtype.name)), mean
    return _quotient(TO_REAL(x.dtype.name), root)(squares, np.float64(freedom), out=...), mean


def _kept(mean, dims, keepdim):
    if keepdim:
        return mean
    return mean.reshape(()) if dims is None else mean.reshape(tuple(n for d, n in enumerate(mean.shape) if d not in dims))


def _var_gradient(g, x, dims, keepdim, correction, x_shape):
    freedom = count_of(dims, x_shape) - correction
    distance = BOOK["sub"](x, BOOK["mean"](x, dims=dims, keepdim=True))
    g = restore(g, dims, keepdim, x_shape)
    if freedom <= 0:        # the value is infinite or NaN, and so is its derivative
        return BOOK["mul"](g, BOOK["div"](distance, 0.0))
    return BOOK["mul"](BOOK["mul"](g, 2.0 / freedom), distance)


def _std_gradient(g, x, out, dims, keepdim, correction, x_shape):
    """The derivative of the variance over twice the deviation; 0 where there is none."""
    return _var_gradient(BOOK["div_or_zero"](g, BOOK["mul"](out, 2)), x, dims, keepdim, correction, x_shape)


def _mean_gradient(g, dims, keepdim, x_shape):
    g = BOOK["expand"](restore(g, dims, keepdim, x_shape), shape=x_shape)
    return BOOK["div"](g, count_of(dims, x_shape))


_VAR = {"anywhere": True, "dtypes": FLOATING, "result": TO_REAL, "function": False, "method": False,
        "source": "corrected two-pass algorithm: Chan, Golub, LeVeque, The American Statistician 37 (1983), (1.7)"}


@structural(["x"], adjoint=_var_gradient, like=np.var, **_VAR)
def var(x, dims, keepdim, correction):
    """Sum of squared deviations from the mean over (count - correction)."""
    return _spread_of(x, dims, keepdim, correction, False)[0]


@structural(["x"], adjoint=_std_gradient, like=np.std, **_VAR)
def std(x, dims, keepdim, correction):
    """Square root of the variance."""
    return _spread_of(x, dims, keepdim, correction, True)[0]


def _both(first, second):
    return second if first is None else first if second is None else BOOK["add"](first, second)


def _var_mean_gradient(gs, x, dims, keepdim, correction, x_shape):
    of_var = None if gs[0] is None else _var_gradient(gs[0], x, dims, keepdim, correction, x_shape)
    return _both(of_var, None if gs[1] is None else _mean_gradient(gs[1], dims, keepdim, x_shape))


def _std_mean_gradient(gs, x, out, dims, keepdim, correction, x_shape):
    of_std = None if gs[0] is None else _std_gradient(gs[0], x, out[0], dims, keepdim, correction, x_shape)
    return _both(of_std, None if gs[1] is None else _mean_gradient(gs[1], dims, keepdim, x_shape))


@structural(["x"], adjoint=_var_mean_gradient, **_VAR)
def var_mean(x, dims, keepdim, correction):
    """(variance, mean)."""
    value, mean = _spread_of(x, dims, keepdim, correction, False)
    return value, _kept(mean, dims, keepdim)


@structural(["x"], adjoint=_std_mean_gradient, **_VAR)
def std_mean(x, dims, keepdim, correction):
    """(standard deviation, mean)."""
    value, mean = _spread_of(x, dims, keepdim, correction, True)
    return value, _kept(mean, dims, keepdim)


# --- norms --------------------------------------------------------------------------------------------------------------

_NORMS = {2.0: "norm_two", 1.0: "norm_one", 0.0: "norm_count", np.inf: "norm_most", -np.inf: "norm_least"}


def _sign(x):
    return BOOK["sgn"](x)


def _norm_gradient(g, x, out, p, dims, keepdim, x_shape):
    """Of (sum |x|^p)^(1/p); 0 where the norm is 0 (a subgradient), in equal shares for the largest and smallest magnitude."""
    g, out = restore(g, dims, keepdim, x_shape), restore(out, dims, keepdim, x_shape)
    if p == 0:
        return BOOK["mul"](x, 0)
    if p == 1:
        return BOOK["mul"](g, _sign(x))
    if p == 2:
        return BOOK["mul"](x, BOOK["div_or_zero"](g, out))
    size = BOOK["abs"](x)
    if p in (np.inf, -np.inf):
        return BOOK["mul"](share_extreme(g, size, out, dims, True, x_shape), _sign(x))
    weight = BOOK["div_or_zero"](size, out)
    if p < 1:               # the derivative is unbounded at 0: PyTorch takes 0 there
        weight = BOOK["mul"](BOOK["pow"](BOOK["add"](weight, BOOK["eq"](size, 0)), p - 1), BOOK["ne"](size, 0))
    else:
        weight = BOOK["pow"](weight, p - 1)
    return BOOK["mul"](BOOK["mul"](g, weight), _sign(x))


@structural(["x"], dtypes=FLOATING, result=TO_REAL, function=False, method=False, node="LinalgVectorNormBackward0",
            adjoint=_norm_gradient, like=np.linalg.norm, anywhere=True)
def vector_norm(x, p, dims, keepdim):
    """(sum |x|^p)^(1/p) over dimensions.

    The largest and smallest magnitude for p = inf and -inf; how many are not zero for p = 0.
    """
    p = float(p)
    known = _NORMS.get(p)
    if known:
        return BOOK[known].on_arrays(x, dims, keepdim)
    if x.dtype.kind == "c":
        x = BOOK["abs"].on_arrays(x)
    dtype = getattr(x.dtype, "numpy", x.dtype)
    total = BOOK["powers"].on_arrays(x, dims, keepdim, extra=(np.array(p, dtype),))
    return BOOK["pow"].on_arrays(total, np.array(1.0 / p, dtype), out=buffers.empty(total.shape, x.dtype))


# --- log of a sum of exponentials -----------------------------------------------------------------------------------------

@pointwise(dtypes=FLOATS, function=False, method=False)
def finite_or_zero(x):
    """A finite number stays, anything else becomes 0: the scale that logsumexp takes out."""
    return libm.select(x - x == 0, x, 0)


@pointwise(dtypes=FLOATS, function=False, method=False)
def log_plus(x, m):
    """log(x) + m."""
    return libm.log(x) + m


def _logsumexp_gradient(g, x, out, dims, keepdim, x_shape):
    return BOOK["mul"](restore(g, dims, keepdim, x_shape), BOOK["exp_below"](x, restore(out, dims, keepdim, x_shape)))


@structural(["x"], dtypes=FLOATS, function=False, method=False, adjoint=_logsumexp_gradient, anywhere=True)
def logsumexp(x, dims, keepdim):
    """Logarithm of the sum of exponentials over dimensions; never overflows."""
    if not count_of(dims, x.shape):
        shape = tuple(1 if dims is None or d in dims else n for d, n in enumerate(x.shape))
        shape = shape if keepdim else tuple(n for d, n in enumerate(x.shape) if dims is not None and d not in dims)
        return BOOK["log"].on_arrays(zeros(shape, x.dtype))
    scale = BOOK["finite_or_zero"].on_arrays(BOOK["amax"].on_arrays(x, dims, True))
    total = BOOK["exponentials"].on_arrays(x, dims, keepdim, extra=(scale,))
    return BOOK["log_plus"].on_arrays(total, scale.reshape(total.shape))


# --- elements chosen by an index that the engine found ------------------------------------------------------------------------

def _chosen(name: str, node: str) -> None:
    @structural(["x"], name=name, node=node, linear=True, function=False, method=False, dtypes=BOOL + REALS,
                doc="One element along a dimension: `index` is an array of the result's shape without the dimension.",
                adjoint=lambda g, index, dim, x_shape: (
                    BOOK["place"](g, index=index, dim=dim, size=x_shape[dim]) if x_shape else g))
    def forward(x, index, dim):
        return BOOK["pick"].forward(x, index, dim) if x.ndim else x.copy()


def _chosen_of_all(name: str, node: str) -> None:
    @structural(["x"], name=name, node=node, function=False, method=False, dtypes=BOOL + REALS,
                doc="One of all elements; those that equal it share its gradient.",
                adjoint=lambda g, x, out, x_shape: share_extreme(g, x, out, None, False, x_shape))
    def forward(x, at):
        return np.array(x.reshape(-1)[at])


for _word in ("median", "nanmedian"):
    _chosen(f"{_word}_dim", f"{_word.capitalize()}Backward1")
    _chosen_of_all(_word, f"{_word.capitalize()}Backward0")
_chosen("mode", "ModeBackward0")


@structural(["x"], dtypes=COMPLEX, function=False, method=False, node="LogsumexpBackward0",
            adjoint=lambda g, x, out, dims, keepdim: _logsumexp_complex_adjoint(g, x, out, dims, keepdim))
def logsumexp_complex(x, dims, keepdim):
    """Logarithm of a sum of complex exponentials over dimensions, scaled by the largest real part."""
    real, name = x.real, x.dtype.name
    m = BOOK["amax"].on_arrays(real, dims, True) if x.size else BOOK["sum"].on_arrays(real, dims, True)
    most = np.array(np.finfo(real.dtype).max)
    m = forward_ufunc(BOOK["clamp"], real.dtype.name)(m, -most, most, out=...)       # infinities minus themselves would be NaN
    shift = cast_ufunc(real.dtype.name, name)(m, out=...)
    powers = forward_ufunc(BOOK["exp"], name)(forward_ufunc(BOOK["sub"], name)(x, shift, out=...), out=...)
    total = BOOK["sum"].on_arrays(powers, dims, True)
    found = forward_ufunc(BOOK["add"], name)(forward_ufunc(BOOK["log"], name)(total, out=...), shift, out=...)
    return found if keepdim else found.reshape(BOOK["sum"].on_arrays(real, dims, False).shape)


def _logsumexp_complex_adjoint(g, x, out, dims, keepdim):
    """d / d x = exp(x - out), conjugated."""
    if not keepdim:
        shape = tuple([1 if dims is None or d in dims else n for d, n in enumerate(x.shape)])
        g, out = BOOK["reshape"](g, shape=shape), BOOK["reshape"](out, shape=shape)
    return BOOK["mul"](g, BOOK["conj"](BOOK["exp"](BOOK["sub"](x, out)))),
