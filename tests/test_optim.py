"""Optimizers: update rules against formulas written here, L-BFGS on functions with known minima, state dicts, refusals."""
import copy
import math
import pickle

import numpy as np
import pytest

import engine
from engine import optim
from engine.optim import line_search
from engine.optim.lbfgs import two_loop
from engine.tensor import from_array

SCALE = np.array([0.4, 4.0])


def bowl(x):
    """0.2 x1^2 + 2 x2^2, whose gradient is SCALE * x."""
    return 0.2 * x[0] ** 2 + 2 * x[1] ** 2


def run_sgd(steps, **options):
    x = engine.tensor([6.0, -3.0], dtype=engine.float64, requires_grad=True)
    optimizer = optim.SGD([x], **options)
    path = []
    for _ in range(steps):
        optimizer.zero_grad()
        bowl(x).backward()
        optimizer.step()
        path.append(x.tolist())
    return path


def formula(steps, lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False):
    x, v, path = np.array([6.0, -3.0]), None, []
    for _ in range(steps):
        g = (-1 if maximize else 1) * SCALE * x + weight_decay * x
        if momentum:
            v = g if v is None else momentum * v + (1 - dampening) * g
            g = g + momentum * v if nesterov else v
        x = x - lr * g
        path.append(x.tolist())
    return path


@pytest.mark.parametrize("options", [
    {"lr": 0.1}, {"lr": 0.1, "momentum": 0.5}, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3},
    {"lr": 0.1, "momentum": 0.9, "nesterov": True}, {"lr": 0.1, "weight_decay": 0.2}, {"lr": 0.01, "maximize": True},
    {"lr": 0.05, "momentum": 0.8, "weight_decay": 0.1, "maximize": True},
])
def test_sgd_follows_its_formula(options):
    np.testing.assert_allclose(run_sgd(6, **options), formula(6, **options), rtol=1e-13)


def test_sgd_takes_lr_as_a_tensor_and_leaves_parameters_without_gradient():
    np.testing.assert_allclose(run_sgd(2, lr=engine.tensor(0.1, dtype=engine.float64)), formula(2, lr=0.1), rtol=1e-13)
    x, y = engine.ones(2, requires_grad=True), engine.ones(2, requires_grad=True)
    optimizer = optim.SGD([x, y], lr=1.0, momentum=0.9)
    x.sum().backward()
    optimizer.step()
    assert x.tolist() == [0, 0] and y.tolist() == [1, 1] and y not in optimizer.state


def test_step_calls_the_closure_while_recording_and_returns_its_loss():
    x = engine.tensor([1.0, 1.0], requires_grad=True)
    optimizer = optim.SGD([x], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = bowl(x)
        loss.backward()
        return loss
    with engine.no_grad():
        assert optimizer.step(closure).item() == pytest.approx(2.2)
    assert x.tolist() == pytest.approx([0.96, 0.6])


def test_parameter_groups_have_options_of_their_own():
    x, y, z = (engine.ones(1, requires_grad=True) for _ in range(3))
    optimizer = optim.SGD([{"params": [x]}, {"params": y, "lr": 0.5}], lr=0.1)
    optimizer.add_param_group({"params": [z], "lr": 0.25})
    (x + y + z).sum().backward()
    optimizer.step()
    assert (x.item(), y.item(), z.item()) == pytest.approx((0.9, 0.5, 0.75))
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.5, 0.25]
    assert repr(optimizer).startswith("SGD (\nParameter Group 0\n    dampening: 0\n") and "    lr: 0.25\n" in repr(optimizer)
    named = optim.SGD([("first", x), ("second", y)], lr=0.1)
    assert named.param_groups[0]["param_names"] == ["first", "second"]


def test_zero_grad():
    x = engine.ones(2, requires_grad=True)
    optimizer = optim.SGD([x], lr=0.1)
    x.sum().backward()
    kept = x.grad
    optimizer.zero_grad(set_to_none=False)
    assert x.grad is kept and kept.tolist() == [0, 0]
    optimizer.zero_grad()
    assert x.grad is None


