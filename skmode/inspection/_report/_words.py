"""Figures and names as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from skmode.inspection._plot._names import name as name

# Non-breaking, so that a figure does not part from its unit.
SPACE = "\u00a0"
MINUS = "\u2212"

# What stands for a figure that there is not.
MISSING = "\u2013"

INTERVAL = f"95{SPACE}% interval"


def percent(share: float, digits: int = 1) -> str:
    """A share as per cent."""
    return _signed(100 * share, f".{digits}f", f"{SPACE}%")


def number(value: float, digits: int = 4) -> str:
    """A number of any size, with so many significant digits."""
    if math.isfinite(value) and abs(value) >= 10**digits:
        return _signed(value, ",.0f", "")
    return _signed(value, f"#.{digits}g", "").rstrip(".")


def fixed(value: float, decimals: int) -> str:
    """A number with so many decimals."""
    return _signed(value, f",.{decimals}f", "")


def count(value: int, singular: str = "", plural: str | None = None) -> str:
    """A count, with what is counted."""
    text = f"{value:,}"
    if not singular:
        return text
    return f"{text}{SPACE}{singular if value == 1 else plural or singular + 's'}"


def listing(parts: Sequence[Any]) -> str:
    """Put together with commas and an "and"."""
    texts = [str(part) for part in parts]
    if len(texts) < 2:
        return "".join(texts)
    return f"{', '.join(texts[:-1])} and {texts[-1]}"


def quoted(value: Any) -> str:
    """A name within a sentence."""
    return f"“{name(value, 60)}”"


def _signed(value: float, pattern: str, unit: str) -> str:
    if math.isnan(value):
        return MISSING
    text = format(value, pattern)
    if not any(digit in text for digit in "123456789") and "inf" not in text:
        text = text.lstrip("-")  # no negative zero
    return text.replace("-", MINUS) + unit
