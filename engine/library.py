"""`engine.library`: operators registered from outside, with the records that the book's own operators have.

`pointwise` and `fold` take scalar functions and derive kernels from them; `structural` takes a function of whole arrays, with
its vjp and jvp. A registered operator is dispatched, recorded, differentiated, compiled and listed like any other. The decorators
give the function that users call; its record is its attribute `operator`. For scalar functions in plain Python, whose derivatives
need not be written down, see `engine.elementwise`; for the checks of an operator `engine.testing.check_operator`.
"""
from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kernels import table
from kernels.book import BOOK, FLOATS, Fold, Operator, Pointwise, Structural, parameters

from . import dispatch
from .functions.derived import public_function
from .functions.reduce import dims_of, tensor_of
from .promotion import common_device
from .tensor import KIND_OF_NUMPY, Tensor

__all__ = ["BOOK", "fold", "pointwise", "registered", "remove", "structural"]

_own: dict[str, Operator] = {}          # what was registered here
_lock = threading.RLock()


def pointwise(function: Callable | None = None, *, partials: Callable | None = None, name: str = "",
              kernels: dict[str, Callable] | None = None, **about: Any) -> Any:
    """Decorator: a scalar function in the book's style becomes an operator applied to each element.

        @library.pointwise(partials=lambda x, out: (out * (1 - out),), dtypes=("float32", "float64"))
        def logistic(x):
            return 1 / (1 + libm.exp(-x))           # from kernels import libm

    partials: a function of the inputs and the result that gives one partial derivative for each input (None: no gradient), in
        Python's operators and those of `library.BOOK`, as `BOOK["exp"](x)`. Without it the operator has no derivative.
    kernels: device -> a function of arrays that computes the values there, instead of the derived kernel.
    about: the other fields of the record, see `kernels.book.Operator` and `Pointwise` (dtypes, result, floating, like, ...).
    Errors: ValueError for a name that the book has, TypeError for an unknown field.
    """
    def register(scalar: Callable) -> Callable:
        _plain(scalar, "pointwise", True)
        with _lock:
            label = _room("pointwise", name or scalar.__name__)
            op = Pointwise(scalar=scalar, partials=partials, name=label, kernels=_checked(kernels),
                           **{"doc": scalar.__doc__ or "", "function": False, "method": False, **about})
            _enter(op)
        caller = op.apply
        hot = {1: caller.unary, 2: caller.binary}.get(len(op.inputs), caller.several)()
        op.arguments = op.arguments or op.inputs
        return _named(public_function(op, hot), op, scalar)
    return register if function is None else register(function)


def fold(name: str, *, kernels: dict[str, Callable] | None = None, **about: Any) -> Callable:
    """A reduction from its scalar functions: `op(input, dim=None, keepdim=False, out=None)`.

        def combine(a, b):
            return min(a[0], b[0]), max(a[1], b[1])

        spread = library.fold("spread", lift=lift, combine=combine, finish=finish, start=lambda dtype: (math.inf, -math.inf), ...)

    about: the fields of the record, see `kernels.book.Fold`: lift, combine, start, finish, state, wide, adjoint, dtypes, like, ...;
        lift, combine and finish by `def`, as kernels are made from their source.
    kernels: device -> a function (array, dims=, keepdim=) instead of the derived kernel.
    Errors: ValueError for a name that the book has, TypeError for an unknown or missing field.
    """
    for word in ("lift", "combine", "finish"):
        if word in about:
            _plain(about[word], f"fold: {word}=", True)
    with _lock:
        _room("fold", name)
        op = Fold(name=name, kernels=_checked(kernels), **{"function": False, "method": False, "dtypes": FLOATS, **about})
        _enter(op)

    def call(input: Tensor, dim: int | Sequence[int] | None = None, keepdim: bool = False, *, out: Tensor | None = None) -> Tensor:
        x = tensor_of(name, input)
        result = op(x, dims=dims_of(dim, x.ndim), keepdim=keepdim)
        return result if out is None else dispatch.into(out, result)
    call.__doc__, call.__module__ = op.doc, "engine.library"
    return _named(call, op)


