"""The models that a server answers with, kept in step with the folder that they lie in."""

import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from skmode_deploy.bundle.files import to_path
from skmode_deploy.bundle.messages import list_names
from skmode_deploy.serving.models.model_folder import (
    ONLY_VERSION,
    Found,
    check_name,
    find_models,
    is_bundle,
    look_into,
)
from skmode_deploy.serving.models.problems import Problem, Problems, Topic
from skmode_deploy.serving.models.versions import Event, ModelState, Versions

__all__ = ["Event", "LoadError", "ModelState", "Repository", "UnknownModelError"]

LOGGER = logging.getLogger("skmode_deploy")

M = TypeVar("M")


class UnknownModelError(LookupError):
    """There is no such model, or no such version of it."""


class LoadError(ValueError):
    """A model cannot be loaded as it lies on disk."""


def log_event(event: Event) -> None:
    """Write an event to the log."""
    level = logging.WARNING if event.kind == "failed" else logging.INFO
    version = "" if event.version is None else f" version {event.version}"
    LOGGER.log(level, "model %r%s %s: %s", event.model, version, event.kind, event.reason)


@dataclass(frozen=True)
class _View(Generic[M]):
    """What serves, at one moment: it is replaced as a whole and never changed."""

    models: Mapping[str, M] = field(default_factory=dict)  # by "churn" and by "churn@3"
    versions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    current: Mapping[str, int] = field(default_factory=dict)
    states: tuple[ModelState, ...] = ()


