"""`engine.elementwise`: a scalar Python function of the user's becomes an operator: broadcasting, differentiable, fusible.

The record (`kernels.written`) enters the book, so that everything that works on the book's operators works on it: dispatch, `out=`,
autograd to any order, forward mode, vmap, `engine.compile`. How the function is read and differentiated is in `kernels.derive`.
"""
from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

from kernels import derive, written
from kernels.book import BOOK, COMPLEX, FLOATS, SAME, TO_BOOL

from ..dispatch import into
from ..errors import DTypeError
from ..tensor import Tensor
from .calls import SeveralCaller, WrittenCaller, quick

FLAGS = ("afn", "arcp", "contract", "fast", "ninf", "nnan", "nsz", "reassoc")


def elementwise(function: Callable | None = None, *, derivative: Callable | Sequence[Callable | None] | None = None,
                nondifferentiable: Sequence[str] = (), name: str = "", fastmath: Sequence[str] = ()) -> Any:
    """Decorator: a function of scalars becomes an operator on tensors, applied to each element.

        @engine.elementwise
        def soft_clip(x, limit):
            if x <= limit:
                return x
            return limit + math.log(1.0 + x - limit)

    The function may use local variables, `if`, `while`, `for ... in range`, early returns, tuples, `math`, `cmath`, NumPy's scalar
    functions, constants from outside, and other scalar functions (plain, jitted, or operators made here). It returns a number, a
    truth value, or a tuple of numbers; then the operator returns a tuple of tensors. Derivatives are those of the path taken.

    Operands: tensors and Python numbers, broadcast, promoted to one dtype; integers are computed in the default float dtype.
    nondifferentiable: parameters that are integers (computed as int64) or flags.
    derivative: the partial derivatives, stated: one function giving a tuple of them (one for each differentiable parameter), or one
        function for each; each takes the function's parameters, and after them the result if it names one more.
    name: the operator's name; the function's own if not given.
    fastmath: names of LLVM's fast-math flags, of "afn", "arcp", "contract", "fast", "ninf", "nnan", "nsz", "reassoc".
    Errors: `kernels.derive.SourceError`, a TypeError that shows the line, for what cannot become a kernel; ValueError for the name
        of an operator of the engine's.
    """
    if function is None:
        return functools.partial(elementwise, derivative=derivative, nondifferentiable=nondifferentiable, name=name,
                                 fastmath=fastmath)
    function = getattr(function, "__elementwise__", getattr(function, "py_func", function))
    if not isinstance(function, types.FunctionType):
        raise TypeError(f"elementwise: a function is needed, not {type(function).__name__}")
    name = _checked_name(name or function.__name__.strip("<>"))
    flags = _checked_flags(fastmath)
    if isinstance(nondifferentiable, str):
        nondifferentiable = (nondifferentiable,)
    if not isinstance(nondifferentiable, (tuple, list, set, frozenset)) or not all(isinstance(n, str) for n in nondifferentiable):
        raise TypeError(f"elementwise: nondifferentiable takes names of parameters, not {nondifferentiable!r}")
    kinds = dict.fromkeys(nondifferentiable, "int")
    text = written.Text(lambda complex_numbers: function, kinds, flags)
    try:
        scalar, complex_only = text.scalar(), False
        scalar.make()
    except derive.NeedsComplex:
        scalar, complex_only = text.scalar(True), True
        scalar.make()
    unknown = [n for n in kinds if n not in scalar.inputs]
    if unknown:
        raise ValueError(f"elementwise: {name} has no parameter {unknown[0]!r}")
    made = _Maker(name, function, text, scalar, complex_only, derivative).made()
    return made


def _checked_name(name: str) -> str:
    if not name.isidentifier():
        raise ValueError(f"elementwise: {name!r} is no name for an operator")
    for known in (name, f"{name}_0"):
        op = BOOK.get(known)
        if op is not None and not (isinstance(op, written.Written) and op.family[0] is op):
            raise ValueError(f"elementwise: {name!r} is an operator of the engine's already; give yours another name with name=")
    return name


def _checked_flags(fastmath: Sequence[str]) -> tuple[str, ...]:
    flags = (fastmath,) if isinstance(fastmath, str) else tuple(sorted(fastmath)) if not isinstance(fastmath, bool) else None
    if flags is None or any(f not in FLAGS for f in flags):
        raise ValueError(f"elementwise: fastmath takes names of flags, among {', '.join(FLAGS)}; not {fastmath!r}")
    return flags


