"""Cells and tables of a report, and what its figures look like in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skmode.inspection._report import _words
from skmode.inspection._report._facts import Facts

# A table of so many rows is not divided on paper.
SHORT = 20

# Shades of the stylesheet, from white.
SHADES = 8


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes
    ----------
    text : str
        What stands in it; the template escapes it.
    value : float or None
        What it is sorted by; None sorts by the text, NaN goes last.
    shade : int
        Shade of its ground, 0 is white.
    """

    text: str
    value: float | None = None
    shade: int = 0

    @property
    def key(self) -> str | None:
        """What the script sorts by: a number, nothing for a missing one, None for the text."""
        if self.value is None:
            return None
        return "" if np.isnan(self.value) else f"{self.value:.10g}"


@dataclass(frozen=True)
class Table:
    """One table; the first cell of each row is its heading.

    Attributes
    ----------
    id : str
        Name within the page.
    caption : str
        What it shows.
    columns : list of str
        Headings.
    rows : list of list of Cell
        Cells.
    note : str
        What must be known to read it.
    sortable : bool
        Whether a click on a heading sorts the rows.
    """

    id: str
    caption: str
    columns: list[str]
    rows: list[list[Cell]]
    note: str = ""
    sortable: bool = True

    @property
    def short(self) -> bool:
        """Whether a printed page should hold it in one piece."""
        return len(self.rows) <= SHORT

    def text_column(self, column: int) -> bool:
        """Whether a column holds words, which stand on the left."""
        return column == 0 or any(row[column].value is None for row in self.rows)


def percent(share: float, *, shade: int = 0, digits: int = 1) -> Cell:
    """A cell with a share."""
    return Cell(_words.percent(share, digits), float(share), shade)


def score(facts: Facts, value: float) -> Cell:
    """A cell with a score: a share of right rows, or an error."""
    if facts.classifies:
        return percent(value)
    return Cell(_words.fixed(value, facts.decimals), float(value))


def count(value: int) -> Cell:
    """A cell with a count."""
    return Cell(_words.count(int(value)), float(value))


def shade(value: float, low: float, high: float) -> int:
    """Shade of a value between two bounds."""
    if np.isnan(value) or high <= low:
        return 0
    return round(SHADES * float(np.clip((value - low) / (high - low), 0, 1)))


def metric(facts: Facts) -> str:
    """What scores are called."""
    return "accuracy" if facts.classifies else "RMSE"


def heading(facts: Facts) -> str:
    """The same at the start of a sentence."""
    return "Accuracy" if facts.classifies else "RMSE"
