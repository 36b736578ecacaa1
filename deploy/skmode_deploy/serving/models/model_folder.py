"""What lies in a model folder: which models, which versions of each, and which one to serve.

``models/NAME/VERSION/`` is a bundle, ``models/NAME/current`` names the version to serve. Where
``models/NAME/`` is a bundle itself, it is version 1. Nothing of a bundle is checked here: that is
done when it is loaded.
"""

import hashlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from skmode_deploy.bundle.files import open_plain
from skmode_deploy.bundle.layout import MAX_MANIFEST_BYTES
from skmode_deploy.bundle.manifest import MANIFEST
from skmode_deploy.errors import BundleError

CURRENT = "current"
ONLY_VERSION = 1  # of a model whose folder is a bundle

# No "@", which stands before the version in "churn@3", and hidden folders are unfinished ones.
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_VERSION = re.compile("0|[1-9][0-9]{0,17}")
_MOST_CURRENT = 100  # bytes of the file, line ends and blanks included
# A file may change again without a new time of change, for clocks of file systems tick slowly.
_TICK = 2 * 10**9


@dataclass(frozen=True)
class Found:
    """What the folder of a model holds.

    Attributes
    ----------
    versions : mapping from int to Path
        Folder of each version, without links in it.
    pinned : int or None
        Version that the file ``current`` names. None without such a file.
    problem : str or None
        Why it is not known which version the file names.
    ignored : mapping from str to str
        Why a folder is no version, by its name.
    """

    versions: Mapping[int, Path] = field(default_factory=dict)
    pinned: int | None = None
    problem: str | None = None
    ignored: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Identity:
    """Which bundle lies in a folder.

    Attributes
    ----------
    folder : Path
        The folder.
    sha256 : str
        Hash of the bytes of its manifest.
    stamp : tuple of int
        What the file system says of the manifest: it tells without reading that nothing changed.
    quiet : bool
        Whether the stamp can be relied on, for the last change was not just then.
    """

    folder: Path
    sha256: str
    stamp: tuple[int, ...]
    quiet: bool

    def is_same(self, other: "Identity") -> bool:
        """Say whether it is the same bundle in the same folder."""
        return self.folder == other.folder and self.sha256 == other.sha256


def check_name(name: str) -> str:
    """Check the name of a model.

    Examples
    --------
    >>> from skmode_deploy.serving.models.model_folder import check_name
    >>> check_name("churn-2026.1")
    'churn-2026.1'
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            "The name of a model must be letters, digits, '.', '_' and '-', at most 100 and the "
            f"first no '.', got {name[:120]!r}: rename the folder, or pass a name for a single "
            "bundle."
        )
    return name


def is_bundle(folder: Path) -> bool:
    """Say whether a folder looks like a bundle, rather than like a folder of bundles."""
    return os.path.lexists(folder / MANIFEST)


def find_models(root: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """List the models of a model folder."""
    folders: dict[str, Path] = {}
    ignored: dict[str, str] = {}
    for name, folder in _folders_in(root):
        try:
            folders[check_name(name)] = _inside(name, folder, root)
        except ValueError as error:
            ignored[name] = str(error)
    return folders, ignored


def look_into(folder: Path, root: Path) -> Found:
    """Look what the folder of a model holds."""
    if is_bundle(folder):
        return _look_into_bundle(folder)
    versions: dict[int, Path] = {}
    ignored: dict[str, str] = {}
    for name, target in _folders_in(folder):
        if name == CURRENT:  # which is to be a file, as is said below
            continue
        try:
            versions[_parse_version(name, "The folder of a version")] = _inside(name, target, root)
        except ValueError as error:
            ignored[name] = str(error)
    try:
        return Found(versions, read_current(folder), None, ignored)
    except ValueError as error:
        return Found(versions, None, str(error), ignored)


def read_current(folder: Path) -> int | None:
    """Read which version of a model is to be served."""
    try:
        with open_plain(folder / CURRENT) as stream:
            text = stream.read(_MOST_CURRENT + 1)
    except FileNotFoundError:
        return None
    except BundleError:  # its words are about the files of a bundle
        raise ValueError(
            f"{CURRENT!r} must be a plain file with the version to serve, got a link, a folder or "
            "a device: write the number into a file."
        ) from None
    except OSError as error:
        raise ValueError(
            f"{CURRENT!r} must be a file with the version to serve, and reading it gave {error}: "
            "make it readable, or remove it to serve the newest version."
        ) from None
    return _parse_version(text.decode("utf-8-sig", "replace").strip(), f"The file {CURRENT!r}")


def identify(folder: Path, known: Identity | None = None) -> Identity:
    """Say which bundle lies in a folder, without reading it where nothing changed."""
    now = time.time_ns()
    # Before the file is read: what changes in between has another stamp at the next look.
    stat = os.lstat(folder / MANIFEST)
    stamp = _stamp(stat)
    if known is not None and known.quiet and (known.folder, known.stamp) == (folder, stamp):
        return known
    with open_plain(folder / MANIFEST) as stream:
        # A longer manifest is refused anyway when the bundle is loaded.
        text = stream.read(min(stat.st_size, MAX_MANIFEST_BYTES) + 1)
    quiet = now - max(stat.st_mtime_ns, stat.st_ctime_ns) > _TICK
    return Identity(folder, hashlib.sha256(text).hexdigest(), stamp, quiet)


def fingerprint(folder: Path) -> object:
    """Take down what the file system says of all files in a folder."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
    except OSError as error:
        return folder, type(error)
    return folder, tuple((name, _stamp_or_none(folder / name)) for name in names)


def _stamp_or_none(path: Path) -> tuple[int, ...] | None:
    try:
        return _stamp(os.lstat(path))
    except OSError:  # it went away
        return None


def _stamp(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _look_into_bundle(folder: Path) -> Found:
    others = [name for name, _ in _folders_in(folder) if _VERSION.fullmatch(name)]
    reason = (
        f"The folder of a model must be a bundle or hold versions, got both, for {MANIFEST!r} lies "
        f"beside this folder: move the bundle into a folder {str(ONLY_VERSION)!r} of its own."
    )
    return Found({ONLY_VERSION: folder}, ignored=dict.fromkeys(others, reason))


def _folders_in(folder: Path) -> Iterator[tuple[str, Path]]:
    """Names of the folders that are not hidden, and where they are in truth."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    for name in names:
        target = os.path.realpath(folder / name)
        if os.path.isdir(target):
            yield name, Path(target)


def _inside(name: str, target: Path, root: Path) -> Path:
    if not target.is_relative_to(root):
        raise ValueError(
            f"Links in a model folder must lead to folders in it, got {name!r}, which leads "
            "outside: copy the bundle into the model folder."
        )
    return target


def _parse_version(text: str, what: str) -> int:
    if not _VERSION.fullmatch(text):
        raise ValueError(
            f"{what} must be a whole number such as 3, without leading zeros and of at most 18 "
            f"digits, got {text[:40]!r}: write the number of a version."
        )
    return int(text)