class Repository(Generic[M]):
    """Find models by name and version, and exchange them while they are in use.

    :meth:`scan` looks at the folder. What is new or changed is loaded beside what serves, and takes
    its place in one step; what cannot be loaded is reported, and what served before goes on
    serving. Whoever holds a model that is no longer served may finish with it: it leaves memory
    when nobody holds it.

    Notes
    -----
    All methods may be called from any thread. Those that answer never wait; :meth:`scan`,
    :meth:`load` and :meth:`unload` wait for each other.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skmode_deploy.serving.models.repository import Repository
    >>> folder = tempfile.TemporaryDirectory()
    >>> def add(version):
    ...     bundle = Path(folder.name, "churn", str(version))
    ...     bundle.mkdir(parents=True)
    ...     bundle.joinpath("manifest.json").write_text(f"of version {version}")
    >>> add(1)
    >>> def open_model(name, version, folder):
    ...     return (folder / "manifest.json").read_text()
    >>> repository = Repository(folder.name, open_model, report=lambda event: None)
    >>> [(event.kind, event.version) for event in repository.scan()]
    [('loaded', 1), ('switched', 1)]
    >>> repository.get("churn")
    'of version 1'
    >>> add(2)
    >>> [(event.kind, event.version) for event in repository.scan()]
    [('loaded', 2), ('switched', 2)]
    >>> repository.get("churn"), repository.get("churn@1")
    ('of version 2', 'of version 1')
    >>> folder.cleanup()
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        open_model: Callable[[str, int, Path], M],
        *,
        name: str | None = None,
        report: Callable[[Event], None] | None = None,
        max_versions: int = 3,
    ) -> None:
        self._path = to_path(path, "path")
        if not self._path.is_dir():
            raise NotADirectoryError(
                f"path must be a bundle or a folder of models, got {str(path)!r}, which is no "
                "folder: pass the folder that skmode.onnx.export wrote, or one of such folders."
            )
        if type(max_versions) is not int or max_versions < 1:
            raise ValueError(
                f"max_versions must be an integer of at least 1, got {max_versions!r}: pass how "
                "many versions fit into memory, such as 3."
            )
        self._name = None if name is None else check_name(name)
        if name is None and is_bundle(self._path):
            self._name = check_name(Path(os.path.realpath(self._path)).name)
        self._open_model = open_model
        self._report = log_event if report is None else report
        self._max_versions = max_versions
        self._changing = threading.Lock()
        self._models: dict[str, Versions[M]] = {}
        self._problems: dict[Topic, Problem] = {}
        self._scanned = False
        self._view: _View[M] = _View()

    # Reading: one look at a view that nobody changes.

    def get(self, name: str) -> M:
        """Find a model."""
        view = self._view
        try:
            return view.models[name]
        except KeyError:
            raise _unknown(view, name) from None

    def names(self) -> list[str]:
        """List the models that serve."""
        return sorted(self._view.current)

    def versions(self, name: str) -> list[int]:
        """List the versions of a model that serve."""
        view = self._view
        if name not in view.versions:
            raise _unknown(view, name)
        return list(view.versions[name])

    def current(self, name: str) -> int:
        """Say which version is served under the plain name."""
        view = self._view
        if name not in view.current:
            raise _unknown(view, name)
        return view.current[name]

    def state(self) -> list[ModelState]:
        """Describe all models and versions, in memory and on disk, as of the last scan."""
        return list(self._view.states)

    # Changing: one at a time.

    def scan(self) -> list[Event]:
        """Look at the folder once, and take over what changed.

        A change counts if it can be loaded, or if two successive scans find the same; the first
        scan takes the folder as it is. So a bundle that is being copied is neither loaded too early
        nor reported as damaged, and what was refused is tried again when its files change.
        """
        with self._changing:
            at_once, self._scanned = not self._scanned, True
            problems = Problems(self._problems, at_once)
            events: list[Event] = []
            try:
                root, folders = self._find(problems)
            except OSError as error:  # nothing is known, so nothing changes
                problems.add(
                    ("folder", ""),
                    f"The model folder must be readable, and reading it gave {error}: mount it "
                    "again, or correct its access rights.",
                )
                folders = {}
            else:
                for name in sorted(folders.keys() | self._models.keys()):
                    folder = folders.get(name)
                    events += self._refresh(name, root, folder, problems, at_once=at_once)
            self._problems = problems.now
            return events + self._tell(
                [Event("failed", str(topic[1]), None, reason) for topic, reason in problems.new]
            )

    def load(self, name: str) -> list[Event]:
        """Load a model anew, also one that was unloaded or refused."""
        with self._changing:
            root, folders = self._find(Problems({}, False))
            if name not in folders:
                raise _not_there(name, folders)
            if name in self._models:
                self._models[name].allow()
            problems = Problems({}, True)
            events = self._refresh(name, root, folders[name], problems, at_once=True)
            if problems.new:
                raise LoadError(problems.new[0][1])
            version, problem = self._models[name].wanted()
            if problem:
                what = name if version is None else f"version {version} of {name}"
                raise LoadError(f"{what} cannot be loaded: {problem}")
            return events

    def unload(self, name: str) -> list[Event]:
        """Stop serving a model, until :meth:`load` is called for it."""
        with self._changing:
            if name not in self._models:
                raise _not_there(name, self._models)
            events = self._models[name].unload()
            self._publish()
            return self._tell(events)

    def _find(self, problems: Problems) -> tuple[Path, dict[str, Path]]:
        """Say where the folder really is, and which models it has."""
        # Anew at each look: the path may be a link that is set to another folder.
        root = Path(os.path.realpath(self._path, strict=True))
        if self._name is not None:
            return root, {self._name: root}
        folders, ignored = find_models(root)
        for name, reason in ignored.items():
            problems.add(("folder", name), reason)
        return root, folders

    def _refresh(
        self, name: str, root: Path, folder: Path | None, problems: Problems, *, at_once: bool
    ) -> list[Event]:
        """Take over what changed in one model, and let it serve before the next one is loaded."""
        try:
            found = self._look_into(root, folder)
        except OSError as error:
            problems.add(
                ("folder", name),
                f"The folder of a model must be readable, and reading it gave {error}: correct its "
                "access rights.",
            )
            return []
        model = self._models.get(name)
        if model is None:
            model = self._models[name] = Versions(name, self._open_model, self._max_versions)
        events = model.refresh(found, at_once=at_once)
        if folder is None and not model.loaded and not model.unloaded:
            del self._models[name]
        self._publish()
        return self._tell(events)

    def _look_into(self, root: Path, folder: Path | None) -> Found:
        if folder is None:
            return Found()
        if self._name is not None:
            return Found({ONLY_VERSION: folder})
        return look_into(folder, root)

    def _publish(self) -> None:
        """Replace the view: from one moment to the next, for all who read."""
        models: dict[str, M] = {}
        versions: dict[str, tuple[int, ...]] = {}
        current: dict[str, int] = {}
        states: list[ModelState] = []
        for name, model in sorted(self._models.items()):
            states += model.states()
            if model.current is None:
                continue
            models[name] = model.loaded[model.current].model
            models |= {f"{name}@{i}": loaded.model for i, loaded in model.loaded.items()}
            versions[name] = tuple(sorted(model.loaded))
            current[name] = model.current
        self._view = _View(models, versions, current, tuple(states))

    def _tell(self, events: list[Event]) -> list[Event]:
        for event in events:
            self._report(event)
        return events


def _unknown(view: _View[M], name: str) -> UnknownModelError:
    plain, _, version = name.partition("@")
    if version and plain in view.versions:
        there = list_names([str(number) for number in view.versions[plain]])
        return UnknownModelError(
            f"The version of {plain!r} must be one of {there}, got {version[:40]!r}: ask for one "
            f"of these, or for {plain!r} without a version."
        )
    return _not_there(name, view.current)


def _not_there(name: str, names: Mapping[str, object]) -> UnknownModelError:
    if not names:
        return UnknownModelError(
            f"A model must be served to be asked for, got {name[:120]!r}, and none is: copy its "
            "bundle to the model folder."
        )
    return UnknownModelError(
        f"The model must be one of {list_names(sorted(names))}, got {name[:120]!r}: ask for one of "
        "these."
    )
