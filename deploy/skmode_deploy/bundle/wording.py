"""Wording that messages share."""

from collections.abc import Sequence


def some(names: Sequence[str]) -> str:
    """Name the first ten of some names, and count the others."""
    shown = ", ".join(map(repr, names[:10]))
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"


def sentence(error: BaseException) -> str:
    """Give the message of an error with one full stop at its end."""
    return f"{str(error).rstrip('. ')}."
