"""Training in a few lines: `fit`, `evaluate`, `predict`, with metrics, callbacks, checkpoints and a history.

    from engine.training import EarlyStopping, Checkpoint, fit

    history = fit(model, train_loader, nn.CrossEntropyLoss(), optimizer, epochs=20, valid=valid_loader, metrics=["accuracy"],
                  callbacks=[EarlyStopping(patience=3), Checkpoint("checkpoints")])
    history.plot("training.png")

A run that was interrupted goes on with the same call and `resume=True`, to the same numbers. Nothing here is needed to train:
`fit` is the loop over `backward()` and `optimizer.step()` that one writes by hand, in `loop.py`.
"""
from .callbacks import Callback, ClipGradients, EarlyStopping, Schedule, StopOnNaN
from .checkpoints import Checkpoint
from .history import History
from .loop import Training, evaluate, fit, predict
from .metrics import (
    Metric,
    RootMeanSquaredError,
    accuracy,
    binary_accuracy,
    mean_absolute_error,
    mean_squared_error,
)

__all__ = [
    "Callback", "Checkpoint", "ClipGradients", "EarlyStopping", "History", "Metric", "RootMeanSquaredError", "Schedule",
    "StopOnNaN", "Training", "accuracy", "binary_accuracy", "evaluate", "fit", "mean_absolute_error", "mean_squared_error",
    "predict",
]
