"""Random tensors by recipe: rand, randn, randint, their *_like, randperm. In-place forms and distributions with tensors as
parameters are in `distributions`.

Checks and dtypes are settled here in PyTorch's words; numbers come from `kernels.cpu.randoms`, states from
`engine.random`.
"""
from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from kernels.book import BOOK
from kernels.cpu import randoms

from .. import dispatch, dtypes
from ..devices import CPU
from ..dtypes import DEFAULT
from ..errors import DTypeError, ShapeError
from ..random import Generator, default_generator
from ..tensor import KIND, Kind, Tensor, wrap
from .create import finish, kind_of, kind_there, place_of, state
from .factories import _into, allocate, empty_as, sizes
from .registry import public

_CTYPE = {"uint8": "unsigned char", "int8": "signed char", "int16": "short", "int32": "int", "int64": "long",
          "float16": "c10::Half", "float32": "float", "float64": "double", "bool": "bool"}


# --- drawing ----------------------------------------------------------------------------------------------------------

def draw(out: np.ndarray, rule: str, a: float, b: float, generator: Generator | None) -> np.ndarray:
    """Fill a C-contiguous array from a generator (None: the default one) and return it."""
    reserve = default_generator.reserve if generator is None else generator_of(generator).reserve
    if out.size and out.__class__ is not np.ndarray:
        from .. import device_arrays
        device_arrays.draw(out, rule, reserve, a, b)
    elif out.size:
        randoms.draw(out if out.ndim == 1 else out.reshape(-1), rule, reserve, a, b)
    return out


def generator_of(generator: Generator | None) -> Generator:
    """The generator of a `generator=` argument."""
    if generator is None:
        return default_generator
    if generator.__class__ is not Generator:
        raise TypeError(f"argument 'generator' must be engine.Generator, not {type(generator).__name__}")
    return generator


def _floats(out: np.ndarray, rule: str, a: float, b: float, generator: Generator | None) -> np.ndarray:
    """`draw` for real and complex kinds: the parts of a complex number are drawn one after the other."""
    if out.dtype.kind != "c":
        return draw(out, rule, a, b, generator)
    if out.__class__ is not np.ndarray:
        draw(out.parts(), rule, a, b, generator)
        return out
    draw(out.reshape(-1).view(f"f{out.itemsize // 2}"), rule, a, b, generator)
    return out


def _check(kind: Kind, words: str, categories: tuple[int, ...] = (2, 3)) -> None:
    if kind.dtype.category not in categories:
        raise NotImplementedError(f"\"{words}\" not implemented for '{kind.dtype.scalar}'")


_RULES = {"rand": ("uniform", "check_uniform_bounds", 0.0, 1.0), "randn": ("normal", "normal_kernel_cpu", 0.0, 1.0)}


def _standard(name: str, shape: tuple[int, ...], kind: Kind, generator: Generator | None) -> np.ndarray:
    """Numbers of rand or randn; the parts of a complex normal number have variance 1/2."""
    rule, words, a, b = _RULES[name]
    _check(kind, words)
    if rule == "normal" and kind.dtype.category == 3:
        b = math.sqrt(0.5)
    return _floats(allocate(shape, kind), rule, a, b, generator)


def _random(name: str, size: tuple, named: dict, generator, out, dtype, device, requires_grad) -> Tensor:
    if named:
        if set(named) != {"size"} or size:
            raise TypeError(f"{name}() got an unexpected keyword argument '{next(iter(named))}'")
        size = (named["size"],)
    shape = sizes(name, size)
    kind = kind_of(dtype, name) or (KIND[DEFAULT.dtype] if out is None else out._kind)
    if out is None and (device is not None or state.chosen is not CPU or state.inside):
        kind = kind_there(kind, device)
    made = finish(wrap(_standard(name, shape, kind, generator), kind), kind.device, requires_grad)
    return made if out is None else _into(out, made)


@public(method=False)
def rand(*size: Any, generator: Generator | None = None, out: Tensor | None = None, dtype: dtypes.dtype | None = None,
         layout: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False,
         **named: Any) -> Tensor:
    """Uniform numbers in [0, 1)."""
    return _random("rand", size, named, generator, out, dtype, device, requires_grad)


@public(method=False)
def randn(*size: Any, generator: Generator | None = None, out: Tensor | None = None, dtype: dtypes.dtype | None = None,
          layout: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False,
          **named: Any) -> Tensor:
    """Normal numbers of mean 0 and variance 1."""
    return _random("randn", size, named, generator, out, dtype, device, requires_grad)


def _random_like(name: str, input: Tensor, generator, dtype, device, requires_grad) -> Tensor:
    like = empty_as(f"{name}_like", input, dtype)
    return finish(_laid_out(like, _standard(name, like._array.shape, like._kind, generator)), place_of(input, device),
                  requires_grad)


def _laid_out(like: Tensor, values: np.ndarray) -> Tensor:
    """Values in row-major order, in the layout of `like`: element i of a call is the same in any layout."""
    if like._array.flags.c_contiguous:
        return wrap(values, like._kind)
    dispatch.store(like._array, values)
    return like


@public(method=False)
def rand_like(input: Tensor, *, generator: Generator | None = None, dtype: dtypes.dtype | None = None,
              layout: Any = None,
              device: Any = None, requires_grad: bool = False, pin_memory: bool = False,
              memory_format: Any = None) -> Tensor:
    """`rand` with the sizes and dtype of `input`."""
    return _random_like("rand", input, generator, dtype, device, requires_grad)


