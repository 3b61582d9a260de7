"""`engine.stencil`: functions of a neighbourhood against NumPy's pad and shifted slices, and finite differences."""
import numpy as np
import pytest

import engine
from engine.autograd import gradcheck, gradgradcheck
from engine.testing import check_operator
from engine.written.stencil import stencil

MODES = ["constant", "edge", "reflect", "symmetric", "wrap"]


def heat_of(boundary, value=0.0):
    @stencil(boundary=boundary, value=value, name=f"heat_{boundary}")
    def heat(u, i, j, c):
        """One explicit step of the heat equation."""
        return u[i, j] + c * (u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, 1 + j] - 4 * u[i, j])
    return heat


def by_hand(u, c, boundary, value=0.0):
    p = np.pad(u, 1, mode=boundary, **({"constant_values": value} if boundary == "constant" else {}))
    return u + c * (p[:-2, 1:-1] + p[2:, 1:-1] + p[1:-1, :-2] + p[1:-1, 2:] - 4 * u)


def grid(*shape, dtype="float64"):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("boundary", MODES)
def test_boundaries(boundary):
    heat = heat_of(boundary, 1.5)
    for shape in ((9, 7), (2, 5), (300, 200)):
        u = grid(*shape)
        np.testing.assert_allclose(heat(engine.from_numpy(u), 0.1).numpy(), by_hand(u, 0.1, boundary, 1.5), rtol=1e-12, atol=1e-12)
    u = engine.from_numpy(grid(6, 8)).T
    np.testing.assert_allclose(heat(u, 0.2).numpy(), by_hand(u.numpy(), 0.2, boundary, 1.5), rtol=1e-12, atol=1e-12)
    wide = engine.from_numpy(grid(12, 10))[::2, ::3]
    np.testing.assert_allclose(heat(wide, 0.2).numpy(), by_hand(wide.numpy(), 0.2, boundary, 1.5), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("boundary", MODES)
def test_derivatives(boundary):
    heat = heat_of(boundary)
    u, c = engine.from_numpy(grid(4, 3)).requires_grad_(), engine.tensor(0.3, dtype=engine.float64, requires_grad=True)
    assert gradcheck(heat, (u, c))
    if boundary in ("wrap", "constant"):
        assert gradgradcheck(heat, (u, c))


@stencil(boundary="valid")
def slope(u, i):
    return (u[i + 1] - u[i - 2]) / 3


@stencil(boundary="wrap")
def upwind(u, v, i, dt):
    """Advection with a branch on the velocity."""
    if v[i] > 0:
        return u[i] - dt * v[i] * (u[i] - u[i - 1])
    return u[i] - dt * v[i] * (u[i + 1] - u[i])


@stencil(boundary="edge")
def corner(u, i, j, k):
    return u[i + 1, j + 1, k - 1] * 2 - u[i, j, k + 2]


def test_valid_shrinks():
    u = grid(10)
    np.testing.assert_allclose(slope(engine.from_numpy(u)).numpy(), (u[3:] - u[:-3]) / 3, rtol=1e-14)
    assert slope(engine.ones(3)).shape == (0,) and slope(engine.ones(1)).shape == (0,)
    assert gradcheck(slope, (engine.from_numpy(u).requires_grad_(),))


def test_two_arrays_branches_and_parameters_that_broadcast():
    u, v, dt = grid(9), grid(9) + 0.2, np.linspace(0.1, 0.3, 9)
    wanted = np.where(v > 0, u - dt * v * (u - np.roll(u, 1)), u - dt * v * (np.roll(u, -1) - u))
    tensors = [engine.from_numpy(x) for x in (u, v, dt)]
    np.testing.assert_allclose(upwind(*tensors).numpy(), wanted, rtol=1e-13)
    assert gradcheck(upwind, tuple(t.requires_grad_() for t in tensors))


def test_three_dimensions_and_uneven_reach():
    u = grid(4, 5, 6)
    p = np.pad(u, ((0, 1), (0, 1), (1, 2)), mode="edge")
    wanted = p[1:5, 1:6, 0:6] * 2 - p[0:4, 0:5, 3:9]
    np.testing.assert_allclose(corner(engine.from_numpy(u)).numpy(), wanted, rtol=1e-14)


def test_dtypes_out_and_empty():
    heat = heat_of("constant")
    assert heat(engine.ones(3, 4, dtype=engine.int64), 0.25).dtype is engine.float32
    assert heat(engine.ones(3, 4, dtype=engine.float16), 0.25).dtype is engine.float16
    assert heat(engine.ones(0, 4), 0.25).shape == (0, 4)
    out = engine.empty(3, 4)
    assert heat(engine.ones(3, 4), 0.25, out=out) is out and out[1, 1].item() == 1.0 and out[0, 0].item() == 0.5
    assert heat(engine.ones(1, 1), 0.25).item() == 0.0


def test_steps_compile_and_differentiate():
    heat = heat_of("wrap")
    u = engine.from_numpy(grid(8, 8))

    def energy(u):
        for _ in range(3):
            u = heat(u, 0.1)
        return (u * u).sum()
    np.testing.assert_allclose(engine.func.grad(engine.compile(energy))(u).numpy(), engine.func.grad(energy)(u).numpy(), rtol=1e-12)
    t = engine.from_numpy(grid(8, 8) + 1)
    _, tangent = engine.func.jvp(lambda u: heat(u, 0.1), (u,), (t,))
    np.testing.assert_allclose(tangent.numpy(), by_hand(t.numpy(), 0.1, "wrap"), rtol=1e-12, atol=1e-12)


def test_what_does_not_fit_is_said():
    heat = heat_of("reflect")
    with pytest.raises(ValueError, match="boundary must be one of"):
        stencil(lambda u, i: u[i], boundary="sideways")
    with pytest.raises(TypeError, match="may only stand in an index"):
        @stencil
        def uses_index(u, i):
            return u[i] * i
    with pytest.raises(TypeError, match=r"an index must be `i`"):
        @stencil
        def scaled(u, i):
            return u[2 * i]
    with pytest.raises(TypeError, match="first parameters are arrays"):
        @stencil
        def nothing(u, i):
            return u + i
    with pytest.raises(TypeError, match="2 indices are needed"):
        @stencil
        def ragged(u, i, j):
            return u[i, j] + u[i]
    with pytest.raises(RuntimeError, match="arrays of 2 dimensions"):
        heat(engine.ones(3), 0.1)
    with pytest.raises(RuntimeError, match="at least 2 elements along dimension 0"):
        heat(engine.ones(1, 5), 0.1)
    with pytest.raises(TypeError, match="takes 2 operands"):
        heat(engine.ones(3, 3))


@pytest.mark.usefixtures("clean_book")
def test_the_books_own_checks_take_stencils():
    @stencil(boundary="wrap")
    def steepness(u, i):
        return (u[i + 1] - u[i - 1]) * u[i]
    check_operator(steepness, like=lambda u: (np.roll(u, -1) - np.roll(u, 1)) * u, tol=4,
                   samples=lambda rng, dtype: [([rng.standard_normal(5).astype(dtype)], {})])
