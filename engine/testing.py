"""`engine.testing`: the generic checks of the book's operators, offered for operators that users write.

`check_operator(op)` checks values against a reference, layouts, dtypes, `out=`, gradients to second order by finite differences,
forward mode, vmap, and compiled against eager calls. The pieces (`draw`, `operands`, `layouts`, `reference`, `assert_like`,
`check_gradients`, ...) are those that `tests/test_book.py` walks the book with. Every failure is an AssertionError.
"""
from __future__ import annotations

import contextlib
import dataclasses
import inspect
import itertools
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from kernels.book import BOOK, Fold, Operator, Pointwise

from . import devices, dtypes, func, tree
from .compiler import compile as compiled_function
from .functions.registry import PUBLIC
from .tensor import Tensor, host
from .tensor import from_array as tensor_of
from .walk import grad

__all__ = ["check_gradients", "check_operator"]

EPS = {"float16": 2.0 ** -10, "float32": 2.0 ** -23, "float64": 2.0 ** -52, "complex64": 2.0 ** -23, "complex128": 2.0 ** -52}
WIDER = {"float16": np.float64, "float32": np.float64, "float64": np.longdouble, "complex64": np.complex128,
         "complex128": np.clongdouble}

Arrays = list[np.ndarray]


# --- operands ---------------------------------------------------------------------------------------------------------

def draw(rng: np.random.Generator, op: Any, name: str, dtype: str, shape: Sequence[int]) -> np.ndarray:
    """Values of one operand inside the record's domain."""
    lo, hi = op.domain.get(name, (-3.0, 3.0))
    kind = np.dtype(dtype).kind
    if kind == "b":
        return np.asarray(rng.random(shape) < 0.5)
    if kind in "iu":
        floor = 0 if kind == "u" else -100
        lo_i = math.ceil(max(lo, floor))
        return np.asarray(rng.integers(lo_i, max(math.floor(min(hi, 100)), lo_i) + 1, shape)).astype(dtype)
    values = np.asarray(rng.uniform(lo, hi, shape))
    if kind == "c":
        values = np.asarray(values + 1j * rng.uniform(lo, hi, shape))
    return values.astype(dtype)


def operands(rng: np.random.Generator, op: Any, dtype: str, shape: Sequence[int]) -> Arrays:
    """Operands of a shape: the record's own samples where it has them, else draws from its domain."""
    if op.samples is not None:
        return [np.resize(a, shape) for a in op.samples(rng, dtype)]
    return [draw(rng, op, n, t, shape) for n, t in zip(op.inputs, op.operand_types(dtype), strict=True)]


def broadcasting(rng: np.random.Generator, op: Any, dtype: str, shapes: Sequence[Sequence[int]]) -> Arrays:
    """Operands of several shapes that broadcast together."""
    return [operands(rng, op, dtype, shape)[k] for k, shape in zip(range(len(op.inputs)), itertools.cycle(shapes), strict=False)]


def layouts(rng: np.random.Generator, op: Any, dtype: str) -> Iterator[tuple[str, Arrays]]:
    """Operand lists in the layouts that are ordinary inputs: dense, transposed, sliced, reversed by copy, broadcast, 0-d, empty."""
    yield "dense", operands(rng, op, dtype, (3, 5))
    yield "transposed", [a.T for a in operands(rng, op, dtype, (5, 3))]
    yield "sliced", [a[::2, 1::3] for a in operands(rng, op, dtype, (6, 10))]
    yield "zero-d", operands(rng, op, dtype, ())
    yield "empty", operands(rng, op, dtype, (0, 4))
    yield "one", operands(rng, op, dtype, (1,))
    yield "broadcast", broadcasting(rng, op, dtype, [(4, 1), (3,), (1, 1)])
    yield "expanded", [np.broadcast_to(a, (4, 3)) for a in operands(rng, op, dtype, (1, 3))]


# --- values -----------------------------------------------------------------------------------------------------------

