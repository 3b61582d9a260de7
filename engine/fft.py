"""Fourier transforms with PyTorch's names: `engine.fft.fft(x)` and its kin, the shifts and the frequencies.

Here sizes, dimensions, norms and dtypes are settled; the three transforms are records in `kernels.ops.fft`.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kernels.book import BOOK
from kernels.ops.fft import OPPOSITE

from . import dtypes
from .dispatch import cast, into
from .functions.operands import need_tensor
from .tensor import KIND, Tensor, wrap_dim

__all__ = ["fft", "fft2", "fftfreq", "fftn", "fftshift", "hfft", "hfft2", "hfftn", "ifft", "ifft2", "ifftn", "ifftshift",
           "ihfft", "ihfft2", "ihfftn", "irfft", "irfft2", "irfftn", "rfft", "rfft2", "rfftfreq", "rfftn"]

Sizes = Sequence[int] | int | None
_REAL = "{} expects a real input tensor, but got {}"


# --- arguments --------------------------------------------------------------------------------------------------------

def _operand(name: str, input: Tensor, is_complex: bool = False, must_be_real: str = "") -> Tensor:
    """The input in a dtype that is transformed: floating or, if asked for, complex; `must_be_real` are words of refusal."""
    need_tensor(f"fft_{name}", "input", 1, input)
    dtype = input._kind.dtype
    if must_be_real and dtype.is_complex:
        raise RuntimeError(must_be_real.format(name, dtype.scalar))
    if dtype.name == "float16":
        raise RuntimeError("Unsupported dtype Half")
    if dtype.category < 2:
        input = cast(input, KIND[dtypes.get_default_dtype()])
    if is_complex and not input._kind.dtype.is_complex:
        input = cast(input, KIND[dtypes.promote_types(input.dtype, dtypes.complex64)])
    return input


def _norm(norm: str | None) -> str:
    if norm is None:
        return "backward"
    if norm not in OPPOSITE:
        raise RuntimeError(f'Invalid normalization mode: "{norm}"')
    return norm


def _one(name: str, input: Tensor, n: int | None, dim: int) -> tuple[int, int]:
    """The dimension, counted from the front, and how many points; the input's own where `n` is None."""
    if n is not None and not hasattr(n, "__index__"):
        raise TypeError(f"fft_{name}(): argument 'n' must be int, not {type(n).__name__}")
    if not input.ndim:
        raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
    d = wrap_dim(dim, input.ndim)
    return d, input._array.shape[d] if n is None else n.__index__()


def _several(name: str, input: Tensor, s: Sizes, dim: Sizes) -> tuple[tuple[int, ...], list[int]]:
    """The dimensions and how many points of each; -1 among `s` stands for the input's own."""
    s = (s,) if hasattr(s, "__index__") else s
    dim = (dim,) if hasattr(dim, "__index__") else dim
    ndim, shape = input.ndim, input._array.shape
    if dim is not None:
        dims = tuple(wrap_dim(d, ndim) for d in dim)
        if len(set(dims)) != len(dims):
            raise RuntimeError("FFT dims must be unique")
        if s is not None and len(s) != len(dims):
            raise RuntimeError("When given, dim and shape arguments must have the same length")
    elif s is not None:
        if len(s) > ndim:
            raise RuntimeError(f"Got shape with {len(s)} values but input tensor only has {ndim} dimensions.")
        dims = tuple(range(ndim - len(s), ndim))
    else:
        dims = tuple(range(ndim))
    if s is None:
        return dims, [shape[d] for d in dims]
    return dims, [shape[d] if n == -1 else n.__index__() for n, d in zip(s, dims, strict=True)]


def _resized(x: Tensor, dims: tuple[int, ...], sizes: Sequence[int]) -> Tensor:
    """Each dimension cut, or filled up with zeros at its end, to a size of at least one."""
    for n in sizes:
        if n < 1:
            raise RuntimeError(f"Invalid number of data points ({n}) specified")
    for d, n in zip(dims, sizes, strict=True):
        have = x._array.shape[d]
        if n < have:
            x = BOOK["slice"](x, dim=d, start=0, stop=n, step=1)
        elif n > have:
            shape = (*x._array.shape[:d], n, *x._array.shape[d + 1:])
            x = BOOK["slice_backward"](x, shape=shape, dim=d, start=0, stop=have, step=1)
    return x


