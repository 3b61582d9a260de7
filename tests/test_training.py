"""engine.training: fit against the loop written by hand, averages, callbacks, checkpoints after interruptions, errors."""
import math
import pathlib
import random
import subprocess
import sys
import types

import numpy as np
import pytest

import engine as torch
from engine import nn, optim
from engine.training import (
    Callback,
    Checkpoint,
    ClipGradients,
    EarlyStopping,
    History,
    Metric,
    RootMeanSquaredError,
    Schedule,
    StopOnNaN,
    accuracy,
    binary_accuracy,
    evaluate,
    fit,
    mean_absolute_error,
    mean_squared_error,
    predict,
)
from engine.utils.data import DataLoader, TensorDataset

ROOT = pathlib.Path(__file__).resolve().parent.parent


def data(n=50):
    numbers = np.random.default_rng(5)
    x = numbers.normal(size=(n, 3)).astype("float32")
    y = x @ np.float32([[0.2], [-1.3], [-0.5]]) + 0.1 * numbers.normal(size=(n, 1)).astype("float32")
    return torch.from_numpy(x), torch.from_numpy(y)


def network(seed=1):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))


class Line(nn.Module):
    """w x with one weight, whose training can be followed by hand."""

    def __init__(self, w=0.0):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w))

    def forward(self, x):
        return self.w * x


def sgd(model, lr=0.1):
    return optim.SGD(model.parameters(), lr=lr)


def weights(model):
    return [value.tolist() for value in model.state_dict().values()]


# --- the loop ---------------------------------------------------------------------------------------------------------

def test_fit_is_the_loop_written_by_hand(capsys):
    x, y = data()
    model, loss = network(), nn.MSELoss()
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(3):
        total = 0.0
        for given, target in DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True):
            optimizer.zero_grad()
            value = loss(model(given), target)
            value.backward()
            optimizer.step()
            total += value.item() * len(given)
        losses.append(total / len(x))
    other = network()
    history = fit(other, DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True), loss,
                  optim.SGD(other.parameters(), lr=0.05, momentum=0.9), epochs=3)
    assert weights(other) == weights(model)
    assert history["loss"] == losses and history["lr"] == [0.05] * 3 and list(history) == ["loss", "lr"]
    assert len(history.seconds) == history.epochs == 3
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["Epoch 1/3", "Epoch 2/3", "Epoch 3/3"]


def test_metrics_are_averages_over_samples_not_batches():
    """5 samples in batches of 2, 2, 1, from a model that stays: every average has a closed form."""
    x, y = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), torch.zeros(5)
    model = Line(1.0)
    loader = DataLoader(TensorDataset(x, y), batch_size=2)
    metrics = {"mae": "mae", "rmse": RootMeanSquaredError, "each": lambda p, t: (p - t).abs(), "number": lambda p, t: 2.5,
               "above": lambda p, t: p > 2.5, "largest": Largest()}
    expected = {"loss": 11.0, "mae": 3.0, "rmse": math.sqrt(11.0), "each": 3.0, "number": 2.5, "above": 0.6, "largest": 5.0}
    judged = evaluate(model, loader, nn.MSELoss(), metrics)
    assert judged == pytest.approx(expected, rel=1e-6) and all(type(v) is float for v in judged.values())
    assert evaluate(model, loader, nn.MSELoss(reduction="sum"))["loss"] == pytest.approx(11.0)
    assert evaluate(model, loader, metrics=mean_absolute_error) == {"mean_absolute_error": pytest.approx(3.0)}
    history = fit(model, loader, nn.MSELoss(reduction="sum"), sgd(model, 0.0), 1, valid=loader, metrics=metrics, verbose=False)
    assert {name: history[name][0] for name in expected} == pytest.approx(expected, rel=1e-6)
    assert {name: history[f"valid_{name}"][0] for name in expected} == pytest.approx(expected, rel=1e-6)


class Largest(Metric):
    def reset(self):
        self.seen = []

    def update(self, prediction, target):
        self.seen += prediction.tolist()

    def compute(self):
        return max(self.seen)


