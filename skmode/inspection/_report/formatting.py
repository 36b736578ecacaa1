"""Figures and names, written as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from skmode.inspection._plot.labels import label

# Non-breaking, so that a figure does not part from its unit.
SPACE = "\u00a0"
MINUS = "\u2212"

# Written in place of a figure that is missing.
MISSING = "\u2013"

INTERVAL = f"95{SPACE}% interval"


def percent(share: float, digits: int = 1) -> str:
    """Write a share as per cent."""
    return _signed(100 * share, f".{digits}f", f"{SPACE}%")


def points(share: float) -> str:
    """Write a difference of shares in percentage points, without the unit."""
    return _signed(100 * share, ".2f", "")


def number(value: float, digits: int = 4) -> str:
    """Write a number of any size with some significant digits."""
    if math.isfinite(value) and abs(value) >= 10**digits:
        return _signed(value, ",.0f", "")
    return _signed(value, f"#.{digits}g", "").rstrip(".")


def fixed(value: float, decimals: int) -> str:
    """Write a number with some decimals."""
    return _signed(value, f",.{decimals}f", "")


def count(value: int, singular: str = "", plural: str | None = None) -> str:
    """Write a count, and the word for the things counted if there is one."""
    text = f"{value:,}"
    if not singular:
        return text
    return f"{text}{SPACE}{singular if value == 1 else plural or singular + 's'}"


def listing(parts: Sequence[Any]) -> str:
    """Join parts by commas and an "and"."""
    texts = [str(part) for part in parts]
    if len(texts) < 2:
        return "".join(texts)
    return f"{', '.join(texts[:-1])} and {texts[-1]}"


def quoted(value: Any) -> str:
    """Write a name within a sentence."""
    return f"“{label(value, 60)}”"


def sentence_case(text: str) -> str:
    """Begin a text with a capital letter."""
    return text[:1].upper() + text[1:]


def _signed(value: float, pattern: str, unit: str) -> str:
    if math.isnan(value):
        return MISSING
    text = format(value, pattern)
    if not any(digit in text for digit in "123456789") and "inf" not in text:
        text = text.lstrip("-")  # no negative zero
    return text.replace("-", MINUS) + unit
