"""Function transforms: gradients, products with Jacobians, Jacobians and Hessians, nesting, modules, against formulas in NumPy."""
from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import engine
from engine import func, nn


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


@pytest.fixture
def x():
    return engine.tensor([0.5, -1.5, 2.0], dtype=engine.float64)


def same(seen, expected, **options):
    assert not seen.requires_grad
    np.testing.assert_allclose(seen.numpy(), expected, rtol=1e-10, atol=1e-12, **options)


# --- reverse mode -----------------------------------------------------------------------------------------------------

def test_grad_value_and_grad_and_aux(x):
    v = x.numpy()
    f = lambda x: (x ** 3).sum()
    same(func.grad(f)(x), 3 * v ** 2)
    value, gradient = func.value_and_grad(f)(x)
    same(value, (v ** 3).sum())
    same(gradient, 3 * v ** 2)
    gradient, value = func.grad_and_value(f)(x)
    same(gradient, 3 * v ** 2)
    with_aux = lambda x: (f(x), {"twice": x * 2, "name": "aux"})
    gradient, aux = func.grad(with_aux, has_aux=True)(x)
    same(gradient, 3 * v ** 2)
    same(aux["twice"], 2 * v)
    assert aux["name"] == "aux"
    (value, aux), gradient = func.value_and_grad(with_aux, has_aux=True)(x)
    same(value, (v ** 3).sum())
    gradient, (value, aux) = func.grad_and_value(with_aux, has_aux=True)(x)
    same(gradient, 3 * v ** 2)
    assert x.grad is None and not x.requires_grad


def test_argnums(x):
    y = x + 1
    f = lambda a, b, k=1.0: (a * b).sum() * k
    same(func.grad(f)(x, y), y.numpy())
    same(func.grad(f, argnums=1)(x, y), x.numpy())
    same(func.grad(f, argnums=-1)(x, y, k=3.0), 3 * x.numpy())
    first, second = func.grad(f, argnums=(1, 0))(x, y)
    same(first, x.numpy())
    same(second, y.numpy())


def test_nested_arguments(x):
    @dataclasses.dataclass
    class Pair:
        a: object
        b: object
    f = lambda t: (t["w"][0] * t["w"][1]).sum() + t["p"].a.sum() * 2
    got = func.grad(f)({"w": [x, x + 1], "p": Pair(x, x)})
    same(got["w"][0], x.numpy() + 1)
    same(got["w"][1], x.numpy())
    same(got["p"].a, np.full(3, 2.0))
    same(got["p"].b, np.zeros(3))


def test_vjp(x):
    (out, _twice), pull = func.vjp(lambda a: (a ** 2, a * 2), x)
    same(out, x.numpy() ** 2)
    got, = pull((x, x))
    same(got, 2 * x.numpy() ** 2 + 2 * x.numpy())
    same(pull((x, x))[0], got.numpy())                  # again
    out, pull, aux = func.vjp(lambda a, b: (a * b, a + b), x, x + 1, has_aux=True)
    left, right = pull(x)
    same(left, x.numpy() * (x.numpy() + 1))
    same(right, x.numpy() ** 2)
    same(aux, 2 * x.numpy() + 1)


