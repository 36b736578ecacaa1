"""Names of columns and classes, as pictures and report show them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

# Characters that join letters or emoji, the only invisible ones that stay.
JOINERS = "\u200c\u200d"


def name(value: Any, length: int | None = None) -> str:
    """Make a name harmless to look at.

    Names of columns and classes come from anywhere. What is invisible, reverses the direction of
    writing or cannot be written as UTF-8 becomes a replacement character.
    """
    # Not by split and join alone: a name may be spaces.
    text = "".join(
        " " if char.isspace() else char if char.isprintable() or char in JOINERS else "\ufffd"
        for char in str(value)
    )
    text = " ".join(text.split()) or "(empty)"
    if length is not None and len(text) > length:
        text = text[: length - 1].rstrip() + "…"
    return text


def names(values: Iterable[Any], length: int) -> list[str]:
    """Make several names harmless and short, and keep apart those that begin alike."""
    whole = [name(value) for value in values]
    short = [name(text, length) for text in whole]
    head = length // 2
    return [
        text
        if text == full or short.count(text) == 1
        else f"{full[:head].rstrip()}…{full[head - length + 1 :].lstrip()}"
        for full, text in zip(whole, short, strict=True)
    ]
