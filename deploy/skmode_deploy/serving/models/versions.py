"""The versions of one model: which are in memory, and which one is served under its plain name.

What is on disk counts when two successive looks agree, or when it loads, so that nothing is taken
or given up while somebody copies. Whatever happens there, a model that serves goes on serving.
"""

import dataclasses
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

from skmode_deploy.bundle.manifest import MANIFEST
from skmode_deploy.errors import BundleError
from skmode_deploy.serving.models.model_folder import (
    CURRENT,
    Found,
    Identity,
    fingerprint,
    identify,
)
from skmode_deploy.serving.models.problems import Problem, Problems, Topic

LOGGER = logging.getLogger("skmode_deploy")

M = TypeVar("M")


@dataclass(frozen=True)
class Event:
    """Something that happened to a model.

    Attributes
    ----------
    kind : {"loaded", "failed", "retired", "switched"}
        A version was loaded, or it serves no longer; another version serves under the plain name;
        or something was refused, and what served before goes on serving.
    model : str
        Name of the model; where a folder is no model, of the folder. ``""`` is the model folder.
    version : int or None
        The version; of "switched" the new one. None if a failure is not about loading a version.
    reason : str
        Why, in words.
    """

    kind: Literal["loaded", "failed", "retired", "switched"]
    model: str
    version: int | None
    reason: str


@dataclass(frozen=True)
class ModelState:
    """An entry of the repository index.

    Attributes
    ----------
    name : str
        Name of the model.
    version : int or None
        The version. None if there is none.
    state : {"READY", "LOADING", "UNAVAILABLE"}
        Whether it answers requests; LOADING is one whose files may be on their way yet.
    reason : str
        Why it is not ready, or what is wrong with its files though it is; else ``""``.
    current : bool
        Whether it is served under the plain name.
    """

    name: str
    version: int | None
    state: Literal["READY", "LOADING", "UNAVAILABLE"]
    reason: str
    current: bool


@dataclass(frozen=True)
class Held(Generic[M]):
    """A version in memory.

    Attributes
    ----------
    model : object
        What answers requests.
    identity : Identity
        The bundle that it was loaded from.
    """

    model: M
    identity: Identity


