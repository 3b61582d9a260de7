"""`minimize` with one problem a thread, on the emulated device: the same iterates as the CPU's solvers, to the last bit."""
import math
import sys

import numpy as np
import pytest
from cuda_checks import WHOLE, needs_numba_cuda, prove

import engine
from engine.optimize import minimize, on_device
from kernels import solvers
from kernels.cuda.solvers import Batch, Evaluation, program
from kernels.solvers.machine import VALUE_AND_GRAD

pytestmark = [needs_numba_cuda, pytest.mark.usefixtures("emulated")]

SMALL = {"gd": {"maxiter": 20}, "adam": {"maxiter": 20, "lr": 0.1}, "nelder-mead": {"maxiter": 60}}


def rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def starts(rng, rows=4, n=2, dtype=engine.float64):
    return engine.tensor(rng.uniform(-2, 2, (rows, n)), dtype=dtype)


def same(ours, theirs):
    """Two results, one of them on the device, agree in every number."""
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        if isinstance(value, engine.Tensor):
            assert ours[name].device == engine.device("cuda:0") and ours[name].dtype == value.dtype, name
            np.testing.assert_array_equal(ours[name].cpu().numpy(), value.numpy(), err_msg=name)
        else:
            assert ours[name] == value, name


def alone(x0, fun, args=(), **options):
    """Solved on the device, and on the CPU."""
    before = on_device.solved
    ours = minimize(fun, x0.cuda(), args, batch_dims=1, **options)
    assert on_device.solved == before + 1, "went over the host"
    return ours, minimize(fun, x0, args, batch_dims=1, **options)


@pytest.mark.parametrize("method", ["lbfgs", "bfgs", "newton", "newton-cg", "cg", "gd", "adam", "nelder-mead"])
def test_every_method_makes_the_steps_of_the_cpu(method, rng):
    same(*alone(starts(rng), rosenbrock, method=method, options=SMALL.get(method)))


def test_a_million_starts_are_as_easy_to_write_as_one(rng):
    ours, theirs = alone(starts(rng, rows=70), rosenbrock)         # more than one block, the last one ragged
    same(ours, theirs)
    assert ours.x.shape == (70, 2) and bool(ours.success.all()) and len(ours.message) == 70
    assert float((ours.x - 1).abs().max()) < 1e-4
    assert len(set(ours.nit.tolist())) > 5                          # each to its own stopping point


def test_float32_and_another_shape_of_x(rng):
    def fun(x):
        return ((x - engine.tensor([[1.0, 2.0], [3.0, -4.0]])) ** 4).sum() + x[0, 0] * x[1, 1]
    same(*alone(starts(rng, 3, 4, engine.float32).reshape(3, 2, 2), fun, method="bfgs"))


def test_bounds(rng):
    ours, theirs = alone(starts(rng), rosenbrock, bounds=[(-1.5, 0.5), (None, 2.0)], options={"maxcor": 2})
    same(ours, theirs)
    np.testing.assert_allclose(ours.x.cpu().numpy()[:, 0], 0.5)
    low, high = (engine.tensor(b, dtype=engine.float64) for b in ([-1.5, -math.inf], [0.5, 2.0]))
    there = minimize(rosenbrock, starts(rng).cuda(), batch_dims=1, bounds=(low.cuda(), high.cuda()), options={"maxcor": 2})
    np.testing.assert_allclose(there.x.cpu().numpy()[:, 0], 0.5)


def test_branches_are_traced_where_they_are_met(rng):
    def fun(x):
        if x[0] > 0.5:
            return (x[0] - 3) ** 2 + x[1] ** 2
        if x[0] > 0:                            # no start is here: the first that passes by waits for its code
            return 8.5 - x[0] * 4.5 + x[1] ** 2
        return 8.5 - x[0] + (x[1] - 1) ** 2
    x0 = engine.tensor([[-1.0, 0.3], [-0.9, 0.2], [2.0, -1.0]], dtype=engine.float64)
    ours, theirs = alone(x0, fun, method="gd", options={"maxiter": 40})
    same(ours, theirs)
    np.testing.assert_allclose(ours.x.cpu().numpy()[:, 0], 3, atol=1e-4)


def test_data_in_args_and_in_a_closure(rng):
    times, data = engine.tensor(rng.uniform(0, 2, 6)), engine.tensor(rng.uniform(0, 1, (6, 2)))[:, 0]
    weights = engine.tensor(rng.uniform(1, 2, 12))[::2]             # not contiguous

    def fun(x, times, data):
        return (weights * (x[0] * engine.exp(-x[1] * times) - data) ** 2).sum()
    x0 = starts(rng).abs()
    theirs = minimize(fun, x0, (times, data), batch_dims=1)
    for args in ((times.cuda(), data.cuda()), (times, data.cuda())):
        before = on_device.solved
        same(minimize(fun, x0.cuda(), args, batch_dims=1), theirs)
        assert on_device.solved == before + 1
    data.mul_(2.0)                              # inputs are read anew
    weights.add_(1.0)
    same(minimize(fun, x0.cuda(), (times, data), batch_dims=1), minimize(fun, x0, (times, data), batch_dims=1))
    assert on_device.solved == before + 2


def test_functions_with_loops_and_math(rng):
    def fun(x):
        total = 0.0
        for i in range(len(x) - 1):
            total += 100 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2 + math.cos(x[i])
        return total
    ours, theirs = alone(starts(rng, 3, 3), fun, method="bfgs")
    np.testing.assert_allclose(ours.x.cpu().numpy(), theirs.x.numpy(), rtol=1e-6)


