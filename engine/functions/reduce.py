"""Reductions: arguments of sum, max, any and their kin, over the folds of `kernels.ops.folds`.

Here are sums, products, extreme values and truth; moments and norms are in `engine.functions.moments`, what is found by
sorting (median, quantile, mode) and counting (bincount, histc) in `engine.functions.order`. Shared: `dims_of`.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

from kernels.book import BOOK
from kernels.cpu.folds import SMALL, kernel_of, run
from kernels.table import TABLE

from .. import dispatch, dtypes
from ..errors import DTypeError
from ..return_types import named
from ..tape import clock, modes, refresh
from ..tensor import KIND, Tensor, wrap_dim, wrap_dims
from .registry import public

new = object.__new__
custom_kernels = TABLE._custom          # not empty when a user replaced a kernel: then nothing here is cut short
Dims = int | Sequence[int] | None


# --- arguments --------------------------------------------------------------------------------------------------------

def dims_of(dim: Dims, ndim: int, empty_is_all: bool = True) -> tuple[int, ...] | None:
    """Folded dimensions, counted from the front: None for all of them, () for none. A number has none to fold.

    Errors: IndexError and RuntimeError of `wrap_dims`, TypeError for what is neither an int nor a sequence of ints.
    """
    if dim is None:
        return None
    if isinstance(dim, (str, bytes)) or not (hasattr(dim, "__index__") or hasattr(dim, "__iter__")):
        raise TypeError(f"dim must be an int or a tuple of ints, not {type(dim).__name__}")
    if isinstance(dim, Tensor) and dim._array.ndim:
        dim = dim.tolist()
    wrapped = wrap_dims(dim, ndim)
    if not ndim:
        return ()
    return None if not wrapped and empty_is_all else wrapped


def one_dim(name: str, dim, ndim: int) -> int:
    """A single dimension, counted from the front."""
    if not hasattr(dim, "__index__"):
        raise TypeError(f"{name}() received an invalid combination of arguments - dim must be int, not {type(dim).__name__}")
    return wrap_dim(dim, ndim)


def tensor_of(name: str, input) -> Tensor:
    """The first argument, which must be a tensor (NumPy arrays are welcome)."""
    if isinstance(input, Tensor):
        return input
    converted = dispatch.operand(name, input)
    if not isinstance(converted, Tensor):
        raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
    return converted


def needs_elements(name: str, input: Tensor, dims: tuple[int, ...] | None, error: type = IndexError) -> None:
    """Refuse folds without a neutral element over nothing, in PyTorch's words."""
    shape = input._array.shape
    if dims is None:
        if not input._array.size:
            raise error(f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim "
                        "with the 'dim' argument.")
        return
    for d in dims:
        if not shape[d]:
            raise IndexError(f"{name}(): Expected reduction dim {d} to have non-zero size.")


def converted(input: Tensor, dtype) -> Tensor:
    """The input in the dtype to compute in."""
    kind = KIND[dtypes.as_dtype(dtype)]
    return input if input._kind is kind else dispatch.cast(input, kind)


def finish(result: Tensor, out: Tensor | None) -> Tensor:
    """The result itself, or the caller's `out=` that holds it."""
    return result if out is None else dispatch.into(out, result)


def finish_all(make: type, results: Sequence[Tensor], out) -> tuple:
    """Several results under their names; `out=` is a tuple of as many tensors."""
    if out is None:
        return make(*results)
    if len(out) != len(results):
        raise TypeError(f"{make.__name__}(): argument 'out' must be a tuple of {len(results)} Tensors, got {len(out)}")
    return make(*(dispatch.into(o, r) for o, r in zip(out, results, strict=True)))


def reduced(name: str, input: Tensor, dim: Dims, keepdim: bool, dtype: dtypes.dtype | None = None, out: Tensor | None = None,
            empty_is_all: bool = True) -> Tensor:
    """A fold over `dim`, the general way."""
    input = tensor_of(name, input)
    if dtype is not None:
        input = converted(input, dtype)
    dims = dims_of(dim, input._array.ndim, empty_is_all)
    if dims is None and dim is not None:        # dim=(): all of them, but PyTorch's node for given dimensions
        dims = tuple(range(input._array.ndim))
    result = BOOK[name](input, dims=dims, keepdim=keepdim)
    return finish(result if dtype is None else converted(result, dtype), out)


