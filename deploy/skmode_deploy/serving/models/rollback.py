"""Choose the current version of a model, for servers that watch the model folder."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from skmode_deploy import bundle
from skmode_deploy.bundle.files import sync_directory, to_path
from skmode_deploy.bundle.messages import as_sentence, list_names
from skmode_deploy.errors import BundleError
from skmode_deploy.serving.models.model_folder import (
    CURRENT,
    FolderContents,
    find_models,
    is_bundle,
    list_versions,
)


def rollback(
    models: str | os.PathLike[str],
    name: str,
    to: int | None = None,
    latest: bool = False,
) -> tuple[int | None, int]:
    """Choose the version of a model to serve; give the current version before and after.

    The default is the version below the current one. Its bundle is verified first, then the file
    ``current`` in the model's folder is replaced in one step. Servers that watch the folder follow
    at their next scan; with `latest` at the one behind it, because a file that only one scan misses
    may be about to be replaced.

    Examples
    --------
    >>> from skmode_deploy.serving.models.rollback import rollback
    >>> rollback("no-such-folder", "churn")
    Traceback (most recent call last):
    NotADirectoryError: models must be a folder of models, got 'no-such-folder'...
    """
    if to is not None and latest:
        raise ValueError(
            f"Either a version or the latest must be asked for, got version {to} and the latest: "
            "leave one out."
        )
    folder, contents = _find_model(models, name)
    old = _current_version(contents)
    if latest:
        new = _newest_valid(contents, name)
        with _naming_folder(folder):
            (folder / CURRENT).unlink(missing_ok=True)
            sync_directory(folder)
        return old, new
    new = _version_below(contents, old, name) if to is None else to
    _check_valid(contents, new, name)
    with _naming_folder(folder):
        _write_current(folder, new)
    return old, new


def _find_model(models: str | os.PathLike[str], name: str) -> tuple[Path, FolderContents]:
    """Find the folder of a model, and list its versions."""
    root = Path(os.path.realpath(to_path(models, "models")))
    if not root.is_dir() or is_bundle(root):
        what = "a single bundle" if root.is_dir() else "no folder"
        raise NotADirectoryError(
            f"models must be a folder of models, got {str(models)!r}, which is {what}: pass the "
            "folder that holds the folders of the models."
        )
    folders = find_models(root)[0]
    if name not in folders:
        there = f"be one of {list_names(sorted(folders))}" if folders else "lie in the model folder"
        raise ValueError(
            f"The model must {there}, got {name[:120]!r}: pass the name of its folder in "
            f"{str(models)!r}."
        )
    contents = list_versions(folders[name], root)
    if not contents.versions or is_bundle(folders[name]):
        what = "is a single bundle" if contents.versions else "has none"
        raise ValueError(
            f"A model must have versions in folders of their own, and {name!r} {what}: copy "
            f"bundles to folders such as {str(folders[name] / '1')!r}."
        )
    return folders[name], contents


def _current_version(contents: FolderContents) -> int | None:
    """Say which version a server would choose that starts now."""
    if contents.pinned is not None or contents.pin_problem is not None:
        return contents.pinned
    return _newest_that_verifies(contents)


def _version_below(contents: FolderContents, current: int | None, name: str) -> int:
    if current is None:
        reason = contents.pin_problem or f"No version of {name!r} is whole: copy one again."
        raise ValueError(f"{reason.rstrip('.')}, or choose a version with --to.")
    lower = [version for version in contents.versions if version < current]
    if not lower:
        raise ValueError(
            f"There must be a version below the current one to go back to, and {current} is the "
            f"lowest of {name!r}: copy an older bundle there, or choose a version with --to."
        )
    return max(lower)


def _newest_valid(contents: FolderContents, name: str) -> int:
    version = _newest_that_verifies(contents)
    if version is None:
        raise BundleError(
            f"A version of {name!r} must be whole to be served, and none of "
            f"{_show_versions(contents)} is: copy one again."
        )
    return version


def _newest_that_verifies(contents: FolderContents) -> int | None:
    for version in _newest_first(contents):
        if _verification_error(contents.versions[version]) is None:
            return version
    return None


def _check_valid(contents: FolderContents, version: int, name: str) -> None:
    if version not in contents.versions:
        raise ValueError(
            f"The version must be one of {_show_versions(contents)}, got '{version}': choose one "
            f"of these, or copy its bundle to the folder of {name!r} first."
        )
    error = _verification_error(contents.versions[version])
    if error is not None:
        raise BundleError(
            f"Version {version} of {name!r} must be whole to be served, and it is refused: "
            f"{as_sentence(error)} Or choose another of {_show_versions(contents)} with --to."
        ) from error


def _verification_error(folder: Path) -> BundleError | None:
    try:
        bundle.verify(folder)
    except BundleError as error:
        return error
    return None


def _newest_first(contents: FolderContents) -> list[int]:
    return sorted(contents.versions, reverse=True)


def _show_versions(contents: FolderContents) -> str:
    return list_names([str(version) for version in _newest_first(contents)])


@contextlib.contextmanager
def _naming_folder(folder: Path) -> Iterator[None]:
    """Say which folder cannot be written, which servers often see read-only."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"The folder of the model must be writable, got {str(folder)!r}, and to write the file "
            f"{CURRENT!r} there gave: {os.strerror(error.errno or 0)}. Mend that, or run this "
            "where the folder can be written.",
        ) from None


def _write_current(folder: Path, version: int) -> None:
    """Replace the file ``current`` in one step: a reader sees the old version or the new one."""
    fresh = folder / f".{CURRENT}-{secrets.token_hex(8)}"
    try:
        with fresh.open("x") as stream:
            stream.write(f"{version}\n")
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(folder / CURRENT)
    finally:
        fresh.unlink(missing_ok=True)
    sync_directory(folder)
