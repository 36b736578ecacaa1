"""What is wrong with a model folder: told when it persists, and once for each change."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Topic = tuple[Literal["version", "folder", "gone", "current"], int | str]


@dataclass(frozen=True)
class Problem:
    """Something that is wrong.

    Attributes
    ----------
    signature : object
        What it is, for comparison with the next look.
    reason : str
        What it is, in words.
    settled : bool
        Whether two successive looks agreed.
    told : bool
        Whether it was reported.
    """

    signature: object
    reason: str
    settled: bool
    told: bool


class Problems:
    """What one look finds wrong: reported when it persists, and once for each change.

    Attributes
    ----------
    now : dict from tuple to Problem
        What was found.
    new : list of (tuple, str)
        What is to be reported.
    """

    def __init__(self, before: Mapping[Topic, Problem], at_once: bool) -> None:
        self._before = before
        self._at_once = at_once
        self.now: dict[Topic, Problem] = {}
        self.new: list[tuple[Topic, str]] = []

    def add(self, topic: Topic, reason: str, signature: object = None) -> None:
        """Note that something is wrong."""
        signature = reason if signature is None else signature
        before = self._before.get(topic)
        again = before is not None and before.signature == signature
        told = before is not None and again and before.told
        if not told and (again or self._at_once):
            self.new.append((topic, reason))
            told = True
        self.now[topic] = Problem(signature, reason, again, told)

    def is_settled(self, topic: Topic, signature: object) -> bool:
        """Say whether a problem is known well enough not to look again; it is noted then."""
        before = self._before.get(topic)
        if before is None or not before.settled or before.signature != signature:
            return False
        self.now[topic] = before
        return True
