"""Distributions: uniform_, normal_, exponential_ and their kin in place; normal, bernoulli, poisson, multinomial of tensors.

Checks are PyTorch's, word for word where it matters; `random.draw` gives the numbers. What is overwritten by random numbers
has a gradient of zero (the operator `noise`).
"""
from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from kernels.book import BOOK

from .. import dispatch, dtypes
from ..dispatch import GeneralCaller
from ..dtypes import DEFAULT
from ..errors import DTypeError
from ..random import Generator, reserved
from ..saved import undifferentiable
from ..tape import edge_of, modes
from ..tensor import KIND, Kind, Tensor, wrap
from .create import finish, kind_of, kind_there
from .factories import _into, allocate, empty_as, scalar_of, sizes
from .random import _CTYPE, _bounds, _check, _floats, _int, _standard, draw, generator_of
from .registry import public

FLOAT64 = KIND[dtypes.float64]


# --- in place ---------------------------------------------------------------------------------------------------------

@functools.cache
def _caller(name: str) -> GeneralCaller:
    """The caller whose nodes have a name: UniformBackward0, ..."""
    return BOOK["noise_of_two" if name == "NormalBackward3" else "noise"].apply.named(name)


def _recorded(value: Tensor, name: str, *parameters: Tensor) -> Tensor:
    """A drawn value as the result of a function of its parameters, whose gradients are zero."""
    if modes.enabled and any(t.requires_grad for t in parameters):
        edges = [edge_of(t) for t in parameters]
        _caller(name).record((value,), False, parameters, edges, {})
    return value


def _overwrite(self: Tensor, node: str, rule: str, a: float, b: float, generator: Generator | None) -> Tensor:
    """Draw into a tensor's own memory; its gradient becomes zero."""
    def run() -> None:
        array = self._array
        if array.flags.c_contiguous:
            _floats(array, rule, a, b, generator)
        else:
            dispatch.store(array, _floats(allocate(array.shape, self._kind), rule, a, b, generator))
    return dispatch.write_by(_caller(node), self, (), {}, run)


@public(function=False)
def uniform_(self: Tensor, from_: float = 0.0, to: float = 1.0, *, generator: Generator | None = None,
             **named: Any) -> Tensor:
    """Fill with uniform numbers in [from, to)."""
    low, kind = float(named.pop("from", from_)), self._kind
    if named:
        raise TypeError(f"uniform_() got an unexpected keyword argument '{next(iter(named))}'")
    _check(kind, "check_uniform_bounds")
    most = float(np.finfo(kind.numpy).max)
    for word, value in (("from", low), ("to", to)):
        if not abs(value) <= most:
            raise RuntimeError(f"{word} is out of bounds for {_CTYPE[kind.dtype.real.name]}")
    if low > to:
        raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={low:g} > to={to:g}")
    if to - low > most:
        raise RuntimeError(f"uniform_ expects to-from <= std::numeric_limits<{kind.dtype.scalar}>::max(), but found "
                           f"to={to:g} and from={low:g} which result in to-from to exceed the limit")
    return _overwrite(self, "UniformBackward0", "uniform", low, to, generator)


