"""Filling the store: the kernels of common operators, layers, optimizers and solvers, made by using them once.

`python -m engine warmup` calls `run`; with a target the kernels are compiled for another processor and go into a pack instead.
"""
from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kernels import packs, processor
from kernels.cpu import native

from . import nn, optim
from .functions.registry import PUBLIC
from .tensor import Tensor

UNARY = ["neg", "abs", "exp", "log", "log1p", "expm1", "sqrt", "rsqrt", "reciprocal", "sin", "cos", "tan", "tanh", "sigmoid",
         "relu", "square", "floor", "ceil", "round", "sign", "erf", "isnan", "isfinite"]
BINARY = ["add", "sub", "mul", "div", "pow", "maximum", "minimum", "atan2", "eq", "ne", "lt", "le", "gt", "ge"]
FOLDS = ["sum", "mean", "prod", "amax", "amin", "argmax", "argmin", "var", "std", "logsumexp", "norm"]
LARGE = 1 << 17             # elements from which pointwise operators use their kernels over rows


def _pointwise(x: Callable[..., Tensor]) -> None:
    """Unary and binary operators, forward and backward, contiguous, broadcast and large."""
    for name in UNARY:
        y = PUBLIC[name](x(6))
        if y.requires_grad:
            y.sum().backward()
    for name in BINARY:
        for a, b in ((x(4, 3), x(4, 3)), (x(4, 3), 2.5)):
            y = PUBLIC[name](a, b)
            if y.requires_grad:
                y.sum().backward()
        PUBLIC[name](x(LARGE).detach(), x(LARGE).detach())
    PUBLIC["where"](x(4) > 0, x(4), x(4)).sum().backward()
    x(4, 3).clamp(0.25, 0.75).sum().backward()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for dtype in ("float32", "float64", "int64", "int32", "bool"):
            x(4).detach().to(_dtype(dtype)).to(_dtype("float32"))


def _reductions(x: Callable[..., Tensor]) -> None:
    """Folds and scans over all and over single dimensions."""
    for name in FOLDS:
        for options in ({}, {"dim": 0}, {"dim": 1}):
            if name == "logsumexp" and not options:
                continue
            y = PUBLIC[name](x(40, 30), **options)
            if y.requires_grad:
                y.sum().backward()
    x(8).cumsum(0).sum().backward()
    (x(8) > 0.5).any(), (x(8) > 0.5).all(), (x(8) > 0.5).sum()
    PUBLIC["softmax"](x(4, 5), 1).sum().backward()
    PUBLIC["log_softmax"](x(4, 5), 1).sum().backward()


def _movement(x: Callable[..., Tensor]) -> None:
    """Indexing, joining, sorting, products."""
    index = PUBLIC["tensor"]([2, 0, 1])
    for y in (x(5)[index], x(5)[1:4], x(4, 3)[:, index], x(3, 4).gather(1, PUBLIC["tensor"]([[0], [1], [3]])), x(6)[x(6) > 0.5],
              PUBLIC["cat"]([x(3), x(2)]), PUBLIC["stack"]([x(3), x(3)]), x(4, 3).T.contiguous(), x(6).flip(0), x(5).sort()[0],
              x(9).topk(3)[0], x(4, 3) @ x(3, 2), x(2, 4, 3) @ x(2, 3, 2), x(3) @ x(3), x(4, 3).repeat(2, 1), x(3).expand(2, 3)):
        y.sum().backward()
    z = x(5).detach().clone()
    z[1:3] = 7
    z[index] = 1.0
    z.fill_(2).zero_()
    z.add_(1).mul_(2)


def _networks(x: Callable[..., Tensor]) -> None:
    """Layers, losses, one step of each common optimizer."""
    F = nn.functional
    labels = PUBLIC["tensor"]([0, 2, 1, 1])
    dtype = x(1).dtype
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.LayerNorm(8), nn.Dropout(0.1), nn.GELU(), nn.Linear(8, 3)).to(dtype)
    for optimizer in (optim.SGD(model.parameters(), 0.01), optim.SGD(model.parameters(), 0.01, momentum=0.9),
                      optim.Adam(model.parameters()), optim.AdamW(model.parameters()), optim.RMSprop(model.parameters())):
        optimizer.zero_grad()
        F.cross_entropy(model(x(4, 6)), labels).backward()
        optimizer.step()
    F.mse_loss(x(4), x(4)).backward()
    F.binary_cross_entropy_with_logits(x(4), x(4).detach()).backward()
    image = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()).to(dtype)
    image(x(2, 1, 8, 8)).sum().backward()


