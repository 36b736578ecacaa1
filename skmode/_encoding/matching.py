"""Categories of another type than in training: 101 for "101", "101" for 101.

Values are matched where their text is the same one-to-one, and refused elsewhere: to treat them all
as unseen would be wrong without a word.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

_STRINGS = {str, type(None)}
_NUMBERS = {int, float, bool, type(None)}
_TEXTS_OF_BOOLS = {True: "True", False: "False"}


def match_strings(name: str, categories: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    """Turn numbers and bools into the strings that training saw; None is missing."""
    if _STRINGS.issuperset(map(type, values)):
        return values
    texts = _texts_of_values(categories.tolist())
    matched = values.copy()
    for i, value in enumerate(values):
        if value is None or isinstance(value, str):
            continue
        if texts is None or not _has_type_of(value, texts) or _is_rounded(value, texts.values()):
            raise ValueError(
                f"Column {name!r} must hold strings, as in training (such as "
                f"{_show(categories)}), got {value!r} of type {type(value).__name__}: read the "
                "column as strings, for example by pandas.read_csv(..., "
                f"dtype={{{name!r}: str}})."
            )
        matched[i] = texts.get(value, str(value))
    return matched


def match_numbers(name: str, categories: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    """Turn strings into the numbers that training saw; None is missing.

    Bools are numbers where training saw 0 and 1 alone.
    """
    known = set(categories.tolist())
    like_bools = known <= {0, 1}
    if (_NUMBERS if like_bools else _NUMBERS - {bool}).issuperset(map(type, values)):
        return values
    matched = values.copy()
    for i, value in enumerate(values):
        if isinstance(value, np.float32) and value not in known and np.isfinite(value):
            value = str(value)  # 0.1 as float32 is another number than as float64
        if value is None or (_is_number(value) and (like_bools or not _is_bool(value))):
            continue
        number = _number_of_text(value) if isinstance(value, str) else None
        if number is None:
            raise ValueError(
                f"Column {name!r} must hold numbers, as in training (such as {_show(categories)}), "
                f"got {values[i]!r} of type {type(values[i]).__name__}: read the column as "
                "numbers, or leave the value missing."
            )
        matched[i] = number
    return matched


def _texts_of_values(categories: Iterable[str]) -> dict[Any, str] | None:
    """Map values to the categories that are their text; None unless all categories have one."""
    known = set(categories)
    if known and known <= set(_TEXTS_OF_BOOLS.values()):
        return _TEXTS_OF_BOOLS
    texts: dict[Any, str] = {}
    for text in known:
        number = _number_of_text(text)
        if number is None or number in texts:  # "1" and "1.0" are the same number
            return None
        texts[number] = text
    return texts or None


def _number_of_text(text: str) -> int | float | None:
    """Read a number that Python would write just so, unlike "01", "1e3" and "nan"."""
    for kind in (int, float):
        try:
            number: int | float = kind(text)
        except ValueError:
            continue
        if str(number) == text and np.isfinite(float(number)):
            return number
    return None


def _has_type_of(value: Any, texts: dict[Any, str]) -> bool:
    if texts is _TEXTS_OF_BOOLS:
        return _is_bool(value)
    return _is_number(value) and not _is_bool(value)


def _is_rounded(value: Any, known: Iterable[str]) -> bool:
    """Whether a float stands for several integers, of which none has its text."""
    return (
        isinstance(value, float | np.floating)
        and abs(value) >= 2 ** (np.finfo(type(value)).nmant + 1)
        and str(value) not in known
    )


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | np.bool_ | int | float | np.integer | np.floating | Decimal)


def _show(categories: NDArray[Any]) -> str:
    return ", ".join(map(repr, categories[:3].tolist())) or "none"