@pytest.mark.parametrize("call, error, text", [
    (lambda x: func.grad(lambda a: a)(x), RuntimeError, "Expected f.* to return a scalar Tensor, got tensor with 1 dims"),
    (lambda x: func.grad(lambda a: 3.0)(x), RuntimeError, "Expected f.* to return a Tensor, got <class 'float'>"),
    (lambda x: func.grad(lambda a: a.sum(), argnums=1)(x), RuntimeError, "Got argnum=1, but only 1 positional inputs"),
    (lambda x: func.grad(lambda a: a.sum(), argnums=-2)(x), RuntimeError, "Got argnum=-2"),
    (lambda x: func.grad(lambda a: a.sum(), argnums=())(x), RuntimeError, "argnums must be non-empty"),
    (lambda x: func.grad(lambda a: a.sum(), argnums="a")(x), RuntimeError, "argnums must be int or Tuple"),
    (lambda x: func.grad(lambda a, b: a.sum(), argnums=(0, 0))(x, x), RuntimeError, "argnums elements must be unique"),
    (lambda x: func.grad(lambda a: a.sum(), has_aux=True)(x), RuntimeError, r"should be a tuple: \(output, aux\)"),
    (lambda x: func.grad(lambda a: a.sum())(3.0), ValueError, "Thing passed to transform API must be Tensor"),
    (lambda x: func.grad(lambda a: a.sum())(x.long()), RuntimeError, "only Tensors of floating point dtype can require gradients"),
    (lambda x: func.vjp(lambda a: 3.0, x), RuntimeError, "expected f.* to return only tensors, got unsupported type"),
    (lambda x: func.vjp(lambda a: None, x), RuntimeError, "non-empty output"),
    (lambda x: func.vjp(lambda a: a > 0, x), RuntimeError, "All outputs of f must be floating-point or complex"),
    (lambda x: func.vjp(lambda a: (a, a), x)[1](x), RuntimeError, "Expected pytree structure of cotangents"),
    (lambda x: func.vjp(lambda a: a * 2, x)[1](x[:2]), RuntimeError, "Mismatch in shape"),
    (lambda x: func.jvp(lambda a: a, x, x), RuntimeError, "Expected primals to be a tuple"),
    (lambda x: func.jvp(lambda a: a, (x,), (x, x)), RuntimeError, "same python structure"),
    (lambda x: func.jvp(lambda a: a, (x,), (x[:2],)), RuntimeError, "has a different size than that of the original Tensor"),
    (lambda x: func.jvp(lambda a: a, (3.0,), (3.0,)), RuntimeError, "Expected primals to only contain Tensors"),
    (lambda x: func.jvp(lambda a: a, (x.long(),), (x.long(),)), ValueError, "Expected primal to be floating point or complex"),
    (lambda x: func.jvp(lambda a: engine.ones(2), (x,), (x,), strict=True), RuntimeError, "independent of the inputs"),
    (lambda x: func.linearize(lambda a: a, x)[1](x.float()), RuntimeError, "doesn't match the dtype"),
    (lambda x: func.linearize(lambda a: a, x)[1](x, x), RuntimeError, "same argspec as the primals"),
    (lambda x: func.jacrev(lambda a: a, chunk_size=0), ValueError, "should be greater than 0"),
    (lambda x: func.jacrev(lambda a: a)(x + 1j), RuntimeError, "Expected all inputs to be real"),
    (lambda x: func.jacfwd(lambda a: a, randomness="often")(x), RuntimeError, "Only allowed values for randomness"),
])
def test_errors(x, call, error, text):
    with pytest.raises(error, match=text):
        call(x)


# --- Jacobians and Hessians -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("transform", [func.jacrev, func.jacfwd])
def test_jacobians(x, transform):
    v = x.numpy()
    g = lambda x: engine.stack([x[0] * x[1], x[2].sin(), x.sum(), (x ** 2).sum()])
    expected = np.array([[v[1], v[0], 0], [0, 0, np.cos(v[2])], [1, 1, 1], 2 * v])
    same(transform(g)(x), expected)
    a, b = transform(lambda a, b: {"u": (a * 2, b * a)}, argnums=(0, 1))(x, x + 1)["u"]
    same(a[0], 2 * np.eye(3))
    same(a[1], np.zeros((3, 3)))
    same(b[0], np.diag(v + 1))
    same(b[1], np.diag(v))
    jacobian, aux = transform(lambda a: (a * a, a), has_aux=True)(x)
    same(jacobian, np.diag(2 * v))
    same(aux, v)
    assert transform(lambda a: a.outer(a))(x).shape == (3, 3, 3)
    assert transform(lambda a: a)(engine.zeros(0)).shape == (0, 0)


def test_hessian_and_hvp(x):
    v = x.numpy()
    expected = np.zeros((3, 3))
    for i in range(2):
        expected[i, i] += 1200 * v[i] ** 2 - 400 * v[i + 1] + 2
        expected[i + 1, i + 1] += 200
        expected[i, i + 1] = expected[i + 1, i] = -400 * v[i]
    same(func.hessian(rosenbrock)(x), expected)
    for outer in (func.jacrev, func.jacfwd):
        for inner in (func.jacrev, func.jacfwd, func.grad):
            same(outer(inner(rosenbrock))(x), expected)
    d = np.array([0.3, 1.0, -2.0])
    same(func.hvp(rosenbrock, (x,), (engine.from_numpy(d),)), expected @ d)


# --- nesting ----------------------------------------------------------------------------------------------------------

def derivative_forward(f):
    return lambda t: func.jvp(f, (t,), (engine.ones_like(t),))[1]


@pytest.mark.parametrize("outer", [func.grad, derivative_forward])
@pytest.mark.parametrize("inner", [func.grad, derivative_forward])
def test_levels_do_not_mix(outer, inner):
    """d/dx (x * d/dy (x + y)) is 1, not 2: the perturbations must be told apart (Siskind and Pearlmutter, 2005)."""
    one = engine.tensor(1.0, dtype=engine.float64)
    two = one * 2
    same(outer(lambda x: x * inner(lambda y: x + y)(one))(one), 1.0)
    same(outer(lambda x: x * inner(lambda y: x * y)(two))(two), 4.0)
    same(outer(lambda x: inner(lambda y: x * y * y)(x))(two), 8.0)                  # d/dx 2 x^2
    same(outer(inner(lambda t: t ** 3))(two), 12.0)
    same(outer(outer(inner(engine.exp)))(one), np.e)


