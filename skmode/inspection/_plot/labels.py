"""Names of columns and classes, made safe to show in pictures and in the report."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

# Characters that join letters or emoji: the only invisible ones that are kept.
JOINERS = "\u200c\u200d"


def label(value: Any, length: int | None = None) -> str:
    """Make a name safe to show, with at most `length` characters.

    Names of columns and classes come from anywhere. Characters that are invisible, that reverse
    the direction of writing or that UTF-8 cannot hold become a replacement character.
    """
    # Splitting and joining is not enough: a name may consist of spaces.
    text = "".join(
        " " if char.isspace() else char if char.isprintable() or char in JOINERS else "\ufffd"
        for char in str(value)
    )
    text = " ".join(text.split()) or "(empty)"
    if length is not None and len(text) > length:
        text = text[: length - 1].rstrip() + "…"
    return text


def labels(values: Iterable[Any], length: int) -> list[str]:
    """Make several names safe and short, and keep names distinct that begin alike."""
    whole = [label(value) for value in values]
    short = [label(text, length) for text in whole]
    head = length // 2
    return [
        text
        if text == full or short.count(text) == 1
        else f"{full[:head].rstrip()}…{full[head - length + 1 :].lstrip()}"
        for full, text in zip(whole, short, strict=True)
    ]
