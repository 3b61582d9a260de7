"""Update rules of all optimizers against the formulas of their papers, written here for single numbers; layouts, dtypes, state,
options, differentiable steps, refusals. The base class, SGD's own tests and L-BFGS are in test_optim.py.
"""
import copy
import math
import pickle

import numpy as np
import pytest

import engine
from engine import optim
from engine.tensor import from_array

STEPS = 6


def gradients(shape=(3, 4), steps=STEPS):
    """Gradients that change sign here and there, from step to step."""
    n = math.prod(shape)
    return [(np.cos(np.arange(n) * (k + 1.3)) * (1 + 0.1 * k)).reshape(shape) for k in range(steps)]


def start(shape=(3, 4)):
    return np.sin(np.arange(1.0, math.prod(shape) + 1)).reshape(shape)


# --- the rules, one array at a time, as generators: send a gradient, get the point ------------------------------------
# Each takes the point and the options that PyTorch documents; `s` is a dict that lives from step to step.

def sgd(s, p, g, t, lr=1e-3, momentum=0.0, dampening=0.0, nesterov=False):
    if not momentum:
        return p - lr * g
    s["v"] = g if t == 1 else momentum * s["v"] + (1 - dampening) * g
    return p - lr * (g + momentum * s["v"] if nesterov else s["v"])


def adagrad(s, p, g, t, lr=1e-2, lr_decay=0.0, initial_accumulator_value=0.0, eps=1e-10):
    s["sum"] = s.get("sum", initial_accumulator_value) + g ** 2
    return p - lr / (1 + (t - 1) * lr_decay) * g / (np.sqrt(s["sum"]) + eps)


def rmsprop(s, p, g, t, lr=1e-2, alpha=0.99, eps=1e-8, momentum=0.0, centered=False):
    s["sq"] = alpha * s.get("sq", 0) + (1 - alpha) * g ** 2
    variance = s["sq"]
    if centered:
        s["mean"] = alpha * s.get("mean", 0) + (1 - alpha) * g
        variance = s["sq"] - s["mean"] ** 2
    s["v"] = momentum * s.get("v", 0) + g / (np.sqrt(variance) + eps)
    return p - lr * s["v"]


def adadelta(s, p, g, t, lr=1.0, rho=0.9, eps=1e-6):
    s["sq"] = rho * s.get("sq", 0) + (1 - rho) * g ** 2
    d = np.sqrt(s.get("d", 0) + eps) / np.sqrt(s["sq"] + eps) * g
    s["d"] = rho * s.get("d", 0) + (1 - rho) * d ** 2
    return p - lr * d


def means(s, g, betas):
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g ** 2
    return s["m"], s["v"]


def adam(s, p, g, t, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, amsgrad=False):
    m, v = means(s, g, betas)
    s["most"] = np.maximum(s.get("most", v), v)
    scale = np.sqrt((s["most"] if amsgrad else v) / (1 - betas[1] ** t)) + eps
    return p - lr * m / (1 - betas[0] ** t) / scale


def adamax(s, p, g, t, lr=2e-3, betas=(0.9, 0.999), eps=1e-8):
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["u"] = np.maximum(betas[1] * s.get("u", 0), np.abs(g) + eps)
    return p - lr / (1 - betas[0] ** t) * s["m"] / s["u"]


def nadam(s, p, g, t, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, momentum_decay=4e-3):
    mu, following = (betas[0] * (1 - 0.5 * 0.96 ** (k * momentum_decay)) for k in (t, t + 1))
    s["product"] = s.get("product", 1.0) * mu
    m, v = means(s, g, betas)
    m_hat = following * m / (1 - s["product"] * following) + (1 - mu) * g / (1 - s["product"])
    return p - lr * m_hat / (np.sqrt(v / (1 - betas[1] ** t)) + eps)


