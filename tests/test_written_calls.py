"""Calls of users' kernels: value and derivatives in one pass, several results at once, inside solvers, ended by Ctrl-C."""
from __future__ import annotations

import cmath
import math
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import engine
from engine import elementwise
from engine.optimize import least_squares, minimize, root
from kernels.cpu import native

pytestmark = pytest.mark.usefixtures("clean_book")


def babylon(x, n, y):
    """sqrt(x y) by n steps."""
    guess = x
    for _ in range(n):
        guess = 0.5 * (guess + x * y / guess)
    return guess


@pytest.fixture
def op():
    return elementwise(babylon, name="my_babylon", nondifferentiable="n")


def leaf(*values):
    return engine.tensor(values, dtype=engine.float64, requires_grad=True)


@pytest.fixture
def programs():
    """The names of the programs that are loaded in a test."""
    seen: list[str] = []
    native.watchers.append(note := lambda program: seen.append(program.name))
    yield seen
    native.watchers.remove(note)


# --- one pass -----------------------------------------------------------------------------------------------------------

def test_a_recorded_call_of_a_loop_gives_its_derivatives(op, programs):
    x, y = leaf(2.0, 3.0), leaf(1.0, 4.0)
    r = op(x, 8, y)
    kept = r.grad_fn.saved
    assert len(kept) == 6           # the inputs, no result, the two derivatives
    np.testing.assert_allclose(kept[4].numpy(), 0.5 * np.sqrt(y.detach().numpy() / x.detach().numpy()))
    r.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), kept[4].numpy())
    np.testing.assert_allclose(y.grad.numpy(), 0.5 * np.sqrt(x.detach().numpy() / y.detach().numpy()))
    assert [p for p in programs if "babylon" in p] == ["my_babylon_101_float64"]        # one kernel in all
    assert len(op(x, 8, y.detach()).grad_fn.saved) == 5 and op(x.detach(), 8, y.detach()).grad_fn is None
    with engine.no_grad():
        assert op(x, 8, y).grad_fn is None


def test_what_runs_twice_and_what_does_not():
    """The rule: loops, or four calls of functions like exp (kernels.written.MUCH)."""
    cases = {"clip": (lambda x: x if x < 1 else 1 + math.log(x), False), "root": (lambda x: math.sqrt(abs(x)) / (1 + x * x), False),
             "three": (lambda x: math.exp(x) * math.sin(x) * math.cos(x), False),
             "four": (lambda x: math.exp(x) * math.sin(x) * math.cos(x) * math.erf(x), True), "loop": (_loop, True),
             "inside": (lambda x: _loop(x) + 1, True)}
    for name, (function, expected) in cases.items():
        made = elementwise(function, name=f"my_{name}")
        assert made.operator.heavy is expected, name
    stated = elementwise(_loop, name="my_stated", derivative=lambda x: x)
    assert not stated.operator.heavy


def _loop(x):
    for _ in range(3):
        x = x * x
    return x


def test_broadcasting_layouts_versions_and_hooks(op):
    a = np.linspace(0.5, 2, 12).reshape(3, 4)
    x, y = engine.tensor(a, requires_grad=True), leaf(1.0, 2.0, 0.5)
    op(x.t(), 9, y).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 0.5 * np.sqrt(y.detach().numpy()[:, None] / a))
    np.testing.assert_allclose(y.grad.numpy(), (0.5 * np.sqrt(a.T / y.detach().numpy())).sum(0))
    z = x.detach().requires_grad_() * 1
    r = op(z, 9, 2.0)
    z.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        r.sum().backward()
    r = op(x, 9, 2.0).sum()
    r.backward()
    with pytest.raises(RuntimeError, match="second time"):
        r.backward()
    packed = []
    with engine.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t.shape) or t.detach().clone(), lambda t: t):
        r = op(x, 9, 2.0)
    (found,) = engine.autograd.grad(r.sum(), x)
    np.testing.assert_allclose(found.numpy(), 0.5 * np.sqrt(2 / a))
    assert len(packed) == 4
    half = op(x.detach().half().requires_grad_(), 9, 2.0)
    assert len(half.grad_fn.saved) == 4          # no derivatives: they may be too large for half precision
    with pytest.raises(RuntimeError, match="size of tensor a"):
        op(leaf(1.0, 2.0), 3, y)


