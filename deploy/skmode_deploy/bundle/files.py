"""Opening the files of a bundle, whoever has put them there."""

import errno
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from skmode_deploy.errors import LinkError, NotAFileError


def open_plain(path: Path) -> BinaryIO:
    """Open a file for reading, which must be a file and no link; a pipe does not block."""
    _check_mode(path, os.lstat(path).st_mode)
    # The second look is at what was opened: the first one may be out of date by then.
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
    """Take a path that somebody passed."""
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
    if stat.S_ISLNK(mode):
        raise LinkError(
            f"The files of a bundle must be files of their own, and {path.name!r} could point "
            "anywhere: it is a link. Copy the whole bundle again, with what its links point to."
        )
    if not stat.S_ISREG(mode):
        kind = "folder" if stat.S_ISDIR(mode) else "pipe, socket or device"
        raise NotAFileError(
            f"The files of a bundle must be plain files, and {path.name!r} is a {kind}: copy the "
            "whole bundle again."
        )