def radam(s, p, g, t, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
    m, v = means(s, g, betas)
    m_hat = m / (1 - betas[0] ** t)
    rho_inf = 2 / (1 - betas[1]) - 1
    rho = rho_inf - 2 * t * betas[1] ** t / (1 - betas[1] ** t)
    if rho <= 5:
        return p - lr * m_hat
    r = math.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
    return p - lr * r * m_hat * math.sqrt(1 - betas[1] ** t) / (np.sqrt(v) + eps)


def asgd(s, p, g, t, lr=1e-2, lambd=1e-4, alpha=0.75, t0=1e6):
    eta = lr if t == 1 else lr / (1 + lambd * lr * (t - 1)) ** alpha
    p = p * (1 - lambd * eta) - eta * g
    mu = 1 / max(1, t - 1 - t0)
    s["ax"] = s.get("ax", 0) + mu * (p - s.get("ax", 0))
    return p


def rprop(s, p, g, t, lr=1e-2, etas=(0.5, 1.2), step_sizes=(1e-6, 50)):
    before, size = s.get("g", np.zeros_like(g)), s.get("size", np.full_like(g, lr))
    turned = before * g < 0
    factor = np.where(turned, etas[0], np.where(before * g > 0, etas[1], 1.0))
    s["size"] = np.clip(size * factor, *step_sizes)
    s["g"] = np.where(turned, 0.0, g)
    return p - np.sign(s["g"]) * s["size"]


def path_of(rule, p, gs, weight_decay=0.0, decoupled=False, maximize=False, **options):
    """The points of a rule. Weight decay joins the gradient, or, decoupled, shrinks the point before the step."""
    s, path = {}, []
    for t, g in enumerate(gs, 1):
        g = -g if maximize else g
        if weight_decay and not decoupled:
            g = g + weight_decay * p
        if decoupled:
            p = p * (1 - options["lr"] * weight_decay)
        p = rule(s, p, g, t, **options)
        path.append(p)
    return path


def seen(make, p, gs):
    """The points of an optimizer that gets the same gradients."""
    x = p if isinstance(p, engine.Tensor) else from_array(p.copy())
    x.requires_grad_()
    optimizer, path = make([x]), []
    for g in gs:
        x.grad = g if isinstance(g, engine.Tensor) else from_array(g.astype(x.detach().numpy().dtype))
        optimizer.step()
        path.append(x.detach().numpy().copy())
    return path, optimizer, x


CASES = [
    ("SGD", sgd, {"lr": 0.1}), ("SGD", sgd, {"lr": 0.1, "momentum": 0.9}),
    ("SGD", sgd, {"lr": 0.1, "momentum": 0.9, "dampening": 0.4}), ("SGD", sgd, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("Adagrad", adagrad, {"lr": 0.1}), ("Adagrad", adagrad, {"lr": 0.1, "lr_decay": 0.3, "initial_accumulator_value": 0.2,
                                                             "eps": 1e-3}),
    ("RMSprop", rmsprop, {"lr": 0.1}), ("RMSprop", rmsprop, {"lr": 0.1, "alpha": 0.7, "eps": 0.01, "momentum": 0.8}),
    ("RMSprop", rmsprop, {"lr": 0.1, "centered": True}),
    ("RMSprop", rmsprop, {"lr": 0.1, "centered": True, "momentum": 0.5, "eps": 0.1}),
    ("Adadelta", adadelta, {}), ("Adadelta", adadelta, {"lr": 0.5, "rho": 0.6, "eps": 1e-3}),
    ("Adam", adam, {"lr": 0.1}), ("Adam", adam, {"lr": 0.1, "betas": (0.5, 0.6), "eps": 1e-3}),
    ("Adam", adam, {"lr": 0.1, "betas": (0.5, 0.6), "amsgrad": True}),
    ("Adamax", adamax, {"lr": 0.1}), ("Adamax", adamax, {"lr": 0.1, "betas": (0.4, 0.6), "eps": 0.1}),
    ("NAdam", nadam, {"lr": 0.1}), ("NAdam", nadam, {"lr": 0.1, "momentum_decay": 0.3, "betas": (0.6, 0.7)}),
    ("RAdam", radam, {"lr": 0.1}), ("RAdam", radam, {"lr": 0.1, "betas": (0.6, 0.8), "eps": 1e-3}),
    ("ASGD", asgd, {"lr": 0.1}), ("ASGD", asgd, {"lr": 0.1, "lambd": 0.2, "alpha": 0.5, "t0": 2}),
    ("Rprop", rprop, {}), ("Rprop", rprop, {"lr": 0.3, "etas": (0.4, 1.7), "step_sizes": (0.2, 0.4)}),
]
NAMES = [f"{name}-{'-'.join(map(str, options))}" for name, _, options in CASES]


@pytest.mark.parametrize("name, rule, options", CASES, ids=NAMES)
def test_each_rule_follows_its_formula(name, rule, options):
    variants = [{}, {"maximize": True}] + ([] if name == "Rprop" else [{"weight_decay": 0.3},
                                                                       {"weight_decay": 0.3, "maximize": True}])
    for more in variants:
        path, _, _ = seen(lambda ps, more=more: getattr(optim, name)(ps, **options, **more), start(), gradients())
        np.testing.assert_allclose(path, path_of(rule, start(), gradients(), **options, **more), rtol=1e-6, atol=5e-8)


@pytest.mark.parametrize("name, rule", [("Adam", adam), ("NAdam", nadam), ("RAdam", radam)])
def test_decoupled_weight_decay(name, rule):
    options = {"lr": 0.1, "weight_decay": 0.3, "betas": (0.6, 0.8)}
    path, _, _ = seen(lambda ps: getattr(optim, name)(ps, decoupled_weight_decay=True, **options), start(), gradients())
    expected = path_of(rule, start(), gradients(), decoupled=True, **options)
    np.testing.assert_allclose(path, expected, rtol=1e-6)
    if name == "Adam":
        for more in ({}, {"amsgrad": True}):
            path, _, _ = seen(lambda ps, more=more: optim.AdamW(ps, **options, **more), start(), gradients())
            np.testing.assert_allclose(path, path_of(rule, start(), gradients(), decoupled=True, **options, **more), rtol=1e-6)
        assert optim.AdamW([engine.ones(1)]).defaults["weight_decay"] == 0.01


def test_the_average_of_asgd():
    _, optimizer, x = seen(lambda ps: optim.ASGD(ps, lr=0.1, t0=2), start(), gradients())
    path = path_of(asgd, start(), gradients(), lr=0.1, t0=2)
    s, p = {}, start()
    for t, g in enumerate(gradients(), 1):
        p = asgd(s, p, g, t, lr=0.1, t0=2)
    np.testing.assert_allclose(optimizer.state[x]["ax"].numpy(), s["ax"], rtol=1e-6)
    assert not np.allclose(s["ax"], path[-1])


# --- arrays of all kinds ----------------------------------------------------------------------------------------------

ALL = [("SGD", sgd, {"lr": 0.1, "momentum": 0.9}), ("Adagrad", adagrad, {"lr": 0.1}), ("Adadelta", adadelta, {"lr": 1.0}),
       ("RMSprop", rmsprop, {"lr": 0.1, "centered": True, "momentum": 0.5, "eps": 0.1}), ("Adam", adam, {"lr": 0.1}),
       ("Adamax", adamax, {"lr": 0.1}), ("NAdam", nadam, {"lr": 0.1}), ("RAdam", radam, {"lr": 0.1, "betas": (0.6, 0.8)}),
       ("ASGD", asgd, {"lr": 0.1}), ("Rprop", rprop, {"lr": 0.1})]


@pytest.mark.parametrize("name, rule, options", ALL, ids=[name for name, _, _ in ALL])
def test_layouts(name, rule, options):
    """Turned parameters run by the kernel too; slices, which are not dense, by the same formula on tensors."""
    expected = path_of(rule, start(), gradients(), **options)
    make = lambda ps: getattr(optim, name)(ps, **options)
    path, _, x = seen(make, from_array(start().T.copy()).t().detach(), gradients())
    assert x.stride() == (1, 3)
    np.testing.assert_allclose(path, expected, rtol=1e-6, atol=1e-9)
    turned = [from_array(g.T.copy()).t() for g in gradients()]
    np.testing.assert_allclose(seen(make, start(), turned)[0], expected, rtol=1e-6, atol=1e-9)
    wide = engine.zeros(3, 8, dtype=engine.float64)
    wide[:, ::2] = from_array(start())
    path, _, _ = seen(make, wide[:, ::2].detach(), gradients())
    np.testing.assert_allclose(path, expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(wide.numpy()[:, 1::2], 0)
    np.testing.assert_array_equal(wide.numpy()[:, ::2], path[-1])


@pytest.mark.parametrize("name, rule, options", ALL, ids=[name for name, _, _ in ALL])
def test_complex_parameters_are_pairs_of_real_ones(name, rule, options):
    a, gs = start((3, 4, 2)), gradients((3, 4, 2))
    as_complex = lambda r: r[..., 0] + 1j * r[..., 1]
    path, optimizer, x = seen(lambda ps: getattr(optim, name)(ps, **options), as_complex(a), [as_complex(g) for g in gs])
    np.testing.assert_allclose(path, [as_complex(p) for p in path_of(rule, a, gs, **options)], rtol=1e-6, atol=1e-9)
    for key, value in optimizer.state[x].items():
        assert value.dtype is (engine.complex128 if value.ndim else engine.float32), key


@pytest.mark.parametrize("name, rule, options", [ALL[0], ALL[4]], ids=["SGD", "Adam"])
@pytest.mark.parametrize("dtype, tolerance", [("float32", 2e-6), ("float16", 4e-3)])
def test_smaller_floats(name, rule, options, dtype, tolerance):
    path, optimizer, x = seen(lambda ps: getattr(optim, name)(ps, **options), start().astype(dtype), gradients())
    np.testing.assert_allclose(path, path_of(rule, start(), gradients(), **options), rtol=tolerance, atol=tolerance)
    assert all(v.dtype is (x.dtype if v.ndim else engine.float32) for v in optimizer.state[x].values())


def test_many_elements_on_several_threads():
    n = 100_003
    g = np.cos(np.arange(n, dtype=np.float64))
    path, _, _ = seen(lambda ps: optim.Adam(ps, lr=0.1), np.zeros(n), [g, -g, g])
    np.testing.assert_allclose(path[-1], path_of(adam, np.zeros(n), [g, -g, g], lr=0.1)[-1], rtol=1e-6, atol=1e-12)


def test_numbers_empty_parameters_and_infinities():
    x, none = engine.tensor(2.0, dtype=engine.float64, requires_grad=True), engine.zeros(0, 3, requires_grad=True)
    optimizer = optim.Adam([x, none], lr=0.5)
    ((x * x) + none.sum()).backward()
    optimizer.step()
    assert x.item() == pytest.approx(1.5) and none.shape == (0, 3)
    path, _, _ = seen(lambda ps: optim.SGD(ps, lr=1.0), np.array([math.inf, 1.0, 1.0]), [np.array([1.0, math.nan, -math.inf])])
    np.testing.assert_array_equal(path[0], [math.inf, math.nan, math.inf])      # no 0 * inf from an absent weight decay


def test_a_gradient_in_the_parameters_memory():
    for view in (lambda a: a, lambda a: a.T):
        a = np.arange(1.0, 10).reshape(3, 3)
        expected = a - 0.5 * view(a)
        x = from_array(a).requires_grad_()
        x.grad = from_array(view(a))
        optim.SGD([x], lr=0.5).step()
        np.testing.assert_array_equal(x.detach().numpy(), expected)


def test_a_step_counts_as_a_write():
    x = engine.ones(2, requires_grad=True)
    y = (x * x).sum()
    x.grad = engine.ones(2)
    optimizer = optim.Adam([x], lr=0.1)
    before, memory = x._version, x.data_ptr()
    optimizer.step()
    assert x._version == before + 1 and x.data_ptr() == memory and x.is_leaf and x.requires_grad
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_memory_that_changes_between_steps():
    """New data, replaced states, options switched on: what the optimizer keeps of addresses must not be used any more."""
    x = engine.tensor([1.0, 2.0], dtype=engine.float64, requires_grad=True)
    optimizer = optim.Adam([x], lr=0.1)
    x.grad = engine.tensor([1.0, -1.0], dtype=engine.float64)
    optimizer.step()
    old = x.detach()
    x.data = engine.tensor([5.0, 5.0], dtype=engine.float64)
    optimizer.step()
    assert old.tolist() == pytest.approx([0.9, 2.1]) and x.tolist() == pytest.approx([4.9, 5.1])
    state = optimizer.state[x]
    state["exp_avg"] = engine.zeros(2, dtype=engine.float64)
    optimizer.step()
    assert state["exp_avg"].tolist() == pytest.approx([0.1, -0.1])
    optimizer.param_groups[0]["amsgrad"] = True
    optimizer.step()
    assert state["max_exp_avg_sq"].tolist() == state["exp_avg_sq"].tolist()
    optimizer.state.clear()
    optimizer.step()
    assert optimizer.state[x]["step"].item() == 1
    x.data = engine.tensor([1.0, 2.0, 3.0], dtype=engine.float64)
    with pytest.raises(RuntimeError, match=r"size of tensor"):
        optimizer.step()


def test_options_may_change_between_steps():
    x = engine.zeros(1, dtype=engine.float64, requires_grad=True)
    optimizer = optim.SGD([x], lr=1.0)
    x.grad = engine.ones(1, dtype=engine.float64)
    for rate in (1.0, 0.5, 0.25):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    assert x.item() == -1.75
    rate = engine.tensor(1.0)
    optimizer = optim.Adam([x], lr=rate, betas=(engine.tensor(0.9), engine.tensor(0.999)))
    optimizer.step()
    rate.fill_(0.5)
    optimizer.step()
    assert x.item() == pytest.approx(-3.25, rel=1e-6)


def test_two_groups_take_turns_with_their_numbers():
    a, b = (engine.zeros(2, dtype=engine.float64, requires_grad=True) for _ in range(2))
    optimizer = optim.Adam([{"params": [a], "lr": 0.1}, {"params": [b], "lr": 0.3, "betas": (0.5, 0.5)}])
    for k in range(3):
        a.grad = engine.full((2,), k + 1.0, dtype=engine.float64)
        b.grad = a.grad if k != 1 else None             # so that the two are at different steps
        optimizer.step()
    np.testing.assert_allclose(a.detach().numpy()[0], path_of(adam, 0.0, [1, 2, 3], lr=0.1)[-1])
    np.testing.assert_allclose(b.detach().numpy()[0], path_of(adam, 0.0, [1, 3], lr=0.3, betas=(0.5, 0.5))[-1])
    assert [optimizer.state[p]["step"].item() for p in (a, b)] == [3, 2]


# --- state ------------------------------------------------------------------------------------------------------------

STATES = {"SGD": ["momentum_buffer"], "Adagrad": ["step", "sum"], "Adadelta": ["step", "square_avg", "acc_delta"],
          "RMSprop": ["step", "square_avg", "momentum_buffer", "grad_avg"], "Adam": ["step", "exp_avg", "exp_avg_sq"],
          "Adamax": ["step", "exp_avg", "exp_inf"], "NAdam": ["step", "mu_product", "exp_avg", "exp_avg_sq"],
          "RAdam": ["step", "exp_avg", "exp_avg_sq"], "ASGD": ["step", "eta", "mu", "ax"],
          "Rprop": ["step", "prev", "step_size"]}


@pytest.mark.parametrize("name, rule, options", ALL, ids=[name for name, _, _ in ALL])
def test_state_dicts_and_copies_go_on_where_they_were(name, rule, options):
    gs = gradients()
    make = lambda ps: getattr(optim, name)(ps, **options)
    path, _, _ = seen(make, start(), gs)
    _, first, x = seen(make, start(), gs[:3])
    saved = pickle.loads(pickle.dumps(first.state_dict()))
    assert list(saved["state"][0]) == STATES[name]
    for key in ("step", "mu_product", "eta", "mu"):
        if key in saved["state"][0]:
            assert saved["state"][0][key].shape == () and saved["state"][0][key].dtype is engine.float32
    y = from_array(x.detach().numpy().copy()).requires_grad_()
    second = make([y])
    second.load_state_dict(saved)
    twin = pickle.loads(pickle.dumps((x, first)))
    copied = copy.deepcopy((x, first))
    for g in gs[3:]:
        for p, optimizer in ((y, second), twin, copied):
            p.grad = from_array(g)
            optimizer.step()
    for p in (y, twin[0], copied[0]):
        np.testing.assert_array_equal(p.detach().numpy(), path[-1])


def test_older_state_dicts():
    x = engine.ones(1, requires_grad=True)
    optimizer = optim.Adam([x])
    state = optimizer.state_dict()
    state["param_groups"][0].pop("maximize")
    state["state"] = {0: {"step": 3, "exp_avg": engine.zeros(1), "exp_avg_sq": engine.zeros(1)}}
    optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["maximize"] is False
    step = optimizer.state[x]["step"]
    assert step.item() == 3 and step.dtype is engine.float32
    sgd_ = optim.SGD([x], lr=1.0, momentum=0.5)
    sgd_.load_state_dict({"state": {0: {"momentum_buffer": None}}, "param_groups": sgd_.state_dict()["param_groups"]})
    x.grad = engine.ones(1)
    sgd_.step()
    assert x.item() == 0 and sgd_.state[x]["momentum_buffer"].item() == 1


def test_hooks_around_state_dicts():
    optimizer, seen_ = optim.SGD([engine.ones(1)]), []
    optimizer.register_state_dict_pre_hook(lambda o: seen_.append("save"))
    optimizer.register_state_dict_pre_hook(lambda o: seen_.append("first"), prepend=True)
    optimizer.register_state_dict_post_hook(lambda o, d: {**d, "more": 1})
    optimizer.register_load_state_dict_pre_hook(lambda o, d: seen_.append(sorted(d)))
    handle = optimizer.register_load_state_dict_post_hook(lambda o: seen_.append("loaded"))
    optimizer.load_state_dict(optimizer.state_dict())
    handle.remove()
    optimizer.load_state_dict(optimizer.state_dict())
    keys = ["more", "param_groups", "state"]
    assert seen_ == ["first", "save", keys, "loaded", "first", "save", keys]


# --- differentiable steps ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, rule, options", [case for case in ALL if case[0] != "Rprop"],
                         ids=[name for name, _, _ in ALL if name != "Rprop"])
def test_differentiable_steps_have_the_derivatives_of_their_formula(name, rule, options):
    """d (sum of w * p after three steps) / d (p, gradients) against central differences of the formula."""
    shape, w = (5,), np.linspace(1, 2, 5)
    a, gs = start(shape), gradients(shape, 3)
    options = {**options, "weight_decay": 0.2}
    p0 = from_array(a.copy()).requires_grad_()
    leaves = [from_array(g).requires_grad_() for g in gs]
    p = p0.clone()
    optimizer = getattr(optim, name)([p], differentiable=True, **options)
    for g in leaves:
        p.grad = g
        optimizer.step()
    (p * from_array(w)).sum().backward()
    np.testing.assert_allclose(p.detach().numpy(), path_of(rule, a, gs, **options)[-1], rtol=1e-6)

    def f(a, gs):
        return (path_of(rule, a, gs, **options)[-1] * w).sum()
    h, e = 1e-6, np.cos(np.arange(5.0))
    np.testing.assert_allclose(p0.grad.numpy() @ e, (f(a + h * e, gs) - f(a - h * e, gs)) / (2 * h), rtol=1e-4)
    for k in range(3):
        moved = [[g + s * h * e * (k == j) for j, g in enumerate(gs)] for s in (1, -1)]
        np.testing.assert_allclose(leaves[k].grad.numpy() @ e, (f(a, moved[0]) - f(a, moved[1])) / (2 * h), rtol=1e-3, atol=1e-6)


def test_derivative_by_the_learning_rate():
    lr = engine.tensor(0.1, dtype=engine.float64, requires_grad=True)
    p = engine.ones(1, dtype=engine.float64, requires_grad=True).clone()
    optimizer = optim.SGD([p], lr=lr, differentiable=True)
    for g in (2.0, 3.0):
        p.grad = engine.tensor([g], dtype=engine.float64)
        optimizer.step()
    p.sum().backward()
    assert lr.grad.item() == pytest.approx(-5)


# --- refusals ---------------------------------------------------------------------------------------------------------

BETAS = ["Adam", "AdamW", "Adamax", "NAdam", "RAdam"]


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "RMSprop", "Adadelta", "ASGD", "Rprop", *BETAS])
def test_options_out_of_range(name):
    make = lambda **options: getattr(optim, name)([engine.ones(1, requires_grad=True)], **options)
    wrong = [({"lr": -1}, "Invalid learning rate: -1"), ({"lr": engine.ones(2)}, "Tensor lr must be 1-element")]
    if name != "Rprop":
        wrong.append(({"weight_decay": -1}, "Invalid weight_decay value: -1"))
    if name in BETAS:
        wrong += [({"betas": (1.0, 0.5)}, "Invalid beta parameter at index 0: 1.0"),
                  ({"betas": (0.5, -0.1)}, "Invalid beta parameter at index 1: -0.1")]
    if name in (*BETAS, "RMSprop", "Adadelta", "Adagrad"):
        wrong.append(({"eps": -1}, "Invalid epsilon value: -1"))
    wrong += {"Adagrad": [({"lr_decay": -1}, "Invalid lr_decay value: -1"),
                          ({"initial_accumulator_value": -1}, "Invalid initial_accumulator_value value: -1")],
              "RMSprop": [({"momentum": -1}, "Invalid momentum value: -1"), ({"alpha": -1}, "Invalid alpha value: -1")],
              "Adadelta": [({"rho": 2}, "Invalid rho value: 2")],
              "NAdam": [({"momentum_decay": -1}, "Invalid momentum_decay value: -1")],
              "Rprop": [({"etas": (1.5, 2)}, "Invalid eta values: 1.5, 2")]}.get(name, [])
    for options, words in wrong:
        with pytest.raises(ValueError, match=words):
            make(**options)
    if name in ("Adam", "AdamW", "SGD", "Adagrad"):
        with pytest.raises(RuntimeError, match="`fused` does not support `differentiable`"):
            make(fused=True, differentiable=True)
        with pytest.raises(RuntimeError, match="`fused` and `foreach` cannot be `True` together"):
            make(fused=True, foreach=True)
    if name in ("Adam", "AdamW"):
        with pytest.raises(ValueError, match="lr as a Tensor is not supported for capturable=False and foreach=True"):
            make(lr=engine.tensor(0.1), foreach=True)
        with pytest.raises(ValueError, match="betas must be either both floats or both Tensors"):
            make(betas=(0.9, engine.tensor(0.9)))
        with pytest.raises(ValueError, match=r"betas\[0\] as a Tensor is not supported"):
            make(betas=(engine.tensor(0.9), engine.tensor(0.9)), foreach=True)


def test_steps_that_are_refused():
    x = engine.ones(2, requires_grad=True)
    x.grad = engine.ones(2)
    with pytest.raises(AssertionError, match="If capturable=True, params and state_steps must be on supported devices"):
        optim.Adam([x], capturable=True).step()
    with pytest.raises(AssertionError, match="_foreach ops don't support autograd"):
        optim.Adam([x], foreach=True, differentiable=True).step()
    optimizer = optim.Adam([x])
    optimizer.step()
    optimizer.param_groups[0]["differentiable"] = True
    optimizer.state[x]["step"].requires_grad_()
    with pytest.raises(RuntimeError, match="`requires_grad` is not supported for `step` in differentiable mode"):
        optimizer.step()
    frozen = np.ones(2)
    frozen.flags.writeable = False
    y = from_array(frozen)
    y.grad = engine.ones(2, dtype=engine.float64)
    with pytest.raises(RuntimeError, match="read-only"):
        optim.SGD([y], lr=0.1).step()
    assert frozen.tolist() == [1, 1]