# --- the hot paths: a small tensor's elements, all of them; one dimension ---------------------------------------------

_WHOLE = {"dims": None, "keepdim": False}


class Ways(dict):
    """kind -> (kernel for few elements, kind of the result) of one fold, None where the general way must answer."""

    def __init__(self, name: str):
        super().__init__()
        self.op = BOOK[name]
        self.shared = self.op.kernel or self.op

    def __missing__(self, kind):
        op, dtype = self.op, kind.dtype.name
        if dtype not in op.dtypes or kind.device.type != "cpu":
            return None
        found = self[kind] = (kernel_of(self.shared, kind.numpy, "small"), KIND[dtypes.by_name(op.result(dtype))])
        return found


def whole(name: str, saves_input: bool = False) -> Callable[[Tensor], Tensor | None]:
    """A function that folds all elements of a small CPU tensor, or gives None where the general way must answer.

    What `GeneralCaller` does, for one operand and no options, in a third of the time.
    """
    ways = Ways(name)
    caller = BOOK[name].apply

    def call(x: Tensor) -> Tensor | None:
        a = x._array
        if custom_kernels or a.size > SMALL:
            return None
        found = ways[x._kind]
        if found is None:
            return None
        ufunc, out_kind = found
        r = new(Tensor)
        r._array = ufunc(a if a.ndim == 1 else a.reshape(-1), out=...)
        r._kind = out_kind
        r._node = r._counter = r._view = r._grad = r._meta = None
        r._needs = False
        if x._view is not None:
            refresh(x)
        if x._needs and modes.enabled and out_kind.dtype.category >= 2:
            edge = x._node
            if edge is None:
                edge = x
            if saves_input:
                r._node = caller.make_node((r,), False, (x,), (edge,), _WHOLE)
            else:
                node = new(caller.node)
                node.edges, node.hooks, node.order = (edge,), None, next(clock)
                node.options, node.results = _WHOLE, 1
                node.saved, node.counted, node.version = (a.shape,), (), 0
                r._node = node
            r._needs = True
        return r
    return call


def along(name: str) -> Callable[[Tensor, int, bool], Tensor | None]:
    """A function that folds one dimension of a CPU tensor, or gives None where the general way must answer."""
    ways = Ways(name)
    caller, shared = BOOK[name].apply, ways.shared

    def call(x: Tensor, dim: int, keepdim: bool) -> Tensor | None:
        a = x._array
        ndim = a.ndim
        if custom_kernels or not -ndim <= dim < ndim:
            return None
        found = ways[x._kind]
        if found is None:
            return None
        dims = (dim if dim >= 0 else dim + ndim,)
        r = new(Tensor)
        r._array, r._kind = run(shared, a, dims, keepdim), found[1]
        r._node = r._counter = r._view = r._grad = r._meta = None
        r._needs = False
        if x._view is not None:
            refresh(x)
        if x._needs and modes.enabled and r._kind.dtype.category >= 2:
            r._node = caller.make_node((r,), False, (x,), (x if x._node is None else x._node,), {"dims": dims, "keepdim": keepdim})
            r._needs = True
        return r
    return call


_sum, _mean, _prod = whole("sum"), whole("mean"), whole("prod", True)
_max, _min, _any, _all = whole("max", True), whole("min", True), whole("any"), whole("all")
_sum_along, _mean_along = along("sum"), along("mean")


# --- sums and products ------------------------------------------------------------------------------------------------

@public()
def sum(input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: dtypes.dtype | None = None,
        out: Tensor | None = None, axis: Dims = None, keepdims: bool = False) -> Tensor:
    """Sum over `dim` (None: all). Integers and bool are summed in int64 unless `dtype` says otherwise."""
    if dtype is None and out is None and axis is None and not keepdims and input.__class__ is Tensor:
        result = (_sum(input) if dim is None and not keepdim else
                  _sum_along(input, dim, keepdim) if dim.__class__ is int else None)
        if result is not None:
            return result
    return reduced("sum", input, dim if axis is None else axis, keepdim or keepdims, dtype, out)


