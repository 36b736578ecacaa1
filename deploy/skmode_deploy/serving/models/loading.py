"""Loading of bundles, so that one that is replaced at any moment is noticed and loaded again."""

import dataclasses
import hashlib
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from skmode_deploy.bundle import MANIFEST
from skmode_deploy.bundle.files import open_plain
from skmode_deploy.bundle.layout import MAX_MANIFEST_BYTES
from skmode_deploy.errors import BundleError
from skmode_deploy.serving.models.problems import ScanProblems

LOGGER = logging.getLogger("skmode_deploy")
# Clocks of file systems tick slowly: within this time a file may change twice and look the same.
_CLOCK_TICK = 2 * 10**9  # nanoseconds

M = TypeVar("M")


@dataclass(frozen=True)
class BundleIdentity:
    """Which bundle lies in a folder."""

    folder: Path
    sha256: str  # of its manifest, which holds the hashes of all other files
    stamp: tuple[int, ...]  # what the file system says of the manifest
    stamp_is_reliable: bool  # an equal stamp means that nothing changed

    def is_same(self, other: "BundleIdentity") -> bool:
        """Say whether it is the same bundle in the same folder."""
        return self.folder == other.folder and self.sha256 == other.sha256


def identify(folder: Path, known: BundleIdentity | None = None) -> BundleIdentity:
    """Identify the bundle in a folder; nothing is read if it is surely the `known` one."""
    now = time.time_ns()
    # Before the file is read: if it changes meanwhile, the stamp differs at the next scan.
    stat = os.lstat(folder / MANIFEST)
    stamp = _stamp(stat)
    if (
        known is not None
        and known.stamp_is_reliable
        and (known.folder, known.stamp) == (folder, stamp)
    ):
        return known
    with open_plain(folder / MANIFEST) as stream:
        # Loading refuses a longer manifest anyway.
        text = stream.read(min(stat.st_size, MAX_MANIFEST_BYTES) + 1)
    is_reliable = now - max(stat.st_mtime_ns, stat.st_ctime_ns) > _CLOCK_TICK
    return BundleIdentity(folder, hashlib.sha256(text).hexdigest(), stamp, is_reliable)


def stamp_files(folder: Path) -> object:
    """Take down what the file system says of all files in a folder, to compare it later."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
    except OSError as error:
        return folder, type(error)
    return folder, tuple((name, _stamp_or_none(folder / name)) for name in names)


def _stamp_or_none(path: Path) -> tuple[int, ...] | None:
    try:
        return _stamp(os.lstat(path))
    except OSError:  # it was removed just now
        return None


def _stamp(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


@dataclass(frozen=True)
class LoadedVersion(Generic[M]):
    """A version in memory, and the bundle that it was loaded from."""

    model: M
    identity: BundleIdentity


class BundleLoader(Generic[M]):
    """Load the versions of one model."""

    def __init__(self, name: str, open_model: Callable[[str, int, Path], M]) -> None:
        self._name = name
        self._open_model = open_model

    def load(
        self,
        version: int,
        folder: Path,
        loaded: LoadedVersion[M] | None,
        problems: ScanProblems,
    ) -> LoadedVersion[M] | None:
        """Load a version unless `loaded` is it already; where that fails, go on with `loaded`."""
        try:
            identity = identify(folder, None if loaded is None else loaded.identity)
        except (OSError, BundleError) as error:
            problems.add(
                ("version", version),
                f"A bundle must have a readable {MANIFEST}, and looking at it gave {error}: copy "
                "the whole bundle again.",
                stamp_files(folder),
            )
            return loaded
        if loaded is not None and identity.is_same(loaded.identity):
            return dataclasses.replace(loaded, identity=identity)
        signature = stamp_files(folder)
        if problems.keep_if_unchanged(("version", version), signature):
            return loaded
        try:
            model = self._open_model(self._name, version, folder)
        except Exception as error:  # whatever is wrong with one bundle, the others go on
            problems.add(("version", version), self._explain(error, version), signature)
            return loaded
        return LoadedVersion(model, _confirm(folder, identity))

    def _explain(self, error: Exception, version: int) -> str:
        if isinstance(error, OSError | ValueError) and str(error):
            return str(error)
        LOGGER.warning(
            "Loading version %d of model %s failed in a way that is not foreseen.",
            version,
            self._name,
            exc_info=error,
        )
        return f"Loading it gave {type(error).__name__}: {error}"


def _confirm(folder: Path, before: BundleIdentity) -> BundleIdentity:
    """Say which bundle was loaded: if the folder changed meanwhile, one that the next scan reloads.

    Nobody knows then whether the old or the new files were read.
    """
    try:
        after = identify(folder, before)
    except (OSError, BundleError):
        after = None
    if after is not None and after.is_same(before) and after.stamp == before.stamp:
        return after
    return dataclasses.replace(before, sha256="", stamp_is_reliable=False)
