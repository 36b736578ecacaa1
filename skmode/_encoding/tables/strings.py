"""Warn of strings that a reader of CSV files left as they were: dates, and numbers with a word.

Both would be categories without a sound: one for each day, and one for each number.
"""

import re
from typing import Any

import narwhals.stable.v2 as nw
from numpy.typing import NDArray

from skmode._encoding.tables.warning import warn_user

# Fewer may be meant as categories: the days of a fair, or "1", "2", "3 or more".
MANY = 20
MOST = 0.9  # of the categories are numbers
DATE = re.compile(r"\d{4}-\d\d-\d\d([T ].*)?")


def warn_of_strings(name: str, categories: NDArray[Any], values: Any) -> None:
    """Warn if nobody asked for categories, and the strings of a column are dates or numbers."""
    if len(categories) < MANY or categories.dtype != object or _is_made_categorical(values):
        return
    if all(map(DATE.fullmatch, categories)):
        warn_user(
            f"Dates that are strings are read as categories, got column {name!r}: read them as "
            f"dates, for example by pd.read_csv(..., parse_dates=[{name!r}]), and make numbers of "
            "these. If they are meant as categories, convert the column to a categorical type."
        )
        return
    words = [each for each in categories if not _is_number(each)]
    if words and len(categories) - len(words) >= MOST * len(categories):
        warn_user(
            f"Numbers beside words are read as categories, got {words[0]!r} among the numbers of "
            f"column {name!r}: if it stands for a missing value, "
            f"pd.read_csv(..., na_values=[{words[0]!r}]) reads it as one. If they are meant as "
            "categories, convert the column to a categorical type."
        )


def _is_made_categorical(values: Any) -> bool:
    return isinstance(values, nw.Series) and values.dtype in (nw.Categorical, nw.Enum)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
