"""Pieces of Markdown: tables, lists, quotations, with all special characters escaped."""

import re
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MAX_VALUES = 10  # categories or classes in a line
MAX_CHARACTERS = 60  # of a name or value

_SPECIAL = frozenset(string.punctuation) - frozenset("-,.'()/%")


def versions_table(versions: Mapping[str, str]) -> str:
    """Write the versions of libraries."""
    if not versions:
        return "Not known."
    rows = [(escape(name), escape(version)) for name, version in sorted(versions.items())]
    return table(("Library", "Version"), rows)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def join_values(values: Sequence[Any]) -> str:
    """Show the first values, and count the others."""
    shown = ", ".join(escape(str(value)) for value in values[:MAX_VALUES])
    rest = len(values) - MAX_VALUES
    return shown if rest <= 0 else f"{shown} and {rest} more"


def quote(text: str) -> str:
    """Write text as a quotation, in which nothing becomes a heading or HTML."""
    lines = []
    for line in text.splitlines():
        line = "".join(char if char.isprintable() else " " for char in line)
        line = line.replace("<", "\\<")
        line = re.sub(r"(^|[\s>])(?=#)", r"\1\\", line)
        # A line of = or - would turn the line above into a heading.
        line = re.sub(r"^([\s>]*)(?=(=+|-+)\s*$)", r"\1\\", line)
        lines.append(f"> {line}".rstrip())
    return "\n".join(lines)


def escape(text: str) -> str:
    """Write text in one line, with all special characters of Markdown escaped."""
    if len(text) > MAX_CHARACTERS:
        text = text[:MAX_CHARACTERS] + "..."
    visible = (
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
    return (
        "".join(f"\\{char}" if char in _SPECIAL else char for char in "".join(visible)) or "(empty)"
    )
