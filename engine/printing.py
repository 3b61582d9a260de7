"""How tensors become text: `repr`, `format` and the print options, with PyTorch 2.13's output letter for letter.

Works on NumPy arrays and plain values, so it knows neither Tensor nor devices and imports neither: `tensor.py` calls
`tensor_repr` from `Tensor.__repr__` and `tensor_format` from `Tensor.__format__`, and `engine/__init__.py` publishes
`set_printoptions`, `get_printoptions` and `printoptions`. The line "Parameter containing:" belongs to `nn.Parameter`.
"""

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np


@dataclasses.dataclass
class PrintOptions:
    """What a user may choose about printing; `set_printoptions` says what each field means."""

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


PRINT_OPTS = PrintOptions()

_PROFILES: dict[str, dict[str, float]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": math.inf, "edgeitems": 3, "linewidth": 80},
}


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Choose how tensors are printed, for the whole process. An option left at None keeps its value.

    precision: digits after the point of floating-point numbers (4 at the start)
    threshold: a tensor of more elements than this is summarised with "..." (1000)
    edgeitems: elements shown at either end of each dimension of a summary (3); with 0 only the size is shown
    linewidth: columns after which a line is broken (80)
    profile:   "default", "short" or "full": sets the four above before they are applied; PyTorch ignores other names
    sci_mode:  True or False for or against scientific notation. None lets the values decide. As in PyTorch this
               one is not kept: a call that does not name it sets it back to None.
    """
    chosen = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    for name, value in _PROFILES.get(profile, {}).items():
        setattr(PRINT_OPTS, name, value)
    for name, value in chosen.items():
        if value is not None:
            setattr(PRINT_OPTS, name, value)
    PRINT_OPTS.sci_mode = sci_mode


def get_printoptions() -> dict[str, Any]:
    """The print options as a dictionary that `set_printoptions(**...)` takes back."""
    return dataclasses.asdict(PRINT_OPTS)


@contextlib.contextmanager
def printoptions(**options: Any) -> Iterator[None]:
    """Set print options, named as in `set_printoptions`, for the length of a `with` block."""
    before = get_printoptions()
    set_printoptions(**options)
    try:
        yield
    finally:
        set_printoptions(**before)


def tensor_repr(
    array: np.ndarray,
    *,
    dtype_name: str,
    is_default_dtype: bool,
    requires_grad: bool = False,
    grad_fn_name: str | None = None,
    device: str = "cpu",
    prefix: str = "tensor(",
    module: str = "engine",
) -> str:
    """The text of a tensor, such as `tensor([1., 2.], dtype=engine.float64, grad_fn=<AddBackward0>)`.

    array:            the values, any shape and layout; of a large one only the part that is shown is copied
    dtype_name:       the dtype's name without its module ("float32")
    is_default_dtype: whether it is the default float dtype, or the complex dtype that goes with that one
                      (complex128 with float64, complex64 with any other); int64 and bool are recognised here
    grad_fn_name:     the name of the tensor's node; shown instead of requires_grad where there is one
    device:           shown unless it is "cpu"
    prefix:           how the text begins; its length sets the indentation of the following lines
    module:           where the dtypes live, as it is to be shown
    """
    suffixes = []
    if device != "cpu":
        suffixes.append(f"device='{device}'")
    if array.size == 0:
        # No element tells the dtype or the shape, so only the default float dtype and the shape (0,) go unsaid.
        show_size, show_dtype = array.ndim != 1, not (is_default_dtype and array.dtype.kind == "f")
    else:
        show_size = not PRINT_OPTS.edgeitems
        show_dtype = not (is_default_dtype or dtype_name in ("int64", "bool"))
    if show_size:
        suffixes.append(f"size={tuple(array.shape)}")
    if show_dtype:
        suffixes.append(f"dtype={module}.{dtype_name}")
    if grad_fn_name is not None:
        suffixes.append(f"grad_fn=<{grad_fn_name}>")
    elif requires_grad:
        suffixes.append("requires_grad=True")
    return _with_suffixes(prefix + _values_text(array, len(prefix)), suffixes, len(prefix), module)


def tensor_format(array: np.ndarray, spec: str, type_name: str = "Tensor") -> str | None:
    """`format(tensor, spec)`: a 0-d tensor is formatted as its Python number.

    Returns None for a tensor with dimensions and an empty `spec`, which is formatted as `str(tensor)` by the caller.
    Raises TypeError for one with a `spec`, as `object.__format__` does; `type_name` is the class that it names.
    """
    if array.ndim == 0:
        return format(array.item(), spec)
    if spec:
        raise TypeError(f"unsupported format string passed to {type_name}.__format__")
    return None


def _with_suffixes(text: str, suffixes: list[str], indent: int, module: str) -> str:
    """Append the suffixes and the closing bracket; one that would pass the line's end goes to a line of its own.

    A dtype counts as wide as "dtype=torch.int32" whatever `module` is, so that lines break exactly where PyTorch
    breaks them: only the name differs from its text.
    """
    longer = len(module) - len("torch")
    # Two more than the last line has, as PyTorch counts: a suffix goes to a new line up to two columns early.
    column = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        width = len(suffix) - longer if suffix.startswith("dtype=") else len(suffix)
        if column + width + 2 > PRINT_OPTS.linewidth:
            text += ",\n" + " " * indent + suffix
            column = indent + width
        else:
            text += ", " + suffix
            column += width + 2
    return text + ")"


def _values_text(array: np.ndarray, indent: int) -> str:
    """The bracketed numbers. The first line begins in column `indent`."""
    if array.size == 0:
        return "[]"
    shown = array
    if array.size > PRINT_OPTS.threshold and array.ndim > 0:
        if PRINT_OPTS.edgeitems <= 0:
            return "[...]"
        shown = _corners(array, PRINT_OPTS.edgeitems)
    flat = shown.ravel()
    if flat.dtype.kind == "c":
        texts, width = _complex_texts(flat)
    elif flat.dtype.kind == "f":
        texts, width = _float_texts(flat.tolist())
    else:
        texts, width = _integer_texts(flat.tolist())
    return texts[0] if array.ndim == 0 else _nested(texts, width, array.shape, shown.shape, indent)


def _corners(array: np.ndarray, edge: int) -> np.ndarray:
    """The elements that a summary shows: the first and last `edge` of each dimension longer than twice that."""
    kept = []
    for size in array.shape:
        index = np.arange(min(size, 2 * edge))
        if size > 2 * edge:
            index[edge:] += size - 2 * edge
        kept.append(index)
    return array[np.ix_(*kept)]


def _nested(texts: list[str], width: int, shape: tuple[int, ...], kept: tuple[int, ...], indent: int) -> str:
    """Put brackets, commas and line breaks around numbers, from the innermost dimension outwards.

    Shapes:  texts (product of kept,), in row-major order;  `shape` the tensor's own, `kept` that of the part shown
    """
    rank = len(shape)
    # An element takes its width, a comma and a space. The innermost row has rank - 1 brackets before its own.
    per_line = max(1, math.floor((PRINT_OPTS.linewidth - indent - rank + 1) / (width + 2)))
    for dim in reversed(range(rank)):
        innermost = dim == rank - 1
        margin = " " * (indent + dim + 1)
        separator = ", " if innermost else "," + "\n" * (rank - 1 - dim) + margin
        groups = []
        for start in range(0, len(texts), kept[dim]):
            group = texts[start : start + kept[dim]]
            if kept[dim] < shape[dim]:
                group.insert(kept[dim] // 2, " ..." if innermost else "...")
            if innermost and len(group) > per_line:
                group = [", ".join(group[i : i + per_line]) for i in range(0, len(group), per_line)]
                groups.append("[" + (",\n" + margin).join(group) + "]")
            else:
                groups.append("[" + separator.join(group) + "]")
        texts = groups
    return texts[0]


def _integer_texts(values: list[int]) -> tuple[list[str], int]:
    """Integers or booleans as text, right-aligned, and the width of the column."""
    texts = [str(value) for value in values]
    width = max(map(len, texts))
    return [text.rjust(width) for text in texts], width


def _float_texts(values: list[float]) -> tuple[list[str], int]:
    """Floating-point numbers as text, right-aligned, and the width of the column.

    Notation and width follow from the finite values other than zero alone; where those are narrow, "-inf", "nan" and
    "-0." stick out of the column, as they do in PyTorch. Integers are written "1." when all of these values are.
    """
    decisive = [abs(value) for value in values if value and math.isfinite(value)]
    if not decisive:
        return [_point(f"{value:.0f}") for value in values], 1
    integral = all(value.is_integer() for value in decisive)
    scientific = PRINT_OPTS.sci_mode
    if scientific is None:
        low, high = min(decisive), max(decisive)
        scientific = high / low > 1000.0 or high > 1e8 or low < 1e-4
    if scientific:
        spec = f".{PRINT_OPTS.precision}e"
    elif integral:
        spec = ".0f"
    else:
        spec = f".{PRINT_OPTS.precision}f"
    texts = [format(value, spec) for value in values]
    if integral and not scientific:
        texts = [_point(text) for text in texts]
    width = max(len(text) for text, value in zip(texts, values, strict=True) if value and math.isfinite(value))
    return [text.rjust(width) for text in texts], width


def _point(text: str) -> str:
    """Mark an integer as a floating-point number: "3" becomes "3.", while "inf" and "nan" stay."""
    return text + "." if text[-1].isdigit() else text


def _complex_texts(values: np.ndarray) -> tuple[list[str], int]:
    """Complex numbers as text and the width of the column; each part chooses its notation for itself."""
    real, real_width = _float_texts(values.real.tolist())
    imag, imag_width = _float_texts(values.imag.tolist())
    texts = []
    for re, im in zip(real, imag, strict=True):
        im = im.lstrip()
        texts.append(f"{re}{im}j" if im.startswith("-") else f"{re}+{im}j")
    return texts, real_width + imag_width + 1
