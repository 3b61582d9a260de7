"""Tensors whose elements follow a rule: arange, range, linspace, logspace, and the windows of signal processing.

How many elements and of which dtype is settled here, as PyTorch settles it; kernels of `kernels.cpu.fills` compute
them.
"""
from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from kernels.book import BOOK
from kernels.cpu import fills
from kernels.cpu.gathers import word

from .. import dtypes
from ..dtypes import DEFAULT
from ..errors import DTypeError, NumberError
from ..tensor import KIND, Kind, Tensor, wrap
from .create import finish, kind_of, number
from .factories import _recipe, allocate, scalar_of
from .registry import public

INT64, LIMIT = KIND[dtypes.int64], 1 << 63


def _refuse(name: str, kind: Kind, categories: tuple[int, ...]) -> None:
    if kind.dtype.category not in categories:
        raise NotImplementedError(f"\"{name}_cpu\" not implemented for '{kind.dtype.scalar}'")


# --- arange -----------------------------------------------------------------------------------------------------------

@public(method=False)
def arange(*bounds: Any, start: float = 0, end: float | None = None, step: float = 1, out: Tensor | None = None,
           dtype: dtypes.dtype | None = None, layout: Any = None, device: Any = None, requires_grad: bool = False,
           pin_memory: bool = False) -> Tensor:
    """start, start + step, ... below end: `arange(end)`, `arange(start, end)`, `arange(start, end, step)`.

    int64 when all three are integers, the default dtype otherwise. RuntimeError for a step of 0 or of the wrong sign.
    """
    if len(bounds) > 3 or (not bounds and end is None):
        raise TypeError(f"arange() received an invalid combination of arguments - got {len(bounds)} positional ones, "
                        f"but expected (end), (start, end) or (start, end, step)")
    if len(bounds) == 1:
        start, end = (start, bounds[0]) if end is None else (bounds[0], end)
    elif bounds:
        start, end, step = (*bounds, step)[:3]
    return _stepped("arange", start, end, step, out, dtype, device, requires_grad)


