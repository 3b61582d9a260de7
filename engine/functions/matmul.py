"""Products of matrices and vectors as users write them: matmul and `@`, mm, bmm, mv, dot, the "add" forms, powers, chains.

Here sizes and dtypes are checked, in PyTorch's words, and broadcasting batches are brought to what the records of
`kernels.ops.matmul` take. Products that are sums over chosen dimensions (tensordot, einsum, kron, ...) are in `contract`.
"""
from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from kernels.book import BOOK

from ..dispatch import cast, common_device, into, item_of
from ..dtypes import bool_, promote_types, result_type_of
from ..dtypes import dtype as Dtype
from ..errors import DTypeError, ShapeError
from ..tensor import KIND, Tensor, wrap
from .registry import public

# How PyTorch's C++ names dtypes in the messages of its matrix products.
_C_NAMES = {"bool": "bool", "uint8": "unsigned char", "int8": "signed char", "int16": "short int", "int32": "int",
            "int64": "long int", "float16": "c10::Half", "float32": "float", "float64": "double",
            "complex64": "c10::complex<float>", "complex128": "c10::complex<double>"}


# --- checks -----------------------------------------------------------------------------------------------------------

def check_tensors(name: str, **arguments) -> None:
    """TypeError, in PyTorch's words, for the first argument that is no tensor; DeviceError for two devices."""
    for position, (argument, value) in enumerate(arguments.items(), 1):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}(): argument '{argument}' (position {position}) must be Tensor, not {type(value).__name__}")
    common_device(name, arguments.values())


def c_name(dtype: Dtype) -> str:
    """The dtype as PyTorch's C++ prints it."""
    return _C_NAMES.get(dtype.name, dtype.name)


def _same_dtype(a: Tensor, b: Tensor, text: str = "expected m1 and m2 to have the same dtype, but got: {} != {}",
                scalar: bool = False) -> None:
    if a._kind is not b._kind:
        names = [t.dtype.scalar if scalar else c_name(t.dtype) for t in (a, b)]
        raise DTypeError(text.format(*names) + f"; convert with .to({promote_types(a.dtype, b.dtype)})")


def _three_dtypes(input: Tensor, mat: Tensor, vec: Tensor) -> DTypeError:
    return DTypeError("addmv input tensors must have the same dtype, but got "
                      f"{input.dtype.scalar}, {mat.dtype.scalar}, and {vec.dtype.scalar}")


def _no_bool(kernel: str, x: Tensor) -> None:
    if x._kind.dtype.name == "bool":
        raise NotImplementedError(f"\"{kernel}\" not implemented for 'Bool'; convert with .to(engine.int64) or .float() first")


def _way_out(n: int, k: int, l: int, m: int) -> str:
    """What to write instead where one transposition would make (n, k) @ (l, m) fit."""
    if k == m:
        return f".  x @ y.mT would fit and give ({n}, {l})"
    if n == l:
        return f".  x.mT @ y would fit and give ({k}, {m})"
    return ""


def _check_mm(x: Tensor, y: Tensor) -> None:
    (n, k), (l, m) = x._array.shape, y._array.shape
    if k != l:
        raise ShapeError(f"mat1 and mat2 shapes cannot be multiplied ({n}x{k} and {l}x{m}){_way_out(n, k, l, m)}")


def _check_mv(x: Tensor, y: Tensor) -> None:
    (n, k), (l,) = x._array.shape, y._array.shape
    if k != l:
        raise ShapeError(f"size mismatch, got input ({n}), mat ({n}x{k}), vec ({l})")


def _check_vectors(x: Tensor, y: Tensor) -> None:
    if x._array.ndim != 1 or y._array.ndim != 1:
        raise ShapeError(f"1D tensors expected, but got {x.ndim}D and {y.ndim}D tensors")
    _same_dtype(x, y, "dot : expected both vectors to have same dtype, but found {} and {}", scalar=True)
    _no_bool("dot", x)
    n, m = x._array.size, y._array.size
    if n != m:
        raise ShapeError(f"inconsistent tensor size, expected tensor [{n}] and src [{m}] to have the same number of elements, "
                         f"but got {n} and {m} elements respectively")