def _finish(name: str, result: Tensor, out: Tensor | None) -> Tensor:
    if out is None:
        return result
    if isinstance(out, Tensor) and result._kind.dtype.is_complex and not out._kind.dtype.is_complex:
        raise RuntimeError(f"{name} expects a complex output tensor, but got {out.dtype.scalar}")
    if isinstance(out, Tensor) and not result._kind.dtype.is_complex and not out._kind.dtype.is_floating_point:
        raise RuntimeError(f"{name} expects a floating point output tensor, but got {out.dtype.scalar}")
    return into(out, result)


# --- the transforms over given dimensions -----------------------------------------------------------------------------

def _full(x: Tensor, dims: tuple[int, ...], sizes: Sequence[int], norm: str | None, forward: bool) -> Tensor:
    norm = _norm(norm)
    x = _resized(x, dims, sizes)
    return BOOK["fft_c2c"](x, dims=dims, norm=norm, forward=forward)


def _full_of_one(name: str, input: Tensor, n, dim: int, norm, forward: bool, out) -> Tensor:
    x = _operand(name, input)
    d, size = _one(name, x, n, dim)
    if x._kind.dtype.is_complex:
        return _finish(name, _full(x, (d,), (size,), norm, forward), out)
    norm = _norm(norm)
    x = _resized(x, (d,), (size,))
    if forward:
        result = BOOK["fft_r2c"](x, dims=(d,), norm=norm, half=False)
    else:       # the inverse transform of real numbers is the conjugate of the transform
        result = BOOK["conj"](BOOK["fft_r2c"](x, dims=(d,), norm=OPPOSITE[norm], half=False))
    return _finish(name, result, out)


def _half(x: Tensor, dims: tuple[int, ...], sizes: Sequence[int], norm: str) -> Tensor:
    """Real to half a spectrum."""
    return BOOK["fft_r2c"](_resized(x, dims, sizes), dims=dims, norm=norm, half=True)


def _from_half(x: Tensor, dims: tuple[int, ...], sizes: Sequence[int], norm: str) -> Tensor:
    """Half a spectrum to real; the last size is that of the result."""
    if sizes[-1] < 1:
        raise RuntimeError(f"Invalid number of data points ({sizes[-1]}) specified")
    x = _resized(x, dims, [*sizes[:-1], sizes[-1] // 2 + 1])
    return BOOK["fft_c2r"](x, dims=dims, norm=norm, size=sizes[-1])


def _given(n: int | None, size: int) -> int:
    """How many points come of half a spectrum of `size` terms, unless `n` says."""
    return 2 * (size - 1) if n is None else n


def _several_from_half(name: str, x: Tensor, s: Sizes, dim: Sizes) -> tuple[tuple[int, ...], list[int]]:
    dims, sizes = _several(name, x, s, dim)
    if not dims:
        raise RuntimeError(f"{name} must transform at least one axis")
    last = None if s is None else (s if hasattr(s, "__index__") else s[-1])
    if last is None or last == -1:
        sizes[-1] = 2 * (sizes[-1] - 1)
    return dims, sizes


# --- one dimension ----------------------------------------------------------------------------------------------------

def fft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *, out: Tensor | None = None) -> Tensor:
    """The transform along a dimension, cut or filled up to `n` points; complex. Integers count as the default dtype.

    `norm`: "backward" (None; no factor), "ortho" (1 / sqrt n) or "forward" (1 / n). RuntimeError for float16 and n < 1.
    """
    return _full_of_one("fft", input, n, dim, norm, True, out)


def ifft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *, out: Tensor | None = None) -> Tensor:
    """The inverse of `fft`; the factor of "backward" is 1 / n, of "forward" one."""
    return _full_of_one("ifft", input, n, dim, norm, False, out)


def rfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *, out: Tensor | None = None) -> Tensor:
    """The first n // 2 + 1 terms of the transform of real numbers, which determine the others."""
    x = _operand("rfft", input, must_be_real=_REAL)
    d, size = _one("rfft", x, n, dim)
    return _finish("rfft", _half(x, (d,), (size,), _norm(norm)), out)


def irfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *, out: Tensor | None = None) -> Tensor:
    """The inverse of `rfft`: n real numbers (2 (size - 1) unless given)."""
    x = _operand("irfft", input, is_complex=True)
    d, size = _one("irfft", x, None, dim)
    return _finish("irfft", _from_half(x, (d,), (_given(_one("irfft", x, n, dim)[1] if n is not None else None, size),),
                                       _norm(norm)), out)


def hfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *, out: Tensor | None = None) -> Tensor:
    """The real transform of a Hermitian signal of which half is given."""
    x = _operand("hfft", input, is_complex=True)
    d, size = _one("hfft", x, None, dim)
    size = _given(_one("hfft", x, n, dim)[1] if n is not None else None, size)
    return _finish("hfft", _from_half(BOOK["conj"](x), (d,), (size,), OPPOSITE[_norm(norm)]), out)


def ihfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *, out: Tensor | None = None) -> Tensor:
    """The inverse of `hfft`: half of a Hermitian signal."""
    x = _operand("ihfft", input, must_be_real=_REAL)
    d, size = _one("ihfft", x, n, dim)
    return _finish("ihfft", BOOK["conj"](_half(x, (d,), (size,), OPPOSITE[_norm(norm)])), out)


# --- several dimensions -----------------------------------------------------------------------------------------------

def fftn(input: Tensor, s: Sizes = None, dim: Sizes = None, norm: str | None = None, *, out: Tensor | None = None) -> Tensor:
    """The transform over several dimensions (all, or the last ones where only sizes `s` are given)."""
    x = _operand("fftn", input, is_complex=True)
    return _finish("fftn", _full(x, *_several("fftn", x, s, dim), norm, True), out)


def ifftn(input: Tensor, s: Sizes = None, dim: Sizes = None, norm: str | None = None, *, out: Tensor | None = None) -> Tensor:
    """The inverse of `fftn`."""
    x = _operand("ifftn", input, is_complex=True)
    return _finish("ifftn", _full(x, *_several("ifftn", x, s, dim), norm, False), out)


def rfftn(input: Tensor, s: Sizes = None, dim: Sizes = None, norm: str | None = None, *, out: Tensor | None = None) -> Tensor:
    """The transform of real numbers over several dimensions, half of it along the last."""
    x = _operand("rfftn", input, must_be_real=_REAL.replace("real", "real-valued"))
    dims, sizes = _several("rfftn", x, s, dim)
    if not dims:
        raise RuntimeError("rfftn must transform at least one axis")
    return _finish("rfftn", _half(x, dims, sizes, _norm(norm)), out)


def irfftn(input: Tensor, s: Sizes = None, dim: Sizes = None, norm: str | None = None, *, out: Tensor | None = None) -> Tensor:
    """The inverse of `rfftn`."""
    x = _operand("irfftn", input, is_complex=True)
    return _finish("irfftn", _from_half(x, *_several_from_half("irfftn", x, s, dim), _norm(norm)), out)


def hfftn(input: Tensor, s: Sizes = None, dim: Sizes = None, norm: str | None = None, *, out: Tensor | None = None) -> Tensor:
    """The real transform of a signal that is Hermitian over several dimensions, half of it given along the last."""
    x = _operand("hfftn", input, is_complex=True)
    return _finish("hfftn", _from_half(BOOK["conj"](x), *_several_from_half("hfftn", x, s, dim), OPPOSITE[_norm(norm)]), out)


def ihfftn(input: Tensor, s: Sizes = None, dim: Sizes = None, norm: str | None = None, *, out: Tensor | None = None) -> Tensor:
    """The inverse of `hfftn`."""
    x = _operand("ihfftn", input, must_be_real="{0}: Only supports floating-point dtypes, but found: {1}")
    dims, sizes = _several("ihfftn", x, s, dim)
    if not dims:
        raise RuntimeError("ihfftn must transform at least one axis")
    return _finish("ihfftn", BOOK["conj"](_half(x, dims, sizes, OPPOSITE[_norm(norm)])), out)


def fft2(input: Tensor, s: Sizes = None, dim: Sizes = (-2, -1), norm: str | None = None, *, out: Tensor | None = None) -> Tensor:
    """`fftn` over two dimensions."""
    return fftn(input, s, dim, norm, out=out)


