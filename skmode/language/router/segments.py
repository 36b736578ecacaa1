"""Segments of a text that are routed one by one: lines, comments in code, quotations."""

from __future__ import annotations

import re
from typing import NamedTuple

# A line's indentation and its mark of a comment or a quotation; a whole line of these is blank.
_MARK = re.compile(
    r"""\s*(?:(?P<comment>#+:?|//+|\"{3}|'{3})|--+|/\*+|\*+/?|;+|%+|>[> ]*)?[ \t]*"""
)
# What may hide the mark of a comment, one that is there between spaces, or a quote without an end.
_TOKEN = re.compile(
    r"""\\.|"[^"\\]*+(?:\\.[^"\\]*+)*+"|'[^'\\]*+(?:\\.[^'\\]*+)*+'|`[^`]*+`"""
    r"""|(?P<open>["'`])|(?<=\S)[ \t]+(?P<mark>\#|//)[ \t]+(?=\S)"""
)
# Lines where a mark is that of a comment beyond doubt: at their beginning, // behind ; and braces,
# and # where no / is before it.
_SLASHES = re.compile(r"^[ \t]*//+[!/ \t]|[;{}][ \t]+//[ \t]", re.MULTILINE)
_HASHES = re.compile(r"^[ \t]*#+[!: \t]|^[^/\n]*[ \t]#[ \t]", re.MULTILINE)
# Code, not words: assignments, calls and subscripts; what statements and items of lists end with.
_CODE = re.compile(
    r"""[={}]|\w[\[(]|;$|["'\])\d],$|^[\])]+$"""
    r"""|^\W*(?:(?:el)?if|else|for|while|with|def|class|try|except|finally|case|default)\b.*:$"""
)


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
    # In Python // divides, so a text has one mark of comments.
    comment = "//" if len(_SLASHES.findall(text)) > len(_HASHES.findall(text)) else "#"
    found = []
    position = 0
    for line in text.splitlines(keepends=True):
        body = line.rstrip()
        mark = _MARK.match(body)
        begin = mark.end() if mark else 0
        trailing = None if mark and mark["comment"] else _find_comment(body, begin, comment)
        cuts = [(begin, trailing.start()), (trailing.end(), len(body))] if trailing else []
        for start, stop in cuts or [(begin, len(body))]:
            if start < stop:
                found.append((position + start, position + stop))
        position += len(line)
    return found


def _find_comment(line: str, begin: int, comment: str) -> re.Match[str] | None:
    """Return the mark that parts code from a comment behind it, outside quotes."""
    for token in _TOKEN.finditer(line, begin):
        if token["open"]:
            return None
        if token["mark"] == comment:
            code = line[begin : token.start()]
            # Two spaces before # are a habit of Python's code; words have them behind a full stop.
            spaces = token.start("mark") - token.start() > 1 and code[-1] not in ".!?"
            return token if _CODE.search(code) or (spaces and comment == "#") else None
    return None
