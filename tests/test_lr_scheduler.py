"""Schedules of learning rates against closed formulas written here; chains, sequences, plateaus, resumption, warnings, refusals."""
import copy
import math
import warnings

import numpy as np
import pytest

import engine
from engine import optim
from engine.optim import lr_scheduler as schedules

BASE = (0.5, 0.2)


def make(optimizer="SGD", tensor=False, **options):
    """An optimizer with two groups, whose rates are BASE."""
    options = {"momentum": 0.9, **options} if optimizer == "SGD" else options
    rates = [engine.tensor(r, dtype=engine.float64) if tensor else r for r in BASE]
    return getattr(optim, optimizer)([{"params": [engine.ones(1)], "lr": r} for r in rates], lr=1.0, **options)


def rates_of(optimizer):
    return [float(g["lr"]) for g in optimizer.param_groups]


def run(optimizer, scheduler, epochs):
    """The rates at epoch 0, 1, ..., each also what get_last_lr tells."""
    path = [rates_of(optimizer)]
    for _ in range(epochs):
        optimizer.step()
        scheduler.step()
        path.append(rates_of(optimizer))
        assert [float(r) for r in scheduler.get_last_lr()] == path[-1]
    return np.array(path)


def restarts(e, first, times, low, base):
    """Cosine annealing with restarts by walking from cycle to cycle."""
    begin, length = 0, first
    while e >= begin + length:
        begin, length = begin + length, length * times
    return low + (base - low) * (1 + math.cos(math.pi * (e - begin) / length)) / 2


def triangle(e, up, down):
    """The part of the way up at step e of a cycle."""
    at = e % (up + down)
    return at / up if at <= up else 1 - (at - up) / down