def test_metrics_by_definition():
    scores = torch.tensor([[1.0, 2.0, 0.0], [3.0, 1.0, 2.0], [0.0, 0.1, 0.2], [5.0, 1.0, 1.0]])
    assert accuracy(scores, torch.tensor([1, 0, 0, 0])).item() == 0.75
    assert accuracy(scores, torch.eye(3)[torch.tensor([1, 0, 0, 1])]).item() == 0.5
    assert binary_accuracy(torch.tensor([0.2, 0.7, 0.6]), torch.tensor([0.0, 1.0, 0.0])).item() == pytest.approx(2 / 3)
    assert binary_accuracy(torch.tensor([-1.0, 0.2]), torch.tensor([0.0, 1.0]), threshold=0).item() == 1
    assert mean_squared_error(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0])).item() == 2.5
    for wrong, words in ((lambda: accuracy(torch.zeros(4, 1), torch.zeros(4, 1)), "no classes"),
                         (lambda: accuracy(torch.zeros(4), torch.zeros(4)), "binary_accuracy"),
                         (lambda: mean_absolute_error(torch.zeros(4, 1), torch.zeros(4)), "equal shapes")):
        with pytest.raises(ValueError, match=words):
            wrong()


def test_modes_are_given_back_and_evaluation_is_in_evaluation_mode():
    x, y = data(8)
    model = network()
    model[0].eval()
    seen = []

    class Modes(Callback):
        def on_loss(self, run):
            seen.append(run.model[2].training)

    def judged(prediction, target):
        seen.append(model[2].training)
        return 0.0
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    fit(model, (x, y), nn.MSELoss(), optimizer, 1, valid=(x, y), metrics=[judged], callbacks=[Modes()], verbose=False)
    assert seen == [True, True, False] and [module.training for module in model] == [False, True, True, True]
    assert torch.allclose(predict(model, x), predict(model, [(x[:5], y[:5]), (x[5:], y[5:])]), atol=1e-6)
    assert evaluate(model, (x, y), nn.MSELoss()) == evaluate(model, (x, y), nn.MSELoss())
    with pytest.raises(ZeroDivisionError):
        fit(model, (x, y), lambda p, t: 1 / 0, optimizer, 1, verbose=False)
    assert [module.training for module in model] == [False, True, True, True]


def test_predictions_and_inputs_may_be_nested():
    class Two(nn.Module):
        def forward(self, parts):
            return {"sum": parts["a"] + parts["b"][0], "twice": (parts["a"] * 2,)}
    a, b = torch.arange(5.0), torch.ones(5)
    batches = [({"a": a[:3], "b": [b[:3]]}, 0), ({"a": a[3:], "b": [b[3:]]}, 0)]
    out = predict(Two(), batches, device="cpu")
    assert out["sum"].tolist() == [1, 2, 3, 4, 5] and out["twice"][0].tolist() == [0, 2, 4, 6, 8]
    assert not predict(Line(), [a]).requires_grad and predict(Line(2.0), [a, a]).shape == (10,)


