"""Replace a folder as a whole: whoever looks sees the old files or the new ones."""

import ctypes
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast


def replace_directory(target: Path, contents: Mapping[str, bytes]) -> None:
    """Write a folder, in the place of what was there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = _new_sibling(target)
    try:
        for name, data in contents.items():
            _write_file(fresh / name, data)
        _sync_directory(fresh)
        _put_in_place(fresh, target)
        _sync_directory(target.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def check_replaceable(
    target: Path, stated_names: Callable[[], set[str]], ignored: re.Pattern[str]
) -> None:
    """Refuse to replace what is more than a bundle."""
    if not os.path.lexists(target):
        return
    stated, before = stated_names(), None
    while stated != before:  # else another writer replaced the folder while it was looked at
        found = _names_in(target, ignored)
        stated, before = stated_names(), stated
    foreign = sorted(found - stated)
    if not foreign:
        return
    if not stated:
        raise FileExistsError(
            f"directory must be new, empty or a bundle, got {str(target)!r}, which is none of "
            "these: choose another one, or remove it first."
        )
    raise FileExistsError(
        "directory must hold nothing but the files of its bundle, for all of it is replaced, got "
        f"{str(target)!r} with {', '.join(map(repr, foreign[:10]))}"
        f"{f' and {len(foreign) - 10} more' if len(foreign) > 10 else ''}: move that elsewhere, or "
        "choose another directory."
    )


def _names_in(target: Path, ignored: re.Pattern[str]) -> set[str]:
    """Names in a folder; those of folders end in a slash, so that no manifest has them."""
    try:
        with os.scandir(target) as entries:
            return {
                entry.name + "/" * entry.is_dir(follow_symlinks=False)
                for entry in entries
                if not ignored.fullmatch(entry.name)
            }
    except FileNotFoundError:  # for the moment between two renames of another writer
        return set()
    except NotADirectoryError:
        return {"."}


def _write_file(path: Path, data: bytes) -> None:
    with path.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_directory(path: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder; its rename is durable without.
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _new_sibling(target: Path) -> Path:
    """Make a hidden folder beside `target`, on the same file system and with the usual rights."""
    folder = target.with_name(f".{target.name}-{secrets.token_hex(8)}")
    folder.mkdir()
    return folder


def _put_in_place(fresh: Path, target: Path) -> None:
    """Put `fresh` in the place of `target`; what was there ends up as `fresh`, to be removed."""
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
    """Swap two folders in one step where the system can (Linux: renameat2)."""
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
