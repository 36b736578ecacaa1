"""The lines of the results: where they are, and which code they are of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.tabular._fingerprint import Fingerprint, fingerprint

# What `read` calls the code as it is now.
PRESENT = "present"
RESULTS = Path(__file__).parents[1] / "results"
ROWS = 4_000
REPEATS = range(3)
# They take long, or every model is nearly perfect there.
LEFT_OUT = {"census", "letter", "optdigits", "penbased", "texture", "splice", "chess", "ring"}

Line = dict[str, Any]


def results_of(rows: int) -> Path:
    """The file that belongs to a number of rows."""
    return RESULTS / ("defaults.jsonl" if rows == ROWS else f"defaults_{rows}.jsonl")


def read(path: Path) -> list[Line]:
    """All lines, the newest last; the version of each is `PRESENT`, or tells former code apart."""
    lines = read_raw(path)
    known = {PRESENT: fingerprint()}
    for line in lines:
        line["version"] = number_code(line["version"], known)
    return lines


def read_raw(path: Path) -> list[Line]:
    """All lines as they were written; none before the first measurement."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines()]


def read_measured(path: Path) -> list[Line]:
    """The same for a table, which needs some."""
    if not (lines := read_raw(path)):
        raise SystemExit(f"There are no results in {path.name}: run without --report first.")
    return lines


def number_code(version: Any, known: dict[str, Fingerprint]) -> str:
    """Name the code of a line; code that does the same has one name."""
    found = Fingerprint.of(version)
    if found is None:  # lines of old name it themselves
        return str(version)
    for name, code in known.items():
        if found.agrees(code):
            return name
    known[name := f"former {len(known)}"] = found
    return name


def place(line: Line) -> tuple[str, str, int]:
    """What a line is of."""
    return line["candidate"], line["set"], line["repeat"]
