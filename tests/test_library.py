"""Operators registered from outside (`engine.library`) and their checks (`engine.testing.check_operator`)."""
import inspect
import math

import numba
import numpy as np
import pytest

import engine
from engine import library
from engine.testing import check_operator
from kernels import libm
from kernels.book import BOOK

DOUBLE = ("float64",)


@library.pointwise(partials=lambda x, k, out: (k * out * (1 - out), x * out * (1 - out)), dtypes=("float32", "float64"),
                   floating=True, like=lambda x, k: 1 / (1 + np.exp(-k * x)))
def steep(x, k):
    """The logistic function of slope k / 4."""
    return 1 / (1 + libm.exp(-k * x))


@library.structural(vjp=lambda g, x, scale: (g * scale * x.cos(),), jvp=lambda t_x, x, scale: t_x * scale * x.cos(),
                    like=lambda x, scale=1.0: scale * np.sin(x))
def scaled_sin(x, *, scale=1.0):
    """scale sin x."""
    return scale * np.sin(x)


@library.structural(vjp=lambda g, x, y: (g[..., None] * y, g[..., None] * x), like=lambda x, y: (x * y).sum(-1))
def dots(x, y):
    """Inner products of the rows of two matrices."""
    return np.einsum("...k,...k->...", x, y)


def rows(rng, dtype):
    yield [rng.standard_normal((3, 4)).astype(dtype), rng.standard_normal((3, 4)).astype(dtype)], {}


def angles(rng, dtype):
    for scale in (1.0, -2.5):
        yield [rng.uniform(-3, 3, (2, 5)).astype(dtype)], {"scale": scale}


def lift(x, k):
    return x, x


def widest(a, b):
    return min(a[0], b[0]), max(a[1], b[1])


def width(s, n):
    return s[1] - s[0]


spread = library.fold(
    "spread", doc="Largest minus smallest element.", lift=lift, combine=widest, finish=width, dtypes=DOUBLE,
    start=lambda dtype: (math.inf, -math.inf), state=lambda dtype: (dtype, dtype),
    like=lambda x, axis=None, keepdims=False: x.max(axis, keepdims=keepdims) - x.min(axis, keepdims=keepdims))


def test_a_pointwise_operator_is_one_of_the_book():
    assert BOOK["steep"] is steep.operator and ("steep", "cpu") in engine.dispatch.table()
    assert "steep" in library.registered() and not hasattr(engine, "steep")
    check_operator(steep, dtypes=("float32", "float64"))
    x = engine.tensor([0.0, 1.0], requires_grad=True)
    y = steep(x, 2)
    assert type(y.grad_fn).__name__ == "SteepBackward0" and steep.__name__ == "steep"
    assert list(inspect.signature(steep).parameters) == ["x", "k", "out"]
    assert steep(engine.tensor([0, 1]), 1).dtype is engine.float32


def test_functions_of_arrays_with_their_own_vjp_and_jvp():
    check_operator(scaled_sin, samples=angles)
    check_operator(dots, samples=rows)
    x = engine.tensor([0.5, 1.0], dtype=engine.float64)
    assert list(inspect.signature(scaled_sin).parameters) == ["x", "scale", "out"]
    out = engine.empty(0, dtype=engine.float64)
    assert scaled_sin(x, scale=2.0, out=out) is out
    np.testing.assert_array_equal(out.numpy(), 2 * np.sin([0.5, 1.0]))
    assert scaled_sin(np.array([0.5]))[0].item() == math.sin(0.5)


def test_a_jitted_function_and_inputs_by_name():
    @library.structural(inputs=("x",), vjp=lambda g, x, power: (g * power * x ** (power - 1),))
    @numba.njit
    def raised(x, power=2.0):
        return x ** power
    check_operator(raised, like=lambda x, power=2.0: x ** power, samples=lambda rng, dtype: [
        ([rng.uniform(1, 2, (2, 3))], {}), ([rng.uniform(1, 2, 4)], {"power": 3.0})])
    x = engine.tensor([3.0], dtype=engine.float64)
    assert raised(x, 3.0).item() == 27 and raised(x).item() == 9
    with pytest.raises(TypeError, match="raised2 has no parameter 'y'"):
        library.structural(lambda x: x, name="raised2", inputs=("y",))