SCHEDULES = {
    "LambdaLR": (lambda o, **k: schedules.LambdaLR(o, [lambda e: 0.95 ** e, lambda e: 1 / (1 + e)], **k),
                 lambda e, b: b * (0.95 ** e if b == 0.5 else 1 / (1 + e))),
    "MultiplicativeLR": (lambda o, **k: schedules.MultiplicativeLR(o, lambda e: 0.9 + 0.01 * e, **k),
                         lambda e, b: b * math.prod(0.9 + 0.01 * i for i in range(1, e + 1))),
    "StepLR": (lambda o, **k: schedules.StepLR(o, 3, gamma=0.5, **k), lambda e, b: b * 0.5 ** (e // 3)),
    "MultiStepLR": (lambda o, **k: schedules.MultiStepLR(o, [2, 9, 5, 5], gamma=0.3, **k),
                    lambda e, b: b * 0.3 ** sum(e >= m for m in (2, 5, 5, 9))),
    "ConstantLR": (lambda o, **k: schedules.ConstantLR(o, factor=0.25, total_iters=4, **k),
                   lambda e, b: b * (0.25 if e < 4 else 1)),
    "LinearLR": (lambda o, **k: schedules.LinearLR(o, start_factor=0.2, end_factor=0.8, total_iters=7, **k),
                 lambda e, b: b * (0.2 + 0.6 * min(e, 7) / 7)),
    "ExponentialLR": (lambda o, **k: schedules.ExponentialLR(o, 0.9, **k), lambda e, b: b * 0.9 ** e),
    "PolynomialLR": (lambda o, **k: schedules.PolynomialLR(o, total_iters=8, power=2.0, **k),
                     lambda e, b: b * (1 - min(e, 8) / 8) ** 2),
    "CosineAnnealingLR": (lambda o, **k: schedules.CosineAnnealingLR(o, 6, eta_min=0.01, **k),
                          lambda e, b: 0.01 + (b - 0.01) * (1 + math.cos(math.pi * e / 6)) / 2),
    "CosineAnnealingWarmRestarts": (lambda o, **k: schedules.CosineAnnealingWarmRestarts(o, 3, T_mult=2, eta_min=0.01, **k),
                                    lambda e, b: restarts(e, 3, 2, 0.01, b)),
    "CyclicLR": (lambda o, **k: schedules.CyclicLR(o, list(BASE), [1.0, 0.7], step_size_up=4, step_size_down=3, **k),
                 lambda e, b: b + ((1.0 if b == 0.5 else 0.7) - b) * triangle(e, 4, 3)),
    "CyclicLR-triangular2": (lambda o, **k: schedules.CyclicLR(o, 0.1, 1.0, step_size_up=3, mode="triangular2", **k),
                             lambda e, b: 0.1 + 0.9 * triangle(e, 3, 3) / 2 ** (e // 6)),
    "CyclicLR-exp_range": (lambda o, **k: schedules.CyclicLR(o, 0.1, 1.0, step_size_up=3, mode="exp_range", gamma=0.9, **k),
                           lambda e, b: 0.1 + 0.9 * triangle(e, 3, 3) * 0.9 ** e),
    "CyclicLR-own": (lambda o, **k: schedules.CyclicLR(o, 0.1, 1.0, step_size_up=3, scale_fn=lambda x: 1 / x, **k),
                     lambda e, b: 0.1 + 0.9 * triangle(e, 3, 3) / (1 + e // 6)),
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("tensor", [False, True])
def test_each_schedule_follows_its_formula(name, tensor):
    build, formula = SCHEDULES[name]
    optimizer = make(tensor=tensor)
    kept = [g["lr"] for g in optimizer.param_groups]
    expected = [[formula(e, b) for b in BASE] for e in range(21)]
    np.testing.assert_allclose(run(optimizer, build(optimizer), 20), expected, rtol=1e-9, atol=1e-12)
    if tensor:
        assert all(g["lr"] is t for g, t in zip(optimizer.param_groups, kept, strict=True))


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_goes_on_from_state_dicts(name):
    build, formula = SCHEDULES[name]
    optimizer = make()
    scheduler = build(optimizer)
    run(optimizer, scheduler, 5)
    saved = copy.deepcopy((optimizer.state_dict(), scheduler.state_dict()))
    assert "optimizer" not in saved[1] and saved[1]["last_epoch"] == 5
    again = make()
    resumed = build(again)
    again.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    expected = [[formula(e, b) for b in BASE] for e in range(5, 16)]
    np.testing.assert_allclose(run(again, resumed, 10), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["StepLR", "MultiStepLR", "ExponentialLR", "LambdaLR", "CosineAnnealingLR"])
def test_resuming_by_last_epoch(name):
    build, formula = SCHEDULES[name]
    optimizer = make()
    run(optimizer, build(optimizer), 8)
    again = make()
    again.load_state_dict(optimizer.state_dict())
    scheduler = build(again, last_epoch=7)                      # makes the step from 7 to 8 itself
    if name == "CosineAnnealingLR" or name == "LambdaLR":       # from the base; the others multiply what is there
        np.testing.assert_allclose(run(again, scheduler, 2)[1:], [[formula(e, b) for b in BASE] for e in (9, 10)], rtol=1e-9)
    assert scheduler.base_lrs == list(BASE)


@pytest.mark.parametrize("name", ["StepLR", "MultiStepLR", "ConstantLR", "LinearLR", "ExponentialLR", "PolynomialLR",
                                  "CosineAnnealingLR"])
def test_steps_to_an_epoch_use_the_closed_form(name):
    build, formula = SCHEDULES[name]
    optimizer = make()
    scheduler = build(optimizer)
    optimizer.step()
    for epoch in (3, 1, 7, 12):
        with pytest.warns(UserWarning, match="The epoch parameter in `scheduler.step"):
            scheduler.step(epoch)
        np.testing.assert_allclose(rates_of(optimizer), [formula(epoch, b) for b in BASE], rtol=1e-12, atol=1e-15)


def test_restarts_take_fractions_of_epochs():
    for times in (1, 2):
        optimizer = make()
        scheduler = schedules.CosineAnnealingWarmRestarts(optimizer, 3, T_mult=times)
        for epoch in (0.5, 2.75, 4.25, 10.5):
            scheduler.step(epoch)
            np.testing.assert_allclose(rates_of(optimizer), [restarts(epoch, 3, times, 0, b) for b in BASE], rtol=1e-12)
        with pytest.raises(ValueError, match="Expected non-negative epoch, but got -1"):
            scheduler.step(-1)


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
@pytest.mark.parametrize("options", [{}, {"anneal_strategy": "linear"}, {"three_phase": True}, {"cycle_momentum": False}])
def test_one_cycle(optimizer, options):
    """The corners of the cycle, and half-way between two of them."""
    o = make(optimizer)
    scheduler = schedules.OneCycleLR(o, [1.0, 0.4], epochs=4, steps_per_epoch=5, pct_start=0.3, div_factor=10.0,
                                     final_div_factor=100.0, **options)
    path, momentum = [], []
    for k in range(20):
        path.append(rates_of(o))
        momentum.append([g["momentum"] if optimizer == "SGD" else g["betas"][0] for g in o.param_groups])
        o.step()
        if k < 19:
            scheduler.step()
    top = np.array([1.0, 0.4])
    corners = {0: 0.1, 5: 1.0, 19: 0.001} | ({10: 0.1} if options.get("three_phase") else {12: 0.5005})
    for k, part in corners.items():
        np.testing.assert_allclose(path[k], part * top, rtol=1e-12)
    if options.get("cycle_momentum", True):
        for k, value in {0: 0.95, 5: 0.85, 19: 0.95}.items():
            np.testing.assert_allclose(momentum[k], value)
    else:
        assert momentum == [[0.9, 0.9]] * 20
    if options.get("anneal_strategy") == "linear":
        np.testing.assert_allclose(np.diff(path[:6], axis=0), 0.9 * top * np.ones((5, 1)) / 5, rtol=1e-9)
    else:
        np.testing.assert_allclose(path[1], (0.1 + 0.9 * (1 - math.cos(math.pi / 5)) / 2) * top, rtol=1e-12)
    scheduler.step()                # as many as there are steps, one more is too many
    with pytest.raises(ValueError, match=r"Tried to step 21 times\. The specified number of total steps is 20"):
        scheduler.step()


def test_cyclic_momentum_falls_while_the_rate_rises():
    for name in ("SGD", "Adam"):
        o = make(name)
        scheduler = schedules.CyclicLR(o, 0.1, 1.0, step_size_up=4, base_momentum=0.5, max_momentum=0.9)
        for k in range(9):
            seen = o.param_groups[0]["momentum"] if name == "SGD" else o.param_groups[0]["betas"][0]
            assert seen == pytest.approx(0.9 - 0.4 * triangle(k, 4, 4))
            o.step()
            scheduler.step()


# --- combinations -----------------------------------------------------------------------------------------------------

def sequence(o):
    return schedules.SequentialLR(o, [schedules.LinearLR(o, 0.1, 1.0, 4), schedules.ExponentialLR(o, 0.9),
                                      schedules.StepLR(o, 2, gamma=0.5)], [4, 9])


def test_one_schedule_after_the_other():
    def formula(e, b):
        return b * (0.1 + 0.9 * e / 4 if e < 4 else 0.9 ** (e - 4) if e < 9 else 0.5 ** ((e - 9) // 2))
    o = make()
    s = sequence(o)
    expected = [[formula(e, b) for b in BASE] for e in range(16)]
    np.testing.assert_allclose(run(o, s, 10), expected[:11], rtol=1e-12)
    saved = copy.deepcopy((o.state_dict(), s.state_dict()))
    again = make()
    resumed = sequence(again)
    again.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    np.testing.assert_allclose(run(again, resumed, 5), expected[10:], rtol=1e-12)


def test_schedules_at_once_multiply():
    def formula(e, b):
        return b * (0.1 if e < 3 else 1) * 0.9 ** e
    o = make()
    s = schedules.ChainedScheduler([schedules.ConstantLR(o, 0.1, 3), schedules.ExponentialLR(o, 0.9)])
    np.testing.assert_allclose(run(o, s, 6), [[formula(e, b) for b in BASE] for e in range(7)], rtol=1e-12)
    again = make()
    resumed = schedules.ChainedScheduler([schedules.ConstantLR(again, 0.1, 3), schedules.ExponentialLR(again, 0.9)])
    again.load_state_dict(o.state_dict())
    resumed.load_state_dict(copy.deepcopy(s.state_dict()))
    np.testing.assert_allclose(run(again, resumed, 2), [[formula(e, b) for b in BASE] for e in (6, 7, 8)], rtol=1e-12)


def test_a_chain_within_a_sequence():
    o = make()
    chain = schedules.ChainedScheduler([schedules.ConstantLR(o, 0.1, 3), schedules.ExponentialLR(o, 0.9)])
    path = run(o, schedules.SequentialLR(o, [schedules.ExponentialLR(o, 0.5), schedules.StepLR(o, 3)], [2]), 4)
    np.testing.assert_allclose(path[:, 0], [0.5, 0.25, 0.5, 0.5, 0.5])
    assert chain.optimizer is o


@pytest.mark.parametrize("mode, threshold_mode, values, epochs", [
    # the epochs at which the rate falls, counted by hand: patience 1, so at the second bad epoch in a row
    ("min", "rel", [1.0, 0.9, 0.895, 0.895, 0.7, 0.69, 0.6, 0.6, 0.6], [3, 8]),
    ("max", "rel", [1.0, 1.05, 1.2, 1.1, 1.3, 1.4, 1.6, 1.5, 1.5], [4, 8]),
    ("min", "abs", [1.0, 0.95, 0.85, 0.8, 0.8, 0.1, 0.1, 0.1, 0.1], [4, 7]),
    ("max", "abs", [1.0, 1.05, 1.08, 1.0, 1.2, 1.1, 1.1, 1.1, 1.1], [2, 6, 8])])
def test_plateaus(mode, threshold_mode, values, epochs):
    o = make()
    s = schedules.ReduceLROnPlateau(o, mode=mode, factor=0.5, patience=1, threshold=0.1, threshold_mode=threshold_mode)
    fell, before = [], rates_of(o)
    for k, value in enumerate(values):
        s.step(engine.tensor(value) if k % 2 else value)
        if rates_of(o) != before:
            np.testing.assert_allclose(rates_of(o), np.array(before) / 2)
            fell, before = [*fell, k], rates_of(o)
    assert fell == epochs and s.get_last_lr() == before and s.last_epoch == len(values)


def test_cooldown_least_rates_and_state_of_plateaus():
    o = make()
    s = schedules.ReduceLROnPlateau(o, factor=0.5, patience=0, cooldown=2, min_lr=[0.3, 0.01])
    path = []
    for _ in range(8):
        s.step(1.0)
        path.append(rates_of(o))
    assert [r for _, r in path] == [0.2, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.025]
    assert [r for r, _ in path] == [0.5] + [0.3] * 7
    again = make()
    resumed = schedules.ReduceLROnPlateau(again)
    resumed.load_state_dict(copy.deepcopy(s.state_dict()))
    again.load_state_dict(o.state_dict())
    assert resumed.in_cooldown and resumed.best == 1.0
    for _ in range(3):
        resumed.step(1.0)
    assert rates_of(again) == [0.3, 0.0125]
    o.add_param_group({"params": [engine.ones(1)]})
    with pytest.raises(RuntimeError, match="Please modify the `min_lrs` field"):
        for _ in range(4):
            s.step(1.0)


# --- state of functions, warnings, refusals ---------------------------------------------------------------------------

class Halving:
    def __init__(self, start):
        self.start = start

    def __call__(self, epoch):
        return self.start * 0.5 ** epoch


def test_functions_stay_and_objects_keep_their_attributes():
    o = make()
    s = schedules.LambdaLR(o, [Halving(2.0), lambda e: 1.0])
    saved = s.state_dict()
    assert saved["lr_lambdas"] == [{"start": 2.0}, None]
    other = schedules.LambdaLR(make(), [Halving(1.0), lambda e: 1.0])
    other.load_state_dict(saved)
    assert other.lr_lambdas[0].start == 2.0
    cyclic = schedules.CyclicLR(make(), 0.1, 1.0, scale_fn=Halving(3.0))
    assert cyclic.state_dict()["_scale_fn_custom"] == {"start": 3.0}
    other = schedules.CyclicLR(make(), 0.1, 1.0, scale_fn=Halving(1.0))
    other.load_state_dict(cyclic.state_dict())
    assert other.scale_fn(0) == 3.0


def test_warnings_about_the_order_of_calls():
    s = schedules.StepLR(make(), 1)
    with pytest.warns(UserWarning, match=r"Detected call of `lr_scheduler.step\(\)` before `optimizer.step\(\)`"):
        s.step()
    o = make()
    s = schedules.StepLR(o, 1)
    o.step = lambda: None
    with pytest.warns(UserWarning, match="has been overridden after learning rate scheduler initialization"):
        s.step()
    with pytest.warns(UserWarning, match="please use `get_last_lr"):
        s.get_lr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        o = make()
        s, t = schedules.StepLR(o, 1), schedules.ExponentialLR(o, 0.5)      # two on one optimizer
        o.step()
        s.step()
        t.step()


def test_rates_of_groups_and_initial_rates():
    o = make()
    schedules.ExponentialLR(o, 0.5)
    assert [g["initial_lr"] for g in o.param_groups] == list(BASE)
    assert "initial_lr" in o.state_dict()["param_groups"][0]
    with pytest.raises(NotImplementedError, match=r"get_lr\(\)"):
        schedules.LRScheduler(o)


REFUSED = [
    (lambda: schedules.StepLR(3, 1), TypeError, "int is not an Optimizer"),
    (lambda: schedules.StepLR(make(), 1, last_epoch=3), KeyError, "param 'initial_lr' is not specified in param_groups"),
    (lambda: schedules.LambdaLR(make(), [lambda e: 1]), ValueError, "Expected 2 lr_lambdas, but got 1"),
    (lambda: schedules.MultiplicativeLR(make(), 3), TypeError, "lr_lambda should be a function, but got int"),
    (lambda: schedules.ConstantLR(make(), 2.0), ValueError, "Constant multiplicative factor expected to be between 0 and 1"),
    (lambda: schedules.LinearLR(make(), 0), ValueError, "Starting multiplicative factor expected to be greater than 0"),
    (lambda: schedules.LinearLR(make(), 1, 2), ValueError, "Ending multiplicative factor expected to be between 0 and 1"),
    (lambda: schedules.CosineAnnealingWarmRestarts(make(), 0), ValueError, "Expected positive integer T_0, but got 0"),
    (lambda: schedules.CosineAnnealingWarmRestarts(make(), 1, 0), ValueError, "Expected integer T_mult >= 1, but got 0"),
    (lambda: schedules.CosineAnnealingWarmRestarts(make(), 1, eta_min="a"), ValueError, "Expected float or int eta_min"),
    (lambda: schedules.CyclicLR(2, 0.1, 1.0), TypeError, "int is not an Optimizer"),
    (lambda: schedules.CyclicLR(make(), [0.1], 1.0), ValueError, "base_lr must have the same length as optimizer.param_groups"),
    (lambda: schedules.CyclicLR(make(), 0.1, 1.0, mode="up"), ValueError, "mode is invalid and scale_fn is None"),
    (lambda: schedules.CyclicLR(make("Adagrad"), 0.1, 1.0), ValueError, "optimizer must support momentum or beta1"),
    (lambda: schedules.OneCycleLR(make(), 1.0), ValueError, "You must define either total_steps OR"),
    (lambda: schedules.OneCycleLR(make(), 1.0, total_steps=0), ValueError, "Expected positive integer total_steps, but got 0"),
    (lambda: schedules.OneCycleLR(make(), 1.0, epochs=0, steps_per_epoch=2), ValueError, "positive integer epochs, but got 0"),
    (lambda: schedules.OneCycleLR(make(), 1.0, epochs=2, steps_per_epoch=-1), ValueError, "integer steps_per_epoch, but got -1"),
    (lambda: schedules.OneCycleLR(make(), 1.0, 10, pct_start=2.0), ValueError, "Expected float between 0 and 1 pct_start"),
    (lambda: schedules.OneCycleLR(make(), 1.0, 10, anneal_strategy="x"), ValueError, "must be one of 'cos' or 'linear'"),
    (lambda: schedules.OneCycleLR(make("Adagrad"), 1.0, 10), ValueError, "optimizer must support momentum or beta1"),
    (lambda: schedules.OneCycleLR(make(), [1.0], 10), ValueError, "max_lr has 1 values, param_groups has 2"),
    (lambda: schedules.ReduceLROnPlateau(make(), factor=1.0), ValueError, "Factor should be < 1.0"),
    (lambda: schedules.ReduceLROnPlateau(make(), "x"), ValueError, "mode x is unknown!"),
    (lambda: schedules.ReduceLROnPlateau(make(), threshold_mode="x"), ValueError, "threshold mode x is unknown!"),
    (lambda: schedules.ReduceLROnPlateau(make(), min_lr=[1]), ValueError, "expected 2 min_lrs, got 1"),
    (lambda: schedules.SequentialLR(make(), [], []), ValueError, "SequentialLR expects at least one scheduler, but got no"),
    (lambda: schedules.SequentialLR(make(), [3], []), TypeError, "should have `optimizer` as its attribute"),
    (lambda: schedules.SequentialLR(make(), [schedules.StepLR(make(), 1)], []), ValueError, "to belong to the same optimizer"),
    (lambda: schedules.ChainedScheduler([]), ValueError, "at least one scheduler to be chained"),
    (lambda: schedules.ChainedScheduler([schedules.ReduceLROnPlateau(make())]), ValueError, "does not support `ReduceLROnPlateau`"),
]


@pytest.mark.parametrize("build, error, words", REFUSED, ids=range(len(REFUSED)))
def test_what_schedules_refuse(build, error, words):
    with pytest.raises(error, match=words):
        build()


def test_a_sequence_counts_its_milestones():
    o = make()
    with pytest.raises(ValueError, match="one more than the number of milestone points"):
        schedules.SequentialLR(o, [schedules.StepLR(o, 1)], [1])
