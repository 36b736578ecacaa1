"""Open files without trusting whoever put them there, and replace a folder as a whole."""

import ctypes
import errno
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from skmode_deploy.errors import LinkError, NotAFileError


def open_plain(path: Path) -> BinaryIO:
    """Open a regular file for reading; links are an error, and pipes do not block."""
    _check_mode(path, os.lstat(path).st_mode)
    # Checked again on the open file: the path may lead to another file by now.
    flags = os.O_RDONLY
    for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, flag, 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            _check_mode(path, stat.S_IFLNK)
        raise
    try:
        _check_mode(path, os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def to_path(path: Any, name: str) -> Path:
    """Convert a path that a caller passed, or say what is wrong with it."""
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str):
        raise TypeError(
            f"{name} must be a path (str or os.PathLike), got {path!r}: pass for example "
            '"models/credit".'
        )
    if not text:
        raise ValueError(f"{name} must be a path, got '': pass '.' for the current folder.")
    return Path(text)


def _check_mode(path: Path, mode: int) -> None:
    """Refuse links, folders, pipes and devices."""
    if stat.S_ISLNK(mode):
        raise LinkError(
            f"The files of a bundle must be plain files, but {path.name!r} is a link, which could "
            "point anywhere: copy the whole bundle again, with the files that its links point to."
        )
    if not stat.S_ISREG(mode):
        kind = "folder" if stat.S_ISDIR(mode) else "pipe, socket or device"
        raise NotAFileError(
            f"The files of a bundle must be plain files, but {path.name!r} is a {kind}: copy the "
            "whole bundle again."
        )


def replace_directory(target: Path, contents: Mapping[str, bytes]) -> None:
    """Replace `target` by a new folder at once: others see the old files or the new ones."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = _new_sibling(target)
    try:
        for name, data in contents.items():
            _write_file(fresh / name, data)
        sync_directory(fresh)
        _put_in_place(fresh, target)
        sync_directory(target.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def check_replaceable(
    target: Path, stated_names: Callable[[], set[str]], ignored: re.Pattern[str]
) -> None:
    """Raise if a folder that is to be replaced holds anything but its bundle."""
    if not os.path.lexists(target):
        return
    stated, before = stated_names(), None
    while stated != before:  # else another writer has just replaced the folder
        found = _names_in(target, ignored)
        stated, before = stated_names(), stated
    foreign = sorted(found - stated)
    if not foreign:
        return
    if not stated:
        raise FileExistsError(
            f"directory must be new, empty or a bundle, got {str(target)!r}, which is none of "
            "these: choose another directory, or remove this one first."
        )
    raise FileExistsError(
        "directory must hold nothing but the files of its bundle, because all of it is replaced, "
        f"got {str(target)!r} with {', '.join(map(repr, foreign[:10]))}"
        f"{f' and {len(foreign) - 10} more' if len(foreign) > 10 else ''}: move these elsewhere, "
        "or choose another directory."
    )


def _names_in(target: Path, ignored: re.Pattern[str]) -> set[str]:
    """List the names in a folder; subfolders get a slash, so that no manifest names them."""
    try:
        with os.scandir(target) as entries:
            return {
                entry.name + "/" * entry.is_dir(follow_symlinks=False)
                for entry in entries
                if not ignored.fullmatch(entry.name)
            }
    except FileNotFoundError:  # another writer is between its two renames
        return set()
    except NotADirectoryError:
        return {"."}


def _write_file(path: Path, data: bytes) -> None:
    """Write a new file, and wait until it is on disk."""
    with path.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def sync_directory(path: Path) -> None:
    """Wait until renames in a folder are on disk."""
    if os.name == "nt":  # Windows cannot open a folder; its rename is durable without.
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _new_sibling(target: Path) -> Path:
    """Make a hidden folder beside `target`: on its file system, with the usual permissions."""
    folder = target.with_name(f".{target.name}-{secrets.token_hex(8)}")
    folder.mkdir()
    return folder


def _put_in_place(fresh: Path, target: Path) -> None:
    """Put `fresh` in the place of `target`; the old folder becomes `fresh`, to be removed."""
    if not target.exists():
        try:
            fresh.rename(target)
            return
        except OSError:
            if not target.exists():
                raise
            # Another writer was faster; its folder is replaced like any other.
    if _exchange(fresh, target):
        return
    # Without an atomic exchange, target is missing for the moment between two renames.
    aside = _new_sibling(target)
    try:
        target.rename(aside / "bundle")
        try:
            fresh.rename(target)
        except OSError:
            (aside / "bundle").rename(target)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two folders in one step where the system can do so (renameat2 on Linux)."""
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    relative_to_cwd, exchange = -100, 2
    status = rename(
        relative_to_cwd, os.fsencode(first), relative_to_cwd, os.fsencode(second), exchange
    )
    return cast(int, status) == 0
