"""Programs made of numbers: what `test_compile_random` draws and runs, eagerly and compiled.

A program is a list of instructions (name, a, b, c, d). `run` keeps a list of tensors; an instruction takes its operands from it by
number (modulo what there is, and what fits), works out options from the operands' shapes, and appends its result. So every list of
instructions is a program, and the same numbers do the same eagerly and compiled.
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

import engine

MOST = 200                  # elements of a tensor
STEPS: dict[str, Callable] = {}


def step(function: Callable) -> Callable:
    """An instruction: function(tensors, x, b, c, d) -> the result, None for none."""
    STEPS[function.__name__.rstrip("_")] = function
    return function


def is_float(x) -> bool:
    return x.dtype.is_floating_point


def smooth(x):
    """A tensor as one of floating point."""
    return x if is_float(x) else x.to(engine.float64)


def fitting(tensors, x, k, accept=lambda x, y: True):
    """The first tensor from number k on that broadcasts with x to something small and is accepted; x itself where there is none."""
    for j in range(len(tensors)):
        y = tensors[(k + j) % len(tensors)]
        try:
            shape = np.broadcast_shapes(x.shape, y.shape)
        except ValueError:
            continue
        if int(np.prod(shape)) <= MOST and accept(x, y):
            return y
    return x


def writable(x) -> bool:
    """Whether PyTorch's rules let x be written in place: no element twice in memory, no leaf that requires grad."""
    at = np.zeros((), np.int64)
    for n, s in zip(x.shape, x.stride(), strict=True):
        at = at[..., None] + np.arange(n) * s
    if np.unique(at).size != at.size:
        return False
    if not engine.is_grad_enabled():
        return True
    base = x if x._base is None else x._base
    return not (base.is_leaf and base.requires_grad) and not (x._base is not None and x.grad_fn is not None
                                                              and "Unbind" in type(x.grad_fn).__name__)


# --- pointwise ----------------------------------------------------------------------------------------------------------

UNARY = [engine.sin, engine.tanh, engine.sigmoid, lambda x: x * 0.5 + 1, lambda x: -x, lambda x: 1.5 - x, engine.cos,
         lambda x: x * x, lambda x: (x * x + 1).sqrt(), lambda x: engine.exp(-x * x), engine.atan, lambda x: x.abs() + 0.1,
         lambda x: engine.nn.functional.gelu(x), lambda x: x.clamp(-1.25, 0.75), lambda x: 1 / (x * x + 2), engine.relu]
BINARY = [engine.add, engine.sub, engine.mul, engine.maximum, engine.minimum, lambda x, y: x / (y * y + 1), engine.atan2,
          lambda x, y: engine.lerp(x, y, 0.25), lambda x, y: engine.add(x, y, alpha=2),
          lambda x, y: x * engine.sigmoid(y), engine.hypot]


@step
def unary(tensors, x, b, c, d):
    return UNARY[b % len(UNARY)](smooth(x))


@step
def binary(tensors, x, b, c, d):
    y = fitting(tensors, x, b)
    return BINARY[c % len(BINARY)](smooth(x), smooth(y))


@step
def compare(tensors, x, b, c, d):
    y = fitting(tensors, x, b)
    return [engine.lt, engine.ge, engine.eq, engine.logical_xor][c % 4](x, y)


@step
def where(tensors, x, b, c, d):
    y = fitting(tensors, x, b)
    return engine.where(x > y if c % 2 else y < 0.3, smooth(x), smooth(y))


@step
def cast(tensors, x, b, c, d):
    kind = [engine.float64, engine.float32, engine.int64, engine.bool, engine.float16, engine.int32, engine.uint8][b % 7]
    if kind.is_floating_point or not is_float(x):
        return x.to(kind)
    return (x.clamp(0, 8) * 2).to(kind)


@step
def integers(tensors, x, b, c, d):
    k = x if not is_float(x) and x.dtype is not engine.bool else (x > 0).long() + 2
    return [lambda: k * 3 + 1, lambda: k // 2, lambda: k % 3, lambda: k ^ 5,
            lambda: k.sum(-1) if k.ndim else k, lambda: -k][b % 6]()


# --- views --------------------------------------------------------------------------------------------------------------

@step
def slice_(tensors, x, b, c, d):
    if not x.ndim:
        return x[None]
    dim = b % x.ndim
    start = c % max(x.shape[dim], 1)
    index = [slice(None)] * x.ndim
    index[dim] = slice(start, None if d % 3 else x.shape[dim] - d % 2, 1 + d % 3)
    return x[tuple(index)]


@step
def select(tensors, x, b, c, d):
    if not x.ndim or not x.shape[b % x.ndim]:
        return None
    return x.select(b % x.ndim, c % x.shape[b % x.ndim])