def _compiled(x: Callable[..., Tensor]) -> None:
    """What compiled training steps share: products of small matrices, losses, calls of several kernels at once."""
    from . import compiler
    labels, w = PUBLIC["tensor"]([0, 2, 1, 1]), x(6, 3)

    @compiler.compile
    def step(a: Tensor, t: Tensor) -> Tensor:
        loss = nn.functional.cross_entropy(a @ w, t)
        loss.backward()
        return loss.detach()
    step(x(4, 6).detach(), labels)


def _random(x: Callable[..., Tensor]) -> None:
    """Generators of random numbers."""
    dtype = x(1).dtype
    PUBLIC["rand"](4, dtype=dtype), PUBLIC["randn"](4, dtype=dtype), PUBLIC["randint"](9, (4,)), PUBLIC["randperm"](5)
    PUBLIC["bernoulli"](x(4).detach())


def _solvers(x: Callable[..., Tensor]) -> None:
    """The minimisers."""
    from . import optimize

    def rosenbrock(p: Tensor) -> Tensor:
        return ((1 - p[:-1]) ** 2 + 100 * (p[1:] - p[:-1] ** 2) ** 2).sum()
    for method in ("lbfgs", "bfgs", "newton", "newton-cg", "cg", "gd", "adam", "nelder-mead"):
        optimize.minimize(rosenbrock, x(2).detach(), method=method, options={"maxiter": 3})
    p = PUBLIC["tensor"]([-1.0, 1.0], dtype=x(1).dtype, requires_grad=True)
    solver = optim.LBFGS([p], max_iter=3, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = rosenbrock(p)
        loss.backward()
        return loss
    solver.step(closure)


WORK = {"pointwise": _pointwise, "reductions": _reductions, "indexing and products": _movement, "networks": _networks,
        "compiled steps": _compiled, "random numbers": _random, "solvers": _solvers}


def _dtype(name: str) -> Any:
    from . import dtypes
    return dtypes.by_name(name)


def run(dtypes: tuple[str, ...] = ("float32", "float64"), target: str = "", pack: str = "",
        tell: Callable[[str], object] = print) -> None:
    """Use everything in `WORK` once for each dtype, so that its kernels are in the store.

    `target`: the processor that kernels are compiled for, one of `kernels.processor.targets()`; they go into the file `pack`, by
    default in the package, where a wheel takes them along. ValueError for a target that this machine cannot compile for.
    """
    if target and target not in processor.targets():
        raise ValueError(f"warmup: unknown target {target!r}; this machine compiles for {', '.join(processor.targets())}")
    processor.target = target
    programs: dict[str, native.Program] = {}
    native.watchers.append(lambda program: programs.setdefault(program.key(""), program))
    try:
        for dtype in dtypes:
            def make(*shape: int, dtype: str = dtype) -> Tensor:
                return (PUBLIC["rand"](*shape, dtype=_dtype(dtype)) * 0.5 + 0.3).requires_grad_()
            for title, work in WORK.items():
                before, start = native.compilations, time.perf_counter()
                work(make)
                tell(f"{dtype:8} {title:22} {native.compilations - before:4d} kernels compiled, "
                     f"{time.perf_counter() - start:6.1f} s")
    finally:
        native.watchers.pop()
        processor.target = ""
    tell(f"{len(programs)} kernels are in the store")
    if target:
        _write(programs, target, pack, tell)


def _write(programs: dict[str, native.Program], target: str, pack: str, tell: Callable[[str], object]) -> None:
    from kernels.cpu.compiler import compile_program
    kernels = []
    for key, program in programs.items():
        symbol, needs, code = compile_program(program, target)
        kernels.append((key, {"symbol": symbol, "needs": needs, "name": program.name}, code))
    path = Path(pack or packs.default_path(target))
    path.parent.mkdir(parents=True, exist_ok=True)
    size = packs.write(path, target, kernels)
    tell(f"{path}: {len(kernels)} kernels for {target}, {size / 2 ** 20:.1f} MiB")
