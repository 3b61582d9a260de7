"""Records of operators that users write as scalar functions: the value, and partial derivatives made when they are first wanted.

A `Text` is a scalar function, read for real and for complex numbers; `Written` is the pointwise record of one, whose partials are
`Written` again, to any order. All partials of one function, or all results of one that returns several, are parts of one `Joint`,
which a kernel runs once. Called by `engine.written.elementwise`; how functions are read and derived is in `kernels.derive`.
"""
from __future__ import annotations

import dataclasses
import functools
import re
import threading
import types
from collections.abc import Callable

from .book import BOOK, COMPLEX, TO_REAL, Operator, Pointwise
from .derive import Scalar, typed
from .table import DEVICES, TABLE, forget

entered: list[Callable[[Pointwise], object]] = []        # told of every record made here
_lock = threading.RLock()


class Text:
    """A scalar function of numbers: `function(complex_numbers)` gives it as it is read for real or for complex ones."""

    def __init__(self, function: Callable[[bool], Callable], kinds: dict[str, str], fastmath: tuple[str, ...] = ()):
        self.function, self.kinds, self.fastmath = function, kinds, fastmath
        self._scalars: dict[bool, Scalar] = {}

    def scalar(self, complex_numbers: bool = False) -> Scalar:
        """The function, read."""
        if complex_numbers not in self._scalars:
            self._scalars[complex_numbers] = Scalar(self.function(complex_numbers), self.kinds, complex_numbers, self.fastmath)
        return self._scalars[complex_numbers]

    def part(self, wanted: tuple[str, ...], index: int, name: str) -> Text:
        """One of the numbers that the function gives, together with its derivatives by `wanted`, as a function of its own."""
        def function(complex_numbers: bool) -> types.FunctionType:
            return _picked(self.scalar(complex_numbers).make(wanted), index, name)
        return Text(function, {f"u_{n}": kind for n, kind in self.kinds.items()}, self.fastmath)


def _picked(function: types.FunctionType, index: int, name: str) -> types.FunctionType:
    """A function for kernels: one of the results of another."""
    arguments = ", ".join(function.__code__.co_varnames[:function.__code__.co_argcount])
    text = f"def f_{name}({arguments}):\n    return {function.__name__}({arguments})[{index}]\n"
    made = typed(text, **{function.__name__: function})
    made.loops = function.loops
    made.complex_numbers, made.shown = function.complex_numbers, lambda line: function.shown(1)
    return made


def _body(text: Text, wanted: tuple[str, ...], dtype: str) -> tuple[Callable, str]:
    if dtype in COMPLEX:
        return text.scalar(True).make(wanted), TO_REAL(dtype)
    return text.scalar().make(wanted), dtype


class Joint:
    """A function of several results, of which each belongs to a record; kernels print it in the place of these records."""

    def __init__(self, text: Text, wanted: tuple[str, ...] = ()):
        self.text, self.wanted = text, wanted
        self.owner: Written | None = None
        self._along: Joint | None = None

    def along(self, wanted: tuple[str, ...]) -> Joint:
        """All of its results together with their derivatives: (values, derivatives by the first of `wanted`, ...)."""
        if self._along is None:
            self._along = Joint(self.text, wanted)
            self._along.owner = self.owner
        return self._along

    @property
    def name(self) -> str:
        """The name in kernels: that of the record whose derivatives, or other results, these are."""
        return f"{self.owner.name}_{'along' if self.wanted else 'whole'}"

    def body(self, dtype: str) -> tuple[Callable, str]:
        """The function for a dtype computed in, and the dtype that its number literals take."""
        return _body(self.text, self.wanted, dtype)

    @property
    def loops(self) -> bool:
        """Whether there is a loop in it that may not end."""
        return self.owner.loops