def structural(function: Callable | None = None, *, inputs: Sequence[str] = (), vjp: Callable | None = None,
               jvp: Callable | None = None, name: str = "", kernels: dict[str, Callable] | None = None, linear: bool = False,
               **about: Any) -> Any:
    """Decorator: a function of NumPy arrays becomes an operator; it may be anything that runs on arrays, jitted functions too.

        @library.structural(vjp=lambda g, x, scale: (g * scale * x.cos(),), jvp=lambda t_x, x, scale: t_x * scale * x.cos())
        def scaled_sin(x, *, scale):
            return scale * np.sin(x)

    inputs: the parameters that are arrays; those that are not keyword-only and have no default, if not given. Others are options.
    vjp: the gradients of the inputs, one for each (None for none), on tensors. Its parameters are found by name: `g` (or `gs`, one
        for each of several results, None where one was not used), inputs, `<input>_shape`, `out`, options, and `needs`, a tuple of
        bools; what it names is kept for backward. Written in operators of the engine, it differentiates again.
    jvp: the tangent of the result (one for each of several), by names too: `t_<input>` is the tangent of an input, None where it
        does not move. Without it forward mode is derived from `vjp`; with `linear` it is the operator itself.
    kernels: {"cuda": function} for CUDA's arrays; on the CPU the decorated function runs.
    about: other fields of `kernels.book.Structural` (nondiff: results without derivative; like, samples, tol: for check_operator).
    Errors: ValueError for a name that the book has, or a jvp without vjp; TypeError for an unknown field or parameter.
    """
    def register(forward: Callable) -> Callable:
        _plain(forward, "structural")
        label = name or forward.__name__
        arrays = tuple(inputs) or _array_parameters(forward, label)
        names = parameters(getattr(forward, "py_func", forward))
        unknown = [a for a in arrays if a not in names]
        if unknown:
            raise TypeError(f"structural: {label} has no parameter {unknown[0]!r}")
        options = tuple(p for p in names if p not in arrays)
        if jvp is not None and vjp is None:
            raise ValueError(f"structural: {label} needs vjp= beside jvp=: only what has a gradient is recorded")
        for word, formula in (("vjp", vjp), ("jvp", jvp)):
            _check_formula(label, word, formula, arrays, options)
        with _lock:
            _room("structural", label)
            op = Structural(forward=_guarded(forward, label, arrays), inputs=arrays, name=label, adjoint=vjp, tangent=jvp,
                            linear=linear, kernels=_checked(kernels),
                            **{"doc": forward.__doc__ or "", "function": False, "method": False, **about})
            _enter(op)
        return _named(_front(op, forward, arrays), op, forward)
    return register if function is None else register(function)


def registered() -> tuple[str, ...]:
    """The names of the operators that were registered here."""
    return tuple(_own)


def remove(name: str) -> None:
    """Take a registered operator out of the book. KeyError for one that was not registered here."""
    with _lock:
        if name not in _own:
            raise KeyError(f"library: no operator {name!r} was registered")
        for device in table.DEVICES:
            table.TABLE.unregister(name, device)
        del BOOK[name], _own[name]
        table.forget()


# --- registering --------------------------------------------------------------------------------------------------------

def _room(what: str, name: str) -> str:
    """Make room for a name: an operator registered before under it goes on working under another one."""
    if not name.isidentifier():
        raise ValueError(f"{what}: {name!r} is no name for an operator")
    if name in BOOK and _own.get(name) is not BOOK[name]:
        raise ValueError(f"{what}: the book has an operator {name!r} already; give yours another name with name=")
    old = _own.get(name)
    if old is not None:
        remove(name)
        k = 1
        while f"old{k}_{name}" in BOOK:
            k += 1
        old.node, old.name = old.node_name, f"old{k}_{name}"
        BOOK[old.name] = _own[old.name] = old
    return name


def _enter(op: Operator) -> None:
    """Give a new record its caller and note it."""
    try:
        dispatch.attach(op)
    except BaseException:
        del BOOK[op.name]
        raise
    _own[op.name] = op
    table.forget()


def _checked(kernels: dict[str, Callable] | None) -> dict[str, Callable]:
    for device, kernel in (kernels or {}).items():
        if device not in table.DEVICES:
            raise ValueError(f"library: device must be one of {', '.join(table.DEVICES)}, not {device!r}")
        if not callable(kernel):
            raise TypeError(f"library: a kernel is a callable of arrays, not {type(kernel).__name__}")
    return dict(kernels or {})


def _plain(function: Any, what: str, compiled: bool = False) -> None:
    if not hasattr(function, "__code__"):
        raise TypeError(f"{what}: a Python function is needed, not {type(function).__name__}")
    if compiled and function.__name__ == "<lambda>":
        raise TypeError(f"{what}: kernels are made from source, in which a lambda has no place of its own; write it with def")