def test_lbfgs_gets_its_closure():
    model = Line()
    x = torch.tensor([1.0, 2.0, 3.0])
    history = fit(model, (x, 3 * x), nn.MSELoss(), optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe"), 1, verbose=False)
    assert model.w.item() == pytest.approx(3) and history["loss"] == [pytest.approx(42.0)]


# --- callbacks --------------------------------------------------------------------------------------------------------

def test_the_moments_come_in_order():
    log = []

    class All(Callback):
        def __getattribute__(self, name):
            if name.startswith("on_"):
                return lambda run: log.append((name, run.epoch, run.batch))
            return super().__getattribute__(name)
    model = Line()
    x = torch.ones(2)
    fit(model, [(x, x), (x, x)], nn.MSELoss(), sgd(model), 2, callbacks=[All()], verbose=False)
    batch = ["on_loss", "on_backward", "on_batch_end"]
    assert [name for name, _, _ in log] == ["on_fit_begin", *["on_epoch_begin", *batch, *batch, "on_epoch_end"] * 2, "on_fit_end"]
    assert log[1:3] == [("on_epoch_begin", 1, 0), ("on_loss", 1, 1)] and log[-1] == ("on_fit_end", 2, 2)


def scripted(values):
    """A metric that gives prepared numbers, one an epoch, so that what callbacks do with them is known."""
    numbers = iter(values)
    metric = Largest()
    metric.name, metric.compute = "score", lambda: next(numbers)
    return metric


@pytest.mark.parametrize("scores, options, stopped, best", [
    ([5, 4, 4, 4, 3], {"patience": 2}, 4, (2, 4)),
    ([5, 4, 3.5, 3.2, 3], {"patience": 2, "min_delta": 0.8}, 4, (2, 4)),
    ([5, 4, 3.5, 3.2, 3], {"patience": 2}, None, (5, 3)),
    ([1, 2, 3, 2, 1], {"patience": 1, "mode": "max"}, 4, (3, 3)),
    ([3, math.nan, math.nan, 1], {"patience": 2}, 3, (1, 3)),
])
def test_early_stopping(scores, options, stopped, best):
    model, x, kept = Line(), torch.ones(2), []
    early = EarlyStopping("score", **options)
    history = fit(model, (x, x), nn.MSELoss(), sgd(model), len(scores), metrics=[scripted(scores)],
                  callbacks=[early, lambda run: kept.append(model.w.item())], verbose=False)
    assert early.stopped_epoch == stopped and (early.best_epoch, early.best_value) == best
    assert history.epochs == (stopped or len(scores)) and model.w.item() == kept[best[0] - 1]
    assert "min_delta" in options or history.best("score", options.get("mode", "min")) == best


def test_early_stopping_watches_validation_and_may_leave_the_last_weights():
    model, x = Line(), torch.ones(2)
    early = EarlyStopping(patience=1, restore_best=False)
    history = fit(model, (x, x), nn.MSELoss(), sgd(model), 9, valid=(x, -x), callbacks=[early], verbose=False)
    assert early.stopped_epoch == 2 and early.best_epoch == 1 and history["valid_loss"][0] < history["valid_loss"][1]
    assert model.w.item() == pytest.approx(0.36)                # 0.2 after one step, 0.2 + 0.2 * 0.8 after two
    with pytest.raises(ValueError, match=r"no 'valid_mae' to watch; an epoch has loss, lr \(is valid= missing"):
        fit(model, (x, x), nn.MSELoss(), sgd(model), 1, callbacks=[EarlyStopping("valid_mae")], verbose=False)


def test_schedules_step_after_epochs_or_batches():
    def rates(make, each="epoch", **options):
        model, x = Line(), torch.ones(1)
        optimizer = optim.SGD(model.parameters(), lr=1.0)
        seen = []

        class See(Callback):
            def on_loss(self, run):
                seen.append(optimizer.param_groups[0]["lr"])
        fit(model, [(x, x), (x, x)], lambda p, t: p.sum() * 0, optimizer, 3, verbose=False,
            metrics=[scripted([3, 2, 1])], callbacks=[See(), Schedule(make(optimizer), each, **options)])
        return seen
    halve = lambda optimizer: optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    assert rates(halve) == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert rates(halve, "batch") == [1, 0.5, 0.25, 0.125, 0.0625, 0.03125]
    plateau = lambda optimizer: optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=0)
    assert rates(plateau) == pytest.approx([1, 1, 1, 1, 0.1, 0.1])              # the loss is 0 throughout
    assert rates(plateau, monitor="score") == pytest.approx([1, 1, 1, 1, 1, 1])
    for wrong, words in ((lambda: rates(halve, "step"), "'epoch' or 'batch'"), (lambda: rates(plateau, "batch"), "each='epoch'"),
                         (lambda: rates(halve, monitor="loss"), "ExponentialLR watches nothing")):
        with pytest.raises(ValueError, match=words):
            wrong()


def test_gradients_are_clipped_before_the_step():
    def step(**options):
        model = nn.Linear(2, 1)
        with torch.no_grad():
            for p in model.parameters():
                p.zero_()
        x = torch.tensor([[3.0, 4.0]])
        fit(model, (x, x[:, :1]), lambda p, t: p.sum(), sgd(model, 1.0), 1, callbacks=[ClipGradients(**options)], verbose=False)
        return [*model.weight.tolist()[0], model.bias.item()]
    norm = math.sqrt(26)
    assert step(max_norm=1.0) == pytest.approx([-3 / norm, -4 / norm, -1 / norm], rel=1e-5)
    assert step(max_norm=4.0, norm_type=math.inf) == pytest.approx([-3, -4, -1], rel=1e-5)
    assert step(max_value=2.0) == [-2, -2, -1]
    with pytest.raises(ValueError, match="give max_norm or max_value"):
        ClipGradients()


