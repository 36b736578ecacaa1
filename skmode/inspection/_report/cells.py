"""Cells and tables of a report, and how figures are written in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skmode.inspection._report import formatting
from skmode.inspection._report.facts import Facts

# Longest table that is kept on one page of paper, in rows.
SHORT_TABLE = 20

# Number of shades in the stylesheet, besides white.
SHADES = 8


@dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    text: str  # escaped by the template
    value: float | None = None  # sorts the cell; None sorts by the text, NaN goes last
    shade: int = 0  # of the background, from 0 (white) to SHADES

    @property
    def key(self) -> str | None:
        """Sort key for the script: a number, "" if it is missing, None to sort by the text."""
        if self.value is None:
            return None
        return "" if np.isnan(self.value) else f"{self.value:.10g}"


@dataclass(frozen=True)
class Table:
    """One table; the first cell of each row is the heading of the row."""

    id: str  # within the page
    caption: str
    columns: list[str]  # headings
    rows: list[list[Cell]]
    note: str = ""  # needed to read the table
    sortable: bool = True  # by a click on a heading

    @property
    def short(self) -> bool:
        """Whether the table should stay in one piece on paper."""
        return len(self.rows) <= SHORT_TABLE

    def text_column(self, column: int) -> bool:
        """Whether a column holds words, which are aligned left."""
        return column == 0 or any(row[column].value is None for row in self.rows)


def percent(share: float, *, shade: int = 0, digits: int = 1) -> Cell:
    """Make a cell of a share."""
    return Cell(formatting.percent(share, digits), float(share), shade)


def score(facts: Facts, value: float) -> Cell:
    """Make a cell of a score: a share of right rows, or an error."""
    if facts.classifies:
        return percent(value)
    return Cell(formatting.fixed(value, facts.decimals), float(value))


def count(value: int) -> Cell:
    """Make a cell of a count."""
    return Cell(formatting.count(int(value)), float(value))


def shade(value: float, low: float, high: float) -> int:
    """Return the shade of a value between two bounds, darkest at `high`."""
    if np.isnan(value) or high <= low:
        return 0
    return round(SHADES * float(np.clip((value - low) / (high - low), 0, 1)))


def difference(facts: Facts, value: float) -> Cell:
    """Make a cell of a difference of two scores, for accuracies in percentage points."""
    if facts.classifies:
        return Cell(formatting.points(value), 100 * value)
    return Cell(formatting.fixed(value, facts.decimals), value)