def test_large_and_empty_operands(op):
    x = engine.rand(300, 400, dtype=engine.float64).add_(0.5).t().requires_grad_()
    op(x, 9, 2.0).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 0.5 * np.sqrt(2 / x.detach().numpy()), rtol=1e-12)
    nothing = engine.zeros(0, 3, dtype=engine.float64, requires_grad=True)
    op(nothing, 2, 1.0).sum().backward()
    assert nothing.grad.shape == (0, 3)


def test_higher_orders_forward_mode_and_transforms(op):
    x, y = leaf(2.0, 3.0), leaf(1.0, 4.0)

    def own(a, b):
        return op(a, 9, b)
    assert engine.autograd.gradcheck(own, (x, y)) and engine.autograd.gradgradcheck(own, (x, y))
    a, b = x.detach(), y.detach()
    expected = 0.5 * np.sqrt(b.numpy() / a.numpy())
    with engine.no_grad():
        _, pushed = engine.func.jvp(lambda a: own(a, b), (a,), (engine.ones_like(a),))
    np.testing.assert_allclose(pushed.numpy(), expected)
    np.testing.assert_allclose(engine.func.grad(lambda a: own(a, b).sum())(a).numpy(), expected)
    np.testing.assert_allclose(engine.func.vmap(engine.func.grad(own), in_dims=(0, 0))(a, b).numpy(), expected)
    second = np.diag(-0.25 * np.sqrt(b.numpy()) * a.numpy() ** -1.5)
    np.testing.assert_allclose(engine.func.hessian(lambda a: own(a, b).sum())(a).numpy(), second, atol=1e-14)
    both = engine.compile(engine.func.value_and_grad(lambda a: own(a, b).sum()))
    value, slope = both(a)
    np.testing.assert_allclose(slope.numpy(), expected)
    assert value.item() == pytest.approx(np.sqrt(a.numpy() * b.numpy()).sum())
    assert "my_babylon_along_float64(" in both.source() and "my_babylon_float64(" not in both.source()     # one call gives both


def test_complex_numbers():
    def spiral(z, w):
        for _ in range(3):
            z = z * z * 0.3 + w * cmath.sin(z)
        return z
    op = elementwise(spiral, name="my_spiral")
    z = engine.tensor([0.3 + 0.2j, -0.1j], requires_grad=True, dtype=engine.complex128)
    w = engine.tensor([0.5j, 1.0], requires_grad=True, dtype=engine.complex128)
    assert len(op(z, w).grad_fn.saved) == 5 and engine.autograd.gradcheck(op, (z, w))


def test_several_results_in_one_pass(programs):
    def means(x, y):
        a, b = x, y
        for _ in range(5):
            a, b = 0.5 * (a + b), math.sqrt(a * b)
        return a, b * x, a > y
    op = elementwise(means, name="my_means")
    x, y = leaf(1.0, 4.0), leaf(2.0, 0.5)
    first, second, above = op(x, y)
    assert above.tolist() == [False, True] and not above.requires_grad
    engine.autograd.grad((first + second).sum(), (x, y))
    assert [p for p in programs if "means" in p] == ["my_means_11_float64"]
    assert engine.autograd.gradcheck(lambda a, b: op(a, b)[:2], (x, y))
    assert engine.autograd.gradgradcheck(lambda a, b: op(a, b)[1], (x, y))
    light = elementwise(lambda x, y: (x * y, x - y), name="my_light")
    u, v = light(x, y)
    assert [p for p in programs if "light" in p] == ["my_light_float64"] and len(u.grad_fn.saved) == 3
    assert engine.autograd.grad(u.sum() + (v * v).sum(), x)[0].tolist() == (y + 2 * (x - y)).tolist()
    compiled = engine.compile(lambda a, b: op(a, b)[0] + op(a, b)[1])
    np.testing.assert_allclose(compiled(x.detach(), y.detach()).numpy(), (first + second).detach().numpy())


def test_a_registered_kernel_gives_the_value(op):
    x, y = leaf(2.0), leaf(3.0)
    assert op(x, 9, y).item() == pytest.approx(math.sqrt(6))
    engine.dispatch.register("my_babylon", "cpu", lambda x, n, y: x + y)
    assert op(x, 9, y).item() == 5 and len(op(x, 9, y).grad_fn.saved) == 4
    engine.dispatch.table().unregister("my_babylon", "cpu")
    assert op(x, 9, y).item() == pytest.approx(math.sqrt(6))