def reference(op: Any, dtype: str, arrays: Arrays) -> np.ndarray:
    """`like` in the widest precision that it takes (in the dtype itself for an exact operator, whose tolerance is 0)."""
    if not op.tol:
        with np.errstate(all="ignore"):
            return np.asarray(op.like(*arrays))
    wide = [a.astype(WIDER[a.dtype.name]) if a.dtype.name in WIDER else a for a in arrays]
    with np.errstate(all="ignore"):
        try:
            return np.asarray(op.like(*wide))
        except TypeError:           # SciPy's functions have no long double
            return np.asarray(op.like(*[a.astype("complex128" if a.dtype.kind == "c" else "float64")
                                        if a.dtype.kind in "fc" else a for a in arrays]))


def assert_like(seen: np.ndarray, expected: np.ndarray, op: Any, arrays: Arrays) -> None:
    """Equal within the record's tolerance, in ulp of the result, or of the operands where terms of a sum may cancel."""
    tol = op.tol
    assert seen.shape == expected.shape, f"shape {seen.shape}, expected {expected.shape}"
    if seen.dtype.kind not in "fc":
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(seen, expected.astype(seen.dtype))
        return
    eps = EPS[seen.dtype.name]
    with np.errstate(over="ignore", invalid="ignore"):
        sizes = [np.abs(a[np.isfinite(a)]).max(initial=0.0) for a in arrays if a.dtype.kind in "fc"]
        scale = max([1.0, *map(float, sizes)]) if op.cancels or seen.dtype.kind == "c" else float(np.finfo(seen.dtype).tiny)
        np.testing.assert_allclose(seen.astype(np.clongdouble if seen.dtype.kind == "c" else np.longdouble),
                                   expected.astype(seen.dtype) if np.dtype(seen.dtype).itemsize == 2 else expected,
                                   rtol=tol * eps, atol=tol * eps * scale)


# --- gradients --------------------------------------------------------------------------------------------------------

def leaves(arrays: Arrays, fixed: Sequence[int] = ()) -> list[Tensor]:
    """Tensors that require a gradient where it can be asked for, but for the `fixed` positions."""
    made = [tensor_of(a.copy()) for a in arrays]
    for k, t in enumerate(made):
        if t.dtype.category >= 2 and k not in fixed:
            t.requires_grad_()
    return made


def without_gradient(op: Pointwise, is_complex: bool) -> tuple[int, ...]:
    """Operands that have no derivative by the record: an order, a scale, a number. Differences must not move them."""
    return tuple(k for k, gradient in enumerate(op.gradients(is_complex)) if gradient is None)


def slope(f: Callable[[list], float], arrays: Arrays, directions: Sequence[np.ndarray | None], step: float) -> float:
    """Central difference, of fourth order, of a number-valued function of arrays along directions."""
    def at(h: float) -> float:
        return f([a + h * d if d is not None else a for a, d in zip(arrays, directions, strict=True)])
    return (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step)


def pairing(a: Any, b: Any) -> float:
    """Real inner product, the one in which gradients of complex tensors are gradients."""
    return float(np.sum(np.real(np.conj(a) * b)))


def _close(seen: float, expected: float, rtol: float, atol: float, what: str) -> None:
    if not (seen == expected or math.fabs(seen - expected) <= max(rtol * math.fabs(expected), atol)):
        raise AssertionError(f"{what}: {seen!r} by the derivative, {expected!r} by differences")


def _like(rng: np.random.Generator, a: np.ndarray) -> np.ndarray:
    """Normal numbers of an array's shape and dtype."""
    drawn = rng.standard_normal(a.shape)
    return np.asarray(drawn + 1j * rng.standard_normal(a.shape) if a.dtype.kind == "c" else drawn, a.dtype)