@public()
def mean(input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: dtypes.dtype | None = None,
         out: Tensor | None = None, axis: Dims = None, keepdims: bool = False) -> Tensor:
    """Arithmetic mean over `dim` (None: all) of floating point or complex numbers."""
    if dtype is None and out is None and axis is None and not keepdims and input.__class__ is Tensor and (
            input._kind.dtype.category >= 2):
        result = (_mean(input) if dim is None and not keepdim else
                  _mean_along(input, dim, keepdim) if dim.__class__ is int else None)
        if result is not None:
            return result
    input = tensor_of("mean", input)
    given = input._kind.dtype if dtype is None else dtypes.as_dtype(dtype)
    if given.category < 2:
        word = "Input" if dtype is None else "Optional"
        raise DTypeError(f"mean(): could not infer output dtype. {word} dtype must be either a floating point or complex "
                         f"dtype. Got: {given.scalar}")
    return reduced("mean", input, dim if axis is None else axis, keepdim or keepdims, dtype, out)


@public()
def nansum(input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: dtypes.dtype | None = None,
           out: Tensor | None = None) -> Tensor:
    """Sum over `dim` (None: all), NaN counting as 0."""
    input = tensor_of("nansum", input)
    if input._kind.dtype.is_complex:
        raise DTypeError("nansum on CPU does not support complex inputs")
    return reduced("nansum", input, dim, keepdim, dtype, out)


@public()
def nanmean(input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: dtypes.dtype | None = None,
            out: Tensor | None = None) -> Tensor:
    """Mean over `dim` (None: all) of the elements that are not NaN."""
    input = tensor_of("nanmean", input)
    if input._kind.dtype.category < 2:
        raise DTypeError("nanmean(): expected input to have floating point or complex dtype but got "
                         f"{input._kind.dtype.scalar}")
    total = nansum(input, dim, keepdim, dtype=dtype)
    count = reduced("sum", BOOK["not_nan"](input.detach()), dim, keepdim)
    return finish(BOOK["div"](total, converted(count, total.dtype)), out)


@public()
def prod(input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: dtypes.dtype | None = None,
         out: Tensor | None = None) -> Tensor:
    """Product along `dim` (None: of all elements). Integers and bool are multiplied in int64 unless `dtype` says otherwise."""
    if dim is None and dtype is None and out is None and input.__class__ is Tensor:
        result = _prod(input)
        if result is not None:
            return result
    input = tensor_of("prod", input)
    if dim is not None:
        dim = one_dim("prod", dim, input._array.ndim)
    return reduced("prod", input, dim, keepdim and dim is not None, dtype, out)


@public()
def count_nonzero(input: Tensor, dim: Dims = None) -> Tensor:
    """How many elements along `dim` (None: of all) are not zero, as int64."""
    return reduced("count_nonzero", input, dim, False)


# --- truth ------------------------------------------------------------------------------------------------------------

def _truth_of(name: str, hot: Callable) -> Callable:
    def function(input: Tensor, dim: Dims = None, keepdim: bool = False, *, out: Tensor | None = None,
                 axis: Dims = None) -> Tensor:
        if dim is None and out is None and axis is None and not keepdim and input.__class__ is Tensor:
            result = hot(input)
            if result is not None:
                return result
        return reduced(name, input, dim if axis is None else axis, keepdim, None, out, empty_is_all=False)
    function.__name__ = function.__qualname__ = name
    function.__doc__ = (f"Whether {'any element' if name == 'any' else 'all elements'} along `dim` (None: of all) "
                        f"{'is' if name == 'any' else 'are'} not zero: bool, but uint8 for uint8.")
    return public()(function)


any = _truth_of("any", _any)
all = _truth_of("all", _all)


# --- extreme values ---------------------------------------------------------------------------------------------------

_RESULT = {word: named(word, "values indices") for word in ("max", "min")}
_AMINMAX = named("aminmax", "min max")


