"""Models are found by name, and exchanged under load: with fakes for bundles and models."""

import gc
import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import threading
import time
import weakref
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import skmode_deploy
from skmode_deploy import bundle
from skmode_deploy.errors import BundleError, FileHashError
from skmode_deploy.serving.models.model_folder import Identity, identify
from skmode_deploy.serving.models.repository import Event, LoadError, Repository, UnknownModelError


class Model:
    """What a fake bundle is loaded as."""

    def __init__(self, name, version, text):
        self.name, self.version, self.text = name, version, text


def open_model(name, version, folder):
    """Load a fake bundle: a manifest that states the hash of the one other file."""
    manifest = json.loads((folder / "manifest.json").read_text())
    weights = (folder / "weights").read_bytes()
    if hashlib.sha256(weights).hexdigest() != manifest["sha256"]:
        raise FileHashError("weights must have the stated hash, got another: copy them again.")
    return Model(name, version, weights.decode())


def write_manifest(folder, text):
    manifest = {"sha256": hashlib.sha256(text.encode()).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def put(folder, text="whole"):
    """Put a whole bundle in the place of what was there, as `bundle.write` does."""
    fresh = folder.with_name(f".{folder.name}-0123456789abcdef")
    fresh.mkdir(parents=True)
    (fresh / "weights").write_text(text)
    write_manifest(fresh, text)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def damage(folder, text="damaged"):
    (folder / "weights").write_text(text)
    write_manifest(folder, text + " otherwise")


class Watched:
    """A repository, with what it reported and what it tried to load."""

    def __init__(self, path, **options):
        self.events, self.opened = [], []

        def opener(name, version, folder):
            self.opened.append((name, version))
            return open_model(name, version, folder)

        self.repository = Repository(path, opener, report=self.events.append, **options)

    def scan(self):
        """Scan; give what happened as (kind, model, version)."""
        before = len(self.events)
        events = self.repository.scan()
        assert self.events[before:] == events
        return [(event.kind, event.model, event.version) for event in events]

    def text(self, name):
        return self.repository.get(name).text


@pytest.fixture
def models(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def watched(models):
    return Watched(models)


def test_names_and_versions(models, watched):
    for version in (1, 2, 10):
        put(models / "churn" / str(version), f"churn {version}")
    put(models / "credit", "single")
    assert watched.scan() == [
        ("loaded", "churn", 1),
        ("loaded", "churn", 2),
        ("loaded", "churn", 10),
        ("switched", "churn", 10),
        ("loaded", "credit", 1),
        ("switched", "credit", 1),
    ]
    repository = watched.repository
    assert repository.names() == ["churn", "credit"]
    assert repository.versions("churn") == [1, 2, 10]
    assert repository.current("churn") == 10
    assert repository.get("churn") is repository.get("churn@10")
    assert watched.text("churn@2") == "churn 2"
    assert watched.text("credit") == watched.text("credit@1") == "single"
    model = repository.get("churn@2")
    assert (model.name, model.version) == ("churn", 2)
    assert watched.scan() == []
    assert len(watched.opened) == 4  # nothing was loaded twice


def test_a_path_may_be_a_single_bundle(models):
    put(models / "churn", "first")
    watched = Watched(models / "churn")
    assert watched.scan() == [("loaded", "churn", 1), ("switched", "churn", 1)]
    put(models / "churn", "second")
    assert watched.scan() == [("loaded", "churn", 1)]
    assert watched.text("churn@1") == "second"
    named = Watched(models / "churn", name="credit")
    named.scan()
    assert named.repository.names() == ["credit"]


def test_a_name_makes_the_path_a_single_bundle(models):
    put(models / "churn" / "1")
    watched = Watched(models, name="churn")
    assert watched.scan() == [("failed", "churn", 1)]
    assert "A bundle must have a readable manifest.json" in watched.events[0].reason
    assert watched.repository.names() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "a@1"}, "name of a model must be letters.*got 'a@1'"),
        ({"name": ".hidden"}, "the first no '.', got '.hidden'"),
        ({"max_versions": 0}, "max_versions must be an integer of at least 1, got 0"),
        ({"max_versions": True}, "max_versions must be an integer of at least 1, got True"),
    ],
)
def test_wrong_parameters(models, options, message):
    with pytest.raises(ValueError, match=message):
        Repository(models, open_model, **options)