def check_gradients(call: Callable[..., Tensor], arrays: Arrays, rng: np.random.Generator, order: int = 2, rtol: float = 2e-6,
                    atol: float = 2e-8, fixed: Sequence[int] = ()) -> None:
    """Compare reverse-mode gradients of `call` with differences along random directions, to second order.

    The step (1e-3 of values of size one, error of order step^4) fits the tolerance. Gradients are compared through cotangents c:
    d <c, f(x + h t)> / dh = <grad, t>, and the same for the gradient itself. Operands at `fixed` positions stay as they are.
    Errors: AssertionError, which says "first order" or "second order".
    """
    directions = [_like(rng, a) if a.dtype.kind in "fc" and k not in fixed else None for k, a in enumerate(arrays)]
    made = host(call(*[tensor_of(a) for a in arrays]))
    c = _like(rng, made)

    def value(at: list) -> float:
        return pairing(c, host(call(*[tensor_of(np.asarray(a, o.dtype)) for a, o in zip(at, arrays, strict=True)])))

    def gradients(at: list, create: bool = False) -> tuple[list[Tensor], tuple]:
        xs = leaves([np.asarray(a, o.dtype) for a, o in zip(at, arrays, strict=True)], fixed)
        out = call(*xs)
        wanted = [x for x in xs if x.requires_grad]
        return xs, grad(out, wanted, tensor_of(c), create_graph=create, materialize_grads=True)
    _, grads = gradients(arrays)
    active = [d for d in directions if d is not None]
    for g, a in zip(grads, [a for a, d in zip(arrays, directions, strict=True) if d is not None], strict=True):
        assert tuple(g.shape) == a.shape and host(g).dtype == a.dtype, "the gradient has another shape or dtype than its input"
    seen = sum(pairing(host(g), d) for g, d in zip(grads, active, strict=True))
    _close(seen, slope(value, arrays, directions, 1e-3), rtol, atol * max(1, made.size), "first order")
    if order < 2:
        return
    c2 = [_like(rng, host(g)) for g in grads]

    def gradient_value(at: list) -> float:
        _, gs = gradients(at)
        return sum(pairing(k, host(g)) for k, g in zip(c2, gs, strict=True))
    xs, grads = gradients(arrays, create=True)
    wanted = [x for x in xs if x.requires_grad]
    recorded = [(g, tensor_of(k)) for g, k in zip(grads, c2, strict=True) if g.requires_grad]
    second = grad([g for g, _ in recorded], wanted, [k for _, k in recorded], allow_unused=True,
                  materialize_grads=True) if recorded else [x * 0 for x in wanted]
    seen = sum(pairing(host(h), d) for h, d in zip(second, active, strict=True))
    _close(seen, slope(gradient_value, arrays, directions, 1e-3), 20 * rtol, 20 * atol * max(1, made.size), "second order")


# --- a whole operator -------------------------------------------------------------------------------------------------

@dataclasses.dataclass
class Subject:
    """What is checked: one result of an operator, as a function of tensors, and where its operands come from."""

    name: str
    call: Callable[..., Any]
    like: Callable | None
    dtypes: tuple[str, ...]
    tol: float
    cancels: bool = False
    inputs: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    domain: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    samples: Callable | None = None
    differentiable: bool = True
    fixed: dict[bool, tuple[int, ...]] = dataclasses.field(default_factory=dict)      # is complex -> operands without gradient
    result: Callable[[str], Any] | None = None

    def operand_types(self, dtype: str) -> tuple[str, ...]:
        """The dtypes of the operands when it computes in `dtype`."""
        return tuple(dtype if k == "T" else k for k in self.kinds)


