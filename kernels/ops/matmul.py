"""Matrix products and what is made of them: mm, bmm, mv, dot, their "add" forms, trace, cross products, distances.

Operands have fitting sizes and one dtype here; what users may write (broadcasting batches, vectors, out=, error texts) is
settled in `engine.functions.matmul`. Numbers come from `kernels.cpu.products`: BLAS through NumPy, or our own kernel.
Adjoints follow PyTorch's convention: the gradient of a complex product is the product with the conjugate.
"""
from __future__ import annotations

import functools

import numpy as np

from ..book import BOOK, FLOATS, NUMBERS, structural
from ..cpu import buffers, copies, pool, products, sheets
from ..table import forward_ufunc
from .windows import zeros

# --- pieces of the records --------------------------------------------------------------------------------------------


def _conj(x):
    return BOOK["conj"](x) if x.is_complex() else x


def _turned(x):
    """The conjugate transpose of the last two dimensions."""
    return _conj(BOOK["transpose"](x, dim0=x.ndim - 2, dim1=x.ndim - 1))


def _column(x):
    return BOOK["unsqueeze"](x, dim=x.ndim)


def _row(x):
    return BOOK["unsqueeze"](x, dim=0)


def _scaled(x, number):
    return x if number == 1 else BOOK["mul"](x, number)


def _fitted(g, shape):
    return g if tuple(g.shape) == tuple(shape) else BOOK["sum_to"](g, shape=shape)


@functools.cache
def _ufunc(name: str, dtype: np.dtype) -> np.ufunc:
    return forward_ufunc(BOOK[name], dtype.name)


def compute(name: str, out: np.ndarray, *operands) -> np.ndarray:
    """A pointwise operator of the book on arrays or numbers of one dtype, broadcast into an array."""
    if out.__class__ is not np.ndarray:
        numbers = out.dtype.numpy
        return BOOK[name].on_arrays(*(o if hasattr(o, "compute") else np.asarray(o, numbers) for o in operands), out=out)
    ufunc = _ufunc(name, out.dtype)
    operands = [np.asarray(o, out.dtype) for o in operands]
    return ufunc(*operands, out) if out.size < pool.GRAIN else sheets.into(ufunc, operands, out)


# --- products ---------------------------------------------------------------------------------------------------------

def _matrices(dtype: str, rng, *shapes) -> list[np.ndarray]:
    """Sample operands; integers are small, so that products stay exact."""
    made = [rng.normal(size=s) if np.dtype(dtype).kind == "f" else rng.integers(-9, 10, s) for s in shapes]
    return [m.astype(dtype) for m in made]


def _mm_samples(rng, dtype):
    yield _matrices(dtype, rng, (3, 4), (4, 5)), {}
    x, y = _matrices(dtype, rng, (4, 3), (5, 4))
    yield [x.T, y.T], {}
    yield _matrices(dtype, rng, (3, 0), (0, 2)), {}


def _mm_adjoint(g, x, y, needs):
    return (BOOK["matmul"](g, _turned(y)) if needs[0] else None, BOOK["matmul"](_turned(x), g) if needs[1] else None)


def _mm_quick(g, x, y, needs):
    """As `_mm_adjoint`, on arrays; a second operand that lies by columns (a layer's weight) gets a gradient that does, too."""
    if g.__class__ is not np.ndarray or g.dtype.kind != "f":
        return None
    g_x = products.product(g, y.T) if needs[0] else None
    if not needs[1]:
        return g_x, None
    by_columns = y.flags.f_contiguous and not y.flags.c_contiguous
    return g_x, products.product(g.T, x).T if by_columns else products.product(x.T, g)


@structural(["x", "y"], adjoint=_mm_adjoint, dtypes=NUMBERS, like=np.matmul, samples=_mm_samples, function=False,
            node="MmBackward0", quick=_mm_quick)
def matmul(x, y):
    """Product of two matrices, (n, k) and (k, m)."""
    return products.product(x, y)


