"""The version that serves under the plain name: the newest, or the one that is named."""

import shutil

import pytest


def test_the_named_version_is_the_current_one(models, watched, put):
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
def test_an_invalid_current_file_changes_nothing(models, watched, text, put):
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


def test_current_must_be_a_file(models, watched, put):
    put(models / "churn" / "1")
    (models / "churn" / "current").symlink_to("1")
    put(models / "credit" / "1")
    (models / "credit" / "current").mkdir()
    assert watched.scan() == [("failed", "churn", None), ("failed", "credit", None)]
    for event in watched.events:
        assert "'current' must be a plain file with the version to serve" in event.reason


def test_a_missing_or_refused_named_version_changes_nothing(models, watched, put, damage):
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


def test_a_named_version_still_being_copied_is_awaited(models, watched, put, write_manifest):
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


def test_no_version_replaces_the_named_one_at_start(models, watched, put):
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


def test_an_invalid_name_keeps_the_current_version(models, put, watch):
    watched = watch(models, max_versions=1)
    put(models / "churn" / "1", "old")
    put(models / "churn" / "2")
    (models / "churn" / "current").write_text("1")
    watched.scan()
    (models / "churn" / "current").write_text("")
    put(models / "churn" / "1", "new")
    assert watched.scan() == [("loaded", "churn", 1)]
    assert watched.text("churn") == "new"


def test_versions_removed_from_disk_do_not_return(models, watched, put):
    for version in (1, 2, 3):
        put(models / "churn" / str(version))
    (models / "churn" / "current").write_text("1")
    watched.scan()
    (models / "churn" / "current").unlink()
    assert watched.scan() == []
    shutil.rmtree(models / "churn" / "3")
    assert watched.scan() == [("switched", "churn", 2)]
    assert watched.scan() == [("retired", "churn", 3)]
