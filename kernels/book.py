"""The book of operators: one record each, from which kernels, derivatives, functions, methods and tests are derived.

Three kinds: `pointwise` (a scalar function and its partial derivatives), `fold` (lift, combine, start, finish along
dimensions) and `structural` (a function of arrays and its adjoint, written in operators). The records themselves are in
`kernels.ops`, by family. A record is callable: on tensors the engine answers, on symbols an expression is built, on
NumPy arrays the CPU kernel runs (`__operator__` of the first operand that has one decides).
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

BOOK: dict[str, Operator] = {}

# --- dtype words ------------------------------------------------------------------------------------------------------

BOOL = ("bool",)
INTS = ("uint8", "int8", "int16", "int32", "int64")
FLOATS = ("float16", "float32", "float64")
COMPLEX = ("complex64", "complex128")
REALS = INTS + FLOATS
NUMBERS = REALS + COMPLEX
ALL = BOOL + NUMBERS


def SAME(dtype: str) -> str:
    """Result rule: the dtype computed in."""
    return dtype


def TO_BOOL(dtype: str) -> str:
    """Result rule: bool."""
    return "bool"


def TO_REAL(dtype: str) -> str:
    """Result rule: the dtype of a complex number's parts; others stay."""
    return {"complex64": "float32", "complex128": "float64"}.get(dtype, dtype)


def TO_INT64(dtype: str) -> str:
    """Result rule: int64."""
    return "int64"


def WIDE_INTS(dtype: str) -> str:
    """Result rule of sums and products: integers and bool give int64, others stay."""
    return "int64" if dtype in BOOL + INTS else dtype


# --- the record -------------------------------------------------------------------------------------------------------

@dataclasses.dataclass(eq=False, kw_only=True)
class Operator:
    """What all kinds of records share.

    `dtypes`: dtypes it computes in; `result`: rule from the dtype computed in to the dtype of the result(s); `special`:
    values that tests try in all combinations, for all operands or by operand; `floating`: integer operands are computed
    in the default float dtype; `like`: the NumPy or SciPy function it must equal; `samples`: for tests, a function of
    (generator, dtype) giving operands (and options) where `domain` cannot say; `tol`: tolerance in ulp, 0 for exact;
    `cancels`: a sum whose terms may cancel, so that the tolerance is in ulp of the operands; `aliases`: other public
    names; `python`: Python's operator methods; `function`, `method`, `inplace`: which public forms exist; `node`: the
    name of its node in `grad_fn` where it is not the operator's own; `source`: paper, standard or documentation.
    """
    name: str
    doc: str = ""
    dtypes: tuple[str, ...] = ALL
    result: Callable[[str], str | tuple[str, ...]] = SAME
    floating: bool = False
    domain: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    special: tuple | dict[str, tuple] = ()
    like: Callable | None = None
    samples: Callable | None = None
    tol: float = 4.0
    cancels: bool = False
    aliases: tuple[str, ...] = ()
    python: tuple[str, ...] = ()
    function: bool = True
    method: bool = True
    inplace: bool = False
    node: str = ""
    source: str = ""
    refusals: dict[str, str] = dataclasses.field(default_factory=dict)      # dtype -> PyTorch's words for refusing it
    arguments: tuple[str, ...] = ()         # names of the operands in public functions; (input, other) if empty
    kernels: dict[str, Callable] = dataclasses.field(default_factory=dict)      # device -> a kernel instead of the derived one
    apply: Callable | None = None           # set by the engine: what a call on tensors does

    def __post_init__(self):
        if self.name in BOOK:
            raise ValueError(f"the book has an operator {self.name!r} already")
        BOOK[self.name] = self

    def __call__(self, *operands, **options):
        for operand in operands:
            answer = getattr(type(operand), "__operator__", None)
            if answer is not None:
                return answer(operand, self, operands, options)
            if isinstance(operand, (tuple, list)):
                for member in operand:
                    answer = getattr(type(member), "__operator__", None)
                    if answer is not None:
                        return answer(member, self, operands, options)
        return self.on_arrays(*operands, **options)

    def on_arrays(self, *operands, **options):
        """Run the CPU kernel on NumPy arrays."""
        raise NotImplementedError

    @property
    def node_name(self) -> str:
        """The class name of its node: AddBackward0 for add, CumsumBackward0 for cumsum."""
        return self.node or "".join(part.capitalize() for part in self.name.split("_")) + "Backward0"

    def __repr__(self) -> str:
        return f"<operator {self.name}>"