def _bmm_adjoint(g, x, y, needs):
    return (BOOK["bmm"](g, _turned(y)) if needs[0] else None, BOOK["bmm"](_turned(x), g) if needs[1] else None)


def _bmm_samples(rng, dtype):
    yield _matrices(dtype, rng, (2, 3, 4), (2, 4, 2)), {}
    x, y = _matrices(dtype, rng, (2, 4, 3), (5, 4, 2))
    yield [x.swapaxes(1, 2), np.broadcast_to(y[0], (2, 4, 2))], {}


@structural(["x", "y"], adjoint=_bmm_adjoint, dtypes=NUMBERS, like=np.matmul, samples=_bmm_samples, function=False)
def bmm(x, y):
    """Product of stacks of matrices, (..., n, k) and (..., k, m), with the same leading dimensions."""
    return products.product(x, y)


def _mv_adjoint(g, x, y, needs):
    return (BOOK["mul"](_column(g), _conj(y)) if needs[0] else None, BOOK["mv"](_turned(x), g) if needs[1] else None)


@structural(["x", "y"], adjoint=_mv_adjoint, dtypes=NUMBERS, like=np.matmul, function=False,
            samples=lambda rng, dtype: iter([(_matrices(dtype, rng, (3, 4), (4,)), {})]))
def mv(x, y):
    """Product of a matrix (n, k) and a vector (k)."""
    return products.product(x, y)


def _dot_adjoint(g, x, y, needs):
    return (BOOK["mul"](g, _conj(y)) if needs[0] else None, BOOK["mul"](g, _conj(x)) if needs[1] else None)


@structural(["x", "y"], adjoint=_dot_adjoint, dtypes=NUMBERS, like=np.dot, function=False,
            samples=lambda rng, dtype: iter([(_matrices(dtype, rng, (4,), (4,)), {})]))
def dot(x, y):
    """Inner product of two vectors, without conjugation."""
    return products.product(x, y)


def _vdot_adjoint(g, x, y, needs):
    return (BOOK["mul"](_conj(g), y) if needs[0] else None, BOOK["mul"](g, x) if needs[1] else None)


@structural(["x", "y"], anywhere=True, adjoint=_vdot_adjoint, dtypes=NUMBERS, like=np.vdot, function=False,
            samples=lambda rng, dtype: iter([(_matrices(dtype, rng, (4,), (4,)), {})]))
def vdot(x, y):
    """Inner product of two vectors, the first one conjugated."""
    if x.dtype.kind == "c":
        x = compute("conj", buffers.empty(x.shape, x.dtype), x)
    return BOOK["dot"].on_arrays(x, y)


# --- beta * input + alpha * product -----------------------------------------------------------------------------------

def _blend(product, input, beta, alpha):
    """The sum, in the product's memory. beta = 0 and alpha = 0 leave out NaN and infinities of their operand, as in BLAS."""
    if alpha != 1:
        product = compute("mul", product, product, alpha) if alpha else np.zeros_like(product)
    if beta == 0:
        return product
    if beta != 1:
        input = compute("mul", np.empty(input.shape, input.dtype), input, beta)
    return compute("add", product, product, input)


def _addmm_quick(g, x, y, input_shape, beta, alpha, needs):
    """As the adjoint, on arrays, for what layers ask for: no factors, and a bias for each column."""
    if beta != 1 or alpha != 1 or tuple(input_shape) != g.shape[1:]:
        return None
    parts = _mm_quick(g, x, y, needs[1:])
    return None if parts is None else (BOOK["sum"].on_arrays(g, (0,)) if needs[0] else None, *parts)