def test_a_scalar_function_in_plain_python_is_checked_the_same_way():
    @engine.elementwise(name="checked_softplus")
    def softplus(x, k):
        return math.log1p(math.exp(k * x)) / k
    check_operator(softplus, like=lambda x, k: np.log1p(np.exp(k * x)) / k, domain={"k": (0.5, 2.0)}, dtypes=DOUBLE, tol=16)
    with pytest.raises(AssertionError, match="checked_softplus, float64"):
        check_operator(softplus, like=lambda x, k: np.log1p(np.exp(k * x)), domain={"k": (0.5, 2.0)}, dtypes=DOUBLE, tol=16)


def test_forward_mode_uses_the_jvp_that_is_given():
    calls = []

    def jvp(t_x, x, out):
        calls.append(out.tolist())
        return t_x * 2 * x

    @library.structural(vjp=lambda g, x: (g * 2 * x,), jvp=jvp)
    def squared(x):
        return x * x
    x = engine.tensor([3.0, 4.0])
    y, t = engine.func.jvp(squared, (x,), (engine.ones(2),))
    assert y.tolist() == [9, 16] and t.tolist() == [6, 8] and calls == [[9, 16]]
    hessian = engine.func.jacfwd(engine.func.jacrev(lambda x: squared(x).sum()))(x)
    assert hessian.tolist() == [[2, 0], [0, 2]]


def test_a_jvp_of_several_inputs_and_results():
    @library.structural(vjp=lambda gs, x, y: (gs[0] * y if gs[1] is None else gs[0] * y + gs[1], gs[0] * x),
                        jvp=lambda t_x, t_y, x, y: (t_x * y if t_y is None else t_x * y + t_y * x, t_x))
    def product_and_first(x, y):
        return x * y, x
    x, y = engine.tensor([2.0]), engine.tensor([5.0])
    made, pushed = engine.func.jvp(product_and_first, (x, y), (engine.tensor([1.0]), engine.tensor([10.0])))
    assert [t.item() for t in made] == [10, 2] and [t.item() for t in pushed] == [25, 1]
    assert made[1].data_ptr() != x.data_ptr()               # a result is never the memory of an input
    _, pushed = engine.func.jvp(lambda x: product_and_first(x, y), (x,), (engine.tensor([1.0]),))
    assert [t.item() for t in pushed] == [5, 1]


def test_a_fold():
    check_operator(spread)
    x = engine.tensor([[1.0, 5.0], [-2.0, 0.0]], dtype=engine.float64)
    assert spread(x, 1).tolist() == [4, 2] and spread(x).item() == 7 and spread(x, 0, keepdim=True).shape == (1, 2)


def test_kernels_of_ones_own_for_each_device():
    def on_cuda(x):
        return "on the device"

    @library.pointwise(partials=lambda x, out: (2 * x,), dtypes=DOUBLE, kernels={"cpu": lambda x: x * x + 0.5, "cuda": on_cuda})
    def nearly_squared(x):
        return x * x
    x = engine.tensor([3.0], dtype=engine.float64, requires_grad=True)
    y = nearly_squared(x)
    y.backward()
    assert y.item() == 9.5 and x.grad.item() == 6
    assert engine.dispatch.table()["nearly_squared", "cuda"](None) == "on the device"
    assert not engine.dispatch.table()._custom              # the book's own short ways stay open


def test_registering_again_replaces_and_the_old_one_goes_on():
    def make(factor):
        @library.pointwise(partials=lambda x, out: (factor,), dtypes=DOUBLE, kernels={"cpu": lambda x: factor * x}, name="times")
        def times(x):
            return x
        return times
    old, new = make(2), make(3)
    x = engine.ones(1, dtype=engine.float64)
    assert old(x).item() == 2 and new(x).item() == 3 and BOOK["times"] is new.operator
    assert old.operator.name == "old1_times"
    library.remove("times")
    assert "times" not in BOOK and ("times", "cpu") not in engine.dispatch.table()
    with pytest.raises(KeyError, match="no operator 'times'"):
        library.remove("times")