@dataclasses.dataclass(eq=False, kw_only=True, repr=False)
class Pointwise(Operator):
    """A scalar function applied to each element, with one partial derivative per input.

    `partials(inputs..., out)` returns d out / d input for each input, in the book's operators, `None` where there is
    none. For a complex function that is not holomorphic, `adjoint(g, inputs..., out)` returns the gradients instead
    (PyTorch's convention: the conjugate Wirtinger derivative); where both are given `partials` serves real dtypes.
    `tangents(t_inputs..., inputs..., out)` is the forward mode of an operator for which partial times tangent is not it.
    `operands`: "T" for the dtype computed in, or a fixed dtype. `bodies`: other scalar functions for "complex", "int" or
    "bool" where one text cannot serve all; number literals in a complex body are real numbers of the parts' dtype.
    `numbers`: inputs that are single numbers, which vectorised kernels read once.
    `check(operands)` raises for operands that PyTorch refuses although their common dtype is served (mixed dtypes only).
    """
    scalar: Callable
    inputs: tuple[str, ...] = ()
    operands: tuple[str, ...] = ()
    partials: Callable | None = None
    adjoint: Callable | None = None
    tangents: Callable | None = None
    numbers: tuple[str, ...] = ()
    bodies: dict[str, Callable] = dataclasses.field(default_factory=dict)
    check: Callable | None = None
    work: int = 1

    def __post_init__(self):
        self.inputs = parameters(self.scalar)
        self.operands = self.operands or ("T",) * len(self.inputs)
        super().__post_init__()

    @property
    def differentiable(self) -> bool:
        return self.partials is not None or self.adjoint is not None

    def operand_types(self, dtype: str) -> tuple[str, ...]:
        return tuple(dtype if o == "T" else o for o in self.operands)

    def body(self, dtype: str) -> tuple[Callable, str]:
        """The scalar function for a dtype computed in, and the dtype that its number literals take."""
        if dtype in COMPLEX and "complex" in self.bodies:
            return self.bodies["complex"], TO_REAL(dtype)
        if dtype in INTS and "int" in self.bodies:
            return self.bodies["int"], dtype
        if dtype == "bool":
            found = self.bodies.get("bool") or self.bodies.get("int")
            return (found, "int64") if found else (self.scalar, "float64")
        return self.scalar, dtype

    def gradients(self, is_complex: bool) -> tuple:
        """One expression per input (None: no gradient) in symbols `g`, the inputs' names and `out`."""
        from .symbol import Symbol
        g, out = Symbol("g"), Symbol("out")
        xs = [Symbol(n) for n in self.inputs]
        if self.adjoint is not None and (is_complex or self.partials is None):
            return tuple(self.adjoint(g, *xs, out))
        conj = BOOK["conj"] if is_complex else (lambda e: e)
        return tuple(None if p is None else g * (conj(p) if isinstance(p, Symbol) else p)
                     for p in self.partials(*xs, out))

    def on_arrays(self, *operands, out=None):
        elsewhere = next((o for o in operands if hasattr(o, "compute")), None)
        if elsewhere is not None:
            return elsewhere.compute(self, operands, {"out": out})
        from .table import forward_ufunc
        arrays = [np.asarray(o) for o in operands]
        dtype = np.result_type(*(a for a, o in zip(arrays, self.operands, strict=True) if o == "T")).name
        return forward_ufunc(self, dtype)(*arrays, out=... if out is None else out)