def check_operator(op: Any, *, like: Callable | None = None, samples: Callable | None = None,
                   domain: dict[str, tuple[float, float]] | None = None, dtypes: Sequence[str] | None = None,
                   tol: float | None = None, order: int = 2, compiled: bool = True, device: Any = None, seed: int = 0) -> None:
    """Run the checks that the book's operators pass on an operator of `elementwise`, `reduction`, `stencil`, `library` or the book.

    Checked: values against a reference; that inputs stay as they were; dense, transposed, sliced, empty, 0-d, broadcast and
    expanded operands; each dtype; `out=`; gradients by finite differences, to second order; forward mode against reverse mode; vmap
    against the calls one by one; a compiled function against the eager one, with its gradients.

    like: a function of NumPy arrays (and options; for a reduction `axis` and `keepdims`) that gives the right values; the record's
        own `like` if not given.
    samples: where operands come from. For an elementwise operator a function (generator, dtype) giving one array per operand; for
        others one giving pairs ([array, ...], options). Needed for operators of whole arrays, if the record has none.
    domain: for elementwise operators, parameter -> (lowest, highest) value drawn; (-3, 3) where nothing is said. Keep away from
        kinks by more than 0.01: differences see both sides.
    dtypes: names of dtypes ("float64", ...); all that the record declares, "float64" alone for operators of whole arrays.
    tol: allowed error of values, in units of the last place. order: of the gradients checked, 0 for none.
    device: where the operator is to run, too ("cuda"; with ENGINE_CUDA=emulate on any machine): values of all layouts and first
        gradients there are those of the CPU, but for the order of additions.
    Errors: AssertionError that names operator, dtype and check; TypeError for what is no operator; ValueError for missing samples.
    """
    for subject, cases in _subjects(op, like, samples, domain, dtypes, tol):
        for dtype in subject.dtypes:
            rng = np.random.default_rng([seed, zlib.crc32(f"{subject.name} {dtype}".encode())])
            drawn = list(cases(rng, dtype))
            if not drawn:
                raise ValueError(f"check_operator: samples= of {subject.name} gives no operands for {dtype}")
            for layout, arrays, options in drawn:
                with _saying(subject, dtype, layout):
                    _check_values(subject, dtype, arrays, options)
                if device is not None:
                    with _saying(subject, dtype, f"{layout}, on {device}"):
                        _check_there(subject, dtype, arrays, options, order, device)
            _check_ways(subject, dtype, drawn, rng, order, compiled and dtype == _main(subject.dtypes))


def _main(names: Sequence[str]) -> str:
    return next((d for d in ("float64", "complex128", "float32") if d in names), names[0])


@contextlib.contextmanager
def _saying(subject: Subject, dtype: str, what: str) -> Iterator[None]:
    """Failures inside name the operator and what was checked."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{subject.name}, {dtype}, {what}: {error}") from error


def _subjects(op: Any, like: Any, samples: Any, domain: Any, names: Any, tol: Any) -> Iterator[tuple[Subject, Callable]]:
    """What is to be checked of an operator, and the function that gives (layout, operands, options) for it."""
    one = getattr(op, "record", None) or getattr(op, "operator", None)         # reductions have operators, too: their parts
    records = (one,) if one is not None else getattr(op, "operators", None) or (op,)
    records = [BOOK.get(r, r) if isinstance(r, str) else r for r in records]
    if not all(isinstance(r, Operator) for r in records):
        raise TypeError(f"check_operator: an operator is needed (of engine.elementwise, engine.library or the book), not {op!r}")
    for k, record in enumerate(records):
        public = op if callable(op) and not isinstance(op, Operator) else record
        own = like if like is None or len(records) == 1 else _part(like, k)
        subject = Subject(record.name, public if len(records) == 1 else _part(public, k), own or record.like,
                          tuple(names or record.dtypes), record.tol if tol is None else tol, record.cancels,
                          samples=samples or record.samples, differentiable=record.differentiable)
        if isinstance(record, Pointwise):
            arguments = record.arguments if len(record.arguments) == len(record.inputs) else record.inputs
            subject.inputs, subject.kinds = tuple(arguments), record.operands
            own_domain = {a: record.domain[n] for a, n in zip(arguments, record.inputs, strict=True) if n in record.domain}
            subject.domain = own_domain | dict(domain or {})
            subject.result = record.result
            if unknown := set(domain or {}) - set(arguments):
                raise ValueError(f"check_operator: {record.name} has no parameter {sorted(unknown)[0]!r}")
            if record.differentiable:
                subject.fixed = {c: without_gradient(record, c) for c in {np.dtype(d).kind == "c" for d in subject.dtypes}}
            yield subject, lambda rng, dtype, s=subject: ((layout, arrays, {}) for layout, arrays in layouts(rng, s, dtype))
            continue
        if names is None:
            subject.dtypes = ("float64",)
        if isinstance(record, Fold):
            subject.call, subject.samples = _folding(public), samples or _fold_samples
            subject.like = _with_axis(subject.like) if subject.like is not None else None
        if subject.samples is None:
            raise ValueError(f"check_operator: {record.name} works on whole arrays: say samples=, a function (generator, dtype) "
                             "that gives pairs ([array, ...], options)")
        yield subject, _in_layouts(subject.samples)


def _part(function: Callable, k: int) -> Callable:
    return lambda *operands, **options: function(*operands, **options)[k]


def _folding(fold: Callable) -> Callable:
    """A fold's record, or the function that users call, with options of the same names."""
    if isinstance(fold, Operator):
        return lambda x, dims, keepdim: fold(x, dims=dims, keepdim=keepdim)

    def call(x: Tensor, dims: Any, keepdim: bool, out: Tensor | None = None) -> Any:
        return fold(x, dims, keepdim, out=out)
    return call