def test_the_path_must_be_a_folder_and_its_name_that_of_a_model(models):
    with pytest.raises(NotADirectoryError, match="path must be a bundle or a folder.*no folder"):
        Repository(models / "nowhere", open_model)
    put(models / "my model")
    with pytest.raises(ValueError, match="got 'my model': rename.*or pass a name"):
        Repository(models / "my model", open_model)


def test_unknown_models(models, watched):
    with pytest.raises(UnknownModelError, match="got 'churn', and none is: copy its bundle"):
        watched.repository.get("churn")
    put(models / "churn" / "3")
    watched.scan()
    for ask in (watched.repository.get, watched.repository.current, watched.repository.versions):
        with pytest.raises(UnknownModelError, match="must be one of 'churn', got 'credit'"):
            ask("credit")
    for name in ("churn@4", "churn@03", "churn@latest"):
        with pytest.raises(UnknownModelError, match="version of 'churn' must be one of '3', got"):
            watched.repository.get(name)
    for name in ("churn@", "@3", "", "a@b@c", "../churn"):
        with pytest.raises(UnknownModelError, match="must be one of 'churn'"):
            watched.repository.get(name)
    with pytest.raises(UnknownModelError) as error:
        watched.repository.get("x" * 1_000_000)
    assert len(str(error.value)) < 300


def test_a_bad_start_says_why_and_serves_the_rest(models, watched):
    put(models / "churn" / "1")
    put(models / "churn" / "2")
    damage(models / "churn" / "2")
    (models / "credit" / "1").mkdir(parents=True)
    (models / "empty").mkdir()
    assert watched.scan() == [
        ("loaded", "churn", 1),
        ("switched", "churn", 1),
        ("failed", "churn", 2),
        ("failed", "credit", 1),
        ("failed", "empty", None),
    ]
    reasons = [event.reason for event in watched.events if event.kind == "failed"]
    assert reasons[0] == (
        "weights must have the stated hash, got another: copy them again. "
        "Version 1 goes on serving."
    )
    assert "must have a readable manifest.json" in reasons[1]
    assert "must be a bundle or hold versions, and it holds none" in reasons[2]
    assert watched.repository.names() == ["churn"]


def test_a_new_bundle_takes_over_and_the_old_one_leaves_memory(models, watched):
    put(models / "churn" / "1", "old")
    watched.scan()
    held = watched.repository.get("churn")
    gone = weakref.ref(held)
    put(models / "churn" / "1", "new")
    assert watched.scan() == [("loaded", "churn", 1)]
    assert watched.events[-1].reason == "It takes the place of what it was."
    assert watched.text("churn") == watched.text("churn@1") == "new"
    gc.collect()
    assert gone().text == "old"  # a request in flight ends with what it began with
    gc.disable()
    try:
        del held
        assert gone() is None  # at once, for nothing refers to it in a circle
    finally:
        gc.enable()


def test_retired_versions_leave_memory(models):
    watched = Watched(models, max_versions=1)
    put(models / "churn" / "1")
    watched.scan()
    gone = weakref.ref(watched.repository.get("churn"))
    put(models / "churn" / "2")
    assert watched.scan() == [
        ("loaded", "churn", 2),
        ("switched", "churn", 2),
        ("retired", "churn", 1),
    ]
    assert watched.events[-1].reason == "It is not among the 1 newest."
    assert gone() is None


def test_a_refused_bundle_changes_nothing_and_is_reported_once(models, watched):
    put(models / "churn" / "1", "old")
    watched.scan()
    damage(models / "churn" / "1")
    assert watched.scan() == []  # it may be on its way
    assert watched.scan() == [("failed", "churn", 1)]
    assert watched.events[-1].reason.endswith("copy them again. Version 1 goes on serving.")
    attempts = len(watched.opened)
    assert [watched.scan() for _ in range(3)] == [[], [], []]
    assert len(watched.opened) == attempts
    assert watched.text("churn") == "old"
    damage(models / "churn" / "1", "in another way")  # a change is reported anew
    assert watched.scan() + watched.scan() + watched.scan() == [("failed", "churn", 1)]
    put(models / "churn" / "1", "mended")
    assert watched.scan() == [("loaded", "churn", 1)]
    assert watched.text("churn") == "mended"