@step
def transpose(tensors, x, b, c, d):
    if not x.ndim:
        return None
    return x.transpose(b % x.ndim, c % x.ndim)


@step
def permute(tensors, x, b, c, d):
    return x.permute(*np.random.default_rng(b).permutation(x.ndim).tolist()) if x.ndim else x.view(1, 1)


@step
def reshape(tensors, x, b, c, d):
    n = x.numel()
    first = [k for k in range(1, n + 1) if n % k == 0] if n else [1]
    first = first[b % len(first)]
    return x.reshape([(first, -1), (-1,), (-1, 1, first)][c % 3]) if n else x.reshape(-1)


@step
def squeeze(tensors, x, b, c, d):
    return x.unsqueeze(b % (x.ndim + 1)) if c % 2 and x.ndim < 4 else x.squeeze()


@step
def expand(tensors, x, b, c, d):
    y = fitting(tensors, x, b)
    shape = np.broadcast_shapes(x.shape, y.shape)
    if c % 3 == 0 and 3 * x.numel() <= MOST:
        shape = (3, *x.shape)
    return x.expand(*shape) if shape else x


@step
def diagonal(tensors, x, b, c, d):
    if x.ndim < 2:
        return None
    return x.diagonal(b % 3 - 1, x.ndim - 2, x.ndim - 1)


@step
def unfold(tensors, x, b, c, d):
    if not x.ndim or not x.shape[b % x.ndim] or x.numel() > 60:
        return None
    dim = b % x.ndim
    size = 1 + c % min(x.shape[dim], 3)
    return x.unfold(dim, size, 1 + d % 3)


@step
def split(tensors, x, b, c, d):
    if not x.ndim:
        return None
    parts = x.chunk(2, b % x.ndim) if c % 2 else x.split(1 + d % 3, b % x.ndim)
    return parts[d % len(parts)]


@step
def detach(tensors, x, b, c, d):
    return x.detach()


# --- new memory ---------------------------------------------------------------------------------------------------------

@step
def copy(tensors, x, b, c, d):
    return [lambda: x.clone(), lambda: x.contiguous(), lambda: x.flip(0) if x.ndim else x.clone(),
            lambda: x.roll(1, 0) if x.ndim else x.clone(), lambda: x.mT.contiguous() if x.ndim > 1 else x.clone(),
            lambda: x.repeat(*([1] * (x.ndim - 1) + [2])) if x.ndim and x.numel() < 60 else x.clone()][b % 6]()


@step
def cat(tensors, x, b, c, d):
    x = x if x.ndim else x[None]
    dim = c % x.ndim
    for j in range(len(tensors)):
        y = tensors[(b + j) % len(tensors)]
        if y.ndim == x.ndim and all(m == n or k == dim for k, (m, n) in enumerate(zip(x.shape, y.shape, strict=True))):
            break
    else:
        y = x
    if x.numel() + y.numel() > MOST:
        return None
    return engine.cat([x, y, x] if d % 2 else [y, x], dim)


@step
def stack(tensors, x, b, c, d):
    y = fitting(tensors, x, b, lambda x, y: x.shape == y.shape)
    return engine.stack([x, y], c % (x.ndim + 1)) if 2 * x.numel() <= MOST and x.ndim < 4 else None


@step
def product(tensors, x, b, c, d):
    if x.ndim < 2 or not is_float(x):
        return None
    for j in range(len(tensors)):
        y = tensors[(b + j) % len(tensors)]
        if y.ndim in (1, 2) and y.shape[0] == x.shape[-1] and y.dtype is x.dtype:
            return x @ y
    return x @ x.mT


@step
def gather(tensors, x, b, c, d):
    if not x.ndim or not x.numel():
        return None
    dim = b % x.ndim
    index = engine.tensor([(c + k * d) % x.shape[dim] for k in range(3)])
    return x.index_select(dim, index) if c % 2 else x[(slice(None),) * dim + (index,)]


@step
def order(tensors, x, b, c, d):
    if not x.ndim or not x.numel():
        return None
    x = x + engine.arange(x.numel(), dtype=engine.float64).reshape(x.shape) * 1e-3       # no ties
    dim = b % x.ndim
    return [lambda: x.sort(dim).values, lambda: x.topk(1 + c % x.shape[dim], dim).values, lambda: x.argsort(dim),
            lambda: x.cummax(dim).values, lambda: x.median(dim).values][d % 5]()


# --- folds --------------------------------------------------------------------------------------------------------------