def ifft2(input: Tensor, s: Sizes = None, dim: Sizes = (-2, -1), norm: str | None = None, *, out: Tensor | None = None) -> Tensor:
    """`ifftn` over two dimensions."""
    return ifftn(input, s, dim, norm, out=out)


def rfft2(input: Tensor, s: Sizes = None, dim: Sizes = (-2, -1), norm: str | None = None, *, out: Tensor | None = None) -> Tensor:
    """`rfftn` over two dimensions."""
    return rfftn(input, s, dim, norm, out=out)


def irfft2(input: Tensor, s: Sizes = None, dim: Sizes = (-2, -1), norm: str | None = None, *,
           out: Tensor | None = None) -> Tensor:
    """`irfftn` over two dimensions."""
    return irfftn(input, s, dim, norm, out=out)


def hfft2(input: Tensor, s: Sizes = None, dim: Sizes = (-2, -1), norm: str | None = None, *, out: Tensor | None = None) -> Tensor:
    """`hfftn` over two dimensions."""
    return hfftn(input, s, dim, norm, out=out)


def ihfft2(input: Tensor, s: Sizes = None, dim: Sizes = (-2, -1), norm: str | None = None, *,
           out: Tensor | None = None) -> Tensor:
    """`ihfftn` over two dimensions."""
    return ihfftn(input, s, dim, norm, out=out)


# --- shifts and frequencies -------------------------------------------------------------------------------------------

def _shift(name: str, input: Tensor, dim: Sizes, back: bool) -> Tensor:
    need_tensor(f"fft_{name}", "input", 1, input)
    dims = range(input.ndim) if dim is None else (dim,) if hasattr(dim, "__index__") else dim
    dims = tuple(wrap_dim(d, input.ndim) for d in dims)
    sizes = [input._array.shape[d] for d in dims]
    return input.roll(tuple((n + 1) // 2 if back else n // 2 for n in sizes), dims)


def fftshift(input: Tensor, dim: Sizes = None) -> Tensor:
    """The zero frequency moved to the middle of each dimension."""
    return _shift("fftshift", input, dim, False)


def ifftshift(input: Tensor, dim: Sizes = None) -> Tensor:
    """The inverse of `fftshift`."""
    return _shift("ifftshift", input, dim, True)


def _frequencies(name: str, n: int, d: float, count: int, negative: int, options: dict, out: Tensor | None) -> Tensor:
    """k / (n d) for k = 0, 1, ..., with k - n for the last `negative` ones."""
    from .functions.join import cat
    from .functions.sequences import arange
    dtype = options["dtype"]
    if dtype is not None and dtypes.as_dtype(dtype).category < 2:
        raise RuntimeError(f"{name} requires a floating point or complex dtype")
    needs = options.pop("requires_grad")
    options["dtype"] = dtypes.get_default_dtype() if dtype is None else dtype
    result = arange(0, count - negative, **options)
    if negative:
        result = cat([result, arange(-negative, 0, **options)])
    result = result * (1.0 / (n * d) if n else 1.0)
    if out is not None:
        return into(out, result)
    return result.requires_grad_() if needs else result


def fftfreq(n: int, d: float = 1.0, *, out: Tensor | None = None, dtype: dtypes.dtype | None = None, layout: Any = None,
            device: Any = None, requires_grad: bool = False) -> Tensor:
    """The frequencies of the terms of `fft` for n samples `d` apart: 0, 1, ..., -2, -1 over n d."""
    return _frequencies("fftfreq", _count("fftfreq", n), d, n, n // 2,
                        {"dtype": dtype, "device": device, "requires_grad": requires_grad}, out)


def rfftfreq(n: int, d: float = 1.0, *, out: Tensor | None = None, dtype: dtypes.dtype | None = None, layout: Any = None,
             device: Any = None, requires_grad: bool = False) -> Tensor:
    """The frequencies of the terms of `rfft`: 0, 1, ..., n // 2 over n d."""
    return _frequencies("rfftfreq", _count("rfftfreq", n), d, n // 2 + 1, 0,
                        {"dtype": dtype, "device": device, "requires_grad": requires_grad}, out)


def _count(name: str, n: int) -> int:
    if not hasattr(n, "__index__"):
        raise TypeError(f"fft_{name}(): argument 'n' (position 1) must be int, not {type(n).__name__}")
    return n.__index__()