def test_integers_alone_and_their_tests():
    op = elementwise(lambda n: n * 2.5, name="my_count", nondifferentiable="n")
    assert op(engine.tensor([1, 2])).tolist() == [2.5, 5] and op(engine.tensor([1, 2])).dtype is engine.get_default_dtype()
    with pytest.raises(TypeError, match="nondifferentiable takes names of parameters, not 3"):
        elementwise(lambda n: n, name="my_other", nondifferentiable=3)
    with pytest.raises(TypeError, match="derivative= of my_other takes functions, not int"):
        elementwise(lambda x: x, name="my_other", derivative=3)
    with pytest.raises(TypeError, match="must return numbers, not truth values"):
        elementwise(lambda x: x, name="my_other", derivative=lambda x: x > 1)


# --- inside solvers -----------------------------------------------------------------------------------------------------

def test_kernels_run_natively_inside_solvers(monkeypatch):
    """No request is left to Python: the objective has no reasons, and each request that was made has a table."""
    from engine.optimize import objective
    made: list = []
    start = objective.Objective.__init__

    def noted(self, *args, **kwargs):
        start(self, *args, **kwargs)
        made.append(self)
    monkeypatch.setattr(objective.Objective, "__init__", noted)
    well = elementwise(lambda x, a: (x - a) ** 2 if x < a else 3 * (x - a) ** 2 + (x - a) ** 4, name="my_well")
    cube = elementwise(lambda x: x ** 3 + x - 2 if x > 0 else x - 2, name="my_cube")
    turns = elementwise(babylon, name="my_turns", nondifferentiable="n")
    x0 = engine.tensor([3.0, -2.0], dtype=engine.float64)
    found = minimize(lambda x: well(x, 0.5).sum(), x0)
    np.testing.assert_allclose(found.x.numpy(), 0.5, atol=1e-4)
    found = minimize(lambda x: (turns(x, 20, 2.0) - 3).square().sum(), x0.abs())
    np.testing.assert_allclose(found.x.numpy(), 4.5, rtol=1e-5)
    assert least_squares(lambda x: cube(x), x0).x.numpy() == pytest.approx([1, 1])
    assert root(lambda x: cube(x), x0).x.numpy() == pytest.approx([1, 1])
    assert len(made) == 4
    for own in made:
        assert not own.reasons and any(own.tables.values())
        assert not any(c.eager for c in own.compiled.values())


# --- Ctrl-C -------------------------------------------------------------------------------------------------------------

ENDLESS = """
import os, signal, threading
import engine
from engine.optimize import least_squares, minimize

@engine.elementwise
def endless(x):
    y = x
    while x > 0:
        y = y + 1 if y < 10 else y - 1
    return y

@engine.reduction(start=0.0, map=lambda x: endless(x))
def total(a, b):
    return a + b

def run(what, call):
    call(-1.0)                      # compiled, and where it takes a table of launches made so
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    try:
        call(1.0)
        print(what, "ended")
    except KeyboardInterrupt as error:
        print(what, "stopped in one of its loops" in str(error), hasattr(error, "result"))

def tensor(first):
    return engine.tensor([first, -2.0], dtype=engine.float64)

compiled = engine.compile(engine.func.value_and_grad(lambda x: (endless(x) * 2).sum()))
run("compiled", lambda v: compiled(tensor(v)))
folded = engine.compile(lambda x: total(x * 2))
run("reduction", lambda v: folded(tensor(v)))
bowl = lambda x: (endless(x) + 3).square().sum()
run("minimize", lambda v: minimize(bowl, tensor(v)))
run("least squares", lambda v: least_squares(lambda x: endless(x) + 3, tensor(v)))
print(minimize(bowl, tensor(-1.0)).x.tolist())
"""


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to a process")
def test_loops_without_end_stop_inside_compiled_functions_and_solvers(tmp_path):
    program = tmp_path / "endless.py"
    program.write_text(textwrap.dedent(ENDLESS))
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(p for p in sys.path if p))
    done = subprocess.run([sys.executable, str(program)], env=env, capture_output=True, text=True, timeout=300)
    lines = done.stdout.splitlines()
    assert lines[:-1] == ["compiled True False", "reduction True False", "minimize True True",
                          "least squares True False"], done.stdout + done.stderr
    assert lines[-1] == "[-3.0, -3.0]"
