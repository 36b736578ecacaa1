"""After any sequence of changes to the folder, complete models serve and keep serving."""

import os
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from skmode_deploy.serving.models.repository import LoadError, UnknownModelError

NAMES = st.sampled_from(["churn", "credit"])
NUMBERS = st.integers(1, 4)


class FolderMachine(RuleBasedStateMachine):
    """Anybody changes the folder in any order, between scans."""

    fakes = None  # functions of conftest, see below

    def __init__(self):
        super().__init__()
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        self.watched = self.fakes.watch(self.folder, max_versions=2)
        self.whole = set()  # (name, version, text) that ever was whole on disk
        self.serving = set()
        self.count = 0
        self.scanned = False
        self.since_change = 0  # number of scans

    def teardown(self):
        self.temporary.cleanup()

    def path(self, name, version):
        return self.folder / name / str(version)

    def on_disk(self, name):
        """Versions that are whole, and what they hold."""
        found = {}
        for version in range(1, 5):
            try:
                found[version] = self.fakes.open_model(name, version, self.path(name, version)).text
            except (OSError, ValueError):
                continue
        return found

    def is_wrong(self, name):
        """Whether what is to be served cannot be served as it lies on disk."""
        on_disk = self.on_disk(name)
        versions = [int(path.name) for path in (self.folder / name).glob("[0-9]")]
        try:
            text = (self.folder / name / "current").read_text()
        except FileNotFoundError:
            return max(versions, default=0) not in on_disk
        return not text.isdigit() or int(text) not in on_disk

    @initialize(name=NAMES, version=NUMBERS)
    def start(self, name, version):
        self.add(name, version)

    @rule(name=NAMES, version=NUMBERS)
    def add(self, name, version):
        self.count += 1
        text = f"text {self.count}"
        self.fakes.put(self.path(name, version), text)
        self.whole.add((name, version, text))
        self.since_change = 0

    @rule(name=NAMES, version=NUMBERS, data=st.data())
    def corrupt(self, name, version, data):
        folder = self.path(name, version)
        if not folder.exists():
            return
        self.count += 1
        way = data.draw(st.sampled_from(["weights", "manifest", "both", "cut", "nothing", "empty"]))
        if way == "weights":
            (folder / "weights").write_text(f"damaged {self.count}")
        elif way == "manifest":
            self.fakes.write_manifest(folder, f"damaged {self.count}")
        elif way == "both":
            self.fakes.damage(folder, f"damaged {self.count}")
        elif way == "cut":
            (folder / "manifest.json").write_text('{"sha256": ')
        elif way == "nothing":
            (folder / "weights").unlink(missing_ok=True)
        else:
            (folder / "manifest.json").unlink(missing_ok=True)
        self.since_change = 0

    @rule(name=NAMES, version=NUMBERS)
    def remove(self, name, version):
        shutil.rmtree(self.path(name, version), ignore_errors=True)
        self.since_change = 0

    @rule(name=NAMES)
    def remove_all(self, name):
        shutil.rmtree(self.folder / name, ignore_errors=True)
        self.since_change = 0

    @rule(name=NAMES, text=NUMBERS.map(str) | st.sampled_from(["", "9", "latest"]))
    def pin(self, name, text):
        (self.folder / name).mkdir(exist_ok=True)
        (self.folder / name / "current").write_text(text)
        self.since_change = 0

    @rule(name=NAMES)
    def unpin(self, name):
        (self.folder / name / "current").unlink(missing_ok=True)
        self.since_change = 0

    @rule(times=st.integers(1, 3))
    def scan(self, times):
        for _ in range(times):
            self.watched.scan()
            self.scanned = True
            self.since_change += 1
        self.serving |= set(self.watched.repository.names())

    @rule(name=NAMES)
    @precondition(lambda self: self.scanned)
    def unload_and_load(self, name):
        served = name in self.watched.repository.names()
        try:
            self.watched.repository.unload(name)
            self.serving.discard(name)
            assert name not in self.watched.repository.names()
            self.watched.repository.load(name)
            assert name in self.watched.repository.names()
        except UnknownModelError:
            assert not served or not (self.folder / name).exists()
        except LoadError:
            assert name not in self.watched.repository.names() or self.is_wrong(name)
        self.serving |= set(self.watched.repository.names())

    @invariant()
    def what_serves_was_whole_and_goes_on(self):
        repository = self.watched.repository
        assert set(repository.names()) >= self.serving
        for name in repository.names():
            versions = repository.versions(name)
            assert repository.current(name) in versions
            assert repository.get(name) is repository.get(f"{name}@{repository.current(name)}")
            assert len(versions) <= 3
            for version in versions:
                model = repository.get(f"{name}@{version}")
                assert (model.name, model.version) == (name, version)
                assert (name, version, model.text) in self.whole

    @invariant()
    def the_folder_is_followed_when_it_is_still(self):
        if self.since_change < 2:
            return
        repository = self.watched.repository
        assert self.watched.scan() == []
        for name in repository.names():
            on_disk = self.on_disk(name)
            current = repository.current(name)
            try:
                text = (self.folder / name / "current").read_text()
            except FileNotFoundError:
                assert current >= max(on_disk, default=0)
            else:
                named = int(text) if text.isdigit() else None
                assert named == current or named not in on_disk
            for version in set(repository.versions(name)) & on_disk.keys():
                assert repository.get(f"{name}@{version}").text == on_disk[version]
            for version in repository.versions(name):
                assert version == current or self.path(name, version).exists()


SETTINGS = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    # The same examples in each run. To look for more, set HYPOTHESIS_RANDOM=1.
    derandomize=not os.environ.get("HYPOTHESIS_RANDOM"),
    suppress_health_check=[HealthCheck.too_slow],
)


def test_any_change(watch, open_model, put, write_manifest, damage):
    FolderMachine.fakes = SimpleNamespace(
        watch=watch, open_model=open_model, put=put, write_manifest=write_manifest, damage=damage
    )
    run_state_machine_as_test(FolderMachine, settings=SETTINGS)
