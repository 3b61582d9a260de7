"""Dtypes: the objects `engine.float32` and so on, promotion, the default dtype, finfo and iinfo.

Semantics are PyTorch's (c10/core/ScalarType.h, ATen/native/TypeProperties.cpp). A dtype wraps a NumPy one and knows no
tensor, kernel or device. Called by every file of `engine` that makes or combines tensors; hot code reads the plain
attributes of a dtype, `PROMOTE[a, b]` and `DEFAULT.dtype`. Names that would hide a builtin end in an underscore here
(`bool_`, `int_`, `float_`); `PUBLIC` gives the names under which `engine/__init__.py` publishes them.
Two deviations: there is no complex32, so complex64 stands in as the complex type of float16; and there is no bfloat16.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np

from .errors import DTypeError

BOOL, INTEGER, FLOATING, COMPLEX = range(4)  # values of `dtype.category`, in the order in which they win a promotion


class dtype:
    """The element type of a tensor. There is one object for each type, compared by identity; users cannot make others.

    name, numpy, char      "float32", np.dtype("float32"), "f" (NumPy's type character)
    itemsize               bytes of one element
    category               0 bool, 1 integer, 2 floating, 3 complex
    is_floating_point, is_complex, is_signed    as in PyTorch: complex is not floating, bool is not signed
    legacy                 the tensor class of old PyTorch, "FloatTensor", as `Tensor.type()` prints it
    scalar                 PyTorch's C++ name, "Float", used in its messages
    real, complex          the dtypes that `to_real()` and `to_complex()` return; None where `to_complex()` raises
    """

    __slots__ = ("category", "char", "complex", "is_complex", "is_floating_point", "is_signed", "itemsize", "legacy",
                 "name", "numpy", "real", "scalar")

    def __new__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("cannot create 'engine.dtype' instances")

    def __init_subclass__(cls, **kwargs: Any) -> NoReturn:
        raise TypeError("type 'engine.dtype' is not an acceptable base type")

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        if name in dtype.__slots__:
            raise AttributeError(f"attribute '{name}' of 'engine.dtype' objects is not writable")
        raise AttributeError(f"'engine.dtype' object has no attribute '{name}'")

    def __delattr__(self, name: str) -> NoReturn:
        self.__setattr__(name, None)

    def __repr__(self) -> str:
        return f"engine.{self.name}"

    def __reduce__(self) -> tuple:
        return by_name, (self.name,)

    def __copy__(self) -> dtype:
        return self

    def __deepcopy__(self, memo: dict) -> dtype:
        return self

    def to_real(self) -> dtype:
        """The dtype of the real part: float32 for complex64, itself for all that are not complex."""
        return self.real

    def to_complex(self) -> dtype:
        """The complex dtype whose parts have this dtype; RuntimeError for bool and integers."""
        if self.complex is None:
            raise DTypeError(f"Unknown Complex ScalarType for {self.scalar}: {self!r} has no complex counterpart; "
                             "convert to a floating point dtype first")
        return self.complex


def _define(name: str, category: int, scalar: str) -> dtype:
    """Make one dtype, the only place where that happens. `real` and `complex` are filled in below."""
    numpy_dtype = np.dtype(name)
    values = {
        "name": name, "numpy": numpy_dtype, "char": numpy_dtype.char, "itemsize": numpy_dtype.itemsize,
        "category": category, "is_floating_point": category == FLOATING, "is_complex": category == COMPLEX,
        "is_signed": category >= FLOATING or numpy_dtype.kind == "i", "legacy": f"{scalar}Tensor", "scalar": scalar,
    }
    made = object.__new__(dtype)
    for attribute, value in values.items():
        object.__setattr__(made, attribute, value)
    return made


bool_ = _define("bool", BOOL, "Bool")
uint8 = _define("uint8", INTEGER, "Byte")
int8 = _define("int8", INTEGER, "Char")
int16 = _define("int16", INTEGER, "Short")
int32 = _define("int32", INTEGER, "Int")
int64 = _define("int64", INTEGER, "Long")
float16 = _define("float16", FLOATING, "Half")
float32 = _define("float32", FLOATING, "Float")
float64 = _define("float64", FLOATING, "Double")
complex64 = _define("complex64", COMPLEX, "ComplexFloat")
complex128 = _define("complex128", COMPLEX, "ComplexDouble")
uint16 = _define("uint16", INTEGER, "UInt16")
uint32 = _define("uint32", INTEGER, "UInt32")
uint64 = _define("uint64", INTEGER, "UInt64")

half, float_, double = float16, float32, float64
short, int_, long = int16, int32, int64
cfloat, cdouble = complex64, complex128

ALL = (bool_, uint8, int8, int16, int32, int64, float16, float32, float64, complex64, complex128,
       uint16, uint32, uint64)
_WIDE_UNSIGNED = (uint16, uint32, uint64)  # PyTorch promotes these with floating types and with themselves only

_REAL = {complex64: float32, complex128: float64}
_COMPLEX = {float16: complex64, float32: complex64, float64: complex128, complex64: complex64, complex128: complex128}
for _each in ALL:
    object.__setattr__(_each, "real", _REAL.get(_each, _each))
    object.__setattr__(_each, "complex", _COMPLEX.get(_each))

_ALIASES = {
    "half": half, "float": float_, "double": double, "short": short, "int": int_, "long": long,
    "cfloat": cfloat, "cdouble": cdouble,
}
PUBLIC: dict[str, dtype] = {d.name: d for d in ALL} | _ALIASES
BY_LEGACY: dict[str, dtype] = {d.legacy: d for d in ALL}
BY_NUMPY: dict[np.dtype, dtype] = {d.numpy: d for d in ALL}
BY_PYTHON: dict[type, dtype] = {bool: bool_, int: int64, float: float64, complex: complex128}  # as `dtype=float` means


def by_name(name: str) -> dtype:
    """The dtype with a public name, `"float32"` or `"double"`; what pickles of dtypes call."""
    return PUBLIC[name]


def from_numpy_dtype(np_dtype: np.dtype | type) -> dtype:
    """The dtype of elements stored as `np_dtype`; TypeError where there is none, ValueError for foreign byte order."""
    np_dtype = np.dtype(np_dtype)
    found = BY_NUMPY.get(np_dtype)
    if found is not None:
        return found
    if np_dtype.kind in "iufc" and not np_dtype.isnative:
        raise ValueError("given numpy array has byte order different from the native byte order. Conversion between "
                         "byte orders is currently not supported: use array.astype(array.dtype.newbyteorder('='))")
    raise TypeError(
        f"can't convert np.ndarray of type numpy.{np_dtype.type.__name__}. The only supported types are: float64, "
        "float32, float16, complex64, complex128, int64, int32, int16, int8, uint64, uint32, uint16, uint8, and bool."
    )


def as_dtype(x: Any) -> dtype:
    """The dtype meant by an engine dtype, a Python number type (`float`: float64), or a NumPy dtype or scalar type."""
    if x.__class__ is dtype:
        return x
    if isinstance(x, type):
        found = BY_PYTHON.get(x)
        if found is not None:
            return found
        if issubclass(x, np.generic):
            return from_numpy_dtype(x)
    elif isinstance(x, np.dtype):
        return from_numpy_dtype(x)
    raise TypeError(f"argument 'dtype' must be engine.dtype, not {type(x).__name__}: got {x!r}")


# --- the default dtype -----------------------------------------------------------------------------------------------


class _Default:
    """Holds the default dtype where hot code reads it in one attribute access: `DEFAULT.dtype`."""

    __slots__ = ("dtype",)


DEFAULT = _Default()
DEFAULT.dtype = float32


def default() -> dtype:
    """The default floating dtype; the same as `get_default_dtype()`."""
    return DEFAULT.dtype


def get_default_dtype() -> dtype:
    """The dtype of tensors made from Python floats, float32 until `set_default_dtype` changes it."""
    return DEFAULT.dtype


def set_default_dtype(d: dtype) -> None:
    """Set the dtype of tensors made from Python floats, for all threads. TypeError unless `d` is a floating dtype."""
    if d.__class__ is not dtype:
        raise TypeError(f"invalid dtype object: only floating-point types are supported as the default type, got {d!r}")
    if not d.is_floating_point:
        raise TypeError(f"only floating-point types are supported as the default type, got {d!r}")
    DEFAULT.dtype = d


def set_default_tensor_type(t: type | str) -> None:
    """Set default dtype and device by an old tensor class or its name; PyTorch's deprecated form.

    `"torch.DoubleTensor"` sets float64 and cpu, `"torch.cuda.DoubleTensor"` float64 and cuda. TypeError for names of no
    floating dtype, and for cuda where there is none.
    """
    name = t if isinstance(t, str) else f"{t.__module__}.{t.__qualname__}" if isinstance(t, type) else ""
    *package, legacy = name.split(".")
    found = BY_LEGACY.get(legacy)
    if found is None:
        raise TypeError(f"invalid type object: only floating-point types are supported as the default type, got {t!r}")
    if not found.is_floating_point:
        raise TypeError(f"only floating-point types are supported as the default type, got {t!r}")
    warnings.warn("set_default_tensor_type() is deprecated, please use set_default_dtype() and set_default_device() "
                  "as alternatives", UserWarning, stacklevel=2)
    from . import devices  # here, because nothing else in this file knows devices

    on_cuda = "cuda" in package
    if on_cuda:
        try:
            devices.require_available(devices.device("cuda"))
        except RuntimeError as missing:
            raise TypeError(f"type {name} not available. {missing}") from missing
    devices.set_default_device("cuda" if on_cuda else "cpu")
    DEFAULT.dtype = found


# --- promotion -------------------------------------------------------------------------------------------------------


def _join(a: dtype, b: dtype) -> dtype | None:
    """One entry of PyTorch's promotion table, or None where it has none (c10/core/ScalarType.cpp, promoteTypes)."""
    if a is b:
        return a
    low, high = (a, b) if a.category <= b.category else (b, a)
    if a in _WIDE_UNSIGNED or b in _WIDE_UNSIGNED:
        return high if high.category == FLOATING else None
    if low.category == high.category:
        if high.category == INTEGER and low.itemsize == high.itemsize:
            return int16  # the only pair: uint8 and int8
        return high if high.itemsize >= low.itemsize else low
    if high.category == COMPLEX and low is float64:
        return complex128
    return high


class _Promotions(dict):
    """`PROMOTE[a, b]`: the dtype that holds both. Pairs PyTorch does not define raise RuntimeError in its words."""

    __slots__ = ()

    def __missing__(self, pair: tuple[dtype, dtype]) -> NoReturn:
        a, b = pair
        raise DTypeError("Promotion for uint16, uint32, uint64 types is not supported, attempted to promote "
                         f"{a.scalar} and {b.scalar}: convert one operand first, for example with .to(engine.int64)")


PROMOTE = _Promotions({(a, b): joined for a in ALL for b in ALL if (joined := _join(a, b)) is not None})


def promote_types(type1: dtype, type2: dtype) -> dtype:
    """The dtype that PyTorch's table gives for both.

    RuntimeError for uint16, uint32 or uint64 with bool, another integer or complex; TypeError for what is no dtype.
    """
    return PROMOTE[_checked(type1, "promote_types", "type1", 1), _checked(type2, "promote_types", "type2", 2)]


def can_cast(from_: dtype, to: dtype) -> bool:
    """Whether PyTorch lets a result of dtype `from_` be written into `to`: yes, unless the category falls.

    Narrowing and loss of sign are allowed. Refused: complex to real, floating to integer, all but bool to bool.
    """
    return _checked(from_, "can_cast", "from_", 1).category <= _checked(to, "can_cast", "to", 2).category


def _checked(x: Any, function: str, argument: str, position: int) -> dtype:
    """`x` as a dtype (Python number types included), with PyTorch's argument error."""
    if x.__class__ is dtype:
        return x
    found = BY_PYTHON.get(x) if isinstance(x, type) else None
    if found is None:
        raise TypeError(f"{function}(): argument '{argument}' (position {position}) must be engine.dtype, "
                        f"not {type(x).__name__}")
    return found


def number_dtype(value: Any) -> dtype:
    """The dtype that a Python number (or NumPy scalar, which PyTorch treats alike) brings into an operation.

    bool is bool, int is int64, float is the default dtype, complex its complex counterpart; TypeError for all else.
    """
    cls = value.__class__
    if cls is float:
        return DEFAULT.dtype
    if cls is int:
        return int64
    if cls is bool:
        return bool_
    if isinstance(value, (float, np.floating)):
        return DEFAULT.dtype
    if isinstance(value, (complex, np.complexfloating)):
        return DEFAULT.dtype.complex
    if isinstance(value, (bool, np.bool_)):
        return bool_
    if isinstance(value, (int, np.integer)):
        return int64
    raise TypeError(f"expected a bool, int, float or complex number, got {type(value).__name__}")


def _combine(high: dtype | None, low: dtype | None) -> dtype | None:
    """The result of two priorities: `high` decides unless `low` is of a higher category (combine_categories)."""
    if high is None or low is None:
        return high or low
    if high.category == COMPLEX:
        return high
    if high.category == FLOATING:
        return high.complex if low.category == COMPLEX else high
    if high.category == BOOL:
        return PROMOTE[high, low]
    return low if low.category >= FLOATING else high


def result_type_of(items: Iterable[tuple[dtype, int]]) -> dtype:
    """The dtype of an operation on operands given as (dtype, priority); RuntimeError for none at all.

    Priority 2: a tensor with dimensions; 1: a 0-dimensional tensor; 0: a Python number, with its `number_dtype`.
    Within a priority dtypes are promoted; a lower priority changes the result only by its category.
    Source: at::native::result_type, update_result_type_state.
    """
    number = scalar = tensor = None
    for d, priority in items:
        if priority == 2:
            tensor = d if tensor is None or tensor is d else PROMOTE[tensor, d]
        elif priority == 1:
            scalar = d if scalar is None or scalar is d else PROMOTE[scalar, d]
        else:
            number = d if number is None or number is d else PROMOTE[number, d]
    result = _combine(tensor, _combine(scalar, number))
    if result is None:
        raise DTypeError("result_type: at least one operand is needed, got none")
    return result


# --- finfo and iinfo -------------------------------------------------------------------------------------------------


class finfo:
    """Numerical limits of a floating dtype (of the parts, for a complex one); the default dtype if none is given.

    bits, eps, max, min, tiny, smallest_normal, resolution: Python numbers; dtype: its name. TypeError for other dtypes.
    """

    __slots__ = ("bits", "dtype", "eps", "max", "min", "resolution", "smallest_normal", "tiny")
    __hash__ = None

    def __init__(self, type: dtype | None = None) -> None:
        given = DEFAULT.dtype if type is None else _checked(type, "finfo", "type", 1)
        if given.category < FLOATING:
            raise TypeError("engine.finfo() requires a floating point input type. "
                            f"Use engine.iinfo to handle '{given!r}'")
        limits = np.finfo(given.real.numpy)
        self.bits = int(limits.bits)
        self.eps = float(limits.eps)
        self.max = float(limits.max)
        self.min = float(limits.min)
        self.tiny = self.smallest_normal = float(limits.smallest_normal)
        self.resolution = 10.0 ** -int(limits.precision)  # NumPy's is rounded to the dtype, PyTorch's is not
        self.dtype = given.real.name

    def __eq__(self, other: object) -> bool:
        return other.__class__ is finfo and other.dtype == self.dtype

    def __repr__(self) -> str:
        names = ("resolution", "min", "max", "eps", "smallest_normal", "tiny")
        shown = ", ".join(f"{name}={getattr(self, name):g}" for name in names)
        return f"finfo({shown}, dtype={self.dtype})"


class iinfo:
    """Limits of an integer dtype: bits, max, min as Python ints; dtype: its name. TypeError for other dtypes."""

    __slots__ = ("bits", "dtype", "max", "min")
    __hash__ = None

    def __init__(self, type: dtype) -> None:
        given = _checked(type, "iinfo", "type", 1)
        if given.category >= FLOATING:
            raise TypeError(f"engine.iinfo() requires an integer input type. Use engine.finfo to handle '{given!r}'")
        if given is bool_:
            raise TypeError("engine.bool is not supported by engine.iinfo")
        limits = np.iinfo(given.numpy)
        self.bits, self.max, self.min, self.dtype = int(limits.bits), int(limits.max), int(limits.min), given.name

    def __eq__(self, other: object) -> bool:
        return other.__class__ is iinfo and other.dtype == self.dtype

    def __repr__(self) -> str:
        return f"iinfo(min={self.min:g}, max={self.max:g}, dtype={self.dtype})"
