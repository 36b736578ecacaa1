"""How many and how large the files of a bundle may be."""

from typing import Any

import numpy as np

from skmode_deploy.bundle.manifest import MANIFEST, File, Manifest
from skmode_deploy.errors import FileSizeError, LimitError

MAX_BYTES = 8 * 2**30
MAX_FILES = 10_000


def check_max_bytes(max_bytes: Any) -> None:
    """Check a limit that somebody passed."""
    whole = isinstance(max_bytes, int | np.integer) and not isinstance(max_bytes, bool)
    if not whole or max_bytes < 1:
        raise ValueError(
            f"max_bytes must be an integer of at least 1, got {max_bytes!r}: pass a number of "
            f"bytes, such as {MAX_BYTES}."
        )


def check_limits(manifest: Manifest, max_bytes: int) -> None:
    """Check number and sizes of the files that a manifest states."""
    if len(manifest.files) > MAX_FILES:
        raise LimitError(
            f"A bundle must have at most {MAX_FILES} files, got {len(manifest.files)}: export a "
            "model of fewer experts."
        )
    total = sum(file.size for file in manifest.files.values())
    if total > max_bytes:
        raise LimitError(
            f"The files of a bundle must have at most {max_bytes} bytes together, got {total}: "
            "pass a larger max_bytes if you trust the bundle."
        )


def check_size(name: str, size: int, expected: File) -> None:
    """Check the size of a file."""
    if size != expected.size:
        raise FileSizeError(
            f"{name} must have the {expected.size} bytes that {MANIFEST} states, got {size}: "
            "copy the whole bundle again."
        )