@public(method=False)
def randn_like(input: Tensor, *, generator: Generator | None = None, dtype: dtypes.dtype | None = None,
               layout: Any = None,
               device: Any = None, requires_grad: bool = False, pin_memory: bool = False,
               memory_format: Any = None) -> Tensor:
    """`randn` with the sizes and dtype of `input`."""
    return _random_like("randn", input, generator, dtype, device, requires_grad)


# --- integers ---------------------------------------------------------------------------------------------------------

def _bounds(low: int, high: int, kind: Kind) -> None:
    """Check a range of integers against a dtype, in PyTorch's words."""
    d = kind.dtype
    if low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    if d.category == 3:
        raise DTypeError("check_random_bounds handles only integral, floating-point and boolean types")
    if d.category == 2:
        digits = {"float16": 11, "float32": 24, "float64": 53}[d.name]
        for word, value in (("from", low), ("to - 1", high - 1)):
            if abs(value) > float(np.finfo(d.numpy).max):
                raise RuntimeError(f"{word} is out of bounds for {_CTYPE[d.name]}")
            if abs(value) > 1 << digits:
                warnings.warn(f"{word} is out of bounds [-(2^{digits}), 2^{digits}]. Due to precision limitations "
                              f"{_CTYPE[d.name]} can support discrete uniform distribution only within this range.",
                              UserWarning, stacklevel=4)
        return
    least, most = (0, 1) if d.category == 0 else (int(np.iinfo(d.numpy).min), int(np.iinfo(d.numpy).max))
    for word, value in (("from", low), ("to - 1", high - 1)):
        if not least <= value <= most:
            raise RuntimeError(f"{word} is out of bounds for {_CTYPE.get(d.name, d.name)}")


def _integers(shape, low: int, high: int, kind: Kind, generator) -> np.ndarray:
    _bounds(low, high, kind)
    return draw(allocate(shape, kind), "integer", (high - low) & 0xFFFFFFFFFFFFFFFF, low & 0xFFFFFFFFFFFFFFFF,
                generator)


def _int(name: str, argument: str, value: Any) -> int:
    if isinstance(value, (bool, float)) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}(): argument '{argument}' must be int, not {type(value).__name__}")
    return value.__index__()


@public(method=False)
def randint(*args: Any, low: int = 0, high: int | None = None, size: Any = None, generator: Generator | None = None,
            out: Tensor | None = None, dtype: dtypes.dtype | None = None, layout: Any = None, device: Any = None,
            requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """Integers from `low` (0) to `high - 1`: `randint(high, size)`, `randint(low, high, size)`. RuntimeError for an
    empty range.
    """
    args = list(args)
    if size is None:
        if not args or not isinstance(args[-1], (tuple, list)):
            raise TypeError("randint() received an invalid combination of arguments: argument 'size' must be tuple of "
                            "ints"
                            + (f", not {type(args[-1]).__name__}" if args else ""))
        size = args.pop()
    if len(args) > 2 or (not args and high is None):
        raise TypeError("randint() received an invalid combination of arguments, expected (high, size) or (low, high, "
                        "size)")
    if len(args) == 1:
        low, high = (low, args[0]) if high is None else (args[0], high)
    elif args:
        low, high = args
    low, high, shape = _int("randint", "low", low), _int("randint", "high", high), sizes("randint", (size,))
    kind = kind_of(dtype, "randint") or (KIND[dtypes.int64] if out is None else out._kind)
    if out is None and (device is not None or state.chosen is not CPU or state.inside):
        kind = kind_there(kind, device)
    made = finish(wrap(_integers(shape, low, high, kind, generator), kind), kind.device, requires_grad)
    return made if out is None else _into(out, made)


@public(method=False)
def randint_like(input: Tensor, low: int, high: int | None = None, *, generator: Generator | None = None,
                 dtype: dtypes.dtype | None = None, layout: Any = None, device: Any = None, requires_grad: bool = False,
                 pin_memory: bool = False, memory_format: Any = None) -> Tensor:
    """`randint` with the sizes and dtype of `input`: `randint_like(input, high)`, `randint_like(input, low, high)`."""
    low, high = (0, low) if high is None else (low, high)
    like = empty_as("randint_like", input, dtype)
    low, high = _int("randint_like", "low", low), _int("randint_like", "high", high)
    return finish(_laid_out(like, _integers(like._array.shape, low, high, like._kind, generator)), place_of(input, device),
                  requires_grad)


@public(method=False)
def randperm(n: int, *, generator: Generator | None = None, out: Tensor | None = None,
             dtype: dtypes.dtype | None = None,
             layout: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """The integers below n in random order."""
    n = _int("randperm", "n", n)
    if n < 0:
        raise ShapeError(f"Trying to create tensor with negative dimension {n}: [{n}]")
    kind = kind_of(dtype, "randperm") or (KIND[dtypes.int64] if out is None else out._kind)
    if kind.dtype.category not in (1, 2):
        raise NotImplementedError(f"\"randperm\" not implemented for '{kind.dtype.scalar}'")
    if n and n - 1 > (np.iinfo if kind.dtype.category == 1 else np.finfo)(kind.numpy).max:
        raise RuntimeError(f"value cannot be converted to type {kind.dtype.name} without overflow")
    words = draw(allocate((n,), KIND[dtypes.int64]), "integer", 0, 0, generator)
    made = BOOK["permutation"](wrap(words, KIND[dtypes.int64]))
    made = finish(made if kind is made._kind else dispatch.cast(made, kind), device, requires_grad)
    return made if out is None else _into(out, made)
