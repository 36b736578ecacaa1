"""How the report writes names, figures and tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.tabular._models import labels
from benchmarks.tabular._statistics import Difference, Interval


def name_of(model: str) -> str:
    """What tables call a model."""
    return labels()[model]


def interval(found: Interval, digits: int) -> str:
    """A figure and its interval, if it has one."""
    if found.low != found.low:
        return f"{found.value:.{digits}f}"
    return f"{found.value:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


def difference(found: Difference) -> str:
    """A difference in percent and its standard error, if it has one."""
    if not found.n_sets:
        return ""
    if found.error != found.error:
        return f"{found.percent:+.1f}"
    return f"{found.percent:+.1f} ± {found.error:.1f}"


def number(value: float, missing: str = "") -> str:
    """Three digits that count, no exponents."""
    if value != value:
        return missing
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def table(rows: Any) -> Iterator[str]:
    """A table of markdown; the first row is its header."""
    header, *body = [[str(cell) for cell in row] for row in rows]
    yield "| " + " | ".join(header) + " |"
    yield "| " + " | ".join(["---"] + ["---:"] * (len(header) - 1)) + " |"
    for row in body:
        yield "| " + " | ".join(row) + " |"