def test_an_older_version_whose_files_are_damaged_goes_on_serving(models, watched):
    put(models / "churn" / "1", "old")
    put(models / "churn" / "2")
    watched.scan()
    damage(models / "churn" / "1")
    assert watched.scan() + watched.scan() + watched.scan() == [("failed", "churn", 1)]
    assert watched.text("churn@1") == "old"
    state = watched.repository.state()[0]
    assert (state.version, state.state) == (1, "READY")
    assert "must have the stated hash" in state.reason


def test_a_bundle_that_is_put_back_as_it_was_is_no_change(models, watched):
    put(models / "churn" / "1")
    watched.scan()
    damage(models / "churn" / "1")
    watched.scan()
    put(models / "churn" / "1")
    before = watched.repository.get("churn")
    assert watched.scan() + watched.scan() == []
    assert watched.repository.get("churn") is before


@pytest.mark.parametrize("manifest_first", [False, True])
def test_a_copy_in_progress_is_not_picked_up(models, watched, manifest_first):
    put(models / "churn" / "1")
    watched.scan()
    folder = models / "churn" / "2"
    folder.mkdir()
    assert watched.scan() == []
    if manifest_first:
        write_manifest(folder, "whole at last")
    for end in (5, 8, 13):
        (folder / "weights").write_text("whole at last"[:end])
        assert watched.repository.current("churn") == 1
        if end < 13:
            assert watched.scan() == []
    write_manifest(folder, "whole at last")
    assert watched.scan() == [("loaded", "churn", 2), ("switched", "churn", 2)]
    assert watched.text("churn") == "whole at last"
    assert [event for event in watched.events if event.kind == "failed"] == []