def test_state_dict_round_trip():
    def make():
        x = engine.tensor([6.0, -3.0], dtype=engine.float64, requires_grad=True)
        return x, optim.SGD([x], lr=0.1, momentum=0.9)

    def advance(x, optimizer, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            bowl(x).backward()
            optimizer.step()
    x, first = make()
    advance(x, first, 3)
    saved = first.state_dict()
    assert saved["param_groups"] == [{
        "lr": 0.1, "momentum": 0.9, "dampening": 0, "weight_decay": 0, "nesterov": False, "maximize": False, "foreach": None,
        "differentiable": False, "fused": None, "params": [0]}]
    assert list(saved["state"]) == [0] and list(saved["state"][0]) == ["momentum_buffer"]
    saved = pickle.loads(pickle.dumps(saved))
    y, second = make()
    with engine.no_grad():
        y.copy_(x)
    second.load_state_dict(saved)
    assert second.state[y]["momentum_buffer"].data_ptr() != saved["state"][0]["momentum_buffer"].data_ptr()
    advance(x, first, 3)
    advance(y, second, 3)
    assert x.tolist() == y.tolist()


def test_state_takes_the_dtype_of_its_parameter():
    x = engine.ones(2, requires_grad=True)
    a = optim.SGD([x], lr=0.1, momentum=0.5)
    x.sum().backward()
    a.step()
    y = engine.ones(2, dtype=engine.float64, requires_grad=True)
    b = optim.SGD([y], lr=0.1, momentum=0.5)
    b.load_state_dict(a.state_dict())
    assert b.state[y]["momentum_buffer"].dtype is engine.float64


def test_hooks_run_around_the_step():
    x = engine.ones(1, requires_grad=True)
    optimizer = optim.SGD([x], lr=0.1)
    seen = []
    before = optimizer.register_step_pre_hook(lambda o, a, k: seen.append("before"))
    optimizer.register_step_post_hook(lambda o, a, k: seen.append("after"))
    optimizer.step()
    before.remove()
    optimizer.step()
    assert seen == ["before", "after", "after"]


def test_what_optimizers_refuse():
    x = engine.ones(2, requires_grad=True)
    for make, error, words in [
            (lambda: optim.SGD(x), TypeError, "should be an iterable of Tensors or dicts, but got engine.FloatTensor"),
            (lambda: optim.SGD([]), ValueError, "optimizer got an empty parameter list"),
            (lambda: optim.SGD([3]), TypeError, "optimizer can only optimize Tensors, but one of the params is int"),
            (lambda: optim.SGD([x * 2]), ValueError, "can't optimize a non-leaf Tensor"),
            (lambda: optim.SGD([{"params": {x}}]), TypeError, "organized in ordered collections"),
            (lambda: optim.SGD([{"params": [x]}, {"params": [x]}]), ValueError, "appear in more than one parameter group"),
            (lambda: optim.SGD([x, ("name", x)]), ValueError, "Some param names are missing"),
            (lambda: optim.SGD([x]).add_param_group([x]), TypeError, "param_group must be a dict"),
            (lambda: optim.SGD([x], lr=-1), ValueError, "Invalid learning rate: -1"),
            (lambda: optim.SGD([x], lr=math.nan), ValueError, "Invalid learning rate: nan"),
            (lambda: optim.SGD([x], lr=engine.ones(2)), ValueError, "Tensor lr must be 1-element"),
            (lambda: optim.SGD([x], momentum=-1), ValueError, "Invalid momentum value: -1"),
            (lambda: optim.SGD([x], weight_decay=-1), ValueError, "Invalid weight_decay value: -1"),
            (lambda: optim.SGD([x], nesterov=True), ValueError, "Nesterov momentum requires a momentum and zero dampening"),
            (lambda: optim.LBFGS([x], lr=-1), ValueError, "Invalid learning rate: -1"),
            (lambda: optim.LBFGS([{"params": [x]}, {"params": [engine.ones(1)]}]), ValueError,
             "LBFGS doesn't support per-parameter options"),
            (lambda: optim.LBFGS([x], line_search_fn="armijo").step(lambda: (x * x).sum()), RuntimeError,
             "only 'strong_wolfe' is supported")]:
        with pytest.raises(error, match=words):
            make()
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optim.SGD([x, x])
    optimizer = optim.SGD([x])
    other = optim.SGD([{"params": [engine.ones(1)]}, {"params": [engine.ones(1)]}])
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optimizer.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match="doesn't match the size of optimizer's group"):
        optimizer.load_state_dict(optim.SGD([engine.ones(1), engine.ones(1)]).state_dict())


