"""The models that a server has in memory, kept in step with their folder."""

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from skmode_deploy.bundle.files import to_path
from skmode_deploy.serving.models.catalog import Catalog, UnknownModelError, unknown_model
from skmode_deploy.serving.models.model_folder import (
    SINGLE_VERSION,
    FolderContents,
    check_name,
    find_models,
    is_bundle,
    list_versions,
)
from skmode_deploy.serving.models.problems import Problem, ProblemKey, ScanProblems
from skmode_deploy.serving.models.versions import Event, ModelState, ModelVersions

__all__ = ["Event", "LoadError", "ModelState", "Repository", "UnknownModelError"]

LOGGER = logging.getLogger("skmode_deploy")

M = TypeVar("M")


class LoadError(ValueError):
    """A model cannot be loaded as it lies on disk."""


def log_event(event: Event) -> None:
    """Write an event to the log."""
    level = logging.WARNING if event.kind == "failed" else logging.INFO
    version = "" if event.version is None else f" version {event.version}"
    LOGGER.log(level, "model %r%s %s: %s", event.model, version, event.kind, event.reason)


class Repository(Generic[M]):
    """Find models by name and version, and exchange them while they are in use.

    :meth:`scan` looks at the folder. What is new or changed is loaded beside what serves, and takes
    its place in one step. What cannot be loaded is reported, and what served before goes on
    serving. A request that holds a model may finish with it although it is no longer served: the
    model leaves memory when nobody holds it.

    Notes
    -----
    All methods may be called from any thread. Those that only read never wait; :meth:`scan`,
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
        self._models: dict[str, ModelVersions[M]] = {}
        self._problems: dict[ProblemKey, Problem] = {}
        self._scanned = False
        self._catalog: Catalog[M] = Catalog()

    # Reading: out of a catalog that nobody changes.

    def get(self, name: str, version: str = "") -> M:
        """Find a model by name, ``"churn"``, or by name and version, ``"churn@3"``."""
        return self._catalog.get(name, version)

    def names(self) -> list[str]:
        """List the models that serve."""
        return self._catalog.names()

    def versions(self, name: str) -> list[int]:
        """List the versions of a model that serve."""
        return self._catalog.versions(name)

    def current(self, name: str) -> int:
        """Say which version serves under the plain name."""
        return self._catalog.current(name)

    def state(self) -> list[ModelState]:
        """Describe all models and versions, in memory and on disk, as of the last scan."""
        return list(self._catalog.states)

    # Changing: one at a time.

    def scan(self) -> list[Event]:
        """Look at the folder once, and take over what changed.

        A change counts once it loads, or once two scans in a row agree on it; the first scan takes
        the folder as it is. So a bundle that is being copied is neither loaded too early nor
        reported as damaged. What was refused is tried again when its files change.
        """
        with self._changing:
            at_once, self._scanned = not self._scanned, True
            problems = ScanProblems(self._problems, at_once)
            events: list[Event] = []
            try:
                root, folders = self._find_models(problems)
            except OSError as error:  # what the folder holds is unknown, so nothing changes
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
            self._problems = problems.found
            return events + self._report_all(
                [Event("failed", str(key[1]), None, reason) for key, reason in problems.to_report]
            )

    def load(self, name: str) -> list[Event]:
        """Load a model, also one that was unloaded or refused before."""
        with self._changing:
            root, folders = self._find_models(ScanProblems({}, at_once=False))
            if name not in folders:
                raise unknown_model(name, folders)
            if name in self._models:
                self._models[name].allow_loading()
            problems = ScanProblems({}, at_once=True)
            events = self._refresh(name, root, folders[name], problems, at_once=True)
            if problems.to_report:
                raise LoadError(problems.to_report[0][1])
            version, problem = self._models[name].wanted_version()
            if problem:
                what = name if version is None else f"version {version} of {name}"
                raise LoadError(f"{what} cannot be loaded: {problem}")
            return events

    def unload(self, name: str) -> list[Event]:
        """Stop serving a model, until :meth:`load` is called for it."""
        with self._changing:
            if name not in self._models:
                raise unknown_model(name, self._models)
            events = self._models[name].unload()
            self._publish()
            return self._report_all(events)

    def _find_models(self, problems: ScanProblems) -> tuple[Path, dict[str, Path]]:
        """Resolve links in the path of the folder, and find the folders of its models."""
        # At each scan anew: the path may be a link that somebody sets to another folder.
        root = Path(os.path.realpath(self._path, strict=True))
        if self._name is not None:
            return root, {self._name: root}
        folders, ignored = find_models(root)
        for name, reason in ignored.items():
            problems.add(("folder", name), reason)
        return root, folders

    def _refresh(
        self, name: str, root: Path, folder: Path | None, problems: ScanProblems, *, at_once: bool
    ) -> list[Event]:
        """Take over what changed in one model, and let it serve before the next one is loaded."""
        try:
            contents = self._list_versions(root, folder)
        except OSError as error:
            problems.add(
                ("folder", name),
                f"The folder of a model must be readable, and reading it gave {error}: correct its "
                "access rights.",
            )
            return []
        model = self._models.get(name)
        if model is None:
            model = ModelVersions(name, self._open_model, self._max_versions)
            self._models[name] = model
        events = model.refresh(contents, at_once=at_once)
        if folder is None and not model.loaded and not model.unloaded:
            del self._models[name]
        self._publish()
        return self._report_all(events)

    def _list_versions(self, root: Path, folder: Path | None) -> FolderContents:
        if folder is None:
            return FolderContents()
        if self._name is not None:
            return FolderContents({SINGLE_VERSION: folder})
        return list_versions(folder, root)

    def _publish(self) -> None:
        """Replace the catalog, for all readers in one step."""
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
        self._catalog = Catalog(models, versions, current, tuple(states))

    def _report_all(self, events: list[Event]) -> list[Event]:
        for event in events:
            self._report(event)
        return events
