"""History: the numbers of a training run, epoch by epoch, as a dictionary of lists that draws itself.

`fit` fills and returns it; checkpoints keep it.
"""
from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class History(Mapping):
    """{"loss": [...], "valid_loss": [...], "accuracy": [...], "lr": [...]}, one number for each epoch.

    An epoch without a number of that name has NaN. `seconds` are the times that the epochs took, apart from the numbers, since
    they differ from run to run.
    """

    def __init__(self, values: Mapping[str, Sequence[float]] | None = None, seconds: Sequence[float] = ()) -> None:
        self._values: dict[str, list[float]] = {name: list(column) for name, column in (values or {}).items()}
        self.seconds: list[float] = list(seconds)

    def append(self, logs: Mapping[str, float], seconds: float) -> None:
        """Add an epoch."""
        for name in logs:
            self._values.setdefault(name, [math.nan] * self.epochs)
        for name, column in self._values.items():
            column.append(float(logs.get(name, math.nan)))
        self.seconds.append(seconds)

    @property
    def epochs(self) -> int:
        """How many epochs there are."""
        return len(self.seconds)

    def best(self, name: str = "valid_loss", mode: str = "auto") -> tuple[int, float]:
        """(epoch, value) of the best value, epochs counted from 1; `mode` "min", "max", or "auto" as in EarlyStopping."""
        found = [(value, epoch) for epoch, value in enumerate(self[name], start=1) if not math.isnan(value)]
        if not found:
            raise ValueError(f"best: there is no value of {name!r} yet")
        largest = better_is_larger(name, mode)
        value, epoch = max(found, key=lambda pair: pair[0]) if largest else min(found)
        return epoch, value

    def plot(self, file: str | os.PathLike | None = None, names: Sequence[str] | None = None) -> Any:
        """Draw the numbers over the epochs, training and validation of one quantity in one plot, and return matplotlib's figure.

        `names` chooses the quantities (default: all but the learning rate); with `file`, the picture is written there. Without,
        show it with `matplotlib.pyplot.show()` or as the last line of a notebook's cell. Errors: ImportError without matplotlib,
        KeyError for unknown names, ValueError before the first epoch.
        """
        try:
            import matplotlib.pyplot as plt
        except ImportError as error:
            raise ImportError("History.plot: matplotlib is not installed (pip install matplotlib)") from error
        shown = list(dict.fromkeys(name.removeprefix("valid_") for name in (names or self) if names or name != "lr"))
        unknown = [name for name in shown if name not in self and f"valid_{name}" not in self]
        if unknown:
            raise KeyError(f"plot: no {', '.join(unknown)} in the history, which has {', '.join(self)}")
        if not self.epochs:
            raise ValueError("plot: the history has no epoch yet")
        figure, axes = plt.subplots(1, len(shown), figsize=(5 * len(shown), 3.6), squeeze=False, layout="constrained")
        epochs = range(1, self.epochs + 1)
        style = "o-" if self.epochs <= 30 else "-"
        for ax, name in zip(axes[0], shown, strict=True):
            for column, label in ((name, "training"), (f"valid_{name}", "validation")):
                if column in self:
                    ax.plot(epochs, self[column], style, markersize=3, label=label)
            ax.set(xlabel="epoch", title=name)
            ax.xaxis.get_major_locator().set_params(integer=True)
            ax.grid(alpha=0.3)
            ax.legend()
        if file is not None:
            figure.savefig(file, dpi=120)
            plt.close(figure)
        return figure

    def __getitem__(self, name: str) -> list[float]:
        if name not in self._values:
            raise KeyError(f"no {name!r} in the history, which has {', '.join(self._values) or 'nothing yet'}")
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        if not self.epochs:
            return "History(no epochs)"
        last = ", ".join(f"{name} {column[-1]:.4g}" for name, column in self._values.items())
        return f"History({self.epochs} epochs; last: {last})"


def better_is_larger(name: str, mode: str) -> bool:
    """Whether a quantity is better when larger: `mode` is "min", "max", or "auto", which means names with "accuracy" in them."""
    if mode not in ("min", "max", "auto"):
        raise ValueError(f"mode must be 'min', 'max' or 'auto', but it is {mode!r}")
    return mode == "max" or (mode == "auto" and "accuracy" in name)