# --- L-BFGS -----------------------------------------------------------------------------------------------------------

def minimise(f, start, steps=1, **options):
    x = engine.tensor(start, dtype=engine.float64, requires_grad=True)
    optimizer = optim.LBFGS([x], **options)
    values = []

    def closure():
        optimizer.zero_grad()
        value = f(x)
        value.backward()
        values.append(value.item())
        return value
    for _ in range(steps):
        optimizer.step(closure)
    return x, values, optimizer


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_lbfgs_solves_a_quadratic(search, rng):
    a = rng.normal(size=(6, 6))
    a = a @ a.T + np.eye(6)
    b = rng.normal(size=6)
    A, B = from_array(a), from_array(b)
    x, values, optimizer = minimise(lambda x: 0.5 * x.dot(A.mv(x)) - B.dot(x), [0.0] * 6, max_iter=100, line_search_fn=search)
    np.testing.assert_allclose(x.detach().numpy(), np.linalg.solve(a, b), rtol=1e-4, atol=1e-5)
    assert optimizer.state[x]["func_evals"] == len(values)


def test_lbfgs_on_rosenbrock_in_many_dimensions():
    def f(x):
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()
    x, values, _ = minimise(f, [-1.2, 1.0] * 5, max_iter=200, max_eval=400, line_search_fn="strong_wolfe")
    np.testing.assert_allclose(x.detach().numpy(), 1, atol=1e-6)
    assert len(values) < 150


def test_lbfgs_keeps_no_more_pairs_than_its_history():
    def f(x):
        return (x ** 4).sum() + (x[0] - x[1]) ** 2
    _, _, optimizer = minimise(f, [1.0, 2.0, 3.0], max_iter=12, history_size=3, line_search_fn="strong_wolfe")
    (state,) = optimizer.state.values()
    assert len(state["old_dirs"]) == len(state["old_stps"]) == len(state["ro"]) == 3
    copied = copy.deepcopy(optimizer.state_dict())
    optimizer.load_state_dict(copied)
    assert optimizer.state_dict()["state"][0]["n_iter"] == state["n_iter"]


def test_lbfgs_ends_at_its_limits():
    f = lambda x: ((x - 1) ** 4).sum()
    _, values, _ = minimise(f, [4.0, 2.0], max_iter=3)
    assert len(values) == 3                                         # the value after the last iteration is not computed
    _, values, _ = minimise(f, [4.0, 2.0], max_iter=50, max_eval=7)
    assert len(values) == 7
    _, values, _ = minimise(f, [1.0, 1.0], max_iter=50)
    assert len(values) == 1                                         # the gradient is zero at the start
    assert minimise(f, [4.0, 2.0], max_iter=20)[2].param_groups[0]["max_eval"] == 25


def test_lbfgs_leaves_a_region_where_the_function_is_nan():
    f = lambda x: (x - engine.log(x)).sum()                         # NaN below 0; minimum 1 at x = 1
    x, _, _ = minimise(f, [8.0, 0.2], steps=3, line_search_fn="strong_wolfe")
    np.testing.assert_allclose(x.detach().numpy(), 1, atol=1e-5)


def test_lbfgs_takes_several_parameters_of_any_shape_and_complex_ones():
    x = engine.zeros(2, 2, dtype=engine.float64, requires_grad=True)
    z = engine.zeros(3, dtype=engine.complex128, requires_grad=True)
    unused = engine.ones(1, dtype=engine.float64, requires_grad=True)
    optimizer = optim.LBFGS([x, z, unused], line_search_fn="strong_wolfe")
    target = engine.tensor([1 + 2j, -1j, 3], dtype=engine.complex128)

    def closure():
        optimizer.zero_grad()
        d = z - target
        loss = ((x - 2) ** 2).sum() + (d * d.conj()).real.sum()
        loss.backward()
        return loss
    optimizer.step(closure)
    np.testing.assert_allclose(x.detach().numpy(), 2, atol=1e-8)
    np.testing.assert_allclose(z.detach().numpy(), target.numpy(), atol=1e-8)
    assert unused.item() == 1


