"""Checkpoints: the state of a training in a file, from which it goes on to the same bits."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from skorch.callbacks import Callback, EarlyStopping, LRScheduler

from skmode._training.process.isolation import Generators
from skmode._training.process.ranks import Ranks, common, ranks_of_fit

Result = TypeVar("Result")

# Seconds of work that may be lost.
EVERY_SECONDS = 20.0
# Seconds until other machines see a file: those that mount a folder may look into it that seldom.
SEEN_SECONDS = 60.0


class Checkpoints:
    """A folder with the checkpoints of one fit.

    Several ranks share it. The first one writes and reads what they have in common, and tells the
    others, so that all go on from the same; these only read the rows in it.

    Attributes
    ----------
    folder : pathlib.Path
        The folder.
    seed : int
        The seed of the fit that began them.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        made_by: str,
        seed: int,
        ranks: Ranks | None = None,
    ) -> None:
        self.folder = Path(folder)
        self._ranks = ranks
        made_by = made_by if ranks is None else ranks.first(made_by)
        begun = self.once(lambda: self._begin(made_by, seed))
        if ranks is not None:
            self._check_shared(ranks, begun)
        if begun["by"] != made_by:
            raise self._of_another_fit()
        self.seed = int(begun["seed"])
        self._made_by = made_by

    def once(self, work: Callable[[], Result]) -> Result:
        """Let the first of the ranks that share the folder do a work, and get its result."""
        return work() if self._ranks is None else self._ranks.once(work)

    def _begin(self, made_by: str, seed: int) -> dict[str, Any]:
        """Say whose folder this is, unless it has an owner already."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                f"checkpoint must name a folder, or one that can be made, got {self.folder}, which "
                f"failed ({error}): name a folder that you may write to."
            ) from error
        begun: dict[str, Any] = {"by": made_by, "seed": seed}
        # Before the rows are complete there is nothing to go on from.
        new = not self._fit.exists() or not self.rows.exists()
        if not new:
            with whole(self._fit):
                begun = json.loads(self._fit.read_text())
        else:
            self.rows.unlink(missing_ok=True)  # whose owner nobody knows
        if self._ranks is not None:  # by which they know that they see the same folder
            begun["start"], new = uuid.uuid4().hex, True
        if new:
            write(self._fit, lambda file: file.write_text(json.dumps(begun)))
        return begun

    def _check_shared(self, ranks: Ranks, begun: dict[str, Any]) -> None:
        """Raise on all ranks if one of them does not see what the first one has just written."""
        # The others wait for this rank no longer than the time limit of the group.
        end = time.monotonic() + min(SEEN_SECONDS, ranks.timeout.total_seconds() / 2)
        while not (seen := self._sees(begun)) and time.monotonic() < end:
            time.sleep(0.1)
        blind = [rank for rank, sees in enumerate(ranks.all(seen)) if not sees]
        if blind:
            raise ValueError(
                "checkpoint must be one folder that all ranks can read, but what rank 0 wrote into "
                f"{ranks.first(str(self.folder.absolute()))} is not to be seen on rank(s) {blind}: "
                "name a folder on storage that all of them share."
            )

    def _sees(self, begun: dict[str, Any]) -> bool:
        try:
            found: bool = json.loads(self._fit.read_text()) == begun
        except (OSError, ValueError):
            return False
        return found

    def check_same(self, name: str, content: str) -> None:
        """Keep a fingerprint, or raise if that of the fit that began the folder was another."""
        path = self.folder / f"{name}.txt"
        content = content if self._ranks is None else self._ranks.first(content)

        def keep() -> str:
            if not path.exists():
                write(path, lambda file: file.write_text(content))
            return path.read_text()

        if self.once(keep) != content:
            raise self._of_another_fit()

    def _of_another_fit(self) -> ValueError:
        return ValueError(
            "A checkpoint is resumed with the parameters and rows that it was written with, but "
            f"{self.folder} has others: pass those, or another folder."
        )

    @property
    def _fit(self) -> Path:
        return self.folder / "fit.json"

    @property
    def rows(self) -> Path:
        """The file that says what the rows are, once they are complete."""
        return self.folder / "rows.pickle"

    def training(self, name: str) -> Checkpoint:
        """The checkpoint of one of the trainings of this fit."""
        return Checkpoint(self.folder / f"{name}.pt", f"{self._made_by} {self.seed}")


class Checkpoint(Callback):
    """Write the state of a training now and then, and restore it when the same training begins.

    It must be the first callback: at the beginning of an epoch, or of a step, all others have done
    with what was before. Of other people's callbacks it keeps nothing. Of several ranks, the first
    one writes, and the others give it their random numbers.
    """

    def __init__(self, path: Path, fit: str) -> None:
        self.path = path
        self.fit = fit
        self.saved: dict[str, Any] | None = None
        self.finished = False
        self._ranks: Ranks | None = None
        # Of several ranks: whether the first one found in the last step that it is time to write.
        self.due = False

    def begin(self, net: Any, callbacks: Iterable[Callback], generators: Generators) -> int:
        """Load the state, and return the number of epochs that are done."""
        # Those without a state may differ, such as what verbose prints.
        self._keeping = [each for each in callbacks if _keeps(each)]
        self._generators = generators
        self._begun, self._done, self._epoch = len(net.history), 0, 0
        self._last = time.monotonic()
        self._ranks = ranks_of_fit()
        content = common(self._read())
        if content is None:
            return 0
        with whole(self.path):
            self.saved = torch.load(
                io.BytesIO(content), map_location=net.device, weights_only=False
            )
        assert self.saved is not None
        # Somebody may have deleted the rows of another fit, and left this file.
        if self.saved.get("fit") != self.fit:
            self.saved = None
            return 0
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
            self._at_epoch = self._generators.states()[:1]
            self._write_if_due(net)

    def on_batch_begin(self, net: Any, **kwargs: Any) -> None:
        self._write_if_due(net)

    def finish(self, net: Any) -> None:
        """Write the state after the end of the training."""
        self._done = self._epoch
        self._at_epoch = self._generators.states()[:1]
        self._write(net, finished=True)

    def wishes(self) -> bool:
        """Whether it is time to write, by the clock of the first rank."""
        return self._is_first and time.monotonic() - self._last >= EVERY_SECONDS

    @property
    def _is_first(self) -> bool:
        return self._ranks is None or self._ranks.rank == 0

    def _read(self) -> bytes | None:
        """Read the state, which the first rank does for all."""
        return self.path.read_bytes() if self._is_first and self.path.exists() else None

    def _write_if_due(self, net: Any) -> None:
        if self.due if self._ranks is not None else self.wishes():
            self._write(net, finished=False)
            self._last = time.monotonic()
            self.due = False

    def _write(self, net: Any, *, finished: bool) -> None:
        states = self._generators.states()
        generators = [states] if self._ranks is None else self._ranks.all(states)
        if not self._is_first:
            return
        state = {
            "fit": self.fit,
            "finished": finished,
            "begun": self._begun,
            "done": self._done,
            "history": [dict(row) for row in net.history[: net.n_complete]],
            "weights": net.module_.state_dict(),
            "optimizer": net.optimizer_.state_dict(),
            "callbacks": [
                (type(each).__name__, state_of(each, finished=finished)) for each in self._keeping
            ],
            "at_epoch": self._at_epoch,
            "generators": generators,
            "so_far": net.so_far.state(),
        }
        write(self.path, lambda file: torch.save(state, file))

    def _restore(self, net: Any) -> None:
        assert self.saved is not None
        saved, self.saved = self.saved, None
        net.module_.load_state_dict(saved["weights"])
        net.optimizer_.load_state_dict(saved["optimizer"])
        if [type(each).__name__ for each in self._keeping] != [n for n, _ in saved["callbacks"]]:
            raise ValueError(
                "A checkpoint is resumed with the callbacks that it was written with, but "
                f"{self.path.parent} has {[name for name, _ in saved['callbacks']]}, got "
                f"{[type(each).__name__ for each in self._keeping]}: pass those, or another folder."
            )
        for callback, (_, state) in zip(self._keeping, saved["callbacks"], strict=True):
            restore(callback, state)
        self._at_epoch = saved["at_epoch"]
        self._generators.set_states(self._at_epoch)
        net.so_far.restore(saved["so_far"])
        states = self._own(saved["generators"])
        if net.so_far.n_rows:  # the pass over the rows draws its order first, once more
            net.so_far.then = lambda: self._generators.set_states(states)
        else:
            self._generators.set_states(states)

    def _own(self, generators: list[list[torch.Tensor]]) -> list[torch.Tensor]:
        """The random numbers of this rank; a rank that is new has the rows' order alone."""
        rank = 0 if self._ranks is None else self._ranks.rank
        return generators[rank] if rank < len(generators) else generators[0][:1]


class Kept:
    """A callback whose attributes `kept` go into checkpoints."""

    kept: ClassVar[tuple[str, ...]] = ()


def _keeps(callback: Callback) -> bool:
    return isinstance(callback, LRScheduler) or bool(_kept(callback))


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


@contextlib.contextmanager
def whole(path: Path) -> Iterator[None]:
    """Name the file that cannot be read back."""
    try:
        yield
    except (ValueError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"The files of a checkpoint must be whole, but reading {path} failed ({error}): delete "
            f"{path.parent}, and fit anew."
        ) from error


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
