"""Dense kernels that NumPy's LAPACK does not offer: LU with pivots, triangular systems, the step at which Cholesky fails.

Small blocks run in our kernels; larger ones are split in halves, so that nearly all arithmetic is a matrix product
(recursive LU: S. Toledo, SIAM J. Matrix Anal. Appl. 18 (1997) 1065). Arrays are stacks of matrices (..., n, m). Called by the
records of `kernels.ops.linalg`, which know the derivatives; what NumPy offers (inverse, svd, ...) they call there.
"""
from __future__ import annotations

import functools

import numpy as np

from . import buffers, copies
from .maps import ITEMSIZE
from .native import Program, make_ufunc
from .products import product

BLOCK = 48          # columns of a panel, or unknowns of a triangular system, that one kernel call handles


# --- scalar pieces ----------------------------------------------------------------------------------------------------

def _quotient(x, y):
    return x / y


def _size(x):
    return abs(x)


def _complex_size(x):
    """|Re| + |Im|, by which LAPACK chooses complex pivots."""
    return abs(x.real) + abs(x.imag)


def _same(x):
    return x


def _conjugate(z):
    return complex(z.real, -z.imag)


def _pieces(dtype: str) -> dict:
    """What kernels of a dtype call: division, the size that pivots are compared by, the conjugate."""
    if dtype.startswith("complex"):
        from ..ops.arith import complex_quotient
        part = "float32" if dtype == "complex64" else "float64"
        return {"quotient": (complex_quotient, part), "size": (_complex_size, part), "conjugate": (_conjugate, part)}
    return {"quotient": (_quotient, dtype), "size": (_size, dtype), "conjugate": (_same, dtype)}


# --- programs ---------------------------------------------------------------------------------------------------------

def lu_program(dtype: str) -> Program:
    """(n,m)->(n,m),(k): row by row elimination with partial pivoting; pivots are counted from one, as LAPACK's.

    Rows of the result are contiguous. A zero pivot leaves its column as it is.
    """
    w = ITEMSIZE[dtype]
    source = f"""
def kernel(args, dimensions, steps, data):
    n, m, row = dimensions[1], dimensions[2], steps[5]
    for outer in range(dimensions[0]):
        a, f, p = outer * steps[0], outer * steps[1], outer * steps[2]
        for i in range(n):
            for j in range(m):
                store_{dtype}(args[1], f + i * row + j * {w}, load_{dtype}(args[0], a + i * steps[3] + j * steps[4]))
        for k in range(min(n, m)):
            best, at = size(peek_{dtype}(args[1], f + k * row + k * {w})), k
            for i in range(k + 1, n):
                candidate = size(peek_{dtype}(args[1], f + i * row + k * {w}))
                if candidate > best:
                    best, at = candidate, i
            store_int32(args[2], p + k * steps[7], as_int32(at + 1))
            if at != k:
                for j in range(m):
                    here = peek_{dtype}(args[1], f + k * row + j * {w})
                    store_{dtype}(args[1], f + k * row + j * {w}, peek_{dtype}(args[1], f + at * row + j * {w}))
                    store_{dtype}(args[1], f + at * row + j * {w}, here)
            if best != 0:
                pivot = peek_{dtype}(args[1], f + k * row + k * {w})
                for i in range(k + 1, n):
                    below = as_{dtype}(quotient(peek_{dtype}(args[1], f + i * row + k * {w}), pivot))
                    store_{dtype}(args[1], f + i * row + k * {w}, below)
                    for j in range(k + 1, m):
                        at_ij = f + i * row + j * {w}
                        update = below * peek_{dtype}(args[1], f + k * row + j * {w})
                        store_{dtype}(args[1], at_ij, as_{dtype}(peek_{dtype}(args[1], at_ij) - update))
    clear_status()
"""
    return Program(f"lu_{dtype}", source, functions=_pieces(dtype), inputs=(dtype,), outputs=(dtype, "int32"),
                   signature="(n,m)->(n,m),(k)")