def _affine(name, multiply, adjoint, doc, shapes, quick=None):
    """The record of `beta * input + alpha * multiply(x, y)`; `adjoint(g, x, y, needs)` is that of the product.

    `shapes` of a sample: input, x, y; `quick`: see the book.
    """
    def forward(input, x, y, beta, alpha):
        return _blend(multiply(x, y), input, beta, alpha)

    def backward(g, x, y, input_shape, beta, alpha, needs):
        parts = adjoint(_scaled(g, np.conj(alpha).item()), x, y, needs[1:])
        return (_fitted(_scaled(g, np.conj(beta).item()), input_shape) if needs[0] else None, *parts)

    def like(input, x, y, beta, alpha):
        return beta * input + alpha * multiply(x.astype("f8"), y.astype("f8"))

    def samples(rng, dtype):
        yield _matrices(dtype, rng, *shapes), {"beta": 1, "alpha": 1}
        yield _matrices(dtype, rng, *shapes), {"beta": 3, "alpha": -2}

    structural(["input", "x", "y"], name=name, doc=doc, adjoint=backward, dtypes=NUMBERS, function=False, like=like,
               samples=samples, quick=quick)(forward)


def _outer(x, y):
    return compute("mul", buffers.empty((x.size, y.size), x.dtype), x[:, None], y)


def _outer_adjoint(g, x, y, needs):
    return (BOOK["mv"](g, _conj(y)) if needs[0] else None,
            BOOK["mv"](BOOK["transpose"](g, dim0=0, dim1=1), _conj(x)) if needs[1] else None)


def _sum_of_products(x, y):
    b, n, k = x.shape
    return products.product(x.transpose(1, 0, 2).reshape(n, b * k), y.reshape(b * k, y.shape[2]))


def _sum_of_products_adjoint(g, x, y, needs):
    return _bmm_adjoint(BOOK["expand"](_row(g), shape=(x.shape[0], *g.shape)), x, y, needs)


_affine("addmm", products.product, _mm_adjoint, "beta * input + alpha * (x @ y) for matrices.", [(5,), (3, 4), (4, 5)],
        _addmm_quick)
_affine("addmv", products.product, _mv_adjoint, "beta * input + alpha * (x @ y) for a matrix and a vector.",
        [(3,), (3, 4), (4,)])
_affine("addr", _outer, _outer_adjoint, "beta * input + alpha * (outer product of x and y).", [(3, 1), (3,), (4,)])
_affine("baddbmm", products.product, _bmm_adjoint, "beta * input + alpha * (x @ y) for stacks of matrices.",
        [(3, 2), (2, 3, 4), (2, 4, 2)])
_affine("addbmm", _sum_of_products, _sum_of_products_adjoint, "beta * input + alpha * (sum over a stack of products).",
        [(3, 2), (2, 3, 4), (2, 4, 2)])


# --- others -----------------------------------------------------------------------------------------------------------

@structural(["x"], anywhere=True, linear=True, function=False, method=False, node="UnsafeViewBackward0", like=np.reshape,
            adjoint=lambda g, x_shape: BOOK["reshape"](g, shape=x_shape),
            samples=lambda rng, dtype: iter([(_matrices(dtype, rng, (2, 6)), {"shape": (3, 4)})]))
def unsafe_view(x, shape):
    """A fresh product's memory in its final shape; no view to the tape, because nobody else sees the product."""
    return x.reshape(shape)


@structural(["x"], anywhere=True, linear=True, function=False, dtypes=NUMBERS, like=np.trace,
            adjoint=lambda g, x_shape, x_kind: BOOK["trace_backward"](g, shape=x_shape),
            samples=lambda rng, dtype: iter([(_matrices(dtype, rng, s), {}) for s in ((3, 3), (2, 4), (3, 1))]))
def trace(x):
    """Sum of a matrix's diagonal."""
    return BOOK["sum"].on_arrays(x.diagonal())


@structural(["x"], anywhere=True, linear=True, function=False, method=False, adjoint=lambda g: BOOK["trace"](g),
            samples=lambda rng, dtype: iter([(_matrices(dtype, rng, ()), {"shape": (3, 2)})]),
            like=lambda x, shape: x * np.eye(*shape))
def trace_backward(x, shape):
    """Zeros with one number along the diagonal: the adjoint of trace."""
    out = zeros(shape, x.dtype)
    diagonal = out.reshape(-1)[:min(shape) * shape[1]:shape[1] + 1]
    if diagonal.size:
        copies.into(diagonal, np.broadcast_to(x, diagonal.shape))
    return out