def test_a_loss_of_nan_stops_before_the_weights():
    x, bad = torch.ones(1), torch.tensor([math.nan])
    batches = [(x, x), (bad, x), (x, x)]
    model = Line(0.5)
    history = fit(model, batches, nn.MSELoss(), sgd(model), 3, callbacks=[StopOnNaN()], verbose=False)
    assert model.w.item() == pytest.approx(0.6) and history.epochs == 0
    with pytest.raises(FloatingPointError, match="the loss is nan in batch 2 of epoch 1"):
        fit(model, batches, nn.MSELoss(), sgd(model), 3, callbacks=[StopOnNaN(error=True)], verbose=False)


# --- checkpoints ------------------------------------------------------------------------------------------------------

class Interrupt(Callback):
    """Ctrl-C in the second batch of an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_end(self, run):
        if (run.epoch, run.batch) == (self.epoch, 2):
            raise KeyboardInterrupt


class Noisy(TensorDataset):
    """Samples with noise from each source of random numbers there is."""

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return x + 0.01 * (torch.randn(3) + random.random() + np.random.rand()), y


def train(folder, epochs=5, interrupt=0, resume=None):
    random.seed(3)
    np.random.seed(4)
    model = network()
    optimizer = optim.Adam(model.parameters(), lr=0.02)
    loader = DataLoader(Noisy(*data(24)), batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(9))
    early = EarlyStopping(patience=4)
    callbacks = [
        Checkpoint(folder, keep=2, best=True), early, Schedule(optim.lr_scheduler.OneCycleLR(optimizer, 0.05, 15), "batch"),
        Schedule(optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)), ClipGradients(max_norm=2.0), Interrupt(interrupt)]
    history = fit(model, loader, nn.MSELoss(), optimizer, epochs, valid=data(24), metrics=["mae"], callbacks=callbacks,
                  resume=resume, verbose=False)
    moments = [state["exp_avg"].tolist() for state in optimizer.state_dict()["state"].values()]
    return weights(model), dict(history), moments, (early.best_epoch, early.best_value)


def test_after_ctrl_c_in_any_epoch_training_goes_on_to_the_same_numbers(tmp_path):
    whole = train(tmp_path / "whole")
    files = sorted(p.name for p in (tmp_path / "whole").iterdir())
    assert files == ["best.ckpt", "epoch-0004.ckpt", "epoch-0005.ckpt"]
    for epoch in range(1, 6):
        folder = tmp_path / str(epoch)
        with pytest.raises(KeyboardInterrupt):
            train(folder, interrupt=epoch)
        torch.manual_seed(12345)
        assert train(folder, resume=True) == whole
        assert sorted(p.name for p in folder.iterdir()) == files
    assert train(tmp_path / "5", resume=tmp_path / "5")[1] == whole[1]           # nothing was left to do
    best = torch.load(tmp_path / "whole" / "best.ckpt")
    assert best["epoch"] == whole[3][0] and [v.tolist() for v in best["model"].values()] == whole[0]


KILLED = """
import os, sys
import engine as torch
from engine import nn, optim
from engine.training import Callback, Checkpoint, fit

class Kill(Callback):
    def on_backward(self, run):
        if run.epoch == int(sys.argv[2]):
            os.kill(os.getpid(), 9) if os.name == "posix" else os._exit(9)

torch.manual_seed(1)
model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))
x = torch.randn(16, 3)
fit(model, [(x[:8], x[:8, :1]), (x[8:], x[8:, :1])], nn.MSELoss(), optim.Adam(model.parameters(), lr=0.02), 3,
    callbacks=[Checkpoint(sys.argv[1]), Kill()], resume=True)
