"""Changes on disk while a model serves, and entries that are no model or version."""

import os
import shutil

import pytest

from skmode_deploy.serving.models.repository import LoadError


def test_a_removed_version_is_retired_but_never_the_current_one(models, watched, put):
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


def test_a_briefly_missing_folder_changes_nothing(models, watched, put):
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


def test_a_failed_read_of_a_models_folder_changes_nothing(models, watched, monkeypatch, put):
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


def test_a_renamed_version_is_another_one(models, watched, put):
    put(models / "churn" / "1")
    put(models / "churn" / "3")
    watched.scan()
    (models / "churn" / "1").rename(models / "churn" / "4")
    assert watched.scan() == [("loaded", "churn", 4), ("switched", "churn", 4)]
    assert watched.scan() == [("retired", "churn", 1)]
    assert watched.repository.get("churn").version == 4


def test_the_path_may_be_a_link_that_changes(tmp_path, put, watch):
    put(tmp_path / "blue" / "churn" / "1", "blue")
    put(tmp_path / "green" / "churn" / "1", "green")
    (tmp_path / "models").symlink_to("blue")
    watched = watch(tmp_path / "models")
    watched.scan()
    (tmp_path / "new").symlink_to("green")
    (tmp_path / "new").replace(tmp_path / "models")
    assert watched.scan() == [("loaded", "churn", 1)]
    assert watched.text("churn") == "green"


def test_invalid_entries_are_skipped_and_reported_once(models, watched, tmp_path, put):
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


def test_links_inside_the_folder_are_followed(models, watched, put):
    put(models / "churn" / "1")
    (models / "alias").symlink_to("churn")
    (models / "churn" / "2").symlink_to("1")
    watched.scan()
    assert watched.repository.names() == ["alias", "churn"]
    assert watched.repository.versions("churn") == [1, 2]


def test_a_manifest_must_be_a_file_of_its_own(models, watched, tmp_path, put):
    put(models / "churn" / "1")
    (models / "churn" / "1" / "manifest.json").rename(tmp_path / "manifest.json")
    (models / "churn" / "1" / "manifest.json").symlink_to(tmp_path / "manifest.json")
    assert watched.scan() == [("failed", "churn", 1)]
    assert "'manifest.json' is a link" in watched.events[-1].reason


def test_a_bundle_with_version_folders_is_served_as_a_bundle(models, watched, put):
    put(models / "churn", "bundle")
    put(models / "churn" / "2", "version")
    assert watched.scan()[-1] == ("failed", "churn", None)
    assert "must be a bundle or hold versions, got both" in watched.events[-1].reason
    assert watched.text("churn") == "bundle"
    assert watched.repository.versions("churn") == [1]
