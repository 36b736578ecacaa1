"""Choose which version of a model is the current one, for servers that watch the model folder."""

import os
import secrets
from pathlib import Path

from skmode_deploy import bundle
from skmode_deploy.bundle.files import sync_directory, to_path
from skmode_deploy.bundle.messages import as_sentence, list_names
from skmode_deploy.errors import BundleError
from skmode_deploy.serving.models.model_folder import (
    CURRENT,
    Found,
    find_models,
    is_bundle,
    look_into,
)


def rollback(
    models: str | os.PathLike[str],
    name: str,
    to: int | None = None,
    latest: bool = False,
) -> tuple[int | None, int]:
    """Name the version of a model that is to be served.

    The bundle of that version is verified first, then the file ``current`` in the model's folder is
    replaced in one step. Servers that watch the folder follow at their next look.

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
    folder, found = _look(models, name)
    old = _current(found)
    if latest:
        new = _newest_whole(found, name)
        (folder / CURRENT).unlink(missing_ok=True)
        sync_directory(folder)
        return old, new
    new = _below(found, old, name) if to is None else to
    _check_whole(found, new, name)
    _write(folder, new)
    return old, new


def _look(models: str | os.PathLike[str], name: str) -> tuple[Path, Found]:
    """Say where the folder of a model is, and what it holds."""
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
    found = look_into(folders[name], root)
    if not found.versions or is_bundle(folders[name]):
        what = "is a single bundle" if found.versions else "has none"
        raise ValueError(
            f"A model must have versions in folders of their own, and {name!r} {what}: copy "
            f"bundles to folders such as {str(folders[name] / '1')!r}."
        )
    return folders[name], found


def _current(found: Found) -> int | None:
    """Which version is the current one, as far as the folder tells."""
    if found.pinned is not None or found.problem is not None:
        return found.pinned
    return next((i for i in _newest_first(found) if _refusal(found.versions[i]) is None), None)


def _below(found: Found, old: int | None, name: str) -> int:
    if old is None:
        reason = found.problem or f"No version of {name!r} is whole: copy one again."
        raise ValueError(f"{reason.rstrip('.')}, or choose a version with --to.")
    lower = [version for version in found.versions if version < old]
    if not lower:
        raise ValueError(
            f"There must be a version below the current one to go back to, and {old} is the lowest "
            f"of {name!r}: copy an older bundle there, or choose a version with --to."
        )
    return max(lower)


def _newest_whole(found: Found, name: str) -> int:
    for version in _newest_first(found):
        if _refusal(found.versions[version]) is None:
            return version
    raise BundleError(
        f"A version of {name!r} must be whole to be served, and none of {_versions(found)} is: "
        "copy one again."
    )


def _check_whole(found: Found, version: int, name: str) -> None:
    if version not in found.versions:
        raise ValueError(
            f"The version must be one of {_versions(found)}, got '{version}': choose one of these, "
            f"or copy its bundle to the folder of {name!r} first."
        )
    refusal = _refusal(found.versions[version])
    if refusal is not None:
        raise BundleError(
            f"Version {version} of {name!r} must be whole to be served, and it is refused: "
            f"{as_sentence(refusal)} Or choose another of {_versions(found)} with --to."
        ) from refusal


def _refusal(folder: Path) -> BundleError | None:
    try:
        bundle.verify(folder)
    except BundleError as error:
        return error
    return None


def _newest_first(found: Found) -> list[int]:
    return sorted(found.versions, reverse=True)


def _versions(found: Found) -> str:
    return list_names([str(version) for version in _newest_first(found)])


def _write(folder: Path, version: int) -> None:
    """Whoever reads the file sees the old version or the new one."""
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