class _Maker:
    """Makes the records and the public function of one operator."""

    def __init__(self, name: str, function: Callable, text: written.Text, scalar: derive.Scalar, complex_only: bool, derivative):
        self.name, self.function, self.text, self.scalar, self.derivative = name, function, text, scalar, derivative
        self.dtypes = COMPLEX if complex_only else FLOATS + COMPLEX
        words = f"{name}: it computes with complex numbers; give it complex operands, as by .to(engine.complex128)"
        self.refusals = dict.fromkeys(FLOATS, words) if complex_only else {}
        self.variables = tuple(n for n in scalar.inputs if n not in scalar.kinds)

    def made(self) -> Callable:
        kind = self.scalar.result
        for known in (self.name, f"{self.name}_0"):
            if known in BOOK:
                written.replace(known)
        if not isinstance(kind, tuple):
            stated = None if self.derivative is None else self.stated()
            op = self.record(self.name, self.text, kind, None, stated)
            return self.public((op,), _hot(op))
        if self.derivative is not None:
            raise ValueError(f"elementwise: {self.name} returns several results, whose derivatives cannot be stated")
        if any(isinstance(k, tuple) for k in kind):
            raise self.scalar.error(self.scalar.definition, "it returns tuples within a tuple")
        joint, ops = written.Joint(self.text), []
        for k, part in enumerate(kind):
            name = f"{self.name}_{k}"
            op = self.record(name, self.text.part((), k, name), part, (joint, f"[{k}]"), None, ops[0].family if ops else [])
            ops.append(op)
            joint.owner = ops[0]
        several = SeveralCaller(self.name, ops)
        return self.public(tuple(ops), quick(several.whole, several.run, several))

    def record(self, name: str, text: written.Text, kind: object, joint, stated, family: list | None = None) -> written.Written:
        prefix = "u_" if joint is not None else ""
        integers = [k for k, n in enumerate(self.scalar.inputs) if n in self.scalar.kinds]
        return written.Written(
            name=name, doc=self.function.__doc__ or "", text=text, joint=joint, stated=stated,
            inputs=tuple(f"u_{prefix}{n}" for n in self.scalar.inputs),
            dtypes=self.dtypes, refusals=self.refusals, floating=True, result=TO_BOOL if kind == "bool" else SAME,
            operands=tuple("int64" if n in self.scalar.kinds else "T" for n in self.scalar.inputs), function=False, method=False,
            arguments=self.scalar.inputs, check=_integers(self.name, integers, self.scalar.inputs) if integers else None,
            node="".join(part.capitalize() for part in self.name.split("_")) + "Backward0",
            variables=() if kind == "bool" else tuple(prefix + v for v in self.variables), family=[] if family is None else family)

    def stated(self) -> Callable:
        """The partial derivatives that the user gives, as a function of symbols."""
        count = len(self.scalar.inputs)
        functions = self.derivative if isinstance(self.derivative, (tuple, list)) else [self.derivative]
        single = not isinstance(self.derivative, (tuple, list))
        for function in functions:
            if function is not None and not isinstance(getattr(function, "py_func", function), types.FunctionType):
                raise TypeError(f"elementwise: derivative= of {self.name} takes functions, not {type(function).__name__}")
        if not single and len(functions) != len(self.variables):
            raise ValueError(f"elementwise: derivative= of {self.name} must give {len(self.variables)} functions, for "
                             f"{', '.join(self.variables)}; not {len(functions)}")
        records: list = []
        for k, function in enumerate(functions):
            if function is None:
                records.append((None, 0))
                continue
            name = f"{self.name}_derivative_{k}"
            inner = elementwise(function, name=name, nondifferentiable=_names_at(function, [
                n for n, i in enumerate(self.scalar.inputs) if i in self.scalar.kinds]))
            if any(op.result is TO_BOOL for op in inner.operators):
                raise TypeError(f"elementwise: derivative= of {self.name} must return numbers, not truth values")
            taken = len(inner.operators[0].inputs)
            if taken not in (count, count + 1):
                raise ValueError(f"elementwise: derivative= of {self.name} must take its {count} parameters, and the result if it "
                                 f"takes one more; not {taken}")
            records += [(op, taken) for op in inner.operators]
        if len(records) != len(self.variables):
            raise ValueError(f"elementwise: derivative= of {self.name} must return {len(self.variables)} numbers, for "
                             f"{', '.join(self.variables)}; not {len(records)}")
        return lambda *operands: tuple(None if op is None else op(*operands[:taken]) for op, taken in records)

    def public(self, ops: tuple, hot: Callable) -> Callable:
        """The function that users call."""
        names = self.scalar.inputs
        space: dict[str, Any] = {"_hot_": hot, "_into_": into, "Tensor": Tensor}
        listed = ", ".join(f"{n}: Tensor | complex" for n in names)
        if len(ops) > 1 or "out" in names:
            source = f"def template({listed}):\n    return _hot_({', '.join(names)})\n"
        else:
            source = (f"def template({listed}, *, out: Tensor | None = None) -> Tensor:\n    _result_ = _hot_({', '.join(names)})\n"
                      "    return _result_ if out is None else _into_(out, _result_)\n")
        exec(source, space)
        made = space["template"]
        for attribute in ("__module__", "__qualname__", "__doc__"):
            setattr(made, attribute, getattr(self.function, attribute))
        made.__name__, made.__elementwise__, made.__wrapped__ = self.name, self.function, self.function
        made.operators, made.operator = ops, ops[0]
        made.source = lambda wanted=(): self.scalar.source(tuple(wanted))
        return made


def _names_at(function: Callable, places: list[int]) -> list[str]:
    names = getattr(function, "py_func", function).__code__.co_varnames
    return [names[k] for k in places]


def _integers(name: str, places: list[int], names: tuple[str, ...]) -> Callable:
    """The check of operands that must be integers."""
    def check(operands):
        for k in places:
            o = operands[k]
            category = o._kind.dtype.category if isinstance(o, Tensor) else 0 if isinstance(o, (bool, int)) else 2
            if category > 1:
                found = o.dtype if isinstance(o, Tensor) else type(o).__name__
                raise DTypeError(f"{name}: {names[k]} must be an integer or a tensor of integers, not {found}")
    return check


def _hot(op: written.Written) -> Callable:
    """The fastest caller for an operator's operands."""
    caller = op.apply
    if caller.varies or caller.whole.heavy:
        return quick(caller.whole, caller.run, caller.__call__)
    return {1: caller.unary, 2: caller.binary}.get(len(op.inputs), caller.several)()


def _attached(op: written.Written) -> None:
    op.apply = WrittenCaller(op)
    recorders = sys.modules.get("engine.compiler.recorders")
    if recorders is not None:
        recorders.adopt(op.apply)


written.entered.append(_attached)