def test_a_product_of_functions_with_a_leaked_level():
    """Perturbation confusion through a returned function (Manzyuk et al., 2019): D of a curried shift, applied twice."""
    at = lambda v: engine.tensor(v, dtype=engine.float64)
    shift = lambda u: lambda f: lambda z: f(z + u)
    bumped = lambda f: lambda z: derivative_forward(lambda u: shift(u)(f)(z))(at(0.0))
    same(bumped(bumped(engine.exp))(at(1.0)), np.e)
    same(bumped(bumped(lambda z: z ** 3))(at(2.0)), 12.0)


def test_closures_keep_their_history(x):
    w = engine.tensor([3.0, 4.0, 5.0], dtype=engine.float64, requires_grad=True)
    v = x.numpy()
    f = lambda x: (x * x * w).sum()
    gradient = func.grad(f)(x)
    gradient.sum().backward()
    np.testing.assert_allclose(w.grad.numpy(), 2 * v)
    _value, tangent = func.jvp(f, (x,), (engine.ones_like(x),))
    np.testing.assert_allclose(engine.autograd.grad(tangent, w)[0].numpy(), 2 * v)
    np.testing.assert_allclose(engine.autograd.grad(func.jacrev(lambda x: x * w)(x).sum(), w)[0].numpy(), np.ones(3))
    np.testing.assert_allclose(engine.autograd.grad(func.grad(lambda w: (w ** 3).sum())(w).sum(), w)[0].numpy(),
                               6 * w.detach().numpy())
    with engine.no_grad():
        same(func.grad(f)(x), 2 * v * w.detach().numpy())
        same(func.jvp(f, (x,), (x,))[1], 2 * v ** 2 @ w.detach().numpy())
    with engine.inference_mode():
        np.testing.assert_allclose(func.grad(f)(x).tolist(), 2 * v * w.detach().numpy())
    assert not func.grad(lambda x: (x ** 2).sum())(x).requires_grad


def test_data_dependent_branches(x):
    f = lambda x: (x ** 2).sum() if x.sum() > 0 else x.sum()
    same(func.grad(f)(x), 2 * x.numpy())
    same(func.grad(f)(-x), np.ones(3))


# --- modules ----------------------------------------------------------------------------------------------------------

def test_functional_call(x):
    net = nn.Linear(3, 1, dtype=engine.float64)
    w, b = engine.ones(1, 3, dtype=engine.float64), engine.zeros(1, dtype=engine.float64)
    before = net.weight
    same(func.functional_call(net, {"weight": w, "bias": b}, (x,)), [x.numpy().sum()])
    assert net.weight is before
    same(func.functional_call(net, ({"weight": w}, {"bias": b}), x), [x.numpy().sum()])
    same(func.functional_call(net, {"weight": w, "bias": b}, None, {"input": x}), [x.numpy().sum()])
    gradient = func.grad(lambda p: func.functional_call(net, p, (x,)).sum())({"weight": w, "bias": b})
    same(gradient["weight"], x.numpy()[None])
    with pytest.raises(RuntimeError, match=r"Unexpected key.*'foo'.*\n.*Missing key.*'bias'"):
        func.functional_call(net, {"weight": w, "foo": b}, (x,), strict=True)
    with pytest.raises(ValueError, match="appeared in multiple dictionaries"):
        func.functional_call(net, [{"weight": w}, {"weight": w}], (x,))
    with pytest.raises(ValueError, match="Expected parameter_and_buffer_dicts to be a dict"):
        func.functional_call(net, 3, (x,))
    with pytest.raises(TypeError, match="is not an instance of"):
        func.functional_call(net, {"weight": 3}, (x,))


def test_tied_weights(x):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Parameter(engine.ones(3, dtype=engine.float64))
            self.b = self.a

        def forward(self, x):
            return (self.a * x).sum() + (self.b * x).sum()
    net, twos = Tied(), engine.full((3,), 2.0, dtype=engine.float64)
    np.testing.assert_allclose(func.functional_call(net, {"a": twos}, (x,)).item(), 4 * x.numpy().sum())
    np.testing.assert_allclose(func.functional_call(net, {"a": twos}, (x,), tie_weights=False).item(), 3 * x.numpy().sum())