def _extreme_of(name: str, hot: Callable, other_name: str) -> Callable:
    make = _RESULT[name]

    def function(input: Tensor, dim: int | Tensor | None = None, keepdim: bool = False, *, other: Tensor | None = None,
                 out: Tensor | tuple | None = None, axis: int | None = None) -> Tensor | tuple:
        if dim is None and out is None and other is None and axis is None and input.__class__ is Tensor and input._array.size:
            result = hot(input)
            if result is not None:
                return result
        input = tensor_of(name, input)
        if isinstance(dim, Tensor) and other is None:
            dim, other = None, dim
        if other is not None:
            return finish(BOOK[other_name](input, other), out)
        if dim is None and axis is None:
            needs_elements(name, input, None, RuntimeError)
            if input._kind.dtype.is_complex:
                raise NotImplementedError(f'"{name}_all" not implemented for \'{input._kind.dtype.scalar}\'')
            return finish(BOOK[name](input, dims=None, keepdim=False), out)
        d = one_dim(name, dim if axis is None else axis, input._array.ndim)
        if input._kind.dtype.is_complex:
            raise NotImplementedError(f'"{name}" not implemented for \'{input._kind.dtype.scalar}\'')
        dims = (d,) if input._array.ndim else ()
        needs_elements(name, input, dims)
        return finish_all(make, BOOK[f"{name}_dim"](input, dims=dims, keepdim=keepdim), out)
    function.__name__ = function.__qualname__ = name
    function.__doc__ = (f"The {name}imum of all elements; with `dim`, (values, indices) along it, the first where several "
                        f"are equal; with a tensor, `{other_name}`. NaN wins. RuntimeError and IndexError over no elements.")
    return public()(function)


max = _extreme_of("max", _max, "maximum")
min = _extreme_of("min", _min, "minimum")


def _amax(name: str) -> Callable:
    def function(input: Tensor, dim: Dims = (), keepdim: bool = False, *, out: Tensor | None = None,
                 axis: Dims = None) -> Tensor:
        input = tensor_of(name, input)
        if input._kind.dtype.is_complex:
            word = "max_values_cpu" if name == "amax" else "min_values_cpu"
            raise NotImplementedError(f'"{word}" not implemented for \'{input._kind.dtype.scalar}\'')
        dims = dims_of(dim if axis is None else axis, input._array.ndim)
        needs_elements(name, input, dims, RuntimeError)
        return finish(BOOK[name](input, dims=dims, keepdim=keepdim), out)
    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"The {name[1:]}imum over `dim` (empty: all); equal ones share the gradient. NaN wins."
    return public()(function)


amax = _amax("amax")
amin = _amax("amin")


def _argmax(name: str) -> Callable:
    def function(input: Tensor, dim: int | None = None, keepdim: bool = False, *, out: Tensor | None = None,
                 axis: int | None = None) -> Tensor:
        input = tensor_of(name, input)
        kind = input._kind.dtype
        if kind.is_complex or kind is dtypes.bool_:
            raise DTypeError(f"{name}(): does not support {'complex' if kind.is_complex else 'bool'} input")
        dim = axis if dim is None else dim
        ndim = input._array.ndim
        if dim is None:
            if not input._array.size:
                raise IndexError(f"{name}(): Expected reduction dim to be specified for input.numel() == 0.")
            dims = None
        else:
            dims = (one_dim(name, dim, ndim),) if ndim else dims_of(dim, 0)
            needs_elements(name, input, dims)
        return finish(BOOK[name](input, dims=dims, keepdim=keepdim), out)
    function.__name__ = function.__qualname__ = name
    function.__doc__ = (f"Where the {name[3:]}imum along `dim` (None: of the flattened input) is first attained, as int64. "
                        "NaN wins.")
    return public()(function)


argmax = _argmax("argmax")
argmin = _argmax("argmin")


@public()
def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False, out: tuple | None = None) -> tuple:
    """The minimum and the maximum along `dim` (None: of all), as (min, max). NaN wins."""
    input = tensor_of("aminmax", input)
    if dim is None:
        if not input._array.size:
            raise RuntimeError("aminmax(): cannot compute aminmax over an empty dimension as the operation has no identity.")
        dims = None
    else:
        d = one_dim("aminmax", dim, input._array.ndim)
        dims = (d,) if input._array.ndim else ()
        needs_elements("aminmax", input, dims)
    return finish_all(_AMINMAX, BOOK["aminmax"](input, dims=dims, keepdim=keepdim), out)


__all__ = ["all", "amax", "amin", "aminmax", "any", "argmax", "argmin", "count_nonzero", "max", "mean", "min",
           "nanmean", "nansum", "prod", "sum"]