class Versions(Generic[M]):
    """The versions of one model.

    Attributes
    ----------
    loaded : dict from int to Held
        The versions in memory; replaced as a whole when they change.
    current : int or None
        The version that is served under the plain name. None if nothing serves.
    problems : dict from tuple to Problem
        What the last look found wrong.
    unloaded : bool
        Whether it was given up on purpose.
    """

    def __init__(
        self, name: str, open_model: Callable[[str, int, Path], M], max_versions: int
    ) -> None:
        self.name = name
        self.loaded: dict[int, Held[M]] = {}
        self.current: int | None = None
        self.problems: dict[Topic, Problem] = {}
        self.unloaded = False
        self._open_model = open_model
        self._max_versions = max_versions
        self._found = Found()

    def unload(self) -> list[Event]:
        """Give up all versions, until :meth:`allow` is called."""
        events = [Event("retired", self.name, i, "It was unloaded.") for i in sorted(self.loaded)]
        self.loaded, self.current, self.problems = {}, None, {}
        self.unloaded = True
        return events

    def allow(self) -> None:
        """Allow to load again what was unloaded, and what was refused though it did not change."""
        self.unloaded, self.problems = False, {}

    def refresh(self, found: Found, *, at_once: bool) -> list[Event]:
        """Load what is new or changed, and choose what serves."""
        if self.unloaded:
            self._found = found
            return []
        problems = Problems(self.problems, at_once)
        for name, reason in found.ignored.items():
            problems.add(("folder", name), reason)
        pinned, in_doubt = self._settle(found, at_once)
        newest, chosen = self._load_wanted(found, pinned, in_doubt, problems)
        current = self._choose(found, pinned, chosen, problems)
        kept = set() if current is None else {*newest, current}
        loaded = {i: chosen.get(i) or self.loaded[i] for i in sorted(kept)}
        events = self._events(found, loaded, current, problems)
        self._found, self.loaded, self.current, self.problems = found, loaded, current, problems.now
        return events

    def _settle(self, found: Found, at_once: bool) -> tuple[int | None, set[int]]:
        """Say which version is named, and which ones are missing for the first time.

        What is missing once may be in the middle of being replaced, or of being moved away.
        """
        if at_once:
            return found.pinned, set()
        pinned = found.pinned
        if pinned is None and found.problem is None:
            pinned = self._found.pinned
        in_doubt = (self.loaded.keys() & self._found.versions.keys()) - found.versions.keys()
        return pinned, in_doubt

    def _load_wanted(
        self, found: Found, pinned: int | None, in_doubt: set[int], problems: Problems
    ) -> tuple[list[int], dict[int, Held[M]]]:
        """Load the named version, the current one and the newest; say which these newest are."""
        candidates = sorted(found.versions.keys() | in_doubt, reverse=True)
        chosen: dict[int, Held[M]] = {}
        refused: set[int] = set()

        def load(version: int) -> bool:
            if version not in chosen and version not in refused:
                folder = None if version in in_doubt else found.versions[version]
                loaded = self._load(version, folder, problems)
                if loaded is None:
                    refused.add(version)
                else:
                    chosen[version] = loaded
            return version in chosen

        for version in candidates:
            if version in (pinned, self.current):
                load(version)
        newest: list[int] = []
        # Where a version is named, no other one may be the first to serve.
        named = pinned is not None or found.problem is not None
        if self.current is not None or not named or pinned in chosen:
            for version in candidates:
                if len(newest) < self._max_versions and load(version):
                    newest.append(version)
        return newest, chosen

    def _choose(
        self,
        found: Found,
        pinned: int | None,
        chosen: Mapping[int, Held[M]],
        problems: Problems,
    ) -> int | None:
        """Choose the current version; what serves goes on where the choice cannot be followed."""
        current = self.current
        if found.problem is not None:
            problems.add(("current", CURRENT), found.problem)
        elif pinned is None:
            # One that is gone from disk goes on serving, but none is taken up again.
            there = [i for i in chosen if i in found.versions]
            current = max(there if current is None else [*there, current], default=None)
        elif pinned in chosen:
            current = pinned
        elif pinned != current:
            refused = problems.now.get(("version", pinned))
            what = "is not there" if refused is None else "was refused"
            reason = (
                f"{CURRENT!r} must name a version that can be served, got {pinned}, which {what}: "
                "copy that version, or name another one."
            )
            # As long as the files of that version change, they may be on their way.
            problems.add(("current", CURRENT), reason, (reason, refused and refused.signature))
        if current is None and not found.versions:
            problems.add(
                ("folder", ""),
                "The folder of a model must be a bundle or hold versions, and it holds none: copy "
                "a bundle to a folder '1' in it, or remove it.",
            )
        if current is not None and current not in found.versions:
            problems.add(
                ("gone", current),
                f"The current version must stay on disk, and version {current} is gone, so that it "
                "cannot be loaded again: copy it back, or make another version the current one.",
            )
        return current

    def _load(self, version: int, folder: Path | None, problems: Problems) -> Held[M] | None:
        """Load a version unless that is done already; if it cannot be, keep what there was."""
        before = self.loaded.get(version)
        if folder is None:
            return before
        try:
            identity = identify(folder, None if before is None else before.identity)
        except (OSError, BundleError) as error:
            problems.add(
                ("version", version),
                f"A bundle must have a readable {MANIFEST}, and looking at it gave {error}: copy "
                "the whole bundle again.",
                fingerprint(folder),
            )
            return before
        if before is not None and identity.is_same(before.identity):
            return dataclasses.replace(before, identity=identity)
        signature = fingerprint(folder)
        if problems.is_settled(("version", version), signature):
            return before
        try:
            model = self._open_model(self.name, version, folder)
        except Exception as error:
            # Whatever goes wrong with one bundle, the others go on.
            problems.add(("version", version), self._explain(error, version), signature)
            return before
        return Held(model, _confirm(folder, identity))

    def _explain(self, error: Exception, version: int) -> str:
        if isinstance(error, OSError | ValueError) and str(error):
            return str(error)
        LOGGER.warning(
            "Loading version %d of model %s failed in a way that is not foreseen.",
            version,
            self.name,
            exc_info=error,
        )
        return f"Loading it gave {type(error).__name__}: {error}"

    def _events(
        self,
        found: Found,
        loaded: Mapping[int, Held[M]],
        current: int | None,
        problems: Problems,
    ) -> list[Event]:
        events = []
        for version, fresh in loaded.items():
            before = self.loaded.get(version)
            if before is None or before.model is not fresh.model:
                reason = "It is new." if before is None else "It takes the place of what it was."
                events.append(Event("loaded", self.name, version, reason))
        if current is not None and current != self.current:
            reason = f"{_words(self.current)} served before."
            events.append(Event("switched", self.name, current, reason))
        for version in sorted(self.loaded.keys() - loaded.keys()):
            there = version in found.versions
            reason = (
                f"It is not among the {self._max_versions} newest." if there else "It was removed."
            )
            events.append(Event("retired", self.name, version, reason))
        for (kind, what), reason in problems.new:
            failed = what if kind == "version" and isinstance(what, int) else None
            if current is not None:
                reason = f"{reason.rstrip('.')}. {_words(current)} goes on serving."
            events.append(Event("failed", self.name, failed, reason))
        return events

    def wanted(self) -> tuple[int | None, str]:
        """Say which version is to be served by the last look, and why it does not serve."""
        found = self._found
        version = found.pinned
        if version is None and found.problem is None:
            version = max(found.versions, default=None)
        keys: list[Topic] = [("current", CURRENT), ("folder", "")]
        if version is not None:
            keys.insert(0, ("version", version))
        reasons = [self.problems[key].reason for key in keys if key in self.problems]
        return version, reasons[0] if reasons else ""

    def states(self) -> list[ModelState]:
        """Describe all versions, in memory and on disk, for the repository index."""
        versions = sorted(self._found.versions.keys() | self.loaded.keys())
        if versions:
            return [self._state(version) for version in versions]
        reasons = [problem.reason for problem in self.problems.values()]
        reason = "It was unloaded." if self.unloaded else " ".join(reasons)
        return [ModelState(self.name, None, "UNAVAILABLE", reason, False)]

    def _state(self, version: int) -> ModelState:
        keys: list[Topic] = [("version", version), ("gone", version)]
        problems = [self.problems[key] for key in keys if key in self.problems]
        reason = problems[0].reason if problems else ""
        if version in self.loaded:
            return ModelState(self.name, version, "READY", reason, version == self.current)
        if problems and not problems[0].told:
            return ModelState(self.name, version, "LOADING", reason, False)
        if self.unloaded:
            reason = "It was unloaded."
        elif self.current is None:
            reason = reason or self.wanted()[1]
        reason = reason or f"It is not among the {self._max_versions} newest."
        return ModelState(self.name, version, "UNAVAILABLE", reason, False)


def _confirm(folder: Path, before: Identity) -> Identity:
    """Say what was loaded. Nobody knows if it was replaced meanwhile; then it is loaded anew."""
    try:
        after = identify(folder, before)
    except (OSError, BundleError):
        after = None
    if after is not None and after.is_same(before) and after.stamp == before.stamp:
        return after
    return dataclasses.replace(before, sha256="", quiet=False)


def _words(version: int | None) -> str:
    return "Nothing" if version is None else f"Version {version}"