@public(function=False)
def normal_(self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with normal numbers; the parts of a complex one have variance std**2 / 2."""
    if not std >= 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")
    _check(self._kind, "normal_kernel_cpu")
    if self._kind.dtype.category == 3:
        std = std * math.sqrt(0.5)
    return _overwrite(self, "NormalBackward0", "normal", mean, std, generator)


@public(function=False)
def exponential_(self: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with exponential numbers of rate `lambd`."""
    if self._kind.dtype.category != 2:
        raise DTypeError("Exponential distribution is a continuous probability distribution. dtype must be a floating "
                         f"point but you specified {self._kind.dtype.scalar}")
    if not lambd > 0:
        raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={lambd:g}")
    return _overwrite(self, "ExponentialBackward0", "exponential", lambd, 0.0, generator)


@public(function=False)
def cauchy_(self: Tensor, median: float = 0.0, sigma: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with numbers of a Cauchy distribution."""
    if self._kind.dtype.category != 2:
        raise DTypeError("Cauchy distribution is a continuous probability distribution. dtype must be a floating point "
                         f"but you specified {self._kind.dtype.scalar}")
    if not sigma > 0:
        raise RuntimeError(f"cauchy_ expects sigma > 0.0, but found sigma={sigma:g}")
    return _overwrite(self, "CauchyBackward0", "cauchy", median, sigma, generator)


@public(function=False)
def log_normal_(self: Tensor, mean: float = 1.0, std: float = 2.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with exponentials of normal numbers of this mean and standard deviation."""
    if not std > 0:
        raise RuntimeError(f"log_normal_ expects std > 0.0, but found std={std:g}")
    _check(self._kind, "log_normal_cpu", (2,))
    return _overwrite(self, "LogNormalBackward0", "log_normal", mean, std, generator)


@public(function=False)
def geometric_(self: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """Fill with numbers of trials until the first success of probability p: 1, 2, ..."""
    if not 0 < p < 1:
        raise RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={p:g}")
    _check(self._kind, "geometric_cpu", (1, 2))
    return _overwrite(self, "GeometricBackward0", "geometric", p, math.log1p(-p), generator)


@public(function=False)
def random_(self: Tensor, from_: int = 0, to: int | None = None, *, generator: Generator | None = None,
            **named: Any) -> Tensor:
    """Fill with integers: `random_(to)`, `random_(from, to)`, or all that are not negative and that the dtype holds
    exactly.
    """
    node = "RandomBackward2" if to is None and not from_ and not named else (
        "RandomBackward1" if to is None else "RandomBackward0")
    low, kind = named.pop("from", from_), self._kind
    if named:
        raise TypeError(f"random_() got an unexpected keyword argument '{next(iter(named))}'")
    _check(kind, "random_kernel_cpu", (0, 1, 2))
    if to is None and low:
        low, to = 0, low
    if to is None:
        name = kind.dtype.name
        to = 2 if name == "bool" else 1 + {"float16": 1 << 11, "float32": 1 << 24, "float64": 1 << 53}.get(
            name, int(np.iinfo(kind.numpy).max) if kind.dtype.category == 1 else 0)
    low, to = _int("random_", "from", low), _int("random_", "to", to)
    _bounds(low, to, kind)
    return _overwrite(self, node, "integer", (to - low) & 0xFFFFFFFFFFFFFFFF, low & 0xFFFFFFFFFFFFFFFF, generator)


@public(function=False)
def bernoulli_(self: Tensor, p: float | Tensor = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fill with ones of probability p (a number, or a tensor that broadcasts to this one) and zeros."""
    if isinstance(p, Tensor):
        value = _bernoulli(p.detach().expand(self._array.shape), self._kind, generator)
        return dispatch.write_by(_caller("BernoulliBackward1"), self, (), {}, lambda: dispatch.store(self._array, value._array))
    if not 0 <= p <= 1:
        raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p:g}")
    return _overwrite(self, "BernoulliBackward2", "bernoulli", _threshold(p), 0, generator)


def _threshold(p: float) -> int:
    """The count of 32-bit words that mean success."""
    return round(p * (1 << 32))


# --- functions of tensors ---------------------------------------------------------------------------------------------

def _bernoulli(p: Tensor, kind: Kind, generator) -> Tensor:
    """Ones where a uniform number lies below p, of another kind."""
    _check(p._kind, "bernoulli_tensor_cpu_p_", (2,))
    if p._array.size and not bool(BOOK["mul"](BOOK["ge"](p, 0), BOOK["le"](p, 1)).all()):
        raise RuntimeError("Expected p_in >= 0 && p_in <= 1 to be true, but got false.")
    numbers = wrap(draw(allocate(p._array.shape, p._kind), "uniform", 0.0, 1.0, generator), p._kind)
    return dispatch.cast(BOOK["lt"](numbers, p), kind)


@public()
def bernoulli(input: Tensor, p: float | None = None, *, generator: Generator | None = None,
              out: Tensor | None = None) -> Tensor:
    """Ones with the probabilities that `input` holds, else zeros; with `p`, one probability for all. The gradient is
    zero.
    """
    if p is not None:
        made = bernoulli_(empty_as("bernoulli", input, None), p, generator=generator)
        if modes.enabled and input.requires_grad:       # PyTorch has no derivative here
            return undifferentiable((made,), "NotImplemented", input, "derivative for aten::bernoulli is not implemented")[0]
        return made
    value = _bernoulli(input.detach(), input._kind, generator)
    if out is not None:
        return dispatch.into(out, value)
    return _recorded(value, "BernoulliBackward0", input)


@public(method=False)
def poisson(input: Tensor, generator: Generator | None = None) -> Tensor:
    """Poisson numbers with the rates that `input` holds, of its dtype (real). RuntimeError for a negative rate or NaN."""
    if not isinstance(input, Tensor):
        raise TypeError(f"poisson(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
    kind = input._kind
    if kind.dtype.category != 2:
        raise NotImplementedError(f"\"poisson_cpu\" not implemented for '{kind.dtype.scalar}'")
    rates = input.detach()
    if rates._array.size and not bool(BOOK["ge"](rates, 0).all()):
        raise RuntimeError("invalid Poisson rate, expected rate to be non-negative")
    made = BOOK["poisson_numbers"](rates, reserved(generator_of(generator), rates._array.size))
    return _recorded(made, "PoissonBackward0", input)


@public(method=False)
def normal(mean: float | Tensor = 0.0, std: float | Tensor = 1.0, size: Any = None, *,
           generator: Generator | None = None,
           out: Tensor | None = None, dtype: dtypes.dtype | None = None, layout: Any = None, device: Any = None,
           requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """Normal numbers: `normal(mean, std, size)` for numbers, `normal(mean, std)` where one or both are tensors that
    broadcast.
    """
    given = [t for t in (mean, std) if isinstance(t, Tensor)]
    if not given:
        if size is None:
            raise TypeError("normal() received an invalid combination of arguments: two numbers need a size")
        kind = kind_of(dtype, "normal") or (KIND[DEFAULT.dtype] if out is None else out._kind)
        if out is None:
            kind = kind_there(kind, device)
        made = wrap(allocate(sizes("normal", (size,)), kind), kind)
        normal_(made, scalar_of("normal", mean, "mean", 1), scalar_of("normal", std, "std"), generator=generator)
        made = finish(made, kind.device, requires_grad)
        return made if out is None else _into(out, made)
    for t in given:
        _check(t._kind, "normal_kernel_cpu")
    if isinstance(std, Tensor):
        if std._kind.dtype.category == 3:
            raise DTypeError("normal expects standard deviation to be non-complex")
        if std._array.size and not bool(BOOK["ge"](std.detach(), 0).all()):
            raise RuntimeError("normal expects all elements of std >= 0.0")
    elif not std >= 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")
    plain = [t.detach() if isinstance(t, Tensor) else t for t in (mean, std)]
    kind = given[0]._kind.kin[dtypes.result_type_of([dispatch.item_of(t) for t in plain])]
    try:
        shape = np.broadcast_shapes(*(t._array.shape for t in given))
    except ValueError:
        raise dispatch.broadcast_error("normal", given) from None
    value = BOOK["add"](BOOK["mul"](wrap(_standard("randn", shape, kind, generator), kind), plain[1]), plain[0])
    if out is not None:
        return dispatch.into(out, value)
    return _recorded(value, "NormalBackward3" if len(given) == 2 else "NormalBackward1" if given[0] is mean else "NormalBackward2",
                     *given)


@public()
def multinomial(input: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None,
                out: Tensor | None = None) -> Tensor:
    """Indices of the last dimension drawn in proportion to the weights of `input` (c,) or (n, c): (num_samples,) or
    (n, num_samples).

    RuntimeError for weights that are negative, not finite or all zero, and for more samples than weights without
    replacement.
    """
    if input._kind.dtype.category != 2:
        raise DTypeError(f"multinomial only supports floating-point dtypes for input, got: {input._kind.dtype.scalar}")
    array = input._array
    if array.ndim not in (1, 2):
        raise RuntimeError("prob_dist must be 1 or 2 dim")
    if num_samples <= 0:
        raise RuntimeError("cannot sample n_sample <= 0 samples")
    if not replacement and num_samples > array.shape[-1]:
        raise RuntimeError("cannot sample n_sample > prob_dist.size(-1) samples without replacement")
    weights = dispatch.cast(input.detach(), FLOAT64)
    if array.size:
        if not bool(BOOK["mul"](BOOK["ge"](weights, 0.0), BOOK["lt"](weights, math.inf)).all()):
            raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
        if not bool(BOOK["gt"](BOOK["sum"](weights, dims=(array.ndim - 1,), keepdim=False), 0.0).all()):
            raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")
    elif not array.shape[-1]:
        raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")
    shape = (*array.shape[:-1], num_samples) if replacement else array.shape
    numbers = draw(allocate(shape, weights._kind), "uniform" if replacement else "exponential", 0.0 if replacement else 1.0,
                   1.0, generator)
    made = BOOK["choice"](weights, wrap(numbers, weights._kind), count=num_samples, replacement=replacement)
    return made if out is None else dispatch.into(out, made)