@dataclasses.dataclass(eq=False, kw_only=True, repr=False)
class Fold(Operator):
    """A reduction: lift each element, combine states, finish.

    State: one number or a tuple of numbers. `lift(x, k, *extra)` makes a state of an element and its position along the
    folded dimensions; `combine(a, b)` is associative; `start(dtype)` gives the neutral state as Python numbers;
    `finish(state, n)` the result or tuple of results. `state(dtype)` names the dtypes of the running state and
    `wide(dtype)` those of its totals: blocks run in `state`, totals in `wide`, so sums stay accurate and fast.
    `extra`: further operands with one value per result (the mean, for squared deviations).
    `adjoint`: reverse mode in operators, arguments by name (see engine.tape). `kernel`: another fold whose kernels it shares
    (max and amax differ in their derivatives only); `node_dims`: the name of its node where dimensions were given.
    """
    lift: Callable
    combine: Callable
    start: Callable[[str], tuple]
    finish: Callable
    state: Callable[[str], tuple[str, ...]]
    wide: Callable[[str], tuple[str, ...]] | None = None
    extra: int = 0
    empty: bool = True                  # has a value on no elements
    positions: bool = False             # the last component of a state is a position
    sums: bool = False                  # combine adds numbers, which may be done in any order
    adjoint: Callable | None = None
    work: int = 1
    kernel: Fold | None = None
    complex_finish: Callable | None = None      # `finish` of complex states, where Python's operators would raise
    node_dims: str = ""

    @property
    def differentiable(self) -> bool:
        return self.adjoint is not None

    def on_arrays(self, x, dims=None, keepdim=False, **extra):
        if hasattr(x, "compute"):
            return x.compute(self, (x, *extra.get("extra", ())), {"dims": dims, "keepdim": keepdim})
        from .cpu.folds import run
        return run(self.kernel or self, np.asarray(x), dims, keepdim, **extra)


@dataclasses.dataclass(eq=False, kw_only=True, repr=False)
class Structural(Operator):
    """A function of whole arrays, with its adjoint written in operators.

    `forward(*arrays, **options)` returns an array or a tuple of arrays; a view shares memory where `view` is set.
    `adjoint` names what it needs among: `g` (or `gs`, one per result, None where missing), the inputs, `out`, `out1` (the
    second result alone, one of `nondiff`), the options, and `<input>_shape`; only what it names is kept for backward.
    `anywhere`: `forward` looks, copies (kernels.cpu.copies, buffers) and calls other records, nothing else, so that it runs on
    arrays of any device. `linear`: linear in its inputs, so that forward mode is the operator itself. `nondiff`: results without
    derivative (indices). `many`: the first input is a sequence.
    `tangent`: forward mode, where the adjoint's transpose shall not serve: names what it needs as the adjoint does, and `t_<input>`
    for the tangent of an input (None where it does not move); gives the tangent of the result, or one for each result.
    `quick`: the adjoint once more, with the same arguments, on arrays: for operators so common that what their adjoint costs
    besides its numbers was measured to matter. Used where gradients are not recorded; None from it asks for `adjoint`.
    """
    forward: Callable
    inputs: tuple[str, ...] = ()
    adjoint: Callable | None = None
    view: bool = False
    linear: bool = False
    many: bool = False
    nondiff: tuple[int, ...] = ()
    anywhere: bool = False
    quick: Callable | None = None
    tangent: Callable | None = None

    @property
    def differentiable(self) -> bool:
        return self.adjoint is not None

    def on_arrays(self, *arrays, **options):
        given = arrays[0] if self.many else arrays
        elsewhere = next((a for a in given if hasattr(a, "compute")), None)
        return self.forward(*arrays, **options) if elsewhere is None else elsewhere.compute(self, given, options)


def parameters(function: Callable) -> tuple[str, ...]:
    """Names of a plain function's parameters (`inspect.signature` would cost 10 ms over the whole book)."""
    return function.__code__.co_varnames[:function.__code__.co_argcount + function.__code__.co_kwonlyargcount]


# --- how records are written ------------------------------------------------------------------------------------------

def pointwise(**about) -> Callable[[Callable], Pointwise]:
    """Decorator: a scalar function becomes a pointwise record of its own name."""
    def register(function: Callable) -> Pointwise:
        about.setdefault("doc", function.__doc__ or "")
        about.setdefault("name", function.__name__.rstrip("_"))
        return Pointwise(scalar=function, **about)
    return register


def structural(inputs: Sequence[str], **about) -> Callable[[Callable], Structural]:
    """Decorator: a function of arrays becomes a structural record of its own name; `inputs` names its array parameters."""
    def register(function: Callable) -> Structural:
        about.setdefault("doc", function.__doc__ or "")
        about.setdefault("name", function.__name__.rstrip("_"))
        return Structural(forward=function, inputs=tuple(inputs), **about)
    return register


def fold(name: str, **about) -> Fold:
    """A fold record."""
    return Fold(name=name, **about)