def _check_stacks(x: Tensor, y: Tensor) -> None:
    for name, t in (("batch1", x), ("batch2", y)):
        if t._array.ndim != 3:
            raise ShapeError(f"{name} must be a 3D tensor, got {t.ndim}D")
    (b, _, k), (c, l, _) = x._array.shape, y._array.shape
    if (b, k) != (c, l):
        raise ShapeError(f"Expected size for first two dimensions of batch2 tensor to be: [{b}, {k}] but got: [{c}, {l}].")


def _finish(result: Tensor, out: Tensor | None) -> Tensor:
    if out is None:
        return result
    if isinstance(out, Tensor) and out._kind is not result._kind:
        raise DTypeError(f"Expected out tensor to have dtype {c_name(result.dtype)}, but got {c_name(out.dtype)} instead")
    return into(out, result)


# --- matrices and vectors ---------------------------------------------------------------------------------------------

MM, BMM, MV, DOT = (BOOK[name].apply.hot() for name in ("matmul", "bmm", "mv", "dot"))


@public()
def mm(input: Tensor, mat2: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Product of matrices (n, k) and (k, m) of one dtype, not bool. RuntimeError where sizes do not fit."""
    if mat2.__class__ is not Tensor or input._kind is not mat2._kind:
        check_tensors("mm", input=input, mat2=mat2)
    n, k = input._array.shape, mat2._array.shape
    if len(n) != 2 or len(k) != 2 or n[1] != k[0] or input._kind is not mat2._kind or not input._kind.dtype.category:
        _refuse_matrices(input, mat2)
    result = MM(input, mat2)
    return result if out is None else _finish(result, out)


def _refuse_matrices(input: Tensor, mat2: Tensor) -> None:
    for name, t in (("self", input), ("mat2", mat2)):
        if t.ndim != 2:
            raise ShapeError(f"{name} must be a matrix, got {t.ndim}-D tensor")
    _same_dtype(input, mat2)
    _check_mm(input, mat2)
    _no_bool("addmm_impl_cpu_", input)


@public()
def bmm(input: Tensor, mat2: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Products of stacks of matrices (b, n, k) and (b, k, m) of one dtype, not bool."""
    if mat2.__class__ is not Tensor or input._kind is not mat2._kind:
        check_tensors("bmm", input=input, mat2=mat2)
    _check_stacks(input, mat2)
    if input._kind is not mat2._kind or not input._kind.dtype.category:
        _same_dtype(input, mat2, "expected scalar type {} but found {}", scalar=True)
        _no_bool("bmm", input)
    result = BMM(input, mat2)
    return result if out is None else _finish(result, out)


@public()
def mv(input: Tensor, vec: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Product of a matrix (n, k) and a vector (k) of one dtype, not bool."""
    if vec.__class__ is not Tensor or input._kind is not vec._kind:
        check_tensors("mv", input=input, vec=vec)
    n, k = input._array.shape, vec._array.shape
    if len(n) != 2 or len(k) != 1 or n[1] != k[0] or input._kind is not vec._kind or not input._kind.dtype.category:
        _refuse_matrix_vector(input, vec)
    result = MV(input, vec)
    return result if out is None else _finish(result, out)


def _refuse_matrix_vector(input: Tensor, vec: Tensor) -> None:
    if input.ndim != 2 or vec.ndim != 1:
        raise ShapeError(f"vector + matrix @ vector expected, got 1, {input.ndim}, {vec.ndim}")
    _check_mv(input, vec)
    if input._kind is not vec._kind:
        raise _three_dtypes(vec, input, vec)
    _no_bool("addmv_impl_cpu", input)


@public()
def dot(input: Tensor, tensor: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Inner product of two vectors of one size and dtype, not bool; nothing is conjugated."""
    if tensor.__class__ is not Tensor or input._kind is not tensor._kind:
        check_tensors("dot", input=input, tensor=tensor)
    n, m = input._array.shape, tensor._array.shape
    if len(n) != 1 or n != m or input._kind is not tensor._kind or not input._kind.dtype.category:
        _check_vectors(input, tensor)
    result = DOT(input, tensor)
    return result if out is None else _finish(result, out)


@public()
def vdot(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Inner product of two vectors of one size and dtype, the first one conjugated."""
    check_tensors("vdot", input=input, other=other)
    _check_vectors(input, other)
    return _finish(BOOK["vdot"].apply(input, other), out)


@public(aliases=("ger",))
def outer(input: Tensor, vec2: Tensor, *, out: Tensor | None = None) -> Tensor:
    """All products of an element of one vector (n) and one of another (m): (n, m), in the promoted dtype."""
    check_tensors("outer", input=input, vec2=vec2)
    for name, t in (("self", input), ("vec2", vec2)):
        if t.ndim != 1:
            raise ShapeError(f"outer: Expected 1-D argument {name}, but got {t.ndim}-D")
    result = BOOK["mul"](BOOK["unsqueeze"](input, dim=1), vec2)
    return result if out is None else into(out, result)


# --- matmul -----------------------------------------------------------------------------------------------------------

@public()
def matmul(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Matrix product of the last two dimensions; the others broadcast.

    A vector counts as a row on the left and as a column on the right. One dtype, not bool, at least one dimension each.
    RuntimeError where sizes do not fit.
    """
    if other.__class__ is not Tensor or input._kind is not other._kind:
        check_tensors("matmul", input=input, other=other)
    result = _matmul(input, other)
    return result if out is None else _finish(result, out)


def _matmul(x: Tensor, y: Tensor) -> Tensor:
    nx, ny = x._array.ndim, y._array.ndim
    if nx == 2 and ny == 2:
        if x._kind is not y._kind or x._kind.dtype.category == 0:
            _same_dtype(x, y)
            _no_bool("addmm_impl_cpu_", x)
        if x._array.shape[1] != y._array.shape[0]:
            _check_mm(x, y)
        return MM(x, y)
    if not nx or not ny:
        raise ShapeError(f"both arguments to matmul need to be at least 1D, but they are {nx}D and {ny}D")
    if nx == 1 and ny == 1:
        return dot(x, y)
    if nx == 2 and ny == 1:
        return mv(x, y)
    _same_dtype(x, y)
    if nx == 1 and ny == 2:
        return BOOK["squeeze"](mm(BOOK["unsqueeze"](x, dim=0), y), dims=(0,))
    if ny <= 2:
        return _folded(x, y)
    if nx == 1:
        shape = y._array.shape
        return _stacked(BOOK["unsqueeze"](x, dim=0), y, (*shape[:-2], shape[-1]))
    return _stacked(x, y)


def _folded(x: Tensor, y: Tensor) -> Tensor:
    """A stack times one matrix or vector is one larger product: no loop over the stack, no sum in its gradient."""
    shape = x._array.shape
    rows = reshaped(x, (math.prod(shape[:-1]), shape[-1]))
    return BOOK["unsafe_view"](mm(rows, y) if y._array.ndim == 2 else mv(rows, y), shape=shape[:-1] + y._array.shape[1:])


def _stacked(x: Tensor, y: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
    """Stacks of matrices whose leading dimensions broadcast; a repeated stack is read again, not copied.

    `shape` is the result's, where it is not the product's own.
    """
    _no_bool("bmm", x)
    (*lead_x, n, k), (*lead_y, l, m) = x._array.shape, y._array.shape
    lead = broadcast_sizes(lead_x, lead_y)
    if k != l:
        raise ShapeError(f"Expected size for first two dimensions of batch2 tensor to be: [{math.prod(lead)}, {k}] but got: "
                         f"[{math.prod(lead)}, {l}]; the matrices are {n}x{k} and {l}x{m}{_way_out(n, k, l, m)}")
    if tuple(lead_x) != lead:
        x = BOOK["expand"](x, shape=(*lead, n, k))
    if tuple(lead_y) != lead:
        y = BOOK["expand"](y, shape=(*lead, k, m))
    result = BMM(x, y)
    return BOOK["unsafe_view"](result, shape=shape or result._array.shape) if shape or result._needs else result


def reshaped(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The tensor in another shape: a view, with the version counter that saved operands need, or a copy."""
    return BOOK["view"].apply(x, shape=shape) if x._array.flags.c_contiguous else x.reshape(shape)


def broadcast_sizes(a, b) -> tuple[int, ...]:
    """The common shape of two shapes; RuntimeError, in PyTorch's words, where there is none."""
    ndim = max(len(a), len(b))
    a, b = (1,) * (ndim - len(a)) + tuple(a), (1,) * (ndim - len(b)) + tuple(b)
    for d, (n, m) in enumerate(zip(a, b, strict=True)):
        if n != m and 1 not in (n, m):
            raise ShapeError(f"The size of tensor a ({n}) must match the size of tensor b ({m}) at non-singleton dimension {d}")
    return tuple(m if n == 1 else n for n, m in zip(a, b, strict=True))


def _factor(other: Any) -> Tensor | None:
    """A factor of `@`: a tensor, or an array of NumPy's as one; None for anything else."""
    if isinstance(other, np.ndarray):
        from .create import from_numpy
        return from_numpy(other)
    return other if isinstance(other, Tensor) else None


def _at(self: Tensor, other: Tensor) -> Tensor:
    """self @ other"""
    factor = _factor(other)
    return NotImplemented if factor is None else _matmul(self, factor)


def _reflected_at(self: Tensor, other: Tensor | complex) -> Tensor:
    """other @ self, for an array on the left."""
    factor = _factor(other)
    return NotImplemented if factor is None else _matmul(factor, self)


def _at_in_place(self: Tensor, other: Tensor) -> Tensor:
    """self @= other: the name gets a new tensor, since a product may have another shape."""
    return _at(self, other)


Tensor.__matmul__, Tensor.__rmatmul__, Tensor.__imatmul__ = _at, _reflected_at, _at_in_place


# --- beta * input + alpha * product -----------------------------------------------------------------------------------

def _factors(x: Tensor, beta, alpha) -> dict:
    """The two factors as numbers of the tensor's kind: integers stay whole, as in PyTorch."""
    if x._kind.dtype.category < 2:
        return {"beta": int(beta), "alpha": int(alpha)}
    return {"beta": beta, "alpha": alpha}


def _fits(input: Tensor, shape: tuple[int, ...]) -> None:
    """Check that `input` broadcasts to the product's shape."""
    have = input._array.shape
    if len(have) > len(shape):
        raise ShapeError(f"expand({input.type()}{{{list(have)}}}, size={list(shape)}): the number of sizes provided "
                         f"({len(shape)}) must be greater or equal to the number of dimensions in the tensor ({len(have)})")
    lead = len(shape) - len(have)
    for d, n in reversed(list(enumerate(have))):
        if n not in (1, shape[lead + d]):
            raise ShapeError(f"The expanded size of the tensor ({shape[lead + d]}) must match the existing size ({n}) at "
                             f"non-singleton dimension {lead + d}.  Target sizes: {list(shape)}.  Tensor sizes: {list(have)}")


@public(in_place=True)
def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: complex = 1, alpha: complex = 1, out: Tensor | None = None) -> Tensor:
    """beta * input + alpha * (mat1 @ mat2); `input` broadcasts to (n, m). One dtype, not bool."""
    check_tensors("addmm", input=input, mat1=mat1, mat2=mat2)
    for name, t in (("mat1", mat1), ("mat2", mat2)):
        if t.ndim != 2:
            raise ShapeError(f"{name} must be a matrix, got {t.ndim}-D tensor")
    _same_dtype(mat1, mat2, "mat1 and mat2 must have the same dtype, but got {} and {}", scalar=True)
    _same_dtype(input, mat2, "self and mat2 must have the same dtype, but got {} and {}", scalar=True)
    _check_mm(mat1, mat2)
    _fits(input, (mat1._array.shape[0], mat2._array.shape[1]))
    _no_bool("addmm_impl_cpu_", input)
    return _finish(BOOK["addmm"].apply(input, mat1, mat2, **_factors(input, beta, alpha)), out)


@public(in_place=True)
def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: complex = 1, alpha: complex = 1, out: Tensor | None = None) -> Tensor:
    """beta * input + alpha * (mat @ vec); `input` broadcasts to (n). One dtype, not bool."""
    check_tensors("addmv", input=input, mat=mat, vec=vec)
    if mat.ndim != 2 or vec.ndim != 1 or input.ndim > 1:
        raise ShapeError(f"vector + matrix @ vector expected, got {input.ndim}, {mat.ndim}, {vec.ndim}")
    _check_mv(mat, vec)
    if not input._kind is mat._kind is vec._kind:
        raise _three_dtypes(input, mat, vec)
    _fits(input, mat._array.shape[:1])
    _no_bool("addmv_impl_cpu", input)
    return _finish(BOOK["addmv"].apply(input, mat, vec, **_factors(input, beta, alpha)), out)


@public(in_place=True)
def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: complex = 1, alpha: complex = 1, out: Tensor | None = None) -> Tensor:
    """beta * input + alpha * outer(vec1, vec2), in the promoted dtype; `input` broadcasts to (n, m)."""
    check_tensors("addr", input=input, vec1=vec1, vec2=vec2)
    for name, t in (("vec1", vec1), ("vec2", vec2)):
        if t.ndim != 1:
            raise ShapeError(f"addr: Expected 1-D argument {name}, but got {t.ndim}-D")
    _fits(input, (vec1._array.size, vec2._array.size))
    operands = promoted(input, vec1, vec2)
    if operands[0]._kind.dtype.category < 2:
        for name, number in (("beta", beta), ("alpha", alpha)):
            if isinstance(number, float):
                raise RuntimeError(f"For integral input tensors, argument {name} must not be a floating point number.")
    result = BOOK["addr"].apply(*operands, **_factors(operands[0], beta, alpha))
    return result if out is None else into(out, result)


@public(in_place=True)
def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: complex = 1, alpha: complex = 1,
            out: Tensor | None = None) -> Tensor:
    """beta * input + alpha * bmm(batch1, batch2); `input` broadcasts to (b, n, m). One dtype, not bool."""
    check_tensors("baddbmm", input=input, batch1=batch1, batch2=batch2)
    _check_stacks(batch1, batch2)
    _check_three(input, batch1, batch2)
    _fits(input, (*batch1._array.shape[:2], batch2._array.shape[2]))
    return _finish(BOOK["baddbmm"].apply(input, batch1, batch2, **_factors(input, beta, alpha)), out)


@public(in_place=True)
def addbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: complex = 1, alpha: complex = 1,
           out: Tensor | None = None) -> Tensor:
    """beta * input + alpha * (sum over b of batch1[b] @ batch2[b]); `input` broadcasts to (n, m). One dtype, not bool."""
    check_tensors("addbmm", input=input, batch1=batch1, batch2=batch2)
    for name, t in (("batch1", batch1), ("batch2", batch2)):
        if t.ndim != 3:
            raise ShapeError(f"{name} must be a 3D tensor, got {t.ndim}D")
    (b, n, k), (c, l, m) = batch1._array.shape, batch2._array.shape
    if b != c:
        raise ShapeError(f"batch1 and batch2 must have same number of batches, got {b} and {c}")
    if k != l:
        raise ShapeError(f"Incompatible matrix sizes for bmm ({n}x{k} and {l}x{m}){_way_out(n, k, l, m)}")
    _check_three(input, batch1, batch2)
    _fits(input, (n, m))
    return _finish(BOOK["addbmm"].apply(input, batch1, batch2, **_factors(input, beta, alpha)), out)


