"""The file of results: JSON lines that are appended, one per set, split and model."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tabular._fingerprint import TOLERANCE, Fingerprint, fingerprint, lesson
from benchmarks.tabular._models import OURS, TOP_EXPERT, Contender, contenders, version

Record = dict[str, Any]
Key = tuple[str, int, str]


def read(path: Path) -> list[Record]:
    """Return all lines of a file of results, but for a last one that a kill tore.

    Parameters
    ----------
    path : Path
        The file; it need not exist.

    Returns
    -------
    records : list of dict
        What the lines say, the oldest first.
    """
    whole, _ = _whole_lines(path)
    return [json.loads(line) for line in whole.splitlines()]


def repair(path: Path) -> None:
    """Cut off a last line that a kill tore, so that the next one starts at the left."""
    whole, torn = _whole_lines(path)
    if torn:
        os.truncate(path, len(whole))
        print(f"{path.name}: the last line was torn by an interruption and is dropped.", flush=True)


def _whole_lines(path: Path) -> tuple[bytes, bytes]:
    content = path.read_bytes() if path.exists() else b""
    end = content.rfind(b"\n") + 1
    return content[:end], content[end:]


def append(path: Path, records: Iterable[Record]) -> None:
    """Add lines in one write: what is killed loses what it was at, and nothing else."""
    lines = "".join(json.dumps(record) + "\n" for record in records).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, lines)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def key(record: Record) -> Key:
    """What a line is a result of."""
    return record["set"], record["split"], record["model"]


def newest(records: Sequence[Record]) -> dict[Key, Record]:
    """Return the last line of each set, split and model."""
    return {key(record): record for record in records}


def is_current(record: Record) -> bool:
    """Whether a line is a result, or a failure, of what is installed here."""
    if "skipped" in record:
        return False
    contender = contender_of(record["model"])
    if contender is None or contender.module == OURS:
        return contender is not None and is_of(record, fingerprint()) and _taught_as_now(record)
    return record["versions"].get(contender.module) == version(contender.module)


def _taught_as_now(record: Record) -> bool:
    """Whether an estimator still teaches as it did; lines without a lesson cannot tell."""
    if "lesson" not in record:
        return True
    return bool(np.allclose(record["lesson"], lesson(record["task"]), rtol=0, atol=TOLERANCE))


def code_of(record: Record) -> Fingerprint | None:
    """Return the fingerprint that a line of ours was measured with, None in lines of old."""
    return Fingerprint.of(record.get("settings"))


def is_of(record: Record, code: Fingerprint | None) -> bool:
    """Whether a line of ours was measured with code that does the same."""
    found = code_of(record)
    return found is not None and found.agrees(code)


def contender_of(model: str) -> Contender | None:
    """Return the contender that a model is a form of, if there still is one."""
    known = contenders()
    return known.get(model) or known.get(model.removesuffix(TOP_EXPERT))
