"""Show values and errors in messages."""

from collections.abc import Sequence

MAX_NAMES = 10
MAX_CHARACTERS = 200


def list_names(names: Sequence[str]) -> str:
    """Quote the first ten names, and count the others."""
    shown = ", ".join(map(repr, names[:MAX_NAMES]))
    rest = len(names) - MAX_NAMES
    return shown if rest <= 0 else f"{shown} and {rest} more"


def as_sentence(error: BaseException) -> str:
    """Return the message of an error with exactly one full stop, or question mark, at its end."""
    text = str(error).rstrip(". ")
    return text if text.endswith("?") else f"{text}."


def short_repr(value: object) -> str:
    """Return the repr of a value, shortened if it is long."""
    try:
        return shorten(repr(value))
    except RecursionError:
        return f"a deeply nested {type(value).__name__}"


def shorten(text: str) -> str:
    """Shorten a text if it is long."""
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}..."