def _check_three(input: Tensor, batch1: Tensor, batch2: Tensor) -> None:
    if not input._kind is batch1._kind is batch2._kind:
        raise DTypeError(f"Input dtypes must be the same, got: input {c_name(input.dtype)}, batch1: {c_name(batch1.dtype)}, "
                         f"batch2: {c_name(batch2.dtype)}")
    _no_bool("baddbmm", input)


def promoted(*tensors: Tensor) -> list[Tensor]:
    """Tensors cast to their common dtype."""
    kind = KIND[result_type_of([item_of(t) for t in tensors])]
    return [t if t._kind is kind else cast(t, kind) for t in tensors]


# --- powers, inverses, chains -----------------------------------------------------------------------------------------

@public()
def matrix_power(input: Tensor, n: int, *, out: Tensor | None = None) -> Tensor:
    """A square matrix (..., m, m) times itself n times; n = 0 gives the identity, n < 0 powers of the inverse."""
    check_tensors("matrix_power", input=input)
    if not hasattr(n, "__index__"):
        raise TypeError(f"matrix_power(): argument 'n' (position 2) must be int, not {type(n).__name__}")
    _check_square("linalg.matrix_power", input)
    n = n.__index__()
    if n == 0:
        m = input._array.shape[-1]
        result = wrap(np.broadcast_to(np.eye(m, dtype=input._kind.numpy), input._array.shape).copy(), input._kind)
        if input.requires_grad:         # a constant, but one whose gradient is zero
            result = BOOK["where"](wrap(np.ones((), bool), KIND[bool_]), result, input)
        return result if out is None else into(out, result)
    base = input
    if n < 0:
        from ..linalg import inv
        base, n = inv(input), -n
    result, square = None, base
    while True:         # n in binary: one product for each digit, one more for each 1
        if n & 1:
            result = square if result is None else _matmul(result, square)
        n >>= 1
        if not n:
            break
        square = _matmul(square, square)
    if result is input:
        result = BOOK["clone"](input)
    return result if out is None else into(out, result)


