"""Checkpoints: files from which an interrupted training goes on to the same numbers, bit for bit.

A file holds model, optimizer, history, the callbacks (early stopping, schedules, ...) and the states of all generators: the
engine's, those of the loaders, Python's and NumPy's. It is written aside and renamed, so that a file is whole or not there.
What Python objects of your own remember (a data set that changes, modules with state outside their state dict) is not in it.
"""
from __future__ import annotations

import os
import pathlib
import random
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import random as engine_random
from ..random import Generator
from ..serialization import load, save
from .callbacks import Best, Callback
from .history import History

if TYPE_CHECKING:
    from .loop import Training

VERSION = 1
_NAME = re.compile(r"epoch-(\d+)\.ckpt")


class Checkpoint(Callback):
    """Write `folder/epoch-0001.ckpt`, ... at the end of epochs; `fit(..., resume=True)` goes on from the newest.

    every      epochs between two files; the last epoch is written in any case
    keep       how many of the newest files stay; None keeps all
    best       also keep `folder/best.ckpt`, of the epoch whose `monitor` was best (see EarlyStopping for `monitor` and `mode`)

    `engine.load(file)["model"]` is the model's state dict.
    """

    def __init__(self, folder: str | os.PathLike, every: int = 1, keep: int | None = 2, best: bool = False,
                 monitor: str | None = None, mode: str = "auto") -> None:
        if every < 1 or (keep is not None and keep < 1):
            raise ValueError(f"Checkpoint: every and keep must be at least 1, but they are {every} and {keep}")
        self.folder, self.every, self.keep = pathlib.Path(folder), every, keep
        self._best = Best(monitor, mode) if best else None

    def on_fit_begin(self, run: Training) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._best:
            self._best.value, self._best.epoch = None, 0

    def on_epoch_end(self, run: Training) -> None:
        best = self._best is not None and self._best.improved(run.logs, run.epoch, "Checkpoint")
        due = run.epoch % self.every == 0 or run.epoch == run.epochs or run.stopping
        if not (best or due):
            return
        state = state_of(run)
        if best:
            save(state, self.folder / "best.ckpt")
        if due:
            save(state, self.folder / f"epoch-{run.epoch:04d}.ckpt")
            self._remove_old(run.epoch)

    def _remove_old(self, epoch: int) -> None:
        """Keep the newest files; those of later epochs belong to an earlier run in the same folder, which this one replaces."""
        files = numbered(self.folder)
        late = [file for number, file in files if number > epoch]
        own = [file for number, file in files if number <= epoch]
        for file in late + (own[:-self.keep] if self.keep else []):
            file.unlink(missing_ok=True)

    def state_dict(self) -> dict[str, Any]:
        return {"value": self._best.value, "epoch": self._best.epoch} if self._best else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self._best and state:
            self._best.value, self._best.epoch = state["value"], state["epoch"]


def numbered(folder: pathlib.Path) -> list[tuple[int, pathlib.Path]]:
    """(epoch, file) of the checkpoints in a folder, oldest first."""
    found = [(int(match[1]), file) for file in folder.iterdir() if (match := _NAME.fullmatch(file.name))]
    return sorted(found)


def find(resume: Any, callbacks: list[Callback]) -> pathlib.Path | None:
    """The file to go on from: `resume` is a file, a folder, or True for the folder of the Checkpoint callback, where none is there
    before the first epoch is done. FileNotFoundError where a path leads to none.
    """
    if resume is None or resume is False:
        return None
    if resume is True:
        folders = [callback.folder for callback in callbacks if isinstance(callback, Checkpoint)]
        if not folders:
            raise ValueError("fit: resume=True goes on from the folder of a Checkpoint callback, and there is none; "
                             "give callbacks=[Checkpoint(folder)], or a path")
        found = numbered(folders[0]) if folders[0].is_dir() else []
        return found[-1][1] if found else None
    path = pathlib.Path(resume)
    if not path.exists():
        raise FileNotFoundError(f"fit: resume: there is no {str(path)!r}")
    if path.is_dir():
        found = numbered(path)
        if not found:
            raise FileNotFoundError(f"fit: resume: there is no checkpoint (epoch-*.ckpt) in {str(path)!r}")
        return found[-1][1]
    return path


def state_of(run: Training) -> dict[str, Any]:
    """Everything that the rest of a training depends on."""
    return {
        "version": VERSION, "epoch": run.epoch, "stopping": run.stopping, "model": run.model.state_dict(),
        "optimizer": run.optimizer.state_dict(), "history": dict(run.history), "seconds": run.history.seconds,
        "callbacks": [[type(callback).__name__, callback.state_dict()] for callback in run.callbacks],
        "random": {"engine": engine_random.get_rng_state(), "python": random.getstate(), "numpy": np.random.get_state(),
                   "loaders": [generator.get_state() for generator in generators(run)]},
    }


def restore(run: Training, file: pathlib.Path) -> None:
    """Bring a training to where a checkpoint was written. Errors: FormatError for damaged files, ValueError for other callbacks,
    RuntimeError and ValueError of the state dicts for another model or optimizer."""
    state = load(file)
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise ValueError(f"fit: resume: {str(file)!r} is no checkpoint of fit")
    written, given = [name for name, _ in state["callbacks"]], [type(callback).__name__ for callback in run.callbacks]
    if written != given:
        raise ValueError(f"fit: resume: the checkpoint was written with callbacks {written}, but this call has {given}")
    streams, kept_streams = generators(run), state["random"]["loaders"]
    if len(streams) != len(kept_streams):
        raise ValueError(f"fit: resume: the checkpoint was written with {len(kept_streams)} generators in the loaders, but this "
                         f"call has {len(streams)}")
    run.model.load_state_dict(state["model"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.history = History(state["history"], state["seconds"])
    for callback, (_, kept) in zip(run.callbacks, state["callbacks"], strict=True):
        callback.load_state_dict(kept)
    engine_random.set_rng_state(state["random"]["engine"])
    random.setstate(state["random"]["python"])
    np.random.set_state(state["random"]["numpy"])
    for generator, kept in zip(streams, kept_streams, strict=True):
        generator.set_state(kept)
    run.epoch = state["epoch"]
    if state["stopping"]:
        run.stop("it had stopped when the checkpoint was written")


def generators(run: Training) -> list[Generator]:
    """The generators that the loaders draw from, each once, apart from the engine's own."""
    found: list[Generator] = []
    for loader in (run.loader, run.valid):
        batches = getattr(loader, "batch_sampler", None)
        for owner in (loader, getattr(loader, "sampler", None), batches, getattr(batches, "sampler", None)):
            generator = getattr(owner, "generator", None)
            if isinstance(generator, Generator) and all(generator is not known for known in found):
                found.append(generator)
    return [generator for generator in found if generator is not engine_random.default_generator]
