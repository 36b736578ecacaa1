"""New and changed bundles are loaded when they are complete, never before."""

import gc
import logging
import os
import shutil
import time
import weakref

import pytest

from skmode_deploy.errors import BundleError
from skmode_deploy.serving.models.loading import BundleIdentity, identify
from skmode_deploy.serving.models.repository import Repository


def test_a_new_bundle_takes_over_and_the_old_one_leaves_memory(models, watched, put):
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


def test_retired_versions_leave_memory(models, put, watch):
    watched = watch(models, max_versions=1)
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


def test_a_refused_bundle_changes_nothing_and_is_reported_once(models, watched, put, damage):
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


def test_a_loaded_version_survives_damage_on_disk(models, watched, put, damage):
    put(models / "churn" / "1", "old")
    put(models / "churn" / "2")
    watched.scan()
    damage(models / "churn" / "1")
    assert watched.scan() + watched.scan() + watched.scan() == [("failed", "churn", 1)]
    assert watched.text("churn@1") == "old"
    state = watched.repository.state()[0]
    assert (state.version, state.state) == (1, "READY")
    assert "must have the stated hash" in state.reason


def test_restoring_the_same_bundle_is_no_change(models, watched, put, damage):
    put(models / "churn" / "1")
    watched.scan()
    damage(models / "churn" / "1")
    watched.scan()
    put(models / "churn" / "1")
    before = watched.repository.get("churn")
    assert watched.scan() + watched.scan() == []
    assert watched.repository.get("churn") is before


@pytest.mark.parametrize("manifest_first", [False, True])
def test_a_copy_in_progress_is_not_picked_up(models, watched, manifest_first, put, write_manifest):
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


def test_an_incomplete_manifest_is_not_picked_up(models, watched, put):
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


def test_a_copy_that_stopped_halfway_is_reported(models, watched, put, write_manifest):
    put(models / "churn" / "1")
    watched.scan()
    (models / "churn" / "2").mkdir()
    write_manifest(models / "churn" / "2", "never came")
    assert watched.scan() == []
    assert watched.repository.state()[1].state == "LOADING"
    assert watched.scan() == [("failed", "churn", 2)]
    assert watched.repository.state()[1].state == "UNAVAILABLE"


def test_a_bundle_replaced_during_loading_is_loaded_again(models, put, open_model):
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


def test_a_bundle_swapped_during_loading_is_loaded_again(models, put, open_model):
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


def test_a_bundle_removed_during_loading_still_serves(models, put, open_model):
    put(models / "churn" / "1")

    def slow(name, version, folder):
        model = open_model(name, version, folder)
        shutil.rmtree(folder)
        return model

    repository = Repository(models, slow, report=lambda event: None)
    repository.scan()
    assert [event.kind for event in [*repository.scan(), *repository.scan()]] == ["failed"]
    assert repository.get("churn").text == "whole"


def test_two_changes_within_a_tick_of_the_clock_are_seen(models, put):
    folder = models / "churn"
    put(folder, "first")
    manifest = folder / "manifest.json"
    known = identify(folder)
    assert not known.stamp_is_reliable  # just written: another change might look the same
    same_stamp = BundleIdentity(folder, "another hash", known.stamp, stamp_is_reliable=False)
    assert identify(folder, same_stamp).sha256 == known.sha256
    trusted = BundleIdentity(folder, "another hash", known.stamp, stamp_is_reliable=True)
    assert identify(folder, trusted) is trusted  # nothing is read where nothing can have changed
    os.utime(manifest, ns=(0, 0))
    assert identify(folder, trusted).sha256 == known.sha256


@pytest.mark.parametrize(
    "error", [BundleError("of a bundle"), OSError("of a disk"), RuntimeError("a"), MemoryError()]
)
def test_an_error_in_loading_does_not_stop_other_models(models, error, caplog, put, open_model):
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


def test_the_newest_loadable_versions_are_kept(models, put, damage, watch):
    watched = watch(models, max_versions=2)
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


def test_a_scan_without_changes_reads_no_file(models, watched, monkeypatch, put):
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
