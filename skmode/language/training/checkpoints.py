"""Checkpoints: a training that was stopped goes on, to the same bits."""

from __future__ import annotations

import hashlib
import json
import os
from numbers import Real
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from skmode_deploy.bundle import domain_file

ADDED = "added "  # what the names of trainings of one more expert begin with


class Loop(Protocol):
    """A phase of training in progress."""

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


class Checkpoint:
    """The files of a training, "fit" or "added <domain>", in a folder; each replaced in one go.

    A file for each phase has all that its next step depends on. One more says what the training is
    made of, and whether it is finished: a training goes on from its own files. It takes the place
    of a finished one, which has nothing left to go on with, but not that of an unfinished one.
    """

    def __init__(
        self, folder: str | os.PathLike[str] | None, every: int, made_by: str, training: str = "fit"
    ) -> None:
        self.folder = None if folder is None else Path(folder)
        self.every, self.made_by, self.training = every, made_by, training

    def begin(self) -> None:
        """Refuse to take the place of another training that is not finished."""
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"checkpoint must be a folder that can be made, got {str(self.folder)!r}, which "
                f"gave {error}: choose another."
            ) from error
        path = self._path(self.training, "json")
        if not path.exists():
            return
        try:
            stated = json.loads(path.read_text())
            finished, made_by = bool(stated["finished"]), stated["made_by"]
        except (ValueError, TypeError, KeyError) as error:
            raise _damaged(path, error) from error
        if not finished and made_by != self.made_by:
            raise ValueError(
                "A checkpoint is resumed with the parameters and texts that it was written with, "
                f"but {path} tells of an unfinished training with others: pass those, or another "
                "folder, or delete this one."
            )

    def resume(self, phase: str, loop: Loop) -> int:
        """Restore a phase, and return the number of its steps that are done."""
        if self.folder is None or not self._path(phase, "pt").exists():
            return 0
        path = self._path(phase, "pt")
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            if saved["made_by"] != self.made_by:  # of a finished training, see `begin`
                return 0
            loop.restore(saved["state"])
            return int(saved["step"])
        except (OSError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # a file that was cut short fails in many ways
            raise _damaged(path, error) from error

    def maybe_write(self, phase: str, step: int, loop: Loop, *, last: bool) -> None:
        """Write the state after each ``every`` steps, and after the last one."""
        if self.folder is None or not (last or step % self.every == 0):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._tell(finished=False)
        path = self._path(phase, "pt")
        partial = path.with_suffix(".partial")
        torch.save({"made_by": self.made_by, "step": step, "state": loop.state()}, partial)
        os.replace(partial, path)

    def finish(self) -> None:
        """Let other trainings take the place of this one."""
        if self.folder is not None and self._path(self.training, "json").exists():
            self._tell(finished=True)

    def _tell(self, *, finished: bool) -> None:
        """Write what the training is made of."""
        path = self._path(self.training, "json")
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps({"made_by": self.made_by, "finished": finished}))
        os.replace(partial, path)

    def _path(self, name: str, suffix: str) -> Path:
        """Return the file of a phase or training; names of domains may be no names of files."""
        assert self.folder is not None
        domain = name.removeprefix(ADDED)
        plain = Path(domain_file(domain)).stem if domain != name else ""
        return self.folder / f"{f'added_{plain}' if plain else name.replace(' ', '_')}.{suffix}"


def _damaged(path: Path, error: Exception) -> ValueError:
    """Return the error for a file that cannot be read."""
    return ValueError(
        f"A checkpoint must be whole, but {path} cannot be restored ({type(error).__name__}: "
        f"{error}): if it was cut short, delete it; what it holds is then trained anew."
    )


def tell_apart(value: Any) -> str:
    """Return a text that two values share only if a training takes them for the same."""
    if isinstance(value, nn.Module):
        return _digest_of(value)
    if isinstance(value, Real):  # 1 and 1.0, also if they are numpy's
        return repr(float(value))
    return repr(value)


def _digest_of(model: nn.Module) -> str:
    """Return a hash of the architecture and the weights of a model."""
    config: Any = getattr(model, "config", None)
    stated = config.to_dict() if hasattr(config, "to_dict") else {}
    told = {k: v for k, v in stated.items() if k not in ("_name_or_path", "transformers_version")}
    digest = hashlib.sha256(f"{model!r} {json.dumps(told, default=repr, sort_keys=True)}".encode())
    for name, value in model.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