@public(method=False, name="range")
def range_(start: float, end: float | None = None, step: float = 1, *, out: Tensor | None = None,
           dtype: dtypes.dtype | None = None,
           layout: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """PyTorch's deprecated `range`, which includes `end` and has the default dtype."""
    warnings.warn("range is deprecated because its behavior is inconsistent with Python's range builtin. Instead, use "
                  "arange, which produces values in [start, end).", UserWarning, stacklevel=2)
    start, end = (0, start) if end is None else (start, end)
    return _stepped("range", start, end, step, out, dtype, device, requires_grad)


def _stepped(name, start, end, step, out, dtype, device, requires_grad) -> Tensor:
    if not (start.__class__ is int and end.__class__ is int and step.__class__ is int):
        start, end, step = (_real(scalar_of(name, v, n, k)) for k, (n, v) in
                            enumerate((("start", start), ("end", end), ("step", step)), 1))
    elif dtype is None and out is None and name == "arange" and step and (end - start) * step >= 0 and (
            min(start, end) > -LIMIT and max(start, end) < LIMIT):
        array = allocate((-((start - end) // step),), INT64)
        fills.run(fills.arange_ufunc("int64"), array, word(start), word(step))
        return finish(wrap(array, INT64), device, requires_grad)
    whole = isinstance(start, int) and isinstance(end, int) and isinstance(step, int)
    default = INT64 if whole and name == "arange" else KIND[DEFAULT.dtype]
    return _recipe(name, dtype, out, device, requires_grad, lambda kind: _steps(name, start, end, step, whole, kind),
                   default)


def _real(value):
    if isinstance(value, complex):
        raise DTypeError("value cannot be converted to type double without overflow")
    return value


def _steps(name: str, start, end, step, whole: bool, kind: Kind) -> np.ndarray:
    """The numbers of arange or range. Integers are counted exactly, floats in double precision."""
    _refuse(name, kind, (1, 2))
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if not (math.isfinite(start) and math.isfinite(end)):
        raise RuntimeError(f"unsupported range: {start} -> {end}")
    if (start > end) if step > 0 else (start < end):
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    if name == "range":
        count = math.floor((end - start) / step) + 1
    elif whole:
        count = -((start - end) // step)
        if kind.dtype.category == 1 and not (-LIMIT <= start < LIMIT and -LIMIT <= end < LIMIT):
            raise NumberError("value cannot be converted to type int64_t without overflow")
    else:
        count = math.ceil((float(end) - float(start)) / float(step))
    if not 0 <= count < 1 << 63:
        raise RuntimeError("invalid size, possible overflow?")
    out = allocate((count,), kind)
    wide = np.int64 if kind.dtype.category == 1 else np.float64
    fills.run(fills.arange_ufunc(kind.dtype.name), out, np.array(int(start) if wide is np.int64 else start, wide),
              np.array(int(step) if wide is np.int64 else step, wide))
    return out


# --- linspace and logspace --------------------------------------------------------------------------------------------

@public(method=False)
def linspace(start: Tensor | complex, end: Tensor | complex, steps: int, *, out: Tensor | None = None,
             dtype: dtypes.dtype | None = None,
             layout: Any = None,
             device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """`steps` numbers from start to end, both included exactly, evenly spaced."""
    return _spaced("linspace", start, end, steps, None, out, dtype, device, requires_grad)


@public(method=False)
def logspace(start: Tensor | complex, end: Tensor | complex, steps: int, base: float = 10.0, *, out: Tensor | None = None,
             dtype: dtypes.dtype | None = None,
             layout: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """`steps` powers of `base` whose exponents are evenly spaced from start to end."""
    return _spaced("logspace", start, end, steps, base, out, dtype, device, requires_grad)


def _spaced(name, start, end, steps, base, out, dtype, device, requires_grad) -> Tensor:
    for which, value in (("start", start), ("end", end)):
        if isinstance(value, Tensor) and value._array.ndim:
            raise RuntimeError(f"{name} only supports 0-dimensional start and end tensors, but got {which} with "
                               f"{value._array.ndim} dimension(s).")
    start, end = scalar_of(name, start, "start", 1), scalar_of(name, end, "end", 2)
    if isinstance(steps, (bool, float)) or not hasattr(steps, "__index__"):
        raise TypeError(f"{name}(): argument 'steps' (position 3) must be int, not {type(steps).__name__}")
    steps = steps.__index__()
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    is_complex = isinstance(start, complex) or isinstance(end, complex)
    default = DEFAULT.dtype.complex if is_complex else DEFAULT.dtype
    wanted = kind_of(dtype, name)
    if is_complex and (wanted or (out._kind if out is not None else KIND[default])).dtype.category < 3:
        raise DTypeError(f"engine.{name}(): inferred dtype {default.scalar} can't be safely cast to passed dtype "
                         f"{(wanted or out._kind).dtype.scalar}")
    return _recipe(name, dtype, out, device, requires_grad, lambda kind: _between(name, start, end, steps, base, kind),
                   KIND[default])


def _between(name: str, start, end, steps: int, base, kind: Kind) -> np.ndarray:
    _refuse(name, kind, (1, 2, 3))
    if kind.dtype.category == 3:
        return _complex_between(start, end, steps, base, kind)
    out = allocate((steps,), kind)
    if kind.dtype.category == 1:
        start, end = int(number(start, kind)), int(number(end, kind))
    step = (end - start) / (steps - 1) if steps > 1 else 0.0
    single = steps == 1                     # the kernel counts a single element from the end
    ends = [np.array(float(v)) for v in ((start, start, 0.0) if single else (start, end, step))]
    if base is None:
        fills.run(fills.linspace_ufunc(kind.dtype.name), out, *ends, np.array(steps, np.int64))
    else:
        fills.run(fills.logspace_ufunc(kind.dtype.name), out, *ends, np.array(steps, np.int64), np.array(float(base)))
    return out


def _complex_between(start, end, steps: int, base, kind: Kind) -> np.ndarray:
    start, end = complex(start), complex(end)
    out = allocate((steps,), kind)
    real = KIND[kind.dtype.real]
    for part, a, b in ((out.real, start.real, end.real), (out.imag, start.imag, end.imag)):
        value = _between("linspace", a, b, steps, None, real)
        part[...] = value
    if base is not None:
        out = BOOK["pow"](wrap(np.array(base, kind.numpy), kind), wrap(out, kind))._array
    return out


# --- windows ----------------------------------------------------------------------------------------------------------

def _window(name: str, length: int, periodic: bool, dtype, device, requires_grad: bool,
            terms: tuple[float, ...]) -> Tensor:
    """A sum of cosines: terms[0] - terms[1] cos(2 pi i / n) + terms[2] cos(4 pi i / n), n = length if periodic else
    length - 1.
    """
    kind = kind_of(dtype, name) or KIND[DEFAULT.dtype]
    if kind.dtype.category < 2:
        raise DTypeError(f"{name} expects floating point dtypes, got: {kind.dtype!r}")
    if length < 0:
        raise RuntimeError(f"{name} requires non-negative window_length, got window_length={length}")
    if length < 2:
        return finish(wrap(fills_of(length, kind), kind), device, requires_grad)
    count = length + 1 if periodic else length
    wide = KIND[dtypes.float64]
    angle = wrap(_between("linspace", 0.0, 2 * math.pi, count, None, wide)[:length], wide)
    total = BOOK["sub"](terms[0], BOOK["mul"](BOOK["cos"](angle), terms[1]))
    if len(terms) > 2:
        total = BOOK["add"](total, BOOK["mul"](BOOK["cos"](BOOK["mul"](angle, 2.0)), terms[2]))
    return finish(total.to(kind.dtype), device, requires_grad)


def fills_of(length: int, kind: Kind) -> np.ndarray:
    """A window of one element is 1, an empty one is empty."""
    out = allocate((length,), kind)
    fills.fill(out, np.ones((), kind.numpy))
    return out


@public(method=False)
def hann_window(window_length: int, periodic: bool = True, *, dtype: dtypes.dtype | None = None, layout: Any = None,
                device: Any = None, pin_memory: bool = False, requires_grad: bool = False) -> Tensor:
    """0.5 - 0.5 cos(2 pi i / n); periodic windows suit the FFT, others have equal ends."""
    return _window("hann_window", window_length, periodic, dtype, device, requires_grad, (0.5, 0.5))


@public(method=False)
def hamming_window(window_length: int, periodic: bool = True, alpha: float = 0.54, beta: float = 0.46, *,
                   dtype: dtypes.dtype | None = None, layout: Any = None, device: Any = None, pin_memory: bool = False,
                   requires_grad: bool = False) -> Tensor:
    """alpha - beta cos(2 pi i / n)."""
    return _window("hamming_window", window_length, periodic, dtype, device, requires_grad, (alpha, beta))


@public(method=False)
def blackman_window(window_length: int, periodic: bool = True, *, dtype: dtypes.dtype | None = None, layout: Any = None,
                    device: Any = None, pin_memory: bool = False, requires_grad: bool = False) -> Tensor:
    """0.42 - 0.5 cos(2 pi i / n) + 0.08 cos(4 pi i / n)."""
    return _window("blackman_window", window_length, periodic, dtype, device, requires_grad, (0.42, 0.5, 0.08))


@public(method=False)
def bartlett_window(window_length: int, periodic: bool = True, *, dtype: dtypes.dtype | None = None, layout: Any = None,
                    device: Any = None, pin_memory: bool = False, requires_grad: bool = False) -> Tensor:
    """A triangle: 1 - |2 i / n - 1|."""
    kind = kind_of(dtype, "bartlett_window") or KIND[DEFAULT.dtype]
    if kind.dtype.category < 2 or window_length < 2:
        return _window("bartlett_window", window_length, periodic, dtype, device, requires_grad, (1.0, 0.0))
    wide = KIND[dtypes.float64]
    line = _between("linspace", -1.0, 1.0, window_length + 1 if periodic else window_length, None, wide)
    ramp = BOOK["sub"](1.0, BOOK["abs"](wrap(line[:window_length], wide)))
    return finish(ramp.to(kind.dtype), device, requires_grad)
