"""The model folder: which models it holds, which versions of each, and which one to serve.

``models/NAME/VERSION/`` is a bundle, and ``models/NAME/current`` names the version to serve. Where
``models/NAME/`` is itself a bundle, it is version 1. Bundles are not checked here but when they are
loaded.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from skmode_deploy.bundle import MANIFEST
from skmode_deploy.bundle.files import open_plain
from skmode_deploy.errors import BundleError

CURRENT = "current"
SINGLE_VERSION = 1  # of a model whose folder is itself a bundle

# No "@", which parts name and version in "churn@3". No "." in front, for hidden folders hold
# bundles that are still being written.
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_VERSION = re.compile("0|[1-9][0-9]{0,17}")
_MAX_CURRENT_BYTES = 100  # blanks and line ends included


@dataclass(frozen=True)
class FolderContents:
    """What the folder of a model holds."""

    versions: Mapping[int, Path] = field(default_factory=dict)  # their folders, links resolved
    pinned: int | None = None  # the version that the file `current` names
    pin_problem: str | None = None  # why the file `current` cannot be followed
    ignored: Mapping[str, str] = field(default_factory=dict)  # why a folder is no version, by name


def check_name(name: str) -> str:
    """Check that a model may be called so.

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
    """List the models by name, and say why other folders are none."""
    folders: dict[str, Path] = {}
    ignored: dict[str, str] = {}
    for name, folder in _folders_in(root):
        try:
            folders[check_name(name)] = _check_inside(name, folder, root)
        except ValueError as error:
            ignored[name] = str(error)
    return folders, ignored


def list_versions(folder: Path, root: Path) -> FolderContents:
    """List the versions of a model, and read which one is pinned."""
    if is_bundle(folder):
        return _read_single_bundle(folder)
    versions: dict[int, Path] = {}
    ignored: dict[str, str] = {}
    for name, target in _folders_in(folder):
        if name == CURRENT:  # a folder of that name is refused by `read_current`
            continue
        try:
            version = _parse_version(name, "The folder of a version")
            versions[version] = _check_inside(name, target, root)
        except ValueError as error:
            ignored[name] = str(error)
    try:
        return FolderContents(versions, read_current(folder), None, ignored)
    except ValueError as error:
        return FolderContents(versions, None, str(error), ignored)


def read_current(folder: Path) -> int | None:
    """Read which version the file ``current`` names. None is no such file."""
    try:
        with open_plain(folder / CURRENT) as stream:
            text = stream.read(_MAX_CURRENT_BYTES + 1)
    except FileNotFoundError:
        return None
    except BundleError:  # its message is about the files of a bundle
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


def _read_single_bundle(folder: Path) -> FolderContents:
    versions = [name for name, _ in _folders_in(folder) if _VERSION.fullmatch(name)]
    reason = (
        f"The folder of a model must be a bundle or hold versions, got both, for {MANIFEST!r} lies "
        f"beside this folder: move the bundle into a folder {str(SINGLE_VERSION)!r} of its own."
    )
    return FolderContents({SINGLE_VERSION: folder}, ignored=dict.fromkeys(versions, reason))


def _folders_in(folder: Path) -> Iterator[tuple[str, Path]]:
    """List the folders that are not hidden, with their paths behind links."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    for name in names:
        target = os.path.realpath(folder / name)
        if os.path.isdir(target):
            yield name, Path(target)


def _check_inside(name: str, target: Path, root: Path) -> Path:
    """Refuse a link out of the folder of models: it could point at anything on this machine."""
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