def triangular_program(dtype: str) -> Program:
    """(n,n),(n,m),()->(n,m): forward substitution with a lower triangle, with ones on its diagonal if the number is not zero.

    Rows of the result are contiguous.
    """
    w = ITEMSIZE[dtype]
    source = f"""
def kernel(args, dimensions, steps, data):
    n, m, row = dimensions[1], dimensions[2], steps[8]
    for outer in range(dimensions[0]):
        a, b, x = outer * steps[0], outer * steps[1], outer * steps[3]
        unit = load_int64(args[2], outer * steps[2]) != 0
        for i in range(n):
            for j in range(m):
                store_{dtype}(args[3], x + i * row + j * {w}, load_{dtype}(args[1], b + i * steps[6] + j * steps[7]))
            for k in range(i):
                left = load_{dtype}(args[0], a + i * steps[4] + k * steps[5])
                for j in range(m):
                    at = x + i * row + j * {w}
                    update = left * peek_{dtype}(args[3], x + k * row + j * {w})
                    store_{dtype}(args[3], at, as_{dtype}(peek_{dtype}(args[3], at) - update))
            if not unit:
                diagonal = load_{dtype}(args[0], a + i * (steps[4] + steps[5]))
                for j in range(m):
                    at = x + i * row + j * {w}
                    store_{dtype}(args[3], at, as_{dtype}(quotient(peek_{dtype}(args[3], at), diagonal)))
    clear_status()
"""
    return Program(f"triangular_{dtype}", source, functions=_pieces(dtype), inputs=(dtype, dtype, "int64"), outputs=(dtype,),
                   signature="(n,n),(n,m),()->(n,m)")


def cholesky_program(dtype: str) -> Program:
    """(n,n)->(n,n),(): the Cholesky factor of a lower triangle up to the first pivot that is not positive.

    The second result is that pivot's number, from one, or 0 where there is none. Above the diagonal nothing is written.
    """
    w = ITEMSIZE[dtype]
    real = "total.real > 0 and total.real < inf" if dtype.startswith("complex") else "total > 0 and total < inf"
    root = f"as_{dtype}(total.real ** 0.5)" if dtype.startswith("complex") else f"as_{dtype}(total ** 0.5)"
    source = f"""
def kernel(args, dimensions, steps, data):
    n, row = dimensions[1], steps[5]
    for outer in range(dimensions[0]):
        a, f, info = outer * steps[0], outer * steps[1], 0
        for i in range(n):
            for j in range(i + 1):
                total = load_{dtype}(args[0], a + i * steps[3] + j * steps[4])
                for k in range(j):
                    left = peek_{dtype}(args[1], f + i * row + k * {w})
                    total = as_{dtype}(total - left * conjugate(peek_{dtype}(args[1], f + j * row + k * {w})))
                if i != j:
                    total = as_{dtype}(quotient(total, peek_{dtype}(args[1], f + j * row + j * {w})))
                elif {real}:
                    total = {root}
                elif info == 0:
                    info = i + 1
                store_{dtype}(args[1], f + i * row + j * {w}, total)
        store_int32(args[2], outer * steps[2], as_int32(info))
    clear_status()
"""
    return Program(f"cholesky_{dtype}", source, functions=_pieces(dtype), inputs=(dtype,), outputs=(dtype, "int32"),
                   signature="(n,n)->(n,n),()")


def swap_program(dtype: str) -> Program:
    """(n,m),(k),()->(n,m): rows exchanged with the rows that pivots name, from the first pivot on, or back from the last.

    Elements are copied as they are: one kernel serves all dtypes of a size.
    """
    source = f"""
def kernel(args, dimensions, steps, data):
    n, m, count = dimensions[1], dimensions[2], dimensions[3]
    for outer in range(dimensions[0]):
        a, p, x = outer * steps[0], outer * steps[1], outer * steps[3]
        for i in range(n):
            for j in range(m):
                store_{dtype}(args[3], x + i * steps[7] + j * steps[8], load_{dtype}(args[0], a + i * steps[4] + j * steps[5]))
        back = load_int64(args[2], outer * steps[2]) != 0
        for k in range(count):
            i = count - 1 - k if back else k
            at = load_int32(args[1], p + i * steps[6]) - 1
            if at != i:
                for j in range(m):
                    here = peek_{dtype}(args[3], x + i * steps[7] + j * steps[8])
                    store_{dtype}(args[3], x + i * steps[7] + j * steps[8],
                                  peek_{dtype}(args[3], x + at * steps[7] + j * steps[8]))
                    store_{dtype}(args[3], x + at * steps[7] + j * steps[8], here)
"""
    return Program(f"swap_rows_{dtype}", source, inputs=(dtype, "int32", "int64"), outputs=(dtype,),
                   signature="(n,m),(k),()->(n,m)")


