"""The book walked by generic tests: every record, every dtype that it declares, every layout, gradients to second order.

The oracle of values is the record's `like` (NumPy or SciPy), computed in the widest precision at hand; that of gradients the
central difference of the operator itself in float64. What a table cannot hold (ties, error texts, aliasing) is in the files
by family. The checks themselves are in `engine.testing`, where users find them too.
"""
import numpy as np
import pytest

import engine
from engine.dtypes import by_name
from engine.tensor import from_array
from engine.testing import (
    EPS,
    WIDER,
    assert_like,
    broadcasting,
    check_gradients,
    draw,
    layouts,
    leaves,
    operands,
    reference,
    without_gradient,
)
from kernels.book import BOOK, FLOATS, Fold, Pointwise, Structural
from kernels.cpu import folds, maps, native

POINTWISE = sorted((op for op in BOOK.values() if isinstance(op, Pointwise)), key=lambda op: op.name)
FOLDS = sorted((op for op in BOOK.values() if isinstance(op, Fold)), key=lambda op: op.name)
STRUCTURAL = sorted((op for op in BOOK.values() if isinstance(op, Structural)), key=lambda op: op.name)


def by_dtype(ops):
    return [pytest.param(op, d, id=f"{op.name}-{d}") for op in ops for d in op.dtypes]


@pytest.mark.parametrize("op, dtype", by_dtype(POINTWISE))
def test_pointwise_values(op, dtype, rng):
    for layout, arrays in layouts(rng, op, dtype):
        before = [a.copy() for a in arrays]
        for a in arrays:
            if a.flags.owndata:
                a.flags.writeable = False
        result = op(*[from_array(a) for a in arrays])
        assert result.dtype is by_name(op.result(dtype)), layout
        seen = result.numpy()
        if op.like is not None:
            assert_like(seen, reference(op, dtype, arrays), op, arrays)
        else:
            assert seen.shape == np.broadcast_shapes(*(a.shape for a in arrays))
        for a, b in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("op, dtype", [pytest.param(op, d, id=f"{op.name}-{d}") for op in POINTWISE if op.like is not None
                                       for d in ("float32", "float64") if d in op.dtypes])
def test_pointwise_special_values(op, dtype, rng):
    special = op.special if isinstance(op.special, dict) else dict.fromkeys(op.inputs, op.special or (0.0, 1.0))
    grids = np.meshgrid(*[np.array(special[name], dtype) if t == dtype else np.array([False, True])
                          for name, t in zip(op.inputs, op.operand_types(dtype), strict=True)])
    seen = op(*[from_array(np.ascontiguousarray(g)) for g in grids]).numpy()
    assert_like(seen, reference(op, dtype, grids), op, grids)


@pytest.mark.parametrize("op, dtype", [pytest.param(op, d, id=f"{op.name}-{d}") for op in POINTWISE for d in ("float64", "int64")
                                       if d in op.dtypes])
def test_plain_python_runs_the_same_function(op, dtype, rng):
    """The scalar function is ordinary Python: the first place to look when a compiled kernel surprises."""
    arrays = operands(rng, op, dtype, (7,))
    seen = op(*[from_array(a) for a in arrays]).numpy()
    plain = [op.scalar(*[a[i].item() for a in arrays]) for i in range(7)]
    if seen.dtype.kind == "f":      # near a zero of lgamma the C library's result, too, is right to an ulp of the operands only
        scale = max(1.0, *(float(np.abs(a).max()) for a in arrays)) if op.cancels else 0.0
        np.testing.assert_allclose(seen, np.array(plain, seen.dtype), rtol=1e-14, atol=max(1e-300, op.tol * EPS["float64"] * scale))
    else:
        np.testing.assert_array_equal(seen, np.array(plain).astype(seen.dtype))


# --- gradients --------------------------------------------------------------------------------------------------------

DIFFERENTIABLE = [op for op in POINTWISE if op.differentiable]


@pytest.mark.parametrize("op", [pytest.param(op, id=op.name) for op in DIFFERENTIABLE if "float64" in op.dtypes])
def test_pointwise_gradients(op, rng):
    fixed = without_gradient(op, False)
    check_gradients(op, operands(rng, op, "float64", (4, 3)), rng, fixed=fixed)
    if len(op.inputs) > 1:          # broadcasting is undone in the gradient
        check_gradients(op, broadcasting(rng, op, "float64", [(4, 1), (3,), ()]), rng, order=1, fixed=fixed)


@pytest.mark.parametrize("op", [pytest.param(op, id=op.name) for op in DIFFERENTIABLE if "complex128" in op.dtypes])
def test_pointwise_complex_gradients(op, rng):
    check_gradients(op, operands(rng, op, "complex128", (3,)), rng, rtol=1e-5, atol=1e-7,
                    fixed=without_gradient(op, True))


