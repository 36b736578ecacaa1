"""The versions of one model: which are in memory, and which one serves under the plain name.

A change on disk counts once it loads, or once two scans in a row agree on it: so nothing is loaded
or given up while somebody is still copying. Whatever happens on disk, a model that serves goes on
serving.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

from skmode_deploy.serving.models.loading import BundleLoader, LoadedVersion
from skmode_deploy.serving.models.model_folder import CURRENT, FolderContents
from skmode_deploy.serving.models.problems import Problem, ProblemKey, ScanProblems

M = TypeVar("M")


@dataclass(frozen=True)
class Event:
    """Something that happened to a model.

    A version was loaded or retired (it serves no longer), another one serves under the plain name
    (switched), or something failed and the models in memory keep serving.
    """

    kind: Literal["loaded", "failed", "retired", "switched"]
    model: str  # name of the model or of an invalid folder; "" is the folder of all models
    version: int | None  # the new one if switched; None if a folder failed, not a version
    reason: str


@dataclass(frozen=True)
class ModelState:
    """An entry of the repository index."""

    name: str
    version: int | None  # None if the model has none
    state: Literal["READY", "LOADING", "UNAVAILABLE"]  # LOADING: its files may still be copied
    reason: str  # why it is not ready, or which fault its files have since it was loaded; or ""
    current: bool  # whether it serves under the plain name


class ModelVersions(Generic[M]):
    """The versions of one model."""

    def __init__(
        self, name: str, open_model: Callable[[str, int, Path], M], max_versions: int
    ) -> None:
        self.name = name
        self.loaded: dict[int, LoadedVersion[M]] = {}  # replaced as a whole, never changed
        self.current: int | None = None  # None if nothing serves
        self.problems: dict[ProblemKey, Problem] = {}  # of the last scan
        self.unloaded = False  # by a request of a client
        self._loader = BundleLoader(name, open_model)
        self._max_versions = max_versions
        self._contents = FolderContents()  # at the last scan

    def unload(self) -> list[Event]:
        """Give up all versions, until :meth:`allow_loading` is called."""
        events = [Event("retired", self.name, i, "It was unloaded.") for i in sorted(self.loaded)]
        self.loaded, self.current, self.problems = {}, None, {}
        self.unloaded = True
        return events

    def allow_loading(self) -> None:
        """Let the next refresh load what was unloaded, and try again what was refused."""
        self.unloaded, self.problems = False, {}

    def refresh(self, contents: FolderContents, *, at_once: bool) -> list[Event]:
        """Load what is new or changed, and choose the current version.

        With `at_once` the folder is taken as it is, without waiting for a second scan.
        """
        if self.unloaded:
            self._contents = contents
            return []
        problems = ScanProblems(self.problems, at_once)
        for name, reason in contents.ignored.items():
            problems.add(("folder", name), reason)
        pinned, just_gone = self._compare_scans(contents, at_once)
        newest, usable = self._load_wanted(contents, pinned, just_gone, problems)
        current = self._choose_current(contents, pinned, usable, problems)
        kept = set() if current is None else {*newest, current}
        loaded = {i: usable.get(i) or self.loaded[i] for i in sorted(kept)}
        events = self._make_events(contents, loaded, current, problems)
        self._contents, self.loaded, self.current = contents, loaded, current
        self.problems = problems.found
        return events

    def _compare_scans(
        self, contents: FolderContents, at_once: bool
    ) -> tuple[int | None, set[int]]:
        """Say which version is pinned, and which ones are missing since this scan.

        What only one scan misses may be about to be replaced, or is being moved away.
        """
        if at_once:
            return contents.pinned, set()
        pinned = contents.pinned
        if pinned is None and contents.pin_problem is None:
            pinned = self._contents.pinned
        just_gone = (self.loaded.keys() & self._contents.versions.keys()) - contents.versions.keys()
        return pinned, just_gone

    def _load_wanted(
        self,
        contents: FolderContents,
        pinned: int | None,
        just_gone: set[int],
        problems: ScanProblems,
    ) -> tuple[list[int], dict[int, LoadedVersion[M]]]:
        """Load the pinned version, the current one and the newest; say which are the newest."""
        candidates = sorted(contents.versions.keys() | just_gone, reverse=True)
        usable: dict[int, LoadedVersion[M]] = {}
        refused: set[int] = set()

        def load(version: int) -> bool:
            if version not in usable and version not in refused:
                loaded = self.loaded.get(version)
                if version not in just_gone:
                    folder = contents.versions[version]
                    loaded = self._loader.load(version, folder, loaded, problems)
                if loaded is None:
                    refused.add(version)
                else:
                    usable[version] = loaded
            return version in usable

        for version in candidates:
            if version in (pinned, self.current):
                load(version)
        newest: list[int] = []
        # Where a version is pinned, no other one may be the first to serve.
        is_pinned = pinned is not None or contents.pin_problem is not None
        if self.current is not None or not is_pinned or pinned in usable:
            for version in candidates:
                if len(newest) < self._max_versions and load(version):
                    newest.append(version)
        return newest, usable

    def _choose_current(
        self,
        contents: FolderContents,
        pinned: int | None,
        usable: Mapping[int, LoadedVersion[M]],
        problems: ScanProblems,
    ) -> int | None:
        """Choose the current version; what serves goes on where the choice cannot be followed."""
        current = self.current
        if contents.pin_problem is not None:
            problems.add(("current", CURRENT), contents.pin_problem)
        elif pinned is None:
            # A current version that left the disk goes on serving, but no other such is chosen.
            on_disk = [i for i in usable if i in contents.versions]
            current = max(on_disk if current is None else [*on_disk, current], default=None)
        elif pinned in usable:
            current = pinned
        elif pinned != current:
            refused = problems.found.get(("version", pinned))
            state = "is not there" if refused is None else "was refused"
            reason = (
                f"{CURRENT!r} must name a version that can be served, got {pinned}, which {state}: "
                "copy that version, or name another one."
            )
            # While the files of that version change, somebody may still be copying them.
            problems.add(("current", CURRENT), reason, (reason, refused and refused.signature))
        if current is None and not contents.versions:
            problems.add(
                ("folder", ""),
                "The folder of a model must be a bundle or hold versions, and it holds none: copy "
                "a bundle to a folder '1' in it, or remove it.",
            )
        if current is not None and current not in contents.versions:
            problems.add(
                ("gone", current),
                f"The current version must stay on disk, and version {current} is gone, so that it "
                "cannot be loaded again: copy it back, make another version the current one, or "
                "start the server anew to stop serving this model.",
            )
        return current

    def _make_events(
        self,
        contents: FolderContents,
        loaded: Mapping[int, LoadedVersion[M]],
        current: int | None,
        problems: ScanProblems,
    ) -> list[Event]:
        """Describe the step from what served to `loaded` and `current`."""
        events = []
        for version, fresh in loaded.items():
            before = self.loaded.get(version)
            if before is None or before.model is not fresh.model:
                reason = "It is new." if before is None else "It takes the place of what it was."
                events.append(Event("loaded", self.name, version, reason))
        if current is not None and current != self.current:
            reason = f"{_name_version(self.current)} served before."
            events.append(Event("switched", self.name, current, reason))
        for version in sorted(self.loaded.keys() - loaded.keys()):
            is_on_disk = version in contents.versions
            reason = self._too_old() if is_on_disk else "It was removed."
            events.append(Event("retired", self.name, version, reason))
        for (topic, what), reason in problems.to_report:
            failed = what if topic == "version" and isinstance(what, int) else None
            if current is not None:
                reason = f"{reason.rstrip('.')}. {_name_version(current)} goes on serving."
            events.append(Event("failed", self.name, failed, reason))
        return events

    def wanted_version(self) -> tuple[int | None, str]:
        """Say which version should serve after the last scan, and why it does not, if so."""
        version = self._contents.pinned
        if version is None and self._contents.pin_problem is None:
            version = max(self._contents.versions, default=None)
        keys: list[ProblemKey] = [("current", CURRENT), ("folder", "")]
        if version is not None:
            keys.insert(0, ("version", version))
        reasons = [self.problems[key].reason for key in keys if key in self.problems]
        return version, reasons[0] if reasons else ""

    def states(self) -> list[ModelState]:
        """Describe all versions, in memory and on disk, for the repository index."""
        versions = sorted(self._contents.versions.keys() | self.loaded.keys())
        if versions:
            return [self._state(version) for version in versions]
        reasons = [problem.reason for problem in self.problems.values()]
        reason = "It was unloaded." if self.unloaded else " ".join(reasons)
        return [ModelState(self.name, None, "UNAVAILABLE", reason, False)]

    def _state(self, version: int) -> ModelState:
        keys: list[ProblemKey] = [("version", version), ("gone", version)]
        problems = [self.problems[key] for key in keys if key in self.problems]
        reason = problems[0].reason if problems else ""
        if version in self.loaded:
            return ModelState(self.name, version, "READY", reason, version == self.current)
        if problems and not problems[0].is_reported:
            return ModelState(self.name, version, "LOADING", reason, False)
        if self.unloaded:
            reason = "It was unloaded."
        elif self.current is None:
            reason = reason or self.wanted_version()[1]
        reason = reason or self._too_old()
        return ModelState(self.name, version, "UNAVAILABLE", reason, False)

    def _too_old(self) -> str:
        return f"It is not among the {self._max_versions} newest."


def _name_version(version: int | None) -> str:
    return "Nothing" if version is None else f"Version {version}"