def _check_square(name: str, input: Tensor) -> None:
    if input.ndim < 2:
        raise ShapeError(f"{name}: The input tensor A must have at least 2 dimensions.")
    n, m = input._array.shape[-2:]
    if n != m:
        raise ShapeError(f"{name}: A must be batches of square matrices, but they are {n} by {m} matrices")


@public(method=False)
def chain_matmul(*matrices: Tensor, out: Tensor | None = None) -> Tensor:
    """Product of two or more matrices in the order of least work. One matrix is returned as it is."""
    if len(matrices) == 1 and isinstance(matrices[0], (list, tuple)):
        matrices = tuple(matrices[0])
    if not matrices:
        raise RuntimeError("chain_matmul(): Expected one or more matrices")
    check_tensors("chain_matmul", **{f"matrices[{k}]": t for k, t in enumerate(matrices)})
    for k, t in enumerate(matrices):
        if t.ndim != 2:
            raise ShapeError(f"chain_matmul(): Tensor dimension is {t.ndim}, expected 2 instead (matrix {k})")
    for k, (a, b) in enumerate(itertools.pairwise(matrices)):
        if a._array.shape[1] != b._array.shape[0]:
            raise ShapeError(f"multi_dot(): tensors {k} and {k + 1} with shapes {list(a.shape)} and {list(b.shape)} cannot be "
                             "multiplied")
    result = _chain(matrices)
    return result if out is None else _finish(result, out)


def _chain(matrices) -> Tensor:
    """The order of least work by dynamic programming (Cormen et al., Introduction to Algorithms, 2009, section 15.2)."""
    sizes = [t._array.shape[0] for t in matrices] + [matrices[-1]._array.shape[1]]
    count = len(matrices)
    cost = [[0] * count for _ in range(count)]
    cut = [[0] * count for _ in range(count)]
    for length in range(2, count + 1):
        for i in range(count - length + 1):
            j = i + length - 1
            cost[i][j], cut[i][j] = min((cost[i][s] + cost[s + 1][j] + sizes[i] * sizes[s + 1] * sizes[j + 1], s)
                                        for s in range(i, j))

    def multiply(i: int, j: int) -> Tensor:
        return matrices[i] if i == j else mm(multiply(i, cut[i][j]), multiply(cut[i][j] + 1, j))
    return multiply(0, count - 1)