@dataclasses.dataclass(eq=False, kw_only=True, repr=False)
class Written(Pointwise):
    """A pointwise record whose scalar function a user has written, or that follows from one.

    `text`: the function; `variables`: those of its parameters that it is differentiated by; `joint`: the function of several
    results of which this is one, and which one, as "[1]"; `family`: the first record and all that follow from it; `stated`: partial
    derivatives given by the user, a function of the inputs and the result that gives one expression (or None) for each of
    `variables`.
    """

    scalar: Callable | None = dataclasses.field(default_factory=lambda: None)       # a default would be found in the class
    text: Text
    variables: tuple[str, ...] = ()
    joint: tuple[Joint, str] | None = None
    stated: Callable | None = None
    family: list = dataclasses.field(default_factory=list)

    def __post_init__(self):
        if self.scalar is None:
            del self.scalar                 # made when it is first asked for
        self._parts: tuple | None = None
        self.along: Joint | None = None     # what gives the value with all derivatives, once they have been asked for
        self.value_in_along = "[0]" if self.joint is None or self.joint[0].wanted else f"[0]{self.joint[1]}"
        if self.variables and self.partials is None:
            self.partials = self._partials
        with _lock:
            Operator.__post_init__(self)
            self.family.append(self)
        for tell in entered:
            tell(self)

    def __getattr__(self, name: str):
        if name != "scalar":
            raise AttributeError(name)
        self.scalar = self.text.scalar(self.dtypes == COMPLEX).make()
        return self.scalar

    def body(self, dtype: str) -> tuple[Callable, str]:
        """The function for a dtype computed in, and the dtype that its number literals take."""
        return _body(self.text, (), dtype)

    @property
    def loops(self) -> bool:
        """Whether there is a loop in it that may not end."""
        return self.scalar.loops

    @property
    def heavy(self) -> bool:
        """Whether running it once more takes longer than keeping its partial derivatives until they are asked for."""
        return self.stated is None and bool(self.variables) and _work(self.scalar) >= MUCH

    def _partials(self, *operands) -> tuple:
        """The partial derivatives at the inputs and the result behind them."""
        if self.stated is not None:
            found = dict(zip(self.variables, self.stated(*operands), strict=True))
        else:
            with _lock:
                if self._parts is None:
                    self._parts = self._derived()
            found = {v: part(*operands[:-1]) for v, part in zip(self.variables, self._parts, strict=True)}
        return tuple(found.get(name.removeprefix("u_")) for name in self.inputs)

    def _derived(self) -> tuple[Written, ...]:
        own = self.value_in_along.removeprefix("[0]")
        if own:
            along = self.joint[0].along(tuple(v.removeprefix("u_") for v in self.variables))
        else:
            along = Joint(self.text, self.variables)
            along.owner = self
        found = []
        for k, v in enumerate(self.variables):
            name = f"{self.name}_d_{v.replace('u_', '')}"
            found.append(follower(self, name, self.text.part((v,), 1, name), (along, f"[{1 + k}]{own}")))
        self.along = along
        return tuple(found)


# Derivatives with the value against running twice, times of value and gradient together at 10^4 and 10^6 elements: with 2 calls
# of exp, sin or log 0.8 to 1.2, with 4 calls 0.6 to 0.9, with 8 calls 0.6; where there is only arithmetic 0.8 to 2.5.
MUCH = 4
QUICK = {"abs", "add", "ceil", "clamp", "conj", "copysign", "div", "eq", "floor", "ge", "gt", "imag", "le", "logical_and",
         "logical_not", "logical_or", "lt", "maximum", "minimum", "mul", "ne", "neg", "real", "round", "sign", "sqrt",
         "square", "sub", "trunc", "where"}


@functools.cache
def _work(function: Callable) -> int:
    """How many calls of functions that take long stand in a text, those in what it calls included; MUCH where there is a loop."""
    body = function.source.partition("\n")[2]
    if re.search(r"^ *(for|while) ", body, re.MULTILINE):
        return MUCH
    total = 0
    for name in re.findall(r"\b(\w+)\(", body):
        called = function.__globals__.get(name)
        called = called.scalar if isinstance(called, Written) else called
        if isinstance(called, types.FunctionType) and hasattr(called, "source"):
            total += _work(called)
        elif name.startswith("op_") and name.removeprefix("op_") not in QUICK:
            total += 1
    return total


def follower(op: Written, name: str, text: Text, joint: tuple[Joint, str] | None) -> Written:
    """A record that follows from another: a partial derivative of it, one of its results."""
    return Written(name=name, text=text, joint=joint, dtypes=op.dtypes, refusals=op.refusals, floating=True,
                   inputs=tuple(f"u_{n}" for n in op.inputs), operands=op.operands, function=False, method=False,
                   doc=f"Part of `{op.name}`.", arguments=op.arguments,
                   check=op.check, family=op.family, variables=tuple(f"u_{v}" for v in op.variables))


def replace(name: str) -> None:
    """Make room for a new record of a user's: an earlier one, and what follows from it, goes on working under another name."""
    with _lock:
        old = BOOK[name]
        k = 1
        while f"old{k}_{name}" in BOOK:
            k += 1
        for op in old.family:
            for device in DEVICES:
                TABLE.unregister(op.name, device)
            del BOOK[op.name]
            op.node, op.name = op.node_name, f"old{k}_{op.name}"
            BOOK[op.name] = op
        forget()
