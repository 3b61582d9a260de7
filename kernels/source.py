"""Source text that kernels of every device share: how values are read and written, and what a record's parts are called.

The templates of a device (`kernels.cpu`, `kernels.cuda`) print records with these; the names in the text (`load_float32`,
`as_float32`, `half_to_float`, ...) are given their meaning by the device's compiler. Text of expressions is in
`kernels.symbol`, scalar functions become compiled ones in `kernels.scalars`. Imports neither Numba nor NumPy.
"""
from __future__ import annotations

import functools

from .book import BOOK, Fold, Pointwise
from .symbol import Symbol, inputs_of

ITEMSIZE = {"bool": 1, "uint8": 1, "int8": 1, "uint16": 2, "int16": 2, "uint32": 4, "int32": 4, "uint64": 8, "int64": 8,
            "float16": 2, "float32": 4, "float64": 8, "complex64": 8, "complex128": 16}
FLOATING = ("float16", "float32", "float64", "complex64", "complex128")


def unpacked(dtype: str, text: str) -> str:
    """Source of an element as it lies in memory -> the type that is computed in."""
    return f"({text} != 0)" if dtype == "bool" else f"half_to_float({text})" if dtype == "float16" else text


def packed(dtype: str, text: str) -> str:
    """Source of a computed value -> an element as it lies in memory."""
    if dtype == "bool":
        return f"as_uint8(1 if {text} else 0)"
    return f"float_to_half(as_float32({text}))" if dtype == "float16" else f"as_{dtype}({text})"


def loaded(dtype: str, pointer: str, offset: str, how: str = "load") -> str:
    """Source of reading one element as the type that is computed in."""
    return unpacked(dtype, f"{how}_{dtype}({pointer}, {offset})")


def stored(dtype: str, pointer: str, offset: str, value: str) -> str:
    """Source of writing one computed value."""
    return f"store_{dtype}({pointer}, {offset}, {packed(dtype, value)})"


def number_text(number, literal: str) -> str:
    """Source of a constant of dtype `literal`."""
    return f"as_{literal}({number!r})"       # inf and nan are names that kernel source knows


def indented(depth: int, lines: list[str]) -> list[str]:
    """Lines of source, `depth` levels further in."""
    return ["    " * depth + line for line in lines]


# --- pointwise records ------------------------------------------------------------------------------------------------

@functools.cache
def gradient_plan(op: Pointwise, is_complex: bool, mask: tuple[bool, ...]) -> tuple[tuple, tuple[str, ...]]:
    """Expressions of the wanted gradients and the names of the values they read (`g`, inputs, `out`)."""
    gradients = op.gradients(is_complex)
    wanted = tuple(e for e, m in zip(gradients, mask, strict=True) if m and e is not None)
    return wanted, tuple(inputs_of(wanted))


def gradient_types(op: Pointwise, dtype: str, mask: tuple[bool, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The dtypes of what a kernel of gradients reads, in the order of `gradient_plan`, and of what it writes."""
    is_complex = dtype.startswith("complex")
    result = op.result(dtype)
    of_operand = dict(zip(op.inputs, op.operand_types(dtype), strict=True))
    types = {"g": result, "out": result, **of_operand}
    targets = tuple(of_operand[n] for n, m, e in zip(op.inputs, mask, op.gradients(is_complex), strict=True) if m and e is not None)
    return tuple(types[n] for n in gradient_plan(op, is_complex, mask)[1]), targets


def cast_value(source: str, target: str) -> Symbol:
    """The expression of a conversion of `x`: to bool by comparison with zero, complex to real drops the imaginary part."""
    value = Symbol("x")
    if target == "bool" and source != "bool":
        value = Symbol("", BOOK["ne"], (value, 0))
    elif source.startswith("complex") and not target.startswith("complex"):
        value = Symbol("", BOOK["real"], (value,))
    elif source in FLOATING and target in ("uint8", "uint16", "uint32", "int8", "int16"):
        value = Symbol("", BOOK["narrow_to_int"], (value,))
    return value


# --- folds ------------------------------------------------------------------------------------------------------------

def states(op: Fold, dtype: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(dtypes of the running state, of the totals) of a fold computed in `dtype`."""
    state = op.state(dtype)
    return state, op.wide(dtype) if op.wide else state


def results_of(op: Fold, dtype: str) -> tuple[str, ...]:
    """Dtypes of the results."""
    result = op.result(dtype)
    return result if isinstance(result, tuple) else (result,)


def neutral(op: Fold, dtype: str, types: tuple[str, ...]) -> str:
    """The neutral state; inf and nan are names that kernel source knows."""
    values = [f"as_{d}({v!r})" for d, v in zip(types, op.start(dtype), strict=True)]
    return values[0] if len(values) == 1 else f"({', '.join(values)})"


def convert(types: tuple[str, ...], value: str) -> str:
    """A state in other dtypes; `value` is a name where there are several components."""
    return f"as_{types[0]}({value})" if len(types) == 1 else (
        "(" + ", ".join(f"as_{d}({value}[{k}])" for k, d in enumerate(types)) + ")")


def functions(op: Fold, dtype: str, wide: tuple[str, ...]) -> dict:
    """What the source calls: lift, combine, finish, with the type of the number literals in each."""
    literal = {"bool": "int64", "float16": "float32"}.get(dtype, dtype)
    finish = op.complex_finish if op.complex_finish is not None and dtype.startswith("complex") else op.finish
    combining = wide[0] if getattr(op.combine, "typed", False) else None        # a user's, whose numbers have their types
    return {"lift": (op.lift, literal), "combine": (op.combine, combining), "finish": (finish, wide[0])}


def is_sum(op: Fold, dtype: str) -> bool:
    """Whether the templates of sums serve a fold: its state is one number, combined by adding."""
    return op.sums and len(op.state(dtype)) == 1
