"""Problems with a folder of models: each is reported when two scans agree on it, and only once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

# The kind of problem, and a number or name: a version, a folder that is no model or version, a
# current version that is gone from the disk, or an invalid file `current`.
ProblemKey = tuple[Literal["version", "folder", "gone", "current"], int | str]


@dataclass(frozen=True)
class Problem:
    """Something that a scan found wrong."""

    reason: str
    signature: object  # stays equal until something changes
    is_confirmed: bool  # whether two scans agreed
    is_reported: bool


class ScanProblems:
    """The problems that one scan finds, compared with those of the scan before."""

    def __init__(self, previous: Mapping[ProblemKey, Problem], at_once: bool) -> None:
        self.found: dict[ProblemKey, Problem] = {}
        self.to_report: list[tuple[ProblemKey, str]] = []
        self._previous = previous
        self._at_once = at_once  # do not wait for a second scan

    def add(self, key: ProblemKey, reason: str, signature: object = None) -> None:
        """Note a problem, and whether it is time to report it."""
        signature = reason if signature is None else signature
        previous = self._previous.get(key)
        is_confirmed = previous is not None and previous.signature == signature
        is_reported = previous is not None and is_confirmed and previous.is_reported
        if not is_reported and (is_confirmed or self._at_once):
            self.to_report.append((key, reason))
            is_reported = True
        self.found[key] = Problem(reason, signature, is_confirmed, is_reported)

    def keep_if_unchanged(self, key: ProblemKey, signature: object) -> bool:
        """Keep a confirmed problem whose cause did not change, and say whether there is one."""
        previous = self._previous.get(key)
        if previous is None or not previous.is_confirmed or previous.signature != signature:
            return False
        self.found[key] = previous
        return True