@pytest.mark.usefixtures("clean_book")
def test_a_user_kernel_inside(rng):
    @engine.elementwise
    def settled(x, c):
        """Newton's iteration for y + y^3 = c x."""
        y = x
        for _ in range(30):
            step = (y + y ** 3 - c * x) / (1 + 3 * y * y)
            y -= step
            if abs(step) < 1e-15:
                break
        return y

    def fun(x):
        return ((settled(x, 3.0) - engine.tensor([0.5, -1.0], dtype=engine.float64)) ** 2).sum()
    ours, theirs = alone(starts(rng), fun, method="bfgs")
    same(ours, theirs)
    np.testing.assert_allclose(ours.x.cpu().numpy(), np.broadcast_to([0.625 / 3, -2 / 3], (4, 2)), atol=1e-5)


def test_honest_answers(rng):
    x0 = engine.tensor([[0.3, 1.0], [math.nan, 1.0], [1.0, 1.0]], dtype=engine.float64)
    same(*alone(x0, lambda x: x[1] ** 2 - engine.exp(x[0] * x[0]), method="bfgs"))                   # unbounded, NaN
    same(*alone(x0, rosenbrock, method="bfgs", options={"maxiter": 2}))
    ours, theirs = alone(x0[:1], lambda x: (x - x).sum() + 3.0, method="bfgs")      # a constant
    same(ours, theirs)
    assert bool(ours.success.all())


def test_what_is_no_scalar_code_runs_on_the_host(rng):
    matrix = engine.tensor(rng.standard_normal((60, 60)))
    x0, before = starts(rng, 2, 60), on_device.solved

    def fun(x):
        return ((matrix @ (x - 1)) ** 2).sum() + (x ** 2).sum()
    ours, theirs = (minimize(fun, start, batch_dims=1) for start in (x0.cuda(), x0))
    assert on_device.solved == before
    same(ours, theirs)
    single = minimize(rosenbrock, x0[0, :2].cuda())
    assert single.x.device == engine.device("cuda:0") and single.success and on_device.solved == before


def test_errors(rng):
    x0 = starts(rng).cuda()
    elsewhere = engine.ones(2, device="cuda", dtype=engine.float64)
    with pytest.raises(RuntimeError, match="belong into `args`"):
        minimize(lambda x: ((x - elsewhere) ** 2).sum(), x0, batch_dims=1)
    with pytest.raises(ValueError, match="unknown method"):
        minimize(rosenbrock, x0, batch_dims=1, method="magic")
    with pytest.raises(ValueError, match="neither callbacks nor history"):
        minimize(rosenbrock, x0, batch_dims=1, options={"history": True})
    with pytest.raises(ValueError, match="has no option 'speed'"):
        minimize(rosenbrock, x0, batch_dims=1, options={"speed": 3})
    with pytest.raises(RuntimeError, match="scalar tensor"):
        minimize(lambda x: x, x0, batch_dims=1)
    with pytest.raises(ValueError, match="no elements"):
        minimize(rosenbrock, x0[:0], batch_dims=1)


def test_interrupted_runs_give_what_they_have(rng, monkeypatch):
    monkeypatch.setattr(on_device, "BUDGET", 3)
    go, launches = Batch.go, []

    def interrupted(batch, *rest):
        launches.append(1)
        if len(launches) == 3:
            raise KeyboardInterrupt
        return go(batch, *rest)
    monkeypatch.setattr(Batch, "go", interrupted)
    x0 = starts(rng)
    with pytest.raises(KeyboardInterrupt) as caught:
        minimize(rosenbrock, x0.cuda(), batch_dims=1, method="bfgs")
    result = caught.value.result
    values = [float(rosenbrock(x)) for x in x0]
    assert all(a <= b for a, b in zip(result.fun.tolist(), values, strict=True))
    assert result.nfev.tolist() == [6] * 4 and not result.success.any()
    monkeypatch.setattr(Batch, "go", go)                            # in pieces or at once: the same
    same(minimize(rosenbrock, x0.cuda(), batch_dims=1, method="bfgs"), minimize(rosenbrock, x0, batch_dims=1, method="bfgs"))


def test_progress(rng, capsys, monkeypatch):
    monkeypatch.setattr(on_device, "BUDGET", 10)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    minimize(rosenbrock, starts(rng).cuda(), batch_dims=1, method="bfgs", options={"disp": True})
    assert "evaluations" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["lbfgs", "bfgs", "cg"] if WHOLE else ["bfgs"])
def test_kernels_assemble_without_spills_and_agree_on_every_generation(name, rng):
    """(x0 - a)^2 + 4 (x1 + a)^2 with a captured: written by hand, so that no trace is needed."""
    statements = ["a = load_float64(c0, 0)", "u = load_float64(x, 0 * span()) - a", "v = load_float64(x, 1 * span()) + a",
                  "f = u * u + 4.0 * (v * v)"]
    solver = solvers.solver(name)
    kernel = program(solver, "float64", {VALUE_AND_GRAD: [Evaluation(statements, [("F", ["f"]), ("G", ["2.0 * u", "8.0 * v"])],
                                                                     "", {})]}, 1)
    x0 = rng.uniform(-2, 2, (3, 2))

    def run(device):
        batch = Batch(device, solver, "float64", device.put(x0), {}, None)
        assert not batch.go(kernel, [device.put(np.array([0.75]))], 1000).any()
        np.testing.assert_allclose(device.read(batch.x), np.full((3, 2), 0.75) * [1, -1], atol=1e-5)
        return {}
    prove([kernel], run)
