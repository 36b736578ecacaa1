"""Warn of strings that a reader of CSV files left as they were.

Dates and numbers in a form that it did not know, and texts and names of rows, would be categories
without a sound: one for each day, number or row.
"""

import re
from typing import Any

import narwhals.stable.v2 as nw
from numpy.typing import NDArray

from skmode._encoding.tables.warning import warn_user

# Fewer may be meant as categories: the days of a fair, or "1", "2", "3 or more".
MANY = 20
MOST = 0.9  # of the categories are numbers
DISTINCT = 0.95  # of the values, in a column that names its rows
YEAR_FIRST = re.compile(r"\d{4}-\d\d-\d\d([T ].*)?")
YEAR_LAST = re.compile(r"(\d{1,2})([./-])(\d{1,2})\2\d{4}([T ,].*)?")
SIGN = r"(?:[€$£¥₹%]|EUR|USD|GBP|CHF)?"
DIGITS = r"\d+(?:[.,]\d+)?|\d{1,3}(?:[.,' ]\d{3})+(?:[.,]\d+)?"
AMOUNT = re.compile(rf"-?{SIGN} ?-?(?:{DIGITS}) ?{SIGN}")
# A comma that has not three digits behind it, or has a point or a lone zero before it.
DECIMAL_COMMA = re.compile(r",(?!\d{3}(?!\d))|\..*,|(?<!\d)0,")
MEANT = "If they are meant as categories, convert the column to a categorical type."


def warn_of_strings(name: str, categories: NDArray[Any], values: Any) -> None:
    """Warn if nobody asked for categories, and the strings of a column are something else."""
    if len(categories) < MANY or categories.dtype != object or _is_made_categorical(values):
        return
    texts = categories.tolist()
    warning = (
        _of_dates(name, texts)
        or _of_amounts(name, texts)
        or _of_words(name, texts)
        or _of_distinct(name, texts, values)
    )
    if warning:
        warn_user(f"{warning} {MEANT}")


def _of_dates(name: str, texts: list[str]) -> str | None:
    """Write the warning of dates."""
    if all(map(YEAR_FIRST.fullmatch, texts)):
        read = f"pd.read_csv(..., parse_dates=[{name!r}])"
    else:
        found = [YEAR_LAST.fullmatch(text) for text in texts]
        parts = [match.groups() for match in found if match]
        if len(parts) < len(texts):
            return None
        day_first = any(separator == "." or int(first) > 12 for first, separator, *_ in parts)
        read = f"pd.to_datetime(X[{name!r}], dayfirst={day_first})"
    return (
        f"Dates that are strings are read as categories, got column {name!r}: read them as "
        f"dates, for example by {read}, and make numbers of these."
    )


def _of_amounts(name: str, texts: list[str]) -> str | None:
    """Write the warning of numbers that have signs of a currency, or commas."""
    others = [text for text in texts if not _is_number(text)]
    amounts = [text for text in others if AMOUNT.fullmatch(text)]
    if not amounts or len(others) - len(amounts) > (1 - MOST) * len(texts):
        return None
    is_decimal = any(map(DECIMAL_COMMA.search, amounts))
    if all(re.fullmatch(r"[-\d.,]+", text) for text in amounts):
        has_comma, has_point = (any(mark in text for text in amounts) for mark in ",.")
        options = ["decimal=','"] if is_decimal else ["thousands=','"] if has_comma else []
        options += ["thousands='.'"] if has_point and (is_decimal or not has_comma) else []
        cure = f"pd.read_csv(..., {', '.join(options)})"
    elif is_decimal:
        digits = f"X[{name!r}].str.replace(r'[^0-9,-]', '', regex=True)"
        cure = f"pd.to_numeric({digits}.str.replace(',', '.'))"
    else:
        cure = f"pd.to_numeric(X[{name!r}].str.replace(r'[^0-9.-]', '', regex=True))"
    return (
        f"Numbers with signs or commas are read as categories, got {amounts[0]!r} in column "
        f"{name!r}: make numbers of them, for example by {cure}."
    )


def _of_words(name: str, texts: list[str]) -> str | None:
    """Write the warning of numbers that have a word among them."""
    words = [text for text in texts if not _is_number(text)]
    if not words or len(texts) - len(words) < MOST * len(texts):
        return None
    return (
        f"Numbers beside words are read as categories, got {words[0]!r} among the numbers of "
        f"column {name!r}: if it stands for a missing value, "
        f"pd.read_csv(..., na_values=[{words[0]!r}]) reads it as one."
    )


def _of_distinct(name: str, texts: list[str], values: Any) -> str | None:
    """Write the warning of strings of which hardly any occurs twice."""
    n_known = sum(isinstance(value, str) and value != "" for value in values.to_list())
    if len(texts) < DISTINCT * n_known:
        return None
    return (
        f"Strings that are nearly all different are read as categories, got {len(texts)} different "
        f"ones in {n_known} rows of column {name!r}: pass text_features=[{name!r}] if they are "
        "texts, and leave the column out if it names the rows."
    )


def _is_made_categorical(values: Any) -> bool:
    return isinstance(values, nw.Series) and values.dtype in (nw.Categorical, nw.Enum)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