def test_stack_module_state():
    models = [nn.Linear(2, 1) for _ in range(3)]
    parameters, buffers = func.stack_module_state(models)
    assert parameters["weight"].shape == (3, 1, 2) and parameters["weight"].requires_grad and not buffers
    np.testing.assert_array_equal(parameters["weight"][1].detach().numpy(), models[1].weight.detach().numpy())
    with pytest.raises(RuntimeError, match="at least one model"):
        func.stack_module_state([])
    with pytest.raises(RuntimeError, match="same class"):
        func.stack_module_state([models[0], nn.ReLU()])
    with pytest.raises(RuntimeError, match="same training/eval mode"):
        func.stack_module_state([models[0], nn.Linear(2, 1).eval()])


# --- engine.autograd.functional -----------------------------------------------------------------------------------------

F = engine.autograd.functional


def test_functional_derivatives(x):
    v = x.numpy()
    expected = func.hessian(rosenbrock)(x).numpy()
    for strategy in ("reverse-mode", "forward-mode"):
        same(F.jacobian(lambda a: a ** 2, x, strategy=strategy, vectorize=True), np.diag(2 * v))
        same(F.hessian(rosenbrock, x, outer_jacobian_strategy=strategy, vectorize=True), expected)
    (aa, ab), (_ba, bb) = F.hessian(lambda a, b: (a ** 2 * b).sum(), (x, x + 1))
    same(aa, np.diag(2 * (v + 1)))
    same(ab, np.diag(2 * v))
    same(bb, np.zeros((3, 3)))
    same(F.hvp(rosenbrock, x, x)[1], expected @ v)
    same(F.vhp(rosenbrock, x, x)[1], v @ expected)
    _out, product = F.vjp(lambda a, b: a * b, (x, x + 1), x)
    same(product[0], v * (v + 1))
    same(product[1], v * v)
    _out, product = F.jvp(lambda a: (a ** 2, a.sum()), x, x)
    same(product[0], 2 * v * v)
    same(product[1], v.sum())
    leaf = x.clone().requires_grad_()
    assert F.jacobian(lambda a: a ** 3, leaf, create_graph=True).requires_grad
    gradient, = engine.autograd.grad(F.hessian(lambda a: (a ** 3).sum(), leaf, create_graph=True).sum(), leaf)
    np.testing.assert_allclose(gradient.numpy(), np.full(3, 6.0))


@pytest.mark.parametrize("call, error, text", [
    (lambda x: F.vjp(lambda a: a * 2, x), RuntimeError, "The vector v can only be None if"),
    (lambda x: F.jvp(lambda a: a * 2, x), RuntimeError, "The vector v can only be None if"),
    (lambda x: F.vjp(lambda a: a * 2, x, x[:2]), RuntimeError, "has invalid size"),
    (lambda x: F.vjp(lambda a: a * 2, x, (x, x)), RuntimeError, "tuple of invalid length"),
    (lambda x: F.vjp(lambda a: 3.0, x, x), TypeError, "must be either a Tensor or a tuple of Tensors"),
    (lambda x: F.jacobian(lambda a: a, 3.0), TypeError, "must be either a Tensor or a tuple of Tensors"),
    (lambda x: F.hessian(lambda a: a * 2, x), RuntimeError, "should contain a single element"),
    (lambda x: F.jacobian(lambda a: engine.ones(2), x, strict=True), RuntimeError, "strict mode"),
    (lambda x: F.jacobian(lambda a: a, x, strategy="sideways"), AssertionError, "Expected strategy"),
])
def test_functional_errors(x, call, error, text):
    with pytest.raises(error, match=text):
        call(x)


@pytest.mark.parametrize("name", ["vjp", "jvp", "jacobian", "hessian", "hvp", "vhp"])
def test_strict_refuses_what_does_not_depend(name):
    f = getattr(engine.autograd.functional, name)
    x, y = engine.tensor([1.0, 2.0], dtype=engine.float64), engine.tensor([3.0, 4.0], dtype=engine.float64)
    vector = {} if name in ("jacobian", "hessian") else {"v": engine.tensor(1.0, dtype=engine.float64) if name == "vjp" else (x, y)}
    f(lambda x, y: (x * y).sum() * (x + y).sum(), (x, y), strict=True, **vector)
    f(lambda x, y: (x * x).sum(), (x, y), **vector)                 # zeros, unless strict
    with pytest.raises(RuntimeError, match="does not require gradients"):
        f(lambda x, y: engine.tensor(1.0), (x, y), strict=True, **vector)
    with pytest.raises(RuntimeError, match="independent of input 1"):
        f(lambda x, y: (x * x).sum(), (x, y), strict=True, **vector)
    if name in ("hessian", "hvp", "vhp"):
        with pytest.raises(RuntimeError, match="jacobian of the user-provided function is independent of input 1"):
            f(lambda x, y: (x * x).sum() + y.sum(), (x, y), strict=True, **vector)