@step
def fold(tensors, x, b, c, d):
    if not x.numel():
        return None
    keep = bool(d % 2)
    dims = tuple({b % x.ndim, c % x.ndim}) if x.ndim else ()
    y = smooth(x)
    if not x.ndim:
        return [y.sum, y.mean, y.max][b % 3]()
    own = y + engine.arange(y.numel(), dtype=y.dtype).reshape(y.shape) * 1e-3                 # no ties
    return [lambda: y.sum(dims, keepdim=keep), lambda: y.mean(dims, keepdim=keep), lambda: own.amax(dims, keepdim=keep),
            lambda: own.max(dims[0], keepdim=keep).values, lambda: y.var(dims, correction=0, keepdim=keep), lambda: y.sum(),
            lambda: own.argmin(dims[0], keepdim=keep), lambda: y.logsumexp(dims, keepdim=keep),
            lambda: engine.softmax(y, dims[0]), lambda: y.cumsum(dims[0]), lambda: (y * y + 0.1).norm(dim=dims, keepdim=keep),
            lambda: (y > 0).any(dims[0]), lambda: own.aminmax(dim=dims[0]).max, lambda: (y * 0.5).prod(dims[0], keepdim=keep),
            lambda: engine.nn.functional.layer_norm(y, y.shape[-1:]), lambda: x.sum(dims, keepdim=keep)][
                (b // 3 + c // 2 + d // 2) % 16]()


# --- in place -----------------------------------------------------------------------------------------------------------

@step
def write(tensors, x, b, c, d):
    """In-place operators, through whatever view x is."""
    if not writable(x):
        return None
    y = fitting(tensors, x, b, lambda x, y: np.broadcast_shapes(x.shape, y.shape) == tuple(x.shape))
    y = y.detach() if x.requires_grad is False and not engine.is_grad_enabled() else y
    if not is_float(x):
        if x.dtype is engine.bool:
            return [lambda: x.logical_not_(), lambda: x.fill_(bool(d % 2)), lambda: x.zero_()][c % 3]()
        return [lambda: x.add_(d), lambda: x.mul_(2), lambda: x.zero_(), lambda: x.fill_(d)][c % 4]()
    y = y if is_float(y) else y.to(x.dtype)
    return [lambda: x.mul_(0.5), lambda: x.add_(y, alpha=0.5), lambda: x.copy_(y), lambda: x.fill_(0.5 * d), lambda: x.tanh_(),
            lambda: x.mul_(y.sigmoid()), lambda: x.zero_(), lambda: x.clamp_(-1.0, 1.5), lambda: x.addcmul_(y, y, value=0.1),
            lambda: x.masked_fill_(x > 0.5, 0.25), lambda: x.sub_(0.1 * d), lambda: x.copy_(x.flip(0) if x.ndim else x)][c % 12]()


@step
def assign(tensors, x, b, c, d):
    """x[...] = y with slices, numbers and lists."""
    if not x.ndim or not x.numel() or not writable(x):
        return None
    n = x.shape[0]
    index = [c % n, slice(c % n, None, 1 + d % 2), [c % n, d % n], (Ellipsis, -1), x > 0.2,
             (slice(None), *([slice(None, None, 2)] * (x.ndim > 1)))][b % 6]
    y = smooth(fitting(tensors, x, d, lambda x, y: y.ndim == 0))
    x[index] = 0.75 if y is x or not is_float(x) or y.ndim else y.to(x.dtype)
    return None


@step
def accumulate(tensors, x, b, c, d):
    if not x.ndim or not x.numel() or not is_float(x):
        return None
    dim = b % x.ndim
    index = engine.tensor([c % x.shape[dim], d % x.shape[dim]])
    part = x.index_select(dim, index) * 0.5
    made = engine.zeros(x.shape, dtype=x.dtype) if b % 2 else x.clone()
    return made.index_add(dim, index, part)


# --- control ------------------------------------------------------------------------------------------------------------

@step
def branch(tensors, x, b, c, d):
    if not x.numel():
        return None
    total = smooth(x).sum()
    if total > 0.3 * (b % 5) - 0.6:
        return x * 2 if is_float(x) else x
    return smooth(x) - 1


@step
def number(tensors, x, b, c, d):
    if not x.numel():
        return None
    value = smooth(x).mean().item()
    return smooth(x) * value if b % 2 else engine.full((3,), 0.5, dtype=engine.float64) * (value + 1)


@step
def made(tensors, x, b, c, d):
    """New memory that is filled piece by piece."""
    new = engine.zeros(4, 3, dtype=engine.float64)
    new[b % 4] = smooth(x).sum() * 0.1 if x.numel() else 1.0
    new[:, c % 3] += 0.5
    return new


def run(program, tensors: list) -> list:
    """All tensors after the program has run: those given, then what it made."""
    tensors = list(tensors)
    for name, a, b, c, d in program:
        x = tensors[-1 - a % len(tensors)]
        result = STEPS[name](tensors, x, b, c, d)
        if result is not None and result.numel() <= MOST and result.ndim <= 4:
            tensors.append(result)
    return tensors
