"""What `fit` and `evaluate` show while they work: a bar of tqdm, plain lines, or nothing.

tqdm is optional; it is used where it is installed and the output is a terminal or a notebook.
"""
from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

WAYS = (True, False, "bar", "lines")


def show(verbose: Any) -> Lines | Bar | Silent:
    """What shows progress: verbose=True a bar where that can be, else lines; "bar" and "lines" insist; False nothing."""
    if not any(verbose is way or (isinstance(way, str) and verbose == way) for way in WAYS):
        raise ValueError(f"verbose must be True, False, 'bar' or 'lines', but it is {verbose!r}")
    if verbose is False:
        return Silent()
    if verbose == "lines" or (verbose is True and not (sys.stderr.isatty() or "ipykernel" in sys.modules)):
        return Lines()
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        if verbose == "bar":
            raise ImportError("verbose='bar': tqdm is not installed (pip install tqdm)") from error
        return Lines()
    return Bar(tqdm)


def text(logs: Mapping[str, float]) -> str:
    """The numbers of an epoch in one line."""
    return ", ".join(f"{name} {value:.4g}" for name, value in logs.items())


class Silent:
    """Shows nothing."""

    def begin(self, label: str, total: int | None) -> None:
        """A pass over a loader begins."""

    def advance(self, loss: float) -> None:
        """A batch is done; `loss` is the mean so far."""

    def end(self, logs: Mapping[str, float]) -> None:
        """The pass is done."""

    def say(self, line: str) -> None:
        """A remark."""

    def close(self) -> None:
        """No more will come: also after an error."""


class Lines(Silent):
    """A line for each epoch, on the standard output."""

    def begin(self, label: str, total: int | None) -> None:
        self._label = label

    def end(self, logs: Mapping[str, float]) -> None:
        self.say(f"{self._label}: {text(logs)}")

    def say(self, line: str) -> None:
        print(line, flush=True)


class Bar(Silent):
    """A bar for each epoch, which ends with its numbers."""

    def __init__(self, tqdm: Any) -> None:
        self._tqdm, self._bar = tqdm, None

    def begin(self, label: str, total: int | None) -> None:
        self._bar = self._tqdm(total=total, desc=label, unit="batch", dynamic_ncols=True)

    def advance(self, loss: float) -> None:
        self._bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
        self._bar.update()

    def end(self, logs: Mapping[str, float]) -> None:
        self._bar.set_postfix_str(text(logs))
        self.close()

    def say(self, line: str) -> None:
        self._tqdm.write(line)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
