"""Problems with a folder of models: each is reported when two scans agree on it, and only once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

# What is wrong: a version, a folder that is no model or no version, a current version that left the
# disk, or the file that names the current version; and the number or name of it.
ProblemKey = tuple[Literal["version", "folder", "gone", "current"], int | str]


@dataclass(frozen=True)
class Problem:
    """Something that a scan found wrong."""

    reason: str
    signature: object  # equal to that of the next scan if nothing changed
    is_confirmed: bool  # two scans agreed
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