def test_half_of_a_manifest_is_not_picked_up(models, watched):
    put(models / "churn" / "1")
    watched.scan()
    put(models / ".aside", "second")
    folder = models / "churn" / "2"
    folder.mkdir()
    shutil.copy(models / ".aside" / "weights", folder)
    text = (models / ".aside" / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text[: len(text) // 2])
    assert watched.scan() == []
    (folder / "manifest.json").write_text(text)
    assert watched.scan() == [("loaded", "churn", 2), ("switched", "churn", 2)]


def test_a_copy_that_stopped_halfway_is_reported(models, watched):
    put(models / "churn" / "1")
    watched.scan()
    (models / "churn" / "2").mkdir()
    write_manifest(models / "churn" / "2", "never came")
    assert watched.scan() == []
    assert watched.repository.state()[1].state == "LOADING"
    assert watched.scan() == [("failed", "churn", 2)]
    assert watched.repository.state()[1].state == "UNAVAILABLE"


def test_a_bundle_that_is_replaced_while_it_is_loaded_is_loaded_again(models):
    put(models / "churn" / "1", "first")

    def slow(name, version, folder):
        model = open_model(name, version, folder)
        if model.text == "first":
            put(models / "churn" / "1", "second")
        return model

    repository = Repository(models, slow, report=lambda event: None)
    repository.scan()
    assert repository.get("churn").text == "first"
    assert [event.kind for event in repository.scan()] == ["loaded"]
    assert repository.get("churn").text == "second"
    assert repository.scan() == []


def test_a_bundle_that_was_another_one_only_while_it_was_loaded_is_loaded_again(models):
    put(models / "churn" / "1", "first")
    between = ["second", "first"]

    def slow(name, version, folder):
        if between:
            put(folder, between.pop(0))
        model = open_model(name, version, folder)
        if between:
            put(folder, between.pop(0))
        return model

    repository = Repository(models, slow, report=lambda event: None)
    repository.scan()
    assert repository.get("churn").text == "second"
    assert [event.kind for event in repository.scan()] == ["loaded"]
    assert repository.get("churn").text == "first"


def test_a_bundle_that_goes_while_it_is_loaded_serves_all_the_same(models):
    put(models / "churn" / "1")

    def slow(name, version, folder):
        model = open_model(name, version, folder)
        shutil.rmtree(folder)
        return model

    repository = Repository(models, slow, report=lambda event: None)
    repository.scan()
    assert [event.kind for event in [*repository.scan(), *repository.scan()]] == ["failed"]
    assert repository.get("churn").text == "whole"


def test_two_changes_within_a_tick_of_the_clock_are_seen(models):
    folder = models / "churn"
    put(folder, "first")
    manifest = folder / "manifest.json"
    known = identify(folder)
    assert not known.quiet  # just written: another change might look the same
    same_stamp = Identity(folder, "another hash", known.stamp, quiet=False)
    assert identify(folder, same_stamp).sha256 == known.sha256
    trusted = Identity(folder, "another hash", known.stamp, quiet=True)
    assert identify(folder, trusted) is trusted  # nothing is read where nothing can have changed
    os.utime(manifest, ns=(0, 0))
    assert identify(folder, trusted).sha256 == known.sha256


@pytest.mark.parametrize(
    "error", [BundleError("of a bundle"), OSError("of a disk"), RuntimeError("a"), MemoryError()]
)
def test_whatever_loading_raises_the_others_go_on(models, error, caplog):
    put(models / "a" / "1")
    put(models / "b" / "1")

    def fail(name, version, folder):
        if name == "a":
            raise error
        return open_model(name, version, folder)

    repository = Repository(models, fail)
    with caplog.at_level(logging.INFO, "skmode_deploy"):
        repository.scan()
    assert repository.names() == ["b"]
    foreseen = isinstance(error, BundleError | OSError)
    words = str(error) if foreseen else f"Loading it gave {type(error).__name__}: {error}"
    assert f"model 'a' version 1 failed: {words}" in caplog.text
    assert "model 'b' version 1 loaded: It is new." in caplog.text
    assert ("not foreseen" in caplog.text) is not foreseen


# Which version is the current one.


def test_the_named_version_is_the_current_one(models, watched):
    for version in range(1, 7):
        put(models / "churn" / str(version))
    (models / "churn" / "current").write_text(" 2\n")
    watched.scan()
    assert watched.repository.current("churn") == 2
    assert watched.repository.versions("churn") == [2, 4, 5, 6]
    (models / "churn" / "current").write_text("5")
    assert watched.scan() == [("switched", "churn", 5), ("retired", "churn", 2)]
    assert watched.events[-2].reason == "Version 2 served before."
    (models / "churn" / "current").write_text("1")
    assert watched.scan() == [("loaded", "churn", 1), ("switched", "churn", 1)]
    (models / "churn" / "current").unlink()
    assert watched.scan() == []  # the folder may be on its way
    assert watched.scan() == [("switched", "churn", 6), ("retired", "churn", 1)]


@pytest.mark.parametrize("text", ["", "two", "-1", "02", "1.0", "2 3", "9" * 19, "\x00", "٣"])
def test_what_names_no_version_changes_nothing(models, watched, text):
    for version in (1, 2):
        put(models / "churn" / str(version))
    (models / "churn" / "current").write_text("1")
    watched.scan()
    (models / "churn" / "current").write_text(text)
    put(models / "churn" / "3")
    assert watched.scan() == [("loaded", "churn", 3)]
    assert watched.scan() == [("failed", "churn", None)]
    assert "The file 'current' must be a whole number such as 3" in watched.events[-1].reason
    assert watched.events[-1].reason.endswith("Version 1 goes on serving.")
    assert watched.scan() == []
    assert watched.repository.current("churn") == 1


def test_current_must_be_a_file(models, watched):
    put(models / "churn" / "1")
    (models / "churn" / "current").symlink_to("1")
    put(models / "credit" / "1")
    (models / "credit" / "current").mkdir()
    assert watched.scan() == [("failed", "churn", None), ("failed", "credit", None)]
    for event in watched.events:
        assert "'current' must be a plain file with the version to serve" in event.reason


def test_a_named_version_that_is_not_there_or_refused_changes_nothing(models, watched):
    put(models / "churn" / "1")
    watched.scan()
    (models / "churn" / "current").write_text("2")
    assert watched.scan() + watched.scan() == [("failed", "churn", None)]
    assert "got 2, which is not there: copy that version" in watched.events[-1].reason
    put(models / "churn" / "2")
    damage(models / "churn" / "2")
    events = watched.scan() + watched.scan() + watched.scan()
    assert sorted(events, key=str) == [("failed", "churn", 2), ("failed", "churn", None)]
    assert "got 2, which was refused" in watched.events[-1].reason + watched.events[-2].reason
    assert watched.repository.current("churn") == 1
    put(models / "churn" / "2")
    assert watched.scan() == [("loaded", "churn", 2), ("switched", "churn", 2)]


def test_a_named_version_on_its_way_is_waited_for(models, watched):
    put(models / "churn" / "1")
    watched.scan()
    folder = models / "churn" / "2"
    folder.mkdir()
    (models / "churn" / "current").write_text("2")
    write_manifest(folder, "whole")
    for end in (1, 2, 3):
        (folder / "weights").write_text("whole"[:end])
        assert watched.scan() == []
    (folder / "weights").write_text("whole")
    assert watched.scan() == [("loaded", "churn", 2), ("switched", "churn", 2)]


def test_at_the_start_no_other_version_stands_in_for_the_named_one(models, watched):
    put(models / "churn" / "1")
    put(models / "churn" / "3")
    (models / "churn" / "current").write_text("2")
    assert watched.scan() == [("failed", "churn", None)]
    assert watched.opened == []
    assert watched.repository.names() == []
    assert [state.state for state in watched.repository.state()] == ["UNAVAILABLE"] * 2
    assert "got 2, which is not there" in watched.repository.state()[0].reason
    put(models / "churn" / "2")
    watched.scan()
    assert watched.repository.current("churn") == 2
    assert watched.repository.versions("churn") == [1, 2, 3]


def test_while_no_version_is_named_rightly_the_current_one_is_followed(models):
    watched = Watched(models, max_versions=1)
    put(models / "churn" / "1", "old")
    put(models / "churn" / "2")
    (models / "churn" / "current").write_text("1")
    watched.scan()
    (models / "churn" / "current").write_text("")
    put(models / "churn" / "1", "new")
    assert watched.scan() == [("loaded", "churn", 1)]
    assert watched.text("churn") == "new"


def test_what_is_no_longer_on_disk_is_not_taken_up_again(models, watched):
    for version in (1, 2, 3):
        put(models / "churn" / str(version))
    (models / "churn" / "current").write_text("1")
    watched.scan()
    (models / "churn" / "current").unlink()
    assert watched.scan() == []
    shutil.rmtree(models / "churn" / "3")
    assert watched.scan() == [("switched", "churn", 2)]
    assert watched.scan() == [("retired", "churn", 3)]


# What happens on disk while a model serves.


def test_a_removed_version_is_retired_but_never_the_current_one(models, watched):
    for version in (1, 2, 3):
        put(models / "churn" / str(version))
    watched.scan()
    shutil.rmtree(models / "churn" / "1")
    assert watched.scan() == []  # it may be about to be replaced
    assert watched.repository.get("churn@1").version == 1
    assert watched.scan() == [("retired", "churn", 1)]
    assert watched.events[-1].reason == "It was removed."
    shutil.rmtree(models / "churn" / "3")
    assert watched.scan() + watched.scan() == [("failed", "churn", None)]
    assert "version 3 is gone, so that it cannot be loaded again" in watched.events[-1].reason
    assert watched.repository.current("churn") == 3
    shutil.rmtree(models / "churn")
    assert watched.scan() + watched.scan() + watched.scan() == [("retired", "churn", 2)]
    assert watched.repository.versions("churn") == [3]
    put(models / "churn" / "4")
    assert ("switched", "churn", 4) in watched.scan()
    assert watched.scan() == []
    assert watched.repository.versions("churn") == [4]


def test_a_folder_that_is_away_for_a_moment_changes_nothing(models, watched):
    for version in (1, 2):
        put(models / "churn" / str(version))
    (models / "churn" / "current").write_text("1")
    watched.scan()
    before = watched.repository.get("churn"), watched.repository.get("churn@2")
    (models / "churn").rename(models / ".aside")
    assert watched.scan() == []
    (models / ".aside").rename(models / "churn")
    assert watched.scan() == []
    assert (watched.repository.get("churn"), watched.repository.get("churn@2")) == before
    models.rename(models.with_name("aside"))
    assert watched.scan() == []
    assert watched.scan() == [("failed", "", None)]
    assert "model folder must be readable" in watched.events[-1].reason
    models.with_name("aside").rename(models)
    assert watched.scan() == []
    assert (watched.repository.get("churn"), watched.repository.get("churn@2")) == before
    assert len(watched.opened) == 2


def test_a_failed_read_of_a_models_folder_changes_nothing(models, watched, monkeypatch):
    put(models / "churn" / "1")
    put(models / "credit" / "1")
    watched.scan()
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) == "churn":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", refuse)
        put(models / "credit" / "2")
        assert watched.scan() == [("loaded", "credit", 2), ("switched", "credit", 2)]
        assert watched.scan() == [("failed", "churn", None)]
        assert "folder of a model must be readable" in watched.events[-1].reason
        with pytest.raises(LoadError, match="must be readable"):
            watched.repository.load("churn")
    assert watched.scan() == []
    assert watched.repository.names() == ["churn", "credit"]


def test_a_model_that_never_served_is_forgotten_with_its_folder(models, watched):
    (models / "empty").mkdir()
    watched.scan()
    assert [state.name for state in watched.repository.state()] == ["empty"]
    (models / "empty").rmdir()
    watched.scan()
    assert watched.repository.state() == []


def test_a_renamed_version_is_another_one(models, watched):
    put(models / "churn" / "1")
    put(models / "churn" / "3")
    watched.scan()
    (models / "churn" / "1").rename(models / "churn" / "4")
    assert watched.scan() == [("loaded", "churn", 4), ("switched", "churn", 4)]
    assert watched.scan() == [("retired", "churn", 1)]
    assert watched.repository.get("churn").version == 4


def test_the_path_may_be_a_link_that_is_set_to_another_folder(tmp_path):
    put(tmp_path / "blue" / "churn" / "1", "blue")
    put(tmp_path / "green" / "churn" / "1", "green")
    (tmp_path / "models").symlink_to("blue")
    watched = Watched(tmp_path / "models")
    watched.scan()
    (tmp_path / "new").symlink_to("green")
    (tmp_path / "new").replace(tmp_path / "models")
    assert watched.scan() == [("loaded", "churn", 1)]
    assert watched.text("churn") == "green"


# What is no model, and no version.


def test_what_is_no_model_is_left_out_and_reported_once(models, watched, tmp_path):
    put(models / "churn" / "1")
    put(tmp_path / "outside" / "1")
    put(models / ".hidden" / "1")
    put(models / f".credit-{16 * '0'}")
    put(models / "two words" / "1")
    put(models / ("x" * 101) / "1")
    (models / "README.md").write_text("no folder")
    (models / "link").symlink_to(tmp_path / "outside")
    (models / "loop").symlink_to("loop")
    (models / "nowhere").symlink_to("missing")
    for name in ("v3", "03", "latest", "-1"):
        put(models / "churn" / name)
    put(models / "churn" / ".4-0123456789abcdef")
    (models / "churn" / "5").symlink_to(tmp_path / "outside" / "1")
    failed = [event[1:] for event in watched.scan() if event[0] == "failed"]
    assert sorted(failed, key=str) == sorted(
        [("churn", None)] * 5 + [("link", None), ("two words", None), ("x" * 101, None)], key=str
    )
    reasons = "\n".join(event.reason for event in watched.events)
    assert "The name of a model must be letters, digits" in reasons
    assert "got 'link', which leads outside" in reasons
    assert "got '5', which leads outside" in reasons
    assert "The folder of a version must be a whole number such as 3" in reasons
    assert watched.scan() + watched.scan() == []
    assert watched.repository.names() == ["churn"]
    assert watched.repository.versions("churn") == [1]


def test_links_inside_the_folder_are_followed(models, watched):
    put(models / "churn" / "1")
    (models / "alias").symlink_to("churn")
    (models / "churn" / "2").symlink_to("1")
    watched.scan()
    assert watched.repository.names() == ["alias", "churn"]
    assert watched.repository.versions("churn") == [1, 2]


def test_a_manifest_must_be_a_file_of_its_own(models, watched, tmp_path):
    put(models / "churn" / "1")
    (models / "churn" / "1" / "manifest.json").rename(tmp_path / "manifest.json")
    (models / "churn" / "1" / "manifest.json").symlink_to(tmp_path / "manifest.json")
    assert watched.scan() == [("failed", "churn", 1)]
    assert "'manifest.json' could point anywhere: it is a link" in watched.events[-1].reason


def test_a_bundle_that_holds_versions_too_is_served_as_a_bundle(models, watched):
    put(models / "churn", "bundle")
    put(models / "churn" / "2", "version")
    assert watched.scan()[-1] == ("failed", "churn", None)
    assert "must be a bundle or hold versions, got both" in watched.events[-1].reason
    assert watched.text("churn") == "bundle"
    assert watched.repository.versions("churn") == [1]


def test_the_newest_versions_that_can_be_loaded_are_kept(models):
    watched = Watched(models, max_versions=2)
    for version in range(6):
        put(models / "churn" / str(version))
    damage(models / "churn" / "4")
    watched.scan()
    assert watched.repository.versions("churn") == [3, 5]
    assert {version for _, version in watched.opened} == {3, 4, 5}
    states = {state.version: state for state in watched.repository.state()}
    assert states[5].state == states[3].state == "READY"
    assert states[5].current
    assert not states[3].current
    assert states[4].state == "UNAVAILABLE"
    assert "must have the stated hash" in states[4].reason
    assert states[0].reason == "It is not among the 2 newest."


# Management.


def test_unload_and_load(models, watched):
    for version in (1, 2):
        put(models / "churn" / str(version))
    put(models / "credit")
    watched.scan()
    gone = weakref.ref(watched.repository.get("churn"))
    events = watched.repository.unload("churn")
    assert [(event.kind, event.version) for event in events] == [("retired", 1), ("retired", 2)]
    assert watched.events[-2:] == events
    assert watched.repository.unload("churn") == []
    assert gone() is None
    put(models / "churn" / "3")
    assert watched.scan() == []
    assert watched.repository.names() == ["credit"]
    with pytest.raises(UnknownModelError, match="must be one of 'credit'"):
        watched.repository.get("churn")
    states = [state for state in watched.repository.state() if state.name == "churn"]
    assert {state.state for state in states} == {"UNAVAILABLE"}
    assert {state.reason for state in states} == {"It was unloaded."}
    events = watched.repository.load("churn")
    assert events[-1] == Event("switched", "churn", 3, "Nothing served before.")
    assert watched.repository.load("churn") == []
    assert watched.repository.versions("churn") == [1, 2, 3]


def test_management_calls_for_what_is_not_there(models, watched):
    put(models / "churn")
    watched.scan()
    for call in (watched.repository.load, watched.repository.unload):
        for name in ("credit", "churn@1", "../models", ""):
            with pytest.raises(UnknownModelError, match="must be one of 'churn', got"):
                call(name)


def test_load_says_what_is_wrong_and_tries_again_what_was_refused(models):
    working = False

    def sometimes(name, version, folder):
        if version == 2 and not working:
            raise BundleError("Not now.")
        return open_model(name, version, folder)

    repository = Repository(models, sometimes, report=lambda event: None)
    put(models / "churn" / "1")
    put(models / "churn" / "2")
    for _ in range(3):
        repository.scan()
    with pytest.raises(LoadError, match=r"^version 2 of churn cannot be loaded: Not now\.$"):
        repository.load("churn")
    assert repository.current("churn") == 1
    assert repository.scan() == []
    working = True
    assert repository.scan() == []  # its files did not change
    repository.load("churn")
    assert repository.current("churn") == 2
    (models / "churn" / "current").write_text("none")
    with pytest.raises(LoadError, match=r"churn cannot be loaded: The file 'current' must be"):
        repository.load("churn")
    assert repository.current("churn") == 2


# Under load.


def test_readers_never_wait_nor_fail_nor_see_an_old_version(models):
    """One thread asks all the time while 200 scans exchange the version, half of them in place."""
    repository = Repository(models, open_model, report=lambda event: None, max_versions=1)
    put(models / "churn" / "1", "1")
    repository.scan()
    floor, stop, wrong, asked = [1], threading.Event(), [], 0

    def ask():
        nonlocal asked
        while not stop.is_set():
            least = floor[0]
            try:
                seen = int(repository.get("churn").text)
            except Exception as error:
                wrong.append(error)
                return
            if seen < least:
                wrong.append((seen, least))
            asked += 1

    thread = threading.Thread(target=ask)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # so that the threads take turns often
    thread.start()
    try:
        for number in range(2, 202):
            put(models / "churn" / str(number // 2), str(number))
            repository.scan()
            floor[0] = number  # from here on, nobody may get an older one
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert wrong == []
    assert asked >= 200
    assert repository.get("churn").text == "201"


def test_readers_do_not_wait_for_a_slow_model(models):
    started, proceed = threading.Event(), threading.Event()

    def slow(name, version, folder):
        if version == 2:
            started.set()
            assert proceed.wait(30)
        return open_model(name, version, folder)

    repository = Repository(models, slow, report=lambda event: None)
    put(models / "churn" / "1")
    repository.scan()
    put(models / "churn" / "2")
    thread = threading.Thread(target=repository.scan)
    thread.start()
    try:
        assert started.wait(30)
        assert repository.get("churn").version == repository.current("churn") == 1
        assert repository.names() == ["churn"]
        assert repository.versions("churn") == [1]
        assert len(repository.state()) == 1
    finally:
        proceed.set()
        thread.join()
    assert repository.get("churn").version == 2


def test_a_model_serves_before_the_next_one_is_loaded(models):
    put(models / "a" / "1")
    put(models / "b" / "1")
    served = []

    def note(name, version, folder):
        served.append(repository.names())
        return open_model(name, version, folder)

    repository = Repository(models, note, report=lambda event: None)
    repository.scan()
    assert served == [[], ["a"]]


def test_a_scan_without_changes_reads_no_file(models, watched, monkeypatch):
    for version in (1, 2, 3):
        put(models / "churn" / str(version))
    watched.scan()
    later = time.time_ns() + 10**10
    monkeypatch.setattr(time, "time_ns", lambda: later)
    watched.scan()  # from now on the times of change are old enough to rely on
    opened = []
    open_file = os.open

    def note(path, *args, **kwargs):
        opened.append(os.fspath(path))
        return open_file(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", note)
    watched.scan()
    assert opened == []


# With bundles and predictors.


def test_bundles_are_served_and_replaced(models, table_bundle):
    rows = {"age": [30.0], "city": ["Bern"], "plan": [1.0]}
    manifest = bundle.read(table_bundle)
    files = {name: bundle.read_file(table_bundle, manifest, name) for name in manifest.files}
    bundle.write(models / "churn" / "1", manifest, files)
    repository = Repository(models, lambda name, version, folder: skmode_deploy.load(folder))
    repository.scan()
    before = repository.get("churn")
    assert before.predict(rows).tolist() == [30]
    bundle.write(models / "churn" / "1", manifest, {**files, "README.md": b"my own"})
    assert [event.kind for event in repository.scan()] == ["loaded"]
    assert repository.get("churn") is not before
    (models / "churn" / "1" / "model.onnx").write_bytes(b"changed")
    shutil.copytree(models / "churn" / "1", models / "churn" / "2")
    assert repository.scan() == []
    (event,) = repository.scan()
    assert (event.kind, event.version) == ("failed", 2)
    assert "model.onnx must have the" in event.reason
    assert repository.get("churn").predict(rows).tolist() == [30]


# Whatever happens to the folder.


NAMES = st.sampled_from(["churn", "credit"])
NUMBERS = st.integers(1, 4)


class FolderMachine(RuleBasedStateMachine):
    """Anybody changes the folder in any order, between scans."""

    def __init__(self):
        super().__init__()
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        self.watched = Watched(self.folder, max_versions=2)
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
                found[version] = open_model(name, version, self.path(name, version)).text
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
        put(self.path(name, version), text)
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
            write_manifest(folder, f"damaged {self.count}")
        elif way == "both":
            damage(folder, f"damaged {self.count}")
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


FolderMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    # The same examples in each run. To look for more, set HYPOTHESIS_RANDOM=1.
    derandomize=not os.environ.get("HYPOTHESIS_RANDOM"),
    suppress_health_check=[HealthCheck.too_slow],
)
TestFolder = FolderMachine.TestCase