def _with_axis(like: Callable) -> Callable:
    return lambda x, dims, keepdim: like(x, axis=dims, keepdims=keepdim)


def _fold_samples(rng: np.random.Generator, dtype: str) -> Iterator[tuple[Arrays, dict]]:
    for shape, dims, keepdim in [((3, 4), (0,), False), ((2, 3, 2), (1,), True), ((5,), None, False)]:
        x = rng.permutation(math.prod(shape)).reshape(shape) * 0.2 - 1.0        # values apart: extremes do not change places
        yield [x.astype(dtype)], {"dims": dims, "keepdim": keepdim}


def _in_layouts(samples: Callable) -> Callable:
    """Samples as they are, and the same numbers in transposed and sliced memory."""
    def cases(rng: np.random.Generator, dtype: str) -> Iterator[tuple[str, Arrays, dict]]:
        for arrays, options in samples(rng, dtype):
            arrays = [np.asarray(a) for a in arrays]
            yield "dense", arrays, options
            yield "transposed", [np.asfortranarray(a) for a in arrays], options
            yield "sliced", [np.repeat(a, 2, -1)[..., ::2] if a.ndim else a for a in arrays], options
    return cases


def _results(subject: Subject, tensors: Sequence[Tensor], options: dict) -> list[Tensor]:
    made = subject.call(*tensors, **options)
    return list(made) if isinstance(made, (tuple, list)) else [made]


def _check_values(subject: Subject, dtype: str, arrays: Arrays, options: dict) -> None:
    """Values, shapes and dtypes of one call; the operands are left alone; `out=`."""
    given = [a.copy(order="K") if a.flags.owndata else a for a in arrays]
    before = [a.copy() for a in arrays]
    for a in given:
        if a.flags.owndata:
            a.flags.writeable = False
    results = _results(subject, [tensor_of(a) for a in given], options)
    for a, b in zip(given, before, strict=True):
        assert np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"), "an operand was changed"
    if subject.result is not None:
        wanted = dtypes.by_name(subject.result(dtype))
        assert results[0].dtype is wanted, f"the result is {results[0].dtype}, not {wanted}"
    if subject.like is not None and not options and len(results) == 1:
        assert_like(host(results[0]), reference(subject, dtype, before), subject, before)
    elif subject.like is not None:
        expected = subject.like(*before, **options)
        eps = EPS.get(dtype, 0.0)
        for r, e in zip(results, expected if isinstance(expected, (tuple, list)) else (expected,), strict=True):
            np.testing.assert_allclose(host(r), e, rtol=subject.tol * eps, atol=subject.tol * eps)
    elif subject.result is not None:
        shape = np.broadcast_shapes(*(a.shape for a in arrays))
        assert tuple(results[0].shape) == shape, f"shape {tuple(results[0].shape)}, expected {shape}"
    if len(results) == 1 and _takes_out(subject.call):
        out = PUBLIC["empty"](0, dtype=results[0].dtype)
        assert subject.call(*[tensor_of(a) for a in given], **options, out=out) is out, "out= is not what is returned"
        np.testing.assert_array_equal(host(out), host(results[0]), err_msg="out=")


