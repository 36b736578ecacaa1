"""Segments of a text that are routed one by one: lines, comments in code, quotations."""

from __future__ import annotations

import re
from typing import NamedTuple

# A line's indentation and its mark of a comment or a quotation; a whole line of these is blank.
_MARK = re.compile(r"\s*(?:#+:?|//+|--+|/\*+|\*+/?|;+|%+|>[> ]*|\"\"\"|''')?[ \t]*")
# A comment behind code: a mark between spaces, and words after it.
_TRAILING = re.compile(r"(?<=\S)[ \t]+(?:#|//)[ \t]+(?=\S)")


class Segment(NamedTuple):
    """A part of a text and the domain that it is routed to.

    Attributes
    ----------
    text : str
        The part as it stands in the text.
    start, stop : int
        Where the part begins and ends in the text, in characters.
    domain : str or None
        The domain; None where the router abstains.

    Examples
    --------
    >>> from skmode.language import Segment
    >>> Segment("x = 1", 0, 5, "python").domain
    'python'
    """

    text: str
    start: int
    stop: int
    domain: str | None


def find_segments(text: str) -> list[tuple[int, int]]:
    """Return where the segments of a text are: lines without mark, comments apart from code."""
    found = []
    position = 0
    for line in text.splitlines(keepends=True):
        body = line.rstrip()
        mark = _MARK.match(body)
        begin = mark.end() if mark else 0
        trailing = _TRAILING.search(body, begin)
        cuts = [(begin, trailing.start()), (trailing.end(), len(body))] if trailing else []
        for start, stop in cuts or [(begin, len(body))]:
            if start < stop:
                found.append((position + start, position + stop))
        position += len(line)
    return found