def first_zero_program(dtype: str) -> Program:
    """(n)->(): the number, from one, of the first element that is zero, 0 where there is none."""
    source = f"""
def kernel(args, dimensions, steps, data):
    for outer in range(dimensions[0]):
        found = 0
        for i in range(dimensions[1]):
            if found == 0 and load_{dtype}(args[0], outer * steps[0] + i * steps[2]) == 0:
                found = i + 1
        store_int32(args[1], outer * steps[1], as_int32(found))
    clear_status()
"""
    return Program(f"first_zero_{dtype}", source, inputs=(dtype,), outputs=("int32",), signature="(n)->()")


_PROGRAMS = {"lu": lu_program, "triangular": triangular_program, "cholesky": cholesky_program, "swap": swap_program,
             "first_zero": first_zero_program}


@functools.cache
def _ufunc(name: str, dtype: str) -> np.ufunc:
    return make_ufunc(_PROGRAMS[name](dtype))


# --- on arrays --------------------------------------------------------------------------------------------------------

def _minus(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    from ..ops.matmul import compute
    return compute("sub", y, x, y)


def swap_rows(x: np.ndarray, pivots: np.ndarray, back: bool) -> np.ndarray:
    """Rows of (..., n, m) exchanged as int32 `pivots` (..., k) say, whose numbers from 1 to n the caller has checked."""
    shape = (*np.broadcast_shapes(x.shape[:-2], pivots.shape[:-1]), *x.shape[-2:])
    unsigned = {4: "uint32", 8: "uint64", 16: "complex128"}[x.itemsize]
    out = buffers.empty(shape, x.dtype)
    _ufunc("swap", unsigned)(x.view(unsigned), pivots, np.int64(back), out.view(unsigned))
    return out


def lu(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two triangles of x = P L U in one array (..., n, m), and the int32 pivots (..., min(n, m))."""
    n, m = x.shape[-2:]
    k = min(n, m)
    out, pivots = buffers.empty(x.shape, x.dtype), np.empty((*x.shape[:-2], k), np.int32)
    if not out.size:
        return out, pivots
    if k <= BLOCK:
        _ufunc("lu", x.dtype.name)(x, out, pivots)
        return out, pivots
    h = k // 2
    left, first = lu(x[..., :h])
    right = swap_rows(np.ascontiguousarray(x[..., h:]), first, False)
    top = triangular(left[..., :h, :], right[..., :h, :], False, True)
    rest, second = lu(_minus(right[..., h:, :], product(left[..., h:, :], top)))
    copies.into(out[..., :h, :h], left[..., :h, :])
    copies.into(out[..., :h, h:], top)
    copies.into(out[..., h:, :h], swap_rows(np.ascontiguousarray(left[..., h:, :]), second, False))
    copies.into(out[..., h:, h:], rest)
    pivots[..., :h] = first
    np.add(second, h, out=pivots[..., h:], dtype=np.int32)      # positions, not data
    return out, pivots


def triangular(a: np.ndarray, b: np.ndarray, upper: bool, unit: bool) -> np.ndarray:
    """The solution (..., n, m) of a x = b for a triangle of a (..., n, n); stacks broadcast. Zeros on the diagonal divide."""
    shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), *b.shape[-2:])
    out = buffers.empty(shape, b.dtype)
    if out.size:
        if upper:           # turned around an upper triangle is a lower one
            _lower(a[..., ::-1, ::-1], b[..., ::-1, :], unit, out[..., ::-1, :])
        else:
            _lower(a, b, unit, out)
    return out


def _lower(a: np.ndarray, b: np.ndarray, unit: bool, out: np.ndarray) -> None:
    n = a.shape[-1]
    if n <= BLOCK:
        _ufunc("triangular", b.dtype.name)(a, b, np.int64(unit), out)
        return
    h = n // 2
    _lower(a[..., :h, :h], b[..., :h, :], unit, out[..., :h, :])
    _lower(a[..., h:, h:], _minus(b[..., h:, :], product(a[..., h:, :h], out[..., :h, :])), unit, out[..., h:, :])


def cholesky_info(x: np.ndarray) -> np.ndarray:
    """For each matrix the number, from one, of the leading minor that is not positive, or 0; int32."""
    info = np.empty(x.shape[:-2], np.int32)
    _ufunc("cholesky", x.dtype.name)(x, np.empty(x.shape, x.dtype), info)
    return info


def first_zero(x: np.ndarray) -> np.ndarray:
    """For each row (..., n) the number, from one, of its first zero, or 0; int32."""
    info = np.empty(x.shape[:-1], np.int32)
    _ufunc("first_zero", x.dtype.name)(x, info)
    return info