def _check_there(subject: Subject, dtype: str, arrays: Arrays, options: dict, order: int, device: Any) -> None:
    """Values and first gradients on another device are the CPU's."""
    kind = np.dtype(dtype).kind
    fixed = subject.fixed.get(kind == "c", ())
    found = []
    for place in ("cpu", device):
        xs = [_laid_out(a, place) for a in arrays]
        for k, x in enumerate(xs):
            if order and subject.differentiable and x.dtype.category >= 2 and k not in fixed:
                x.requires_grad_()
        results = _results(subject, xs, options)
        assert all(r.device.type == devices.device(place).type for r in results), f"a result is on {results[0].device}"
        wanted = [x for x in xs if x.requires_grad]
        if wanted and len(results) == 1 and results[0].requires_grad:
            results += grad(results[0], wanted, PUBLIC["ones_like"](results[0]), materialize_grads=True)
        found.append([r.detach().cpu() for r in results])
    for ours, theirs in zip(*found, strict=True):
        _near(theirs, ours, f"on {device}")


def _laid_out(a: np.ndarray, device: Any) -> Tensor:
    """An array as a tensor of a device, with its strides where it is a view of a larger one."""
    base = a
    while isinstance(base.base, np.ndarray):
        base = base.base
    if base is a or not base.flags.c_contiguous or base.dtype != a.dtype or any(s < 0 or s % a.itemsize for s in a.strides):
        return tensor_of(a.copy(order="K")).to(device)
    offset = (a.__array_interface__["data"][0] - base.__array_interface__["data"][0]) // a.itemsize
    return tensor_of(base.reshape(-1).copy()).to(device).as_strided(a.shape, [s // a.itemsize for s in a.strides], offset)


def _takes_out(call: Callable) -> bool:
    try:
        return "out" in inspect.signature(call).parameters
    except (TypeError, ValueError):
        return False


def _check_ways(subject: Subject, dtype: str, drawn: list, rng: np.random.Generator, order: int, compiled: bool) -> None:
    """Gradients, forward mode, vmap and compile on the dense operands (the broadcast ones too, to first order)."""
    kind = np.dtype(dtype).kind
    for layout, arrays, options in drawn:
        if layout not in ("dense", "broadcast"):
            continue
        single = len(_results(subject, [tensor_of(a) for a in arrays], options)) == 1

        def call(*tensors: Tensor, options: dict = options) -> Any:
            return subject.call(*tensors, **options)
        differentiates = subject.differentiable and single and kind in "fc" and any(a.dtype.kind in "fc" for a in arrays)
        fixed = subject.fixed.get(kind == "c", ())
        if differentiates and order and dtype in ("float64", "complex128"):
            looser = {"rtol": 1e-5, "atol": 1e-7} if kind == "c" else {}
            with _saying(subject, dtype, f"gradients, {layout}"):
                check_gradients(call, arrays, rng, min(order, 1) if layout == "broadcast" else order, fixed=fixed, **looser)
            with _saying(subject, dtype, f"forward mode, {layout}"):
                _check_forward(call, arrays, rng, fixed)
        elif differentiates and order:
            with _saying(subject, dtype, f"gradients, {layout}"):
                _check_precision(call, arrays, dtype, fixed)
        if layout == "dense":
            with _saying(subject, dtype, "vmap"):
                _check_vmap(call, arrays)
            if compiled:
                with _saying(subject, dtype, "compiled"):
                    _check_compiled(call, arrays, differentiates, fixed)


def _check_forward(call: Callable, arrays: Arrays, rng: np.random.Generator, fixed: Sequence[int]) -> None:
    """<c, J t> by forward mode is <J^T c, t> by reverse mode."""
    xs = leaves(arrays, fixed)
    moved = [k for k, x in enumerate(xs) if x.requires_grad]
    tangents = [_like(rng, arrays[k]) for k in moved]

    def of_moved(*primals: Tensor) -> Tensor:
        given = iter(primals)
        return call(*[next(given) if k in moved else x for k, x in enumerate(xs)])
    plain = [x.detach() for x in xs]
    made, pushed = func.jvp(of_moved, tuple(plain[k] for k in moved), tuple(tensor_of(t) for t in tangents))
    c = _like(rng, host(made))
    grads = grad(call(*xs), [xs[k] for k in moved], tensor_of(c), materialize_grads=True)
    backward = sum(pairing(host(g), t) for g, t in zip(grads, tangents, strict=True))
    forward = pairing(c, host(pushed))
    size = sum(float(np.abs(host(g) * t).sum()) for g, t in zip(grads, tangents, strict=True))
    assert math.fabs(forward - backward) <= 1e-10 * (1 + size), f"{forward!r} by forward mode, {backward!r} by reverse mode"


def _check_precision(call: Callable, arrays: Arrays, dtype: str, fixed: Sequence[int]) -> None:
    """Gradients in a narrower dtype are those of float64 or complex128, as far as it holds them."""
    wide = "complex128" if np.dtype(dtype).kind == "c" else "float64"
    found = {}
    for kind in (dtype, wide):
        xs = leaves([a.astype(kind) if a.dtype == np.dtype(dtype) else a for a in arrays], fixed)
        out = call(*xs)
        wanted = [x for x in xs if x.requires_grad]
        found[kind] = [host(g) for g in grad(out, wanted, PUBLIC["ones_like"](out), materialize_grads=True)]
    for low, high in zip(found[dtype], found[wide], strict=True):
        assert low.dtype == np.dtype(dtype), f"a gradient is {low.dtype}"
        bound = 60 * EPS[dtype]
        np.testing.assert_allclose(low, high, rtol=bound, atol=bound * (1 + np.abs(high[np.isfinite(high)]).max(initial=0.0)))


def _near(a: Any, b: Any, what: str) -> None:
    """Equal but for the order of additions."""
    a, b = host(a), host(b)
    assert a.dtype == b.dtype and a.shape == b.shape, f"{what}: {a.dtype} {a.shape}, eagerly {b.dtype} {b.shape}"
    if a.dtype.kind not in "fc":
        np.testing.assert_array_equal(a, b, err_msg=what)
        return
    bound = 16 * EPS[a.dtype.name]
    np.testing.assert_allclose(a, b, rtol=bound, atol=bound * (1 + np.abs(b[np.isfinite(b)]).max(initial=0.0)), err_msg=what)


def _check_vmap(call: Callable, arrays: Arrays) -> None:
    """A batch of two: the operands, and the operands with their elements turned around."""
    two = [[a, np.ascontiguousarray(a[..., ::-1]) if a.ndim else a] for a in arrays]
    batch = func.vmap(call)(*[tensor_of(np.stack(pair)) for pair in two])
    for k in range(2):
        each = tree.leaves_of(call(*[tensor_of(np.array(pair[k])) for pair in two]))
        for whole, one in zip(tree.leaves_of(batch), each, strict=True):
            _near(whole[k], one, "vmap")


def _check_compiled(call: Callable, arrays: Arrays, differentiates: bool, fixed: Sequence[int]) -> None:
    """A compiled call gives what an eager one gives, values and gradients."""
    found = []
    for function in (compiled_function(call), call):
        xs = leaves(arrays, fixed) if differentiates else [tensor_of(a.copy()) for a in arrays]
        made = tree.leaves_of(function(*xs))
        wanted = [x for x in xs if x.requires_grad]
        grads = grad(made[0], wanted, PUBLIC["ones_like"](made[0]), materialize_grads=True) if differentiates else ()
        found.append([*made, *grads])
    for a, b in zip(*found, strict=True):
        _near(a, b, "compiled")