def test_what_cannot_be_registered():
    with pytest.raises(ValueError, match="the book has an operator 'exp' already"):
        library.structural(lambda x: x, name="exp")
    with pytest.raises(ValueError, match="the book has an operator 'neg' already"):
        library.pointwise(steep.__wrapped__, name="neg")
    with pytest.raises(ValueError, match="the book has an operator 'sum' already"):
        library.fold("sum", lift=lift, combine=widest, start=None, finish=width, state=None)
    with pytest.raises(TypeError, match="write it with def"):
        library.pointwise(lambda x: x)
    with pytest.raises(TypeError, match="fold: combine=: kernels are made from source"):
        library.fold("spread2", lift=lift, combine=lambda a, b: a, start=None, finish=width, state=None)
    with pytest.raises(ValueError, match="is no name"):
        library.structural(lambda x: x)
    with pytest.raises(ValueError, match="needs vjp= beside jvp="):
        library.structural(lambda x: x, name="only_forward", jvp=lambda t_x: t_x)
    with pytest.raises(TypeError, match="names 'z'; it may name"):
        library.structural(lambda x: x, name="wrong_vjp", vjp=lambda g, z: (g,))
    with pytest.raises(TypeError, match="no parameter for an array"):
        library.structural(lambda scale=1.0: scale, name="no_arrays")
    with pytest.raises(TypeError, match=r"no \*args"):
        library.structural(lambda x, *more: x, name="star")
    with pytest.raises(ValueError, match="device must be one of"):
        library.structural(lambda x: x, name="tpu", kernels={"tpu": abs})
    with pytest.raises(TypeError, match="a kernel is a callable"):
        library.structural(lambda x: x, name="number", kernels={"cuda": 3})
    with pytest.raises(TypeError, match="Python function is needed"):
        library.pointwise(3)
    assert not {"only_forward", "wrong_vjp", "star", "tpu", "number"} & set(BOOK)


def test_calls_that_do_not_fit():
    with pytest.raises(TypeError, match=r"dots\(\): missing a required argument: 'y'"):
        dots(engine.ones(2))
    with pytest.raises(TypeError, match=r"argument 'y' \(position 2\) must be Tensor, not str"):
        dots(engine.ones(2), "no")

    @library.structural
    def words(x):
        return np.array(["a"])
    with pytest.raises(TypeError, match="words: its function gave ndarray of dtype <U1"):
        words(engine.ones(2))


# --- the checks notice what is wrong --------------------------------------------------------------------------------------

def test_a_wrong_value_is_noticed():
    with pytest.raises(AssertionError, match=r"(?s)steep, float64, dense.*Mismatch"):
        check_operator(steep, like=lambda x, k: 1.001 / (1 + np.exp(-k * x)), dtypes=DOUBLE)


def test_wrong_derivatives_are_noticed():
    @library.structural(vjp=lambda g, x: (g * 1.01 * x.cos(),))
    def bad_first(x):
        return np.sin(x)
    with pytest.raises(AssertionError, match="bad_first, float64, gradients, dense: first order"):
        check_operator(bad_first, samples=lambda rng, dtype: [([rng.standard_normal(4)], {})])

    @library.structural(vjp=lambda g, x: (g * x.detach().cos(),))
    def bad_second(x):
        return np.sin(x)
    with pytest.raises(AssertionError, match="second order"):
        check_operator(bad_second, samples=lambda rng, dtype: [([rng.standard_normal(4)], {})])

    @library.structural(vjp=lambda g, x: (g * x.cos(),), jvp=lambda t_x, x: t_x * x.sin())
    def bad_forward(x):
        return np.sin(x)
    with pytest.raises(AssertionError, match="forward mode, dense"):
        check_operator(bad_forward, samples=lambda rng, dtype: [([rng.standard_normal(4)], {})])


def test_a_kernel_that_writes_its_operand_or_reads_memory_as_dense_is_noticed():
    @library.structural
    def careless(x):
        return np.ravel(x, order="K").reshape(x.shape) * 2.0
    with pytest.raises(AssertionError, match="careless, float64, transposed"):
        check_operator(careless, like=lambda x: 2 * x, samples=lambda rng, dtype: [([rng.standard_normal((2, 3))], {})], tol=2)

    @library.structural
    def writing(x):
        x += 1
        return x.copy()
    with pytest.raises((AssertionError, ValueError), match=r"an operand was changed|read-only"):
        check_operator(writing, samples=lambda rng, dtype: [([rng.standard_normal(3)], {})])


def test_what_cannot_be_checked():
    with pytest.raises(TypeError, match="an operator is needed"):
        check_operator(math.sin)
    with pytest.raises(ValueError, match="say samples="):
        check_operator(dots)
    with pytest.raises(ValueError, match="has no parameter 'z'"):
        check_operator(steep, domain={"z": (0, 1)})
    with pytest.raises(ValueError, match="gives no operands"):
        check_operator(dots, samples=lambda rng, dtype: [])