print([p.tolist() for p in model.parameters()])
"""


def test_a_killed_process_is_resumed_by_the_same_command(tmp_path):
    def run(folder, kill):
        return subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / folder), kill], cwd=ROOT, timeout=300,
                              capture_output=True, text=True)
    whole = run("whole", "0")
    assert whole.returncode == 0, whole.stderr
    assert run("cut", "3").returncode != 0
    again = run("cut", "0")
    assert again.stdout.splitlines()[0].startswith("Going on after epoch 2, from ")
    assert again.stdout.splitlines()[-1] == whole.stdout.splitlines()[-1]


def test_a_run_that_had_stopped_stays_stopped(tmp_path):
    def once(resume):
        model, x = Line(), torch.ones(2)
        return model, fit(model, (x, x), nn.MSELoss(), sgd(model), 9, valid=(x, -x), resume=resume,
                          callbacks=[EarlyStopping(patience=2), Checkpoint(tmp_path)], verbose=False)
    model, history = once(False)
    again, later = once(True)
    assert history.epochs == 3 and later == history and again.w.item() == model.w.item() == pytest.approx(0.2)


def test_checkpoints_that_cannot_serve_say_why(tmp_path):
    def go(resume, callbacks=(), loader=None, model=None):
        model, x = model or Line(), torch.ones(2)
        return fit(model, loader or (x, x), nn.MSELoss(), sgd(model), 1, callbacks=callbacks, resume=resume,
                   verbose=False)
    with pytest.raises(ValueError, match="there is none; give callbacks="):
        go(True)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        go(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        go(tmp_path)
    go(True, [Checkpoint(tmp_path)])
    file = tmp_path / "epoch-0001.ckpt"
    with pytest.raises(ValueError, match=r"callbacks \['Checkpoint'\], but this call has \['StopOnNaN', 'Checkpoint'\]"):
        go(file, [Checkpoint(tmp_path), StopOnNaN()])
    loader = DataLoader(TensorDataset(*data(4)), shuffle=True, generator=torch.Generator())
    with pytest.raises(ValueError, match="with 0 generators in the loaders, but this call has 1"):
        go(file, [Checkpoint(tmp_path)], loader)
    with pytest.raises(RuntimeError, match="Missing key"):
        go(file, [Checkpoint(tmp_path)], model=nn.Linear(1, 1))
    torch.save({"w": torch.ones(1)}, tmp_path / "other")
    with pytest.raises(ValueError, match="is no checkpoint of fit"):
        go(tmp_path / "other")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(RuntimeError, match=r"epoch-0001\.ckpt"):
        go(file, [Checkpoint(tmp_path)])
    with pytest.raises(ValueError, match="every and keep must be at least 1"):
        Checkpoint(tmp_path, every=0)


def test_a_new_run_in_an_old_folder_replaces_its_checkpoints(tmp_path):
    def go(epochs, every=1, keep=None):
        model, x = Line(), torch.ones(2)
        fit(model, (x, x), nn.MSELoss(), sgd(model), epochs, verbose=False,
            callbacks=[Checkpoint(tmp_path, every, keep)])
        return sorted(int(p.stem[-4:]) for p in tmp_path.iterdir())
    assert go(5, every=2) == [2, 4, 5] and go(3) == [1, 2, 3] and go(3, keep=1) == [3]


# --- what it shows ----------------------------------------------------------------------------------------------------

def test_a_bar_where_tqdm_is_installed(monkeypatch, capsys):
    log = []

    class Tqdm:
        def __init__(self, **options):
            log.append((options["desc"], options["total"]))

        def set_postfix_str(self, text, refresh=True):
            log.append(text)

        def update(self):
            log.append("update")

        def close(self):
            log.append("close")

        write = staticmethod(log.append)
    model, x = Line(), torch.ones(1)
    go = lambda verbose, callbacks=(): fit(model, [(x, x), (x, x)], nn.L1Loss(), optim.SGD(model.parameters(), lr=0.0), 1,
                                           callbacks=callbacks, verbose=verbose)
    monkeypatch.setitem(sys.modules, "tqdm", types.ModuleType("tqdm"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", types.SimpleNamespace(tqdm=Tqdm))
    go("bar", [lambda run: run.stop("enough")])
    assert log == [("Epoch 1/1", 2), "loss 1", "update", "loss 1", "update", "loss 1", "close", "Stopped in epoch 1: enough"]
    assert capsys.readouterr().out == ""
    log.clear()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    go(True)
    assert log and not capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    go(True)
    assert capsys.readouterr().out == "Epoch 1/1: loss 1\n"
    with pytest.raises(ImportError, match="pip install tqdm"):
        go("bar")
    with pytest.raises(ValueError, match="'bar' or 'lines'"):
        go(3)


def test_history_is_a_dictionary_of_lists():
    history = History()
    assert repr(history) == "History(no epochs)" and len(history) == 0
    history.append({"loss": 2.0}, 0.1)
    history.append({"loss": 1.0, "accuracy": 0.5}, 0.1)
    assert history["loss"] == [2, 1] and math.isnan(history["accuracy"][0]) and "accuracy" in history
    assert history.best("accuracy") == (2, 0.5) and history.best("loss") == (2, 1)
    assert repr(history) == "History(2 epochs; last: loss 1, accuracy 0.5)"
    with pytest.raises(KeyError, match="no 'mae' in the history, which has loss, accuracy"):
        history["mae"]
    with pytest.raises(ValueError, match="'min', 'max' or 'auto'"):
        history.best("loss", "least")


def test_plot(tmp_path):
    pytest.importorskip("matplotlib", reason="draws with matplotlib, an extra (plot)").use("Agg")
    history = History({"loss": [2, 1], "valid_loss": [3, 2], "accuracy": [0.1, 0.4], "lr": [1, 1]}, [0.1, 0.1])
    figure = history.plot(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert [ax.get_title() for ax in figure.axes] == ["loss", "accuracy"]
    assert [list(line.get_ydata()) for line in figure.axes[0].lines] == [[2, 1], [3, 2]]
    assert len(history.plot(tmp_path / "one.png", ["lr"]).axes) == 1
    with pytest.raises(KeyError, match="no mae in the history"):
        history.plot(names=["mae"])
    with pytest.raises(ValueError, match="no epoch yet"):
        History().plot()


def test_plot_without_matplotlib_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        History({"loss": [1.0]}, [0.1]).plot()


# --- errors -----------------------------------------------------------------------------------------------------------

X = torch.ones(4)


@pytest.mark.parametrize("changes, kind, words", [
    ({"loss": nn.MSELoss(reduction="none")}, ValueError, r"single number, but its shape is \(4,\)"),
    ({"loss": nn.MSELoss(reduction="none")}, RuntimeError, "reduction='mean'"),
    ({"loss": lambda p, t: 1.0}, TypeError, "returned a float"),
    ({"loss": lambda p, t: t.sum()}, ValueError, "does not depend on any parameter"),
    ({"train_loader": []}, ValueError, "train_loader gave no batches"),
    ({"valid": []}, ValueError, "valid gave no batches"),
    ({"train_loader": iter([(X, X)]), "epochs": 2}, ValueError, "walked only once"),
    ({"train_loader": TensorDataset(X, X)}, TypeError, r"single samples; wrap it: DataLoader\(train_loader"),
    ({"train_loader": X}, TypeError, "must give batches"),
    ({"train_loader": [X]}, ValueError, r"must be a pair \(input, target\), but it is a Tensor"),
    ({"train_loader": [(X, X, X)]}, ValueError, "it is a tuple of 3; several inputs go into one tuple"),
    ({"epochs": -1}, ValueError, "not negative"), ({"epochs": 1.5}, ValueError, "whole number"),
    ({"callbacks": [EarlyStopping]}, TypeError, "callbacks must be Callback objects"),
    ({"metrics": ["f1"]}, ValueError, "'f1' is none of accuracy"), ({"metrics": [3]}, TypeError, "a int is no metric"),
    ({"metrics": [lambda p, t: 0, lambda p, t: 1]}, ValueError, "name '<lambda>' is taken"),
    ({"metrics": {"loss": "mae"}}, ValueError, "name 'loss' is taken"),
])
def test_arguments_that_do_not_fit(changes, kind, words):
    model = Line()
    given = {"train_loader": [(X, X)], "loss": nn.MSELoss(), "optimizer": sgd(model), "epochs": 1,
             "verbose": False} | changes
    with pytest.raises(kind, match=words):
        fit(model, **given)


def test_other_errors():
    with pytest.raises(ValueError, match="evaluate: give a loss, metrics, or both"):
        evaluate(Line(), [(X, X)])
    with pytest.raises(ValueError, match="predict: loader gave no batches"):
        predict(Line(), [])
    with pytest.raises(ValueError, match="patience must be at least 1"):
        EarlyStopping(patience=0)
    with pytest.raises(ValueError, match="min_delta must not be negative"):
        EarlyStopping(min_delta=-1)
