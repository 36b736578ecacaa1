"""Checkpoints: the state of a training in a file, from which it goes on to the same bits."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

import torch
from skorch.callbacks import Callback, EarlyStopping, LRScheduler

from skmode._training.process.isolation import Generators

# Seconds of work that may be lost.
EVERY_SECONDS = 20.0


class Checkpoints:
    """A folder with the checkpoints of one fit.

    Attributes
    ----------
    folder : pathlib.Path
        The folder.
    seed : int
        The seed of the fit that began them.
    """

    def __init__(self, folder: str | os.PathLike[str], made_by: str, seed: int) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "fit.json"
        # Before the rows are complete there is nothing to go on from.
        if not path.exists() or not self.rows.exists():
            write(path, lambda file: file.write_text(json.dumps({"by": made_by, "seed": seed})))
        begun = json.loads(path.read_text())
        if begun["by"] != made_by:
            raise ValueError(
                "A checkpoint is resumed with the parameters and rows that it was written with, "
                f"but {self.folder} has others: pass those, or another folder."
            )
        self.seed = int(begun["seed"])

    @property
    def rows(self) -> Path:
        """The file that says what the rows are, once they are complete."""
        return self.folder / "rows.pickle"

    def training(self, name: str) -> Checkpoint:
        """The checkpoint of one of the trainings of this fit."""
        return Checkpoint(self.folder / f"{name}.pt")


class Checkpoint(Callback):
    """Write the state of a training now and then, and restore it when the same training begins.

    It must be the first callback: at the beginning of an epoch, or of a step, all others have done
    with what was before. Of other people's callbacks it keeps nothing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.saved: dict[str, Any] | None = None
        self.finished = False

    def begin(self, net: Any, callbacks: Iterable[Callback], generators: Generators) -> int:
        """Load the state, and return the number of epochs that are done."""
        self._callbacks, self._generators = list(callbacks), generators
        self._begun, self._done, self._epoch = len(net.history), 0, 0
        self._last = time.monotonic()
        if not self.path.exists():
            return 0
        self.saved = torch.load(self.path, map_location=net.device, weights_only=False)
        assert self.saved is not None
        self.finished = self.saved["finished"]
        self._begun, self._done = self.saved["begun"], self.saved["done"]
        self._epoch = self._done
        net.history[:] = []
        for row in self.saved["history"]:
            net.history.append(row)
        if self.finished:
            self._restore(net)
        return self._done

    @property
    def begun(self) -> int:
        """Epochs in the history before this training."""
        return self._begun

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        self._done, self._epoch = self._epoch, self._epoch + 1
        if self.saved is not None:
            self._restore(net)
        else:
            net.so_far.clear()
            self._at_epoch = self._generators.states()
            self._write_if_due(net)

    def on_batch_begin(self, net: Any, **kwargs: Any) -> None:
        self._write_if_due(net)

    def finish(self, net: Any) -> None:
        """Write the state after the end of the training."""
        self._done = self._epoch
        self._at_epoch = self._generators.states()
        self._write(net, finished=True)

    def _write_if_due(self, net: Any) -> None:
        if time.monotonic() - self._last >= EVERY_SECONDS:
            self._write(net, finished=False)
            self._last = time.monotonic()

    def _write(self, net: Any, *, finished: bool) -> None:
        state = {
            "finished": finished,
            "begun": self._begun,
            "done": self._done,
            "history": [dict(row) for row in net.history[: net.n_complete]],
            "weights": net.module_.state_dict(),
            "optimizer": net.optimizer_.state_dict(),
            "callbacks": [state_of(each, finished=finished) for each in self._callbacks],
            "at_epoch": self._at_epoch,
            "generators": self._generators.states(),
            "so_far": net.so_far.state(),
        }
        write(self.path, lambda file: torch.save(state, file))

    def _restore(self, net: Any) -> None:
        assert self.saved is not None
        saved, self.saved = self.saved, None
        net.module_.load_state_dict(saved["weights"])
        net.optimizer_.load_state_dict(saved["optimizer"])
        for callback, state in zip(self._callbacks, saved["callbacks"], strict=True):
            restore(callback, state)
        self._at_epoch = saved["at_epoch"]
        self._generators.set_states(self._at_epoch)
        net.so_far.restore(saved["so_far"])
        if net.so_far.n_rows:  # the pass over the rows draws its order first, once more
            net.so_far.then = lambda: self._generators.set_states(saved["generators"])
        else:
            self._generators.set_states(saved["generators"])


class Kept:
    """A callback whose attributes `kept` go into checkpoints."""

    kept: ClassVar[tuple[str, ...]] = ()


def state_of(callback: Callback, *, finished: bool) -> dict[str, Any]:
    """What a checkpoint keeps of a callback."""
    if isinstance(callback, LRScheduler):
        if finished:
            return {}
        scheduler = callback.lr_scheduler_.state_dict()
        return {"batch_idx_": callback.batch_idx_, "scheduler": scheduler}
    return {name: getattr(callback, name) for name in _kept(callback)}


def restore(callback: Callback, state: dict[str, Any]) -> None:
    """Give a callback what a checkpoint has kept of it."""
    scheduler = state.pop("scheduler", None)
    if scheduler is not None:
        callback.lr_scheduler_.load_state_dict(scheduler)
    vars(callback).update(state)


def _kept(callback: Callback) -> tuple[str, ...]:
    if isinstance(callback, EarlyStopping):
        return "misses_", "dynamic_threshold_", "best_epoch_"
    return callback.kept if isinstance(callback, Kept) else ()


def write(path: Path, save: Callable[[Path], Any]) -> None:
    """Write a file under another name first, so that there is never half of it."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        save(partial)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # torch raises the latter where a disk is full
        partial.unlink(missing_ok=True)
        raise OSError(
            f"A checkpoint must fit into its folder, but writing {path} failed ({error}): free "
            "space there, or name another folder as checkpoint."
        ) from error