def _cross_adjoint(g, x, y, dim, needs):
    return (BOOK["cross"](_conj(y), g, dim=dim) if needs[0] else None,
            BOOK["cross"](g, _conj(x), dim=dim) if needs[1] else None)


@structural(["x", "y"], anywhere=True, adjoint=_cross_adjoint, dtypes=NUMBERS, function=False, node="LinalgCrossBackward0",
            like=lambda x, y, dim: np.cross(x, y, axis=dim),
            samples=lambda rng, dtype: iter([(_matrices(dtype, rng, (2, 3), (2, 3)), {"dim": 1}),
                                             (_matrices(dtype, rng, (3, 4), (3, 4)), {"dim": 0})]))
def cross(x, y, dim):
    """Cross products of vectors of three numbers along `dim`; operands have equal shapes."""
    out = buffers.empty(x.shape, x.dtype)
    a, b, c = (np.moveaxis(t, dim, 0) for t in (x, y, out))
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        compute("mul", c[i, ...], a[j, ...], b[k, ...])
        other = compute("mul", buffers.empty(c[i, ...].shape, x.dtype), a[k, ...], b[j, ...])
        compute("sub", c[i, ...], c[i, ...], other)
    return out


def _cdist_adjoint(g, x, y, out, p, needs):
    """d |x_i - y_j|_p: sign(d) |d|^(p-1) / out^(p-1) for each component d; nothing at distance 0, as in PyTorch."""
    if p == 0:
        return BOOK["mul"](x, 0), BOOK["mul"](y, 0)
    far = BOOK["ne"](out, 0)
    if p == 2:          # sums over the other rows are matrix products: no array of all differences
        safe = BOOK["where"](far, out, 1)
        r = BOOK["where"](far, BOOK["div"](g, safe), 0)
        turned = BOOK["transpose"](r, dim0=r.ndim - 2, dim1=r.ndim - 1)
        return tuple(BOOK["sub"](BOOK["mul"](u, BOOK["sum"](w, dims=(w.ndim - 1,), keepdim=True)), BOOK["bmm"](w, v))
                     for u, v, w in ((x, y, r), (y, x, turned)))
    n = x.ndim
    d = BOOK["sub"](BOOK["unsqueeze"](x, dim=n - 1), BOOK["unsqueeze"](y, dim=n - 2))
    size, of = BOOK["abs"](d), _column(out)
    part = BOOK["sign"](d)
    if p == float("inf"):
        part = BOOK["where"](BOOK["eq"](size, of), part, 0)
    elif p != 1:
        some = BOOK["ne"](size, 0)
        ratio = BOOK["where"](some, BOOK["div"](size, BOOK["where"](_column(far), of, 1)), 1)
        part = BOOK["where"](some, BOOK["mul"](part, BOOK["pow"](ratio, p - 1)), 0)
    part = BOOK["mul"](part, _column(g))
    return (BOOK["sum"](part, dims=(n - 1,), keepdim=False),
            BOOK["neg"](BOOK["sum"](part, dims=(n - 2,), keepdim=False)))


def _cdist_like(x, y, p):
    d = np.abs(x[..., :, None, :] - y[..., None, :, :])
    return (d != 0).sum(-1) if p == 0 else d.max(-1) if p == np.inf else (d ** p).sum(-1) ** (1 / p)


def _cdist_samples(rng, dtype):
    if dtype == "float64":
        for p in (0.0, 1.0, 2.0, 3.0, np.inf):
            yield _matrices(dtype, rng, (3, 2), (4, 2)), {"p": p}
        yield _matrices(dtype, rng, (2, 3, 2), (2, 5, 2)), {"p": 2.0}


@structural(["x", "y"], adjoint=_cdist_adjoint, dtypes=FLOATS[1:], function=False, method=False, like=_cdist_like,
            samples=_cdist_samples)
def cdist(x, y, p):
    """p-norm distances between the rows of (..., n, k) and (..., m, k), which have the same leading dimensions."""
    return products.distances(x, y, p)