def test_two_loop_is_dense_bfgs(rng):
    """The recursion against H <- (I - rho s y') H (I - rho y s') + rho s s' (Nocedal and Wright 2006, equation 7.16)."""
    n = 5
    pairs = []
    a = rng.normal(size=(n, n))
    a = a @ a.T + np.eye(n)
    for _ in range(3):
        s = rng.normal(size=n)
        pairs.append((s, a @ s))
    h = 0.7 * np.eye(n)
    for s, y in pairs:
        rho = 1 / (y @ s)
        v = np.eye(n) - rho * np.outer(y, s)
        h = v.T @ h @ v + rho * np.outer(s, s)
    q = rng.normal(size=n)
    seen = two_loop(from_array(q), [from_array(s) for s, _ in pairs], [from_array(y) for _, y in pairs],
                    [1 / (y @ s) for s, y in pairs], 0.7)
    np.testing.assert_allclose(seen.numpy(), h @ q, rtol=1e-10)


# --- the line search --------------------------------------------------------------------------------------------------

FUNCTIONS = [
    (lambda t: (t - 3) ** 2, lambda t: 2 * (t - 3)),
    (lambda t: math.cos(t) + 0.01 * t * t, lambda t: -math.sin(t) + 0.02 * t),
    (lambda t: math.exp(-t) + 1e-3 * math.exp(t), lambda t: -math.exp(-t) + 1e-3 * math.exp(t)),
    (lambda t: -t / (t * t + 2), lambda t: (t * t - 2) / (t * t + 2) ** 2),      # More and Thuente 1994, function 5.1
]


@pytest.mark.parametrize("f, slope", FUNCTIONS)
@pytest.mark.parametrize("first", [1e-3, 0.1, 1.0, 10.0, 1e3])
def test_the_search_meets_the_strong_wolfe_conditions(f, slope, first):
    offset = 0.3
    begin = line_search.Point(0.0, f(offset), slope(offset), None)
    calls = []

    def evaluate(t):
        calls.append(t)
        try:
            return line_search.Point(t, f(t + offset), slope(t + offset), None)
        except OverflowError:
            return line_search.Point(t, math.inf, math.inf, None)
    found, count = line_search.strong_wolfe(evaluate, begin, first, 1.0)
    assert count == len(calls) and found.t in calls
    assert found.value <= begin.value + 1e-4 * found.t * begin.slope
    assert abs(found.slope) <= 0.9 * abs(begin.slope)


def test_a_search_that_cannot_end_returns_the_best_point():
    evaluate = lambda t: line_search.Point(t, -t, -1.0, None)       # falls for ever
    begin = line_search.Point(0.0, 0.0, -1.0, None)
    found, count = line_search.strong_wolfe(evaluate, begin, 1.0, 1.0)
    assert count == 26 and found.value < 0
    evaluate = lambda t: line_search.Point(t, math.nan, math.nan, None)
    found, count = line_search.strong_wolfe(evaluate, begin, 1.0, 1.0)
    assert found is begin and count <= 26


def test_cubic_interpolation_finds_the_minimum_of_a_cubic():
    f, slope = (lambda t: t ** 3 - 3 * t), (lambda t: 3 * t * t - 3)      # minimum at 1
    points = [line_search.Point(t, f(t), slope(t), None) for t in (0.0, 2.0)]
    for a, b in (points, points[::-1]):
        assert line_search.cubic_minimum(a, b, 0.0, 2.0) == pytest.approx(1)
        assert line_search.cubic_minimum(a, b, 1.5, 2.0) == 1.5
    assert line_search.cubic_minimum(points[0], points[0], 0.0, 2.0) == 1.0
    high = line_search.Point(2.0, math.inf, math.nan, None)
    assert line_search.cubic_minimum(points[0], high, 0.0, 2.0) == 1.0
