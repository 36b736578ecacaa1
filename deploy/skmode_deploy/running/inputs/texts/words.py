"""Split texts into words by the pattern of GPT-2, with `re` alone."""

import re
from functools import cache

from skmode_deploy.running.inputs.texts.characters import (
    SPACES,
    as_class,
    escape,
    letters,
    numbers,
)

PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

_LAST_OF_PLANE_0 = 0xFFFF


@cache
def word_pattern() -> re.Pattern[str]:
    """Compile `PATTERN` with the classes of characters written out."""
    space = as_class(SPACES)
    letter, number = _any_of(letters()), _any_of(numbers())
    other = _none_of(letters() + numbers() + SPACES)
    return re.compile(
        "'(?:[stmd]|re|ve|ll)"
        f"| ?{letter}| ?{number}| ?{other}"
        f"|{space}+(?!{space.replace('[', '[^')})|{space}+"
    )


# `re` looks a character of plane 0 up in a table, and compares others with one run after the other.
# So these runs are tried only where the next character is one of the other planes.
_BEYOND = f"[{escape(_LAST_OF_PLANE_0 + 1)}-{escape(0x10FFFF)}]"


@cache
def chunk_pattern() -> re.Pattern[str]:
    """Compile what splits texts at white space only: each word lies within one of these chunks."""
    space = as_class(SPACES)
    other = space.replace("[", "[^")
    return re.compile(f" ?{other}++|{space}+(?!{other})|{space}+")


def _any_of(runs: list[tuple[int, int]]) -> str:
    """Match one or more characters of the runs."""
    plane_0, beyond = _by_plane(runs)
    return f"(?:{as_class(plane_0)}++|(?={_BEYOND}){as_class(beyond)})++"


def _none_of(runs: list[tuple[int, int]]) -> str:
    """Match one or more characters that are in none of the runs."""
    plane_0, beyond = _by_plane(runs)
    others = as_class([*plane_0, (_LAST_OF_PLANE_0 + 1, 0x10FFFF)]).replace("[", "[^")
    return f"(?:{others}++|(?={_BEYOND}){as_class(beyond).replace('[', '[^')})++"


def _by_plane(
    runs: list[tuple[int, int]],
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Part the runs of plane 0 from the others; none lies in both."""
    runs = sorted(runs)
    plane_0 = [run for run in runs if run[1] <= _LAST_OF_PLANE_0]
    return plane_0, runs[len(plane_0) :]