@pytest.mark.parametrize("op, dtype", [pytest.param(op, d, id=f"{op.name}-{d}") for op in DIFFERENTIABLE
                                       for d in ("float16", "float32") if d in op.dtypes])
def test_pointwise_gradients_in_lower_precision(op, dtype, rng):
    """The gradient kernels of other dtypes agree with float64's."""
    arrays = operands(rng, op, dtype, (6,))
    found = {}
    for kind in (dtype, "float64"):
        xs = leaves([a.astype(kind) if a.dtype.kind == "f" else a for a in arrays])
        out = op(*xs)
        (engine.view_as_real(out) if out.is_complex() else out).sum().backward()
        found[kind] = [x.grad.numpy() for x in xs if x.requires_grad and x.grad is not None]
    for low, high in zip(found[dtype], found["float64"], strict=True):
        assert low.dtype == np.dtype(dtype)
        np.testing.assert_allclose(low, high, rtol=60 * EPS[dtype], atol=60 * EPS[dtype] * (1 + np.abs(high).max()))


def test_the_gradient_check_notices_a_partial_that_is_wrong_by_one_percent(rng):
    op = BOOK["sigmoid"]
    right = op.partials

    class Wrong(engine.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return op(x)

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * right(x, op(x))[0] * 1.01
    arrays = operands(rng, op, "float64", (4, 3))
    check_gradients(op, arrays, rng)
    with pytest.raises(AssertionError, match="first order"):
        check_gradients(Wrong.apply, arrays, rng)


# --- public forms -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("op", [pytest.param(op, id=op.name) for op in POINTWISE if op.function])
def test_function_method_out_and_in_place_agree(op, rng):
    dtype = "float32" if "float32" in op.dtypes else "int64" if "int64" in op.dtypes else op.dtypes[0]
    arrays = operands(rng, op, dtype, (3, 4))
    tensors = [from_array(a.copy()) for a in arrays]
    expected = op(*tensors).numpy()
    function = getattr(engine, op.name)
    names = list(op.inputs)
    if op.operand_types(dtype)[0] == "bool" and dtype != "bool":
        return                      # where(condition, ...): its forms have a test of their own
    np.testing.assert_array_equal(function(*tensors).numpy(), expected)
    for alias in op.aliases:
        np.testing.assert_array_equal(getattr(engine, alias)(*tensors).numpy(), expected)
    if len(names) <= 2:
        out = engine.empty(0, dtype=by_name(expected.dtype.name))
        assert function(*tensors, out=out) is out
        np.testing.assert_array_equal(out.numpy(), expected)
    if op.method:
        np.testing.assert_array_equal(getattr(tensors[0], op.name)(*tensors[1:]).numpy(), expected)
    if op.inplace and op.result(dtype) == dtype:
        target = tensors[0].clone()
        address, version = target.data_ptr(), target._version
        assert getattr(target, op.name + "_")(*tensors[1:]) is target
        assert target.data_ptr() == address and target._version == version + 1
        np.testing.assert_array_equal(target.numpy(), expected)


@pytest.mark.parametrize("op", [pytest.param(op, id=op.name) for op in POINTWISE])
def test_undeclared_dtypes_are_refused(op, rng):
    for dtype in ("bool", "uint8", "int64", "float32", "complex64"):
        if dtype in op.dtypes or (op.floating and dtype in ("bool", "uint8", "int64")):
            continue
        arrays = [np.ones(2, dtype if t == "T" else t) for t in op.operands]
        with pytest.raises((RuntimeError, TypeError), match=r"not (yet )?implemented|not supported|only supported|support"):
            op(*[from_array(a) for a in arrays])


# --- folds and structural operators -----------------------------------------------------------------------------------

def fold_samples(rng, op, dtype):
    yield draw(rng, op, "x", dtype, (3, 4, 5)), None
    yield draw(rng, op, "x", dtype, (3, 4, 5)), (0,)
    yield draw(rng, op, "x", dtype, (3, 4, 5)), (1,)
    yield draw(rng, op, "x", dtype, (3, 4, 5)), (2,)
    yield draw(rng, op, "x", dtype, (5, 4, 3)).T, (1,)
    yield draw(rng, op, "x", dtype, (3, 300)), (1,)
    yield draw(rng, op, "x", dtype, (300, 20)), (0,)
    yield draw(rng, op, "x", dtype, (6, 40))[::2, ::-3], (1,)
    yield draw(rng, op, "x", dtype, (7,)), (0,)
    yield draw(rng, op, "x", dtype, (7,)), None
    if not op.positions:
        yield draw(rng, op, "x", dtype, (3, 4, 5)), (0, 2)
        yield draw(rng, op, "x", dtype, (3, 4, 5, 2)), (1, 2)


@pytest.mark.parametrize("op, dtype", by_dtype([op for op in FOLDS if op.like is not None and not op.extra]))
def test_fold_values(op, dtype, rng):
    for x, dims in fold_samples(rng, op, dtype):
        for keepdim in (False, True):
            seen = folds.run(op, x, dims, keepdim)
            axis = dims[0] if dims is not None and len(dims) == 1 else dims
            wide = x.astype(WIDER[dtype]) if dtype in WIDER else x
            expected = op.like(wide, axis=axis, **({"keepdims": True} if keepdim else {}))
            # a sum is right to an ulp of the sum of magnitudes, a product of n factors to n roundings
            scale = float(np.max(op.like(np.abs(wide), axis=axis))) if op.cancels and dtype in EPS else 0.0
            for s, e in zip(seen if isinstance(seen, tuple) else (seen,), expected if isinstance(expected, tuple) else (expected,),
                            strict=True):
                assert s.shape == np.shape(e)
                if s.dtype.kind in "fc":
                    with np.errstate(over="ignore"):        # a long product may leave float16: the reference becomes inf too
                        narrow = np.asarray(e).astype(s.dtype)
                    np.testing.assert_allclose(s, narrow, rtol=max(8, op.tol) * EPS[s.dtype.name],
                                               atol=max(30, scale) * EPS[s.dtype.name])
                else:
                    np.testing.assert_array_equal(s, np.asarray(e).astype(s.dtype))


@pytest.mark.parametrize("op", [pytest.param(op, id=op.name) for op in FOLDS if op.differentiable and not op.extra
                                and "float64" in op.dtypes])
def test_fold_gradients(op, rng):
    cases = [((3, 4), (0,)), ((2, 3, 2), (1,)), ((5,), (0,))]
    if not op.positions:            # a value with its position is asked for along one dimension
        cases.append(((3, 4), None))
    for shape, dims in cases:
        for keepdim in (False, True):
            def call(x, dims=dims, keepdim=keepdim):
                result = op(x, dims=dims, keepdim=keepdim)
                return result[0] if isinstance(result, tuple) else result
            x = draw(rng, op, "x", "float64", shape)
            if not op.empty:        # extreme values: apart by more than the differences move them, lest the choice jumps
                x = rng.permutation(x.size).reshape(shape) * 0.2 - 1.0
            check_gradients(call, [x], rng)


@pytest.mark.parametrize("op", [pytest.param(op, id=op.name) for op in STRUCTURAL if op.samples is not None])
def test_structural_values_and_gradients(op, rng):
    """`samples(rng, dtype)` yields (operands, options); `like(*operands, **options)` is the oracle of values."""
    for dtype in ("float64", "int64"):
        for arrays, options in op.samples(rng, dtype):
            tensors = [from_array(a) for a in arrays]
            result = op(tensors, **options) if op.many else op(*tensors, **options)
            if op.like is not None:
                expected = op.like(arrays, **options) if op.many else op.like(*arrays, **options)
                for s, e in zip(result if isinstance(result, tuple) else (result,),
                                expected if isinstance(expected, (tuple, list)) else (expected,), strict=True):
                    np.testing.assert_allclose(s.numpy(), e, rtol=1e-12)
            if dtype == "float64" and op.differentiable and not isinstance(result, tuple):
                check_gradients((lambda *xs, options=options: op(list(xs), **options)) if op.many else
                                (lambda *xs, options=options: op(*xs, **options)), list(arrays), rng)


# --- what kernels may ask of the process that loads them --------------------------------------------------------------

LIBRARY = {"memset", "memcpy", "memmove", "fmod", "fmodf", "lgamma", "lgammaf", "sin", "cos", "tan", "sinf", "cosf", "tanf", "fma",
           "fmaf", "floor", "ceil", "trunc", "rint", "pow", "powf", "exp", "log", "erf", "erfc", "tgamma", "nextafter",
           "nextafterf"}


@pytest.mark.parametrize("op", [pytest.param(op, id=op.name) for op in POINTWISE])
def test_kernels_need_only_the_c_library(op):
    for dtype in {"float32" if "float32" in op.dtypes else op.dtypes[0], op.dtypes[-1]}:
        about, code = native.machine_code(maps.forward_program(op, dtype))
        assert set(about["needs"]) <= LIBRARY
        assert len(code) > 100


def test_every_record_says_what_it_is():
    for op in (*POINTWISE, *FOLDS, *STRUCTURAL):
        assert op.doc, f"{op.name} has no documentation"
        assert op.dtypes and set(op.dtypes) <= {by_name(d).name for d in op.dtypes}
    assert FLOATS == ("float16", "float32", "float64")