def _named(call: Any, op: Operator, function: Callable | None = None) -> Callable:
    """The public function of a record."""
    call.__name__ = call.__qualname__ = op.name
    call.operator = op
    if function is not None:
        call.__wrapped__ = function
        call.__signature__ = getattr(call, "__signature__", None) or inspect.signature(call, follow_wrapped=False)
    return call


# --- functions of whole arrays --------------------------------------------------------------------------------------------

def _array_parameters(forward: Callable, label: str) -> tuple[str, ...]:
    found = tuple(p.name for p in inspect.signature(forward).parameters.values()
                  if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty)
    if not found:
        raise TypeError(f"structural: {label} has no parameter for an array; name those with inputs=")
    return found


def _check_formula(label: str, word: str, formula: Callable | None, arrays: tuple[str, ...], options: tuple[str, ...]) -> None:
    """The parameters of a vjp or jvp must be names that the engine can fill."""
    if formula is None:
        return
    _plain(formula, f"structural: {word}=")
    known = {*arrays, *(f"{a}_shape" for a in arrays), *options, "out"}
    known |= {"g", "gs", "needs"} if word == "vjp" else {f"t_{a}" for a in arrays}
    unknown = [p for p in parameters(formula) if p not in known]
    if unknown:
        raise TypeError(f"structural: {word}= of {label} names {unknown[0]!r}; it may name {', '.join(sorted(known))}")


def _guarded(forward: Callable, label: str, arrays: tuple[str, ...]) -> Callable:
    """The function with the same parameters, whose results are arrays of their own, of dtypes that tensors have."""
    def own(made: Any, given: tuple) -> Any:
        if isinstance(made, (tuple, list)):
            return tuple([own(m, given) for m in made])
        array = np.asarray(made)
        if array.dtype not in KIND_OF_NUMPY:
            raise TypeError(f"{label}: its function gave {type(made).__name__} of dtype {array.dtype}, which no tensor can hold")
        return array.copy() if any(np.may_share_memory(array, x) for x in given) else array
    signature = inspect.signature(forward)
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in signature.parameters.values()):
        raise TypeError(f"structural: {label} must name its parameters: no *args, no **options")
    plain = [p for p in signature.parameters.values() if p.kind is not p.KEYWORD_ONLY]
    keywords = [p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
    listed = ", ".join([*(p.name for p in plain), *(["*", *keywords] if keywords else [])])
    passed = ", ".join([*(p.name for p in plain), *(f"{k}={k}" for k in keywords)])
    space: dict[str, Any] = {"_forward_": forward, "_own_": own}
    given = "".join(f"{a}, " for a in arrays)
    exec(f"def guarded({listed}):\n    return _own_(_forward_({passed}), ({given}))\n", space)
    made, plain_function = space["guarded"], getattr(forward, "py_func", forward)
    made.__defaults__, made.__kwdefaults__ = plain_function.__defaults__, plain_function.__kwdefaults__
    made.__module__ = "engine.library"
    return made


def _front(op: Structural, forward: Callable, arrays: tuple[str, ...]) -> Callable:
    """The public function: arguments by position or name, arrays as tensors, `out=` where one result is given."""
    signature = inspect.signature(forward)

    def call(*args: Any, out: Tensor | None = None, **options: Any) -> Any:
        try:
            bound = signature.bind(*args, **options)
        except TypeError as error:
            raise TypeError(f"{op.name}(): {error}") from None
        bound.apply_defaults()
        given = bound.arguments
        tensors = []
        for k, a in enumerate(arrays):
            t = dispatch.operand(op.name, given.pop(a), a, k + 1)
            if not isinstance(t, Tensor):
                raise TypeError(f"{op.name}(): argument '{a}' (position {k + 1}) must be Tensor, not {type(t).__name__}")
            tensors.append(t)
        common_device(op.name, tensors)
        result = op(*tensors, **given)
        if out is None:
            return result
        if isinstance(result, tuple):
            raise TypeError(f"{op.name}(): out= is for operators of one result")
        return dispatch.into(out, result)
    call.__doc__, call.__module__ = op.doc, "engine.library"
    own = [p for p in signature.parameters.values() if p.name != "out"]
    last = inspect.Parameter("out", inspect.Parameter.KEYWORD_ONLY, default=None)
    call.__signature__ = signature.replace(parameters=[*own, last])
    return call
